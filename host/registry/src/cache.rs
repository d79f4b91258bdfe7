//! Plugins that were fetched, by their digest; shared by all projects of this user.
//!
//! The directory is this user's alone, an entry is a plain file whose name is the SHA-256 of what is in it, and whoever
//! reads one gets bytes that were hashed at that moment: what was tampered with since is refused, not repaired in silence.
//! Entries are written beside their place and moved there, so there is never half of one. Nothing expires; the directory
//! may be removed at any time, and what a project needs is fetched again.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use sha2::{Digest as _, Sha256};

use super::MAX_SIGNATURE_BYTES;
use agenthost_core::error::{Error, Result};
use agenthost_plugin::{Digest, MAX_PLUGIN_BYTES};

/// Fetched plugins and their signatures.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// The cache in `dir`, which is made when something is put there.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use agenthost_core::error::ErrorClass;
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

    /// No cache: nothing is found there, and nothing can be put there.
    pub(super) fn none() -> Self {
        Self::new("/nonexistent")
    }

    /// Where the component of that digest lies, or would.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{}.wasm", digest.hex()))
    }

    fn signature_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{}.minisig", digest.hex()))
    }

    /// Whether there is an entry of that name; what is in it is checked when it is read.
    pub fn has(&self, digest: &Digest) -> bool {
        fs::symlink_metadata(self.path(digest)).is_ok()
    }

    /// Whether there is a signature of that name; what is in it is checked when it is read.
    pub fn has_signature(&self, digest: &Digest) -> bool {
        fs::symlink_metadata(self.signature_path(digest)).is_ok()
    }

    /// The component of that digest, checked.
    ///
    /// # Errors
    ///
    /// [`Plugin`](agenthost_core::error::ErrorClass::Plugin) where it is not there;
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied) for an entry that is a link or whose bytes are not those of the digest.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.checked(&self.path(digest), digest, MAX_PLUGIN_BYTES)
    }

    /// The text of the signature of that digest, checked.
    ///
    /// # Errors
    ///
    /// As [`Cache::read`].
    pub fn signature(&self, digest: &Digest) -> Result<String> {
        let path = self.signature_path(digest);
        let bytes = self.checked(&path, digest, MAX_SIGNATURE_BYTES)?;
        String::from_utf8(bytes).map_err(|_| Error::denied("the signature is not text").at(&path))
    }

    /// Keeps a component whose bytes are at hand.
    ///
    /// # Errors
    ///
    /// [`Host`](agenthost_core::error::ErrorClass::Host) where the cache cannot be written.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        self.write(&self.path(&digest), bytes)?;
        Ok(digest)
    }

    /// Keeps the text of a signature.
    ///
    /// # Errors
    ///
    /// [`Host`](agenthost_core::error::ErrorClass::Host) where the cache cannot be written.
    pub fn put_signature(&self, text: &str) -> Result<Digest> {
        let digest = Digest::of(text.as_bytes());
        self.write(&self.signature_path(&digest), text.as_bytes())?;
        Ok(digest)
    }

    /// Begins or goes on with fetching a component of `size` bytes.
    ///
    /// # Errors
    ///
    /// [`Host`](agenthost_core::error::ErrorClass::Host) where the cache cannot be written.
    pub fn receive(&self, digest: &Digest, size: u64) -> Result<Part> {
        self.open_dir()?;
        let shared = self.dir.join(format!("{}.part", digest.hex()));
        let failed = |path: &Path, error: io::Error| unwritable(path, &error);
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
        let mut file = open(&path).map_err(|error| failed(&path, error))?;
        // Who comes second fetches on its own: waiting for another process could take forever.
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            path = self.temporary(digest);
            file = open(&path).map_err(|error| failed(&path, error))?;
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
    fn checked(&self, path: &Path, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let file = OpenOptions::new().read(true).custom_flags(NO_LINKS).open(path);
        let file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(
                    Error::plugin(format!("{digest} is not in the cache")).with_hint("Fetch it with `agenthost pull`.")
                );
            }
            Err(error) if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink()) => {
                tracing::debug!(%error, path = %path.display(), "a link in the cache");
                return Err(suspicious(path, "it is a link, and the cache has none"));
            }
            Err(error) => return Err(Error::host(format!("{}: {error}", path.display()))),
        };
        let mut bytes = Vec::new();
        let meta = file.metadata().map_err(|error| unwritable(path, &error))?;
        if !meta.is_file() {
            return Err(suspicious(path, "it is not a plain file"));
        }
        file.take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::host(format!("{}: {error}", path.display())))?;
        match Digest::of(&bytes) == *digest {
            true => Ok(bytes),
            false => Err(suspicious(path, "its bytes are not those of its digest")),
        }
    }

    fn open_dir(&self) -> Result<()> {
        let failed = |error: io::Error| unwritable(&self.dir, &error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(failed)?;
        let meta = fs::symlink_metadata(&self.dir).map_err(failed)?;
        if !meta.is_dir() || meta.uid() != rustix::process::getuid().as_raw() || meta.mode() & 0o022 != 0 {
            return Err(
                Error::denied(format!("{}: not a directory of this user alone", self.dir.display()))
                    .with_hint("Remove it, or take the rights of others to write there away."),
            );
        }
        Ok(())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
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
            unwritable(path, &error)
        })
    }

    /// A name that no other process and no other call uses.
    fn temporary(&self, digest: &Digest) -> PathBuf {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        self.dir.join(format!(".{}-{}-{n}", digest.hex(), std::process::id()))
    }
}

