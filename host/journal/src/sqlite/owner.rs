//! Tracks which process owns a run.
//!
//! A process id alone is not enough, because the system reuses it sooner or later. So the table `run_process` also
//! stores the start time of the process. The table is created when it is first needed, and a row counts only if its
//! process id is the one in the run itself, so that a journal stays correct if another version of the program has
//! written to it in between.
//!
//! Left out: processes on other machines or in containers that use the same file. Their ids mean nothing here.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::fault::Trouble;
use agenthost_core::process;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS
    run_process (run INTEGER PRIMARY KEY, pid INTEGER NOT NULL, start TEXT NOT NULL) STRICT";

/// Records the start time of the process `pid` of a run.
pub(super) fn note(db: &Connection, run: &str, pid: u32) -> Result<(), Trouble> {
    const SQL: &str = "INSERT OR REPLACE INTO run_process (run, pid, start) SELECT no, ?2, ?3 FROM run WHERE id = ?1";
    db.execute(TABLE, [])?;
    if let Some(start) = process::start_of(pid) {
        db.prepare_cached(SQL)?.execute(params![run, pid, start])?;
    }
    Ok(())
}

/// Removes the process of the run with this number, which is being removed.
pub(super) fn forget(db: &Connection, no: i64) -> Result<(), Trouble> {
    db.execute(TABLE, [])?;
    db.prepare_cached("DELETE FROM run_process WHERE run = ?1")?
        .execute([no])?;
    Ok(())
}

/// Returns the live process that owns `run`; `None` if there is none.
pub(super) fn running(db: &Connection, run: &str) -> Result<Option<u32>, Trouble> {
    const SQL: &str = "SELECT no FROM run WHERE id = ?1";
    let no = db.prepare_cached(SQL)?.query_row([run], |row| row.get(0)).optional()?;
    process(db, no.ok_or_else(|| Trouble::no_run(run))?)
}

/// Returns the live process that owns the run with this number; `None` if there is none.
pub(super) fn process(db: &Connection, no: i64) -> Result<Option<u32>, Trouble> {
    const PID: &str = "SELECT pid FROM run WHERE no = ?1 AND ended_ms IS NULL";
    let pid: Option<u32> = db.prepare_cached(PID)?.query_row([no], |row| row.get(0)).optional()?;
    let Some(pid) = pid else { return Ok(None) };
    let start = start(db, no, pid)?;
    Ok(process::is_alive_since(pid, start.as_deref()).then_some(pid))
}

/// Returns the start time of the process of a run, if it was recorded for this process id.
fn start(db: &Connection, no: i64, pid: u32) -> Result<Option<String>, Trouble> {
    const SQL: &str = "SELECT start FROM run_process WHERE run = ?1 AND pid = ?2";
    if !db.table_exists(None, "run_process")? {
        return Ok(None);
    }
    Ok(db
        .prepare_cached(SQL)?
        .query_row(params![no, pid], |row| row.get(0))
        .optional()?)
}
