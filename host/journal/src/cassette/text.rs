//! Texts and requests in the form of a cassette: line by line, for readers and for `diff`.

use std::fmt;

use agenthost_core::llm::{Ask, Message, Part, Role};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A text. In the file, it is a string if it is on one line, and otherwise the list of its lines without their line ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(pub(super) String);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.contains('\n') {
            serializer.collect_seq(self.0.split('\n'))
        } else {
            serializer.serialize_str(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lines;

        impl<'de> Visitor<'de> for Lines {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of lines")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Text, A::Error> {
                let mut lines: Vec<String> = Vec::new();
                while let Some(line) = list.next_element()? {
                    lines.push(line);
                }
                Ok(Text(lines.join("\n")))
            }
        }

        deserializer.deserialize_any(Lines)
    }
}

/// Returns the object or list in `text`, if writing it as JSON gives the same text back.
pub(super) fn compact(text: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(text).ok()?;
    let again = value.to_string();
    ((value.is_object() || value.is_array()) && again == text).then_some(value)
}

/// A request as a cassette shows it. Empty fields are left out.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ShownRequest<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<Text>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    messages: Vec<ShownMessage<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<Value>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    options: &'a [(String, String)],
}

/// A message: `text` if that is all of its content.
#[derive(Serialize)]
struct ShownMessage<'a> {
    role: Role,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Vec<ShownPart<'a>>>,
}

/// A part of a message. The data of a medium are a digest.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum ShownPart<'a> {
    Text(Text),
    Media {
        mime: &'a str,
        bytes: usize,
        sha256: String,
    },
    Extension {
        kind: &'a str,
        json: &'a str,
    },
}

/// Converts a request to the form of a cassette.
pub(super) fn request(ask: &Ask) -> Value {
    let text = |text: &String| Text(text.clone());
    let shown = ShownRequest {
        model: &ask.model,
        system: ask.system.as_ref().map(text),
        messages: ask.messages.iter().map(message).collect(),
        max_tokens: ask.max_tokens,
        schema: ask
            .schema
            .as_ref()
            .map(|schema| compact(schema).unwrap_or_else(|| json!(Text(schema.clone())))),
        options: &ask.options,
    };
    json!(shown)
}

fn part(part: &Part) -> ShownPart<'_> {
    match part {
        Part::Text(text) => ShownPart::Text(Text(text.clone())),
        Part::Media { mime, data } => ShownPart::Media {
            mime,
            bytes: data.len(),
            sha256: Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect(),
        },
        Part::Extension { kind, json } => ShownPart::Extension { kind, json },
    }
}

fn message(message: &Message) -> ShownMessage<'_> {
    let (text, content) = match message.content.as_slice() {
        [Part::Text(only)] => (Some(Text(only.clone())), None),
        parts => (None, Some(parts.iter().map(part).collect())),
    };
    ShownMessage {
        role: message.role,
        text,
        content,
    }
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
        return text.0.split('\n').map(str::to_owned).collect();
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
