//! A run: the tree of tasks under one root, its events, and its report.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};

use crate::limits::ledger::Used;
use crate::limits::{Spent, Usd};
use crate::task::{Outcome, OutputError, TaskId, TaskReport};

/// The version of the JSON report; readers ignore fields that they do not know.
pub const REPORT_FORMAT: u32 = 1;

/// The id of a run. It sorts by time and needs no quoting in a shell.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// Creates an id: nine digits of the time in milliseconds and five of `seed`, in lower-case base 32.
    #[doc(hidden)]
    pub fn new(now: SystemTime, seed: &[u8; 32]) -> Self {
        const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let millis = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        let random = u64::from_le_bytes(*seed.last_chunk().unwrap_or(&[0; 8]));
        let digits = |number: u64, count: u32| {
            (0..count)
                .rev()
                .filter_map(move |n| DIGITS.get((number >> (5 * n) & 31) as usize))
                .map(|byte| char::from(*byte))
        };
        Self(digits(millis, 9).chain(['-']).chain(digits(random, 5)).collect())
    }
}

impl RunId {
    /// Wraps the recorded id of a run.
    #[doc(hidden)]
    pub fn recorded(id: &str) -> Self {
        Self(id.to_owned())
    }
}

impl AsRef<str> for RunId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An event of a run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A task began.
    Started {
        /// The task.
        task: TaskId,
        /// Its plugin.
        plugin: String,
    },
    /// The plugin reports its progress.
    Progress {
        /// The task.
        task: TaskId,
        /// The number of finished parts.
        done: u32,
        /// The total number of parts, if known.
        total: Option<u32>,
        /// Its message, on one line.
        message: String,
    },
    /// A request of a model call cannot be sent yet. Emitted again every few seconds while it waits.
    CallWaiting {
        /// The task.
        task: TaskId,
        /// The model, as `provider/model`.
        model: String,
        /// The reason for which the first request in the model's queue waits.
        reason: WaitReason,
        /// The time until that request may be sent; `None` if it depends on other requests.
        wait: Option<Duration>,
    },
    /// A request of a model call was sent.
    CallSent {
        /// The task.
        task: TaskId,
        /// The model, as `provider/model`.
        model: String,
    },
    /// A request of a model call failed and is followed by another.
    CallRetried {
        /// The task.
        task: TaskId,
        /// The model, as `provider/model`.
        model: String,
        /// The error of the failed request.
        error: String,
        /// The delay before the next request.
        wait: Duration,
    },
    /// A request of a model call completed and is booked.
    CallSettled {
        /// The task.
        task: TaskId,
        /// The resources that the task has used so far.
        spent: Spent,
        /// The error, if the request failed.
        error: Option<String>,
    },
    /// A task ended.
    Ended {
        /// The task.
        task: TaskId,
        /// Its report, with its outcome.
        report: Arc<TaskReport>,
    },
}

impl Event {
    /// The task that the event is about.
    pub fn task(&self) -> &TaskId {
        match self {
            Self::Started { task, .. }
            | Self::Progress { task, .. }
            | Self::CallWaiting { task, .. }
            | Self::CallSent { task, .. }
            | Self::CallRetried { task, .. }
            | Self::CallSettled { task, .. }
            | Self::Ended { task, .. } => task,
        }
    }
}

/// The reason why a request waits.
///
/// ```
/// use agenthost_core::run::WaitReason;
///
/// assert_eq!(WaitReason::RetryAfter.name(), "retry-after");
/// ```
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WaitReason {
    /// The request limit.
    Requests,
    /// The token limit, input and output together.
    Tokens,
    /// The input token limit.
    InputTokens,
    /// The output token limit.
    OutputTokens,
    /// The service named a time before which it accepts no requests, or it is overloaded.
    RetryAfter,
    /// The service cannot be reached.
    Outage,
    /// The concurrency limit was reached.
    Concurrency,
    /// Another request was writing their common prefix to the provider's cache.
    Prefix,
    /// Other calls hold what is left of a limit on tokens, cost or calls until they settle.
    Budget,
}

