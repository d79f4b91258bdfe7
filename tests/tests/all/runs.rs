//! The journal's list of runs, also on a machine that has not run anything yet.

use agenthost::journal::sqlite::Sqlite;
use agenthost::journal::{JournalEntry, JournalStore, RunEnd, RunKind, RunRecord, RunStatus, TaskEnd};
use agenthost_tests::env::TestEnv;
use serde_json::{Value, json};

use crate::{guest, machine};

/// A second before this, the first run began.
const START: u64 = 1_795_419_207_000;

/// Writes a run of `plugin` that starts two tasks at once, with an end unless it was cut off.
fn record(machine: &TestEnv, run: &str, plugin: &str, started_ms: u64, ended: bool) {
    let journal = Sqlite::open(&machine.cwd().join(".agenthost/journal.db")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let write = |entry| runtime.block_on(journal.append(entry)).unwrap();
    let spent = json!({"input_tokens": 1_000, "cached_input_tokens": 0, "output_tokens": 234, "cost_usd": 0.5, "calls": 2,
        "fuel": 1, "peak_memory_bytes": 1, "wall_ms": 2_500});
    write(JournalEntry::RunStarted(RunRecord {
        id: run.into(),
        kind: RunKind::Run,
        plugin: plugin.into(),
        digest: "0123456789abcdef".repeat(4),
        seed: [7; 32],
        clock_ms: started_ms,
        started_ms,
        command: json!({}),
        // The largest that Linux gives, plus one.
        pid: 4_194_305,
        end: None,
    }));
    for (task, failed) in [("root", false), ("root/0", false), ("root/1", true)] {
        write(JournalEntry::TaskStarted {
            run: run.into(),
            task: task.into(),
            plugin: plugin.into(),
            digest: "ab".repeat(32),
            input: Some(json!({"company": "Acme"})),
            at_ms: started_ms,
        });
        if task != "root" {
            write(JournalEntry::RequestSent {
                run: run.into(),
                task: task.into(),
                ask: 0,
                model: "local/small".into(),
                at_ms: started_ms + 100,
            });
            write(JournalEntry::RequestEnded {
                run: run.into(),
                task: task.into(),
                ask: 0,
                request: None,
                at_ms: started_ms + 2_100,
            });
        }
        let outcome = match failed {
            true => json!({"failure": {"class": "model", "message": "no answer"}}),
            false => json!({"ok": "fine"}),
        };
        if task != "root" || ended {
            let report = json!({"id": task, "plugin": plugin, "outcome": outcome, "spent": spent});
            write(JournalEntry::TaskEnded {
                run: run.into(),
                task: task.into(),
                end: TaskEnd {
                    ended_ms: started_ms + 2_400,
                    report: serde_json::from_value(report).unwrap(),
                    returned: None,
                    models: Vec::new(),
                },
            });
        }
    }
    if ended {
        let summary = json!({"outcome": {"ok": "fine"}, "spent": spent, "models": [],
            "counts": {"tasks": 3, "ok": 2, "failed": 1}});
        write(JournalEntry::RunEnded {
            run: run.into(),
            end: RunEnd {
                ended_ms: started_ms + 2_500,
                state: RunStatus::Done,
                summary: serde_json::from_value(summary).unwrap(),
            },
        });
    }
}

fn project() -> TestEnv {
    machine().config("")
}

fn ids(runs: &Value) -> Vec<&str> {
    let runs = runs["runs"].as_array().unwrap();
    runs.iter().map(|run| run["id"].as_str().unwrap()).collect()
}

#[test]
fn recorded_runs_are_listed_the_latest_first() {
    let machine = project();
    record(&machine, "1m8aaaaaa-00001", "guests:asks@0.1.0", START, true);
    record(&machine, "1m8bbbbbb-00002", "guests:asks@0.1.0", START + 60_000, false);
    let table = machine.run(["runs"]);
    assert_eq!((table.code, table.stderr.as_str()), (0, ""), "{table}");
    let rows: Vec<Vec<&str>> = table
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), 3, "{table}");
    assert_eq!(rows[1][..3], ["1m8bbbbbb-00002", "2026-11-23", "07:34:27"], "{table}");
    assert!(
        rows[1].contains(&"interrupted") && rows[1].ends_with(&["-", "-", "-", "-"]),
        "{table}"
    );
    assert!(
        rows[2].ends_with(&["done", "3", "1,234", "$0.50", "2.50", "s"]),
        "{table}"
    );

    let runs = machine.run(["runs", "--json"]).json(0);
    assert_eq!(ids(&runs), ["1m8bbbbbb-00002", "1m8aaaaaa-00001"]);
    assert_eq!(runs["runs"][1]["spent"]["cost_usd"], 0.5);
    assert_eq!(runs["runs"][0]["state"], "interrupted");
    assert_eq!(
        ids(&machine.run(["runs", "--json", "--limit", "1"]).json(0)),
        ["1m8bbbbbb-00002"]
    );
}

