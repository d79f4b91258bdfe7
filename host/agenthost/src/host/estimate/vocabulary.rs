//! The most tokens that a byte-level tokenizer makes of a text.
//!
//! Such a tokenizer splits a text into words, and each word into bytes; then it joins two neighbors for as long as the
//! string that they make is in its vocabulary. So in the end no two neighbors in a word make a string of the
//! vocabulary. `pieces.txt` has the strings of two to four bytes that are in *every* vocabulary that was examined:
//! those of o200k, cl100k, Llama 3 and 4, Qwen, Mistral, DeepSeek and the one that Anthropic has published. It also has
//! common words that are one token in each. The bound is the longest division of a text in which no two neighbors make
//! such a string.
//!
//! Tokenizers split words at different places. So a text is cut only where each of them splits it and no token of any
//! of them crosses. At a place where only some of them split, two neighbors may be apart although a string joins them,
//! and a token may cross. The tests have an example of each.
//!
//! The bound is high for bytes without known strings: digits, control characters and rare bytes are a token each. It is
//! near the true count for prose, and for text that was searched for to be dense. It does not hold for a vocabulary
//! that lacks many of these strings, such as a small one for another language; the counts of its provider raise the
//! bound then.

use std::collections::HashSet;
use std::sync::LazyLock;

static PIECES: LazyLock<Pieces> = LazyLock::new(|| Pieces::read(include_str!("pieces.txt")));

/// The longest run of spaces that is one token in each vocabulary. Longer runs are divided.
const SPACES: usize = 16;
/// The first bytes of characters that some vocabulary joins to the text before them in one token, without the rest.
const SHARED_LEADS: [u8; 8] = [0xe0, 0xe1, 0xe2, 0xe3, 0xea, 0xeb, 0xec, 0xed];
/// The slots of the table: four times the number of short strings.
const SLOTS: usize = 1 << 16;

/// The strings that every vocabulary has.
struct Pieces {
    /// The strings of two to four bytes, packed, in a table with open addressing; 0 is a free slot.
    short: Vec<u32>,
    /// Words with the space before them.
    words: HashSet<Vec<u8>>,
}

impl Pieces {
    /// Reads a list with a string on each line: `_` is a space, `\_` and `\\` are the characters after the backslash,
    /// and `\xNN` is a byte.
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

    /// Returns whether every vocabulary has these two to four bytes.
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

/// Packs two to four bytes into one number; `None` for another length or if one of them is zero.
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

/// The class of a byte, by which tokenizers split a text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Space,
    Letter,
    Digit,
    Punctuation,
    /// A byte of a multi-byte character.
    Wide,
    /// A line break.
    Line,
    /// Any other byte: control characters.
    Other,
}

fn class(byte: u8) -> Class {
    match byte {
        b' ' => Class::Space,
        b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
        b'0'..=b'9' => Class::Digit,
        b'!'..=b'~' => Class::Punctuation,
        128.. => Class::Wide,
        b'\n' | b'\r' => Class::Line,
        _ => Class::Other,
    }
}

/// Returns the most tokens of `text`.
pub(super) fn most_tokens(text: &str) -> u64 {
    let pieces = &*PIECES;
    let bytes = text.as_bytes();
    let mut tokens = 0_u64;
    let mut before = None;
    let mut at = 0;
    while let Some(here) = bytes.get(at).map(|byte| class(*byte)) {
        let end = match here {
            Class::Digit | Class::Line | Class::Other => {
                tokens += 1;
                at + 1
            }
            Class::Wide => {
                let rest = text.get(at..).unwrap_or_default();
                let end = at + rest.chars().next().map_or(1, char::len_utf8);
                tokens += character(pieces, text, at, before);
                end
            }
            Class::Space => {
                let run = bytes.iter().skip(at).take_while(|byte| **byte == b' ').count();
                let after = bytes.get(at + run).map(|byte| class(*byte));
                // The last space belongs to the word after it.
                if matches!(after, Some(Class::Letter | Class::Punctuation)) {
                    tokens += spaces(run - 1, before, None);
                    let start = at + run - 1;
                    let before = if run > 1 { Some(Class::Space) } else { before };
                    let end = segment_end(bytes, start);
                    tokens += segment(pieces, bytes, start, end, before);
                    end
                } else {
                    // Some tokenizers split the last space from the others.
                    tokens += match after {
                        None | Some(Class::Line) => spaces(run, before, after),
                        Some(_) => spaces(run - 1, before, after) + 1,
                    };
                    at + run
                }
            }
            Class::Letter | Class::Punctuation => {
                let end = segment_end(bytes, at);
                tokens += segment(pieces, bytes, at, end, before);
                end
            }
        };
        before = end
            .checked_sub(1)
            .and_then(|last| bytes.get(last))
            .map(|byte| class(*byte));
        at = end;
    }
    tokens
}

