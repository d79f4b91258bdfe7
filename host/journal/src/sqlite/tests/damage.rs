//! Files that are not a journal, or not anymore: an error that names the problem and its place, never a panic or a
//! wrong body.

use std::fs;
use std::os::unix::fs::FileExt as _;

use rusqlite::Connection;

use super::*;
use crate::JournalError;
use agenthost_core::error::Error;
use agenthost_core::record::FormatError;

/// Returns the error of opening `path`, which must be the same for [`Sqlite::open`] and [`Sqlite::open_existing`].
fn refused(path: &Path) -> Error {
    let error = Sqlite::open(path).unwrap_err();
    let again = Sqlite::open_existing(path).unwrap_err();
    assert_eq!(error.message(), again.message());
    assert_eq!(error.class(), ErrorClass::Host);
    assert!(error.message().contains(path.to_str().unwrap()), "{error}");
    assert!(error.hint().is_some(), "{error}");
    error
}

/// A closed journal that contains [`small`].
async fn closed() -> (TempDir, std::path::PathBuf) {
    let (directory, journal) = scratch();
    journal.all(small()).await.unwrap();
    let path = journal.path().to_owned();
    drop(journal);
    (directory, path)
}

#[tokio::test]
async fn what_is_no_journal_is_refused_and_left_alone() {
    let (directory, path) = closed().await;
    assert!(refused(directory.path()).message().contains("not a regular file"));

    let text = directory.path().join("text.db");
    fs::write(&text, "dear diary, ".repeat(500)).unwrap();
    let error = refused(&text);
    assert!(error.message().contains("this is not a journal: "), "{error}");
    assert_eq!(fs::read(&text).unwrap().len(), 6000);

    let other = directory.path().join("other.db");
    Connection::open(&other)
        .unwrap()
        .execute_batch("CREATE TABLE mine (a)")
        .unwrap();
    assert!(refused(&other).message().contains("an SQLite file, but not a journal"));

    let below = Sqlite::open(&path.join("journal.db")).unwrap_err();
    assert!(below.message().contains("journal.db/journal.db: "), "{below}");
    has_small(&path);
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    // No user can create directories there, not even the superuser.
    let path = Path::new("/proc/agenthost/journal.db");
    let error = Sqlite::open(path).unwrap_err();
    assert!(
        agenthost_core::error::with_causes(&error)
            .starts_with("/proc/agenthost/journal.db: cannot create the journal: "),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("writable"));
}

#[tokio::test]
async fn a_journal_of_an_unknown_version_is_refused_and_left_alone() {
    let (_directory, path) = closed().await;
    let set = |version: i64| {
        let db = Connection::open(&path).unwrap();
        db.pragma_update(None, "user_version", version).unwrap();
    };
    let now = i64::from(super::super::super::FORMAT.number());
    for (version, hint) in [(now + 1, "newer"), (0, "older version")] {
        set(version);
        let error = refused(&path);
        assert!(
            error.message().contains(&format!(
                "the journal has format {version}, and this version reads 1 to {now}"
            )),
            "{error}"
        );
        assert!(error.hint().unwrap().contains(hint), "{error:?}");
        let cause = error.downcast_ref();
        assert!(
            matches!(cause, Some(JournalError::Format { format, .. }) if (version == 0) == matches!(format, FormatError::TooOld { .. })),
            "{error:?}"
        );
    }
    set(now);
    has_small(&path);
}

#[tokio::test]
async fn a_shortened_file_is_refused() {
    let (_directory, path) = closed().await;
    let size = fs::metadata(&path).unwrap().len();
    assert!(size > 8192, "{size}");
    for rest in [size - 4096, size / 2, 5000, 4096, 1000, 100, 10, 1] {
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(rest)
            .unwrap();
        let error = refused(&path);
        let message = error.message();
        assert!(
            message.contains("damaged") || message.contains("not a journal"),
            "{rest}: {error}"
        );
    }
    fs::write(&path, "").unwrap();
    assert!(refused(&path).message().contains("the journal is empty"));
    assert_eq!(fs::metadata(&path).unwrap().len(), 0, "nothing is made in its place");
}

#[tokio::test]
async fn a_log_without_its_journal_is_not_taken_for_a_new_one() {
    let (directory, path) = closed().await;
    fs::remove_file(&path).unwrap();
    fs::write(directory.path().join("journal.db-wal"), "x").unwrap();
    let error = refused(&path);
    assert!(
        error.message().contains("journal.db-wal: the journal is gone"),
        "{error}"
    );
    assert!(!path.exists());
}

