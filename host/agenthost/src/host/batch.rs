//! A batch as one run: its tasks are siblings under a virtual root, which is not itself a task, and share the run's
//! limits.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::record::{Mode, Recorder};
use super::run::caught;
use super::tree::{NewTask, RunState};
use super::{Host, LoadedPlugin};
use crate::batch::{ItemEnd, Runner};
use agenthost_core::error::Result;
use agenthost_core::failpoint;
use agenthost_core::limits::ledger::Account;
use agenthost_core::limits::{LimitKind, Limits, LimitsPatch, Spent};
use agenthost_core::run::{Difference, ModelReport, RunId};
use agenthost_core::task::{Failure, FailureClass, Outcome, TaskId};
use agenthost_journal::RunRecord;

/// A batch that is under way.
///
/// It is a [`Runner`], which [`drive`](crate::batch::drive::drive) supplies with the items of a file. Its tasks can
/// also be run one by one:
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use agenthost::batch::Runner as _;
/// use agenthost::config::Config;
/// use agenthost::host::Host;
/// use agenthost::limits::{Cap, LimitsPatch, Spent};
/// use serde_json::{Value, json};
/// use tokio_util::sync::CancellationToken;
///
/// # let component = double();
/// let host = Host::builder(Config::builtin()?).build()?;
/// let double = Arc::new(host.load_bytes(&component)?);
/// let all_together = LimitsPatch { tokens: Some(Cap::At(1_000_000)), ..LimitsPatch::default() };
/// let limits = (&LimitsPatch::default(), &all_together);
/// let batch = host.open_batch(&double, limits, &Value::Null, None, &CancellationToken::new()).await?;
/// let mut spent = Spent::default();
/// for number in 0..3 {
///     let end = batch.run(number, json!(number)).await;
///     assert_eq!(end.outcome.into_result()?, json!(2 * number));
///     spent.add(&end.spent);
/// }
/// batch.end("done", (3, 0), &spent, &[]).await?; // for the journal, if one is kept
/// # Ok(())
/// # }
/// ```
pub struct Batch {
    host: Host,
    plugin: Arc<LoadedPlugin>,
    limits: Limits,
    sums: Limits,
    account: Account,
    run: Arc<RunState>,
    recorder: Option<Arc<Recorder>>,
    stop: CancellationToken,
    /// The sum of what all tasks have used.
    spent: Mutex<Spent>,
}

/// How to continue a recorded batch.
pub enum BatchResume<'a> {
    /// Resume the batch.
    Resume {
        /// The run.
        record: &'a RunRecord,
        /// Whether to run tasks with a final failure again, too.
        failed: bool,
    },
    /// Replay the batch from its record alone.
    Replay {
        /// The run.
        record: &'a RunRecord,
    },
}

impl Host {
    /// Begins a batch of tasks of `plugin`, or continues a recorded one. `asked` overrides the limits of each task, and
    /// `sums` those of all tasks together. Cancelling `stop` cancels the running tasks.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use agenthost::batch::Runner as _;
    /// use agenthost::config::{BodyRetention, Config};
    /// use agenthost::host::{BatchResume, Host};
    /// use agenthost::journal::{Journal as _, sqlite::Sqlite};
    /// use agenthost::limits::LimitsPatch;
    /// use serde_json::{Value, json};
    /// use tokio_util::sync::CancellationToken;
    ///
    /// # let component = double();
    /// # let dir = tempfile::tempdir()?;
    /// let journal = Arc::new(Sqlite::open(&dir.path().join("journal.db"))?);
    /// let host = Host::builder(Config::builtin()?).journal(journal.clone(), BodyRetention::All).build()?;
    /// let double = Arc::new(host.load_bytes(&component)?);
    /// let (limits, stop) = (LimitsPatch::default(), CancellationToken::new());
    /// let batch = host.open_batch(&double, (&limits, &limits), &Value::Null, None, &stop).await?;
    /// assert!(!batch.run(0, json!(21)).await.recorded);
    /// drop(batch); // as if the process had been killed
    ///
    /// let record = journal.find("last")?;
    /// let again = BatchResume::Resume { record: &record, failed: false };
    /// let batch = host.open_batch(&double, (&limits, &limits), &Value::Null, Some(again), &stop).await?;
    /// let end = batch.run(0, json!(21)).await;
    /// assert!(end.recorded, "it is not run again");
    /// assert_eq!(end.outcome.into_result()?, json!(42));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Host::spawn`]; [`ErrorClass::Host`](agenthost_core::error::ErrorClass::Host) if the journal cannot be
    /// written, and [`ErrorClass::Usage`](agenthost_core::error::ErrorClass::Usage) if the batch is still going on, in
    /// this process or another.
    pub async fn open_batch(
        &self,
        plugin: &Arc<LoadedPlugin>,
        (asked, sums): (&LimitsPatch, &LimitsPatch),
        command: &Value,
        again: Option<BatchResume<'_>>,
        stop: &CancellationToken,
    ) -> Result<Batch> {
        let (record, mode) = match again {
            None => (self.new_record("batch", plugin, command)?, Mode::Live),
            Some(BatchResume::Resume { record, failed }) => (record.clone(), Mode::Resume { failed }),
            Some(BatchResume::Replay { record }) => (record.clone(), Mode::Replay),
        };
        let recorder = self.recorder(&record, mode);
        // The tasks of a batch have no event receivers.
        let (events, _) = broadcast::channel(1);
        let run = RunState::new(self, plugin, &record, recorder.clone(), stop, events)?;
        if let Some(recorder) = &recorder {
            recorder.claim()?;
            recorder.begin(record).await?;
        }
        let sums = self.config().run().limits.overridden_by(sums);
        let account = Account::root(&sums);
        // Booked all at once, so that no new request is sent against a limit that an earlier execution has used up.
        let (spent, tasks) = match &recorder {
            Some(recorder) => recorder.settled_already(&plugin.digest.hex())?,
            None => (Spent::default(), 0),
        };
        account.restore_below(&spent, tasks);
        Ok(Batch {
            host: self.clone(),
            plugin: Arc::clone(plugin),
            limits: self.limits(plugin, asked),
            account,
            sums,
            run,
            recorder,
            stop: stop.clone(),
            spent: Mutex::new(spent),
        })
    }
}

