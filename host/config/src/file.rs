//! Reads one configuration file, section by section, and reports the mistakes that a single file shows.
//!
//! Checks that need both files, such as whether a provider exists, are in `resolve`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::compile::{self, RawCompile};
use super::error::FileError;
use super::origin::{Origin, Origins};
use super::reader::{Section, Source, TomlEntry};
use crate::dirs::DirGrant;
use crate::env::Env;
use crate::schedule::{self, ScheduleConfig};
use crate::server_tools;
use crate::settings::{
    AllowanceConfig, BodyRetention, FieldSource, KeySource, MaxTokensField, ModelRef, PriceConfig, RatesConfig,
    RegistryConfig, RequestField, StructuredOutput, SubAgent,
};
use agenthost_core::limits::units::{parse_bytes, parse_count, parse_duration};
use agenthost_core::limits::{Cap, LimitsPatch, Usd};
use agenthost_core::llm::ServerToolGrants;
use agenthost_core::request_field::{self, FieldPlace, FieldProblem};

/// The entries of one file, without defaults.
#[derive(Default)]
pub(super) struct Layer {
    pub(super) models: BTreeMap<String, Vec<ModelRef>>,
    pub(super) providers: BTreeMap<String, RawProvider>,
    pub(super) limits: LimitsPatch,
    pub(super) reply_tokens: Option<u32>,
    pub(super) run: RawRun,
    /// The allowance of the file; after a merge, that of the operator's file.
    pub(super) allowance: AllowanceConfig,
    /// The allowance of the project's file, after a merge.
    pub(super) project_allowance: AllowanceConfig,
    pub(super) compile: RawCompile,
    pub(super) journal: RawJournal,
    pub(super) grants: BTreeMap<String, RawGrant>,
    /// The tools of providers that the operator's own file grants, by plugin.
    pub(super) own_server_tools: BTreeMap<String, ServerToolGrants>,
    pub(super) sub_agents: BTreeMap<String, SubAgent>,
    pub(super) prices: BTreeMap<ModelRef, PriceConfig>,
    /// The prices of the operator's own file.
    pub(super) price_floors: BTreeMap<ModelRef, PriceConfig>,
    pub(super) registries: BTreeMap<String, RegistryConfig>,
    pub(super) policies: Vec<PathBuf>,
    pub(super) schedules: BTreeMap<String, ScheduleConfig>,
    pub(super) origins: Origins,
}

#[derive(Default)]
pub(super) struct RawProvider {
    pub(super) kind: Option<Kind>,
    pub(super) base_url: Option<(String, Origin)>,
    pub(super) key: Option<KeySource>,
    pub(super) requests_per_minute: Option<u64>,
    pub(super) tokens_per_minute: Option<u64>,
    pub(super) max_concurrency: Option<u32>,
    pub(super) initial_concurrency: Option<u32>,
    pub(super) retries: Option<u32>,
    pub(super) hedge_after: Option<Duration>,
    pub(super) warm_prefix: Option<bool>,
    pub(super) timeout: Option<Duration>,
    pub(super) silence: Option<Duration>,
    pub(super) structured_output: Option<StructuredOutput>,
    pub(super) file: Option<PathBuf>,
    pub(super) max_tokens_field: Option<MaxTokensField>,
    pub(super) fields: Vec<RequestField>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Anthropic,
    OpenAi,
    OpenAiResponses,
    Offline,
    Script,
}

impl Kind {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "anthropic" => Ok(Self::Anthropic),
            "openai" => Ok(Self::OpenAi),
            "openai-responses" => Ok(Self::OpenAiResponses),
            "offline" => Ok(Self::Offline),
            "script" => Ok(Self::Script),
            _ => Err(format!(
                "`{text}` is not a kind of provider; write anthropic, openai, openai-responses, offline or script"
            )),
        }
    }
}

#[derive(Default)]
pub(super) struct RawRun {
    pub(super) strict_tokens: Option<bool>,
    pub(super) max_concurrent_tasks: Option<u32>,
    pub(super) log_bytes: Option<u64>,
    pub(super) limits: LimitsPatch,
    /// `true` if the machine's default bounds `limits.memory`; see `RunConfig`.
    pub(super) memory_within_default: bool,
}

