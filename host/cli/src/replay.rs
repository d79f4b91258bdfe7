//! `agenthost replay`: replays a recorded run, with all replies from the journal and no provider.

use std::process::ExitCode;
use std::sync::Arc;

use super::batch::again::again;
use super::batch::recorded::{Earlier, How};
use super::command::RecordedRunCommand;
use super::global::Global;
use super::host::recording_host;
use super::journal::{self, journal_path};
use super::output::Printer;
use super::run::{asked_limits, max_memory, watch};
use agenthost::config::Env;
use agenthost::error::{Error, Result};
use agenthost::journal::RunKind;
use agenthost::limits::LimitsPatch;
use agenthost::printable::shell_word;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run's id, the beginning of its id, or `last`
    run: String,
    /// Replay although a plugin has changed, to see the differences
    #[arg(long)]
    changed_plugins: bool,
    /// Run the recorded command line even if the journal does not show that you gave it
    #[arg(long)]
    accept_command: bool,
    /// Print one JSON document with the outcome, the amounts spent, every task and every difference; a batch prints its
    /// lines
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn replay(args: &Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let config = global.config(env)?;
    let id = args.run.clone();
    let path = journal_path(&config, env, global.journal.as_deref());
    let (record, input) = journal::read(global, &config, env, move |journal| {
        let record = journal::find(journal, path.as_deref(), &id)?;
        let input = journal::root_input(journal, &record)?;
        Ok((record, input))
    })
    .await?;
    if record.end.is_none() {
        return Err(
            Error::usage(format!("run {} has no end that a replay could come to", record.id)).with_hint(format!(
                "Bring it to its end with `agenthost resume {}`.",
                shell_word(&record.id)
            )),
        );
    }
    if record.kind == RunKind::Batch {
        let earlier = Earlier {
            record,
            how: How::Replay,
            changed_plugins: args.changed_plugins,
            accept_command: args.accept_command,
        };
        return again(earlier, args.json, global, env, printer).await;
    }
    let command = RecordedRunCommand::of(&record)?;
    command.check(&record, &config, env, args.accept_command)?;
    let limits = command.limits(LimitsPatch::default());
    let host = recording_host(config, global, env, max_memory(&limits))?;
    for note in host.config_notes() {
        printer.note(&note);
    }
    let plugin = Arc::new(command.load(&host, env, printer).await?);
    let changed = host.changed_plugins(&plugin, &record).await?;
    if !changed.is_empty() && !args.changed_plugins {
        return Err(super::recorded::changed(
            &record,
            &changed,
            super::recorded::SHOW_DIFFERENCES,
        ));
    }
    let asked = asked_limits(&host, &plugin, &limits);
    let run = host.replay(&plugin, &record).limits(&limits).start().await?;
    let show = command.show(args.json, &record, input.as_ref());
    watch(run, &host, &plugin, &asked, show, global, printer).await
}
