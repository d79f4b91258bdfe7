//! Compares a cassette with a rehearsal of it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{Ask, Cassette, Task, tape, text};
use agenthost_core::document::{DocumentError, DocumentRecord, DocumentResult};
use agenthost_core::llm::CallError;
use agenthost_core::task::Failure;

/// The class of the error that a task receives for an operation on a document of which the cassette has no result.
#[doc(hidden)]
pub const UNRECORDED: &str = "cassette";

/// A difference from the cassette.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The kind of difference.
    pub kind: Kind,
    /// The task concerned; `None` if the change concerns the whole run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The number of the ask concerned; `None` if the change concerns no single ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ask: Option<u64>,
    /// A description, as a fragment of a sentence.
    pub message: String,
    /// The lines that differ, as a unified diff.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
}

/// The kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The input no longer has the plugin's input type.
    Input,
    /// The output or failure differs.
    Outcome,
    /// The number of model calls differs.
    Calls,
    /// The request to a model differs.
    Request,
    /// The task does something else with its plugin's documents.
    Memory,
    /// A model call to which the cassette has no reply, or an operation on a document of which it has no result.
    Unrecorded,
    /// A call of a model name that the plugin does not declare, so that a run refuses the call.
    Denied,
    /// More fuel was used than the ceiling allows.
    Fuel,
    /// More tokens were used than the ceiling allows.
    Tokens,
}

impl Change {
    /// Creates a change that concerns the whole run.
    ///
    /// ```
    /// use agenthost_journal::cassette::compare::{Change, Kind};
    ///
    /// let change = Change::new(Kind::Input, "input: expected u32, found string");
    /// assert_eq!(serde_json::to_value(&change).unwrap()["kind"], "input");
    /// ```
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            task: None,
            ask: None,
            message: message.into(),
            diff: None,
        }
    }

    fn at(mut self, task: &Task, ask: Option<u64>) -> Self {
        self.task = Some(task.id.clone());
        self.ask = ask;
        self
    }
}

impl Cassette {
    /// Returns the differences between this cassette and `now`, the recording of its rehearsal (from
    /// [`Tape::cassette`](tape::Tape::cassette)). Replaces the tokens of a changed request in `now` with an estimate in
    /// proportion to its length.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost_journal::cassette::{Cassette, compare::Kind};
    /// use serde_json::json;
    ///
    /// # let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/competitor/cassettes/first.json");
    /// let cassette = Cassette::read(file.as_ref())?;
    /// let mut now = cassette.clone(); // what a rehearsal recorded
    /// assert!(cassette.changes(&mut now).is_empty());
    ///
    /// now.expect.output = Some(json!("something else"));
    /// let changes = cassette.changes(&mut now);
    /// assert_eq!(changes.iter().map(|change| change.kind).collect::<Vec<_>>(), [Kind::Outcome]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn changes(&self, now: &mut Self) -> Vec<Change> {
        let mut changes = Vec::new();
        let recorded: BTreeMap<&str, &Task> = self.tasks.iter().map(|task| (task.id.as_str(), task)).collect();
        for task in &mut now.tasks {
            let before = recorded.get(task.id.as_str());
            let mut asks = std::mem::take(&mut task.asks);
            for ask in &mut asks {
                let known = before.and_then(|before| before.asks.iter().find(|known| known.ask == ask.ask));
                changes.extend(request(known, ask).map(|change| change.at(task, Some(ask.ask))));
            }
            task.asks = asks;
            let known = before.map_or(&[][..], |before| before.memory.as_slice());
            changes.extend(memory(known, &task.memory).map(|change| change.at(task, None)));
        }
        now.expect.tokens = tape::tokens(&now.tasks);
        changes.extend(self.calls_changed(now));
        changes.extend(self.outcome_changed(now));
        for (kind, what, ceiling, used) in [
            (Kind::Fuel, "fuel", self.expect.fuel, now.expect.fuel),
            (Kind::Tokens, "tokens", self.expect.tokens, now.expect.tokens),
        ] {
            if used > ceiling {
                changes.push(Change::new(
                    kind,
                    format!("{used} {what}, above the ceiling of {ceiling}"),
                ));
            }
        }
        changes
    }

    fn calls_changed(&self, now: &Self) -> Vec<Change> {
        let mut ids: Vec<&String> = self.expect.calls.keys().chain(now.expect.calls.keys()).collect();
        ids.sort_unstable();
        ids.dedup();
        let changed = ids.into_iter().filter_map(|id| {
            let calls = |of: &Self| of.expect.calls.get(id).copied().unwrap_or_default();
            let (before, now) = (calls(self), calls(now));
            let calls = if before == 1 { "call" } else { "calls" };
            (before != now).then(|| Change {
                task: Some(id.clone()),
                ..Change::new(Kind::Calls, format!("{before} model {calls} expected, {now} made"))
            })
        });
        changed.collect()
    }

    fn outcome_changed(&self, now: &Self) -> Option<Change> {
        let (before, after) = (&self.expect, &now.expect);
        if before.output == after.output && is_same_failure(before.failure.as_ref(), after.failure.as_ref()) {
            return None;
        }
        let message = match (&before.output, &after.output) {
            (Some(_), Some(_)) => "the output differs".to_owned(),
            (None, None) => "the failure differs".to_owned(),
            (None, Some(_)) => "a failure was expected, and there is an output".to_owned(),
            (Some(_), None) => {
                let failure = after.failure.as_ref().map(ToString::to_string);
                format!(
                    "an output was expected, and the task failed: {}",
                    failure.unwrap_or_default()
                )
            }
        };
        let lines = |expect: &super::Expect| {
            let shown = match (&expect.output, &expect.failure) {
                (Some(output), _) => serde_json::to_string_pretty(output),
                (None, failure) => serde_json::to_string_pretty(failure),
            };
            shown.unwrap_or_default() + "\n"
        };
        Some(Change {
            diff: Some(text::diff(&lines(before), &lines(after))),
            ..Change::new(Kind::Outcome, message)
        })
    }

    /// Returns this cassette updated with the requests, calls and outcome of `now`, and with new ceilings for those
    /// that were exceeded. Replies, seed, clock, input and the other ceilings are kept.
    #[must_use]
    pub fn updated(&self, now: &Self) -> Self {
        let ceilings = now.clone().with_headroom().expect;
        let ceiling = |before: u64, used: u64, next: u64| if used > before { next } else { before };
        let mut updated = now.clone();
        updated.limits.clone_from(&self.limits);
        if is_same_failure(self.expect.failure.as_ref(), now.expect.failure.as_ref()) {
            updated.expect.failure.clone_from(&self.expect.failure);
        }
        updated.expect.fuel = ceiling(self.expect.fuel, now.expect.fuel, ceilings.fuel);
        updated.expect.tokens = ceiling(self.expect.tokens, now.expect.tokens, ceilings.tokens);
        updated
    }
}

