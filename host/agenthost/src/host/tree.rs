//! The tree of tasks under one root, while it runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::call_context::{CallContext, Ending, Uncounted};
use super::calls::{Started, SubTasks, TaskContext, TaskHandle};
use super::documents::TaskDocuments;
use super::echoes::ReceivedEchoes;
use super::events::EventLog;
use super::fault::{LOST, caught};
use super::record::{Recorder, Settled, TaskLog};
use super::shares::Shares;
use super::{Host, LoadedPlugin, SubAgent};
use crate::error::LoadError;
use agenthost_config::{DirGrant, DirQuota};
use agenthost_core::error::{Error, Result, with_causes};
use agenthost_core::failpoint;
use agenthost_core::limits::ledger::Account;
use agenthost_core::limits::{LimitKind, LimitOwner, Limits, Spent};
use agenthost_core::run::{Event, ModelReport, RunId, RunReport};
use agenthost_core::task::{Failure, FailureClass, Outcome, TaskId, TaskReport};
use agenthost_gate::FairnessKey;
use agenthost_journal::{RunKind, RunRecord};
use agenthost_sandbox::{
    Documents, End, GuestCall, Input, KeptMemory, MemoryBound, MemorySource, OpenDir, Quota, Returned, RunMemory,
    TurnOrder,
};

/// The quota of each directory that a run may write to. Plugins with the same grant share it.
type Quotas = BTreeMap<(PathBuf, Option<u64>, Option<u64>), Arc<Quota>>;

/// The open directories of the plugins of a run, by their names.
#[derive(Clone, Default)]
struct OpenDirs {
    files: BTreeMap<String, Arc<[OpenDir]>>,
    memories: BTreeMap<String, Documents>,
}

impl OpenDirs {
    /// Opens the directories of `plugin` and of all plugins below it. A replay opens no documents.
    fn open(&mut self, plugin: &LoadedPlugin, replay: bool, quotas: &mut Quotas) -> Result<()> {
        let name = &plugin.info.id.name;
        let mut open = |dir: &DirGrant| {
            let quota = dir.write.then(|| {
                let DirQuota { bytes, files } = dir.quota;
                let shared = quotas.entry((dir.host.clone(), bytes, files));
                Arc::clone(shared.or_insert_with(|| Arc::new(Quota::new(bytes, files))))
            });
            OpenDir::open(&dir.host, &dir.guest, quota).map_err(|source| LoadError::Directory {
                plugin: name.clone(),
                host: dir.host.clone(),
                guest: dir.guest.clone(),
                source,
            })
        };
        if plugin.info.reads_files() && !self.files.contains_key(name) {
            let dirs = plugin.dirs.iter().map(&mut open).collect::<Result<_, LoadError>>()?;
            self.files.insert(name.clone(), dirs);
        }
        if let Some(memory) = plugin.memory.as_ref().filter(|_| !replay)
            && !self.memories.contains_key(name)
        {
            self.memories.insert(name.clone(), Documents::new(open(memory)?));
        }
        let mut below = plugin.sub_agents.values();
        below.try_for_each(|below| self.open(&below.plugin.loaded, replay, quotas))
    }
}

/// The state that the tasks of one run share.
pub(super) struct RunState {
    id: RunId,
    host: Host,
    recorder: Option<Arc<Recorder>>,
    seed: [u8; 32],
    now: SystemTime,
    memory: Arc<RunMemory>,
    /// The part of `memory` that the reports of ended tasks hold.
    kept: Mutex<Vec<KeptMemory>>,
    /// Cancels the whole run. In a replay, nothing else cancels a sub-task.
    stop: CancellationToken,
    events: Arc<EventLog>,
    dirs: OpenDirs,
    /// `true` if the spending of settled items was booked when the batch was resumed.
    settled_is_booked: bool,
    /// Tracks every task that has not written its report yet.
    tasks: TaskTracker,
    /// The reports of ended tasks, with the models that each used.
    ended: Mutex<Vec<(Arc<TaskReport>, Vec<ModelReport>)>>,
    /// Ends the run if the allowance cannot be counted.
    on_uncounted: Ending<Uncounted>,
    /// For an item of a batch: ends it if a key is refused.
    on_refused_key: Option<Ending<String>>,
}

/// A task that is about to start.
pub(super) struct NewTask {
    pub(super) id: TaskId,
    pub(super) plugin: Arc<LoadedPlugin>,
    pub(super) account: Account,
    pub(super) limits: Limits,
    pub(super) deadline: Option<Instant>,
    pub(super) deepest: u32,
    pub(super) cancel: CancellationToken,
    pub(super) started: Instant,
}

