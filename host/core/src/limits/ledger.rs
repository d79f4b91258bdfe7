//! The accounts of a run: what each task may spend, has reserved and has spent.
//!
//! Every task has an [`Account`]; accounts form a tree with the run at its root. Before a request is sent, its call
//! *reserves* the worst case in its own account and in every account above it; afterwards it *settles* with the actual
//! usage. A dropped reservation is released if nothing was sent, and charged in full otherwise. So the sum of spent and
//! reserved amounts never exceeds any limit on the way up, however many calls are in flight, and a limit bounds
//! everything below it.
//!
//! All of it is arithmetic under one lock. Only [`Account::reserve`] and [`Account::lease_fuel`] wait, and only for an
//! amount that will fit once others settle. A reservation that can never fit is rejected immediately.

mod entries;
mod tasks;

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

pub use self::tasks::{FUEL_SHARE, Live};
pub use super::spent::Used;
use super::{LimitKind, LimitOwner, Limits, Percent, Shortage, Spent, Usd};

/// The fewest output tokens that a clamped call is sent for. Fewer cannot hold an answer and would still be billed.
pub const MIN_OUTPUT_TOKENS: u64 = 16;

/// The account of one task, or of the run. Its entry is kept while the account or an account below it exists.
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
    books: Arc<Ledger>,
    index: usize,
    held: Arc<Held>,
}

/// Frees the entry of an account when its last handle is dropped.
struct Held {
    books: Arc<Ledger>,
    index: usize,
    _parent: Option<Arc<Held>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.books.lock().close(self.index);
    }
}

struct Ledger {
    entries: Mutex<AccountPages>,
    changed: Notify,
}

/// All entries, and the indices of those that were closed.
#[derive(Default)]
struct AccountPages {
    all: Vec<AccountEntry>,
    free: Vec<usize>,
}

#[derive(Default)]
struct AccountEntry {
    parent: Option<usize>,
    limits: Caps,
    reserved: Amounts,
    /// Amounts spent by this account and all below it.
    total: Amounts,
    /// Usage of this account alone, for its report.
    own: Spent,
    /// Calls that wait for others to settle, in this account and all below it.
    waiting: u64,
    /// Tasks of this account and all below it that have not ended.
    live: u64,
    /// The limit of the account at the root for which a call or a task was refused for good, or one outside of the
    /// accounts, with its owner.
    refused: Option<(LimitKind, Option<LimitOwner>)>,
    /// The owner of the account, if it was named.
    owner: Option<LimitOwner>,
    /// The limit that stopped the last call that was refused, here or below.
    stopped: Option<Stopped>,
}

impl AccountEntry {
    /// Returns the limit of this account of which nothing is left.
    fn used_up(&self) -> Option<LimitKind> {
        let (limits, total) = (&self.limits, &self.total);
        let all = [
            (LimitKind::Tokens, limits.tokens, total.tokens),
            (LimitKind::Cost, limits.cost, total.cost),
            (LimitKind::Calls, limits.calls, total.calls),
            (LimitKind::Fuel, limits.fuel, total.fuel),
        ];
        let used_up = all
            .into_iter()
            .find(|(_, limit, total)| limit.is_some_and(|limit| *total >= limit));
        used_up.map(|(kind, ..)| kind)
    }
}

/// Consumed amounts: the parts of [`Limits`] that add up.
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
    /// The most output tokens that the task asks for; at least 1.
    pub output: u64,
    /// The worst cost of a number of input and output tokens, increasing with both. `None` if the price is unknown.
    pub cost: Option<&'a (dyn Fn(u64, u64) -> Usd + Sync)>,
    /// `true` to count a new call; `false` for a further request of a call that is already counted.
    pub call: bool,
}

impl Want<'_> {
    /// Returns the most output tokens that fit into an amount of tokens and of money, or the limit that leaves too few
    /// of them.
    pub fn output_within(&self, tokens: u64, money: Usd) -> Result<u64, LimitKind> {
        let least = self.output.clamp(1, MIN_OUTPUT_TOKENS);
        let output = self.output.max(1).min(tokens.saturating_sub(self.input));
        if output < least {
            return Err(LimitKind::Tokens);
        }
        let output = match self.worst_cost(output) <= money {
            true => output,
            // The cost grows with the output, so a binary search finds the most that the money allows.
            false => {
                let (mut fits, mut does_not) = (0, output);
                while does_not - fits > 1 {
                    let middle = fits + (does_not - fits) / 2;
                    if self.worst_cost(middle) <= money {
                        fits = middle
                    } else {
                        does_not = middle
                    }
                }
                fits
            }
        };
        if output < least {
            return Err(LimitKind::Cost);
        }
        Ok(output)
    }

    fn worst_cost(&self, output: u64) -> Usd {
        self.cost.map_or(Usd::ZERO, |cost| cost(self.input, output))
    }
}

/// Tokens and money reserved for one request. Dropping it releases them if the request was not sent, and charges all of
/// them otherwise: the provider has the request and may bill that much, and the actual amount is never learned.
#[must_use]
pub struct Reservation {
    account: Account,
    held: Amounts,
    input: u64,
    output: u64,
    /// `true` if the model has a known price.
    priced: bool,
    state: ReservationState,
}

