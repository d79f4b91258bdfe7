//! Prepares JSON Schemas for a model, and validates its replies.
//!
//! [`check`] validates a task's schema, [`fit`] rewrites it for a vendor's structured output, and [`accept`] validates
//! the reply against the schema *as the task wrote it*: constraints that a vendor cannot enforce while the model
//! generates are enforced here.
//!
//! The input is bounded, because both the schema and, through the prompt, the reply can come from a plugin: the bytes,
//! levels, values and references of a schema; the number, length and compiled size of its patterns, which run on an
//! engine whose time grows linearly with the text; the bytes of a reply, and the number of validation steps. A
//! reference is followed only inside the schema, never fetched. `docs/limits.md` lists the figures.

mod accept;
mod find;
mod fit;
mod patterns;
mod steps;
mod walk;

pub use accept::{Accepted, Around, Checker, Unfit, accept};
pub use fit::{Dialect, fit};
pub(super) use walk::{resolve, types};

use serde_json::Value;

use agenthost_core::weaken::{self, Defence};

/// The maximum nesting depth of a schema or a reply.
pub const MAX_DEPTH: usize = 128;
/// The maximum size of a schema's text: 50 times that of a large type. It is parsed on the way to the model, so this
/// bounds time.
const MAX_BYTES: usize = 256 * 1024;
/// The maximum number of JSON values in a schema: each takes up to a hundred bytes, and some hundred more once
/// compiled.
const MAX_NODES: u64 = 20_000;
/// The maximum number of references in a schema, which a compiler follows one into another.
const MAX_REFERENCES: u64 = 2_000;

/// Parses the text of a schema. This is cheap: [`Checker::new`] does the expensive checks.
///
/// # Errors
///
/// Returns an error if the JSON is invalid or the text exceeds a bound.
#[doc(hidden)]
pub fn read(text: &str) -> Result<Value, String> {
    if text.len() > MAX_BYTES && !weaken::off(Defence::SchemaBounds) {
        return Err(format!("the schema is longer than {MAX_BYTES} bytes"));
    }
    // serde_json itself rejects more than 128 levels.
    let schema = serde_json::from_str(text).map_err(|error| format!("the schema is invalid JSON: {error}"))?;
    within(&schema)?;
    Ok(schema)
}

/// Rejects a schema that is too deep, or has too many values or references.
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

/// The number of JSON values in `value`, including itself.
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

/// Truncates `text` after `most` characters.
fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Checks that `schema` is a JSON Schema that replies can be validated against.
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
/// Returns the reason if the schema is not a JSON object, exceeds a bound, is not a valid schema, contains a reference
/// that leads out of it or in a circle, or has a pattern with look-around.
pub fn check(schema: &Value) -> Result<(), String> {
    Checker::new(schema).map(|_| ())
}

/// Returns `system` followed by text that asks for a reply that satisfies `schema`, for a schema that [`fit`] cannot
/// rewrite.
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
