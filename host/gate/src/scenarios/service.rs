//! A simulated model service: token buckets that refill continuously, a latency, a concurrency limit, and phases in
//! which these change. It is independent of the gate.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::file::{Condition, CountingName, Headers, Load, RetryAfter, Scenario};
use agenthost_core::llm::{ProviderError, ProviderErrorKind, Quota, RateLimit, Reply, Usage};

/// The network latency in each direction.
const WAY: Duration = Duration::from_millis(10);

/// The indices of the limits in [`Buckets`].
const REQUESTS: usize = 0;
const TOKENS: usize = 1;
const INPUT: usize = 2;
const OUTPUT: usize = 3;

pub(super) struct Service<'a> {
    scenario: &'a Scenario,
    start: Instant,
    state: Mutex<ServiceState>,
    /// Notified when a slot becomes free.
    left: Notify,
}

struct ServiceState {
    now: Condition,
    phases: usize,
    /// Seconds since the start.
    at: f64,
    models: BTreeMap<String, Buckets>,
    in_service: u32,
    /// The requests that wait for a slot.
    queue: BTreeSet<u64>,
    /// The number of the next request that waits.
    next: u64,
    /// The requests that occupy a slot, or share the slots.
    served: u32,
    /// Seconds for which each of them has been served since the start, if it was there all the time.
    progress: f64,
    cached: BTreeSet<String>,
    random: u64,
    used: Vec<Use>,
}

/// The levels of the four limits; the level of a limit that does not exist is ignored.
#[derive(Clone, Copy)]
struct Buckets([f64; 4]);

struct Use {
    at: f64,
    model: String,
    limit: usize,
    amount: f64,
}

/// Counts a request while the service has it.
struct Serving<'a>(&'a Mutex<ServiceState>);

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap().in_service -= 1;
    }
}

/// Counts a request while it waits for a slot or has one.
struct Slot<'a, 'b> {
    service: &'a Service<'b>,
    number: u64,
}

impl Drop for Slot<'_, '_> {
    fn drop(&mut self) {
        let mut state = self.service.state();
        if !state.queue.remove(&self.number) {
            state.served -= 1;
        }
        self.service.left.notify_waiters();
    }
}

impl Condition {
    fn limits(&self) -> [Option<f64>; 4] {
        [self.requests, self.tokens, self.input_tokens, self.output_tokens]
    }

    fn change(&mut self, by: &Self) {
        self.requests = by.requests.or(self.requests);
        self.tokens = by.tokens.or(self.tokens);
        self.input_tokens = by.input_tokens.or(self.input_tokens);
        self.output_tokens = by.output_tokens.or(self.output_tokens);
        self.latency_ms = by.latency_ms.or(self.latency_ms);
        self.bears = by.bears.or(self.bears);
        self.over = by.over.or(self.over);
        self.down = by.down.or(self.down);
        self.others = by.others.or(self.others);
        self.slots = by.slots.or(self.slots);
        self.gone = by.gone.or(self.gone);
        self.moody = by.moody.or(self.moody);
    }
}

impl ServiceState {
    /// Returns a number between 0 and 1; the sequence is the same in each run.
    fn random(&mut self) -> f64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) as f64 / f64::from(1_u32 << 31)
    }
}

impl<'a> Service<'a> {
    pub(super) fn new(scenario: &'a Scenario, start: Instant) -> Self {
        Self {
            scenario,
            start,
            state: Mutex::new(ServiceState {
                now: scenario.service.start.clone(),
                phases: 0,
                at: 0.0,
                models: BTreeMap::new(),
                in_service: 0,
                queue: BTreeSet::new(),
                next: 0,
                served: 0,
                progress: 0.0,
                cached: BTreeSet::new(),
                random: 1,
                used: Vec::new(),
            }),
            left: Notify::new(),
        }
    }

    /// The amount of a limit that refills per second.
    fn rate(&self, limit: f64) -> f64 {
        limit / self.scenario.service.window_s
    }

    /// The capacity of a limit.
    fn holds(&self, limit: f64) -> f64 {
        (limit * self.scenario.service.holds_ms / 60_000.0).max(1.0)
    }

