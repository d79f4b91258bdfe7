//! The documents of a plugin's memory, as files of a granted directory.
//!
//! The document `notes/2026` is the file `notes/2026.json` below the opened directory. The parts of a name are opened one
//! by one without following links, so a name leads nowhere else, whatever is in the directory.
//!
//! **Writing is atomic.** A document is written to a temporary file, made durable and renamed. A reader sees the old
//! document or the new one, also after a crash and beside other processes, and the last write wins. The temporary files
//! are in the opened directory, and begin with a dot, as no document does. The writer holds a lock on its file; one
//! without a lock was left by a process that ended, and the first write of a run removes it.
//!
//! **Bounds.** What is written counts for the quota of the directory, each document and directory that is created as a
//! file. A document and the names of a listing have at most [`MAX_DOCUMENT_BYTES`], and a listing looks at no more than
//! [`MAX_ENTRIES`] files and directories.
//!
//! Left out: the record of what a task does, and the check of an operation by itself.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, flock, fstat, fsync, mkdirat, openat, renameat, statat,
    unlinkat,
};
use rustix::io::Errno;

use super::files::{Account, OpenDir, Refusals};
use agenthost_core::document::{
    DocumentAction, DocumentError, DocumentOperation, DocumentResult, MAX_DOCUMENT_BYTES, MAX_NAME_PARTS, check_json,
    is_part, too_large,
};

/// The most files and directories that a listing looks at.
const MAX_ENTRIES: u64 = 10_000;
/// The end of the name of a document's file.
const ENDING: &str = ".json";
/// The beginning of the name of a temporary file.
const TEMPORARY: &str = ".put-";
/// The most temporary files that a write tries to create.
const MAX_TRIES: usize = 10;

/// How a directory is opened.
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The documents in an opened directory. Clones are cheap and refer to the same directory.
#[derive(Clone)]
pub struct Documents {
    dir: OpenDir,
    cleaned: Arc<Once>,
}

impl Documents {
    /// Returns the documents in a directory.
    pub fn new(dir: OpenDir) -> Self {
        Self {
            dir,
            cleaned: Arc::new(Once::new()),
        }
    }

    /// Does what `operation` asks for, which was checked before. Blocks.
    pub fn apply(&self, operation: &DocumentOperation) -> DocumentResult {
        let name = &operation.name;
        let done = |()| DocumentResult::Done;
        let result = match operation.action {
            DocumentAction::Get => self.get(name).map(|json| DocumentResult::Document { json }),
            DocumentAction::Put => self.put(name, operation.json.as_deref().unwrap_or_default()).map(done),
            DocumentAction::Remove => self.remove(name).map(done),
            DocumentAction::List => self.list(name),
        };
        result.unwrap_or_else(DocumentResult::from)
    }

