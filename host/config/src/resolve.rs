//! Turns two files and the defaults into one configuration.
//!
//! Three providers need no entry: `anthropic`, `openai` and `offline`. At the vendor's own address, `openai` has the kind
//! `openai-responses`; at any other address it has the kind `openai`, which most servers speak. A provider without a `base-url` uses
//! `ANTHROPIC_BASE_URL` or `OPENAI_BASE_URL` if set, as the vendors' own libraries do, and otherwise the vendor's
//! address; those variables count as set by the operator. A provider without a key uses its vendor's usual variable
//! only if it has the vendor's own name or an address that no file chose. A service with another name never receives a
//! vendor's key implicitly.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::compile;
use super::dirs::place;
use super::file::{Kind, Layer, RawGrant, RawProvider, base_url};
use super::merge::{Accepted, Merged, merge};
use crate::config::{Config, OFFLINE_MODELS};
use crate::env::Env;
use crate::error::ConfigError;
use crate::grant::Grant;
use crate::origin::Origins;
use crate::settings::{
    Address, JournalConfig, KeySource, LOG_BYTES, MAX_RUN_BYTES, ModelRef, ProviderConfig, ProviderKind, RequestField,
    RunConfig, SetBy, StructuredOutput,
};
use agenthost_core::limits::{Cap, Limits};
use agenthost_core::request_field::FieldPlace;

/// Output tokens reserved for a call that sets no maximum: enough for a long structured reply, and a small part of a
/// task's default 200,000.
const REPLY_TOKENS: u32 = 8_192;

/// A vendor with a provider kind of its own.
struct Vendor {
    name: &'static str,
    url: &'static str,
    url_var: &'static str,
    key_var: &'static str,
    /// The small model; `strong` is the large one.
    fast: &'static str,
    strong: &'static str,
}

// Addresses, variables and model ids come from the vendors' API references.
const ANTHROPIC: Vendor = Vendor {
    name: "anthropic",
    url: "https://api.anthropic.com",
    url_var: "ANTHROPIC_BASE_URL",
    key_var: "ANTHROPIC_API_KEY",
    fast: "claude-haiku-5-5",
    strong: "claude-opus-5-5",
};
const OPENAI: Vendor = Vendor {
    name: "openai",
    url: "https://api.openai.com/v1",
    url_var: "OPENAI_BASE_URL",
    key_var: "OPENAI_API_KEY",
    fast: "gpt-6-luna",
    strong: "gpt-6-sol",
};
const OFFLINE: &str = "offline";

impl Vendor {
    /// Returns whether a base URL, as [`base_url`] returns it, is the vendor's own.
    fn is_at(&self, url: &str) -> bool {
        url == self.url
    }
}

impl Kind {
    fn vendor(self) -> Option<&'static Vendor> {
        match self {
            Self::Anthropic => Some(&ANTHROPIC),
            Self::OpenAi | Self::OpenAiResponses => Some(&OPENAI),
            Self::Offline | Self::Script => None,
        }
    }

    /// Returns the kind of a provider without a `kind`, if it needs no entry.
    fn assumed(env: &Env, name: &str, raw: &RawProvider) -> Option<Self> {
        let is_at_vendor = || match (&raw.base_url, env.var(OPENAI.url_var)) {
            (Some((url, _)), _) => OPENAI.is_at(url),
            (None, Some(text)) => base_url(text).is_ok_and(|url| OPENAI.is_at(&url)),
            (None, None) => true,
        };
        match name {
            name if name == ANTHROPIC.name => Some(Self::Anthropic),
            // Other servers speak chat completions.
            name if name == OPENAI.name && is_at_vendor() => Some(Self::OpenAiResponses),
            name if name == OPENAI.name => Some(Self::OpenAi),
            OFFLINE => Some(Self::Offline),
            _ => None,
        }
    }

    /// Returns whether the settings of a provider `name` with the kind `before` mean the same to this kind.
    pub(super) fn keeps_settings(self, name: &str, before: Option<Self>) -> bool {
        let vendor = |kind: Self| kind.vendor().map(|vendor| vendor.name);
        match before {
            Some(before) => self == before || (vendor(self).is_some() && vendor(self) == vendor(before)),
            None => name == vendor(self).unwrap_or(OFFLINE) && self != Self::Script,
        }
    }
}

