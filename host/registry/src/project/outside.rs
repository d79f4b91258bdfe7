//! The part of a project that goes out to registries: finding releases, and fetching them into the cache.
//!
//! Commands alone come here. Nothing that is found is accepted by that, and nothing that is fetched is believed.

use std::path::{Component, Path, PathBuf};

use semver::Version;

use super::{Found, Project};
use crate::local::Local;
use crate::lock::{LOCK_FILE, Locked};
use crate::oci::{Credentials, Oci};
use crate::reference::{Name, OciReference, Reference, Requirement, Tag};
use crate::{Release, Source, statement};
use agenthost_config::RegistryConfig;
use agenthost_core::error::{Error, ErrorClass, Result};
use agenthost_plugin::{Digest, Plugin};

impl Project {
    /// Where the releases of a plugin are kept, as the configuration has it.
    ///
    /// # Errors
    ///
    /// [`Config`](agenthost_core::error::ErrorClass::Config) where no registry is named for its namespace, or one that makes no sense.
    pub async fn registry(&self, name: &Name) -> Result<Box<dyn Source>> {
        let namespace = name.namespace();
        let entry = [namespace, "*"]
            .into_iter()
            .find_map(|key| Some((key, self.registries.get(key)?)));
        let Some((key, registry)) = entry else {
            return Err(
                Error::config(format!("no registry is named for {name}")).with_hint(format!(
                    "Say where plugins of {namespace} are kept: [registries] in agenthost.toml, {namespace} = \
                 \"registry.example/plugins\" or a directory."
                )),
            );
        };
        match registry {
            RegistryConfig::Dir(dir) => Ok(Box::new(Local::new(&plain(dir), name))),
            RegistryConfig::Oci(prefix) => {
                let (host, repository) = OciReference::parse_place(&format!("{prefix}/{namespace}/{}", name.name()))
                    .map_err(|error| {
                        Error::config(format!("[registries] {key}: {error}"))
                            .with_hint(error.hint().unwrap_or_default())
                    })?;
                self.oci(&host, &repository).await
            }
        }
    }

    async fn oci(&self, host: &str, repository: &str) -> Result<Box<dyn Source>> {
        let credentials = Credentials::find(&self.env, host).await?;
        Ok(Box::new(Oci::new(host, repository, credentials)?))
    }

    /// The source behind a reference.
    ///
    /// # Errors
    ///
    /// As [`Project::registry`].
    pub async fn source(&self, reference: &Reference) -> Result<Box<dyn Source>> {
        match reference {
            Reference::Named { name, .. } => self.registry(name).await,
            Reference::Oci(place) => self.oci(&place.host, &place.repository).await,
        }
    }

    /// The source that a lock entry names.
    async fn locked_source(&self, locked: &Locked) -> Result<Box<dyn Source>> {
        if locked.source.starts_with(['.', '/']) {
            return Ok(Box::new(Local::at(plain(&self.root.join(&locked.source)))));
        }
        let (host, repository) = OciReference::parse_place(&locked.source)
            .map_err(|error| error.context(&format!("{LOCK_FILE}: the source of {}", locked.name)))?;
        self.oci(&host, &repository).await
    }

    /// Finds a release, brings it into the cache and reads what it is. Nothing is accepted by that.
    ///
    /// # Errors
    ///
    /// As [`Source`]; [`Denied`](agenthost_core::error::ErrorClass::Denied) for a plugin of another name or version than was asked for,
    /// and for a version whose bytes are not those that the lock file has.
    pub async fn find(&self, reference: &Reference) -> Result<Found> {
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
        match (self.fetched(&*source, &tag, name).await, &tag) {
            // Which releases there are helps more than that this one is not there.
            (Err(error), Tag::Version(version)) if error.class() == ErrorClass::Plugin => {
                match source.versions().await {
                    Ok(versions) if !versions.contains(version) => Err(missing(&*source, reference, &versions)),
                    _ => Err(error),
                }
            }
            (found, _) => found,
        }
    }

