//! The worst case of one task or several, from limits and prices alone.
//!
//! It is computed from what the limits allow, so it never exceeds any of them. How much a plugin really uses is not
//! known before it runs.

use std::time::Duration;

use serde_json::{Value, json};

use agenthost::limits::{Limits, Usd};
use agenthost::price::Price;

/// A model that may be called.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    /// The requested model name.
    pub(super) name: String,
    /// The model behind the name, as `provider/model`.
    pub(super) model: String,
    /// Its prices, the highest of which counts; empty if its price is not known.
    pub(super) prices: Vec<Price>,
    /// `true` if its replies are generated offline, without a model.
    pub(super) offline: bool,
    /// The most searches of the provider in one call.
    pub(super) searches: u64,
}

/// The worst-case cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cost {
    /// No more than this.
    AtMost(Usd),
    /// A model without a known price may be called, and the cost is not limited.
    Unknown,
    /// Neither tokens nor cost are limited.
    Unlimited,
}

/// The worst case. `None` means unlimited.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Worst {
    pub(super) tokens: Option<u64>,
    pub(super) calls: Option<u64>,
    pub(super) cost: Cost,
    pub(super) sub_tasks: Option<u64>,
    pub(super) time: Option<Duration>,
}

impl Candidate {
    /// Returns the most that `tokens` can cost at this model; `None` if its price is not known.
    pub(super) fn most(&self, tokens: u64) -> Option<Usd> {
        self.prices.iter().map(|price| price.most(tokens)).max()
    }

    /// Returns the most that the searches of so many calls can cost.
    fn most_searches(&self, calls: u64) -> Usd {
        let each = self
            .prices
            .iter()
            .map(|price| price.searches(self.searches))
            .max()
            .unwrap_or_default();
        Usd::from_pico(each.pico().saturating_mul(calls))
    }
}

impl Worst {
    /// Returns the worst case of one task with `limits` in a run with the limits `run`, if it and its sub-agents may
    /// call `models`. `starts` is whether it may start sub-agents at all.
    pub(super) fn of_task(limits: &Limits, run: &Limits, models: &[Candidate], starts: bool) -> Self {
        let own = limits.narrowed_by(run);
        let asks = !models.is_empty() && own.calls != Some(0) && own.tokens != Some(0);
        let only_if = |possible: bool, most: Option<u64>| if possible { most } else { Some(0) };
        let tokens = only_if(asks, own.tokens);
        Self {
            tokens,
            calls: only_if(asks, own.calls),
            cost: if asks {
                cost(tokens, own.calls, own.cost, models)
            } else {
                Cost::AtMost(Usd::ZERO)
            },
            sub_tasks: only_if(starts && own.depth != Some(0), own.tasks),
            time: limits.timeout,
        }
    }

    /// Returns the worst case of `items` such tasks in one run with the limits `run`. The time is that of running them
    /// in turn.
    pub(super) fn times(&self, items: u64, run: &Limits, models: &[Candidate]) -> Self {
        let times = |most: Option<u64>, limit: Option<u64>| {
            let all = if items == 0 {
                Some(0)
            } else {
                most.map(|most| most.saturating_mul(items))
            };
            match (all, limit) {
                (Some(all), Some(limit)) => Some(all.min(limit)),
                (all, limit) => all.or(limit),
            }
        };
        let (tokens, calls) = (times(self.tokens, run.tokens), times(self.calls, run.calls));
        let each = |usd: Usd| Usd::from_pico(usd.pico().saturating_mul(items));
        let cost = match (self.cost, cost(tokens, calls, run.cost, models)) {
            _ if items == 0 => Cost::AtMost(Usd::ZERO),
            (Cost::AtMost(one), Cost::AtMost(all)) => Cost::AtMost(each(one).min(all)),
            (Cost::AtMost(one), _) => Cost::AtMost(run.cost.map_or(each(one), |limit| each(one).min(limit))),
            (one, _) => one,
        };
        Self {
            tokens,
            calls,
            cost,
            sub_tasks: times(self.sub_tasks, run.tasks),
            time: match (items, self.time) {
                (0, _) => Some(Duration::ZERO),
                (_, time) => time.and_then(|time| time.checked_mul(u32::try_from(items).ok()?)),
            },
        }
    }

