//! The type `json` of the contract: a text between plugins and the host, the JSON value itself in documents.
//!
//! A type that contains `json` converts in two steps: this module replaces values by their texts, and texts by their
//! values, at the places of `json`; everything else converts as it does without it. The texts of one conversion have at
//! most [`MAX_NODES`] values together, and a value with its place at most [`MAX_LEVELS`] levels, so a document can hold it
//! a few levels deeper and still be read.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value as Json;
use wit_parser::{Function, Resolve, Type, TypeDef, TypeDefKind, TypeId, TypeOwner};

use super::wit::{is_option, strip};
use super::{MAX_NODES, Path, ValueError, ValueErrorKind};
use crate::contract::PACKAGE;

/// The most levels of a value of the type `json`, with those around it.
pub const MAX_LEVELS: usize = 100;

/// The places of `json` in the types of a plugin's `run`.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct JsonTexts {
    /// In the input.
    pub input: Option<JsonText>,
    /// In the output: in the `ok` side of a `result`.
    pub ok: Option<JsonText>,
    /// In the error: in the `err` side of a `result`.
    pub err: Option<JsonText>,
}

/// A WIT type that contains `json`.
#[derive(Debug, Clone)]
pub struct JsonText {
    table: Arc<Table>,
    ty: Type,
}

/// The types of a component, as far as `json` matters.
#[derive(Debug)]
struct Table {
    resolve: Resolve,
    /// The types that are `json`, under any name.
    json: HashSet<TypeId>,
    /// The types that contain it.
    containing: HashSet<TypeId>,
    /// The payloads of the variants, by name: one may have thousands of cases, and a list a million of its values.
    cases: HashMap<TypeId, HashMap<String, Type>>,
}

/// The direction of a conversion.
#[derive(Clone, Copy)]
enum To<'a> {
    Text,
    /// With the values that texts may still have.
    Value(&'a Cell<usize>),
}

/// Returns the types that are `json` of the contract, under any name.
pub(super) fn json_types(resolve: &Resolve) -> HashSet<TypeId> {
    let of_contract = |def: &TypeDef| {
        let TypeOwner::Interface(id) = def.owner else {
            return false;
        };
        let package = resolve.interfaces.get(id).and_then(|interface| interface.package);
        let package = package.and_then(|package| resolve.packages.get(package));
        package.is_some_and(|package| format!("{}:{}", package.name.namespace, package.name.name) == PACKAGE)
    };
    let is_it = |def: &TypeDef| {
        matches!(def.kind, TypeDefKind::Type(Type::String)) && def.name.as_deref() == Some("json") && of_contract(def)
    };
    let found: Vec<_> = resolve
        .types
        .iter()
        .filter(|(_, def)| is_it(def))
        .map(|(id, _)| id)
        .collect();
    if found.is_empty() {
        return HashSet::new();
    }
    upwards(resolve, found, |def| match &def.kind {
        TypeDefKind::Type(ty) => vec![ty],
        _ => Vec::new(),
    })
}

/// Returns `found` and all types that lead to one of them by the given steps. A component may have chains of thousands of
/// types, so nothing here recurses.
fn upwards<'r>(
    resolve: &'r Resolve,
    mut found: Vec<TypeId>,
    steps: impl Fn(&'r TypeDef) -> Vec<&'r Type>,
) -> HashSet<TypeId> {
    let mut users = HashMap::<TypeId, Vec<TypeId>>::new();
    for (user, def) in resolve.types.iter() {
        for ty in steps(def) {
            if let Type::Id(used) = ty {
                users.entry(*used).or_default().push(user);
            }
        }
    }
    let mut all: HashSet<_> = found.iter().copied().collect();
    while let Some(used) = found.pop() {
        let more = users.remove(&used).unwrap_or_default();
        found.extend(more.into_iter().filter(|user| all.insert(*user)));
    }
    all
}

/// The types directly inside of a type.
fn inside(def: &TypeDef) -> Vec<&Type> {
    match &def.kind {
        TypeDefKind::Type(ty)
        | TypeDefKind::List(ty)
        | TypeDefKind::FixedLengthList(ty, _)
        | TypeDefKind::Option(ty) => vec![ty],
        TypeDefKind::Map(key, value) => vec![key, value],
        TypeDefKind::Record(record) => record.fields.iter().map(|field| &field.ty).collect(),
        TypeDefKind::Tuple(tuple) => tuple.types.iter().collect(),
        TypeDefKind::Variant(variant) => variant.cases.iter().filter_map(|case| case.ty.as_ref()).collect(),
        TypeDefKind::Result(result) => [&result.ok, &result.err].into_iter().flatten().collect(),
        TypeDefKind::Enum(_)
        | TypeDefKind::Flags(_)
        | TypeDefKind::Resource
        | TypeDefKind::Handle(_)
        | TypeDefKind::Future(_)
        | TypeDefKind::Stream(_)
        | TypeDefKind::Unknown => Vec::new(),
    }
}

