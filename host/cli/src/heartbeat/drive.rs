//! One look at one schedule: whether it is due, whether there is anything to do, its run, and the record of its end.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::batch::{check_models, used_up_allowance};
use crate::command::RecordedRunCommand;
use crate::global::Global;
use crate::host::schedule_host;
use crate::journal::{self, journal_path};
use crate::offline::refuse_unasked;
use crate::output::{Bound, Printer, class_code, error_code, exit, outcome_code};
use crate::recorded::now_ms;
use crate::run::max_memory;
use crate::schedules::{clock, millis};
use crate::which::PluginArgs;
use agenthost::allowance;
use agenthost::config::{Config, Env, ScheduleConfig, WhenUnchanged, trust};
use agenthost::error::{Classify as _, Error, ErrorClass, Result, with_causes};
use agenthost::journal::{JournalError, RunRecord, RunStatus};
use agenthost::limits::{Cap, LimitKind, LimitOwner, LimitsPatch, Usd};
use agenthost::run::{ModelReport, RunReport};
use agenthost::schedule::{
    LockedSchedule, RESUMES, ScheduleDecision, ScheduleEnd, ScheduleFile, ScheduleInputs, ScheduleMode, ScheduleState,
    StartedRun, is_incurable,
};
use agenthost::task::{Failure, FailureClass, Outcome};
use agenthost::{Cancellation, FailedTasks, RunHandle};

/// A schedule that is looked at.
pub(super) struct ScheduleRunner<'a> {
    pub(super) name: &'a str,
    pub(super) schedule: &'a ScheduleConfig,
    pub(super) file: ScheduleFile,
    pub(super) config: &'a Config,
    /// The folder of this user's records.
    pub(super) state_dir: &'a Path,
    pub(super) global: &'a Global,
    pub(super) env: &'a Env,
    pub(super) printer: &'a Printer,
    pub(super) json: bool,
    /// The signal that ends everything.
    pub(super) stop: &'a Cancellation,
}

/// The result of a look.
pub(super) enum Step {
    /// Nothing was started. The next look makes sense at this time, in milliseconds since 1970.
    Wait(Option<u64>),
    /// Another process works on the schedule.
    Busy,
    /// A run has ended, or could not start; this is its exit code.
    Ended(u8),
}

/// A run of a schedule that has ended.
struct EndedRun {
    run: String,
    plugin: String,
    outcome: Outcome,
    cost: Option<Usd>,
    models: Vec<ModelReport>,
    resumed: bool,
    /// `true` if the rest of the day's money limited it, and not its own limit.
    by_rest: bool,
    /// `true` if it was resumed with the money of a whole day and did not spend any of it.
    spent_nothing: bool,
}

/// The result of an attempt to run a schedule.
enum Attempt {
    /// The run has ended.
    Ended(EndedRun),
    /// The run could not start.
    Failed(Error),
    /// The run did not start, because the setting of `[allowance]` with this key is used up.
    UsedUp(String),
}

/// A run that was started, with the name of its plugin; or the key of `[allowance]` that is used up.
enum Begun {
    Run(RunHandle, String),
    UsedUp(String),
}

/// The reason why an interrupted run is not resumed.
enum NotResumed {
    /// Another process runs it.
    Busy,
    /// No money is left of the day.
    UsedUp,
    /// Its journal is that of another folder; this is the reason in words.
    Elsewhere(String),
    /// It can never be resumed, and nothing is lost: another run takes its place.
    Lost(String),
    /// Its process died each time that it was resumed.
    TooOften(Error),
    /// It cannot be resumed now.
    Failed(Error),
    /// The state of the schedule cannot be written.
    Unwritable(Error),
}

/// Only a run that its journal does not have is lost: any other error may pass, and the run has been paid for.
impl From<Error> for NotResumed {
    fn from(error: Error) -> Self {
        match error.downcast_ref() {
            Some(JournalError::Running { .. }) => Self::Busy,
            Some(JournalError::NoSuchRun { .. } | JournalError::NoRuns) => {
                Self::Lost("its journal does not have it".to_owned())
            }
            _ => Self::Failed(error),
        }
    }
}

