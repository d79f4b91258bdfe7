//! Queries the tables, and checks every body against its digest.

use rusqlite::types::{FromSql, Type, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Params, Row, params};
use serde::de::DeserializeOwned;

use super::super::{
    AskRecord, Asked, CallSpan, Cut, DocumentAccess, DocumentRecord, RequestRecord, RunEnd, RunKind, RunRecord,
    RunStatus, TaskEnd, TaskRecord, Turn,
};
use super::entries::sum;
use super::fault::{RecordLocation, Trouble};
use super::key::{below, key};
use crate::error::JournalError;
use agenthost_core::task::TaskId;

type Read<T> = Result<T, Trouble>;

/// The number of runs that a hint names.
const HINTED: usize = 5;

const RUN: &str = "SELECT no, id, kind, plugin, digest, seed, clock_ms, started_ms, pid, ended_ms, state,
    command, command_sum, report, report_sum FROM run";
const TASK: &str = "SELECT task.no, id, plugin, digest, started_ms, ended_ms, input, input_sum,
    report, report_sum, returned, returned_sum, models, models_sum FROM task LEFT JOIN task_end ON task = task.no";

/// A row, with the place that an error names.
struct Fields<'a, 'r> {
    row: &'a Row<'r>,
    place: RecordLocation<'a>,
}

impl Fields<'_, '_> {
    fn get<T: FromSql>(&self, column: &str) -> Read<T> {
        self.row.get(column).map_err(|error| match error {
            rusqlite::Error::SqliteFailure(..) => error.into(),
            _ => self.place.damaged(column),
        })
    }

    fn number(&self, column: &str) -> Read<u64> {
        self.get::<i64>(column).map(i64::cast_unsigned)
    }

    /// Returns the value whose name is in a column.
    fn named<T>(&self, column: &str, from_name: impl FnOnce(&str) -> Option<T>) -> Read<T> {
        from_name(&self.get::<String>(column)?).ok_or_else(|| self.place.damaged(column))
    }

    /// Returns a checked body; `None` if it was not kept.
    fn kept<T: DeserializeOwned>(&self, column: &str) -> Read<Option<T>> {
        let body = self.row.get_ref(column)?;
        let stored = self.row.get_ref(format!("{column}_sum").as_str())?;
        match (body, stored) {
            (ValueRef::Null, ValueRef::Null) => Ok(None),
            (ValueRef::Text(body), ValueRef::Blob(stored)) => {
                let body = str::from_utf8(body).ok().filter(|body| sum(body) == stored);
                let value = body.and_then(|body| serde_json::from_str(body).ok());
                value.map(Some).ok_or_else(|| self.place.damaged(column))
            }
            _ => Err(self.place.damaged(column)),
        }
    }

    /// Returns a checked body that is always kept.
    fn body<T: DeserializeOwned>(&self, column: &str) -> Read<T> {
        self.kept(column)?.ok_or_else(|| self.place.damaged(column))
    }

    /// Checks that the sequence number of a row is `expected`; otherwise a row before it is missing.
    fn numbered(&self, expected: usize, what: &str) -> Read<()> {
        match usize::try_from(self.number("seq")?) {
            Ok(number) if number == expected => Ok(()),
            _ => Err(Trouble::Damaged(format!(
                "{what} {expected} of {} is missing",
                self.place
            ))),
        }
    }
}

/// Returns all rows of a query, each converted by `read`.
fn all<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    mut read: impl FnMut(&Row<'_>, usize) -> Read<T>,
) -> Read<Vec<T>> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row, found.len())?);
    }
    Ok(found)
}

fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

/// Returns the id of the run or task that a row describes. Without it, an error cannot name anything else.
fn name(row: &Row<'_>, what: &str) -> Read<String> {
    row.get("id").map_err(|error| match error {
        rusqlite::Error::SqliteFailure(..) => error.into(),
        _ => Trouble::Damaged(format!("the id of {what}")),
    })
}

