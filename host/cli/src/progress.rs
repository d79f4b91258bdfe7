//! Progress on a terminal: a line for each live task, with its state, tokens and cost so far.
//!
//! Events change the state of the lines; a clock draws them, so that a flood of events costs no drawing and a time that
//! is left counts down by itself.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::style::ProgressTracker;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::output::counted;
use super::table;
use super::terminal::{Stream, moving, shortened, text_width};
use agenthost::RunHandle;
use agenthost::printable::one_line;
use agenthost::run::{Event, WaitReason};
use agenthost::task::TaskId;

/// The time between two drawings.
const TICK: Duration = Duration::from_millis(120);
const FRAMES: [&str; 4] = ["|", "/", "-", "\\"];
/// The columns and rows of a terminal that does not report them.
const SIZE: (usize, usize) = (80, 24);
/// The columns that a flexible part keeps before other parts are left out.
const FLEXIBLE: usize = 24;

/// The text of lines that move, computed for each drawing.
pub(super) trait Lines: Send + 'static {
    /// Returns at most `rows` lines of at most `width` columns.
    fn lines(&self, width: usize, rows: usize) -> Vec<String>;
}

/// Lines that move at the bottom of the terminal until this is dropped; none with `--quiet` or if stderr is not a
/// terminal.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    watcher: Option<tokio::task::JoinHandle<()>>,
}

impl Progress {
    /// Shows the lines of `shared`.
    pub(super) fn draw<L: Lines>(shared: &Arc<Mutex<L>>) -> Self {
        let drawn = Drawn {
            lines: shared.clone(),
            since: Instant::now(),
        };
        let bar = (!moving().is_hidden()).then(|| {
            let bar = moving().add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{lines}") {
                bar.set_style(style.with_key("lines", drawn));
            }
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { bar, watcher: None }
    }

    /// Shows one line with a text.
    pub(super) fn waiting(text: &str) -> Self {
        let text = Text(one_line(text).into_owned(), Instant::now());
        Self::draw(&Arc::new(Mutex::new(text)))
    }

    /// Shows a line for each live task of `run`.
    pub(super) fn watch(run: &RunHandle) -> Self {
        let tasks = Arc::new(Mutex::new(Tasks::default()));
        let mut progress = Self::draw(&tasks);
        if progress.bar.is_some() {
            let mut events = run.events();
            progress.watcher = Some(tokio::spawn(async move {
                while let Some(event) = events.next().await {
                    // If there were too many events to read all, the next ones update the lines.
                    if let Ok(event) = event {
                        lock(&tasks).take(event);
                    }
                }
            }));
        }
        progress
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
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            moving().remove(bar);
        }
    }
}

pub(super) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under this lock leaves lines that the next event corrects.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Draws lines for the size that the terminal has at that time.
struct Drawn<L> {
    lines: Arc<Mutex<L>>,
    since: Instant,
}

impl<L: Lines> ProgressTracker for Drawn<L> {
    fn clone_box(&self) -> Box<dyn ProgressTracker> {
        Box::new(Self {
            lines: self.lines.clone(),
            since: self.since,
        })
    }

    fn tick(&mut self, _: &ProgressState, _: Instant) {}

    fn reset(&mut self, _: &ProgressState, _: Instant) {}

    fn write(&self, _: &ProgressState, to: &mut dyn fmt::Write) {
        let (columns, rows) = Stream::Stderr.size().unwrap_or(SIZE);
        let frame = self.since.elapsed().as_millis() / TICK.as_millis();
        let frame = FRAMES.get(frame as usize % FRAMES.len()).unwrap_or(&"-");
        // The last column stays free: some terminals go to the next line when it is written.
        let lines = lock(&self.lines).lines(columns.saturating_sub(3), rows.saturating_sub(1));
        for (at, line) in lines.iter().enumerate() {
            let (end, first) = if at == 0 { ("", *frame) } else { ("\n", " ") };
            let _ = write!(to, "{end}{first} {line}");
        }
    }
}

/// A part of a line.
#[derive(Debug, Clone)]
pub(super) struct Part {
    text: String,
    /// Parts of lower ranks are left out first.
    rank: u8,
    /// `true` if the part may be cut.
    flexible: bool,
}

impl Part {
    /// Creates a part that is shown as a whole or not at all.
    pub(super) fn whole(rank: u8, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            rank,
            flexible: false,
        }
    }

    /// Creates a part that is cut before others are left out.
    pub(super) fn flexible(rank: u8, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            rank,
            flexible: true,
        }
    }

    fn least(&self) -> usize {
        let width = text_width(&self.text);
        if self.flexible { width.min(FLEXIBLE) } else { width }
    }
}

