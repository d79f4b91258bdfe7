//! The thread that writes.
//!
//! A transaction holds at most 2,048 entries, so that nobody waits for an endless one. Entries that nobody waits for are
//! kept for up to 10 ms, because an append is likely to follow and can carry them to the disk.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use super::super::{JournalEntry, Keep, Pruned};
use super::fault::{Trouble, again};
use super::{entries, prune, take_over};
use agenthost_core::error::{Error, Result};

/// Entries per transaction.
const MOST: usize = 2048;
/// How long an entry waits for one that somebody waits for.
const LINGER: Duration = Duration::from_millis(10);

type Waiter = oneshot::Sender<Result<()>>;

/// What the writer is asked for.
pub(super) enum Job {
    Write(JournalEntry, Option<Waiter>),
    Prune(Keep, SyncSender<Result<Pruned>>),
    /// Tells the waiter that everything before it is written.
    Drain(oneshot::Sender<()>),
    /// Takes over a run, unless another process runs it.
    TakeOver(String, SyncSender<Result<()>>),
    /// Looks into the writer, or breaks something.
    #[cfg(test)]
    Probe(Box<dyn FnOnce(&mut Writer) + Send>),
}

/// The owner of the connection that writes.
pub(super) struct Writer {
    path: PathBuf,
    pub(super) connection: Connection,
    /// Why nothing is written any more.
    failed: Option<Error>,
    /// How many transactions there were.
    #[cfg(test)]
    pub(super) commits: u64,
}

/// What goes into one transaction.
struct Group {
    entries: Vec<JournalEntry>,
    waiters: Vec<Waiter>,
}

impl Group {
    fn push(&mut self, entry: JournalEntry, waiter: Option<Waiter>) {
        self.entries.push(entry);
        self.waiters.extend(waiter);
    }

    /// Takes up what is in the queue, up to a job that is no entry, which it gives back.
    fn fill(&mut self, queue: &Receiver<Job>) -> Option<Job> {
        let until = Instant::now() + LINGER;
        while self.entries.len() < MOST {
            let patience = match self.waiters.is_empty() {
                true => until.saturating_duration_since(Instant::now()),
                false => Duration::ZERO,
            };
            match queue.recv_timeout(patience) {
                Ok(Job::Write(entry, waiter)) => self.push(entry, waiter),
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

    /// Writes until nobody can ask for more.
    pub(super) fn serve(mut self, queue: &Receiver<Job>) {
        let mut held = None;
        while let Some(job) = held.take().or_else(|| queue.recv().ok()) {
            match job {
                Job::Write(entry, waiter) => {
                    let mut group = Group {
                        entries: Vec::new(),
                        waiters: Vec::new(),
                    };
                    group.push(entry, waiter);
                    held = group.fill(queue);
                    self.write(group);
                }
                Job::Prune(keep, waiter) => {
                    let pruned = self.whole().and_then(|()| {
                        prune::prune(&mut self.connection, &keep).map_err(|trouble| trouble.at(&self.path))
                    });
                    // Who asked may be gone.
                    let _ = waiter.send(pruned);
                }
                Job::Drain(waiter) => {
                    // Who waited may be gone.
                    let _ = waiter.send(());
                }
                Job::TakeOver(run, waiter) => {
                    // A refusal changes nothing, so the journal stays whole.
                    let taken = self.whole().and_then(|()| {
                        take_over::take_over(&mut self.connection, &run).map_err(|trouble| trouble.at(&self.path))
                    });
                    // Who asked may be gone.
                    let _ = waiter.send(taken);
                }
                #[cfg(test)]
                Job::Probe(probe) => probe(&mut self),
            }
        }
    }

    /// An error once a transaction has failed.
    fn whole(&self) -> Result<()> {
        self.failed.as_ref().map_or(Ok(()), |error| Err(again(error)))
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
            // Who waited may be gone.
            let _ = waiter.send(self.whole());
        }
    }

    fn commit(&mut self, entries: &[JournalEntry]) -> Result<(), Trouble> {
        // Taking the lock at once: one that begins by reading could not wait for it.
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
