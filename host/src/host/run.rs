//! A run from its start to its report.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::calls::{Handle, TaskCalls};
use super::{Host, LoadedPlugin};
use crate::error::{Error, Result};
use crate::limits::ledger::Account;
use crate::limits::{Limits, LimitsPatch};
use crate::run::{Event, REPORT_FORMAT, RunId, RunReport};
use crate::sandbox::{Ended, GuestCall};
use crate::task::{Failure, FailureClass, Outcome, TaskId, TaskReport};

/// Events that a slow watcher may lag behind before it misses some.
const EVENT_BACKLOG: usize = 1_024;

/// A run that was started. Dropping the handle cancels the run; [`RunHandle::detach`] lets it go on.
pub struct RunHandle {
    id: RunId,
    cancel: CancellationToken,
    cancel_on_drop: bool,
    events: broadcast::Sender<Event>,
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
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// What happens in the run from now on. A watcher that lags far behind misses events.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Lets the run go on without this handle.
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
    /// # Errors
    ///
    /// [`ErrorClass::Input`](crate::error::ErrorClass::Input) for an input that is not of the plugin's type.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn(&self, plugin: &Arc<LoadedPlugin>, input: &Value, asked: &LimitsPatch) -> Result<RunHandle> {
        let started = Instant::now();
        let now = SystemTime::now();
        let limits = self.limits(plugin, asked);
        let input = plugin.code.input(input)?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|error| Error::host(format!("the system gives no random numbers: {error}")))?;
        let id = RunId::new(now, &seed);
        let task = TaskId::root();
        let cancel = CancellationToken::new();
        let (events, _) = broadcast::channel(EVENT_BACKLOG);
        let (sender, report) = watch::channel(None);

        let config = self.config();
        let deadline = limits.time.map(|time| started + time);
        let calls = Arc::new(TaskCalls {
            host: Arc::clone(&self.inner),
            task: task.clone(),
            plugin: plugin.id.name.clone(),
            models: config.grant(&plugin.id.name).models,
            account: Account::root(&config.run().limits).child(&limits),
            deadline,
            events: events.clone(),
            used: Mutex::default(),
        });
        let call = GuestCall {
            input,
            fuel: limits.fuel.unwrap_or(u64::MAX),
            memory: limits.memory.unwrap_or(u64::MAX),
            deadline,
            seed: task_seed(&seed, &task),
            now,
            log_bytes: usize::try_from(config.run().log_bytes).unwrap_or(usize::MAX),
            capabilities: Arc::new(Handle(Arc::clone(&calls))),
            cancel: cancel.clone(),
        };

        let handle = RunHandle {
            id: id.clone(),
            cancel,
            cancel_on_drop: true,
            events: events.clone(),
            report,
        };
        let (host, plugin) = (self.clone(), Arc::clone(plugin));
        tokio::spawn(async move {
            let _ = events.send(Event::Started {
                task: task.clone(),
                plugin: plugin.id.to_string(),
            });
            // In a task of its own, so that a fault of the host in it is an outcome and not a hang.
            let guest = {
                let (host, plugin) = (host.clone(), Arc::clone(&plugin));
                tokio::spawn(async move { host.inner.sandbox.run(&plugin.code, call).await })
            };
            let ended = guest.await;
            let task = report_of(task, &plugin, ended.ok(), &limits, &calls, started);
            let _ = events.send(Event::Ended { task: task.id.clone() });
            let models = calls.used.lock().unwrap_or_else(PoisonError::into_inner).clone();
            sender.send_replace(Some(Arc::new(RunReport {
                format: REPORT_FORMAT,
                run: id,
                outcome: task.outcome.clone(),
                spent: task.spent.clone(),
                tasks: vec![task],
                models,
            })));
        });
        Ok(handle)
    }
}

fn report_of(
    id: TaskId,
    plugin: &LoadedPlugin,
    ended: Option<Ended>,
    limits: &Limits,
    calls: &TaskCalls,
    started: Instant,
) -> TaskReport {
    let mut spent = calls.account.spent();
    spent.wall = started.elapsed();
    let (outcome, log, log_dropped_bytes) = match ended {
        Some(ended) => {
            spent.fuel = ended.fuel;
            spent.peak_memory = ended.peak_memory;
            (Outcome::of(ended.end), ended.log, ended.log_dropped)
        }
        None => {
            let failure = Failure::new(FailureClass::Host, "the host failed while it ran the task");
            (Outcome::Failure(failure), String::new(), 0)
        }
    };
    let outcome = match outcome {
        Outcome::Failure(failure) => Outcome::Failure(failure.with_limit_of(limits)),
        ok @ Outcome::Ok(_) => ok,
    };
    let models = calls
        .used
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .map(|used| used.model.clone())
        .fold(Vec::new(), |mut models, model| {
            if !models.contains(&model) {
                models.push(model);
            }
            models
        });
    TaskReport {
        parent: id.parent(),
        id,
        plugin: plugin.id.to_string(),
        models,
        outcome,
        spent,
        log,
        log_dropped_bytes,
    }
}

/// Random numbers of a task: a function of the run's seed and the task's place, so that a replay gives the same.
fn task_seed(run: &[u8; 32], task: &TaskId) -> [u8; 32] {
    Sha256::new()
        .chain_update(run)
        .chain_update(task.to_string())
        .finalize()
        .into()
}
