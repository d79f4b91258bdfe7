//! The part of a task that its model calls need.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::echoes::ReceivedEchoes;
use super::events::EventLog;
use super::record::TaskLog;
use agenthost_core::error::{Error, Result, with_causes};
use agenthost_core::limits::Shortage;
use agenthost_core::limits::ledger::Account;
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
    /// The blocks of providers that the task may send back.
    pub(super) echoes: ReceivedEchoes,
    /// Admits one check of a schema or reply of the task at a time.
    pub(super) checking: Arc<Semaphore>,
    /// Ends the run if the allowance cannot be counted.
    pub(super) on_uncounted: Ending<Uncounted>,
    /// For a task of a batch: ends its item if a key is refused.
    pub(super) on_refused_key: Option<Ending<String>>,
}

/// Ends a run or an item of a batch for a reason that is outside of it. Its tasks end as canceled, so that it goes on from
/// there when it is resumed.
pub(super) struct Ending<T> {
    cancel: CancellationToken,
    first: Arc<OnceLock<T>>,
}

impl<T> Clone for Ending<T> {
    fn clone(&self) -> Self {
        Self {
            cancel: self.cancel.clone(),
            first: Arc::clone(&self.first),
        }
    }
}

impl<T> Ending<T> {
    /// Ends what `cancel` cancels. `first` receives the first reason.
    pub(super) fn new(cancel: &CancellationToken, first: &Arc<OnceLock<T>>) -> Self {
        Self {
            cancel: cancel.clone(),
            first: Arc::clone(first),
        }
    }

    /// Returns the first reason, if there is one.
    pub(super) fn reason(&self) -> Option<&T> {
        self.first.get()
    }

    /// Cancels it, and waits to be dropped with it.
    pub(super) async fn end(&self, why: T) -> ! {
        self.first.get_or_init(|| why);
        self.cancel.cancel();
        std::future::pending().await
    }
}

/// Why the allowance cannot be counted.
#[derive(Debug, Clone)]
pub(super) struct Uncounted {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl From<Uncounted> for Error {
    fn from(why: Uncounted) -> Self {
        let error = Self::host(why.message);
        match why.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

impl CallContext {
    /// Adds to the use of the models.
    pub(super) fn note(&self, report: ModelReport) {
        report.into_list(&mut self.used.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Returns the result of an access to the allowance. If it failed, ends the run: nothing is sent from here on, and no
    /// guest receives the error.
    pub(super) async fn counted<T>(&self, result: Result<T>) -> T {
        match result {
            Ok(done) => done,
            Err(error) => {
                let why = Uncounted {
                    message: with_causes(&error),
                    hint: error.hint().map(str::to_owned),
                };
                self.on_uncounted.end(why).await
            }
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
