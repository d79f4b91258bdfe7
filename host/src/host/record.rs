//! What a run writes down, and what it finds written down when it is continued or replayed.
//!
//! A [`Recorder`] belongs to a run, a [`TaskLog`] to each of its tasks. A live run appends: whatever is paid for is durable
//! before the guest learns of it, and a failed append stops the call. A *resumed* run gives a task what it had learned, in
//! the same order, up to the first thing that may come out better now (a limit that was reached, a model that did not
//! answer, a cancel), and asks only for what was never answered. A *replayed* run asks for nothing: all that a task learns
//! comes from the journal, and every difference to it is noted.
//!
//! A *rehearsal* plays a cassette: it is told the recorded answers, and written down as a live run is.
//!
//! Without a journal nothing of this happens.

mod rehearsal;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::config::Bodies;
use crate::error::Result;
use crate::journal::{CallRecord, Entry, Journal, RunEnd, RunRecord, TaskEnd, TaskRecord, Turn};
use crate::limits::Usd;
use crate::limits::ledger::Used;
use crate::llm::{Allowance, Ask, CallError, CallResult, Reply, Request};
use crate::run::{Difference, ModelReport};
use crate::sandbox::{Next, Order};
use crate::task::{FailureClass, Outcome, TaskId, TaskReport};

/// What a run does with its journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// It is the first time.
    Live,
    /// It goes on where it stopped; with `failed`, tasks that failed for good are run again, too.
    Resume { failed: bool },
    /// It is told everything.
    Replay,
    /// It is told what a cassette holds, whatever it asks, and written down.
    Rehearsal,
}

/// The journal of one run.
#[derive(Debug)]
pub(super) struct Recorder {
    journal: Arc<dyn Journal>,
    run: String,
    mode: Mode,
    bodies: Bodies,
    differences: Mutex<Vec<Difference>>,
    /// Tasks of a batch that were taken over and not yet asked for.
    taken_over: Mutex<HashSet<String>>,
    /// Why nothing can be written any more.
    fault: OnceLock<String>,
}

/// What a task was told in answer to a model call, with what it used.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Told {
    #[serde(flatten)]
    result: Answer,
    used: UsedJson,
    #[serde(default)]
    pub(super) models: Vec<ModelReport>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Ok(Reply),
    Err(CallError),
}

/// [`Used`], to the pico-dollar.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct UsedJson {
    input: u64,
    cached: u64,
    output: u64,
    pico_usd: Option<u64>,
    /// Whether a request was sent, so that it counts as a call.
    sent: bool,
}

impl Told {
    pub(super) fn new(result: &CallResult, used: &Used, sent: bool, models: Vec<ModelReport>) -> Self {
        Self {
            result: match result {
                Ok(reply) => Answer::Ok(reply.clone()),
                Err(error) => Answer::Err(error.clone()),
            },
            used: UsedJson {
                input: used.input,
                cached: used.cached_input,
                output: used.output,
                pico_usd: used.cost.map(Usd::pico),
                sent,
            },
            models,
        }
    }

    pub(super) fn result(self) -> CallResult {
        match self.result {
            Answer::Ok(reply) => Ok(reply),
            Answer::Err(error) => Err(error),
        }
    }

    /// What it used; none if nothing was sent.
    pub(super) fn used(&self) -> Option<Used> {
        let used = self.used;
        used.sent.then_some(Used {
            input: used.input,
            cached_input: used.cached,
            output: used.output,
            cost: used.pico_usd.map(Usd::from_pico),
        })
    }

    /// Whether the same ask may come out better another time.
    fn is_final(&self) -> bool {
        match &self.result {
            Answer::Ok(_) => true,
            Answer::Err(error) => match error {
                CallError::Denied(_)
                | CallError::ContextOverflow
                | CallError::Refused(_)
                | CallError::InvalidReply(_)
                | CallError::InvalidRequest(_) => true,
                CallError::Exhausted(_) | CallError::Unavailable(_) | CallError::Other(..) => false,
            },
        }
    }
}

/// What the journal has of a model call.
pub(super) enum Recorded {
    /// Nothing that helps: it has to be made, with these replies to requests that were answered already.
    Make(Vec<(Hash, PaidReply)>),
    /// What the task was told.
    Told(Box<Told>),
    /// A replay knows that the task was never told anything.
    Unanswered,
    /// A replay asks for something else than was recorded.
    Differs,
}

