//! A directory as a registry: `DIR/acme/competitor/1.2.0.wasm`, with its signatures beside it.
//!
//! It needs no server: a shared disk, a checkout of a repository or a folder on a USB stick is enough. Signatures are
//! minisign files named after the component, `1.2.0.wasm.minisig`; further ones have a word in between, as in
//! `1.2.0.wasm.ops.minisig`. A release is written once: its file appears as a whole, and a file with other content
//! never replaces it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use semver::Version;

use super::cache::NO_LINKS;
use super::error::{LocalError, RegistryError};
use super::reference::{Name, Tag};
use super::signature::{MAX_SIGNATURE_BYTES, MAX_SIGNATURES};
use super::source::{Publication, Published, Release, Source};
use agenthost_core::plain_file::{self, Links};
use agenthost_plugin::{Digest, MAX_PLUGIN_BYTES};

/// The directory that holds one plugin of a registry.
#[derive(Debug, Clone)]
pub struct Local {
    dir: PathBuf,
}

impl Local {
    /// Returns the source of the releases of `name` in the registry `root`.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use agenthost_registry::{Source as _, local::Local};
    ///
    /// std::fs::create_dir_all(dir.join("acme/competitor"))?;
    /// std::fs::write(dir.join("acme/competitor/1.2.0.wasm"), "a component")?;
    /// let local = Local::new(dir, &"acme:competitor".parse()?);
    /// assert_eq!(local.versions().await?, ["1.2.0".parse()?]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(root: &Path, name: &Name) -> Self {
        Self::at(root.join(name.namespace()).join(name.name()))
    }

    /// Returns the source of the releases in `dir` itself, which is the form that lock files use.
    pub(super) fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    fn component(&self, version: &Version) -> PathBuf {
        self.dir.join(format!("{version}.wasm"))
    }

    /// Returns the file names in the directory; empty if the registry does not have it.
    fn names(&self) -> Result<Vec<String>, LocalError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // The registry's own directory is two levels above.
                return match self.dir.ancestors().nth(2).filter(|root| !root.exists()) {
                    Some(root) => Err(LocalError::NoRegistry { dir: root.to_owned() }),
                    None => Ok(Vec::new()),
                };
            }
            Err(source) => return Err(unreadable(&self.dir)(source)),
        };
        let mut names = Vec::new();
        for entry in entries {
            // A name that is not UTF-8 is not the name of a release.
            names.extend(entry.map_err(unreadable(&self.dir))?.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    fn read(&self, version: &Version) -> Result<Vec<u8>, LocalError> {
        read(&self.component(version), MAX_PLUGIN_BYTES)
    }

    /// Returns the version whose component has this digest.
    fn version_of(&self, digest: &Digest) -> Result<Version, LocalError> {
        for version in self.found()? {
            if self.read(&version).is_ok_and(|bytes| Digest::of(&bytes) == *digest) {
                return Ok(version);
            }
        }
        Err(LocalError::NoDigest {
            dir: self.dir.clone(),
            digest: *digest,
        })
    }

    fn found(&self) -> Result<Vec<Version>, LocalError> {
        let names = self.names()?;
        let version = |name: &String| name.strip_suffix(".wasm")?.parse().ok();
        let mut versions: Vec<Version> = names.iter().filter_map(version).collect();
        versions.sort();
        Ok(versions)
    }

    fn sign(&self, version: &Version, signatures: &[String]) -> Result<(), LocalError> {
        let known = signatures_beside(&self.component(version))?;
        for signature in signatures.iter().filter(|signature| !known.contains(signature)) {
            let plain = self.dir.join(format!("{version}.wasm.minisig"));
            let digest = Digest::of(signature.as_bytes()).hex();
            let path = match plain.exists() {
                false => plain,
                true => self.dir.join(format!(
                    "{version}.wasm.{}.minisig",
                    digest.get(..16).unwrap_or(&digest)
                )),
            };
            create(&path, signature.as_bytes())?;
        }
        Ok(())
    }
}

#[async_trait]
impl Source for Local {
    fn place(&self) -> String {
        self.dir.display().to_string()
    }

    async fn versions(&self) -> Result<Vec<Version>, RegistryError> {
        Ok(self.found()?)
    }

    async fn find(&self, tag: &Tag) -> Result<Release, RegistryError> {
        let Tag::Version(version) = tag else {
            return Err(LocalError::NotVersion { dir: self.dir.clone() }.into());
        };
        if fs::symlink_metadata(self.component(version)).is_err() {
            let missing = LocalError::NoRelease {
                dir: self.dir.clone(),
                version: version.clone(),
                known: self.found()?,
            };
            return Err(missing.into());
        }
        let bytes = self.read(version)?;
        Ok(Release {
            digest: Digest::of(&bytes),
            size: bytes.len() as u64,
            manifest: None,
        })
    }

    async fn open(
        &self,
        release: &Release,
        from: u64,
    ) -> Result<(u64, BoxStream<'static, Result<Bytes, RegistryError>>), RegistryError> {
        let path = self.component(&self.version_of(&release.digest)?);
        let mut file = open(&path)?;
        file.seek(SeekFrom::Start(from)).map_err(unreadable(&path))?;
        let chunks = stream::try_unfold((file, path), |(mut file, path)| async move {
            let mut buffer = vec![0; 256 << 10];
            let read = file.read(&mut buffer).map_err(unreadable(&path))?;
            buffer.truncate(read);
            Ok((read > 0).then(|| (Bytes::from(buffer), (file, path))))
        });
        Ok((from, chunks.boxed()))
    }

    async fn signatures(&self, release: &Release) -> Result<Vec<String>, RegistryError> {
        Ok(signatures_beside(&self.component(&self.version_of(&release.digest)?))?)
    }

    async fn publish(&self, publication: Publication<'_>) -> Result<Published, RegistryError> {
        let version = publication.version;
        let path = self.component(version);
        fs::create_dir_all(&self.dir).map_err(unwritable(&self.dir))?;
        let existed = match create(&path, publication.bytes) {
            Ok(()) => false,
            Err(error) if fs::symlink_metadata(&path).is_err() => return Err(error.into()),
            Err(_) => {
                let there = Digest::of(&self.read(version)?);
                if there != publication.plugin.digest {
                    let published = LocalError::Published {
                        path,
                        version: version.clone(),
                        digest: there,
                    };
                    return Err(published.into());
                }
                true
            }
        };
        self.sign(version, publication.signatures)?;
        Ok(Published {
            release: Release {
                digest: publication.plugin.digest,
                size: publication.bytes.len() as u64,
                manifest: None,
            },
            existed,
        })
    }
}

/// Returns the texts of the signatures beside a component: `PLUGIN.wasm.minisig`, and others with a word in between.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// use agenthost_registry::local::signatures_beside;
///
/// std::fs::write(dir.join("x.wasm.minisig"), "one")?;
/// std::fs::write(dir.join("x.wasm.ops.minisig"), "another")?;
/// std::fs::write(dir.join("y.wasm.minisig"), "of another component")?;
/// assert_eq!(signatures_beside(&dir.join("x.wasm"))?, ["one", "another"]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Plugin`](agenthost_core::error::ErrorClass::Plugin) if a signature cannot be read.
pub fn signatures_beside(component: &Path) -> Result<Vec<String>, LocalError> {
    let (Some(dir), Some(name)) = (component.parent(), component.file_name()) else {
        return Ok(Vec::new());
    };
    let prefix = format!("{}.", name.to_string_lossy());
    let folder = Local::at(if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    });
    let names = folder.names()?.into_iter();
    names
        .filter(|name| name.starts_with(&prefix) && name.ends_with(".minisig"))
        .take(MAX_SIGNATURES)
        .map(|name| signature(&dir.join(name)))
        .collect()
}

