//! The gain from concurrency: the time that calls took, compared with running them in turn.

use serde::Serialize;

use super::super::table;

/// The least factor that counts as a gain.
const PAYS: f64 = 1.3;
/// Shorter times are shown as zero, and a ratio of two of them means nothing.
const SHOWN_MS: u64 = 10;
/// A run that is shorter than this is over before a person would wait for it.
const TINY_MS: u64 = 1_000;

/// The parts of a run that decide whether the times of its calls show anything about sub-agents.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances {
    /// `true` if it has an output.
    pub(super) has_output: bool,
    /// The time that its requests waited for the provider, summed over all of them; 0 for one task, whose waits are not
    /// recorded.
    pub(super) waited_ms: u64,
    /// `true` if its answers were made up, or read from a script.
    pub(super) made_up: bool,
}

/// The verdict on sub-agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Faster,
    NoGain,
    /// The run shows neither.
    Unknown,
}

/// The gain of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Parallel {
    /// The duration of all calls, one after the other.
    sequential_ms: u64,
    /// The time in which at least one call was in flight.
    elapsed_ms: u64,
    /// The first divided by the second; `None` if no time was measured.
    factor: Option<f64>,
    verdict: Verdict,
    /// `true` if sub-agents were worth it.
    worth_it: bool,
    /// The reason if they were not, or if that is unknown; else empty.
    note: String,
    #[serde(skip)]
    calls: usize,
}

impl Parallel {
    /// Computes the gain of calls, each with its start and end, in a run that took `run_ms`.
    pub(super) fn of(spans: &[(u64, u64)], run_ms: Option<u64>, circumstances: Circumstances) -> Self {
        let sequential_ms = spans.iter().map(|(from, to)| to.saturating_sub(*from)).sum();
        let elapsed_ms = union(spans);
        let factor = (elapsed_ms > 0).then(|| sequential_ms as f64 / elapsed_ms as f64);
        let run_ms = run_ms.unwrap_or(elapsed_ms);
        let Circumstances {
            has_output,
            waited_ms,
            made_up,
        } = circumstances;
        let (verdict, note) = match factor {
            Some(factor) if spans.len() > 1 && factor >= PAYS && run_ms >= TINY_MS => (Verdict::Faster, String::new()),
            _ if waited_ms > elapsed_ms / 10 && waited_ms >= SHOWN_MS => (
                Verdict::Unknown,
                format!(
                    "requests waited {} in all before they could be sent, so the times of the calls show nothing about \
                     sub-agents",
                    table::time(waited_ms)
                ),
            ),
            _ if !has_output => (Verdict::Unknown, String::new()),
            _ if made_up => (
                Verdict::Unknown,
                "made-up answers take no time, so the times of the calls show nothing about sub-agents".into(),
            ),
            _ if spans.is_empty() => (
                Verdict::NoGain,
                "it made no model calls that were timed, so sub-agents do not pay here".into(),
            ),
            _ if run_ms < TINY_MS => (
                Verdict::NoGain,
                format!(
                    "the whole run took {}: sub-agents hardly pay for work so small; a direct call would do",
                    table::time(run_ms)
                ),
            ),
            _ if spans.len() == 1 => (
                Verdict::NoGain,
                "one model call has nothing to run beside: sub-agents do not pay here".into(),
            ),
            _ => (
                Verdict::NoGain,
                "the calls hardly overlapped: sub-agents do not make this faster; plain code that calls in turn would \
                 do as well"
                    .into(),
            ),
        };
        Self {
            sequential_ms,
            elapsed_ms,
            factor: factor.map(|factor| (factor * 100.0).round() / 100.0),
            verdict,
            worth_it: verdict == Verdict::Faster,
            note,
            calls: spans.len(),
        }
    }

    /// Describes the gain.
    pub(super) fn words(&self) -> String {
        let mut words = Vec::new();
        let shown = self.elapsed_ms.min(self.sequential_ms) >= SHOWN_MS;
        if let (Some(factor), 2.., true) = (self.factor, self.calls, shown) {
            words.push(format!(
                "model calls one after the other would have taken {}; they took {}: {factor:.1} times faster",
                table::time(self.sequential_ms),
                table::time(self.elapsed_ms)
            ));
        }
        if !self.note.is_empty() {
            words.push(self.note.clone());
        }
        words.join("\n")
    }
}

