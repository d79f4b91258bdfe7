//! Playing a cassette to a task: its *n*th request receives the *n*th recorded reply, whatever the request is.
//!
//! Nothing here waits, so that a changed plugin comes to an end, too: a request without a recorded reply fails. A
//! request that the plugin's own manifest forbids is refused as in any run.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::{Hash, Recorded, RecordedReply, Recorder, SubTaskReplay, TaskLog, lock};
use agenthost_core::limits::ledger::Used;
use agenthost_core::llm::CallError;
use agenthost_core::task::TaskId;
use agenthost_journal::{CallRecord, JournalEntry};

impl TaskLog {
    /// Records the current request, and returns the recorded reply unless the request is refused.
    pub(super) fn rehearse(
        &self,
        recorder: &Arc<Recorder>,
        ask: u64,
        (hash, body): (Hash, String),
        (known, refused): (Option<CallRecord>, Option<String>),
    ) -> Recorded {
        let (run, task) = (recorder.run.clone(), self.task.to_string());
        self.note(
            recorder,
            JournalEntry::CallStarted {
                run: run.clone(),
                task: task.clone(),
                ask,
                hash,
                body: Some(body),
            },
        );
        let unpaid = |error| Box::new(RecordedReply::new(&Err(error), &Used::default(), false, Vec::new()));
        if let Some(why) = refused {
            let told = unpaid(CallError::Denied(why));
            let result = serde_json::to_string(&told).unwrap_or_default();
            self.note(recorder, JournalEntry::CallEnded { run, task, ask, result });
            return Recorded::Told(told);
        }
        let result = known.and_then(|known| known.result);
        let told = result.and_then(|result| Some((serde_json::from_str::<RecordedReply>(&result).ok()?, result)));
        let Some((told, result)) = told else {
            let why = "the cassette holds no answer to this call";
            return Recorded::Told(unpaid(CallError::Other("cassette".into(), why.into())));
        };
        self.note(recorder, JournalEntry::CallEnded { run, task, ask, result });
        Recorded::Told(Box::new(told))
    }

    /// Starts a recorded sub-task whatever its parent does now, and an unknown one as in a live run.
    pub(super) fn rehearse_start(
        &self,
        recorder: &Recorder,
        ask: u64,
        child: &TaskId,
        known: Option<CallRecord>,
    ) -> SubTaskReplay {
        let hash = Hash::from(Sha256::digest(child.to_string()));
        if known.is_none_or(|known| known.hash != hash) {
            return SubTaskReplay::Now;
        }
        let began = recorder.past(child).is_ok_and(|past| past.is_some());
        match began {
            true => SubTaskReplay::Again,
            false if lock(&self.past).is_told(ask) => SubTaskReplay::Refused,
            // Its parent dropped it before it began.
            false => SubTaskReplay::Differs,
        }
    }
}
