//! The bounds of a schema: its bytes, levels, values and references.

use serde_json::Value;

use agenthost_core::weaken::{self, Defence};

/// The maximum nesting depth of a schema or a reply.
pub const MAX_DEPTH: usize = 128;
/// The maximum size of a schema's text: 50 times that of a large type. It is parsed on the way to the model, so this
/// bounds time.
pub(super) const MAX_BYTES: usize = 256 * 1024;
/// The maximum number of JSON values in a schema: each takes up to a hundred bytes, and some hundred more once
/// compiled.
const MAX_NODES: u64 = 20_000;
/// The maximum number of references in a schema, which a compiler follows one into another.
const MAX_REFERENCES: u64 = 2_000;

/// Rejects a schema that is too deep, or has too many values or references.
pub(super) fn within(schema: &Value) -> Result<(), String> {
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
pub(super) fn nodes(value: &Value) -> u64 {
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
