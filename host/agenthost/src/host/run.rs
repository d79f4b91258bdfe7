//! A run from its start to its report, and the handle to it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::events::{EndsLog, EventLog, Events};
use super::fault::caught;
use super::record::{Mode, Recorder, keeps, now_ms};
use super::tree::{NewTask, RunState, clock};
use super::{Host, LoadedPlugin, Plugin};
use agenthost_config::BodyRetention;
use agenthost_core::error::{Error, Result, with_causes};
use agenthost_core::failpoint;
use agenthost_core::limits::ledger::Account;
use agenthost_core::limits::{LimitOwner, LimitsPatch};
use agenthost_core::run::{RunId, RunReport};
use agenthost_core::task::{Failure, FailureClass, Outcome, TaskId};
use agenthost_journal::cassette::Cassette;
use agenthost_journal::cassette::tape::Tape;
use agenthost_journal::{Journal, RunKind, RunRecord, RunStatus, RunSummary, blocking};
use agenthost_sandbox::Input;

/// The tasks of a resumed run that ended with a final failure, such as a trap or a reached limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedTasks {
    /// They keep their failure.
    Keep,
    /// They run again.
    Repeat,
}

impl FailedTasks {
    /// Returns whether failed tasks run again.
    pub(super) fn repeat(self) -> bool {
        self == Self::Repeat
    }
}

/// A started run. Dropping the handle cancels the run; [`RunHandle::detach`] lets it continue without the handle.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost::Host;
///
/// # let component = ask();
/// let host = Host::builder().build()?;
/// let run = host.run(&host.load_bytes(&component)?, "Name a color.").start()?;
/// println!("{} is under way", run.id());
///
/// let report = run.report().await;
/// let answer: String = report.output()?;
/// assert!(answer.starts_with("[offline]"), "made up on this machine: {answer}");
/// assert_eq!((report.spent.calls, report.tasks.len()), (1, 1));
/// assert_eq!(report.models[0].model, "offline/fast");
/// # Ok(())
/// # }
/// ```
pub struct RunHandle {
    id: RunId,
    cancel: CancellationToken,
    cancel_on_drop: bool,
    events: Arc<EventLog>,
    report: watch::Receiver<Option<Arc<RunReport>>>,
}

