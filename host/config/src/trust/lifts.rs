//! The record of lifts: the values of a project's file that allow more than the operator's own.
//!
//! If both files set the same entry and the project's value allows more, the stricter of both applies until the
//! operator accepts the lift. `merge` decides what counts as a lift; this module holds only what is recorded of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::origin::Origin;

/// A lift that a project's file asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedLift {
    /// The entry: its keys joined with dots, such as `run.limits.cost`.
    pub entry: String,
    /// The value of the operator's own file, or the default.
    pub yours: String,
    /// The value of the project's file.
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
    /// The value that applies until the operator accepts the lift; `None` if it is the operator's.
    pub(crate) both: Option<String>,
    pub(crate) accepted: bool,
}