impl ProviderConfig {
    /// Returns whether the provider's address is that of the vendor of its kind.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// use agenthost_config::{Config, Env};
    ///
    /// let text = "[providers.openai]\nbase-url = 'https://api.openai.com/v1/'\n";
    /// std::fs::write(dir.path().join("agenthost.toml"), text)?;
    /// let config = Config::load(&Env::new([].into(), dir.path(), None))?;
    /// assert!(config.provider("openai").is_some_and(|openai| openai.is_at_vendor()));
    /// assert!(config.provider("offline").is_some_and(|offline| !offline.is_at_vendor()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_at_vendor(&self) -> bool {
        let vendor = Kind::parse(self.kind.name()).ok().and_then(Kind::vendor);
        let address = self.address.as_ref();
        vendor
            .zip(address)
            .is_some_and(|(vendor, address)| vendor.is_at(&address.url))
    }
}

/// Returns the variable that holds the key of a provider of this kind by default.
pub(super) fn usual_key_variable(kind: &ProviderKind) -> Option<&'static str> {
    let vendor = Kind::parse(kind.name()).ok()?.vendor()?;
    Some(vendor.key_var)
}

/// Merges `upper` over `lower`, fills in defaults and validates the result. Each layer comes with its file.
pub(super) fn resolve(
    env: &Env,
    (lower, user_file): (Layer, Option<PathBuf>),
    (upper, project_file): (Layer, Option<PathBuf>),
    accepted: &Accepted,
) -> Result<Config, ConfigError> {
    check_journal(&upper, project_file.as_deref())?;
    check_schedules(&upper, project_file.as_deref())?;
    let compile = compile::resolve(&lower.compile, &upper.compile, &upper.origins)?;
    let Merged { layer, lifts } = merge(lower, upper, accepted);
    let providers = providers(env, layer.providers, &layer.origins)?;
    let limits = Limits::task_default().overridden_by(&layer.limits);
    let tasks_assumed = layer.limits.tasks.is_none();
    let models_assumed = layer.models.is_empty();
    let models = if models_assumed {
        assumed_models(env, &providers)
    } else {
        layer.models
    };
    check_models(&models, &providers, &layer.origins)?;
    let grants = grants(layer.grants, &models, &layer.origins)?;
    let config = Config {
        models,
        models_assumed,
        offline_asked: false,
        providers,
        limits,
        tasks_assumed,
        reply_tokens: layer.reply_tokens.unwrap_or(REPLY_TOKENS),
        run: RunConfig {
            strict_tokens: layer.run.strict_tokens.unwrap_or(false),
            max_concurrent_tasks: layer.run.max_concurrent_tasks,
            log_bytes: layer.run.log_bytes.unwrap_or(LOG_BYTES),
            limits: Limits::none().overridden_by(&layer.run.limits),
            memory: layer.run.limits.memory,
            memory_within_default: layer.run.memory_within_default,
        },
        user_allowance: layer.allowance,
        project_allowance: layer.project_allowance,
        compile,
        journal: JournalConfig {
            enabled: layer.journal.enabled.unwrap_or(true),
            file: layer.journal.file,
            bodies: layer.journal.bodies.unwrap_or_default(),
            max_run_bytes: match layer.journal.max_run_bytes {
                Some(Cap::Unlimited) => None,
                Some(Cap::At(most)) => Some(most),
                None => Some(MAX_RUN_BYTES),
            },
        },
        grants,
        own_server_tools: layer.own_server_tools,
        sub_agents: layer.sub_agents,
        prices: layer.prices,
        price_floors: layer.price_floors,
        registries: layer.registries,
        policies: layer.policies,
        schedules: layer.schedules,
        lifts,
        origins: layer.origins,
        project_file,
        user_file,
        env: env.clone(),
    };
    match models_assumed && asks_for_offline_models(env) {
        true => config.with_offline_models(),
        false => Ok(config),
    }
}

fn providers(
    env: &Env,
    mut raw: BTreeMap<String, RawProvider>,
    origins: &Origins,
) -> Result<BTreeMap<String, ProviderConfig>, ConfigError> {
    for name in [ANTHROPIC.name, OPENAI.name, OFFLINE] {
        raw.entry(name.to_owned()).or_default();
    }
    raw.into_iter()
        .map(|(name, raw)| Ok((name.clone(), provider(env, &name, raw, origins)?)))
        .collect()
}

