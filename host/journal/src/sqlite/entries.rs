//! Applies an entry to the tables.
//!
//! An entry that refers to a missing run, task or call is refused together with its transaction, because it could never
//! be read back.

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::super::{Asked, JournalEntry, RequestRecord, RunEnd, RunRecord, TaskEnd, Turn};
use super::fault::Trouble;
use super::key::key;
use super::owner;

type Done = Result<(), Trouble>;

/// A value as it is stored in two columns: JSON text, and its checksum.
pub(super) struct Body {
    pub(super) text: String,
    pub(super) sum: [u8; 16],
}

impl Body {
    pub(super) fn of(value: &impl Serialize) -> Result<Self, Trouble> {
        let text = serde_json::to_string(value).map_err(|error| Trouble::Misfit(format!("not JSON: {error}")))?;
        Ok(Self { sum: sum(&text), text })
    }

    fn of_kept(value: Option<&impl Serialize>) -> Result<(Option<String>, Option<[u8; 16]>), Trouble> {
        Ok(value
            .map(Self::of)
            .transpose()?
            .map(|body| (body.text, body.sum))
            .unzip())
    }
}

/// Returns the checksum that is stored with a body.
pub(super) fn sum(body: &str) -> [u8; 16] {
    let mut sum = [0; 16];
    for (to, from) in sum.iter_mut().zip(Sha256::digest(body)) {
        *to = from;
    }
    sum
}

/// Converts a number to SQLite's type; [`u64::cast_signed`] loses nothing.
fn int(number: u64) -> i64 {
    number.cast_signed()
}

/// Writes one entry.
pub(super) fn write(db: &Connection, entry: &JournalEntry) -> Done {
    match entry {
        JournalEntry::RunStarted(run) => run_started(db, run),
        JournalEntry::RunResumed { run, pid } => {
            const SQL: &str = "UPDATE run SET pid = ?2, ended_ms = NULL, state = NULL, report = NULL, report_sum = NULL
                WHERE id = ?1";
            one(db.prepare_cached(SQL)?.execute(params![run, pid])?, || {
                Trouble::no_run(run)
            })?;
            owner::note(db, run, *pid)
        }
        JournalEntry::RunEnded { run, end } => run_ended(db, run, end),
        JournalEntry::TaskStarted {
            run,
            task,
            plugin,
            digest,
            input,
            at_ms,
        } => {
            start_over(db, run, task)?;
            const SQL: &str = "INSERT INTO task (run, key, id, plugin, digest, started_ms, input, input_sum)
                SELECT no, ?2, ?3, ?4, ?5, ?6, ?7, ?8 FROM run WHERE id = ?1
                ON CONFLICT (run, key) DO UPDATE SET plugin = excluded.plugin, digest = excluded.digest,
                started_ms = excluded.started_ms, input = excluded.input, input_sum = excluded.input_sum";
            let (input, sum) = Body::of_kept(input.as_ref())?;
            let fields = params![run, key(task)?, task, plugin, digest, int(*at_ms), input, sum];
            one(db.prepare_cached(SQL)?.execute(fields)?, || Trouble::no_run(run))
        }
        JournalEntry::Asked { run, task, ask, what } => asked(db, find_task(db, run, task)?, *ask, what),
        JournalEntry::AskedAgain {
            run,
            task,
            ask,
            what,
            requests,
        } => {
            let no = find_task(db, run, task)?;
            remove_ask(db, no, *ask)?;
            asked(db, no, *ask, what)?;
            let ask = find_ask(db, (run, task, *ask))?;
            requests
                .iter()
                .try_for_each(|request| add_request_end(db, ask, request))
        }
        JournalEntry::RequestSent {
            run,
            task,
            ask,
            model,
            at_ms,
        } => {
            const SQL: &str = "INSERT INTO request (run, task, ask, model, sent_ms, open)
                SELECT run, no, ?2, ?3, ?4, 1 FROM task WHERE no = ?1";
            let fields = params![find_task(db, run, task)?, int(*ask), model, int(*at_ms)];
            db.prepare_cached(SQL)?.execute(fields)?;
            Ok(())
        }
        JournalEntry::RequestEnded {
            run,
            task,
            ask,
            request,
            at_ms,
        } => request_ended(db, (run, task, *ask), request.as_ref(), *at_ms),
        JournalEntry::Answered { run, task, ask, result } => {
            const SQL: &str = "INSERT OR REPLACE INTO ask_result (ask, result, result_sum) VALUES (?1, ?2, ?3)";
            let ask = find_ask(db, (run, task, *ask))?;
            let result = Body::of(result)?;
            db.prepare_cached(SQL)?.execute(params![ask, result.text, result.sum])?;
            Ok(())
        }
        JournalEntry::Turned { run, task, turn } => {
            const SQL: &str = "INSERT INTO turn (task, seq, kind, value)
                SELECT ?1, ifnull(max(seq) + 1, 0), ?2, ?3 FROM turn WHERE task = ?1";
            let (kind, value) = match turn {
                Turn::Answer(ask) => ("answer", *ask),
                Turn::Cut(cut) if cut.time_up => ("time-up", cut.polls),
                Turn::Cut(cut) => ("cancelled", cut.polls),
            };
            let fields = params![find_task(db, run, task)?, kind, int(value)];
            db.prepare_cached(SQL)?.execute(fields)?;
            Ok(())
        }
        JournalEntry::Remained { run, task, remaining } => {
            const SQL: &str = "INSERT INTO remaining (task, seq, remaining, remaining_sum)
                SELECT ?1, ifnull(max(seq) + 1, 0), ?2, ?3 FROM remaining WHERE task = ?1";
            let remaining = Body::of(remaining)?;
            let fields = params![find_task(db, run, task)?, remaining.text, remaining.sum];
            db.prepare_cached(SQL)?.execute(fields)?;
            Ok(())
        }
        JournalEntry::DocumentAsked {
            run,
            task,
            number,
            operation,
        } => {
            let no = find_task(db, run, task)?;
            remove_documents(db, no, *number)?;
            const SQL: &str = "INSERT INTO document (task, seq, operation, operation_sum) VALUES (?1, ?2, ?3, ?4)";
            let operation = Body::of(operation)?;
            let fields = params![no, int(*number), operation.text, operation.sum];
            db.prepare_cached(SQL)?.execute(fields)?;
            Ok(())
        }
        JournalEntry::DocumentAnswered {
            run,
            task,
            number,
            result,
        } => {
            const SQL: &str = "INSERT OR REPLACE INTO document_result (document, result, result_sum)
                SELECT no, ?3, ?4 FROM document WHERE task = ?1 AND seq = ?2";
            let result = Body::of(result)?;
            let fields = params![find_task(db, run, task)?, int(*number), result.text, result.sum];
            one(db.prepare_cached(SQL)?.execute(fields)?, || {
                Trouble::Misfit(format!(
                    "operation {number} of task `{task}` of run `{run}` has never been made"
                ))
            })
        }
        JournalEntry::TaskEnded { run, task, end } => task_ended(db, find_task(db, run, task)?, end),
    }
}

