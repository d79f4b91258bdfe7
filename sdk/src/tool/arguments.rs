//! Reads the arguments of a call into a type, or says in words for the model why they are invalid.
//!
//! serde is the check: unknown fields, missing ones and values of another type are errors, as the type has it. The place
//! of an error is found from its column in the text, so no further library is needed. Left out: what only a schema can
//! state, such as bounds of numbers.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::schema::Place;

/// Reads the value that is at this place in the arguments.
pub(super) fn read<T: DeserializeOwned>(arguments: &Value, place: &Place) -> Result<T, String> {
    let members = match arguments {
        Value::Object(members) => members,
        Value::String(text) => return Err(not_an_object(text)),
        other => return Err(not_an_object(&other.to_string())),
    };
    match place {
        Place::Arguments => parse("", arguments),
        Place::Nowhere => parse("", &Value::Null),
        Place::Member(name) => {
            if let Some(unknown) = members.keys().find(|member| *member != name) {
                return Err(format!("unknown field `{unknown}`, expected `{name}`"));
            }
            let member = members.get(name).ok_or_else(|| format!("missing field `{name}`"))?;
            parse(name, member)
        }
    }
}

fn not_an_object(text: &str) -> String {
    match serde_json::from_str::<Value>(text) {
        Ok(_) => "the arguments are not a JSON object".to_owned(),
        Err(error) => format!("the arguments are not valid JSON: {error}"),
    }
}

/// Reads a value that is a member with this name; the empty name is that of the arguments themselves.
fn parse<T: DeserializeOwned>(name: &str, value: &Value) -> Result<T, String> {
    let text = value.to_string();
    serde_json::from_str(&text).map_err(|error| {
        let reason = error.to_string();
        let at = format!(" at line {} column {}", error.line(), error.column());
        let reason = reason.strip_suffix(&at).unwrap_or(&reason);
        let path = [name.to_owned(), path(&text, error.column())].concat();
        match path.trim_start_matches('.') {
            "" => reason.to_owned(),
            path => format!("`{path}`: {reason}"),
        }
    })
}

/// The member or element that is open at a place of the text.
enum Open {
    Member(String),
    Element(usize),
}

/// Returns the path of the value that the parser was in at this column, from 1, of a JSON text of one line; as in
/// `.orders[2].price`.
fn path(text: &str, column: usize) -> String {
    let mut open: Vec<Open> = Vec::new();
    let (before, last) = text.as_bytes().split_at(column.saturating_sub(1).min(text.len()));
    let mut at = 0;
    while let Some(byte) = before.get(at) {
        at += 1;
        match byte {
            b'{' => open.push(Open::Member(String::new())),
            b'[' => open.push(Open::Element(0)),
            b'}' | b']' => drop(open.pop()),
            b',' => match open.last_mut() {
                Some(Open::Element(index)) => *index += 1,
                Some(Open::Member(name)) => name.clear(),
                None => {}
            },
            b'"' => {
                let end = end_of_string(before, at);
                // A name is followed by a colon.
                if let (Some(Open::Member(name)), Some(b':')) = (open.last_mut(), before.get(end)) {
                    *name = text.get(at..end.saturating_sub(1)).unwrap_or_default().to_owned();
                }
                at = end;
            }
            _ => {}
        }
    }
    // At its end, an object is complained about as a whole.
    if let (Some(b'}'), Some(Open::Member(name))) = (last.first(), open.last_mut()) {
        name.clear();
    }
    let steps = open.into_iter().map(|step| match step {
        Open::Member(name) if name.is_empty() => String::new(),
        Open::Member(name) => format!(".{name}"),
        Open::Element(index) => format!("[{index}]"),
    });
    steps.collect()
}

/// Returns the index behind the closing quote of the string whose content begins at `at`, or the length of the text.
fn end_of_string(text: &[u8], mut at: usize) -> usize {
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost_sdk_macros::Deserialize;
    use serde_json::json;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Order {
        item: String,
        lines: Vec<Line>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Line {
        price: f64,
        note: Option<String>,
    }

    fn order(arguments: Value) -> String {
        read::<Order>(&arguments, &Place::Arguments).unwrap_err()
    }

    #[test]
    fn an_error_names_the_field() {
        let line = |price: Value| json!({"note": "a \"b\", {c}", "price": price});
        let cases = [
            (
                json!({"item": 1, "lines": []}),
                "`item`: invalid type: integer `1`, expected a string",
            ),
            (json!({"item": "x"}), "missing field `lines`"),
            (
                json!({"item": "x", "lines": [], "extra": 1}),
                "unknown field `extra`, expected `item` or `lines`",
            ),
            (
                json!({"item": "[", "lines": [line(json!(1)), line(json!("2"))]}),
                "`lines[1].price`: invalid type: string \"2\", expected f64",
            ),
            (
                json!({"item": "x", "lines": [{"note": null}]}),
                "`lines[0]`: missing field `price`",
            ),
            (
                json!({"item": "x", "lines": "none"}),
                "`lines`: invalid type: string \"none\", expected a sequence",
            ),
            (
                json!({"item": null, "lines": []}),
                "`item`: invalid type: null, expected a string",
            ),
            (json!([1]), "the arguments are not a JSON object"),
            (json!("[1]"), "the arguments are not a JSON object"),
        ];
        for (arguments, expected) in cases {
            assert_eq!(order(arguments.clone()), expected, "{arguments}");
        }
        let error = order(json!("{\"item\": "));
        assert!(error.starts_with("the arguments are not valid JSON: EOF"), "{error}");
    }

    #[test]
    fn a_value_that_is_not_an_object_is_a_member() {
        let place = Place::Member("names".to_owned());
        let read = |arguments| read::<Vec<String>>(&arguments, &place);
        assert_eq!(read(json!({"names": ["a"]})), Ok(vec!["a".to_owned()]));
        assert_eq!(
            read(json!({"names": ["a", 2]})).unwrap_err(),
            "`names[1]`: invalid type: integer `2`, expected a string"
        );
        assert_eq!(read(json!({})).unwrap_err(), "missing field `names`");
        assert_eq!(
            read(json!({"names": [], "more": 1})).unwrap_err(),
            "unknown field `more`, expected `names`"
        );
    }

    #[test]
    fn the_unit_takes_any_object() {
        assert_eq!(read::<()>(&json!({"reason": "none"}), &Place::Nowhere), Ok(()));
        assert!(read::<()>(&json!("x"), &Place::Nowhere).is_err());
    }
}
