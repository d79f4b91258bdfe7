//! Grants in code.

use std::collections::BTreeSet;

use crate::dirs::DirGrant;
use agenthost_core::limits::Limits;
use agenthost_core::llm::{ServerToolGrant, ServerToolGrants, ServerToolKind};

/// The rights of a plugin, declared in code. Without a grant, a plugin may use every model within the limits of all
/// tasks, no directory, and no tool that a provider runs.
///
/// ```
/// use agenthost_config::Grant;
/// use agenthost_core::limits::Limits;
///
/// let grant = Grant::new().models(["fast"]).limits(Limits::new().calls(3));
/// # let _ = grant;
/// ```
#[derive(Debug, Clone, Default)]
pub struct Grant {
    /// The model names; `None` for every one.
    pub(crate) models: Option<BTreeSet<String>>,
    pub(crate) limits: Limits,
    pub(crate) dirs: Vec<DirGrant>,
    pub(crate) server_tools: ServerToolGrants,
}

impl Grant {
    /// Creates a grant of every model, without limits of its own, directories and tools of providers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Grants these model names and no others.
    #[must_use]
    pub fn models<M: Into<String>>(mut self, names: impl IntoIterator<Item = M>) -> Self {
        self.models = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Narrows the limits of the plugin's tasks.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Grants a directory.
    #[must_use]
    pub fn dir(mut self, dir: DirGrant) -> Self {
        self.dirs.push(dir);
        self
    }

    /// Grants a tool that the provider runs, such as web search. The plugin gets it only if its manifest asks for it.
    ///
    /// ```
    /// use agenthost_config::Grant;
    /// use agenthost_core::llm::{ServerToolGrant, ServerToolKind};
    ///
    /// let three = ServerToolGrant { max_uses: Some(3), ..ServerToolGrant::default() };
    /// let grant = Grant::new().server_tool(ServerToolKind::WebSearch, three);
    /// # let _ = grant;
    /// ```
    #[must_use]
    pub fn server_tool(mut self, kind: ServerToolKind, bounds: ServerToolGrant) -> Self {
        self.server_tools.0.insert(kind, bounds);
        self
    }
}
