//! A batch as one run: its tasks are siblings under a virtual root, which is not itself a task, and share the run's
//! limits.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::call_context::Ending;
use super::events::EventLog;
use super::fault::caught;
use super::record::{Mode, Recorder, SettledTasks};
use super::run::FailedTasks;
use super::tree::{NewTask, RunState};
use super::waits::BatchWaits;
use super::{Host, LoadedPlugin, Plugin};
use crate::batch::drive::{Stop, Summary};
use crate::batch::{ItemEnd, Runner};
use crate::cancellation::Cancellation;
use agenthost_core::error::{Error, Result, with_causes};
use agenthost_core::failpoint;
use agenthost_core::limits::ledger::Account;
use agenthost_core::limits::{LimitKind, LimitOwner, Limits, LimitsPatch};
use agenthost_core::run::{Difference, RunId};
use agenthost_core::task::{Failure, FailureClass, Outcome, TaskId};
use agenthost_gate::Pressure;
use agenthost_journal::{RunKind, RunRecord, RunStatus, RunSummary, StopRecord, TaskCounts};

/// A batch that is under way.
///
/// It is a [`Runner`], which [`drive`](crate::batch::drive::drive) supplies with the items of a file. Its tasks can
/// also be run one by one:
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost::batch::{Runner as _, drive::Summary};
/// use agenthost::{Host, Limits};
/// use serde_json::json;
///
/// # let component = double();
/// let host = Host::builder().build()?;
/// let double = host.load_bytes(&component)?;
/// let all_together = Limits::new().tokens(1_000_000);
/// let batch = host.batch(&double).run_limits(all_together).open().await?;
/// let mut summary = Summary::default();
/// for number in 0..3 {
///     let end = batch.run(number, json!(number)).await;
///     assert_eq!(end.outcome.output::<u64>()?, 2 * number);
///     summary.ok += 1;
///     summary.spent.add(&end.spent);
/// }
/// batch.end(&summary).await?; // for the journal, if one is kept
/// # Ok(())
/// # }
/// ```
pub struct Batch {
    host: Host,
    plugin: Arc<LoadedPlugin>,
    limits: Limits,
    /// The limits of all tasks together.
    sums: Limits,
    account: Account,
    run: Arc<RunState>,
    recorder: Option<Arc<Recorder>>,
    /// The tasks that had begun when the batch was recorded, for a replay.
    begun: Option<BTreeSet<u64>>,
    /// The tasks whose recorded outcomes stay.
    settled: BTreeSet<u64>,
    /// `true` if the record is read and not changed.
    only_reads: bool,
    /// The error of the first provider that refused its key.
    refused_key: Arc<OnceLock<String>>,
    stop: CancellationToken,
    waits: BatchWaits,
}

/// A batch that has not begun.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost::batch::Runner as _;
/// use agenthost::{FailedTasks, Host, Journal};
/// use serde_json::json;
///
/// # let component = double();
/// # let dir = tempfile::tempdir()?;
/// let journal = Journal::sqlite(dir.path().join("journal.db"))?;
/// let host = Host::builder().journal(journal.clone()).build()?;
/// let double = host.load_bytes(&component)?;
/// let batch = host.batch(&double).open().await?;
/// assert!(!batch.run(0, json!(21)).await.recorded);
/// drop(batch); // as if the process had been killed
///
/// let record = journal.find("last")?;
/// let batch = host.batch(&double).resume(&record, FailedTasks::Keep).open().await?;
/// let end = batch.run(0, json!(21)).await;
/// assert!(end.recorded, "it is not run again");
/// assert_eq!(end.outcome.output::<u32>()?, 42);
/// # Ok(())
/// # }
/// ```
#[must_use = "a batch begins when it is opened"]
pub struct BatchBuilder {
    host: Host,
    plugin: Plugin,
    limits: LimitsPatch,
    run_limits: LimitsPatch,
    command: Value,
    from: Option<(RunRecord, Mode)>,
    again: Vec<TaskId>,
    only_reads: bool,
    stop: Cancellation,
}

impl Host {
    /// Prepares a batch of tasks of `plugin`.
    pub fn batch(&self, plugin: &Plugin) -> BatchBuilder {
        BatchBuilder {
            host: self.clone(),
            plugin: plugin.clone(),
            limits: LimitsPatch::default(),
            run_limits: LimitsPatch::default(),
            command: Value::Null,
            from: None,
            again: Vec::new(),
            only_reads: false,
            stop: Cancellation::new(),
        }
    }
}