/// Returns the time that is covered by at least one span.
fn union(spans: &[(u64, u64)]) -> u64 {
    let mut spans = spans.to_vec();
    spans.sort_unstable();
    let (mut covered, mut until) = (0, 0);
    for (from, to) in spans {
        let from = from.max(until);
        if to > from {
            covered += to - from;
            until = to;
        }
    }
    covered
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: Circumstances = Circumstances {
        has_output: true,
        waited_ms: 0,
        made_up: false,
    };

    #[test]
    fn time_is_counted_once_where_calls_overlap() {
        assert_eq!(union(&[]), 0);
        assert_eq!(union(&[(5, 9), (0, 3)]), 7, "with a gap");
        assert_eq!(union(&[(0, 10), (2, 4), (9, 12)]), 12, "one within another");
        assert_eq!(union(&[(7, 7), (9, 8)]), 0, "clocks go backwards now and then");
    }

    #[test]
    fn three_at_once_are_three_times_faster() {
        let gain = Parallel::of(&[(0, 3_000), (0, 3_000), (0, 3_000)], Some(3_100), FINE);
        assert_eq!(
            serde_json::to_value(&gain).unwrap(),
            serde_json::json!({"sequential_ms": 9_000, "elapsed_ms": 3_000, "factor": 3.0, "verdict": "faster",
                "worth_it": true, "note": ""})
        );
        assert_eq!(
            gain.words(),
            "model calls one after the other would have taken 9.00 s; they took 3.00 s: 3.0 times faster"
        );
    }

    #[test]
    fn it_is_said_where_sub_agents_do_not_pay() {
        let note = |spans: &[(u64, u64)], run_ms| {
            let gain = Parallel::of(spans, Some(run_ms), FINE);
            assert!(!gain.worth_it);
            gain.words()
        };
        assert!(note(&[], 5_000).starts_with("it made no model calls"));
        assert!(note(&[(0, 4_000)], 5_000).starts_with("one model call has nothing to run beside"));
        assert!(note(&[(0, 400), (0, 400)], 420).contains("faster\nthe whole run took 0.42 s: sub-agents hardly pay"));
        assert_eq!(
            note(&[(0, 2), (0, 1)], 5).lines().count(),
            1,
            "no ratio of times that are shown as 0.00 s"
        );
        assert!(note(&[(0, 10), (0, 10)], 12).contains("took 0.01 s: 2.0 times faster"));
        let turns = note(&[(0, 2_000), (1_800, 4_000)], 5_000);
        assert!(
            turns.contains("1.1 times faster\nthe calls hardly overlapped"),
            "{turns}"
        );
        assert!(
            note(&[(5, 5), (5, 5)], 5_000).starts_with("the calls hardly overlapped"),
            "no time was measured"
        );
        assert!(Parallel::of(&[(0, 1_300), (0, 1_300)], Some(1_300), FINE).worth_it);
    }

    #[test]
    fn a_run_that_failed_or_waited_or_was_made_up_shows_nothing_about_sub_agents() {
        let made_up = Circumstances { made_up: true, ..FINE };
        let parallel = Parallel::of(&[(0, 5), (0, 5)], Some(5), made_up);
        assert_eq!(parallel.verdict, Verdict::Unknown);
        assert!(parallel.note.starts_with("made-up answers"), "{}", parallel.note);
        let failed = Circumstances {
            has_output: false,
            ..FINE
        };
        for spans in [&[][..], &[(0, 400)], &[(0, 2_000), (2_000, 4_000)]] {
            let gain = Parallel::of(spans, Some(5_000), failed);
            assert_eq!(
                (gain.verdict, gain.worth_it, gain.note.as_str()),
                (Verdict::Unknown, false, "")
            );
        }
        let waited = Circumstances {
            waited_ms: 7_240,
            ..FINE
        };
        let gain = Parallel::of(&[(0, 300), (7_500, 7_900)], Some(8_000), waited);
        assert_eq!(gain.verdict, Verdict::Unknown);
        assert!(
            gain.words().contains("requests waited 7.24 s in all"),
            "{}",
            gain.words()
        );
        assert!(!gain.words().contains("hardly"), "{}", gain.words());
        let calm = Circumstances { waited_ms: 20, ..FINE };
        assert_eq!(
            Parallel::of(&[(0, 2_000), (2_000, 4_000)], Some(5_000), calm).verdict,
            Verdict::NoGain
        );
        assert!(
            Parallel::of(&[(0, 3_000), (0, 3_000)], Some(3_100), waited).worth_it,
            "it was faster all the same"
        );
    }
}
