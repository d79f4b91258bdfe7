//! The operator's configuration: models and their providers, the limits of tasks, and what each plugin is granted.
//!
//! Two files are read: the project's `agenthost.toml`, found upwards from the working directory, and the operator's own
//! `~/.config/agenthost/config.toml`. The project's file overrides the operator's entry by entry (a model, a limit, a
//! grant, a price), and a provider field by field unless it changes the provider's kind. An unknown key is an error,
//! every error names the file and the line, and the environment is read only through [`Env`].
//!
//! A project's file may come from a stranger. If it sends a key to an address of its own, or grants a directory outside
//! its own folder, [`trust`] is checked first. A key is read at the moment of use and is never stored in a file of
//! ours.
//!
//! This crate decides nothing about a task: it does not open a provider, enforce a limit or look for a plugin.

mod compile;
mod dirs;
mod env;
mod file;
mod key;
mod merge;
#[doc(hidden)]
pub mod reader;
mod resolve;
#[cfg(test)]
mod scratch;
pub mod trust;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

pub use self::compile::CompileConfig;
pub use self::dirs::{DirGrant, DirQuota};
pub use self::env::Env;
use self::merge::Accepted;
pub use self::reader::Origin;
use self::resolve::resolve;
use self::trust::lifts::{Lift, TrustedLift};
use agenthost_core::error::{Error, Result};
use agenthost_core::limits::{Cap, Limits, Usd};
use agenthost_core::printable::shell_word;

/// The name of a project's configuration file.
pub const PROJECT_FILE: &str = "agenthost.toml";

/// The effective configuration: both files merged, validated, and completed with defaults.
#[derive(Clone, Debug)]
pub struct Config {
    models: BTreeMap<String, Vec<ModelRef>>,
    models_assumed: bool,
    providers: BTreeMap<String, ProviderConfig>,
    limits: Limits,
    reply_tokens: u32,
    run: RunConfig,
    compile: CompileConfig,
    journal: JournalConfig,
    grants: BTreeMap<String, Grant>,
    sub_agents: BTreeMap<String, SubAgent>,
    prices: BTreeMap<ModelRef, PriceConfig>,
    registries: BTreeMap<String, RegistryConfig>,
    price_floors: BTreeMap<ModelRef, PriceConfig>,
    policies: Vec<PathBuf>,
    lifts: Vec<Lift>,
    origins: BTreeMap<String, Origin>,
    project_file: Option<PathBuf>,
    user_file: Option<PathBuf>,
    env: Env,
}

/// The lifts of the operator's limits that take effect.
#[derive(Clone, Copy)]
enum Lifting {
    /// Those that the operator accepted.
    Accepted,
    /// All of them, to show what the file asks for.
    All,
}

/// A model at a provider, written `provider/model`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelRef {
    /// The provider's name: a key of `[providers]`, or one that needs no entry there.
    pub provider: String,
    /// The model's id at this provider; it may contain slashes.
    pub model: String,
}

impl FromStr for ModelRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((provider, model)) if !provider.is_empty() && !model.is_empty() => Ok(Self {
                provider: provider.to_owned(),
                model: model.to_owned(),
            }),
            _ => Err(format!(
                "`{text}` is not a model; write provider/model, such as anthropic/claude-haiku-5-5"
            )),
        }
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}

