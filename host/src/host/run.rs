//! A run from its start to its report.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::calls::{Handle, TaskCalls};
use super::{Host, LoadedPlugin, SubAgent};
use crate::config::DirGrant;
use crate::error::{Error, Result};
use crate::gate::Line;
use crate::limits::ledger::Account;
use crate::limits::{LimitKind, Limits, LimitsPatch, Spent};
use crate::run::{Event, ModelReport, REPORT_FORMAT, RunId, RunReport};
use crate::sandbox::{End, GuestCall, Input, OpenDir, Returned, RunMemory};
use crate::task::{Failure, FailureClass, Outcome, TaskId, TaskReport};

/// Events that a slow watcher may lag behind before it misses some.
const EVENT_BACKLOG: usize = 1_024;

/// A run that was started. Dropping the handle cancels the run; [`RunHandle::detach`] lets it go on.
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
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// What happens in the run: all of it for the first who asks, and from now on for everyone later. It closes when the
    /// run has ended. A watcher that lags more than 1,024 events behind misses some.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        let from_start = self.from_start.lock().unwrap_or_else(PoisonError::into_inner).take();
        let from_now = || self.events.upgrade().map(|events| events.subscribe());
        // After the end there is nothing but the closing.
        from_start.or_else(from_now).unwrap_or_else(|| broadcast::channel(1).1)
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
    /// [`ErrorClass::Input`](crate::error::ErrorClass::Input) for an input that is not of the plugin's type;
    /// [`ErrorClass::Config`](crate::error::ErrorClass::Config) for a granted directory that cannot be opened.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn(&self, plugin: &Arc<LoadedPlugin>, input: &Value, asked: &LimitsPatch) -> Result<RunHandle> {
        let started = Instant::now();
        let now = SystemTime::now();
        let limits = self.limits(plugin, asked);
        let input = plugin.code.input(input)?;
        let mut dirs = BTreeMap::new();
        open_dirs(plugin, &mut dirs)?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|error| Error::host(format!("the system gives no random numbers: {error}")))?;
        let id = RunId::new(now, &seed);
        let cancel = CancellationToken::new();
        let (events, from_start) = broadcast::channel(EVENT_BACKLOG);
        let (sender, report) = watch::channel(None);
        let config = self.config();
        let run = Arc::new(RunState {
            id: id.clone(),
            host: self.clone(),
            seed,
            now,
            memory: Arc::new(RunMemory::new(config.run().limits.memory)),
            events: events.clone(),
            dirs,
            tasks: TaskTracker::new(),
            ended: Mutex::default(),
        });
        let task = NewTask {
            id: TaskId::root(),
            plugin: Arc::clone(plugin),
            account: Account::root(&config.run().limits).child(&limits),
            deadline: limits.time.map(|time| started + time),
            deepest: limits.depth.unwrap_or(u32::MAX),
            cancel: cancel.clone(),
            limits,
            started,
        };
        let handle = RunHandle {
            id: id.clone(),
            cancel,
            cancel_on_drop: true,
            events: events.downgrade(),
            from_start: Mutex::new(Some(from_start)),
            report,
        };
        let root = run.start(task, input, false);
        tokio::spawn(async move {
            let (outcome, _) = root.await;
            // The root took what was left of its sub-tasks along; they are still writing their reports.
            run.tasks.close();
            run.tasks.wait().await;
            sender.send_replace(Some(Arc::new(run.report(id, outcome, started))));
        });
        Ok(handle)
    }
}

