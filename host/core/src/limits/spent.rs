//! Recorded usage: of a request, and of a task or a run.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Usd;

/// The resources that a task or a run used.
///
/// ```
/// use agenthost_core::limits::Spent;
///
/// let mut sum = Spent { calls: 2, input_tokens: 100, ..Spent::default() };
/// sum.add(&Spent { calls: 1, unpriced_calls: 1, ..Spent::default() });
/// assert_eq!((sum.calls, sum.input_tokens), (3, 100));
/// assert_eq!(sum.known_cost(), None, "one of the calls has no known price");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spent {
    /// Input tokens, including cached ones.
    pub input_tokens: u64,
    /// The part of the input that was read from a provider's cache.
    pub cached_input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// The cost of the calls whose price is known.
    pub cost: Usd,
    /// Calls of models without a known price; if there are any, `cost` is incomplete.
    pub unpriced_calls: u64,
    /// Model calls that were sent, including failed ones.
    pub calls: u64,
    /// Fuel.
    pub fuel: u64,
    /// The peak linear memory in bytes; for a run, the highest peak of any task.
    pub peak_memory: u64,
    /// Wall time.
    pub wall: Duration,
}

impl Spent {
    /// Counts a call that was sent.
    pub(super) fn called(&mut self) {
        self.calls = self.calls.saturating_add(1);
    }

    /// Adds the usage of a request.
    pub(super) fn charge(&mut self, used: &Used) {
        self.input_tokens = self.input_tokens.saturating_add(used.input);
        self.cached_input_tokens = self.cached_input_tokens.saturating_add(used.cached_input);
        self.output_tokens = self.output_tokens.saturating_add(used.output);
        match used.cost {
            Some(cost) => self.cost = self.cost.saturating_add(cost),
            None => self.unpriced_calls = self.unpriced_calls.saturating_add(1),
        }
    }

    /// Adds the usage of another task of the same run. The wall time does not change.
    pub fn add(&mut self, other: &Self) {
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.cached_input_tokens = self.cached_input_tokens.saturating_add(other.cached_input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.cost = self.cost.saturating_add(other.cost);
        self.unpriced_calls = self.unpriced_calls.saturating_add(other.unpriced_calls);
        self.calls = self.calls.saturating_add(other.calls);
        self.fuel = self.fuel.saturating_add(other.fuel);
        self.peak_memory = self.peak_memory.max(other.peak_memory);
    }

    /// The whole cost, or `None` if part of it is unknown.
    pub fn known_cost(&self) -> Option<Usd> {
        (self.unpriced_calls == 0).then_some(self.cost)
    }
}

/// The actual usage of a request or call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// All input tokens, including cached ones.
    pub input: u64,
    /// The part of the input that was read from a cache.
    pub cached_input: u64,
    /// Output tokens.
    pub output: u64,
    /// The cost; `None` if the price is unknown.
    pub cost: Option<Usd>,
}

impl Used {
    /// Returns the sum of two usages. Its cost is known if both costs are.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            cached_input: self.cached_input.saturating_add(other.cached_input),
            output: self.output.saturating_add(other.output),
            cost: self.cost.zip(other.cost).map(|(one, two)| one.saturating_add(two)),
        }
    }

    /// Returns this usage without `part`. Its cost is known if both costs are.
    #[must_use]
    pub fn minus(&self, part: &Self) -> Self {
        Self {
            input: self.input.saturating_sub(part.input),
            cached_input: self.cached_input.saturating_sub(part.cached_input),
            output: self.output.saturating_sub(part.output),
            cost: self
                .cost
                .zip(part.cost)
                .map(|(all, part)| Usd::from_pico(all.pico().saturating_sub(part.pico()))),
        }
    }
}

/// [`Spent`] in JSON, with one cost, which is null if part of it is unknown. If it is, all calls count as unpriced when it
/// is read.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct SpentJson {
    input_tokens: u64,
    cached_input_tokens: u64,
    output_tokens: u64,
    cost_usd: Option<Usd>,
    calls: u64,
    fuel: u64,
    peak_memory_bytes: u64,
    wall_ms: u64,
}

impl Serialize for Spent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let json = SpentJson {
            input_tokens: self.input_tokens,
            cached_input_tokens: self.cached_input_tokens,
            output_tokens: self.output_tokens,
            cost_usd: self.known_cost(),
            calls: self.calls,
            fuel: self.fuel,
            peak_memory_bytes: self.peak_memory,
            wall_ms: u64::try_from(self.wall.as_millis()).unwrap_or(u64::MAX),
        };
        json.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Spent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = SpentJson::deserialize(deserializer)?;
        Ok(Self {
            input_tokens: json.input_tokens,
            cached_input_tokens: json.cached_input_tokens,
            output_tokens: json.output_tokens,
            cost: json.cost_usd.unwrap_or_default(),
            unpriced_calls: if json.cost_usd.is_some() { 0 } else { json.calls.max(1) },
            calls: json.calls,
            fuel: json.fuel,
            peak_memory: json.peak_memory_bytes,
            wall: Duration::from_millis(json.wall_ms),
        })
    }
}
