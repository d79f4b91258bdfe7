//! The record of a run: what it writes to the journal, and what it reads from it when it is resumed or replayed.
//!
//! A [`Recorder`] belongs to a run, a [`TaskLog`] to each of its tasks. A live run appends: every paid reply is durable
//! before the guest receives it, and a failed append fails the call. A *resumed* run replays to a task its recorded
//! replies, in the same order, up to the first one that could be better now (a limit that was reached, a model that did
//! not answer, a cancellation), and sends only requests that were never answered. A *replayed* run sends nothing: all
//! replies come from the journal, and every difference from it is noted. A *rehearsal* plays a cassette: its tasks
//! receive the recorded replies whatever they request, and their actions are recorded as those of a live run.
//!
//! A host without a journal has no recorder.

mod difference;
mod documents;
mod log;
mod past;
mod told;

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use agenthost_config::BodyRetention;
use agenthost_core::error::{Error, Result, with_causes};
use agenthost_core::failpoint;
use agenthost_core::limits::units::show_exact_bytes;
use agenthost_core::limits::{LimitKind, Spent};
use agenthost_core::llm::CallError;
use agenthost_core::run::{Difference, ModelReport};
use agenthost_core::task::{Failure, FailureClass, Outcome, TaskId, TaskReport};
use agenthost_core::weaken::{self, Defence};
use agenthost_journal::{
    AskRecord, Asked, Journal, JournalEntry, RunEnd, RunRecord, RunStatus, RunSummary, TaskEnd, TaskRecord, blocking,
};

pub(super) use self::documents::{NumberedOperation, PastDocument};
pub(super) use self::log::{Recorded, SubTaskReplay, TaskLog};
pub(super) use self::told::{PaidReply, PastCall, request_hash};

/// How a run uses its journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Record a new run.
    Live,
    /// Continue a run that stopped. With `failed`, tasks with a final failure are run again, too.
    Resume { failed: bool },
    /// Take all replies from the journal.
    Replay,
    /// Take all replies from a cassette, whatever the requests are, and record the run.
    Rehearsal,
}

/// The tasks of a resumed run whose replies are not used again, as another task of the run sees them.
#[derive(Debug, Clone, Copy)]
pub(super) struct AskAgain<'a> {
    /// The tasks that are asked again.
    again: &'a [TaskId],
    task: &'a TaskId,
}

impl AskAgain<'_> {
    /// Returns whether this is one of them.
    fn is_here(self) -> bool {
        self.again.contains(self.task)
    }

    /// Returns whether this is one of them or above one, so that it may receive other results.
    fn is_below(self) -> bool {
        self.again.iter().any(|again| is_within(again, self.task))
    }

    /// Returns whether the result of this ask may be another one.
    fn changes(self, what: &Asked) -> bool {
        match what {
            Asked::Model { .. } => self.is_here(),
            Asked::SubTask { task } => self.again.iter().any(|again| is_within(again, task)),
        }
    }
}

/// Returns whether `task` is `top` or below it.
fn is_within(task: &TaskId, top: &TaskId) -> bool {
    task.order().starts_with(&top.order())
}

/// The journal of one run.
#[derive(Debug)]
pub(super) struct Recorder {
    journal: Arc<dyn Journal>,
    run: String,
    mode: Mode,
    /// `true` if the recorded report of a replayed run has all ended tasks of the record; empty until it is known.
    counts_all_tasks: OnceLock<bool>,
    /// The tasks whose model calls are made again, with everything that depends on them.
    again: Vec<TaskId>,
    bodies: BodyRetention,
    differences: Mutex<Vec<Difference>>,
    /// Tasks of a batch that were taken over from the journal and not yet reported by [`Recorder::took_over`].
    taken_over: Mutex<HashSet<String>>,
    /// Why the journal can no longer be written.
    fault: OnceLock<String>,
    /// The most bytes that the run may write.
    max_bytes: u64,
    /// The bytes that the run has written.
    bytes_written: AtomicU64,
    /// Canceled once `bytes_written` exceeds `max_bytes`.
    full: CancellationToken,
    /// Held while tasks of this process work on the run.
    live: Mutex<Option<LiveRun>>,
}

/// The beginning of the failure message of a task whose run has written too much.
const FULL: &str = "the run's journal reached its limit";