impl RunHandle {
    /// Returns the id of the run.
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// Waits for the end of the run and returns its report. Later calls return the same report.
    pub async fn report(&self) -> Arc<RunReport> {
        let mut report = self.report.clone();
        loop {
            if let Some(report) = report.borrow_and_update().clone() {
                return report;
            }
            if report.changed().await.is_err() {
                // The runtime is shutting down and dropped the run before it had a report.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits for the end of the run and returns the outcome of its root task.
    pub async fn outcome(&self) -> Outcome {
        self.report().await.outcome.clone()
    }

    /// Ends the run early. A result that the root task has already returned is kept.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::{FailureClass, Host};
    /// use agenthost::providers::script::Script;
    ///
    /// # let component = ask();
    /// let never = Script::parse("[[rule]]\nhang = true", "never")?;
    /// let host = Host::builder().model("fast", "own/any").provider("own", never).build()?;
    /// let run = host.run(&host.load_bytes(&component)?, "Are you there?").start()?;
    /// run.cancel();
    /// assert_eq!(run.outcome().await.failure().map(|failure| failure.class), Some(FailureClass::Cancelled));
    /// # Ok(())
    /// # }
    /// ```
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Returns the events of the run from its start, as a stream that ends with the run. Each call returns a stream of
    /// its own. A reader that is too slow receives [`Lagged`](super::Lagged) for the events that it missed.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::{Event, Host};
    ///
    /// # let component = ask();
    /// let host = Host::builder().build()?;
    /// let run = host.run(&host.load_bytes(&component)?, "Name a color.").start()?;
    /// let (mut events, mut seen) = (run.events(), Vec::new());
    /// while let Some(event) = events.next().await {
    ///     seen.push(match event? {
    ///         Event::Started { task, plugin } => format!("{task}: {plugin}"),
    ///         Event::CallSent { model, .. } => format!("asks {model}"),
    ///         Event::CallSettled { spent, .. } => format!("{} calls by now", spent.calls),
    ///         Event::Ended { task, report } => format!("{task} ended, ok: {}", report.outcome.ok().is_some()),
    ///         other => format!("{other:?}"),
    ///     });
    /// }
    /// assert_eq!(seen, ["root: demo:ask@0.1.0", "asks offline/fast", "1 calls by now", "root ended, ok: true"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn events(&self) -> Events {
        Events::of(&self.events)
    }

    /// Lets the run continue without this handle.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::journal::RunStatus;
    /// use agenthost::{Host, Journal};
    ///
    /// # let component = double();
    /// # let dir = tempfile::tempdir()?;
    /// let journal = Journal::sqlite(dir.path().join("journal.db"))?;
    /// let host = Host::builder().journal(journal.clone()).build()?;
    /// host.run(&host.load_bytes(&component)?, &21).start()?.detach();
    /// // The journal records how the run ended.
    /// while journal.find("last").ok().and_then(|run| run.end).is_none() {
    ///     tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    /// }
    /// assert_eq!(journal.find("last")?.end.map(|end| end.state), Some(RunStatus::Done));
    /// # Ok(())
    /// # }
    /// ```
    pub fn detach(mut self) {
        self.cancel_on_drop = false;
    }
}

impl Drop for RunHandle {
    fn drop(&mut self) {
        if self.cancel_on_drop {
            self.cancel.cancel();
        }
    }
}

/// A cassette that is being played to a plugin.
#[non_exhaustive]
pub struct Rehearsal {
    /// The run.
    pub run: RunHandle,
    /// The tape that records what happens now.
    pub tape: Arc<Tape>,
}

impl Host {
    /// Plays a cassette to `plugin` without any provider. A task's *n*th request receives the *n*th recorded reply,
    /// even if the request itself has changed. A call to a model that the plugin does not list in its `models` is
    /// denied, as in a run. The tape records what happens; compare its cassette with this one by [`Cassette::changes`].
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use agenthost::journal::cassette::tape::Tape;
    /// use agenthost::{Host, Journal};
    /// use agenthost::providers::script::Script;
    /// use serde_json::{Map, json};
    ///
    /// # let component = ask();
    /// let tape = Arc::new(Tape::new());
    /// let blue = Script::parse("[[rule]]\ntext = 'Blue.'", "blue")?;
    /// let builder = Host::builder().model("fast", "own/any").provider("own", blue);
    /// let recording = builder.journal(Journal::new(tape.clone())).build()?;
    /// let ask = recording.load_bytes(&component)?;
    /// recording.run(&ask, "Name a color.").await?;
    /// let cassette = tape.cassette(Map::new()).ok_or("the run has not ended")?.with_headroom();
    ///
    /// // Later, without a model:
    /// let host = Host::builder().build()?;
    /// let rehearsal = host.rehearse(&host.load_bytes(&component)?, &cassette)?;
    /// assert_eq!(rehearsal.run.report().await.output::<String>()?, "Blue.");
    /// let mut now = rehearsal.tape.cassette(Map::new()).ok_or("the rehearsal has not ended")?;
    /// assert_eq!(cassette.changes(&mut now), []);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`RunBuilder::start`](super::RunBuilder::start).
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub fn rehearse(&self, plugin: &Plugin, cassette: &Cassette) -> Result<Rehearsal> {
        let tape = Arc::new(Tape::of(cassette));
        let record = tape.find("last")?;
        let journal = Arc::clone(&tape) as Arc<dyn Journal>;
        let recorder = Recorder::new(
            journal,
            record.id.clone(),
            Mode::Rehearsal,
            BodyRetention::All,
            None,
            Vec::new(),
        );
        let run = self.prepare_run(
            &plugin.loaded,
            &cassette.input,
            &cassette.limits(),
            record,
            Some(recorder),
        )?;
        run.claim_new()?;
        Ok(Rehearsal { run: run.start(), tape })
    }

    /// Returns the plugins of a recorded run, the root plugin and its sub-agents, whose digests have changed since.
    ///
    /// # Errors
    ///
    /// An error of the journal.
    pub async fn changed_plugins(&self, plugin: &Plugin, record: &RunRecord) -> Result<Vec<String>> {
        /// The number of tasks of a batch that are compared. It has the same plugins in every item.
        const OF_BATCH: usize = 1_000;
        let mut now = BTreeMap::new();
        digests(&plugin.loaded, &mut now);
        let (run, kind) = (record.id.clone(), record.kind);
        blocking(self.journal()?, move |journal| {
            let (mut changed, mut seen) = (Vec::new(), 0);
            journal.each_task(&run, "", &mut |task| {
                let name = task.plugin.split('@').next().unwrap_or_default();
                if now.get(name).is_some_and(|digest| *digest != task.digest) && !changed.contains(&task.plugin) {
                    changed.push(task.plugin);
                }
                seen += 1;
                match kind {
                    RunKind::Batch if seen == OF_BATCH => ControlFlow::Break(()),
                    RunKind::Batch | RunKind::Run => ControlFlow::Continue(()),
                }
            })?;
            Ok(changed)
        })
        .await
    }

    /// Returns the outcome of a recorded run that has nothing left to resume, else `None`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::{FailedTasks, Host, Journal};
    /// use serde_json::json;
    ///
    /// # let component = double();
    /// # let dir = tempfile::tempdir()?;
    /// let journal = Journal::sqlite(dir.path().join("journal.db"))?;
    /// let host = Host::builder().journal(journal.clone()).build()?;
    /// host.run(&host.load_bytes(&component)?, &21).await?;
    /// let outcome = Host::settled(&journal.find("last")?, FailedTasks::Keep).ok_or("it could be resumed")?;
    /// assert_eq!(outcome.ok(), Some(&json!(42)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn settled(record: &RunRecord, failed: FailedTasks) -> Option<Outcome> {
        let outcome = record.end.as_ref()?.summary.outcome.clone();
        outcome.filter(|outcome| keeps(outcome, failed.repeat()))
    }

    fn journal(&self) -> Result<&Arc<dyn Journal>> {
        let none = || Error::usage("no journal is kept").with_hint("Switch it on: `enabled = true` in [journal].");
        self.inner.journal.as_ref().map(|(journal, _)| journal).ok_or_else(none)
    }

    pub(super) async fn recorded_input(&self, record: &RunRecord) -> Result<Value> {
        let run = record.id.clone();
        let root = blocking(self.journal()?, move |journal| journal.task(&run, "root")).await?;
        root.and_then(|root| root.input).ok_or_else(|| {
            Error::usage(format!("the journal does not hold the input of run {}", record.id))
                .with_hint("It stopped before it began, or `bodies` in [journal] was \"none\"; run it anew.")
        })
    }

    /// Creates the record of a run that begins now.
    pub(super) fn new_record(&self, kind: RunKind, plugin: &LoadedPlugin, command: &Value) -> Result<RunRecord> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|error| Error::host(format!("the system gives no random numbers: {error}")))?;
        let now = now_ms();
        Ok(RunRecord {
            id: RunId::new(clock(now), &seed).to_string(),
            kind,
            plugin: plugin.info.id.to_string(),
            digest: plugin.info.digest.hex(),
            seed,
            clock_ms: now,
            started_ms: now,
            command: command.clone(),
            pid: std::process::id(),
            end: None,
        })
    }

    /// Creates the recorder of a run; `None` if the host keeps no journal.
    pub(super) fn recorder(&self, record: &RunRecord, mode: Mode, again: Vec<TaskId>) -> Option<Arc<Recorder>> {
        let (journal, bodies) = self.inner.journal.as_ref()?;
        let max_bytes = self.config().journal().max_run_bytes;
        Some(Recorder::new(
            Arc::clone(journal),
            record.id.clone(),
            mode,
            *bodies,
            max_bytes,
            again,
        ))
    }

    /// Checks that the use of the allowance is known before a run spends anything. A replay spends nothing.
    pub(super) fn check_allowance(&self, recorder: Option<&Recorder>) -> Result<()> {
        match &self.inner.allowances {
            Some(allowances) if !recorder.is_some_and(Recorder::is_replay) => allowances.check(),
            _ => Ok(()),
        }
    }

    /// Prepares a run, and fails if it cannot start.
    pub(super) fn prepare_run(
        &self,
        plugin: &Arc<LoadedPlugin>,
        input: &Value,
        asked: &LimitsPatch,
        record: RunRecord,
        recorder: Option<Arc<Recorder>>,
    ) -> Result<PreparedRun> {
        let started = Instant::now();
        let limits = self.task_limits(plugin, asked);
        let input = plugin.code.input(input)?;
        self.check_allowance(recorder.as_deref())?;
        let cancel = CancellationToken::new();
        let events = EventLog::new();
        let replay = recorder.as_ref().is_some_and(|recorder| recorder.is_replay());
        let run = RunState::new(self, plugin, &record, recorder.clone(), &cancel, Arc::clone(&events))?;
        let task = NewTask {
            id: TaskId::root(),
            plugin: Arc::clone(plugin),
            account: Account::root(&self.config().run().limits)
                .named(LimitOwner::Run)
                .child(&limits)
                .named(LimitOwner::Task(TaskId::root().to_string())),
            // A replay takes a different time than the recorded run.
            deadline: limits.timeout.filter(|_| !replay).map(|timeout| started + timeout),
            deepest: limits.depth.unwrap_or(u32::MAX),
            cancel: cancel.clone(),
            limits,
            started,
        };
        Ok(PreparedRun {
            run,
            record,
            recorder,
            task,
            input,
            cancel,
            events,
        })
    }
}

