//! The effective configuration. How it is read is in `load`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::compile::CompileConfig;
use crate::env::Env;
use crate::error::ConfigError;
use crate::grant::Grant;
use crate::origin::{Origin, Origins};
use crate::schedule::ScheduleConfig;
use crate::settings::{
    AllowanceConfig, EffectiveGrant, FieldSource, JournalConfig, KeySource, ModelRef, PriceConfig, ProviderConfig,
    ProviderKind, RegistryConfig, RequestField, RunConfig, SubAgent,
};
use crate::trust::lifts::{Lift, TrustedLift};
use agenthost_core::limits::{Cap, Limits, LimitsPatch, MOST_SUGGESTED_TASKS};
use agenthost_core::llm::ServerToolGrants;
use agenthost_core::printable::shell_word;

/// The environment variable that chooses the offline provider if no `[models]` are configured, even if a key is
/// available. An empty value, `0` and `false` have no effect.
pub const OFFLINE_MODELS: &str = "AGENTHOST_OFFLINE_MODELS";

/// The effective configuration: both files merged, validated, and completed with defaults.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) models: BTreeMap<String, Vec<ModelRef>>,
    pub(crate) models_assumed: bool,
    pub(crate) offline_asked: bool,
    pub(crate) providers: BTreeMap<String, ProviderConfig>,
    pub(crate) limits: Limits,
    /// `true` if nothing but the default limits the sub-tasks of a task.
    pub(crate) tasks_assumed: bool,
    pub(crate) reply_tokens: u32,
    pub(crate) run: RunConfig,
    pub(crate) user_allowance: AllowanceConfig,
    pub(crate) project_allowance: AllowanceConfig,
    pub(crate) compile: CompileConfig,
    pub(crate) journal: JournalConfig,
    pub(crate) grants: BTreeMap<String, Grant>,
    /// The tools of providers that the operator's own file grants, by plugin.
    pub(crate) own_server_tools: BTreeMap<String, ServerToolGrants>,
    pub(crate) sub_agents: BTreeMap<String, SubAgent>,
    pub(crate) prices: BTreeMap<ModelRef, PriceConfig>,
    pub(crate) registries: BTreeMap<String, RegistryConfig>,
    pub(crate) price_floors: BTreeMap<ModelRef, PriceConfig>,
    pub(crate) policies: Vec<PathBuf>,
    pub(crate) schedules: BTreeMap<String, ScheduleConfig>,
    pub(crate) lifts: Vec<Lift>,
    pub(crate) origins: Origins,
    pub(crate) project_file: Option<PathBuf>,
    pub(crate) user_file: Option<PathBuf>,
    pub(crate) env: Env,
}