    fn get(&self, name: &str) -> Result<Option<String>, DocumentError> {
        let failed = |error| failed(name, &error);
        let place = Place::of(name);
        let Some(parent) = self.parent(&place, None)? else {
            return Ok(None);
        };
        // Without waiting, because it may be a pipe.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&parent, &place.file, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        let stat = fstat(&file).map_err(|error| failed(error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(failed(io::Error::other("not a file")));
        }
        let mut bytes = Vec::new();
        let most = MAX_DOCUMENT_BYTES as u64 + 1;
        File::from(file).take(most).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > MAX_DOCUMENT_BYTES {
            return Err(too_large(name));
        }
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| DocumentError::InvalidJson(format!("{name}{ENDING}: not UTF-8")))?;
        match check_json(&text) {
            Err(DocumentError::InvalidJson(why)) => Err(DocumentError::InvalidJson(format!("{name}{ENDING}: {why}"))),
            checked => checked.map(|()| Some(text)),
        }
    }

    fn put(&self, name: &str, json: &str) -> Result<(), DocumentError> {
        let failed = |error| failed(name, &error);
        let account = self.account()?;
        let root = self.root().map_err(failed)?;
        self.cleaned.call_once(|| clean(&root));
        account.bytes(json.len() as u64).map_err(|_| self.full(&account))?;
        let place = Place::of(name);
        let Some(parent) = self.parent(&place, Some(&account))? else {
            return Err(failed(Errno::NOENT.into()));
        };
        let is_new = statat(&parent, &place.file, AtFlags::SYMLINK_NOFOLLOW).is_err();
        if is_new {
            account.file().map_err(|_| self.full(&account))?;
        }
        let written = write(&root, json.as_bytes(), |temporary| {
            renameat(&root, temporary, &parent, &place.file)?;
            fsync(&parent)?;
            Ok(())
        });
        if written.is_err() && is_new {
            account.not_made();
        }
        written.map_err(failed)
    }

    fn remove(&self, name: &str) -> Result<(), DocumentError> {
        self.account()?;
        let place = Place::of(name);
        let Some(parent) = self.parent(&place, None)? else {
            return Ok(());
        };
        match unlinkat(&parent, &place.file, AtFlags::empty()) {
            Ok(()) => fsync(&parent).map_err(|error| failed(name, &error.into())),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed(name, &error.into())),
        }
    }

    fn list(&self, prefix: &str) -> Result<DocumentResult, DocumentError> {
        let root = self.root().map_err(|error| failed(prefix, &error))?;
        let mut listing = DocumentListing {
            prefix,
            names: Vec::new(),
            bytes: 0,
            entries: 0,
        };
        listing.read(root, String::new(), 1)?;
        listing.names.sort_unstable();
        Ok(DocumentResult::Names {
            names: listing.names,
            entries: listing.entries,
        })
    }

    /// Opens the directory itself: the handle may be a location only, and has one position for all its readers.
    fn root(&self) -> io::Result<OwnedFd> {
        Ok(openat(self.dir.handle(), ".", DIRECTORY, Mode::empty())?)
    }

    /// Opens the directory of a document; `None` if it does not exist. With an account, it is created.
    fn parent(&self, place: &Place<'_>, make: Option<&Account>) -> Result<Option<OwnedFd>, DocumentError> {
        let failed = |error: Errno| failed(place.name, &error.into());
        let mut dir = self.root().map_err(|error| self::failed(place.name, &error))?;
        for part in &place.dirs {
            let mut opened = openat(&dir, *part, DIRECTORY, Mode::empty());
            if opened.as_ref().err() == Some(&Errno::NOENT) {
                let Some(account) = make else { return Ok(None) };
                account.file().map_err(|_| self.full(account))?;
                match mkdirat(&dir, *part, Mode::from_raw_mode(0o777)) {
                    Ok(()) => fsync(&dir).map_err(failed)?,
                    Err(error) => {
                        account.not_made();
                        if error != Errno::EXIST {
                            return Err(failed(error));
                        }
                    }
                }
                opened = openat(&dir, *part, DIRECTORY, Mode::empty());
            }
            dir = opened.map_err(failed)?;
        }
        Ok(Some(dir))
    }

    fn account(&self) -> Result<Account, DocumentError> {
        let quota = self.dir.quota().ok_or(DocumentError::ReadOnly)?;
        Ok(Account::new(quota, 0, &Refusals::default()))
    }

    fn full(&self, account: &Account) -> DocumentError {
        DocumentError::QuotaFull(self.dir.full(account.quota()))
    }
}

/// The place of a document below its directory.
struct Place<'a> {
    name: &'a str,
    dirs: Vec<&'a str>,
    file: String,
}

impl<'a> Place<'a> {
    fn of(name: &'a str) -> Self {
        let mut dirs: Vec<_> = name.split('/').collect();
        let file = dirs.pop().unwrap_or_default();
        Self {
            name,
            dirs,
            file: format!("{file}{ENDING}"),
        }
    }
}