/// Opens the directories of `plugin` and of all below it.
fn open_dirs(plugin: &LoadedPlugin, opened: &mut BTreeMap<String, Arc<[OpenDir]>>) -> Result<()> {
    let name = &plugin.id.name;
    if plugin.reads_files() && !opened.contains_key(name) {
        let open = |dir: &DirGrant| {
            OpenDir::open(&dir.host, &dir.guest, dir.write).map_err(|error| {
                let host = dir.host.display();
                Error::config(format!(
                    "{name} is granted {host} as {}, which cannot be opened: {error}",
                    dir.guest
                ))
                .hint(format!(
                    "Make the directory, or correct --dir or `dirs` in [grants.\"{name}\"]; it must not be a link."
                ))
            })
        };
        opened.insert(name.clone(), plugin.dirs.iter().map(open).collect::<Result<_>>()?);
    }
    plugin
        .sub_agents
        .values()
        .try_for_each(|below| open_dirs(&below.plugin, opened))
}

/// What the tasks of one run share.
pub(super) struct RunState {
    id: RunId,
    host: Host,
    seed: [u8; 32],
    now: SystemTime,
    memory: Arc<RunMemory>,
    events: broadcast::Sender<Event>,
    /// The directories of each plugin that has some.
    dirs: BTreeMap<String, Arc<[OpenDir]>>,
    /// Every task that has not written its report yet.
    tasks: TaskTracker,
    /// The reports of the tasks that have ended, and what each used models for.
    ended: Mutex<Vec<(TaskReport, Vec<ModelReport>)>>,
}

/// A task that is about to start.
struct NewTask {
    id: TaskId,
    plugin: Arc<LoadedPlugin>,
    account: Account,
    limits: Limits,
    deadline: Option<Instant>,
    deepest: u32,
    cancel: CancellationToken,
    started: Instant,
}

impl RunState {
    /// Runs a sub-task of `parent`. Dropping the future cancels the sub-task.
    pub(super) async fn sub_task(
        self: &Arc<Self>,
        parent: &TaskCalls,
        id: TaskId,
        sub_agent: &SubAgent,
        input: Input,
    ) -> (Outcome, Option<Returned>) {
        let started = Instant::now();
        let limits = self.host.sub_task_limits(sub_agent);
        let own_deadline = limits.time.map(|time| started + time);
        let cancel = parent.cancel.child_token();
        let _cancelled_with_us = cancel.clone().drop_guard();
        let task = NewTask {
            plugin: Arc::clone(&sub_agent.plugin),
            account: parent.account.child(&limits),
            deadline: [own_deadline, parent.deadline].into_iter().flatten().min(),
            deepest: limits
                .depth
                .map_or(u32::MAX, |depth| id.depth().saturating_add(depth))
                .min(parent.deepest),
            cancel,
            limits,
            started,
            id,
        };
        self.start(task, input, true).await
    }

    /// Starts a task at once; the future gives how it came out. Its report is written whether or not anyone waits.
    fn start(
        self: &Arc<Self>,
        task: NewTask,
        input: Input,
        keep_returned: bool,
    ) -> impl Future<Output = (Outcome, Option<Returned>)> + use<> {
        let run = Arc::clone(self);
        let task = self
            .tasks
            .spawn(async move { run.run(task, input, keep_returned).await });
        async move {
            task.await.unwrap_or_else(|_| {
                (
                    Outcome::Failure(Failure::new(
                        FailureClass::Host,
                        "the host failed while it ran the task",
                    )),
                    None,
                )
            })
        }
    }

