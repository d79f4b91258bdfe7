//! The parts of requests that a service has refused, so that the next request to the same model leaves them out.
//!
//! Services differ in this by model, and no list of theirs is complete, so the refusal itself is the source. What was
//! learned lasts as long as the process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// A part of a request that some services refuse, and without which a request means the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Feature {
    /// The schema of the reply as a parameter.
    Schema,
    /// Reasoning that the service encrypts. A model without reasoning has none.
    EncryptedReasoning,
    /// The members of a message that only the service wrote.
    OwnMembers,
}

/// The refused parts of each model.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<BTreeMap<String, BTreeSet<Feature>>>);

impl Refusals {
    /// Returns the parts that requests to `model` leave out.
    pub(crate) fn of(&self, model: &str) -> BTreeSet<Feature> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(model).cloned().unwrap_or_default()
    }

    /// Remembers that the service refuses `feature` for `model`.
    pub(crate) fn learn(&self, model: &str, feature: Feature) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(model.to_owned()).or_default().insert(feature);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_model_refuses_is_still_sent_to_another() {
        let refusals = Refusals::default();
        refusals.learn("small", Feature::Schema);
        refusals.learn("small", Feature::OwnMembers);
        assert_eq!(
            refusals.of("small"),
            BTreeSet::from([Feature::Schema, Feature::OwnMembers])
        );
        assert_eq!(refusals.of("large"), BTreeSet::new());
    }
}
