//! `agenthost list`: the plugins that a project uses, or the releases that a registry has.

use std::process::ExitCode;

use serde_json::json;

use super::Global;
use super::output::{Printer, printable};
use super::registry::{limits, models, open};
use super::table::{Column, columns, width};
use crate::config::Env;
use crate::error::Result;
use crate::registry::Reference;
use crate::registry::lock::Locked;
use crate::registry::project::Project;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Ask the registry for the releases of this plugin instead
    #[arg(value_name = "REF")]
    reference: Option<Reference>,
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn list(args: &Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let project = open(global, env)?;
    match &args.reference {
        Some(reference) => releases(&project, reference, args.json, printer).await?,
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
        .try_for_each(|version| printer.text(&version.to_string()))
}

/// Whether a locked plugin would run, and if not, why.
fn state(project: &Project, locked: &Locked) -> (bool, String) {
    if !project.cache().has(&locked.digest) {
        return (false, "not fetched".to_owned());
    }
    match project.admit(locked) {
        Ok(admitted) => {
            let by = admitted.verdict.vetted_by;
            let vetted = match by.is_empty() {
                true => "runs".to_owned(),
                false => format!("runs; vetted by {}", by.join(", ")),
            };
            (true, vetted)
        }
        Err(error) => (false, format!("refused: {error}")),
    }
}

fn plugins(project: &Project, json: bool, printer: &Printer) -> Result<()> {
    let rows: Vec<_> = project
        .lock()
        .plugins()
        .map(|locked| (locked, state(project, locked)))
        .collect();
    if json {
        let plugins = rows.iter().map(|(locked, (runs, state))| {
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
    let rows = rows.into_iter().map(|(locked, (_, state))| {
        vec![
            locked.name.to_string(),
            locked.version.to_string(),
            printable(&models(&locked.asks)),
            printable(&limits(&locked.asks)),
            printable(&state),
        ]
    });
    let rows: Vec<_> = [head].into_iter().chain(rows).collect();
    let kinds = [Column::Left, Column::Left, Column::Left, Column::Cut, Column::Left];
    printer.text(&columns(&kinds, &rows, Some(width())))
}
