//! Batches that stop before their end, and those that have nothing left to do: no result is ever lost, and the reason is
//! shown at once and the next morning.

use std::collections::BTreeSet;

use agenthost_tests::env::{Output, TestEnv};
use agenthost_tests::server::{Gate, Reply, Request, Server};
use serde_json::{Value, json};

use crate::{guest, machine, machine_for};

const OWN: &str = "../config/agenthost/config.toml";

/// Repeats its prompt, for 60 tokens.
fn echo(request: &Request) -> Reply {
    Reply::text(request.prompt()).usage(40, 20)
}

fn priced(server: &Server) -> String {
    let price = |model: &str| format!("[prices.\"local/{model}\"]\ninput = 10\noutput = 20\n");
    format!("{}{}{}", server.config(), price("small"), price("large"))
}

fn machine_of(config: &str, items: usize) -> TestEnv {
    let machine = machine_for(config);
    let items: String = (0..items).map(|n| format!("\"say {n}\"\n")).collect();
    machine.write("items.jsonl", items);
    machine
}

fn batch<'a>(machine: &TestEnv, out: &'a str, more: &[&'a str]) -> Output {
    let leaf = guest("leaf");
    let args = ["batch", &leaf, "items.jsonl", "-o", out, "--workers", "1"];
    machine.run(args.iter().chain(more).copied())
}

fn file(machine: &TestEnv, name: &str) -> String {
    std::fs::read_to_string(machine.cwd().join(name)).unwrap()
}

/// The indexes of the items with an output in the file `out.jsonl`.
fn done(machine: &TestEnv) -> BTreeSet<u64> {
    let lines = file(machine, "out.jsonl");
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let done = lines.filter(|line| line["outcome"]["ok"].is_string());
    done.map(|line| line["index"].as_u64().unwrap()).collect()
}

fn last_run(machine: &TestEnv) -> Value {
    machine.run(["runs", "--json"]).json(0)["runs"][0].clone()
}

#[test]
fn a_batch_with_nothing_left_to_do_is_left_as_it_is_whatever_limits_it_is_resumed_with() {
    for out in ["out.jsonl", "out.csv"] {
        let server = Server::start(echo);
        let machine = machine_of(&priced(&server), 12);
        assert_eq!(batch(&machine, out, &["--run-calls", "4"]).code, 3);
        let rest = machine.run(["resume", "last", "--run-calls", "none"]);
        assert_eq!((rest.code, server.count()), (0, 12), "{rest}");
        let (run, lines) = (last_run(&machine), file(&machine, out));
        let changed = || std::fs::metadata(machine.cwd().join(out)).unwrap().modified().unwrap();
        let before = changed();
        for more in [
            &[][..],
            &["--run-calls", "1"],
            &["--run-cost", "0.0001"],
            &["--run-tokens", "1k"],
            &["--failed"],
        ] {
            let again = machine.run(["resume", "last"].iter().chain(more).copied());
            assert_eq!(again.code, 0, "{more:?}: {again}");
            assert!(again.stderr.contains("has ended; nothing is run again"), "{again}");
            assert!(
                again.stderr.contains("12 items: 12 ok, 12 recorded before; 12 calls"),
                "{again}"
            );
            assert!(
                !again.stderr.contains("items/s") && !again.stderr.contains("error"),
                "{again}"
            );
            assert_eq!((last_run(&machine), file(&machine, out)), (run.clone(), lines.clone()));
            assert_eq!(changed(), before, "it is not written again");
        }
        // A file that is gone is written again from the record.
        std::fs::remove_file(machine.cwd().join(out)).unwrap();
        assert_eq!(machine.run(["resume", "last"]).code, 0);
        assert_eq!((last_run(&machine), file(&machine, out)), (run, lines));
        assert_eq!(server.count(), 12);
    }
}

#[test]
fn a_limit_below_what_was_spent_keeps_all_results() {
    let server = Server::start(echo);
    let machine = machine_of(&priced(&server), 20);
    assert_eq!(batch(&machine, "out.jsonl", &["--run-calls", "8"]).code, 3);
    let eight: BTreeSet<u64> = (0..8).collect();
    assert_eq!(done(&machine), eight);
    for more in [["--run-calls", "2"], ["--run-tokens", "100"], ["--run-cost", "0.0001"]] {
        let still = machine.run(["resume", "last"].iter().chain(&more).copied());
        assert_eq!((still.code, server.count()), (3, 8), "{still}");
        assert!(
            still
                .stderr
                .contains("20 items: 8 ok, 12 not started, 8 recorded before"),
            "{still}"
        );
        assert_eq!(done(&machine), eight, "{still}");
    }
}

