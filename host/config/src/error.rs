//! Errors about configuration files, keys and trust.

use std::io;
use std::path::PathBuf;

use crate::dirs::DirGrant;
use crate::origin::Origin;
use crate::settings::KeySource;
use agenthost_core::error::{Classify, ErrorClass, Inner};
use agenthost_core::llm::ServerToolGrants;
use agenthost_core::nearest::nearest;
use agenthost_core::printable::one_line;
use agenthost_core::request_field::FieldProblem;

/// A mistake in one TOML file: a configuration, a policy or a vet file.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// use agenthost_config::{Config, ConfigError, Env, FileError};
///
/// std::fs::write(dir.join("agenthost.toml"), "\n[limits]\nmoney = 5\n")?;
/// match Config::load(&Env::new([].into(), dir, None)) {
///     Err(ConfigError::File(FileError::UnknownKey { at, section, key, .. })) => {
///         assert_eq!((at.line(), section.as_str(), key.as_str()), (3, "limits", "money"));
///     }
///     other => panic!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file, or a directory on the way to it, cannot be read.
    #[error("cannot read {shown}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The file for display.
        shown: String,
        /// `true` if the user named the file, instead of the host finding it.
        named: bool,
        /// The cause; its kind is `NotFound` for a missing file.
        source: io::Error,
    },
    /// The file is larger than any such file is.
    #[error("cannot read {shown}: it is larger than {} MiB", limit >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The file for display.
        shown: String,
        /// The maximum size in bytes.
        limit: u64,
    },
    /// The file is not valid TOML.
    #[error("{at}: {problem}")]
    Syntax {
        /// The place of the mistake.
        at: Origin,
        /// The parser's description of it.
        problem: String,
        /// `true` if a key is repeated.
        duplicate: bool,
    },
    /// A key is not known.
    #[error("{at}: unknown key `{key}` {}", in_section_or_top(section))]
    UnknownKey {
        /// The place of the key.
        at: Origin,
        /// The name of its table; empty for the top level.
        section: String,
        /// The key.
        key: String,
        /// The keys that the table can have.
        known: Vec<String>,
    },
    /// A required key is missing from the top level.
    #[error("{at}: `{key}` is missing")]
    MissingKey {
        /// The start of the file.
        at: Origin,
        /// The key.
        key: &'static str,
        /// The next step.
        advice: &'static str,
    },
    /// An entry is invalid.
    #[error("{at}: `{key}`{}: {problem}", in_section(section))]
    Entry {
        /// The place of the mistake.
        at: Origin,
        /// The name of its table; empty for the top level.
        section: String,
        /// The key of the entry.
        key: String,
        /// The mistake.
        problem: EntryProblem,
        /// The next step.
        advice: Option<&'static str>,
    },
}

/// The mistake in one entry of a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryProblem {
    /// The value has another type.
    #[error("expected {expected}, found {found}")]
    Type {
        /// The types that the entry can have.
        expected: &'static str,
        /// The type that it has.
        found: &'static str,
    },
    /// The key of the entry, which the user chooses, is invalid.
    #[error("{0}")]
    Name(String),
    /// The value is invalid.
    #[error("{0}")]
    Value(String),
}

impl FileError {
    /// Adds the next step to an error about an entry.
    #[must_use]
    #[doc(hidden)]
    pub fn with_advice(mut self, text: &'static str) -> Self {
        if let Self::Entry { advice, .. } = &mut self {
            *advice = Some(text);
        }
        self
    }
}

impl Classify for FileError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Config
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Read { named, source, .. } if *named && source.kind() == io::ErrorKind::NotFound => {
                Some("Name a file that exists.".to_owned())
            }
            Self::Syntax { duplicate: false, .. } => Some(
                "Write [SECTION] on a line of its own, and below it lines such as key = \"text\", key = 5 or \
                 key = [\"a\", \"b\"]."
                    .to_owned(),
            ),
            Self::UnknownKey { key, known, .. } => Some(match nearest(key, known.iter().map(String::as_str)) {
                Some(near) => format!("Did you mean `{near}`?"),
                None => format!("The known keys here are {}.", known.join(", ")),
            }),
            Self::MissingKey { advice, .. } => Some((*advice).to_owned()),
            Self::Entry { advice, .. } => advice.map(str::to_owned),
            Self::Read { .. } | Self::TooLarge { .. } | Self::Syntax { duplicate: true, .. } => None,
        }
    }
}