fn run(row: &Row<'_>) -> Read<RunRecord> {
    let id = name(row, "a run")?;
    let fields = Fields {
        row,
        place: RecordLocation {
            run: &id,
            task: None,
            ask: None,
        },
    };
    let end = match fields.row.get_ref("ended_ms")?.data_type() {
        Type::Null => None,
        _ => Some(RunEnd {
            ended_ms: fields.number("ended_ms")?,
            state: fields.named("state", RunStatus::from_name)?,
            summary: fields.body("report")?,
        }),
    };
    Ok(RunRecord {
        kind: fields.named("kind", RunKind::from_name)?,
        plugin: fields.get("plugin")?,
        digest: fields.get("digest")?,
        seed: fields.get("seed")?,
        clock_ms: fields.number("clock_ms")?,
        started_ms: fields.number("started_ms")?,
        command: fields.body("command")?,
        pid: fields.get("pid")?,
        end,
        id: id.clone(),
    })
}

/// Returns the latest runs.
pub(super) fn runs(db: &Connection, most: usize) -> Read<Vec<RunRecord>> {
    let sql = format!("{RUN} ORDER BY started_ms DESC, no DESC LIMIT ?1");
    all(db, &sql, [limit(most)], |row, _| run(row))
}

/// Returns the run with this id or prefix, or the latest run for `last`.
pub(super) fn find(db: &Connection, id: &str) -> Read<RunRecord> {
    if id == "last" {
        let latest = runs(db, 1)?.pop();
        return latest.ok_or(Trouble::Complete(JournalError::NoRuns));
    }
    let exact = |id: &str| -> Read<Option<RunRecord>> {
        Ok(all(db, &format!("{RUN} WHERE id = ?1"), [id], |row, _| run(row))?.pop())
    };
    if let Some(run) = exact(id)? {
        return Ok(run);
    }
    const ALIKE: &str = "SELECT id FROM run WHERE substr(id, 1, length(?1)) = ?1 AND ?1 <> ''
        ORDER BY started_ms DESC, no DESC LIMIT ?2";
    let mut alike = all(db, ALIKE, params![id, limit(HINTED + 1)], |row, _| name(row, "a run"))?;
    if let [one] = alike.as_slice() {
        // The table has the row, but the index does not.
        let missing = || Trouble::Damaged(format!("run `{one}` is not in the index"));
        return exact(one)?.ok_or_else(missing);
    }
    let more = alike.len() > HINTED;
    alike.truncate(HINTED);
    let id = id.to_owned();
    Err(Trouble::Complete(match alike.is_empty() {
        true => JournalError::NoSuchRun {
            id,
            latest: latest(db)?,
        },
        false => JournalError::AmbiguousRun {
            id,
            matches: alike,
            more,
        },
    }))
}

/// Returns the ids of the latest runs.
fn latest(db: &Connection) -> Read<Vec<String>> {
    const SQL: &str = "SELECT id FROM run ORDER BY started_ms DESC, no DESC LIMIT ?1";
    all(db, SQL, [limit(HINTED)], |row, _| name(row, "a run"))
}

/// Returns the number of a run.
fn number(db: &Connection, run: &str) -> Read<Option<i64>> {
    let mut statement = db.prepare_cached("SELECT no FROM run WHERE id = ?1")?;
    Ok(statement.query_row([run], |row| row.get(0)).optional()?)
}

/// Returns a task without its asks and turns, and its number.
fn bare(run: &str, row: &Row<'_>) -> Read<(i64, TaskRecord)> {
    let id = name(row, &format!("a task of run `{run}`"))?;
    let fields = Fields {
        row,
        place: RecordLocation {
            run,
            task: Some(&id),
            ask: None,
        },
    };
    let end = match fields.row.get_ref("ended_ms")?.data_type() {
        Type::Null => None,
        _ => Some(TaskEnd {
            ended_ms: fields.number("ended_ms")?,
            report: fields.body("report")?,
            returned: fields.kept("returned")?,
            models: fields.body("models")?,
        }),
    };
    let record = TaskRecord {
        plugin: fields.get("plugin")?,
        digest: fields.get("digest")?,
        input: fields.kept("input")?,
        started_ms: fields.number("started_ms")?,
        end,
        id: id.clone(),
        ..TaskRecord::default()
    };
    Ok((fields.get("no")?, record))
}

