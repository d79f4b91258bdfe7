//! The fuel that a guest pays for work that it makes the host do.
//!
//! Compiled code pays for itself: one unit of fuel per instruction, and one per byte for bulk operations. Everything
//! that runs outside of it (host functions, the built-ins of the component model, repeated callbacks) would be free,
//! and a guest that loops over it would neither use up its fuel nor yield. So the host charges for each crossing in
//! either direction, in proportion to the bytes and the work, at the prices in [`price`](super::charges::price).
//!
//! **How it is charged.** The engine calls [`ChargeHook`] at every crossing of the boundary. Host functions add their
//! cost to the amount owed, and the hook takes it out of the store's fuel before the guest continues. A guest that
//! cannot pay traps like one that computes without fuel.
//!
//! **How a guest is stopped.** `Store::set_fuel` restarts the engine's own yield interval, so a guest that calls the host
//! repeatedly would never reach a yield of the engine. Therefore the hook itself yields once a guest has used
//! [`SLICE`](super::charges::SLICE) since its last yield. Between two yields, a guest uses at most two slices and one
//! host call. At each yield the driver ([`turns`](super::turns)) checks the deadline, and lets other tasks run after a
//! millisecond.
//!
//! Prices depend only on what the guest did, never on the clock: a replay uses the same fuel and yields at the same
//! points.
//!
//! Left out: the time that a host function waits, because a waiting guest does not compute.

use std::task::Poll;

use wasmtime::{AsContext, AsContextMut, CallHook, CallHookHandler, StoreContextMut, Trap};

use super::charges::price;
use super::store::StoreData;
use agenthost_core::weaken::{self, Defence};

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
