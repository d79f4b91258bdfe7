//! `spawn`: tasks in plain words, answered by the plugins that are part of the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agenthost_tests::server::{Reply, Server};
use serde_json::json;

use crate::machine_at;

/// Answers with the first line of the prompt; `bad` is an error.
fn server() -> Server {
    Server::start(|request| {
        let prompt = request.prompt();
        match prompt.contains("bad") && !prompt.contains("Compare") {
            true => Reply::error(400, "invalid_request_error", "no"),
            false => {
                let task = if prompt.contains("Compare them") {
                    "Compare them"
                } else {
                    prompt.lines().next().unwrap()
                };
                Reply::text(format!("about {task}")).usage(10, 5)
            }
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
    assert!(output.stderr.contains("failed: root/1 (Research bad B): "), "{output}");
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
        "Research bad B:\n(no answer: ",
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
    let error = missing.error(2);
    assert!(
        error.contains("companies.csv:2: no value for `{{name}}`; there are `company`, `notes`"),
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
    refused(&["{{a}}", "--each", "empty.csv"], 2, "empty.csv: no rows");
    refused(
        &["x", "y", "--tasks", "1"],
        2,
        "2 sub-tasks are to be made, and the limit is 1",
    );
    refused(
        &["x", "y", "--calls", "1"],
        2,
        "2 model calls are to be made, and the limit is 1",
    );
    refused(&["x", " "], 2, "a task is empty");
    refused(&["x", "--max-tokens", "0"], 2, "at least 1");
    machine.write("notes.md", "n");
    refused(
        &["x", "--file", "n=notes.md", "--file", "n=notes.md"],
        2,
        "another file has this name",
    );
    machine.write("rows.jsonl", "{\"a\": 1}\n{\"b\": 1}\n");
    refused(
        &["{{a}}", "--each", "rows.jsonl"],
        2,
        "rows.jsonl:2: no value for `{{a}}`",
    );
    refused(&["x", "--each", "rows.jsonl"], 2, "the task names no column");
    refused(
        &["x", "--validator", "naming"],
        2,
        "--validator naming: not of the form NAME: TEXT",
    );
    refused(
        &["x", "--validator", "a: b", "--each", "rows.jsonl"],
        2,
        "cannot be used with",
    );
    refused(
        &["--validate", "empty.csv", "--rounds", "2", "--validator", "a: b"],
        2,
        "a text without a task is not revised",
    );
    refused(&["x", "--quorum", "2"], 2, "--quorum 2: the number of tasks is 1");
    refused(&["x", "y", "--quorum", "3"], 2, "--quorum 3: the number of tasks is 2");
    assert_eq!(server.count(), 0);
    let one = machine.run(["spawn", "Say hi"]);
    assert_eq!((one.code, one.stdout.as_str()), (0, "about Say hi\n"), "{one}");
}

#[test]
fn a_killed_run_is_resumed_without_paying_twice() {
    let first = AtomicBool::new(true);
    let server = Server::start(move |request| {
        let prompt = request.prompt();
        let answer = Reply::text(format!("about {prompt}")).usage(10, 5);
        match prompt == "C" && first.swap(false, Ordering::Relaxed) {
            true => answer.after(Duration::from_secs(600)),
            false => answer,
        }
    });
    let machine = machine_at(&server);
    let running = machine.start(["spawn", "A", "B", "C", "D", "--max-concurrent", "1"], None);
    server.wait_until("the third task asks", |seen| {
        seen.iter().any(|request| request.prompt() == "C")
    });
    assert_eq!(running.kill().code, 137);
    let resumed = machine.run(["resume", "last"]);
    assert_eq!(resumed.code, 0, "{resumed}");
    assert_eq!(
        resumed.stdout, "# A\n\nabout A\n\n# B\n\nabout B\n\n# C\n\nabout C\n\n# D\n\nabout D\n",
        "as text, as before"
    );
    let asked = |task: &str| server.seen().iter().filter(|request| request.prompt() == task).count();
    assert_eq!(
        ["A", "B", "C", "D"].map(asked),
        [1, 1, 2, 1],
        "only the request in flight is made again"
    );
}

#[test]
fn a_failed_task_is_named_and_asked_again_by_itself() {
    let fails = Arc::new(AtomicBool::new(true));
    let server = Server::start({
        let fails = fails.clone();
        move |request| match request.prompt() == "B" && fails.load(Ordering::Relaxed) {
            true => Reply::error(400, "invalid_request_error", "no"),
            false => Reply::text(format!("about {}", request.prompt())).usage(10, 5),
        }
    });
    let machine = machine_at(&server);
    let output = machine.run(["spawn", "A", "B"]);
    assert_eq!(output.code, 0, "{output}");
    assert!(output.stderr.contains("failed: root/1 (B): "), "{output}");
    assert!(output.stderr.contains("note: 1 of 2 tasks have no answer"), "{output}");
    let hint = output
        .stderr
        .lines()
        .find(|line| line.contains("to ask again for what has no answer: "))
        .unwrap();
    let command: Vec<_> = hint.split("agenthost ").nth(1).unwrap().split(' ').collect();
    fails.store(false, Ordering::Relaxed);
    let again = machine.run(command);
    assert_eq!(
        (again.code, again.stdout.as_str()),
        (0, "# A\n\nabout A\n\n# B\n\nabout B\n"),
        "{again}"
    );
    assert_eq!(server.count(), 3);
    let shown = machine.run(["show", "last"]);
    assert!(shown.stdout.contains("root/1 B"), "{shown}");
}

#[test]
fn answers_are_shown_although_the_synthesis_failed() {
    let server = server();
    let machine = machine_at(&server);
    let output = machine.run(["spawn", "A", "B", "--synthesize", "bad"]);
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (1, "# A\n\nabout A\n\n# B\n\nabout B\n"),
        "{output}"
    );
    assert!(output.stderr.contains("note: there is no synthesis"), "{output}");
    assert!(
        output
            .stderr
            .contains("to ask again for what has no answer: agenthost resume"),
        "{output}"
    );
}

#[test]
fn all_that_failed_is_asked_again_in_one_command_and_a_resume_reports_it_until_then() {
    let fails = Arc::new(AtomicBool::new(true));
    let server = Server::start({
        let fails = fails.clone();
        move |request| match request.prompt().contains("bad") && fails.load(Ordering::Relaxed) {
            true => Reply::error(400, "invalid_request_error", "no"),
            false => Reply::text(format!("about {}", request.prompt())).usage(10, 5),
        }
    });
    let machine = machine_at(&server);
    // Equal names: the tasks are told apart by their numbers.
    let tasks = [
        "spawn",
        "same",
        "bad",
        "same",
        "bad",
        "--synthesize",
        "bad, all of them",
    ];
    let output = machine.run(tasks);
    assert_eq!(output.code, 1, "{output}");
    let again = |stderr: &str| -> Vec<String> {
        let hint = stderr
            .lines()
            .find(|line| line.contains("to ask again for what has no answer: "));
        hint.unwrap()
            .split("agenthost ")
            .nth(1)
            .unwrap()
            .split(' ')
            .map(str::to_owned)
            .collect()
    };
    let command = again(&output.stderr);
    assert_eq!(
        command[2..],
        [
            "--ask-again",
            "root/1",
            "--ask-again",
            "root/3",
            "--ask-again",
            "root/4"
        ]
    );
    let resumed = machine.run(["resume", "last"]);
    assert_eq!(
        (resumed.code, again(&resumed.stderr)),
        (1, command.clone()),
        "{resumed}"
    );
    let paid = server.count();
    fails.store(false, Ordering::Relaxed);
    let done = machine.run(&command);
    assert_eq!(done.code, 0, "{done}");
    assert!(done.stdout.starts_with("about "), "{done}");
    assert_eq!(server.count() - paid, 3, "the synthesis is made once");
}

#[test]
fn more_tasks_than_the_default_limit_of_calls_all_run_with_a_synthesis() {
    let server = Server::start(|_| Reply::text("yes").usage(10, 5));
    let machine = machine_at(&server);
    let tasks: Vec<_> = (0..120).map(|n| format!("Task {n}")).collect();
    let args =
        tasks
            .iter()
            .map(String::as_str)
            .chain(["--synthesize", "All", "--max-tokens", "50", "--max-concurrent", "32"]);
    let output = machine.run(std::iter::once("spawn").chain(args));
    assert_eq!((output.code, output.stdout.as_str()), (0, "yes\n"), "{output}");
    assert_eq!(server.count(), 121, "{output}");
    let few = machine.run(["spawn", "a", "b", "c", "--synthesize", "All", "--calls", "4"]);
    assert_eq!((few.code, few.stdout.as_str()), (0, "yes\n"), "{few}");
}

#[test]
fn a_killed_request_does_not_use_up_the_share_of_its_task() {
    let first = AtomicBool::new(true);
    let server = Server::start(move |request| {
        let answer = Reply::text("yes").usage(10, 5);
        match request.prompt().starts_with("Task 3") && first.swap(false, Ordering::Relaxed) {
            true => answer.after(Duration::from_secs(600)),
            false => answer,
        }
    });
    let machine = machine_at(&server);
    let tasks: Vec<_> = (0..20).map(|n| format!("Task {n}")).collect();
    let args = ["--synthesize", "All", "--max-concurrent", "1"];
    let args = std::iter::once("spawn")
        .chain(tasks.iter().map(String::as_str))
        .chain(args);
    let running = machine.start(args, None);
    server.wait_until("the fourth task asks", |seen| {
        seen.iter().any(|request| request.prompt().starts_with("Task 3"))
    });
    assert_eq!(running.kill().code, 137);
    let resumed = machine.run(["resume", "last"]);
    assert_eq!((resumed.code, resumed.stdout.as_str()), (0, "yes\n"), "{resumed}");
    assert!(!resumed.stderr.contains("failed: "), "{resumed}");
    assert_eq!(server.count(), 22);
}

#[test]
fn a_vote_shows_its_tally_and_a_quorum_the_tasks_it_did_without() {
    let server = Server::start(|request| Reply::text(request.prompt().split(' ').next().unwrap()).usage(10, 5));
    let machine = machine_at(&server);
    let vote = machine.run(["spawn", "yes 1", "no 2", "yes 3", "--join", "vote"]);
    assert_eq!((vote.code, vote.stdout.as_str()), (0, "yes\n"), "{vote}");
    let output = machine.run(["spawn", "yes 1", "no 2", "no 3", "maybe 4", "--join", "vote"]);
    assert!(
        output.stderr.contains("note: 2 of 4 answers agree: not a majority"),
        "{output}"
    );
    let quorum = machine.run(["spawn", "a", "b", "c", "--quorum", "1", "--max-concurrent", "1"]);
    assert_eq!(quorum.stdout, "# a\n\na\n", "{quorum}");
    assert!(quorum.stderr.contains("note: not needed: b, c"), "{quorum}");
}

/// A server for validators: `injection` finds a problem in the first draft and in `diff`, and all else passes.
fn validating() -> Server {
    Server::start(|request| {
        let prompt = request.prompt();
        if !prompt.contains("Check it for this") {
            let revised = prompt.contains("Revise the draft");
            return Reply::text(if revised { "second draft" } else { "first draft" }).usage(10, 5);
        }
        let finds = prompt.contains("injection") && !prompt.contains("second draft");
        let problem = json!({"kind": "unsafe", "passage": "f(x)", "problem": "unbound", "remedy": "bind x"});
        let problems = if finds { vec![problem] } else { vec![] };
        Reply::text(json!({ "problems": problems }).to_string()).usage(10, 5)
    })
}

#[test]
fn a_text_from_stdin_is_checked_by_all_validators_at_once() {
    let server = validating();
    let machine = machine_at(&server);
    let validators = [
        "--validator",
        "security: look for injection",
        "--validator",
        "style: naming",
    ];
    let args = [&["spawn", "--validate", "-"][..], &validators].concat();
    let output = machine.piped(&args, "+ f(x)\n");
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (1, "unsafe: f(x)\n  security: unbound\n    bind x\n"),
        "{output}"
    );
    assert!(
        output.stderr.contains("note: security: 1 problem, style: passed"),
        "{output}"
    );
    assert_eq!(server.count(), 2);
    let document = machine.piped([&args[..], &["--json"]].concat(), "+ f(x)\n").json(1);
    assert_eq!(document["outcome"]["ok"]["passed"], false);

    let passed = machine.piped(["spawn", "--validate", "-", "--validator", "style: naming"], "x");
    assert_eq!((passed.code, passed.stdout.as_str()), (0, "passed\n"), "{passed}");
}

#[test]
fn an_answer_is_revised_until_its_validators_pass_it() {
    let server = validating();
    let machine = machine_at(&server);
    let output = machine.run(["spawn", "Write.", "--validator", "security: look for injection"]);
    assert_eq!((output.code, output.stdout.as_str()), (0, "second draft\n"), "{output}");
    assert_eq!(server.count(), 4);
    let once = machine.run([
        "spawn",
        "Write.",
        "--validator",
        "security: look for injection",
        "--rounds",
        "1",
    ]);
    assert_eq!((once.code, once.stdout.as_str()), (1, "first draft\n"), "{once}");
    assert!(once.stderr.contains("unsafe: f(x)"), "{once}");
}

#[test]
fn another_way_is_taken_after_a_failure_and_a_person_decides_at_last() {
    let server = Server::start(|request| {
        let prompt = request.prompt();
        match () {
            () if prompt.contains("This task failed.") => {
                Reply::text(json!({"reason": "it is vague", "tasks": ["Say hi to Ada"]}).to_string())
            }
            () if prompt.contains("Does the answer") => {
                Reply::text(json!({"reason": "no name", "passes": prompt.contains("Ada")}).to_string())
            }
            () => Reply::text(format!("about {prompt}")),
        }
        .usage(10, 5)
    });
    let machine = machine_at(&server);
    let output = machine.run(["spawn", "Say hi", "--recover", "--check", "It has a name."]);
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (0, "about Say hi to Ada\n"),
        "{output}"
    );
    assert!(
        output.stderr.contains("note: ways taken: as asked, diagnose"),
        "{output}"
    );
    let last = machine.run([
        "spawn",
        "Say hi",
        "--recover",
        "--check",
        "Twice.",
        "--max-attempts",
        "1",
    ]);
    let error = last.error(6);
    for part in [
        "escalated: no way led to an answer",
        "as asked: failed: the check failed: no name",
        "answer: about Say hi",
    ] {
        assert!(error.contains(part), "{part} in {last}");
    }
}

#[test]
fn a_batch_maps_rows_to_typed_answers() {
    let server = Server::start(|request| {
        let label = if request.prompt().contains("water") {
            "heating"
        } else {
            "billing"
        };
        Reply::text(json!({ "label": label }).to_string()).usage(10, 5)
    });
    let machine = machine_at(&server);
    machine.write("tickets.csv", "subject,zip\nNo hot water,007\nInvoice,1.50\n");
    let schema = json!({"type": "object", "properties": {"label": {"enum": ["heating", "billing"]}},
        "required": ["label"], "additionalProperties": false});
    machine.write("label.schema.json", schema.to_string());
    let task = "task=Classify: {{subject}} {{zip}}";
    let args = [
        "batch",
        "agenthost:map",
        "tickets.csv",
        "--set",
        task,
        "--set",
        "schema=@label.schema.json",
    ];
    let output = machine.run([&args[..], &["-o", "labels.csv"]].concat());
    assert_eq!(output.code, 0, "{output}");
    let table = std::fs::read_to_string(machine.cwd().join("labels.csv")).unwrap();
    let rows: Vec<_> = table.trim_start_matches('\u{feff}').lines().collect();
    assert!(rows[0].starts_with("subject,zip,label,outcome"), "{table}");
    assert!(rows[1].starts_with("No hot water,007,heating,ok"), "{table}");
    assert!(rows[2].starts_with("Invoice,1.50,billing,ok"), "{table}");
    let prompts: Vec<_> = server.seen().iter().map(|request| request.prompt()).collect();
    assert!(
        prompts.contains(&"Classify: Invoice 1.50".to_owned()),
        "a cell stays as it is written: {prompts:?}"
    );

    let paid = server.count();
    let refused = |more: &[&str], part: &str| {
        let output = machine.run([&["batch", "agenthost:map", "tickets.csv"], more].concat());
        let error = output.error(2);
        assert!(error.contains(part) && error.contains("hint:"), "{part} in {output}");
    };
    refused(
        &["--set", "task={{title}}"],
        "no value for `{{title}}`; there are `subject`, `zip`",
    );
    refused(
        &["--set", "task={{zip}}", "--set", r#"schema={"type": "legs"}"#],
        "--set schema: ",
    );
    refused(&["--set", "tsk=x"], "--set tsk: agenthost:map has no such field");
    refused(&["--set", "task"], "--set task: not of the form FIELD=VALUE");
    refused(
        &["--set", "schema={}"],
        "the fields of --set do not fit: input: missing field `task`",
    );
    refused(
        &["--set", task, "--set", "max-tokens=many"],
        "the fields of --set do not fit: input.max-tokens: ",
    );
    refused(
        &["--set", task, "--set", "item={}"],
        "--set item: the items are this field",
    );
    refused(&["--set", "task=Classify."], "--set task: the task names no column");
    refused(
        &["--set", task, "--set", "model=other"],
        "--set model: no model is named `other`",
    );
    refused(&["--set", "task=x", "--set", "task=y"], "--set task: given twice");
    refused(&["--set", "task=@none.txt"], "--set task=@none.txt: ");
    assert_eq!(server.count(), paid);

    machine.write("label.schema.json", "{}");
    let changed = machine.run(["resume", "last", "--failed"]);
    assert!(
        changed.error(2).contains("or a file of --set, is not what it was"),
        "{changed}"
    );
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
    assert_eq!(
        names,
        [
            "agenthost:ask",
            "agenthost:fan-out",
            "agenthost:map",
            "agenthost:recover",
            "agenthost:validate"
        ]
    );
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
