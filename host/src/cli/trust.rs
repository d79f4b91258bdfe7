//! `agenthost trust`: the operator's word that a project's configuration may send keys where it says, and give plugins
//! the directories that it names.

use std::path::PathBuf;
use std::process::ExitCode;

use super::Global;
use super::output::Printer;
use crate::config::trust::{self, TrustRecord};
use crate::config::{Config, Env};
use crate::error::{Error, Result};
use crate::printable::one_line;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file [default: the agenthost.toml found upwards from here]
    file: Option<PathBuf>,
    /// Only show what would be trusted
    #[arg(long)]
    dry_run: bool,
    /// Take the trust back
    #[arg(long, conflicts_with = "dry_run")]
    revoke: bool,
    /// Show every file that is trusted, and for what
    #[arg(long, conflicts_with_all = ["file", "dry_run", "revoke"])]
    list: bool,
}

pub(super) fn trust(args: &Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    if args.list {
        let records = trust::list(env)?;
        if records.is_empty() {
            printer.say("nothing is trusted yet");
        }
        for record in &records {
            show(record, printer)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let file = match args.file.clone().or_else(|| global.config.clone()) {
        Some(file) => file,
        None => Config::find_project_file(env)?.ok_or_else(|| {
            Error::config("there is no agenthost.toml here or above").hint("Name the file: `agenthost trust FILE`.")
        })?,
    };
    if args.revoke {
        let known = trust::revoke(env, &file)?;
        printer.say(&match known {
            true => format!("{} is no longer trusted", file.display()),
            false => format!("{} was not trusted", file.display()),
        });
        return Ok(ExitCode::SUCCESS);
    }
    let record = match args.dry_run {
        true => trust::review(env, &file)?,
        false => trust::accept(env, &file)?,
    };
    if record.is_empty() {
        printer.say(&format!(
            "{} sends no key anywhere and grants no directory that needs your trust",
            record.file.display()
        ));
        return Ok(ExitCode::SUCCESS);
    }
    show(&record, printer)?;
    printer.say(match args.dry_run {
        true => "nothing was recorded",
        false => "trusted; a change of any of these needs a new `agenthost trust`",
    });
    Ok(ExitCode::SUCCESS)
}

fn show(record: &TrustRecord, printer: &Printer) -> Result<()> {
    printer.text(one_line(&record.file.to_string_lossy()))?;
    for pair in &record.pairs {
        let line = format!("{}: sends the key from {} to {}", pair.provider, pair.key, pair.address);
        printer.text(format!("  {}", one_line(&line)))?;
    }
    for dir in &record.dirs {
        let line = format!("{}: may {} {}", dir.plugin, dir.access, dir.dir.display());
        printer.text(format!("  {}", one_line(&line)))?;
    }
    Ok(())
}