/// Returns the most tokens of a run of spaces between `before` and `after`, which may share a token with some of them.
fn spaces(count: usize, before: Option<Class>, after: Option<Class>) -> u64 {
    let open = |neighbor| matches!(neighbor, Some(Class::Line | Class::Other | Class::Wide));
    let shared = usize::from(open(before)) + usize::from(open(after));
    match count {
        0 => 0,
        1 => 1,
        count => (count.div_ceil(SPACES) + shared).min(count) as u64,
    }
}

/// Returns the most tokens that begin in the multi-byte character at `at`. A token before it may have taken some of its
/// bytes, and its last token may continue after it.
fn character(pieces: &Pieces, text: &str, at: usize, before: Option<Class>) -> u64 {
    let Some((head, rest)) = text.split_at_checked(at) else {
        return 0;
    };
    let mut characters = rest.chars();
    let Some(here) = characters.next() else { return 0 };
    let bytes = rest.as_bytes().get(..here.len_utf8()).unwrap_or_default();
    let changes =
        |neighbor: Option<char>| neighbor.is_some_and(|other| !other.is_ascii() && script(other) != script(here));
    let ends_behind = changes(characters.next());
    let whole = match !ends_behind && pieces.has(bytes) {
        true => 1,
        false => longest_division(pieces, bytes, false, ends_behind),
    };
    let begins_before = match before {
        Some(Class::Space | Class::Letter | Class::Punctuation) => true,
        Some(Class::Wide) => {
            bytes.first().is_some_and(|lead| SHARED_LEADS.contains(lead)) || changes(head.chars().next_back())
        }
        _ => false,
    };
    if !begins_before {
        return whole;
    }
    let rests = (1..bytes.len()).filter_map(|from| bytes.get(from..));
    rests
        .map(|rest| longest_division(pieces, rest, false, ends_behind))
        .fold(whole, u64::max)
}

/// Returns a number for the script of a character, roughly. Tokens with a part of a character are rare within one
/// script.
fn script(character: char) -> u32 {
    match u32::from(character) {
        // Ideographs, kana and the punctuation between them.
        0x3000..=0xa3ff | 0xff00..=0xffef => 1,
        0xac00..=0xd7ff => 2,
        code => 3 + (code >> 8),
    }
}

/// Returns the end of the segment that begins at `start`: the first place where every tokenizer splits and no token
/// crosses.
fn segment_end(bytes: &[u8], start: usize) -> usize {
    let mut end = start + 1;
    while let (Some(last), Some(next)) = (bytes.get(end - 1), bytes.get(end)) {
        let goes_on = match (class(*last), class(*next)) {
            (Class::Space | Class::Punctuation | Class::Letter, Class::Letter)
            | (Class::Space | Class::Punctuation, Class::Punctuation) => true,
            // As in "don't".
            (Class::Letter, Class::Punctuation) => *next == b'\'',
            _ => false,
        };
        if !goes_on {
            break;
        }
        end += 1;
    }
    end
}

/// Returns the most tokens that begin in a segment.
fn segment(pieces: &Pieces, bytes: &[u8], start: usize, end: usize, before: Option<Class>) -> u64 {
    let segment = bytes.get(start..end).unwrap_or_default();
    let edge = |byte: Option<&u8>| byte.map(|byte| class(*byte));
    let (first, last, after) = (edge(segment.first()), edge(segment.last()), edge(bytes.get(end)));
    let begins_before = match before {
        Some(Class::Wide | Class::Other) => true,
        Some(Class::Line) => first == Some(Class::Punctuation),
        _ => false,
    };
    let ends_behind = match after {
        Some(Class::Wide) => true,
        Some(Class::Line | Class::Other) => last == Some(Class::Punctuation),
        _ => false,
    };
    match !begins_before && !ends_behind && pieces.words.contains(segment) {
        true => 1,
        false => longest_division(pieces, segment, begins_before, ends_behind),
    }
}

/// Returns whether some tokenizer may split `segment` before the byte at `at`, whatever its vocabulary has.
fn may_part(segment: &[u8], at: usize) -> bool {
    let Some([last, next]) = segment.get(at - 1..=at) else {
        return false;
    };
    let apostrophe = |back: usize| at.checked_sub(back).and_then(|at| segment.get(at)) == Some(&b'\'');
    match (class(*last), class(*next)) {
        (Class::Punctuation, Class::Letter) | (Class::Letter, Class::Punctuation) => true,
        (Class::Punctuation, Class::Punctuation) => *last == b'/',
        // Some tokenizers begin a word at a capital, and some end it after a possible "'s" or "'re".
        (Class::Letter, Class::Letter) => {
            (last.is_ascii_lowercase() && next.is_ascii_uppercase()) || apostrophe(2) || apostrophe(3)
        }
        _ => false,
    }
}

