//! Errors of a build.

use std::path::{Path, PathBuf};

use super::compile_target::TARGET;
use super::summary::summary;
use crate::error::{ComponentError, PluginFileError};
use agenthost_core::error::{Classify, Error, ErrorClass, Inner};

/// The reason for which a crate cannot be built.
///
/// ```
/// use agenthost_plugin::build::{BuildError, build};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let empty = dir.path();
/// assert!(matches!(build(empty), Err(BuildError::NoManifest { dir }) if dir == empty));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The directory does not exist.
    #[error("{dir}: no such directory")]
    NoDirectory {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory has no `Cargo.toml`.
    #[error("{dir}: not a crate: it has no Cargo.toml")]
    NoManifest {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory is a workspace's, and not that of a package.
    #[error("{dir}: a workspace without a package of its own")]
    Workspace {
        /// The directory.
        dir: PathBuf,
        /// The directories of the first packages in it.
        members: Vec<String>,
    },
    /// The rules of the build do not permit the crate.
    #[error(transparent)]
    NotPermitted(Error),
    /// Cargo cannot read the crate.
    #[error("{dir}: cargo cannot read the crate: {}", summary(output))]
    Metadata {
        /// The directory of the crate.
        dir: PathBuf,
        /// The report of cargo.
        output: String,
    },
    /// The suggested limits in `Cargo.toml` are invalid.
    #[error("{}: [package.metadata.agenthost.limits]: {problem}", manifest(dir))]
    Limits {
        /// The directory of the crate.
        dir: PathBuf,
        /// The problem.
        problem: String,
    },
    /// The part that is kept back from sub-tasks, in `Cargo.toml`, is invalid.
    #[error("{}: [package.metadata.agenthost.keep-back]: {problem}", manifest(dir))]
    KeepBack {
        /// The directory of the crate.
        dir: PathBuf,
        /// The problem.
        problem: String,
    },
    /// The tools of providers that the plugin asks for, in `Cargo.toml`, are invalid.
    #[error("{}: [package.metadata.agenthost.server-tools]: {problem}", manifest(dir))]
    ServerTools {
        /// The directory of the crate.
        dir: PathBuf,
        /// The problem.
        problem: String,
    },
    /// The table of the host in `Cargo.toml` is invalid.
    #[error("{}: [package.metadata.agenthost]: {problem}", manifest(dir))]
    ManifestTable {
        /// The directory of the crate.
        dir: PathBuf,
        /// The problem.
        problem: String,
        /// The advice for the author, as a sentence.
        advice: &'static str,
    },
    /// A sub-agent is declared in an invalid way in `Cargo.toml`.
    #[error("{}: [package.metadata.agenthost.sub-agents]: `{name}`: {problem}", manifest(dir))]
    SubAgentEntry {
        /// The directory of the crate.
        dir: PathBuf,
        /// The sub-agent.
        name: String,
        /// The problem.
        problem: String,
    },
    /// The plugin at a sub-agent's place is another one.
    #[error(
        "{}: [package.metadata.agenthost.sub-agents]: `{name}` is at {path}, which is `{found}`",
        manifest(dir)
    )]
    OtherSubAgent {
        /// The directory of the crate.
        dir: PathBuf,
        /// The sub-agent, as `namespace:name`.
        name: String,
        /// Its place in the manifest.
        path: PathBuf,
        /// The plugin at that place, as `namespace:name`.
        found: String,
    },
    /// The crate is a sub-agent of itself, directly or through others.
    #[error("{dir}: it is a sub-agent of itself")]
    Circle {
        /// The directory of the crate.
        dir: PathBuf,
    },
    /// The WIT of a sub-agent cannot be copied.
    #[error("sub-agent {name}")]
    SubAgent {
        /// The sub-agent, as `namespace:name`.
        name: String,
        /// The reason.
        source: Box<BuildError>,
    },
    /// The `wit` directory of a sub-agent's crate has no WIT text.
    #[error("{dir} contains no .wit files")]
    NoWit {
        /// The directory.
        dir: PathBuf,
    },
    /// The component of a sub-agent has no WIT text embedded.
    #[error("{file} has no WIT text embedded")]
    NoEmbeddedWit {
        /// The component.
        file: PathBuf,
        /// The directory below `wit/deps` for the text.
        short: String,
    },
    /// A component embeds WIT text under a name that is not a plain file name.
    #[error("{file} embeds a file of the name {name:?}")]
    EmbeddedName {
        /// The component.
        file: PathBuf,
        /// The parts of the name.
        name: Vec<String>,
    },
    /// The WIT of a sub-agent cannot be read.
    #[error("cannot read {path}")]
    ReadSubAgent {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The WIT of a sub-agent cannot be written.
    #[error("cannot write {path}")]
    WriteSubAgent {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A WIT file of the crate cannot be read.
    #[error("cannot read {path}")]
    ReadWit {
        /// The file.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The crate has a copy of another version of the plugin contract.
    #[error("{file}: it is {package}@{found}, and this host has {package}@{known}")]
    OtherContract {
        /// The WIT file.
        file: String,
        /// The name of the contract.
        package: &'static str,
        /// The version of the copy.
        found: String,
        /// The version of this host.
        known: &'static str,
    },
    /// The WIT of the crate is invalid.
    #[error("the WIT in {dir} is wrong: {problem}")]
    Wit {
        /// The directory of the WIT.
        dir: String,
        /// The problem and its place.
        problem: String,
        /// The advice for the author, as a sentence.
        advice: String,
    },
    /// A tool cannot be run.
    #[error("cannot run {tool}")]
    Tool {
        /// The name of the program.
        tool: String,
        /// The cause.
        source: std::io::Error,
    },
    /// A tool does not report its version.
    #[error("{tool} fails: {}", summary(output))]
    ToolFails {
        /// The name of the program.
        tool: String,
        /// Its report.
        output: String,
    },
    /// The compile target is not installed.
    #[error("the compile target {TARGET} is missing{}", rustup.as_deref().map(|output| format!(" and rustup cannot add it: {}", summary(output))).unwrap_or_default())]
    TargetMissing {
        /// The report of rustup, if it was asked to add the target.
        rustup: Option<String>,
    },
    /// The plugin's own code does not compile.
    #[error("{dir}: the plugin does not compile\n{problems}")]
    Compile {
        /// The directory of the crate.
        dir: PathBuf,
        /// The first errors, one a line: place, code and text.
        problems: String,
        /// The report of the compiler.
        output: String,
        /// The advice for the author, as a sentence.
        advice: String,
    },
    /// The macro of the SDK reports an error.
    #[error("{dir}: {problem}")]
    Macro {
        /// The directory of the crate.
        dir: PathBuf,
        /// The report of the macro.
        problem: String,
        /// The advice of the macro, as a sentence.
        advice: Option<String>,
    },
    /// A dependency does not build for plugins.
    #[error("{dir}: the crate {package} cannot be built for {TARGET}: {}{}", if *.build_script { "its build script failed: " } else { "" }, summary(output))]
    Dependency {
        /// The directory of the crate.
        dir: PathBuf,
        /// The dependency, and the way to it if it is known.
        package: String,
        /// `true` if its build script failed, and not its code.
        build_script: bool,
        /// The report of the compiler or of cargo.
        output: String,
    },
    /// Cargo fails before it compiles anything.
    #[error("{dir}: cargo could not build the plugin: {}", summary(output))]
    Cargo {
        /// The directory of the crate.
        dir: PathBuf,
        /// The report of cargo.
        output: String,
        /// The cause, as far as the report shows it.
        cause: CargoFailure,
    },
    /// The crate has no library.
    #[error("{dir}: the crate {package} has no library")]
    NoLibrary {
        /// The directory of the crate.
        dir: PathBuf,
        /// The name of the crate.
        package: String,
    },
    /// The crate's library is not built as a component.
    #[error("{dir}: the crate {package} builds no component")]
    NoComponent {
        /// The directory of the crate.
        dir: PathBuf,
        /// The name of the crate.
        package: String,
    },
    /// The component is not a plugin.
    #[error("{dir}")]
    NotAPlugin {
        /// The directory of the crate.
        dir: PathBuf,
        /// The reason.
        source: ComponentError,
    },
    /// A file that is the result of the build cannot be read or written.
    #[error("cannot read or write {path}")]
    Result {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The metadata of the build cannot be added to the component.
    #[error("{path}: cannot add metadata to the component: {problem}")]
    Metadatum {
        /// The component.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// The WIT of a component cannot be printed.
    #[error("{path}: its WIT cannot be printed: {problem}")]
    PrintWit {
        /// The component.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// There is no temporary directory for a build.
    #[error("cannot create a directory to build in")]
    Scratch(#[source] std::io::Error),
    /// A record of the build has no JSON form.
    #[error("cannot record the build")]
    Record(#[source] serde_json::Error),
    /// The file of a plugin cannot be read.
    #[error(transparent)]
    File(#[from] PluginFileError),
}

/// The cause of a failure of cargo, as far as its report shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CargoFailure {
    /// The compile target is not installed.
    TargetMissing,
    /// A dependency cannot be fetched or resolved.
    Dependency,
    /// Another cause.
    Other,
}

const RUST: &str = "Building a plugin needs Rust with cargo, as rustup installs it; a built .wasm file needs neither.";
const CDYLIB: &str =
    "A plugin is a library: give it a src/lib.rs, and `crate-type = [\"cdylib\"]` under [lib] in its Cargo.toml.";
const LEAVE_OUT: &str = "A plugin has no sockets, no threads and no C library: leave the crate out, or turn off the feature that \
                         brings it, often with `default-features = false`.";

/// Returns the manifest of the crate in `dir`, for a message.
fn manifest(dir: &Path) -> String {
    dir.join("Cargo.toml").display().to_string()
}

/// Returns a hint for installing the target.
fn install() -> String {
    format!("Run `rustup target add {TARGET}`, or install the {TARGET} standard library of your Rust.")
}

impl BuildError {
    /// Returns the report of the tool that failed. `None` if no tool failed, or if the error's text has all of the
    /// report.
    ///
    /// ```
    /// use agenthost_plugin::build::{BuildError, CargoFailure};
    ///
    /// let output = "error: failed to get `words`\n\nCaused by:\n  no such directory\n".to_owned();
    /// let error = BuildError::Cargo { dir: "x".into(), output, cause: CargoFailure::Dependency };
    /// assert_eq!(error.to_string(), "x: cargo could not build the plugin: failed to get `words`: no such directory");
    /// assert!(error.output().is_some_and(|output| output.contains("Caused by")));
    /// ```
    pub fn output(&self) -> Option<&str> {
        let output = match self {
            Self::SubAgent { source, .. } => return source.output(),
            Self::Metadata { output, .. }
            | Self::ToolFails { output, .. }
            | Self::Compile { output, .. }
            | Self::Dependency { output, .. }
            | Self::Cargo { output, .. } => output,
            Self::TargetMissing { rustup: Some(output) } => output,
            _ => return None,
        };
        Some(output.trim_end()).filter(|output| output.lines().count() > 1)
    }
}

impl Classify for BuildError {
    fn inner(&self) -> Option<Inner<'_>> {
        match self {
            Self::File(error) => Some(Inner::Typed(error)),
            Self::NotPermitted(error) => Some(Inner::Erased(error)),
            _ => None,
        }
    }

    fn class(&self) -> ErrorClass {
        match self {
            Self::NotPermitted(error) => error.class(),
            Self::SubAgent { source, .. } => source.class(),
            Self::Scratch(_) | Self::Record(_) => ErrorClass::Host,
            _ => ErrorClass::Plugin,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoDirectory { .. } => "Give a crate directory or a .wasm file that exists.",
            Self::NoManifest { .. } => "Give the directory that contains the plugin's Cargo.toml, or a .wasm file.",
            Self::Workspace { members, .. } => {
                let such = match members.as_slice() {
                    [] => String::new(),
                    members => format!(", such as {}", members.join(", ")),
                };
                return Some(format!("Give the directory of the plugin's own package{such}."));
            }
            Self::NotPermitted(error) => return error.hint().map(str::to_owned),
            Self::Metadata { .. } => "Fix the error; `cargo metadata` in that directory repeats it.",
            Self::Limits { .. } => {
                "Write limits as under [limits] in agenthost.toml: tokens = 20_000, memory = \"32MiB\", timeout = \"1m\"."
            }
            Self::KeepBack { .. } => {
                "Write a share of the limits, and the sub-agents that may use it too: share = \"25%\", for = [\"demo:compare\"]."
            }
            Self::ServerTools { .. } => {
                "Write the tools with their bounds, or a list of names: web-search = { max-uses = 5 }, or server-tools = [\"web-search\"]."
            }
            Self::ManifestTable { advice, .. } => advice,
            Self::SubAgentEntry { .. } => {
                "Write the path of a crate or of a .wasm file, and perhaps limits: { path = \"../crate\", limits = { tokens = \"20k\" } }."
            }
            Self::OtherSubAgent { name, found, .. } => {
                return Some(format!("Write the path of {name} there, or the name `{found}`."));
            }
            Self::Circle { .. } => {
                "Break the circle in [package.metadata.agenthost.sub-agents]: of two plugins, one starts the other."
            }
            Self::SubAgent { source, .. } => return source.hint(),
            Self::NoWit { .. } => "Give the directory of the sub-agent's crate, or its .wasm file.",
            Self::NoEmbeddedWit { short, .. } => {
                return Some(format!("Copy the plugin's .wit files into wit/deps/{short} by hand."));
            }
            Self::EmbeddedName { .. } => "Do not trust the component: names of WIT files are plain.",
            Self::ReadSubAgent { .. } => "Give the directory of the sub-agent's crate.",
            Self::WriteSubAgent { .. } => "The build keeps the sub-agents' WIT there.",
            Self::ReadWit { .. } => "A .wit file is text in UTF-8 that this user can read.",
            Self::OtherContract { .. } => {
                "Delete the copy, which agenthost-sdk brings along, and use the agenthost-sdk of this host's version; or use an \
                 agenthost of that version."
            }
            Self::Wit { advice, .. } => advice,
            Self::Tool { .. } => RUST,
            Self::ToolFails { .. } => "Repair the toolchain; `rustup show` shows the one that is in use.",
            Self::TargetMissing { .. } => return Some(install()),
            Self::Compile { advice, .. } => advice,
            Self::Macro { advice, .. } => advice
                .as_deref()
                .unwrap_or("The types of a plugin come from its WIT: fix the error in it."),
            Self::Dependency { .. } => LEAVE_OUT,
            Self::Cargo { cause, .. } => match cause {
                CargoFailure::TargetMissing => return Some(install()),
                CargoFailure::Dependency => {
                    "Correct the dependency in Cargo.toml, or make its registry reachable: cargo cannot fetch or resolve it."
                }
                CargoFailure::Other => "Fix the error and run the command again.",
            },
            Self::NoLibrary { .. } | Self::NoComponent { .. } => CDYLIB,
            Self::NotAPlugin {
                source: ComponentError::NoTask { exports },
                ..
            } if exports.is_empty() => {
                "Write the types of the task to wit/world.wit, and `agenthost_sdk::plugin!();` with a function `run` to src/lib.rs."
            }
            Self::NotAPlugin { source, .. } => return source.hint(),
            Self::Scratch(_) => "TMPDIR names the place of temporary files; a build takes some 500 MB.",
            Self::File(error) => return error.hint(),
            Self::Result { .. } | Self::Metadatum { .. } | Self::PrintWit { .. } | Self::Record(_) => return None,
        };
        Some(hint.into())
    }
}
