//! The books of a run: who may spend how much, who has reserved what, who spent what.
//!
//! Every task has an [`Account`]; accounts form a tree with the run at its root. A call *reserves* its worst case in its
//! own account and in every account above it before anything is sent, and *settles* with what it really used. A
//! reservation that is dropped is given back whole if nothing was sent, and else charged whole. So the sum of what is spent and reserved never passes any limit on
//! the way up, however many calls are in flight, and a limit bounds everything below it.
//!
//! All of it is arithmetic under one lock; the only thing that waits is [`Account::reserve`], and only for a
//! reservation that will fit once others settle. One that can never fit is refused at once.

mod entries;
mod tasks;

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

pub use self::tasks::{FUEL_SHARE, Live};
use super::{LimitKind, Limits, Spent, Usd};

/// The fewest output tokens that a clamped call is sent for: fewer make no answer, and would be paid for all the same.
pub const MIN_OUTPUT_TOKENS: u64 = 16;

/// The account of one task, or of the run. The books keep it for as long as somebody holds it or an account below it.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost_core::limits::ledger::{Account, Used, Want};
/// use agenthost_core::limits::{LimitKind, Limits};
///
/// let run = Account::root(&Limits { tokens: Some(1_000), ..Limits::none() });
/// let task = run.child(&Limits::none());
/// let want = Want { input: 300, output: 500, cost: None, call: true };
/// let mut reserved = task.reserve(&want).await.map_err(|full| full.limit.name())?;
/// assert!(matches!(task.try_reserve(&want), Ok(None)), "it fits once the first has settled");
/// reserved.sent();
/// reserved.settle(Used { input: 250, output: 40, ..Used::default() });
/// assert_eq!(task.left().0, Some(710));
///
/// let huge = Want { input: 5_000, ..want };
/// assert_eq!(task.reserve(&huge).await.err().map(|full| full.limit), Some(LimitKind::Tokens));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Account {
    books: Arc<Books>,
    index: usize,
    held: Arc<Held>,
}

/// Gives the place in the books back when the last one lets go.
struct Held {
    books: Arc<Books>,
    index: usize,
    _parent: Option<Arc<Held>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.books.lock().close(self.index);
    }
}

struct Books {
    entries: Mutex<Pages>,
    changed: Notify,
}

/// All entries, and the places of those that were closed.
#[derive(Default)]
struct Pages {
    all: Vec<Entry>,
    free: Vec<usize>,
}

#[derive(Default)]
struct Entry {
    parent: Option<usize>,
    limits: Caps,
    reserved: Amounts,
    /// Spent by this account and all below it.
    total: Amounts,
    /// Spent by this account alone, for its report.
    own: Spent,
    /// Calls that wait for others to settle.
    waiting: u64,
    /// Tasks of this account and all below it that have not ended.
    live: u64,
}

/// What is consumed: the parts of [`Limits`] that add up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Amounts {
    tokens: u64,
    cost: u64,
    calls: u64,
    fuel: u64,
    tasks: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Caps {
    tokens: Option<u64>,
    cost: Option<u64>,
    calls: Option<u64>,
    fuel: Option<u64>,
    tasks: Option<u64>,
}

/// The worst case of a call that is about to be made.
pub struct Want<'a> {
    /// Input tokens, estimated high.
    pub input: u64,
    /// Output tokens that the task would like at the most; at least 1.
    pub output: u64,
    /// The worst cost of so many input and output tokens, growing with both; none where no price is known.
    pub cost: Option<&'a (dyn Fn(u64, u64) -> Usd + Sync)>,
    /// Whether it is a call of its own; not so for a further request of one that is in the books already.
    pub call: bool,
}

/// Tokens and money held back for one request. Dropping it gives them back before the request is sent, and charges all of
/// it after: the provider has the request and may bill as much, and what it does bill is never learned.
#[must_use]
pub struct Reservation {
    account: Account,
    held: Amounts,
    input: u64,
    output: u64,
    /// Whether the model has a known price.
    priced: bool,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    Held,
    Sent,
    Settled,
}

impl std::fmt::Debug for Reservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reservation")
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

/// Why a call cannot be reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// The limit that stands in the way.
    pub limit: LimitKind,
}

/// What a call really used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// All input tokens, cached ones included.
    pub input: u64,
    /// The part of the input that was read from a cache.
    pub cached_input: u64,
    /// Output tokens.
    pub output: u64,
    /// Its cost; none where no price is known.
    pub cost: Option<Usd>,
}

