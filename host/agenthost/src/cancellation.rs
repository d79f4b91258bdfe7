//! The signal that stops work from outside.

use tokio_util::sync::CancellationToken;

/// A signal that stops work, for example a batch. Clones are cheap and refer to the same signal.
///
/// ```
/// use agenthost::Cancellation;
///
/// let stop = Cancellation::new();
/// let elsewhere = stop.clone(); // for a signal handler
/// elsewhere.cancel();
/// assert!(stop.is_cancelled());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Cancellation(CancellationToken);

impl Cancellation {
    /// Creates a signal that has not been given.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the signal. It stays given.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// Returns whether the signal has been given.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until the signal is given.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        &self.0
    }
}
