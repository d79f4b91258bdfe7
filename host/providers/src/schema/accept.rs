//! Validates a reply against the schema.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

use super::excerpt::shortened;
use super::patterns::Patterns;
use super::steps::{MAX_STEPS, steps};
use super::walk::{allows_null, bounded, resolve, types};
use super::{bounds, find};
use crate::mend;
use crate::reasoning::{self, Opening};
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
/// The maximum number of searches for reasoning in one reply.
const MAX_PASSES: usize = 4;
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
            bounds::within(schema)?;
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
                let why = shortened(&error.to_string(), FAULT_CHARS);
                format!("not a usable JSON Schema: {}: {why}", shortened(path, FAULT_CHARS))
            })?;
        Ok(Self {
            schema: schema.clone(),
            patterns,
            validator,
        })
    }

    /// Returns whether the compiled schema takes little memory.
    pub fn is_small(&self) -> bool {
        bounds::nodes(&self.schema) <= SMALL_NODES && self.patterns.sum() <= SMALL_STATES
    }

    /// Finds the value of a reply like [`accept`].
    ///
    /// # Errors
    ///
    /// Returns the faults of the reply.
    pub fn accept(&self, text: &str) -> Result<Accepted, Unfit> {
        if text.len() > MAX_REPLY_BYTES {
            return Err(Unfit::new(format!("the reply is longer than {MAX_REPLY_BYTES} bytes")));
        }
        if let Ok(value) = mend::parse(unfenced(text)) {
            return self.whole(value, text);
        }
        let mut rest = text.to_owned();
        let mut inside = String::new();
        // A broken value in a block can hide the tags of the next one.
        for _ in 0..MAX_PASSES {
            let blocks = reasoning::blocks(&rest, Opening::Anywhere, &find::values(&rest).opaque);
            if blocks.is_empty() {
                break;
            }
            let (without, more) = reasoning::split(&rest, &blocks);
            inside.push_str(&more);
            rest = without;
        }
        if inside.is_empty() {
            return self.piece(text);
        }
        let mut accepted = if is_blank(&rest) {
            // Some servers deliver the answer as reasoning. A draft in the middle of it is not one.
            let last = self.piece(&inside).ok().filter(|found| found.is_last);
            let refused = "no JSON: all of the reply is reasoning, and it does not end with the answer";
            last.ok_or_else(|| Unfit::new(refused.to_owned()))?
        } else {
            self.piece(&rest)?
        };
        accepted.around.insert(0, Around::Reasoning);
        Ok(accepted)
    }

    /// Finds the value in a text without reasoning.
    fn piece(&self, text: &str) -> Result<Accepted, Unfit> {
        match mend::parse(unfenced(text)) {
            Ok(value) => self.whole(value, text),
            Err(_) if is_blank(text) => Err(Unfit::new("no JSON: the reply is empty".to_owned())),
            Err(error) => self.search(text, &error),
        }
    }

    /// Judges a reply that is one value.
    fn whole(&self, mut value: Value, text: &str) -> Result<Accepted, Unfit> {
        let mut around = Vec::new();
        let whole = unfenced(text);
        if whole != text.trim_matches(reasoning::is_blank) {
            around.push(Around::Words);
        }
        if text.starts_with('\u{feff}') || matches!(mend::mended(whole), Cow::Owned(_)) {
            around.push(Around::Mended);
        }
        let (_, mut judged) = self.validate(&mut value);
        // A value that was written as a string.
        if judged.is_err()
            && let Value::String(text) = &value
            && let Ok(mut inner) = mend::parse(text)
            && self.validate(&mut inner).1.is_ok()
        {
            around.push(Around::Quotes);
            value = inner;
            judged = Ok(());
        }
        judged.map_err(Unfit::new)?;
        Ok(Accepted {
            value,
            around,
            is_last: true,
        })
    }

    /// Finds the one value in `text` that satisfies the schema.
    fn search(&self, text: &str, unread: &serde_json::Error) -> Result<Accepted, Unfit> {
        let found = find::values(text);
        let types = resolve(&self.schema, &self.schema).map(types).unwrap_or_default();
        let fits_type = |start: &str| {
            let name = if start.starts_with('{') { "object" } else { "array" };
            types.is_empty() || types.contains(&name)
        };
        let end = text
            .trim_end_matches(|c: char| c == '`' || reasoning::is_blank(c))
            .len();
        let closed = found
            .closed
            .iter()
            .filter_map(|range| Some((text.get(range.clone())?, range.end >= end)));
        let closed: Vec<(&str, bool)> = closed.filter(|(value, _)| fits_type(value)).collect();
        let fenced = find::fenced(text).filter(|body| !body.starts_with(['{', '[']));
        let scalars = fenced.map(|body| (body, text.get(..end).is_some_and(|text| text.ends_with(body))));

        let mut fit: Option<Accepted> = None;
        let mut faults = None;
        let mut several = false;
        let mut steps = 0;
        for (text, is_last) in closed.into_iter().chain(scalars) {
            let Ok(mut value) = mend::parse(text) else {
                faults.get_or_insert_with(|| format!("no JSON: {unread}"));
                continue;
            };
            let (taken, judged) = self.validate(&mut value);
            steps += taken;
            if steps > MAX_STEPS {
                return Err(Unfit::new(
                    "the reply has too many JSON values around its answer".to_owned(),
                ));
            }
            match judged {
                Ok(()) => match &mut fit {
                    Some(fit) if fit.value != value => several = true,
                    Some(fit) => fit.is_last |= is_last,
                    None => {
                        let mended = matches!(mend::mended(text), Cow::Owned(_));
                        fit = Some(Accepted {
                            value,
                            around: [Some(Around::Words), mended.then_some(Around::Mended)]
                                .into_iter()
                                .flatten()
                                .collect(),
                            is_last,
                        });
                    }
                },
                Err(why) => {
                    faults.get_or_insert(why);
                }
            }
        }
        if found.open {
            return Err(Unfit {
                why: format!("no JSON: {unread}"),
                is_open: true,
            });
        }
        if several {
            return Err(Unfit::new(
                "the reply has several JSON values that satisfy the schema".to_owned(),
            ));
        }
        match fit {
            // The value with the fault may be the answer.
            Some(fit) if !found.broken => Ok(fit),
            _ if found.broken => Err(Unfit::new(format!("no JSON: {unread}"))),
            _ => Err(Unfit::new(faults.unwrap_or_else(|| format!("no JSON: {unread}")))),
        }
    }

    /// Validates a value, after dropping superfluous nulls. Returns the number of steps and the faults.
    fn validate(&self, value: &mut Value) -> (u64, Result<(), String>) {
        let schema = &self.schema;
        let steps = match steps(schema, &self.patterns, value) {
            Ok(steps) => steps,
            Err(error) => return (MAX_STEPS, Err(error)),
        };
        drop_nulls(schema, schema, value, 0);
        if self.validator.is_valid(value) {
            return (steps, Ok(()));
        }
        let faults: Vec<String> = if steps <= STEPS_FOR_FAULTS {
            let faults = self.validator.iter_errors(value).take(NAMED_FAULTS);
            faults.map(|fault| named(&fault)).collect()
        } else {
            self.validator.validate(value).err().iter().map(named).collect()
        };
        (steps, Err(faults.join("; ")))
    }
}