impl Used {
    /// What two requests used together; its cost is known if both are.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            cached_input: self.cached_input.saturating_add(other.cached_input),
            output: self.output.saturating_add(other.output),
            cost: self.cost.zip(other.cost).map(|(one, two)| one.saturating_add(two)),
        }
    }

    /// The rest of this without `part`; its cost is known if both are.
    #[must_use]
    pub fn minus(&self, part: &Self) -> Self {
        Self {
            input: self.input.saturating_sub(part.input),
            cached_input: self.cached_input.saturating_sub(part.cached_input),
            output: self.output.saturating_sub(part.output),
            cost: self
                .cost
                .zip(part.cost)
                .map(|(all, part)| Usd::from_pico(all.pico().saturating_sub(part.pico()))),
        }
    }
}

enum Fit {
    Now { held: Amounts, output: u64 },
    Later,
    Never(LimitKind),
}

impl Account {
    /// The account of a run.
    pub fn root(limits: &Limits) -> Self {
        let books = Books {
            entries: Mutex::default(),
            changed: Notify::new(),
        };
        Self::open(&Arc::new(books), None, limits)
    }

    /// An account below this one.
    pub fn child(&self, limits: &Limits) -> Self {
        Self::open(&self.books, Some(self), limits)
    }

    fn open(books: &Arc<Books>, parent: Option<&Self>, limits: &Limits) -> Self {
        let limits = Caps {
            tokens: limits.tokens,
            cost: limits.cost.map(Usd::pico),
            calls: limits.calls,
            fuel: limits.fuel,
            tasks: limits.tasks,
        };
        let index = books.lock().open(Entry {
            parent: parent.map(|parent| parent.index),
            limits,
            ..Entry::default()
        });
        Self {
            books: Arc::clone(books),
            index,
            held: Arc::new(Held {
                books: Arc::clone(books),
                index,
                _parent: parent.map(|parent| Arc::clone(&parent.held)),
            }),
        }
    }

    /// Whether this account or one above it has a limit on money, so that a model without a price cannot be called.
    pub fn has_cost_limit(&self) -> bool {
        self.books
            .lock()
            .chain(self.index)
            .any(|entry| entry.limits.cost.is_some())
    }

    /// Holds back the worst case of a call. Output is clamped to what can be left first. Waits while the call would fit
    /// once others have settled; dropping the future gives up the wait.
    pub async fn reserve(&self, want: &Want<'_>) -> Result<Reservation, Exhausted> {
        let mut waiting: Option<Waiting<'_>> = None;
        loop {
            let mut changed = std::pin::pin!(self.books.changed.notified());
            changed.as_mut().enable();
            match self.try_reserve(want) {
                Ok(Some(reservation)) => return Ok(reservation),
                Err(exhausted) => return Err(exhausted),
                Ok(None) => {
                    waiting.get_or_insert_with(|| Waiting::new(self));
                    changed.await;
                }
            }
        }
    }

    /// As [`Account::reserve`], but gives none where the call would have to wait.
    pub fn try_reserve(&self, want: &Want<'_>) -> Result<Option<Reservation>, Exhausted> {
        let mut entries = self.books.lock();
        match entries.fit(self.index, want) {
            Fit::Now { held, output } => {
                entries.each_up(self.index, |entry| entry.reserved = entry.reserved.plus(held));
                drop(entries);
                Ok(Some(Reservation {
                    account: self.clone(),
                    held,
                    input: want.input,
                    output,
                    priced: want.cost.is_some(),
                    state: State::Held,
                }))
            }
            Fit::Later => Ok(None),
            Fit::Never(limit) => Err(Exhausted { limit }),
        }
    }

    /// Books what was spent before, and is known from elsewhere: a call that is not made again. No limit stops it.
    pub fn restore(&self, used: &Used, calls: u64) {
        let amounts = Amounts {
            tokens: used.input.saturating_add(used.output),
            cost: used.cost.map_or(0, Usd::pico),
            calls,
            ..Amounts::default()
        };
        let mut entries = self.books.lock();
        entries.each_up(self.index, |entry| entry.total = entry.total.plus(amounts));
        if let Some(entry) = entries.get_mut(self.index) {
            for _ in 0..calls {
                entry.own.called();
            }
            entry.own.charge(used);
        }
    }

