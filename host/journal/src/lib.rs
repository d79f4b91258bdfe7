//! The durable record of runs: the requests and replies of each task, what was paid for, and the order in which each
//! task received its replies.
//!
//! [`Journal`] is the contract: one writer appends entries in order, an entry is durable once [`Journal::append`] has
//! resolved, and entries can be read back by run and by task. Entries consist of the types of
//! [`agenthost_core::record`]. The record serves two purposes: *resume* continues a stopped run without repeating an
//! answered request, and *replay* re-executes a run with no provider. Both rely on a task being a function of its input,
//! its seed and the replies it received, in that order.
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
use std::io;
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;

use agenthost_core::error::{Error, Result};

pub use self::error::{CassetteError, DatabaseProblem, JournalError};
pub use agenthost_core::document::{DocumentAccess, DocumentAction, DocumentError, DocumentRecord, DocumentResult};
pub use agenthost_core::record::{
    AskRecord, AskResult, Asked, CallSpan, Cut, FormatVersion, RecordedUse, Remaining, RequestEnd, RequestHash,
    RequestRecord, RunEnd, RunKind, RunRecord, RunStatus, RunSummary, StopRecord, TaskCounts, TaskEnd, TaskRecord,
    Turn,
};

/// The version of the format in which journals are written. What may change within a version is the rule of
/// [`FormatVersion`].
pub const FORMAT: FormatVersion = FormatVersion::new(3);
/// The versions of journals that can be opened. One with an older version than [`FORMAT`] is migrated when it is opened.
pub const FORMATS: RangeInclusive<FormatVersion> = FormatVersion::new(1)..=FORMAT;

