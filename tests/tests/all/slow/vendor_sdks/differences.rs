//! The known differences between the bodies of the host and those of an SDK, with their reasons.

use serde_json::{Map, Value};

use super::Wire;

/// A difference. The test of a wire fails if none of its bodies has it.
pub(super) struct Difference {
    pub(super) wires: &'static [Wire],
    pub(super) reason: &'static str,
    /// Removes it from a body of either side.
    remove: fn(&mut Value),
}

pub(super) const DIFFERENCES: &[Difference] = &[
    Difference {
        wires: &[Wire::Messages, Wire::Chat, Wire::Responses],
        reason: "the host never asks for a stream, and says so because some compatible servers stream otherwise; \
                 the SDK asks for one in some cases, to compare the pieces",
        remove: |body| without(body, "stream", Value::is_boolean),
    },
    Difference {
        wires: &[Wire::Messages],
        reason: "the SDK sends back that a text has no citations",
        remove: |body| {
            for block in blocks(body) {
                without(block, "citations", Value::is_null);
            }
        },
    },
    Difference {
        wires: &[Wire::Messages],
        reason: "the SDK sends back a member of a citation that its own type of a request does not have",
        remove: |body| {
            let texts = blocks(body).filter_map(|block| block.get_mut("citations")?.as_array_mut());
            texts
                .flatten()
                .for_each(|citation| without(citation, "file_id", |_| true));
        },
    },
    Difference {
        wires: &[Wire::Messages],
        reason: "the SDK makes a message of each segment of a paused reply, and the API joins the messages of one role",
        remove: |body| {
            let mut joined: Vec<Value> = Vec::new();
            for message in list(body, "messages").drain(..) {
                match joined.last_mut() {
                    Some(last) if last["role"] == message["role"] && last["content"].is_array() => {
                        let blocks = message["content"].as_array().cloned().unwrap_or_default();
                        list(last, "content").extend(blocks);
                    }
                    _ => joined.push(message),
                }
            }
            body["messages"] = Value::Array(joined);
        },
    },
    Difference {
        wires: &[Wire::Messages],
        reason: "a bound that the API does not enforce becomes words in the description, and the words are each side's own",
        remove: |body| each_schema(body, &mut without_bounds_in_words),
    },
    Difference {
        wires: &[Wire::Chat],
        reason: "the SDK sends back members without a value, such as that a message has no refusal, which not every service \
                 accepts",
        remove: |body| {
            let is_nothing = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
            for message in list(body, "messages").iter_mut().filter_map(Value::as_object_mut) {
                message.retain(|name, value| name == "content" || !is_nothing(value));
            }
            for call in calls(body) {
                without(&mut call["function"], "parsed_arguments", Value::is_null);
            }
        },
    },
    Difference {
        wires: &[Wire::Chat],
        reason: "the SDK sends back the position that a call had in a stream",
        remove: |body| calls(body).for_each(|call| without(call, "index", Value::is_u64)),
    },
    Difference {
        wires: &[Wire::Chat, Wire::Responses],
        reason: "the host writes bounds as words and validates them, because not every service with this API accepts the \
                 keywords; the SDK sends the keywords",
        remove: |body| {
            each_schema(body, &mut |schema| {
                for bound in ["minimum", "maximum", "minItems"] {
                    schema.shift_remove(bound);
                }
                without_bounds_in_words(schema);
            });
        },
    },
];

/// Returns `body` without the known differences, and marks those that it had.
pub(super) fn without_known(wire: Wire, body: &Value, known: &mut [bool]) -> Value {
    let mut body = body.clone();
    for (difference, known) in DIFFERENCES.iter().zip(known) {
        if difference.wires.contains(&wire) {
            let before = body.clone();
            (difference.remove)(&mut body);
            *known |= body != before;
        }
    }
    body
}

fn without(object: &mut Value, name: &str, is: fn(&Value) -> bool) {
    if let Some(members) = object.as_object_mut()
        && members.get(name).is_some_and(is)
    {
        members.shift_remove(name);
    }
}

fn list<'a>(object: &'a mut Value, name: &str) -> &'a mut Vec<Value> {
    object[name].as_array_mut().unwrap()
}

/// The blocks of all messages.
fn blocks(body: &mut Value) -> impl Iterator<Item = &mut Value> {
    let contents = list(body, "messages")
        .iter_mut()
        .filter_map(|message| message["content"].as_array_mut());
    contents.flatten()
}

/// The calls of all messages of chat completions.
fn calls(body: &mut Value) -> impl Iterator<Item = &mut Value> {
    let messages = list(body, "messages").iter_mut();
    messages
        .filter_map(|message| message.get_mut("tool_calls")?.as_array_mut())
        .flatten()
}

/// Passes each part of the schema of a reply to `edit`.
fn each_schema(body: &mut Value, edit: &mut dyn FnMut(&mut Map<String, Value>)) {
    let places = [
        "/output_config/format/schema",
        "/response_format/json_schema/schema",
        "/text/format/schema",
    ];
    for place in places {
        if let Some(schema) = body.pointer_mut(place) {
            each_object(schema, edit);
        }
    }
}

fn each_object(value: &mut Value, edit: &mut dyn FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(members) => {
            edit(members);
            members.values_mut().for_each(|member| each_object(member, edit));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| each_object(value, edit)),
        _ => {}
    }
}

/// Removes words in brackets from the end of a description.
fn without_bounds_in_words(schema: &mut Map<String, Value>) {
    let Some(Value::String(text)) = schema.get_mut("description") else {
        return;
    };
    if text.ends_with([')', '}']) {
        let start = text.rfind(['(', '{']).unwrap();
        text.truncate(text[..start].trim_end().len());
    }
    if text.is_empty() {
        schema.shift_remove("description");
    }
}
