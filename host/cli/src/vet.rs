//! `agenthost vet`: checks a plugin, and records who vouches for which digest.
//!
//! Nothing is decided here: the checks are shown, and a person accepts. A failed check prevents that. A check that
//! cannot be made, because the source is missing, is reported as skipped.

mod checks;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde_json::json;

use self::checks::{CheckState, Subject};
use super::compiled;
use super::global::Global;
use super::output::Printer;
use super::registry::{changes_document, limits, max_document, max_of, models, note, project, server_tools};
use super::terminal::{Styled, indented};
use agenthost::PluginSource;
use agenthost::config::{Env, trust};
use agenthost::error::{Error, Result};
use agenthost::plugin::PluginInfo;
use agenthost::registry::asks::Asks;
use agenthost::registry::local::signatures_beside;
use agenthost::registry::project::Project;
use agenthost::registry::statement::identity;
use agenthost::registry::vetted::{VET_FILE, VetFile, Vetted};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The plugin: a reference in agenthost.lock or a registry, a .wasm file, or a crate directory
    plugin: String,
    /// The plugin's crate directory, to play its cassettes to the plugin and compare a build of it byte for byte
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    /// Vouch for the plugin: write an entry to the project's vetted.toml
    #[arg(long)]
    accept: bool,
    /// Notes on the review
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true,
        requires = "accept"
    )]
    notes: String,
    /// The person who vouches [default: git's user.name and user.email]
    #[arg(long, value_name = "NAME", requires = "accept")]
    who: Option<String>,
    /// Print one JSON document with every check
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn vet(args: &Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let config = global.config(env)?;
    let project = project(&config, env)?.before_vetting();
    // Before the checks, which take time.
    let who = args.accept.then(|| voucher(args)).transpose()?;
    let source = args.source.as_ref().map(|dir| env.cwd().join(dir));
    if let Some(dir) = source.as_deref().filter(|dir| dir.is_dir()) {
        super::crates::ask(dir, None, env, printer)?;
        trust::crates::check(env, dir)?;
    }
    let (place, subject) = find(args, &project, env, printer).await?;
    let (name, version) = identity(&subject.plugin)?;
    let asks = Asks::of(&subject.plugin);
    let before = project.vetted_before(&name, &version).cloned();
    let known = project
        .vetted()
        .iter()
        .filter(|entry| entry.digest == subject.plugin.digest);
    let known: Vec<String> = known.map(|entry| entry.who.clone()).collect();
    let file = project.root().join(VET_FILE);
    let max = project.policy().max(&subject.plugin.id.name);
    let (checks, compiled) = checks::all(&subject, source.as_deref(), (place, project, config), env).await?;
    let changes = before.as_ref().map(|before| before.asks.changes(&asks));
    let failed = checks.iter().filter(|check| check.state == CheckState::Failed).count();
    let who = who.filter(|_| failed == 0);
    let accepted = who.is_some();
    if let Some(who) = who {
        let mut entry = Vetted::new(name.clone(), version.clone(), subject.plugin.digest, who, asks.clone());
        entry.notes = args.notes.trim().to_owned();
        entry.checks = checks
            .iter()
            .filter(|check| check.state == CheckState::Passed)
            .map(|check| check.name.to_owned())
            .collect();
        VetFile::record(env, &file, entry)?;
    }
    let mut document = serde_json::Value::Null;
    if args.json {
        document = json!({
            "format": 1, "name": name, "version": version, "digest": subject.plugin.digest,
            "powers": subject.plugin.powers(), "asks": asks, "max": max_document(&max), "checks": checks,
            "compile": compiled::document(&compiled),
            "vetted_by": known,
            "since": before.as_ref().map(|before| json!({
                "version": before.version, "who": before.who, "when": before.when,
                "changes": changes_document(changes.as_deref().unwrap_or_default()),
            })),
            "accepted": accepted,
        });
    } else {
        let mut head = Styled::default();
        head.bold(format!("{name} {version}"))
            .push(format!(" {}", subject.plugin.digest));
        printer.text(head)?;
        let row = |label: &str, text: &str| printer.text(format!("  {label:<12} {}", indented(text, 15)));
        row("may do", &subject.plugin.powers())?;
        row("models", &models(&asks))?;
        row("asks for", &limits(&asks))?;
        if let Some(tools) = server_tools(&asks) {
            row("tools", &tools)?;
        }
        if let Some(max) = max_of(&max) {
            row("policy max", &max)?;
        }
        if !known.is_empty() {
            row("vetted by", &known.join(", "))?;
        }
        if let (Some(before), Some(changes)) = (&before, &changes) {
            let since = format!("{} ({}, {})", before.version, before.who, before.when);
            row("since", &since)?;
            if changes.is_empty() {
                row("", "asks for nothing else than that")?;
            }
            changes.iter().try_for_each(|change| row("", &change.to_string()))?;
        }
        printer.text("checks")?;
        for check in &checks {
            let said = format!("{:<7}  {}", check.state.word(), check.said);
            row(check.name, &said)?;
        }
    }
    if failed > 0 {
        let what = super::output::counted(failed as u64, "checks");
        let error = Error::denied(format!("{name} {version}: {what} failed"))
            .with_hint("What failed has to be mended by the publisher; a plugin that fails is not vouched for.");
        return printer.refuse(document, error);
    }
    if args.json {
        printer.data(&document)?;
    } else if accepted {
        printer.say(&format!("written to {}; commit it", file.display()));
    } else {
        printer.say("nothing was written down; vouch for it with --accept --notes \"what you looked at\"");
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the person who vouches: from `--who`, or from git's configuration.
fn voucher(args: &Args) -> Result<String> {
    let who = match &args.who {
        Some(who) => who.trim().to_owned(),
        None => git_identity().unwrap_or_default(),
    };
    match who.is_empty() {
        true => {
            Err(Error::usage("it is not known who vouches")
                .with_hint("Say it: --who \"Ada Example <ada@acme.example>\""))
        }
        false => Ok(who),
    }
}

/// Returns the plugin to be checked, and the place to load it from.
async fn find(args: &Args, project: &Project, env: &Env, printer: &Printer) -> Result<(PluginSource, Subject)> {
    let place = PluginSource::parse(&args.plugin, env.cwd())?;
    let read = |path: &Path| -> Result<Subject> {
        let bytes = agenthost::plugin::read(path)?;
        Ok(Subject {
            plugin: PluginInfo::read(&bytes).map_err(|error| Error::from(error).at(path))?,
            signatures: signatures_beside(path)?,
            bytes,
        })
    };
    match &place {
        PluginSource::Path(path) if path.is_dir() => {
            super::crates::ask(path, None, env, printer)?;
            let built = super::crates::rules_alone(env).release(path)?;
            let subject = read(&built.path)?;
            Ok((PluginSource::Path(built.path), subject))
        }
        PluginSource::Path(path) => {
            let subject = read(path)?;
            Ok((place, subject))
        }
        PluginSource::Reference(reference) => match project.locked(reference) {
            Ok(locked) => {
                project.ready(&locked.name, |locked| note(locked, printer)).await?;
                let (plugin, bytes, signatures) = project.checked(locked)?;
                Ok((
                    place,
                    Subject {
                        plugin,
                        bytes,
                        signatures,
                    },
                ))
            }
            // Not in the project yet: read as a file.
            Err(_) => {
                let found = project.find(reference).await?;
                let path = project.cache().path(&found.release.digest);
                Ok((
                    PluginSource::Path(path),
                    Subject {
                        plugin: found.plugin,
                        bytes: found.bytes,
                        signatures: found.signatures,
                    },
                ))
            }
        },
    }
}

/// Returns the identity with which git signs commits: `Ada Example <ada@acme.example>`.
fn git_identity() -> Option<String> {
    let ask = |key: &str| {
        let output = Command::new("git")
            .args(["config", "--get", key])
            .stdin(Stdio::null())
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && !text.is_empty()).then_some(text)
    };
    let name = ask("user.name")?;
    Some(match ask("user.email") {
        Some(email) => format!("{name} <{email}>"),
        None => name,
    })
}