#[derive(Default)]
pub(super) struct RawJournal {
    pub(super) enabled: Option<bool>,
    pub(super) file: Option<PathBuf>,
    pub(super) bodies: Option<BodyRetention>,
    pub(super) max_run_bytes: Option<Cap<u64>>,
}

#[derive(Default)]
pub(super) struct RawGrant {
    pub(super) models: Option<Vec<String>>,
    pub(super) limits: LimitsPatch,
    pub(super) dirs: Vec<DirGrant>,
    pub(super) server_tools: ServerToolGrants,
}

/// Reads the file at `path`; see [`Source::read`] for `found`.
pub(super) fn read(env: &Env, path: PathBuf, found: bool) -> Result<Layer, FileError> {
    let source = Source::read(env, path, found)?;
    let (table, origins) = source.parse()?;
    let top = Section::top(&source, table.get_ref());
    top.only(&[
        "models",
        "providers",
        "limits",
        "run",
        "allowance",
        "compile",
        "journal",
        "grants",
        "sub-agents",
        "prices",
        "registries",
        "policy",
        "schedules",
    ])?;
    let mut layer = Layer {
        origins,
        ..Layer::default()
    };
    for entry in top.entries() {
        let section = entry.section()?;
        match entry.key {
            "models" => layer.models = named(&section, None, model_name, chain)?,
            "providers" => layer.providers = named(&section, None, provider_name, provider)?,
            "limits" => {
                (layer.limits, layer.reply_tokens) = (
                    limits(&section, &["reply-tokens"])?,
                    section.number_as("reply-tokens", positive_u32)?,
                );
            }
            "run" => layer.run = run(&section)?,
            "allowance" => layer.allowance = allowance(&section)?,
            "compile" => layer.compile = compile::read(&section)?,
            "journal" => layer.journal = journal(&section)?,
            "grants" => layer.grants = named(&section, None, plugin_name, grant)?,
            "sub-agents" => {
                layer.sub_agents = named(&section, None, plugin_name, |entry| {
                    entry.text_as(|text| sub_agent(section.source, text))
                })?;
            }
            "prices" => layer.prices = named(&section, None, str::parse, price)?,
            "registries" => {
                layer.registries = named(&section, Some(REGISTRY_HINT), namespace, |entry| {
                    entry.text_as(|text| registry(section.source, text))
                })?;
            }
            "policy" => {
                section.only(&["files"])?;
                let path = |text: &str| source.env.resolve(text, source.dir());
                layer.policies = section
                    .get("files")
                    .map_or_else(|| Ok(Vec::new()), |entry| entry.list_as(path))?;
            }
            "schedules" => layer.schedules = named(&section, None, schedule::name, schedule::read)?,
            _ => {}
        }
    }
    Ok(layer)
}

const REGISTRY_HINT: &str =
    "Write acme = \"registry.example/plugins\", or a directory: acme = \"./registry\"; \"*\" is every other namespace.";

/// Reads all entries of a section whose keys the user chooses; `hint` is attached to the error for an invalid key.
fn named<'a, K: Ord, T>(
    section: &Section<'a>,
    hint: Option<&'static str>,
    name: impl Fn(&str) -> Result<K, String>,
    value: impl Fn(&TomlEntry<'a>) -> Result<T, FileError>,
) -> Result<BTreeMap<K, T>, FileError> {
    let name = |entry: &TomlEntry<'a>| {
        name(entry.key).map_err(|error| match hint {
            Some(hint) => entry.wrong_name(error).with_advice(hint),
            None => entry.wrong_name(error),
        })
    };
    section
        .entries()
        .map(|entry| Ok((name(&entry)?, value(&entry)?)))
        .collect()
}

/// Reads one model, or a list of models that are tried in turn.
fn chain(entry: &TomlEntry<'_>) -> Result<Vec<ModelRef>, FileError> {
    let models: Vec<ModelRef> = entry
        .one_or_more_as(str::parse)
        .map_err(|error| error.with_advice("Write one model in quotes, or a list of models that are tried in turn."))?;
    let mut before = BTreeSet::new();
    match models.iter().find(|model| !before.insert(*model)) {
        Some(twice) => Err(entry
            .wrong(format!("the list names `{twice}` twice"))
            .with_advice("Name each model once; what another attempt can help is tried again anyway.")),
        None => Ok(models),
    }
}

