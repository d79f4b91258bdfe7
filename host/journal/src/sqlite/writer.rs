//! The thread that writes.
//!
//! A transaction holds at most 2,048 entries, which bounds how long a waiter waits. Entries without a waiter are held
//! back for up to 10 ms, because an append is likely to follow and can carry them to the disk.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use super::super::{JournalEntry, Keep, Pruned};
use super::fault::Trouble;
use super::{entries, prune, take_over};
use crate::error::JournalError;
use agenthost_core::error::Result;

/// The maximum number of entries per transaction.
const MOST: usize = 2048;
/// The time that entries without a waiter are held back for one that has a waiter.
const LINGER: Duration = Duration::from_millis(10);

type Waiter = oneshot::Sender<Result<()>>;

/// A job for the writer.
pub(super) enum Job {
    Write(Box<JournalEntry>, Option<Waiter>),
    Prune(Keep, SyncSender<Result<Pruned>>),
    /// Notifies the waiter that everything before it is written.
    Drain(oneshot::Sender<()>),
    /// Takes over a run, unless another process runs it.
    TakeOver(String, SyncSender<Result<()>>),
    /// Inspects the writer, or breaks something.
    #[cfg(test)]
    Probe(Box<dyn FnOnce(&mut Writer) + Send>),
}

/// The owner of the connection that writes.
pub(super) struct Writer {
    path: PathBuf,
    pub(super) connection: Connection,
    /// The error that stopped the writer; `None` while it writes.
    failed: Option<JournalError>,
    /// The number of transactions so far.
    #[cfg(test)]
    pub(super) commits: u64,
}

/// The entries of one transaction.
struct Group {
    entries: Vec<JournalEntry>,
    waiters: Vec<Waiter>,
}

impl Group {
    fn push(&mut self, entry: JournalEntry, waiter: Option<Waiter>) {
        self.entries.push(entry);
        self.waiters.extend(waiter);
    }

    /// Takes entries from the queue, and returns the first job that is not an entry, if it reaches one.
    fn fill(&mut self, queue: &Receiver<Job>) -> Option<Job> {
        let until = Instant::now() + LINGER;
        while self.entries.len() < MOST {
            let patience = match self.waiters.is_empty() {
                true => until.saturating_duration_since(Instant::now()),
                false => Duration::ZERO,
            };
            match queue.recv_timeout(patience) {
                Ok(Job::Write(entry, waiter)) => self.push(*entry, waiter),
                Ok(other) => return Some(other),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        None
    }
}

impl Writer {
    pub(super) fn new(path: PathBuf, connection: Connection) -> Self {
        Self {
            path,
            connection,
            failed: None,
            #[cfg(test)]
            commits: 0,
        }
    }

    /// Serves jobs until no sender is left.
    pub(super) fn serve(mut self, queue: &Receiver<Job>) {
        let mut held = None;
        while let Some(job) = held.take().or_else(|| queue.recv().ok()) {
            match job {
                Job::Write(entry, waiter) => {
                    let mut group = Group {
                        entries: Vec::new(),
                        waiters: Vec::new(),
                    };
                    group.push(*entry, waiter);
                    held = group.fill(queue);
                    self.write(group);
                }
                Job::Prune(keep, waiter) => {
                    let pruned = self.whole().and_then(|()| {
                        prune::prune(&mut self.connection, &keep).map_err(|trouble| trouble.at(&self.path).into())
                    });
                    // The requester may be gone.
                    let _ = waiter.send(pruned);
                }
                Job::Drain(waiter) => {
                    // The waiter may be gone.
                    let _ = waiter.send(());
                }
                Job::TakeOver(run, waiter) => {
                    // A refusal changes nothing, so the journal stays whole.
                    let taken = self.whole().and_then(|()| {
                        take_over::take_over(&mut self.connection, &run)
                            .map_err(|trouble| trouble.at(&self.path).into())
                    });
                    // The requester may be gone.
                    let _ = waiter.send(taken);
                }
                #[cfg(test)]
                Job::Probe(probe) => probe(&mut self),
            }
        }
    }

    /// Returns an error if a transaction has failed.
    fn whole(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), |error| Err(error.into()))
    }

    fn write(&mut self, group: Group) {
        if self.failed.is_none()
            && let Err(trouble) = self.commit(&group.entries)
        {
            let error = trouble.at(&self.path);
            tracing::error!(%error, "nothing more is written to the journal");
            self.failed = Some(error);
        }
        for waiter in group.waiters {
            // The waiter may be gone.
            let _ = waiter.send(self.whole());
        }
    }

    fn commit(&mut self, entries: &[JournalEntry]) -> Result<(), Trouble> {
        // An immediate transaction takes the write lock at once. One that began by reading could not wait for the lock.
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for entry in entries {
            entries::write(&transaction, entry)?;
        }
        transaction.commit()?;
        #[cfg(test)]
        {
            self.commits += 1;
        }
        Ok(())
    }
}
