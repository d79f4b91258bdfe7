//! The rate that a service allows without saying so, learned from its refusals.
//!
//! A service that rejects a request for its rate has just used up the bucket that it counts with. Between two such
//! rejections it accepted what had refilled in between, so their distance shows the rate. Requests are then sent at that
//! pace. The pace rises slowly until the next rejection, which corrects it, and faster the longer none comes, because
//! the limit may have risen. Nothing is known about a service before its first rejection, and nothing is held back.
//!
//! A service may also reject requests for reasons of its own, whatever their rate. Rejections that stay as close together
//! although each lowers the pace show this. They are then left to the concurrency control for some time.
//!
//! Like the concurrency control, this is arithmetic without a clock. Processes on the same key share it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::retry;

/// The part of the learned rate at which requests are sent first.
const BELOW: f64 = 0.985;
/// The rise of the pace, as a part of the learned rate, per step.
const RISE: f64 = 0.08;
/// The number of requests in a step, or what is sent in a second if that is more.
const STEP: f64 = 24.0;
/// The number of steps after which the limit seems to have risen, so that the pace doubles with each step.
const CALM: f64 = 5.0;
/// The rise per request while the rate is a guess.
const GUESS_RISE: f64 = 1.3;
/// Milliseconds in which the pace doubles at most.
const DOUBLING: f64 = 500.0;
/// The part of the pace that the rate is at least when the pace had risen for some time: a burst that the service
/// allows hides for a while that the pace is too high.
const OVERSHOT: f64 = 0.88;
/// The part of the pace that is left after a rejection without an accepted request since the last one.
const VAIN: f64 = 0.7;
/// The number of requests from which [`OVERSHOT`] holds.
const SOME: f64 = 16.0;
/// The part of the burst that the service seems to allow which is used after an idle time.
const BURST: f64 = 0.8;
/// The number of rejections, each within [`STEP`] requests of the last, after which they are not for a rate if the rate
/// that they showed has fallen to [`FALLEN`] of what it was.
const DOUBTS: u32 = 5;
/// See [`DOUBTS`].
const FALLEN: f64 = 0.5;
/// The milliseconds for which rejections are then not for a rate.
const DOUBTED: u64 = 600_000;
/// The rejections in a row, without an accepted request in between, that only a limit explains.
const SILENT: u32 = 5;
/// The lowest pace, in requests per millisecond: one in ten minutes.
const SLOWEST: f64 = 1.0 / 600_000.0;
/// Milliseconds after which what was accepted counts half for the first guess.
const RECENT: u64 = 10_000;
/// Milliseconds without a rejection after which the rate is forgotten.
const FORGOTTEN: u64 = 3_600_000;

/// The requests that a service has accepted lately, and its rate once it has rejected one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct HiddenLimit {
    /// The time from which `accepted` counts: that of the last rejection, if there is a pace.
    since: u64,
    /// The requests sent since then, without those that were rejected.
    accepted: f64,
    pace: Option<Pace>,
    /// The time until which rejections are not for a rate.
    doubted_until: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Pace {
    /// The learned rate, in requests per millisecond.
    rate: f64,
    /// The requests per millisecond that are sent now.
    per_ms: f64,
    level: f64,
    /// The capacity of `level`.
    burst: f64,
    /// The time of `level`.
    at: u64,
    /// The requests since the last rejection that the pace made wait.
    paced: f64,
    /// `true` if the pace made the next request wait.
    waits: bool,
    /// The time of the last of these.
    sent: u64,
    /// `true` if the rate is a guess.
    guess: bool,
    /// The requests accepted until the first rejection, and the milliseconds that took, until the second rejection.
    first: Option<(f64, f64)>,
    /// Rejections in a row without an accepted request in between.
    vain: u32,
    /// Rejections in a row that came within [`STEP`] requests of the last.
    close: u32,
    /// The learned rate before these.
    high: f64,
}

impl Pace {
    fn refill(&mut self, now: u64) {
        let passed = now.saturating_sub(self.at) as f64;
        // The time of a request is rounded up to milliseconds; the rest is kept.
        let burst = if self.guess || self.vain > 0 { 1.0 } else { self.burst };
        let most = burst.max(1.0 + 2.0 * self.per_ms);
        self.level = (self.level + passed * self.per_ms).min(most);
        self.at = self.at.max(now);
    }
}

impl HiddenLimit {
    /// Adopts the state that another process recorded, unless it has none, or one of a wrong clock.
    pub(super) fn adopt(&mut self, other: &Self, now: u64) {
        let sound = |pace: Pace| pace.per_ms >= SLOWEST * BELOW && pace.rate > 0.0;
        let is_past =
            other.since <= now.saturating_add(RECENT) && other.doubted_until <= now.saturating_add(RECENT + DOUBTED);
        if *other != Self::default() && is_past && other.pace.is_none_or(sound) {
            *self = *other;
        }
    }