#[derive(PartialEq, Eq)]
enum ReservationState {
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

/// The reason why a call cannot be reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// The limit that is exhausted.
    pub limit: LimitKind,
    /// The amount by which it is too low for the call; `None` if it is not one of tokens or cost.
    pub shortage: Option<Shortage>,
}

/// The limit that stopped a call, and its account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// The kind of the limit.
    pub limit: LimitKind,
    /// The owner of the account; `None` if the account has no name.
    pub owner: Option<LimitOwner>,
    /// The value of the limit, in tokens, pico-dollars or calls.
    pub most: u64,
}

enum Fit {
    Now { held: Amounts, output: u64 },
    Later,
    Never(LimitKind),
}

impl Account {
    /// Creates the account of a run.
    pub fn root(limits: &Limits) -> Self {
        let books = Ledger {
            entries: Mutex::default(),
            changed: Notify::new(),
        };
        Self::open(&Arc::new(books), None, limits)
    }

    /// Creates an account below this one.
    pub fn child(&self, limits: &Limits) -> Self {
        Self::open(&self.books, Some(self), limits)
    }

    /// Divides the tokens, cost and calls that are left into `parts` equal parts, after a share is kept back. A part has
    /// at least one call, if any is left.
    ///
    /// ```
    /// use agenthost_core::limits::ledger::Account;
    /// use agenthost_core::limits::{Limits, Percent};
    ///
    /// let task = Account::root(&Limits { tokens: Some(1_000), calls: Some(3), ..Limits::none() });
    /// let part = task.divided(Percent::at_most(20), 4);
    /// assert_eq!((part.tokens, part.calls, part.cost), (Some(200), Some(1), None));
    /// ```
    pub fn divided(&self, kept: Percent, parts: u32) -> Limits {
        let parts = u64::from(parts.max(1));
        let rest = |left: u64| left.saturating_sub(kept.of(left));
        let (tokens, cost, calls) = self.left();
        Limits {
            tokens: tokens.map(|left| rest(left) / parts),
            cost: cost.map(|left| Usd::from_pico(rest(left.pico()) / parts)),
            calls: calls.map(|left| (rest(left) / parts).max(left.min(1))),
            ..Limits::none()
        }
    }

    /// Names the owner of this account, for the failures of tasks that its limits stop.
    #[must_use]
    pub fn named(self, owner: LimitOwner) -> Self {
        if let Some(entry) = self.books.lock().get_mut(self.index) {
            entry.owner = Some(owner);
        }
        self
    }

    /// Returns the limit that stopped the last refused call, of this account or one below it, if it is of this kind.
    pub fn stopped(&self, limit: LimitKind) -> Option<Stopped> {
        let entries = self.books.lock();
        let stopped = entries.get(self.index)?.stopped.clone();
        stopped.filter(|stopped| stopped.limit == limit)
    }

    /// Returns the owner of the limit outside the accounts that refused a call, if [`Account::exhausted`] is about it.
    pub fn refused_by(&self) -> Option<LimitOwner> {
        let entries = self.books.lock();
        let root = entries.get(entries.root(self.index))?;
        let (_, owner) = root.refused.as_ref().filter(|_| root.used_up().is_none())?;
        owner.clone()
    }

    /// Notes that a limit outside the accounts refused a call of this account, and will refuse every other one.
    pub fn refuse(&self, stopped: Stopped) {
        let mut entries = self.books.lock();
        let root = entries.root(self.index);
        if let Some(entry) = entries.get_mut(root) {
            let refused = || (stopped.limit, stopped.owner.clone());
            entry.refused.get_or_insert_with(refused);
        }
        entries.each_up(self.index, |entry| entry.stopped = Some(stopped.clone()));
    }

