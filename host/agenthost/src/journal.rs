//! The record of runs, and the handle with which a host keeps it.

#[cfg(feature = "journal")]
use std::path::Path;
use std::sync::Arc;

use agenthost_config::BodyRetention;
use agenthost_core::error::Result;

pub use agenthost_journal::cassette;
#[cfg(feature = "journal")]
pub use agenthost_journal::sqlite;
pub use agenthost_journal::{
    AskRecord, AskResult, Asked, CallSpan, CassetteError, Cut, DocumentAccess, DocumentAction, DocumentError,
    DocumentRecord, DocumentResult, FORMAT, FormatVersion, Journal as JournalStore, JournalEntry, JournalError, Keep,
    Pruned, RecordedUse, Remaining, RequestEnd, RequestHash, RequestRecord, RunEnd, RunKind, RunRecord, RunStatus,
    RunSummary, StopRecord, TaskCounts, TaskEnd, TaskRecord, Turn,
};

/// A journal that a host keeps, and the texts that the host writes to it. Clones are cheap and refer to the same
/// journal.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost::{Host, Journal};
///
/// # let component = double();
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let journal = Journal::sqlite(dir.join("journal.db"))?;
/// let host = Host::builder().journal(journal.clone()).build()?;
/// let run = host.run(&host.load_bytes(&component)?, &21).start()?;
/// run.report().await;
/// assert_eq!(journal.find(run.id())?, journal.find("last")?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Journal {
    store: Arc<dyn JournalStore>,
    bodies: BodyRetention,
}

impl Journal {
    /// Opens or creates the journal in the SQLite file `path`, which must not be on a network file system.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Host`](agenthost_core::error::ErrorClass::Host) if the file cannot be created, opened or written,
    /// is not a journal, is damaged, or has a newer format.
    #[cfg(feature = "journal")]
    pub fn sqlite(path: impl AsRef<Path>) -> Result<Self> {
        let store = agenthost_journal::sqlite::Sqlite::open(path.as_ref())?;
        Ok(Self::new(Arc::new(store)))
    }

    /// Keeps the journal in `store`, such as a [`Tape`](cassette::tape::Tape) or a store of your own.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use agenthost::Journal;
    /// use agenthost::journal::cassette::tape::Tape;
    ///
    /// let tape = Arc::new(Tape::new());
    /// let journal = Journal::new(tape.clone());
    /// # let _ = journal;
    /// ```
    pub fn new(store: Arc<dyn JournalStore>) -> Self {
        let bodies = BodyRetention::default();
        Self { store, bodies }
    }

    /// Selects the texts of requests and replies that a host writes; all by default. With [`BodyRetention::None`],
    /// nothing can be replayed, and resuming keeps only the finished tasks of a batch.
    #[must_use]
    pub fn bodies(mut self, bodies: BodyRetention) -> Self {
        self.bodies = bodies;
        self
    }

    /// Returns the run with this id, or the only run whose id has this prefix, or the latest run for `last`.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Usage`](agenthost_core::error::ErrorClass::Usage) if no run or several runs match.
    pub fn find(&self, id: impl AsRef<str>) -> Result<RunRecord> {
        self.store.find(id.as_ref())
    }

    /// Returns at most `most` runs, the latest first.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Host`](agenthost_core::error::ErrorClass::Host) if the journal cannot be read.
    pub fn runs(&self, most: usize) -> Result<Vec<RunRecord>> {
        self.store.runs(most)
    }

    /// Returns the store behind this journal.
    pub fn store(&self) -> &Arc<dyn JournalStore> {
        &self.store
    }

    pub(crate) fn into_parts(self) -> (Arc<dyn JournalStore>, BodyRetention) {
        (self.store, self.bodies)
    }
}
