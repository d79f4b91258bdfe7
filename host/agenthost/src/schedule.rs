//! Schedules: when one is due, what is remembered of it, and whether there is anything to do.
//!
//! A program that runs schedules opens the [`ScheduleFile`] of each, locks it, asks [`ScheduleState::decide`], starts
//! the run itself, and reports its end with [`ScheduleState::ended`]. The lock is held for the whole run, so two
//! programs never run the same schedule at once; what is written under it says which time was served last, so they do
//! not run the same time twice either. This module reads no clock and starts nothing: the caller gives the time.
//!
//! A run is started at most once for each look, however many times were missed, and a clock that was set back by more
//! than [`CLOCK_STEP`] neither repeats what was done nor holds anything up for longer.

mod file;
mod files;

use serde::{Deserialize, Serialize};

pub use self::file::{LockedSchedule, ScheduleFile};
pub use self::files::{ScheduleInputs, is_empty_list};
use agenthost_config::{ScheduleConfig, ScheduleTimes, WhenMissed, WhenOverlapping};
use agenthost_core::limits::Usd;
use agenthost_core::llm::ProviderErrorKind;
use agenthost_core::run::ModelReport;
use agenthost_core::task::{Failure, FailureClass};

/// The number of failures in a row that a retry cannot cure after which a schedule stops.
pub const INCURABLE_FAILURES: u32 = 3;
/// The number of failures in a row after which a schedule stops.
pub const FAILURES: u32 = 10;
/// The time by which a start may be late before it counts as missed, in milliseconds.
pub const LATE: u64 = 60_000;
/// The largest step back of the clock that is waited for, in milliseconds.
pub const CLOCK_STEP: u64 = 3_600_000;
/// The number of times in a row that a run is resumed whose process dies. Then the run counts as a failure.
pub const RESUMES: u32 = 3;
/// The wait after a first failure, which doubles with each further one, and the longest wait, in milliseconds.
const BACKOFF: (u64, u64) = (60_000, 6 * 3_600_000);

/// The way in which a program looks at schedules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleMode {
    /// All the time, so that a time that has passed long ago was missed.
    Always,
    /// Once, when another program says so. The other program decides what is missed.
    Once,
}

/// The decision about one schedule at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleDecision {
    /// It is switched off.
    Disabled,
    /// It has stopped itself.
    Stopped,
    /// Nothing is due before this time, in milliseconds since 1970; `None` if nothing ever is.
    Wait(Option<u64>),
    /// The run that was interrupted is to be resumed.
    Resume,
    /// A run is due since this time, in milliseconds since 1970.
    Start(u64),
}

/// The end of a run, or of the attempt to start one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScheduleEnd {
    /// It has an output.
    Well,
    /// It failed.
    Failed {
        /// `true` if a retry cannot cure the failure.
        incurable: bool,
        /// The class of the failure.
        class: String,
        /// The failure, in words.
        message: String,
    },
    /// A limit on the cost of a day or month is used up until this time, in milliseconds since 1970.
    LimitReached(u64),
    /// It was interrupted and can be resumed.
    Interrupted,
}

/// Everything that is remembered of a schedule from one look to the next.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ScheduleState {
    pub(crate) format: u32,
    /// The digest of the configuration that the counts below belong to.
    config: String,
    /// The last time that was served: a run was started for it, or nothing was to be done.
    served_ms: Option<u64>,
    /// `true` if a time came while a run was going on, and one more run is to follow it.
    #[serde(default)]
    owed: bool,
    /// The run that was started and whose end is not recorded.
    pub running: Option<StartedRun>,
    /// The last run that ended.
    pub last: Option<EndedRun>,
    /// The reason for which nothing was started the last time.
    pub skipped: Option<ScheduleNote>,
    /// The digest of the files as the last run that ended well found them.
    files: Option<String>,
    /// The number of failures since the last run that ended well.
    #[serde(default)]
    pub failures: u32,
    /// The number of these that a retry cannot cure.
    #[serde(default)]
    incurable: u32,
    /// Nothing starts in this time.
    pause: Option<SchedulePause>,
    /// The reason for which it stopped itself.
    pub stopped: Option<StoppedSchedule>,
}

