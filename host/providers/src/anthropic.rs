//! Anthropic's Messages API, version 2026-10-21, without streaming.
//!
//! Sampling settings are never sent, because this version of the API rejects them. The prompt cache is used only if the
//! request's options ask for it, with one breakpoint at the end of the request, or else if the request marks a prefix,
//! with one breakpoint there. If the API's structured output cannot express a schema, the schema becomes part of the
//! system text, see [`schema::fit`].
//!
//! Left out: tools, batches, and sending back a reply's thinking.

mod error;
mod stream;

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use super::body::{self, Assembled, Body};
use super::error::ProviderSetupError;
use super::extra::ExtraValue;
use super::http::{Auth, Bounds, Endpoint, HttpResponse, count, detail};
use super::quota;
use super::reasoning;
use super::schema::{self, Dialect};
use super::structured::{Form, Forms, StructuredOutput};
use agenthost_core::llm::{
    CacheTtl, Caching, Counting, Effort, Part, Provider, ProviderError, ProviderErrorKind, Reply, Request, Role, Stop,
    Usage,
};

const BASE_URL: &str = "https://api.anthropic.com";
const VERSION: &str = "2026-10-21";
/// The image types that the API accepts.
const IMAGES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];

/// The Messages API at one address with one key.
#[derive(Debug)]
pub struct Anthropic {
    endpoint: Endpoint,
    forms: Forms,
}

impl Anthropic {
    /// Creates a provider for the API below `base_url` (without `/v1`; by default Anthropic's own), with `key` if
    /// the service needs one.
    ///
    /// ```
    /// use agenthost_core::llm::Provider as _;
    /// use agenthost_providers::anthropic::Anthropic;
    ///
    /// let provider = Anthropic::new(None, Some("sk-example".into()))?;
    /// assert!(provider.summary().contains("api.anthropic.com") && !provider.summary().contains("sk-example"));
    /// assert!(Anthropic::new(Some("https://proxy.example/v1"), Some("sk-example".into())).is_err());
    /// # Ok::<(), agenthost_providers::ProviderSetupError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error of class `config` if `base_url` is not a plain http(s) address, or the key is not valid in a
    /// header. Returns an error of class `host` if the system has no root certificates.
    pub fn new(base_url: Option<&str>, key: Option<String>) -> Result<Self, ProviderSetupError> {
        Self::bounded(base_url, key.map(SecretString::from), Bounds::default())
    }

    fn bounded(base_url: Option<&str>, key: Option<SecretString>, bounds: Bounds) -> Result<Self, ProviderSetupError> {
        let base_url = base_url.unwrap_or(BASE_URL);
        if base_url.trim_end_matches('/').ends_with("/v1") {
            return Err(ProviderSetupError::VersionInBaseUrl);
        }
        let fixed = [("anthropic-version", VERSION)];
        let endpoint = Endpoint::new(base_url, "v1/messages", Auth::Header("x-api-key"), key, &fixed, bounds)?;
        Ok(Self {
            endpoint,
            forms: Forms::default(),
        })
    }

    /// Sets the time until the body of a reply must begin (10 minutes by default). The reply must end within another
    /// minute.
    ///
    /// # Errors
    ///
    /// Returns an error of class `config` if `first_byte` is zero.
    pub fn with_timeout(self, first_byte: Duration) -> Result<Self, ProviderSetupError> {
        Ok(Self {
            endpoint: self.endpoint.with_timeout(first_byte)?,
            ..self
        })
    }

    /// Sets the longest silence between two pieces of a reply (30 seconds by default).
    ///
    /// # Errors
    ///
    /// Returns an error of class `config` if `silence` is zero.
    pub fn with_silence(self, silence: Duration) -> Result<Self, ProviderSetupError> {
        Ok(Self {
            endpoint: self.endpoint.with_silence(silence)?,
            ..self
        })
    }

    /// Adds a header to every request, such as one that a gateway reads.
    ///
    /// # Errors
    ///
    /// Returns an error of class `config` if the name or the value is invalid, or if the host sets the header itself.
    pub fn with_header(self, name: &str, value: impl Into<ExtraValue>) -> Result<Self, ProviderSetupError> {
        Ok(Self {
            endpoint: self.endpoint.with_header(name, value.into())?,
            ..self
        })
    }

    /// Adds a query parameter to the address of every request, such as `api-version`.
    ///
    /// # Errors
    ///
    /// Returns an error of class `config` if the name or the value is invalid.
    pub fn with_query(self, name: &str, value: impl Into<ExtraValue>) -> Result<Self, ProviderSetupError> {
        Ok(Self {
            endpoint: self.endpoint.with_query(name, value.into())?,
            ..self
        })
    }

    /// Sets the way in which structured output is requested. This API has no parameter for any JSON object.
    #[must_use]
    pub fn with_structured_output(mut self, setting: StructuredOutput) -> Self {
        self.forms.setting = setting;
        self
    }