fn provider(env: &Env, name: &str, raw: RawProvider, origins: &Origins) -> Result<ProviderConfig, ConfigError> {
    let entry = format!("providers.{name}");
    let incomplete = |key| ConfigError::IncompleteProvider {
        at: origins.get(&entry).cloned(),
        provider: name.to_owned(),
        key,
    };
    let Some(kind) = raw.kind.or_else(|| Kind::assumed(env, name, &raw)) else {
        return Err(incomplete("kind"));
    };
    let foreign: &[&str] = match kind {
        Kind::Anthropic => &["file", "max-tokens-field"],
        Kind::OpenAi => &["file"],
        Kind::OpenAiResponses => &["file", "max-tokens-field"],
        Kind::Offline => &[
            "base-url",
            "key-env",
            "key-file",
            "file",
            "max-tokens-field",
            "silence",
            "structured-output",
            "headers",
            "query",
        ],
        Kind::Script => &[
            "base-url",
            "key-env",
            "key-file",
            "max-tokens-field",
            "silence",
            "structured-output",
            "headers",
            "query",
        ],
    };
    let full = match (kind, raw.file) {
        (Kind::Anthropic, _) => ProviderKind::Anthropic,
        (Kind::OpenAi, _) => ProviderKind::OpenAi {
            max_tokens_field: raw.max_tokens_field.unwrap_or_default(),
        },
        (Kind::OpenAiResponses, _) => ProviderKind::OpenAiResponses,
        (Kind::Offline, _) => ProviderKind::Offline,
        (Kind::Script, Some(file)) => ProviderKind::Script { file },
        (Kind::Script, None) => {
            return Err(incomplete("file"));
        }
    };
    if let Some(key) = foreign
        .iter()
        .find(|key| origins.contains_key(&format!("{entry}.{key}")))
    {
        return Err(ConfigError::KeyOfOtherKind {
            at: origins.get(&format!("{entry}.{key}")).cloned(),
            provider: name.to_owned(),
            key,
            kind: full.name(),
        });
    }
    if kind == Kind::Anthropic && raw.structured_output == Some(StructuredOutput::JsonObject) {
        return Err(ConfigError::NoJsonObject {
            at: origins.get(&format!("{entry}.structured-output")).cloned(),
            provider: name.to_owned(),
        });
    }
    check_headers(name, kind, &raw.fields, raw.key.is_some())?;
    let vendor = kind.vendor();
    let address = match (raw.base_url, vendor) {
        (Some((url, origin)), _) => Some(Address {
            url,
            set_by: SetBy::File(origin),
        }),
        (None, Some(vendor)) => Some(usual_address(env, vendor)?),
        (None, None) => None,
    };
    let key_assumed = raw.key.is_none();
    let by_file = address
        .as_ref()
        .is_some_and(|address| matches!(address.set_by, SetBy::File(_)));
    let usual_key = vendor
        .filter(|vendor| vendor.name == name || !by_file)
        .filter(|_| !raw.fields.iter().any(RequestField::replaces_key))
        .map(|vendor| KeySource::Variable(vendor.key_var.to_owned()));
    Ok(ProviderConfig {
        kind: full,
        address,
        key: raw.key.or(usual_key),
        requests_per_minute: raw.requests_per_minute,
        tokens_per_minute: raw.tokens_per_minute,
        max_concurrency: raw.max_concurrency,
        initial_concurrency: raw.initial_concurrency,
        retries: raw.retries,
        hedge_after: raw.hedge_after,
        warm_prefix: raw.warm_prefix,
        timeout: raw.timeout,
        silence: raw.silence,
        structured_output: raw.structured_output.unwrap_or_default(),
        fields: raw.fields,
        key_assumed,
    })
}

/// Refuses the headers that the wire of `kind` sets itself: its version, and the key if one is named.
fn check_headers(name: &str, kind: Kind, fields: &[RequestField], has_key: bool) -> Result<(), ConfigError> {
    let (of_key, of_wire) = match kind {
        Kind::Anthropic => ("x-api-key", "anthropic-version"),
        Kind::OpenAi | Kind::OpenAiResponses | Kind::Offline | Kind::Script => ("authorization", ""),
    };
    let mut headers = fields.iter().filter(|field| field.place == FieldPlace::Header);
    let taken = headers.find(|field| field.name == of_wire || (field.name == of_key && has_key));
    taken.map_or(Ok(()), |field| {
        Err(ConfigError::OwnHeader {
            at: field.origin.clone(),
            provider: name.to_owned(),
            of_key: field.name == of_key,
            header: field.name.clone(),
        })
    })
}

fn usual_address(env: &Env, vendor: &Vendor) -> Result<Address, ConfigError> {
    match env.var(vendor.url_var) {
        Some(text) => Ok(Address {
            url: base_url(text).map_err(|problem| ConfigError::AddressVariable {
                variable: vendor.url_var,
                problem,
            })?,
            set_by: SetBy::Variable(vendor.url_var),
        }),
        None => Ok(Address {
            url: vendor.url.to_owned(),
            set_by: SetBy::Vendor,
        }),
    }
}

