//! The journal of one task: records the task while it runs, and supplies the recorded replies when it runs again.

mod rehearsal;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::difference::first_difference;
use super::past::Past;
use super::told::{PastCall, RecordedReply, is_final, is_replaced, replaced};
use super::{Earlier, FULL, Recorder, keeps, lock, now_ms, whole_end};
use agenthost_config::BodyRetention;
use agenthost_core::limits::ledger::Used;
use agenthost_core::llm::{Allowance, Ask, CallError, Reply};
use agenthost_core::run::ModelReport;
use agenthost_core::task::{Failure, Outcome, TaskId, TaskReport};
use agenthost_journal::{
    AskRecord, AskResult, Asked, Cut, JournalEntry, RecordedUse, Remaining, RequestEnd, RequestHash, RequestRecord,
    TaskEnd, Turn,
};
use agenthost_sandbox::{NextTurn, TurnOrder};

/// The journal's content for a model call.
pub(crate) enum Recorded {
    /// No final reply: the call has to be made, with what is known of earlier attempts.
    Make(PastCall),
    /// The recorded reply.
    Told(Box<RecordedReply>),
    /// The task never received a reply (in a replay).
    Unanswered,
    /// The request differs from the recorded one (in a replay).
    Differs,
}

/// The treatment of a sub-task that a guest starts.
pub(crate) enum SubTaskReplay {
    /// It runs.
    Now,
    /// The replay runs it again: it ran when recorded, and its parent may have given it up.
    Again,
    /// The replay refuses it, as when recorded.
    Refused,
    /// Its parent gave it up before it began (in a replay).
    Never,
    /// It was not started when recorded (in a replay).
    Differs,
}

/// The journal of one task.
pub(crate) struct TaskLog {
    pub(super) recorder: Option<Arc<Recorder>>,
    pub(super) task: TaskId,
    pub(super) past: Mutex<Past>,
    /// The recorded end of the task and its usage of each model, for a replay.
    end: Option<(TaskReport, Vec<ModelReport>)>,
    /// Canceled once all recorded turns have been delivered.
    caught_up: CancellationToken,
    /// The bytes noted since the task last waited for the journal to be written.
    undrained: AtomicU64,
    /// The long requests that are being looked up on blocking threads.
    apart: TaskTracker,
}

/// The size in bytes above which a request is serialized and hashed on a blocking thread. Up to this size, that takes a
/// fraction of a millisecond.
const LONG_REQUEST: usize = 64 << 10;

/// The bytes that a task may note before it waits for them to be written: some 400 small entries. The entries of all tasks
/// are written in one order, so this is also what a task that floods the journal makes each of the others wait for.
const MAX_UNDRAINED: u64 = 64 << 10;

/// The maximum length of a stored body for a call that is refused immediately, because a guest can make any number of
/// those.
const MAX_REFUSED_BODY: usize = 16 << 10;

impl TaskLog {
    /// Creates the log of a task without a journal.
    pub(crate) fn none(task: TaskId) -> Self {
        Self {
            recorder: None,
            task,
            past: Mutex::default(),
            end: None,
            caught_up: CancellationToken::new(),
            undrained: AtomicU64::new(0),
            apart: TaskTracker::new(),
        }
    }

