use schemars::JsonSchema;
use serde_json::{Value, json};

use super::*;
use crate::schema::accept;
use agenthost_core::llm::{Message, Options};

fn request(text: &str, schema: Option<Value>) -> Request {
    Request {
        model: "small".into(),
        system: None,
        messages: vec![Message {
            role: Role::User,
            content: vec![Part::Text(text.into())],
        }],
        max_tokens: 100_000,
        schema,
        options: Options::default(),
        mark_prefix: None,
    }
}

fn made(schema: &Value) -> Value {
    let reply = answer(&request("go", Some(schema.clone())));
    accept(schema, &reply.text()).unwrap_or_else(|error| panic!("{schema}\n{}\n{error}", reply.text()))
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only the schema is used")]
struct Report {
    company: String,
    findings: Vec<Finding>,
    confidence: f32,
    count: u8,
    tags: std::collections::BTreeMap<String, Level>,
    pair: (String, i64),
    tree: Tree,
    any: Value,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only the schema is used")]
struct Finding {
    claim: String,
    support: Option<String>,
    level: Level,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only the schema is used")]
enum Level {
    Low,
    High,
    Exact(u32),
    Range { from: u32, to: u32 },
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only the schema is used")]
struct Tree {
    name: String,
    children: Vec<Tree>,
    parent: Option<Box<Tree>>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only the schema is used")]
enum Term {
    Sum(Box<Term>, Box<Term>),
    Number(f64),
}

#[test]
fn a_rust_types_schema_is_satisfied_and_texts_are_marked() {
    let report = made(&schemars::schema_for!(Report).to_value());
    assert_eq!(report["company"], "[offline] company");
    assert_eq!(report["findings"].as_array().unwrap().len(), 2);
    assert_eq!(report["findings"][0]["claim"], "[offline] claim");
    assert!(report["tree"]["children"][0]["children"].is_array());
    made(&schemars::schema_for!(Tree).to_value());
    made(&schemars::schema_for!(Term).to_value());
    made(&schemars::schema_for!(Vec<Term>).to_value());
}

#[test]
fn every_keyword_is_satisfied() {
    for schema in [
        json!({}),
        json!({"type": "null"}),
        json!({"type": ["null", "integer"]}),
        json!({"type": "integer", "minimum": 250, "maximum": 255}),
        json!({"type": "integer", "exclusiveMinimum": -3, "exclusiveMaximum": -1}),
        json!({"type": "integer", "minimum": 10, "maximum": 20, "multipleOf": 7}),
        json!({"type": "integer", "minimum": u64::MAX}),
        json!({"type": "integer", "maximum": i64::MIN}),
        json!({"type": "number", "minimum": 0.0, "maximum": 1.0}),
        json!({"type": "number", "exclusiveMinimum": 0.001, "exclusiveMaximum": 0.002}),
        json!({"type": "number", "minimum": 3, "maximum": 3}),
        json!({"type": "number", "minimum": 1, "multipleOf": 0.5}),
        json!({"type": "string", "minLength": 40}),
        json!({"type": "string", "maxLength": 3}),
        json!({"type": "string", "minLength": 1, "maxLength": 1}),
        json!({"type": "string", "maxLength": 0}),
        json!({"type": "string", "pattern": "^[0-9]{1,20}$"}),
        json!({"type": "string", "pattern": "^(red|green)-[a-z]+\\.x?$"}),
        json!({"type": "string", "pattern": "^\\p{Lu}\\w*$"}),
        json!({"type": "string", "pattern": ".*"}),
        json!({"enum": [1, "two", null]}),
        json!({"const": {"a": [1]}}),
        json!({"type": "array", "items": {"type": "string"}, "minItems": 5, "uniqueItems": true}),
        json!({"type": "array", "items": {"type": "string"}, "maxItems": 1}),
        json!({"type": "array", "maxItems": 0}),
        json!({"type": "array", "items": false}),
        json!({"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": false}),
        json!({"type": "array", "prefixItems": [{"type": "string"}], "minItems": 4, "items": {"type": "boolean"}}),
        json!({"type": "object"}),
        json!({"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 3}),
        json!({"properties": {"a": {"type": "string"}}, "required": ["a"]}),
        json!({"anyOf": [{"type": "null"}, {"type": "boolean"}]}),
        json!({"anyOf": [false, {"type": "boolean"}]}),
        json!({"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}, {"required": ["b"], "properties": {"b": {"const": 1}}}]}),
        json!({"type": "object", "properties": {"k": {"const": 1}}, "required": ["k", "v"], "oneOf": [{"properties": {"v": {"type": "string"}}, "required": ["v"]}]}),
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}}}}),
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/a"}, "minItems": 2}, {"type": "string"}]}}}),
    ] {
        made(&schema);
    }
}

#[test]
fn formats_look_like_what_they_are() {
    let formats = [
        "date",
        "time",
        "date-time",
        "duration",
        "uuid",
        "email",
        "uri",
        "hostname",
        "ipv4",
        "ipv6",
    ];
    for format in formats {
        let schema = json!({"type": "string", "format": format});
        let value = made(&schema);
        // Formats are checked only if the validator is configured to do so.
        let strict = jsonschema::options()
            .should_validate_formats(true)
            .build(&schema)
            .unwrap();
        assert!(strict.is_valid(&value), "{format}: {value}");
    }
}

#[test]
fn what_cannot_be_made_ends() {
    let endless = json!({"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "required": ["a"]}}});
    let wide = json!({"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}, "minItems": 1000}}});
    for schema in [
        endless,
        wide,
        json!(false),
        json!({"$ref": "https://example.com"}),
        json!({"enum": []}),
        json!({"pattern": "((a{1000}){1000}){1000}"}),
    ] {
        answer(&request("go", Some(schema)));
    }
}

#[test]
fn the_same_request_gets_the_same_answer_and_another_may_differ() {
    let schema = json!({"type": "array", "items": {"type": "integer"}, "minItems": 20});
    let text = |asked: &str| answer(&request(asked, Some(schema.clone()))).text();
    assert_eq!(text("a"), text("a"));
    assert_ne!(text("a"), text("b"));
    let split = |parts: &[&str]| {
        let content = parts.iter().map(|part| Part::Text((*part).into())).collect();
        fingerprint(&Request {
            messages: vec![Message {
                role: Role::User,
                content,
            }],
            ..request("", None)
        })
    };
    assert_ne!(split(&["ab", "c"]), split(&["a", "bc"]));
}

#[tokio::test]
async fn without_a_schema_the_question_is_quoted() {
    let reply = Offline.complete(&request("What  is\nthis?", None)).await.unwrap();
    assert_eq!(reply.text(), "[offline] no model was asked: What is this?");
    assert_eq!((reply.stop, reply.model.as_str()), (Stop::End, "small"));
    let long = answer(&request(&"é".repeat(200), None)).text();
    assert!(long.ends_with("é…") && long.chars().count() < 120, "{long}");
    assert!(Offline.is_offline());
}

#[test]
fn tokens_are_a_quarter_of_the_bytes_and_the_limit_holds() {
    let schema = json!({"type": "string"});
    let mut request = request("12345", Some(schema));
    request.system = Some("678".into());
    let whole = answer(&request);
    // Five and three bytes, and `{"type":"string"}`.
    assert_eq!(whole.usage.unwrap().input, (5 + 3 + 17_u64).div_ceil(4));
    assert_eq!(whole.usage.unwrap().output, 5);
    assert_eq!(whole.text(), "\"[offline] reply\"");
    request.max_tokens = 5;
    assert_eq!(answer(&request).stop, Stop::End);
    request.max_tokens = 2;
    let cut = answer(&request);
    assert_eq!(
        (cut.text().as_str(), cut.stop, cut.usage.unwrap().output),
        ("\"[offlin", Stop::MaxTokens, 2)
    );
}

/// The kinds of the parts of a reply.
fn kinds(reply: &Reply) -> Vec<&str> {
    let kinds = reply.content.iter().map(|part| match part {
        Part::Extension { kind, .. } => kind.as_str(),
        Part::Text(_) | Part::Media { .. } => "text",
    });
    kinds.collect()
}

#[test]
fn each_tool_is_called_once_and_then_there_is_an_answer() {
    let weather = json!({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}}, "required": ["city", "days"]});
    let tools = json!([{"name": "weather", "parameters": weather}, {"name": "time", "parameters": {"type": "object"}}])
        .to_string();
    for (more, called) in [
        (vec![], &["weather", "time"][..]),
        (vec![("tool-choice", "any")], &["weather", "time"]),
        (vec![("tool-choice", "tool:time")], &["time"]),
        (vec![("parallel-tools", "false")], &["weather"]),
        (vec![("tool-choice", "none")], &[]),
    ] {
        let mut options = vec![("tools", tools.as_str())];
        options.extend(&more);
        let mut request = request("go", None);
        request.options = Options::parse(options).unwrap();
        let reply = answer(&request);
        let calls = reply.content.iter().filter_map(|part| match Extension::of(part)? {
            Ok(Extension::ToolCall(call)) => Some(call),
            _ => None,
        });
        let calls: Vec<_> = calls.collect();
        assert_eq!(
            calls.iter().map(|call| call.name.as_str()).collect::<Vec<_>>(),
            called,
            "{more:?}"
        );
        if called.is_empty() {
            assert_eq!((kinds(&reply), reply.stop), (vec!["text"], Stop::End));
            continue;
        }
        assert_eq!(reply.stop, Stop::ToolUse);
        for call in calls.iter().filter(|call| call.name == "weather") {
            accept(&weather, &call.arguments.text()).unwrap();
        }
        request.messages.push(Message {
            role: Role::Assistant,
            content: reply.content,
        });
        let results = calls.into_iter().map(|call| {
            let result = agenthost_core::llm::ToolResult {
                id: call.id,
                content: "12".into(),
                is_error: false,
            };
            Extension::ToolResult(result).into_part()
        });
        request.messages.push(Message {
            role: Role::User,
            content: results.collect(),
        });
        agenthost_core::llm::extension::check(&mut request.messages, &request.options, |_| true).unwrap();
        let reply = answer(&request);
        assert_eq!((kinds(&reply), reply.stop), (vec!["text"], Stop::End));
    }
}

#[test]
fn a_source_that_is_made_up_says_so() {
    let mut request = request(
        "What is new?",
        Some(json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]})),
    );
    request.options = Options::parse([("server-tools", r#"[{"kind": "web-search"}, {"kind": "web-fetch"}]"#)]).unwrap();
    let reply = answer(&request);
    assert_eq!(kinds(&reply), ["search", "search", "text", "citation"]);
    for part in &reply.content {
        let text = match part {
            Part::Extension { json, .. } => json,
            Part::Text(text) => text,
            Part::Media { .. } => panic!("{reply:?}"),
        };
        assert!(is_made_up(text), "{text}");
    }
    // The sources do not change the value.
    accept(request.schema.as_ref().unwrap(), &reply.text()).unwrap();
    assert_eq!(reply.usage.map(|usage| usage.searches), Some(1));
}