impl RunState {
    /// Creates the shared state of the run of `record`, with `plugin` at its root.
    pub(super) fn new(
        host: &Host,
        plugin: &LoadedPlugin,
        record: &RunRecord,
        recorder: Option<Arc<Recorder>>,
        stop: &CancellationToken,
        events: Arc<EventLog>,
    ) -> Result<Arc<Self>> {
        let replay = recorder.as_ref().is_some_and(|recorder| recorder.is_replay());
        let mut dirs = OpenDirs::default();
        dirs.open(plugin, replay, &mut Quotas::new())?;
        let bound = match host.run_memory() {
            // The machine may have had more memory to spare when the run was recorded.
            bound if replay && bound.source != MemorySource::Configured => MemoryBound::configured(None),
            bound => bound,
        };
        Ok(Arc::new(Self {
            id: RunId::recorded(&record.id),
            recorder,
            seed: record.seed,
            now: clock(record.clock_ms),
            memory: Arc::new(RunMemory::of_run(bound, &host.inner.memory)),
            kept: Mutex::default(),
            stop: stop.clone(),
            events,
            dirs,
            settled_is_booked: record.kind == RunKind::Batch,
            tasks: TaskTracker::new(),
            ended: Mutex::default(),
            on_uncounted: Ending::new(stop, &Arc::default()),
            on_refused_key: None,
            host: host.clone(),
        }))
    }

    /// Returns the state of one item of a batch: the same run, with its own reports.
    pub(super) fn item(&self, on_refused_key: Ending<String>) -> Arc<Self> {
        Arc::new(Self {
            id: self.id.clone(),
            host: self.host.clone(),
            recorder: self.recorder.clone(),
            seed: self.seed,
            now: self.now,
            memory: Arc::clone(&self.memory),
            kept: Mutex::default(),
            stop: self.stop.clone(),
            events: Arc::clone(&self.events),
            dirs: self.dirs.clone(),
            settled_is_booked: self.settled_is_booked,
            tasks: TaskTracker::new(),
            ended: Mutex::default(),
            on_uncounted: self.on_uncounted.clone(),
            on_refused_key: Some(on_refused_key),
        })
    }

    pub(super) fn id(&self) -> &RunId {
        &self.id
    }

    /// Returns why the journal can no longer be written or the allowance can no longer be counted, or `None` if they can.
    pub(super) fn fault(&self) -> Option<Error> {
        let journal = self.recorder.as_ref().and_then(|recorder| recorder.fault());
        let journal = journal.map(Error::host);
        journal.or_else(|| self.on_uncounted.reason().cloned().map(Error::from))
    }

    /// Waits until every task has written its report, and combines the reports.
    pub(super) async fn finish(&self, outcome: Outcome, started: Instant) -> RunReport {
        self.tasks.close();
        self.tasks.wait().await;
        self.report(outcome, started)
    }

    /// Waits until other processes can see what the gates learned and what the allowance got back, because this process may
    /// end now.
    pub(super) async fn flush(&self) {
        self.host.flush().await;
    }

    /// Starts a task at once, unless the journal has its final outcome. The future resolves to its outcome. Its report
    /// is written even if the future is dropped.
    pub(super) fn start(
        self: &Arc<Self>,
        task: NewTask,
        input: Input,
        keep_returned: bool,
    ) -> impl Future<Output = (Outcome, Option<Returned>)> + use<> {
        let run = Arc::clone(self);
        let begun = Arc::new(Begun {
            id: task.id.clone(),
            plugin: task.plugin.info.id.to_string(),
            account: task.account.clone(),
            started: task.started,
            log: OnceLock::new(),
        });
        let task = self.tasks.spawn(async move {
            let work = Arc::clone(&run).run(task, input, keep_returned, Arc::clone(&begun));
            match caught(work).await {
                Ok(ended) => ended,
                Err(fault) => (run.lost(&begun, fault), None),
            }
        });
        async move {
            task.await
                .unwrap_or_else(|_| (Outcome::Failure(Failure::new(FailureClass::Host, LOST)), None))
        }
    }

