//! The most that a plugin is given, whatever is granted: what the policies allow, and what it said itself that it needs.

use std::collections::BTreeSet;

use agenthost_core::limits::Limits;
use agenthost_plugin::Plugin;
use agenthost_registry::policy::{POLICY_FILE, Verdict};

/// The most that a plugin is given.
#[derive(Debug, Clone)]
pub(super) struct Ceiling {
    /// The limits of its tasks are at most these.
    pub(super) limits: Limits,
    /// The model names that it names itself; none is any.
    own: Option<BTreeSet<String>>,
    /// Those that the policies allow; none is any.
    policy: Option<BTreeSet<String>>,
}

impl Ceiling {
    /// What a plugin says of itself: where it names its models, it gets no others.
    pub(super) fn own(plugin: &Plugin) -> Self {
        Self {
            limits: Limits::none(),
            own: plugin.manifest.as_ref().and_then(|manifest| manifest.models.clone()),
            policy: None,
        }
    }

    /// The same within what the policies say.
    pub(super) fn within(self, verdict: &Verdict) -> Self {
        Self {
            limits: self.limits.narrowed_by(&verdict.max),
            policy: verdict.models.clone(),
            ..self
        }
    }

    /// Of the names that are granted, those that are below the ceiling.
    pub(super) fn models(&self, mut granted: BTreeSet<String>) -> BTreeSet<String> {
        for models in [&self.own, &self.policy].into_iter().flatten() {
            granted.retain(|name| models.contains(name));
        }
        granted
    }

    /// Why `plugin` is not given a model name whatever is granted, where that is so.
    pub(super) fn refusal(&self, plugin: &str, model: &str) -> Option<String> {
        self.own_refusal(plugin, model).or_else(|| {
            lacks(self.policy.as_ref(), model).then(|| {
                format!(
                    "the policy allows {plugin} no model `{model}`: see `models` in [max] and [max-for] of {POLICY_FILE}"
                )
            })
        })
    }

    /// The same of what the plugin says of itself alone: on whatever machine it runs.
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