fn failed(name: &str, error: &io::Error) -> DocumentError {
    DocumentError::Io(format!("`{name}`: {error}"))
}

/// Writes a temporary file in `root` and passes its name to `rename`. Nothing is left of it if that fails.
fn write(root: &OwnedFd, bytes: &[u8], rename: impl FnOnce(&str) -> io::Result<()>) -> io::Result<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    for _ in 0..MAX_TRIES {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{TEMPORARY}{}-{number}", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(root, &name, flags, Mode::from_raw_mode(0o666)) {
            Ok(file) => file,
            // Left by an earlier process with the same id, or of a process of another machine or container.
            Err(Errno::EXIST) => continue,
            Err(error) => return Err(error.into()),
        };
        let locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
        if locked == Err(Errno::WOULDBLOCK) || fstat(&file)?.st_nlink == 0 {
            // Another process took it for a file that was left behind, and removes it.
            continue;
        }
        let mut file = File::from(file);
        let renamed = file
            .write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| rename(&name));
        if renamed.is_err() {
            let _ = unlinkat(root, &name, AtFlags::empty());
        }
        return renamed;
    }
    Err(Errno::EXIST.into())
}

/// Removes the temporary files that ended processes have left in `root`. Errors are ignored: a file that stays takes
/// space and does no other harm.
fn clean(root: &OwnedFd) {
    let Ok(mut dir) = openat(root, ".", DIRECTORY, Mode::empty()).and_then(Dir::new) else {
        return;
    };
    let mut entries = 0;
    while let Some(Ok(entry)) = dir.read() {
        entries += 1;
        if entries > MAX_ENTRIES {
            return;
        }
        let name = entry.file_name();
        if !name.to_bytes().starts_with(TEMPORARY.as_bytes()) {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = openat(root, name, flags, Mode::empty()) else {
            continue;
        };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = unlinkat(root, name, AtFlags::empty());
        }
    }
}

/// The names that begin with a text, while they are read.
struct DocumentListing<'a> {
    prefix: &'a str,
    names: Vec<String>,
    bytes: usize,
    entries: u64,
}

impl DocumentListing<'_> {
    /// Reads a directory at level `depth`, in which the names begin with `above`.
    fn read(&mut self, dir: OwnedFd, above: String, depth: usize) -> Result<(), DocumentError> {
        let failed = |error: Errno| failed(&above, &error.into());
        let mut dir = Dir::new(dir).map_err(failed)?;
        let mut below = Vec::new();
        while let Some(entry) = dir.read() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(DocumentError::TooLarge(format!(
                    "the memory has more than {MAX_ENTRIES} files and directories"
                )));
            }
            let Ok(name) = name.to_str() else { continue };
            let kind = match entry.file_type() {
                FileType::Unknown => statat(dir.fd().map_err(failed)?, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
                known => known,
            };
            match kind {
                FileType::Directory if is_part(name) && depth < MAX_NAME_PARTS => below.push(name.to_owned()),
                FileType::RegularFile => {
                    let part = name.strip_suffix(ENDING).filter(|part| is_part(part));
                    if let Some(part) = part {
                        self.add(format!("{above}{part}"))?;
                    }
                }
                _ => {}
            }
        }
        for part in below {
            let names = format!("{above}{part}/");
            if !names.starts_with(self.prefix) && !self.prefix.starts_with(&names) {
                continue;
            }
            match openat(dir.fd().map_err(failed)?, &part, DIRECTORY, Mode::empty()) {
                Ok(opened) => self.read(opened, names, depth + 1)?,
                // It was removed in the meantime.
                Err(Errno::NOENT) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    fn add(&mut self, name: String) -> Result<(), DocumentError> {
        if !name.starts_with(self.prefix) {
            return Ok(());
        }
        self.bytes += name.len();
        if self.bytes > MAX_DOCUMENT_BYTES {
            return Err(too_large(self.prefix));
        }
        self.names.push(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