/// Complains unless one row was changed.
fn one(changed: usize, complaint: impl FnOnce() -> Trouble) -> Done {
    if changed == 1 { Ok(()) } else { Err(complaint()) }
}

/// Returns the number of a task; `None` if the task does not exist.
fn seek_task(db: &Connection, run: &str, task: &str) -> Result<Option<i64>, Trouble> {
    const SQL: &str = "SELECT task.no FROM run JOIN task ON task.run = run.no WHERE run.id = ?1 AND task.key = ?2";
    let mut statement = db.prepare_cached(SQL)?;
    Ok(statement
        .query_row(params![run, key(task)?], |row| row.get(0))
        .optional()?)
}

/// Returns the number of a task.
fn find_task(db: &Connection, run: &str, task: &str) -> Result<i64, Trouble> {
    seek_task(db, run, task)?
        .ok_or_else(|| Trouble::Misfit(format!("task `{task}` of run `{run}` has never been started")))
}

/// Returns the number of an ask.
fn find_ask(db: &Connection, (run, task, ask): (&str, &str, u64)) -> Result<i64, Trouble> {
    const SQL: &str = "SELECT no FROM ask WHERE task = ?1 AND number = ?2";
    let mut statement = db.prepare_cached(SQL)?;
    let fields = params![find_task(db, run, task)?, int(ask)];
    let found = statement.query_row(fields, |row| row.get(0)).optional()?;
    found.ok_or_else(|| Trouble::Misfit(format!("ask {ask} of task `{task}` of run `{run}` has never been made")))
}

fn run_started(db: &Connection, run: &RunRecord) -> Done {
    const SQL: &str =
        "INSERT INTO run (id, kind, plugin, digest, seed, clock_ms, started_ms, pid, command, command_sum)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (id) DO NOTHING";
    let command = Body::of(&run.command)?;
    let changed = db.prepare_cached(SQL)?.execute(params![
        run.id,
        run.kind.name(),
        run.plugin,
        run.digest,
        run.seed,
        int(run.clock_ms),
        int(run.started_ms),
        run.pid,
        command.text,
        command.sum,
    ])?;
    one(changed, || {
        Trouble::Misfit(format!("there is a run `{}` already", run.id))
    })?;
    owner::note(db, &run.id, run.pid)?;
    run.end.as_ref().map_or(Ok(()), |end| run_ended(db, &run.id, end))
}

fn run_ended(db: &Connection, run: &str, end: &RunEnd) -> Done {
    const SQL: &str = "UPDATE run SET ended_ms = ?2, state = ?3, report = ?4, report_sum = ?5 WHERE id = ?1";
    let summary = Body::of(&end.summary)?;
    let fields = params![run, int(end.ended_ms), end.state.name(), summary.text, summary.sum];
    one(db.prepare_cached(SQL)?.execute(fields)?, || Trouble::no_run(run))
}

