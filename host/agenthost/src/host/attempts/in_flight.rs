//! A request on its way: counted when it is sent, settled when it is answered, reported as abandoned when it is
//! dropped.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::Instrument as _;

use super::super::answer::OutputLimit;
use super::super::estimate::InputSize;
use super::super::record::request_hash;
use super::super::server_tools::uses_in;
use super::call::{Call, Failed, Model};
use crate::allowance::AllowanceHold;
use crate::telemetry;
use agenthost_core::failpoint;
use agenthost_core::limits::ledger::{Reservation, Used};
use agenthost_core::limits::{LimitKind, Usd};
use agenthost_core::llm::{CallError, Part, ProviderError, ProviderErrorKind, Reply, Request, ServerToolKind, Usage};
use agenthost_core::run::{Abandoned, Event, ModelReport, Overshoot};
use agenthost_gate::Permit;

/// The end of a request in the books.
#[derive(Default)]
struct Booked {
    used: Used,
    /// The limit that it passed, because the provider counted more than was reserved.
    passed: Option<LimitKind>,
}

/// A request that may be sent, or was. Dropping it after it was sent reports it as abandoned and charges its
/// reservation.
pub(super) struct InFlight<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) model: &'a Model<'a>,
    pub(super) request: Request,
    pub(super) report: ModelReport,
    /// The size of its input.
    pub(super) size: InputSize,
    pub(super) attempt: u32,
    /// The reservation and the permit are taken once the reply is booked.
    pub(super) reservation: Option<Reservation>,
    /// The part of the allowance that it has taken, until the reply is booked.
    pub(super) allowance: Option<AllowanceHold>,
    pub(super) permit: Option<Permit>,
    pub(super) sent: bool,
}

