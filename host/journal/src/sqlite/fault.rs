//! Turns errors of SQLite and of the file's content into [`JournalError`]s.

use std::fmt;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::error::{DatabaseProblem, JournalError};

/// A failed operation, before the name of the file is added.
#[derive(Debug)]
pub(super) enum Trouble {
    /// An error from SQLite.
    Sqlite(rusqlite::Error),
    /// A record that was changed or damaged.
    Damaged(String),
    /// An entry or a query that does not fit the content of the journal.
    Misfit(String),
    /// The name of a definition that no journal has.
    Foreign(String),
    /// A complete error: no run or several runs match, or a run is still going on.
    Complete(JournalError),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Trouble {
    /// The error for a run that the journal does not have.
    pub(super) fn no_run(run: &str) -> Self {
        Self::Misfit(format!("there is no run `{run}`"))
    }

    /// The error for the journal at `path`.
    pub(super) fn at(self, path: &Path) -> JournalError {
        let path = path.to_owned();
        match self {
            Self::Sqlite(error) => sqlite(path, error),
            Self::Damaged(record) => JournalError::Damaged { path, record },
            Self::Misfit(problem) => JournalError::Misfit { path, problem },
            Self::Foreign(name) => JournalError::ForeignDefinition { path, name },
            Self::Complete(error) => error,
        }
    }
}

/// The place of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordLocation<'a> {
    pub(super) run: &'a str,
    pub(super) task: Option<&'a str>,
    pub(super) ask: Option<u64>,
}

impl RecordLocation<'_> {
    /// Returns the error about a column of the record.
    pub(super) fn damaged(&self, column: &str) -> Trouble {
        Trouble::Damaged(format!("`{column}` of {self}"))
    }
}

impl fmt::Display for RecordLocation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run `{}`", self.run)?;
        if let Some(task) = self.task {
            write!(f, ", task `{task}`")?;
        }
        match self.ask {
            Some(ask) => write!(f, ", ask {ask}"),
            None => Ok(()),
        }
    }
}

/// Describes an error of SQLite.
fn sqlite(path: PathBuf, error: rusqlite::Error) -> JournalError {
    let problem = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Some(DatabaseProblem::Full),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Some(DatabaseProblem::ReadOnly),
        Some(ErrorCode::CannotOpen) => Some(DatabaseProblem::CannotOpen),
        Some(ErrorCode::DatabaseCorrupt) => Some(DatabaseProblem::Damaged),
        Some(ErrorCode::NotADatabase) => Some(DatabaseProblem::NotAJournal),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Some(DatabaseProblem::Locked),
        Some(ErrorCode::SystemIoFailure) => Some(DatabaseProblem::Io),
        _ => None,
    };
    let report = match error {
        // The message of the connection, or else that of the code.
        rusqlite::Error::SqliteFailure(_, Some(report)) => report,
        other => other.to_string(),
    };
    JournalError::Database { path, problem, report }
}
