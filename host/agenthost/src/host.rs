//! The host, which assembles all the parts.
//!
//! [`Host::builder`] takes a [`Config`] and makes an engine, a price table and the providers; [`Host::load`] turns a
//! `.wasm` file or a crate into a [`LoadedPlugin`]; [`Host::spawn`] starts a run of it and returns at once with a
//! [`RunHandle`]. Only this module names concrete providers; all other modules use traits.

mod answer;
mod attempts;
mod batch;
mod calls;
mod ceiling;
mod checks;
mod estimate;
mod load;
mod plugin_source;
mod record;
mod run;
mod settings;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};

use crate::price::{Price, PriceTable};
use agenthost_config::{BodyRetention, Config, DirGrant, ModelRef, ProviderConfig, ProviderKind};
use agenthost_core::error::{Error, Result};
use agenthost_core::limits::{Cap, Limits, LimitsPatch};
use agenthost_core::llm::{CallError, Provider};
use agenthost_gate::Gate;
use agenthost_journal::Journal;
use agenthost_plugin::Plugin;
#[cfg(feature = "build")]
use agenthost_plugin::build::BuildRules;
use agenthost_providers::StructuredOutput;
use agenthost_providers::anthropic::Anthropic;
use agenthost_providers::offline::Offline;
use agenthost_providers::openai::{self, OpenAi};
use agenthost_providers::script::Script;
use agenthost_registry::project::Project;
use agenthost_sandbox::{Code, Compile, Machine, MemoryBound, RunMemory, Sandbox, Settings};

pub use self::batch::{Batch, BatchResume};
use self::ceiling::Ceiling;
pub use self::plugin_source::PluginSource;
pub use self::run::RunHandle;
use self::settings::MAX_LINEAR_MEMORY;
pub use self::settings::sandbox_settings;

/// A host of sub-agent tasks. Clones are cheap and refer to the same host.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    sandbox: Sandbox,
    config: Config,
    providers: BTreeMap<String, ProviderSlot>,
    prices: PriceTable,
    estimates: estimate::Estimates,
    /// Compiles schemas and validates replies.
    checks: checks::Checks,
    /// The memory that the tasks of all runs hold together.
    memory: Arc<RunMemory>,
    state: Option<PathBuf>,
    /// The journal of the runs, and how much of each it keeps.
    journal: Option<(Arc<dyn Journal>, BodyRetention)>,
    /// Resolves references and decides which plugins may run.
    project: Option<Arc<Project>>,
    /// The crates that may be built; `None` for the default rules.
    #[cfg(feature = "build")]
    builds: Option<BuildRules>,
}

/// A provider, created by its first call: a missing key is an error only if a task uses the provider.
struct ProviderSlot {
    made: OnceLock<std::result::Result<Served, String>>,
}

/// A provider behind its gate.
struct Served {
    provider: Arc<dyn Provider>,
    /// The provider kind, as it is written in configuration files.
    kind: &'static str,
    gate: Gate,
    /// The time without a reply after which a second request is sent beside the first.
    hedge_after: Option<Duration>,
    /// Whether the first of several requests with the same prefix is sent ahead of the others; `None` if not
    /// configured.
    warm_prefix: Option<bool>,
}

impl Served {
    /// Returns whether to look for shared prefixes in requests to a model. `pays` is the default: whether caching saves
    /// money at its prices.
    fn warms(&self, pays: bool) -> bool {
        self.warm_prefix.unwrap_or(pays)
    }
}

/// A builder of a [`Host`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// use std::sync::Arc;
/// use agenthost::config::{BodyRetention, Config};
/// use agenthost::host::Host;
/// use agenthost::journal::sqlite::Sqlite;
///
/// let host = Host::builder(Config::builtin()?)
///     .cache_dir(Some(dir.join("compiled"))) // a plugin is compiled once
///     .state_dir(Some(dir.join("state"))) // rate limits are shared with other processes
///     .journal(Arc::new(Sqlite::open(&dir.join("journal.db"))?), BodyRetention::All)
///     .build()?;
/// assert!(host.keeps_journal());
/// # Ok(())
/// # }
/// ```
pub struct HostBuilder {
    config: Config,
    cache: Option<PathBuf>,
    compile: Compile,
    state: Option<PathBuf>,
    journal: Option<(Arc<dyn Journal>, BodyRetention)>,
    project: Option<Arc<Project>>,
    #[cfg(feature = "build")]
    builds: Option<BuildRules>,
    max_memory: u64,
    providers: BTreeMap<String, Arc<dyn Provider>>,
}

