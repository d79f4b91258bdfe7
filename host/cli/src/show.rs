//! `agenthost show`: a run task by task, and which calls ran concurrently.
//!
//! Everything is read from the journal; a run that is still going on is shown as far as it is recorded.

mod page;
mod parallel;
mod timeline;

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::{Value, json};

use self::parallel::Parallel;
use super::Global;
use super::journal::Found;
use super::output::Printer;
use super::recorded::{self, Run, Task, Used, parsed};
use agenthost::config::Env;
use agenthost::error::{Error, Result};
use agenthost::journal::{CallSpan, JournalStore, RunRecord, TaskRecord};
use agenthost::printable::shell_word;

/// The first task of a run; all others are below it.
const ROOT: &str = "root";
/// The number of tasks that are read at a time.
const PAGE: usize = 1_000;
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
        let mut after: Option<String> = None;
        loop {
            let page = journal.tasks(&record.id, top, after.as_deref(), PAGE)?;
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            page.into_iter().for_each(|task| kept.add(Task::new(task)));
        }
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

    fn document(&self) -> Value {
        let calls = self.calls.iter().map(|call| {
            json!({
                "task": call.task,
                "ask": call.ask,
                "model": call.model,
                "sent_ms": call.sent_ms,
                "ended_ms": call.ended_ms,
            })
        });
        let mut run = self.run.document();
        if let (Some(fields), true) = (run.as_object_mut(), self.run.record.end.is_none()) {
            // Spent so far, or up to the interruption.
            fields.insert("spent".into(), json!(self.run.used));
        }
        let mut document = json!({
            "format": 1,
            "run": run,
            "classes": self.classes,
            "tasks": self.tasks.iter().map(Task::document).collect::<Vec<_>>(),
            "tasks_left_out": self.left_out,
            "calls": calls.collect::<Vec<_>>(),
            "parallel": self.parallel,
        });
        if let (Some(one), Some(fields)) = (&self.one, document.as_object_mut()) {
            fields.insert("task".into(), detail(one));
        }
        document
    }
}

/// Returns one task with its input, its log and the replies that it received.
fn detail(task: &TaskRecord) -> Value {
    let report = task.end.as_ref().map(|end| parsed(&end.report)).unwrap_or_default();
    let body = |text: &Option<String>| text.as_deref().map(parsed);
    let calls = task.calls.iter().map(|call| {
        json!({
            "ask": call.ask,
            "request": body(&call.body),
            "replies": call.replies.len(),
            "result": body(&call.result),
        })
    });
    json!({
        "id": task.id,
        "plugin": task.plugin,
        "digest": task.digest,
        "input": body(&task.input),
        "report": report,
        "calls": calls.collect::<Vec<_>>(),
    })
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
