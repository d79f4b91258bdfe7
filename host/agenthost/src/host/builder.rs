//! The builder of a host: the configuration, what the program declares on top of it, and what it brings.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

#[cfg(feature = "registry")]
use super::Project;
use super::settings::MAX_LINEAR_MEMORY;
use super::{Host, Inner, ProviderSlot, Served, checks, estimate, sandbox_settings};
use crate::allowance::Allowances;
use crate::journal::Journal;
use crate::price::PriceTable;
use agenthost_config::{Config, Declarations, Grant, ModelRef, PriceConfig, ProviderSettings};
use agenthost_core::error::{Error, Result};
use agenthost_core::limits::{Cap, LimitsPatch};
use agenthost_core::llm::Provider;
#[cfg(feature = "build")]
use agenthost_plugin::build::BuildRules;
use agenthost_sandbox::{Compile, MemoryBound, RunMemory, Sandbox, Settings};

/// A builder of a [`Host`].
///
/// Everything can be declared in code. A program that reads files as the command does starts with
/// [`config`](HostBuilder::config); what it declares in code replaces the entries of the files.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// use agenthost::{Grant, Host, Journal, Limits, PriceConfig};
/// use agenthost::providers::script::Script;
///
/// let host = Host::builder()
///     .model("fast", "own/small")
///     .model("fast", "own/large") // if the first one fails for good
///     .provider("own", Script::parse("[[rule]]\ntext = 'Blue.'", "always-blue")?)
///     .price("own/small", PriceConfig::per_million("$0.25".parse()?, "$1.25".parse()?))
///     .limits(Limits::new().calls(20)) // of each task
///     .run_limits(Limits::new().tokens(1_000_000)) // of all tasks of a run together
///     .grant("demo:ask", Grant::new().models(["fast"]).limits(Limits::new().calls(3)))
///     .cache_dir(dir.join("compiled")) // a plugin is compiled once
///     .journal(Journal::sqlite(dir.join("journal.db"))?) // runs can be resumed and replayed
///     .build()?;
/// assert!(host.keeps_journal());
/// assert_eq!(host.config().grant("demo:ask").limits.calls, Some(3));
/// # Ok(())
/// # }
/// ```
#[must_use = "a host is made by `build`"]
pub struct HostBuilder {
    config: Option<Config>,
    declared: Declarations,
    /// The first invalid declaration.
    invalid: Option<Error>,
    cache: Option<PathBuf>,
    compile: Compile,
    state: Option<PathBuf>,
    journal: Option<Journal>,
    schedule: Option<String>,
    #[cfg(feature = "registry")]
    project: Option<Arc<Project>>,
    #[cfg(feature = "registry")]
    built_in: BTreeMap<String, &'static [u8]>,
    #[cfg(feature = "build")]
    builds: Option<BuildRules>,
    max_memory: u64,
    providers: BTreeMap<String, Arc<dyn Provider>>,
}

impl Host {
    /// Returns a builder of a host.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::Host;
    ///
    /// let host = Host::builder().build()?;
    /// assert!(host.max_tasks() > 0 && !host.keeps_journal());
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> HostBuilder {
        HostBuilder::new()
    }
}

impl HostBuilder {
    pub(super) fn new() -> Self {
        Self {
            config: None,
            declared: Declarations::default(),
            invalid: None,
            cache: None,
            compile: Compile::InProcess,
            state: None,
            journal: None,
            schedule: None,
            #[cfg(feature = "registry")]
            project: None,
            #[cfg(feature = "registry")]
            built_in: BTreeMap::new(),
            #[cfg(feature = "build")]
            builds: None,
            max_memory: 0,
            providers: BTreeMap::new(),
        }
    }

    /// Starts from `config`, for example from the files that the command reads. Without it, the host starts from
    /// [`Config::builtin`]: the default limits, and models that are answered on this machine until you name others.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use agenthost::Host;
    /// use agenthost::config::{Config, Env};
    ///
    /// std::fs::write(dir.join("agenthost.toml"), "limits.calls = 10")?;
    /// let env = Env::new([].into(), dir, None); // `Env::from_process()` sees variables and the home directory
    /// let host = Host::builder().config(Config::load(&env)?).build()?;
    /// assert_eq!(host.config().limits().calls, Some(10));
    /// # Ok(())
    /// # }
    /// ```
    pub fn config(mut self, config: Config) -> Self {
        self.config = Some(config);
        self
    }

