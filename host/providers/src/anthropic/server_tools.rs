//! The tools that the vendor runs: their definitions, and the reports of their use.
//!
//! The versions are those before February 2026, which the current SDK still defines: the model calls them directly.
//! Later versions filter pages with code that the vendor executes, so that a request would use a third tool that no
//! grant names.

use std::collections::HashMap;

use agenthost_core::llm::{SearchHit, SearchReport, ServerTool, ServerToolKind};
use serde_json::{Value, json};

/// The most tokens of a page that the model reads: what the host reserves for a use if a price sets no other number. The
/// vendor takes it as an approximation, and does not apply it to PDF documents.
const MAX_PAGE_TOKENS: u64 = 10_000;

/// Returns the definition of a tool.
pub(super) fn definition(tool: &ServerTool) -> Value {
    let mut definition = match tool.kind {
        ServerToolKind::WebSearch => json!({"type": "web_search_20250305", "name": "web_search"}),
        ServerToolKind::WebFetch => json!({
            "type": "web_fetch_20250910",
            "name": "web_fetch",
            "citations": {"enabled": true},
            "max_content_tokens": MAX_PAGE_TOKENS,
        }),
    };
    if let Some(members) = definition.as_object_mut() {
        members.insert("max_uses".into(), json!(tool.bounds().uses()));
        for (name, domains) in [
            ("allowed_domains", &tool.allowed_domains),
            ("blocked_domains", &tool.blocked_domains),
        ] {
            if !domains.is_empty() {
                members.insert(name.into(), json!(domains));
            }
        }
    }
    definition
}

/// The uses of tools in a conversation.
#[derive(Debug, Default)]
pub(super) struct ServerUses {
    /// The queries by the id of their use.
    queries: HashMap<String, String>,
    /// The pages that were read, in order.
    pages: Vec<SearchHit>,
}

impl ServerUses {
    /// Reads a block. Returns the report if it ends a use.
    pub(super) fn read(&mut self, block: &Value) -> Option<SearchReport> {
        let text = |name: &str| block.get(name).and_then(Value::as_str);
        if text("type") == Some("server_tool_use") {
            let input = block.get("input");
            let query = ["query", "url"].iter().find_map(|name| input?.get(name)?.as_str());
            self.queries
                .insert(text("id")?.to_owned(), query.unwrap_or_default().to_owned());
            return None;
        }
        let kind = match text("type")? {
            "web_search_tool_result" => ServerToolKind::WebSearch,
            "web_fetch_tool_result" => ServerToolKind::WebFetch,
            _ => return None,
        };
        let content = block.get("content")?;
        let results = match content {
            Value::Array(found) => found.iter().filter_map(hit).collect(),
            page => Vec::from_iter(hit(page)),
        };
        if kind == ServerToolKind::WebFetch {
            self.pages.extend(results.iter().cloned());
        }
        let query = text("tool_use_id").and_then(|id| self.queries.get(id));
        Some(SearchReport {
            tool: kind.name().to_owned(),
            queries: query.filter(|query| !query.is_empty()).cloned().into_iter().collect(),
            results,
            error: content.get("error_code").and_then(Value::as_str).map(str::to_owned),
        })
    }

    /// Returns the page that was read under this title. A citation of a document does not have the address.
    pub(super) fn url_of_page(&self, title: Option<&str>) -> Option<&str> {
        let page = match self.pages.as_slice() {
            [only] => Some(only),
            pages => pages
                .iter()
                .rev()
                .find(|page| title.is_some() && page.title.as_deref() == title),
        };
        page.map(|page| page.url.as_str())
    }
}

/// The page of a result.
fn hit(result: &Value) -> Option<SearchHit> {
    let title = result.get("title").or_else(|| result.pointer("/content/title"));
    Some(SearchHit {
        url: result.get("url")?.as_str()?.to_owned(),
        title: title.and_then(Value::as_str).map(str::to_owned),
    })
}
