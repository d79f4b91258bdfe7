//! Values and names that are too large, too deep or hostile.

use serde_json::{Value as Json, json};
use wasmtime::component::{Component, Val};

use super::super::{MAX_DEPTH, MAX_NODES, MAX_TEXT, ValueErrorKind, from_json, to_json};
use super::{engine, load, typed};

#[test]
fn hostile_names_are_cut_and_escaped() {
    let record = typed("record r { a: u8 }", "r");
    let error = from_json(&record, &json!({"a": 1, "\u{1b}[2J\n": 1}), "input").unwrap_err();
    assert_eq!(
        error.to_string(),
        "input: unknown field `\\u{1b}[2J\\n`; the fields are `a`"
    );
    let long = "x".repeat(10_000_000);
    let error = from_json(&record, &json!({"a": 1, long: 1}), "input").unwrap_err();
    assert!(error.to_string().len() < 200);
    let many: Vec<_> = (0..30).map(|n| format!("case-a{n}")).collect();
    let many = typed(&format!("enum e {{ {} }}", many.join(", ")), "e");
    let error = from_json(&many, &json!("zzz"), "input").unwrap_err().to_string();
    assert!(error.ends_with("`case-a11` and 18 more"), "{error}");
}

#[test]
fn sizes_are_bounded_both_ways() {
    let list = typed("", "list<u8>");
    let most = Json::Array(vec![json!(1); MAX_NODES - 1]);
    let val = from_json(&list, &most, "input").unwrap();
    assert_eq!(to_json(&val, "output").unwrap(), most);
    let error = from_json(&list, &Json::Array(vec![json!(1); MAX_NODES]), "input").unwrap_err();
    assert_eq!(error.kind(), ValueErrorKind::TooLarge);
    assert_eq!(error.to_string(), "input: more than 1048576 values in all up to here");
    let error = to_json(&Val::List(vec![Val::U8(1); MAX_NODES]), "output").unwrap_err();
    assert_eq!(error.kind(), ValueErrorKind::TooLarge);

    let texts = typed("", "list<string>");
    let half = "x".repeat(MAX_TEXT / 2);
    from_json(&texts, &json!([half, half]), "input").unwrap();
    let error = from_json(&texts, &json!([half, half, "x"]), "input").unwrap_err();
    assert_eq!(
        error.to_string(),
        "input[2]: more than 67108864 bytes of strings in all up to here"
    );
    let half = || Val::String(half.clone());
    let error = to_json(&Val::List(vec![half(), half(), Val::String("x".into())]), "output").unwrap_err();
    assert_eq!(error.kind(), ValueErrorKind::TooLarge);
}

#[test]
fn absent_options_and_searches_among_cases_count_as_values() {
    let fields: Vec<_> = (0..100).map(|n| format!("a{n}: option<u8>")).collect();
    let sparse = typed(&format!("record r {{ {} }}", fields.join(", ")), "list<r>");
    let items = |count| Json::Array(vec![json!({}); count]);
    from_json(&sparse, &items(10_000), "input").unwrap();
    let error = from_json(&sparse, &items(11_000), "input").unwrap_err();
    assert_eq!(error.kind(), ValueErrorKind::TooLarge);

    let cases: Vec<_> = (0..2000).map(|n| format!("a{n}")).collect();
    let wide = typed(&format!("enum e {{ {} }}", cases.join(", ")), "list<e>");
    let error = from_json(&wide, &Json::Array(vec![json!("a1999"); 100_000]), "input").unwrap_err();
    assert_eq!(error.kind(), ValueErrorKind::TooLarge);
}

#[test]
fn depth_is_bounded_to_what_a_json_reader_reads_back() {
    let nested = |levels: usize| (1..levels).fold(Val::List(Vec::new()), |inner, _| Val::List(vec![inner]));
    let text = to_json(&nested(MAX_DEPTH), "output").unwrap().to_string();
    serde_json::from_str::<Json>(&text).expect("readable");
    let error = to_json(&nested(MAX_DEPTH + 1), "output").unwrap_err();
    assert_eq!(error.kind(), ValueErrorKind::TooLarge);
    assert_eq!(error.problem(), "nested deeper than 127 levels");
}

#[test]
fn a_component_has_no_types_that_reach_the_depth() {
    let chain = |levels: usize| {
        let links = (1..=levels).map(|n| format!("type l{n} = list<l{}>;\n", n - 1));
        format!("type l0 = u8;\n{}\nf: func(x: l{levels});", links.collect::<String>())
    };
    let deep = load(&chain(90)).params.remove(0);
    let json = (0..90).fold(json!(1), |inner, _| json!([inner]));
    let val = from_json(&deep, &json, "input").unwrap();
    assert_eq!(to_json(&val, "output").unwrap(), json);

    let mut resolve = wit_parser::Resolve::default();
    let text = format!("package t:t; interface i {{ {} }}", chain(120));
    let package = resolve.push_str("test.wit", &text).unwrap();
    let bytes = wit_component::encode(&resolve, package).unwrap();
    let error = Component::new(&engine(), bytes).unwrap_err();
    assert!(format!("{error:#}").contains("nesting is too deep"), "{error:#}");
}
