//! How a guest gets fuel: by the burst.
//!
//! A guest computes in bursts, between which it waits for a reply. Fuel is leased from the task's account when a burst
//! begins and what is left is given back when it ends, so that a guest that waits holds none, and a thousand of them can
//! share what one limit allows without ever passing it. A store's fuel cannot be changed while its guest is in the middle
//! of a burst, so a burst ends at the lease.
//!
//! A guest with directories also waits in the middle of a call, for the disk. That is no end of a burst: the store is out
//! of reach until the call returns, so neither could what is left be read nor a new lease be taken over. It keeps its
//! lease for as long as the disk takes.

use agenthost_core::failpoint;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use wasmtime::{AsContextMut, StoreContextMut};

use super::Capabilities;
use super::store::StoreData;
use super::turns::FuelSource;

/// No lease is waiting to be taken over.
const NONE: u64 = u64::MAX;

/// What passes between the driver, which leases, and the guest's event loop, which can reach the store.
#[derive(Clone)]
pub(super) struct FuelTank(Arc<FuelGauge>);

struct FuelGauge {
    /// A new lease for the store, or [`NONE`].
    lease: AtomicU64,
    /// The store's fuel when the event loop was last polled.
    left: AtomicU64,
    /// Whether the event loop was polled since this was last cleared.
    polled: AtomicBool,
    /// How often the guest let others run while it had more to compute.
    yields: Arc<AtomicU64>,
}

impl FuelTank {
    pub(super) fn new() -> Self {
        Self(Arc::new(FuelGauge {
            lease: AtomicU64::new(NONE),
            left: AtomicU64::new(0),
            polled: AtomicBool::new(false),
            yields: Arc::default(),
        }))
    }

    /// How often the guest let others run while it had more to compute.
    pub(super) fn yields(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0.yields)
    }

    /// Puts a new lease into the store, if there is one. Called whenever the guest's event loop is polled: before a burst,
    /// which is when there is a lease, and after it, which is when what is left is noted.
    pub(super) fn poll(&self, mut store: impl AsContextMut<Data = StoreData>) -> wasmtime::Result<()> {
        let mut store: StoreContextMut<'_, StoreData> = store.as_context_mut();
        let lease = self.0.lease.swap(NONE, Ordering::AcqRel);
        if lease != NONE {
            store.set_fuel(lease)?;
            store.data_mut().charges.refueled(lease);
        }
        self.0.left.store(store.get_fuel()?, Ordering::Release);
        self.0.polled.store(true, Ordering::Release);
        Ok(())
    }
}

/// The driver's side: leases and settles.
pub(super) struct FuelMeter {
    tank: FuelTank,
    capabilities: Arc<dyn Capabilities>,
    files: bool,
    leased: Option<u64>,
    used: u64,
}

impl FuelSource for FuelMeter {
    /// Waits for a lease, where others hold what there is.
    async fn begin(&mut self) {
        failpoint!("call.fuel");
        let lease = self.capabilities.lease_fuel().await.min(NONE - 1);
        self.leased = Some(lease);
        failpoint!("call.leased");
        self.tank.0.lease.store(lease, Ordering::Release);
    }

    fn end(&mut self) {
        failpoint!("settle.fuel");
        let left = self.tank.0.left.load(Ordering::Acquire);
        self.settle(left);
    }

    fn yielded(&self) {
        self.tank.0.yields.fetch_add(1, Ordering::Relaxed);
    }

    fn can_wait_in_calls(&self) -> bool {
        self.tank.0.polled.store(false, Ordering::Release);
        self.files
    }

    fn waits_in_call(&self) -> bool {
        !self.tank.0.polled.load(Ordering::Acquire)
    }
}

impl FuelMeter {
    /// `files` says whether the guest can wait for the disk.
    pub(super) fn new(tank: FuelTank, capabilities: Arc<dyn Capabilities>, files: bool) -> Self {
        Self {
            tank,
            capabilities,
            files,
            leased: None,
            used: 0,
        }
    }

    /// After the last burst, with what the store has left; gives all that was used.
    pub(super) fn finish(&mut self, left: u64) -> u64 {
        // A lease that the store never took over is wholly left.
        let untouched = self.tank.0.lease.swap(NONE, Ordering::AcqRel);
        self.settle(if untouched == NONE { left } else { untouched });
        self.used
    }

    fn settle(&mut self, left: u64) {
        if let Some(leased) = self.leased.take() {
            let used = leased.saturating_sub(left);
            self.used = self.used.saturating_add(used);
            self.capabilities.settle_fuel(leased, used);
        }
    }
}

impl Drop for FuelMeter {
    /// A task that is dropped in the middle gives its lease back as used: nobody can tell any more.
    fn drop(&mut self) {
        self.settle(0);
    }
}
