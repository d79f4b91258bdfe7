//! Estimates the cost of a schema's patterns from their syntax, before any of them is compiled.
//!
//! A regular expression of a few bytes can compile to megabytes, because counted repetitions are written out. The
//! number of states bounds both the memory of a compiled pattern and the time per byte of text, because the engine
//! visits each state at most once per byte.

use std::collections::HashMap;

use regex_syntax::hir::{Class, Hir, HirKind};
use serde_json::Value;

use super::excerpt::shortened;

/// The maximum number of patterns in one schema: far more than a schema of a type has.
const MAX_PATTERNS: usize = 256;
/// The maximum length of one pattern in bytes: longer ones are lists of words, for which `enum` is better.
const MAX_PATTERN_BYTES: usize = 4 * 1024;
/// The maximum number of states of one compiled pattern: about half a megabyte.
const MAX_PATTERN_STATES: u64 = 10_000;
/// The maximum number of states of all patterns of a schema together: a few megabytes.
const MAX_STATES: u64 = 50_000;

/// The states of each pattern of a schema, by its text.
#[derive(Debug, Default)]
pub(super) struct Patterns(HashMap<String, u64>);

impl Patterns {
    /// Collects the patterns of `root`, wherever they are. Returns an error with the bound that they exceed.
    pub(super) fn of(root: &Value) -> Result<Self, String> {
        let mut patterns = Self::default();
        let (mut count, mut sum) = (0, 0_u64);
        let mut open = vec![root];
        while let Some(value) = open.pop() {
            let Value::Object(members) = value else {
                open.extend(value.as_array().into_iter().flatten());
                continue;
            };
            open.extend(members.values());
            let own = members.get("pattern").and_then(Value::as_str);
            let names = members.get("patternProperties").and_then(Value::as_object);
            for pattern in own
                .into_iter()
                .chain(names.into_iter().flat_map(|all| all.keys().map(String::as_str)))
            {
                count += 1;
                if count > MAX_PATTERNS {
                    return Err(format!("the schema has more than {MAX_PATTERNS} patterns"));
                }
                if pattern.len() > MAX_PATTERN_BYTES {
                    return Err(format!(
                        "a pattern of the schema is longer than {MAX_PATTERN_BYTES} bytes"
                    ));
                }
                // Each occurrence is compiled separately.
                let states = patterns.0.get(pattern).copied().unwrap_or_else(|| states(pattern));
                if states > MAX_PATTERN_STATES {
                    return Err(format!(
                        "the pattern {} compiles to more than {MAX_PATTERN_STATES} states; repeat less",
                        shortened(pattern, 60)
                    ));
                }
                sum = sum.saturating_add(states);
                if sum > MAX_STATES {
                    return Err(format!(
                        "the schema's patterns compile to more than {MAX_STATES} states together"
                    ));
                }
                patterns.0.insert(pattern.to_owned(), states);
            }
        }
        Ok(patterns)
    }

    /// Returns the number of states of `pattern`.
    pub(super) fn states(&self, pattern: &str) -> u64 {
        self.0.get(pattern).copied().unwrap_or(MAX_PATTERN_STATES)
    }

    /// Returns the number of states of all patterns.
    pub(super) fn sum(&self) -> u64 {
        self.0.values().sum()
    }
}

/// Returns a high estimate of the states of `pattern`. If its syntax is unknown here, returns the allowed maximum: then
/// the size limit of the engine bounds it, or the engine rejects it too.
fn states(pattern: &str) -> u64 {
    regex_syntax::parse(&ascii_classes(pattern)).map_or(MAX_PATTERN_STATES, |hir| size(&hir))
}

/// Rewrites `\d` and `\w` in `pattern` to ASCII classes, which is their meaning in JSON Schema.
fn ascii_classes(pattern: &str) -> String {
    let mut text = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('d') => text.push_str("[0-9]"),
            Some('w') => text.push_str("[0-9A-Za-z_]"),
            Some('D') => text.push_str("[^0-9]"),
            Some('W') => text.push_str("[^0-9A-Za-z_]"),
            Some(other) => text.extend(['\\', other]),
            None => text.push('\\'),
        }
    }
    text
}

/// Estimates the states of `hir`. The parser bounds its nesting.
fn size(hir: &Hir) -> u64 {
    match hir.kind() {
        HirKind::Empty => 0,
        HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len() as u64,
        // Ranges of ASCII share a state; the others expand to up to four bytes each.
        HirKind::Class(Class::Unicode(class)) => {
            1 + 3 * class.ranges().iter().filter(|range| !range.end().is_ascii()).count() as u64
        }
        HirKind::Class(Class::Bytes(_)) => 1,
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or_else(|| repetition.min.saturating_add(1));
            // An expression that may match nothing still takes a state per repetition.
            size(&repetition.sub).max(1).saturating_mul(u64::from(times.max(1)))
        }
        HirKind::Capture(capture) => size(&capture.sub).saturating_add(2),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().fold(1, |sum, part| size(part).saturating_add(sum))
        }
    }
}