/// A run that can start.
pub(super) struct PreparedRun {
    run: Arc<RunState>,
    record: RunRecord,
    recorder: Option<Arc<Recorder>>,
    task: NewTask,
    input: Input,
    cancel: CancellationToken,
    events: Arc<EventLog>,
}

impl PreparedRun {
    /// Claims a new run, a replay or a rehearsal.
    pub(super) fn claim_new(&self) -> Result<()> {
        self.recorder.as_ref().map_or(Ok(()), |recorder| recorder.claim_new())
    }

    /// Claims a run that is resumed.
    pub(super) async fn claim(&self) -> Result<()> {
        match &self.recorder {
            Some(recorder) => recorder.claim().await,
            None => Ok(()),
        }
    }

    pub(super) fn start(self) -> RunHandle {
        let Self {
            run,
            record,
            recorder,
            task,
            input,
            cancel,
            events,
        } = self;
        let started = task.started;
        let (sender, report) = watch::channel(None);
        let handle = RunHandle {
            id: run.id().clone(),
            cancel: cancel.clone(),
            cancel_on_drop: true,
            events: Arc::clone(&events),
            report,
        };
        tokio::spawn(async move {
            let ends = EndsLog(events);
            let mut recorded = false;
            let work = async {
                failpoint!(await "run.begin");
                if let Some(recorder) = &recorder {
                    if let Err(error) = recorder.begin(record).await {
                        return Outcome::Failure(Failure::new(FailureClass::Host, with_causes(&error)));
                    }
                    recorded = true;
                }
                run.start(task, input, false).await.0
            };
            let outcome = caught(work).await.unwrap_or_else(|fault| {
                cancel.cancel();
                fault
            });
            // The end of the root task cancels its remaining sub-tasks, which may still be writing their reports.
            let mut report = run.finish(outcome, started).await;
            run.flush().await;
            let interrupted = cancel.is_cancelled();
            let fault = run.fault();
            if let Some(fault) = &fault {
                report.outcome = Outcome::Failure(Failure::new(FailureClass::Host, with_causes(fault)));
                report.hint = fault.hint().map(str::to_owned);
            }
            // A journal accepts the end of a run only after its start.
            if let Some(recorder) = recorder.as_ref().filter(|_| recorded) {
                report.differences = recorder.is_replay().then(|| recorder.differences());
                let state = state(&report.outcome, interrupted && fault.is_none());
                let end = recorder.end(state, RunSummary::of(&report));
                match caught(end).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::error!("the end of run {} is not in the journal: {error}", report.run),
                    Err(fault) => report.outcome = fault,
                }
            }
            drop(run);
            drop(ends);
            sender.send_replace(Some(Arc::new(report)));
        });
        handle
    }
}

/// Returns the recorded state of a run that ended.
pub(super) fn state(outcome: &Outcome, interrupted: bool) -> RunStatus {
    match outcome {
        Outcome::Ok(_) => RunStatus::Done,
        Outcome::Failure(_) if interrupted => RunStatus::Interrupted,
        Outcome::Failure(_) => RunStatus::Failed,
    }
}

/// Collects the digests of a plugin and of all plugins below it, by name.
fn digests(plugin: &LoadedPlugin, found: &mut BTreeMap<String, String>) {
    found.insert(plugin.info.id.name.clone(), plugin.info.digest.hex());
    for below in plugin.sub_agents.values() {
        digests(&below.plugin.loaded, found);
    }
}