impl ScheduleRunner<'_> {
    /// Prints a line about the schedule.
    pub(super) fn say(&self, text: &str) {
        self.printer.say(&format!("{}: {text}", self.name));
    }

    /// Looks at the schedule, and runs it if it is due.
    ///
    /// # Errors
    ///
    /// If the state of the schedule cannot be read or written, or the operator has not accepted the schedule as it is.
    /// A run that fails or cannot start is part of the step and not an error.
    pub(super) async fn look(&self, mode: ScheduleMode) -> Result<Step> {
        if self.schedule.enabled
            && let Err(error) = trust::check_schedule(self.config, self.name)
            && error.class() == ErrorClass::Denied
        {
            return Err(error.into());
        }
        let Some(lock) = self.file.try_lock()? else {
            return Ok(Step::Busy);
        };
        let before = lock.read()?;
        let mut state = before.clone();
        let step = match state.decide(self.schedule, mode, now_ms()) {
            ScheduleDecision::Disabled => {
                self.explain(mode, "not started: it is disabled");
                Step::Wait(None)
            }
            ScheduleDecision::Stopped if mode == ScheduleMode::Once => self.is_stopped(&mut state),
            ScheduleDecision::Stopped => Step::Wait(None),
            ScheduleDecision::Wait(until) => {
                let until_text = until.map(|until| format!(" until {}", clock(until)));
                self.explain(mode, &format!("not due{}", until_text.unwrap_or_default()));
                Step::Wait(until)
            }
            ScheduleDecision::Resume => self.resume(&lock, &mut state, mode).await?,
            ScheduleDecision::Start(due) => self.start(&lock, &mut state, due, mode).await?,
        };
        if state != before {
            lock.write(&state)?;
        }
        Ok(step)
    }

    /// Prints why a single look starts nothing, if a person reads it.
    fn explain(&self, mode: ScheduleMode, text: &str) {
        if mode == ScheduleMode::Once && self.printer.moves() {
            self.say(text);
        }
    }

    /// Reports that the schedule has stopped, and returns the exit code of its last failure. A person reads it once;
    /// a program that asks for documents gets one each time.
    fn is_stopped(&self, state: &mut ScheduleState) -> Step {
        let Some(stopped) = state.stopped.clone() else {
            return Step::Wait(None);
        };
        let last = state.last.as_ref().map(|last| last.outcome.clone());
        let class = stopped.class.or(last).unwrap_or_default();
        self.document_error(
            &class,
            &format!("stopped: {}", stopped.reason),
            Some(&self.restart_hint()),
        );
        self.say_stopped(state);
        Step::Ended(class_code(&class))
    }

    /// Prints why the schedule has stopped, unless it was reported before.
    fn say_stopped(&self, state: &mut ScheduleState) {
        if let Some(stopped) = &mut state.stopped
            && !stopped.is_reported
        {
            stopped.is_reported = true;
            let message = format!("{}: stopped: {}", self.name, stopped.reason);
            self.printer.problem(&message, Some(&self.restart_hint()));
        }
    }

    fn restart_hint(&self) -> String {
        format!(
            "Correct the cause, then run `agenthost heartbeat --restart {}`; a change of the schedule restarts it, too.",
            self.name
        )
    }

    /// Prints the document of a look that has an error and no run, if documents are wanted.
    fn document_error(&self, class: &str, message: &str, hint: Option<&str>) {
        if self.json {
            let document = json!({
                "format": 1,
                "schedule": self.name,
                "run": null,
                "error": {"class": class, "message": message, "hint": hint},
            });
            let _ = self.printer.data(&document);
        }
    }

    /// Starts a run for the time `due`, unless there is nothing to do or no money left.
    async fn start(
        &self,
        lock: &LockedSchedule,
        state: &mut ScheduleState,
        due: u64,
        mode: ScheduleMode,
    ) -> Result<Step> {
        let now = now_ms();
        let ready = trust::check_schedule(self.config, self.name).map_err(Error::from);
        let inputs = match ready {
            Ok(()) => self.inputs().await,
            Err(error) => Err(error),
        };
        let inputs = match inputs {
            Ok(inputs) => inputs,
            Err(error) => {
                state.begin(due, now, None);
                return Ok(self.end(state, Attempt::Failed(error)));
            }
        };
        let is_unchanged = inputs
            .digest
            .as_deref()
            .is_some_and(|digest| state.is_unchanged(digest));
        let idle = match (inputs.is_empty, is_unchanged, self.schedule.unchanged) {
            (true, _, _) => Some("the checklist is empty"),
            (false, true, WhenUnchanged::Skip) => Some("nothing has changed"),
            _ => None,
        };
        if let Some(reason) = idle {
            state.skip(due, now, reason);
            let text = format!("not started: {reason}");
            match self.global.verbose {
                0 => self.explain(mode, &text),
                _ => self.say(&text),
            }
            return Ok(Step::Wait(state.next(self.schedule, now)));
        }
        let left = self.left()?;
        if left == Usd::ZERO {
            let until = renewal("cost-per-day");
            state.skip(due, now, "the limit on its cost per day is reached");
            state.pause_for_renewal(now, until);
            self.say(&format!(
                "not started before {}: {} a day is used up",
                clock(until),
                self.schedule.cost_per_day
            ));
            return Ok(Step::Wait(Some(until)));
        }
        state.begin(due, now, inputs.digest);
        lock.write(state)?;
        let attempt = self.run(lock, state, left).await?;
        Ok(self.end(state, attempt))
    }

    /// Reads the checklist and the watched files, which may be large, on a thread that may block.
    async fn inputs(&self) -> Result<ScheduleInputs> {
        let schedule = self.schedule.clone();
        let read = tokio::task::spawn_blocking(move || ScheduleInputs::read(&schedule)).await;
        read.map_err(|_| Error::host("the files of the schedule were not read"))?
    }

    /// Returns the money that is left of this day.
    fn left(&self) -> Result<Usd> {
        let status = allowance::of_schedule(self.config, self.name, self.state_dir, SystemTime::now())?;
        let left = status.map_or(0, |status| status.most.saturating_sub(status.used));
        Ok(Usd::from_pico(left))
    }

    /// Runs the plugin to its end.
    async fn run(&self, lock: &LockedSchedule, state: &mut ScheduleState, left: Usd) -> Result<Attempt> {
        let mut limits = self.schedule.limits();
        let own = match limits.cost {
            Some(Cap::At(own)) => Some(own),
            Some(Cap::Unlimited) => None,
            None => self.config.limits().cost,
        };
        let by_rest = own.is_none_or(|own| left < own);
        limits.cost = Some(Cap::At(own.map_or(left, |own| own.min(left))));
        let (run, plugin) = match self.begin(lock, state, &limits, by_rest).await {
            Ok(Begun::Run(run, plugin)) => (run, plugin),
            Ok(Begun::UsedUp(key)) => return Ok(Attempt::UsedUp(key)),
            Err(error) => return Ok(Attempt::Failed(error)),
        };
        let ended = self.watch(&run, false).await;
        Ok(Attempt::Ended(EndedRun {
            by_rest,
            plugin,
            ..ended
        }))
    }

    /// Starts a run.
    async fn begin(
        &self,
        lock: &LockedSchedule,
        state: &mut ScheduleState,
        limits: &LimitsPatch,
        by_rest: bool,
    ) -> Result<Begun> {
        // The trust may have been revoked, and a file may have become a link.
        trust::check_schedule(self.config, self.name)?;
        let input = ScheduleInputs::of_run(self.schedule)?;
        let env = self.env.at(self.schedule.dir());
        let config = self.config.clone();
        let host = schedule_host(config, self.name, self.global, self.env, max_memory(limits))?;
        let which = PluginArgs::of(&self.schedule.plugin);
        let plugin = which.load(&host, &env, self.printer).await?;
        let own = host.limits(&plugin, limits);
        let most = own.clone().narrowed_by(&host.config().run().limits);
        check_models(&host, &plugin, &most, Some(self.name), self.printer)?;
        refuse_unasked(&host, &plugin, &own, self.printer)?;
        if let Some(LimitOwner::Allowance { key, .. }) = used_up_allowance(&host, &plugin, &most, self.env)? {
            return Ok(Begun::UsedUp(key));
        }
        let command = RecordedRunCommand::new(&which, self.schedule.limits.clone(), self.global.offline_models, &env)?;
        let command = command.of_schedule(self.name);
        let command = match host.keeps_journal() {
            true => command.sealed(&env)?,
            false => command,
        };
        let run = host.run(&plugin, &input).limits(limits).command(command.to_json()?);
        let journal = self.journal().filter(|_| host.keeps_journal());
        // The id is on the disk before the run can spend anything, so that no crash makes a second run of it.
        let started = run.start_after(|id| {
            state.started(id, journal.as_deref().map(resolved), by_rest);
            lock.write(state)
        });
        if started.is_err()
            && let Some(running) = &mut state.running
        {
            running.run = None;
        }
        Ok(Begun::Run(started?, plugin.id().to_string()))
    }

    /// Waits for the end of a run, which the end of this program cancels.
    async fn watch(&self, run: &RunHandle, resumed: bool) -> EndedRun {
        let report = tokio::select! {
            report = run.report() => report,
            () = self.stop.cancelled() => {
                run.cancel();
                run.report().await
            }
        };
        let RunReport {
            outcome, models, spent, ..
        } = &*report;
        EndedRun {
            run: report.run.to_string(),
            plugin: String::new(),
            outcome: outcome.clone(),
            cost: spent.known_cost(),
            models: models.clone(),
            resumed,
            by_rest: false,
            spent_nothing: false,
        }
    }

    /// Goes on with the run that was interrupted. If that will never be possible, another one is started.
    async fn resume(&self, lock: &LockedSchedule, state: &mut ScheduleState, mode: ScheduleMode) -> Result<Step> {
        let Some(running) = state.running.clone() else {
            return Ok(Step::Wait(None));
        };
        match self.resume_run(lock, state, &running).await {
            Ok(ended) => Ok(self.end(state, Attempt::Ended(ended))),
            Err(NotResumed::Busy) => Ok(Step::Busy),
            Err(NotResumed::UsedUp) => {
                let until = renewal("cost-per-day");
                state.pause_for_renewal(now_ms(), until);
                self.say(&format!(
                    "not resumed before {}: the limit of the day is used up",
                    clock(until)
                ));
                Ok(Step::Wait(Some(until)))
            }
            Err(NotResumed::Elsewhere(reason)) => {
                match state.note(now_ms(), &reason) {
                    true => self.say(&reason),
                    false => self.explain(mode, &reason),
                }
                Ok(Step::Wait(None))
            }
            Err(NotResumed::Lost(why)) => {
                self.say(&format!("the interrupted run is not resumed: {why}"));
                let due = now_ms();
                state.give_up();
                lock.write(state)?;
                self.start(lock, state, due, mode).await
            }
            Err(NotResumed::TooOften(error)) => Ok(self.not_started(state, &error, None)),
            Err(NotResumed::Failed(error)) => {
                state.postpone(
                    is_incurable_error(&error),
                    error.class().name(),
                    &with_causes(&error),
                    now_ms(),
                );
                Ok(self.failed(state, &error))
            }
            Err(NotResumed::Unwritable(error)) => Err(error),
        }
    }

    /// Goes on with a run to its end. Returns the end at once if it is in the journal.
    async fn resume_run(
        &self,
        lock: &LockedSchedule,
        state: &mut ScheduleState,
        running: &StartedRun,
    ) -> std::result::Result<EndedRun, NotResumed> {
        trust::check_schedule(self.config, self.name).map_err(Error::from)?;
        let Some(id) = running.run.clone() else {
            return Err(NotResumed::Lost("it had not begun".to_owned()));
        };
        let Some(place) = &running.journal else {
            return Err(NotResumed::Lost("no journal records it".to_owned()));
        };
        if !Path::new(place).try_exists().unwrap_or(true) {
            return Err(NotResumed::Lost(format!("its journal, {place}, is gone")));
        }
        let path = self.journal();
        if path.as_deref().map(resolved).as_ref() != Some(place) {
            return Err(NotResumed::Elsewhere(format!(
                "run {id} is resumed only by a heartbeat whose journal is {place}"
            )));
        }
        let wanted = id.clone();
        let found = journal::read(self.global, self.config, self.env, move |journal| {
            let record = journal::find(journal, path.as_deref(), &wanted)?;
            let has_input = journal::root_input(journal, &record)?.is_some();
            Ok((record, has_input))
        });
        let (record, has_input) = found.await?;
        if let Some(ended) = ended(&record, running.by_rest)
            && !matches!(scheduled_end(&ended, false), ScheduleEnd::LimitReached(_))
        {
            // The output is shown once, so its end must be one that can be written.
            lock.write(state).map_err(NotResumed::Unwritable)?;
            return Ok(ended);
        }
        if !has_input {
            return Err(NotResumed::Lost("the journal does not hold its input".to_owned()));
        }
        let left = self.left()?;
        if left == Usd::ZERO {
            return Err(NotResumed::UsedUp);
        }
        if running.resumes >= RESUMES {
            let error = Error::host(format!(
                "run {id} was resumed {RESUMES} times, and its process died each time"
            ));
            return Err(NotResumed::TooOften(
                error.with_hint(format!("`agenthost show {id}` shows how far it came.")),
            ));
        }
        let run = self.begin_again(lock, state, &record).await?;
        self.say(&format!("run {id} is resumed"));
        let ended = self.watch(&run, true).await;
        let before = record.end.as_ref().map(|end| end.summary.spent.known_cost());
        Ok(EndedRun {
            plugin: record.plugin.clone(),
            spent_nothing: left == self.schedule.cost_per_day && before == Some(ended.cost),
            ..ended
        })
    }

    async fn begin_again(
        &self,
        lock: &LockedSchedule,
        state: &mut ScheduleState,
        record: &RunRecord,
    ) -> std::result::Result<RunHandle, NotResumed> {
        let command = RecordedRunCommand::of(record)?;
        command.check(record, self.config, self.env, false)?;
        let limits = command.limits(self.schedule.limits());
        let config = self.config.clone();
        let host = schedule_host(config, self.name, self.global, self.env, max_memory(&limits))?;
        let plugin = std::sync::Arc::new(command.load(&host, self.env, self.printer).await?);
        if !host.changed_plugins(&plugin, record).await?.is_empty() {
            return Err(NotResumed::Lost("the plugin has changed".to_owned()));
        }
        refuse_unasked(&host, &plugin, &host.limits(&plugin, &limits), self.printer)?;
        let before = state.running.clone();
        state.resume();
        lock.write(state).map_err(NotResumed::Unwritable)?;
        let resumed = host.resume(&plugin, record, FailedTasks::Keep).limits(&limits);
        match resumed.start().await {
            Ok(run) => Ok(run),
            Err(error) => {
                state.running = before;
                lock.write(state).map_err(NotResumed::Unwritable)?;
                Err(error.into())
            }
        }
    }

    /// Returns the path of the journal of this folder; `None` if none is kept.
    fn journal(&self) -> Option<PathBuf> {
        journal_path(self.config, self.env, self.global.journal.as_deref())
    }

    /// Records and shows the end of a run, or the reason why there is none.
    fn end(&self, state: &mut ScheduleState, attempt: Attempt) -> Step {
        let ended = match attempt {
            Attempt::Ended(ended) => ended,
            Attempt::Failed(error) => return self.not_started(state, &error, Some(Usd::ZERO)),
            Attempt::UsedUp(key) => {
                let until = renewal(&key);
                state.ended(
                    self.schedule,
                    ScheduleEnd::LimitReached(until),
                    Some(Usd::ZERO),
                    now_ms(),
                );
                self.say(&format!(
                    "not started before {}: `{key}` under [allowance] is used up",
                    clock(until)
                ));
                return Step::Ended(exit::DONE);
            }
        };
        let interrupted = self.stop.is_cancelled();
        let end = scheduled_end(&ended, interrupted);
        let is_of_day = is_of_day(&ended, &end);
        // As for a day that is used up before a run.
        let code = match is_of_day {
            true => exit::DONE,
            false => outcome_code(&ended.outcome, interrupted),
        };
        state.ended(self.schedule, end.clone(), ended.cost, now_ms());
        self.show(&ended, &end);
        let cost = ended
            .cost
            .map_or_else(|| "cost unknown".to_owned(), |cost| cost.to_string());
        let how = match &end {
            ScheduleEnd::Well => "ended well".to_owned(),
            ScheduleEnd::Interrupted => "was interrupted and is resumed at the next start".to_owned(),
            ScheduleEnd::LimitReached(until) if state.running.is_some() => {
                format!("reached a limit and is resumed at {}", clock(*until))
            }
            ScheduleEnd::LimitReached(until) => format!("reached a limit; nothing starts before {}", clock(*until)),
            ScheduleEnd::Failed { .. } => "failed".to_owned(),
        };
        let next = state.next(self.schedule, now_ms());
        let next = next.filter(|_| state.running.is_none());
        let next = next.map(|next| format!("; next {}", clock(next))).unwrap_or_default();
        if is_of_day && ended.cost == Some(Usd::ZERO) {
            self.say("not enough is left of the day for a run");
        }
        self.say(&format!("run {} {how}, {cost}{next}", ended.run));
        self.say_stopped(state);
        Step::Ended(code)
    }

    /// Records and shows the reason why a run did not start or is given up, with what it has cost.
    fn not_started(&self, state: &mut ScheduleState, error: &Error, cost: Option<Usd>) -> Step {
        let end = ScheduleEnd::Failed {
            incurable: is_incurable_error(error),
            class: error.class().name().to_owned(),
            message: with_causes(error),
        };
        state.ended(self.schedule, end, cost, now_ms());
        self.failed(state, error)
    }

    /// Shows an error that belongs to no run, and returns its exit code.
    pub(super) fn show_error(&self, error: &Error) -> u8 {
        let hint = crate::hints::hint(error);
        self.document_error(error.class().name(), &with_causes(error), hint.as_deref());
        let message = format!("{}: {}", self.name, with_causes(error));
        self.printer.problem(&message, hint.as_deref());
        error_code(error.class())
    }

    /// Shows an error, and whether it has stopped the schedule.
    fn failed(&self, state: &mut ScheduleState, error: &Error) -> Step {
        let code = self.show_error(error);
        self.say_stopped(state);
        Step::Ended(code)
    }

    /// Prints the output of a run on stdout, and its failure on stderr.
    fn show(&self, ended: &EndedRun, end: &ScheduleEnd) {
        if self.json {
            let document = json!({
                "format": 1,
                "schedule": self.name,
                "run": ended.run,
                "plugin": ended.plugin,
                "resumed": ended.resumed,
                "outcome": ended.outcome,
                "cost_usd": ended.cost,
            });
            let _ = self.printer.data(&document);
        }
        match &ended.outcome {
            Outcome::Failure(failure) if failure.class != FailureClass::Cancelled || !self.stop.is_cancelled() => {
                let what = format!("{}, run {}", self.name, ended.run);
                self.printer.failure(&what, failure, self.bound(failure, end));
            }
            Outcome::Failure(_) => {}
            Outcome::Ok(_) if self.json => {}
            Outcome::Ok(output) if is_nothing(output) => {}
            Outcome::Ok(Value::String(text)) => drop(self.printer.raw(text)),
            Outcome::Ok(output) => drop(self.printer.data(output)),
        }
    }

    /// Returns the source of the limit that a run reached.
    fn bound(&self, failure: &Failure, end: &ScheduleEnd) -> Bound<'_> {
        let of_day = LimitOwner::Allowance {
            key: "cost-per-day".to_owned(),
            project: false,
            schedule: Some(self.name.to_owned()),
        };
        // The rest of the day was the run's own limit.
        let owner = match (&failure.owner, end) {
            (None, ScheduleEnd::LimitReached(_)) => Some(&of_day),
            (owner, _) => owner.as_ref(),
        };
        let more = owner.and_then(|owner| crate::allowance::more(owner, self.config, SystemTime::now()));
        match more {
            Some(more) => Bound::Allowance(format!("To go on, {more}.")),
            None => Bound::Schedule(self.name),
        }
    }
}

