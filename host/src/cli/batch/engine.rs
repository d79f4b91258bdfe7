//! A run of its own for each task of a batch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::batch::{ItemEnd, Runner};
use crate::error::Result;
use crate::host::{Host, LoadedPlugin};
use crate::limits::{LimitKind, Limits, LimitsPatch, Spent};
use crate::run::RunId;
use crate::task::{Failure, FailureClass, Outcome};

/// What runs the tasks, and the name of the run that they belong to, if it is one.
pub(super) async fn engine(
    host: &Host,
    plugin: &Arc<LoadedPlugin>,
    limits: &LimitsPatch,
    sums: &LimitsPatch,
    stop: &CancellationToken,
) -> Result<(Option<RunId>, impl Runner)> {
    let runs = Runs {
        host: host.clone(),
        plugin: Arc::clone(plugin),
        limits: limits.clone(),
        sums: host.config().run().limits.overridden_by(sums),
        stop: stop.clone(),
        spent: Mutex::default(),
        running: AtomicU64::new(0),
    };
    Ok((None, runs))
}

struct Runs {
    host: Host,
    plugin: Arc<LoadedPlugin>,
    limits: LimitsPatch,
    sums: Limits,
    stop: CancellationToken,
    spent: Mutex<Spent>,
    running: AtomicU64,
}

impl Runs {
    fn spent(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runner for Runs {
    fn run(&self, _number: u64, input: Value) -> BoxFuture<'_, ItemEnd> {
        Box::pin(async move {
            let run = match self.host.spawn(&self.plugin, &input, &self.limits) {
                Ok(run) => run,
                Err(error) => {
                    return ItemEnd {
                        outcome: Outcome::Failure(Failure::new(FailureClass::Host, error.to_string())),
                        spent: Spent::default(),
                        tasks: 0,
                        models: Vec::new(),
                        recorded: false,
                    };
                }
            };
            self.running.fetch_add(1, Ordering::Relaxed);
            let report = tokio::select! {
                report = run.report() => report,
                () = self.stop.cancelled() => {
                    run.cancel();
                    run.report().await
                }
            };
            self.running.fetch_sub(1, Ordering::Relaxed);
            self.spent().add(&report.spent);
            ItemEnd {
                outcome: report.outcome.clone(),
                spent: report.spent.clone(),
                tasks: report.tasks.len() as u64,
                models: report.models.clone(),
                recorded: false,
            }
        })
    }

    fn pressure(&self) -> (u64, u64) {
        (self.running.load(Ordering::Relaxed), 0)
    }

    fn exhausted(&self) -> Option<LimitKind> {
        let (spent, sums) = (self.spent(), &self.sums);
        let tokens = spent.input_tokens.saturating_add(spent.output_tokens);
        [
            (LimitKind::Tokens, sums.tokens.is_some_and(|most| tokens >= most)),
            (LimitKind::Cost, sums.cost.is_some_and(|most| spent.cost >= most)),
            (LimitKind::Calls, sums.calls.is_some_and(|most| spent.calls >= most)),
            (LimitKind::Fuel, sums.fuel.is_some_and(|most| spent.fuel >= most)),
        ]
        .into_iter()
        .find_map(|(kind, reached)| reached.then_some(kind))
    }
}
