//! Many readers and writers of one file: what was acknowledged is there, whatever happens.

mod damage;
mod faults;
mod migration;
mod model;
mod owner;
mod prune;
mod speed;

use std::path::Path;
use std::sync::mpsc;

use futures_util::future::join_all;
use tempfile::TempDir;

use serde_json::json;

use super::super::{
    AskRecord, AskResult, Asked, CallSpan, Cut, DocumentAccess, DocumentAction, DocumentRecord, DocumentResult,
    Journal as _, JournalEntry, RecordedUse, Remaining, RequestEnd, RequestRecord, RunEnd, RunKind, RunRecord,
    RunStatus, RunSummary, TaskCounts, TaskEnd, TaskRecord, Turn,
};
use super::Sqlite;
use super::writer::{Job, Writer};
use agenthost_core::error::{ErrorClass, Result};
use agenthost_core::llm::{Allowance, Ask, Message, Part, Reply, Role};
use agenthost_core::run::ModelReport;
use agenthost_core::task::{Outcome, TaskId, TaskReport};

fn scratch() -> (TempDir, Sqlite) {
    let directory = tempfile::tempdir().unwrap();
    let journal = Sqlite::open(&directory.path().join("journal.db")).unwrap();
    (directory, journal)
}

impl Sqlite {
    /// Runs `probe` on the writer's thread, after all that was sent before.
    fn probe<T: Send + 'static>(&self, probe: impl FnOnce(&mut Writer) -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        self.send(Job::Probe(Box::new(move |writer| tell.send(probe(writer)).unwrap())));
        told.recv().unwrap()
    }

    async fn all(&self, entries: impl IntoIterator<Item = JournalEntry>) -> Result<()> {
        let waiting: Vec<_> = entries.into_iter().map(|entry| self.append(entry)).collect();
        join_all(waiting).await.into_iter().collect()
    }
}

fn run(id: &str, started_ms: u64) -> RunRecord {
    RunRecord {
        id: id.into(),
        kind: RunKind::Run,
        plugin: "demo:poem@1.0.0".into(),
        digest: "ab12".into(),
        seed: [7; 32],
        clock_ms: 1_700_000_000_000,
        started_ms,
        command: json!({ "input": id }),
        pid: std::process::id(),
        end: None,
    }
}

fn run_end(ended_ms: u64) -> RunEnd {
    RunEnd {
        ended_ms,
        state: RunStatus::Done,
        summary: RunSummary {
            outcome: Some(Outcome::Ok(json!("fine"))),
            counts: TaskCounts::new(1, 0),
            ..RunSummary::default()
        },
    }
}

fn task_start(run: &str, task: &str) -> JournalEntry {
    JournalEntry::TaskStarted {
        run: run.into(),
        task: task.into(),
        plugin: "demo:poem@1.0.0".into(),
        digest: "ab12".into(),
        input: Some(json!(task)),
        at_ms: 5,
    }
}

fn task_end() -> TaskEnd {
    let mut report = TaskReport::new(TaskId::root(), "demo:poem@1.0.0", Some(Outcome::Ok(json!(1))));
    report.models = vec!["a/b".into()];
    report.spent.calls = 1;
    let mut model = ModelReport::new("a", "a/b");
    model.cost_usd = Some("0.25".parse().unwrap());
    TaskEnd {
        ended_ms: 9,
        report,
        returned: Some(json!([1])),
        models: vec![model],
    }
}

fn request(text: &str) -> Ask {
    Ask {
        model: "a".into(),
        system: None,
        messages: vec![Message {
            role: Role::User,
            content: vec![Part::Text(text.into())],
        }],
        max_tokens: Some(9),
        schema: None,
        options: Vec::new(),
    }
}

fn reply(text: &str) -> Reply {
    Reply::of(vec![Part::Text(text.into())]).with_model("b")
}

fn paid(text: &str) -> RequestRecord {
    RequestRecord {
        hash: [9; 32],
        end: RequestEnd::Paid {
            reply: reply(text),
            used: RecordedUse::default(),
        },
    }
}

fn result(text: &str) -> AskResult {
    AskResult::of_call(Ok(reply(text)), RecordedUse::default(), Vec::new())
}

fn remaining(after: u64) -> Remaining {
    Remaining {
        after,
        left: Allowance::default(),
    }
}

fn call(hash: u8, ask: u64) -> Asked {
    Asked::Model {
        hash: [hash; 32],
        request: Some(request(&ask.to_string())),
    }
}

