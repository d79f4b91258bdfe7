//! The rate limits of one model, or those that the operator set for a whole provider: their known state, the need of a
//! request for each, and the time when it will be available.
//!
//! This state is what processes on the same key share with each other.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bucket::Bucket;
use super::pace::HiddenLimit;
use agenthost_core::llm::{Counting, Quota, RateLimit, Usage};
use agenthost_core::run::WaitReason;

/// The amount that one request takes of each limit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct RequestCost {
    pub(super) tokens: f64,
    pub(super) input: f64,
    pub(super) output: f64,
}

impl RequestCost {
    /// The amount to take when a request is sent that has about `input` tokens, is expected to produce `expected`
    /// tokens and produces at most `output`.
    pub(super) fn ahead(counting: Counting, input: u64, expected: u64, output: u64) -> Self {
        let (input, expected, output) = (input as f64, expected as f64, output as f64);
        Self {
            tokens: match counting {
                Counting::AsUsed => input + expected,
                Counting::UpFront => input.max(output),
            },
            input,
            output: expected,
        }
    }

    /// The amount that the service counted, which replaces the amount taken ahead.
    pub(super) fn counted(self, counting: Counting, usage: Option<&Usage>, answered: bool) -> Self {
        match (counting, usage) {
            (Counting::UpFront, _) => self,
            (Counting::AsUsed, Some(usage)) => {
                let input = usage.input.saturating_sub(usage.cached_input) as f64;
                let output = usage.output as f64;
                Self {
                    tokens: input + output,
                    input,
                    output,
                }
            }
            (Counting::AsUsed, None) if answered => self,
            (Counting::AsUsed, None) => Self::default(),
        }
    }
}

/// The known state of a set of limits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RateLimits {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    input: Option<Bucket>,
    output: Option<Bucket>,
    /// The time before which nothing is sent.
    pub(super) paused_until: u64,
    /// The total that was ever taken, with corrections. It includes limits that are not known yet, for requests that
    /// are in flight when one becomes known.
    taken: Snapshot,
    /// The limit that refusals show and no header names.
    hidden: HiddenLimit,
}

/// The amounts that had been taken of each limit at some moment, such as when a request was sent, including that
/// request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Snapshot {
    requests: f64,
    tokens: f64,
    input: f64,
    output: f64,
}

impl RateLimits {
    /// Creates the limits that the operator set, for all models of a provider together.
    pub(super) fn of_operator(requests: Option<u64>, tokens: Option<u64>, now: u64) -> Self {
        Self {
            requests: requests.map(|rate| Bucket::of_operator(rate, now)),
            tokens: tokens.map(|rate| Bucket::of_operator(rate, now)),
            ..Self::default()
        }
    }

    /// Adopts the state of the same limits that another process recorded, and keeps limits unknown to that process.
    pub(super) fn adopt(&mut self, other: &Self, now: u64) {
        for (own, other) in [
            (&mut self.requests, &other.requests),
            (&mut self.tokens, &other.tokens),
            (&mut self.input, &other.input),
            (&mut self.output, &other.output),
        ] {
            match (own.as_mut(), other) {
                (Some(own), Some(other)) => own.adopt(other, now),
                (None, Some(other)) => {
                    let mut other = *other;
                    other.refill(now);
                    *own = Some(other);
                }
                (_, None) => {}
            }
        }
        self.taken = other.taken;
        self.hidden.adopt(&other.hidden, now);
        /// A longer pause than any service asks for was written by a wrong clock.
        const LONGEST_PAUSE: u64 = 3_600_000;
        if other.paused_until <= now.saturating_add(LONGEST_PAUSE) {
            self.paused_until = self.paused_until.max(other.paused_until);
        }
    }

    /// Like [`RateLimits::adopt`], but only for limits that this process already has.
    pub(super) fn adopt_known(&mut self, other: &Self, now: u64) {
        let kept = Self {
            requests: other.requests.filter(|_| self.requests.is_some()),
            tokens: other.tokens.filter(|_| self.tokens.is_some()),
            taken: other.taken,
            ..Self::default()
        };
        self.adopt(&kept, now);
    }

    fn known(&mut self) -> [(WaitReason, Option<&mut Bucket>); 4] {
        [
            (WaitReason::Requests, self.requests.as_mut()),
            (WaitReason::Tokens, self.tokens.as_mut()),
            (WaitReason::InputTokens, self.input.as_mut()),
            (WaitReason::OutputTokens, self.output.as_mut()),
        ]
    }

    /// Returns whether the service has reported a limit on requests, tokens or input tokens.
    pub(super) fn are_known(&self) -> bool {
        self.requests.is_some() || self.tokens.is_some() || self.input.is_some()
    }

    /// Returns the limit that makes `need` wait longest, and the end of the wait. `None` if the request can be sent
    /// now.
    pub(super) fn wait(&mut self, need: &RequestCost, now: u64) -> Option<(WaitReason, u64)> {
        let mut longest = None;
        if self.paused_until > now {
            longest = Some((WaitReason::RetryAfter, self.paused_until));
        }
        let mut wait_for = |met, wait| {
            let until = now.saturating_add(wait);
            if wait > 0 && longest.is_none_or(|(_, at)| until > at) {
                longest = Some((met, until));
            }
        };
        for (met, bucket) in self.known() {
            let Some(bucket) = bucket else { continue };
            bucket.refill(now);
            wait_for(met, bucket.wait(need.of(met)));
        }
        wait_for(WaitReason::Requests, self.hidden.wait(now));
        longest
    }