fn signature(file: &Path) -> Result<String, LocalError> {
    let bytes = read(file, MAX_SIGNATURE_BYTES)?;
    String::from_utf8(bytes).map_err(|_| LocalError::NotText { path: file.to_owned() })
}

fn open(path: &Path) -> Result<File, LocalError> {
    plain_file::open(path, Links::Refuse).map_err(unreadable(path))
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, LocalError> {
    let mut bytes = Vec::new();
    open(path)?
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable(path))?;
    match bytes.len() as u64 > limit {
        true => Err(LocalError::TooLarge {
            path: path.to_owned(),
            limit,
        }),
        false => Ok(bytes),
    }
}

/// Writes a new file as a whole; fails if the file exists.
fn create(path: &Path, bytes: &[u8]) -> Result<(), LocalError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let temporary = path.with_file_name(format!(".{name}-{}", std::process::id()));
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(NO_LINKS)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        // A link, because a rename would replace a file that another process has put there in the meantime.
        fs::hard_link(&temporary, path)
    };
    let written = write();
    let _ = fs::remove_file(&temporary);
    written.map_err(unwritable(path))
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> LocalError {
    let path = path.to_owned();
    |source| LocalError::Read { path, source }
}

fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> LocalError {
    let path = path.to_owned();
    |source| LocalError::Write { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Cache;
    use agenthost_core::error::{Classify as _, ErrorClass};

    fn registry() -> (tempfile::TempDir, Local, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let local = Local::new(&dir.path().join("registry"), &"acme:x".parse().unwrap());
        fs::create_dir_all(&local.dir).unwrap();
        let cache = Cache::new(dir.path().join("cache"));
        (dir, local, cache)
    }

    #[tokio::test]
    async fn a_registry_that_is_not_there_is_not_an_empty_one() {
        let (dir, local, _) = registry();
        fs::remove_dir_all(&local.dir).unwrap();
        assert_eq!(local.versions().await.unwrap(), [], "only this plugin is missing");
        fs::remove_dir_all(dir.path().join("registry")).unwrap();
        let version = Tag::Version("1.0.0".parse().unwrap());
        for error in [
            local.versions().await.unwrap_err(),
            local.find(&version).await.unwrap_err(),
        ] {
            assert_eq!(error.class(), ErrorClass::Config);
            let text = error.to_string();
            assert!(
                text.ends_with("/registry: the registry's directory does not exist"),
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn releases_are_files_named_after_their_versions() {
        let (_dir, local, cache) = registry();
        assert_eq!(local.versions().await.unwrap(), []);
        for (name, bytes) in [("1.2.0", b"one".as_slice()), ("1.10.0", b"two")] {
            fs::write(local.dir.join(format!("{name}.wasm")), bytes).unwrap();
        }
        fs::write(local.dir.join("readme.txt"), "").unwrap();
        fs::write(local.dir.join("latest.wasm"), "").unwrap();
        let versions: Vec<_> = local
            .versions()
            .await
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(versions, ["1.2.0", "1.10.0"]);
        let release = local.find(&Tag::Version("1.10.0".parse().unwrap())).await.unwrap();
        local.fetch(&release, &cache).await.unwrap();
        assert_eq!(cache.read(&release.digest).unwrap(), b"two");
        let error = local.find(&Tag::Version("2.0.0".parse().unwrap())).await.unwrap_err();
        assert_eq!(error.hint().as_deref(), Some("Of this plugin there are 1.2.0, 1.10.0."));
    }

    #[tokio::test]
    async fn a_file_that_changed_since_it_was_found_is_not_taken() {
        let (_dir, local, cache) = registry();
        let file = local.dir.join("1.0.0.wasm");
        fs::write(&file, b"good").unwrap();
        let release = local.find(&Tag::Version(Version::new(1, 0, 0))).await.unwrap();
        fs::write(&file, b"evil").unwrap();
        assert!(local.fetch(&release, &cache).await.is_err());
        assert!(!cache.has(&release.digest));
    }

    #[tokio::test]
    async fn links_are_not_followed() {
        let (dir, local, _cache) = registry();
        fs::write(dir.path().join("secret"), b"secret").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), local.dir.join("1.0.0.wasm")).unwrap();
        let error = local.find(&Tag::Version(Version::new(1, 0, 0))).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Plugin);
    }

    #[tokio::test]
    async fn signatures_lie_beside_their_component() {
        let (_dir, local, _cache) = registry();
        fs::write(local.dir.join("1.0.0.wasm"), b"one").unwrap();
        let release = local.find(&Tag::Version(Version::new(1, 0, 0))).await.unwrap();
        assert_eq!(local.signatures(&release).await.unwrap(), Vec::<String>::new());
        let texts = ["first".to_owned(), "second".to_owned()];
        local.sign(&Version::new(1, 0, 0), &texts).unwrap();
        local.sign(&Version::new(1, 0, 0), &texts).unwrap();
        assert!(local.dir.join("1.0.0.wasm.minisig").is_file());
        let mut found = local.signatures(&release).await.unwrap();
        found.sort();
        assert_eq!(found, texts, "each once");
    }
}
