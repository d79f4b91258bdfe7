//! The gate's time.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Milliseconds since 1970, measured with tokio's clock, so that a test can pause them and a step of the system clock
/// has no effect.
#[derive(Debug)]
pub(super) struct Clock {
    base: u64,
    start: Instant,
}

impl Clock {
    pub(super) fn new() -> Self {
        let base = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            base: millis(base),
            start: Instant::now(),
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.base.saturating_add(millis(self.start.elapsed()))
    }

    pub(super) fn of(&self, at: Instant) -> u64 {
        self.base
            .saturating_add(millis(at.saturating_duration_since(self.start)))
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
