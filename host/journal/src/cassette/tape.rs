//! An in-memory journal of one run at a time, which records a cassette or replays one.
//!
//! A tape that replays a cassette answers queries about tasks from it, and records the current run. A tape made by
//! [`Tape::beside`] passes all entries on to another journal.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, ready};
use serde_json::Value;

use super::{Ask, Cassette, Expect, FORMAT, Reply, Task, text};
use crate::{
    AskRecord, AskResult, Asked, CallSpan, DocumentRecord, Journal, JournalEntry, JournalError, Keep, Pruned,
    RecordedUse, RequestHash, RunKind, RunRecord, TaskRecord, Turn,
};
use agenthost_core::error::Result;
use agenthost_core::llm::Usage;
use agenthost_core::task::{Failure, Outcome, TaskId};

/// An in-memory journal of one run: the last one that began.
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
        let outcome = run.end.as_ref()?.summary.outcome.clone();
        let (output, failure) = match outcome {
            Some(Outcome::Ok(output)) => (Some(output), None),
            // A cassette is played without limits on calls that were answered.
            Some(Outcome::Failure(failure)) => (
                None,
                Some(Failure {
                    shortage: None,
                    ..failure
                }),
            ),
            None => (None, None),
        };
        let mut expect = Expect {
            output,
            failure,
            ..Expect::default()
        };
        let mut tasks = Vec::new();
        for record in written.tasks.values() {
            let fuel = record.end.as_ref().map(|end| end.report.spent.fuel);
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
            input: root.input.clone()?,
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
        .map(|tokens| tokens.input.saturating_add(tokens.output))
        .fold(0, u64::saturating_add)
}

fn task(record: &TaskRecord) -> Task {
    let mut turns: Vec<String> = Vec::new();
    let mut cut = None;
    for turn in &record.turns {
        match *turn {
            Turn::Answer(ask) => turns.push(ask.to_string()),
            Turn::Cut(at) => cut = Some(at),
        }
    }
    Task {
        id: record.id.clone(),
        plugin: record.plugin.clone(),
        turns: turns.join(" "),
        cut,
        remaining: record.remaining.clone(),
        memory: record.documents.iter().map(without_digest).collect(),
        asks: record.asks.iter().map(Ask::of).collect(),
    }
}

/// Returns the record of an operation without its digest, because a rehearsal compares operations by their texts.
fn without_digest(record: &DocumentRecord) -> DocumentRecord {
    DocumentRecord {
        digest: String::new(),
        ..record.clone()
    }
}

impl Ask {
    /// Converts the record of an ask.
    fn of(record: &AskRecord) -> Self {
        let mut ask = Self {
            ask: record.ask,
            starts: None,
            request: None,
            reply: None,
            error: None,
            used: None,
        };
        match &record.what {
            Asked::SubTask { task } => ask.starts = Some(task.to_string()),
            Asked::Model { request, .. } => {
                // The journal leaves out a long request that was refused at once.
                let not_kept = || Value::from("not kept");
                ask.request = Some(request.as_ref().map_or_else(not_kept, text::request));
            }
        }
        match &record.result {
            Some(AskResult::Reply { reply, .. }) => ask.reply = Some(Reply::of(reply)),
            Some(AskResult::Error { error, .. }) => ask.error = Some(error.clone()),
            Some(AskResult::NotKept { .. } | AskResult::SubTask { .. }) | None => {}
        }
        let charge = record.result.as_ref().and_then(AskResult::charge);
        let charged = charge.filter(|(used, _)| used.sent).map(|(used, _)| Usage {
            input: used.input,
            cached_input: used.cached,
            output: used.output,
            ..Usage::default()
        });
        let reported = ask.reply.as_ref().and_then(|reply| reply.usage).map(|usage| Usage {
            cache_write_input: 0,
            reasoning_output: 0,
            searches: 0,
            ..usage
        });
        ask.used = charged.filter(|charged| Some(*charged) != reported);
        ask
    }

