//! The items of a response, and the frames of its messages.
//!
//! A message has more than its texts: an id, a phase, sources in a form of their own. All of that except the texts is
//! its frame, which precedes them in the reply. When the conversation goes back, the texts are put into the frame
//! again, so that the item is the one that came.

use agenthost_core::llm::{Citation, SearchHit, SearchReport, ServerToolKind, ToolCall};
use serde_json::{Value, json};

use crate::draft::Draft;
use crate::openai_api::CallInReply;

/// Reads one item of the output.
pub(super) fn read(
    item: &Value,
    draft: &mut Draft<'_>,
    rebuild_call: fn(&ToolCall) -> Value,
) -> Result<(), &'static str> {
    match item.get("type").and_then(Value::as_str) {
        Some("message") => message(item, draft)?,
        Some("reasoning") => reasoning(item, draft),
        Some("function_call") if draft.keeps_blocks() => {
            let call = CallInReply {
                block: item,
                id_member: "call_id",
                function: item,
                rebuild: rebuild_call,
            };
            call.read(draft)?;
        }
        Some(kind) => {
            draft.unknown(kind, item);
            if kind == "web_search_call" {
                draft.search(search(item));
            }
        }
        None => return Err("an item of the answer has no type"),
    }
    Ok(())
}

fn message(item: &Value, draft: &mut Draft<'_>) -> Result<(), &'static str> {
    let parts = match item.get("content") {
        Some(Value::Array(parts)) => parts,
        _ => return Err("a message of the answer has no content"),
    };
    draft.echo(Frame::of(item));
    for part in parts {
        let text = |name: &str| part.get(name).and_then(Value::as_str);
        match text("type") {
            Some("output_text" | "text") => {
                draft.text(text("text").ok_or("a text part of the answer has no text")?);
                let annotations = part.get("annotations").and_then(Value::as_array);
                let citations = annotations.into_iter().flatten().filter_map(citation_of);
                citations.for_each(|citation| draft.citation(citation, None));
            }
            Some("refusal") => {
                let words = text("refusal").filter(|words| !words.is_empty());
                draft.refusal = draft.refusal.take().or_else(|| words.map(str::to_owned));
            }
            // The frame has it.
            Some(_) if draft.keeps_blocks() => {}
            Some(kind) => draft.unknown(kind, part),
            None => return Err("a part of the answer has no type"),
        }
    }
    Ok(())
}

fn reasoning(item: &Value, draft: &mut Draft<'_>) {
    let texts = |name: &str| item.get(name).and_then(Value::as_array).into_iter().flatten();
    for text in texts("content").filter_map(|part| part.get("text")?.as_str()) {
        draft.reasoning(text);
    }
    // The service has not stored the item, so one without its content means nothing to it.
    let is_whole = item.get("encrypted_content").is_some_and(Value::is_string) || texts("content").next().is_some();
    if is_whole {
        draft.echo(item.clone());
    }
}

fn citation_of(annotation: &Value) -> Option<Citation> {
    let text = |name: &str| annotation.get(name).and_then(Value::as_str);
    let number = |name: &str| annotation.get(name).and_then(Value::as_u64);
    (text("type") == Some("url_citation")).then_some(())?;
    Some(Citation {
        url: text("url")?.to_owned(),
        title: text("title").map(str::to_owned),
        quote: None,
        start: number("start_index"),
        end: number("end_index"),
        echo: None,
    })
}

/// Reports a search, or a page that the model opened. The latter is a use of the web search too: the API has no other tool
/// for it, and no parameter that forbids it.
fn search(item: &Value) -> SearchReport {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let nothing = json!({});
    let action = item.get("action").unwrap_or(&nothing);
    let list = |name: &str| action.get(name).and_then(Value::as_array).into_iter().flatten();
    let hit = |url: String| SearchHit { url, title: None };
    let status = text(item, "status").filter(|status| status == "failed" || status == "incomplete");
    let report = |queries: Vec<String>, results: Vec<SearchHit>| SearchReport {
        tool: ServerToolKind::WebSearch.name().to_owned(),
        queries,
        results,
        error: status.clone(),
    };
    if let Some(url) = text(action, "url") {
        return report(vec![url.clone()], vec![hit(url)]);
    }
    let queries = list("queries").filter_map(|query| query.as_str().map(str::to_owned));
    let mut queries: Vec<String> = queries.collect();
    if queries.is_empty() {
        queries.extend(text(action, "query"));
    }
    let sources = list("sources").filter_map(|source| Some(hit(text(source, "url")?)));
    report(queries, sources.collect())
}

/// The searches that a body shows, for a service that does not count them. Opening a page is not billed.
pub(super) fn searches(body: &Value) -> u64 {
    let items = body.get("output").and_then(Value::as_array).into_iter().flatten();
    let found = items.filter(|item| {
        let is = |place: &str, word: &str| item.pointer(place).is_some_and(|value| value == word);
        is("/type", "web_search_call") && is("/action/type", "search") && !is("/status", "failed")
    });
    found.count() as u64
}

/// A message that is being put together: the item with empty texts, of which the first ones are filled.
#[derive(Debug)]
pub(super) struct Frame {
    item: Value,
    filled: usize,
}

impl Frame {
    /// Returns the frame of a message: the item with empty texts.
    fn of(item: &Value) -> Value {
        let mut frame = item.clone();
        for part in parts(&mut frame) {
            if let Some(text) = text_of(part) {
                text.clear();
            }
        }
        frame
    }

    /// Reads a frame. `None` if the block is another item.
    pub(super) fn read(block: &Value) -> Option<Self> {
        (block.get("type")? == "message").then(|| Self {
            item: block.clone(),
            filled: 0,
        })
    }

    /// Fills the next text. Returns `false` if all are filled.
    pub(super) fn fill(&mut self, text: &str) -> bool {
        let mut texts = parts(&mut self.item).filter_map(text_of);
        let Some(next) = texts.nth(self.filled) else {
            return false;
        };
        text.clone_into(next);
        self.filled += 1;
        true
    }

    /// Returns the message without the texts that the conversation no longer has; `None` if nothing is left.
    pub(super) fn finish(self) -> Option<Value> {
        let Self { mut item, filled } = self;
        let mut texts = 0;
        let Some(Value::Array(parts)) = item.get_mut("content") else {
            return None;
        };
        parts.retain_mut(|part| {
            let is_text = text_of(part).is_some();
            texts += usize::from(is_text);
            !is_text || texts <= filled
        });
        let is_empty = parts.is_empty();
        (!is_empty).then_some(item)
    }
}

fn parts(item: &mut Value) -> impl Iterator<Item = &mut Value> {
    let parts = item.get_mut("content").and_then(Value::as_array_mut);
    parts.into_iter().flatten()
}

/// The text of a part, if it is one.
fn text_of(part: &mut Value) -> Option<&mut String> {
    let kind = part.get("type")?.as_str()?;
    if !matches!(kind, "output_text" | "text") {
        return None;
    }
    match part.get_mut("text")? {
        Value::String(text) => Some(text),
        _ => None,
    }
}
