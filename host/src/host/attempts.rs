//! The path of one model call, in the one order that it has: limits (reserve), gate, provider, and back: settle.
//!
//! A call may take several requests: other attempts after a failure that waiting cures, the next model of a chain, a
//! second request beside a slow one. Each is reserved, admitted and settled by itself, so the books hold what each has
//! used and no more is in flight than was reserved. A request that is dropped on the way (its task ended, it lost a race)
//! gives back what it held, and is reported as abandoned, because what the provider counted for it is never learned.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use tracing::Instrument as _;

use super::Served;
use super::calls::TaskCalls;
use crate::config::ModelRef;
use crate::gate::{Permit, Prefix, Ticket, Verdict};
use crate::limits::ledger::{Reservation, Used, Want};
use crate::limits::{LimitKind, Usd};
use crate::llm::{CacheTtl, CallError, CallResult, ProviderError, ProviderErrorKind, Reply, Request, Usage};
use crate::price::Price;
use crate::run::{Abandoned, Event, ModelReport};
use crate::telemetry;

/// One call of a task, with all requests that it takes.
pub(super) struct Call<'a> {
    task: &'a TaskCalls,
    /// The model name that was asked for.
    name: &'a str,
    /// Whether the call is in the books as one: the first request that is sent puts it there, and no other.
    counted: AtomicBool,
}

/// One model of the chain, ready to be asked.
struct Model<'a> {
    full_name: String,
    served: &'a Served,
    price: Option<Price>,
}

/// Why a request brought no reply.
enum Failed {
    /// The provider's doing, or the gate's: another attempt or another model may do better.
    Provider(ProviderError),
    /// Nothing that another attempt cures.
    Call(CallError),
}

/// A request that may be sent, or was. Dropping it gives everything back.
struct InFlight<'a> {
    call: &'a Call<'a>,
    model: &'a Model<'a>,
    request: Request,
    report: ModelReport,
    /// Input tokens as they were estimated.
    input: u64,
    attempt: u32,
    /// Both are gone once the answer is in the books.
    reservation: Option<Reservation>,
    permit: Option<Permit>,
    sent: bool,
}

impl<'a> Call<'a> {
    pub(super) fn new(task: &'a TaskCalls, name: &'a str) -> Self {
        Self {
            task,
            name,
            counted: AtomicBool::new(false),
        }
    }

    /// Notes that a repair follows.
    pub(super) fn repairs(&self) {
        let mut used = self.task.used.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = used.iter_mut().rev().find(|model| model.name == self.name) {
            model.repairs += 1;
        }
    }

    /// Asks the models of the chain in turn until one has answered.
    pub(super) async fn serve(&self, models: &[ModelRef], mut request: Request) -> CallResult {
        let mut before: Option<CallError> = None;
        for model in models {
            let full_name = model.to_string();
            let price = self.task.host.price(model);
            let served = if price.is_none() && self.task.account.has_cost_limit() {
                Err(CallError::Denied(format!(
                    "{full_name} has no known price and a cost limit is set; give its price in [prices.\"{full_name}\"]"
                )))
            } else {
                // Without a key, for example: the next one may have one.
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
            // Only this wire can ask for it.
            let hour = served.kind == "anthropic" && request.options.cache == Some(CacheTtl::OneHour);
            let price = price.map(|price| if hour { price.with_hour_writes() } else { price.clone() });
            request.model.clone_from(&model.model);
            let model = Model {
                full_name,
                served,
                price,
            };
            match self.attempts(&model, &request).await {
                Ok(reply) => return Ok(reply),
                Err(Failed::Call(error)) => return Err(before.unwrap_or(error)),
                Err(Failed::Provider(error)) => {
                    let said = call_error(&model.full_name, &error);
                    if !may_fall_back(error.kind) {
                        return Err(said);
                    }
                    // What was wrong with the first model says most.
                    before.get_or_insert(said);
                }
            }
        }
        Err(before.unwrap_or_else(|| CallError::Unavailable(format!("no model stands behind `{}`", self.name))))
    }

    /// Asks one model, again where that can help.
    async fn attempts(&self, model: &Model<'_>, request: &Request) -> Result<Reply, Failed> {
        let mut attempt = 0;
        loop {
            let mut error = match self.attempt(model, request, attempt).await {
                Err(Failed::Provider(error)) => error,
                other => return other,
            };
            let gate = &model.served.gate;
            let wait = match gate.judge(&request.model, &error, attempt, self.task.deadline) {
                Verdict::Again(wait) => wait,
                Verdict::Final(why) => {
                    if let Some(why) = why {
                        error.message = format!("{}; {why}", error.message);
                    }
                    return Err(Failed::Provider(error));
                }
            };
            telemetry::retry(&self.task.task.to_string(), &request.model, &error, millis(wait));
            self.task.emit(Event::CallRetried {
                task: self.task.task.clone(),
                model: model.full_name.clone(),
                error: error.to_string(),
                wait,
            });
            self.task.note(ModelReport {
                retries: 1,
                waited_ms: millis(wait),
                ..self.report(model)
            });
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    /// One attempt, with a second request beside the first where that is wanted and the first is slow.
    async fn attempt(&self, model: &Model<'_>, request: &Request, attempt: u32) -> Result<Reply, Failed> {
        let first = self.admit(model, request, attempt, false).await?.send();
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
        let second = pin!(async { self.admit(model, request, attempt, true).await?.send().await });
        // The first success wins and drops the other one; a failure waits for what the other one brings.
        match select(first, second).await {
            Either::Left((Ok(reply), _)) | Either::Right((Ok(reply), _)) => Ok(reply),
            Either::Left((Err(failed), second)) => second.await.map_err(|_| failed),
            Either::Right((Err(_), first)) => first.await,
        }
    }

    /// Reserves for a request and waits until the gate lets it through.
    async fn admit<'s>(
        &'s self,
        model: &'s Model<'s>,
        request: &Request,
        attempt: u32,
        hedge: bool,
    ) -> Result<InFlight<'s>, Failed> {
        let task = self.task;
        let (bytes, messages) = request.size();
        let strict = task.host.config.run().strict_tokens;
        let input = task.host.estimates.input(&model.full_name, bytes, messages, strict);
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
        let reservation = if hedge {
            // Not worth waiting for, and least of all worth failing for.
            let reserved = task.account.try_reserve(&want).map_err(|none| exhausted(none.limit))?;
            reserved.ok_or_else(|| exhausted(LimitKind::Tokens))?
        } else {
            let reserved = task.account.reserve(&want).await;
            reserved.map_err(|none| exhausted(none.limit))?
        };
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
        let admitted = model.served.gate.admit(ticket).await;
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
            report: self.report(model),
            request,
            input,
            attempt,
            reservation: Some(reservation),
            permit: Some(permit),
            sent: false,
        }
        .hedged(hedge))
    }

    /// An empty report of what this call uses of `model`.
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

