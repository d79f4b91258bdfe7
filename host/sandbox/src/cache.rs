//! Compiled plugins on disk.
//!
//! A compiled plugin is native code that runs with the host's rights once it is loaded, so the cache trusts nothing
//! that it finds. An entry is valid only if it is in a directory of this user that no other user can write, is a plain
//! file, and carries a MAC over its bytes, the plugin's digest and the engine's version and settings, made with a key
//! that only this user can read. The bytes that were checked are the bytes that are loaded. Anything else is compiled
//! again. A cache that cannot be used costs time, but never fails a run.

use std::fs::{self, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use agenthost_plugin::Digest;

const KEY_BYTES: usize = 32;
const MAC_BYTES: usize = 32;

/// A directory of compiled plugins.
pub(super) struct Cache {
    dir: PathBuf,
    /// The MAC state, initialized with this user's key.
    mac: Hmac<Sha256>,
}

impl Cache {
    /// Opens or creates the cache in `dir`. Returns `None` and logs the reason if the cache cannot be made safe.
    pub(super) fn open(dir: &Path) -> Option<Self> {
        match Self::try_open(dir) {
            Ok(cache) => Some(cache),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "compiled plugins are not cached");
                None
            }
        }
    }

    fn try_open(dir: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let meta = fs::symlink_metadata(dir)?;
        if !meta.is_dir() || meta.uid() != rustix::process::getuid().as_raw() || meta.mode() & 0o022 != 0 {
            return Err(io::Error::other("the directory is not this user's alone"));
        }
        let path = dir.join("key");
        let key = match Self::read_private(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::new_key(dir, &path)?,
            read => read?,
        };
        if key.len() != KEY_BYTES {
            return Err(io::Error::other("the key file is damaged; remove it"));
        }
        let mac = Hmac::new_from_slice(&key).map_err(io::Error::other)?;
        Ok(Self {
            dir: dir.to_owned(),
            mac,
        })
    }

    /// Creates the key. If several processes do so at once, one wins and the others read its key.
    fn new_key(dir: &Path, path: &Path) -> io::Result<Vec<u8>> {
        let mut key = vec![0; KEY_BYTES];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        let temporary = Self::temporary(dir, "key");
        Self::write_private(&temporary, &[&key])?;
        let linked = fs::hard_link(&temporary, path);
        fs::remove_file(&temporary)?;
        match linked {
            Ok(()) => Ok(key),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::read_private(path),
            Err(error) => Err(error),
        }
    }

    /// Returns the compiled plugin if there is an entry that this user made with this engine.
    pub(super) fn load(&self, engine: &Engine, digest: &Digest) -> Option<Component> {
        let path = self.entry(engine, digest);
        let bytes = match Self::read_private(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cached plugin is not loaded");
                return None;
            }
        };
        let (mac, image) = bytes.split_at_checked(MAC_BYTES)?;
        if self.mac(&path, image).verify_slice(mac).is_err() {
            tracing::warn!(path = %path.display(), "cached plugin was changed and is not loaded");
            return None;
        }
        // The image was read once, into memory that no other user can write, and its MAC with this user's key was
        // verified there.
        let component = own_image(engine, image);
        component
            .inspect_err(|error| tracing::debug!(%error, "cached plugin does not fit this engine"))
            .ok()
    }

    /// Stores a compiled plugin. A failure is only logged.
    pub(super) fn store(&self, engine: &Engine, digest: &Digest, image: &[u8]) {
        let path = self.entry(engine, digest);
        let mac = self.mac(&path, image).finalize().into_bytes();
        let temporary = Self::temporary(&self.dir, "entry");
        let written = Self::write_private(&temporary, &[&mac, image]).and_then(|()| fs::rename(&temporary, &path));
        if let Err(error) = written {
            let _ = fs::remove_file(&temporary);
            tracing::warn!(path = %path.display(), %error, "compiled plugin cannot be cached");
        }
    }

    /// Returns the path of an entry. Its name contains digest, engine version, settings and target, and is covered by
    /// the MAC.
    fn entry(&self, engine: &Engine, digest: &Digest) -> PathBuf {
        let mut hasher = Compatibility::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        self.dir.join(format!("{}-{}.bin", digest.hex(), hasher.short_hex()))
    }

    fn mac(&self, path: &Path, image: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        mac.update(&(name.len() as u64).to_le_bytes());
        mac.update(name);
        mac.update(image);
        mac
    }

    fn temporary(dir: &Path, what: &str) -> PathBuf {
        use std::sync::atomic::{AtomicU64, Ordering};
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        dir.join(format!(".{what}-{}-{n}", std::process::id()))
    }

    fn read_private(path: &Path) -> io::Result<Vec<u8>> {
        // Links are not followed: an entry is a file that this user put here.
        let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() || meta.uid() != rustix::process::getuid().as_raw() || meta.mode() & 0o077 != 0 {
            return Err(io::Error::other("the file is not this user's alone"));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write_private(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        for part in parts {
            file.write_all(part)?;
        }
        Ok(())
    }
}

/// Loads native code that this host made. The bytes must be an unchanged image that [`Component::serialize`] returned
/// or a compiler process of this host wrote.
pub(super) fn own_image(engine: &Engine, image: &[u8]) -> wasmtime::Result<Component> {
    #[expect(
        unsafe_code,
        reason = "the image was made by this engine or by a compiler process of this host"
    )]
    // SAFETY: both callers got the image from this host: from the cache under a MAC with this user's key, or through
    // the pipe of a child process that runs the host's own program.
    unsafe {
        Component::deserialize(engine, image)
    }
}

