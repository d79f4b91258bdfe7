//! The amount by which a limit is too low for a model call.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::units::show_count;
use super::{LimitKind, Usd};

/// The amount by which a limit is too low for a model call that was therefore refused.
///
/// ```
/// use agenthost_core::limits::Shortage;
///
/// let shortage = Shortage::Tokens { needed: 1_240, left: 100, limit: 2_000 };
/// assert_eq!(shortage.to_string(), "a call needs up to 1,240 tokens, and 100 are left");
/// assert_eq!(shortage.least_limit(), "3140", "1,900 are used");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Shortage {
    /// Of input and output tokens.
    Tokens {
        /// The most that the call can use.
        needed: u64,
        /// The part of the limit that is not used.
        left: u64,
        /// The limit of the task, or of an account above it, with the least left.
        limit: u64,
    },
    /// Of money.
    Cost {
        /// The most that the call can cost.
        needed: Usd,
        /// The part of the limit that is not used.
        left: Usd,
        /// The limit of the task, or of an account above it, with the least left.
        limit: Usd,
    },
}

impl Shortage {
    /// Returns the limit that is too low.
    pub fn kind(&self) -> LimitKind {
        match self {
            Self::Tokens { .. } => LimitKind::Tokens,
            Self::Cost { .. } => LimitKind::Cost,
        }
    }

    /// Returns the lowest limit that allows the call, in the form of a flag's value.
    pub fn least_limit(&self) -> String {
        match self {
            Self::Tokens { needed, left, limit } => limit.saturating_sub(*left).saturating_add(*needed).to_string(),
            Self::Cost { needed, left, limit } => {
                let used = limit.pico().saturating_sub(left.pico());
                let least = Usd::from_pico(used).saturating_add(*needed).to_string();
                least.trim_start_matches('$').to_owned()
            }
        }
    }

    /// Returns the one that needs more, for a task with several refused calls.
    #[doc(hidden)]
    #[must_use]
    pub fn larger(self, other: Self) -> Self {
        let key = |shortage: &Self| match *shortage {
            Self::Tokens { needed, left, limit } => (0, needed, u64::MAX - left, limit),
            Self::Cost { needed, left, limit } => (1, needed.pico(), u64::MAX - left.pico(), limit.pico()),
        };
        if key(&other) > key(&self) { other } else { self }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tokens { needed, left, .. } => {
                let are = if *left == 1 { "is" } else { "are" };
                write!(
                    f,
                    "a call needs up to {} tokens, and {} {are} left",
                    show_count(*needed),
                    show_count(*left)
                )
            }
            Self::Cost { needed, left, .. } => write!(f, "a call may cost up to {needed}, and {left} is left"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_of_money_is_in_dollars() {
        let usd = |text: &str| text.parse::<Usd>().unwrap();
        let shortage = Shortage::Cost {
            needed: usd("0.0124"),
            left: usd("0.001"),
            limit: usd("0.05"),
        };
        assert_eq!(
            shortage.to_string(),
            "a call may cost up to $0.0124, and $0.001 is left"
        );
        assert_eq!(shortage.least_limit(), "0.0614");
        let json = serde_json::json!({"cost": {"needed": 0.0124, "left": 0.001, "limit": 0.05}});
        assert_eq!(serde_json::to_value(shortage).unwrap(), json);
        assert_eq!(serde_json::from_value::<Shortage>(json).unwrap(), shortage);
        let tokens = |needed, left| Shortage::Tokens {
            needed,
            left,
            limit: 100,
        };
        assert_eq!(tokens(10, 3).larger(tokens(11, 4)), tokens(11, 4));
        assert_eq!(tokens(10, 3).larger(tokens(10, 2)), tokens(10, 2));
    }
}
