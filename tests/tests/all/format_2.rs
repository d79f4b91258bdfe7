//! A journal of format 2: everything that reads it gives what it gave when it was written.

use std::path::{Path, PathBuf};

use agenthost::Host;
use agenthost::Journal;
use agenthost::LoadOptions;
use agenthost_tests::env::TestEnv;
use serde_json::Value;

use crate::machine;

fn committed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../host/journal/testdata")
        .join(name)
}

/// A machine with a copy of the journal, which the first command migrates.
fn machine_with_journal() -> TestEnv {
    let machine = machine();
    machine.write("journal.db", std::fs::read(committed("format-2/journal.db")).unwrap());
    machine
}

#[test]
fn documents_are_the_same() {
    let machine = machine_with_journal();
    let text = std::fs::read_to_string(committed("format-2/show.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let show = |args: &[&str]| {
        let args = [args, &["--json", "--journal", "journal.db"]].concat();
        machine.run(args).json(0)
    };
    assert_eq!(show(&["runs"]), expected["runs"]);
    // The latest first.
    let runs = expected["runs"]["runs"].as_array().unwrap();
    for (n, run) in runs.iter().rev().enumerate() {
        let id = run["id"].as_str().unwrap();
        assert_eq!(show(&["show", id]), expected[format!("{n} show")], "{id}");
        let task = if run["kind"] == "batch" { "root/0" } else { "root" };
        let one = show(&["show", id, "--task", task]);
        assert_eq!(one, expected[format!("{n} task")], "{id}");
    }
    assert_eq!(expected.as_object().unwrap().len(), 1 + 2 * runs.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_run_of_that_version_is_replayed() {
    let machine = machine_with_journal();
    let journal = Journal::sqlite(machine.cwd().join("journal.db")).unwrap();
    let host = Host::builder().cache_dir(machine.compiled()).journal(journal.clone());
    let host = host.build().unwrap();
    let options = LoadOptions::new().sub_agent("demo:ask", committed("format-1/ask.wasm"));
    let parent = host
        .load_with(committed("format-1/parent.wasm"), options)
        .await
        .unwrap();
    let record = journal.find("last").unwrap();
    let recorded = record.end.as_ref().unwrap().summary.outcome.clone();
    let replay = host.replay(&parent, &record).start().await.unwrap().report().await;
    assert_eq!(
        (Some(&replay.outcome), replay.differences.as_deref()),
        (recorded.as_ref(), Some(&[][..]))
    );
}