impl BatchBuilder {
    /// Overrides the limits of each task.
    pub fn limits(mut self, limits: impl Into<LimitsPatch>) -> Self {
        self.limits = limits.into().over(self.limits);
        self
    }

    /// Overrides the limits of all tasks together.
    pub fn run_limits(mut self, limits: impl Into<LimitsPatch>) -> Self {
        self.run_limits = limits.into().over(self.run_limits);
        self
    }

    /// Records `command` in the journal: the data that the program needs to start the batch again. A continued batch
    /// keeps the command of its record.
    pub fn command(mut self, command: Value) -> Self {
        self.command = command;
        self
    }

    /// Continues a recorded batch. Tasks that ended are not run again.
    pub fn resume(mut self, record: &RunRecord, failed: FailedTasks) -> Self {
        let mode = Mode::Resume {
            failed: failed.repeat(),
        };
        self.from = Some((record.clone(), mode));
        self
    }

    /// Makes the model calls of `task` again in a resumed batch, as
    /// [`RecordedRunBuilder::ask_again`](super::RecordedRunBuilder::ask_again) does. The task number *n* of the batch is
    /// `root/n`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::batch::Runner as _;
    /// use agenthost::{FailedTasks, Host, Journal, TaskId};
    /// use agenthost::providers::script::Script;
    /// use serde_json::json;
    ///
    /// # let component = ask();
    /// # let dir = tempfile::tempdir()?;
    /// let script = "[[rule]]\ntimes = 1\ntext = 'Sorry?'\n[[rule]]\ntext = 'Blue.'";
    /// let journal = Journal::sqlite(dir.path().join("journal.db"))?;
    /// let builder = Host::builder().model("fast", "own/any").provider("own", Script::parse(script, "colors")?);
    /// let host = builder.journal(journal.clone()).build()?;
    /// let ask = host.load_bytes(&component)?;
    /// let batch = host.batch(&ask).open().await?;
    /// assert_eq!(batch.run(0, json!("Name a color.")).await.outcome.output::<String>()?, "Sorry?");
    /// drop(batch);
    ///
    /// let resumed = host.batch(&ask).resume(&journal.find("last")?, FailedTasks::Keep);
    /// let batch = resumed.ask_again(TaskId::root().child(0)).open().await?;
    /// assert_eq!(batch.run(0, json!("Name a color.")).await.outcome.output::<String>()?, "Blue.");
    /// # Ok(())
    /// # }
    /// ```
    pub fn ask_again(mut self, task: TaskId) -> Self {
        self.again.push(task);
        self
    }

    /// Replays a recorded batch from its record alone.
    pub fn replay(mut self, record: &RunRecord) -> Self {
        self.from = Some((record.clone(), Mode::Replay));
        self
    }

    /// Returns whether a resumed batch of `tasks` tasks has nothing left to do: it has ended, and the outcomes of all tasks
    /// are recorded and stay.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Host`](agenthost_core::error::ErrorClass::Host) if the journal cannot be read.
    pub async fn has_nothing_left(&self, tasks: u64) -> Result<bool> {
        match &self.from {
            Some((record, mode @ Mode::Resume { .. })) if has_come_to_its_end(record, tasks) => {
                let recorder = self.host.recorder(record, *mode, self.again.clone());
                let settled = settled(recorder.as_deref(), &self.plugin.loaded).await?;
                Ok(settled.numbers.len() as u64 >= tasks)
            }
            _ => Ok(false),
        }
    }

    /// Takes recorded outcomes over and changes nothing in the record, not even the end of the batch: for a batch that
    /// [has nothing left to do](BatchBuilder::has_nothing_left). A task without a recorded outcome ends as canceled.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::batch::{Runner as _, drive::Summary};
    /// use agenthost::{FailedTasks, Host, Journal};
    /// use serde_json::json;
    ///
    /// # let component = double();
    /// # let dir = tempfile::tempdir()?;
    /// let journal = Journal::sqlite(dir.path().join("journal.db"))?;
    /// let host = Host::builder().journal(journal.clone()).build()?;
    /// let double = host.load_bytes(&component)?;
    /// let batch = host.batch(&double).open().await?;
    /// batch.run(0, json!(21)).await;
    /// let mut summary = Summary::default();
    /// summary.ok = 1;
    /// batch.end(&summary).await?;
    /// drop(batch);
    ///
    /// let resumed = host.batch(&double).resume(&journal.find("last")?, FailedTasks::Keep);
    /// assert!(resumed.has_nothing_left(1).await? && !resumed.has_nothing_left(2).await?);
    /// let batch = resumed.only_read().open().await?;
    /// assert_eq!(batch.run(0, json!(21)).await.outcome.output::<u32>()?, 42);
    /// # Ok(())
    /// # }
    /// ```
    pub fn only_read(mut self) -> Self {
        self.only_reads = true;
        self
    }

