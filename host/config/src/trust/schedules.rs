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
use std::path::{Component, Path, PathBuf};

use super::dirs::is_beside;
use super::record::{TrustRecord, TrustedSchedule, unaccepted};
use crate::config::Config;
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
        let is_safe = is_safe(config, schedule, path);
        let (at, schedule) = (Some(origin.clone()), name.to_owned());
        if !is_safe {
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
        // It may be another schedule of the file that was accepted.
        let had_name = |record: &TrustRecord| record.schedules.iter().any(|known| known.name == name);
        let changed = changed && unaccepted(config, origin, had_name)?.is_none();
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

/// Returns whether no plugin can have made a link on the way to a file, and the way leads to the place that the
/// configuration has found.
fn is_safe(config: &Config, schedule: &ScheduleConfig, file: &Path) -> bool {
    let Some(folder) = file.parent().and_then(|folder| resolved(config, folder)) else {
        return false;
    };
    let is_link = fs::symlink_metadata(file).is_ok_and(|found| found.is_symlink());
    !(is_link && is_writable(config, &folder)) && schedule.place(file).parent() == Some(&folder)
}

/// Follows all links of an absolute path; `None` if one of them is in a directory that a plugin may write to. A part that
/// does not exist is not a link.
fn resolved(config: &Config, path: &Path) -> Option<PathBuf> {
    let parts = |path: &Path| {
        path.components()
            .rev()
            .map(|part| part.as_os_str().to_owned())
            .collect::<Vec<_>>()
    };
    let mut links = 0;
    let mut rest = parts(path);
    let mut folder = PathBuf::from("/");
    while let Some(part) = rest.pop() {
        match Path::new(&part).components().next() {
            Some(Component::ParentDir) => drop(folder.pop()),
            Some(Component::Normal(name)) => {
                let next = folder.join(name);
                if !fs::symlink_metadata(&next).is_ok_and(|found| found.is_symlink()) {
                    folder = next;
                    continue;
                }
                links += 1;
                if links > MAX_LINKS || is_writable(config, &folder) {
                    return None;
                }
                rest.extend(parts(&fs::read_link(&next).ok()?));
            }
            Some(Component::RootDir) => folder = PathBuf::from("/"),
            _ => {}
        }
    }
    Some(folder)
}

/// Returns whether a plugin may write to a folder, whose links are followed.
fn is_writable(config: &Config, folder: &Path) -> bool {
    let mut dirs = config.grants.values().flat_map(|grant| &grant.dirs);
    dirs.any(|dir| dir.write && folder.starts_with(&dir.host))
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
