//! Errors of the cache, of directories as registries, and of lock and vet files.

use std::io;
use std::path::PathBuf;

use semver::Version;

use super::names::StatementError;
use agenthost_config::{FileError, Origin};
use agenthost_core::error::{Classify, ErrorClass, Inner};
use agenthost_plugin::Digest;

/// An entry of the cache that cannot be used, or a transfer into the cache that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// Nothing with this digest is in the cache.
    #[error("{digest} is not in the cache")]
    Missing {
        /// The digest.
        digest: Digest,
    },
    /// An entry was changed.
    #[error("{path}: refused: {problem}")]
    Tampered {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: TamperProblem,
    },
    /// A signature is not text.
    #[error("{path}: the signature is not text")]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// Others can write to the directory of the cache.
    #[error("{}: not a directory of this user alone", dir.display())]
    OpenToOthers {
        /// The directory.
        dir: PathBuf,
    },
    /// An entry cannot be read.
    #[error("{path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// An entry cannot be written.
    #[error("{path}")]
    Write {
        /// The file or the directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The sender starts at another byte than requested.
    #[error("the registry begins at byte {offset} where {wanted} was asked for")]
    Offset {
        /// The byte at which it starts.
        offset: u64,
        /// The requested byte.
        wanted: u64,
    },
    /// More bytes came than were announced.
    #[error("more bytes came than the {announced} that were announced")]
    TooMany {
        /// The announced size.
        announced: u64,
    },
    /// The transfer ended too early.
    #[error("the transfer ended after {received} of {announced} bytes")]
    Interrupted {
        /// The number of bytes that came.
        received: u64,
        /// The announced size.
        announced: u64,
    },
    /// Other bytes came than were requested.
    #[error("the received bytes are not {wanted}")]
    WrongDigest {
        /// The requested digest.
        wanted: Digest,
    },
}

/// The reason why an entry of the cache is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TamperProblem {
    /// It is a link.
    #[error("it is a link, and the cache has none")]
    Link,
    /// It is not a plain file.
    #[error("it is not a plain file")]
    NotFile,
    /// Its bytes do not match the digest in its name.
    #[error("its bytes are not those of its digest")]
    WrongDigest,
}

impl Classify for CacheError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Missing { .. } | Self::Interrupted { .. } => ErrorClass::Plugin,
            Self::Tampered { .. }
            | Self::NotText { .. }
            | Self::OpenToOthers { .. }
            | Self::Offset { .. }
            | Self::TooMany { .. }
            | Self::WrongDigest { .. } => ErrorClass::Denied,
            Self::Read { .. } | Self::Write { .. } => ErrorClass::Host,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Missing { .. } => "Fetch it first.",
            Self::Tampered { .. } => "The cache was changed. Remove the entry, then fetch it again.",
            Self::OpenToOthers { .. } => "Remove it, or take the rights of others to write there away.",
            Self::Write { .. } => "The cache of plugins has to be writable; XDG_CACHE_HOME says where it is.",
            Self::TooMany { .. } => "The registry is broken or hostile; nothing was kept.",
            Self::Interrupted { .. } => "Try again: it goes on where it stopped.",
            Self::WrongDigest { .. } => "The registry gave other bytes than it announced; nothing was kept.",
            Self::NotText { .. } | Self::Read { .. } | Self::Offset { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

/// A directory that cannot be used as a registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// The directory of the registry does not exist.
    #[error("{}: the registry's directory does not exist", dir.display())]
    NoRegistry {
        /// The directory of the registry.
        dir: PathBuf,
    },
    /// There is no release of this version.
    #[error("{}: no release {version}", dir.display())]
    NoRelease {
        /// The directory of the plugin.
        dir: PathBuf,
        /// The version.
        version: Version,
        /// The versions that are there.
        known: Vec<Version>,
    },
    /// No release has these bytes.
    #[error("{}: no release has {digest}", dir.display())]
    NoDigest {
        /// The directory of the plugin.
        dir: PathBuf,
        /// The digest of the component.
        digest: Digest,
    },
    /// A release was requested by something other than a version.
    #[error("{}: a directory has versions and no other tags", dir.display())]
    NotVersion {
        /// The directory of the plugin.
        dir: PathBuf,
    },
    /// The version was published with other bytes.
    #[error("{path}: there is another {version} already, {digest}")]
    Published {
        /// The file of the component.
        path: PathBuf,
        /// The version.
        version: Version,
        /// The digest of the published component.
        digest: Digest,
    },
    /// A file is larger than a registry's files are.
    #[error("{path}: larger than {limit} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The maximum size in bytes.
        limit: u64,
    },
    /// A signature is not text.
    #[error("{path}: the signature is not text")]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// A file or the directory cannot be read.
    #[error("{path}")]
    Read {
        /// The file or the directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file or the directory cannot be written.
    #[error("{path}")]
    Write {
        /// The file or the directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Classify for LocalError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NoRelease { .. } | Self::NoDigest { .. } | Self::Read { .. } | Self::Write { .. } => {
                ErrorClass::Plugin
            }
            Self::NoRegistry { .. } => ErrorClass::Config,
            Self::NotVersion { .. } => ErrorClass::Usage,
            Self::Published { .. } | Self::TooLarge { .. } | Self::NotText { .. } => ErrorClass::Denied,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoRegistry { .. } => {
                "Check [registries] in agenthost.toml, whose paths are relative to that file; a disk that is not mounted \
                 is another usual cause."
            }
            Self::NoRelease { known, .. } => {
                let known: Vec<_> = known.iter().map(ToString::to_string).collect();
                return Some(match known.as_slice() {
                    [] => "Of this plugin there are none.".to_owned(),
                    known => format!("Of this plugin there are {}.", known.join(", ")),
                });
            }
            Self::NoDigest { .. } => "It was removed or replaced; ask its publisher.",
            Self::NotVersion { .. } => "Name a version, such as @1.2.0.",
            Self::Published { .. } => "A version is published once: give the plugin a new one in its Cargo.toml.",
            Self::TooLarge { .. } => "A registry holds no such file; remove it.",
            Self::Read { .. } => {
                "A directory that is a registry has to be readable, and holds plain files: no links, pipes or devices."
            }
            Self::Write { .. } => "Publishing needs a directory that this user may write.",
            Self::NotText { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

/// A lock file that cannot be used, or a lock entry that a plugin does not match.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The file cannot be read.
    #[error("{path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is not a regular file, or larger than any lock file.
    #[error("{path}: not a file that a lock file could be")]
    NotFile {
        /// The file.
        path: PathBuf,
    },
    /// The file is invalid.
    #[error("{path}: {}{problem}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, starting at 1.
        line: Option<usize>,
        /// The parser's description of the mistake.
        problem: String,
    },
    /// The file has a format that this version does not read.
    #[error("{path}: its format is {found}, and this version reads {known}")]
    Format {
        /// The file.
        path: PathBuf,
        /// The format of the file.
        found: u32,
        /// The known format.
        known: u32,
    },
    /// A plugin has two entries.
    #[error("{path}: {name} has two entries")]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// The plugin's name.
        name: String,
    },
    /// The file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The plugin has no name or version of a release.
    #[error(transparent)]
    Identity(#[from] StatementError),
    /// The component says something else than its lock entry.
    #[error("{name}: agenthost.lock has the {what} {locked}, and the component has {found}")]
    Differs {
        /// The plugin's name.
        name: String,
        /// The field.
        what: &'static str,
        /// Its value in the lock entry.
        locked: String,
        /// Its value in the component.
        found: String,
    },
    /// The component asks for other rights than its lock entry lists.
    #[error("{name}: agenthost.lock does not list what the component asks for: {change}")]
    Asks {
        /// The plugin's name.
        name: String,
        /// The first difference.
        change: String,
    },
}

