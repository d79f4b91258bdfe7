//! What a task is told when a cassette is played to it: the recorded answer to the ask of the same number, whatever it asks.
//!
//! Nothing here waits, so that a plugin that has changed comes to an end, too: an ask without an answer is told so.

use std::sync::Arc;

use super::{Hash, Recorded, Recorder, TaskLog, Told};
use crate::journal::{CallRecord, Entry};
use crate::limits::ledger::Used;
use crate::llm::CallError;

impl TaskLog {
    /// Notes what is asked now, and gives what was answered then.
    pub(super) fn rehearse(
        &self,
        recorder: &Arc<Recorder>,
        ask: u64,
        (hash, body): (Hash, String),
        known: Option<CallRecord>,
    ) -> Recorded {
        let (run, task) = (recorder.run.clone(), self.task.to_string());
        recorder.journal.note(Entry::CallStarted {
            run: run.clone(),
            task: task.clone(),
            ask,
            hash,
            body: Some(body),
        });
        let result = known.and_then(|known| known.result);
        let told = result.and_then(|result| Some((serde_json::from_str::<Told>(&result).ok()?, result)));
        let Some((told, result)) = told else {
            let why = "the cassette holds no answer to this call";
            let error = Err(CallError::Other("cassette".into(), why.into()));
            return Recorded::Told(Box::new(Told::new(&error, &Used::default(), false, Vec::new())));
        };
        recorder.journal.note(Entry::CallEnded {
            run,
            task,
            ask,
            result,
        });
        Recorded::Told(Box::new(told))
    }
}
