//! Leases fuel to a guest, one burst at a time.
//!
//! A guest computes in bursts, between which it waits for a reply. Fuel is leased from the task's account when a burst
//! begins, and the rest is returned when it ends. So a waiting guest holds no fuel, and a thousand guests can share one
//! limit without ever exceeding it. A store's fuel cannot be changed during a burst, so a burst ends when its lease is
//! used up.
//!
//! A guest with directories also waits for the disk in the middle of a call. That does not end a burst: the store is
//! out of reach until the call returns, so the host can neither read the remaining fuel nor add a new lease. The guest
//! keeps its lease until the disk replies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use wasmtime::{AsContextMut, StoreContextMut};

use super::call::Capabilities;
use super::store::StoreData;
use super::turns::{FuelSource, InCall};
use agenthost_core::failpoint;

/// The value of a lease if none is pending.
const NONE: u64 = u64::MAX;

/// The state shared by the driver, which leases, and the guest's event loop, which can reach the store.
#[derive(Clone)]
pub(super) struct FuelTank(Arc<FuelGauge>);

struct FuelGauge {
    /// A new lease for the store, or [`NONE`].
    lease: AtomicU64,
    /// The store's fuel when the event loop was last polled.
    left: AtomicU64,
    /// `true` if the event loop has been polled since this was last cleared.
    polled: AtomicBool,
    /// The number of times that the guest yielded with more to compute.
    yields: Arc<AtomicU64>,
    in_call: InCall,
}

impl FuelTank {
    pub(super) fn new() -> Self {
        Self(Arc::new(FuelGauge {
            lease: AtomicU64::new(NONE),
            left: AtomicU64::new(0),
            polled: AtomicBool::new(false),
            yields: Arc::default(),
            in_call: InCall::default(),
        }))
    }

    /// Returns the mark of a guest that waits in a call.
    pub(super) fn in_call(&self) -> InCall {
        self.0.in_call.clone()
    }

    /// Returns the number of times that the guest yielded with more to compute.
    pub(super) fn yields(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0.yields)
    }

    /// Puts a new lease into the store, if there is one, and notes the remaining fuel. Called whenever the guest's event loop is
    /// polled, before a burst and after it.
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

/// The driver's side, which leases and settles.
pub(super) struct FuelMeter {
    tank: FuelTank,
    capabilities: Arc<dyn Capabilities>,
    files: bool,
    leased: Option<u64>,
    used: u64,
}

impl FuelSource for FuelMeter {
    /// Takes a lease. Waits while other tasks hold all the fuel.
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

    fn is_in_call(&self) -> bool {
        self.tank.0.in_call.is_set()
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
    /// Creates a meter; `files` is whether the guest can wait for the disk.
    pub(super) fn new(tank: FuelTank, capabilities: Arc<dyn Capabilities>, files: bool) -> Self {
        Self {
            tank,
            capabilities,
            files,
            leased: None,
            used: 0,
        }
    }

    /// Settles the last burst, with `left` in the store, and returns the total fuel used.
    pub(super) fn finish(&mut self, left: u64) -> u64 {
        // A lease that the store never took over is entirely unused.
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
    /// Settles the lease of a task that is dropped during a burst as fully used, because the real usage is unknown.
    fn drop(&mut self) {
        self.settle(0);
    }
}
