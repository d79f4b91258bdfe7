//! `resume --ask-again`: one task asks its model anew, with what depends on it; everything else keeps its paid replies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use agenthost_tests::env::TestEnv;
use agenthost_tests::guests::plugin;
use agenthost_tests::server::{Gate, Reply, Request, Server};
use serde_json::{Value, json};

use crate::{guest, machine_for, strict_questions};

const PRICES: &str =
    "[prices.\"local/small\"]\ninput = 10\noutput = 20\n[prices.\"local/large\"]\ninput = 10\noutput = 20\n";

fn machine_at(server: &Server) -> TestEnv {
    machine_for(&format!("{}{PRICES}", server.config()))
}

/// Answers the calls of `market-scan`; the words of the summaries are those of `tone`.
fn scan(request: &Request, tone: &str) -> Reply {
    let reply = match request.data("company").pop() {
        Some(company) if request.prompt().contains("Answer the question about") => {
            Reply::text(format!("{company} sells"))
        }
        Some(company) => {
            let summary = format!("{company} is {tone}");
            Reply::text(json!({"summary": summary, "findings": [], "confidence": 0.5}).to_string())
        }
        None => {
            let seen = if request.prompt().contains("is bad") {
                "bad"
            } else {
                "good"
            };
            Reply::text(json!({"summary": format!("compared: {seen}"), "aspects": []}).to_string())
        }
    };
    reply.usage(40, 20)
}

fn market() -> String {
    json!({"companies": ["Acme", "Globex", "Initech"], "questions": ["What?", "To whom?"]}).to_string()
}

fn total(machine: &TestEnv) -> u64 {
    let runs = machine.run(["runs", "--json"]).json(0);
    let spent = &runs["runs"][0]["spent"];
    spent["input_tokens"].as_u64().unwrap() + spent["output_tokens"].as_u64().unwrap()
}

#[test]
fn one_task_asks_anew_with_what_depends_on_it_and_the_rest_is_kept() {
    let bad = Arc::new(AtomicBool::new(true));
    let tone = Arc::clone(&bad);
    let server = Server::start(move |request| {
        let is_bad = tone.load(Ordering::SeqCst) && request.data("company").contains(&"Globex".to_owned());
        scan(request, if is_bad { "bad" } else { "fine" })
    });
    let machine = machine_at(&server);
    let scanned = machine.run([
        "run",
        &plugin("market-scan").display().to_string(),
        "--input",
        &market(),
        "--json",
    ]);
    assert_eq!(scanned.json(0)["outcome"]["ok"]["summary"], "compared: bad");
    let first = server.count();
    assert_eq!(first, 3 * 3 + 1);
    assert_eq!(total(&machine), 10 * 60);

    bad.store(false, Ordering::SeqCst);
    let again = machine
        .run(["resume", "last", "--ask-again", "root/1", "--json"])
        .json(0);
    assert_eq!(again["outcome"]["ok"]["summary"], "compared: good");
    let seen = server.seen();
    let new: Vec<_> = seen[first..]
        .iter()
        .map(|request| request.data("company").pop())
        .collect();
    assert_eq!(new.len(), 4, "three calls of Globex, and the comparison: {new:?}");
    assert!(
        new[..3].iter().all(|company| company.as_deref() == Some("Globex")),
        "{new:?}"
    );
    // Both are counted, in the report, the list and the tasks.
    let spent = &again["spent"];
    assert_eq!(
        (&spent["input_tokens"], &spent["output_tokens"]),
        (&json!(14 * 40), &json!(14 * 20))
    );
    let of = |id: &str| {
        let tasks = again["tasks"].as_array().unwrap();
        tasks.iter().find(|task| task["id"] == id).unwrap()["spent"]["input_tokens"].clone()
    };
    assert_eq!(
        (of("root/1"), of("root/3"), of("root/0")),
        (json!(6 * 40), json!(2 * 40), json!(3 * 40))
    );
    assert_eq!(total(&machine), 14 * 60);

    // The bad reply stays in the record.
    let shown = machine.run(["show", "last", "--task", "root/1"]);
    assert!(shown.stdout.contains("replaced reply"), "{shown}");
    assert!(
        shown.stdout.contains("Globex is bad") && shown.stdout.contains("Globex is fine"),
        "{shown}"
    );
    let shown = machine.run(["show", "last", "--task", "root/1", "--json"]).json(0);
    let replaced = |call: &Value| call["replaced"].as_array().map_or(0, Vec::len);
    let calls = shown["task"]["calls"].as_array().unwrap();
    // The two searches that are not granted have no reply.
    assert_eq!(calls.iter().map(replaced).collect::<Vec<_>>(), [0, 0, 1, 1, 1]);

    // A replay gives the newest replies, and a further resume has nothing to do.
    let replayed = machine.run(["replay", "last", "--json"]).json(0);
    assert_eq!(replayed["outcome"]["ok"], again["outcome"]["ok"]);
    assert_eq!(
        (&replayed["differences"], &replayed["spent"]["input_tokens"]),
        (&json!([]), &json!(14 * 40))
    );
    let nothing = machine.run(["resume", "last"]);
    assert!(nothing.stderr.contains("nothing is run again"), "{nothing}");

    // Without a change in the result, what depends on it keeps its reply. A name stands for the only task of its plugin.
    let same = machine.run(["resume", "last", "--ask-again", "root/0"]);
    assert_eq!((same.code, server.count()), (0, first + 4 + 3), "{same}");
    let compared = machine.run(["resume", "last", "--ask-again", "demo:compare"]);
    assert_eq!((compared.code, server.count()), (0, first + 4 + 3 + 1), "{compared}");
    assert_eq!(total(&machine), 18 * 60);
}

