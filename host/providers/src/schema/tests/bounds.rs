//! A schema or a reply that would take the machine's memory or time is refused, and the message names the bound.

use serde_json::{Map, Value, json};

use super::super::fit::{Dialect, fit};
use super::super::{accept, check, read};

fn object(properties: impl Iterator<Item = (String, Value)>) -> Value {
    json!({"type": "object", "properties": properties.collect::<Map<_, _>>()})
}

#[track_caller]
fn refused(schema: &Value, words: &str) {
    let error = check(schema).unwrap_err();
    assert!(error.contains(words), "{words}: {error}");
    assert!(
        error.chars().count() < 1_500,
        "a bound is named in a line: {}",
        error.len()
    );
}

#[test]
fn a_text_is_refused_by_its_length_before_it_is_parsed() {
    // This is not JSON at all: only its length is checked.
    let error = read(&"[".repeat(4 << 20)).unwrap_err();
    assert!(error.contains("longer than 262144 bytes"), "{error}");
    let lists = format!("{{\"x\":[{}[]]}}", "[],".repeat(30_000));
    assert!(read(&lists).unwrap_err().contains("more than 20000 values"));
    let deep = format!("{{\"x\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(read(&deep).unwrap_err().contains("invalid JSON"));
    assert!(read("{\"type\": \"object\"}").is_ok());
}

#[test]
fn patterns_are_bounded_by_number_length_and_compiled_size() {
    let patterns = |count: usize, pattern: &str| {
        object((0..count).map(|n| (format!("a{n}"), json!({"pattern": format!("{pattern}{n}")}))))
    };
    refused(&patterns(300, "a"), "more than 256 patterns");
    refused(&patterns(1, &"a".repeat(5_000)), "longer than 4096 bytes");
    refused(&patterns(1, "x{30000}"), "more than 10000 states");
    refused(&patterns(1, "((a{100}){100}){100}"), "more than 10000 states");
    refused(&patterns(1, "(\\p{L}{50}){50}"), "more than 10000 states");
    refused(&patterns(20, "x{5000}"), "more than 50000 states together");
    let names: Map<_, _> = (0..20).map(|n| (format!("x{{5000}}{n}"), json!({}))).collect();
    refused(&json!({"patternProperties": names}), "more than 50000 states together");
    for usual in [
        "^[a-z0-9-]{1,64}$",
        "^\\d{4}-\\d{2}-\\d{2}$",
        "^[\\w.+-]+@[\\w-]+\\.[\\w.]+$",
        "^https?:\\/\\/[^\\s]{1,200}$",
        "^(?:[A-Fa-f0-9]{2}:){5}[A-Fa-f0-9]{2}$",
    ] {
        assert_eq!(check(&json!({"pattern": usual})), Ok(()), "{usual}");
    }
    assert_eq!(check(&patterns(100, "^[\\w-]{1,64}")), Ok(()));
}

#[test]
fn references_and_identifiers_are_bounded() {
    let chain = |links: usize| {
        let mut definitions: Map<_, _> = (0..links)
            .map(|n| {
                (
                    format!("a{n}"),
                    json!({"properties": {"x": {"$ref": format!("#/$defs/a{}", n + 1)}}}),
                )
            })
            .collect();
        definitions.insert(format!("a{links}"), json!({}));
        json!({"$ref": "#/$defs/a0", "$defs": definitions})
    };
    refused(&chain(2_500), "more than 2000 references");
    // The longest allowed chain does not overflow the stack of a worker thread.
    let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
    let schema = chain(1_900);
    assert_eq!(thread.spawn(move || check(&schema)).unwrap().join().unwrap(), Ok(()));
    // A part with a root of its own would make its references mean something else.
    refused(
        &json!({"properties": {"x": {"$id": "http://localhost/x", "$ref": "#/$defs/y", "$defs": {"y": {"$ref": "#"}}}}, "$defs": {"y": {}}}),
        "identifier of its own",
    );
    assert_eq!(
        check(&json!({"$id": "http://localhost/x", "properties": {"$id": {"type": "string"}}})),
        Ok(())
    );
}

#[test]
fn nested_unevaluated_properties_are_refused() {
    let nested = |levels: usize| {
        (0..levels).fold(
            json!({}),
            |inner, _| json!({"anyOf": [inner, {"properties": {"x": {}}}], "unevaluatedProperties": false}),
        )
    };
    refused(&nested(12), "alternatives");
    assert_eq!(check(&nested(2)), Ok(()));
}

/// Each of these took seconds to minutes, or hundreds of megabytes.
#[test]
fn a_reply_that_costs_too_much_to_validate_is_refused() {
    let list = |count: usize, item: Value| Value::Array(vec![item; count]).to_string();
    let literals: Vec<_> = (0..6_000).map(|n| json!([n])).collect();
    let names: Vec<_> = (0..9_000).map(|n| format!("k{n}")).collect();
    let tags: Vec<_> = (0..900).map(|n| json!({"const": n})).collect();
    for (what, schema, reply) in [
        (
            "literals",
            json!({"items": {"enum": literals}}),
            list(10_000, json!([-1])),
        ),
        ("names", json!({"items": {"required": names}}), list(10_000, json!({}))),
        ("tags", json!({"items": {"anyOf": tags}}), list(10_000, json!(-1))),
        (
            "pattern",
            json!({"pattern": "(a|b)*a(a|b){1000}c"}),
            json!("ab".repeat(100_000)).to_string(),
        ),
        (
            "names by pattern",
            json!({"patternProperties": {"(a|b)*a(a|b){1000}c": {}}}),
            json!({"ab".repeat(100_000): 1}).to_string(),
        ),
        (
            "property names",
            json!({"propertyNames": {"pattern": "(a|b)*a(a|b){1000}c"}}),
            json!({"ab".repeat(100_000): 1}).to_string(),
        ),
        ("values", json!({"items": {}}), list(600_000, json!([]))),
    ] {
        let error = accept(&schema, &reply).unwrap_err();
        assert!(error.contains("steps to validate"), "{what}: {error}");
    }
    let long = json!("x".repeat(3 << 20)).to_string();
    assert!(
        accept(&json!({}), &long)
            .unwrap_err()
            .contains("longer than 2097152 bytes")
    );
}

/// Each branch was held against every member, which nothing counted: half a minute for this reply.
#[test]
fn many_branches_and_many_members_do_not_multiply() {
    let branches: Vec<_> = (0..900).map(|n| json!({"properties": {"zz": {"const": n}}})).collect();
    let mut members: Map<_, _> = (0..20_000).map(|n| (n.to_string(), json!(0))).collect();
    members.insert("zz".into(), json!(-1));
    for (union, branches) in [
        ("anyOf", branches.clone()),
        ("oneOf", branches.clone()),
        ("allOf", branches),
    ] {
        let error = accept(&json!({union: branches}), &json!(members).to_string()).unwrap_err();
        assert!(error.contains("steps to validate"), "{union}: {error}");
    }
    let without_properties = json!({"anyOf": vec![json!({"type": "object", "required": ["none"]}); 900]});
    assert!(accept(&without_properties, &json!(members).to_string()).is_err());
    let few: Vec<_> = (0..20).map(|n| json!({"properties": {"zz": {"const": n}}})).collect();
    members.insert("zz".into(), json!(19));
    assert!(accept(&json!({"anyOf": few}), &json!(members).to_string()).is_ok());
}

#[test]
fn the_branch_of_a_union_is_found_from_either_side() {
    let branch = |tag: &str, closed: bool| {
        json!({
            "properties": {"tag": {"const": tag}, "n": {"type": "integer"}, "m": {}, "o": {}},
            "required": ["tag"],
            "additionalProperties": !closed,
        })
    };
    let schema = json!({"anyOf": [branch("a", true), branch("b", false)]});
    let dropped = |text: &str| accept(&schema, text).unwrap();
    assert_eq!(dropped(r#"{"tag": "a", "n": null}"#), json!({"tag": "a"}));
    assert_eq!(dropped(r#"{"tag": "b", "n": null}"#), json!({"tag": "b"}));
    let many = r#"{"tag": "b", "n": null, "p": 1, "q": 2, "r": 3}"#;
    assert_eq!(dropped(many), json!({"tag": "b", "p": 1, "q": 2, "r": 3}));
    let unknown = r#"{"tag": "a", "n": 1, "p": 1, "q": 2, "r": 3}"#;
    assert!(accept(&schema, unknown).is_err());
}

#[test]
fn faults_are_short_however_long_the_reply_and_the_schema_are() {
    let literals: Vec<_> = (0..5_000).map(|n| format!("literal {n}")).collect();
    let fault = accept(&json!({"enum": literals}), "\"other\"").unwrap_err();
    assert!(fault.chars().count() <= 600, "{}", fault.len());
    let names: Map<_, _> = (0..2_000).map(|n| (format!("name {n}"), json!(1))).collect();
    let fault = accept(
        &json!({"additionalProperties": false}),
        &Value::Object(names).to_string(),
    )
    .unwrap_err();
    assert!(fault.chars().count() <= 600, "{}", fault.len());
}

#[test]
fn a_schema_that_doubles_when_it_is_rewritten_is_asked_for_in_words() {
    let mut schema = json!({"type": "string"});
    for _ in 0..40 {
        schema = json!({"type": ["object", "array"], "properties": {"x": schema.clone()}, "required": ["x"], "items": schema});
        if schema.to_string().len() > 100_000 {
            break;
        }
    }
    for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
        assert!(fit(&schema, dialect).is_err());
    }
}