/// Fails where the last part of a path is a link.
pub(super) const NO_LINKS: i32 = rustix::fs::OFlags::NOFOLLOW
    .union(rustix::fs::OFlags::NONBLOCK)
    .bits()
    .cast_signed();

fn suspicious(path: &Path, why: &str) -> Error {
    Error::denied(format!("{}: refused: {why}", path.display())).with_hint(
        "Somebody or something changed the cache. Remove the entry, then fetch it again with `agenthost pull`.",
    )
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    Error::host(format!("{}: {error}", path.display()))
        .with_hint("The cache of plugins has to be writable; XDG_CACHE_HOME says where it is.")
}

/// A component that is on its way into the cache.
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
    /// What nothing came of leaves nothing behind.
    fn drop(&mut self) {
        if self.len == 0 {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Part {
    /// How many bytes are there already.
    #[expect(
        clippy::len_without_is_empty,
        reason = "an empty part is one to begin with, and nobody asks"
    )]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Takes up what an interrupted transfer left; more than is wanted is something else and goes.
    fn read_what_is_there(&mut self) -> Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = self
                .file
                .read(&mut buffer)
                .map_err(|error| unwritable(&self.path, &error))?;
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

    fn restart(&mut self) -> Result<()> {
        let mut restart = || -> io::Result<()> {
            self.file.set_len(0)?;
            self.file.seek(SeekFrom::Start(0)).map(|_| ())
        };
        restart().map_err(|error| unwritable(&self.path, &error))?;
        (self.hash, self.len) = (Sha256::new(), 0);
        Ok(())
    }

    /// Says where the sender begins: where this ends, or at the start, and then all over.
    ///
    /// # Errors
    ///
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied) for any other place.
    pub fn go_on_from(&mut self, offset: u64) -> Result<()> {
        match offset {
            _ if offset == self.len => Ok(()),
            0 => self.restart(),
            _ => Err(Error::denied(format!(
                "the registry begins at byte {offset} where {} was asked for",
                self.len
            ))),
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied) where there are more than were announced, and nothing is kept;
    /// [`Host`](agenthost_core::error::ErrorClass::Host) where the cache cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.len + bytes.len() as u64 > self.size {
            self.discard();
            return Err(
                Error::denied(format!("more bytes came than the {} that were announced", self.size))
                    .with_hint("The registry is broken or hostile; nothing was kept."),
            );
        }
        self.file
            .write_all(bytes)
            .map_err(|error| unwritable(&self.path, &error))?;
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Puts the component into its place, if it is the one.
    ///
    /// # Errors
    ///
    /// [`Plugin`](agenthost_core::error::ErrorClass::Plugin) where bytes are missing, and what is there is kept for the next time;
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied) for other bytes than the digest's, which are thrown away.
    pub fn finish(self) -> Result<PathBuf> {
        if self.len < self.size {
            return Err(
                Error::plugin(format!("the transfer ended after {} of {} bytes", self.len, self.size))
                    .with_hint("Try again: it goes on where it stopped."),
            );
        }
        let found: [u8; 32] = self.hash.clone().finalize().into();
        if found != *self.digest.bytes() {
            self.discard();
            return Err(Error::denied(format!("what came is not {}", self.digest))
                .with_hint("The registry gave other bytes than it announced; nothing was kept."));
        }
        self.file
            .sync_all()
            .and_then(|()| fs::rename(&self.path, &self.target))
            .map_err(|error| unwritable(&self.target, &error))?;
        Ok(self.target.clone())
    }

    fn discard(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost_core::error::ErrorClass;

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
        assert!(error.to_string().contains("it is a link"), "{error}");
        assert_eq!(error.class(), ErrorClass::Denied);
        // Nor is anything written through one.
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
        assert_eq!(error.to_string(), "the transfer ended after 5 of 10 bytes");
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
