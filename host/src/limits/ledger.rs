//! The books of a run: who may spend how much, who has reserved what, who spent what.
//!
//! Every task has an [`Account`]; accounts form a tree with the run at its root. A call *reserves* its worst case in its
//! own account and in every account above it before anything is sent, and *settles* with what it really used; a
//! reservation that is dropped is given back whole. So the sum of what is spent and reserved never passes any limit on
//! the way up, however many calls are in flight, and a limit bounds everything below it.
//!
//! All of it is arithmetic under one lock; the only thing that waits is [`Account::reserve`], and only for a
//! reservation that will fit once others settle. One that can never fit is refused at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{LimitKind, Limits, Spent, Usd};

/// The fewest output tokens that a clamped call is sent for: fewer make no answer, and would be paid for all the same.
pub const MIN_OUTPUT_TOKENS: u64 = 16;

/// The least fuel that a task shares with others starts a burst of computing with, if there is as much: about 0.1 s.
pub const FUEL_SHARE: u64 = 1_000_000_000;

/// The account of one task, or of the run.
#[derive(Clone)]
pub struct Account {
    books: Arc<Books>,
    index: usize,
}

struct Books {
    entries: Mutex<Vec<Entry>>,
    changed: Notify,
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

/// A task that has not ended; see [`Account::live`].
pub struct Live(Account);

impl Drop for Live {
    fn drop(&mut self) {
        self.0
            .books
            .lock()
            .each_up(self.0.index, |entry| entry.live = entry.live.saturating_sub(1));
    }
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
}

/// Tokens and money held back for one call. Dropping it gives them back.
#[must_use]
pub struct Reservation {
    account: Account,
    held: Amounts,
    output: u64,
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

enum Fit {
    Now { held: Amounts, output: u64 },
    Later,
    Never(LimitKind),
}

impl Account {
    /// The account of a run.
    pub fn root(limits: &Limits) -> Self {
        let books = Books {
            entries: Mutex::new(Vec::new()),
            changed: Notify::new(),
        };
        let root = Self {
            books: Arc::new(books),
            index: 0,
        };
        root.open(None, limits)
    }

    /// An account below this one.
    pub fn child(&self, limits: &Limits) -> Self {
        self.open(Some(self.index), limits)
    }

    fn open(&self, parent: Option<usize>, limits: &Limits) -> Self {
        let limits = Caps {
            tokens: limits.tokens,
            cost: limits.cost.map(Usd::pico),
            calls: limits.calls,
            fuel: limits.fuel,
            tasks: limits.tasks,
        };
        let mut entries = self.books.lock();
        let index = entries.len();
        entries.push(Entry {
            parent,
            limits,
            ..Entry::default()
        });
        drop(entries);
        Self {
            books: Arc::clone(&self.books),
            index,
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
                    output,
                    state: State::Held,
                }))
            }
            Fit::Later => Ok(None),
            Fit::Never(limit) => Err(Exhausted { limit }),
        }
    }

    /// Leases fuel for a guest that is about to compute; [`Account::settle_fuel`] gives back what it did not use as soon as
    /// it waits again. A task that shares no limit with another live task gets all that is left, any other half of it, but
    /// at least [`FUEL_SHARE`]. Waits while others hold leases and less than that is left; gives 0 when all is used up.
    pub async fn lease_fuel(&self) -> u64 {
        loop {
            let mut changed = std::pin::pin!(self.books.changed.notified());
            changed.as_mut().enable();
            match self.try_lease_fuel() {
                Some(lease) => return lease,
                None => changed.await,
            }
        }
    }

    fn try_lease_fuel(&self) -> Option<u64> {
        let mut entries = self.books.lock();
        let (mut left, mut shared, mut leased) = (u64::MAX, false, false);
        for entry in entries.chain(self.index) {
            let Some(limit) = entry.limits.fuel else {
                continue;
            };
            left = left.min(limit.saturating_sub(entry.total.fuel.saturating_add(entry.reserved.fuel)));
            shared |= entry.live > 1;
            leased |= entry.reserved.fuel > 0;
        }
        let lease = match shared {
            false => left,
            true if left < FUEL_SHARE && leased => return None,
            true => (left / 2).max(FUEL_SHARE.min(left)),
        };
        let lease = Amounts {
            fuel: lease,
            ..Amounts::default()
        };
        entries.each_up(self.index, |entry| entry.reserved = entry.reserved.plus(lease));
        Some(lease.fuel)
    }

    /// Gives a lease of `leased` units back, `used` of which were used.
    pub fn settle_fuel(&self, leased: u64, used: u64) {
        let (leased, charged) = (
            Amounts {
                fuel: leased,
                ..Amounts::default()
            },
            Amounts {
                fuel: used,
                ..Amounts::default()
            },
        );
        let mut entries = self.books.lock();
        entries.each_up(self.index, |entry| {
            entry.reserved = entry.reserved.minus(leased);
            entry.total = entry.total.plus(charged);
        });
        if let Some(entry) = entries.0.get_mut(self.index) {
            entry.own.fuel = entry.own.fuel.saturating_add(used);
        }
        drop(entries);
        self.books.changed.notify_waiters();
    }

    /// Counts the task of this account as live, for as long as the guard does.
    pub fn live(&self) -> Live {
        self.books.lock().each_up(self.index, |entry| entry.live += 1);
        Live(self.clone())
    }

    /// Fuel that is neither used nor leased, here or above; none where nothing limits it.
    pub fn fuel_left(&self) -> Option<u64> {
        let left = |entry: &Entry| {
            Some(
                entry
                    .limits
                    .fuel?
                    .saturating_sub(entry.total.fuel.saturating_add(entry.reserved.fuel)),
            )
        };
        self.books.lock().chain(self.index).filter_map(left).min()
    }

    /// Charges one sub-task to this account and all above it.
    pub fn start_task(&self) -> Result<(), Exhausted> {
        let one = Amounts {
            tasks: 1,
            ..Amounts::default()
        };
        let mut entries = self.books.lock();
        let full = |entry: &Entry| entry.limits.tasks.is_some_and(|most| entry.total.tasks >= most);
        if entries.chain(self.index).any(full) {
            return Err(Exhausted {
                limit: LimitKind::Tasks,
            });
        }
        entries.each_up(self.index, |entry| entry.total = entry.total.plus(one));
        Ok(())
    }

    /// What this account itself spent, without what is below it.
    pub fn spent(&self) -> Spent {
        self.books
            .lock()
            .0
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
            .0
            .get(self.index)
            .map_or((0, 0), |entry| (entry.reserved.tokens, entry.waiting))
    }
}

