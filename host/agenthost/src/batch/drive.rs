//! The loop of a batch: start tasks, take what becomes of them, write it in order.
//!
//! New tasks are started while fewer run than there are workers and fewer than [`window`] are started and not written: a
//! task that takes for ever holds back the others at last, and not the memory. It ends when all tasks have, or stops
//! before: after so many failures, at a limit on the sum of all tasks, when it is interrupted, and when the results
//! cannot be written. Whatever runs at that moment is waited for and written where that is possible, since it is paid.
//!
//! Left out: cancelling what runs, which is up to the [`Runner`]; time, except how long the whole took.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::output::{Layout, Output, Record, records};
use super::tasks::Task;
use super::workers::Workers;
use super::{ItemEnd, Runner};
use agenthost_core::error::{Error, Result};
use agenthost_core::limits::{LimitKind, Spent};
use agenthost_core::run::ModelReport;

/// What a batch is told.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How many tasks run at once.
    pub workers: Workers,
    /// After so many failed items nothing more is started.
    pub max_failures: Option<u64>,
    /// How outputs are told apart into items.
    pub layout: Layout,
}

/// Tasks that may be started and not yet written, with so many workers.
///
/// ```
/// assert_eq!(agenthost::batch::drive::window(4), 80);
/// ```
pub fn window(workers: u32) -> u64 {
    u64::from(workers) * 4 + 64
}

/// Why a batch stopped before its end.
#[derive(Debug)]
pub enum Stop {
    /// So many items failed.
    MaxFailures(u64),
    /// The sum of all tasks reached this limit.
    Limit(LimitKind),
    /// Whoever started it wants no more.
    Interrupted,
    /// The items could not be read, or the results not be written.
    Failed(Error),
}

impl Stop {
    /// The reason as it stands in JSON output.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MaxFailures(_) => "max-failures",
            Self::Limit(_) => "limit",
            Self::Interrupted => "interrupted",
            Self::Failed(_) => "error",
        }
    }
}

/// What is known of a batch at some time.
#[derive(Debug, Default)]
pub struct Summary {
    /// Items with an output.
    pub ok: u64,
    /// Items without one, by the class of their failure.
    pub failed: BTreeMap<&'static str, u64>,
    /// Items whose outcome was recorded before; they are among the others, too.
    pub recorded: u64,
    /// Tasks, sub-tasks included.
    pub tasks: u64,
    /// What all of them used. Of what was recorded before, this includes everything but the time.
    pub spent: Spent,
    /// What each model was used for.
    pub models: Vec<ModelReport>,
    /// How many tasks may run at once.
    pub workers: u32,
    /// How many run.
    pub running: usize,
    /// Why it stopped before its end, if it did.
    pub stop: Option<Stop>,
}

impl Summary {
    /// Items without an output.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Items that have come out in some way.
    pub fn done(&self) -> u64 {
        self.ok + self.failures()
    }

    /// Items done in a second, without those that were recorded before.
    pub fn rate(&self, elapsed: Duration) -> f64 {
        let run = self.done().saturating_sub(self.recorded);
        let seconds = elapsed.as_secs_f64();
        if seconds > 0.0 { run as f64 / seconds } else { 0.0 }
    }
}

/// Runs `tasks` and writes what became of them; `watch` is told whenever something has ended. Once `stop` is cancelled,
/// nothing more is started.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use agenthost::batch::drive::{Settings, drive};
/// use agenthost::batch::items::Source;
/// use agenthost::batch::output::{Layout, Output};
/// use agenthost::batch::tasks::{Shape, Tasks};
/// use agenthost::batch::workers::Workers;
/// use agenthost::config::Config;
/// use agenthost::host::Host;
/// use agenthost::limits::LimitsPatch;
/// use serde_json::Value;
/// use tokio_util::sync::CancellationToken;
///
/// # let component = double();
/// # let dir = tempfile::tempdir()?;
/// let file = dir.path().join("numbers.jsonl");
/// std::fs::write(&file, "1\n2\n\"three\"\n")?;
/// let host = Host::builder(Config::usual()?).build()?;
/// let double = Arc::new(host.load_bytes(&component)?);
/// let (limits, stop) = (LimitsPatch::default(), CancellationToken::new());
/// let batch = host.open_batch(&double, (&limits, &limits), &Value::Null, None, &stop).await?;
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
    stop: &CancellationToken,
    mut watch: impl FnMut(&Summary),
) -> Summary {
    let started = Instant::now();
    let mut tasks = tasks.fuse();
    let mut batch = Batch {
        settings,
        output,
        waiting: BTreeMap::new(),
        unwritable: false,
        written: 0,
        begun: 0,
        summary: Summary {
            workers: settings.workers.start(),
            ..Summary::default()
        },
    };
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < batch.summary.workers as usize && batch.may_start(runner, stop) {
            let task = match tasks.next() {
                None => break,
                Some(Ok(task)) => task,
                Some(Err(error)) => {
                    batch.stop(Stop::Failed(error));
                    break;
                }
            };
            batch.begun = task.number + 1;
            let Task {
                number,
                items,
                input,
                bad,
            } = task;
            match input {
                Some(input) => {
                    let end = runner.run(number, input);
                    running.push(async move { (number, items, bad, end.await) });
                }
                None => batch.ended(number, records(&items, None, bad, settings.layout)),
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
        let (_, waiting) = runner.pressure();
        batch.summary.workers = settings
            .workers
            .after_end(batch.summary.workers, running.len() + 1, waiting);
        batch.charge(&end, items.len() as u64);
        batch.ended(number, records(&items, Some(end), bad, settings.layout));
    }
    batch.summary.spent.wall = started.elapsed();
    batch.summary
}

struct Batch<'o, W> {
    settings: Settings,
    output: &'o mut Output<W>,
    /// The lines of tasks that have ended, behind one that has not.
    waiting: BTreeMap<u64, Vec<Record>>,
    /// A line was lost, so none may follow it.
    unwritable: bool,
    /// Tasks whose lines are written: all before this one.
    written: u64,
    /// Tasks that were started: all before this one.
    begun: u64,
    summary: Summary,
}

impl<W: Write> Batch<'_, W> {
    fn may_start(&mut self, runner: &dyn Runner, stop: &CancellationToken) -> bool {
        if stop.is_cancelled() {
            self.stop(Stop::Interrupted);
        }
        if let Some(limit) = runner.exhausted() {
            self.stop(Stop::Limit(limit));
        }
        self.summary.stop.is_none() && self.begun - self.written < window(self.summary.workers)
    }

    /// Only the first reason counts.
    fn stop(&mut self, why: Stop) {
        self.summary.stop.get_or_insert(why);
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
                Some(class) => *self.summary.failed.entry(class).or_default() += record.items(),
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
        if let Err(error) = self.write() {
            self.unwritable = true;
            // More than any other reason: an interrupted batch without its results has to say so.
            self.summary.stop = Some(Stop::Failed(error));
        }
    }

    fn write(&mut self) -> Result<()> {
        let mut some = false;
        while let Some(records) = self.waiting.remove(&self.written) {
            self.written += 1;
            for record in &records {
                self.output.write(record)?;
            }
            some = true;
        }
        if some { self.output.flush() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
