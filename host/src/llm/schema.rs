//! JSON Schemas on their way to a model, and its replies on their way back.
//!
//! [`check`] says whether a task's schema can be used at all, [`fit`] rewrites it into what a vendor's structured output
//! takes, and [`accept`] validates the reply against the schema *as the task wrote it*: whatever a vendor cannot enforce
//! while the model writes is enforced here.
//!
//! Bounds: 128 levels of schema and of reply; a reference is followed only inside the schema, never fetched; patterns run
//! on an engine whose time grows linearly with the text, because both can come from a plugin.

mod accept;
mod fit;
mod walk;

pub use accept::accept;
pub use fit::{Dialect, fit};
pub(super) use walk::{resolve, types};

use serde_json::Value;

/// How deep a schema or a reply may be nested.
pub(crate) const MAX_DEPTH: usize = 128;

/// Whether `schema` is a JSON Schema that replies can be held against.
///
/// ```
/// use agenthost::llm::schema::check;
/// use serde_json::json;
///
/// assert_eq!(check(&json!({"type": "string"})), Ok(()));
/// assert!(check(&json!({"type": "text"})).is_err());
/// ```
///
/// # Errors
///
/// What is wrong with it: no JSON object, too deep, not valid as a schema, a reference that leads out of it or in a
/// circle, a pattern with look-around.
pub fn check(schema: &Value) -> Result<(), String> {
    accept::validator(schema).map(|_| ())
}

/// The system text that asks for a reply by `schema`, for a schema that [`fit`] cannot rewrite: `system` first.
pub(super) fn instruct(system: Option<&str>, schema: &Value) -> String {
    let asked = format!("Reply with one JSON value and nothing else. It must satisfy this JSON Schema:\n{schema}");
    match system {
        Some(system) if !system.is_empty() => format!("{system}\n\n{asked}"),
        _ => asked,
    }
}

#[cfg(test)]
mod tests;
