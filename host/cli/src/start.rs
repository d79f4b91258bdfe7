//! The line with the estimate that a run or a batch shows before it starts, and the question whether to start.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::budget::{Plan, models_below};
use super::global::Global;
use super::output::{Printer, counted};
use super::table::count;
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
    /// The fewest tokens with which each of them can make a call.
    pub(super) least_tokens: u64,
    /// The names of the models that are called.
    pub(super) models: BTreeSet<String>,
}

impl Spawned {
    /// Refuses to start what cannot be done: models that are not there or not allowed, and limits that leave out some of the
    /// sub-tasks.
    pub(super) fn check(&self, host: &Host, plugin: &Plugin, limits: &Limits) -> Result<()> {
        let config = host.config();
        let allowed = models_below(config, plugin, limits);
        for name in &self.models {
            if !config.models().contains_key(name) {
                let known: Vec<_> = config.models().keys().map(String::as_str).collect();
                return Err(
                    Error::config(format!("no model is named `{name}`: [models] has {}", known.join(", ")))
                        .with_hint("Map the name there, or name another model with --model or --synthesis-model."),
                );
            }
            if !allowed.contains(name) {
                return Err(
                    Error::denied(format!("the model `{name}` is not allowed for these tasks")).with_hint(
                        "See `models` in [grants] of agenthost.toml, and in [max] and [max-for] of agenthost-policy.toml.",
                    ),
                );
            }
        }
        let tasks = self.least_tasks as u64;
        for (key, limit, what) in [
            ("tasks", limits.tasks, "sub-tasks"),
            ("calls", limits.calls, "model calls"),
        ] {
            if let Some(limit) = limit.filter(|limit| *limit < tasks) {
                return Err(Error::usage(format!(
                    "{} are to be made, and the limit is {limit}",
                    counted(tasks, what)
                ))
                .with_hint(format!(
                    "Raise it with --{key}, or with `{key}` under [limits] in agenthost.toml, unless a grant or a \
                             policy sets it; or give fewer tasks."
                )));
            }
        }
        let least = self.least_tokens;
        if let Some(limit) = limits.tokens.filter(|limit| tasks > 1 && *limit < least) {
            return Err(Error::usage(format!(
                "{} need at least {} tokens, and the limit is {}",
                counted(tasks, "tasks"),
                count(least),
                count(limit)
            ))
            .with_hint(
                "Raise it with --tokens, give fewer tasks, or answer the rows of a file with `agenthost batch agenthost:map`, \
                 where each has a limit of its own.",
            ));
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
        Starts::Spawned(spawned) => {
            Plan::of_models(host, plugin, (limits, run), 1, |name| spawned.models.contains(name))?
        }
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
