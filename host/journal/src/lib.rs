//! The durable record of runs: the requests and replies of each task, what was paid for, and the order in which each
//! task received its replies.
//!
//! [`Journal`] is the contract: one writer appends entries in order, an entry is durable once [`Journal::append`] has
//! resolved, and entries can be read back by run and by task. Bodies are opaque JSON text. The record serves two
//! purposes: *resume* continues a stopped run without repeating an answered request, and *replay* re-executes a run
//! with no provider. Both rely on a task being a function of its input, its seed and the replies it received, in that
//! order.
//!
//! A task numbers its *asks*, which are its model calls and the sub-tasks that it starts, from 0. A *turn* is one
//! delivery of a reply into a task.
//!
//! The order of entries is a guarantee: everything that a guest received precedes everything that it asked afterward,
//! so a journal that is cut off at any entry describes a state that the run was in.
//!
//! Left out: the meaning of a run. The journal does not interpret plugins, prices or limits.

pub mod cassette;
mod error;
#[cfg(feature = "sqlite")]
pub mod sqlite;

use std::fmt;

use futures_util::future::BoxFuture;

use agenthost_core::error::Result;

pub use self::error::{CassetteError, DatabaseProblem, JournalError};

/// The version of the format. A journal with a newer version is refused; one with an older version is upgraded when it
/// is opened. Within a version, readers ignore unknown fields of bodies.
pub const FORMAT: u32 = 1;

/// A durable record of runs.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost_journal::{JournalEntry, Journal, Keep, RunRecord, sqlite::Sqlite};
///
/// # let dir = tempfile::tempdir()?;
/// let journal: Box<dyn Journal> = Box::new(Sqlite::open(&dir.path().join("journal.db"))?);
/// let run = RunRecord {
///     id: "1m843gzav-gts0e".into(),
///     kind: "run".into(),
///     plugin: "demo:ask@0.1.0".into(),
///     digest: "00".repeat(32),
///     seed: [0; 32],
///     clock_ms: 1_795_000_000_000,
///     started_ms: 1_795_000_000_000,
///     command: "null".into(),
///     pid: std::process::id(),
///     end: None,
/// };
/// journal.append(JournalEntry::RunStarted(run.clone())).await?; // it is on the disk now
/// assert_eq!(journal.find("1m84")?, run);
/// let kept = journal.prune(&Keep { after_ms: Some(run.started_ms - 1), latest: None })?;
/// assert_eq!(kept.runs, 0);
/// # Ok(())
/// # }
/// ```
pub trait Journal: Send + Sync + fmt::Debug {
    /// Appends `entry` after all earlier entries, and resolves once it is durable.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Host`](agenthost_core::error::ErrorClass::Host), with the file and the storage error. After one
    /// failed append, every later one fails as well, because it would follow a gap.
    fn append(&self, entry: JournalEntry) -> BoxFuture<'static, Result<()>>;

    /// Appends `entry` in order without waiting. If that fails, the next [`Journal::append`] returns the error.
    fn note(&self, entry: JournalEntry);

    /// Resolves once every entry noted so far is written or has failed; `None` if the journal keeps no queue. A task
    /// with many noted entries waits for this before it continues, so that no guest produces entries faster than they
    /// are written.
    fn drained(&self) -> Option<BoxFuture<'static, ()>> {
        None
    }

    /// Returns the number of bytes that the entries of a run take, by [`JournalEntry::bytes`] or a close estimate; 0 if the
    /// journal does not count them.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read.
    fn run_bytes(&self, _run: &str) -> Result<u64> {
        Ok(0)
    }

    /// Makes this process the owner of `run`, and clears the end of the run. The check and the change are one atomic
    /// step: if several processes try at once, one succeeds.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Usage`](agenthost_core::error::ErrorClass::Usage), with the process id, if another live process
    /// owns the run.
    fn take_over(&self, run: &str) -> Result<()> {
        let run = run.to_owned();
        let pid = std::process::id();
        self.note(JournalEntry::RunResumed { run, pid });
        Ok(())
    }

    /// Returns the live process that owns `run`; `None` if the run has ended or its process is gone.
    ///
    /// # Errors
    ///
    /// As [`Journal::find`].
    fn running(&self, run: &str) -> Result<Option<u32>> {
        let run = self.find(run)?;
        let pid = run.end.is_none().then_some(run.pid);
        Ok(pid.filter(|pid| agenthost_core::process::is_alive(*pid)))
    }

    /// Returns at most `most` runs, the latest first.
    fn runs(&self, most: usize) -> Result<Vec<RunRecord>>;

    /// Returns the run with this id, or the only run whose id has this prefix, or the latest run for `last`.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Usage`](agenthost_core::error::ErrorClass::Usage) if no run or several runs match.
    fn find(&self, id: &str) -> Result<RunRecord>;

    /// Returns a task of a run with all its calls and turns; `None` if it never started.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or if a record was changed or damaged.
    fn task(&self, run: &str, task: &str) -> Result<Option<TaskRecord>>;

    /// Returns the tasks of a run below `under` (at all levels, without `under` itself), in the order of their ids and
    /// without their calls and turns: at most `most`, starting after `after`.
    fn tasks(&self, run: &str, under: &str, after: Option<&str>, most: usize) -> Result<Vec<TaskRecord>>;

    /// Returns the model calls of a run, in the order in which they were sent and without bodies: at most `most`.
    fn calls(&self, run: &str, most: usize) -> Result<Vec<CallSpan>>;

    /// Removes runs that are neither kept nor live, and frees their space. Returns the number of runs and bytes.
    fn prune(&self, keep: &Keep) -> Result<Pruned>;
}