/// A run of a schedule that has started, or is about to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartedRun {
    /// Its id; `None` if it has not started.
    pub run: Option<String>,
    /// The path of the journal that records it; `None` if none is kept.
    #[serde(default)]
    pub journal: Option<String>,
    /// The number of times that it was resumed since it last stopped in order.
    #[serde(default)]
    pub resumes: u32,
    /// `true` if the rest of the day's money limits it, and not its own limit.
    #[serde(default)]
    pub by_rest: bool,
    /// `true` if it stopped in order, or could not be resumed, while its process may live on.
    #[serde(default)]
    idle: bool,
    /// The start, in milliseconds since 1970.
    pub started_ms: u64,
    /// The process, with the time at which it began.
    pid: u32,
    process: Option<String>,
    files: Option<String>,
}

impl StartedRun {
    /// Returns whether it is going on: whether the process that started it is alive, unless the run has stopped.
    pub fn is_alive(&self) -> bool {
        !self.idle && agenthost_core::process::is_alive_since(self.pid, self.process.as_deref())
    }
}

/// A run of a schedule that has ended, or that could not be started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndedRun {
    /// Its id in the journal; `None` if none is kept, and if it did not start.
    pub run: Option<String>,
    /// The start, in milliseconds since 1970.
    pub started_ms: u64,
    /// The end, in milliseconds since 1970.
    pub ended_ms: u64,
    /// `ok`, or the class of the failure.
    pub outcome: String,
    /// The failure, in words.
    pub message: Option<String>,
    /// The cost, if it is known.
    pub cost_usd: Option<Usd>,
}

/// Something about a schedule, with its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleNote {
    /// The time, in milliseconds since 1970.
    pub at_ms: u64,
    /// The reason, in words.
    pub reason: String,
}

/// The reason for which a schedule stopped itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedSchedule {
    /// The time, in milliseconds since 1970.
    pub at_ms: u64,
    /// The reason, in words.
    pub reason: String,
    /// The class of the last failure; `None` if an earlier version recorded the stop.
    #[serde(default)]
    pub class: Option<String>,
    /// `true` if a program has shown the reason to the operator.
    #[serde(default)]
    pub is_reported: bool,
}

/// A time in which nothing starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SchedulePause {
    from_ms: u64,
    until_ms: u64,
    /// `true` if it ends with a renewal of a limit on costs.
    #[serde(default)]
    limit: bool,
}

impl ScheduleState {
    /// Adapts the state to the schedule and the clock as they are now. A schedule that has changed begins anew: what it
    /// stopped for, what it waited for, and what it was doing may no longer be true.
    pub fn adapt(&mut self, schedule: &ScheduleConfig, now_ms: u64) {
        let digest = schedule.digest();
        if self.config != digest {
            *self = Self {
                format: self.format,
                config: digest,
                served_ms: self.served_ms,
                last: self.last.take(),
                ..Self::default()
            };
        }
        let latest = now_ms.saturating_add(CLOCK_STEP);
        if self.served_ms.is_some_and(|served| served > latest) {
            self.served_ms = Some(now_ms);
        }
        let is_over = |pause: &SchedulePause| pause.until_ms <= now_ms || pause.from_ms > latest;
        if self.pause.as_ref().is_some_and(is_over) {
            self.pause = None;
        }
    }

    /// Decides what to do now. The caller holds the lock of the schedule, so no run of it is going on.
    pub fn decide(&mut self, schedule: &ScheduleConfig, mode: ScheduleMode, now_ms: u64) -> ScheduleDecision {
        self.adapt(schedule, now_ms);
        if !schedule.enabled {
            return ScheduleDecision::Disabled;
        }
        if self.stopped.is_some() {
            return ScheduleDecision::Stopped;
        }
        if let Some(pause) = &self.pause {
            return ScheduleDecision::Wait(Some(pause.until_ms));
        }
        if self.running.is_some() {
            return ScheduleDecision::Resume;
        }
        let times = &schedule.times;
        let Some(served) = self.served_ms else {
            if mode == ScheduleMode::Always && matches!(times, ScheduleTimes::Cron(_)) {
                self.served_ms = Some(now_ms);
                return ScheduleDecision::Wait(times.next(now_ms));
            }
            return ScheduleDecision::Start(now_ms);
        };
        let latest = times.last(served, now_ms);
        if self.owed {
            return ScheduleDecision::Start(latest.unwrap_or(served));
        }
        let Some(latest) = latest else {
            return ScheduleDecision::Wait(times.next(served));
        };
        let is_missed = mode == ScheduleMode::Always && now_ms.saturating_sub(latest) > LATE;
        if is_missed && schedule.missed == WhenMissed::Skip {
            self.skip(latest, now_ms, "the time was missed");
            return ScheduleDecision::Wait(times.next(latest));
        }
        ScheduleDecision::Start(latest)
    }

