//! Generates a value that satisfies a schema.
//!
//! Supports the keywords that schemas of Rust and WIT types use: references, unions (the first branch that is not
//! null), literals, objects, lists, tuples, maps, bounds, lengths, formats and patterns. A recursive type is unrolled
//! twice and then kept as small as possible. `not`, `if` and similar keywords are ignored; a value for a schema that
//! depends on them may be invalid, and its task then sees a reply that does not satisfy the schema.

use serde_json::{Map, Number, Value, json};
use sha2::{Digest as _, Sha256};

use super::pattern;
use crate::schema::{resolve, types};

/// The prefix of every generated text.
pub(super) const MARK: &str = "[offline]";
/// The number of items in a list if its bounds do not determine it.
const ITEMS: u64 = 2;
/// The maximum number of items that a list's own minimum can ask for.
const MOST_ITEMS: u64 = 1_000;
/// The number of times that a reference may be nested in itself before optional values are left out.
const UNROLLED: usize = 2;
/// The maximum number of times that a reference may be nested in itself.
const DEEPEST: usize = 8;
/// The maximum number of sub-values.
const MOST_NODES: usize = 20_000;

/// Generates a value for `schema`, which is the same for the same `seed`.
pub(super) fn value(schema: &Value, seed: [u8; 32]) -> Value {
    let mut maker = Maker {
        root: schema,
        seed,
        open: Vec::new(),
        nodes: 0,
    };
    let at = At {
        name: "reply",
        path: String::new(),
        lean: false,
    };
    maker.value(schema, &at).unwrap_or(Value::Null)
}

struct Maker<'a> {
    root: &'a Value,
    seed: [u8; 32],
    /// The references that are being followed.
    open: Vec<&'a str>,
    nodes: usize,
}

/// The position of a value.
struct At<'a> {
    /// The name of the property, which is used in its texts.
    name: &'a str,
    path: String,
    /// `true` to leave out optional values.
    lean: bool,
}

impl At<'_> {
    fn below<'b>(&self, name: &'b str, step: &str) -> At<'b> {
        At {
            name,
            path: format!("{}/{step}", self.path),
            lean: self.lean,
        }
    }
}

