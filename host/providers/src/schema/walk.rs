//! Reads a schema: its references, its types, and the parts that would make a validator run away, which are circular
//! references and unions that multiply the work with every level of the reply.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::bounds;

/// The maximum number of sub-schemas that apply to one value before its members are visited. Real schemas stay far
/// below; a chain of unions of unions doubles it with every link.
const MAX_ALTERNATIVES: u64 = 1_000;

/// The maximum number of consecutive references and unions before a member is visited.
const MAX_CHAIN: usize = 32;
/// The number of times that `unevaluatedProperties` and `unevaluatedItems` make a validator visit the parts next to
/// them: once for the value and twice for what is evaluated, measured at 2.8 per level.
pub(super) const UNEVALUATED_FACTOR: u64 = 3;

/// Returns the target of `schema`'s chain of local references; `None` if one leads out of `root` or in a circle.
pub(crate) fn resolve<'a>(root: &'a Value, schema: &'a Value) -> Option<&'a Value> {
    let mut schema = schema;
    for _ in 0..bounds::MAX_DEPTH {
        match schema.get("$ref") {
            None => return Some(schema),
            Some(target) => schema = target_of(root, target.as_str()?)?,
        }
    }
    None
}

/// Returns the target of the local reference `target`: `#`, or a JSON pointer after `#`.
pub(super) fn target_of<'a>(root: &'a Value, target: &str) -> Option<&'a Value> {
    let pointer = target.strip_prefix('#')?;
    if pointer.contains('%') {
        None
    } else {
        root.pointer(pointer)
    }
}

/// Returns the types that `schema` names; empty if it names none.
pub(crate) fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Returns whether `null` can satisfy `schema`. Returns true if this cannot be determined.
pub(crate) fn allows_null(root: &Value, schema: &Value) -> bool {
    allows_null_within(root, schema, bounds::MAX_DEPTH)
}

fn allows_null_within(root: &Value, schema: &Value, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return true };
    let Value::Object(keywords) = schema else {
        return schema != &Value::Bool(false);
    };
    let any = |branches: &Value| {
        branches
            .as_array()
            .is_none_or(|all| all.iter().any(|branch| allows_null_within(root, branch, depth)))
    };
    keywords.iter().all(|(keyword, value)| match keyword.as_str() {
        "type" => types(schema).contains(&"null"),
        "const" => value.is_null(),
        "enum" => value.as_array().is_none_or(|cases| cases.iter().any(Value::is_null)),
        "anyOf" | "oneOf" => any(value),
        "allOf" => value
            .as_array()
            .is_none_or(|all| all.iter().all(|branch| allows_null_within(root, branch, depth))),
        "$ref" => value
            .as_str()
            .and_then(|target| target_of(root, target))
            .is_none_or(|target| allows_null_within(root, target, depth)),
        _ => true,
    })
}

/// Refuses what would make a validator run away on one value: a reference that leads back to itself without visiting a
/// member, and unions that multiply. Also refuses references that are not local, and a part with an identifier of its
/// own, because references below it would have another meaning for the validator than for this module.
pub(super) fn bounded(root: &Value) -> Result<(), String> {
    let mut known = HashMap::new();
    let mut seen = HashSet::new();
    let mut open = vec![root];
    while let Some(schema) = open.pop() {
        if seen.insert(std::ptr::from_ref(schema)) {
            if !std::ptr::eq(schema, root)
                && ["$id", "id"]
                    .iter()
                    .any(|id| schema.get(id).is_some_and(Value::is_string))
            {
                return Err("a part of the schema has an identifier of its own; only the root may have one".to_owned());
            }
            alternatives(root, schema, &mut known, 0)?;
            open.extend(parts(schema));
            // A reference may lead to a place that is not itself part of a schema.
            open.extend(
                schema
                    .get("$ref")
                    .and_then(Value::as_str)
                    .and_then(|target| target_of(root, target)),
            );
        }
    }
    Ok(())
}

/// The keywords whose sub-schemas apply to the value itself.
pub(super) const IN_PLACE: [&str; 8] = [
    "anyOf",
    "oneOf",
    "allOf",
    "not",
    "if",
    "then",
    "else",
    "dependentSchemas",
];

/// Returns the sub-schemas in `schema`'s keywords, without following references.
fn parts(schema: &Value) -> Vec<&Value> {
    let mut parts = Vec::new();
    for (keyword, value) in schema.as_object().into_iter().flatten() {
        match (keyword.as_str(), value) {
            (
                "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas" | "dependencies",
                Value::Object(all),
            ) => {
                parts.extend(all.values());
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems" | "items", Value::Array(all)) => parts.extend(all),
            (
                "items"
                | "additionalItems"
                | "additionalProperties"
                | "unevaluatedItems"
                | "unevaluatedProperties"
                | "contains"
                | "propertyNames"
                | "not"
                | "if"
                | "then"
                | "else"
                | "contentSchema",
                part,
            ) => parts.push(part),
            _ => {}
        }
    }
    parts
}

/// Returns the number of sub-schemas that apply to the same value as `schema`, including itself. `known` contains
/// `None` for every schema that is being counted, which reveals a circle.
fn alternatives(
    root: &Value,
    schema: &Value,
    known: &mut HashMap<*const Value, Option<u64>>,
    depth: usize,
) -> Result<u64, String> {
    if depth > MAX_CHAIN {
        return Err(format!(
            "the schema's references and unions are nested deeper than {MAX_CHAIN} levels"
        ));
    }
    let Value::Object(keywords) = schema else { return Ok(1) };
    match known.get(&std::ptr::from_ref(schema)) {
        Some(Some(count)) => return Ok(*count),
        Some(None) => return Err("a reference of the schema leads in a circle".to_owned()),
        None => {}
    }
    known.insert(std::ptr::from_ref(schema), None);
    let mut count = 1_u64;
    for (keyword, value) in keywords {
        let more = match (keyword.as_str(), value) {
            ("$ref", Value::String(target)) => {
                let target = target_of(root, target)
                    .ok_or_else(|| format!("the schema's reference {target:?} leads to no place inside it"))?;
                alternatives(root, target, known, depth + 1)?
            }
            ("$dynamicRef" | "$recursiveRef", Value::String(_)) => {
                return Err(format!("the schema uses {keyword}; use $ref"));
            }
            (name, Value::Array(all)) if IN_PLACE.contains(&name) => {
                let mut sum = 0_u64;
                for branch in all {
                    sum = sum.saturating_add(alternatives(root, branch, known, depth + 1)?);
                }
                sum
            }
            ("dependentSchemas" | "dependencies", Value::Object(all)) => {
                let mut sum = 0_u64;
                for branch in all.values() {
                    sum = sum.saturating_add(alternatives(root, branch, known, depth + 1)?);
                }
                sum
            }
            (name, branch @ Value::Object(_)) if IN_PLACE.contains(&name) => {
                alternatives(root, branch, known, depth + 1)?
            }
            _ => 0,
        };
        count = count.saturating_add(more);
    }
    if ["unevaluatedProperties", "unevaluatedItems"]
        .iter()
        .any(|name| keywords.contains_key(*name))
    {
        count = count.saturating_mul(UNEVALUATED_FACTOR);
    }
    if count > MAX_ALTERNATIVES {
        return Err(format!(
            "the schema holds one value against more than {MAX_ALTERNATIVES} alternatives"
        ));
    }
    known.insert(std::ptr::from_ref(schema), Some(count));
    Ok(count)
}
