//! The allowance of a day or month from outside: all processes of a user share it, a run that it stops can be resumed, and
//! its books are never taken for empty.

use std::time::{Duration, Instant};

use agenthost_tests::env::{Output, TestEnv};
use agenthost_tests::server::{Gate, Reply, Request, Server, config};
use serde_json::{Value, json};

use crate::{guest, machine, machine_for, questions, strict_questions};

const OWN: &str = "../config/agenthost/config.toml";
const PRICES: &str =
    "[prices.\"local/small\"]\ninput = 10\noutput = 20\n[prices.\"local/large\"]\ninput = 10\noutput = 20\n";

/// Repeats its prompt, for 60 tokens.
fn echo(request: &Request) -> Reply {
    Reply::text(request.prompt()).usage(40, 20)
}

/// A machine with a project whose models are at `server`.
fn machine_at(server: &Server) -> TestEnv {
    machine_for(&format!("{}{PRICES}", server.config()))
}

fn allow(machine: &TestEnv, setting: &str) {
    machine.write(OWN, format!("[allowance]\n{setting}\n"));
}

/// The entries of `allowance` in the list of runs.
fn used(machine: &TestEnv) -> Vec<Value> {
    let document = machine.run(["runs", "--json"]).json(0);
    document["allowance"].as_array().cloned().unwrap_or_default()
}

fn asked(machine: &TestEnv, input: &Value) -> Output {
    machine.run(["run", &guest("asks"), "--input", &input.to_string()])
}

fn eight() -> Value {
    strict_questions(&["1", "2", "3", "4", "5", "6", "7", "8"], "sequential")
}

#[test]
fn a_run_that_an_allowance_stops_is_resumed_once_there_is_more() {
    for (setting, more, project) in [
        ("tokens-per-day = 300", "tokens-per-day = 600", false),
        ("cost-per-day = \"$0.006\"", "cost-per-day = \"$0.02\"", true),
        ("tokens-per-month = 300", "tokens-per-month = \"1k\"", true),
        ("cost-per-month = \"$0.006\"", "cost-per-month = \"$1\"", false),
    ] {
        let server = Server::start(echo);
        let machine = machine_at(&server);
        let models = format!("{}{PRICES}", server.config());
        let allow = |setting: &str| match project {
            true => machine.write("agenthost.toml", format!("{models}[allowance]\n{setting}\n")),
            false => machine.write(OWN, format!("[allowance]\n{setting}\n")),
        };
        let file = allow(setting);
        let key = setting.split(' ').next().unwrap();
        let stopped = asked(&machine, &eight());
        assert_eq!(stopped.code, 3, "{stopped}");
        let sent = server.count();
        assert!((1..8).contains(&sent), "{sent} of 8: {stopped}");
        let whose = if project { "the project's" } else { "your" };
        let until = if key.ends_with("month") {
            "-01 00:00 UTC"
        } else {
            " 00:00 UTC"
        };
        for part in [
            format!("(limit of {whose} allowance `{key}`: "),
            format!("raise `{key}` under [allowance] in "),
            file.file_name().unwrap().to_string_lossy().into_owned(),
            "or wait until 2".to_owned(),
            until.to_owned(),
            "then run `agenthost resume ".to_owned(),
        ] {
            assert!(stopped.stderr.contains(&part), "{part}: {stopped}");
        }

        // A replay needs nothing of it, and comes to the same end.
        let replayed = machine.run(["replay", "last"]);
        assert_eq!((replayed.code, server.count()), (3, sent), "{replayed}");
        assert!(
            replayed.stderr.contains("the replay is what was recorded"),
            "{replayed}"
        );

        let still = machine.run(["resume", "last"]);
        assert_eq!((still.code, server.count()), (3, sent), "{still}");
        allow(more);
        let rest = machine.run(["resume", "last"]);
        assert_eq!(
            (rest.code, server.count()),
            (0, 8),
            "each call is paid for once: {rest}"
        );
        let status = &used(&machine)[0];
        let all = if key.starts_with("cost") {
            json!("0.0064")
        } else {
            json!(480)
        };
        let shown = status["used"].to_string().replace('"', "");
        assert_eq!((&status["key"], status["project"] == true), (&json!(key), project));
        assert_eq!(shown, all.to_string().replace('"', ""), "{status}");
    }
}

