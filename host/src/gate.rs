//! The one path of all model calls to a provider: rate limits, concurrency, retries.
//!
//! A call asks for admission ([`Gate::admit`]) and gets a [`Permit`] once everything allows it to be sent: a place among
//! the requests in flight, as many as the control law (`adaptive`) gives; enough in every rate limit that is known, the
//! operator's and the service's own (`meters`, `bucket`), also as other processes of the user have used them (`share`);
//! and no `retry-after` that still runs. What came back is told to the permit ([`Permit::settle`]), which frees the place
//! and teaches the gate. A permit that is dropped frees its place, and whoever stops waiting leaves the queue.
//!
//! There is a gate for each provider and a lane in it for each model, as services keep their limits by model; what the
//! operator set holds for all lanes together. Those who wait are served in the order of `queue`, except that of many
//! requests that begin alike one goes ahead (`warm`). The gate says whether a failed attempt is worth another
//! (`retry`); making it, and reserving for it, is the caller's, for every attempt is in the books by itself.
//!
//! The gate knows neither tasks nor money, and sends nothing itself.

mod adaptive;
mod bucket;
mod clock;
mod lane;
mod meters;
mod queue;
mod retry;
mod share;
mod warm;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use self::clock::Clock;
use self::lane::{Lane, Sent, Step, Waiting};
use self::meters::Meters;
use self::queue::Place;
use self::share::{Book, Locked, Share};
use crate::llm::{Caching, Counting, ProviderError, Reply};

pub use self::meters::Met;
pub use self::queue::Line;
pub use self::retry::Verdict;
pub use self::share::{Holder, Sharing, inspect};
pub use self::warm::Prefix;

/// The requests in flight to one model at the start, unless the operator says otherwise.
pub const INITIAL_CONCURRENCY: u32 = 4;
/// The most requests in flight to one model, unless the operator says otherwise.
pub const MAX_CONCURRENCY: u32 = 64;
/// Further attempts after the first, unless the operator says otherwise.
pub const RETRIES: u32 = 4;

/// The folder of the state directory in which processes share what they know.
pub const SHARED: &str = "gate";

/// How a gate keeps its provider.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Requests a minute to all models together, where the operator set it.
    pub requests_per_minute: Option<u64>,
    /// Tokens a minute of all models together, where the operator set it.
    pub tokens_per_minute: Option<u64>,
    /// The most requests in flight to one model.
    pub max_concurrency: u32,
    /// As many at the start.
    pub initial_concurrency: u32,
    /// Further attempts after the first.
    pub retries: u32,
    /// How the service counts tokens.
    pub counting: Counting,
    /// What it does with prompts that begin alike.
    pub caching: Caching,
    /// Whether one of many requests that begin alike goes ahead.
    pub warm_prefix: bool,
    /// The file in which the processes on one key share what they know; none to keep it in this process.
    pub share: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            requests_per_minute: None,
            tokens_per_minute: None,
            max_concurrency: MAX_CONCURRENCY,
            initial_concurrency: INITIAL_CONCURRENCY,
            retries: RETRIES,
            counting: Counting::AsUsed,
            caching: Caching::None,
            warm_prefix: true,
            share: None,
        }
    }
}

/// The gate of one provider. Cloning it is cheap and gives the same gate.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost::gate::{Gate, Line, Settings, Ticket, Verdict};
/// use agenthost::llm::{ProviderError, ProviderErrorKind};
///
/// let gate = Gate::new(Settings { max_concurrency: 1, ..Settings::default() });
/// let line: Line = "run 1".into();
/// let ticket = Ticket { model: "small", line: &line, again: false, input: 500, output: 100, prefix: None, deadline: None };
/// let permit = gate.admit(ticket.clone()).await?;
/// assert_eq!(gate.load("small"), (1, 0));
///
/// // A second request waits until the first has settled.
/// let (second, ()) = tokio::join!(gate.admit(ticket), async {
///     let error = ProviderError::new(ProviderErrorKind::Overloaded, "too much to do");
///     permit.settle(Err(&error));
///     assert!(matches!(gate.judge("small", &error, 0, None), Verdict::Again(_)));
/// });
/// drop(second?);
/// assert_eq!(gate.pressure(), (0, 0));
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
    share: Option<Share>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    lanes: BTreeMap<String, Lane>,
    /// What the operator set, for all lanes.
    operator: Meters,
    /// The number of the next request.
    next: u64,
    /// The lane that was served last, so that the others come first.
    last: String,
    /// When somebody looks again.
    wake: Option<u64>,
}

