//! The value of a reply is found among everything that models and servers put around it, or the reply is refused.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Accepted, Around, Checker, Unfit, accept};

fn title() -> Value {
    json!({
        "type": "object",
        "properties": {"best": {"type": "string"}, "others": {"type": "array", "items": {"type": "string"}}},
        "required": ["best", "others"],
    })
}

fn read(schema: &Value, text: &str) -> Result<Accepted, Unfit> {
    Checker::new(schema).unwrap().accept(text)
}

/// A schema whose values contain values that satisfy it too.
fn tree() -> Value {
    json!({
        "$defs": {"Node": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "below": {"type": "array", "items": {"$ref": "#/$defs/Node"}}},
            "required": ["name"],
        }},
        "$ref": "#/$defs/Node",
    })
}

#[test]
fn the_value_is_found() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]});
    use Around::{Mended, Quotes, Reasoning, Words};
    for (text, around) in [
        ("{\"a\":1}", &[][..]),
        ("  \n{\"a\": 1}\n", &[]),
        ("\u{feff}{\"a\":1}", &[Mended]),
        ("```json\n{\"a\":1}\n```", &[Words]),
        ("```\n{\"a\":1}```", &[Words]),
        ("\n```JSON\n\n{\"a\":1}\n\n```\n", &[Words]),
        ("```python\n{\"a\":1}\n```", &[Words]),
        ("Here is the JSON:\n\n```json\n{\"a\":1}\n```\nAnything else?", &[Words]),
        ("```json\n{\"a\":1}", &[Words]),
        ("Sure! {\"a\":1}", &[Words]),
        ("{\"a\":1} Done.", &[Words]),
        ("{\"a\":1}<|im_end|>", &[Words]),
        ("json\n{\"a\":1}", &[Words]),
        (
            "[1] says {so}: {\"a\":1} (see [2], {3}, [a link](b) and \"it)",
            &[Words],
        ),
        ("{{\"a\":1}}", &[Words]),
        ("{\"b\":2} is wrong, {\"a\":1} is right", &[Words]),
        ("{\"a\":1}\n{\"a\": 1}", &[Words]),
        ("<answer>{\"a\":1}</answer>", &[Words]),
        ("<think>\nWhat?\n</think>\n\n{\"a\":1}", &[Reasoning]),
        ("What?\n</think>\n\n{\"a\":1}", &[Reasoning]),
        ("What? {\"a\":2}\n</think>{\"a\":1}", &[Reasoning]),
        ("<think>{\"a\":2}, or {\"a\":</think>{\"a\":1}", &[Reasoning]),
        ("<think></think>\n```json\n{\"a\":1}\n```", &[Reasoning, Words]),
        ("{\"a\":1}\n<think>{\"a\":2}?</think>", &[Reasoning]),
        (
            "Well. <thinking>{\"a\":2}</thinking> So: {\"a\":1}",
            &[Reasoning, Words],
        ),
        // All of the reply is in the field for reasoning.
        ("<think>{\"a\":1}</think>", &[Reasoning]),
        (
            "<think>It is one.\n```json\n{\"a\":1}\n```</think>",
            &[Reasoning, Words],
        ),
        ("\"{\\\"a\\\": 1}\"", &[Quotes]),
    ] {
        let found = read(&schema, text).unwrap_or_else(|unfit| panic!("{text}: {unfit:?}"));
        assert_eq!((found.value, &found.around[..]), (json!({"a": 1}), around), "{text}");
    }
}

