//! `agenthost heartbeat`: runs the schedules of the configuration when they are due.
//!
//! With `--once`, it looks once and ends, for cron and systemd. Otherwise, it looks until it is stopped; between two looks
//! it waits no longer than [`LOOK`], so that a sleep of the machine, a step of its clock and the work of another process
//! are noticed. What is due is decided by the library.

mod drive;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use self::drive::{ScheduleRunner, Step};
use super::global::Global;
use super::host::check_scripts;
use super::output::{Printer, error_code, exit, most_serious};
use super::recorded::now_ms;
use super::schedules::{Overview, chosen, find, month, most_cost, state_dir, sum, unreadable};
use super::signals::stop_on_signal;
use agenthost::Cancellation;
use agenthost::config::{Env, ScheduleConfig, trust};
use agenthost::error::{Error, Result, with_causes};
use agenthost::schedule::{ScheduleFile, ScheduleMode};

/// The longest time between two looks at a schedule.
const LOOK: Duration = Duration::from_secs(5);
/// The shortest one, in milliseconds.
const SHORTEST_LOOK: u64 = 5;
/// The number of times that a restart looks for the lock of a schedule.
const LOOKS_FOR_LOCK: u32 = 100;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The schedules [default: all that are enabled]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Run what is due, and end; for cron and systemd
    #[arg(long)]
    once: bool,
    /// Show the next runs and the most that they can cost, and end
    #[arg(long, conflicts_with = "once")]
    plan: bool,
    /// Let a schedule that stopped itself run again, and end
    #[arg(long, value_name = "NAME", conflicts_with_all = ["once", "plan", "names"])]
    restart: Option<String>,
    /// Print one JSON document for each run, or for the plan
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn heartbeat(args: &Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let config = global.config(env)?;
    let state = state_dir(env)?;
    if let Some(name) = &args.restart {
        return restart(find(&config, name)?, &state, printer).await;
    }
    let chosen = chosen(&config, &args.names)?;
    let overviews = || {
        let names = chosen.iter().map(|(name, _)| *name);
        names
            .map(|name| Overview::of(&config, name, &state, now_ms()))
            .collect::<Result<Vec<_>>>()
    };
    if args.plan {
        let overviews = overviews()?;
        show_plan(&overviews, args.json, printer)?;
        return Ok(unreadable(&overviews, printer));
    }
    for (name, schedule) in &chosen {
        if schedule.enabled {
            trust::check_schedule(&config, name)?;
        }
    }
    check_scripts(&config)?;
    for note in config.notes() {
        printer.note(&note);
    }
    let stop = stop_on_signal();
    let runners = chosen.iter().map(|(name, schedule)| ScheduleRunner {
        name,
        schedule,
        file: ScheduleFile::new(&state, schedule.origin.file(), name),
        config: &config,
        state_dir: &state,
        global,
        env,
        printer,
        json: args.json,
        stop: &stop,
    });
    if args.once {
        let codes = join_all(runners.map(|runner| async move { look_once(&runner).await })).await;
        return Ok(ExitCode::from(most_serious(codes)));
    }
    if !chosen.iter().any(|(_, schedule)| schedule.enabled) {
        return Err(Error::usage("no schedule is enabled").with_hint("Write enabled = true in one of them."));
    }
    for line in plan(&overviews()?) {
        printer.say(&line);
    }
    let codes = join_all(runners.map(|runner| async move { look_again(&runner).await })).await;
    Ok(ExitCode::from(most_serious(codes)))
}

/// Lets a schedule that stopped itself run again.
async fn restart((name, schedule): (&str, &ScheduleConfig), state_dir: &Path, printer: &Printer) -> Result<ExitCode> {
    let file = ScheduleFile::new(state_dir, schedule.origin.file(), name);
    let mut looks = 0;
    let lock = loop {
        match file.try_lock()? {
            Some(lock) => break lock,
            None if looks == LOOKS_FOR_LOCK => {
                return Err(Error::usage(format!("a run of the schedule {name} is going on"))
                    .with_hint("Wait for its end; `agenthost schedules` shows it."));
            }
            // Another process may only look at it, which takes a moment.
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
        looks += 1;
    };
    let mut state = lock.read()?;
    state.adapt(schedule, now_ms());
    printer.say(&match state.restart() {
        true => format!("{name} runs again when it is due"),
        false => format!("{name} had not stopped"),
    });
    lock.write(&state)?;
    Ok(ExitCode::SUCCESS)
}

/// Returns a line for each schedule with its next run and the most that it can cost, and one for all of them.
fn plan(overviews: &[Overview<'_>]) -> Vec<String> {
    let mut lines: Vec<_> = overviews.iter().map(Overview::plan).collect();
    if overviews.len() > 1 {
        let most = sum(overviews);
        lines.push(format!("all schedules: {}", most_cost(most)));
    }
    lines
}

fn show_plan(overviews: &[Overview<'_>], json: bool, printer: &Printer) -> Result<()> {
    if json {
        let all = sum(overviews);
        printer.data(&json!({
            "format": 1,
            "schedules": overviews.iter().map(Overview::document).collect::<Vec<_>>(),
            "cost_per_day_usd": all,
            "cost_per_month_usd": month(all),
        }))?;
    } else {
        for line in plan(overviews) {
            printer.text(agenthost::printable::one_line(&line))?;
        }
    }
    Ok(())
}

/// Runs a schedule if it is due, and returns the exit code.
async fn look_once(runner: &ScheduleRunner<'_>) -> u8 {
    match runner.look(ScheduleMode::Once).await {
        Ok(Step::Ended(code)) => code,
        Ok(Step::Busy) => {
            // If the other process only looks, it does what is due.
            let state = runner.file.read().ok();
            if state
                .and_then(|state| state.running)
                .is_some_and(|running| running.is_alive())
            {
                runner.say("not started: another process runs it");
            }
            exit::DONE
        }
        Ok(Step::Wait(_)) => exit::DONE,
        Err(error) => failed(&error, runner),
    }
}

/// Runs a schedule whenever it is due, until it is stopped, and returns the exit code.
async fn look_again(runner: &ScheduleRunner<'_>) -> u8 {
    let mut shown = None;
    while !runner.stop.is_cancelled() {
        let until = match runner.look(ScheduleMode::Always).await {
            Ok(step) => {
                shown = None;
                match step {
                    Step::Ended(_) => Some(0),
                    Step::Busy => None,
                    Step::Wait(until) => until,
                }
            }
            // The cause may pass, such as a full disk. The same error is shown once.
            Err(error) => {
                let text = with_causes(&error);
                if shown.as_ref() != Some(&text) {
                    failed(&error, runner);
                    shown = Some(text);
                }
                None
            }
        };
        wait(until, runner.stop).await;
    }
    exit::INTERRUPTED
}

fn failed(error: &Error, runner: &ScheduleRunner<'_>) -> u8 {
    runner.printer.error(error);
    error_code(error.class())
}

/// Waits until the next look: at this time, in milliseconds since 1970, or earlier.
async fn wait(until_ms: Option<u64>, stop: &Cancellation) {
    let left = until_ms.map(|until| Duration::from_millis(until.saturating_sub(now_ms()).max(SHORTEST_LOOK)));
    tokio::select! {
        () = tokio::time::sleep(left.unwrap_or(LOOK).min(LOOK)) => {}
        () = stop.cancelled() => {}
    }
}
