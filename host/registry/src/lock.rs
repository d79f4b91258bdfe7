//! `agenthost.lock`: the exact plugins that a project uses.
//!
//! The file has one entry per plugin, including sub-agents: its source, its digest, its signer, and the rights that it
//! asked for when it was accepted. It is written by `add` and `update`, and is made to be committed and reviewed:
//! sorted, one fact per line. Its entries are checked against the bytes whenever the bytes are loaded, so a changed
//! line is detected; the file grants nothing by itself.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use semver::Version;
use serde::{Deserialize, Serialize};

use super::asks::{Asked, Asks, Change};
use super::error::LockError;
use super::reference::{Name, Requirement};
use super::{files, statement};
use agenthost_core::plain_file::{self, Links};
use agenthost_plugin::{Digest, Plugin};

/// The name of a lock file.
pub const LOCK_FILE: &str = "agenthost.lock";

/// The maximum size of a lock file, in bytes. An entry takes less than a kilobyte.
const MAX_LOCK_BYTES: u64 = 4 << 20;

/// The lock entry of a plugin that the project uses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Locked {
    /// The plugin's name.
    pub name: Name,
    /// The locked version.
    pub version: Version,
    /// The digest of the component.
    pub digest: Digest,
    /// The size of the component in bytes.
    pub size: u64,
    /// The requirement that `update` chooses a version by; empty means any release.
    #[serde(default = "Requirement::any", skip_serializing_if = "Requirement::is_any")]
    pub wanted: Requirement,
    /// The place that holds it: `host/repository`, or a directory, relative to the lock file if it is nearby.
    pub source: String,
    /// The public key that signed it; `None` unless a key trusted by the policy did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// The digests of its signature files, which are in the cache.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<Digest>,
    /// The rights that it asked for when it was accepted.
    pub asks: Asks,
}

impl Locked {
    /// Returns the changes if a release with these rights and this signer replaces the entry. Another signer, or none,
    /// is more than was accepted.
    pub fn changes(&self, asks: &Asks, signer: Option<String>) -> Vec<Change> {
        let mut changes = self.asks.changes(asks);
        if self.signer != signer {
            changes.push(Change {
                what: Asked::Signer,
                grows: self.signer.is_some(),
                old: self.signer.clone(),
                new: signer,
            });
        }
        changes
    }

    /// Checks that `plugin` matches this entry.
    ///
    /// # Errors
    ///
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied), with the first difference.
    pub fn check(&self, plugin: &Plugin) -> Result<(), LockError> {
        let differs = |what, locked: &str, found: &str| LockError::Differs {
            name: self.name.to_string(),
            what,
            locked: locked.to_owned(),
            found: found.to_owned(),
        };
        let (name, version) = statement::identity(plugin)?;
        if name != self.name {
            return Err(differs("name", &self.name.to_string(), &name.to_string()));
        }
        if version != self.version {
            return Err(differs("version", &self.version.to_string(), &version.to_string()));
        }
        if plugin.digest != self.digest {
            return Err(differs("digest", &self.digest.to_string(), &plugin.digest.to_string()));
        }
        match self.asks.changes(&Asks::of(plugin)).first() {
            Some(change) => Err(LockError::Asks {
                name: self.name.to_string(),
                change: change.to_string(),
            }),
            None => Ok(()),
        }
    }
}

/// The lock file of a project.
#[derive(Debug, Clone, PartialEq)]
pub struct Lock {
    path: PathBuf,
    plugins: BTreeMap<Name, Locked>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    format: u32,
    #[serde(default, rename = "plugin")]
    plugins: Vec<Locked>,
}

impl Lock {
    /// The newest format that this version reads.
    const FORMAT: u32 = 1;

    /// Reads the lock file in `dir`; a missing file is empty.
    ///
    /// # Errors
    ///
    /// [`Config`](agenthost_core::error::ErrorClass::Config), with the line, if the file cannot be read or is invalid.
    pub(super) fn read(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join(LOCK_FILE);
        let failed = |source| LockError::Read {
            path: path.clone(),
            source,
        };
        let meta = match fs::metadata(&path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(&path).is_err() => {
                return Ok(Self {
                    path,
                    plugins: BTreeMap::new(),
                });
            }
            Err(error) => return Err(failed(error)),
        };
        if !meta.is_file() || meta.len() > MAX_LOCK_BYTES {
            return Err(LockError::NotFile { path });
        }
        let text = plain_file::read_text(&path, Links::Follow, MAX_LOCK_BYTES).map_err(failed)?;
        let file: File = toml::from_str(&text).map_err(|error| {
            let line = error.span().map(|span| {
                let before = text.get(..span.start).unwrap_or_default();
                1 + before.matches('\n').count()
            });
            LockError::Syntax {
                path: path.clone(),
                line,
                problem: error.message().to_owned(),
            }
        })?;
        if file.format != Self::FORMAT {
            return Err(LockError::Format {
                path,
                found: file.format,
                known: Self::FORMAT,
            });
        }
        let mut plugins = BTreeMap::new();
        for plugin in file.plugins {
            let name = plugin.name.clone();
            if plugins.insert(name.clone(), plugin).is_some() {
                return Err(LockError::Duplicate {
                    path,
                    name: name.to_string(),
                });
            }
        }
        Ok(Self { path, plugins })
    }

    /// Returns the path of the file, which may not exist yet.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns all entries, sorted by name.
    pub fn plugins(&self) -> impl Iterator<Item = &Locked> {
        self.plugins.values()
    }