#[tokio::test]
async fn a_changed_byte_of_a_body_is_found_where_it_is() {
    let columns = [
        ("task", "input", "`input` of run `r`, task `root`"),
        ("task_end", "report", "`report` of run `r`, task `root`"),
        ("task_end", "returned", "`returned` of run `r`, task `root`"),
        ("task_end", "models", "`models` of run `r`, task `root`"),
        ("ask", "request", "`request` of run `r`, task `root`, ask 0"),
        ("ask_result", "result", "`result` of run `r`, task `root`, ask 0"),
        ("request_end", "body", "`body` of run `r`, task `root`, ask 0"),
        ("remaining", "remaining", "`remaining` of run `r`, task `root`"),
        ("document", "operation", "`operation` of run `r`, task `root`"),
        ("document_result", "result", "`result` of run `r`, task `root`"),
        ("run", "command", "`command` of run `r`"),
        ("run", "report", "`report` of run `r`"),
    ];
    let changes = [
        "substr(COL, 1, 2) || 'X' || substr(COL, 4)",
        "COL || ' '",
        "cast(x'ff' AS TEXT)",
        "''",
    ];
    let (_directory, journal) = scratch();
    journal.all(small()).await.unwrap();
    let db = Connection::open(journal.path()).unwrap();
    db.pragma_update(None, "synchronous", "OFF").unwrap();
    for (table, column, place) in columns {
        let select = format!("SELECT {column} FROM {table}");
        let before: String = db.query_row(&select, [], |row| row.get(0)).unwrap();
        for change in changes {
            let change = change.replace("COL", column);
            let changed = db
                .execute(&format!("UPDATE {table} SET {column} = {change}"), [])
                .unwrap();
            assert_eq!(changed, 1);
            let error = match table {
                "run" => journal.find("r").unwrap_err(),
                _ => journal.task("r", "root").unwrap_err(),
            };
            let expected = format!(
                "{}: the journal was changed or damaged: {place}",
                journal.path().display()
            );
            assert_eq!(error.message(), expected);
            assert!(error.hint().unwrap().contains(".recover"));
        }
        db.execute(&format!("UPDATE {table} SET {column} = ?1"), [before])
            .unwrap();
    }
    has_small(journal.path());
}

#[tokio::test]
async fn a_body_that_is_gone_or_lost_its_digest_is_found() {
    for change in ["input = NULL", "input_sum = NULL", "input_sum = x'00'"] {
        let (_directory, journal) = scratch();
        journal.all(small()).await.unwrap();
        let db = Connection::open(journal.path()).unwrap();
        db.execute(&format!("UPDATE task SET {change}"), []).unwrap();
        let error = journal.tasks("r", "", None, 9).unwrap_err();
        assert!(
            error.message().ends_with("`input` of run `r`, task `root`"),
            "{change}: {error}"
        );
    }
}

#[tokio::test]
async fn a_body_that_is_not_what_belongs_there_is_damage() {
    let (_directory, journal) = scratch();
    journal.all(small()).await.unwrap();
    let db = Connection::open(journal.path()).unwrap();
    for (column, text, place) in [
        (
            "result",
            r#"{"kind":"dream"}"#,
            "`result` of run `r`, task `root`, ask 0",
        ),
        ("result", "[]", "`result` of run `r`, task `root`, ask 0"),
    ] {
        let sum = super::super::entries::sum(text);
        let sql = format!("UPDATE ask_result SET {column} = ?1, {column}_sum = ?2");
        db.execute(&sql, rusqlite::params![text, sum]).unwrap();
        let error = journal.task("r", "root").unwrap_err();
        assert!(error.message().ends_with(place), "{error}");
    }
    db.execute("UPDATE run SET kind = 'dream'", []).unwrap();
    let error = journal.find("r").unwrap_err();
    assert!(error.message().ends_with("`kind` of run `r`"), "{error}");
}

