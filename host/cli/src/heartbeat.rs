//! `agenthost heartbeat`: runs the schedules of the configuration when they are due.
//!
//! With `--once`, it looks once and ends, for cron and systemd. Otherwise, it looks until it is stopped; between two looks
//! it waits no longer than [`LOOK`], so that a sleep of the machine, a step of its clock and the work of another process
//! are noticed. What is due is decided by the library.

mod drive;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use serde_json::json;

use self::drive::{ScheduleRunner, Step};
use super::global::Global;
use super::hints::hint;
use super::host::check_scripts;
use super::output::{Printer, exit, most_serious};
use super::recorded::now_ms;
use super::schedules::{Overview, chosen, find, month, most_cost, state_dir, sum, unreadable};
use super::signals::stop_on_signal;
use agenthost::Cancellation;
use agenthost::config::{Config, Env, ScheduleConfig, trust};
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
    if args.plan {
        let overviews = overviews(&config, &chosen(&config, &args.names)?, &state)?;
        show_plan(&overviews, args.json, printer)?;
        return Ok(unreadable(&overviews, printer));
    }
    let heartbeat = Heartbeat {
        args,
        global,
        env,
        printer,
        state_dir: &state,
        stop: &stop_on_signal(),
    };
    match args.once {
        true => {
            let runners = heartbeat.runners(&config)?;
            let codes = join_all(runners.iter().map(look_once)).await;
            Ok(ExitCode::from(most_serious(codes)))
        }
        false => heartbeat.go_on(config).await,
    }
}

/// The parts that the looks at all schedules share.
struct Heartbeat<'a> {
    args: &'a Args,
    global: &'a Global,
    env: &'a Env,
    printer: &'a Printer,
    /// The folder of this user's records.
    state_dir: &'a Path,
    /// The signal that ends everything.
    stop: &'a Cancellation,
}

impl Heartbeat<'_> {
    /// Returns the chosen schedules, ready to be looked at.
    fn runners<'c>(&'c self, config: &'c Config) -> Result<Vec<ScheduleRunner<'c>>> {
        let chosen = chosen(config, &self.args.names)?;
        check_scripts(config)?;
        for note in config.notes() {
            self.printer.note(&note);
        }
        let runners = chosen.into_iter().map(|(name, schedule)| ScheduleRunner {
            name,
            schedule,
            file: ScheduleFile::new(self.state_dir, schedule.origin.file(), name),
            config,
            state_dir: self.state_dir,
            global: self.global,
            env: self.env,
            printer: self.printer,
            json: self.args.json,
            stop: self.stop,
        });
        Ok(runners.collect())
    }

    /// Runs the schedules until it is stopped. A change of the configuration files is read once the runs that are going
    /// on have ended.
    async fn go_on(&self, mut config: Config) -> Result<ExitCode> {
        let mut files = ConfigFiles::of(&config);
        let enabled = chosen(&config, &self.args.names)?;
        let enabled = enabled.iter().filter(|(_, schedule)| schedule.enabled);
        let trusted = enabled.map(|(name, _)| trust::check_schedule(&config, name));
        match trusted.reduce(|one, other| one.or(other)) {
            None => {
                return Err(Error::usage("no schedule is enabled").with_hint("Write enabled = true in one of them."));
            }
            // Others are shown when they are looked at.
            Some(any) => any?,
        }
        loop {
            let overviews = overviews(&config, &chosen(&config, &self.args.names)?, self.state_dir)?;
            for line in plan(&overviews) {
                self.printer.say(&line);
            }
            drop(overviews);
            let runners = self.runners(&config)?;
            join_all(runners.iter().map(|runner| look_again(runner, &files))).await;
            drop(runners);
            if !self.stop.is_cancelled() {
                self.printer.say("the configuration has changed and is read again");
            }
            match self.read_again(&config).await {
                Some(read) => (config, files) = read,
                None => return Ok(ExitCode::from(exit::INTERRUPTED)),
            }
        }
    }

    /// Reads the configuration again, and until it is valid; `None` if the command is stopped before. The same error is
    /// shown once.
    async fn read_again(&self, before: &Config) -> Option<(Config, ConfigFiles)> {
        let mut shown = None;
        while !self.stop.is_cancelled() {
            let files = ConfigFiles::of(before);
            match self.global.config(self.env) {
                Ok(config) => return Some((config, files)),
                Err(error) => {
                    let text = with_causes(&error);
                    if shown.as_ref() != Some(&text) {
                        self.printer.problem(&text, hint(&error).as_deref());
                        shown = Some(text);
                    }
                }
            }
            wait(None, self.stop).await;
        }
        None
    }
}

/// The files of a configuration, each with its size and the time of its last change.
struct ConfigFiles(Vec<(PathBuf, Option<(u64, SystemTime)>)>);

impl ConfigFiles {
    fn of(config: &Config) -> Self {
        let files = [config.project_file(), config.user_file()].into_iter().flatten();
        Self(files.map(|file| (file.to_owned(), Self::look(file))).collect())
    }

    fn look(file: &Path) -> Option<(u64, SystemTime)> {
        let found = file.metadata().ok()?;
        Some((found.len(), found.modified().ok()?))
    }

    fn have_changed(&self) -> bool {
        self.0.iter().any(|(file, before)| Self::look(file) != *before)
    }
}

fn overviews<'c>(
    config: &'c Config,
    chosen: &[(&'c str, &ScheduleConfig)],
    state_dir: &Path,
) -> Result<Vec<Overview<'c>>> {
    let names = chosen.iter().map(|(name, _)| *name);
    names
        .map(|name| Overview::of(config, name, state_dir, now_ms()))
        .collect()
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
        Err(error) => runner.show_error(&error),
    }
}

/// Runs a schedule whenever it is due, until it is stopped or the configuration has changed.
async fn look_again(runner: &ScheduleRunner<'_>, files: &ConfigFiles) {
    let mut shown = None;
    while !runner.stop.is_cancelled() && !files.have_changed() {
        let until = match runner.look(ScheduleMode::Always).await {
            Ok(step) => {
                shown = None;
                match step {
                    Step::Ended(_) => Some(0),
                    Step::Busy => None,
                    Step::Wait(until) => until,
                }
            }
            // The cause may pass, such as a full disk or a missing trust. The same error is shown once.
            Err(error) => {
                let text = with_causes(&error);
                if shown.as_ref() != Some(&text) {
                    runner.show_error(&error);
                    shown = Some(text);
                }
                None
            }
        };
        wait(until, runner.stop).await;
    }
}

/// Waits until the next look: at this time, in milliseconds since 1970, or earlier.
async fn wait(until_ms: Option<u64>, stop: &Cancellation) {
    let left = until_ms.map(|until| Duration::from_millis(until.saturating_sub(now_ms()).max(SHORTEST_LOOK)));
    tokio::select! {
        () = tokio::time::sleep(left.unwrap_or(LOOK).min(LOOK)) => {}
        () = stop.cancelled() => {}
    }
}
