//! OpenAI's Responses API, without streaming and without state at the service.
//!
//! Nothing is stored (`store` is `false`): in a conversation with tools, every item of a reply goes back as it came,
//! the encrypted reasoning among them. A message that goes back is put together from its frame, see `items`, and the
//! texts of the conversation. Messages without tools are plain. Structured output, the cache and the prefix work as on
//! chat completions.
//!
//! The API has no stop sequences and no mark for a failed call: the result of one begins with `Error: `. Web search is
//! the vendor's only tool of this wire, with a list of allowed domains but none of blocked ones. A limit of uses counts
//! all tools of the vendor together. In a search, the model can also open pages by their addresses. `external_web_access`
//! would forbid that, but would also limit the search to the vendor's cache, so it is left out.
//!
//! Left out: documents, background and stored responses, and every other tool of the vendor.

mod items;
mod stream;

use secrecy::SecretString;
use serde_json::{Map, Value, json};

use self::items::Frame;
use super::body::Assembled;
use super::conversation::{Content, Conversation, Speaker, Turn};
use super::draft::Draft;
use super::error::ProviderSetupError;
use super::http::{Auth, Bounds, Endpoint, HttpResponse, count};
use super::openai_api;
use super::refusals::Feature;
use super::schema::Dialect;
use super::service::{Service, Variant, Wire};
use super::structured::{Asked, Form};
use agenthost_core::llm::{
    Caching, Counting, Options, ProviderError, ProviderErrorKind, Request, Role, ServerTool, ServerToolKind, Stop,
    ToolCall, ToolChoice, Usage,
};

const SPEAKER: Speaker = Speaker {
    wire: "openai-responses",
    name: "openai",
    takes_documents: false,
};

/// The wire of the Responses API.
#[derive(Debug)]
pub struct Responses(());

/// The Responses API at one address with one key.
pub type OpenAiResponses = Service<Responses>;

impl Service<Responses> {
    /// Creates a provider for the service below `base_url` (with its `/v1`; by default OpenAI's own), with `key` if the
    /// service needs one.
    ///
    /// ```
    /// use agenthost_core::llm::Provider as _;
    /// use agenthost_providers::responses::OpenAiResponses;
    ///
    /// let provider = OpenAiResponses::new(None, Some("sk-example".into()))?;
    /// assert_eq!(provider.kind(), "openai-responses");
    /// assert!(provider.summary().ends_with("https://api.openai.com/v1/responses"));
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
        let base_url = base_url.unwrap_or(openai_api::ADDRESS);
        let endpoint = Endpoint::new(base_url, "responses", Auth::Bearer, key, &[], bounds)?;
        Ok(Self::over(endpoint, Responses(())))
    }
}

impl Wire for Responses {
    const KIND: &'static str = SPEAKER.wire;
    const SUMMARY: &'static str = "openai responses";
    const COUNTING: Counting = Counting::UpFront;
    const CACHING: Caching = Caching::Automatic;

    fn lacks(tool: &ServerTool) -> Option<String> {
        match tool.kind {
            ServerToolKind::WebFetch => {
                Some("its provider has no web-fetch; use web-search, which also opens pages".to_owned())
            }
            ServerToolKind::WebSearch if !tool.blocked_domains.is_empty() => {
                Some("its provider has no blocked-domains for web-search; use allowed-domains".to_owned())
            }
            ServerToolKind::WebSearch => None,
        }
    }

    fn encode(&self, request: &Request, variant: &Variant) -> Result<Value, ProviderError> {
        encode(request, variant.form, variant.has(Feature::EncryptedReasoning))
    }

    fn assembled(events: Vec<Value>, _ended: bool) -> Assembled {
        stream::assembled(events)
    }

    fn reported(body: &Value) -> Option<&Value> {
        let first = body.as_array().and_then(|list| list.first()).unwrap_or(body);
        let error = first.get("error").filter(|error| !error.is_null())?;
        // The rest of such a body is a reply.
        let is_response = first.get("object").is_some_and(|object| object == "response");
        Some(if is_response { error } else { body })
    }