fn limits(section: &Section<'_>, more: &[&str]) -> Result<LimitsPatch, FileError> {
    section.only(&[LimitsPatch::KEYS, more].concat())?;
    let mut patch = LimitsPatch::default();
    for entry in section.entries().filter(|entry| !more.contains(&entry.key)) {
        entry.number_as(|text| patch.set(entry.key, text))?;
    }
    Ok(patch)
}

fn inner_limits(section: &Section<'_>) -> Result<LimitsPatch, FileError> {
    section
        .get("limits")
        .map_or_else(|| Ok(LimitsPatch::default()), |entry| limits(&entry.section()?, &[]))
}

fn provider(entry: &TomlEntry<'_>) -> Result<RawProvider, FileError> {
    const KEYS: [&str; 18] = [
        "kind",
        "base-url",
        "key-env",
        "key-file",
        "requests-per-minute",
        "tokens-per-minute",
        "max-concurrency",
        "initial-concurrency",
        "retries",
        "hedge-after",
        "warm-prefix",
        "timeout",
        "silence",
        "structured-output",
        "file",
        "max-tokens-field",
        "headers",
        "query",
    ];
    let section = entry.section()?;
    for key in ["key", "api-key", "api_key", "token"] {
        if let Some(entry) = section.get(key) {
            return Err(entry.wrong("a key must not be in this file").with_advice(
                "Name where it is: key-env = \"A_VARIABLE\", or key-file = \"a file only you can read\".",
            ));
        }
    }
    section.only(&KEYS)?;
    let path = |text: &str| section.source.env.resolve(text, section.source.dir());
    let text = |key| section.get(key);
    let key = match (text("key-env"), text("key-file")) {
        (Some(_), Some(file)) => return Err(file.wrong("there is a `key-env` too; write one of them")),
        (Some(name), None) => Some(KeySource::Variable(name.text_as(variable_name)?)),
        (None, Some(file)) => Some(KeySource::File(file.text_as(path)?)),
        (None, None) => None,
    };
    Ok(RawProvider {
        kind: text("kind").map(|entry| entry.text_as(Kind::parse)).transpose()?,
        base_url: text("base-url")
            .map(|entry| Ok::<_, FileError>((entry.text_as(base_url)?, entry.origin())))
            .transpose()?,
        key,
        requests_per_minute: section.number_as("requests-per-minute", positive)
            .map_err(|error| error.with_advice("Write how many requests a minute may have; leave it out for no such limit."))?,
        tokens_per_minute: section.number_as("tokens-per-minute", positive)
            .map_err(|error| error.with_advice("Write how many tokens a minute may have; leave it out for no such limit."))?,
        max_concurrency: section.number_as("max-concurrency", positive_u32)
            .map_err(|error| error.with_advice("Write how many requests to one model may be in flight, such as 64."))?,
        initial_concurrency: section.number_as("initial-concurrency", positive_u32)
            .map_err(|error| error.with_advice("Write how many requests may be in flight at the start, such as 4."))?,
        retries: section.number_as("retries", count_u32)
            .map_err(|error| error.with_advice("Write how many attempts may follow the first, such as 4; 0 for none."))?,
        hedge_after: section.number_as("hedge-after", parse_duration).map_err(|error| {
            error.with_advice("Write after what time without an answer a second attempt starts, such as \"20s\"; leave it out for none.")
        })?,
        warm_prefix: text("warm-prefix")
            .map(|entry| entry.boolean())
            .transpose()
            .map_err(|error| error.with_advice("Write false to send requests that share a long prefix all at once."))?,
        timeout: section.number_as("timeout", parse_duration)
            .map_err(|error| error.with_advice("Write how long the first byte of an answer may take, such as \"2m\"."))?,
        silence: section.number_as("silence", parse_duration)
            .map_err(|error| error.with_advice("Write how long an answer may pause once it has begun, such as \"30s\"."))?,
        structured_output: text("structured-output")
            .map(|entry| entry.text_as(structured_output))
            .transpose()?,
        file: text("file").map(|entry| entry.text_as(path)).transpose()?,
        max_tokens_field: text("max-tokens-field")
            .map(|entry| entry.text_as(max_tokens_field))
            .transpose()?,
        fields: [("headers", FieldPlace::Header), ("query", FieldPlace::Query)]
            .into_iter()
            .filter_map(|(key, place)| Some((section.get(key)?, place)))
            .map(|(entry, place)| fields(&entry, place))
            .collect::<Result<Vec<_>, _>>()?
            .concat(),
    })
}

