//! `agenthost spawn`: tasks in plain words, which the built-in plugins answer.
//!
//! The options decide on the plugin: `agenthost:ask` for one task, `agenthost:fan-out` for several, `agenthost:validate`
//! with `--validator`, and `agenthost:recover` with `--recover`. All of its input is checked before anything is spent.

mod args;
mod input;
mod output;

use std::process::ExitCode;

pub(super) use self::args::Args;
use self::input::Call;
pub(super) use self::output::{FailedTask, Text};
use super::global::Global;
use super::output::Printer;
use super::run::{self, Show};
use super::start::Spawned;
use agenthost::config::Env;
use agenthost::error::Result;

pub(super) async fn spawn(args: Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let call = Call::of(&args, env)?;
    for note in &call.notes {
        printer.note(note);
    }
    let show = match args.json {
        true => Show::Document,
        false => Show::Text(Text::of(call.plugin, &call.input)),
    };
    let spawned = Spawned {
        tasks: call.tasks,
        least_tasks: call.least_tasks,
        least_tokens: call.least_tokens,
        models: call.models,
    };
    let run = run::Args::spawn(call.plugin, spawned, args.record, args.json, args.start, args.limits);
    run::start(run, Some(call.input), show, global, env, printer).await
}
