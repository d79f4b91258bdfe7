//! Progress on a terminal: a line for each live task, with tokens and cost so far.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::output::{Printer, counted};
use agenthost::RunHandle;
use agenthost::printable::one_line;
use agenthost::run::Event;

/// Moving lines until [`Progress::finish`], or nothing with `--quiet` or if stderr is not a terminal.
pub(super) struct Progress {
    lines: Option<MultiProgress>,
    watcher: Option<tokio::task::JoinHandle<()>>,
}

impl Progress {
    /// Shows one line with a text.
    pub(super) fn waiting(text: &str, printer: &Printer) -> Self {
        let lines = printer.moves().then(MultiProgress::new);
        if let Some(lines) = &lines {
            line(lines).set_message(one_line(text).into_owned());
        }
        Self { lines, watcher: None }
    }

    /// Shows a line for each live task of `run`.
    pub(super) fn watch(run: &RunHandle, printer: &Printer) -> Self {
        let Some(lines) = printer.moves().then(MultiProgress::new) else {
            return Self {
                lines: None,
                watcher: None,
            };
        };
        let mut events = run.events();
        let shown = lines.clone();
        let watcher = tokio::spawn(async move {
            let mut tasks = BTreeMap::new();
            while let Some(event) = events.next().await {
                // If there were too many events to show all, the next ones update the lines.
                if let Ok(event) = event {
                    show(&shown, &mut tasks, event);
                }
            }
        });
        Self {
            lines: Some(lines),
            watcher: Some(watcher),
        }
    }

    /// Removes the lines.
    pub(super) fn finish(self) {
        drop(self);
    }
}

/// Removes the lines however a command ends, so that no half-drawn line stays on the terminal.
impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(watcher) = &self.watcher {
            watcher.abort();
        }
        if let Some(lines) = &self.lines {
            // The terminal may be gone; the run's result is still there.
            let _ = lines.clear();
        }
    }
}

struct Live {
    bar: ProgressBar,
    plugin: String,
    words: String,
    spent: String,
}

impl Live {
    fn new(lines: &MultiProgress) -> Self {
        Self {
            bar: line(lines),
            plugin: String::new(),
            words: "started".into(),
            spent: String::new(),
        }
    }
}

fn show(lines: &MultiProgress, tasks: &mut BTreeMap<String, Live>, event: Event) {
    let task = event.task().to_string();
    if let Event::Ended { .. } = event {
        if let Some(live) = tasks.remove(&task) {
            live.bar.finish_and_clear();
        }
        return;
    }
    let live = tasks.entry(task.clone()).or_insert_with(|| Live::new(lines));
    match event {
        Event::Started { plugin, .. } => live.plugin = plugin,
        Event::Progress {
            done, total, message, ..
        } => {
            let total = total.map(|total| format!("/{total}")).unwrap_or_default();
            live.words = format!("{done}{total} {message}");
        }
        Event::CallSent { model, .. } => live.words = format!("asking {model}"),
        Event::CallRetried { model, error, wait, .. } => {
            live.words = format!("{model} again in {:.1} s: {error}", wait.as_secs_f64());
        }
        Event::CallSettled { spent, error, .. } => {
            let tokens = spent.input_tokens.saturating_add(spent.output_tokens);
            let cost = spent
                .known_cost()
                .map_or_else(|| "cost unknown".into(), |cost| cost.to_string());
            let calls = counted(spent.calls, "calls");
            live.spent = format!("  {calls}  {tokens} tokens  {cost}");
            if let Some(error) = error {
                live.words = error;
            }
        }
        _ => {}
    }
    // The tree, by its depth: a sub-task is indented further than its parent.
    let indent = "  ".repeat(task.matches('/').count());
    let text = format!("{indent}{task}  {}{}  {}", live.plugin, live.spent, live.words);
    live.bar.set_message(one_line(&text).into_owned());
}

fn line(lines: &MultiProgress) -> ProgressBar {
    let bar = lines.add(ProgressBar::new_spinner());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
