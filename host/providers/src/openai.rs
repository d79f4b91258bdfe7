//! OpenAI's chat completions API, without streaming, which most model servers implement.
//!
//! The variations of other servers are accepted: no key, no usage, content as parts or `null`, an error with a status
//! of success, a numeric error code, a stream that was not asked for. If strict structured output cannot express a
//! schema, the schema becomes part of the system text, see [`schema::fit`]. The cache option and a marked prefix are not
//! sent, because these services cache prompts automatically.
//!
//! Left out: the Responses API, tools, and sampling settings.

mod error;
mod max_tokens;
mod stream;

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use secrecy::SecretString;
use serde_json::{Map, Value, json};

pub use self::max_tokens::MaxTokensField;
use super::body::{self, Assembled, Body};
use super::error::ProviderSetupError;
use super::extra::ExtraValue;
use super::http::{Auth, Bounds, Endpoint, HttpResponse, count, detail};
use super::quota;
use super::reasoning;
use super::schema::{self, Dialect};
use super::structured::{Form, Forms, StructuredOutput};
use agenthost_core::llm::{
    Caching, Counting, Effort, Part, Provider, ProviderError, ProviderErrorKind, Reply, Request, Role, Stop, Usage,
};

const BASE_URL: &str = "https://api.openai.com/v1";
/// The image types that the API accepts.
const IMAGES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];

/// A chat completions service at one address.
#[derive(Debug)]
pub struct OpenAi {
    endpoint: Endpoint,
    max_tokens: MaxTokensField,
    forms: Forms,
}

impl OpenAi {
    /// Creates a provider for the service below `base_url` (with its `/v1`; by default OpenAI's own), with `key` if the
    /// service needs one.
    ///
    /// ```
    /// use agenthost_core::llm::Provider as _;
    /// use agenthost_providers::openai::{MaxTokensField, OpenAi};
    ///
    /// // A server on this machine, without a key.
    /// let provider = OpenAi::new(Some("http://127.0.0.1:11434/v1"), None, MaxTokensField::MaxTokens)?;
    /// assert!(provider.summary().contains("127.0.0.1:11434"));
    /// # Ok::<(), agenthost_providers::ProviderSetupError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error of class `config` if `base_url` is not a plain http(s) address, or the key is not valid in a
    /// header. Returns an error of class `host` if the system has no root certificates.
    pub fn new(
        base_url: Option<&str>,
        key: Option<String>,
        max_tokens: MaxTokensField,
    ) -> Result<Self, ProviderSetupError> {
        Self::bounded(base_url, key.map(SecretString::from), max_tokens, Bounds::default())
    }