/// Returns whether the variable [`OFFLINE_MODELS`] asks for the offline provider.
fn asks_for_offline_models(env: &Env) -> bool {
    !matches!(env.var(OFFLINE_MODELS).unwrap_or_default(), "" | "0" | "false")
}

/// Maps `fast` and `strong` to the first vendor whose key is available, or else to the offline provider.
fn assumed_models(env: &Env, providers: &BTreeMap<String, ProviderConfig>) -> BTreeMap<String, Vec<ModelRef>> {
    let at_hand = |vendor: &&Vendor| {
        let Some(provider) = providers.get(vendor.name) else {
            return false;
        };
        let key = provider.key.as_ref();
        key.is_some_and(|key| key.is_at_hand(env)) || provider.fields.iter().any(RequestField::replaces_key)
    };
    let (provider, fast, strong) = match [&ANTHROPIC, &OPENAI].into_iter().find(at_hand) {
        Some(vendor) => (vendor.name, vendor.fast, vendor.strong),
        None => (OFFLINE, "fast", "strong"),
    };
    let model = |name: &str, model: &str| {
        let model = ModelRef {
            provider: provider.to_owned(),
            model: model.to_owned(),
        };
        (name.to_owned(), vec![model])
    };
    BTreeMap::from([model("fast", fast), model("strong", strong)])
}

pub(super) fn check_models(
    models: &BTreeMap<String, Vec<ModelRef>>,
    providers: &BTreeMap<String, ProviderConfig>,
    origins: &Origins,
) -> Result<(), ConfigError> {
    for (name, chain) in models {
        if let Some(ModelRef { provider, .. }) = chain.iter().find(|model| !providers.contains_key(&model.provider)) {
            return Err(ConfigError::UnknownProvider {
                at: origins.get(&format!("models.{name}")).cloned(),
                model: name.clone(),
                provider: provider.clone(),
                known: providers.keys().cloned().collect(),
            });
        }
    }
    Ok(())
}

/// Refuses a journal outside the folder of a project's file: the file may come from a stranger, who must not choose
/// where on this machine prompts and replies are written.
fn check_journal(upper: &Layer, project_file: Option<&Path>) -> Result<(), ConfigError> {
    let (Some(file), Some(project)) = (&upper.journal.file, project_file.and_then(Path::parent)) else {
        return Ok(());
    };
    match is_below(file, project) {
        true => Ok(()),
        false => Err(ConfigError::JournalOutside {
            at: upper.origins.get("journal.file").cloned(),
        }),
    }
}

/// Refuses a file of a project's schedule that is outside the folder of the project's file: what it holds is sent to a
/// model.
fn check_schedules(upper: &Layer, project_file: Option<&Path>) -> Result<(), ConfigError> {
    let Some(project) = project_file.and_then(Path::parent) else {
        return Ok(());
    };
    for (name, schedule) in &upper.schedules {
        if let Some((key, _)) = schedule.files().find(|(_, path)| !is_below(path, project)) {
            return Err(ConfigError::ScheduleOutside {
                at: upper.origins.get(&format!("schedules.{name}.{key}")).cloned(),
                schedule: name.clone(),
                key,
            });
        }
    }
    Ok(())
}

/// Returns whether a file is below a folder. A link in the folder must not lead outside either.
fn is_below(file: &Path, folder: &Path) -> bool {
    let inside = file
        .strip_prefix(folder)
        .is_ok_and(|below| below.components().all(|part| matches!(part, Component::Normal(_))));
    inside && place(file).starts_with(place(folder))
}

fn grants(
    raw: BTreeMap<String, RawGrant>,
    models: &BTreeMap<String, Vec<ModelRef>>,
    origins: &Origins,
) -> Result<BTreeMap<String, Grant>, ConfigError> {
    let resolve = |(plugin, raw): (String, RawGrant)| {
        if let Some(name) = raw.models.iter().flatten().find(|name| !models.contains_key(*name)) {
            return Err(ConfigError::UnknownModel {
                at: origins.get(&format!("grants.{plugin}.models")).cloned(),
                model: name.clone(),
                known: models.keys().cloned().collect(),
                plugin,
            });
        }
        let grant = Grant {
            models: raw.models.map(|names| names.into_iter().collect()),
            limits: Limits::none().overridden_by(&raw.limits),
            dirs: raw.dirs,
            server_tools: raw.server_tools,
        };
        Ok((plugin, grant))
    };
    raw.into_iter().map(resolve).collect()
}