/// The failed items come first, so that recorded ones follow those that are left.
#[test]
fn a_refused_key_keeps_the_results_behind_the_first_item_that_it_stops() {
    let server = Server::start(|request| match request.header("x-api-key") {
        Some("right") if request.prompt() == "say 0" => Reply::error(500, "api_error", "boom"),
        Some("right") => echo(request),
        _ => Reply::error(401, "authentication_error", "invalid x-api-key"),
    });
    let machine = machine_of(&server.anthropic_config(), 12).var("ANTHROPIC_API_KEY", "right");
    let first = batch(&machine, "out.jsonl", &[]);
    assert_eq!(first.code, 1, "{first}");
    assert!(
        first
            .stderr
            .contains("1 item failed because of the model; `agenthost resume "),
        "{first}"
    );
    let others: BTreeSet<u64> = (1..12).collect();
    assert_eq!(done(&machine), others);

    let machine = machine.var("ANTHROPIC_API_KEY", "wrong");
    let refused = machine.run(["resume", "last"]);
    assert_eq!(refused.code, 1, "{refused}");
    assert!(refused.stderr.contains("because a key was refused: "), "{refused}");
    assert!(
        refused
            .stderr
            .contains("12 items: 11 ok, 1 cut off, 11 recorded before"),
        "{refused}"
    );
    assert_eq!(done(&machine), others, "{refused}");

    let shown = machine.run(["show", "last"]);
    assert!(shown.stdout.contains("stopped  because a key was refused: "), "{shown}");
    assert!(shown.stdout.contains("go on    agenthost resume "), "{shown}");
}

#[test]
fn a_used_up_allowance_keeps_the_results_of_a_part() {
    let server = Server::start(echo);
    let machine = machine_of(&priced(&server), 20);
    let part = ["--shard", "2/2", "--run-calls", "4"];
    assert_eq!(batch(&machine, "out.jsonl", &part).code, 3);
    let four: BTreeSet<u64> = (10..14).collect();
    assert_eq!(done(&machine), four);
    machine.write(OWN, "[allowance]\ntokens-per-day = 1\n");
    let still = machine.run(["resume", "last", "--run-calls", "none"]);
    assert_eq!((still.code, server.count()), (3, 4), "{still}");
    assert!(
        still
            .stderr
            .contains("because your allowance `tokens-per-day` is used up"),
        "{still}"
    );
    assert_eq!(done(&machine), four, "{still}");
    let run = last_run(&machine);
    assert_eq!(
        (&run["state"], &run["stopped"]["reason"]),
        (&json!("failed"), &json!("limit"))
    );
    assert_eq!(run["counts"], json!({"tasks": 4, "ok": 4, "failed": 0}));
    assert_eq!(
        run["stopped"]["owner"],
        json!({"allowance": {"key": "tokens-per-day", "project": false}})
    );
}

