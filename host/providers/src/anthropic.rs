//! Anthropic's Messages API, version 2026-10-21, without streaming.
//!
//! Sampling settings are never sent, because this version of the API rejects them. The prompt cache is used only if the
//! request's options ask for it, with one breakpoint at the end of the request, or else if the request marks a prefix,
//! with one breakpoint there. If the API's structured output cannot express a schema, the schema becomes part of the
//! system text, see [`schema::fit`](crate::schema::fit).
//!
//! In a conversation with tools, thinking and the blocks of server tools go back exactly as they came. A model that
//! always thinks refuses a forced tool, so such a request is refused before it is sent. Web search and web fetch are the
//! vendor's tools of this wire; a reply in which it pauses is marked as paused.
//!
//! Left out: batches, and every other tool of the vendor.

mod citations;
mod error;
mod server_tools;
mod stream;

use secrecy::SecretString;
use serde_json::{Map, Value, json};

use super::body::Assembled;
use super::conversation::{Block, Content, Conversation, Media, Speaker, invalid};
use super::draft::Draft;
use super::error::ProviderSetupError;
use super::http::{Auth, Bounds, Endpoint, HttpResponse, count, detail};
use super::schema::{Dialect, Scarce};
use super::service::{Service, Variant, Wire};
use super::structured::{Asked, Form};
use super::tools;
use agenthost_core::llm::extension::ToolArguments;
use agenthost_core::llm::{
    CacheTtl, Caching, Counting, Options, ProviderError, Request, Role, ServerTool, Stop, Thinking, ToolCall,
    ToolChoice, Usage,
};

const BASE_URL: &str = "https://api.anthropic.com";
const VERSION: &str = "2026-10-21";
/// The most tools of one request whose schemas the API enforces.
const MAX_STRICT: usize = 20;
/// The models that always think, each up to its version.
const ALWAYS_THINKING: [&str; 4] = [
    "claude-sonnet-5-5",
    "claude-opus-5-5",
    "claude-fable-5-1",
    "claude-mythos-5-1",
];
const SPEAKER: Speaker = Speaker {
    wire: "anthropic",
    name: "anthropic",
    takes_documents: true,
};

/// The wire of the Messages API.
#[derive(Debug)]
pub struct Messages(());

/// The Messages API at one address with one key.
pub type Anthropic = Service<Messages>;

impl Service<Messages> {
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
        Ok(Self::over(endpoint, Messages(())))
    }
}

impl Wire for Messages {
    const KIND: &'static str = SPEAKER.wire;
    const SUMMARY: &'static str = "anthropic";
    const COUNTING: Counting = Counting::AsUsed;
    const CACHING: Caching = Caching::Marked;

    fn lacks(_tool: &ServerTool) -> Option<String> {
        None
    }

    fn encode(&self, request: &Request, variant: &Variant) -> Result<Value, ProviderError> {
        encode(request, variant.form)
    }

    fn assembled(events: Vec<Value>, _ended: bool) -> Assembled {
        stream::assembled(events)
    }

    fn reported(body: &Value) -> Option<&Value> {
        error::reported(body)
    }

    fn request_id(answer: &HttpResponse, body: Option<&Value>) -> Option<String> {
        error::request_id(answer, body)
    }

    fn usage(body: &Value) -> Option<Usage> {
        usage(body)
    }

