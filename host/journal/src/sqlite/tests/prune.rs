//! The runs that are pruned, and those that never are.

use super::super::super::Keep;
use super::*;

/// Returns the id of a process that has ended.
fn dead() -> u32 {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

/// Runs that ended at 1, 2 and 3, one that was interrupted, and one that is live; each with a large body.
async fn several() -> (TempDir, Sqlite) {
    let (directory, journal) = scratch();
    for (at, id) in [(1, "one"), (2, "two"), (3, "three"), (4, "killed"), (0, "live")] {
        let mut record = run(id, at);
        if id == "killed" {
            record.pid = dead();
        }
        record.end = (1..=3).contains(&at).then(|| run_end(at));
        let mut entries = vec![JournalEntry::RunStarted(record)];
        for n in 0..10 {
            let task = format!("root/{n}");
            entries.push(task_start(id, &task));
            entries.push(call_start(id, &task, 0, 1));
            entries.push(sent(id, &task, 0, 1));
            entries.push(answered(id, &task, 0, Some(&"x".repeat(10_000)), 2));
            entries.push(told(id, &task, 0, "1"));
            entries.push(turned(id, &task, Turn::Answer(0)));
            entries.push(remained(id, &task, 1));
            entries.push(document_asked(id, &task, 0, "[1]"));
            entries.push(document_answered(id, &task, 0));
            entries.push(task_ended(id, &task));
        }
        journal.all(entries).await.unwrap();
    }
    (directory, journal)
}

fn ids(journal: &Sqlite) -> Vec<String> {
    journal.runs(9).unwrap().into_iter().map(|run| run.id).collect()
}

#[tokio::test]
async fn a_live_run_stays_whatever_is_asked() {
    let (_directory, journal) = several().await;
    let path = journal.path();
    let before =
        std::fs::metadata(path).unwrap().len() + std::fs::metadata(path.with_extension("db-wal")).unwrap().len();
    let pruned = journal.prune(&Keep::default()).unwrap();
    assert_eq!(pruned.runs, 4);
    assert!(pruned.bytes > 400_000, "{pruned:?}");
    assert_eq!(ids(&journal), ["live"]);
    let after = std::fs::metadata(path).unwrap().len();
    assert!(after + pruned.bytes <= before, "{before} became {after}, {pruned:?}");
    assert_eq!(std::fs::metadata(path.with_extension("db-wal")).unwrap().len(), 0);
    for n in 0..10 {
        let task = journal.task("live", &format!("root/{n}")).unwrap().unwrap();
        assert_eq!(task.asks[0].requests, [paid(&"x".repeat(10_000))]);
        assert_eq!(task.remaining, [remaining(1)]);
    }
    assert_eq!(journal.calls("live", 99).unwrap().len(), 10);

    // Nothing of the removed runs is left, and the journal still works.
    let rows: i64 = journal.probe(|writer| {
        let sql = "SELECT (SELECT count(*) FROM task) + (SELECT count(*) FROM task_end) + (SELECT count(*) FROM ask)
            + (SELECT count(*) FROM ask_result) + (SELECT count(*) FROM request_end) + (SELECT count(*) FROM turn)
            + (SELECT count(*) FROM remaining) + (SELECT count(*) FROM request) + (SELECT count(*) FROM document)
            + (SELECT count(*) FROM document_result)";
        writer.connection.query_row(sql, [], |row| row.get(0)).unwrap()
    });
    assert_eq!(rows, 100);
    journal.all(small()).await.unwrap();
    assert_eq!(journal.task("r", "root").unwrap(), Some(small_task()));
    assert_eq!(
        journal
            .prune(&Keep {
                after_ms: Some(0),
                latest: None
            })
            .unwrap()
            .runs,
        0
    );
}

#[tokio::test]
async fn runs_are_kept_by_age_and_by_number() {
    let keep = |after_ms, latest| Keep { after_ms, latest };
    for (keep, left) in [
        (keep(Some(2), None), vec!["killed", "three", "live"]),
        (keep(None, Some(2)), vec!["killed", "three", "live"]),
        (keep(Some(3), Some(3)), vec!["killed", "three", "two", "live"]),
        (keep(Some(1), Some(1)), vec!["killed", "three", "two", "live"]),
        (keep(Some(0), None), vec!["killed", "three", "two", "one", "live"]),
        (
            keep(None, Some(usize::MAX)),
            vec!["killed", "three", "two", "one", "live"],
        ),
        (keep(Some(u64::MAX >> 1), Some(0)), vec!["live"]),
    ] {
        let (_directory, journal) = several().await;
        let pruned = journal.prune(&keep).unwrap();
        assert_eq!(ids(&journal), left, "{keep:?}");
        assert_eq!(pruned.runs, 5 - left.len());
        assert_eq!(pruned.bytes > 0, pruned.runs > 0, "{pruned:?}");
    }
}

#[tokio::test]
async fn another_process_reads_on_while_runs_are_removed() {
    let (_directory, journal) = several().await;
    let other = rusqlite::Connection::open(journal.path()).unwrap();
    other.execute_batch("BEGIN").unwrap();
    let count = || -> i64 {
        other
            .query_row("SELECT count(*) FROM run", [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!(count(), 5);
    assert_eq!(journal.prune(&Keep::default()).unwrap().runs, 4);
    assert_eq!(count(), 5, "its moment has not passed");
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(count(), 1);
}
