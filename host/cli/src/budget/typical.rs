//! The resources that a plugin's latest runs used.

use serde::Serialize;

use super::super::recorded::{Run, RunProgress, Used};
use agenthost::journal::{RunKind, RunStatus};
use agenthost::limits::Usd;

/// The most runs that are measured, the latest first.
const RUNS: usize = 20;
/// A run that is shorter than this is over before a person would wait for it.
const TINY_MS: u64 = 1_000;

/// The median and the 90th percentile of measured values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Spread<T> {
    /// Half of the runs used no more.
    pub(super) median: T,
    /// Nine in ten of the runs used no more.
    pub(super) p90: T,
}

/// The typical case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Typical {
    /// The number of runs that were measured.
    pub(super) runs: usize,
    pub(super) tokens: Spread<u64>,
    /// `None` if a price is not known.
    pub(super) cost_usd: Option<Spread<Usd>>,
    pub(super) wall_ms: Spread<u64>,
}

impl Typical {
    /// Measures the runs of the plugin `name` (without its version) among `runs`, the latest first, that have an
    /// output. Runs with offline replies count only if `offline`, and other runs only if not.
    pub(super) fn of(runs: &[Run<'_>], name: &str, offline: bool) -> Option<Self> {
        let is_it = |plugin: &str| plugin.split('@').next() == Some(name);
        let measured: Vec<(&Used, u64)> = runs
            .iter()
            .filter(|run| run.record.kind == RunKind::Run && is_it(&run.record.plugin))
            .filter(|run| run.state == RunProgress::Ended(RunStatus::Done) && was_offline(run) == offline)
            .filter_map(|run| Some((run.used.as_ref()?, run.wall_ms?)))
            .take(RUNS)
            .collect();
        let costs: Option<Vec<_>> = measured.iter().map(|(used, _)| used.cost_usd).collect();
        Some(Self {
            runs: measured.len(),
            tokens: spread(measured.iter().map(|(used, _)| used.tokens()).collect())?,
            cost_usd: costs.and_then(spread),
            wall_ms: spread(measured.iter().map(|(_, wall)| *wall).collect())?,
        })
    }

    /// Returns whether a run is over before a person would wait for it.
    pub(super) fn is_tiny(&self) -> bool {
        self.wall_ms.median < TINY_MS
    }
}

/// Returns whether any reply was generated offline, without a model.
fn was_offline(run: &Run<'_>) -> bool {
    let models = run.summary().map(|summary| summary.models.as_slice());
    models.unwrap_or_default().iter().any(|model| model.offline)
}

/// Computes percentiles by nearest rank: each is a measured value.
fn spread<T: Ord + Copy>(mut values: Vec<T>) -> Option<Spread<T>> {
    values.sort_unstable();
    let at = |percent: usize| {
        let rank = (values.len() * percent).div_ceil(100);
        values.get(rank.checked_sub(1)?).copied()
    };
    Some(Spread {
        median: at(50)?,
        p90: at(90)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::testing;
    use super::*;

    #[test]
    fn a_spread_has_values_that_were_seen() {
        let is = |values: Vec<u64>, median, p90| assert_eq!(spread(values), Some(Spread { median, p90 }));
        assert_eq!(spread(Vec::<u64>::new()), None);
        is(vec![7], 7, 7);
        is(vec![9, 1], 1, 9);
        is((1..=10).rev().collect(), 5, 9);
        is((1..=20).collect(), 10, 18);
    }

    #[test]
    fn only_runs_of_the_plugin_that_gave_an_output_count() {
        let mut records: Vec<_> = (0..30)
            .map(|n| testing::run(&format!("{n}"), 0, Some((RunStatus::Done, 500 + 100 * n, 1))))
            .collect();
        records[0].end.as_mut().unwrap().state = RunStatus::Failed;
        records[1].plugin = "demo:scanner@0.1.0".into();
        records[2].kind = RunKind::Batch;
        records[3].end = None;
        records[4].plugin = "demo:scan@0.2.0".into();
        let typical = |offline: bool| {
            let runs: Vec<_> = records.iter().map(|record| Run::new(record, 0, |_| true)).collect();
            Typical::of(&runs, "demo:scan", offline)
        };
        let found = typical(false).unwrap();
        assert_eq!(found.runs, 20);
        // From 900 ms to 2,800 ms.
        assert_eq!(
            found.wall_ms,
            Spread {
                median: 1_800,
                p90: 2_600
            }
        );
        assert_eq!(found.tokens.median, 1_300);
        assert_eq!(found.cost_usd.unwrap().median.to_string(), "$0.0123");
        assert!(!found.is_tiny());
        assert_eq!(typical(true), None);
    }

    #[test]
    fn an_unknown_price_makes_the_typical_cost_unknown() {
        let mut record = testing::run("a", 0, Some((RunStatus::Done, 900, 1)));
        let end = record.end.as_mut().unwrap();
        end.summary.spent.unpriced_calls = 1;
        let run = Run::new(&record, 0, |_| true);
        let typical = Typical::of(&[run], "demo:scan", false).unwrap();
        assert_eq!((typical.runs, typical.cost_usd), (1, None));
        assert!(typical.is_tiny());
    }
}
