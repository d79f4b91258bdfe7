//! The statement that a publisher signs: not only the bytes of a component, but also its identity, interface and the
//! rights that it asks for.
//!
//! A signature is a minisign file over the component's bytes. The statement is its *trusted comment*, which the
//! signature covers as well. So one small file carries both, and the minisign tool verifies it and shows the statement.

use semver::Version;
use serde::{Deserialize, Serialize};

use super::asks::Asks;
use super::error::StatementError;
use super::reference::Name;
use agenthost_plugin::{Digest, Plugin};

/// The maximum length in bytes of a trusted comment that the minisign tool reads.
pub const MAX_STATEMENT_BYTES: usize = 8_000;

/// A signer's statement about a release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Statement {
    /// The version of the format: 1.
    pub agenthost: u32,
    /// The plugin's name.
    pub name: Name,
    /// The version of the release.
    pub version: Version,
    /// The exported interface, such as `acme:competitor/task@0.1.0`.
    pub interface: String,
    /// The digest of the component.
    pub digest: Digest,
    /// The rights that the plugin asks for.
    pub asks: Asks,
}

impl Statement {
    /// The newest format that this version reads.
    pub const FORMAT: u32 = 1;

    /// Creates the statement about `plugin`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../agenthost/doc/guests.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost_plugin::Plugin;
    /// use agenthost_registry::statement::Statement;
    ///
    /// let statement = Statement::of(&Plugin::read(&double())?)?;
    /// assert!(statement.text()?.starts_with(r#"{"agenthost":1,"name":"demo:double","version":"0.1.0","#));
    /// assert!(statement.check(&Plugin::read(&ask())?).is_err(), "it is about another plugin");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Plugin`](agenthost_core::error::ErrorClass::Plugin) if the plugin's name or version cannot be published, or if
    /// the statement is longer than [`MAX_STATEMENT_BYTES`].
    pub fn of(plugin: &Plugin) -> Result<Self, StatementError> {
        let (name, version) = identity(plugin)?;
        let statement = Self {
            agenthost: Self::FORMAT,
            name,
            version,
            interface: plugin.task.clone(),
            digest: plugin.digest,
            asks: Asks::of(plugin),
        };
        let length = statement.text()?.len();
        if length > MAX_STATEMENT_BYTES {
            return Err(StatementError::TooLong {
                plugin: plugin.id.to_string(),
                length,
                limit: MAX_STATEMENT_BYTES,
            });
        }
        Ok(statement)
    }

    /// Returns the statement as it is signed: JSON on one line, in ASCII, because the minisign tool shows nothing else.
    ///
    /// # Errors
    ///
    /// [`Host`](agenthost_core::error::ErrorClass::Host), which cannot happen for a statement that was read or created.
    pub fn text(&self) -> Result<String, StatementError> {
        let json = serde_json::to_string(self).map_err(StatementError::Write)?;
        let mut text = String::with_capacity(json.len());
        for unit in json.chars() {
            match unit.is_ascii() {
                true => text.push(unit),
                false => {
                    let mut pair = [0; 2];
                    for half in unit.encode_utf16(&mut pair) {
                        text.push_str(&format!("\\u{half:04x}"));
                    }
                }
            }
        }
        Ok(text)
    }

    /// Reads a trusted comment; `None` if it is not a statement, such as the minisign tool's own comment.
    ///
    /// # Errors
    ///
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied) if the statement is broken or has a newer format.
    pub(super) fn read(comment: &str) -> Result<Option<Self>, StatementError> {
        if !comment.starts_with('{') {
            return Ok(None);
        }
        let statement: Self = serde_json::from_str(comment).map_err(|error| StatementError::Broken {
            problem: error.to_string(),
        })?;
        match statement.agenthost {
            Self::FORMAT => Ok(Some(statement)),
            found => Err(StatementError::Format {
                found,
                known: Self::FORMAT,
            }),
        }
    }

    /// Checks that the statement is about this plugin and that it is true.
    ///
    /// # Errors
    ///
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied), with the first difference.
    pub fn check(&self, plugin: &Plugin) -> Result<(), StatementError> {
        let differs = |what, stated: &str, found: &str| StatementError::Differs {
            plugin: plugin.id.to_string(),
            what,
            stated: stated.to_owned(),
            found: found.to_owned(),
        };
        let (name, version) = identity(plugin)?;
        if self.digest != plugin.digest {
            return Err(differs("digest", &self.digest.to_string(), &plugin.digest.to_string()));
        }
        if self.name != name {
            return Err(differs("name", &self.name.to_string(), &name.to_string()));
        }
        if self.version != version {
            return Err(differs("version", &self.version.to_string(), &version.to_string()));
        }
        if self.interface != plugin.task {
            return Err(differs("interface", &self.interface, &plugin.task));
        }
        if let Some(change) = self.asks.changes(&Asks::of(plugin)).first() {
            return Err(StatementError::Asks {
                plugin: plugin.id.to_string(),
                change: change.to_string(),
            });
        }
        Ok(())
    }
}

/// Returns the name and version under which a plugin can be published.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../agenthost/doc/guests.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost_plugin::Plugin;
/// use agenthost_registry::statement::identity;
///
/// # let component = double();
/// let mut plugin = Plugin::read(&component)?;
/// let (name, version) = identity(&plugin)?;
/// assert_eq!(format!("{name}@{version}"), "demo:double@0.1.0");
///
/// plugin.id.version = None;
/// let error = identity(&plugin).err().ok_or("it could be published")?;
/// assert_eq!(error.to_string(), "demo:double has no version");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Plugin`](agenthost_core::error::ErrorClass::Plugin) if either is missing or invalid.
pub fn identity(plugin: &Plugin) -> Result<(Name, Version), StatementError> {
    let name: Name = plugin.id.name.parse().map_err(StatementError::Name)?;
    let release = plugin
        .release()
        .ok_or_else(|| StatementError::NoVersion { name: name.to_string() })?;
    let version = release.parse().map_err(|problem| StatementError::Version {
        name: name.to_string(),
        version: release.to_owned(),
        problem,
    })?;
    Ok((name, version))
}
