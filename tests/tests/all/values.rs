//! Values of every WIT type, through the command line and back.

use serde_json::{Value, json};

use crate::{guest, machine};

/// A value of every kind; numbers at their ends.
fn everything() -> Value {
    json!({
        "bool": true, "u8": 255, "u16": 65535, "u32": 4_294_967_295_u32, "u64": u64::MAX,
        "s8": -128, "s16": -32768, "s32": i32::MIN, "s64": i64::MIN,
        "f32": 0.1, "f64": 1e308, "char": "\u{1f980}", "string": "quote \" backslash \\ newline \n nul \u{0} é",
        "bytes": [0, 127, 255], "strings": ["", "a"], "nested-lists": [[], [1], [1, 2]],
        "absent": "present", "nested-option": {"some": 7},
        "t": {"circle": {"centre": {"x": -0.5, "y": 2.0}, "x": 3.25}},
        "colour": "dark-green", "access": ["read", "run-as"], "pair": ["one", 1],
        "points": [{"x": 1.0, "y": 2.0}, {"x": 0.1, "y": 1e-300}],
        "outcome": {"ok": 5}, "no-payload": {"err": null}, "only-error": {"err": "why"},
    })
}

fn with(changes: Value) -> Value {
    let mut value = everything();
    for (field, changed) in changes.as_object().unwrap() {
        value[field] = changed.clone();
    }
    value
}

#[test]
fn every_type_comes_back_as_it_went_in() {
    let (machine, echo) = (machine(), guest("echo"));
    for input in [
        everything(),
        with(
            json!({"t": "nothing", "access": [], "colour": "red", "absent": null, "nested-option": null, "bool": false}),
        ),
        with(
            json!({"t": {"polygon": []}, "nested-option": {"some": null}, "outcome": {"err": "no"}, "no-payload": {"ok": null}}),
        ),
        with(json!({"t": {"label": null}, "only-error": {"ok": null}, "bytes": [], "points": [], "string": ""})),
        with(json!({"t": {"label": "text"}, "f32": "NaN", "f64": "-Infinity", "u64": 0, "s64": i64::MAX})),
        with(json!({"f32": 16_777_216.0, "f64": 5e-324, "char": "\u{0}", "u64": 9_007_199_254_740_993_u64})),
    ] {
        assert_eq!(machine.piped(["run", echo.as_str()], &input.to_string()).json(0), input);
    }
}

#[test]
fn what_may_be_written_in_two_ways_comes_back_in_one() {
    let (machine, echo) = (machine(), guest("echo"));
    let mut short = with(json!({"u64": "18446744073709551615", "s64": "-9223372036854775808", "u8": 3.0, "f64": 2}));
    short.as_object_mut().unwrap().remove("absent");
    let output = machine.piped(["run", echo.as_str()], &short.to_string());
    assert_eq!(output.json(0), with(json!({"absent": null, "u8": 3, "f64": 2.0})));
    assert!(
        output.stdout.contains("\"u64\":18446744073709551615,") && output.stdout.contains("\"f32\":0.1,"),
        "{output}"
    );
    assert!(
        output.stdout.starts_with("{\"bool\":true,\"u8\":3,"),
        "fields stand in the order of the type: {output}"
    );
}

#[test]
fn a_wrong_value_is_named_by_its_path() {
    let (machine, echo) = (machine(), guest("echo"));
    for (change, says) in [
        (
            json!({"t": {"circle": {"centre": {"x": 1, "y": 2}, "x": "wide"}}}),
            "input.t.circle.x: expected f64, found string",
        ),
        (json!({"u8": 256}), "input.u8: "),
        (json!({"u64": 18_446_744_073_709_551_616.0}), "input.u64: "),
        (json!({"s8": 1.5}), "input.s8: "),
        (json!({"char": "ab"}), "input.char: expected char"),
        (json!({"bytes": [1, 256]}), "input.bytes[1]: "),
        (json!({"colour": "green"}), "input.colour: unknown case `green`"),
        (
            json!({"access": ["read", "read"]}),
            "input.access[1]: flag `read` stands twice",
        ),
        (
            json!({"pair": ["one"]}),
            "input.pair: expected tuple of 2, found list of 1",
        ),
        (json!({"t": "circle"}), "input.t: case `circle` has a payload"),
        (
            json!({"nested-option": 7}),
            "input.nested-option: expected null or {\"some\": …}",
        ),
        (
            json!({"outcome": 5}),
            "input.outcome: expected {\"ok\": …} or {\"err\": …}",
        ),
        (
            json!({"points": [{"x": 1, "y": 2, "z": 3}]}),
            "input.points[0]: unknown field `z`",
        ),
    ] {
        let output = machine.piped(["run", echo.as_str()], &with(change).to_string());
        assert!(output.error(2).contains(says), "{says}: {output}");
    }
}