    /// Cancels the running tasks once `stop` is cancelled.
    pub fn stop(mut self, stop: &Cancellation) -> Self {
        self.stop = stop.clone();
        self
    }

    /// Begins the batch.
    ///
    /// # Errors
    ///
    /// As [`RunBuilder::start`](super::RunBuilder::start);
    /// [`ErrorClass::Host`](agenthost_core::error::ErrorClass::Host) if the journal cannot be written, and
    /// [`ErrorClass::Usage`](agenthost_core::error::ErrorClass::Usage) if the batch is still going on, in this process
    /// or another.
    pub async fn open(self) -> Result<Batch> {
        let Self {
            host,
            plugin,
            limits,
            run_limits,
            command,
            from,
            again,
            only_reads,
            stop,
        } = self;
        let plugin = plugin.loaded;
        let (record, mode) = match from {
            None => (host.new_record(RunKind::Batch, &plugin, &command)?, Mode::Live),
            Some(recorded) => recorded,
        };
        let recorder = host.recorder(&record, mode, again);
        let waits = BatchWaits::default();
        let events = EventLog::of_batch(waits.clone());
        if !only_reads {
            host.check_allowance(recorder.as_deref())?;
        }
        // A fault ends the batch, and not what else the caller cancels.
        let stop = stop.token().child_token();
        let run = RunState::new(&host, &plugin, &record, recorder.clone(), &stop, events)?;
        if let Some(recorder) = recorder.as_ref().filter(|_| !only_reads) {
            recorder.claim().await?;
            recorder.begin(record).await?;
        }
        let sums = host.config().run().limits.overridden_by(&run_limits);
        let account = Account::root(&sums).named(LimitOwner::Run);
        // Booked all at once, so that no new request is sent against a limit that an earlier execution has used up.
        let settled = settled(recorder.as_deref(), &plugin).await?;
        let begun = match &recorder {
            Some(recorder) => recorder.begun().await?,
            None => None,
        };
        account.restore_below(&settled.spent, settled.tasks);
        Ok(Batch {
            limits: host.task_limits(&plugin, &limits),
            host,
            plugin,
            sums,
            account,
            run,
            recorder,
            begun,
            settled: settled.numbers,
            only_reads,
            refused_key: Arc::default(),
            stop,
            waits,
        })
    }
}

/// Returns whether a batch of `tasks` tasks ended by itself, with an outcome of every item.
fn has_come_to_its_end(record: &RunRecord, tasks: u64) -> bool {
    let summary = record.end.as_ref().map(|end| &end.summary);
    summary.is_some_and(|summary| summary.stopped.is_none() && summary.counts.tasks >= tasks)
}

/// Returns the finished tasks of a batch of `plugin`.
async fn settled(recorder: Option<&Recorder>, plugin: &LoadedPlugin) -> Result<SettledTasks> {
    match recorder {
        Some(recorder) => recorder.settled_already(&plugin.info.digest.hex()).await,
        None => Ok(SettledTasks::default()),
    }
}

impl Batch {
    /// Returns the id of the run.
    pub fn id(&self) -> &RunId {
        self.run.id()
    }

    /// Returns the waits of its tasks, for a display.
    pub fn waits(&self) -> BatchWaits {
        self.waits.clone()
    }

    /// Returns whether the task `number` is part of this batch. A replay leaves out tasks that did not begin when the
    /// batch was recorded; otherwise every task is part of it.
    pub fn has(&self, number: u64) -> bool {
        self.begun.as_ref().is_none_or(|begun| begun.contains(&number))
    }

    /// Returns the differences of a replay from the record so far.
    pub fn differences(&self) -> Vec<Difference> {
        self.recorder
            .as_ref()
            .map(|recorder| recorder.differences())
            .unwrap_or_default()
    }