    async fn call(&self, request: &Request) -> Result<Reply, ProviderError> {
        let form = self.forms.of(&request.model);
        let body = encode(request, form)?;
        let answer = self.endpoint.post(&body).await?;
        let read = self.read(request, &answer);
        read.map_err(|error| self.forms.judge(request, form, error))
    }

    fn read(&self, request: &Request, answer: &HttpResponse) -> Result<Reply, ProviderError> {
        let failed = !(200..300).contains(&answer.status);
        let body = match body::read(&answer.body) {
            Ok(Body::Document(document)) => self.endpoint.without_key(document),
            Ok(Body::Events { events, .. }) => {
                let Assembled { body, broke_off } = stream::assembled(events);
                if broke_off && !failed {
                    let mut error = self.bad_reply(answer, Some(&body), "the answer is a stream that broke off");
                    error.kind = ProviderErrorKind::Connection;
                    return Err(error);
                }
                self.endpoint.without_key(body)
            }
            Err(_) if failed => return Err(error::classify(&self.endpoint, answer, None)),
            Err(error) => return Err(self.bad_reply(answer, None, &format!("the answer is not valid JSON: {error}"))),
        };
        if failed || error::find(&body).is_some() {
            let error = error::classify(&self.endpoint, answer, Some(&body));
            return Err(error.with_usage(usage(&body)));
        }
        self.decode(request, answer, &body)
    }

    fn decode(&self, request: &Request, answer: &HttpResponse, body: &Value) -> Result<Reply, ProviderError> {
        let bad = |message: &str| self.bad_reply(answer, Some(body), message);
        let reason = body.get("stop_reason").and_then(Value::as_str);
        let none = Vec::new();
        let blocks = match body.get("content") {
            Some(Value::Array(blocks)) => blocks,
            // Cut short, but finished and counted.
            None | Some(Value::Null) if reason.is_some() => &none,
            _ => return Err(bad("the answer has no content")),
        };
        let mut content = Vec::new();
        for block in blocks {
            match block.get("type").and_then(Value::as_str) {
                Some("text") => match block.get("text").and_then(Value::as_str) {
                    Some(text) => content.push(Part::Text(text.to_owned())),
                    None => return Err(bad("a text block has no text")),
                },
                Some("thinking" | "redacted_thinking") => {}
                Some(kind) => content.push(Part::Extension {
                    kind: kind.to_owned(),
                    json: block.to_string(),
                }),
                None => return Err(bad("a block of the answer has no type")),
            }
        }
        if reasoning::is_missing(&content) && request.schema.is_some() {
            // Some servers take all of the text for reasoning. The schema decides whether the answer is in it.
            let thinking = blocks.iter().filter_map(|block| block.get("thinking")?.as_str());
            let thinking: String = thinking.collect();
            if !thinking.trim().is_empty() {
                content = vec![Part::Text(reasoning::block(&thinking))];
            }
        }
        let stop = match reason {
            Some("end_turn") => Stop::End,
            Some("max_tokens") => Stop::MaxTokens,
            Some("stop_sequence") => Stop::StopSequence,
            Some("tool_use") => Stop::ToolUse,
            Some("refusal") => Stop::Refusal,
            Some("model_context_window_exceeded") => Stop::ContextFull,
            _ => Stop::Other,
        };
        let refusal = body
            .get("stop_details")
            .filter(|_| stop == Stop::Refusal)
            .and_then(|details| {
                let word = |name: &str| details.get(name)?.as_str().filter(|text| !text.is_empty());
                word("explanation").or_else(|| word("category")).map(str::to_owned)
            });
        let model = body
            .get("model")
            .and_then(Value::as_str)
            .map_or_else(|| request.model.clone(), |model| self.endpoint.clean(model));
        Ok(Reply::of(content)
            .with_model(model)
            .with_stop(stop)
            .with_refusal(refusal)
            .with_usage(usage(body))
            .with_request_id(error::request_id(answer, Some(body)).and_then(|id| self.endpoint.clean_id(&id)))
            .with_quota(quota::quota(&answer.headers, SystemTime::now())))
    }

    fn bad_reply(&self, answer: &HttpResponse, body: Option<&Value>, message: &str) -> ProviderError {
        let id = error::request_id(answer, body);
        let kind = ProviderErrorKind::BadReply;
        let error = self.endpoint.error(answer, kind, message, id.as_deref());
        error.with_usage(body.and_then(usage))
    }
}

#[cfg(feature = "fuzzing")]
impl Anthropic {
    /// Parses a reply as if it had come from the service.
    ///
    /// # Errors
    ///
    /// Returns the error that the reply reports, or an error if it is not valid.
    pub fn read_answer(&self, request: &Request, raw: super::RawAnswer<'_>) -> Result<Reply, ProviderError> {
        self.read(request, &raw.into())
    }
}

impl Provider for Anthropic {
    fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Reply, ProviderError>> {
        self.call(request).boxed()
    }

    fn kind(&self) -> &'static str {
        "anthropic"
    }

    fn summary(&self) -> String {
        format!("anthropic at {}", self.endpoint.address())
    }

    fn counting(&self) -> Counting {
        Counting::AsUsed
    }

    fn caching(&self) -> Caching {
        Caching::Marked
    }
}