/// The complete settings of one provider.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderConfig {
    /// The wire format, or the source of replies.
    pub kind: ProviderKind,
    /// The provider's address; `None` for a kind that uses no network.
    pub address: Option<Address>,
    /// The source of the provider's key; `None` for a service without keys.
    pub key: Option<KeySource>,
    /// The maximum number of requests per minute, summed over all models; `None` if the operator set none.
    pub requests_per_minute: Option<u64>,
    /// The maximum number of input and output tokens per minute, summed over all models; `None` if the operator set
    /// none.
    pub tokens_per_minute: Option<u64>,
    /// The maximum number of requests in flight per model, at least 1; `None` if the operator set none.
    pub max_concurrency: Option<u32>,
    /// The initial number of requests in flight per model, at least 1; `None` if the operator set none.
    pub initial_concurrency: Option<u32>,
    /// The number of retries after a retryable error; 0 disables retries. `None` if the operator set none.
    pub retries: Option<u32>,
    /// The time without a reply after which a second attempt of a call starts, not zero; `None` disables hedging.
    pub hedge_after: Option<Duration>,
    /// Whether one of several requests that share a long prefix is sent first, so that the others read the provider's
    /// prompt cache; `None` means yes.
    pub warm_prefix: Option<bool>,
    /// The timeout for the first byte of a reply, not zero; `None` if the operator set none.
    pub timeout: Option<Duration>,
    /// The longest silence in a reply that has begun, not zero; `None` if the operator set none.
    pub silence: Option<Duration>,
    /// The way in which structured output is requested.
    pub structured_output: StructuredOutput,
    /// Whether `key` is the usual variable of the kind rather than the operator's choice.
    key_assumed: bool,
}

/// The kind of a provider, with the settings that only this kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderKind {
    /// The Anthropic Messages API.
    Anthropic,
    /// The OpenAI Chat Completions API.
    OpenAi {
        /// The name of the field that limits output tokens.
        max_tokens_field: MaxTokensField,
    },
    /// Replies made up on this machine.
    Offline,
    /// Replies read from a file.
    Script {
        /// The file, as an absolute path.
        file: PathBuf,
    },
}

impl ProviderKind {
    /// Returns the kind as it is written in a configuration file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi { .. } => "openai",
            Self::Offline => "offline",
            Self::Script { .. } => "script",
        }
    }
}

/// The name of the field with which an OpenAI-compatible service limits output tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaxTokensField {
    /// `max_completion_tokens`, written `max-completion-tokens`: used by OpenAI itself.
    #[default]
    MaxCompletionTokens,
    /// `max_tokens`, written `max-tokens`: used by many older compatible servers.
    MaxTokens,
}

/// The way in which a provider is asked for structured output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StructuredOutput {
    /// `auto`: with the schema as a parameter, or in the prompt for a model that does not support that.
    #[default]
    Auto,
    /// `schema`: with the schema as a parameter.
    Schema,
    /// `json-object`: with the parameter for any JSON object, and the schema in the prompt.
    JsonObject,
    /// `prompt`: with the schema in the prompt.
    Prompt,
}

/// A provider's address and its origin.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    /// The base URL, http or https, without a trailing slash.
    pub url: String,
    /// The origin of the URL.
    pub set_by: SetBy,
}

/// The origin of an address.
#[derive(Clone, Debug, PartialEq)]
pub enum SetBy {
    /// The vendor's own address, which no setting changed.
    Vendor,
    /// The operator, with this environment variable.
    Variable(&'static str),
    /// A configuration file.
    File(Origin),
}

/// The place of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The environment variable with this name.
    Variable(String),
    /// A file that holds nothing else, as an absolute path.
    File(PathBuf),
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "the environment variable {name}"),
            Self::File(path) => write!(f, "the key file {}", path.display()),
        }
    }
}

/// Settings of a run as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct RunConfig {
    /// Whether the reservation for input is its number of bytes, a true upper bound, instead of an estimate of its
    /// tokens.
    pub strict_tokens: bool,
    /// The maximum number of tasks alive at the same time; `None` if the operator set none.
    pub max_concurrent_tasks: Option<u32>,
    /// The number of bytes kept of a task's standard output and standard error.
    pub log_bytes: u64,
    /// Limits on the sum over all root tasks; unlimited unless the operator set a limit.
    pub limits: Limits,
    /// The `memory` entry of these limits; `None` if it is not set, in which case a default for this machine applies.
    pub memory: Option<Cap<u64>>,
    /// Whether `memory` takes effect only if it is below the default for this machine. True if a project's file sets it
    /// and the operator's file does not.
    pub memory_within_default: bool,
}

/// Settings of the durable record of runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// Whether runs are recorded.
    pub enabled: bool,
    /// The journal file, as an absolute path; `None` for the default place, beside the project's file or in the user's
    /// state directory.
    pub file: Option<PathBuf>,
    /// The parts of requests and replies that are kept.
    pub bodies: BodyRetention,
    /// The maximum number of bytes that one run may write; a run that reaches it ends. `None` if unlimited.
    pub max_run_bytes: Option<u64>,
}

