//! What a project may run: its lock file, the cache, the policies and the vet files, put together.
//!
//! The command line asks it to find and fetch; a host asks it for the bytes behind a reference, and whether they may run.
//! The second never fetches, and checks everything anew each time: the digest against the lock, the lock against the
//! component, the signatures against the keys, and the whole against the policies.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use semver::Version;

use super::asks::Asks;
use super::cache::Cache;
use super::local::Local;
use super::lock::{LOCK_FILE, Lock, Locked};
use super::oci::{Credentials, Oci};
use super::policy::{Candidate, Origin, POLICY_FILE, Policy, Verdict};
use super::reference::{Name, OciReference, Reference, Requirement, Tag};
use super::vetted::{VET_FILE, VetFile, Vetted};
use super::{Release, Source, statement};
use crate::config::{Config, Env, RegistryConfig};
use crate::error::{Error, Result};
use crate::plugin::{Digest, Plugin};

/// A project's lock, cache and policies.
pub struct Project {
    root: PathBuf,
    lock: Lock,
    cache: Cache,
    policy: Policy,
    vetted: Vec<Vetted>,
    registries: BTreeMap<String, RegistryConfig>,
    env: Env,
    /// Whether plugins count as vetted, since that is being decided.
    before_vetting: bool,
}

/// A release that was found in a registry, fetched, and read.
pub struct Found {
    /// Its name.
    pub name: Name,
    /// Its release version.
    pub version: Version,
    /// Where it is kept, as a lock file writes it.
    pub source: String,
    /// The release there.
    pub release: Release,
    /// The plugin.
    pub plugin: Plugin,
    /// The component.
    pub bytes: Vec<u8>,
    /// The texts of its signatures, unchecked.
    pub signatures: Vec<String>,
}

/// A plugin whose bytes were checked, and what the policies say of it.
pub struct Admitted {
    /// The plugin.
    pub plugin: Plugin,
    /// The component.
    pub bytes: Vec<u8>,
    /// What the policies say.
    pub verdict: Verdict,
}

impl Project {
    /// Reads the lock file, the policies and the vet files of the configuration's project. `cache` is where plugins are kept
    /// once they were fetched; without one, nothing is fetched.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::error::ErrorClass::Config) for a file that cannot be read or makes no sense.
    pub fn open(config: &Config, env: &Env, cache: Option<PathBuf>) -> Result<Self> {
        let root = config.project_dir();
        let own = Some(root.join(POLICY_FILE)).filter(|file| std::fs::symlink_metadata(file).is_ok());
        let policies: Vec<PathBuf> = config.policies().iter().cloned().chain(own).collect();
        let policy = Policy::load(env, &policies)?;
        let own = Some(root.join(VET_FILE)).filter(|file| std::fs::symlink_metadata(file).is_ok());
        let mut vetted = Vec::new();
        let named = policy.vet_files();
        for file in own.iter().filter(|own| !named.contains(own)).chain(&named) {
            vetted.extend(VetFile::load(env, file)?.entries().iter().cloned());
        }
        Ok(Self {
            lock: Lock::read(&root)?,
            root,
            cache: cache.map_or_else(Cache::none, Cache::new),
            policy,
            vetted,
            registries: config.registries().clone(),
            env: env.clone(),
            before_vetting: false,
        })
    }

    /// The same project for a look at a plugin that nobody has vetted yet.
    #[must_use]
    pub fn before_vetting(mut self) -> Self {
        self.before_vetting = true;
        self
    }

    /// What was vetted last of the releases of a plugin before `version`.
    pub fn vetted_before(&self, name: &Name, version: &Version) -> Option<&Vetted> {
        let earlier = self
            .vetted
            .iter()
            .filter(|entry| entry.plugin == *name && entry.version < *version);
        earlier.max_by(|one, other| (&one.version, &one.when).cmp(&(&other.version, &other.when)))
    }

    /// The project's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The lock file.
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// The lock file, to be changed; [`Lock::write`] keeps the change.
    pub fn lock_mut(&mut self) -> &mut Lock {
        &mut self.lock
    }

    /// What was fetched.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The policies in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What was vetted, by this project and by those whose files the policies name.
    pub fn vetted(&self) -> &[Vetted] {
        &self.vetted
    }