    /// Returns the next time at which a run can start, in milliseconds since 1970; `None` if there is none.
    pub fn next(&self, schedule: &ScheduleConfig, now_ms: u64) -> Option<u64> {
        if !schedule.enabled || self.stopped.is_some() {
            return None;
        }
        let times = &schedule.times;
        let Some(served) = self.served_ms else {
            return match times {
                ScheduleTimes::Every(_) => Some(now_ms),
                ScheduleTimes::Cron(_) => times.next(now_ms),
            };
        };
        let from = match (&self.pause, self.running.is_some() || self.owed) {
            (Some(pause), true) => return Some(pause.until_ms),
            (None, true) => return Some(now_ms),
            (Some(pause), false) => pause.until_ms,
            (None, false) => now_ms,
        };
        match times.last(served, from.saturating_sub(1)) {
            // It is still about to start.
            Some(latest) if self.pause.is_none() && now_ms.saturating_sub(latest) <= LATE => Some(latest),
            Some(latest) => times.next(latest),
            None => times.next(served),
        }
    }

    /// Returns whether the files are as the last run that ended well found them.
    pub fn is_unchanged(&self, files: &str) -> bool {
        self.files.as_deref() == Some(files)
    }

    /// Returns whether it waits for the renewal of a limit on costs.
    pub fn waits_for_renewal(&self) -> bool {
        self.pause.as_ref().is_some_and(|pause| pause.limit)
    }

    /// Notes that nothing is to be done for the time `due_ms`.
    pub fn skip(&mut self, due_ms: u64, now_ms: u64, reason: &str) {
        (self.served_ms, self.owed) = (Some(due_ms), false);
        self.note(now_ms, reason);
    }

    /// Notes why nothing starts now. Returns whether the reason is a new one.
    pub fn note(&mut self, now_ms: u64, reason: &str) -> bool {
        if self.skipped.as_ref().is_some_and(|skipped| skipped.reason == reason) {
            return false;
        }
        self.skipped = Some(ScheduleNote {
            at_ms: now_ms,
            reason: reason.to_owned(),
        });
        true
    }

    /// Notes that nothing starts before `until_ms`, because a limit on costs is used up.
    pub fn pause_for_renewal(&mut self, now_ms: u64, until_ms: u64) {
        self.pause = Some(SchedulePause {
            from_ms: now_ms,
            until_ms,
            limit: true,
        });
    }

    /// Notes that the time `due_ms` is being served, with files that have this digest.
    pub fn begin(&mut self, due_ms: u64, now_ms: u64, files: Option<String>) {
        (self.served_ms, self.owed, self.skipped) = (Some(due_ms), false, None);
        let pid = std::process::id();
        self.running = Some(StartedRun {
            run: None,
            journal: None,
            resumes: 0,
            by_rest: false,
            idle: false,
            started_ms: now_ms,
            process: agenthost_core::process::start_of(pid),
            pid,
            files,
        });
    }

    /// Notes that this process is about to continue the run that was interrupted.
    pub fn resume(&mut self) {
        self.skipped = None;
        if let Some(running) = &mut self.running {
            running.resumes = running.resumes.saturating_add(1);
            (running.idle, running.by_rest) = (false, false);
            running.pid = std::process::id();
            running.process = agenthost_core::process::start_of(running.pid);
        }
    }

    /// Notes the id of the run that is about to start, and the journal that records it. `by_rest` is true if the rest
    /// of the day's money limits it.
    pub fn started(&mut self, run: &str, journal: Option<String>, by_rest: bool) {
        if let Some(running) = &mut self.running {
            (running.run, running.journal, running.by_rest) = (Some(run.to_owned()), journal, by_rest);
        }
    }

    /// Notes that the run that was interrupted could not be resumed now. It is tried again later.
    pub fn postpone(&mut self, incurable: bool, class: &str, message: &str, now_ms: u64) {
        if let Some(running) = &mut self.running {
            running.idle = true;
        }
        self.note(now_ms, message);
        self.failed(incurable, class, message, now_ms);
        if self.stopped.is_none() {
            self.back_off(now_ms);
        }
    }

    /// Notes that the run that was interrupted cannot be resumed, so that another takes its place.
    pub fn give_up(&mut self) {
        if self.running.take().is_some() {
            self.owed = true;
        }
    }

