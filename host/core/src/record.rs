//! The record of a run: the types that the journal stores, that a cassette is made from, and that resuming and replaying
//! read.
//!
//! A run has tasks. A task has *asks*, which are its model calls and the sub-tasks that it starts, numbered from 0, and
//! *turns*, which are the deliveries of their results into the task. Reports are the ones of [`run`](crate::run) and
//! [`task`](crate::task).
//!
//! Every type here is stored as JSON by its serde implementation and read by the same. A stored enum carries the name of
//! its case in a field `kind`. [`FormatVersion`] states what may change.
//!
//! Left out: where a record is stored, and what its plugin, its prices or its limits mean.

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::document::DocumentRecord;
use crate::limits::ledger::Used;
use crate::limits::{LimitKind, LimitOwner, Shortage, Spent, Usd};
use crate::llm::{Allowance, Ask, CallError, CallResult, Reply};
use crate::run::{ModelReport, RunReport};
use crate::task::{Outcome, RecordedReport, TaskId};

/// The version of a stored format.
///
/// The rule for a change of a stored type:
///
/// - A *new field* keeps the version. It has a default, so that older data can be read, and older readers ignore it. It
///   must be safe to ignore: an older program that rewrites a record loses it.
/// - A *new case* of an enum raises the version, because an older reader can neither read nor skip it.
/// - A field that is *removed, renamed or changes its meaning* raises the version.
///
/// A program reads a range of versions. Data of an older version in that range are migrated before anything reads them,
/// so only the migration knows older forms. Data outside the range are refused unchanged, by readers and by writers.
///
/// ```
/// use agenthost_core::record::{FormatError, FormatVersion};
///
/// let known = FormatVersion::new(2)..=FormatVersion::new(3);
/// assert_eq!(FormatVersion::new(2).check(&known), Ok(()));
/// let error = FormatVersion::new(4).check(&known).unwrap_err();
/// assert!(matches!(error, FormatError::TooNew { found, .. } if found == FormatVersion::new(4)));
/// assert_eq!(error.to_string(), "format 4, and this version reads 2 to 3");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FormatVersion(u32);

impl FormatVersion {
    /// Creates a version from its number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Checks that this version is one of `known`.
    ///
    /// # Errors
    ///
    /// Returns the reason if it is not.
    pub fn check(self, known: &RangeInclusive<Self>) -> Result<(), FormatError> {
        let (oldest, newest) = (*known.start(), *known.end());
        if self < oldest {
            return Err(FormatError::TooOld {
                found: self,
                oldest,
                newest,
            });
        }
        if self > newest {
            return Err(FormatError::TooNew {
                found: self,
                oldest,
                newest,
            });
        }
        Ok(())
    }
}

impl fmt::Display for FormatVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The reason why stored data cannot be read: their format is outside of the range that this program reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormatError {
    /// The data were written by a version of the program whose format is no longer read.
    TooOld {
        /// The version of the data.
        found: FormatVersion,
        /// The oldest version that can be read.
        oldest: FormatVersion,
        /// The newest version that can be read.
        newest: FormatVersion,
    },
    /// The data were written by a newer version of the program.
    TooNew {
        /// The version of the data.
        found: FormatVersion,
        /// The oldest version that can be read.
        oldest: FormatVersion,
        /// The newest version that can be read.
        newest: FormatVersion,
    },
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::TooOld { found, oldest, newest } | Self::TooNew { found, oldest, newest }) = self;
        write!(f, "format {found}, and this version reads ")?;
        if oldest != newest {
            write!(f, "{oldest} to ")?;
        }
        newest.fmt(f)
    }
}

impl std::error::Error for FormatError {}

/// The kind of a run.
///
/// ```
/// use agenthost_core::record::RunKind;
///
/// assert_eq!(RunKind::from_name("batch"), Some(RunKind::Batch));
/// assert_eq!(RunKind::from_name("loop"), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunKind {
    /// One root task.
    Run,
    /// Many root tasks, one for each item or group of items.
    Batch,
}

impl RunKind {
    /// Returns the name: `run` or `batch`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Batch => "batch",
        }
    }

    /// Returns the kind with this name; `None` for any other text.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Run, Self::Batch].into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for RunKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How a run ended.
///
/// ```
/// use agenthost_core::record::RunStatus;
///
/// assert_eq!(RunStatus::from_name("interrupted"), Some(RunStatus::Interrupted));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunStatus {
    /// It has an output; for a batch, every item has one.
    Done,
    /// Its root task failed; for a batch, some item did.
    Failed,
    /// It was canceled.
    Interrupted,
}