    /// Creates the log of a task that starts, or that runs again with the record `past`.
    pub(crate) fn begin(
        recorder: &Arc<Recorder>,
        task: &TaskId,
        (plugin, digest): (&str, &str),
        input: Option<Value>,
        earlier: Option<Earlier>,
    ) -> Self {
        let (mut end, mut asked_again) = (None, Vec::new());
        let given = earlier.map_or_else(Past::default, |earlier| {
            let past = earlier.record;
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
            let mut past = past;
            if past.digest != digest && !recorder.is_replay() {
                // Another plugin has its own order of turns, but paid replies remain usable.
                past.turns.clear();
                past.remaining.clear();
            }
            end = past.end.clone().and_then(whole_end);
            if recorder.ask_again(task).is_here() {
                past.turns.clear();
                past.remaining.clear();
                for ask in &mut past.asks {
                    if let Asked::Model { .. } = ask.what {
                        ask.requests = replaced(ask, recorder.bodies != BodyRetention::None);
                        ask.result = None;
                        asked_again.push(ask.clone());
                    }
                }
            }
            Past {
                began: earlier.began,
                ..Past::of(past, recorder.mode, recorder.ask_again(task))
            }
        });
        if recorder.writes() {
            recorder.note(JournalEntry::TaskStarted {
                run: recorder.run.clone(),
                task: task.to_string(),
                plugin: plugin.to_owned(),
                digest: digest.to_owned(),
                input: input.filter(|_| recorder.bodies != BodyRetention::None),
                at_ms: now_ms(),
            });
        }
        // All at once and before the task can send anything, so that no later execution uses one of the replies.
        for ask in asked_again {
            recorder.note(JournalEntry::AskedAgain {
                run: recorder.run.clone(),
                task: task.to_string(),
                ask: ask.ask,
                what: ask.what,
                requests: ask.requests,
            });
        }
        let log = Self {
            recorder: Some(Arc::clone(recorder)),
            task: task.clone(),
            past: Mutex::new(given),
            end,
            caught_up: CancellationToken::new(),
            undrained: AtomicU64::new(0),
            apart: TaskTracker::new(),
        };
        log.see_whether_caught_up(&lock(&log.past));
        log
    }

    pub(super) fn note(&self, recorder: &Recorder, entry: JournalEntry) {
        let bytes = recorder.note(entry);
        self.undrained.fetch_add(bytes, Ordering::Relaxed);
    }

    fn see_whether_caught_up(&self, past: &Past) {
        if past.turns.is_empty() {
            self.caught_up.cancel();
        }
    }

    /// Waits until a resumed task has reached the point where it stopped, so that no paid request is repeated for a
    /// call that the task drops on the way. Does not wait if a recorded turn delivers the reply to this request.
    pub(crate) async fn caught_up(&self, ask: u64) {
        if self.live().is_some() && !lock(&self.past).is_told(ask) {
            self.caught_up.cancelled().await;
        }
    }

    fn live(&self) -> Option<&Arc<Recorder>> {
        self.recorder.as_ref().filter(|recorder| !recorder.is_replay())
    }

    pub(super) fn written(&self) -> Option<&Arc<Recorder>> {
        self.recorder.as_ref().filter(|recorder| recorder.writes())
    }

    fn is_rehearsal(&self) -> bool {
        self.recorder.as_ref().is_some_and(|recorder| recorder.is_rehearsal())
    }

    pub(crate) fn is_replay(&self) -> bool {
        self.recorder.as_ref().is_some_and(|recorder| recorder.is_replay())
    }

    /// Returns the tracker for looking up `ask` on a blocking thread, if it is long and the task is live. The guest does not
    /// continue until the lookup is done ([`TurnOrder::room`]), so its entries keep their order and at most one long request
    /// waits.
    pub(crate) fn apart(&self, ask: &Ask) -> Option<&TaskTracker> {
        let recorder = self.written()?;
        (!recorder.is_rehearsal() && ask.bytes() > LONG_REQUEST).then_some(&self.apart)
    }

    /// Waits until no long request is being noted.
    pub(crate) async fn noted(&self) {
        self.apart.close();
        self.apart.wait().await;
    }

