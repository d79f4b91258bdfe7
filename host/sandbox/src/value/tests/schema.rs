//! Schemas as people and models read them. The tests in `random` check that they agree with the values.

use serde_json::{Value as Json, json};

use super::super::ValueErrorKind;
use super::load;
use agenthost_plugin::types::schema::schema;

#[track_caller]
fn of(items: &str, ty: &str) -> Json {
    let loaded = load(&format!("{items}\nf: func(x: {ty});"));
    let schema = schema(&loaded.resolve, &loaded.function.params[0].ty, "input").unwrap();
    assert!(jsonschema::draft202012::meta::is_valid(&schema), "{schema}");
    schema
}

#[test]
fn a_record_with_docs() {
    let items = "
        /// The findings.
        record finding { claim: string, level: level }
        /// How sure.
        enum level {
            /// A guess.
            low,
            high,
        }
        /// One company
        /// to look into.
        record topic {
            /// Its legal name.
            company: string,
            best: option<finding>,
            /// All of them.
            all: list<finding>,
            /// How sure in all.
            level: level,
        }";
    assert_eq!(
        of(items, "topic"),
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "description": "One company\nto look into.",
            "properties": {
                "company": {"type": "string", "description": "Its legal name."},
                "best": {"anyOf": [{"$ref": "#/$defs/finding"}, {"type": "null"}]},
                "all": {"type": "array", "items": {"$ref": "#/$defs/finding"}, "description": "All of them."},
                "level": {"$ref": "#/$defs/level", "description": "How sure in all."},
            },
            "required": ["company", "all", "level"],
            "additionalProperties": false,
            "$defs": {
                "finding": {
                    "type": "object",
                    "description": "The findings.",
                    "properties": {"claim": {"type": "string"}, "level": {"$ref": "#/$defs/level"}},
                    "required": ["claim", "level"],
                    "additionalProperties": false,
                },
                "level": {"type": "string", "enum": ["low", "high"], "description": "How sure.\n\n`low`: A guess."},
            },
        })
    );
}

#[test]
fn variants_and_aliases() {
    let items = "
        /// Dollars.
        type money = u64;
        type price = money;
        variant shape { empty, none,
            /// A round one.
            circle(price),
        }";
    let schema = of(items, "shape");
    assert_eq!(
        schema["anyOf"],
        json!([
            {"type": "string", "enum": ["empty", "none"]},
            {
                "type": "object",
                "properties": {"circle": {"$ref": "#/$defs/money"}},
                "required": ["circle"],
                "additionalProperties": false,
                "description": "A round one.",
            },
        ])
    );
    let money = &schema["$defs"]["money"];
    assert_eq!(money["description"], "Dollars.");
    assert_eq!(money["maximum"], json!(u64::MAX));
}

#[test]
fn same_names_from_two_interfaces_stay_apart() {
    let text = "
        package t:t;
        interface types { record failure { code: u8 } }
        interface i {
            use types.{failure as theirs};
            record failure { text: string }
            f: func(x: tuple<failure, theirs>);
        }";
    let (resolve, function) = super::resolve(text);
    let schema = schema(&resolve, &function.params[0].ty, "input").unwrap();
    assert_eq!(
        schema["prefixItems"],
        json!([{"$ref": "#/$defs/failure"}, {"$ref": "#/$defs/types.failure"}])
    );
    assert!(schema["$defs"]["types.failure"]["properties"]["code"].is_object());
    assert!(jsonschema::draft202012::is_valid(
        &schema,
        &json!([{"text": ""}, {"code": 1}])
    ));
}

#[test]
fn a_type_without_json_form_is_named() {
    let loaded = load("resource r; record a { b: list<borrow<r>> } record c { a: a } f: func(x: c, y: list<own<r>>);");
    let errors = loaded.function.params.iter().map(|param| {
        let error = schema(&loaded.resolve, &param.ty, "input").unwrap_err();
        assert_eq!(error.kind(), ValueErrorKind::Unsupported);
        error.to_string()
    });
    let reason = "a resource handle belongs to a running component and has no JSON form";
    assert_eq!(
        errors.collect::<Vec<_>>(),
        [format!("a.b[]: {reason}"), format!("input[]: {reason}")]
    );
}

#[test]
fn a_long_chain_of_types_takes_no_stack() {
    let mut items = "record r0 { a: u8 }\n".to_owned();
    for n in 1..20_000 {
        items.push_str(&format!("record r{n} {{ a: r{} }}\n", n - 1));
    }
    let (resolve, function) = super::resolve(&format!("package t:t; interface i {{ {items} f: func(x: r19999); }}"));
    let schema = schema(&resolve, &function.params[0].ty, "input").unwrap();
    assert_eq!(schema["$defs"].as_object().unwrap().len(), 19_999);
}
