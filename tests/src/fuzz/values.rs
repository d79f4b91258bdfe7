//! Values of random types as JSON, and JSON as values of them.

use std::sync::OnceLock;

use agenthost::plugin::types::schema::schema;
use agenthost::value::{from_json, sample, to_json};
use arbitrary::{Arbitrary, Result, Unstructured};
use serde_json::Value as Json;
use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Type, Val};
use wit_parser::{Function, Resolve};

/// How deep a made-up type nests.
const DEPTH: u32 = 5;
/// Values in a made-up list.
const ITEMS: u32 = 4;

/// A type and a value of it, and JSON that may be one: what is printed is read back.
pub fn values(bytes: &[u8]) {
    let mut made = Unstructured::new(bytes);
    let mut items = Vec::new();
    let (Ok(text), Ok(seed)) = (ty(&mut made, &mut items, DEPTH), u64::arbitrary(&mut made)) else {
        return;
    };
    let Some((ty, resolve, function)) = load(&items, &text) else {
        return;
    };
    let schema = schema(&resolve, &function.params[0].ty, "input").unwrap();
    assert!(schema.is_object(), "{schema}");
    let sample = sample(&ty);
    from_json(&ty, &sample, "input").unwrap_or_else(|error| panic!("{text}: {sample}: {error}"));
    if let Ok(value) = value(&mut made, &ty, seed) {
        let json = to_json(&value, "output").unwrap();
        let json: Json = serde_json::from_str(&json.to_string()).unwrap();
        assert_eq!(from_json(&ty, &json, "input").unwrap(), value, "{text}: {json}");
    }
    // The rest of the bytes is JSON written by others.
    if let Ok(json) = serde_json::from_slice::<Json>(made.take_rest())
        && let Ok(value) = from_json(&ty, &json, "input")
    {
        let printed = to_json(&value, "output").unwrap();
        assert_eq!(from_json(&ty, &printed, "input").unwrap(), value, "{text}: {json}");
    }
}

/// A made-up type; what needs a block of its own goes to `items`.
fn ty(made: &mut Unstructured<'_>, items: &mut Vec<String>, depth: u32) -> Result<String> {
    const KEYS: [&str; 11] = [
        "bool", "u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64", "char", "string",
    ];
    let most = if depth == 0 { 2 } else { 11 };
    let named = |items: &mut Vec<String>, word: &str, members: Vec<String>| {
        let name = format!("t{}", items.len());
        items.push(format!("{word} {name} {{ {} }}", members.join(", ")));
        name
    };
    Ok(match made.int_in_range(0..=most)? {
        0 => (*made.choose(&KEYS)?).to_owned(),
        1 => (*made.choose(&["f32", "f64"])?).to_owned(),
        2 => {
            let word = *made.choose(&["enum", "flags"])?;
            // More than 32 flags take two words.
            let count = made.int_in_range(1..=34)?;
            named(items, word, (0..count).map(|n| format!("n{n}")).collect())
        }
        3 => format!("list<{}>", ty(made, items, depth - 1)?),
        4 => format!(
            "list<{}, {}>",
            ty(made, items, depth - 1)?,
            made.int_in_range(1..=ITEMS)?
        ),
        5 => format!("map<{}, {}>", made.choose(&KEYS)?, ty(made, items, depth - 1)?),
        6 => {
            let count = made.int_in_range(1..=ITEMS)?;
            let field = |n| Ok(format!("n{n}: {}", ty(made, items, depth - 1)?));
            let fields = (0..count).map(field).collect::<Result<_>>()?;
            named(items, "record", fields)
        }
        7 => {
            let count = made.int_in_range(1..=ITEMS)?;
            let types = (0..count).map(|_| ty(made, items, depth - 1));
            format!("tuple<{}>", types.collect::<Result<Vec<_>>>()?.join(", "))
        }
        8 => {
            let count = made.int_in_range(1..=ITEMS)?;
            let case = |n| {
                Ok(match bool::arbitrary(made)? {
                    true => format!("n{n}({})", ty(made, items, depth - 1)?),
                    false => format!("n{n}"),
                })
            };
            let cases = (0..count).map(case).collect::<Result<_>>()?;
            named(items, "variant", cases)
        }
        9 | 10 => format!("option<{}>", ty(made, items, depth - 1)?),
        _ => match made.int_in_range(0..=3)? {
            0 => "result".to_owned(),
            1 => format!("result<{}>", ty(made, items, depth - 1)?),
            2 => format!("result<_, {}>", ty(made, items, depth - 1)?),
            _ => format!(
                "result<{}, {}>",
                ty(made, items, depth - 1)?,
                ty(made, items, depth - 1)?
            ),
        },
    })
}