impl Recorder {
    /// Creates a recorder. `max_bytes` bounds what the run may write, earlier executions included; `None` if there is
    /// no bound. A resumed run makes the model calls of the task `again` anew.
    pub(super) fn new(
        journal: Arc<dyn Journal>,
        run: String,
        mode: Mode,
        bodies: BodyRetention,
        max_bytes: Option<u64>,
        again: Vec<TaskId>,
    ) -> Arc<Self> {
        Arc::new(Self {
            counts_all_tasks: OnceLock::new(),
            again: if matches!(mode, Mode::Resume { .. }) {
                again
            } else {
                Vec::new()
            },
            max_bytes: max_bytes.unwrap_or(u64::MAX),
            bytes_written: AtomicU64::new(0),
            full: CancellationToken::new(),
            journal,
            run,
            mode,
            bodies,
            differences: Mutex::default(),
            taken_over: Mutex::default(),
            fault: OnceLock::new(),
            live: Mutex::default(),
        })
    }

    pub(super) fn is_replay(&self) -> bool {
        matches!(self.mode, Mode::Replay | Mode::Rehearsal)
    }

    fn is_resumed(&self) -> bool {
        matches!(self.mode, Mode::Resume { .. })
    }

    fn is_rehearsal(&self) -> bool {
        self.mode == Mode::Rehearsal
    }

    fn writes(&self) -> bool {
        self.mode != Mode::Replay
    }

    /// Marks a new run as going on in this process, until [`Recorder::end`] or until this recorder is dropped.
    ///
    /// # Errors
    ///
    /// Fails if the run is already going on in this process.
    pub(super) fn claim_new(&self) -> Result<()> {
        if !self.is_replay() {
            *lock(&self.live) = Some(self.live_run()?);
        }
        Ok(())
    }

    /// Marks a recorded run as going on in this process, as [`Recorder::claim_new`] does. A resumed run is taken over from
    /// the process in which it stopped.
    ///
    /// # Errors
    ///
    /// Fails if the run is already going on, in this process or another.
    pub(super) async fn claim(&self) -> Result<()> {
        let Mode::Resume { .. } = self.mode else {
            return self.claim_new();
        };
        let live = self.live_run()?;
        let run = self.run.clone();
        for again in self.again.clone() {
            let run = run.clone();
            blocking(&self.journal, move |journal| can_ask_again(journal, &run, &again)).await?;
        }
        blocking(&self.journal, move |journal| journal.take_over(&run)).await?;
        *lock(&self.live) = Some(live);
        Ok(())
    }

    fn live_run(&self) -> Result<LiveRun> {
        LiveRun::new(&self.run).ok_or_else(|| {
            Error::usage(format!("run {} is still going on, in this process", self.run))
                .with_hint("Wait for its end, or cancel it first.")
        })
    }

    /// Records the start of the run. A resumed run was taken over by [`Recorder::claim`].
    pub(super) async fn begin(&self, record: RunRecord) -> Result<()> {
        failpoint!("journal.begin", agenthost_core::error::Error::host("failpoint"));
        match self.mode {
            Mode::Live | Mode::Rehearsal => self.journal.append(JournalEntry::RunStarted(record)).await,
            Mode::Resume { .. } => {
                let run = self.run.clone();
                self.count(blocking(&self.journal, move |journal| journal.run_bytes(&run)).await?);
                Ok(())
            }
            Mode::Replay => Ok(()),
        }
    }

    /// Records the end of the run.
    pub(super) async fn end(&self, state: RunStatus, mut summary: RunSummary) -> Result<()> {
        if !self.writes() {
            return Ok(());
        }
        if self.bodies == BodyRetention::None {
            summary = summary.without_texts();
        }
        let end = RunEnd {
            ended_ms: now_ms(),
            state,
            summary,
        };
        failpoint!(await "journal.end");
        failpoint!("journal.write-end", agenthost_core::error::Error::host("failpoint"));
        let run = self.run.clone();
        let written = self.journal.append(JournalEntry::RunEnded { run, end }).await;
        *lock(&self.live) = None;
        written
    }

