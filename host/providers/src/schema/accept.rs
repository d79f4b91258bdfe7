//! Validates a reply against the schema.

use std::collections::HashSet;

use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

use super::patterns::Patterns;
use super::steps::steps;
use super::walk::{allows_null, bounded, resolve, types};
use agenthost_core::weaken::{self, Defence};

/// The maximum number of faults reported for a reply: enough for a model to repair it, short enough for a person.
const NAMED_FAULTS: usize = 3;
/// The maximum number of characters of one fault; a validator quotes whole lists and names from the reply.
const FAULT_CHARS: usize = 500;
/// The number of steps up to which more than the first fault is searched for, because finding all of them takes memory
/// for each.
const STEPS_FOR_FAULTS: u64 = 20_000;
/// The maximum number of bytes of one compiled pattern. The states of [`patterns`](super::patterns) are the tighter
/// bound.
const PATTERN_SIZE: usize = 1 << 20;
/// The maximum number of bytes of the engine's cache while it searches for one pattern.
const PATTERN_CACHE: usize = 128 * 1024;
/// The maximum number of bytes of a reply: ten times the longest that common models write.
const MAX_REPLY_BYTES: usize = 2 * 1024 * 1024;
/// The maximum size of a schema whose compiled form is kept: a few hundred kilobytes.
const SMALL_NODES: u64 = 2_000;
const SMALL_STATES: u64 = 2_000;

/// A compiled schema.
#[derive(Debug)]
pub struct Checker {
    schema: Value,
    patterns: Patterns,
    validator: Validator,
}

impl Checker {
    /// Compiles `schema`.
    ///
    /// # Errors
    ///
    /// Returns an error if the schema is invalid, or exceeds a bound, which the message names.
    #[doc(hidden)]
    pub fn new(schema: &Value) -> Result<Self, String> {
        if !schema.is_object() {
            return Err("the schema is not a JSON object".to_owned());
        }
        let mut patterns = Patterns::default();
        let mut options = PatternOptions::regex();
        if !weaken::off(Defence::SchemaBounds) {
            super::within(schema)?;
            bounded(schema)?;
            patterns = Patterns::of(schema)?;
            options = options.size_limit(PATTERN_SIZE).dfa_size_limit(PATTERN_CACHE);
        }
        let validator = jsonschema::options()
            .offline()
            .with_pattern_options(options)
            .build(schema)
            .map_err(|error| {
                let path = error.instance_path().to_string();
                let path = if path.is_empty() { "/" } else { &path };
                let why = super::shortened(&error.to_string(), FAULT_CHARS);
                format!(
                    "not a usable JSON Schema: {}: {why}",
                    super::shortened(path, FAULT_CHARS)
                )
            })?;
        Ok(Self {
            schema: schema.clone(),
            patterns,
            validator,
        })
    }

    /// Returns whether the compiled schema takes little memory.
    pub fn is_small(&self) -> bool {
        super::nodes(&self.schema) <= SMALL_NODES && self.patterns.sum() <= SMALL_STATES
    }

    /// Validates a reply like [`accept`].
    ///
    /// # Errors
    ///
    /// Returns the faults of the reply.
    pub fn accept(&self, text: &str) -> Result<Value, String> {
        if text.len() > MAX_REPLY_BYTES {
            return Err(format!("the reply is longer than {MAX_REPLY_BYTES} bytes"));
        }
        let schema = &self.schema;
        // serde_json itself rejects more than 128 levels.
        let mut value = serde_json::from_str::<Value>(unfenced(text)).map_err(|error| format!("no JSON: {error}"))?;
        let steps = steps(schema, &self.patterns, &value)?;
        drop_nulls(schema, schema, &mut value, 0);
        if self.validator.is_valid(&value) {
            return Ok(value);
        }
        let faults: Vec<String> = if steps <= STEPS_FOR_FAULTS {
            let faults = self.validator.iter_errors(&value).take(NAMED_FAULTS);
            faults.map(|fault| named(&fault)).collect()
        } else {
            self.validator.validate(&value).err().iter().map(named).collect()
        };
        Err(faults.join("; "))
    }
}

/// Formats a fault with its place.
fn named(fault: &ValidationError<'_>) -> String {
    let path = fault.instance_path().to_string();
    let path = if path.is_empty() { "/" } else { &path };
    format!(
        "{}: {}",
        super::shortened(path, FAULT_CHARS),
        super::shortened(&fault.masked().to_string(), FAULT_CHARS)
    )
}