fn call_start(run: &str, task: &str, ask: u64, hash: u8) -> JournalEntry {
    JournalEntry::Asked {
        run: run.into(),
        task: task.into(),
        ask,
        what: call(hash, ask),
    }
}

fn sent(run: &str, task: &str, ask: u64, at_ms: u64) -> JournalEntry {
    JournalEntry::RequestSent {
        run: run.into(),
        task: task.into(),
        ask,
        model: "a/b".into(),
        at_ms,
    }
}

fn answered(run: &str, task: &str, ask: u64, reply: Option<&str>, at_ms: u64) -> JournalEntry {
    JournalEntry::RequestEnded {
        run: run.into(),
        task: task.into(),
        ask,
        request: reply.map(paid),
        at_ms,
    }
}

fn told(run: &str, task: &str, ask: u64, text: &str) -> JournalEntry {
    JournalEntry::Answered {
        run: run.into(),
        task: task.into(),
        ask,
        result: result(text),
    }
}

fn turned(run: &str, task: &str, turn: Turn) -> JournalEntry {
    JournalEntry::Turned {
        run: run.into(),
        task: task.into(),
        turn,
    }
}

fn remained(run: &str, task: &str, after: u64) -> JournalEntry {
    JournalEntry::Remained {
        run: run.into(),
        task: task.into(),
        remaining: remaining(after),
    }
}

/// The record of writing `json`, without a result.
fn document(json: &str) -> DocumentRecord {
    DocumentRecord {
        action: DocumentAction::Put,
        name: Some("notes".into()),
        bytes: json.len() as u64,
        json: Some(json.into()),
        digest: "ab".into(),
        result: None,
    }
}

fn document_asked(run: &str, task: &str, number: u64, json: &str) -> JournalEntry {
    JournalEntry::DocumentAsked {
        run: run.into(),
        task: task.into(),
        number,
        operation: document(json),
    }
}

fn document_answered(run: &str, task: &str, number: u64) -> JournalEntry {
    JournalEntry::DocumentAnswered {
        run: run.into(),
        task: task.into(),
        number,
        result: DocumentResult::Done,
    }
}

fn task_ended(run: &str, task: &str) -> JournalEntry {
    JournalEntry::TaskEnded {
        run: run.into(),
        task: task.into(),
        end: task_end(),
    }
}

#[tokio::test]
async fn an_ask_that_is_made_again_has_only_what_it_cost() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Sqlite::open(&dir.path().join("journal.db")).unwrap();
    journal.append(JournalEntry::RunStarted(run("r", 1))).await.unwrap();
    journal.note(task_start("r", "root"));
    journal.note(call_start("r", "root", 0, 1));
    journal.note(answered("r", "root", 0, Some("broken"), 7));
    journal.note(told("r", "root", 0, "bad"));
    let lost = |text: &str| RequestRecord {
        hash: [0; 32],
        end: RequestEnd::Lost {
            used: RecordedUse::default(),
            model: ModelReport::new("a", "a/b"),
            replaced: vec![reply(text)],
        },
    };
    let again = |ask, hash, text: &str| JournalEntry::AskedAgain {
        run: "r".into(),
        task: "root".into(),
        ask,
        what: call(hash, ask),
        requests: vec![lost(text)],
    };
    journal.append(again(0, 1, "bad")).await.unwrap();
    journal.append(again(3, 4, "other")).await.unwrap();
    let task = || journal.task("r", "root").unwrap().unwrap();
    let asked = |ask, hash, text: &str| AskRecord {
        requests: vec![lost(text)],
        ..AskRecord::new(ask, call(hash, ask))
    };
    assert_eq!(task().asks, [asked(0, 1, "bad"), asked(3, 4, "other")]);
    // Asking for the same keeps it, and asking for something else does not.
    journal.note(call_start("r", "root", 0, 1));
    journal.append(call_start("r", "root", 3, 5)).await.unwrap();
    assert_eq!(task().asks, [asked(0, 1, "bad"), AskRecord::new(3, call(5, 3))]);
    let missing = JournalEntry::AskedAgain {
        run: "r".into(),
        task: "root/9".into(),
        ask: 0,
        what: call(1, 0),
        requests: Vec::new(),
    };
    assert!(journal.append(missing).await.is_err());
}

