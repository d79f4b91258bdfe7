//! A run from its start to its report: starting, resuming, replaying and rehearsing it, and the handle to it.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::record::{Mode, Recorder, keeps, now_ms};
use super::tree::{NewTask, RunState};
use super::{Host, LoadedPlugin};
use agenthost_config::BodyRetention;
use agenthost_core::error::{Error, Result};
use agenthost_core::failpoint;
use agenthost_core::limits::LimitsPatch;
use agenthost_core::limits::ledger::Account;
use agenthost_core::run::{Event, RunId, RunReport};
use agenthost_core::task::{Failure, FailureClass, Outcome, TaskId};
use agenthost_journal::cassette::Cassette;
use agenthost_journal::cassette::tape::Tape;
use agenthost_journal::{Journal, RunRecord};

/// The message of a task that a fault of the host ended.
pub(super) const LOST: &str = "the host failed while it ran the task";

/// The number of events that a receiver may lag behind before it misses some.
const EVENT_BACKLOG: usize = 1_024;

/// A started run. Dropping the handle cancels the run; [`RunHandle::detach`] lets it continue without the handle.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use agenthost::config::Config;
/// use agenthost::host::Host;
/// use agenthost::limits::LimitsPatch;
/// use serde_json::json;
///
/// # let component = ask();
/// let host = Host::builder(Config::builtin()?).build()?;
/// let ask = Arc::new(host.load_bytes(&component)?);
/// let run = host.spawn(&ask, &json!("Name a colour."), &LimitsPatch::default())?;
/// println!("{} is under way", run.id());
///
/// let answer = run.outcome().await.into_result()?;
/// assert!(answer.as_str().is_some_and(|text| text.starts_with("[offline]")), "made up on this machine: {answer}");
/// let report = run.report().await;
/// assert_eq!((report.spent.calls, report.tasks.len()), (1, 1));
/// assert_eq!(report.models[0].model, "offline/fast");
/// # Ok(())
/// # }
/// ```
pub struct RunHandle {
    id: RunId,
    cancel: CancellationToken,
    cancel_on_drop: bool,
    events: broadcast::WeakSender<Event>,
    /// The receiver of all events from the start of the run, for the first caller of [`RunHandle::events`].
    from_start: Mutex<Option<broadcast::Receiver<Event>>>,
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
    /// use std::sync::Arc;
    /// use agenthost::config::Config;
    /// use agenthost::host::Host;
    /// use agenthost::limits::LimitsPatch;
    /// use agenthost::providers::script::Script;
    /// use agenthost::task::FailureClass;
    /// use serde_json::json;
    ///
    /// # let component = ask();
    /// let never = Script::parse("[[rule]]\nhang = true", "never")?;
    /// let host = Host::builder(Config::builtin()?).provider("offline", Arc::new(never)).build()?;
    /// let run = host.spawn(&Arc::new(host.load_bytes(&component)?), &json!("Are you there?"), &LimitsPatch::default())?;
    /// run.cancel();
    /// assert_eq!(run.outcome().await.failure().map(|failure| failure.class), Some(FailureClass::Cancelled));
    /// # Ok(())
    /// # }
    /// ```
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Returns a receiver of the run's events. The first receiver gets all events from the start of the run, later ones
    /// those from now on. The channel closes when the run has ended. A receiver that lags more than 1,024 events behind
    /// misses some.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use agenthost::config::Config;
    /// use agenthost::host::Host;
    /// use agenthost::limits::LimitsPatch;
    /// use agenthost::run::Event;
    /// use serde_json::json;
    ///
    /// # let component = ask();
    /// let host = Host::builder(Config::builtin()?).build()?;
    /// let ask = Arc::new(host.load_bytes(&component)?);
    /// let run = host.spawn(&ask, &json!("Name a colour."), &LimitsPatch::default())?;
    /// let (mut events, mut seen) = (run.events(), Vec::new());
    /// while let Ok(event) = events.recv().await {
    ///     seen.push(match event {
    ///         Event::Started { task, plugin } => format!("{task}: {plugin}"),
    ///         Event::CallSent { model, .. } => format!("asks {model}"),
    ///         Event::CallSettled { spent, .. } => format!("{} calls by now", spent.calls),
    ///         Event::Ended { task } => format!("{task} ended"),
    ///         other => format!("{other:?}"),
    ///     });
    /// }
    /// assert_eq!(seen, ["root: demo:ask@0.1.0", "asks offline/fast", "1 calls by now", "root ended"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn events(&self) -> broadcast::Receiver<Event> {
        let from_start = self.from_start.lock().unwrap_or_else(PoisonError::into_inner).take();
        let from_now = || self.events.upgrade().map(|events| events.subscribe());
        // After the end of the run, the receiver is closed at once.
        from_start.or_else(from_now).unwrap_or_else(|| broadcast::channel(1).1)
    }

    /// Lets the run continue without this handle.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use agenthost::config::{BodyRetention, Config};
    /// use agenthost::host::Host;
    /// use agenthost::journal::{Journal as _, sqlite::Sqlite};
    /// use agenthost::limits::LimitsPatch;
    /// use serde_json::json;
    ///
    /// # let component = double();
    /// # let dir = tempfile::tempdir()?;
    /// let journal = Arc::new(Sqlite::open(&dir.path().join("journal.db"))?);
    /// let host = Host::builder(Config::builtin()?).journal(journal.clone(), BodyRetention::All).build()?;
    /// let double = Arc::new(host.load_bytes(&component)?);
    /// host.spawn(&double, &json!(21), &LimitsPatch::default())?.detach();
    /// // The journal records how the run ended.
    /// while journal.find("last").ok().and_then(|run| run.end).is_none() {
    ///     tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    /// }
    /// assert_eq!(journal.find("last")?.end.map(|end| end.state).as_deref(), Some("done"));
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