    /// Returns the state, updated to the current time.
    fn state(&self) -> MutexGuard<'_, ServiceState> {
        let mut state = self.state.lock().unwrap();
        let now = self.start.elapsed().as_secs_f64();
        while let Some(phase) = self.scenario.phase.get(state.phases).filter(|phase| phase.at <= now) {
            self.refill(&mut state, phase.at);
            state.now.change(&phase.change);
            state.phases += 1;
        }
        self.refill(&mut state, now);
        state
    }

    fn refill(&self, state: &mut ServiceState, until: f64) {
        let passed = until - state.at;
        let windows = |at: f64| (at / self.scenario.service.window_s).floor();
        let new_window = windows(until) > windows(state.at);
        state.at = until;
        state.progress += passed * self.speed(state);
        let mine = 1.0 - state.now.others.unwrap_or(0.0);
        let limits = state.now.limits();
        for buckets in state.models.values_mut() {
            for (level, limit) in buckets.0.iter_mut().zip(limits) {
                let Some(limit) = limit else { continue };
                if !self.scenario.service.fixed_windows {
                    *level = (*level + passed * self.rate(limit) * mine).min(self.holds(limit));
                } else if new_window {
                    *level = limit;
                }
            }
        }
    }

    /// The seconds of service that each request gets per second.
    fn speed(&self, state: &ServiceState) -> f64 {
        let slots = state.now.slots.map_or(f64::INFINITY, f64::from);
        if self.scenario.service.even {
            (slots / f64::from(state.served)).min(1.0)
        } else {
            1.0
        }
    }

    /// Answers one request; `marked` is whether it asked for its prefix to be cached.
    pub(super) async fn complete(&self, load: &Load, marked: bool) -> Result<Reply, ProviderError> {
        let lost = |billed| ProviderError::new(ProviderErrorKind::Connection, "no connection").with_billing(billed);
        if self.state().now.gone == Some(true) {
            return Err(lost(false));
        }
        let now = self.start.elapsed().as_secs_f64();
        let mut ends = self
            .scenario
            .phase
            .iter()
            .filter(|phase| phase.change.gone == Some(true));
        let end = ends.find(|phase| phase.at > now).map(|phase| phase.at);
        let answer = pin!(async {
            sleep(WAY).await;
            let answer = self.serve(load, marked).await;
            sleep(WAY).await;
            answer
        });
        let Some(end) = end else { return answer.await };
        match select(answer, pin!(sleep_until(self.start + Duration::from_secs_f64(end)))).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => Err(lost(true)),
        }
    }

    /// Waits for a slot and for the end of a request that takes `seconds` of service.
    async fn work(&self, seconds: f64) {
        let mut conditions = self.scenario.phase.iter().map(|phase| &phase.change);
        if self.scenario.service.start.slots.is_none() && conditions.all(|now| now.slots.is_none()) {
            sleep(Duration::from_secs_f64(seconds)).await;
            return;
        }
        let even = self.scenario.service.even;
        let slot = {
            let mut state = self.state();
            let number = state.next;
            state.next += 1;
            state.queue.insert(number);
            Slot { service: self, number }
        };
        let mut end = None;
        loop {
            let left = self.left.notified();
            let wait = {
                let mut state = self.state();
                let first = state.queue.first() == Some(&slot.number);
                let free = even || state.now.slots.is_none_or(|slots| state.served < slots);
                if end.is_none() && (even || first) && free {
                    state.queue.remove(&slot.number);
                    state.served += 1;
                    end = Some(state.progress + seconds);
                    // The next one may start, or the others become slower.
                    self.left.notify_waiters();
                }
                end.map(|end| (end - state.progress) / self.speed(&state))
            };
            match wait {
                Some(wait) if wait <= 1e-6 => return,
                Some(wait) => {
                    let wait = Duration::from_secs_f64(wait.min(1e6)) + Duration::from_nanos(1);
                    let _ = timeout(wait, left).await;
                }
                None => left.await,
            }
        }
    }

    async fn serve(&self, load: &Load, marked: bool) -> Result<Reply, ProviderError> {
        let (serving, latency, output, cached, counted) = {
            let mut state = self.state();
            let crowded = state.now.bears.is_some_and(|most| state.in_service >= most);
            if crowded || state.now.down == Some(true) {
                let status = state.now.over.unwrap_or(529);
                let kind = match status {
                    429 => ProviderErrorKind::RateLimited,
                    _ => ProviderErrorKind::Overloaded,
                };
                return Err(ProviderError::new(kind, "overloaded").with_status(status));
            }
            if let Some(share) = state.now.moody
                && state.random() < share
            {
                return Err(ProviderError::new(ProviderErrorKind::RateLimited, "not now").with_status(429));
            }
            let cached = if load.prefix && state.cached.contains(&load.model) {
                load.input - 100
            } else {
                0
            };
            self.take(&mut state, load, load.input - cached)?;
            let varied = 1.0 + self.scenario.service.jitter * (2.0 * state.random() - 1.0);
            let latency = state.now.latency_ms.unwrap_or(1_000.0) * varied;
            let [least, most] = load.output;
            let output = least + ((most - least) as f64 * state.random()) as u64;
            let latency = latency + output as f64 * self.scenario.service.token_ms;
            state.in_service += 1;
            let counted = self.quota(&state, &load.model);
            (Serving(&self.state), latency, output, cached, counted)
        };
        self.work(latency / 1_000.0).await;
        drop(serving);
        let mut state = self.state();
        self.spend(&mut state, &load.model, OUTPUT, output as f64);
        let writes = self.scenario.service.caches && marked && cached == 0;
        if writes {
            state.cached.insert(load.model.clone());
        }
        let quota = match self.scenario.service.headers {
            Headers::None => None,
            Headers::Together => Some(counted),
            Headers::Apart => Some(self.quota(&state, &load.model)),
        };
        let usage = Usage {
            input: load.input,
            cached_input: cached,
            cache_write_input: if writes { load.input - 100 } else { 0 },
            output,
            ..Usage::default()
        };
        let reply = Reply::of(Vec::new()).with_model(load.model.as_str());
        Ok(reply.with_usage(usage).with_quota(quota.map(Box::new)))
    }

    /// Takes from all limits or from none.
    fn take(&self, state: &mut ServiceState, load: &Load, input: u64) -> Result<(), ProviderError> {
        let limits = state.now.limits();
        let full = Buckets(limits.map(|limit| limit.map_or(0.0, |limit| self.holds(limit))));
        let levels = *state.models.entry(load.model.clone()).or_insert(full);
        let tokens = match self.scenario.gate.counting {
            CountingName::UpFront => load.input.max(load.max_output),
            CountingName::AsUsed => load.input + load.output[1],
        };
        // Output is counted as it is produced: a request needs only a little of it to be admitted.
        let needs = [1.0, tokens as f64, input as f64, 1.0];
        let mut wait: f64 = 0.0;
        for ((level, need), limit) in levels.0.iter().zip(needs).zip(limits) {
            if let Some(limit) = limit {
                // Rounding may leave slightly less than needed.
                wait = wait.max((need - 1e-6 - level) / self.rate(limit));
            }
        }
        if wait > 0.0 {
            let quota = match self.scenario.service.headers {
                Headers::None => None,
                Headers::Together | Headers::Apart => Some(self.quota(state, &load.model)),
            };
            let retry_after = match self.scenario.service.retry_after {
                RetryAfter::None => None,
                RetryAfter::Seconds => Some(Duration::from_secs(wait.ceil() as u64)),
                RetryAfter::Zero => Some(Duration::ZERO),
            };
            let refused = ProviderError::new(ProviderErrorKind::RateLimited, "too many").with_status(429);
            return Err(refused.with_retry_after(retry_after).with_quota(quota.map(Box::new)));
        }
        for (limit, need) in needs.into_iter().enumerate().take(OUTPUT) {
            self.spend(state, &load.model, limit, need);
        }
        Ok(())
    }

    fn spend(&self, state: &mut ServiceState, model: &str, limit: usize, amount: f64) {
        if let Some(buckets) = state.models.get_mut(model) {
            buckets.0[limit] -= amount;
        }
        state.used.push(Use {
            at: self.start.elapsed().as_secs_f64(),
            model: model.to_owned(),
            limit,
            amount,
        });
    }

    fn quota(&self, state: &ServiceState, model: &str) -> Quota {
        let limits = state.now.limits();
        let apart = self.scenario.service.headers == Headers::Apart;
        let meter = |limit: usize| {
            let most = limits[limit]?;
            let level = state.models.get(model)?.0[limit].max(0.0);
            let remaining = if apart && limit != REQUESTS {
                (level / 1_000.0).round() * 1_000.0
            } else {
                level.floor()
            };
            let reset = ((self.holds(most) - level) / self.rate(most)).max(0.0);
            Some(RateLimit {
                limit: most as u64,
                remaining: remaining.min(most) as u64,
                reset: Some(Duration::from_secs(reset.ceil() as u64)),
            })
        };
        Quota {
            requests: meter(REQUESTS),
            tokens: meter(TOKENS),
            input_tokens: meter(INPUT),
            output_tokens: meter(OUTPUT),
        }
    }

    /// The used share, between two moments, of the refill of the limit that was used most.
    pub(super) fn share(&self, model: &str, from: f64, until: f64) -> f64 {
        let mut given = [0.0; 4];
        let mut now = self.scenario.service.start.clone();
        let ends = self.scenario.phase.iter().map(|phase| phase.at).chain([f64::INFINITY]);
        let mut begun: f64 = 0.0;
        for (n, end) in ends.enumerate() {
            let seconds = (end.min(until) - begun.max(from)).max(0.0) * (1.0 - now.others.unwrap_or(0.0));
            for (given, limit) in given.iter_mut().zip(now.limits()) {
                *given += limit.map_or(0.0, |limit| self.rate(limit) * seconds);
            }
            if let Some(phase) = self.scenario.phase.get(n) {
                now.change(&phase.change);
            }
            begun = end;
        }
        let state = self.state.lock().unwrap();
        let mut used = [0.0; 4];
        for one in &state.used {
            if one.model == model && (from..until).contains(&one.at) {
                used[one.limit] += one.amount;
            }
        }
        let shares = used.iter().zip(given).filter(|(_, given)| *given > 0.0);
        shares.map(|(used, given)| used / given).fold(0.0, f64::max)
    }
}
