//! Errors of a sandbox that cannot start, of a plugin that it cannot load, and of an input that it cannot convert.

use std::path::PathBuf;
use std::time::Duration;

use agenthost_core::error::{Classify, ErrorClass, Inner};
use agenthost_plugin::ComponentError;
use agenthost_plugin::types::ValueError;

/// The reason for which a sandbox cannot start or cannot load a plugin.
///
/// ```
/// use agenthost_core::error::{Classify as _, ErrorClass};
/// use agenthost_sandbox::SandboxError;
///
/// let error = SandboxError::CompileMemory { limit: 64 << 20 };
/// assert_eq!(error.class(), ErrorClass::Plugin);
/// assert_eq!(error.to_string(), "compiling the plugin needs more than 64 MiB of memory, the limit `memory` in [compile]");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The engine cannot start or cannot link a function of the host.
    #[error("cannot {action}")]
    Engine {
        /// The action that failed, such as `start the WebAssembly engine`.
        action: String,
        /// The report of the engine.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The plugin is not a valid component.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// The plugin has more instances, memories or tables than this host has room for.
    #[error("the plugin is too large for this host: {problem}")]
    TooLarge {
        /// The report of the engine.
        problem: String,
    },
    /// The functions that the plugin imports have other types in this host.
    #[error("the plugin does not fit this host: {problem}")]
    OtherContract {
        /// The report of the engine.
        problem: String,
    },
    /// The compiler process cannot start.
    #[error("cannot start the compiler {program}")]
    StartCompiler {
        /// The program.
        program: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The compiler process started and cannot compile.
    #[error("the compiler cannot start: {problem}")]
    CompilerSetup {
        /// The report of the process.
        problem: String,
    },
    /// The output of the compiler process cannot be read.
    #[error("cannot read from the compiler")]
    ReadCompiler(#[source] std::io::Error),
    /// The program that should compile does not.
    #[error("the program that should compile is not a compiler")]
    NotACompiler,
    /// The program that should compile is of another version than this host.
    #[error("the compiler's result does not fit this host: it is of version {found}, and this host of {own}")]
    OtherCompiler {
        /// The version of the program.
        found: String,
        /// The version of this host.
        own: &'static str,
    },
    /// The compiler process failed for another reason than its limits.
    #[error("the compiler gave no code for the plugin: {problem}")]
    CompilerFailed {
        /// The way in which it ended.
        problem: String,
    },
    /// Compiling the plugin exceeds the limit on memory.
    #[error("compiling the plugin needs more than {} of memory, the limit `memory` in [compile]", size(*.limit))]
    CompileMemory {
        /// The limit in bytes.
        limit: u64,
    },
    /// Compiling the plugin exceeds the limit on time.
    #[error("compiling the plugin takes longer than {limit:?}, the limit `time` in [compile]")]
    CompileTime {
        /// The limit.
        limit: Duration,
    },
    /// The native code of the plugin is too large.
    #[error("the plugin's native code is larger than {} MiB", .most >> 20)]
    CodeTooLarge {
        /// The maximum size in bytes.
        most: u64,
    },
    /// The caller gave up loading.
    #[error("loading the plugin was abandoned")]
    Abandoned,
}

fn size(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{bytes} bytes"),
        mib => format!("{mib} MiB"),
    }
}

impl SandboxError {
    pub(crate) fn engine(action: impl Into<String>, error: wasmtime::Error) -> Self {
        Self::Engine {
            action: action.into(),
            source: error.into(),
        }
    }
}

impl Classify for SandboxError {
    fn inner(&self) -> Option<Inner<'_>> {
        match self {
            Self::Component(error) => Some(Inner::Typed(error)),
            _ => None,
        }
    }

    fn class(&self) -> ErrorClass {
        match self {
            Self::Component(error) => error.class(),
            Self::TooLarge { .. }
            | Self::OtherContract { .. }
            | Self::CompilerFailed { .. }
            | Self::CompileMemory { .. }
            | Self::CompileTime { .. }
            | Self::CodeTooLarge { .. } => ErrorClass::Plugin,
            Self::Engine { .. }
            | Self::StartCompiler { .. }
            | Self::CompilerSetup { .. }
            | Self::ReadCompiler(_)
            | Self::NotACompiler
            | Self::OtherCompiler { .. }
            | Self::Abandoned => ErrorClass::Host,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Component(error) => return error.hint(),
            Self::TooLarge { .. } => "Leave out what the plugin does not need, or build it from fewer modules.",
            Self::OtherContract { .. } => {
                "It was built against another version of agenthost:plugin; build it with the agenthost-sdk of this host's version."
            }
            Self::StartCompiler { .. } => "The machine may be out of processes or memory.",
            Self::NotACompiler => "Call `sandbox::compile_and_exit` first in its `main`.",
            Self::OtherCompiler { .. } => "Let the host compile with the program of its own version.",
            Self::CompilerFailed { .. } => {
                "Do not use this plugin unless you trust it; if you do, report it to its author."
            }
            Self::CompileMemory { .. } => {
                "Do not use a plugin that you do not trust; for one that you do, write a larger `memory` under [compile] in your own configuration."
            }
            Self::CompileTime { .. } => {
                "Do not use a plugin that you do not trust; for one that you do, write a longer `time` under [compile] in your own configuration."
            }
            Self::CodeTooLarge { .. } => "Leave out what the plugin does not need, and build it in release mode.",
            Self::Engine { .. } | Self::CompilerSetup { .. } | Self::ReadCompiler(_) | Self::Abandoned => return None,
        };
        Some(hint.into())
    }
}

/// The error for an input that is not a value of the plugin's input type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
#[non_exhaustive]
pub struct InvalidInput {
    /// The place and the problem.
    pub problem: ValueError,
    /// A value of the type, as JSON text.
    pub sample: String,
}

impl Classify for InvalidInput {
    fn class(&self) -> ErrorClass {
        ErrorClass::Input
    }

    fn hint(&self) -> Option<String> {
        Some(format!("The input has this form: {}", self.sample))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_that_is_too_demanding_is_told_from_a_host_that_is_broken() {
        let plugin = |error: SandboxError| error.class() == ErrorClass::Plugin && error.hint().is_some();
        assert!(plugin(SandboxError::CompileMemory { limit: 1 << 30 }));
        assert!(plugin(SandboxError::CompileTime {
            limit: Duration::from_secs(3)
        }));
        assert!(plugin(SandboxError::Component(ComponentError::Empty)));
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        let missing = SandboxError::StartCompiler {
            program: "/no/compiler".into(),
            source,
        };
        assert_eq!(missing.class(), ErrorClass::Host);
        assert_eq!(
            agenthost_core::error::with_causes(&missing),
            "cannot start the compiler /no/compiler: entity not found"
        );
    }

    #[test]
    fn a_small_limit_is_shown_in_bytes() {
        let error = SandboxError::CompileMemory { limit: 4_096 };
        assert!(error.to_string().contains("more than 4096 bytes of memory"), "{error}");
    }
}
