//! Finds the JSON values in the text of a reply.
//!
//! Models write words, headings and Markdown fences around the value that they were asked for. Objects and arrays are
//! found wherever they are; other values only if they are all of the text, or all of a fence. The search never looks
//! *into* a value, sound or broken: a part of the answer may satisfy a recursive schema, but it is not the answer.
//!
//! The work is linear in the length of the text, times a constant.

use std::ops::Range;

use crate::reasoning::Opaque;

/// The maximum nesting depth of a value; serde_json has the same.
const DEPTH: usize = 128;
/// The maximum number of bytes that a search visits, per byte of the text: every bracket in prose may be the start of a
/// value.
const VISITS: usize = 64;

/// The values in a text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Values {
    /// The places of the objects and arrays that are closed.
    pub(super) closed: Vec<Range<usize>>,
    /// The places at which tags do not count.
    pub(super) opaque: Opaque,
    /// `true` if there is a value with a fault in it.
    pub(super) broken: bool,
    /// `true` if the text ends inside a value.
    pub(super) open: bool,
}

/// Finds the objects and arrays of a text.
pub(super) fn values(text: &str) -> Values {
    let bytes = text.as_bytes();
    let mut found = Values::default();
    let mut budget = bytes.len().saturating_mul(VISITS).saturating_add(1024);
    let mut at = 0;
    while let Some(start) = position(bytes, at, |byte| matches!(byte, b'{' | b'[')) {
        let (end, scanned) = scan(bytes, start);
        budget = match budget.checked_sub(end - start) {
            Some(left) => left,
            None => {
                found.broken = true;
                return found;
            }
        };
        at = match scanned {
            Scanned::Closed => {
                found.closed.push(start..end);
                found.opaque.no_tags.push(start..end);
                found.opaque.no_lone_ends.push(start..end);
                end
            }
            Scanned::Noise => start + 1,
            Scanned::Open => {
                found.open = true;
                skip(bytes, start, &mut found.opaque)
            }
            Scanned::Broken => {
                found.broken = true;
                skip(bytes, start, &mut found.opaque)
            }
        };
    }
    found
}

/// Returns the contents of the Markdown fences in a text.
pub(super) fn fenced(text: &str) -> impl Iterator<Item = &str> {
    text.split("```").skip(1).step_by(2).map(|fence| {
        let body = fence.split_once('\n').filter(|(language, _)| {
            let word = language.trim();
            word.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
        body.map_or(fence, |(_, body)| body).trim()
    })
}

enum Scanned {
    /// A value, up to its closing bracket.
    Closed,
    /// A value that the text's end cuts off.
    Open,
    /// A value with a fault.
    Broken,
    /// A bracket in prose.
    Noise,
}

/// The next token in a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Value,
    FirstValue,
    Key,
    FirstKey,
    Colon,
    Comma,
}

/// Reads the value that begins at `start`. Returns the place at which reading ended.
fn scan(text: &[u8], start: usize) -> (usize, Scanned) {
    let mut open: Vec<u8> = Vec::new();
    let mut expected = Expected::Value;
    // Whether what was read can hardly be prose.
    let mut substance = false;
    let mut at = start;
    loop {
        let Some(byte) = text.get(at).copied() else {
            let scanned = if substance { Scanned::Open } else { Scanned::Noise };
            return (at, scanned);
        };
        let mut next = at + 1;
        expected = match (expected, byte) {
            (_, b' ' | b'\t' | b'\n' | b'\r') => expected,
            (Expected::Value | Expected::FirstValue, b'{') => {
                open.push(byte);
                Expected::FirstKey
            }
            (Expected::Value | Expected::FirstValue, b'[') => {
                open.push(byte);
                Expected::FirstValue
            }
            (Expected::FirstValue, b']') | (Expected::FirstKey, b'}') => {
                open.pop();
                substance = true;
                Expected::Comma
            }
            (Expected::Comma, b']' | b'}') if open.last().map(|open| open + 2) == Some(byte) => {
                open.pop();
                substance = true;
                Expected::Comma
            }
            (Expected::Comma, b',') => {
                substance = true;
                if open.last() == Some(&b'{') {
                    Expected::Key
                } else {
                    Expected::Value
                }
            }
            (Expected::Colon, b':') => {
                substance = true;
                Expected::Value
            }
            (Expected::Key | Expected::FirstKey, b'"') | (Expected::Value | Expected::FirstValue, b'"') => {
                next = match string_end(text, at) {
                    Some(end) => end,
                    None => {
                        let scanned = if substance { Scanned::Open } else { Scanned::Noise };
                        return (text.len(), scanned);
                    }
                };
                match expected {
                    Expected::Key | Expected::FirstKey => Expected::Colon,
                    _ => Expected::Comma,
                }
            }
            (Expected::Value | Expected::FirstValue, b'-' | b'0'..=b'9' | b'a'..=b'z') => {
                next = position(text, at, |byte| {
                    !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.'))
                })
                .unwrap_or(text.len());
                if !is_scalar(text.get(at..next).unwrap_or_default()) {
                    // At the end of the text, it may be the first half of one.
                    let scanned = match (substance, next == text.len()) {
                        (true, true) => Scanned::Open,
                        (true, false) => Scanned::Broken,
                        (false, _) => Scanned::Noise,
                    };
                    return (next, scanned);
                }
                Expected::Comma
            }
            _ => {
                let scanned = if substance { Scanned::Broken } else { Scanned::Noise };
                return (at, scanned);
            }
        };
        if open.len() > DEPTH {
            return (at, Scanned::Broken);
        }
        at = next;
        if open.is_empty() {
            return (at, Scanned::Closed);
        }
    }
}

fn is_scalar(word: &[u8]) -> bool {
    matches!(word, b"true" | b"false" | b"null") || serde_json::from_slice::<serde_json::Number>(word).is_ok()
}

/// Returns the end of the string that begins at `start`.
fn string_end(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Returns the end of the value with a fault that begins at `start`, and adds its place to `opaque`.
fn skip(text: &[u8], start: usize, opaque: &mut Opaque) -> usize {
    let end = closing_bracket(text, start, &mut opaque.no_tags);
    opaque.no_lone_ends.push(start..end);
    end
}

/// Returns the end of the bracket that closes the one at `start`, whatever is between them, or the end of the text. Adds
/// the strings between them to `strings`.
fn closing_bracket(text: &[u8], start: usize, strings: &mut Vec<Range<usize>>) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                let end = string_end(text, at).unwrap_or(text.len());
                strings.push(at..end);
                at = end;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    text.len()
}

fn position(text: &[u8], from: usize, is: impl Fn(u8) -> bool) -> Option<usize> {
    let found = text.get(from..)?.iter().position(|byte| is(*byte))?;
    Some(from + found)
}
