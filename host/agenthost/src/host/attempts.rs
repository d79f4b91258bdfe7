//! The path of one model call, in its only order: limits (reserve), allowance (take), gate, allowance (sent), journal,
//! provider, and back: settle.
//!
//! A call may take several requests: further attempts after a transient failure, the next model of a chain, a second
//! request beside a slow one. Each is reserved, admitted and settled by itself, so the books hold what each has used,
//! and no more is in flight than was reserved. A request that is dropped after it was sent (its task ended, the guest
//! dropped it, it lost a race) is charged its whole reservation, because the provider may bill all of it and will never
//! report the count. Such a request is reported as abandoned.

mod call;
mod in_flight;

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{Either, select};

use self::call::{Failed, Model};
use self::in_flight::{InFlight, millis};
use super::estimate::InputSize;
use super::server_tools::MostUses;
use crate::allowance::AllowanceHold;
use crate::price::Price;
use crate::telemetry;
use agenthost_config::ModelRef;
use agenthost_core::failpoint;
use agenthost_core::limits::ledger::{Reservation, Want};
use agenthost_core::limits::{LimitKind, Usd};
use agenthost_core::llm::{CallError, ProviderError, ProviderErrorKind, Reply, Request};
use agenthost_core::run::{Event, WaitReason};
use agenthost_gate::{Attempt, Prefix, RetryDecision, Ticket};

pub(super) use self::call::{Answered, Call, SpentBefore};

/// A wait that is not reported: most are shorter, and a reader sees the next event at once.
const UNREPORTED_WAIT: Duration = Duration::from_millis(200);
/// The most forms in which one request is sent to a model: as it is, without the schema as a parameter, without encrypted
/// reasoning, and without the members of earlier replies.
const MAX_FORMS: u32 = 4;
/// The time between two reports of a wait, whose reason may change.
const WAIT_REPORTS: Duration = Duration::from_secs(5);

