//! Any run once more, with the server gone and no key: the same outcome, the same tasks, the same fuel, or the
//! difference.

use std::time::Duration;

use agenthost_tests::env::{Output, TestEnv};
use agenthost_tests::guests::{plugin, workspace};
use agenthost_tests::server::{Dialect, Reply, Request, Server, config};
use rusqlite::Connection;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{dice, essence, guest, machine_for, questions, run_json, strict_questions};

/// How often each run is replayed.
const TIMES: usize = 2;

/// The journal of the project in the working directory.
fn journal(machine: &TestEnv) -> Connection {
    Connection::open(machine.cwd().join(".agenthost/journal.db")).unwrap()
}

/// A machine at `server`, with the key that only a recording needs.
fn recording(config: &str) -> TestEnv {
    machine_for(config).var("ANTHROPIC_API_KEY", "secret")
}

/// Replays the last run with no server behind the models and without a key, and returns the result.
fn again(machine: TestEnv) -> (TestEnv, Output) {
    let machine =
        machine
            .without("ANTHROPIC_API_KEY")
            .config(&config("openai", "http://127.0.0.1:9/v1", "retries = 0\n"));
    let output = machine.run(["replay", "last", "--json"]);
    (machine, output)
}

/// Runs, takes the server away and replays, more than once: it is the same each time. Gives the report and how many
/// requests the server had.
#[track_caller]
fn replays(machine: TestEnv, server: Option<Server>, plugin: &str, input: &Value, flags: &[&str]) -> (Value, usize) {
    let recorded = machine.run(run_json(plugin, input, flags));
    let document = recorded.json(recorded.code);
    let asked = server.map_or(0, |server| server.count());
    let mut machine = machine;
    for _ in 0..TIMES {
        let replayed;
        (machine, replayed) = again(machine);
        assert!(!replayed.stderr.contains("differ"), "{replayed}\nrecorded {recorded}");
        let replayed = replayed.json(recorded.code);
        same(&essence(&document), &essence(&replayed));
    }
    let runs = machine.run(["runs", "--json"]).json(0);
    assert_eq!(runs["runs"].as_array().unwrap().len(), 1, "a replay is no run");
    (document, asked)
}

/// Fails with the tasks that are not the same.
#[track_caller]
fn same(recorded: &Value, replayed: &Value) {
    if recorded == replayed {
        return;
    }
    let tasks = |document: &Value| document["tasks"].as_array().unwrap().clone();
    let (recorded_tasks, replayed_tasks) = (tasks(recorded), tasks(replayed));
    let other: Vec<_> = recorded_tasks
        .iter()
        .filter(|task| !replayed_tasks.contains(task))
        .collect();
    let others: Vec<_> = replayed_tasks
        .iter()
        .filter(|task| !recorded_tasks.contains(task))
        .collect();
    let ids = |tasks: &[Value]| {
        tasks
            .iter()
            .map(|task| format!("{} {}", task["id"], task["spent"]["input_tokens"]))
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&recorded_tasks), ids(&replayed_tasks));
    panic!(
        "recorded\n{}\n{other:#?}\nreplayed\n{}\n{others:#?}",
        recorded["spent"], replayed["spent"]
    );
}

/// How a run ended: `ok`, or the class, with the limit.
fn end(document: &Value) -> String {
    let failure = &document["outcome"]["failure"];
    match (failure["class"].as_str(), failure["limit"].as_str()) {
        (None, _) => "ok".into(),
        (Some(class), None) => class.into(),
        (Some(class), Some(limit)) => format!("{class}({limit})"),
    }
}

