//! Migrates a journal of an older format.
//!
//! Format 3 has tables for what tasks do with documents, and everything else as in format 2. In format 1, a model call and the start of a sub-task were rows of one table without a mark; the end of a request and
//! the result of an ask were JSON that a reader told apart by their fields. The tables that hold them have new names, so
//! a process of the old version that still has the file open fails to write instead of mixing formats.
//!
//! A body that does not match its checksum, or that is not what format 1 has there, is copied as it is. Reading it reports
//! the damage of that one record, as before.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, TransactionBehavior, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::super::{AskResult, FORMAT, RequestEnd};
use super::entries::{Body, sum};
use super::fault::Trouble;
use super::owner;
use super::schema::{TABLES, check_schema};
use crate::error::JournalError;

/// The fields of a body.
type Fields = Map<String, Value>;

/// The tables of format 1 that format 2 does not have.
const REPLACED: [(&str, &str); 3] = [
    (
        "call",
        "CREATE TABLE call (
    no INTEGER PRIMARY KEY, task INTEGER NOT NULL, ask INTEGER NOT NULL, hash BLOB NOT NULL, body TEXT, body_sum BLOB,
    UNIQUE (task, ask)
) STRICT;",
    ),
    (
        "reply",
        "CREATE TABLE reply (
    no INTEGER PRIMARY KEY, call INTEGER NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL,
    reply TEXT NOT NULL, reply_sum BLOB NOT NULL,
    UNIQUE (call, seq)
) STRICT;",
    ),
    (
        "call_end",
        "CREATE TABLE call_end (call INTEGER PRIMARY KEY, result TEXT NOT NULL, result_sum BLOB NOT NULL) STRICT;",
    ),
];

/// The tables of format 2 that format 1 does not have.
const NEW_IN_2: [&str; 3] = ["ask", "request_end", "ask_result"];
/// The tables of format 3 that format 2 does not have.
const NEW_IN_3: [&str; 2] = ["document", "document_result"];

/// Migrates the journal to the current format, in one transaction.
pub(super) fn migrate(db: &mut Connection, path: &Path) -> Result<(), Trouble> {
    if db.is_readonly("main")? {
        return Err(Trouble::Complete(JournalError::MigrateReadOnly {
            path: path.to_owned(),
        }));
    }
    // The lock of all writers is held from here on.
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == FORMAT.number() {
        // Another process has migrated it in the meantime.
        return Ok(());
    }
    let old = match version {
        1 => tables_of_format_1(),
        _ => tables_of_format_2().collect::<Vec<_>>().join("\n"),
    };
    check_schema(&transaction, &old)?;
    refuse_live(&transaction, path)?;
    if version == 1 {
        migrate_from_1(&transaction)?;
    }
    create(&transaction, &NEW_IN_3)?;
    transaction.pragma_update(None, "user_version", FORMAT.number())?;
    Ok(transaction.commit()?)
}

/// Migrates to format 2.
fn migrate_from_1(db: &Connection) -> Result<(), Trouble> {
    create(db, &NEW_IN_2)?;
    asks(db)?;
    bodies::<RequestEnd>(
        db,
        "SELECT no, reply, reply_sum FROM reply ORDER BY no",
        "INSERT INTO request_end (no, ask, seq, hash, body, body_sum)
            SELECT no, call, seq, hash, ?2, ?3 FROM reply WHERE no = ?1",
        request_end,
    )?;
    bodies::<AskResult>(
        db,
        "SELECT call, result, result_sum FROM call_end ORDER BY call",
        "INSERT INTO ask_result (ask, result, result_sum) VALUES (?1, ?2, ?3)",
        result,
    )?;
    for (name, _) in REPLACED {
        db.execute_batch(&format!("DROP TABLE {name}"))?;
    }
    Ok(())
}

/// Creates tables of the current format.
fn create(db: &Connection, names: &[&str]) -> Result<(), Trouble> {
    for table in statements(TABLES).filter(|table| names.iter().any(|name| creates(table, name))) {
        db.execute_batch(table)?;
    }
    Ok(())
}

/// Refuses to migrate the journal while a process works on a run in it. That process is of the old version.
fn refuse_live(db: &Connection, path: &Path) -> Result<(), Trouble> {
    let mut statement = db.prepare("SELECT no, id FROM run WHERE ended_ms IS NULL")?;
    let open: Vec<(i64, String)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (no, run) in open {
        if let Some(pid) = owner::process(db, no)? {
            return Err(Trouble::Complete(JournalError::MigrateRunning {
                path: path.to_owned(),
                run,
                pid,
            }));
        }
    }
    Ok(())
}