/// What becomes of a sub-task that a guest starts.
pub(super) enum Begins {
    /// It is run.
    Now,
    /// A replay runs it: it was run then, and perhaps given up by its parent.
    Again,
    /// A replay refuses it: it was refused then.
    Refused,
    /// A replay knows that its parent gave it up before it began.
    Never,
    /// A replay starts something that was not started then.
    Differs,
}

pub(super) type Hash = [u8; 32];

/// A reply that was paid for, with what it cost.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PaidReply {
    pub(super) reply: Reply,
    used: UsedJson,
}

impl PaidReply {
    pub(super) fn used(&self) -> Used {
        Used {
            input: self.used.input,
            cached_input: self.used.cached,
            output: self.used.output,
            cost: self.used.pico_usd.map(Usd::from_pico),
        }
    }
}

impl Recorder {
    pub(super) fn new(journal: Arc<dyn Journal>, run: String, mode: Mode, bodies: Bodies) -> Arc<Self> {
        Arc::new(Self {
            journal,
            run,
            mode,
            bodies,
            differences: Mutex::default(),
            taken_over: Mutex::default(),
            fault: OnceLock::new(),
        })
    }

    pub(super) fn is_replay(&self) -> bool {
        matches!(self.mode, Mode::Replay | Mode::Rehearsal)
    }

    fn is_rehearsal(&self) -> bool {
        self.mode == Mode::Rehearsal
    }

    fn writes(&self) -> bool {
        self.mode != Mode::Replay
    }

    /// Notes that the run begins, or goes on.
    pub(super) async fn begin(&self, record: RunRecord) -> Result<()> {
        match self.mode {
            Mode::Live | Mode::Rehearsal => self.journal.append(Entry::RunStarted(record)).await,
            Mode::Resume { .. } => {
                let run = self.run.clone();
                let pid = std::process::id();
                self.journal.append(Entry::RunResumed { run, pid }).await
            }
            Mode::Replay => Ok(()),
        }
    }

    /// Notes how the run ended.
    pub(super) async fn end(&self, state: &str, report: &Value) -> Result<()> {
        if !self.writes() {
            return Ok(());
        }
        let end = RunEnd {
            ended_ms: now_ms(),
            state: state.to_owned(),
            report: report.to_string(),
        };
        self.journal
            .append(Entry::RunEnded {
                run: self.run.clone(),
                end,
            })
            .await
    }

    /// Why nothing could be written, if so.
    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.get().map(String::as_str)
    }

    pub(super) fn differences(&self) -> Vec<Difference> {
        lock(&self.differences).clone()
    }

    fn differs(&self, task: &TaskId, ask: Option<u64>, what: impl Into<String>) {
        lock(&self.differences).push(Difference {
            task: task.clone(),
            ask,
            what: what.into(),
        });
    }

    async fn append(&self, entry: Entry) -> std::result::Result<(), CallError> {
        self.journal.append(entry).await.map_err(|error| {
            let said = error.to_string();
            let _ = self.fault.set(said.clone());
            CallError::Other("journal".into(), said)
        })
    }

    /// The record of a task, where the run has been here before.
    pub(super) fn past(&self, task: &TaskId) -> Result<Option<TaskRecord>> {
        match self.mode {
            Mode::Live => Ok(None),
            Mode::Resume { .. } | Mode::Replay | Mode::Rehearsal => self.journal.task(&self.run, &task.to_string()),
        }
    }

    /// Whether a task was taken over from the journal; asked once, by whoever started it.
    pub(super) fn took_over(&self, task: &TaskId) -> bool {
        lock(&self.taken_over).remove(&task.to_string())
    }

    /// The recorded end of a task that need not run again: its report, what it returned, and the records of all below it.
    pub(super) fn settled(&self, past: &TaskRecord, digest: &str, input: Option<&str>) -> Option<Settled> {
        let Mode::Resume { failed } = self.mode else {
            return None;
        };
        let end = past.end.as_ref()?;
        let report = TaskReport::read(&end.report)?;
        let same = past.digest == digest && (past.input.is_none() || input.is_none() || past.input.as_deref() == input);
        if !same || !keeps(&report.outcome, failed) {
            return None;
        }
        let mut below = Vec::new();
        let mut after: Option<String> = None;
        loop {
            /// Records that are read at a time.
            const PAGE: usize = 500;
            let page = self.journal.tasks(&self.run, &past.id, after.as_deref(), PAGE).ok()?;
            let full = page.len() == PAGE;
            after = page.last().map(|task| task.id.clone());
            below.extend(page.iter().filter_map(|task| read_end(task.end.as_ref()?)));
            if !full {
                break;
            }
        }
        let models = serde_json::from_str(&end.models).unwrap_or_default();
        if report.parent == Some(TaskId::root()) {
            lock(&self.taken_over).insert(past.id.clone());
        }
        Some(Settled {
            report,
            models,
            returned: end.returned.clone(),
            below,
        })
    }
}

