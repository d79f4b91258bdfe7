//! Finds the files of a configuration, reads them and combines them. Whether they are trusted is not checked here.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::env::Env;
use crate::error::{ConfigError, FileError};
use crate::file;
use crate::merge::Accepted;
use crate::resolve::resolve;
use crate::trust::record;

/// The name of a project's configuration file.
pub const PROJECT_FILE: &str = "agenthost.toml";

/// The lifts of the operator's limits that take effect.
#[derive(Clone, Copy)]
pub(crate) enum Lifting {
    /// Those that the operator accepted.
    Accepted,
    /// All of them, to show what the file asks for.
    All,
}

impl Config {
    /// Returns the defaults, without reading a file or an environment variable. Rehearsals run with them.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let config = agenthost_config::Config::builtin()?;
    /// assert!(config.is_offline_default());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// None that a user can cause.
    pub fn builtin() -> Result<Self, ConfigError> {
        resolve(
            &Env::new(BTreeMap::new(), "/", None),
            (file::Layer::default(), None),
            (file::Layer::default(), None),
            &Accepted::All,
        )
    }

    /// Finds the `agenthost.toml` that applies in `env`'s working directory: in that directory or the nearest one above
    /// it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let project = tempfile::tempdir()?;
    /// # let project = project.path();
    /// use agenthost_config::{Config, Env};
    ///
    /// std::fs::write(project.join("agenthost.toml"), "")?;
    /// let below = Env::new([].into(), project.join("src/deeper"), None);
    /// assert_eq!(Config::find_project_file(&below)?, Some(project.join("agenthost.toml")));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Config`](agenthost_core::error::ErrorClass::Config) if a directory cannot be searched.
    pub fn find_project_file(env: &Env) -> Result<Option<PathBuf>, ConfigError> {
        for dir in env.cwd().ancestors() {
            let path = dir.join(PROJECT_FILE);
            if exists(&path)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }
}

/// Loads the configuration without checking trust.
pub(crate) fn unchecked(env: &Env, named: Option<&Path>, lifting: Lifting) -> Result<Config, ConfigError> {
    let found = named.is_none();
    let project = match named {
        Some(file) => Some(env.cwd().join(file)),
        None => Config::find_project_file(env)?,
    };
    let user = match env.user_file() {
        Some(file) if exists(&file)? => Some(file),
        _ => None,
    };
    let lower = user.clone().map(|path| file::read(env, path, true)).transpose()?;
    let upper = project.clone().map(|path| file::read(env, path, found)).transpose()?;
    let accepted = match lifting {
        Lifting::All => Accepted::All,
        Lifting::Accepted => Accepted::Some(record::accepted_lifts(env, project.as_deref())),
    };
    resolve(
        env,
        (lower.unwrap_or_default(), user),
        (upper.unwrap_or_default(), project),
        &accepted,
    )
}

/// Returns whether `path` exists. A dangling link counts, so that it becomes an error when read instead of being
/// skipped.
fn exists(path: &Path) -> Result<bool, FileError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(source) => Err(FileError::Read {
            path: path.to_owned(),
            shown: path.display().to_string(),
            named: false,
            source,
        }),
    }
}
