//! The parts of a conversation that the contract carries as JSON: calls of tools and their results, citations, and the
//! searches that a provider made.
//!
//! Bounded by the kinds that this version knows. An `echo`, which only the host can read, and a part of an unknown kind
//! are left as they are: a conversation goes on with the content of a reply unchanged.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::llm::{Error, Extension, Part, Reply, Request};

const TOOL_CALL: &str = "tool-call";
const TOOL_RESULT: &str = "tool-result";
const CITATION: &str = "citation";
const SEARCH: &str = "search";

/// A call of a tool, as the model wrote it.
///
/// ```
/// use agenthost_sdk::prelude::*;
/// use agenthost_sdk::serde_json::json;
/// use agenthost_sdk::testing::{Host, Reply};
///
/// let add = Tool::new::<Vec<i64>>("add", "Adds numbers.", async |numbers| Ok::<i64, String>(numbers.iter().sum()));
/// let host = Host::new().model("fast", [Reply::tool_call("add", json!({"input": [1, 2]}))]);
/// let reply = host.run(Prompt::new("What is 1 + 2?").tool(add).reply()).unwrap();
/// assert_eq!(reply.tool_calls()[0].name, "add");
/// assert_eq!(reply.tool_calls()[0].arguments, json!({"input": [1, 2]}));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WrittenToolCall", into = "WrittenToolCall")]
pub struct ToolCall {
    /// The id that the result of the call names.
    pub id: String,
    /// The name of the tool.
    pub name: String,
    /// The arguments, as an object. A model can write arguments that are not a JSON object: then, they are its text, as
    /// a [`Value::String`].
    pub arguments: Value,
}

/// The result of a call, as it is sent to the model.
///
/// ```
/// use agenthost_sdk::prelude::*;
/// use agenthost_sdk::serde_json::json;
/// use agenthost_sdk::testing::{Host, Reply};
///
/// let add = Tool::new::<Vec<i64>>("add", "Adds numbers.", async |numbers| Ok::<i64, String>(numbers.iter().sum()));
/// let host = Host::new().model("fast", [Reply::tool_call("add", json!({"input": [1, 2]})), Reply::text("3")]);
/// host.run(Prompt::new("What is 1 + 2?").tool(add).run(2)).unwrap();
/// let results = host.requests()[1].tool_results();
/// assert_eq!((results[0].content.as_str(), results[0].is_error), ("3", false));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ToolResult {
    /// The id of the call.
    pub id: String,
    /// The output, or the reason for the error.
    pub content: String,
    /// `true` if the call was invalid or the tool failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_error: bool,
}

/// A source that the model gives for a text of its reply.
///
/// ```
/// use agenthost_sdk::Citation;
///
/// let citation = Citation::new("https://example.com/prices");
/// assert_eq!((citation.url.as_str(), citation.title), ("https://example.com/prices", None));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Citation {
    /// The address of the source.
    pub url: String,
    /// The title of the source, if the provider gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The passage of the source, if the provider gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<String>,
    /// The text that the source supports: the part of the reply before the citation.
    #[serde(skip)]
    pub text: String,
}

impl Citation {
    /// Creates a citation of a page, without a title, a quote and a text.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Citation {
        Citation {
            url: url.into(),
            title: None,
            quote: None,
            text: String::new(),
        }
    }
}

