//! Decides what a stranger's file may do: send prompts to an address, grant a directory to a plugin, lift a limit of
//! the operator's, and run the code of its crates.
//!
//! A file *pairs* a provider with an address, or with a key: see `pairs`.
//!
//! A project's file *grants* a directory to a plugin: see `dirs`. Every grant is checked whenever the file is loaded.
//!
//! A project's file *grants* a tool of a provider to a plugin, such as web search: see `server_tools`.
//!
//! A project's file *lifts* something that the operator's own file sets, or a default limit: a limit, a grant, the
//! source of a sub-agent. Until the operator accepts the lift, the stricter of both applies, which is not an error; see
//! `lifts`.
//!
//! A project's file has *schedules*, which spend money without a question: see `schedules`.
//!
//! A *crate* runs code when it is built. A crate may be built if it is below a folder that the operator trusts, or if
//! the operator trusted it by name; see [`crates`].
//!
//! [`Config::load`] checks the providers that models map to and that would receive something, so that a project can
//! name a service that this machine has no key for; [`Config::key`] checks again any provider that is used. What is
//! recorded of an acceptance is the file's path; a digest of each provider with its address, key source, headers and
//! parameters; a digest of each triple of plugin, directory and access; the tools of providers of each plugin; each lift
//! with both values; a digest of each schedule; and the folder of the crates. The file may change in any other way, but a new address, another key or
//! header for it, or another directory has to be accepted again.
//!
//! The record is `trust.toml` in [`Env::state_dir`], always written as a whole. If two processes write at the same
//! time, the later one wins, and what the other accepted has to be accepted again. It protects against files, not
//! against programs that run as the operator.

pub mod crates;
pub mod dirs;
pub(super) mod lifts;
mod pairs;
pub(super) mod record;
mod schedules;
pub mod seal;
pub mod server_tools;

use std::fs;
use std::path::Path;

use self::crates::crates_of;
pub use self::lifts::TrustedLift;
pub(super) use self::pairs::check_provider;
#[doc(hidden)]
pub use self::pairs::is_loopback;
pub use self::record::{
    TrustRecord, TrustedCrates, TrustedDir, TrustedPair, TrustedSchedule, TrustedServerTools, list,
};
use self::record::{canonical, keep, write};
#[doc(hidden)]
pub use self::schedules::check as check_schedule;
use crate::config::Config;
use crate::env::Env;
use crate::error::{ConfigError, TrustError};
use crate::load::{Lifting, PROJECT_FILE, unchecked};
use crate::origin::Origin;

/// Returns the record that [`accept`] would write for `file`: every pair, directory, tool and lift that needs the operator's
/// acceptance, used or not, and the folder of its crates. `file` may be a folder, which means the `agenthost.toml` in
/// it, if there is one.
///
/// # Errors
///
/// As [`Config::load`], except for the errors that ask for trust.
pub fn review(env: &Env, file: &Path) -> Result<TrustRecord, ConfigError> {
    let mut file = env.cwd().join(file);
    refuse_link(env, &file)?;
    if file.is_dir() {
        let inner = file.join(PROJECT_FILE);
        refuse_link(env, &inner)?;
        if !inner.is_file() {
            return Ok(crates_of(env, &file)?);
        }
        file = inner;
    }
    let canonical = canonical(env, &file)?;
    let own = env
        .user_file()
        .is_some_and(|own| fs::canonicalize(own).is_ok_and(|own| own == canonical));
    let config = unchecked(env, (!own).then_some(&file), Lifting::All)?;
    let chosen_by = |origin: &Origin| fs::canonicalize(origin.file()).is_ok_and(|path| path == canonical);
    let pairs = config
        .providers()
        .keys()
        .filter_map(|name| pairs::question(&config, name))
        .filter(|question| chosen_by(question.origin))
        .map(|question| question.pair)
        .collect();
    let dirs = dirs::asked(&config).map(|(dir, _)| dir).collect();
    let server_tools = server_tools::asked(&config).map(|(tools, _)| tools).collect();
    let lifts = config.lifts.iter().map(|lift| lift.trusted.clone()).collect();
    let schedules = schedules::asked(&config).map(|(schedule, _)| schedule).collect();
    let folder = canonical.parent().filter(|_| !own);
    let crates = folder.map(|folder| TrustedCrates::below(env, folder)).transpose()?;
    Ok(TrustRecord {
        file: canonical,
        pairs,
        dirs,
        server_tools,
        lifts,
        schedules,
        crates: crates.flatten(),
    })
}

/// Refuses a link. A repository could hold one that leads to a folder of many projects, and an acceptance that was
/// meant for the repository would be recorded for all of them.
fn refuse_link(env: &Env, path: &Path) -> Result<(), TrustError> {
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
        return Ok(());
    }
    let target = canonical(env, path)?;
    Err(TrustError::Link {
        shown: env.shown(path),
        target_shown: env.shown(&target),
        target,
    })
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
/// use agenthost_core::error::{Classify as _, ErrorClass};
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
pub fn accept(env: &Env, file: &Path) -> Result<TrustRecord, ConfigError> {
    Ok(keep(env, review(env, file)?)?)
}

/// Records the acceptance of a project that the operator has just created: its directories, tools and crates, but not the
/// files above it that influence a build, and no lift of the operator's own limits.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// use agenthost_config::{Config, Env, trust};
///
/// let env = Env::new([].into(), dir, Some(dir.join("home")));
/// std::fs::create_dir(dir.join("notes"))?;
/// let text = "[limits]\ntasks = 500\n[grants.'acme:diary']\ndirs = ['notes::/notes:rw']\n";
/// std::fs::write(dir.join("agenthost.toml"), text)?;
/// assert!(Config::load(&env).is_err());
/// let record = trust::accept_created(&env, "agenthost.toml".as_ref())?;
/// assert_eq!((record.dirs.len(), record.lifts.len()), (1, 0));
/// assert_eq!(Config::load(&env)?.limits().tasks, Some(100));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As [`accept`].
pub fn accept_created(env: &Env, file: &Path) -> Result<TrustRecord, ConfigError> {
    let mut record = review(env, file)?;
    record.lifts.clear();
    if let Some(crates) = &mut record.crates {
        crates.outside.clear();
    }
    Ok(keep(env, record)?)
}

/// Removes the record of `file`; returns false if there was none. The file itself need not exist anymore.
///
/// # Errors
///
/// [`Host`](agenthost_core::error::ErrorClass::Host) if the record cannot be read or written.
pub fn revoke(env: &Env, file: &Path) -> Result<bool, TrustError> {
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

/// Checks all granted directories and tools, and all providers that models map to and that would receive something.
pub(super) fn check(config: &Config) -> Result<(), TrustError> {
    dirs::asked(config).try_for_each(|(dir, origin)| dirs::check(config, &dir, origin))?;
    server_tools::asked(config).try_for_each(|(tools, origin)| server_tools::check(config, &tools, origin))?;
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

#[cfg(test)]
mod tests;
