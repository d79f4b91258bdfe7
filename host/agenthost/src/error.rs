//! Errors of the host outside a task, with the types of all parts in one place.
//!
//! The functions of this library return [`Error`]: a class, a message and the next step. [`cause`] returns the typed
//! error behind it, for a program that acts on the reason.
//!
//! ```
//! use agenthost::error::{Cause, Error, ErrorClass, cause};
//! use agenthost::plugin::PluginInfo;
//!
//! let error = Error::from(PluginInfo::read(b"(component)").unwrap_err());
//! assert_eq!(error.class(), ErrorClass::Plugin);
//! match cause(&error) {
//!     Cause::Component(error) => println!("this is not a plugin: {error}"),
//!     Cause::File(error) => println!("the file cannot be read: {error}"),
//!     Cause::Imports(refused) => println!("{} wants {}", refused.plugin, refused.imports.join(" and ")),
//!     _ => println!("{error}"),
//! }
//! ```
//!
//! A failure *inside* a task is an outcome of the task and not an error: see [`Outcome`](crate::task::Outcome).

use std::path::PathBuf;

pub use agenthost_config::{ConfigError, KeyError, TrustError};
pub use agenthost_core::error::{Classify, Error, ErrorClass, Inner, Result, with_causes};
pub use agenthost_core::record::FormatError;
pub use agenthost_journal::{CassetteError, DatabaseProblem, JournalError};
#[cfg(feature = "build")]
pub use agenthost_plugin::build::BuildError;
pub use agenthost_plugin::types::{ValueError, ValueErrorKind};
pub use agenthost_plugin::{ComponentError, CoreEnvironment, ImportsRefused, InvalidDigest, PluginFileError};
pub use agenthost_providers::{BaseUrlProblem, ProviderSetupError};
#[cfg(feature = "registry")]
pub use agenthost_registry::{LockError, PolicyError, ReferenceError, RegistryError};
pub use agenthost_sandbox::{InvalidInput, SandboxError};

