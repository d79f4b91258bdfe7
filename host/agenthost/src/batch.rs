//! Batch at scale: many items through one plugin, a task for each or for every few of them.
//!
//! [`items`] reads the items one by one from JSON Lines, CSV or a JSON array; [`tasks`] puts them into inputs of the
//! plugin and finds those that fit none; [`drive`] keeps a growing number of tasks running behind a [`Runner`], and
//! [`output`] writes what became of each item, in the order of the items.
//!
//! Bounds: one item at a time is read, of at most as many bytes as the caller says; at most [`drive::window`] tasks run
//! or wait to be written behind a slow one. So memory does not grow with the number of items. Left out, and behind
//! [`Runner`]: the tasks themselves, their limits, and the record that lets a run go on after it was interrupted.

pub mod drive;
pub mod items;
pub mod output;
pub mod tasks;
pub mod workers;

use futures_util::future::BoxFuture;
use serde_json::Value;

use agenthost_core::limits::{LimitKind, Spent};
use agenthost_core::run::ModelReport;
use agenthost_core::task::Outcome;

/// What runs the tasks of a batch: the host's own is [`Batch`](crate::host::Batch).
///
/// ```
/// use agenthost::batch::{ItemEnd, Runner};
/// use agenthost::limits::{LimitKind, Spent};
/// use agenthost::task::Outcome;
/// use futures_util::future::BoxFuture;
/// use serde_json::{Value, json};
///
/// /// Gives every input back, for a test of what stands around it.
/// struct Echo;
///
/// impl Runner for Echo {
///     fn run(&self, _number: u64, input: Value) -> BoxFuture<'_, ItemEnd> {
///         let (outcome, spent, models) = (Outcome::Ok(input), Spent::default(), Vec::new());
///         Box::pin(async { ItemEnd { outcome, spent, tasks: 1, models, recorded: false } })
///     }
///
///     fn pressure(&self) -> (u64, u64) {
///         (0, 0)
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
    /// Runs the task `number`, counted from 0; the same number stands for the same items whenever the batch is resumed.
    /// Where the batch is interrupted, it is the runner that ends what runs.
    fn run(&self, number: u64, input: Value) -> BoxFuture<'_, ItemEnd>;

    /// Requests in flight to models, and requests that wait at the gate.
    fn pressure(&self) -> (u64, u64);

    /// The limit on the sum over all tasks that is used up, if one is: nothing more is started then.
    fn exhausted(&self) -> Option<LimitKind>;
}

/// How one task of a batch came out.
#[derive(Debug, Clone)]
pub struct ItemEnd {
    /// The output or the failure.
    pub outcome: Outcome,
    /// What it used, with its sub-tasks.
    pub spent: Spent,
    /// How many tasks it took, itself included.
    pub tasks: u64,
    /// What each model was used for.
    pub models: Vec<ModelReport>,
    /// Whether it was recorded before, and not run again.
    pub recorded: bool,
}
