//! The linear memory that all tasks of a run hold together.

use std::sync::atomic::{AtomicU64, Ordering};

/// A cap on memory that is held at the same time, and what is held of it.
#[derive(Debug)]
pub struct RunMemory {
    most: u64,
    held: AtomicU64,
}

impl RunMemory {
    /// A cap of `most` bytes; none holds anything back.
    pub fn new(most: Option<u64>) -> Self {
        Self {
            most: most.unwrap_or(u64::MAX),
            held: AtomicU64::new(0),
        }
    }

    /// Holds `bytes` more, if the cap allows it.
    pub(super) fn hold(&self, bytes: u64) -> bool {
        let more = |held: u64| held.checked_add(bytes).filter(|held| *held <= self.most);
        self.held
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .is_ok()
    }

    pub(super) fn give_back(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::AcqRel);
    }
}
