//! WIT values to JSON.
//!
//! No type is needed: JSON depends on the type only for an option directly inside an option, which is visible in the
//! value.

use serde_json::{Map, Value as Json};
use wasmtime::component::Val;

use super::number::{print_f32, print_f64};
use super::{Budget, Path, ValueError};

/// Writes `val` as JSON. `path` is the name of the root in errors, such as `output`.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost_sandbox::value::to_json;
/// use serde_json::json;
/// use wasmtime::component::Val;
///
/// let value = Val::Record(vec![
///     ("name".into(), Val::String("Ada".into())),
///     ("born".into(), Val::Option(None)),
///     ("score".into(), Val::Float32(0.1)),
/// ]);
/// assert_eq!(to_json(&value, "output")?, json!({"name": "Ada", "born": null, "score": 0.1}));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Returns an error for a handle that belongs to the running component, or an exceeded bound of [`super`].
pub fn to_json(val: &Val, path: &str) -> Result<Json, ValueError> {
    let mut encoder = Encoder { budget: Budget::new() };
    let root = Path::root(path);
    encoder.budget.nodes(1, &root)?;
    encoder.value(val, &root)
}

struct Encoder {
    budget: Budget,
}

impl Encoder {
    /// Writes one value. The caller has paid for the value itself; this pays for its contents.
    fn value(&mut self, val: &Val, at: &Path<'_>) -> Result<Json, ValueError> {
        at.check_depth()?;
        Ok(match val {
            Val::Bool(value) => Json::from(*value),
            Val::S8(value) => Json::from(*value),
            Val::U8(value) => Json::from(*value),
            Val::S16(value) => Json::from(*value),
            Val::U16(value) => Json::from(*value),
            Val::S32(value) => Json::from(*value),
            Val::U32(value) => Json::from(*value),
            Val::S64(value) => Json::from(*value),
            Val::U64(value) => Json::from(*value),
            Val::Float32(value) => print_f32(*value),
            Val::Float64(value) => print_f64(*value),
            Val::Char(value) => Json::from(String::from(*value)),
            Val::String(text) => Json::String(self.budget.text(text, at)?),
            Val::List(items) | Val::FixedLengthList(items) | Val::Tuple(items) => self.items(items, at)?,
            Val::Map(pairs) => {
                self.budget.nodes(pairs.len().saturating_mul(2), at)?;
                let write = |(index, (key, value)): (usize, &(Val, Val))| {
                    let at = at.index(index);
                    Ok(Json::Array(vec![
                        self.value(key, &at.index(0))?,
                        self.value(value, &at.index(1))?,
                    ]))
                };
                Json::Array(pairs.iter().enumerate().map(write).collect::<Result<_, _>>()?)
            }
            Val::Record(fields) => {
                self.budget.nodes(fields.len(), at)?;
                let mut object = Map::with_capacity(fields.len());
                for (name, value) in fields {
                    object.insert(name.clone(), self.value(value, &at.name(name))?);
                }
                Json::Object(object)
            }
            Val::Variant(name, None) | Val::Enum(name) => Json::from(name.as_str()),
            Val::Variant(name, Some(payload)) => self.wrapped(name, Some(payload), at)?,
            Val::Option(None) => Json::Null,
            Val::Option(Some(some)) if matches!(**some, Val::Option(_)) => self.wrapped("some", Some(some), at)?,
            Val::Option(Some(some)) => {
                self.budget.nodes(1, at)?;
                self.value(some, at)?
            }
            Val::Result(Ok(payload)) => self.wrapped("ok", payload.as_deref(), at)?,
            Val::Result(Err(payload)) => self.wrapped("err", payload.as_deref(), at)?,
            Val::Flags(names) => {
                self.budget.nodes(names.len(), at)?;
                Json::Array(names.iter().map(|name| Json::from(name.as_str())).collect())
            }
            Val::Resource(_) => return Err(at.unsupported("a resource handle")),
            Val::Future(_) => return Err(at.unsupported("a future")),
            Val::Stream(_) => return Err(at.unsupported("a stream")),
            Val::ErrorContext(_) => return Err(at.unsupported("an error context")),
        })
    }

    fn items(&mut self, items: &[Val], at: &Path<'_>) -> Result<Json, ValueError> {
        self.budget.nodes(items.len(), at)?;
        let write = |(index, item)| self.value(item, &at.index(index));
        Ok(Json::Array(
            items.iter().enumerate().map(write).collect::<Result<_, _>>()?,
        ))
    }

    fn wrapped(&mut self, name: &str, payload: Option<&Val>, at: &Path<'_>) -> Result<Json, ValueError> {
        self.budget.nodes(1, at)?;
        let value = match payload {
            Some(payload) => self.value(payload, &at.name(name))?,
            None => Json::Null,
        };
        Ok(Json::Object(Map::from_iter([(name.to_owned(), value)])))
    }
}
