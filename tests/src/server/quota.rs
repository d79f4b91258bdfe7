//! Rate limits of the scripted server: buckets that refill all the time, counted as each vendor counts.
//!
//! Anthropic estimates the input when a request arrives, puts the estimate right when the reply is done, leaves out
//! what came from the cache, and counts output as it was made; `max_tokens` counts nothing. OpenAI takes the larger of
//! `max_tokens` and the estimate at once and for good, and a request that it refuses counts as a request all the same.
//! An estimate is a quarter of the body's bytes. What is not written down by the vendors is chosen here: a request that
//! failed at Anthropic gives its input back, and one refused for its tokens at OpenAI takes none.

mod write;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Request;
use super::reply::{Reply, Usage};

/// A vendor's wire, headers and way of counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// The Messages API.
    Anthropic,
    /// Chat completions.
    OpenAi,
}

impl Dialect {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Anthropic, Self::OpenAi];
}

/// The server's limits; `None` means no limit.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Requests a minute.
    pub requests_per_minute: Option<u64>,
    /// Input tokens a minute; Anthropic alone.
    pub input_tokens_per_minute: Option<u64>,
    /// Output tokens a minute; Anthropic alone.
    pub output_tokens_per_minute: Option<u64>,
    /// Tokens a minute; OpenAI alone.
    pub tokens_per_minute: Option<u64>,
    /// A bucket holds what refills in this time; the headers show the minute's limit all the same.
    pub burst: Duration,
    /// `true` if a refusal states when to retry.
    pub retry_after: bool,
    /// The most requests in flight; one more gets an overload error.
    pub concurrency: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_minute: None,
            input_tokens_per_minute: None,
            output_tokens_per_minute: None,
            tokens_per_minute: None,
            burst: Duration::from_mins(1),
            retry_after: true,
            concurrency: None,
        }
    }
}

/// The unit that a bucket counts, as the headers name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Requests,
    Tokens,
    InputTokens,
    OutputTokens,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::InputTokens => "input-tokens",
            Self::OutputTokens => "output-tokens",
        }
    }
}

#[derive(Debug)]
struct Bucket {
    unit: Unit,
    /// A minute's.
    limit: u64,
    capacity: f64,
    /// Below zero where more output was made than there was room for.
    level: f64,
    at: Instant,
    /// All that was taken, corrections included.
    given: f64,
}

impl Bucket {
    fn new(unit: Unit, limit: u64, burst: Duration) -> Self {
        let capacity = (limit as f64 / 60.0 * burst.as_secs_f64()).max(1.0);
        Self {
            unit,
            limit,
            capacity,
            level: capacity,
            at: Instant::now(),
            given: 0.0,
        }
    }

    fn per_second(&self) -> f64 {
        self.limit as f64 / 60.0
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + passed * self.per_second()).min(self.capacity);
        self.at = self.at.max(now);
    }

    /// Until `level` is there.
    fn until(&self, level: f64) -> Duration {
        Duration::from_secs_f64((level - self.level).max(0.0) / self.per_second())
    }

    fn take(&mut self, amount: f64) {
        self.level = (self.level - amount).min(self.capacity);
        self.given += amount;
    }
}

/// The amounts that an admitted request holds until its reply is done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Charge {
    input: f64,
}

#[derive(Debug)]
pub(super) struct Quota {
    dialect: Dialect,
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    buckets: Vec<Bucket>,
    arrivals: Option<(Instant, Instant)>,
}

impl Quota {
    pub(super) fn new(dialect: Dialect, limits: Limits) -> Self {
        let all = [
            (Unit::Requests, limits.requests_per_minute),
            (Unit::Tokens, limits.tokens_per_minute),
            (Unit::InputTokens, limits.input_tokens_per_minute),
            (Unit::OutputTokens, limits.output_tokens_per_minute),
        ];
        let foreign: &[Unit] = match dialect {
            Dialect::Anthropic => &[Unit::Tokens],
            Dialect::OpenAi => &[Unit::InputTokens, Unit::OutputTokens],
        };
        let wanted = all.into_iter().filter_map(|(unit, limit)| Some((unit, limit?)));
        let buckets = wanted.map(|(unit, limit)| {
            assert!(!foreign.contains(&unit), "{dialect:?} has no limit of {}", unit.name());
            Bucket::new(unit, limit, limits.burst)
        });
        let buckets = buckets.collect();
        Self {
            dialect,
            limits,
            state: Mutex::new(State {
                buckets,
                arrivals: None,
            }),
        }
    }

