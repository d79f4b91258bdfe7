//! A run before it starts: its plugin, its limits, and the record that it continues, if there is one.

use std::future::IntoFuture;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;

use super::record::Mode;
use super::run::{FailedTasks, RunHandle};
use super::{Host, Plugin};
use agenthost_core::error::{Error, Result};
use agenthost_core::limits::LimitsPatch;
use agenthost_core::run::RunReport;
use agenthost_core::task::TaskId;
use agenthost_journal::{RunKind, RunRecord};

/// A run that has not started. Awaiting it runs the plugin and returns the report; [`RunBuilder::start`] returns a
/// handle at once. Dropping the future or the handle cancels the run.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost::{FailureClass, Host, LimitKind, Limits, OutputError};
///
/// # let component = double();
/// let host = Host::builder().build()?;
/// let double = host.load_bytes(&component)?;
/// let report = host.run(&double, &21).limits(Limits::new().memory(1 << 20)).await?;
/// assert_eq!(report.output::<u32>()?, 42);
///
/// // Reaching a limit is an outcome, not an error.
/// let report = host.run(&double, &21).limits(Limits::new().fuel(1)).await?;
/// match report.output::<u32>() {
///     Err(OutputError::Failure(failure)) => {
///         assert_eq!((failure.class, failure.limit), (FailureClass::Exhausted, Some(LimitKind::Fuel)));
///     }
///     other => panic!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "a run starts when it is awaited or started"]
pub struct RunBuilder {
    host: Host,
    plugin: Plugin,
    input: Result<Value>,
    limits: LimitsPatch,
    command: Value,
}

/// A recorded run that is about to be resumed or replayed. Awaiting it runs the plugin and returns the report;
/// [`RecordedRunBuilder::start`] returns a handle once the record is read. Dropping the future or the handle cancels
/// the run. Created by [`Host::resume`] and [`Host::replay`].
#[must_use = "a run starts when it is awaited or started"]
pub struct RecordedRunBuilder {
    host: Host,
    plugin: Plugin,
    record: RunRecord,
    mode: Mode,
    again: Vec<TaskId>,
    limits: LimitsPatch,
}

impl Host {
    /// Prepares a run of `plugin` with `input`, a value whose JSON form is of the plugin's input type.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::Host;
    ///
    /// # let component = double();
    /// let host = Host::builder().build()?;
    /// let double = host.load_bytes(&component)?;
    /// // Several runs proceed concurrently.
    /// let runs = [1, 2, 3].map(|number| host.run(&double, &number).start());
    /// for (run, expected) in runs.into_iter().zip([2, 4, 6]) {
    ///     assert_eq!(run?.report().await.output::<u32>()?, expected);
    /// }
    ///
    /// // A value of another type never reaches the plugin.
    /// let error = host.run(&double, "many").await.err().ok_or("it was taken")?;
    /// assert_eq!(error.to_string(), "input: expected u32, found string");
    /// # Ok(())
    /// # }
    /// ```
    pub fn run<I: Serialize + ?Sized>(&self, plugin: &Plugin, input: &I) -> RunBuilder {
        let input = serde_json::to_value(input);
        let input = input.map_err(|error| Error::input(format!("the input cannot be written as JSON: {error}")));
        RunBuilder {
            host: self.clone(),
            plugin: plugin.clone(),
            input,
            limits: LimitsPatch::default(),
            command: Value::Null,
        }
    }

