//! The names that `plugin!` brings into scope, and the JSON form of its types. Native, hence without a host.

use agenthost_sdk::prelude::*;
use agenthost_sdk::schemars::schema_for;
use agenthost_sdk::serde_json::{Value, from_value, json, to_value};

agenthost_sdk::plugin!("main", path = "tests/wit/forms");

/// Not async, as the WIT has it.
fn run(first: Input, second: Vec<Outcome>) -> Result<Outcome, Failure> {
    first
        .last
        .map_or_else(|| second.into_iter().next().ok_or_else(|| Failure::failed("none")), Err)
}

fn input() -> Input {
    Input {
        the_shape: Shape::Circle(Circle {
            centre: Point { x: 1.0, y2: 2.0 },
            radius: 0.5,
        }),
        colour: Colour::DarkGreen,
        access: Access::READ | Access::RUN_AS,
        maybe: None,
        big: u64::MAX,
        initial: 'é',
        hint: Hint { text: "h".to_owned() },
        limit: Limit::Memory,
        last: Some(Failure::other("quota", "none")),
    }
}

fn document() -> Value {
    json!({
        "the-shape": {"circle": {"centre": {"x": 1.0, "y2": 2.0}, "radius": 0.5}},
        "colour": "dark-green",
        "access": ["read", "run-as"],
        "maybe": null,
        "big": 18_446_744_073_709_551_615_u64,
        "initial": "é",
        "hint": {"text": "h"},
        "limit": "memory",
        "last": {"other": ["quota", "none"]}
    })
}

#[test]
fn a_value_in_json_has_the_names_of_the_wit_and_comes_back() {
    assert_eq!(to_value(input()).unwrap(), document());
    assert_eq!(from_value::<Input>(document()).unwrap(), input());
}

#[test]
fn cases_with_and_without_a_payload() {
    assert_eq!(to_value(Shape::Nothing).unwrap(), json!("nothing"));
    assert_eq!(
        to_value(Shape::Pair(("a".to_owned(), 1))).unwrap(),
        json!({"pair": ["a", 1]})
    );
    assert_eq!(to_value(Shape::DottedLine(vec![])).unwrap(), json!({"dotted-line": []}));
}

#[test]
fn an_absent_option_is_none_and_what_is_unknown_is_refused() {
    let mut value = document();
    value.as_object_mut().unwrap().remove("maybe");
    assert_eq!(from_value::<Input>(value.clone()).unwrap(), input());

    value["unknown"] = json!(1);
    let error = from_value::<Input>(value).unwrap_err().to_string();
    assert!(error.starts_with("unknown field `unknown`"), "{error}");

    let error = from_value::<Access>(json!(["read", "fly"])).unwrap_err().to_string();
    assert_eq!(error, "unknown flag `fly`, expected one of read, write, run-as");
    assert_eq!(from_value::<Access>(json!([])).unwrap(), Access::empty());
}

#[test]
fn the_schema_carries_names_and_comments_of_the_wit() {
    let schema = schema_for!(Input).to_value();
    assert_eq!(schema["description"], "A record of many kinds.");
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(
        schema["properties"]["the-shape"]["description"],
        "The shape that is meant."
    );
    let required: Vec<&str> = schema["required"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(
        required,
        ["the-shape", "colour", "access", "big", "initial", "hint", "limit"]
    );
    let access = &schema["$defs"]["Access"];
    assert_eq!(access["description"], "What may be done.");
    assert_eq!(access["items"]["enum"], json!(["read", "write", "run-as"]));
}

#[test]
fn a_sub_agent_is_a_module_and_shares_the_types() {
    // The types are equal, so this compiles; it is never run, because a native test has no host to call.
    let hint: helper::Hint = input().hint;
    let _call = async { Ok::<usize, Failure>(helper::run(hint).await?.len()) };
}

#[test]
#[should_panic(expected = "host functions exist only inside agenthost: forms:helper@0.2.0")]
fn a_sub_agent_without_a_host_panics_with_its_name() {
    let mut call = Box::pin(helper::run(helper::Hint { text: String::new() }));
    let _ = call
        .as_mut()
        .poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
}

#[test]
fn run_is_an_ordinary_function() {
    let outcome = Outcome {
        result: Err("no".to_owned()),
        twice: Some(None),
    };
    let first = Input { last: None, ..input() };
    assert_eq!(run(first.clone(), vec![outcome.clone()]), Ok(outcome));
    assert_eq!(run(first, vec![]), Err(Failure::failed("none")));
}

#[test]
fn the_derives_of_the_prelude_follow_serdes_attributes() {
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(tag = "kind", rename_all = "kebab-case", rename = "step")]
    enum Step {
        /// Go on.
        GoOn {
            #[serde(default)]
            times: u8,
        },
        Nested(Box<Nested>),
    }

    /// A step in a step.
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    struct Nested {
        next: Vec<Step>,
    }

    let value = json!({"kind": "nested", "next": [{"kind": "go-on", "times": 2}]});
    let step = Step::Nested(Box::new(Nested {
        next: vec![Step::GoOn { times: 2 }],
    }));
    assert_eq!(to_value(&step).unwrap(), value);
    assert_eq!(from_value::<Step>(value).unwrap(), step);
    assert_eq!(
        from_value::<Step>(json!({"kind": "go-on"})).unwrap(),
        Step::GoOn { times: 0 }
    );

    let schema = schema_for!(Step).to_value();
    assert_eq!(schema["title"], "step");
    assert_eq!(
        schema["$defs"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["Nested"]
    );
    assert_eq!(schema["$defs"]["Nested"]["description"], "A step in a step.");
    assert_eq!(
        schema["$defs"]["Nested"]["properties"]["next"]["items"],
        json!({"$ref": "#"})
    );
}
