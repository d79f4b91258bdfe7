//! Holding a reply against the schema.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use super::walk::{affordable, allows_null, bounded, resolve, types};

/// How many faults of a reply are named: enough for a model to repair it, short enough for a person.
const NAMED_FAULTS: usize = 3;
/// Bytes that one compiled pattern may take.
const PATTERN_SIZE: usize = 1 << 20;

/// Reads the JSON value in `text` and validates it against `schema`.
///
/// White space around the value and one Markdown fence are taken off. A `null` for a property that is optional and
/// allows none is dropped first: a vendor's strict mode knows no other way to leave a property out.
///
/// ```
/// use agenthost::llm::schema::accept;
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
/// What is wrong, each fault with its path: `/findings/0/claim: value is not of type "string"`.
pub fn accept(schema: &Value, text: &str) -> Result<Value, String> {
    let validator = validator(schema)?;
    // serde_json refuses more than 128 levels by itself.
    let mut value = serde_json::from_str::<Value>(unfenced(text)).map_err(|error| format!("no JSON: {error}"))?;
    affordable(schema, &value)?;
    drop_nulls(schema, schema, &mut value, 0);
    let mut faults: Vec<String> = Vec::new();
    for error in validator.iter_errors(&value).take(NAMED_FAULTS) {
        let path = error.instance_path().to_string();
        faults.push(format!(
            "{}: {}",
            if path.is_empty() { "/" } else { &path },
            error.masked()
        ));
    }
    if faults.is_empty() {
        Ok(value)
    } else {
        Err(faults.join("; "))
    }
}

pub(super) fn validator(schema: &Value) -> Result<Validator, String> {
    if !schema.is_object() {
        return Err("the schema is no JSON object".to_owned());
    }
    bounded(schema)?;
    jsonschema::options()
        .offline()
        .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_SIZE))
        .build(schema)
        .map_err(|error| {
            let path = error.instance_path().to_string();
            format!(
                "not a usable JSON Schema: {}: {error}",
                if path.is_empty() { "/" } else { &path }
            )
        })
}

/// `text` without the white space and the one Markdown fence around it.
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
            let required = schema.get("required").and_then(Value::as_array);
            let optional = |name: &str| required.is_none_or(|names| names.iter().all(|known| known != name));
            members.retain(|name, member| {
                let refused = |property: &Value| !allows_null(root, property);
                !(member.is_null() && optional(name) && properties.get(name).is_some_and(refused))
            });
            for (name, member) in members {
                if let Some(property) = properties.get(name) {
                    drop_nulls(root, property, member, depth + 1);
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

/// Whether `value` looks like one of `branch`: the right type, the right tags, every required member there. Only picks
/// the branch in which nulls are dropped; the validator has the last word.
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
    let properties = branch.get("properties").and_then(Value::as_object);
    let required = branch.get("required").and_then(Value::as_array).into_iter().flatten();
    let closed = branch.get("additionalProperties") == Some(&Value::Bool(false));
    required
        .filter_map(Value::as_str)
        .all(|name| members.contains_key(name))
        && members
            .iter()
            .all(|(name, member)| match properties.and_then(|known| known.get(name)) {
                Some(property) => {
                    property.get("const").is_none_or(|tag| tag == member)
                        && property
                            .get("enum")
                            .and_then(Value::as_array)
                            .is_none_or(|tags| tags.contains(member) || member.is_null())
                }
                None => !closed,
            })
}
