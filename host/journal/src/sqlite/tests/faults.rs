//! Faults while writing, and kills: nothing that was acknowledged is lost.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

/// The variable that makes [`child`] write; its value is the path of the journal.
const CHILD: &str = "AGENTHOST_TEST_JOURNAL";

/// Appends turns until one fails; returns how many were acknowledged, and the error.
async fn until_it_fails(journal: &Sqlite) -> (u64, agenthost_core::error::Error) {
    for ask in 1.. {
        let turn = turned("r", "root", Turn::Answer(ask));
        journal.note(answered("r", "root", 0, Some(&"x".repeat(500)), 1));
        if let Err(error) = journal.append(turn).await {
            return (ask - 1, error);
        }
    }
    unreachable!()
}

/// Returns the number of turns of the task of [`small`], which are 0, 1, 2 ….
fn turns(path: &Path) -> u64 {
    let journal = Sqlite::open_existing(path).unwrap().unwrap();
    let task = journal.task("r", "root").unwrap().unwrap();
    let count = task.turns.len() as u64;
    assert!(task.turns.into_iter().eq((0..count).map(Turn::Answer)));
    count
}

#[tokio::test]
async fn a_full_disk_stops_the_journal_and_loses_nothing() {
    for room in 0..8 {
        let (_directory, journal) = scratch();
        journal.all(small()).await.unwrap();
        journal.probe(move |writer| {
            let db = &writer.connection;
            let pages: i64 = db.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
            let sql = format!("PRAGMA max_page_count = {}", pages + room);
            db.query_row(&sql, [], |_| Ok(())).unwrap();
        });
        let (acknowledged, error) = until_it_fails(&journal).await;
        assert_eq!(error.class(), ErrorClass::Host);
        let path = journal.path().to_owned();
        let expected = format!("{}: no room to write the journal: ", path.display());
        assert!(error.message().starts_with(&expected), "{error}");
        assert!(error.hint().unwrap().contains("Free space"), "{error:?}");

        // Even though there is room again, an entry would follow a gap.
        journal.probe(|writer| {
            let sql = "PRAGMA max_page_count = 100000";
            writer.connection.query_row(sql, [], |_| Ok(())).unwrap();
        });
        let later = journal
            .append(JournalEntry::RunStarted(run("later", 2)))
            .await
            .unwrap_err();
        assert_eq!(later.message(), error.message());
        assert_eq!(later.hint(), error.hint());
        let later = journal.prune(&Default::default()).unwrap_err();
        assert_eq!(later.message(), error.message());
        assert_eq!(journal.runs(9).unwrap().len(), 1, "it can still be read");
        drop(journal);
        assert_eq!(turns(&path), 1 + acknowledged);
    }
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_says_so() {
    let (_directory, journal) = scratch();
    journal.all(small()).await.unwrap();
    journal.probe(|writer| writer.connection.pragma_update(None, "query_only", true).unwrap());
    // The next append returns the error of a note that failed.
    journal.note(turned("r", "root", Turn::Answer(1)));
    std::thread::sleep(Duration::from_millis(50));
    let error = journal.append(turned("r", "root", Turn::Answer(1))).await.unwrap_err();
    assert!(error.message().contains("the journal cannot be written: "), "{error}");
    assert!(error.hint().unwrap().contains("writable"));
    has_small(journal.path());
}

#[tokio::test]
async fn a_journal_that_is_kept_locked_says_so() {
    let (_directory, journal) = scratch();
    journal.all(small()).await.unwrap();
    let other = rusqlite::Connection::open(journal.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    journal.probe(|writer| writer.connection.busy_timeout(Duration::from_millis(20)).unwrap());
    assert_eq!(journal.runs(9).unwrap().len(), 1, "readers do not wait");
    let error = journal.prune(&Default::default()).unwrap_err();
    assert!(
        error.message().contains("another process keeps the journal locked"),
        "{error}"
    );
    let error = journal.append(turned("r", "root", Turn::Answer(1))).await.unwrap_err();
    assert!(
        error.message().contains("another process keeps the journal locked"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("Wait"));
}

#[tokio::test]
async fn an_entry_that_hangs_in_the_air_is_refused() {
    let entries: [JournalEntry; 8] = [
        JournalEntry::RunStarted(run("r", 1)),
        JournalEntry::RunResumed {
            run: "none".into(),
            pid: 1,
        },
        JournalEntry::RunEnded {
            run: "none".into(),
            end: run_end(1),
        },
        task_start("none", "root"),
        call_start("r", "root/9", 0, 1),
        answered("r", "root", 7, Some("1"), 1),
        told("r", "root", 7, "1"),
        turned("none", "root", Turn::Answer(0)),
    ];
    for entry in entries {
        let (_directory, journal) = scratch();
        journal.all(small()).await.unwrap();
        let error = journal.append(entry.clone()).await.unwrap_err();
        let message = error.message();
        assert!(
            message.contains("there is") || message.contains("has never been"),
            "{error}"
        );
        has_small(journal.path());
    }
}

#[tokio::test]
async fn a_copy_of_the_files_has_all_that_was_acknowledged() {
    let (directory, journal) = scratch();
    journal.all(small()).await.unwrap();
    for ask in 1..200 {
        journal.append(turned("r", "root", Turn::Answer(ask))).await.unwrap();
        if ask % 50 != 0 {
            continue;
        }
        // As a power loss would leave the files: without the shared memory. Another process copies them, because
        // closing a file drops this process's locks on it.
        let copy = directory.path().join(format!("{ask}.db"));
        for end in ["", "-wal"] {
            let name = |path: &Path| format!("{}{end}", path.display());
            let copied = Command::new("cp").arg(name(journal.path())).arg(name(&copy)).status();
            assert!(copied.unwrap().success());
        }
        assert_eq!(turns(&copy), ask + 1);
    }
}

/// Not a test: the process that [`a_killed_process_loses_nothing_that_was_acknowledged`] kills.
#[tokio::test]
async fn child() {
    let Some(path) = std::env::var_os(CHILD) else {
        return;
    };
    let journal = Sqlite::open(Path::new(&path)).unwrap();
    journal.all(small()).await.unwrap();
    let mut ask = 0;
    loop {
        ask += 1;
        journal.append(turned("r", "root", Turn::Answer(ask))).await.unwrap();
        // Unlike `println!`, this is not captured by the test harness.
        writeln!(std::io::stdout(), "acknowledged {ask}").unwrap();
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_acknowledged() {
    for lines in [1, 20, 77] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.db");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "sqlite::tests::faults::child"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let last = said
            .map(|line| line.unwrap())
            .filter_map(|line| line.strip_prefix("acknowledged ").map(|n| n.parse::<u64>().unwrap()))
            .nth(lines)
            .unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let turns = turns(&path);
        assert!(turns > last, "{turns} turns, {last} acknowledged");
    }
}