/// Returns the parts on one line of at most `width` columns.
pub(super) fn fit(parts: Vec<Part>, width: usize) -> String {
    let mut parts: Vec<Part> = parts.into_iter().filter(|part| !part.text.is_empty()).collect();
    let gaps = |parts: &[Part]| 2 * parts.len().saturating_sub(1);
    let least = |parts: &[Part]| parts.iter().map(Part::least).sum::<usize>() + gaps(parts);
    while parts.len() > 1 && least(&parts) > width {
        let lowest = parts.iter().map(|part| part.rank).min();
        let at = parts.iter().position(|part| Some(part.rank) == lowest).unwrap_or(0);
        parts.remove(at);
    }
    let mut spare = width.saturating_sub(least(&parts));
    let texts = parts.iter().map(|part| {
        let least = part.least();
        let given = (text_width(&part.text) - least).min(spare);
        spare -= given;
        shortened(&part.text, (least + given).min(width))
    });
    texts.collect::<Vec<_>>().join("  ")
}

/// A text, with the time for which it is shown.
struct Text(String, Instant);

impl Lines for Text {
    fn lines(&self, width: usize, _: usize) -> Vec<String> {
        vec![fit(
            vec![Part::flexible(1, &*self.0), Part::whole(0, seconds(self.1.elapsed()))],
            width,
        )]
    }
}

/// Formats the time for which something has lasted: `7 s`, `2 min 5 s`.
pub(super) fn seconds(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds => table::time(seconds * 1_000),
    }
}

/// The live tasks of a run, in the order of the tree.
#[derive(Default)]
struct Tasks(BTreeMap<Vec<u32>, Live>);

struct Live {
    task: String,
    plugin: String,
    doing: Doing,
    spent: Vec<Part>,
    since: Instant,
    sub_tasks: u64,
    ended: u64,
}

/// The present state of a task.
enum Doing {
    /// It does nothing that is known.
    Idle(&'static str),
    /// As its text says.
    Text(String),
    /// It waits until this time, if that is known.
    Waiting(String, Option<Instant>),
}

impl Live {
    fn new(task: &TaskId) -> Self {
        Self {
            task: task.to_string(),
            plugin: String::new(),
            doing: Doing::Idle("started"),
            spent: Vec::new(),
            since: Instant::now(),
            sub_tasks: 0,
            ended: 0,
        }
    }

    fn words(&self) -> String {
        let live = self.sub_tasks.saturating_sub(self.ended);
        match &self.doing {
            Doing::Waiting(reason, until) => next_try(reason, *until),
            Doing::Idle(_) if live > 0 => format!("waiting for {live} of {}", counted(self.sub_tasks, "sub-tasks")),
            Doing::Idle(text) => (*text).to_owned(),
            Doing::Text(text) => text.clone(),
        }
    }

    fn line(&self, depth: usize, width: usize) -> String {
        let mut parts = vec![
            Part::whole(6, format!("{}{}", "  ".repeat(depth), self.task)),
            Part::flexible(2, &*self.plugin),
            Part::flexible(5, one_line(&self.words())),
        ];
        parts.extend(self.spent.iter().cloned());
        parts.push(Part::whole(3, seconds(self.since.elapsed())));
        fit(parts, width)
    }
}

impl Tasks {
    fn take(&mut self, event: Event) {
        let task = event.task();
        let place = task.order();
        if let Event::Ended { .. } = event {
            self.0.remove(&place);
            if let Some(parent) = self.parent(&place) {
                parent.ended += 1;
            }
            return;
        }
        if !self.0.contains_key(&place) {
            self.0.insert(place.clone(), Live::new(task));
            if let Some(parent) = self.parent(&place) {
                parent.sub_tasks += 1;
            }
        }
        let Some(live) = self.0.get_mut(&place) else { return };
        match event {
            Event::Started { plugin, .. } => live.plugin = one_line(&plugin).into_owned(),
            Event::Progress {
                done, total, message, ..
            } => {
                let total = total.map(|total| format!("/{total}")).unwrap_or_default();
                live.doing = Doing::Text(format!("{done}{total} {message}"));
            }
            Event::CallWaiting { reason, wait, .. } => {
                live.doing = Doing::Waiting(
                    format!("waiting{}", words(reason)),
                    wait.map(|wait| Instant::now() + wait),
                );
            }
            Event::CallSent { model, .. } => live.doing = Doing::Text(format!("asking {model}")),
            Event::CallRetried { error, wait, .. } => {
                live.doing = Doing::Waiting(format!("waiting: {error}"), Some(Instant::now() + wait));
            }
            Event::CallSettled { spent, error, .. } => {
                let tokens = spent.input_tokens.saturating_add(spent.output_tokens);
                let cost = spent
                    .known_cost()
                    .map_or_else(|| "cost unknown".into(), |cost| cost.to_string());
                live.spent = vec![
                    Part::whole(0, counted(spent.calls, "calls")),
                    Part::whole(1, counted(tokens, "tokens")),
                    Part::whole(7, cost),
                ];
                live.doing = error.map_or(Doing::Idle("computing"), Doing::Text);
            }
            _ => {}
        }
    }

