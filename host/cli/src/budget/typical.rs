//! The resources that a plugin's latest runs and batches used, for each task that has an output.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::recorded::{Run, RunProgress, Used};
use agenthost::error::Result;
use agenthost::journal::{JournalStore, RunKind, RunRecord, RunStatus, TaskRecord};
use agenthost::limits::Usd;
use agenthost::task::Outcome;

/// The most runs and batches that are measured, the latest first.
const RUNS: usize = 20;
/// The most records of tasks that are read of one run or batch.
const MOST_TASKS: usize = 500;
/// A run that is shorter than this is over before a person would wait for it.
const TINY_MS: u64 = 1_000;

/// The median and the 90th percentile of measured values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Spread<T> {
    /// Half of the tasks used no more.
    pub(super) median: T,
    /// Nine in ten of the tasks used no more.
    pub(super) p90: T,
    /// The average.
    pub(super) mean: T,
}

/// The typical case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Typical {
    /// The number of runs and batches that were measured.
    pub(super) runs: usize,
    /// The number of their tasks that were measured: one of a run, and those of the items of a batch.
    pub(super) tasks: usize,
    pub(super) tokens: Spread<u64>,
    /// `None` if a price is not known.
    pub(super) cost_usd: Option<Spread<Usd>>,
    pub(super) wall_ms: Spread<u64>,
    pub(super) calls: Spread<u64>,
    /// Sub-tasks, at any depth.
    pub(super) sub_tasks: Spread<u64>,
    /// The part of each model in the average.
    pub(super) models: Vec<TypicalModel>,
    /// The widest fan-out; `None` if there are no sub-tasks.
    pub(super) fan_out: Option<FanOut>,
}

/// The direct sub-tasks of one plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct FanOut {
    /// The plugin, without its version.
    pub(super) plugin: String,
    /// The median of their number in a task.
    pub(super) sub_tasks: u64,
    /// The fewest tokens with which one of them had an output.
    pub(super) least_tokens: u64,
}

/// The average use of one model by a task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct TypicalModel {
    pub(super) name: String,
    pub(super) model: String,
    pub(super) tokens: u64,
    /// `None` if its price is not known.
    pub(super) cost_usd: Option<Usd>,
}

/// The use of one task and all tasks below it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    tokens: u64,
    cost: Option<Usd>,
    wall_ms: u64,
    calls: u64,
    /// The number of all sub-tasks.
    below: u64,
    /// The direct ones.
    sub_tasks: Vec<SubTask>,
}

/// The use of one direct sub-task that had an output.
#[derive(Debug, Clone, PartialEq)]
struct SubTask {
    plugin: String,
    tokens: u64,
}

