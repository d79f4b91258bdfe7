//! Puts the events of a stream together, for servers that stream although no stream was asked for.

use serde_json::{Map, Value, json};

use crate::body::{Assembled, append};
use crate::mend;

/// The member in which the pieces of a call's arguments are collected. It is never part of a block that is complete.
const PIECES: &str = "partial_json";

/// Returns the body that the events are parts of: a message, or an error, with the usage so far.
pub(super) fn assembled(events: Vec<Value>) -> Assembled {
    let mut body = Map::new();
    // Each with its index in the message.
    let mut blocks: Vec<(Option<u64>, Map<String, Value>)> = Vec::new();
    let mut ended = false;
    let mut error = None;
    for event in events {
        let member = |name: &str| event.get(name).and_then(Value::as_object);
        let index = event.get("index").and_then(Value::as_u64);
        match event.get("type").and_then(Value::as_str) {
            Some("message_start") => body.extend(member("message").cloned().unwrap_or_default()),
            Some("content_block_start") => blocks.extend(member("content_block").map(|block| (index, block.clone()))),
            Some("content_block_delta") => {
                // Some servers leave the index out, or repeat it.
                let mut open = blocks.iter_mut().rev();
                let open = open.find(|(known, _)| index.is_none() || *known == index);
                if let (Some((_, block)), Some(delta)) = (open, member("delta")) {
                    grow(block, delta);
                }
            }
            Some("message_delta") => {
                body.extend(member("delta").cloned().unwrap_or_default());
                let usage = body.entry("usage").or_insert_with(|| json!({}));
                if let (Some(usage), Some(more)) = (usage.as_object_mut(), member("usage")) {
                    let known = more.iter().filter(|(_, value)| !value.is_null());
                    usage.extend(known.map(|(name, value)| (name.clone(), value.clone())));
                }
            }
            Some("message_stop") => ended = true,
            Some("error") => error = event.get("error").cloned(),
            // Some servers send an error without a type.
            _ => error = event.get("error").filter(|error| !error.is_null()).cloned().or(error),
        }
    }
    let finished = ended || body.get("stop_reason").is_some_and(Value::is_string);
    let broke_off = error.is_none() && !finished;
    let blocks = blocks.into_iter().map(|(_, block)| complete(block));
    body.insert("content".into(), blocks.collect());
    if let Some(error) = error {
        body.insert("type".into(), "error".into());
        body.insert("error".into(), error);
    }
    Assembled {
        body: Value::Object(body),
        broke_off,
    }
}

/// Adds a delta to its block.
fn grow(block: &mut Map<String, Value>, delta: &Map<String, Value>) {
    for name in ["text", "thinking", "signature", PIECES] {
        if let Some(more) = delta.get(name) {
            append(block, name, more);
        }
    }
    if let Some(citation) = delta.get("citation") {
        if block.get("citations").is_some_and(Value::is_null) {
            block.insert("citations".into(), json!([]));
        }
        append(block, "citations", &json!([citation]));
    }
}

/// Parses the arguments of a call. Text that is not JSON stays text.
fn complete(mut block: Map<String, Value>) -> Value {
    if let Some(Value::String(text)) = block.shift_remove(PIECES)
        && !text.is_empty()
    {
        let input = mend::parse(&text).unwrap_or(Value::String(text));
        block.insert("input".into(), input);
    }
    Value::Object(block)
}
