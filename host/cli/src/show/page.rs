//! The page of `show`: the head, the tree, the timeline, and the gain from concurrency.

use super::super::output::counted;
use super::super::recorded::{Task, Used, short};
use super::super::table::{self, Column, count};
use super::super::terminal::{Styled, indented, shortened};
use super::detail::detail;
use super::shown::Shown;
use super::timeline::{self, Bar};
use agenthost::journal::{DocumentAccess, DocumentAction, RunKind};
use agenthost::printable::one_line;
use agenthost::run::ModelReport;

/// The most characters of a branch's name in the tree.
const NAME: usize = 24;
/// The most rows of the tree without `--all`.
const ROWS: usize = 50;
/// The most failed tasks of a batch that are listed without `--all`.
const FAILED: usize = 20;
/// The most bars of the timeline without `--all`.
const BARS: usize = 40;

pub(super) fn page(shown: &Shown<'_>, all: bool, now: u64, width: usize) -> Styled {
    let most = |some: usize| if all { usize::MAX } else { some };
    let mut parts = Vec::new();
    if let Some(one) = &shown.one {
        parts.push(detail(one));
    }
    parts.push(match shown.run.record.kind {
        RunKind::Batch if shown.one.is_none() && !all => batch(shown, width),
        _ => tree(shown, most(ROWS), width),
    });
    if !shown.memory.is_empty() {
        parts.push(memory(shown, most(ROWS), width));
    }
    let bars = bars(shown, most(BARS));
    let lines = timeline::draw(&bars, most(BARS), width);
    if !lines.is_empty() {
        parts.push(lines);
    }
    let unanswered = shown.calls.iter().filter(|call| call.ended_ms.is_none()).count();
    if unanswered > 0 {
        let requests = counted(unanswered as u64, "requests");
        parts.push(format!("{requests} without an answer in the journal"));
    }
    let gain = shown.parallel.words();
    if !gain.is_empty() {
        parts.push(gain);
    }
    let mut page = head(shown, now);
    for part in parts {
        page.push(format!("\n\n{part}"));
    }
    page
}

fn head(shown: &Shown<'_>, now: u64) -> Styled {
    let (run, record) = (&shown.run, shown.run.record);
    let mut rows = vec![
        ("run", format!("{} ({})", record.id, run.state_words())),
        ("plugin", format!("{}, digest {}", record.plugin, short(&record.digest))),
        (
            "started",
            format!(
                "{} UTC, {}",
                table::utc(record.started_ms),
                table::ago(now.saturating_sub(record.started_ms))
            ),
        ),
    ];
    if let Some(schedule) = run.schedule() {
        rows.push(("schedule", schedule.to_owned()));
    }
    if let Some(wall) = run.wall_ms {
        rows.push(("took", table::time(wall)));
    }
    if let Some(used) = &run.used {
        let until = if record.end.is_none() {
            " by the tasks that have ended"
        } else {
            ""
        };
        rows.push((
            "spent",
            format!(
                "{} tokens in ({} cached), {} out, {}, cost {}{until}",
                count(used.input_tokens),
                count(used.cached_input_tokens),
                count(used.output_tokens),
                counted(used.calls, "calls"),
                used.cost()
            ),
        ));
    }
    if let Some(failure) = run.failure() {
        rows.push(("failure", failure.to_string()));
    }
    if let Some(stopped) = run.stopped() {
        let why = match stopped.message.as_str() {
            "" => &stopped.reason,
            message => message,
        };
        rows.push(("stopped", format!("because {}", one_line(why))));
    }
    if let Some(command) = run.how_to_go_on() {
        rows.push(("go on", command));
    }
    for model in run.summary().iter().flat_map(|summary| &summary.models) {
        rows.push(("model", model_line(model)));
    }
    let mut page = Styled::default();
    for (at, (name, value)) in rows.iter().enumerate() {
        let end = if at == 0 { "" } else { "\n" };
        page.push(end)
            .bold(format!("{name:<8}"))
            .push(format!(" {}", indented(value, 9)));
    }
    page
}

/// Returns a line such as `fast = local/small: 3 calls, 4 requests, 1 retry, …`, without zero counts.
fn model_line(model: &ModelReport) -> String {
    let mut parts = vec![format!(
        "{}, {}",
        counted(model.calls, "calls"),
        counted(model.requests, "requests")
    )];
    for (number, words) in [
        (model.retries, "retries"),
        (model.repairs, "repairs"),
        (model.hedges, "hedges"),
        (model.warmed, "sent ahead to warm a prefix"),
        (model.searches, "searches"),
    ] {
        if number > 0 {
            parts.push(counted(number, words));
        }
    }
    if model.abandoned.requests > 0 {
        parts.push(format!("{} given up", count(model.abandoned.requests)));
    }
    if model.waited_ms > 0 {
        parts.push(format!("{} waited in all", table::time(model.waited_ms)));
    }
    if model.offline {
        parts.push("made up offline".into());
    }
    format!("{} = {}: {}", model.name, model.model, parts.join(", "))
}

