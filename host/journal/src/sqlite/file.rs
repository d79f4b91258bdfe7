//! Creates, recognizes and opens the journal file.
//!
//! The file is created completely under another name and then linked to its own. So no process ever sees half of it,
//! two processes that start at once agree on one file, and an empty file is never taken for a journal.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::super::{FORMAT, FORMATS};
use super::fault::Trouble;
use super::migrate;
use super::schema::{TABLES, check_schema};
use crate::error::JournalError;
use agenthost_core::record::FormatVersion;

/// The application id that marks the file as a journal: `AgHj`.
const APPLICATION: u32 = 0x4167_486a;
/// The time to wait for another process that writes.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// The number of prepared statements that a connection caches: more than there are.
const STATEMENTS: usize = 64;

/// The access mode of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Write,
    Read,
}

/// Returns whether there is a file at `path`.
pub(super) fn is_there(path: &Path) -> Result<bool, JournalError> {
    refuse_links(path)?;
    // A log left beside a missing file would be taken for a part of the new one.
    let left = beside(path, "-wal");
    let stale = left.exists();
    match fs::metadata(path) {
        // A new journal has its tables before it is linked there, so an empty file is a damaged one.
        Ok(file) if file.len() == 0 => Err(JournalError::Empty { path: path.to_owned() }),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound && stale => Err(JournalError::LogAlone { log: left }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(JournalError::Unreachable {
            path: path.to_owned(),
            source: error.into(),
        }),
    }
}

/// Refuses a journal that is not a regular file or is a link, and one in a directory `.agenthost` that is a link. A
/// project, or a plugin that may write there, could have left the link, and prompts and replies would be written to its
/// target.
fn refuse_links(path: &Path) -> Result<(), JournalError> {
    let project = path
        .parent()
        .filter(|parent| parent.file_name().is_some_and(|name| name == ".agenthost"));
    let files = ["", "-wal", "-shm", "-journal"].map(|end| beside(path, end));
    for file in &files {
        // SQLite would block until another process opens the other end of a pipe.
        if fs::symlink_metadata(file).is_ok_and(|found| !found.is_file() && !found.is_symlink()) {
            return Err(JournalError::NotAFile { path: file.clone() });
        }
    }
    for place in project.map(Path::to_owned).into_iter().chain(files) {
        if fs::symlink_metadata(&place).is_ok_and(|found| found.is_symlink()) {
            return Err(JournalError::Link { path: place });
        }
    }
    Ok(())
}

/// Creates the journal at `path` unless there is one.
pub(super) fn ensure(path: &Path) -> Result<(), JournalError> {
    if is_there(path)? {
        return Ok(());
    }
    let failed = |error: std::io::Error| JournalError::Create {
        path: path.to_owned(),
        source: error.into(),
    };
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(failed)?;
    if directory.file_name().is_some_and(|name| name == ".agenthost") {
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(directory.join(".gitignore"))
        {
            Ok(mut file) => std::io::Write::write_all(&mut file, b"*\n").map_err(failed)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let new = draft(path).map_err(failed)?;
    let made = fill(&new).map_err(|trouble| trouble.at(path)).and_then(|()| {
        match fs::hard_link(&new, path) {
            // Another process was first.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            // A file system without links.
            Err(_) => fs::rename(&new, path).map_err(failed),
            Ok(()) => Ok(()),
        }
    });
    // After a failure, the files of the draft's log are left as well.
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(beside(&new, end));
    }
    made?;
    fs::File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed)
}

/// Returns `path` with `end` appended to its name.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}

/// Creates an empty file beside `path` that no other process uses and only its owner can read.
fn draft(path: &Path) -> std::io::Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let new = beside(path, &format!(".{}-{number}.new", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new) {
            Ok(_) => return Ok(new),
            // Left by a killed process with the same id.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// Turns an empty file into a journal.
fn fill(path: &Path) -> Result<(), Trouble> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // `auto_vacuum` takes effect only before the first table is created.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(&format!(
        "BEGIN; {TABLES} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORMAT}; COMMIT;"
    ))?;
    // Closing moves everything from the log to the file.
    connection.close().map_err(|(_, error)| error.into())
}

/// Opens the existing journal at `path`. One of an older format is migrated when it is opened to be written.
pub(super) fn connect(path: &Path, access: Access) -> Result<Connection, JournalError> {
    let (application, version, mut connection) = attach(path, access).map_err(|trouble| trouble.at(path))?;
    if application != APPLICATION {
        return Err(JournalError::OtherDatabase { path: path.to_owned() });
    }
    let version = FormatVersion::new(version);
    version.check(&FORMATS).map_err(|format| JournalError::Format {
        path: path.to_owned(),
        format,
    })?;
    if version != FORMAT && access == Access::Write {
        migrate::migrate(&mut connection, path).map_err(|trouble| trouble.at(path))?;
    }
    check_schema(&connection, TABLES).map_err(|trouble| trouble.at(path))?;
    Ok(connection)
}

fn attach(path: &Path, access: Access) -> Result<(u32, u32, Connection), Trouble> {
    let flags = match access {
        Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE,
        Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
    };
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(PATIENCE)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "synchronous", "FULL")?;
    // The file can come from a stranger: nothing in it may run.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    // A damaged page becomes an error rather than a wrong result.
    connection.pragma_update(None, "cell_size_check", true)?;
    let application = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok((application, version, connection))
}
