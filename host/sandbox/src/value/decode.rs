//! JSON to WIT values.
//!
//! Field and case names from the JSON are looked up in the type, never the other way round, so unknown names cost
//! nothing until an error lists the known ones. A search among a variant's cases is charged like values: a type with
//! thousands of cases in a list of a million items must not keep a thread busy for minutes.

use serde_json::Value as Json;
use wasmtime::component::types::{Case, Record, Variant};
use wasmtime::component::{Type, Val};

use super::number::{float32, float64, integer};
use super::words::{choices, expected, found, quoted, unknown, word};
use super::{Budget, Path, ValueError};

/// The number of names whose comparison costs as much as one value.
const NAMES_PER_NODE: usize = 16;

/// Reads `json` as a value of `ty`. `path` is the name of the root in errors, such as `input`.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost_sandbox::value::{from_json, to_json};
/// use serde_json::json;
/// use wasmtime::component::Type;
///
/// let value = from_json(&Type::U64, &json!("18446744073709551615"), "input")?;
/// assert_eq!(to_json(&value, "output")?, json!(u64::MAX));
/// let error = from_json(&Type::U8, &json!("many"), "input").err().ok_or("it fits")?;
/// assert_eq!(error.to_string(), "input: expected u8, found string");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Returns the first place where `json` does not match the type, in the order of the type's fields, or the exceeded
/// bound of [`super`].
pub fn from_json(ty: &Type, json: &Json, path: &str) -> Result<Val, ValueError> {
    let mut decoder = Decoder { budget: Budget::new() };
    let root = Path::root(path);
    decoder.budget.nodes(1, &root)?;
    decoder.value(ty, json, &root)
}

struct Decoder {
    budget: Budget,
}