/// A hasher whose result is the same in every process, which `std` does not promise for its own.
struct Compatibility(Sha256);

impl Compatibility {
    fn new() -> Self {
        Self(Sha256::new())
    }

    fn short_hex(self) -> String {
        self.0
            .finalize()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

impl Hasher for Compatibility {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Unused: the whole digest is taken instead.
    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    struct Fixture {
        dir: tempfile::TempDir,
        engine: Engine,
        digest: Digest,
    }

    impl Fixture {
        fn new() -> Self {
            let fixture = Self {
                dir: tempfile::tempdir().unwrap(),
                engine: Engine::default(),
                digest: Digest::of(COMPONENT),
            };
            let image = Component::from_binary(&fixture.engine, COMPONENT)
                .unwrap()
                .serialize()
                .unwrap();
            fixture.cache().store(&fixture.engine, &fixture.digest, &image);
            fixture
        }

        fn cache(&self) -> Cache {
            Cache::open(&self.dir.path().join("cache")).unwrap()
        }

        fn entry(&self) -> PathBuf {
            self.cache().entry(&self.engine, &self.digest)
        }

        fn loads(&self) -> bool {
            self.cache().load(&self.engine, &self.digest).is_some()
        }
    }

    #[test]
    fn an_entry_outlives_the_process_that_made_it() {
        assert!(Fixture::new().loads());
    }

    #[test]
    fn no_flipped_bit_is_loaded() {
        let fixture = Fixture::new();
        let good = fs::read(fixture.entry()).unwrap();
        let step = (good.len() / 400).max(1);
        for at in (0..64).chain((64..good.len()).step_by(step)) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(fixture.entry(), &bad).unwrap();
            assert!(!fixture.loads(), "byte {at} of {} was changed", good.len());
        }
        for cut in [0, 1, MAC_BYTES, good.len() - 1] {
            fs::write(fixture.entry(), &good[..cut]).unwrap();
            assert!(!fixture.loads(), "cut at {cut}");
        }
        fs::write(fixture.entry(), &good).unwrap();
        assert!(fixture.loads());
    }

    #[test]
    fn an_entry_of_another_plugin_a_link_or_another_key_is_not_loaded() {
        let fixture = Fixture::new();
        let good = fs::read(fixture.entry()).unwrap();
        let other = fixture.cache().entry(&fixture.engine, &Digest::of(b"other"));
        fs::copy(fixture.entry(), &other).unwrap();
        assert!(fixture.cache().load(&fixture.engine, &Digest::of(b"other")).is_none());

        let real = fixture.dir.path().join("elsewhere");
        fs::rename(fixture.entry(), &real).unwrap();
        std::os::unix::fs::symlink(&real, fixture.entry()).unwrap();
        assert!(!fixture.loads());
        fs::remove_file(fixture.entry()).unwrap();

        Cache::write_private(&fixture.entry(), &[&good]).unwrap();
        assert!(fixture.loads());
        fs::remove_file(fixture.dir.path().join("cache/key")).unwrap();
        assert!(!fixture.loads());
    }

    #[test]
    fn a_directory_or_file_that_others_can_write_is_not_used() {
        let fixture = Fixture::new();
        fs::set_permissions(fixture.entry(), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(!fixture.loads());
        let dir = fixture.dir.path().join("cache");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Cache::open(&dir).is_none());
    }
}
