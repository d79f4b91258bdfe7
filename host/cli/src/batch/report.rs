//! The output of a batch: the moving line, the summary for people, the document, the exit code.

use std::process::ExitCode;
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
use agenthost::limits::{LimitKind, LimitOwner};
use agenthost::printable::one_line;
use agenthost::run::{ModelReport, REPORT_FORMAT, RunId};
use agenthost::task::FailureClass;

/// The width of the bar.
const BAR: usize = 20;

/// The most messages of failures that the summary shows.
const MESSAGES: usize = 5;

/// The time between two lines about a wait of the whole batch, without a terminal.
const WAITS_SHOWN: Duration = Duration::from_mins(1);

/// The moving line, unless `--quiet` is given or stderr is not a terminal. Without a terminal, a line a minute while all
/// running items wait.
pub(super) struct ProgressLine {
    line: Arc<Mutex<Line>>,
    _progress: Progress,
    items: u64,
    reporter: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if let Some(reporter) = &self.reporter {
            reporter.abort();
        }
    }
}

struct Line {
    parts: Vec<Part>,
    started: Instant,
    waits: BatchWaits,
}

impl ProgressLine {
    pub(super) fn new(items: u64, waits: BatchWaits, printer: &Printer) -> Self {
        let reporter = (!printer.moves()).then(|| tokio::spawn(report_waits(waits.clone(), printer.clone())));
        let line = Arc::new(Mutex::new(Line {
            parts: vec![Part::whole(9, format!("0/{}", table::count(items)))],
            started: Instant::now(),
            waits,
        }));
        let progress = Progress::draw(&line);
        Self {
            line,
            _progress: progress,
            items,
            reporter,
        }
    }

    pub(super) fn show(&self, summary: &Summary) {
        let mut line = lock(&self.line);
        line.parts = parts(summary, self.items, line.started.elapsed());
    }

    /// Removes the line.
    pub(super) fn finish(self) {
        drop(self);
    }
}

/// Prints a line a minute while all running items wait.
async fn report_waits(waits: BatchWaits, printer: Printer) {
    loop {
        tokio::time::sleep(WAITS_SHOWN).await;
        if let Some(wait) = waiting(&waits) {
            printer.say(&wait);
        }
    }
}

/// Returns words such as `waiting: overloaded, next try in 7 s` if all running items wait.
fn waiting(waits: &BatchWaits) -> Option<String> {
    let wait = waits.all()?;
    let reason = format!("waiting{}", wait.reason.map_or("", words));
    Some(next_try(&reason, wait.until))
}

impl Lines for Line {
    fn lines(&self, width: usize, _: usize) -> Vec<String> {
        let mut parts = self.parts.clone();
        parts.push(Part::whole(2, seconds(self.started.elapsed())));
        if let Some(wait) = waiting(&self.waits) {
            parts.push(Part::whole(6, wait));
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
    let rate = match summary.rate(spent.wall) {
        rate if rate > 0.0 => format!(", {rate:.1} items/s"),
        _ => String::new(),
    };
    printer.say(&format!(
        "{run}{counts}; {}, {} tokens in, {} out, {}, {}{rate}",
        counted(spent.calls, "calls"),
        table::count(spent.input_tokens),
        table::count(spent.output_tokens),
        cost(summary),
        table::time(u64::try_from(spent.wall.as_millis()).unwrap_or(u64::MAX)),
    ));
    let frequent = summary.frequent_messages(MESSAGES);
    // A list of failures of which each came once shows nothing about the others.
    if summary.failures() == 1 || frequent.iter().any(|(_, count)| *count > 1) {
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
    if let Some(given_up) = given_up(&summary.models) {
        printer.note(&given_up);
    }
}

/// Describes the requests that were sent and given up, which are paid for, if there are any.
fn given_up(models: &[ModelReport]) -> Option<String> {
    let of = |count: fn(&ModelReport) -> u64| models.iter().map(count).fold(0, u64::saturating_add);
    let requests = of(|model| model.abandoned.requests);
    let tokens = of(|model| model.abandoned.at_most_tokens);
    let was = if requests == 1 { "was" } else { "were" };
    (requests > 0).then(|| {
        format!(
            "{} in flight {was} given up, counted as {}",
            counted(requests, "calls"),
            counted(tokens, "tokens")
        )
    })
}

/// Prints why a batch was cut short, as an error with `how_to_go_on` as its hint. An interruption is only noted.
pub(super) fn say_why(summary: &Summary, all: u64, printer: &Printer, how_to_go_on: impl FnOnce() -> Option<String>) {
    let stop = match &summary.stop {
        Some(Stop::Failed(_)) | None => return,
        Some(stop) if cut_short(summary, all) => stop,
        Some(_) => return,
    };
    let mut why = stop.clause(summary.limit_owner.as_ref());
    if let Stop::MaxFailures(most) = stop {
        why.push_str(&format!(" (--max-failures {most})"));
    }
    let not_started = all.saturating_sub(summary.done());
    let left: Vec<_> = [(not_started, "not started"), (summary.cut_off, "cut off")]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", items(count)))
        .collect();
    let why = format!("{}, because {why}", left.join(" and "));
    match (stop, how_to_go_on()) {
        (Stop::Interrupted, how) => {
            printer.note(&why);
            how.iter().for_each(|how| printer.note(how));
        }
        (_, how) => printer.problem(&why, how.as_deref()),
    }
}

/// Returns how the rest of a batch that was cut short can be run.
pub(super) fn how_to_go_on(run: &RunId, summary: &Summary, config: &Config) -> String {
    let spent = &summary.spent;
    let kept = match spent.input_tokens == 0 && spent.output_tokens == 0 && summary.ok == 0 {
        true => "nothing was paid",
        false => "what was paid for is kept",
    };
    let owner = summary.limit_owner.as_ref();
    if let Some(more) = owner.and_then(|owner| allowance::more(owner, config, SystemTime::now())) {
        return format!("{kept}; {more}; then run the rest with `agenthost resume {run}`");
    }
    let raised = match &summary.stop {
        Some(Stop::Limit(limit)) => raised(*limit),
        _ => String::new(),
    };
    format!("{kept}; run the rest with `agenthost resume {run}{raised}`")
}

/// Returns the flag of `resume` that raises a limit on all items together, or nothing if there is none.
pub(crate) fn raised(limit: LimitKind) -> String {
    match limit {
        LimitKind::Tokens | LimitKind::Cost | LimitKind::Calls | LimitKind::Fuel => {
            format!(" --run-{} MORE", limit.name())
        }
        _ => String::new(),
    }
}

/// Prints how to run the items again that failed because of the model, if there are any.
pub(super) fn note_repeatable(run: &RunId, summary: &Summary, printer: &Printer) {
    match summary.failed.get(FailureClass::Model.name()) {
        None | Some(0) => {}
        Some(1) => printer.note(&format!(
            "1 item failed because of the model; `agenthost resume {run}` runs it again"
        )),
        Some(count) => printer.note(&format!(
            "{} failed because of the model; `agenthost resume {run}` runs them again",
            items(*count)
        )),
    }
}

/// Refuses a batch of which the allowance allows nothing, and returns its exit code.
pub(super) fn refuse_used_up(owner: &LimitOwner, config: &Config, printer: &Printer) -> ExitCode {
    let more = allowance::more(owner, config, SystemTime::now()).unwrap_or_default();
    printer.exhausted(
        &format!("{owner} is used up, so nothing was started"),
        &format!("To go on, {more}; then run it again."),
    )
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
