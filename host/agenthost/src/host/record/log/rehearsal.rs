//! Playing a cassette to a task: its *n*th request receives the *n*th recorded reply, whatever the request is.
//!
//! Nothing here waits, so that a changed plugin comes to an end, too: a request without a recorded reply fails. A
//! request that the plugin's own manifest forbids is refused as in any run.

use std::sync::Arc;

use super::{Recorded, RecordedReply, Recorder, TaskLog};
use agenthost_core::llm::{Ask, CallError};
use agenthost_journal::{AskRecord, AskResult, Asked, JournalEntry, RecordedUse, RequestHash};

impl TaskLog {
    /// Records the current request, and returns the recorded reply unless the request is refused.
    pub(super) fn rehearse(
        &self,
        recorder: &Arc<Recorder>,
        ask: u64,
        (hash, request): (RequestHash, &Ask),
        (known, refused): (Option<AskRecord>, Option<String>),
    ) -> Recorded {
        let request = Some(request.clone());
        self.asked(recorder, ask, Asked::Model { hash, request });
        let unpaid = |error| AskResult::of_call(Err(error), RecordedUse::unsent(), Vec::new());
        let known = known.and_then(|known| known.result);
        let (result, note) = match (refused, known) {
            (Some(why), _) => (unpaid(CallError::Denied(why)), true),
            (None, Some(result @ (AskResult::Reply { .. } | AskResult::Error { .. }))) => (result, true),
            _ => {
                let why = "the cassette holds no answer to this call";
                (unpaid(CallError::Other("cassette".into(), why.into())), false)
            }
        };
        if note {
            let (run, task) = (recorder.run.clone(), self.task.to_string());
            let result = result.clone();
            self.note(recorder, JournalEntry::Answered { run, task, ask, result });
        }
        RecordedReply::of(result).map_or(Recorded::Unanswered, |told| Recorded::Told(Box::new(told)))
    }
}
