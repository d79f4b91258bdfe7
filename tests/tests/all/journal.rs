//! A journal that cannot be made, read or written: an error with its cure, and nothing lost that was in it.

use agenthost_tests::env::{Output, TestEnv};
use agenthost_tests::server::{Reply, Server};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::{guest, machine_for, run_json};

/// The run under test; `more` are flags.
fn hello(machine: &TestEnv, more: &[&str]) -> Output {
    machine.run(run_json(&guest("leaf"), &json!("hello"), more))
}

/// An error from before the run, in the document that `--json` prints.
#[track_caller]
fn refused(output: &Output, code: i32) -> String {
    let document = output.json(code);
    let error = &document["error"];
    let hint = error["hint"].as_str().unwrap_or_else(|| panic!("no hint: {output}"));
    format!("{}\n{hint}", error["message"].as_str().unwrap())
}

fn runs(machine: &TestEnv) -> usize {
    machine.run(["runs", "--json"]).json(0)["runs"]
        .as_array()
        .unwrap()
        .len()
}

#[test]
fn a_journal_that_cannot_be_made_or_read_stops_the_run_before_it_costs_anything() {
    let server = Server::scripted([Reply::text("x")]);
    let machine = machine_for(&server.config());
    machine.write("file", "no directory");
    machine.write("garbage.db", "no journal at all ".repeat(1_000));
    machine.write("empty.db", "");
    let other = Connection::open(machine.cwd().join("other.db")).unwrap();
    other.execute_batch("CREATE TABLE own (n INTEGER);").unwrap();
    std::fs::create_dir(machine.cwd().join("directory.db")).unwrap();
    for (journal, said) in [
        ("file/journal.db", "the journal cannot be reached"),
        ("/proc/journal.db", "cannot create the journal"),
        ("directory.db", "not a regular file"),
        ("garbage.db", "this is not a journal"),
        ("empty.db", "the journal is empty"),
        ("other.db", "this is an SQLite file, but not a journal"),
    ] {
        let before = std::fs::read(machine.cwd().join(journal)).ok();
        for args in [
            run_json(&guest("leaf"), &json!("hello"), &["--journal", journal]),
            ["resume", "last", "--json", "--journal", journal]
                .map(str::to_owned)
                .into(),
        ] {
            let output = machine.run(&args);
            if journal.starts_with("/proc") && args[0] == "resume" {
                // It is not there.
                refused(&output, 2);
                continue;
            }
            let error = refused(&output, 70);
            assert!(error.contains(said) && error.contains(journal), "{error}");
        }
        assert_eq!(
            std::fs::read(machine.cwd().join(journal)).ok(),
            before,
            "{journal} is left as it was"
        );
    }
    assert_eq!(server.count(), 0);
    let hint = refused(&hello(&machine, &["--journal", "file/journal.db"]), 70);
    assert!(hint.contains("enabled = false"), "{hint}");
}

#[test]
fn a_journal_of_a_newer_version_is_refused_and_left_alone() {
    let server = Server::scripted([Reply::text("x")]);
    let machine = machine_for(&server.config());
    hello(&machine, &[]).json(0);
    let journal = || Connection::open(machine.cwd().join(".agenthost/journal.db")).unwrap();
    let format: u32 = journal()
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    journal().pragma_update(None, "user_version", format + 1).unwrap();
    for output in [
        hello(&machine, &[]),
        machine.run(["runs", "--json"]),
        machine.run(["resume", "last", "--json"]),
        machine.run(["replay", "last", "--json"]),
    ] {
        let said = refused(&output, 70);
        assert!(
            said.contains(&format!("the journal has format {}", format + 1)),
            "{said}"
        );
        assert!(said.contains("Use the version of agenthost that wrote it"), "{said}");
    }
    assert_eq!(server.count(), 1);
    journal().pragma_update(None, "user_version", format).unwrap();
    assert_eq!(runs(&machine), 1);
    machine.run(["replay", "last", "--json"]).json(0);
}

