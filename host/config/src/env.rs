//! The inherited environment: variables, working directory, home. Configuration reads all of it through [`Env`], so
//! that a test or an embedder controls it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use agenthost_core::error::{Classify, ErrorClass};

/// The environment in which configuration is read.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::collections::BTreeMap;
/// use std::path::Path;
/// use agenthost_config::Env;
///
/// let vars = BTreeMap::from([("ANTHROPIC_API_KEY".to_owned(), "sk-example".to_owned())]);
/// let env = Env::new(vars, "/srv/project", Some("/home/ada".into()));
/// assert_eq!(env.var("ANTHROPIC_API_KEY"), Some("sk-example"));
/// assert_eq!(env.user_file().as_deref(), Some(Path::new("/home/ada/.config/agenthost/config.toml")));
///
/// let own = Env::from_process()?; // what the command line uses
/// assert_eq!(own.cwd(), std::env::current_dir()?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Env {
    vars: BTreeMap<String, String>,
    cwd: PathBuf,
    home: Option<PathBuf>,
}

/// The error if the process has no working directory.
#[derive(Debug, thiserror::Error)]
#[error("cannot determine the working directory")]
pub struct NoWorkingDir(#[source] std::io::Error);

impl Classify for NoWorkingDir {
    fn class(&self) -> ErrorClass {
        ErrorClass::Host
    }
}

impl Env {
    /// Creates an environment from its parts; `cwd` and `home` are absolute.
    pub fn new(vars: BTreeMap<String, String>, cwd: impl Into<PathBuf>, home: Option<PathBuf>) -> Self {
        Self {
            vars,
            cwd: cwd.into(),
            home,
        }
    }

    /// Returns the environment of this process. Fails if the process has no working directory.
    pub fn from_process() -> Result<Self, NoWorkingDir> {
        let cwd = std::env::current_dir().map_err(NoWorkingDir)?;
        // A value that is not UTF-8 is kept, with replacement characters: a key is then refused instead of being
        // treated as missing.
        let vars = std::env::vars_os()
            .map(|(name, value)| {
                (
                    name.to_string_lossy().into_owned(),
                    value.to_string_lossy().into_owned(),
                )
            })
            .collect();
        let home = std::env::home_dir().filter(|home| home.is_absolute());
        Ok(Self::new(vars, cwd, home))
    }

    /// Returns a variable that is set and not empty.
    pub fn var(&self, name: &str) -> Option<&str> {
        self.raw_var(name).filter(|value| !value.is_empty())
    }

    /// Returns a variable that is set, even if it is empty.
    pub(super) fn raw_var(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str)
    }

    /// Returns the working directory.
    pub fn cwd(&self) -> &Path {
        &self.cwd
    }

    /// Returns the same environment with another working directory, which is absolute.
    #[must_use]
    pub fn at(&self, cwd: &Path) -> Self {
        Self {
            cwd: cwd.to_owned(),
            ..self.clone()
        }
    }

    /// Returns the home directory.
    pub fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    /// Returns the path of the operator's own file: `agenthost/config.toml` in `XDG_CONFIG_HOME` or `~/.config`.
    pub fn user_file(&self) -> Option<PathBuf> {
        Some(self.base("XDG_CONFIG_HOME", ".config")?.join("agenthost/config.toml"))
    }

    /// Returns the directory for records of this machine: `agenthost` in `XDG_STATE_HOME` or `~/.local/state`.
    pub fn state_dir(&self) -> Option<PathBuf> {
        Some(self.base("XDG_STATE_HOME", ".local/state")?.join("agenthost"))
    }

    // By the XDG Base Directory Specification, a relative path in these variables is ignored.
    fn base(&self, var: &str, in_home: &str) -> Option<PathBuf> {
        let given = self.var(var).map(PathBuf::from).filter(|path| path.is_absolute());
        given.or_else(|| Some(self.home.as_ref()?.join(in_home)))
    }

    /// Returns `path` for display: relative to the working directory if it is below it.
    pub(super) fn shown(&self, path: &Path) -> String {
        let below = path
            .strip_prefix(&self.cwd)
            .ok()
            .filter(|below| !below.as_os_str().is_empty());
        below.unwrap_or(path).display().to_string()
    }

    /// Resolves a path written in a file in the directory `base`; `~/` is the home directory.
    pub fn resolve(&self, text: &str, base: &Path) -> Result<PathBuf, String> {
        if text.is_empty() {
            return Err("the path is empty".to_owned());
        }
        if text.contains('\0') {
            return Err("the path has a zero byte, which no path has".to_owned());
        }
        match (text.strip_prefix('~'), &self.home) {
            (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
                Ok(home.join(rest.trim_start_matches('/')))
            }
            (Some(rest), None) if rest.is_empty() || rest.starts_with('/') => {
                Err(format!("`{text}` needs a home directory, and there is none"))
            }
            _ => Ok(base.join(text.strip_prefix("./").unwrap_or(text))),
        }
    }
}

