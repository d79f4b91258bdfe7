//! What people see: help, pages and errors, each as a whole.
//!
//! `cargo insta test --accept --workspace --test all -- screens inspect` writes the snapshots again after a change.

use agenthost_tests::dummy;
use agenthost_tests::env::{Output, TestEnv};
use agenthost_tests::server::{Reply, Server};

use serde_json::json;

use crate::{guest, machine, machine_at, questions, strict_questions};

/// Replaces what differs from run to run or from build to build, as long as the result lives.
pub(crate) fn filters() -> impl Drop {
    let mut settings = insta::Settings::clone_current();
    for (pattern, word) in [
        (r"\b[0-9a-z]{9}-[0-9a-z]{5}\b", "[the run's id]"),
        (r"\b[0-9a-f]{64}\b", "[digest]"),
        (r"\bdigest [0-9a-f]{12}\b", "digest [digest]"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "[time]"),
        (r"\d+ m?s ago", "[age]"),
        (r", \d+\.\d+ s waited in all", ""),
        (r"( ?) *\b\d+\.\d+ s\b", "$1[duration]"),
        (r"OUTCOME +TIME", "OUTCOME TIME"),
        (r"127\.0\.0\.1:\d+", "[address]"),
        (r"\d+(\.\d+)? items/s", "[rate]"),
        (r"size( +)\d+ KiB", "size$1[size]"),
        (r"wit-component \d+\.\d+\.\d+", "wit-component [version]"),
        // The diagram of the calls depends on their times.
        (r"(?s)\n +0 \[duration\]\n.*", "\n[diagram]"),
    ] {
        settings.add_filter(pattern, word);
    }
    settings.bind_to_scope()
}

/// What a command shows: stdout, stderr if there is any, and the exit code unless it is 0.
pub(crate) fn screen(machine: &TestEnv, args: &[&str]) -> String {
    let Output { code, stdout, stderr } = machine.run(args);
    let mut text = stdout;
    if !stderr.is_empty() {
        text += &format!("--- stderr\n{stderr}");
    }
    if code != 0 {
        text += &format!("--- exit code {code}\n");
    }
    machine.redact(&text)
}

/// A machine with these guests in its working directory, whose models are at a server that answers every prompt.
fn answering(guests: &[&str]) -> (Server, TestEnv) {
    let server = Server::start(|_| Reply::text("An answer.").usage(12, 3));
    let machine = machine_at(&server);
    for name in guests {
        machine.write(&format!("{name}.wasm"), std::fs::read(guest(name)).unwrap());
    }
    (server, machine)
}

/// The id of the newest run.
fn newest(machine: &TestEnv) -> String {
    let runs = machine.run(["runs", "--json"]).json(0);
    runs["runs"][0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn the_help_of_the_program() {
    insta::assert_snapshot!(screen(&machine(), &["--help"]), @"");
}

#[test]
fn the_help_of_run() {
    insta::assert_snapshot!(screen(&machine(), &["run", "--help"]), @"");
}

#[test]
fn the_help_of_batch() {
    insta::assert_snapshot!(screen(&machine(), &["batch", "--help"]), @"");
}

#[test]
fn the_help_of_show() {
    insta::assert_snapshot!(screen(&machine(), &["show", "--help"]), @"");
}

#[test]
fn the_help_of_inspect() {
    insta::assert_snapshot!(screen(&machine(), &["inspect", "--help"]), @"");
}

#[test]
fn a_run_and_its_page() {
    let (_server, machine) = answering(&["relay", "joins", "leaf"]);
    let _filters = filters();
    let input = json!({"policy": "settled", "prompts": ["What is new?", "=nothing"]}).to_string();
    let with = ["--with", "guests:joins=joins.wasm", "--with", "guests:leaf=leaf.wasm"];
    let args = ["run", "relay.wasm", "--input", &input];
    insta::assert_snapshot!(screen(&machine, &[&args[..], &with[..]].concat()), @"");
    insta::assert_snapshot!(screen(&machine, &["show", &newest(&machine)]), @"");
}

#[test]
fn a_batch_and_its_page() {
    let (_server, machine) = answering(&["fails"]);
    let _filters = filters();
    machine.write(
        "items.jsonl",
        "{\"failed\": \"as asked\"}\n{\"escalated\": \"too dear\"}\n",
    );
    insta::assert_snapshot!(screen(&machine, &["batch", "fails.wasm", "items.jsonl", "--output", "results.jsonl"]), @"");
    insta::assert_snapshot!(screen(&machine, &["show", &newest(&machine)]), @"");
}

#[test]
fn a_plan() {
    let (_server, machine) = answering(&["asks"]);
    let _filters = filters();
    let input = questions(&["What is new?"], "parallel").to_string();
    insta::assert_snapshot!(screen(&machine, &["plan", "asks.wasm", "--input", &input]), @"");
}

#[test]
fn what_doctor_finds_in_a_configuration() {
    let (_server, machine) = answering(&[]);
    let _filters = filters();
    // The other checks depend on the machine and on the engine.
    let stable = ["configuration", "model ", "limits of a task", "plugins of registries"];
    let page = screen(&machine, &["doctor"]);
    let lines = page.lines().filter(|line| {
        stable
            .iter()
            .any(|check| line.get(5..).is_some_and(|line| line.starts_with(check)))
    });
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @"");
}

#[test]
fn a_plugin_that_does_not_exist() {
    insta::assert_snapshot!(screen(&machine(), &["run", "nowhere.wasm", "--input", "1"]), @"");
}

#[test]
fn an_input_of_another_form() {
    let (_server, machine) = answering(&["asks"]);
    let args = ["run", "asks.wasm", "--input", r#"{"prompt": "What is new?"}"#];
    insta::assert_snapshot!(screen(&machine, &args), @"");
}

#[test]
fn a_limit_that_is_reached() {
    let (_server, machine) = answering(&["asks"]);
    let _filters = filters();
    let input = strict_questions(&["What is new?", "And now?"], "sequential").to_string();
    let args = ["run", "asks.wasm", "--input", &input, "--calls", "1"];
    insta::assert_snapshot!(screen(&machine, &args), @"");
}

#[test]
fn a_configuration_with_an_unknown_key() {
    let machine = machine().config("[model]\nfast = \"offline/any\"\n");
    insta::assert_snapshot!(screen(&machine, &["runs"]), @"");
}

#[test]
fn a_plugin_that_wants_more_than_a_host_offers() {
    let machine = machine();
    let sockets = "package wasi:sockets@0.2.3; interface tcp-create-socket { create: func() -> u32; }";
    let dials = "package demo:dials@0.1.0;
        interface task { run: async func(input: string) -> string; }
        world dials { import wasi:sockets/tcp-create-socket@0.2.3; export task; }";
    machine.write("dials.wasm", dummy::component(&[sockets, dials]));
    let args = ["run", "dials.wasm", "--input", "\"127.0.0.1:80\""];
    insta::assert_snapshot!(screen(&machine, &args), @"");
}

#[test]
fn a_run_that_is_not_in_the_journal() {
    let (_server, machine) = answering(&["leaf"]);
    let _filters = filters();
    machine.run(["run", "leaf.wasm", "--input", "\"=fine\""]);
    insta::assert_snapshot!(screen(&machine, &["show", "1aaaaaaaa-aaaaa"]), @"");
}
