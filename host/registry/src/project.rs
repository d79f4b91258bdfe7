//! Decides what a project may run, from its lock file, the cache, the policies and the vet files.
//!
//! The command line uses it to find and fetch plugins; a host uses it to get the bytes behind a reference and to learn
//! whether they may run. The host's part never fetches (everything that does is in `outside`), and checks everything
//! again each time: the digest against the lock, the lock against the component, the signatures against the keys, and
//! the whole against the policies.

mod outside;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use semver::Version;

use super::asks::Asks;
use super::built_in;
use super::cache::Cache;
use super::error::{PolicyError, RegistryError};
use super::lock::{Lock, Locked};
use super::policy::{Candidate, CrateCandidate, Origin, POLICY_FILE, Policy, PolicyDecision};
use super::reference::{Name, Reference, Requirement, Tag};
use super::source::Release;
use super::vetted::{VET_FILE, VetFile, Vetted, latest};
use agenthost_config::{Config, Env, RegistryConfig};
use agenthost_plugin::{Digest, Plugin};

/// A project's lock, cache and policies. A plugin is found, judged and locked once, and admitted each time it runs:
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../agenthost/doc/guests.rs"));
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// # let component = double();
/// # std::fs::create_dir_all(dir.join("registry/demo/double"))?;
/// # std::fs::write(dir.join("registry/demo/double/0.1.0.wasm"), &component)?;
/// # std::fs::write(dir.join("agenthost.toml"), "[registries]\ndemo = './registry'")?;
/// # std::fs::write(dir.join("agenthost-policy.toml"), "format = 1\n[references]\nunsigned = 'allow'\nunvetted = 'allow'")?;
/// use agenthost_config::{Config, Env};
/// use agenthost_registry::{Requirement, project::Project};
///
/// let env = Env::new([].into(), dir, None);
/// let config = Config::load(&env)?; // [registries] demo = "./registry"
/// let mut project = Project::open(&config, &env, Some(dir.join("cache")))?;
/// let found = project.find(&"demo:double".parse()?).await?;
/// let verdict = project.judge(&found, true)?; // this project needs no signature and no vet entry
/// let entry = project.entry(&found, Requirement::any(), &verdict)?;
/// project.lock_mut().put(entry);
/// project.lock().write()?;
///
/// # std::fs::remove_dir_all(dir.join("registry"))?;
/// let again = Project::open(&config, &env, Some(dir.join("cache")))?;
/// let locked = again.locked(&"demo:double@0.1.0".parse()?)?;
/// assert_eq!(again.admit(locked)?.bytes, component); // checked, and from the cache
/// # Ok(())
/// # }
/// ```
pub struct Project {
    root: PathBuf,
    lock: Lock,
    cache: Cache,
    policy: Policy,
    vetted: Vec<Vetted>,
    registries: BTreeMap<String, RegistryConfig>,
    env: Env,
    /// The plugins that are part of the program, by their names.
    built_in: BTreeMap<String, &'static [u8]>,
    /// `true` if plugins count as vetted, because the command is about to vet one.
    before_vetting: bool,
}

/// A release that was found in a registry, fetched and read.
pub struct Found {
    /// The plugin's name.
    pub name: Name,
    /// The version of the release.
    pub version: Version,
    /// The place that holds it, as a lock file writes it.
    pub source: String,
    /// The release, as the registry describes it.
    pub release: Release,
    /// The plugin, read from the component.
    pub plugin: Plugin,
    /// The component.
    pub bytes: Vec<u8>,
    /// The texts of its signatures, unchecked.
    pub signatures: Vec<String>,
}

/// A plugin whose bytes were checked and that the policies allow.
pub struct Admitted {
    /// The plugin.
    pub plugin: Plugin,
    /// The component.
    pub bytes: Vec<u8>,
    /// The verdict of the policies.
    pub verdict: PolicyDecision,
}