    /// Returns the record of this call. If the call has to be made, notes that it begins, with its body if `keep_body` is true
    /// or the body is short. `refused` returns the reason why the plugin's own manifest does not allow the call. It is asked
    /// only in a rehearsal: a live call is refused where it is made, and a replay repeats the recorded result.
    pub(crate) fn call(
        &self,
        ordinal: u64,
        ask: &Ask,
        keep_body: bool,
        refused: impl FnOnce() -> Option<String>,
    ) -> Recorded {
        let Some(recorder) = &self.recorder else {
            return Recorded::Make(PastCall::default());
        };
        let text = serde_json::to_string(ask).unwrap_or_default();
        let hash: RequestHash = Sha256::digest(&text).into();
        let length = text.len();
        drop(text);
        let known = lock(&self.past).asks.remove(&ordinal);
        if recorder.is_rehearsal() {
            return self.rehearse(recorder, ordinal, (hash, ask), (known, refused()));
        }
        if recorder.is_replay() {
            let Some(known) = known else {
                recorder.differs(
                    &self.task,
                    Some(ordinal),
                    "this model call was not made when the run was recorded",
                );
                return Recorded::Differs;
            };
            if let Some(what) = request_differs(&known.what, &hash, ask) {
                recorder.differs(&self.task, Some(ordinal), what);
                return Recorded::Differs;
            }
            if let Some(told) = known.result.and_then(RecordedReply::of) {
                return Recorded::Told(Box::new(told));
            }
            let mut past = lock(&self.past);
            if past.is_told(ordinal) {
                recorder.differs(
                    &self.task,
                    Some(ordinal),
                    "the journal does not contain what the task received",
                );
                return Recorded::Differs;
            }
            // The task ended, or gave the call up, before it received a reply.
            past.unanswered = true;
            return Recorded::Unanswered;
        }
        let mut requests = Vec::new();
        let past = match known {
            None => PastCall::default(),
            Some(known) if !is_same_request(&known.what, &hash, ask) => {
                // What it has cost stays part of the run.
                requests = replaced(&known, recorder.bodies != BodyRetention::None);
                PastCall::of(AskRecord {
                    requests: requests.clone(),
                    result: None,
                    ..known
                })
            }
            Some(known) => {
                let told = known.result.clone().filter(|result| is_final(result, recorder.mode));
                if let Some(told) = told.and_then(RecordedReply::of) {
                    return Recorded::Told(Box::new(told));
                }
                PastCall::of(known)
            }
        };
        let keep = recorder.bodies == BodyRetention::All && (keep_body || length <= MAX_REFUSED_BODY);
        let request = keep.then(|| ask.clone());
        let what = Asked::Model { hash, request };
        match requests.is_empty() {
            true => self.asked(recorder, ordinal, what),
            false => self.note(
                recorder,
                JournalEntry::AskedAgain {
                    run: recorder.run.clone(),
                    task: self.task.to_string(),
                    ask: ordinal,
                    what,
                    requests,
                },
            ),
        }
        Recorded::Make(past)
    }

    fn asked(&self, recorder: &Recorder, ask: u64, what: Asked) {
        self.note(
            recorder,
            JournalEntry::Asked {
                run: recorder.run.clone(),
                task: self.task.to_string(),
                ask,
                what,
            },
        );
    }

    /// Notes that a request starts a sub-task.
    pub(crate) fn starts(&self, ordinal: u64, child: &TaskId) -> SubTaskReplay {
        let Some(recorder) = &self.recorder else {
            return SubTaskReplay::Now;
        };
        let known = lock(&self.past).asks.remove(&ordinal);
        let what = Asked::SubTask { task: child.clone() };
        let same = known.as_ref().is_some_and(|known| known.what == what);
        if recorder.writes() {
            lock(&self.past).replaced.extend(known.filter(|_| !same));
            self.asked(recorder, ordinal, what);
            // A rehearsal starts an unknown sub-task as a live run does.
            if !recorder.is_rehearsal() || !same {
                return SubTaskReplay::Now;
            }
        } else if !same {
            recorder.differs(
                &self.task,
                Some(ordinal),
                "this sub-task was not started when the run was recorded",
            );
            return SubTaskReplay::Differs;
        }
        let past = lock(&self.past);
        // If it is not known which sub-tasks began, the sub-task itself reports the error of the journal.
        if past.began.as_ref().is_none_or(|began| began.contains(child)) {
            SubTaskReplay::Again
        } else if past.is_told(ordinal) {
            SubTaskReplay::Refused
        } else if recorder.is_rehearsal() {
            // Its parent dropped it before it began.
            SubTaskReplay::Differs
        } else {
            SubTaskReplay::Never
        }
    }