/// The record of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    /// The run's id.
    pub id: String,
    /// `run` or `batch`.
    pub kind: String,
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
    /// The parameters needed to start the run again, as JSON.
    pub command: String,
    /// The id of the process that runs it, or ran it last.
    pub pid: u32,
    /// The end of the run; `None` until it has ended.
    pub end: Option<RunEnd>,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// The end time, in milliseconds since 1970.
    pub ended_ms: u64,
    /// `done`, `failed` or `interrupted`.
    pub state: String,
    /// The run's outcome, spending and usage per model, as JSON.
    pub report: String,
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
    /// The task's input as JSON; `None` if bodies are not kept.
    pub input: Option<String>,
    /// The start time, in milliseconds since 1970.
    pub started_ms: u64,
    /// The end of the task; `None` until it has ended.
    pub end: Option<TaskEnd>,
    /// The task's model calls, in the order of their ask numbers.
    pub calls: Vec<CallRecord>,
    /// The task's turns, in order.
    pub turns: Vec<Turn>,
    /// The results of `remaining`, in order, as JSON.
    pub remaining: Vec<String>,
}

/// The end of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskEnd {
    /// The end time, in milliseconds since 1970.
    pub ended_ms: u64,
    /// The task's report as JSON.
    pub report: String,
    /// The return value of the task's function, as JSON, if its parent may need it again.
    pub returned: Option<String>,
    /// The task's usage per model, as JSON.
    pub models: String,
}

/// One model call of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallRecord {
    /// The number of the ask within its task, counted from 0.
    pub ask: u64,
    /// The digest of the request.
    pub hash: [u8; 32],
    /// The request as JSON; `None` if bodies are not kept.
    pub body: Option<String>,
    /// The replies to the call's requests, in the order in which they arrived.
    pub replies: Vec<ReplyRecord>,
    /// The result delivered to the task, as JSON; `None` until it is known.
    pub result: Option<String>,
    /// The models, as `provider/model`, of the requests that were sent since the task last started and have not ended.
    pub in_flight: Vec<String>,
}

/// A provider's reply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplyRecord {
    /// The digest of the request that it answers.
    pub hash: [u8; 32],
    /// The reply and what it cost, as JSON.
    pub body: String,
}

/// A delivery into a task, or the end of the task from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The reply to the ask with this number.
    Answer(u64),
    /// The task was cut off: it ran out of time or was canceled.
    Cut {
        /// Whether the task ran out of time; otherwise it was canceled.
        time_up: bool,
        /// The number of polls of the guest since the last turn.
        polls: u64,
    },
}

/// The time that a model call was in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallSpan {
    /// The task.
    pub task: String,
    /// The number of the ask within its task.
    pub ask: u64,
    /// The model, as `provider/model`.
    pub model: String,
    /// The time at which the call was sent, in milliseconds since 1970.
    pub sent_ms: u64,
    /// The time at which the call was answered; `None` if it never was.
    pub ended_ms: Option<u64>,
}

