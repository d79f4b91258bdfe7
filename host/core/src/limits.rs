//! Limits on what a task may use, how an operator writes them, and how they combine.
//!
//! A limit that is `None` does not exist. Narrowing takes the smaller of each pair, so it can never widen a limit;
//! overriding replaces the limits that are given and keeps the rest. This module contains only values and arithmetic:
//! it enforces nothing and reads no clock and no file.

mod invalid;
mod keep_back;
pub mod ledger;
mod owner;
mod patch;
mod shortage;
mod spent;
pub mod units;
mod usd;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::time::Duration;

pub use self::invalid::InvalidLimit;
pub use self::keep_back::{KeepBack, Percent, Share};
pub use self::owner::LimitOwner;
pub use self::patch::{Cap, LimitsPatch};
pub use self::shortage::Shortage;
pub use self::spent::Spent;
pub use self::usd::Usd;

/// The most tasks that may be alive at once, unless configured otherwise: far more than one fan-out needs, and possible on a
/// stock Linux system.
pub const DEFAULT_CONCURRENT_TASKS: u32 = 1_000;
/// The memory that the tasks of a run may hold together, unless configured otherwise, if the machine has twice as much: room
/// for the default number of tasks.
pub const DEFAULT_RUN_MEMORY: u64 = 2 << 30;
/// 200,000 tokens, input and output together: one full context window of the common models, so that a task can read a
/// long document once but not in a loop.
const TASK_TOKENS: u64 = 200_000;
/// 100 model calls: far above what a focused task makes, far below what a loop would make in its five minutes.
const TASK_CALLS: u64 = 100;
/// 20 G units of fuel: one to four seconds of computing (measured at 5 to 18 G per second), because the model does the
/// work of a task and not the plugin.
const TASK_FUEL: u64 = 20_000_000_000;
/// 64 MiB of linear memory: room for a document and its parsed form, and 100 such tasks fit in 6.4 GiB.
const TASK_MEMORY: u64 = 64 << 20;
/// 5 minutes: long enough for several slow replies with their retries, short enough for a person who waits.
const TASK_TIME: Duration = Duration::from_mins(5);
/// 100 sub-tasks: a fan-out that a person expects. One that is wider can cost far more than a first look at it suggests.
const TASK_TASKS: u64 = 100;
/// The most sub-tasks that a plugin's own suggestion allows a task, if the operator sets no limit on them.
pub const MOST_SUGGESTED_TASKS: u64 = 1_000;
/// 5 levels of sub-tasks: orchestrators of orchestrators fit; endless recursion ends early.
const TASK_DEPTH: u32 = 5;

/// The upper bounds on what a task or a whole run may use. `None` means no limit.
///
/// ```
/// use agenthost_core::limits::Limits;
///
/// let asked = Limits::new().calls(500).timeout(std::time::Duration::from_secs(20));
/// let limits = Limits::task_default().overridden_by(&asked.into());
/// assert_eq!((limits.calls, limits.tokens), (Some(500), Some(200_000)));
///
/// let grant = Limits::new().calls(20);
/// assert_eq!(limits.narrowed_by(&grant).calls, Some(20));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Input and output tokens together.
    pub tokens: Option<u64>,
    /// Money for model calls.
    pub cost: Option<Usd>,
    /// Model calls.
    pub calls: Option<u64>,
    /// Units of fuel, about one for each instruction of the plugin.
    pub fuel: Option<u64>,
    /// Linear memory, in bytes.
    pub memory: Option<u64>,
    /// Wall time.
    pub timeout: Option<Duration>,
    /// Sub-tasks started, at any depth below.
    pub tasks: Option<u64>,
    /// Levels of sub-tasks below; 0 allows none.
    pub depth: Option<u32>,
}

impl Limits {
    /// The default limits of a task: 200,000 tokens, 100 calls, 20 G fuel, 64 MiB, 5 minutes, 100 sub-tasks, depth 5.
    /// Cost has no default limit, because a cost limit rejects every model whose price is unknown.
    pub fn task_default() -> Self {
        Self {
            tokens: Some(TASK_TOKENS),
            cost: None,
            calls: Some(TASK_CALLS),
            fuel: Some(TASK_FUEL),
            memory: Some(TASK_MEMORY),
            timeout: Some(TASK_TIME),
            tasks: Some(TASK_TASKS),
            depth: Some(TASK_DEPTH),
        }
    }

    /// Creates limits of which none is set, to set some: `Limits::new().calls(2).tokens(40_000)`. Where limits override
    /// others, as those of a run override the configured ones, a limit that is not set stays as it is.
    pub fn new() -> Self {
        Self::none()
    }