/// A run `r` with a task `root` that made one call and received its reply.
fn small() -> Vec<JournalEntry> {
    vec![
        JournalEntry::RunStarted(run("r", 1)),
        task_start("r", "root"),
        call_start("r", "root", 0, 1),
        sent("r", "root", 0, 10),
        answered("r", "root", 0, Some("he"), 20),
        told("r", "root", 0, "hello"),
        turned("r", "root", Turn::Answer(0)),
        remained("r", "root", 1),
        document_asked("r", "root", 0, "[1]"),
        document_answered("r", "root", 0),
        task_ended("r", "root"),
        JournalEntry::RunEnded {
            run: "r".into(),
            end: run_end(30),
        },
    ]
}

/// The task `root` of [`small`].
fn small_task() -> TaskRecord {
    TaskRecord {
        id: "root".into(),
        plugin: "demo:poem@1.0.0".into(),
        digest: "ab12".into(),
        input: Some(json!("root")),
        started_ms: 5,
        end: Some(task_end()),
        asks: vec![AskRecord {
            requests: vec![paid("he")],
            result: Some(result("hello")),
            ..AskRecord::new(0, call(1, 0))
        }],
        turns: vec![Turn::Answer(0)],
        remaining: vec![remaining(1)],
        documents: vec![DocumentRecord {
            result: Some(DocumentResult::Done),
            ..document("[1]")
        }],
    }
}

/// Asserts that the entries of [`small`] can be read.
fn has_small(path: &Path) {
    let journal = Sqlite::open_existing(path).unwrap().unwrap();
    let mut expected = run("r", 1);
    expected.end = Some(run_end(30));
    assert_eq!(journal.runs(9).unwrap(), [expected]);
    assert_eq!(journal.task("r", "root").unwrap(), Some(small_task()));
}

#[tokio::test]
async fn another_operation_on_a_document_removes_the_later_ones() {
    let (_directory, journal) = scratch();
    journal.all(small()).await.unwrap();
    let entries = [
        document_asked("r", "root", 1, "[2]"),
        document_answered("r", "root", 1),
        document_asked("r", "root", 2, "[3]"),
        // The task runs again, and what it did before is kept.
        task_start("r", "root"),
    ];
    journal.all(entries).await.unwrap();
    let documents = || journal.task("r", "root").unwrap().unwrap().documents;
    let done = |json: &str| DocumentRecord {
        result: Some(DocumentResult::Done),
        ..document(json)
    };
    assert_eq!(documents(), [done("[1]"), done("[2]"), document("[3]")]);
    let bytes = || journal.run_bytes("r").unwrap();
    let before = bytes();
    journal.append(document_asked("r", "root", 1, "[4]")).await.unwrap();
    assert_eq!(documents(), [done("[1]"), document("[4]")]);
    assert!(bytes() < before);
    let accesses = journal.documents("r", 9).unwrap();
    let seen = |access: &DocumentAccess| (access.task.clone(), access.name.clone(), access.bytes);
    let expected = ("root".to_owned(), Some("notes".to_owned()), 3);
    assert_eq!(
        accesses.iter().map(seen).collect::<Vec<_>>(),
        [expected.clone(), expected]
    );
    assert_eq!(journal.documents("r", 1).unwrap().len(), 1);
    // A result without its operation could never be read back.
    assert!(journal.append(document_answered("r", "root", 7)).await.is_err());
}

#[tokio::test]
async fn every_entry_is_read_back_by_this_and_the_next_process() {
    let (_directory, journal) = scratch();
    journal.all(small()).await.unwrap();
    assert_eq!(journal.task("r", "root").unwrap(), Some(small_task()));
    let span = CallSpan {
        task: "root".into(),
        ask: 0,
        model: "a/b".into(),
        sent_ms: 10,
        ended_ms: Some(20),
    };
    assert_eq!(journal.calls("r", 9).unwrap(), [span]);
    assert_eq!(journal.task("r", "root/0").unwrap(), None);
    assert_eq!(journal.task("none", "root").unwrap(), None);
    assert!(journal.calls("none", 9).unwrap().is_empty() && journal.calls("r", 0).unwrap().is_empty());
    has_small(journal.path());
}

