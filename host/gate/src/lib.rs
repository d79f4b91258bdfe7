//! The single path of all model calls to a provider: rate limits, concurrency, retries.
//!
//! A request calls [`Gate::admit`] and receives a [`Permit`] once it may be sent. Three conditions must hold: the model
//! is below its adaptive concurrency limit (`adaptive`); every known rate limit, both configured and reported by the
//! service, has enough capacity left (`meters`, `bucket`), including what this user's other processes have consumed
//! (`share`), and so has a limit that only refusals show (`pace`); and no `retry-after` and no outage (`outage`) is in
//! effect. The caller reports the outcome through [`Permit::settle`], which frees
//! the slot and updates the limits. Dropping a permit frees its slot; dropping the `admit` future leaves the queue.
//!
//! There is one gate per provider and one lane in it per model, because services limit each model separately. The
//! limits that the operator set apply to all lanes together. Waiting requests are served in the order of `queue`,
//! except that one of many requests with a common prefix goes ahead (`warm`). The gate decides whether a failed attempt
//! is retried (`retry`). The caller makes the attempt and its reservation, because every attempt is booked separately.
//!
//! The gate knows neither tasks nor money, and sends nothing itself.

mod adaptive;
mod bucket;
mod clock;
mod lane;
mod meters;
mod outage;
mod pace;
mod queue;
mod retry;
mod settings;
mod share;
mod too_late;
mod warm;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use self::clock::Clock;
use self::lane::{Answer, Dispatch, ModelQueue, Sent, Waiting};
use self::meters::RateLimits;
use self::queue::QueuePosition;
use self::share::{Book, Share};
use agenthost_core::llm::{ProviderError, Reply};
use agenthost_core::run::WaitReason;

pub use self::queue::FairnessKey;
pub use self::retry::{Attempt, RetryDecision};
pub use self::settings::{INITIAL_CONCURRENCY, MAX_CONCURRENCY, RETRIES, Settings};
pub use self::share::{Holder, Sharing, inspect};
pub use self::too_late::TooLate;
pub use self::warm::Prefix;

/// The folder of the state directory in which processes share the state of their gates.
pub const SHARED: &str = "gate";

/// The gate of one provider. Cloning it is cheap, and the clone is the same gate.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost_gate::{Attempt, Gate, FairnessKey, Settings, Ticket, RetryDecision};
/// use agenthost_core::llm::{ProviderError, ProviderErrorKind};
///
/// let gate = Gate::new(Settings { max_concurrency: Some(1), ..Settings::default() });
/// let line: FairnessKey = "run 1".into();
/// let ticket = Ticket { model: "small", line: &line, again: false, input: 500, output: 100, prefix: None, deadline: None };
/// let permit = gate.admit(ticket.clone()).await?;
/// assert_eq!(gate.load("small"), (1, 0));
///
/// // A second request waits until the first has settled.
/// let (second, ()) = tokio::join!(gate.admit(ticket), async {
///     let error = ProviderError::new(ProviderErrorKind::Overloaded, "too much to do");
///     permit.settle(Err(&error));
///     assert!(matches!(gate.judge("small", &error, Attempt::default()), RetryDecision::Again(_)));
/// });
/// drop(second?);
/// assert_eq!(gate.pressure(), agenthost_gate::Pressure::default());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Gate {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    clock: Clock,
    /// The file that processes share; `None` to keep the state in this process.
    share: Option<Share>,
    state: Mutex<GateState>,
    /// The number of changes that the shared file contains.
    exchanged: watch::Sender<u64>,
}

#[derive(Debug)]
struct GateState {
    lanes: BTreeMap<String, ModelQueue>,
    /// The answers that the limits do not reflect yet, in the order in which they arrived.
    answers: Vec<(Sent, Answer)>,
    /// The limits that the operator set, for all lanes.
    operator: RateLimits,
    /// The number of the next request.
    next: u64,
    /// The lane that was served last, so that the others are served first.
    last: String,
    /// The time for which the next check is scheduled.
    wake: Option<u64>,
    /// The number of changes so far.
    changes: u64,
    /// The number of changes at the last attempt to send what may be sent.
    seen: u64,
    /// `true` if an [`Exchange`] is on its way.
    exchanging: bool,
}

/// A request that is to be sent.
#[derive(Debug, Clone)]
pub struct Ticket<'a> {
    /// The model's id at the provider.
    pub model: &'a str,
    /// The line in which the request waits.
    pub line: &'a FairnessKey,
    /// `true` if the request is a retry, which goes to the front of its line.
    pub again: bool,
    /// Input tokens, estimated.
    pub input: u64,
    /// The maximum number of output tokens.
    pub output: u64,
    /// The prefix that the request shares with others.
    pub prefix: Option<Prefix>,
    /// The task's deadline. A request that could not be sent before it is rejected as soon as that is known.
    pub deadline: Option<Instant>,
}

