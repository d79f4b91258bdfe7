//! OpenAI's chat completions API, without streaming, which most model servers implement.
//!
//! The variations of other servers are accepted: no key, no usage, content as parts or `null`, an error with a status
//! of success, a numeric error code, a stream that was not asked for, calls of tools without ids, one call as a
//! `function_call`. If strict structured
//! output cannot express a schema, the schema becomes part of the system text, see
//! [`schema::fit`](crate::schema::fit). The cache option and a marked prefix are not sent, because these services cache
//! prompts automatically.
//!
//! In a conversation with tools, the members of a message that only the service understands go back as they came, such
//! as `reasoning_content` and the signature of a call. The API has no mark for a failed call: its result begins with
//! `Error: `. OpenAI's own models since gpt-5.4 have no tools on this API unless they do not reason; they need
//! [`responses`](crate::responses).
//!
//! Left out: server tools, which this API does not have, and sampling settings.

mod error;
mod max_tokens;
mod stream;

use secrecy::SecretString;
use serde_json::{Map, Value, json};

pub use self::max_tokens::MaxTokensField;
use super::body::Assembled;
use super::conversation::{self, Content, Conversation, Speaker, Turn};
use super::draft::Draft;
use super::error::ProviderSetupError;
use super::http::{Auth, Bounds, Endpoint, HttpResponse};
use super::openai_api::{self, CallInReply};
use super::refusals::Feature;
use super::schema::Dialect;
use super::service::{Service, Variant, Wire};
use super::structured::Asked;
use agenthost_core::llm::{
    Caching, Citation, Counting, ProviderError, Request, Role, ServerTool, Stop, ToolCall, ToolChoice, Usage,
};

const SPEAKER: Speaker = Speaker {
    wire: "openai",
    name: "an openai-compatible provider",
    takes_documents: false,
};
/// The members of a message that are read, so that they are not kept for their own sake.
const KNOWN: [&str; 7] = [
    "role",
    "content",
    "refusal",
    "annotations",
    "audio",
    "tool_calls",
    "function_call",
];

/// The wire of chat completions.
#[derive(Debug)]
pub struct Chat {
    max_tokens: MaxTokensField,
}

/// A chat completions service at one address.
pub type OpenAi = Service<Chat>;

impl Service<Chat> {
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
        let base_url = base_url.unwrap_or(openai_api::ADDRESS);
        let endpoint = Endpoint::new(base_url, "chat/completions", Auth::Bearer, key, &[], bounds)?;
        Ok(Self::over(endpoint, Chat { max_tokens }))
    }
}

impl Wire for Chat {
    const KIND: &'static str = SPEAKER.wire;
    const SUMMARY: &'static str = "openai-compatible";
    const COUNTING: Counting = Counting::UpFront;
    const CACHING: Caching = Caching::Automatic;

    fn lacks(tool: &ServerTool) -> Option<String> {
        Some(format!(
            "its provider has no {} on chat completions; if the service has the Responses API, set kind = \"openai-responses\"",
            tool.kind
        ))
    }

    fn encode(&self, request: &Request, variant: &Variant) -> Result<Value, ProviderError> {
        encode(request, self.max_tokens, variant)
    }

    fn assembled(events: Vec<Value>, ended: bool) -> Assembled {
        stream::assembled(events, ended)
    }

    fn reported(body: &Value) -> Option<&Value> {
        error::reported(body)
    }

    fn request_id(answer: &HttpResponse, _body: Option<&Value>) -> Option<String> {
        openai_api::request_id(answer)
    }

    fn usage(body: &Value) -> Option<Usage> {
        openai_api::usage(body)
    }

