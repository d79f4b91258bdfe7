//! Removes keys and other secrets of a request from a server's text, and makes the rest safe to show.
//!
//! Some servers repeat the key in an error, in full or with its middle replaced by asterisks. Verbatim copies of at
//! least eight bytes are found, and those of a query parameter also as the address has them; other encodings (base64,
//! hex) are not.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use agenthost_core::printable::{is_hidden, one_line};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

/// The maximum length of a server's message, in characters.
const KEPT: usize = 300;
/// The replacement of a key.
const MARK: &str = "[key]";
/// The minimum length of a real key. A shorter one is a placeholder such as `none`, and replacing it inside words would
/// only garble messages.
const REAL_KEY: usize = 8;

/// The most bytes of a text that is searched for parts of secrets. What is shown of it is shorter.
const SEARCHED: usize = 64 << 10;
/// The schemes that a header may have before its secret.
const SCHEMES: [&str; 6] = ["apikey", "basic", "bearer", "digest", "key", "token"];

/// The secrets that are sent with each request: the key, and the secret values of headers and query parameters.
#[derive(Default)]
pub(super) struct Secrets {
    texts: Vec<SecretString>,
    /// The hashes of all parts of [`REAL_KEY`] bytes of the secrets.
    parts: HashSet<u64>,
    hasher: RandomState,
}

