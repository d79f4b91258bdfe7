//! The host, which assembles all the parts.
//!
//! [`Host::builder`] makes an engine, a price table and the providers; [`Host::load`] turns a `.wasm` file or a crate
//! into a [`Plugin`]; [`Host::run`] prepares a run of it, which is awaited, or started for a [`RunHandle`]. Only this
//! module names concrete providers; all other modules use traits.

mod answer;
mod attempts;
mod batch;
mod builder;
mod call_context;
mod calls;
mod ceiling;
mod checks;
mod documents;
mod echoes;
mod estimate;
mod events;
mod fault;
mod load;
mod loaded;
mod plugin_source;
mod probe;
mod record;
mod run;
mod run_builder;
mod server_tools;
mod settings;
mod shares;
#[cfg(test)]
mod tests;
mod tool_permission;
mod tree;
mod waits;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};

use crate::allowance::Allowances;
use crate::price::{Price, PriceTable, vendor};
use agenthost_config::{
    BodyRetention, Config, FieldPlace, KeySource, ModelRef, ProviderConfig, ProviderKind, ReadField, RequestField,
};
use agenthost_core::error::{Error, Result, with_causes};
use agenthost_core::limits::{Cap, Limits, LimitsPatch};
use agenthost_core::llm::{CacheTtl, CallError, Options, Provider, ProviderError, ProviderErrorKind};
use agenthost_gate::{Gate, Pressure};
use agenthost_journal::Journal;
#[cfg(feature = "build")]
use agenthost_plugin::build::BuildRules;
use agenthost_providers::anthropic::Anthropic;
use agenthost_providers::offline::Offline;
use agenthost_providers::openai::{self, OpenAi};
use agenthost_providers::responses::OpenAiResponses;
use agenthost_providers::script::Script;
use agenthost_providers::{ExtraValue, ProviderSetupError, Service, StructuredOutput};
#[cfg(feature = "registry")]
use agenthost_registry::project::Project;
use agenthost_sandbox::{Machine, MemoryBound, RunMemory, Sandbox};

pub use self::batch::{Batch, BatchBuilder};
pub use self::builder::HostBuilder;
pub use self::events::{Events, Lagged};
pub use self::loaded::{LoadOptions, Plugin};
use self::loaded::{LoadedPlugin, SubAgent};
pub use self::plugin_source::PluginSource;
pub use self::probe::{ModelProbe, SchemaSupport};
pub use self::run::{FailedTasks, Rehearsal, RunHandle};
pub use self::run_builder::{RecordedRunBuilder, RunBuilder};
pub use self::settings::sandbox_settings;
pub use self::waits::{BatchWait, BatchWaits};

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
    /// The limits on the runs of a day or month; `None` if there are none.
    allowances: Option<Arc<Allowances>>,
    /// The journal of the runs, and how much of each it keeps.
    journal: Option<(Arc<dyn Journal>, BodyRetention)>,
    /// Resolves references and decides which plugins may run.
    #[cfg(feature = "registry")]
    project: Option<Arc<Project>>,
    /// The components that the program brings, by `namespace:name`.
    #[cfg(feature = "registry")]
    built_in: BTreeMap<String, &'static [u8]>,
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
    /// `true` if the first of several requests with the same prefix is sent ahead of the others; `None` if not
    /// configured.
    warm_prefix: Option<bool>,
    /// `true` once the provider has answered a call.
    answered: AtomicBool,
}

impl Served {
    /// Returns whether to look for shared prefixes in requests to a model. `pays` is the default: whether caching saves
    /// money at its prices.
    fn warms(&self, pays: bool) -> bool {
        self.warm_prefix.unwrap_or(pays)
    }
}

impl Host {
    /// Checks that a text is a JSON Schema that replies can be validated against, so that a request with it is not refused.
    ///
    /// ```
    /// use agenthost::Host;
    ///
    /// assert_eq!(Host::check_schema(r#"{"type": "integer"}"#), Ok(()));
    /// assert!(Host::check_schema(r#"{"type": "number of legs"}"#).is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the problem: text that is not JSON, a schema that is invalid, or one that exceeds a bound.
    pub fn check_schema(text: &str) -> std::result::Result<(), String> {
        agenthost_providers::schema::check(&agenthost_providers::schema::read(text)?)
    }

    /// Returns the requests to models that are in flight and that wait to be sent.
    pub fn pressure(&self) -> Pressure {
        let slots = self.inner.providers.values();
        let gates = slots.filter_map(|slot| slot.made.get()?.as_ref().ok());
        gates.map(|served| served.gate.pressure()).sum()
    }

