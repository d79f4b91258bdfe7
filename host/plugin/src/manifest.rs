//! The author's description of a plugin: name, license, suggested limits, sub-agents, tools of providers.
//!
//! A build takes it from the crate's `Cargo.toml` (`[package]` and `[package.metadata.agenthost]`) and embeds it as
//! JSON. It grants no rights: only the operator grants limits and tools, whatever the manifest contains. The number of sub-tasks is
//! the exception: if the operator sets none, the manifest can raise the default, within a bound.

mod server_tools;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use agenthost_core::limits::{KeepBack, LimitsPatch};
use agenthost_core::llm::ServerToolGrants;
use agenthost_core::nearest::nearest;

/// The embedded manifest. Unknown fields are ignored, so that newer plugins can be inspected.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Manifest {
    /// The version of this format: 1.
    pub format: u32,
    /// The crate's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The release version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// A description in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The license as an SPDX expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// The location of the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Limits that the author suggests, in the manifest's own syntax.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub limits: serde_json::Map<String, serde_json::Value>,
    /// The part of its limits that the plugin keeps back from its sub-tasks, in the manifest's own syntax.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub keep_back: serde_json::Map<String, serde_json::Value>,
    /// The model names that the plugin may ask for. If the author lists them, the plugin may use no others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<BTreeSet<String>>,
    /// The tools of providers that the plugin asks for, in the manifest's own syntax; null for none. The plugin may use
    /// no others, whatever is granted.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub server_tools: serde_json::Value,
    /// The sub-agents and their sources.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sub_agents: BTreeMap<String, serde_json::Value>,
}

impl Manifest {
    /// The newest format that this version reads.
    pub const FORMAT: u32 = 1;

    /// Parses the suggested limits. They are not binding; that on sub-tasks can raise the default, if the operator sets
    /// none.
    ///
    /// ```
    /// use agenthost_core::limits::Cap;
    /// use agenthost_plugin::Manifest;
    ///
    /// let mut manifest: Manifest = serde_json::from_str(r#"{"format": 1, "limits": {"tokens": "40k"}}"#)?;
    /// assert_eq!(manifest.suggested()?.tokens, Some(Cap::At(40_000)));
    /// manifest.limits.insert("token".into(), 5.into());
    /// assert!(manifest.suggested().is_err_and(|why| why.starts_with("unknown limit `token`")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the reason if a limit is invalid, for the first such limit.
    pub fn suggested(&self) -> Result<LimitsPatch, String> {
        limits(&self.limits)
    }

    /// Parses the tools of providers that the plugin asks for. This is a wish: the operator grants them.
    ///
    /// ```
    /// use agenthost_plugin::Manifest;
    ///
    /// let mut manifest: Manifest = serde_json::from_str(r#"{"format": 1, "server-tools": {"web-search": {"max-uses": 3}}}"#)?;
    /// assert_eq!(manifest.server_tools()?.to_string(), "web-search (3 uses a call)");
    /// manifest.server_tools = serde_json::json!(["shell"]);
    /// assert!(manifest.server_tools().is_err_and(|why| why.starts_with("`shell` is not a tool of a provider")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the reason for the first tool that is not known or not valid.
    pub fn server_tools(&self) -> Result<ServerToolGrants, String> {
        server_tools::read(&self.server_tools)
    }

    /// Parses what the manifest declares about a sub-agent; `None` if it does not declare the sub-agent.
    ///
    /// ```
    /// use agenthost_plugin::Manifest;
    /// use agenthost_plugin::manifest::SubAgentPlace;
    ///
    /// let manifest = r#"{"format": 1, "sub-agents": {"demo:compare": {"path": "../compare"}, "demo:far": {"paht": "."}}}"#;
    /// let manifest: Manifest = serde_json::from_str(manifest)?;
    /// let declared = manifest.sub_agent("demo:compare")?.ok_or("it declares one")?;
    /// assert_eq!(declared.place, Some(SubAgentPlace::Path("../compare".into())));
    /// assert_eq!(manifest.sub_agent("demo:other")?, None);
    /// assert!(manifest.sub_agent("demo:far").is_err_and(|why| why.starts_with("unknown key `paht`")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the reason if the declaration is invalid.
    pub fn sub_agent(&self, name: &str) -> Result<Option<DeclaredSubAgent>, String> {
        self.sub_agents.get(name).map(DeclaredSubAgent::read).transpose()
    }