    fn bounded(
        base_url: Option<&str>,
        key: Option<SecretString>,
        max_tokens: MaxTokensField,
        bounds: Bounds,
    ) -> Result<Self, ProviderSetupError> {
        let base_url = base_url.unwrap_or(BASE_URL);
        let endpoint = Endpoint::new(base_url, "chat/completions", Auth::Bearer, key, &[], bounds)?;
        Ok(Self {
            endpoint,
            max_tokens,
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

    /// Sets the way in which structured output is requested.
    #[must_use]
    pub fn with_structured_output(mut self, setting: StructuredOutput) -> Self {
        self.forms.setting = setting;
        self
    }

    async fn call(&self, request: &Request) -> Result<Reply, ProviderError> {
        let form = self.forms.of(&request.model);
        let body = encode(request, self.max_tokens, form)?;
        let answer = self.endpoint.post(&body).await?;
        let read = self.read(request, &answer);
        read.map_err(|error| self.forms.judge(request, form, error))
    }

    fn read(&self, request: &Request, answer: &HttpResponse) -> Result<Reply, ProviderError> {
        let failed = !(200..300).contains(&answer.status);
        let body = match body::read(&answer.body) {
            Ok(Body::Document(document)) => self.endpoint.without_key(document),
            Ok(Body::Events { events, ended }) => {
                let Assembled { body, broke_off } = stream::assembled(events, ended);
                if broke_off && !failed {
                    let mut error = self.bad_reply(answer, Some(&body), "the answer is a stream that broke off");
                    error.kind = ProviderErrorKind::Connection;
                    return Err(error);
                }
                self.endpoint.without_key(body)
            }
            Err(_) if failed => return Err(error::classify(&self.endpoint, answer, None, self.max_tokens)),
            Err(error) => return Err(self.bad_reply(answer, None, &format!("the answer is not valid JSON: {error}"))),
        };
        if failed || error::find(&body).is_some() {
            let error = error::classify(&self.endpoint, answer, Some(&body), self.max_tokens);
            let error = error.with_usage(usage(&body));
            return match error.kind {
                // The model has answered; its reply is judged as any other.
                ProviderErrorKind::InvalidReply if request.schema.is_some() => Ok(rejected(request, &body, error)),
                _ => Err(error),
            };
        }
        self.decode(request, answer, &body)
    }

    fn decode(&self, request: &Request, answer: &HttpResponse, body: &Value) -> Result<Reply, ProviderError> {
        let bad = |message: &str| self.bad_reply(answer, Some(body), message);
        let Some(choice) = body.pointer("/choices/0") else {
            return Err(bad("the answer has no choices"));
        };
        let reason = choice.get("finish_reason").and_then(Value::as_str);
        let nothing = json!({});
        let message = match choice.get("message") {
            Some(message) if message.is_object() => message,
            // Cut short by a filter, for example, but finished and counted.
            None | Some(Value::Null) if reason.is_some() => &nothing,
            _ => return Err(bad("the answer has no message")),
        };
        let mut refusal = message
            .get("refusal")
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned);
        let mut content = Vec::new();
        match message.get("content") {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => {
                if !text.is_empty() {
                    content.push(Part::Text(text.clone()));
                }
            }
            Some(Value::Array(parts)) => {
                for part in parts {
                    match part.get("type").and_then(Value::as_str) {
                        Some("text" | "output_text") => match part.get("text").and_then(Value::as_str) {
                            Some(text) => content.push(Part::Text(text.to_owned())),
                            None => return Err(bad("a text part of the answer has no text")),
                        },
                        Some("refusal") => {
                            let words = part.get("refusal").and_then(Value::as_str).map(str::to_owned);
                            refusal = refusal.or(words);
                        }
                        Some("thinking" | "reasoning") => {}
                        Some(kind) => content.push(Part::Extension {
                            kind: kind.to_owned(),
                            json: part.to_string(),
                        }),
                        None => return Err(bad("a part of the answer has no type")),
                    }
                }
            }
            Some(_) => return Err(bad("the answer's content is neither text nor parts")),
        }
        if reasoning::is_missing(&content)
            && request.schema.is_some()
            && let Some(text) = reasoning_text(message)
        {
            // Some servers take all of the text for reasoning. The schema decides whether the answer is in it.
            content = vec![Part::Text(reasoning::block(text))];
        }
        let stop = if refusal.is_some() { Stop::Refusal } else { stop(reason) };
        let model = body
            .get("model")
            .and_then(Value::as_str)
            .map_or_else(|| request.model.clone(), |model| self.endpoint.clean(model));
        Ok(Reply::of(content)
            .with_model(model)
            .with_stop(stop)
            .with_refusal(refusal)
            .with_usage(usage(body))
            .with_request_id(error::request_id(answer).and_then(|id| self.endpoint.clean_id(&id)))
            .with_quota(quota::quota(&answer.headers, SystemTime::now())))
    }

    fn bad_reply(&self, answer: &HttpResponse, body: Option<&Value>, message: &str) -> ProviderError {
        let id = error::request_id(answer);
        let kind = ProviderErrorKind::BadReply;
        let error = self.endpoint.error(answer, kind, message, id.as_deref());
        error.with_usage(body.and_then(usage))
    }
}

/// The reply that a service rejected because it violates the schema, with the text that the service kept of it.
fn rejected(request: &Request, body: &Value, error: ProviderError) -> Reply {
    let text = body.pointer("/error/failed_generation").and_then(Value::as_str);
    Reply::of(text.map(|text| Part::Text(text.to_owned())).into_iter().collect())
        .with_model(&request.model)
        .with_stop(Stop::Other)
        .with_usage(error.usage.map(|usage| *usage))
        .with_request_id(error.request_id)
        .with_quota(error.quota)
}

/// The reasoning that a server has separated from the content.
fn reasoning_text(message: &Value) -> Option<&str> {
    let text = |name: &str| message.get(name)?.as_str().filter(|text| !text.trim().is_empty());
    text("reasoning_content").or_else(|| text("reasoning"))
}

/// Reads a finish reason: the API's own, and the words of servers that pass on those of another API.
fn stop(reason: Option<&str>) -> Stop {
    match reason.map(str::to_ascii_lowercase).as_deref() {
        Some("stop" | "end_turn" | "eos" | "eos_token" | "complete") => Stop::End,
        Some("length" | "max_tokens" | "max_output_tokens" | "max_length" | "model_length" | "token_limit") => {
            Stop::MaxTokens
        }
        Some("stop_sequence") => Stop::StopSequence,
        Some("tool_calls" | "function_call" | "tool_use") => Stop::ToolUse,
        Some(
            "content_filter"
            | "content_filtered"
            | "safety"
            | "prohibited_content"
            | "blocklist"
            | "spii"
            | "recitation"
            | "sensitive"
            | "refusal"
            | "guardrail_intervened",
        ) => Stop::Refusal,
        Some("model_context_window_exceeded") => Stop::ContextFull,
        _ => Stop::Other,
    }
}

#[cfg(feature = "fuzzing")]
impl OpenAi {
    /// Parses a reply as if it had come from the service.
    ///
    /// # Errors
    ///
    /// Returns the error that the reply reports, or an error if it is not valid.
    pub fn read_answer(&self, request: &Request, raw: super::RawAnswer<'_>) -> Result<Reply, ProviderError> {
        self.read(request, &raw.into())
    }
}

impl Provider for OpenAi {
    fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Reply, ProviderError>> {
        self.call(request).boxed()
    }

    fn kind(&self) -> &'static str {
        "openai"
    }

    fn summary(&self) -> String {
        format!("openai-compatible at {}", self.endpoint.address())
    }

    fn counting(&self) -> Counting {
        Counting::UpFront
    }

    fn caching(&self) -> Caching {
        Caching::Automatic
    }
}

fn encode(request: &Request, max_tokens: MaxTokensField, form: Form) -> Result<Value, ProviderError> {
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model));
    let mut system = request.system.clone();
    let mut format = None;
    if let Some(wanted) = &request.schema {
        let fitted = schema::fit(wanted, Dialect::OpenAi)
            .ok()
            .filter(|_| form == Form::Schema);
        if let Some(fitted) = fitted {
            let described = json!({"name": schema_name(wanted), "strict": true, "schema": fitted});
            format = Some(json!({"type": "json_schema", "json_schema": described}));
        } else {
            format = (form == Form::JsonObject).then(|| json!({"type": "json_object"}));
            system = Some(schema::instruct(system.as_deref(), wanted));
        }
    }
    let mut messages = Vec::new();
    if let Some(system) = system {
        messages.push(json!({"role": "system", "content": system}));
    }
    for message in &request.messages {
        let role = match message.role {
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        messages.push(json!({"role": role, "content": content(message.role, &message.content)?}));
    }
    body.insert("messages".into(), Value::Array(messages));
    // Some servers stream unless they are asked not to.
    body.insert("stream".into(), json!(false));
    let field = match max_tokens {
        MaxTokensField::MaxCompletionTokens => "max_completion_tokens",
        MaxTokensField::MaxTokens => "max_tokens",
    };
    body.insert(field.into(), json!(request.max_tokens));
    if let Some(format) = format {
        body.insert("response_format".into(), format);
    }
    if let Some(effort) = request.options.effort {
        // The API defines all five names; the service decides which of them a model supports.
        let effort = match effort {
            Effort::Low => "low",
            Effort::Medium => "medium",
            Effort::High => "high",
            Effort::Xhigh => "xhigh",
            Effort::Max => "max",
        };
        body.insert("reasoning_effort".into(), json!(effort));
    }
    Ok(Value::Object(body))
}

