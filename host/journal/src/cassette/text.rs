//! Texts and requests in the form of a cassette: line by line, for readers and for `diff`.

use agenthost_core::llm::Part;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// A text: on one line, or as a list of lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of lines")]
pub enum Text {
    /// A text of one line.
    One(String),
    /// The lines of a text, without their line ends.
    Lines(Vec<String>),
}

impl Text {
    pub(super) fn of(text: &str) -> Self {
        match text.contains('\n') {
            true => Self::Lines(text.split('\n').map(str::to_owned).collect()),
            false => Self::One(text.to_owned()),
        }
    }

    pub(super) fn joined(&self) -> String {
        match self {
            Self::One(text) => text.clone(),
            Self::Lines(lines) => lines.join("\n"),
        }
    }

    fn value(text: &str) -> Value {
        match Self::of(text) {
            Self::One(text) => text.into(),
            Self::Lines(lines) => lines.into(),
        }
    }
}

/// Returns the object or list in `text`, if writing it as JSON gives the same text back.
pub(super) fn compact(text: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(text).ok()?;
    let again = value.to_string();
    ((value.is_object() || value.is_array()) && again == text).then_some(value)
}

/// Converts a request from the host's form (an [`Ask`](agenthost_core::llm::Ask) in JSON) to that of a cassette.
pub(super) fn request(body: &str) -> Value {
    let Ok(Value::Object(fields)) = serde_json::from_str(body) else {
        return Value::String(body.to_owned());
    };
    let empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    let fields = fields.into_iter().filter(|(_, value)| !empty(value));
    let shown = fields.map(|(key, value)| {
        let value = match (key.as_str(), &value) {
            ("system", Value::String(text)) => Text::value(text),
            ("schema", Value::String(text)) => compact(text).unwrap_or_else(|| Text::value(text)),
            ("messages", Value::Array(messages)) => messages.iter().map(message).collect(),
            _ => value,
        };
        (key, value)
    });
    Value::Object(shown.collect())
}

fn message(message: &Value) -> Value {
    let part = |part: &Value| {
        if let Some(text) = part.get("text").and_then(Value::as_str) {
            return json!({"text": Text::value(text)});
        }
        let Some(media) = part.get("media") else {
            return part.clone();
        };
        let Ok(Part::Media { data, .. }) = serde_json::from_value(part.clone()) else {
            return part.clone();
        };
        let digest: String = Sha256::digest(&data).iter().map(|byte| format!("{byte:02x}")).collect();
        json!({"media": {"mime": media.get("mime"), "bytes": data.len(), "sha256": digest}})
    };
    let content = message.get("content").and_then(Value::as_array);
    let parts: Vec<Value> = content.into_iter().flatten().map(part).collect();
    let mut shown = Map::new();
    shown.insert("role".into(), message.get("role").cloned().unwrap_or_default());
    match parts.as_slice() {
        [Value::Object(only)] if only.contains_key("text") => shown.extend(only.clone()),
        _ => {
            shown.insert("content".into(), parts.into());
        }
    }
    Value::Object(shown)
}

/// Returns a request for display, line by line.
pub(super) fn shown(request: &Value) -> String {
    let Value::Object(fields) = request else {
        return request.to_string();
    };
    let mut lines = Vec::new();
    for (key, value) in fields {
        match (key.as_str(), value) {
            ("messages", Value::Array(messages)) => {
                for message in messages {
                    let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
                    lines.push(format!("[{role}]"));
                    match message.get("text") {
                        Some(text) => lines.extend(text_lines(text)),
                        None => lines.extend(text_lines(message.get("content").unwrap_or(message))),
                    }
                }
            }
            (_, Value::String(_) | Value::Array(_) | Value::Object(_)) if key != "model" => {
                lines.push(format!("[{key}]"));
                lines.extend(text_lines(value));
            }
            _ => lines.push(format!(
                "{key}: {}",
                value.as_str().map_or_else(|| value.to_string(), str::to_owned)
            )),
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

fn text_lines(value: &Value) -> Vec<String> {
    if let Ok(text) = serde_json::from_value::<Text>(value.clone()) {
        return text.joined().split('\n').map(str::to_owned).collect();
    }
    let pretty = serde_json::to_string_pretty(value).unwrap_or_default();
    pretty.lines().map(str::to_owned).collect()
}

/// Returns the approximate number of bytes of a request that a model reads.
pub(super) fn length(request: &Value) -> u64 {
    shown(request).len() as u64
}

/// Returns the changes between two requests, as a unified diff with two lines of context.
pub(super) fn diff(recorded: &str, now: &str) -> String {
    let diff = similar::TextDiff::from_lines(recorded, now);
    diff.unified_diff()
        .context_radius(2)
        .header("recorded", "now")
        .to_string()
}
