//! `agenthost show`: a run task by task, and which calls ran concurrently.
//!
//! Everything is read from the journal; a run that is still going on is shown as far as it is recorded.

mod page;
mod parallel;
mod timeline;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::process::ExitCode;

use serde::Serialize;

use self::parallel::Parallel;
use super::Global;
use super::journal::Found;
use super::output::Printer;
use super::recorded::{self, Run, RunDocument, Task, TaskDocument, Used};
use agenthost::config::Env;
use agenthost::error::{Error, Result};
use agenthost::journal::{AskResult, Asked, CallSpan, JournalStore, RunRecord, TaskRecord};
use agenthost::llm::Ask;
use agenthost::printable::shell_word;
use agenthost::task::RecordedReport;

/// The first task of a run; all others are below it.
const ROOT: &str = "root";
/// The most tasks that are kept in memory without `--all`, of those with an output and likewise of the others.
const KEPT: usize = 10_000;
/// The most model calls that are read: some 100 bytes each.
const CALLS: usize = 1_000_000;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run's id, the beginning of its id, or `last`
    run: String,
    /// Show this task, such as root/0, and those below it
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// Show all tasks and calls
    #[arg(long)]
    all: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
}

/// The parts of a run that are shown.
struct Shown<'a> {
    run: Run<'a>,
    /// In the order of the tree. If there are too many, the failed ones and the first of the others.
    tasks: Vec<Task>,
    /// The number of tasks of each class, including those that are not kept.
    classes: BTreeMap<String, u64>,
    /// The number of tasks that are not kept.
    left_out: u64,
    calls: Vec<CallSpan>,
    parallel: Parallel,
    /// The task of `--task`, with its calls.
    one: Option<TaskRecord>,
}

pub(super) fn show(args: &Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let config = global.config(env)?;
    let found = Found::open(global, &config, env)?;
    let (journal, run) = super::runs::find(found, &args.run)?;
    let now = recorded::now_ms();
    let run = Run::new(&run, now, |run| recorded::is_running(&*journal, run));
    let shown = Shown::read(&*journal, run, args)?;
    if args.json {
        printer.data(&shown.document())?;
    } else {
        printer.text(page::page(&shown, args.all, now, super::table::width()))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl<'a> Shown<'a> {
    fn read(journal: &dyn JournalStore, mut run: Run<'a>, args: &Args) -> Result<Self> {
        let record: &RunRecord = run.record;
        let top = args.task.as_deref().unwrap_or(ROOT);
        let one = journal.task(&record.id, top)?;
        if args.task.is_some() && one.is_none() {
            return Err(
                Error::usage(format!("run {} has no task {top}", record.id)).with_hint(format!(
                    "`agenthost show {} --all` lists its tasks.",
                    shell_word(&record.id)
                )),
            );
        }
        let mut kept = Kept::new(if args.all { usize::MAX } else { KEPT });
        if let Some(one) = &one {
            kept.add(Task::new(one.clone()));
        }
        journal.each_task(&record.id, top, &mut |task| {
            kept.add(Task::new(task));
            ControlFlow::Continue(())
        })?;
        let mut calls = journal.calls(&record.id, CALLS)?;
        if args.task.is_some() {
            let below = format!("{top}/");
            calls.retain(|call| call.task == top || call.task.starts_with(&below));
        }
        let spans: Vec<_> = calls
            .iter()
            .filter_map(|call| Some((call.sent_ms, call.ended_ms?)))
            .collect();
        let wall = match &args.task {
            Some(_) => one.clone().and_then(|one| Task::new(one).wall_ms()),
            None => run.wall_ms,
        };
        if run.used.is_none() {
            run.used = Some(kept.used.clone());
        }
        let Kept {
            mut tasks,
            classes,
            left_out,
            ..
        } = kept;
        tasks.sort_by_cached_key(Task::order);
        Ok(Self {
            run,
            tasks,
            classes,
            left_out,
            calls,
            parallel: Parallel::of(&spans, wall),
            one: one.filter(|_| args.task.is_some()),
        })
    }

    fn document(&self) -> ShownDocument<'_> {
        ShownDocument {
            format: 1,
            run: self.run.document(),
            classes: &self.classes,
            tasks: self.tasks.iter().map(Task::document).collect(),
            tasks_left_out: self.left_out,
            calls: &self.calls,
            parallel: &self.parallel,
            task: self.one.as_ref().map(detail),
        }
    }
}

/// The document of `show --json`.
#[derive(Serialize)]
struct ShownDocument<'a> {
    format: u32,
    run: RunDocument<'a>,
    classes: &'a BTreeMap<String, u64>,
    tasks: Vec<TaskDocument<'a>>,
    tasks_left_out: u64,
    calls: &'a [CallSpan],
    parallel: &'a Parallel,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<TaskDetail<'a>>,
}

/// One task with its input, its report and its asks.
#[derive(Serialize)]
struct TaskDetail<'a> {
    id: &'a str,
    plugin: &'a str,
    digest: &'a str,
    input: Option<&'a serde_json::Value>,
    report: Option<&'a RecordedReport>,
    calls: Vec<AskDetail<'a>>,
}

/// One ask of a task.
#[derive(Serialize)]
struct AskDetail<'a> {
    ask: u64,
    request: Option<&'a Ask>,
    /// The number of replies and lost requests before the result.
    replies: usize,
    result: Option<&'a AskResult>,
}

fn detail(task: &TaskRecord) -> TaskDetail<'_> {
    let asks = task.asks.iter().map(|ask| AskDetail {
        ask: ask.ask,
        request: match &ask.what {
            Asked::Model { request, .. } => request.as_ref(),
            Asked::SubTask { .. } => None,
        },
        replies: ask.requests.len(),
        result: ask.result.as_ref(),
    });
    TaskDetail {
        id: &task.id,
        plugin: &task.plugin,
        digest: &task.digest,
        input: task.input.as_ref(),
        report: task.end.as_ref().map(|end| &end.report),
        calls: asks.collect(),
    }
}

/// The tasks that have been read, and the sums over all of them.
struct Kept {
    most: usize,
    tasks: Vec<Task>,
    /// The number of `tasks` that have an output.
    fine: usize,
    classes: BTreeMap<String, u64>,
    left_out: u64,
    used: Used,
}

impl Kept {
    fn new(most: usize) -> Self {
        Self {
            most,
            tasks: Vec::new(),
            fine: 0,
            classes: BTreeMap::new(),
            left_out: 0,
            used: Used::nothing(),
        }
    }

    fn add(&mut self, task: Task) {
        *self.classes.entry(task.class().to_owned()).or_default() += 1;
        if let Some(used) = &task.used {
            self.used.add(used);
        }
        let fine = task.class() == "ok";
        let of_its_kind = if fine { self.fine } else { self.tasks.len() - self.fine };
        if of_its_kind >= self.most {
            self.left_out += 1;
            return;
        }
        self.fine += usize::from(fine);
        self.tasks.push(task);
    }
}

#[cfg(test)]
mod tests;
