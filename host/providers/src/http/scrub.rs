//! Removes keys from a server's text, and makes the rest safe to show.
//!
//! Some servers repeat the key in an error, in full or with its middle replaced by asterisks. Verbatim copies are
//! found; encoded ones (base64, hex) are not.

use agenthost_core::printable::is_hidden;

/// The maximum length of a server's message, in characters.
const KEPT: usize = 300;
/// The replacement of a key.
const MARK: &str = "[key]";
/// The minimum length of a real key. A shorter one is a placeholder such as `none`, and replacing it inside words would
/// only garble messages.
const REAL_KEY: usize = 8;

/// Returns `text` shortened and on one line, without hidden characters and without `key` or anything that looks like
/// one.
pub(super) fn clean(text: &str, key: Option<&str>) -> String {
    // Hidden characters are removed first: they would hide a key from the search below, but not from a reader.
    let seen = text.chars().filter(|c| c.is_control() || !is_hidden(*c));
    let line: String = seen.map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    // The key is removed before the text is shortened: half a key is still a secret.
    let line = redact(&line, key);
    match line.char_indices().nth(KEPT) {
        Some((end, _)) => line.get(..end).map_or_else(String::new, |kept| format!("{kept}…")),
        None => line,
    }
}

/// Replaces every verbatim occurrence of `key` in `body`, so that no reply can carry it to a task.
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

/// Returns whether `word` is the key, contains eight consecutive characters of it, is a starred-out form of it, or
/// starts like the vendors' keys.
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
