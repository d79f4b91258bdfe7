//! A journal in one SQLite file, usually `.agenthost/journal.db` of a project.
//!
//! **Writing.** One thread owns the only connection that writes. It writes everything that arrived since its last
//! transaction as one transaction and then wakes the tasks that wait for it, so waiting tasks share the cost of
//! reaching the disk, and a waiting task costs nothing. The write-ahead log is synced to the disk with each
//! transaction, so an acknowledged entry survives a loss of power. An entry that was only noted is written within 10
//! ms. After one failed transaction nothing more is written, so the file ends at a point where the run was known to be
//! complete.
//!
//! **Reading** uses a second connection that cannot write. It sees what has been written and never waits for the
//! writer. Any number of other processes may read and write the same file.
//!
//! **Integrity.** Each body is stored with the first 16 bytes of its SHA-256, and a task's turns are numbered without
//! gaps; both are checked on every read. This detects damage; it does not protect from an attacker who can write
//! digests.
//!
//! **The format** is the `user_version` of the file; `application_id` marks the file as a journal. Bodies are the types of
//! [`agenthost_core::record`] as JSON, and its [`FormatVersion`](agenthost_core::record::FormatVersion) has the rule for
//! changes. A new or changed table raises the version, too. A newer format is refused. An older one is migrated in one
//! transaction when the file is opened, unless a run in it is still going on.
//!
//! Left out: encryption, and network file systems, on which the shared memory of the write-ahead log does not work.

mod entries;
mod fault;
mod file;
mod key;
mod migrate;
mod owner;
mod prune;
mod read;
mod schema;
mod take_over;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use futures_util::future::BoxFuture;
use rusqlite::Connection;
use tokio::sync::oneshot;

use self::fault::Trouble;
use self::writer::{Job, Writer};
use super::{CallSpan, DocumentAccess, Journal, JournalEntry, Keep, Pruned, RunRecord, TaskRecord};
use crate::error::JournalError;
use agenthost_core::error::{Error, Result};

/// A journal in an SQLite file.
///
/// Dropping it waits until all noted entries are written.
pub struct Sqlite {
    path: PathBuf,
    // Dropped in this order: when the writer closes the last connection, SQLite moves the log into the file.
    reader: Mutex<Connection>,
    jobs: mpsc::Sender<Job>,
    _writer: Thread,
}

/// A thread that is joined when this is dropped.
struct Thread(Option<JoinHandle<()>>);

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // If it panicked, its waiters have already received an error.
            let _ = thread.join();
        }
    }
}

impl Sqlite {
    /// Opens the journal at `path`. If there is none, creates one that only its owner can read, with its directory. A
    /// directory named `.agenthost` is kept out of version control.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost_journal::{Journal as _, sqlite::Sqlite};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let journal = Sqlite::open(&dir.path().join("journal.db"))?;
    /// assert!(journal.runs(10)?.is_empty()); // the latest of at most ten
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Host`](agenthost_core::error::ErrorClass::Host) if the file cannot be created, opened or written,
    /// is not a journal, is damaged, or has a newer format.
    pub fn open(path: &Path) -> Result<Self> {
        file::ensure(path)?;
        Self::start(path)
    }

    /// Opens the journal at `path`; `None` if there is none.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost_journal::sqlite::Sqlite;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let file = dir.path().join("journal.db");
    /// assert!(Sqlite::open_existing(&file)?.is_none() && !file.exists());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Sqlite::open`].
    pub fn open_existing(path: &Path) -> Result<Option<Self>> {
        if !file::is_there(path)? {
            return Ok(None);
        }
        Self::start(path).map(Some)
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn start(path: &Path) -> Result<Self> {
        let connection = file::connect(path, file::Access::Write)?;
        let reader = file::connect(path, file::Access::Read)?;
        let (jobs, queue) = mpsc::channel();
        let writer = Writer::new(path.to_owned(), connection);
        let writer = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.serve(&queue))
            .map_err(|error| JournalError::Thread(error.into()))?;
        Ok(Self {
            path: path.to_owned(),
            reader: Mutex::new(reader),
            jobs,
            _writer: Thread(Some(writer)),
        })
    }

    /// Sends a job to the writer. If the job is lost, its waiter is dropped, and the waiting side returns an error.
    fn send(&self, job: Job) {
        // The writer is gone only if it panicked.
        let _ = self.jobs.send(job);
    }

    /// Reads in one transaction, for a consistent snapshot.
    fn read<T>(&self, what: impl FnOnce(&Connection) -> Result<T, Trouble>) -> Result<T> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let read = reader
            .transaction()
            .map_err(Trouble::from)
            .and_then(|moment| what(&moment));
        Ok(read.map_err(|trouble| trouble.at(&self.path))?)
    }
}

/// Returns the error for a writer that has died.
fn stopped(path: &Path) -> Error {
    JournalError::WriterDied { path: path.to_owned() }.into()
}

impl Journal for Sqlite {
    fn append(&self, entry: JournalEntry) -> BoxFuture<'static, Result<()>> {
        let (waiter, written) = oneshot::channel();
        self.send(Job::Write(Box::new(entry), Some(waiter)));
        let path = self.path.clone();
        Box::pin(async move { written.await.unwrap_or_else(|_| Err(stopped(&path))) })
    }

    fn note(&self, entry: JournalEntry) {
        self.send(Job::Write(Box::new(entry), None));
    }

    fn drained(&self) -> Option<BoxFuture<'static, ()>> {
        let (waiter, drained) = oneshot::channel();
        self.send(Job::Drain(waiter));
        // If the writer has died, there is nothing to wait for; the next append returns the error.
        Some(Box::pin(async move { drained.await.unwrap_or_default() }))
    }

    fn run_bytes(&self, run: &str) -> Result<u64> {
        self.read(|connection| read::run_bytes(connection, run))
    }

    fn take_over(&self, run: &str) -> Result<()> {
        let (waiter, taken) = mpsc::sync_channel(1);
        self.send(Job::TakeOver(run.to_owned(), waiter));
        taken.recv().unwrap_or_else(|_| Err(stopped(&self.path)))
    }

    fn running(&self, run: &str) -> Result<Option<u32>> {
        self.read(|connection| owner::running(connection, run))
    }

    fn runs(&self, most: usize) -> Result<Vec<RunRecord>> {
        self.read(|connection| read::runs(connection, most))
    }

    fn find(&self, id: &str) -> Result<RunRecord> {
        self.read(|connection| read::find(connection, id))
    }

    fn task(&self, run: &str, task: &str) -> Result<Option<TaskRecord>> {
        self.read(|connection| read::task(connection, run, task))
    }

    fn tasks(&self, run: &str, under: &str, after: Option<&str>, most: usize) -> Result<Vec<TaskRecord>> {
        self.read(|connection| read::tasks(connection, run, under, after, most))
    }

    fn calls(&self, run: &str, most: usize) -> Result<Vec<CallSpan>> {
        self.read(|connection| read::calls(connection, run, most))
    }

    fn documents(&self, run: &str, most: usize) -> Result<Vec<DocumentAccess>> {
        self.read(|connection| read::documents(connection, run, most))
    }

    fn prune(&self, keep: &Keep) -> Result<Pruned> {
        let (waiter, pruned) = mpsc::sync_channel(1);
        self.send(Job::Prune(keep.clone(), waiter));
        pruned.recv().unwrap_or_else(|_| Err(stopped(&self.path)))
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