/// A plugin that is ready to run, any number of times.
///
/// It dereferences to [`Plugin`], which has its identity, digest and types.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost::config::Config;
/// use agenthost::host::Host;
/// use serde_json::json;
///
/// # let component = double();
/// let plugin = Host::builder(Config::builtin()?).build()?.load_bytes(&component)?;
/// assert_eq!(plugin.sample_input(), json!(0));
/// let error = plugin.check_input(&json!(-1)).err().ok_or("it fits")?;
/// assert!(error.message().starts_with("input: "), "{error}");
/// # Ok(())
/// # }
/// ```
pub struct LoadedPlugin {
    plugin: Plugin,
    code: Code,
    /// The plugins that it can start, by import.
    sub_agents: BTreeMap<String, SubAgent>,
    /// The directories that its tasks can open.
    dirs: Vec<DirGrant>,
    /// The upper bound of what its tasks get, whatever is granted.
    ceiling: Ceiling,
    /// Human-readable notes about how the plugin was obtained, for example that a compile target was installed.
    notes: Vec<String>,
}

/// Options of [`Host::load_with`], in addition to the configuration.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The places of sub-agents, by `namespace:name`. They take precedence over the configuration and over manifests.
    pub with: BTreeMap<String, PluginSource>,
    /// Directories for the plugin itself, in addition to those of its grant. Its sub-agents do not get them.
    pub dirs: Vec<DirGrant>,
}

/// A plugin that another plugin can start.
struct SubAgent {
    plugin: Arc<LoadedPlugin>,
    /// The limits that the declaration sets for each of its tasks. A limit that it does not mention is not narrowed.
    limits: Limits,
}

impl LoadedPlugin {
    /// Checks that `json` is a valid input of this plugin.
    pub fn check_input(&self, json: &serde_json::Value) -> Result<()> {
        self.code.input(json).map(|_| ())
    }

    /// Returns a small input of the right type.
    pub fn sample_input(&self) -> serde_json::Value {
        self.code.sample()
    }

    /// Returns the plugins that its tasks can start, each with the name of its import.
    pub fn sub_agents(&self) -> impl Iterator<Item = (&str, &LoadedPlugin)> {
        let sub_agents = self.sub_agents.iter();
        sub_agents.map(|(import, sub_agent)| (import.as_str(), &*sub_agent.plugin))
    }

    /// Returns the model names that its tasks can use: those of its grant, except those that the policies or its own
    /// manifest exclude.
    pub fn models(&self, config: &Config) -> BTreeSet<String> {
        self.ceiling.models(config.grant(&self.plugin.id.name).models)
    }

    /// Returns the limits that the policies set for its tasks.
    pub fn allowed(&self) -> &Limits {
        &self.ceiling.limits
    }

    /// Returns human-readable notes about how the plugin was obtained.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl std::ops::Deref for LoadedPlugin {
    type Target = Plugin;

    fn deref(&self) -> &Plugin {
        &self.plugin
    }
}

impl HostBuilder {
    /// Keeps compiled plugins in `dir`, a directory of this user alone. Without it, every load compiles.
    #[must_use]
    pub fn cache_dir(mut self, dir: Option<PathBuf>) -> Self {
        self.cache = dir;
        self
    }

