//! What the processes of one user that use the same key tell each other: how full the buckets are, and until when a
//! service wants nothing.
//!
//! One small JSON file for each key and address, in a directory of this user alone, under an exclusive lock for the
//! moment in which it is read and written. The lock is the operating system's and ends with its holder, so a process
//! that dies holds nothing back; one that hangs while it holds the lock is not waited for longer than [`PATIENCE`]:
//! this process then goes by what it knew. The file holds no key, only a digest of it in its name, and losing it loses
//! nothing but a moment's knowledge: a broken one is as good as none.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::meters::Meters;
use agenthost_core::process;

/// How long the lock is waited for. It is held for well under a millisecond.
const PATIENCE: Duration = Duration::from_millis(100);
/// A process that has not sent anything for so long counts as gone, in milliseconds.
const FORGOTTEN: u64 = 60 * 60_000;
/// Larger files are not ours.
const MOST_BYTES: u64 = 1 << 20;

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Book {
    pub(super) operator: Meters,
    pub(super) models: BTreeMap<String, Meters>,
    pub(super) holders: Vec<Holder>,
}

/// A process that uses the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// When it last sent a request, in milliseconds since 1970.
    pub seen: u64,
    /// Requests that it had in flight then.
    pub in_flight: u32,
}

/// Where the file is.
#[derive(Debug)]
pub(super) struct Share {
    path: PathBuf,
}

/// The file, locked until this is dropped.
pub(super) struct Locked(File);

impl Share {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The locked file and what stands in it; none where it cannot be had.
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
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if started.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_micros(200));
                }
                Err(_) => {
                    tracing::warn!(path = %self.path.display(), "another process keeps the shared rate limits locked; going on without it");
                    return None;
                }
            }
        }
        let mut locked = Locked(file);
        let book = locked.read();
        Some((locked, book))
    }
}

impl Locked {
    fn read(&mut self) -> Book {
        let mut text = String::new();
        let read = (&mut self.0).take(MOST_BYTES).read_to_string(&mut text);
        read.ok()
            .and_then(|_| serde_json::from_str(&text).ok())
            .unwrap_or_default()
    }

    /// Replaces the content and lets go of the lock.
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
    /// Notes that this process uses the key, and forgets those that are gone.
    pub(super) fn hold(&mut self, now: u64, in_flight: u32) {
        let pid = std::process::id();
        self.holders.retain(|holder| holder.pid != pid && is_live(holder, now));
        self.holders.push(Holder {
            pid,
            seen: now,
            in_flight,
        });
    }

    /// Notes that this process is done with the key.
    pub(super) fn release(&mut self) {
        let pid = std::process::id();
        self.holders.retain(|holder| holder.pid != pid);
    }
}

fn is_live(holder: &Holder, now: u64) -> bool {
    now.saturating_sub(holder.seen) < FORGOTTEN && process::is_alive(holder.pid)
}

/// What one shared file shows to a person.
#[derive(Debug)]
pub struct Sharing {
    /// The file.
    pub path: PathBuf,
    /// The processes that use the key now.
    pub live: Vec<Holder>,
    /// Those that are in the file and are gone: they crashed, or were killed.
    pub stale: Vec<Holder>,
    /// Whether some process holds the lock for longer than it should.
    pub locked: bool,
}

/// Looks into every shared file in `dir`, changing nothing.
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
