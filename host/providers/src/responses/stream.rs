//! Puts the events of a stream together, for servers that stream although no stream was asked for.

use serde_json::{Map, Value};

use crate::body::Assembled;

/// Returns the response in the last event that has one, with the items that were completed before.
pub(super) fn assembled(events: Vec<Value>) -> Assembled {
    let mut body = Map::new();
    let mut items = Vec::new();
    let mut ended = false;
    for mut event in events {
        let kind = event.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        match kind.as_str() {
            "response.output_item.done" => items.extend(event.get_mut("item").map(Value::take)),
            "error" => {
                // The error itself, or an event that has it.
                let error = event.get("error").filter(|error| !error.is_null());
                body.insert("error".into(), error.unwrap_or(&event).clone());
                ended = true;
            }
            _ => {
                ended |= matches!(
                    kind.as_str(),
                    "response.completed" | "response.failed" | "response.incomplete"
                );
                if let Some(Value::Object(response)) = event.get_mut("response").map(Value::take) {
                    body.extend(response);
                } else if let Some(error) = event.get("error").filter(|error| !error.is_null()) {
                    body.insert("error".into(), error.clone());
                    ended = true;
                }
            }
        }
    }
    let has_output = body
        .get("output")
        .and_then(Value::as_array)
        .is_some_and(|output| !output.is_empty());
    if !has_output && !items.is_empty() {
        body.insert("output".into(), Value::Array(items));
    }
    Assembled {
        body: Value::Object(body),
        broke_off: !ended,
    }
}
