//! The most tokens that a byte-level tokenizer makes of a text.
//!
//! Such a tokenizer splits a text into words, and each word into bytes; then it joins two neighbors for as long as what
//! they make together is in its vocabulary. So when it is done, no two neighbors in a word are such that the vocabulary
//! has them joined. `pieces.txt` has the strings of two to four bytes that are in *every* vocabulary that was looked at
//! (o200k, cl100k, and the one that Anthropic has published), and common words that are one token in each. The bound is
//! the longest division of each word in which no two neighbors make such a string.
//!
//! The bound errs high where nothing is known: digits, control characters and rare bytes are a token each. It is near the
//! truth for prose, and for text that was searched for to be dense. It is no bound for a vocabulary that lacks many of
//! these strings, such as a small one for another language; what its provider counts raises the bound then.

use std::collections::HashSet;
use std::sync::LazyLock;

static PIECES: LazyLock<Pieces> = LazyLock::new(|| Pieces::read(include_str!("pieces.txt")));

/// Spaces that are one token in each vocabulary; longer runs are divided.
const SPACES: u64 = 16;
/// The slots of the table: four times as many as there are short strings.
const SLOTS: usize = 1 << 16;

/// The strings that every vocabulary has.
struct Pieces {
    /// Those of two to four bytes, packed, in a table with open addresses; 0 is a free slot.
    short: Vec<u32>,
    /// Words with the space before them.
    words: HashSet<Vec<u8>>,
}

impl Pieces {
    /// Reads a list with a string on each line: `_` is a space, `\_` and `\\` are the characters after the backslash, and
    /// `\xNN` is a byte.
    fn read(list: &str) -> Self {
        let mut pieces = Self {
            short: vec![0; SLOTS],
            words: HashSet::new(),
        };
        for line in list.lines() {
            let piece = unescaped(line);
            match packed(&piece) {
                Some(key) => pieces.insert(key),
                None => {
                    pieces.words.insert(piece);
                }
            }
        }
        pieces
    }

    fn insert(&mut self, key: u32) {
        let mut at = slot(key);
        for _ in 0..SLOTS {
            match self.short.get_mut(at) {
                Some(free) if *free == 0 => {
                    *free = key;
                    return;
                }
                _ => at = (at + 1) % SLOTS,
            }
        }
    }

    /// Whether every vocabulary has these two to four bytes.
    fn has(&self, bytes: &[u8]) -> bool {
        let Some(key) = packed(bytes) else { return false };
        let mut at = slot(key);
        for _ in 0..SLOTS {
            match self.short.get(at) {
                Some(known) if *known == key => return true,
                None | Some(0) => return false,
                Some(_) => at = (at + 1) % SLOTS,
            }
        }
        false
    }
}

fn slot(key: u32) -> usize {
    (key.wrapping_mul(0x9E37_79B1) >> 16) as usize % SLOTS
}

/// Two to four bytes as one number; none of them is zero.
fn packed(bytes: &[u8]) -> Option<u32> {
    if !(2..=4).contains(&bytes.len()) || bytes.contains(&0) {
        return None;
    }
    Some(bytes.iter().fold(0, |key, byte| key << 8 | u32::from(*byte)))
}

fn unescaped(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'_' => bytes.push(b' '),
            b'\\' => match rest.next() {
                Some(b'x') => {
                    let digits = [rest.next(), rest.next()];
                    let digit = |byte: Option<u8>| char::from(byte.unwrap_or(b'0')).to_digit(16).unwrap_or_default();
                    let value = digits.into_iter().fold(0, |value, byte| value * 16 + digit(byte));
                    bytes.extend(u8::try_from(value));
                }
                other => bytes.extend(other),
            },
            other => bytes.push(other),
        }
    }
    bytes
}

/// What a byte of a text is to a tokenizer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Space,
    Letter,
    Digit,
    Punctuation,
    /// The first byte of a character of several.
    Lead,
    /// Any other: control characters.
    Other,
}

fn class(byte: u8) -> Class {
    match byte {
        b' ' => Class::Space,
        b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
        b'0'..=b'9' => Class::Digit,
        b'!'..=b'~' => Class::Punctuation,
        128.. => Class::Lead,
        _ => Class::Other,
    }
}

