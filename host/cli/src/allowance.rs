//! The allowance of a day or month as the commands show it.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::table::{thousands, utc};
use agenthost::allowance::{AllowanceStatus, renewed};
use agenthost::config::Config;
use agenthost::limits::{LimitKind, LimitOwner, Usd};

/// Describes the use of one setting of `[allowance]`.
pub(super) fn line(status: &AllowanceStatus) -> String {
    let whose = if status.project {
        "in this project"
    } else {
        "by all your runs"
    };
    format!(
        "{} of {} used {whose}, renewed at {}",
        thousands(&status.shown(status.used)),
        thousands(&status.shown(status.most)),
        minute(status.renewed)
    )
}

/// Returns one setting of `[allowance]` with its use, as JSON.
pub(super) fn document(status: &AllowanceStatus) -> Value {
    let amount = |amount: u64| match status.limit {
        LimitKind::Cost => json!(Usd::from_pico(amount)),
        _ => json!(amount),
    };
    json!({
        "key": status.key,
        "project": status.project,
        "used": amount(status.used),
        "most": amount(status.most),
        "renewed": format!("{}Z", utc(millis(status.renewed)).replace(' ', "T")),
    })
}

/// Returns what makes room in the allowance that stopped a run: the setting, its file and the time of its renewal. `None`
/// for another owner.
pub(super) fn more(owner: &LimitOwner, config: &Config, now: SystemTime) -> Option<String> {
    let LimitOwner::Allowance { key, project, schedule } = owner else {
        return None;
    };
    if let Some(name) = schedule {
        let file = config.schedules().get(name).map(|schedule| schedule.origin.file());
        let file = file.map_or_else(|| "agenthost.toml".into(), |file| file.display().to_string());
        return Some(format!(
            "raise `{key}` under [schedules.{name}] in {file}, or wait until {}",
            minute(renewed(key, now))
        ));
    }
    let file = match project {
        true => config.project_file(),
        false => config.user_file(),
    };
    let file = file.map_or_else(|| "agenthost.toml".into(), |file| file.display().to_string());
    Some(format!(
        "raise `{key}` under [allowance] in {file}, or wait until {}",
        minute(renewed(key, now))
    ))
}

fn minute(time: SystemTime) -> String {
    let text = utc(millis(time));
    format!("{} UTC", text.get(..16).unwrap_or(&text))
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