    fn open(books: &Arc<Ledger>, parent: Option<&Self>, limits: &Limits) -> Self {
        let limits = Caps {
            tokens: limits.tokens,
            cost: limits.cost.map(Usd::pico),
            calls: limits.calls,
            fuel: limits.fuel,
            tasks: limits.tasks,
        };
        let index = books.lock().open(AccountEntry {
            parent: parent.map(|parent| parent.index),
            limits,
            ..AccountEntry::default()
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

    /// Returns whether this account or one above it has a cost limit, so that a model without a price cannot be called.
    pub fn has_cost_limit(&self) -> bool {
        self.books
            .lock()
            .chain(self.index)
            .any(|entry| entry.limits.cost.is_some())
    }

    /// Reserves the worst case of a call, after clamping its output to the amount that can still be spent. Waits while
    /// the call would fit once others have settled; dropping the future gives up the wait.
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

    /// Like [`Account::reserve`], but returns `None` if the call would have to wait.
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
                    state: ReservationState::Held,
                }))
            }
            Fit::Later => Ok(None),
            Fit::Never(limit) => {
                let root = entries.root(self.index);
                if let Fit::Never(limit) = entries.fit(root, want)
                    && let Some(entry) = entries.get_mut(root)
                {
                    entry.refused.get_or_insert((limit, None));
                }
                entries.stop(self.index, limit);
                let shortage = entries.shortage(self.index, want, limit);
                Err(Exhausted { limit, shortage })
            }
        }
    }

    /// Returns the limit of the account at the root that is used up, or of which so little is left that a call or a task
    /// was refused although everything else had settled.
    pub fn exhausted(&self) -> Option<LimitKind> {
        let entries = self.books.lock();
        let root = entries.get(entries.root(self.index))?;
        root.used_up().or(root.refused.as_ref().map(|(limit, _)| *limit))
    }

    /// Books earlier usage that is known from elsewhere, for a call that is not repeated. No limit prevents it.
    pub fn restore(&self, used: &Used, calls: u64) {
        self.book_earlier(used, calls, |_, _| ());
    }

    /// As [`Account::restore`], for requests of an earlier execution that got no reply. They count in full, but not
    /// against the share of the task that made them: the present execution divides what its limits leave.
    pub fn restore_lost(&self, used: &Used, calls: u64) {
        self.book_earlier(used, calls, |entry, amounts| {
            if matches!(entry.owner, Some(LimitOwner::SubTasks(_) | LimitOwner::Share(_))) {
                let limits = &mut entry.limits;
                limits.tokens = limits.tokens.map(|most| most.saturating_add(amounts.tokens));
                limits.cost = limits.cost.map(|most| most.saturating_add(amounts.cost));
            }
        });
    }

    fn book_earlier(&self, used: &Used, calls: u64, with: impl Fn(&mut AccountEntry, Amounts)) {
        let amounts = Amounts {
            tokens: used.input.saturating_add(used.output),
            cost: used.cost.map_or(0, Usd::pico),
            calls,
            ..Amounts::default()
        };
        let mut entries = self.books.lock();
        entries.each_up(self.index, |entry| {
            entry.total = entry.total.plus(amounts);
            with(entry, amounts);
        });
        if let Some(entry) = entries.get_mut(self.index) {
            for _ in 0..calls {
                entry.own.called();
            }
            entry.own.charge(used);
        }
    }

    /// Books the earlier usage of a task below this one that is not run again, and a number of sub-tasks.
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

    /// The usage of this account itself, without the accounts below it.
    pub fn spent(&self) -> Spent {
        self.books
            .lock()
            .get(self.index)
            .map(|entry| entry.own.clone())
            .unwrap_or_default()
    }

    /// The tokens, cost and calls that are neither spent nor reserved, here or above; `None` for an amount without a
    /// limit.
    pub fn left(&self) -> (Option<u64>, Option<Usd>, Option<u64>) {
        let entries = self.books.lock();
        let least = |left: fn(&AccountEntry) -> Option<u64>| entries.chain(self.index).filter_map(left).min();
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

    /// The tokens reserved by calls in flight, here and below, and the number of calls that wait to reserve.
    pub fn in_flight(&self) -> (u64, u64) {
        self.books
            .lock()
            .get(self.index)
            .map_or((0, 0), |entry| (entry.reserved.tokens, entry.waiting))
    }
}

impl Reservation {
    /// The output tokens that the call may ask for.
    pub fn output(&self) -> u64 {
        self.output
    }

    /// The most that the request can use, which is the amount reserved for it.
    pub fn worst(&self) -> Used {
        Used {
            input: self.input,
            cached_input: 0,
            output: self.output,
            cost: self.priced.then(|| Usd::from_pico(self.held.cost)),
        }
    }

    /// Notes that the request is on its way. From now on it is counted as a call, even if the reservation is dropped
    /// before a reply arrives.
    pub fn sent(&mut self) {
        if self.state != ReservationState::Held {
            return;
        }
        self.state = ReservationState::Sent;
        // Zero for a further request of a call.
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

    /// Replaces the reserved amount by the actual usage. Usage beyond the reservation is charged all the same. Returns
    /// the limit, of this account or one above it, that the request passed with it.
    pub fn settle(mut self, used: Used) -> Option<LimitKind> {
        self.charge(used)
        // `self` is dropped here, which releases the reservation and wakes the waiting calls.
    }

    fn charge(&mut self, used: Used) -> Option<LimitKind> {
        // A request that is settled has been sent.
        self.sent();
        self.state = ReservationState::Settled;
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
        // Within its reservation, a request passes no limit.
        let beyond = (amounts.tokens > self.held.tokens, amounts.cost > self.held.cost);
        let limit = entries.chain(account.index).find_map(|entry| {
            let passed = |beyond, cap: Option<u64>, total| beyond && cap.is_some_and(|cap| total > cap);
            if passed(beyond.0, entry.limits.tokens, entry.total.tokens) {
                Some(LimitKind::Tokens)
            } else {
                passed(beyond.1, entry.limits.cost, entry.total.cost).then_some(LimitKind::Cost)
            }
        })?;
        entries.stop(account.index, limit);
        Some(limit)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.state == ReservationState::Sent {
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

/// Counts a call as waiting while it exists.
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
