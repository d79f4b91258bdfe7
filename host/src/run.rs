//! A run: the tree of tasks under one root, what can be watched of it, and its report.

use std::fmt;
use std::time::SystemTime;

use serde::Serialize;

use crate::limits::{Spent, Usd};
use crate::task::{Outcome, TaskId, TaskReport};

/// The version of the JSON report; readers ignore fields that they do not know.
pub const REPORT_FORMAT: u32 = 1;

/// The name of a run: sorts by time, fits a shell word.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// A new name: nine digits of the time in milliseconds and five of `seed`, in lower-case base 32.
    pub(crate) fn new(now: SystemTime, seed: &[u8; 32]) -> Self {
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

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something happened in a run.
#[derive(Debug, Clone)]
pub enum Event {
    /// A task began.
    Started {
        /// Which.
        task: TaskId,
        /// Its plugin.
        plugin: String,
    },
    /// The plugin says how far it is.
    Progress {
        /// Which task.
        task: TaskId,
        /// Parts done.
        done: u32,
        /// Parts in all, where it knows.
        total: Option<u32>,
        /// Its words, on one line.
        message: String,
    },
    /// A model call was sent.
    CallSent {
        /// Which task.
        task: TaskId,
        /// The model, as `provider/model`.
        model: String,
    },
    /// A model call came back and is in the books.
    CallSettled {
        /// Which task.
        task: TaskId,
        /// What the task has used by now.
        spent: Spent,
        /// Why it failed, if it did.
        error: Option<String>,
    },
    /// A task ended.
    Ended {
        /// Which.
        task: TaskId,
    },
}

impl Event {
    /// The task that it is about.
    pub fn task(&self) -> &TaskId {
        match self {
            Self::Started { task, .. }
            | Self::Progress { task, .. }
            | Self::CallSent { task, .. }
            | Self::CallSettled { task, .. }
            | Self::Ended { task } => task,
        }
    }
}

/// What one model was used for in a run.
#[derive(Debug, Clone, Serialize)]
pub struct ModelReport {
    /// The model name that was asked for.
    pub name: String,
    /// What answered, as `provider/model`.
    pub model: String,
    /// Calls sent.
    pub calls: u64,
    /// Input tokens, cached ones included.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Money, where the price is known.
    pub cost_usd: Option<Usd>,
    /// Whether the answers were made up on this machine by the offline provider.
    pub offline: bool,
}

impl ModelReport {
    /// Adds this to the entry of the same name and model, or as an entry of its own.
    pub(crate) fn into_list(self, list: &mut Vec<Self>) {
        match list
            .iter_mut()
            .find(|entry| entry.name == self.name && entry.model == self.model)
        {
            Some(entry) => entry.add(&self),
            None => list.push(self),
        }
    }

    fn add(&mut self, other: &Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.cost_usd = self
            .cost_usd
            .zip(other.cost_usd)
            .map(|(sum, cost)| sum.saturating_add(cost));
    }
}

/// What is known of a run once it has ended.
#[derive(Debug, Clone, Serialize)]
pub struct RunReport {
    /// [`REPORT_FORMAT`].
    pub format: u32,
    /// Its name.
    pub run: RunId,
    /// How its root came out.
    pub outcome: Outcome,
    /// What all of it used.
    pub spent: Spent,
    /// Every task, the root included.
    pub tasks: Vec<TaskReport>,
    /// What each model was used for.
    pub models: Vec<ModelReport>,
}

impl RunReport {
    /// Whether any answer was made up by the offline provider.
    pub fn is_offline(&self) -> bool {
        self.models.iter().any(|model| model.offline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