    /// Sets the limit of input and output tokens together.
    #[must_use]
    pub fn tokens(self, tokens: u64) -> Self {
        let tokens = Some(tokens);
        Self { tokens, ..self }
    }

    /// Sets the limit of money for model calls. It rejects every model whose price is unknown.
    #[must_use]
    pub fn cost(self, cost: Usd) -> Self {
        let cost = Some(cost);
        Self { cost, ..self }
    }

    /// Sets the limit of model calls.
    #[must_use]
    pub fn calls(self, calls: u64) -> Self {
        let calls = Some(calls);
        Self { calls, ..self }
    }

    /// Sets the limit of fuel.
    #[must_use]
    pub fn fuel(self, fuel: u64) -> Self {
        let fuel = Some(fuel);
        Self { fuel, ..self }
    }

    /// Sets the limit of linear memory, in bytes.
    #[must_use]
    pub fn memory(self, bytes: u64) -> Self {
        let memory = Some(bytes);
        Self { memory, ..self }
    }

    /// Sets the limit of wall time.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        let timeout = Some(timeout);
        Self { timeout, ..self }
    }

    /// Sets the limit of sub-tasks.
    #[must_use]
    pub fn tasks(self, tasks: u64) -> Self {
        let tasks = Some(tasks);
        Self { tasks, ..self }
    }

    /// Sets the limit of levels of sub-tasks.
    #[must_use]
    pub fn depth(self, levels: u32) -> Self {
        let depth = Some(levels);
        Self { depth, ..self }
    }

    /// No limits at all.
    pub fn none() -> Self {
        Self {
            tokens: None,
            cost: None,
            calls: None,
            fuel: None,
            memory: None,
            timeout: None,
            tasks: None,
            depth: None,
        }
    }

    /// Returns the smaller limit of each pair, which is what applies when both apply.
    #[must_use]
    pub fn narrowed_by(&self, other: &Self) -> Self {
        Self {
            tokens: smaller(self.tokens, other.tokens),
            cost: smaller(self.cost, other.cost),
            calls: smaller(self.calls, other.calls),
            fuel: smaller(self.fuel, other.fuel),
            memory: smaller(self.memory, other.memory),
            timeout: smaller(self.timeout, other.timeout),
            tasks: smaller(self.tasks, other.tasks),
            depth: smaller(self.depth, other.depth),
        }
    }

    /// Returns these limits with every limit that `patch` names replaced, in either direction.
    #[must_use]
    pub fn overridden_by(&self, patch: &LimitsPatch) -> Self {
        Self {
            tokens: replaced(self.tokens, patch.tokens),
            cost: replaced(self.cost, patch.cost),
            calls: replaced(self.calls, patch.calls),
            fuel: replaced(self.fuel, patch.fuel),
            memory: replaced(self.memory, patch.memory),
            timeout: replaced(self.timeout, patch.timeout),
            tasks: replaced(self.tasks, patch.tasks),
            depth: replaced(self.depth, patch.depth),
        }
    }
}

/// Returns limits of which none is set.
impl Default for Limits {
    fn default() -> Self {
        Self::none()
    }
}

impl Limits {
    /// Formats the value of a limit for people, without its unit. `None` if the limit is not set.
    pub fn describe(&self, limit: LimitKind) -> Option<String> {
        match limit {
            LimitKind::Tokens => self.tokens.map(units::show_count),
            LimitKind::Cost => self.cost.map(|cost| cost.to_string()),
            LimitKind::Calls => self.calls.map(units::show_count),
            LimitKind::Fuel => self.fuel.map(units::show_fuel),
            LimitKind::Memory => self.memory.map(units::show_exact_bytes),
            LimitKind::Time => self.timeout.map(units::show_time),
            LimitKind::Tasks => self.tasks.map(units::show_count),
            LimitKind::Depth => self.depth.map(|n| n.to_string()),
            LimitKind::Size | LimitKind::Other => None,
        }
    }
}

/// Overrides with the limits that are set. The others are not given.
impl From<Limits> for LimitsPatch {
    fn from(limits: Limits) -> Self {
        Self {
            tokens: limits.tokens.map(Cap::At),
            cost: limits.cost.map(Cap::At),
            calls: limits.calls.map(Cap::At),
            fuel: limits.fuel.map(Cap::At),
            memory: limits.memory.map(Cap::At),
            timeout: limits.timeout.map(Cap::At),
            tasks: limits.tasks.map(Cap::At),
            depth: limits.depth.map(Cap::At),
        }
    }
}

fn smaller<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn replaced<T>(old: Option<T>, new: Option<Cap<T>>) -> Option<T> {
    match new {
        None => old,
        Some(Cap::Unlimited) => None,
        Some(Cap::At(value)) => Some(value),
    }
}

