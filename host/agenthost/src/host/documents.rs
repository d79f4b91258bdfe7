//! The memory of a task: the documents of its plugin, and the record of what the task does with them.
//!
//! **The order** of a write is: the operation is durable in the journal, the file is written, the result is recorded,
//! the task goes on. A process that is killed after the first step has lost nothing: when the run is resumed, an
//! operation without a result is done again. This writes the same document, also over what another run has written
//! since. An operation with a result is not done again, and its task receives the recorded result; but all operations
//! after one that is done anew are done anew, too, and with `bodies = "none"`, where the journal keeps no document, the
//! first read is one. Reading has no effect, so a read and its result are recorded together. A replay and a rehearsal
//! receive every result from the record, and open no file.
//!
//! Left out: the files, which are the sandbox's.

use std::sync::{Arc, OnceLock};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, pending, ready};

use super::record::{NumberedOperation, PastDocument, TaskLog};
use agenthost_core::document::{DocumentError, DocumentOperation, DocumentResult};
use agenthost_core::failpoint;
use agenthost_sandbox::{Documents, KeptMemory, RunMemory};

/// The memory of one task.
pub(super) struct TaskDocuments {
    /// The documents; `None` if no directory is granted as the plugin's memory, and in a replay.
    documents: Option<Documents>,
    log: Arc<TaskLog>,
    run_memory: Arc<RunMemory>,
    /// Why a write was refused, if one was.
    full: OnceLock<String>,
}

impl TaskDocuments {
    pub(super) fn new(documents: Option<Documents>, log: &Arc<TaskLog>, run_memory: &Arc<RunMemory>) -> Arc<Self> {
        Arc::new(Self {
            documents,
            log: Arc::clone(log),
            run_memory: Arc::clone(run_memory),
            full: OnceLock::new(),
        })
    }

    /// Does what `operation` asks for, or returns the recorded result.
    pub(super) fn apply(self: Arc<Self>, operation: DocumentOperation) -> BoxFuture<'static, DocumentResult> {
        // An invalid operation has the same result whenever it is made, so it is not recorded.
        if let Err(error) = operation.check() {
            return ready(error.into()).boxed();
        }
        match self.log.document(&operation) {
            PastDocument::Told(result) => {
                self.note_full(&result);
                ready(result).boxed()
            }
            PastDocument::Unanswered => pending().boxed(),
            PastDocument::Make(numbered) => async move {
                let result = self.make(&numbered, operation).await;
                self.note_full(&result);
                result
            }
            .boxed(),
        }
    }

    /// Returns why a write was refused, for the notes of the task's report; `None` if none was.
    pub(super) fn note(&self) -> Option<String> {
        self.full.get().cloned()
    }

    fn note_full(&self, result: &DocumentResult) {
        if let DocumentResult::Error {
            error: DocumentError::QuotaFull(why),
        } = result
        {
            let _ = self.full.set(why.clone());
        }
    }

    async fn make(&self, numbered: &NumberedOperation, operation: DocumentOperation) -> DocumentResult {
        if let Err(error) = self.log.document_asked(numbered, &operation).await {
            // A task that fails with this class runs again when its run is resumed.
            return DocumentError::Other("host".to_owned(), error).into();
        }
        failpoint!(await "document.asked");
        let (result, _kept) = self.access(operation).await;
        failpoint!(await "document.done");
        self.log.document_answered(numbered, &result);
        result
    }

    /// Does an operation. The guards hold the memory of the texts, each of which is here and in an entry of the
    /// journal, until the result is recorded.
    async fn access(&self, operation: DocumentOperation) -> (DocumentResult, Option<[KeptMemory; 2]>) {
        let Some(documents) = self.documents.clone() else {
            return (DocumentError::NotGranted.into(), None);
        };
        let full = |why: String| (DocumentResult::from(DocumentError::Io(why)), None);
        let asked = match self.run_memory.keep(operation.bytes().saturating_mul(2)) {
            Ok(kept) => kept,
            Err(why) => return full(why),
        };
        let result = match tokio::task::spawn_blocking(move || documents.apply(&operation)).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The host is shutting down.
                Err(_) => pending().await,
            },
        };
        match self.run_memory.keep(result.bytes().saturating_mul(2)) {
            Ok(answered) => (result, Some([asked, answered])),
            Err(why) => full(why),
        }
    }
}
