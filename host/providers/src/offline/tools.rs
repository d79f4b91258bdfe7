//! The offline provider's use of a request's tools.
//!
//! It calls each offered tool once, as far as the choice of tools allows it, and answers as soon as the conversation has
//! results. The answer of a request with server tools has one source, which is made up and says so.

use agenthost_core::llm::extension::ToolArguments;
use agenthost_core::llm::{
    Citation, Extension, Part, Request, SearchHit, SearchReport, ServerToolKind, ToolCall, ToolChoice, ToolDefinition,
};
use serde_json::{Map, Value};

use super::make::{self, MARK};

/// The address of every source. Nothing is there, by RFC 2606.
const SOURCE: &str = "https://example.com/";

/// Returns the calls that a reply to `request` makes.
pub(super) fn calls(request: &Request, seed: [u8; 32]) -> Vec<ToolCall> {
    let options = &request.options;
    let mut parts = request.messages.iter().flat_map(|message| &message.content);
    if parts.any(|part| matches!(part, Part::Extension { kind, .. } if kind == "tool-result")) {
        return Vec::new();
    }
    let is_chosen = |tool: &&ToolDefinition| match &options.tool_choice {
        None | Some(ToolChoice::Auto | ToolChoice::Any) => true,
        Some(ToolChoice::None) => false,
        Some(ToolChoice::Tool(name)) => tool.name == *name,
    };
    let most = match options.parallel_tools {
        Some(false) => 1,
        Some(true) | None => usize::MAX,
    };
    let chosen = options.tools.iter().filter(is_chosen).take(most).enumerate();
    let call = |(index, tool): (usize, &ToolDefinition)| ToolCall {
        id: format!("call_{index}"),
        name: tool.name.clone(),
        arguments: match make::value(&tool.parameters, seed) {
            Value::Object(arguments) => ToolArguments::Object(arguments),
            _ => ToolArguments::Object(Map::new()),
        },
        echo: None,
    };
    chosen.map(call).collect()
}

/// Returns `text` with a source for each server tool of the request.
pub(super) fn with_sources(request: &Request, text: String, query: &str) -> Vec<Part> {
    let title = || Some(format!("{MARK} a source that is made up"));
    let mut content = Vec::new();
    for tool in &request.options.server_tools {
        let asked = match tool.kind {
            ServerToolKind::WebSearch => query,
            ServerToolKind::WebFetch => SOURCE,
        };
        let hit = SearchHit {
            url: SOURCE.to_owned(),
            title: title(),
        };
        let report = SearchReport {
            tool: tool.kind.name().to_owned(),
            queries: vec![asked.to_owned()],
            results: vec![hit],
            error: None,
        };
        content.push(Extension::Search(report).into_part());
    }
    let has_sources = !content.is_empty();
    content.push(Part::Text(text));
    if has_sources {
        let citation = Citation {
            url: SOURCE.to_owned(),
            title: title(),
            ..Citation::default()
        };
        content.push(Extension::Citation(citation).into_part());
    }
    content
}
