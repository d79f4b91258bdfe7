//! The values of a configuration: models, providers, grants, registries and prices.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::dirs::DirGrant;
use crate::env::Env;
use crate::origin::Origin;
use agenthost_core::limits::{Cap, Limits, Usd};
use agenthost_core::llm::ServerToolGrants;
use agenthost_core::request_field::FieldPlace;

/// The default of [`RunConfig::log_bytes`], 64 KiB: about 800 lines, enough to see what went wrong.
pub(crate) const LOG_BYTES: u64 = 64 << 10;
/// The default of [`JournalConfig::max_run_bytes`]: about a thousand model calls with long prompts. Without a bound, a
/// plugin that repeats refused calls would fill the disk.
pub(crate) const MAX_RUN_BYTES: u64 = 1 << 30;

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
    /// `true` if one of several requests that share a long prefix is sent first, so that the others read the provider's
    /// prompt cache; `None` means yes.
    pub warm_prefix: Option<bool>,
    /// The timeout for the first byte of a reply, not zero; `None` if the operator set none.
    pub timeout: Option<Duration>,
    /// The longest silence in a reply that has begun, not zero; `None` if the operator set none.
    pub silence: Option<Duration>,
    /// The way in which structured output is requested.
    pub structured_output: StructuredOutput,
    /// The headers and query parameters that are added to every request, sorted by place and name.
    pub fields: Vec<RequestField>,
    /// `true` if `key` is the usual variable of the kind rather than the operator's choice.
    pub(crate) key_assumed: bool,
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
    /// The OpenAI Responses API.
    OpenAiResponses,
    /// Replies made up on this machine.
    Offline,
    /// Replies read from a file.
    Script {
        /// The file, as an absolute path.
        file: PathBuf,
    },
    /// An implementation that the embedding program brings.
    Code {
        /// The kind of service that it speaks to, as [`ProviderKind::name`] returns it.
        kind: &'static str,
    },
}

impl ProviderKind {
    /// Returns the kind as it is written in a configuration file. Prices and estimates depend on it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi { .. } => "openai",
            Self::OpenAiResponses => "openai-responses",
            Self::Offline => "offline",
            Self::Script { .. } => "script",
            Self::Code { kind } => kind,
        }
    }

    /// Returns whether requests are sent to a server, with a wire of this program.
    ///
    /// ```
    /// use agenthost_config::ProviderKind;
    ///
    /// assert!(ProviderKind::OpenAiResponses.is_service() && !ProviderKind::Offline.is_service());
    /// ```
    pub fn is_service(&self) -> bool {
        match self {
            Self::Anthropic | Self::OpenAi { .. } | Self::OpenAiResponses => true,
            Self::Offline | Self::Script { .. } | Self::Code { .. } => false,
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

impl KeySource {
    /// Returns whether the source exists, without judging its content.
    pub(crate) fn is_at_hand(&self, env: &Env) -> bool {
        match self {
            Self::Variable(name) => env.var(name).is_some(),
            Self::File(path) => fs::symlink_metadata(path).is_ok(),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "the environment variable {name}"),
            Self::File(path) => write!(f, "the key file {}", path.display()),
        }
    }
}

/// A header or query parameter that is added to every request to a provider.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestField {
    /// The part of the request that it belongs to.
    pub place: FieldPlace,
    /// The name; that of a header in lower case.
    pub name: String,
    /// The source of the value.
    pub value: FieldSource,
    /// The place of its setting.
    pub(crate) origin: Origin,
}

impl RequestField {
    /// Returns whether the other field replaces this one, or is replaced by it.
    pub(crate) fn is_namesake(&self, other: &Self) -> bool {
        (self.place, &self.name) == (other.place, &other.name)
    }

    /// Returns whether it is a header that identifies the caller to the service, in the place of a key.
    pub(crate) fn replaces_key(&self) -> bool {
        self.place == FieldPlace::Header && ["authorization", "x-api-key", "api-key"].contains(&self.name.as_str())
    }
}

/// Writes ``header `api-key` from the environment variable CORP_KEY`` or ``header `x-team` = "blue"``.
impl fmt::Display for RequestField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.place.name(), self.name)?;
        match &self.value {
            FieldSource::Text(text) => write!(f, " = {text:?}"),
            FieldSource::Variable(name) => write!(f, " from the environment variable {name}"),
        }
    }
}

/// The source of the value of a header or query parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldSource {
    /// The value itself, which is not a secret.
    Text(String),
    /// The environment variable with this name. Its value is treated as a secret.
    Variable(String),
}

/// Settings of a run as a whole.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RunConfig {
    /// `true` if the reservation for input is its number of bytes, a true upper bound, instead of an estimate of its
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
    /// `true` if `memory` takes effect only below the default for this machine, because a project's file sets it and the
    /// operator's file does not.
    pub memory_within_default: bool,
}

/// The limits on everything that all runs use together in a day or a month. Days and months are those of UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AllowanceConfig {
    /// `tokens-per-day`: input and output tokens.
    pub tokens_per_day: Option<u64>,
    /// `cost-per-day`: money for model calls.
    pub cost_per_day: Option<Usd>,
    /// `tokens-per-month`: input and output tokens.
    pub tokens_per_month: Option<u64>,
    /// `cost-per-month`: money for model calls.
    pub cost_per_month: Option<Usd>,
}

/// Settings of the durable record of runs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalConfig {
    /// `true` if runs are recorded.
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
pub struct EffectiveGrant {
    /// The model names it may use, all of them in [`Config::models`](crate::Config::models).
    pub models: BTreeSet<String>,
    /// The limits of its tasks, at most [`Config::limits`](crate::Config::limits).
    pub limits: Limits,
    /// The limits that the entry itself sets.
    pub(crate) own_limits: Limits,
    /// The directories it may access, each under a distinct guest path.
    pub dirs: Vec<DirGrant>,
    /// The tools that a provider may run for it, if its manifest asks for them.
    pub server_tools: ServerToolGrants,
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

/// A model's price set by the operator, in US dollars per million tokens, and that of searches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceConfig {
    /// The rates of every request, or of requests below the `long-context` threshold if there is one.
    pub rates: RatesConfig,
    /// `long-context`: the number of input tokens above which a whole request is charged at other rates, and those
    /// rates.
    pub long_context: Option<(u64, RatesConfig)>,
    /// `search`: the price of one search by the provider, in US dollars.
    pub search: Option<Usd>,
    /// `search-tokens`: the input tokens that are reserved for each search or page.
    pub search_tokens: Option<u64>,
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

impl PriceConfig {
    /// Creates a price from the rates of plain input and output, in US dollars per million tokens.
    ///
    /// ```
    /// use agenthost_config::PriceConfig;
    ///
    /// let price = PriceConfig::per_million("$0.25".parse()?, "$1.25".parse()?);
    /// assert_eq!(price.rates.output.map(|rate| rate.to_string()).as_deref(), Some("$1.25"));
    /// # Ok::<(), String>(())
    /// ```
    pub fn per_million(input: Usd, output: Usd) -> Self {
        let (input, output) = (Some(input), Some(output));
        let rates = RatesConfig {
            input,
            output,
            ..RatesConfig::default()
        };
        Self {
            rates,
            ..Self::default()
        }
    }
}