fn content(role: Role, parts: &[Part]) -> Result<Value, ProviderError> {
    if let [Part::Text(text)] = parts {
        return Ok(json!(text));
    }
    let invalid = |message: String| ProviderError::new(ProviderErrorKind::InvalidRequest, message);
    let parts = parts.iter().map(|part| match part {
        Part::Text(text) => Ok(json!({"type": "text", "text": text})),
        Part::Media { .. } if role == Role::Assistant => {
            Err(invalid("this wire takes media in user messages only".to_owned()))
        }
        Part::Media { mime, data } if IMAGES.contains(&mime.as_str()) => {
            let url = format!("data:{mime};base64,{}", BASE64.encode(data));
            Ok(json!({"type": "image_url", "image_url": {"url": url}}))
        }
        Part::Media { mime, .. } => Err(invalid(format!(
            "an openai-compatible provider takes {}, not {mime:?}",
            IMAGES.join(", ")
        ))),
        Part::Extension { kind, .. } => Err(invalid(format!(
            "an openai-compatible provider has no content of kind {kind:?}"
        ))),
    });
    parts.collect::<Result<Vec<_>, _>>().map(Value::Array)
}

/// Converts the schema's title to a name that the API allows: `[A-Za-z0-9_-]{1,64}`.
fn schema_name(schema: &Value) -> String {
    let title = schema.get("title").and_then(Value::as_str).unwrap_or_default();
    let fit = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let name: String = title.chars().take(64).map(fit).collect();
    if name.trim_matches('_').is_empty() {
        "reply".to_owned()
    } else {
        name
    }
}

/// The token counts of a body; `None` if there are none. This API's `prompt_tokens` include cached input.
fn usage(body: &Value) -> Option<Usage> {
    let usage = body.get("usage")?;
    let number = |name: &str| usage.get(name).and_then(count);
    let input = number("prompt_tokens").or_else(|| number("input_tokens"));
    let output = number("completion_tokens").or_else(|| number("output_tokens"));
    let total = number("total_tokens").unwrap_or(0);
    // A request always has input; some servers report zeros if they did not count.
    let input = match (input, output) {
        (Some(input), Some(_)) => input,
        (None, Some(output)) => total.checked_sub(output)?,
        _ => return None,
    };
    let input = Some(input).filter(|input| *input > 0)?;
    // Some services leave reasoning out of `completion_tokens` and count it only in the total, but bill for it all the
    // same.
    let output = output?.max(total.saturating_sub(input));
    let cached_input = detail(usage.pointer("/prompt_tokens_details/cached_tokens"), input);
    Some(Usage {
        input,
        cached_input,
        cache_write_input: detail(
            usage.pointer("/prompt_tokens_details/cache_write_tokens"),
            input - cached_input,
        ),
        output,
        reasoning_output: detail(usage.pointer("/completion_tokens_details/reasoning_tokens"), output),
        searches: 0,
    })
}

#[cfg(test)]
mod tests;