    /// The milliseconds until a request may be sent.
    pub(super) fn wait(&mut self, now: u64) -> u64 {
        if self.pace.is_some() && now.saturating_sub(self.since) > FORGOTTEN {
            *self = Self::default();
        }
        let Some(pace) = &mut self.pace else { return 0 };
        pace.refill(now);
        if pace.level >= 1.0 - 1e-9 {
            return 0;
        }
        pace.waits = true;
        ((1.0 - pace.level) / pace.per_ms).ceil() as u64
    }

    /// Counts a request that is sent.
    pub(super) fn take(&mut self, now: u64) {
        if self.pace.is_none() && now.saturating_sub(self.since) > RECENT {
            if self.accepted < 1.0 || now.saturating_sub(self.since) > 2 * RECENT {
                (self.accepted, self.since) = (0.0, now);
            } else {
                (self.accepted, self.since) = (self.accepted / 2.0, now - RECENT / 2);
            }
        }
        self.accepted += 1.0;
        let Some(pace) = &mut self.pace else { return };
        pace.level -= 1.0;
        if !std::mem::take(&mut pace.waits) {
            return;
        }
        pace.paced += 1.0;
        let most = pace.per_ms * (now.saturating_sub(pace.sent) as f64 / DOUBLING).exp2();
        pace.sent = now;
        let steps = pace.paced / STEP.max(pace.rate * 1_000.0);
        let wanted = if pace.guess {
            pace.per_ms * GUESS_RISE
        } else if steps <= CALM {
            pace.rate * (BELOW + RISE * steps)
        } else {
            pace.per_ms * (steps / pace.paced).exp2()
        };
        pace.per_ms = wanted.min(most);
    }

    /// Returns whether the service has accepted nothing since its last rejection.
    pub(super) fn is_used_up(&self) -> bool {
        self.pace.is_some_and(|pace| pace.vain > 0)
    }

    /// Returns whether rejections do not show a rate at present.
    pub(super) fn is_doubted(&self, now: u64) -> bool {
        now < self.doubted_until
    }