/// A task that is taken over from the journal.
pub(super) struct Settled {
    pub(super) report: TaskReport,
    pub(super) models: Vec<ModelReport>,
    /// What it returned, as JSON.
    pub(super) returned: Option<String>,
    /// All tasks below it.
    pub(super) below: Vec<(TaskReport, Vec<ModelReport>)>,
}

fn read_end(end: &TaskEnd) -> Option<(TaskReport, Vec<ModelReport>)> {
    Some((
        TaskReport::read(&end.report)?,
        serde_json::from_str(&end.models).unwrap_or_default(),
    ))
}

/// Whether an outcome stays when its run is resumed: whatever would come out the same again. With `failed`, only outputs do.
pub(super) fn keeps(outcome: &Outcome, failed: bool) -> bool {
    match outcome {
        Outcome::Ok(_) => true,
        Outcome::Failure(failure) => match failure.class {
            FailureClass::Exhausted | FailureClass::Cancelled | FailureClass::Model | FailureClass::Host => false,
            FailureClass::Failed
            | FailureClass::Denied
            | FailureClass::ContextOverflow
            | FailureClass::Trapped
            | FailureClass::Escalated
            | FailureClass::Other => !failed,
        },
    }
}

/// The journal of one task.
pub(super) struct TaskLog {
    recorder: Option<Arc<Recorder>>,
    task: TaskId,
    past: Mutex<Past>,
    /// How it ended when it was recorded, with what it used of each model; for a replay.
    end: Option<(TaskReport, Vec<ModelReport>)>,
    /// Everything that was recorded for it to learn has been given.
    caught_up: CancellationToken,
}

/// What is still to be given of what was recorded.
#[derive(Default)]
struct Past {
    calls: BTreeMap<u64, CallRecord>,
    turns: VecDeque<Turn>,
    /// With the number of turns before each.
    remaining: VecDeque<(u64, Allowance)>,
    /// Turns until now.
    given: u64,
    /// A call was made that a replay cannot repeat, since nothing came of it.
    unanswered: bool,
}

/// What stands in the place of a model call where the ask was a sub-task.
#[derive(Serialize, Deserialize)]
struct SubTask {
    task: TaskId,
    ok: bool,
    keeps: bool,
}

impl SubTask {
    /// Whether it will come out as it did.
    fn keeps(&self, mode: Mode) -> bool {
        self.keeps && (self.ok || mode != Mode::Resume { failed: true })
    }
}

#[derive(Serialize, Deserialize)]
struct Remained {
    after: u64,
    left: Allowance,
}

impl TaskLog {
    /// The log of a task of which nothing is recorded.
    pub(super) fn none(task: TaskId) -> Self {
        Self {
            recorder: None,
            task,
            past: Mutex::default(),
            end: None,
            caught_up: CancellationToken::new(),
        }
    }

    /// The log of a task that begins now, or again with `past`.
    pub(super) fn begin(
        recorder: &Arc<Recorder>,
        task: &TaskId,
        (plugin, digest): (&str, &str),
        input: Option<String>,
        past: Option<TaskRecord>,
    ) -> Self {
        let mut end = None;
        let given = past.map_or_else(Past::default, |past| {
            if past.digest != digest {
                recorder.differs(task, None, format!("{plugin} is not the plugin that was recorded"));
            }
            if let (Some(recorded), Some(given)) = (&past.input, &input)
                && recorded != given
            {
                recorder.differs(
                    task,
                    None,
                    format!("the input differs: {}", first_difference(recorded, given)),
                );
            }
            let past = match past.digest == digest || recorder.is_replay() {
                true => past,
                // Another plugin learns things in an order of its own; what was paid for is still good.
                false => TaskRecord {
                    turns: Vec::new(),
                    remaining: Vec::new(),
                    ..past
                },
            };
            end = past.end.as_ref().and_then(read_end);
            Past::of(past, recorder.mode)
        });
        if recorder.writes() {
            recorder.journal.note(Entry::TaskStarted {
                run: recorder.run.clone(),
                task: task.to_string(),
                plugin: plugin.to_owned(),
                digest: digest.to_owned(),
                input: input.filter(|_| recorder.bodies != Bodies::None),
                at_ms: now_ms(),
            });
        }
        let log = Self {
            recorder: Some(Arc::clone(recorder)),
            task: task.clone(),
            past: Mutex::new(given),
            end,
            caught_up: CancellationToken::new(),
        };
        log.see_whether_caught_up(&lock(&log.past));
        log
    }

