//! Rewrites a schema into the subset that a vendor's structured output accepts.
//!
//! Both vendors accept closed objects, unions as `anyOf`, `enum`, `const`, and references to definitions. Each rejects
//! a different part of the rest. So constraints that only narrow a value (lengths, bounds, patterns) are not sent as
//! keywords but as words in the description: the model reads them, and the reply is validated anyway. If a schema
//! changes the *shape* of a value in a way that the subset cannot express (a map with free keys, a tuple, a part
//! without a schema), the whole schema is unfit, and the caller asks for it in words.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::bounds;
use super::walk::{allows_null, target_of, types};

/// The vendor whose rules a schema has to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Anthropic: optional properties stay optional, at most 24 of them; at most 16 unions; no recursion.
    Anthropic,
    /// OpenAI's strict mode: every property is required, an optional one may be null; the root is an object.
    OpenAi,
}

/// The maximum number of optional properties and unions in all schemas of one request for Anthropic.
const ANTHROPIC_OPTIONAL: usize = 24;
const ANTHROPIC_UNIONS: usize = 16;
/// The maximum number of JSON values that may be copied or created while a schema is rewritten. A list of types is
/// written out as a union with a copy for each, so nested lists double with every level. The caller asks for such a
/// schema in words.
const MAX_WORK: u64 = 50_000;
/// The string formats that both vendors accept.
const FORMATS: [&str; 9] = [
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uuid",
];

/// A schema for a vendor.
#[derive(Debug)]
pub(crate) struct Fitted {
    pub(crate) schema: Value,
    pub(crate) scarce: Scarce,
}

/// The parts of schemas of which Anthropic accepts only some in one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Scarce {
    optional: usize,
    unions: usize,
}

impl Scarce {
    /// Returns the parts of both, if a request can have them.
    pub(crate) fn plus(self, other: Self) -> Option<Self> {
        let sum = Self {
            optional: self.optional + other.optional,
            unions: self.unions + other.unions,
        };
        sum.check().is_ok().then_some(sum)
    }

    fn check(self) -> Result<(), String> {
        let Self { optional, unions } = self;
        if optional > ANTHROPIC_OPTIONAL {
            return Err(format!(
                "{optional} optional properties, more than {ANTHROPIC_OPTIONAL}"
            ));
        }
        if unions > ANTHROPIC_UNIONS {
            return Err(format!("{unions} unions, more than {ANTHROPIC_UNIONS}"));
        }
        Ok(())
    }
}

/// Rewrites `schema` for `dialect`.
///
/// ```
/// use agenthost_providers::schema::{Dialect, fit};
/// use serde_json::json;
///
/// let schema = json!({"type": "object", "properties": {"age": {"type": "integer", "minimum": 18}}, "required": ["age"]});
/// let fitted = fit(&schema, Dialect::OpenAi)?;
/// assert_eq!(fitted["additionalProperties"], false);
/// assert_eq!(fitted["properties"]["age"].get("minimum"), None, "it stands in the description instead");
/// # Ok::<(), String>(())
/// ```
///
/// # Errors
///
/// Returns the reason why the dialect cannot express the schema, with its place.
pub fn fit(schema: &Value, dialect: Dialect) -> Result<Value, String> {
    fit_counted(schema, dialect).map(|fitted| fitted.schema)
}

/// Rewrites `schema` for `dialect`, and counts what is scarce in it.
///
/// # Errors
///
/// Returns the reason as [`fit`] does.
pub(crate) fn fit_counted(schema: &Value, dialect: Dialect) -> Result<Fitted, String> {
    let mut fitter = Fitter {
        root: schema,
        dialect,
        scarce: Scarce::default(),
        work: 0,
    };
    // A recursive type's root is a reference into its own definitions.
    let top = super::resolve(schema, schema).ok_or("the root's reference leads nowhere")?;
    let mut fitted = fitter.schema(top, "", 0)?;
    if dialect == Dialect::OpenAi && fitted.get("type") != Some(&json!("object")) {
        return Err("/: the root is no object".to_owned());
    }
    for name in ["$defs", "definitions"] {
        let Some(definitions) = schema.get(name).and_then(Value::as_object) else {
            continue;
        };
        let mut all = Map::new();
        for (key, definition) in definitions {
            all.insert(key.clone(), fitter.schema(definition, &format!("/{name}/{key}"), 0)?);
        }
        if let Some(fitted) = fitted.as_object_mut() {
            fitted.insert(name.to_owned(), Value::Object(all));
        }
    }
    if dialect == Dialect::Anthropic {
        fitter.scarce.check()?;
        recursion(&fitted)?;
    }
    Ok(Fitted {
        schema: fitted,
        scarce: fitter.scarce,
    })
}