/// The reason for which a configuration cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// One file has a mistake.
    #[error(transparent)]
    File(#[from] FileError),
    /// The section of a provider lacks a key that it needs.
    #[error("{}[providers.{provider}] has no `{key}`", place(at))]
    IncompleteProvider {
        /// The place of the section.
        at: Option<Origin>,
        /// The provider's name.
        provider: String,
        /// The missing key.
        key: &'static str,
    },
    /// A provider of kind `anthropic` is to use the parameter for any JSON object, which that API does not have.
    #[error(
        "{}`structured-output` in [providers.{provider}] is json-object, which kind = \"anthropic\" does not have",
        place(at)
    )]
    NoJsonObject {
        /// The place of the key.
        at: Option<Origin>,
        /// The provider's name.
        provider: String,
    },
    /// The section of a provider has a key that its kind does not have.
    #[error("{}`{key}` in [providers.{provider}] does not go with kind = \"{kind}\"", place(at))]
    KeyOfOtherKind {
        /// The place of the key.
        at: Option<Origin>,
        /// The provider's name.
        provider: String,
        /// The key.
        key: &'static str,
        /// The provider's kind.
        kind: &'static str,
    },
    /// A header of a provider is one that the wire of its kind sets itself.
    #[error(
        "{at}: `{header}` in [providers.{provider}.headers]: {}",
        if *of_key { "this header carries the provider's key" } else { "the host sets this header itself" }
    )]
    OwnHeader {
        /// The place of the header.
        at: Origin,
        /// The provider's name.
        provider: String,
        /// The header.
        header: String,
        /// `true` if it carries the key that the provider has.
        of_key: bool,
    },
    /// A model name is mapped to a provider that does not exist.
    #[error("{}`{model}` in [models] names the unknown provider `{provider}`", place(at))]
    UnknownProvider {
        /// The place of the entry.
        at: Option<Origin>,
        /// The model name.
        model: String,
        /// The provider.
        provider: String,
        /// All providers that exist.
        known: Vec<String>,
    },
    /// Offline models are asked for, and the name of their provider is that of another kind.
    #[error("no provider has the kind `offline`, so the offline models that were asked for cannot answer")]
    NoOfflineProvider,
    /// A grant lists a model name that does not exist.
    #[error("{}`models` in [grants.\"{plugin}\"] names the unknown model `{model}`", place(at))]
    UnknownModel {
        /// The place of the entry.
        at: Option<Origin>,
        /// The plugin of the grant.
        plugin: String,
        /// The model name.
        model: String,
        /// All model names that exist.
        known: Vec<String>,
    },
    /// An environment variable has an invalid address.
    #[error("the environment variable {variable}: {problem}")]
    AddressVariable {
        /// The variable.
        variable: &'static str,
        /// The mistake, without the address.
        problem: String,
    },
    /// A project's file places the journal outside its own folder.
    #[error("{}`file` in [journal] lies outside the folder of a project's file", place(at))]
    JournalOutside {
        /// The place of the entry.
        at: Option<Origin>,
    },
    /// A schedule of a project's file reads a file outside the folder of the project's file.
    #[error(
        "{}`{key}` in [schedules.{schedule}] names a file outside the folder of a project's file",
        place(at)
    )]
    ScheduleOutside {
        /// The place of the entry.
        at: Option<Origin>,
        /// The schedule's name.
        schedule: String,
        /// The key.
        key: &'static str,
    },
    /// A schedule reads a file through a link that a plugin can have made.
    #[error(
        "{}`{key}` in [schedules.{schedule}] leads through a link that a plugin may have made",
        place(at)
    )]
    ScheduleLink {
        /// The place of the entry.
        at: Option<Origin>,
        /// The schedule's name.
        schedule: String,
        /// The key.
        key: &'static str,
    },
    /// A project's file allows the compiler more than the user's own file does.
    #[error("{}`{key}` in [compile] is more than the user's own configuration allows", place(at))]
    CompileLimit {
        /// The place of the entry.
        at: Option<Origin>,
        /// The key.
        key: &'static str,
    },
    /// The file needs the operator's permission, or the record of trust cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl Classify for ConfigError {
    fn inner(&self) -> Option<Inner<'_>> {
        match self {
            Self::File(error) => Some(Inner::Typed(error)),
            Self::Trust(error) => Some(Inner::Typed(error)),
            _ => None,
        }
    }

    fn class(&self) -> ErrorClass {
        match self {
            Self::File(error) => error.class(),
            Self::Trust(error) => error.class(),
            Self::IncompleteProvider { .. }
            | Self::KeyOfOtherKind { .. }
            | Self::OwnHeader { .. }
            | Self::NoJsonObject { .. }
            | Self::UnknownProvider { .. }
            | Self::NoOfflineProvider
            | Self::UnknownModel { .. }
            | Self::AddressVariable { .. }
            | Self::JournalOutside { .. }
            | Self::ScheduleOutside { .. }
            | Self::ScheduleLink { .. }
            | Self::CompileLimit { .. } => ErrorClass::Config,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::KeyOfOtherKind {
                key: "headers" | "query",
                ..
            } => "Leave it out; only kind = \"anthropic\", \"openai\" and \"openai-responses\" send requests to a server.".to_owned(),
            Self::KeyOfOtherKind {
                key: "max-tokens-field",
                kind: "openai-responses",
                ..
            } => "Leave it out, or add kind = \"openai\" for chat completions, which have this field.".to_owned(),
            Self::KeyOfOtherKind { .. } => return None,
            Self::OwnHeader { of_key: true, .. } => {
                "Leave it out, or remove `key-env` and `key-file` to send this header instead of a key.".to_owned()
            }
            Self::OwnHeader { of_key: false, .. } => "Leave it out.".to_owned(),
            Self::NoJsonObject { .. } => "Write auto, schema or prompt.".to_owned(),
            Self::File(error) => return error.hint(),
            Self::Trust(error) => return error.hint(),
            Self::IncompleteProvider { key: "file", .. } => {
                "Add file = \"…\" with the answers that the script gives.".to_owned()
            }
            Self::IncompleteProvider { .. } => {
                "Add kind = \"anthropic\", \"openai\", \"openai-responses\", \"offline\" or \"script\".".to_owned()
            }
            Self::UnknownProvider { provider, known, .. } => unknown(provider, known, "providers"),
            Self::UnknownModel { model, known, .. } => unknown(model, known, "models"),
            Self::NoOfflineProvider => "Give the provider `offline` another name in [providers].".to_owned(),
            Self::AddressVariable { .. } => "Correct the variable, or unset it.".to_owned(),
            Self::JournalOutside { .. } => "Name a file below the folder, or set it in your own file.".to_owned(),
            Self::ScheduleOutside { .. } => {
                "Name a file below the folder, or write the schedule in your own file.".to_owned()
            }
            Self::ScheduleLink { .. } => {
                "Replace the link by the file or folder itself. A link of your own that has changed is followed after a restart.".to_owned()
            }
            Self::CompileLimit { key, .. } => {
                format!("Write `{key}` under [compile] in ~/.config/agenthost/config.toml.")
            }
        };
        Some(hint)
    }
}

