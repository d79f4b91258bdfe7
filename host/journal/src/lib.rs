//! The durable record of runs: what was asked, what came back and was paid for, and in which order each task learned it.
//!
//! [`Journal`] is the contract: entries are appended in order by one writer and are durable once [`Journal::append`] has
//! resolved; what stands in it can be read back by run and by task. Bodies are opaque JSON text to it. Two things are
//! made of it: *resume* continues a run and asks for nothing again that was answered, *replay* runs it again with no
//! provider. For both, a task is a function of its input, its seed and what it learned, in the order in which it did.
//!
//! The order of entries is a promise: whatever a guest learned stands before anything that it asked afterwards, so a
//! journal that ends anywhere describes a state that the run was in.
//!
//! Left out: what a run means. The journal knows no plugin, no price and no limit.

pub mod cassette;
#[cfg(feature = "sqlite")]
pub mod sqlite;

use std::fmt;

use futures_util::future::BoxFuture;

use agenthost_core::error::Result;

/// The version of the format. A journal of a newer one is refused; an older one is brought up to this one when it is
/// opened. Within a version, readers ignore fields of bodies that they do not know.
pub const FORMAT: u32 = 1;

/// The record of runs.
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
    /// Appends `entry` after all that were appended before, and resolves once it is durable.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Host`](agenthost_core::error::ErrorClass::Host), naming the file and what the storage said. After one failed
    /// append every later one fails, too: what follows would have a gap before it.
    fn append(&self, entry: JournalEntry) -> BoxFuture<'static, Result<()>>;

    /// Appends `entry` in its order without waiting. If that fails, the next [`Journal::append`] says so.
    fn note(&self, entry: JournalEntry);

    /// Resolves once every entry that was noted until now is written or has failed; `None` if the journal keeps no queue. A
    /// task that has noted much waits for it before it goes on, so that no guest makes entries faster than they are written.
    fn drained(&self) -> Option<BoxFuture<'static, ()>> {
        None
    }

    /// The bytes that the entries of a run take, by [`JournalEntry::bytes`] or a close estimate; 0 if the journal cannot say.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read.
    fn run_bytes(&self, _run: &str) -> Result<u64> {
        Ok(0)
    }

    /// Makes this process the one that runs `run`, which has no end any more. What decides is what stands in the journal
    /// at that moment, in one step: of several processes that try at once, one succeeds.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Usage`](agenthost_core::error::ErrorClass::Usage) if another live process runs it, naming that process.
    fn take_over(&self, run: &str) -> Result<()> {
        let run = run.to_owned();
        let pid = std::process::id();
        self.note(JournalEntry::RunResumed { run, pid });
        Ok(())
    }

    /// The live process that runs `run`; `None` if the run has ended or its process is gone.
    ///
    /// # Errors
    ///
    /// As [`Journal::find`].
    fn running(&self, run: &str) -> Result<Option<u32>> {
        let run = self.find(run)?;
        let pid = run.end.is_none().then_some(run.pid);
        Ok(pid.filter(|pid| agenthost_core::process::is_alive(*pid)))
    }

    /// The runs, the latest first.
    fn runs(&self, most: usize) -> Result<Vec<RunRecord>>;

    /// The run of this id, or the only one whose id begins so, or the latest for `last`.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Usage`](agenthost_core::error::ErrorClass::Usage) for none, and for several.
    fn find(&self, id: &str) -> Result<RunRecord>;

    /// A task of a run with all that it learned; none if it never started.
    ///
    /// # Errors
    ///
    /// Also for a record that is not what was written.
    fn task(&self, run: &str, task: &str) -> Result<Option<TaskRecord>>;

    /// The tasks of a run below `under` (with all levels; itself not included), in the order of their ids, without what
    /// they learned: at most `most` after `after`.
    fn tasks(&self, run: &str, under: &str, after: Option<&str>, most: usize) -> Result<Vec<TaskRecord>>;

    /// The model calls of a run, in the order in which they were sent, without bodies: at most `most`.
    fn calls(&self, run: &str, most: usize) -> Result<Vec<CallSpan>>;

    /// Removes runs that are not live, and gives back the space: how many runs and bytes.
    fn prune(&self, keep: &Keep) -> Result<Pruned>;
}

/// What is known of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    /// Its id.
    pub id: String,
    /// `run` or `batch`.
    pub kind: String,
    /// The plugin, as `namespace:name@version`.
    pub plugin: String,
    /// The plugin's digest, in hex.
    pub digest: String,
    /// What random numbers are made from.
    pub seed: [u8; 32],
    /// Where the tasks' clock stands, in milliseconds since 1970.
    pub clock_ms: u64,
    /// When it began, likewise.
    pub started_ms: u64,
    /// What it takes to start it again, as JSON.
    pub command: String,
    /// The process that it runs in, or ran in.
    pub pid: u32,
    /// How it ended, once it has.
    pub end: Option<RunEnd>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// When, in milliseconds since 1970.
    pub ended_ms: u64,
    /// `done`, `failed` or `interrupted`.
    pub state: String,
    /// Its outcome, what it spent and what each model was used for, as JSON.
    pub report: String,
}

