//! A journal of format 1 becomes one of the current format, once, and loses nothing.

use std::fs;

use rusqlite::Connection;

use super::super::super::{FORMAT, Keep};
use super::*;
use agenthost_core::llm::CallError;

/// A copy of the journal of format 1.
fn old() -> (TempDir, std::path::PathBuf) {
    of_format(1)
}

/// A copy of the journal of an old format.
fn of_format(format: u32) -> (TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    let committed = format!("testdata/format-{format}/journal.db");
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(committed), &path).unwrap();
    (directory, path)
}

fn version(path: &Path) -> u32 {
    let db = Connection::open(path).unwrap();
    db.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

/// The runs, the oldest first, each with all of its tasks.
fn everything(journal: &Sqlite) -> Vec<(RunRecord, Vec<TaskRecord>)> {
    let mut runs = journal.runs(99).unwrap();
    runs.reverse();
    let tasks = |run: &RunRecord| {
        let tasks = journal.tasks(&run.id, "", None, 99).unwrap();
        let whole = tasks
            .iter()
            .map(|task| journal.task(&run.id, &task.id).unwrap().unwrap());
        whole.collect::<Vec<_>>()
    };
    runs.into_iter().map(|run| (run.clone(), tasks(&run))).collect()
}

#[test]
fn every_record_of_format_1_is_read_as_what_it_was() {
    let (_directory, path) = old();
    assert_eq!(version(&path), 1);
    let journal = Sqlite::open(&path).unwrap();
    let all = everything(&journal);
    let kinds: Vec<_> = all
        .iter()
        .map(|(run, tasks)| (run.kind, run.end.as_ref().map(|end| end.state), tasks.len()))
        .collect();
    assert_eq!(
        kinds,
        [
            (RunKind::Run, Some(RunStatus::Done), 2),
            (RunKind::Run, Some(RunStatus::Failed), 2),
            (RunKind::Batch, Some(RunStatus::Failed), 2),
            (RunKind::Batch, None, 2),
            (RunKind::Run, Some(RunStatus::Done), 1),
            (RunKind::Run, Some(RunStatus::Done), 1),
        ]
    );

    // The first: a sub-task, a denied call, and a reply that was repaired.
    let root = &all[0].1[0];
    let child = TaskId::root().child(0);
    assert_eq!(root.input, Some(json!("Name a colour.")));
    assert_eq!(root.turns, [0, 1, 2].map(Turn::Answer));
    assert_eq!(root.remaining.iter().map(|left| left.after).collect::<Vec<_>>(), [1]);
    let [start, denied, asked] = root.asks.as_slice() else {
        panic!("{root:?}")
    };
    assert_eq!(start.what, Asked::SubTask { task: child.clone() });
    assert_eq!(
        start.result,
        Some(AskResult::SubTask {
            task: child,
            ok: true,
            keeps: true
        })
    );
    assert!(matches!(
        &denied.result,
        Some(AskResult::Error { error: CallError::Denied(_), used, .. }) if !used.sent
    ));
    let Asked::Model {
        request: Some(request), ..
    } = &asked.what
    else {
        panic!("{asked:?}")
    };
    assert_eq!(
        (request.model.as_str(), request.schema.as_deref()),
        ("fast", Some("{\"type\":\"integer\"}"))
    );
    let Some(AskResult::Reply { reply, used, models }) = &asked.result else {
        panic!("{asked:?}")
    };
    assert_eq!((reply.text().as_str(), used.input, used.output), ("7", 56, 3));
    assert_eq!((models[0].requests, models[0].repairs), (2, 1));
    assert!(
        matches!(&asked.requests[..], [RequestRecord { end: RequestEnd::Paid { reply, .. }, .. }] if reply.text() == "seven")
    );
    let end = root.end.as_ref().unwrap();
    assert_eq!(end.report.outcome, Some(Outcome::Ok(json!("7"))));
    assert_eq!((end.report.spent.calls, end.models.len()), (1, 1));

    // The second: cut off while a request was in flight, which was abandoned.
    let root = &all[1].1[0];
    assert!(matches!(root.turns.last(), Some(Turn::Cut(cut)) if cut.time_up));
    assert!(matches!(
        &root.asks[2].requests[..],
        [
            RequestRecord {
                end: RequestEnd::Paid { .. },
                ..
            },
            RequestRecord {
                end: RequestEnd::Lost { .. },
                ..
            }
        ]
    ));

    // The last two: without requests, and without any texts.
    let asks = |at: usize| all[at].1[0].asks[0].clone();
    for at in [4, 5] {
        assert!(matches!(asks(at).what, Asked::Model { request: None, .. }));
    }
    assert!(matches!(asks(4).result, Some(AskResult::Reply { .. })));
    assert!(matches!(asks(5).result, Some(AskResult::NotKept { used, .. }) if used.sent));
    assert_eq!(all[5].1[0].end.as_ref().unwrap().report.outcome, None);
    assert_eq!(all[5].1[0].input, None);
}

#[tokio::test]
async fn a_journal_of_format_2_has_the_same_records_and_room_for_documents() {
    let (_directory, path) = of_format(2);
    assert_eq!(version(&path), 2);
    let journal = Sqlite::open(&path).unwrap();
    assert_eq!(version(&path), FORMAT.number());
    let all = everything(&journal);
    // Its first six runs are those of the journal of format 1.
    let (_directory, before) = old();
    assert_eq!(all[..6], everything(&Sqlite::open(&before).unwrap()));
    let (run, tasks) = &all[6];
    assert_eq!((run.end.as_ref().unwrap().state, tasks.len()), (RunStatus::Done, 2));
    let entry = document_asked(&run.id, "root", 0, "[1]");
    journal.append(entry).await.unwrap();
    assert_eq!(
        journal.task(&run.id, "root").unwrap().unwrap().documents,
        [document("[1]")]
    );
}

#[test]
fn a_journal_is_migrated_once_and_by_one_of_several() {
    let (_directory, path) = old();
    let open = |_| {
        let path = path.clone();
        std::thread::spawn(move || everything(&Sqlite::open_existing(&path).unwrap().unwrap()))
    };
    let all: Vec<_> = (0..4).map(open).collect();
    let all: Vec<_> = all.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(version(&path), FORMAT.number());
    let journal = Sqlite::open(&path).unwrap();
    assert_eq!(everything(&journal), all[0]);
    assert_eq!(journal.prune(&Keep::default()).unwrap().runs, 6);
}

#[test]
fn a_record_that_is_damaged_stays_damaged_and_the_others_are_read() {
    let (_directory, path) = old();
    let db = Connection::open(&path).unwrap();
    let changed = db.execute("UPDATE call_end SET result = result || ' ' WHERE call = 3", []);
    assert_eq!(changed.unwrap(), 1);
    let odd = "[1]";
    let sum = super::super::entries::sum(odd);
    let changed = db.execute("UPDATE reply SET reply = ?1, reply_sum = ?2 WHERE no = 2", (odd, sum));
    assert_eq!(changed.unwrap(), 1);
    drop(db);
    let journal = Sqlite::open(&path).unwrap();
    let mut damaged = Vec::new();
    for run in journal.runs(99).unwrap() {
        for task in journal.tasks(&run.id, "", None, 99).unwrap() {
            if let Err(error) = journal.task(&run.id, &task.id) {
                damaged.push(error.message().rsplit_once(": ").unwrap().1.to_owned());
            }
        }
    }
    assert_eq!(damaged.len(), 2, "{damaged:?}");
    assert!(damaged[0].starts_with("`body` of run"), "{damaged:?}");
    assert!(damaged[1].starts_with("`result` of run"), "{damaged:?}");
}

#[test]
fn a_foreign_definition_is_refused_before_anything_is_migrated() {
    let (_directory, path) = old();
    let db = Connection::open(&path).unwrap();
    db.execute_batch("CREATE TRIGGER t AFTER INSERT ON run BEGIN DELETE FROM task; END")
        .unwrap();
    drop(db);
    let error = Sqlite::open(&path).unwrap_err();
    assert!(error.message().contains("a definition of `t`"), "{error}");
    assert_eq!(version(&path), 1);
}

#[test]
fn a_journal_whose_run_goes_on_elsewhere_is_left_to_its_process() {
    let (_directory, path) = old();
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let db = Connection::open(&path).unwrap();
    db.execute("DELETE FROM run_process", []).unwrap();
    db.execute("UPDATE run SET pid = ?1 WHERE ended_ms IS NULL", [child.id()])
        .unwrap();
    drop(db);
    let error = Sqlite::open(&path).unwrap_err();
    assert!(
        error.message().contains(&format!("in process {}", child.id())),
        "{error}"
    );
    assert!(error.hint().unwrap().starts_with("Wait for its end"), "{error:?}");
    assert_eq!(version(&path), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(everything(&Sqlite::open(&path).unwrap()).len(), 6);
}

#[test]
fn a_process_of_the_old_version_cannot_write_into_a_migrated_journal() {
    let (_directory, path) = old();
    let old_process = Connection::open(&path).unwrap();
    let writes = [
        "INSERT INTO call (task, ask, hash) VALUES (1, 9, x'00')",
        "INSERT INTO reply (call, seq, hash, reply, reply_sum) VALUES (1, 9, x'00', '1', x'00')",
        "INSERT OR REPLACE INTO call_end (call, result, result_sum) VALUES (1, '1', x'00')",
    ];
    let prepared: Vec<_> = writes.iter().map(|sql| old_process.prepare(sql).unwrap()).collect();
    drop(Sqlite::open(&path).unwrap());
    for mut statement in prepared {
        let error = statement.execute([]).unwrap_err();
        assert!(error.to_string().contains("no such table"), "{error}");
    }
}

#[test]
fn a_journal_that_cannot_be_written_is_not_migrated() {
    let (_directory, path) = old();
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let mut db = Connection::open_with_flags(&path, flags).unwrap();
    let error = super::super::migrate::migrate(&mut db, &path).unwrap_err().at(&path);
    assert!(
        matches!(&error, crate::JournalError::MigrateReadOnly { path: at } if *at == path),
        "{error}"
    );
    drop(db);
    assert_eq!(version(&path), 1);
}