/// The parts of requests and replies that a journal keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyRetention {
    /// Requests, inputs and replies.
    #[default]
    All,
    /// Replies only: enough to resume, and to replay.
    Replies,
    /// Neither. The journal records what was paid for, but not what was received.
    None,
}

/// The rights that the operator grants to a plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// The model names it may use, all of them in [`Config::models`].
    pub models: BTreeSet<String>,
    /// The limits of its tasks, at most [`Config::limits`].
    pub limits: Limits,
    /// The limits that the entry itself sets.
    own_limits: Limits,
    /// The directories it may access, each under a distinct guest path.
    pub dirs: Vec<DirGrant>,
}

/// The source of the plugin behind an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubAgent {
    /// A component file or a crate directory, as an absolute path.
    Path(PathBuf),
    /// A registry reference, as written.
    Reference(String),
}

/// The registry that holds the plugins of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryConfig {
    /// An OCI registry: `host`, or `host/repository`, which contains `namespace/name`.
    Oci(String),
    /// A directory, as an absolute path, which contains `namespace/name`.
    Dir(PathBuf),
}

/// A model's price set by the operator, in US dollars per million tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceConfig {
    /// The rates of every request, or of requests below the `long-context` threshold if there is one.
    pub rates: RatesConfig,
    /// `long-context`: the number of input tokens above which a whole request is charged at other rates, and those
    /// rates.
    pub long_context: Option<(u64, RatesConfig)>,
}

/// Rates set by the operator, in US dollars per million tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RatesConfig {
    /// `input`
    pub input: Option<Usd>,
    /// `output`
    pub output: Option<Usd>,
    /// `cache-read`
    pub cache_read: Option<Usd>,
    /// `cache-write`: with a lifetime of five minutes.
    pub cache_write: Option<Usd>,
    /// `cache-write-1h`: with a lifetime of one hour.
    pub cache_write_1h: Option<Usd>,
}