/// What is known of a task.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskRecord {
    /// Its id.
    pub id: String,
    /// Its plugin, as `namespace:name@version`.
    pub plugin: String,
    /// The plugin's digest, in hex.
    pub digest: String,
    /// Its input as JSON; none where bodies are not kept.
    pub input: Option<String>,
    /// When it began, in milliseconds since 1970.
    pub started_ms: u64,
    /// How it ended, once it has.
    pub end: Option<TaskEnd>,
    /// Its model calls, by the ordinal of the ask.
    pub calls: Vec<CallRecord>,
    /// What it learned, in order.
    pub turns: Vec<Turn>,
    /// What `remaining` answered, in order, as JSON.
    pub remaining: Vec<String>,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskEnd {
    /// When, in milliseconds since 1970.
    pub ended_ms: u64,
    /// Its report as JSON.
    pub report: String,
    /// What its function returned, as JSON, where its parent may need it again.
    pub returned: Option<String>,
    /// What each model was used for by it, as JSON.
    pub models: String,
}

/// One model call of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallRecord {
    /// Which of the task's asks it was, counted from 0.
    pub ask: u64,
    /// The digest of what was asked.
    pub hash: [u8; 32],
    /// What was asked, as JSON; none where bodies are not kept.
    pub body: Option<String>,
    /// The replies to its requests, in the order in which they came.
    pub replies: Vec<ReplyRecord>,
    /// What the task was told, as JSON, once it is known.
    pub result: Option<String>,
    /// The models of its requests that have no end, as `provider/model`: those that were sent since the task began last.
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

/// One thing that a task learned, or its end from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The answer to its ask of this ordinal.
    Answer(u64),
    /// It was cut off: its time was up, or it was cancelled. It had run for so many bursts' polls since the turn before.
    Cut {
        /// Whether its time was up; else it was cancelled.
        time_up: bool,
        /// Polls of the guest since the last turn.
        polls: u64,
    },
}

/// When a model call was in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallSpan {
    /// The task.
    pub task: String,
    /// Which of its asks.
    pub ask: u64,
    /// The model, as `provider/model`.
    pub model: String,
    /// When it was sent, in milliseconds since 1970.
    pub sent_ms: u64,
    /// When it was answered; none if it never was.
    pub ended_ms: Option<u64>,
}

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum JournalEntry {
    /// A run began.
    RunStarted(RunRecord),
    /// It is continued by the process `pid`: it has no end any more.
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
        /// How.
        end: RunEnd,
    },
    /// A task began. One that began before loses its turns, its `remaining` and its end, and keeps its calls.
    TaskStarted {
        /// The run.
        run: String,
        /// The task.
        task: String,
        /// Its plugin.
        plugin: String,
        /// The plugin's digest, in hex.
        digest: String,
        /// Its input as JSON, where it is kept.
        input: Option<String>,
        /// When, in milliseconds since 1970.
        at_ms: u64,
    },
    /// A task asks a model.
    CallStarted {
        /// The run.
        run: String,
        /// The task.
        task: String,
        /// Which of its asks.
        ask: u64,
        /// The digest of what is asked. Another one under the same ordinal takes the place of the earlier call.
        hash: [u8; 32],
        /// What is asked, as JSON, where it is kept.
        body: Option<String>,
    },
    /// A request of a call is about to be sent.
    RequestSent {
        /// The run.
        run: String,
        /// The task.
        task: String,
        /// Which of its asks.
        ask: u64,
        /// The model, as `provider/model`.
        model: String,
        /// When, in milliseconds since 1970.
        at_ms: u64,
    },
    /// A request was answered, or failed.
    RequestEnded {
        /// The run.
        run: String,
        /// The task.
        task: String,
        /// Which of its asks.
        ask: u64,
        /// The digest of the request.
        hash: [u8; 32],
        /// The reply as JSON; none if it failed.
        reply: Option<String>,
        /// When, in milliseconds since 1970.
        at_ms: u64,
    },
    /// What the task will be told is known.
    CallEnded {
        /// The run.
        run: String,
        /// The task.
        task: String,
        /// Which of its asks.
        ask: u64,
        /// What it is told, as JSON.
        result: String,
    },
    /// A task learned something, or was cut off.
    Turned {
        /// The run.
        run: String,
        /// The task.
        task: String,
        /// What.
        turn: Turn,
    },
    /// `remaining` answered.
    Remained {
        /// The run.
        run: String,
        /// The task.
        task: String,
        /// What, as JSON.
        value: String,
    },
    /// A task ended.
    TaskEnded {
        /// The run.
        run: String,
        /// The task.
        task: String,
        /// How.
        end: TaskEnd,
    },
}

/// What an entry takes beside its bodies: keys, numbers, checksums and indexes. Measured on journals of small entries.
const ENTRY_BYTES: usize = 150;

impl JournalEntry {
    /// The bytes that the entry takes in a journal, to a good approximation.
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

/// Which runs are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keep {
    /// Those that began after this, in milliseconds since 1970.
    pub after_ms: Option<u64>,
    /// The latest so many.
    pub latest: Option<usize>,
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Runs.
    pub runs: usize,
    /// Bytes of the file that were given back.
    pub bytes: u64,
}