#[test]
fn characters_that_break_json_are_mended() {
    for (text, best) in [
        ("{\"best\": \"two\nlines\", \"others\": []}", "two\nlines"),
        ("So: {\"best\": \"a\ttab\r\n\", \"others\": []}!", "a\ttab\r\n"),
        (r#"{"best": "half \ud83d", "others": []}"#, "half \u{fffd}"),
        (
            r#"{"best": "a </think> b <think>", "others": []}"#,
            "a </think> b <think>",
        ),
        (r#"So: {"best": "a</think> b", "others": []}"#, "a</think> b"),
        (r#"{"best": "```json", "others": []} is it"#, "```json"),
    ] {
        assert_eq!(read(&title(), text).unwrap().value["best"], best, "{text}");
    }
}

#[test]
fn a_value_that_is_no_object_is_read_if_it_is_all_of_the_text_or_of_a_fence() {
    let number = json!({"type": "integer"});
    for text in [
        "5",
        " 5\n",
        "<think>6?</think>\n5",
        "```json\n5\n```",
        "It is\n```\n5\n```\nthen.",
    ] {
        let read = read(&number, text).map(|found| found.value);
        assert_eq!(read.unwrap_or_else(|unfit| panic!("{text}: {unfit:?}")), 5, "{text}");
    }
    assert!(accept(&number, "It is 5.").is_err());
    let list = json!({"type": "array", "items": {"type": "string"}});
    assert_eq!(accept(&list, "The names: [\"a\", \"b\"]."), Ok(json!(["a", "b"])));
}

#[test]
fn what_would_be_a_guess_is_refused() {
    for text in [
        "",
        "\n\t\u{feff}",
        "I cannot do that.",
        "{\"name\": \"a\"} or {\"name\": \"b\"}",
        // The answer may be the broken one.
        "{\"name\": \"a\"} {\"name\": \"b\", oops}",
        "For example {\"name\": \"…\", ...}: {\"name\": \"b\"}",
        // A part of the answer is not the answer.
        "{\"name\": \"a\", \"below\": [{\"name\": \"b\"}]",
        "{\"name\": \"a\", \"below\": [{\"name\": \"b\"}], \"x",
        "{\"name\": \"a\", \"below\": [{\"name\": \"b\"} {\"name\": \"c\"}]}",
        "{\"result\": {\"name\": \"a\"}}",
        "[{\"name\": \"a\"}]",
        "So: {\"name\": \"a\", \"below\": [{\"name\": \"b\"}], 'more': 1}",
        // A draft is not the answer, and neither is what comes before it.
        "<think>{\"name\": \"a\"}? Or rather",
        "<think>{\"name\": \"a\"}? Or not.</think>",
        "Say <think> {\"name\": \"a\"}",
        "```json\n```",
        "``````",
        "{'name': 'a'}",
        "{\"name\": \"a\",}",
        "{\"name\": }",
    ] {
        let refused = read(&tree(), text);
        assert!(refused.is_err(), "{text}: {refused:?}");
    }
}

#[test]
fn a_refusal_names_its_reason() {
    for (text, why, open) in [
        ("", "no JSON: the reply is empty", false),
        ("<think>so", "no JSON: all of the reply is reasoning, and", false),
        ("<think></think>", "no JSON: all of the reply is reasoning", false),
        ("I cannot.", "no JSON: expected value at line 1 column 1", false),
        ("So: {\"name\": 1}.", "/name: value is not of type \"string\"", false),
        ("{\"name\": \"a\"} {\"name\": \"b\"}", "several JSON values", false),
        ("{\"name\": \"a", "no JSON: EOF while parsing a string", true),
        ("Here: {\"name\": \"a\", \"below\": [{\"name\":", "no JSON: ", true),
        (
            "{\"name\": \"a\", \"below\": [{\"name\": \"b\"}], \"x\": tr",
            "no JSON: ",
            true,
        ),
    ] {
        let unfit = read(&tree(), text).unwrap_err();
        assert!(unfit.why.contains(why) && unfit.is_open == open, "{text}: {unfit:?}");
    }
}

#[test]
fn noise_costs_a_bounded_amount_of_work() {
    let schema = title();
    for noise in [
        "[".repeat(1 << 16),
        "{".repeat(1 << 16),
        "[1,".repeat(1 << 16),
        "{\"a\":".repeat(1 << 15),
        "[\"".repeat(1 << 16),
        "{}".repeat(1 << 16),
        "[1]".repeat(1 << 15),
        "<think>".repeat(1 << 14),
        "</think> ".repeat(1 << 14),
        "``` ".repeat(1 << 15),
        "{\"".repeat(1 << 16),
    ] {
        let text = format!("{noise}{{\"best\": \"a\", \"others\": []}}");
        // Found or refused. Without a bound, each of these would take hours.
        let _ = read(&schema, &text);
    }
}

/// Pieces of text that are around values in real replies, and pieces that try to break the search.
fn noise() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        proptest::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            "\"",
            ",",
            ":",
            "\\",
            "\n",
            " ",
            "1",
            "true",
            "null",
            "a",
            "'",
            "```",
            "```json\n",
            "{\"a\"",
            "{\"a\": ",
            "[1, ",
            "</think>",
            "</think>\n",
            "<|im_end|>",
            "\u{feff}",
            "Here is the JSON:\n",
            "{}",
            "[]",
            "[1]",
            "{\"key\": {\"n\": 1}}",
            "\\\"",
            "\\u",
            "é",
            "[THINK]",
            "[/THINK]",
        ])
        .prop_map(str::to_owned),
        ".{0,6}".prop_map(String::from),
        // A draft that satisfies the schema.
        Just("<think>{\"answer\": \"draft\"}</think>\n".to_owned()),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        ".{0,8}".prop_map(String::from),
        proptest::sample::select(vec!["</think> ", "<think>", "```", "{\"answer\": 1}", "\n", "\"}", "]"])
            .prop_map(str::to_owned),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let name = prop_oneof![Just("answer".to_owned()), text.clone()];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((name, inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_value_in_any_noise_is_found_or_refused(before in noise(), inner in any_json(), after in noise()) {
        let value = json!({"answer": inner});
        let schema = json!({"type": "object", "required": ["answer"]});
        let text = format!("{before}{value}{after}");
        if let Ok(found) = accept(&schema, &text) {
            prop_assert_eq!(found, value, "{}", text);
        }
    }

    #[test]
    fn any_value_in_plain_words_is_found(before in "[A-Za-z ,.!?:\n]{0,40}", inner in any_json(), after in "[A-Za-z ,.!?\n]{0,40}") {
        let value = json!({"answer": inner});
        let schema = json!({"type": "object", "required": ["answer"]});
        for text in [
            format!("{before}{value}{after}"),
            format!("<think>{before}</think>\n{value}"),
            format!("{before}\n```json\n{value:#}\n```\n{after}"),
        ] {
            prop_assert_eq!(accept(&schema, &text), Ok(value.clone()), "{}", text);
        }
    }
}