impl Batch {
    /// Returns the id of the run.
    pub fn id(&self) -> &RunId {
        self.run.id()
    }

    /// Returns whether the task `number` is part of this batch. A replay leaves out tasks that did not begin when the
    /// batch was recorded; otherwise every task is part of it.
    ///
    /// # Errors
    ///
    /// An error of the journal.
    pub fn has(&self, number: u64) -> Result<bool> {
        let (Some(recorder), Ok(number)) = (&self.recorder, u32::try_from(number)) else {
            return Ok(true);
        };
        Ok(!recorder.is_replay() || recorder.began(&TaskId::root().child(number))?)
    }

    /// Returns the differences of a replay from the record so far.
    pub fn differences(&self) -> Vec<Difference> {
        self.recorder
            .as_ref()
            .map(|recorder| recorder.differences())
            .unwrap_or_default()
    }

    /// Returns why the journal can no longer be written, or `None` if it can.
    pub fn fault(&self) -> Option<String> {
        self.recorder
            .as_ref()
            .and_then(|recorder| recorder.fault())
            .map(str::to_owned)
    }

    /// Records the end of the batch: its state (`done`, `failed` or `interrupted`), its counts and what it spent.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Host`](agenthost_core::error::ErrorClass::Host) if the journal cannot be written.
    pub async fn end(
        &self,
        state: &str,
        (ok, failed): (u64, u64),
        spent: &Spent,
        models: &[ModelReport],
    ) -> Result<()> {
        self.run.flush_gates().await;
        let Some(recorder) = &self.recorder else {
            return Ok(());
        };
        let counts = json!({"tasks": ok + failed, "ok": ok, "failed": failed});
        let report = json!({"spent": spent, "models": models, "counts": counts});
        recorder.end(state, &report).await
    }

    async fn item(&self, number: u64, input: Value) -> ItemEnd {
        failpoint!(await "batch.item");
        let failed = |why: String| not_run(Outcome::Failure(Failure::new(FailureClass::Host, why)));
        let input = match self.plugin.code.input(&input) {
            Ok(input) => input,
            Err(error) => return failed(error.to_string()),
        };
        let Ok(number) = u32::try_from(number) else {
            return failed(format!("a batch has at most {} tasks", u32::MAX));
        };
        let run = self.run.item();
        let started = Instant::now();
        let limits = self.limits.clone();
        let replay = self.recorder.as_ref().is_some_and(|recorder| recorder.is_replay());
        let task = NewTask {
            id: TaskId::root().child(number),
            plugin: Arc::clone(&self.plugin),
            account: self.account.child(&limits),
            deadline: limits.time.filter(|_| !replay).map(|time| started + time),
            // The tasks of a batch are one level below the root.
            deepest: limits.depth.map_or(u32::MAX, |depth| depth.saturating_add(1)),
            cancel: self.stop.child_token(),
            limits,
            started,
        };
        let id = task.id.clone();
        let outcome = run.start(task, input, false).await.0;
        let report = run.finish(outcome, started).await;
        let recorded = self.recorder.as_ref().is_some_and(|recorder| recorder.took_over(&id));
        if !recorded {
            self.spent
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .add(&report.spent);
        }
        ItemEnd {
            outcome: report.outcome,
            spent: report.spent,
            tasks: report.tasks.len() as u64,
            models: report.models,
            recorded,
        }
    }
}

/// Returns the end of an item whose task was not run.
fn not_run(outcome: Outcome) -> ItemEnd {
    ItemEnd {
        outcome,
        spent: Spent::default(),
        tasks: 0,
        models: Vec::new(),
        recorded: false,
    }
}

impl Runner for Batch {
    fn run(&self, number: u64, input: Value) -> BoxFuture<'_, ItemEnd> {
        // A panic is caught here because one future polls this item and the others.
        async move { caught(self.item(number, input)).await.unwrap_or_else(not_run) }.boxed()
    }

    fn pressure(&self) -> (u64, u64) {
        self.host.pressure()
    }

    fn exhausted(&self) -> Option<LimitKind> {
        if self.recorder.as_ref().is_some_and(|recorder| recorder.full().is_some()) {
            return Some(LimitKind::Size);
        }
        let spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let tokens = spent.input_tokens.saturating_add(spent.output_tokens);
        [
            (LimitKind::Tokens, self.sums.tokens.is_some_and(|most| tokens >= most)),
            (LimitKind::Cost, self.sums.cost.is_some_and(|most| spent.cost >= most)),
            (
                LimitKind::Calls,
                self.sums.calls.is_some_and(|most| spent.calls >= most),
            ),
            (LimitKind::Fuel, self.sums.fuel.is_some_and(|most| spent.fuel >= most)),
        ]
        .into_iter()
        .find_map(|(kind, reached)| reached.then_some(kind))
    }
}
