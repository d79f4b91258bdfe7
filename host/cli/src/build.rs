//! `agenthost build`: builds a crate into a component.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::cassettes::too_low;
use super::compiled;
use super::crates::rules_naming;
use super::global::Global;
use super::output::{Printer, exit};
use super::terminal::indented;
use agenthost::config::Env;
use agenthost::error::{Error, Result};
use agenthost::limits::units::show_bytes;
use agenthost::plugin::{PluginInfo, build as builder};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The directory of the plugin's crate
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Record tools and source revision, for distribution; every build is optimized
    #[arg(long)]
    release: bool,
    /// Compare the result with this .wasm file, byte for byte; exit code 1 and a list of differences if they differ
    #[arg(long, value_name = "FILE", conflicts_with = "emit_wit")]
    check: Option<PathBuf>,
    /// Print one JSON document with the path, the identity and the digest, or with the result of --check
    #[arg(long)]
    pub(super) json: bool,
    /// Print the component's WIT instead of its path
    #[arg(long, conflicts_with = "json")]
    emit_wit: bool,
}

pub(super) fn build(args: &Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let dir = env.cwd().join(&args.dir);
    if let Some(file) = &args.check {
        return check(&dir, &env.cwd().join(file), args, env, printer);
    }
    let rules = rules_naming(&dir, env, printer)?;
    let built = match args.release {
        true => rules.release(&dir),
        false => rules.build(&dir),
    }?;
    for note in &built.notes {
        printer.note(note);
    }
    let plugin = PluginInfo::open(&built.path)?;
    // Whether it gets a directory is decided when it is run.
    agenthost::plugin::refuse(&plugin.id.name, &plugin.imports, true, built.blame.as_deref())?;
    let bytes = agenthost::plugin::read(&built.path)?;
    let compiled = compiled::check(&plugin, &bytes, &global.config(env)?, env)?;
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
            "compile": compiled::document(&compiled),
        }))?;
    } else {
        printer.say(&format!(
            "built {} ({}): {}",
            plugin.id,
            show_bytes(plugin.size),
            plugin.powers()
        ));
        printer.say(&format!("compiles: {}", compiled::words(&compiled)));
        match args.emit_wit {
            true => printer.raw(&builder::wit(&built.path)?)?,
            false => printer.path(&built.path)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Checks that a build of the crate in `dir` gives exactly the bytes of `file`.
fn check(dir: &Path, file: &Path, args: &Args, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let plugin = PluginInfo::open(file)?;
    let expected = std::fs::read(file).map_err(|error| Error::plugin(error.to_string()).at(file))?;
    let rules = rules_naming(dir, env, printer)?;
    let found = rules.reproduces(dir, &expected)?;
    for note in &found.notes {
        printer.note(note);
    }
    if args.json {
        printer.data(&json!({
            "format": 1,
            "id": plugin.id.to_string(),
            "digest": plugin.digest.to_string(),
            "same": found.same(),
            "differs": found.differs,
        }))?;
    } else if found.same() {
        printer.text(format!("the same: {}", plugin.digest))?;
    } else {
        let differs = found.differs.join("\n");
        printer.text(indented(&format!("not the same\n{differs}"), 2))?;
    }
    Ok(match found.same() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(exit::FAILED),
    })
}
