//! The requests to one model: the queue, the requests in flight, and the known state of the service. Arithmetic under
//! the gate's lock; nothing here waits.

use std::time::Duration;

use tokio::sync::oneshot;

use super::adaptive::{ConcurrencyLimit, LoadSignal, Observed};
use super::clock::millis;
use super::meters::{RateLimits, RequestCost, Snapshot};
use super::outage::Outage;
use super::queue::Queue;
use super::retry::{self, Budget};
use super::settings::{INITIAL_CONCURRENCY, MAX_CONCURRENCY, Settings};
use super::too_late::TooLate;
use super::warm::{Prefix, PrefixDecision, Role, Warm};
use agenthost_core::llm::{ProviderError, ProviderErrorKind, Quota, Reply, Usage};
use agenthost_core::run::WaitReason;

/// The output tokens to expect from a model's first reply, if it may be that long.
const FIRST_OUTPUT: f64 = 1_000.0;

/// The bounds of the highest concurrency limit that follows from reported rate limits.
const CEILINGS: [f64; 2] = [64.0, 1_024.0];
/// The slots above those that a rate limit needs with the average latency.
const SPARE: f64 = 1.5;

/// While the limit doubles, the requests of a round are sent in this part of a latency, so that a rejection of the first
/// of them can hold back the others.
const SPREAD: f64 = 0.1;
/// Milliseconds since the last reply for which a service that rejects everything is waited for.
const WINDOW: u64 = 90_000;

/// A request that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) prefix: Option<Prefix>,
    /// `true` if the request is a retry.
    pub(super) again: bool,
    pub(super) since: u64,
    /// The number of the change that added it.
    pub(super) change: u64,
    /// The task's deadline.
    pub(super) deadline: Option<u64>,
    pub(super) met: Vec<WaitReason>,
    pub(super) grant: oneshot::Sender<Result<Sent, TooLate>>,
}

/// A request that may be sent or has been sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) model: String,
    pub(super) number: u64,
    pub(super) at: u64,
    pub(super) need: RequestCost,
    /// The amounts taken from the model's own limits, including this request.
    pub(super) taken: Snapshot,
    /// `true` if the request used the last free slot.
    pub(super) full: bool,
    pub(super) prefix: Option<Prefix>,
    pub(super) role: Role,
    pub(super) waited: u64,
    pub(super) met: Vec<WaitReason>,
}

/// The outcome of a request, as far as the gate learns from it.
#[derive(Debug)]
pub(super) struct Answer {
    /// The time at which it arrived.
    at: u64,
    /// `true` if the concurrency limit was used up when the request was sent or when it was answered.
    full: bool,
    usage: Option<Usage>,
    quota: Option<Box<Quota>>,
    /// `None` if the request succeeded.
    error: Option<AnswerError>,
}

#[derive(Debug)]
struct AnswerError {
    kind: ProviderErrorKind,
    status: Option<u16>,
    retry_after: Option<Duration>,
    /// `true` if it shows that the server cannot be reached.
    lost: bool,
}

impl Answer {
    /// Creates the outcome of a request that has [left](ModelQueue::leave).
    pub(super) fn new(answer: Result<&Reply, &ProviderError>, at: u64, full: bool) -> Self {
        match answer {
            Ok(reply) => Self {
                at,
                full,
                usage: reply.usage,
                quota: reply.quota.clone(),
                error: None,
            },
            Err(error) => Self {
                at,
                full,
                usage: None,
                quota: error.quota.clone(),
                error: Some(AnswerError {
                    kind: error.kind,
                    status: error.status,
                    retry_after: error.retry_after,
                    lost: Outage::is_sign(error),
                }),
            },
        }
    }
}

