//! An in-memory journal of one run, which records a cassette or replays one.
//!
//! A tape that replays a cassette answers queries about tasks from it, and records the current run. A tape made by
//! [`Tape::beside`] passes all entries on to another journal.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, ready};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::text::request;
use super::{Ask, Cassette, Cut, Expect, FORMAT, Remained, Reply, Task, Tokens};
use crate::JournalError;
use crate::{CallRecord, CallSpan, Journal, JournalEntry, Keep, Pruned, RunRecord, TaskRecord, Turn};
use agenthost_core::error::Result;
use agenthost_core::llm::{self, CallError};

/// An in-memory journal of one run.
///
/// `Host::rehearse` replays a cassette with it. To record, it is the journal of a host, alone or [beside](Tape::beside)
/// another journal.
///
/// ```
/// use agenthost_journal::cassette::tape::Tape;
/// use serde_json::Map;
///
/// assert!(Tape::new().cassette(Map::new()).is_none(), "no run has ended");
/// ```
#[derive(Default)]
pub struct Tape {
    /// The cassette that is replayed.
    played: Option<Cassette>,
    written: Mutex<RecordedRun>,
    beside: Option<Arc<dyn Journal>>,
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tape").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct RecordedRun {
    run: Option<RunRecord>,
    tasks: BTreeMap<Vec<u64>, TaskRecord>,
}

/// The result that a task received, in the host's JSON form.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RecordedReply {
    Ok(llm::Reply),
    Err(CallError),
}

/// The accounted usage of the same call.
#[derive(Default, Clone, Copy, Serialize, Deserialize)]
struct ReplyUsage {
    input: u64,
    cached: u64,
    output: u64,
    sent: bool,
}

impl Tape {
    /// Creates an empty tape.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates an empty tape that passes all entries on to `journal`.
    pub fn beside(journal: Arc<dyn Journal>) -> Self {
        Self {
            beside: Some(journal),
            ..Self::default()
        }
    }

    /// Creates a tape that replays `cassette`.
    pub fn of(cassette: &Cassette) -> Self {
        Self {
            played: Some(cassette.clone()),
            ..Self::default()
        }
    }

    /// Returns the recording as a cassette whose ceilings are the measured values; `None` before the end of the run.
    /// `limits` are the limits of the root task that differ from the defaults.
    pub fn cassette(&self, limits: serde_json::Map<String, Value>) -> Option<Cassette> {
        let written = self.written();
        let run = written.run.as_ref()?;
        let report: Value = serde_json::from_str(&run.end.as_ref()?.report).ok()?;
        let mut expect = Expect {
            output: report.pointer("/outcome/ok").cloned(),
            failure: report.pointer("/outcome/failure").and_then(Value::as_object).cloned(),
            ..Expect::default()
        };
        let mut tasks = Vec::new();
        for record in written.tasks.values() {
            let end = record.end.as_ref();
            let end: Option<Value> = end.and_then(|end| serde_json::from_str(&end.report).ok());
            let fuel = end.as_ref().and_then(|end| end.pointer("/spent/fuel")?.as_u64());
            expect.fuel = expect.fuel.saturating_add(fuel.unwrap_or_default());
            let task = task(record);
            let calls = task.asks.iter().filter(|ask| ask.starts.is_none()).count() as u64;
            if calls > 0 {
                expect.calls.insert(task.id.clone(), calls);
            }
            tasks.push(task);
        }
        expect.tokens = tokens(&tasks);
        let root = written.tasks.values().next()?;
        Some(Cassette {
            format: FORMAT,
            plugin: run.plugin.clone(),
            input: serde_json::from_str(root.input.as_ref()?).ok()?,
            limits,
            expect,
            seed: run.seed.iter().map(|byte| format!("{byte:02x}")).collect(),
            clock_ms: run.clock_ms,
            tasks,
        })
    }