    /// Writes the report of a task that ended by a fault of the host before it had one.
    fn lost(&self, begun: &Begun, fault: Outcome) -> Outcome {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.iter().any(|(report, _)| report.id == begun.id) {
            return fault;
        }
        let mut report = TaskReport::new(begun.id.clone(), &begun.plugin, fault.clone());
        report.spent = Spent {
            wall: begun.started.elapsed(),
            ..begun.account.spent()
        };
        if let Some(log) = begun.log.get() {
            log.ended(&report, None, &[]);
        }
        let report = Arc::new(report);
        ended.push((Arc::clone(&report), Vec::new()));
        drop(ended);
        self.emit(Event::Ended {
            task: begun.id.clone(),
            report,
        });
        fault
    }

    async fn run(
        self: Arc<Self>,
        task: NewTask,
        input: Input,
        keep_returned: bool,
        begun: Arc<Begun>,
    ) -> (Outcome, Option<Returned>) {
        failpoint!(await "spawn.task");
        let log = match self.log(&task, &input, keep_returned).await {
            Ok(TaskStart::Now(log)) => Arc::clone(begun.log.get_or_init(|| Arc::new(*log))),
            Ok(TaskStart::Settled(ended)) => return *ended,
            Err(error) => {
                let fault = Outcome::Failure(Failure::new(FailureClass::Host, with_causes(&error)));
                return (self.lost(&begun, fault), None);
            }
        };
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
            plugin: plugin.info.id.to_string(),
        });
        let calls = Arc::new(TaskContext {
            shares: Shares::new(&account, id.to_string(), plugin.info.keep_back()),
            documents: TaskDocuments::new(
                self.dirs.memories.get(&plugin.info.id.name).cloned(),
                &log,
                &self.memory,
            ),
            call: CallContext {
                host: Arc::clone(&self.host.inner),
                task: id.clone(),
                account,
                deadline,
                events: Arc::clone(&self.events),
                line: line(&self.id, &id),
                log: Arc::clone(&log),
                used: Mutex::default(),
                shortage: Mutex::default(),
                echoes: ReceivedEchoes::default(),
                checking: Arc::new(Semaphore::new(1)),
                on_uncounted: self.on_uncounted.clone(),
                on_refused_key: self.on_refused_key.clone(),
            },
            run: Arc::clone(&self) as Arc<dyn SubTasks>,
            loaded: Arc::clone(&plugin),
            cancel: cancel.clone(),
            deepest,
            children: AtomicU32::new(0),
            plugin: plugin.info.id.name.clone(),
            models: plugin.models(config),
            server_tools: plugin.server_tools(config),
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
            dirs: self.dirs.files.get(&plugin.info.id.name).cloned().unwrap_or_default(),
            log_bytes: usize::try_from(config.run().log_bytes).unwrap_or(usize::MAX),
            capabilities: Arc::new(TaskHandle(Arc::clone(&calls))),
            cancel: cancel.clone(),
            order: Arc::clone(&log) as Arc<dyn TurnOrder>,
        };
        // The guest runs in a tokio task of its own, so that a panic of the host in it is an outcome and not a hang.
        let mut guest = {
            let (host, plugin) = (self.host.clone(), Arc::clone(&plugin));
            tokio::spawn(async move {
                failpoint!(await "spawn.guest");
                host.inner.sandbox.run(&plugin.code, call).await
            })
        };
        let ended = tokio::select! {
            ended = &mut guest => ended,
            () = log.journal_filled() => {
                cancel.cancel();
                guest.await
            }
        };
        let ended = ended.ok();
        failpoint!(await "collect.guest");
        log.noted().await;
        for (used, models) in log.left_over() {
            calls.call.account.restore(&used, 1);
            models.into_iter().for_each(|model| calls.call.note(model));
        }
        self.keep_left_tasks(&calls).await;
        let mut spent = calls.call.account.spent();
        spent.wall = started.elapsed();
        let mut shared_memory_refused = false;
        let mut notes = Vec::new();
        let (end, mut returned, said, log_dropped_bytes) = match ended {
            Some(ended) => {
                notes = ended.notes;
                notes.extend(calls.documents.note());
                spent.peak_memory = ended.peak_memory;
                shared_memory_refused = ended.shared_memory_refused;
                (ended.end, ended.returned, ended.log, ended.log_dropped)
            }
            None => (End::Host(LOST.into()), None, String::new(), 0),
        };
        let outcome = match Outcome::from(end) {
            // Fuel that is shared with other tasks may run out before the task's own limit is reached.
            Outcome::Failure(failure)
                if failure.limit == Some(LimitKind::Fuel) && limits.fuel.is_some_and(|most| spent.fuel < most) =>
            {
                let message = "the task used up the fuel that was left for it by the tasks that it shares a limit with";
                Outcome::Failure(Failure::exhausted(LimitKind::Fuel, message))
            }
            Outcome::Failure(failure) if failure.class == FailureClass::Cancelled => {
                Outcome::Failure(log.journal_full().unwrap_or(failure))
            }
            // Its message states the shared limit, not the task's own.
            failed @ Outcome::Failure(_)
                if shared_memory_refused
                    && failed.failure().and_then(|failure| failure.limit) == Some(LimitKind::Memory) =>
            {
                failed
            }
            Outcome::Failure(failure) => {
                let failure = match failure.limit.and_then(|limit| calls.call.account.stopped(limit)) {
                    // What stopped the task may be outside of a replay.
                    _ if let Some(recorded) = log.recorded_limit(&failure) => recorded,
                    Some(stopped) => failure.stopped_by(stopped, &id),
                    None => failure.with_limit_of(&limits),
                };
                Outcome::Failure(calls.call.explained(failure))
            }
            ok @ Outcome::Ok(_) => ok,
        };
        // The report stays in memory until the run has ended.
        let outcome = match self.memory.keep(said.len() as u64 + bytes_of(&outcome)) {
            Ok(kept) => {
                self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
                outcome
            }
            Err(why) => {
                returned = None;
                Outcome::Failure(Failure::exhausted(LimitKind::Memory, why))
            }
        };
        let mut used = calls.call.used.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((recorded, models)) = log.not_repeated() {
            spent = Spent {
                fuel: spent.fuel,
                peak_memory: spent.peak_memory,
                wall: spent.wall,
                ..recorded.spent.clone()
            };
            used = models.clone();
        }
        let mut models: Vec<String> = Vec::new();
        for model in used.iter().map(|used| &used.model) {
            if !models.contains(model) {
                models.push(model.clone());
            }
        }
        let release = plugin
            .info
            .release()
            .filter(|release| Some(*release) != plugin.info.id.version.as_deref());
        let mut report = TaskReport::new(id.clone(), plugin.info.id.to_string(), outcome.clone());
        report.release = release.map(str::to_owned);
        report.models = models;
        report.spent = spent;
        report.log = said;
        report.log_dropped_bytes = log_dropped_bytes;
        report.notes = notes;
        let json = |returned: &Returned| plugin.code.returned_json(returned);
        failpoint!(await "collect.report");
        log.ended(&report, returned.as_ref().and_then(json), &used);
        failpoint!(await "collect.ended");
        let report = Arc::new(report);
        self.ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((Arc::clone(&report), used));
        self.emit(Event::Ended { task: id, report });
        (outcome, returned)
    }

    fn emit(&self, event: Event) {
        self.events.push(event);
    }

    /// Returns the log of a task that is about to start, or its recorded outcome if it need not run again.
    async fn log(&self, task: &NewTask, input: &Input, keep_returned: bool) -> Result<TaskStart> {
        let Some(recorder) = &self.recorder else {
            return Ok(TaskStart::Now(Box::new(TaskLog::none(task.id.clone()))));
        };
        failpoint!("spawn.past", agenthost_core::error::Error::host("failpoint"));
        let plugin = &task.plugin;
        let digest = plugin.info.digest.hex();
        let input = plugin.code.input_json(input);
        let mut earlier = recorder.earlier(&task.id, &digest, input.as_ref()).await?;
        if let Some(settled) = earlier.as_mut().and_then(|earlier| earlier.settled.take())
            && let Some(begin) = self.take_over(task, settled, keep_returned)
        {
            return Ok(begin);
        }
        let id = plugin.info.id.to_string();
        let log = TaskLog::begin(recorder, &task.id, (&id, &digest), input, earlier);
        failpoint!("spawn.log");
        Ok(TaskStart::Now(Box::new(log)))
    }

    /// Adds the sub-tasks that an earlier execution of a task started and this one did not to the report and the books, if
    /// a task was asked again.
    async fn keep_left_tasks(&self, task: &TaskContext) {
        let Some(recorder) = &self.recorder else { return };
        let started = task.children.load(Ordering::Relaxed);
        let is_left = task.call.log.has_left_tasks(started);
        let left = recorder.left_tasks(&task.call.task, started, is_left);
        let left = left.await.unwrap_or_else(|error| {
            tracing::warn!("sub-tasks of an earlier execution are not part of the report: {error}");
            Vec::new()
        });
        for (report, models) in left {
            task.call.account.restore_below(&report.spent, 1);
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.push((Arc::new(report), models));
        }
    }

    /// Adds a finished task, with all tasks below it, to the report and the books as it was recorded.
    fn take_over(&self, task: &NewTask, settled: Settled, keep_returned: bool) -> Option<TaskStart> {
        let outcome = settled.report.outcome.clone();
        let returned = settled.returned.as_ref();
        let returned = returned.and_then(|json| task.plugin.code.returned(json));
        if keep_returned && returned.is_none() && outcome.ok().is_some() {
            return None;
        }
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        // The task itself was counted when it was started.
        let below = settled.below.into_iter().map(|ended| (ended, 1));
        for ((report, models), tasks) in below.chain([((settled.report, settled.models), 0)]) {
            if !(self.settled_is_booked && task.id.depth() == 1) {
                task.account.restore_below(&report.spent, tasks);
            }
            ended.push((Arc::new(report), models));
        }
        Some(TaskStart::Settled(Box::new((
            outcome,
            returned.filter(|_| keep_returned),
        ))))
    }

    fn report(&self, outcome: Outcome, started: Instant) -> RunReport {
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
        let mut report = RunReport::new(self.id.clone(), outcome);
        report.spent = spent;
        report.tasks = tasks;
        report.models = models;
        report
    }
}