impl JsonTexts {
    /// Returns the places of `json` in the types of the function `run`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../agenthost/doc/guests.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost_plugin::Plugin;
    /// use agenthost_plugin::types::JsonTexts;
    ///
    /// # let component = double();
    /// let plugin = Plugin::read(&component)?; // takes a number, and returns one
    /// let places = JsonTexts::of(&plugin.resolve, &plugin.run);
    /// assert!(places.input.is_none() && places.ok.is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn of(resolve: &Resolve, run: &Function) -> Self {
        let json = json_types(resolve);
        if json.is_empty() {
            return Self::default();
        }
        let containing = upwards(resolve, json.iter().copied().collect(), inside);
        let variants = resolve.types.iter().filter_map(|(id, def)| match &def.kind {
            TypeDefKind::Variant(variant) if containing.contains(&id) => {
                let cases = variant.cases.iter();
                let cases = cases.filter_map(|case| Some((case.name.clone(), case.ty?)));
                Some((id, cases.collect()))
            }
            _ => None,
        });
        let table = Arc::new(Table {
            resolve: resolve.clone(),
            cases: variants.collect(),
            json,
            containing,
        });
        let of = |ty: Type| match ty {
            Type::Id(id) if table.containing.contains(&id) => Some(JsonText {
                table: Arc::clone(&table),
                ty,
            }),
            _ => None,
        };
        let output = run.result.map(|ty| {
            let sides = match strip(resolve, &ty) {
                Type::Id(id) => resolve.types.get(id).map(|def| &def.kind),
                _ => None,
            };
            match sides {
                Some(TypeDefKind::Result(result)) => (result.ok, result.err),
                _ => (Some(ty), None),
            }
        });
        let (ok, err) = output.unwrap_or_default();
        Self {
            input: run.params.first().and_then(|input| of(input.ty)),
            ok: ok.and_then(of),
            err: err.and_then(of),
        }
    }
}

impl JsonText {
    /// Replaces the values at the places of `json` by their texts.
    pub fn to_text(&self, mut value: Json) -> Json {
        // Every value has a text.
        let _ = self.convert(&self.ty, &mut value, To::Text, &Path::root(""));
        value
    }

    /// Replaces the texts at the places of `json` by their values.
    ///
    /// # Errors
    ///
    /// Returns the first place with a text that is not JSON, or that exceeds a bound.
    pub fn to_value(&self, mut value: Json, path: &str) -> Result<Json, ValueError> {
        let left = Cell::new(MAX_NODES);
        self.convert(&self.ty, &mut value, To::Value(&left), &Path::root(path))?;
        Ok(value)
    }