    /// Where the releases of a plugin are kept, as the configuration has it.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::error::ErrorClass::Config) where no registry is named for its namespace, or one that makes no sense.
    pub async fn registry(&self, name: &Name) -> Result<Box<dyn Source>> {
        let namespace = name.namespace();
        let entry = [namespace, "*"]
            .into_iter()
            .find_map(|key| Some((key, self.registries.get(key)?)));
        let Some((key, registry)) = entry else {
            return Err(Error::config(format!("no registry is named for {name}")).hint(format!(
                "Say where plugins of {namespace} are kept: [registries] in agenthost.toml, {namespace} = \
                 \"registry.example/plugins\" or a directory."
            )));
        };
        match registry {
            RegistryConfig::Dir(dir) => Ok(Box::new(Local::new(&plain(dir), name))),
            RegistryConfig::Oci(prefix) => {
                let (host, repository) = OciReference::parse_place(&format!("{prefix}/{namespace}/{}", name.name()))
                    .map_err(|error| {
                        Error::config(format!("[registries] {key}: {error}"))
                            .hint(error.next_step().unwrap_or_default())
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
            return Ok(Box::new(Local::at(self.root.join(&locked.source))));
        }
        let (host, repository) = OciReference::parse_place(&locked.source)
            .map_err(|error| error.context(&format!("{LOCK_FILE}: the source of {}", locked.name)))?;
        self.oci(&host, &repository).await
    }

    /// Finds a release, brings it into the cache and reads what it is. Nothing is accepted by that.
    ///
    /// # Errors
    ///
    /// As [`Source`]; [`Denied`](crate::error::ErrorClass::Denied) for a plugin of another name or version than was asked for,
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
        self.fetched(&*source, &tag, name).await
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
                .hint("The registry gives another plugin than its address says; tell those who run it.")
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

    /// What the policies say of a plugin that was found. `vetted` says whether it has to be vetted, where they want that: what
    /// is about to be accepted is looked at before.
    ///
    /// # Errors
    ///
    /// [`Denied`](crate::error::ErrorClass::Denied), naming the rule.
    pub fn judge(&self, found: &Found, vetted: bool) -> Result<Verdict> {
        let entries = self.vetted_as(&found.plugin.digest);
        self.policy.judge(&Candidate {
            plugin: &found.plugin,
            bytes: &found.bytes,
            origin: Origin::Reference {
                place: found.source.clone(),
            },
            signatures: &found.signatures,
            vetted: vetted.then_some(&entries),
        })
    }

    fn vetted_as(&self, digest: &Digest) -> Vec<&Vetted> {
        self.vetted.iter().filter(|entry| entry.digest == *digest).collect()
    }

    /// The lock entry that a found release would have, with its signatures put into the cache.
    ///
    /// # Errors
    ///
    /// [`Host`](crate::error::ErrorClass::Host) where the cache cannot be written.
    pub fn entry(&self, found: &Found, wanted: Requirement, verdict: &Verdict) -> Result<Locked> {
        let signatures = found.signatures.iter().map(|text| self.cache.put_signature(text));
        let mut signatures = signatures.collect::<Result<Vec<_>>>()?;
        signatures.sort_by_key(Digest::hex);
        Ok(Locked {
            name: found.name.clone(),
            version: found.version.clone(),
            digest: found.release.digest,
            size: found.release.size,
            wanted,
            source: found.source.clone(),
            signer: verdict.signer.as_ref().map(|(_, key)| key.to_string()),
            signatures,
            asks: Asks::of(&found.plugin),
        })
    }

    /// The lock entry that a reference means.
    ///
    /// # Errors
    ///
    /// [`Plugin`](crate::error::ErrorClass::Plugin) where there is none, or one of another version or place.
    pub fn locked(&self, reference: &Reference) -> Result<&Locked> {
        let add = format!("Add it with `agenthost add {reference}`, which shows what it asks for.");
        let missing = || Error::plugin(format!("{reference} is not in {}", self.lock.path().display())).hint(&add);
        match reference {
            Reference::Named { name, requirement } => {
                let locked = self.lock.get(name).ok_or_else(missing)?;
                match requirement.matches(&locked.version) || requirement.is_any() {
                    true => Ok(locked),
                    false => Err(Error::plugin(format!(
                        "{LOCK_FILE} has {name} {}, and {requirement} was asked for",
                        locked.version
                    ))
                    .hint(&add)),
                }
            }
            Reference::Oci(place) => {
                let from_there = self.lock.plugins().find(|locked| locked.source == place.place());
                let locked = from_there.ok_or_else(missing)?;
                match &place.tag {
                    Some(Tag::Version(version)) if *version != locked.version => Err(missing()),
                    // Which release this means only the registry knows, and it is not asked.
                    Some(Tag::Name(_) | Tag::Manifest(_)) => Err(Error::plugin(format!(
                        "{LOCK_FILE} knows {} {} by its version, not by {}",
                        locked.name,
                        locked.version,
                        place.tag.as_ref().map(ToString::to_string).unwrap_or_default()
                    ))
                    .hint(format!("Name it {}.", locked.name))),
                    Some(Tag::Version(_)) | None => Ok(locked),
                }
            }
        }
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
        source.fetch(&release, &self.cache).await?;
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

    /// The bytes of a lock entry, checked in every way there is.
    ///
    /// # Errors
    ///
    /// [`Plugin`](crate::error::ErrorClass::Plugin) where they are not in the cache;
    /// [`Denied`](crate::error::ErrorClass::Denied) where anything is not what it should be, or a policy forbids it.
    pub fn admit(&self, locked: &Locked) -> Result<Admitted> {
        let (plugin, bytes, signatures) = self.checked(locked)?;
        let entries = self.vetted_as(&plugin.digest);
        let verdict = self.policy.judge(&Candidate {
            plugin: &plugin,
            bytes: &bytes,
            origin: Origin::Reference {
                place: locked.source.clone(),
            },
            signatures: &signatures,
            vetted: (!self.before_vetting).then_some(&entries),
        })?;
        Ok(Admitted { plugin, bytes, verdict })
    }

    /// The plugin of a lock entry, its bytes and the texts of its signatures: what they should be by the lock file, and not
    /// yet held against a policy.
    ///
    /// # Errors
    ///
    /// [`Plugin`](crate::error::ErrorClass::Plugin) where they are not in the cache;
    /// [`Denied`](crate::error::ErrorClass::Denied) where anything is not what it should be.
    pub fn checked(&self, locked: &Locked) -> Result<(Plugin, Vec<u8>, Vec<String>)> {
        let bytes = self
            .cache
            .read(&locked.digest)
            .map_err(|error| error.context(&format!("{} {}", locked.name, locked.version)))?;
        let plugin = Plugin::read(&bytes).map_err(|error| error.context(&locked.name.to_string()))?;
        locked.check(&plugin)?;
        let signatures = locked.signatures.iter().map(|digest| self.cache.signature(digest));
        Ok((plugin, bytes, signatures.collect::<Result<Vec<_>>>()?))
    }

    /// What the policies say of a plugin in a file.
    ///
    /// # Errors
    ///
    /// [`Denied`](crate::error::ErrorClass::Denied), naming the rule.
    pub fn judge_path(&self, path: &Path, plugin: &Plugin, bytes: &[u8]) -> Result<Verdict> {
        let signatures: Vec<String> = super::local::signatures_beside(path)?;
        self.policy.judge(&Candidate {
            plugin,
            bytes,
            origin: Origin::Path(path.to_owned()),
            signatures: &signatures,
            vetted: (!self.before_vetting).then_some(&self.vetted_as(&plugin.digest)),
        })
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
    requirement.best(&versions).ok_or_else(|| {
        let said = versions.iter().map(ToString::to_string).collect::<Vec<_>>();
        let there = match said.as_slice() {
            [] => "There are no releases".to_owned(),
            said => format!("There are {}", said.join(", ")),
        };
        Error::plugin(format!("{}: no release of {reference}", source.place()))
            .hint(format!("{there}; a pre-release has to be named in full."))
    })
}

fn moved(locked: &Locked, found: &Digest) -> Error {
    Error::denied(format!(
        "{} {}: the registry has other bytes under this version than when it was locked: {found} in the place of {}",
        locked.name, locked.version, locked.digest
    ))
    .hint(
        "A version is published once, so somebody replaced it: ask its publisher. To take the new bytes all the same, remove \
         the entry from agenthost.lock and add the plugin again.",
    )
}
