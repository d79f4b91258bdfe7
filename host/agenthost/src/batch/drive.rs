//! The loop of a batch: start tasks, collect their results, write them in order.
//!
//! New tasks are started while fewer run than there are workers and fewer than [`window`] are started and not written:
//! a task that never ends holds back the others in the end, and memory stays bounded. The loop ends when all tasks have
//! ended, or stops before: after a number of failures, at a limit on the sum of all tasks, at a key that a provider
//! refuses, at a fault of the host, on interruption, and when the results cannot be written. Tasks that run at that moment
//! are awaited and written if possible, since they are paid for. A stop is about new work only: tasks whose outcomes are
//! recorded are still taken over and written, so that a resumed batch never has fewer results than before.
//!
//! Nothing is written before the first item has an outcome of its own. A batch that stops before leaves the output as it
//! was.
//!
//! Left out: cancelling running tasks, which is up to the [`Runner`], and time, except for the duration of the whole.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::Instant;

use super::output::{Layout, Output, Record, records};
use super::tasks::Task;
use super::workers::Workers;
use super::{ItemEnd, Runner};
use crate::cancellation::Cancellation;
use agenthost_core::error::{Error, Result, with_causes};
use agenthost_core::limits::{LimitKind, LimitOwner, Spent};
use agenthost_core::printable::one_line;
use agenthost_core::run::ModelReport;
use agenthost_core::task::{FailureClass, TaskId};

/// The settings of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The number of tasks that run at once.
    pub workers: Workers,
    /// The number of failed items after which no further task is started.
    pub max_failures: Option<u64>,
    /// The way in which outputs are split into items.
    pub layout: Layout,
}

/// Returns the most tasks that may be started and not yet written, for a number of workers.
///
/// ```
/// assert_eq!(agenthost::batch::drive::window(4), 80);
/// ```
pub fn window(workers: u32) -> u64 {
    u64::from(workers) * 4 + 64
}

/// The reason why a batch stopped before its end.
#[derive(Debug)]
pub enum Stop {
    /// This number of items failed.
    MaxFailures(u64),
    /// The sum of all tasks reached this limit.
    Limit(LimitKind),
    /// A provider refused the key; the text has its error.
    KeyRefused(String),
    /// The caller canceled it.
    Interrupted,
    /// The items could not be read, the results could not be written, or the host failed.
    Failed(Error),
}

impl Stop {
    /// Returns the reason as it appears in JSON output.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MaxFailures(_) => "max-failures",
            Self::Limit(_) => "limit",
            Self::KeyRefused(_) => "key-refused",
            Self::Interrupted => "interrupted",
            Self::Failed(_) => "error",
        }
    }

    /// Returns the reason as a clause for people. `owner` is [`Summary::limit_owner`].
    ///
    /// ```
    /// use agenthost::LimitKind;
    /// use agenthost::batch::drive::Stop;
    ///
    /// let stop = Stop::Limit(LimitKind::Calls);
    /// assert_eq!(stop.clause(None), "the limit of model calls of all items together is reached");
    /// ```
    pub fn clause(&self, owner: Option<&LimitOwner>) -> String {
        match (self, owner) {
            (Self::MaxFailures(1), _) => "1 item had failed".to_owned(),
            (Self::MaxFailures(most), _) => format!("{most} items had failed"),
            (Self::Limit(_), Some(owner)) => format!("{owner} is used up"),
            (Self::Limit(limit), None) => format!("the limit of {} of all items together is reached", limit.words()),
            (Self::KeyRefused(refusal), _) => format!("a key was refused: {}", one_line(refusal)),
            (Self::Interrupted, _) => "it was interrupted".to_owned(),
            (Self::Failed(error), _) => with_causes(error),
        }
    }
}