impl Project {
    /// Reads the lock file, the policies and the vet files of the configuration's project. `cache` is the directory for
    /// fetched plugins; without one, nothing can be fetched.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../agenthost/doc/guests.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use agenthost_config::{Config, Env};
    /// use agenthost_plugin::Plugin;
    /// use agenthost_registry::project::Project;
    ///
    /// # let component = double();
    /// std::fs::write(dir.join("agenthost-policy.toml"), "format = 1\n[paths]\nunsigned = 'deny'\n")?;
    /// let env = Env::new([].into(), dir, None);
    /// let project = Project::open(&Config::load(&env)?, &env, None)?;
    /// assert!(project.lock().is_empty());
    ///
    /// let plugin = Plugin::read(&component)?;
    /// let error = project.judge_path(&dir.join("double.wasm"), &plugin, &component).err().ok_or("it may run")?;
    /// assert!(error.to_string().ends_with("[paths] unsigned = \"deny\" (agenthost-policy.toml:3)"), "{error}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Config`](agenthost_core::error::ErrorClass::Config) if a file cannot be read or is invalid.
    pub fn open(config: &Config, env: &Env, cache: Option<PathBuf>) -> Result<Self, RegistryError> {
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
            built_in: BTreeMap::new(),
            before_vetting: false,
        })
    }

    /// Adds a plugin that is part of the program, so that it can be added to the lock file and vetted. No registry needs
    /// to be configured for it.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../agenthost/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// use std::collections::BTreeMap;
    ///
    /// use agenthost_config::{Config, Env};
    /// use agenthost_registry::project::Project;
    ///
    /// # let env = Env::new(BTreeMap::new(), dir.path(), None);
    /// let project = Project::open(&Config::load(&env)?, &env, Some(dir.path().join("cache")))?;
    /// let project = project.built_in("demo:double", double().leak());
    /// let found = project.find(&"demo:double".parse()?).await?;
    /// assert_eq!((found.version.to_string().as_str(), found.source.as_str()), ("0.1.0", "built-in"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn built_in(mut self, name: impl Into<String>, component: &'static [u8]) -> Self {
        self.built_in.insert(name.into(), component);
        self
    }

    /// Returns the same project, but without requiring that plugins are vetted, for a plugin that is about to be.
    #[must_use]
    pub fn before_vetting(mut self) -> Self {
        self.before_vetting = true;
        self
    }

    /// Returns the most recently vetted release of a plugin before `version`.
    pub fn vetted_before(&self, name: &Name, version: &Version) -> Option<&Vetted> {
        latest(&self.vetted, name, version)
    }

    /// Returns the project's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the lock file.
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// Returns the lock file for changes; [`Lock::write`] saves them.
    pub fn lock_mut(&mut self) -> &mut Lock {
        &mut self.lock
    }

    /// Returns the cache of fetched plugins.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Returns the policies in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns the entries of the project's own vet file and of those that the policies name.
    pub fn vetted(&self) -> &[Vetted] {
        &self.vetted
    }

    /// Judges a found plugin by the policies. If `vetted` is false, the plugin need not be vetted, because it is vetted
    /// before it is accepted.
    ///
    /// # Errors
    ///
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied), with the rule.
    pub fn judge(&self, found: &Found, vetted: bool) -> Result<PolicyDecision, RegistryError> {
        let entries = self.vetted_as(&found.plugin.digest);
        Ok(self.policy.judge(&Candidate {
            plugin: &found.plugin,
            bytes: &found.bytes,
            origin: self.origin(&found.source, &found.name, &found.release.digest)?,
            signatures: &found.signatures,
            vetted: vetted.then_some(&entries),
        })?)
    }

    /// Returns the origin of a release in a source. The program itself is the source of nothing but its own releases,
    /// whatever a lock file says.
    fn origin(&self, source: &str, name: &Name, digest: &Digest) -> Result<Origin, RegistryError> {
        if source != built_in::PLACE {
            let place = source.to_owned();
            return Ok(Origin::Reference { place });
        }
        let name = name.to_string();
        let Some(component) = self.built_in.get(&name) else {
            return Err(RegistryError::NotBuiltIn { name });
        };
        let has = Digest::of(component);
        match has == *digest {
            true => Ok(Origin::BuiltIn(name)),
            false => Err(RegistryError::OtherBuiltIn {
                name,
                has,
                wanted: *digest,
            }),
        }
    }

    fn vetted_as(&self, digest: &Digest) -> Vec<&Vetted> {
        self.vetted.iter().filter(|entry| entry.digest == *digest).collect()
    }

    /// Returns the lock entry for a found release, and puts its signatures into the cache.
    ///
    /// # Errors
    ///
    /// [`Host`](agenthost_core::error::ErrorClass::Host) if the cache cannot be written.
    pub fn entry(&self, found: &Found, wanted: Requirement, verdict: &PolicyDecision) -> Result<Locked, RegistryError> {
        let signatures = found.signatures.iter().map(|text| self.cache.put_signature(text));
        let mut signatures = signatures.collect::<Result<Vec<_>, _>>()?;
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

    /// Returns the lock entry that a reference means.
    ///
    /// # Errors
    ///
    /// [`Plugin`](agenthost_core::error::ErrorClass::Plugin) if the lock has no entry, or only one with another version
    /// or place.
    pub fn locked(&self, reference: &Reference) -> Result<&Locked, RegistryError> {
        let missing = || RegistryError::NotLocked {
            reference: reference.to_string(),
            path: self.lock.path().to_owned(),
        };
        match reference {
            Reference::Named { name, requirement } => {
                let locked = self.lock.get(name).ok_or_else(missing)?;
                match requirement.matches(&locked.version) || requirement.is_any() {
                    true => Ok(locked),
                    false => Err(RegistryError::OtherVersion {
                        reference: reference.to_string(),
                        name: name.to_string(),
                        locked: locked.version.clone(),
                        wanted: requirement.to_string(),
                    }),
                }
            }
            Reference::Oci(place) => {
                let from_there = self.lock.plugins().find(|locked| locked.source == place.place());
                let locked = from_there.ok_or_else(missing)?;
                match &place.tag {
                    Some(Tag::Version(version)) if *version != locked.version => Err(missing()),
                    // Only the registry knows which release this means, and it is not contacted.
                    Some(tag @ (Tag::Name(_) | Tag::Manifest(_))) => Err(RegistryError::LockedByVersion {
                        name: locked.name.to_string(),
                        version: locked.version.clone(),
                        tag: tag.to_string(),
                    }),
                    Some(Tag::Version(_)) | None => Ok(locked),
                }
            }
        }
    }

    /// Returns the plugin of a lock entry, after all checks.
    ///
    /// # Errors
    ///
    /// [`Plugin`](agenthost_core::error::ErrorClass::Plugin) if it is not in the cache;
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied) if something does not match, or if a policy forbids it.
    pub fn admit(&self, locked: &Locked) -> Result<Admitted, RegistryError> {
        let (plugin, bytes, signatures) = self.checked(locked)?;
        let entries = self.vetted_as(&plugin.digest);
        let verdict = self.policy.judge(&Candidate {
            plugin: &plugin,
            bytes: &bytes,
            origin: self.origin(&locked.source, &locked.name, &locked.digest)?,
            signatures: &signatures,
            vetted: (!self.before_vetting).then_some(&entries),
        })?;
        Ok(Admitted { plugin, bytes, verdict })
    }

    /// Returns the plugin of a lock entry, its bytes and the texts of its signatures, checked against the lock file but
    /// not against a policy.
    ///
    /// # Errors
    ///
    /// [`Plugin`](agenthost_core::error::ErrorClass::Plugin) if they are not in the cache;
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied) if something does not match.
    pub fn checked(&self, locked: &Locked) -> Result<(Plugin, Vec<u8>, Vec<String>), RegistryError> {
        let bytes = self
            .cache
            .read(&locked.digest)
            .map_err(|error| RegistryError::Cache(error).at(format!("{} {}", locked.name, locked.version)))?;
        let plugin = Plugin::read(&bytes).map_err(|source| RegistryError::component(&locked.name, source))?;
        locked.check(&plugin)?;
        let signatures = locked.signatures.iter().map(|digest| self.cache.signature(digest));
        Ok((plugin, bytes, signatures.collect::<Result<Vec<_>, _>>()?))
    }

    /// Judges a crate by the policies before it is built, as far as its files allow.
    ///
    /// # Errors
    ///
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied), with the rule.
    pub fn judge_crate(&self, dir: &Path) -> Result<(), PolicyError> {
        let name = wit_package(dir);
        let entries = || self.vetted.iter();
        let of_name = |name: &String| entries().any(|entry| entry.plugin.to_string() == *name);
        // If cargo builds into another directory, a signature may be there.
        let elsewhere = self.env.var("CARGO_TARGET_DIR").is_some();
        self.policy.judge_crate(&CrateCandidate {
            dir: dir.to_owned(),
            may_be_signed: elsewhere || dir.ancestors().any(has_signature),
            may_be_vetted: self.before_vetting || name.as_ref().map_or_else(|| entries().next().is_some(), of_name),
            name,
        })
    }

    /// Judges a plugin that is part of the program by the policies, under the rules for files of this machine.
    ///
    /// # Errors
    ///
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied), with the rule.
    pub fn judge_built_in(&self, plugin: &Plugin, bytes: &[u8]) -> Result<PolicyDecision, RegistryError> {
        Ok(self.policy.judge(&Candidate {
            plugin,
            bytes,
            origin: Origin::BuiltIn(plugin.id.name.clone()),
            signatures: &[],
            vetted: (!self.before_vetting).then_some(&self.vetted_as(&plugin.digest)),
        })?)
    }

    /// Judges a plugin in a file by the policies.
    ///
    /// # Errors
    ///
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied), with the rule.
    pub fn judge_path(&self, path: &Path, plugin: &Plugin, bytes: &[u8]) -> Result<PolicyDecision, RegistryError> {
        let signatures: Vec<String> = super::local::signatures_beside(path)?;
        Ok(self.policy.judge(&Candidate {
            plugin,
            bytes,
            origin: Origin::Path(path.to_owned()),
            signatures: &signatures,
            vetted: (!self.before_vetting).then_some(&self.vetted_as(&plugin.digest)),
        })?)
    }
}