    /// Waits until the files that this user's processes share contain what the gates learned and what the
    /// allowance got back.
    async fn flush(&self) {
        let slots = self.inner.providers.values();
        for served in slots.filter_map(|slot| slot.made.get()?.as_ref().ok()) {
            served.gate.flush().await;
        }
        if let Some(allowances) = &self.inner.allowances {
            allowances.flush().await;
        }
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
        self.inner.sandbox.is_idle() && self.pressure() == Pressure::default()
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
    /// use agenthost::Host;
    ///
    /// let host = Host::builder().build()?;
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

    /// Returns the project whose lock file and policies apply.
    #[cfg(feature = "registry")]
    pub fn project(&self) -> Option<&Project> {
        self.inner.project.as_deref()
    }

    /// Returns the limits of a sub-task: the configured ones, narrowed by its plugin's grant and by its declaration.
    /// The remaining limits of its parent bound it further while it runs.
    fn sub_task_limits(&self, sub_agent: &SubAgent) -> Limits {
        self.task_limits(&sub_agent.plugin.loaded, &LimitsPatch::default())
            .narrowed_by(&sub_agent.limits)
    }

    /// Returns the limits of a root task of `plugin`: the configured ones, overridden by `asked` and narrowed by the
    /// plugin's grant and the policies. If no number of sub-tasks is configured, the plugin's suggestion
    /// [can raise it](Config::limits_with).
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::{Host, Limits};
    ///
    /// # let component = double();
    /// let host = Host::builder().build()?;
    /// let plugin = host.load_bytes(&component)?;
    /// let limits = host.limits(&plugin, Limits::new().calls(3));
    /// assert_eq!((limits.calls, limits.tokens), (Some(3), Some(200_000)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn limits(&self, plugin: &Plugin, asked: impl Into<LimitsPatch>) -> Limits {
        self.task_limits(&plugin.loaded, &asked.into())
    }

    fn task_limits(&self, plugin: &LoadedPlugin, asked: &LimitsPatch) -> Limits {
        let config = &self.inner.config;
        let limits = config
            .limits_with(&plugin.info.suggested_limits())
            .overridden_by(asked)
            .narrowed_by(&config.granted_limits(&plugin.info.id.name))
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
            max_concurrency: config.max_concurrency,
            initial_concurrency: config.initial_concurrency,
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
            answered: AtomicBool::new(false),
            provider,
        }
    }
}

impl Inner {
    fn provider(&self, name: &str) -> std::result::Result<&Served, CallError> {
        let missing = || CallError::Unavailable(format!("no provider is named `{name}`"));
        let slot = self.providers.get(name).ok_or_else(missing)?;
        let made = slot.made.get_or_init(|| {
            self.make_provider(name).map_err(|error| {
                let place = match error.downcast_ref::<ProviderSetupError>() {
                    Some(_) => format!("{}: ", self.config.provider_section(name, "base-url")),
                    None => String::new(),
                };
                match error.hint() {
                    Some(hint) => format!("{place}{} (hint: {hint})", with_causes(&error)),
                    None => format!("{place}{}", with_causes(&error)),
                }
            })
        });
        made.as_ref().map_err(|error| CallError::Unavailable(error.clone()))
    }

    /// Adds to the message of `error` what to change in the configuration of this provider, if that is known.
    fn advised(&self, name: &str, mut error: ProviderError) -> ProviderError {
        if let Some(advice) = self.advice(name, &error) {
            error.message = format!("{}; {advice}", error.message);
            error.setting = None;
        }
        error
    }