/// The state of a batch at some time.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Summary {
    /// The number of items with an output.
    pub ok: u64,
    /// The number of items without an output, by the class of their failure.
    pub failed: BTreeMap<&'static str, u64>,
    /// The first lines of the messages of failures, up to 300 characters of each, with the number of items that have each.
    /// Only the first 200 different ones are counted.
    pub messages: BTreeMap<String, u64>,
    /// The number of items that were cut off because the batch stopped: at a limit on the sum of all tasks, at a key
    /// that a provider refused, at a fault of the host, or because it was canceled. They did not fail, and a resumed batch runs them again.
    pub cut_off: u64,
    /// The number of items whose outcome was recorded before. The other counts include them.
    pub recorded: u64,
    /// The number of tasks, sub-tasks included.
    pub tasks: u64,
    /// The resources that all of them used. For outcomes that were recorded before, this includes everything but the
    /// time.
    pub spent: Spent,
    /// The use of each model.
    pub models: Vec<ModelReport>,
    /// The number of tasks that may run at once.
    pub workers: u32,
    /// The number of running tasks.
    pub running: usize,
    /// The reason why it stopped before its end, if it did.
    pub stop: Option<Stop>,
    /// The setting of `[allowance]` that is the limit of [`Stop::Limit`]; `None` for a limit on the batch itself.
    pub limit_owner: Option<LimitOwner>,
}

impl Summary {
    /// Returns the number of items that failed.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Returns the number of items whose tasks have ended.
    pub fn done(&self) -> u64 {
        self.ok + self.failures() + self.cut_off
    }

    /// Returns the most frequent messages of failures, at most `most`, each with the number of its items. Messages that
    /// differ only in numbers count as one, under the first of them.
    ///
    /// ```
    /// let mut summary = agenthost::batch::drive::Summary::default();
    /// summary.messages = [("late".to_owned(), 1), ("lost 3 of 9".to_owned(), 2), ("lost 4 of 9".to_owned(), 1)].into();
    /// assert_eq!(summary.frequent_messages(1), [("lost 3 of 9", 3)]);
    /// ```
    pub fn frequent_messages(&self, most: usize) -> Vec<(&str, u64)> {
        let mut kinds: BTreeMap<Vec<&str>, (&str, u64)> = BTreeMap::new();
        for (text, count) in &self.messages {
            let words = text
                .split(|c: char| c.is_ascii_digit())
                .filter(|words| !words.is_empty());
            kinds.entry(words.collect()).or_insert((text, 0)).1 += count;
        }
        let mut messages: Vec<_> = kinds.into_values().collect();
        messages.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        messages.truncate(most);
        messages
    }

    /// Returns the number of items done per second, without those that were recorded before.
    pub fn rate(&self, elapsed: Duration) -> f64 {
        let run = self.done().saturating_sub(self.recorded);
        let seconds = elapsed.as_secs_f64();
        if seconds > 0.0 { run as f64 / seconds } else { 0.0 }
    }
}