impl RunStatus {
    /// Returns the name: `done`, `failed` or `interrupted`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    /// Returns the state with this name; `None` for any other text.
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Done, Self::Failed, Self::Interrupted];
        all.into_iter().find(|state| state.name() == name)
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The record of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    /// The run's id.
    pub id: String,
    /// The kind of the run.
    pub kind: RunKind,
    /// The plugin, as `namespace:name@version`.
    pub plugin: String,
    /// The plugin's digest, in hex.
    pub digest: String,
    /// The seed of the run's random numbers.
    pub seed: [u8; 32],
    /// The time on the tasks' clock, in milliseconds since 1970.
    pub clock_ms: u64,
    /// The start time, in milliseconds since 1970.
    pub started_ms: u64,
    /// The parameters needed to start the run again, in the form of the program that started it.
    pub command: Value,
    /// The id of the process that runs it, or ran it last.
    pub pid: u32,
    /// The end of the run; `None` until it has ended.
    pub end: Option<RunEnd>,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunEnd {
    /// The end time, in milliseconds since 1970.
    pub ended_ms: u64,
    /// How it ended.
    pub state: RunStatus,
    /// The sums of the run.
    pub summary: RunSummary,
}

/// The part of a run's report that is stored with the run. Its tasks have records of their own.
///
/// ```
/// use agenthost_core::record::{RunSummary, TaskCounts};
///
/// let batch = RunSummary { counts: TaskCounts::new(3, 1), ..RunSummary::default() };
/// assert_eq!((batch.counts.tasks, batch.outcome), (4, None));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunSummary {
    /// The outcome of the root task; `None` for a batch, and if an output is not kept.
    pub outcome: Option<Outcome>,
    /// The usage of the whole run.
    pub spent: Spent,
    /// The usage of each model.
    pub models: Vec<ModelReport>,
    /// The number of its tasks.
    pub counts: TaskCounts,
    /// Why a batch stopped before its end, if it did. Records of earlier versions do not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<StopRecord>,
}

/// Why a batch stopped before its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct StopRecord {
    /// `limit`, `key-refused`, `max-failures`, `interrupted` or `error`.
    pub reason: String,
    /// The reason as a clause for people; empty if the journal keeps no texts.
    pub message: String,
    /// The limit that was reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitKind>,
    /// The setting of `[allowance]` with that limit; `None` for a limit on the batch itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<LimitOwner>,
}

impl StopRecord {
    /// Creates a record of a stop for `reason`.
    ///
    /// ```
    /// use agenthost_core::record::StopRecord;
    ///
    /// let stop = StopRecord::new("interrupted", "it was interrupted");
    /// assert_eq!((stop.reason.as_str(), stop.limit), ("interrupted", None));
    /// ```
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            message: message.into(),
            ..Self::default()
        }
    }
}

impl RunSummary {
    /// Returns the summary of a report.
    pub fn of(report: &RunReport) -> Self {
        let ok = report.tasks.iter().filter(|task| task.outcome.ok().is_some()).count() as u64;
        Self {
            outcome: Some(report.outcome.clone()),
            spent: report.spent.clone(),
            models: report.models.clone(),
            counts: TaskCounts::new(ok, report.tasks.len() as u64 - ok),
            stopped: None,
        }
    }

    /// Removes whatever may contain text of a model.
    #[must_use]
    pub fn without_texts(mut self) -> Self {
        self.outcome = self.outcome.and_then(outcome_without_texts);
        if let Some(stopped) = &mut self.stopped {
            stopped.message.clear();
        }
        self
    }
}

/// The number of a run's tasks.
///
/// ```
/// use agenthost_core::record::TaskCounts;
///
/// assert_eq!(TaskCounts::new(2, 1), TaskCounts { tasks: 3, ok: 2, failed: 1 });
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskCounts {
    /// All tasks.
    pub tasks: u64,
    /// The tasks with an output.
    pub ok: u64,
    /// The tasks that failed.
    pub failed: u64,
}

impl TaskCounts {
    /// Creates the counts of `ok` tasks with an output and `failed` others.
    pub fn new(ok: u64, failed: u64) -> Self {
        Self {
            tasks: ok.saturating_add(failed),
            ok,
            failed,
        }
    }
}

/// The record of a task.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskRecord {
    /// The task's id.
    pub id: String,
    /// The plugin, as `namespace:name@version`.
    pub plugin: String,
    /// The plugin's digest, in hex.
    pub digest: String,
    /// The task's input; `None` if texts are not kept.
    pub input: Option<Value>,
    /// The start time, in milliseconds since 1970.
    pub started_ms: u64,
    /// The end of the task; `None` until it has ended.
    pub end: Option<TaskEnd>,
    /// The task's asks, in the order of their numbers.
    pub asks: Vec<AskRecord>,
    /// The task's turns, in order.
    pub turns: Vec<Turn>,
    /// The results of `remaining`, in order.
    pub remaining: Vec<Remaining>,
    /// What the task did with its plugin's documents, in order.
    pub documents: Vec<DocumentRecord>,
}