    fn request_id(answer: &HttpResponse, _body: Option<&Value>) -> Option<String> {
        openai_api::request_id(answer)
    }

    fn usage(body: &Value) -> Option<Usage> {
        let usage = openai_api::usage(body)?;
        let searches = body.pointer("/tool_usage/web_search/num_requests").and_then(count);
        Some(Usage {
            searches: searches.unwrap_or_else(|| items::searches(body)),
            ..usage
        })
    }

    fn decode(body: &Value, draft: &mut Draft<'_>) -> Result<Stop, &'static str> {
        decode(body, draft)
    }

    fn explain(&self, endpoint: &Endpoint, error: ProviderError) -> ProviderError {
        match error.kind {
            ProviderErrorKind::NotFound => openai_api::with_address(endpoint, error, "/v1/responses"),
            _ => error,
        }
    }

    fn refused(request: &Request, error: &ProviderError) -> Option<Feature> {
        let said = error.message.to_ascii_lowercase();
        let is_refused = error.kind == ProviderErrorKind::InvalidRequest
            && request.options.keeps_blocks()
            && said.contains("encrypted content is not supported");
        is_refused.then_some(Feature::EncryptedReasoning)
    }
}

fn encode(request: &Request, form: Form, encrypts: bool) -> Result<Value, ProviderError> {
    let options = &request.options;
    if !options.stop.is_empty() {
        return Err(SPEAKER.cannot("has no option `stop` on the Responses API; leave it out"));
    }
    let Asked {
        system,
        schema,
        any_object,
        ..
    } = Asked::of(request, form, Dialect::OpenAi);
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model));
    if let Some(system) = system {
        body.insert("instructions".into(), json!(system));
    }
    let mut input = Vec::new();
    for turn in Conversation::of(request, &SPEAKER)?.turns {
        match turn.role {
            Role::User => encode_user(&turn, &mut input),
            Role::Assistant => encode_assistant(&turn, &mut input),
        }
    }
    body.insert("input".into(), Value::Array(input));
    encode_tools(options, &mut body);
    let mut include = Vec::new();
    if options.keeps_blocks() && encrypts {
        include.push("reasoning.encrypted_content");
    }
    if !options.server_tools.is_empty() {
        include.push("web_search_call.action.sources");
    }
    if !include.is_empty() {
        body.insert("include".into(), json!(include));
    }
    body.insert("max_output_tokens".into(), json!(request.max_tokens));
    let format = match schema {
        Some(schema) => {
            let name = openai_api::schema_name(request.schema.as_ref());
            Some(json!({"type": "json_schema", "name": name, "schema": schema, "strict": true}))
        }
        None => any_object.then(|| json!({"type": "json_object"})),
    };
    if let Some(format) = format {
        body.insert("text".into(), json!({"format": format}));
    }
    if let Some(effort) = openai_api::effort(options) {
        body.insert("reasoning".into(), json!({"effort": effort}));
    }
    body.insert("store".into(), json!(false));
    // Some compatible servers stream unless they are asked not to.
    body.insert("stream".into(), json!(false));
    Ok(Value::Object(body))
}

fn encode_tools(options: &Options, body: &mut Map<String, Value>) {
    let mut tools = Vec::new();
    for mut function in openai_api::functions(options) {
        function.shift_insert(0, "type".into(), json!("function"));
        tools.push(Value::Object(function));
    }
    for tool in &options.server_tools {
        tools.push(match tool.allowed_domains.as_slice() {
            [] => json!({"type": "web_search"}),
            allowed => json!({"type": "web_search", "filters": {"allowed_domains": allowed}}),
        });
    }
    if !tools.is_empty() {
        body.insert("tools".into(), Value::Array(tools));
    }
    if let Some(choice) = &options.tool_choice {
        let choice = match choice {
            ToolChoice::Auto => json!("auto"),
            ToolChoice::None => json!("none"),
            ToolChoice::Any => json!("required"),
            ToolChoice::Tool(name) => json!({"type": "function", "name": name}),
        };
        body.insert("tool_choice".into(), choice);
    }
    if let Some(parallel) = options.parallel_tools {
        body.insert("parallel_tool_calls".into(), json!(parallel));
    }
    if !options.server_tools.is_empty() {
        let uses: u32 = options.server_tools.iter().map(|tool| tool.bounds().uses()).sum();
        body.insert("max_tool_calls".into(), json!(uses));
    }
}