/// Runs `tasks` and writes their results. `watch` is called whenever the state may have changed. Once `stop` is
/// canceled, no further task is started.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost::batch::drive::{Settings, drive};
/// use agenthost::batch::items::Source;
/// use agenthost::batch::output::{Layout, Output};
/// use agenthost::batch::tasks::{Shape, Tasks};
/// use agenthost::batch::workers::Workers;
/// use agenthost::{Cancellation, Host};
/// use serde_json::Value;
///
/// # let component = double();
/// # let dir = tempfile::tempdir()?;
/// let file = dir.path().join("numbers.jsonl");
/// std::fs::write(&file, "1\n2\n\"three\"\n")?;
/// let host = Host::builder().build()?;
/// let double = host.load_bytes(&component)?;
/// let stop = Cancellation::new();
/// let batch = host.batch(&double).stop(&stop).open().await?;
///
/// let items = Source::open(&file, None, 1 << 20, dir.path())?;
/// let fits = |input: &Value| double.check_input(input).map_err(|error| error.to_string());
/// let tasks = Tasks::new(items.read()?, Shape::Whole, 1, None, &fits);
/// let settings = Settings { workers: Workers::Auto(8), max_failures: None, layout: Layout::default() };
/// let mut lines = Vec::new();
/// let summary = drive(&batch, tasks, settings, &mut Output::new(&mut lines, "memory"), &stop, |_| ()).await;
/// assert_eq!((summary.ok, summary.failures()), (2, 1));
///
/// let lines: Vec<Value> = String::from_utf8(lines)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
/// assert_eq!(lines[1]["outcome"]["ok"], 4);
/// assert_eq!(lines[2]["outcome"]["failure"]["message"], "input: expected u32, found string");
/// # Ok(())
/// # }
/// ```
pub async fn drive<W: Write>(
    runner: &dyn Runner,
    tasks: impl Iterator<Item = Result<Task>>,
    settings: Settings,
    output: &mut Output<W>,
    stop: &Cancellation,
    mut watch: impl FnMut(&Summary),
) -> Summary {
    let started = Instant::now();
    let mut tasks = tasks.fuse();
    let mut batch = BatchProgress {
        settings,
        output,
        waiting: BTreeMap::new(),
        unwritable: false,
        written: None,
        ready: Vec::new(),
        left_out: false,
        begun: 0,
        is_canceled: false,
        is_at_limit: false,
        is_refused: false,
        is_broken: false,
        summary: Summary {
            workers: settings.workers.start(),
            ..Summary::default()
        },
    };
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < batch.summary.workers as usize && batch.may_take(runner, stop) {
            let task = match tasks.next() {
                None => break,
                Some(Ok(task)) => task,
                Some(Err(error)) => {
                    batch.stop(Stop::Failed(error));
                    break;
                }
            };
            batch.written.get_or_insert(task.number);
            batch.begun = task.number + 1;
            let is_left_out = batch.summary.stop.is_some() && runner.next_recorded(task.number) != Some(task.number);
            let Task {
                number,
                items,
                input,
                bad,
            } = task;
            match input {
                Some(_) if is_left_out => {
                    batch.left_out = true;
                    batch.ended(number, Vec::new());
                }
                Some(input) => {
                    let end = runner.run(number, input);
                    running.push(async move { (number, items, bad, end.await) });
                }
                None => batch.ended(number, records(items, None, bad, settings.layout)),
            }
        }
        batch.summary.running = running.len();
        watch(&batch.summary);
        let ended = tokio::select! {
            biased;
            ended = running.next() => ended,
            () = stop.cancelled(), if batch.summary.stop.is_none() => {
                batch.stop(Stop::Interrupted);
                continue;
            }
        };
        let Some((number, items, bad, end)) = ended else { break };
        let waiting = runner.pressure().waiting;
        batch.summary.workers = settings
            .workers
            .after_end(batch.summary.workers, running.len() + 1, waiting);
        batch.charge(&end, items.len() as u64);
        batch.notice(runner, stop);
        batch.ended(number, records(items, Some(end), bad, settings.layout));
    }
    // It came when everything was done.
    let is_late = matches!(batch.summary.stop, Some(Stop::Limit(_) | Stop::Interrupted)) && batch.summary.cut_off == 0;
    if is_late && !batch.left_out && tasks.next().is_none() {
        batch.summary.stop = None;
        batch.summary.limit_owner = None;
    }
    batch.finish();
    let mut summary = batch.summary;
    summary.spent.wall = started.elapsed();
    summary
}

/// The most different messages of failures that are counted.
const MOST_MESSAGES: usize = 200;

/// The characters of a message that are kept.
const MESSAGE_CHARS: usize = 300;

struct BatchProgress<'o, W> {
    settings: Settings,
    output: &'o mut Output<W>,
    /// Results that finished out of order, held back until every earlier task has finished.
    waiting: BTreeMap<u64, Vec<Record>>,
    /// `true` if a line was lost, so that no further line may be written.
    unwritable: bool,
    /// The first task whose lines are not written: those of all tasks before it are. `None` before the first task.
    written: Option<u64>,
    /// Results whose turn has come, held back until some item has an outcome of its own.
    ready: Vec<Record>,
    /// `true` if a task was not started because the batch had stopped.
    left_out: bool,
    /// The task that is started next.
    begun: u64,
    is_canceled: bool,
    is_at_limit: bool,
    is_refused: bool,
    is_broken: bool,
    summary: Summary,
}

