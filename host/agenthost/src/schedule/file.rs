//! The file in which a schedule is remembered, and its lock.
//!
//! Both are in the user's state directory, beside the books of the allowance: a project's folder may come from a
//! stranger, who must not say what was paid for. The file is replaced by renaming, so that a process that dies while it
//! writes leaves the earlier state. The lock is a second file; it belongs to the operating system and ends with its
//! holder. A file that cannot be read stops the schedule: to begin anew could run something twice.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use super::ScheduleState;
use crate::allowance::of_file;
use crate::private::{private_dir, private_file};
use agenthost_core::error::{Error, Result};
use agenthost_core::plain_file::{self, Links};

/// The folder of the state directory with the files of schedules.
const FOLDER: &str = "schedules";
const FORMAT: u32 = 1;
/// The maximum file size.
const MOST_BYTES: u64 = 1 << 20;

/// The file of a schedule.
#[derive(Debug, Clone)]
pub struct ScheduleFile {
    path: PathBuf,
}

impl ScheduleFile {
    /// Names the file of the schedule `name` of the configuration file `config` in the state directory `state`.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let state = tempfile::tempdir()?;
    /// use agenthost::schedule::ScheduleFile;
    ///
    /// let file = ScheduleFile::new(state.path(), "agenthost.toml".as_ref(), "tidy");
    /// assert_eq!(file.read()?.last, None, "it never ran");
    /// let lock = file.try_lock()?.ok_or("it is locked")?;
    /// assert!(file.try_lock()?.is_none());
    /// lock.write(&lock.read()?)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(state: &Path, config: &Path, name: &str) -> Self {
        Self {
            path: state.join(FOLDER).join(format!("{}-{name}.json", of_file(config))),
        }
    }

    /// Reads the state without the lock.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Host`](crate::ErrorClass::Host) if the file cannot be read.
    pub fn read(&self) -> Result<ScheduleState> {
        match plain_file::read(&self.path, Links::Refuse, MOST_BYTES) {
            Ok(bytes) => serde_json::from_slice::<ScheduleState>(&bytes)
                .ok()
                .filter(|state| state.format == FORMAT)
                .ok_or_else(|| {
                    let path = self.path.display();
                    Error::host(format!(
                        "{path} is damaged, or was written by a newer version; it holds what a schedule has done"
                    ))
                    .with_hint(format!(
                        "Bring the file back from a copy. Without {path}, the schedule counts as one that never ran."
                    ))
                }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(ScheduleState {
                format: FORMAT,
                ..ScheduleState::default()
            }),
            Err(error) => Err(self.failed("read", &error)),
        }
    }

    /// Takes the lock; `None` if another process has it, or another part of this one.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Host`](crate::ErrorClass::Host) if the lock cannot be taken for another reason.
    pub fn try_lock(&self) -> Result<Option<LockedSchedule>> {
        let open = || {
            private_dir(self.path.parent().unwrap_or(Path::new(".")))?;
            private_file(&self.path.with_extension("lock"))
        };
        let lock = open().map_err(|error| self.failed("lock", &error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(LockedSchedule {
                file: self.clone(),
                _lock: lock,
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(self.failed("lock", &error)),
        }
    }

    fn failed(&self, what: &str, error: &io::Error) -> Error {
        let path = self.path.display();
        Error::host(format!("cannot {what} {path}: {error}"))
            .with_hint("The file holds what a schedule has done. Make its folder writable for this user.")
    }
}

/// A schedule that no other process can run. The lock ends with this value, or with its process.
#[derive(Debug)]
pub struct LockedSchedule {
    file: ScheduleFile,
    _lock: File,
}

impl LockedSchedule {
    /// Reads the state.
    ///
    /// # Errors
    ///
    /// As [`ScheduleFile::read`].
    pub fn read(&self) -> Result<ScheduleState> {
        self.file.read()
    }

    /// Replaces the file. The state is durable afterwards.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Host`](crate::ErrorClass::Host) if it cannot be written.
    pub fn write(&self, state: &ScheduleState) -> Result<()> {
        let path = &self.file.path;
        let new = path.with_extension("new");
        let write = || -> io::Result<()> {
            let mut file = private_file(&new)?;
            file.set_len(0)?;
            file.write_all(&serde_json::to_vec(state)?)?;
            file.sync_all()?;
            drop(file);
            fs::rename(&new, path)?;
            // Only then does the new name survive a loss of power.
            File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|error| self.file.failed("write", &error))
    }
}
