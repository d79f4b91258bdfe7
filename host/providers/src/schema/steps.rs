//! Counts the work of validating one reply against a schema before it is done, because a validator cannot be
//! interrupted.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::bounds;
use super::patterns::Patterns;
use super::walk::{IN_PLACE, UNEVALUATED_FACTOR, target_of};

/// The maximum number of steps for validating one reply: about a second of computing on one busy processor, and 150 MB
/// with the reply itself.
pub(super) const MAX_STEPS: u64 = 500_000;
/// The maximum nesting of those steps, which bounds the stack that they need.
const MAX_STEP_DEPTH: usize = 400;
/// The number of cheap operations (a comparison, a look-up) that cost as much as a step.
const CHEAP: u64 = 8;
/// The number of pattern states, times bytes of text, that cost as much as a step.
const STATES_PER_STEP: u64 = 64;
/// The steps for a text that has to be a pattern itself, because it is compiled.
const COMPILED_STEPS: u64 = 5_000;

/// Returns the number of steps for validating `value` against `root`. Counts every sub-schema against every value that
/// it may apply to, like a validator without memoization; a recursive schema that visits the same member twice doubles
/// that with every level of the reply. `root` has to be [`bounded`](super::walk::bounded).
///
/// # Errors
///
/// Returns an error if the count exceeds [`MAX_STEPS`].
pub(super) fn steps(root: &Value, patterns: &Patterns, value: &Value) -> Result<u64, String> {
    let mut count = Count {
        root,
        patterns,
        known: HashMap::new(),
        literals: HashMap::new(),
        visited: 0,
    };
    count.part(root, value, 0)
}

struct Count<'a> {
    root: &'a Value,
    patterns: &'a Patterns,
    known: HashMap<(*const Value, *const Value), u64>,
    /// The number of values in lists of literals.
    literals: HashMap<*const Value, u64>,
    /// The number of visited pairs, so that counting is bounded like the work that it counts.
    visited: u64,
}