    async fn run(self: Arc<Self>, task: NewTask, input: Input, keep_returned: bool) -> (Outcome, Option<Returned>) {
        let _live = task.account.live();
        let NewTask {
            id,
            plugin,
            account,
            limits,
            deadline,
            deepest,
            cancel,
            started,
        } = task;
        let config = self.host.config();
        self.emit(Event::Started {
            task: id.clone(),
            plugin: plugin.id.to_string(),
        });
        let calls = Arc::new(TaskCalls {
            host: Arc::clone(&self.host.inner),
            run: Arc::clone(&self),
            loaded: Arc::clone(&plugin),
            cancel: cancel.clone(),
            deepest,
            children: AtomicU32::new(0),
            task: id.clone(),
            plugin: plugin.id.name.clone(),
            models: config.grant(&plugin.id.name).models,
            account,
            deadline,
            events: self.events.clone(),
            line: line(&self.id, &id),
            used: Mutex::default(),
        });
        let call = GuestCall {
            input,
            depth: id.depth(),
            keep_returned,
            memory: limits.memory.unwrap_or(u64::MAX),
            run_memory: Arc::clone(&self.memory),
            deadline,
            seed: task_seed(&self.seed, &id),
            now: self.now,
            dirs: self.dirs.get(&plugin.id.name).cloned().unwrap_or_default(),
            log_bytes: usize::try_from(config.run().log_bytes).unwrap_or(usize::MAX),
            capabilities: Arc::new(Handle(Arc::clone(&calls))),
            cancel,
        };
        // In a task of its own, so that a fault of the host in it is an outcome and not a hang.
        let guest = {
            let (host, plugin) = (self.host.clone(), Arc::clone(&plugin));
            tokio::spawn(async move { host.inner.sandbox.run(&plugin.code, call).await })
        };
        let ended = guest.await.ok();
        let mut spent = calls.account.spent();
        spent.wall = started.elapsed();
        let (end, returned, log, log_dropped_bytes) = match ended {
            Some(ended) => {
                spent.peak_memory = ended.peak_memory;
                (ended.end, ended.returned, ended.log, ended.log_dropped)
            }
            None => (
                End::Host("the host failed while it ran the task".into()),
                None,
                String::new(),
                0,
            ),
        };
        let outcome = match Outcome::of(end) {
            // What is shared may run out before a task's own limit does.
            Outcome::Failure(failure)
                if failure.limit == Some(LimitKind::Fuel) && limits.fuel.is_some_and(|most| spent.fuel < most) =>
            {
                let message = "the task used up the fuel that was left for it by the tasks that it shares a limit with";
                Outcome::Failure(Failure::exhausted(LimitKind::Fuel, message))
            }
            Outcome::Failure(failure) => Outcome::Failure(failure.with_limit_of(&limits)),
            ok @ Outcome::Ok(_) => ok,
        };
        let used = calls.used.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut models: Vec<String> = Vec::new();
        for model in used.iter().map(|used| &used.model) {
            if !models.contains(model) {
                models.push(model.clone());
            }
        }
        let report = TaskReport {
            parent: id.parent(),
            id: id.clone(),
            plugin: plugin.id.to_string(),
            models,
            outcome: outcome.clone(),
            spent,
            log,
            log_dropped_bytes,
        };
        self.ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((report, used));
        self.emit(Event::Ended { task: id });
        (outcome, returned)
    }

    fn emit(&self, event: Event) {
        // Nobody has to watch.
        let _ = self.events.send(event);
    }

    fn report(&self, run: RunId, outcome: Outcome, started: Instant) -> RunReport {
        let mut ended = std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner));
        ended.sort_by_cached_key(|(task, _)| task.id.order());
        // The root ends last.
        let wall = ended
            .first()
            .map_or_else(|| started.elapsed(), |(root, _)| root.spent.wall);
        let mut spent = Spent {
            wall,
            ..Spent::default()
        };
        let mut models: Vec<ModelReport> = Vec::new();
        let mut tasks = Vec::with_capacity(ended.len());
        for (task, used) in ended {
            spent.add(&task.spent);
            for used in used {
                used.into_list(&mut models);
            }
            tasks.push(task);
        }
        RunReport {
            format: REPORT_FORMAT,
            run,
            outcome,
            spent,
            tasks,
            models,
        }
    }
}

/// The tasks of one parent wait for the gate in one line.
fn line(run: &RunId, task: &TaskId) -> Line {
    let parent = task.parent().map(|parent| parent.to_string()).unwrap_or_default();
    format!("{run} {parent}").into()
}

/// Random numbers of a task: a function of the run's seed and the task's place, so that a replay gives the same.
fn task_seed(run: &[u8; 32], task: &TaskId) -> [u8; 32] {
    Sha256::new()
        .chain_update(run)
        .chain_update(task.to_string())
        .finalize()
        .into()
}
