//! The line with the estimate that a run or a batch shows before it starts, and the question whether to start.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::budget::Plan;
use super::global::Global;
use super::output::{Printer, counted};
use agenthost::allowance;
use agenthost::config::Env;
use agenthost::error::{Error, Result};
use agenthost::limits::{Limits, Usd};
use agenthost::{Host, Plugin};

/// The flag that lets a person confirm an expensive run.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct StartArgs {
    /// Ask before a start whose typical cost, or worst case without earlier runs, is above this; refuse without a terminal
    #[arg(long, value_name = "USD")]
    confirm_above: Option<Usd>,
}

/// The sub-tasks that `spawn` starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spawned {
    /// The most sub-tasks, each with one model call; `None` if the plugin's suggestion holds.
    pub(super) tasks: Option<usize>,
    /// The fewest sub-tasks with which all of the work can be done.
    pub(super) least_tasks: usize,
    /// The names of the models that are called.
    pub(super) models: BTreeSet<String>,
}

impl Spawned {
    /// Refuses limits that leave out some of the sub-tasks.
    pub(super) fn check(&self, limits: &Limits) -> Result<()> {
        let tasks = self.least_tasks;
        for (key, limit, what) in [
            ("tasks", limits.tasks, "sub-tasks"),
            ("calls", limits.calls, "model calls"),
        ] {
            if let Some(limit) = limit.filter(|limit| *limit < tasks as u64) {
                return Err(Error::usage(format!(
                    "{} are to be made, and the limit is {limit}",
                    counted(tasks as u64, what)
                ))
                .with_hint(format!(
                    "Raise it with --{key}, or with `{key}` under [limits] in agenthost.toml, or give fewer tasks."
                )));
            }
        }
        Ok(())
    }
}

/// The tasks that a command is about to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Starts<'a> {
    /// One task.
    Task,
    /// One task whose sub-tasks and models are known, so that earlier runs show nothing about them.
    Spawned(&'a Spawned),
    /// The tasks of a batch, this many.
    Batch(u64),
}

/// Shows the estimate on a terminal, and asks or refuses if the cost is above `--confirm-above`.
///
/// # Errors
///
/// Class `usage` if the run must not start.
pub(super) fn before_start(
    host: &Host,
    plugin: &Plugin,
    (limits, run): (Limits, &Limits),
    starts: Starts<'_>,
    start: StartArgs,
    (global, env, printer): (&Global, &Env, &Printer),
) -> Result<()> {
    if !printer.moves() && start.confirm_above.is_none() {
        return Ok(());
    }
    let mut plan = match starts {
        Starts::Task => Plan::of(host, plugin, limits, run, 1)?,
        Starts::Spawned(spawned) => Plan::of_models(host, plugin, (limits, run), 1, &spawned.models)?,
        Starts::Batch(tasks) => Plan::of(host, plugin, limits, run, tasks)?,
    };
    if let Err(error) = plan.add_typical(global, env) {
        // A run is not refused for a line of text.
        match start.confirm_above {
            Some(_) => return Err(error),
            None => printer.note(&format!("earlier runs are not part of the estimate: {error}")),
        }
    }
    if printer.moves()
        && let Some(estimate) = plan.estimate()
    {
        let left = match env.state_dir() {
            // A book that cannot be read is an error of the run itself.
            Some(state) => allowance::status(host.config(), &state, SystemTime::now()).unwrap_or_default(),
            None => Vec::new(),
        };
        let words: Vec<_> = std::iter::once(estimate).chain(plan.left(&left)).collect();
        printer.say(&format!("estimate: {}", words.join(", ")));
        plan.too_low(matches!(starts, Starts::Spawned(_)))
            .iter()
            .for_each(|note| printer.note(note));
    }
    let Some((bound, why)) = start.confirm_above.and_then(|bound| Some((bound, plan.above(bound)?))) else {
        return Ok(());
    };
    let refused = |what: &str| {
        let of_all = if matches!(starts, Starts::Batch(_)) {
            "--run-cost, "
        } else {
            ""
        };
        Error::usage(format!("{why}: more than --confirm-above {bound}{what}")).with_hint(format!(
            "Raise --confirm-above, or lower the estimate with {of_all}--cost, --tokens or [run.limits]; `agenthost plan` \
             shows its parts."
        ))
    };
    if !printer.can_ask() {
        return Err(refused(", and cannot be confirmed without a terminal or with --quiet"));
    }
    match printer.ask(&format!("{why}: more than {bound}. Start?")) {
        true => Ok(()),
        false => Err(refused(", and not confirmed")),
    }
}
