//! Searches and fetches that the provider makes for the model.
//!
//! Bounded by the operator's grant, which is off by default; the host refuses what exceeds it. Left out: the results,
//! which are parts of the reply.

use serde::Serialize;

/// The bounds of the searches, or of the fetches, that a provider makes for one model call.
///
/// A domain has no scheme and no path, and covers its subdomains.
///
/// ```
/// use agenthost_sdk::{Prompt, Search};
///
/// let search = Search::uses(5).domains(["example.com", "example.org"]);
/// let request = Prompt::new("What does Acme cost?").search(search).into_request();
/// let option = r#"[{"kind":"web-search","max-uses":5,"allowed-domains":["example.com","example.org"]}]"#;
/// assert_eq!(request.options, [("server-tools".to_owned(), option.to_owned())]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Search {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_uses: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_domains: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    blocked_domains: Vec<String>,
}

/// The bounds of fetches, for [`Prompt::fetch`](crate::Prompt::fetch): the same as those of searches.
pub type Fetch = Search;

impl Search {
    /// Creates bounds of at most this many uses, at least 1. [`Search::default`] leaves the number to the grant.
    ///
    /// ```
    /// use agenthost_sdk::{Prompt, Search};
    ///
    /// let request = Prompt::new("Who won?").search(Search::uses(2)).into_request();
    /// assert_eq!(request.options[0].1, r#"[{"kind":"web-search","max-uses":2}]"#);
    /// ```
    #[must_use]
    pub fn uses(max: u32) -> Search {
        Search {
            max_uses: Some(max),
            ..Search::default()
        }
    }

    /// Allows only pages of these domains. It excludes [`without`](Search::without).
    ///
    /// ```
    /// use agenthost_sdk::{Prompt, Search};
    ///
    /// let request = Prompt::new("Who won?").search(Search::default().domains(["example.com"])).into_request();
    /// assert_eq!(request.options[0].1, r#"[{"kind":"web-search","allowed-domains":["example.com"]}]"#);
    /// ```
    #[must_use]
    pub fn domains<D: Into<String>>(mut self, domains: impl IntoIterator<Item = D>) -> Search {
        self.allowed_domains.extend(domains.into_iter().map(Into::into));
        self
    }

    /// Blocks pages of these domains. It excludes [`domains`](Search::domains).
    ///
    /// ```
    /// use agenthost_sdk::{Prompt, Search};
    ///
    /// let request = Prompt::new("Who won?").search(Search::default().without(["example.com"])).into_request();
    /// assert_eq!(request.options[0].1, r#"[{"kind":"web-search","blocked-domains":["example.com"]}]"#);
    /// ```
    #[must_use]
    pub fn without<D: Into<String>>(mut self, domains: impl IntoIterator<Item = D>) -> Search {
        self.blocked_domains.extend(domains.into_iter().map(Into::into));
        self
    }
}

/// The tools that run at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ServerToolKind {
    WebSearch,
    WebFetch,
}

/// What a plugin does without the grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WithoutGrant {
    /// The call fails.
    Fail,
    /// The call is made without the tool.
    GoOn,
}

/// The element of the option `server-tools`.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct ServerTool {
    kind: ServerToolKind,
    #[serde(flatten)]
    bounds: Search,
    #[serde(skip)]
    without_grant: WithoutGrant,
}

/// The tools at the provider that a prompt asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ServerTools(Vec<ServerTool>);

impl ServerTools {
    /// Adds a tool, or replaces the one of the same kind.
    pub(super) fn set(&mut self, kind: ServerToolKind, bounds: Search, without_grant: WithoutGrant) {
        self.0.retain(|known| known.kind != kind);
        self.0.push(ServerTool {
            kind,
            bounds,
            without_grant,
        });
    }

    /// Returns the value of the option `server-tools`, if there are any.
    pub(super) fn option(&self) -> Option<String> {
        option(self.0.iter())
    }

    /// Returns the option of a second attempt after a denial; `None` if all tools have to be granted.
    pub(super) fn if_denied(&self) -> Option<Option<String>> {
        let is_needed = |tool: &&ServerTool| tool.without_grant == WithoutGrant::Fail;
        let needed: Vec<&ServerTool> = self.0.iter().filter(is_needed).collect();
        (needed.len() < self.0.len()).then(|| option(needed.into_iter()))
    }
}

fn option<'a>(tools: impl ExactSizeIterator<Item = &'a ServerTool>) -> Option<String> {
    let tools: Vec<&ServerTool> = (tools.len() > 0).then(|| tools.collect())?;
    serde_json::to_string(&tools).ok()
}