impl SubTasks for RunState {
    fn sub_task<'a>(
        self: Arc<Self>,
        parent: &'a TaskContext,
        id: TaskId,
        account: Account,
        sub_agent: &'a SubAgent,
        input: Input,
    ) -> BoxFuture<'a, (Outcome, Option<Returned>)> {
        async move {
            failpoint!(await "spawn.sub-task");
            let started = Instant::now();
            let limits = self.host.sub_task_limits(sub_agent);
            let own_deadline = limits.timeout.map(|timeout| started + timeout);
            // A replayed task ends where it ended in the record, even if its parent is cancelled earlier.
            let replay = self.recorder.as_ref().is_some_and(|recorder| recorder.is_replay());
            let cancel = if replay {
                self.stop.child_token()
            } else {
                parent.cancel.child_token()
            };
            let _cancelled_with_us = (!replay).then(|| cancel.clone().drop_guard());
            let task = NewTask {
                plugin: Arc::clone(&sub_agent.plugin.loaded),
                account: account.child(&limits).named(LimitOwner::Task(id.to_string())),
                deadline: [own_deadline, parent.call.deadline].into_iter().flatten().min(),
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
        .boxed()
    }

    fn keep(&self, work: BoxFuture<'static, Started>) -> tokio::task::JoinHandle<Started> {
        self.tasks.spawn(work)
    }
}