/// A durable record of runs.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost_journal::{JournalEntry, Journal, Keep, RunKind, RunRecord, sqlite::Sqlite};
/// use serde_json::Value;
///
/// # let dir = tempfile::tempdir()?;
/// let journal: Box<dyn Journal> = Box::new(Sqlite::open(&dir.path().join("journal.db"))?);
/// let run = RunRecord {
///     id: "1m843gzav-gts0e".into(),
///     kind: RunKind::Run,
///     plugin: "demo:ask@0.1.0".into(),
///     digest: "00".repeat(32),
///     seed: [0; 32],
///     clock_ms: 1_795_000_000_000,
///     started_ms: 1_795_000_000_000,
///     command: Value::Null,
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
///
/// Methods without a future may block, for example on a disk. Async code calls them by [`blocking`].
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

    /// Returns a task of a run with all its asks and turns; `None` if it never started.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or if a record was changed or damaged.
    fn task(&self, run: &str, task: &str) -> Result<Option<TaskRecord>>;

    /// Returns the tasks of a run below `under` (at all levels, without `under` itself), in the order of their ids and
    /// without their asks and turns: at most `most`, starting after `after`.
    fn tasks(&self, run: &str, under: &str, after: Option<&str>, most: usize) -> Result<Vec<TaskRecord>>;

    /// Calls `with` for every task that [`Journal::tasks`] returns, page by page, until it breaks.
    ///
    /// # Errors
    ///
    /// As [`Journal::tasks`].
    fn each_task(&self, run: &str, under: &str, with: &mut dyn FnMut(TaskRecord) -> ControlFlow<()>) -> Result<()> {
        /// The number of records that are read at a time.
        const PAGE: usize = 500;
        let mut after: Option<String> = None;
        loop {
            let page = self.tasks(run, under, after.as_deref(), PAGE)?;
            let is_last = page.len() < PAGE;
            after = page.last().map(|task| task.id.clone());
            for task in page {
                if with(task).is_break() {
                    return Ok(());
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Returns the requests of a run, in the order in which they were sent: at most `most`.
    fn calls(&self, run: &str, most: usize) -> Result<Vec<CallSpan>>;

    /// Returns what the tasks of a run did with documents, task by task: at most `most`. Empty if the journal does not keep
    /// it.
    ///
    /// # Errors
    ///
    /// As [`Journal::task`].
    fn documents(&self, _run: &str, _most: usize) -> Result<Vec<DocumentAccess>> {
        Ok(Vec::new())
    }

    /// Removes runs that are neither kept nor live, and frees their space. Returns the number of runs and bytes.
    fn prune(&self, keep: &Keep) -> Result<Pruned>;
}

/// Calls `work` with `journal` on a thread that may block, for async code.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use agenthost_journal::{Journal, blocking, sqlite::Sqlite};
///
/// # let dir = tempfile::tempdir()?;
/// let journal: Arc<dyn Journal> = Arc::new(Sqlite::open(&dir.path().join("journal.db"))?);
/// assert!(blocking(&journal, |journal| journal.runs(10)).await?.is_empty());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As `work`.
///
/// # Panics
///
/// Panics outside a tokio runtime, and if `work` does.
pub async fn blocking<T: Send + 'static>(
    journal: &Arc<dyn Journal>,
    work: impl FnOnce(&dyn Journal) -> Result<T> + Send + 'static,
) -> Result<T> {
    let journal = Arc::clone(journal);
    match tokio::task::spawn_blocking(move || work(&*journal)).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::host("the host is shutting down")),
        },
    }
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
    /// A task began. If it began before, its turns, its `remaining` results and its end are removed, and its asks and what
    /// it did with documents are kept.
    TaskStarted {
        /// The run.
        run: String,
        /// The task.
        task: String,
        /// The plugin, as `namespace:name@version`.
        plugin: String,
        /// The plugin's digest, in hex.
        digest: String,
        /// The task's input; `None` if it is not kept.
        input: Option<Value>,
        /// The start time, in milliseconds since 1970.
        at_ms: u64,
    },
    /// A task asked for something. If it asked for something else under the same number, that ask is replaced.
    Asked {
        /// The run.
        run: String,
        /// The task.
        task: String,
        /// The number of the ask within its task.
        ask: u64,
        /// The model call or the sub-task.
        what: Asked,
    },
    /// A task asks for something anew. An earlier ask under the same number is replaced, even if it is the same, with all
    /// that belongs to it.
    AskedAgain {
        /// The run.
        run: String,
        /// The task.
        task: String,
        /// The number of the ask within its task.
        ask: u64,
        /// The model call or the sub-task.
        what: Asked,
        /// The charges for the earlier ask and the replies to it.
        requests: Vec<RequestRecord>,
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
        /// The end of the request; `None` if it is part of the result of the call, if it failed without a charge, or if
        /// it is not kept.
        request: Option<RequestRecord>,
        /// The end time, in milliseconds since 1970.
        at_ms: u64,
    },
    /// The result of an ask is known.
    Answered {
        /// The run.
        run: String,
        /// The task.
        task: String,
        /// The number of the ask within its task.
        ask: u64,
        /// The result that the task will receive.
        result: AskResult,
    },
    /// A task had a turn: it received a result, or was cut off.
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
        /// The result.
        remaining: Remaining,
    },
    /// A task is about to do something with a document. Earlier records with this number and all later ones are removed.
    DocumentAsked {
        /// The run.
        run: String,
        /// The task.
        task: String,
        /// The number of the operation within its task.
        number: u64,
        /// The operation, without its result.
        operation: DocumentRecord,
    },
    /// The result of an operation on a document is known.
    DocumentAnswered {
        /// The run.
        run: String,
        /// The task.
        task: String,
        /// The number of the operation within its task.
        number: u64,
        /// The result that the task will receive.
        result: DocumentResult,
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
    /// let sent = |model: &str| JournalEntry::RequestSent {
    ///     run: "r".into(), task: "root".into(), ask: 0, model: model.into(), at_ms: 0,
    /// };
    /// assert_eq!(sent("12345").bytes() - sent("").bytes(), 5);
    /// ```
    pub fn bytes(&self) -> u64 {
        let bodies = match self {
            Self::RunStarted(run) => json_bytes(&run.command) + run.plugin.len(),
            Self::RunEnded { end, .. } => json_bytes(&end.summary),
            Self::TaskStarted { plugin, input, .. } => plugin.len() + input.as_ref().map_or(0, json_bytes),
            Self::Asked { what, .. } => asked_bytes(what),
            Self::AskedAgain { what, requests, .. } => {
                asked_bytes(what) + requests.iter().map(|request| json_bytes(&request.end)).sum::<usize>()
            }
            Self::RequestSent { model, .. } => model.len(),
            Self::RequestEnded { request, .. } => request.as_ref().map_or(0, |request| json_bytes(&request.end)),
            Self::Answered { result, .. } => json_bytes(result),
            Self::Remained { remaining, .. } => json_bytes(remaining),
            Self::DocumentAsked { operation, .. } => json_bytes(operation),
            Self::DocumentAnswered { result, .. } => json_bytes(result),
            Self::TaskEnded { end, .. } => {
                json_bytes(&end.report) + end.returned.as_ref().map_or(0, json_bytes) + json_bytes(&end.models)
            }
            Self::RunResumed { .. } | Self::Turned { .. } => 0,
        };
        (ENTRY_BYTES + bodies) as u64
    }
}

fn asked_bytes(what: &Asked) -> usize {
    match what {
        Asked::Model { request, .. } => request.as_ref().map_or(0, json_bytes),
        Asked::SubTask { task } => json_bytes(task),
    }
}

/// Returns the length of a value as JSON, without writing it anywhere.
fn json_bytes(value: &impl Serialize) -> usize {
    struct Counter(usize);

    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.saturating_add(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut counter = Counter(0);
    // A record is always JSON, and counting cannot fail.
    let _ = serde_json::to_writer(&mut counter, value);
    counter.0
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