    /// Learns from the rejection of a request that was sent at `sent`. Returns the time for which nothing should be
    /// sent, besides the pace.
    pub(super) fn refused(&mut self, sent: u64, now: u64) -> Option<Duration> {
        self.accepted = (self.accepted - 1.0).max(0.0);
        if self.pace.is_some() && sent < self.since {
            // It was sent at the pace before the last rejection.
            return None;
        }
        let passed = sent.saturating_sub(self.since).max(1) as f64;
        let average = self.accepted / passed;
        let mut pause = None;
        let pace = match self.pace {
            None => {
                let wait = retry::backoff(0);
                pause = Some(wait);
                // The service has accepted more than its rate, by a burst of unknown size.
                let rate = self.accepted.max(1.0) / (passed + wait.as_secs_f64() * 1_000.0);
                Pace {
                    rate,
                    per_ms: rate,
                    level: 0.0,
                    burst: 1.0,
                    at: now,
                    paced: 0.0,
                    waits: false,
                    sent: now,
                    guess: true,
                    first: Some((self.accepted, passed)),
                    vain: 0,
                    close: 0,
                    high: rate,
                }
            }
            Some(before) => {
                let vain = if self.accepted < 1.0 { before.vain + 1 } else { 0 };
                if vain > 0 {
                    pause = Some(retry::backoff(vain - 1));
                }
                let rate = match vain {
                    0 if before.guess => (average * before.per_ms).sqrt(),
                    0 if before.paced >= SOME => average.max((before.per_ms * OVERSHOT).min(2.0 * average)),
                    0 => average.min(before.per_ms).max(before.per_ms / 2.0),
                    1 => before.per_ms * VAIN,
                    2..4 => before.per_ms / 2.0,
                    // An outage is not a rate.
                    _ => before.rate,
                }
                .max(SLOWEST);
                let (close, high) = match vain {
                    0 if self.accepted < STEP => (before.close + 1, before.high.max(rate)),
                    0 => (0, rate),
                    // A service that accepts nothing for so long has a limit, whatever the rejections before were for.
                    SILENT.. => (0, rate),
                    _ => (before.close, before.high),
                };
                if close >= DOUBTS && rate < high * FALLEN {
                    *self = Self {
                        doubted_until: now.saturating_add(DOUBTED),
                        ..Self::default()
                    };
                    return None;
                }
                let burst = match before.first {
                    Some((accepted, took)) => ((accepted - rate * took) * BURST).max(1.0),
                    // There should have been room.
                    None if before.level >= 1.0 => (before.burst / 2.0).max(1.0),
                    None => before.burst,
                };
                Pace {
                    rate,
                    per_ms: rate * BELOW,
                    // The service may not even have what makes one request.
                    level: -1.0,
                    burst,
                    at: now,
                    paced: 0.0,
                    waits: false,
                    sent: now,
                    guess: vain > 1,
                    first: None,
                    vain,
                    close,
                    high,
                }
            }
        };
        self.pace = Some(pace);
        (self.since, self.accepted) = (now, 0.0);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service with a bucket of `holds` requests that refills with `rate` requests per second, 10 ms away. Its rate
    /// changes to the second one after half of the requests.
    struct Served {
        /// The rejected requests of each half.
        rejected: [u32; 2],
        /// The seconds that the second half took.
        seconds: f64,
    }

    /// Sends 800 requests as fast as they may be sent.
    fn serve(rates: [f64; 2], holds: f64) -> Served {
        let mut limit = HiddenLimit::default();
        let (mut now, mut paused, mut half) = (1_000_000, 0, 0);
        let (mut level, mut at) = (holds.max(1.0), now);
        // The times when rejected requests were sent, the oldest first.
        let mut rejections = std::collections::VecDeque::new();
        let (mut accepted, mut rejected) = (0, [0, 0]);
        while accepted < 800 {
            while let Some(sent) = rejections.front().copied().filter(|sent| sent + 20 <= now) {
                rejections.pop_front();
                if let Some(pause) = limit.refused(sent, sent + 20) {
                    paused = sent + 20 + pause.as_millis() as u64;
                }
            }
            let wait = limit.wait(now).max(paused.saturating_sub(now));
            if wait > 0 {
                // Answers that arrive in the meantime are taken into account in time.
                now += wait.min(5);
                continue;
            }
            limit.take(now);
            let rate = rates[usize::from(accepted >= 400)];
            level = (level + (now - at) as f64 * rate / 1_000.0).min(holds.max(1.0));
            at = now;
            if level >= 1.0 - 1e-6 {
                level -= 1.0;
                accepted += 1;
                if accepted == 400 {
                    half = now;
                }
            } else {
                rejections.push_back(now);
                rejected[usize::from(accepted >= 400)] += 1;
            }
            // A slow start takes some time.
            now += 3 * u64::from(limit.pace.is_none());
        }
        Served {
            rejected,
            seconds: (now - half) as f64 / 1_000.0,
        }
    }

    #[test]
    fn a_rate_is_found_and_kept_whatever_it_is_and_whatever_burst_it_allows() {
        for rate in [0.5, 1.0, 3.0, 10.0, 25.0, 50.0, 100.0] {
            for holds in [1.0, rate / 2.0, rate] {
                let served = serve([rate; 2], holds);
                let share = 400.0 / (served.seconds * rate);
                assert!(
                    share >= 0.85,
                    "a share of {share:.2} of {rate} a second, {holds} at once"
                );
                let [first, second] = served.rejected;
                let case = format!("at {rate} a second, {holds} at once");
                assert!(first <= 60, "{first} of the first 400 were rejected {case}");
                assert!(second <= 24, "{second} of the second 400 were rejected {case}");
            }
        }
    }

    #[test]
    fn a_rate_that_changes_is_followed() {
        for (before, after) in [(10.0, 20.0), (10.0, 40.0), (40.0, 10.0), (20.0, 2.0)] {
            let served = serve([before, after], before);
            let share = 400.0 / (served.seconds * after);
            assert!(share >= 0.6, "a share of {share:.2} of {after} a second after {before}");
            let rejected = served.rejected[1];
            assert!(rejected <= 40, "{rejected} rejected, {before} to {after}");
        }
    }

    #[test]
    fn nothing_is_held_back_before_the_first_rejection_and_not_for_ever_after_it() {
        let mut limit = HiddenLimit::default();
        for now in 0..1_000 {
            assert_eq!(limit.wait(now), 0);
            limit.take(now);
        }
        assert_eq!(limit.refused(999, 1_000), Some(Duration::from_millis(500)));
        assert!(limit.wait(1_000) > 0);
        assert_eq!(limit.refused(999, 1_001), None, "one of the same burst");
        assert_eq!(limit.wait(1_000 + FORGOTTEN + 1), 0);
    }

    #[test]
    fn what_a_wrong_clock_recorded_is_not_adopted() {
        let mut other = HiddenLimit::default();
        other.take(1_000_000);
        other.refused(1_000_000, 1_000_020);
        let mut limit = HiddenLimit::default();
        limit.adopt(&other, 1_000);
        assert_eq!(limit, HiddenLimit::default());
        limit.adopt(&other, 1_000_020);
        assert_eq!(limit, other);
        limit.adopt(&HiddenLimit::default(), 1_000_030);
        assert_eq!(limit, other, "a lost file");
    }
}
