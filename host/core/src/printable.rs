//! Makes text of plugins, models, registries and files safe to show on a terminal.
//!
//! A character is replaced by its escape, such as `\u{1b}` or `\r`, if a terminal acts on it, if it changes the order
//! in which text is read, or if it is invisible; everything else is unchanged. The result contains no such character,
//! so a second pass changes nothing. It is meant for people: backslashes are not doubled, so the original cannot always
//! be recovered from the result. [`json`] is exact, because JSON has escapes of its own.
//!
//! Left out: characters that look like others, and the width of characters.

use std::borrow::Cow;

/// Escapes every hidden character in `text`; line breaks and tabs stay.
///
/// ```
/// use agenthost_core::printable::printable;
///
/// assert_eq!(printable("two\nlines"), "two\nlines");
/// assert_eq!(printable("\u{1b}[31mred\r\u{202e}"), "\\u{1b}[31mred\\r\\u{202e}");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    escape(text, is_hidden, |c, shown| shown.extend(c.escape_default()))
}

/// Formats `text` as one line: like [`printable`], but line breaks and tabs are escaped, too.
///
/// ```
/// use agenthost_core::printable::one_line;
///
/// assert_eq!(one_line("failed\nhint: trust me"), "failed\\nhint: trust me");
/// ```
pub fn one_line(text: &str) -> Cow<'_, str> {
    escape(
        text,
        |c| is_hidden(c) || matches!(c, '\n' | '\t'),
        |c, shown| shown.extend(c.escape_default()),
    )
}

/// Escapes hidden characters in a JSON text without changing its meaning, provided that the text is valid JSON.
///
/// ```
/// use agenthost_core::printable::json;
///
/// assert_eq!(json("{\"a\":\"\u{9b}1m\u{7f}\"}"), r#"{"a":"\u009b1m\u007f"}"#);
/// ```
pub fn json(text: &str) -> Cow<'_, str> {
    escape(text, is_hidden, |c, shown| {
        // Outside of strings, JSON has no character that is escaped here.
        for unit in c.encode_utf16(&mut [0; 2]) {
            shown.push_str(&format!("\\u{unit:04x}"));
        }
    })
}

/// Formats `text` as one word of a command line that the reader may copy: quoted unless it is plain.
///
/// ```
/// use agenthost_core::printable::shell_word;
///
/// assert_eq!(shell_word("plugins/a-b.wasm"), "plugins/a-b.wasm");
/// assert_eq!(shell_word("it's; rm x"), r"'it'\''s; rm x'");
/// ```
pub fn shell_word(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-~@:+=,%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
}

/// Returns whether a terminal acts on `c`, shows nothing for it, or shows the following text in another order. Line
/// breaks and tabs are not hidden.
///
/// ```
/// use agenthost_core::printable::is_hidden;
///
/// assert!(['\u{1b}', '\r', '\u{9b}', '\u{202e}', '\u{200b}', '\u{feff}', '\u{e0041}'].into_iter().all(is_hidden));
/// assert!(!['\n', '\t', ' ', 'é', '語', '😀'].into_iter().any(is_hidden));
/// ```
pub fn is_hidden(c: char) -> bool {
    // The control and format characters, and all that Unicode lists as ignorable by default.
    matches!(u32::from(c),
        0x00..=0x08 | 0x0b..=0x1f | 0x7f..=0x9f
        | 0xad | 0x34f | 0x61c
        | 0x115f..=0x1160 | 0x17b4..=0x17b5 | 0x180b..=0x180f
        | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f
        | 0x3164 | 0xfdd0..=0xfdef | 0xfe00..=0xfe0f | 0xfeff | 0xffa0 | 0xfff0..=0xfffb | 0xfffe..=0xffff
        | 0x13430..=0x1343f | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a
        | 0xe0000..=0xe0fff)
        || u32::from(c) & 0xfffe == 0xfffe
}