    fn parent(&mut self, place: &[u32]) -> Option<&mut Live> {
        let (_, parent) = place.split_last()?;
        self.0.get_mut(parent)
    }
}

impl Lines for Tasks {
    fn lines(&self, width: usize, rows: usize) -> Vec<String> {
        let all = self.0.len();
        let shown = if all > rows { rows.saturating_sub(1) } else { all };
        let tasks = self.0.iter().take(shown);
        let mut lines: Vec<_> = tasks.map(|(place, live)| live.line(place.len(), width)).collect();
        if shown < all {
            lines.push(format!("and {}", counted((all - shown) as u64, "more tasks")));
        }
        lines
    }
}

/// Returns the reason for a wait, with the time that is left of it if its end is known.
pub(super) fn next_try(reason: &str, until: Option<Instant>) -> String {
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    match left.map(|left| left.as_secs_f64().ceil() as u64) {
        Some(left @ 1..) => format!("{reason}, next try in {}", seconds(Duration::from_secs(left))),
        _ => reason.to_owned(),
    }
}

/// Returns the words that follow `waiting`.
pub(super) fn words(reason: WaitReason) -> &'static str {
    match reason {
        WaitReason::Requests => ": rate limit of requests",
        WaitReason::Tokens => ": rate limit of tokens",
        WaitReason::InputTokens => ": rate limit of input tokens",
        WaitReason::OutputTokens => ": rate limit of output tokens",
        WaitReason::RetryAfter => ": overloaded",
        WaitReason::Outage => ": server unreachable",
        WaitReason::Concurrency => " for other requests",
        WaitReason::Prefix => " for a shared prefix",
        WaitReason::Budget => " for budget",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost::limits::Spent;

    #[test]
    fn the_cost_is_the_last_part_to_go_and_no_number_is_cut() {
        let parts = || {
            vec![
                Part::whole(6, "root/12"),
                Part::flexible(2, "demo:competitor@0.1.0"),
                Part::flexible(5, "waiting: rate limit of requests, next try in 17 s"),
                Part::whole(0, "12 calls"),
                Part::whole(1, "1,234,567 tokens"),
                Part::whole(7, "$0.0123"),
                Part::whole(3, "12 s"),
            ]
        };
        for width in 0..140 {
            let line = fit(parts(), width);
            assert!(text_width(&line) <= width, "{width}: {line}");
            assert!(width < 7 || line.contains("$0.0123"), "{width}: {line}");
            let words = line.split([' ', '…']);
            let numbers = words.filter(|word| word.contains(|c: char| c.is_ascii_digit()) && !word.contains('@'));
            for number in numbers {
                let whole = ["root/12", "12", "1,234,567", "$0.0123", "17"];
                assert!(whole.contains(&number), "{width}: {number} in {line}");
            }
        }
        assert_eq!(
            fit(parts(), 78),
            "root/12  demo:competitor@0.1.0  waiting: rate limit of request…  $0.0123  12 s"
        );
    }

    fn task(place: &str) -> TaskId {
        TaskId::recorded(place)
    }

    #[test]
    fn a_task_says_why_it_waits_and_until_when() {
        let mut tasks = Tasks::default();
        let started = |place: &str| Event::Started {
            task: task(place),
            plugin: "demo:scan@0.1.0".into(),
        };
        for place in ["root", "root/2", "root/10", "root/0"] {
            tasks.take(started(place));
        }
        let waiting = |reason, wait| Event::CallWaiting {
            task: task("root/0"),
            model: "local/small".into(),
            reason,
            wait,
        };
        tasks.take(waiting(WaitReason::RetryAfter, Some(Duration::from_secs(7))));
        tasks.take(Event::CallSettled {
            task: task("root/2"),
            spent: Spent::default(),
            error: None,
        });
        let lines = tasks.lines(100, 10);
        assert!(lines[0].contains("waiting for 3 of 3 sub-tasks"), "{lines:#?}");
        assert!(
            lines[1].contains("root/0") && lines[1].contains("waiting: overloaded, next try in 7 s"),
            "{lines:#?}"
        );
        assert!(lines[2].contains("root/2") && lines[2].contains("$"), "{lines:#?}");
        assert!(lines[3].contains("root/10"), "{lines:#?}");
        tasks.take(waiting(WaitReason::Budget, None));
        assert!(tasks.lines(100, 10)[1].contains("waiting for budget"));
        let few = tasks.lines(100, 3);
        assert_eq!((few.len(), few[2].as_str()), (3, "and 2 more tasks"));
    }
}