    /// Parses the part that the plugin keeps back from its sub-tasks; `None` if the author does not declare one.
    ///
    /// ```
    /// use agenthost_plugin::Manifest;
    ///
    /// let manifest = r#"{"format": 1, "keep-back": {"share": "30%", "for": ["demo:compare"]},
    ///     "sub-agents": {"demo:compare": {"path": "../compare"}}}"#;
    /// let manifest: Manifest = serde_json::from_str(manifest)?;
    /// let keep_back = manifest.keep_back()?.ok_or("it declares one")?;
    /// assert_eq!((keep_back.share.to_string().as_str(), keep_back.sub_agents.len()), ("30%", 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the reason if a key or a value is invalid, or if a name is not one of the sub-agents.
    pub fn keep_back(&self) -> Result<Option<KeepBack>, String> {
        if self.keep_back.is_empty() {
            return Ok(None);
        }
        let mut keep_back = KeepBack::of_share(KeepBack::DEFAULT_SHARE);
        for (key, value) in &self.keep_back {
            match key.as_str() {
                "share" => {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    keep_back.share = text.parse().map_err(|why| format!("`share`: {why}"))?;
                }
                "for" => {
                    let names: BTreeSet<String> = serde_json::from_value(value.clone())
                        .map_err(|_| "`for` is not a list of sub-agents; write for = [\"demo:compare\"]".to_owned())?;
                    if let Some(name) = names.iter().find(|name| !self.sub_agents.contains_key(*name)) {
                        return Err(format!(
                            "`for`: the plugin declares no sub-agent `{name}`; {}",
                            self.declared()
                        ));
                    }
                    keep_back.sub_agents = names;
                }
                unknown => return Err(format!("unknown key `{unknown}`; it has `share` and `for`")),
            }
        }
        Ok(Some(keep_back))
    }

    /// Describes the parts that are invalid, and are therefore ignored.
    pub(super) fn faults(&self) -> Vec<String> {
        let faults = [
            ("limits", self.suggested().err()),
            ("server-tools", self.server_tools().err()),
            ("keep-back", self.keep_back().err()),
        ];
        let fault =
            |(key, why): (&str, Option<String>)| Some(format!("`{key}` in the embedded manifest is invalid: {}", why?));
        faults.into_iter().filter_map(fault).collect()
    }

    /// Lists the declared sub-agents for a message.
    fn declared(&self) -> String {
        let names: Vec<_> = self.sub_agents.keys().map(|name| format!("`{name}`")).collect();
        match names.is_empty() {
            true => "it declares none".to_owned(),
            false => format!("it declares {}", names.join(", ")),
        }
    }

    /// Parses the embedded JSON.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match manifest.format {
            Self::FORMAT => Ok(manifest),
            newer => Err(format!(
                "it has format {newer}, and this version reads {}",
                Self::FORMAT
            )),
        }
    }
}

/// A sub-agent as a manifest declares it: a path or a reference as text, or a table.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct DeclaredSubAgent {
    /// The place of the plugin; `None` if only limits are declared.
    pub place: Option<SubAgentPlace>,
    /// The limits of each of its tasks.
    pub limits: LimitsPatch,
}

/// The place of a sub-agent in a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubAgentPlace {
    /// A crate's directory or a `.wasm` file, relative to the crate's directory.
    Path(PathBuf),
    /// A reference to a registry, not yet parsed.
    Reference(String),
}

impl SubAgentPlace {
    /// Returns the kind of place that a text can only be meant as: a reference does not begin like a path and does not
    /// end in `.wasm`.
    ///
    /// ```
    /// use agenthost_plugin::manifest::SubAgentPlace;
    ///
    /// assert_eq!(SubAgentPlace::of("../compare"), SubAgentPlace::Path("../compare".into()));
    /// assert_eq!(SubAgentPlace::of("acme:compare@^1"), SubAgentPlace::Reference("acme:compare@^1".to_owned()));
    /// ```
    pub fn of(text: &str) -> Self {
        let file = text.starts_with(['.', '/', '~']) || text.ends_with(".wasm");
        match !file && text.contains([':', '@']) {
            true => Self::Reference(text.to_owned()),
            false => Self::Path(text.into()),
        }
    }
}

impl DeclaredSubAgent {
    const KEYS: &[&str] = &["path", "limits"];