impl WaitReason {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::InputTokens => "input-tokens",
            Self::OutputTokens => "output-tokens",
            Self::RetryAfter => "retry-after",
            Self::Outage => "outage",
            Self::Concurrency => "concurrency",
            Self::Prefix => "prefix",
            Self::Budget => "budget",
        }
    }
}

/// The usage of one model in a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ModelReport {
    /// The model name that the plugin asked for.
    pub name: String,
    /// The model that was called, as `provider/model`.
    pub model: String,
    /// Calls whose first request went to this model.
    pub calls: u64,
    /// Requests sent: all attempts, repairs and hedges.
    pub requests: u64,
    /// Requests that were another attempt after a failure.
    pub retries: u64,
    /// Replies that violated their schema and were sent back to be repaired.
    pub repairs: u64,
    /// Requests that were sent in parallel to a slow one.
    pub hedges: u64,
    /// Requests that were sent ahead to write a shared prefix to the provider's cache.
    pub warmed: u64,
    /// Milliseconds that requests waited, before they were sent and between attempts, summed over all of them.
    pub waited_ms: u64,
    /// The reasons for which requests waited, with the number of requests: `requests`, `tokens`, `input-tokens`,
    /// `output-tokens`, `retry-after`, `outage`, `concurrency`, `prefix`; and under `rate-limited`, the number of
    /// requests that were rejected.
    pub limits_met: BTreeMap<String, u64>,
    /// The requests that failed, by the kind of the error, such as `authentication` or `server`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub errors: BTreeMap<String, u64>,
    /// Requests that were dropped after they had been sent. The provider's usage count for them is unknown, so they are
    /// charged their worst case, which is included in the tokens and the cost here.
    pub abandoned: Abandoned,
    /// Requests of which the provider counted more than was reserved for them.
    #[serde(skip_serializing_if = "Overshoot::is_none")]
    pub overshoot: Overshoot,
    /// Input tokens, including cached ones.
    pub input_tokens: u64,
    /// The part of the input that was read from the provider's cache.
    pub cached_input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Searches that the provider made and bills.
    #[serde(skip_serializing_if = "is_zero")]
    pub searches: u64,
    /// The cost, if the price is known.
    pub cost_usd: Option<Usd>,
    /// `true` if the offline provider generated the replies on this machine.
    pub offline: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Requests that were sent and whose cost is unknown, because they were dropped or their replies broke off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Abandoned {
    /// The number of requests.
    pub requests: u64,
    /// The tokens that were charged for them: the reserved amount, which is the most that the provider may have
    /// counted.
    pub at_most_tokens: u64,
}

impl Abandoned {
    /// Returns the entry for one request that is charged `used`.
    #[doc(hidden)]
    pub fn one(used: &Used) -> Self {
        Self {
            requests: 1,
            at_most_tokens: used.input.saturating_add(used.output),
        }
    }
}

/// Requests of which the provider counted more than was reserved for them, because it ignored the output limit or
/// counted more input than was estimated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overshoot {
    /// The number of requests.
    pub requests: u64,
    /// The tokens that were reserved for them.
    pub reserved_tokens: u64,
    /// The tokens that the provider counted.
    pub used_tokens: u64,
}

impl Overshoot {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl ModelReport {
    /// Creates an empty report on `model`, written `provider/model`, behind the model name `name`.
    ///
    /// ```
    /// use agenthost_core::run::ModelReport;
    ///
    /// let report = ModelReport::new("fast", "local/small");
    /// assert_eq!((report.requests, report.cost_usd), (0, None));
    /// ```
    pub fn new(name: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            model: model.into(),
            ..Self::default()
        }
    }

    /// Sets the tokens and the cost.
    #[doc(hidden)]
    #[must_use]
    pub fn with_used(mut self, used: &Used) -> Self {
        self.input_tokens = used.input;
        self.cached_input_tokens = used.cached_input;
        self.output_tokens = used.output;
        self.cost_usd = used.cost;
        self
    }

    /// Adds this to the entry with the same name and model, or appends it.
    pub fn into_list(self, list: &mut Vec<Self>) {
        match list
            .iter_mut()
            .find(|entry| entry.name == self.name && entry.model == self.model)
        {
            Some(entry) => entry.add(&self),
            None => list.push(self),
        }
    }

