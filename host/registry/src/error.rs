//! Errors of registries, signatures, policies, lock files and vet files.
//!
//! Each part has its own type. [`RegistryError`] is the one of a [`Source`](crate::Source) and of a
//! [`Project`](crate::project::Project), which combine them.

mod files;
mod keys;
mod names;
mod oci;
mod policy;

use std::path::PathBuf;

use semver::Version;

pub use self::files::{CacheError, LocalError, LockError, TamperProblem, VetError};
pub use self::keys::{KeyDirProblem, PublicKeyError, SignatureError, SigningKeyError};
pub use self::names::{ReferenceError, StatementError};
pub use self::oci::{CredentialsError, ManifestProblem, OciError, OciProblem, OciRequestError};
pub use self::policy::{PolicyError, PolicyRule, Refusal};
use agenthost_core::error::{Classify, Error, ErrorClass, Inner};
use agenthost_plugin::{ComponentError, Digest};

/// A plugin that cannot be found, fetched, accepted or admitted.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// use agenthost_config::{Config, Env};
/// use agenthost_registry::{RegistryError, project::Project};
///
/// let env = Env::new([].into(), dir, None);
/// let project = Project::open(&Config::load(&env)?, &env, None)?;
/// match project.locked(&"acme:competitor".parse()?) {
///     Err(RegistryError::NotLocked { reference, .. }) => assert_eq!(reference, "acme:competitor"),
///     other => panic!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// A name, a version or a place is invalid.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The credentials for a registry cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// An OCI registry cannot be used, or sent something other than what was requested.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// Something cannot be requested from an OCI registry, or published there.
    #[error(transparent)]
    OciRequest(#[from] OciRequestError),
    /// A directory cannot be used as a registry.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The cache cannot be used, or a transfer into it failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The lock file cannot be used, or the plugin does not match its entry.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A policy refuses the plugin, or cannot be read.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A vet file cannot be used.
    #[error(transparent)]
    Vet(#[from] VetError),
    /// The plugin cannot be published or signed under its name and version.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The component is not a plugin.
    #[error("{subject}")]
    Component {
        /// The plugin or its address.
        subject: String,
        /// The cause.
        source: ComponentError,
    },
    /// Another implementation of [`Source`](crate::Source) failed.
    #[error(transparent)]
    Other(Error),
    /// No registry is configured for a namespace.
    #[error("no registry is configured for {name}")]
    UnknownNamespace {
        /// The plugin's name.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// The registry of a namespace is invalid.
    #[error("[registries] {key}")]
    Registry {
        /// The key in `[registries]`.
        key: String,
        /// The mistake.
        source: ReferenceError,
    },
    /// The registry has no release that the reference means.
    #[error("{place}: no release of {reference}")]
    NoRelease {
        /// The place in the registry.
        place: String,
        /// The reference.
        reference: String,
        /// The versions that exist.
        known: Vec<Version>,
        /// The tags that exist and are not versions.
        tags: Vec<String>,
    },
    /// A release is larger than any plugin.
    #[error("{place}: {} MiB are announced, and a plugin has at most {} MiB", size >> 20, limit >> 20)]
    TooLarge {
        /// The place in the registry.
        place: String,
        /// The announced size in bytes.
        size: u64,
        /// The maximum size in bytes.
        limit: u64,
    },
    /// The registry has another plugin than its address says.
    #[error("{at}: the plugin there is {found}")]
    OtherPlugin {
        /// The address.
        at: String,
        /// The plugin that is there.
        found: String,
    },
    /// The registry has other bytes under the locked version.
    #[error(
        "{name} {version}: the registry has other bytes under this version than when it was locked: {found} in the \
         place of {locked}"
    )]
    Moved {
        /// The plugin's name.
        name: String,
        /// The version.
        version: Version,
        /// The digest in the lock entry.
        locked: Digest,
        /// The digest in the registry.
        found: Digest,
    },
    /// The lock file pins another release than the one that is part of the program.
    #[error("the release of this program is {has}, and agenthost.lock has {wanted}")]
    OtherBuiltIn {
        /// The plugin's name.
        name: String,
        /// The digest of the program's release.
        has: Digest,
        /// The digest in the lock file.
        wanted: Digest,
    },
    /// The lock file says that the plugin is part of the program, and it is not.
    #[error("{name} is not part of this program")]
    NotBuiltIn {
        /// The plugin's name.
        name: String,
    },
    /// The lock file has no entry for the reference.
    #[error("{reference} is not in {}", path.display())]
    NotLocked {
        /// The reference.
        reference: String,
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file has another version than requested.
    #[error("agenthost.lock has {name} {locked}, and {wanted} was asked for")]
    OtherVersion {
        /// The reference.
        reference: String,
        /// The plugin's name.
        name: String,
        /// The locked version.
        locked: Version,
        /// The requirement.
        wanted: String,
    },
    /// The reference has a tag or a digest of a manifest, and the lock file has the version alone.
    #[error("agenthost.lock knows {name} {version} by its version, not by {tag}")]
    LockedByVersion {
        /// The plugin's name.
        name: String,
        /// The locked version.
        version: Version,
        /// The tag or digest.
        tag: String,
    },
    /// The error is about this plugin or place.
    #[error("{subject}")]
    At {
        /// The plugin or the place.
        subject: String,
        /// The cause.
        source: Box<RegistryError>,
    },
}

impl RegistryError {
    pub(crate) fn component(subject: impl ToString, source: ComponentError) -> Self {
        let subject = subject.to_string();
        Self::Component { subject, source }
    }

    /// Names the plugin or the place that the error is about.
    pub(crate) fn at(self, subject: impl ToString) -> Self {
        Self::At {
            subject: subject.to_string(),
            source: Box::new(self),
        }
    }
}

impl From<SignatureError> for RegistryError {
    fn from(error: SignatureError) -> Self {
        Self::Policy(error.into())
    }
}

impl Classify for RegistryError {
    fn inner(&self) -> Option<Inner<'_>> {
        match self {
            Self::Reference(error) => Some(Inner::Typed(error)),
            Self::Credentials(error) => Some(Inner::Typed(error)),
            Self::Oci(error) => Some(Inner::Typed(error)),
            Self::OciRequest(error) => Some(Inner::Typed(error)),
            Self::Local(error) => Some(Inner::Typed(error)),
            Self::Cache(error) => Some(Inner::Typed(error)),
            Self::Lock(error) => Some(Inner::Typed(error)),
            Self::Policy(error) => Some(Inner::Typed(error)),
            Self::Vet(error) => Some(Inner::Typed(error)),
            Self::Statement(error) => Some(Inner::Typed(error)),
            Self::Other(error) => Some(Inner::Erased(error)),
            Self::At { source, .. } => Some(Inner::Typed(&**source)),
            _ => None,
        }
    }

    fn class(&self) -> ErrorClass {
        match self {
            Self::Reference(error) => error.class(),
            Self::Credentials(error) => error.class(),
            Self::Oci(error) => error.class(),
            Self::OciRequest(error) => error.class(),
            Self::Local(error) => error.class(),
            Self::Cache(error) => error.class(),
            Self::Lock(error) => error.class(),
            Self::Policy(error) => error.class(),
            Self::Vet(error) => error.class(),
            Self::Statement(error) => error.class(),
            Self::Component { source, .. } => source.class(),
            Self::Other(error) => error.class(),
            Self::UnknownNamespace { .. } | Self::Registry { .. } => ErrorClass::Config,
            Self::NoRelease { .. }
            | Self::NotLocked { .. }
            | Self::OtherVersion { .. }
            | Self::LockedByVersion { .. }
            | Self::OtherBuiltIn { .. }
            | Self::NotBuiltIn { .. } => ErrorClass::Plugin,
            Self::TooLarge { .. } | Self::OtherPlugin { .. } | Self::Moved { .. } => ErrorClass::Denied,
            Self::At { source, .. } => source.class(),
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Reference(error) => return error.hint(),
            Self::Credentials(error) => return error.hint(),
            Self::Oci(error) => return error.hint(),
            Self::OciRequest(error) => return error.hint(),
            Self::Local(error) => return error.hint(),
            Self::Cache(error) => return error.hint(),
            Self::Lock(error) => return error.hint(),
            Self::Policy(error) => return error.hint(),
            Self::Vet(error) => return error.hint(),
            Self::Statement(error) => return error.hint(),
            Self::Component { source, .. } => return source.hint(),
            Self::Other(error) => return error.hint().map(str::to_owned),
            Self::At { source, .. } => return source.hint(),
            Self::Registry { source, .. } => return source.hint(),
            Self::UnknownNamespace { namespace, .. } => format!(
                "Write where plugins of {namespace} are kept: [registries] in agenthost.toml, {namespace} = \
                 \"registry.example/plugins\" or a directory."
            ),
            Self::NoRelease { place, known, tags, .. } => {
                let known: Vec<_> = known.iter().map(ToString::to_string).collect();
                match (known.as_slice(), tags.as_slice()) {
                    ([], []) => "There is none of any version: check the name, and [registries].".to_owned(),
                    ([], [first, ..]) => format!(
                        "No tag there is a version; there are {}. Name one with its place: {place}:{first}.",
                        some_of(tags)
                    ),
                    (known, []) => format!("There are {}; a pre-release has to be named in full.", known.join(", ")),
                    (known, tags) => format!(
                        "There are {}, and the tags {}; a pre-release has to be named in full.",
                        known.join(", "),
                        some_of(tags)
                    ),
                }
            }
            Self::TooLarge { .. } => "Ask the publisher for a smaller build.".to_owned(),
            Self::OtherPlugin { .. } => {
                "The registry gives another plugin than its address says; report it to its operator.".to_owned()
            }
            Self::Moved { .. } => {
                "A version is published once, so it was replaced: ask its publisher. To take the new bytes all the \
                 same, remove the entry from agenthost.lock and add the plugin again."
                    .to_owned()
            }
            Self::NotLocked { .. } | Self::OtherVersion { .. } => {
                "Add it to the lock file, which shows what it asks for.".to_owned()
            }
            Self::LockedByVersion { name, .. } => format!("Name it {name}."),
            Self::OtherBuiltIn { name, .. } => format!(
                "Use the version of agenthost that locked it, or take this release: remove the entry from agenthost.lock \
                 and run `agenthost add {name}`."
            ),
            Self::NotBuiltIn { .. } => {
                "Use a version of agenthost that has it; `agenthost list --builtin` lists what this one has.".to_owned()
            }
        };
        Some(hint)
    }
}

/// Returns the first of many tags.
fn some_of(tags: &[String]) -> String {
    const SHOWN: usize = 20;
    let shown: Vec<_> = tags.iter().take(SHOWN).map(String::as_str).collect();
    match tags.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests;
