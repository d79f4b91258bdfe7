//! Removes keys and other secrets of a request from a server's text, and makes the rest safe to show.
//!
//! Some servers repeat the key in an error, in full or with its middle replaced by asterisks. Verbatim copies are
//! found, and those of a query parameter also as the address has them; other encodings (base64, hex) are not.

use agenthost_core::printable::{is_hidden, one_line};
use secrecy::{ExposeSecret, SecretString};

/// The maximum length of a server's message, in characters.
const KEPT: usize = 300;
/// The replacement of a key.
const MARK: &str = "[key]";
/// The minimum length of a real key. A shorter one is a placeholder such as `none`, and replacing it inside words would
/// only garble messages.
const REAL_KEY: usize = 8;

/// The secrets that are sent with each request: the key, and the secret values of headers and query parameters.
#[derive(Default)]
pub(super) struct Secrets(Vec<SecretString>);

impl Secrets {
    /// Adds a secret, in each of the forms in which a server may repeat it: as it is, and its words.
    pub(super) fn add(&mut self, secret: &str) {
        // A header may have a scheme before its secret.
        let words = secret.split(' ').filter(|word| word.len() >= REAL_KEY);
        for form in std::iter::once(secret).chain(words) {
            let known = self.0.iter().any(|known| known.expose_secret() == form);
            if !known && !form.is_empty() {
                self.0.push(SecretString::from(form));
            }
        }
        // The longest first: none is replaced in part.
        self.0.sort_by_key(|form| std::cmp::Reverse(form.expose_secret().len()));
    }

    /// Returns whether there is no secret.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(ExposeSecret::expose_secret)
    }

    /// Returns `text` shortened and on one line, without hidden characters and without a secret or anything that looks
    /// like one.
    pub(super) fn clean(&self, text: &str) -> String {
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

    /// Replaces every verbatim occurrence of a secret in `body`, so that no reply can carry it to a task.
    pub(super) fn remove_from(&self, body: Vec<u8>) -> Vec<u8> {
        self.texts().fold(body, without_key)
    }

    fn redact(&self, text: &str) -> String {
        let real = self.texts().filter(|secret| secret.len() >= REAL_KEY);
        let text = real.fold(text.to_owned(), |text, secret| text.replace(secret, MARK));
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
        is_vendors_key(word) || self.texts().any(|secret| is_key(word, secret))
    }
}

/// Returns a name for a message: the beginning of it, on one line.
pub(super) fn shown(name: &str) -> String {
    one_line(name).chars().take(64).collect()
}

/// Replaces every verbatim occurrence of `key` in `body`.
fn without_key(body: Vec<u8>, key: &str) -> Vec<u8> {
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

/// Returns whether `word` is the key, contains eight consecutive characters of it, or is a starred-out form of it.
fn is_key(word: &str, key: &str) -> bool {
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
        let body = format!("{{\"a\":\"{KEY}{KEY}\",\"b\":\"x{KEY}\"}}").into_bytes();
        assert_eq!(without_key(body, KEY), b"{\"a\":\"[key][key]\",\"b\":\"x[key]\"}");
        assert_eq!(without_key(b"none here".to_vec(), "none"), b"none here");
    }

    #[test]
    fn every_secret_and_each_of_its_words_is_removed() {
        let mut secrets = secrets(Some(KEY));
        secrets.add("Bearer canary-0123456789");
        secrets.add("short");
        assert_eq!(
            secrets.clean(&format!(
                "{KEY}, Bearer canary-0123456789, canary-0123456789, short, shorter"
            )),
            "[key], [key], [key], [key], shorter"
        );
        let body = format!("{{\"a\":\"{KEY}\",\"b\":\"canary-0123456789 short\"}}").into_bytes();
        assert_eq!(secrets.remove_from(body), b"{\"a\":\"[key]\",\"b\":\"[key] short\"}");
    }
}
