//! The output of `agenthost run` once the run has ended: the output or the document on stdout, and for people, on
//! stderr, the logs, the failures and a summary.

use std::collections::BTreeMap;

use super::show::Show;
use crate::global::Global;
use crate::output::{Bound, Printer, counted};
use crate::spawn::Text;
use crate::table::{count, time};
use agenthost::config::Config;
use agenthost::error::Result;
use agenthost::limits::{LimitKind, LimitOwner, Limits};
use agenthost::printable::one_line;
use agenthost::run::{ModelReport, RunReport};
use agenthost::task::{Failure, FailureClass};

/// The most failed sub-tasks that are named; the document has all of them.
const FAILED_SHOWN: usize = 5;

/// The most characters of a sub-task's failure that are shown.
const FAILED_CHARS: usize = 300;

/// Returns the source of the limit that the root task reached: the policies, the operator's grant or the limits of the
/// whole command, if they leave the task no more than `asked`. `policy` is the most that the policies allow.
pub(super) fn bound<'a>(
    failure: &Failure,
    plugin: &'a str,
    asked: &Limits,
    policy: &Limits,
    config: &Config,
) -> Bound<'a> {
    let Some(limit) = failure.limit else {
        return Bound::Task;
    };
    match &failure.owner {
        Some(LimitOwner::Run) => return Bound::Run,
        // That of the task itself is not named.
        Some(LimitOwner::Task(task)) => return Bound::SubTask(task.clone()),
        _ => {}
    }
    let granted = config.granted_limits(plugin);
    // The limits of a run on time and depth have no effect.
    let run = match limit {
        LimitKind::Time | LimitKind::Depth => Limits::none(),
        _ => config.run().limits.clone(),
    };
    let least = asked.narrowed_by(&granted).narrowed_by(policy).narrowed_by(&run);
    let least = least.describe(limit);
    let sets = |limits: &Limits| least.is_some() && limits.describe(limit) == least;
    if sets(&run) {
        Bound::Run
    } else if sets(policy) {
        Bound::Policy
    } else if sets(&granted) {
        Bound::Grant(plugin)
    } else {
        Bound::Task
    }
}

pub(super) fn print(
    report: &RunReport,
    show: &Show,
    global: &Global,
    printer: &Printer,
    bound: Bound<'_>,
) -> Result<()> {
    let failure = report.outcome.failure();
    let json = matches!(show, Show::Document);
    match (show, report.outcome.ok()) {
        (Show::Document, _) => printer.data(report)?,
        (Show::Output, Some(output)) => printer.data(output)?,
        (Show::Text(text), Some(output)) => printer.raw(&text.text(output))?,
        (Show::Output | Show::Text(_), None) => {}
    }
    let text = match show {
        Show::Text(text) => Some(text),
        Show::Document | Show::Output => None,
    };
    for task in &report.tasks {
        if (global.verbose > 0 || failure.is_some()) && !task.log.is_empty() && !json {
            printer.say(&format!("--- log of {} ({})", task.id, task.plugin_and_release()));
            printer.quote(&task.log);
            if task.log_dropped_bytes > 0 {
                printer.say(&format!(
                    "--- and {} bytes more that were not kept",
                    task.log_dropped_bytes
                ));
            }
        }
    }
    if json {
        return Ok(());
    }
    for task in &report.tasks {
        for note in &task.notes {
            printer.note(&format!("{} ({}): {note}", task.id, task.plugin_and_release()));
        }
    }
    if let (Some(failure), Some(root)) = (failure, report.tasks.first()) {
        let mut failure = failure.clone();
        if let Some(words) = text.and_then(|text| text.escalation(&failure.message)) {
            failure.message = words;
        }
        printer.failure(
            &format!("task {} ({})", root.id, root.plugin_and_release()),
            &failure,
            bound,
        );
    }
    for line in failed_sub_tasks(report, text) {
        printer.say(&line);
    }
    if let Some((text, output)) = text.zip(report.outcome.ok()) {
        text.notes(output).iter().for_each(|note| printer.note(note));
    }
    printer.say(&summary(report));
    if let Some(line) = gate_summary(report) {
        printer.say(&line);
    }
    Ok(())
}

