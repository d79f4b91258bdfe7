//! Resuming or replaying a recorded batch: its command line is parsed again, in its directory.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde::Deserialize as _;

use super::recorded::{Earlier, How, RecordedBatchCommand};
use super::{Args, go};
use crate::global::Global;
use crate::journal::journal_path;
use crate::output::Printer;
use crate::which::is_inside;
use agenthost::config::{Config, Env};
use agenthost::error::{Error, Result};

/// The command line of a recorded batch: the one of the program, with this command alone.
#[derive(Debug, Parser)]
#[command(name = "agenthost", bin_name = "agenthost", version, propagate_version = true)]
struct RecordedCommandLine {
    #[command(subcommand)]
    command: RecordedSubcommand,
    #[command(flatten)]
    global: Global,
}

#[derive(Debug, Subcommand)]
enum RecordedSubcommand {
    Batch(Box<Args>),
    /// Any other command, which is not recorded with a batch
    #[command(external_subcommand)]
    Other(#[expect(dead_code, reason = "clap requires it")] Vec<String>),
}

/// Describes the parts of a command line that go beyond the project's folder or the operator's limits.
fn beyond(args: &Args, how: &How, cwd: &Path, config: &Config, env: &Env) -> Result<Vec<String>> {
    let mut beyond = Vec::new();
    let mut outside = |what: &str, path: &Path| {
        if !is_inside(&cwd.join(path), config, env) {
            beyond.push(format!("{what} {}", path.display()));
        }
    };
    outside("the directory", cwd);
    outside("the items", &args.items);
    for file in args.reading.set.iter().filter_map(|given| given.split_once("=@")) {
        outside("--set with the file", Path::new(file.1));
    }
    // The content of the file is replaced. A replay writes no file.
    let output = args.output().filter(|_| matches!(how, How::Resume { .. }));
    beyond.extend(output.map(|file| format!("--output {}", file.display())));
    beyond.extend(args.which.given_dirs().iter().map(|dir| format!("--dir {dir}")));
    let tools = args.which.given_server_tools().iter();
    beyond.extend(tools.map(|tool| format!("--server-tool {tool}")));
    let own = config.limits();
    let asked = own.overridden_by(&args.limits.patch()?);
    let all = &config.run().limits;
    let sum = all.overridden_by(&args.sums.patch()?);
    if asked.narrowed_by(own) != asked || sum.narrowed_by(all) != sum {
        beyond.push("limits above yours".to_owned());
    }
    Ok(beyond)
}

/// Resumes or replays a recorded batch: parses its command line again, in its directory.
pub(crate) async fn again(
    earlier: Earlier,
    json: bool,
    global: &Global,
    env: &Env,
    printer: &Printer,
) -> Result<ExitCode> {
    let id = &earlier.record.id;
    let command = RecordedBatchCommand::deserialize(&earlier.record.command).map_err(|_| {
        Error::usage(format!("run {id} was not started from the command line"))
            .with_hint("A program that embeds the host takes its batches up itself, with Host::batch.")
    })?;
    if command.items.is_none() {
        return Err(
            Error::usage(format!("the items of run {id} came in through a pipe and are gone"))
                .with_hint("Write the items to a file to have a batch that can be resumed."),
        );
    }
    let own = command.is_own(env) || earlier.accept_command;
    let argv = std::iter::once("agenthost".to_owned()).chain(command.argv);
    let cli = RecordedCommandLine::try_parse_from(argv).map_err(|error| {
        Error::usage(format!(
            "the command line of run {id} makes no sense to this version: {error}"
        ))
    })?;
    let RecordedSubcommand::Batch(mut args) = cli.command else {
        return Err(Error::usage(format!("run {id} is not a batch")));
    };
    if !own {
        let beyond = beyond(&args, &earlier.how, &command.cwd, &global.config(env)?, env)?;
        crate::command::refuse_foreign(&earlier.record, &beyond)?;
    }
    args.json |= json;
    // The journal is the one in which the batch was found, and the verbosity is that of this command.
    let here = |path: &PathBuf| env.cwd().join(path);
    let config = global.config.as_ref().map(here);
    // A configuration that another user named is not used.
    let recorded = cli.global.config.filter(|_| own);
    let global = Global {
        config: config.or(recorded),
        journal: journal_path(&global.config(env)?, env, global.journal.as_deref()),
        offline_models: global.offline_models || cli.global.offline_models,
        verbose: global.verbose,
        log_format: global.log_format,
        quiet: global.quiet,
    };
    // Boxed, since the future of a batch contains this one.
    Box::pin(go(
        *args,
        &global,
        &env.at(&command.cwd),
        printer,
        Some((earlier, command.items)),
    ))
    .await
}
