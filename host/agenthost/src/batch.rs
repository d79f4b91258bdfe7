//! Batches: many items through one plugin, with a task for each item or for each group of items.
//!
//! [`items`] reads the items one by one from JSON Lines, CSV or a JSON array; [`tasks`] makes inputs of the plugin from
//! them and finds the items that do not fit; [`drive`] keeps a growing number of tasks running behind a [`Runner`], and
//! [`output`] writes the results in the order of the items.
//!
//! Bounds: one item is read at a time, of at most as many bytes as the caller allows; at most [`drive::window`] tasks
//! run or wait to be written behind a slow one. So memory does not grow with the number of items. Left out, and behind
//! [`Runner`]: the tasks themselves, their limits, and the record from which an interrupted run is resumed.

pub mod drive;
pub mod items;
pub mod output;
pub mod tasks;
pub mod workers;

use futures_util::future::BoxFuture;
use serde_json::Value;

use agenthost_core::error::Error;
use agenthost_core::limits::{LimitKind, LimitOwner, Spent};
use agenthost_core::run::ModelReport;
use agenthost_core::task::Outcome;
use agenthost_gate::Pressure;

/// Runs the tasks of a batch. The host's own runner is [`Batch`](crate::Batch).
///
/// ```
/// use agenthost::batch::{ItemEnd, Runner};
/// use agenthost::gate::Pressure;
/// use agenthost::{LimitKind, Outcome};
/// use futures_util::future::BoxFuture;
/// use serde_json::{Value, json};
///
/// /// Returns every input as the output, for tests of the code around it.
/// struct Echo;
///
/// impl Runner for Echo {
///     fn run(&self, _number: u64, input: Value) -> BoxFuture<'_, ItemEnd> {
///         Box::pin(async { ItemEnd::new(Outcome::Ok(input)) })
///     }
///
///     fn pressure(&self) -> Pressure {
///         Pressure::default()
///     }
///
///     fn exhausted(&self) -> Option<LimitKind> {
///         None
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() {
/// let runner: Box<dyn Runner> = Box::new(Echo);
/// assert_eq!(runner.run(0, json!("hi")).await.outcome.ok(), Some(&json!("hi")));
/// # }
/// ```
pub trait Runner: Send + Sync {
    /// Runs the task `number`, counted from 0. The same number means the same items whenever the batch is resumed. If
    /// the batch is interrupted, the runner has to end the running tasks.
    fn run(&self, number: u64, input: Value) -> BoxFuture<'_, ItemEnd>;

    /// Returns the requests to models that are in flight and that wait at the gate.
    fn pressure(&self) -> Pressure;

    /// Returns the limit on the sum over all tasks that is used up, or that refused a request because too little of it is
    /// left. No further task is started then.
    fn exhausted(&self) -> Option<LimitKind>;

    /// Returns the setting of `[allowance]` that [`Runner::exhausted`] is about; `None` for a limit on the batch itself.
    fn limit_owner(&self) -> Option<LimitOwner> {
        None
    }

    /// Returns the error of a provider that refused its key, if one did. No further task is started then. A task that
    /// met the refusal ends as canceled, so that a resumed batch runs it again.
    fn refused_key(&self) -> Option<String> {
        None
    }

    /// Returns why no task of the batch can go on, such as a journal that cannot be written; `None` if they can. No further
    /// task is started then. A task that ends as canceled is run again by a resumed batch.
    fn fault(&self) -> Option<Error> {
        None
    }

    /// Returns the first task from the number `from` on whose outcome is recorded and stays, so that [`Runner::run`] takes
    /// it over and spends nothing. These tasks are taken over even after the batch has stopped.
    fn next_recorded(&self, _from: u64) -> Option<u64> {
        None
    }
}

/// The end of one task of a batch.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ItemEnd {
    /// The output or the failure.
    pub outcome: Outcome,
    /// The resources that the task and its sub-tasks used.
    pub spent: Spent,
    /// The number of tasks, itself included.
    pub tasks: u64,
    /// The use of each model.
    pub models: Vec<ModelReport>,
    /// `true` if the outcome was taken from the record, without running the task again.
    pub recorded: bool,
}

impl ItemEnd {
    /// Creates the end of a task that used nothing.
    pub fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            spent: Spent::default(),
            tasks: 0,
            models: Vec::new(),
            recorded: false,
        }
    }
}
