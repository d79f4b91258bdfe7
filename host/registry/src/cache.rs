//! A cache of fetched plugins by digest, shared by all projects of a user.
//!
//! Only this user can access the directory. An entry is a plain file named after the SHA-256 of its content, and
//! reading one hashes its bytes at that moment: a tampered entry is refused, not silently repaired. Entries are written
//! to a temporary name and then moved, so there is never half an entry. Nothing expires. The directory may be removed
//! at any time; a project then fetches its plugins again.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use sha2::{Digest as _, Sha256};

use super::error::{CacheError, TamperProblem};
use super::signature::MAX_SIGNATURE_BYTES;
use agenthost_plugin::{Digest, MAX_PLUGIN_BYTES};

/// The cache of fetched plugins and their signatures.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// Returns the cache in `dir`, which is created when something is stored.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use agenthost_core::error::{Classify as _, ErrorClass};
    /// use agenthost_registry::cache::Cache;
    ///
    /// let cache = Cache::new(dir.join("plugins"));
    /// let digest = cache.put(b"a component")?;
    /// assert_eq!(cache.read(&digest)?, b"a component");
    ///
    /// std::fs::write(cache.path(&digest), "another")?;
    /// let error = cache.read(&digest).err().ok_or("it was believed")?;
    /// assert_eq!(error.class(), ErrorClass::Denied);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Returns a cache in which nothing is found and nothing can be stored.
    pub(super) fn none() -> Self {
        Self::new("/nonexistent")
    }

    /// Returns the path for the component with this digest, which may not exist.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{}.wasm", digest.hex()))
    }

    fn signature_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{}.minisig", digest.hex()))
    }

    /// Returns whether there is an entry with this name; its content is checked when it is read.
    pub fn has(&self, digest: &Digest) -> bool {
        fs::symlink_metadata(self.path(digest)).is_ok()
    }

    /// Returns whether there is a signature with this name; its content is checked when it is read.
    pub fn has_signature(&self, digest: &Digest) -> bool {
        fs::symlink_metadata(self.signature_path(digest)).is_ok()
    }

    /// Returns the component with this digest, checked.
    ///
    /// # Errors
    ///
    /// [`Plugin`](agenthost_core::error::ErrorClass::Plugin) if the entry does not exist;
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied) if the entry is a link or its bytes do not match the
    /// digest.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, CacheError> {
        self.checked(&self.path(digest), digest, MAX_PLUGIN_BYTES)
    }

    /// Returns the text of the signature with this digest, checked.
    ///
    /// # Errors
    ///
    /// As [`Cache::read`].
    pub fn signature(&self, digest: &Digest) -> Result<String, CacheError> {
        let path = self.signature_path(digest);
        let bytes = self.checked(&path, digest, MAX_SIGNATURE_BYTES)?;
        String::from_utf8(bytes).map_err(|_| CacheError::NotText { path })
    }

    /// Stores a component.
    ///
    /// # Errors
    ///
    /// [`Host`](agenthost_core::error::ErrorClass::Host) if the cache cannot be written.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, CacheError> {
        let digest = Digest::of(bytes);
        self.write(&self.path(&digest), bytes)?;
        Ok(digest)
    }

    /// Stores the text of a signature.
    ///
    /// # Errors
    ///
    /// [`Host`](agenthost_core::error::ErrorClass::Host) if the cache cannot be written.
    pub fn put_signature(&self, text: &str) -> Result<Digest, CacheError> {
        let digest = Digest::of(text.as_bytes());
        self.write(&self.signature_path(&digest), text.as_bytes())?;
        Ok(digest)
    }

    /// Starts or continues the transfer of a component of `size` bytes.
    ///
    /// # Errors
    ///
    /// [`Host`](agenthost_core::error::ErrorClass::Host) if the cache cannot be written.
    pub fn receive(&self, digest: &Digest, size: u64) -> Result<Part, CacheError> {
        self.open_dir()?;
        let shared = self.dir.join(format!("{}.part", digest.hex()));
        let open = |path: &Path| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(NO_LINKS)
                .open(path)
        };
        let mut path = shared;
        let mut file = open(&path).map_err(unwritable(&path))?;
        // If another process holds the lock, this one fetches into a file of its own: waiting could take forever.
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            path = self.temporary(digest);
            file = open(&path).map_err(unwritable(&path))?;
        }
        let mut part = Part {
            target: self.path(digest),
            path,
            file,
            hash: Sha256::new(),
            len: 0,
            digest: *digest,
            size,
        };
        part.read_what_is_there()?;
        Ok(part)
    }

    /// Reads a plain file and checks its digest.
    fn checked(&self, path: &Path, digest: &Digest, limit: u64) -> Result<Vec<u8>, CacheError> {
        let file = OpenOptions::new().read(true).custom_flags(NO_LINKS).open(path);
        let file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(CacheError::Missing { digest: *digest });
            }
            Err(error) if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink()) => {
                tracing::debug!(%error, path = %path.display(), "a link in the cache");
                return Err(suspicious(path, TamperProblem::Link));
            }
            Err(source) => return Err(unreadable(path)(source)),
        };
        let mut bytes = Vec::new();
        let meta = file.metadata().map_err(unreadable(path))?;
        if !meta.is_file() {
            return Err(suspicious(path, TamperProblem::NotFile));
        }
        file.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable(path))?;
        match Digest::of(&bytes) == *digest {
            true => Ok(bytes),
            false => Err(suspicious(path, TamperProblem::WrongDigest)),
        }
    }

    fn open_dir(&self) -> Result<(), CacheError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(unwritable(&self.dir))?;
        let meta = fs::symlink_metadata(&self.dir).map_err(unwritable(&self.dir))?;
        if !meta.is_dir() || meta.uid() != rustix::process::getuid().as_raw() || meta.mode() & 0o022 != 0 {
            return Err(CacheError::OpenToOthers { dir: self.dir.clone() });
        }
        Ok(())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), CacheError> {
        self.open_dir()?;
        let temporary = self.temporary(&Digest::of(bytes));
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&temporary);
            unwritable(path)(error)
        })
    }

    /// Returns a path that no other process and no other call uses.
    fn temporary(&self, digest: &Digest) -> PathBuf {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        self.dir.join(format!(".{}-{}-{n}", digest.hex(), std::process::id()))
    }
}

