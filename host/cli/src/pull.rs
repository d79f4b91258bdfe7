//! `agenthost pull`: fetches plugins into the cache, or one of them into a file.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::global::Global;
use super::output::{Printer, counted};
use super::registry::{note, open};
use agenthost::config::Env;
use agenthost::error::{Error, Result};
use agenthost::registry::Name;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The plugin to fetch [default: all plugins of agenthost.lock that the cache lacks]
    #[arg(value_name = "REF")]
    reference: Option<String>,
    /// Write the component to this file, and its first signature to FILE.minisig
    #[arg(long, short, value_name = "FILE", requires = "reference")]
    output: Option<PathBuf>,
    /// Print one JSON document with the fetched plugins
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn pull(args: &Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let project = open(global, env)?;
    let Some(reference) = &args.reference else {
        let names: Vec<Name> = project.lock().plugins().map(|locked| locked.name.clone()).collect();
        let mut fetched = Vec::new();
        for name in &names {
            project
                .ready(name, |locked| {
                    fetched.push(json!({"name": locked.name, "version": locked.version, "digest": locked.digest}));
                    note(locked, printer);
                })
                .await?;
            if let Some(locked) = project.lock().get(name) {
                project.checked(locked)?;
            }
        }
        match args.json {
            true => printer.data(&json!({"format": 1, "fetched": fetched}))?,
            false if names.is_empty() => printer.say(&format!("{} names no plugins", project.lock().path().display())),
            false => printer.say(&match fetched.len() {
                0 => "everything is there".to_owned(),
                n => format!("fetched {}", counted(n as u64, "plugins")),
            }),
        }
        return Ok(ExitCode::SUCCESS);
    };
    let found = project.find(&reference.parse()?).await?;
    let path = match &args.output {
        Some(file) => {
            let file = env.cwd().join(file);
            let failed = |error: std::io::Error| {
                Error::usage(format!("cannot write {}: {error}", file.display()))
                    .with_hint("Give a file in a directory that you may write.")
            };
            std::fs::write(&file, &found.bytes).map_err(failed)?;
            if let Some(signature) = found.signatures.first() {
                let mut beside = file.clone().into_os_string();
                beside.push(".minisig");
                std::fs::write(beside, signature).map_err(failed)?;
            }
            file
        }
        None => project.cache().path(&found.release.digest),
    };
    match args.json {
        true => printer.data(&json!({
            "format": 1,
            "fetched": [{"name": found.name, "version": found.version, "digest": found.release.digest, "path": path,
                "signatures": found.signatures.len()}],
        }))?,
        false => {
            printer.path(&path)?;
            printer.note(&format!(
                "{} {}, {}; nothing of it is accepted or checked against a policy yet",
                found.name, found.version, found.release.digest
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}
