//! Resuming or replaying a recorded batch: its command line is parsed again, in its directory.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::go;
use crate::journal::journal_path;
use crate::output::Printer;
use crate::which::is_inside;
use crate::{Cli, Global};
use agenthost::config::{Config, Env, trust};
use agenthost::error::{Error, Result};
use agenthost::journal::RunRecord;
use agenthost::limits::LimitsPatch;

/// A recorded batch to be resumed or replayed.
pub(crate) struct Earlier {
    pub(crate) record: RunRecord,
    pub(crate) how: How,
    /// Whether plugins may have changed.
    pub(crate) changed_plugins: bool,
    /// Whether the operator has read the command line, even if another user gave it.
    pub(crate) accept_command: bool,
}

/// How to continue a recorded batch.
pub(crate) enum How {
    /// Resume it. The limits of each task and of all together override the recorded ones.
    Resume {
        failed: bool,
        limits: Box<(LimitsPatch, LimitsPatch)>,
    },
    /// Replay it from its record. The results go to stdout.
    Replay,
}

/// The command of a batch, as the journal keeps it, to start the batch again.
#[derive(Serialize, Deserialize)]
pub(super) struct RecordedBatchCommand {
    /// The arguments, `batch` first.
    pub(super) argv: Vec<String>,
    pub(super) cwd: PathBuf,
    /// The digest of the items, in hex; `None` if they came through a pipe.
    pub(super) items: Option<String>,
    /// The proof that this user gave the command; see [`trust::seal`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) seal: Option<String>,
}

impl RecordedBatchCommand {
    /// Returns the command with the proof that this user gave it.
    pub(super) fn sealed(mut self, env: &Env) -> Self {
        self.seal = trust::seal::seal(env, &self.unsealed());
        self
    }

    fn is_own(&self, env: &Env) -> bool {
        self.seal
            .as_ref()
            .is_some_and(|seal| trust::seal::is_sealed(env, &self.unsealed(), seal))
    }

    /// Returns the sealed text.
    fn unsealed(&self) -> String {
        json!([self.argv, self.cwd, self.items]).to_string()
    }
}

/// Describes the parts of a command line that go beyond the project's folder or the operator's limits.
fn beyond(args: &super::Args, how: &How, cwd: &Path, config: &Config, env: &Env) -> Result<Vec<String>> {
    let mut beyond = Vec::new();
    let mut outside = |what: &str, path: &Path| {
        if !is_inside(&cwd.join(path), config, env) {
            beyond.push(format!("{what} {}", path.display()));
        }
    };
    outside("the directory", cwd);
    outside("the items", &args.items);
    // The content of the file is replaced. A replay writes no file.
    let output = args.output().filter(|_| matches!(how, How::Resume { .. }));
    beyond.extend(output.map(|file| format!("--output {}", file.display())));
    beyond.extend(args.which.given_dirs().iter().map(|dir| format!("--dir {dir}")));
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
    let cli = Cli::try_parse_from(std::iter::once("agenthost".to_owned()).chain(command.argv)).map_err(|error| {
        Error::usage(format!(
            "the command line of run {id} makes no sense to this version: {error}"
        ))
    })?;
    let crate::Command::Batch(mut args) = cli.command else {
        return Err(Error::usage(format!("run {id} is not a batch")));
    };
    if !own {
        let beyond = beyond(&args, &earlier.how, &command.cwd, &global.config(env)?, env)?;
        crate::run::refuse_foreign(&earlier.record, &beyond)?;
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
        verbose: global.verbose,
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

/// Returns the digest of a file's content, in hex.
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
        Error::input(format!("the items cannot be read: {error}")).with_hint("Give a file that can be read.")
    })?;
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