/// The limit that was reached.
///
/// ```
/// use agenthost_core::limits::{LimitKind, Limits};
///
/// let limit = LimitKind::from_name("memory");
/// assert_eq!(Limits::task_default().describe(limit).as_deref(), Some("64 MiB"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LimitKind {
    /// Input and output tokens.
    Tokens,
    /// Money.
    Cost,
    /// Model calls.
    Calls,
    /// Fuel.
    Fuel,
    /// Linear memory.
    Memory,
    /// Wall time.
    Time,
    /// Sub-tasks.
    Tasks,
    /// Levels of sub-tasks.
    Depth,
    /// The size of a single value, reply or host call; not configurable.
    Size,
    /// A limit that has no case in this list.
    Other,
}

impl Serialize for LimitKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for LimitKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_name(&String::deserialize(deserializer)?))
    }
}

impl LimitKind {
    /// The name in the plugin contract and in JSON output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Cost => "cost",
            Self::Calls => "calls",
            Self::Fuel => "fuel",
            Self::Memory => "memory",
            Self::Time => "time",
            Self::Tasks => "tasks",
            Self::Depth => "depth",
            Self::Size => "size",
            Self::Other => "other",
        }
    }

    /// The limits that can be set, in the order in which they are shown.
    #[doc(hidden)]
    pub const SETTABLE: [Self; 8] = [
        Self::Tokens,
        Self::Cost,
        Self::Calls,
        Self::Fuel,
        Self::Memory,
        Self::Time,
        Self::Tasks,
        Self::Depth,
    ];

    /// The key of the limit in configuration and policy files, and the name of its flag.
    #[doc(hidden)]
    pub fn key(self) -> &'static str {
        match self {
            Self::Time => "timeout",
            limit => limit.name(),
        }
    }

    /// Returns the limit with that name; [`LimitKind::Other`] for a name that this version does not know.
    pub fn from_name(name: &str) -> Self {
        Self::SETTABLE
            .into_iter()
            .chain([Self::Size])
            .find(|limit| limit.name() == name)
            .unwrap_or(Self::Other)
    }

    /// The unit of the limit's value, or an empty string if the value already includes its unit.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Calls => "calls",
            Self::Fuel => "fuel",
            Self::Tasks => "sub-tasks",
            Self::Depth => "levels",
            Self::Cost | Self::Memory | Self::Time | Self::Size | Self::Other => "",
        }
    }

    /// Appends the unit to the text of a value.
    pub(crate) fn with_unit(self, value: String) -> String {
        match self.unit() {
            "" => value,
            unit if value == "1" => format!("{value} {}", unit.trim_end_matches('s')),
            unit => format!("{value} {unit}"),
        }
    }

    /// Formats an amount of tokens, pico-dollars or calls for people.
    pub(crate) fn describe_amount(self, amount: u64) -> String {
        self.with_unit(match self {
            Self::Cost => Usd::from_pico(amount).to_string(),
            _ => units::show_count(amount),
        })
    }

    /// The phrase for the limit in a sentence for people, such as "model calls".
    pub fn words(self) -> &'static str {
        match self {
            Self::Calls => "model calls",
            Self::Tasks => "sub-tasks",
            Self::Size => "size of a value",
            Self::Other => "another kind",
            Self::Tokens | Self::Cost | Self::Fuel | Self::Memory | Self::Time | Self::Depth => self.name(),
        }
    }
}

impl fmt::Display for LimitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let limits = Limits::task_default();
        assert_eq!(limits.tokens, Some(200_000));
        assert_eq!(limits.cost, None);
        assert_eq!(limits.calls, Some(100));
        assert_eq!(limits.fuel, Some(20_000_000_000));
        assert_eq!(limits.memory, Some(67_108_864));
        assert_eq!(limits.timeout, Some(Duration::from_secs(300)));
        assert_eq!(limits.tasks, Some(100));
        assert_eq!(limits.depth, Some(5));
    }

    #[test]
    fn narrowing_never_widens() {
        let mut own = Limits::task_default();
        own.tokens = Some(10);
        own.calls = None;
        let mut other = Limits::none();
        other.tokens = Some(20);
        other.calls = Some(7);
        other.cost = Some(Usd::from_pico(5));
        let both = own.narrowed_by(&other);
        assert_eq!(
            (both.tokens, both.calls, both.cost),
            (Some(10), Some(7), Some(Usd::from_pico(5)))
        );
        assert_eq!(both.fuel, own.fuel);
        assert_eq!(both, other.narrowed_by(&own));
        assert_eq!(own.narrowed_by(&Limits::none()), own);
    }
}