    /// Compiles plugins in this process, which is the default, or in a child process with limits on its memory and
    /// time. Both bound what a component may contain. Use a child process for plugins that are not trusted.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::config::Config;
    /// use agenthost::host::Host;
    /// use agenthost::sandbox::{Compile, CompileLimits};
    ///
    /// // For this, `main` must begin with `agenthost::sandbox::compile_and_exit`.
    /// let compile = Compile::Child { program: "/proc/self/exe".into(), limits: CompileLimits::default() };
    /// let host = Host::builder(Config::builtin()?).compile(compile).build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn compile(mut self, compile: Compile) -> Self {
        self.compile = compile;
        self
    }

    /// Shares the state of rate limits with this user's other processes, in `dir`, a directory of this user alone.
    /// Without it, the state is private to this host.
    #[must_use]
    pub fn state_dir(mut self, dir: Option<PathBuf>) -> Self {
        self.state = dir;
        self
    }

    /// Uses `project` to resolve references, by its lock file and the cache, and to decide which plugins may run, by
    /// its policies. Without a project, plugins are files, crates and bytes, and no policy applies.
    #[must_use]
    pub fn project(mut self, project: impl Into<Arc<Project>>) -> Self {
        self.project = Some(project.into());
        self
    }

    /// Builds crates under `rules`. Without rules, the host builds the crates that the embedder names and those that
    /// their manifests name; a crate that a project's configuration names needs the operator's
    /// [trust](agenthost_config::trust::crates).
    #[cfg(feature = "build")]
    #[must_use]
    pub fn builds(mut self, rules: BuildRules) -> Self {
        self.builds = Some(rules);
        self
    }

    /// Records runs in `journal`, so that they can be resumed and replayed. `bodies` selects the texts that it keeps.
    /// With [`BodyRetention::None`], nothing can be replayed, and resuming keeps only the finished tasks of a batch. A run
    /// fails with class `host` if the journal cannot be written.
    #[must_use]
    pub fn journal(mut self, journal: Arc<dyn Journal>, bodies: BodyRetention) -> Self {
        self.journal = Some((journal, bodies));
        self
    }

    /// Raises the most linear memory that a task of this host can get, in bytes. It is never below the configured
    /// limit.
    #[must_use]
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.max_memory = self.max_memory.max(bytes);
        self
    }

    /// Uses `provider` as the provider that the configuration declares under `name`, for embedders and tests. A name
    /// that the configuration does not declare is ignored.
    ///
    /// The documentation of [`Provider`] shows how to write one.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use agenthost::config::Config;
    /// use agenthost::host::Host;
    /// use agenthost::providers::script::Script;
    ///
    /// let script = Script::parse("[[rule]]\ntext = 'Blue.'", "always-blue")?;
    /// let host = Host::builder(Config::builtin()?).provider("offline", Arc::new(script)).build()?;
    /// assert_eq!(host.pressure(), (0, 0)); // nothing in flight, nothing waits
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn provider(mut self, name: impl Into<String>, provider: Arc<dyn Provider>) -> Self {
        self.providers.insert(name.into(), provider);
        self
    }

    /// Starts the engine and returns the host.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Host`](agenthost_core::error::ErrorClass::Host) if the engine cannot be set up on this machine,
    /// and [`ErrorClass::Config`](agenthost_core::error::ErrorClass::Config) for an invalid price.
    pub fn build(mut self) -> Result<Host> {
        let sandbox = Sandbox::new(&Settings {
            max_memory: self.max_memory.min(MAX_LINEAR_MEMORY),
            cache: self.cache,
            compile: self.compile,
            ..sandbox_settings(&self.config)
        })?;
        let prices = PriceTable::of(&self.config)?;
        let providers = self.config.providers().iter().map(|(name, provider)| {
            let made = match self.providers.remove(name) {
                Some(given) => OnceLock::from(Ok(Served::new(given, provider, None))),
                None => OnceLock::new(),
            };
            (name.clone(), ProviderSlot { made })
        });
        let providers = providers.collect();
        let memory = match self.config.run().memory {
            _ if self.config.run().memory_within_default => sandbox.host_memory(),
            None => sandbox.host_memory(),
            Some(Cap::Unlimited) => MemoryBound::configured(None),
            // The bound of the host is at least that of one run.
            Some(Cap::At(bytes)) => match sandbox.host_memory() {
                half if half.bytes.is_some_and(|half| half > bytes) => half,
                _ => MemoryBound::configured(Some(bytes)),
            },
        };
        Ok(Host {
            inner: Arc::new(Inner {
                sandbox,
                config: self.config,
                providers,
                prices,
                estimates: estimate::Estimates::default(),
                checks: checks::Checks::new(),
                memory: Arc::new(RunMemory::of_host(memory)),
                state: self.state,
                journal: self.journal,
                project: self.project,
                #[cfg(feature = "build")]
                builds: self.builds,
            }),
        })
    }
}

