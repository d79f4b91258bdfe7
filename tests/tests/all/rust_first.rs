//! Plugins whose interface is written in Rust: the same components as those with WIT files, and they run.

use std::path::Path;

use agenthost::plugin::build;
use agenthost_tests::dummy;
use agenthost_tests::guests::interface;
use agenthost_tests::server::{Reply, Server};
use serde_json::{Value, json};

use crate::{guest, machine, machine_for, run_json};

/// A value of every kind; numbers at their ends.
fn everything() -> Value {
    json!({
        "bool": true,
        "numbers": {
            "a": 255, "b": 65535, "c": u32::MAX, "d": u64::MAX, "e": -128, "f": -32768, "g": i32::MIN, "h": i64::MIN,
            "i": 0.5, "j": 1e308,
        },
        "initial": "\u{1f980}", "text": "é", "bytes": [0, 255], "strings": ["", "a"], "nested-lists": [[], [1, 2]],
        "colours": ["red", "dark-green", "blue"], "record": "second", "level": "high",
        "absent": null, "nested-option": {"some": null},
        "shapes": [
            "nothing", {"circle": {"centre": {"x": -0.5, "y2": 2.0}, "radius": 3.25}},
            {"dotted-line": [{"x": 1.0, "y2": 2.0}]}, {"label": null}, {"label": "l"}, {"pair": ["p", 7]},
            {"painted": "dark-green"},
        ],
        "single": ["blue"], "many": [["one", 1, true], ["two", 2, null]],
        "outcome": {"err": "no"}, "no-payload": {"ok": null}, "only-error": {"err": {"painted": "blue"}},
        "only-value": {"ok": {"x": 0.0, "y2": 1.0}},
        "from": {"mime": "text/plain", "data": [104, 105]}, "limits": ["tokens", "other"], "last": null,
    })
}

/// The types of a component as WIT text, without docs.
fn types(path: &str) -> String {
    let (resolve, world) = agenthost::plugin::types::decode(&std::fs::read(path).unwrap()).unwrap();
    let main = resolve.worlds[world].package.unwrap();
    let others: Vec<_> = resolve
        .packages
        .iter()
        .map(|(id, _)| id)
        .filter(|id| *id != main)
        .collect();
    let mut printer = wit_component::WitPrinter::default();
    printer.print(&resolve, main, &others).unwrap();
    printer.output.to_string()
}

#[test]
fn an_interface_in_rust_is_the_same_as_one_in_wit() {
    let (wit, rust) = (guest("kinds"), guest("kinds-from-rust"));
    assert_eq!(types(&rust), types(&wit));
    assert!(types(&wit).contains("dotted-line(list<point>)"));

    // The text too, comments and all, and so the schemas.
    let written = interface("kinds");
    assert_eq!(build::wit(Path::new(&rust)).unwrap(), written);
    assert_eq!(build::wit(Path::new(&wit)).unwrap().trim_start(), written);
    let described = |path: &str| {
        let mut document = machine().run(["inspect", path, "--json"]).json(0);
        for differs in ["digest", "size_bytes"] {
            document.as_object_mut().unwrap().remove(differs);
        }
        document
    };
    assert_eq!(described(&rust), described(&wit));
}

#[test]
fn values_of_every_type_come_back_as_they_went_in() {
    let machine = machine();
    for guest in [guest("kinds"), guest("kinds-from-rust")] {
        let output = machine.piped(["run", guest.as_str()], &everything().to_string());
        assert_eq!(output.json(0), everything());

        let mut failing = everything();
        failing["last"] = json!({"failed": "as asked"});
        let report = machine.run(run_json(&guest, &failing, &[])).json(1);
        assert_eq!(report["outcome"]["failure"]["class"], "failed", "{report}");
    }
}

#[test]
fn it_starts_the_tasks_of_other_plugins() {
    let server = Server::start(|request| Reply::text(request.prompt().to_uppercase()));
    let machine = machine_for(&server.config());
    // `leaf` lies beside it.
    let (leads, _) = (guest("leads-from-rust"), guest("leaf"));
    let output = machine.run(["run", &leads, "--input", r#"{"prompts": ["one", "=two"]}"#]);
    assert_eq!(output.json(0), json!(["ONE", "two"]));
}

#[test]
fn a_component_without_wit_text_shows_its_types() {
    let text = "package a:b@0.1.0;\n/// Lost.\ninterface task { run: async func(input: u8) -> string; }\nworld w { export task; }";
    let machine = machine();
    let wit = build::wit(&machine.write("b.wasm", dummy::component(&[text]))).unwrap();
    assert!(wit.starts_with("package root:component;\n"), "{wit}");
    assert!(wit.contains("run: async func(input: u8) -> string;"), "{wit}");
    assert!(!wit.contains("Lost"), "{wit}");
}
