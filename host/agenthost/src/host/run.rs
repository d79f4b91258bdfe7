//! A run from its start to its report.

use agenthost_core::failpoint;
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
use agenthost_config::Bodies;
use agenthost_core::error::{Error, Result};
use agenthost_core::limits::LimitsPatch;
use agenthost_core::limits::ledger::Account;
use agenthost_core::run::{Event, RunId, RunReport};
use agenthost_core::task::{Failure, FailureClass, Outcome, TaskId};
use agenthost_journal::cassette::Cassette;
use agenthost_journal::cassette::tape::Tape;
use agenthost_journal::{Journal, RunRecord};

/// What is said of a task that the host failed.
pub(super) const LOST: &str = "the host failed while it ran the task";

/// Events that a slow watcher may lag behind before it misses some.
const EVENT_BACKLOG: usize = 1_024;

/// A run that was started. Dropping the handle cancels the run; [`RunHandle::detach`] lets it go on.
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
/// let host = Host::builder(Config::usual()?).build()?;
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
    /// What happens from the very start, for the first who asks.
    from_start: Mutex<Option<broadcast::Receiver<Event>>>,
    report: watch::Receiver<Option<Arc<RunReport>>>,
}

impl RunHandle {
    /// The run's name.
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// Waits for the end of the run; may be asked again and again, and gives the same each time.
    pub async fn report(&self) -> Arc<RunReport> {
        let mut report = self.report.clone();
        loop {
            if let Some(report) = report.borrow_and_update().clone() {
                return report;
            }
            if report.changed().await.is_err() {
                // The runtime is shutting down and took the run along; nobody is left to ask for anything else.
                std::future::pending::<()>().await;
            }
        }
    }

    /// How the root task came out, once it has.
    pub async fn outcome(&self) -> Outcome {
        self.report().await.outcome.clone()
    }