    /// Adds a plugin that the program brings, under the reference `name` (`namespace:name`). An entry of the lock file
    /// takes precedence, so a project can pin another release of it. As a sub-agent it is found without a declaration.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::{Host, PluginSource};
    ///
    /// # let component = double();
    /// // In a program: `include_bytes!("double.wasm")`.
    /// let host = Host::builder().built_in("demo:double", component.leak()).build()?;
    /// let plugin = host.load(PluginSource::Reference("demo:double@^0.1".parse()?)).await?;
    /// assert_eq!(plugin.id().to_string(), "demo:double@0.1.0");
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "registry")]
    pub fn built_in(mut self, name: impl Into<String>, component: &'static [u8]) -> Self {
        self.built_in.insert(name.into(), component);
        self
    }

    /// Maps the model name `name`, which plugins ask for, to a model, written `provider/model`. The first call for a
    /// name replaces the configured models, and each further call adds a model that is tried if those before it fail
    /// for good. Once a program declares a model, the models that the host assumes otherwise are gone.
    pub fn model(mut self, name: impl Into<String>, model: &str) -> Self {
        match model.parse::<ModelRef>() {
            Ok(model) => self.declared.models.entry(name.into()).or_default().push(model),
            Err(error) => self.refuse(error),
        }
        self
    }

    /// Uses `provider` as the provider `name`: an implementation of your own, or one of
    /// [`providers`](crate::providers). It takes the place of a provider of that name in the configuration, and keeps
    /// its rate limits.
    ///
    /// The documentation of [`Provider`] shows how to write one.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::Host;
    /// use agenthost::gate::Pressure;
    /// use agenthost::providers::script::Script;
    ///
    /// let script = Script::parse("[[rule]]\ntext = 'Blue.'", "always-blue")?;
    /// let host = Host::builder().model("fast", "own/any").provider("own", script).build()?;
    /// assert_eq!(host.pressure(), Pressure::default()); // nothing in flight, nothing waits
    /// # Ok(())
    /// # }
    /// ```
    pub fn provider(self, name: impl Into<String>, provider: impl Provider + 'static) -> Self {
        self.declare_provider(name.into(), Arc::new(provider), None)
    }

    /// Uses `provider` as the provider `name`, with rate limits and retries of its own.
    pub fn provider_with(
        self,
        name: impl Into<String>,
        provider: impl Provider + 'static,
        settings: ProviderSettings,
    ) -> Self {
        self.declare_provider(name.into(), Arc::new(provider), Some(settings))
    }

    fn declare_provider(
        mut self,
        name: String,
        provider: Arc<dyn Provider>,
        settings: Option<ProviderSettings>,
    ) -> Self {
        let declared = (provider.kind(), settings);
        self.declared.providers.insert(name.clone(), declared);
        self.providers.insert(name, provider);
        self
    }

    /// Sets the price of a model, written `provider/model`. A cost limit rejects models without a price.
    pub fn price(mut self, model: &str, price: PriceConfig) -> Self {
        match model.parse::<ModelRef>() {
            Ok(model) => _ = self.declared.prices.insert(model, price),
            Err(error) => self.refuse(error),
        }
        self
    }

    /// Overrides the limits of each task. A run and a grant can narrow them, and a run can override them.
    pub fn limits(mut self, limits: impl Into<LimitsPatch>) -> Self {
        self.declared.limits = limits.into().over(self.declared.limits);
        self
    }

    /// Overrides the limits of all tasks of a run together.
    pub fn run_limits(mut self, limits: impl Into<LimitsPatch>) -> Self {
        self.declared.run_limits = limits.into().over(self.declared.run_limits);
        self
    }

    /// Grants rights to the plugin `namespace:name`. Without a grant, a plugin may use every model within the limits of
    /// all tasks, and no directory.
    pub fn grant(mut self, plugin: impl Into<String>, grant: Grant) -> Self {
        self.declared.grants.insert(plugin.into(), grant);
        self
    }

    /// Keeps compiled plugins in `dir`, a directory of this user alone. Without it, every load compiles.
    pub fn cache_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cache = Some(dir.into());
        self
    }

    /// Compiles plugins in this process, which is the default, or in a child process with limits on its memory and
    /// time. Both bound what a component may contain. Use a child process for plugins that are not trusted.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::Host;
    /// use agenthost::sandbox::{Compile, CompileLimits};
    ///
    /// // For this, `main` must begin with `agenthost::sandbox::compile_and_exit`.
    /// let compile = Compile::Child { program: "/proc/self/exe".into(), limits: CompileLimits::default() };
    /// let host = Host::builder().compile(compile).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn compile(mut self, compile: Compile) -> Self {
        self.compile = compile;
        self
    }

    /// Shares the state of rate limits and of the allowance with this user's other processes, in `dir`, a directory of
    /// this user alone. Without it, the state is private to this host, which then cannot have an allowance.
    pub fn state_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.state = Some(dir.into());
        self
    }

    /// Uses `project` to resolve references, by its lock file and the cache, and to decide which plugins may run, by
    /// its policies. Without a project, plugins are files, crates and bytes, and no policy applies.
    #[cfg(feature = "registry")]
    pub fn project(mut self, project: impl Into<Arc<Project>>) -> Self {
        self.project = Some(project.into());
        self
    }

    /// Builds crates under `rules`. Without rules, the host builds the crates that the embedder names and those that
    /// their manifests name; a crate that a project's configuration names needs the operator's
    /// [trust](agenthost_config::trust::crates).
    #[cfg(feature = "build")]
    pub fn builds(mut self, rules: BuildRules) -> Self {
        self.builds = Some(rules);
        self
    }

    /// Records runs in `journal`, so that they can be resumed and replayed. A run fails with class `host` if the
    /// journal cannot be written.
    pub fn journal(mut self, journal: Journal) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Makes this a host for the runs of the schedule `name` of the configuration: what they use counts for the schedule,
    /// too, and is limited by its `cost-per-day`.
    #[doc(hidden)]
    pub fn schedule(mut self, name: impl Into<String>) -> Self {
        self.schedule = Some(name.into());
        self
    }

    /// Raises the most linear memory that a task of this host can get, in bytes. It is never below the configured
    /// limit.
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.max_memory = self.max_memory.max(bytes);
        self
    }

    /// Keeps the first invalid declaration, which [`HostBuilder::build`] returns.
    fn refuse(&mut self, error: String) {
        self.invalid.get_or_insert_with(|| Error::config(error));
    }

    /// Starts the engine and returns the host.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Config`](agenthost_core::error::ErrorClass::Config) for an invalid declaration, a model at an
    /// unknown provider and an invalid price, and [`ErrorClass::Host`](agenthost_core::error::ErrorClass::Host) if the
    /// engine cannot be set up on this machine.
    pub fn build(mut self) -> Result<Host> {
        if let Some(error) = self.invalid {
            return Err(error);
        }
        let config = self.config.map_or_else(Config::builtin, Ok)?.declare(self.declared)?;
        let settings = sandbox_settings(&config);
        let sandbox = Sandbox::new(&Settings {
            max_memory: self.max_memory.max(settings.max_memory).min(MAX_LINEAR_MEMORY),
            cache: self.cache,
            compile: self.compile,
            ..settings
        })?;
        let prices = PriceTable::of(&config)?;
        let providers = config.providers().iter().map(|(name, provider)| {
            let made = match self.providers.remove(name) {
                Some(given) => OnceLock::from(Ok(Served::new(given, provider, None))),
                None => OnceLock::new(),
            };
            (name.clone(), ProviderSlot { made })
        });
        let providers = providers.collect();
        let memory = match config.run().memory {
            _ if config.run().memory_within_default => sandbox.host_memory(),
            None => sandbox.host_memory(),
            Some(Cap::Unlimited) => MemoryBound::configured(None),
            // The bound of the host is at least that of one run.
            Some(Cap::At(bytes)) => match sandbox.host_memory() {
                half if half.bytes.is_some_and(|half| half > bytes) => half,
                _ => MemoryBound::configured(Some(bytes)),
            },
        };
        let allowances = Allowances::new(
            &config,
            self.schedule.as_deref(),
            self.state.as_deref(),
            Arc::new(SystemTime::now),
        )?;
        Ok(Host {
            inner: Arc::new(Inner {
                sandbox,
                config,
                providers,
                prices,
                estimates: estimate::Estimates::default(),
                checks: checks::Checks::new(),
                memory: Arc::new(RunMemory::of_host(memory)),
                allowances,
                state: self.state,
                journal: self.journal.map(Journal::into_parts),
                #[cfg(feature = "registry")]
                project: self.project,
                #[cfg(feature = "registry")]
                built_in: self.built_in,
                #[cfg(feature = "build")]
                builds: self.builds,
            }),
        })
    }
}