    /// Returns why the journal could not be written, or `None` if it could.
    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.get().map(String::as_str)
    }

    pub(super) fn differences(&self) -> Vec<Difference> {
        lock(&self.differences).clone()
    }

    fn differs(&self, task: &TaskId, ask: Option<u64>, what: impl Into<String>) {
        if !self.is_replay() {
            return;
        }
        lock(&self.differences).push(Difference {
            task: task.clone(),
            ask,
            what: what.into(),
        });
    }

    /// Queues `entry` for the journal without waiting for it, in the order of the calls. Returns its size.
    fn note(&self, entry: JournalEntry) -> u64 {
        let bytes = entry.bytes();
        self.count(bytes);
        self.journal.note(entry);
        bytes
    }

    /// Counts written bytes.
    fn count(&self, bytes: u64) {
        let before = self.bytes_written.fetch_add(bytes, Ordering::AcqRel);
        if before.saturating_add(bytes) > self.max_bytes && !weaken::off(Defence::JournalBytes) {
            self.full.cancel();
        }
    }

    /// Resolves once the run has written more than it may. Only its end is written after that.
    pub(super) async fn filled(&self) {
        self.full.cancelled().await;
    }

    /// Returns the failure of a run that has written more than it may, or `None` if it has not.
    pub(super) fn full(&self) -> Option<Failure> {
        let limit = self.full.is_cancelled().then(|| show_exact_bytes(self.max_bytes))?;
        let why = format!("{FULL} of {limit}; to go on, raise `max-run-bytes` in [journal] and resume the run");
        Some(Failure::exhausted(LimitKind::Size, why))
    }

    async fn append(&self, entry: JournalEntry) -> std::result::Result<(), CallError> {
        failpoint!(await "journal.append");
        self.count(entry.bytes());
        let written = self.write(entry).await;
        failpoint!(await "journal.appended");
        written.map_err(|error| {
            let said = with_causes(&error);
            let _ = self.fault.set(said.clone());
            CallError::Other("journal".into(), said)
        })
    }

    async fn write(&self, entry: JournalEntry) -> Result<()> {
        failpoint!("journal.write", agenthost_core::error::Error::host("failpoint"));
        self.journal.append(entry).await
    }

    /// Returns the journal's record of a task from an earlier execution of the run; `None` if the task was not recorded.
    /// `digest` and `input` are those of the task that is about to start.
    pub(super) async fn earlier(&self, task: &TaskId, digest: &str, input: Option<&Value>) -> Result<Option<Earlier>> {
        let mode = self.mode;
        if mode == Mode::Live {
            return Ok(None);
        }
        let is_asked_again = self.ask_again(task).is_below();
        let (run, task, digest, input) = (self.run.clone(), task.clone(), digest.to_owned(), input.cloned());
        let earlier = blocking(&self.journal, move |journal| {
            let Some(record) = journal.task(&run, &task.to_string())? else {
                return Ok(None);
            };
            Ok(Some(Earlier {
                settled: match is_asked_again {
                    true => None,
                    false => settled(journal, &run, &record, mode, &digest, input.as_ref()),
                },
                began: began(journal, &run, &task, mode),
                record,
            }))
        })
        .await?;
        if let Some(settled) = earlier.as_ref().and_then(|earlier| earlier.settled.as_ref())
            && settled.report.parent == Some(TaskId::root())
        {
            lock(&self.taken_over).insert(settled.report.id.to_string());
        }
        Ok(earlier)
    }

    fn ask_again<'a>(&'a self, task: &'a TaskId) -> AskAgain<'a> {
        let again = &self.again;
        AskAgain { again, task }
    }

    /// Returns the ended sub-tasks of an earlier execution of `task`, at all levels, that this one has not started, if a
    /// task is asked again or was. `started` is the number of sub-tasks that it has started. They stay part of the run.
    ///
    /// `is_left` is whether a replay knows of one.
    pub(super) async fn left_tasks(
        &self,
        task: &TaskId,
        started: u32,
        is_left: bool,
    ) -> Result<Vec<(TaskReport, Vec<ModelReport>)>> {
        let are_counted = match self.mode {
            Mode::Replay => is_left && self.counts_all_tasks().await?,
            _ => !self.again.is_empty(),
        };
        if !are_counted {
            return Ok(Vec::new());
        }
        let (run, top) = (self.run.clone(), task.clone());
        blocking(&self.journal, move |journal| {
            let mut left = Vec::new();
            journal.each_task(&run, &top.to_string(), &mut |task| {
                let order = TaskId::recorded(&task.id).order();
                let child = order.get(top.order().len());
                if child.is_some_and(|child| *child >= started) {
                    left.extend(task.end.and_then(whole_end));
                }
                ControlFlow::Continue(())
            })?;
            Ok(left)
        })
        .await
    }

    /// Returns whether the recorded report of the run has all tasks that have ended. After `--failed`, it has only those of
    /// the last execution.
    async fn counts_all_tasks(&self) -> Result<bool> {
        if let Some(known) = self.counts_all_tasks.get() {
            return Ok(*known);
        }
        let run = self.run.clone();
        let all = blocking(&self.journal, move |journal| {
            let mut ended = 0;
            journal.each_task(&run, "", &mut |task| {
                ended += u64::from(task.end.is_some());
                ControlFlow::Continue(())
            })?;
            let end = journal.find(&run)?.end;
            Ok(end.is_some_and(|end| end.summary.counts.tasks == ended))
        })
        .await?;
        Ok(*self.counts_all_tasks.get_or_init(|| all))
    }

    /// Returns whether a task was taken over from the journal. Only the first call for a task can return `true`.
    pub(super) fn took_over(&self, task: &TaskId) -> bool {
        lock(&self.taken_over).remove(&task.to_string())
    }

    /// Returns the numbers of the tasks of a batch that had begun when it was recorded; `None` if it is not replayed.
    pub(super) async fn begun(&self) -> Result<Option<BTreeSet<u64>>> {
        if self.mode != Mode::Replay {
            return Ok(None);
        }
        let run = self.run.clone();
        blocking(&self.journal, move |journal| {
            let mut begun = BTreeSet::new();
            journal.each_task(&run, "root", &mut |task| {
                begun.extend(number(&task.id));
                ControlFlow::Continue(())
            })?;
            Ok(Some(begun))
        })
        .await
    }

    /// Returns the finished tasks of a batch. A task counts if its plugin has this digest and if resuming keeps its outcome.
    pub(super) async fn settled_already(&self, digest: &str) -> Result<SettledTasks> {
        let Mode::Resume { failed } = self.mode else {
            return Ok(SettledTasks::default());
        };
        let (run, digest, again) = (self.run.clone(), digest.to_owned(), self.again.clone());
        blocking(&self.journal, move |journal| {
            let (mut settled, mut stays) = (SettledTasks::default(), false);
            journal.each_task(&run, "root", &mut |task| {
                let report = task.end.and_then(|end| end.report.whole());
                if task.id.matches('/').count() == 1 {
                    let keeps = report.as_ref().is_some_and(|report| keeps(&report.outcome, failed));
                    let id = TaskId::recorded(&task.id);
                    let is_asked_again = again.iter().any(|again| is_within(again, &id));
                    stays = task.digest == digest && keeps && !is_asked_again;
                    settled.numbers.extend(number(&task.id).filter(|_| stays));
                }
                if let Some(report) = report.filter(|_| stays) {
                    settled.spent.add(&report.spent);
                    settled.tasks += 1;
                }
                ControlFlow::Continue(())
            })?;
            Ok(settled)
        })
        .await
    }
}

