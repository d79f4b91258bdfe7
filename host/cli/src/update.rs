//! `agenthost update`: newer releases of the plugins in the lock file, with what they ask for beyond the ones before.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::global::Global;
use super::output::{Printer, counted};
use super::registry::{Offer, along, changes_document, max_document, max_of, project};
use super::terminal::{Styled, indented};
use agenthost::config::Env;
use agenthost::error::{Error, Result, with_causes};
use agenthost::registry::Name;
use agenthost::registry::lock::Locked;
use agenthost::registry::project::Project;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Update only these plugins
    #[arg(value_name = "NAMESPACE:NAME")]
    names: Vec<String>,
    /// Accept updates that request more: other imports, model names, tools of providers, sub-agents or higher limits
    #[arg(long)]
    accept: bool,
    /// Change nothing, and end with exit code 4 if there is an update
    #[arg(long, conflicts_with = "accept")]
    locked: bool,
    /// Print one JSON document with every change
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn update(args: &Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let config = global.config(env)?;
    let mut project = project(&config, env)?;
    let mut offers = Vec::new();
    let names = args.names.iter().map(|name| name.parse());
    for locked in chosen(&project, &names.collect::<Result<Vec<Name>, _>>()?)? {
        let about = |error: Error| error.context(&locked.name.to_string());
        if let Some(found) = project.newer(&locked).await.map_err(|error| about(error.into()))? {
            let offer = Offer::of(&project, found, locked.wanted.clone()).map_err(about)?;
            offers.push((locked, offer));
        }
    }
    // A new sub-agent is more than was accepted, and is added once it is accepted.
    let along = along(&project, &config, offers.iter().map(|(_, offer)| offer).collect()).await?;
    let grows = !along.is_empty() || offers.iter().any(|(_, offer)| offer.needs_word());
    let confirmed = !args.locked && (args.accept || !grows);
    // What the policies refuse at the moment would replace releases that run.
    let pending: Vec<_> = offers
        .iter()
        .map(|(_, offer)| offer)
        .chain(&along)
        .filter(|offer| offer.pending.is_some())
        .collect();
    let accepted = confirmed && pending.is_empty();
    let document = document(&offers, &along, accepted);
    if !args.json {
        print(&offers, &along, printer)?;
    }
    if args.locked && !offers.is_empty() {
        let what = counted(offers.len() as u64, "plugins");
        let error = Error::denied(format!("{what} can be updated, and --locked forbids it"));
        return printer.refuse(document, error.with_hint("Run `agenthost update` without --locked."));
    }
    if !confirmed && !offers.is_empty() {
        let error = Error::denied("nothing was changed: an update asks for more than was accepted")
            .with_hint("Read the changes, those with a +; accept them with `agenthost update --accept`.");
        return printer.refuse(document, error);
    }
    if !pending.is_empty() {
        let missing = pending
            .iter()
            .filter_map(|offer| offer.pending.as_ref())
            .map(|pending| with_causes(pending));
        let missing = missing.collect::<Vec<_>>().join("; ");
        let vets = pending.iter().map(|offer| {
            let found = &offer.found;
            format!("`agenthost vet {}@{} --accept`", found.name, found.version)
        });
        let error =
            Error::denied(format!("nothing was changed, and the locked releases stay: {missing}")).with_hint(format!(
                "Vet what is missing, then update again: {}.",
                vets.collect::<Vec<_>>().join(", ")
            ));
        return printer.refuse(document, error);
    }
    if offers.is_empty() {
        if args.json {
            printer.data(&document)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let offers = || offers.iter().map(|(_, offer)| offer).chain(&along);
    for offer in offers() {
        let entry = project.entry(&offer.found, offer.wanted.clone(), &offer.verdict)?;
        project.lock_mut().put(entry);
    }
    project.lock().write()?;
    if args.json {
        printer.data(&document)?;
    } else {
        let what = counted(offers().count() as u64, "plugins");
        printer.say(&format!("{what} written to {}", project.lock().path().display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the entries to update.
fn chosen(project: &Project, names: &[Name]) -> Result<Vec<Locked>> {
    for name in names {
        if project.lock().get(name).is_none() {
            return Err(
                Error::usage(format!("{name} is not in {}", project.lock().path().display()))
                    .with_hint("`agenthost list` shows what is."),
            );
        }
    }
    let chosen = |locked: &&Locked| names.is_empty() || names.contains(&locked.name);
    Ok(project.lock().plugins().filter(chosen).cloned().collect())
}

fn document(offers: &[(Locked, Offer)], along: &[Offer], accepted: bool) -> Value {
    let updates = offers.iter().map(|(locked, offer)| {
        json!({
            "name": locked.name, "from": locked.version, "to": offer.found.version,
            "from_digest": locked.digest, "to_digest": offer.found.release.digest,
            "changes": changes_document(offer.changes.as_deref().unwrap_or_default()),
            "grows": offer.needs_word(), "runs": offer.pending.is_none(),
            "missing": offer.pending.as_ref().map(|pending| with_causes(pending)), "max": max_document(&offer.max),
        })
    });
    let along: Vec<_> = along.iter().map(Offer::document).collect();
    json!({"format": 1, "updates": updates.collect::<Vec<_>>(), "new_sub_agents": along, "accepted": accepted})
}

fn print(offers: &[(Locked, Offer)], along: &[Offer], printer: &Printer) -> Result<()> {
    if offers.is_empty() {
        printer.say("everything is as new as the lock file allows");
    }
    for (locked, offer) in offers {
        let mut line = Styled::default();
        line.bold(locked.name.to_string())
            .push(format!(" {} -> {}", locked.version, offer.found.version));
        printer.text(line)?;
        let changes = offer.changes.as_deref().unwrap_or_default();
        if changes.is_empty() {
            printer.text("  asks for nothing else than before")?;
        }
        for change in changes {
            printer.text(format!("  {}", indented(&change.to_string(), 4)))?;
        }
        if let Some(max) = max_of(&offer.max) {
            printer.text(format!("  policy max: {}", indented(&max, 4)))?;
        }
        if let Some(pending) = &offer.pending {
            printer.text(format!("  before it runs: {}", indented(&with_causes(pending), 4)))?;
        }
    }
    along.iter().try_for_each(|offer| printer.text(offer.page()))
}