/// The most tokens of `text`.
pub(super) fn most_tokens(text: &str) -> u64 {
    let pieces = &*PIECES;
    let bytes = text.as_bytes();
    let class_at = |at: usize| bytes.get(at).map(|byte| class(*byte));
    let run = |from: usize, of: Class| {
        bytes
            .get(from..)
            .unwrap_or_default()
            .iter()
            .take_while(|byte| class(**byte) == of)
            .count()
    };
    let mut tokens = 0_u64;
    let mut at = 0;
    while let Some(first) = class_at(at) {
        let mut start = at;
        if first == Class::Space {
            let mut spaces = run(at, Class::Space);
            at += spaces;
            // The last one belongs to the word behind it.
            if matches!(class_at(at), Some(Class::Letter | Class::Punctuation)) {
                spaces -= 1;
                start = at - 1;
            }
            tokens += (spaces as u64).div_ceil(SPACES);
            if start == at || at >= bytes.len() || !matches!(class_at(at), Some(Class::Letter | Class::Punctuation)) {
                continue;
            }
        }
        let of = class_at(at).unwrap_or(Class::Other);
        let end = match of {
            Class::Lead => {
                at + text
                    .get(at..)
                    .and_then(|rest| rest.chars().next())
                    .map_or(1, char::len_utf8)
            }
            Class::Other | Class::Space => at + 1,
            Class::Letter | Class::Digit | Class::Punctuation => at + run(at, of),
        };
        let word = bytes.get(start..end).unwrap_or_default();
        tokens += match of {
            Class::Digit | Class::Other | Class::Space => word.len() as u64,
            // A letter of another script behind it may be a part of the same word.
            Class::Letter if class_at(end) != Some(Class::Lead) && pieces.words.contains(word) => 1,
            Class::Lead if pieces.has(word) => 1,
            Class::Letter | Class::Punctuation | Class::Lead => longest_division(pieces, word),
        };
        at = end;
    }
    tokens
}

/// The most parts of `word` of which no two neighbors are joined by every vocabulary. Parts of four bytes and more stand
/// for all that are too long to matter. `counts[n - 1]` is the most parts up to a place if the last one has `n` bytes.
fn longest_division(pieces: &Pieces, word: &[u8]) -> u64 {
    type Counts = [Option<u64>; 4];
    let most = |counts: &Counts| counts.iter().flatten().max().copied();
    // The counts at the four places before the one that is looked at, the nearest first.
    let mut behind: [Counts; 4] = [[None; 4]; 4];
    let mut here: Counts = [None; 4];
    for end in 1..=word.len() {
        let [one, two, three, _] = behind;
        behind = [here, one, two, three];
        let mut counts: Counts = [None; 4];
        for (length, (count, before)) in (1..).zip(counts.iter_mut().zip(&behind)) {
            let Some(start) = end.checked_sub(length) else { break };
            if start == 0 {
                *count = Some(1);
                continue;
            }
            let bytes = |from: usize| word.get(from..end).unwrap_or_default();
            // Some tokenizers begin a word at a capital.
            let breaks =
                matches!(word.get(start - 1..=start), Some([a, b]) if a.is_ascii_lowercase() && b.is_ascii_uppercase());
            let joined = |last: usize| {
                last + length <= 4 && !breaks && start.checked_sub(last).is_some_and(|from| pieces.has(bytes(from)))
            };
            let apart = (1..)
                .zip(before)
                .filter(|(last, _)| !joined(*last))
                .map(|(_, count)| *count);
            *count = apart.flatten().max().map(|parts| parts + 1);
        }
        here = counts;
    }
    // At worst nothing is joined.
    most(&here).unwrap_or(word.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read() {
        let pieces = &*PIECES;
        assert_eq!(unescaped(r"_a\_\\\xe4\x0a"), b" a_\\\xe4\n");
        assert!(pieces.has(b"th") && pieces.has(b" the") && !pieces.has(b"qj"));
        assert!(pieces.words.contains(b" people".as_slice()));
        assert!(pieces.words.len() > 5_000);
    }

    /// The counts are those of o200k, cl100k and the published vocabulary of Anthropic, the highest of the three.
    #[test]
    fn the_bound_holds_for_what_was_counted() {
        let zh = "人工智能是计算机科学的一个分支,它企图了解智能的实质,并生产出一种新的能以人类智能相似的方式做出反应的智能机器。";
        let ru =
            "Искусственный интеллект — свойство искусственных интеллектуальных систем выполнять творческие функции";
        let cases = [
            ("The quick brown fox jumps over the lazy dog.", COUNTED[0]),
            ("fn main() { println!(\"{}\", vec![1, 2, 3].len()); }", COUNTED[1]),
            (r#"{"name": "agent", "items": [1, 22, 333], "ok": true}"#, COUNTED[2]),
            (zh, COUNTED[3]),
            (ru, COUNTED[4]),
            ("qjxzvqkjqzxjqjxzvqkjqzxj", COUNTED[5]),
            ("xQxQxQxQxQxQ", COUNTED[6]),
            ("😀🚀🦀🧪🪐", COUNTED[7]),
            ("#;~`^|@!$&*_=+<>?", COUNTED[8]),
            ("        deep\n\t\t\tindent", COUNTED[9]),
        ];
        for (text, counted) in cases {
            let bound = most_tokens(text);
            assert!(
                bound >= counted && bound <= text.len() as u64,
                "{text}: {bound} for {counted} of {} bytes",
                text.len()
            );
            assert!(
                bound <= counted * 5 / 2 + 4,
                "{text}: {bound} for {counted}: far too high"
            );
        }
    }

    const COUNTED: [u64; 10] = [10, 20, 23, 62, 49, 17, 12, 14, 15, 6];
}
