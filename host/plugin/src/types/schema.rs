//! Converts WIT types to JSON Schema (draft 2020-12), with the WIT's doc comments as descriptions.
//!
//! A schema accepts the JSON that `agenthost_sandbox::value::from_json` accepts. That function alone checks constraints
//! that a schema cannot express: the exact range of a 64-bit integer written as a string, the digits that a float
//! beyond 2^53 may have lost, and the bounds on size. Named WIT types become `$defs`; types from different interfaces
//! that share a name are prefixed with the interface's name.
//!
//! Left out: restrictions of model services. The provider modules reduce a schema to the subset that their API accepts.

use std::collections::{HashSet, VecDeque};

use serde_json::{Map, Value as Json, json};
use wit_parser::{Docs, Resolve, Type, TypeDef, TypeDefKind, TypeId};

use super::json_text::json_types;
use super::wit::{Names, follow, is_option};
use super::{MAX_F32, NON_FINITE};
use super::{Path, ValueError};

/// Converts `ty` to a schema; `path` is the name of the root in errors, such as `input`.
///
/// [`Plugin::input_schema`](crate::Plugin::input_schema) and similar methods are shortcuts.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../agenthost/doc/guests.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost_plugin::Plugin;
/// use agenthost_plugin::types::schema::schema;
///
/// # let component = double();
/// let plugin = Plugin::read(&component)?;
/// let input = &plugin.interface.run.params[0].ty;
/// let schema = schema(&plugin.interface.resolve, input, "input")?;
/// assert_eq!((&schema["type"], &schema["maximum"]), (&"integer".into(), &u32::MAX.into()));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Returns an error for the first handle to a resource, future, stream or error context, which have no JSON form, or
/// for types that nest deeper than [`super::MAX_DEPTH`] without a name.
pub fn schema(resolve: &Resolve, ty: &Type, path: &str) -> Result<Json, ValueError> {
    let mut builder = Builder {
        resolve,
        json: json_types(resolve),
        names: Names::default(),
        pending: VecDeque::new(),
    };
    let mut root = Map::new();
    root.insert(
        "$schema".to_owned(),
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    // The root is inlined instead of referenced, because readers such as tool lists expect its `type` there.
    let body = match follow(resolve, ty) {
        Type::Id(id) => builder.definition(id, &Path::root(path))?,
        ty => builder.type_(&ty, &Path::root(path))?,
    };
    root.extend(body);
    let mut defs = Map::new();
    // Definitions are built one after another, so that a long chain of them uses no stack.
    while let Some((id, name)) = builder.pending.pop_front() {
        let body = builder.definition(id, &Path::root(&name))?;
        defs.insert(name, Json::Object(body));
    }
    if !defs.is_empty() {
        root.insert("$defs".to_owned(), Json::Object(defs));
    }
    Ok(Json::Object(root))
}

type Schema = Map<String, Json>;

struct Builder<'r> {
    resolve: &'r Resolve,
    /// The types that are `json` of the contract, which any value satisfies.
    json: HashSet<TypeId>,
    names: Names,
    pending: VecDeque<(TypeId, String)>,
}