/// The reason for which a provider's key, or a value for its headers or its query, cannot be used. No error contains
/// either.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is no such provider.
    #[error("unknown provider `{provider}`")]
    UnknownProvider {
        /// The name.
        provider: String,
    },
    /// The environment variable with the key is not set.
    #[error("no key for provider `{provider}`: the environment variable {variable} is not set")]
    Unset {
        /// The provider's name.
        provider: String,
        /// The provider's section for display, with its place.
        section: String,
        /// The variable.
        variable: String,
    },
    /// The key file cannot be read.
    #[error("cannot read the key file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Others can read or write the key file.
    #[error("the key file {path} can be used by others (mode {mode:03o})")]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The key file is larger than any key.
    #[error("the key file {path} is larger than {} KiB", limit >> 10)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The maximum size in bytes.
        limit: u64,
    },
    /// The place of the key is empty.
    #[error("{place} is empty")]
    Empty {
        /// The place.
        place: KeySource,
    },
    /// The place of the key has a text that is not a key.
    #[error("{place} does not hold a valid key: there is a blank, a line break or another character that no key has")]
    Malformed {
        /// The place.
        place: KeySource,
    },
    /// The environment variable with the value of a header or query parameter is not set.
    #[error("no value for the {field} of provider `{provider}`: the environment variable {variable} is not set")]
    FieldUnset {
        /// The provider's name.
        provider: String,
        /// The provider's section for display, with the place of the setting.
        section: String,
        /// The header or parameter for display.
        field: String,
        /// The variable.
        variable: String,
    },
    /// The environment variable has a text that a header or query parameter cannot carry.
    #[error("the environment variable {variable} does not hold a valid value for the {field}: {problem}")]
    Field {
        /// The header or parameter for display.
        field: String,
        /// The variable.
        variable: String,
        /// The mistake, without the value.
        problem: FieldProblem,
    },
    /// The address that would receive the key needs the operator's permission.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl Classify for KeyError {
    fn inner(&self) -> Option<Inner<'_>> {
        match self {
            Self::Trust(error) => Some(Inner::Typed(error)),
            _ => None,
        }
    }

    fn class(&self) -> ErrorClass {
        match self {
            Self::OpenToOthers { .. } => ErrorClass::Denied,
            Self::Trust(error) => error.class(),
            Self::UnknownProvider { .. }
            | Self::Unset { .. }
            | Self::Read { .. }
            | Self::TooLarge { .. }
            | Self::Empty { .. }
            | Self::Malformed { .. }
            | Self::FieldUnset { .. }
            | Self::Field { .. } => ErrorClass::Config,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownProvider { .. } | Self::Read { .. } | Self::TooLarge { .. } => None,
            Self::Unset { section, variable, .. } => Some(format!(
                "Set {variable}, or name another place with key-env or key-file in {section}."
            )),
            Self::OpenToOthers { path, .. } => Some(format!("Run `chmod 600 {}`.", path.display())),
            Self::Empty { .. } | Self::Malformed { .. } => Some("Put the key there, alone on one line.".to_owned()),
            Self::FieldUnset { section, variable, .. } => {
                Some(format!("Set {variable}, or name another variable in {section}."))
            }
            Self::Field { variable, problem, .. } => Some(format!("Correct {variable}. {}", problem.hint())),
            Self::Trust(error) => error.hint(),
        }
    }
}

