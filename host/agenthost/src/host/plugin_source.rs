//! The place of a plugin: a file, a crate, or a reference that the project's lock file resolves.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use agenthost_core::error::{Classify as _, Error, Result};
use agenthost_registry::{Reference, ReferenceError};

/// The place of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PluginSource {
    /// A component file, or a crate directory, which is built.
    Path(PathBuf),
    /// A reference to a plugin in the lock file.
    Reference(Reference),
}

impl PluginSource {
    /// Parses an argument of a user: text that looks like a reference is one, whatever files exist, so that no file can
    /// replace a locked plugin. Any other text is a path below `cwd`.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cwd = tempfile::tempdir()?;
    /// # let cwd = cwd.path();
    /// use agenthost::host::PluginSource;
    ///
    /// let place = PluginSource::parse("acme:competitor@^1.2", cwd)?;
    /// assert_eq!(place, PluginSource::Reference("acme:competitor@^1.2".parse()?));
    /// assert_eq!(PluginSource::parse("plugins/competitor", cwd)?, PluginSource::Path(cwd.join("plugins/competitor")));
    ///
    /// std::fs::write(cwd.join("acme:competitor"), "")?;
    /// assert!(matches!(PluginSource::parse("acme:competitor", cwd)?, PluginSource::Reference(_)));
    /// assert!(matches!(PluginSource::parse("./acme:competitor", cwd)?, PluginSource::Path(_)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Usage`](agenthost_core::error::ErrorClass::Usage) for text that looks like a reference and is not valid.
    pub fn parse(text: &str, cwd: &Path) -> Result<Self> {
        let path = cwd.join(text);
        if !Reference::looks_like_one(text) {
            return Ok(Self::Path(path));
        }
        let meant = |error: ReferenceError| match path.exists() {
            true => Error::from(error).with_hint(format!(
                "If the file or directory of that name is meant, write ./{text}"
            )),
            false => error.into(),
        };
        text.parse().map(Self::Reference).map_err(meant)
    }

    /// Converts the configured place of the sub-agent `name`.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::config::SubAgent;
    /// use agenthost::host::PluginSource;
    ///
    /// let place = PluginSource::configured("demo:compare", &SubAgent::Reference("acme:compare@^1.2".into()))?;
    /// assert_eq!(place, PluginSource::Reference("acme:compare@^1.2".parse()?));
    ///
    /// let error = PluginSource::configured("demo:compare", &SubAgent::Reference("compare".into())).err().ok_or("half a name")?;
    /// assert_eq!(error.to_string(), "the sub-agent demo:compare: `compare` is not a plugin's name: there is no colon");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Config`](agenthost_core::error::ErrorClass::Config) for an invalid reference.
    pub fn configured(name: &str, from: &agenthost_config::SubAgent) -> Result<Self> {
        match from {
            agenthost_config::SubAgent::Path(path) => Ok(Self::Path(path.clone())),
            agenthost_config::SubAgent::Reference(text) => match text.parse() {
                Ok(reference) => Ok(Self::Reference(reference)),
                Err(error) => Err(error_of(name, &error)),
            },
        }
    }
}

fn error_of(name: &str, error: &ReferenceError) -> Error {
    Error::config(format!("the sub-agent {name}: {error}")).with_hint(error.hint().unwrap_or_default())
}

impl From<PathBuf> for PluginSource {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<&Path> for PluginSource {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl From<&PathBuf> for PluginSource {
    fn from(path: &PathBuf) -> Self {
        Self::Path(path.clone())
    }
}

impl From<Reference> for PluginSource {
    fn from(reference: Reference) -> Self {
        Self::Reference(reference)
    }
}

impl fmt::Display for PluginSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Reference(reference) => reference.fmt(f),
        }
    }
}

/// Parses the form in which a journal keeps a place. Paths are absolute there.
impl TryFrom<String> for PluginSource {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        match Path::new(&text).is_absolute() {
            true => Ok(Self::Path(text.into())),
            false => Ok(Self::Reference(text.parse()?)),
        }
    }
}

impl From<PluginSource> for String {
    fn from(place: PluginSource) -> Self {
        place.to_string()
    }
}