    fn written(&self) -> MutexGuard<'_, RecordedRun> {
        // No update under this lock is left half done.
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the tokens of all tasks together.
pub(super) fn tokens(tasks: &[Task]) -> u64 {
    let asks = tasks.iter().flat_map(|task| &task.asks);
    asks.filter_map(Ask::tokens)
        .map(|tokens| tokens.sum())
        .fold(0, u64::saturating_add)
}

fn task(record: &TaskRecord) -> Task {
    let mut turns: Vec<String> = Vec::new();
    let mut cut = None;
    for turn in &record.turns {
        match *turn {
            Turn::Answer(ask) => turns.push(ask.to_string()),
            Turn::Cut { time_up, polls } => cut = Some(Cut { time_up, polls }),
        }
    }
    let mut children = 0;
    let mut ask = |call: &CallRecord| match &call.body {
        Some(body) => model_call(call, body),
        None => {
            children += 1;
            Ask {
                starts: Some(format!("{}/{}", record.id, children - 1)),
                ..nothing(call.ask)
            }
        }
    };
    Task {
        id: record.id.clone(),
        plugin: record.plugin.clone(),
        turns: turns.join(" "),
        cut,
        remaining: record
            .remaining
            .iter()
            .filter_map(|value| serde_json::from_str(value).ok())
            .collect(),
        asks: record.calls.iter().map(&mut ask).collect(),
    }
}

fn nothing(ask: u64) -> Ask {
    Ask {
        ask,
        starts: None,
        request: None,
        reply: None,
        error: None,
        used: None,
    }
}

fn model_call(call: &CallRecord, body: &str) -> Ask {
    let mut ask = Ask {
        request: Some(request(body)),
        ..nothing(call.ask)
    };
    let Some(result) = call
        .result
        .as_ref()
        .and_then(|result| serde_json::from_str::<Value>(result).ok())
    else {
        return ask;
    };
    if let Some(reply) = result.get("ok").and_then(|ok| llm::Reply::deserialize(ok).ok()) {
        ask.reply = Some(Reply::of(&reply));
    } else if let Some(error) = result.get("err").and_then(|err| CallError::deserialize(err).ok()) {
        ask.error = Some(error);
    }
    let books = result.get("used").and_then(|used| ReplyUsage::deserialize(used).ok());
    let books = books.filter(|books| books.sent).map(|books| Tokens {
        input: books.input,
        cached_input: books.cached,
        output: books.output,
        ..Tokens::default()
    });
    let said = ask.reply.as_ref().and_then(|reply| reply.usage).map(|usage| Tokens {
        cache_write_input: 0,
        reasoning_output: 0,
        ..usage
    });
    ask.used = books.filter(|books| Some(*books) != said);
    ask
}

impl Ask {
    /// Returns the call as a journal record.
    fn record(&self) -> CallRecord {
        let told = match (&self.reply, &self.error) {
            (Some(reply), _) => Some(RecordedReply::Ok(reply.reply())),
            (None, Some(error)) => Some(RecordedReply::Err(error.clone())),
            (None, None) => None,
        };
        let tokens = self.tokens();
        let books = tokens.map_or_else(ReplyUsage::default, |tokens| ReplyUsage {
            input: tokens.input,
            cached: tokens.cached_input,
            output: tokens.output,
            sent: true,
        });
        let result = told.and_then(|told| {
            let mut result = serde_json::to_value(told).ok()?;
            // A cassette has no prices, so the call costs nothing.
            let mut used = json!(books);
            used.as_object_mut()?.insert("pico_usd".into(), 0.into());
            result.as_object_mut()?.insert("used".into(), used);
            Some(result.to_string())
        });
        let starts = self.starts.as_ref().map(|child| Sha256::digest(child).into());
        CallRecord {
            ask: self.ask,
            hash: starts.unwrap_or_default(),
            body: self.request.as_ref().map(Value::to_string),
            replies: Vec::new(),
            result,
            in_flight: Vec::new(),
        }
    }
}

impl Cassette {
    /// Returns the run as a journal record.
    fn run(&self) -> RunRecord {
        RunRecord {
            id: "cassette".into(),
            kind: "run".into(),
            plugin: self.plugin.clone(),
            digest: String::new(),
            seed: self.seed_bytes().unwrap_or_default(),
            clock_ms: self.clock_ms,
            started_ms: self.clock_ms,
            command: "null".into(),
            pid: std::process::id(),
            end: None,
        }
    }

    fn record(&self, id: &str) -> Option<TaskRecord> {
        let task = self.tasks.iter().find(|task| task.id == id)?;
        let turns = task.turns().unwrap_or_default().into_iter().map(Turn::Answer);
        let cut = task.cut.as_ref().map(|cut| Turn::Cut {
            time_up: cut.time_up,
            polls: cut.polls,
        });
        let remaining = |remained: &Remained| serde_json::to_string(remained).unwrap_or_default();
        Some(TaskRecord {
            id: task.id.clone(),
            plugin: task.plugin.clone(),
            input: (id == "root").then(|| self.input.to_string()),
            calls: task.asks.iter().map(Ask::record).collect(),
            turns: turns.chain(cut).collect(),
            remaining: task.remaining.iter().map(remaining).collect(),
            ..TaskRecord::default()
        })
    }
}

impl RecordedRun {
    fn task(&mut self, id: &str) -> Option<&mut TaskRecord> {
        self.tasks.get_mut(&order(id))
    }