    fn decode(body: &Value, draft: &mut Draft<'_>) -> Result<Stop, &'static str> {
        decode(body, draft)
    }

    fn explain(&self, endpoint: &Endpoint, error: ProviderError) -> ProviderError {
        error::explain(endpoint, error, self.max_tokens)
    }

    fn refused(request: &Request, error: &ProviderError) -> Option<Feature> {
        let blocks: Vec<Value> = conversation::echoes(request, SPEAKER.wire).collect();
        let names = blocks.iter().flat_map(own_members).map(|(name, _)| name.as_str());
        error::refuses_one_of(error, names).then_some(Feature::OwnMembers)
    }
}

fn encode(request: &Request, max_tokens: MaxTokensField, variant: &Variant) -> Result<Value, ProviderError> {
    let options = &request.options;
    let Asked {
        system,
        schema,
        any_object,
        ..
    } = Asked::of(request, variant.form, Dialect::OpenAi);
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model));
    let mut messages = Vec::new();
    if let Some(system) = system {
        messages.push(json!({"role": "system", "content": system}));
    }
    for turn in Conversation::of(request, &SPEAKER)?.turns {
        match turn.role {
            Role::User => encode_user(&turn, &mut messages),
            Role::Assistant => messages.push(encode_assistant(&turn, variant.has(Feature::OwnMembers))),
        }
    }
    body.insert("messages".into(), Value::Array(messages));
    if !options.tools.is_empty() {
        let functions = openai_api::functions(options).map(|mut function| {
            // Not every server knows the member, and this is its default.
            if function.get("strict").is_some_and(|strict| strict == false) {
                function.shift_remove("strict");
            }
            json!({"type": "function", "function": function})
        });
        body.insert("tools".into(), functions.collect());
    }
    if let Some(choice) = &options.tool_choice {
        let choice = match choice {
            ToolChoice::Auto => json!("auto"),
            ToolChoice::None => json!("none"),
            ToolChoice::Any => json!("required"),
            ToolChoice::Tool(name) => json!({"type": "function", "function": {"name": name}}),
        };
        body.insert("tool_choice".into(), choice);
    }
    if let Some(parallel) = options.parallel_tools {
        body.insert("parallel_tool_calls".into(), json!(parallel));
    }
    // Some servers stream unless they are asked not to.
    body.insert("stream".into(), json!(false));
    let field = match max_tokens {
        MaxTokensField::MaxCompletionTokens => "max_completion_tokens",
        MaxTokensField::MaxTokens => "max_tokens",
    };
    body.insert(field.into(), json!(request.max_tokens));
    if let Some(schema) = schema {
        let name = openai_api::schema_name(request.schema.as_ref());
        let described = json!({"name": name, "strict": true, "schema": schema});
        body.insert(
            "response_format".into(),
            json!({"type": "json_schema", "json_schema": described}),
        );
    } else if any_object {
        body.insert("response_format".into(), json!({"type": "json_object"}));
    }
    if let Some(effort) = openai_api::effort(options) {
        body.insert("reasoning_effort".into(), json!(effort));
    }
    if !options.stop.is_empty() {
        body.insert("stop".into(), json!(options.stop));
    }
    Ok(Value::Object(body))
}

/// Writes the message of a user: each result of a tool is a message of its own, before the rest.
fn encode_user(turn: &Turn<'_>, messages: &mut Vec<Value>) {
    let before = messages.len();
    let mut parts = Vec::new();
    for block in &turn.blocks {
        match &block.content {
            Content::ToolResult(result) => messages.push(json!({
                "role": "tool",
                "tool_call_id": result.id,
                "content": openai_api::result_text(result),
            })),
            Content::Image(image) => {
                parts.push(json!({"type": "image_url", "image_url": {"url": image.data_url()}}));
            }
            other => parts.extend(text_part(other)),
        }
    }
    if !parts.is_empty() || messages.len() == before {
        messages.push(json!({"role": "user", "content": joined(parts)}));
    }
}

/// Writes the message of the model, with the members that the service wrote if it takes them.
fn encode_assistant(turn: &Turn<'_>, with_own: bool) -> Value {
    let mut message = Map::from_iter([
        ("role".to_owned(), json!("assistant")),
        ("content".to_owned(), Value::Null),
    ]);
    let (mut parts, mut calls) = (Vec::new(), Vec::new());
    for block in &turn.blocks {
        match &block.content {
            Content::ToolCall(call) => calls.push(match &call.echo {
                Some(echo) => echo.block.clone(),
                None => tool_call(call),
            }),
            // The members of a message, and parts of its content.
            Content::Echo(block) => {
                let own = block.get("content").and_then(Value::as_array);
                parts.extend(own.into_iter().flatten().cloned());
                let own = own_members(block).filter(|_| with_own);
                message.extend(own.map(|(name, value)| (name.clone(), value.clone())));
            }
            other => parts.extend(text_part(other)),
        }
    }
    // Without calls, the API wants content.
    if !parts.is_empty() || calls.is_empty() {
        message.insert("content".into(), joined(parts));
    }
    if !calls.is_empty() {
        message.insert("tool_calls".into(), Value::Array(calls));
    }
    Value::Object(message)
}