/// Removes the turns, the `remaining` results and the end of an earlier attempt at a task.
fn start_over(db: &Connection, run: &str, task: &str) -> Done {
    let Some(no) = seek_task(db, run, task)? else {
        return Ok(());
    };
    for sql in [
        "DELETE FROM turn WHERE task = ?1",
        "DELETE FROM remaining WHERE task = ?1",
        "DELETE FROM task_end WHERE task = ?1",
        // Requests that were in flight then will never be answered.
        "UPDATE request SET open = 0 WHERE task = ?1 AND open = 1",
    ] {
        db.prepare_cached(sql)?.execute([no])?;
    }
    Ok(())
}

fn asked(db: &Connection, task: i64, ask: u64, what: &Asked) -> Done {
    let (hash, request, sub_task) = match what {
        Asked::Model { hash, request } => (Some(hash), request.as_ref(), None),
        Asked::SubTask { task } => (None, None, Some(task.to_string())),
    };
    const SEEK: &str = "SELECT hash IS ?3 AND sub_task IS ?4 FROM ask WHERE task = ?1 AND number = ?2";
    let is_same: Option<bool> = db
        .prepare_cached(SEEK)?
        .query_row(params![task, int(ask), hash, sub_task], |row| row.get(0))
        .optional()?;
    if is_same == Some(true) {
        return Ok(());
    }
    remove_ask(db, task, ask)?;
    const SQL: &str = "INSERT INTO ask (task, number, hash, request, request_sum, sub_task)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let (request, sum) = Body::of_kept(request)?;
    let fields = params![task, int(ask), hash, request, sum, sub_task];
    db.prepare_cached(SQL)?.execute(fields)?;
    Ok(())
}

/// Removes an ask, if there is one, with all that belongs to it.
fn remove_ask(db: &Connection, task: i64, ask: u64) -> Done {
    const ASK: &str = "SELECT no FROM ask WHERE task = ?1 AND number = ?2";
    let no: Option<i64> = db
        .prepare_cached(ASK)?
        .query_row(params![task, int(ask)], |row| row.get(0))
        .optional()?;
    let Some(no) = no else { return Ok(()) };
    for sql in [
        "DELETE FROM request_end WHERE ask = ?1",
        "DELETE FROM ask_result WHERE ask = ?1",
        "DELETE FROM ask WHERE no = ?1",
    ] {
        db.prepare_cached(sql)?.execute([no])?;
    }
    Ok(())
}

/// Removes the operations on documents from `number` on.
fn remove_documents(db: &Connection, task: i64, number: u64) -> Done {
    for sql in [
        "DELETE FROM document_result WHERE document IN (SELECT no FROM document WHERE task = ?1 AND seq >= ?2)",
        "DELETE FROM document WHERE task = ?1 AND seq >= ?2",
    ] {
        db.prepare_cached(sql)?.execute(params![task, int(number)])?;
    }
    Ok(())
}

fn request_ended(db: &Connection, ask: (&str, &str, u64), request: Option<&RequestRecord>, at_ms: u64) -> Done {
    // The requests of one call are not identified here: the one that was sent first is assumed to end first.
    const END: &str = "UPDATE request SET ended_ms = ?3, open = 0
        WHERE no = (SELECT min(no) FROM request WHERE task = ?1 AND ask = ?2 AND open = 1)";
    let (run, task, number) = ask;
    let fields = params![find_task(db, run, task)?, int(number), int(at_ms)];
    db.prepare_cached(END)?.execute(fields)?;
    match request {
        Some(request) => add_request_end(db, find_ask(db, ask)?, request),
        None => Ok(()),
    }
}

fn add_request_end(db: &Connection, ask: i64, request: &RequestRecord) -> Done {
    const SQL: &str = "INSERT INTO request_end (ask, seq, hash, body, body_sum)
        SELECT ?1, ifnull(max(seq) + 1, 0), ?2, ?3, ?4 FROM request_end WHERE ask = ?1";
    let end = Body::of(&request.end)?;
    let fields = params![ask, request.hash, end.text, end.sum];
    db.prepare_cached(SQL)?.execute(fields)?;
    Ok(())
}

fn task_ended(db: &Connection, task: i64, end: &TaskEnd) -> Done {
    const SQL: &str = "INSERT OR REPLACE INTO task_end
        (task, ended_ms, report, report_sum, returned, returned_sum, models, models_sum)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let (report, models) = (Body::of(&end.report)?, Body::of(&end.models)?);
    let (returned, returned_sum) = Body::of_kept(end.returned.as_ref())?;
    db.prepare_cached(SQL)?.execute(params![
        task,
        int(end.ended_ms),
        report.text,
        report.sum,
        returned,
        returned_sum,
        models.text,
        models.sum,
    ])?;
    Ok(())
}