/// Returns a task with all its asks and turns.
pub(super) fn task(db: &Connection, run: &str, task: &str) -> Read<Option<TaskRecord>> {
    let Some(no) = number(db, run)? else {
        return Ok(None);
    };
    let sql = format!("{TASK} WHERE run = ?1 AND key = ?2");
    let Some((no, mut record)) = all(db, &sql, params![no, key(task)?], |row, _| bare(run, row))?.pop() else {
        return Ok(None);
    };
    let place = RecordLocation {
        run,
        task: Some(task),
        ask: None,
    };
    const TURN: &str = "SELECT seq, kind, value FROM turn WHERE task = ?1 ORDER BY seq";
    record.turns = all(db, TURN, [no], |row, at| turn(&Fields { row, place }, at))?;
    const REMAINING: &str = "SELECT seq, remaining, remaining_sum FROM remaining WHERE task = ?1 ORDER BY seq";
    record.remaining = all(db, REMAINING, [no], |row, at| {
        let fields = Fields { row, place };
        fields.numbered(at, "answer of `remaining`")?;
        fields.body("remaining")
    })?;
    const ASK: &str = "SELECT no, number, hash, request, request_sum, sub_task, result, result_sum
        FROM ask LEFT JOIN ask_result ON ask_result.ask = no WHERE task = ?1 ORDER BY number";
    record.asks = all(db, ASK, [no], |row, _| ask(db, no, &Fields { row, place }))?;
    const DOCUMENT: &str = "SELECT seq, operation, operation_sum, result, result_sum
        FROM document LEFT JOIN document_result ON document = no WHERE task = ?1 ORDER BY seq";
    record.documents = all(db, DOCUMENT, [no], |row, at| {
        let fields = Fields { row, place };
        fields.numbered(at, "operation on a document")?;
        document(&fields)
    })?;
    Ok(Some(record))
}

fn document(fields: &Fields<'_, '_>) -> Read<DocumentRecord> {
    Ok(DocumentRecord {
        result: fields.kept("result")?,
        ..fields.body("operation")?
    })
}

fn turn(fields: &Fields<'_, '_>, at: usize) -> Read<Turn> {
    fields.numbered(at, "turn")?;
    let value = fields.number("value")?;
    match fields.get::<String>("kind")?.as_str() {
        "answer" => Ok(Turn::Answer(value)),
        kind @ ("time-up" | "cancelled") => Ok(Turn::Cut(Cut {
            time_up: kind == "time-up",
            polls: value,
        })),
        _ => Err(fields.place.damaged("kind")),
    }
}

fn ask(db: &Connection, task: i64, fields: &Fields<'_, '_>) -> Read<AskRecord> {
    let ask = fields.number("number")?;
    let place = RecordLocation {
        ask: Some(ask),
        ..fields.place
    };
    let fields = Fields { row: fields.row, place };
    const END: &str = "SELECT seq, hash, body, body_sum FROM request_end WHERE ask = ?1 ORDER BY seq";
    let requests = all(db, END, [fields.get::<i64>("no")?], |row, at| {
        let fields = Fields { row, place };
        fields.numbered(at, "reply")?;
        Ok(RequestRecord {
            hash: fields.get("hash")?,
            end: fields.body("body")?,
        })
    })?;
    const IN_FLIGHT: &str = "SELECT model FROM request WHERE task = ?1 AND ask = ?2 AND open = 1 ORDER BY no";
    let in_flight = all(db, IN_FLIGHT, params![task, ask.cast_signed()], |row, _| {
        Fields { row, place }.get("model")
    })?;
    let what = match fields.get::<Option<String>>("sub_task")? {
        Some(task) => Asked::SubTask {
            task: TaskId::recorded(&task),
        },
        None => Asked::Model {
            hash: fields.get("hash")?,
            request: fields.kept("request")?,
        },
    };
    Ok(AskRecord {
        ask,
        what,
        requests,
        result: fields.kept("result")?,
        in_flight,
    })
}