/// Answers anything that the example plugins ask for, some of it badly, after an unpredictable delay.
fn anything(request: &Request) -> Reply {
    let prompt = request.prompt();
    let plan = |name: &str| json!({"requirements": name, "files": ["a.rs"]});
    let answers = [
        ("Answer the question about", json!("an answer")),
        (
            "Write a document",
            json!({"title": "A robot", "text": "It lifts 20 kg."}),
        ),
        (
            "Mend the document",
            json!({"title": "A robot", "text": "It lifts 2 kg."}),
        ),
        ("Check the text against", json!({"issues": []})),
        (
            "Check how the text",
            json!({"issues": [
            {"fault": "off-voice", "passage": "It lifts 20 kg.", "problem": "p", "remedy": "r"}]}),
        ),
        ("Review the text", json!({"issues": []})),
        (
            "Writing this program failed. Restate",
            json!({"plan": plan("smaller"), "left-out": []}),
        ),
        (
            "Writing this program failed. Find",
            json!({"approaches": [
            {"name": "by hand", "plan": plan("by hand"), "trade-off": "slow"}]}),
        ),
        (
            "Writing this program failed. Say why",
            json!({"cause": "c", "right-problem": true, "better": null}),
        ),
        (
            "Writing a program failed. Decide",
            json!({"path": "simplify", "approach": null, "reason": "r"}),
        ),
    ];
    let found = answers.into_iter().find(|(start, _)| prompt.contains(start));
    let reply = match found {
        Some((_, Value::String(text))) => Reply::text(text),
        Some((_, answer)) => Reply::text(answer.to_string()),
        None if prompt.contains("Write a program that") && request.number == 0 => Reply::error(
            400,
            "invalid_request_error",
            "prompt is too long: 210000 tokens > 200000 maximum",
        ),
        None if prompt.contains("Write a program that") => {
            Reply::text(json!({"source": "fn main() {}", "notes": ""}).to_string())
        }
        None if prompt.contains("ticket") => Reply::text(
            json!({"labels": [{"number": 1, "reason": "r", "category": "bug", "priority": "low"}]}).to_string(),
        ),
        None if request.data("company").pop().as_deref() == Some("Globex") => Reply::text("no JSON at all"),
        None if !request.data("company").is_empty() => {
            Reply::text(json!({"summary": "s", "findings": [], "confidence": 0.5}).to_string())
        }
        None => Reply::text(json!({"summary": "compared", "aspects": []}).to_string()),
    };
    reply.after(Duration::from_millis(dice(7, request.number) % 60))
}

#[test]
fn every_example_replays_exactly() {
    let brief =
        json!({"subject": "A new robot", "audience": "engineers", "facts": ["It lifts 20 kg."], "voice": "plain"});
    let file = json!({"name": "a.rs", "text": "the text"});
    let job = json!({"language": "Rust", "requirements": "Parse everything.", "files": [file]});
    let companies = json!({"companies": ["Acme", "Globex", "Initech"], "questions": ["What is sold?", "To whom?"]});
    let ticket = |id: &str| json!({"id": id, "subject": "s", "text": "t"});
    for (name, input, requests) in [
        ("market-scan", companies, 11),
        ("publish", brief, 8),
        ("ship-code", job, 6),
        ("triage", json!([ticket("T-1"), ticket("T-2")]), 1),
    ] {
        let server = Server::start(anything);
        let machine = recording(&server.anthropic_config());
        let path = plugin(name).display().to_string();
        let (document, asked) = replays(machine, Some(server), &path, &input, &[]);
        assert_eq!((end(&document).as_str(), asked), ("ok", requests), "{name}: {document}");
    }
}

#[test]
fn every_plugin_replays_what_the_offline_provider_made_up() {
    let in_folder = |folder: &str| {
        let entries = std::fs::read_dir(workspace().join("plugins").join(folder)).unwrap();
        entries
            .map(|entry| entry.unwrap())
            // A plugin in another language is not a crate, and `std` is not a plugin.
            .filter(|entry| entry.path().join("Cargo.toml").is_file() && entry.file_name() != "std")
            .map(|entry| format!("{folder}{}", entry.file_name().into_string().unwrap()))
            .collect::<Vec<_>>()
    };
    let mut names = [in_folder(""), in_folder("std/")].concat();
    names.sort();
    assert!(names.len() >= 17, "{names:?}");
    for name in names {
        let path = plugin(&name).display().to_string();
        let machine = machine_for("");
        let hint = machine.run(["run", &path]);
        let input = hint.error(2).split("--input '").nth(1).unwrap();
        let input = serde_json::from_str(input.trim_end().trim_end_matches('\'')).unwrap();
        replays(machine, None, &path, &input, &[]);
    }
}

/// `joins` over leaves, or with `up` over itself.
fn plan(policy: &Value, prompts: &[String]) -> Value {
    let _ = guest("leaf");
    json!({"policy": policy, "prompts": prompts, "after": "after"})
}

/// Answers with one of three letters, after an unpredictable delay, and sometimes not.
fn racing(request: &Request) -> Reply {
    // Of the time of day, so that no two runs are alike.
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos() as usize;
    let random = dice(now as u64, request.number);
    let reply = match request.prompt().as_str() {
        "after" => Reply::text("after"),
        _ if random.is_multiple_of(7) => Reply::error(500, "api_error", "boom"),
        _ => Reply::text(["x", "y", "z"][random as usize % 3]).usage(random % 90, random % 40),
    };
    reply.after(Duration::from_millis(random / 64 % 40))
}

