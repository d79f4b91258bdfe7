//! Runs and batches that were killed, interrupted or ran out of something, and then continue: nothing is lost, nothing
//! is done twice, and nothing is paid twice but what was on its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agenthost_tests::env::{Output, Running, TestEnv};
use agenthost_tests::guests::plugin;
use agenthost_tests::server::{Reply, Request, Server};
use serde_json::{Value, json};

use crate::{counted, dice, ends, essence, guest, machine_at, machine_for, questions, run_json, strict_questions};

/// `true` if the long versions are wanted.
fn soak() -> bool {
    std::env::var_os("AGENTHOST_SOAK").is_some()
}

fn echo(request: &Request) -> Reply {
    Reply::text(request.prompt())
}

/// Replies that went out whole.
fn delivered(server: &Server) -> usize {
    let seen = server.ended();
    seen.iter()
        .filter(|request| request.status == Some(200) && !request.closed_by_client)
        .count()
}

/// Waits until the server has seen so many requests and a little longer, or the process has ended; then ends it.
fn kill_at(server: &Server, mut running: Running, requests: usize, later: Duration) -> Output {
    while server.count() < requests && running.is_running() {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(later);
    running.kill()
}

fn market_scan() -> String {
    plugin("market-scan").display().to_string()
}

fn market() -> Value {
    json!({"companies": ["Acme", "Globex", "Initech", "Hooli"], "questions": ["What is sold?", "To whom?"]})
}

fn scan(request: &Request) -> Reply {
    let company = request.data("company").pop();
    let reply = match company {
        Some(company) if request.prompt().contains("Answer the question about") => {
            Reply::text(format!("{company} sells {}", request.data("question").concat()))
        }
        Some(company) => Reply::text(json!({"summary": company, "findings": [], "confidence": 0.5}).to_string()),
        None => Reply::text(json!({"summary": "compared", "aspects": []}).to_string()),
    };
    reply.after(Duration::from_millis(dice(3, request.number) % 40))
}

/// Enough for what many killed processes have in flight, all of which counts.
const MANY_TOKENS: &[&str] = &["--tokens", "5M"];

#[test]
fn a_run_that_is_killed_again_and_again_comes_to_the_same_end() {
    let server = Server::start(scan);
    let machine = machine_for(&server.config());
    let undisturbed = machine.run(run_json(&market_scan(), &market(), MANY_TOKENS)).json(0);
    let calls = server.count();
    assert_eq!(calls, 13);
    for seed in 0..if soak() { 40 } else { 4 } {
        let server = Server::start(scan);
        let machine = machine_for(&server.config());
        let mut at = 1 + dice(seed, 0) as usize % 4;
        let mut killed = 0;
        let mut output = kill_at(
            &server,
            machine.start(run_json(&market_scan(), &market(), MANY_TOKENS), None),
            at,
            Duration::from_millis(dice(seed, 1) % 20),
        );
        while output.code == 137 {
            killed += 1;
            at += 1 + dice(seed, killed) as usize % 6;
            let resumed = machine.start(["resume", "last", "--json"], None);
            output = kill_at(&server, resumed, at, Duration::from_millis(dice(seed, killed) % 20));
        }
        let document = output.json(0);
        assert!(killed > 0);
        assert_eq!(document["outcome"], undisturbed["outcome"]);
        assert_eq!(ends(&document), ends(&undisturbed));
        let fuel = |document: &Value| {
            let tasks = document["tasks"].as_array().unwrap();
            tasks
                .iter()
                .map(|task| task["spent"]["calls"].clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(fuel(&document), fuel(&undisturbed));
        // Requests in flight at the kill are booked at their worst case, and reported.
        assert_eq!(counted(&document), counted(&undisturbed));
        // Each of the lanes has at most its two questions on their way.
        let most = calls + killed * 8;
        assert!(
            delivered(&server) <= most,
            "{} of {most}, killed {killed} times",
            delivered(&server)
        );
        let replayed = machine.run(["replay", "last", "--json"]).json(0);
        assert_eq!(essence(&replayed), essence(&document));
    }
}

#[test]
fn what_is_finished_is_not_run_again_and_what_was_answered_not_asked() {
    // The second request of Globex and everything after it hang, the first time.
    let server = Server::start(|request| {
        let second =
            request.data("company").pop().as_deref() == Some("Globex") && request.prompt().contains("Condense");
        if second && request.number < 12 {
            Reply::stall()
        } else {
            scan(request)
        }
    });
    let machine = machine_for(&server.config());
    let running = machine.start(run_json(&market_scan(), &market(), &[]), None);
    server.wait_until("all but one company", |seen| {
        seen.len() == 12 && seen.iter().filter(|request| request.ended.is_some()).count() == 11
    });
    // The last reply is in the journal soon after it was sent.
    std::thread::sleep(Duration::from_millis(300));
    running.kill();
    let begun = |machine: &TestEnv| {
        let shown = machine.run(["show", "last", "--json"]).json(0);
        let tasks = shown["tasks"].as_array().unwrap().clone();
        tasks
            .into_iter()
            .map(|task| (task["id"].to_string(), task["started_ms"].clone()))
            .collect::<Vec<_>>()
    };
    let before = begun(&machine);
    let document = machine.run(["resume", "last", "--json"]).json(0);
    assert_eq!(server.count(), 14, "what hung once more, and the comparison");
    let after = begun(&machine);
    let same: Vec<_> = before
        .iter()
        .filter(|task| after.contains(task))
        .map(|(id, _)| id.as_str())
        .collect();
    assert_eq!(same, ["\"root/0\"", "\"root/2\"", "\"root/3\""]);
    assert_eq!(document["spent"]["calls"], 13);
    assert_eq!(counted(&document), 13 * 15, "what was paid before is in the books");
}

#[test]
fn an_interrupted_run_says_how_to_go_on() {
    let server = Server::start(|request| {
        if request.number == 2 {
            Reply::stall()
        } else {
            echo(request)
        }
    });
    let machine = machine_for(&server.config());
    let input = strict_questions(&["a", "b", "c", "d"], "sequential");
    let running = machine.start(["run", &guest("asks"), "-i", &input.to_string()], None);
    server.wait_until("the third call", |seen| seen.len() == 3);
    running.interrupt();
    let output = running.finish();
    assert_eq!((output.code, output.stdout.as_str()), (130, ""), "{output}");
    let command = output
        .stderr
        .split("`agenthost ")
        .nth(1)
        .unwrap()
        .split('`')
        .next()
        .unwrap();
    let args: Vec<_> = command.split(' ').collect();
    assert_eq!(args[0], "resume", "{output}");
    let resumed = machine.run(args);
    let answers = resumed.json(0);
    assert_eq!(answers.as_array().unwrap().len(), 4);
    assert_eq!(server.count(), 5);
}

#[test]
fn a_limit_that_was_raised_lets_a_run_finish() {
    for (flag, small, large, limit) in [("--tokens", "400", "5k", "tokens"), ("--calls", "2", "9", "calls")] {
        let server = Server::start(|request| echo(request).usage(70, 80));
        let machine = machine_for(&server.config());
        let input = strict_questions(&["a", "b", "c", "d", "e"], "sequential");
        let failed = machine.run(run_json(&guest("asks"), &input, &[flag, small])).json(3);
        assert_eq!(failed["outcome"]["failure"]["limit"], limit);
        let paid = server.count();
        assert!((2..5).contains(&paid), "{paid}");
        // With the same limits it ends in the same way, and sends no request.
        let again = machine.run(["resume", "last", "--json"]).json(3);
        assert_eq!(again["outcome"], failed["outcome"]);
        assert_eq!(server.count(), paid);
        let document = machine.run(["resume", "last", "--json", flag, large]).json(0);
        assert_eq!(document["outcome"]["ok"].as_array().unwrap().len(), 5);
        assert_eq!(server.count(), 5);
        assert_eq!(
            (&document["spent"]["calls"], &document["spent"]["input_tokens"]),
            (&json!(5), &json!(350))
        );
        let replayed = machine.run(["replay", "last", "--json"]).json(0);
        assert_eq!(essence(&replayed), essence(&document));
    }
}

#[test]
fn to_resume_what_has_ended_changes_nothing() {
    let _ = guest("leaf");
    for (path, input, code) in [
        (guest("asks"), questions(&["a", "b"], "parallel"), 0),
        (guest("misbehaves"), json!("fail"), 1),
        (guest("misbehaves"), json!("panic"), 1),
    ] {
        let server = Server::start(echo);
        let machine = machine_for(&server.config());
        let plain = machine.run(["run", &path, "-i", &input.to_string()]);
        assert_eq!(plain.code, code);
        let asked = server.count();
        let shown = || machine.run(["show", "last", "--all", "--json"]).json(0);
        let before = shown();
        let again = machine.run(["resume", "last"]);
        assert_eq!((again.code, &again.stdout), (code, &plain.stdout), "{again}");
        assert!(again.stderr.contains("has ended; nothing is run again"), "{again}");
        let document = machine.run(["resume", "last", "--json"]).json(code);
        assert_eq!(document["outcome"].get("ok").is_some(), code == 0, "{document}");
        assert_eq!(
            (&document["format"], &document["run"]),
            (&json!(1), &before["run"]["id"])
        );
        assert_eq!(document["tasks"].as_array().map(Vec::len), Some(1), "{document}");
        assert_eq!(server.count(), asked);
        assert_eq!(shown(), before);
    }
}

#[test]
fn failed_runs_the_failed_tasks_again_and_no_other() {
    let broken = |request: &Request| request.data("company").pop().as_deref() == Some("Globex");
    let server = Server::start(move |request| match broken(request) && request.number < 13 {
        true => Reply::text("").usage(10, 5),
        false => scan(request),
    });
    let machine = machine_for(&server.config());
    let first = machine.run(run_json(&market_scan(), &market(), &[])).json(0);
    let missing = first["outcome"]["ok"]["missing"].as_array().unwrap().len();
    assert_eq!(missing, 1, "{first}");
    let asked = server.count();
    let unchanged = machine.run(["resume", "last", "--json"]).json(0);
    assert_eq!(unchanged["outcome"], first["outcome"]);
    assert_eq!(server.count(), asked);
}

#[test]
fn a_root_that_failed_for_good_runs_again_with_failed() {
    let server = Server::start(|request| match request.number {
        1 => Reply::refusal("no"),
        _ => echo(request),
    });
    let machine = machine_for(&server.config());
    let input = strict_questions(&["a", "b", "c"], "sequential");
    let first = machine.run(run_json(&guest("asks"), &input, &[]));
    assert_eq!((first.code, server.count()), (5, 3), "{first}");
    let plain = machine.run(["resume", "last", "--json"]);
    assert_eq!((plain.code, server.count()), (5, 3), "a refusal is final: {plain}");
    let again = machine.run(["resume", "last", "--failed", "--json"]);
    assert_eq!(again.json(0)["outcome"]["ok"].as_array().unwrap().len(), 3);
    assert_eq!(server.count(), 4, "only what was refused is asked again");
    let replayed = machine.run(["replay", "last", "--json"]).json(0);
    assert_eq!(essence(&replayed), essence(&again.json(0)));
}

#[test]
fn a_run_that_goes_on_is_left_alone() {
    let server = Server::scripted([Reply::stall()]);
    let machine = machine_for(&server.config());
    let running = machine.start(run_json(&guest("leaf"), &json!("hello"), &[]), None);
    server.wait_until("a call", |seen| seen.len() == 1);
    let refused = machine.run(["resume", "last"]);
    let said = refused.error(2);
    assert!(said.contains("is still going on, in process "), "{said}");
    assert_eq!(server.count(), 1);
    running.kill();
}

#[test]
fn another_plugin_does_not_go_on_with_a_run() {
    let server = Server::start(|request| {
        if request.number == 1 {
            Reply::stall()
        } else {
            echo(request)
        }
    });
    let machine = machine_for(&server.config());
    let mut bytes = std::fs::read(guest("asks")).unwrap();
    let path = machine.write("plugin.wasm", &bytes).display().to_string();
    let running = machine.start(run_json(&path, &questions(&["a", "b"], "sequential"), &[]), None);
    server.wait_until("the second call", |seen| seen.len() == 2);
    running.kill();
    // One more, meaningless section.
    bytes.extend([0, 5, 3, b'n', b'e', b'w', 0]);
    machine.write("plugin.wasm", &bytes);
    let refused = machine.run(["resume", "last"]);
    let said = refused.error(2);
    assert!(
        said.contains("not the plugin that run ") && said.contains("--changed-plugins"),
        "{said}"
    );
    assert_eq!(server.count(), 2);
    let document = machine.run(["resume", "last", "--changed-plugins", "--json"]).json(0);
    assert_eq!(document["outcome"]["ok"].as_array().unwrap().len(), 2);
    assert_eq!(
        server.count(),
        3,
        "what the new one asks in the same words is not paid for again"
    );
}

/// The results in a file, as index and answer.
fn results(machine: &TestEnv, name: &str) -> Vec<(u64, String)> {
    let text = std::fs::read_to_string(machine.cwd().join(name)).unwrap();
    let result = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = line["outcome"]["ok"].as_str().unwrap_or_else(|| panic!("{line}"));
        (line["index"].as_u64().unwrap(), text.to_owned())
    };
    text.lines().map(result).collect()
}

#[test]
fn a_batch_that_is_killed_at_random_loses_no_item_and_pays_for_none_twice() {
    const ITEMS: usize = 1_000;
    const WORKERS: usize = 8;
    /// The worst case of one request, input and output together.
    const MOST_LOST: usize = 200;
    let kills = if soak() { 200 } else { 20 };
    let server = Server::start(|request| echo(request).after(Duration::from_millis(dice(11, request.number) % 4)));
    let machine = machine_for(&server.config());
    let items: String = (0..ITEMS).map(|n| format!("\"say {n}\"\n")).collect();
    machine.write("items.jsonl", items);
    let workers = WORKERS.to_string();
    let leaf = guest("leaf");
    // The tasks' total is known, except for the reservations of the last tasks and the loss at each kill.
    let lost = kills * WORKERS * MOST_LOST;
    let tokens = (ITEMS * 15 + 10_000 + lost).to_string();
    let batch = [
        "batch",
        &leaf,
        "items.jsonl",
        "-o",
        "out.jsonl",
        "--workers",
        &workers,
        "--run-tokens",
        &tokens,
    ];
    let mut points: Vec<_> = (0..kills).map(|n| 1 + dice(5, n) as usize % (ITEMS - 20)).collect();
    points.sort_unstable();
    let mut killed = 0;
    for (n, point) in points.into_iter().enumerate() {
        let running = match n {
            0 => machine.start(batch, None),
            _ => machine.start(["resume", "last"], None),
        };
        let output = kill_at(&server, running, point, Duration::from_micros(dice(6, n) % 8_000));
        assert_eq!(output.code, 137, "{output}");
        killed += 1;
    }
    let output = machine.run(["resume", "last"]);
    assert_eq!(output.code, 0, "{output}");
    let expected: Vec<_> = (0..ITEMS).map(|n| (n as u64, format!("say {n}"))).collect();
    assert_eq!(results(&machine, "out.jsonl"), expected);
    let most = ITEMS + killed * WORKERS;
    let (asked, sent) = (server.count(), delivered(&server));
    assert!(asked <= most && sent >= ITEMS, "{asked} of {most}, {sent} delivered");
    let runs = machine.run(["runs", "--json"]).json(0);
    let runs = runs["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 1);
    let spent = &runs[0]["spent"];
    assert_eq!(spent["calls"], json!(ITEMS), "each item is in the books once: {runs:?}");
    // Requests in flight at a kill are booked at their worst case, and nothing else twice.
    let number = |field: &str| usize::try_from(spent[field].as_u64().unwrap()).unwrap();
    let more = number("input_tokens") + number("output_tokens") - ITEMS * 15;
    assert!(more <= lost, "{more} of {lost}: {runs:?}");
    assert!(output.stderr.contains("1000 ok"), "{output}");

    let asked = server.count();
    let again = machine.run(["replay", "last"]);
    assert_eq!(again.code, 0, "{again}");
    assert_eq!(again.stdout.lines().count(), ITEMS);
    let resumed = machine.run(["resume", "last"]);
    assert_eq!(resumed.code, 0, "{resumed}");
    assert_eq!(results(&machine, "out.jsonl"), expected);
    assert_eq!(server.count(), asked, "neither asks anyone");
}

#[test]
fn a_batch_runs_its_failed_items_again() {
    let server = Server::start(|request| {
        let number: usize = request.prompt()[4..].parse().unwrap();
        let first = request.number < 20;
        match number {
            7 if first => Reply::error(500, "api_error", "boom"),
            9 if first => Reply::refusal("no"),
            _ => echo(request),
        }
    });
    let machine = machine_for(&server.config());
    machine.write(
        "items.jsonl",
        (0..20).map(|n| format!("\"say {n}\"\n")).collect::<String>(),
    );
    let first = machine.run(["batch", &guest("leaf"), "items.jsonl", "-o", "out.jsonl"]);
    assert_eq!(first.code, 1, "{first}");
    assert_eq!(server.count(), 20);
    let again = machine.run(["resume", "last", "--failed"]);
    assert_eq!(again.code, 0, "{again}");
    assert!(again.stderr.contains("18 recorded before"), "{again}");
    let mut asked: Vec<_> = server.seen()[20..].iter().map(Request::prompt).collect();
    asked.sort();
    assert_eq!(asked, ["say 7", "say 9"]);
    let expected: Vec<_> = (0..20).map(|n| (n, format!("say {n}"))).collect();
    assert_eq!(results(&machine, "out.jsonl"), expected);
}

#[test]
fn a_batch_whose_sum_was_reached_goes_on_with_a_larger_one() {
    let server = Server::start(echo);
    let machine = machine_for(&server.config());
    machine.write(
        "items.jsonl",
        (0..20).map(|n| format!("\"say {n}\"\n")).collect::<String>(),
    );
    let args = [
        "batch",
        &guest("leaf"),
        "items.jsonl",
        "-o",
        "out.jsonl",
        "--workers",
        "2",
        "--run-calls",
        "8",
    ];
    let first = machine.run(args);
    assert_eq!(first.code, 3, "{first}");
    assert_eq!(server.count(), 8);
    let still = machine.run(["resume", "last"]);
    assert_eq!((still.code, server.count()), (3, 8), "{still}");
    let rest = machine.run(["resume", "last", "--run-calls", "none"]);
    assert_eq!((rest.code, server.count()), (0, 20), "{rest}");
    assert_eq!(results(&machine, "out.jsonl").len(), 20);
}

#[test]
fn the_finished_sub_tasks_of_an_unfinished_item_count_in_a_resumed_batch() {
    let is_up = Arc::new(AtomicBool::new(false));
    let up = Arc::clone(&is_up);
    let server = Server::start(move |request| match request.prompt().as_str() {
        "and now?" if !up.load(Ordering::SeqCst) => Reply::error(404, "not_found_error", "no such model"),
        _ => echo(request),
    });
    let machine = machine_for(&server.config());
    // Beside it.
    let _ = guest("leaf");
    let item = json!({"prompts": ["one", "two"], "split": false, "least": null, "keep-back": null, "within": null,
        "question": "and now?", "strict": true});
    machine.write("items.jsonl", format!("{item}\n"));
    let first = machine.run(["batch", &guest("divides"), "items.jsonl", "-o", "out.jsonl"]);
    assert_eq!((first.code, server.count()), (1, 3), "{first}");
    is_up.store(true, Ordering::SeqCst);
    let still = machine.run(["resume", "last", "--run-calls", "2"]);
    assert_eq!((still.code, server.count()), (3, 3), "the calls of both count: {still}");
    let rest = machine.run(["resume", "last", "--run-calls", "none"]);
    assert_eq!((rest.code, server.count()), (0, 4), "{rest}");
}

#[test]
fn other_items_are_another_batch() {
    let server = Server::start(|request| {
        if request.number == 2 {
            Reply::stall()
        } else {
            echo(request)
        }
    });
    let machine = machine_for(&server.config());
    machine.write("items.jsonl", "\"a\"\n\"b\"\n\"c\"\n");
    let running = machine.start(["batch", &guest("leaf"), "items.jsonl", "--workers", "1"], None);
    server.wait_until("the third", |seen| seen.len() == 3);
    running.kill();
    machine.write("items.jsonl", "\"a\"\n\"B\"\n\"c\"\n");
    let refused = machine.run(["resume", "last"]);
    assert!(
        refused.error(2).contains("items.jsonl is not what it was when run "),
        "{refused}"
    );
    machine.write("items.jsonl", "\"a\"\n\"b\"\n\"c\"\n");
    let resumed = machine.run(["resume", "last"]);
    assert_eq!(
        (resumed.code, resumed.stdout.lines().count(), server.count()),
        (0, 3, 4),
        "{resumed}"
    );

    // Input from a pipe is gone.
    let piped = machine.piped(["batch", &guest("leaf"), "-"], "\"a\"\n");
    assert_eq!(piped.code, 0, "{piped}");
}

/// Kilobytes of memory that a process holds.
fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[test]
fn memory_stays_flat_over_a_large_batch() {
    let items: usize = if soak() { 100_000 } else { 10_000 };
    let machine = machine_for("[providers.scripted]\nkind = \"offline\"\n[models]\nfast = \"scripted/x\"\n");
    machine.write(
        "items.jsonl",
        (0..items).map(|n| format!("\"say {n}\"\n")).collect::<String>(),
    );
    let mut running = machine.start(
        [
            "batch",
            "-q",
            &guest("leaf"),
            "items.jsonl",
            "-o",
            "out.jsonl",
            "--workers",
            "64",
        ],
        None,
    );
    let out = machine.cwd().join("out.jsonl");
    let (mut early, mut late) = (Vec::new(), Vec::new());
    let mut whole = None;
    while running.is_running() {
        std::thread::sleep(Duration::from_millis(20));
        // The first line gives the approximate length of the others.
        let written = std::fs::metadata(&out).map_or(0, |file| file.len());
        if whole.is_none() && written > 0 {
            let text = std::fs::read_to_string(&out).unwrap_or_default();
            whole = text.lines().next().map(|line| (line.len() as u64 + 8) * items as u64);
        }
        let Some(whole) = whole else { continue };
        let Some(now) = resident(running.pid()) else { continue };
        match written * 100 / whole {
            9..13 => early.push(now),
            88.. => late.push(now),
            _ => {}
        }
    }
    let output = running.finish();
    assert_eq!(output.code, 0, "{output}");
    let (early, late) = (early.iter().max().unwrap(), late.iter().max().unwrap());
    assert!(
        *late <= early + early / 20,
        "{early} kB at a tenth of the way, {late} kB at the end"
    );
}

#[test]
fn failed_goes_back_to_the_sub_task_that_failed() {
    let plan = |name: &str| json!({"requirements": name, "files": []});
    let too_long = "prompt is too long: 210000 tokens > 200000 maximum";
    let server = Server::start(move |request| {
        let prompt = request.prompt();
        let answers = [
            ("Restate", json!({"plan": plan("smaller"), "left-out": []})),
            ("Find", json!({"approaches": []})),
            ("Say why", json!({"cause": "c", "right-problem": true, "better": null})),
            ("Decide", json!({"path": "escalate", "approach": null, "reason": "r"})),
        ];
        match answers
            .into_iter()
            .find(|(word, _)| prompt.contains(&format!("failed. {word}")))
        {
            Some((_, answer)) => Reply::text(answer.to_string()),
            None if request.number == 0 => Reply::error(400, "invalid_request_error", too_long),
            None => Reply::text(json!({"source": "fn main() {}", "notes": ""}).to_string()),
        }
    });
    let machine = machine_for(&server.anthropic_config()).var("ANTHROPIC_API_KEY", "secret");
    let file = json!({"name": "a.rs", "text": "the text"});
    let job = json!({"language": "Rust", "requirements": "Parse everything.", "files": [file]});
    machine
        .run(run_json(&plugin("ship-code").display().to_string(), &job, &[]))
        .json(6);
    assert_eq!(server.count(), 5);
    machine.run(["resume", "last", "--json"]).json(6);
    assert_eq!(server.count(), 5);
    let document = machine.run(["resume", "last", "--failed", "--json"]).json(0);
    assert_eq!(document["outcome"]["ok"]["program"]["source"], "fn main() {}");
    assert_eq!(server.count(), 6);
    assert_eq!(ends(&document), [("root", "ok"), ("root/0", "ok")]);
    let replayed = machine.run(["replay", "last", "--json"]).json(0);
    assert_eq!(essence(&replayed), essence(&document));
}

#[test]
fn a_run_with_offline_models_is_resumed_with_them() {
    let server = Server::start(|_| Reply::text("not asked for"));
    let machine = machine_at(&server);
    let input = strict_questions(&["Why?"], "parallel").to_string();
    let stopped = machine.run(["run", &guest("asks"), "-i", &input, "--offline-models", "--calls", "0"]);
    assert_eq!(stopped.code, 3, "{stopped}");
    let resumed = machine.run(["resume", "last", "--failed", "--calls", "none"]);
    assert_eq!(resumed.code, 0, "{resumed}");
    assert!(resumed.stdout.contains("[offline]"), "{resumed}");
    assert_eq!(server.count(), 0);
}