impl<W: Write> BatchProgress<'_, W> {
    /// Stops the batch if it is canceled, at a limit or at a fault.
    fn notice(&mut self, runner: &dyn Runner, stop: &Cancellation) {
        if !self.is_broken
            && let Some(fault) = runner.fault()
        {
            self.is_broken = true;
            // This replaces any other reason, because it has to be cured first.
            self.summary.stop = Some(Stop::Failed(fault));
            self.summary.limit_owner = None;
        }
        if stop.is_cancelled() {
            self.is_canceled = true;
            self.stop(Stop::Interrupted);
        }
        if let Some(limit) = runner.exhausted() {
            self.is_at_limit = true;
            if self.summary.stop.is_none() {
                self.summary.limit_owner = runner.limit_owner();
            }
            self.stop(Stop::Limit(limit));
        }
        if let Some(refusal) = runner.refused_key() {
            self.is_refused = true;
            self.stop(Stop::KeyRefused(refusal));
        }
    }

    /// Returns whether the next task may be taken: to start it, or once the batch has stopped, as long as recorded tasks
    /// follow.
    fn may_take(&mut self, runner: &dyn Runner, stop: &Cancellation) -> bool {
        self.notice(runner, stop);
        let may_follow = match &self.summary.stop {
            None => true,
            Some(Stop::Failed(_)) if self.unwritable || !self.is_broken => false,
            Some(_) => runner.next_recorded(self.begun).is_some(),
        };
        may_follow && self.begun - self.written.unwrap_or(self.begun) < window(self.summary.workers)
    }

    /// Stops the batch. Only the first reason is kept.
    fn stop(&mut self, why: Stop) {
        self.summary.stop.get_or_insert(why);
    }

    /// Returns whether tasks that fail with `class` were cut off because the batch ends early.
    fn cuts_off(&self, class: &str) -> bool {
        ((self.is_canceled || self.is_refused || self.is_broken) && class == FailureClass::Cancelled.name())
            || (self.is_at_limit && class == FailureClass::Exhausted.name())
    }

    fn charge(&mut self, end: &ItemEnd, items: u64) {
        let summary = &mut self.summary;
        summary.tasks = summary.tasks.saturating_add(end.tasks);
        summary.spent.add(&end.spent);
        for model in &end.models {
            model.clone().into_list(&mut summary.models);
        }
        if end.recorded {
            summary.recorded += items;
        }
    }

    fn ended(&mut self, number: u64, records: Vec<Record>) {
        for record in &records {
            match record.class() {
                None => self.summary.ok += record.items(),
                Some(class) if self.cuts_off(class) => self.summary.cut_off += record.items(),
                Some(class) => {
                    *self.summary.failed.entry(class).or_default() += record.items();
                    self.count_message(number, record);
                }
            }
        }
        if let Some(most) = self.settings.max_failures
            && self.summary.failures() >= most
        {
            self.stop(Stop::MaxFailures(most));
        }
        if self.unwritable {
            return;
        }
        self.waiting.insert(number, records);
        let written = self.write();
        self.check(written);
    }

    /// Writes an output without any result, such as the header of a table, if the batch has come to its end.
    fn finish(&mut self) {
        if self.summary.stop.is_none() {
            let written = self.output.flush();
            self.check(written);
        }
    }

    fn check(&mut self, written: Result<()>) {
        if let Err(error) = written {
            self.unwritable = true;
            // This replaces any other reason: an interrupted batch that lost results has to report it.
            self.summary.stop = Some(Stop::Failed(error));
        }
    }

    fn count_message(&mut self, number: u64, record: &Record) {
        let message = record.message().unwrap_or_default();
        // Only the start of a message tells kinds of failures apart, and the item's own id does not.
        let message: String = without_id(message.lines().next().unwrap_or_default(), number)
            .chars()
            .take(MESSAGE_CHARS)
            .collect();
        let messages = &mut self.summary.messages;
        if messages.len() < MOST_MESSAGES || messages.contains_key(&message) {
            *messages.entry(message).or_default() += record.items();
        }
    }

    fn write(&mut self) -> Result<()> {
        let mut written = self.written.unwrap_or_default();
        while let Some(records) = self.waiting.remove(&written) {
            written += 1;
            self.written = Some(written);
            self.ready.extend(records);
        }
        if self.ready.is_empty() || self.summary.ok + self.summary.failures() == 0 {
            return Ok(());
        }
        for record in std::mem::take(&mut self.ready) {
            self.output.write(&record)?;
        }
        self.output.flush()
    }
}

/// Replaces the number in the ids of the item `number` and of the tasks below it, such as `root/17/0`, so that the same
/// failure of other items has the same text.
fn without_id(message: &str, number: u64) -> String {
    let id = TaskId::root()
        .child(u32::try_from(number).unwrap_or(u32::MAX))
        .to_string();
    let mut text = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((before, after)) = rest.split_once(&id) {
        text.push_str(before);
        // `root/17` begins the id of another item, such as `root/170`.
        let is_whole = !after.starts_with(|next: char| next.is_ascii_digit());
        text.push_str(if is_whole { ANY_ITEM } else { &id });
        rest = after;
    }
    text.push_str(rest);
    text
}

/// The id of an item in the messages of failures that several items have.
const ANY_ITEM: &str = "root/…";

#[cfg(test)]
mod tests;
