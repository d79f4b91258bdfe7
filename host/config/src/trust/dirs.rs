//! The directories that a configuration grants to a plugin by its name.
//!
//! A project's file must not choose what a plugin reads outside the folder that it lies in, be it through a link: what is
//! read there can be sent to a model. Nor may it let a plugin write anywhere, inside the folder either: there are files
//! that programs run or obey, such as git's hooks, cargo's configuration, or the project's file itself. Both need the
//! operator's word. Reading inside the folder needs none, nor does what the operator's own file and command line give.
//!
//! A plugin's name is what its component says, so a file of a stranger can have any. A grant by name therefore counts for
//! a plugin of the lock file, and for one that lies where the operator trusts it: in a folder of `agenthost trust`, or, for
//! a grant of a project's file, in that project's folder. What lies elsewhere is refused.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{canonical, digest, list};
use crate::dirs::{DirQuota, place};
use crate::{Config, DirGrant, Origin};
use agenthost_core::error::{Error, Result};
use agenthost_core::printable::shell_word;

/// A directory and the plugin that may have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedDir {
    /// `namespace:name`.
    pub plugin: String,
    /// The directory, with all links resolved.
    pub dir: PathBuf,
    /// What the plugin may do there, in words.
    pub access: String,
    /// The SHA-256 digest of the three, in hexadecimal: what a later grant is compared by.
    pub sha256: String,
}

/// Asks for one directory.
pub(super) fn check(config: &Config, dir: &TrustedDir, origin: &Origin) -> Result<()> {
    let canonical = canonical(&config.env, origin.file())?;
    let records = list(&config.env)?;
    let record = records.iter().find(|record| record.file == canonical);
    if record.is_some_and(|record| record.dirs.iter().any(|known| known.sha256 == dir.sha256)) {
        return Ok(());
    }
    let file = config.env.shown(origin.file());
    let since = if record.is_some() {
        "; this is not what was accepted for the file before"
    } else {
        ""
    };
    let why = match is_beside(&dir.dir, origin) {
        true => "where it could change what this project runs and what its files allow",
        false => "which lies outside the folder of this file",
    };
    Err(Error::denied(format!(
        "{origin}: {} could {} {}, {why}{since}",
        dir.plugin,
        dir.access,
        dir.dir.display()
    ))
    .with_hint(format!(
        "Read {file}, then run `agenthost trust {}` if the plugin may have that directory.",
        shell_word(&file)
    )))
}

/// The granted directories that need the operator's word, with the place of the grant: those that a file other than the
/// operator's own gives, and that are not below the file's folder, or may be written to.
pub(super) fn asked(config: &Config) -> impl Iterator<Item = (TrustedDir, &Origin)> {
    let by_strangers = config.grants.iter().filter_map(|(plugin, grant)| {
        let origin = config.origin(&format!("grants.{plugin}.dirs"))?;
        (config.user_file() != Some(origin.file())).then_some((plugin, grant, origin))
    });
    by_strangers.flat_map(|(plugin, grant, origin)| {
        let question = move |dir: &DirGrant| {
            let access = access(dir);
            let host = dir.host.as_os_str().as_bytes();
            let dir = TrustedDir {
                plugin: plugin.clone(),
                dir: dir.host.clone(),
                sha256: digest([plugin.as_bytes(), host, access.as_bytes()]),
                access,
            };
            (dir, origin)
        };
        let dirs = grant.dirs.iter();
        dirs.filter(move |dir| dir.write || !is_beside(&dir.host, origin))
            .map(question)
    })
}

/// What a plugin may do there, with a quota that is not the usual one: a larger one is a new question.
fn access(dir: &DirGrant) -> String {
    let usual = DirQuota::default();
    let shown = |number: Option<u64>| number.map_or_else(|| "none".to_owned(), |number| number.to_string());
    let mut access = dir.access().to_owned();
    if dir.write && dir.quota != usual {
        access += &format!(" (quota={},files={})", shown(dir.quota.bytes), shown(dir.quota.files));
    }
    access
}

/// Whether `path` lies in the folder of the file of `origin`, all links followed.
pub(super) fn is_beside(path: &Path, origin: &Origin) -> bool {
    let file = place(origin.file());
    file.parent().is_some_and(|folder| place(path).starts_with(folder))
}

/// Whether the plugin at `path`, a component or a crate's directory, is one that the directories granted to the name
/// `plugin` are meant for.
///
/// # Errors
///
/// [`Host`](agenthost_core::error::ErrorClass::Host) for a record of trust that cannot be read.
#[doc(hidden)]
pub fn is_meant(config: &Config, plugin: &str, path: &Path) -> Result<bool> {
    let Ok(path) = fs::canonicalize(path) else {
        return Ok(false);
    };
    let origin = config.origin(&format!("grants.{plugin}.dirs"));
    let project = origin.filter(|origin| config.user_file() != Some(origin.file()));
    let own = project.and_then(|origin| place(origin.file()).parent().map(Path::to_owned));
    if own.is_some_and(|folder| is_within(&path, &folder)) {
        return Ok(true);
    }
    let records = list(&config.env)?;
    let mut folders = records.iter().filter_map(|record| record.crates.as_ref());
    Ok(folders.any(|folder| is_within(&path, &folder.dir)))
}

/// Refuses `dirs` to a plugin that they are not meant for.
#[doc(hidden)]
pub fn refusal(config: &Config, plugin: &str, path: &Path, dirs: &[DirGrant]) -> Error {
    let granted = config
        .origin(&format!("grants.{plugin}.dirs"))
        .map_or_else(|| "the configuration".to_owned(), ToString::to_string);
    let shown: Vec<_> = dirs.iter().map(ToString::to_string).collect();
    let folder = match path.is_dir() {
        true => path,
        false => path.parent().unwrap_or(path),
    };
    let folder = match config.env.shown(folder) {
        shown if shown.is_empty() => ".".to_owned(),
        shown => shown,
    };
    Error::denied(format!(
        "{} calls itself {plugin}, but you do not trust its folder, and {granted} grants that name {}",
        config.env.shown(path),
        shown.join(", ")
    ))
    .with_hint(format!(
        "Run `agenthost trust {}` if the plugins there may have what is granted to them, or give this one each directory \
         with --dir.",
        shell_word(&folder)
    ))
}

/// Whether `path` is the folder `dir` or lies in it, and in no repository below that, which is another's project.
fn is_within(path: &Path, dir: &Path) -> bool {
    let below = || path.ancestors().take_while(|above| *above != dir);
    path.starts_with(dir) && !below().any(|above| fs::symlink_metadata(above.join(".git")).is_ok())
}