#[test]
fn a_project_lowers_the_allowance_and_never_raises_it() {
    let server = Server::start(echo);
    let machine = machine_at(&server);
    allow(&machine, "tokens-per-day = 300");
    let models = format!("{}{PRICES}", server.config());
    machine.write(
        "agenthost.toml",
        format!("{models}[allowance]\ntokens-per-day = \"1M\"\n"),
    );
    let stopped = asked(&machine, &eight());
    assert_eq!(stopped.code, 3, "{stopped}");
    assert!(
        stopped.stderr.contains("your allowance `tokens-per-day`: 300 tokens"),
        "{stopped}"
    );
    // Another project of the same user has the rest of it, and its own.
    machine.write(
        "other/agenthost.toml",
        format!("{models}[allowance]\ntokens-per-day = 200\n"),
    );
    allow(&machine, "tokens-per-day = \"1M\"");
    let other = machine.cwd().join("other/agenthost.toml").display().to_string();
    let input = eight().to_string();
    let stopped = machine.run(["run", &guest("asks"), "--input", &input, "--config", &other]);
    assert_eq!(stopped.code, 3, "{stopped}");
    assert!(
        stopped
            .stderr
            .contains("the project's allowance `tokens-per-day`: 200 tokens"),
        "{stopped}"
    );
    let document = machine.run(["runs", "--json", "--config", &other]).json(0);
    let shown: Vec<_> = document["allowance"].as_array().unwrap().iter().collect();
    let sum = 60 * server.count() as u64;
    assert_eq!((&shown[0]["project"], &shown[0]["used"]), (&json!(false), &json!(sum)));
    assert_eq!(
        (&shown[1]["project"], shown[1]["used"].as_u64() < Some(sum)),
        (&json!(true), true)
    );
}

#[test]
fn two_processes_at_once_do_not_pass_it_together() {
    let server = Server::start(|request| echo(request).after(Duration::from_millis(20)));
    let machine = machine_at(&server);
    allow(&machine, "tokens-per-day = 2000");
    machine.write("items.jsonl", "\"say it\"\n".repeat(40));
    let leaf = guest("leaf");
    let start = |output: &str| machine.start(["batch", &leaf, "items.jsonl", "--workers", "8", "-o", output], None);
    let both = [start("one.jsonl"), start("two.jsonl")];
    let both = both.map(|running| running.finish());
    let (input, output) = server.counted();
    assert!((1_000..=2_000).contains(&(input + output)), "{input} + {output}");
    for stopped in &both {
        assert_eq!(stopped.code, 3, "{stopped}");
        for part in [
            " not started",
            "because your allowance `tokens-per-day` is used up",
            "raise `tokens-per-day` under [allowance] in ",
            "then run the rest with `agenthost resume ",
        ] {
            assert!(stopped.stderr.contains(part), "{part}: {stopped}");
        }
        assert!(!stopped.stderr.contains(" failed"), "nothing failed: {stopped}");
    }
    allow(&machine, "tokens-per-day = \"1M\"");
    let runs = machine.run(["runs", "--json"]).json(0);
    for run in runs["runs"].as_array().unwrap() {
        let rest = machine.run(["resume", run["id"].as_str().unwrap()]);
        assert_eq!(rest.code, 0, "{rest}");
    }
    assert_eq!(server.count(), 80, "every item is paid for once");
    assert_eq!(used(&machine)[0]["used"], 80 * 60);
}

