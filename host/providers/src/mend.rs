//! JSON text as servers and models really write it: read if only one reading is possible.
//!
//! Three faults are mended, because what they mean is certain: raw control characters in a string (a model's line
//! break), a `\u` escape of half a surrogate pair (a server that cuts an emoji in two), and bytes that are not UTF-8
//! (a server that cuts it in bytes). Half a character becomes U+FFFD. A byte order mark is skipped.
//!
//! Left out: everything that would be a guess, such as quotes, commas or braces that are missing.

use std::borrow::Cow;

use serde_json::Value;

const REPLACEMENT: &str = "\\ufffd";

/// Parses a JSON text, mended if it has to be.
///
/// # Errors
///
/// Returns the error of the text as it is, if mending does not help.
pub(crate) fn parse(text: &str) -> Result<Value, serde_json::Error> {
    let text = text.trim_start_matches('\u{feff}');
    serde_json::from_str(text).or_else(|error| match mended(text) {
        Cow::Owned(mended) => serde_json::from_str(&mended).map_err(|_| error),
        Cow::Borrowed(_) => Err(error),
    })
}

/// Returns `text` with its strings mended.
pub(crate) fn mended(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut kept = 0;
    let mut in_string = false;
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let mut next = at + 1;
        let replacement: Option<String> = match byte {
            b'"' => {
                in_string = !in_string;
                None
            }
            b'\\' if in_string => match escape(bytes, at) {
                Escape::Whole(length) => {
                    next = at + length;
                    None
                }
                Escape::Half => {
                    next = at + 6;
                    Some(REPLACEMENT.to_owned())
                }
            },
            control @ 0..0x20 if in_string => Some(format!("\\u{control:04x}")),
            _ => None,
        };
        if let Some(replacement) = replacement {
            out.push_str(text.get(kept..at).unwrap_or_default());
            out.push_str(&replacement);
            kept = next;
        }
        at = next;
    }
    if kept == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(text.get(kept..).unwrap_or_default());
    Cow::Owned(out)
}

/// An escape in a string.
enum Escape {
    /// A character, or something that mending leaves alone, with its length in bytes.
    Whole(usize),
    /// Half a surrogate pair.
    Half,
}

fn escape(text: &[u8], at: usize) -> Escape {
    match code_unit(text, at) {
        None => Escape::Whole(2),
        Some(0xd800..0xdc00) => match code_unit(text, at + 6) {
            Some(0xdc00..0xe000) => Escape::Whole(12),
            _ => Escape::Half,
        },
        Some(0xdc00..0xe000) => Escape::Half,
        Some(_) => Escape::Whole(6),
    }
}

/// The code unit of the escape `\uXXXX` at `at`.
fn code_unit(text: &[u8], at: usize) -> Option<u32> {
    let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let digits = std::str::from_utf8(digits).ok()?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit())
        .then(|| u32::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_can_mean_one_thing_only_is_read() {
        for (text, value) in [
            ("{\"a\": \"b\nc\td\u{1}\"}", json!({"a": "b\nc\td\u{1}"})),
            ("\u{feff}[1]", json!([1])),
            (r#""x \ud83d""#, json!("x \u{fffd}")),
            (r#""\ude00 y""#, json!("\u{fffd} y")),
            (r#""\ud83d\ud83d\ude00""#, json!("\u{fffd}😀")),
            (r#""\ud83dA""#, json!("\u{fffd}A")),
            (r#""\\ud83d""#, json!("\\ud83d")),
            (r#"{"\ud83d": "\""}"#, json!({"\u{fffd}": "\""})),
            ("{\n\"a\": \"\r\n\"\n}", json!({"a": "\r\n"})),
        ] {
            assert_eq!(parse(text).unwrap(), value, "{text}");
        }
    }

    #[test]
    fn what_is_sound_is_not_touched_and_what_is_unclear_not_read() {
        for text in [r#"{"a": "\u00e9\ud83d\ude00\n"}"#, "[\n1\t]", "\"\\\\\""] {
            assert!(matches!(mended(text), Cow::Borrowed(same) if same == text), "{text}");
        }
        for text in [
            "{\"a\": 1,}",
            "{'a': 1}",
            "{a: 1}",
            "\"a",
            "\"\\ud8",
            "\"\\u12g4\"",
            "\"\\q\n\"",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