impl InFlight<'_> {
    fn hedged(mut self, hedge: bool) -> Self {
        self.report.hedges = u64::from(hedge);
        self
    }

    /// Sends the request once and puts what it used into the books.
    async fn send(mut self) -> Result<Reply, Failed> {
        let task = self.call.task;
        self.depart();
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
        telemetry::answered(&span, answer.as_ref());
        let used = self.arrive(answer.as_ref());
        task.emit(Event::CallSettled {
            task: task.task.clone(),
            spent: task.account.spent(),
            error: answer.as_ref().err().map(ToString::to_string),
        });
        answer.map_err(Failed::Provider).map(|mut reply| {
            // The guest sees what is in the books.
            reply.usage.get_or_insert(Usage {
                input: used.input,
                output: used.output,
                ..Usage::default()
            });
            reply
        })
    }

    /// In the books from here on, whether or not anyone waits for the answer.
    fn depart(&mut self) {
        let task = self.call.task;
        if let Some(reservation) = &mut self.reservation {
            reservation.sent();
        }
        self.sent = true;
        let first = !self.call.counted.swap(true, Ordering::Relaxed);
        let mut limits_met = BTreeMap::new();
        for met in self.permit.iter().flat_map(|permit| permit.met()) {
            limits_met.insert(met.name(), 1);
        }
        task.note(ModelReport {
            calls: u64::from(first),
            requests: 1,
            warmed: u64::from(self.permit.as_ref().is_some_and(Permit::leads)),
            waited_ms: self.permit.as_ref().map_or(0, |permit| millis(permit.waited())),
            limits_met,
            ..self.report.clone()
        });
        self.report.hedges = 0;
        task.emit(Event::CallSent {
            task: task.task.clone(),
            model: self.model.full_name.clone(),
        });
    }

    /// Settles with what the answer says was used.
    fn arrive(&mut self, answer: Result<&Reply, &ProviderError>) -> Used {
        let (Some(reservation), Some(permit)) = (self.reservation.take(), self.permit.take()) else {
            return Used::default();
        };
        let task = self.call.task;
        permit.settle(answer);
        let price = self.model.price.as_ref();
        let used = match answer {
            Ok(Reply { usage: Some(usage), .. }) => {
                let (bytes, messages) = self.request.size();
                let estimates = &task.host.estimates;
                estimates.learn(&self.model.full_name, bytes, messages, usage.input);
                Used {
                    input: usage.input,
                    cached_input: usage.cached_input,
                    output: usage.output,
                    cost: price.map(|price| price.cost(usage)),
                }
            }
            // It answered and nobody knows what it counted: what was held is charged.
            Ok(Reply { usage: None, .. })
            | Err(ProviderError {
                kind: ProviderErrorKind::BadReply,
                ..
            }) => Used {
                input: self.input,
                cached_input: 0,
                output: reservation.output(),
                cost: price.map(|price| price.worst(self.input, reservation.output())),
            },
            Err(_) => Used {
                cost: price.map(|_| Usd::ZERO),
                ..Used::default()
            },
        };
        reservation.settle(used);
        let mut limits_met = BTreeMap::new();
        if matches!(answer, Err(error) if error.kind == ProviderErrorKind::RateLimited) {
            limits_met.insert("rate-limited", 1);
        }
        task.note(ModelReport {
            input_tokens: used.input,
            cached_input_tokens: used.cached_input,
            output_tokens: used.output,
            cost_usd: used.cost,
            limits_met,
            ..self.report.clone()
        });
        used
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if let Some(reservation) = self.reservation.take().filter(|_| self.sent) {
            self.call.task.note(ModelReport {
                abandoned: Abandoned {
                    requests: 1,
                    at_most_tokens: self.input.saturating_add(reservation.output()),
                },
                ..self.report.clone()
            });
        }
    }
}

/// Whether the next model of a chain may do better: not where the request itself is at fault.
fn may_fall_back(kind: ProviderErrorKind) -> bool {
    !matches!(
        kind,
        ProviderErrorKind::InvalidRequest | ProviderErrorKind::ContextOverflow
    )
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn call_error(model: &str, error: &ProviderError) -> CallError {
    let text = format!("{model}: {error}");
    match error.kind {
        ProviderErrorKind::ContextOverflow => CallError::ContextOverflow,
        ProviderErrorKind::InvalidRequest | ProviderErrorKind::TooLarge => CallError::InvalidRequest(text),
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
