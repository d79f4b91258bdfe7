//! A provider that replies from a file: replies, latencies and failures, for tests of plugins and of whole runs.
//!
//! The file is TOML, because people write it: it allows comments and multi-line texts. The first rule that matches a
//! request determines the reply:
//!
//! ```toml
//! [[rule]]                       # the first two calls about Acme are turned away
//! contains = "Acme"              # text in the system text or in any message
//! model = "claude-haiku-5-5"     # the model's id, exactly
//! times = 2                      # how many requests the rule answers; without it, any number
//! error = "rate-limited"         # a failure: see below
//! message = "slow down"
//! retry-after-ms = 50
//! status = 429
//!
//! [[rule]]
//! contains = "Acme"
//! latency-ms = 500               # how long the answer, or the failure, takes
//! json = { company = "Acme", findings = [] }   # or text = "…"
//! stop = "end"                   # end, max-tokens, stop-sequence, tool-use, context-full, other
//! quota = { requests = { limit = 60, remaining = 59, reset-ms = 1000 } }   # what the headers say of rate limits
//! usage = { input = 1200, output = 80, cached-input = 1000 }
//!
//! [[rule]]
//! contains = "secret"
//! refusal = "I will not."        # the model declines
//!
//! [[rule]]
//! hang = true                    # never answers
//!
//! [[rule]]                       # a text that only the second call of a tool loop has
//! contains = "12 °C"
//! text = "It is cold."
//!
//! [[rule]]                       # calls tools, with or without a text before
//! contains = "weather"
//! tools = [{ name = "weather", arguments = { city = "Oslo" } }, { name = "time", invalid-arguments = "{" }]
//! ```
//!
//! A rule has exactly one of `text`, `json`, `refusal`, `error` and `hang`, or `tools` alone or beside `text`. The ids of
//! calls count up in the conversation, and the model stops to use tools. `contains` reads the results of tools too. `error` is the name of a
//! [`ProviderErrorKind`] in kebab-case. `usage` is a table of token counts, or `"none"` for a reply without them; if it
//! is omitted, the tokens are a quarter of the bytes. `quota` belongs to a reply or a failure; its meters are
//! `requests`, `tokens`, `input-tokens` and `output-tokens`, each with a `limit`, the `remaining` part of it, and
//! optionally `reset-ms`, the time until it is full again. TOML has no null: write a reply that contains one as `text`.
//! A request that matches no rule is an invalid request. Unknown keys are errors.
//!
//! Latency uses tokio's clock, so a test that pauses it does not wait. Concurrent requests use up a rule's `times` in
//! the order in which they arrive.
//!
//! Left out: the schema, the options and `max_tokens` of a request are ignored. A reply is returned exactly as it is in
//! the file.

use std::borrow::Cow;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use toml::Spanned;

use super::draft::Draft;
use super::error::ProviderSetupError;
use super::offline::{input_tokens, tokens};
use agenthost_core::llm::extension::ToolArguments;
use agenthost_core::llm::{
    Extension, Part, Provider, ProviderError, ProviderErrorKind, Quota, RateLimit, Reply, Request, Stop, Usage,
};
use agenthost_core::nearest::nearest;
use agenthost_core::plain_file::{self, Links};

/// The maximum size of a script.
const MAX_SCRIPT_BYTES: u64 = 64 << 20;
/// The length of the quote from a prompt that matches no rule, in characters.
const NAMED: usize = 80;

/// A provider that plays a script.
#[derive(Debug)]
pub struct Script {
    name: String,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    model: Option<String>,
    contains: Option<String>,
    /// The number of further requests that the rule answers; `None` for any number.
    left: Option<AtomicU32>,
    latency: Duration,
    quota: Option<Box<Quota>>,
    answer: ScriptedReply,
}

#[derive(Debug)]
enum ScriptedReply {
    Reply {
        /// The text; `None` for one that only calls tools.
        text: Option<String>,
        tools: Vec<ScriptedCall>,
        stop: Stop,
        usage: ScriptedUsage,
    },
    Refusal {
        words: String,
        usage: ScriptedUsage,
    },
    Error {
        kind: ProviderErrorKind,
        message: String,
        status: Option<u16>,
        retry_after: Option<Duration>,
    },
    Hang,
}

#[derive(Debug)]
struct ScriptedCall {
    name: String,
    arguments: ToolArguments,
}

#[derive(Debug, Clone, Copy)]
enum ScriptedUsage {
    Counted,
    Missing,
    Given(Usage),
}

