//! `agenthost trust`: records the operator's decision that the crates of a project may be built, and that its
//! configuration may send prompts and keys to its addresses, give plugins the directories and the tools of providers that
//! it names, lift limits of the operator's, and run its schedules.

use std::path::PathBuf;
use std::process::ExitCode;

use super::global::Global;
use super::output::Printer;
use agenthost::config::trust::{self, TrustRecord};
use agenthost::config::{Config, Env};
use agenthost::error::{Error, Result};
use agenthost::printable::one_line;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The project's folder or configuration file, or the folder of a crate [default: the agenthost.toml in this
    /// directory or above]
    #[arg(value_name = "PATH")]
    file: Option<PathBuf>,
    /// Only show what would be trusted
    #[arg(long)]
    dry_run: bool,
    /// Revoke the trust
    #[arg(long, conflicts_with = "dry_run")]
    revoke: bool,
    /// List all trusted files and their permissions
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
            Error::config("there is no agenthost.toml here or above")
                .with_hint("Name the file or the folder: `agenthost trust PATH`.")
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
            "{} asks for nothing that needs your trust",
            record.file.display()
        ));
        return Ok(ExitCode::SUCCESS);
    }
    show(&record, printer)?;
    printer.say(match (args.dry_run, &record.crates) {
        (true, _) => "nothing was recorded",
        (false, None) => "trusted; a change of any of these needs a new `agenthost trust`",
        (false, Some(_)) => {
            "trusted; what the crates in the folder contain may change, and a change of anything else that is shown needs \
             a new `agenthost trust`"
        }
    });
    Ok(ExitCode::SUCCESS)
}

fn show(record: &TrustRecord, printer: &Printer) -> Result<()> {
    printer.text(one_line(&record.file.to_string_lossy()))?;
    for pair in &record.pairs {
        let mut what = match pair.key.is_empty() {
            true => "prompts".to_owned(),
            false => format!("the key from {}", pair.key),
        };
        for field in &pair.fields {
            what += &format!(", the {field}");
        }
        let line = format!("{}: sends {what} to {}", pair.provider, pair.address);
        printer.text(format!("  {}", one_line(&line)))?;
    }
    for dir in &record.dirs {
        let line = format!("{}: may {} {}", dir.plugin, dir.access, dir.dir.display());
        printer.text(format!("  {}", one_line(&line)))?;
    }
    for asked in &record.server_tools {
        let line = format!("{}: may use tools of a provider: {}", asked.plugin, asked.tools);
        printer.text(format!("  {}", one_line(&line)))?;
    }
    for lift in &record.lifts {
        printer.text(format!("  {}", one_line(&lift.to_string())))?;
    }
    for schedule in &record.schedules {
        let line = format!("schedule {}: runs {}", schedule.name, schedule.runs);
        printer.text(format!("  {}", one_line(&line)))?;
    }
    if let Some(crates) = &record.crates {
        let dir = crates.dir.display().to_string();
        printer.text(format!(
            "  builds crates in {}: their build scripts and macros run as you",
            one_line(&dir)
        ))?;
        for file in &crates.outside {
            printer.text(format!("  with {}", one_line(&file.to_string_lossy())))?;
        }
    }
    Ok(())
}