#[test]
fn an_unknown_task_is_refused_before_anything_changes() {
    let server = Server::start(|request| scan(request, "fine"));
    let machine = machine_at(&server);
    let scanned = machine.run([
        "run",
        &plugin("market-scan").display().to_string(),
        "--input",
        &market(),
    ]);
    assert_eq!(scanned.code, 0, "{scanned}");
    for (task, said) in [
        ("root/7", "has no task root/7"),
        ("demo:compair", "Did you mean `demo:compare`?"),
        ("nonsense", "lists the tasks of the run"),
        ("demo:competitor", "3 tasks of run "),
        ("demo:competitor", "root/0, root/1, root/2"),
        ("root", "task root of run "),
        ("root", "made no model call"),
    ] {
        let refused = machine.run(["resume", "last", "--ask-again", task]);
        assert!(refused.error(2).contains(said), "{said}: {refused}");
    }
    let runs = machine.run(["runs", "--json"]).json(0);
    assert_eq!((&runs["runs"][0]["state"], server.count()), (&json!("done"), 10));
}

#[test]
fn the_root_can_be_asked_again_and_again() {
    let count = Arc::new(AtomicUsize::new(0));
    let server = Server::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        Reply::text(format!("reply {number}")).usage(40, 20)
    });
    let machine = machine_at(&server);
    let first = machine.run(["run", &guest("leaf"), "--input", "\"a color\""]);
    assert_eq!(first.stdout.trim(), "\"reply 0\"", "{first}");
    for number in 1..4 {
        let again = machine.run(["resume", "last", "--ask-again", "root"]);
        assert_eq!(again.stdout.trim(), format!("\"reply {number}\""), "{again}");
        let shown = machine.run(["show", "last", "--task", "root"]);
        for kept in 0..=number {
            assert!(shown.stdout.contains(&format!("reply {kept}\n")), "{shown}");
        }
        assert_eq!(total(&machine), 60 * (number + 1));
    }
    let replayed = machine.run(["replay", "last"]);
    assert_eq!(
        (replayed.code, replayed.stdout.trim()),
        (0, "\"reply 3\""),
        "{replayed}"
    );
    // What was spent counts against the limits of the run.
    let stopped = machine.run(["resume", "last", "--ask-again", "root", "--tokens", "241"]);
    assert_eq!((stopped.code, server.count()), (3, 4), "{stopped}");
}

#[test]
fn no_old_reply_is_used_after_a_stop_in_the_middle() {
    let (is_new, gate) = (Arc::new(AtomicBool::new(false)), Gate::default());
    let (flag, held) = (Arc::clone(&is_new), gate.clone());
    let server = Server::start(move |request| match flag.load(Ordering::SeqCst) {
        false if request.prompt().contains("three") => Reply::error(400, "invalid_request_error", "no"),
        false => Reply::text("old").usage(40, 20),
        // The second request never gets an answer.
        true if request.prompt().contains("two") => Reply::text("new").held(&held),
        true => Reply::text("new").usage(40, 20),
    });
    let machine = machine_at(&server);
    let input = strict_questions(&["one", "two", "three"], "sequential").to_string();
    let failed = machine.run(["run", &guest("asks"), "--input", &input]);
    assert_ne!(failed.code, 0, "{failed}");
    assert_eq!(server.count(), 3);

    is_new.store(true, Ordering::SeqCst);
    let running = machine.start(["resume", "last", "--ask-again", "root"], None);
    server.wait_until("two new requests", |seen| seen.len() == 5);
    std::thread::sleep(Duration::from_millis(50));
    running.kill();
    gate.open();
    let resumed = machine.run(["resume", "last"]);
    assert_eq!(resumed.code, 0, "{resumed}");
    assert!(!resumed.stdout.contains("old"), "{resumed}");
    assert_eq!(
        server.count(),
        7,
        "the first new reply is kept, the others are asked for"
    );
    assert!(machine.run(["show", "last", "--task", "root"]).stdout.contains("old"));
}

