//! Errors of the journal and of cassettes.

use std::path::PathBuf;
use std::sync::Arc;

use agenthost_core::error::{Classify, ErrorClass};
use agenthost_core::record::FormatError;

/// The reason for which a journal cannot be used, or has no answer.
///
/// The methods of [`Journal`](crate::Journal) return the error of any implementation; those of this crate return this
/// type.
///
/// ```
/// use agenthost_journal::JournalError;
/// use agenthost_journal::sqlite::Sqlite;
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("journal.db");
/// std::fs::write(&path, "").unwrap();
/// let error = Sqlite::open(&path).err().unwrap();
/// assert!(matches!(error.downcast_ref(), Some(JournalError::Empty { .. })));
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The file is empty: a damaged journal.
    #[error("{path}: the journal is empty: all that it held is lost")]
    Empty {
        /// The journal.
        path: PathBuf,
    },
    /// The file is missing, but the log of its newest entries is not.
    #[error("{log}: the journal is gone, but its newest entries are left")]
    LogAlone {
        /// The log.
        log: PathBuf,
    },
    /// The system does not report whether there is a file.
    #[error("{path}: the journal cannot be reached")]
    Unreachable {
        /// The journal.
        path: PathBuf,
        /// The cause.
        source: Arc<std::io::Error>,
    },
    /// The path names a directory, a device or a pipe.
    #[error("{path}: not a regular file")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The journal or its directory is a link.
    #[error("{path}: a journal does not go through a link")]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// The journal cannot be created.
    #[error("{path}: cannot create the journal")]
    Create {
        /// The journal.
        path: PathBuf,
        /// The cause.
        source: Arc<std::io::Error>,
    },
    /// The file is an SQLite database of another program.
    #[error("{path}: this is an SQLite file, but not a journal")]
    OtherDatabase {
        /// The file.
        path: PathBuf,
    },
    /// The journal has a format that this version does not know.
    #[error("{path}: the journal has {format}")]
    Format {
        /// The journal.
        path: PathBuf,
        /// Its format, and those that this version knows.
        format: FormatError,
    },
    /// The journal has an older format, and the file or its directory cannot be written.
    #[error("{path}: the journal has an older format and must be migrated, but it cannot be written")]
    MigrateReadOnly {
        /// The journal.
        path: PathBuf,
    },
    /// The journal has an older format, and a process of the older version works on a run in it.
    #[error("{path}: the journal has an older format, and run {run} is still going on in it, in process {pid}")]
    MigrateRunning {
        /// The journal.
        path: PathBuf,
        /// The id of the run.
        run: String,
        /// The id of the process.
        pid: u32,
    },
    /// The file has a table, a view or a trigger that no journal has.
    #[error("{path}: the file has a definition of `{name}` that no journal has")]
    ForeignDefinition {
        /// The journal.
        path: PathBuf,
        /// The name of the definition.
        name: String,
    },
    /// SQLite reports an error.
    #[error("{path}: {}{report}", .problem.map(|problem| format!("{problem}: ")).unwrap_or_default())]
    Database {
        /// The journal.
        path: PathBuf,
        /// The problem, if it has a known cause.
        problem: Option<DatabaseProblem>,
        /// The report of SQLite.
        report: String,
    },
    /// A record was changed or damaged.
    #[error("{path}: the journal was changed or damaged: {record}")]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// The record.
        record: String,
    },
    /// An entry or a query does not fit the content of the journal.
    #[error("{path}: {problem}")]
    Misfit {
        /// The journal.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// The journal has no run.
    #[error("there is no run yet")]
    NoRuns,
    /// No run has this id.
    #[error("no run is called `{id}`")]
    NoSuchRun {
        /// The id or the beginning of one.
        id: String,
        /// The ids of the latest runs.
        latest: Vec<String>,
    },
    /// The ids of several runs begin in this way.
    #[error("several runs begin with `{id}`")]
    AmbiguousRun {
        /// The beginning of the ids.
        id: String,
        /// The ids of the latest such runs.
        matches: Vec<String>,
        /// `true` if there are more.
        more: bool,
    },
    /// Another process runs the run.
    #[error("run {run} is still going on, in process {pid}")]
    Running {
        /// The id of the run.
        run: String,
        /// The id of the process.
        pid: u32,
    },
    /// The thread that writes the journal cannot start.
    #[error("cannot start the thread of the journal")]
    Thread(#[source] Arc<std::io::Error>),
    /// The thread that writes the journal has died.
    #[error("{path}: the thread that writes the journal has died")]
    WriterDied {
        /// The journal.
        path: PathBuf,
    },
}

/// The known causes of an error of SQLite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseProblem {
    /// The file system is full.
    #[error("no room to write the journal")]
    Full,
    /// The user may not write the file or its directory.
    #[error("the journal cannot be written")]
    ReadOnly,
    /// The file cannot be opened.
    #[error("the journal cannot be opened")]
    CannotOpen,
    /// The file is damaged.
    #[error("the journal is damaged")]
    Damaged,
    /// The file is not a database.
    #[error("this is not a journal")]
    NotAJournal,
    /// Another process uses the journal.
    #[error("another process keeps the journal locked")]
    Locked,
    /// The system reports an error of the disk.
    #[error("the journal cannot be read or written")]
    Io,
}