impl Reservation {
    /// Output tokens that the call may ask for.
    pub fn output(&self) -> u64 {
        self.output
    }

    /// Notes that the call is on its way: it is in the books as a call from now on, even if nobody waits for its answer
    /// and whenever that is noticed.
    pub fn sent(&mut self) {
        if self.state != State::Held {
            return;
        }
        self.state = State::Sent;
        let one = Amounts {
            calls: 1,
            ..Amounts::default()
        };
        self.held = self.held.minus(one);
        let mut entries = self.account.books.lock();
        entries.each_up(self.account.index, |entry| {
            entry.reserved = entry.reserved.minus(one);
            entry.total = entry.total.plus(one);
        });
        if let Some(entry) = entries.0.get_mut(self.account.index) {
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
        if let Some(entry) = entries.0.get_mut(account.index) {
            entry.own.charge(&used);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // One that was sent and abandoned stays a call that used nothing: what the provider counted will never be known,
        // and a closed connection is mostly not billed.
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

struct Entries<'a>(MutexGuard<'a, Vec<Entry>>);

impl Books {
    fn lock(&self) -> Entries<'_> {
        // A panic while the lock is held cannot leave a sum half done: every change is a single assignment.
        Entries(self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::ops::Deref for Entries<'_> {
    type Target = Vec<Entry>;

    fn deref(&self) -> &Vec<Entry> {
        &self.0
    }
}

impl Entries<'_> {
    fn push(&mut self, entry: Entry) {
        self.0.push(entry);
    }

    /// The entry and all above it.
    fn chain(&self, index: usize) -> impl Iterator<Item = &Entry> {
        std::iter::successors(self.0.get(index), |entry| {
            entry.parent.and_then(|parent| self.0.get(parent))
        })
    }

    fn each_up(&mut self, index: usize, mut change: impl FnMut(&mut Entry)) {
        let mut next = Some(index);
        while let Some(entry) = next.and_then(|index| self.0.get_mut(index)) {
            change(entry);
            next = entry.parent;
        }
    }

    /// The most that every limit on the way up leaves once all that is reserved is given back, and whether it is there
    /// already.
    fn fit(&self, index: usize, want: &Want<'_>) -> Fit {
        let room = |cap: fn(&Caps) -> Option<u64>, spent: fn(&Amounts) -> u64| {
            self.chain(index)
                .filter_map(|entry| Some(cap(&entry.limits)?.saturating_sub(spent(&entry.total))))
                .min()
                .unwrap_or(u64::MAX)
        };
        if room(|caps| caps.calls, |spent| spent.calls) < 1 {
            return Fit::Never(LimitKind::Calls);
        }
        let least = want.output.clamp(1, MIN_OUTPUT_TOKENS);
        let tokens = room(|caps| caps.tokens, |spent| spent.tokens);
        let output = want.output.max(1).min(tokens.saturating_sub(want.input));
        if output < least {
            return Fit::Never(LimitKind::Tokens);
        }
        let cost = |output| want.cost.map_or(0, |cost| cost(want.input, output).pico());
        let money = room(|caps| caps.cost, |spent| spent.cost);
        let output = match cost(output) <= money {
            true => output,
            // The cost grows with the output, so the most that the money allows is found by halving.
            false => {
                let (mut fits, mut does_not) = (0, output);
                while does_not - fits > 1 {
                    let middle = fits + (does_not - fits) / 2;
                    if cost(middle) <= money {
                        fits = middle
                    } else {
                        does_not = middle
                    }
                }
                fits
            }
        };
        if output < least {
            return Fit::Never(LimitKind::Cost);
        }
        let held = Amounts {
            tokens: want.input.saturating_add(output),
            cost: cost(output),
            calls: 1,
            ..Amounts::default()
        };
        let fits = |entry: &Entry| {
            let after = entry.total.plus(entry.reserved).plus(held);
            let within = |cap: Option<u64>, amount: u64| cap.is_none_or(|cap| amount <= cap);
            within(entry.limits.tokens, after.tokens)
                && within(entry.limits.cost, after.cost)
                && within(entry.limits.calls, after.calls)
        };
        match self.chain(index).all(fits) {
            true => Fit::Now { held, output },
            false => Fit::Later,
        }
    }
}

impl Amounts {
    fn plus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            cost: self.cost.saturating_add(other.cost),
            calls: self.calls.saturating_add(other.calls),
            fuel: self.fuel.saturating_add(other.fuel),
            tasks: self.tasks.saturating_add(other.tasks),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_sub(other.tokens),
            cost: self.cost.saturating_sub(other.cost),
            calls: self.calls.saturating_sub(other.calls),
            fuel: self.fuel.saturating_sub(other.fuel),
            tasks: self.tasks.saturating_sub(other.tasks),
        }
    }
}

#[cfg(test)]
mod tests;
