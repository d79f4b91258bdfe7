//! `agenthost schedules`: lists the schedules with their next and last runs and their cost.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::global::Global;
use super::hints::hint;
use super::output::{Printer, counted, error_code, most_serious};
use super::recorded::now_ms;
use super::table::{self, Column};
use agenthost::allowance;
use agenthost::config::{Config, Env, ScheduleConfig, trust};
use agenthost::error::{Error, Result, with_causes};
use agenthost::limits::Usd;
use agenthost::nearest::nearest;
use agenthost::printable::one_line;
use agenthost::schedule::{ScheduleFile, ScheduleState};

/// The days of the longest month.
const DAYS: u64 = 31;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn schedules(args: &Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let config = global.config(env)?;
    let now = now_ms();
    if config.schedules().is_empty() {
        match args.json {
            true => printer.data(&json!({"format": 1, "schedules": []}))?,
            false => printer.note("there are no schedules; write one with [schedules.NAME] in agenthost.toml"),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let state = state_dir(env)?;
    let names = config.schedules().keys();
    let all = names.map(|name| Overview::of(&config, name, &state, now));
    let all = all.collect::<Result<Vec<_>>>()?;
    match args.json {
        true => {
            let documents: Vec<_> = all.iter().map(Overview::document).collect();
            printer.data(&json!({"format": 1, "schedules": documents}))?;
        }
        false => printer.text(list(&all, printer.width()))?,
    }
    Ok(unreadable(&all, printer))
}

/// Prints the errors of the schedules whose records cannot be read, and returns the exit code.
pub(super) fn unreadable(all: &[Overview<'_>], printer: &Printer) -> ExitCode {
    let problems = all.iter().filter_map(|one| Some((one.name, one.problem.as_ref()?)));
    let codes = problems.map(|(name, error)| {
        printer.problem(&format!("{name}: {}", with_causes(error)), hint(error).as_deref());
        error_code(error.class())
    });
    // All of them are printed.
    let codes: Vec<_> = codes.collect();
    ExitCode::from(most_serious(codes))
}

/// Returns the folder of this user's records.
pub(super) fn state_dir(env: &Env) -> Result<PathBuf> {
    env.state_dir().ok_or_else(|| {
        Error::config("there is no directory for what schedules have done")
            .with_hint("Set HOME or XDG_STATE_HOME to an absolute path.")
    })
}

/// Returns the schedules with these names, or all.
pub(super) fn chosen<'c>(config: &'c Config, names: &[String]) -> Result<Vec<(&'c str, &'c ScheduleConfig)>> {
    if config.schedules().is_empty() {
        return Err(Error::usage("there are no schedules").with_hint(
            "Write one in agenthost.toml: [schedules.NAME] with `every` or `cron`, `plugin`, `input` and `cost-per-day`.",
        ));
    }
    match names {
        [] => Ok(config
            .schedules()
            .iter()
            .map(|(name, schedule)| (name.as_str(), schedule))
            .collect()),
        names => {
            let mut chosen: Vec<(&str, &ScheduleConfig)> = Vec::new();
            for name in names {
                let found = find(config, name)?;
                if !chosen.iter().any(|(known, _)| *known == found.0) {
                    chosen.push(found);
                }
            }
            Ok(chosen)
        }
    }
}

pub(super) fn find<'c>(config: &'c Config, name: &str) -> Result<(&'c str, &'c ScheduleConfig)> {
    let found = config.schedules().get_key_value(name);
    let found = found.map(|(name, schedule)| (name.as_str(), schedule));
    found.ok_or_else(|| {
        let known = config.schedules().keys().map(String::as_str);
        let hint = match nearest(name, known) {
            Some(nearest) => format!("Did you mean `{nearest}`?"),
            None => "`agenthost schedules` lists the schedules.".to_owned(),
        };
        Error::usage(format!("no schedule is named `{name}`")).with_hint(hint)
    })
}

/// A schedule at one time.
pub(super) struct Overview<'a> {
    name: &'a str,
    schedule: &'a ScheduleConfig,
    state: ScheduleState,
    /// The next run, in milliseconds since 1970; `None` if there is none.
    next: Option<u64>,
    /// The money that counts for the present day.
    today: Usd,
    /// The most runs in one day.
    per_day: u64,
    is_trusted: bool,
    /// The reason why its record or its book cannot be read, in which case nothing is known of it.
    problem: Option<Error>,
}

impl<'a> Overview<'a> {
    /// Reads everything that is known of the schedule `name`. Changes nothing.
    pub(super) fn of(config: &'a Config, name: &'a str, state_dir: &Path, now: u64) -> Result<Self> {
        let (name, schedule) = find(config, name)?;
        let read = || {
            let mut state = ScheduleFile::new(state_dir, schedule.origin.file(), name).read()?;
            state.adapt(schedule, now);
            let at = UNIX_EPOCH + Duration::from_millis(now);
            let status = allowance::of_schedule(config, name, state_dir, at)?;
            Ok((state, status.map_or(Usd::ZERO, |status| Usd::from_pico(status.used))))
        };
        let (state, today, problem) = match read() {
            Ok((state, today)) => (state, today, None),
            Err(error) => (ScheduleState::default(), Usd::ZERO, Some(error)),
        };
        let next = state.next(schedule, now);
        Ok(Self {
            name,
            next: next.filter(|_| problem.is_none()),
            today,
            problem,
            per_day: schedule.times.per_day(now),
            is_trusted: trust::check_schedule(config, name).is_ok(),
            schedule,
            state,
        })
    }