/// The finished tasks of a batch that is resumed.
#[derive(Debug, Default)]
pub(super) struct SettledTasks {
    /// The resources that they used, with all tasks below them.
    pub(super) spent: Spent,
    /// The number of tasks, with all tasks below them.
    pub(super) tasks: u64,
    /// Their numbers.
    pub(super) numbers: BTreeSet<u64>,
}

/// Returns the number of a task of a batch.
fn number(task: &str) -> Option<u64> {
    task.strip_prefix("root/")?.parse().ok()
}

/// Checks that the model calls of a task can be made again.
fn can_ask_again(journal: &dyn Journal, run: &str, task: &TaskId) -> Result<()> {
    let hint = format!("`agenthost show {run} --all` lists the tasks of the run.");
    let Some(record) = journal.task(run, &task.to_string())? else {
        return Err(Error::usage(format!("run {run} has no task {task}")).with_hint(hint));
    };
    let is_call = |ask: &AskRecord| matches!(ask.what, Asked::Model { .. });
    match record.asks.iter().any(is_call) {
        true => Ok(()),
        false => Err(Error::usage(format!(
            "task {task} of run {run} made no model call that could be made again"
        ))
        .with_hint(hint)),
    }
}

/// The journal's record of a task from an earlier execution of the run.
pub(super) struct Earlier {
    record: TaskRecord,
    /// The end of the task, if it need not run again.
    pub(super) settled: Option<Settled>,
    /// The sub-tasks that began, for a replay; `None` if they are not known.
    began: Option<BTreeSet<TaskId>>,
}

