use serde_json::json;

use super::super::testing::{self, Fake};
use super::*;
use agenthost::journal::{JournalStore as _, RunKind, RunStatus};
use agenthost::task::FailureClass;

fn args(task: Option<&str>, all: bool) -> Args {
    Args {
        run: "last".into(),
        task: task.map(str::to_owned),
        all,
        json: false,
    }
}

/// Returns a journal of a root that starts two tasks at once, the second of which fails.
fn fan_out(end: Option<(RunStatus, u64, u64)>) -> Fake {
    Fake {
        runs: vec![testing::run("1m8-a", 1_000, end)],
        tasks: vec![
            testing::task("root", 1_000, end.map(|(_, ended, _)| ended), None),
            testing::task("root/0", 1_100, Some(3_100), None),
            testing::task("root/1", 1_100, Some(3_000), Some(FailureClass::Exhausted)),
        ],
        calls: vec![
            testing::call("root/0", 0, 1_100, Some(3_100)),
            testing::call("root/1", 0, 1_100, Some(3_100)),
            testing::call("root/1", 1, 3_000, None),
        ],
    }
}

fn with<T>(journal: &Fake, args: &Args, look: impl FnOnce(&Shown<'_>) -> T) -> T {
    let record = journal.find("last").unwrap();
    let run = Run::new(&record, 10_000, |_| false);
    look(&Shown::read(journal, run, args.task.as_deref(), args.all).unwrap())
}

#[test]
fn a_run_is_one_document() {
    let journal = fan_out(Some((RunStatus::Failed, 5_000, 3)));
    let document = with(&journal, &args(None, false), |shown| json!(shown.document()));
    assert_eq!(document["format"], 1);
    assert_eq!(document["run"]["id"], "1m8-a");
    assert_eq!(document["run"]["started"], "1970-01-01T00:00:01Z");
    assert_eq!(document["run"]["wall_ms"], 4_000);
    assert_eq!(document["run"]["spent"]["cost_usd"], 0.0123);
    assert_eq!(document["classes"], json!({"ok": 2, "exhausted": 1}));
    assert_eq!(
        document["tasks"][2],
        json!({
            "id": "root/1", "parent": "root", "plugin": "demo:leaf@0.1.0", "started_ms": 1_100, "ended_ms": 3_000,
            "wall_ms": 1_900,
            "outcome": {"failure": {"class": "exhausted", "message": "why\n\u{1b}[2Jnot", "limit": "calls"}},
            "spent": {"input_tokens": 10, "cached_input_tokens": 2, "output_tokens": 5, "cost_usd": 0.001, "calls": 1},
        })
    );
    assert_eq!(
        document["calls"][2],
        json!({"task": "root/1", "ask": 1, "model": "local/small", "sent_ms": 3_000, "ended_ms": null})
    );
    assert_eq!(
        document["parallel"],
        json!({"sequential_ms": 4_000, "elapsed_ms": 2_000, "factor": 2.0, "verdict": "faster", "worth_it": true, "note": ""})
    );
}

#[test]
fn the_page_has_head_tree_timeline_and_gain() {
    let journal = fan_out(Some((RunStatus::Done, 5_000, 3)));
    let page = with(&journal, &args(None, false), |shown| {
        page::page(shown, false, 65_000, 100).plain()
    });
    for part in [
        "1m8-a (done)",
        "demo:scan@0.1.0, digest 0123456789ab\n",
        "1970-01-01 00:00:01 UTC, 1 min ago",
        "1,000 tokens in (400 cached), 300 out, 3 calls, cost $0.0123\n",
        "fast = local/small: 3 calls, 4 requests, 1 retry, 0.25 s waited in all\n",
        "\n  root/1  demo:leaf@0.1.0  exhausted(calls)  1.90 s      15  $0.001  why \\u{1b}[2Jnot\n",
        "\nroot/0 #0 local/small  █",
        "1 request without an answer in the journal\n\n",
        "would have taken 4.00 s; they took 2.00 s: 2.0 times faster",
    ] {
        assert!(page.contains(part), "{part:?} in {page}");
    }
    assert!(page.lines().all(|line| line.chars().count() <= 108), "{page}");
}

#[test]
fn an_interrupted_run_shows_what_its_tasks_used() {
    let journal = fan_out(None);
    with(&journal, &args(None, false), |shown| {
        assert_eq!(shown.run.state.name(), "interrupted");
        assert_eq!(shown.tasks[0].class(), "unfinished");
        let document = json!(shown.document());
        assert_eq!(document["run"]["spent"]["input_tokens"], 20);
        assert_eq!(document["run"]["wall_ms"], json!(null));
        assert_eq!(document["tasks"][0]["spent"], json!(null));
    });
}

#[test]
fn one_task_is_shown_with_what_is_below_it() {
    let mut journal = fan_out(Some((RunStatus::Done, 5_000, 4)));
    journal.tasks.push(testing::task("root/1/0", 1_200, Some(1_300), None));
    journal.tasks.push(testing::task("root/10", 1_200, Some(1_300), None));
    with(&journal, &args(Some("root/1"), false), |shown| {
        let ids: Vec<_> = shown.tasks.iter().map(|task| task.id.as_str()).collect();
        assert_eq!(ids, ["root/1", "root/1/0"]);
        assert_eq!(shown.calls.len(), 2);
        let document = json!(shown.document());
        assert_eq!(document["task"]["input"], json!({"company": "Acme"}));
        assert_eq!(document["task"]["report"]["log"], "said\n");
        let page = page::page(shown, false, 65_000, 100).plain();
        assert!(
            page.contains("  input\n    {\n      \"company\": \"Acme\"\n    }\n") && page.contains("  log\n    said\n"),
            "{page}"
        );
    });
    let record = journal.find("last").unwrap();
    let run = Run::new(&record, 0, |_| false);
    let error = Shown::read(&journal, run, Some("root/7"), false).err().unwrap();
    assert_eq!(error.message(), "run 1m8-a has no task root/7");
}

#[test]
fn a_wide_run_is_cut_and_a_batch_shows_what_failed_first() {
    let mut journal = fan_out(Some((RunStatus::Done, 5_000, 3_000)));
    journal.calls.clear();
    let tasks = (2..2_500).map(|n| {
        let failure = (n % 100 == 0).then_some(FailureClass::Model);
        testing::task(&format!("root/{n}"), 2_000, Some(2_500), failure)
    });
    journal.tasks.extend(tasks);
    let shown = |args: &Args| with(&journal, args, |shown| page::page(shown, args.all, 65_000, 100).plain());
    let page = shown(&args(None, false));
    assert!(
        page.contains("\n… and 2451 more (--all shows them)".replace("2451", "2,451").as_str()),
        "{page}"
    );
    assert!(
        page.contains("root/2 ") && !page.contains("root/1000 "),
        "tasks are in the order of a tree: {page}"
    );
    assert!(shown(&args(None, true)).contains("\n  root/2499 "));

    journal.runs[0].kind = RunKind::Batch;
    let page = with(&journal, &args(None, false), |shown| {
        page::page(shown, false, 65_000, 100).plain()
    });
    assert!(page.contains("tasks: 1 exhausted, 24 model, 2,476 ok\n"), "{page}");
    assert!(
        page.contains("root/100 ") && page.contains("\n… and 5 more (--all shows them)"),
        "{page}"
    );
}
