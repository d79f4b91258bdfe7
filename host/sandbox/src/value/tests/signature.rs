//! Signatures, shapes, and what a compiled component keeps of them.

use super::resolve;
use agenthost_core::error::{Classify as _, ErrorClass};
use agenthost_plugin::ComponentError;
use agenthost_plugin::types::decode;
use agenthost_plugin::types::shape::same_shape;
use agenthost_plugin::types::signature::signature;

const TASK: &str = "
    package demo:competitor@0.1.0;
    interface types {
        /// Why not.
        variant failure { failed(string), cancelled }
    }
    interface i {
        use types.{failure};
        /// One company to look into.
        record topic {
            /// Its legal name.
            company: string,
            %record: option<u32>,
        }
        record finding { claim: string, support: string }
        record report { findings: list<finding>, confidence: f32, ids: ids }
        type ids = list<u64>;
        flags rights { read, write }
        /// Looks into it.
        f: async func(input: topic, rights: rights) -> result<report, failure>;
    }";

#[test]
fn a_signature_shows_every_type_once_with_its_docs() {
    let (resolve, function) = resolve(TASK);
    let expected = "\
/// One company to look into.
record topic {
  /// Its legal name.
  company: string,
  %record: option<u32>,
}

flags rights {
  read,
  write,
}

record report {
  findings: list<finding>,
  confidence: f32,
  ids: ids,
}

/// Why not.
variant failure {
  failed(string),
  cancelled,
}

record finding {
  claim: string,
  support: string,
}

type ids = list<u64>;

/// Looks into it.
f: async func(input: topic, rights: rights) -> result<report, failure>;
";
    assert_eq!(signature(&resolve, &function), expected);
}

/// The difference after `from` became `to` in the text.
fn changed(from: &str, to: &str) -> Result<(), String> {
    assert!(TASK.contains(from));
    let (here, f) = resolve(TASK);
    let (there, g) = resolve(&TASK.replace(from, to));
    same_shape(&here, &f, &there, &g)
}

#[test]
fn equal_shapes_need_no_equal_names_of_types() {
    assert_eq!(changed("/// Looks into it.", ""), Ok(()));
    assert_eq!(
        changed("record topic {", "type topic = subject; record subject {"),
        Ok(())
    );
    assert_eq!(changed("ids: ids }", "ids: list<u64> }"), Ok(()));
}

#[test]
fn the_first_difference_is_named() {
    let cases = [
        (
            "claim: string",
            "claim: u32",
            "report.findings[].claim: string here, u32 there",
        ),
        (
            "claim: string",
            "claim: topic",
            "report.findings[].claim: string here, record topic there",
        ),
        (
            "claim: string",
            "claim: option<topic>",
            "report.findings[].claim: string here, option<topic> there",
        ),
        (
            "claim: string",
            "claims: string",
            "report.findings[]: field 1 is `claim` here, `claims` there",
        ),
        (
            ", support: string",
            "",
            "report.findings[]: field `support` here, no field 2 there",
        ),
        (
            "confidence: f32",
            "confidence: f32, why: string",
            "report: field 3 is `ids` here, `why` there",
        ),
        ("option<u32>", "option<s32>", "input.record: u32 here, s32 there"),
        ("option<u32>", "u32", "input.record: option<u32> here, u32 there"),
        ("= list<u64>", "= list<s64>", "report.ids[]: u64 here, s64 there"),
        (
            "failed(string)",
            "failed",
            "failure.failed: string here, no payload there",
        ),
        (
            "cancelled }",
            "cancelled, other(string) }",
            "failure: no case 3 here, case `other` there",
        ),
        (
            "read, write",
            "write, read",
            "rights: flag 1 is `read` here, `write` there",
        ),
        ("async func", "func", "f: async func here, func there"),
        (
            "input: topic,",
            "topic: topic,",
            "f: parameter 1 is `input` here, `topic` there",
        ),
        (
            ", rights: rights)",
            ")",
            "f: parameter `rights` here, no parameter 2 there",
        ),
        (
            "result<report, failure>",
            "result<report>",
            "failure: variant failure here, no payload there",
        ),
        (
            "result<report, failure>",
            "report",
            "output: result<report, failure> here, record report there",
        ),
        (
            " -> result<report, failure>",
            "",
            "output: result<report, failure> here, nothing there",
        ),
    ];
    for (from, to, difference) in cases {
        assert_eq!(changed(from, to), Err(difference.to_owned()), "{from} -> {to}");
    }
}

#[test]
fn a_type_that_branches_at_every_level_is_compared_once() {
    let mut items = "record r0 { a: u8 }\n".to_owned();
    for n in 1..100 {
        let inner = n - 1;
        items.push_str(&format!("record r{n} {{ a: r{inner}, b: r{inner} }}\n"));
    }
    let text = format!("package t:t; interface i {{ {items} f: func(x: r99); }}");
    let (here, f) = resolve(&text);
    let (there, g) = resolve(&text.replace("a: u8", "a: s8"));
    assert_eq!(same_shape(&here, &f, &here, &f), Ok(()));
    let difference = same_shape(&here, &f, &there, &g).unwrap_err();
    assert!(difference.ends_with(".a.a: u8 here, s8 there"), "{difference}");
}

#[test]
fn a_chain_that_no_component_holds_is_refused() {
    let mut items = "type o0 = option<u8>;\n".to_owned();
    for n in 1..20_000 {
        items.push_str(&format!("type o{n} = option<o{}>;\n", n - 1));
    }
    let (here, f) = resolve(&format!("package t:t; interface i {{ {items} f: func(x: o19999); }}"));
    assert_eq!(
        same_shape(&here, &f, &here, &f),
        Err("x: nested deeper than 127 levels".to_owned())
    );
}

#[test]
fn what_is_no_component_is_refused() {
    let error = decode(b"\0asm\x01\0\0\0").unwrap_err();
    assert_eq!(error.class(), ErrorClass::Plugin);
    assert!(matches!(error, ComponentError::CoreModule { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("wasm32-wasip2"));
    assert!(matches!(decode(b"hello"), Err(ComponentError::Broken { .. })));
    let mut package = wit_parser::Resolve::default();
    let id = package
        .push_str("t.wit", "package t:t; interface i { f: func(); }")
        .unwrap();
    let error = decode(&wit_component::encode(&package, id).unwrap()).unwrap_err();
    assert!(matches!(error, ComponentError::WitPackage), "{error:?}");
}

#[test]
fn an_empty_component_has_an_empty_world() {
    let (resolve, world) = decode(b"\0asm\x0d\0\x01\0").unwrap();
    assert!(resolve.worlds[world].exports.is_empty());
}