    /// The newest release that a lock entry allows, where it is newer than the entry's, from the place where that was found.
    ///
    /// # Errors
    ///
    /// As [`Project::find`].
    pub async fn newer(&self, locked: &Locked) -> Result<Option<Found>> {
        let source = self.locked_source(locked).await?;
        let versions = source.versions().await?;
        if versions.contains(&locked.version) {
            let tag = Tag::Version(locked.version.clone());
            let release = source.find(&tag).await?;
            if release.digest != locked.digest {
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

    /// Fetches what a tag means and reads it; `wanted` is the name that it has to have.
    async fn fetched(&self, source: &dyn Source, tag: &Tag, wanted: Option<&Name>) -> Result<Found> {
        let release = source.find(tag).await?;
        source.fetch(&release, &self.cache).await?;
        let bytes = self.cache.read(&release.digest)?;
        let at = format!("{}{tag}", source.place());
        let plugin = Plugin::read(&bytes).map_err(|error| error.context(&at))?;
        let (name, version) = statement::identity(&plugin).map_err(|error| error.context(&at))?;
        let other = |what: String| {
            Error::denied(format!("{at}: what is kept there is {what}"))
                .with_hint("The registry gives another plugin than its address says; tell those who run it.")
        };
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

    /// A directory as the lock file names it: relative to the project where they have a folder in common.
    fn written(&self, place: &str) -> String {
        let path = Path::new(place);
        if !path.is_absolute() {
            return place.to_owned();
        }
        let shared = |(a, b): &(Component<'_>, Component<'_>)| a == b;
        let common = self.root.components().zip(path.components()).take_while(shared).count();
        // The root directory alone is no neighbourhood.
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

    /// Fetches what is missing in the cache of `name` and all below it in the lock file, after it told `about` it.
    ///
    /// # Errors
    ///
    /// As [`Source`].
    pub async fn ready(&self, name: &Name, mut about: impl FnMut(&Locked)) -> Result<()> {
        for name in self.lock.below(name) {
            let Some(locked) = self.lock.get(&name) else { continue };
            let there = self.cache.has(&locked.digest)
                && locked.signatures.iter().all(|digest| self.cache.has_signature(digest));
            if !there {
                about(locked);
                self.fetch(locked)
                    .await
                    .map_err(|error| error.context(&format!("{name} {}", locked.version)))?;
            }
        }
        Ok(())
    }

    async fn fetch(&self, locked: &Locked) -> Result<()> {
        let source = self.locked_source(locked).await?;
        let release = Release {
            digest: locked.digest,
            size: locked.size,
            manifest: None,
        };
        if let Err(error) = source.fetch(&release, &self.cache).await {
            // That other bytes have come under its version explains more.
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

/// A path without `.` and `..`, as far as its text tells.
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

/// The highest version that will do.
async fn best(source: &dyn Source, reference: &Reference, requirement: &Requirement) -> Result<Version> {
    let versions = source.versions().await?;
    requirement
        .best(&versions)
        .ok_or_else(|| missing(source, reference, &versions))
}

/// That none of `versions`, which are those that there are, will do.
fn missing(source: &dyn Source, reference: &Reference, versions: &[Version]) -> Error {
    let said = versions.iter().map(ToString::to_string).collect::<Vec<_>>();
    let there = match said.as_slice() {
        [] => "There is none of any version: see whether the name is right, and [registries].".to_owned(),
        said => format!("There are {}; a pre-release has to be named in full.", said.join(", ")),
    };
    Error::plugin(format!("{}: no release of {reference}", source.place())).with_hint(there)
}

fn moved(locked: &Locked, found: &Digest) -> Error {
    Error::denied(format!(
        "{} {}: the registry has other bytes under this version than when it was locked: {found} in the place of {}",
        locked.name, locked.version, locked.digest
    ))
    .with_hint(
        "A version is published once, so somebody replaced it: ask its publisher. To take the new bytes all the same, remove \
         the entry from agenthost.lock and add the plugin again.",
    )
}
