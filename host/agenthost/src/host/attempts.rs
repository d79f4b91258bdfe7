//! The path of one model call, in its only order: limits (reserve), gate, journal, provider, and back: settle.
//!
//! A call may take several requests: further attempts after a transient failure, the next model of a chain, a second
//! request beside a slow one. Each is reserved, admitted and settled by itself, so the books hold what each has used,
//! and no more is in flight than was reserved. A request that is dropped after it was sent (its task ended, the guest
//! dropped it, it lost a race) is charged its whole reservation, because the provider may bill all of it and will never
//! report the count. Such a request is reported as abandoned.

mod in_flight;

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};

use self::in_flight::InFlight;
use super::Served;
use super::answer::OutputLimit;
use super::call_context::CallContext;
use super::estimate::InputSize;
use super::record::{PaidReply, request_hash};
use crate::price::Price;
use crate::telemetry;
use agenthost_config::ModelRef;
use agenthost_core::failpoint;
use agenthost_core::limits::ledger::{Used, Want};
use agenthost_core::limits::{LimitKind, Usd};
use agenthost_core::llm::{CacheTtl, CallError, CallResult, ProviderError, ProviderErrorKind, Reply, Request};
use agenthost_core::run::{Event, ModelReport};
use agenthost_gate::{Attempt, Prefix, RetryDecision, Ticket};
use agenthost_journal::{AskResult, RecordedUse, RequestHash};

/// One call of a task, with all requests that it takes.
pub(super) struct Call<'a> {
    task: &'a CallContext,
    /// The requested model name.
    name: &'a str,
    /// The number of the call among the task's requests.
    ordinal: u64,
    /// Whether the call is booked as a call, which the first sent request does.
    counted: AtomicBool,
    /// Whether the request's schema is known to be usable.
    checked: AtomicBool,
    so_far: Mutex<SoFar>,
}

/// The costs of a call in an earlier execution of its task that led to no reply.
pub(super) struct SpentBefore {
    pub(super) used: Used,
    pub(super) models: Vec<ModelReport>,
}

/// The state of a call so far.
#[derive(Default)]
struct SoFar {
    /// Replies that were paid for in an earlier execution of the task.
    paid: Vec<PaidReply>,
    used: Used,
    models: Vec<ModelReport>,
    /// The request that was answered last, and what it used.
    last: Option<(RequestHash, Used)>,
    /// The output limit of that request.
    limit: OutputLimit,
    /// Whether a request was answered and the journal does not have its end yet.
    unnoted: bool,
}

/// One model of the chain, ready to be called.
struct Model<'a> {
    full_name: String,
    /// The provider's name.
    provider: &'a str,
    served: &'a Served,
    price: Option<Price>,
}

/// The reason why a request brought no reply.
enum Failed {
    /// A failure of the provider or the gate: another attempt or another model may succeed.
    Provider(ProviderError),
    /// A failure that another attempt would not cure.
    Call(CallError),
}

