//! Puts the chunks of a stream together, for servers that stream although no stream was asked for.

use serde_json::{Map, Value, json};

use crate::body::{Assembled, append};

/// Returns the body that the chunks are parts of, with `broke_off` if there is neither an end marker nor a finish
/// reason.
pub(super) fn assembled(chunks: Vec<Value>, ended: bool) -> Assembled {
    let mut body = Map::new();
    let mut message = Map::new();
    let mut calls = Calls::default();
    // The only call, as older servers write it.
    let mut function_call = Calls::default();
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
            match (name.as_str(), value) {
                ("tool_calls", Value::Array(pieces)) => pieces.iter().for_each(|piece| calls.add(piece)),
                ("function_call", Value::Object(_)) => function_call.add(&json!({"function": value})),
                _ => append(&mut message, name, value),
            }
        }
    }
    let broke_off = !ended && reason.is_null() && !body.contains_key("error");
    if calls.0.is_empty() {
        calls = function_call;
    }
    if !calls.0.is_empty() {
        message.insert("tool_calls".into(), calls.finish());
    }
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

/// The calls of tools so far, each with its index in the stream.
#[derive(Default)]
struct Calls(Vec<(Option<u64>, Map<String, Value>)>);

impl Calls {
    /// Adds a piece to the call with its index. A piece with a name and another id is another call, since some servers send
    /// whole calls without an index, or with the same one. Without a name, it belongs to the call before, since others
    /// give each piece an id of its own.
    fn add(&mut self, piece: &Value) {
        let Some(piece) = piece.as_object() else {
            return;
        };
        let index = piece.get("index").and_then(Value::as_u64);
        let id = |call: &Map<String, Value>| {
            let id = call.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
            id.map(str::to_owned)
        };
        let new = id(piece);
        let name = piece.get("function").and_then(|function| function.get("name"));
        let has_name = name.and_then(Value::as_str).is_some_and(|name| !name.is_empty());
        let open = self
            .0
            .iter_mut()
            .rev()
            .find(|(known, _)| index.is_none() || *known == index);
        match open {
            Some((_, call)) if !has_name || new.is_none() || new == id(call) => join(call, piece),
            _ => {
                let mut call = piece.clone();
                call.shift_remove("index");
                self.0.push((index, call));
            }
        }
    }

    fn finish(self) -> Value {
        self.0.into_iter().map(|(_, call)| Value::Object(call)).collect()
    }
}

/// Adds the members of a piece. Only the arguments come in pieces.
fn join(call: &mut Map<String, Value>, piece: &Map<String, Value>) {
    for (name, value) in piece.iter().filter(|(name, _)| *name != "index") {
        match (call.get_mut(name), value) {
            (Some(Value::Object(function)), Value::Object(more)) if name == "function" => {
                for (name, value) in more {
                    match name.as_str() {
                        "arguments" => append(function, name, value),
                        _ if function.get(name).is_none_or(|known| known.is_null() || known == "") => {
                            drop(function.insert(name.clone(), value.clone()));
                        }
                        _ => {}
                    }
                }
            }
            (None | Some(Value::Null), value) => drop(call.insert(name.clone(), value.clone())),
            (Some(_), _) => {}
        }
    }
}
