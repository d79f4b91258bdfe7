//! The schedules of a project's file.
//!
//! A schedule spends the operator's money again and again without a question, with a plugin and limits that its file
//! chooses. A project's file may come from a stranger, so the operator accepts each of its schedules, and again after
//! every change. The files that a project's schedule reads are in the project's folder, because a plugin may send them
//! to a model. Schedules of the operator's own file need no acceptance.
//!
//! A plugin with a writable directory may put a link there, in place of a file that a schedule reads or of a folder
//! above it. So no schedule follows a link in such a directory; this includes the operator's own schedules.

use std::fs;
use std::path::Path;

use super::dirs::is_beside;
use super::record::{TrustRecord, TrustedSchedule, unaccepted};
use crate::config::Config;
use crate::dirs::place;
use crate::error::{ConfigError, TrustError};
use crate::origin::Origin;
use crate::schedule::ScheduleConfig;

/// The number of links that are followed on the way to a file.
const MAX_LINKS: u32 = 40;

/// Checks that a schedule may run now: that no plugin can have put a link on the way to its files; and if it is a
/// project's, that the operator has accepted it as it is, and that its files are in the project's folder.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// use agenthost_config::{Config, Env, trust};
///
/// let text = "[schedules.tidy]\nevery = '1h'\nplugin = 'agenthost:ask'\ncost-per-day = 0.5";
/// std::fs::write(dir.join("agenthost.toml"), text)?;
/// let env = Env::new([].into(), dir, Some(dir.join("home")));
/// assert!(trust::check_schedule(&Config::load(&env)?, "tidy").is_err());
/// trust::accept(&env, &dir.join("agenthost.toml"))?;
/// assert!(trust::check_schedule(&Config::load(&env)?, "tidy").is_ok());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Denied`](agenthost_core::error::ErrorClass::Denied) if it may not;
/// [`Config`](agenthost_core::error::ErrorClass::Config) because of its files;
/// [`Host`](agenthost_core::error::ErrorClass::Host) if the record of trust cannot be read.
pub fn check(config: &Config, name: &str) -> Result<(), ConfigError> {
    let Some((_, schedule)) = config.schedules().get_key_value(name) else {
        return Ok(());
    };
    let origin = &schedule.origin;
    let is_own = is_own(config, origin);
    if !is_own {
        check_acceptance(config, name, schedule)?;
    }
    for (key, path) in schedule.files() {
        let (at, schedule) = (Some(origin.clone()), name.to_owned());
        if follows_link_of_plugin(config, path) {
            return Err(ConfigError::ScheduleLink { at, schedule, key });
        }
        // A file may have become a link since the configuration was read.
        if !is_own && !is_beside(path, origin) {
            return Err(ConfigError::ScheduleOutside { at, schedule, key });
        }
    }
    Ok(())
}

fn check_acceptance(config: &Config, name: &str, schedule: &ScheduleConfig) -> Result<(), TrustError> {
    let origin = &schedule.origin;
    let asked = question(name, schedule);
    let known = |record: &TrustRecord| record.schedules.contains(&asked);
    if let Some(changed) = unaccepted(config, origin, known)? {
        return Err(TrustError::Schedule {
            at: origin.clone(),
            file: config.env.shown(origin.file()),
            schedule: name.to_owned(),
            runs: asked.runs,
            changed,
        });
    }
    Ok(())
}

/// Returns whether the way to a file leads through a link in a directory that a plugin may write to.
fn follows_link_of_plugin(config: &Config, file: &Path) -> bool {
    let mut path = file.to_owned();
    for _ in 0..MAX_LINKS {
        let ancestors: Vec<_> = path.ancestors().collect();
        let is_link = |path: &&&Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
        let Some(link) = ancestors.iter().rev().find(is_link) else {
            return false;
        };
        let folder = place(link.parent().unwrap_or(Path::new("/")));
        let mut dirs = config.grants.values().flat_map(|grant| &grant.dirs);
        if dirs.any(|dir| dir.write && folder.starts_with(&dir.host)) {
            return true;
        }
        let Ok(target) = fs::read_link(link) else {
            return true;
        };
        let target = folder.join(target);
        let rest = path.strip_prefix(link).unwrap_or(Path::new(""));
        path = match rest.as_os_str().is_empty() {
            true => target,
            false => target.join(rest),
        };
    }
    true
}

/// Returns the schedules that the operator has to accept, with their places.
pub(super) fn asked(config: &Config) -> impl Iterator<Item = (TrustedSchedule, &Origin)> {
    let by_strangers = config.schedules().iter();
    let by_strangers = by_strangers.filter(|(_, schedule)| !is_own(config, &schedule.origin));
    by_strangers.map(|(name, schedule)| (question(name, schedule), &schedule.origin))
}

/// Returns whether a place is in the operator's own file.
fn is_own(config: &Config, origin: &Origin) -> bool {
    config.user_file() == Some(origin.file())
}

fn question(name: &str, schedule: &ScheduleConfig) -> TrustedSchedule {
    let mut runs = format!(
        "{} {} for at most {} a day",
        schedule.plugin, schedule.times, schedule.cost_per_day
    );
    if !schedule.limits.is_empty() {
        let limits = schedule.limits.iter().map(|(key, text)| format!("{key} {text}"));
        runs += &format!(", with its own limits ({})", limits.collect::<Vec<_>>().join(", "));
    }
    let files = schedule.files().map(|(key, path)| {
        let shown = path.strip_prefix(schedule.dir()).unwrap_or(path);
        format!("{} ({key})", shown.display())
    });
    let files: Vec<_> = files.collect();
    if !files.is_empty() {
        runs += &format!(", reading {}", files.join(", "));
    }
    TrustedSchedule {
        name: name.to_owned(),
        runs,
        sha256: schedule.digest(),
    }
}