#[derive(Debug)]
pub(super) struct ModelQueue {
    pub(super) law: ConcurrencyLimit,
    pub(super) queue: Queue<Waiting>,
    pub(super) in_flight: u32,
    /// The output tokens expected from the requests in flight.
    outstanding: f64,
    pub(super) meters: RateLimits,
    warm: Warm,
    /// The typical number of output tokens of a reply; `None` before the first.
    typical: Option<f64>,
    /// The typical latency of a reply, in milliseconds; `None` before the first.
    latency: Option<f64>,
    /// The time when the last request was sent.
    sent: u64,
    /// The time of the last reply.
    replied: Option<u64>,
    outage: Outage,
    /// Set after a rejection that no known limit explains: one request at a time until one of them succeeds.
    probing: bool,
    pub(super) budget: Budget,
    /// The reason why the next request waits, and the time until which it does, if that is known.
    pub(super) blocked: Option<(WaitReason, Option<u64>)>,
}

/// The result of trying to send the next request.
pub(super) enum Dispatch {
    /// The request may be sent; its receiver may be gone.
    Granted(oneshot::Sender<Result<Sent, TooLate>>, Box<Sent>),
    /// The request would be sent after its task's deadline.
    Refused(oneshot::Sender<Result<Sent, TooLate>>, TooLate),
    /// No request may be sent before this time, or before something changes.
    Blocked(Option<u64>),
}