/// A search or a fetch that the provider made for a reply.
///
/// ```
/// use agenthost_sdk::prelude::*;
/// use agenthost_sdk::testing::{Host, Reply};
/// use agenthost_sdk::{WebPage, WebSearch};
///
/// let mut search = WebSearch::new(["prices of Acme"]);
/// search.results.push(WebPage { url: "https://example.com/prices".into(), title: None });
/// let host = Host::new().model("fast", [Reply::text("It costs 5 CHF.").with_search(search)]);
/// let reply = host.run(Prompt::new("What does it cost?").search(Search::uses(3)).reply()).unwrap();
/// assert_eq!(reply.searches()[0].results[0].url, "https://example.com/prices");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebSearch {
    /// `web-search` or `web-fetch`.
    pub tool: String,
    /// The queries.
    #[serde(default)]
    pub queries: Vec<String>,
    /// The pages that were found or read.
    #[serde(default)]
    pub results: Vec<WebPage>,
    /// The provider's code of the error if the search failed, such as `max_uses_exceeded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl WebSearch {
    /// Creates a search with these queries that found nothing.
    ///
    /// ```
    /// use agenthost_sdk::WebSearch;
    ///
    /// let search = WebSearch::new(["Acme Robotics"]);
    /// assert_eq!((search.tool.as_str(), search.results.len(), search.error), ("web-search", 0, None));
    /// ```
    pub fn new<Q: Into<String>>(queries: impl IntoIterator<Item = Q>) -> WebSearch {
        WebSearch {
            tool: "web-search".to_owned(),
            queries: queries.into_iter().map(Into::into).collect(),
            results: Vec::new(),
            error: None,
        }
    }
}

/// A page that a provider found or read.
///
/// ```
/// use agenthost_sdk::{WebPage, WebSearch};
///
/// let mut search = WebSearch::new(["prices of Acme"]);
/// search.results.push(WebPage { url: "https://example.com/prices".into(), title: Some("Prices".into()) });
/// let titles: Vec<&str> = search.results.iter().filter_map(|page| page.title.as_deref()).collect();
/// assert_eq!(titles, ["Prices"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebPage {
    /// The address.
    pub url: String,
    /// The title, if the provider gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

impl Reply {
    /// Returns the calls of tools, in the order of the reply. A reply of [`Prompt::run`](crate::Prompt::run) has none: its
    /// calls are answered.
    ///
    /// ```
    /// use agenthost_sdk::llm::Stop;
    /// use agenthost_sdk::prelude::*;
    /// use agenthost_sdk::serde_json::json;
    /// use agenthost_sdk::testing::{Host, Reply};
    ///
    /// let now = Tool::new::<()>("now", "Returns the time.", async |()| Ok::<_, String>("12:00"));
    /// let host = Host::new().model("fast", [Reply::tool_call("now", json!({}))]);
    /// let reply = host.run(Prompt::new("What time is it?").tool(now).reply()).unwrap();
    /// assert_eq!((reply.stop, reply.tool_calls().len()), (Stop::ToolUse, 1));
    /// ```
    #[must_use]
    pub fn tool_calls(&self) -> Vec<ToolCall> {
        self.last_turn()
            .iter()
            .filter_map(|part| read(part, TOOL_CALL))
            .collect()
    }

    /// The parts after the last result of a call, which are all parts in a reply of one model call.
    pub(crate) fn last_turn(&self) -> &[Part] {
        self.content.rsplit(ToolResult::is_in).next().unwrap_or_default()
    }

    /// The error of a reply that calls tools where an answer is needed.
    pub(crate) fn unanswered(&self) -> Error {
        let calls = self.tool_calls();
        let names: Vec<String> = calls.iter().map(|call| format!("`{}`", call.name)).collect();
        Error::InvalidReply(match names.as_slice() {
            [] => "the model calls tools, but no call can be read".to_owned(),
            _ => format!(
                "the model calls {} instead of answering; `Prompt::run` answers calls",
                names.join(", ")
            ),
        })
    }