    fn see_whether_caught_up(&self, past: &Past) {
        if past.turns.is_empty() {
            self.caught_up.cancel();
        }
    }

    /// Waits until a resumed task is where it stopped, unless it has to learn what comes of this ask before: of what it
    /// drops on the way there, nothing is paid for once more.
    pub(super) async fn caught_up(&self, ask: u64) {
        if self.live().is_some() && !lock(&self.past).is_told(ask) {
            self.caught_up.cancelled().await;
        }
    }

    fn live(&self) -> Option<&Arc<Recorder>> {
        self.recorder.as_ref().filter(|recorder| !recorder.is_replay())
    }

    fn written(&self) -> Option<&Arc<Recorder>> {
        self.recorder.as_ref().filter(|recorder| recorder.writes())
    }

    fn is_rehearsal(&self) -> bool {
        self.recorder.as_ref().is_some_and(|recorder| recorder.is_rehearsal())
    }

    pub(super) fn is_replay(&self) -> bool {
        self.recorder.as_ref().is_some_and(|recorder| recorder.is_replay())
    }

    /// What the journal has of this call, which is noted to begin if it has to be made.
    pub(super) fn call(&self, ordinal: u64, ask: &Ask) -> Recorded {
        let Some(recorder) = &self.recorder else {
            return Recorded::Make(Vec::new());
        };
        let body = serde_json::to_string(ask).unwrap_or_default();
        let hash: Hash = Sha256::digest(&body).into();
        let known = lock(&self.past).calls.remove(&ordinal);
        if recorder.is_rehearsal() {
            return self.rehearse(recorder, ordinal, (hash, body), known);
        }
        let told = |known: &CallRecord| {
            let told: Told = serde_json::from_str(known.result.as_ref()?).ok()?;
            Some(Box::new(told))
        };
        if recorder.is_replay() {
            let Some(known) = known else {
                recorder.differs(
                    &self.task,
                    Some(ordinal),
                    "this model call was not made when the run was recorded",
                );
                return Recorded::Differs;
            };
            if known.hash != hash {
                let what = known.body.as_ref().map_or_else(
                    || "the request differs; what was asked was not kept".to_owned(),
                    |recorded| format!("the request differs: {}", first_difference(recorded, &body)),
                );
                recorder.differs(&self.task, Some(ordinal), what);
                return Recorded::Differs;
            }
            if let Some(told) = told(&known) {
                return Recorded::Told(told);
            }
            let mut past = lock(&self.past);
            if past.is_told(ordinal) {
                recorder.differs(
                    &self.task,
                    Some(ordinal),
                    "what the task was told is not in the journal",
                );
                return Recorded::Differs;
            }
            // Its task ended or gave it up before anything was told.
            past.unanswered = true;
            return Recorded::Unanswered;
        }
        let paid = match known.filter(|known| known.hash == hash) {
            None => Vec::new(),
            Some(known) => {
                if let Some(told) = told(&known).filter(|told| told.is_final()) {
                    return Recorded::Told(told);
                }
                let read = |reply: &crate::journal::ReplyRecord| {
                    serde_json::from_str(&reply.body).ok().map(|paid| (reply.hash, paid))
                };
                known.replies.iter().filter_map(read).collect()
            }
        };
        recorder.journal.note(Entry::CallStarted {
            run: recorder.run.clone(),
            task: self.task.to_string(),
            ask: ordinal,
            hash,
            body: (recorder.bodies == Bodies::All).then_some(body),
        });
        Recorded::Make(paid)
    }

