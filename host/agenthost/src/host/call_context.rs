//! The part of a task that its model calls need.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::events::EventLog;
use super::record::TaskLog;
use agenthost_core::error::{Error, with_causes};
use agenthost_core::limits::Shortage;
use agenthost_core::limits::ledger::Account;
use agenthost_core::llm::CallError;
use agenthost_core::run::{Event, ModelReport};
use agenthost_core::task::{Failure, TaskId};
use agenthost_gate::FairnessKey;

/// The account, the log and the place in the queue of one task, and what its calls have used.
pub(super) struct CallContext {
    pub(super) host: Arc<Inner>,
    pub(super) task: TaskId,
    pub(super) account: Account,
    pub(super) deadline: Option<Instant>,
    pub(super) events: Arc<EventLog>,
    /// The queue of the task's calls at the gate. The tasks of one parent share a queue.
    pub(super) line: FairnessKey,
    /// The task's part of the journal.
    pub(super) log: Arc<TaskLog>,
    /// The use of each model, in the order of the first calls.
    pub(super) used: Mutex<Vec<ModelReport>>,
    /// The largest amount by which a limit was too low for a call that was refused.
    pub(super) shortage: Mutex<Option<Shortage>>,
    /// Admits one check of a schema or reply of the task at a time.
    pub(super) checking: Arc<Semaphore>,
    /// Why the allowance cannot be counted, which ends the run.
    pub(super) fault: Arc<OnceLock<String>>,
    /// The item of a batch to which the task belongs.
    pub(super) on_refused_key: Option<OnRefusedKey>,
}

/// Ends an item of a batch that met a refused key, so that a resumed batch runs it again with another key.
#[derive(Clone)]
pub(super) struct OnRefusedKey {
    /// Cancels the item.
    pub(super) item: CancellationToken,
    /// The error of the first refusal in the batch.
    pub(super) first: Arc<OnceLock<String>>,
}

impl OnRefusedKey {
    /// Cancels the item, and waits to be dropped with it.
    pub(super) async fn end(&self, error: &CallError) -> ! {
        self.first.get_or_init(|| error.to_string());
        self.item.cancel();
        std::future::pending().await
    }
}

impl CallContext {
    /// Adds to the use of the models.
    pub(super) fn note(&self, report: ModelReport) {
        report.into_list(&mut self.used.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Returns the error of a call that the allowance cannot count. Nothing is sent from here on.
    pub(super) fn uncounted(&self, error: &Error) -> CallError {
        let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
        let said = format!("{}{hint}", with_causes(error));
        CallError::Other("allowance".into(), self.fault.get_or_init(|| said).clone())
    }

    /// Fails if the allowance could not count an earlier call of the run.
    pub(super) fn counted(&self) -> Result<(), CallError> {
        match self.fault.get() {
            None => Ok(()),
            Some(said) => Err(CallError::Other("allowance".into(), said.clone())),
        }
    }

    /// Notes the amount by which a limit was too low for a call that the task was refused.
    pub(super) fn falls_short(&self, by: Option<Shortage>) {
        if let Some(by) = by {
            let mut known = self.shortage.lock().unwrap_or_else(PoisonError::into_inner);
            *known = Some(known.map_or(by, |known| known.larger(by)));
        }
    }

    /// Returns a failure with the amount by which its limit was too low for a call.
    pub(super) fn explained(&self, failure: Failure) -> Failure {
        let known = *self.shortage.lock().unwrap_or_else(PoisonError::into_inner);
        let shortage = known.filter(|shortage| failure.limit == Some(shortage.kind()));
        Failure {
            shortage: failure.shortage.or(shortage),
            ..failure
        }
    }

    pub(super) fn emit(&self, event: Event) {
        self.events.push(event);
    }
}
