//! What a task is told when a cassette is played to it: the recorded answer to the ask of the same number, whatever it asks.
//!
//! Nothing here waits, so that a plugin that has changed comes to an end, too: an ask without an answer is told so. What the
//! plugin's own manifest refuses is refused here as in any run.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::{Begins, Hash, Recorded, Recorder, TaskLog, Told, lock};
use agenthost_core::limits::ledger::Used;
use agenthost_core::llm::CallError;
use agenthost_core::task::TaskId;
use agenthost_journal::{CallRecord, Entry};

impl TaskLog {
    /// Notes what is asked now, and gives what was answered then, unless it is refused.
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
            Entry::CallStarted {
                run: run.clone(),
                task: task.clone(),
                ask,
                hash,
                body: Some(body),
            },
        );
        let unpaid = |error| Box::new(Told::new(&Err(error), &Used::default(), false, Vec::new()));
        if let Some(why) = refused {
            let told = unpaid(CallError::Denied(why));
            let result = serde_json::to_string(&told).unwrap_or_default();
            self.note(recorder, Entry::CallEnded { run, task, ask, result });
            return Recorded::Told(told);
        }
        let result = known.and_then(|known| known.result);
        let told = result.and_then(|result| Some((serde_json::from_str::<Told>(&result).ok()?, result)));
        let Some((told, result)) = told else {
            let why = "the cassette holds no answer to this call";
            return Recorded::Told(unpaid(CallError::Other("cassette".into(), why.into())));
        };
        self.note(recorder, Entry::CallEnded { run, task, ask, result });
        Recorded::Told(Box::new(told))
    }

    /// A sub-task that was run then is run whatever its parent does; one that was not known then is run as usual.
    pub(super) fn rehearse_start(
        &self,
        recorder: &Recorder,
        ask: u64,
        child: &TaskId,
        known: Option<CallRecord>,
    ) -> Begins {
        let hash = Hash::from(Sha256::digest(child.to_string()));
        if known.is_none_or(|known| known.hash != hash) {
            return Begins::Now;
        }
        let began = recorder.past(child).is_ok_and(|past| past.is_some());
        match began {
            true => Begins::Again,
            false if lock(&self.past).is_told(ask) => Begins::Refused,
            // Its parent gave it up before it began.
            false => Begins::Differs,
        }
    }
}
