//! Decides what a stranger's file may do: send prompts to an address, grant a directory to a plugin, lift a limit of
//! the operator's, and run the code of its crates.
//!
//! A file *pairs* a provider with an address, or with a key: see `pairs`.
//!
//! A project's file *grants* a directory to a plugin: see `dirs`. Every grant is checked whenever the file is loaded.
//!
//! A project's file *lifts* something that the operator's own file sets, or a default limit: a limit, a grant, the
//! source of a sub-agent. Until the operator accepts the lift, the stricter of both applies, which is not an error; see
//! `lifts`.
//!
//! A *crate* runs code when it is built. A crate may be built if it is below a folder that the operator trusts, or if
//! the operator trusted it by name; see [`crates`].
//!
//! [`Config::load`] checks the providers that models map to and that would receive something, so that a project can
//! name a service that this machine has no key for; [`Config::key`] checks again any provider that is used. What is
//! recorded of an acceptance is the file's path; a digest of each triple of provider, address and key source; a digest
//! of each triple of plugin, directory and access; each lift with both values; and the folder of the crates. The file
//! may change in any other way, but a new address, another key for it, or another directory has to be accepted again.
//!
//! The record is `trust.toml` in [`Env::state_dir`], always written as a whole. If two processes write at the same
//! time, the later one wins, and what the other accepted has to be accepted again. It protects against files, not
//! against programs that run as the operator.

pub mod crates;
pub mod dirs;
pub(super) mod lifts;
mod pairs;
pub mod seal;

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use self::crates::TrustedCrates;
pub use self::dirs::TrustedDir;
pub use self::lifts::TrustedLift;
pub use self::pairs::TrustedPair;
pub(super) use self::pairs::check_provider;
use super::{Config, Env, Lifting, Origin, PROJECT_FILE};
use agenthost_core::error::{Error, Result};
use agenthost_core::printable::shell_word;

/// The record of what the operator accepted for one file or folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustRecord {
    /// The configuration file, or the folder if it has none, with all links resolved.
    pub file: PathBuf,
    /// The pairs, sorted by provider.
    #[serde(default)]
    pub pairs: Vec<TrustedPair>,
    /// The directories outside the file's folder, and those that plugins may write to, sorted by plugin.
    #[serde(default)]
    pub dirs: Vec<TrustedDir>,
    /// The lifts of the operator's own file or of a default, sorted by entry.
    #[serde(default)]
    pub lifts: Vec<TrustedLift>,
    /// The folder whose crates may be built.
    #[serde(default)]
    pub crates: Option<TrustedCrates>,
}

impl TrustRecord {
    /// Returns the record of a folder without a configuration file.
    fn of_crates(file: PathBuf, crates: TrustedCrates) -> Self {
        Self {
            file,
            pairs: Vec::new(),
            dirs: Vec::new(),
            lifts: Vec::new(),
            crates: Some(crates),
        }
    }

    /// Returns whether nothing needs the operator's acceptance.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty() && self.dirs.is_empty() && self.lifts.is_empty() && self.crates.is_none()
    }
}

/// The version of the record's format. Format 1 has neither lifts nor crates, and is read as a record without them.
const FORMAT: u32 = 2;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Store {
    format: u32,
    #[serde(default)]
    trusted: Vec<TrustRecord>,
}

/// Returns the record that [`accept`] would write for `file`: every pair, directory and lift that needs the operator's
/// acceptance, used or not, and the folder of its crates. `file` may be a folder, which means the `agenthost.toml` in
/// it, if there is one.
///
/// # Errors
///
/// As [`Config::load`], except for the errors that ask for trust.
pub fn review(env: &Env, file: &Path) -> Result<TrustRecord> {
    let mut file = env.cwd().join(file);
    refuse_link(env, &file)?;
    if file.is_dir() {
        let inner = file.join(PROJECT_FILE);
        refuse_link(env, &inner)?;
        if !inner.is_file() {
            return crates_of(env, &file);
        }
        file = inner;
    }
    let canonical = canonical(env, &file)?;
    let own = env
        .user_file()
        .is_some_and(|own| fs::canonicalize(own).is_ok_and(|own| own == canonical));
    let config = Config::unchecked(env, (!own).then_some(&file), Lifting::All)?;
    let chosen_by = |origin: &Origin| fs::canonicalize(origin.file()).is_ok_and(|path| path == canonical);
    let pairs = config
        .providers()
        .keys()
        .filter_map(|name| pairs::question(&config, name))
        .filter(|question| chosen_by(question.origin))
        .map(|question| question.pair)
        .collect();
    let dirs = dirs::asked(&config).map(|(dir, _)| dir).collect();
    let lifts = config.lifts.iter().map(|lift| lift.trusted.clone()).collect();
    let folder = canonical.parent().filter(|_| !own);
    let crates = folder.map(|folder| TrustedCrates::below(env, folder)).transpose()?;
    Ok(TrustRecord {
        file: canonical,
        pairs,
        dirs,
        lifts,
        crates: crates.flatten(),
    })
}

