//! The custom sections of a component: its WIT with the comments, and its manifest, each as JSON.
//!
//! The linker joins sections of the same name, so that name contains the package's: `agenthost:wit:demo:competitor` and
//! `agenthost:manifest:demo:competitor`. Both documents have `"format": 1`. Left out: checking limits and sub-agents,
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

/// The manifest of the crate being compiled. The package's fields come from cargo's environment variables, the rest
/// from `Cargo.toml`.
fn manifest(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let field = |name: &str| {
        env::var(format!("CARGO_PKG_{name}"))
            .ok()
            .filter(|value| !value.is_empty())
    };
    let own = metadata(&text).with_context(|| path.display().to_string())?;
    let mut manifest = json!({
        "format": 1,
        "name": field("NAME"),
        "version": field("VERSION"),
        "description": field("DESCRIPTION"),
        "license": field("LICENSE"),
        "repository": field("REPOSITORY"),
        "limits": own.limits,
        "keep-back": own.keep_back,
        "models": own.models,
        "sub-agents": own.sub_agents,
    });
    if let (Some(server_tools), Some(manifest)) = (own.server_tools, manifest.as_object_mut()) {
        manifest.insert("server-tools".to_owned(), server_tools);
    }
    Ok(manifest)
}

/// The contents of `[package.metadata.agenthost]`.
struct Metadata {
    limits: Value,
    keep_back: Value,
    /// Null if the author does not list the models.
    models: Value,
    sub_agents: Value,
    /// `None` if the author asks for none.
    server_tools: Option<Value>,
}

fn metadata(text: &str) -> Result<Metadata> {
    let cargo: toml::Table = toml::from_str(text)?;
    let table = ["package", "metadata", "agenthost"]
        .iter()
        .try_fold(&cargo, |table, key| table.get(*key).and_then(toml::Value::as_table));
    let mut own = Metadata {
        limits: json!({}),
        keep_back: json!({}),
        models: Value::Null,
        sub_agents: json!({}),
        server_tools: None,
    };
    for (key, value) in table.into_iter().flatten() {
        match key.as_str() {
            "limits" | "keep-back" | "sub-agents" => ensure!(
                value.is_table(),
                "`{key}` in [package.metadata.agenthost] is not a table"
            ),
            "models" => ensure!(
                is_list_of_names(value),
                "`models` in [package.metadata.agenthost] is not a list of model names\nhint: models = [\"fast\"]"
            ),
            "server-tools" => ensure!(
                value.is_table() || is_list_of_names(value),
                "`server-tools` in [package.metadata.agenthost] is not a table or a list of names\nhint: \
                 server-tools = {{ web-search = {{ max-uses = 5 }} }}"
            ),
            _ => bail!(
                "unknown key `{key}` in [package.metadata.agenthost]\nhint: it has `keep-back`, `limits`, `models`, \
                 `server-tools` and `sub-agents`"
            ),
        }
        let value = serde_json::to_value(value)?;
        match key.as_str() {
            "limits" => own.limits = value,
            "keep-back" => own.keep_back = value,
            "models" => own.models = value,
            "server-tools" => own.server_tools = Some(value),
            _ => own.sub_agents = value,
        }
    }
    Ok(own)
}

fn is_list_of_names(value: &toml::Value) -> bool {
    let names = value.as_array();
    names.is_some_and(|names| names.iter().all(toml::Value::is_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_takes_what_it_knows_and_refuses_others() {
        let text = "[package]\nname = \"x\"\n[package.metadata.agenthost]\nmodels = [\"fast\"]\n[package.metadata.agenthost.limits]\ntokens = 5\nmemory = \"64MiB\"\n";
        let own = metadata(text).unwrap();
        assert_eq!(own.limits, json!({"tokens": 5, "memory": "64MiB"}));
        assert_eq!((own.models, own.sub_agents), (json!(["fast"]), json!({})));
        assert_eq!(metadata("").unwrap().models, Value::Null);

        let error = metadata("[package.metadata.agenthost.limit]\n")
            .err()
            .unwrap()
            .to_string();
        assert!(error.starts_with("unknown key `limit`"), "{error}");
        for wrong in ["models = \"fast\"", "models = [1]"] {
            let error = metadata(&format!("[package.metadata.agenthost]\n{wrong}\n"))
                .err()
                .unwrap();
            assert!(error.to_string().starts_with("`models` in"), "{error}");
        }
        let text = "[package.metadata.agenthost.server-tools]\nweb-search = { max-uses = 5 }\n";
        let own = metadata(text).unwrap();
        assert_eq!(own.server_tools, Some(json!({"web-search": {"max-uses": 5}})));
        let own = metadata("[package.metadata.agenthost]\nserver-tools = [\"web-fetch\"]\n").unwrap();
        assert_eq!(own.server_tools, Some(json!(["web-fetch"])));
        assert_eq!(metadata("").unwrap().server_tools, None);
        let error = metadata("[package.metadata.agenthost]\nserver-tools = true\n")
            .err()
            .unwrap()
            .to_string();
        assert!(error.starts_with("`server-tools` in"), "{error}");

        let error = metadata("[package.metadata.agenthost]\nlimits = 3\n")
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("is not a table"), "{error}");
        assert_eq!(metadata("[package]\n").unwrap().limits, json!({}));
    }
}