    /// Lets a request in that has just arrived, or refuses it.
    pub(super) fn admit(&self, request: &Request) -> Result<Charge, Box<Reply>> {
        let now = request.arrived;
        let mut state = self.state.lock().unwrap();
        state.arrivals = Some((state.arrivals.map_or(now, |(first, _)| first), now));
        for bucket in &mut state.buckets {
            bucket.refill(now);
        }
        let refused = self.refusal(&state.buckets, request);
        let input = estimate(request);
        for bucket in &mut state.buckets {
            let need = self.need(bucket.unit, request);
            match (&refused, self.dialect, bucket.unit) {
                (None, _, Unit::OutputTokens) => {}
                (None, ..) => bucket.take(need),
                // It counts, but no debt is made of it.
                (Some(_), Dialect::OpenAi, Unit::Requests) => bucket.level = (bucket.level - 1.0).max(0.0),
                (Some(_), ..) => {}
            }
        }
        match refused {
            None => Ok(Charge { input }),
            Some(Refusal::Overloaded) => Err(Box::new(write::overloaded(self.dialect))),
            Some(Refusal::Never { limit, requested }) => Err(Box::new(write::too_large(limit, requested))),
            Some(Refusal::Limited(unit)) => {
                let after = state.buckets.iter().map(|bucket| {
                    let need = self.need(bucket.unit, request).min(bucket.capacity);
                    bucket.until(need)
                });
                let after = after.max().filter(|_| self.limits.retry_after);
                Err(Box::new(write::limited(self.dialect, unit, request, after)))
            }
        }
    }

    /// Corrects the estimate once the reply is done. Nothing was used if there is no count.
    pub(super) fn settle(&self, charge: Charge, usage: Option<Usage>, now: Instant) {
        if self.dialect == Dialect::OpenAi {
            return;
        }
        let usage = usage.unwrap_or_default();
        for bucket in &mut self.state.lock().unwrap().buckets {
            bucket.refill(now);
            match bucket.unit {
                Unit::InputTokens => bucket.take((usage.input - usage.cached) as f64 - charge.input),
                Unit::OutputTokens => bucket.take(usage.output as f64),
                Unit::Requests | Unit::Tokens => {}
            }
        }
    }

    /// The headers of an answer that goes out now.
    pub(super) fn headers(&self, now: Instant) -> Vec<(String, String)> {
        let mut state = self.state.lock().unwrap();
        let mut meters = Vec::new();
        for bucket in &mut state.buckets {
            bucket.refill(now);
            meters.push(write::Meter {
                unit: bucket.unit,
                limit: bucket.limit,
                remaining: bucket.level.max(0.0) as u64,
                reset: bucket.until(bucket.capacity),
            });
        }
        write::headers(self.dialect, &meters)
    }

    /// Of each bucket its name, and what was taken of what it gave between the first arrival and the last: what it held
    /// at first, and what refilled.
    pub(super) fn shares(&self) -> Vec<(&'static str, f64)> {
        let state = self.state.lock().unwrap();
        let passed = state.arrivals.map_or(Duration::ZERO, |(first, last)| last - first);
        let share = |bucket: &Bucket| {
            let there = bucket.capacity + bucket.per_second() * passed.as_secs_f64();
            (bucket.unit.name(), bucket.given / there)
        };
        state.buckets.iter().map(share).collect()
    }

    fn refusal(&self, buckets: &[Bucket], request: &Request) -> Option<Refusal> {
        if self.limits.concurrency.is_some_and(|most| request.in_flight > most) {
            return Some(Refusal::Overloaded);
        }
        for bucket in buckets {
            let need = self.need(bucket.unit, request);
            if self.dialect == Dialect::OpenAi && need > bucket.limit as f64 {
                return Some(Refusal::Never {
                    limit: bucket.limit,
                    requested: need as u64,
                });
            }
            // The clock's resolution must not refuse what comes at the very moment that was announced.
            if bucket.level + 1e-6 < need.min(bucket.capacity) {
                return Some(Refusal::Limited(bucket.unit));
            }
        }
        None
    }

    /// The amounts that must be available to admit a request.
    fn need(&self, unit: Unit, request: &Request) -> f64 {
        match unit {
            // Output is counted when it is made: any room will do.
            Unit::Requests | Unit::OutputTokens => 1.0,
            Unit::InputTokens => estimate(request),
            Unit::Tokens => estimate(request).max(request.max_tokens().unwrap_or_default() as f64),
        }
    }
}

enum Refusal {
    Overloaded,
    Limited(Unit),
    Never { limit: u64, requested: u64 },
}

/// The tokens of a request's input before anyone has counted them.
fn estimate(request: &Request) -> f64 {
    (request.bytes as f64 / 4.0).ceil()
}

/// The body of an error, in the form of the dialect.
pub(super) fn error_body(dialect: Dialect, kind: &str, code: Option<&str>, message: &str) -> String {
    match dialect {
        Dialect::Anthropic => {
            let mut error = json!({"type": kind, "message": message});
            if let Some(code) = code {
                error["details"] = json!({"error_code": code});
            }
            json!({"type": "error", "error": error, "request_id": "req_1"})
        }
        Dialect::OpenAi => json!({"error": {"message": message, "type": kind, "param": null, "code": code}}),
    }
    .to_string()
}