/// A request that wants to be sent.
#[derive(Debug, Clone)]
pub struct Ticket<'a> {
    /// The model's id at the provider.
    pub model: &'a str,
    /// Whose turn it takes.
    pub line: &'a Line,
    /// Whether it waited before and was sent back, so that it goes to the front of its line.
    pub again: bool,
    /// Input tokens, estimated.
    pub input: u64,
    /// Output tokens at the most.
    pub output: u64,
    /// What it shares with others.
    pub prefix: Option<Prefix>,
    /// When its task ends: it is not let wait for a time that comes after.
    pub deadline: Option<Instant>,
}

/// A request would be sent only after its task's deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLate {
    /// What it would wait for.
    pub met: Met,
    /// For how long, in milliseconds.
    pub wait_ms: u64,
}

impl std::fmt::Display for TooLate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.met {
            Met::Requests => "the rate limit of requests",
            Met::Tokens => "the rate limit of tokens",
            Met::InputTokens => "the rate limit of input tokens",
            Met::OutputTokens => "the rate limit of output tokens",
            Met::RetryAfter => "the time that the service asked for",
            Met::Concurrency | Met::Prefix => "other requests",
        };
        let seconds = self.wait_ms.div_ceil(1_000);
        write!(
            f,
            "{what} lets the next request through in {seconds} s, after the task's deadline"
        )
    }
}

impl std::error::Error for TooLate {}

/// The right to send one request. Dropping it frees its place.
#[derive(Debug)]
pub struct Permit {
    gate: Gate,
    /// None once it is settled.
    sent: Option<Sent>,
}

impl Permit {
    /// How long it was waited for.
    pub fn waited(&self) -> Duration {
        Duration::from_millis(self.sent.as_ref().map_or(0, |sent| sent.waited))
    }

    /// What it was waited for.
    pub fn met(&self) -> &[Met] {
        self.sent.as_ref().map_or(&[], |sent| &sent.met)
    }

    /// Where the request should mark its prefix for the provider's cache: before the message part of this index.
    pub fn mark(&self) -> Option<usize> {
        let sent = self.sent.as_ref()?;
        sent.prefix
            .filter(|_| sent.role != warm::Role::Alone)
            .map(|prefix| prefix.end)
    }

    /// Whether others wait for what this request writes to the provider's cache.
    pub fn leads(&self) -> bool {
        self.sent.as_ref().is_some_and(|sent| sent.role == warm::Role::Leads)
    }