/// Reads the JSON value in `text` and validates it against `schema`.
///
/// White space around the value and one Markdown fence are removed. A `null` for an optional property that does not
/// allow it is dropped first, because a vendor's strict mode has no other way to omit a property.
///
/// ```
/// use agenthost_providers::schema::accept;
/// use serde_json::json;
///
/// let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
/// assert_eq!(accept(&schema, "```json\n{\"n\": 3}\n```"), Ok(json!({"n": 3})));
/// let fault = accept(&schema, r#"{"n": "three"}"#).unwrap_err();
/// assert!(fault.starts_with("/n: "), "{fault}");
/// ```
///
/// # Errors
///
/// Returns the faults, each with its path: `/findings/0/claim: value is not of type "string"`.
pub fn accept(schema: &Value, text: &str) -> Result<Value, String> {
    Checker::new(schema)?.accept(text)
}

/// Returns `text` without the white space and the one Markdown fence around it.
fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let inside = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    match inside.and_then(|inside| inside.split_once('\n')) {
        Some((language, body)) if matches!(language.trim(), "" | "json" | "JSON") => body.trim(),
        _ => text,
    }
}

fn drop_nulls(root: &Value, schema: &Value, value: &mut Value, depth: usize) {
    if depth > super::MAX_DEPTH {
        return;
    }
    let Some(schema) = resolve(root, schema) else { return };
    for keyword in ["anyOf", "oneOf"] {
        if let Some(branches) = schema.get(keyword).and_then(Value::as_array)
            && let Some(branch) = branches.iter().find(|branch| resembles(root, branch, value))
        {
            drop_nulls(root, branch, value, depth + 1);
        }
    }
    for branch in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        drop_nulls(root, branch, value, depth + 1);
    }
    match value {
        Value::Object(members) => {
            let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
                return;
            };
            if members.values().any(Value::is_null) {
                let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
                let required: HashSet<&str> = required.filter_map(Value::as_str).collect();
                members.retain(|name, member| {
                    let refused = |property: &Value| !allows_null(root, property);
                    let optional = !required.contains(name.as_str());
                    !(member.is_null() && optional && properties.get(name).is_some_and(refused))
                });
            }
            if properties.len() < members.len() {
                for (name, property) in properties {
                    if let Some(member) = members.get_mut(name) {
                        drop_nulls(root, property, member, depth + 1);
                    }
                }
            } else {
                for (name, member) in members {
                    if let Some(property) = properties.get(name) {
                        drop_nulls(root, property, member, depth + 1);
                    }
                }
            }
        }
        Value::Array(items) => {
            let prefix = schema.get("prefixItems").and_then(Value::as_array);
            for (index, item) in items.iter_mut().enumerate() {
                let own = prefix
                    .and_then(|prefix| prefix.get(index))
                    .or_else(|| schema.get("items"));
                if let Some(own) = own {
                    drop_nulls(root, own, item, depth + 1);
                }
            }
        }
        _ => {}
    }
}

/// Returns whether `value` looks like a value of `branch`: the right type, the right tags, all required members. This
/// only selects the branch in which nulls are dropped; the validator decides.
fn resembles(root: &Value, branch: &Value, value: &Value) -> bool {
    let Some(branch) = resolve(root, branch) else {
        return false;
    };
    let type_name = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let named = types(branch);
    if !(named.is_empty() || named.contains(&type_name) || (type_name == "number" && named.contains(&"integer"))) {
        return false;
    }
    let Value::Object(members) = value else { return true };
    let required = branch.get("required").and_then(Value::as_array).into_iter().flatten();
    if !required
        .filter_map(Value::as_str)
        .all(|name| members.contains_key(name))
    {
        return false;
    }
    let closed = branch.get("additionalProperties") == Some(&Value::Bool(false));
    let Some(properties) = branch.get("properties").and_then(Value::as_object) else {
        return !closed || members.is_empty();
    };
    // There can be many branches and many members, so the smaller side is gone through.
    if properties.len() < members.len() {
        // At least one member is not known.
        !closed
            && properties
                .iter()
                .all(|(name, property)| members.get(name).is_none_or(|member| has_tag(property, member)))
    } else {
        members.iter().all(|(name, member)| match properties.get(name) {
            Some(property) => has_tag(property, member),
            None => !closed,
        })
    }
}

/// Whether `member` has the value that `property` names, if it names any.
fn has_tag(property: &Value, member: &Value) -> bool {
    property.get("const").is_none_or(|tag| tag == member)
        && property
            .get("enum")
            .and_then(Value::as_array)
            .is_none_or(|tags| tags.contains(member) || member.is_null())
}
