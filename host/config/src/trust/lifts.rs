//! What a project's file lifts of the operator's own.
//!
//! Where both files set the same thing and the project's would allow more, the stricter of both holds until the operator
//! accepts the lift. What counts as a lift is decided where the files are merged; here is what is recorded of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::super::Origin;

/// Something that a project's file would lift, and may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedLift {
    /// The entry, by its keys joined with dots: `run.limits.cost`.
    pub entry: String,
    /// What the operator's own file says.
    pub yours: String,
    /// What the project's file says.
    pub theirs: String,
}

impl fmt::Display for TrustedLift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} in the place of your {}", self.entry, self.theirs, self.yours)
    }
}

/// A lift with its place, and whether the operator accepted it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lift {
    pub(crate) trusted: TrustedLift,
    pub(crate) origin: Option<Origin>,
    pub(crate) accepted: bool,
}