const FIELD_HINT: &str =
    "Write NAME = \"VALUE\", or NAME = { env = \"A_VARIABLE\" } for a value from an environment variable.";

/// Reads the table of the headers or query parameters that are added to every request.
fn fields(entry: &TomlEntry<'_>, place: FieldPlace) -> Result<Vec<RequestField>, FileError> {
    let section = entry.section().map_err(|error| error.with_advice(FIELD_HINT))?;
    let mut fields = Vec::new();
    for entry in section.entries() {
        let field = field(&entry, place)?;
        if fields.iter().any(|other| field.is_namesake(other)) {
            return Err(entry
                .wrong("duplicate header; case does not matter")
                .with_advice("Write each header once."));
        }
        fields.push(field);
    }
    let lengths = fields.iter().map(|field| {
        let (FieldSource::Text(value) | FieldSource::Variable(value)) = &field.value;
        field.name.len() + value.len()
    });
    request_field::check_all(lengths)
        .map_err(|problem| entry.wrong(problem.to_string()).with_advice(problem.hint()))?;
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(fields)
}

fn field(entry: &TomlEntry<'_>, place: FieldPlace) -> Result<RequestField, FileError> {
    let wrong = |problem: FieldProblem| entry.wrong(problem.to_string()).with_advice(problem.hint());
    let name = place.check_name(entry.key).map_err(wrong)?;
    let table = entry
        .section_unless_text()
        .map_err(|error| error.with_advice(FIELD_HINT))?;
    let value = match table {
        Some(table) => {
            table.only(&["env"])?;
            let variable = table
                .get("env")
                .ok_or_else(|| entry.wrong("the table has no `env`").with_advice(FIELD_HINT))?;
            FieldSource::Variable(variable.text_as(variable_name)?)
        }
        None if place.is_credential(&name) => {
            return Err(entry
                .wrong("a key must not be in this file")
                .with_advice("Name the environment variable that holds it: { env = \"A_VARIABLE\" }."));
        }
        None => {
            let text = entry.text()?;
            place.check_value(text).map_err(wrong)?;
            FieldSource::Text(text.to_owned())
        }
    };
    Ok(RequestField {
        place,
        name,
        value,
        origin: entry.origin(),
    })
}

fn run(section: &Section<'_>) -> Result<RawRun, FileError> {
    section.only(&["strict-tokens", "max-concurrent-tasks", "log-bytes", "limits"])?;
    if let Some(limits) = section.get("limits") {
        let limits = limits.section()?;
        if let Some(entry) = ["timeout", "depth"].iter().find_map(|key| limits.get(key)) {
            return Err(entry
                .wrong("bounds a task, not what a run spends")
                .with_advice("Write it under [limits]; a task's sub-tasks are within it."));
        }
    }
    Ok(RawRun {
        strict_tokens: section.get("strict-tokens").map(|entry| entry.boolean()).transpose()?,
        max_concurrent_tasks: section.number_as("max-concurrent-tasks", positive_u32)?,
        log_bytes: section.number_as("log-bytes", parse_bytes)?,
        limits: inner_limits(section)?,
        memory_within_default: false,
    })
}

fn allowance(section: &Section<'_>) -> Result<AllowanceConfig, FileError> {
    section.only(&["tokens-per-day", "cost-per-day", "tokens-per-month", "cost-per-month"])?;
    let usd = |key| section.number_as(key, str::parse::<Usd>);
    Ok(AllowanceConfig {
        tokens_per_day: section.number_as("tokens-per-day", parse_count)?,
        cost_per_day: usd("cost-per-day")?,
        tokens_per_month: section.number_as("tokens-per-month", parse_count)?,
        cost_per_month: usd("cost-per-month")?,
    })
}