impl Config {
    /// Loads the configuration that applies in `env`'s working directory.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let project = tempfile::tempdir()?;
    /// # let project = project.path();
    /// use std::collections::BTreeMap;
    /// use agenthost_config::{Config, Env};
    ///
    /// std::fs::write(project.join("agenthost.toml"), "[models]\nfast = 'anthropic/claude-haiku-5-5'\n[limits]\ncalls = 10\n")?;
    /// let config = Config::load(&Env::new(BTreeMap::new(), project, None))?;
    /// assert_eq!(config.models()["fast"], ["anthropic/claude-haiku-5-5".parse()?]);
    /// assert_eq!(config.limits().calls, Some(10));
    /// assert_eq!(config.origin("limits.calls").map(|origin| origin.line()), Some(4));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Config`](agenthost_core::error::ErrorClass::Config) if a file cannot be read or is invalid;
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied) if a key would be sent to an address, or a plugin would
    /// get a directory, that needs [`trust`] first.
    pub fn load(env: &Env) -> Result<Self> {
        let config = Self::unchecked(env, None, Lifting::Accepted)?;
        trust::check(&config)?;
        Ok(config)
    }

    /// Returns the defaults, without reading a file or an environment variable. Rehearsals run with them.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let config = agenthost_config::Config::builtin()?;
    /// assert!(config.is_offline_default());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// None that a user can cause.
    pub fn builtin() -> Result<Self> {
        resolve(
            &Env::new(BTreeMap::new(), "/", None),
            (file::Layer::default(), None),
            (file::Layer::default(), None),
            &Accepted::All,
        )
    }

    /// Loads the configuration with `file` in place of the project's file; `file` must exist.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use std::collections::BTreeMap;
    /// use agenthost_config::{Config, Env};
    /// use agenthost_core::error::ErrorClass;
    ///
    /// let env = Env::new(BTreeMap::new(), dir, None);
    /// std::fs::write(dir.join("ci.toml"), "[limits]\ncost = 0.5\n")?;
    /// let config = Config::load_from(&env, "ci.toml".as_ref())?; // from the working directory of `env`
    /// assert_eq!(config.limits().cost, Some("$0.50".parse()?));
    ///
    /// std::fs::write(dir.join("ci.toml"), "[limits]\nmoney = 0.5\n")?;
    /// let error = Config::load_from(&env, "ci.toml".as_ref()).err().ok_or("a key that nobody knows")?;
    /// assert_eq!(error.class(), ErrorClass::Config);
    /// assert!(error.message().contains("ci.toml:2"), "{error}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Config::load`]: a file named by the user may come from a stranger, just like one that was found.
    pub fn load_from(env: &Env, file: &Path) -> Result<Self> {
        let config = Self::unchecked(env, Some(file), Lifting::Accepted)?;
        trust::check(&config)?;
        Ok(config)
    }

    /// Finds the `agenthost.toml` that applies in `env`'s working directory: in that directory or the nearest one above
    /// it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let project = tempfile::tempdir()?;
    /// # let project = project.path();
    /// use agenthost_config::{Config, Env};
    ///
    /// std::fs::write(project.join("agenthost.toml"), "")?;
    /// let below = Env::new([].into(), project.join("src/deeper"), None);
    /// assert_eq!(Config::find_project_file(&below)?, Some(project.join("agenthost.toml")));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Config`](agenthost_core::error::ErrorClass::Config) if a directory cannot be searched.
    pub fn find_project_file(env: &Env) -> Result<Option<PathBuf>> {
        for dir in env.cwd().ancestors() {
            let path = dir.join(PROJECT_FILE);
            if exists(&path)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// Loads the configuration without checking trust.
    fn unchecked(env: &Env, named: Option<&Path>, lifting: Lifting) -> Result<Self> {
        let found = named.is_none();
        let project = match named {
            Some(file) => Some(env.cwd().join(file)),
            None => Self::find_project_file(env)?,
        };
        let user = match env.user_file() {
            Some(file) if exists(&file)? => Some(file),
            _ => None,
        };
        let lower = user.clone().map(|path| file::read(env, path, true)).transpose()?;
        let upper = project.clone().map(|path| file::read(env, path, found)).transpose()?;
        let accepted = match lifting {
            Lifting::All => Accepted::All,
            Lifting::Accepted => Accepted::Some(trust::accepted_lifts(env, project.as_deref())),
        };
        resolve(
            env,
            (lower.unwrap_or_default(), user),
            (upper.unwrap_or_default(), project),
            &accepted,
        )
    }

    /// Returns human-readable notes on the lifts that the project's file asks for and the operator has not accepted,
    /// each with the command that accepts it.
    pub fn notes(&self) -> Vec<String> {
        let held = self.lifts.iter().filter(|lift| !lift.accepted);
        let note = |lift: &Lift| {
            let TrustedLift { entry, yours, theirs } = &lift.trusted;
            let place = lift
                .origin
                .as_ref()
                .map(|origin| format!("{origin}: "))
                .unwrap_or_default();
            let file = self
                .project_file
                .as_deref()
                .map(|file| self.env.shown(file))
                .unwrap_or_default();
            format!(
                "{place}{entry} stays at your {yours}, not {theirs}; `agenthost trust {}` lifts it",
                shell_word(&file)
            )
        };
        held.map(note).collect()
    }

    /// Returns the prices of the operator's own file. A project's file cannot set a lower price for a model.
    pub fn price_floors(&self) -> &BTreeMap<ModelRef, PriceConfig> {
        &self.price_floors
    }

    /// Returns whether a file other than the operator's own sets `entry`, which is its keys joined with dots.
    pub fn is_by_project(&self, entry: &str) -> bool {
        self.origin(entry)
            .is_some_and(|origin| self.user_file() != Some(origin.file()))
    }

    /// Returns the environment variables that hold keys.
    pub fn key_variables(&self) -> impl Iterator<Item = &str> {
        self.providers.values().filter_map(|provider| match &provider.key {
            Some(KeySource::Variable(name)) => Some(name.as_str()),
            Some(KeySource::File(_)) | None => None,
        })
    }

    /// Returns the environment in which the configuration was read.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Returns the models behind each model name: at least one, in the order in which they are tried.
    pub fn models(&self) -> &BTreeMap<String, Vec<ModelRef>> {
        &self.models
    }

    /// Returns whether no model is configured and no vendor's key is available, so that all replies are made up on this
    /// machine.
    pub fn is_offline_default(&self) -> bool {
        self.models_assumed
            && self.models.values().flatten().all(|model| {
                self.providers
                    .get(&model.provider)
                    .is_some_and(|provider| provider.kind == ProviderKind::Offline)
            })
    }

    /// Returns a provider by its name.
    pub fn provider(&self, name: &str) -> Option<&ProviderConfig> {
        self.providers.get(name)
    }

    /// Returns all providers, including unused ones.
    pub fn providers(&self) -> &BTreeMap<String, ProviderConfig> {
        &self.providers
    }

    /// Returns the limits of a task that no grant narrows.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the number of output tokens reserved for a call that sets no maximum; 8,192 by default.
    pub fn reply_tokens(&self) -> u32 {
        self.reply_tokens
    }

    /// Returns the settings of a run as a whole.
    pub fn run(&self) -> &RunConfig {
        &self.run
    }

    /// Returns the limits on compiling one plugin.
    pub fn compile(&self) -> CompileConfig {
        self.compile
    }

    /// Returns the settings of the durable record of runs.
    pub fn journal(&self) -> &JournalConfig {
        &self.journal
    }

    /// Returns the grant of the plugin `namespace:name`: its entry in `[grants]`, or, without one, every model within
    /// [`Config::limits`] and no directory.
    pub fn grant(&self, plugin: &str) -> Grant {
        self.grants.get(plugin).cloned().unwrap_or_else(|| Grant {
            models: self.models.keys().cloned().collect(),
            limits: self.limits.clone(),
            own_limits: Limits::none(),
            dirs: Vec::new(),
        })
    }

    /// Returns the limits that the plugin's entry in `[grants]` sets, regardless of [`Config::limits`]; unlimited if
    /// the plugin has no entry.
    pub fn granted_limits(&self, plugin: &str) -> Limits {
        self.grants
            .get(plugin)
            .map_or_else(Limits::none, |grant| grant.own_limits.clone())
    }

    /// Returns the sources of the plugins behind imports, by `namespace:name`.
    pub fn sub_agents(&self) -> &BTreeMap<String, SubAgent> {
        &self.sub_agents
    }

    /// Returns the configured prices.
    pub fn prices(&self) -> &BTreeMap<ModelRef, PriceConfig> {
        &self.prices
    }

    /// Returns the registry of each namespace; `*` is the key for all other namespaces.
    pub fn registries(&self) -> &BTreeMap<String, RegistryConfig> {
        &self.registries
    }

    /// Returns the policy files named by the operator's file and by the project's file. The project's own policy file
    /// is not among them.
    pub fn policies(&self) -> &[PathBuf] {
        &self.policies
    }

    /// Returns the project's folder: the folder of its file, or the working directory.
    pub fn project_dir(&self) -> PathBuf {
        let folder = self.project_file.as_deref().and_then(Path::parent);
        folder.map_or_else(|| self.env.cwd().to_owned(), Path::to_owned)
    }

    /// Returns where `entry` was set, given its keys joined with dots: `models.fast`, `providers.corp.base-url`. `None`
    /// for a default.
    pub fn origin(&self, entry: &str) -> Option<&Origin> {
        self.origins.get(entry)
    }

    /// Returns the project's file, or the file named in its place.
    pub fn project_file(&self) -> Option<&Path> {
        self.project_file.as_deref()
    }

    /// Returns the operator's own file; `None` if there is none.
    pub fn user_file(&self) -> Option<&Path> {
        self.user_file.as_deref()
    }
}

/// Returns whether `path` exists. A dangling link counts, so that it becomes an error when read instead of being
/// skipped.
fn exists(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(Error::config(format!("cannot read {}: {error}", path.display()))),
    }
}

#[cfg(test)]
mod tests;