    /// Converts in place. A value that does not match its type is left as it is: the next step reports it.
    fn convert(&self, ty: &Type, value: &mut Json, to: To<'_>, at: &Path<'_>) -> Result<(), ValueError> {
        let Table {
            resolve,
            json,
            containing,
            cases,
        } = &*self.table;
        let mut ty = ty;
        let (id, def) = loop {
            let Type::Id(id) = ty else { return Ok(()) };
            if json.contains(id) {
                return convert_json(value, to, at);
            }
            let Some(def) = resolve.types.get(*id).filter(|_| containing.contains(id)) else {
                return Ok(());
            };
            match &def.kind {
                TypeDefKind::Type(target) => ty = target,
                _ => break (id, def),
            }
        };
        at.check_depth()?;
        let field = |value: Option<&mut Json>, name: &str, ty: &Type| {
            value.map_or(Ok(()), |value| self.convert(ty, value, to, &at.name(name)))
        };
        match (&def.kind, value) {
            (TypeDefKind::Record(record), Json::Object(fields)) => {
                let mut known = record.fields.iter();
                known.try_for_each(|known| field(fields.get_mut(&known.name), &known.name, &known.ty))
            }
            (TypeDefKind::Tuple(tuple), Json::Array(items)) => {
                let mut items = tuple.types.iter().zip(items).enumerate();
                items.try_for_each(|(index, (ty, item))| self.convert(ty, item, to, &at.index(index)))
            }
            (TypeDefKind::List(ty) | TypeDefKind::FixedLengthList(ty, _), Json::Array(items)) => {
                let mut items = items.iter_mut().enumerate();
                items.try_for_each(|(index, item)| self.convert(ty, item, to, &at.index(index)))
            }
            (TypeDefKind::Map(key, of), Json::Array(pairs)) => {
                let mut pairs = pairs.iter_mut().enumerate();
                pairs.try_for_each(|(index, pair)| match pair.as_array_mut().map(Vec::as_mut_slice) {
                    Some([left, right]) => {
                        self.convert(key, left, to, &at.index(index))?;
                        self.convert(of, right, to, &at.index(index))
                    }
                    _ => Ok(()),
                })
            }
            (TypeDefKind::Variant(_), Json::Object(case)) => {
                let cases = cases.get(id);
                let mut given = case.iter_mut();
                given.try_for_each(|(name, value)| match cases.and_then(|cases| cases.get(name)) {
                    Some(ty) => self.convert(ty, value, to, &at.name(name)),
                    None => Ok(()),
                })
            }
            (TypeDefKind::Option(ty), Json::Object(some)) if is_option(resolve, ty) => {
                field(some.get_mut("some"), "some", ty)
            }
            // An option of `json` that is absent is null. A JSON null is absent, too.
            (TypeDefKind::Option(_), Json::Null) => Ok(()),
            (TypeDefKind::Option(ty), value) => self.convert(ty, value, to, &at.inside()),
            (TypeDefKind::Result(result), Json::Object(case)) => {
                let sides = [("ok", &result.ok), ("err", &result.err)];
                sides.into_iter().try_for_each(|(name, ty)| match ty {
                    Some(ty) => field(case.get_mut(name), name, ty),
                    None => Ok(()),
                })
            }
            _ => Ok(()),
        }
    }
}

fn convert_json(value: &mut Json, to: To<'_>, at: &Path<'_>) -> Result<(), ValueError> {
    match (to, &*value) {
        (To::Text, _) => *value = Json::String(value.to_string()),
        (To::Value(left), Json::String(text)) => {
            let (values, levels) = measure(text);
            let rest = left.get().checked_sub(values).ok_or_else(|| {
                at.fail(
                    ValueErrorKind::TooLarge,
                    format!("JSON texts with more than {MAX_NODES} values in all"),
                )
            })?;
            left.set(rest);
            if levels + at.depth() > MAX_LEVELS {
                let problem = format!("JSON text that is nested deeper than {MAX_LEVELS} levels");
                return Err(at.fail(ValueErrorKind::TooLarge, problem));
            }
            *value = serde_json::from_str(text).map_err(|error| at.mismatch(format!("expected JSON text: {error}")))?;
        }
        (To::Value(_), _) => {}
    }
    Ok(())
}