fn tree(shown: &Shown<'_>, most: usize, width: usize) -> String {
    let top = shown.tasks.first().map_or(0, Task::depth);
    let rows = shown.tasks.iter().take(most).map(|task| {
        let indent = "  ".repeat(task.depth().saturating_sub(top));
        let name = task.name.as_deref().map(|name| shortened(&one_line(name), NAME));
        let name = name.map(|name| format!(" {name}")).unwrap_or_default();
        row(task, format!("{indent}{}{name}", task.id))
    });
    let mut text = table(rows, width);
    let more = shown.left_out + shown.tasks.len().saturating_sub(most) as u64;
    if more > 0 {
        text.push_str(&format!("\n… and {} more (--all shows them)", count(more)));
    }
    text
}

fn batch(shown: &Shown<'_>, width: usize) -> String {
    let classes = shown.classes.iter();
    let classes = classes.map(|(class, n)| format!("{} {}", count(*n), one_line(class)));
    let mut text = format!("tasks: {}", classes.collect::<Vec<_>>().join(", "));
    let failed: Vec<_> = shown.tasks.iter().filter(|task| task.class() != "ok").collect();
    if !failed.is_empty() {
        let rows = failed.iter().take(FAILED).map(|task| row(task, task.id.clone()));
        text.push_str(&format!("\n\n{}", table(rows, width)));
    }
    if failed.len() > FAILED {
        text.push_str(&format!(
            "\n… and {} more (--all shows them)",
            count((failed.len() - FAILED) as u64)
        ));
    }
    text
}

/// Returns what the tasks did with documents.
fn memory(shown: &Shown<'_>, most: usize, width: usize) -> String {
    use Column::{Cut, Left, Right};
    let head = ["TASK", "MEMORY", "DOCUMENT", "BYTES", "RESULT"]
        .map(str::to_owned)
        .to_vec();
    let row = |access: &DocumentAccess| {
        let name = access.name.as_deref().unwrap_or("not kept");
        let name = match access.action {
            DocumentAction::List => format!("{name}*"),
            _ => name.to_owned(),
        };
        let result = match &access.error {
            Some(error) => error.to_string(),
            None if access.is_missing => "no such document".to_owned(),
            None => String::new(),
        };
        let action = access.action.name().to_owned();
        vec![access.task.clone(), action, name, count(access.bytes), result]
    };
    let rows = shown.memory.iter().take(most).map(row);
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let mut text = table::columns(&[Left, Left, Left, Right, Cut], &rows, Some(width));
    let more = shown.memory.len().saturating_sub(most) as u64;
    if more > 0 {
        text.push_str(&format!("\n… and {} more (--all shows them)", count(more)));
    }
    text
}

fn row(task: &Task, name: String) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let used = task.used.as_ref();
    vec![
        name,
        task.plugin.clone(),
        task.words(),
        or_dash(task.wall_ms().map(table::time)),
        or_dash(used.map(|used| count(used.tokens()))),
        or_dash(used.map(Used::cost)),
        task.message(),
    ]
}

fn table(rows: impl Iterator<Item = Vec<String>>, width: usize) -> String {
    use Column::{Cut, Left, Right};
    let head = ["TASK", "PLUGIN", "OUTCOME", "TIME", "TOKENS", "COST", "WHY"];
    let rows: Vec<_> = [head.map(str::to_owned).to_vec()].into_iter().chain(rows).collect();
    table::columns(&[Left, Left, Left, Right, Right, Right, Cut], &rows, Some(width))
}

/// Returns a bar for each request, or for each task if there are more requests than `most`.
fn bars(shown: &Shown<'_>, most: usize) -> Vec<Bar> {
    if !shown.calls.is_empty() && shown.calls.len() <= most {
        let bar = |call: &agenthost::journal::CallSpan| Bar {
            label: format!("{} #{} {}", call.task, call.ask, call.model),
            from: call.sent_ms,
            to: call.ended_ms,
        };
        return shown.calls.iter().map(bar).collect();
    }
    let bar = |task: &Task| Bar {
        label: format!("{} {}", task.id, task.plugin),
        from: task.started_ms,
        to: task.ended_ms,
    };
    shown.tasks.iter().map(bar).collect()
}
