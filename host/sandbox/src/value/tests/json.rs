//! Conversions of every type in both directions, and the text of every error.

use serde_json::{Value as Json, json};
use wasmtime::component::{Type, Val};

use super::super::{ValueErrorKind, from_json, sample, to_json};
use super::typed;
use agenthost_core::error::{Error, ErrorClass};

/// Checks that `json` is a value of `ty` and prints as `printed`.
#[track_caller]
fn prints(ty: &Type, json: &Json, printed: &Json) {
    let val = from_json(ty, json, "input").unwrap_or_else(|error| panic!("{error}"));
    let out = to_json(&val, "output").expect("printable");
    assert_eq!(out.to_string(), printed.to_string());
}

#[track_caller]
fn same(ty: &Type, json: Json) {
    prints(ty, &json, &json);
}

#[track_caller]
fn fails(ty: &Type, json: &Json, message: &str) {
    let error = from_json(ty, json, "input").expect_err("an error");
    assert_eq!(error.to_string(), message);
}

#[test]
fn bools_and_strings() {
    same(&Type::Bool, json!(true));
    same(&Type::String, json!("é\u{1f600}\u{0}"));
    fails(&Type::Bool, &json!(0), "input: expected bool, found number");
    fails(&Type::Bool, &json!("true"), "input: expected bool, found string");
    fails(&Type::String, &json!(null), "input: expected string, found null");
    fails(&Type::String, &json!({}), "input: expected string, found object");
    fails(&Type::String, &json!([]), "input: expected string, found list");
    fails(&Type::String, &json!(false), "input: expected string, found bool");
}

#[test]
fn integers_keep_to_their_range() {
    let ranges = [
        (Type::S8, "s8", i128::from(i8::MIN), i128::from(i8::MAX)),
        (Type::U8, "u8", 0, i128::from(u8::MAX)),
        (Type::S16, "s16", i128::from(i16::MIN), i128::from(i16::MAX)),
        (Type::U16, "u16", 0, i128::from(u16::MAX)),
        (Type::S32, "s32", i128::from(i32::MIN), i128::from(i32::MAX)),
        (Type::U32, "u32", 0, i128::from(u32::MAX)),
        (Type::S64, "s64", i128::from(i64::MIN), i128::from(i64::MAX)),
        (Type::U64, "u64", 0, i128::from(u64::MAX)),
    ];
    for (ty, word, min, max) in ranges {
        for value in [min, max] {
            same(&ty, serde_json::from_str(&value.to_string()).unwrap());
        }
        for value in [min - 1, max + 1] {
            // serde_json reads an integer that does not fit in 64 bits as a float.
            let json: Json = serde_json::from_str(&value.to_string()).unwrap();
            let error = from_json(&ty, &json, "input").unwrap_err().to_string();
            match json.is_f64() {
                false => assert_eq!(error, format!("input: expected {word} ({min} to {max}), found {value}")),
                true => assert!(error.contains("may have lost digits"), "{error}"),
            }
        }
        fails(
            &ty,
            &json!(1.5),
            &format!("input: expected {word}, found 1.5, which has a fraction"),
        );
        fails(&ty, &json!(null), &format!("input: expected {word}, found null"));
    }
    fails(&Type::U8, &json!("7"), "input: expected u8, found string");
    fails(&Type::U8, &json!(1e300), "input: expected u8 (0 to 255), found 1e+300");
}

#[test]
fn a_float_without_a_fraction_is_an_integer_while_it_is_exact() {
    prints(&Type::U8, &json!(3.0), &json!(3));
    prints(&Type::S8, &json!(-0.0), &json!(0));
    prints(
        &Type::U64,
        &json!(9_007_199_254_740_992.0),
        &json!(9_007_199_254_740_992_u64),
    );
    fails(
        &Type::U64,
        &json!(9_007_199_254_740_994.0),
        "input: expected u64, found the float 9007199254740994.0, which may have lost digits; write all digits, or a string of them",
    );
}

#[test]
fn long_integers_may_be_strings_of_digits() {
    prints(&Type::U64, &json!("18446744073709551615"), &json!(u64::MAX));
    prints(&Type::S64, &json!("-9223372036854775808"), &json!(i64::MIN));
    prints(&Type::S64, &json!("0"), &json!(0));
    fails(
        &Type::U64,
        &json!("18446744073709551616"),
        "input: expected u64 (0 to 18446744073709551615), found \"18446744073709551616\"",
    );
    fails(
        &Type::U64,
        &json!("-1"),
        "input: expected u64 (0 to 18446744073709551615), found \"-1\"",
    );
    for wrong in [
        "",
        "-",
        "+1",
        "01",
        "-0",
        "1_000",
        "1.0",
        " 1",
        "0x10",
        "123456789012345678901",
    ] {
        fails(
            &Type::S64,
            &json!(wrong),
            &format!("input: expected s64 as a number or a string of digits, found string `{wrong}`"),
        );
    }
}