    fn decode(body: &Value, draft: &mut Draft<'_>) -> Result<Stop, &'static str> {
        decode(body, draft)
    }
}

fn encode(request: &Request, form: Form) -> Result<Value, ProviderError> {
    let options = &request.options;
    if options.tool_choice.as_ref().is_some_and(ToolChoice::is_forced) && thinks_always(&request.model) {
        return Err(invalid(format!(
            "{} always thinks and refuses a forced choice of tools; use tool-choice auto",
            request.model
        )));
    }
    let asked = Asked::of(request, form, Dialect::Anthropic);
    let (system, schema) = (asked.system, asked.schema);
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model));
    body.insert("max_tokens".into(), json!(request.max_tokens));
    let mut conversation = encode_conversation(request)?;
    // The breakpoint of the option, at the end, covers the prefix too.
    let mut system = system.map(Value::String);
    if conversation.is_marked && options.cache.is_none() {
        let ephemeral = json!({"type": "ephemeral"});
        match (conversation.last_of_prefix(), system.as_ref().and_then(Value::as_str)) {
            (Some(block), _) => {
                block.insert("cache_control".into(), ephemeral);
            }
            // The API rejects a breakpoint at an empty text.
            (None, Some(text)) if !text.is_empty() => {
                system = Some(json!([{"type": "text", "text": text, "cache_control": ephemeral}]));
            }
            (None, _) => {}
        }
    }
    if let Some(system) = system {
        body.insert("system".into(), system);
    }
    let tools = definitions(options, asked.scarce);
    if !tools.is_empty() {
        body.insert("tools".into(), Value::Array(tools));
    }
    if let Some(choice) = tool_choice(options) {
        body.insert("tool_choice".into(), choice);
    }
    body.insert("messages".into(), conversation.into_messages());
    // Some compatible servers stream unless they are asked not to.
    body.insert("stream".into(), json!(false));
    if !options.stop.is_empty() {
        body.insert("stop_sequences".into(), json!(options.stop));
    }
    if let Some(thinking) = options.thinking {
        let mode = match thinking {
            Thinking::Adaptive => "adaptive",
            Thinking::Off => "disabled",
            Thinking::BetweenTools => "between_tools",
        };
        body.insert("thinking".into(), json!({"type": mode}));
    }
    let mut output = Map::new();
    if let Some(effort) = options.effort {
        output.insert("effort".into(), json!(effort.name()));
    }
    if let Some(schema) = schema {
        output.insert("format".into(), json!({"type": "json_schema", "schema": schema}));
    }
    if !output.is_empty() {
        body.insert("output_config".into(), Value::Object(output));
    }
    if let Some(ttl) = options.cache {
        let ttl = match ttl {
            CacheTtl::FiveMinutes => "5m",
            CacheTtl::OneHour => "1h",
        };
        body.insert("cache_control".into(), json!({"type": "ephemeral", "ttl": ttl}));
    }
    Ok(Value::Object(body))
}

/// Returns whether the model with this id, with or without a date and the prefix of a gateway, thinks on every request.
fn thinks_always(model: &str) -> bool {
    let model = model.to_ascii_lowercase().replace('.', "-");
    ALWAYS_THINKING.iter().any(|name| {
        let after = model.split_once(name).map(|(_, after)| after);
        after.is_some_and(|after| !after.starts_with(|c: char| c.is_ascii_digit()))
    })
}

/// Returns the definitions of all tools. The vendor enforces the schemas of the first strict ones, as long as they and the
/// schema of the reply, whose parts are `scarce`, have no more than it accepts.
fn definitions(options: &Options, mut scarce: Scarce) -> Vec<Value> {
    let mut strict = 0;
    let mut tools: Vec<Value> = Vec::new();
    for tool in &options.tools {
        let mut definition = Map::from_iter([("name".to_owned(), json!(tool.name))]);
        if !tool.description.is_empty() {
            definition.insert("description".into(), json!(tool.description));
        }
        let fitted = tools::strict(tool, Dialect::Anthropic).filter(|_| strict < MAX_STRICT);
        let sum = fitted.as_ref().and_then(|fitted| scarce.plus(fitted.scarce));
        if let (Some(fitted), Some(sum)) = (fitted, sum) {
            strict += 1;
            scarce = sum;
            definition.insert("input_schema".into(), fitted.schema);
            definition.insert("strict".into(), json!(true));
        } else {
            definition.insert("input_schema".into(), tool.parameters.clone());
        }
        tools.push(Value::Object(definition));
    }
    tools.extend(options.server_tools.iter().map(server_tools::definition));
    tools
}