fn text_part(content: &Content<'_>) -> Option<Value> {
    match content {
        Content::Text { text, .. } => Some(json!({"type": "text", "text": text})),
        _ => None,
    }
}

/// The content of a message: a text if it has nothing else.
fn joined(parts: Vec<Value>) -> Value {
    if let [only] = parts.as_slice()
        && only.get("type").is_some_and(|kind| kind == "text")
        && let Some(text) = only.get("text")
    {
        return text.clone();
    }
    Value::Array(parts)
}

fn tool_call(call: &ToolCall) -> Value {
    let function = json!({"name": call.name, "arguments": call.arguments.text()});
    json!({"id": call.id, "type": "function", "function": function})
}

fn decode(body: &Value, draft: &mut Draft<'_>) -> Result<Stop, &'static str> {
    let choice = body.pointer("/choices/0").ok_or("the answer has no choices")?;
    let reason = choice.get("finish_reason").and_then(Value::as_str);
    let nothing = json!({});
    let message = match choice.get("message") {
        Some(message) if message.is_object() => message,
        // Cut short by a filter, for example, but finished and counted.
        None | Some(Value::Null) if reason.is_some() => &nothing,
        _ => return Err("the answer has no message"),
    };
    let words = |value: &Value| {
        value
            .get("refusal")?
            .as_str()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    draft.refusal = words(message);
    draft.reasoning(reasoning_text(message).unwrap_or_default());
    keep_members(message, draft);
    match message.get("content") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => {
            if !text.is_empty() {
                draft.text(text);
            }
        }
        Some(Value::Array(parts)) => {
            for part in parts {
                match part.get("type").and_then(Value::as_str) {
                    Some("text" | "output_text") => {
                        let text = part.get("text").and_then(Value::as_str);
                        draft.text(text.ok_or("a text part of the answer has no text")?);
                    }
                    Some("refusal") => draft.refusal = draft.refusal.take().or_else(|| words(part)),
                    Some("thinking" | "reasoning") => draft.echo(json!({"content": [part]})),
                    Some(_) if draft.keeps_blocks() => draft.echo(json!({"content": [part]})),
                    Some(kind) => draft.unknown(kind, part),
                    None => return Err("a part of the answer has no type"),
                }
            }
        }
        Some(_) => return Err("the answer's content is neither text nor parts"),
    }
    let list = |name: &str| message.get(name).and_then(Value::as_array).into_iter().flatten();
    let citations = list("annotations").filter_map(|annotation| citation_of(annotation.get("url_citation")?));
    citations.for_each(|citation| draft.citation(citation, None));
    if draft.keeps_blocks() {
        let calls: Vec<Value> = list("tool_calls").cloned().collect();
        // The only call, as older servers write it.
        let function_call = message
            .get("function_call")
            .filter(|call| calls.is_empty() && call.is_object());
        let function_call = function_call.map(|function| json!({"function": function}));
        for call in calls.iter().chain(&function_call) {
            let call = CallInReply {
                block: call,
                id_member: "id",
                function: call.get("function").unwrap_or(&nothing),
                rebuild: tool_call,
            };
            call.read(draft)?;
        }
    }
    Ok(stop(reason))
}

/// The members of a message that only the service understands.
fn own_members(message: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let members = message.as_object().into_iter().flatten();
    members.filter(|(name, _)| !KNOWN.contains(&name.as_str()))
}

/// Keeps the members of a message that only the service understands.
fn keep_members(message: &Value, draft: &mut Draft<'_>) {
    // Without a value, a member says nothing, and not every service accepts it.
    let is_empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    };
    let own = own_members(message).filter(|(_, value)| !is_empty(value));
    let own: Map<String, Value> = own.map(|(name, value)| (name.clone(), value.clone())).collect();
    if !own.is_empty() {
        draft.echo(Value::Object(own));
    }
}

fn citation_of(citation: &Value) -> Option<Citation> {
    let text = |name: &str| citation.get(name).and_then(Value::as_str).map(str::to_owned);
    let number = |name: &str| citation.get(name).and_then(Value::as_u64);
    Some(Citation {
        url: text("url")?,
        title: text("title"),
        quote: text("content"),
        start: number("start_index"),
        end: number("end_index"),
        echo: None,
    })
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

#[cfg(test)]
mod tests;
