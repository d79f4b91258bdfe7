//! What the operator decided: which models there are, who serves them, what a task may use, what a plugin may have.
//!
//! Two files are read: the project's `agenthost.toml`, found upwards from the working directory, over the operator's own
//! `~/.config/agenthost/config.toml`. The upper file wins entry by entry: a model, a limit, a grant, a price; the fields
//! of a provider one by one, unless it changes the provider's kind. Every key is known or refused, every complaint names
//! file and line, and all surroundings come in through [`Env`].
//!
//! A project's file may come from a stranger, so where it sends a key to an address of its own, or grants a directory
//! outside its own folder, [`trust`] is asked first. A key itself is read at the moment of use and stands in no file of ours.
//!
//! This module decides nothing about a task: it does not open a provider, enforce a limit or look for a plugin.

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

/// The name of a project's file.
pub const PROJECT_FILE: &str = "agenthost.toml";

/// The configuration in force: both files merged, checked, and completed with what goes without saying.
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

/// Which lifts of the operator's limits count.
#[derive(Clone, Copy)]
enum Lifting {
    /// Those that the operator accepted.
    Accepted,
    /// All of them, to see what the file asks for.
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

/// One provider, complete.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderConfig {
    /// What it speaks.
    pub kind: ProviderKind,
    /// Where it is; none for a kind that uses no network.
    pub address: Option<Address>,
    /// Where its key is found; none for a service without keys.
    pub key: Option<KeySource>,
    /// The most requests in a minute, to all its models together, where the operator set it.
    pub requests_per_minute: Option<u64>,
    /// The most tokens in a minute, input and output of all its models together, where the operator set it.
    pub tokens_per_minute: Option<u64>,
    /// The most requests in flight to one of its models, at least 1, where the operator set it.
    pub max_concurrency: Option<u32>,
    /// The requests in flight to one of its models at the start, at least 1, where the operator set it.
    pub initial_concurrency: Option<u32>,
    /// Further attempts after the first, of errors that another attempt can help; 0 is none. Where the operator set it.
    pub retries: Option<u32>,
    /// How long a call may be without an answer before a second attempt of it starts, not zero; without it none does.
    pub hedge_after: Option<Duration>,
    /// Whether, of requests that share a long prefix, one goes first so that the rest read the provider's prompt cache;
    /// unset is yes.
    pub warm_prefix: Option<bool>,
    /// How long to wait for the first byte of an answer, not zero, where the operator set it.
    pub timeout: Option<Duration>,
    /// Whether `key` is the kind's usual variable rather than the operator's choice.
    key_assumed: bool,
}

/// What a provider speaks, with what only this kind needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderKind {
    /// The Messages wire.
    Anthropic,
    /// The Chat Completions wire.
    OpenAi {
        /// How the limit on output is called there.
        max_tokens_field: MaxTokensField,
    },
    /// Answers made up on this machine.
    Offline,
    /// Answers read from a file.
    Script {
        /// The file, absolute.
        file: PathBuf,
    },
}

impl ProviderKind {
    /// The kind as it is written in a file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi { .. } => "openai",
            Self::Offline => "offline",
            Self::Script { .. } => "script",
        }
    }
}

/// How an OpenAI-compatible service calls the limit on output tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaxTokensField {
    /// `max_completion_tokens`, written `max-completion-tokens`: the vendor's own.
    #[default]
    MaxCompletionTokens,
    /// `max_tokens`, written `max-tokens`: that of many older compatible servers.
    MaxTokens,
}

/// A provider's address and who chose it.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    /// The base URL, http or https, without a slash at its end.
    pub url: String,
    /// Who chose it.
    pub set_by: SetBy,
}

/// Who chose an address.
#[derive(Clone, Debug, PartialEq)]
pub enum SetBy {
    /// Nobody: it is the vendor's own.
    Vendor,
    /// The operator, by this variable.
    Variable(&'static str),
    /// A file.
    File(Origin),
}

/// Where a key is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// In an environment variable of this name.
    Variable(String),
    /// In a file of its own, absolute.
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
    /// Whether input is reserved at its bytes, a true upper bound, instead of an estimate of its tokens.
    pub strict_tokens: bool,
    /// The most tasks that are alive at the same time, where the operator set it.
    pub max_concurrent_tasks: Option<u32>,
    /// Bytes kept of a task's standard output and error.
    pub log_bytes: u64,
    /// Limits on the sum over all root tasks; none unless the operator set one.
    pub limits: Limits,
    /// What `memory` says among these limits; `None` if it says nothing, and the machine bounds what a run holds.
    pub memory: Option<Cap<u64>>,
    /// Whether `memory` counts only as far as it is below what the machine allows by default: a project's file says it, and
    /// the operator does not.
    pub memory_within_default: bool,
}