impl Script {
    /// Reads the script in the file at `path`.
    ///
    /// ```
    /// use agenthost_providers::script::Script;
    ///
    /// let error = Script::load("no-such.toml".as_ref()).unwrap_err();
    /// assert_eq!(error.to_string(), "script no-such.toml");
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error of class `config`, with the file and the line, if the file cannot be read, is not valid TOML,
    /// or has an invalid rule.
    pub fn load(path: &Path) -> Result<Self, ProviderSetupError> {
        let text = plain_file::read_text(path, Links::Follow, MAX_SCRIPT_BYTES).map_err(|source| {
            ProviderSetupError::ReadScript {
                path: path.to_owned(),
                source,
            }
        })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Parses the script in `text`; error messages use `name` as its name.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost_providers::script::Script;
    /// use agenthost_core::llm::{Message, Options, Part, Provider as _, ProviderErrorKind, Request, Role};
    ///
    /// let script = Script::parse("
    ///     [[rule]]
    ///     times = 1
    ///     error = 'rate-limited'
    ///
    ///     [[rule]]
    ///     contains = 'colour'
    ///     text = 'Blue.'
    /// ", "colours")?;
    /// let request = Request {
    ///     model: "any".into(),
    ///     system: None,
    ///     messages: vec![Message { role: Role::User, content: vec![Part::Text("Name a colour.".into())] }],
    ///     max_tokens: 100,
    ///     schema: None,
    ///     options: Options::default(),
    ///     mark_prefix: None,
    /// };
    /// assert_eq!(script.complete(&request).await.err().map(|error| error.kind), Some(ProviderErrorKind::RateLimited));
    /// assert_eq!(script.complete(&request).await?.text(), "Blue.");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Same as [`Script::load`].
    pub fn parse(text: &str, name: &str) -> Result<Self, ProviderSetupError> {
        let fail = |at: Option<usize>, problem: &str| ProviderSetupError::Script {
            name: name.to_owned(),
            line: at.map(|at| text.get(..at).unwrap_or_default().matches('\n').count() + 1),
            problem: problem.to_owned(),
        };
        let file: File = toml::from_str(text).map_err(|error| {
            let start = error.span().map(|span| span.start);
            fail(
                start,
                &explained(error.message(), start.and_then(|start| text.get(start..))),
            )
        })?;
        let rules = file.rule.into_iter().map(|rule| {
            let start = rule.span().start;
            Rule::try_from(rule.into_inner()).map_err(|message| fail(Some(start), &message))
        });
        Ok(Self {
            name: name.to_owned(),
            rules: rules.collect::<Result<_, _>>()?,
        })
    }

    async fn play(&self, request: &Request) -> Result<Reply, ProviderError> {
        let Some(rule) = self.rules.iter().find(|rule| rule.takes(request)) else {
            let start: String = prompt(request).next().unwrap_or_default().chars().take(NAMED).collect();
            let message = format!(
                "no rule of script {} fits model {} and the prompt {start:?}",
                self.name, request.model
            );
            return Err(ProviderError::new(ProviderErrorKind::InvalidRequest, message));
        };
        if !rule.latency.is_zero() {
            tokio::time::sleep(rule.latency).await;
        }
        let mut draft = Draft::new(request, "script");
        let done = |draft: Draft<'_>, stop, output: u64, usage| {
            let usage = match usage {
                ScriptedUsage::Missing => None,
                ScriptedUsage::Given(usage) => Some(usage),
                ScriptedUsage::Counted => Some(Usage {
                    input: input_tokens(request),
                    output,
                    ..Usage::default()
                }),
            };
            draft
                .finish(stop)
                .with_model(&request.model)
                .with_usage(usage)
                .with_quota(rule.quota.clone())
        };
        match &rule.answer {
            ScriptedReply::Reply {
                text,
                tools,
                stop,
                usage,
            } => {
                let mut output = 0;
                if let Some(text) = text {
                    output += tokens(text);
                    draft.text(text);
                }
                for ScriptedCall { name, arguments } in tools {
                    output += tokens(name) + tokens(&arguments.text());
                    let id = draft.id(None);
                    draft.tool_call(id, name, arguments.clone(), None, |_| serde_json::Value::Null);
                }
                Ok(done(draft, *stop, output, *usage))
            }
            ScriptedReply::Refusal { words, usage } => {
                draft.refusal = Some(words.clone());
                Ok(done(draft, Stop::Refusal, tokens(words), *usage))
            }
            ScriptedReply::Error {
                kind,
                message,
                status,
                retry_after,
            } => {
                // An error with a status is a reply of the service.
                let may_be_billed =
                    *kind == ProviderErrorKind::BadReply || (*kind == ProviderErrorKind::Timeout && status.is_none());
                Err(ProviderError::new(*kind, message.clone())
                    .with_status(*status)
                    .with_retry_after(*retry_after)
                    .with_quota(rule.quota.clone())
                    .with_billing(may_be_billed))
            }
            ScriptedReply::Hang => std::future::pending().await,
        }
    }
}

