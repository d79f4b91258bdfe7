//! The part of the ledger that is not about model calls: fuel leases and sub-tasks.

use super::{Account, AccountEntry, Amounts, Exhausted};
use crate::limits::LimitKind;

/// The smallest fuel lease of a task that shares a fuel limit, if that much is left: about 0.1 s of computing.
pub const FUEL_SHARE: u64 = 1_000_000_000;

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

impl Account {
    /// Leases fuel for a guest that is about to compute; [`Account::settle_fuel`] returns the unused part as soon as
    /// the guest waits again. A task that shares no fuel limit with another live task gets all that is left. Any other
    /// task gets half of it, but at least [`FUEL_SHARE`] if there is that much. Waits while less than that is left and
    /// others hold leases; returns 0 when all fuel is used up.
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

    pub(super) fn try_lease_fuel(&self) -> Option<u64> {
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

    /// Returns a lease of `leased` units, of which `used` were used.
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
        if let Some(entry) = entries.get_mut(self.index) {
            entry.own.fuel = entry.own.fuel.saturating_add(used);
        }
        drop(entries);
        self.books.changed.notify_waiters();
    }

    /// Counts the task of this account as live until the guard is dropped.
    pub fn live(&self) -> Live {
        self.books.lock().each_up(self.index, |entry| entry.live += 1);
        Live(self.clone())
    }

    /// The fuel that is neither used nor leased, here or above; `None` if no limit applies.
    pub fn fuel_left(&self) -> Option<u64> {
        let left = |entry: &AccountEntry| {
            Some(
                entry
                    .limits
                    .fuel?
                    .saturating_sub(entry.total.fuel.saturating_add(entry.reserved.fuel)),
            )
        };
        self.books.lock().chain(self.index).filter_map(left).min()
    }

    /// Returns the number of sub-tasks that can still be started, here or above; `None` if no limit applies.
    pub fn tasks_left(&self) -> Option<u64> {
        let left = |entry: &AccountEntry| Some(entry.limits.tasks?.saturating_sub(entry.total.tasks));
        self.books.lock().chain(self.index).filter_map(left).min()
    }

    /// Charges one sub-task to this account and all above it.
    pub fn start_task(&self) -> Result<(), Exhausted> {
        let one = Amounts {
            tasks: 1,
            ..Amounts::default()
        };
        let mut entries = self.books.lock();
        let full = |entry: &AccountEntry| entry.limits.tasks.is_some_and(|most| entry.total.tasks >= most);
        if entries.chain(self.index).any(full) {
            let root = entries.root(self.index);
            if let Some(entry) = entries.get_mut(root).filter(|entry| full(entry)) {
                entry.refused.get_or_insert((LimitKind::Tasks, None));
            }
            return Err(Exhausted {
                limit: LimitKind::Tasks,
                shortage: None,
            });
        }
        entries.each_up(self.index, |entry| entry.total = entry.total.plus(one));
        Ok(())
    }
}
