//! The place of a plugin: a file, a crate, or a reference that the project's lock file resolves.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use agenthost_core::error::{Error, Result, with_causes};
#[cfg(feature = "registry")]
use agenthost_registry::{Reference, ReferenceError};

/// The place of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PluginSource {
    /// A component file, or a crate directory, which is built.
    Path(PathBuf),
    /// A reference to a plugin in the lock file.
    #[cfg(feature = "registry")]
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
    /// use agenthost::PluginSource;
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
    #[cfg(feature = "registry")]
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
    /// use agenthost::PluginSource;
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
            agenthost_config::SubAgent::Reference(text) => reference(text).map_err(|error| error_of(name, &error)),
        }
    }
}

#[cfg(feature = "registry")]
fn reference(text: &str) -> Result<PluginSource> {
    Ok(PluginSource::Reference(text.parse()?))
}

#[cfg(not(feature = "registry"))]
fn reference(text: &str) -> Result<PluginSource> {
    Err(Error::plugin(format!(
        "`{text}` is a reference, and this host was built without the feature `registry`"
    )))
}

fn error_of(name: &str, error: &Error) -> Error {
    Error::config(format!("the sub-agent {name}: {}", with_causes(error))).with_hint(error.hint().unwrap_or_default())
}

/// A path, even if it looks like a reference; [`PluginSource::parse`] reads both.
impl From<&str> for PluginSource {
    fn from(path: &str) -> Self {
        Self::Path(path.into())
    }
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

#[cfg(feature = "registry")]
impl From<Reference> for PluginSource {
    fn from(reference: Reference) -> Self {
        Self::Reference(reference)
    }
}

impl fmt::Display for PluginSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            #[cfg(feature = "registry")]
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
            false => reference(&text),
        }
    }
}

impl From<PluginSource> for String {
    fn from(place: PluginSource) -> Self {
        place.to_string()
    }
}
