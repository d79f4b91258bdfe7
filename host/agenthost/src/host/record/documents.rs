//! The record of what a task does with documents: its *n*th operation receives the *n*th recorded result.
//!
//! A resumed task receives recorded results as long as it does what it did before. Its first other operation removes the
//! later records.

use sha2::{Digest as _, Sha256};

use super::log::TaskLog;
use super::{Recorder, lock};
use agenthost_config::BodyRetention;
use agenthost_core::document::{DocumentError, DocumentOperation, DocumentRecord, DocumentResult};
use agenthost_journal::cassette::compare::UNRECORDED;
use agenthost_journal::{JournalEntry, Turn};

/// The journal's content for an operation on a document.
pub(crate) enum PastDocument {
    /// No result: the operation has to be done.
    Make(NumberedOperation),
    /// The result that the task receives.
    Told(DocumentResult),
    /// The task was cut off before it received a result (in a replay).
    Unanswered,
}

/// The number of an operation within its task, and its digest.
#[derive(Default)]
pub(crate) struct NumberedOperation {
    pub(super) number: u64,
    digest: String,
}

impl TaskLog {
    /// Returns the record of the task's next operation.
    pub(crate) fn document(&self, operation: &DocumentOperation) -> PastDocument {
        let Some(recorder) = &self.recorder else {
            return PastDocument::Make(NumberedOperation::default());
        };
        let digest = digest(operation);
        let mut past = lock(&self.past);
        let number = past.document_count;
        past.document_count += 1;
        let known = past.documents.pop_front();
        let is_cut_next = matches!(past.turns.front(), Some(Turn::Cut(_)));
        if recorder.is_rehearsal() {
            drop(past);
            let numbered = NumberedOperation { number, digest };
            self.note(recorder, self.asked_document(recorder, &numbered, operation));
            if is_cut_next && known.as_ref().is_some_and(|known| known.result.is_none()) {
                return PastDocument::Unanswered;
            }
            let result = rehearsed(known, operation);
            self.document_answered(&numbered, &result);
            return PastDocument::Told(result);
        }
        match known {
            Some(known) if known.digest == digest => match known.result {
                None if recorder.is_replay() && is_cut_next => PastDocument::Unanswered,
                Some(DocumentResult::NotKept { .. }) | None if recorder.is_replay() => {
                    drop(past);
                    self.document_differs(recorder, number, "the journal does not have its result")
                }
                Some(result) => PastDocument::Told(result),
                None => PastDocument::Make(NumberedOperation { number, digest }),
            },
            Some(_) if recorder.is_replay() => {
                drop(past);
                self.document_differs(recorder, number, "it was another one when the run was recorded")
            }
            None if recorder.is_replay() => {
                drop(past);
                self.document_differs(recorder, number, "it was not made when the run was recorded")
            }
            _ => {
                past.documents.clear();
                PastDocument::Make(NumberedOperation { number, digest })
            }
        }
    }

    /// Records that an operation is about to be done. It must not be done if this fails.
    pub(crate) async fn document_asked(
        &self,
        numbered: &NumberedOperation,
        operation: &DocumentOperation,
    ) -> Result<(), String> {
        let Some(recorder) = self.written() else { return Ok(()) };
        // A later record would follow a gap.
        if let Some(fault) = recorder.fault() {
            return Err(fault.to_owned());
        }
        let entry = self.asked_document(recorder, numbered, operation);
        match operation.action.writes() {
            true => recorder.append(entry).await.map_err(|error| error.to_string()),
            false => {
                self.note(recorder, entry);
                Ok(())
            }
        }
    }

    /// Records the result of an operation before the task receives it.
    pub(crate) fn document_answered(&self, numbered: &NumberedOperation, result: &DocumentResult) {
        let Some(recorder) = self.written() else { return };
        let result = match recorder.bodies {
            BodyRetention::None => result.clone().without_texts(),
            BodyRetention::All | BodyRetention::Replies => result.clone(),
        };
        self.note(
            recorder,
            JournalEntry::DocumentAnswered {
                run: recorder.run.clone(),
                task: self.task.to_string(),
                number: numbered.number,
                result,
            },
        );
    }

    fn asked_document(
        &self,
        recorder: &Recorder,
        numbered: &NumberedOperation,
        operation: &DocumentOperation,
    ) -> JournalEntry {
        JournalEntry::DocumentAsked {
            run: recorder.run.clone(),
            task: self.task.to_string(),
            number: numbered.number,
            operation: DocumentRecord {
                action: operation.action,
                name: (recorder.bodies != BodyRetention::None).then(|| operation.name.clone()),
                bytes: operation.json.as_ref().map_or(0, |json| json.len() as u64),
                json: operation.json.clone().filter(|_| recorder.bodies == BodyRetention::All),
                digest: numbered.digest.clone(),
                result: None,
            },
        }
    }

    fn document_differs(&self, recorder: &Recorder, number: u64, why: &str) -> PastDocument {
        recorder.differs(&self.task, None, format!("operation {number} of its memory: {why}"));
        let why = "the task does something with its memory that it did not do when it was recorded";
        PastDocument::Told(DocumentError::Other("replay".to_owned(), why.to_owned()).into())
    }
}

/// Returns the digest of an operation, in hex. The length before the name tells it from the document.
pub(super) fn digest(operation: &DocumentOperation) -> String {
    let name = &operation.name;
    let json = operation.json.as_deref().unwrap_or_default();
    let digest = Sha256::digest(format!("{} {} {name}{json}", operation.action.name(), name.len()));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the recorded result for a task that plays a cassette. It may write something else than was recorded.
fn rehearsed(known: Option<DocumentRecord>, operation: &DocumentOperation) -> DocumentResult {
    let known = known.filter(|known| {
        known.action == operation.action && known.name.as_ref().is_none_or(|name| *name == operation.name)
    });
    known.and_then(|known| known.result).unwrap_or_else(|| {
        let why = "the cassette has no result of this operation; record it again";
        DocumentError::Other(UNRECORDED.to_owned(), why.to_owned()).into()
    })
}