#[test]
fn thirty_racing_calls_replay_in_the_order_in_which_they_came() {
    let prompts: Vec<_> = (0..30).map(|n| format!("lane {n}")).collect();
    for policy in [
        json!("first"),
        json!({"quorum": 10}),
        json!("vote"),
        json!("settled"),
        json!("all"),
    ] {
        let server = Server::start(racing);
        let machine = recording(&server.config());
        replays(machine, Some(server), &guest("joins"), &plan(&policy, &prompts), &[]);
    }
    let prompts: Vec<_> = prompts.iter().map(String::as_str).collect();
    for n in 0..3 {
        let server = Server::start(racing);
        let machine = recording(&server.config());
        let (document, _) = replays(
            machine,
            Some(server),
            &guest("asks"),
            &questions(&prompts, "parallel"),
            &[],
        );
        assert_eq!(document["outcome"]["ok"].as_array().unwrap().len(), 30, "{n}");
    }
}

#[test]
fn the_loser_of_a_race_and_what_was_never_answered_replay() {
    let server = Server::start(|request| match request.prompt().as_str() {
        "slow" => Reply::stall(),
        other => Reply::text(other).after(Duration::from_millis(200)),
    });
    let machine = recording(&server.config());
    let race = json!({"one": "slow", "other": "fast", "after": "after"});
    let (document, _) = replays(machine, Some(server), &guest("races"), &race, &[]);
    assert_eq!(document["outcome"]["ok"]["winner"], "fast");
    assert_eq!(document["spent"]["calls"], 3);
}

#[test]
fn failures_replay_with_their_class_and_their_fuel() {
    let misbehaves = |behaviour: &str| (guest("misbehaves"), json!(behaviour));
    let starts = |first_only: bool| {
        let _ = guest("misbehaves");
        let behaviours = ["ok", "loop", "panic", "fail", "grow-memory", "wait", "ok"];
        let plan = json!({"behaviours": behaviours, "in-turn": false, "first-only": first_only});
        (guest("starts"), plan)
    };
    let asks = |prompts: &[&str], mode: &str| (guest("asks"), strict_questions(prompts, mode));
    let relay = |policy: &str| {
        let _ = (guest("joins"), guest("leaf"));
        let prompts = ["stall a", "stall b", "c"];
        (guest("relay"), json!({"policy": policy, "prompts": prompts}))
    };
    for ((path, input), flags, ended) in [
        (misbehaves("fail"), vec![], "failed"),
        (misbehaves("panic"), vec![], "trapped"),
        (misbehaves("exit"), vec![], "trapped"),
        (misbehaves("recurse"), vec![], "trapped"),
        (misbehaves("wait"), vec![], "trapped"),
        (misbehaves("large-output"), vec![], "exhausted(size)"),
        (misbehaves("grow-memory"), vec!["--memory", "4MiB"], "exhausted(memory)"),
        (misbehaves("loop"), vec!["--fuel", "123456789"], "exhausted(fuel)"),
        (
            misbehaves("loop"),
            vec!["--fuel", "none", "--timeout", "300ms"],
            "exhausted(time)",
        ),
        (misbehaves("print-forever"), vec!["--fuel", "50M"], "exhausted(fuel)"),
        (
            starts(false),
            vec!["--fuel", "300M", "--timeout", "20s"],
            "exhausted(fuel)",
        ),
        (starts(true), vec!["--fuel", "none", "--timeout", "20s"], "ok"),
        (
            asks(&["a", "b"], "sequential"),
            vec!["--tokens", "200"],
            "exhausted(tokens)",
        ),
        (
            asks(&["a", "b", "c"], "parallel"),
            vec!["--calls", "2"],
            "exhausted(calls)",
        ),
        (
            asks(&["a", "stall"], "parallel"),
            vec!["--timeout", "500ms"],
            "exhausted(time)",
        ),
        (asks(&["a", "bad"], "sequential"), vec![], "model"),
        (relay("settled"), vec!["--timeout", "700ms"], "exhausted(time)"),
        (relay("crash"), vec!["--timeout", "1500ms"], "exhausted(time)"),
        (relay("first"), vec![], "ok"),
        (relay("all"), vec!["--tasks", "2"], "ok"),
        (relay("all"), vec!["--depth", "1"], "ok"),
    ] {
        let server = Server::start(|request| match request.prompt().as_str() {
            stall if stall.starts_with("stall") => Reply::stall(),
            "bad" => Reply::error(500, "api_error", "boom"),
            _ => Reply::text("x").usage(70, 80),
        });
        let machine = recording(&server.config());
        let (document, _) = replays(machine, Some(server), &path, &input, &flags);
        assert_eq!(end(&document), ended, "{document}");
    }
}

