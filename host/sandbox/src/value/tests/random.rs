//! Random types with random values: the printed value reads back, and the schema agrees with it, also about wrong
//! values.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use wasmtime::component::Val;

use super::super::{from_json, sample, to_json};
use super::load;
use agenthost_plugin::types::schema::schema;

/// A random type.
#[derive(Debug, Clone)]
enum Ty {
    Plain(&'static str),
    List(Box<Ty>),
    Fixed(Box<Ty>, u32),
    Map(&'static str, Box<Ty>),
    Record(Vec<Ty>),
    Tuple(Vec<Ty>),
    Variant(Vec<Option<Ty>>),
    Enum(usize),
    Flags(usize),
    Option(Box<Ty>),
    Result(Option<Box<Ty>>, Option<Box<Ty>>),
}

impl Ty {
    /// Returns the type's text; a type that needs its own block is added to `items`.
    fn wit(&self, items: &mut Vec<String>) -> String {
        let named = |items: &mut Vec<String>, word: &str, members: Vec<String>| {
            let name = format!("t{}", items.len());
            items.push(format!("{word} {name} {{ {} }}", members.join(", ")));
            name
        };
        let numbered = |count: usize| (0..count).map(|n| format!("n{n}")).collect();
        match self {
            Self::Plain(name) => (*name).to_owned(),
            Self::List(ty) => format!("list<{}>", ty.wit(items)),
            Self::Fixed(ty, count) => format!("list<{}, {count}>", ty.wit(items)),
            Self::Map(key, ty) => format!("map<{key}, {}>", ty.wit(items)),
            Self::Record(types) => {
                let fields = types.iter().enumerate();
                let fields = fields.map(|(n, ty)| format!("n{n}: {}", ty.wit(items))).collect();
                named(items, "record", fields)
            }
            Self::Tuple(types) => {
                let types: Vec<_> = types.iter().map(|ty| ty.wit(items)).collect();
                format!("tuple<{}>", types.join(", "))
            }
            Self::Variant(cases) => {
                let cases = cases.iter().enumerate().map(|(n, ty)| match ty {
                    Some(ty) => format!("n{n}({})", ty.wit(items)),
                    None => format!("n{n}"),
                });
                let cases = cases.collect();
                named(items, "variant", cases)
            }
            Self::Enum(count) => named(items, "enum", numbered(*count)),
            Self::Flags(count) => named(items, "flags", numbered(*count)),
            Self::Option(ty) => format!("option<{}>", ty.wit(items)),
            Self::Result(ok, err) => match (ok, err) {
                (Some(ok), Some(err)) => format!("result<{}, {}>", ok.wit(items), err.wit(items)),
                (Some(ok), None) => format!("result<{}>", ok.wit(items)),
                (None, Some(err)) => format!("result<_, {}>", err.wit(items)),
                (None, None) => "result".to_owned(),
            },
        }
    }

    fn value(&self) -> BoxedStrategy<Val> {
        let boxed = |val: Val| Some(Box::new(val));
        match self {
            Self::Plain(name) => plain(name),
            Self::List(ty) => vec(ty.value(), 0..4).prop_map(Val::List).boxed(),
            Self::Fixed(ty, count) => vec(ty.value(), *count as usize).prop_map(Val::FixedLengthList).boxed(),
            Self::Map(key, ty) => vec((plain(key), ty.value()), 0..4).prop_map(Val::Map).boxed(),
            Self::Record(types) => {
                let values: Vec<_> = types.iter().map(Ty::value).collect();
                let named = |values: Vec<Val>| {
                    let fields = values.into_iter().enumerate();
                    Val::Record(fields.map(|(n, val)| (format!("n{n}"), val)).collect())
                };
                values.prop_map(named).boxed()
            }
            Self::Tuple(types) => {
                let values: Vec<_> = types.iter().map(Ty::value).collect();
                values.prop_map(Val::Tuple).boxed()
            }
            Self::Variant(cases) => {
                let cases: Vec<_> = cases
                    .iter()
                    .enumerate()
                    .map(|(n, ty)| match ty {
                        Some(ty) => ty
                            .value()
                            .prop_map(move |val| Val::Variant(format!("n{n}"), boxed(val)))
                            .boxed(),
                        None => Just(Val::Variant(format!("n{n}"), None)).boxed(),
                    })
                    .collect();
                proptest::strategy::Union::new(cases).boxed()
            }
            Self::Enum(count) => (0..*count).prop_map(|n| Val::Enum(format!("n{n}"))).boxed(),
            Self::Flags(count) => {
                let named = |set: Vec<bool>| {
                    let names = set.into_iter().enumerate().filter(|(_, set)| *set);
                    Val::Flags(names.map(|(n, _)| format!("n{n}")).collect())
                };
                vec(any::<bool>(), *count).prop_map(named).boxed()
            }
            Self::Option(ty) => prop_oneof![
                Just(Val::Option(None)),
                ty.value().prop_map(move |val| Val::Option(boxed(val)))
            ]
            .boxed(),
            Self::Result(ok, err) => {
                let side = |ty: &Option<Box<Ty>>| match ty {
                    Some(ty) => ty.value().prop_map(boxed).boxed(),
                    None => Just(None).boxed(),
                };
                prop_oneof![
                    side(ok).prop_map(|val| Val::Result(Ok(val))),
                    side(err).prop_map(|val| Val::Result(Err(val)))
                ]
                .boxed()
            }
        }
    }
}

fn plain(name: &str) -> BoxedStrategy<Val> {
    match name {
        "bool" => any::<bool>().prop_map(Val::Bool).boxed(),
        "u8" => any::<u8>().prop_map(Val::U8).boxed(),
        "s8" => any::<i8>().prop_map(Val::S8).boxed(),
        "u16" => any::<u16>().prop_map(Val::U16).boxed(),
        "s16" => any::<i16>().prop_map(Val::S16).boxed(),
        "u32" => any::<u32>().prop_map(Val::U32).boxed(),
        "s32" => any::<i32>().prop_map(Val::S32).boxed(),
        "u64" => any::<u64>().prop_map(Val::U64).boxed(),
        "s64" => any::<i64>().prop_map(Val::S64).boxed(),
        "f32" => any::<u32>().prop_map(|bits| Val::Float32(f32::from_bits(bits))).boxed(),
        "f64" => any::<u64>().prop_map(|bits| Val::Float64(f64::from_bits(bits))).boxed(),
        "char" => any::<char>().prop_map(Val::Char).boxed(),
        _ => any::<String>().prop_map(Val::String).boxed(),
    }
}

const KEYS: [&str; 11] = [
    "bool", "u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64", "char", "string",
];

fn types() -> impl Strategy<Value = Ty> {
    let leaf = prop_oneof![
        8 => prop::sample::select(KEYS.to_vec()).prop_map(Ty::Plain),
        2 => prop::sample::select(vec!["f32", "f64"]).prop_map(Ty::Plain),
        1 => (1..5_usize).prop_map(Ty::Enum),
        1 => (1..5_usize).prop_map(Ty::Flags),
    ];
    leaf.prop_recursive(5, 24, 4, |inner| {
        let boxed = || inner.clone().prop_map(Box::new);
        prop_oneof![
            2 => boxed().prop_map(Ty::List),
            1 => (boxed(), 1..4_u32).prop_map(|(ty, count)| Ty::Fixed(ty, count)),
            1 => (prop::sample::select(KEYS.to_vec()), boxed()).prop_map(|(key, ty)| Ty::Map(key, ty)),
            3 => vec(inner.clone(), 1..4).prop_map(Ty::Record),
            1 => vec(inner.clone(), 1..4).prop_map(Ty::Tuple),
            3 => vec(prop::option::of(inner.clone()), 1..4).prop_map(Ty::Variant),
            4 => boxed().prop_map(Ty::Option),
            1 => (prop::option::of(boxed()), prop::option::of(boxed())).prop_map(|(ok, err)| Ty::Result(ok, err)),
        ]
    })
}

/// Replaces the value at one place of `json`; `seed` determines the place and the change.
fn mutate(json: &mut Json, seed: usize) {
    fn count(json: &Json) -> usize {
        1 + match json {
            Json::Array(items) => items.iter().map(count).sum(),
            Json::Object(object) => object.values().map(count).sum(),
            _ => 0,
        }
    }
    fn nth<'j>(json: &'j mut Json, left: &mut usize) -> Option<&'j mut Json> {
        if *left == 0 {
            return Some(json);
        }
        *left -= 1;
        match json {
            Json::Array(items) => items.iter_mut().find_map(|item| nth(item, left)),
            Json::Object(object) => object.values_mut().find_map(|item| nth(item, left)),
            _ => None,
        }
    }
    let places = count(json);
    let place = nth(json, &mut (seed % places)).expect("a place");
    let change = seed / places;
    let atoms = [
        json!(null),
        json!(true),
        json!(-1),
        json!(300),
        json!(1.5),
        json!(3.0),
        json!(1e300),
        json!(3.5e38),
        json!(u64::MAX),
        json!(""),
        json!("n0"),
        json!("n1"),
        json!("x"),
        json!("\u{1f600}"),
        json!("12"),
        json!("012"),
        json!("-0"),
        json!("NaN"),
        json!([]),
        json!({}),
        json!({"n0": null}),
        json!({"n1": "x"}),
        json!({"ok": null}),
        json!({"some": null}),
        json!([["x", 1]]),
    ];
    match (place, change % 3) {
        (Json::Array(items), 0) => {
            let first = items.first().cloned().unwrap_or(Json::Null);
            items.push(first);
        }
        (Json::Array(items), 1) => drop(items.pop()),
        (Json::Object(object), 0) => drop(object.insert("n9".to_owned(), Json::Null)),
        (Json::Object(object), 1) => drop(object.pop_first_key()),
        (place, _) => *place = atoms[(change / 3) % atoms.len()].clone(),
    }
}

