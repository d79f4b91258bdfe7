//! The part of a project that contacts registries: finding releases, and fetching them into the cache.
//!
//! Only commands use it. Finding a release does not accept it, and fetched bytes are not trusted.

use std::path::{Component, Path, PathBuf};

use semver::Version;

use super::{Found, Project};
use crate::built_in::{self, BuiltIn};
use crate::error::RegistryError;
use crate::local::Local;
use crate::lock::{LOCK_FILE, Locked};
use crate::oci::{Credentials, Oci};
use crate::reference::{Name, OciReference, Reference, Requirement, Tag, version_of};
use crate::source::{Release, Source};
use crate::statement;
use agenthost_config::RegistryConfig;
use agenthost_core::error::{Classify as _, ErrorClass};
use agenthost_plugin::{Digest, Plugin};

impl Project {
    /// Returns the source of a plugin's releases, from the configuration.
    ///
    /// # Errors
    ///
    /// [`Config`](agenthost_core::error::ErrorClass::Config) if no registry is configured for its namespace, or an
    /// invalid one, unless the plugin is part of the program.
    pub async fn registry(&self, name: &Name) -> Result<Box<dyn Source>, RegistryError> {
        let namespace = name.namespace();
        // A registry for this very namespace may have other releases of the same plugins.
        if let Some(bytes) = self.built_in.get(&name.to_string())
            && !self.registries.contains_key(namespace)
        {
            return Ok(Box::new(BuiltIn::new(name, bytes)));
        }
        let entry = [namespace, "*"]
            .into_iter()
            .find_map(|key| Some((key, self.registries.get(key)?)));
        let Some((key, registry)) = entry else {
            return Err(RegistryError::UnknownNamespace {
                name: name.to_string(),
                namespace: namespace.to_owned(),
            });
        };
        match registry {
            RegistryConfig::Dir(dir) => Ok(Box::new(Local::new(&plain(dir), name))),
            RegistryConfig::Oci(prefix) => {
                let (host, repository) = OciReference::parse_place(&format!("{prefix}/{namespace}/{}", name.name()))
                    .map_err(|source| RegistryError::Registry {
                        key: key.to_owned(),
                        source,
                    })?;
                self.oci(&host, &repository).await
            }
        }
    }

    async fn oci(&self, host: &str, repository: &str) -> Result<Box<dyn Source>, RegistryError> {
        let credentials = Credentials::find(&self.env, host).await?;
        Ok(Box::new(Oci::new(host, repository, credentials)?))
    }

    /// Returns the source behind a reference.
    ///
    /// # Errors
    ///
    /// As [`Project::registry`].
    pub async fn source(&self, reference: &Reference) -> Result<Box<dyn Source>, RegistryError> {
        match reference {
            Reference::Named { name, .. } => self.registry(name).await,
            Reference::Oci(place) => self.oci(&place.host, &place.repository).await,
        }
    }

    /// Returns the source that a lock entry names.
    async fn locked_source(&self, locked: &Locked) -> Result<Box<dyn Source>, RegistryError> {
        if locked.source == built_in::PLACE {
            let bytes = self.built_in.get(&locked.name.to_string());
            let bytes = bytes.ok_or_else(|| RegistryError::NotBuiltIn {
                name: locked.name.to_string(),
            })?;
            return Ok(Box::new(BuiltIn::new(&locked.name, bytes)));
        }
        if locked.source.starts_with(['.', '/']) {
            return Ok(Box::new(Local::at(plain(&self.root.join(&locked.source)))));
        }
        let (host, repository) = OciReference::parse_place(&locked.source).map_err(|error| {
            RegistryError::Reference(error).at(format!("{LOCK_FILE}: the source of {}", locked.name))
        })?;
        self.oci(&host, &repository).await
    }

    /// Finds a release, fetches it into the cache and reads it. This accepts nothing.
    ///
    /// # Errors
    ///
    /// As [`Source`]; [`Denied`](agenthost_core::error::ErrorClass::Denied) if the plugin has another name or version
    /// than requested, or if the version has other bytes than in the lock file.
    pub async fn find(&self, reference: &Reference) -> Result<Found, RegistryError> {
        let source = self.source(reference).await?;
        let tag = match reference {
            Reference::Named { requirement, .. } => match requirement.exact() {
                Some(version) => Tag::Version(version),
                None => Tag::Version(best(&*source, reference, requirement).await?),
            },
            Reference::Oci(OciReference { tag: Some(tag), .. }) => tag.clone(),
            Reference::Oci(_) => Tag::Version(best(&*source, reference, &Requirement::any()).await?),
        };
        let name = match reference {
            Reference::Named { name, .. } => Some(name),
            Reference::Oci(_) => None,
        };
        // A list of the existing releases helps more than the error about this one.
        match (self.fetched(&*source, &tag, name).await, &tag) {
            (Err(error), Tag::Version(version)) if error.class() == ErrorClass::Plugin => {
                match source.versions().await {
                    Ok(versions) if !versions.contains(version) => Err(missing(&*source, reference, versions).await),
                    _ => Err(error),
                }
            }
            (Err(error), Tag::Name(name)) if error.class() == ErrorClass::Plugin => match source.tags().await {
                Ok(tags) if !tags.contains(name) => match source.versions().await {
                    Ok(versions) => Err(missing(&*source, reference, versions).await),
                    Err(_) => Err(error),
                },
                _ => Err(error),
            },
            (found, _) => found,
        }
    }