/// Writes the message of a user: the results of tools are items of their own, before the rest.
fn encode_user(turn: &Turn<'_>, input: &mut Vec<Value>) {
    let before = input.len();
    let mut parts = Vec::new();
    for block in &turn.blocks {
        match &block.content {
            Content::ToolResult(result) => input.push(json!({
                "type": "function_call_output",
                "call_id": result.id,
                "output": openai_api::result_text(result),
            })),
            Content::Image(image) => {
                parts.push(json!({"type": "input_image", "image_url": image.data_url(), "detail": "auto"}));
            }
            Content::Text { text, .. } => parts.push(json!({"type": "input_text", "text": text})),
            Content::Document(_) | Content::ToolCall(_) | Content::Echo(_) => {}
        }
    }
    if let [only] = parts.as_slice()
        && let Some(text) = only.get("text")
    {
        input.push(json!({"role": "user", "content": text}));
    } else if !parts.is_empty() || input.len() == before {
        input.push(json!({"role": "user", "content": parts}));
    }
}

fn encode_assistant(turn: &Turn<'_>, input: &mut Vec<Value>) {
    let mut open: Option<Frame> = None;
    for block in &turn.blocks {
        match &block.content {
            Content::Text { text, .. } => {
                let is_framed = open.as_mut().is_some_and(|frame| frame.fill(text));
                if !is_framed {
                    input.extend(open.take().and_then(Frame::finish));
                    input.push(json!({"role": "assistant", "content": text}));
                }
            }
            Content::Echo(block) => {
                input.extend(open.take().and_then(Frame::finish));
                match Frame::read(block) {
                    Some(frame) => open = Some(frame),
                    None => input.push(block.clone()),
                }
            }
            Content::ToolCall(call) => {
                input.extend(open.take().and_then(Frame::finish));
                input.push(match &call.echo {
                    Some(echo) => echo.block.clone(),
                    None => function_call(call),
                });
            }
            Content::Image(_) | Content::Document(_) | Content::ToolResult(_) => {}
        }
    }
    input.extend(open.and_then(Frame::finish));
}

fn function_call(call: &ToolCall) -> Value {
    let arguments = call.arguments.text();
    json!({"type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments})
}

fn decode(body: &Value, draft: &mut Draft<'_>) -> Result<Stop, &'static str> {
    let status = body.get("status").and_then(Value::as_str);
    let none = Vec::new();
    let output = match body.get("output") {
        Some(Value::Array(output)) => output,
        // Cut short, but finished and counted.
        None | Some(Value::Null) if status.is_some() => &none,
        _ => return Err("the answer has no output"),
    };
    for item in output {
        items::read(item, draft, function_call)?;
    }
    let reason = body.pointer("/incomplete_details/reason").and_then(Value::as_str);
    match (status, reason) {
        (Some("queued" | "in_progress"), _) => Err("the answer is not complete"),
        // Compatible servers leave the status out.
        (Some("completed") | None, _) => Ok(Stop::End),
        (Some("incomplete"), Some("max_output_tokens" | "max_tokens")) => Ok(Stop::MaxTokens),
        (Some("incomplete"), Some("content_filter")) => Ok(Stop::Refusal),
        _ => Ok(Stop::Other),
    }
}

#[cfg(test)]
mod tests;