#[tokio::test]
async fn what_was_noted_is_there_after_the_next_append_and_after_the_end() {
    let (_directory, journal) = scratch();
    let mut entries = small();
    let last = entries.pop().unwrap();
    for entry in entries {
        journal.note(entry);
    }
    journal.append(last).await.unwrap();
    assert_eq!(journal.task("r", "root").unwrap(), Some(small_task()));
    journal.note(JournalEntry::RunStarted(run("later", 2)));
    let path = journal.path().to_owned();
    drop(journal);
    assert!(!path.with_extension("db-wal").exists(), "all is in the file");
    let journal = Sqlite::open_existing(&path).unwrap().unwrap();
    assert_eq!(journal.find("last").unwrap(), run("later", 2));
}

#[tokio::test]
async fn a_note_reaches_the_file_though_nothing_follows() {
    let (_directory, journal) = scratch();
    journal.note(JournalEntry::RunStarted(run("r", 1)));
    while journal.runs(1).unwrap().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn those_who_wait_together_share_one_transaction() {
    let (_directory, journal) = scratch();
    journal.all(small()).await.unwrap();
    let before = journal.probe(|writer| writer.commits);
    let (release, released) = mpsc::channel();
    journal.send(Job::Probe(Box::new(move |_| released.recv().unwrap())));
    let turns = (0..1000).map(|ask| turned("r", "root", Turn::Answer(ask)));
    let waiting: Vec<_> = turns.map(|turn| journal.append(turn)).collect();
    release.send(()).unwrap();
    assert!(join_all(waiting).await.iter().all(Result::is_ok));
    assert_eq!(journal.probe(|writer| writer.commits) - before, 1);
    let turns = journal.task("r", "root").unwrap().unwrap().turns;
    let expected = [0].into_iter().chain(0..1000).map(Turn::Answer);
    assert!(
        turns.into_iter().eq(expected),
        "in the order in which they were appended"
    );
}

#[tokio::test]
async fn a_task_that_starts_again_keeps_its_calls_alone() {
    let (_directory, journal) = scratch();
    journal.all(small()).await.unwrap();
    let again = [
        JournalEntry::RunResumed {
            run: "r".into(),
            pid: 77,
        },
        sent("r", "root", 0, 40),
        task_start("r", "root"),
        call_start("r", "root", 0, 1),
    ];
    journal.all(again).await.unwrap();
    let expected = TaskRecord {
        end: None,
        turns: vec![],
        remaining: vec![],
        ..small_task()
    };
    assert_eq!(journal.task("r", "root").unwrap(), Some(expected));
    let run = journal.find("r").unwrap();
    assert_eq!((run.end, run.pid), (None, 77));

    // The request that the kill cut off remains without an end.
    let more = [sent("r", "root", 0, 50), answered("r", "root", 0, None, 60)];
    journal.all(more).await.unwrap();
    let ends: Vec<_> = journal
        .calls("r", 9)
        .unwrap()
        .iter()
        .map(|span| span.ended_ms)
        .collect();
    assert_eq!(ends, [Some(20), None, Some(60)]);

    // Another request under the same number.
    journal.append(call_start("r", "root", 0, 2)).await.unwrap();
    let asks = || journal.task("r", "root").unwrap().unwrap().asks;
    assert_eq!(asks(), [AskRecord::new(0, call(2, 0))]);

    // A sub-task under the same number, twice.
    let start = Asked::SubTask {
        task: TaskId::root().child(3),
    };
    for _ in 0..2 {
        let entry = JournalEntry::Asked {
            run: "r".into(),
            task: "root".into(),
            ask: 0,
            what: start.clone(),
        };
        journal.append(entry).await.unwrap();
    }
    assert_eq!(asks(), [AskRecord::new(0, start)]);
}

#[tokio::test]
async fn tasks_come_in_the_order_of_the_tree_and_page_by_page() {
    let (_directory, journal) = scratch();
    let ids = [
        "root/10", "root", "root/2/1", "root/2", "root/300", "root/2/0", "root/20",
    ];
    let starts = ids.map(|id| task_start("r", id));
    journal.append(JournalEntry::RunStarted(run("r", 1))).await.unwrap();
    journal.all(starts).await.unwrap();
    let ids = |under: &str, after: Option<&str>, most: usize| {
        let tasks = journal.tasks("r", under, after, most).unwrap();
        tasks.into_iter().map(|task| task.id).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        ids("", None, 9),
        "root root/2 root/2/0 root/2/1 root/10 root/20 root/300"
    );
    assert_eq!(
        ids("root", None, 9),
        "root/2 root/2/0 root/2/1 root/10 root/20 root/300"
    );
    assert_eq!(ids("root/2", None, 9), "root/2/0 root/2/1");
    assert_eq!(ids("root/10", None, 9), "");
    assert_eq!(ids("root", Some("root/2/0"), 2), "root/2/1 root/10");
    assert_eq!(ids("root/2", Some("root/2/1"), 2), "");
    assert_eq!(ids("root/10", Some("root"), 2), "");
    for wrong in ["root/x", "root//1", "root/01", "root/4294967295", "root/-1", "root/"] {
        let error = journal.task("r", wrong).unwrap_err();
        assert!(error.message().contains("is not a valid task id"), "{wrong}: {error}");
    }
    assert!(journal.tasks("none", "", None, 9).unwrap().is_empty());
}

#[tokio::test]
async fn a_run_is_found_by_its_id_by_the_beginning_of_it_and_as_the_last() {
    let (_directory, journal) = scratch();
    let error = journal.find("last").unwrap_err();
    assert_eq!(error.class(), ErrorClass::Usage);
    assert!(journal.find("x").unwrap_err().hint().unwrap().contains("empty"));
    for (at, id) in ["aa1", "aa10", "b_2", "bx2"].into_iter().enumerate() {
        journal
            .append(JournalEntry::RunStarted(run(id, at as u64)))
            .await
            .unwrap();
    }
    for (asked, id) in [
        ("last", "bx2"),
        ("aa1", "aa1"),
        ("aa10", "aa10"),
        ("b_", "b_2"),
        ("bx", "bx2"),
    ] {
        assert_eq!(journal.find(asked).unwrap().id, id);
    }
    let several = journal.find("a").unwrap_err();
    assert_eq!(several.class(), ErrorClass::Usage);
    assert_eq!(several.message(), "several runs begin with `a`");
    assert_eq!(several.hint(), Some("Write more of it: aa10, aa1"));
    for none in ["", "z", "%"] {
        let none = journal.find(none).unwrap_err();
        assert_eq!(none.class(), ErrorClass::Usage);
        assert_eq!(none.hint(), Some("The latest are bx2, b_2, aa10, aa1"));
    }
    let latest: Vec<_> = journal.runs(2).unwrap().into_iter().map(|run| run.id).collect();
    assert_eq!(latest, ["bx2", "b_2"]);
}

#[tokio::test]
async fn two_journals_on_one_file_write_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(".agenthost/journal.db");
    // Several threads may find that there is none.
    let open = |_| {
        let path = path.clone();
        std::thread::spawn(move || Sqlite::open(&path).unwrap())
    };
    let journals: Vec<_> = (0..4).map(open).collect();
    let journals: Vec<_> = journals.into_iter().map(|journal| journal.join().unwrap()).collect();
    let work = journals.iter().enumerate().map(|(at, journal)| async move {
        let name = format!("run-{at}");
        journal.append(JournalEntry::RunStarted(run(&name, 1))).await.unwrap();
        for n in 0..50 {
            let task = format!("root/{n}");
            journal.note(task_start(&name, &task));
            journal.append(turned(&name, &task, Turn::Answer(n))).await.unwrap();
        }
    });
    join_all(work).await;
    let [first, rest @ ..] = journals.as_slice() else {
        unreachable!()
    };
    for at in 0..4 {
        let name = format!("run-{at}");
        let tasks = first.tasks(&name, "", None, 100).unwrap();
        assert_eq!(tasks.len(), 50);
        let task = rest[0].task(&name, "root/49").unwrap().unwrap();
        assert_eq!(task.turns, [Turn::Answer(49)]);
    }
    let left: Vec<_> = std::fs::read_dir(directory.path().join(".agenthost"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("new"))
        .collect();
    assert!(left.is_empty(), "no draft is left: {left:?}");
}

#[tokio::test]
async fn the_file_is_private_and_kept_out_of_version_control() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let own = directory.path().join(".agenthost");
    let path = own.join("journal.db");
    assert!(Sqlite::open_existing(&path).unwrap().is_none());
    assert!(!own.exists(), "looking makes nothing");
    let journal = Sqlite::open(&path).unwrap();
    assert_eq!(journal.path(), path);
    journal.all(small()).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&own), 0o700);
    for file in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        assert_eq!(mode(&own.join(file)), 0o600, "{file}");
    }
    assert_eq!(std::fs::read_to_string(own.join(".gitignore")).unwrap(), "*\n");
    let plain = directory.path().join("plain");
    Sqlite::open(&plain.join("my.db")).unwrap();
    assert!(!plain.join(".gitignore").exists());
}
