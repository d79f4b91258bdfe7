//! The prices of the work that a guest makes the host do, and what a guest owes.
//!
//! [`hostcalls`](super::hostcalls) takes the fuel.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::unseen::UnseenWork;

/// The fuel after which a computing guest yields to its driver. Fuel counts instructions. The slowest, a load that misses
/// every cache, takes about 100 ns, 500 times as long as the fastest, so a slice takes between 20 µs and 10 ms.
pub(super) const SLICE: u64 = 100_000;

/// Prices in units of fuel. A unit is about 0.2 ns of computing, so a price is five times the nanoseconds that the work
/// takes, rounded up.
pub(super) mod price {
    /// Any crossing of the boundary: saving registers, looking up the function, the hook itself (100 ns).
    pub(crate) const CROSSING: u64 = 500;
    /// A byte that is checked and copied between guest and host.
    pub(crate) const BYTE: u64 = 2;
    /// A random byte.
    pub(crate) const RANDOM_BYTE: u64 = 5;
    /// A handle that is looked up and polled.
    pub(crate) const POLLABLE: u64 = 1_000;
    /// A choice of shares: a lock and a list.
    pub(crate) const SHARES: u64 = 1_000;
    /// An operation on a document: a few calls of the system and two journal entries.
    pub(crate) const DOCUMENT: u64 = 250_000;
    /// A progress report: an event for each watcher.
    pub(crate) const PROGRESS: u64 = 10_000;
    /// A call of `remaining`: reads the accounts and writes a journal entry.
    pub(crate) const REMAINING: u64 = 25_000;
    /// A model call: the ledger, the gate and four journal entries.
    pub(crate) const CALL: u64 = 250_000;
    /// A byte of a model call's request: serialized and hashed for the journal, written to it, and sent.
    pub(crate) const CALL_BYTE: u64 = 20;
    /// A sub-task: a store, an instance, accounts and journal entries.
    pub(crate) const SUB_TASK: u64 = 500_000;
    /// An entry of a directory that is listed: read, copied and kept.
    pub(crate) const DIRECTORY_ENTRY: u64 = 1_000;
    /// Two bytes of memory that the guest holds, at a built-in that copies an unknown number of them.
    pub(crate) const TWO_HELD_BYTES: u64 = 1;
    /// A byte of memory that the guest holds, at a built-in that can also change the encoding of strings.
    pub(crate) const TRANSCODED_BYTE: u64 = 10;
}

/// The fuel that a guest owes, and its fuel at its last yield.
#[derive(Debug, Default)]
pub(super) struct Charges {
    /// The units of fuel that host functions have charged and the guest has not paid yet.
    pub(super) owed: u64,
    /// `true` if a function of the host has charged for the current crossing.
    pub(super) priced: bool,
    /// The store's fuel at the last yield.
    pub(super) since: u64,
    /// The store's fuel when the engine's interval began.
    pub(super) interval: u64,
    /// The number of yields, counted by the driver, now and when the crossing began.
    yields: Arc<AtomicU64>,
    yields_before: u64,
    /// The work that built-ins of this guest can do without the host seeing how much.
    unseen: UnseenWork,
}

impl Charges {
    pub(super) fn new(unseen: UnseenWork, yields: Arc<AtomicU64>) -> Self {
        Self {
            unseen,
            yields,
            ..Self::default()
        }
    }

    /// Charges `fuel`, which is taken when the guest continues.
    pub(super) fn add(&mut self, fuel: u64) {
        self.owed = self.owed.saturating_add(fuel);
        self.priced = true;
    }

    /// Charges for `bytes` that are copied between guest and host.
    pub(super) fn bytes(&mut self, bytes: u64) {
        self.add(bytes.saturating_mul(price::BYTE));
    }

    pub(super) fn slice_is_over(&self, left: u64) -> bool {
        self.since.saturating_sub(left) >= SLICE
    }

    /// Notes that the guest has yielded and has `fuel` now, in a new interval of the engine.
    pub(super) fn refueled(&mut self, fuel: u64) {
        self.since = fuel;
        self.interval = fuel;
    }

    pub(super) fn crossing_begins(&mut self) {
        self.priced = false;
        self.yields_before = self.yields.load(Ordering::Relaxed);
    }

    /// Returns whether the crossing that ends was a yield of the engine.
    pub(super) fn was_yield(&self, left: u64) -> bool {
        !self.priced
            && self.interval.saturating_sub(left) >= SLICE
            && self.yields.load(Ordering::Relaxed) != self.yields_before
    }

    /// Returns the price of the work that a built-in may have done on `held` bytes of memory.
    pub(super) fn unseen(&self, held: u64) -> u64 {
        match self.unseen {
            UnseenWork::Copies if !self.priced => held / 2 * price::TWO_HELD_BYTES,
            UnseenWork::Transcodes if !self.priced => held.saturating_mul(price::TRANSCODED_BYTE),
            UnseenWork::None | UnseenWork::Copies | UnseenWork::Transcodes => 0,
        }
    }
}

/// Returns the cost of work that has a fixed part and a part per byte.
pub(super) fn cost_of(fixed: u64, per_byte: u64, bytes: u64) -> u64 {
    fixed.saturating_add(per_byte.saturating_mul(bytes))
}