/// Refuses a link. A repository could hold one that leads to a folder of many projects, and an acceptance that was
/// meant for the repository would be recorded for all of them.
fn refuse_link(env: &Env, path: &Path) -> Result<()> {
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
        return Ok(());
    }
    let shown = env.shown(path);
    let target = canonical(env, path)?;
    Err(
        Error::usage(format!("{shown} is a link to {}", env.shown(&target))).with_hint(format!(
            "Name that file or folder itself if you mean it: `agenthost trust {}`.",
            shell_word(&target.to_string_lossy())
        )),
    )
}

/// Returns the record for a folder without a configuration file: its crates may be built.
fn crates_of(env: &Env, folder: &Path) -> Result<TrustRecord> {
    let file = canonical(env, folder)?;
    let Some(crates) = TrustedCrates::below(env, &file)? else {
        return Err(Error::usage(format!("{} is too much to trust", env.shown(&file)))
            .with_hint("Name the folder of one project, or of one crate."));
    };
    Ok(TrustRecord::of_crates(file, crates))
}

/// Records the operator's acceptance of everything that `file` asks for, and replaces the earlier record of this file.
/// `file` may be a folder, as in [`review`]. If it asks for nothing, nothing is recorded, and the result has empty
/// lists.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// use std::collections::BTreeMap;
/// use agenthost_config::{Config, Env, trust};
/// use agenthost_core::error::ErrorClass;
///
/// let vars = BTreeMap::from([("ANTHROPIC_API_KEY".to_owned(), "sk-example".to_owned())]);
/// let env = Env::new(vars, dir, Some(dir.join("home")));
/// let file = dir.join("agenthost.toml");
/// std::fs::write(&file, "[models]\nfast = 'anthropic/claude-haiku-5-5'\n[providers.anthropic]\nbase-url = 'https://proxy.example'\n")?;
///
/// let denied = Config::load(&env).err().ok_or("the key would have gone there")?;
/// assert_eq!(denied.class(), ErrorClass::Denied);
/// let asked = trust::review(&env, &file)?;
/// assert!(asked.pairs[0].address.starts_with("https://proxy.example"));
/// assert_eq!(trust::accept(&env, &file)?, asked);
/// assert_eq!(trust::list(&env)?, [asked]);
/// assert!(Config::load(&env).is_ok());
/// assert!(trust::revoke(&env, &file)?);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As [`review`]; [`Host`](agenthost_core::error::ErrorClass::Host) if the record cannot be written.
pub fn accept(env: &Env, file: &Path) -> Result<TrustRecord> {
    keep(env, review(env, file)?)
}

/// Stores `record` in place of an earlier record of the same file.
fn keep(env: &Env, record: TrustRecord) -> Result<TrustRecord> {
    let mut records = list(env)?;
    let before = records.len();
    records.retain(|old| old.file != record.file);
    if !record.is_empty() {
        records.push(record.clone());
        records.sort_by(|a, b| a.file.cmp(&b.file));
    }
    if before > 0 || !records.is_empty() {
        write(env, records)?;
    }
    Ok(record)
}

/// Returns all records, sorted by file.
///
/// # Errors
///
/// [`Host`](agenthost_core::error::ErrorClass::Host) if the record cannot be read.
pub fn list(env: &Env) -> Result<Vec<TrustRecord>> {
    let Some(path) = store_path(env) else {
        return Ok(Vec::new());
    };
    let broken = |why: &dyn std::fmt::Display| {
        Error::host(format!("cannot read {}: {why}", path.display()))
            .with_hint("Remove the file, then run `agenthost trust` again where it is needed.")
    };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(broken(&error)),
    };
    let store: Store = toml::from_str(&text).map_err(|error| broken(&error.message()))?;
    if !(1..=FORMAT).contains(&store.format) {
        return Err(broken(&format!(
            "its format is {}, and only those up to {FORMAT} are known",
            store.format
        )));
    }
    Ok(store.trusted)
}