    pub(super) fn take(&mut self, need: &RequestCost, now: u64) {
        self.hidden.take(now);
        self.taken.add(need, 1.0);
        self.taken.requests += 1.0;
        for (met, bucket) in self.known() {
            if let Some(bucket) = bucket {
                bucket.take(need.of(met));
            }
        }
    }

    /// Replaces the amount taken ahead by the counted amount.
    pub(super) fn correct(&mut self, taken: &RequestCost, counted: &RequestCost) {
        self.taken.add(taken, -1.0);
        self.taken.add(counted, 1.0);
        for (met, bucket) in self.known() {
            if let Some(bucket) = bucket.filter(|_| met != WaitReason::Requests) {
                bucket.correct(taken.of(met) - counted.of(met));
            }
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.taken
    }

    /// The amount that the reply to a request sent at `sent` may not have counted: all that was taken since.
    pub(super) fn pending(&self, sent: &Snapshot) -> Snapshot {
        let now = self.snapshot();
        Snapshot {
            requests: now.requests - sent.requests,
            tokens: now.tokens - sent.tokens,
            input: now.input - sent.input,
            output: now.output - sent.output,
        }
    }

    /// Takes a reply's headers into account. `in_flight` is the expected output of requests still in flight, which is
    /// not in any count yet.
    pub(super) fn learn(&mut self, quota: &Quota, pending: &Snapshot, in_flight: f64, sent: u64, now: u64) {
        let learn = |bucket: &mut Option<Bucket>, meter: &Option<RateLimit>, pending: f64| match (bucket, meter) {
            (_, None) => {}
            // A limit of zero could never be met.
            (_, Some(meter)) if meter.limit == 0 => {}
            (Some(bucket), Some(meter)) => bucket.learn(meter, pending, sent, now),
            (bucket @ None, Some(meter)) => *bucket = Some(Bucket::of_meter(meter, pending, now)),
        };
        learn(&mut self.requests, &quota.requests, pending.requests);
        learn(&mut self.tokens, &quota.tokens, pending.tokens);
        learn(&mut self.input, &quota.input_tokens, pending.input);
        learn(&mut self.output, &quota.output_tokens, pending.output.max(in_flight));
    }

    /// The most requests like `need` per millisecond that the limits allow. `None` if no limit is known.
    pub(super) fn rate(&mut self, need: &RequestCost) -> Option<f64> {
        let rates = self.known().into_iter().filter_map(|(met, bucket)| {
            let bucket = bucket.filter(|_| need.of(met) > 0.0)?;
            Some(bucket.rate() / need.of(met))
        });
        rates.reduce(f64::min)
    }

    /// Returns whether enough of every limit is left that more concurrency is useful.
    pub(super) fn allow_more(&mut self) -> bool {
        /// Below this share of a limit, the remaining capacity is used up without more concurrency.
        const SCARCE: f64 = 0.1;
        self.known()
            .into_iter()
            .filter_map(|(_, bucket)| bucket)
            .all(|bucket| bucket.share() > SCARCE)
    }

    /// Returns whether the limits explain the rejection of a request like `need`, now that its headers are taken into
    /// account: one is used up, or none is known and rejections show one.
    pub(super) fn explain(&mut self, need: &RequestCost, now: u64) -> bool {
        let used_up = |(met, bucket): (WaitReason, Option<&mut Bucket>)| {
            bucket.is_some_and(|bucket| {
                bucket.refill(now);
                bucket.wait(need.of(met)) > 0
            })
        };
        let hidden = !self.are_known() && !self.hidden.is_doubted(now);
        hidden || self.known().into_iter().any(used_up)
    }

    /// Handles a rejection of a request that was sent at `sent`, for a limit that is used up. Returns the time for
    /// which nothing should be sent.
    pub(super) fn refused(&mut self, sent: u64, now: u64) -> Option<Duration> {
        self.hidden.refused(sent, now)
    }

    /// Returns whether the service accepts nothing at present, as far as its rejections show.
    pub(super) fn are_used_up(&self) -> bool {
        self.hidden.is_used_up()
    }

    /// Handles a rejection of a request that should have fit the known limits.
    pub(super) fn refused_with_room(&mut self) {
        if let Some(bucket) = &mut self.requests {
            bucket.refused();
        }
    }
}

impl Snapshot {
    fn add(&mut self, need: &RequestCost, times: f64) {
        self.tokens += need.tokens * times;
        self.input += need.input * times;
        self.output += need.output * times;
    }
}

impl RequestCost {
    fn of(&self, met: WaitReason) -> f64 {
        match met {
            WaitReason::Tokens => self.tokens,
            WaitReason::InputTokens => self.input,
            WaitReason::OutputTokens => self.output,
            _ => 1.0,
        }
    }
}