#[test]
fn a_damaged_page_is_an_error_and_not_an_answer() {
    let server = Server::scripted([Reply::text("x")]);
    let machine = machine_for(&server.config());
    hello(&machine, &[]).json(0);
    let path = machine.cwd().join(".agenthost/journal.db");
    Connection::open(&path)
        .unwrap()
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE);")
        .unwrap();
    let whole = std::fs::read(&path).unwrap();
    let mut caught = 0;
    for page in 1..whole.len() / 4_096 {
        let mut damaged = whole.clone();
        damaged[page * 4_096..(page + 1) * 4_096].fill(0xa5);
        machine.write(".agenthost/journal.db", &damaged);
        let output = machine.run(["replay", "last", "--json"]);
        match output.code {
            // A page that a replay does not read.
            0 => assert_eq!(output.json(0)["outcome"]["ok"], "x"),
            _ => {
                caught += 1;
                let document = output.json(70);
                assert!(!output.stderr.contains("panicked"), "{output}");
                let text = document.to_string();
                assert!(text.contains("journal"), "{output}");
            }
        }
        machine.write(".agenthost/journal.db", &whole);
    }
    assert!(caught >= 3, "{caught} of {} pages", whole.len() / 4_096);
    machine.run(["replay", "last", "--json"]).json(0);
}

/// No root is needed to run out of room: what a process may write into one file is limited.
#[test]
fn a_journal_without_room_stops_the_run_and_keeps_what_it_has() {
    let long = "long ".repeat(2_000);
    let server = Server::start(move |request| Reply::text(format!("{} {long}", request.prompt())));
    let machine = machine_for(&server.config());
    hello(&machine, &[]).json(0);
    let prompts: Vec<_> = (0..200).map(|n| format!("say {n}")).collect();
    let input = json!({"prompts": prompts, "mode": "sequential", "strict": true, "max-tokens": 20}).to_string();
    let asks = guest("asks");
    let run = ["run", &asks, "--input", &input, "--json", "--calls", "1000"];
    let output = machine.run_with_file_limit(400, run);
    let document = output.json(70);
    let failure = &document["outcome"]["failure"];
    assert_eq!(failure["class"], "host", "{failure}");
    assert!(failure["message"].as_str().unwrap().contains("journal.db"), "{failure}");
    let paid = server.count();
    assert!(paid < 150, "it stops: {paid}");

    // With room again, it continues from there.
    let document = machine.run(["resume", "last", "--json"]).json(0);
    assert_eq!(document["outcome"]["ok"].as_array().unwrap().len(), 200);
    assert!((201..=203).contains(&server.count()), "{}", server.count());
    assert_eq!(runs(&machine), 2);
}

#[test]
fn without_a_journal_a_run_runs_and_leaves_nothing() {
    let server = Server::scripted([Reply::text("x")]);
    let machine = machine_for(&format!("{}[journal]\nenabled = false\n", server.config()));
    assert_eq!(hello(&machine, &[]).json(0)["outcome"]["ok"], "x");
    machine.write("items.jsonl", "\"a\"\n\"b\"\n");
    assert_eq!(machine.run(["batch", &guest("leaf"), "items.jsonl"]).code, 0);
    assert!(!machine.cwd().join(".agenthost").exists());
    let resumed = machine.run(["resume", "last"]);
    assert!(
        resumed.error(2).contains("the journal is switched off in [journal]"),
        "{resumed}"
    );
}

/// Everything that is asked and answered, in the text of the file and its log.
fn stands_in_the_journal(machine: &TestEnv, words: &str) -> bool {
    ["journal.db", "journal.db-wal"].iter().any(|name| {
        let bytes = std::fs::read(machine.cwd().join(".agenthost").join(name)).unwrap_or_default();
        bytes.windows(words.len()).any(|window| window == words.as_bytes())
    })
}

#[test]
fn replies_alone_are_enough_to_resume_and_to_replay() {
    let server = Server::start(|request| match request.number {
        3 => Reply::stall(),
        _ => Reply::text(format!("re: {}", request.prompt())),
    });
    let machine = machine_for(&format!("{}[journal]\nbodies = \"replies\"\n", server.config()));
    let prompts: Vec<_> = (0..6).map(|n| format!("say {n}")).collect();
    let input = json!({"prompts": prompts, "mode": "sequential"});
    let running = machine.start(run_json(&guest("asks"), &input, &[]), None);
    server.wait_until("the fourth request", |seen| seen.len() == 4);
    running.kill();
    let document = machine.run(["resume", "last", "--json"]).json(0);
    assert_eq!(document["outcome"]["ok"][5]["text"], "re: say 5");
    assert_eq!(server.count(), 7, "three, one that was cut off, and three");
    let replayed = machine.run(["replay", "last", "--json"]).json(0);
    assert_eq!(crate::essence(&replayed), crate::essence(&document));
    assert_eq!(server.count(), 7);
}

