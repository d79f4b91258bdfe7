//! The quota of a run for a directory that it may write to.
//!
//! Every byte written counts, and so does every byte that a file grows without being written. Every file, directory and
//! link that is created counts as a file. Neither deleting nor overwriting gives anything back, so no order of
//! operations and no race between tasks exceeds the quota. Files that existed before the run do not count.
//!
//! There is one exception: a write far past the end of a file that another task is changing at the same moment can
//! create a hole that is not counted. A hole takes no space on the disk.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rustix::io::Errno;
use wasmtime_wasi::p2::{DynOutputStream, OutputStream, Pollable, StreamError, StreamResult};

use agenthost_core::limits::units::show_exact_bytes;

/// The quota of a run for one directory, and how much of it is used.
#[derive(Debug)]
pub struct Quota {
    most_bytes: Option<u64>,
    most_files: Option<u64>,
    bytes: AtomicU64,
    files: AtomicU64,
}

impl Quota {
    /// Creates a quota of bytes and files; `None` means no limit.
    pub fn new(most_bytes: Option<u64>, most_files: Option<u64>) -> Self {
        Self {
            most_bytes,
            most_files,
            bytes: AtomicU64::new(0),
            files: AtomicU64::new(0),
        }
    }

    /// Describes the limits for people.
    pub(super) fn describe(&self) -> String {
        let bytes = self.most_bytes.map(show_exact_bytes);
        let files = self.most_files.map(|files| format!("{files} files"));
        let parts: Vec<_> = [bytes, files].into_iter().flatten().collect();
        parts.join(" and ")
    }
}

/// Adds to a counter unless the sum exceeds `most`. Returns whether it was added.
fn take(counter: &AtomicU64, most: Option<u64>, more: u64) -> bool {
    let most = most.unwrap_or(u64::MAX);
    let sum = |taken: u64| taken.checked_add(more).filter(|sum| *sum <= most);
    counter.try_update(Ordering::AcqRel, Ordering::Acquire, sum).is_ok()
}

/// A directory's quota as used by one task.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    quota: Arc<Quota>,
    /// The index of the directory among those of the task.
    place: usize,
    refusals: Refusals,
}

/// The directories of a task whose quota was exceeded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusals(Arc<AtomicU64>);

impl Refusals {
    /// Records a refusal, for the first 64 directories; a task has a handful.
    fn note(&self, place: usize) {
        let bit = u32::try_from(place).ok().and_then(|place| 1_u64.checked_shl(place));
        self.0.fetch_or(bit.unwrap_or(0), Ordering::AcqRel);
    }

    /// Returns whether the quota of a directory was exceeded.
    pub(super) fn contains(&self, place: usize) -> bool {
        place < 64 && self.0.load(Ordering::Acquire) >> place & 1 == 1
    }
}

impl Account {
    pub(crate) fn new(quota: &Arc<Quota>, place: usize, refusals: &Refusals) -> Self {
        Self {
            quota: Arc::clone(quota),
            place,
            refusals: refusals.clone(),
        }
    }

    /// Returns the quota.
    pub(crate) fn quota(&self) -> &Quota {
        &self.quota
    }

    /// Returns whether both are accounts of the same directory.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.quota, &other.quota)
    }

    /// Takes `bytes` bytes.
    pub(crate) fn bytes(&self, bytes: u64) -> io::Result<()> {
        self.checked(take(&self.quota.bytes, self.quota.most_bytes, bytes))
    }

    /// Takes one file.
    pub(crate) fn file(&self) -> io::Result<()> {
        self.checked(take(&self.quota.files, self.quota.most_files, 1))
    }

    /// Gives back a file that was not created after all.
    pub(crate) fn not_made(&self) {
        self.quota.files.fetch_sub(1, Ordering::AcqRel);
    }

    /// Takes the bytes that writing `length` bytes at `position` adds; `None` is the end of the file.
    pub(super) fn write(&self, file: &File, position: Option<u64>, length: usize) -> io::Result<()> {
        let end = file.metadata().map_or(0, |file| file.len());
        let hole = position.map_or(0, |position| position.saturating_sub(end));
        self.bytes(hole.saturating_add(length as u64))
    }

    fn checked(&self, taken: bool) -> io::Result<()> {
        if taken {
            return Ok(());
        }
        self.refusals.note(self.place);
        Err(Errno::NOSPC.into())
    }
}

/// A stream into a file that counts the written bytes.
pub(super) struct Counted {
    pub(super) stream: DynOutputStream,
    pub(super) file: Arc<File>,
    /// The position of the next byte; `None` is the end of the file.
    pub(super) position: Option<u64>,
    pub(super) account: Account,
}

impl Counted {
    fn count(&mut self, bytes: &Bytes) -> StreamResult<()> {
        self.account
            .write(&self.file, self.position, bytes.len())
            .map_err(|full| StreamError::LastOperationFailed(full.into()))?;
        if let Some(position) = &mut self.position {
            *position = position.saturating_add(bytes.len() as u64);
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl Pollable for Counted {
    async fn ready(&mut self) {
        self.stream.ready().await;
    }
}

#[async_trait::async_trait]
impl OutputStream for Counted {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.count(&bytes)?;
        self.stream.write(bytes)
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.count(&bytes)?;
        self.stream.blocking_write_and_flush(bytes).await
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.stream.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.stream.check_write()
    }

    async fn cancel(&mut self) {
        self.stream.cancel().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(bytes: u64, files: u64) -> Account {
        Account::new(&Arc::new(Quota::new(Some(bytes), Some(files))), 0, &Refusals::default())
    }

    #[test]
    fn what_is_written_counts_and_so_does_the_hole_before_it() {
        let file = tempfile::tempfile().unwrap();
        let account = account(100, 1);
        assert!(account.write(&file, Some(40), 10).is_ok(), "a hole of 40");
        file.set_len(50).unwrap();
        assert!(account.write(&file, Some(0), 10).is_ok(), "it is overwritten");
        assert!(account.write(&file, None, 41).is_err());
        assert!(account.write(&file, None, 40).is_ok());
        let full = account.write(&file, Some(0), 1).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert!(account.write(&file, Some(u64::MAX), 1).is_err());
    }

    #[test]
    fn tasks_share_a_quota_and_each_remembers_its_own_refusals() {
        let (one, other) = (account(10, 1), Refusals::default());
        let two = Account::new(&one.quota, 1, &other);
        assert!(one.file().is_ok() && one.is_same(&two));
        assert!(two.file().is_err());
        assert_eq!(one.refusals.0.load(Ordering::Acquire), 0);
        assert_eq!(other.0.load(Ordering::Acquire), 2);
        one.not_made();
        assert!(two.file().is_ok());
    }
}
