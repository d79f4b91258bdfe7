//! What a component keeps about itself: its WIT with the comments, and its manifest, each as JSON in a custom section.
//!
//! The linker joins sections of one name, so the package's name is part of it: `agenthost:wit:demo:competitor` and
//! `agenthost:manifest:demo:competitor`. Both documents carry `"format": 1`. Left out: checking limits and sub-agents,
//! which the host does when it reads them.

use std::env;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};
use serde_json::{Value, json};

use crate::source::{File, Source};

/// The two sections, as statics that exist only in a component.
pub(crate) fn sections(source: &Source, manifest: &Path) -> Result<TokenStream> {
    let package = format!("{}:{}", source.package.namespace, source.package.name);
    let wit = json!({
        "format": 1,
        "package": source.package.to_string(),
        "world": source.resolve.worlds[source.world].name,
        "files": texts(&source.own),
        "deps": texts(&source.deps),
    });
    let manifest = self::manifest(manifest)?;
    let mut tokens = TokenStream::new();
    for (kind, document) in [("wit", wit), ("manifest", manifest)] {
        let section = format!("agenthost:{kind}:{package}");
        let ident = format_ident!("__AGENTHOST_{}", kind.to_uppercase());
        let bytes = document.to_string().into_bytes();
        let (length, bytes) = (bytes.len(), Literal::byte_string(&bytes));
        tokens.extend(quote! {
            #[cfg(target_family = "wasm")]
            #[used]
            #[unsafe(link_section = #section)]
            static #ident: [u8; #length] = *#bytes;
        });
    }
    Ok(tokens)
}

fn texts(files: &[File]) -> Vec<[&str; 2]> {
    files
        .iter()
        .map(|file| [file.name.as_str(), file.text.as_str()])
        .collect()
}

/// The manifest of the crate that is being compiled: cargo gives the package's fields, its file the rest.
fn manifest(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let field = |name: &str| {
        env::var(format!("CARGO_PKG_{name}"))
            .ok()
            .filter(|value| !value.is_empty())
    };
    let (limits, sub_agents) = metadata(&text).with_context(|| format!("in {}", path.display()))?;
    Ok(json!({
        "format": 1,
        "name": field("NAME"),
        "version": field("VERSION"),
        "description": field("DESCRIPTION"),
        "license": field("LICENSE"),
        "repository": field("REPOSITORY"),
        "limits": limits,
        "sub-agents": sub_agents,
    }))
}

/// The tables `limits` and `sub-agents` of `[package.metadata.agenthost]`.
fn metadata(text: &str) -> Result<(Value, Value)> {
    let cargo: toml::Table = toml::from_str(text)?;
    let table = ["package", "metadata", "agenthost"]
        .iter()
        .try_fold(&cargo, |table, key| table.get(*key).and_then(toml::Value::as_table));
    let (mut limits, mut sub_agents) = (json!({}), json!({}));
    for (key, value) in table.into_iter().flatten() {
        ensure!(
            value.is_table(),
            "`{key}` in [package.metadata.agenthost] is not a table"
        );
        match key.as_str() {
            "limits" => limits = serde_json::to_value(value)?,
            "sub-agents" => sub_agents = serde_json::to_value(value)?,
            _ => bail!("unknown table `{key}` in [package.metadata.agenthost]\nhint: it has `limits` and `sub-agents`"),
        }
    }
    Ok((limits, sub_agents))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_takes_the_two_tables_and_refuses_others() {
        let text = "[package]\nname = \"x\"\n[package.metadata.agenthost.limits]\ntokens = 5\nmemory = \"64MiB\"\n";
        let (limits, sub_agents) = metadata(text).unwrap();
        assert_eq!(limits, json!({"tokens": 5, "memory": "64MiB"}));
        assert_eq!(sub_agents, json!({}));

        let error = metadata("[package.metadata.agenthost.limit]\n")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("unknown table `limit`"), "{error}");
        let error = metadata("[package.metadata.agenthost]\nlimits = 3\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("is not a table"), "{error}");
        assert_eq!(metadata("[package]\n").unwrap(), (json!({}), json!({})));
    }
}