    /// Returns the state in one word, and what there is to say about it.
    fn state(&self) -> (&'static str, Option<&str>) {
        if let Some(problem) = &self.problem {
            return ("unreadable", Some(problem.message()));
        }
        let state = &self.state;
        let reason = state.skipped.as_ref().map(|skipped| skipped.reason.as_str());
        match (&state.stopped, &state.running) {
            _ if !self.schedule.enabled => ("disabled", None),
            (_, Some(running)) if running.is_alive() => ("running", running.run.as_deref()),
            (Some(stopped), _) => ("stopped", Some(&stopped.reason)),
            _ if !self.is_trusted => ("untrusted", Some("see `agenthost trust`")),
            _ if state.waits_for_renewal() => ("waiting", Some("its limit on the cost is used up")),
            (None, Some(running)) => ("interrupted", reason.or(running.run.as_deref())),
            (None, None) => ("waiting", reason),
        }
    }

    /// Returns a line with the next run and the most that the schedule can cost.
    pub(super) fn plan(&self) -> String {
        let next = match (self.state(), self.next) {
            (("waiting" | "running" | "interrupted", _), Some(next)) => format!("next {}", clock(next)),
            ((state, Some(reason)), _) => format!("{state} ({reason})"),
            ((state, None), _) => state.to_owned(),
        };
        format!(
            "{}: {next}, {}, at most {} a day, {}",
            self.name,
            self.schedule.times,
            counted(self.per_day, "runs"),
            most_cost(self.schedule.cost_per_day)
        )
    }

    /// Returns the schedule as JSON.
    pub(super) fn document(&self) -> Value {
        let (state, reason) = self.state();
        let cost = self.schedule.cost_per_day;
        let last = self.state.last.as_ref().map(|last| {
            json!({
                "run": last.run,
                "started": iso(last.started_ms),
                "ended": iso(last.ended_ms),
                "outcome": last.outcome,
                "message": last.message,
                "cost_usd": last.cost_usd,
            })
        });
        json!({
            "name": self.name,
            "plugin": self.schedule.plugin,
            "times": self.schedule.times.to_string(),
            "state": state,
            "reason": reason,
            "next": self.next.map(iso),
            "next_ms": self.next,
            "last": last,
            "failures": self.state.failures,
            "runs_per_day": self.per_day,
            "cost_today_usd": self.today,
            "cost_per_day_usd": cost,
            "cost_per_month_usd": month(cost),
        })
    }
}

fn list(all: &[Overview<'_>], width: Option<usize>) -> String {
    let head = ["NAME", "PLUGIN", "NEXT (UTC)", "LAST (UTC)", "TODAY", "STATE"];
    let row = |one: &Overview<'_>| {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let (state, _) = one.state();
        vec![
            one.name.to_owned(),
            one.schedule.plugin.clone(),
            or_dash(one.next.map(minute)),
            or_dash(one.state.last.as_ref().map(|last| {
                let cost = last
                    .cost_usd
                    .map_or_else(|| "cost unknown".to_owned(), |cost| cost.to_string());
                format!("{} {}, {cost}", minute(last.ended_ms), last.outcome)
            })),
            format!("{} of {}", one.today, one.schedule.cost_per_day),
            state.to_owned(),
        ]
    };
    let rows: Vec<_> = std::iter::once(head.map(str::to_owned).to_vec())
        .chain(all.iter().map(row))
        .collect();
    let kinds = [
        Column::Left,
        Column::Left,
        Column::Left,
        Column::Left,
        Column::Left,
        Column::Cut,
    ];
    let mut text = table::columns_without(&kinds, &rows, width, &[1]);
    // They are as long as an error, so a column would cut them.
    for one in all {
        if let (state, Some(reason)) = one.state() {
            text += &format!("\n{}: {state}: {}", one.name, one_line(reason));
        }
        if one.state().0 == "stopped" {
            text += &format!(
                "\n  Correct the cause, then run `agenthost heartbeat --restart {}`.",
                one.name
            );
        }
    }
    text
}

/// Describes the most that is paid for in a day and in a month.
pub(super) fn most_cost(per_day: Usd) -> String {
    format!("at most {per_day} a day, {} a month ({DAYS} days)", month(per_day))
}

/// Returns the most that is paid for in a month of 31 days.
pub(super) fn month(per_day: Usd) -> Usd {
    Usd::from_pico(per_day.pico().saturating_mul(DAYS))
}

/// Returns the most that the enabled schedules together can cost in a day.
pub(super) fn sum(all: &[Overview<'_>]) -> Usd {
    let enabled = all.iter().filter(|one| one.schedule.enabled);
    enabled.fold(Usd::ZERO, |sum, one| sum.saturating_add(one.schedule.cost_per_day))
}

/// Formats a time since 1970 as `2026-11-23 07:33:27 UTC`.
pub(super) fn clock(ms: u64) -> String {
    format!("{} UTC", table::utc(ms))
}

/// Returns a time in milliseconds since 1970.
pub(super) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn iso(ms: u64) -> String {
    format!("{}Z", table::utc(ms).replace(' ', "T"))
}

fn minute(ms: u64) -> String {
    let text = table::utc(ms);
    text.get(..16).unwrap_or(&text).to_owned()
}