    /// Notes the outcome of a sub-task, before its parent receives it.
    pub(crate) fn came_out(&self, ordinal: u64, child: &TaskId, outcome: &Outcome) {
        let Some(recorder) = self.written() else { return };
        self.note(
            recorder,
            JournalEntry::Answered {
                run: recorder.run.clone(),
                task: self.task.to_string(),
                ask: ordinal,
                result: AskResult::SubTask {
                    task: child.clone(),
                    ok: outcome.ok().is_some(),
                    keeps: keeps(outcome, false),
                },
            },
        );
    }

    /// Records that a request is about to be sent. The request must not be sent if this fails.
    pub(crate) async fn sending(&self, ask: u64, model: &str) -> std::result::Result<(), CallError> {
        let Some(recorder) = self.written() else { return Ok(()) };
        recorder
            .append(JournalEntry::RequestSent {
                run: recorder.run.clone(),
                task: self.task.to_string(),
                ask,
                model: model.to_owned(),
                at_ms: now_ms(),
            })
            .await
    }

    /// Notes that a request was answered or failed.
    pub(crate) fn answered(&self, ask: u64) {
        self.request_ended(ask, None);
    }

    /// Notes a paid reply that is not yet the final reply to the task.
    pub(crate) fn paid(&self, ask: u64, hash: RequestHash, reply: &Reply, used: &Used) {
        let Some(recorder) = self.written() else { return };
        let end = (recorder.bodies != BodyRetention::None).then(|| RequestEnd::Paid {
            reply: reply.clone(),
            used: RecordedUse::sent(used),
        });
        self.request_ended(ask, end.map(|end| RequestRecord { hash, end }));
    }

    /// Notes that a request was given up, and its charge. The entry contains no text of the request.
    pub(crate) fn lost(&self, ask: u64, used: &Used, model: &ModelReport) {
        let end = RequestEnd::Lost {
            used: RecordedUse::sent(used),
            model: model.clone(),
            replaced: Vec::new(),
        };
        let hash = RequestHash::default();
        self.request_ended(ask, Some(RequestRecord { hash, end }));
    }

    fn request_ended(&self, ask: u64, request: Option<RequestRecord>) {
        let Some(recorder) = self.written() else { return };
        self.note(
            recorder,
            JournalEntry::RequestEnded {
                run: recorder.run.clone(),
                task: self.task.to_string(),
                ask,
                request,
                at_ms: now_ms(),
            },
        );
    }

    /// Makes the result of a call durable before the task receives it.
    pub(crate) async fn told(&self, ask: u64, result: AskResult) -> std::result::Result<(), CallError> {
        let Some(recorder) = self.written() else { return Ok(()) };
        let result = match recorder.bodies {
            BodyRetention::None => result.without_texts(),
            BodyRetention::All | BodyRetention::Replies => result,
        };
        recorder
            .append(JournalEntry::Answered {
                run: recorder.run.clone(),
                task: self.task.to_string(),
                ask,
                result,
            })
            .await
    }

    /// Returns the recorded result of `remaining`, or `live` if there is none.
    pub(crate) fn remaining(&self, live: impl FnOnce() -> Allowance) -> Allowance {
        let Some(recorder) = &self.recorder else { return live() };
        let mut past = lock(&self.past);
        let after = past.given;
        let recorded = past.remaining.pop_front_if(|left| left.after == after);
        let left = recorded.map_or_else(live, |recorded| recorded.left);
        if recorder.writes() {
            self.note(
                recorder,
                JournalEntry::Remained {
                    run: recorder.run.clone(),
                    task: self.task.to_string(),
                    remaining: Remaining { after, left },
                },
            );
        }
        left
    }