/// The right to send one request. Dropping it frees its slot.
#[derive(Debug)]
pub struct Permit {
    gate: Gate,
    /// `None` once the permit is settled.
    sent: Option<Sent>,
}

impl Permit {
    /// The time that the request waited.
    pub fn waited(&self) -> Duration {
        Duration::from_millis(self.sent.as_ref().map_or(0, |sent| sent.waited))
    }

    /// The reasons why the request waited.
    pub fn met(&self) -> &[WaitReason] {
        self.sent.as_ref().map_or(&[], |sent| &sent.met)
    }

    /// The index of the message part before which the request should mark its prefix for the provider's cache. `None`
    /// if it should not mark one.
    pub fn mark(&self) -> Option<usize> {
        let sent = self.sent.as_ref()?;
        sent.prefix
            .filter(|_| sent.role != warm::Role::Alone)
            .map(|prefix| prefix.end)
    }

    /// Returns whether others wait for this request to write its prefix to the provider's cache.
    pub fn leads(&self) -> bool {
        self.sent.as_ref().is_some_and(|sent| sent.role == warm::Role::Leads)
    }

    /// Frees the slot and takes the outcome of the request into account.
    pub fn settle(mut self, answer: Result<&Reply, &ProviderError>) {
        if let Some(sent) = self.sent.take() {
            self.gate.change(|state, _, now| {
                let mut full = sent.full;
                if let Some(lane) = state.lanes.get_mut(&sent.model) {
                    full |= lane.is_full();
                    lane.leave(&sent);
                }
                state.answers.push((sent, Answer::new(answer, now, full)));
            });
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(sent) = self.sent.take() {
            self.gate.change(|state, settings, now| {
                if let Some(lane) = state.lanes.get_mut(&sent.model) {
                    lane.abandoned(&sent, settings, now);
                }
            });
        }
    }
}

/// A request in the queue. Dropping it leaves the queue, or returns a grant that has not been received yet.
struct Queued<'a> {
    gate: &'a Gate,
    model: &'a str,
    /// `None` once the grant was received.
    place: Option<QueuePosition>,
    answer: oneshot::Receiver<Result<Sent, TooLate>>,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        // A later grant fails to be sent.
        self.answer.close();
        let granted = self.answer.try_recv();
        self.gate.change(|state, settings, now| {
            if let Some(lane) = state.lanes.get_mut(self.model) {
                lane.queue.remove(&place);
                if let Ok(Ok(sent)) = granted {
                    lane.abandoned(&sent, settings, now);
                }
            }
        });
    }
}

/// The requests of a gate at some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    /// The number of requests that were sent and not answered.
    pub in_flight: u64,
    /// The number of requests that wait to be sent.
    pub waiting: u64,
}

impl std::iter::Sum for Pressure {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            in_flight: sum.in_flight + one.in_flight,
            waiting: sum.waiting + one.waiting,
        })
    }
}

impl Gate {
    /// Creates a gate without requests.
    pub fn new(settings: Settings) -> Self {
        let clock = Clock::new();
        let operator = RateLimits::of_operator(settings.requests_per_minute, settings.tokens_per_minute, clock.now());
        Self {
            inner: Arc::new(Inner {
                share: settings.share.clone().map(Share::new),
                settings,
                clock,
                state: Mutex::new(GateState {
                    lanes: BTreeMap::new(),
                    answers: Vec::new(),
                    operator,
                    next: 0,
                    last: String::new(),
                    wake: None,
                    changes: 0,
                    seen: 0,
                    exchanging: false,
                }),
                exchanged: watch::Sender::new(0),
            }),
        }
    }

    /// Waits until the request may be sent. Dropping the future leaves the queue.
    ///
    /// # Errors
    ///
    /// Returns [`TooLate`] as soon as it is known that the request cannot be sent before its task's deadline.
    pub async fn admit(&self, ticket: Ticket<'_>) -> Result<Permit, TooLate> {
        let (grant, answer) = oneshot::channel();
        let place = self.change(|state, settings, now| {
            let lane = state
                .lanes
                .entry(ticket.model.to_owned())
                .or_insert_with(|| ModelQueue::new(settings));
            let waiting = Waiting {
                input: ticket.input,
                output: ticket.output,
                prefix: ticket.prefix,
                again: ticket.again,
                since: now,
                change: state.changes,
                deadline: ticket.deadline.map(|at| self.inner.clock.of(at)),
                met: Vec::new(),
                grant,
            };
            lane.queue.push(ticket.line, ticket.again, waiting)
        });
        let mut queued = Queued {
            gate: self,
            model: ticket.model,
            place: Some(place),
            answer,
        };
        let answer = (&mut queued.answer).await;
        queued.place = None;
        match answer {
            Ok(Ok(sent)) => Ok(Permit {
                gate: self.clone(),
                sent: Some(sent),
            }),
            Ok(Err(late)) => Err(late),
            // The sender is in the queue until it is used.
            Err(_) => Err(TooLate {
                met: WaitReason::Concurrency,
                wait_ms: 0,
            }),
        }
    }

