//! One rate limit: a bucket that refills continuously, as both vendors implement it.
//!
//! The level is computed locally and kept within the bounds that a reply's headers imply: other clients of the same key
//! lower the real level faster than the local one, and estimates that were too high make the local one too low. A
//! request may take more than the level; the debt delays the requests that follow.

use serde::{Deserialize, Serialize};

use agenthost_core::llm::RateLimit;

/// The window of a rate limit unless its headers show another.
const MINUTE: f64 = 60_000.0;
/// The number of windows in which a burst that was cut to zero recovers completely.
const RECOVERY: f64 = 10.0;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Bucket {
    /// The amount that refills per window.
    limit: f64,
    /// The capacity.
    burst: f64,
    /// The capacity that `burst` grows back to after a rejection has cut it.
    whole: f64,
    /// The amount that refills per millisecond.
    per_ms: f64,
    level: f64,
    /// The time at which `level` was computed, in milliseconds.
    at: u64,
}

impl Bucket {
    /// Creates a limit that the operator set. Its capacity is a tenth of a minute's amount: a service that allows 60
    /// per minute may well reject the second request within a second.
    pub(super) fn of_operator(per_minute: u64, now: u64) -> Self {
        let limit = per_minute as f64;
        let burst = (limit / 10.0).max(1.0);
        Self {
            limit,
            burst,
            whole: burst,
            per_ms: limit / MINUTE,
            level: burst,
            at: now,
        }
    }

    /// Creates a limit that a service reports for the first time.
    pub(super) fn of_meter(meter: &RateLimit, pending: f64, now: u64) -> Self {
        let limit = meter.limit as f64;
        Self {
            limit,
            burst: limit,
            whole: limit,
            per_ms: limit / window(meter),
            level: meter.remaining as f64 - pending,
            at: now,
        }
    }

    /// Adopts the state of the same limit that another process recorded, subject to the limit as this process knows it.
    pub(super) fn adopt(&mut self, other: &Self, now: u64) {
        let same = self.limit == other.limit;
        if same {
            (self.burst, self.per_ms) = (other.burst, other.per_ms);
        }
        self.level = other.level.min(self.burst);
        self.at = other.at;
        self.refill(now);
    }

    pub(super) fn refill(&mut self, now: u64) {
        // Recorded by a clock that has been set back since.
        if self.at > now.saturating_add(MINUTE as u64) {
            self.at = now;
        }
        let passed = now.saturating_sub(self.at) as f64;
        // A single rejection may have had another reason, so its cut is undone over time, slowly enough not to be used
        // up at once.
        self.burst = (self.burst + passed * self.per_ms / RECOVERY).min(self.whole);
        self.level = (self.level + passed * self.per_ms).min(self.burst);
        self.at = self.at.max(now);
    }

    /// The milliseconds until `need` is available. A need beyond the capacity waits until the bucket is full. Zero
    /// means now.
    pub(super) fn wait(&self, need: f64) -> u64 {
        let missing = need.min(self.burst) - self.level;
        if missing <= 0.0 {
            0
        } else {
            // A limit is at least 1 per window, so this is finite.
            (missing / self.per_ms).ceil() as u64
        }
    }

    pub(super) fn take(&mut self, need: f64) {
        self.level -= need;
    }

    /// Returns the excess once the true count is known; a negative excess takes more.
    pub(super) fn correct(&mut self, too_much: f64) {
        self.level = (self.level + too_much).min(self.burst);
    }

    /// The amount that refills per millisecond.
    pub(super) fn rate(&self) -> f64 {
        self.per_ms
    }

    /// The remaining part of a full bucket, between 0 and 1.
    pub(super) fn share(&self) -> f64 {
        (self.level / self.burst).clamp(0.0, 1.0)
    }

    /// Takes the headers of a reply into account. The service counted at some time between `sent` and now; `pending` is
    /// the amount that it may not have counted by then.
    pub(super) fn learn(&mut self, meter: &RateLimit, pending: f64, sent: u64, now: u64) {
        let limit = meter.limit as f64;
        if limit != self.limit {
            self.limit = limit;
            self.burst = limit;
            self.whole = limit;
        }
        self.per_ms = limit / window(meter);
        self.refill(now);
        let remaining = meter.remaining as f64;
        let most = remaining + now.saturating_sub(sent) as f64 * self.per_ms;
        let least = remaining - pending.max(0.0);
        self.level = self.level.max(least).min(most.max(least)).min(self.burst);
    }