impl Decoder {
    /// Reads one value. The caller has paid for the value itself; this pays for its contents.
    fn value(&mut self, ty: &Type, json: &Json, at: &Path<'_>) -> Result<Val, ValueError> {
        at.check_depth()?;
        Ok(match ty {
            Type::Bool => Val::Bool(json.as_bool().ok_or_else(|| expected("bool", json, at))?),
            Type::S8 => Val::S8(integer(json, at, "s8", i8::MIN, i8::MAX)?),
            Type::U8 => Val::U8(integer(json, at, "u8", u8::MIN, u8::MAX)?),
            Type::S16 => Val::S16(integer(json, at, "s16", i16::MIN, i16::MAX)?),
            Type::U16 => Val::U16(integer(json, at, "u16", u16::MIN, u16::MAX)?),
            Type::S32 => Val::S32(integer(json, at, "s32", i32::MIN, i32::MAX)?),
            Type::U32 => Val::U32(integer(json, at, "u32", u32::MIN, u32::MAX)?),
            Type::S64 => Val::S64(integer(json, at, "s64", i64::MIN, i64::MAX)?),
            Type::U64 => Val::U64(integer(json, at, "u64", u64::MIN, u64::MAX)?),
            Type::Float32 => Val::Float32(float32(json, at)?),
            Type::Float64 => Val::Float64(float64(json, at, "f64")?),
            Type::Char => Val::Char(character(json, at)?),
            Type::String => match json {
                Json::String(text) => Val::String(self.budget.text(text, at)?),
                _ => return Err(expected("string", json, at)),
            },
            Type::List(list) => Val::List(self.items(&list.ty(), array(json, at, "list")?, at)?),
            Type::FixedLengthList(list) => {
                let items = array(json, at, "list")?;
                exactly(items, list.len() as usize, "list", at)?;
                Val::FixedLengthList(self.items(&list.ty(), items, at)?)
            }
            Type::Map(map) => {
                let pairs = array(json, at, "map (a list of [key, value] pairs)")?;
                self.budget.nodes(pairs.len().saturating_mul(2), at)?;
                let (key, value) = (map.key(), map.value());
                let read = |(index, pair): (usize, &Json)| {
                    let at = at.index(index);
                    let items = array(pair, &at, "[key, value] pair")?;
                    let [left, right] = items else {
                        return Err(at.mismatch(format!("expected [key, value] pair, found list of {}", items.len())));
                    };
                    Ok((
                        self.value(&key, left, &at.index(0))?,
                        self.value(&value, right, &at.index(1))?,
                    ))
                };
                Val::Map(pairs.iter().enumerate().map(read).collect::<Result<_, _>>()?)
            }
            Type::Record(record) => self.record(record, json, at)?,
            Type::Tuple(tuple) => {
                let items = array(json, at, "tuple (a list)")?;
                let types = tuple.types();
                exactly(items, types.len(), "tuple", at)?;
                self.budget.nodes(items.len(), at)?;
                let read = |(index, (ty, item)): (usize, (Type, &Json))| self.value(&ty, item, &at.index(index));
                Val::Tuple(types.zip(items).enumerate().map(read).collect::<Result<_, _>>()?)
            }
            Type::Variant(variant) => self.variant(variant, json, at)?,
            Type::Enum(cases) => {
                let Json::String(name) = json else {
                    return Err(at.mismatch(format!(
                        "expected enum, found {}; the cases are {}",
                        found(json),
                        choices(cases.names())
                    )));
                };
                match cases.names().enumerate().find(|(_, known)| known == name) {
                    Some((index, known)) => {
                        self.budget.nodes(index / NAMES_PER_NODE, at)?;
                        Val::Enum(known.to_owned())
                    }
                    None => return Err(unknown("case", name, cases.names(), at)),
                }
            }
            Type::Option(option) => self.option(&option.ty(), json, at)?,
            Type::Result(result) => {
                let (name, payload) = single(json).ok_or_else(|| {
                    at.mismatch(format!(
                        "expected {{\"ok\": …}} or {{\"err\": …}}, found {}",
                        found(json)
                    ))
                })?;
                match name.as_str() {
                    "ok" => Val::Result(Ok(self.payload(result.ok().as_ref(), payload, &at.name("ok"))?)),
                    "err" => Val::Result(Err(self.payload(result.err().as_ref(), payload, &at.name("err"))?)),
                    _ => return Err(unknown("case", name, ["ok", "err"].into_iter(), at)),
                }
            }
            Type::Flags(flags) => {
                let items = array(json, at, "flags (a list of names)")?;
                self.budget.nodes(items.len(), at)?;
                let mut set = vec![false; flags.names().len()];
                for (index, item) in items.iter().enumerate() {
                    let at = at.index(index);
                    let Json::String(name) = item else {
                        return Err(expected("the name of a flag", item, &at));
                    };
                    let position = flags.names().position(|known| known == name);
                    match position.and_then(|position| set.get_mut(position)) {
                        Some(flag) if *flag => return Err(at.mismatch(format!("flag {} stands twice", quoted(name)))),
                        Some(flag) => *flag = true,
                        None => return Err(unknown("flag", name, flags.names(), &at)),
                    }
                }
                let named = flags.names().zip(set).filter(|(_, set)| *set);
                Val::Flags(named.map(|(name, _)| name.to_owned()).collect())
            }
            Type::Own(_) | Type::Borrow(_) => return Err(at.unsupported("a resource handle")),
            Type::Future(_) => return Err(at.unsupported("a future")),
            Type::Stream(_) => return Err(at.unsupported("a stream")),
            Type::ErrorContext => return Err(at.unsupported("an error context")),
        })
    }

    fn items(&mut self, ty: &Type, items: &[Json], at: &Path<'_>) -> Result<Vec<Val>, ValueError> {
        self.budget.nodes(items.len(), at)?;
        let read = |(index, item)| self.value(ty, item, &at.index(index));
        items.iter().enumerate().map(read).collect()
    }

    fn record(&mut self, record: &Record, json: &Json, at: &Path<'_>) -> Result<Val, ValueError> {
        let Json::Object(object) = json else {
            return Err(expected("record (an object)", json, at));
        };
        let stray = || {
            let known = |key: &&String| record.fields().any(|field| field.name == key.as_str());
            let key = object.keys().find(|key| !known(key))?;
            Some(unknown("field", key, record.fields().map(|field| field.name), at))
        };
        let fields = record.fields();
        self.budget.nodes(fields.len(), at)?;
        let mut values = Vec::with_capacity(fields.len());
        let mut used = 0;
        for field in fields {
            let value = match (object.get(field.name), &field.ty) {
                (Some(json), ty) => {
                    used += 1;
                    self.value(ty, json, &at.name(field.name))?
                }
                (None, Type::Option(_)) => Val::Option(None),
                // If one field is missing and another is unknown, the unknown one is probably the mistake.
                (None, ty) => {
                    let missing = || at.mismatch(format!("missing field {} ({})", quoted(field.name), word(ty)));
                    return Err(stray().unwrap_or_else(missing));
                }
            };
            values.push((field.name.to_owned(), value));
        }
        if used != object.len()
            && let Some(error) = stray()
        {
            return Err(error);
        }
        Ok(Val::Record(values))
    }

