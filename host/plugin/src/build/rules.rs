//! Rules for which crates may be built, the variables that their builds must not see, and the watcher of builds.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::BuildError;
use super::tools::Tools;
use super::watch::{BuildState, Watch, Watched};
use agenthost_core::error::Error;

/// Decides whether the crate in a directory may be built; an error contains the reason.
type Permit = dyn Fn(&Path) -> Result<(), Error> + Send + Sync;

/// Rules for which crates may be built, the variables that their builds must not see, and the watcher of builds.
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
    watch: Option<Arc<Watch>>,
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
            watch: None,
        }
    }

    /// Reports the states of each build to `watch`, with the directory of its crate. Builds of sub-agents report theirs
    /// in between.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use agenthost_plugin::build::{BuildRules, BuildState};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # std::fs::write(dir.path().join("Cargo.toml"), "")?;
    /// let states = Arc::new(Mutex::new(Vec::new()));
    /// let seen = states.clone();
    /// let rules = BuildRules::any().watching(move |_, state| seen.lock().unwrap().push(state));
    /// assert!(rules.build(dir.path()).is_err(), "the manifest is empty");
    /// assert_eq!(*states.lock().unwrap(), [BuildState::Started, BuildState::Ended]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn watching(mut self, watch: impl Fn(&Path, BuildState) + Send + Sync + 'static) -> Self {
        self.watch = Some(Arc::new(watch));
        self
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

    /// Reports that the build of the crate in `dir` begins, and its end when the result is dropped.
    pub(super) fn watched<'a>(&'a self, dir: &'a Path) -> Watched<'a> {
        Watched::start(self.watch.as_deref(), dir)
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