/// A file that asks for more than it may have without the operator's permission, or a record of trust that cannot be
/// used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// A file sends a key or prompts to an address.
    #[error(
        "{at}: provider `{provider}` would send {} to {address}{}{}",
        sent(key.as_deref(), fields),
        if *clear { ", in clear text" } else { "" },
        changed_since(*changed)
    )]
    Provider {
        /// The place of the setting.
        at: Origin,
        /// The file for display.
        file: String,
        /// The provider's name.
        provider: String,
        /// The address.
        address: String,
        /// A description of the key's place; `None` if no key is sent.
        key: Option<String>,
        /// Descriptions of the headers and query parameters that are sent with each request, without their values.
        fields: Vec<String>,
        /// `true` if the connection is not encrypted.
        clear: bool,
        /// `true` if something else was accepted for the file before.
        changed: bool,
    },
    /// A file grants a directory to a plugin.
    #[error(
        "{at}: {plugin} could {access} {dir}, {}{}",
        if *inside {
            "where it could change what this project runs and what its files allow"
        } else {
            "which lies outside the folder of this file"
        },
        changed_since(*changed)
    )]
    Directory {
        /// The place of the grant.
        at: Origin,
        /// The file for display.
        file: String,
        /// `namespace:name` of the plugin.
        plugin: String,
        /// A description of the access.
        access: String,
        /// The directory.
        dir: PathBuf,
        /// `true` if the directory is in the folder of the file.
        inside: bool,
        /// `true` if something else was accepted for the file before.
        changed: bool,
    },
    /// A file grants tools of providers to a plugin.
    #[error(
        "{at}: {plugin} could use tools of a provider, to which a model can pass what it was given: {tools}{}",
        changed_since(*changed)
    )]
    ServerTools {
        /// The place of the grant.
        at: Origin,
        /// The file for display.
        file: String,
        /// `namespace:name` of the plugin.
        plugin: String,
        /// The tools with their bounds.
        tools: ServerToolGrants,
        /// `true` if something else was accepted for the file before.
        changed: bool,
    },
    /// A file has a schedule.
    #[error("{at}: the schedule `{schedule}` would run {runs}{}", changed_since(*changed))]
    Schedule {
        /// The place of the schedule.
        at: Origin,
        /// The file for display.
        file: String,
        /// The schedule's name.
        schedule: String,
        /// A description of the plugin, the times, the cost, the limits and the files.
        runs: String,
        /// `true` if a schedule of this name was accepted before.
        changed: bool,
    },
    /// A plugin in a folder that is not trusted has a name to which directories are granted.
    #[error(
        "{shown} calls itself {plugin}, but you do not trust its folder, and {} grants that name {}",
        granted_by.as_ref().map_or_else(|| "the configuration".to_owned(), ToString::to_string),
        dirs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    PluginName {
        /// The plugin's file or crate for display.
        shown: String,
        /// Its folder for display.
        folder: String,
        /// The name.
        plugin: String,
        /// The place of the grant.
        granted_by: Option<Origin>,
        /// The granted directories.
        dirs: Vec<DirGrant>,
    },
    /// Building a crate runs its code.
    #[error("building {} runs its code on this machine, outside of any sandbox: {}", one_line(shown), runs.join("; "))]
    Crate {
        /// The crate's directory, with all links resolved.
        dir: PathBuf,
        /// The directory for display.
        shown: String,
        /// Descriptions of what would run.
        runs: Vec<String>,
    },
    /// The file or folder to trust is a link.
    #[error("{shown} is a link to {target_shown}")]
    Link {
        /// The link for display.
        shown: String,
        /// The target.
        target: PathBuf,
        /// The target for display.
        target_shown: String,
    },
    /// The folder to trust holds more than projects.
    #[error("{shown} is too much to trust")]
    TooMuch {
        /// The folder for display.
        shown: String,
    },
    /// The file or folder in question cannot be found.
    #[error("cannot read {shown}")]
    Read {
        /// The file or folder for display.
        shown: String,
        /// The cause.
        source: io::Error,
    },
    /// The record of trust cannot be read.
    #[error("cannot read {path}")]
    ReadRecord {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The record of trust is damaged.
    #[error("cannot read {path}: {problem}")]
    BrokenRecord {
        /// The file.
        path: PathBuf,
        /// The parser's description of the mistake.
        problem: String,
    },
    /// A newer version wrote the record of trust.
    #[error("cannot read {path}: its format is {found}, and only those up to {known} are known")]
    RecordFormat {
        /// The file.
        path: PathBuf,
        /// The format of the file.
        found: u32,
        /// The newest known format.
        known: u32,
    },
    /// There is no home directory.
    #[error("there is no home directory to keep the record of trust in")]
    NoHome,
    /// The record of trust cannot be written.
    #[error("cannot write {path}")]
    WriteRecord {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Classify for TrustError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Provider { .. }
            | Self::Directory { .. }
            | Self::ServerTools { .. }
            | Self::Schedule { .. }
            | Self::PluginName { .. }
            | Self::Crate { .. } => ErrorClass::Denied,
            Self::Link { .. } | Self::TooMuch { .. } => ErrorClass::Usage,
            Self::Read { .. } => ErrorClass::Config,
            Self::ReadRecord { .. }
            | Self::BrokenRecord { .. }
            | Self::RecordFormat { .. }
            | Self::NoHome
            | Self::WriteRecord { .. } => ErrorClass::Host,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Provider { file, key, fields, .. } => {
                let what = if key.is_some() && fields.is_empty() {
                    "the key"
                } else {
                    "they"
                };
                format!("Read {file}, then trust it if {what} may go there.")
            }
            Self::Directory { file, .. } => {
                format!("Read {file}, then trust it if the plugin may have that directory.")
            }
            Self::ServerTools { file, .. } => {
                format!("Read {file}, then trust it if the plugin may use them.")
            }
            Self::Schedule { file, .. } => format!("Read {file}, then trust it if the schedule may run."),
            Self::PluginName { folder, .. } => {
                format!("Trust {folder} if the plugins there may have what is granted to them.")
            }
            Self::Crate { shown, .. } => format!("Read them, then trust {} if they may run.", one_line(shown)),
            Self::Link { .. } => "Name that file or folder itself if you mean it.".to_owned(),
            Self::TooMuch { .. } => "Name the folder of one project, or of one crate.".to_owned(),
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "Name a configuration file that exists.".to_owned()
            }
            Self::ReadRecord { .. } | Self::BrokenRecord { .. } | Self::RecordFormat { .. } => {
                "Remove the file, then trust the projects again.".to_owned()
            }
            Self::NoHome => "Set HOME or XDG_STATE_HOME to an absolute path.".to_owned(),
            Self::Read { .. } | Self::WriteRecord { .. } => return None,
        };
        Some(hint)
    }
}

fn in_section(section: &str) -> String {
    match section {
        "" => String::new(),
        section => format!(" in [{section}]"),
    }
}

fn in_section_or_top(section: &str) -> String {
    match section {
        "" => "at the top level".to_owned(),
        section => format!("in [{section}]"),
    }
}

/// Returns the start of a message about an entry, which may have no place.
fn place(at: &Option<Origin>) -> String {
    at.as_ref().map(|at| format!("{at}: ")).unwrap_or_default()
}

fn sent(key: Option<&str>, fields: &[String]) -> String {
    let first = key.map_or_else(|| "prompts".to_owned(), |key| format!("the key in {key}"));
    match fields {
        [] => first,
        [before @ .., last] => {
            let before: String = before.iter().map(|field| format!(", the {field}")).collect();
            format!("{first}{before} and the {last}")
        }
    }
}

fn changed_since(changed: bool) -> &'static str {
    match changed {
        true => "; this is not what was accepted for the file before",
        false => "",
    }
}

/// Returns the hint for an unknown name.
fn unknown(name: &str, known: &[String], what: &str) -> String {
    let all = known.join(", ");
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("Did you mean `{near}`? The known {what} are {all}."),
        None => format!("The known {what} are {all}."),
    }
}
