//! `agenthost build`: a crate becomes a component.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::cassettes::too_low;
use super::output::Printer;
use super::progress::Progress;
use crate::config::Env;
use crate::error::Result;
use crate::plugin::{Plugin, build as builder};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The directory of the plugin's crate
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// As every build is; accepted so that cargo's habit works
    #[arg(long)]
    release: bool,
    /// Print one JSON document with the path, the identity and the digest
    #[arg(long)]
    pub(super) json: bool,
    /// Print the component's WIT in place of its path
    #[arg(long, conflicts_with = "json")]
    emit_wit: bool,
}

pub(super) fn build(args: &Args, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let waiting = Progress::waiting(&format!("building {}", args.dir.display()), printer);
    let dir = env.cwd().join(&args.dir);
    let built = builder::build(&dir);
    waiting.finish();
    let built = built?;
    for note in &built.notes {
        printer.note(note);
    }
    let plugin = Plugin::open(&built.path)?;
    // Whether it gets a directory is decided where it runs.
    crate::plugin::refuse(&plugin.id.name, &plugin.imports, true, built.blame.as_deref())?;
    let warnings = too_low(&dir, &plugin);
    for warning in &warnings {
        printer.note(warning);
    }
    if args.json {
        printer.data(&json!({
            "format": 1,
            "path": built.path,
            "id": plugin.id.to_string(),
            "digest": plugin.digest.to_string(),
            "size_bytes": plugin.size,
            "warnings": warnings,
        }))?;
    } else {
        printer.say(&format!(
            "built {} ({} KiB): {}",
            plugin.id,
            plugin.size.div_ceil(1024),
            plugin.powers()
        ));
        match args.emit_wit {
            true => printer.text(&builder::wit(&built.path)?)?,
            false => printer.text(&built.path.display().to_string())?,
        }
    }
    Ok(ExitCode::SUCCESS)
}