/// The typed error behind an [`Error`], by the part of the host that it comes from.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Cause<'a> {
    /// A plugin and its sub-agents cannot be put together.
    Load(&'a LoadError),
    /// The items of a batch cannot be read, or its results cannot be written.
    Batch(&'a BatchError),
    /// A crate cannot be built.
    #[cfg(feature = "build")]
    Build(&'a BuildError),
    /// The file of a plugin cannot be read.
    File(&'a PluginFileError),
    /// The sandbox cannot start or cannot load a plugin.
    Sandbox(&'a SandboxError),
    /// The bytes are not a plugin.
    Component(&'a ComponentError),
    /// The plugin has imports that are not offered.
    Imports(&'a ImportsRefused),
    /// The input is not a value of the plugin's input type.
    Input(&'a InvalidInput),
    /// A cassette cannot be read or written.
    Cassette(&'a CassetteError),
    /// The journal cannot be used.
    Journal(&'a JournalError),
    /// A provider cannot be opened.
    Provider(&'a ProviderSetupError),
    /// A provider has no key, or the key cannot be read.
    Key(&'a KeyError),
    /// The operator has not accepted something that a file asks for.
    Trust(&'a TrustError),
    /// The configuration cannot be read or is invalid.
    Config(&'a ConfigError),
    /// The text is not a reference to a plugin.
    #[cfg(feature = "registry")]
    Reference(&'a ReferenceError),
    /// A policy refuses the plugin.
    #[cfg(feature = "registry")]
    Policy(&'a PolicyError),
    /// The lock file cannot be read or written, or does not fit the plugin.
    #[cfg(feature = "registry")]
    Lock(&'a LockError),
    /// A registry, the cache of plugins, or a file beside them cannot be used.
    #[cfg(feature = "registry")]
    Registry(&'a RegistryError),
    /// The error has no type of its own.
    Other,
}

/// Returns the typed error behind `error`, or one of its typed causes: that of the most specific part.
///
/// ```
/// use agenthost::error::{Cause, Error, JournalError, cause};
///
/// let error = Error::from(JournalError::NoRuns);
/// assert!(matches!(cause(&error), Cause::Journal(JournalError::NoRuns)));
/// ```
pub fn cause(error: &Error) -> Cause<'_> {
    let built = || {
        #[cfg(feature = "build")]
        return error.downcast_ref().map(Cause::Build);
        #[cfg(not(feature = "build"))]
        None
    };
    let parts_of_registry = || {
        #[cfg(feature = "registry")]
        return (error.downcast_ref().map(Cause::Reference))
            .or_else(|| error.downcast_ref().map(Cause::Policy))
            .or_else(|| error.downcast_ref().map(Cause::Lock));
        #[cfg(not(feature = "registry"))]
        None
    };
    let registry = || {
        #[cfg(feature = "registry")]
        return error.downcast_ref().map(Cause::Registry);
        #[cfg(not(feature = "registry"))]
        None
    };
    let found = error.downcast_ref().map(Cause::Load);
    found
        .or_else(|| error.downcast_ref().map(Cause::Batch))
        .or_else(|| error.downcast_ref().map(Cause::Trust))
        .or_else(|| error.downcast_ref().map(Cause::Key))
        .or_else(parts_of_registry)
        .or_else(|| error.downcast_ref().map(Cause::Component))
        .or_else(|| error.downcast_ref().map(Cause::Imports))
        .or_else(|| error.downcast_ref().map(Cause::Input))
        .or_else(|| error.downcast_ref().map(Cause::File))
        .or_else(|| error.downcast_ref().map(Cause::Cassette))
        .or_else(|| error.downcast_ref().map(Cause::Journal))
        .or_else(|| error.downcast_ref().map(Cause::Provider))
        .or_else(built)
        .or_else(|| error.downcast_ref().map(Cause::Sandbox))
        .or_else(|| error.downcast_ref().map(Cause::Config))
        .or_else(registry)
        .unwrap_or(Cause::Other)
}

/// The reason for which a plugin and its sub-agents cannot be put together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The caller gave a plugin for a sub-agent that no plugin starts.
    #[error("no plugin starts {name}, for which a plugin was given")]
    UnusedSubAgent {
        /// The sub-agent.
        name: String,
        /// The root plugin.
        root: String,
        /// The sub-agents that it starts.
        starts: Vec<String>,
    },
    /// The plugin is given as a reference, and the host has no project.
    #[error("{reference} is a reference, and this host has no project")]
    NoProject {
        /// The reference.
        reference: String,
    },
    /// The program brings another release of the plugin than the reference asks for.
    #[error("{plugin}: this program has release {has} of it, and {wanted} is wanted")]
    OtherBuiltIn {
        /// The plugin, as `namespace:name`.
        plugin: String,
        /// The release that there is.
        has: String,
        /// The requirement.
        wanted: String,
    },
    /// The plugin is given as a crate, and the host cannot build one.
    #[error("{path}: a directory, and this host was built without the feature `build`")]
    CannotBuild {
        /// The directory.
        path: PathBuf,
    },
    /// A plugin is below itself.
    #[error("plugins start each other in a circle: {}", plugins.join(" -> "))]
    Circle {
        /// The plugins of the circle, each of which starts the next.
        plugins: Vec<String>,
    },
    /// Two directories are granted under one path.
    #[error("{plugin}: {problem}")]
    SamePath {
        /// The plugin.
        plugin: String,
        /// The path and the directories.
        problem: String,
    },
    /// A granted directory cannot be opened.
    #[error("{plugin} is granted {host} as {guest}, which cannot be opened")]
    Directory {
        /// The plugin.
        plugin: String,
        /// The directory.
        host: PathBuf,
        /// Its path in the plugin.
        guest: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The plugin imports a task, and nothing provides it.
    #[error("{plugin} starts {sub_agent}, and no sub-agent is declared for it")]
    Undeclared {
        /// The plugin.
        plugin: String,
        /// The sub-agent with its version.
        sub_agent: String,
        /// The sub-agent without its version.
        name: String,
    },
    /// The manifest of the plugin declares a sub-agent in an invalid way.
    #[error("the manifest's sub-agent {name}: {problem}")]
    Declaration {
        /// The sub-agent.
        name: String,
        /// The problem.
        problem: String,
    },
    /// The plugin was built against another sub-agent than the given one.
    #[error("{plugin} starts {wanted}, but {problem}")]
    Mismatch {
        /// The plugin with its version.
        plugin: String,
        /// The name of the plugin.
        name: String,
        /// The sub-agent that it was built against, with its version.
        wanted: String,
        /// The name of the sub-agent.
        wanted_name: String,
        /// The difference.
        problem: String,
    },
}

impl Classify for LoadError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::UnusedSubAgent { .. } | Self::SamePath { .. } => ErrorClass::Usage,
            Self::Directory { .. } => ErrorClass::Config,
            _ => ErrorClass::Plugin,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::UnusedSubAgent { root, starts, .. } => match starts.as_slice() {
                [] => format!("{root} starts no sub-agents."),
                starts => format!("{root} starts {}.", starts.join(", ")),
            },
            Self::NoProject { .. } => "Give the host one with `HostBuilder::project`, or give a .wasm file.".into(),
            Self::OtherBuiltIn { .. } => "Leave the version out, or use the program that has this release.".into(),
            Self::CannotBuild { .. } => "Build the crate and give its .wasm file.".into(),
            Self::Circle { .. } => {
                "A plugin cannot be below itself; put the shared part into a plugin of its own.".into()
            }
            Self::SamePath { .. } => {
                "Give each directory a path of its own, those in the plugin's [grants] entry included.".into()
            }
            Self::Directory { plugin, .. } => {
                format!("Create the directory, or correct `dirs` in [grants.\"{plugin}\"]; it must not be a link.")
            }
            Self::Undeclared { name, .. } => format!(
                "Name its place: `\"{name}\" = \"PATH\"` under [sub-agents] in agenthost.toml, or \
                 [package.metadata.agenthost.sub-agents] in the plugin's Cargo.toml."
            ),
            Self::Declaration { .. } => {
                "Write `path = \"../crate\"` or a .wasm file, and perhaps `limits = { tokens = \"20k\" }`.".into()
            }
            Self::Mismatch { name, wanted_name, .. } => {
                format!("Build {name} again against the {wanted_name} that it is given, or give it another.")
            }
        })
    }
}

/// The reason for which the items of a batch cannot be read, or its results cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The name of the file does not show the format of the items.
    #[error("{name}: the name does not show the format of the items")]
    UnknownFormat {
        /// The name of the file.
        name: String,
    },
    /// The file of items is missing or cannot be read.
    #[error("cannot read {name}")]
    Read {
        /// The file.
        name: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The path names a device.
    #[error("{path}: is a device")]
    Device {
        /// The path.
        path: PathBuf,
    },
    /// The path names a directory.
    #[error("{path}: is a directory")]
    Directory {
        /// The path.
        path: PathBuf,
    },
    /// The items cannot be copied to a temporary file.
    #[error("{name}: cannot be copied to {spool}")]
    Spool {
        /// The name of the items.
        name: String,
        /// The directory of the temporary file.
        spool: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file of items is not text in UTF-8.
    #[error("{name}: is {what}")]
    Foreign {
        /// The name of the items.
        name: String,
        /// The kind of file.
        what: &'static str,
        /// How to get a file that can be read.
        hint: &'static str,
    },
    /// The items are not in their format.
    #[error("{name}: {problem}")]
    Format {
        /// The name of the items.
        name: String,
        /// The problem and its line.
        problem: String,
    },
    /// The items of one task are valid on their own, but not together.
    #[error("{name}: the items on lines {first} to {last} do not fit together: {problem}")]
    Together {
        /// The name of the items.
        name: String,
        /// The line of the first item.
        first: u64,
        /// The line of the last item.
        last: u64,
        /// The problem.
        problem: String,
    },
    /// A result has no JSON form.
    #[error("{name}: cannot write JSON")]
    Json {
        /// The name of the results.
        name: String,
        /// The cause.
        source: serde_json::Error,
    },
    /// The results cannot be written.
    #[error("cannot write the results to {name}")]
    Write {
        /// The name of the results.
        name: String,
        /// The cause.
        source: std::io::Error,
    },
}

impl Classify for BatchError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::UnknownFormat { .. } => ErrorClass::Usage,
            Self::Spool { .. } | Self::Json { .. } | Self::Write { .. } => ErrorClass::Host,
            _ => ErrorClass::Input,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::UnknownFormat { .. } => "Name the format: JSON Lines, CSV or JSON.",
            Self::Read { .. } => "Give a file of items that can be read.",
            Self::Device { .. } | Self::Directory { .. } => "Give a file of items.",
            Self::Spool { .. } => "Make room there, set TMPDIR to another directory, or give the items as a file.",
            Self::Foreign { hint, .. } => hint,
            Self::Format { .. } => "The items are JSON Lines, CSV or a JSON array.",
            Self::Together { .. } => "Put fewer items into a task.",
            Self::Write { source, .. } if is_full(source.kind()) => "Make room, or name a file elsewhere.",
            Self::Write { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe => {
                "The reader of the results has ended; write them to a file."
            }
            Self::Write { .. } => "Name a file that can be written.",
            Self::Json { .. } => return None,
        };
        Some(hint.into())
    }
}

/// Returns whether the error means that there is no room for more data.
fn is_full(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind;
    matches!(
        kind,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_the_typed_error_of_the_most_specific_part() {
        let file = PluginFileError::Invalid {
            path: "x.wasm".into(),
            source: ComponentError::Empty,
        };
        let error = Error::from(file).context("sub-agent demo:x");
        assert!(matches!(cause(&error), Cause::Component(ComponentError::Empty)));
        assert!(matches!(
            error.downcast_ref(),
            Some(PluginFileError::Invalid { path, .. }) if path.ends_with("x.wasm")
        ));
        let run = || JournalError::Running {
            run: "r".into(),
            pid: 7,
        };
        assert!(matches!(
            cause(&run().into()),
            Cause::Journal(JournalError::Running { pid: 7, .. })
        ));
        assert!(matches!(cause(&Error::host("out of luck")), Cause::Other));
    }
}