    /// Notes that an ask starts a sub-task.
    pub(super) fn starts(&self, ordinal: u64, child: &TaskId) -> Begins {
        let Some(recorder) = &self.recorder else {
            return Begins::Now;
        };
        let known = lock(&self.past).calls.remove(&ordinal);
        if recorder.writes() {
            recorder.journal.note(Entry::CallStarted {
                run: recorder.run.clone(),
                task: self.task.to_string(),
                ask: ordinal,
                hash: Sha256::digest(child.to_string()).into(),
                body: None,
            });
            return match recorder.is_rehearsal() {
                true => self.rehearse_start(recorder, ordinal, child, known),
                false => Begins::Now,
            };
        }
        if known.is_none_or(|known| known.hash != Hash::from(Sha256::digest(child.to_string()))) {
            recorder.differs(
                &self.task,
                Some(ordinal),
                "this sub-task was not started when the run was recorded",
            );
            return Begins::Differs;
        }
        // Every task that began in a run that has ended has an end, too. Where the journal cannot be read, the sub-task
        // itself says so.
        let began = recorder
            .past(child)
            .map(|past| past.is_some_and(|past| past.end.is_some()));
        match began.unwrap_or(true) {
            true => Begins::Again,
            false if lock(&self.past).is_told(ordinal) => Begins::Refused,
            false => Begins::Never,
        }
    }

    /// Notes how the sub-task of an ask came out, before its parent learns it.
    pub(super) fn came_out(&self, ordinal: u64, child: &TaskId, outcome: &Outcome) {
        let Some(recorder) = self.written() else { return };
        let sub_task = SubTask {
            task: child.clone(),
            ok: outcome.ok().is_some(),
            keeps: keeps(outcome, false),
        };
        recorder.journal.note(Entry::CallEnded {
            run: recorder.run.clone(),
            task: self.task.to_string(),
            ask: ordinal,
            result: serde_json::to_string(&sub_task).unwrap_or_default(),
        });
    }

    /// Writes down that a request is about to be sent; it must not be if this fails.
    pub(super) async fn sending(&self, ask: u64, model: &str) -> std::result::Result<(), CallError> {
        let Some(recorder) = self.written() else { return Ok(()) };
        recorder
            .append(Entry::RequestSent {
                run: recorder.run.clone(),
                task: self.task.to_string(),
                ask,
                model: model.to_owned(),
                at_ms: now_ms(),
            })
            .await
    }

    /// Notes that a request was answered, or failed.
    pub(super) fn answered(&self, ask: u64) {
        self.request_ended(ask, [0; 32], None);
    }

    /// Notes a reply that is paid for and is not yet what the task is told.
    pub(super) fn paid(&self, ask: u64, hash: Hash, reply: &Reply, used: &Used) {
        let paid = PaidReply {
            reply: reply.clone(),
            used: Told::new(&Err(CallError::ContextOverflow), used, true, Vec::new()).used,
        };
        self.request_ended(ask, hash, serde_json::to_string(&paid).ok());
    }

    fn request_ended(&self, ask: u64, hash: Hash, reply: Option<String>) {
        let Some(recorder) = self.written() else { return };
        recorder.journal.note(Entry::RequestEnded {
            run: recorder.run.clone(),
            task: self.task.to_string(),
            ask,
            hash,
            reply: reply.filter(|_| recorder.bodies != Bodies::None),
            at_ms: now_ms(),
        });
    }

    /// Makes what the task is told durable, before it is told.
    pub(super) async fn told(&self, ask: u64, told: &Told) -> std::result::Result<(), CallError> {
        let Some(recorder) = self.written() else { return Ok(()) };
        let result = match recorder.bodies {
            Bodies::None => json!({"used": told.used, "models": told.models}).to_string(),
            Bodies::All | Bodies::Replies => serde_json::to_string(told).unwrap_or_default(),
        };
        recorder
            .append(Entry::CallEnded {
                run: recorder.run.clone(),
                task: self.task.to_string(),
                ask,
                result,
            })
            .await
    }

    /// What `remaining` answers: as it was recorded, or `live`.
    pub(super) fn remaining(&self, live: impl FnOnce() -> Allowance) -> Allowance {
        let Some(recorder) = &self.recorder else { return live() };
        let mut past = lock(&self.past);
        let recorded = past
            .remaining
            .front()
            .filter(|(after, _)| *after == past.given)
            .map(|(_, left)| *left);
        let left = recorded.unwrap_or_else(live);
        if recorded.is_some() {
            past.remaining.pop_front();
        }
        if recorder.writes() {
            let value = Remained {
                after: past.given,
                left,
            };
            recorder.journal.note(Entry::Remained {
                run: recorder.run.clone(),
                task: self.task.to_string(),
                value: serde_json::to_string(&value).unwrap_or_default(),
            });
        }
        left
    }