struct Fitter<'a> {
    root: &'a Value,
    dialect: Dialect,
    scarce: Scarce,
    /// The number of JSON values that were copied or created.
    work: u64,
}

impl Fitter<'_> {
    fn schema(&mut self, schema: &Value, path: &str, depth: usize) -> Result<Value, String> {
        if depth > bounds::MAX_DEPTH {
            return Err(format!("{path}: nested deeper than {} levels", bounds::MAX_DEPTH));
        }
        self.works(1, path)?;
        let Value::Object(keywords) = schema else {
            return Err(format!("{path}: a part that takes any value"));
        };
        let mut out = Map::new();
        let mut words = Vec::new();
        if let Some(target) = keywords.get("$ref") {
            let target = target.as_str().filter(|target| is_definition(self.root, target));
            let target = target.ok_or_else(|| format!("{path}: a reference to something else than a definition"))?;
            // Both vendors reject keywords next to a reference. Those that only describe are dropped; those that narrow
            // cannot be.
            let narrows =
                |name: &String| !matches!(name.as_str(), "$ref" | "$defs" | "definitions") && !describes(name);
            if let Some(name) = keywords.keys().find(|name| narrows(name)) {
                return Err(format!("{path}: {name} beside a reference"));
            }
            return Ok(json!({"$ref": target}));
        }
        let union = keywords.get("anyOf").or_else(|| keywords.get("oneOf"));
        let named = types(schema);
        if let Some(branches) = union {
            if keywords.contains_key("properties") || keywords.contains_key("allOf") || keywords.contains_key("enum") {
                return Err(format!("{path}: a union beside other keywords"));
            }
            let branches = branches
                .as_array()
                .ok_or_else(|| format!("{path}: a union that is no list"))?;
            let fitted = branches
                .iter()
                .map(|branch| self.schema(branch, path, depth + 1))
                .collect::<Result<Vec<_>, _>>()?;
            self.scarce.unions += 1;
            out.insert("anyOf".into(), Value::Array(fitted));
        } else if let Some(all) = keywords.get("allOf").and_then(Value::as_array) {
            let [only] = all.as_slice() else {
                return Err(format!("{path}: allOf of several schemas"));
            };
            if keywords.contains_key("properties") || !named.is_empty() {
                return Err(format!("{path}: allOf beside other keywords"));
            }
            return self.schema(only, path, depth + 1);
        } else if let Some(value) = keywords.get("const") {
            simple(value, path)?;
            out.insert("const".into(), value.clone());
            self.type_of_literals(&mut out, &named, [value]);
        } else if let Some(cases) = keywords.get("enum").and_then(Value::as_array) {
            cases.iter().try_for_each(|case| simple(case, path))?;
            out.insert("enum".into(), Value::Array(cases.clone()));
            self.type_of_literals(&mut out, &named, cases);
        } else if let [_, _, ..] = named.as_slice() {
            return self.several_types(keywords, &named, path, depth);
        } else {
            match named.first().copied() {
                Some("object") => self.object(keywords, &mut out, path, depth)?,
                Some("array") => self.array(keywords, &mut out, &mut words, path, depth)?,
                Some(name @ ("string" | "integer" | "number" | "boolean" | "null")) => {
                    out.insert("type".into(), json!(name));
                    if let Some(format) = keywords.get("format").and_then(Value::as_str)
                        && name == "string"
                    {
                        if FORMATS.contains(&format) {
                            out.insert("format".into(), json!(format));
                        } else {
                            words.push(format!("format {format}"));
                        }
                    }
                }
                Some(other) => return Err(format!("{path}: unknown type {other:?}")),
                None => return Err(format!("{path}: a part that takes any value")),
            }
        }
        for (name, value) in keywords {
            match name.as_str() {
                "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" | "minLength"
                | "maxLength" | "pattern" | "maxItems" | "uniqueItems" | "minProperties" | "maxProperties" => {
                    words.push(format!("{name} {value}"));
                }
                // Each changes the allowed shapes in a way that neither vendor accepts.
                "not"
                | "if"
                | "then"
                | "else"
                | "patternProperties"
                | "propertyNames"
                | "unevaluatedProperties"
                | "dependentSchemas"
                | "dependentRequired"
                | "contains"
                | "prefixItems"
                | "unevaluatedItems" => {
                    return Err(format!("{path}: {name}"));
                }
                _ => {}
            }
        }
        if let Some(title) = keywords.get("title").filter(|title| title.is_string()) {
            out.insert("title".into(), title.clone());
        }
        let said = keywords.get("description").and_then(Value::as_str).unwrap_or_default();
        let words = if words.is_empty() {
            String::new()
        } else {
            format!("({})", words.join(", "))
        };
        let description = [said, &words]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        if !description.is_empty() {
            out.insert("description".into(), json!(description));
        }
        Ok(Value::Object(out))
    }

    /// Counts `values` that are copied or created.
    fn works(&mut self, values: u64, path: &str) -> Result<(), String> {
        self.work = self.work.saturating_add(values);
        if self.work > MAX_WORK {
            return Err(format!("{path}: more than {MAX_WORK} values once it is written out"));
        }
        Ok(())
    }

    /// Rewrites `type: ["string", "null"]` as a union of one schema per type.
    fn several_types(
        &mut self,
        keywords: &Map<String, Value>,
        named: &[&str],
        path: &str,
        depth: usize,
    ) -> Result<Value, String> {
        let mut branches = Vec::new();
        let mut union = Map::new();
        let values: u64 = keywords.values().map(bounds::nodes).sum();
        for name in named {
            self.works(values, path)?;
            let mut branch = if *name == "null" { Map::new() } else { keywords.clone() };
            for about in ["title", "description"] {
                if let Some(text) = branch.shift_remove(about) {
                    union.insert(about.to_owned(), text);
                }
            }
            branch.insert("type".into(), json!(name));
            branches.push(Value::Object(branch));
        }
        union.insert("anyOf".into(), Value::Array(branches));
        self.schema(&Value::Object(union), path, depth + 1)
    }

    /// Adds a type next to literals if they have one type. OpenAI requires it; Anthropic's own SDK removes it.
    fn type_of_literals<'v>(
        &self,
        out: &mut Map<String, Value>,
        named: &[&str],
        values: impl IntoIterator<Item = &'v Value>,
    ) {
        if self.dialect == Dialect::Anthropic {
            return;
        }
        if let [name] = named {
            out.insert("type".into(), json!(name));
        } else if named.is_empty() && values.into_iter().all(Value::is_string) {
            out.insert("type".into(), json!("string"));
        }
    }

    fn object(
        &mut self,
        keywords: &Map<String, Value>,
        out: &mut Map<String, Value>,
        path: &str,
        depth: usize,
    ) -> Result<(), String> {
        let none = Map::new();
        let properties = keywords.get("properties").and_then(Value::as_object).unwrap_or(&none);
        // Most schemas allow free keys next to known ones by not mentioning them; those need not be offered. A map with
        // only free keys would become an empty object.
        match keywords.get("additionalProperties") {
            Some(Value::Object(_)) => return Err(format!("{path}: an object with free keys")),
            Some(Value::Bool(false)) => {}
            _ if properties.is_empty() => return Err(format!("{path}: an object with free keys")),
            _ => {}
        }
        let listed = keywords.get("required").and_then(Value::as_array);
        let mut required = Vec::new();
        let mut fitted = Map::new();
        for (name, property) in properties {
            let place = format!("{path}/{name}");
            let property = if listed.is_some_and(|names| names.iter().any(|known| known == name)) {
                required.push(json!(name));
                self.schema(property, &place, depth + 1)?
            } else if self.dialect == Dialect::Anthropic {
                self.scarce.optional += 1;
                self.works(bounds::nodes(property), &place)?;
                self.schema(&without_null(property), &place, depth + 1)?
            } else {
                required.push(json!(name));
                let fitted = self.schema(property, &place, depth + 1)?;
                if allows_null(self.root, property) {
                    fitted
                } else {
                    json!({"anyOf": [fitted, {"type": "null"}]})
                }
            };
            fitted.insert(name.clone(), property);
        }
        out.insert("type".into(), json!("object"));
        out.insert("properties".into(), Value::Object(fitted));
        out.insert("required".into(), Value::Array(required));
        out.insert("additionalProperties".into(), json!(false));
        Ok(())
    }

    fn array(
        &mut self,
        keywords: &Map<String, Value>,
        out: &mut Map<String, Value>,
        words: &mut Vec<String>,
        path: &str,
        depth: usize,
    ) -> Result<(), String> {
        let items = keywords
            .get("items")
            .ok_or_else(|| format!("{path}: an array of any values"))?;
        out.insert("type".into(), json!("array"));
        out.insert("items".into(), self.schema(items, &format!("{path}/items"), depth + 1)?);
        match keywords.get("minItems").and_then(Value::as_u64) {
            Some(least @ (0 | 1)) if self.dialect == Dialect::Anthropic => {
                out.insert("minItems".into(), json!(least));
            }
            Some(least) if least > 0 => words.push(format!("minItems {least}")),
            _ => {}
        }
        Ok(())
    }
}