impl Secrets {
    /// Adds a secret, in each of the forms in which a server may repeat it: as it is, and without a scheme.
    pub(super) fn add(&mut self, secret: &str) {
        let bare = secret.split_once(' ').filter(|(scheme, rest)| {
            let known = SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme));
            known && rest.len() >= REAL_KEY
        });
        for form in std::iter::once(secret).chain(bare.map(|(_, rest)| rest)) {
            let known = self.texts().any(|known| known == form);
            if known || form.is_empty() {
                continue;
            }
            self.texts.push(SecretString::from(form));
            let parts = form.as_bytes().windows(REAL_KEY);
            self.parts.extend(parts.map(|part| self.hasher.hash_one(part)));
        }
        // The longest first: none is replaced in part.
        self.texts
            .sort_by_key(|form| std::cmp::Reverse(form.expose_secret().len()));
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(ExposeSecret::expose_secret)
    }

    /// Returns the secrets that are too long to be a word of ordinary text.
    fn real(&self) -> impl Iterator<Item = &str> {
        self.texts().filter(|secret| secret.len() >= REAL_KEY)
    }

    /// Returns `text` shortened and on one line, without hidden characters and without a secret or anything that looks
    /// like one.
    pub(super) fn clean(&self, text: &str) -> String {
        let text = text.get(..text.floor_char_boundary(SEARCHED)).unwrap_or_default();
        // Hidden characters are removed first: they would hide a key from the search below, but not from a reader.
        let seen = text.chars().filter(|c| c.is_control() || !is_hidden(*c));
        let line: String = seen.map(|c| if c.is_control() { ' ' } else { c }).collect();
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        // The key is removed before the text is shortened: half a key is still a secret.
        let line = self.redact(&line);
        match line.char_indices().nth(KEPT) {
            Some((end, _)) => line.get(..end).map_or_else(String::new, |kept| format!("{kept}…")),
            None => line,
        }
    }

    /// Replaces every verbatim occurrence of a secret in the texts of `body`, so that no reply can carry it to a task. The
    /// names of fields stay, because a secret may be a word of one.
    pub(super) fn remove_from(&self, body: &mut Value) {
        match body {
            Value::String(text) => {
                for secret in self.real() {
                    if text.contains(secret) {
                        *text = text.replace(secret, MARK);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.remove_from(item)),
            Value::Object(fields) => fields.values_mut().for_each(|value| self.remove_from(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn redact(&self, text: &str) -> String {
        let text = self
            .real()
            .fold(text.to_owned(), |text, secret| text.replace(secret, MARK));
        let mut clean = String::with_capacity(text.len());
        let mut word = String::new();
        for c in text.chars() {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '*' | '.' | '…' | '+' | '/' | '=') {
                word.push(c);
                continue;
            }
            clean.push_str(if self.has(&word) { MARK } else { &word });
            word.clear();
            clean.push(c);
        }
        clean.push_str(if self.has(&word) { MARK } else { &word });
        clean
    }

    /// Returns whether `word` is a secret, part of one, or starts like the vendors' keys.
    fn has(&self, word: &str) -> bool {
        let mut parts = word.as_bytes().windows(REAL_KEY);
        is_vendors_key(word)
            || parts.any(|part| self.parts.contains(&self.hasher.hash_one(part)))
            || self.texts().any(|secret| word == secret || is_starred(word, secret))
    }
}

/// Returns a name for a message: the beginning of it, on one line.
pub(super) fn shown(name: &str) -> String {
    one_line(name).chars().take(64).collect()
}

/// Returns whether `word` starts like the vendors' keys.
fn is_vendors_key(word: &str) -> bool {
    word.find("sk-").is_some_and(|at| {
        let starts = at == 0
            || word
                .get(..at)
                .is_some_and(|before| !before.ends_with(|c: char| c.is_alphanumeric()));
        starts && word.len() >= at + 6
    })
}

/// Returns whether `word` is a starred-out form of the key.
fn is_starred(word: &str, key: &str) -> bool {
    if key.len() < REAL_KEY {
        return false;
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
    use serde_json::json;

    const KEY: &str = "sk-ant-api03-Zx81QwErTy";

    fn secrets(key: Option<&str>) -> Secrets {
        let mut secrets = Secrets::default();
        key.into_iter().for_each(|key| secrets.add(key));
        secrets
    }

    fn clean(text: &str, key: Option<&str>) -> String {
        secrets(key).clean(text)
    }

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
        let without = |secret: &str, mut body: Value| {
            secrets(Some(secret)).remove_from(&mut body);
            body
        };
        assert_eq!(
            without(
                KEY,
                json!({"a": format!("{KEY}{KEY}"), "b": [{"c": format!("x{KEY}")}]})
            ),
            json!({"a": "[key][key]", "b": [{"c": "x[key]"}]})
        );
        assert_eq!(without("none", json!("none here")), "none here");
        // However JSON escapes it.
        let text = r#"{"echo": "{\"api_key\":\"abcd1234\"} \/path \u00e9"}"#;
        assert_eq!(
            without(r#"{"api_key":"abcd1234"} /path é"#, serde_json::from_str(text).unwrap()),
            json!({"echo": "[key]"})
        );
        // The words of a title are not secrets, and names stay.
        let body = json!({"usage": {"completion_tokens": 5}, "text": "Customer completion"});
        assert_eq!(without("Customer code completion", body.clone()), body);
        assert_eq!(without("completion_tokens", body.clone()), body);
    }

    #[test]
    fn a_long_text_is_searched_once() {
        let mut secrets = Secrets::default();
        let random = |n: usize| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        secrets.add(&(0..500).map(random).collect::<String>());
        let said = format!("{} x", "a".repeat(8 << 20));
        assert!(secrets.clean(&said).starts_with("aaaa"));
    }

    #[test]
    fn every_secret_is_removed_with_and_without_its_scheme() {
        let mut secrets = secrets(Some(KEY));
        secrets.add("Bearer canary-0123456789");
        secrets.add("short");
        assert_eq!(
            secrets.clean(&format!(
                "{KEY}, Bearer canary-0123456789, canary-0123456789, short, shorter"
            )),
            "[key], [key], [key], [key], shorter"
        );
        let mut body = json!({"a": KEY, "b": "canary-0123456789 short"});
        secrets.remove_from(&mut body);
        assert_eq!(body, json!({"a": "[key]", "b": "[key] short"}));
    }
}