impl Host {
    /// Returns a builder of a host for `config`.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::config::Config;
    /// use agenthost::host::Host;
    ///
    /// let host = Host::builder(Config::builtin()?).build()?;
    /// assert!(host.max_tasks() > 0 && !host.keeps_journal());
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(config: Config) -> HostBuilder {
        let max_memory = sandbox_settings(&config).max_memory;
        HostBuilder {
            config,
            cache: None,
            compile: Compile::InProcess,
            state: None,
            journal: None,
            project: None,
            #[cfg(feature = "build")]
            builds: None,
            max_memory,
            providers: BTreeMap::new(),
        }
    }

    /// Returns the number of requests in flight to models, and of requests that wait to be sent.
    pub fn pressure(&self) -> (u64, u64) {
        let gates = self
            .inner
            .providers
            .values()
            .filter_map(|slot| slot.made.get()?.as_ref().ok());
        gates.fold((0, 0), |(in_flight, waiting), served| {
            let (more, wait) = served.gate.pressure();
            (in_flight + more, waiting + wait)
        })
    }

    /// Returns whether runs are recorded in a journal.
    pub fn keeps_journal(&self) -> bool {
        self.inner.journal.is_some()
    }

    /// Returns the configuration of this host.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Returns whether no task is alive and no request is in flight or waiting.
    #[cfg(feature = "failpoints")]
    pub fn is_idle(&self) -> bool {
        self.inner.sandbox.is_idle() && self.pressure() == (0, 0)
    }

    /// Returns the most tasks that are alive at once. Further tasks wait.
    pub fn max_tasks(&self) -> u32 {
        self.inner.sandbox.max_tasks()
    }

    /// Returns the most memory that the tasks of one run can hold together, and the source of that bound. It stays the
    /// same for the life of the host.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::config::Config;
    /// use agenthost::host::Host;
    ///
    /// let host = Host::builder(Config::builtin()?).build()?;
    /// assert!(host.run_memory().bytes.is_some(), "the machine bounds what nothing else does");
    /// # Ok(())
    /// # }
    /// ```
    pub fn run_memory(&self) -> MemoryBound {
        let (run, usual) = (self.inner.config.run(), self.inner.sandbox.run_memory());
        match run.memory {
            None => usual,
            Some(Cap::Unlimited) => MemoryBound::configured(None),
            Some(Cap::At(most)) if run.memory_within_default && usual.bytes.is_some_and(|usual| usual < most) => usual,
            Some(Cap::At(bytes)) => MemoryBound::configured(Some(bytes)),
        }
    }

    /// Returns human-readable notes about settings of the project's configuration that exceed the operator's and have
    /// no effect.
    pub fn config_notes(&self) -> Vec<String> {
        let mut notes = self.inner.config.notes();
        notes.extend_from_slice(self.inner.prices.notes());
        notes
    }

    /// Reads the limits of this machine.
    pub fn machine(&self) -> Machine {
        Machine::read()
    }

    /// Loads a plugin and the sub-agents that it can start, from a `.wasm` file or from a crate directory, which is
    /// built first.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use agenthost::config::Config;
    /// use agenthost::error::ErrorClass;
    /// use agenthost::host::Host;
    ///
    /// # std::fs::write(dir.join("double.wasm"), double())?;
    /// let host = Host::builder(Config::builtin()?).build()?;
    /// let plugin = host.load(&dir.join("double.wasm")).await?;
    /// assert_eq!(plugin.id.to_string(), "demo:double@0.1.0");
    ///
    /// let error = host.load(&dir.join("no-such.wasm")).await.err().ok_or("it was loaded")?;
    /// assert_eq!(error.class(), ErrorClass::Plugin);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Host::load_with`].
    pub async fn load(&self, place: impl Into<PluginSource>) -> Result<LoadedPlugin> {
        self.load_with(place, LoadOptions::default()).await
    }

