//! Puts the chunks of a stream together, for servers that stream although no stream was asked for.

use serde_json::{Map, Value, json};

use crate::body::{Assembled, append};

/// Returns the body that the chunks are parts of, with `broke_off` if there is neither an end marker nor a finish
/// reason.
pub(super) fn assembled(chunks: Vec<Value>, ended: bool) -> Assembled {
    let mut body = Map::new();
    let mut message = Map::new();
    let mut reason = Value::Null;
    let mut has_choice = false;
    for chunk in chunks {
        // Some servers send the error itself as a chunk.
        if chunk.get("object").is_some_and(|object| object == "error") {
            body.insert("error".into(), chunk.clone());
        }
        let usage = ["/usage", "/x_groq/usage"];
        let usage = usage
            .iter()
            .filter_map(|place| chunk.pointer(place))
            .find(|usage| usage.is_object());
        if let Some(usage) = usage {
            body.insert("usage".into(), usage.clone());
        }
        for name in ["id", "model", "error"] {
            if let Some(value) = chunk.get(name).filter(|value| !value.is_null()) {
                body.insert(name.into(), value.clone());
            }
        }
        let choices = chunk.get("choices").and_then(Value::as_array).into_iter().flatten();
        let Some(choice) = choices
            .into_iter()
            .find(|choice| choice.get("index").is_none_or(|index| index == 0))
        else {
            continue;
        };
        has_choice = true;
        if let Some(error) = choice.get("error").filter(|error| !error.is_null()) {
            body.insert("error".into(), error.clone());
        }
        if let Some(new) = choice.get("finish_reason").filter(|reason| reason.is_string()) {
            reason = new.clone();
        }
        // Some servers send one chunk with the whole message.
        let delta = choice.get("delta").or_else(|| choice.get("message"));
        for (name, value) in delta.and_then(Value::as_object).into_iter().flatten() {
            append(&mut message, name, value);
        }
    }
    let broke_off = !ended && reason.is_null() && !body.contains_key("error");
    if has_choice {
        body.insert(
            "choices".into(),
            json!([{"index": 0, "message": message, "finish_reason": reason}]),
        );
    }
    Assembled {
        body: Value::Object(body),
        broke_off,
    }
}
