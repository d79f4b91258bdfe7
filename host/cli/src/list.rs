//! `agenthost list`: the plugins that a project uses, or the releases that a registry has.

use std::process::ExitCode;

use serde_json::json;

use super::built_in;
use super::global::Global;
use super::output::Printer;
use super::registry::{limits, models, open};
use super::table::{Column, columns, width};
use agenthost::config::Env;
use agenthost::error::{Error, Result, with_causes};
use agenthost::registry::Reference;
use agenthost::registry::lock::Locked;
use agenthost::registry::project::Project;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// List the releases of this plugin in its registry instead
    #[arg(value_name = "REF")]
    reference: Option<String>,
    /// List the plugins that are part of this program instead
    #[arg(long, conflicts_with = "reference")]
    builtin: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn list(args: &Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    if args.builtin {
        built_in::list(args.json, printer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let project = open(global, env)?;
    match &args.reference {
        Some(reference) => releases(&project, &reference.parse()?, args.json, printer).await?,
        None => plugins(&project, args.json, printer)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn releases(project: &Project, reference: &Reference, json: bool, printer: &Printer) -> Result<()> {
    let source = project.source(reference).await?;
    let mut versions = source.versions().await?;
    if let Reference::Named { requirement, .. } = reference {
        versions.retain(|version| requirement.is_any() || requirement.matches(version));
    }
    if json {
        return printer.data(&json!({"format": 1, "source": source.place(), "versions": versions}));
    }
    if versions.is_empty() {
        printer.say(&format!("{}: no releases of {reference}", source.place()));
    }
    versions
        .iter()
        .try_for_each(|version| printer.text(version.to_string()))
}

/// The state of a locked plugin.
enum ListedState {
    /// It can; these people vetted it.
    Runs(Vec<String>),
    /// Not known, since it or a plugin that it starts is not in the cache.
    NotFetched,
    /// It cannot, for this reason.
    Refused(Error),
}

impl ListedState {
    fn of(project: &Project, locked: &Locked) -> Self {
        if !project.cache().has(&locked.digest) {
            return Self::NotFetched;
        }
        let below = project.lock().below(&locked.name);
        let below = below.iter().filter_map(|name| project.lock().get(name));
        for sub_agent in below.filter(|sub_agent| sub_agent.name != locked.name) {
            if !project.cache().has(&sub_agent.digest) {
                return Self::NotFetched;
            }
            if let Err(error) = project.admit(sub_agent) {
                return Self::Refused(
                    Error::from(error).context(&format!("{} starts {}", locked.name, sub_agent.name)),
                );
            }
        }
        match project.admit(locked) {
            Ok(admitted) => Self::Runs(admitted.verdict.vetted_by),
            Err(error) => Self::Refused(error.into()),
        }
    }

    /// Returns the state in a few words, without the reason of a refusal.
    fn word(&self) -> String {
        match self {
            Self::Runs(by) if by.is_empty() => "runs".to_owned(),
            Self::Runs(by) => format!("runs; vetted by {}", by.join(", ")),
            Self::NotFetched => "not fetched".to_owned(),
            Self::Refused(_) => "refused".to_owned(),
        }
    }
}

fn plugins(project: &Project, json: bool, printer: &Printer) -> Result<()> {
    let rows: Vec<_> = project
        .lock()
        .plugins()
        .map(|locked| (locked, ListedState::of(project, locked)))
        .collect();
    if json {
        let plugins = rows.iter().map(|(locked, state)| {
            let (runs, state) = match state {
                ListedState::Refused(error) => (false, format!("refused: {}", with_causes(error))),
                state => (matches!(state, ListedState::Runs(_)), state.word()),
            };
            json!({
                "name": locked.name, "version": locked.version, "wanted": locked.wanted, "source": locked.source,
                "digest": locked.digest, "size_bytes": locked.size, "signer": locked.signer, "asks": locked.asks,
                "runs": runs, "state": state,
            })
        });
        return printer
            .data(&json!({"format": 1, "lock": project.lock().path(), "plugins": plugins.collect::<Vec<_>>()}));
    }
    if rows.is_empty() {
        printer.say(&format!(
            "{} names no plugins; `agenthost add REF` adds one",
            project.lock().path().display()
        ));
        return Ok(());
    }
    let head = ["PLUGIN", "VERSION", "MODELS", "ASKS FOR", "STATE"]
        .map(str::to_owned)
        .to_vec();
    let cells = rows.iter().map(|(locked, state)| {
        vec![
            locked.name.to_string(),
            locked.version.to_string(),
            models(&locked.asks),
            limits(&locked.asks),
            state.word(),
        ]
    });
    let cells: Vec<_> = [head].into_iter().chain(cells).collect();
    let kinds = [Column::Left, Column::Left, Column::Left, Column::Cut, Column::Left];
    printer.text(columns(&kinds, &cells, Some(width())))?;
    for (_, state) in &rows {
        if let ListedState::Refused(error) = state {
            printer.note(&with_causes(error));
        }
    }
    Ok(())
}