#[test]
fn repairs_retries_and_the_next_of_a_chain_replay() {
    let dialect = Dialect::Anthropic;
    let label = |number: Value| {
        json!({"labels": [{"number": number, "reason": "r", "category": "bug", "priority": "low"}]}).to_string()
    };
    let ticket = json!([{"id": "T-1", "subject": "s", "text": "t"}]);
    let triage = plugin("triage").display().to_string();
    for (second, ended) in [(label(json!(1)), "ok"), (label(json!("no")), "model")] {
        let first = Reply::text(label(json!("first")));
        let server = Server::scripted([first, Reply::text(second)]);
        let (document, asked) = replays(recording(&server.config()), Some(server), &triage, &ticket, &[]);
        assert_eq!((end(&document).as_str(), asked), (ended, 2));
    }
    let busy = || Reply::failure(dialect, 529, "overloaded_error", None, "busy").header("retry-after", "0");
    let server = Server::scripted([busy(), busy(), Reply::text("x")]);
    let machine = recording(&server.config_of(dialect));
    let (_, asked) = replays(machine, Some(server), &guest("remaining"), &json!("hello"), &[]);
    assert_eq!(asked, 3);

    let (first, second) = (Server::scripted([busy()]), Server::scripted([Reply::text("x")]));
    let chain = format!(
        "[models]\nfast = [\"one/small\", \"two/small\"]\n\
         [providers.one]\nkind = \"openai\"\nretries = 0\nbase-url = \"{}\"\n\
         [providers.two]\nkind = \"openai\"\nbase-url = \"{}\"\n",
        first.url(),
        second.url()
    );
    let (document, asked) = replays(
        recording(&chain),
        Some(second),
        &guest("remaining"),
        &json!("hello"),
        &[],
    );
    assert_eq!(
        (asked, &document["tasks"][0]["models"]),
        (1, &json!(["one/small", "two/small"]))
    );
}

#[test]
fn what_is_left_is_told_as_it_was() {
    let server = Server::scripted([Reply::text("x").usage(70, 80).after(Duration::from_millis(300))]);
    let machine = recording(&server.config());
    let flags = ["--tokens", "1000", "--timeout", "60s", "--fuel", "1G"];
    let (document, _) = replays(machine, Some(server), &guest("remaining"), &json!("hello"), &flags);
    let left = &document["outcome"]["ok"];
    let time = |when: &str| left[when]["time-ms"].as_u64().unwrap();
    assert!(time("before") - time("after") >= 300, "{left}");
}

#[test]
fn equal_requests_keep_their_own_replies() {
    // The first to ask is the last to be answered.
    let server = Server::start(|request| {
        let late = 50 * (5 - request.number as u64);
        Reply::text(format!("reply {}", request.number)).after(Duration::from_millis(late))
    });
    let machine = recording(&server.config());
    let (document, _) = replays(
        machine,
        Some(server),
        &guest("asks"),
        &questions(&["same"; 5], "parallel"),
        &[],
    );
    let answers = document["outcome"]["ok"].as_array().unwrap();
    let texts: std::collections::BTreeSet<_> = answers.iter().map(|answer| answer["text"].as_str().unwrap()).collect();
    assert_eq!(texts.len(), 5, "{document}");
}

/// A long request is noted apart from the threads that tasks run on, in the order in which it was made.
#[test]
fn long_requests_replay_beside_short_ones() {
    let server = Server::start(|request| Reply::text(format!("{} bytes", request.prompt().len())));
    let long = "aaa".repeat(23_000);
    let (document, asked) = replays(
        recording(&server.config()),
        Some(server),
        &guest("asks"),
        &questions(&["b", &long, "c", "d"], "parallel"),
        &["--tokens", "none"],
    );
    assert_eq!(asked, 4);
    assert_eq!(end(&document), "ok");
}

/// The first 16 bytes of a body's digest, which are stored beside it.
fn sum(body: &str) -> Vec<u8> {
    Sha256::digest(body)[..16].to_vec()
}

/// A recorded run of `asks`, its prompts asked one after the other, each the answer to itself.
fn recorded() -> TestEnv {
    let server = Server::start(|request| Reply::text(format!("re: {}", request.prompt())));
    let machine = recording(&server.config());
    machine
        .run(run_json(
            &guest("asks"),
            &questions(&["one", "two", "three"], "sequential"),
            &[],
        ))
        .json(0);
    machine
}