/// Removes the record of `file`; returns false if there was none. The file itself need not exist anymore.
///
/// # Errors
///
/// [`Host`](agenthost_core::error::ErrorClass::Host) if the record cannot be read or written.
pub fn revoke(env: &Env, file: &Path) -> Result<bool> {
    let given = env.cwd().join(file);
    let canonical = fs::canonicalize(&given).unwrap_or_else(|_| given.clone());
    let inner = canonical.join(PROJECT_FILE);
    let mut records = list(env)?;
    let before = records.len();
    records.retain(|record| ![&canonical, &given, &inner].contains(&&record.file));
    let found = records.len() < before;
    if found {
        write(env, records)?;
    }
    Ok(found)
}

/// Returns the lifts that were accepted for a project's file; empty if the record cannot be read.
pub(super) fn accepted_lifts(env: &Env, file: Option<&Path>) -> Vec<TrustedLift> {
    let canonical = file.and_then(|file| fs::canonicalize(file).ok());
    let records = canonical.as_ref().and_then(|_| list(env).ok()).unwrap_or_default();
    let record = records
        .into_iter()
        .find(|record| Some(&record.file) == canonical.as_ref());
    record.map(|record| record.lifts).unwrap_or_default()
}

/// Checks all granted directories, and all providers that models map to and that would receive something.
pub(super) fn check(config: &Config) -> Result<()> {
    dirs::asked(config).try_for_each(|(dir, origin)| dirs::check(config, &dir, origin))?;
    let mut names: Vec<&str> = config
        .models()
        .values()
        .flatten()
        .map(|model| model.provider.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    // Without the key that it names, a provider fails before anything is sent.
    names
        .into_iter()
        .filter(|name| pairs::sends(config, name))
        .try_for_each(|name| check_provider(config, name))
}

fn digest(three: [&[u8]; 3]) -> String {
    // None of the three contains a zero byte, so different lists yield different texts.
    Sha256::digest(three.join(&0))
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Returns `None` if the record of the file of `origin` has what `known` looks for. Otherwise returns the words that say whether
/// anything else was accepted for that file.
fn unaccepted(config: &Config, origin: &Origin, known: impl Fn(&TrustRecord) -> bool) -> Result<Option<&'static str>> {
    let canonical = canonical(&config.env, origin.file())?;
    let record = list(&config.env)?.into_iter().find(|record| record.file == canonical);
    Ok(match record {
        None => Some(""),
        Some(record) if known(&record) => None,
        Some(_) => Some("; this is not what was accepted for the file before"),
    })
}

fn canonical(env: &Env, file: &Path) -> Result<PathBuf> {
    fs::canonicalize(file).map_err(|error| {
        let missing = error.kind() == io::ErrorKind::NotFound;
        let error = Error::config(format!("cannot read {}: {error}", env.shown(file)));
        if missing {
            return error.with_hint("Name a configuration file that exists.");
        }
        error
    })
}

fn store_path(env: &Env) -> Option<PathBuf> {
    Some(env.state_dir()?.join("trust.toml"))
}

fn write(env: &Env, trusted: Vec<TrustRecord>) -> Result<()> {
    let Some(path) = store_path(env) else {
        return Err(Error::host("there is no home directory to keep the record of trust in")
            .with_hint("Set HOME or XDG_STATE_HOME to an absolute path."));
    };
    let failed = |why: &dyn std::fmt::Display| Error::host(format!("cannot write {}: {why}", path.display()));
    let store = Store {
        format: FORMAT,
        trusted,
    };
    let text = toml::to_string(&store).map_err(|error| failed(&error))?;
    replace(&path, text.as_bytes()).map_err(|error| failed(&error))
}

/// Replaces the file at `path` atomically; only the owner can read it.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| fs::rename(&temporary, path));
    if renamed.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    renamed
}

fn create(temporary: &Path) -> io::Result<File> {
    let open = || {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(temporary)
    };
    match open() {
        // Left by a killed process with the same id.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(temporary)?;
            open()
        }
        opened => opened,
    }
}

#[cfg(test)]
mod tests;