    /// Notes the end of a run, or of the attempt to start one.
    pub fn ended(&mut self, schedule: &ScheduleConfig, end: ScheduleEnd, cost_usd: Option<Usd>, now_ms: u64) {
        if let Some(running) = &mut self.running {
            (running.resumes, running.idle) = (0, true);
        }
        if end == ScheduleEnd::Interrupted {
            return;
        }
        self.skipped = None;
        let started = self.running.take();
        let (outcome, message) = match &end {
            ScheduleEnd::Failed { class, message, .. } => (class.as_str(), Some(message.clone())),
            ScheduleEnd::LimitReached(_) => (FailureClass::Exhausted.name(), None),
            ScheduleEnd::Well | ScheduleEnd::Interrupted => ("ok", None),
        };
        self.last = Some(EndedRun {
            run: started.as_ref().and_then(|started| started.run.clone()),
            started_ms: started.as_ref().map_or(now_ms, |started| started.started_ms),
            ended_ms: now_ms,
            outcome: outcome.to_owned(),
            message,
            cost_usd,
        });
        match end {
            ScheduleEnd::Well => {
                (self.failures, self.incurable, self.pause) = (0, 0, None);
                self.files = started.and_then(|started| started.files);
            }
            ScheduleEnd::LimitReached(until_ms) => {
                self.pause_for_renewal(now_ms, until_ms);
                // It goes on then, with the replies that it has paid for.
                self.running = started.filter(|started| started.run.is_some() && started.journal.is_some());
                if self.running.is_some() {
                    return;
                }
            }
            ScheduleEnd::Failed {
                incurable,
                class,
                message,
            } => {
                self.failed(incurable, &class, &message, now_ms);
                if self.stopped.is_none() && !incurable {
                    self.back_off(now_ms);
                }
            }
            ScheduleEnd::Interrupted => {}
        }
        let served = self.served_ms.unwrap_or(now_ms);
        if let Some(latest) = schedule.times.last(served, now_ms) {
            match schedule.overlap {
                WhenOverlapping::Skip => self.served_ms = Some(latest),
                WhenOverlapping::Wait => self.owed = true,
            }
        }
    }

    fn failed(&mut self, incurable: bool, class: &str, message: &str, now_ms: u64) {
        self.failures = self.failures.saturating_add(1);
        self.incurable = self.incurable.saturating_add(u32::from(incurable));
        let count = match self.incurable {
            INCURABLE_FAILURES.. => Some(self.incurable),
            _ if self.failures >= FAILURES => Some(self.failures),
            _ => None,
        };
        if let Some(count) = count {
            self.stopped = Some(StoppedSchedule {
                at_ms: now_ms,
                reason: format!("{count} failures in a row, the last: {message}"),
                class: Some(class.to_owned()),
                is_reported: false,
            });
        }
    }

    /// Notes that nothing starts for a time that doubles with each failure.
    fn back_off(&mut self, now_ms: u64) {
        let (first, longest) = BACKOFF;
        let doublings = self.failures.saturating_sub(1).min(20);
        self.pause = Some(SchedulePause {
            from_ms: now_ms,
            until_ms: now_ms.saturating_add(first.saturating_mul(1 << doublings).min(longest)),
            limit: false,
        });
    }

    /// Forgets what it stopped for and what it waits for. Returns whether it had stopped.
    pub fn restart(&mut self) -> bool {
        (self.failures, self.incurable, self.pause) = (0, 0, None);
        self.stopped.take().is_some()
    }
}

/// Returns whether a retry cannot cure a failure of a run that called these models: the key, the account, the request
/// or the permissions have to change first.
///
/// ```
/// use agenthost::run::ModelReport;
/// use agenthost::schedule::is_incurable;
/// use agenthost::{Failure, FailureClass};
///
/// let mut report = ModelReport::new("fast", "local/small");
/// report.requests = 1;
/// report.errors = [("authentication".to_owned(), 1)].into();
/// assert!(is_incurable(&Failure::new(FailureClass::Model, "invalid key"), &[report]));
/// ```
pub fn is_incurable(failure: &Failure, models: &[ModelReport]) -> bool {
    use ProviderErrorKind as Kind;
    const INCURABLE: [Kind; 6] = [
        Kind::Authentication,
        Kind::Permission,
        Kind::NotFound,
        Kind::SpendCap,
        Kind::InvalidRequest,
        Kind::TooLarge,
    ];
    match failure.class {
        FailureClass::Denied | FailureClass::ContextOverflow => true,
        FailureClass::Model => {
            let mut kinds = models.iter().flat_map(|model| model.errors.keys());
            // Without a request, no provider could be opened.
            models.iter().all(|model| model.requests == 0)
                || kinds.any(|name| INCURABLE.iter().any(|kind| kind.name() == name))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