    /// Loads a plugin with options in addition to the configuration.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use agenthost::config::{Config, DirGrant, Env};
    /// use agenthost::host::{Host, LoadOptions};
    ///
    /// # std::fs::write(dir.join("double.wasm"), double())?;
    /// let host = Host::builder(Config::builtin()?).build()?;
    /// let dirs = vec![DirGrant::parse(&Env::from_process()?, "reports::/data")?];
    /// let options = LoadOptions { dirs, ..LoadOptions::default() };
    /// let plugin = host.load_with(&dir.join("double.wasm"), options).await?;
    /// assert!(!plugin.reads_files(), "it imports no file system, so it does not see the directory");
    ///
    /// // A place for a sub-agent that the plugin does not start is an error.
    /// let with = [("demo:competitor".to_owned(), dir.join("competitor").into())].into();
    /// let options = LoadOptions { with, ..LoadOptions::default() };
    /// assert!(host.load_with(&dir.join("double.wasm"), options).await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Plugin`](agenthost_core::error::ErrorClass::Plugin) if a plugin cannot be found, built or loaded,
    /// if a sub-agent is not declared or not of the type that its importer expects, and if plugins start each other in
    /// a circle; [`ErrorClass::Denied`](agenthost_core::error::ErrorClass::Denied) for imports that the host does not
    /// offer.
    pub async fn load_with(&self, place: impl Into<PluginSource>, options: LoadOptions) -> Result<LoadedPlugin> {
        let host = self.clone();
        let place = place.into();
        // Dropping this future drops `_abandon`, which ends a compiler process.
        let (_abandon, stop) = agenthost_sandbox::stop();
        // Reading, building and compiling block, in the worst case for seconds.
        let loaded = tokio::task::spawn_blocking(move || {
            load::Loader::new(&host, options.with, options.dirs)
                .stopped_by(stop)
                .load_root(&place)
        });
        loaded
            .await
            .map_err(|_| Error::host("the host failed while it loaded the plugin"))?
    }

    /// Loads a plugin from its bytes, with the sub-agents that the configuration names. Compiling blocks the thread.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::config::Config;
    /// use agenthost::host::Host;
    ///
    /// # let component = double();
    /// let host = Host::builder(Config::builtin()?).build()?;
    /// let plugin = host.load_bytes(&component)?;
    /// assert_eq!(plugin.signature().trim(), "run: func(input: u32) -> u32;");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Host::load_with`].
    pub fn load_bytes(&self, bytes: &[u8]) -> Result<LoadedPlugin> {
        load::Loader::new(self, BTreeMap::new(), Vec::new()).load_bytes(bytes, load::Origin::default())
    }

    /// Returns the project whose lock file and policies apply.
    pub fn project(&self) -> Option<&Project> {
        self.inner.project.as_deref()
    }

    /// Returns the limits of a sub-task: the configured ones, narrowed by its plugin's grant and by its declaration.
    /// The remaining limits of its parent bound it further while it runs.
    fn sub_task_limits(&self, sub_agent: &SubAgent) -> Limits {
        self.limits(&sub_agent.plugin, &LimitsPatch::default())
            .narrowed_by(&sub_agent.limits)
    }

    /// Returns the limits of a root task of `plugin`: the configured ones, overridden by `asked` and narrowed by the
    /// plugin's grant.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::config::Config;
    /// use agenthost::host::Host;
    /// use agenthost::limits::{Cap, LimitsPatch};
    ///
    /// # let component = double();
    /// let host = Host::builder(Config::builtin()?).build()?;
    /// let asked = LimitsPatch { calls: Some(Cap::At(3)), ..LimitsPatch::default() };
    /// let plugin = host.load_bytes(&component)?;
    /// let limits = host.limits(&plugin, &asked);
    /// assert_eq!((limits.calls, limits.tokens), (Some(3), Some(200_000)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn limits(&self, plugin: &LoadedPlugin, asked: &LimitsPatch) -> Limits {
        let config = &self.inner.config;
        let limits = config
            .limits()
            .overridden_by(asked)
            .narrowed_by(&config.granted_limits(&plugin.id.name))
            .narrowed_by(&plugin.ceiling.limits);
        let most = self.inner.sandbox.max_memory();
        Limits {
            memory: Some(limits.memory.unwrap_or(most).min(most)),
            ..limits
        }
    }
}

impl Served {
    fn new(provider: Arc<dyn Provider>, config: &ProviderConfig, share: Option<PathBuf>) -> Self {
        let settings = agenthost_gate::Settings {
            requests_per_minute: config.requests_per_minute,
            tokens_per_minute: config.tokens_per_minute,
            max_concurrency: config.max_concurrency.unwrap_or(agenthost_gate::MAX_CONCURRENCY),
            initial_concurrency: config
                .initial_concurrency
                .unwrap_or(agenthost_gate::INITIAL_CONCURRENCY),
            retries: config.retries.unwrap_or(agenthost_gate::RETRIES),
            counting: provider.counting(),
            caching: provider.caching(),
            warm_prefix: config.warm_prefix.unwrap_or(true),
            share,
        };
        Self {
            gate: Gate::new(settings),
            kind: config.kind.name(),
            hedge_after: config.hedge_after,
            warm_prefix: config.warm_prefix,
            provider,
        }
    }
}