#[tokio::test]
async fn a_missing_turn_or_reply_is_found() {
    let (_directory, journal) = scratch();
    journal.all(small()).await.unwrap();
    let more = [
        turned("r", "root", Turn::Answer(1)),
        remained("r", "root", 2),
        document_asked("r", "root", 1, "[2]"),
        answered("r", "root", 0, Some("2"), 30),
    ];
    journal.all(more).await.unwrap();
    let db = Connection::open(journal.path()).unwrap();
    for (table, expected) in [
        (
            "document",
            "operation on a document 0 of run `r`, task `root` is missing",
        ),
        ("request_end", "reply 0 of run `r`, task `root`, ask 0 is missing"),
        (
            "remaining",
            "answer of `remaining` 0 of run `r`, task `root` is missing",
        ),
        ("turn", "turn 0 of run `r`, task `root` is missing"),
    ] {
        db.execute(&format!("DELETE FROM {table} WHERE seq = 0"), []).unwrap();
        let error = journal.task("r", "root").unwrap_err();
        assert!(error.message().ends_with(expected), "{error}");
    }
    db.execute("UPDATE turn SET seq = 0, kind = 'sleep'", []).unwrap();
    assert!(
        journal
            .task("r", "root")
            .unwrap_err()
            .message()
            .ends_with("`kind` of run `r`, task `root`")
    );
}

#[tokio::test]
async fn no_damaged_page_gives_a_wrong_body_or_a_panic() {
    let (directory, journal) = scratch();
    journal.append(JournalEntry::RunStarted(run("r", 1))).await.unwrap();
    let id = |n: u64| format!("root/{n}");
    let long = |n: u64| n.to_string().repeat(700);
    for n in 0..20 {
        let task = id(n);
        let entries = [
            task_start("r", &task),
            call_start("r", &task, 0, 1),
            answered("r", &task, 0, Some(&long(n)), 1),
            told("r", &task, 0, &long(n)),
            turned("r", &task, Turn::Answer(0)),
        ];
        journal.all(entries).await.unwrap();
    }
    let path = journal.path().to_owned();
    drop(journal);
    let size = fs::metadata(&path).unwrap().len();
    let (mut found, mut whole) = (0, 0);
    for page in 0..size / 4096 {
        // At the head of the page, inside it, and at its end, where the rows begin.
        for within in [0, 100, 2000, 4000] {
            let copy = directory.path().join("copy.db");
            fs::copy(&path, &copy).unwrap();
            let file = fs::OpenOptions::new().write(true).open(&copy).unwrap();
            file.write_all_at(&[0xa5; 64], page * 4096 + within).unwrap();
            drop(file);
            let Ok(journal) = Sqlite::open(&copy) else {
                found += 1;
                continue;
            };
            for n in 0..20 {
                match journal.task("r", &id(n)) {
                    Err(error) => {
                        assert_eq!(error.class(), ErrorClass::Host);
                        found += 1;
                    }
                    Ok(task) => {
                        for ask in task.iter().flat_map(|task| &task.asks) {
                            assert!(ask.result.iter().all(|told| *told == result(&long(n))), "page {page}");
                            assert!(ask.requests.iter().all(|end| *end == paid(&long(n))), "page {page}");
                        }
                        whole += 1;
                    }
                }
            }
            let _ = journal.tasks("r", "", None, 99);
            let _ = journal.calls("r", 99);
            let _ = journal.append(turned("r", "root/3", Turn::Answer(1))).await;
            drop(journal);
            for end in ["-wal", "-shm"] {
                let _ = fs::remove_file(directory.path().join(format!("copy.db{end}")));
            }
        }
    }
    assert!(found > 100, "{found} errors");
    assert!(whole > 100, "{whole} tasks that the damage did not reach");
}

#[tokio::test]
async fn an_index_that_disagrees_with_its_table_is_damage() {
    let (_directory, journal) = scratch();
    journal
        .append(JournalEntry::RunStarted(run("whole-run", 1)))
        .await
        .unwrap();
    let path = journal.path().to_owned();
    drop(journal);
    let whole = fs::read(&path).unwrap();
    let places: Vec<_> = (0..whole.len())
        .filter(|at| whole[*at..].starts_with(b"whole-run"))
        .collect();
    assert!(places.len() >= 2, "in the table and in the index");
    let mut damaged = 0;
    for place in places {
        let mut file = whole.clone();
        file[place + 8] = b'x';
        fs::write(&path, file).unwrap();
        let journal = Sqlite::open_existing(&path).unwrap().unwrap();
        match journal.find("whole") {
            Ok(run) => assert!(run.id.starts_with("whole-ru"), "{run:?}"),
            Err(error) => {
                assert!(error.message().contains("was changed or damaged: "), "{error}");
                damaged += usize::from(error.message().contains("is not in the index"));
            }
        }
    }
    assert!(damaged > 0, "a run that only the table has is found");
}
