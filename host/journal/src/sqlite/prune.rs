//! Removes runs and frees their space.
//!
//! A run is live if it has no end and its process exists; a live run is never removed. A run without an end whose
//! process is gone was interrupted.
//!
//! Each run is removed in a transaction of its own, and space is freed in small steps, so that other processes get
//! their turn. The file itself shrinks once no process is reading it.

use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior, params};

use super::super::{Keep, Pruned};
use super::fault::Trouble;
use super::owner;

/// The number of pages per step: 4 MiB.
const STEP: u32 = 1024;
/// The time to wait for readers before the file is shortened. If they stay, a later writer shortens it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Removes the runs that are neither kept nor live.
pub(super) fn prune(db: &mut Connection, keep: &Keep) -> Result<Pruned, Trouble> {
    let before = pages(db)?;
    let mut pruned = Pruned::default();
    for no in candidates(db, keep)? {
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another process may have resumed it since.
        if owner::process(&transaction, no)?.is_some() {
            continue;
        }
        owner::forget(&transaction, no)?;
        for sql in [
            "DELETE FROM request_end WHERE ask IN
                (SELECT ask.no FROM ask JOIN task ON task.no = ask.task WHERE task.run = ?1)",
            "DELETE FROM ask_result WHERE ask IN
                (SELECT ask.no FROM ask JOIN task ON task.no = ask.task WHERE task.run = ?1)",
            "DELETE FROM ask WHERE task IN (SELECT no FROM task WHERE run = ?1)",
            "DELETE FROM turn WHERE task IN (SELECT no FROM task WHERE run = ?1)",
            "DELETE FROM remaining WHERE task IN (SELECT no FROM task WHERE run = ?1)",
            "DELETE FROM document_result WHERE document IN
                (SELECT document.no FROM document JOIN task ON task.no = document.task WHERE task.run = ?1)",
            "DELETE FROM document WHERE task IN (SELECT no FROM task WHERE run = ?1)",
            "DELETE FROM task_end WHERE task IN (SELECT no FROM task WHERE run = ?1)",
            "DELETE FROM request WHERE run = ?1",
            "DELETE FROM task WHERE run = ?1",
            "DELETE FROM run WHERE no = ?1",
        ] {
            transaction.prepare_cached(sql)?.execute([no])?;
        }
        transaction.commit()?;
        pruned.runs += 1;
    }
    shrink(db)?;
    let size: u64 = db.pragma_query_value(None, "page_size", |row| row.get(0).map(i64::cast_unsigned))?;
    pruned.bytes = before.saturating_sub(pages(db)?) * size;
    Ok(pruned)
}

/// Returns the runs that `keep` does not cover, the latest first.
fn candidates(db: &Connection, keep: &Keep) -> Result<Vec<i64>, Trouble> {
    const SQL: &str = "SELECT no FROM (
            SELECT no, started_ms, row_number() OVER (ORDER BY started_ms DESC, no DESC) AS place FROM run)
        WHERE place > ?1 AND (?2 IS NULL OR started_ms <= ?2) ORDER BY place";
    let latest = i64::try_from(keep.latest.unwrap_or(0)).unwrap_or(i64::MAX);
    let after = keep.after_ms.map(u64::cast_signed);
    let mut statement = db.prepare_cached(SQL)?;
    let found = statement.query_map(params![latest, after], |row| row.get(0))?;
    Ok(found.collect::<Result<_, _>>()?)
}

fn pages(db: &Connection) -> Result<u64, Trouble> {
    Ok(db.pragma_query_value(None, "page_count", |row| row.get(0).map(i64::cast_unsigned))?)
}

fn free(db: &Connection) -> Result<i64, Trouble> {
    Ok(db.pragma_query_value(None, "freelist_count", |row| row.get(0))?)
}

fn shrink(db: &Connection) -> Result<(), Trouble> {
    let mut left = free(db)?;
    while left > 0 {
        let mut statement = db.prepare(&format!("PRAGMA incremental_vacuum({STEP})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        let now = free(db)?;
        if now >= left {
            break;
        }
        left = now;
    }
    db.busy_timeout(PATIENCE)?;
    // The pragma returns a row with its result, which does not matter here.
    let shortened = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    db.busy_timeout(super::file::PATIENCE)?;
    Ok(shortened?)
}