    /// Books what a task below this one spent before, which is not run again, and so many sub-tasks.
    pub fn restore_below(&self, spent: &Spent, tasks: u64) {
        let amounts = Amounts {
            tokens: spent.input_tokens.saturating_add(spent.output_tokens),
            cost: spent.cost.pico(),
            calls: spent.calls,
            fuel: spent.fuel,
            tasks,
        };
        self.books
            .lock()
            .each_up(self.index, |entry| entry.total = entry.total.plus(amounts));
    }

    /// What this account itself spent, without what is below it.
    pub fn spent(&self) -> Spent {
        self.books
            .lock()
            .get(self.index)
            .map(|entry| entry.own.clone())
            .unwrap_or_default()
    }

    /// Tokens, cost and calls that are neither spent nor reserved, here or above; none where nothing limits them.
    pub fn left(&self) -> (Option<u64>, Option<Usd>, Option<u64>) {
        let entries = self.books.lock();
        let least = |left: fn(&Entry) -> Option<u64>| entries.chain(self.index).filter_map(left).min();
        let tokens = least(|e| {
            Some(
                e.limits
                    .tokens?
                    .saturating_sub(e.total.tokens.saturating_add(e.reserved.tokens)),
            )
        });
        let cost = least(|e| {
            Some(
                e.limits
                    .cost?
                    .saturating_sub(e.total.cost.saturating_add(e.reserved.cost)),
            )
        });
        let calls = least(|e| {
            Some(
                e.limits
                    .calls?
                    .saturating_sub(e.total.calls.saturating_add(e.reserved.calls)),
            )
        });
        (tokens, cost.map(Usd::from_pico), calls)
    }

    /// Tokens reserved by calls in flight, here and below, and the number of calls that wait to reserve.
    pub fn in_flight(&self) -> (u64, u64) {
        self.books
            .lock()
            .get(self.index)
            .map_or((0, 0), |entry| (entry.reserved.tokens, entry.waiting))
    }
}

impl Reservation {
    /// Output tokens that the call may ask for.
    pub fn output(&self) -> u64 {
        self.output
    }

    /// The most that the request can use: what is held for it.
    pub fn worst(&self) -> Used {
        Used {
            input: self.input,
            cached_input: 0,
            output: self.output,
            cost: self.priced.then(|| Usd::from_pico(self.held.cost)),
        }
    }

    /// Notes that the call is on its way: it is in the books as a call from now on, even if nobody waits for its answer
    /// and whenever that is noticed.
    pub fn sent(&mut self) {
        if self.state != State::Held {
            return;
        }
        self.state = State::Sent;
        // None for a further request of a call.
        let one = Amounts {
            calls: self.held.calls,
            ..Amounts::default()
        };
        self.held = self.held.minus(one);
        let mut entries = self.account.books.lock();
        entries.each_up(self.account.index, |entry| {
            entry.reserved = entry.reserved.minus(one);
            entry.total = entry.total.plus(one);
        });
        if let Some(entry) = entries.get_mut(self.account.index).filter(|_| one.calls > 0) {
            entry.own.called();
        }
    }

    /// Replaces what was held by what was used. More than was held is charged all the same, and stops the next call.
    pub fn settle(mut self, used: Used) {
        self.charge(used);
        // `self` is dropped now, which gives back what was held and wakes those who wait.
    }

    fn charge(&mut self, used: Used) {
        // What was settled has been sent.
        self.sent();
        self.state = State::Settled;
        let amounts = Amounts {
            tokens: used.input.saturating_add(used.output),
            cost: used.cost.map_or(0, Usd::pico),
            ..Amounts::default()
        };
        let account = &self.account;
        let mut entries = account.books.lock();
        entries.each_up(account.index, |entry| entry.total = entry.total.plus(amounts));
        if let Some(entry) = entries.get_mut(account.index) {
            entry.own.charge(&used);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.state == State::Sent {
            let worst = self.worst();
            self.charge(worst);
        }
        let held = self.held;
        self.account
            .books
            .lock()
            .each_up(self.account.index, |entry| entry.reserved = entry.reserved.minus(held));
        self.account.books.changed.notify_waiters();
    }
}

/// Counts a call as waiting for as long as it waits.
struct Waiting<'a>(&'a Account);

impl<'a> Waiting<'a> {
    fn new(account: &'a Account) -> Self {
        account.books.lock().each_up(account.index, |entry| entry.waiting += 1);
        Self(account)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0
            .books
            .lock()
            .each_up(self.0.index, |entry| entry.waiting = entry.waiting.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests;