fn tool_choice(options: &Options) -> Option<Value> {
    let single = options.parallel_tools == Some(false);
    let mut choice = match &options.tool_choice {
        None if single => json!({"type": "auto"}),
        None => return None,
        // Without calls, there are no parallel ones.
        Some(ToolChoice::None) => return Some(json!({"type": "none"})),
        Some(ToolChoice::Auto) => json!({"type": "auto"}),
        Some(ToolChoice::Any) => json!({"type": "any"}),
        Some(ToolChoice::Tool(name)) => json!({"type": "tool", "name": name}),
    };
    if let Some(members) = choice.as_object_mut().filter(|_| single) {
        members.insert("disable_parallel_tool_use".into(), json!(true));
    }
    Some(choice)
}

/// The messages as JSON.
struct Encoded {
    messages: Vec<(Role, Vec<Value>)>,
    /// The last block of the prefix that can have a breakpoint: the message, and the block in it.
    last_of_prefix: Option<(usize, usize)>,
    is_marked: bool,
}

impl Encoded {
    fn last_of_prefix(&mut self) -> Option<&mut Map<String, Value>> {
        let (message, block) = self.last_of_prefix?;
        self.messages.get_mut(message)?.1.get_mut(block)?.as_object_mut()
    }

    fn into_messages(self) -> Value {
        let messages = self.messages.into_iter().map(|(role, mut blocks)| {
            let role = match role {
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            let content = match blocks.as_mut_slice() {
                [only] => plain_text(only).unwrap_or(Value::Array(blocks)),
                _ => Value::Array(blocks),
            };
            json!({"role": role, "content": content})
        });
        messages.collect()
    }
}

/// Takes the text of a block that has nothing else.
fn plain_text(block: &mut Value) -> Option<Value> {
    let members = block.as_object_mut().filter(|members| members.len() == 2)?;
    (members.get("type")? == "text").then(|| members.remove("text"))?
}

fn encode_conversation(request: &Request) -> Result<Encoded, ProviderError> {
    let conversation = Conversation::of(request, &SPEAKER)?;
    let mut last_of_prefix = None;
    let mut messages = Vec::with_capacity(conversation.turns.len());
    for turn in conversation.turns {
        // The API accepts no blank text beside other content, although it writes some.
        let is_kept = |block: &Block<'_>| {
            !matches!(&block.content, Content::Text { text, citations }
                if turn.role == Role::Assistant && citations.is_empty() && text.trim().is_empty())
        };
        let has_other = turn.blocks.iter().any(is_kept);
        let mut blocks = Vec::with_capacity(turn.blocks.len());
        for block in turn.blocks.iter().filter(|block| !has_other || is_kept(block)) {
            // A block that goes back as it came cannot be changed.
            let is_own = match &block.content {
                Content::Echo(_) => false,
                Content::ToolCall(call) => call.echo.is_none(),
                Content::Text { .. } | Content::Image(_) | Content::Document(_) | Content::ToolResult(_) => true,
            };
            if block.in_prefix && is_own {
                last_of_prefix = Some((messages.len(), blocks.len()));
            }
            blocks.push(encode_content(&block.content));
        }
        messages.push((turn.role, blocks));
    }
    Ok(Encoded {
        messages,
        last_of_prefix,
        is_marked: conversation.is_marked,
    })
}

fn encode_content(content: &Content<'_>) -> Value {
    let media = |kind: &str, media: &Media<'_>| {
        let source = json!({"type": "base64", "media_type": media.mime, "data": media.base64()});
        json!({"type": kind, "source": source})
    };
    match content {
        Content::Text { text, citations } => {
            let mut block = json!({"type": "text", "text": text});
            let cited: Vec<_> = citations.iter().filter_map(|citation| citation.echo.as_ref()).collect();
            if let Some(members) = block.as_object_mut().filter(|_| !cited.is_empty()) {
                let cited = cited.into_iter().map(|echo| citations::returned(&echo.block));
                members.insert("citations".into(), cited.collect());
            }
            block
        }
        Content::Image(image) => media("image", image),
        Content::Document(document) => media("document", document),
        Content::ToolCall(call) => match &call.echo {
            Some(echo) => echo.block.clone(),
            None => tool_use(call),
        },
        Content::ToolResult(result) => {
            let mut block =
                json!({"type": "tool_result", "tool_use_id": call_id(&result.id), "content": result.content});
            if let Some(members) = block.as_object_mut().filter(|_| result.is_error) {
                members.insert("is_error".into(), json!(true));
            }
            block
        }
        Content::Echo(block) => block.clone(),
    }
}