#[test]
fn a_file_is_left_as_it_was_if_no_item_comes_to_an_end() {
    let server = Server::start(|_| Reply::error(401, "authentication_error", "invalid x-api-key"));
    let machine = machine_of(&server.anthropic_config(), 20).var("ANTHROPIC_API_KEY", "wrong");
    machine.write("out.jsonl", "precious\n");
    let refused = batch(&machine, "out.jsonl", &["-q"]);
    assert_eq!(refused.code, 1, "{refused}");
    assert_eq!(file(&machine, "out.jsonl"), "precious\n");
    assert!(
        refused
            .stderr
            .starts_with("error: 19 items not started and 1 item cut off, because a key was refused: "),
        "{refused}"
    );
    assert!(
        refused.stderr.contains("hint: nothing was paid; run the rest with"),
        "{refused}"
    );

    let server = Server::start(echo);
    let machine = machine_of(&priced(&server), 20);
    machine.write("out.jsonl", "precious\n");
    machine.write(OWN, "[allowance]\ntokens-per-day = 60\n");
    let little = batch(&machine, "out.jsonl", &[]);
    assert_eq!((little.code, server.count()), (3, 0), "{little}");
    assert!(
        little.stderr.contains("hint: nothing was paid; raise `tokens-per-day`"),
        "{little}"
    );
    assert_eq!(file(&machine, "out.jsonl"), "precious\n");

    machine.write(OWN, "[allowance]\ntokens-per-day = 1000\n");
    assert_eq!(batch(&machine, "other.jsonl", &["--limit", "3"]).code, 0);
    machine.write(OWN, "[allowance]\ntokens-per-day = 180\n");
    let runs = machine.run(["runs", "--json"]).json(0)["runs"].clone();
    let used_up = batch(&machine, "out.jsonl", &[]);
    assert_eq!((used_up.code, server.count()), (3, 3), "{used_up}");
    assert!(
        used_up
            .stderr
            .starts_with("error: your allowance `tokens-per-day` is used up, so nothing was started"),
        "{used_up}"
    );
    assert_eq!(machine.run(["runs", "--json"]).json(0)["runs"], runs, "it is no run");
    assert_eq!(file(&machine, "out.jsonl"), "precious\n");
    let document = batch(&machine, "out.jsonl", &["--json"]);
    assert_eq!(document.json(3)["error"]["class"], "exhausted");
}

#[test]
fn the_estimate_shows_what_is_left_of_an_allowance() {
    let server = Server::start(echo);
    let machine = machine_of(&priced(&server), 3);
    let leaf = guest("leaf");
    machine.write(OWN, "[allowance]\ntokens-per-day = 5000\ncost-per-month = 1\n");
    let (code, screen) = machine.on_terminal(["batch", &leaf, "items.jsonl", "-o", "out.jsonl"]);
    assert_eq!(code, 0, "{screen}");
    let screen = screen.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        screen.contains(", left today: 5,000 tokens, left this month: $1.00"),
        "{screen}"
    );
}

#[test]
fn two_columns_of_one_name_are_a_fault_of_the_header() {
    let machine = machine();
    machine.write("items.csv", "a,b,a\n1,2,3\n");
    let refused = machine.run(["batch", &guest("misbehaves"), "items.csv"]);
    let said = refused.error(2);
    assert!(
        said.contains("the header: two columns are named a") && said.contains("hint: Correct the first line"),
        "{said}"
    );
}

#[test]
fn a_plan_explains_items_that_do_not_fit_as_a_batch_does() {
    let machine = machine();
    let triage = agenthost_tests::guests::plugin("triage").display().to_string();
    machine.write("items.csv", "id;subject;text\n1;a;b\n");
    let whole = machine.run(["plan", &triage, "--items", "items.csv"]);
    assert!(
        whole.error(2).contains("hint: The plugin takes a list: --size N"),
        "{whole}"
    );
    let commas = [
        "plan",
        &triage,
        "--items",
        "items.csv",
        "--size",
        "5",
        "--delimiter",
        "comma",
    ];
    let said = machine.run(commas);
    assert!(
        said.error(2)
            .contains("hint: With this --delimiter, the items have one column"),
        "{said}"
    );
    let sized = machine.run(["plan", &triage, "--items", "300", "--size", "10"]);
    assert!(sized.stdout.contains("one task  30 tasks (300 items)"), "{sized}");
}