    /// Returns the fuel limit of a replayed task: the recorded usage if the task ended by running out of fuel,
    /// otherwise practically unlimited. `None` if the task is not replayed, or in a rehearsal.
    pub(crate) fn fuel(&self) -> Option<u64> {
        if !self.is_replay() || self.is_rehearsal() {
            return None;
        }
        let out_of_fuel = self.end.as_ref().filter(|(end, _)| {
            end.outcome.failure().and_then(|failure| failure.limit) == Some(agenthost_core::limits::LimitKind::Fuel)
        });
        Some(out_of_fuel.map_or(u64::MAX / 4, |(end, _)| end.spent.fuel))
    }

    /// Resolves once the run exceeds its journal limit; never if nothing is written.
    pub(crate) async fn journal_filled(&self) {
        match self.written() {
            Some(recorder) => recorder.filled().await,
            None => std::future::pending().await,
        }
    }

    /// Returns the failure of a task that was canceled because its run exceeded the journal limit. A replay repeats
    /// it.
    pub(crate) fn journal_full(&self) -> Option<Failure> {
        if let Some(recorder) = self.written() {
            return recorder.full();
        }
        let (end, _) = self.end.as_ref()?;
        end.outcome
            .failure()
            .filter(|failure| failure.message.starts_with(FULL))
            .cloned()
    }

    /// Returns the recorded failure of a task that a replay ends at the same limit, if another account stopped it: a replay
    /// does not know that account.
    pub(crate) fn recorded_limit(&self, failure: &Failure) -> Option<Failure> {
        let (end, _) = self.end.as_ref().filter(|_| self.is_replay())?;
        let recorded = end.outcome.failure()?;
        let plain = Failure {
            message: failure.message.clone(),
            owner: None,
            shortage: None,
            ..recorded.clone()
        };
        let is_same = plain == *failure && recorded.message.starts_with(&failure.message);
        (recorded.owner.is_some() && is_same).then(|| recorded.clone())
    }

    /// Returns the recorded end and usage in a replay that cannot repeat the usage: a call had no recorded reply, or an
    /// execution before the task was asked again made a call that the last one did not.
    pub(crate) fn not_repeated(&self) -> Option<&(TaskReport, Vec<ModelReport>)> {
        let past = lock(&self.past);
        let is_paid = |(ask, known): (&u64, &AskRecord)| !past.is_told(*ask) && !replaced(known, false).is_empty();
        let cannot = self.is_replay() && (past.unanswered || past.asks.iter().any(is_paid));
        self.end.as_ref().filter(|_| cannot)
    }

    /// Returns what the calls have cost that an earlier execution of the task made and this one did not, since the task or
    /// one below it was asked again, and their use of models.
    pub(crate) fn left_over(&self) -> Vec<(Used, Vec<ModelReport>)> {
        let Some(recorder) = self.recorder.as_ref().filter(|recorder| recorder.is_resumed()) else {
            return Vec::new();
        };
        let past = lock(&self.past);
        let cost = |ask: &AskRecord| {
            if recorder.again.is_empty() && !is_replaced(ask) {
                return None;
            }
            let past = PastCall::of(AskRecord {
                requests: replaced(ask, false),
                result: None,
                in_flight: Vec::new(),
                ..ask.clone()
            });
            Some((past.lost?, past.models))
        };
        past.asks.values().chain(&past.replaced).filter_map(cost).collect()
    }

    /// Returns whether a replay did not start a sub-task of the record, of which it has started `started`.
    pub(crate) fn has_left_tasks(&self, started: u32) -> bool {
        let past = lock(&self.past);
        let is_left = |child: &TaskId| child.order().last().is_some_and(|number| *number >= started);
        past.began.iter().flatten().any(is_left)
    }

