//! A recorded batch, taken up again: its command line read once more, in its directory.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::go;
use crate::cli::journal::journal_path;
use crate::cli::output::Printer;
use crate::cli::{self, Cli, Global};
use crate::config::Env;
use crate::error::{Error, Result};
use crate::journal::RunRecord;
use crate::limits::LimitsPatch;

/// A batch that is taken up again.
pub(in crate::cli) struct Earlier {
    pub(in crate::cli) record: RunRecord,
    pub(in crate::cli) how: How,
    /// Plugins may be others than they were.
    pub(in crate::cli) changed_plugins: bool,
}

/// What is done with a recorded batch.
pub(in crate::cli) enum How {
    /// It goes on, with these limits of each task and of all together in the place of those that it had.
    Resume {
        failed: bool,
        limits: Box<(LimitsPatch, LimitsPatch)>,
    },
    /// It is told everything again; the results go to stdout.
    Replay,
}

/// What it takes to start a batch again, as the journal keeps it.
#[derive(Serialize, Deserialize)]
pub(super) struct Command {
    /// The arguments, `batch` first.
    pub(super) argv: Vec<String>,
    pub(super) cwd: PathBuf,
    /// The digest of the items, in hex; none where they came in through a pipe.
    pub(super) items: Option<String>,
}

/// Takes up a recorded batch: reads its command line again, in its directory.
pub(in crate::cli) async fn again(
    earlier: Earlier,
    json: bool,
    global: &Global,
    env: &Env,
    printer: &Printer,
) -> Result<ExitCode> {
    let id = &earlier.record.id;
    let command: Command = serde_json::from_str(&earlier.record.command).map_err(|_| {
        Error::usage(format!("run {id} was not started from the command line"))
            .hint("A program that embeds the host takes its batches up itself, with Host::open_batch.")
    })?;
    if command.items.is_none() {
        return Err(
            Error::usage(format!("the items of run {id} came in through a pipe and are gone"))
                .hint("Write the items to a file to have a batch that can be resumed."),
        );
    }
    let cli = Cli::try_parse_from(std::iter::once("agenthost".to_owned()).chain(command.argv)).map_err(|error| {
        Error::usage(format!(
            "the command line of run {id} makes no sense to this version: {error}"
        ))
    })?;
    let cli::Command::Batch(mut args) = cli.command else {
        return Err(Error::usage(format!("run {id} is no batch")));
    };
    args.json |= json;
    // The journal is the one in which the batch was found, and how much is said is for whoever reads it now.
    let here = |path: &PathBuf| env.cwd().join(path);
    let config = global.config.as_ref().map(here);
    let global = Global {
        config: config.or(cli.global.config),
        journal: journal_path(&global.config(env)?, env, global.journal.as_deref()),
        verbose: global.verbose,
        quiet: global.quiet,
    };
    // Boxed, as a batch is not taken up from within a batch.
    Box::pin(go(
        *args,
        &global,
        &env.at(&command.cwd),
        printer,
        Some((earlier, command.items)),
    ))
    .await
}

/// The digest of a file's content, in hex.
pub(super) fn digest(file: &File) -> Result<String> {
    let mut file = file;
    let mut hasher = Sha256::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(()),
                n => hasher.update(buffer.get(..n).unwrap_or_default()),
            }
        }
    });
    read.map_err(|error| {
        Error::input(format!("the items cannot be read: {error}")).hint("Give a file that can be read.")
    })?;
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