impl Builder<'_> {
    /// Converts a type where it is used: inline, or as a reference if it is named.
    fn type_(&mut self, ty: &Type, at: &Path<'_>) -> Result<Schema, ValueError> {
        at.check_depth()?;
        Ok(match follow(self.resolve, ty) {
            Type::Bool => object(json!({"type": "boolean"})),
            Type::U8 => integer(u8::MIN, u8::MAX),
            Type::U16 => integer(u16::MIN, u16::MAX),
            Type::U32 => integer(u32::MIN, u32::MAX),
            Type::S8 => integer(i8::MIN, i8::MAX),
            Type::S16 => integer(i16::MIN, i16::MAX),
            Type::S32 => integer(i32::MIN, i32::MAX),
            Type::U64 => long(json!(u64::MIN), json!(u64::MAX), "^(0|[1-9][0-9]{0,19})$"),
            Type::S64 => long(json!(i64::MIN), json!(i64::MAX), "^(0|-?[1-9][0-9]{0,18})$"),
            Type::F32 => float(json!({"type": "number", "minimum": -MAX_F32, "maximum": MAX_F32})),
            Type::F64 => float(json!({"type": "number"})),
            Type::Char => object(json!({"type": "string", "minLength": 1, "maxLength": 1})),
            Type::String => object(json!({"type": "string"})),
            Type::ErrorContext => return Err(at.unsupported("an error context")),
            Type::Id(id) => match self.resolve.types.get(id) {
                Some(TypeDef { name: Some(_), .. }) => {
                    let (name, is_new) = self.names.of(self.resolve, id);
                    if is_new {
                        self.pending.push_back((id, name.clone()));
                    }
                    object(json!({"$ref": format!("#/$defs/{name}")}))
                }
                Some(def) => self.kind(&def.kind, at)?,
                None => Schema::new(),
            },
        })
    }

    /// Converts the definition of a named type.
    fn definition(&mut self, id: TypeId, at: &Path<'_>) -> Result<Schema, ValueError> {
        let Some(def) = self.resolve.types.get(id) else {
            return Ok(Schema::new());
        };
        let body = match self.json.contains(&id) {
            true => Schema::new(),
            false => self.kind(&def.kind, at)?,
        };
        Ok(described(body, &def.docs))
    }

    fn kind(&mut self, kind: &TypeDefKind, at: &Path<'_>) -> Result<Schema, ValueError> {
        Ok(match kind {
            TypeDefKind::Type(ty) => self.type_(ty, at)?,
            TypeDefKind::Record(record) => {
                let mut properties = Map::new();
                let mut required = Vec::new();
                for field in &record.fields {
                    let body = self.type_(&field.ty, &at.name(&field.name))?;
                    properties.insert(field.name.clone(), Json::Object(described(body, &field.docs)));
                    if !is_option(self.resolve, &field.ty) {
                        required.push(json!(field.name));
                    }
                }
                closed(properties, required)
            }
            TypeDefKind::Tuple(tuple) => {
                let mut items = Vec::with_capacity(tuple.types.len());
                for (index, ty) in tuple.types.iter().enumerate() {
                    items.push(Json::Object(self.type_(ty, &at.index(index))?));
                }
                object(json!({"type": "array", "minItems": items.len(), "prefixItems": items, "items": false}))
            }
            TypeDefKind::List(ty) => {
                let items = self.type_(ty, &at.each())?;
                object(json!({"type": "array", "items": items}))
            }
            TypeDefKind::FixedLengthList(ty, count) => {
                let items = self.type_(ty, &at.each())?;
                object(json!({"type": "array", "items": items, "minItems": count, "maxItems": count}))
            }
            TypeDefKind::Map(key, value) => {
                let at = at.each();
                let (key, value) = (self.type_(key, &at.index(0))?, self.type_(value, &at.index(1))?);
                let pair = json!({"type": "array", "minItems": 2, "prefixItems": [key, value], "items": false});
                object(json!({"type": "array", "items": pair}))
            }
            TypeDefKind::Variant(variant) => {
                let plain = variant.cases.iter().filter(|case| case.ty.is_none());
                let plain = names(plain.map(|case| (case.name.as_str(), &case.docs)));
                let mut cases: Vec<_> = plain.into_iter().map(Json::Object).collect();
                for case in &variant.cases {
                    if let Some(ty) = &case.ty {
                        let body = wrapped(&case.name, self.type_(ty, &at.name(&case.name))?);
                        cases.push(Json::Object(described(body, &case.docs)));
                    }
                }
                any_of(cases)
            }
            TypeDefKind::Enum(cases) => {
                let cases = cases.cases.iter().map(|case| (case.name.as_str(), &case.docs));
                names(cases).unwrap_or_default()
            }
            TypeDefKind::Flags(flags) => {
                let items = names(flags.flags.iter().map(|flag| (flag.name.as_str(), &flag.docs)));
                object(json!({"type": "array", "items": items, "uniqueItems": true}))
            }
            TypeDefKind::Option(ty) => {
                let some = if is_option(self.resolve, ty) {
                    wrapped("some", self.type_(ty, &at.name("some"))?)
                } else {
                    self.type_(ty, at)?
                };
                any_of(vec![Json::Object(some), json!({"type": "null"})])
            }
            TypeDefKind::Result(result) => {
                let ok = self.payload(result.ok.as_ref(), &at.name("ok"))?;
                let err = self.payload(result.err.as_ref(), &at.name("err"))?;
                any_of(vec![Json::Object(wrapped("ok", ok)), Json::Object(wrapped("err", err))])
            }
            TypeDefKind::Resource | TypeDefKind::Handle(_) => return Err(at.unsupported("a resource handle")),
            TypeDefKind::Future(_) => return Err(at.unsupported("a future")),
            TypeDefKind::Stream(_) => return Err(at.unsupported("a stream")),
            TypeDefKind::Unknown => Schema::new(),
        })
    }

    fn payload(&mut self, ty: Option<&Type>, at: &Path<'_>) -> Result<Schema, ValueError> {
        match ty {
            Some(ty) => self.type_(ty, at),
            None => Ok(object(json!({"type": "null"}))),
        }
    }
}

fn object(schema: Json) -> Schema {
    match schema {
        Json::Object(map) => map,
        _ => Schema::new(),
    }
}

fn integer<T: Into<i64>>(min: T, max: T) -> Schema {
    object(json!({"type": "integer", "minimum": min.into(), "maximum": max.into()}))
}

fn long(min: Json, max: Json, pattern: &str) -> Schema {
    object(json!({"type": ["integer", "string"], "minimum": min, "maximum": max, "pattern": pattern}))
}

fn float(finite: Json) -> Schema {
    any_of(vec![finite, json!({"enum": NON_FINITE})])
}

fn any_of(branches: Vec<Json>) -> Schema {
    object(json!({"anyOf": branches}))
}

fn wrapped(name: &str, value: Schema) -> Schema {
    let properties = Map::from_iter([(name.to_owned(), Json::Object(value))]);
    closed(properties, vec![json!(name)])
}

fn closed(properties: Map<String, Json>, required: Vec<Json>) -> Schema {
    object(json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false}))
}

/// Returns a schema for a choice of names, with a description line for each documented name; `None` if `cases` is
/// empty.
fn names<'d>(cases: impl Iterator<Item = (&'d str, &'d Docs)>) -> Option<Schema> {
    let mut names = Vec::new();
    let mut lines = Vec::new();
    for (name, docs) in cases {
        names.push(json!(name));
        if let Some(text) = docs.contents.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
            lines.push(format!("`{name}`: {text}"));
        }
    }
    if names.is_empty() {
        return None;
    }
    let mut schema = object(json!({"type": "string", "enum": names}));
    if !lines.is_empty() {
        schema.insert("description".to_owned(), json!(lines.join("\n")));
    }
    Some(schema)
}

/// Prepends the doc comment to the description of the cases.
fn described(mut schema: Schema, docs: &Docs) -> Schema {
    if let Some(text) = docs.contents.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
        let text = match schema.get("description").and_then(Json::as_str) {
            Some(cases) => format!("{text}\n\n{cases}"),
            None => text.to_owned(),
        };
        schema.insert("description".to_owned(), Json::String(text));
    }
    schema
}
