//! The record of what the operator accepted, `trust.toml` in [`Env::state_dir`].
//!
//! The file is always written as a whole. If two processes write at the same time, the later one wins, and what the
//! other accepted has to be accepted again.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::lifts::TrustedLift;
use crate::config::Config;
use crate::env::Env;
use crate::error::TrustError;
use crate::origin::Origin;
use agenthost_core::llm::ServerToolGrants;

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
    /// The tools that providers may run for plugins, sorted by plugin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_tools: Vec<TrustedServerTools>,
    /// The lifts of the operator's own file or of a default, sorted by entry.
    #[serde(default)]
    pub lifts: Vec<TrustedLift>,
    /// The schedules, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<TrustedSchedule>,
    /// The folder whose crates may be built.
    #[serde(default)]
    pub crates: Option<TrustedCrates>,
}

impl TrustRecord {
    /// Returns the record of a folder without a configuration file.
    pub(super) fn of_crates(file: PathBuf, crates: TrustedCrates) -> Self {
        Self {
            file,
            pairs: Vec::new(),
            dirs: Vec::new(),
            server_tools: Vec::new(),
            lifts: Vec::new(),
            schedules: Vec::new(),
            crates: Some(crates),
        }
    }

    /// Returns whether nothing needs the operator's acceptance.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
            && self.dirs.is_empty()
            && self.server_tools.is_empty()
            && self.lifts.is_empty()
            && self.schedules.is_empty()
            && self.crates.is_none()
    }
}

/// The version of the record's format. Format 1 has neither lifts nor crates, format 2 has no headers and parameters,
/// format 3 has no schedules, and format 4 has no tools of providers; all are read as records without them.
const FORMAT: u32 = 5;

/// The format of a record, whatever else it has.
#[derive(Deserialize)]
struct TrustFormat {
    format: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustFile {
    format: u32,
    #[serde(default)]
    trusted: Vec<TrustRecord>,
}

/// A provider and the address that its prompts may be sent to, with its key source if it has one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedPair {
    /// The provider's name.
    pub provider: String,
    /// The base URL.
    pub address: String,
    /// A description of the key source; empty for a provider without a key.
    pub key: String,
    /// Descriptions of the headers and query parameters that are sent with each request, without their values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// The SHA-256 digest of the fields above and of the values that the file itself has, in hexadecimal, which later
    /// pairs are compared with.
    pub sha256: String,
}

/// A directory and the plugin that may access it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedDir {
    /// `namespace:name`.
    pub plugin: String,
    /// The directory, with all links resolved.
    pub dir: PathBuf,
    /// A description of the access: read, or read and write, with a quota that is not the default.
    pub access: String,
    /// The SHA-256 digest of the three fields above, in hexadecimal, which later grants are compared with.
    pub sha256: String,
}

/// The tools that a provider may run for a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedServerTools {
    /// `namespace:name`.
    pub plugin: String,
    /// The tools with their bounds, which later grants are compared with.
    pub tools: ServerToolGrants,
}

/// A schedule that may run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedSchedule {
    /// Its name.
    pub name: String,
    /// A description of the plugin, the times, the cost, the limits and the files.
    pub runs: String,
    /// The SHA-256 digest of everything that its section sets, in hexadecimal, which later ones are compared with.
    pub sha256: String,
}

/// A folder whose crates may be built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedCrates {
    /// The folder, with all links resolved.
    pub dir: PathBuf,
    /// The files above the folder that influence a build, as found when the folder was trusted.
    #[serde(default)]
    pub outside: Vec<PathBuf>,
}

/// Stores `record` in place of an earlier record of the same file.
pub(super) fn keep(env: &Env, record: TrustRecord) -> Result<TrustRecord, TrustError> {
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
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// use agenthost_config::{Env, trust};
///
/// let env = Env::new([].into(), home.path(), Some(home.path().into()));
/// assert_eq!(trust::list(&env)?, []);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Host`](agenthost_core::error::ErrorClass::Host) if the record cannot be read.
pub fn list(env: &Env) -> Result<Vec<TrustRecord>, TrustError> {
    let Some(path) = store_path(env) else {
        return Ok(Vec::new());
    };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(TrustError::ReadRecord { path, source }),
    };
    let broken = |error: toml::de::Error| TrustError::BrokenRecord {
        path: path.clone(),
        problem: error.message().to_owned(),
    };
    // A newer format may have keys that this version does not know.
    let TrustFormat { format } = toml::from_str(&text).map_err(broken)?;
    if !(1..=FORMAT).contains(&format) {
        return Err(TrustError::RecordFormat {
            path,
            found: format,
            known: FORMAT,
        });
    }
    let store: TrustFile = toml::from_str(&text).map_err(broken)?;
    Ok(store.trusted)
}

/// Returns the lifts that were accepted for a project's file; empty if the record cannot be read.
pub(crate) fn accepted_lifts(env: &Env, file: Option<&Path>) -> Vec<TrustedLift> {
    let canonical = file.and_then(|file| fs::canonicalize(file).ok());
    let records = canonical.as_ref().and_then(|_| list(env).ok()).unwrap_or_default();
    let record = records
        .into_iter()
        .find(|record| Some(&record.file) == canonical.as_ref());
    record.map(|record| record.lifts).unwrap_or_default()
}

pub(super) fn digest(parts: &[&[u8]]) -> String {
    // None of the parts contains a zero byte, so different lists yield different texts.
    Sha256::digest(parts.join(&0))
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Returns `None` if the record of the file of `origin` has what `known` looks for. Otherwise returns whether anything
/// else was accepted for that file.
pub(super) fn unaccepted(
    config: &Config,
    origin: &Origin,
    known: impl Fn(&TrustRecord) -> bool,
) -> Result<Option<bool>, TrustError> {
    let canonical = canonical(&config.env, origin.file())?;
    let record = list(&config.env)?.into_iter().find(|record| record.file == canonical);
    Ok(match record {
        None => Some(false),
        Some(record) if known(&record) => None,
        Some(_) => Some(true),
    })
}

pub(super) fn canonical(env: &Env, file: &Path) -> Result<PathBuf, TrustError> {
    fs::canonicalize(file).map_err(|source| TrustError::Read {
        shown: env.shown(file),
        source,
    })
}

fn store_path(env: &Env) -> Option<PathBuf> {
    Some(env.state_dir()?.join("trust.toml"))
}

pub(super) fn write(env: &Env, trusted: Vec<TrustRecord>) -> Result<(), TrustError> {
    let Some(path) = store_path(env) else {
        return Err(TrustError::NoHome);
    };
    let store = TrustFile {
        format: FORMAT,
        trusted,
    };
    let text = toml::to_string(&store).map_err(io::Error::other);
    text.and_then(|text| replace(&path, text.as_bytes()))
        .map_err(|source| TrustError::WriteRecord { path, source })
}

/// Replaces the file at `path` atomically; only the owner can read it.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = write_beside(path, bytes)?;
    let renamed = fs::rename(&temporary, path);
    if renamed.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    renamed
}

/// Creates the file at `path` with its whole content, unless it exists; only the owner can read it. Of several
/// processes at once, one creates it.
pub(super) fn create_once(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = write_beside(path, bytes)?;
    let linked = fs::hard_link(&temporary, path);
    let _ = fs::remove_file(&temporary);
    match linked {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    }
}

/// Writes a file beside `path` that only the owner can read, and returns its path.
fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    match written {
        Ok(()) => Ok(temporary),
        Err(error) => {
            let _ = fs::remove_file(&temporary);
            Err(error)
        }
    }
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