/// The durable record of runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// Whether runs are recorded.
    pub enabled: bool,
    /// Where, absolute; without it beside the project's file, or in the user's state directory.
    pub file: Option<PathBuf>,
    /// What is kept of requests and replies.
    pub bodies: BodyRetention,
    /// The most bytes that one run may write; the run ends when it has. `None` if nothing bounds it.
    pub max_run_bytes: Option<u64>,
}

/// What a journal keeps of requests and replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyRetention {
    /// Requests, inputs and replies.
    #[default]
    All,
    /// Replies only: enough to resume, and to replay.
    Replies,
    /// Neither: what was paid for is known, and what came back is not.
    None,
}

/// What a plugin may have.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// The model names it may ask for, all of them in [`Config::models`].
    pub models: BTreeSet<String>,
    /// The limits of its tasks, at most [`Config::limits`].
    pub limits: Limits,
    /// What the entry itself says of limits.
    own_limits: Limits,
    /// The directories that it may have, each under a path of its own.
    pub dirs: Vec<DirGrant>,
}

/// Where the plugin behind an import is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubAgent {
    /// A component file or a crate directory, absolute.
    Path(PathBuf),
    /// A reference to a registry, as written.
    Reference(String),
}

/// Where the plugins of a namespace are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryConfig {
    /// An OCI registry: `host`, or `host/repository`, below which `namespace/name` is found.
    Oci(String),
    /// A directory, absolute, in which `namespace/name` is found.
    Dir(PathBuf),
}

/// A model's price as the operator gives it, in US dollars for a million tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceConfig {
    /// Those of every request, or of the shorter ones.
    pub rates: RatesConfig,
    /// `long-context`: the input tokens above which a whole request has other rates, and those.
    pub long_context: Option<(u64, RatesConfig)>,
}

/// Prices in US dollars for a million tokens, as the operator gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RatesConfig {
    /// `input`
    pub input: Option<Usd>,
    /// `output`
    pub output: Option<Usd>,
    /// `cache-read`
    pub cache_read: Option<Usd>,
    /// `cache-write`: for five minutes.
    pub cache_write: Option<Usd>,
    /// `cache-write-1h`: for an hour.
    pub cache_write_1h: Option<Usd>,
}

