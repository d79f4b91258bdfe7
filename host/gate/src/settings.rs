//! The settings of a gate, and their defaults.

use std::path::PathBuf;

use agenthost_core::llm::{Caching, Counting};

/// The concurrency limit at the start, unless [`Settings::initial_concurrency`] sets another.
pub const INITIAL_CONCURRENCY: u32 = 4;
/// The highest concurrency limit of a service that reports no rate limits, unless [`Settings::max_concurrency`] sets
/// another.
pub const MAX_CONCURRENCY: u32 = 256;
/// The default of [`Settings::retries`].
pub const RETRIES: u32 = 4;

/// The settings of a gate.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Requests per minute to all models together, if the operator set a limit.
    pub requests_per_minute: Option<u64>,
    /// Tokens per minute of all models together, if the operator set a limit.
    pub tokens_per_minute: Option<u64>,
    /// The maximum number of requests in flight to one model; `None` for [`MAX_CONCURRENCY`], or what the rate limits
    /// allow that the service reports.
    pub max_concurrency: Option<u32>,
    /// The initial concurrency limit of one model, below which only rejections lower it; `None` for
    /// [`INITIAL_CONCURRENCY`], which a queue lowers as well.
    pub initial_concurrency: Option<u32>,
    /// The maximum number of attempts after the first.
    pub retries: u32,
    /// The way in which the service counts tokens.
    pub counting: Counting,
    /// The way in which the service caches prompt prefixes.
    pub caching: Caching,
    /// `true` if one of many requests with a common prefix goes ahead.
    pub warm_prefix: bool,
    /// The file in which processes that use the same key share their state; `None` to keep the state in this process.
    pub share: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            requests_per_minute: None,
            tokens_per_minute: None,
            max_concurrency: None,
            initial_concurrency: None,
            retries: RETRIES,
            counting: Counting::AsUsed,
            caching: Caching::None,
            warm_prefix: true,
            share: None,
        }
    }
}

impl Settings {
    /// Returns the highest concurrency limit of one model, where `usual` is useful.
    pub(super) fn highest_concurrency(&self, usual: u32) -> u32 {
        self.max_concurrency
            .unwrap_or_else(|| usual.max(self.initial_concurrency.unwrap_or(1)))
    }
}
