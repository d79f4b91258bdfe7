//! `spawn`: tasks in plain words, answered by the plugins that are part of the program.

use agenthost_tests::server::{Reply, Server};
use serde_json::{Value, json};

use crate::machine_at;

/// Answers with the last line of the prompt; `bad` is an error.
fn server() -> Server {
    Server::start(|request| {
        let prompt = request.prompt();
        match prompt.contains("bad") && !prompt.contains("Compare") {
            true => Reply::error(400, "invalid_request_error", "no"),
            false => Reply::text(format!("about {}", prompt.lines().last().unwrap())).usage(10, 5),
        }
    })
}

#[test]
fn several_tasks_are_answered_at_once_and_made_into_one_answer() {
    let server = server();
    let machine = machine_at(&server);
    let tasks = ["Research A", "Research bad B", "Research C"];
    let output = machine.run([&["spawn"][..], &tasks, &["--synthesize", "Compare them"]].concat());
    assert_eq!(output.code, 0, "{output}");
    assert_eq!(output.stdout, "about Compare them\n");
    assert!(
        output.stderr.contains("failed: root/1 (agenthost:ask@0.1.0): "),
        "{output}"
    );
    let requests = server.ended();
    let models: Vec<_> = requests
        .iter()
        .map(|request| request.body["model"].as_str().unwrap())
        .collect();
    assert_eq!(
        models.iter().filter(|model| **model == "large").count(),
        1,
        "{models:?}"
    );
    let synthesis = requests.last().unwrap().prompt();
    for part in [
        "Research A:\nabout Research A",
        "Research C:\nabout Research C",
        "<no-answer>\nResearch bad B: ",
    ] {
        assert!(synthesis.contains(part), "{part} in {synthesis}");
    }

    let document = machine
        .run([&["spawn"][..], &tasks, &["--synthesize", "Compare them", "--json"]].concat())
        .json(0);
    let output = &document["outcome"]["ok"];
    assert_eq!(
        output["answers"][1],
        json!({"name": "Research C", "answer": "about Research C"})
    );
    assert_eq!(
        (&output["failed"][0]["name"], &output["synthesis"]),
        (&json!("Research bad B"), &json!("about Compare them"))
    );
    let replayed = machine.run(["replay", "last", "--json"]).json(0);
    assert_eq!(replayed["outcome"], document["outcome"]);
}

#[test]
fn each_row_of_a_file_is_a_task_with_a_typed_answer() {
    let server = Server::start(|request| {
        let n = if request.prompt().contains("Acme") { 1 } else { 2 };
        Reply::text(json!({"staff": n}).to_string())
    });
    let machine = machine_at(&server);
    machine.write("companies.csv", "company;notes\nAcme;short\nGlobex;\"two\nlines\"\n");
    let schema = json!({"type": "object", "properties": {"staff": {"type": "integer"}}, "required": ["staff"],
        "additionalProperties": false});
    machine.write("schema.json", schema.to_string());
    let args = [
        "spawn",
        "--each",
        "companies.csv",
        "Count the staff of {{company}}: {{notes}}",
        "--schema",
        "schema.json",
    ];
    let document = machine.run([&args[..], &["--json"]].concat()).json(0);
    assert_eq!(
        document["outcome"]["ok"]["answers"],
        json!([{"name": "Acme", "answer": {"staff": 1}}, {"name": "Globex", "answer": {"staff": 2}}])
    );
    let prompts: Vec<_> = server.ended().iter().map(|request| request.prompt()).collect();
    assert!(
        prompts.iter().any(|prompt| prompt == "Count the staff of Acme: short"),
        "{prompts:?}"
    );
    assert!(
        prompts
            .iter()
            .any(|prompt| prompt.contains("Globex: `notes`\n<document>\nnotes:\ntwo\nlines")),
        "{prompts:?}"
    );
    let missing = machine.run(["spawn", "--each", "companies.csv", "Research {{name}}"]);
    assert_eq!(missing.code, 1, "{missing}");
    assert!(
        missing
            .stderr
            .contains("no value for `{{name}}`; there are `company`, `notes`"),
        "{missing}"
    );
}

#[test]
fn what_is_wrong_is_found_before_anything_is_spent() {
    let server = server();
    let machine = machine_at(&server);
    machine.write("empty.csv", "company\n");
    let refused = |args: &[&str], code: i32, part: &str| {
        let output = machine.run([&["spawn"], args].concat());
        let error = output.error(code);
        assert!(error.contains(part) && error.contains("hint:"), "{part} in {output}");
    };
    refused(&["x", "--schema", r#"{"type": "legs"}"#], 2, "--schema: ");
    refused(&["x", "--schema", "no-such.json"], 2, "--schema no-such.json: ");
    refused(&["x", "--file", "notes"], 2, "--file notes: not of the form NAME=PATH");
    refused(&["x", "--file", "notes=no-such.md"], 2, "--file notes=no-such.md: ");
    refused(&["x", "y", "--each", "empty.csv"], 2, "--each takes one task");
    refused(&["x", "--each", "empty.csv"], 2, "empty.csv: no rows");
    refused(&["x", "y", "--tasks", "1"], 2, "--tasks 1: 2 tasks are given");
    refused(&["x", "--quorum", "2"], 2, "--quorum 2: the number of tasks is 1");
    refused(&["x", "y", "--quorum", "3"], 2, "--quorum 3: the number of tasks is 2");
    assert_eq!(server.count(), 0);
    let one = machine.run(["spawn", "Say hi"]);
    assert_eq!((one.code, one.stdout.as_str()), (0, "about Say hi\n"), "{one}");
}

#[test]
fn a_stopped_run_is_resumed_without_paying_twice() {
    let server = server();
    let machine = machine_at(&server);
    let tasks = ["A", "B", "C", "D"];
    let stopped = machine.run([&["spawn"][..], &tasks, &["--join", "all", "--max-concurrent", "1", "--calls", "2"]].concat());
    assert_eq!(stopped.code, 3, "{stopped}");
    let paid = server.count();
    let resumed = machine.run(["resume", "last", "--calls", "10", "--json"]).json(0);
    let answers: Vec<&Value> = resumed["outcome"]["ok"]["answers"].as_array().unwrap().iter().collect();
    assert_eq!(answers.len(), 4);
    assert_eq!((paid, server.count()), (2, 4));
}

#[test]
fn the_plugins_behind_it_are_listed_and_inspected() {
    let machine = crate::machine();
    let listed = machine.run(["list", "--builtin", "--json"]).json(0);
    let names: Vec<_> = listed["plugins"]
        .as_array()
        .unwrap()
        .iter()
        .map(|plugin| plugin["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["agenthost:ask", "agenthost:fan-out", "agenthost:map"]);
    let inspected = machine.run(["inspect", "agenthost:ask", "--json"]).json(0);
    assert_eq!(inspected["digest"], listed["plugins"][0]["digest"]);
    let other = machine.run(["run", "agenthost:ask@^9", "-i", r#"{"task": "x"}"#, "--offline-models"]);
    assert!(
        other
            .error(2)
            .contains("agenthost:ask: this program has release 0.1.0 of it, and ^9 is wanted"),
        "{other}"
    );
    let machine = machine.config("");
    machine.write("agenthost-policy.toml", "format = 1\ndeny = [\"agenthost:*\"]\n");
    let denied = machine.run(["spawn", "x", "--offline-models"]);
    assert!(denied.error(4).contains("agenthost:ask"), "{denied}");
}
