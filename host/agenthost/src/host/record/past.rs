//! The part of a task's recorded history that has not been replayed to it yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::told::is_final;
use super::{AskAgain, Mode, keeps};
use agenthost_core::task::TaskId;
use agenthost_journal::{AskRecord, DocumentRecord, DocumentResult, Remaining, TaskRecord, Turn};

/// The part of a task's recorded history that has not been replayed yet.
#[derive(Default)]
pub(super) struct Past {
    pub(super) asks: BTreeMap<u64, AskRecord>,
    pub(super) turns: VecDeque<Turn>,
    pub(super) remaining: VecDeque<Remaining>,
    /// The operations of the task on documents, with their results.
    pub(super) documents: VecDeque<DocumentRecord>,
    /// The number of operations on documents that the task has made so far.
    pub(super) document_count: u64,
    /// The sub-tasks that began, for a replay; `None` if they are not known.
    pub(super) began: Option<BTreeSet<TaskId>>,
    /// The number of turns replayed so far.
    pub(super) given: u64,
    /// Calls that are not made any more, because something else has their numbers.
    pub(super) replaced: Vec<AskRecord>,
    /// `true` if the task made a call that a replay cannot repeat, since the record has no result of it.
    pub(super) unanswered: bool,
}

impl Past {
    /// Returns whether the recorded reply to the request `ask` is still to be replayed.
    pub(super) fn is_told(&self, ask: u64) -> bool {
        self.turns.contains(&Turn::Answer(ask))
    }

    pub(super) fn of(record: TaskRecord, mode: Mode, again: AskAgain<'_>) -> Self {
        let mut remaining: VecDeque<_> = record.remaining.into();
        let asks: BTreeMap<_, _> = record.asks.into_iter().map(|ask| (ask.ask, ask)).collect();
        let mut turns: VecDeque<_> = record.turns.into();
        let mut documents: VecDeque<_> = record.documents.into();
        let outcome = record.end.and_then(|end| end.report.outcome);
        let failed = outcome.is_some_and(|outcome| keeps(&outcome, false) && !keeps(&outcome, true));
        if !matches!(mode, Mode::Replay | Mode::Rehearsal) {
            // The first reply that could be better now, and everything after it, is not replayed.
            let is_final = |turn: &Turn| match turn {
                Turn::Cut(_) => false,
                Turn::Answer(ask) => asks.get(ask).is_some_and(|ask| {
                    let result = ask.result.as_ref();
                    !again.changes(&ask.what) && result.is_some_and(|result| is_final(result, mode))
                }),
            };
            let kept = turns.iter().take_while(|turn| is_final(turn)).count();
            if mode == (Mode::Resume { failed: true }) && kept == turns.len() && failed && !again.is_below() {
                // With these replies, the task would fail in the same way.
                return Self::default();
            }
            turns.truncate(kept);
            // An operation whose result could be better now is done again, and so are all after it.
            let is_final = |document: &DocumentRecord| document.result.as_ref().is_some_and(DocumentResult::is_final);
            documents.truncate(documents.iter().take_while(|document| is_final(document)).count());
            let kept = kept as u64;
            remaining.retain(|left| left.after <= kept);
        }
        Self {
            asks,
            turns,
            remaining,
            documents,
            ..Self::default()
        }
    }
}