#[test]
fn floats() {
    same(&Type::Float64, json!(0.1));
    same(&Type::Float64, json!(-0.0));
    same(&Type::Float64, json!(f64::MAX));
    same(&Type::Float64, json!(5e-324));
    prints(&Type::Float64, &json!(3), &json!(3.0));
    prints(&Type::Float32, &json!(-7), &json!(-7.0));
    same(&Type::Float32, json!(0.1));
    same(&Type::Float32, json!(-0.0));
    same(&Type::Float32, json!(3.402_823_5e38));
    same(&Type::Float32, json!(1e-45));
    same(&Type::Float32, json!(16_777_216.0));
    for name in ["NaN", "Infinity", "-Infinity"] {
        same(&Type::Float32, json!(name));
        same(&Type::Float64, json!(name));
    }
    fails(
        &Type::Float32,
        &json!(1e39),
        "input: expected f32 (-3.4028235e38 to 3.4028235e38), found 1e+39",
    );
    fails(&Type::Float64, &json!("1.5"), "input: expected f64, found string");
    fails(&Type::Float32, &json!("inf"), "input: expected f32, found string");
    fails(&Type::Float32, &json!([]), "input: expected f32, found list");
}

#[test]
fn a_float_keeps_its_sign_and_digits_through_text() {
    for text in ["-0.0", "0.1", "1e-7", "123456.79", "7.038531e-26", "-7.038531e-26"] {
        let val = from_json(&Type::Float32, &serde_json::from_str(text).unwrap(), "input").unwrap();
        let Val::Float32(value) = val else { panic!("no f32") };
        assert_eq!(value.to_bits(), text.parse::<f32>().unwrap().to_bits());
        assert_eq!(to_json(&val, "output").unwrap().to_string(), text);
    }
}