/// Counts the values of a JSON text at most, and its levels, before it is parsed.
fn measure(text: &str) -> (usize, usize) {
    let (mut values, mut levels, mut deepest) = (1, 1_usize, 1);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                values += 1;
                levels += 1;
                deepest = deepest.max(levels);
            }
            b']' | b'}' => levels = levels.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
    }
    (values, deepest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const WIT: &str = r#"
package demo:kinds@0.1.0;

interface task {
  use agenthost:plugin/types@0.1.0.{json as any};
  /// Not the contract's.
  type json = string;
  variant kind { plain, given(any), named(tuple<string, any>) }
  record value {
    mine: json,
    one: any,
    many: list<option<any>>,
    nested: option<option<any>>,
    kind: kind,
    ended: result<any, string>,
    pairs: map<string, any>,
  }
  run: async func(input: value) -> string;
}
"#;

    fn resolve() -> (Resolve, Function) {
        let mut resolve = Resolve::default();
        resolve.push_str("plugin.wit", crate::contract::TEXT).unwrap();
        resolve.push_str("kinds.wit", WIT).unwrap();
        let run = resolve
            .interfaces
            .iter()
            .find_map(|(_, interface)| interface.functions.get("run").cloned())
            .unwrap();
        (resolve, run)
    }

    fn places() -> JsonText {
        let (resolve, run) = resolve();
        let places = JsonTexts::of(&resolve, &run);
        assert!(places.ok.is_none() && places.err.is_none());
        places.input.unwrap()
    }

    #[test]
    fn values_are_texts_inside_and_themselves_outside() {
        let places = places();
        let outside = json!({
            "mine": "[1]",
            "one": {"a": [1, null, "b"]},
            "many": [1.5, null, "text"],
            "nested": {"some": false},
            "kind": {"named": ["x", [true]]},
            "ended": {"ok": {}},
            "pairs": [["k", 7]],
        });
        let inside = places.to_text(outside.clone());
        let expected = json!({
            "mine": "[1]",
            "one": r#"{"a":[1,null,"b"]}"#,
            "many": ["1.5", null, r#""text""#],
            "nested": {"some": "false"},
            "kind": {"named": ["x", "[true]"]},
            "ended": {"ok": "{}"},
            "pairs": [["k", "7"]],
        });
        assert_eq!(inside, expected);
        assert_eq!(places.to_value(inside, "output").unwrap(), outside);
    }

    #[test]
    fn a_text_that_is_not_json_is_an_error_with_its_place() {
        let places = places();
        let error = places
            .to_value(json!({"kind": {"given": "{not json"}}), "output")
            .unwrap_err();
        assert!(
            error.to_string().starts_with("output.kind.given: expected JSON text: "),
            "{error}"
        );
        // The next step reports what does not match the type.
        for other in [
            json!(null),
            json!([1]),
            json!({"many": 3, "kind": {"no": 1}, "pairs": [["k"]], "ended": "ok"}),
        ] {
            assert_eq!(places.to_text(other.clone()), other);
        }
    }

    #[test]
    fn the_schema_of_json_is_any_value() {
        let (resolve, run) = resolve();
        let schema = crate::types::schema::schema(&resolve, &run.params[0].ty, "input").unwrap();
        let json = &schema["$defs"];
        let any = json
            .as_object()
            .unwrap()
            .values()
            .find(|def| def.get("type").is_none() && def.get("anyOf").is_none());
        assert!(
            any.unwrap()["description"].as_str().unwrap().starts_with("JSON"),
            "{schema}"
        );
    }

    #[test]
    fn a_text_is_bounded_before_it_is_parsed() {
        let places = places();
        let refused = |one: String| {
            let error = places.to_value(json!({"one": one}), "output").unwrap_err();
            assert_eq!(error.kind(), ValueErrorKind::TooLarge, "{error}");
            error.to_string()
        };
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        // The record is a level of its own.
        assert!(
            places
                .to_value(json!({"one": nested(MAX_LEVELS - 3)}), "output")
                .is_ok()
        );
        assert_eq!(
            refused(nested(MAX_LEVELS - 1)),
            "output.one: JSON text that is nested deeper than 100 levels"
        );
        // Even if it is not JSON.
        refused("[".repeat(1 << 20));
        let wide = format!("[{}0]", "0,".repeat(MAX_NODES));
        assert_eq!(
            refused(wide),
            "output.one: JSON texts with more than 1048576 values in all"
        );
        let half = format!("[{}0]", "0,".repeat(MAX_NODES / 2));
        let both = json!({"one": half, "many": [half]});
        assert!(
            places
                .to_value(both, "output")
                .unwrap_err()
                .to_string()
                .starts_with("output.many[0]: ")
        );
        let text = json!({"one": "\"[[[[,,,,{{{{\\\"[[[[,,,\""});
        assert_eq!(measure(text["one"].as_str().unwrap()), (1, 1));
        assert!(places.to_value(text, "output").is_ok());
    }

    #[test]
    fn a_long_chain_of_aliases_uses_no_stack() {
        let mut wit = String::from("package demo:chain@0.1.0;\ninterface task {\n");
        wit.push_str("  use agenthost:plugin/types@0.1.0.{json as t0};\n");
        for n in 1..15_000 {
            wit.push_str(&format!("  type t{n} = t{};\n", n - 1));
        }
        wit.push_str("  run: async func(input: list<t14999>) -> string;\n}\n");
        let mut resolve = Resolve::default();
        resolve.push_str("plugin.wit", crate::contract::TEXT).unwrap();
        resolve.push_str("chain.wit", &wit).unwrap();
        let mut interfaces = resolve.interfaces.iter();
        let run = interfaces.find_map(|(_, interface)| interface.functions.get("run").cloned());
        let run = run.unwrap();
        let work = move || {
            let places = JsonTexts::of(&resolve, &run).input.unwrap();
            places.to_value(json!(["[1]"]), "input").unwrap()
        };
        let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(work).unwrap();
        assert_eq!(thread.join().unwrap(), json!([[1]]));
    }
}