    /// Ends the run early. A result that is there already stays.
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
    /// let host = Host::builder(Config::usual()?).provider("offline", Arc::new(never)).build()?;
    /// let run = host.spawn(&Arc::new(host.load_bytes(&component)?), &json!("Are you there?"), &LimitsPatch::default())?;
    /// run.cancel();
    /// assert_eq!(run.outcome().await.failure().map(|failure| failure.class), Some(FailureClass::Cancelled));
    /// # Ok(())
    /// # }
    /// ```
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// What happens in the run: all of it for the first who asks, and from now on for everyone later. It closes when the
    /// run has ended. A watcher that lags more than 1,024 events behind misses some.
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
    /// let host = Host::builder(Config::usual()?).build()?;
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
        // After the end there is nothing but the closing.
        from_start.or_else(from_now).unwrap_or_else(|| broadcast::channel(1).1)
    }

    /// Lets the run go on without this handle.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use agenthost::config::{Bodies, Config};
    /// use agenthost::host::Host;
    /// use agenthost::journal::{Journal as _, sqlite::Sqlite};
    /// use agenthost::limits::LimitsPatch;
    /// use serde_json::json;
    ///
    /// # let component = double();
    /// # let dir = tempfile::tempdir()?;
    /// let journal = Arc::new(Sqlite::open(&dir.path().join("journal.db"))?);
    /// let host = Host::builder(Config::usual()?).journal(journal.clone(), Bodies::All).build()?;
    /// let double = Arc::new(host.load_bytes(&component)?);
    /// host.spawn(&double, &json!(21), &LimitsPatch::default())?.detach();
    /// // What became of it stands in the journal, once it has ended.
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
    /// Starts a run of `plugin` and returns at once. `asked` replaces configured limits, within the plugin's grant.
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
    /// let host = Host::builder(Config::usual()?).build()?;
    /// let double = Arc::new(host.load_bytes(&component)?);
    /// // Many at once: each run goes on by itself.
    /// let runs = [1, 2, 3].map(|number| host.spawn(&double, &json!(number), &LimitsPatch::default()));
    /// for (run, expected) in runs.into_iter().zip([2, 4, 6]) {
    ///     assert_eq!(run?.outcome().await.into_result()?, json!(expected));
    /// }
    ///
    /// // A limit that is reached is an outcome, not an error.
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
    /// Outside a tokio runtime.
    pub fn spawn(&self, plugin: &Arc<LoadedPlugin>, input: &Value, asked: &LimitsPatch) -> Result<RunHandle> {
        self.spawn_as(plugin, input, asked, &Value::Null)
    }

    /// As [`Host::spawn`], with what it takes to start the run again, which the journal keeps.
    ///
    /// # Errors
    ///
    /// As [`Host::spawn`].
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
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

    /// Goes on with a run that stopped before its end: what is finished stays, what was answered is not asked again. With
    /// `failed`, tasks that failed for good are run again, too.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use agenthost::config::{Bodies, Config};
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
    /// let builder = Host::builder(Config::usual()?).journal(journal.clone(), Bodies::All);
    /// let host = builder.provider("offline", Arc::new(once)).build()?;
    /// let ask = Arc::new(host.load_bytes(&component)?);
    ///
    /// // Enough fuel to ask, and too little to make anything of the answer.
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
    /// As [`Host::spawn`], and [`ErrorClass::Usage`](agenthost_core::error::ErrorClass::Usage) if the journal does not hold what
    /// it takes, and if the run still goes on, in this process or another: of several that resume it at once, one does.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
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

    /// Runs a recorded run again without any provider: everything that its tasks learned comes from the journal. The
    /// report tells every difference.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use agenthost::config::{Bodies, Config};
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
    /// let builder = Host::builder(Config::usual()?).journal(journal.clone(), Bodies::All);
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
    /// Outside a tokio runtime.
    pub fn replay(&self, plugin: &Arc<LoadedPlugin>, record: &RunRecord, asked: &LimitsPatch) -> Result<RunHandle> {
        let input = self.recorded_input(record)?;
        let recorder = self.recorder(record, Mode::Replay);
        self.launch(plugin, &input, asked, record.clone(), recorder)
    }

    /// Plays a cassette to `plugin` without any provider: each ask of a task is told what was recorded for the ask of that
    /// number, be it another request; a call of a model that its plugin does not name among its `models` is denied, as in a
    /// run. The tape holds what happens; its cassette is to be compared with this one, see [`Cassette::changes`].
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use agenthost::cassette::tape::Tape;
    /// use agenthost::config::{Bodies, Config};
    /// use agenthost::host::Host;
    /// use agenthost::limits::LimitsPatch;
    /// use agenthost::providers::script::Script;
    /// use serde_json::{Map, json};
    ///
    /// # let component = ask();
    /// let tape = Arc::new(Tape::new());
    /// let blue = Script::parse("[[rule]]\ntext = 'Blue.'", "blue")?;
    /// let builder = Host::builder(Config::usual()?).provider("offline", Arc::new(blue));
    /// let recording = builder.journal(tape.clone(), Bodies::All).build()?;
    /// let ask = Arc::new(recording.load_bytes(&component)?);
    /// recording.spawn(&ask, &json!("Name a colour."), &LimitsPatch::default())?.report().await;
    /// let cassette = tape.cassette(Map::new()).ok_or("the run has not ended")?.with_headroom();
    ///
    /// // Later, without a model:
    /// let host = Host::builder(Config::usual()?).build()?;
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
    /// Outside a tokio runtime.
    pub fn rehearse(&self, plugin: &Arc<LoadedPlugin>, cassette: &Cassette) -> Result<(RunHandle, Arc<Tape>)> {
        let tape = Arc::new(Tape::of(cassette));
        let record = tape.find("last")?;
        let journal = Arc::clone(&tape) as Arc<dyn Journal>;
        let recorder = Recorder::new(journal, record.id.clone(), Mode::Rehearsal, Bodies::All, None);
        let run = self.launch(plugin, &cassette.input, &cassette.limits(), record, Some(recorder))?;
        Ok((run, tape))
    }

    /// The plugins that a recorded run used, and that are not the same any more: itself and its sub-agents.
    ///
    /// # Errors
    ///
    /// What the journal says.
    pub fn changed_plugins(&self, plugin: &LoadedPlugin, record: &RunRecord) -> Result<Vec<String>> {
        let mut now = BTreeMap::new();
        digests(plugin, &mut now);
        let mut changed = Vec::new();
        let mut after: Option<String> = None;
        loop {
            /// Records that are read at a time.
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

    /// How a recorded run ended, if there is nothing to go on with; with `failed`, a failure that is final is something.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use agenthost::config::{Bodies, Config};
    /// use agenthost::host::Host;
    /// use agenthost::journal::{Journal as _, sqlite::Sqlite};
    /// use agenthost::limits::LimitsPatch;
    /// use serde_json::json;
    ///
    /// # let component = double();
    /// # let dir = tempfile::tempdir()?;
    /// let journal = Arc::new(Sqlite::open(&dir.path().join("journal.db"))?);
    /// let host = Host::builder(Config::usual()?).journal(journal.clone(), Bodies::All).build()?;
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
        let none = || Error::usage("no journal is kept").hint("Switch it on: `enabled = true` in [journal].");
        self.inner.journal.as_ref().map(|(journal, _)| journal).ok_or_else(none)
    }

    fn recorded_input(&self, record: &RunRecord) -> Result<Value> {
        let root = self.journal()?.task(&record.id, "root")?;
        let input = root
            .and_then(|root| root.input)
            .and_then(|input| serde_json::from_str(&input).ok());
        input.ok_or_else(|| {
            Error::usage(format!("the journal does not hold the input of run {}", record.id))
                .hint("It stopped before it began, or `bodies` in [journal] was \"none\"; run it anew.")
        })
    }

    /// The record of a run that begins now.
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

    /// The recorder of a run, where a journal is kept.
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
            // A replay is not of this time.
            deadline: limits.time.filter(|_| !replay).map(|time| started + time),
            deepest: limits.depth.unwrap_or(u32::MAX),
            cancel: cancel.clone(),
            limits,
            started,
        };
        // Last, so that what cannot start leaves the record of the run as it was.
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
            // The root took what was left of its sub-tasks along; they are still writing their reports.
            let mut report = run.finish(outcome, started).await;
            // A journal takes no end of a run that it does not have.
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

/// Runs `work`, and returns the outcome of a fault of the host if it panics.
pub(super) async fn caught<T>(work: impl Future<Output = T>) -> std::result::Result<T, Outcome> {
    let lost = |_| Outcome::Failure(Failure::new(FailureClass::Host, LOST));
    AssertUnwindSafe(work).catch_unwind().await.map_err(lost)
}

/// How a run ended, in one word.
pub(super) fn state(outcome: &Outcome, interrupted: bool) -> &'static str {
    match outcome {
        Outcome::Ok(_) => "done",
        Outcome::Failure(_) if interrupted => "interrupted",
        Outcome::Failure(_) => "failed",
    }
}

/// What the journal keeps of a run's report; its tasks have records of their own.
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

/// A time in milliseconds since 1970.
pub(super) fn clock(ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
}

/// The digest of a plugin and of all below it, by name.
fn digests(plugin: &LoadedPlugin, found: &mut BTreeMap<String, String>) {
    found.insert(plugin.id.name.clone(), plugin.digest.hex());
    for below in plugin.sub_agents.values() {
        digests(&below.plugin, found);
    }
}
