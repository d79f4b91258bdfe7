//! `agenthost add`: adds a plugin of a registry, with all that it starts, to the project's lock file.

use std::process::ExitCode;

use serde_json::json;

use super::compiled;
use super::global::Global;
use super::output::Printer;
use super::registry::{Offer, along, project};
use agenthost::config::Env;
use agenthost::error::{Error, Result, with_causes};
use agenthost::registry::Reference;
use agenthost::registry::lock::Locked;
use agenthost::registry::project::Project;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A name, alone or with a version or range, such as acme:competitor@^1.2, or a place in an OCI registry, such as
    /// registry.example/acme/competitor:1.2.0
    #[arg(value_name = "REF")]
    reference: String,
    /// Accept the requested capabilities, and a release that does not run yet in the place of one that runs; without
    /// this flag, they are only shown
    #[arg(long)]
    accept: bool,
    /// Change nothing, and fail if the plugin is not in the lock file
    #[arg(long, conflicts_with = "accept")]
    locked: bool,
    /// Print one JSON document about the plugin that was found
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn add(args: &Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let config = global.config(env)?;
    let mut project = project(&config, env)?;
    let asked: Reference = args.reference.parse()?;
    if args.locked {
        let locked = project.locked(&asked)?.clone();
        if args.json {
            printer.data(&json!({"format": 1, "plugins": [locked], "accepted": true}))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut offers = vec![Offer::find(&project, &asked).await?];
    let below = along(&project, &config, offers.iter().collect()).await?;
    offers.extend(below);
    let compiled = offers.iter().map(|offer| {
        let found = &offer.found;
        compiled::check(&found.plugin, &found.bytes, &config, env)
    });
    let compiled = compiled.collect::<Result<Vec<_>>>()?;
    let known = |offer: &Offer| {
        let locked = project.lock().get(&offer.found.name);
        locked.is_some_and(|locked| locked.digest == offer.found.release.digest)
    };
    let accepted = args.accept || offers.iter().all(|offer| known(offer) || !offer.needs_word());
    let plugins: Vec<_> = offers
        .iter()
        .zip(&compiled)
        .map(|(offer, compiled)| {
            let mut document = offer.document();
            if let Some(fields) = document.as_object_mut() {
                fields.insert("compile".to_owned(), compiled::document(compiled));
            }
            document
        })
        .collect();
    let document = json!({"format": 1, "plugins": plugins, "accepted": accepted});
    if !args.json {
        for (offer, compiled) in offers.iter().zip(&compiled) {
            let mut page = offer.page();
            page.push(format!("\n  {:<10} {}", "compiles", compiled::words(compiled)));
            printer.text(page)?;
        }
    }
    if !accepted {
        let error = Error::denied("nothing was changed: what it asks for is not accepted yet").with_hint(format!(
            "Read what it asks for, then accept it: agenthost add {} --accept",
            quoted(&asked)
        ));
        return printer.refuse(document, error);
    }
    if !args.accept
        && let Some((locked, offer, missing)) = offers.iter().find_map(|offer| worse(&project, offer))
    {
        let error = Error::denied(format!(
            "nothing was changed: {} {} runs, and {}",
            locked.name,
            locked.version,
            with_causes(missing)
        ));
        return printer.refuse(
            document,
            error.with_hint(format!(
                "Vet the new release first: agenthost vet {}@{} --accept. To write it nevertheless, add --accept.",
                offer.found.name, offer.found.version
            )),
        );
    }
    let count = offers.len();
    for offer in &offers {
        let entry = project.entry(&offer.found, offer.wanted.clone(), &offer.verdict)?;
        project.lock_mut().put(entry);
    }
    project.lock().write()?;
    if args.json {
        printer.data(&document)?;
    } else {
        let what = super::output::counted(count as u64, "plugins");
        printer.say(&format!("{what} written to {}", project.lock().path().display()));
    }
    offers.iter().for_each(|offer| offer.say_pending(printer));
    Ok(ExitCode::SUCCESS)
}

/// Returns the release in the lock file that runs, if this one would take its place and would not run, with the reason.
fn worse<'a>(project: &'a Project, offer: &'a Offer) -> Option<(&'a Locked, &'a Offer, &'a Error)> {
    let missing = offer.pending.as_ref()?;
    let locked = project.lock().get(&offer.found.name)?;
    let is_other = locked.digest != offer.found.release.digest;
    (is_other && project.admit(locked).is_ok()).then_some((locked, offer, missing))
}

/// Quotes a reference for a shell if it has a range, whose characters are special.
pub(super) fn quoted(reference: &Reference) -> String {
    let text = reference.to_string();
    match text.bytes().any(|byte| b"^~<>*=, ".contains(&byte)) {
        true => format!("'{text}'"),
        false => text,
    }
}
