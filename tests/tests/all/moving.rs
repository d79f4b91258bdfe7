//! Lines that move on a terminal, as a person sees them: 80 columns and 24 rows, and 200 and 50.

use std::time::Duration;

use agenthost_tests::env::TestEnv;
use agenthost_tests::guests::plugin;
use agenthost_tests::server::{Gate, Reply, Server};
use agenthost_tests::terminal::hidden;
use serde_json::json;

use crate::{guest, machine, machine_at, questions};

const SIZES: [(u16, u16); 2] = [(80, 24), (200, 50)];

fn scan(companies: usize) -> [String; 4] {
    let companies: Vec<_> = (1..=companies).map(|n| format!("Company {n}")).collect();
    let input = json!({"companies": companies, "questions": ["What do they sell?"]});
    [
        "run",
        &plugin("market-scan").display().to_string(),
        "-i",
        &input.to_string(),
    ]
    .map(str::to_owned)
}

/// The lines that move: from the one that begins with a sign that turns to the last one.
fn moving(lines: &[String]) -> &[String] {
    let turns = |line: &String| ["| ", "/ ", "- ", "\\ "].iter().any(|sign| line.starts_with(sign));
    lines.iter().rposition(turns).map_or(&[], |first| &lines[first..])
}

fn texts(lines: &[String]) -> String {
    lines.join("\n")
}

#[test]
fn a_fan_out_shows_what_each_task_waits_for() {
    for (columns, rows) in SIZES {
        let server = Server::start(|_| Reply::text("An answer.").held(&Gate::default()));
        let machine = machine_at(&server);
        let started = machine.start_on_terminal(columns, rows, scan(3));
        let lines = started.screen.wait_for("three questions", |lines| {
            lines.iter().filter(|line| line.contains("asking local/")).count() == 3
        });
        let lines = moving(&lines);
        assert_eq!(lines.len(), 4, "{lines:#?}");
        assert!(
            lines[0].contains("root") && lines[0].contains("waiting for 3 of 3 sub-tasks"),
            "{lines:#?}"
        );
        for (n, line) in lines[1..].iter().enumerate() {
            assert!(line.contains(&format!("  root/{n}  ")), "{lines:#?}");
        }
        assert!(
            lines
                .iter()
                .all(|line| line.ends_with(" s") && line.len() < usize::from(columns)),
            "{lines:#?}"
        );
        let lines = interrupted(started);
        assert!(!texts(&lines).contains("waiting for"), "{lines:#?}");
    }
}

#[test]
fn more_tasks_than_rows_are_counted() {
    let server = Server::start(|_| Reply::text("An answer.").held(&Gate::default()));
    let machine = machine_at(&server);
    let started = machine.start_on_terminal(80, 8, scan(20));
    let lines = started.screen.wait_for("count of the others", |lines| {
        lines.last().is_some_and(|line| line.ends_with("more tasks")) && texts(lines).contains("of 8 sub-tasks")
    });
    let lines = moving(&lines);
    assert_eq!(lines.len(), 7, "{lines:#?}");
    assert_eq!(lines[6].trim(), "and 3 more tasks");
    interrupted(started);
}

#[test]
fn a_task_says_until_when_it_waits() {
    let refused = |status: u16| Reply::error(status, "overloaded_error", "busy").header("retry-after", "600");
    let server = Server::start(move |_| refused(503));
    let machine = machine_at(&server).config(&server.config().replace("retries = 0", "retries = 3"));
    let input = questions(&["Why?"], "parallel").to_string();
    let started = machine.start_on_terminal(80, 24, ["run", &guest("asks"), "-i", &input, "--timeout", "1h"]);
    let lines = started
        .screen
        .wait_for("a wait", |lines| texts(lines).contains("next try in"));
    let lines = moving(&lines);
    assert!(
        lines[0].contains("waiting: ") && lines[0].contains("next try in "),
        "{lines:#?}"
    );
    assert!(lines[0].ends_with(" s"), "{lines:#?}");
    interrupted(started);
}

#[test]
fn a_batch_says_why_all_of_its_items_wait() {
    let refused = || Reply::error(503, "overloaded_error", "busy").header("retry-after", "600");
    let server = Server::start(move |_| refused());
    let machine = machine_at(&server).config(&server.config().replace("retries = 0", "retries = 3"));
    let args = batch(&machine, 3);
    let more = ["--workers", "2", "--timeout", "1h", "--output", "out.jsonl"].map(str::to_owned);
    let started = machine.start_on_terminal(80, 24, [&args[..], &more[..]].concat());
    started.screen.wait_for("a wait", |lines| {
        let line = lines.last();
        line.is_some_and(|line| line.contains("0/3  ") && line.contains("waiting") && line.contains("next try in "))
    });
    interrupted(started);

    // One request takes most of what is left for all; the others wait for it.
    let server = Server::start(|_| Reply::text("An answer.").held(&Gate::default()));
    let machine = machine_at(&server);
    let args = batch(&machine, 3);
    let more = ["--workers", "3", "--run-tokens", "150", "--output", "out.jsonl"].map(str::to_owned);
    let started = machine.start_on_terminal(80, 24, [&args[..], &more[..]].concat());
    server.wait_until("a request", |seen| seen.len() == 1);
    std::thread::sleep(Duration::from_secs(3));
    let line = started.screen.lines().pop().unwrap_or_default();
    assert!(
        line.contains("0/3  ") && !line.contains("waiting"),
        "one of them goes ahead: {line}"
    );
    interrupted(started);
}

