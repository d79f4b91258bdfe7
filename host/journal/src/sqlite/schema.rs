//! The definitions of a journal, and the check that a file has no others.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::fault::Trouble;

/// The tables of the current format. The results of tasks and asks, which are added later, are in tables of their own, so
/// that no large row is written twice.
pub(super) const TABLES: &str = "
CREATE TABLE run (
    no INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, plugin TEXT NOT NULL, digest TEXT NOT NULL,
    seed BLOB NOT NULL, clock_ms INTEGER NOT NULL, started_ms INTEGER NOT NULL, pid INTEGER NOT NULL,
    ended_ms INTEGER, state TEXT, command TEXT NOT NULL, command_sum BLOB NOT NULL, report TEXT, report_sum BLOB
) STRICT;
CREATE TABLE task (
    no INTEGER PRIMARY KEY, run INTEGER NOT NULL, key BLOB NOT NULL, id TEXT NOT NULL, plugin TEXT NOT NULL,
    digest TEXT NOT NULL, started_ms INTEGER NOT NULL, input TEXT, input_sum BLOB,
    UNIQUE (run, key)
) STRICT;
CREATE TABLE task_end (
    task INTEGER PRIMARY KEY, ended_ms INTEGER NOT NULL, report TEXT NOT NULL, report_sum BLOB NOT NULL,
    returned TEXT, returned_sum BLOB, models TEXT NOT NULL, models_sum BLOB NOT NULL
) STRICT;
CREATE TABLE ask (
    no INTEGER PRIMARY KEY, task INTEGER NOT NULL, number INTEGER NOT NULL, hash BLOB, request TEXT, request_sum BLOB,
    sub_task TEXT,
    UNIQUE (task, number)
) STRICT;
CREATE TABLE request_end (
    no INTEGER PRIMARY KEY, ask INTEGER NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL,
    body TEXT NOT NULL, body_sum BLOB NOT NULL,
    UNIQUE (ask, seq)
) STRICT;
CREATE TABLE ask_result (ask INTEGER PRIMARY KEY, result TEXT NOT NULL, result_sum BLOB NOT NULL) STRICT;
CREATE TABLE turn (
    task INTEGER NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, value INTEGER NOT NULL,
    PRIMARY KEY (task, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE remaining (
    task INTEGER NOT NULL, seq INTEGER NOT NULL, remaining TEXT NOT NULL, remaining_sum BLOB NOT NULL,
    PRIMARY KEY (task, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE document (
    no INTEGER PRIMARY KEY, task INTEGER NOT NULL, seq INTEGER NOT NULL,
    operation TEXT NOT NULL, operation_sum BLOB NOT NULL,
    UNIQUE (task, seq)
) STRICT;
CREATE TABLE document_result (document INTEGER PRIMARY KEY, result TEXT NOT NULL, result_sum BLOB NOT NULL) STRICT;
CREATE TABLE request (
    no INTEGER PRIMARY KEY, run INTEGER NOT NULL, task INTEGER NOT NULL, ask INTEGER NOT NULL, model TEXT NOT NULL,
    sent_ms INTEGER NOT NULL, ended_ms INTEGER, open INTEGER NOT NULL
) STRICT;
CREATE TABLE run_process (run INTEGER PRIMARY KEY, pid INTEGER NOT NULL, start TEXT NOT NULL) STRICT;
CREATE INDEX request_run ON request (run);
CREATE INDEX request_open ON request (task, ask) WHERE open = 1;
";

/// Refuses a file with definitions that are not in `tables`. A journal can come from a stranger, and a view, a trigger or
/// a table with expressions of its own runs computations when it is read or written.
pub(super) fn check_schema(connection: &Connection, tables: &str) -> Result<(), Trouble> {
    let ours = schema(&{
        let model = Connection::open_in_memory()?;
        model.execute_batch(tables)?;
        model
    })?;
    for (name, sql) in schema(connection)? {
        if ours.get(&name) != Some(&sql) {
            return Err(Trouble::Foreign(name));
        }
    }
    Ok(())
}

/// Returns the definitions of a database by name, except for the indexes that SQLite creates itself.
fn schema(connection: &Connection) -> Result<BTreeMap<String, String>, Trouble> {
    let mut statement = connection.prepare("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