impl<'a> Call<'a> {
    /// Creates the call number `ordinal` of `task`. `before` has the costs of an earlier execution that led to no
    /// reply, which are already booked.
    pub(super) fn new(
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
    pub(super) fn told(&self, result: &CallResult) -> AskResult {
        let so_far = self.so_far();
        let used = RecordedUse {
            sent: self.counted.load(Ordering::Relaxed),
            ..RecordedUse::sent(&so_far.used)
        };
        AskResult::of_call(result.clone(), used, so_far.models.clone())
    }

    /// Notes that a repair of `broken`, which is paid for, follows.
    pub(super) fn repairs(&self, broken: &Reply) {
        self.keeps(broken);
        let model = self.so_far().models.last().cloned();
        if let Some(model) = model {
            self.note(ModelReport {
                name: model.name,
                model: model.model,
                offline: model.offline,
                cost_usd: model.cost_usd.map(|_| Usd::ZERO),
                repairs: 1,
                ..ModelReport::default()
            });
        }
    }

    /// Keeps the reply to the last request, which the task does not receive, for a later execution.
    fn keeps(&self, reply: &Reply) {
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
    pub(super) fn noted(&self) {
        if std::mem::take(&mut self.so_far().unnoted) {
            self.task.log.answered(self.ordinal);
        }
    }

    fn so_far(&self) -> MutexGuard<'_, SoFar> {
        // A panic under this lock leaves the data consistent.
        self.so_far.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to the reports of the call and of its task.
    fn note(&self, report: ModelReport) {
        report.clone().into_list(&mut self.so_far().models);
        self.task.note(report);
    }

    /// Notes that a request was abandoned and charged `used`.
    fn lost(&self, used: &Used, report: ModelReport) {
        {
            let mut so_far = self.so_far();
            so_far.used = so_far.used.plus(used);
        }
        // The report of this execution already counts the request; a report that is read from the journal must count
        // it.
        let again = ModelReport {
            requests: 1,
            ..report.clone()
        };
        self.task.log.lost(self.ordinal, used, &again);
        self.note(report);
    }

    /// Books what a request used.
    fn book(&self, hash: RequestHash, used: Used, limit: OutputLimit) {
        let mut so_far = self.so_far();
        so_far.used = so_far.used.plus(&used);
        so_far.last = Some((hash, used));
        so_far.limit = limit;
    }

    /// Returns the output limit of the request that was answered last.
    pub(super) fn output_limit(&self) -> OutputLimit {
        self.so_far().limit
    }

    /// Returns the recorded reply to this request and books it, or `None` if the request has to be sent.
    fn paid(&self, model: &Model<'_>, request: &Request) -> Option<Reply> {
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
        self.note(ModelReport {
            calls: u64::from(first),
            requests: 1,
            input_tokens: used.input,
            cached_input_tokens: used.cached_input,
            output_tokens: used.output,
            cost_usd: used.cost,
            ..self.report(model)
        });
        Some(paid.reply)
    }

    /// Calls the models of the chain in turn until one has answered.
    pub(super) async fn serve(&self, models: &[ModelRef], mut request: Request) -> CallResult {
        let mut before: Option<CallError> = None;
        for (n, model) in models.iter().enumerate() {
            let full_name = model.to_string();
            let price = self.task.host.price(model);
            let served = if price.is_none() && self.task.account.has_cost_limit() {
                Err(CallError::Denied(format!(
                    "{full_name} has no known price and a cost limit is set; give its price in [prices.\"{full_name}\"]"
                )))
            } else {
                // This fails if the provider has no key, for example; the next one may have one.
                self.task.host.provider(&model.provider)
            };
            let served = match (served, &before) {
                (Ok(served), _) => served,
                (Err(CallError::Denied(why)), None) => return Err(CallError::Denied(why)),
                (Err(error), _) => {
                    before.get_or_insert(error);
                    continue;
                }
            };
            // OpenAI's API has no such request.
            let hour = served.kind != "openai" && request.options.cache == Some(CacheTtl::OneHour);
            let price = price.map(|price| if hour { price.with_hour_writes() } else { price.clone() });
            request.model.clone_from(&model.model);
            let model = Model {
                full_name,
                provider: &model.provider,
                served,
                price,
            };
            let last = n + 1 == models.len();
            match self.attempts(&model, &request, last).await {
                Ok(reply) => return Ok(reply),
                Err(Failed::Call(error)) => return Err(before.unwrap_or(error)),
                Err(Failed::Provider(error)) => {
                    let said = call_error(&model.full_name, &error);
                    if !may_fall_back(error.kind) {
                        return Err(said);
                    }
                    // The error of the first model is the most informative.
                    before.get_or_insert(said);
                }
            }
        }
        Err(before.unwrap_or_else(|| CallError::Unavailable(format!("no model is mapped to `{}`", self.name))))
    }

    /// Calls one model, and retries if that can help. `last` is whether no other model can take over.
    async fn attempts(&self, model: &Model<'_>, request: &Request, last: bool) -> Result<Reply, Failed> {
        let mut attempt = 0;
        // Attempts in an outage do not count.
        let mut counted = 0;
        let mut other_form = false;
        let size = InputSize::measure(request, model.served.kind).await;
        loop {
            let mut error = match self.attempt(model, request, &size, attempt).await {
                Err(Failed::Provider(error)) => error,
                other => return other,
            };
            if error.kind == ProviderErrorKind::FormatRefused && !other_form {
                // The service works, and the provider asks in another form from now on.
                other_form = true;
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
                    if let Some(advice) = self.task.host.advice(model.provider, &error) {
                        error.message = format!("{}; {advice}", error.message);
                        error.setting = None;
                    }
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
        self.note(ModelReport {
            retries: 1,
            waited_ms: millis(wait),
            ..self.report(model)
        });
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
        let input = task.host.estimates.input(&model.full_name, size, strict);
        let worst = |input, output| {
            model
                .price
                .as_ref()
                .map_or(Usd::ZERO, |price| price.worst(input, output))
        };
        let want = Want {
            input,
            output: u64::from(request.max_tokens),
            cost: model.price.is_some().then_some(&worst),
            call: !self.counted.load(Ordering::Relaxed),
        };
        let exhausted = |limit| Failed::Call(CallError::Exhausted(limit));
        failpoint!(await "call.reserve");
        failpoint!("call.exhausted", exhausted(LimitKind::Tokens));
        let reservation = if hedge {
            // A hedge neither waits for a reservation nor makes the call fail.
            let reserved = task.account.try_reserve(&want).map_err(|none| exhausted(none.limit))?;
            reserved.ok_or_else(|| exhausted(LimitKind::Tokens))?
        } else {
            let reserved = task.account.reserve(&want).await;
            reserved.map_err(|none| exhausted(none.limit))?
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
        let admitted = model.served.gate.admit(ticket).await;
        failpoint!(await "call.admitted");
        let permit = admitted.map_err(|late| {
            let error = ProviderError::new(ProviderErrorKind::RateLimited, late.to_string());
            Failed::Provider(ProviderError {
                no_retry: true,
                ..error
            })
        })?;
        request.mark_prefix = permit.mark();
        Ok(InFlight {
            call: self,
            model,
            report: ModelReport {
                hedges: u64::from(hedge),
                ..self.report(model)
            },
            request,
            size: *size,
            attempt,
            reservation: Some(reservation),
            permit: Some(permit),
            sent: false,
        })
    }

    /// Returns an empty report on this call's use of `model`.
    fn report(&self, model: &Model<'_>) -> ModelReport {
        ModelReport {
            name: self.name.to_owned(),
            model: model.full_name.clone(),
            cost_usd: model.price.as_ref().map(|_| Usd::ZERO),
            offline: model.served.provider.is_offline(),
            ..ModelReport::default()
        }
    }
}

/// Returns whether the next model of a chain may succeed: not if the request itself is at fault or was declined.
fn may_fall_back(kind: ProviderErrorKind) -> bool {
    !matches!(
        kind,
        ProviderErrorKind::InvalidRequest | ProviderErrorKind::ContextOverflow | ProviderErrorKind::Refused
    )
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn call_error(model: &str, error: &ProviderError) -> CallError {
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