/// Returns `schema` without the `null` that it allows: an optional property need not be a union as well, and unions are
/// scarce.
fn without_null(schema: &Value) -> Cow<'_, Value> {
    let is_null = |branch: &Value| branch.get("type") == Some(&json!("null"));
    let mut copy = schema.clone();
    let Some(keywords) = copy.as_object_mut() else {
        return Cow::Borrowed(schema);
    };
    if let Some(Value::Array(names)) = keywords.get_mut("type") {
        names.retain(|name| name != "null");
        if let [name] = names.as_slice() {
            let name = name.clone();
            keywords.insert("type".to_owned(), name);
        }
        return Cow::Owned(copy);
    }
    for keyword in ["anyOf", "oneOf"] {
        let Some(Value::Array(branches)) = keywords.get_mut(keyword) else {
            continue;
        };
        branches.retain(|branch| !is_null(branch));
        if let [Value::Object(only)] = branches.as_slice() {
            let only = only.clone();
            keywords.shift_remove(keyword);
            // The outer description is about the property, the inner one about its type.
            let described = std::mem::replace(keywords, only);
            if !keywords.contains_key("$ref") {
                keywords.extend(described);
            }
        }
        return Cow::Owned(copy);
    }
    Cow::Borrowed(schema)
}

/// Returns whether `target` names the root or one of its definitions; other places may change when they are rewritten.
fn is_definition(root: &Value, target: &str) -> bool {
    let name = target
        .strip_prefix("#/$defs/")
        .or_else(|| target.strip_prefix("#/definitions/"));
    let place = target == "#" || name.is_some_and(|name| !name.contains('/'));
    place && target_of(root, target).is_some()
}

