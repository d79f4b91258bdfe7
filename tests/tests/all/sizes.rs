//! Whole screens of a terminal of 80 columns and 24 rows, and of 200 and 50.
//!
//! `cargo insta test --accept --workspace --test all -- sizes` writes the snapshots again after a change.

use std::time::{SystemTime, UNIX_EPOCH};

use agenthost::journal::sqlite::Sqlite;
use agenthost::journal::{JournalEntry, JournalStore, RunEnd, RunKind, RunRecord, RunStatus, TaskEnd};
use agenthost_tests::env::{OnTerminal, TestEnv};
use agenthost_tests::guests::plugin;
use agenthost_tests::server::{Gate, Reply, Request, Server};
use agenthost_tests::terminal::hidden;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{guest, machine, machine_at, questions};

const NARROW: (u16, u16) = (80, 24);
const WIDE: (u16, u16) = (200, 50);
const PRICES: &str =
    "[prices.\"local/small\"]\ninput = 2\noutput = 10\n[prices.\"local/large\"]\ninput = 4\noutput = 20\n";

/// Replaces what differs from run to run on the screens of runs that are under way.
fn live() -> impl Drop {
    filters(&[
        (r"\b[0-9a-z]{9}-[0-9a-z]{5}\b", "[the run's id]"),
        // The signs that turn, and the times so far.
        (r"(?m)^[|/\\-] ", "* "),
        (r"(?m)  \d+ (s|min \d+ s)$", "  [time]"),
        (r"\b\d+\.\d+ s, \d+\.\d items/s", "[time], [rate]"),
        (r"\b\d+\.\d+ s\b", "[time]"),
    ])
}

/// Replaces the times at which the runs of [`record`] started by text of the same width.
fn recorded() -> impl Drop {
    filters(&[(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "[when it started]  ")])
}

fn filters(all: &[(&str, &str)]) -> impl Drop + use<> {
    let mut settings = insta::Settings::clone_current();
    for (pattern, word) in all {
        settings.add_filter(pattern, *word);
    }
    settings.bind_to_scope()
}

/// The screen after a command that ends with `code`.
fn screen(machine: &TestEnv, (columns, rows): (u16, u16), args: &[&str], code: i32) -> String {
    let (ended, screen) = machine.start_on_terminal(columns, rows, args.iter().copied()).finish();
    assert_eq!(ended, code, "{screen:?}");
    assert_eq!(hidden(&screen.written), Vec::<String>::new());
    text(&screen.lines, columns)
}

/// The lines of a screen, which must not be cut by its edge.
fn text(lines: &[String], columns: u16) -> String {
    for line in lines {
        assert!(line.chars().count() <= usize::from(columns), "{line}");
    }
    lines.join("\n")
}

