//! The schedules of a project's file.
//!
//! A schedule spends the operator's money again and again while nobody looks, with a plugin and limits that its file
//! chooses. A project's file may come from a stranger, so the operator accepts each of its schedules, and again after
//! every change. The files that a project's schedule reads are in the project's folder, because a plugin may send them to
//! a model. Schedules of the operator's own file need no acceptance.

use super::dirs::is_beside;
use super::record::{TrustRecord, TrustedSchedule, unaccepted};
use crate::config::Config;
use crate::error::{ConfigError, TrustError};
use crate::origin::Origin;
use crate::schedule::ScheduleConfig;

/// Checks that a schedule may run now: if it is a project's, that the operator has accepted it as it is, and that its
/// files are in the project's folder.
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
/// [`Denied`](agenthost_core::error::ErrorClass::Denied) if it may not; [`Host`](agenthost_core::error::ErrorClass::Host)
/// if the record of trust cannot be read.
pub fn check(config: &Config, name: &str) -> Result<(), ConfigError> {
    let Some((_, schedule)) = config.schedules().get_key_value(name) else {
        return Ok(());
    };
    let origin = &schedule.origin;
    if is_own(config, origin) {
        return Ok(());
    }
    let asked = question(name, schedule);
    let known = |record: &TrustRecord| record.schedules.contains(&asked);
    if let Some(changed) = unaccepted(config, origin, known)? {
        return Err(TrustError::Schedule {
            at: origin.clone(),
            file: config.env.shown(origin.file()),
            schedule: name.to_owned(),
            runs: asked.runs,
            changed,
        }
        .into());
    }
    // A file may have become a link since the configuration was read.
    match schedule.files().find(|(_, path)| !is_beside(path, origin)) {
        Some((key, _)) => Err(ConfigError::ScheduleOutside {
            at: Some(origin.clone()),
            schedule: name.to_owned(),
            key,
        }),
        None => Ok(()),
    }
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
    TrustedSchedule {
        name: name.to_owned(),
        runs: format!(
            "{} {} for at most {} a day",
            schedule.plugin, schedule.times, schedule.cost_per_day
        ),
        sha256: schedule.digest(),
    }
}