#[test]
fn one_changed_byte_of_a_reply_is_caught() {
    let (machine, output) = again(recorded());
    output.json(0);
    let journal = journal(&machine);
    let (no, reply): (i64, String) = journal
        .query_row(
            "SELECT no, result FROM ask_result JOIN ask ON no = ask_result.ask WHERE number = 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    let changed = reply.replace("re: two", "re: twO");
    assert_ne!(reply, changed);
    let write = |body: &str, sum: &[u8]| {
        let sql = "UPDATE ask_result SET result = ?1, result_sum = ?2 WHERE ask = ?3";
        assert_eq!(journal.execute(sql, (body, sum, no)).unwrap(), 1);
    };
    // Damage is found by the digest beside it.
    write(&changed, &sum(&reply));
    let (machine, output) = again(machine);
    assert_eq!(output.code, 70, "{output}");
    let said = format!("{output}");
    assert!(
        said.contains("the journal was changed or damaged") && said.contains("task `root`") && said.contains("ask 1"),
        "{said}"
    );
    // One who knows to write the digest, too, changes what the task comes to.
    write(&changed, &sum(&changed));
    let (machine, output) = again(machine);
    assert_eq!(output.code, 1, "{output}");
    assert!(
        output
            .stderr
            .contains("differs: root: the outcome differs: at /ok/1/text: "),
        "{output}"
    );
    assert!(
        output.stderr.contains("\"re: two\" was recorded, now \"re: twO\""),
        "{output}"
    );
    write(&reply, &sum(&reply));
    again(machine).1.json(0);
}

#[test]
fn a_changed_reply_that_leads_to_another_request_is_named_with_its_call() {
    let server = Server::start(anything);
    let machine = recording(&server.config());
    let companies = json!({"companies": ["Acme"], "questions": ["What is sold?"]});
    machine
        .run(run_json(&plugin("market-scan").display().to_string(), &companies, &[]))
        .json(0);
    let journal = journal(&machine);
    let (no, reply): (i64, String) = journal
        .query_row(
            "SELECT ask.no, result FROM ask_result JOIN ask ON ask.no = ask_result.ask JOIN task ON task.no = ask.task
             WHERE number = 1 AND id = 'root/0'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    let changed = reply.replace("an answer", "an ansWer");
    assert_ne!(reply, changed);
    journal
        .execute(
            "UPDATE ask_result SET result = ?1, result_sum = ?2 WHERE ask = ?3",
            (&changed, sum(&changed), no),
        )
        .unwrap();
    let (_, output) = again(machine);
    assert_eq!(output.code, 1, "{output}");
    assert!(
        output
            .stderr
            .contains("differs: root/0, ask 2: the request differs: at /"),
        "{output}"
    );
    assert!(output.stderr.contains("an ansWer"), "{output}");
}

/// A run of one of two plugins that lie at the same path one after the other.
#[test]
fn another_plugin_is_refused_unless_it_is_asked_for() {
    let server = Server::scripted([Reply::text("x")]);
    let machine = recording(&server.config());
    let path = machine.write("plugin.wasm", std::fs::read(guest("leaf")).unwrap());
    let path = path.display().to_string();
    machine.run(run_json(&path, &json!("hello"), &[])).json(0);
    // The same component with one more, meaningless section.
    let mut bytes = std::fs::read(guest("leaf")).unwrap();
    bytes.extend([0, 5, 3, b'n', b'e', b'w', 0]);
    machine.write("plugin.wasm", &bytes);
    let refused = machine.run(["replay", "last"]);
    let said = refused.error(2);
    assert!(
        said.contains("not the plugin that run ") && said.contains("guests:leaf@0.1.0"),
        "{said}"
    );
    assert!(said.contains("--changed-plugins"), "{said}");
    machine.run(["resume", "last"]).json(0);
    let differs = machine.run(["replay", "last", "--changed-plugins"]);
    assert_eq!(differs.code, 1, "{differs}");
    assert!(
        differs
            .stderr
            .contains("differs: root: guests:leaf@0.1.0 is not the plugin that was recorded"),
        "{differs}"
    );

    // One that asks in other words: what it asks first is shown.
    machine.write("plugin.wasm", std::fs::read(guest("echo")).unwrap());
    let differs = machine.run(["replay", "last", "--changed-plugins"]);
    assert_ne!(differs.code, 0, "{differs}");
    assert_eq!(server.count(), 1, "and nobody is asked");
}

#[test]
fn a_run_that_was_cut_off_has_nothing_to_replay() {
    let server = Server::scripted([Reply::stall()]);
    let machine = recording(&server.config());
    let running = machine.start(run_json(&guest("leaf"), &json!("hello"), &[]), None);
    server.wait_until("a call", |seen| seen.len() == 1);
    running.kill();
    let refused = machine.run(["replay", "last"]);
    assert!(refused.error(2).contains("agenthost resume "), "{refused}");
}
