//! The directories that a configuration grants to a plugin by its name.
//!
//! A project's file must not let a plugin read outside the folder of the file, not even through a link, because what is
//! read can be sent to a model. Nor may it let a plugin write anywhere, including inside the folder, where other
//! programs run or obey files such as git hooks, cargo's configuration and the project's file itself. Both have to be
//! accepted by the operator. Reading inside the folder needs no acceptance, nor do grants of the operator's own file
//! and command line.
//!
//! A component states its own plugin name, so a stranger's file can claim any name. A grant by name therefore applies
//! to plugins in a place that the operator trusts: a folder of `agenthost trust` or, for a grant of a project's file,
//! that project's folder. The place of a plugin of a lock file is that of the file. Any other plugin is refused. For the
//! tools of providers, see `server_tools`.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::crates::within;
use super::record::{TrustRecord, TrustedDir, digest, list, unaccepted};
use crate::config::Config;
use crate::dirs::{DirGrant, DirQuota, place};
use crate::env::Env;
use crate::error::TrustError;
use crate::origin::Origin;

/// Checks one directory.
pub(super) fn check(config: &Config, dir: &TrustedDir, origin: &Origin) -> Result<(), TrustError> {
    let known = |record: &TrustRecord| record.dirs.iter().any(|known| known.sha256 == dir.sha256);
    let Some(changed) = unaccepted(config, origin, known)? else {
        return Ok(());
    };
    Err(TrustError::Directory {
        at: origin.clone(),
        file: config.env.shown(origin.file()),
        plugin: dir.plugin.clone(),
        access: dir.access.clone(),
        dir: dir.dir.clone(),
        inside: is_beside(&dir.dir, origin),
        changed,
    })
}

/// Returns the granted directories that the operator has to accept, with the place of each grant: those that are
/// granted by a file other than the operator's own and are outside the file's folder or writable.
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
                sha256: digest(&[plugin.as_bytes(), host, access.as_bytes()]),
                access,
            };
            (dir, origin)
        };
        let dirs = grant.dirs.iter();
        dirs.filter(move |dir| dir.write || !is_beside(&dir.host, origin))
            .map(question)
    })
}

/// Describes the plugin's access, with the quota unless it is the default: a larger quota has to be accepted again.
fn access(dir: &DirGrant) -> String {
    let usual = DirQuota::default();
    let shown = |number: Option<u64>| number.map_or_else(|| "none".to_owned(), |number| number.to_string());
    let mut access = dir.access().to_owned();
    if dir.write && dir.quota != usual {
        access += &format!(" (quota={},files={})", shown(dir.quota.bytes), shown(dir.quota.files));
    }
    access
}

/// Returns whether `path` is in the folder of `origin`'s file, with all links followed.
pub(super) fn is_beside(path: &Path, origin: &Origin) -> bool {
    let file = place(origin.file());
    file.parent().is_some_and(|folder| place(path).starts_with(folder))
}

/// Returns whether the directories that are granted to the name `plugin` are meant for the plugin at `path`, a component
/// or a crate's directory. Those of a project's file are also meant for the plugins in its folder: the operator has
/// accepted each, unless it is in that folder as well.
///
/// # Errors
///
/// [`Host`](agenthost_core::error::ErrorClass::Host) if the trust record cannot be read.
#[doc(hidden)]
pub fn is_meant(config: &Config, plugin: &str, path: &Path) -> Result<bool, TrustError> {
    let Ok(path) = fs::canonicalize(path) else {
        return Ok(false);
    };
    let origin = config.origin(&format!("grants.{plugin}.dirs"));
    let project = origin.filter(|origin| config.user_file() != Some(origin.file()));
    let own = project.and_then(|origin| place(origin.file()).parent().map(Path::to_owned));
    if own.is_some_and(|folder| within(&path, &folder)) {
        return Ok(true);
    }
    is_in_trusted_folder(&config.env, &path)
}

/// Returns whether `path`, with all links resolved, is in a folder that the operator trusts.
pub(super) fn is_in_trusted_folder(env: &Env, path: &Path) -> Result<bool, TrustError> {
    let records = list(env)?;
    let mut folders = records.iter().filter_map(|record| record.crates.as_ref());
    Ok(folders.any(|folder| within(path, &folder.dir)))
}

/// Returns the error that refuses `dirs` to a plugin that they are not meant for.
#[doc(hidden)]
pub fn refusal(config: &Config, plugin: &str, path: &Path, dirs: &[DirGrant]) -> TrustError {
    TrustError::PluginName {
        shown: config.env.shown(path),
        folder: shown_folder(config, path),
        plugin: plugin.to_owned(),
        granted_by: config.origin(&format!("grants.{plugin}.dirs")).cloned(),
        dirs: dirs.to_vec(),
    }
}

/// Returns the folder of a component or a crate for display.
pub(super) fn shown_folder(config: &Config, path: &Path) -> String {
    let folder = match path.is_dir() {
        true => path,
        false => path.parent().unwrap_or(path),
    };
    match config.env.shown(folder) {
        shown if shown.is_empty() => ".".to_owned(),
        shown => shown,
    }
}