impl Typical {
    /// Measures the runs and batches of the plugin `name` (without its version) among `runs`, the latest first. Those
    /// with offline replies count only if `offline`, and the others only if not. `samples_of` reads the tasks of a run.
    pub(super) fn of(
        runs: &[Run<'_>],
        name: &str,
        offline: bool,
        samples_of: impl Fn(&RunRecord) -> Result<Vec<Sample>>,
    ) -> Result<Option<Self>> {
        let is_it = |plugin: &str| plugin.split('@').next() == Some(name);
        let (mut count, mut samples) = (0, Vec::new());
        let mut models = BTreeMap::<(&str, &str), (u64, Option<Usd>)>::new();
        for run in runs {
            let Some(summary) = run.summary() else { continue };
            if count == RUNS || !is_it(&run.record.plugin) || was_offline(run) != offline {
                continue;
            }
            let found = match run.record.kind {
                RunKind::Batch => samples_of(run.record)?,
                _ if run.state != RunProgress::Ended(RunStatus::Done) => Vec::new(),
                _ => {
                    let mut sample = of_run(run);
                    // The latest run with sub-tasks shows how many there are; reading the tasks of all takes long.
                    let measured = samples.iter().any(|sample: &Sample| !sample.sub_tasks.is_empty());
                    if let Some(sample) = sample.as_mut().filter(|_| !measured && summary.counts.tasks > 1) {
                        let read = samples_of(run.record)?;
                        sample.sub_tasks = read.into_iter().flat_map(|read| read.sub_tasks).collect();
                    }
                    sample.into_iter().collect()
                }
            };
            if found.is_empty() {
                continue;
            }
            count += 1;
            samples.extend(found);
            for model in &summary.models {
                let sum = models
                    .entry((&model.name, &model.model))
                    .or_insert((0, Some(Usd::ZERO)));
                let tokens = model.input_tokens.saturating_add(model.output_tokens);
                sum.0 = sum.0.saturating_add(tokens);
                sum.1 = sum.1.zip(model.cost_usd).map(|(sum, cost)| sum.saturating_add(cost));
            }
        }
        let costs: Option<Vec<_>> = samples.iter().map(|sample| sample.cost).collect();
        let values = |of: fn(&Sample) -> u64| spread(samples.iter().map(of).collect());
        let (Some(tokens), Some(wall_ms)) = (values(|sample| sample.tokens), values(|sample| sample.wall_ms)) else {
            return Ok(None);
        };
        let (Some(calls), Some(sub_tasks)) = (values(|sample| sample.calls), values(|sample| sample.below)) else {
            return Ok(None);
        };
        let cost_usd = costs.and_then(|costs| {
            let picos = spread(costs.iter().map(|cost| cost.pico()).collect())?;
            Some(Spread {
                median: Usd::from_pico(picos.median),
                p90: Usd::from_pico(picos.p90),
                mean: Usd::from_pico(picos.mean),
            })
        });
        Ok(Some(Self {
            runs: count,
            tasks: samples.len(),
            tokens,
            cost_usd,
            wall_ms,
            calls,
            sub_tasks,
            models: shares(&models, tokens.mean, cost_usd.map(|cost| cost.mean)),
            fan_out: fan_out(&samples),
        }))
    }

    /// Returns whether a run is over before a person would wait for it.
    pub(super) fn is_tiny(&self) -> bool {
        self.wall_ms.median < TINY_MS
    }

    /// Returns the cost of `items` average tasks; `None` if a price is not known.
    pub(super) fn cost_of(&self, items: u64) -> Option<Usd> {
        let mean = self.cost_usd?.mean;
        Some(Usd::from_pico(mean.pico().saturating_mul(items)))
    }

    /// Names what was measured: `the last 3 runs`, with their tasks if there are more.
    pub(super) fn basis(&self) -> String {
        let runs = match self.runs {
            1 => "the last run".to_owned(),
            n => format!("the last {n} runs"),
        };
        match self.tasks == self.runs {
            true => runs,
            false => format!("{} tasks of {runs}", self.tasks),
        }
    }
}

/// Divides the average use among the models, in proportion to their whole use.
fn shares(
    models: &BTreeMap<(&str, &str), (u64, Option<Usd>)>,
    mean_tokens: u64,
    mean_cost: Option<Usd>,
) -> Vec<TypicalModel> {
    let part = |mean: u64, one: u64, all: u64| {
        let part = u128::from(mean) * u128::from(one) / u128::from(all.max(1));
        u64::try_from(part).unwrap_or(u64::MAX)
    };
    let all_tokens = models
        .values()
        .fold(0, |sum: u64, (tokens, _)| sum.saturating_add(*tokens));
    let costs = models.values().filter_map(|(_, cost)| *cost);
    let all_cost = costs.fold(0, |sum: u64, cost| sum.saturating_add(cost.pico()));
    let shares = models.iter().map(|((name, model), (tokens, cost))| TypicalModel {
        name: (*name).to_owned(),
        model: (*model).to_owned(),
        tokens: part(mean_tokens, *tokens, all_tokens),
        cost_usd: cost
            .zip(mean_cost)
            .map(|(cost, mean)| Usd::from_pico(part(mean.pico(), cost.pico(), all_cost))),
    });
    shares.collect()
}

fn of_run(run: &Run<'_>) -> Option<Sample> {
    let used = run.used.as_ref()?;
    Some(Sample {
        tokens: used.tokens(),
        cost: used.cost_usd,
        wall_ms: run.wall_ms?,
        calls: used.calls,
        below: run
            .summary()
            .map_or(0, |summary| summary.counts.tasks.saturating_sub(1)),
        sub_tasks: Vec::new(),
    })
}

/// Reads the tasks of a run, or the items of a batch, that have an output, each with all tasks below it.
pub(super) fn of_tasks(journal: &dyn JournalStore, record: &RunRecord) -> Result<Vec<Sample>> {
    let tasks = journal.tasks(&record.id, "", None, MOST_TASKS)?;
    let is_complete = tasks.len() < MOST_TASKS;
    Ok(samples(&tasks, is_complete, usize::from(record.kind == RunKind::Batch)))
}

/// Returns the beginning of a task's id that has `depth` levels below the root: `root/7` of `root/7/0` for 1.
fn ancestor(id: &str, depth: usize) -> &str {
    match id.match_indices('/').nth(depth) {
        Some((end, _)) => id.get(..end).unwrap_or(id),
        None => id,
    }
}

/// Adds up tasks in the order of the tree; the measured ones are `depth` levels below the root. If the list is not
/// complete, the last of these may lack tasks, and is left out.
fn samples(tasks: &[TaskRecord], is_complete: bool, depth: usize) -> Vec<Sample> {
    let same = |one: &TaskRecord, next: &TaskRecord| ancestor(&one.id, depth) == ancestor(&next.id, depth);
    let items: Vec<&[TaskRecord]> = tasks.chunk_by(same).collect();
    let whole = items.len() - usize::from(!is_complete && !items.is_empty());
    items
        .iter()
        .take(whole)
        .filter_map(|tasks| sample(tasks, depth))
        .collect()
}

/// Adds up one task of an item and those below it; `None` if it has no output.
fn sample(tasks: &[TaskRecord], depth: usize) -> Option<Sample> {
    let end = tasks.first()?.end.as_ref()?;
    if matches!(end.report.outcome, Some(Outcome::Failure(_))) {
        return None;
    }
    let mut used = Used::nothing();
    for task in tasks {
        used.add(&Used::of(&task.end.as_ref()?.report.spent));
    }
    let below = tasks
        .get(1..)?
        .chunk_by(|one, next| ancestor(&one.id, depth + 1) == ancestor(&next.id, depth + 1));
    let sub_tasks = below.filter_map(|tasks| {
        let (plugin, _) = tasks.first()?.plugin.split_once('@')?;
        let tokens = sample(tasks, depth + 1)?.tokens;
        let plugin = plugin.to_owned();
        Some(SubTask { plugin, tokens })
    });
    Some(Sample {
        tokens: used.tokens(),
        cost: used.cost_usd,
        wall_ms: u64::try_from(end.report.spent.wall.as_millis()).unwrap_or(u64::MAX),
        calls: used.calls,
        below: (tasks.len() as u64).saturating_sub(1),
        sub_tasks: sub_tasks.collect(),
    })
}

/// Finds the plugin with the most direct sub-tasks.
fn fan_out(samples: &[Sample]) -> Option<FanOut> {
    let mut of = BTreeMap::<&str, (u64, u64)>::new();
    for task in samples.iter().flat_map(|sample| &sample.sub_tasks) {
        let (count, least) = of.entry(&task.plugin).or_insert((0, u64::MAX));
        *count += 1;
        *least = task.tokens.min(*least);
    }
    let (plugin, (_, least_tokens)) = of.into_iter().max_by_key(|(_, (count, _))| *count)?;
    let with_sub_tasks = samples.iter().filter(|sample| !sample.sub_tasks.is_empty());
    let counts = with_sub_tasks.map(|sample| {
        let same = sample.sub_tasks.iter().filter(|task| task.plugin == plugin);
        same.count() as u64
    });
    Some(FanOut {
        plugin: plugin.to_owned(),
        sub_tasks: spread(counts.collect())?.median,
        least_tokens,
    })
}

/// Returns whether any reply was generated offline, without a model.
fn was_offline(run: &Run<'_>) -> bool {
    let models = run.summary().map(|summary| summary.models.as_slice());
    models.unwrap_or_default().iter().any(|model| model.offline)
}

/// Computes percentiles by nearest rank, each of which is a measured value, and the average.
fn spread(mut values: Vec<u64>) -> Option<Spread<u64>> {
    values.sort_unstable();
    let at = |percent: usize| {
        let rank = (values.len() * percent).div_ceil(100);
        values.get(rank.checked_sub(1)?).copied()
    };
    let sum: u128 = values.iter().map(|value| u128::from(*value)).sum();
    let mean = sum.checked_div(values.len() as u128)?;
    Some(Spread {
        median: at(50)?,
        p90: at(90)?,
        mean: u64::try_from(mean).unwrap_or(u64::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::testing;
    use super::*;
    use agenthost::task::FailureClass;

    fn no_batch(_: &RunRecord) -> Result<Vec<Sample>> {
        Ok(Vec::new())
    }

    #[test]
    fn a_spread_has_values_that_were_seen() {
        let is = |values: Vec<u64>, median, p90, mean| {
            assert_eq!(spread(values), Some(Spread { median, p90, mean }));
        };
        assert_eq!(spread(Vec::new()), None);
        is(vec![7], 7, 7, 7);
        is(vec![9, 1], 1, 9, 5);
        is((1..=10).rev().collect(), 5, 9, 5);
        is((1..=20).collect(), 10, 18, 10);
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
            Typical::of(&runs, "demo:scan", offline, no_batch).unwrap()
        };
        let found = typical(false).unwrap();
        assert_eq!((found.runs, found.tasks), (20, 20));
        // From 900 ms to 2,800 ms.
        assert_eq!(
            found.wall_ms,
            Spread {
                median: 1_800,
                p90: 2_600,
                mean: 1_850
            }
        );
        assert_eq!(found.tokens.median, 1_300);
        assert_eq!(found.cost_usd.unwrap().median.to_string(), "$0.0123");
        assert_eq!(found.cost_of(100).unwrap().to_string(), "$1.23");
        assert_eq!((found.models[0].name.as_str(), found.models[0].tokens), ("fast", 1_300));
        assert_eq!(found.models[0].cost_usd.unwrap().to_string(), "$0.0123");
        assert_eq!(found.basis(), "the last 20 runs");
        assert!(!found.is_tiny());
        assert_eq!(typical(true), None);
    }

    #[test]
    fn a_batch_counts_with_each_of_its_items() {
        let mut record = testing::run("a", 0, Some((RunStatus::Failed, 900, 4)));
        record.kind = RunKind::Batch;
        let tasks = [
            testing::task("root/0", 0, Some(400), None),
            testing::task("root/0/0", 0, Some(300), None),
            testing::task("root/1", 0, Some(500), Some(FailureClass::Failed)),
            testing::task("root/2", 0, Some(600), None),
            testing::task("root/3", 0, None, None),
        ];
        let run = Run::new(&record, 0, |_| true);
        let typical = Typical::of(&[run], "demo:scan", false, |_| Ok(samples(&tasks, true, 1)))
            .unwrap()
            .unwrap();
        assert_eq!((typical.runs, typical.tasks), (1, 2));
        assert_eq!(
            (typical.tokens.median, typical.tokens.p90),
            (15, 30),
            "with the sub-task"
        );
        assert_eq!(typical.cost_of(1_000).unwrap().to_string(), "$1.50");
        assert_eq!(typical.wall_ms.p90, 600);
        assert_eq!(typical.basis(), "2 tasks of the last run");
        assert_eq!(samples(&tasks[..2], false, 1), [], "an item that may lack tasks");
        assert_eq!(samples(&[], false, 1), []);
    }

    #[test]
    fn a_fan_out_has_the_plugin_with_the_most_sub_tasks() {
        let mut tasks = vec![testing::task("root", 0, Some(400), None)];
        for n in 0..4 {
            let failed = (n == 3).then_some(FailureClass::Failed);
            tasks.push(testing::task(&format!("root/{n}"), 0, Some(300), failed));
        }
        tasks.push(testing::task("root/1/0", 0, Some(300), None));
        tasks.push(testing::task("root/4", 0, Some(300), None));
        tasks.sort_by(|one, other| one.id.cmp(&other.id));
        tasks.iter_mut().for_each(|task| task.plugin = "demo:lane@0.1.0".into());
        let last = tasks.last_mut().unwrap();
        last.plugin = "demo:compare@0.1.0".into();
        let samples = samples(&tasks, true, 0);
        let expected = FanOut {
            plugin: "demo:lane".into(),
            sub_tasks: 3,
            least_tokens: 15,
        };
        assert_eq!(fan_out(&samples), Some(expected));
        assert_eq!(fan_out(&[]), None);
    }

    #[test]
    fn an_unknown_price_makes_the_typical_cost_unknown() {
        let mut record = testing::run("a", 0, Some((RunStatus::Done, 900, 1)));
        let end = record.end.as_mut().unwrap();
        end.summary.spent.unpriced_calls = 1;
        let run = Run::new(&record, 0, |_| true);
        let typical = Typical::of(&[run], "demo:scan", false, no_batch).unwrap().unwrap();
        assert_eq!((typical.runs, typical.cost_usd), (1, None));
        assert!(typical.is_tiny());
    }
}
