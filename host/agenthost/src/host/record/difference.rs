//! Finds where a request differs from the recorded one.

use serde_json::Value;

/// Describes the first difference between two values: its path, and both values there.
pub(super) fn first_difference(recorded: &Value, now: &Value) -> String {
    let mut path = String::new();
    let (a, b) = descend(recorded, now, &mut path);
    let text = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
    let (a, b) = (text(a), text(b));
    let alike = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let path = if path.is_empty() { "/".to_owned() } else { path };
    format!(
        "at {path}: {} was recorded, now {}",
        around(&a, alike),
        around(&b, alike)
    )
}

fn descend<'v>(a: &'v Value, b: &'v Value, path: &mut String) -> (Option<&'v Value>, Option<&'v Value>) {
    match (a, b) {
        (Value::Object(left), Value::Object(right)) => {
            for key in left.keys().chain(right.keys()) {
                let (a, b) = (left.get(key), right.get(key));
                if a != b {
                    path.push('/');
                    path.push_str(key);
                    return match (a, b) {
                        (Some(a), Some(b)) => descend(a, b, path),
                        missing => missing,
                    };
                }
            }
        }
        (Value::Array(left), Value::Array(right)) => {
            for n in 0..left.len().max(right.len()) {
                let (a, b) = (left.get(n), right.get(n));
                if a != b {
                    path.push_str(&format!("/{n}"));
                    return match (a, b) {
                        (Some(a), Some(b)) => descend(a, b, path),
                        missing => missing,
                    };
                }
            }
        }
        _ => {}
    }
    (Some(a), Some(b))
}

/// Returns the part of a text around the byte at `place`, or all of it if it is short.
fn around(text: &str, place: usize) -> String {
    const BEFORE: usize = 40;
    const MOST: usize = 120;
    if text.len() <= MOST {
        return text.to_owned();
    }
    let start = text.floor_char_boundary(place.saturating_sub(BEFORE));
    let end = text.floor_char_boundary(start + MOST);
    let mark = |cut: bool| if cut { "…" } else { "" };
    let shown = text.get(start..end).unwrap_or_default();
    format!("{}{shown}{}", mark(start > 0), mark(end < text.len()))
}
