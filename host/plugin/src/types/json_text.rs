//! The type `json` of the contract: a text between plugins and the host, the JSON value itself in documents.
//!
//! A type that contains `json` converts in two steps: this module replaces values by their texts, and texts by their
//! values, at the places of `json`; everything else converts as it does without it.

use std::collections::{HashMap, HashSet};

use serde_json::Value as Json;
use wit_parser::{Resolve, Type, TypeDef, TypeDefKind, TypeId, TypeOwner};

use super::wit::{is_option, strip};
use super::{Path, ValueError};
use crate::contract::PACKAGE;

/// A WIT type, with the places of `json` in it.
#[derive(Debug, Clone)]
pub struct JsonText {
    resolve: Resolve,
    ty: Type,
    /// The payloads of the variants, by name: one may have thousands of cases, and a list a million of its values.
    cases: HashMap<TypeId, HashMap<String, Type>>,
}

/// The direction of a conversion.
#[derive(Clone, Copy)]
enum To {
    Text,
    Value,
}

/// Returns whether a type is `json` of the contract, under any name.
pub(super) fn is_json(resolve: &Resolve, def: &TypeDef) -> bool {
    let of_contract = || {
        let TypeOwner::Interface(id) = def.owner else {
            return false;
        };
        let package = resolve.interfaces.get(id).and_then(|interface| interface.package);
        let package = package.and_then(|package| resolve.packages.get(package));
        package.is_some_and(|package| format!("{}:{}", package.name.namespace, package.name.name) == PACKAGE)
    };
    match def.kind {
        TypeDefKind::Type(Type::String) => def.name.as_deref() == Some("json") && of_contract(),
        TypeDefKind::Type(Type::Id(id)) => resolve.types.get(id).is_some_and(|target| is_json(resolve, target)),
        _ => false,
    }
}

impl JsonText {
    /// Returns the places of `json` in a type; `None` if it contains none.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../agenthost/doc/guests.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost_plugin::Plugin;
    /// use agenthost_plugin::types::JsonText;
    ///
    /// # let component = double();
    /// let plugin = Plugin::read(&component)?; // takes a number
    /// assert!(JsonText::of(&plugin.resolve, &plugin.run.params[0].ty).is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn of(resolve: &Resolve, ty: &Type) -> Option<Self> {
        let mut seen = HashSet::new();
        if !contains(resolve, ty, &mut seen) {
            return None;
        }
        let variants = resolve.types.iter().filter_map(|(id, def)| match &def.kind {
            TypeDefKind::Variant(variant) => {
                let cases = variant.cases.iter();
                let cases = cases.filter_map(|case| Some((case.name.clone(), case.ty?)));
                Some((id, cases.collect()))
            }
            _ => None,
        });
        Some(Self {
            resolve: resolve.clone(),
            ty: *ty,
            cases: variants.collect(),
        })
    }

    /// Returns the places of `json` in the type that `run` returns: those of the output, and those of the error.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../agenthost/doc/guests.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost_plugin::Plugin;
    /// use agenthost_plugin::types::JsonText;
    ///
    /// # let component = double();
    /// let plugin = Plugin::read(&component)?; // returns a number
    /// let output = plugin.run.result.as_ref().ok_or("it returns nothing")?;
    /// assert!(matches!(JsonText::of_output(&plugin.resolve, output), (None, None)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn of_output(resolve: &Resolve, ty: &Type) -> (Option<Self>, Option<Self>) {
        let Type::Id(id) = strip(resolve, ty) else {
            return (None, None);
        };
        match resolve.types.get(id).map(|def| &def.kind) {
            Some(TypeDefKind::Result(result)) => {
                let side = |ty: Option<&Type>| ty.and_then(|ty| Self::of(resolve, ty));
                (side(result.ok.as_ref()), side(result.err.as_ref()))
            }
            _ => (Self::of(resolve, ty), None),
        }
    }

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
    /// Returns the first place with a text that is not JSON.
    pub fn to_value(&self, mut value: Json, path: &str) -> Result<Json, ValueError> {
        self.convert(&self.ty, &mut value, To::Value, &Path::root(path))?;
        Ok(value)
    }

    /// Converts in place. A value that does not match its type is left as it is: the next step reports it.
    fn convert(&self, ty: &Type, value: &mut Json, to: To, at: &Path<'_>) -> Result<(), ValueError> {
        let Type::Id(id) = ty else { return Ok(()) };
        let Some(def) = self.resolve.types.get(*id) else {
            return Ok(());
        };
        at.check_depth()?;
        if is_json(&self.resolve, def) {
            match (to, &*value) {
                (To::Text, _) => *value = Json::String(value.to_string()),
                (To::Value, Json::String(text)) => {
                    *value = serde_json::from_str(text)
                        .map_err(|error| at.mismatch(format!("expected JSON text: {error}")))?;
                }
                (To::Value, _) => {}
            }
            return Ok(());
        }
        let each = |ty: &Type, items: &mut [Json]| {
            let mut items = items.iter_mut().enumerate();
            items.try_for_each(|(index, item)| self.convert(ty, item, to, &at.index(index)))
        };
        match (&def.kind, value) {
            (TypeDefKind::Type(ty), value) => self.convert(ty, value, to, at),
            (TypeDefKind::Record(record), Json::Object(fields)) => {
                let mut known = record.fields.iter();
                known.try_for_each(|field| match fields.get_mut(&field.name) {
                    Some(value) => self.convert(&field.ty, value, to, &at.name(&field.name)),
                    None => Ok(()),
                })
            }
            (TypeDefKind::Tuple(tuple), Json::Array(items)) => {
                let mut items = tuple.types.iter().zip(items).enumerate();
                items.try_for_each(|(index, (ty, item))| self.convert(ty, item, to, &at.index(index)))
            }
            (TypeDefKind::List(ty) | TypeDefKind::FixedLengthList(ty, _), Json::Array(items)) => each(ty, items),
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
                let cases = self.cases.get(id);
                let mut given = case.iter_mut();
                given.try_for_each(|(name, value)| match cases.and_then(|cases| cases.get(name)) {
                    Some(ty) => self.convert(ty, value, to, &at.name(name)),
                    None => Ok(()),
                })
            }
            (TypeDefKind::Option(ty), Json::Object(some)) if is_option(&self.resolve, ty) => {
                self.field(some.get_mut("some"), "some", ty, to, at)
            }
            // An option of `json` that is absent is null. A JSON null is absent, too.
            (TypeDefKind::Option(_), Json::Null) => Ok(()),
            (TypeDefKind::Option(ty), value) => self.convert(ty, value, to, at),
            (TypeDefKind::Result(result), Json::Object(case)) => {
                let sides = [("ok", &result.ok), ("err", &result.err)];
                sides.into_iter().try_for_each(|(name, ty)| match ty {
                    Some(ty) => self.field(case.get_mut(name), name, ty, to, at),
                    None => Ok(()),
                })
            }
            _ => Ok(()),
        }
    }

    fn field(&self, value: Option<&mut Json>, name: &str, ty: &Type, to: To, at: &Path<'_>) -> Result<(), ValueError> {
        value.map_or(Ok(()), |value| self.convert(ty, value, to, &at.name(name)))
    }
}