/// Writes a call.
fn tool_use(call: &ToolCall) -> Value {
    let input = match &call.arguments {
        ToolArguments::Object(arguments) => Value::Object(arguments.clone()),
        // The form that the vendor documents for arguments that a model got wrong.
        ToolArguments::Invalid(text) => json!({"INVALID_JSON": text}),
    };
    json!({"type": "tool_use", "id": call_id(&call.id), "name": call.name, "input": input})
}

/// The id of a call as the API accepts it. Other services write other characters.
fn call_id(id: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    id.chars().map(fit).collect()
}

fn decode(body: &Value, draft: &mut Draft<'_>) -> Result<Stop, &'static str> {
    let reason = body.get("stop_reason").and_then(Value::as_str);
    let none = Vec::new();
    let blocks = match body.get("content") {
        Some(Value::Array(blocks)) => blocks,
        // Cut short, but finished and counted.
        None | Some(Value::Null) if reason.is_some() => &none,
        _ => return Err("the answer has no content"),
    };
    let mut uses = server_tools::ServerUses::default();
    draft.earlier().for_each(|block| drop(uses.read(&block)));
    for block in blocks {
        let text = |name: &str| block.get(name).and_then(Value::as_str);
        match text("type") {
            Some("text") => {
                draft.text(text("text").ok_or("a text block has no text")?);
                let citations = block.get("citations").and_then(Value::as_array);
                for citation in citations.into_iter().flatten() {
                    draft.citation(citations::read(citation, &uses), Some(citation));
                }
            }
            Some("thinking" | "redacted_thinking") => {
                draft.reasoning(text("thinking").unwrap_or_default());
                draft.echo(block.clone());
            }
            Some("tool_use") if draft.keeps_blocks() => {
                let name = text("name").ok_or("a tool call of the answer has no name")?;
                let arguments = match block.get("input") {
                    Some(Value::Object(input)) => ToolArguments::of(Value::Object(input.clone())),
                    None | Some(Value::Null) => ToolArguments::read(""),
                    Some(Value::String(text)) => super::tools::arguments(text),
                    Some(other) => ToolArguments::Invalid(other.to_string()),
                };
                let id = draft.id(text("id"));
                // Only the form of the API can go back, and with the id that the result will have.
                let is_sound =
                    text("id") == Some(&id) && call_id(&id) == id && block.get("input").is_some_and(Value::is_object);
                draft.tool_call(id, name, arguments, Some(block).filter(|_| is_sound), tool_use);
            }
            Some(kind) => {
                draft.unknown(kind, block);
                if let Some(report) = uses.read(block) {
                    draft.search(report);
                }
            }
            None => return Err("a block of the answer has no type"),
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
    draft.is_paused = reason == Some("pause_turn") && draft.keeps_blocks();
    let details = body.get("stop_details").filter(|_| stop == Stop::Refusal);
    draft.refusal = details.and_then(|details| {
        let word = |name: &str| details.get(name)?.as_str().filter(|text| !text.is_empty());
        word("explanation").or_else(|| word("category")).map(str::to_owned)
    });
    Ok(stop)
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
    let searches = usage.pointer("/server_tool_use/web_search_requests").and_then(count);
    // A request always has input; some servers report zeros if they did not count.
    (input > 0).then(|| Usage {
        input,
        cached_input,
        cache_write_input,
        output,
        reasoning_output: detail(usage.pointer("/output_tokens_details/thinking_tokens"), output),
        searches: searches.unwrap_or_else(|| successful_searches(body)),
    })
}

/// The searches that a body shows, for a service that does not count them. A failed one is not billed.
fn successful_searches(body: &Value) -> u64 {
    let blocks = body.get("content").and_then(Value::as_array).into_iter().flatten();
    let found = blocks.filter(|block| {
        let kind = block.get("type").and_then(Value::as_str);
        kind == Some("web_search_tool_result") && block.get("content").is_some_and(Value::is_array)
    });
    found.count() as u64
}

#[cfg(test)]
mod tests;
