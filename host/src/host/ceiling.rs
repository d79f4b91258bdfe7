//! The most that a plugin is given, whatever is granted: what the policies allow, and what it said itself that it needs.

use std::collections::BTreeSet;

use crate::limits::Limits;
use crate::plugin::Plugin;
use crate::registry::policy::Verdict;

/// The most that a plugin is given.
#[derive(Debug, Clone)]
pub(super) struct Ceiling {
    /// The limits of its tasks are at most these.
    pub(super) limits: Limits,
    /// The model names that it may ask for; none is any.
    pub(super) models: Option<BTreeSet<String>>,
}

impl Ceiling {
    /// What a plugin says of itself: where it names its models, it gets no others.
    pub(super) fn own(plugin: &Plugin) -> Self {
        Self {
            limits: Limits::none(),
            models: plugin.manifest.as_ref().and_then(|manifest| manifest.models.clone()),
        }
    }

    /// The same within what the policies say.
    pub(super) fn within(mut self, verdict: &Verdict) -> Self {
        self.limits = self.limits.narrowed_by(&verdict.max);
        self.models = match (self.models, &verdict.models) {
            (Some(own), Some(most)) => Some(own.intersection(most).cloned().collect()),
            (own, most) => own.or_else(|| most.clone()),
        };
        self
    }

    /// Of the names that are granted, those that are below the ceiling.
    pub(super) fn models(&self, mut granted: BTreeSet<String>) -> BTreeSet<String> {
        if let Some(models) = &self.models {
            granted.retain(|name| models.contains(name));
        }
        granted
    }
}