impl<'a> Maker<'a> {
    /// Returns `None` if the schema allows no value, or none that is small enough.
    fn value(&mut self, schema: &'a Value, at: &At<'_>) -> Option<Value> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return None;
        }
        let keywords = match schema {
            Value::Object(keywords) => keywords,
            Value::Bool(false) => return None,
            _ => return Some(self.text(schema, at)),
        };
        let mut made = None;
        if let Some(target) = keywords.get("$ref").and_then(Value::as_str) {
            let unrolled = self.open.iter().filter(|open| **open == target).count();
            if unrolled >= DEEPEST {
                return None;
            }
            let inner = At {
                name: at.name,
                path: at.path.clone(),
                lean: at.lean || unrolled >= UNROLLED,
            };
            let target_schema = self.root.pointer(target.strip_prefix('#')?)?;
            self.open.push(target);
            let value = self.value(target_schema, &inner);
            self.open.pop();
            made = merge(made, value?);
        }
        if let Some(value) = keywords.get("const") {
            return Some(value.clone());
        }
        if let Some(cases) = keywords.get("enum").and_then(Value::as_array) {
            return self.pick(cases, at).cloned();
        }
        for part in keywords.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            made = merge(made, self.value(part, at)?);
        }
        for union in ["anyOf", "oneOf"] {
            if let Some(branches) = keywords.get(union).and_then(Value::as_array) {
                made = merge(made, self.branch(branches, at)?);
            }
        }
        let own = match kind(schema, made.is_some()) {
            None => return made,
            Some("object") => self.object(keywords, at)?,
            Some("array") => self.array(keywords, at)?,
            Some("integer") => self.integer(keywords, at),
            Some("number") => self.number(keywords, at),
            Some("boolean") => Value::Bool(self.chance(at).is_multiple_of(2)),
            Some("null") => Value::Null,
            Some(_) => self.text(schema, at),
        };
        merge(made, own)
    }

    /// Generates the first branch that is not null; if the value should be small, null or a branch without references
    /// comes first.
    fn branch(&mut self, branches: &'a [Value], at: &At<'_>) -> Option<Value> {
        let mut order: Vec<&Value> = branches.iter().collect();
        let is_null = |branch: &Value| {
            resolve(self.root, branch)
                .is_some_and(|branch| types(branch) == ["null"] || branch.get("const") == Some(&Value::Null))
        };
        if at.lean {
            order.sort_by_key(|branch| (!is_null(branch), branch.to_string().contains("\"$ref\"")));
        } else {
            order.sort_by_key(|branch| is_null(branch));
        }
        order.into_iter().find_map(|branch| self.value(branch, at))
    }

    fn object(&mut self, keywords: &'a Map<String, Value>, at: &At<'_>) -> Option<Value> {
        let required = keywords.get("required").and_then(Value::as_array);
        let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|known| known == name));
        let mut made = Map::new();
        for (name, property) in keywords
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            if at.lean && !is_required(name) {
                continue;
            }
            match self.value(property, &at.below(name, name)) {
                Some(value) => {
                    made.insert(name.clone(), value);
                }
                None if is_required(name) => return None,
                None => {}
            }
        }
        let least = keywords
            .get("minProperties")
            .and_then(Value::as_u64)
            .unwrap_or_default()
            .min(MOST_ITEMS);
        let free = keywords.get("additionalProperties").filter(|free| free.is_object());
        let wanted = if free.is_some() && made.is_empty() && !at.lean {
            least.max(1)
        } else {
            least
        };
        for number in 1..=wanted {
            let Some(free) = free.filter(|_| (made.len() as u64) < wanted) else {
                break;
            };
            let name = format!("offline-{number}");
            let value = self.value(free, &at.below(at.name, &name))?;
            made.insert(name, value);
        }
        Some(Value::Object(made))
    }

    fn array(&mut self, keywords: &'a Map<String, Value>, at: &At<'_>) -> Option<Value> {
        let bound = |name: &str| keywords.get(name).and_then(Value::as_u64);
        let least = bound("minItems").unwrap_or_default().min(MOST_ITEMS);
        let open = if at.lean { least } else { ITEMS.max(least) };
        let wanted = usize::try_from(open.min(bound("maxItems").unwrap_or(u64::MAX))).unwrap_or_default();
        let mut made = Vec::new();
        let prefix = keywords.get("prefixItems").and_then(Value::as_array);
        for item in prefix.into_iter().flatten() {
            let place = format!("{} {}", at.name, made.len() + 1);
            made.push(self.value(item, &at.below(&place, &made.len().to_string()))?);
        }
        let items = match keywords.get("items") {
            None if prefix.is_some() => None,
            None => Some(&Value::Bool(true)),
            items => items.filter(|items| *items != &Value::Bool(false)),
        };
        while let Some(items) = items.filter(|_| made.len() < wanted) {
            let place = format!("{} {}", at.name, made.len() + 1);
            match self.value(items, &at.below(&place, &made.len().to_string())) {
                Some(item) => made.push(item),
                None if (made.len() as u64) < least => return None,
                None => break,
            }
        }
        Some(Value::Array(made))
    }

    fn integer(&self, keywords: &Map<String, Value>, at: &At<'_>) -> Value {
        let bound = |name: &str| keywords.get(name).and_then(whole);
        let low = bound("minimum")
            .into_iter()
            .chain(bound("exclusiveMinimum").map(|low| low.saturating_add(1)))
            .max();
        let high = bound("maximum")
            .into_iter()
            .chain(bound("exclusiveMaximum").map(|high| high.saturating_sub(1)))
            .min();
        let (low, high) = match (low, high) {
            (Some(low), Some(high)) => (low, high.max(low)),
            (Some(low), None) => (low, low.saturating_add(9)),
            (None, Some(high)) => (high.saturating_sub(9).max(i64::MIN.into()).min(high), high),
            (None, None) => (1, 9),
        };
        let spread = (high - low).min(9) + 1;
        let mut value = low + i128::from(self.chance(at)) % spread;
        if let Some(step) = bound("multipleOf").filter(|step| *step > 0) {
            value = value.div_euclid(step) * step;
            if value < low {
                value += step;
            }
        }
        i64::try_from(value)
            .map(Value::from)
            .or_else(|_| u64::try_from(value).map(Value::from))
            .unwrap_or(json!(0))
    }

    fn number(&self, keywords: &Map<String, Value>, at: &At<'_>) -> Value {
        let bound = |names: [&str; 2]| {
            names
                .iter()
                .find_map(|name| keywords.get(*name).and_then(Value::as_f64))
        };
        let (low, high) = match (
            bound(["minimum", "exclusiveMinimum"]),
            bound(["maximum", "exclusiveMaximum"]),
        ) {
            (Some(low), Some(high)) => (low, high.max(low)),
            (Some(low), None) => (low, low + 1.0),
            (None, Some(high)) => (high - 1.0, high),
            (None, None) => (0.0, 1.0),
        };
        // Strictly inside, so that it does not matter whether the bounds are inclusive.
        let tenths = u32::try_from(self.chance(at) % 9).unwrap_or_default() + 1;
        let mut value = low + (high - low) * f64::from(tenths) / 10.0;
        let rounded = (value * 100.0).round() / 100.0;
        if rounded > low && rounded < high {
            value = rounded;
        }
        if let Some(step) = keywords
            .get("multipleOf")
            .and_then(Value::as_f64)
            .filter(|step| *step > 0.0)
        {
            value = (value / step).ceil() * step;
        }
        Number::from_f64(value).map_or(json!(0), Value::Number)
    }

    fn text(&self, schema: &Value, at: &At<'_>) -> Value {
        let marked = format!("{MARK} {}", at.name);
        let word = || {
            at.name
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
                .collect::<String>()
        };
        let text = match schema.get("format").and_then(Value::as_str) {
            Some("date") => "2026-01-02".to_owned(),
            Some("time") => "03:04:05Z".to_owned(),
            Some("date-time") => "2026-01-02T03:04:05Z".to_owned(),
            Some("duration") => "PT1H".to_owned(),
            Some("uuid") => self.uuid(at),
            Some("email" | "idn-email") => format!("{}@offline.invalid", word()),
            Some("uri" | "iri" | "url") => format!("https://offline.invalid/{}", word()),
            Some("hostname") => "offline.invalid".to_owned(),
            // The address blocks that are reserved for documentation.
            Some("ipv4") => "192.0.2.1".to_owned(),
            Some("ipv6") => "2001:db8::1".to_owned(),
            _ => match schema.get("pattern").and_then(Value::as_str) {
                Some(wanted) => pattern::matching(wanted, &marked).unwrap_or(marked),
                None => marked,
            },
        };
        let bound = |name: &str| {
            schema
                .get(name)
                .and_then(Value::as_u64)
                .and_then(|bound| usize::try_from(bound).ok())
        };
        let length = text.chars().count();
        let text = match (bound("minLength"), bound("maxLength")) {
            (_, Some(most)) if length > most => text
                .chars()
                .filter(|c| c.is_alphanumeric())
                .chain("offline".chars().cycle())
                .take(most)
                .collect(),
            (Some(least), _) if length < least => text
                .chars()
                .chain(" offline".chars().cycle())
                .take(least.min(1 << 20))
                .collect(),
            _ => text,
        };
        Value::String(text)
    }

    fn uuid(&self, at: &At<'_>) -> String {
        let (high, low) = (self.chance(at), u64::from_le_bytes(self.hash(at, b"low")));
        // Version 4, variant 1.
        let (high, low) = ((high & !0xf000) | 0x4000, (low & !(0b11 << 62)) | (0b10 << 62));
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }

    fn pick<'b>(&self, cases: &'b [Value], at: &At<'_>) -> Option<&'b Value> {
        let count = u64::try_from(cases.len()).ok().filter(|count| *count > 0)?;
        cases.get(usize::try_from(self.chance(at) % count).ok()?)
    }

    fn chance(&self, at: &At<'_>) -> u64 {
        u64::from_le_bytes(self.hash(at, b"high"))
    }

    fn hash(&self, at: &At<'_>, salt: &[u8]) -> [u8; 8] {
        let hash = Sha256::new()
            .chain_update(self.seed)
            .chain_update(salt)
            .chain_update(at.path.as_bytes())
            .finalize();
        hash.first_chunk().copied().unwrap_or_default()
    }
}

