mod around;
mod bounds;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::json;

use super::*;

/// A finding.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only the schema is used")]
struct Finding {
    /// What is claimed.
    claim: String,
    #[schemars(length(min = 3, max = 200))]
    support: Option<String>,
    #[schemars(range(min = 0.0, max = 1.0))]
    confidence: f32,
    count: Option<u8>,
    grade: Grade,
    better: Option<Grade>,
    shape: Shape,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only the schema is used")]
enum Grade {
    Good,
    /// Not good.
    Bad,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only the schema is used")]
#[serde(tag = "kind")]
enum Shape {
    Circle { r: f64 },
    Square { side: f64, name: Option<String> },
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only the schema is used")]
struct Report {
    company: String,
    #[schemars(length(min = 1, max = 5))]
    findings: Vec<Finding>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only the schema is used")]
struct Tree {
    name: String,
    children: Vec<Tree>,
    parent: Option<Box<Tree>>,
}

fn of<T: JsonSchema>() -> Value {
    schemars::schema_for!(T).to_value()
}

/// Collects every keyword in a schema, without property names.
fn keywords(schema: &Value, found: &mut Vec<String>) {
    for (name, value) in schema.as_object().into_iter().flatten() {
        found.push(name.clone());
        match name.as_str() {
            "properties" | "$defs" => value
                .as_object()
                .unwrap()
                .values()
                .for_each(|part| keywords(part, found)),
            "anyOf" => value.as_array().unwrap().iter().for_each(|part| keywords(part, found)),
            "items" => keywords(value, found),
            _ => {}
        }
    }
}

fn objects<'a>(schema: &'a Value, found: &mut Vec<&'a Value>) {
    match schema {
        Value::Object(members) => {
            if members.get("type") == Some(&json!("object")) {
                found.push(schema);
            }
            members.values().for_each(|member| objects(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| objects(item, found)),
        _ => {}
    }
}

#[test]
fn a_rust_types_schema_fits_both_vendors() {
    for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
        let fitted = fit(&of::<Report>(), dialect).unwrap();
        let mut found = Vec::new();
        keywords(&fitted, &mut found);
        let known = [
            "type",
            "properties",
            "required",
            "additionalProperties",
            "items",
            "anyOf",
            "$ref",
            "$defs",
            "enum",
            "const",
            "format",
            "title",
            "description",
            "minItems",
        ];
        let strange: Vec<_> = found.iter().filter(|name| !known.contains(&name.as_str())).collect();
        assert!(strange.is_empty(), "{dialect:?}: {strange:?}");
        let mut all = Vec::new();
        objects(&fitted, &mut all);
        assert_eq!(all.len(), 4);
        for object in all {
            assert_eq!(object["additionalProperties"], json!(false));
            if dialect == Dialect::OpenAi {
                let names: Vec<_> = object["properties"].as_object().unwrap().keys().cloned().collect();
                assert_eq!(object["required"], json!(names));
            }
        }
    }
}

#[test]
fn what_narrows_is_said_in_words() {
    let finding = &fit(&of::<Report>(), Dialect::Anthropic).unwrap()["$defs"]["Finding"]["properties"];
    assert_eq!(
        finding["claim"],
        json!({"type": "string", "description": "What is claimed."})
    );
    assert_eq!(
        finding["support"],
        json!({"type": "string", "description": "(minLength 3, maxLength 200)"})
    );
    assert_eq!(finding["better"], json!({"$ref": "#/$defs/Grade"}));
    assert_eq!(finding["confidence"]["type"], "number");
    assert!(
        finding["confidence"]["description"]
            .as_str()
            .unwrap()
            .contains("minimum 0"),
        "{finding}"
    );
    let report = fit(&of::<Report>(), Dialect::Anthropic).unwrap();
    assert_eq!(report["properties"]["findings"]["minItems"], 1);
    assert_eq!(report["properties"]["findings"]["description"], "(maxItems 5)");

    let finding = &fit(&of::<Report>(), Dialect::OpenAi).unwrap()["$defs"]["Finding"]["properties"];
    let support =
        json!({"anyOf": [{"type": "string", "description": "(minLength 3, maxLength 200)"}, {"type": "null"}]});
    assert_eq!(finding["support"], support);
    assert_eq!(
        finding["better"],
        json!({"anyOf": [{"$ref": "#/$defs/Grade"}, {"type": "null"}]})
    );
}

#[test]
fn each_keyword_is_taken_or_refused_as_the_vendors_do() {
    let object = |property: Value| json!({"type": "object", "properties": {"a": property}, "required": ["a"]});
    let fitted =
        |property: Value, dialect| fit(&object(property), dialect).map(|fitted| fitted["properties"]["a"].clone());
    for (given, expected) in [
        (
            json!({"type": "string", "format": "uuid"}),
            json!({"type": "string", "format": "uuid"}),
        ),
        (
            json!({"type": "string", "format": "regex"}),
            json!({"type": "string", "description": "(format regex)"}),
        ),
        (
            json!({"type": "integer", "format": "uint8", "minimum": 0, "maximum": 255}),
            json!({"type": "integer", "description": "(minimum 0, maximum 255)"}),
        ),
        (
            json!({"type": ["string", "null"], "description": "d"}),
            json!({"anyOf": [{"type": "string"}, {"type": "null"}], "description": "d"}),
        ),
        (
            json!({"oneOf": [{"type": "string"}, {"type": "integer"}]}),
            json!({"anyOf": [{"type": "string"}, {"type": "integer"}]}),
        ),
        (json!({"allOf": [{"type": "string"}]}), json!({"type": "string"})),
        (json!({"enum": ["x", null]}), json!({"enum": ["x", null]})),
        (
            json!({"type": "string", "pattern": "^a+$", "default": "a", "examples": ["a"]}),
            json!({"type": "string", "description": "(pattern \"^a+$\")"}),
        ),
        (
            json!({"type": "array", "items": {"type": "null"}, "minItems": 3}),
            json!({"type": "array", "items": {"type": "null"}, "description": "(minItems 3)"}),
        ),
    ] {
        for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
            assert_eq!(fitted(given.clone(), dialect).as_ref(), Ok(&expected), "{dialect:?}");
        }
    }
    let literal = json!({"const": "x"});
    assert_eq!(fitted(literal.clone(), Dialect::Anthropic), Ok(literal.clone()));
    assert_eq!(
        fitted(literal, Dialect::OpenAi),
        Ok(json!({"const": "x", "type": "string"}))
    );
    for (unfit, place) in [
        (json!({}), "/a: a part that takes any value"),
        (json!(true), "/a: a part that takes any value"),
        (of::<BTreeMap<String, u8>>(), "/a: an object with free keys"),
        (json!({"type": "object"}), "/a: an object with free keys"),
        (json!({"type": "array"}), "/a: an array of any values"),
        (
            json!({"type": "array", "prefixItems": [{"type": "string"}]}),
            "/a: an array of any values",
        ),
        (
            json!({"allOf": [{"type": "string"}, {"minLength": 2}]}),
            "/a: allOf of several schemas",
        ),
        (json!({"type": "string", "not": {"const": "x"}}), "/a: not"),
        (
            json!({"$ref": "https://example.com/schema.json"}),
            "/a: a reference to something else than a definition",
        ),
        (
            json!({"$ref": "#/$defs/None"}),
            "/a: a reference to something else than a definition",
        ),
        (json!({"enum": [{"b": 1}]}), "/a: a literal that is an object or array"),
    ] {
        for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
            assert_eq!(
                fitted(unfit.clone(), dialect),
                Err(place.to_owned()),
                "{dialect:?} {unfit}"
            );
        }
    }
}

#[test]
fn the_vendors_differ_in_roots_recursion_and_counts() {
    let list = json!({"type": "array", "items": {"type": "string"}});
    assert_eq!(fit(&list, Dialect::Anthropic), Ok(list.clone()));
    assert_eq!(fit(&list, Dialect::OpenAi), Err("/: the root is no object".to_owned()));

    let tree = of::<Tree>();
    assert!(fit(&tree, Dialect::Anthropic).unwrap_err().contains("recursion"));
    let fitted = fit(&tree, Dialect::OpenAi).unwrap();
    assert_eq!(fitted["type"], "object", "{fitted}");

    let many = |count: usize, property: &Value| {
        let all: serde_json::Map<_, _> = (0..count).map(|n| (format!("p{n}"), property.clone())).collect();
        json!({"type": "object", "properties": all})
    };
    let text = json!({"type": ["string", "null"]});
    assert!(fit(&many(24, &text), Dialect::Anthropic).is_ok());
    assert!(
        fit(&many(25, &text), Dialect::Anthropic)
            .unwrap_err()
            .contains("optional")
    );
    let union = json!({"anyOf": [{"type": "string"}, {"type": "integer"}]});
    assert!(fit(&many(16, &union), Dialect::Anthropic).is_ok());
    assert!(
        fit(&many(17, &union), Dialect::Anthropic)
            .unwrap_err()
            .contains("unions")
    );
    assert!(fit(&many(25, &union), Dialect::OpenAi).is_ok());
}

#[test]
fn a_fault_is_named_by_its_path_and_without_the_value() {
    let schema = of::<Report>();
    let shape = json!({"kind": "Circle", "r": 1.0});
    let good = json!({"claim": "c", "confidence": 0.5, "grade": "Good", "shape": shape});
    let report = |finding: &Value| json!({"company": "A", "findings": [finding]}).to_string();
    assert!(accept(&schema, &report(&good)).is_ok());
    for (name, value, fault) in [
        ("claim", json!(7), "/findings/0/claim: value is not of type \"string\""),
        (
            "confidence",
            json!(2),
            "/findings/0/confidence: value is greater than the maximum of 1",
        ),
        (
            "support",
            json!("x"),
            "/findings/0/support: value is shorter than 3 characters",
        ),
        (
            "count",
            json!(300),
            "/findings/0/count: value is greater than the maximum of 255",
        ),
    ] {
        let mut bad = good.clone();
        bad[name] = value;
        let error = accept(&schema, &report(&bad)).unwrap_err();
        assert!(error.starts_with(fault), "{error}");
    }
    assert_eq!(accept(&schema, "7").unwrap_err(), "/: value is not of type \"object\"");
    let many = json!({"company": 1, "findings": [1, 2, 3, 4]}).to_string();
    assert_eq!(accept(&schema, &many).unwrap_err().matches("; ").count(), 2);
}

#[test]
fn a_null_that_stands_for_left_out_is_dropped() {
    // As serde writes an option with `skip_serializing_if`: it may be absent, but not null.
    let schema = json!({
        "type": "object",
        "properties": {
            "a": {"type": "string"}, "b": {"type": ["string", "null"]}, "c": {"$ref": "#/$defs/C"}, "d": {},
            "list": {"type": "array", "items": {"$ref": "#/$defs/C"}},
            "union": {"anyOf": [{"$ref": "#/$defs/X"}, {"$ref": "#/$defs/Y"}]},
        },
        "additionalProperties": false,
        "$defs": {
            "C": {"type": "object", "properties": {"n": {"type": "integer"}}},
            "X": {"type": "object", "properties": {"t": {"const": "x"}, "v": {"type": "integer"}}, "required": ["t"]},
            "Y": {"type": "object", "properties": {"t": {"const": "y"}, "v": {"type": ["integer", "null"]}}, "required": ["t"]},
        },
    });
    for (given, kept) in [
        (
            json!({"a": null, "b": null, "c": null, "d": null}),
            json!({"b": null, "d": null}),
        ),
        (
            json!({"c": {"n": null}, "list": [{"n": null}, {"n": 1}]}),
            json!({"c": {}, "list": [{}, {"n": 1}]}),
        ),
        (json!({"union": {"t": "x", "v": null}}), json!({"union": {"t": "x"}})),
        (
            json!({"union": {"t": "y", "v": null}}),
            json!({"union": {"t": "y", "v": null}}),
        ),
    ] {
        assert_eq!(accept(&schema, &given.to_string()), Ok(kept));
    }
    let required = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
    assert!(accept(&required, "{\"a\": null}").unwrap_err().starts_with("/a: "));
    assert!(accept(&schema, "{\"unknown\": null}").is_err());
}

#[test]
fn replies_and_schemas_have_a_depth() {
    let any = json!({});
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(accept(&any, &nested(127)).is_ok());
    assert!(accept(&any, &nested(129)).unwrap_err().contains("recursion limit"));
    assert!(accept(&any, &nested(10_000)).is_err());

    let mut deep = json!({"type": "string"});
    for _ in 0..60 {
        deep = json!({"type": "array", "items": deep});
    }
    assert!(check(&deep).is_ok());
    for _ in 0..300 {
        deep = json!({"items": deep});
    }
    assert!(check(&deep).unwrap_err().contains("128 levels"));
}

#[test]
fn a_schema_that_cannot_be_used_is_refused() {
    for (schema, words) in [
        (json!(true), "not a JSON object"),
        (json!("string"), "not a JSON object"),
        (json!({"type": "strnig"}), "not a usable JSON Schema"),
        (json!({"type": "string", "minLength": "three"}), "/minLength"),
        (json!({"type": "string", "pattern": "("}), "not a usable JSON Schema"),
        (
            json!({"type": "string", "pattern": "(?=a)"}),
            "not a usable JSON Schema",
        ),
        (
            json!({"$ref": "https://example.com/schema.json"}),
            "leads to no place inside it",
        ),
        (json!({"$ref": "file:///etc/passwd"}), "leads to no place inside it"),
        (
            json!({"properties": {"a": {"$ref": "#/$defs/None"}}}),
            "leads to no place inside it",
        ),
        (json!({"$ref": "#"}), "in a circle"),
        (
            json!({"properties": {"a": {"anyOf": [{"$ref": "#/properties/a"}, {"type": "null"}]}}}),
            "in a circle",
        ),
        (
            json!({"properties": {"default": {"not": {"$ref": "#/properties/default"}}}}),
            "in a circle",
        ),
        (
            json!({"properties": {"a": {"$ref": "#/odd/place"}}, "odd": {"place": {"items": {"$ref": "#/odd/place/items"}}}}),
            "in a circle",
        ),
        (json!({"$dynamicRef": "#x"}), "use $ref"),
    ] {
        let error = check(&schema).unwrap_err();
        assert!(error.contains(words), "{schema}: {error}");
    }
    for schema in [
        json!({}),
        json!({"type": "array"}),
        of::<Report>(),
        of::<Tree>(),
        json!({"properties": {"not": {"$ref": "#"}}}),
    ] {
        assert_eq!(check(&schema), Ok(()), "{schema}");
    }
}

#[test]
fn unions_that_multiply_are_refused() {
    let mut definitions = serde_json::Map::new();
    for n in 0..12 {
        let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
        definitions.insert(format!("d{n}"), json!({"anyOf": [next.clone(), next]}));
    }
    definitions.insert("d12".into(), json!({"type": "string"}));
    let schema = json!({"$ref": "#/$defs/d0", "$defs": definitions});
    assert!(check(&schema).unwrap_err().contains("alternatives"));
}

#[test]
fn a_reply_that_would_take_ages_to_validate_is_refused() {
    // Both branches go into the same member, so every level of the reply doubles the work.
    let branch = json!({"properties": {"a": {"$ref": "#"}}});
    let nested = |levels: usize| (0..levels).fold(json!({}), |inner, _| json!({"a": inner})).to_string();
    for union in ["allOf", "anyOf", "oneOf"] {
        let schema =
            json!({"type": "object", union: [branch, {"properties": {"a": {"$ref": "#"}}, "required": ["z"]}]});
        assert_eq!(check(&schema), Ok(()));
        let start = std::time::Instant::now();
        let error = accept(&schema, &nested(100)).unwrap_err();
        assert!(error.contains("steps to validate"), "{error}");
        assert!(start.elapsed() < std::time::Duration::from_secs(2));
        assert!(!accept(&schema, &nested(5)).is_err_and(|error| error.contains("steps")));
    }
}

#[test]
fn no_reply_overflows_the_stack() {
    let check_on_a_small_stack = |schema: Value, text: String| {
        let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
        thread.spawn(move || accept(&schema, &text)).unwrap().join().unwrap()
    };
    let nested = (0..126).fold(json!({}), |inner, _| json!({"a": inner})).to_string();
    let plain = json!({"type": "object", "properties": {"a": {"$ref": "#"}}});
    assert!(check_on_a_small_stack(plain, nested.clone()).is_ok());
    // As deep as the bound on steps allows.
    let deeper = json!({"type": "object", "properties": {"a": {"allOf": [{"$ref": "#"}]}}});
    assert!(check_on_a_small_stack(deeper, nested.clone()).is_ok());

    for links in [6, 30] {
        let mut definitions: serde_json::Map<_, _> = (0..links)
            .map(|n| {
                (
                    format!("d{n}"),
                    json!({"allOf": [{"$ref": format!("#/$defs/d{}", n + 1)}]}),
                )
            })
            .collect();
        definitions.insert(
            format!("d{links}"),
            json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}}),
        );
        let chained = json!({"$ref": "#/$defs/d0", "$defs": definitions});
        let error = check_on_a_small_stack(chained, nested.clone()).unwrap_err();
        assert!(error.contains("nested"), "{error}");
    }
}