/// Makes an open fail if the last part of the path is a link.
pub(super) const NO_LINKS: i32 = rustix::fs::OFlags::NOFOLLOW
    .union(rustix::fs::OFlags::NONBLOCK)
    .bits()
    .cast_signed();

fn suspicious(path: &Path, problem: TamperProblem) -> CacheError {
    CacheError::Tampered {
        path: path.to_owned(),
        problem,
    }
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> CacheError {
    let path = path.to_owned();
    |source| CacheError::Read { path, source }
}

fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> CacheError {
    let path = path.to_owned();
    |source| CacheError::Write { path, source }
}

/// A component that is being transferred into the cache.
#[derive(Debug)]
pub struct Part {
    path: PathBuf,
    target: PathBuf,
    file: File,
    hash: Sha256,
    len: u64,
    digest: Digest,
    size: u64,
}

impl Drop for Part {
    /// Removes the file if nothing was received.
    fn drop(&mut self) {
        if self.len == 0 {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Part {
    /// Returns the number of bytes received so far.
    #[expect(
        clippy::len_without_is_empty,
        reason = "an empty part is one to begin with, and nobody asks"
    )]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Reads what an interrupted transfer left. If it is longer than the component, it is something else and is
    /// discarded.
    fn read_what_is_there(&mut self) -> Result<(), CacheError> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = self.file.read(&mut buffer).map_err(unwritable(&self.path))?;
            let Some(read) = buffer.get(..read).filter(|read| !read.is_empty()) else {
                return Ok(());
            };
            self.hash.update(read);
            self.len += read.len() as u64;
            if self.len > self.size {
                return self.restart();
            }
        }
    }

    fn restart(&mut self) -> Result<(), CacheError> {
        let mut restart = || -> io::Result<()> {
            self.file.set_len(0)?;
            self.file.seek(SeekFrom::Start(0)).map(|_| ())
        };
        restart().map_err(unwritable(&self.path))?;
        (self.hash, self.len) = (Sha256::new(), 0);
        Ok(())
    }

    /// Sets the offset at which the sender starts: the current length, or zero, which discards what was received.
    ///
    /// # Errors
    ///
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied) for any other offset.
    pub fn go_on_from(&mut self, offset: u64) -> Result<(), CacheError> {
        match offset {
            _ if offset == self.len => Ok(()),
            0 => self.restart(),
            _ => Err(CacheError::Offset {
                offset,
                wanted: self.len,
            }),
        }
    }

    /// Appends the next bytes.
    ///
    /// # Errors
    ///
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied) if there are more bytes than announced, in which case
    /// everything is discarded; [`Host`](agenthost_core::error::ErrorClass::Host) if the cache cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), CacheError> {
        if self.len + bytes.len() as u64 > self.size {
            self.discard();
            return Err(CacheError::TooMany { announced: self.size });
        }
        self.file.write_all(bytes).map_err(unwritable(&self.path))?;
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Moves the component into its place after checking its size and digest.
    ///
    /// # Errors
    ///
    /// [`Plugin`](agenthost_core::error::ErrorClass::Plugin) if bytes are missing, in which case the received ones are
    /// kept for the next time; [`Denied`](agenthost_core::error::ErrorClass::Denied) if the bytes do not match the
    /// digest, in which case they are discarded.
    pub fn finish(self) -> Result<PathBuf, CacheError> {
        if self.len < self.size {
            return Err(CacheError::Interrupted {
                received: self.len,
                announced: self.size,
            });
        }
        let found: [u8; 32] = self.hash.clone().finalize().into();
        if found != *self.digest.bytes() {
            self.discard();
            return Err(CacheError::WrongDigest { wanted: self.digest });
        }
        self.file
            .sync_all()
            .and_then(|()| fs::rename(&self.path, &self.target))
            .map_err(unwritable(&self.target))?;
        Ok(self.target.clone())
    }

    fn discard(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost_core::error::{Classify as _, ErrorClass, with_causes};

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().join("plugins"));
        (dir, cache)
    }

    #[test]
    fn what_is_put_there_is_found_by_its_digest_and_a_changed_byte_is_refused() {
        let (_dir, cache) = cache();
        let digest = cache.put(b"bytes").unwrap();
        assert_eq!(cache.read(&digest).unwrap(), b"bytes");
        fs::write(cache.path(&digest), b"bytez").unwrap();
        assert_eq!(cache.read(&digest).unwrap_err().class(), ErrorClass::Denied);
        let other = Digest::of(b"other");
        assert_eq!(cache.read(&other).unwrap_err().class(), ErrorClass::Plugin);
    }

    #[test]
    fn links_in_the_cache_are_refused() {
        let (dir, cache) = cache();
        let digest = cache.put(b"bytes").unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs::rename(cache.path(&digest), &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, cache.path(&digest)).unwrap();
        let error = cache.read(&digest).unwrap_err();
        assert!(with_causes(&error).contains("it is a link"), "{error}");
        assert_eq!(error.class(), ErrorClass::Denied);
        // Nothing is written through a link either.
        let part = cache.dir.join(format!("{}.part", Digest::of(b"x").hex()));
        std::os::unix::fs::symlink(dir.path().join("target"), &part).unwrap();
        assert!(cache.receive(&Digest::of(b"x"), 1).is_err());
        assert!(!dir.path().join("target").exists());
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_dir, cache) = cache();
        let digest = cache.put(b"bytes").unwrap();
        fs::set_permissions(&cache.dir, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(cache.put(b"more").unwrap_err().class(), ErrorClass::Denied);
        assert_eq!(cache.receive(&digest, 5).unwrap_err().class(), ErrorClass::Denied);
    }

    #[test]
    fn an_interrupted_transfer_goes_on_where_it_stopped() {
        let (_dir, cache) = cache();
        let digest = Digest::of(b"0123456789");
        let mut part = cache.receive(&digest, 10).unwrap();
        part.write(b"01234").unwrap();
        let error = part.finish().unwrap_err();
        assert_eq!(with_causes(&error), "the transfer ended after 5 of 10 bytes");
        let mut part = cache.receive(&digest, 10).unwrap();
        assert_eq!(part.len(), 5);
        assert!(part.go_on_from(3).is_err());
        part.go_on_from(5).unwrap();
        part.write(b"56789").unwrap();
        part.finish().unwrap();
        assert_eq!(cache.read(&digest).unwrap(), b"0123456789");
    }

    #[test]
    fn a_sender_that_begins_again_is_taken_from_the_start() {
        let (_dir, cache) = cache();
        let digest = Digest::of(b"0123456789");
        let mut part = cache.receive(&digest, 10).unwrap();
        part.write(b"01234").unwrap();
        drop(part);
        let mut part = cache.receive(&digest, 10).unwrap();
        part.go_on_from(0).unwrap();
        part.write(b"0123456789").unwrap();
        part.finish().unwrap();
        assert_eq!(cache.read(&digest).unwrap(), b"0123456789");
    }

    #[test]
    fn other_bytes_and_more_bytes_leave_nothing() {
        let (_dir, cache) = cache();
        let digest = Digest::of(b"0123456789");
        let mut part = cache.receive(&digest, 10).unwrap();
        part.write(b"012345678X").unwrap();
        assert_eq!(part.finish().unwrap_err().class(), ErrorClass::Denied);
        let mut part = cache.receive(&digest, 10).unwrap();
        assert_eq!(part.len(), 0, "what was wrong is gone");
        assert_eq!(part.write(b"01234567890").unwrap_err().class(), ErrorClass::Denied);
        drop(part);
        assert_eq!(fs::read_dir(&cache.dir).unwrap().count(), 0);
    }

    #[test]
    fn two_at_once_do_not_disturb_each_other() {
        let (_dir, cache) = cache();
        let digest = Digest::of(b"0123456789");
        let mut first = cache.receive(&digest, 10).unwrap();
        first.write(b"0123").unwrap();
        let mut second = cache.receive(&digest, 10).unwrap();
        assert_eq!(second.len(), 0);
        second.write(b"0123456789").unwrap();
        second.finish().unwrap();
        first.write(b"456789").unwrap();
        first.finish().unwrap();
        assert_eq!(cache.read(&digest).unwrap(), b"0123456789");
    }
}
