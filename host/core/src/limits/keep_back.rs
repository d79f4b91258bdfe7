//! The part of its limits that a task keeps back from its sub-tasks.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::InvalidLimit;

/// A share of an amount, in whole percent, from 0 to 90.
///
/// ```
/// use agenthost_core::limits::Percent;
///
/// let share: Percent = "25%".parse()?;
/// assert_eq!((share.of(1_000), share.of(6), share.to_string().as_str()), (250, 2, "25%"));
/// assert!("95%".parse::<Percent>().is_err(), "something must be left for the rest");
/// # Ok::<(), agenthost_core::limits::InvalidLimit>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u8);

impl Percent {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest share.
    pub const MOST: Self = Self(90);

    /// Creates a share, of at most [`Percent::MOST`].
    pub const fn at_most(percent: u8) -> Self {
        Self(if percent > Self::MOST.0 { Self::MOST.0 } else { percent })
    }

    /// Computes the share of an amount, rounded up. The last unit of an amount is never part of it.
    pub fn of(self, amount: u64) -> u64 {
        let share = (u128::from(amount) * u128::from(self.0)).div_ceil(100);
        u64::try_from(share).unwrap_or(u64::MAX).min(amount.saturating_sub(1))
    }

    /// Computes the smallest amount that leaves `rest` without its share.
    ///
    /// ```
    /// use agenthost_core::limits::Percent;
    ///
    /// let whole = Percent::at_most(25).whole(1_000);
    /// assert_eq!((whole, whole - Percent::at_most(25).of(whole)), (1_334, 1_000));
    /// ```
    pub fn whole(self, rest: u64) -> u64 {
        let whole = (u128::from(rest) * 100).div_ceil(u128::from(100 - self.0));
        u64::try_from(whole).unwrap_or(u64::MAX)
    }
}

/// `25%`.
impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// `25%` or `25 %`.
impl FromStr for Percent {
    type Err = InvalidLimit;

    fn from_str(text: &str) -> Result<Self, InvalidLimit> {
        let number = text.trim().strip_suffix('%').map(str::trim_end);
        number
            .filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|number| number.parse().ok())
            .filter(|percent| *percent <= Self::MOST.0)
            .map(Self)
            .ok_or_else(|| InvalidLimit::Percent { text: text.to_owned() })
    }
}

/// One of several equal parts of what a task has left for a group of its sub-tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The number of the group. The first share with it decides what the group gets.
    pub group: u32,
    /// The percentage of what is left that the group does not get; [`Percent::at_most`] applies.
    pub keep_back: u8,
    /// The number of equal parts; 0 counts as 1.
    pub parts: u32,
    /// The number of this part.
    pub part: u32,
    /// The fewest tokens that are of use to a part. If there are not enough for all, the first parts get as many, and
    /// the others none.
    pub least_tokens: u64,
}

/// The part of its limits that a task keeps back from its sub-tasks, for its own model calls and for the sub-tasks of
/// some sub-agents.
///
/// ```
/// use agenthost_core::limits::KeepBack;
///
/// assert_eq!(KeepBack::default().share.to_string(), "0%");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeepBack {
    /// The share of the tokens, the cost and the calls that are left when the first sub-task starts.
    pub share: Percent,
    /// The sub-agents that may use this share too, as `namespace:name`.
    pub sub_agents: BTreeSet<String>,
}

impl KeepBack {
    /// The share that a task keeps back if it calls models itself and its plugin does not declare a share. It leaves
    /// the synthesis of five branches as much as each of them had.
    pub const DEFAULT_SHARE: Percent = Percent(20);

    /// Creates a part without sub-agents.
    pub fn of_share(share: Percent) -> Self {
        Self {
            share,
            sub_agents: BTreeSet::new(),
        }
    }

    /// Lets tasks of the sub-agent `name` (`namespace:name`) use the share.
    #[must_use]
    pub fn with_sub_agent(mut self, name: impl Into<String>) -> Self {
        self.sub_agents.insert(name.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_written_in_percent_and_leaves_something() {
        let parse = |text: &str| text.parse::<Percent>().map(|share| share.to_string()).ok();
        assert_eq!(parse("0%").as_deref(), Some("0%"));
        assert_eq!(parse(" 90 % ").as_deref(), Some("90%"));
        for wrong in ["", "%", "20", "0.2", "-5%", "+5%", "91%", "256%", "20%%", "a%"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        let of = |percent, amount| Percent::at_most(percent).of(amount);
        assert_eq!((of(20, 0), of(20, 1), of(20, 2), of(20, 11)), (0, 0, 1, 3));
        assert_eq!((of(0, 100), of(255, 100)), (0, 90));
        assert_eq!(of(50, u64::MAX), u64::MAX / 2 + 1);
    }
}