    /// Returns the sources that the model gives, in the order of the reply; each with the text that it supports. For a
    /// reply of [`Prompt::run`](crate::Prompt::run), they are the sources of all turns.
    ///
    /// ```
    /// use agenthost_sdk::prelude::*;
    /// use agenthost_sdk::Citation;
    /// use agenthost_sdk::testing::{Host, Reply};
    ///
    /// let source = Citation { title: Some("Prices".into()), ..Citation::new("https://example.com/prices") };
    /// let host = Host::new().model("fast", [Reply::text("It costs 5 CHF.").with_citation(source)]);
    /// let reply = host.run(Prompt::new("What does it cost?").search(Search::uses(3)).reply()).unwrap();
    /// let citations = reply.citations();
    /// assert_eq!((citations[0].text.as_str(), citations[0].url.as_str()), ("It costs 5 CHF.", "https://example.com/prices"));
    /// ```
    #[must_use]
    pub fn citations(&self) -> Vec<Citation> {
        let (mut text, mut found) = ("", Vec::new());
        for part in &self.content {
            match part {
                Part::Text(before) => text = before,
                // The next turn has texts of its own.
                _ if ToolResult::is_in(part) => text = "",
                _ => {}
            }
            found.extend(read(part, CITATION).map(|citation: Citation| Citation {
                text: text.to_owned(),
                ..citation
            }));
        }
        found
    }

    /// Returns the searches and fetches that the provider made, in their order. A reply without any is from the model's
    /// memory. For a reply of [`Prompt::run`](crate::Prompt::run), they are those of all turns.
    ///
    /// ```
    /// use agenthost_sdk::prelude::*;
    /// use agenthost_sdk::WebSearch;
    /// use agenthost_sdk::testing::{Host, Reply};
    ///
    /// let host = Host::new().model("fast", [Reply::text("5 CHF").with_search(WebSearch::new(["prices"])), Reply::text("5 CHF")]);
    /// let ask = || host.run(Prompt::new("What does it cost?").search(Search::uses(3)).reply()).unwrap();
    /// assert_eq!(ask().searches()[0].queries, ["prices"]);
    /// assert!(ask().searches().is_empty());
    /// ```
    #[must_use]
    pub fn searches(&self) -> Vec<WebSearch> {
        self.content.iter().filter_map(|part| read(part, SEARCH)).collect()
    }
}

impl Request {
    /// Returns the names of the tools that the model is offered, for tests.
    ///
    /// ```
    /// use agenthost_sdk::prelude::*;
    ///
    /// let now = Tool::new::<()>("now", "Returns the time.", async |()| Ok::<_, String>("12:00"));
    /// assert_eq!(Prompt::new("What time is it?").tool(now).into_request().tools(), ["now"]);
    /// ```
    #[must_use]
    pub fn tools(&self) -> Vec<String> {
        let option = self.options.iter().find(|(name, _)| name == "tools");
        let tools = option.and_then(|(_, json)| serde_json::from_str::<Vec<Value>>(json).ok());
        let name = |tool: &Value| Some(tool.get("name")?.as_str()?.to_owned());
        tools.iter().flatten().filter_map(name).collect()
    }

    /// Returns the results of the calls in the whole conversation, in their order, for tests.
    ///
    /// ```
    /// use agenthost_sdk::prelude::*;
    /// use agenthost_sdk::serde_json::json;
    /// use agenthost_sdk::testing::{Host, Reply};
    ///
    /// let now = Tool::new::<()>("now", "Returns the time.", async |()| Err::<(), _>("the clock is broken"));
    /// let host = Host::new().model("fast", [Reply::tool_call("now", json!({})), Reply::text("Late.")]);
    /// host.run(Prompt::new("What time is it?").tool(now).run(2)).unwrap();
    /// let results = host.requests()[1].tool_results();
    /// assert_eq!((results[0].content.as_str(), results[0].is_error), ("the clock is broken", true));
    /// ```
    #[must_use]
    pub fn tool_results(&self) -> Vec<ToolResult> {
        let parts = self.messages.iter().flat_map(|message| &message.content);
        parts.filter_map(|part| read(part, TOOL_RESULT)).collect()
    }
}

