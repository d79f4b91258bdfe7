//! Rules for which crates may be built, and which variables their builds must not see.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::BuildError;
use super::tools::Tools;
use agenthost_core::error::Error;

/// Decides whether the crate in a directory may be built; an error contains the reason.
type Permit = dyn Fn(&Path) -> Result<(), Error> + Send + Sync;

/// Rules for which crates may be built, and which variables their builds must not see.
///
/// A build runs code as this user: build scripts, procedural macros, and the wrappers and toolchains that files of the
/// project specify. So the rules are checked before any tool is started in a crate's directory, for the crate itself
/// and for each sub-agent whose crate is built for its interface. Independently of the rules, a build gets only a fixed
/// list of environment variables, without keys.
///
/// ```
/// use agenthost_core::error::Error;
/// use agenthost_plugin::build::BuildRules;
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// # std::fs::write(dir.join("Cargo.toml"), "")?;
/// let rules = BuildRules::permitting(|dir| match dir.starts_with("/srv/plugins") {
///     true => Ok(()),
///     false => Err(Error::denied(format!("{} is not one of ours", dir.display()))),
/// })
/// .hiding(["CORP_MODELS".to_owned()]);
/// let error = rules.build(dir).err().ok_or("it was built")?;
/// assert!(error.to_string().ends_with("is not one of ours"), "{error}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct BuildRules {
    permit: Arc<Permit>,
    tools: Tools,
}

impl BuildRules {
    /// Permits every crate, for a crate that the caller chose.
    pub fn any() -> Self {
        Self::permitting(|_| Ok(()))
    }

    /// Permits a crate if `permit` accepts its directory.
    pub fn permitting(permit: impl Fn(&Path) -> Result<(), Error> + Send + Sync + 'static) -> Self {
        Self {
            permit: Arc::new(permit),
            tools: Tools::default(),
        }
    }

    /// Hides these variables from builds, such as those that contain keys.
    #[must_use]
    pub fn hiding(mut self, variables: impl IntoIterator<Item = String>) -> Self {
        self.tools = Tools::hiding(variables.into_iter().collect::<BTreeSet<_>>());
        self
    }

    pub(super) fn check(&self, dir: &Path) -> Result<(), BuildError> {
        (self.permit)(dir).map_err(BuildError::NotPermitted)
    }

    pub(super) fn tools(&self) -> &Tools {
        &self.tools
    }
}

impl fmt::Debug for BuildRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildRules")
            .field("tools", &self.tools)
            .finish_non_exhaustive()
    }
}
