//! Errors of a plugin that is read: its bytes, its file, its imports, its digest. Errors of a build are in
//! [`build`](crate::build).

use std::path::PathBuf;

use agenthost_core::error::{Classify, ErrorClass};

use crate::types::ValueError;

/// The reason for which bytes are not a plugin.
///
/// ```
/// use agenthost_plugin::{ComponentError, Plugin};
///
/// match Plugin::read(b"\0asm\x01\0\0\0") {
///     Err(ComponentError::CoreModule { built_for }) => println!("it was built for {built_for}"),
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComponentError {
    /// There are no bytes.
    #[error("the file is empty")]
    Empty,
    /// The bytes are a core module.
    #[error("the file is {built_for}, not a component")]
    CoreModule {
        /// The environment that the module was built for.
        built_for: CoreEnvironment,
    },
    /// The bytes are WebAssembly of another version.
    #[error("the file is WebAssembly of a version that this host does not know")]
    OtherVersion,
    /// The bytes are native code.
    #[error("the file is native code, not WebAssembly")]
    NativeCode,
    /// The bytes are WebAssembly text.
    #[error("the file is WebAssembly text, not a binary component")]
    Text,
    /// The bytes are something else.
    #[error("the file is not WebAssembly")]
    NotWasm,
    /// The bytes are a WIT package.
    #[error("the file is a WIT package without code")]
    WitPackage,
    /// The bytes begin like a component and are not a valid one.
    #[error("the component is broken: {problem}")]
    Broken {
        /// The first problem that the parser found.
        problem: String,
    },
    /// A part of the component exceeds a bound of this host.
    #[error("{subject} {} {things}; at most {} are allowed", counted(*.count), thousands(*.most))]
    OverBound {
        /// The part and its verb, such as `the component nests`.
        subject: &'static str,
        /// The number; [`u64::MAX`] if it cannot be counted.
        count: u64,
        /// The counted things, in the plural.
        things: &'static str,
        /// The bound.
        most: u64,
        /// The advice for the author, as a sentence.
        advice: &'static str,
    },
    /// The component instantiates something that cannot be counted before it is compiled.
    #[error("the component instantiates a {part} that it imports or takes from an instance")]
    Uncountable {
        /// `component` or `module`.
        part: &'static str,
    },
    /// The component exports no interface `task`.
    #[error(
        "the component exports no interface `task`; it exports {}",
        if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") }
    )]
    NoTask {
        /// The names of its exports.
        exports: Vec<String>,
    },
    /// The component exports more than one interface `task`.
    #[error("the component exports several tasks: {}", tasks.join(", "))]
    SeveralTasks {
        /// Their names.
        tasks: Vec<String>,
    },
    /// The interface `task` does not belong to a package.
    #[error("the interface `task` belongs to no package")]
    NoPackage,
    /// The interface `task` has no function `run`.
    #[error("the plugin's interface {task} has no function `run`")]
    NoRun {
        /// The name of the interface.
        task: String,
    },
    /// An imported interface `task` has functions, but not `run`.
    #[error("the plugin imports {import}, which has no function `run`")]
    SubAgentWithoutRun {
        /// The name of the import.
        import: String,
    },
    /// The function `run` does not have exactly one parameter.
    #[error("{task}: `run` takes {count} parameters instead of one")]
    Parameters {
        /// The name of the interface.
        task: String,
        /// The number of parameters.
        count: usize,
    },
    /// A type of `run` has no JSON form.
    #[error("{task} has a type without a JSON form")]
    UnsupportedType {
        /// The name of the interface.
        task: String,
        /// The type and its place.
        source: ValueError,
    },
}

/// The environment that a core module was built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoreEnvironment {
    /// WASI preview 1.
    #[error("a core module for WASI preview 1")]
    Preview1,
    /// A web page.
    #[error("a core module for a web page")]
    Web,
    /// An unknown environment.
    #[error("a core WebAssembly module")]
    Unknown,
}

impl CoreEnvironment {
    /// The compile target that a Rust plugin was probably built for.
    pub fn target(self) -> &'static str {
        match self {
            Self::Preview1 => "wasm32-wasip1",
            Self::Web => "wasm32-unknown-unknown",
            Self::Unknown => "wasm32-unknown-unknown or another target without components",
        }
    }
}

impl ComponentError {
    /// Creates the error for bytes that begin like a component and are not a valid one.
    #[doc(hidden)]
    pub fn broken(problem: impl std::fmt::Display) -> Self {
        Self::Broken {
            problem: problem.to_string(),
        }
    }
}

/// Formats a count that is over a bound.
fn counted(count: u64) -> String {
    match count {
        u64::MAX => "countless".to_owned(),
        count => thousands(count),
    }
}

/// Formats a number with thousands separators: `1,073,741,824`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