    /// The fuel that the task may use when it is replayed: as much as it used, where that is what ended it.
    pub(super) fn fuel(&self) -> Option<u64> {
        if !self.is_replay() || self.is_rehearsal() {
            return None;
        }
        let out_of_fuel = self.end.as_ref().filter(|(end, _)| {
            end.outcome.failure().and_then(|failure| failure.limit) == Some(crate::limits::LimitKind::Fuel)
        });
        Some(out_of_fuel.map_or(u64::MAX / 4, |(end, _)| end.spent.fuel))
    }

    /// In a replay, what the task used of models where some of it cannot be repeated: nothing came of it.
    pub(super) fn not_repeated(&self) -> Option<&(TaskReport, Vec<ModelReport>)> {
        let unanswered = lock(&self.past).unanswered;
        self.end.as_ref().filter(|_| unanswered)
    }

    /// Writes down how the task ended; in a replay, compares.
    pub(super) fn ended(&self, report: &TaskReport, returned: Option<String>, models: &[ModelReport]) {
        let Some(recorder) = &self.recorder else { return };
        if !recorder.writes() {
            self.compare(recorder, report);
            return;
        }
        recorder.journal.note(Entry::TaskEnded {
            run: recorder.run.clone(),
            task: self.task.to_string(),
            end: TaskEnd {
                ended_ms: now_ms(),
                report: serde_json::to_string(report).unwrap_or_default(),
                returned,
                models: serde_json::to_string(models).unwrap_or_default(),
            },
        });
    }

    fn compare(&self, recorder: &Recorder, report: &TaskReport) {
        let Some((end, _)) = &self.end else {
            recorder.differs(&self.task, None, "this task was not recorded to its end");
            return;
        };
        let outcome = |report: &TaskReport| serde_json::to_string(&report.outcome).unwrap_or_default();
        let (recorded, now) = (outcome(end), outcome(report));
        if recorded != now {
            recorder.differs(
                &self.task,
                None,
                format!("the outcome differs: {}", first_difference(&recorded, &now)),
            );
        }
        if end.spent.fuel != report.spent.fuel {
            let what = format!(
                "it used {} fuel, and {} when it was recorded",
                report.spent.fuel, end.spent.fuel
            );
            recorder.differs(&self.task, None, what);
        }
        // What was asked and never told may be of an earlier time, before the run was resumed.
        let past = lock(&self.past);
        let untold = past.turns.iter().find_map(|turn| match turn {
            Turn::Answer(ask) if past.calls.contains_key(ask) => Some(*ask),
            _ => None,
        });
        if untold.is_some() {
            let what = "this was asked when the run was recorded, and is not now";
            recorder.differs(&self.task, untold, what);
        }
    }
}

impl Order for TaskLog {
    fn next(&self) -> Next {
        match lock(&self.past).turns.front() {
            None if self.is_rehearsal() => Next::Any,
            None if self.is_replay() && self.end.is_none() => Next::Cut {
                time_up: false,
                polls: 0,
            },
            None if self.is_replay() => Next::Nothing,
            None => Next::Any,
            Some(Turn::Answer(ask)) => Next::Answer(*ask),
            Some(Turn::Cut { time_up, polls }) => Next::Cut {
                time_up: *time_up,
                polls: *polls,
            },
        }
    }

    fn lost(&self) -> bool {
        if self.is_rehearsal() {
            lock(&self.past).turns.pop_front();
            return true;
        }
        // A replay has nothing else to go by; a run that goes on can ask anew.
        let goes_on = !self.is_replay();
        if goes_on {
            let mut past = lock(&self.past);
            past.turns.clear();
            self.see_whether_caught_up(&past);
        }
        goes_on
    }

    fn answered(&self, ask: u64) {
        let mut past = lock(&self.past);
        past.turns.pop_front();
        past.given += 1;
        self.see_whether_caught_up(&past);
        self.turned(Turn::Answer(ask));
    }

    fn cut(&self, time_up: bool, polls: u64) {
        lock(&self.past).turns.pop_front();
        self.turned(Turn::Cut { time_up, polls });
    }
}

