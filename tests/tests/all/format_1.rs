//! A journal and cassettes of format 1: everything that reads them gives what it gave when they were written.

use std::path::{Path, PathBuf};

use agenthost::batch::Runner as _;
use agenthost::config::PriceConfig;
use agenthost::journal::cassette::{Cassette, unusual};
use agenthost::journal::sqlite::Sqlite;
use agenthost::journal::{JournalStore as _, RunKind, RunRecord};
use agenthost::limits::Usd;
use agenthost::providers::script::Script;
use agenthost::{FailedTasks, Host, Journal, Limits, LoadOptions, Plugin};
use agenthost_tests::env::TestEnv;
use serde_json::{Map, Value, json};

use crate::machine;

fn committed(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/journal/testdata/format-1");
    dir.join(name)
}

fn expected(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(committed(name)).unwrap()).unwrap()
}

/// A machine with a copy of the journal.
fn machine_with_journal() -> (TestEnv, PathBuf) {
    let machine = machine();
    let bytes = std::fs::read(committed("journal.db")).unwrap();
    let path = machine.write("journal.db", bytes);
    (machine, path)
}

/// The runs, the oldest first.
fn runs(path: &Path) -> Vec<RunRecord> {
    let mut runs = Sqlite::open(path).unwrap().runs(99).unwrap();
    runs.reverse();
    runs
}

/// The task that the expected output of `show --task` is about.
fn shown_task(run: &RunRecord) -> &'static str {
    match run.kind {
        RunKind::Run => "root",
        RunKind::Batch => "root/0",
    }
}

/// Removes the kinds of results and the verdict on sub-agents, which earlier documents did not have. No other field may be
/// new.
fn without_kinds(mut document: Value) -> Value {
    let asks = document.pointer_mut("/task/calls").and_then(Value::as_array_mut);
    for result in asks
        .into_iter()
        .flatten()
        .filter_map(|ask| ask["result"].as_object_mut())
    {
        assert!(result.shift_remove("kind").is_some(), "{result:?}");
    }
    if let Some(parallel) = document.pointer_mut("/parallel").and_then(Value::as_object_mut) {
        assert!(parallel.shift_remove("verdict").is_some(), "{parallel:?}");
    }
    document
}

#[test]
fn documents_are_the_same() {
    let (machine, path) = machine_with_journal();
    let expected = expected("show.json");
    let show = |args: &[&str]| {
        let args = [args, &["--json", "--journal", "journal.db"]].concat();
        without_kinds(machine.run(args).json(0))
    };
    // The first one migrates the journal.
    assert_eq!(show(&["runs"]), expected["runs"]);
    for (n, run) in runs(&path).iter().enumerate() {
        assert_eq!(show(&["show", &run.id]), expected[format!("{n} show")]);
        let one = show(&["show", &run.id, "--task", shown_task(run)]);
        assert_eq!(one, expected[format!("{n} task")]);
    }
}

#[test]
fn pages_are_the_same() {
    let (machine, path) = machine_with_journal();
    let mut text = String::new();
    for run in runs(&path) {
        for args in [
            &["show", run.id.as_str()][..],
            &["show", &run.id, "--task", shown_task(&run)],
        ] {
            let output = machine.run([args, &["--journal", "journal.db"]].concat());
            assert_eq!(output.code, 0, "{output}");
            text.push_str(&output.stdout);
            text.push('\n');
        }
    }
    let lines = |text: &str| {
        // How long ago they began changes.
        let lines = text.lines().filter(|line| !line.starts_with("started "));
        lines.map(|line| line.trim_end().to_owned()).collect::<Vec<_>>()
    };
    if std::env::var_os("AGENTHOST_BLESS").is_some() {
        std::fs::write(committed("show.txt"), &text).unwrap();
    }
    let expected = std::fs::read_to_string(committed("show.txt")).unwrap();
    assert_eq!(lines(&text), lines(&expected));
}