#[test]
fn an_allowance_in_money_needs_a_price() {
    let server = Server::start(echo);
    let machine = machine_of(&server.config(), 20);
    machine.write(OWN, "[allowance]\ncost-per-month = \"$1\"\n");
    let refused = batch(&machine, "out.jsonl", &[]);
    let said = refused.error(2);
    for part in [
        "local/",
        "no known price",
        "`cost-per-month` under [allowance]",
        "[prices.\"local/",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(server.count(), 0);
    assert!(!machine.cwd().join("out.jsonl").exists());
    let doctor = machine.run(["doctor"]);
    assert!(
        doctor
            .stdout
            .contains("`cost-per-month` under [allowance] needs its price"),
        "{doctor}"
    );
}

#[test]
fn the_reason_of_a_stop_is_shown_with_quiet_and_the_next_morning() {
    let server = Server::start(echo);
    let machine = machine_of(&priced(&server), 20);
    let stopped = batch(&machine, "out.jsonl", &["--run-calls", "5", "-q"]);
    assert_eq!(stopped.code, 3, "{stopped}");
    assert!(
        stopped
            .stderr
            .starts_with("error: 15 items not started, because the limit of model calls"),
        "{stopped}"
    );
    assert!(
        stopped
            .stderr
            .contains("hint: what was paid for is kept; run the rest with"),
        "{stopped}"
    );
    let shown = machine.run(["show", "last"]);
    for part in [
        "(stopped)",
        "stopped  because the limit of model calls of all items together is reached (5)\n",
        "go on    agenthost resume ",
        " --run-calls MORE\n",
    ] {
        assert!(shown.stdout.contains(part), "{part}: {shown}");
    }
    let runs = machine.run(["runs"]);
    assert!(
        runs.stdout.contains(" stopped ") && runs.stdout.contains(" 5 items "),
        "{runs}"
    );
    let run = last_run(&machine);
    assert_eq!(run["counts"], json!({"tasks": 5, "ok": 5, "failed": 0}));
    assert_eq!(run["stopped"]["limit"], "calls");
}

#[test]
fn a_termination_and_a_hangup_stop_a_batch_and_a_run_as_the_first_interrupt_does() {
    for name in ["TERM", "HUP"] {
        let gate = Gate::default();
        let held = gate.clone();
        let server = Server::start(move |request| match request.prompt().as_str() {
            "say 0" => echo(request),
            _ => echo(request).held(&held),
        });
        let machine = machine_of(&priced(&server), 9);
        let leaf = guest("leaf");
        let args = ["batch", &leaf, "items.jsonl", "-o", "out.jsonl", "--workers", "1"];
        let running = machine.start(args, None);
        server.wait_until("a second request", |seen| seen.len() == 2);
        running.signal(name);
        let output = running.finish();
        assert_eq!(output.code, 130, "{name}: {output}");
        assert!(
            output
                .stderr
                .contains("7 items not started and 1 item cut off, because it was interrupted"),
            "{output}"
        );
        assert!(
            output.stderr.contains("1 call in flight was given up, counted as "),
            "{output}"
        );
        assert_eq!(done(&machine), BTreeSet::from([0]));

        let running = machine.start(["run", &leaf, "--input", "\"say 1\""], None);
        server.wait_until("a request", |seen| seen.len() == 3);
        running.signal(name);
        let output = running.finish();
        assert_eq!(output.code, 130, "{name}: {output}");
        assert!(output.stderr.contains("go on with `agenthost resume "), "{output}");
        gate.open();
    }
}

#[test]
fn a_closed_pipe_ends_a_batch_quietly() {
    let server = Server::start(echo);
    let machine = machine_of(&priced(&server), 30);
    let leaf = guest("leaf");
    let command = format!("agenthost batch {leaf} items.jsonl --workers 1 2> said.txt | head -1 > one.txt");
    machine.shell(&machine.cwd(), &command, 0);
    assert_eq!(file(&machine, "one.txt").lines().count(), 1);
    let said = file(&machine, "said.txt");
    assert!(!said.contains("error:") && !said.contains("fault"), "{said}");
}

#[test]
fn failures_that_differ_only_in_numbers_count_together_and_single_ones_are_not_listed() {
    let machine = machine();
    machine.write("items.jsonl", "\"fail\"\n\"panic\"\n");
    let output = machine.run(["batch", &guest("misbehaves"), "items.jsonl"]);
    assert_eq!(output.code, 1, "{output}");
    assert!(!output.stderr.contains("most frequent"), "{output}");
}

#[test]
fn a_file_without_items_is_noted() {
    let machine = machine();
    machine.write("items.csv", "x,y\n");
    let output = machine.run(["batch", &guest("misbehaves"), "items.csv"]);
    assert_eq!(output.code, 0, "{output}");
    assert!(output.stderr.contains("note: items.csv has no items"), "{output}");
    assert!(!output.stderr.contains("items/s"), "{output}");
}

#[test]
fn a_run_that_is_not_there_is_looked_for_in_a_journal_with_a_name() {
    let server = Server::start(echo);
    let machine = machine_of(&priced(&server), 1);
    assert_eq!(batch(&machine, "out.jsonl", &[]).code, 0);
    for command in ["resume", "replay", "show"] {
        let missing = machine.run([command, "0none"]);
        let said = missing.error(2);
        assert!(said.contains("journal.db: no run is called `0none`"), "{said}");
    }
}
