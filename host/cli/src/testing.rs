//! A fake journal.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;

use agenthost::error::{Error, Result};
use agenthost::journal::{
    CallSpan, JournalEntry, JournalStore, Keep, Pruned, RunEnd, RunKind, RunRecord, RunStatus, RunSummary, TaskCounts,
    TaskEnd, TaskRecord,
};
use agenthost::limits::{LimitKind, Spent};
use agenthost::run::ModelReport;
use agenthost::task::{Failure, FailureClass, Outcome, TaskId, TaskReport};

/// Returns a run of `demo:scan` with its state, end and number of tasks.
pub(super) fn run(id: &str, started_ms: u64, end: Option<(RunStatus, u64, u64)>) -> RunRecord {
    let cost = "0.0123".parse().unwrap();
    let mut model = ModelReport::new("fast", "local/small");
    (model.calls, model.requests, model.retries, model.waited_ms) = (3, 4, 1, 250);
    (model.input_tokens, model.output_tokens, model.cost_usd) = (1_000, 300, Some(cost));
    let end = end.map(|(state, ended_ms, tasks)| RunEnd {
        ended_ms,
        state,
        summary: RunSummary {
            outcome: Some(Outcome::Ok(json!("fine"))),
            spent: Spent {
                input_tokens: 1_000,
                cached_input_tokens: 400,
                output_tokens: 300,
                cost,
                calls: 3,
                fuel: 5,
                peak_memory: 6,
                wall: Duration::from_millis(ended_ms - started_ms),
                ..Spent::default()
            },
            models: vec![model],
            counts: TaskCounts::new(tasks, 0),
            stopped: None,
        },
    });
    RunRecord {
        id: id.into(),
        kind: RunKind::Run,
        plugin: "demo:scan@0.1.0".into(),
        digest: "0123456789abcdef".into(),
        seed: [0; 32],
        clock_ms: started_ms,
        started_ms,
        command: json!({}),
        pid: 4_242,
        end,
    }
}

/// Returns a task with its end and, if it failed, its class.
pub(super) fn task(id: &str, started_ms: u64, ended_ms: Option<u64>, failure: Option<FailureClass>) -> TaskRecord {
    let outcome = match failure {
        Some(class) => Outcome::Failure(Failure {
            limit: Some(LimitKind::Calls),
            ..Failure::new(class, "why\n\u{1b}[2Jnot")
        }),
        None => Outcome::Ok(json!(1)),
    };
    TaskRecord {
        id: id.into(),
        plugin: "demo:leaf@0.1.0".into(),
        digest: "ff".into(),
        input: Some(json!({"company": "Acme"})),
        started_ms,
        end: ended_ms.map(|ended_ms| {
            let mut report = TaskReport::new(TaskId::recorded(id), "demo:leaf@0.1.0", Some(outcome));
            report.spent = Spent {
                input_tokens: 10,
                cached_input_tokens: 2,
                output_tokens: 5,
                cost: "0.001".parse().unwrap(),
                calls: 1,
                wall: Duration::from_millis(ended_ms - started_ms),
                ..Spent::default()
            };
            report.log = "said\n".into();
            TaskEnd {
                ended_ms,
                report,
                returned: None,
                models: Vec::new(),
            }
        }),
        ..TaskRecord::default()
    }
}

/// Returns a call of `task` to one model.
pub(super) fn call(task: &str, ask: u64, sent_ms: u64, ended_ms: Option<u64>) -> CallSpan {
    CallSpan {
        task: task.into(),
        ask,
        model: "local/small".into(),
        sent_ms,
        ended_ms,
    }
}

/// One run with its tasks and calls.
#[derive(Debug, Default)]
pub(super) struct Fake {
    pub(super) runs: Vec<RunRecord>,
    pub(super) tasks: Vec<TaskRecord>,
    pub(super) calls: Vec<CallSpan>,
}

impl JournalStore for Fake {
    fn append(&self, _: JournalEntry) -> BoxFuture<'static, Result<()>> {
        Box::pin(std::future::ready(Err(Error::host("read-only"))))
    }

    fn note(&self, _: JournalEntry) {}

    fn runs(&self, most: usize) -> Result<Vec<RunRecord>> {
        Ok(self.runs.iter().take(most).cloned().collect())
    }

    fn find(&self, id: &str) -> Result<RunRecord> {
        let found = self.runs.iter().find(|run| id == "last" || run.id.starts_with(id));
        found
            .cloned()
            .ok_or_else(|| Error::usage(format!("there is no run {id}")))
    }

    fn task(&self, _: &str, task: &str) -> Result<Option<TaskRecord>> {
        Ok(self.tasks.iter().find(|record| record.id == task).cloned())
    }

    fn tasks(&self, _: &str, under: &str, after: Option<&str>, most: usize) -> Result<Vec<TaskRecord>> {
        let below = format!("{under}/");
        let mut found: Vec<_> = self
            .tasks
            .iter()
            .filter(|task| task.id.starts_with(&below) && after.is_none_or(|after| task.id.as_str() > after))
            .cloned()
            .collect();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        found.truncate(most);
        Ok(found)
    }

    fn calls(&self, _: &str, most: usize) -> Result<Vec<CallSpan>> {
        Ok(self.calls.iter().take(most).cloned().collect())
    }

    fn prune(&self, _: &Keep) -> Result<Pruned> {
        Ok(Pruned::default())
    }
}