/// Returns the end of a run that the journal knows as ended; `None` if it was interrupted.
fn ended(record: &RunRecord, by_rest: bool) -> Option<EndedRun> {
    let end = record.end.as_ref()?;
    let unknown = || {
        Outcome::Failure(Failure::new(
            FailureClass::Failed,
            "the journal does not hold the failure",
        ))
    };
    let outcome = match end.state {
        RunStatus::Interrupted => return None,
        RunStatus::Done => end.summary.outcome.clone().unwrap_or(Outcome::Ok(Value::Null)),
        _ => end.summary.outcome.clone().unwrap_or_else(unknown),
    };
    Some(EndedRun {
        run: record.id.clone(),
        plugin: record.plugin.clone(),
        outcome,
        cost: end.summary.spent.known_cost(),
        models: end.summary.models.clone(),
        resumed: true,
        by_rest,
        spent_nothing: false,
    })
}

/// Returns whether a retry cannot cure the error that keeps a run from starting.
fn is_incurable_error(error: &Error) -> bool {
    error.class() != ErrorClass::Host
}

/// Returns a path with its links followed, as text.
fn resolved(path: &Path) -> String {
    let resolved = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    resolved.to_string_lossy().into_owned()
}

fn scheduled_end(ended: &EndedRun, interrupted: bool) -> ScheduleEnd {
    let Some(failure) = ended.outcome.failure() else {
        return ScheduleEnd::Well;
    };
    match (failure.class, &failure.owner) {
        (FailureClass::Cancelled, _) if interrupted => ScheduleEnd::Interrupted,
        // No day has the money for its next request.
        (FailureClass::Exhausted, Some(LimitOwner::Allowance { schedule: Some(_), .. })) if ended.spent_nothing => {
            ScheduleEnd::Failed {
                incurable: true,
                class: failure.class.name().to_owned(),
                message: failure.to_string(),
            }
        }
        (FailureClass::Exhausted, Some(LimitOwner::Allowance { key, .. })) => ScheduleEnd::LimitReached(renewal(key)),
        (FailureClass::Exhausted, None) if ended.by_rest && failure.limit == Some(LimitKind::Cost) => {
            ScheduleEnd::LimitReached(renewal("cost-per-day"))
        }
        _ => ScheduleEnd::Failed {
            incurable: is_incurable(failure, &ended.models),
            class: failure.class.name().to_owned(),
            message: failure.to_string(),
        },
    }
}

