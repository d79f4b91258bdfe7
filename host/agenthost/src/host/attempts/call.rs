//! One model call: what it has used so far, and what its task, its reports and the journal learn of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::Served;
use super::super::answer::OutputLimit;
use super::super::call_context::CallContext;
use super::super::record::{PaidReply, request_hash};
use crate::price::Price;
use agenthost_config::ModelRef;
use agenthost_core::limits::ledger::{Exhausted, Used};
use agenthost_core::limits::{Shortage, Usd};
use agenthost_core::llm::{CallError, CallResult, ProviderError, Reply, Request};
use agenthost_core::run::ModelReport;
use agenthost_journal::{AskResult, RecordedUse, RequestHash};

/// One call of a task, with all requests that it takes.
pub(crate) struct Call<'a> {
    pub(super) task: &'a CallContext,
    /// The requested model name.
    pub(super) name: &'a str,
    /// The number of the call among the task's requests.
    pub(super) ordinal: u64,
    /// `true` if the call is booked as a call, which the first sent request does.
    pub(super) counted: AtomicBool,
    /// `true` if the request's schema is known to be usable.
    pub(super) checked: AtomicBool,
    pub(super) so_far: Mutex<SoFar>,
}

/// The costs of a call in an earlier execution of its task that led to no reply.
pub(crate) struct SpentBefore {
    pub(crate) used: Used,
    pub(crate) models: Vec<ModelReport>,
}

/// The state of a call so far.
#[derive(Default)]
pub(super) struct SoFar {
    /// Replies that were paid for in an earlier execution of the task.
    pub(super) paid: Vec<PaidReply>,
    pub(super) used: Used,
    pub(super) models: Vec<ModelReport>,
    /// The request that was answered last, and what it used.
    pub(super) last: Option<(RequestHash, Used)>,
    /// The output limit of that request.
    pub(super) limit: OutputLimit,
    /// The name of the provider that answered last.
    pub(super) answered_by: String,
    /// `true` if a request was answered and the journal does not have its end yet.
    pub(super) unnoted: bool,
    /// The amount by which a limit was too low for the last request that was refused.
    pub(super) shortage: Option<Shortage>,
}

/// The reply to a request, and the model of the chain that gave it.
pub(crate) struct Answered<'m> {
    pub(crate) reply: Reply,
    pub(crate) model: &'m ModelRef,
}

/// One model of the chain, ready to be called.
pub(super) struct Model<'a> {
    pub(super) full_name: String,
    /// The provider's name.
    pub(super) provider: &'a str,
    pub(super) served: &'a Served,
    pub(super) price: Option<Price>,
}

/// The reason why a request brought no reply.
pub(super) enum Failed {
    /// A failure of the provider or the gate: another attempt or another model may succeed.
    Provider(ProviderError),
    /// A failure that another attempt would not cure.
    Call(CallError),
}

impl<'a> Call<'a> {
    /// Creates the call number `ordinal` of `task`. `before` has the costs of an earlier execution that led to no
    /// reply, which are already booked.
    pub(crate) fn new(
        task: &'a CallContext,
        name: &'a str,
        ordinal: u64,
        paid: Vec<PaidReply>,
        before: Option<SpentBefore>,
    ) -> Self {
        let counted = before.is_some();
        let SpentBefore { used, models } = before.unwrap_or_else(|| SpentBefore {
            used: Used {
                cost: Some(Usd::ZERO),
                ..Used::default()
            },
            models: Vec::new(),
        });
        let mut so_far = SoFar {
            paid,
            used,
            ..SoFar::default()
        };
        models.into_iter().for_each(|model| model.into_list(&mut so_far.models));
        Self {
            task,
            name,
            ordinal,
            counted: AtomicBool::new(counted),
            checked: AtomicBool::new(false),
            so_far: Mutex::new(so_far),
        }
    }

    /// Returns the result of the call as the journal keeps it.
    pub(crate) fn told(&self, result: &CallResult) -> AskResult {
        let so_far = self.so_far();
        let used = RecordedUse {
            sent: self.counted.load(Ordering::Relaxed),
            ..RecordedUse::sent(&so_far.used)
        };
        let shortage = match result {
            Err(CallError::Exhausted(limit)) => so_far.shortage.filter(|shortage| shortage.kind() == *limit),
            _ => None,
        };
        AskResult::of_call(result.clone(), used, so_far.models.clone()).with_shortage(shortage)
    }

    /// Notes that a repair of `broken`, which is paid for, follows.
    pub(crate) fn repairs(&self, broken: &Reply) {
        self.keeps(broken);
        let model = self.so_far().models.last().cloned();
        if let Some(model) = model {
            let mut report = ModelReport::new(model.name, model.model);
            report.offline = model.offline;
            report.cost_usd = model.cost_usd.map(|_| Usd::ZERO);
            report.repairs = 1;
            self.note(report);
        }
    }