impl InFlight<'_> {
    /// Sends the request once and books what it used.
    pub(super) async fn send(mut self) -> Result<Reply, Failed> {
        let task = self.call.task;
        if let Some(allowance) = self.allowance.take() {
            self.allowance = Some(task.counted(allowance.sending().await).await);
        }
        let written = task.log.sending(self.call.ordinal, &self.model.full_name).await;
        written.map_err(Failed::Call)?;
        failpoint!(await "call.send");
        self.depart();
        failpoint!(await "call.sent");
        let waited = self.permit.as_ref().map_or(0, |permit| millis(permit.waited()));
        let provider = &self.model.served;
        let span = telemetry::request(
            &task.task.to_string(),
            provider.kind,
            &self.request,
            self.attempt,
            waited,
        );
        let answer = provider.provider.complete(&self.request).instrument(span.clone()).await;
        failpoint!(await "settle.answer");
        telemetry::answered(&span, answer.as_ref());
        let Booked { used, passed } = self.arrive(answer.as_ref());
        task.emit(Event::CallSettled {
            task: task.task.clone(),
            spent: task.account.spent(),
            error: answer.as_ref().err().map(ToString::to_string),
        });
        let mut reply = answer.map_err(Failed::Provider)?;
        self.model.served.answered.store(true, Ordering::Relaxed);
        if let Some(limit) = passed {
            // The reply is paid for: a resumed run receives it, and its next request meets the limit.
            self.call.keeps(&reply);
            return Err(Failed::Call(CallError::Exhausted(limit)));
        }
        // The guest receives the usage as it is booked.
        reply.usage.get_or_insert(Usage {
            input: used.input,
            output: used.output,
            ..Usage::default()
        });
        Ok(reply)
    }

    /// Marks the request as sent. It is booked from here on, even if it is dropped.
    fn depart(&mut self) {
        let task = self.call.task;
        if let Some(reservation) = &mut self.reservation {
            reservation.sent();
        }
        if let Some(allowance) = &mut self.allowance {
            allowance.sent();
        }
        self.sent = true;
        let first = !self.call.counted.swap(true, Ordering::Relaxed);
        let mut limits_met = BTreeMap::new();
        for met in self.permit.iter().flat_map(|permit| permit.met()) {
            limits_met.insert(met.name().to_owned(), 1);
        }
        let mut sent = self.report.clone();
        sent.calls = u64::from(first);
        sent.requests = 1;
        sent.warmed = u64::from(self.permit.as_ref().is_some_and(Permit::leads));
        sent.waited_ms = self.permit.as_ref().map_or(0, |permit| millis(permit.waited()));
        sent.limits_met = limits_met;
        self.call.note(sent);
        self.report.hedges = 0;
        task.emit(Event::CallSent {
            task: task.task.clone(),
            model: self.model.full_name.clone(),
        });
    }

    /// Settles the request by the usage that the reply reports.
    fn arrive(&mut self, answer: Result<&Reply, &ProviderError>) -> Booked {
        let (Some(reservation), Some(permit)) = (self.reservation.take(), self.permit.take()) else {
            return Booked::default();
        };
        let task = self.call.task;
        failpoint!("settle.arrive");
        match answer {
            // Noted once the journal has the reply: if the process ends before that, the request is lost.
            Ok(_) => self.call.so_far().unnoted = true,
            Err(_) => task.log.answered(self.call.ordinal),
        }
        failpoint!("settle.gate");
        permit.settle(answer);
        failpoint!("settle.charge");
        let price = self.model.price.as_ref();
        let counted = match answer {
            Ok(reply) => reply.usage.as_ref(),
            Err(error) => error.usage.as_deref(),
        };
        let used = match counted {
            Some(usage) => {
                let estimates = &task.host.estimates;
                let uses = answer.map_or(0, |reply| uses(&reply.content));
                match self.request.options.server_tools.is_empty() {
                    true => estimates.learn(&self.model.full_name, &self.size, usage.input),
                    false if usage.input > reservation.worst().input => {
                        estimates.learn_uses(&self.model.full_name, &self.size, usage.input, uses);
                    }
                    false => {}
                }
                Used {
                    input: usage.input,
                    cached_input: usage.cached_input,
                    output: usage.output,
                    cost: price.map(|price| price.cost(usage)),
                }
            }
            // The provider's count is not known.
            None if answer.map_or_else(|error| error.may_be_billed, |_| true) => reservation.worst(),
            None => Used {
                cost: price.map(|_| Usd::ZERO),
                ..Used::default()
            },
        };
        let reserved = reservation.worst();
        let passed = reservation.settle(used);
        if let Some(allowance) = self.allowance.take() {
            allowance.settle(&used);
        }
        failpoint!("settle.charged");
        let overshoot = self.overshoot(&reserved, &used, passed);
        if let Ok(reply) = answer {
            let limit = OutputLimit {
                tokens: self.request.max_tokens,
                counted: reply.usage.map(|usage| usage.output),
            };
            let hash = request_hash(&self.model.full_name, &self.request);
            self.call.book(hash, used, limit);
        } else {
            let mut so_far = self.call.so_far();
            so_far.used = so_far.used.plus(&used);
        }
        let mut report = self.report.clone().with_used(&used);
        report.searches = counted.map_or(0, |usage| usage.searches);
        if let Err(error) = answer {
            report.errors.insert(error.kind.name().to_owned(), 1);
        }
        if matches!(answer, Err(error) if error.kind == ProviderErrorKind::RateLimited) {
            report.limits_met.insert("rate-limited".to_owned(), 1);
        }
        if matches!(answer, Err(error) if error.may_be_billed && error.usage.is_none()) {
            report.abandoned = Abandoned::one(&used);
        }
        report.overshoot = overshoot;
        self.call.note(report);
        Booked { used, passed }
    }

    /// Reports that the provider counted more than was reserved, if it did.
    fn overshoot(&self, reserved: &Used, used: &Used, passed: Option<LimitKind>) -> Overshoot {
        let sum = |used: &Used| used.input.saturating_add(used.output);
        if sum(used) <= sum(reserved) && used.cost <= reserved.cost {
            return Overshoot::default();
        }
        // An estimate of the input that is too low matters to people only if a limit was passed.
        if used.output > reserved.output || passed.is_some() {
            let task = self.call.task;
            let section = task
                .host
                .config
                .provider_section(self.model.provider, "max-tokens-field");
            telemetry::overshoot(&task.task.to_string(), &self.model.full_name, &section, reserved, used);
        }
        Overshoot {
            requests: 1,
            reserved_tokens: sum(reserved),
            used_tokens: sum(used),
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let sent = self.sent;
        let Some(reservation) = self.reservation.take().filter(|_| sent) else {
            return;
        };
        let used = reservation.worst();
        drop(reservation);
        let mut report = self.report.clone().with_used(&used);
        report.abandoned = Abandoned::one(&used);
        self.call.lost(&used, report);
    }
}

/// Returns how often a reply used tools of the provider.
fn uses(content: &[Part]) -> u64 {
    let each = ServerToolKind::ALL.map(|kind| u64::from(uses_in(content, kind)));
    each.into_iter().sum()
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