/// Returns whether a run has reached the limit on the cost of its schedule's day.
fn is_of_day(ended: &EndedRun, end: &ScheduleEnd) -> bool {
    let owner = ended.outcome.failure().and_then(|failure| failure.owner.as_ref());
    let is_own = owner.is_none_or(|owner| matches!(owner, LimitOwner::Allowance { schedule: Some(_), .. }));
    is_own && matches!(end, ScheduleEnd::LimitReached(_))
}

/// Returns whether an output reports nothing: no text, no value, or an object without changes whose other fields are
/// empty, too.
fn is_nothing(output: &Value) -> bool {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    match output {
        Value::Object(fields) => fields.get("changes").is_some_and(Value::is_array) && fields.values().all(is_empty),
        Value::Array(_) => false,
        output => is_empty(output),
    }
}

/// Returns the time at which the allowance `key` begins anew, in milliseconds since 1970.
fn renewal(key: &str) -> u64 {
    millis(allowance::renewed(key, SystemTime::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_without_anything_to_report_is_nothing() {
        for output in [
            json!(null),
            json!(""),
            json!(" \n"),
            json!({"changes": []}),
            json!({"changes": [], "unchecked": [], "note": null, "text": ""}),
        ] {
            assert!(is_nothing(&output), "{output}");
        }
        for output in [
            json!("ok"),
            json!(0),
            json!(false),
            json!([]),
            json!({}),
            json!({"changes": [1]}),
            json!({"changes": [], "unchecked": ["the model failed"]}),
            json!({"changes": [], "checked": 3}),
            json!({"changes": null}),
        ] {
            assert!(!is_nothing(&output), "{output}");
        }
    }

    #[test]
    fn the_rest_of_a_day_is_a_limit_of_the_day_and_any_other_is_a_failure() {
        let end = |owner: Option<LimitOwner>, limit: LimitKind, by_rest: bool| {
            let mut failure = Failure::exhausted(limit, "no more");
            failure.owner = owner;
            let ended = EndedRun {
                run: "r".to_owned(),
                plugin: "a:b".to_owned(),
                outcome: Outcome::Failure(failure),
                cost: None,
                models: Vec::new(),
                resumed: false,
                by_rest,
                spent_nothing: false,
            };
            matches!(scheduled_end(&ended, false), ScheduleEnd::LimitReached(_))
        };
        let allowance = LimitOwner::Allowance {
            key: "cost-per-day".to_owned(),
            project: false,
            schedule: Some("tidy".to_owned()),
        };
        assert!(end(Some(allowance), LimitKind::Cost, false));
        assert!(end(None, LimitKind::Cost, true));
        assert!(!end(None, LimitKind::Cost, false), "its own limit");
        assert!(!end(None, LimitKind::Tokens, true));
        assert!(!end(Some(LimitOwner::Task("root/0".to_owned())), LimitKind::Cost, true));
    }
}
