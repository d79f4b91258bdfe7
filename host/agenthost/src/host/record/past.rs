//! What is still to be given to a task of what was recorded of it.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::told::Told;
use super::{Mode, keeps, read_end};
use agenthost_core::llm::Allowance;
use agenthost_core::task::TaskId;
use agenthost_journal::{CallRecord, TaskRecord, Turn};

/// What is still to be given of what was recorded.
#[derive(Default)]
pub(super) struct Past {
    pub(super) calls: BTreeMap<u64, CallRecord>,
    pub(super) turns: VecDeque<Turn>,
    /// With the number of turns before each.
    pub(super) remaining: VecDeque<(u64, Allowance)>,
    /// Turns until now.
    pub(super) given: u64,
    /// A call was made that a replay cannot repeat, since nothing came of it.
    pub(super) unanswered: bool,
}

/// What stands in the place of a model call where the ask was a sub-task.
#[derive(Serialize, Deserialize)]
pub(super) struct SubTask {
    pub(super) task: TaskId,
    pub(super) ok: bool,
    pub(super) keeps: bool,
}

impl SubTask {
    /// Whether it will come out as it did.
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
    /// Whether the task still has to learn what comes of this ask, as it did.
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
            // What may come out better now, and all that followed from it, is not told again.
            let is_final = |turn: &Turn| match turn {
                Turn::Cut { .. } => false,
                Turn::Answer(ask) => calls
                    .get(ask)
                    .and_then(|call| call.result.as_ref())
                    .is_some_and(|result| {
                        if let Ok(sub_task) = serde_json::from_str::<SubTask>(result) {
                            return sub_task.keeps(mode);
                        }
                        serde_json::from_str::<Told>(result).is_ok_and(|told| told.is_final(mode))
                    }),
            };
            let kept = turns.iter().take_while(|turn| is_final(turn)).count();
            if mode == (Mode::Resume { failed: true }) && kept == turns.len() && failed {
                // With these answers it would fail in the same way.
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