impl Classify for LockError {
    fn inner(&self) -> Option<Inner<'_>> {
        match self {
            Self::Identity(error) => Some(Inner::Typed(error)),
            _ => None,
        }
    }

    fn class(&self) -> ErrorClass {
        match self {
            Self::Read { .. }
            | Self::NotFile { .. }
            | Self::Syntax { .. }
            | Self::Format { .. }
            | Self::Duplicate { .. }
            | Self::Write { .. } => ErrorClass::Config,
            Self::Identity(error) => error.class(),
            Self::Differs { .. } | Self::Asks { .. } => ErrorClass::Denied,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Read { .. }
            | Self::NotFile { .. }
            | Self::Syntax { .. }
            | Self::Format { .. }
            | Self::Duplicate { .. } => "Restore the file from version control.",
            Self::Write { .. } => "Make the project's folder writable for this user.",
            Self::Identity(error) => return error.hint(),
            Self::Differs { .. } | Self::Asks { .. } => {
                "The lock file was changed by hand or merged badly: restore it, or add the plugin again."
            }
        };
        Some(hint.to_owned())
    }
}

/// A vet file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VetError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file, or one of its entries, is invalid.
    #[error("{at}: {problem}")]
    Syntax {
        /// The place of the mistake.
        at: Origin,
        /// A description of it.
        problem: String,
    },
    /// The file has a format that this version does not read.
    #[error("{at}: this version reads format {known}, not {found}")]
    Format {
        /// The start of the file.
        at: Origin,
        /// The format of the file.
        found: u32,
        /// The known format.
        known: u32,
    },
    /// The new entry is invalid.
    #[error("{problem}")]
    Entry {
        /// The rule that it breaks.
        problem: &'static str,
    },
    /// The file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Classify for VetError {
    fn inner(&self) -> Option<Inner<'_>> {
        match self {
            Self::File(error) => Some(Inner::Typed(error)),
            _ => None,
        }
    }

    fn class(&self) -> ErrorClass {
        match self {
            Self::File(error) => error.class(),
            Self::Syntax { .. } | Self::Format { .. } => ErrorClass::Config,
            Self::Entry { .. } => ErrorClass::Usage,
            Self::Write { .. } => ErrorClass::Host,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::File(error) => return error.hint(),
            Self::Syntax { .. } => "Correct or restore the file.",
            Self::Format { .. } => "Use a newer agenthost.",
            Self::Entry { .. } => return None,
            Self::Write { .. } => "The file and its directory have to be writable.",
        };
        Some(hint.to_owned())
    }
}