#[test]
fn chars_are_one_scalar_value() {
    same(&Type::Char, json!("\u{1f600}"));
    let word = "input: expected char (a string of one character), found";
    fails(&Type::Char, &json!(""), &format!("{word} empty string"));
    fails(&Type::Char, &json!("e\u{301}"), &format!("{word} string `e\\u{{301}}`"));
    fails(&Type::Char, &json!(65), &format!("{word} number"));
    serde_json::from_str::<Json>(r#""\ud800""#).expect_err("half a surrogate pair never gets here");
}

#[test]
fn lists_and_tuples() {
    let bytes = typed("", "list<u8>");
    same(&bytes, json!([]));
    same(&bytes, json!([0, 255]));
    fails(&bytes, &json!([1, 256]), "input[1]: expected u8 (0 to 255), found 256");
    fails(&bytes, &json!("AAE="), "input: expected list, found string");

    let fixed = typed("", "list<string, 2>");
    same(&fixed, json!(["a", "b"]));
    fails(&fixed, &json!(["a"]), "input: expected list of 2, found list of 1");

    let tuple = typed("", "tuple<u8, string>");
    same(&tuple, json!([1, "a"]));
    fails(&tuple, &json!([1]), "input: expected tuple of 2, found list of 1");
    fails(&tuple, &json!([1, 2]), "input[1]: expected string, found number");
    fails(&tuple, &json!({}), "input: expected tuple (a list), found object");
}

#[test]
fn maps_are_lists_of_pairs() {
    let map = typed("", "map<string, u8>");
    same(&map, json!([]));
    same(&map, json!([["a", 1], ["b", 2]]));
    fails(
        &map,
        &json!({"a": 1}),
        "input: expected map (a list of [key, value] pairs), found object",
    );
    fails(
        &map,
        &json!(["a"]),
        "input[0]: expected [key, value] pair, found string",
    );
    fails(
        &map,
        &json!([["a"]]),
        "input[0]: expected [key, value] pair, found list of 1",
    );
    fails(
        &map,
        &json!([["a", 1], ["b", "c"]]),
        "input[1][1]: expected u8, found string",
    );
}

#[test]
fn records() {
    let record = typed(
        "record topic { company: string, questions: list<string>, max-tokens: option<u32> }",
        "topic",
    );
    same(&record, json!({"company": "a", "questions": ["b"], "max-tokens": 5}));
    prints(
        &record,
        &json!({"questions": [], "company": "a"}),
        &json!({"company": "a", "questions": [], "max-tokens": null}),
    );
    fails(
        &record,
        &json!({"company": "a", "questions": ["b", 3]}),
        "input.questions[1]: expected string, found number",
    );
    fails(&record, &json!([]), "input: expected record (an object), found list");
    fails(
        &record,
        &json!({"company": "a"}),
        "input: missing field `questions` (list)",
    );
    fails(
        &record,
        &json!({"company": "a", "questions": [], "max_tokens": 1}),
        "input: unknown field `max_tokens`; the fields are `company`, `questions`, `max-tokens`; the nearest is `max-tokens`",
    );
    // The unknown field explains the missing one.
    fails(
        &record,
        &json!({"compny": "a", "questions": []}),
        "input: unknown field `compny`; the fields are `company`, `questions`, `max-tokens`; the nearest is `company`",
    );
    fails(
        &record,
        &json!({"company": "a", "questions": [], "zebra": 1}),
        "input: unknown field `zebra`; the fields are `company`, `questions`, `max-tokens`",
    );
    fails(
        &record,
        &json!({"company": "a", "questions": [], "max-tokens": "many"}),
        "input.max-tokens: expected u32, found string",
    );
}

#[test]
fn a_field_that_stands_twice_counts_as_its_last() {
    let record = typed("record r { a: u8 }", "r");
    let json: Json = serde_json::from_str(r#"{"a": "x", "a": 2}"#).unwrap();
    prints(&record, &json, &json!({"a": 2}));
}

#[test]
fn variants() {
    let items = "record dot { x: f64 } variant shape { empty, circle(dot), tag(option<string>) } record r { t: shape }";
    let record = typed(items, "r");
    same(&record, json!({"t": "empty"}));
    same(&record, json!({"t": {"circle": {"x": 1.5}}}));
    same(&record, json!({"t": {"tag": null}}));
    fails(
        &record,
        &json!({"t": {"circle": {"x": "1"}}}),
        "input.t.circle.x: expected f64, found string",
    );
    let cases = "the cases are `empty`, `circle`, `tag`";
    fails(
        &record,
        &json!({"t": "circel"}),
        &format!("input.t: unknown case `circel`; {cases}; the nearest is `circle`"),
    );
    fails(
        &record,
        &json!({"t": {"Circle ": {}}}),
        &format!("input.t: unknown case `Circle `; {cases}; the nearest is `circle`"),
    );
    fails(
        &record,
        &json!({"t": "x"}),
        &format!("input.t: unknown case `x`; {cases}"),
    );
    for (wrong, found) in [
        (json!(1), "number"),
        (json!({}), "object"),
        (json!({"a": 1, "b": 2}), "object"),
    ] {
        fails(
            &record,
            &json!({"t": wrong}),
            &format!(
                "input.t: expected variant (the name of a case, or an object with one as its only field), found {found}; {cases}"
            ),
        );
    }
    fails(
        &record,
        &json!({"t": "circle"}),
        "input.t: case `circle` has a payload (record); write {\"circle\": …}",
    );
    fails(
        &record,
        &json!({"t": {"empty": null}}),
        "input.t: case `empty` has no payload; write \"empty\"",
    );
}

#[test]
fn enums_and_flags() {
    let role = typed("enum role { user, assistant }", "role");
    same(&role, json!("assistant"));
    fails(
        &role,
        &json!("asistant"),
        "input: unknown case `asistant`; the cases are `user`, `assistant`; the nearest is `assistant`",
    );
    fails(
        &role,
        &json!(0),
        "input: expected enum, found number; the cases are `user`, `assistant`",
    );

    let rights = typed("flags rights { read, write, run }", "rights");
    same(&rights, json!([]));
    prints(&rights, &json!(["run", "read"]), &json!(["read", "run"]));
    fails(&rights, &json!(["read", "read"]), "input[1]: flag `read` stands twice");
    fails(
        &rights,
        &json!(["wirte"]),
        "input[0]: unknown flag `wirte`; the flags are `read`, `write`, `run`; the nearest is `write`",
    );
    fails(
        &rights,
        &json!([1]),
        "input[0]: expected the name of a flag, found number",
    );
    fails(
        &rights,
        &json!("read"),
        "input: expected flags (a list of names), found string",
    );
}

#[test]
fn options() {
    let option = typed("", "option<string>");
    same(&option, json!(null));
    same(&option, json!("a"));
    fails(&option, &json!(1), "input: expected string, found number");

    let nested = typed("type maybe = option<u8>;", "option<maybe>");
    let none = from_json(&nested, &json!(null), "input").unwrap();
    let some_none = from_json(&nested, &json!({"some": null}), "input").unwrap();
    assert_eq!(none, Val::Option(None));
    assert_eq!(some_none, Val::Option(Some(Box::new(Val::Option(None)))));
    same(&nested, json!(null));
    same(&nested, json!({"some": null}));
    same(&nested, json!({"some": 5}));
    fails(
        &nested,
        &json!(5),
        "input: expected null or {\"some\": …}, found number",
    );
    fails(
        &nested,
        &json!({"sum": 5}),
        "input: expected null or {\"some\": …}, found object",
    );
    fails(&nested, &json!({"some": "a"}), "input.some: expected u8, found string");

    let thrice = typed("", "option<option<option<u8>>>");
    same(&thrice, json!({"some": {"some": 5}}));
    same(&thrice, json!({"some": {"some": null}}));
    // With a type in between, nothing is ambiguous.
    same(&typed("", "option<list<option<u8>>>"), json!([null, 1]));
    same(&typed("", "option<result>"), json!({"ok": null}));
}

#[test]
fn results() {
    let result = typed("", "result<u8, string>");
    same(&result, json!({"ok": 1}));
    same(&result, json!({"err": "no"}));
    fails(&result, &json!({"ok": "1"}), "input.ok: expected u8, found string");
    fails(&result, &json!({"err": 1}), "input.err: expected string, found number");
    fails(
        &result,
        &json!("ok"),
        "input: expected {\"ok\": …} or {\"err\": …}, found string",
    );
    fails(
        &result,
        &json!({}),
        "input: expected {\"ok\": …} or {\"err\": …}, found object",
    );
    fails(
        &result,
        &json!({"error": "no"}),
        "input: unknown case `error`; the cases are `ok`, `err`",
    );
    let empty = typed("", "result");
    same(&empty, json!({"ok": null}));
    same(&empty, json!({"err": null}));
    fails(
        &empty,
        &json!({"ok": 1}),
        "input.ok: expected null (there is no payload), found number",
    );
}

#[test]
fn handles_are_refused_with_a_reason() {
    let reason = "belongs to a running component and has no JSON form";
    let cases = [
        ("own<r>", "a resource handle"),
        ("borrow<r>", "a resource handle"),
        ("future<u8>", "a future"),
        ("stream<u8>", "a stream"),
    ];
    for (ty, what) in cases {
        let ty = typed("resource r;", &format!("tuple<u8, {ty}>"));
        let error = from_json(&ty, &json!([1, 2]), "input").unwrap_err();
        assert_eq!(error.to_string(), format!("input[1]: {what} {reason}"));
        assert_eq!(error.kind(), ValueErrorKind::Unsupported);
    }
}

#[test]
fn an_error_becomes_an_input_error() {
    let error = from_json(&Type::U8, &json!("x"), "input").unwrap_err();
    assert_eq!((error.path(), error.problem()), ("input", "expected u8, found string"));
    let error = Error::from(error);
    assert_eq!(error.class(), ErrorClass::Input);
    assert_eq!(error.to_string(), "input: expected u8, found string");
}

#[test]
fn a_sample_shows_every_part_of_a_type() {
    let items = "
        enum level { low, high }
        flags rights { read, write }
        record media { mime: string, data: list<u8> }
        variant part { text(string), none }
        record all {
            name: string, level: level, rights: rights, media: option<media>, twice: option<option<u8>>,
            parts: list<part>, pair: tuple<f32, char>, done: result<_, string>, long: u64, yes: bool,
            three: list<u8, 3>, tags: map<string, u8>,
        }";
    let ty = typed(items, "all");
    let expected = json!({
        "name": "…", "level": "low", "rights": ["read"], "media": {"mime": "…", "data": [0]}, "twice": {"some": 0},
        "parts": [{"text": "…"}], "pair": [0.0, "x"], "done": {"ok": null}, "long": 0, "yes": false,
        "three": [0, 0, 0], "tags": [["…", 0]],
    });
    assert_eq!(sample(&ty), expected);
    same(&ty, expected);
}

#[test]
fn a_sample_of_a_huge_type_stays_small_where_it_can() {
    // 4^7 strings, if every option were filled in.
    let mut items = "record r0 { a: string }\n".to_owned();
    for n in 1..8 {
        let inner = n - 1;
        items.push_str(&format!(
            "record r{n} {{ a: option<r{inner}>, b: list<r{inner}>, c: option<r{inner}>, d: list<r{inner}> }}\n"
        ));
    }
    let ty = typed(&items, "r7");
    let json = sample(&ty);
    assert!(json.to_string().len() < 4000);
    from_json(&ty, &json, "input").unwrap();
}

#[test]
fn a_sample_fills_every_list_of_a_fixed_length() {
    // Valid whatever comes after the first hundred values: 4^4 leaves, 200 items, a list below other lists.
    let four = "list<list<list<list<option<u8>, 4>, 4>, 4>, 4>";
    for text in [
        four,
        "list<u8, 200>",
        "tuple<list<u8, 120>, list<list<string, 2>, 3>, list<u8>>",
    ] {
        let ty = typed("", text);
        from_json(&ty, &sample(&ty), "input").unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    // Past 10,000 values it stops, so a short type does not fill the memory.
    let json = sample(&typed("", "list<list<list<u8, 1000>, 1000>, 1000>"));
    assert!(json.to_string().len() < 100_000);
}