/// Returns whether a keyword only describes.
fn describes(name: &str) -> bool {
    matches!(
        name,
        "title"
            | "description"
            | "default"
            | "examples"
            | "deprecated"
            | "readOnly"
            | "writeOnly"
            | "$comment"
            | "$schema"
            | "$id"
    )
}

/// Checks that a literal is plain: text, a number, true, false or null.
fn simple(value: &Value, path: &str) -> Result<(), String> {
    if value.is_object() || value.is_array() {
        Err(format!("{path}: a literal that is an object or array"))
    } else {
        Ok(())
    }
}

/// Refuses recursive definitions.
fn recursion(root: &Value) -> Result<(), String> {
    let mut done = HashSet::new();
    let mut open = HashSet::new();
    acyclic(root, "#", &mut open, &mut done)
}

fn acyclic<'a>(
    root: &'a Value,
    name: &'a str,
    open: &mut HashSet<&'a str>,
    done: &mut HashSet<&'a str>,
) -> Result<(), String> {
    if done.contains(name) {
        return Ok(());
    }
    if !open.insert(name) || open.len() > bounds::MAX_DEPTH {
        return Err(format!("{name}: recursion"));
    }
    let mut parts: Vec<&Value> = target_of(root, name).into_iter().collect();
    while let Some(part) = parts.pop() {
        match part {
            Value::Object(keywords) => {
                for (keyword, value) in keywords {
                    match value.as_str() {
                        Some(target) if keyword == "$ref" => acyclic(root, target, open, done)?,
                        // Definitions are visited through the references to them.
                        _ if matches!(keyword.as_str(), "$defs" | "definitions") && std::ptr::eq(part, root) => {}
                        _ => parts.push(value),
                    }
                }
            }
            Value::Array(items) => parts.extend(items),
            _ => {}
        }
    }
    open.remove(name);
    done.insert(name);
    Ok(())
}