    /// Decides whether to retry a call to `model` after the failure of an attempt.
    pub fn judge(&self, model: &str, error: &ProviderError, attempt: Attempt) -> RetryDecision {
        let mut state = self.lock();
        let settings = &self.inner.settings;
        let lane = state
            .lanes
            .entry(model.to_owned())
            .or_insert_with(|| ModelQueue::new(settings));
        let kept = lane.keeps(error, self.inner.clock.now());
        retry::judge(error, attempt, kept, settings.retries, &mut lane.budget, random())
    }

    /// Returns whether the retry budget has room for a hedge, and takes it from the budget.
    pub fn may_hedge(&self, model: &str) -> bool {
        self.lock()
            .lanes
            .get_mut(model)
            .is_some_and(|lane| lane.budget.withdraw())
    }

    /// The requests of all models.
    pub fn pressure(&self) -> Pressure {
        let pressure = |lane: &ModelQueue| Pressure {
            in_flight: u64::from(lane.in_flight),
            waiting: lane.queue.iter().count() as u64,
        };
        self.lock().lanes.values().map(pressure).sum()
    }

    /// Returns the reason why the first waiting request to `model` waits, and the time until it may be sent if that does
    /// not depend on other requests. `None` if no request waits, or if it waits for a moment to join others of its prefix.
    pub fn blocked(&self, model: &str) -> Option<(WaitReason, Option<Duration>)> {
        let now = self.inner.clock.now();
        let (reason, until) = self.lock().lanes.get(model)?.blocked?;
        Some((
            reason,
            until.map(|until| Duration::from_millis(until.saturating_sub(now))),
        ))
    }

    /// The number of requests in flight to `model`, and the number of waiting ones.
    pub fn load(&self, model: &str) -> (u32, usize) {
        self.lock()
            .lanes
            .get(model)
            .map_or((0, 0), |lane| (lane.in_flight, lane.queue.iter().count()))
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        // A panic cannot leave the state inconsistent in a way that matters: limits are estimates, slots are counted
        // last.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the shared file contains everything that was settled so far, or could not be written. Returns at once
    /// if there is no such file.
    pub async fn flush(&self) {
        if self.inner.share.is_some() {
            let changes = self.lock().changes;
            let mut exchanged = self.inner.exchanged.subscribe();
            // The sender lives as long as this gate.
            let _ = exchanged.wait_for(|known| *known >= changes).await;
        }
    }

    /// Changes the state, and has every request sent that may be sent: at once if the state is in this process alone,
    /// and otherwise by an [`Exchange`].
    fn change<T>(&self, change: impl FnOnce(&mut GateState, &Settings, u64) -> T) -> T {
        let mut state = self.lock();
        let now = self.inner.clock.now();
        state.changes += 1;
        let value = change(&mut state, &self.inner.settings, now);
        if self.inner.share.is_none() {
            let unsent = self.advance(&mut state, now);
            drop(state);
            self.give_back(unsent);
        } else if !std::mem::replace(&mut state.exchanging, true) {
            drop(state);
            Exchange(self.clone()).start();
        }
        value
    }

    /// Takes the answers into account and sends every request that may be sent. Returns those whose future was dropped
    /// at this moment.
    fn advance(&self, state: &mut GateState, now: u64) -> Vec<Sent> {
        let mut unsent = Vec::new();
        state.learn(&self.inner.settings);
        if let Some(at) = state.pump(&self.inner.settings, now, &mut unsent) {
            self.wake(state, at, now);
        }
        state.seen = state.changes;
        unsent
    }

    /// Frees the slots of requests that were not sent. Takes the lock.
    fn give_back(&self, unsent: Vec<Sent>) {
        for sent in unsent {
            drop(Permit {
                gate: self.clone(),
                sent: Some(sent),
            });
        }
    }

    /// Reads the shared file, sends every request that may be sent, and writes the file, until it contains all changes.
    ///
    /// The file is locked during that, so that no two processes send what only one of them may. The lock on the state
    /// is not held while this waits for the file.
    fn exchange(&self, share: &Share) {
        loop {
            let opened = share.open();
            let mut state = self.lock();
            let now = self.inner.clock.now();
            if let Some((_, book)) = &opened {
                state.adopt(book, &self.inner.settings, now);
            }
            let changes = state.changes;
            let unsent = self.advance(&mut state, now);
            if let Some((locked, mut book)) = opened {
                state.enter(&mut book, now);
                drop(state);
                locked.write(&book);
            } else {
                drop(state);
            }
            self.give_back(unsent);
            self.inner.exchanged.send_replace(changes);
            let mut state = self.lock();
            if state.changes == changes {
                state.exchanging = false;
                return;
            }
        }
    }

    /// Schedules a check at `at`.
    fn wake(&self, state: &mut GateState, at: u64, now: u64) {
        if state.wake.is_some_and(|known| known <= at && known > now) {
            return;
        }
        // Outside a runtime no request waits any more.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        state.wake = Some(at);
        let weak = Arc::downgrade(&self.inner);
        let wait = Duration::from_millis(at.saturating_sub(now));
        runtime.spawn(async move {
            tokio::time::sleep(wait).await;
            if let Some(inner) = weak.upgrade() {
                Self { inner }.change(|state, _, _| {
                    if state.wake == Some(at) {
                        state.wake = None;
                    }
                });
            }
        });
    }
}

impl GateState {
    /// Takes the answers into account that have arrived since the last time.
    fn learn(&mut self, settings: &Settings) {
        for (sent, answer) in self.answers.drain(..) {
            if let Some(lane) = self.lanes.get_mut(&sent.model) {
                lane.answered(&sent, &answer, &mut self.operator, settings, self.next);
            }
        }
    }

