//! The upper bound of what a plugin gets, whatever is granted: what the policies allow, and what its own manifest
//! requests.

use std::collections::BTreeSet;

use super::tool_permission::ToolCeiling;
use agenthost_core::limits::Limits;
use agenthost_plugin::Plugin as PluginInfo;
#[cfg(feature = "registry")]
use agenthost_registry::policy::PolicyDecision;

/// The upper bound of what a plugin gets.
#[derive(Debug, Clone)]
pub(super) struct Ceiling {
    /// The upper bounds of its tasks' limits.
    pub(super) limits: Limits,
    /// The upper bound of its tools of providers.
    pub(super) tools: ToolCeiling,
    /// The model names in its manifest; `None` allows any.
    own: Option<BTreeSet<String>>,
    /// The model names that the policies allow; `None` allows any.
    policy: Option<BTreeSet<String>>,
}

impl Ceiling {
    /// Returns the ceiling of a plugin's own manifest: if it lists models, the plugin gets no others, and it gets no tool
    /// of a provider that it does not ask for.
    pub(super) fn own(plugin: &PluginInfo) -> Self {
        Self {
            limits: Limits::none(),
            tools: ToolCeiling::own(plugin),
            own: plugin.manifest.as_ref().and_then(|manifest| manifest.models.clone()),
            policy: None,
        }
    }

    /// Narrows the ceiling by the verdict of the policies.
    #[cfg(feature = "registry")]
    pub(super) fn within(self, verdict: &PolicyDecision) -> Self {
        Self {
            limits: self.limits.narrowed_by(&verdict.max),
            tools: self.tools.within(&verdict.server_tools),
            policy: verdict.models.clone(),
            ..self
        }
    }

    /// Returns the granted model names that the ceiling allows.
    pub(super) fn models(&self, mut granted: BTreeSet<String>) -> BTreeSet<String> {
        for models in [&self.own, &self.policy].into_iter().flatten() {
            granted.retain(|name| models.contains(name));
        }
        granted
    }

    /// Returns why `plugin` cannot use a model name whatever is granted, or `None` if the ceiling allows it.
    pub(super) fn refusal(&self, plugin: &str, model: &str) -> Option<String> {
        self.own_refusal(plugin, model).or_else(|| {
            lacks(self.policy.as_ref(), model).then(|| {
                format!(
                    "the policy allows {plugin} no model `{model}`: see `models` in [max] and [max-for] of agenthost-policy.toml"
                )
            })
        })
    }

    /// Like [`Ceiling::refusal`], by the plugin's own manifest alone, which is the same on every machine.
    pub(super) fn own_refusal(&self, plugin: &str, model: &str) -> Option<String> {
        lacks(self.own.as_ref(), model).then(|| {
            format!(
                "{plugin} asks for the model `{model}` and does not name it among its `models` under \
                 [package.metadata.agenthost]; its author adds it there"
            )
        })
    }
}

fn lacks(models: Option<&BTreeSet<String>>, model: &str) -> bool {
    models.is_some_and(|models| !models.contains(model))
}