    /// Returns the entry of a plugin.
    pub fn get(&self, name: &Name) -> Option<&Locked> {
        self.plugins.get(name)
    }

    /// Returns whether the lock has no entries.
    pub fn is_empty(&self) -> bool {
        self.plugins.is_empty()
    }

    /// Adds an entry, and replaces an older one for the same plugin.
    pub fn put(&mut self, locked: Locked) {
        self.plugins.insert(locked.name.clone(), locked);
    }

    /// Removes and returns an entry.
    pub fn remove(&mut self, name: &Name) -> Option<Locked> {
        self.plugins.remove(name)
    }

    /// Returns `name` and the names of all plugins that it may start, as far as they are in the lock file.
    pub fn below(&self, name: &Name) -> Vec<Name> {
        let mut found: Vec<Name> = Vec::new();
        let mut open = vec![name.clone()];
        while let Some(name) = open.pop() {
            let Some(locked) = self.plugins.get(&name).filter(|_| !found.contains(&name)) else {
                continue;
            };
            open.extend(locked.asks.sub_agents.iter().filter_map(|import| plugin_of(import)));
            found.push(name);
        }
        found
    }

    /// Writes the file as a whole.
    ///
    /// # Errors
    ///
    /// [`Config`](agenthost_core::error::ErrorClass::Config) if the file cannot be written.
    pub fn write(&self) -> Result<(), LockError> {
        let file = File {
            format: Self::FORMAT,
            plugins: self.plugins.values().cloned().collect(),
        };
        let failed = |source| LockError::Write {
            path: self.path.clone(),
            source,
        };
        let toml = toml::to_string(&file).map_err(|error| failed(io::Error::other(error)))?;
        let text = format!("# The plugins of this project, written by agenthost. Commit it.\n{toml}");
        files::replace(&self.path, &text).map_err(failed)
    }
}

/// Returns the plugin whose task an import is: `demo:compare` for `demo:compare/task@0.1.0`.
///
/// ```
/// use agenthost_registry::lock::plugin_of;
///
/// assert_eq!(plugin_of("demo:compare/task@0.1.0"), Some("demo:compare".parse()?));
/// assert_eq!(plugin_of("demo:compare"), None); // a name, and no import
/// # Ok::<(), agenthost_core::error::Error>(())
/// ```
pub fn plugin_of(import: &str) -> Option<Name> {
    import.split_once('/')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked(name: &str, starts: &[&str]) -> Locked {
        Locked {
            name: name.parse().unwrap(),
            version: Version::new(1, 2, 0),
            digest: Digest::of(name.as_bytes()),
            size: 5,
            wanted: "^1.2".parse().unwrap(),
            source: "127.0.0.1:5000/plugins/acme/x".into(),
            signer: None,
            signatures: vec![Digest::of(b"signature")],
            asks: Asks {
                sub_agents: starts.iter().map(|name| format!("{name}/task@0.1.0")).collect(),
                limits: [("tokens".to_owned(), "40k".into())].into(),
                ..Asks::default()
            },
        }
    }

    #[test]
    fn what_is_written_is_read_and_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut lock = Lock::read(dir.path()).unwrap();
        assert!(lock.is_empty());
        lock.put(locked("demo:scan", &["demo:x"]));
        lock.put(locked("demo:x", &[]));
        lock.write().unwrap();
        let text = fs::read_to_string(lock.path()).unwrap();
        let again = Lock::read(dir.path()).unwrap();
        assert_eq!(again, lock);
        again.write().unwrap();
        assert_eq!(fs::read_to_string(lock.path()).unwrap(), text);
    }

    #[test]
    fn what_is_below_a_plugin_is_found_and_circles_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut lock = Lock::read(dir.path()).unwrap();
        lock.put(locked("demo:a", &["demo:b", "demo:c"]));
        lock.put(locked("demo:b", &["demo:a", "demo:elsewhere"]));
        lock.put(locked("demo:c", &[]));
        lock.put(locked("demo:d", &[]));
        let mut below: Vec<_> = lock
            .below(&"demo:a".parse().unwrap())
            .iter()
            .map(ToString::to_string)
            .collect();
        below.sort();
        assert_eq!(below, ["demo:a", "demo:b", "demo:c"]);
    }

    #[test]
    fn a_file_that_makes_no_sense_is_refused_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        for (text, said) in [
            ("format = 2\n", "its format is 2"),
            ("format = 1\nplugins = 3\n", "line 2: unknown field"),
            ("format = 1\n[[plugin]]\nname = \"../x\"\n", "line 3: "),
            ("format = 1\n\0", "line 2: "),
        ] {
            fs::write(dir.path().join(LOCK_FILE), text).unwrap();
            let error = Lock::read(dir.path()).unwrap_err().to_string();
            assert!(error.contains(said), "{text:?}: {error}");
        }
        let mut lock = Lock::read(&dir.path().join("none")).unwrap();
        lock.put(locked("demo:a", &[]));
        assert!(lock.write().is_err());
        lock.path = dir.path().join(LOCK_FILE);
        lock.write().unwrap();
        let text = fs::read_to_string(lock.path()).unwrap();
        let entry = text.split_once("[[plugin]]").unwrap().1;
        fs::write(lock.path(), format!("{text}\n[[plugin]]{entry}")).unwrap();
        let error = Lock::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("demo:a has two entries"), "{error}");
    }
}
