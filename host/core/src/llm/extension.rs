//! The kinds of content that the contract carries as JSON: calls of tools and their results, citations, searches, and
//! blocks that only the provider understands.
//!
//! The JSON is neutral: the same call of a tool looks the same on every wire. An [`Echo`] is the exception. It holds a
//! block of one provider, which has to go back exactly as it came. A guest can read it and leave it out, but it cannot
//! make one: the host passes on only those that it gave to the same task.
//!
//! [`check`] holds for every request that leaves the host: content of a kind that is not possible in a message never
//! reaches a provider.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::message::{Message, Part, Role};
use super::options::Options;

/// The most tool calls of one message. Models make a few at a time.
const MAX_CALLS: usize = 128;
/// The deepest nesting of arguments. A part around them is deeper, and JSON of more than 127 levels cannot be read.
const MAX_DEPTH: usize = 100;

/// One part of a message that is not text or media.
///
/// ```
/// use agenthost_core::llm::{Extension, Part, ToolResult};
///
/// let result = ToolResult { id: "call_1".into(), content: "12 °C".into(), is_error: false };
/// let part = Extension::ToolResult(result.clone()).into_part();
/// assert!(matches!(&part, Part::Extension { kind, .. } if kind == "tool-result"));
/// assert_eq!(Extension::of(&part), Some(Ok(Extension::ToolResult(result))));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Extension {
    /// `tool-call`: the model calls a tool.
    ToolCall(ToolCall),
    /// `tool-result`: the result of a call.
    ToolResult(ToolResult),
    /// `citation`: a source of the text before it.
    Citation(Citation),
    /// `search`: a search of the provider, for information.
    Search(SearchReport),
    /// `echo`: a block that goes back as it came.
    Echo(Echo),
}

/// A call of a tool by the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ToolCall {
    /// The id, which the result repeats.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// The arguments.
    #[serde(flatten)]
    pub arguments: ToolArguments,
    /// The provider's own form of the call, if it has more than the other fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<Echo>,
}

/// The arguments of a tool call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToolArguments {
    /// The arguments by their names.
    #[serde(rename = "arguments")]
    Object(Map<String, Value>),
    /// The text that the model wrote, which is not a JSON object.
    #[serde(rename = "invalid-arguments")]
    Invalid(String),
}

impl ToolArguments {
    /// Reads the text that the model wrote. An empty text is an empty object, because some models write nothing for a
    /// tool without parameters.
    ///
    /// ```
    /// use agenthost_core::llm::extension::ToolArguments;
    ///
    /// assert_eq!(ToolArguments::read(""), ToolArguments::Object(serde_json::Map::new()));
    /// assert_eq!(ToolArguments::read("{\"a\":"), ToolArguments::Invalid("{\"a\":".to_owned()));
    /// ```
    pub fn read(text: &str) -> Self {
        if text.trim().is_empty() {
            return Self::Object(Map::new());
        }
        match serde_json::from_str(text) {
            Ok(Value::Object(arguments)) if is_flat(arguments.values(), MAX_DEPTH) => Self::Object(arguments),
            _ => Self::Invalid(text.to_owned()),
        }
    }

    /// Returns arguments that came as JSON. Anything but an object, and an object that is too deep, is invalid.
    ///
    /// ```
    /// use agenthost_core::llm::extension::ToolArguments;
    ///
    /// assert!(matches!(ToolArguments::of(serde_json::json!({"a": 1})), ToolArguments::Object(_)));
    /// assert_eq!(ToolArguments::of(serde_json::json!([1])), ToolArguments::Invalid("[1]".to_owned()));
    /// ```
    pub fn of(value: Value) -> Self {
        match value {
            Value::Object(arguments) if is_flat(arguments.values(), MAX_DEPTH) => Self::Object(arguments),
            Value::String(text) => Self::Invalid(text),
            other => Self::Invalid(other.to_string()),
        }
    }

    /// Returns the arguments as JSON text; invalid ones as they are.
    ///
    /// ```
    /// use agenthost_core::llm::extension::ToolArguments;
    ///
    /// assert_eq!(ToolArguments::read("{ \"a\": 1 }").text(), "{\"a\":1}");
    /// ```
    pub fn text(&self) -> String {
        match self {
            Self::Object(arguments) => Value::Object(arguments.clone()).to_string(),
            Self::Invalid(text) => text.clone(),
        }
    }
}

/// Returns whether no value is nested deeper than `depth`.
fn is_flat<'a>(values: impl IntoIterator<Item = &'a Value>, depth: usize) -> bool {
    values.into_iter().all(|value| match value {
        Value::Array(items) => depth > 0 && is_flat(items, depth - 1),
        Value::Object(members) => depth > 0 && is_flat(members.values(), depth - 1),
        _ => true,
    })
}