#[test]
fn without_bodies_nothing_is_kept_and_nothing_resumed() {
    let server = Server::start(|request| Reply::text(format!("canary-reply to {}", request.prompt())));
    let config = |bodies: &str| format!("{}[journal]\nbodies = \"{bodies}\"\n", server.config());
    let machine = machine_for(&config("none"));
    let input = json!("canary-input");
    machine.run(run_json(&guest("leaf"), &input, &[])).json(0);
    for words in ["canary-reply", "canary-input"] {
        assert!(!stands_in_the_journal(&machine, words), "{words}");
    }
    let refused = machine.run(["replay", "last"]);
    assert!(refused.error(2).contains("does not hold"), "{refused}");
    let server_stalls = Server::scripted([Reply::stall()]);
    let machine = machine.config(&format!("{}[journal]\nbodies = \"none\"\n", server_stalls.config()));
    let running = machine.start(run_json(&guest("leaf"), &input, &[]), None);
    server_stalls.wait_until("a request", |seen| seen.len() == 1);
    running.kill();
    let refused = machine.run(["resume", "last"]);
    let said = refused.error(2);
    assert!(
        said.contains("the journal does not hold the input") && said.contains("`bodies`"),
        "{said}"
    );

    let machine = machine.config(&config("all"));
    machine
        .run(run_json(&guest("leaf"), &Value::from("canary-all"), &[]))
        .json(0);
    assert!(
        stands_in_the_journal(&machine, "canary-all"),
        "the search finds what is there"
    );
}

#[test]
fn a_run_that_writes_too_much_ends_and_goes_on_under_a_higher_bound() {
    let server = Server::start(|request| Reply::text(format!("re: {}", request.prompt().len())));
    let config = |most: &str| format!("{}[journal]\nmax-run-bytes = \"{most}\"\n", server.config());
    let machine = machine_for(&config("40KiB"));
    let prompts: Vec<_> = (0..8).map(|n| n.to_string().repeat(10_000)).collect();
    let input = json!({"prompts": prompts, "mode": "sequential"});
    // The input alone is larger.
    let document = machine.run(run_json(&guest("asks"), &input, &[])).json(3);
    assert_eq!(document["outcome"]["failure"]["limit"], "size", "{document}");
    assert_eq!(server.count(), 0);

    let machine = machine.config(&config("120KiB"));
    let document = machine.run(run_json(&guest("asks"), &input, &[])).json(3);
    let failure = &document["outcome"]["failure"];
    assert_eq!(failure["class"], "exhausted");
    let message = failure["message"].as_str().unwrap();
    assert!(
        message.starts_with("the run's journal reached its limit of 120"),
        "{message}"
    );
    assert!(message.contains("`max-run-bytes` in [journal]"), "{message}");
    let made = server.count();
    assert!((1..8).contains(&made), "{made}");
    let replayed = machine.run(["replay", "last", "--json"]).json(3);
    assert_eq!(replayed["differences"], json!([]), "{replayed}");

    // Earlier writes count when the run continues, too.
    machine.run(["resume", "last", "--json"]).json(3);
    let made = server.count();
    let machine = machine.config(&config("1MiB"));
    let document = machine.run(["resume", "last", "--json"]).json(0);
    assert_eq!(document["outcome"]["ok"][7]["text"], "re: 10000");
    assert!(
        server.count() <= 9,
        "at most one was cut off on its way: {made}, {}",
        server.count()
    );
}

#[test]
fn the_long_body_of_a_call_that_is_refused_at_once_is_not_kept() {
    let server = Server::start(|_| Reply::text("x"));
    let machine = machine_for(&server.config());
    for (model, flags) in [("nope", &[][..]), ("fast", &["--calls", "0"])] {
        let words = "word ".repeat(4_000);
        let input = json!({"prompts": [words], "mode": "sequential", "model": model});
        let bodies = |machine: &TestEnv| -> i64 {
            let journal = Connection::open(machine.cwd().join(".agenthost/journal.db")).unwrap();
            journal
                .query_row("SELECT count(*) FROM ask WHERE request IS NOT NULL", [], |row| {
                    row.get(0)
                })
                .unwrap()
        };
        machine.run(run_json(&guest("asks"), &input, flags)).json(0);
        assert_eq!(bodies(&machine), 0, "{model}");
        assert_eq!(
            machine.run(["replay", "last", "--json"]).json(0)["differences"],
            json!([])
        );
    }
    assert_eq!(server.count(), 0);
}