/// Returns `namespace:name` of the package in a crate's `wit/` directory.
fn wit_package(dir: &Path) -> Option<String> {
    /// The maximum size of a file that is read, more than any interface has.
    const MOST_BYTES: u64 = 1 << 20;
    let files = std::fs::read_dir(dir.join("wit"))
        .ok()?
        .flatten()
        .map(|entry| entry.path());
    let texts = files
        .filter(|path| path.extension().is_some_and(|end| end == "wit"))
        .filter_map(|path| {
            let small = std::fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() <= MOST_BYTES);
            small.then(|| std::fs::read_to_string(path).ok()).flatten()
        });
    texts.into_iter().find_map(|text| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix("package "));
        line.map(|line| line.split(['@', ';', '{']).next().unwrap_or_default().trim().to_owned())
    })
}

/// Returns whether a build left a component with a signature below `dir`.
fn has_signature(dir: &Path) -> bool {
    let built = std::fs::read_dir(dir.join("target/agenthost"));
    built
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.path().extension().is_some_and(|end| end == "minisig"))
}

#[cfg(test)]
mod tests {
    use super::*;

    include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../agenthost/doc/guests.rs"));

    #[tokio::test]
    async fn only_the_programs_own_release_counts_as_built_in() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::new([].into(), dir.path(), None);
        let project = || {
            let config = Config::load(&env).unwrap();
            Project::open(&config, &env, Some(dir.path().join("cache"))).unwrap()
        };
        let own = project().built_in("demo:double", double().leak());
        let found = own.find(&"demo:double".parse().unwrap()).await.unwrap();
        let verdict = own.judge(&found, true).unwrap();
        let locked = own.entry(&found, Requirement::any(), &verdict).unwrap();
        assert!(own.admit(&locked).is_ok());

        // The bytes of each are in the cache, so nothing is fetched that could be compared.
        let other = ask();
        let claimed = Locked {
            name: "demo:ask".parse().unwrap(),
            digest: own.cache().put(&other).unwrap(),
            size: other.len() as u64,
            asks: Asks::of(&Plugin::read(&other).unwrap()),
            ..locked.clone()
        };
        let error = own.admit(&claimed).err().unwrap();
        assert!(matches!(error, RegistryError::NotBuiltIn { .. }), "{error:?}");
        let error = project()
            .built_in("demo:double", ask().leak())
            .admit(&locked)
            .err()
            .unwrap();
        assert!(matches!(error, RegistryError::OtherBuiltIn { .. }), "{error:?}");
    }
}