/// The end of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskEnd {
    /// The end time, in milliseconds since 1970.
    pub ended_ms: u64,
    /// The task's report.
    pub report: RecordedReport,
    /// The return value of the task's function, if its parent may need it again.
    pub returned: Option<Value>,
    /// The task's usage per model.
    pub models: Vec<ModelReport>,
}

impl RecordedReport {
    /// Removes whatever may contain text of a model: an output, a failure's message and value, and the log.
    #[must_use]
    pub fn without_texts(mut self) -> Self {
        self.log.clear();
        self.outcome = self.outcome.and_then(outcome_without_texts);
        self
    }
}

fn outcome_without_texts(outcome: Outcome) -> Option<Outcome> {
    match outcome {
        Outcome::Ok(_) => None,
        Outcome::Failure(mut failure) => {
            failure.message.clear();
            failure.error = None;
            Some(Outcome::Failure(failure))
        }
    }
}

/// One ask of a task.
///
/// ```
/// use agenthost_core::record::{AskRecord, Asked};
///
/// let ask = AskRecord::new(0, Asked::Model { hash: [0; 32], request: None });
/// assert_eq!(ask.result, None, "it is still in flight");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct AskRecord {
    /// The number of the ask within its task, counted from 0.
    pub ask: u64,
    /// The model call or the sub-task.
    pub what: Asked,
    /// The ends of requests that are not part of the result, in the order in which they arrived.
    pub requests: Vec<RequestRecord>,
    /// The result for the task; `None` until it is known.
    pub result: Option<AskResult>,
    /// The models, as `provider/model`, of the requests that were sent since the task last started and have not ended.
    pub in_flight: Vec<String>,
}

impl AskRecord {
    /// Creates the record of an ask without a result.
    pub fn new(ask: u64, what: Asked) -> Self {
        Self {
            ask,
            what,
            requests: Vec::new(),
            result: None,
            in_flight: Vec::new(),
        }
    }
}

/// The digest of a request.
pub type RequestHash = [u8; 32];

/// A request of a task: a model call or a sub-task.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// A reply of a model.
    Model {
        /// The digest of the request.
        hash: RequestHash,
        /// The request; `None` if it is not kept.
        request: Option<Ask>,
    },
    /// A sub-task.
    SubTask {
        /// The id of the sub-task.
        task: TaskId,
    },
}

/// The end of a request, with the digest of the request.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestRecord {
    /// The digest of the request; zeros if it does not matter.
    pub hash: RequestHash,
    /// How the request ended.
    pub end: RequestEnd,
}

/// The end of a request that was charged and whose reply is not the result of its call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum RequestEnd {
    /// A reply that was paid for.
    Paid {
        /// The reply.
        reply: Reply,
        /// The charge for it.
        used: RecordedUse,
    },
    /// The request was abandoned after it had been sent, or its reply was replaced because the task was asked again.
    Lost {
        /// The charge for it.
        used: RecordedUse,
        /// The same for the report of its model.
        model: ModelReport,
        /// The replies that were replaced, in the order in which they arrived.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        replaced: Vec<Reply>,
    },
}

/// The result of an ask, as the task receives it.
///
/// ```
/// use agenthost_core::llm::CallError;
/// use agenthost_core::record::{AskResult, RecordedUse};
///
/// let failed = AskResult::of_call(Err(CallError::ContextOverflow), RecordedUse::unsent(), Vec::new());
/// assert_eq!(failed.clone().into_call_result(), Some(Err(CallError::ContextOverflow)));
/// assert_eq!(failed.without_texts().into_call_result(), None);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AskResult {
    /// The reply of a model.
    Reply {
        /// The reply.
        #[serde(rename = "ok")]
        reply: Reply,
        /// The charge for all requests of the call.
        used: RecordedUse,
        /// The same by model.
        #[serde(default)]
        models: Vec<ModelReport>,
    },
    /// The error of a model call.
    Error {
        /// The error.
        #[serde(rename = "err")]
        error: CallError,
        /// The amount by which a limit was too low for the call.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shortage: Option<Shortage>,
        /// The charge for all requests of the call.
        used: RecordedUse,
        /// The same by model.
        #[serde(default)]
        models: Vec<ModelReport>,
    },
    /// The result of a model call whose texts are not kept.
    NotKept {
        /// The charge for all requests of the call.
        used: RecordedUse,
        /// The same by model.
        #[serde(default)]
        models: Vec<ModelReport>,
    },
    /// The outcome of a sub-task, which has a record of its own.
    SubTask {
        /// The sub-task.
        task: TaskId,
        /// `true` if it has an output.
        ok: bool,
        /// `true` if running it again would give the same outcome.
        keeps: bool,
    },
}