/// The type `text` in both worlds; `None` if it nests too deep for the validator.
fn load(items: &[String], text: &str) -> Option<(Type, Resolve, Function)> {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| {
        let mut config = wasmtime::Config::new();
        config.wasm_component_model_map(true);
        config.wasm_component_model_fixed_length_lists(true);
        Engine::new(&config).unwrap()
    });
    let text = format!(
        "package t:t;\ninterface i {{\n{}\nf: func(x: {text});\n}}\n",
        items.join("\n")
    );
    let mut resolve = Resolve::default();
    let package = resolve.push_str("fuzz.wit", &text).unwrap();
    let interface = resolve.packages[package].interfaces["i"];
    let function = resolve.interfaces[interface].functions["f"].clone();
    let bytes = wit_component::encode(&resolve, package).unwrap();
    let component = Component::new(engine, bytes).ok()?;
    let ty = component.component_type();
    let ComponentItem::Component(package) = ty.get_export(engine, "i")?.ty else {
        return None;
    };
    let ComponentItem::ComponentInstance(interface) = package.get_export(engine, "t:t/i")?.ty else {
        return None;
    };
    let ComponentItem::ComponentFunc(func) = interface.get_export(engine, "f")?.ty else {
        return None;
    };
    let ty = func.params().next()?.1;
    Some((ty, resolve, function))
}

/// A made-up value of `ty`.
fn value(made: &mut Unstructured<'_>, ty: &Type, seed: u64) -> Result<Val> {
    let boxed = |value: Val| Some(Box::new(value));
    let count = |made: &mut Unstructured<'_>| made.int_in_range(0..=ITEMS);
    Ok(match ty {
        Type::Bool => Val::Bool(made.arbitrary()?),
        Type::S8 => Val::S8(made.arbitrary()?),
        Type::U8 => Val::U8(made.arbitrary()?),
        Type::S16 => Val::S16(made.arbitrary()?),
        Type::U16 => Val::U16(made.arbitrary()?),
        Type::S32 => Val::S32(made.arbitrary()?),
        Type::U32 => Val::U32(made.arbitrary()?),
        Type::S64 => Val::S64(made.arbitrary()?),
        Type::U64 => Val::U64(made.arbitrary()?),
        Type::Float32 => Val::Float32(f32::from_bits(made.arbitrary()?)),
        Type::Float64 => Val::Float64(f64::from_bits(made.arbitrary()?)),
        Type::Char => Val::Char(made.arbitrary()?),
        Type::String => Val::String(made.arbitrary()?),
        Type::List(list) => {
            let values = (0..count(made)?).map(|_| value(made, &list.ty(), seed));
            Val::List(values.collect::<Result<_>>()?)
        }
        Type::FixedLengthList(list) => {
            let values = (0..list.len()).map(|_| value(made, &list.ty(), seed));
            Val::FixedLengthList(values.collect::<Result<_>>()?)
        }
        Type::Map(map) => {
            let pairs =
                (0..count(made)?).map(|_| Ok((value(made, &map.key(), seed)?, value(made, &map.value(), seed)?)));
            Val::Map(pairs.collect::<Result<_>>()?)
        }
        Type::Record(record) => {
            let fields = record
                .fields()
                .map(|field| Ok((field.name.to_owned(), value(made, &field.ty, seed)?)));
            Val::Record(fields.collect::<Result<_>>()?)
        }
        Type::Tuple(tuple) => {
            let values = tuple.types().map(|ty| value(made, &ty, seed));
            Val::Tuple(values.collect::<Result<_>>()?)
        }
        Type::Variant(variant) => {
            let cases: Vec<_> = variant.cases().collect();
            let case = &cases[made.choose_index(cases.len())?];
            let payload = case.ty.as_ref().map(|ty| value(made, ty, seed)).transpose()?;
            Val::Variant(case.name.to_owned(), payload.map(Box::new))
        }
        Type::Enum(names) => {
            let names: Vec<_> = names.names().collect();
            Val::Enum((*made.choose(&names)?).to_owned())
        }
        Type::Flags(flags) => {
            let set = |n: usize| seed.rotate_left(n as u32) & 1 == 1;
            let names = flags.names().enumerate().filter(|(n, _)| set(*n));
            Val::Flags(names.map(|(_, name)| name.to_owned()).collect())
        }
        Type::Option(option) => Val::Option(match made.arbitrary()? {
            true => boxed(value(made, &option.ty(), seed)?),
            false => None,
        }),
        Type::Result(result) => {
            let side = |made: &mut Unstructured<'_>, ty: Option<Type>| match ty {
                Some(ty) => value(made, &ty, seed).map(boxed),
                None => Ok(None),
            };
            Val::Result(match made.arbitrary()? {
                true => Ok(side(made, result.ok())?),
                false => Err(side(made, result.err())?),
            })
        }
        _ => return Err(arbitrary::Error::IncorrectFormat),
    })
}