fn journal(section: &Section<'_>) -> Result<RawJournal, FileError> {
    section.only(&["enabled", "file", "bodies", "max-run-bytes"])?;
    let path = |text: &str| section.source.env.resolve(text, section.source.dir());
    Ok(RawJournal {
        enabled: section.get("enabled").map(|entry| entry.boolean()).transpose()?,
        file: section.get("file").map(|entry| entry.text_as(path)).transpose()?,
        bodies: section.get("bodies").map(|entry| entry.text_as(bodies)).transpose()?,
        max_run_bytes: section.number_as("max-run-bytes", |text| Cap::parse(text, parse_bytes))?,
    })
}

fn bodies(text: &str) -> Result<BodyRetention, String> {
    match text {
        "all" => Ok(BodyRetention::All),
        "replies" => Ok(BodyRetention::Replies),
        "none" => Ok(BodyRetention::None),
        _ => Err(format!("`{text}` is not known; write all, replies or none")),
    }
}

fn grant(entry: &TomlEntry<'_>) -> Result<RawGrant, FileError> {
    let section = entry.section()?;
    section.only(&["models", "limits", "dirs", "server-tools"])?;
    let dir = |text: &str| DirGrant::read(section.source.env, text, section.source.dir());
    let dirs = |entry: TomlEntry<'_>| {
        let dirs = entry.list_as(dir)?;
        DirGrant::check_distinct(&dirs).map_err(|twice| entry.wrong(twice))?;
        Ok::<_, FileError>(dirs)
    };
    Ok(RawGrant {
        models: section
            .get("models")
            .map(|entry| entry.list_as(model_name))
            .transpose()?,
        limits: inner_limits(&section)?,
        dirs: section.get("dirs").map_or_else(|| Ok(Vec::new()), dirs)?,
        server_tools: section
            .get("server-tools")
            .map(|entry| server_tools::read(&entry))
            .transpose()?
            .unwrap_or_default(),
    })
}

fn price(entry: &TomlEntry<'_>) -> Result<PriceConfig, FileError> {
    let section = entry.section()?;
    section.only(&[RATES, &["long-context", "search", "search-tokens"]].concat())?;
    Ok(PriceConfig {
        rates: rates(&section)?,
        search: section.number_as("search", str::parse::<Usd>)?,
        search_tokens: section.number_as("search-tokens", parse_count)?,
        long_context: section
            .get("long-context")
            .map(|entry| long_context(&entry))
            .transpose()?,
    })
}

fn long_context(entry: &TomlEntry<'_>) -> Result<(u64, RatesConfig), FileError> {
    let hint =
        "Write long-context = { above = 100_000, input = 0.50, output = 2.50 }, with prices in USD per million tokens.";
    let section = entry.section().map_err(|error| error.with_advice(hint))?;
    section.only(&[&["above"], RATES].concat())?;
    let rates = rates(&section)?;
    match section.number_as("above", positive)? {
        Some(above) if rates.input.is_some() && rates.output.is_some() => Ok((above, rates)),
        _ => Err(entry.wrong("it needs `above`, `input` and `output`").with_advice(hint)),
    }
}

const RATES: &[&str] = &["input", "output", "cache-read", "cache-write", "cache-write-1h"];

fn rates(section: &Section<'_>) -> Result<RatesConfig, FileError> {
    let usd = |key| section.number_as(key, str::parse::<Usd>);
    Ok(RatesConfig {
        input: usd("input")?,
        output: usd("output")?,
        cache_read: usd("cache-read")?,
        cache_write: usd("cache-write")?,
        cache_write_1h: usd("cache-write-1h")?,
    })
}

/// Reads a path, or a registry reference if the text has a colon or an at sign and neither starts nor ends like a path.
fn sub_agent(source: &Source<'_>, text: &str) -> Result<SubAgent, String> {
    let is_path = ["./", "../", "/", "~/"].iter().any(|start| text.starts_with(start))
        || text.ends_with(".wasm")
        || !text.contains([':', '@']);
    if is_path {
        Ok(SubAgent::Path(source.env.resolve(text, source.dir())?))
    } else {
        Ok(SubAgent::Reference(text.to_owned()))
    }
}

