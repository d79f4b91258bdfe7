//! The concurrency control: how many requests may be in flight to one model.
//!
//! Additive increase, multiplicative decrease, as in TCP: the limit starts small, grows by a step per *round* (as many
//! healthy replies as the limit) while all of it is used, and is halved when the service rejects a request. Only
//! rejections count: the latency of a model depends on the question more than on the load. The control is pure
//! arithmetic: it holds no permit, reads no clock and waits for nothing, so scenarios can be simulated instantly.

/// The increase of the limit per round while no request has been rejected yet, or not for [`CALM`].
const BOLD: f64 = 4.0;
/// The increase of the limit per round after a rejection.
const CAREFUL: f64 = 1.0;
/// Milliseconds without a rejection after which growth is bold again.
const CALM: u64 = 60_000;

/// The load signal of one reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoadSignal {
    /// The service accepted the request. `full` if the limit was used up at the time, so that a higher one is worth
    /// trying.
    Healthy { full: bool },
    /// The service rejected the request for load: 429, 503, 529.
    Refused,
    /// No signal: the request failed for other reasons.
    Neutral,
}

#[derive(Debug, Clone)]
pub(super) struct ConcurrencyLimit {
    ceiling: f64,
    limit: f64,
    /// The number of the first request whose rejection counts: earlier ones were sent under the limit before the last
    /// cut.
    cut_before: u64,
    /// The time of the last rejection.
    refused_at: Option<u64>,
    /// Cuts since a request that was sent after a cut succeeded.
    consecutive_cuts: u32,
}

impl ConcurrencyLimit {
    pub(super) fn new(start: u32, ceiling: u32) -> Self {
        let ceiling = f64::from(ceiling.max(1));
        Self {
            ceiling,
            limit: f64::from(start.max(1)).min(ceiling),
            cut_before: 0,
            refused_at: None,
            consecutive_cuts: 0,
        }
    }

    /// The number of consecutive cuts without a successful request that was sent in between.
    pub(super) fn cuts_in_a_row(&self) -> u32 {
        self.consecutive_cuts
    }

    /// The maximum number of requests in flight; at least 1.
    pub(super) fn limit(&self) -> u32 {
        // The value is between 1 and `u32::MAX`.
        self.limit as u32
    }

    /// Takes the reply to request `number` into account; `next` is the number of the next request to be sent. Returns
    /// whether the limit was cut.
    pub(super) fn observe(&mut self, now: u64, number: u64, next: u64, sign: LoadSignal) -> bool {
        if matches!(sign, LoadSignal::Healthy { .. }) && number >= self.cut_before {
            self.consecutive_cuts = 0;
        }
        match sign {
            LoadSignal::Neutral | LoadSignal::Healthy { full: false } => {}
            LoadSignal::Healthy { full: true } => {
                let bold = self.refused_at.is_none_or(|at| now.saturating_sub(at) >= CALM);
                let step = if bold { BOLD } else { CAREFUL };
                self.limit = (self.limit + step / self.limit).min(self.ceiling);
            }
            LoadSignal::Refused => {
                self.refused_at = Some(now);
                // Rejections of requests that were sent in one burst count as one.
                if number >= self.cut_before {
                    self.limit = (self.limit / 2.0).max(1.0);
                    self.cut_before = next;
                    self.consecutive_cuts = self.consecutive_cuts.saturating_add(1);
                    return true;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: LoadSignal = LoadSignal::Healthy { full: true };

    fn rounds(law: &mut ConcurrencyLimit, now: u64, count: u32) {
        for _ in 0..count {
            for _ in 0..law.limit() {
                law.observe(now, 0, 0, FULL);
            }
        }
    }

    #[test]
    fn it_starts_at_four_and_grows_by_about_four_a_round_up_to_the_ceiling() {
        let mut law = ConcurrencyLimit::new(4, 20);
        assert_eq!(law.limit(), 4);
        rounds(&mut law, 0, 1);
        assert!((6..=8).contains(&law.limit()), "{}", law.limit());
        rounds(&mut law, 0, 10);
        assert_eq!(law.limit(), 20);
        assert_eq!(
            ConcurrencyLimit::new(4, 2).limit(),
            2,
            "a ceiling below the start holds from the start"
        );
    }

    #[test]
    fn places_that_nobody_uses_are_no_reason_to_grow() {
        let mut law = ConcurrencyLimit::new(4, 20);
        for _ in 0..100 {
            law.observe(0, 0, 0, LoadSignal::Healthy { full: false });
            law.observe(0, 0, 0, LoadSignal::Neutral);
        }
        assert_eq!(law.limit(), 4);
    }

    #[test]
    fn a_burst_that_is_refused_halves_once_and_never_below_one() {
        let mut law = ConcurrencyLimit::new(4, 64);
        rounds(&mut law, 0, 4);
        let before = law.limit();
        for number in 0..before {
            law.observe(0, u64::from(number), u64::from(before), LoadSignal::Refused);
        }
        assert_eq!(law.limit(), before / 2);
        // A request that was sent after the cut counts again.
        law.observe(0, u64::from(before), u64::from(before) + 1, LoadSignal::Refused);
        assert_eq!(law.limit(), before / 4);
        for number in 100..120 {
            law.observe(0, number, number + 1, LoadSignal::Refused);
        }
        assert_eq!(law.limit(), 1);
    }

    #[test]
    fn growth_is_careful_after_a_refusal_and_bold_again_after_a_calm_minute() {
        let grown = |now| {
            let mut law = ConcurrencyLimit::new(4, 1_000);
            rounds(&mut law, 0, 6);
            law.observe(0, 0, 1, LoadSignal::Refused);
            let before = law.limit();
            rounds(&mut law, now, 1);
            law.limit() - before
        };
        assert_eq!(grown(1_000), 1);
        assert!(grown(CALM) >= 3);
    }
}
