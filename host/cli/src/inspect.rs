//! `agenthost inspect`: a reviewer's view of a plugin. Nothing is run.
//!
//! The page begins with the facts that decide whether to trust it: its identity, its powers, what it asks for. Imports
//! that every plugin built with Rust's standard library has, and that reach nothing, are one line unless requested.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::compiled;
use super::global::Global;
use super::output::{Printer, counted};
use super::registry::{limits, models, server_tools};
use super::terminal::{Styled, indented};
use agenthost::PluginSource;
use agenthost::config::Env;
use agenthost::error::{Error, Result};
use agenthost::limits::Percent;
use agenthost::limits::units::show_bytes;
use agenthost::llm::{ServerToolGrant, ServerToolKind};
use agenthost::plugin::{Import, PluginInfo, Provenance};
use agenthost::printable::{json as json_text, one_line};
use agenthost::registry::asks::Asks;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The plugin: a .wasm file, a crate directory to build, or a name in agenthost.lock
    plugin: String,
    /// List every import with its meaning; -v adds the JSON Schemas
    #[arg(long)]
    imports: bool,
    /// Compile the plugin, too, within the limits of [compile], and report the time and memory used
    #[arg(long)]
    check: bool,
    /// Print one JSON document with everything known, including the JSON Schemas of input and output
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn inspect(args: &Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let mut unstated_source = "not stated";
    let (bytes, file) = match PluginSource::parse(&args.plugin, env.cwd())? {
        PluginSource::Path(path) if path.is_dir() => {
            super::crates::ask(&path, None, env, printer)?;
            let built = super::crates::rules_alone(env).build(&path)?;
            built
                .notes
                .iter()
                .chain(&built.blame)
                .for_each(|note| printer.note(note));
            (agenthost::plugin::read(&built.path)?, Some(built.path))
        }
        PluginSource::Path(path) => (agenthost::plugin::read(&path)?, Some(path)),
        PluginSource::Reference(reference) => {
            let project = super::registry::open(global, env)?;
            match (project.locked(&reference), super::built_in::find(&reference)) {
                (Err(_), Some(component)) => {
                    unstated_source = "part of this program";
                    (component.to_vec(), None)
                }
                (locked, _) => (project.cache().read(&locked?.digest)?, None),
            }
        }
    };
    let plugin = PluginInfo::read(&bytes).map_err(|error| match &file {
        Some(file) => Error::from(error).at(file),
        None => Error::from(error).context(&args.plugin),
    })?;
    let compiled = match args.check {
        true => Some(compiled::check(&plugin, &bytes, &global.config(env)?, env)?),
        false => None,
    };
    if args.json {
        let mut document = document(&plugin)?;
        if let (Some(fields), Some(compiled)) = (document.as_object_mut(), &compiled) {
            fields.insert("compile".to_owned(), compiled::document(compiled));
        }
        printer.data(&document)?;
    } else {
        let all = global.verbose > 0;
        let mut page = page(&plugin, unstated_source, args.imports || all, all)?;
        if let Some(compiled) = &compiled {
            page.push("\n\n")
                .bold("compiles")
                .push(format!("   {}", compiled::words(compiled)));
        }
        printer.text(page)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn document(plugin: &PluginInfo) -> Result<Value> {
    let import = |import: &Import| json!({"name": import.name(), "kind": import.kind(), "meaning": import.meaning()});
    let tool = |(kind, asked): (&ServerToolKind, &ServerToolGrant)| {
        json!({
            "kind": kind,
            "max_uses": asked.uses(),
            "allowed_domains": asked.allowed_domains,
            "blocked_domains": asked.blocked_domains,
        })
    };
    let sub_agents = plugin.sub_agents.iter().map(|sub_agent| {
        json!({
            "id": sub_agent.plugin.to_string(),
            "import": sub_agent.import,
            "from": plugin.manifest.as_ref().and_then(|manifest| manifest.sub_agents.get(&sub_agent.plugin.name)),
        })
    });
    let kept = plugin.keep_back();
    Ok(json!({
        "format": 1,
        "id": plugin.id.to_string(),
        "name": plugin.id.name,
        "version": plugin.id.version,
        "release": plugin.release(),
        "digest": plugin.digest.to_string(),
        "size_bytes": plugin.size,
        "powers": plugin.powers(),
        "server_tools": plugin.server_tools().unwrap_or_default().0.iter().map(tool).collect::<Vec<_>>(),
        "sub_agents": sub_agents.collect::<Vec<_>>(),
        "keep_back": {"share": kept.share.to_string(), "for": kept.sub_agents},
        "imports": plugin.imports.iter().map(import).collect::<Vec<_>>(),
        "signature": plugin.signature(),
        "documented": plugin.interface.documented,
        "input_schema": plugin.input_schema()?,
        "output_schema": plugin.output_schema()?,
        "error_schema": plugin.error_schema()?,
        "manifest": plugin.manifest,
        "provenance": plugin.provenance,
        "sdk": plugin.sdk(),
        "made_with": plugin.made_with,
        "doubts": plugin.doubts,
    }))
}

fn page(plugin: &PluginInfo, unstated_source: &str, imports: bool, schemas: bool) -> Result<Styled> {
    let mut page = summary(plugin, unstated_source);
    if imports {
        page.push("\n\n").bold("imports");
        for import in &plugin.imports {
            page.push(format!("\n  {:<38} {}", one_line(import.name()), import.meaning()));
        }
    }
    page.push("\n\n").bold(format!("interface {}", plugin.task));
    for line in plugin.signature().lines() {
        page.push(format!("\n  {line}").trim_end_matches(' '));
    }
    if !plugin.interface.documented {
        page.push("\n\n  (no docs are embedded; those of a Rust plugin are when it uses the SDK's macro)");
    }
    if schemas {
        let sides = [
            ("input", plugin.input_schema()?),
            ("output", plugin.output_schema()?),
            ("error", plugin.error_schema()?),
        ];
        for (name, schema) in sides {
            let text = serde_json::to_string_pretty(&schema).unwrap_or_default();
            page.push("\n\n")
                .bold(format!("{name} schema"))
                .push(format!("\n{}", json_text(&text)));
        }
    }
    Ok(page)
}

/// The explanation of how to check the digest and the claims above it.
const CHECK: &str = "SHA-256 of the file; what stands at `built with` and `revision` is its builder's word until `agenthost build \
                     --check FILE`, in that revision and with these tools, gives the same";

/// Returns the rows at the top; `unstated_source` is shown if the manifest names no source. Except for the digest, the size and the powers, their content is the author's text.
fn summary(plugin: &PluginInfo, unstated_source: &str) -> Styled {
    let mut page = Styled::default();
    let mut first = true;
    let mut row = |name: &str, value: &str| {
        if !std::mem::take(&mut first) {
            page.push("\n");
        }
        page.bold(format!("{name:<10}"))
            .push(format!(" {}", indented(value, 11)));
    };
    let manifest = plugin.manifest.clone().unwrap_or_default();
    let release = match plugin.release() {
        Some(release) if Some(release) != plugin.id.version.as_deref() => format!(", release {release}"),
        _ => String::new(),
    };
    row("plugin", &format!("{}{release}", plugin.id));
    if let Some(about) = &manifest.description {
        row("about", about);
    }
    row("may do", &plugin.powers());
    let asks = Asks::of(plugin);
    if plugin.imports.iter().any(Import::is_llm) {
        row("models", &models(&asks));
    }
    if !asks.limits.is_empty() {
        row("asks for", &limits(&asks));
    }
    if let Some(tools) = server_tools(&asks) {
        row("tools", &tools);
    }
    for sub_agent in &plugin.sub_agents {
        let from = match manifest.sub_agents.get(&sub_agent.plugin.name) {
            Some(declared) => match declared.get("path").unwrap_or(declared) {
                Value::String(text) => format!(", from {text}"),
                other => format!(", from {other}"),
            },
            None => String::new(),
        };
        row("sub-agent", &format!("{}{from}", sub_agent.plugin));
    }
    let kept = plugin.keep_back();
    if kept.share > Percent::ZERO && !plugin.sub_agents.is_empty() {
        let own = plugin.imports.iter().any(Import::is_llm).then_some("its own calls");
        let users = own.into_iter().chain(kept.sub_agents.iter().map(String::as_str));
        let users = users.collect::<Vec<_>>().join(", ");
        row("keeps back", &format!("{} of its limits, for {users}", kept.share));
    }
    row("imports", &folded(&plugin.imports));
    row("licence", manifest.license.as_deref().unwrap_or("not stated"));
    row("source", manifest.repository.as_deref().unwrap_or(unstated_source));
    let made_with = plugin.made_with.iter().map(|(name, version)| {
        let version = version.split(' ').next().unwrap_or_default();
        format!("{name} {version}")
    });
    match made_with.collect::<Vec<_>>() {
        none if none.is_empty() => {}
        some => row("made with", &some.join(", ")),
    }
    let provenance = plugin.provenance.as_ref();
    if let Some(provenance) = provenance {
        row("built with", &provenance.tools());
    }
    let revision = provenance.map_or_else(|| "not recorded".to_owned(), Provenance::revision);
    row("revision", &revision);
    row("size", &show_bytes(plugin.size));
    row("digest", &plugin.digest.to_string());
    row(
        "",
        match provenance {
            Some(_) => CHECK,
            None => {
                "SHA-256 of the file; compare it with `sha256sum` of a build of the same source with the same tools"
            }
        },
    );
    for doubt in &plugin.doubts {
        row("doubt", doubt);
    }
    page
}

/// Returns a phrase such as `the contract; 14 inert WASI interfaces (--imports names all)`.
fn folded(imports: &[Import]) -> String {
    let count = |kind: &str| imports.iter().filter(|import| import.kind() == kind).count() as u64;
    let mut parts = Vec::new();
    if count("contract") > 0 {
        parts.push("the contract".to_owned());
    }
    for (kind, what) in [
        ("sub-agent", "sub-agents"),
        ("types", "type imports"),
        ("files", "file interfaces"),
        ("inert", "inert WASI interfaces"),
    ] {
        if count(kind) > 0 {
            parts.push(counted(count(kind), what));
        }
    }
    let mut refused = imports.iter().filter(|import| matches!(import, Import::Refused(_)));
    if let Some(first) = refused.next() {
        let count = 1 + refused.count();
        parts.push(format!("{count} not offered, such as {}", first.name()));
    }
    match parts.is_empty() {
        true => "nothing".into(),
        false => format!("{} (--imports names all)", parts.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_the_tools_with_their_uses() {
        let component = agenthost_std::PLUGINS[0].1;
        let tools = |asked: Value| {
            let mut plugin = PluginInfo::read(component).unwrap();
            plugin.manifest.get_or_insert_default().server_tools = asked;
            document(&plugin).unwrap()["server_tools"].clone()
        };
        assert_eq!(
            tools(json!({"web-search": {"blocked-domains": ["a.com"]}, "web-fetch": {"max-uses": 2}})),
            json!([
                {"kind": "web-search", "max_uses": 5, "allowed_domains": [], "blocked_domains": ["a.com"]},
                {"kind": "web-fetch", "max_uses": 2, "allowed_domains": [], "blocked_domains": []},
            ])
        );
        assert_eq!(tools(Value::Null), json!([]));
        assert_eq!(tools(json!(["web-serch"])), json!([]), "see `doubts`");
    }
}
