//! The error for a request that could not be sent before its task's deadline.

use agenthost_core::run::WaitReason;

/// The error for a request that could be sent only after its task's deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} lets the next request through in {} s, after the task's deadline",
    limiter(*.met),
    .wait_ms.div_ceil(1_000)
)]
#[non_exhaustive]
pub struct TooLate {
    /// The reason for the wait.
    pub met: WaitReason,
    /// The duration of the wait, in milliseconds.
    pub wait_ms: u64,
}

/// The subject of the message of [`TooLate`].
fn limiter(met: WaitReason) -> &'static str {
    match met {
        WaitReason::Requests => "the rate limit of requests",
        WaitReason::Tokens => "the rate limit of tokens",
        WaitReason::InputTokens => "the rate limit of input tokens",
        WaitReason::OutputTokens => "the rate limit of output tokens",
        WaitReason::RetryAfter | WaitReason::Outage => "the pause after a failure of this model",
        _ => "other requests",
    }
}
