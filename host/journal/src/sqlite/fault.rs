//! Describes what went wrong with the file: SQLite's error, and what to do about it.

use std::fmt;
use std::path::Path;

use rusqlite::ErrorCode;

use agenthost_core::error::{Error, ErrorClass};

/// A failed operation, before the name of the file is added.
#[derive(Debug)]
pub(super) enum Trouble {
    /// An error from SQLite.
    Sqlite(rusqlite::Error),
    /// A record that was changed or damaged.
    Damaged(String),
    /// An entry or a query that does not fit the content of the journal.
    Misfit(String),
    /// A complete error, without the name of the file: no run or several runs match, a run is still going on, or the
    /// file has foreign definitions.
    Unknown(Error),
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
    pub(super) fn at(self, path: &Path) -> Error {
        match self {
            Self::Sqlite(error) => sqlite(path, error),
            Self::Damaged(what) => Error::host(format!("the journal was changed or damaged: {what}"))
                .at(path)
                .with_hint(damaged(path)),
            Self::Misfit(what) => Error::host(what).at(path),
            Self::Unknown(error) => error,
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

/// Copies an error, because every waiter of a failed transaction receives it.
pub(super) fn again(error: &Error) -> Error {
    let copy = Error::new(error.class(), error.message());
    match error.hint() {
        Some(hint) => copy.with_hint(hint),
        None => copy,
    }
}

fn damaged(path: &Path) -> String {
    format!(
        "Move it and the files that begin with its name elsewhere and start anew; \
         `sqlite3 {} .recover` prints what can still be read",
        path.display()
    )
}

fn sqlite(path: &Path, error: rusqlite::Error) -> Error {
    let said = match &error {
        // The message of the connection, or else that of the code.
        rusqlite::Error::SqliteFailure(_, Some(said)) => said.clone(),
        other => other.to_string(),
    };
    let (what, hint) = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => (
            "no room to write the journal",
            "Free space on the file system of the journal, then resume the run".into(),
        ),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => (
            "the journal cannot be written",
            "Make the file and its directory writable for this user".into(),
        ),
        Some(ErrorCode::CannotOpen) => (
            "the journal cannot be opened",
            "Check that it is a file, and that this user may read and write it and its directory".into(),
        ),
        Some(ErrorCode::DatabaseCorrupt) => ("the journal is damaged", damaged(path)),
        Some(ErrorCode::NotADatabase) => (
            "this is no journal",
            "Name another file, or move this one elsewhere".into(),
        ),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            "another process keeps the journal locked",
            "Wait until it is done, or name another journal for this one".into(),
        ),
        Some(ErrorCode::SystemIoFailure) => (
            "the journal cannot be read or written",
            "Look for faults of the disk in the system's log".into(),
        ),
        _ => return Error::new(ErrorClass::Host, said).at(path),
    };
    Error::host(format!("{what}: {said}")).at(path).with_hint(hint)
}