/// The result of a tool call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ToolResult {
    /// The id of the call.
    pub id: String,
    /// The result, for the model.
    pub content: String,
    /// `true` if the call failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_error: bool,
}

/// A source of the text part before it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Citation {
    /// The address of the source.
    pub url: String,
    /// The title of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The cited text of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<String>,
    /// The first character of the text for which the source is cited, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<u64>,
    /// The character after the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<u64>,
    /// The provider's own form of the citation, if it has more than the other fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<Echo>,
}

/// A search that the provider made, or a page that it read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SearchReport {
    /// `web-search` or `web-fetch`.
    pub tool: String,
    /// The queries, or the address that was read.
    #[serde(default)]
    pub queries: Vec<String>,
    /// The pages that were found, or the page that was read.
    #[serde(default)]
    pub results: Vec<SearchHit>,
    /// The provider's code for a failure, such as `max_uses_exceeded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A page that a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SearchHit {
    /// The address.
    pub url: String,
    /// The title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

/// A block of one provider, which goes back exactly as it came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Echo {
    /// The wire, by the name of the provider kind.
    pub wire: String,
    /// The model that the request asked for. Other models may not understand the block.
    pub model: String,
    /// The block.
    pub block: Value,
}

impl Echo {
    /// Returns whether a request to `model` on `wire` can carry the block.
    ///
    /// ```
    /// use agenthost_core::llm::Echo;
    ///
    /// let echo = Echo { wire: "anthropic".into(), model: "small".into(), block: serde_json::json!({}) };
    /// assert!(echo.fits("anthropic", "small") && !echo.fits("anthropic", "large"));
    /// ```
    pub fn fits(&self, wire: &str, model: &str) -> bool {
        self.wire == wire && self.model == model
    }
}

impl Extension {
    /// Returns the extension in `part`; `None` if the part is text or media. A kind that is not known, or JSON that does not
    /// have the form of its kind, is an error.
    ///
    /// ```
    /// use agenthost_core::llm::{Extension, Part};
    ///
    /// assert_eq!(Extension::of(&Part::Text("hello".into())), None);
    /// let foreign = Part::Extension { kind: "tool_use".into(), json: "{}".into() };
    /// assert!(Extension::of(&foreign).is_some_and(|read| read.is_err()));
    /// ```
    pub fn of(part: &Part) -> Option<Result<Self, String>> {
        let Part::Extension { kind, json } = part else {
            return None;
        };
        Some(Self::read(kind, json))
    }

    /// Reads the JSON text of an extension.
    ///
    /// ```
    /// use agenthost_core::llm::Extension;
    ///
    /// assert!(Extension::read("tool-result", r#"{"id": "call_1", "content": "12 °C"}"#).is_ok());
    /// assert!(Extension::read("tool-result", "{}").is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the reason if the kind is not known, or if the JSON does not have its form.
    pub fn read(kind: &str, json: &str) -> Result<Self, String> {
        let read = match kind {
            "tool-call" => serde_json::from_str(json).map(Self::ToolCall),
            "tool-result" => serde_json::from_str(json).map(Self::ToolResult),
            "citation" => serde_json::from_str(json).map(Self::Citation),
            "search" => serde_json::from_str(json).map(Self::Search),
            "echo" => serde_json::from_str(json).map(Self::Echo),
            _ => {
                return Err(format!(
                    "a request has no content of kind {kind:?}; it has tool-call, tool-result, citation, search and echo"
                ));
            }
        };
        read.map_err(|error| format!("the content is not a {kind}: {error}"))
    }

    /// Returns the kind, as the contract writes it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ToolCall(_) => "tool-call",
            Self::ToolResult(_) => "tool-result",
            Self::Citation(_) => "citation",
            Self::Search(_) => "search",
            Self::Echo(_) => "echo",
        }
    }

    /// Returns the part of a message with this extension.
    pub fn into_part(self) -> Part {
        let json = match &self {
            Self::ToolCall(call) => serde_json::to_string(call),
            Self::ToolResult(result) => serde_json::to_string(result),
            Self::Citation(citation) => serde_json::to_string(citation),
            Self::Search(search) => serde_json::to_string(search),
            Self::Echo(echo) => serde_json::to_string(echo),
        };
        Part::Extension {
            kind: self.kind().to_owned(),
            // Strings, numbers and maps with names as keys can always be written.
            json: json.unwrap_or_default(),
        }
    }

    /// Returns the echo that it is or has.
    pub fn echo(&self) -> Option<&Echo> {
        match self {
            Self::ToolCall(call) => call.echo.as_ref(),
            Self::Citation(citation) => citation.echo.as_ref(),
            Self::Echo(echo) => Some(echo),
            Self::ToolResult(_) | Self::Search(_) => None,
        }
    }

    /// Returns it without its echo; `None` if it is only an echo.
    ///
    /// ```
    /// use agenthost_core::llm::{Echo, Extension};
    ///
    /// let echo = Echo { wire: "anthropic".into(), model: "small".into(), block: serde_json::json!({}) };
    /// assert_eq!(Extension::Echo(echo).without_echo(), None);
    /// ```
    #[must_use]
    pub fn without_echo(self) -> Option<Self> {
        match self {
            Self::ToolCall(call) => Some(Self::ToolCall(ToolCall { echo: None, ..call })),
            Self::Citation(citation) => Some(Self::Citation(Citation { echo: None, ..citation })),
            Self::Echo(_) => None,
            other => Some(other),
        }
    }
}

