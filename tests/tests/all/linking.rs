//! The plugins behind a plugin's imports: where the host looks for them, which ones fit, and how their failures are
//! reported.

use std::path::{Path, PathBuf};

use agenthost_tests::dummy;
use agenthost_tests::env::{Output, TestEnv};
use agenthost_tests::guests::{interface, workspace};
use serde_json::{Value, json};

use crate::{guest, machine_for};

/// The WIT of a plugin `guests:NAME@0.1.0` that imports the tasks of others, and whose `run` takes and gives text.
fn starter(name: &str, imports: &[&str]) -> String {
    let imports: String = imports
        .iter()
        .map(|import| format!("  import guests:{import}/task@0.1.0;\n"))
        .collect();
    format!(
        "package guests:{name}@0.1.0;
interface task {{
  use agenthost:plugin/types@0.1.0.{{failure}};
  run: async func(input: string) -> result<string, failure>;
}}
world {name} {{
  include agenthost:plugin/plugin@0.1.0;
{imports}  export task;
}}"
    )
}

/// A machine with a copy of the guest `joins` alone in its directory, so that nothing lies beside it.
fn lonely() -> (TestEnv, String) {
    let machine = machine_for("");
    let joins = machine.write("alone/joins.wasm", std::fs::read(guest("joins")).unwrap());
    (machine, joins.display().to_string())
}

fn input() -> String {
    json!({"policy": "settled", "prompts": ["=a", "=b"]}).to_string()
}

fn run(machine: &TestEnv, plugin: &str, more: &[&str]) -> Output {
    let input = input();
    machine.run([&["run", plugin, "-i", &input], more].concat())
}

