//! `agenthost inspect`: what a reviewer wants to know of a plugin. Nothing is run.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::output::Printer;
use crate::config::Env;
use crate::error::Result;
use crate::plugin::{Import, Plugin, build};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A .wasm file, or the directory of a plugin's crate, which is built first
    plugin: PathBuf,
    /// Print one JSON document, with the JSON Schemas of input and output
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn inspect(args: &Args, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let path = env.cwd().join(&args.plugin);
    let path = match path.is_dir() {
        true => build::build(&path)?.path,
        false => path,
    };
    let plugin = Plugin::open(&path)?;
    if args.json {
        printer.data(&document(&plugin)?)?;
    } else {
        printer.text(&page(&plugin)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn document(plugin: &Plugin) -> Result<Value> {
    let import = |import: &Import| json!({"name": import.name(), "kind": import.kind(), "meaning": import.meaning()});
    Ok(json!({
        "format": 1,
        "id": plugin.id.to_string(),
        "name": plugin.id.name,
        "version": plugin.id.version,
        "release": plugin.release(),
        "digest": plugin.digest.to_string(),
        "size_bytes": plugin.size,
        "powers": plugin.powers(),
        "imports": plugin.imports.iter().map(import).collect::<Vec<_>>(),
        "signature": plugin.signature(),
        "documented": plugin.interface.documented,
        "input_schema": plugin.input_schema()?,
        "output_schema": plugin.output_schema()?,
        "error_schema": plugin.error_schema()?,
        "manifest": plugin.manifest,
        "doubts": plugin.doubts,
    }))
}

fn page(plugin: &Plugin) -> Result<String> {
    let mut page = String::new();
    let mut row = |name: &str, value: &str| page.push_str(&format!("\x1b[1m{name:<12}\x1b[0m {value}\n"));
    row("plugin", &plugin.id.to_string());
    if let Some(manifest) = &plugin.manifest {
        let optional = [
            ("release", &manifest.version),
            ("about", &manifest.description),
            ("licence", &manifest.license),
            ("source", &manifest.repository),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                row(name, value);
            }
        }
    }
    row("digest", &plugin.digest.to_string());
    row("size", &format!("{} KiB", plugin.size.div_ceil(1024)));
    row("may do", &plugin.powers());
    if let Some(manifest) = plugin.manifest.as_ref().filter(|manifest| !manifest.limits.is_empty()) {
        let limits: Vec<_> = manifest
            .limits
            .iter()
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        row("asks for", &limits.join(", "));
    }
    for doubt in &plugin.doubts {
        row("doubt", doubt);
    }
    page.push_str("\n\x1b[1mimports\x1b[0m\n");
    for import in &plugin.imports {
        page.push_str(&format!("  {:<38} {}\n", import.name(), import.meaning()));
    }
    page.push_str(&format!("\n\x1b[1minterface {}\x1b[0m\n", plugin.task));
    for line in plugin.signature().lines() {
        page.push_str(&format!("  {line}\n"));
    }
    if !plugin.interface.documented {
        page.push_str("  (no docs are embedded: build with `agenthost build` or the SDK's macro)\n");
    }
    let schema = |name: &str, schema: Value| -> String {
        let text = serde_json::to_string_pretty(&schema).unwrap_or_default();
        format!("\n\x1b[1m{name}\x1b[0m\n{text}\n")
    };
    page.push_str(&schema("input schema", plugin.input_schema()?));
    page.push_str(&schema("output schema", plugin.output_schema()?));
    Ok(page.trim_end().to_owned())
}