impl TaskLog {
    fn turned(&self, turn: Turn) {
        if let Some(recorder) = self.written() {
            recorder.journal.note(Entry::Turned {
                run: recorder.run.clone(),
                task: self.task.to_string(),
                turn,
            });
        }
    }
}

impl Past {
    /// Whether the task still has to learn what comes of this ask, as it did.
    fn is_told(&self, ask: u64) -> bool {
        self.turns.contains(&Turn::Answer(ask))
    }

    fn of(record: TaskRecord, mode: Mode) -> Self {
        let remaining = record.remaining.iter().filter_map(|value| {
            let Remained { after, left } = serde_json::from_str(value).ok()?;
            Some((after, left))
        });
        let mut remaining: VecDeque<_> = remaining.collect();
        let calls: BTreeMap<_, _> = record.calls.into_iter().map(|call| (call.ask, call)).collect();
        let mut turns: VecDeque<_> = record.turns.into();
        if !matches!(mode, Mode::Replay | Mode::Rehearsal) {
            // What may come out better now, and all that followed from it, is not told again.
            let is_final = |turn: &Turn| match turn {
                Turn::Cut { .. } => false,
                Turn::Answer(ask) => calls
                    .get(ask)
                    .and_then(|call| call.result.as_ref())
                    .is_some_and(|result| {
                        if let Ok(sub_task) = serde_json::from_str::<SubTask>(result) {
                            return sub_task.keeps(mode);
                        }
                        serde_json::from_str::<Told>(result).is_ok_and(|told| told.is_final())
                    }),
            };
            let kept = turns.iter().take_while(|turn| is_final(turn)).count();
            turns.truncate(kept);
            let kept = kept as u64;
            remaining.retain(|(after, _)| *after <= kept);
        }
        Self {
            calls,
            turns,
            remaining,
            given: 0,
            unanswered: false,
        }
    }
}

/// The digest of a request to a model: what it is told, whatever the room for the answer.
pub(super) fn request_hash(model: &str, request: &Request) -> Hash {
    let told = json!([model, request.system, request.messages, request.schema]);
    Sha256::digest(told.to_string()).into()
}

/// Where two JSON texts begin to differ: the path, and what stands there.
fn first_difference(recorded: &str, now: &str) -> String {
    let (Ok(a), Ok(b)) = (
        serde_json::from_str::<Value>(recorded),
        serde_json::from_str::<Value>(now),
    ) else {
        return "it is no JSON any more".into();
    };
    let mut path = String::new();
    let (a, b) = descend(&a, &b, &mut path);
    let text = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
    let (a, b) = (text(a), text(b));
    let alike = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let path = if path.is_empty() { "/".to_owned() } else { path };
    format!(
        "at {path}: {} was recorded, now {}",
        around(&a, alike),
        around(&b, alike)
    )
}

fn descend<'v>(a: &'v Value, b: &'v Value, path: &mut String) -> (Option<&'v Value>, Option<&'v Value>) {
    match (a, b) {
        (Value::Object(left), Value::Object(right)) => {
            for key in left.keys().chain(right.keys()) {
                let (a, b) = (left.get(key), right.get(key));
                if a != b {
                    path.push('/');
                    path.push_str(key);
                    return match (a, b) {
                        (Some(a), Some(b)) => descend(a, b, path),
                        missing => missing,
                    };
                }
            }
        }
        (Value::Array(left), Value::Array(right)) => {
            for n in 0..left.len().max(right.len()) {
                let (a, b) = (left.get(n), right.get(n));
                if a != b {
                    path.push_str(&format!("/{n}"));
                    return match (a, b) {
                        (Some(a), Some(b)) => descend(a, b, path),
                        missing => missing,
                    };
                }
            }
        }
        _ => {}
    }
    (Some(a), Some(b))
}

/// What stands in a text that may be long, around the byte at `place`.
fn around(text: &str, place: usize) -> String {
    const BEFORE: usize = 40;
    const MOST: usize = 120;
    if text.len() <= MOST {
        return text.to_owned();
    }
    let start = text.floor_char_boundary(place.saturating_sub(BEFORE));
    let end = text.floor_char_boundary(start + MOST);
    let mark = |cut: bool| if cut { "…" } else { "" };
    let shown = text.get(start..end).unwrap_or_default();
    format!("{}{shown}{}", mark(start > 0), mark(end < text.len()))
}

pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