/// Estimates the bytes that an outcome takes.
fn bytes_of(outcome: &Outcome) -> u64 {
    fn json(value: &Value) -> u64 {
        let inside = match value {
            Value::String(text) => text.len() as u64,
            Value::Array(values) => values.iter().map(json).sum(),
            Value::Object(fields) => fields
                .iter()
                .map(|(key, value)| 48 + key.len() as u64 + json(value))
                .sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        };
        inside.saturating_add(size_of::<Value>() as u64)
    }
    match outcome {
        Outcome::Ok(output) => json(output),
        Outcome::Failure(failure) => failure.message.len() as u64 + failure.error.as_ref().map_or(0, json),
    }
}

/// The facts about a task that has begun, for its report if a fault of the host ends it.
struct Begun {
    id: TaskId,
    plugin: String,
    account: Account,
    started: Instant,
    /// Its log, once it has one.
    log: OnceLock<Arc<TaskLog>>,
}

/// How a task begins.
enum TaskStart {
    /// Run the task with this log.
    Now(Box<TaskLog>),
    /// Do not run the task: this is its recorded outcome.
    Settled(Box<(Outcome, Option<Returned>)>),
}

/// Converts milliseconds since 1970.
pub(super) fn clock(ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
}

/// Returns the queue at the gate for the calls of `task`. The tasks of one parent share a queue.
fn line(run: &RunId, task: &TaskId) -> FairnessKey {
    let parent = task.parent().map(|parent| parent.to_string()).unwrap_or_default();
    format!("{run} {parent}").into()
}

/// Returns the random seed of a task. It depends only on the run's seed and the task's id, so a replay gets the same.
fn task_seed(run: &[u8; 32], task: &TaskId) -> [u8; 32] {
    Sha256::new()
        .chain_update(run)
        .chain_update(task.to_string())
        .finalize()
        .into()
}