    fn read(value: &serde_json::Value) -> Result<Self, String> {
        use serde_json::Value;
        let mut declared = Self::default();
        let fields = match value {
            Value::String(text) => {
                declared.place = Some(SubAgentPlace::of(text));
                return Ok(declared);
            }
            Value::Object(fields) => fields,
            _ => return Err("neither a path nor a table".to_owned()),
        };
        for (key, value) in fields {
            match (key.as_str(), value) {
                ("path", Value::String(path)) => declared.place = Some(SubAgentPlace::Path(path.into())),
                ("path", _) => return Err("`path` is not a text".to_owned()),
                ("limits", Value::Object(table)) => {
                    declared.limits = limits(table).map_err(|why| format!("`limits`: {why}"))?;
                }
                ("limits", _) => return Err("`limits` is not a table of limits".to_owned()),
                _ => {
                    let near = nearest(key, Self::KEYS.iter().copied());
                    let near = near.map_or_else(String::new, |near| format!("; the nearest is `{near}`"));
                    return Err(format!("unknown key `{key}`; it has `path` and `limits`{near}"));
                }
            }
        }
        Ok(declared)
    }
}

/// Parses a table of limits in the manifest's syntax.
fn limits(table: &serde_json::Map<String, serde_json::Value>) -> Result<LimitsPatch, String> {
    let mut limits = LimitsPatch::default();
    for (key, value) in table {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        limits
            .set(key, &text)
            .map_err(|why| match LimitsPatch::KEYS.contains(&key.as_str()) {
                true => format!("`{key}`: {why}"),
                false => why.to_string(),
            })?;
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost_core::limits::Cap;
    use serde_json::json;

    #[test]
    fn a_declaration_is_a_path_a_reference_or_a_table_with_limits() {
        let read = |value| DeclaredSubAgent::read(&value);
        let path = Some(SubAgentPlace::Path("../sub".into()));
        let plain = read(json!("../sub")).unwrap();
        assert_eq!((&plain.place, plain.limits), (&path, LimitsPatch::default()));
        for reference in ["demo:sub@1.0.0", "demo:sub"] {
            let place = read(json!(reference)).unwrap().place;
            assert_eq!(place, Some(SubAgentPlace::Reference(reference.to_owned())));
        }
        let table = read(json!({"path": "../sub", "limits": {"tokens": "20k", "calls": 3}})).unwrap();
        assert_eq!(table.place, path);
        assert_eq!(
            (table.limits.tokens, table.limits.calls, table.limits.fuel),
            (Some(Cap::At(20_000)), Some(Cap::At(3)), None)
        );
        assert_eq!(read(json!({"limits": {}})).unwrap().place, None);
        for (wrong, problem) in [
            (json!(7), "neither a path nor a table"),
            (
                json!({"paht": "x"}),
                "unknown key `paht`; it has `path` and `limits`; the nearest is `path`",
            ),
            (
                json!({"path": "x", "limit": {}}),
                "unknown key `limit`; it has `path` and `limits`; the nearest is `limits`",
            ),
            (json!({"path": 1}), "`path` is not a text"),
            (json!({"limits": 1}), "`limits` is not a table of limits"),
            (json!({"limits": {"token": 1}}), "`limits`: unknown limit `token`"),
            (json!({"limits": {"tokens": "lots"}}), "`limits`: `tokens`: "),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.starts_with(problem), "{error}");
        }
    }

    #[test]
    fn the_invalid_parts_are_named() {
        let text =
            r#"{"format": 1, "limits": {"token": 1}, "server-tools": ["web-serch"], "keep-back": {"share": "x"}}"#;
        let faults = Manifest::parse(text.as_bytes()).unwrap().faults();
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert_eq!(
            faults[1],
            "`server-tools` in the embedded manifest is invalid: `web-serch` is not a tool of a provider; the nearest is \
             `web-search`"
        );
        let valid = r#"{"format": 1, "limits": {"tokens": 1}, "server-tools": ["web-search"]}"#;
        assert_eq!(
            Manifest::parse(valid.as_bytes()).unwrap().faults(),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_is_kept_back_is_for_declared_sub_agents() {
        let declared = |sub_agents| Manifest {
            keep_back: [("for".to_owned(), json!(["demo:compaer"]))].into_iter().collect(),
            sub_agents,
            ..Manifest::default()
        };
        let entry = |name: &str| (name.to_owned(), json!("../x"));
        let some = declared([entry("demo:compare"), entry("demo:draft")].into());
        assert_eq!(
            some.keep_back().unwrap_err(),
            "`for`: the plugin declares no sub-agent `demo:compaer`; it declares `demo:compare`, `demo:draft`"
        );
        let none = declared(BTreeMap::new()).keep_back().unwrap_err();
        assert!(none.ends_with("; it declares none"), "{none}");
    }
}