    /// Returns the newest release that a lock entry allows, from the entry's source; `None` if no newer one is allowed.
    ///
    /// # Errors
    ///
    /// As [`Project::find`].
    pub async fn newer(&self, locked: &Locked) -> Result<Option<Found>, RegistryError> {
        let source = self.locked_source(locked).await?;
        let versions = source.versions().await?;
        if versions.contains(&locked.version) {
            let tag = Tag::Version(locked.version.clone());
            let release = source.find(&tag).await?;
            // The program is not a registry, whose releases never change; another build of it may differ.
            if release.digest != locked.digest && locked.source != built_in::PLACE {
                return Err(moved(locked, &release.digest));
            }
        }
        match locked.wanted.best(&versions) {
            Some(version) if version > locked.version => {
                let tag = Tag::Version(version);
                self.fetched(&*source, &tag, Some(&locked.name)).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Fetches and reads the release behind a tag; `wanted` is the name that it must have.
    async fn fetched(&self, source: &dyn Source, tag: &Tag, wanted: Option<&Name>) -> Result<Found, RegistryError> {
        let release = source.find(tag).await?;
        source.fetch(&release, &self.cache).await?;
        let bytes = self.cache.read(&release.digest)?;
        let at = format!("{}{tag}", source.place());
        let plugin = Plugin::read(&bytes).map_err(|source| RegistryError::component(&at, source))?;
        let (name, version) = statement::identity(&plugin).map_err(|error| RegistryError::Statement(error).at(&at))?;
        let other = |found: String| RegistryError::OtherPlugin { at: at.clone(), found };
        if wanted.is_some_and(|wanted| *wanted != name) {
            return Err(other(name.to_string()));
        }
        match tag {
            Tag::Version(wanted) if *wanted != version => return Err(other(format!("{name} {version}"))),
            _ => {}
        }
        match self.lock.get(&name) {
            Some(locked) if locked.version == version && locked.digest != release.digest => {
                return Err(moved(locked, &release.digest));
            }
            _ => {}
        }
        let signatures = source.signatures(&release).await?;
        Ok(Found {
            name,
            version,
            source: self.written(&source.place()),
            release,
            plugin,
            bytes,
            signatures,
        })
    }

    /// Returns a directory as the lock file names it: relative to the project if they share a parent other than the
    /// root directory.
    fn written(&self, place: &str) -> String {
        let path = Path::new(place);
        if !path.is_absolute() {
            return place.to_owned();
        }
        let shared = |(a, b): &(Component<'_>, Component<'_>)| a == b;
        let common = self.root.components().zip(path.components()).take_while(shared).count();
        // Sharing only the root directory does not count.
        if common < 2 {
            return place.to_owned();
        }
        let up = self.root.components().count() - common;
        let down: PathBuf = path.components().skip(common).collect();
        let relative = match up {
            0 => Path::new(".").join(down),
            up => PathBuf::from("../".repeat(up)).join(down),
        };
        relative.display().to_string()
    }

    /// Fetches everything that `name` and the plugins below it in the lock file lack in the cache, and calls `about`
    /// for each plugin before fetching it.
    ///
    /// # Errors
    ///
    /// As [`Source`].
    pub async fn ready(&self, name: &Name, mut about: impl FnMut(&Locked)) -> Result<(), RegistryError> {
        for name in self.lock.below(name) {
            let Some(locked) = self.lock.get(&name) else { continue };
            let there = self.cache.has(&locked.digest)
                && locked.signatures.iter().all(|digest| self.cache.has_signature(digest));
            if !there {
                about(locked);
                self.fetch(locked)
                    .await
                    .map_err(|error| error.at(format!("{name} {}", locked.version)))?;
            }
        }
        Ok(())
    }

    async fn fetch(&self, locked: &Locked) -> Result<(), RegistryError> {
        let source = self.locked_source(locked).await?;
        let release = Release {
            digest: locked.digest,
            size: locked.size,
            manifest: None,
        };
        if let Err(error) = source.fetch(&release, &self.cache).await {
            // If the version now has other bytes, that explains more than the error.
            if locked.source == built_in::PLACE {
                return Err(error);
            }
            let there = source.find(&Tag::Version(locked.version.clone())).await;
            return Err(match there {
                Ok(there) if there.digest != locked.digest => moved(locked, &there.digest),
                _ => error,
            });
        }
        if locked.signatures.iter().all(|digest| self.cache.has_signature(digest)) {
            return Ok(());
        }
        let release = source.find(&Tag::Version(locked.version.clone())).await?;
        if release.digest != locked.digest {
            return Err(moved(locked, &release.digest));
        }
        for text in source.signatures(&release).await? {
            if locked.signatures.contains(&Digest::of(text.as_bytes())) {
                self.cache.put_signature(&text)?;
            }
        }
        Ok(())
    }
}

/// Returns a path without `.` and `..`, using only its text.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            component => plain.push(component),
        }
    }
    plain
}

/// Returns the highest version that meets the requirement.
async fn best(source: &dyn Source, reference: &Reference, requirement: &Requirement) -> Result<Version, RegistryError> {
    let versions = source.versions().await?;
    match requirement.best(&versions) {
        Some(version) => Ok(version),
        None => Err(missing(source, reference, versions).await),
    }
}

/// Returns the error if none of the existing `versions` meets the requirement.
async fn missing(source: &dyn Source, reference: &Reference, known: Vec<Version>) -> RegistryError {
    let mut tags = source.tags().await.unwrap_or_default();
    tags.retain(|tag| version_of(tag).is_none());
    RegistryError::NoRelease {
        place: source.place(),
        reference: reference.to_string(),
        known,
        tags,
    }
}

fn moved(locked: &Locked, found: &Digest) -> RegistryError {
    RegistryError::Moved {
        name: locked.name.to_string(),
        version: locked.version.clone(),
        locked: locked.digest,
        found: *found,
    }
}