    fn variant(&mut self, variant: &Variant, json: &Json, at: &Path<'_>) -> Result<Val, ValueError> {
        let names = || variant.cases().map(|case| case.name);
        let (name, payload) = match (json, single(json)) {
            (Json::String(name), _) => (name, None),
            (_, Some((name, payload))) => (name, Some(payload)),
            _ => {
                return Err(at.mismatch(format!(
                    "expected variant (the name of a case, or an object with one as its only field), found {}; the cases are {}",
                    found(json),
                    choices(names())
                )));
            }
        };
        let Some((index, case)) = variant.cases().enumerate().find(|(_, case)| case.name == name) else {
            return Err(unknown("case", name, names(), at));
        };
        self.budget.nodes(index / NAMES_PER_NODE + 1, at)?;
        let Case { name, ty } = case;
        let payload = match (ty, payload) {
            (None, None) => None,
            (Some(ty), Some(json)) => Some(Box::new(self.value(&ty, json, &at.name(name))?)),
            (Some(ty), None) => {
                let form = format!("write {{\"{name}\": …}}");
                return Err(at.mismatch(format!("case `{name}` has a payload ({}); {form}", word(&ty))));
            }
            (None, Some(_)) => return Err(at.mismatch(format!("case `{name}` has no payload; write \"{name}\""))),
        };
        Ok(Val::Variant(name.to_owned(), payload))
    }

    fn option(&mut self, ty: &Type, json: &Json, at: &Path<'_>) -> Result<Val, ValueError> {
        if json.is_null() {
            return Ok(Val::Option(None));
        }
        self.budget.nodes(1, at)?;
        if !matches!(ty, Type::Option(_)) {
            return Ok(Val::Option(Some(Box::new(self.value(ty, json, at)?))));
        }
        let some = match single(json) {
            Some((name, some)) if name == "some" => some,
            _ => return Err(at.mismatch(format!("expected null or {{\"some\": …}}, found {}", found(json)))),
        };
        Ok(Val::Option(Some(Box::new(self.value(ty, some, &at.name("some"))?))))
    }

    fn payload(&mut self, ty: Option<&Type>, json: &Json, at: &Path<'_>) -> Result<Option<Box<Val>>, ValueError> {
        match ty {
            Some(ty) => {
                self.budget.nodes(1, at)?;
                Ok(Some(Box::new(self.value(ty, json, at)?)))
            }
            None if json.is_null() => Ok(None),
            None => Err(expected("null (there is no payload)", json, at)),
        }
    }
}

fn character(json: &Json, at: &Path<'_>) -> Result<char, ValueError> {
    let Json::String(text) = json else {
        return Err(expected("char (a string of one character)", json, at));
    };
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(at.mismatch("expected char (a string of one character), found empty string")),
        (Some(_), Some(_)) => Err(at.mismatch(format!(
            "expected char (a string of one character), found string {}",
            quoted(text)
        ))),
    }
}

fn array<'j>(json: &'j Json, at: &Path<'_>, word: &str) -> Result<&'j [Json], ValueError> {
    match json {
        Json::Array(items) => Ok(items),
        _ => Err(expected(word, json, at)),
    }
}

fn exactly(items: &[Json], count: usize, word: &str, at: &Path<'_>) -> Result<(), ValueError> {
    if items.len() != count {
        return Err(at.mismatch(format!("expected {word} of {count}, found list of {}", items.len())));
    }
    Ok(())
}

/// Returns the only field of an object that has exactly one.
fn single(json: &Json) -> Option<(&String, &Json)> {
    let object = json.as_object()?;
    if object.len() == 1 { object.iter().next() } else { None }
}
