//! A batch as one run: its tasks stand side by side below a root that is no task, and share what the run may spend.

use agenthost_core::failpoint;
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
use agenthost_core::limits::ledger::Account;
use agenthost_core::limits::{LimitKind, Limits, LimitsPatch, Spent};
use agenthost_core::run::{Difference, ModelReport, RunId};
use agenthost_core::task::{Failure, FailureClass, Outcome, TaskId};
use agenthost_journal::RunRecord;

/// A batch that is under way.
///
/// It is a [`Runner`], which [`drive`](crate::batch::drive::drive) keeps busy with the items of a file; its tasks can be
/// run one by one, too:
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
/// let host = Host::builder(Config::usual()?).build()?;
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
    /// What all tasks together have used.
    spent: Mutex<Spent>,
}

/// Where a batch that was recorded is taken up.
pub enum Again<'a> {
    /// It goes on; with `failed`, tasks that failed for good are run again, too.
    Resume {
        /// The run.
        record: &'a RunRecord,
        /// Whether they are.
        failed: bool,
    },
    /// Everything is told again.
    Replay {
        /// The run.
        record: &'a RunRecord,
    },
}

impl Host {
    /// Begins a batch of tasks of `plugin`, or takes one up again. `asked` replaces the limits of each task, and `sums`
    /// those on all of them together. Cancelling `stop` ends what runs.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use agenthost::batch::Runner as _;
    /// use agenthost::config::{Bodies, Config};
    /// use agenthost::host::{Again, Host};
    /// use agenthost::journal::{Journal as _, sqlite::Sqlite};
    /// use agenthost::limits::LimitsPatch;
    /// use serde_json::{Value, json};
    /// use tokio_util::sync::CancellationToken;
    ///
    /// # let component = double();
    /// # let dir = tempfile::tempdir()?;
    /// let journal = Arc::new(Sqlite::open(&dir.path().join("journal.db"))?);
    /// let host = Host::builder(Config::usual()?).journal(journal.clone(), Bodies::All).build()?;
    /// let double = Arc::new(host.load_bytes(&component)?);
    /// let (limits, stop) = (LimitsPatch::default(), CancellationToken::new());
    /// let batch = host.open_batch(&double, (&limits, &limits), &Value::Null, None, &stop).await?;
    /// assert!(!batch.run(0, json!(21)).await.recorded);
    /// drop(batch); // as if the process had been killed
    ///
    /// let record = journal.find("last")?;
    /// let again = Again::Resume { record: &record, failed: false };
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
    /// As [`Host::spawn`], [`ErrorClass::Host`](agenthost_core::error::ErrorClass::Host) if the journal cannot be written, and
    /// [`ErrorClass::Usage`](agenthost_core::error::ErrorClass::Usage) for a batch that still goes on, in this process or another.
    pub async fn open_batch(
        &self,
        plugin: &Arc<LoadedPlugin>,
        (asked, sums): (&LimitsPatch, &LimitsPatch),
        command: &Value,
        again: Option<Again<'_>>,
        stop: &CancellationToken,
    ) -> Result<Batch> {
        let (record, mode) = match again {
            None => (self.new_record("batch", plugin, command)?, Mode::Live),
            Some(Again::Resume { record, failed }) => (record.clone(), Mode::Resume { failed }),
            Some(Again::Replay { record }) => (record.clone(), Mode::Replay),
        };
        let recorder = self.recorder(&record, mode);
        // Nobody watches the tasks of a batch one by one.
        let (events, _) = broadcast::channel(1);
        let run = RunState::new(self, plugin, &record, recorder.clone(), stop, events)?;
        if let Some(recorder) = &recorder {
            recorder.claim()?;
            recorder.begin(record).await?;
        }
        let sums = self.config().run().limits.overridden_by(sums);
        let account = Account::root(&sums);
        // All at once, so that nothing new is sent on what was spent long ago.
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
    /// The run's name.
    pub fn id(&self) -> &RunId {
        self.run.id()
    }

    /// Of a replay, whether the task `number` began when the batch was recorded; else it is left out.
    ///
    /// # Errors
    ///
    /// What the journal says.
    pub fn has(&self, number: u64) -> Result<bool> {
        let (Some(recorder), Ok(number)) = (&self.recorder, u32::try_from(number)) else {
            return Ok(true);
        };
        Ok(!recorder.is_replay() || recorder.began(&TaskId::root().child(number))?)
    }

    /// Of a replay, where it differed until now.
    pub fn differences(&self) -> Vec<Difference> {
        self.recorder
            .as_ref()
            .map(|recorder| recorder.differences())
            .unwrap_or_default()
    }

    /// Why nothing can be written down any more, if so.
    pub fn fault(&self) -> Option<String> {
        self.recorder
            .as_ref()
            .and_then(|recorder| recorder.fault())
            .map(str::to_owned)
    }

    /// Writes down how the batch ended: `done`, `failed` or `interrupted`, and what it came to.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Host`](agenthost_core::error::ErrorClass::Host) where the journal cannot be written.
    pub async fn end(
        &self,
        state: &str,
        (ok, failed): (u64, u64),
        spent: &Spent,
        models: &[ModelReport],
    ) -> Result<()> {
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
            // The tasks themselves stand one level below the root.
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

/// The end of an item of which nothing was run.
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
        // The other items share the future that polls this one.
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