impl ModelQueue {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            law: ConcurrencyLimit::new(
                settings.initial_concurrency.unwrap_or(INITIAL_CONCURRENCY),
                settings.initial_concurrency.unwrap_or(1),
                settings.highest_concurrency(MAX_CONCURRENCY),
            ),
            queue: Queue::default(),
            in_flight: 0,
            outstanding: 0.0,
            meters: RateLimits::default(),
            warm: Warm::new(settings.caching, settings.warm_prefix),
            typical: None,
            latency: None,
            sent: 0,
            replied: None,
            outage: Outage::default(),
            probing: false,
            budget: Budget::new(settings.highest_concurrency(MAX_CONCURRENCY)),
            blocked: None,
        }
    }

    /// Sends the next request if all limits allow it. `operator` holds the limits that the operator set; requests of
    /// changes after `seen` are here for the first time.
    pub(super) fn step(
        &mut self,
        model: &str,
        operator: &mut RateLimits,
        settings: &Settings,
        number: u64,
        seen: u64,
        now: u64,
    ) -> Dispatch {
        self.blocked = None;
        if self.queue.is_empty() {
            return Dispatch::Blocked(None);
        }
        let mut wake = None;
        let company = self.company();
        let warm = &self.warm;
        let mut prefix_wait = false;
        let may = |waiting: &Waiting| {
            let with = waiting
                .prefix
                .map_or(0, |prefix| company.iter().filter(|known| **known == prefix).count());
            warm.may(waiting.prefix, with, waiting.since, now)
        };
        let next = self.queue.next(|waiting| match may(waiting) {
            PrefixDecision::Go(_) => true,
            PrefixDecision::Wait => {
                prefix_wait = true;
                false
            }
            PrefixDecision::Until(until) => {
                wake = Some(wake.map_or(until, |at: u64| at.min(until)));
                false
            }
        });
        let Some((place, waiting)) = next else {
            if prefix_wait && let Some((_, waiting)) = self.queue.next(|_| true) {
                waiting.meet(WaitReason::Prefix);
                self.blocked = Some((WaitReason::Prefix, None));
            }
            return Dispatch::Blocked(wake);
        };
        let alone = if self.outage.is_on() {
            Some(WaitReason::Outage)
        } else {
            self.probing.then_some(WaitReason::RetryAfter)
        };
        let most = if alone.is_some() { 1 } else { self.law.limit() };
        if self.in_flight >= most {
            let reason = alone.unwrap_or(WaitReason::Concurrency);
            waiting.meet(reason);
            self.blocked = Some((reason, None));
            return Dispatch::Blocked(None);
        }
        if let Some(latency) = self.latency
            && self.law.is_doubling()
            && !self.meters.are_known()
        {
            let until = self.sent.saturating_add((latency * SPREAD / f64::from(most)) as u64);
            if until > now {
                self.blocked = Some((WaitReason::Concurrency, Some(until)));
                return Dispatch::Blocked(Some(wake.map_or(until, |at| at.min(until))));
            }
        }
        let expected = self
            .typical
            .map_or(FIRST_OUTPUT, |typical| typical * 1.25)
            .min(waiting.output as f64) as u64;
        let need = RequestCost::ahead(settings.counting, waiting.input, expected, waiting.output);
        let own = self.meters.wait(&need, now);
        let theirs = operator.wait(&need, now);
        let down = self.outage.wait(now).map(|until| (WaitReason::Outage, until));
        if let Some((met, until)) = own
            .into_iter()
            .chain(theirs)
            .chain(down)
            .max_by_key(|(_, until)| *until)
        {
            waiting.meet(met);
            if waiting.deadline.is_some_and(|deadline| until >= deadline) {
                let refused = TooLate {
                    met,
                    wait_ms: until.saturating_sub(now),
                };
                return match self.queue.remove(&place) {
                    Some(waiting) => Dispatch::Refused(waiting.grant, refused),
                    None => Dispatch::Blocked(None),
                };
            }
            self.blocked = Some((met, Some(until)));
            return Dispatch::Blocked(Some(wake.map_or(until, |at| at.min(until))));
        }
        let role = match may(waiting) {
            PrefixDecision::Go(role) => role,
            PrefixDecision::Wait | PrefixDecision::Until(_) => Role::Alone,
        };
        let Some(waiting) = self.queue.serve(&place) else {
            return Dispatch::Blocked(None);
        };
        if !waiting.again {
            self.budget.deposit();
        }
        self.meters.take(&need, now);
        operator.take(&need, now);
        self.in_flight += 1;
        self.sent = now;
        self.outstanding += need.output;
        self.warm.sent(waiting.prefix, role, now);
        let sent = Sent {
            model: model.to_owned(),
            number,
            at: now,
            need,
            taken: self.meters.snapshot(),
            full: self.in_flight >= most,
            prefix: waiting.prefix,
            role,
            // A request that is sent at the first look waited only for the shared file.
            waited: if waiting.change > seen {
                0
            } else {
                now.saturating_sub(waiting.since)
            },
            met: waiting.met,
        };
        Dispatch::Granted(waiting.grant, Box::new(sent))
    }

    /// The prefixes of all waiting requests, one entry per request.
    fn company(&self) -> Vec<Prefix> {
        if !self.warm.is_on() {
            return Vec::new();
        }
        self.queue.iter().filter_map(|waiting| waiting.prefix).collect()
    }

    /// Takes the answer to a request into account: corrects the taken amounts, learns from the headers. The request has
    /// left before.
    pub(super) fn answered(
        &mut self,
        sent: &Sent,
        answer: &Answer,
        operator: &mut RateLimits,
        settings: &Settings,
        next: u64,
    ) {
        let now = answer.at;
        let error = answer.error.as_ref();
        let usage = answer.usage.as_ref();
        let pending = self.meters.pending(&sent.taken);
        let billed = error.is_none_or(|error| error.kind == ProviderErrorKind::BadReply);
        let counted = sent.need.counted(settings.counting, usage, billed);
        self.meters.correct(&sent.need, &counted);
        operator.correct(&sent.need, &counted);
        if let Some(usage) = usage {
            let seen = usage.output as f64;
            self.typical = Some(self.typical.map_or(seen, |typical| typical + (seen - typical) / 8.0));
        }
        if let Some(quota) = &answer.quota {
            self.meters.learn(quota, &pending, self.outstanding, sent.at, now);
        }
        match error {
            None => {
                self.replied = Some(now);
                let latency = now.saturating_sub(sent.at) as f64;
                let length = usage.map_or(0.0, |usage| usage.output as f64);
                let average = self.latency.get_or_insert(latency);
                *average += (latency - *average) / 32.0;
                let ceiling = self.ceiling(&counted);
                self.law.set_ceiling(settings.highest_concurrency(ceiling));
                let sign = LoadSignal::Healthy {
                    full: answer.full && self.meters.allow_more(),
                    latency,
                    length,
                };
                self.law.observe(now, sent.observed(), next, sign);
                self.probing &= self.law.cuts_in_a_row() > 0;
                self.outage.end();
            }
            Some(error) => self.failed(sent, error, next, now),
        }
        self.warm.answered(sent.prefix, sent.role, usage, settings.caching, now);
    }

    /// Returns whether a call that failed with `error` is kept until the service accepts requests again.
    pub(super) fn keeps(&self, error: &ProviderError, now: u64) -> bool {
        // A limit for a minute that is given back at its end. A longer one is not waited for.
        let recent = self.replied.is_some_and(|at| now.saturating_sub(at) < WINDOW);
        self.outage.keeps(error, now)
            || (error.kind == ProviderErrorKind::RateLimited && recent && self.meters.are_used_up())
    }

    /// Learns about the service from a failure.
    fn failed(&mut self, sent: &Sent, error: &AnswerError, next: u64, now: u64) {
        if error.lost {
            self.outage.lost(sent.number, next, now);
            return;
        }
        // Nothing is sent before the time that the service named.
        let mut pause = error.retry_after.filter(|_| retry::worth(error.kind, 1) > 0);
        let mut probe = false;
        match error.kind {
            // The service has used up a limit: that of the headers, faster than these show because others use it, or
            // one that it does not report.
            ProviderErrorKind::RateLimited if self.meters.explain(&sent.need, now) => {
                pause = pause.max(self.meters.refused(sent.at, now));
            }
            ProviderErrorKind::RateLimited | ProviderErrorKind::Overloaded => {
                // Without a pause for all requests, the whole queue would be sent into an outage, one request after
                // another.
                if error.kind == ProviderErrorKind::RateLimited {
                    self.meters.refused_with_room();
                }
                if self.law.observe(now, sent.observed(), next, LoadSignal::Refused) {
                    pause = pause.max(Some(retry::backoff(self.law.cuts_in_a_row() - 1)));
                }
                probe = pause.is_some() && error.kind == ProviderErrorKind::Overloaded;
            }
            // The service examined the request, so it accepts requests.
            _ if error.status.is_some_and(|status| status < 500) => {
                self.probing = false;
                self.outage.end();
            }
            _ => {}
        }
        self.outage.answered();
        if let Some(wait) = pause {
            let until = now.saturating_add(millis(wait).saturating_add(1));
            self.meters.paused_until = self.meters.paused_until.max(until);
        }
        self.probing |= probe;
    }

    /// The highest concurrency limit that the reported rate limits make useful for requests like `need`.
    fn ceiling(&mut self, need: &RequestCost) -> u32 {
        match (self.meters.rate(need), self.latency) {
            // The bounds are whole numbers of this size.
            (Some(rate), Some(latency)) => (rate * latency * SPARE).clamp(CEILINGS[0], CEILINGS[1]) as u32,
            _ => MAX_CONCURRENCY,
        }
    }

    /// Handles a request whose reply is no longer awaited. The taken amounts are not returned, because the service has
    /// counted them.
    pub(super) fn abandoned(&mut self, sent: &Sent, settings: &Settings, now: u64) {
        self.leave(sent);
        self.warm.answered(sent.prefix, sent.role, None, settings.caching, now);
    }

    /// Returns whether the concurrency limit is used up.
    pub(super) fn is_full(&self) -> bool {
        self.in_flight >= self.law.limit()
    }

    /// Frees the slot of a request.
    pub(super) fn leave(&mut self, sent: &Sent) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.outstanding = (self.outstanding - sent.need.output).max(0.0);
    }
}

impl Sent {
    fn observed(&self) -> Observed {
        Observed {
            number: self.number,
            sent: self.at,
        }
    }
}

impl Waiting {
    fn meet(&mut self, met: WaitReason) {
        if !self.met.contains(&met) {
            self.met.push(met);
        }
    }
}
