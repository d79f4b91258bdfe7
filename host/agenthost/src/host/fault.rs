//! Faults of the host: a panic becomes the failure of one task.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;

use agenthost_core::task::{Failure, FailureClass, Outcome};

/// The message of a task that a fault of the host ended.
pub(super) const LOST: &str = "the host failed while it ran the task";

/// Runs `work`. If it panics, returns a failure of class `host` as the error.
pub(super) async fn caught<T>(work: impl Future<Output = T>) -> std::result::Result<T, Outcome> {
    let lost = |_| Outcome::Failure(Failure::new(FailureClass::Host, LOST));
    AssertUnwindSafe(work).catch_unwind().await.map_err(lost)
}