impl ToolResult {
    /// Creates the result of a call that has this output, for [`Prompt::answered`](crate::Prompt::answered).
    ///
    /// ```
    /// use agenthost_sdk::serde_json::json;
    /// use agenthost_sdk::{ToolCall, ToolResult};
    ///
    /// let call = ToolCall { id: "call-1".into(), name: "add".into(), arguments: json!({"a": 1, "b": 2}) };
    /// let result = ToolResult::new(&call, "3");
    /// assert_eq!((result.id.as_str(), result.content.as_str(), result.is_error), ("call-1", "3", false));
    /// ```
    pub fn new(call: &ToolCall, output: impl Into<String>) -> ToolResult {
        ToolResult {
            id: call.id.clone(),
            content: output.into(),
            is_error: false,
        }
    }

    /// Creates the result of a call that failed, with the reason for the model.
    ///
    /// ```
    /// use agenthost_sdk::serde_json::json;
    /// use agenthost_sdk::{ToolCall, ToolResult};
    ///
    /// let call = ToolCall { id: "call-1".into(), name: "remove".into(), arguments: json!({"file": "taxes.pdf"}) };
    /// assert!(ToolResult::error(&call, "the user keeps this file").is_error);
    /// ```
    pub fn error(call: &ToolCall, reason: impl Into<String>) -> ToolResult {
        ToolResult {
            is_error: true,
            ..ToolResult::new(call, reason)
        }
    }

    /// Returns the part of a user message that carries the result.
    pub(crate) fn part(&self) -> Part {
        part(TOOL_RESULT, self)
    }

    /// Returns whether a part carries a result.
    pub(crate) fn is_in(part: &Part) -> bool {
        matches!(part, Part::Extension(extension) if extension.kind == TOOL_RESULT)
    }
}

/// For scripted models.
#[cfg(not(target_family = "wasm"))]
impl ToolCall {
    /// Returns the part of a reply that carries the call.
    pub(crate) fn part(&self) -> Part {
        part(TOOL_CALL, self)
    }

    /// Sets the id of a call without one; `found` may be any part.
    pub(crate) fn number(found: &mut Part, id: impl FnOnce() -> String) {
        if let Some(call) = read::<ToolCall>(found, TOOL_CALL)
            && call.id.is_empty()
        {
            *found = ToolCall { id: id(), ..call }.part();
        }
    }
}

/// For scripted models.
#[cfg(not(target_family = "wasm"))]
impl Citation {
    /// Returns the part of a reply that carries the citation.
    pub(crate) fn part(&self) -> Part {
        part(CITATION, self)
    }
}

/// For scripted models.
#[cfg(not(target_family = "wasm"))]
impl WebSearch {
    /// Returns the part of a reply that carries the search.
    pub(crate) fn part(&self) -> Part {
        part(SEARCH, self)
    }
}

/// The JSON form of a call.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct WrittenToolCall {
    id: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invalid_arguments: Option<String>,
}

impl From<WrittenToolCall> for ToolCall {
    fn from(written: WrittenToolCall) -> ToolCall {
        let invalid = || Value::String(written.invalid_arguments.unwrap_or_default());
        ToolCall {
            id: written.id,
            name: written.name,
            arguments: written.arguments.unwrap_or_else(invalid),
        }
    }
}

impl From<ToolCall> for WrittenToolCall {
    fn from(call: ToolCall) -> WrittenToolCall {
        let (arguments, invalid_arguments) = match call.arguments {
            Value::String(text) => (None, Some(text)),
            arguments => (Some(arguments), None),
        };
        WrittenToolCall {
            id: call.id,
            name: call.name,
            arguments,
            invalid_arguments,
        }
    }
}

/// Reads a part of this kind.
fn read<T: DeserializeOwned>(part: &Part, kind: &str) -> Option<T> {
    match part {
        Part::Extension(extension) if extension.kind == kind => serde_json::from_str(&extension.json).ok(),
        _ => None,
    }
}

fn part(kind: &str, value: &impl Serialize) -> Part {
    Part::Extension(Extension {
        kind: kind.to_owned(),
        // The types of this file are objects of texts.
        json: serde_json::to_string(value).unwrap_or_default(),
    })
}
