//! Which process runs a run.
//!
//! The number of a process alone says too little: it is given to another process sooner or later. Beside it stands when
//! the process began, in the table `run_process`. That table is made when it is first needed, and an entry of it counts
//! only for the number that the run itself names, so that a journal which another version wrote to meanwhile stays right.
//!
//! Left out: processes of other machines or containers that use the same file. Their numbers mean nothing here.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::fault::Trouble;
use agenthost_core::process;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS
    run_process (run INTEGER PRIMARY KEY, pid INTEGER NOT NULL, start TEXT NOT NULL) STRICT";

/// Notes when the process `pid` of a run began.
pub(super) fn note(db: &Connection, run: &str, pid: u32) -> Result<(), Trouble> {
    const SQL: &str = "INSERT OR REPLACE INTO run_process (run, pid, start) SELECT no, ?2, ?3 FROM run WHERE id = ?1";
    db.execute(TABLE, [])?;
    if let Some(start) = process::start_of(pid) {
        db.prepare_cached(SQL)?.execute(params![run, pid, start])?;
    }
    Ok(())
}

/// Forgets the process of the run of this number, which is removed.
pub(super) fn forget(db: &Connection, no: i64) -> Result<(), Trouble> {
    db.execute(TABLE, [])?;
    db.prepare_cached("DELETE FROM run_process WHERE run = ?1")?
        .execute([no])?;
    Ok(())
}

/// The live process that runs `run`, if there is one.
pub(super) fn running(db: &Connection, run: &str) -> Result<Option<u32>, Trouble> {
    const SQL: &str = "SELECT no FROM run WHERE id = ?1";
    let no = db.prepare_cached(SQL)?.query_row([run], |row| row.get(0)).optional()?;
    process(db, no.ok_or_else(|| Trouble::no_run(run))?)
}

/// The live process that runs the run of this number, if there is one.
pub(super) fn process(db: &Connection, no: i64) -> Result<Option<u32>, Trouble> {
    const PID: &str = "SELECT pid FROM run WHERE no = ?1 AND ended_ms IS NULL";
    let pid: Option<u32> = db.prepare_cached(PID)?.query_row([no], |row| row.get(0)).optional()?;
    let Some(pid) = pid else { return Ok(None) };
    let start = start(db, no, pid)?;
    Ok(process::is_alive_since(pid, start.as_deref()).then_some(pid))
}

/// When the process of a run began, if that was noted for this number.
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