/// Returns a line for each of the first failed sub-tasks. Canceled ones lost a race or ended with their parent.
fn failed_sub_tasks(report: &RunReport, text: Option<&Text>) -> Vec<String> {
    let failed = || {
        report
            .tasks
            .iter()
            .filter(|task| task.parent.is_some())
            .filter_map(|task| {
                let failure = task.outcome.failure()?;
                (failure.class != FailureClass::Cancelled).then_some((task, failure))
            })
    };
    let mut lines: Vec<_> = failed()
        .take(FAILED_SHOWN)
        .map(|(task, failure)| {
            let said = failure.to_string();
            let said: String = said
                .lines()
                .next()
                .unwrap_or_default()
                .chars()
                .take(FAILED_CHARS)
                .collect();
            let name = text.and_then(|text| text.branch(&task.id.to_string()));
            let who = match name {
                Some(name) => one_line(name).into_owned(),
                None => task.plugin_and_release(),
            };
            format!("failed: {} ({who}): {}", task.id, one_line(&said))
        })
        .collect();
    let more = failed().count().saturating_sub(lines.len());
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}

/// Summarizes the work of the gate, if there was any.
fn gate_summary(report: &RunReport) -> Option<String> {
    let sum = |of: fn(&ModelReport) -> u64| report.models.iter().map(of).fold(0, u64::saturating_add);
    let mut met: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, times) in report.models.iter().flat_map(|model| &model.limits_met) {
        *met.entry(name).or_default() += times;
    }
    let refused = met.remove("rate-limited").unwrap_or_default();
    let (retries, hedges, waited_ms) = (sum(|m| m.retries), sum(|m| m.hedges), sum(|m| m.waited_ms));
    if retries == 0 && refused == 0 && hedges == 0 && waited_ms <= 1_000 {
        return None;
    }
    let mut parts = vec![counted(sum(|m| m.requests), "requests")];
    let mut add = |count: u64, part: String| {
        if count > 0 {
            parts.push(part);
        }
    };
    add(retries, counted(retries, "retries"));
    add(refused, format!("{} rate-limited", count(refused)));
    add(hedges, counted(hedges, "hedges"));
    let abandoned = sum(|m| m.abandoned.requests);
    add(abandoned, format!("{} abandoned", count(abandoned)));
    let met: Vec<_> = met.iter().map(|(name, times)| format!("{name} {times}")).collect();
    let met = if met.is_empty() {
        String::new()
    } else {
        format!(" ({})", met.join(", "))
    };
    // The sum over all requests, so it may exceed the duration of the run.
    add(waited_ms, format!("waited {}{met}", time(waited_ms)));
    let cached = sum(|m| m.cached_input_tokens);
    add(cached, counted(cached, "cached tokens"));
    Some(format!("  gate: {}", parts.join(", ")))
}

fn summary(report: &RunReport) -> String {
    let spent = &report.spent;
    let mut calls = counted(spent.calls, "calls");
    let searches = report
        .models
        .iter()
        .map(|model| model.searches)
        .fold(0, u64::saturating_add);
    if searches > 0 {
        calls = format!("{calls}, {}", counted(searches, "searches"));
    }
    let cost = match spent.known_cost() {
        Some(cost) => cost.to_string(),
        None => "cost unknown".into(),
    };
    format!(
        "run {}: {calls}, {} tokens in, {} out, {cost}, {}",
        report.run,
        count(spent.input_tokens),
        count(spent.output_tokens),
        time(u64::try_from(spent.wall.as_millis()).unwrap_or(u64::MAX))
    )
}

#[cfg(test)]
mod tests;