#[test]
fn a_killed_process_leaves_only_what_it_had_sent() {
    let gate = Gate::default();
    let held = gate.clone();
    let server = Server::start(move |request| echo(request).held(&held));
    let one = "initial-concurrency = 1\nmax-concurrency = 1\nretries = 0\n";
    let machine = machine_for(&config("openai", &server.url(), one));
    allow(&machine, "tokens-per-day = 100_000");
    let input = questions(&["1", "2", "3", "4", "5"], "parallel").to_string();
    let running = machine.start(["run", &guest("asks"), "--input", &input], None);
    server.wait_until("one request", |seen| seen.len() == 1);
    let amount = || used(&machine)[0]["used"].as_u64().unwrap();
    let begun = Instant::now();
    while amount() < 500 {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "five calls are reserved: {}",
            amount()
        );
    }
    running.kill();
    let left = amount();
    assert!((100..200).contains(&left), "one request was sent: {left}");
    gate.open();
    let resumed = machine.run(["resume", "last"]);
    assert_eq!(resumed.code, 0, "{resumed}");
    assert_eq!(amount(), left + 5 * 60, "the lost request stays counted");
}

#[test]
fn a_book_that_cannot_be_read_or_locked_stops_every_run_and_no_replay() {
    let server = Server::start(echo);
    let machine = machine_at(&server);
    allow(&machine, "cost-per-day = \"$1\"");
    assert_eq!(asked(&machine, &eight()).code, 0);
    let book = machine.cwd().join("../state/agenthost/allowance/user.json");
    let before = std::fs::read(&book).unwrap();
    for damaged in ["", "{\"format\": 1", "{\"format\": 9}", "[]"] {
        std::fs::write(&book, damaged).unwrap();
        let refused = asked(&machine, &eight());
        let said = refused.error(70);
        assert!(said.contains("user.json is damaged"), "{said}");
        assert!(said.contains("hint: Bring the file back from a copy."), "{said}");
        let runs = machine.run(["runs"]);
        assert_eq!(runs.code, 70, "{runs}");
        assert!(runs.stdout.contains("guests:asks"), "{runs}");
        assert!(runs.stderr.contains("user.json is damaged"), "{runs}");
        assert!(machine.run(["doctor"]).stdout.contains("user.json is damaged"));
        assert_eq!(machine.run(["replay", "last"]).code, 0);
    }
    std::fs::write(&book, before).unwrap();
    let lock = std::fs::File::open(book.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let refused = asked(&machine, &eight());
    let said = refused.error(70);
    assert!(said.contains("user.lock locked for more than 5 s"), "{said}");
    assert!(said.contains("End that process"), "{said}");
    assert_eq!(server.count(), 8, "no request was sent without being counted");
    lock.unlock().unwrap();
    let resumed = machine.run(["resume", "last"]);
    assert_eq!((resumed.code, server.count()), (0, 16), "{resumed}");
}

#[test]
fn a_book_that_is_locked_ends_a_run_whatever_its_tasks_do_with_errors() {
    let server = Server::start(echo);
    let machine = machine_at(&server);
    allow(&machine, "tokens-per-day = 100_000");
    assert_eq!(asked(&machine, &questions(&["0"], "sequential")).code, 0);
    let book = machine.cwd().join("../state/agenthost/allowance/user.lock");
    let lock = std::fs::File::open(book).unwrap();
    lock.lock().unwrap();
    // The guest returns the errors of its calls in its output.
    let all = questions(&["1", "2", "3", "4", "5", "6", "7", "8"], "parallel");
    let stopped = asked(&machine, &all);
    let said = stopped.error(70);
    assert!(said.contains("user.lock locked for more than 5 s"), "{said}");
    assert!(said.contains("hint: End that process"), "{said}");
    assert!(!said.contains("-vv"), "{said}");
    let document = machine.run(["run", &guest("asks"), "--input", &all.to_string(), "--json"]);
    let document = document.json(70);
    assert_eq!(document["tasks"][0]["outcome"]["failure"]["class"], "cancelled");
    assert_eq!(document["outcome"]["failure"]["class"], "host");
    assert!(
        document["hint"].as_str().unwrap().starts_with("End that process"),
        "{document}"
    );
    assert_eq!(server.count(), 1);
    let replayed = machine.run(["replay", "last"]);
    assert!(
        replayed.stderr.contains("the replay is what was recorded"),
        "{replayed}"
    );
    lock.unlock().unwrap();
    let resumed = machine.run(["resume", "last"]);
    assert_eq!((resumed.code, server.count()), (0, 9), "{resumed}");
    assert!(!resumed.stdout.contains("allowance"), "{resumed}");
}

#[test]
fn a_book_that_is_locked_stops_a_batch_and_fails_no_item() {
    let server = Server::start(echo);
    let machine = machine_at(&server);
    allow(&machine, "tokens-per-day = 100_000");
    assert_eq!(asked(&machine, &questions(&["0"], "sequential")).code, 0);
    let book = machine.cwd().join("../state/agenthost/allowance/user.lock");
    let lock = std::fs::File::open(book).unwrap();
    lock.lock().unwrap();
    machine.write("items.jsonl", "\"say it\"\n".repeat(20));
    let batch = [
        "batch",
        &guest("leaf"),
        "items.jsonl",
        "--workers",
        "4",
        "-o",
        "out.jsonl",
    ];
    let stopped = machine.run(batch);
    let said = stopped.error(70);
    assert!(said.contains("user.lock locked for more than 5 s"), "{said}");
    assert!(said.contains("hint: End that process"), "{said}");
    assert!(!said.contains(" failed"), "no item failed: {said}");
    let lines = std::fs::read_to_string(machine.cwd().join("out.jsonl")).unwrap();
    assert_eq!(lines, "", "no item has an outcome of its own");
    let started = "20 items: 0 ok, 4 cut off, 16 not started";
    assert!(stopped.stderr.contains(started), "nothing more was started: {stopped}");
    lock.unlock().unwrap();
    let resumed = machine.run(["resume", "last"]);
    assert_eq!((resumed.code, server.count()), (0, 21), "{resumed}");
}

#[test]
fn a_request_that_waited_for_a_renewal_may_use_all_that_it_asked_for() {
    let server = Server::start(echo);
    let machine = machine_at(&server);
    allow(&machine, "tokens-per-day = 2_000");
    assert_eq!(asked(&machine, &questions(&["0"], "sequential")).code, 0);
    // As if requests of this process, which is alive, had all of the day in flight but for a few tokens.
    let path = machine.cwd().join("../state/agenthost/allowance/user.json");
    let empty = std::fs::read_to_string(&path).unwrap();
    let mut book: Value = serde_json::from_str(&empty).unwrap();
    let sum = |tokens: u64| json!({"tokens": tokens, "cost": 0});
    (book["day"], book["month"]) = (sum(2_000), sum(2_000));
    book["holders"] = json!([{"pid": std::process::id(), "start": null, "number": 7, "date": book["date"],
        "unsent": sum(0), "sent": sum(400)}]);
    std::fs::write(&path, book.to_string()).unwrap();
    let mut input = questions(&["1"], "sequential");
    input["max-tokens"] = json!(1_000);
    let running = machine.start(["run", &guest("asks"), "--input", &input.to_string()], None);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(server.count(), 1, "it waits");
    std::fs::write(&path, empty).unwrap();
    let done = running.finish();
    assert_eq!(done.code, 0, "{done}");
    assert_eq!(server.ended()[1].max_tokens(), Some(1_000), "{done}");
}

#[test]
fn made_up_answers_cost_nothing_of_it() {
    let machine = machine();
    allow(&machine, "tokens-per-day = 1\ncost-per-month = \"$0.01\"");
    let done = machine.run(["run", &guest("leaf"), "--input", "\"a color\""]);
    assert_eq!(done.code, 0, "{done}");
    let shown: Vec<_> = used(&machine)
        .iter()
        .map(|status| format!("{}: {}", status["key"], status["used"]))
        .collect();
    assert_eq!(shown.len(), 2);
    assert!(shown[0].ends_with("tokens-per-day\": 0"), "{shown:?}");
    let doctor = machine.run(["doctor"]);
    assert!(doctor.stdout.contains("allowance tokens-per-day"), "{doctor}");
    assert!(
        doctor.stdout.contains("0 of 1 used by all your runs, renewed at 2"),
        "{doctor}"
    );
    let runs = machine.run(["runs"]);
    assert!(
        runs.stderr.contains("allowance cost-per-month: $0.00 of $0.01 used"),
        "{runs}"
    );
}
