//! The arithmetic of the accounts, under their lock.

use std::sync::{MutexGuard, PoisonError};

use super::{AccountEntry, AccountPages, Amounts, Caps, Fit, Ledger, Stopped, Want};
use crate::limits::{LimitKind, Shortage, Usd};

pub(super) struct Entries<'a>(MutexGuard<'a, AccountPages>);

impl Ledger {
    pub(super) fn lock(&self) -> Entries<'_> {
        // A panic while the lock is held cannot leave a sum half done: every change is a single assignment.
        Entries(self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Entries<'_> {
    /// Stores `entry` in a free place and returns its index.
    pub(super) fn open(&mut self, entry: AccountEntry) -> usize {
        match self.0.free.pop() {
            Some(index) => {
                if let Some(place) = self.0.all.get_mut(index) {
                    *place = entry;
                }
                index
            }
            None => {
                self.0.all.push(entry);
                self.0.all.len() - 1
            }
        }
    }

    /// Frees the place of an entry that has no more handles.
    pub(super) fn close(&mut self, index: usize) {
        #[cfg(feature = "failpoints")]
        if let Some(entry) = self.get(index).filter(|entry| !entry.is_idle()) {
            failpoint!(leak format!("{:?} reserved, {} live", entry.reserved, entry.live));
        }
        self.0.free.push(index);
    }

    pub(super) fn get(&self, index: usize) -> Option<&AccountEntry> {
        self.0.all.get(index)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut AccountEntry> {
        self.0.all.get_mut(index)
    }

    /// Iterates over the entry and all entries above it.
    pub(super) fn chain(&self, index: usize) -> impl Iterator<Item = &AccountEntry> {
        std::iter::successors(self.get(index), |entry| {
            entry.parent.and_then(|parent| self.get(parent))
        })
    }

    /// Returns the index of the account at the root.
    pub(super) fn root(&self, index: usize) -> usize {
        let up = |index: &usize| self.get(*index)?.parent;
        std::iter::successors(Some(index), up).last().unwrap_or(index)
    }

    pub(super) fn each_up(&mut self, index: usize, mut change: impl FnMut(&mut AccountEntry)) {
        let mut next = Some(index);
        while let Some(entry) = next.and_then(|index| self.get_mut(index)) {
            change(entry);
            next = entry.parent;
        }
    }

    /// Notes that the tightest limit of this kind, of the account or of one above it, refused a call.
    pub(super) fn stop(&mut self, index: usize, limit: LimitKind) {
        let left = |entry: &AccountEntry| {
            let (most, spent) = match limit {
                LimitKind::Tokens => (entry.limits.tokens, entry.total.tokens),
                LimitKind::Cost => (entry.limits.cost, entry.total.cost),
                LimitKind::Calls => (entry.limits.calls, entry.total.calls),
                _ => return None,
            };
            most.map(|most| (most.saturating_sub(spent), most, entry.owner.clone()))
        };
        // The account itself wins a tie: it is the first.
        let tightest = self.chain(index).filter_map(left).min_by_key(|(left, ..)| *left);
        let stopped = tightest.map(|(_, most, owner)| Stopped { limit, owner, most });
        self.each_up(index, |entry| entry.stopped.clone_from(&stopped));
    }

    /// Returns the amount by which a limit of this kind, of the account or of one above it, is too low for a call.
    pub(super) fn shortage(&self, index: usize, want: &Want<'_>, limit: LimitKind) -> Option<Shortage> {
        // The limit with the least left, and that rest.
        let tightest = |cap: fn(&Caps) -> Option<u64>, spent: fn(&Amounts) -> u64| {
            let caps = self.chain(index).filter_map(|entry| {
                let cap = cap(&entry.limits)?;
                Some((cap.saturating_sub(spent(&entry.total)), cap))
            });
            caps.min_by_key(|(left, _)| *left)
        };
        let tokens = tightest(|caps| caps.tokens, |spent| spent.tokens);
        let output = want.output.max(1);
        match limit {
            LimitKind::Tokens => tokens.map(|(left, limit)| Shortage::Tokens {
                needed: want.input.saturating_add(output),
                left,
                limit,
            }),
            LimitKind::Cost => {
                let (left, limit) = tightest(|caps| caps.cost, |spent| spent.cost)?;
                // The limit of tokens shortens the reply.
                let output = tokens.map_or(output, |(left, _)| output.min(left.saturating_sub(want.input)));
                Some(Shortage::Cost {
                    needed: want.cost?(want.input, output),
                    left: Usd::from_pico(left),
                    limit: Usd::from_pico(limit),
                })
            }
            _ => None,
        }
    }

    /// Computes the most output that every limit on the way up would allow once all reservations are released, and
    /// whether it fits already.
    pub(super) fn fit(&self, index: usize, want: &Want<'_>) -> Fit {
        let room = |cap: fn(&Caps) -> Option<u64>, spent: fn(&Amounts) -> u64| {
            self.chain(index)
                .filter_map(|entry| Some(cap(&entry.limits)?.saturating_sub(spent(&entry.total))))
                .min()
                .unwrap_or(u64::MAX)
        };
        let calls = u64::from(want.call);
        // A resumed run may have made more calls than its limits allow now. Even a further request of one of them is refused.
        let is_passed = |entry: &AccountEntry| entry.limits.calls.is_some_and(|most| entry.total.calls > most);
        if room(|caps| caps.calls, |spent| spent.calls) < calls || self.chain(index).any(is_passed) {
            return Fit::Never(LimitKind::Calls);
        }
        let tokens = room(|caps| caps.tokens, |spent| spent.tokens);
        let money = room(|caps| caps.cost, |spent| spent.cost);
        let output = match want.output_within(tokens, Usd::from_pico(money)) {
            Ok(output) => output,
            Err(limit) => return Fit::Never(limit),
        };
        let held = Amounts {
            tokens: want.input.saturating_add(output),
            cost: want.worst_cost(output).pico(),
            calls,
            ..Amounts::default()
        };
        let fits = |entry: &AccountEntry| {
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

#[cfg(feature = "failpoints")]
impl AccountEntry {
    /// Returns whether nothing is reserved, no call waits and no task is live.
    fn is_idle(&self) -> bool {
        self.reserved == Amounts::default() && self.waiting == 0 && self.live == 0
    }
}

impl Amounts {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            cost: self.cost.saturating_add(other.cost),
            calls: self.calls.saturating_add(other.calls),
            fuel: self.fuel.saturating_add(other.fuel),
            tasks: self.tasks.saturating_add(other.tasks),
        }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_sub(other.tokens),
            cost: self.cost.saturating_sub(other.cost),
            calls: self.calls.saturating_sub(other.calls),
            fuel: self.fuel.saturating_sub(other.fuel),
            tasks: self.tasks.saturating_sub(other.tasks),
        }
    }
}