fn damaged(path: &std::path::Path) -> String {
    format!(
        "Move it and the files that begin with its name elsewhere and start anew; \
         `sqlite3 {} .recover` prints what can still be read",
        path.display()
    )
}

const NO_RUN: &str = "The journal is empty: start a run first";

impl Classify for JournalError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Link { .. } => ErrorClass::Denied,
            Self::NoRuns | Self::NoSuchRun { .. } | Self::AmbiguousRun { .. } | Self::Running { .. } => {
                ErrorClass::Usage
            }
            _ => ErrorClass::Host,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Empty { .. } => "Remove the file to start a new journal, or restore the journal from a backup",
            Self::LogAlone { .. } => "Restore the journal, or remove what is left to start a new one",
            Self::Unreachable { .. } => "Make its directory one that this user can enter, or name another journal",
            Self::NotAFile { .. } => "Remove it, or name another journal",
            Self::Link { .. } => {
                "Remove the link; to keep the journal elsewhere, name its place with `file` under [journal] in your own configuration"
            }
            Self::Create { .. } => "Make its directory writable for this user, or name another journal",
            Self::OtherDatabase { .. } => "Name another file, or move this one elsewhere",
            Self::Format {
                format: FormatError::TooOld { .. },
                ..
            } => "Open it with an older version of agenthost first, or name another journal",
            Self::Format { .. } => {
                "Use the version of agenthost that wrote it, or a newer one, or name another journal"
            }
            Self::MigrateReadOnly { .. } => {
                "Make the file and its directory writable for this user, or name a copy of it"
            }
            Self::MigrateRunning { pid, .. } => {
                return Some(format!(
                    "Wait for its end, and the journal is migrated. To stop it, check first that process {pid} is agenthost."
                ));
            }
            Self::ForeignDefinition { .. } => {
                "Another program wrote it; name another journal, or move this file elsewhere"
            }
            Self::Database { path, problem, .. } => match (*problem)? {
                DatabaseProblem::Full => "Free space on the file system of the journal, then resume the run",
                DatabaseProblem::ReadOnly => "Make the file and its directory writable for this user",
                DatabaseProblem::CannotOpen => {
                    "Check that it is a file, and that this user may read and write it and its directory"
                }
                DatabaseProblem::Damaged => return Some(damaged(path)),
                DatabaseProblem::NotAJournal => "Name another file, or move this one elsewhere",
                DatabaseProblem::Locked => "Wait until it is done, or name another journal for this one",
                DatabaseProblem::Io => "Look for faults of the disk in the system's log",
            },
            Self::Damaged { path, .. } => return Some(damaged(path)),
            Self::NoRuns => NO_RUN,
            Self::NoSuchRun { latest, .. } if latest.is_empty() => NO_RUN,
            Self::NoSuchRun { latest, .. } => return Some(format!("The latest are {}", latest.join(", "))),
            Self::AmbiguousRun { matches, more, .. } => {
                let more = if *more { ", and more" } else { "" };
                return Some(format!("Write more of it: {}{more}", matches.join(", ")));
            }
            Self::Running { pid, .. } => {
                return Some(format!(
                    "Wait for its end. To stop it, check first that process {pid} is agenthost."
                ));
            }
            Self::Misfit { .. } | Self::Thread(_) | Self::WriterDied { .. } => return None,
        };
        Some(hint.into())
    }
}

/// The reason for which a cassette cannot be read or written.
///
/// ```
/// use agenthost_journal::CassetteError;
/// use agenthost_journal::cassette::Cassette;
///
/// let error = Cassette::read("no-such.json".as_ref()).unwrap_err();
/// assert!(matches!(error, CassetteError::Read { .. }));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CassetteError {
    /// The file is missing or cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is too large.
    #[error("{path}: more than {} MiB", .most >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The maximum size in bytes.
        most: u64,
    },
    /// The content is not a cassette.
    #[error("{path}: not a cassette: {problem}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// The directory of cassettes cannot be read.
    #[error("cannot read {dir}")]
    ReadDirectory {
        /// The directory.
        dir: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The cassette cannot be written.
    #[error("{path}: the cassette cannot be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

impl Classify for CassetteError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Write { .. } => ErrorClass::Host,
            _ => ErrorClass::Input,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Read { .. } | Self::TooLarge { .. } | Self::Invalid { .. } => "Fix the file, or record it again.",
            Self::ReadDirectory { .. } => "Make it readable.",
            Self::Write { .. } => return None,
        };
        Some(hint.into())
    }
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod tests;