trait PopFirstKey {
    fn pop_first_key(&mut self) -> Option<Json>;
}

impl PopFirstKey for serde_json::Map<String, Json> {
    fn pop_first_key(&mut self) -> Option<Json> {
        let key = self.keys().next()?.clone();
        self.shift_remove(&key)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn values_and_schemas_agree(
        (ty, values) in types().prop_flat_map(|ty| { let value = ty.value(); (Just(ty), vec(value, 4)) }),
        seeds in vec(any::<usize>(), 60),
    ) {
        let mut items = Vec::new();
        let text = ty.wit(&mut items);
        let text = format!("{}\nf: func(x: {text});", items.join("\n"));
        let loaded = load(&text);
        let ty = &loaded.params[0];
        let schema = schema(&loaded.resolve, &loaded.function.params[0].ty, "input").unwrap();
        prop_assert!(jsonschema::draft202012::meta::is_valid(&schema), "{schema}");
        let validator = jsonschema::draft202012::new(&schema).unwrap();

        let sample = sample(ty);
        prop_assert!(from_json(ty, &sample, "input").is_ok() && validator.is_valid(&sample), "{text}: {sample}");
        for value in &values {
            let json = to_json(value, "output").unwrap();
            let json: Json = serde_json::from_str(&json.to_string()).unwrap();
            prop_assert_eq!(&from_json(ty, &json, "input").unwrap(), value);
            prop_assert!(validator.is_valid(&json), "{schema} {json}");
            for seed in &seeds {
                let mut wrong = json.clone();
                mutate(&mut wrong, *seed);
                let read = from_json(ty, &wrong, "input");
                prop_assert_eq!(read.is_ok(), validator.is_valid(&wrong), "{} {} {:?}", text, wrong, read);
                if let Ok(value) = read {
                    let json = to_json(&value, "output").unwrap();
                    prop_assert_eq!(from_json(ty, &json, "input").unwrap(), value);
                }
            }
        }
    }
}