    /// Returns the record of the ask.
    fn record(&self) -> AskRecord {
        let result = match (&self.reply, &self.error) {
            (Some(reply), _) => Some(Ok(reply.reply())),
            (None, Some(error)) => Some(Err(error.clone())),
            (None, None) => None,
        };
        // A cassette has no prices, so the call costs nothing.
        let used = self.tokens().map_or_else(RecordedUse::unsent, |tokens| RecordedUse {
            input: tokens.input,
            cached: tokens.cached_input,
            output: tokens.output,
            pico_usd: Some(0),
            sent: true,
        });
        let what = match &self.starts {
            Some(task) => Asked::SubTask {
                task: TaskId::recorded(task),
            },
            // A rehearsal replays by number, and compares requests afterwards.
            None => Asked::Model {
                hash: RequestHash::default(),
                request: None,
            },
        };
        AskRecord {
            result: result.map(|result| AskResult::of_call(result, used, Vec::new())),
            ..AskRecord::new(self.ask, what)
        }
    }
}

impl Cassette {
    /// Returns the run as a journal record.
    fn run(&self) -> RunRecord {
        RunRecord {
            id: "cassette".into(),
            kind: RunKind::Run,
            plugin: self.plugin.clone(),
            digest: String::new(),
            seed: self.seed_bytes().unwrap_or_default(),
            clock_ms: self.clock_ms,
            started_ms: self.clock_ms,
            command: Value::Null,
            pid: std::process::id(),
            end: None,
        }
    }

    fn record(&self, id: &str) -> Option<TaskRecord> {
        let task = self.tasks.iter().find(|task| task.id == id)?;
        let turns = task.turns().unwrap_or_default().into_iter().map(Turn::Answer);
        Some(TaskRecord {
            id: task.id.clone(),
            plugin: task.plugin.clone(),
            input: (id == "root").then(|| self.input.clone()),
            asks: task.asks.iter().map(Ask::record).collect(),
            turns: turns.chain(task.cut.map(Turn::Cut)).collect(),
            remaining: task.remaining.clone(),
            documents: task.memory.clone(),
            ..TaskRecord::default()
        })
    }
}

impl RecordedRun {
    fn task(&mut self, id: &str) -> Option<&mut TaskRecord> {
        self.tasks.get_mut(&order(id))
    }

    fn take(&mut self, entry: JournalEntry) {
        match entry {
            JournalEntry::RunStarted(run) => {
                *self = Self {
                    run: Some(run),
                    ..Self::default()
                };
            }
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
            JournalEntry::Asked { task, ask, what, .. } => {
                if let Some(record) = self.task(&task) {
                    let at = record.asks.partition_point(|known| known.ask < ask);
                    record.asks.insert(at, AskRecord::new(ask, what));
                }
            }
            JournalEntry::Answered { task, ask, result, .. } => {
                let record = self.task(&task);
                if let Some(known) = record.and_then(|record| record.asks.iter_mut().find(|known| known.ask == ask)) {
                    known.result = Some(result);
                }
            }
            JournalEntry::Turned { task, turn, .. } => {
                self.task(&task).into_iter().for_each(|record| record.turns.push(turn))
            }
            JournalEntry::Remained { task, remaining, .. } => {
                let record = self.task(&task);
                record.into_iter().for_each(|record| record.remaining.push(remaining));
            }
            JournalEntry::DocumentAsked {
                task,
                number,
                operation,
                ..
            } => {
                if let Some(record) = self.task(&task) {
                    record.documents.truncate(usize::try_from(number).unwrap_or(usize::MAX));
                    record.documents.push(operation);
                }
            }
            JournalEntry::DocumentAnswered {
                task, number, result, ..
            } => {
                let record = self.task(&task);
                let place = usize::try_from(number).unwrap_or(usize::MAX);
                if let Some(known) = record.and_then(|record| record.documents.get_mut(place)) {
                    known.result = Some(result);
                }
            }
            JournalEntry::TaskEnded { task, end, .. } => {
                if let Some(record) = self.task(&task) {
                    record.end = Some(end);
                }
            }
            JournalEntry::AskedAgain { task, ask, what, .. } => {
                if let Some(record) = self.task(&task) {
                    record.asks.retain(|known| known.ask != ask);
                    let at = record.asks.partition_point(|known| known.ask < ask);
                    record.asks.insert(at, AskRecord::new(ask, what));
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