    /// Records how the task ended; a replay compares it with the record.
    pub(crate) fn ended(&self, report: &TaskReport, returned: Option<Value>, models: &[ModelReport]) {
        let Some(recorder) = &self.recorder else { return };
        if !recorder.writes() {
            self.compare(recorder, report);
            return;
        }
        let mut report = report.clone().recorded();
        if recorder.bodies == BodyRetention::None {
            report = report.without_texts();
        }
        self.note(
            recorder,
            JournalEntry::TaskEnded {
                run: recorder.run.clone(),
                task: self.task.to_string(),
                end: TaskEnd {
                    ended_ms: now_ms(),
                    report,
                    returned: returned.filter(|_| recorder.bodies != BodyRetention::None),
                    models: models.to_vec(),
                },
            },
        );
    }

    fn compare(&self, recorder: &Recorder, report: &TaskReport) {
        let Some((end, _)) = &self.end else {
            recorder.differs(&self.task, None, "this task was not recorded to its end");
            return;
        };
        let same = match (&end.outcome, &report.outcome) {
            (Outcome::Failure(recorded), Outcome::Failure(now)) => recorded.agrees_with(now),
            (recorded, now) => recorded == now,
        };
        if !same {
            let (recorded, now) = (json!(end.outcome), json!(report.outcome));
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
        // Unanswered requests without a turn may be from before the run was resumed.
        let past = lock(&self.past);
        let untold = past.turns.iter().find_map(|turn| match turn {
            Turn::Answer(ask) if past.asks.contains_key(ask) => Some(*ask),
            _ => None,
        });
        if untold.is_some() {
            let what = "this was asked when the run was recorded, and is not now";
            recorder.differs(&self.task, untold, what);
        }
    }
}

/// Returns whether a task asked for a reply to `ask`, whose digest is `hash`. The digest of a request with media may differ,
/// because media were once written as lists of numbers.
pub(super) fn is_same_request(known: &Asked, hash: &RequestHash, ask: &Ask) -> bool {
    let Asked::Model { hash: known, request } = known else {
        return false;
    };
    known == hash || (ask.has_media() && request.as_ref() == Some(ask))
}

/// Returns how the request `ask` differs from the recorded one; `None` if it does not.
fn request_differs(known: &Asked, hash: &RequestHash, ask: &Ask) -> Option<String> {
    if is_same_request(known, hash, ask) {
        return None;
    }
    Some(match known {
        Asked::SubTask { .. } => "this was a sub-task when the run was recorded, and is a model call now".to_owned(),
        Asked::Model { request: None, .. } => "the request differs; what was asked was not kept".to_owned(),
        Asked::Model {
            request: Some(recorded),
            ..
        } => {
            let difference = first_difference(&json!(recorded), &json!(ask));
            format!("the request differs: {difference}")
        }
    })
}

impl TurnOrder for TaskLog {
    fn room(&self) -> Option<BoxFuture<'static, ()>> {
        let recorder = self.written()?;
        if !self.apart.is_empty() {
            let apart = self.apart.clone();
            return Some(Box::pin(async move {
                apart.close();
                apart.wait().await;
            }));
        }
        if self.undrained.load(Ordering::Relaxed) < MAX_UNDRAINED {
            return None;
        }
        self.undrained.store(0, Ordering::Relaxed);
        recorder.journal.drained()
    }

    fn next(&self) -> NextTurn {
        match lock(&self.past).turns.front() {
            None if self.is_rehearsal() => NextTurn::Any,
            None if self.is_replay() && self.end.is_none() => NextTurn::Cut {
                time_up: false,
                polls: 0,
            },
            None if self.is_replay() => NextTurn::Nothing,
            None => NextTurn::Any,
            Some(Turn::Answer(ask)) => NextTurn::Answer(*ask),
            Some(Turn::Cut(Cut { time_up, polls })) => NextTurn::Cut {
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
        // A replay depends on the recorded order, but a resumed run can make new requests.
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
        self.turned(Turn::Cut(Cut { time_up, polls }));
    }
}

impl TaskLog {
    fn turned(&self, turn: Turn) {
        if let Some(recorder) = self.written() {
            self.note(
                recorder,
                JournalEntry::Turned {
                    run: recorder.run.clone(),
                    task: self.task.to_string(),
                    turn,
                },
            );
        }
    }
}