const BUILD: &str = "Build it for the target wasm32-wasip2, in release mode.";
const SHAPE: &str = "A plugin's world exports one interface `task` of its own package: `world my-plugin { include agenthost:plugin/plugin@0.1.0; export task; }`.";

impl Classify for ComponentError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Plugin
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Empty | Self::OtherVersion | Self::Text | Self::NotWasm => BUILD,
            Self::CoreModule { built_for } => {
                return Some(format!(
                    "It was built for {}; build it for wasm32-wasip2.",
                    built_for.target()
                ));
            }
            Self::NativeCode => "Precompiled plugins are never loaded; give the .wasm file.",
            Self::WitPackage => "Give the plugin's own .wasm file; this one only describes interfaces.",
            Self::Broken { .. } => "The file may be truncated or damaged; build or download it again.",
            Self::OverBound { advice, .. } => advice,
            Self::Uncountable { part } => {
                return Some(format!(
                    "Such a {part} cannot be counted before it is compiled; nest it where it is instantiated."
                ));
            }
            Self::NoTask { .. } | Self::SeveralTasks { .. } | Self::NoPackage => SHAPE,
            Self::NoRun { .. } => {
                "The interface `task` has one function: `run: async func(input: T) -> result<U, failure>`."
            }
            Self::SubAgentWithoutRun { .. } => {
                "An interface `task` is the task of another plugin: `run: async func(input: T) -> result<U, failure>`."
            }
            Self::Parameters { .. } => {
                "Put what the task needs into one record: `run: async func(input: T) -> result<U, failure>`."
            }
            Self::UnsupportedType { .. } => {
                "A task takes and returns plain values; give what the resource holds instead of the resource."
            }
        };
        Some(hint.into())
    }
}

/// The reason for which the file of a plugin cannot be read.
///
/// ```
/// use agenthost_plugin::{Plugin, PluginFileError};
///
/// match Plugin::open("no-such.wasm".as_ref()) {
///     Err(PluginFileError::Read { path, source }) => {
///         assert_eq!(path.to_str(), Some("no-such.wasm"));
///         assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
///     }
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginFileError {
    /// The file is missing or cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The path names a directory, a device or a pipe.
    #[error("{path}: not a file")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file is larger than [`MAX_PLUGIN_BYTES`](crate::MAX_PLUGIN_BYTES).
    #[error("{path}: {} MiB, and a plugin has at most {} MiB", .bytes >> 20, .most >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The maximum size.
        most: u64,
    },
    /// The content is not a plugin.
    #[error("{path}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: ComponentError,
    },
}

impl Classify for PluginFileError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Plugin
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                "Give a .wasm file or a crate directory that exists, or a plugin of agenthost.lock as NAMESPACE:NAME."
            }
            Self::Read { .. } => "Make the file readable for this user.",
            Self::NotAFile { .. } => "Give a .wasm file or a crate directory.",
            Self::TooLarge { .. } => "Build it in release mode and without debug information, or give the right file.",
            Self::Invalid { source, .. } => return source.hint(),
        };
        Some(hint.into())
    }
}

/// The error for text that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a digest", .text.escape_debug())]
pub struct InvalidDigest {
    /// The text.
    pub text: String,
}

impl Classify for InvalidDigest {
    fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }

    fn hint(&self) -> Option<String> {
        Some("Write sha256: and 64 lower-case hexadecimal digits.".into())
    }
}

#[cfg(test)]
mod tests {
    use agenthost_core::error::with_causes;

    use super::*;
    use crate::{Digest, Plugin};

    #[test]
    fn the_cause_of_an_unreadable_file_is_a_variant() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str| Plugin::open(&dir.path().join(name)).unwrap_err();
        let missing = open("none.wasm");
        assert!(missing.hint().unwrap().starts_with("Give a .wasm file"));
        assert!(
            matches!(missing, PluginFileError::Read { ref source, .. } if source.kind() == std::io::ErrorKind::NotFound)
        );
        assert!(matches!(open("."), PluginFileError::NotAFile { .. }));
        std::fs::write(dir.path().join("module.wasm"), b"\0asm\x01\0\0\0").unwrap();
        let module = open("module.wasm");
        assert!(with_causes(&module).ends_with("module.wasm: the file is a core WebAssembly module, not a component"));
        let PluginFileError::Invalid { source, .. } = module else {
            panic!("{module:?}");
        };
        let built_for = CoreEnvironment::Unknown;
        assert!(matches!(source, ComponentError::CoreModule { built_for: found } if found == built_for));
    }

    #[test]
    fn text_that_is_not_a_digest_is_in_the_error() {
        let error = "sha256:00".parse::<Digest>().unwrap_err();
        assert_eq!(error.text, "sha256:00");
        assert_eq!(
            (error.to_string(), error.class()),
            ("`sha256:00` is not a digest".into(), ErrorClass::Usage)
        );
    }
}