/// The value of a reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// The value, which satisfies the schema.
    pub value: Value,
    /// The things that had to be removed to read it, without repetition.
    pub around: Vec<Around>,
    /// `true` if nothing but white space follows it.
    is_last: bool,
}

/// Something in a reply that is not part of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Around {
    /// The model's reasoning.
    Reasoning,
    /// Words or a Markdown fence.
    Words,
    /// The quotes and escapes of a JSON string that contains the value.
    Quotes,
    /// A byte order mark, raw control characters or halves of characters.
    Mended,
}

/// `reasoning`
impl fmt::Display for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reasoning => "reasoning",
            Self::Words => "words or a fence",
            Self::Quotes => "quotes",
            Self::Mended => "invalid characters",
        })
    }
}

/// The faults of a reply without a value that satisfies the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// The faults, each with its path: `/findings/0/claim: value is not of type "string"`.
    pub why: String,
    /// `true` if the text ends inside a value.
    pub is_open: bool,
}

impl Unfit {
    fn new(why: String) -> Self {
        Self { why, is_open: false }
    }
}

/// Formats a fault with its place.
fn named(fault: &ValidationError<'_>) -> String {
    let path = fault.instance_path().to_string();
    let path = if path.is_empty() { "/" } else { &path };
    format!(
        "{}: {}",
        shortened(path, FAULT_CHARS),
        shortened(&fault.masked().to_string(), FAULT_CHARS)
    )
}

/// Finds the JSON value in `text` that satisfies `schema`.
///
/// Models write words, Markdown fences and reasoning around the value, and servers break characters in it. All of this
/// is removed. A text with two different values that satisfy the schema, or with a value that has a fault, is refused:
/// a reply is never guessed. A `null` for an optional property that does not allow it is dropped first, because a
/// vendor's strict mode has no other way to omit a property.
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
    let accepted = Checker::new(schema)?.accept(text);
    accepted.map(|accepted| accepted.value).map_err(|unfit| unfit.why)
}

fn is_blank(text: &str) -> bool {
    text.chars().all(reasoning::is_blank)
}

/// Returns `text` without the white space and the one Markdown fence around it.
fn unfenced(text: &str) -> &str {
    let text = text.trim_matches(reasoning::is_blank);
    let inside = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    match inside.and_then(|inside| inside.split_once('\n')) {
        Some((language, body)) if matches!(language.trim(), "" | "json" | "JSON") => body.trim(),
        _ => text,
    }
}

/// Removes each `null` for an optional property of `schema` that does not allow it.
pub(crate) fn without_nulls(schema: &Value, value: &mut Value) {
    drop_nulls(schema, schema, value, 0);
}

fn drop_nulls(root: &Value, schema: &Value, value: &mut Value, depth: usize) {
    if depth > bounds::MAX_DEPTH {
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

/// Returns whether `member` has the value that `property` names, if it names any.
fn has_tag(property: &Value, member: &Value) -> bool {
    property.get("const").is_none_or(|tag| tag == member)
        && property
            .get("enum")
            .and_then(Value::as_array)
            .is_none_or(|tags| tags.contains(member) || member.is_null())
}
