//! Anthropic's Messages API, version 2026-10-21, without streaming.
//!
//! Sampling settings are never sent, because this version of the API rejects them. The prompt cache is used only if the
//! request's options ask for it, with one breakpoint at the end of the request, or else if the request marks a prefix,
//! with one breakpoint there. If the API's structured output cannot express a schema, the schema becomes part of the
//! system text, see [`schema::fit`].
//!
//! Left out: tools, batches, and sending back a reply's thinking.

mod error;

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use super::error::ProviderSetupError;
use super::http::{Auth, Bounds, Endpoint, HttpResponse, count};
use super::quota;
use super::schema::{self, Dialect};
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
}

impl Anthropic {
    /// Creates a provider for the API below `base_url` (without `/v1`; by default Anthropic's own) with `key`.
    ///
    /// ```
    /// use agenthost_core::llm::Provider as _;
    /// use agenthost_providers::anthropic::Anthropic;
    ///
    /// let provider = Anthropic::new(None, "sk-example".into())?;
    /// assert!(provider.summary().contains("api.anthropic.com") && !provider.summary().contains("sk-example"));
    /// assert!(Anthropic::new(Some("https://proxy.example/v1"), "sk-example".into()).is_err());
    /// # Ok::<(), agenthost_providers::ProviderSetupError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error of class `config` if `base_url` is not a plain http(s) address, or the key is not valid in a
    /// header. Returns an error of class `host` if the system has no root certificates.
    pub fn new(base_url: Option<&str>, key: SecretString) -> Result<Self, ProviderSetupError> {
        Self::bounded(base_url, key, Bounds::default())
    }

    fn bounded(base_url: Option<&str>, key: SecretString, bounds: Bounds) -> Result<Self, ProviderSetupError> {
        let base_url = base_url.unwrap_or(BASE_URL);
        if base_url.trim_end_matches('/').ends_with("/v1") {
            return Err(ProviderSetupError::VersionInBaseUrl);
        }
        let fixed = [("anthropic-version", VERSION)];
        let endpoint = Endpoint::new(
            base_url,
            "v1/messages",
            Auth::Header("x-api-key"),
            Some(key),
            &fixed,
            bounds,
        )?;
        Ok(Self { endpoint })
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
        })
    }

    async fn call(&self, request: &Request) -> Result<Reply, ProviderError> {
        let body = encode(request)?;
        let answer = self.endpoint.post(&body).await?;
        self.read(request, &answer)
    }

    fn read(&self, request: &Request, answer: &HttpResponse) -> Result<Reply, ProviderError> {
        let parsed = serde_json::from_slice::<Value>(&answer.body);
        let failed = !(200..300).contains(&answer.status);
        match parsed {
            Ok(body) if !failed && body.get("type").and_then(Value::as_str) != Some("error") => {
                self.decode(request, answer, &body)
            }
            Ok(body) => Err(error::classify(&self.endpoint, answer, Some(&body))),
            Err(_) if failed => Err(error::classify(&self.endpoint, answer, None)),
            Err(error) => Err(self.bad_reply(answer, &format!("the answer is no JSON: {error}"))),
        }
    }

    fn decode(&self, request: &Request, answer: &HttpResponse, body: &Value) -> Result<Reply, ProviderError> {
        let Some(blocks) = body.get("content").and_then(Value::as_array) else {
            return Err(self.bad_reply(answer, "the answer has no content"));
        };
        let mut content = Vec::new();
        for block in blocks {
            match block.get("type").and_then(Value::as_str) {
                Some("text") => match block.get("text").and_then(Value::as_str) {
                    Some(text) => content.push(Part::Text(text.to_owned())),
                    None => return Err(self.bad_reply(answer, "a text block has no text")),
                },
                Some("thinking" | "redacted_thinking") => {}
                Some(kind) => content.push(Part::Extension {
                    kind: kind.to_owned(),
                    json: block.to_string(),
                }),
                None => return Err(self.bad_reply(answer, "a block of the answer has no type")),
            }
        }
        let stop = match body.get("stop_reason").and_then(Value::as_str) {
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
        Ok(Reply {
            content,
            model: body
                .get("model")
                .and_then(Value::as_str)
                .map_or_else(|| request.model.clone(), |model| self.endpoint.clean(model)),
            stop,
            refusal,
            usage: body.get("usage").and_then(usage),
            request_id: error::request_id(answer, Some(body)).and_then(|id| self.endpoint.clean_id(&id)),
            quota: quota::quota(&answer.headers, SystemTime::now()),
        })
    }

    fn bad_reply(&self, answer: &HttpResponse, message: &str) -> ProviderError {
        let id = error::request_id(answer, None);
        self.endpoint
            .error(answer, ProviderErrorKind::BadReply, message, id.as_deref())
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

fn encode(request: &Request) -> Result<Value, ProviderError> {
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model));
    body.insert("max_tokens".into(), json!(request.max_tokens));
    let mut system = request.system.clone();
    let mut output = Map::new();
    if let Some(effort) = request.options.effort {
        output.insert("effort".into(), json!(effort_name(effort)));
    }
    if let Some(wanted) = &request.schema {
        match schema::fit(wanted, Dialect::Anthropic) {
            Ok(fitted) => {
                output.insert("format".into(), json!({"type": "json_schema", "schema": fitted}));
            }
            Err(_) => system = Some(schema::instruct(system.as_deref(), wanted)),
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

/// The reply's token counts; `None` if one is missing or implausible. This API's `input_tokens` do *not* include the
/// tokens that were read from or written to the cache.
fn usage(usage: &Value) -> Option<Usage> {
    let required = |name: &str| count(usage.get(name)?);
    let optional = |value: Option<&Value>| match value {
        None | Some(Value::Null) => Some(0),
        Some(value) => count(value),
    };
    let output = required("output_tokens")?;
    let cached_input = optional(usage.get("cache_read_input_tokens"))?;
    let cache_write_input = optional(usage.get("cache_creation_input_tokens"))?;
    let reasoning_output = optional(usage.pointer("/output_tokens_details/thinking_tokens"))?;
    let input = required("input_tokens")? + cached_input + cache_write_input;
    // A request always has input; some servers report zeros if they did not count.
    (input > 0 && reasoning_output <= output).then_some(Usage {
        input,
        cached_input,
        cache_write_input,
        output,
        reasoning_output,
    })
}

#[cfg(test)]
mod tests;
