//! `agenthost test`: plays a plugin's cassettes to it, offline.
//!
//! A cassette fails if a prompt has changed, if the output differs, if there are more or fewer calls, if a ceiling is
//! exceeded, or if the plugin asks for a model that it does not list. The native tests of the crate are run by cargo.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};

use super::cassettes::{Played, needed, offline_host, play};
use super::crates::rules_naming;
use super::output::{Printer, counted, exit};
use super::table::thousands;
use super::terminal::indented;
use super::which::{find, options, sub_agents};
use agenthost::config::Env;
use agenthost::error::Result;
use agenthost::journal::cassette::Cassette;
use agenthost::journal::cassette::compare::Kind;
use agenthost::printable::one_line;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The directory of the plugin's crate, with cassettes in cassettes/*.json
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Accept changes: rewrite requests, output, calls and exceeded ceilings, and keep the replies
    #[arg(long)]
    update: bool,
    /// Use this .wasm file or crate directory as the sub-agent NAMESPACE:NAME
    #[arg(long, value_name = "NAMESPACE:NAME=PLUGIN")]
    with: Vec<String>,
    /// Print one JSON document with every cassette and its changes
    #[arg(long)]
    pub(super) json: bool,
}

/// The verdict on a cassette.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CassetteStatus {
    Passed,
    Failed,
    Updated,
}

pub(super) async fn test(args: &Args, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let dir = env.cwd().join(&args.dir);
    let cassettes = needed(&dir, &args.dir)?;
    let host = offline_host(env, &dir, &cassettes, rules_naming(&dir, env, printer)?)?;
    let options = options(sub_agents(&args.with, env)?, Vec::new());
    let plugin = Arc::new(
        find(
            &host,
            &args.dir.to_string_lossy(),
            &dir.as_path().into(),
            options,
            printer,
        )
        .await?,
    );
    let mut documents = Vec::new();
    let (mut failed, mut anew, mut denied) = (0, false, false);
    for (path, cassette) in &cassettes {
        let played = play(&host, &plugin, (path, cassette)).await?;
        let verdict = settle(args.update, path, cassette, &played)?;
        let shown = path.strip_prefix(&dir).unwrap_or(path);
        failed += usize::from(verdict == CassetteStatus::Failed);
        let any = |kinds: &[Kind]| played.changes.iter().any(|change| kinds.contains(&change.kind));
        anew |= any(&[Kind::Unrecorded, Kind::Input]);
        denied |= any(&[Kind::Denied]);
        if args.json {
            documents.push(document(shown, cassette, &played, verdict));
        } else {
            tell(shown, cassette, &played, verdict, printer)?;
        }
    }
    let passed = cassettes.len() - failed;
    if args.json {
        printer.data(&json!({
            "format": 1,
            "plugin": plugin.id().to_string(),
            "passed": passed,
            "failed": failed,
            "cassettes": documents,
        }))?;
    } else {
        printer.say(&format!("{passed} passed, {failed} failed"));
    }
    if failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    if !args.json {
        printer.note(match (denied, anew) {
            (true, _) => {
                "a call that is denied here is denied in every run, and --update does not accept it: name its model in \
                 `models`, or ask for one that is named"
            }
            (false, true) => {
                "what a cassette does not hold has to be recorded anew: agenthost run PLUGIN --input JSON --record FILE"
            }
            (false, false) => "to accept what has changed, run it again with --update",
        });
    }
    Ok(ExitCode::from(exit::FAILED))
}

/// Judges a cassette, and rewrites it if that is requested and possible.
fn settle(update: bool, path: &Path, cassette: &Cassette, played: &Played) -> Result<CassetteStatus> {
    if played.changes.is_empty() {
        return Ok(CassetteStatus::Passed);
    }
    let held = played
        .changes
        .iter()
        .all(|change| !matches!(change.kind, Kind::Unrecorded | Kind::Input | Kind::Denied));
    match &played.now {
        Some(now) if update && held => {
            cassette.updated(now).write(path)?;
            Ok(CassetteStatus::Updated)
        }
        _ => Ok(CassetteStatus::Failed),
    }
}

fn tell(shown: &Path, cassette: &Cassette, played: &Played, verdict: CassetteStatus, printer: &Printer) -> Result<()> {
    let word = match verdict {
        CassetteStatus::Passed => "ok",
        CassetteStatus::Failed => "FAILED",
        CassetteStatus::Updated => "updated",
    };
    let used = played.now.as_ref().map_or_else(String::new, |now| {
        let of = |used: u64, ceiling: u64| {
            format!(
                "{} of {}",
                thousands(&used.to_string()),
                thousands(&ceiling.to_string())
            )
        };
        format!(
            ": {}, {} tokens, {} fuel",
            counted(now.calls(), "calls"),
            of(now.expect.tokens, cassette.expect.tokens),
            of(now.expect.fuel, cassette.expect.fuel)
        )
    });
    printer.text(format!("{word} {}{used}", one_line(&shown.to_string_lossy())))?;
    for change in &played.changes {
        let task = change.task.as_ref().map(|task| match change.ask {
            Some(ask) => format!("{task}, ask {ask}: "),
            None => format!("{task}: "),
        });
        printer.text(format!(
            "  {}{}",
            task.unwrap_or_default(),
            indented(&change.message, 4)
        ))?;
        for line in change.diff.iter().flat_map(|diff| diff.lines()) {
            printer.text(format!("    {line}"))?;
        }
    }
    Ok(())
}

fn document(shown: &Path, cassette: &Cassette, played: &Played, verdict: CassetteStatus) -> Value {
    let now = played.now.as_ref();
    json!({
        "file": shown,
        "passed": verdict != CassetteStatus::Failed,
        "updated": verdict == CassetteStatus::Updated,
        "calls": now.map(Cassette::calls),
        "tokens": now.map(|now| now.expect.tokens),
        "tokens_ceiling": cassette.expect.tokens,
        "fuel": now.map(|now| now.expect.fuel),
        "fuel_ceiling": cassette.expect.fuel,
        "changes": played.changes,
    })
}