/// Returns whether a type contains `json`.
fn contains(resolve: &Resolve, ty: &Type, seen: &mut HashSet<TypeId>) -> bool {
    let Type::Id(id) = ty else { return false };
    let Some(def) = resolve.types.get(*id).filter(|_| seen.insert(*id)) else {
        return false;
    };
    if is_json(resolve, def) {
        return true;
    }
    let mut any = |ty: &Type| contains(resolve, ty, seen);
    match &def.kind {
        TypeDefKind::Type(ty)
        | TypeDefKind::List(ty)
        | TypeDefKind::FixedLengthList(ty, _)
        | TypeDefKind::Option(ty) => any(ty),
        TypeDefKind::Map(key, value) => any(key) || any(value),
        TypeDefKind::Record(record) => record.fields.iter().any(|field| any(&field.ty)),
        TypeDefKind::Tuple(tuple) => tuple.types.iter().any(any),
        TypeDefKind::Variant(variant) => variant.cases.iter().filter_map(|case| case.ty.as_ref()).any(any),
        TypeDefKind::Result(result) => [&result.ok, &result.err].into_iter().flatten().any(any),
        TypeDefKind::Enum(_)
        | TypeDefKind::Flags(_)
        | TypeDefKind::Resource
        | TypeDefKind::Handle(_)
        | TypeDefKind::Future(_)
        | TypeDefKind::Stream(_)
        | TypeDefKind::Unknown => false,
    }
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

    fn resolve() -> (Resolve, Type, Type) {
        let mut resolve = Resolve::default();
        resolve.push_str("plugin.wit", crate::contract::TEXT).unwrap();
        resolve.push_str("kinds.wit", WIT).unwrap();
        let run = resolve
            .interfaces
            .iter()
            .find_map(|(_, interface)| interface.functions.get("run"))
            .unwrap();
        let (input, output) = (run.params[0].ty, run.result.unwrap());
        (resolve, input, output)
    }

    #[test]
    fn values_are_texts_inside_and_themselves_outside() {
        let (resolve, input, output) = resolve();
        assert!(JsonText::of(&resolve, &output).is_none());
        let places = JsonText::of(&resolve, &input).unwrap();
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
        let (resolve, input, _) = resolve();
        let places = JsonText::of(&resolve, &input).unwrap();
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
        let (resolve, input, _) = resolve();
        let schema = crate::types::schema::schema(&resolve, &input, "input").unwrap();
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
}
