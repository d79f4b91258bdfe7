//! Runs and tasks as the commands show them.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Value, json};

use super::batch::raised;
use super::table;
use agenthost::error::Error;
use agenthost::journal::{JournalStore, RunKind, RunRecord, RunStatus, RunSummary, StopRecord, TaskCounts, TaskRecord};
use agenthost::limits::{Spent, Usd};
use agenthost::printable::shell_word;
use agenthost::run::ModelReport;
use agenthost::task::{Failure, Outcome};

/// The resources that a run or a task used.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Used {
    pub(super) input_tokens: u64,
    pub(super) cached_input_tokens: u64,
    pub(super) output_tokens: u64,
    /// `None` if a price is not known.
    pub(super) cost_usd: Option<Usd>,
    pub(super) calls: u64,
}

impl Used {
    /// Returns no use, at no cost.
    pub(super) fn nothing() -> Self {
        Self {
            cost_usd: Some(Usd::ZERO),
            ..Self::default()
        }
    }

    pub(super) fn of(spent: &Spent) -> Self {
        Self {
            input_tokens: spent.input_tokens,
            cached_input_tokens: spent.cached_input_tokens,
            output_tokens: spent.output_tokens,
            cost_usd: spent.known_cost(),
            calls: spent.calls,
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.cached_input_tokens = self.cached_input_tokens.saturating_add(other.cached_input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.calls = self.calls.saturating_add(other.calls);
        let costs = self.cost_usd.zip(other.cost_usd);
        self.cost_usd = costs.map(|(sum, cost)| sum.saturating_add(cost));
    }

    pub(super) fn tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    pub(super) fn cost(&self) -> String {
        self.cost_usd.map_or_else(|| "unknown".into(), |cost| cost.to_string())
    }
}

/// The state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunProgress {
    Running,
    Ended(RunStatus),
}

impl RunProgress {
    /// Returns `running`, `done`, `failed` or `interrupted`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Ended(status) => status.name(),
        }
    }
}

/// A run, as its record shows it.
pub(super) struct Run<'a> {
    pub(super) record: &'a RunRecord,
    pub(super) state: RunProgress,
    /// Its duration, so far if it is running; `None` if its end was not recorded.
    pub(super) wall_ms: Option<u64>,
    pub(super) used: Option<Used>,
}

/// A run as JSON, without its tasks.
#[derive(Serialize)]
pub(super) struct RunDocument<'a> {
    id: &'a str,
    kind: RunKind,
    plugin: &'a str,
    digest: &'a str,
    state: &'static str,
    started: String,
    started_ms: u64,
    ended_ms: Option<u64>,
    wall_ms: Option<u64>,
    pid: u32,
    /// The schedule that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<&'a str>,
    /// Left out of a list of runs, because outputs may be large.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Option<&'a Outcome>>,
    /// The amounts spent by the run; for a run without an end, those of its ended tasks.
    spent: Value,
    models: Option<&'a [ModelReport]>,
    counts: Option<TaskCounts>,
    /// Why a batch stopped before its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<&'a StopRecord>,
}

impl<'a> Run<'a> {
    pub(super) fn new(record: &'a RunRecord, now_ms: u64, alive: impl Fn(&RunRecord) -> bool) -> Self {
        let since = |end: u64| end.saturating_sub(record.started_ms);
        let (state, wall_ms) = match &record.end {
            Some(end) => (RunProgress::Ended(end.state), Some(millis(&end.summary.spent))),
            None if alive(record) => (RunProgress::Running, Some(since(now_ms))),
            None => (RunProgress::Ended(RunStatus::Interrupted), None),
        };
        Self {
            record,
            state,
            wall_ms,
            used: record.end.as_ref().map(|end| Used::of(&end.summary.spent)),
        }
    }

    /// Returns what it came to; `None` before its end.
    pub(super) fn summary(&self) -> Option<&'a RunSummary> {
        self.record.end.as_ref().map(|end| &end.summary)
    }

    /// Returns why it stopped before its end, if it is a batch that did.
    pub(super) fn stopped(&self) -> Option<&'a StopRecord> {
        self.summary()?.stopped.as_ref()
    }

    /// Returns the schedule that it belongs to.
    pub(super) fn schedule(&self) -> Option<&'a str> {
        self.record.command.get("schedule")?.as_str()
    }

    /// Returns the state for people: `stopped` for a batch that stopped before its end, unless it was interrupted.
    pub(super) fn state_words(&self) -> &'static str {
        match self.state {
            RunProgress::Ended(RunStatus::Failed) if self.stopped().is_some() => "stopped",
            state => state.name(),
        }
    }

    /// Returns the command that continues a run that stopped, if it can be continued.
    pub(super) fn how_to_go_on(&self) -> Option<String> {
        let resume = format!("agenthost resume {}", shell_word(&self.record.id));
        let stopped = self.stopped();
        let is_interrupted = self.state == RunProgress::Ended(RunStatus::Interrupted);
        match stopped.and_then(|stopped| stopped.limit.filter(|_| stopped.owner.is_none())) {
            Some(limit) => Some(format!("{resume}{}", raised(limit))),
            None => (stopped.is_some() || is_interrupted).then_some(resume),
        }
    }

    /// Returns its failure, if it failed.
    pub(super) fn failure(&self) -> Option<&'a Failure> {
        self.summary()?.outcome.as_ref()?.failure()
    }

    /// Returns the run for a list.
    pub(super) fn entry(&self) -> RunDocument<'a> {
        let (record, summary) = (self.record, self.summary());
        RunDocument {
            id: &record.id,
            kind: record.kind,
            plugin: &record.plugin,
            digest: &record.digest,
            state: self.state.name(),
            started: format!("{}Z", table::utc(record.started_ms).replace(' ', "T")),
            started_ms: record.started_ms,
            ended_ms: record.end.as_ref().map(|end| end.ended_ms),
            wall_ms: self.wall_ms,
            pid: record.pid,
            schedule: self.schedule(),
            outcome: None,
            spent: json!(summary.map(|summary| &summary.spent)),
            models: summary.map(|summary| summary.models.as_slice()),
            counts: summary.map(|summary| summary.counts),
            stopped: self.stopped(),
        }
    }

    /// Returns the run with its outcome.
    pub(super) fn document(&self) -> RunDocument<'a> {
        let summary = self.summary();
        RunDocument {
            outcome: Some(summary.and_then(|summary| summary.outcome.as_ref())),
            spent: summary.map_or_else(|| json!(self.used), |summary| json!(summary.spent)),
            ..self.entry()
        }
    }
}