impl Provider for Script {
    fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Reply, ProviderError>> {
        self.play(request).boxed()
    }

    fn kind(&self) -> &'static str {
        "script"
    }

    fn summary(&self) -> String {
        format!("script {} with {} rules", self.name, self.rules.len())
    }

    fn is_offline(&self) -> bool {
        true
    }

    fn lacks(&self, _tool: &agenthost_core::llm::ServerTool) -> Option<String> {
        None
    }
}

impl Rule {
    /// Returns whether the rule answers `request`, and counts it if so.
    fn takes(&self, request: &Request) -> bool {
        if self.model.as_ref().is_some_and(|model| *model != request.model) {
            return false;
        }
        if self
            .contains
            .as_ref()
            .is_some_and(|wanted| !prompt(request).any(|text| text.contains(wanted)))
        {
            return false;
        }
        let one_less = |left: u32| left.checked_sub(1);
        self.left
            .as_ref()
            .is_none_or(|left| left.try_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok())
    }
}

/// The texts of a request and the results of its tools, messages first.
fn prompt(request: &Request) -> impl Iterator<Item = Cow<'_, str>> {
    let parts = request.messages.iter().flat_map(|message| &message.content);
    let texts = parts.filter_map(|part| match part {
        Part::Text(text) => Some(Cow::Borrowed(text.as_str())),
        Part::Media { .. } => None,
        Part::Extension { .. } => match Extension::of(part) {
            Some(Ok(Extension::ToolResult(result))) => Some(Cow::Owned(result.content)),
            _ => None,
        },
    });
    texts.chain(request.system.as_deref().map(Cow::Borrowed))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    rule: Vec<Spanned<RuleText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RuleText {
    model: Option<String>,
    contains: Option<String>,
    times: Option<u32>,
    #[serde(default)]
    latency_ms: u64,
    text: Option<String>,
    json: Option<serde_json::Value>,
    tools: Option<Vec<CallTable>>,
    refusal: Option<String>,
    error: Option<String>,
    hang: Option<bool>,
    stop: Option<String>,
    usage: Option<UsageText>,
    quota: Option<QuotaTable>,
    message: Option<String>,
    status: Option<u16>,
    retry_after_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct CallTable {
    name: String,
    arguments: Option<serde_json::Map<String, serde_json::Value>>,
    invalid_arguments: Option<String>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "usage is a table with input, output, cached-input, cache-write-input, reasoning-output, searches, or \"none\""
)]
enum UsageText {
    Word(String),
    Table(UsageTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[derive(Default)]
struct UsageTable {
    input: u64,
    cached_input: u64,
    cache_write_input: u64,
    output: u64,
    reasoning_output: u64,
    searches: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct QuotaTable {
    requests: Option<MeterTable>,
    tokens: Option<MeterTable>,
    input_tokens: Option<MeterTable>,
    output_tokens: Option<MeterTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct MeterTable {
    limit: u64,
    remaining: u64,
    reset_ms: Option<u64>,
}

/// Adds to a message of the parser what a person needs: TOML has no null, and an unknown key may be a misspelled one.
/// `rest` is the text from the place of the error.
fn explained(message: &str, rest: Option<&str>) -> String {
    if rest.is_some_and(|rest| rest.trim_start_matches(['=', ' ', '\t']).starts_with("nul")) {
        return "TOML has no null: write a reply that contains one as `text`".to_owned();
    }
    let mut names = message.split('`').skip(1).step_by(2);
    let unknown = names.next().filter(|_| message.starts_with("unknown field "));
    match unknown.and_then(|unknown| nearest(unknown, names)) {
        Some(near) => format!("{message}; the nearest is `{near}`"),
        None => message.to_owned(),
    }
}

impl TryFrom<QuotaTable> for Quota {
    type Error = String;

    fn try_from(table: QuotaTable) -> Result<Self, String> {
        let meter = |table: MeterTable| {
            if table.limit == 0 || table.remaining > table.limit {
                return Err("a quota's limit is at least 1, and remaining at most its limit".to_owned());
            }
            Ok(RateLimit {
                limit: table.limit,
                remaining: table.remaining,
                reset: table.reset_ms.map(Duration::from_millis),
            })
        };
        Ok(Self {
            requests: table.requests.map(meter).transpose()?,
            tokens: table.tokens.map(meter).transpose()?,
            input_tokens: table.input_tokens.map(meter).transpose()?,
            output_tokens: table.output_tokens.map(meter).transpose()?,
        })
    }
}

impl TryFrom<CallTable> for ScriptedCall {
    type Error = String;

    fn try_from(table: CallTable) -> Result<Self, String> {
        let arguments = match (table.arguments, table.invalid_arguments) {
            (arguments, None) => ToolArguments::Object(arguments.unwrap_or_default()),
            (None, Some(text)) => ToolArguments::Invalid(text),
            (Some(_), Some(_)) => {
                return Err("a call of a tool has arguments or invalid-arguments, not both".to_owned());
            }
        };
        Ok(Self {
            name: table.name,
            arguments,
        })
    }
}

impl TryFrom<RuleText> for Rule {
    type Error = String;

    fn try_from(rule: RuleText) -> Result<Self, String> {
        let usage = match rule.usage {
            None => ScriptedUsage::Counted,
            Some(UsageText::Word(word)) if word == "none" => ScriptedUsage::Missing,
            Some(UsageText::Word(word)) => return Err(format!("usage is a table or \"none\", not {word:?}")),
            Some(UsageText::Table(table)) => ScriptedUsage::Given(Usage {
                input: table.input,
                cached_input: table.cached_input,
                cache_write_input: table.cache_write_input,
                output: table.output,
                reasoning_output: table.reasoning_output,
                searches: table.searches,
            }),
        };
        let replies = rule.text.is_some() || rule.json.is_some() || rule.tools.is_some();
        let counts = !matches!(usage, ScriptedUsage::Counted);
        if counts && !replies && rule.refusal.is_none() {
            return Err("usage goes with text, json, tools or refusal".to_owned());
        }
        if rule.stop.is_some() && !replies {
            return Err("stop goes with text, json or tools".to_owned());
        }
        if rule.error.is_none() && (rule.message.is_some() || rule.status.is_some() || rule.retry_after_ms.is_some()) {
            return Err("message, status and retry-after-ms go with error".to_owned());
        }
        let stop = rule.stop.as_deref().map_or(Ok(Stop::End), stop_named)?;
        let hang = rule.hang.unwrap_or_default();
        if hang && rule.quota.is_some() {
            return Err("quota goes with text, json, tools, refusal or error".to_owned());
        }
        let quota = rule.quota.map(Quota::try_from).transpose()?;
        let has_tools = rule.tools.is_some();
        if rule.tools.as_ref().is_some_and(Vec::is_empty) {
            return Err("tools has at least one call".to_owned());
        }
        let calls = rule.tools.into_iter().flatten().map(ScriptedCall::try_from);
        let tools: Vec<ScriptedCall> = calls.collect::<Result<_, _>>()?;
        let reply = |text| ScriptedReply::Reply {
            text,
            tools,
            stop,
            usage,
        };
        let answer = match (rule.text, rule.json, rule.refusal, rule.error, hang) {
            (text @ Some(_), None, None, None, false) => reply(text),
            (None, None, None, None, false) if has_tools => reply(None),
            _ if has_tools => return Err("tools go with text or alone".to_owned()),
            (None, Some(json), None, None, false) => reply(Some(json.to_string())),
            (None, None, Some(words), None, false) => ScriptedReply::Refusal { words, usage },
            (None, None, None, Some(name), false) => ScriptedReply::Error {
                kind: kind_named(&name)?,
                message: rule.message.unwrap_or_else(|| format!("scripted: {name}")),
                status: rule.status,
                retry_after: rule.retry_after_ms.map(Duration::from_millis),
            },
            (None, None, None, None, true) => ScriptedReply::Hang,
            _ => {
                return Err(
                    "a rule has exactly one of text, json, refusal, error and hang = true, or tools".to_owned(),
                );
            }
        };
        Ok(Self {
            model: rule.model,
            contains: rule.contains,
            left: rule.times.map(AtomicU32::new),
            latency: Duration::from_millis(rule.latency_ms),
            quota: quota.map(Box::new),
            answer,
        })
    }
}

fn stop_named(name: &str) -> Result<Stop, String> {
    Ok(match name {
        "end" => Stop::End,
        "max-tokens" => Stop::MaxTokens,
        "stop-sequence" => Stop::StopSequence,
        "tool-use" => Stop::ToolUse,
        "context-full" => Stop::ContextFull,
        "other" => Stop::Other,
        _ => {
            return Err(format!(
                "stop is end, max-tokens, stop-sequence, tool-use, context-full or other, not {name:?}"
            ));
        }
    })
}

fn kind_named(name: &str) -> Result<ProviderErrorKind, String> {
    ProviderErrorKind::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = ProviderErrorKind::names().collect();
        format!("unknown error {name:?}; the known ones are {}", known.join(", "))
    })
}

#[cfg(test)]
mod tests;