/// After Ctrl-C, nothing is left of the lines that moved.
fn interrupted(started: agenthost_tests::env::OnTerminal) -> Vec<String> {
    started.running.interrupt();
    let (code, screen) = started.finish();
    assert_eq!(code, 130, "{screen:?}");
    assert_eq!(hidden(&screen.written), Vec::<String>::new());
    let lines = screen.lines;
    assert!(moving(&lines).is_empty(), "{lines:#?}");
    assert!(!texts(&lines).contains("-----"), "{lines:#?}");
    lines
}

fn batch(machine: &TestEnv, items: usize) -> Vec<String> {
    let lines: String = (0..items)
        .map(|n| format!("{}\n", questions(&[&format!("say {n}")], "parallel")))
        .collect();
    machine.write("items.jsonl", lines);
    ["batch", &guest("asks"), "items.jsonl"].map(str::to_owned).to_vec()
}

#[test]
fn a_batch_leaves_its_results_and_its_summary() {
    for (columns, rows) in SIZES {
        let server = Server::start(|request| {
            Reply::text("An answer.")
                .usage(10, 5)
                .after(Duration::from_millis(100 + 10 * request.number as u64))
        });
        let machine = machine_at(&server);
        let args = batch(&machine, 12);
        let started = machine.start_on_terminal(columns, rows, [&args[..], &["--workers".into(), "3".into()]].concat());
        let lines = started.screen.wait_for("the line between results", |lines| {
            lines.len() > 1
                && lines
                    .last()
                    .is_some_and(|line| line.contains("/12  ") && line.contains("cost"))
        });
        let line = lines.last().unwrap();
        assert!(line.len() < usize::from(columns), "{line}");
        assert!(line.contains("cost unknown"), "{line}");
        let (code, screen) = started.finish();
        assert_eq!(code, 0, "{screen:?}");
        let shown = texts(&screen.lines);
        assert!(!shown.contains("/12  ") && shown.contains("12 items: 12 ok"), "{shown}");
        // A result is never broken by a line that moved.
        for n in 0..12 {
            let parsed = screen.written.lines().filter_map(|line| {
                let whole = line.rsplit("\u{1b}[2K").next()?;
                serde_json::from_str::<serde_json::Value>(whole).ok()
            });
            assert!(parsed.into_iter().any(|result| result["index"] == n), "{n}: {shown}");
        }
    }
}

#[test]
fn ctrl_c_leaves_a_clean_screen() {
    let server = Server::start(|_| Reply::text("An answer.").held(&Gate::default()));
    let machine = machine_at(&server);
    let started = machine.start_on_terminal(80, 24, batch(&machine, 20));
    server.wait_until("a request", |seen| !seen.is_empty());
    started
        .screen
        .wait_for("the line", |lines| texts(lines).contains("0/20"));
    let lines = interrupted(started);
    assert!(texts(&lines).contains("agenthost resume"), "{lines:#?}");

    let started = machine.start_on_terminal(80, 24, scan(3));
    started.screen.wait_for("the tasks", |lines| moving(lines).len() == 4);
    let lines = interrupted(started);
    assert!(texts(&lines).contains("cancelled"), "{lines:#?}");
}

#[test]
fn pages_fit_a_narrow_terminal() {
    let machine = machine();
    let args = scan(3);
    assert_eq!(machine.run(&args).code, 0);
    for page in [&["runs"][..], &["show", "last"], &["plan", &args[1], "-i", &args[3]]] {
        let (code, screen) = machine.start_on_terminal(80, 200, page.iter().copied()).finish();
        assert_eq!(code, 0, "{screen:?}");
        let plain = screen.written.replace("\u{1b}[0m", "").replace("\u{1b}[1m", "");
        let lines = plain.lines().filter_map(|line| line.rsplit("\u{1b}[2K").next());
        let long: Vec<_> = lines.filter(|line| line.chars().count() > 80).collect();
        assert!(long.is_empty(), "{page:?}: {long:#?}");
    }
    let (_, screen) = machine.start_on_terminal(80, 24, ["runs"]).finish();
    assert!(screen.lines[0].contains("COST"), "{screen:?}");
    let (_, screen) = machine.start_on_terminal(200, 50, ["runs"]).finish();
    assert!(screen.lines[0].contains("STARTED (UTC)"), "{screen:?}");
}