impl AskResult {
    /// Creates the result of a model call.
    #[doc(hidden)]
    pub fn of_call(result: CallResult, used: RecordedUse, models: Vec<ModelReport>) -> Self {
        match result {
            Ok(reply) => Self::Reply { reply, used, models },
            Err(error) => Self::Error {
                error,
                shortage: None,
                used,
                models,
            },
        }
    }

    /// Adds to the error of a model call the amount by which a limit was too low for it.
    #[doc(hidden)]
    #[must_use]
    pub fn with_shortage(mut self, short: Option<Shortage>) -> Self {
        if let Self::Error { shortage, .. } = &mut self {
            *shortage = short;
        }
        self
    }

    /// Removes the reply or the error of a model call.
    #[must_use]
    pub fn without_texts(self) -> Self {
        match self {
            Self::Reply { used, models, .. } | Self::Error { used, models, .. } => Self::NotKept { used, models },
            other @ (Self::NotKept { .. } | Self::SubTask { .. }) => other,
        }
    }

    /// Returns what a task receives as the result of a model call; `None` if the texts are not kept, and for a
    /// sub-task.
    pub fn into_call_result(self) -> Option<CallResult> {
        match self {
            Self::Reply { reply, .. } => Some(Ok(reply)),
            Self::Error { error, .. } => Some(Err(error)),
            Self::NotKept { .. } | Self::SubTask { .. } => None,
        }
    }

    /// Returns the charge for a model call and its use of each model; `None` for a sub-task.
    pub fn charge(&self) -> Option<(&RecordedUse, &[ModelReport])> {
        match self {
            Self::Reply { used, models, .. } | Self::Error { used, models, .. } | Self::NotKept { used, models } => {
                Some((used, models))
            }
            Self::SubTask { .. } => None,
        }
    }
}

/// A charge, with its cost in pico-dollars, so that sums stay exact.
///
/// ```
/// use agenthost_core::limits::ledger::Used;
/// use agenthost_core::record::RecordedUse;
///
/// let used = Used { input: 12, output: 3, ..Used::default() };
/// assert_eq!(RecordedUse::sent(&used).charged(), Some(used));
/// assert_eq!(RecordedUse::unsent().charged(), None);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordedUse {
    /// Input tokens, including cached ones.
    pub input: u64,
    /// The part of the input that was read from a cache.
    pub cached: u64,
    /// Output tokens.
    pub output: u64,
    /// The cost; `None` if the price is unknown.
    pub pico_usd: Option<u64>,
    /// `true` if a request was sent, so that it counts as a call.
    pub sent: bool,
}

impl RecordedUse {
    /// Creates the charge for requests that were sent.
    #[doc(hidden)]
    pub fn sent(used: &Used) -> Self {
        Self {
            input: used.input,
            cached: used.cached_input,
            output: used.output,
            pico_usd: used.cost.map(Usd::pico),
            sent: true,
        }
    }

    /// Creates the charge of a call without a request.
    pub fn unsent() -> Self {
        Self {
            pico_usd: Some(0),
            ..Self::default()
        }
    }

    /// Returns the amounts.
    pub fn used(&self) -> Used {
        Used {
            input: self.input,
            cached_input: self.cached,
            output: self.output,
            cost: self.pico_usd.map(Usd::from_pico),
        }
    }

    /// Returns the amounts; `None` if no request was sent.
    pub fn charged(&self) -> Option<Used> {
        self.sent.then(|| self.used())
    }
}

/// A delivery into a task, or the end of the task from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The result of the ask with this number.
    Answer(u64),
    /// The task was cut off.
    Cut(Cut),
}

/// The end of a task from outside: it ran out of time or was canceled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cut {
    /// `true` if the task ran out of time; otherwise it was canceled.
    pub time_up: bool,
    /// The number of polls of the guest since its last turn.
    pub polls: u64,
}

/// A result of `remaining`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Remaining {
    /// The number of turns before it.
    pub after: u64,
    /// The allowance that was left.
    pub left: Allowance,
}

/// The time that a request to a model was in flight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CallSpan {
    /// The task.
    pub task: String,
    /// The number of the ask within its task.
    pub ask: u64,
    /// The model, as `provider/model`.
    pub model: String,
    /// The time at which the request was sent, in milliseconds since 1970.
    pub sent_ms: u64,
    /// The time at which the request was answered; `None` if it never was.
    pub ended_ms: Option<u64>,
}