    fn call(&mut self, task: &str, ask: u64) -> Option<&mut CallRecord> {
        self.task(task)?.calls.iter_mut().find(|call| call.ask == ask)
    }

    fn take(&mut self, entry: JournalEntry) {
        match entry {
            JournalEntry::RunStarted(run) => self.run = Some(run),
            JournalEntry::RunEnded { end, .. } => {
                if let Some(run) = &mut self.run {
                    run.end = Some(end);
                }
            }
            JournalEntry::TaskStarted {
                task,
                plugin,
                digest,
                input,
                at_ms,
                ..
            } => {
                let record = TaskRecord {
                    id: task,
                    plugin,
                    digest,
                    input,
                    started_ms: at_ms,
                    ..TaskRecord::default()
                };
                self.tasks.insert(order(&record.id), record);
            }
            JournalEntry::CallStarted {
                task, ask, hash, body, ..
            } => {
                if let Some(record) = self.task(&task) {
                    let call = CallRecord {
                        ask,
                        hash,
                        body,
                        ..CallRecord::default()
                    };
                    let at = record.calls.partition_point(|call| call.ask < ask);
                    record.calls.insert(at, call);
                }
            }
            JournalEntry::CallEnded { task, ask, result, .. } => {
                if let Some(call) = self.call(&task, ask) {
                    call.result = Some(result);
                }
            }
            JournalEntry::Turned { task, turn, .. } => {
                self.task(&task).into_iter().for_each(|record| record.turns.push(turn))
            }
            JournalEntry::Remained { task, value, .. } => {
                let record = self.task(&task);
                record
                    .into_iter()
                    .for_each(|record| record.remaining.push(value.clone()));
            }
            JournalEntry::TaskEnded { task, end, .. } => {
                if let Some(record) = self.task(&task) {
                    record.end = Some(end);
                }
            }
            // A cassette records neither attempts nor times.
            JournalEntry::RunResumed { .. } | JournalEntry::RequestSent { .. } | JournalEntry::RequestEnded { .. } => {}
        }
    }
}

/// Returns a key that sorts ids in the order of the tree.
fn order(id: &str) -> Vec<u64> {
    let parts = id.split('/').skip(1);
    parts.map(|part| part.parse().unwrap_or(u64::MAX)).collect()
}

impl Journal for Tape {
    fn append(&self, entry: JournalEntry) -> BoxFuture<'static, Result<()>> {
        let passed_on = self.beside.as_ref().map(|journal| journal.append(entry.clone()));
        self.written().take(entry);
        passed_on.unwrap_or_else(|| Box::pin(ready(Ok(()))))
    }

    fn note(&self, entry: JournalEntry) {
        if let Some(journal) = &self.beside {
            journal.note(entry.clone());
        }
        self.written().take(entry);
    }

    fn runs(&self, most: usize) -> Result<Vec<RunRecord>> {
        let run = match &self.played {
            Some(cassette) => Some(cassette.run()),
            None => self.written().run.clone(),
        };
        Ok(run.into_iter().take(most).collect())
    }

    fn find(&self, _: &str) -> Result<RunRecord> {
        let none = || JournalError::NoRuns.into();
        self.runs(1)?.pop().ok_or_else(none)
    }

    fn task(&self, _: &str, task: &str) -> Result<Option<TaskRecord>> {
        Ok(match &self.played {
            Some(cassette) => cassette.record(task),
            None => self.written().tasks.get(&order(task)).cloned(),
        })
    }

    fn tasks(&self, _: &str, under: &str, after: Option<&str>, most: usize) -> Result<Vec<TaskRecord>> {
        let ids: Vec<String> = match &self.played {
            Some(cassette) => cassette.tasks.iter().map(|task| task.id.clone()).collect(),
            None => self.written().tasks.values().map(|task| task.id.clone()).collect(),
        };
        let below = |id: &&String| under.is_empty() || id.strip_prefix(under).is_some_and(|rest| rest.starts_with('/'));
        let later = |id: &&String| after.is_none_or(|after| order(id) > order(after));
        let page = ids.iter().filter(below).filter(later).take(most);
        let records: Result<Vec<_>> = page.map(|id| self.task("", id)).collect();
        Ok(records?.into_iter().flatten().collect())
    }

    fn calls(&self, _: &str, _: usize) -> Result<Vec<CallSpan>> {
        Ok(Vec::new())
    }

    fn prune(&self, _: &Keep) -> Result<Pruned> {
        Ok(Pruned::default())
    }
}