/// An event that the journal records.
#[derive(Debug, Clone)]
pub enum JournalEntry {
    /// A run began.
    RunStarted(RunRecord),
    /// A run was resumed by the process `pid`; its end is cleared.
    RunResumed {
        /// The run.
        run: String,
        /// The process.
        pid: u32,
    },
    /// A run ended.
    RunEnded {
        /// The run.
        run: String,
        /// The end of the run.
        end: RunEnd,
    },
    /// A task began. If it began before, its turns, its `remaining` results and its end are removed, and its calls are
    /// kept.
    TaskStarted {
        /// The run.
        run: String,
        /// The task.
        task: String,
        /// The plugin, as `namespace:name@version`.
        plugin: String,
        /// The plugin's digest, in hex.
        digest: String,
        /// The task's input as JSON; `None` if it is not kept.
        input: Option<String>,
        /// The start time, in milliseconds since 1970.
        at_ms: u64,
    },
    /// A task called a model.
    CallStarted {
        /// The run.
        run: String,
        /// The task.
        task: String,
        /// The number of the ask within its task.
        ask: u64,
        /// The digest of the request. Another digest under the same number replaces the earlier call.
        hash: [u8; 32],
        /// The request as JSON; `None` if it is not kept.
        body: Option<String>,
    },
    /// A request of a call is about to be sent.
    RequestSent {
        /// The run.
        run: String,
        /// The task.
        task: String,
        /// The number of the ask within its task.
        ask: u64,
        /// The model, as `provider/model`.
        model: String,
        /// The time of sending, in milliseconds since 1970.
        at_ms: u64,
    },
    /// A request was answered, or failed.
    RequestEnded {
        /// The run.
        run: String,
        /// The task.
        task: String,
        /// The number of the ask within its task.
        ask: u64,
        /// The digest of the request.
        hash: [u8; 32],
        /// The reply as JSON; `None` if the request failed.
        reply: Option<String>,
        /// The end time, in milliseconds since 1970.
        at_ms: u64,
    },
    /// The result of a call is known.
    CallEnded {
        /// The run.
        run: String,
        /// The task.
        task: String,
        /// The number of the ask within its task.
        ask: u64,
        /// The result that the task will receive, as JSON.
        result: String,
    },
    /// A task had a turn: it received a reply, or was cut off.
    Turned {
        /// The run.
        run: String,
        /// The task.
        task: String,
        /// The turn.
        turn: Turn,
    },
    /// A task called `remaining`.
    Remained {
        /// The run.
        run: String,
        /// The task.
        task: String,
        /// The result, as JSON.
        value: String,
    },
    /// A task ended.
    TaskEnded {
        /// The run.
        run: String,
        /// The task.
        task: String,
        /// The end of the task.
        end: TaskEnd,
    },
}

/// The size of an entry without its bodies: keys, numbers, checksums and indexes. Measured on journals of small
/// entries.
const ENTRY_BYTES: usize = 150;

impl JournalEntry {
    /// Returns the approximate number of bytes that the entry takes in a journal.
    ///
    /// ```
    /// use agenthost_journal::JournalEntry;
    ///
    /// let entry = |value: &str| JournalEntry::Remained { run: "r".into(), task: "root".into(), value: value.into() };
    /// assert_eq!(entry("12345").bytes() - entry("").bytes(), 5);
    /// ```
    pub fn bytes(&self) -> u64 {
        let maybe = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let bodies = match self {
            Self::RunStarted(run) => run.command.len() + run.plugin.len(),
            Self::RunEnded { end, .. } => end.report.len(),
            Self::TaskStarted { plugin, input, .. } => plugin.len() + maybe(input),
            Self::CallStarted { body, .. } => maybe(body),
            Self::RequestSent { model, .. } => model.len(),
            Self::RequestEnded { reply, .. } => maybe(reply),
            Self::CallEnded { result, .. } => result.len(),
            Self::Remained { value, .. } => value.len(),
            Self::TaskEnded { end, .. } => end.report.len() + maybe(&end.returned) + end.models.len(),
            Self::RunResumed { .. } | Self::Turned { .. } => 0,
        };
        (ENTRY_BYTES + bodies) as u64
    }
}

/// The runs to keep when pruning. A run is kept if either condition holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keep {
    /// Runs that began after this time, in milliseconds since 1970.
    pub after_ms: Option<u64>,
    /// This number of the latest runs.
    pub latest: Option<usize>,
}

/// The amount removed by pruning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The number of runs.
    pub runs: usize,
    /// The number of bytes by which the file shrank.
    pub bytes: u64,
}
