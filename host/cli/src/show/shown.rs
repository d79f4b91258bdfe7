//! The parts of a run that `show` shows, read from the journal.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::Serialize;

use super::super::recorded::{Run, RunDocument, Task, TaskDocument, Used};
use super::super::spawn::Text;
use super::parallel::{Circumstances, Parallel};
use agenthost::error::{Error, Result};
use agenthost::journal::{
    AskResult, Asked, CallSpan, DocumentAccess, DocumentRecord, JournalStore, RunRecord, TaskRecord,
};
use agenthost::llm::{Ask, Reply};
use agenthost::printable::shell_word;
use agenthost::task::RecordedReport;

/// The first task of a run; all others are below it.
const ROOT: &str = "root";
/// The most tasks that are kept in memory without `--all`, of those with an output and likewise of the others.
const KEPT: usize = 10_000;
/// The most model calls that are read: some 100 bytes each.
const CALLS: usize = 1_000_000;
/// The most operations on documents that are read.
const DOCUMENTS: usize = 10_000;

/// The parts of a run that are shown.
pub(super) struct Shown<'a> {
    pub(super) run: Run<'a>,
    /// In the order of the tree. If there are too many, the failed ones and the first of the others.
    pub(super) tasks: Vec<Task>,
    /// The number of tasks of each class, including those that are not kept.
    pub(super) classes: BTreeMap<String, u64>,
    /// The number of tasks that are not kept.
    pub(super) left_out: u64,
    pub(super) calls: Vec<CallSpan>,
    /// What the tasks did with documents.
    pub(super) memory: Vec<DocumentAccess>,
    pub(super) parallel: Parallel,
    /// The task of `--task`, with its calls.
    pub(super) one: Option<TaskRecord>,
}

impl<'a> Shown<'a> {
    /// Reads a run: all of it, or the task `task` and those below it. Without `all`, not all tasks are kept.
    pub(super) fn read(journal: &dyn JournalStore, mut run: Run<'a>, task: Option<&str>, all: bool) -> Result<Self> {
        let record: &RunRecord = run.record;
        let top = task.unwrap_or(ROOT);
        let one = journal.task(&record.id, top)?;
        if task.is_some() && one.is_none() {
            return Err(
                Error::usage(format!("run {} has no task {top}", record.id)).with_hint(format!(
                    "`agenthost show {} --all` lists its tasks.",
                    shell_word(&record.id)
                )),
            );
        }
        let mut kept = Kept::new(if all { usize::MAX } else { KEPT });
        if let Some(one) = &one {
            kept.add(Task::new(one.clone()));
        }
        journal.each_task(&record.id, top, &mut |task| {
            kept.add(Task::new(task));
            ControlFlow::Continue(())
        })?;
        let mut calls = journal.calls(&record.id, CALLS)?;
        let mut memory = journal.documents(&record.id, DOCUMENTS)?;
        if task.is_some() {
            let below = format!("{top}/");
            calls.retain(|call| call.task == top || call.task.starts_with(&below));
            memory.retain(|access| access.task == top || access.task.starts_with(&below));
        }
        let spans: Vec<_> = calls
            .iter()
            .filter_map(|call| Some((call.sent_ms, call.ended_ms?)))
            .collect();
        let wall = match task {
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
        let root = match task {
            None => one.clone(),
            Some(_) => journal.task(&record.id, ROOT)?,
        };
        if let Some(text) = root.and_then(|root| Text::recorded(&record.plugin, root.input.as_ref())) {
            for task in &mut tasks {
                task.name = text.branch(&task.id).map(str::to_owned);
            }
        }
        let summary = run.summary();
        let has_output = match (&one, task) {
            (Some(one), Some(_)) => Task::new(one.clone()).class() == "ok",
            _ => summary.is_some_and(|summary| summary.counts.ok > 0 && run.failure().is_none()),
        };
        let models = summary.map(|summary| summary.models.as_slice()).unwrap_or_default();
        let waits = models.iter().map(|model| model.waited_ms);
        let circumstances = Circumstances {
            has_output,
            waited_ms: match task {
                Some(_) => 0,
                None => waits.fold(0, u64::saturating_add),
            },
            made_up: models.iter().any(|model| model.offline),
        };
        Ok(Self {
            run,
            tasks,
            classes,
            left_out,
            calls,
            memory,
            parallel: Parallel::of(&spans, wall, circumstances),
            one: one.filter(|_| task.is_some()),
        })
    }

    pub(super) fn document(&self) -> ShownDocument<'_> {
        ShownDocument {
            format: 1,
            run: self.run.document(),
            classes: &self.classes,
            tasks: self.tasks.iter().map(Task::document).collect(),
            tasks_left_out: self.left_out,
            calls: &self.calls,
            memory: &self.memory,
            parallel: &self.parallel,
            task: self.one.as_ref().map(detail),
        }
    }
}

/// The document of `show --json`.
#[derive(Serialize)]
pub(super) struct ShownDocument<'a> {
    format: u32,
    run: RunDocument<'a>,
    classes: &'a BTreeMap<String, u64>,
    tasks: Vec<TaskDocument<'a>>,
    tasks_left_out: u64,
    calls: &'a [CallSpan],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    memory: &'a [DocumentAccess],
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
    /// What it did with documents.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    memory: &'a [DocumentRecord],
}

/// One ask of a task.
#[derive(Serialize)]
struct AskDetail<'a> {
    ask: u64,
    request: Option<&'a Ask>,
    /// The number of replies and lost requests before the result.
    replies: usize,
    /// The replies that were replaced because the task was asked again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    replaced: Vec<&'a Reply>,
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
        replaced: super::detail::replaced(ask).collect(),
        result: ask.result.as_ref(),
    });
    TaskDetail {
        id: &task.id,
        plugin: &task.plugin,
        digest: &task.digest,
        input: task.input.as_ref(),
        report: task.end.as_ref().map(|end| &end.report),
        calls: asks.collect(),
        memory: &task.documents,
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
mod tests {
    use super::super::super::testing;
    use super::*;
    use agenthost::task::FailureClass;

    #[test]
    fn memory_stays_bounded_whatever_a_batch_holds() {
        let mut kept = Kept::new(2);
        for n in 0..7 {
            kept.add(Task::new(testing::task(
                &format!("root/{n}"),
                0,
                Some(1),
                (n > 4).then_some(FailureClass::Model),
            )));
        }
        assert_eq!((kept.tasks.len(), kept.left_out), (4, 3));
        assert_eq!(kept.classes, BTreeMap::from([("model".into(), 2), ("ok".into(), 5)]));
        assert_eq!(kept.used.input_tokens, 70);
    }
}