fn typed<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// Writes a finished fan-out, a batch with a failure, and a run that was interrupted, 5 minutes and more ago.
fn record(machine: &TestEnv) {
    let journal = Sqlite::open(&machine.cwd().join(".agenthost/journal.db")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let write = |entry| runtime.block_on(journal.append(entry)).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let spent = |calls: u64, cost: f64, wall: u64| json!({"input_tokens": 1_234_567 * calls, "output_tokens": 4_321 * calls, "cost_usd": cost, "calls": calls, "wall_ms": wall});
    let begin = |id: &str, kind, plugin: &str, ago_ms: u64| {
        write(JournalEntry::RunStarted(RunRecord {
            id: id.into(),
            kind,
            plugin: plugin.into(),
            digest: "5eed".repeat(16),
            seed: [7; 32],
            clock_ms: 1,
            started_ms: now - ago_ms,
            command: json!("none"),
            pid: 4_194_305,
            end: None,
        }));
    };
    let task = |run: &str, id: &str, plugin: &str, at: (u64, u64), outcome: &Value, calls: u64| {
        let (began, ended) = (at.0, at.1);
        write(JournalEntry::TaskStarted {
            run: run.into(),
            task: id.into(),
            plugin: plugin.into(),
            digest: "5eed".repeat(16),
            input: Some(json!("?")),
            at_ms: began,
        });
        let used = spent(calls, 2.5 * calls as f64, ended - began);
        write(JournalEntry::TaskEnded {
            run: run.into(),
            task: id.into(),
            end: TaskEnd {
                ended_ms: ended,
                report: typed(json!({"id": id, "plugin": plugin, "outcome": outcome, "spent": used})),
                returned: None,
                models: Vec::new(),
            },
        });
    };
    let end = |run: &str, at: u64, state, outcome: Value, calls: u64, (ok, failed): (u64, u64)| {
        let model = json!({"name": "fast", "model": "local/small", "calls": calls, "requests": calls, "cost_usd": 2.5 * calls as f64});
        write(JournalEntry::RunEnded {
            run: run.into(),
            end: RunEnd {
                ended_ms: at,
                state,
                summary: typed(
                    json!({"outcome": outcome, "spent": spent(calls, 2.5 * calls as f64, 62_000), "models": [model],
                    "counts": {"tasks": ok + failed, "ok": ok, "failed": failed}}),
                ),
            },
        });
    };
    let done = json!({"ok": "An answer."});

    let batch = "1m8aaaaaa-00002";
    let at = now - 7_201_000;
    begin(batch, RunKind::Batch, "demo:triage@0.1.0", 7_201_000);
    let refused = json!({"failure": {"class": "failed", "message": "the ticket has no text, and the page that it names cannot be read"}});
    task(batch, "root/0", "demo:triage@0.1.0", (at, at + 3_000), &done, 1);
    task(batch, "root/1", "demo:triage@0.1.0", (at, at + 62_000), &refused, 1);
    end(batch, at + 62_000, RunStatus::Failed, Value::Null, 2, (1, 1));

    begin("1m8aaaaaa-00001", RunKind::Run, "demo:market-scan@0.1.0", 1_201_000);

    let scan = "1m8aaaaaa-00003";
    let at = now - 301_000;
    begin(scan, RunKind::Run, "demo:market-scan@0.1.0", 301_000);
    task(scan, "root", "demo:market-scan@0.1.0", (at, at + 62_000), &done, 1);
    task(
        scan,
        "root/0",
        "demo:compare@0.1.0",
        (at + 1_000, at + 45_000),
        &done,
        3,
    );
    task(
        scan,
        "root/1",
        "demo:compare@0.1.0",
        (at + 1_000, at + 31_000),
        &done,
        3,
    );
    end(scan, at + 62_000, RunStatus::Done, done, 7, (3, 0));
}

#[test]
fn the_list_of_runs() {
    // With a file of its own, the journal is beside it.
    let machine = machine().config("");
    record(&machine);
    let _filters = recorded();
    insta::assert_snapshot!(screen(&machine, NARROW, &["runs"], 0), @"
    RUN              AGE         PLUGIN               STATE          COST       TIME
    1m8aaaaaa-00003  5 min ago   demo:market-scan@…   done         $17.50  1 min 2 s
    1m8aaaaaa-00001  20 min ago  demo:market-scan@…   interrupted       -          -
    1m8aaaaaa-00002  2 h ago     demo:triage@0.1.0    failed        $5.00  1 min 2 s
    ");
    insta::assert_snapshot!(screen(&machine, WIDE, &["runs"], 0), @"
    RUN              STARTED (UTC)        AGE         KIND   PLUGIN                  STATE          TASKS     TOKENS    COST       TIME
    1m8aaaaaa-00003  [when it started]    5 min ago   run    demo:market-scan@0.1.0  done               3  8,672,216  $17.50  1 min 2 s
    1m8aaaaaa-00001  [when it started]    20 min ago  run    demo:market-scan@0.1.0  interrupted        -          -       -          -
    1m8aaaaaa-00002  [when it started]    2 h ago     batch  demo:triage@0.1.0       failed       2 items  2,477,776   $5.00  1 min 2 s
    ");
}

#[test]
fn the_page_of_a_run() {
    // With a file of its own, the journal is beside it.
    let machine = machine().config("");
    record(&machine);
    let _filters = recorded();
    insta::assert_snapshot!(screen(&machine, NARROW, &["show", "1m8aaaaaa-00003"], 0), @"
    run      1m8aaaaaa-00003 (done)
    plugin   demo:market-scan@0.1.0, digest 5eed5eed5eed
    started  [when it started]   UTC, 5 min ago
    took     1 min 2 s
    spent    8,641,969 tokens in (0 cached), 30,247 out, 7 calls, cost $17.50
    model    fast = local/small: 7 calls, 7 requests

    TASK      PLUGIN                  OUTCOME       TIME     TOKENS   COST  WHY
    root      demo:market-scan@0.1.0  ok       1 min 2 s  1,238,888  $2.50
      root/0  demo:compare@0.1.0      ok          44.0 s  3,716,664  $7.50
      root/1  demo:compare@0.1.0      ok          30.0 s  3,716,664  $7.50

                                 0                              1 min 2 s
    root demo:market-scan@0.1.0  ████████████████████████████████████████  1 min 2 s
    root/0 demo:compare@0.1.0    █████████████████████████████                44.0 s
    root/1 demo:compare@0.1.0    ████████████████████                         30.0 s

    it made no model calls that were timed, so sub-agents do not pay here
    ");
    insta::assert_snapshot!(screen(&machine, WIDE, &["show", "1m8aaaaaa-00003"], 0), @"
    run      1m8aaaaaa-00003 (done)
    plugin   demo:market-scan@0.1.0, digest 5eed5eed5eed
    started  [when it started]   UTC, 5 min ago
    took     1 min 2 s
    spent    8,641,969 tokens in (0 cached), 30,247 out, 7 calls, cost $17.50
    model    fast = local/small: 7 calls, 7 requests

    TASK      PLUGIN                  OUTCOME       TIME     TOKENS   COST  WHY
    root      demo:market-scan@0.1.0  ok       1 min 2 s  1,238,888  $2.50
      root/0  demo:compare@0.1.0      ok          44.0 s  3,716,664  $7.50
      root/1  demo:compare@0.1.0      ok          30.0 s  3,716,664  $7.50

                                 0                                                                                                                                                      1 min 2 s
    root demo:market-scan@0.1.0  ████████████████████████████████████████████████████████████████████████████████████████████████████████████████████████████████████████████████████████████████  1 min 2 s
    root/0 demo:compare@0.1.0      ██████████████████████████████████████████████████████████████████████████████████████████████████████████████████                                                 44.0 s
    root/1 demo:compare@0.1.0      ██████████████████████████████████████████████████████████████████████████████                                                                                     30.0 s

    it made no model calls that were timed, so sub-agents do not pay here
    ");
    insta::assert_snapshot!(screen(&machine, NARROW, &["show", "1m8aaaaaa-00002"], 0), @"
    run      1m8aaaaaa-00002 (failed)
    plugin   demo:triage@0.1.0, digest 5eed5eed5eed
    started  [when it started]   UTC, 2 h ago
    took     1 min 2 s
    spent    2,469,134 tokens in (0 cached), 8,642 out, 2 calls, cost $5.00
    model    fast = local/small: 2 calls, 2 requests

    tasks: 1 failed, 1 ok

    TASK    PLUGIN             OUTCOME       TIME     TOKENS   COST  WHY
    root/1  demo:triage@0.1.0  failed   1 min 2 s  1,238,888  $2.50  the ticket has…

                              0                                 1 min 2 s
    root/0 demo:triage@0.1.0  ██                                              3.00 s
    root/1 demo:triage@0.1.0  ███████████████████████████████████████████  1 min 2 s

    it made no model calls that were timed, so sub-agents do not pay here
    ");
    insta::assert_snapshot!(screen(&machine, WIDE, &["show", "1m8aaaaaa-00002"], 0), @"
    run      1m8aaaaaa-00002 (failed)
    plugin   demo:triage@0.1.0, digest 5eed5eed5eed
    started  [when it started]   UTC, 2 h ago
    took     1 min 2 s
    spent    2,469,134 tokens in (0 cached), 8,642 out, 2 calls, cost $5.00
    model    fast = local/small: 2 calls, 2 requests

    tasks: 1 failed, 1 ok

    TASK    PLUGIN             OUTCOME       TIME     TOKENS   COST  WHY
    root/1  demo:triage@0.1.0  failed   1 min 2 s  1,238,888  $2.50  the ticket has no text, and the page that it names cannot be read

                              0                                                                                                                                                         1 min 2 s
    root/0 demo:triage@0.1.0  ███████                                                                                                                                                                 3.00 s
    root/1 demo:triage@0.1.0  ███████████████████████████████████████████████████████████████████████████████████████████████████████████████████████████████████████████████████████████████████  1 min 2 s

    it made no model calls that were timed, so sub-agents do not pay here
    ");
}

/// A server that answers the questions and not what is asked after them.
fn answers_questions() -> Server {
    Server::start(
        |request: &Request| match request.prompt().contains("Answer the question") {
            true => Reply::text("An answer.").usage(1_000, 100),
            false => Reply::text("A summary.").held(&Gate::default()),
        },
    )
}

fn scan(machine: &TestEnv, (columns, rows): (u16, u16)) -> OnTerminal {
    let input = json!({"companies": ["Acme", "Bolt", "Cog"], "questions": ["What do they sell?"]}).to_string();
    let market_scan = plugin("market-scan").display().to_string();
    machine.start_on_terminal(columns, rows, ["run", &market_scan, "-i", &input, "--cost", "5"])
}

/// The screen once all lanes wait for their second answer, and the screen after Ctrl-C.
fn fan_out(size: (u16, u16)) -> (String, String) {
    let server = answers_questions();
    let machine = machine_at(&server).config(&format!("{}{PRICES}", server.config()));
    let started = scan(&machine, size);
    let lines = started.screen.wait_for("the summaries", |lines| {
        let asking = |line: &&String| line.contains("asking local/") && line.contains("$0.003");
        lines.iter().filter(asking).count() == 3
    });
    let running = text(&lines, size.0);
    started.running.interrupt();
    let (code, screen) = started.finish();
    assert_eq!(code, 130, "{screen:?}");
    assert_eq!(hidden(&screen.written), Vec::<String>::new());
    (running, text(&screen.lines, size.0))
}

#[test]
fn a_fan_out_and_ctrl_c() {
    let _filters = live();
    let (running, interrupted) = fan_out(NARROW);
    insta::assert_snapshot!(running, @"
    estimate: no earlier runs, at worst $4.00, at most 100 sub-agents
    * root  demo:market-scan@0.2.0  waiting for 3 of 3 sub-tasks  [time]
        root/0  demo:competitor@0.2.0  asking local/small  $0.003  [time]
        root/1  demo:competitor@0.2.0  asking local/small  $0.003  [time]
        root/2  demo:competitor@0.2.0  asking local/small  $0.003  [time]
    ");
    insta::assert_snapshot!(interrupted, @r#"
    estimate: no earlier runs, at worst $4.00, at most 100 sub-agents
    --- log of root/0 (demo:competitor@0.2.0)
      the model call is denied: demo:competitor is not granted web-search; to allow
      it, add server-tools = { web-search = {} } to [grants."demo:competitor"]; it
      is sent again without web-search
    --- log of root/1 (demo:competitor@0.2.0)
      the model call is denied: demo:competitor is not granted web-search; to allow
      it, add server-tools = { web-search = {} } to [grants."demo:competitor"]; it
      is sent again without web-search
    --- log of root/2 (demo:competitor@0.2.0)
      the model call is denied: demo:competitor is not granted web-search; to allow
      it, add server-tools = { web-search = {} } to [grants."demo:competitor"]; it
      is sent again without web-search
    error: task root (demo:market-scan@0.2.0): cancelled: the task was cancelled
    run [the run's id]: 6 calls, 4,861 tokens in, 4,800 out, $0.058653, [time]
    note: what was paid for is kept; go on with `agenthost resume [the run's id]`
    "#);
    let (running, interrupted) = fan_out(WIDE);
    insta::assert_snapshot!(running, @"
    estimate: no earlier runs, at worst $4.00, at most 100 sub-agents
    * root  demo:market-scan@0.2.0  waiting for 3 of 3 sub-tasks  [time]
        root/0  demo:competitor@0.2.0  asking local/small  1 call  1,100 tokens  $0.003  [time]
        root/1  demo:competitor@0.2.0  asking local/small  1 call  1,100 tokens  $0.003  [time]
        root/2  demo:competitor@0.2.0  asking local/small  1 call  1,100 tokens  $0.003  [time]
    ");
    insta::assert_snapshot!(interrupted, @r#"
    estimate: no earlier runs, at worst $4.00, at most 100 sub-agents
    --- log of root/0 (demo:competitor@0.2.0)
      the model call is denied: demo:competitor is not granted web-search; to allow it, add server-tools = { web-search = {} } to [grants."demo:competitor"]; it is sent again without web-search
    --- log of root/1 (demo:competitor@0.2.0)
      the model call is denied: demo:competitor is not granted web-search; to allow it, add server-tools = { web-search = {} } to [grants."demo:competitor"]; it is sent again without web-search
    --- log of root/2 (demo:competitor@0.2.0)
      the model call is denied: demo:competitor is not granted web-search; to allow it, add server-tools = { web-search = {} } to [grants."demo:competitor"]; it is sent again without web-search
    error: task root (demo:market-scan@0.2.0): cancelled: the task was cancelled
    run [the run's id]: 6 calls, 4,861 tokens in, 4,800 out, $0.058653, [time]
    note: what was paid for is kept; go on with `agenthost resume [the run's id]`
    "#);
}

fn items(machine: &TestEnv, count: usize) -> [String; 3] {
    let lines = (0..count).map(|n| format!("{}\n", questions(&[&format!("say {n}")], "parallel")));
    machine.write("items.jsonl", lines.collect::<String>());
    ["batch", &guest("asks"), "items.jsonl"].map(str::to_owned)
}

#[test]
fn a_finished_batch() {
    let server = Server::start(|_| Reply::text("An answer.").usage(1_000, 100));
    let machine = machine_at(&server).config(&format!("{}{PRICES}", server.config()));
    let [batch, asks, file] = items(&machine, 12);
    let args = [&batch[..], &asks, &file, "--output", "out.jsonl"];
    let _filters = live();
    insta::assert_snapshot!(screen(&machine, NARROW, &args, 0), @"
    estimate: 12 tasks, no earlier runs, at worst $48.00
    run [the run's id]: 12 items: 12 ok; 12 calls, 12,000 tokens in, 1,200 out,
      $0.036, [time], [rate]
    ");
    insta::assert_snapshot!(screen(&machine, WIDE, &args, 0), @"
    estimate: 12 tasks, typically $0.036 (from 12 tasks of the last run), at worst $48.00
    run [the run's id]: 12 items: 12 ok; 12 calls, 12,000 tokens in, 1,200 out, $0.036, [time], [rate]
    ");
}

/// The screen of a batch with all workers in a request, and the screen after Ctrl-C.
fn batch(size: (u16, u16)) -> (String, String) {
    let server = Server::start(|_| Reply::text("An answer.").held(&Gate::default()));
    let machine = machine_at(&server).config(&format!("{}{PRICES}", server.config()));
    let args = items(&machine, 20);
    let more = ["--workers", "4", "--output", "out.jsonl"].map(str::to_owned);
    let started = machine.start_on_terminal(size.0, size.1, [&args[..], &more[..]].concat());
    server.wait_until("four requests", |seen| seen.len() == 4);
    let lines = started.screen.wait_for("the line", |lines| {
        lines.last().is_some_and(|line| line.contains("4 of 4 workers"))
    });
    let running = text(&lines, size.0);
    started.running.interrupt();
    let (code, screen) = started.finish();
    assert_eq!(code, 130, "{screen:?}");
    (running, text(&screen.lines, size.0))
}

#[test]
fn a_batch_and_ctrl_c() {
    let _filters = live();
    let (running, interrupted) = batch(NARROW);
    insta::assert_snapshot!(running, @"
    estimate: 20 tasks, no earlier runs, at worst $80.00
    * --------------------  0/20  0 tokens  $0.00  4 of 4 workers  [time]
    ");
    insta::assert_snapshot!(interrupted, @"
    estimate: 20 tasks, no earlier runs, at worst $80.00
    run [the run's id]: 20 items: 0 ok, 4 cut off, 16 not started; 4 calls, 300
      tokens in, 400 out, $0.00475, [time], [rate]
    note: 4 calls in flight were given up, counted as 700 tokens
    note: 16 items not started and 4 items cut off, because it was interrupted
    note: what was paid for is kept; run the rest with `agenthost resume
      [the run's id]`
    ");
    let (running, interrupted) = batch(WIDE);
    insta::assert_snapshot!(running, @"
    estimate: 20 tasks, no earlier runs, at worst $80.00
    * --------------------  0/20  0 tokens  $0.00  4 of 4 workers  [time]
    ");
    insta::assert_snapshot!(interrupted, @"
    estimate: 20 tasks, no earlier runs, at worst $80.00
    run [the run's id]: 20 items: 0 ok, 4 cut off, 16 not started; 4 calls, 300 tokens in, 400 out, $0.00475, [time], [rate]
    note: 4 calls in flight were given up, counted as 700 tokens
    note: 16 items not started and 4 items cut off, because it was interrupted
    note: what was paid for is kept; run the rest with `agenthost resume [the run's id]`
    ");
}
