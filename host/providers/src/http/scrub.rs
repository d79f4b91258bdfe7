//! Takes keys out of what a server says, and makes the rest fit to be shown.
//!
//! Some servers repeat the key in an error, whole or with its middle starred out. What they repeat word by word is found;
//! what they encode first (base64, hex) is not.

use agenthost_core::printable::is_hidden;

/// How much of a server's message is kept, in characters.
const KEPT: usize = 300;
/// What stands where a key was.
const MARK: &str = "[key]";
/// A shorter key is a placeholder such as `none`, and replacing it inside words would only garble messages.
const REAL_KEY: usize = 8;

/// `text` on one line, without hidden characters, without `key` or anything that looks like one, shortened.
pub(super) fn clean(text: &str, key: Option<&str>) -> String {
    // What nobody sees goes first: it would hide a key from the search below, and not from a reader.
    let seen = text.chars().filter(|c| c.is_control() || !is_hidden(*c));
    let line: String = seen.map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    // Before it is cut: half a key is still a secret.
    let line = redact(&line, key);
    match line.char_indices().nth(KEPT) {
        Some((end, _)) => line.get(..end).map_or_else(String::new, |kept| format!("{kept}…")),
        None => line,
    }
}

/// `body` with every verbatim occurrence of `key` replaced, so that it cannot reach a task by way of a reply.
pub(super) fn without_key(body: Vec<u8>, key: &str) -> Vec<u8> {
    let needle = key.as_bytes();
    if needle.len() < REAL_KEY || !body.windows(needle.len()).any(|window| window == needle) {
        return body;
    }
    let mut clean = Vec::with_capacity(body.len());
    let mut rest = body.as_slice();
    while let Some((first, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(needle) {
            clean.extend_from_slice(MARK.as_bytes());
            rest = after;
        } else {
            clean.push(*first);
            rest = after;
        }
    }
    clean
}

fn redact(text: &str, key: Option<&str>) -> String {
    let text = match key {
        Some(key) if key.len() >= REAL_KEY => text.replace(key, MARK),
        _ => text.to_owned(),
    };
    let mut clean = String::with_capacity(text.len());
    let mut word = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '*' | '.' | '…' | '+' | '/' | '=') {
            word.push(c);
            continue;
        }
        clean.push_str(if is_key(&word, key) { MARK } else { &word });
        word.clear();
        clean.push(c);
    }
    clean.push_str(if is_key(&word, key) { MARK } else { &word });
    clean
}

/// Whether `word` is the key, holds eight characters of it in a row, is a starred-out form of it, or starts as the
/// vendors' keys do.
fn is_key(word: &str, key: Option<&str>) -> bool {
    if let Some(at) = word.find("sk-") {
        let starts = at == 0
            || word
                .get(..at)
                .is_some_and(|before| !before.ends_with(|c: char| c.is_alphanumeric()));
        if starts && word.len() >= at + 6 {
            return true;
        }
    }
    let Some(key) = key.filter(|key| !key.is_empty()) else {
        return false;
    };
    if word == key {
        return true;
    }
    if key.len() < REAL_KEY {
        return false;
    }
    if key
        .as_bytes()
        .windows(REAL_KEY)
        .any(|part| word.as_bytes().windows(REAL_KEY).any(|window| window == part))
    {
        return true;
    }
    let starred = ["**", "..", "…"].iter().any(|gap| word.contains(gap));
    let ends = |part: Option<&str>, at_start: bool| {
        part.is_some_and(|part| {
            if at_start {
                word.starts_with(part)
            } else {
                word.trim_end_matches('.').ends_with(part)
            }
        })
    };
    starred && (ends(key.get(..3), true) || ends(key.get(key.len() - 3..), false))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-ant-api03-Zx81QwErTy";

    #[test]
    fn a_key_never_survives() {
        for (said, shown) in [
            (format!("invalid x-api-key {KEY}."), "invalid x-api-key [key]."),
            (format!("\"{KEY}\" is wrong"), "\"[key]\" is wrong"),
            (format!("key={KEY}&x"), "key=[key]&x"),
            (
                "API key provided: sk-proj-********3f2a, see docs".into(),
                "API key provided: [key], see docs",
            ),
            ("bad key sk-ant-...ErTy".into(), "bad key [key]"),
            ("half a key api03-Zx81Qw here".into(), "half a key [key] here"),
            (KEY.replace('-', "\u{200b}-\u{ad}"), "[key]"),
            ("risk-averse task-list sk-x".into(), "risk-averse task-list sk-x"),
        ] {
            assert_eq!(clean(&said, Some(KEY)), shown);
        }
        assert_eq!(
            clean("token abcdefgh12345678 and abc*****678", Some("abcdefgh12345678")),
            "token [key] and [key]"
        );
        assert_eq!(clean("model none of none", Some("none")), "model [key] of [key]");
        assert_eq!(clean("other sk-live-123456", None), "other [key]");
    }

    #[test]
    fn a_key_at_the_cut_does_not_survive_in_part() {
        let said = format!("{} {KEY}", "x".repeat(290));
        let shown = clean(&said, Some(KEY));
        assert!(!shown.contains("sk-a"), "{shown}");
    }

    #[test]
    fn messages_are_one_short_line() {
        let shown = clean("a\r\nb\u{1b}[31mred\u{0}\tc", None);
        assert_eq!(shown, "a b [31mred c");
        assert_eq!(clean(&"é".repeat(400), None).chars().count(), 301);
    }

    #[test]
    fn a_body_loses_every_verbatim_key() {
        let body = format!("{{\"a\":\"{KEY}{KEY}\",\"b\":\"x{KEY}\"}}").into_bytes();
        assert_eq!(without_key(body, KEY), b"{\"a\":\"[key][key]\",\"b\":\"x[key]\"}");
        assert_eq!(without_key(b"none here".to_vec(), "none"), b"none here");
    }
}