/// Reads the half of a plugin's name before the colon, or `*`.
fn namespace(text: &str) -> Result<String, String> {
    (text == "*" || is_name(text))
        .then(|| text.to_owned())
        .ok_or_else(|| format!("`{text}` is not a namespace; write lower-case letters, digits and -, or *"))
}

fn registry(source: &Source<'_>, text: &str) -> Result<RegistryConfig, String> {
    match ["./", "../", "/", "~/"].iter().any(|start| text.starts_with(start)) {
        true => Ok(RegistryConfig::Dir(source.env.resolve(text, source.dir())?)),
        false if text.contains("://") => Err(format!("`{text}` has a scheme; write the host alone: HOST/REPOSITORY")),
        false if !looks_like_a_host(text) => Err(format!(
            "`{text}` is not a registry: a host has a dot or a port, and a directory begins with ./, ../, / or ~/"
        )),
        false => Ok(RegistryConfig::Oci(text.trim_end_matches('/').to_owned())),
    }
}

/// Uses the rule of references. Whether the host exists shows when it is contacted.
fn looks_like_a_host(text: &str) -> bool {
    let host = text.split('/').next().unwrap_or_default();
    host == "localhost" || host.contains(['.', ':'])
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn model_name(text: &str) -> Result<String, String> {
    let what = "is not a model name; write 1 to 64 of a-z, 0-9 and -";
    is_name(text)
        .then(|| text.to_owned())
        .ok_or_else(|| format!("`{text}` {what}"))
}

fn provider_name(text: &str) -> Result<String, String> {
    let what = "is not a provider name; write 1 to 64 of a-z, 0-9 and -";
    is_name(text)
        .then(|| text.to_owned())
        .ok_or_else(|| format!("`{text}` {what}"))
}

fn plugin_name(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some((namespace, name)) if is_name(namespace) && is_name(name) => Ok(text.to_owned()),
        _ => Err(format!(
            "`{text}` is not a plugin; write namespace:name without a version, such as demo:competitor"
        )),
    }
}

// The text is not repeated: it may be a key that was put in the wrong place.
fn variable_name(text: &str) -> Result<String, String> {
    let well_formed = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && text.bytes().next().is_some_and(|first| !first.is_ascii_digit());
    well_formed
        .then(|| text.to_owned())
        .ok_or_else(|| "this is not the name of an environment variable; write letters, digits and _".to_owned())
}

fn max_tokens_field(text: &str) -> Result<MaxTokensField, String> {
    match text {
        "max-completion-tokens" => Ok(MaxTokensField::MaxCompletionTokens),
        "max-tokens" => Ok(MaxTokensField::MaxTokens),
        _ => Err(format!(
            "`{text}` is not known; write max-completion-tokens or max-tokens"
        )),
    }
}

fn structured_output(text: &str) -> Result<StructuredOutput, String> {
    match text {
        "auto" => Ok(StructuredOutput::Auto),
        "schema" => Ok(StructuredOutput::Schema),
        "json-object" => Ok(StructuredOutput::JsonObject),
        "prompt" => Ok(StructuredOutput::Prompt),
        _ => Err(format!(
            "`{text}` is not known; write auto, schema, json-object or prompt"
        )),
    }
}

/// Reads an address with the parser that connections use, so that the address judged is the address connected to.
pub(super) fn base_url(text: &str) -> Result<String, String> {
    let wrong = |what: &str| Err(format!("{what}; write http(s)://HOST[:PORT][/PATH]"));
    let Ok(url) = Url::parse(text.trim()) else {
        return wrong("this is not an address");
    };
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return wrong("this is not an http address");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("the address must not carry a user name or password");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return wrong("the address must not carry a query or fragment");
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn positive(text: &str) -> Result<u64, String> {
    match parse_count(text)? {
        0 => Err("it must be at least 1".to_owned()),
        count => Ok(count),
    }
}

fn positive_u32(text: &str) -> Result<u32, String> {
    positive(text).and_then(|_| count_u32(text))
}

fn count_u32(text: &str) -> Result<u32, String> {
    u32::try_from(parse_count(text)?).map_err(|_| format!("`{text}` is too large; the most is {}", u32::MAX))
}
