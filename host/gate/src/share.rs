//! State that the processes of one user share if they use the same key: the levels of the buckets, and the time until
//! which a service accepts nothing.
//!
//! There is one small JSON file for each key and address, in a directory that only this user can access. It is read and
//! written under an exclusive lock, which is held only for that moment. Waiting for the lock blocks the thread, so it
//! happens on a thread for such work (`Exchange` in the crate's root). The lock belongs to the operating system and ends
//! with its holder, so a process that dies blocks nothing. If a process hangs while it holds the lock, others wait no
//! longer than [`PATIENCE`] and continue with their own state. The file name contains a digest of the key, but never the
//! key itself. A lost or broken file loses nothing but recent state.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::meters::RateLimits;
use agenthost_core::process;

/// The time to wait for the lock. It is held for well under a millisecond.
const PATIENCE: Duration = Duration::from_millis(100);
/// The time in milliseconds after which a process that has not sent anything counts as gone.
const FORGOTTEN: u64 = 60 * 60_000;
/// The maximum file size. Larger files were not written by this module.
const MOST_BYTES: u64 = 1 << 20;

/// The content of the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Book {
    pub(super) operator: RateLimits,
    pub(super) models: BTreeMap<String, RateLimits>,
    pub(super) holders: Vec<Holder>,
}

/// A process that uses the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process id.
    pub pid: u32,
    /// The time of its last use of the gate, in milliseconds since 1970.
    pub seen: u64,
    /// The number of its requests in flight at that time.
    pub in_flight: u32,
}

/// The location of the file.
#[derive(Debug)]
pub(super) struct Share {
    path: PathBuf,
    pub(super) patience: Duration,
}

/// The file, locked until this is dropped.
pub(super) struct Locked(File);

impl Share {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            patience: PATIENCE,
        }
    }

    /// Opens and locks the file, and reads its content. `None` if that is impossible. Blocks this thread while another
    /// process has the lock.
    pub(super) fn open(&self) -> Option<(Locked, Book)> {
        let file = match open(&self.path) {
            Ok(file) => file,
            Err(error) => {
                tracing::debug!(path = %self.path.display(), %error, "rate limits are not shared between processes");
                return None;
            }
        };
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Some(Locked::read(file)),
                Err(TryLockError::WouldBlock) if started.elapsed() < self.patience => {
                    std::thread::sleep(Duration::from_micros(200));
                }
                Err(TryLockError::Error(error)) => {
                    tracing::debug!(path = %self.path.display(), %error, "rate limits are not shared between processes");
                    return None;
                }
                Err(TryLockError::WouldBlock) => {
                    tracing::warn!(path = %self.path.display(), "another process keeps the shared rate limits locked; going on without it");
                    return None;
                }
            }
        }
    }

    /// Records that this process no longer uses the key. Waits for the lock on a thread of its own, if at all.
    pub(super) fn release(self) {
        let release = |(locked, mut book): (Locked, Book)| {
            book.release();
            locked.write(&book);
        };
        let Ok(file) = open(&self.path) else { return };
        if file.try_lock().is_ok() {
            return release(Locked::read(file));
        }
        let thread = std::thread::Builder::new().name("gate".into());
        // Without a thread, other processes find out that this one has ended.
        let _ = thread.spawn(move || self.open().map(release));
    }
}

impl Locked {
    /// Reads the locked file.
    fn read(file: File) -> (Self, Book) {
        let mut text = String::new();
        let read = (&file).take(MOST_BYTES).read_to_string(&mut text);
        let book = read.ok().and_then(|_| serde_json::from_str(&text).ok());
        (Self(file), book.unwrap_or_default())
    }

