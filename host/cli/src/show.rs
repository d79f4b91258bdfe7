//! `agenthost show`: a run task by task, and which calls ran concurrently.
//!
//! Everything is read from the journal; a run that is still going on is shown as far as it is recorded.

mod detail;
mod page;
mod parallel;
mod parts;
mod shown;
mod timeline;

use std::process::ExitCode;

use self::shown::Shown;
use super::global::Global;
use super::journal::{Found, journal_path};
use super::output::Printer;
use super::recorded::{self, Run};
use agenthost::config::Env;
use agenthost::error::Result;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run's id, the beginning of its id, or `last`
    run: String,
    /// Show this task, such as root/0, and those below it
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// Show all tasks and calls
    #[arg(long)]
    all: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn show(args: &Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let config = global.config(env)?;
    let found = Found::open(global, &config, env)?;
    let path = journal_path(&config, env, global.journal.as_deref());
    let (journal, run) = super::runs::find(found, path.as_deref(), &args.run)?;
    let now = recorded::now_ms();
    let run = Run::new(&run, now, |run| recorded::is_running(&*journal, run));
    let shown = Shown::read(&*journal, run, args.task.as_deref(), args.all)?;
    if args.json {
        printer.data(&shown.document())?;
    } else {
        printer.page(&page::page(&shown, args.all, now, super::table::width()))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;