    fn add(&mut self, other: &Self) {
        let Self {
            calls,
            requests,
            retries,
            repairs,
            hedges,
            warmed,
            waited_ms,
            abandoned,
            overshoot,
            input_tokens,
            cached_input_tokens,
            output_tokens,
            searches,
            ..
        } = self;
        for (sum, more) in [
            (calls, other.calls),
            (requests, other.requests),
            (retries, other.retries),
            (repairs, other.repairs),
            (hedges, other.hedges),
            (warmed, other.warmed),
            (waited_ms, other.waited_ms),
            (&mut abandoned.requests, other.abandoned.requests),
            (&mut abandoned.at_most_tokens, other.abandoned.at_most_tokens),
            (&mut overshoot.requests, other.overshoot.requests),
            (&mut overshoot.reserved_tokens, other.overshoot.reserved_tokens),
            (&mut overshoot.used_tokens, other.overshoot.used_tokens),
            (input_tokens, other.input_tokens),
            (cached_input_tokens, other.cached_input_tokens),
            (output_tokens, other.output_tokens),
            (searches, other.searches),
        ] {
            *sum = sum.saturating_add(more);
        }
        for (met, times) in &other.limits_met {
            *self.limits_met.entry(met.clone()).or_default() += times;
        }
        for (kind, times) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += times;
        }
        self.cost_usd = self
            .cost_usd
            .zip(other.cost_usd)
            .map(|(sum, cost)| sum.saturating_add(cost));
    }
}

/// The report of a run that has ended.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct RunReport {
    /// [`REPORT_FORMAT`].
    pub format: u32,
    /// The id of the run.
    pub run: RunId,
    /// The outcome of the root task.
    pub outcome: Outcome,
    /// The usage of the whole run.
    pub spent: Spent,
    /// Every task, including the root.
    #[serde(serialize_with = "shared")]
    pub tasks: Vec<Arc<TaskReport>>,
    /// The usage of each model.
    pub models: Vec<ModelReport>,
    /// The differences between a replay and its record; `None` for a run that is not a replay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub differences: Option<Vec<Difference>>,
    /// The hint for a fault of the host that ended the run, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// A difference between a run and its replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The task.
    pub task: TaskId,
    /// The number of the model call or sub-task among those of the task, counted from 0; `None` if the difference is
    /// about neither.
    pub ask: Option<u64>,
    /// A description of the difference.
    pub what: String,
}

fn shared<S: Serializer>(tasks: &[Arc<TaskReport>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(tasks.iter().map(|task| &**task))
}

impl RunReport {
    /// Creates the report of a run without tasks.
    ///
    /// ```
    /// use std::time::SystemTime;
    /// use agenthost_core::run::{RunId, RunReport};
    /// use agenthost_core::task::Outcome;
    /// use serde_json::json;
    ///
    /// let report = RunReport::new(RunId::new(SystemTime::now(), &[0; 32]), Outcome::Ok(json!(42)));
    /// assert_eq!(report.output::<u32>().ok(), Some(42));
    /// assert!(report.tasks.is_empty() && !report.is_offline());
    /// ```
    pub fn new(run: RunId, outcome: Outcome) -> Self {
        Self {
            format: REPORT_FORMAT,
            run,
            outcome,
            spent: Spent::default(),
            tasks: Vec::new(),
            models: Vec::new(),
            differences: None,
            hint: None,
        }
    }

    /// Returns the output of the root task as a value of the program's own type.
    ///
    /// # Errors
    ///
    /// As [`Outcome::output`].
    pub fn output<T: DeserializeOwned>(&self) -> Result<T, OutputError> {
        self.outcome.output()
    }

    /// Returns whether the offline provider generated any reply.
    pub fn is_offline(&self) -> bool {
        self.models.iter().any(|model| model.offline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_sort_by_time_and_are_shell_words() {
        let at = |millis| RunId::new(SystemTime::UNIX_EPOCH + Duration::from_millis(millis), &[7; 32]);
        let (earlier, later) = (at(1_795_000_000_000), at(1_795_000_000_001));
        assert!(earlier < later);
        assert_eq!(earlier.to_string().len(), 15);
        assert!(
            later
                .to_string()
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        );
    }
}
