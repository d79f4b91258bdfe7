//! JSON Schemas on their way to a model, and its replies on their way back.
//!
//! [`check`] says whether a task's schema can be used at all, [`fit`] rewrites it into what a vendor's structured output
//! takes, and [`accept`] validates the reply against the schema *as the task wrote it*: whatever a vendor cannot enforce
//! while the model writes is enforced here.
//!
//! Bounds, because both the schema and, through the prompt, the reply can come from a plugin: the bytes, levels, values
//! and references of a schema; the number, length and compiled size of its patterns, which run on an engine whose time
//! grows linearly with the text; the bytes of a reply, and the steps that it takes to hold it against the schema. A
//! reference is followed only inside the schema, never fetched. `docs/limits.md` has the figures.

mod accept;
mod fit;
mod patterns;
mod steps;
mod walk;

pub use accept::Checker;
pub use accept::accept;
pub use fit::{Dialect, fit};
pub(super) use walk::{resolve, types};

use serde_json::Value;

use agenthost_core::weaken::{self, Defence};

/// How deep a schema or a reply may be nested.
pub const MAX_DEPTH: usize = 128;
/// The bytes of a schema's text: 50 times that of a large type. It is parsed on the way to the model, so this bounds time.
const MAX_BYTES: usize = 256 * 1024;
/// The JSON values in a schema: each takes up to a hundred bytes, and some hundred more once compiled.
const MAX_NODES: u64 = 20_000;
/// The references in a schema, which a compiler follows one into the other.
const MAX_REFERENCES: u64 = 2_000;

/// Reads the text of a schema. Cheap: what takes time is left to [`Checker::new`].
///
/// # Errors
///
/// Invalid JSON, or a bound that the text exceeds.
#[doc(hidden)]
pub fn read(text: &str) -> Result<Value, String> {
    if text.len() > MAX_BYTES && !weaken::off(Defence::SchemaBounds) {
        return Err(format!("the schema is longer than {MAX_BYTES} bytes"));
    }
    // serde_json refuses more than 128 levels by itself.
    let schema = serde_json::from_str(text).map_err(|error| format!("the schema is invalid JSON: {error}"))?;
    within(&schema)?;
    Ok(schema)
}

/// Refuses a schema that is too deep, or has too many values or references.
fn within(schema: &Value) -> Result<(), String> {
    if weaken::off(Defence::SchemaBounds) {
        return Ok(());
    }
    let (mut values, mut references) = (0, 0);
    let mut open = vec![(schema, 1)];
    while let Some((value, depth)) = open.pop() {
        values += 1;
        if values > MAX_NODES {
            return Err(format!("the schema has more than {MAX_NODES} values"));
        }
        if depth > MAX_DEPTH {
            return Err(format!("the schema is nested deeper than {MAX_DEPTH} levels"));
        }
        match value {
            Value::Object(members) => {
                references += u64::from(members.get("$ref").is_some_and(Value::is_string));
                if references > MAX_REFERENCES {
                    return Err(format!("the schema has more than {MAX_REFERENCES} references"));
                }
                open.extend(members.values().map(|member| (member, depth + 1)));
            }
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            _ => {}
        }
    }
    Ok(())
}

/// The number of JSON values in `value`, itself included.
fn nodes(value: &Value) -> u64 {
    let mut count = 0;
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        count += 1;
        match value {
            Value::Object(members) => open.extend(members.values()),
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    count
}

/// `text`, cut off after `most` characters.
fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Whether `schema` is a JSON Schema that replies can be held against.
///
/// ```
/// use agenthost_providers::schema::check;
/// use serde_json::json;
///
/// assert_eq!(check(&json!({"type": "string"})), Ok(()));
/// assert!(check(&json!({"type": "text"})).is_err());
/// ```
///
/// # Errors
///
/// What is wrong with it: not a JSON object, beyond a bound, not valid as a schema, a reference that leads out of it or in
/// a circle, a pattern with look-around.
pub fn check(schema: &Value) -> Result<(), String> {
    Checker::new(schema).map(|_| ())
}

/// The system text that asks for a reply by `schema`, for a schema that [`fit`] cannot rewrite: `system` first.
#[doc(hidden)]
pub fn instruct(system: Option<&str>, schema: &Value) -> String {
    let asked = format!("Reply with one JSON value and nothing else. It must satisfy this JSON Schema:\n{schema}");
    match system {
        Some(system) if !system.is_empty() => format!("{system}\n\n{asked}"),
        _ => asked,
    }
}

#[cfg(test)]
mod tests;