fn with(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

#[track_caller]
fn assert_ran(output: &Output) {
    assert_eq!(output.json(0)["lanes"][1]["text"], "b", "{output}");
}

#[test]
fn a_sub_agent_that_nobody_declares_is_an_error_that_says_where_to() {
    let (machine, joins) = lonely();
    let output = run(&machine, &joins, &[]);
    let said = output.error(2);
    assert!(
        said.contains("guests:joins@0.1.0 starts guests:leaf@0.1.0, and no sub-agent is declared for it"),
        "{said}"
    );
    for way in [
        "--with guests:leaf=PLUGIN",
        "[sub-agents]",
        "[package.metadata.agenthost.sub-agents]",
    ] {
        assert!(said.contains(way), "{said}");
    }
    assert!(machine.redact(said).contains("[work]/alone/joins.wasm"), "{said}");
}

#[test]
fn a_sub_agent_comes_from_the_flag_the_configuration_or_the_file_beside() {
    let (machine, joins) = lonely();
    let leaf = guest("leaf");
    assert_ran(&run(&machine, &joins, &["--with", &with("guests:leaf", leaf.as_ref())]));

    machine.write(
        "agenthost.toml",
        format!("[sub-agents]\n\"guests:leaf\" = \"{leaf}\"\n"),
    );
    assert_ran(&run(&machine, &joins, &[]));
    // The flag counts for more than the configuration.
    let output = run(&machine, &joins, &["--with", "guests:leaf=nowhere.wasm"]);
    assert!(output.error(2).contains("nowhere.wasm"), "{output}");

    // The configuration overrides the file beside, and its paths are relative to the configuration.
    machine.write("alone/leaf.wasm", std::fs::read(&leaf).unwrap());
    machine.write("agenthost.toml", "[sub-agents]\n\"guests:leaf\" = \"missing.wasm\"\n");
    let output = run(&machine, &joins, &[]);
    assert!(output.error(2).contains("missing.wasm"), "{output}");
    machine.write("agenthost.toml", "");
    assert_ran(&run(&machine, &joins, &[]));
}

#[test]
fn a_missing_file_and_a_wrong_plugin_are_named() {
    let (machine, joins) = lonely();
    let output = run(&machine, &joins, &["--with", "guests:leaf=gone.wasm"]);
    let said = output.error(2);
    assert!(
        said.contains("sub-agent guests:leaf") && said.contains("gone.wasm"),
        "{said}"
    );

    let output = run(
        &machine,
        &joins,
        &["--with", &with("guests:leaf", guest("asks").as_ref())],
    );
    let said = output.error(2);
    assert!(
        said.contains("starts guests:leaf@0.1.0, but what it is given is guests:asks@0.1.0"),
        "{said}"
    );

    let not_wasm = machine.write("text.wasm", "text");
    let output = run(&machine, &joins, &["--with", &with("guests:leaf", &not_wasm)]);
    assert!(output.error(2).contains("text.wasm"), "{output}");

    let output = run(&machine, &joins, &["--with", "leaf.wasm"]);
    assert!(output.error(2).contains("NAMESPACE:NAME=PLUGIN"), "{output}");
}

/// A `leaf` of this WIT text given to `joins`.
fn given(text: &str) -> Output {
    let (machine, joins) = lonely();
    let leaf = machine.write("other.wasm", dummy::component(&[text]));
    run(&machine, &joins, &["--with", &with("guests:leaf", &leaf)])
}

#[test]
fn another_interface_version_does_not_fit() {
    let newer = starter("leaf", &[]).replace("guests:leaf@0.1.0", "guests:leaf@0.2.0");
    let output = given(&newer);
    let said = output.error(2);
    assert!(said.contains("guests:joins@0.1.0 starts guests:leaf@0.1.0"), "{said}");
    assert!(said.contains("guests:leaf@0.2.0") && said.contains("version"), "{said}");
    // A later patch release promises the same interface, so it satisfies an import of an earlier one.
    let patch = starter("leaf", &[]).replace("guests:leaf@0.1.0", "guests:leaf@0.1.7");
    assert!(!given(&patch).stderr.contains("interface version"));
}

#[test]
fn other_types_are_named_with_function_field_and_both_types() {
    let parameter = starter("leaf", &[]).replace("input: string", "input: u32");
    let output = given(&parameter);
    let said = output.error(2);
    assert!(
        said.contains("the types of `run` differ") && said.contains("string here, u32 there"),
        "{said}"
    );
    let result = starter("leaf", &[]).replace("result<string, failure>", "result<list<string>, failure>");
    let output = given(&result);
    assert!(output.error(2).contains("string here, list<string> there"), "{output}");
    let error = starter("leaf", &[]).replace("result<string, failure>", "result<string, string>");
    let output = given(&error);
    assert!(
        output.error(2).contains("variant failure here, string there"),
        "{output}"
    );
    let renamed = starter("leaf", &[]).replace("input:", "prompt:");
    let output = given(&renamed);
    assert!(output.error(2).contains("`input` here, `prompt` there"), "{output}");

    // A field deep inside.
    let machine = machine_for("");
    let wit = std::fs::read_to_string(workspace().join("plugins/competitor/wit/world.wit")).unwrap();
    let changed = wit.replace("claim: string", "claim: u32");
    assert_ne!(wit, changed);
    let competitor = machine.write("competitor.wasm", dummy::component(&[&changed]));
    let scan = agenthost_tests::guests::plugin("market-scan").display().to_string();
    let output = machine.run([
        "run",
        &scan,
        "-i",
        "{}",
        "--with",
        &with("demo:competitor", &competitor),
    ]);
    let said = output.error(2);
    for part in [
        "demo:market-scan@0.2.0",
        "`run`",
        "report.findings[].claim: string here, u32 there",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn plugins_that_start_each_other_in_a_circle_are_refused_before_any_call() {
    let machine = machine_for("");
    let write = |name: &str, other: &str| {
        let (own, imported) = (starter(name, &[other]), starter(other, &[]));
        machine.write(&format!("{name}.wasm"), dummy::component(&[&imported, &own]))
    };
    let ping: PathBuf = write("ping", "pong");
    write("pong", "ping");
    let output = machine.run(["run", &ping.display().to_string(), "-i", "\"\""]);
    let said = output.error(2);
    assert!(
        said.contains("in a circle: guests:ping -> guests:pong -> guests:ping"),
        "{said}"
    );

    // One sub-agent below two others is not a cycle.
    let base = starter("base", &[]);
    machine.write("base.wasm", dummy::component(&[&base]));
    for name in ["left", "right"] {
        machine.write(
            &format!("{name}.wasm"),
            dummy::component(&[&base, &starter(name, &["base"])]),
        );
    }
    let (left, right) = (starter("left", &[]), starter("right", &[]));
    let top = dummy::component(&[&left, &right, &starter("top", &["left", "right"])]);
    let top = machine.write("top.wasm", top);
    let output = machine.run(["run", &top.display().to_string(), "-i", "\"\"", "--json"]);
    // It runs, and traps, as a dummy does.
    assert_eq!(output.json(1)["outcome"]["failure"]["class"], "trapped");
}

#[test]
fn a_failure_arrives_in_the_type_of_the_caller() {
    let grants = "[grants.\"guests:leaf\"]\nmodels = []\nlimits = { calls = 1 }\n";
    let machine = machine_for(grants);
    let document = |input: Value| {
        machine
            .run(["run", &guest("joins"), "-i", &input.to_string(), "--json"])
            .json(0)["outcome"]["ok"]
            .clone()
    };
    let denied = document(json!({"policy": "settled", "prompts": ["a question", "=fine"]}));
    let texts = denied["lanes"].as_array().unwrap();
    assert_eq!(
        (&texts[0]["how"], &texts[1]["text"]),
        (&json!("failed"), &json!("fine"))
    );
    assert!(
        texts[0]["text"].as_str().unwrap().contains("[grants.\"guests:leaf\"]"),
        "{denied}"
    );

    // Where the type is text, the failure is its text; where it is the plugin's own, no value can be made up.
    let text_error = "package guests:text-error@0.1.0;
        interface task { run: async func(input: u32) -> result<string, string>; }
        world text-error { include agenthost:plugin/plugin@0.1.0; export task; }";
    let text_error = machine.write("text-error.wasm", dummy::component(&[text_error]));
    let own_error = interface("own-error");
    let own_error = machine.write("own-error.wasm", dummy::component(&[&own_error]));
    let (text_error, own_error) = (
        with("guests:text-error", &text_error),
        with("guests:own-error", &own_error),
    );
    let maps = guest("maps-errors");
    let run = |input: &str, own_error: &str| {
        machine.run([
            "run",
            &maps,
            "-i",
            input,
            "--json",
            "--with",
            &text_error,
            "--with",
            own_error,
        ])
    };
    let document = run("\"text\"", &own_error).json(0);
    let text = document["outcome"]["ok"].as_str().unwrap();
    assert!(text.starts_with("Err(\"") && text.contains("unreachable"), "{text}");
    let document = run("\"its-own\"", &own_error).json(1);
    let failure = &document["outcome"]["failure"];
    assert_eq!(failure["class"], "trapped");
    let message = failure["message"].as_str().unwrap();
    assert!(
        message.contains("guests:own-error@0.1.0 gave no output: trapped"),
        "{message}"
    );
    assert_eq!(document["tasks"].as_array().unwrap().len(), 2);
    // An error that the plugin itself returns does arrive.
    let real = with("guests:own-error", guest("own-error").as_ref());
    let document = run("\"its-own\"", &real).json(0);
    assert!(
        document["outcome"]["ok"].as_str().unwrap().contains("code: 1"),
        "{document}"
    );
}

#[test]
fn a_sub_agent_that_is_given_in_vain_is_a_slip_and_named() {
    let machine = machine_for("");
    let given = format!("guests:misbehavse={}", guest("misbehaves"));
    let plan = r#"{"behaviours":["ok"],"in-turn":false,"first-only":false}"#;
    let output = machine.run(["run", &guest("starts"), "-i", plan, "--with", &given]);
    let said = output.error(2);
    assert!(said.contains("no plugin starts guests:misbehavse"), "{said}");
    assert!(said.contains("guests:starts@0.1.0 starts guests:misbehaves."), "{said}");
}