fn encode(request: &Request, form: Form) -> Result<Value, ProviderError> {
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model));
    body.insert("max_tokens".into(), json!(request.max_tokens));
    let mut system = request.system.clone();
    let mut output = Map::new();
    if let Some(effort) = request.options.effort {
        output.insert("effort".into(), json!(effort_name(effort)));
    }
    if let Some(wanted) = &request.schema {
        let fitted = schema::fit(wanted, Dialect::Anthropic)
            .ok()
            .filter(|_| form == Form::Schema);
        if let Some(fitted) = fitted {
            output.insert("format".into(), json!({"type": "json_schema", "schema": fitted}));
        } else {
            system = Some(schema::instruct(system.as_deref(), wanted));
        }
    }
    // The breakpoint of the option, at the end, covers the prefix too.
    let mark = request.mark_prefix.filter(|_| request.options.cache.is_none());
    match system {
        // The API rejects a breakpoint at an empty text.
        Some(system) if mark == Some(0) && !system.is_empty() => {
            let block = json!({"type": "text", "text": system, "cache_control": {"type": "ephemeral"}});
            body.insert("system".into(), json!([block]));
        }
        Some(system) => {
            body.insert("system".into(), json!(system));
        }
        None => {}
    }
    let mut messages = Vec::new();
    let mut before = 0;
    for message in &request.messages {
        let last = mark.and_then(|mark| mark.checked_sub(before + 1));
        let content = content(message.role, &message.content, last)?;
        messages.push(json!({"role": role_name(message.role), "content": content}));
        before += message.content.len();
    }
    body.insert("messages".into(), Value::Array(messages));
    // Some compatible servers stream unless they are asked not to.
    body.insert("stream".into(), json!(false));
    if !output.is_empty() {
        body.insert("output_config".into(), Value::Object(output));
    }
    if let Some(ttl) = request.options.cache {
        let ttl = match ttl {
            CacheTtl::FiveMinutes => "5m",
            CacheTtl::OneHour => "1h",
        };
        body.insert("cache_control".into(), json!({"type": "ephemeral", "ttl": ttl}));
    }
    Ok(Value::Object(body))
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::User => "user",
        Role::Assistant => "assistant",
    }
}

fn effort_name(effort: Effort) -> &'static str {
    match effort {
        Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High => "high",
        Effort::Xhigh => "xhigh",
        Effort::Max => "max",
    }
}

/// Encodes `parts`; `last` is the index of the last part of a marked prefix, if it is one of these.
fn content(role: Role, parts: &[Part], last: Option<usize>) -> Result<Value, ProviderError> {
    if let ([Part::Text(text)], None | Some(1..)) = (parts, last) {
        return Ok(json!(text));
    }
    let invalid = |message: String| ProviderError::new(ProviderErrorKind::InvalidRequest, message);
    let blocks = parts.iter().map(|part| match part {
        Part::Text(text) => Ok(json!({"type": "text", "text": text})),
        Part::Media { .. } if role == Role::Assistant => {
            Err(invalid("anthropic takes media in user messages only".to_owned()))
        }
        Part::Media { mime, data } => {
            let kind = match mime.as_str() {
                "application/pdf" => "document",
                image if IMAGES.contains(&image) => "image",
                other => {
                    let known = IMAGES.join(", ");
                    return Err(invalid(format!(
                        "anthropic takes {known} and application/pdf, not {other:?}"
                    )));
                }
            };
            let source = json!({"type": "base64", "media_type": mime, "data": BASE64.encode(data)});
            Ok(json!({"type": kind, "source": source}))
        }
        Part::Extension { kind, .. } => Err(invalid(format!("anthropic has no content of kind {kind:?}"))),
    });
    let mut blocks = blocks.collect::<Result<Vec<_>, _>>()?;
    let marked = last.and_then(|last| blocks.get_mut(last)?.as_object_mut());
    if let Some(block) = marked {
        block.insert("cache_control".into(), json!({"type": "ephemeral"}));
    }
    Ok(Value::Array(blocks))
}

/// The token counts of a body; `None` if there are none. This API's `input_tokens` do *not* include the tokens that
/// were read from or written to the cache.
fn usage(body: &Value) -> Option<Usage> {
    let usage = body.get("usage")?;
    let required = |name: &str| count(usage.get(name)?);
    // Part of the total, unlike a detail.
    let optional = |name: &str| match usage.get(name) {
        None | Some(Value::Null) => Some(0),
        Some(value) => count(value),
    };
    let output = required("output_tokens")?;
    let cached_input = optional("cache_read_input_tokens")?;
    let cache_write_input = optional("cache_creation_input_tokens")?;
    let input = required("input_tokens")? + cached_input + cache_write_input;
    // A request always has input; some servers report zeros if they did not count.
    (input > 0).then(|| Usage {
        input,
        cached_input,
        cache_write_input,
        output,
        reasoning_output: detail(usage.pointer("/output_tokens_details/thinking_tokens"), output),
        searches: 0,
    })
}

#[cfg(test)]
mod tests;
