//! The author's description of a plugin: name, license, suggested limits, sub-agents.
//!
//! A build takes it from the crate's `Cargo.toml` (`[package]` and `[package.metadata.agenthost]`) and embeds it as
//! JSON. It grants no rights: only the operator grants limits, whatever the manifest contains. The number of sub-tasks is
//! the exception: if the operator sets none, the manifest can raise the default, within a bound.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use agenthost_core::limits::{KeepBack, LimitsPatch};

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
        let mut limits = LimitsPatch::default();
        for (key, value) in &self.limits {
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
                        return Err(format!("`for`: the plugin declares no sub-agent `{name}`"));
                    }
                    keep_back.sub_agents = names;
                }
                unknown => return Err(format!("unknown key `{unknown}`; it has `share` and `for`")),
            }
        }
        Ok(Some(keep_back))
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