impl Inner {
    fn provider(&self, name: &str) -> std::result::Result<&Served, CallError> {
        let missing = || CallError::Unavailable(format!("no provider is named `{name}`"));
        let slot = self.providers.get(name).ok_or_else(missing)?;
        let made = slot.made.get_or_init(|| {
            self.make_provider(name).map_err(|error| match error.hint() {
                Some(hint) => format!("{error} (hint: {hint})"),
                None => error.to_string(),
            })
        });
        made.as_ref().map_err(|error| CallError::Unavailable(error.clone()))
    }

    fn make_provider(&self, name: &str) -> Result<Served> {
        let provider = self
            .config
            .provider(name)
            .ok_or_else(|| Error::config(format!("no provider is named `{name}`")))?;
        Ok(Served::new(
            self.open_provider(name, provider)?,
            provider,
            self.share(name, provider),
        ))
    }

    /// Returns the file in which this user's processes share the state of the rate limits of this provider's key.
    fn share(&self, name: &str, provider: &ProviderConfig) -> Option<PathBuf> {
        let address = provider.address.as_ref()?;
        let key = self.config.key(name).ok().flatten();
        let digest = Sha256::new()
            .chain_update("agenthost gate\n")
            .chain_update(&address.url)
            .chain_update("\n")
            .chain_update(key.as_ref().map_or("", |key| key.expose_secret()))
            .finalize();
        let digest: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Some(
            self.state
                .as_ref()?
                .join(agenthost_gate::SHARED)
                .join(format!("{digest}.json")),
        )
    }

    fn open_provider(&self, name: &str, config: &ProviderConfig) -> Result<Arc<dyn Provider>> {
        let url = config.address.as_ref().map(|address| address.url.as_str());
        let key = || self.config.key(name);
        let structured_output = match config.structured_output {
            agenthost_config::StructuredOutput::Auto => StructuredOutput::Auto,
            agenthost_config::StructuredOutput::Schema => StructuredOutput::Schema,
            agenthost_config::StructuredOutput::JsonObject => StructuredOutput::JsonObject,
            agenthost_config::StructuredOutput::Prompt => StructuredOutput::Prompt,
        };
        Ok(match &config.kind {
            ProviderKind::Anthropic => {
                let mut provider = Anthropic::new(url, key()?)?.with_structured_output(structured_output);
                if let Some(timeout) = config.timeout {
                    provider = provider.with_timeout(timeout)?;
                }
                if let Some(silence) = config.silence {
                    provider = provider.with_silence(silence)?;
                }
                Arc::new(provider)
            }
            ProviderKind::OpenAi { max_tokens_field } => {
                let field = match max_tokens_field {
                    agenthost_config::MaxTokensField::MaxCompletionTokens => {
                        openai::MaxTokensField::MaxCompletionTokens
                    }
                    agenthost_config::MaxTokensField::MaxTokens => openai::MaxTokensField::MaxTokens,
                };
                let mut provider = OpenAi::new(url, key()?, field)?.with_structured_output(structured_output);
                if let Some(timeout) = config.timeout {
                    provider = provider.with_timeout(timeout)?;
                }
                if let Some(silence) = config.silence {
                    provider = provider.with_silence(silence)?;
                }
                Arc::new(provider)
            }
            ProviderKind::Offline => Arc::new(Offline),
            ProviderKind::Script { file } => Arc::new(Script::load(file)?),
        })
    }

    /// Returns the models behind a model name, in the order in which they are tried.
    fn models(&self, name: &str) -> Option<&[ModelRef]> {
        self.config.models().get(name).map(Vec::as_slice)
    }

    fn price(&self, model: &ModelRef) -> Option<&Price> {
        let kind = self.config.provider(&model.provider)?.kind.name();
        self.prices.price(kind, &model.provider, &model.model)
    }
}