impl Config {
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
            let held = match &lift.both {
                Some(both) => format!("is {both}, not {theirs}, because of your {yours}"),
                None => format!("stays at your {yours}, not {theirs}"),
            };
            format!(
                "{place}{entry} {held}; `agenthost trust {}` lifts it",
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

    /// Returns the environment variables that hold keys, and other values that are sent to providers.
    pub fn key_variables(&self) -> impl Iterator<Item = &str> {
        self.providers.values().flat_map(|provider| {
            let key = match &provider.key {
                Some(KeySource::Variable(name)) => Some(name.as_str()),
                Some(KeySource::File(_)) | None => None,
            };
            let fields = provider.fields.iter().filter_map(|field| match &field.value {
                FieldSource::Variable(name) => Some(name.as_str()),
                FieldSource::Text(_) => None,
            });
            key.into_iter().chain(fields)
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

    /// Lets the offline provider answer for every model name, whatever the files and the keys say.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let config = agenthost_config::Config::builtin()?.with_offline_models()?;
    /// assert!(config.asks_for_offline_models());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Config`](agenthost_core::error::ErrorClass::Config) if the name `offline` is that of another kind of provider.
    pub fn with_offline_models(mut self) -> Result<Self, ConfigError> {
        let offline = self
            .providers
            .iter()
            .find(|(_, provider)| provider.kind == ProviderKind::Offline);
        let provider = offline
            .map(|(name, _)| name.clone())
            .ok_or(ConfigError::NoOfflineProvider)?;
        for (name, chain) in &mut self.models {
            self.origins.remove(&format!("models.{name}"));
            *chain = vec![ModelRef {
                provider: provider.clone(),
                model: name.clone(),
            }];
        }
        self.offline_asked = true;
        Ok(self)
    }

    /// Returns whether the operator asked for the offline provider, with [`Config::with_offline_models`] or the variable
    /// [`OFFLINE_MODELS`].
    pub fn asks_for_offline_models(&self) -> bool {
        self.offline_asked
    }

    /// Returns whether no model is configured, and the offline provider was asked for or no vendor's key is available, so
    /// that all replies are made up on this machine.
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

    /// Returns the limits of a task whose plugin's author suggests `suggested`: [`Config::limits`], with the suggested
    /// number of sub-tasks if none is configured and the suggestion is above the default. It counts up to
    /// [`MOST_SUGGESTED_TASKS`]. All other suggestions have no effect.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost_core::limits::Limits;
    ///
    /// let config = agenthost_config::Config::builtin()?;
    /// let tasks = |suggested| config.limits_with(&Limits::new().tasks(suggested).into()).tasks;
    /// assert_eq!([20, 400, 50_000].map(tasks), [Some(100), Some(400), Some(1_000)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn limits_with(&self, suggested: &LimitsPatch) -> Limits {
        let mut limits = self.limits.clone();
        let suggested = suggested.tasks.map(|cap| match cap {
            Cap::At(tasks) => tasks.min(MOST_SUGGESTED_TASKS),
            Cap::Unlimited => MOST_SUGGESTED_TASKS,
        });
        if self.tasks_assumed {
            limits.tasks = limits.tasks.max(suggested);
        }
        limits
    }

    /// Returns the number of output tokens reserved for a call that sets no maximum; 8,192 by default.
    pub fn reply_tokens(&self) -> u32 {
        self.reply_tokens
    }

    /// Returns the settings of a run as a whole.
    pub fn run(&self) -> &RunConfig {
        &self.run
    }

    /// Returns the allowance of the operator's own file, for all runs of this user.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let config = agenthost_config::Config::builtin()?;
    /// assert_eq!(config.user_allowance().cost_per_day, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn user_allowance(&self) -> &AllowanceConfig {
        &self.user_allowance
    }

    /// Returns the allowance of the project's file, for all runs of this user in the project. It applies beside the
    /// operator's own.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let config = agenthost_config::Config::builtin()?;
    /// assert_eq!(config.project_allowance().tokens_per_month, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn project_allowance(&self) -> &AllowanceConfig {
        &self.project_allowance
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
    /// [`Config::limits`], no directory and no tool of a provider.
    pub fn grant(&self, plugin: &str) -> EffectiveGrant {
        let grant = self.grants.get(plugin).cloned().unwrap_or_default();
        EffectiveGrant {
            models: grant.models.unwrap_or_else(|| self.models.keys().cloned().collect()),
            limits: self.limits.narrowed_by(&grant.limits),
            own_limits: grant.limits,
            dirs: grant.dirs,
            server_tools: grant.server_tools,
        }
    }

    /// Returns the limits that the plugin's entry in `[grants]` sets, regardless of [`Config::limits`]; unlimited if
    /// the plugin has no entry.
    pub fn granted_limits(&self, plugin: &str) -> Limits {
        self.grants
            .get(plugin)
            .map_or_else(Limits::none, |grant| grant.limits.clone())
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

    /// Returns the schedules by their names. Those of a project's file must be [accepted](crate::trust::check_schedule)
    /// before they run.
    #[doc(hidden)]
    pub fn schedules(&self) -> &BTreeMap<String, ScheduleConfig> {
        &self.schedules
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

    /// Returns the section of a provider for a message, with the place of its key or else of the section, such as
    /// `[providers.corp] (agenthost.toml:7)`. A path in the home directory begins with `~`, because plugins see such
    /// messages.
    #[doc(hidden)]
    pub fn provider_section(&self, provider: &str, key: &str) -> String {
        let section = format!("providers.{provider}");
        let place = self
            .origin(&format!("{section}.{key}"))
            .or_else(|| self.origin(&section));
        place.map_or_else(
            || format!("[{section}]"),
            |place| format!("[{section}] ({})", self.shown_at_home(place)),
        )
    }

    /// Returns the section of a plugin's grant for a message, with the place of its key or else of the section, such as
    /// `[grants."demo:competitor"] (agenthost.toml:7)`. A path in the home directory begins with `~`, as in
    /// [`Config::provider_section`].
    #[doc(hidden)]
    pub fn grant_section(&self, plugin: &str, key: &str) -> String {
        let section = format!("grants.{plugin}");
        let place = self
            .origin(&format!("{section}.{key}"))
            .or_else(|| self.origin(&section));
        let place = place.map_or_else(String::new, |place| format!(" ({})", self.shown_at_home(place)));
        format!("[grants.\"{plugin}\"]{place}")
    }

    /// Like [`Config::provider_section`], with the place of a header or query parameter.
    #[doc(hidden)]
    pub fn field_section(&self, provider: &str, field: &RequestField) -> String {
        format!("[providers.{provider}] ({})", self.shown_at_home(&field.origin))
    }

    /// Returns a place for display, with `~` for the home directory.
    #[doc(hidden)]
    pub fn shown_at_home(&self, place: &Origin) -> String {
        let shown = place.to_string();
        let home = self.env.home().map(|home| format!("{}/", home.display()));
        match home.and_then(|home| shown.strip_prefix(&home).map(str::to_owned)) {
            Some(below) => format!("~/{below}"),
            None => shown,
        }
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