/// Checks the extensions of a request. Removes the [`Echo`] of every extension for which `is_received` returns `false`, and
/// the messages that this leaves empty.
///
/// ```
/// use agenthost_core::llm::extension::check;
/// use agenthost_core::llm::{Message, Options, Part, Role};
///
/// let part = Part::Extension { kind: "server_tool_use".into(), json: "{}".into() };
/// let mut messages = vec![Message { role: Role::User, content: vec![part] }];
/// assert!(check(&mut messages, &Options::default(), |_| false).is_err());
/// ```
///
/// # Errors
///
/// Returns the reason for an invalid request: a kind that is not known or that is not possible in its message, and calls
/// and results that do not match.
pub fn check(
    messages: &mut Vec<Message>,
    options: &Options,
    is_received: impl Fn(&Extension) -> bool,
) -> Result<(), String> {
    // The calls of the message before, which the next one has to answer.
    let mut open: BTreeSet<String> = BTreeSet::new();
    let mut kept_messages = Vec::with_capacity(messages.len());
    for message in messages.drain(..) {
        let mut calls = BTreeSet::new();
        let mut kept = Vec::with_capacity(message.content.len());
        let was_empty = message.content.is_empty();
        for part in message.content {
            let Some(extension) = Extension::of(&part) else {
                kept.push(part);
                continue;
            };
            let extension = extension?;
            match (&extension, message.role) {
                (Extension::ToolResult(result), Role::User) => {
                    if !open.remove(&result.id) {
                        return Err(format!("the tool result {:?} belongs to no open call", result.id));
                    }
                }
                (Extension::ToolCall(call), Role::Assistant) => {
                    if !calls.insert(call.id.clone()) {
                        return Err(format!("two tool calls have the id {:?}", call.id));
                    }
                    if calls.len() > MAX_CALLS {
                        return Err(format!("a message has at most {MAX_CALLS} tool calls"));
                    }
                }
                (Extension::ToolResult(_), Role::Assistant) => {
                    return Err("a tool result is in a message of the model".to_owned());
                }
                (_, Role::User) => {
                    return Err(format!(
                        "content of kind {} is in a message of the user",
                        extension.kind()
                    ));
                }
                (_, Role::Assistant) => {}
            }
            match extension.echo().is_some() && !is_received(&extension) {
                false => kept.push(part),
                true => kept.extend(extension.without_echo().map(Extension::into_part)),
            }
        }
        if let Some(id) = open.first() {
            return Err(format!("the tool call {id:?} has no result in the message after it"));
        }
        open = calls;
        // The services refuse an empty message.
        if was_empty || !kept.is_empty() {
            kept_messages.push(Message {
                role: message.role,
                content: kept,
            });
        }
    }
    *messages = kept_messages;
    match open.first() {
        Some(id) => Err(format!("the tool call {id:?} has no result")),
        None if options.tools.is_empty() && has_calls(messages) => {
            Err("the conversation has tool calls, and the request has no tools".to_owned())
        }
        None => Ok(()),
    }
}

