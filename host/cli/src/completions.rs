//! `agenthost completions`.

use std::process::ExitCode;

use clap_complete::Shell;

use super::output::Printer;
use agenthost::error::{Error, Result};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn completions(args: &Args, mut definition: clap::Command, printer: &Printer) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition, "agenthost", &mut script);
    let script = String::from_utf8(script).map_err(|error| Error::host(error.to_string()))?;
    printer.raw(script.trim_end())?;
    Ok(ExitCode::SUCCESS)
}
