//! A small input that illustrates a type.

use serde_json::{Map, Value as Json, json};
use wasmtime::component::Type;

/// The number of values after which further lists stay empty and further options are `null`.
const ENOUGH: usize = 100;

/// The number of values after which lists of a fixed length stay empty, too, although their type forbids it.
const MAX: usize = 10_000;

/// Returns a small value of `ty`, always the same: strings are `…`, numbers are 0, lists have one item, options are
/// filled in to show their type, and the first of several cases is used.
///
/// [`super::from_json`] accepts it, unless the type contains handles (shown as `null`) or its lists of a fixed length
/// need more than 10,000 values.
///
/// ```
/// use agenthost_sandbox::value::sample;
/// use serde_json::json;
/// use wasmtime::component::Type;
///
/// assert_eq!(sample(&Type::String), json!("…"));
/// ```
pub fn sample(ty: &Type) -> Json {
    let mut shown = 0;
    show(ty, &mut shown)
}

fn show(ty: &Type, shown: &mut usize) -> Json {
    *shown += 1;
    match ty {
        Type::Bool => json!(false),
        Type::S8 | Type::U8 | Type::S16 | Type::U16 | Type::S32 | Type::U32 | Type::S64 | Type::U64 => json!(0),
        Type::Float32 | Type::Float64 => json!(0.0),
        Type::Char => json!("x"),
        Type::String => json!("…"),
        Type::List(_) | Type::Map(_) if *shown >= ENOUGH => json!([]),
        Type::List(list) => json!([show(&list.ty(), shown)]),
        Type::Map(map) => json!([[show(&map.key(), shown), show(&map.value(), shown)]]),
        Type::FixedLengthList(list) => {
            let item = list.ty();
            let mut items = Vec::new();
            while items.len() < list.len() as usize && *shown < MAX {
                items.push(show(&item, shown));
            }
            Json::Array(items)
        }
        Type::Record(record) => Json::Object(
            record
                .fields()
                .map(|field| (field.name.to_owned(), show(&field.ty, shown)))
                .collect(),
        ),
        Type::Tuple(tuple) => tuple.types().map(|ty| show(&ty, shown)).collect(),
        Type::Variant(variant) => match variant.cases().next() {
            Some(case) => match case.ty {
                Some(ty) => wrapped(case.name, show(&ty, shown)),
                None => json!(case.name),
            },
            None => Json::Null,
        },
        Type::Enum(cases) => cases.names().next().map_or(Json::Null, Json::from),
        Type::Flags(flags) => flags.names().take(1).map(Json::from).collect(),
        Type::Option(_) if *shown >= ENOUGH => Json::Null,
        Type::Option(option) => match option.ty() {
            ty @ Type::Option(_) => wrapped("some", show(&ty, shown)),
            ty => show(&ty, shown),
        },
        Type::Result(result) => wrapped("ok", result.ok().map_or(Json::Null, |ty| show(&ty, shown))),
        Type::Own(_) | Type::Borrow(_) | Type::Future(_) | Type::Stream(_) | Type::ErrorContext => Json::Null,
    }
}

fn wrapped(name: &str, value: Json) -> Json {
    Json::Object(Map::from_iter([(name.to_owned(), value)]))
}