    /// Frees the place and takes the answer into account.
    pub fn settle(mut self, answer: Result<&Reply, &ProviderError>) {
        if let Some(sent) = self.sent.take() {
            self.gate.change(|state, settings, now| {
                let State {
                    lanes, operator, next, ..
                } = state;
                if let Some(lane) = lanes.get_mut(&sent.model) {
                    lane.answered(&sent, answer, operator, settings, *next, now);
                }
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

/// Takes the place in the queue back if it is given up, or the permit that was granted in the meantime.
struct Queued<'a> {
    gate: &'a Gate,
    model: &'a str,
    /// `None` once the answer was received.
    place: Option<Place>,
    granted: oneshot::Receiver<Result<Sent, TooLate>>,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        self.gate.change(|state, _, _| {
            if let Some(lane) = state.lanes.get_mut(self.model) {
                lane.queue.remove(&place);
            }
        });
        self.granted.close();
        if let Ok(Ok(sent)) = self.granted.try_recv() {
            drop(Permit {
                gate: self.gate.clone(),
                sent: Some(sent),
            });
        }
    }
}

impl Gate {
    /// A gate with nobody at it.
    pub fn new(settings: Settings) -> Self {
        let clock = Clock::new();
        let operator = Meters::of_operator(settings.requests_per_minute, settings.tokens_per_minute, clock.now());
        Self {
            inner: Arc::new(Inner {
                share: settings.share.clone().map(Share::new),
                settings,
                clock,
                state: Mutex::new(State {
                    lanes: BTreeMap::new(),
                    operator,
                    next: 0,
                    last: String::new(),
                    wake: None,
                }),
            }),
        }
    }

    /// Waits until the request may be sent. Dropping the future leaves the queue.
    ///
    /// # Errors
    ///
    /// [`TooLate`] as soon as it is known that the request cannot be sent before its task's deadline.
    pub async fn admit(&self, ticket: Ticket<'_>) -> Result<Permit, TooLate> {
        let (grant, granted) = oneshot::channel();
        let place = self.change(|state, settings, now| {
            let lane = state
                .lanes
                .entry(ticket.model.to_owned())
                .or_insert_with(|| Lane::new(settings));
            let waiting = Waiting {
                input: ticket.input,
                output: ticket.output,
                prefix: ticket.prefix,
                again: ticket.again,
                since: now,
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
            granted,
        };
        let answer = (&mut queued.granted).await;
        queued.place = None;
        match answer {
            Ok(Ok(sent)) => Ok(Permit {
                gate: self.clone(),
                sent: Some(sent),
            }),
            Ok(Err(late)) => Err(late),
            // The sender lives in the queue until it is used.
            Err(_) => Err(TooLate {
                met: Met::Concurrency,
                wait_ms: 0,
            }),
        }
    }

    /// Whether the failed attempt number `attempt` (the first is 0) of a call to `model` is worth another.
    pub fn judge(&self, model: &str, error: &ProviderError, attempt: u32, deadline: Option<Instant>) -> Verdict {
        let mut state = self.lock();
        let settings = &self.inner.settings;
        let lane = state
            .lanes
            .entry(model.to_owned())
            .or_insert_with(|| Lane::new(settings));
        retry::judge(error, attempt, settings.retries, deadline, &mut lane.budget, random())
    }

    /// Whether the retry budget has room for a request that is sent on suspicion.
    pub fn may_hedge(&self, model: &str) -> bool {
        self.lock()
            .lanes
            .get_mut(model)
            .is_some_and(|lane| lane.budget.withdraw())
    }

    /// Requests in flight, and those that wait.
    pub fn pressure(&self) -> (u64, u64) {
        self.lock().lanes.values().fold((0, 0), |(in_flight, waiting), lane| {
            (
                in_flight + u64::from(lane.in_flight),
                waiting + lane.queue.iter().count() as u64,
            )
        })
    }

    /// Requests in flight to `model`, and those that wait.
    pub fn load(&self, model: &str) -> (u32, usize) {
        self.lock()
            .lanes
            .get(model)
            .map_or((0, 0), |lane| (lane.in_flight, lane.queue.iter().count()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave the state half changed in a way that matters: limits are estimates, places are counted last.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, with what other processes know taken in before and told after, and sends whoever may go.
    fn change<T>(&self, change: impl FnOnce(&mut State, &Settings, u64) -> T) -> T {
        let mut unsent = Vec::new();
        let mut state = self.lock();
        let now = self.inner.clock.now();
        let shared = self.inner.share.as_ref().and_then(Share::open);
        if let Some((_, book)) = &shared {
            state.adopt(book, &self.inner.settings, now);
        }
        let value = change(&mut state, &self.inner.settings, now);
        let wake = state.pump(&self.inner.settings, now, &mut unsent);
        if let Some((locked, book)) = shared {
            state.tell(locked, book, now);
        }
        if let Some(at) = wake {
            self.wake(&mut state, at, now);
        }
        drop(state);
        // They gave up in this very moment, so they take the lock again.
        for sent in unsent {
            drop(Permit {
                gate: self.clone(),
                sent: Some(sent),
            });
        }
        value
    }

    /// Looks again at `at`.
    fn wake(&self, state: &mut State, at: u64, now: u64) {
        if state.wake.is_some_and(|known| known <= at && known > now) {
            return;
        }
        // Outside a runtime nobody waits any more.
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

impl State {
    /// Sends all that may go, one of each lane in turn, and says when somebody should look again. Those who gave up in
    /// this very moment are put into `unsent`.
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
                match lane.step(&name, &mut self.operator, settings, self.next, now) {
                    Step::Granted(grant, sent) => {
                        self.next += 1;
                        moved = true;
                        if let Err(Ok(sent)) = grant.send(Ok(*sent)) {
                            unsent.push(sent);
                        }
                        self.last = name;
                    }
                    Step::Refused(grant, late) => {
                        moved = true;
                        // Whoever gave up needs no answer.
                        let _ = grant.send(Err(late));
                    }
                    Step::Blocked(until) => {
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
        // Only what this process was told to keep: another one may have been configured otherwise.
        self.operator.adopt_known(&book.operator, now);
        for (name, meters) in &book.models {
            // Also of models that this process has not asked yet: its first request must know, and not write over it.
            let lane = self.lanes.entry(name.clone()).or_insert_with(|| Lane::new(settings));
            lane.meters.adopt(meters, now);
        }
    }

    fn tell(&self, locked: Locked, mut book: Book, now: u64) {
        book.operator = self.operator.clone();
        for (name, lane) in &self.lanes {
            book.models.insert(name.clone(), lane.meters.clone());
        }
        book.hold(now, self.lanes.values().map(|lane| lane.in_flight).sum());
        locked.write(&book);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some((locked, mut book)) = self.share.as_ref().and_then(Share::open) {
            book.release();
            locked.write(&book);
        }
    }
}

/// A number between 0 and 1.
fn random() -> f64 {
    // Without randomness retries only come in step.
    getrandom::u32().map_or(0.5, |bits| f64::from(bits) / f64::from(u32::MAX))
}

#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod tests;
