//! The output of a batch: the moving line, the summary for people, the document, the exit code.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::allowance;
use crate::output::{Printer, counted, exit};
use crate::progress::{Lines, Part, Progress, fit, lock, next_try, seconds, words};
use crate::table;
use agenthost::BatchWaits;
use agenthost::batch::drive::{Stop, Summary};
use agenthost::config::Config;
use agenthost::limits::LimitKind;
use agenthost::printable::one_line;
use agenthost::run::{REPORT_FORMAT, RunId};
use agenthost::task::FailureClass;

/// The width of the bar.
const BAR: usize = 20;

/// The most messages of failures that the summary shows.
const MESSAGES: usize = 5;

/// The moving line, unless `--quiet` is given or stderr is not a terminal.
pub(super) struct ProgressLine {
    line: Arc<Mutex<Line>>,
    progress: Progress,
    items: u64,
}

struct Line {
    parts: Vec<Part>,
    started: Instant,
    waits: BatchWaits,
}

impl ProgressLine {
    pub(super) fn new(items: u64, waits: BatchWaits) -> Self {
        let line = Arc::new(Mutex::new(Line {
            parts: vec![Part::whole(9, format!("0/{}", table::count(items)))],
            started: Instant::now(),
            waits,
        }));
        let progress = Progress::draw(&line);
        Self { line, progress, items }
    }

    pub(super) fn show(&self, summary: &Summary) {
        let mut line = lock(&self.line);
        line.parts = parts(summary, self.items, line.started.elapsed());
    }

    /// Removes the line.
    pub(super) fn finish(self) {
        self.progress.finish();
    }
}

impl Lines for Line {
    fn lines(&self, width: usize, _: usize) -> Vec<String> {
        let mut parts = self.parts.clone();
        parts.push(Part::whole(2, seconds(self.started.elapsed())));
        if let Some(wait) = self.waits.all() {
            let reason = format!("waiting{}", wait.reason.map_or("", words));
            parts.push(Part::whole(6, next_try(&reason, wait.until)));
        }
        vec![fit(parts, width)]
    }
}

/// Returns the parts of a line such as `##---  2/9  2 failed  8.3/s  12 s left  4,120 tokens  $0.01  8 of 9 workers`.
fn parts(summary: &Summary, items: u64, elapsed: Duration) -> Vec<Part> {
    let done = summary.done();
    let filled = (done * BAR as u64).checked_div(items).unwrap_or(0).min(BAR as u64) as usize;
    let mut parts = vec![
        Part::whole(0, format!("{}{}", "#".repeat(filled), "-".repeat(BAR - filled))),
        Part::whole(9, format!("{}/{}", table::count(done), table::count(items))),
    ];
    match summary.failures() {
        0 => {}
        failed => parts.push(Part::whole(8, format!("{} failed", table::count(failed)))),
    }
    let rate = summary.rate(elapsed);
    if rate > 0.0 {
        let left = items.saturating_sub(done) as f64 / rate;
        parts.push(Part::whole(3, format!("{rate:.1}/s")));
        parts.push(Part::whole(5, format!("{} left", duration(left))));
    }
    let spent = &summary.spent;
    let tokens = spent.input_tokens.saturating_add(spent.output_tokens);
    parts.push(Part::whole(4, counted(tokens, "tokens")));
    parts.push(Part::whole(10, cost(summary)));
    parts.push(Part::whole(
        1,
        format!("{} of {} workers", summary.running, summary.workers),
    ));
    if summary.stop.is_some() {
        parts.push(Part::whole(7, "stopping"));
    }
    parts
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 99.5 => format!("{s:.0} s"),
        s if s < 5_400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3_600.0),
    }
}

fn cost(summary: &Summary) -> String {
    let known = summary.spent.known_cost();
    known.map_or_else(|| "cost unknown".into(), |cost| cost.to_string())
}

fn items(count: u64) -> String {
    match count {
        1 => "1 item".into(),
        count => format!("{count} items"),
    }
}