    fn advice(&self, name: &str, error: &ProviderError) -> Option<String> {
        if let Some(setting) = &error.setting {
            return Some(format!(
                "{setting} in {}",
                self.config.provider_section(name, setting.key)
            ));
        }
        let config = self.config.provider(name)?;
        if error.kind != ProviderErrorKind::Authentication || !config.kind.is_service() {
            return None;
        }
        let credential = |field: &&RequestField| field.place.is_credential(&field.name);
        let variable = |field: &&RequestField| matches!(field.value, agenthost_config::FieldSource::Variable(_));
        let fields = || config.fields.iter();
        let field = fields().find(credential).or_else(|| fields().find(variable));
        Some(match (&config.key, field) {
            (Some(source @ KeySource::Variable(_)), _) => {
                let section = self.config.provider_section(name, "key-env");
                format!("check {source}, or name another with key-env in {section}")
            }
            (Some(KeySource::File(_)), _) => {
                let section = self.config.provider_section(name, "key-file");
                format!("check the key file that key-file in {section} names")
            }
            (None, Some(field)) => {
                let section = self.config.field_section(name, field);
                format!("check the {field} in {section}")
            }
            (None, None) => {
                let section = self.config.provider_section(name, "key-env");
                format!("name the variable of a key with key-env in {section}")
            }
        })
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
        let mut digest = Sha256::new()
            .chain_update("agenthost gate\n")
            .chain_update(&address.url)
            .chain_update("\n")
            .chain_update(key.as_ref().map_or("", |key| key.expose_secret()));
        // Some services take the key from a header of their own.
        for field in self.config.fields(name).ok().into_iter().flatten() {
            for part in ["\n", &field.name, "\n", field.value.expose_secret()] {
                digest.update(part);
            }
        }
        let digest = digest.finalize();
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
        let key = || {
            let key = self.config.key(name)?;
            Ok::<_, Error>(key.map(|key| key.expose_secret().to_owned()))
        };
        Ok(match &config.kind {
            ProviderKind::Anthropic => self.configured(name, config, Anthropic::new(url, key()?)?)?,
            ProviderKind::OpenAi { max_tokens_field } => {
                let field = match max_tokens_field {
                    agenthost_config::MaxTokensField::MaxCompletionTokens => {
                        openai::MaxTokensField::MaxCompletionTokens
                    }
                    agenthost_config::MaxTokensField::MaxTokens => openai::MaxTokensField::MaxTokens,
                };
                self.configured(name, config, OpenAi::new(url, key()?, field)?)?
            }
            ProviderKind::OpenAiResponses => self.configured(name, config, OpenAiResponses::new(url, key()?)?)?,
            ProviderKind::Offline => Arc::new(Offline),
            ProviderKind::Code { .. } => {
                return Err(Error::config(format!(
                    "the program did not give the provider `{name}` to this host"
                )));
            }
            ProviderKind::Script { file } => Arc::new(Script::load(file)?),
        })
    }

    /// Applies the settings that all services have.
    fn configured<W>(&self, name: &str, config: &ProviderConfig, mut service: Service<W>) -> Result<Arc<dyn Provider>>
    where
        Service<W>: Provider + 'static,
    {
        service = service.with_structured_output(match config.structured_output {
            agenthost_config::StructuredOutput::Auto => StructuredOutput::Auto,
            agenthost_config::StructuredOutput::Schema => StructuredOutput::Schema,
            agenthost_config::StructuredOutput::JsonObject => StructuredOutput::JsonObject,
            agenthost_config::StructuredOutput::Prompt => StructuredOutput::Prompt,
        });
        for (place, name, value) in self.config.fields(name)?.into_iter().map(extra) {
            service = match place {
                FieldPlace::Header => service.with_header(&name, value)?,
                FieldPlace::Query => service.with_query(&name, value)?,
            };
        }
        if let Some(timeout) = config.timeout {
            service = service.with_timeout(timeout)?;
        }
        if let Some(silence) = config.silence {
            service = service.with_silence(silence)?;
        }
        Ok(Arc::new(service))
    }

    /// Returns the models behind a model name, in the order in which they are tried.
    fn models(&self, name: &str) -> Option<&[ModelRef]> {
        self.config.models().get(name).map(Vec::as_slice)
    }

    /// Returns the price of a request with `options` to a model at a provider of `kind`.
    fn request_price(&self, model: &ModelRef, kind: &str, options: &Options) -> Option<Price> {
        // OpenAI's APIs have no request that keeps a cache entry for an hour.
        let hour = vendor(kind) != "openai" && options.cache == Some(CacheTtl::OneHour);
        let price = self.price(model)?;
        Some(if hour { price.with_hour_writes() } else { price.clone() })
    }

    fn price(&self, model: &ModelRef) -> Option<&Price> {
        let kind = self.config.provider(&model.provider)?.kind.name();
        self.prices.price(kind, &model.provider, &model.model)
    }
}

/// Returns a header or query parameter as a provider takes it.
fn extra(field: ReadField) -> (FieldPlace, String, ExtraValue) {
    let text = field.value.expose_secret();
    let value = match field.is_secret {
        true => ExtraValue::secret(text),
        false => text.into(),
    };
    (field.place, field.name, value)
}
