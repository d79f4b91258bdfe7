//! Puts the events of a stream together, for servers that stream although no stream was asked for.

use serde_json::{Map, Value, json};

use crate::body::{Assembled, append};

/// Returns the body that the events are parts of: a message, or an error, with the usage so far.
pub(super) fn assembled(events: Vec<Value>) -> Assembled {
    let mut body = Map::new();
    let mut blocks: Vec<Map<String, Value>> = Vec::new();
    let mut ended = false;
    let mut error = None;
    for event in events {
        let member = |name: &str| event.get(name).and_then(Value::as_object);
        match event.get("type").and_then(Value::as_str) {
            Some("message_start") => body.extend(member("message").cloned().unwrap_or_default()),
            Some("content_block_start") => blocks.extend(member("content_block").cloned()),
            Some("content_block_delta") => {
                let delta = event.get("delta");
                for name in ["text", "thinking"] {
                    if let (Some(block), Some(more)) = (blocks.last_mut(), delta.and_then(|delta| delta.get(name))) {
                        append(block, name, more);
                    }
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
    body.insert("content".into(), blocks.into_iter().map(Value::Object).collect());
    if let Some(error) = error {
        body.insert("type".into(), "error".into());
        body.insert("error".into(), error);
    }
    Assembled {
        body: Value::Object(body),
        broke_off,
    }
}