/// Returns the recorded end of a task that need not run again.
fn settled(
    journal: &dyn Journal,
    run: &str,
    past: &TaskRecord,
    mode: Mode,
    digest: &str,
    input: Option<&Value>,
) -> Option<Settled> {
    let Mode::Resume { failed } = mode else {
        return None;
    };
    let end = past.end.as_ref()?;
    let same = past.digest == digest && (past.input.is_none() || input.is_none() || past.input.as_ref() == input);
    let (report, models) = whole_end(end.clone())?;
    if !same || !keeps(&report.outcome, failed) {
        return None;
    }
    let mut below = Vec::new();
    let mut add = |task: TaskRecord| {
        below.extend(task.end.and_then(whole_end));
        ControlFlow::Continue(())
    };
    journal.each_task(run, &past.id, &mut add).ok()?;
    Some(Settled {
        report,
        models,
        returned: end.returned.clone(),
        below,
    })
}

/// Returns the sub-tasks of `task` that a replay starts again. In a finished run, every task that began also has an end; a
/// cassette has no ends.
fn began(journal: &dyn Journal, run: &str, task: &TaskId, mode: Mode) -> Option<BTreeSet<TaskId>> {
    if !matches!(mode, Mode::Replay | Mode::Rehearsal) {
        return None;
    }
    let mut began = BTreeSet::new();
    let mut add = |below: TaskRecord| {
        let id = TaskId::recorded(&below.id);
        if id.parent().as_ref() == Some(task) && (below.end.is_some() || mode == Mode::Rehearsal) {
            began.insert(id);
        }
        ControlFlow::Continue(())
    };
    journal.each_task(run, &task.to_string(), &mut add).ok()?;
    Some(began)
}

/// The ids of the runs that are going on in this process. The journal knows only which process a run belongs to.
static LIVE_RUNS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Marks a run as going on in this process until it is dropped.
#[derive(Debug)]
struct LiveRun(String);

impl LiveRun {
    /// Returns `None` if the run is already going on.
    fn new(run: &str) -> Option<Self> {
        lock(&LIVE_RUNS).insert(run.to_owned()).then(|| Self(run.to_owned()))
    }
}

impl Drop for LiveRun {
    fn drop(&mut self) {
        lock(&LIVE_RUNS).remove(&self.0);
    }
}

/// A task that is taken over from the journal.
pub(super) struct Settled {
    pub(super) report: TaskReport,
    pub(super) models: Vec<ModelReport>,
    /// The value that its function returned.
    pub(super) returned: Option<Value>,
    /// All tasks below it.
    pub(super) below: Vec<(TaskReport, Vec<ModelReport>)>,
}

/// Returns the report of a task and its usage of each model; `None` if the outcome is not kept.
fn whole_end(end: TaskEnd) -> Option<(TaskReport, Vec<ModelReport>)> {
    Some((end.report.whole()?, end.models))
}

/// Returns whether resuming keeps an outcome, because running the task again would give the same. With `failed`, only
/// outputs are kept.
pub(super) fn keeps(outcome: &Outcome, failed: bool) -> bool {
    match outcome {
        Outcome::Ok(_) => true,
        Outcome::Failure(failure) => match failure.class {
            FailureClass::Exhausted | FailureClass::Cancelled | FailureClass::Model | FailureClass::Host => false,
            // A fault of the host in a sub-task, which its parent passed on.
            FailureClass::Other if failure.message.starts_with("host: ") => false,
            FailureClass::Failed
            | FailureClass::Denied
            | FailureClass::ContextOverflow
            | FailureClass::Trapped
            | FailureClass::Escalated
            | FailureClass::Other => !failed,
        },
    }
}

pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under these locks leaves the data consistent.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