impl Call<'_> {
    /// Calls the models of the chain in turn until one has answered.
    pub(super) async fn serve<'m>(&self, models: &'m [ModelRef], request: Request) -> Result<Answered<'m>, CallError> {
        let mut before: Option<CallError> = None;
        let mut lacks: Option<CallError> = None;
        let mut is_refused = false;
        // A model whose reply is paid for has answered before those ahead of it.
        let first = models
            .iter()
            .position(|model| self.has_paid(model, &request))
            .unwrap_or(0);
        for (n, entry) in models.iter().enumerate().skip(first) {
            let full_name = entry.to_string();
            let served = if self.task.host.price(entry).is_none() && self.limits_cost(entry) {
                Err(CallError::Denied(format!(
                    "{full_name} has no known price and a cost limit is set; give its price in [prices.\"{full_name}\"]"
                )))
            } else {
                // This fails if the provider has no key, for example; the next one may have one.
                self.task.host.provider(&entry.provider)
            };
            let lacking = served.as_ref().ok().and_then(|served| {
                let mut tools = request.options.server_tools.iter();
                tools.find_map(|tool| served.provider.lacks(tool))
            });
            if let Some(why) = lacking {
                // The next one may have it, and if that one fails, its failure counts.
                lacks.get_or_insert(CallError::Denied(format!("{full_name}: {why}")));
                continue;
            }
            let served = match (served, &before) {
                (Ok(served), _) => served,
                (Err(CallError::Denied(why)), None) => return Err(CallError::Denied(why)),
                (Err(error), _) => {
                    before.get_or_insert(error);
                    continue;
                }
            };
            let price = self.task.host.request_price(entry, served.kind, &request.options);
            let request = self.task.echoes.request_to(&request, entry);
            let model = Model {
                full_name,
                provider: &entry.provider,
                served,
                price,
            };
            let last = n + 1 == models.len();
            match self.attempts(&model, &request, last).await {
                Ok(reply) => {
                    self.so_far().answered_by.clone_from(&entry.provider);
                    return Ok(Answered { reply, model: entry });
                }
                Err(Failed::Call(error @ CallError::Exhausted(_))) => return Err(error),
                Err(Failed::Call(error)) => return Err(before.unwrap_or(error)),
                Err(Failed::Provider(error)) => {
                    let said = call_error(&model.full_name, &error);
                    if !may_fall_back(error.kind) {
                        return Err(said);
                    }
                    is_refused |= before.is_none() && refuses_key(&model, error.kind);
                    // The error of the first model is the most informative.
                    before.get_or_insert(said);
                }
            }
        }
        let error = before
            .or(lacks)
            .unwrap_or_else(|| CallError::Unavailable(format!("no model is mapped to `{}`", self.name)));
        match &self.task.on_refused_key {
            Some(item) if is_refused => item.end(error.to_string()).await,
            _ => Err(error),
        }
    }

    /// Returns whether money is limited for calls of this model.
    fn limits_cost(&self, model: &ModelRef) -> bool {
        let host = &self.task.host;
        let is_offline = || {
            host.provider(&model.provider)
                .is_ok_and(|served| served.provider.is_offline())
        };
        let allowance = host
            .allowances
            .as_ref()
            .is_some_and(|allowances| allowances.limits_cost());
        self.task.account.has_cost_limit() || (allowance && !is_offline())
    }

    /// Calls one model, and retries if that can help. `last` is whether no other model can take over.
    async fn attempts(&self, model: &Model<'_>, request: &Request, last: bool) -> Result<Reply, Failed> {
        let mut attempt = 0;
        // Attempts in an outage do not count.
        let mut counted = 0;
        let mut forms = 1;
        let size = InputSize::measure(request, model.served.kind).await;
        loop {
            let mut error = match self.attempt(model, request, &size, attempt).await {
                Err(Failed::Provider(error)) => error,
                other => return other,
            };
            if error.kind == ProviderErrorKind::FormatRefused && forms < MAX_FORMS {
                // The service works, and the provider asks in another form from now on.
                forms += 1;
                self.retries(model, request, &error, Duration::ZERO);
                attempt += 1;
                continue;
            }
            let gate = &model.served.gate;
            let failed = Attempt {
                number: counted,
                deadline: self.task.deadline,
                fallback: !last,
            };
            let wait = match gate.judge(&request.model, &error, failed) {
                RetryDecision::Again(wait) => {
                    counted += 1;
                    wait
                }
                RetryDecision::AgainUncounted(wait) => wait,
                RetryDecision::Final(why) => {
                    error = self.task.host.advised(model.provider, error);
                    if let Some(why) = why {
                        error.message = format!("{}; {why}", error.message);
                    }
                    return Err(Failed::Provider(error));
                }
            };
            self.retries(model, request, &error, wait);
            tokio::time::sleep(wait).await;
            failpoint!(await "call.again");
            attempt += 1;
        }
    }

    /// Reports that another attempt follows after `wait`.
    fn retries(&self, model: &Model<'_>, request: &Request, error: &ProviderError, wait: Duration) {
        telemetry::retry(&self.task.task.to_string(), &request.model, error, millis(wait));
        self.task.emit(Event::CallRetried {
            task: self.task.task.clone(),
            model: model.full_name.clone(),
            error: error.to_string(),
            wait,
        });
        let mut report = self.report(model);
        report.retries = 1;
        report.waited_ms = millis(wait);
        self.note(report);
    }

    /// Awaits `ready`, and reports the reason for which the request waits as long as it does.
    async fn waiting<T>(
        &self,
        model: &Model<'_>,
        ready: impl Future<Output = T>,
        reason: impl Fn() -> Option<(WaitReason, Option<Duration>)>,
    ) -> T {
        let mut ready = pin!(ready);
        let mut pause = UNREPORTED_WAIT;
        loop {
            match select(ready.as_mut(), pin!(tokio::time::sleep(pause))).await {
                Either::Left((result, _)) => return result,
                Either::Right(_) => pause = WAIT_REPORTS,
            }
            if let Some((reason, wait)) = reason() {
                self.task.emit(Event::CallWaiting {
                    task: self.task.task.clone(),
                    model: model.full_name.clone(),
                    reason,
                    wait,
                });
            }
        }
    }

    /// Makes one attempt, with a second request beside the first if hedging is configured and the first is slow.
    async fn attempt(
        &self,
        model: &Model<'_>,
        request: &Request,
        size: &InputSize,
        attempt: u32,
    ) -> Result<Reply, Failed> {
        if let Some(reply) = self.paid(model, request) {
            return Ok(reply);
        }
        let first = self.admit(model, request, size, attempt, false).await?.send();
        let Some(after) = model.served.hedge_after else {
            return first.await;
        };
        let mut first = pin!(first);
        if let Either::Left((answer, _)) = select(first.as_mut(), pin!(tokio::time::sleep(after))).await {
            return answer;
        }
        if !model.served.gate.may_hedge(&request.model) {
            return first.await;
        }
        let second = pin!(async { self.admit(model, request, size, attempt, true).await?.send().await });
        // The first success wins and drops the other request. After a failure, the other one is awaited.
        match select(first, second).await {
            Either::Left((Ok(reply), _)) | Either::Right((Ok(reply), _)) => Ok(reply),
            Either::Left((Err(failed), second)) => second.await.map_err(|_| failed),
            Either::Right((Err(_), first)) => first.await,
        }
    }

    /// Reserves for a request in the accounts of its run, and takes its worst case from the allowance.
    async fn reserve(
        &self,
        model: &Model<'_>,
        mut want: Want<'_>,
        hedge: bool,
    ) -> Result<(Reservation, Option<AllowanceHold>), Failed> {
        let account = &self.task.account;
        let asked = want.output;
        let allowances = self.task.host.allowances.as_ref();
        let allowances = allowances.filter(|_| !model.served.provider.is_offline());
        loop {
            let room = match allowances {
                None => None,
                Some(allowances) => Some(self.task.counted(allowances.room().await).await),
            };
            // The allowance may have been renewed since the last round.
            want.output = asked;
            if let Some(room) = &room {
                want.output = want.output_within(room.tokens, room.cost).map_err(|limit| {
                    if let Some(stopped) = room.stopped(limit) {
                        account.refuse(stopped);
                    }
                    exhausted(limit)
                })?;
            }
            let reservation = if hedge {
                // A hedge neither waits for a reservation nor makes the call fail.
                let reserved = account.try_reserve(&want).map_err(|none| exhausted(none.limit))?;
                reserved.ok_or_else(|| exhausted(LimitKind::Tokens))?
            } else {
                let reserved = account.reserve(&want).await;
                reserved.map_err(|none| self.refused(&none))?
            };
            let (Some(allowances), Some(room)) = (allowances, room) else {
                return Ok((reservation, None));
            };
            let taken = allowances.take(&reservation.worst(), &room).await;
            match self.task.counted(taken).await {
                Some(taken) => return Ok((reservation, Some(taken))),
                None if hedge => return Err(exhausted(LimitKind::Tokens)),
                // Others of this run may go ahead meanwhile.
                None => drop(reservation),
            }
            allowances.wait().await;
        }
    }

    /// Reserves for a request and waits until the gate admits it.
    async fn admit<'s>(
        &'s self,
        model: &'s Model<'s>,
        request: &Request,
        size: &InputSize,
        attempt: u32,
        hedge: bool,
    ) -> Result<InFlight<'s>, Failed> {
        let task = self.task;
        let strict = task.host.config.run().strict_tokens;
        let price = model.price.as_ref();
        let most = MostUses::of(&request.options.server_tools);
        let estimates = &task.host.estimates;
        let prompt = estimates.input(&model.full_name, size, strict);
        let input = most.input(prompt, price, estimates.tokens_per_use(&model.full_name));
        let worst = |input, output| {
            price.map_or(Usd::ZERO, |price| {
                price.worst(input, output).saturating_add(most.cost(Some(price)))
            })
        };
        let want = Want {
            input,
            output: u64::from(request.max_tokens),
            cost: model.price.is_some().then_some(&worst),
            call: !self.counted.load(Ordering::Relaxed),
        };
        failpoint!(await "call.reserve");
        failpoint!("call.exhausted", exhausted(LimitKind::Tokens));
        let reserved = self.reserve(model, want, hedge);
        let (reservation, allowance) = match hedge {
            true => reserved.await?,
            false => {
                self.waiting(model, reserved, || Some((WaitReason::Budget, None)))
                    .await?
            }
        };
        // Checked only after the reservation: a call that no limit allows costs no work.
        if let Some(schema) = &request.schema
            && !self.checked.load(Ordering::Relaxed)
        {
            let checked = task.host.checks.check(schema, &task.checking).await;
            checked.map_err(Failed::Call)?;
            self.checked.store(true, Ordering::Relaxed);
        }
        let mut request = request.clone();
        request.max_tokens = u32::try_from(reservation.output()).unwrap_or(u32::MAX);
        let pays = model.price.as_ref().is_some_and(Price::caching_pays);
        let ticket = Ticket {
            model: &request.model,
            line: &task.line,
            again: attempt > 0,
            input,
            output: reservation.output(),
            prefix: model.served.warms(pays).then(|| Prefix::of(&request)).flatten(),
            deadline: task.deadline,
        };
        failpoint!(await "call.admit");
        let gate = &model.served.gate;
        let admitted = self
            .waiting(model, gate.admit(ticket), || gate.blocked(&request.model))
            .await;
        failpoint!(await "call.admitted");
        let permit = admitted.map_err(|late| {
            let error = ProviderError::new(ProviderErrorKind::RateLimited, late.to_string());
            Failed::Provider(error.without_retry())
        })?;
        request.mark_prefix = permit.mark();
        let mut report = self.report(model);
        report.hedges = u64::from(hedge);
        Ok(InFlight {
            call: self,
            model,
            report,
            request,
            size: *size,
            attempt,
            reservation: Some(reservation),
            allowance,
            permit: Some(permit),
            sent: false,
        })
    }
}

