//! The words of errors: names of types and JSON values, and the names that would have been right.

use serde_json::Value as Json;
use wasmtime::component::Type;

use agenthost_core::nearest::nearest;

use super::{Path, ValueError};

/// The longest name that can be a typing mistake. Comparing names takes time in proportion to the square of their
/// length.
const MAX_TYPED: usize = 64;

/// The maximum number of choices that an error lists.
const MAX_CHOICES: usize = 12;

pub(super) fn expected(word: &str, json: &Json, at: &Path<'_>) -> ValueError {
    at.mismatch(format!("expected {word}, found {}", found(json)))
}

pub(super) fn found(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "list",
        Json::Object(_) => "object",
    }
}

pub(super) fn word(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::S8 => "s8",
        Type::U8 => "u8",
        Type::S16 => "s16",
        Type::U16 => "u16",
        Type::S32 => "s32",
        Type::U32 => "u32",
        Type::S64 => "s64",
        Type::U64 => "u64",
        Type::Float32 => "f32",
        Type::Float64 => "f64",
        Type::Char => "char",
        Type::String => "string",
        Type::List(_) | Type::FixedLengthList(_) => "list",
        Type::Map(_) => "map",
        Type::Record(_) => "record",
        Type::Tuple(_) => "tuple",
        Type::Variant(_) => "variant",
        Type::Enum(_) => "enum",
        Type::Option(_) => "option",
        Type::Result(_) => "result",
        Type::Flags(_) => "flags",
        Type::Own(_) | Type::Borrow(_) => "resource handle",
        Type::Future(_) => "future",
        Type::Stream(_) => "stream",
        Type::ErrorContext => "error-context",
    }
}

pub(super) fn unknown<'t>(what: &str, name: &str, known: impl Iterator<Item = &'t str>, at: &Path<'_>) -> ValueError {
    let known: Vec<_> = known.collect();
    let near = nearest(name, known.iter().copied())
        .map(|near| format!("; the nearest is `{near}`"))
        .unwrap_or_default();
    at.mismatch(format!(
        "unknown {what} {}; the {what}s are {}{near}",
        quoted(name),
        choices(known.into_iter())
    ))
}

pub(super) fn choices<'t>(known: impl Iterator<Item = &'t str>) -> String {
    let mut text = String::new();
    let mut more = 0_usize;
    for (index, name) in known.enumerate() {
        if index >= MAX_CHOICES {
            more += 1;
            continue;
        }
        let comma = if index == 0 { "" } else { ", " };
        text.push_str(comma);
        text.push_str(&quoted(name));
    }
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// Quotes a name in backquotes, escapes characters that a terminal acts on, and cuts the name to a length that fits in
/// a line.
pub(super) fn quoted(name: &str) -> String {
    let mut shown = String::from("`");
    let mut chars = name.chars();
    for char in chars.by_ref().take(MAX_TYPED) {
        match char {
            '"' | '\'' | '\\' => shown.push(char),
            _ => shown.extend(char.escape_debug()),
        }
    }
    shown.push_str(if chars.next().is_some() { "…`" } else { "`" });
    shown
}
