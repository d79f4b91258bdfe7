//! What an author says of a plugin: name, licence, suggested limits, sub-agents.
//!
//! A build takes it from the crate's `Cargo.toml` (`[package]` and `[package.metadata.agenthost]`) and embeds it as
//! JSON. It is the author's word, not a right: limits are granted by the operator, whatever stands here.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use agenthost_core::limits::LimitsPatch;

/// The embedded manifest. Fields that this version does not know are ignored, so that newer plugins can be inspected.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Manifest {
    /// The version of this form: 1.
    pub format: u32,
    /// The crate's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The release version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// One sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// An SPDX expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Where the source is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Limits that the author suggests, in the manifest's own syntax.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub limits: serde_json::Map<String, serde_json::Value>,
    /// The model names that it may ask for; where the author names them, it may use no others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<BTreeSet<String>>,
    /// Sub-agents and where the author has them from.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sub_agents: BTreeMap<String, serde_json::Value>,
}

impl Manifest {
    /// The newest form that this version reads.
    pub const FORMAT: u32 = 1;

    /// The limits that it suggests, which bind nobody.
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
    /// What is wrong with the first that is none.
    pub fn suggested(&self) -> Result<LimitsPatch, String> {
        let mut limits = LimitsPatch::default();
        for (key, value) in &self.limits {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            limits
                .set(key, &text)
                .map_err(|why| match LimitsPatch::KEYS.contains(&key.as_str()) {
                    true => format!("`{key}`: {why}"),
                    false => why,
                })?;
        }
        Ok(limits)
    }

    /// Reads the embedded JSON.
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