/// Returns the definitions of format 1.
fn tables_of_format_1() -> String {
    let same = tables_of_format_2().filter(|table| !NEW_IN_2.iter().any(|new| creates(table, new)));
    let old = REPLACED.iter().map(|(_, sql)| *sql);
    same.chain(old).collect::<Vec<_>>().join("\n")
}

/// Returns the definitions of format 2.
fn tables_of_format_2() -> impl Iterator<Item = &'static str> {
    statements(TABLES).filter(|table| !NEW_IN_3.iter().any(|new| creates(table, new)))
}

fn statements(sql: &str) -> impl Iterator<Item = &str> {
    sql.split_inclusive(';').map(str::trim).filter(|sql| !sql.is_empty())
}

fn creates(sql: &str, table: &str) -> bool {
    sql.strip_prefix("CREATE TABLE ")
        .and_then(|rest| rest.strip_prefix(table))
        .is_some_and(|rest| rest.starts_with(' '))
}

/// Copies the asks, and marks those that started a sub-task. Such an ask has no body, and its hash is the digest of the
/// sub-task's id.
fn asks(db: &Connection) -> Result<(), Trouble> {
    db.execute_batch(
        "INSERT INTO ask (no, task, number, hash, request, request_sum)
            SELECT no, task, ask, hash, body, body_sum FROM call ORDER BY no",
    )?;
    let mut tasks = db.prepare(
        "SELECT task.no, id, count(*) FROM task JOIN call ON call.task = task.no WHERE body IS NULL GROUP BY task.no",
    )?;
    let mut mark = db.prepare("UPDATE ask SET sub_task = ?2, hash = NULL WHERE no = ?1")?;
    let mut calls = db.prepare("SELECT no, hash FROM call WHERE task = ?1 AND body IS NULL")?;
    let mut rows = tasks.query([])?;
    while let Some(row) = rows.next()? {
        let (no, id, count): (i64, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let children = (0..count).map(|child| format!("{id}/{child}"));
        let children: BTreeMap<Vec<u8>, String> =
            children.map(|child| (Sha256::digest(&child).to_vec(), child)).collect();
        let mut calls = calls.query([no])?;
        while let Some(call) = calls.next()? {
            if let Some(child) = children.get(&call.get::<_, Vec<u8>>(1)?) {
                mark.execute(params![call.get::<_, i64>(0)?, child])?;
            }
        }
    }
    Ok(())
}

/// Copies the bodies that `from` selects, each with a number, by `into`. A body that `upgrade` turns into a `T` is stored
/// as one.
fn bodies<T: DeserializeOwned + Serialize>(
    db: &Connection,
    from: &str,
    into: &str,
    upgrade: fn(Fields) -> Option<Fields>,
) -> Result<(), Trouble> {
    let (mut from, mut into) = (db.prepare(from)?, db.prepare(into)?);
    let mut rows = from.query([])?;
    while let Some(row) = rows.next()? {
        let no: i64 = row.get(0)?;
        let (text, stored) = (row.get_ref(1)?, row.get_ref(2)?);
        let body = text
            .as_str()
            .ok()
            .filter(|text| stored.as_blob().is_ok_and(|stored| stored == sum(text)));
        let new = body.and_then(|body| {
            let new = upgrade(serde_json::from_str(body).ok()?)?;
            serde_json::from_value::<T>(Value::Object(new)).ok()
        });
        match new {
            Some(new) => {
                let body = Body::of(&new)?;
                into.execute(params![no, body.text, body.sum])?
            }
            None => into.execute(params![no, ToSqlOutput::Borrowed(text), ToSqlOutput::Borrowed(stored)])?,
        };
    }
    Ok(())
}

/// Upgrades the end of a request: `reply` and `used`, or `lost` and `model`.
fn request_end(mut old: Fields) -> Option<Fields> {
    if old.contains_key("reply") {
        return Some(tagged("paid", old));
    }
    let lost = old.shift_remove("lost")?;
    old.insert("used".into(), lost);
    Some(tagged("lost", old))
}

/// Upgrades the result of an ask: `task`, `ok` and `keeps` for a sub-task, and for a model call `used`, `models`, and `ok`
/// or `err` if texts are kept.
fn result(old: Fields) -> Option<Fields> {
    let has = |key| old.contains_key(key);
    let kind = match () {
        () if has("keeps") => "sub-task",
        () if has("ok") => "reply",
        () if has("err") => "error",
        () if has("used") => "not-kept",
        () => return None,
    };
    Some(tagged(kind, old))
}

/// Returns an object with its kind first.
fn tagged(kind: &str, old: Fields) -> Fields {
    let kind = ("kind".to_owned(), Value::from(kind));
    std::iter::once(kind).chain(old).collect()
}