/// Escapes every character for which `is_bad` returns true with `write`, except those that are part of an emoji.
fn escape(text: &str, is_bad: impl Fn(char) -> bool, write: impl Fn(char, &mut String)) -> Cow<'_, str> {
    let mut shown = String::new();
    // The end of the part of `text` that has been copied.
    let mut copied = 0;
    let mut before = Before::default();
    for (at, c) in text.char_indices() {
        let end = at + c.len_utf8();
        if is_bad(c) && !before.takes(c, text.get(end..).unwrap_or_default()) {
            shown.push_str(text.get(copied..at).unwrap_or_default());
            write(c, &mut shown);
            copied = end;
            before = Before::default();
        } else if c == EMOJI_STYLE {
            before.styled = true;
        } else {
            before = Before {
                base: Some(c),
                styled: false,
            };
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    shown.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(shown)
}

/// Requests the emoji form of the preceding character.
const EMOJI_STYLE: char = '\u{fe0f}';
/// Joins two emoji into one.
const JOINER: char = '\u{200d}';
/// Puts a frame around a digit.
const KEYCAP: char = '\u{20e3}';

/// The last character that was shown, with its style.
#[derive(Default)]
struct Before {
    base: Option<char>,
    styled: bool,
}

impl Before {
    /// Returns whether `c` is part of an emoji: it styles this character, or joins it to the next one.
    fn takes(&self, c: char, after: &str) -> bool {
        let Some(base) = self.base else { return false };
        let keycap = || matches!(base, '0'..='9' | '#' | '*') && after.starts_with(KEYCAP);
        match c {
            EMOJI_STYLE => !self.styled && (is_emoji(base) || keycap()),
            JOINER => is_emoji(base) && after.starts_with(is_emoji),
            _ => false,
        }
    }
}

/// Returns whether `c` is in a block that contains emoji.
fn is_emoji(c: char) -> bool {
    matches!(u32::from(c),
        0xa9 | 0xae | 0x203c | 0x2049 | 0x2122 | 0x2139 | 0x2190..=0x21ff | 0x2300..=0x23ff | 0x24c2
        | 0x25a0..=0x27bf | 0x2934..=0x2935 | 0x2b05..=0x2b55 | 0x3030 | 0x303d | 0x3297 | 0x3299
        | 0x1f000..=0x1faff)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any character, with hidden ones and emoji as frequent as others.
    fn any_text() -> impl Strategy<Value = String> {
        let hidden = prop::sample::select(('\0'..=char::MAX).filter(|c| is_hidden(*c)).collect::<Vec<_>>());
        let special = prop::sample::select(vec![
            '\n',
            '\r',
            '\t',
            '\\',
            '\u{1b}',
            '\u{9b}',
            '\u{7f}',
            '\u{202e}',
            JOINER,
            EMOJI_STYLE,
            KEYCAP,
            '1',
            '👩',
            '💻',
            '❤',
            '\u{1f3fd}',
        ]);
        let c = prop_oneof![any::<char>(), special, hidden];
        prop::collection::vec(c, 0..40).prop_map(String::from_iter)
    }

    /// The hidden characters of `text` that are not part of an emoji.
    fn left(text: &str) -> Vec<char> {
        let text: Vec<char> = text.chars().collect();
        let near = |at: usize| {
            text.get(at)
                .copied()
                .filter(|c| is_emoji(*c) || *c == EMOJI_STYLE || *c == KEYCAP)
        };
        let shapes = |at: usize, c: char| match c {
            EMOJI_STYLE => near(at.wrapping_sub(1)).or(near(at + 1)).is_some(),
            JOINER => near(at.wrapping_sub(1)).and(near(at + 1)).is_some(),
            _ => false,
        };
        let hidden = text.iter().copied().enumerate().filter(|(_, c)| is_hidden(*c));
        hidden.filter(|(at, c)| !shapes(*at, *c)).map(|(_, c)| c).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_024))]

        #[test]
        fn nothing_hidden_is_left_and_once_is_enough(text in any_text()) {
            for shown in [printable(&text), one_line(&text)] {
                prop_assert!(left(&shown).is_empty(), "{shown:?}");
                prop_assert_eq!(&printable(&shown), &shown);
            }
            let line = one_line(&text);
            prop_assert!(!line.contains(['\n', '\t']));
            prop_assert_eq!(one_line(&line), &*line);
        }

        #[test]
        fn what_is_clean_is_borrowed_as_it_is(text in "[ -~\nà-ÿ가-힣一-龥😀-🙏]*") {
            prop_assert!(matches!(printable(&text), Cow::Borrowed(shown) if shown == text));
        }

        #[test]
        fn json_keeps_its_value(text in any_text()) {
            for value in [serde_json::json!(text), serde_json::json!({text.as_str(): [text.as_str(), 1.5]})] {
                for written in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                    let shown = json(&written);
                    prop_assert!(left(&shown).is_empty(), "{shown:?}");
                    prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(&shown).unwrap(), &value);
                }
            }
        }
    }

    #[test]
    fn emoji_stay_whole_and_lend_nothing_to_others() {
        for whole in ["👩‍💻", "❤️", "👍🏽", "1️⃣", "🏳️‍🌈", "👩🏽‍💻"] {
            assert_eq!(printable(whole), whole);
        }
        for (text, shown) in [
            ("a\u{fe0f}", "a\\u{fe0f}"),
            ("1\u{fe0f}2", "1\\u{fe0f}2"),
            ("a\u{200d}👩", "a\\u{200d}👩"),
            ("👩\u{200d}a", "👩\\u{200d}a"),
            ("👩\u{200d}\u{200d}👩", "👩\\u{200d}\\u{200d}👩"),
            ("👩\u{200b}\u{200d}👩", "👩\\u{200b}\\u{200d}👩"),
            ("❤\u{fe0f}\u{fe0f}", "❤\u{fe0f}\\u{fe0f}"),
            ("🏴\u{e0067}\u{e007f}", "🏴\\u{e0067}\\u{e007f}"),
        ] {
            assert_eq!(printable(text), shown);
        }
        assert_eq!(json("\"\u{e0041}\u{2028}\""), r#""\udb40\udc41\u2028""#);
    }
}