/// Returns the most parts of `word` in which no two neighbors are joined by every vocabulary. If it `begins_before`,
/// the token before it may have taken some of its bytes; if it `ends_behind`, its last part may continue after it.
///
/// `counts[n - 1]` is the most parts up to a place if the last one has `n` bytes; the last entry is for that many or
/// more.
fn longest_division(pieces: &Pieces, word: &[u8], begins_before: bool, ends_behind: bool) -> u64 {
    type Counts = [Option<u64>; 4];
    let most = |counts: &Counts| counts.iter().flatten().max().copied();
    // The counts at the four places before the current one, the nearest first.
    let mut behind: [Counts; 4] = [[None; 4]; 4];
    let mut here: Counts = [None; 4];
    for end in 1..=word.len() {
        let [one, two, three, _] = behind;
        behind = [here, one, two, three];
        let [_, _, _, longer] = here;
        let mut counts: Counts = [None; 4];
        for (length, (count, before)) in (1..).zip(counts.iter_mut().zip(&behind)) {
            let Some(start) = end.checked_sub(length) else { break };
            let begins = start == 0 || (begins_before && start < 4);
            let free = (ends_behind && end == word.len()) || (start > 0 && may_part(word, start));
            let joined = |last: usize| {
                let bytes = |from: usize| word.get(from..end).unwrap_or_default();
                !free && last + length <= 4 && start.checked_sub(last).is_some_and(|from| pieces.has(bytes(from)))
            };
            let apart = (1..)
                .zip(before)
                .filter(|(last, _)| !joined(*last))
                .map(|(_, count)| *count);
            let apart = apart.flatten().max().map(|parts| parts + 1);
            *count = apart.max(begins.then_some(1));
        }
        let [_, _, _, long] = &mut counts;
        *long = (*long).max(longer);
        here = counts;
    }
    // In the worst case, nothing is joined.
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
            ("The quick brown fox jumps over the lazy dog.", 10),
            ("fn main() { println!(\"{}\", vec![1, 2, 3].len()); }", 20),
            (r#"{"name": "agent", "items": [1, 22, 333], "ok": true}"#, 23),
            (zh, 62),
            (ru, 49),
            ("qjxzvqkjqzxjqjxzvqkjqzxj", 17),
            ("xQxQxQxQxQxQ", 12),
            ("😀🚀🦀🧪🪐", 14),
            ("#;~`^|@!$&*_=+<>?", 15),
            ("        deep\n\t\t\tindent", 6),
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

    /// Texts found by a search for which a bound that cuts at each change of class was too low. Each is repeated 40
    /// times.
    #[test]
    fn the_bound_holds_where_tokenizers_split_differently() {
        let cases = [
            // Some split the last of several spaces from the others: before digits, wide and control characters.
            ("  3", 120),
            ("   5", 120),
            ("  \u{1}", 120),
            ("  \u{30f3}", 120),
            // A token has the space and the first bytes of a character, and its other bytes are apart.
            ("  \u{597d}", 160),
            // As before, where the script changes.
            ("\u{420}\u{7ea7}", 120),
            ("\u{975e}\u{5e9}", 120),
            ("\u{41e}\u{5d7}", 120),
            ("\u{cc1f}\u{c544}", 156),
            ("   \u{1b0}", 120),
            // A word that is one token by itself is not one after a possible "'s".
            ("'still", 80),
            // These are one token in most vocabularies and two in some.
            (" unm", 80),
            (" xm", 80),
            ("\u{fe0f}", 120),
            ("\u{2800}", 120),
            ("\u{e0034}", 160),
        ];
        for (text, counted) in cases {
            let bound = most_tokens(&text.repeat(40));
            assert!(bound >= counted, "{text:?}: {bound} for {counted}");
        }
    }

    #[test]
    fn a_word_is_one_token_only_where_all_tokenizers_split_around_it() {
        assert_eq!(most_tokens(" people people\n people."), 5);
        for text in ["'people", ".people", " people\u{301}", "\u{e9}people", " people's"] {
            let bytes = text.len() as u64;
            assert!(
                (3..=bytes).contains(&most_tokens(text)),
                "{text:?}: {}",
                most_tokens(text)
            );
        }
    }

    #[test]
    fn the_bound_is_never_above_the_bytes_and_never_zero() {
        let parts = [
            "(", "the", " ", "  ", "9", "é", "好", "\n", "\t", "'", "re", "//", "Q", "\u{301}",
        ];
        for a in parts {
            for b in parts {
                for c in parts {
                    let text = format!("{a}{b}{c}").repeat(8);
                    assert!((1..=text.len() as u64).contains(&most_tokens(&text)), "{text:?}");
                }
            }
        }
    }
}