/// Returns whether a failure is the expected one. A rehearsal has no account but those of its own tasks, so the amount and
/// the owner of a limit may differ.
fn is_same_failure(expected: Option<&Failure>, now: Option<&Failure>) -> bool {
    match (expected, now) {
        (Some(expected), Some(now)) => expected.agrees_with(now),
        _ => expected == now,
    }
}

/// Returns how a model call differs from the recorded one, or that it is now denied. If only the request differs, its
/// tokens are estimated.
fn request(known: Option<&Ask>, now: &mut Ask) -> Option<Change> {
    let asked = now.request.as_ref()?;
    let was_denied = known.is_some_and(|known| matches!(known.error, Some(CallError::Denied(_))));
    if let (Some(denied @ CallError::Denied(_)), false) = (&now.error, was_denied) {
        return Some(Change::new(Kind::Denied, denied.to_string()));
    }
    let Some(before) = known.and_then(|known| known.request.as_ref()) else {
        let message = "this model call was not made when the cassette was recorded, so there is no reply to it";
        return Some(Change {
            diff: Some(text::diff("", &text::shown(asked))),
            ..Change::new(Kind::Unrecorded, message)
        });
    };
    if before == asked {
        return None;
    }
    let change = Change {
        diff: Some(text::diff(
            &shown_to_differ(before, asked),
            &shown_to_differ(asked, before),
        )),
        ..Change::new(Kind::Request, "the model is asked something else")
    };
    if let Some(mut tokens) = now.tokens() {
        let (was, is) = (text::length(before).max(1), text::length(asked));
        let scaled = u128::from(tokens.input) * u128::from(is) / u128::from(was);
        tokens.input = u64::try_from(scaled).unwrap_or(u64::MAX);
        now.used = Some(tokens);
    }
    Some(change)
}

/// Returns how the operations on documents differ from the recorded ones.
fn memory(before: &[DocumentRecord], now: &[DocumentRecord]) -> Option<Change> {
    let line = |record: &DocumentRecord| {
        let name = record.name.as_deref().unwrap_or_default();
        let json = record.json.as_deref().unwrap_or_default();
        format!("{} {name} {json}", record.action.name()).trim_end().to_owned() + "\n"
    };
    let lines = |records: &[DocumentRecord]| records.iter().map(line).collect::<String>();
    let unrecorded = now.iter().any(|record| match &record.result {
        Some(DocumentResult::Error {
            error: DocumentError::Other(class, _),
        }) => class == UNRECORDED,
        _ => false,
    });
    let change = match unrecorded {
        true => {
            let message =
                "the task did something else with its memory when the cassette was recorded, so there is no result";
            Change::new(Kind::Unrecorded, message)
        }
        false => Change::new(Kind::Memory, "the task does something else with its memory"),
    };
    let (before, now) = (lines(before), lines(now));
    (before != now).then(|| Change {
        diff: Some(text::diff(&before, &now)),
        ..change
    })
}

/// Returns a request for display; as JSON if its plain form equals that of `other`.
fn shown_to_differ(request: &Value, other: &Value) -> String {
    let plain = text::shown(request);
    if plain != text::shown(other) {
        return plain;
    }
    serde_json::to_string_pretty(request).unwrap_or_default() + "\n"
}