/// Shows only the names of variables: a value may be a key.
impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env")
            .field("vars", &self.vars.keys())
            .field("cwd", &self.cwd)
            .field("home", &self.home)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(vars: &[(&str, &str)]) -> Env {
        let vars = vars
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Env::new(vars, "/here", Some("/home/ada".into()))
    }

    #[test]
    fn places_follow_the_base_directories() {
        assert_eq!(
            env(&[]).user_file().unwrap(),
            Path::new("/home/ada/.config/agenthost/config.toml")
        );
        assert_eq!(
            env(&[]).state_dir().unwrap(),
            Path::new("/home/ada/.local/state/agenthost")
        );
        let set = env(&[("XDG_CONFIG_HOME", "/c"), ("XDG_STATE_HOME", "/s")]);
        assert_eq!(set.user_file().unwrap(), Path::new("/c/agenthost/config.toml"));
        assert_eq!(set.state_dir().unwrap(), Path::new("/s/agenthost"));
        let relative = env(&[("XDG_CONFIG_HOME", "c")]);
        assert_eq!(
            relative.user_file().unwrap(),
            Path::new("/home/ada/.config/agenthost/config.toml")
        );
        assert_eq!(Env::new(BTreeMap::new(), "/", None).user_file(), None);
    }

    #[test]
    fn paths_are_relative_to_their_file() {
        let env = env(&[]);
        let resolve = |text| env.resolve(text, Path::new("/project"));
        assert_eq!(resolve("a/b"), Ok("/project/a/b".into()));
        assert_eq!(resolve("./a"), Ok("/project/a".into()));
        assert_eq!(resolve("../a"), Ok("/project/../a".into()));
        assert_eq!(resolve("/a"), Ok("/a".into()));
        assert_eq!(resolve("~/a"), Ok("/home/ada/a".into()));
        assert_eq!(resolve("~ada/a"), Ok("/project/~ada/a".into()));
        assert_eq!(resolve(""), Err("the path is empty".to_owned()));
        let homeless = Env::new(BTreeMap::new(), "/", None);
        assert_eq!(
            homeless.resolve("~/a", Path::new("/")),
            Err("`~/a` needs a home directory, and there is none".to_owned())
        );
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let env = env(&[("A", ""), ("B", "b")]);
        assert_eq!((env.var("A"), env.var("B"), env.var("C")), (None, Some("b"), None));
        assert_eq!((env.raw_var("A"), env.raw_var("C")), (Some(""), None));
    }

    #[test]
    fn debug_shows_no_value() {
        let text = format!("{:?}", env(&[("ANTHROPIC_API_KEY", "sk-secret")]));
        assert!(
            text.contains("ANTHROPIC_API_KEY") && !text.contains("sk-secret"),
            "{text}"
        );
    }
}