    /// Returns whether the cost may be above `bound`, or is not known.
    pub(super) fn is_above(&self, bound: Usd) -> bool {
        !matches!(self.cost, Cost::AtMost(most) if most <= bound)
    }

    pub(super) fn document(&self) -> Value {
        let (usd, known) = match self.cost {
            Cost::AtMost(usd) => (Some(usd), "known"),
            Cost::Unknown => (None, "unknown"),
            Cost::Unlimited => (None, "unlimited"),
        };
        json!({
            "tokens": self.tokens,
            "calls": self.calls,
            "cost_usd": usd,
            "cost": known,
            "sub_tasks": self.sub_tasks,
            "wall_ms": self.time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        })
    }
}

/// Returns the most that `tokens` and `calls` can cost at the most expensive of `models`, within `limit`.
fn cost(tokens: Option<u64>, calls: Option<u64>, limit: Option<Usd>, models: &[Candidate]) -> Cost {
    // Under a cost limit, a model without a price is not called.
    if limit.is_none() && models.iter().any(|model| model.prices.is_empty()) {
        return Cost::Unknown;
    }
    let dearest = |tokens, calls| {
        let most = |model: &Candidate| Some(model.most(tokens)?.saturating_add(model.most_searches(calls)));
        models.iter().filter_map(most).max().unwrap_or_default()
    };
    let most = dearest(tokens.unwrap_or(u64::MAX), calls.unwrap_or(u64::MAX));
    // Models that cost nothing for any number have a bounded cost without a limit, too.
    let is_bounded = (tokens.is_some() || dearest(u64::MAX, 0) == Usd::ZERO)
        && (calls.is_some() || dearest(0, u64::MAX) == Usd::ZERO);
    match limit {
        Some(limit) => Cost::AtMost(most.min(limit)),
        None if is_bounded => Cost::AtMost(most),
        None => Cost::Unlimited,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost::config::{PriceConfig, RatesConfig};

    fn model(prices: Option<(&str, &str)>) -> Candidate {
        let price = |(input, output): (&str, &str)| {
            let usd = |text: &str| Some(text.parse().unwrap());
            let rates = RatesConfig {
                input: usd(input),
                output: usd(output),
                ..RatesConfig::default()
            };
            let config = PriceConfig {
                rates,
                ..PriceConfig::default()
            };
            Price::custom(&config).unwrap()
        };
        Candidate {
            name: "fast".into(),
            model: "local/small".into(),
            prices: prices.map(price).into_iter().collect(),
            offline: false,
            searches: 0,
        }
    }

    fn at_most(text: &str) -> Cost {
        Cost::AtMost(text.parse().unwrap())
    }

    #[test]
    fn the_dearest_model_and_split_count() {
        let limits = Limits::task_default();
        let none = Limits::none();
        // 200,000 output tokens at 5 USD a million; input at most 1.25 times 1 USD, when it is written to the cache.
        let worst = Worst::of_task(
            &limits,
            &none,
            &[model(Some(("1", "5"))), model(Some(("0.1", "0.2")))],
            true,
        );
        assert_eq!(worst.cost, at_most("1"));
        assert_eq!(
            (worst.tokens, worst.calls, worst.sub_tasks),
            (Some(200_000), Some(100), Some(100))
        );
        // If input is more expensive, all of it is input.
        let worst = Worst::of_task(&limits, &none, &[model(Some(("8", "5")))], true);
        assert_eq!(worst.cost, at_most("2"));
    }

    #[test]
    fn searches_cost_by_the_call() {
        let mut limits = Limits::task_default();
        limits.calls = Some(10);
        let searching = Candidate {
            searches: 3,
            ..model(Some(("1", "5")))
        };
        let of =
            |limits: &Limits| Worst::of_task(limits, &Limits::none(), std::slice::from_ref(&searching), false).cost;
        // A million tokens would cost 5 USD at most; 30 searches cost 0.30.
        assert_eq!(of(&limits), at_most("1.3"));
        limits.calls = None;
        assert_eq!(of(&limits), Cost::Unlimited);
        limits.cost = Some("2".parse().unwrap());
        assert_eq!(of(&limits), at_most("2"));
    }

    #[test]
    fn a_worst_case_never_exceeds_a_limit() {
        let mut limits = Limits::task_default();
        limits.cost = Some("0.5".parse().unwrap());
        limits.calls = Some(7);
        let mut run = Limits::none();
        run.tokens = Some(500_000);
        run.tasks = Some(150);
        let models = [model(Some(("1", "5"))), model(None)];
        let one = Worst::of_task(&limits, &run, &models, true);
        assert_eq!(
            (one.tokens, one.calls, one.cost),
            (Some(200_000), Some(7), at_most("0.5"))
        );
        let ten = one.times(10, &run, &models);
        assert_eq!(
            (ten.tokens, ten.calls, ten.sub_tasks),
            (Some(500_000), Some(70), Some(150))
        );
        // The second model has no price: its tokens are not paid for by anything but the tasks' own limits.
        assert_eq!(ten.cost, at_most("5"));
        assert_eq!(ten.time, Some(Duration::from_mins(50)));
        run.cost = Some("2".parse().unwrap());
        assert_eq!(one.times(10, &run, &models).cost, at_most("2"));
        let priced = [model(Some(("1", "5")))];
        run.cost = None;
        assert_eq!(
            one.times(10, &run, &priced).cost,
            at_most("2.5"),
            "500,000 tokens in all"
        );
        let none = one.times(0, &Limits::none(), &models);
        assert_eq!(
            (none.tokens, none.cost, none.time),
            (Some(0), at_most("0"), Some(Duration::ZERO))
        );
    }

    #[test]
    fn what_cannot_be_told_is_above_any_bound() {
        let mut limits = Limits::task_default();
        let none = Limits::none();
        let bound = "1000000".parse().unwrap();
        let unpriced = Worst::of_task(&limits, &none, &[model(Some(("1", "5"))), model(None)], true);
        assert_eq!(unpriced.cost, Cost::Unknown);
        assert_eq!(unpriced.times(3, &none, &[model(None)]).cost, Cost::Unknown);
        assert!(unpriced.is_above(bound));
        limits.tokens = None;
        let priced = [model(Some(("1", "5")))];
        let endless = Worst::of_task(&limits, &none, &priced, true);
        assert_eq!((endless.tokens, endless.cost), (None, Cost::Unlimited));
        assert!(endless.is_above(bound));
        let free = Worst::of_task(&limits, &none, &[model(Some(("0", "0")))], true);
        assert_eq!(free.cost, at_most("0"));
        assert!(!free.is_above(Usd::ZERO));
        let mut run = Limits::none();
        run.tokens = Some(1_000_000);
        assert_eq!(Worst::of_task(&limits, &run, &priced, true).cost, at_most("5"));
    }

    #[test]
    fn nothing_is_spent_where_nothing_may_be_asked_or_started() {
        let mut limits = Limits::task_default();
        let none = Limits::none();
        let idle = |worst: Worst| (worst.tokens, worst.calls, worst.cost) == (Some(0), Some(0), at_most("0"));
        assert!(idle(Worst::of_task(&limits, &none, &[], false)));
        assert_eq!(Worst::of_task(&limits, &none, &[], false).sub_tasks, Some(0));
        limits.depth = Some(0);
        assert_eq!(Worst::of_task(&limits, &none, &[], true).sub_tasks, Some(0));
        limits.calls = Some(0);
        assert!(idle(Worst::of_task(&limits, &none, &[model(None)], true)));
    }
}