    /// Records the end of the batch: its state, its counts and what it spent.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Host`](agenthost_core::error::ErrorClass::Host) if the journal cannot be written.
    pub async fn end(&self, summary: &Summary) -> Result<()> {
        self.run.flush().await;
        let Some(recorder) = self.recorder.as_ref().filter(|_| !self.only_reads) else {
            return Ok(());
        };
        let status = match &summary.stop {
            None if summary.failures() == 0 => RunStatus::Done,
            Some(Stop::Interrupted) => RunStatus::Interrupted,
            _ => RunStatus::Failed,
        };
        let recorded = RunSummary {
            outcome: None,
            spent: summary.spent.clone(),
            models: summary.models.clone(),
            counts: TaskCounts::new(summary.ok, summary.failures()),
            stopped: summary.stop.as_ref().map(|stop| self.stopped(stop, summary)),
        };
        recorder.end(status, recorded).await
    }

    fn stopped(&self, stop: &Stop, summary: &Summary) -> StopRecord {
        let owner = summary.limit_owner.as_ref();
        let mut record = StopRecord::new(stop.name(), stop.clause(owner));
        if let Stop::Limit(limit) = stop {
            record.limit = Some(*limit);
            record.owner = owner.cloned();
            if let Some(most) = self.sums.describe(*limit).filter(|_| owner.is_none()) {
                record.message.push_str(&format!(" ({most})"));
            }
        }
        record
    }

    async fn item(&self, number: u64, input: Value) -> ItemEnd {
        failpoint!(await "batch.item");
        let failed = |why: String| ItemEnd::new(Outcome::Failure(Failure::new(FailureClass::Host, why)));
        let input = match self.plugin.code.input(&input) {
            Ok(input) => input,
            Err(error) => return failed(with_causes(&error)),
        };
        let Ok(number) = u32::try_from(number) else {
            return failed(format!("a batch has at most {} tasks", u32::MAX));
        };
        let cancel = self.stop.child_token();
        if self.only_reads {
            cancel.cancel();
        }
        let run = self.run.item(Ending::new(&cancel, &self.refused_key));
        let started = Instant::now();
        let limits = self.limits.clone();
        let replay = self.recorder.as_ref().is_some_and(|recorder| recorder.is_replay());
        let id = TaskId::root().child(number);
        let task = NewTask {
            account: self.account.child(&limits).named(LimitOwner::Task(id.to_string())),
            id: id.clone(),
            plugin: Arc::clone(&self.plugin),
            deadline: limits.timeout.filter(|_| !replay).map(|timeout| started + timeout),
            // The tasks of a batch are one level below the root.
            deepest: limits.depth.map_or(u32::MAX, |depth| depth.saturating_add(1)),
            cancel,
            limits,
            started,
        };
        let outcome = run.start(task, input, false).await.0;
        let report = run.finish(outcome, started).await;
        let recorded = self.recorder.as_ref().is_some_and(|recorder| recorder.took_over(&id));
        ItemEnd {
            outcome: report.outcome,
            spent: report.spent,
            tasks: report.tasks.len() as u64,
            models: report.models,
            recorded,
        }
    }
}

impl Runner for Batch {
    fn run(&self, number: u64, input: Value) -> BoxFuture<'_, ItemEnd> {
        // A panic is caught here because one future polls this item and the others.
        async move { caught(self.item(number, input)).await.unwrap_or_else(ItemEnd::new) }.boxed()
    }

    fn pressure(&self) -> Pressure {
        self.host.pressure()
    }

    fn exhausted(&self) -> Option<LimitKind> {
        // A replay ends where the record does.
        if self.only_reads || self.recorder.as_ref().is_some_and(|recorder| recorder.is_replay()) {
            return None;
        }
        if self.recorder.as_ref().is_some_and(|recorder| recorder.full().is_some()) {
            return Some(LimitKind::Size);
        }
        self.account.exhausted()
    }

    fn limit_owner(&self) -> Option<LimitOwner> {
        self.account.refused_by()
    }

    fn refused_key(&self) -> Option<String> {
        self.refused_key.get().cloned()
    }

    fn fault(&self) -> Option<Error> {
        self.run.fault()
    }

    fn next_recorded(&self, from: u64) -> Option<u64> {
        self.settled.range(from..).next().copied()
    }
}