/// Returns ` (1 failed, 2 trapped)`, the counts by class, or nothing if `failed` is the only class.
fn classes(summary: &Summary) -> String {
    let plain = FailureClass::Failed.name();
    if summary.failed.keys().all(|class| *class == plain) {
        return String::new();
    }
    let classes: Vec<String> = summary.failed.iter().map(|(class, n)| format!("{n} {class}")).collect();
    format!(" ({})", classes.join(", "))
}

/// Prints the summary for people.
pub(super) fn say(run: Option<&RunId>, summary: &Summary, all: u64, printer: &Printer) {
    let not_started = all.saturating_sub(summary.done());
    let mut counts = format!("{}: {} ok", items(all), summary.ok);
    if summary.failures() > 0 {
        counts.push_str(&format!(", {} failed{}", summary.failures(), classes(summary)));
    }
    if summary.cut_off > 0 {
        counts.push_str(&format!(", {} cut off", summary.cut_off));
    }
    if not_started > 0 {
        counts.push_str(&format!(", {not_started} not started"));
    }
    if summary.recorded > 0 {
        counts.push_str(&format!(", {} recorded before", summary.recorded));
    }
    let spent = &summary.spent;
    let run = run.map(|run| format!("run {run}: ")).unwrap_or_default();
    printer.say(&format!(
        "{run}{counts}; {}, {} tokens in, {} out, {}, {}, {:.1} items/s",
        counted(spent.calls, "calls"),
        table::count(spent.input_tokens),
        table::count(spent.output_tokens),
        cost(summary),
        table::time(u64::try_from(spent.wall.as_millis()).unwrap_or(u64::MAX)),
        summary.rate(spent.wall),
    ));
    let frequent = summary.frequent_messages(MESSAGES);
    if !frequent.is_empty() {
        let mut text = "the most frequent failures:".to_owned();
        for (message, count) in &frequent {
            text.push_str(&format!("\n  {}: {}", items(*count), one_line(message)));
        }
        match summary
            .failures()
            .saturating_sub(frequent.iter().map(|(_, count)| count).sum())
        {
            0 => {}
            more => text.push_str(&format!("\n  {} for other reasons", items(more))),
        }
        printer.note(&text);
    }
    if cut_short(summary, all) {
        let why = match &summary.stop {
            Some(Stop::MaxFailures(most)) => format!("{} had failed (--max-failures {most})", items(*most)),
            Some(Stop::Limit(_)) if let Some(owner) = &summary.limit_owner => format!("{owner} is used up"),
            Some(Stop::Limit(limit)) => format!("the limit of {} of all items together is reached", limit.words()),
            Some(Stop::KeyRefused(refusal)) => format!("a key was refused: {}", one_line(refusal)),
            Some(Stop::Interrupted) => "it was interrupted".into(),
            Some(Stop::Failed(_)) | None => return,
        };
        let left: Vec<_> = [(not_started, "not started"), (summary.cut_off, "cut off")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{} {what}", items(count)))
            .collect();
        printer.note(&format!("{}, because {why}", left.join(" and ")));
    }
}

/// Returns how the rest of a batch that was cut short can be run.
pub(super) fn how_to_go_on(run: &RunId, summary: &Summary, config: &Config) -> String {
    let owner = summary.limit_owner.as_ref();
    if let Some(more) = owner.and_then(|owner| allowance::more(owner, config, SystemTime::now())) {
        return format!("what was paid for is kept; {more}; then run the rest with `agenthost resume {run}`");
    }
    let raised = match &summary.stop {
        Some(Stop::Limit(limit)) => match limit {
            LimitKind::Tokens | LimitKind::Cost | LimitKind::Calls | LimitKind::Fuel => {
                format!(" --run-{} MORE", limit.name())
            }
            _ => String::new(),
        },
        _ => String::new(),
    };
    format!("what was paid for is kept; run the rest with `agenthost resume {run}{raised}`")
}

/// Returns the document of `--json`.
pub(super) fn document(run: Option<&RunId>, summary: &Summary, all: u64) -> Value {
    json!({
        "format": REPORT_FORMAT,
        "run": run,
        "items": {
            "total": all,
            "ok": summary.ok,
            "failed": summary.failures(),
            "failed_by_class": summary.failed,
            "cut_off": summary.cut_off,
            "not_started": all.saturating_sub(summary.done()),
            "recorded": summary.recorded,
        },
        "failures": summary
            .frequent_messages(MESSAGES)
            .into_iter()
            .map(|(message, count)| json!({"message": message, "items": count}))
            .collect::<Vec<_>>(),
        "stopped": summary.stop.as_ref().filter(|_| cut_short(summary, all)).map(Stop::name),
        "limit_owner": summary.limit_owner,
        "tasks": summary.tasks,
        "spent": summary.spent,
        "models": summary.models,
    })
}

/// Returns whether a stop came before everything had ended by itself.
fn cut_short(summary: &Summary, all: u64) -> bool {
    summary.done() < all || summary.cut_off > 0
}

/// Returns 0 if every item has an output, else the code of the reason.
pub(super) fn exit_code(summary: &Summary, all: u64) -> u8 {
    match &summary.stop {
        Some(Stop::Interrupted) if cut_short(summary, all) => exit::INTERRUPTED,
        Some(Stop::Limit(_)) if cut_short(summary, all) => exit::EXHAUSTED,
        Some(Stop::KeyRefused(_)) if cut_short(summary, all) => exit::FAILED,
        _ if summary.failures() > 0 || summary.done() < all => exit::FAILED,
        _ => exit::DONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(ok: u64, failed: &[(&'static str, u64)], stop: Option<Stop>) -> Summary {
        let mut summary = Summary::default();
        summary.ok = ok;
        summary.failed = failed.iter().copied().collect();
        summary.stop = stop;
        summary
    }

    fn cut_off(ok: u64, cut_off: u64, stop: Stop) -> Summary {
        let mut summary = summary(ok, &[], Some(stop));
        summary.cut_off = cut_off;
        summary
    }

    #[test]
    fn the_exit_code_says_why_items_have_no_output() {
        for (summary, code) in [
            (summary(10, &[], None), 0),
            (summary(9, &[("failed", 1)], None), 1),
            (summary(9, &[("input", 1)], None), 1),
            (summary(2, &[("failed", 1)], Some(Stop::MaxFailures(1))), 1),
            (summary(2, &[], Some(Stop::Limit(LimitKind::Tokens))), 3),
            (cut_off(9, 1, Stop::Limit(LimitKind::Tokens)), 3),
            (summary(2, &[], Some(Stop::Interrupted)), 130),
            (cut_off(9, 1, Stop::Interrupted), 130),
            (cut_off(9, 1, Stop::KeyRefused("no".into())), 1),
            // They came when everything was done.
            (summary(10, &[], Some(Stop::Interrupted)), 0),
            (summary(10, &[], Some(Stop::Limit(LimitKind::Calls))), 0),
            (summary(9, &[("failed", 1)], Some(Stop::Interrupted)), 1),
        ] {
            assert_eq!(exit_code(&summary, 10), code, "{summary:?}");
        }
    }

    #[test]
    fn classes_are_named_where_they_say_more_than_failed() {
        let said = |failed: &[(&'static str, u64)]| classes(&summary(1, failed, None));
        assert_eq!(said(&[("failed", 2)]), "");
        assert_eq!(said(&[("trapped", 1)]), " (1 trapped)");
        assert_eq!(said(&[("failed", 1), ("trapped", 1)]), " (1 failed, 1 trapped)");
    }

    #[test]
    fn the_line_says_how_fast_it_goes_and_how_long_it_takes() {
        let mut summary = summary(18, &[("failed", 2)], None);
        (summary.workers, summary.running) = (8, 7);
        let line = |summary: &Summary, width| fit(parts(summary, 1_000, Duration::from_secs(10)), width);
        assert_eq!(
            line(&summary, 120),
            "--------------------  20/1,000  2 failed  2.0/s  8 min left  0 tokens  $0.00  7 of 8 workers"
        );
        assert_eq!(
            line(&summary, 60),
            "20/1,000  2 failed  2.0/s  8 min left  0 tokens  $0.00"
        );
        assert_eq!(line(&summary, 16), "20/1,000  $0.00");
        summary.recorded = 10;
        assert!(line(&summary, 120).contains("1.0/s  16 min left"));
        assert_eq!([100.0, 7_200.0].map(duration), ["2 min", "2.0 h"]);
    }
}