    /// Replaces the content and releases the lock.
    pub(super) fn write(mut self, book: &Book) {
        let write = || -> std::io::Result<()> {
            let text = serde_json::to_vec(book)?;
            self.0.seek(SeekFrom::Start(0))?;
            self.0.set_len(0)?;
            self.0.write_all(&text)
        };
        if let Err(error) = { write }() {
            tracing::debug!(%error, "the shared rate limits could not be written");
        }
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
        options.mode(0o600);
        if let Some(dir) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
    }
    #[cfg(not(unix))]
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    options.open(path)
}

impl Book {
    /// Records that this process uses the key, and removes processes that are gone.
    pub(super) fn hold(&mut self, now: u64, in_flight: u32) {
        let pid = std::process::id();
        self.holders.retain(|holder| holder.pid != pid && is_live(holder, now));
        self.holders.push(Holder {
            pid,
            seen: now,
            in_flight,
        });
    }

    /// Records that this process no longer uses the key.
    pub(super) fn release(&mut self) {
        let pid = std::process::id();
        self.holders.retain(|holder| holder.pid != pid);
    }
}

fn is_live(holder: &Holder, now: u64) -> bool {
    now.saturating_sub(holder.seen) < FORGOTTEN && process::is_alive(holder.pid)
}

/// The state of one shared file, for people.
#[derive(Debug)]
pub struct Sharing {
    /// The path of the file.
    pub path: PathBuf,
    /// The processes that use the key now.
    pub live: Vec<Holder>,
    /// The processes in the file that are gone because they crashed or were killed.
    pub stale: Vec<Holder>,
    /// `true` if the file could not be opened and locked in time.
    pub locked: bool,
}

/// Inspects every shared file in `dir` without changing it.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let state_dir = dir.path();
/// let shared = agenthost_gate::inspect(&state_dir.join(agenthost_gate::SHARED), 1_795_000_000_000);
/// assert!(shared.is_empty(), "no process uses a key: {shared:?}");
/// ```
pub fn inspect(dir: &Path, now: u64) -> Vec<Sharing> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    paths.sort();
    let look = |path: PathBuf| {
        let opened = Share::new(path.clone()).open();
        let locked = opened.is_none();
        let book = opened.map(|(_, book)| book).unwrap_or_default();
        let (live, stale) = book.holders.into_iter().partition(|holder| is_live(holder, now));
        Sharing {
            path,
            live,
            stale,
            locked,
        }
    };
    paths.into_iter().map(look).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_writes_the_next_one_reads_and_a_broken_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deeper/key.json");
        let share = Share::new(path.clone());
        let (locked, mut book) = share.open().unwrap();
        assert_eq!(book, Book::default());
        book.operator.paused_until = 7;
        book.hold(1_000, 2);
        locked.write(&book);
        assert_eq!(share.open().unwrap().1, book);
        fs::write(&path, "{\"operator\": {\"pau").unwrap();
        assert_eq!(share.open().unwrap().1, Book::default());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_lock_that_is_kept_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let share = Share::new(dir.path().join("key.json"));
        let held = share.open().unwrap();
        assert!(share.open().is_none());
        assert!(inspect(dir.path(), 0).iter().all(|sharing| sharing.locked));
        drop(held);
        assert!(share.open().is_some());
    }

    #[cfg(unix)]
    #[test]
    fn a_process_that_is_gone_is_stale_and_forgotten_at_the_next_use() {
        let dir = tempfile::tempdir().unwrap();
        let share = Share::new(dir.path().join("key.json"));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        let (locked, mut book) = share.open().unwrap();
        book.hold(5_000, 1);
        book.holders.push(Holder {
            pid,
            seen: 5_000,
            in_flight: 3,
        });
        locked.write(&book);
        let shown = inspect(dir.path(), 6_000);
        assert_eq!(shown[0].live[0].pid, std::process::id());
        assert_eq!(shown[0].stale[0].pid, pid);
        let (locked, mut book) = share.open().unwrap();
        book.hold(7_000, 0);
        assert_eq!(book.holders.len(), 1);
        drop(locked);
        assert_eq!(inspect(dir.path(), 7_000 + FORGOTTEN)[0].live, []);
    }
}
