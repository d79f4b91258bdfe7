//! The rate limits of one model, or those that the operator set for a whole provider: what is known of them, what a
//! request needs of each, and when that will be there.
//!
//! What is known is all that other processes on the same key need to know too, so this is what is shared.

use serde::{Deserialize, Serialize};

use super::bucket::Bucket;
use agenthost_core::llm::{Counting, Meter, Quota, Usage};

/// What made a request wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Met {
    /// The limit of requests.
    Requests,
    /// The limit of tokens, input and output together.
    Tokens,
    /// The limit of input tokens.
    InputTokens,
    /// The limit of output tokens.
    OutputTokens,
    /// The service named a time before which it wants nothing.
    RetryAfter,
    /// As many requests as may be were in flight.
    Concurrency,
    /// Another request was writing the prefix that they share to the provider's cache.
    Prefix,
}

impl Met {
    /// The name, as reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::InputTokens => "input-tokens",
            Self::OutputTokens => "output-tokens",
            Self::RetryAfter => "retry-after",
            Self::Concurrency => "concurrency",
            Self::Prefix => "prefix",
        }
    }
}

/// What one request takes of each limit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Need {
    pub(super) tokens: f64,
    pub(super) input: f64,
    pub(super) output: f64,
}

impl Need {
    /// What is taken when a request is sent that will have about `input` tokens, is expected to make `expected` and makes
    /// at most `output`.
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

    /// What the service counted, which takes the place of what was taken ahead.
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

/// What is known of a set of limits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Meters {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    input: Option<Bucket>,
    output: Option<Bucket>,
    /// Nothing is sent before this.
    pub(super) paused_until: u64,
    /// All that was ever taken, corrections included; also of limits that are not known yet, for requests that are in
    /// flight when one becomes known.
    taken: Snapshot,
}

/// How much had been taken of each limit at some moment, such as when a request was sent, itself included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Snapshot {
    requests: f64,
    tokens: f64,
    input: f64,
    output: f64,
}

impl Meters {
    /// The limits that the operator set, for all models of a provider together.
    pub(super) fn of_operator(requests: Option<u64>, tokens: Option<u64>, now: u64) -> Self {
        Self {
            requests: requests.map(|rate| Bucket::of_operator(rate, now)),
            tokens: tokens.map(|rate| Bucket::of_operator(rate, now)),
            ..Self::default()
        }
    }

    /// Takes over what another process wrote down of the same limits; what it knew nothing of stays.
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
        /// Longer pauses than any service asks for come from a clock that was wrong.
        const LONGEST_PAUSE: u64 = 3_600_000;
        if other.paused_until <= now.saturating_add(LONGEST_PAUSE) {
            self.paused_until = self.paused_until.max(other.paused_until);
        }
    }

    /// As [`Meters::adopt`], of those limits that this process keeps by itself.
    pub(super) fn adopt_known(&mut self, other: &Self, now: u64) {
        let kept = Self {
            requests: other.requests.filter(|_| self.requests.is_some()),
            tokens: other.tokens.filter(|_| self.tokens.is_some()),
            taken: other.taken,
            ..Self::default()
        };
        self.adopt(&kept, now);
    }

    fn known(&mut self) -> [(Met, Option<&mut Bucket>); 4] {
        [
            (Met::Requests, self.requests.as_mut()),
            (Met::Tokens, self.tokens.as_mut()),
            (Met::InputTokens, self.input.as_mut()),
            (Met::OutputTokens, self.output.as_mut()),
        ]
    }

    /// Whether the service has told its limit of requests.
    pub(super) fn are_known(&self) -> bool {
        self.requests.is_some() || self.tokens.is_some() || self.input.is_some()
    }

    /// The limit that makes `need` wait longest, and until when; none if it can go now.
    pub(super) fn wait(&mut self, need: &Need, now: u64) -> Option<(Met, u64)> {
        let mut longest = None;
        if self.paused_until > now {
            longest = Some((Met::RetryAfter, self.paused_until));
        }
        for (met, bucket) in self.known() {
            let Some(bucket) = bucket else { continue };
            bucket.refill(now);
            let wait = bucket.wait(need.of(met));
            let until = now.saturating_add(wait);
            if wait > 0 && longest.is_none_or(|(_, at)| until > at) {
                longest = Some((met, until));
            }
        }
        longest
    }

    pub(super) fn take(&mut self, need: &Need) {
        self.taken.add(need, 1.0);
        self.taken.requests += 1.0;
        for (met, bucket) in self.known() {
            if let Some(bucket) = bucket {
                bucket.take(need.of(met));
            }
        }
    }

    /// Puts what was counted in the place of what was taken ahead.
    pub(super) fn correct(&mut self, taken: &Need, counted: &Need) {
        self.taken.add(taken, -1.0);
        self.taken.add(counted, 1.0);
        for (met, bucket) in self.known() {
            if let Some(bucket) = bucket.filter(|_| met != Met::Requests) {
                bucket.correct(taken.of(met) - counted.of(met));
            }
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.taken
    }

    /// What may not be in the count of an answer to a request that was sent at `sent`: all that was taken since.
    pub(super) fn pending(&self, sent: &Snapshot) -> Snapshot {
        let now = self.snapshot();
        Snapshot {
            requests: now.requests - sent.requests,
            tokens: now.tokens - sent.tokens,
            input: now.input - sent.input,
            output: now.output - sent.output,
        }
    }

    /// Takes an answer's headers into account. `in_flight` is the output that is expected of requests still in flight,
    /// which no count has yet.
    pub(super) fn learn(&mut self, quota: &Quota, pending: &Snapshot, in_flight: f64, sent: u64, now: u64) {
        let learn = |bucket: &mut Option<Bucket>, meter: &Option<Meter>, pending: f64| match (bucket, meter) {
            (_, None) => {}
            // A limit of nothing is none that could be kept.
            (_, Some(meter)) if meter.limit == 0 => {}
            (Some(bucket), Some(meter)) => bucket.learn(meter, pending, sent, now),
            (bucket @ None, Some(meter)) => *bucket = Some(Bucket::of_meter(meter, pending, now)),
        };
        learn(&mut self.requests, &quota.requests, pending.requests);
        learn(&mut self.tokens, &quota.tokens, pending.tokens);
        learn(&mut self.input, &quota.input_tokens, pending.input);
        learn(&mut self.output, &quota.output_tokens, pending.output.max(in_flight));
    }

    /// Whether enough is left of every limit that more at once makes sense.
    pub(super) fn allow_more(&mut self) -> bool {
        /// Below this share of a limit, what there is will be used without more places.
        const SCARCE: f64 = 0.1;
        self.known()
            .into_iter()
            .filter_map(|(_, bucket)| bucket)
            .all(|bucket| bucket.share() > SCARCE)
    }

    /// The service refused a request that it had room for by its own numbers.
    pub(super) fn refused(&mut self) {
        if let Some(bucket) = &mut self.requests {
            bucket.refused();
        }
    }
}

impl Snapshot {
    fn add(&mut self, need: &Need, times: f64) {
        self.tokens += need.tokens * times;
        self.input += need.input * times;
        self.output += need.output * times;
    }
}

impl Need {
    fn of(&self, met: Met) -> f64 {
        match met {
            Met::Tokens => self.tokens,
            Met::InputTokens => self.input,
            Met::OutputTokens => self.output,
            Met::Requests | Met::RetryAfter | Met::Concurrency | Met::Prefix => 1.0,
        }
    }
}
