//! Abandons a load from another thread.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Abandons a load when it is dropped.
#[derive(Debug)]
pub struct Abandon(Stop);

/// The state of a load that can be abandoned, and the compiler to notify.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Mutex<StopState>>);

#[derive(Default)]
struct StopState {
    abandoned: bool,
    /// Called when the load is abandoned.
    watcher: Option<Box<dyn FnOnce() + Send>>,
}

impl fmt::Debug for StopState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopState")
            .field("abandoned", &self.abandoned)
            .finish_non_exhaustive()
    }
}

/// Returns a way to abandon a load from another thread: dropping the [`Abandon`] ends the compiler process that the
/// [`Stop`] was given to.
pub fn stop() -> (Abandon, Stop) {
    let stop = Stop::default();
    (Abandon(stop.clone()), stop)
}

impl Stop {
    fn state(&self) -> MutexGuard<'_, StopState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `watcher` when the load is abandoned, or immediately if it already was.
    pub(super) fn watch(&self, watcher: impl FnOnce() + Send + 'static) {
        let mut state = self.state();
        match state.abandoned {
            true => watcher(),
            false => state.watcher = Some(Box::new(watcher)),
        }
    }
}

impl Drop for Abandon {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.abandoned = true;
        if let Some(watcher) = state.watcher.take() {
            watcher();
        }
    }
}