fn exhausted(limit: LimitKind) -> Failed {
    Failed::Call(CallError::Exhausted(limit))
}

/// Returns whether the next model of a chain is asked: not if the request itself is at fault, or if the model has answered.
fn may_fall_back(kind: ProviderErrorKind) -> bool {
    !matches!(
        kind,
        ProviderErrorKind::InvalidRequest
            | ProviderErrorKind::FormatRefused
            | ProviderErrorKind::ContextOverflow
            | ProviderErrorKind::Refused
            | ProviderErrorKind::InvalidReply
    )
}

/// Returns whether an error means that the provider does not accept its key for any request. A provider that has answered
/// forbids one request rather than all.
fn refuses_key(model: &Model<'_>, kind: ProviderErrorKind) -> bool {
    match kind {
        ProviderErrorKind::Authentication => true,
        ProviderErrorKind::Permission => !model.served.answered.load(Ordering::Relaxed),
        _ => false,
    }
}

/// Returns the error that a task receives.
pub(super) fn call_error(model: &str, error: &ProviderError) -> CallError {
    let text = format!("{model}: {error}");
    match error.kind {
        ProviderErrorKind::ContextOverflow => CallError::ContextOverflow,
        ProviderErrorKind::Refused => CallError::Refused(error.message.clone()),
        ProviderErrorKind::InvalidReply => CallError::InvalidReply(text),
        ProviderErrorKind::InvalidRequest | ProviderErrorKind::TooLarge | ProviderErrorKind::FormatRefused => {
            CallError::InvalidRequest(text)
        }
        ProviderErrorKind::RateLimited
        | ProviderErrorKind::Overloaded
        | ProviderErrorKind::Server
        | ProviderErrorKind::Connection
        | ProviderErrorKind::Timeout
        | ProviderErrorKind::BadReply => CallError::Unavailable(text),
        ProviderErrorKind::Authentication => CallError::Other("authentication".into(), text),
        ProviderErrorKind::Permission => CallError::Other("permission".into(), text),
        ProviderErrorKind::NotFound => CallError::Other("not-found".into(), text),
        ProviderErrorKind::SpendCap => CallError::Other("spend-cap".into(), text),
    }
}
