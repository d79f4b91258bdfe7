//! Reads the body of a reply: JSON, or what servers send in its place.
//!
//! Some servers stream although no stream was asked for, some end a plain reply with `data: [DONE]`, and some send
//! comments until the reply is ready. Bytes that are not UTF-8 become U+FFFD, see [`mend`].

use serde_json::{Map, Value};

use crate::mend;

/// A body.
#[derive(Debug, PartialEq)]
pub(crate) enum Body {
    /// One JSON document.
    Document(Value),
    /// The data of a stream of events, without the end marker.
    Events {
        /// The events in order.
        events: Vec<Value>,
        /// `true` if the end marker was there.
        ended: bool,
    },
}

/// The document that the events of a stream are parts of.
pub(crate) struct Assembled {
    /// The document.
    pub(crate) body: Value,
    /// `true` if the stream ended too early.
    pub(crate) broke_off: bool,
}

/// Reads a body.
///
/// # Errors
///
/// Returns the error of the body as one document, if it is nothing else.
pub(crate) fn read(bytes: &[u8]) -> Result<Body, serde_json::Error> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_start_matches('\u{feff}');
    let error = match mend::parse(text) {
        Ok(document) => return Ok(Body::Document(document)),
        Err(error) => error,
    };
    let (data, other) = fields(text);
    let ended = data.iter().any(|data| data == END);
    let events = data.iter().filter(|data| *data != END).map(|data| mend::parse(data));
    let Ok(mut events) = events.collect::<Result<Vec<_>, _>>() else {
        return Err(error);
    };
    if let Ok(document) = mend::parse(&other) {
        return Ok(Body::Document(document));
    }
    if other.trim().is_empty() && (ended || !events.is_empty()) {
        return Ok(Body::Events { events, ended });
    }
    // One document per line is a stream too.
    let lines = other.lines().filter(|line| !line.trim().is_empty()).map(mend::parse);
    match lines.collect::<Result<Vec<_>, _>>() {
        Ok(lines) if lines.len() > 1 && lines.iter().all(Value::is_object) => {
            events.extend(lines);
            Ok(Body::Events { events, ended })
        }
        _ => Err(error),
    }
}

const END: &str = "[DONE]";

/// Returns the data of each event of a stream, and the lines that do not belong to one.
fn fields(text: &str) -> (Vec<String>, String) {
    let (mut events, mut other) = (Vec::new(), String::new());
    let mut open: Option<String> = None;
    for line in text.lines() {
        if let Some(data) = line.strip_prefix("data:") {
            let data = data.trim();
            match &mut open {
                Some(event) if data != END && event != END => {
                    event.push('\n');
                    event.push_str(data);
                }
                _ => events.extend(open.replace(data.to_owned())),
            }
            continue;
        }
        let is_field = ["event:", "id:", "retry:", ":"]
            .iter()
            .any(|name| line.starts_with(name));
        if is_field || line.trim().is_empty() {
            events.extend(open.take());
        } else {
            other.push_str(line);
        }
        if !is_field {
            other.push('\n');
        }
    }
    events.extend(open);
    (events, other)
}

/// Appends a piece of text or a list to a member of a message that arrives in pieces.
pub(crate) fn append(message: &mut Map<String, Value>, name: &str, value: &Value) {
    match (message.get_mut(name), value) {
        (_, Value::Null) => {}
        (Some(Value::String(text)), Value::String(more)) if name != "role" => text.push_str(more),
        (Some(Value::Array(list)), Value::Array(more)) => list.extend(more.iter().cloned()),
        (Some(_), _) => {}
        (None, value) => {
            message.insert(name.to_owned(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn events(bytes: &str) -> (Vec<Value>, bool) {
        match read(bytes.as_bytes()).unwrap() {
            Body::Events { events, ended } => (events, ended),
            Body::Document(document) => panic!("{bytes}: {document}"),
        }
    }

    #[test]
    fn a_document_is_read_whatever_is_wrong_with_its_characters() {
        for (bytes, value) in [
            (b"{\"a\": 1}".as_slice(), json!({"a": 1})),
            (b"\xef\xbb\xbf{\"a\": 1}", json!({"a": 1})),
            (b"\n\n {\"a\": 1}\n", json!({"a": 1})),
            (b"{\"a\": \"\xf0\x9f\x98\"}", json!({"a": "\u{fffd}"})),
            (b"{\"a\": \"\\ud83d\"}", json!({"a": "\u{fffd}"})),
            (b"{\"a\": \"b\nc\"}", json!({"a": "b\nc"})),
            (b"{\"a\": 1}\ndata: [DONE]\n\n", json!({"a": 1})),
            (b"{\n\"a\": 1\n}\n\ndata: [DONE]", json!({"a": 1})),
            (b": PROCESSING\n\n: PROCESSING\n\n{\"a\": 1}", json!({"a": 1})),
        ] {
            assert_eq!(
                read(bytes).unwrap(),
                Body::Document(value),
                "{:?}",
                bytes.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn a_stream_is_a_list_of_events() {
        let two = vec![json!({"a": 1}), json!({"b": 2})];
        for (text, ended) in [
            ("data: {\"a\": 1}\n\ndata: {\"b\": 2}\n\ndata: [DONE]\n\n", true),
            ("data:{\"a\":1}\r\n\r\ndata:{\"b\":2}\r\n\r\n", false),
            (
                "event: x\nid: 1\ndata: {\"a\": 1}\n\n: ping\n\nevent: y\ndata: {\"b\":\ndata: 2}\n",
                false,
            ),
            ("data: {\"a\": 1}\n\ndata: {\"b\": 2}\ndata: [DONE]", true),
            ("{\"a\": 1}\n{\"b\": 2}\n", false),
        ] {
            assert_eq!(events(text), (two.clone(), ended), "{text}");
        }
    }

    #[test]
    fn anything_else_is_an_error() {
        for text in [
            "",
            "hello",
            "<html>",
            "{\"a\": 1",
            "data: {\"a\"\n\n",
            "{\"a\": 1} {\"b\": 2}",
            "data\n[DONE]",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