    /// Sends all requests that may be sent, one of each lane in turn, and returns the time of the next check. Requests
    /// whose future was dropped at this moment are added to `unsent`.
    fn pump(&mut self, settings: &Settings, now: u64, unsent: &mut Vec<Sent>) -> Option<u64> {
        loop {
            let mut wake: Option<u64> = None;
            let mut moved = false;
            let after = self
                .lanes
                .range(self.last.clone()..)
                .skip_while(|(name, _)| **name == self.last);
            let before = self.lanes.range(..=self.last.clone());
            let order: Vec<String> = after.chain(before).map(|(name, _)| name.clone()).collect();
            for name in order {
                let Some(lane) = self.lanes.get_mut(&name) else {
                    continue;
                };
                match lane.step(&name, &mut self.operator, settings, self.next, self.seen, now) {
                    Dispatch::Granted(grant, sent) => {
                        self.next += 1;
                        moved = true;
                        if let Err(Ok(sent)) = grant.send(Ok(*sent)) {
                            unsent.push(sent);
                        }
                        self.last = name;
                    }
                    Dispatch::Refused(grant, late) => {
                        moved = true;
                        // A dropped future needs no reply.
                        let _ = grant.send(Err(late));
                    }
                    Dispatch::Blocked(until) => {
                        wake = [wake, until].into_iter().flatten().min();
                    }
                }
            }
            if !moved {
                return wake;
            }
        }
    }

    fn adopt(&mut self, book: &Book, settings: &Settings, now: u64) {
        // Only the limits that are configured in this process: another process may be configured differently.
        self.operator.adopt_known(&book.operator, now);
        for (name, meters) in &book.models {
            // Includes models that this process has not used yet: their first request must see this state, and not
            // overwrite it.
            let lane = self
                .lanes
                .entry(name.clone())
                .or_insert_with(|| ModelQueue::new(settings));
            lane.meters.adopt(meters, now);
        }
    }

    /// Enters the state of this process into the shared state.
    fn enter(&self, book: &mut Book, now: u64) {
        book.operator = self.operator.clone();
        for (name, lane) in &self.lanes {
            book.models.insert(name.clone(), lane.meters.clone());
        }
        book.hold(now, self.lanes.values().map(|lane| lane.in_flight).sum());
    }
}

/// An exchange with the shared file that is due. It happens when this is dropped, so that it also happens if a runtime
/// shuts down before it starts.
struct Exchange(Gate);

impl Exchange {
    /// Lets it happen on a thread that may block. Without a runtime, that is this one.
    fn start(self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || drop(self));
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(share) = &self.0.inner.share {
            self.0.exchange(share);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(share) = self.share.take() {
            share.release();
        }
    }
}

/// Returns a number between 0 and 1.
fn random() -> f64 {
    // Without randomness, the only effect is that retries coincide.
    getrandom::u32().map_or(0.5, |bits| f64::from(bits) / f64::from(u32::MAX))
}

#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod tests;
