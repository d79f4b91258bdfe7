//! A plugin that is ready to run, with the plugins that it can start.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::ceiling::Ceiling;
use super::plugin_source::PluginSource;
use super::tool_permission::ToolGrant;
use agenthost_config::{Config, DirGrant};
use agenthost_core::error::Result;
use agenthost_core::limits::Limits;
use agenthost_core::llm::{ServerToolGrant, ServerToolGrants, ServerToolKind};
use agenthost_plugin::{Digest, Plugin as PluginInfo, PluginId};
use agenthost_sandbox::Code;

/// A plugin that is ready to run, any number of times. Clones are cheap and refer to the same compiled code.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost::Host;
/// use serde_json::json;
///
/// # let component = double();
/// let plugin = Host::builder().build()?.load_bytes(&component)?;
/// assert_eq!(plugin.id().to_string(), "demo:double@0.1.0");
/// assert_eq!(plugin.info().signature().trim(), "run: func(input: u32) -> u32;");
/// assert_eq!(plugin.sample_input(), json!(0));
/// let error = plugin.check_input(&json!(-1)).err().ok_or("it fits")?;
/// assert!(error.message().starts_with("input: "), "{error}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Plugin {
    pub(super) loaded: Arc<LoadedPlugin>,
}

/// The parts of a loaded plugin.
pub(super) struct LoadedPlugin {
    pub(super) info: PluginInfo,
    pub(super) code: Code,
    /// The plugins that it can start, by import.
    pub(super) sub_agents: BTreeMap<String, SubAgent>,
    /// The directories that its tasks can open.
    pub(super) dirs: Vec<DirGrant>,
    /// The directory of its documents, if it has a memory and is granted one.
    pub(super) memory: Option<DirGrant>,
    /// The tools of providers that the operator grants to it.
    pub(super) tool_grant: ToolGrant,
    /// The upper bound of what its tasks get, whatever is granted.
    pub(super) ceiling: Ceiling,
    /// Human-readable notes about how the plugin was obtained, for example that a compile target was installed.
    pub(super) notes: Vec<String>,
}

/// A plugin that another plugin can start.
pub(super) struct SubAgent {
    pub(super) plugin: Plugin,
    /// The limits that the declaration sets for each of its tasks. A limit that it does not mention is not narrowed.
    pub(super) limits: Limits,
}

/// Options of [`Host::load_with`](super::Host::load_with), in addition to the configuration.
///
/// ```
/// use agenthost::LoadOptions;
///
/// let options = LoadOptions::new().sub_agent("demo:competitor", "plugins/competitor");
/// assert_eq!(options.with.len(), 1);
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct LoadOptions {
    /// The places of sub-agents, by `namespace:name`. They take precedence over the configuration and over manifests.
    pub with: BTreeMap<String, PluginSource>,
    /// Directories for the plugin itself, in addition to those of its grant. Its sub-agents do not get them.
    pub dirs: Vec<DirGrant>,
    /// Tools of providers for the plugin itself, in place of those of its grant. A tool without domains keeps the
    /// domains of the grant. The plugin's manifest must ask for the tools. Its sub-agents do not get them.
    pub server_tools: ServerToolGrants,
}

impl LoadOptions {
    /// Creates options that change nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Loads the sub-agent `name` (`namespace:name`) from `place`.
    #[must_use]
    pub fn sub_agent(mut self, name: impl Into<String>, place: impl Into<PluginSource>) -> Self {
        self.with.insert(name.into(), place.into());
        self
    }

    /// Gives the plugin a directory.
    #[must_use]
    pub fn dir(mut self, dir: DirGrant) -> Self {
        self.dirs.push(dir);
        self
    }

    /// Gives the plugin a tool that the provider runs, if its manifest asks for the tool.
    ///
    /// ```
    /// use agenthost::LoadOptions;
    /// use agenthost::llm::{ServerToolGrant, ServerToolKind};
    ///
    /// let options = LoadOptions::new().server_tool(ServerToolKind::WebSearch, ServerToolGrant::default());
    /// assert_eq!(options.server_tools.to_string(), "web-search (5 uses a call)");
    /// ```
    #[must_use]
    pub fn server_tool(mut self, kind: ServerToolKind, bounds: ServerToolGrant) -> Self {
        self.server_tools.0.insert(kind, bounds);
        self
    }
}

impl Plugin {
    /// Returns the identity: the WIT package of its task, with the version of its interface.
    pub fn id(&self) -> &PluginId {
        &self.loaded.info.id
    }

    /// Returns the digest of its bytes.
    pub fn digest(&self) -> &Digest {
        &self.loaded.info.digest
    }

    /// Returns its description: types, imports, manifest, provenance.
    pub fn info(&self) -> &PluginInfo {
        &self.loaded.info
    }

    /// Checks that `json` is a valid input of this plugin.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Input`](agenthost_core::error::ErrorClass::Input), with the path of the wrong value.
    pub fn check_input(&self, json: &serde_json::Value) -> Result<()> {
        self.loaded.code.input(json)?;
        Ok(())
    }

    /// Returns a small input of the right type.
    pub fn sample_input(&self) -> serde_json::Value {
        self.loaded.code.sample()
    }

    /// Returns the plugins that its tasks can start, each with the name of its import.
    pub fn sub_agents(&self) -> impl Iterator<Item = (&str, &Plugin)> {
        let sub_agents = self.loaded.sub_agents.iter();
        sub_agents.map(|(import, sub_agent)| (import.as_str(), &sub_agent.plugin))
    }

    /// Returns the model names that its tasks can use: those of its grant, except those that the policies or its own
    /// manifest exclude.
    pub fn models(&self, config: &Config) -> BTreeSet<String> {
        self.loaded.models(config)
    }

    /// Returns the tools of providers that its tasks can use: those that its manifest asks for, within the operator's
    /// grant and the policies.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::Host;
    ///
    /// let host = Host::builder().build()?;
    /// let plugin = host.load_bytes(&ask())?;
    /// // Its manifest asks for none, so it gets none, whatever is granted.
    /// assert!(plugin.server_tools(host.config()).is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn server_tools(&self, config: &Config) -> ServerToolGrants {
        self.loaded.server_tools(config)
    }

    /// Returns the limits that the policies set for its tasks.
    pub fn allowed(&self) -> &Limits {
        &self.loaded.ceiling.limits
    }

    /// Returns human-readable notes about how the plugin was obtained.
    pub fn notes(&self) -> &[String] {
        &self.loaded.notes
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.loaded.info.fmt(f)
    }
}

impl LoadedPlugin {
    /// Returns the handle to this plugin.
    pub(super) fn shared(self) -> Plugin {
        let loaded = Arc::new(self);
        Plugin { loaded }
    }

    pub(super) fn models(&self, config: &Config) -> BTreeSet<String> {
        self.ceiling.models(config.grant(&self.info.id.name).models)
    }

    pub(super) fn server_tools(&self, config: &Config) -> ServerToolGrants {
        let tools = &self.ceiling.tools;
        tools.permitted(&self.info.id.name, &self.tool_grant, config)
    }

    /// Returns why the plugin may not use a tool that [`LoadedPlugin::server_tools`] does not have.
    pub(super) fn no_server_tool(&self, config: &Config, kind: ServerToolKind) -> String {
        let tools = &self.ceiling.tools;
        tools.refusal(&self.info.id.name, &self.tool_grant, config, kind)
    }
}