/// The type to generate in addition to the value of references and unions; `None` if they already determine it.
fn kind(schema: &Value, made: bool) -> Option<&str> {
    let named = types(schema);
    if let Some(name) = named.iter().find(|name| **name != "null").or_else(|| named.first()) {
        return Some(name);
    }
    let has = |names: &[&str]| names.iter().any(|name| schema.get(name).is_some());
    if has(&["properties", "additionalProperties", "required"]) {
        Some("object")
    } else if made {
        None
    } else if has(&["items", "prefixItems"]) {
        Some("array")
    } else if has(&[
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
    ]) {
        Some("number")
    } else {
        Some("string")
    }
}

/// Merges two parts of one value: objects are combined; for anything else the first part is kept.
fn merge(made: Option<Value>, more: Value) -> Option<Value> {
    match (made, more) {
        (Some(Value::Object(mut made)), Value::Object(more)) => {
            for (name, value) in more {
                made.entry(name).or_insert(value);
            }
            Some(Value::Object(made))
        }
        (Some(made), _) => Some(made),
        (None, more) => Some(more),
    }
}

fn whole(value: &Value) -> Option<i128> {
    let exact = value
        .as_i64()
        .map(i128::from)
        .or_else(|| value.as_u64().map(i128::from));
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a bound beyond 128 bits saturates, which is what is wanted"
    )]
    exact.or_else(|| value.as_f64().map(|float| float.ceil() as i128))
}
