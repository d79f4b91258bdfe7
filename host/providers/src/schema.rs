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
mod bounds;
mod excerpt;
mod find;
mod fit;
mod patterns;
mod steps;
mod walk;

pub(super) use accept::without_nulls;
pub use accept::{Accepted, Around, Checker, Unfit, accept};
pub use bounds::MAX_DEPTH;
pub use fit::{Dialect, fit};
pub(super) use fit::{Fitted, Scarce, fit_counted};
pub(super) use walk::{resolve, types};

use serde_json::Value;

use self::bounds::{MAX_BYTES, within};
use agenthost_core::weaken::{self, Defence};

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
