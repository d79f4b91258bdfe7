//! The author's description of a plugin: name, license, suggested limits, sub-agents.
//!
//! A build takes it from the crate's `Cargo.toml` (`[package]` and `[package.metadata.agenthost]`) and embeds it as
//! JSON. It grants no rights: only the operator grants limits, whatever the manifest contains. The number of sub-tasks is
//! the exception: if the operator sets none, the manifest can raise the default, within a bound.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use agenthost_core::limits::LimitsPatch;

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