impl Host {
    /// Starts a run of `plugin` and returns at once. `asked` overrides configured limits, within the plugin's grant.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use agenthost::config::Config;
    /// use agenthost::host::Host;
    /// use agenthost::limits::{Cap, LimitKind, LimitsPatch};
    /// use agenthost::task::FailureClass;
    /// use serde_json::json;
    ///
    /// # let component = double();
    /// let host = Host::builder(Config::builtin()?).build()?;
    /// let double = Arc::new(host.load_bytes(&component)?);
    /// // Several runs proceed concurrently.
    /// let runs = [1, 2, 3].map(|number| host.spawn(&double, &json!(number), &LimitsPatch::default()));
    /// for (run, expected) in runs.into_iter().zip([2, 4, 6]) {
    ///     assert_eq!(run?.outcome().await.into_result()?, json!(expected));
    /// }
    ///
    /// // Reaching a limit is an outcome, not an error.
    /// let little = LimitsPatch { fuel: Some(Cap::At(1)), ..LimitsPatch::default() };
    /// let failure = host.spawn(&double, &json!(1), &little)?.outcome().await.into_result().err().ok_or("it was enough")?;
    /// assert_eq!((failure.class, failure.limit), (FailureClass::Exhausted, Some(LimitKind::Fuel)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Input`](agenthost_core::error::ErrorClass::Input) for an input that is not of the plugin's type;
    /// [`ErrorClass::Config`](agenthost_core::error::ErrorClass::Config) for a granted directory that cannot be opened.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub fn spawn(&self, plugin: &Arc<LoadedPlugin>, input: &Value, asked: &LimitsPatch) -> Result<RunHandle> {
        self.spawn_as(plugin, input, asked, &Value::Null)
    }

    /// Starts a run like [`Host::spawn`], and records `command` in the journal: the data that is needed to start the
    /// run again.
    ///
    /// # Errors
    ///
    /// As [`Host::spawn`].
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub fn spawn_as(
        &self,
        plugin: &Arc<LoadedPlugin>,
        input: &Value,
        asked: &LimitsPatch,
        command: &Value,
    ) -> Result<RunHandle> {
        let record = self.new_record("run", plugin, command)?;
        let recorder = self.recorder(&record, Mode::Live);
        self.launch(plugin, input, asked, record, recorder)
    }

    /// Resumes a run that stopped before its end. Finished tasks are kept, and answered calls are not made again. With
    /// `failed`, tasks with a final failure are run again, too.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use agenthost::config::{BodyRetention, Config};
    /// use agenthost::host::Host;
    /// use agenthost::journal::{Journal as _, sqlite::Sqlite};
    /// use agenthost::limits::{Cap, LimitsPatch};
    /// use agenthost::providers::script::Script;
    /// use serde_json::json;
    ///
    /// # let component = ask();
    /// # let dir = tempfile::tempdir()?;
    /// let once = Script::parse("[[rule]]\ntimes = 1\ntext = 'Blue.'", "once")?; // a second request would fail
    /// let journal = Arc::new(Sqlite::open(&dir.path().join("journal.db"))?);
    /// let builder = Host::builder(Config::builtin()?).journal(journal.clone(), BodyRetention::All);
    /// let host = builder.provider("offline", Arc::new(once)).build()?;
    /// let ask = Arc::new(host.load_bytes(&component)?);
    ///
    /// // Enough fuel for the call, and too little to process the reply.
    /// let little = LimitsPatch { fuel: Some(Cap::At(255_500)), ..LimitsPatch::default() };
    /// let run = host.spawn(&ask, &json!("Name a colour."), &little)?;
    /// assert_eq!(run.outcome().await.failure().map(|failure| failure.class.name()), Some("exhausted"));
    /// assert_eq!(run.report().await.spent.calls, 1);
    ///
    /// let record = journal.find(&run.id().to_string())?;
    /// let resumed = host.resume(&ask, &record, &LimitsPatch::default(), false)?;
    /// assert_eq!(resumed.outcome().await.into_result()?, json!("Blue."));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Host::spawn`]; [`ErrorClass::Usage`](agenthost_core::error::ErrorClass::Usage) if the journal does not hold
    /// the input of the run, and if the run is still going on, in this process or another. If several callers resume a
    /// run at once, one of them succeeds.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub fn resume(
        &self,
        plugin: &Arc<LoadedPlugin>,
        record: &RunRecord,
        asked: &LimitsPatch,
        failed: bool,
    ) -> Result<RunHandle> {
        let input = self.recorded_input(record)?;
        let recorder = self.recorder(record, Mode::Resume { failed });
        self.launch(plugin, &input, asked, record.clone(), recorder)
    }

    /// Replays a recorded run without any provider: all replies that its tasks receive come from the journal. The
    /// report lists every difference from the record.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use agenthost::config::{BodyRetention, Config};
    /// use agenthost::host::Host;
    /// use agenthost::journal::{Journal as _, sqlite::Sqlite};
    /// use agenthost::limits::LimitsPatch;
    /// use agenthost::providers::script::Script;
    /// use serde_json::json;
    ///
    /// # let component = ask();
    /// # let dir = tempfile::tempdir()?;
    /// let once = Script::parse("[[rule]]\ntimes = 1\ntext = 'Blue.'", "once")?; // a second request would fail
    /// let journal = Arc::new(Sqlite::open(&dir.path().join("journal.db"))?);
    /// let builder = Host::builder(Config::builtin()?).journal(journal.clone(), BodyRetention::All);
    /// let host = builder.provider("offline", Arc::new(once)).build()?;
    /// let ask = Arc::new(host.load_bytes(&component)?);
    /// let run = host.spawn(&ask, &json!("Name a colour."), &LimitsPatch::default())?;
    /// assert_eq!(run.outcome().await.into_result()?, json!("Blue."));
    ///
    /// let record = journal.find("last")?;
    /// let replayed = host.replay(&ask, &record, &LimitsPatch::default())?.report().await;
    /// assert_eq!(replayed.outcome.ok(), Some(&json!("Blue.")));
    /// assert_eq!(replayed.differences.as_deref(), Some(&[][..]));
    /// assert_eq!(host.changed_plugins(&ask, &record)?, [""; 0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Host::resume`].
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub fn replay(&self, plugin: &Arc<LoadedPlugin>, record: &RunRecord, asked: &LimitsPatch) -> Result<RunHandle> {
        let input = self.recorded_input(record)?;
        let recorder = self.recorder(record, Mode::Replay);
        self.launch(plugin, &input, asked, record.clone(), recorder)
    }

    /// Plays a cassette to `plugin` without any provider. A task's *n*th request receives the *n*th recorded reply,
    /// even if the request itself has changed. A call to a model that the plugin does not list in its `models` is
    /// denied, as in a run. The tape records what happens; compare its cassette with this one by [`Cassette::changes`].
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use agenthost::cassette::tape::Tape;
    /// use agenthost::config::{BodyRetention, Config};
    /// use agenthost::host::Host;
    /// use agenthost::limits::LimitsPatch;
    /// use agenthost::providers::script::Script;
    /// use serde_json::{Map, json};
    ///
    /// # let component = ask();
    /// let tape = Arc::new(Tape::new());
    /// let blue = Script::parse("[[rule]]\ntext = 'Blue.'", "blue")?;
    /// let builder = Host::builder(Config::builtin()?).provider("offline", Arc::new(blue));
    /// let recording = builder.journal(tape.clone(), BodyRetention::All).build()?;
    /// let ask = Arc::new(recording.load_bytes(&component)?);
    /// recording.spawn(&ask, &json!("Name a colour."), &LimitsPatch::default())?.report().await;
    /// let cassette = tape.cassette(Map::new()).ok_or("the run has not ended")?.with_headroom();
    ///
    /// // Later, without a model:
    /// let host = Host::builder(Config::builtin()?).build()?;
    /// let ask = Arc::new(host.load_bytes(&component)?);
    /// let (run, tape) = host.rehearse(&ask, &cassette)?;
    /// assert_eq!(run.outcome().await.into_result()?, json!("Blue."));
    /// let mut now = tape.cassette(Map::new()).ok_or("the rehearsal has not ended")?;
    /// assert_eq!(cassette.changes(&mut now), []);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Host::spawn`].
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub fn rehearse(&self, plugin: &Arc<LoadedPlugin>, cassette: &Cassette) -> Result<(RunHandle, Arc<Tape>)> {
        let tape = Arc::new(Tape::of(cassette));
        let record = tape.find("last")?;
        let journal = Arc::clone(&tape) as Arc<dyn Journal>;
        let recorder = Recorder::new(journal, record.id.clone(), Mode::Rehearsal, BodyRetention::All, None);
        let run = self.launch(plugin, &cassette.input, &cassette.limits(), record, Some(recorder))?;
        Ok((run, tape))
    }

    /// Returns the plugins of a recorded run, the root plugin and its sub-agents, whose digests have changed since.
    ///
    /// # Errors
    ///
    /// An error of the journal.
    pub fn changed_plugins(&self, plugin: &LoadedPlugin, record: &RunRecord) -> Result<Vec<String>> {
        let mut now = BTreeMap::new();
        digests(plugin, &mut now);
        let mut changed = Vec::new();
        let mut after: Option<String> = None;
        loop {
            /// The number of records that are read at a time.
            const PAGE: usize = 1_000;
            let page = self.journal()?.tasks(&record.id, "", after.as_deref(), PAGE)?;
            for task in &page {
                let name = task.plugin.split('@').next().unwrap_or_default();
                if now.get(name).is_some_and(|digest| *digest != task.digest) && !changed.contains(&task.plugin) {
                    changed.push(task.plugin.clone());
                }
            }
            after = page.last().map(|task| task.id.clone());
            // A batch has the same plugins in every item.
            if page.len() < PAGE || record.kind == "batch" {
                return Ok(changed);
            }
        }
    }

    /// Returns the outcome of a recorded run that has nothing left to resume, else `None`. With `failed`, every failure
    /// can be resumed.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use agenthost::config::{BodyRetention, Config};
    /// use agenthost::host::Host;
    /// use agenthost::journal::{Journal as _, sqlite::Sqlite};
    /// use agenthost::limits::LimitsPatch;
    /// use serde_json::json;
    ///
    /// # let component = double();
    /// # let dir = tempfile::tempdir()?;
    /// let journal = Arc::new(Sqlite::open(&dir.path().join("journal.db"))?);
    /// let host = Host::builder(Config::builtin()?).journal(journal.clone(), BodyRetention::All).build()?;
    /// let double = Arc::new(host.load_bytes(&component)?);
    /// host.spawn(&double, &json!(21), &LimitsPatch::default())?.report().await;
    /// let outcome = Host::settled(&journal.find("last")?, false).ok_or("it could be resumed")?;
    /// assert_eq!(outcome.ok(), Some(&json!(42)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn settled(record: &RunRecord, failed: bool) -> Option<Outcome> {
        let report: Value = serde_json::from_str(&record.end.as_ref()?.report).ok()?;
        Outcome::read(report.get("outcome")?).filter(|outcome| keeps(outcome, failed))
    }

    fn journal(&self) -> Result<&Arc<dyn Journal>> {
        let none = || Error::usage("no journal is kept").with_hint("Switch it on: `enabled = true` in [journal].");
        self.inner.journal.as_ref().map(|(journal, _)| journal).ok_or_else(none)
    }

    fn recorded_input(&self, record: &RunRecord) -> Result<Value> {
        let root = self.journal()?.task(&record.id, "root")?;
        let input = root
            .and_then(|root| root.input)
            .and_then(|input| serde_json::from_str(&input).ok());
        input.ok_or_else(|| {
            Error::usage(format!("the journal does not hold the input of run {}", record.id))
                .with_hint("It stopped before it began, or `bodies` in [journal] was \"none\"; run it anew.")
        })
    }

    /// Creates the record of a run that begins now.
    pub(super) fn new_record(&self, kind: &str, plugin: &LoadedPlugin, command: &Value) -> Result<RunRecord> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|error| Error::host(format!("the system gives no random numbers: {error}")))?;
        let now = now_ms();
        Ok(RunRecord {
            id: RunId::new(clock(now), &seed).to_string(),
            kind: kind.to_owned(),
            plugin: plugin.id.to_string(),
            digest: plugin.digest.hex(),
            seed,
            clock_ms: now,
            started_ms: now,
            command: command.to_string(),
            pid: std::process::id(),
            end: None,
        })
    }

    /// Creates the recorder of a run; `None` if the host keeps no journal.
    pub(super) fn recorder(&self, record: &RunRecord, mode: Mode) -> Option<Arc<Recorder>> {
        let (journal, bodies) = self.inner.journal.as_ref()?;
        let max_bytes = self.config().journal().max_run_bytes;
        Some(Recorder::new(
            Arc::clone(journal),
            record.id.clone(),
            mode,
            *bodies,
            max_bytes,
        ))
    }

    fn launch(
        &self,
        plugin: &Arc<LoadedPlugin>,
        input: &Value,
        asked: &LimitsPatch,
        record: RunRecord,
        recorder: Option<Arc<Recorder>>,
    ) -> Result<RunHandle> {
        let started = Instant::now();
        let limits = self.limits(plugin, asked);
        let input = plugin.code.input(input)?;
        let cancel = CancellationToken::new();
        let (events, from_start) = broadcast::channel(EVENT_BACKLOG);
        let (sender, report) = watch::channel(None);
        let replay = recorder.as_ref().is_some_and(|recorder| recorder.is_replay());
        let run = RunState::new(self, plugin, &record, recorder.clone(), &cancel, events.clone())?;
        let id = run.id().clone();
        let task = NewTask {
            id: TaskId::root(),
            plugin: Arc::clone(plugin),
            account: Account::root(&self.config().run().limits).child(&limits),
            // A replay takes a different time than the recorded run.
            deadline: limits.time.filter(|_| !replay).map(|time| started + time),
            deepest: limits.depth.unwrap_or(u32::MAX),
            cancel: cancel.clone(),
            limits,
            started,
        };
        // The run is claimed last, so that a run that cannot start leaves its record unchanged.
        if let Some(recorder) = &recorder {
            recorder.claim()?;
        }
        let handle = RunHandle {
            id: id.clone(),
            cancel: cancel.clone(),
            cancel_on_drop: true,
            events: events.downgrade(),
            from_start: Mutex::new(Some(from_start)),
            report,
        };
        drop(events);
        tokio::spawn(async move {
            let mut recorded = false;
            let work = async {
                failpoint!(await "run.begin");
                if let Some(recorder) = &recorder {
                    if let Err(error) = recorder.begin(record).await {
                        return Outcome::Failure(Failure::new(FailureClass::Host, error.to_string()));
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
            run.flush_gates().await;
            // A journal accepts the end of a run only after its start.
            if let Some(recorder) = recorder.as_ref().filter(|_| recorded) {
                if let Some(fault) = recorder.fault() {
                    report.outcome = Outcome::Failure(Failure::new(FailureClass::Host, fault));
                }
                report.differences = recorder.is_replay().then(|| recorder.differences());
                let interrupted = cancel.is_cancelled();
                let summary = summary(&report);
                let end = recorder.end(state(&report.outcome, interrupted), &summary);
                match caught(end).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::error!("the end of run {} is not in the journal: {error}", report.run),
                    Err(fault) => report.outcome = fault,
                }
            }
            drop(run);
            sender.send_replace(Some(Arc::new(report)));
        });
        Ok(handle)
    }
}

/// Runs `work`. If it panics, returns a failure of class `host` as the error.
pub(super) async fn caught<T>(work: impl Future<Output = T>) -> std::result::Result<T, Outcome> {
    let lost = |_| Outcome::Failure(Failure::new(FailureClass::Host, LOST));
    AssertUnwindSafe(work).catch_unwind().await.map_err(lost)
}

/// Returns the recorded state of a run that ended.
pub(super) fn state(outcome: &Outcome, interrupted: bool) -> &'static str {
    match outcome {
        Outcome::Ok(_) => "done",
        Outcome::Failure(_) if interrupted => "interrupted",
        Outcome::Failure(_) => "failed",
    }
}

/// Returns the part of a run's report that the journal keeps with the run. Its tasks have records of their own.
fn summary(report: &RunReport) -> Value {
    let ok = report.tasks.iter().filter(|task| task.outcome.ok().is_some()).count();
    let tasks = report.tasks.len();
    json!({
        "outcome": report.outcome,
        "spent": report.spent,
        "models": report.models,
        "counts": {"tasks": tasks, "ok": ok, "failed": tasks - ok},
    })
}

/// Converts milliseconds since 1970.
pub(super) fn clock(ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
}

/// Collects the digests of a plugin and of all plugins below it, by name.
fn digests(plugin: &LoadedPlugin, found: &mut BTreeMap<String, String>) {
    found.insert(plugin.id.name.clone(), plugin.digest.hex());
    for below in plugin.sub_agents.values() {
        digests(&below.plugin, found);
    }
}
