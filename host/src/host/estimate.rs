//! How many input tokens a request will be, before any provider has counted them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many input tokens a text will be, for each model: starts at a third of its bytes and learns from replies.
#[derive(Default)]
pub(super) struct Estimates(Mutex<HashMap<String, f64>>);

/// Tokens around a request that stand in no text of it: markers of roles, and what a vendor adds for a schema.
const TOKENS_PER_REQUEST: u64 = 64;
const TOKENS_PER_MESSAGE: u64 = 8;
/// Tokens per byte before a reply was seen: English has about 0.25, most other languages and code no more than this.
const FIRST_RATIO: f64 = 1.0 / 3.0;
/// What is added to a ratio that was seen, as the next text may be denser.
const MARGIN: f64 = 1.1;
/// Shorter requests say little about a ratio, being mostly overhead.
const MIN_LESSON_BYTES: u64 = 512;

impl Estimates {
    /// An estimate that errs high; with `strict`, an upper bound, as no tokenizer makes more tokens than bytes.
    pub(super) fn input(&self, model: &str, bytes: u64, messages: u64, strict: bool) -> u64 {
        let overhead = TOKENS_PER_REQUEST.saturating_add(TOKENS_PER_MESSAGE.saturating_mul(messages));
        if strict {
            return bytes.saturating_add(overhead);
        }
        let ratio = self.lock().get(model).copied().unwrap_or(FIRST_RATIO);
        overhead.saturating_add((bytes as f64 * ratio).ceil() as u64)
    }

    /// Takes a reply's count into account: upwards at once, downwards slowly.
    pub(super) fn learn(&self, model: &str, bytes: u64, messages: u64, counted: u64) {
        if bytes < MIN_LESSON_BYTES {
            return;
        }
        let text = counted.saturating_sub(TOKENS_PER_MESSAGE.saturating_mul(messages));
        let seen = (text as f64 / bytes as f64 * MARGIN).clamp(0.05, 1.0);
        let mut ratios = self.lock();
        let ratio = ratios.entry(model.to_owned()).or_insert(FIRST_RATIO);
        *ratio = if seen > *ratio {
            seen
        } else {
            *ratio + (seen - *ratio) / 8.0
        };
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, f64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_err_high_and_learn() {
        let estimates = Estimates::default();
        assert_eq!(estimates.input("m", 3_000, 1, false), 1_072);
        assert_eq!(estimates.input("m", 3_000, 1, true), 3_072);
        // A dense language: three bytes, two tokens. The very next estimate is above what was counted.
        estimates.learn("m", 3_000, 1, 2_000);
        assert!(estimates.input("m", 3_000, 1, false) > 2_100);
        assert_eq!(estimates.input("other", 3_000, 1, false), 1_072);
        // English for a while brings it down again, but never below what is seen.
        for _ in 0..100 {
            estimates.learn("m", 3_000, 1, 750);
        }
        let settled = estimates.input("m", 3_000, 1, false);
        assert!((750..1_072).contains(&settled), "{settled}");
        estimates.learn("m", 100, 1, 90);
        assert_eq!(estimates.input("m", 3_000, 1, false), settled);
    }
}