#[test]
fn a_run_is_shown_with_what_ran_at_once() {
    let machine = project();
    record(&machine, "1m8aaaaaa-00001", "guests:asks@0.1.0", START, true);
    let shown = machine.run(["show", "last", "--json"]).json(0);
    assert_eq!(shown["run"]["id"], "1m8aaaaaa-00001");
    assert_eq!(shown["classes"], json!({"ok": 2, "model": 1}));
    assert_eq!(shown["tasks"][2]["outcome"]["failure"]["message"], "no answer");
    assert_eq!(shown["calls"].as_array().unwrap().len(), 2);
    assert_eq!(
        shown["parallel"],
        json!({"sequential_ms": 4_000, "elapsed_ms": 2_000, "factor": 2.0, "verdict": "faster", "worth_it": true, "note": ""})
    );
    let page = machine.run(["show", "1m8a"]);
    assert_eq!(page.code, 0, "{page}");
    for part in [
        "1m8aaaaaa-00001 (done)",
        "\n  root/1  guests:asks@0.1.0  model",
        "\nroot/0 #0 local/small  ██",
        "they took 2.00 s: 2.0 times faster",
    ] {
        assert!(page.stdout.contains(part), "{part:?} in {page}");
    }
    assert!(
        !page.stdout.contains('\u{1b}'),
        "nothing shines where nobody watches: {page}"
    );
    let one = machine.run(["show", "1m8a", "--task", "root/1", "--json"]).json(0);
    assert_eq!(one["task"]["input"], json!({"company": "Acme"}));
    assert_eq!(one["tasks"].as_array().unwrap().len(), 1);
    machine.run(["show", "1m8a", "--task", "root/9"]).error(2);
    machine.run(["show", "2"]).error(2);
}

#[test]
fn old_runs_are_removed_when_asked() {
    let machine = project();
    for n in 0..4 {
        record(
            &machine,
            &format!("1m8-{n}"),
            "guests:asks@0.1.0",
            START + n * 1_000,
            n != 2,
        );
    }
    let dry = machine.run(["runs", "prune", "--keep", "1", "--dry-run"]);
    assert_eq!(
        dry.stdout
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect::<Vec<_>>(),
        ["1m8-2", "1m8-1", "1m8-0"]
    );
    assert_eq!(ids(&machine.run(["runs", "--json"]).json(0)).len(), 4, "it was dry");
    let pruned = machine.run(["runs", "prune", "--keep", "1"]);
    assert!(
        pruned.stderr.starts_with("note: removed 3 runs, which gave back "),
        "{pruned}"
    );
    assert_eq!(ids(&machine.run(["runs", "--json"]).json(0)), ["1m8-3"]);
}

#[test]
fn a_plan_knows_what_the_plugin_typically_takes() {
    let machine = machine().config("[models]\nfast = \"local/small\"\n[providers.local]\nkind = \"openai\"\nbase-url = \"http://127.0.0.1:9/v1\"\n");
    for n in 0..3 {
        record(&machine, &format!("1m8-{n}"), "guests:asks@0.1.0", START + n, n != 2);
    }
    record(&machine, "1m8-x", "guests:leaf@0.1.0", START, true);
    let plan = machine.run(["plan", &guest("asks"), "--json"]).json(0);
    let both = |value: Value| json!({"median": value, "p90": value, "mean": value});
    assert_eq!(
        plan["typical"],
        json!({"runs": 2, "tasks": 2, "tokens": both(json!(1_234)), "cost_usd": both(json!(0.5)),
            "wall_ms": both(json!(2_500)), "calls": both(json!(2)), "sub_tasks": both(json!(2)), "models": [],
            "fan_out": {"plugin": "guests:asks", "sub_tasks": 1, "least_tokens": 1_234}})
    );
    let page = machine.run(["plan", &guest("asks")]);
    assert!(page.stdout.contains("typical case, from the last 2 runs"), "{page}");
}

#[test]
fn before_the_first_run_there_are_none() {
    let machine = machine();
    let runs = machine.run(["runs"]);
    assert_eq!((runs.code, runs.stdout.as_str()), (0, ""), "{runs}");
    assert!(
        runs.stderr.starts_with("note: no runs yet: there is no journal at "),
        "{runs}"
    );
    assert!(
        runs.stderr.trim_end().ends_with("/state/agenthost/journal.db"),
        "{runs}"
    );
    assert_eq!(
        machine.run(["runs", "--json"]).json(0),
        json!({"format": 1, "runs": []})
    );
    let pruned = machine.run(["runs", "prune", "--older-than", "30d"]);
    assert_eq!(pruned.code, 0, "{pruned}");
    for id in ["last", "1m83dpd8k"] {
        let shown = machine.run(["show", id]);
        assert!(
            shown
                .error(2)
                .starts_with("error: no runs yet: there is no journal at "),
            "{shown}"
        );
    }
    let project = machine.config("[journal]\nfile = \"records/runs.db\"\n");
    assert!(project.run(["runs"]).stderr.contains("records/runs.db"));
    assert!(
        project
            .run(["runs", "--journal", "other.db"])
            .stderr
            .contains("other.db")
    );
    let project = project.config("[journal]\nenabled = false\n");
    assert!(
        project
            .run(["runs"])
            .stderr
            .contains("the journal is switched off in [journal]")
    );
    let project = project.config("[journal]\nfile = \"../runs.db\"\n");
    assert!(
        project
            .run(["runs"])
            .error(2)
            .contains("`file` in [journal] lies outside the folder")
    );
    assert!(!project.cwd().join(".agenthost").exists(), "reading makes no journal");
}

#[test]
fn pruning_needs_to_know_what_stays() {
    let machine = machine();
    for wrong in [
        vec!["runs", "prune"],
        vec!["runs", "prune", "--keep", "3", "--older-than", "3d"],
        vec!["runs", "prune", "--older-than", "a while"],
    ] {
        assert_eq!(machine.run(&wrong).code, 2, "{wrong:?}");
    }
}