    /// Handles a rejection although there should have been room: the service's burst capacity is smaller than its
    /// limit.
    pub(super) fn refused(&mut self) {
        if self.level >= 1.0 {
            self.burst = (self.burst / 2.0).max(1.0);
            self.level = 0.0;
        }
    }
}

/// The milliseconds in which the limit refills: a minute, unless the missing amount and the time of the reset imply a
/// window of more than two minutes (such as the daily limit of a small account). Shorter windows are ignored, because
/// resets are rounded.
fn window(meter: &RateLimit) -> f64 {
    let missing = meter.limit.saturating_sub(meter.remaining);
    let Some(reset) = meter.reset.filter(|_| missing > 0) else {
        return MINUTE;
    };
    let whole = |reset: f64| meter.limit as f64 / missing as f64 * reset;
    let reset = reset.as_secs_f64() * 1_000.0;
    if whole(reset - 1_000.0) > 2.0 * MINUTE {
        whole(reset)
    } else {
        MINUTE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn meter(limit: u64, remaining: u64) -> RateLimit {
        RateLimit {
            limit,
            remaining,
            reset: None,
        }
    }

    #[test]
    fn it_refills_all_the_time_and_holds_no_more_than_its_burst() {
        let mut bucket = Bucket::of_operator(600, 0);
        assert_eq!(bucket.wait(60.0), 0);
        bucket.take(60.0);
        assert_eq!(bucket.wait(1.0), 100, "ten a second");
        bucket.refill(1_000);
        assert_eq!(bucket.wait(10.0), 0);
        assert_eq!(bucket.wait(11.0), 100);
        bucket.refill(1_000_000);
        bucket.take(60.0);
        assert_eq!(bucket.wait(1.0), 100);
        // A need beyond the capacity is sent when the bucket is full, and leaves a debt.
        bucket.refill(2_000_000);
        assert_eq!(bucket.wait(1_000.0), 0);
        bucket.take(1_000.0);
        assert_eq!(bucket.wait(1.0), 94_100);
    }

    #[test]
    fn headers_lower_what_others_took_and_raise_what_was_estimated_too_high() {
        let mut bucket = Bucket::of_meter(&meter(1_000, 900), 0.0, 0);
        bucket.take(100.0);
        // Another client took 500.
        bucket.learn(&meter(1_000, 300), 0.0, 0, 0);
        assert!((bucket.level - 300.0).abs() < 1.0, "{bucket:?}");
        // The local estimate was far too high; 50 are in flight and may not be counted.
        bucket.take(290.0);
        bucket.learn(&meter(1_000, 280), 50.0, 0, 0);
        assert!((bucket.level - 230.0).abs() < 1.0, "{bucket:?}");
        // The amount that refilled since the count may be available in addition.
        bucket.learn(&meter(1_000, 280), 50.0, 0, 600);
        assert!((bucket.level - 240.0).abs() < 1.0, "{bucket:?}");
    }

    #[test]
    fn a_day_is_told_from_a_minute_and_rounding_from_both() {
        let with = |limit, remaining, secs| RateLimit {
            reset: Some(Duration::from_secs(secs)),
            ..meter(limit, remaining)
        };
        assert_eq!(window(&with(200, 199, 432)), 86_400_000.0);
        assert_eq!(window(&with(60, 59, 1)), MINUTE);
        assert_eq!(window(&with(1_000, 995, 1)), MINUTE, "0.3 s rounded up");
        assert_eq!(window(&with(50, 0, 60)), MINUTE);
        assert_eq!(window(&with(50, 50, 0)), MINUTE);
    }

    #[test]
    fn a_refusal_with_room_shows_a_smaller_burst() {
        let mut bucket = Bucket::of_meter(&meter(64, 60), 0.0, 0);
        bucket.refused();
        bucket.refill(60_000);
        // 32, and a tenth of the refill of one minute.
        bucket.take(38.0);
        assert!(bucket.wait(1.0) > 0);
        // Eventually it recovers completely.
        bucket.refill(600_000);
        assert_eq!(bucket.wait(64.0), 0);
        bucket.take(64.0);
        // A rejection without room is expected.
        let before = bucket.burst;
        bucket.refused();
        assert_eq!(bucket.burst, before);
    }
}