async fn parent(host: &Host) -> Plugin {
    let mut options = LoadOptions::default();
    options.with = [("demo:ask".to_owned(), committed("ask.wasm").into())].into();
    host.load_with(committed("parent.wasm"), options).await.unwrap()
}

/// Removes times, which differ.
fn timeless(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter();
            let kept = fields.filter(|(key, _)| !["wall_ms", "waited_ms"].contains(&key.as_str()));
            kept.map(|(key, value)| (key, timeless(value))).collect()
        }
        Value::Array(values) => values.into_iter().map(timeless).collect(),
        other => other,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_replayed_and_resumed_as_before() {
    let (machine, path) = machine_with_journal();
    // Since then, the request for a repair shows the schema, which is 14 tokens more, and models have their `errors`.
    let expected = expected("again.json");
    // Everything else is in the journal: another request would fail.
    let script = "[[rule]]\ncontains = 'Name a number.'\ntimes = 1\ntext = '2'\n
        [[rule]]\ncontains = 'item c'\ntimes = 1\ntext = 'C.'";
    let script = Script::parse(script, "later").unwrap();
    let host = Host::builder()
        .cache_dir(machine.compiled())
        .journal(Journal::sqlite(&path).unwrap())
        .provider("offline", script)
        // As the replies that this script replaces.
        .price("offline/fast", PriceConfig::per_million(Usd::ZERO, Usd::ZERO))
        .build()
        .unwrap();
    let (parent, ask) = (parent(&host).await, host.load(committed("ask.wasm")).await.unwrap());
    let mut seen = Map::new();
    for (n, record) in runs(&path).iter().enumerate() {
        if record.kind == RunKind::Batch {
            for (name, batch) in [
                ("replay", host.batch(&ask).replay(record)),
                ("resume", host.batch(&ask).resume(record, FailedTasks::Keep)),
            ] {
                let batch = batch.open().await.unwrap();
                let mut items = Vec::new();
                for (number, item) in (0..).zip(["item a", "item b", "item c"]) {
                    if batch.has(number) {
                        let end = batch.run(number, json!(item)).await;
                        items.push(json!({"outcome": end.outcome, "spent": end.spent, "recorded": end.recorded, "models": end.models}));
                    }
                }
                let items = json!({"items": items, "differences": batch.differences()});
                seen.insert(format!("{n} {name}"), timeless(items));
            }
            continue;
        }
        let plugin = if record.plugin.starts_with("demo:parent") {
            &parent
        } else {
            &ask
        };
        let replay = match host.replay(plugin, record).start().await {
            Ok(run) => json!(*run.report().await),
            Err(error) => json!(error.to_string()),
        };
        seen.insert(format!("{n} replay"), timeless(replay));
        let settled = Host::settled(record, FailedTasks::Keep);
        let resumed = match host.resume(plugin, record, FailedTasks::Keep).start().await {
            Ok(run) => json!(*run.report().await),
            Err(error) => json!(error.to_string()),
        };
        seen.insert(
            format!("{n} resume"),
            timeless(json!({"settled": settled, "report": resumed})),
        );
    }
    for (name, seen) in &seen {
        assert_eq!(*seen, expected[name], "{name}");
    }
    assert_eq!(seen.len(), expected.as_object().unwrap().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn cassettes_play() {
    let machine = machine();
    let host = Host::builder().cache_dir(machine.compiled()).build().unwrap();
    let parent = parent(&host).await;
    for name in ["cassette-done.json", "cassette-cut.json"] {
        let cassette = Cassette::read(&committed(name)).unwrap();
        let rehearsal = host.rehearse(&parent, &cassette).unwrap();
        rehearsal.run.report().await;
        let limits = Limits::task_default().overridden_by(&cassette.limits());
        let mut now = rehearsal.tape.cassette(unusual(&limits)).unwrap();
        assert_eq!(cassette.changes(&mut now), [], "{name}");
        assert_eq!(now.tasks, cassette.tasks, "{name}");
    }
}