impl Count<'_> {
    fn part(&mut self, schema: &Value, value: &Value, depth: usize) -> Result<u64, String> {
        if depth > MAX_STEP_DEPTH {
            return Err("the reply and the schema's references are nested too deep".to_owned());
        }
        self.visited += 1;
        if self.visited > MAX_STEPS {
            return Err(too_many());
        }
        let Value::Object(keywords) = schema else { return Ok(1) };
        // Plain values are cheap to count again, and would fill the memory.
        let key =
            (value.is_object() || value.is_array()).then(|| (std::ptr::from_ref(schema), std::ptr::from_ref(value)));
        if let Some(steps) = key.and_then(|key| self.known.get(&key)) {
            return Ok(*steps);
        }
        let unevaluated = keywords.contains_key("unevaluatedProperties") || keywords.contains_key("unevaluatedItems");
        let in_place = if unevaluated { UNEVALUATED_FACTOR } else { 1 };
        let mut total = 1_u64;
        for (keyword, part) in keywords {
            let more = self.keyword(keyword, part, value, depth + 1)?;
            let beside = keyword == "$ref" || IN_PLACE.contains(&keyword.as_str());
            total = total.saturating_add(if beside { more.saturating_mul(in_place) } else { more });
            if total > MAX_STEPS {
                return Err(too_many());
            }
        }
        if let Some(key) = key {
            self.known.insert(key, total);
        }
        Ok(total)
    }

    /// Returns the steps of one keyword.
    fn keyword(&mut self, keyword: &str, part: &Value, value: &Value, depth: usize) -> Result<u64, String> {
        let members = || value.as_object().into_iter().flatten();
        let items = || value.as_array().into_iter().flatten();
        let mut sum = 0_u64;
        match (keyword, part) {
            ("$ref", Value::String(target)) => {
                if let Some(target) = target_of(self.root, target) {
                    sum = self.part(target, value, depth)?;
                }
            }
            (name, Value::Array(all)) if IN_PLACE.contains(&name) => {
                sum = self.all(all.iter().map(|part| (part, value)), depth)?;
            }
            ("dependentSchemas" | "dependencies", Value::Object(all)) => {
                sum = self.all(all.values().map(|part| (part, value)), depth)?;
            }
            (name, part) if IN_PLACE.contains(&name) => sum = self.part(part, value, depth)?,
            ("properties", Value::Object(all)) => {
                if let Value::Object(members) = value {
                    sum = self.properties(all, members, depth)?;
                }
            }
            ("patternProperties", Value::Object(all)) => {
                for (name, member) in members() {
                    for (pattern, part) in all {
                        // `additionalProperties` repeats the match.
                        let matched = self.matching(name, pattern).saturating_mul(2);
                        sum = sum
                            .saturating_add(self.part(part, member, depth)?)
                            .saturating_add(matched);
                    }
                }
            }
            ("propertyNames", part) => {
                for (name, _) in members() {
                    sum = sum.saturating_add(self.part(part, &Value::String(name.clone()), depth)?);
                }
            }
            ("additionalProperties" | "unevaluatedProperties", part) => {
                sum = self.all(members().map(|(_, member)| (part, member)), depth)?;
            }
            ("prefixItems" | "items", Value::Array(all)) => {
                sum = self.all(items().zip(all).map(|(item, part)| (part, item)), depth)?;
            }
            ("items" | "contains" | "additionalItems" | "unevaluatedItems", part) => {
                sum = self.all(items().map(|item| (part, item)), depth)?;
            }
            _ => sum = self.own(keyword, part, value),
        }
        Ok(sum)
    }

    /// Returns the steps of `properties`. Looks up the names of the smaller map in the larger one, and counts both, because all
    /// members are visited again when nulls are dropped.
    fn properties(
        &mut self,
        known: &Map<String, Value>,
        members: &Map<String, Value>,
        depth: usize,
    ) -> Result<u64, String> {
        let own = (known.len() as u64 + members.len() as u64) / CHEAP;
        let parts = if known.len() < members.len() {
            let pairs = known.iter().filter_map(|(name, part)| Some((part, members.get(name)?)));
            self.all(pairs, depth)?
        } else {
            let pairs = members
                .iter()
                .filter_map(|(name, member)| Some((known.get(name)?, member)));
            self.all(pairs, depth)?
        };
        Ok(parts.saturating_add(own))
    }

    fn all<'v>(&mut self, pairs: impl Iterator<Item = (&'v Value, &'v Value)>, depth: usize) -> Result<u64, String> {
        let mut sum = 0_u64;
        for (part, value) in pairs {
            sum = sum.saturating_add(self.part(part, value, depth)?);
        }
        Ok(sum)
    }

    /// Returns the steps of a keyword without a sub-schema.
    fn own(&mut self, keyword: &str, part: &Value, value: &Value) -> u64 {
        match (keyword, part, value) {
            ("pattern", Value::String(pattern), Value::String(text)) => self.matching(text, pattern),
            ("format", Value::String(format), Value::String(text)) => {
                let compiled = if format == "regex" { COMPILED_STEPS } else { 0 };
                compiled + text.len() as u64 / STATES_PER_STEP
            }
            ("minLength" | "maxLength" | "contentMediaType" | "contentEncoding", _, Value::String(text)) => {
                text.len() as u64 / STATES_PER_STEP
            }
            ("enum" | "const", literals, _) => {
                let known = self.literals.entry(std::ptr::from_ref(literals));
                *known.or_insert_with(|| bounds::nodes(literals)) / CHEAP
            }
            // Each of them may cause a fault.
            ("required", Value::Array(names), Value::Object(_)) => names.len() as u64 / CHEAP,
            ("dependentRequired" | "dependencies", Value::Object(all), Value::Object(_)) => {
                bounds::nodes(part) / CHEAP + all.len() as u64
            }
            ("uniqueItems", Value::Bool(true), Value::Array(items)) => items.len() as u64,
            _ => 0,
        }
    }

    /// Returns the steps of searching for `pattern` in `text`.
    fn matching(&self, text: &str, pattern: &str) -> u64 {
        (text.len() as u64).saturating_mul(self.patterns.states(pattern)) / STATES_PER_STEP + 1
    }
}

fn too_many() -> String {
    format!("the reply takes more than {MAX_STEPS} steps to validate; make the schema's unions easier to tell apart")
}