fn has_calls(messages: &[Message]) -> bool {
    let mut parts = messages.iter().flat_map(|message| &message.content);
    parts.any(|part| matches!(part, Part::Extension { kind, .. } if kind == "tool-call"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn part(kind: &str, json: Value) -> Part {
        Part::Extension {
            kind: kind.to_owned(),
            json: json.to_string(),
        }
    }

    fn call(id: &str) -> Part {
        part(
            "tool-call",
            json!({"id": id, "name": "weather", "arguments": {"city": "Oslo"}}),
        )
    }

    fn result(id: &str) -> Part {
        part("tool-result", json!({"id": id, "content": "12 °C"}))
    }

    fn message(role: Role, content: Vec<Part>) -> Message {
        Message { role, content }
    }

    fn tools() -> Options {
        Options::parse([("tools", r#"[{"name": "weather", "parameters": {"type": "object"}}]"#)]).unwrap()
    }

    #[test]
    fn calls_and_results_match() {
        let user = |content| message(Role::User, content);
        let assistant = |content| message(Role::Assistant, content);
        let ask = || user(vec![Part::Text("How warm is it?".into())]);
        for (messages, expected) in [
            (
                vec![
                    ask(),
                    assistant(vec![call("a"), call("b")]),
                    user(vec![result("b"), result("a")]),
                ],
                None,
            ),
            (
                vec![ask(), assistant(vec![call("a")]), user(vec![result("b")])],
                Some("no open call"),
            ),
            (
                vec![ask(), assistant(vec![call("a")]), ask()],
                Some("\"a\" has no result in the message after it"),
            ),
            (vec![ask(), assistant(vec![call("a")])], Some("\"a\" has no result")),
            (
                vec![ask(), assistant(vec![call("a")]), user(vec![result("a"), result("a")])],
                Some("no open call"),
            ),
            (
                vec![ask(), assistant(vec![call("a"), call("a")])],
                Some("two tool calls"),
            ),
            (
                vec![ask(), assistant(vec![result("a")])],
                Some("in a message of the model"),
            ),
            (
                vec![user(vec![call("a")])],
                Some("tool-call is in a message of the user"),
            ),
            (
                vec![user(vec![part("server_tool_use", json!({}))])],
                Some("no content of kind"),
            ),
            (
                vec![user(vec![part("tool-result", json!({"id": "a", "type": "x"}))])],
                Some("is not a tool-result"),
            ),
        ] {
            let mut checked = messages.clone();
            match (check(&mut checked, &tools(), |_| false), expected) {
                (Ok(()), None) => assert_eq!(checked, messages),
                (Err(why), Some(expected)) => assert!(why.contains(expected), "{why}"),
                (got, _) => panic!("{messages:?}: {got:?}"),
            }
        }
        let many = (0..200).map(|n| call(&n.to_string())).collect();
        let why = check(&mut vec![ask(), assistant(many)], &tools(), |_| false).unwrap_err();
        assert!(why.contains("at most 128 tool calls"), "{why}");
        let mut without_tools = vec![ask(), assistant(vec![call("a")]), user(vec![result("a")])];
        let why = check(&mut without_tools, &Options::default(), |_| false).unwrap_err();
        assert!(why.contains("no tools"), "{why}");
    }

    #[test]
    fn an_echo_that_the_host_does_not_know_is_removed() {
        let block = |signature: &str| json!({"type": "thinking", "thinking": "", "signature": signature});
        let echo = |signature: &str| json!({"wire": "anthropic", "model": "small", "block": block(signature)});
        let with = |signature: &str| {
            let call = json!({"id": "a", "name": "weather", "arguments": {}, "echo": echo(signature)});
            vec![
                message(
                    Role::Assistant,
                    vec![part("echo", echo(signature)), part("tool-call", call)],
                ),
                message(Role::User, vec![result("a")]),
            ]
        };
        let known = |extension: &Extension| extension.echo().is_some_and(|echo| echo.block == block("good"));
        let mut messages = with("good");
        check(&mut messages, &tools(), known).unwrap();
        assert_eq!(messages, with("good"), "byte for byte");
        let mut messages = with("forged");
        check(&mut messages, &tools(), known).unwrap();
        let left = json!({"id": "a", "name": "weather", "arguments": {}});
        assert_eq!(messages[0].content, [part("tool-call", left)]);

        let user = |text: &str| message(Role::User, vec![Part::Text(text.to_owned())]);
        let mut messages = vec![
            user("a"),
            message(Role::Assistant, vec![part("echo", echo("forged"))]),
            user("b"),
        ];
        check(&mut messages, &tools(), known).unwrap();
        assert_eq!(
            messages,
            [user("a"), user("b")],
            "a message that is left empty is removed"
        );
    }

    #[test]
    fn deep_arguments_are_invalid() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(matches!(ToolArguments::read(&nested(100)), ToolArguments::Object(_)));
        for depth in [101, 126, 127, 100_000] {
            let read = ToolArguments::read(&nested(depth));
            assert!(matches!(&read, ToolArguments::Invalid(_)), "{depth}");
            let call = ToolCall {
                id: "a".to_owned(),
                name: "b".to_owned(),
                arguments: read,
                echo: None,
            };
            let part = Extension::ToolCall(call.clone()).into_part();
            assert_eq!(Extension::of(&part), Some(Ok(Extension::ToolCall(call))), "{depth}");
        }
    }
}