    /// Prepares to resume a run that stopped before its end. Finished tasks are kept, and answered calls are not made
    /// again.
    ///
    /// The run does not start if the journal does not hold its input, or if it is still going on, in this process or
    /// another ([`ErrorClass::Usage`](agenthost_core::error::ErrorClass::Usage)). If several callers resume a run at
    /// once, one of them succeeds.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::{FailedTasks, Host, Journal, Limits};
    /// use agenthost::providers::script::Script;
    ///
    /// # let component = ask();
    /// # let dir = tempfile::tempdir()?;
    /// let once = Script::parse("[[rule]]\ntimes = 1\ntext = 'Blue.'", "once")?; // a second request would fail
    /// let journal = Journal::sqlite(dir.path().join("journal.db"))?;
    /// let builder = Host::builder().model("fast", "own/any").provider("own", once);
    /// let host = builder.journal(journal.clone()).build()?;
    /// let ask = host.load_bytes(&component)?;
    ///
    /// // Enough fuel for the call, and too little to process the reply.
    /// let stopped = host.run(&ask, "Name a color.").limits(Limits::new().fuel(255_500)).await?;
    /// assert_eq!(stopped.outcome.failure().map(|failure| failure.class.name()), Some("exhausted"));
    /// assert_eq!(stopped.spent.calls, 1);
    ///
    /// let resumed = host.resume(&ask, &journal.find(&stopped.run)?, FailedTasks::Keep).await?;
    /// assert_eq!(resumed.output::<String>()?, "Blue.");
    /// # Ok(())
    /// # }
    /// ```
    pub fn resume(&self, plugin: &Plugin, record: &RunRecord, failed: FailedTasks) -> RecordedRunBuilder {
        let mode = Mode::Resume {
            failed: failed.repeat(),
        };
        self.recorded(plugin, record, mode)
    }

    /// Prepares to replay a recorded run without any provider: all replies that its tasks receive come from the
    /// journal. The report lists every difference from the record.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::{Host, Journal};
    /// use agenthost::providers::script::Script;
    ///
    /// # let component = ask();
    /// # let dir = tempfile::tempdir()?;
    /// let once = Script::parse("[[rule]]\ntimes = 1\ntext = 'Blue.'", "once")?; // a second request would fail
    /// let journal = Journal::sqlite(dir.path().join("journal.db"))?;
    /// let builder = Host::builder().model("fast", "own/any").provider("own", once);
    /// let host = builder.journal(journal.clone()).build()?;
    /// let ask = host.load_bytes(&component)?;
    /// assert_eq!(host.run(&ask, "Name a color.").await?.output::<String>()?, "Blue.");
    ///
    /// let record = journal.find("last")?;
    /// let replayed = host.replay(&ask, &record).await?;
    /// assert_eq!(replayed.output::<String>()?, "Blue.");
    /// assert_eq!(replayed.differences.as_deref(), Some(&[][..]));
    /// assert_eq!(host.changed_plugins(&ask, &record).await?, [""; 0]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn replay(&self, plugin: &Plugin, record: &RunRecord) -> RecordedRunBuilder {
        self.recorded(plugin, record, Mode::Replay)
    }

    fn recorded(&self, plugin: &Plugin, record: &RunRecord, mode: Mode) -> RecordedRunBuilder {
        RecordedRunBuilder {
            host: self.clone(),
            plugin: plugin.clone(),
            record: record.clone(),
            mode,
            again: Vec::new(),
            limits: LimitsPatch::default(),
        }
    }
}

impl RunBuilder {
    /// Overrides the limits of the root task, within the plugin's grant. Limits that are not set stay as they are
    /// configured.
    pub fn limits(mut self, limits: impl Into<LimitsPatch>) -> Self {
        self.limits = limits.into().over(self.limits);
        self
    }

    /// Records `command` in the journal: the data that the program needs to start the run again.
    pub fn command(mut self, command: Value) -> Self {
        self.command = command;
        self
    }

    /// Starts the run and returns its handle at once.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Input`](agenthost_core::error::ErrorClass::Input) for an input that is not of the plugin's type;
    /// [`ErrorClass::Config`](agenthost_core::error::ErrorClass::Config) for a granted directory that cannot be opened.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub fn start(self) -> Result<RunHandle> {
        self.start_after(|_| Ok(()))
    }

    /// Starts the run after `note` was called with its id. A program that has to find the run after a crash stores the id
    /// there.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::error::Error;
    /// use agenthost::{Host, Journal};
    ///
    /// # let component = double();
    /// # let dir = tempfile::tempdir()?;
    /// let journal = Journal::sqlite(dir.path().join("journal.db"))?;
    /// let host = Host::builder().journal(journal.clone()).build()?;
    /// let run = host.run(&host.load_bytes(&component)?, &21);
    /// assert!(run.start_after(|_| Err(Error::host("no room for the id"))).is_err());
    /// assert!(journal.find("last").is_err(), "it did not start");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`RunBuilder::start`], and that of `note`.
    #[doc(hidden)]
    pub fn start_after(self, note: impl FnOnce(&str) -> Result<()>) -> Result<RunHandle> {
        let (host, plugin) = (self.host, self.plugin.loaded);
        let record = host.new_record(RunKind::Run, &plugin, &self.command)?;
        let id = record.id.clone();
        let recorder = host.recorder(&record, Mode::Live, Vec::new());
        let run = host.prepare_run(&plugin, &self.input?, &self.limits, record, recorder)?;
        note(&id)?;
        // The run is claimed last, so that a run that cannot start leaves its record unchanged.
        run.claim_new()?;
        Ok(run.start())
    }
}