    /// Keeps the reply to the last request, which the task does not receive, for a later execution.
    pub(crate) fn keeps(&self, reply: &Reply) {
        let last = {
            let mut so_far = self.so_far();
            so_far.unnoted = false;
            so_far.last
        };
        if let Some((hash, used)) = last {
            self.task.log.paid(self.ordinal, hash, reply, &used);
        }
    }

    /// Notes the end of the request whose reply the task receives, once the reply is durable.
    pub(crate) fn noted(&self) {
        if std::mem::take(&mut self.so_far().unnoted) {
            self.task.log.answered(self.ordinal);
        }
    }

    /// Returns the failure of a request that no limit allows.
    pub(super) fn refused(&self, none: &Exhausted) -> Failed {
        self.so_far().shortage = none.shortage;
        Failed::Call(CallError::Exhausted(none.limit))
    }

    pub(super) fn so_far(&self) -> MutexGuard<'_, SoFar> {
        // A panic under this lock leaves the data consistent.
        self.so_far.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to the reports of the call and of its task.
    pub(super) fn note(&self, report: ModelReport) {
        report.clone().into_list(&mut self.so_far().models);
        self.task.note(report);
    }

    /// Notes that a request was abandoned and charged `used`.
    pub(super) fn lost(&self, used: &Used, report: ModelReport) {
        {
            let mut so_far = self.so_far();
            so_far.used = so_far.used.plus(used);
        }
        // The report of this execution already counts the request; a report that is read from the journal must count
        // it.
        let mut again = report.clone();
        again.requests = 1;
        self.task.log.lost(self.ordinal, used, &again);
        self.note(report);
    }

    /// Books what a request used.
    pub(super) fn book(&self, hash: RequestHash, used: Used, limit: OutputLimit) {
        let mut so_far = self.so_far();
        so_far.used = so_far.used.plus(&used);
        so_far.last = Some((hash, used));
        so_far.limit = limit;
    }

    /// Returns the output limit of the request that was answered last.
    pub(crate) fn output_limit(&self) -> OutputLimit {
        self.so_far().limit
    }

    /// Returns the name of the provider that answered last.
    pub(crate) fn answered_by(&self) -> String {
        self.so_far().answered_by.clone()
    }

    /// Returns whether the reply of `model` to this request is paid for.
    pub(super) fn has_paid(&self, model: &ModelRef, request: &Request) -> bool {
        let so_far = self.so_far();
        if so_far.paid.is_empty() {
            return false;
        }
        let hash = request_hash(&model.to_string(), &self.task.echoes.request_to(request, model));
        so_far.paid.iter().any(|paid| paid.hash == hash)
    }

    /// Books the replies that an earlier execution of the task paid for and this one did not use.
    pub(crate) fn book_unused(&self) {
        let unused = std::mem::take(&mut self.so_far().paid);
        for paid in unused {
            let first = !self.counted.swap(true, Ordering::Relaxed);
            self.task.account.restore(&paid.used, u64::from(first));
            {
                let mut so_far = self.so_far();
                so_far.used = so_far.used.plus(&paid.used);
            }
            let mut report = ModelReport::new(self.name, &paid.reply.model).with_used(&paid.used);
            (report.calls, report.requests) = (u64::from(first), 1);
            report.searches = paid.reply.usage.map_or(0, |usage| usage.searches);
            self.note(report);
        }
    }

    /// Returns the recorded reply to this request and books it, or `None` if the request has to be sent.
    pub(super) fn paid(&self, model: &Model<'_>, request: &Request) -> Option<Reply> {
        if self.so_far().paid.is_empty() {
            return None;
        }
        let hash = request_hash(&model.full_name, request);
        let paid = {
            let mut so_far = self.so_far();
            let at = so_far.paid.iter().position(|paid| paid.hash == hash)?;
            so_far.paid.remove(at)
        };
        let used = paid.used;
        let first = !self.counted.swap(true, Ordering::Relaxed);
        self.task.account.restore(&used, u64::from(first));
        let limit = OutputLimit {
            tokens: request.max_tokens,
            counted: None,
        };
        self.book(hash, used, limit);
        // The journal has it already.
        self.so_far().last = None;
        let mut report = self.report(model).with_used(&used);
        report.calls = u64::from(first);
        report.requests = 1;
        report.searches = paid.reply.usage.map_or(0, |usage| usage.searches);
        self.note(report);
        Some(paid.reply)
    }

    /// Returns an empty report on this call's use of `model`.
    pub(super) fn report(&self, model: &Model<'_>) -> ModelReport {
        let mut report = ModelReport::new(self.name, &model.full_name);
        report.cost_usd = model.price.as_ref().map(|_| Usd::ZERO);
        report.offline = model.served.provider.is_offline();
        report
    }
}