fn millis(spent: &Spent) -> u64 {
    u64::try_from(spent.wall.as_millis()).unwrap_or(u64::MAX)
}

/// A task, as its record shows it.
pub(super) struct Task {
    pub(super) id: String,
    /// The name of its branch, if its parent named it.
    pub(super) name: Option<String>,
    pub(super) plugin: String,
    pub(super) started_ms: u64,
    pub(super) ended_ms: Option<u64>,
    /// The recorded outcome; `None` before its end, and if it is not kept.
    outcome: Option<Outcome>,
    /// Its own use, without sub-tasks; `None` before its end.
    pub(super) used: Option<Used>,
    wall_ms: Option<u64>,
}

/// A task as JSON.
#[derive(Serialize)]
pub(super) struct TaskDocument<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    parent: Option<&'a str>,
    plugin: &'a str,
    started_ms: u64,
    ended_ms: Option<u64>,
    wall_ms: Option<u64>,
    outcome: Option<&'a Outcome>,
    spent: Option<&'a Used>,
}

impl Task {
    pub(super) fn new(record: TaskRecord) -> Self {
        let spent = record.end.as_ref().map(|end| &end.report.spent);
        Self {
            used: spent.map(Used::of),
            wall_ms: spent.map(millis),
            ended_ms: record.end.as_ref().map(|end| end.ended_ms),
            outcome: record.end.and_then(|end| end.report.outcome),
            id: record.id,
            name: None,
            plugin: record.plugin,
            started_ms: record.started_ms,
        }
    }

    /// Returns its duration; `None` before its end.
    pub(super) fn wall_ms(&self) -> Option<u64> {
        self.wall_ms
    }

    fn failure(&self) -> Option<&Failure> {
        self.outcome.as_ref()?.failure()
    }

    /// Returns `ok`, a failure's class, or `unfinished`.
    pub(super) fn class(&self) -> &'static str {
        match (self.ended_ms, self.failure()) {
            (None, _) => "unfinished",
            (Some(_), None) => "ok",
            (Some(_), Some(failure)) => failure.class.name(),
        }
    }

    /// Returns the class, with the limit that was reached.
    pub(super) fn words(&self) -> String {
        match self.failure().and_then(|failure| failure.limit) {
            Some(limit) => format!("{}({})", self.class(), limit.name()),
            None => self.class().to_owned(),
        }
    }

    /// Returns the failure message, on one line.
    pub(super) fn message(&self) -> String {
        let message = self.failure().map(|failure| failure.message.as_str());
        let words: Vec<_> = message.unwrap_or_default().split_whitespace().collect();
        words.join(" ")
    }

    pub(super) fn depth(&self) -> usize {
        self.id.matches('/').count()
    }

    /// Returns a key that sorts tasks in the order of the tree.
    pub(super) fn order(&self) -> Vec<u64> {
        let parts = self.id.split('/').skip(1);
        parts.map(|n| n.parse().unwrap_or(u64::MAX)).collect()
    }

    pub(super) fn document(&self) -> TaskDocument<'_> {
        TaskDocument {
            id: &self.id,
            name: self.name.as_deref(),
            parent: self.id.rsplit_once('/').map(|(parent, _)| parent),
            plugin: &self.plugin,
            started_ms: self.started_ms,
            ended_ms: self.ended_ms,
            wall_ms: self.wall_ms,
            outcome: self.outcome.as_ref(),
            spent: self.used.as_ref(),
        }
    }
}

/// Returns whether a live process is working on a run.
pub(super) fn is_running(journal: &dyn JournalStore, run: &RunRecord) -> bool {
    journal.running(&run.id).is_ok_and(|process| process.is_some())
}

/// Returns the first twelve digits of a digest.
pub(super) fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

/// Returns the milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// The end of the hint of [`changed`] for a run that is replayed.
pub(super) const SHOW_DIFFERENCES: &str = " to see where the new one differs.";
/// The end of the hint of [`changed`] for a run that is resumed.
pub(super) const NOT_PAID_AGAIN: &str = ": what the new one asks for in the same words is not paid for again.";

/// Returns the error for a run whose plugins have changed. `hint` ends the hint with the effect of `--changed-plugins`.
pub(super) fn changed(record: &RunRecord, plugins: &[String], hint: &str) -> Error {
    let what = format!(
        "not the plugin that run {} began with: {}",
        record.id,
        plugins.join(", ")
    );
    Error::usage(what).with_hint(format!("Bring the old one back, or add --changed-plugins{hint}"))
}