impl RecordedRunBuilder {
    /// Sets the limits of the root task, within the plugin's grant. Limits that are not set are those of the
    /// configuration: the record does not contain the limits that the run began with, so give them again.
    pub fn limits(mut self, limits: impl Into<LimitsPatch>) -> Self {
        self.limits = limits.into().over(self.limits);
        self
    }

    /// Makes the model calls of `task` again in a resumed run, which may have ended; several calls name several tasks. The earlier replies stay in the record,
    /// and their cost stays part of the run. The tasks above `task` run again with its new outcome; what they ask for in
    /// the same words is not asked for again. A replay is not affected.
    ///
    /// The run does not start if the record has no such task, or if the task made no model call
    /// ([`ErrorClass::Usage`](agenthost_core::error::ErrorClass::Usage)).
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::{FailedTasks, Host, Journal, TaskId};
    /// use agenthost::providers::script::Script;
    ///
    /// # let component = ask();
    /// # let dir = tempfile::tempdir()?;
    /// let script = "[[rule]]\ntimes = 1\ntext = 'Sorry?'\n[[rule]]\ntext = 'Blue.'";
    /// let journal = Journal::sqlite(dir.path().join("journal.db"))?;
    /// let builder = Host::builder().model("fast", "own/any").provider("own", Script::parse(script, "colors")?);
    /// let host = builder.journal(journal.clone()).build()?;
    /// let ask = host.load_bytes(&component)?;
    /// assert_eq!(host.run(&ask, "Name a color.").await?.output::<String>()?, "Sorry?");
    ///
    /// let again = host.resume(&ask, &journal.find("last")?, FailedTasks::Keep).ask_again(TaskId::root()).await?;
    /// assert_eq!(again.output::<String>()?, "Blue.");
    /// # Ok(())
    /// # }
    /// ```
    pub fn ask_again(mut self, task: TaskId) -> Self {
        self.again.push(task);
        self
    }

    /// Reads the record, starts the run and returns its handle.
    ///
    /// # Errors
    ///
    /// As [`RunBuilder::start`]; [`ErrorClass::Usage`](agenthost_core::error::ErrorClass::Usage) if the journal does
    /// not hold the input of the run, and if the run is still going on, in this process or another.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub async fn start(self) -> Result<RunHandle> {
        let (host, plugin) = (self.host, self.plugin.loaded);
        let input = host.recorded_input(&self.record).await?;
        let recorder = host.recorder(&self.record, self.mode, self.again);
        let run = host.prepare_run(&plugin, &input, &self.limits, self.record, recorder)?;
        run.claim().await?;
        Ok(run.start())
    }
}

/// Runs to the end. Dropping the future cancels the run.
impl IntoFuture for RunBuilder {
    type Output = Result<RunReport>;
    type IntoFuture = BoxFuture<'static, Result<RunReport>>;

    fn into_future(self) -> Self::IntoFuture {
        async move {
            let run = self.start()?;
            Ok(Arc::unwrap_or_clone(run.report().await))
        }
        .boxed()
    }
}

/// Runs to the end. Dropping the future cancels the run.
impl IntoFuture for RecordedRunBuilder {
    type Output = Result<RunReport>;
    type IntoFuture = BoxFuture<'static, Result<RunReport>>;

    fn into_future(self) -> Self::IntoFuture {
        async move {
            let run = self.start().await?;
            Ok(Arc::unwrap_or_clone(run.report().await))
        }
        .boxed()
    }
}
