//! The part of a task's recorded history that has not been replayed to it yet.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::told::RecordedReply;
use super::{Mode, keeps, read_end};
use agenthost_core::llm::Allowance;
use agenthost_core::task::TaskId;
use agenthost_journal::{CallRecord, TaskRecord, Turn};

/// The part of a task's recorded history that has not been replayed yet.
#[derive(Default)]
pub(super) struct Past {
    pub(super) calls: BTreeMap<u64, CallRecord>,
    pub(super) turns: VecDeque<Turn>,
    /// Recorded results of `remaining`, each with the number of turns before it.
    pub(super) remaining: VecDeque<(u64, Allowance)>,
    /// The number of turns replayed so far.
    pub(super) given: u64,
    /// Whether the task made a call that a replay cannot repeat, since the record has no result of it.
    pub(super) unanswered: bool,
}

/// The recorded result of a request that started a sub-task, in place of a model's reply.
#[derive(Serialize, Deserialize)]
pub(super) struct SubTask {
    pub(super) task: TaskId,
    pub(super) ok: bool,
    pub(super) keeps: bool,
}

impl SubTask {
    /// Returns whether running the sub-task again would give the same outcome.
    pub(super) fn keeps(&self, mode: Mode) -> bool {
        self.keeps && (self.ok || mode != Mode::Resume { failed: true })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct Remained {
    pub(super) after: u64,
    pub(super) left: Allowance,
}

impl Past {
    /// Returns whether the recorded reply to the request `ask` is still to be replayed.
    pub(super) fn is_told(&self, ask: u64) -> bool {
        self.turns.contains(&Turn::Answer(ask))
    }

    pub(super) fn of(record: TaskRecord, mode: Mode) -> Self {
        let remaining = record.remaining.iter().filter_map(|value| {
            let Remained { after, left } = serde_json::from_str(value).ok()?;
            Some((after, left))
        });
        let mut remaining: VecDeque<_> = remaining.collect();
        let calls: BTreeMap<_, _> = record.calls.into_iter().map(|call| (call.ask, call)).collect();
        let mut turns: VecDeque<_> = record.turns.into();
        let failed = record
            .end
            .as_ref()
            .and_then(read_end)
            .is_some_and(|(end, _)| keeps(&end.outcome, false) && !keeps(&end.outcome, true));
        if !matches!(mode, Mode::Replay | Mode::Rehearsal) {
            // The first reply that could be better now, and everything after it, is not replayed.
            let is_final = |turn: &Turn| match turn {
                Turn::Cut { .. } => false,
                Turn::Answer(ask) => calls
                    .get(ask)
                    .and_then(|call| call.result.as_ref())
                    .is_some_and(|result| {
                        if let Ok(sub_task) = serde_json::from_str::<SubTask>(result) {
                            return sub_task.keeps(mode);
                        }
                        serde_json::from_str::<RecordedReply>(result).is_ok_and(|told| told.is_final(mode))
                    }),
            };
            let kept = turns.iter().take_while(|turn| is_final(turn)).count();
            if mode == (Mode::Resume { failed: true }) && kept == turns.len() && failed {
                // With these replies, the task would fail in the same way.
                return Self::default();
            }
            turns.truncate(kept);
            let kept = kept as u64;
            remaining.retain(|(after, _)| *after <= kept);
        }
        Self {
            calls,
            turns,
            remaining,
            given: 0,
            unanswered: false,
        }
    }
}
