//! The format of a scenario file. Times are seconds of simulated time since the start, rates are per minute.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{RETRIES, Settings};
use agenthost_core::llm::{Caching, Counting};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Scenario {
    /// The expected behavior, for people.
    pub(super) about: String,
    #[serde(default)]
    pub(super) gate: GatePart,
    pub(super) service: ServicePart,
    /// The changes of the service, in the order of time.
    #[serde(default)]
    pub(super) phase: Vec<Phase>,
    pub(super) load: Vec<Load>,
    pub(super) expect: Expect,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub(super) struct GatePart {
    pub(super) max_concurrency: Option<u32>,
    pub(super) requests_per_minute: Option<u64>,
    pub(super) tokens_per_minute: Option<u64>,
    pub(super) retries: Option<u32>,
    pub(super) counting: CountingName,
    pub(super) caching: CachingName,
    /// The number of processes that share the calls and a file.
    pub(super) processes: Option<usize>,
}

impl GatePart {
    pub(super) fn settings(&self) -> Settings {
        Settings {
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
            max_concurrency: self.max_concurrency,
            retries: self.retries.unwrap_or(RETRIES),
            counting: match self.counting {
                CountingName::AsUsed => Counting::AsUsed,
                CountingName::UpFront => Counting::UpFront,
            },
            caching: match self.caching {
                CachingName::None => Caching::None,
                CachingName::Marked => Caching::Marked,
                CachingName::Automatic => Caching::Automatic,
            },
            ..Settings::default()
        }
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum CountingName {
    #[default]
    AsUsed,
    UpFront,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum CachingName {
    #[default]
    None,
    Marked,
    Automatic,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ServicePart {
    pub(super) headers: Headers,
    #[serde(default)]
    pub(super) retry_after: RetryAfter,
    /// Milliseconds that a burst must fit into: by default a minute's worth.
    #[serde(default = "minute")]
    pub(super) holds_ms: f64,
    /// The window of its limits, in seconds.
    #[serde(default = "window")]
    pub(super) window_s: f64,
    /// `true` if a limit is given back at once at the end of each window, instead of continuously.
    #[serde(default)]
    pub(super) fixed_windows: bool,
    /// The share by which latency varies, up or down.
    #[serde(default)]
    pub(super) jitter: f64,
    /// Milliseconds that each token of output takes, in addition to the latency.
    #[serde(default)]
    pub(super) token_ms: f64,
    /// `true` if the requests share the slots evenly, as with continuous batching, instead of waiting for one.
    #[serde(default)]
    pub(super) even: bool,
    #[serde(default)]
    pub(super) caches: bool,
    /// The condition of the service at the start.
    #[serde(flatten)]
    pub(super) start: Condition,
}

fn minute() -> f64 {
    60_000.0
}

fn window() -> f64 {
    60.0
}

/// The limits that the headers of replies report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Headers {
    None,
    /// Requests and tokens, as they were when the request was counted.
    Together,
    /// Requests, input and output separately, as they are when the reply is sent, tokens rounded to thousands.
    Apart,
}

/// The `retry-after` of a rejection.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RetryAfter {
    #[default]
    None,
    /// The wait in whole seconds, rounded up.
    Seconds,
    /// Always "0".
    Zero,
}

/// The settings that may change from phase to phase. `None` leaves a setting unchanged; a limit that is never given
/// does not exist.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct Condition {
    pub(super) requests: Option<f64>,
    pub(super) tokens: Option<f64>,
    pub(super) input_tokens: Option<f64>,
    pub(super) output_tokens: Option<f64>,
    pub(super) latency_ms: Option<f64>,
    /// The number of concurrent requests of all models together; more are answered with `over`.
    pub(super) bears: Option<u32>,
    /// 429, 503 or 529.
    pub(super) over: Option<u16>,
    /// Every request is answered with `over`.
    pub(super) down: Option<bool>,
    /// The share of every limit that other clients use all the time.
    pub(super) others: Option<f64>,
    /// The number of requests that are served at once; more wait for a slot and are never refused.
    pub(super) slots: Option<u32>,
    /// `true` if nothing listens at the address. Requests in flight at the start of this condition lose their connection.
    pub(super) gone: Option<bool>,
    /// The share of requests that are refused with 429 at random.
    pub(super) moody: Option<f64>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Phase {
    pub(super) at: f64,
    #[serde(flatten)]
    pub(super) change: Condition,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub(super) struct Load {
    pub(super) at: f64,
    pub(super) calls: u32,
    /// Seconds between one call and the next.
    pub(super) every: f64,
    pub(super) model: String,
    pub(super) line: String,
    pub(super) input: u64,
    /// The share by which the estimate of the input errs high.
    pub(super) overestimate: f64,
    /// The minimum and the maximum number of output tokens of a reply.
    pub(super) output: [u64; 2],
    pub(super) max_output: u64,
    /// `true` if the calls share a prefix, which is all but a hundred input tokens.
    pub(super) prefix: bool,
    /// Set if the service never answers; the caller stops waiting after this many seconds.
    pub(super) hangs: Option<f64>,
    /// Seconds from the call until the task's deadline.
    pub(super) deadline: Option<f64>,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            at: 0.0,
            calls: 1,
            every: 0.0,
            model: "m".into(),
            line: "a".into(),
            input: 1_000,
            overestimate: 0.0,
            output: [200, 200],
            max_output: 1_000,
            prefix: false,
            hangs: None,
            deadline: None,
        }
    }
}

/// Bounds on the observed events. A call that was neither answered nor dropped by its caller has failed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Expect {
    /// The latest time at which the last call is done.
    pub(super) within: f64,
    /// The maximum number of failed calls.
    #[serde(default)]
    pub(super) failed: usize,
    /// The maximum number of requests sent.
    pub(super) sent: Option<usize>,
    /// The maximum number in flight to one model before the first reply.
    #[serde(default = "four")]
    pub(super) start: i64,
    /// The bounds of the peak number in flight.
    pub(super) peak: Option<[i64; 2]>,
    /// The exact number of requests that led others.
    #[serde(default)]
    pub(super) leads: usize,
    /// The minimum number of replies that read the cache.
    #[serde(default)]
    pub(super) hits: usize,
    #[serde(default)]
    pub(super) errors: Vec<Errors>,
    #[serde(default)]
    pub(super) falls: Vec<Falls>,
    #[serde(default)]
    pub(super) rises: Vec<Falls>,
    #[serde(default)]
    pub(super) uses: Vec<Uses>,
    #[serde(default)]
    pub(super) rates: Vec<Rate>,
    #[serde(default)]
    pub(super) medians: Vec<Median>,
    /// The latest time at which the last call of a line is done.
    #[serde(default)]
    pub(super) line_within: BTreeMap<String, f64>,
}

fn four() -> i64 {
    4
}

/// The maximum number of replies with a status in an interval.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Errors {
    pub(super) status: u16,
    pub(super) most: usize,
    #[serde(default)]
    pub(super) from: f64,
    #[serde(default = "always")]
    pub(super) until: f64,
}

fn always() -> f64 {
    f64::INFINITY
}

/// Within `within` seconds after `after`, at most (`falls`) or at least (`rises`) `to` requests are in flight at some
/// time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Falls {
    pub(super) after: f64,
    pub(super) within: f64,
    pub(super) to: i64,
}

/// The minimum share of the scarcest limit's refill that is used between two moments.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Uses {
    #[serde(default = "m")]
    pub(super) model: String,
    pub(super) from: f64,
    pub(super) until: f64,
    pub(super) share: f64,
}

/// The minimum number of replies per second in an interval.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rate {
    pub(super) from: f64,
    pub(super) until: f64,
    pub(super) least: f64,
}

/// The maximum of the median latency, in seconds, of the replies in an interval.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Median {
    #[serde(default)]
    pub(super) from: f64,
    #[serde(default = "always")]
    pub(super) until: f64,
    pub(super) most: f64,
}

fn m() -> String {
    "m".into()
}