#[test]
fn an_item_of_a_batch_is_asked_again() {
    let is_new = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_new);
    let server = Server::start(move |request| {
        let tone = if flag.load(Ordering::SeqCst) { "new" } else { "old" };
        Reply::text(format!("{tone}: {}", request.prompt())).usage(40, 20)
    });
    let machine = machine_at(&server);
    machine.write(
        "items.jsonl",
        (0..5).map(|n| format!("\"item {n}\"\n")).collect::<String>(),
    );
    let done = machine.run(["batch", &guest("leaf"), "items.jsonl", "-o", "out.jsonl"]);
    assert_eq!(done.code, 0, "{done}");
    is_new.store(true, Ordering::SeqCst);
    let again = machine.run(["resume", "last", "--ask-again", "root/3"]);
    assert_eq!((again.code, server.count()), (0, 6), "{again}");
    assert!(again.stderr.contains("5 items: 5 ok, 4 recorded before"), "{again}");
    let results = std::fs::read_to_string(machine.cwd().join("out.jsonl")).unwrap();
    let news: Vec<_> = results.lines().map(|line| line.contains("new: ")).collect();
    assert_eq!(news, [false, false, false, true, false], "{results}");
    assert_eq!(total(&machine), 6 * 60);
    assert_eq!(machine.run(["replay", "last"]).code, 0);
}

/// What an earlier execution paid for stays part of the run, even if nothing asks for it any more.
#[test]
fn calls_and_sub_tasks_that_are_no_longer_made_stay_counted() {
    let too_long = "prompt is too long: 210000 tokens > 200000 maximum";
    let server = Server::start(move |request| {
        let prompt = request.prompt();
        let answers = [
            (
                "Restate",
                json!({"plan": {"requirements": "smaller", "files": []}, "left-out": []}),
            ),
            ("Find", json!({"approaches": []})),
            ("Say why", json!({"cause": "c", "right-problem": true, "better": null})),
            ("Decide", json!({"path": "escalate", "approach": null, "reason": "r"})),
        ];
        let answer = answers
            .into_iter()
            .find(|(word, _)| prompt.contains(&format!("failed. {word}")));
        let reply = match answer {
            Some((_, answer)) => Reply::text(answer.to_string()),
            None if request.number == 0 => return Reply::error(400, "invalid_request_error", too_long),
            None => Reply::text(json!({"source": "fn main() {}", "notes": ""}).to_string()),
        };
        reply.usage(40, 20)
    });
    let machine = machine_for(&server.anthropic_config()).var("ANTHROPIC_API_KEY", "secret");
    let file = json!({"name": "a.rs", "text": "the text"});
    let job = json!({"language": "Rust", "requirements": "Parse everything.", "files": [file]});
    let ship = plugin("ship-code").display().to_string();
    let escalated = machine.run(["run", &ship, "--input", &job.to_string(), "--json"]);
    escalated.json(6);
    assert_eq!(server.count(), 5);
    let again = machine
        .run(["resume", "last", "--ask-again", "root/0", "--json"])
        .json(0);
    assert_eq!(again["outcome"]["ok"]["program"]["source"], "fn main() {}");
    assert_eq!(server.count(), 6);
    assert_eq!(
        again["spent"]["input_tokens"],
        5 * 40,
        "the three opinions, the decision and the program: {again}"
    );
    assert_eq!(again["tasks"].as_array().unwrap().len(), 5);
    let replayed = machine.run(["replay", "last", "--json"]).json(0);
    assert_eq!(replayed["differences"], json!([]));
    assert_eq!(replayed["spent"]["input_tokens"], 5 * 40);
    assert_eq!(replayed["outcome"], again["outcome"]);
}
