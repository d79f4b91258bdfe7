//! The fuel that a guest pays for work that it makes the host do.
//!
//! Compiled code pays for itself: one unit of fuel per instruction, and one per byte for bulk operations. Everything
//! that runs outside of it (host functions, the built-ins of the component model, repeated callbacks) would be free,
//! and a guest that loops over it would neither use up its fuel nor yield. So the host charges for each crossing in
//! either direction, in proportion to the bytes and the work, at the prices in [`price`].
//!
//! **How it is charged.** The engine calls [`ChargeHook`] at every crossing of the boundary. Host functions add their
//! cost to the amount owed, and the hook takes it out of the store's fuel before the guest continues. A guest that
//! cannot pay traps like one that computes without fuel.
//!
//! **How a guest is stopped.** `Store::set_fuel` restarts the engine's own yield interval, so a guest that calls the host
//! repeatedly would never reach a yield of the engine. Therefore the hook itself yields once a guest has used [`SLICE`]
//! since its last yield. Between two yields, a guest uses at most two slices and one host call. At each yield the driver
//! ([`turns`](super::turns)) checks the deadline, and lets other tasks run after a millisecond.
//!
//! Prices depend only on what the guest did, never on the clock: a replay uses the same fuel and yields at the same
//! points.
//!
//! Left out: the time that a host function waits, because a waiting guest does not compute.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use wasmtime::{AsContext, AsContextMut, CallHook, CallHookHandler, StoreContextMut, Trap};

use super::store::StoreData;
use super::unseen::UnseenWork;
use agenthost_core::weaken::{self, Defence};

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
    owed: u64,
    /// Whether a function of the host has charged for the current crossing.
    priced: bool,
    /// The store's fuel at the last yield.
    since: u64,
    /// The store's fuel when the engine's interval began.
    interval: u64,
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

    fn slice_is_over(&self, left: u64) -> bool {
        self.since.saturating_sub(left) >= SLICE
    }

    /// Notes that the guest has yielded and has `fuel` now, in a new interval of the engine.
    pub(super) fn refueled(&mut self, fuel: u64) {
        self.since = fuel;
        self.interval = fuel;
    }

    fn crossing_begins(&mut self) {
        self.priced = false;
        self.yields_before = self.yields.load(Ordering::Relaxed);
    }

    /// Returns whether the crossing that ends was a yield of the engine.
    fn was_yield(&self, left: u64) -> bool {
        !self.priced
            && self.interval.saturating_sub(left) >= SLICE
            && self.yields.load(Ordering::Relaxed) != self.yields_before
    }

    /// Returns the price of the work that a built-in may have done on `held` bytes of memory.
    fn unseen(&self, held: u64) -> u64 {
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

/// Takes `fuel` from the store immediately, so that the host does no work that the guest cannot pay for.
///
/// # Errors
///
/// Returns [`Trap::OutOfFuel`], and leaves no fuel, if the guest has less than `fuel`.
pub(super) fn charge(mut store: impl AsContextMut<Data = StoreData>, fuel: u64) -> wasmtime::Result<()> {
    let mut store = store.as_context_mut();
    store.data_mut().charges.priced = true;
    take(&mut store, fuel)
}

fn take(store: &mut StoreContextMut<'_, StoreData>, fuel: u64) -> wasmtime::Result<()> {
    if weaken::off(Defence::HostCallFuel) {
        return Ok(());
    }
    let left = store.as_context().get_fuel()?;
    store.set_fuel(left.saturating_sub(fuel))?;
    store.data_mut().charges.interval = left.saturating_sub(fuel);
    match left < fuel {
        true => Err(Trap::OutOfFuel.into()),
        false => Ok(()),
    }
}

/// Charges for crossings of the boundary, and makes a guest yield once it has used its slice.
pub(super) struct ChargeHook;

#[async_trait::async_trait]
impl CallHookHandler<StoreData> for ChargeHook {
    async fn handle_call_event(
        &self,
        mut store: StoreContextMut<'_, StoreData>,
        event: CallHook,
    ) -> wasmtime::Result<()> {
        match event {
            CallHook::CallingWasm => take(&mut store, price::CROSSING),
            CallHook::ReturningFromWasm => Ok(()),
            CallHook::CallingHost => {
                store.data_mut().charges.crossing_begins();
                Ok(())
            }
            CallHook::ReturningFromHost => {
                let left = store.as_context().get_fuel()?;
                let held = store.data().held.memory();
                let charges = &mut store.data_mut().charges;
                if charges.was_yield(left) {
                    charges.refueled(left);
                    return Ok(());
                }
                let owed = std::mem::take(&mut charges.owed)
                    .saturating_add(price::CROSSING)
                    .saturating_add(charges.unseen(held));
                take(&mut store, owed)?;
                let left = store.as_context().get_fuel()?;
                if store.data().charges.slice_is_over(left) {
                    yield_now().await;
                    store.data_mut().charges.since = left;
                }
                Ok(())
            }
        }
    }
}

/// Yields to other tasks. Wakes immediately, so that the driver knows that the guest is computing and not idle;
/// `tokio::task::yield_now` wakes later.
async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
