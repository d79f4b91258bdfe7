//! Reading the journal's JSON about runs and tasks. It is read leniently: a record of another version may lack fields,
//! or have more.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Value, json};

use super::table;
use agenthost::error::Error;
use agenthost::journal::{JournalStore, RunRecord, TaskRecord};
use agenthost::limits::Usd;

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

    /// Reads the `spent` of a report.
    pub(super) fn read(report: &Value) -> Option<Self> {
        let spent = report.get("spent")?.as_object()?;
        let number = |key: &str| spent.get(key).and_then(Value::as_u64).unwrap_or(0);
        Some(Self {
            input_tokens: number("input_tokens"),
            cached_input_tokens: number("cached_input_tokens"),
            output_tokens: number("output_tokens"),
            cost_usd: spent.get("cost_usd").and_then(usd),
            calls: number("calls"),
        })
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

/// Converts an amount in JSON, in dollars.
pub(super) fn usd(value: &Value) -> Option<Usd> {
    let pico = value.as_f64().filter(|usd| *usd >= 0.0)? * 1e12;
    Some(Usd::from_pico(pico.round() as u64))
}

/// A run, as its record shows it.
pub(super) struct Run<'a> {
    pub(super) record: &'a RunRecord,
    /// Its report; null before its end.
    pub(super) report: Value,
    /// `running`, `done`, `failed` or `interrupted`.
    pub(super) state: String,
    /// Its duration, so far if it is running; `None` if its end was not recorded.
    pub(super) wall_ms: Option<u64>,
    pub(super) used: Option<Used>,
}

impl<'a> Run<'a> {
    pub(super) fn new(record: &'a RunRecord, now_ms: u64, alive: impl Fn(&RunRecord) -> bool) -> Self {
        let report = record.end.as_ref().map(|end| parsed(&end.report)).unwrap_or_default();
        let state = match &record.end {
            Some(end) => end.state.clone(),
            None if alive(record) => "running".into(),
            None => "interrupted".into(),
        };
        let since = |end: u64| end.saturating_sub(record.started_ms);
        let wall_ms = match &record.end {
            Some(end) => {
                let own = report.pointer("/spent/wall_ms").and_then(Value::as_u64);
                Some(own.unwrap_or_else(|| since(end.ended_ms)))
            }
            None if state == "running" => Some(since(now_ms)),
            None => None,
        };
        Self {
            record,
            used: Used::read(&report),
            report,
            state,
            wall_ms,
        }
    }

    /// Returns the number of its tasks, if its report has it.
    pub(super) fn tasks(&self) -> Option<u64> {
        self.report.pointer("/counts/tasks")?.as_u64()
    }

    /// Returns the run as JSON, without its tasks.
    pub(super) fn document(&self) -> Value {
        let record = self.record;
        let part = |key: &str| self.report.get(key).cloned().unwrap_or_default();
        json!({
            "id": record.id,
            "kind": record.kind,
            "plugin": record.plugin,
            "digest": record.digest,
            "state": self.state,
            "started": format!("{}Z", table::utc(record.started_ms).replace(' ', "T")),
            "started_ms": record.started_ms,
            "ended_ms": record.end.as_ref().map(|end| end.ended_ms),
            "wall_ms": self.wall_ms,
            "pid": record.pid,
            "outcome": part("outcome"),
            "spent": part("spent"),
            "models": part("models"),
            "counts": part("counts"),
        })
    }
}

/// A task, as its record shows it.
pub(super) struct Task {
    pub(super) id: String,
    pub(super) plugin: String,
    pub(super) started_ms: u64,
    pub(super) ended_ms: Option<u64>,
    /// The recorded outcome; null before its end.
    pub(super) outcome: Value,
    /// Its own use, without sub-tasks; `None` before its end.
    pub(super) used: Option<Used>,
    wall_ms: Option<u64>,
}

impl Task {
    pub(super) fn new(record: TaskRecord) -> Self {
        let ended_ms = record.end.as_ref().map(|end| end.ended_ms);
        let mut report = record.end.as_ref().map(|end| parsed(&end.report)).unwrap_or_default();
        Self {
            id: record.id,
            plugin: record.plugin,
            started_ms: record.started_ms,
            ended_ms,
            used: Used::read(&report),
            wall_ms: report.pointer("/spent/wall_ms").and_then(Value::as_u64),
            outcome: report.get_mut("outcome").map(Value::take).unwrap_or_default(),
        }
    }

    /// Returns its duration.
    pub(super) fn wall_ms(&self) -> Option<u64> {
        let seen = self.ended_ms.map(|ended| ended.saturating_sub(self.started_ms));
        self.wall_ms.or(seen)
    }

    /// Returns `ok`, a failure's class, or `unfinished`.
    pub(super) fn class(&self) -> &str {
        match (&self.ended_ms, self.outcome.get("failure")) {
            (None, _) => "unfinished",
            (_, None) => "ok",
            (_, Some(failure)) => failure.get("class").and_then(Value::as_str).unwrap_or("other"),
        }
    }

    /// Returns the class, with the limit that was reached.
    pub(super) fn words(&self) -> String {
        match self.outcome.pointer("/failure/limit").and_then(Value::as_str) {
            Some(limit) => format!("{}({limit})", self.class()),
            None => self.class().to_owned(),
        }
    }

    /// Returns the failure message, on one line.
    pub(super) fn message(&self) -> String {
        let message = self.outcome.pointer("/failure/message").and_then(Value::as_str);
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

    pub(super) fn document(&self) -> Value {
        json!({
            "id": self.id,
            "parent": self.id.rsplit_once('/').map(|(parent, _)| parent),
            "plugin": self.plugin,
            "started_ms": self.started_ms,
            "ended_ms": self.ended_ms,
            "wall_ms": self.wall_ms(),
            "outcome": self.outcome,
            "spent": self.used,
        })
    }
}

/// Returns whether a live process is working on a run.
pub(super) fn is_running(journal: &dyn JournalStore, run: &RunRecord) -> bool {
    journal.running(&run.id).is_ok_and(|process| process.is_some())
}

/// Parses recorded JSON; null if it is invalid.
pub(super) fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
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

/// Returns the error for a run whose plugins have changed.
pub(super) fn changed(record: &RunRecord, plugins: &[String]) -> Error {
    let what = format!(
        "not the plugin that run {} began with: {}",
        record.id,
        plugins.join(", ")
    );
    Error::usage(what).with_hint(
        "Bring the old one back, or add --changed-plugins: what the new one asks for in the same words is not paid for again.",
    )
}