impl Config {
    /// The configuration at `env`'s working directory.
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
    /// [`Config`](agenthost_core::error::ErrorClass::Config) for a file that cannot be read or is wrong;
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied) where a key would go to an address, or a plugin would be given a
    /// directory, that needs [`trust`] first.
    pub fn load(env: &Env) -> Result<Self> {
        let config = Self::unchecked(env, None, Lifting::Accepted)?;
        trust::check(&config)?;
        Ok(config)
    }

    /// What goes without saying, in no file and no variable: what a rehearsal runs with.
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
    /// None that an operator could cause.
    pub fn builtin() -> Result<Self> {
        resolve(
            &Env::new(BTreeMap::new(), "/", None),
            (file::Layer::default(), None),
            (file::Layer::default(), None),
            &Accepted::All,
        )
    }

    /// The configuration with `file` in the place of the project's; it must exist.
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
    /// As [`Config::load`]: a file that was named may come from a stranger just as well as one that was found.
    pub fn load_from(env: &Env, file: &Path) -> Result<Self> {
        let config = Self::unchecked(env, Some(file), Lifting::Accepted)?;
        trust::check(&config)?;
        Ok(config)
    }

    /// The `agenthost.toml` that counts at `env`'s working directory, which may lie in any directory above.
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
    /// [`Config`](agenthost_core::error::ErrorClass::Config) where a directory cannot be looked into.
    pub fn find_project_file(env: &Env) -> Result<Option<PathBuf>> {
        for dir in env.cwd().ancestors() {
            let path = dir.join(PROJECT_FILE);
            if exists(&path)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// The configuration before any question of trust.
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

    /// What the project's file asks for beyond the operator's own and does not get, for people; each with the cure.
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

    /// The prices of the operator's own file, below which no project's file prices a model.
    pub fn price_floors(&self) -> &BTreeMap<ModelRef, PriceConfig> {
        &self.price_floors
    }

    /// Whether a file other than the operator's own sets the entry, by its keys joined with dots.
    pub fn is_by_project(&self, entry: &str) -> bool {
        self.origin(entry)
            .is_some_and(|origin| self.user_file() != Some(origin.file()))
    }

    /// The environment variables that hold keys.
    pub fn key_variables(&self) -> impl Iterator<Item = &str> {
        self.providers.values().filter_map(|provider| match &provider.key {
            Some(KeySource::Variable(name)) => Some(name.as_str()),
            Some(KeySource::File(_)) | None => None,
        })
    }

    /// What the configuration was read in.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// What each model name stands for: at least one model, the first to be tried first.
    pub fn models(&self) -> &BTreeMap<String, Vec<ModelRef>> {
        &self.models
    }

    /// Whether nothing was configured and no vendor's key is set, so that all answers are made up on this machine.
    pub fn is_offline_default(&self) -> bool {
        self.models_assumed
            && self.models.values().flatten().all(|model| {
                self.providers
                    .get(&model.provider)
                    .is_some_and(|provider| provider.kind == ProviderKind::Offline)
            })
    }

    /// A provider by its name.
    pub fn provider(&self, name: &str) -> Option<&ProviderConfig> {
        self.providers.get(name)
    }

    /// All providers, used or not.
    pub fn providers(&self) -> &BTreeMap<String, ProviderConfig> {
        &self.providers
    }

    /// The limits of a task that no grant narrows.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Output tokens reserved for a call that names no maximum; 8,192 unless set.
    pub fn reply_tokens(&self) -> u32 {
        self.reply_tokens
    }

    /// Settings of a run as a whole.
    pub fn run(&self) -> &RunConfig {
        &self.run
    }

    /// What compiling one plugin may use.
    pub fn compile(&self) -> CompileConfig {
        self.compile
    }

    /// The durable record of runs.
    pub fn journal(&self) -> &JournalConfig {
        &self.journal
    }

    /// What the plugin `namespace:name` may have: its entry in `[grants]`, or every model within [`Config::limits`] and
    /// no directory.
    pub fn grant(&self, plugin: &str) -> Grant {
        self.grants.get(plugin).cloned().unwrap_or_else(|| Grant {
            models: self.models.keys().cloned().collect(),
            limits: self.limits.clone(),
            own_limits: Limits::none(),
            dirs: Vec::new(),
        })
    }

    /// The limits that the plugin's entry in `[grants]` sets, whatever [`Config::limits`] says; none without an entry.
    pub fn granted_limits(&self, plugin: &str) -> Limits {
        self.grants
            .get(plugin)
            .map_or_else(Limits::none, |grant| grant.own_limits.clone())
    }

    /// Where the plugins behind imports are found, by `namespace:name`.
    pub fn sub_agents(&self) -> &BTreeMap<String, SubAgent> {
        &self.sub_agents
    }

    /// The operator's own prices.
    pub fn prices(&self) -> &BTreeMap<ModelRef, PriceConfig> {
        &self.prices
    }

    /// Where the plugins of a namespace are kept, by the namespace; `*` stands for every other.
    pub fn registries(&self) -> &BTreeMap<String, RegistryConfig> {
        &self.registries
    }

    /// Policy files beside the project's own: those of the operator's file, and those of the project's.
    pub fn policies(&self) -> &[PathBuf] {
        &self.policies
    }

    /// The folder of the project: that of its file, or the working directory.
    pub fn project_dir(&self) -> PathBuf {
        let folder = self.project_file.as_deref().and_then(Path::parent);
        folder.map_or_else(|| self.env.cwd().to_owned(), Path::to_owned)
    }

    /// Where an entry was set, by its keys joined with dots: `models.fast`, `providers.corp.base-url`. None for what
    /// goes without saying.
    pub fn origin(&self, entry: &str) -> Option<&Origin> {
        self.origins.get(entry)
    }

    /// The project's file, or the one named in its place.
    pub fn project_file(&self) -> Option<&Path> {
        self.project_file.as_deref()
    }

    /// The operator's own file, where there is one.
    pub fn user_file(&self) -> Option<&Path> {
        self.user_file.as_deref()
    }
}

/// Whether there is anything at `path`, be it a link to nothing: that is found, and then an error, not passed over.
fn exists(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(Error::config(format!("cannot read {}: {error}", path.display()))),
    }
}

#[cfg(test)]
mod tests;