/// Returns the tasks below `under`, starting after `after`.
pub(super) fn tasks(
    db: &Connection,
    run: &str,
    under: &str,
    after: Option<&str>,
    most: usize,
) -> Read<Vec<TaskRecord>> {
    let Some(no) = number(db, run)? else {
        return Ok(Vec::new());
    };
    let (first, end) = below(under)?;
    let first = match after {
        Some(after) => first.max(key(after)?),
        None => first,
    };
    let sql = format!("{TASK} WHERE run = ?1 AND key > ?2 AND key < ?3 ORDER BY key LIMIT ?4");
    all(db, &sql, params![no, first, end, limit(most)], |row, _| {
        bare(run, row).map(|(_, task)| task)
    })
}

/// Returns the requests of a run.
pub(super) fn calls(db: &Connection, run: &str, most: usize) -> Read<Vec<CallSpan>> {
    let Some(no) = number(db, run)? else {
        return Ok(Vec::new());
    };
    const SQL: &str = "SELECT id, ask, model, sent_ms, ended_ms FROM request JOIN task ON task.no = request.task
        WHERE request.run = ?1 ORDER BY request.no LIMIT ?2";
    all(db, SQL, [no, limit(most)], |row, _| {
        let task = name(row, &format!("a task of run `{run}`"))?;
        let fields = Fields {
            row,
            place: RecordLocation {
                run,
                task: Some(&task),
                ask: None,
            },
        };
        Ok(CallSpan {
            ask: fields.number("ask")?,
            model: fields.get("model")?,
            sent_ms: fields.number("sent_ms")?,
            ended_ms: fields.get::<Option<i64>>("ended_ms")?.map(i64::cast_unsigned),
            task: task.clone(),
        })
    })
}

/// Returns what the tasks of a run did with documents.
pub(super) fn documents(db: &Connection, run: &str, most: usize) -> Read<Vec<DocumentAccess>> {
    let Some(no) = number(db, run)? else {
        return Ok(Vec::new());
    };
    const SQL: &str = "SELECT id, operation, operation_sum, result, result_sum
        FROM document JOIN task ON task.no = document.task LEFT JOIN document_result ON document = document.no
        WHERE run = ?1 ORDER BY key, seq LIMIT ?2";
    all(db, SQL, [no, limit(most)], |row, _| {
        let task = name(row, &format!("a task of run `{run}`"))?;
        let place = RecordLocation {
            run,
            task: Some(&task),
            ask: None,
        };
        Ok(DocumentAccess::of(&task, &document(&Fields { row, place })?))
    })
}

/// Returns the number of bytes that the entries of a run take: their bodies, and the fixed size of each entry.
pub(super) fn run_bytes(db: &Connection, run: &str) -> Result<u64, Trouble> {
    const SQL: &str = "WITH of AS (SELECT task.no AS task FROM task JOIN run ON task.run = run.no WHERE run.id = ?1),
        asks AS (SELECT ask.no AS ask FROM ask JOIN of ON ask.task = of.task)
        SELECT ifnull((SELECT sum(150 + ifnull(octet_length(input), 0)) FROM task JOIN of ON task.no = of.task), 0)
        + ifnull((SELECT sum(150 + octet_length(report) + ifnull(octet_length(returned), 0) + octet_length(models))
            FROM task_end JOIN of ON task_end.task = of.task), 0)
        + ifnull((SELECT sum(150 + ifnull(octet_length(request), 0)) FROM ask JOIN of ON ask.task = of.task), 0)
        + ifnull((SELECT sum(150 + octet_length(body)) FROM request_end JOIN asks ON request_end.ask = asks.ask), 0)
        + ifnull((SELECT sum(150 + octet_length(result)) FROM ask_result JOIN asks ON ask_result.ask = asks.ask), 0)
        + ifnull((SELECT sum(150 + octet_length(remaining)) FROM remaining JOIN of ON remaining.task = of.task), 0)
        + ifnull((SELECT sum(150 + octet_length(operation)) FROM document JOIN of ON document.task = of.task), 0)
        + ifnull((SELECT sum(150 + octet_length(result)) FROM document_result
            JOIN document ON document_result.document = document.no JOIN of ON document.task = of.task), 0)
        + ifnull((SELECT 150 * count(*) FROM turn JOIN of ON turn.task = of.task), 0)";
    let bytes: i64 = db.prepare_cached(SQL)?.query_row([run], |row| row.get(0))?;
    Ok(bytes.cast_unsigned())
}
