//! One call of a guest: what it is given, what it can use, and how it ended.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wasmtime::component::Val;

use super::files::OpenDir;
use super::memory::{KeptMemory, RunMemory};
use super::turns::TurnOrder;
use super::wasi::Log;
use agenthost_core::document::{DocumentOperation, DocumentResult};
use agenthost_core::limits::{LimitKind, Share};
use agenthost_core::llm::{Allowance, Ask, CallResult};

/// The functions of the task that a running guest can use.
pub trait Capabilities: Send + Sync + 'static {
    /// Makes the model call with this ordinal. The future runs independently; the guest receives the result in a turn.
    fn complete(&self, ordinal: u64, ask: Ask) -> BoxFuture<'static, CallResult>;

    /// Returns the remaining part of the task's limits; `fuel` is the amount that the guest has left.
    fn remaining(&self, fuel: u64) -> Allowance;

    /// Sets the shares, one within the other, from which the sub-tasks spend that start from now on.
    fn spend_from(&self, shares: Vec<Share>);

    /// Does something with a document of the plugin's memory. The guest waits for the result in its call.
    fn document(&self, operation: DocumentOperation) -> BoxFuture<'static, DocumentResult>;

    /// Starts the sub-agent behind an import. The future runs independently and returns the value of the sub-task's
    /// `run`, or the reason why no value can be returned. Dropping the future cancels the sub-task.
    fn start(
        &self,
        ordinal: u64,
        import: &str,
        input: Input,
    ) -> BoxFuture<'static, std::result::Result<Returned, String>>;

    /// Leases fuel for a burst of computing. Waits while other tasks hold all the fuel.
    fn lease_fuel(&self) -> BoxFuture<'_, u64>;

    /// Returns a lease of `leased` units, of which `used` were used.
    fn settle_fuel(&self, leased: u64, used: u64);

    /// Reports the progress of the guest.
    fn progress(&self, done: u32, total: Option<u32>, message: String);
}

/// A value of a plugin's input type.
#[derive(Debug, Clone)]
pub struct Input {
    pub(super) value: Val,
    /// The memory that the host holds for an input made by a guest, or why it was refused; `None` if no guest made it.
    pub(super) kept: Option<Result<Arc<KeptMemory>, String>>,
}

impl Input {
    pub(super) fn new(value: Val) -> Self {
        Self { value, kept: None }
    }

    /// Creates an input that a guest passes to a sub-task. It counts as memory of the run, twice its size of `bytes`:
    /// here, and where it was lifted to. If that exceeds the limit, nothing is copied, and the sub-task fails before it
    /// starts.
    pub(super) fn of_guest(value: &Val, bytes: u64, run: &Arc<RunMemory>) -> Self {
        let kept = run.keep(bytes.saturating_mul(2)).map(Arc::new);
        Self {
            value: match kept {
                Ok(_) => value.clone(),
                Err(_) => Val::Bool(false),
            },
            kept: Some(kept),
        }
    }
}

/// The value that a plugin's `run` returned: an output or an error.
#[derive(Debug, Clone)]
pub struct Returned(pub(super) Val);

/// The parameters of one call of a guest.
pub struct GuestCall {
    /// The input, converted by [`Code::input`](super::Code::input) for this plugin or passed by its parent.
    pub input: Input,
    /// The number of tasks above it.
    pub depth: u32,
    /// `true` if the parent needs the returned value.
    pub keep_returned: bool,
    /// The limit of linear memory, in bytes.
    pub memory: u64,
    /// The memory that all tasks of the run share.
    pub run_memory: Arc<RunMemory>,
    /// The task's deadline.
    pub deadline: Option<Instant>,
    /// The seed of the task's random numbers.
    pub seed: [u8; 32],
    /// The time that the task's clock shows.
    pub now: SystemTime,
    /// The granted directories. A plugin that was loaded without the file system cannot see them.
    pub dirs: Arc<[OpenDir]>,
    /// The maximum number of bytes of stdout and stderr that are kept.
    pub log_bytes: usize,
    /// The functions that the guest can use.
    pub capabilities: Arc<dyn Capabilities>,
    /// Cancels the call.
    pub cancel: CancellationToken,
    /// The order in which the guest receives its turns.
    pub order: Arc<dyn TurnOrder>,
}

/// The result of a call.
#[derive(Debug)]
pub struct Ended {
    /// The end of the call.
    pub end: End,
    /// The value that `run` returned; `None` if it was not requested or `run` did not return.
    pub returned: Option<Returned>,
    /// The fuel used.
    pub fuel: u64,
    /// The peak of linear memory, in bytes.
    pub peak_memory: u64,
    /// `true` if the last refusal of memory was caused by a shared limit and not by the task's own.
    pub shared_memory_refused: bool,
    /// Human-readable notes of the host, for example that a directory was full.
    pub notes: Vec<String>,
    /// The kept part of stdout and stderr.
    pub log: String,
    /// The number of bytes of stdout and stderr that were dropped.
    pub log_dropped: u64,
}

impl Ended {
    pub(super) fn new(end: End, returned: Option<Returned>, fuel: u64, peak_memory: u64, log: &Log) -> Self {
        let (log, log_dropped) = log.take();
        Self {
            end,
            returned,
            fuel,
            peak_memory,
            shared_memory_refused: false,
            notes: Vec::new(),
            log,
            log_dropped,
        }
    }
}

/// The end of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// The guest returned an output.
    Output(Value),
    /// The guest returned a `failure`, in the JSON form of that type.
    Failure(Value),
    /// The guest returned an error text.
    Text(String),
    /// The guest returned an error of the plugin's own type, or one without a payload.
    Error(Value),
    /// The task reached a limit.
    Exhausted(LimitKind, String),
    /// The guest trapped.
    Trapped(String),
    /// The call was canceled.
    Cancelled,
    /// The host failed.
    Host(String),
}
