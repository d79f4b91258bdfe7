use std::collections::BTreeMap;

use super::*;
use agenthost_config::{Config, Env};
use agenthost_core::error::Error;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// Monday, the first of January 2024.
const NOW: u64 = 1_704_067_200_000;

/// Reads a schedule with these lines.
fn schedule(lines: &str) -> ScheduleConfig {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("[schedules.tidy]\nplugin = 'a:b'\ncost-per-day = 1\n{lines}");
    std::fs::write(dir.path().join("agenthost.toml"), text).unwrap();
    let env = Env::new(BTreeMap::new(), dir.path(), Some(dir.path().join("home")));
    let mut schedule = Config::load(&env).unwrap().schedules()["tidy"].clone();
    // Two schedules with the same lines are the same.
    schedule.checklist = None;
    schedule
}

/// A schedule and its state at a time that goes on.
struct Clock {
    schedule: ScheduleConfig,
    state: ScheduleState,
    mode: ScheduleMode,
    now: u64,
}

impl Clock {
    fn new(lines: &str, mode: ScheduleMode) -> Self {
        Self {
            schedule: schedule(lines),
            state: ScheduleState::default(),
            mode,
            now: NOW,
        }
    }

    fn at(&mut self, now: u64) -> ScheduleDecision {
        self.now = now;
        self.state.decide(&self.schedule, self.mode, now)
    }

    /// Looks at a time, and runs what is due for this long. Returns whether something was due.
    fn run(&mut self, now: u64, duration: u64) -> bool {
        let ScheduleDecision::Start(due) = self.at(now) else {
            return false;
        };
        self.state.begin(due, now, None);
        self.now = now + duration;
        self.end(ScheduleEnd::Well);
        true
    }

    fn end(&mut self, end: ScheduleEnd) {
        self.state.ended(&self.schedule, end, None, self.now);
    }

    fn fail(&mut self, now: u64, incurable: bool) {
        let ScheduleDecision::Start(due) = self.at(now) else {
            panic!("not due: {:?}", self.state);
        };
        self.state.begin(due, now, None);
        self.end(ScheduleEnd::Failed {
            incurable,
            class: "model".to_owned(),
            message: "why".to_owned(),
        });
    }

    /// Looks every second for a time, and returns the minutes at which something ran.
    fn minutes(&mut self, from: u64, until: u64) -> Vec<u64> {
        let mut ran = Vec::new();
        let mut now = from;
        while now < until {
            if self.run(now, 0) {
                ran.push(now.saturating_sub(NOW) / MINUTE);
            }
            now += 1_000;
        }
        ran
    }
}

#[test]
fn a_schedule_runs_at_its_times_and_not_between_them() {
    let mut always = Clock::new("every = '30m'", ScheduleMode::Always);
    assert_eq!(always.minutes(NOW, NOW + 2 * HOUR), [0, 30, 60, 90]);
    assert_eq!(
        always.at(NOW + 2 * HOUR - 1),
        ScheduleDecision::Wait(Some(NOW + 2 * HOUR))
    );
    let mut at_eight = Clock::new("cron = '0 8 * * *'", ScheduleMode::Always);
    assert_eq!(at_eight.minutes(NOW, NOW + 2 * DAY), [480, 480 + 1_440]);
    // A run that takes a second does not move the next ones.
    let mut long = Clock::new("every = '30m'", ScheduleMode::Always);
    assert!(long.run(NOW + 500, 20_000));
    assert_eq!(
        long.at(NOW + HOUR / 2 + 499),
        ScheduleDecision::Wait(Some(NOW + HOUR / 2 + 500))
    );
}

#[test]
fn what_never_ran_is_due_at_once_but_for_a_cron_expression_that_is_watched() {
    for (lines, mode, due) in [
        ("every = '30m'", ScheduleMode::Always, true),
        ("every = '30m'", ScheduleMode::Once, true),
        ("cron = '0 8 * * *'", ScheduleMode::Once, true),
        ("cron = '0 8 * * *'", ScheduleMode::Always, false),
    ] {
        let mut clock = Clock::new(lines, mode);
        assert_eq!(clock.run(NOW, 0), due, "{lines}");
        assert!(!clock.run(NOW + 1_000, 0), "{lines}");
    }
    let mut off = Clock::new("every = '30m'\nenabled = false", ScheduleMode::Once);
    assert_eq!(off.at(NOW), ScheduleDecision::Disabled);
    assert_eq!(off.state.next(&off.schedule, NOW), None);
}

#[test]
fn missed_times_are_one_run_or_none() {
    for (missed, runs) in [("skip", false), ("once", true)] {
        for times in ["every = '30m'", "cron = '*/30 * * * *'"] {
            let mut clock = Clock::new(&format!("{times}\nmissed = '{missed}'"), ScheduleMode::Always);
            clock.minutes(NOW, NOW + HOUR + MINUTE);
            // The machine slept for a week and ten minutes.
            let woken = NOW + 7 * DAY + 10 * MINUTE;
            assert_eq!(clock.run(woken, 0), runs, "{missed}: {times}");
            assert!(!clock.run(woken + 1_000, 0), "there is no burst");
            assert_eq!(
                clock.at(woken + 2_000),
                ScheduleDecision::Wait(Some(NOW + 7 * DAY + 30 * MINUTE))
            );
            assert!(clock.run(NOW + 7 * DAY + 30 * MINUTE, 0));
        }
    }
    // A start that is a little late was not missed, and a single look starts what is due.
    let mut late = Clock::new("every = '30m'", ScheduleMode::Always);
    assert!(late.run(NOW, 0) && late.run(NOW + 30 * MINUTE + LATE, 0));
    let mut once = Clock::new("every = '30m'", ScheduleMode::Once);
    assert!(once.run(NOW, 0) && once.run(NOW + 3 * DAY, 0) && !once.run(NOW + 3 * DAY + MINUTE, 0));
}

#[test]
fn times_during_a_run_are_skipped_or_wait() {
    let mut skip = Clock::new("every = '30m'", ScheduleMode::Always);
    assert!(skip.run(NOW, 100 * MINUTE));
    assert_eq!(
        skip.at(NOW + 100 * MINUTE),
        ScheduleDecision::Wait(Some(NOW + 120 * MINUTE))
    );
    let mut wait = Clock::new("every = '30m'\noverlap = 'wait'", ScheduleMode::Always);
    assert!(wait.run(NOW, 100 * MINUTE));
    assert!(wait.run(NOW + 100 * MINUTE, 0), "one run follows for all of them");
    assert_eq!(
        wait.at(NOW + 101 * MINUTE),
        ScheduleDecision::Wait(Some(NOW + 120 * MINUTE))
    );
}

#[test]
fn a_clock_that_is_set_back_neither_repeats_nor_freezes() {
    for lines in ["every = '30m'", "cron = '*/30 * * * *'"] {
        let mut clock = Clock::new(lines, ScheduleMode::Always);
        clock.minutes(NOW, NOW + 2 * HOUR + MINUTE);
        // By less than an hour: nothing repeats, and the wait is longer by that.
        assert_eq!(
            clock.minutes(NOW + 90 * MINUTE, NOW + 149 * MINUTE),
            [] as [u64; 0],
            "{lines}"
        );
        assert!(clock.run(NOW + 150 * MINUTE, 0), "{lines}");
        // By more: it goes on from there.
        let ran = clock.minutes(NOW - 300 * DAY, NOW - 300 * DAY + 40 * MINUTE);
        assert_eq!(ran.len(), 1, "{lines}");
    }
    // A wait does not freeze either.
    let mut clock = Clock::new("every = '30m'", ScheduleMode::Always);
    clock.fail(NOW, false);
    assert!(matches!(clock.at(NOW + 1), ScheduleDecision::Wait(Some(until)) if until == NOW + MINUTE));
    assert!(matches!(clock.at(NOW - 300 * DAY), ScheduleDecision::Wait(Some(until)) if until < NOW - 299 * DAY));
}

#[test]
fn failures_wait_longer_each_time_and_stop_it() {
    let mut clock = Clock::new("every = '1s'", ScheduleMode::Once);
    let (mut now, mut waits) = (NOW, Vec::new());
    for _ in 0..FAILURES {
        clock.fail(now, false);
        match clock.at(now) {
            ScheduleDecision::Wait(Some(until)) => {
                waits.push((until - now) / MINUTE);
                assert_eq!(clock.at(until - 1), ScheduleDecision::Wait(Some(until)));
                now = until;
            }
            other => assert_eq!(other, ScheduleDecision::Stopped),
        }
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256]);
    let stopped = clock.state.stopped.clone().unwrap();
    assert_eq!(stopped.reason, "10 failures in a row, the last: why");
    assert_eq!(clock.state.next(&clock.schedule, now), None);
    assert!(clock.state.restart() && clock.run(now + DAY, 0));
}

#[test]
fn three_failures_that_a_retry_cannot_cure_stop_it_and_a_success_forgets_them() {
    let mut clock = Clock::new("every = '1m'", ScheduleMode::Once);
    clock.fail(NOW, true);
    clock.fail(NOW + MINUTE, true);
    assert!(clock.run(NOW + 2 * MINUTE, 0));
    for n in 3..6 {
        assert!(clock.state.stopped.is_none());
        clock.fail(NOW + n * MINUTE, true);
    }
    assert_eq!(clock.at(NOW + DAY), ScheduleDecision::Stopped);
    // Another configuration is another schedule.
    clock.schedule = schedule("every = '2m'");
    assert!(clock.run(NOW + DAY, 0));
    assert_eq!(clock.state.failures, 0);
}

#[test]
fn a_limit_that_is_reached_is_no_failure_and_waits_for_its_renewal() {
    let mut clock = Clock::new("every = '30m'", ScheduleMode::Always);
    let ScheduleDecision::Start(due) = clock.at(NOW) else {
        panic!()
    };
    clock.state.begin(due, NOW, None);
    clock.end(ScheduleEnd::LimitReached(NOW + DAY));
    assert_eq!((clock.state.failures, clock.state.waits_for_renewal()), (0, true));
    assert_eq!(clock.at(NOW + HOUR), ScheduleDecision::Wait(Some(NOW + DAY)));
    assert_eq!(clock.state.next(&clock.schedule, NOW + HOUR), Some(NOW + DAY));
    assert!(clock.run(NOW + DAY, 0));
}

#[test]
fn an_interrupted_run_comes_first() {
    let mut clock = Clock::new("every = '30m'", ScheduleMode::Once);
    let ScheduleDecision::Start(due) = clock.at(NOW) else {
        panic!()
    };
    clock.state.begin(due, NOW, Some("files".to_owned()));
    clock.state.started("r1", Some("journal.db".to_owned()), false);
    clock.end(ScheduleEnd::Interrupted);
    assert_eq!(clock.at(NOW + 1_000), ScheduleDecision::Resume);
    assert!(!clock.state.is_unchanged("files"));
    clock.end(ScheduleEnd::Well);
    assert!(clock.state.is_unchanged("files"), "they are as the run found them");
    assert_eq!(clock.state.last.as_ref().unwrap().run.as_deref(), Some("r1"));
    assert!(matches!(clock.at(NOW + 2_000), ScheduleDecision::Wait(_)));

    let ScheduleDecision::Start(due) = clock.at(NOW + HOUR) else {
        panic!()
    };
    clock.state.begin(due, NOW + HOUR, None);
    clock.state.give_up();
    assert!(clock.run(NOW + HOUR + 1, 0), "another run takes its place");
    assert!(!clock.run(NOW + HOUR + 2, 0));
}

/// A clock with a run that was started, and that a journal records or not.
fn with_run(journal: Option<&str>) -> Clock {
    let mut clock = Clock::new("every = '30m'", ScheduleMode::Always);
    let ScheduleDecision::Start(due) = clock.at(NOW) else {
        panic!()
    };
    clock.state.begin(due, NOW, Some("files".to_owned()));
    clock.state.started("r1", journal.map(str::to_owned), true);
    clock
}

#[test]
fn a_run_that_reached_the_limit_of_the_day_is_resumed_on_the_next() {
    let mut clock = with_run(Some("journal.db"));
    assert!(clock.state.running.as_ref().unwrap().is_alive());
    clock.end(ScheduleEnd::LimitReached(NOW + DAY));
    assert_eq!(clock.at(NOW + HOUR), ScheduleDecision::Wait(Some(NOW + DAY)));
    assert!(!clock.state.running.as_ref().unwrap().is_alive());
    for day in 1..9 {
        assert_eq!(clock.at(NOW + day * DAY), ScheduleDecision::Resume);
        clock.state.resume();
        assert_eq!(clock.state.running.as_ref().unwrap().resumes, 1, "it stopped in order");
        clock.end(ScheduleEnd::LimitReached(NOW + (day + 1) * DAY));
    }
    assert_eq!(clock.at(NOW + 9 * DAY), ScheduleDecision::Resume);
    clock.state.resume();
    clock.end(ScheduleEnd::Well);
    assert_eq!((clock.state.failures, clock.state.running.is_none()), (0, true));
    assert!(clock.state.is_unchanged("files"));
    // Without a journal, there is nothing to resume.
    let mut clock = with_run(None);
    clock.end(ScheduleEnd::LimitReached(NOW + DAY));
    assert!(clock.state.running.is_none() && clock.run(NOW + DAY, 0));
}

#[test]
fn a_run_that_cannot_be_resumed_now_is_kept_and_waits_longer_each_time() {
    let mut clock = with_run(Some("journal.db"));
    let (mut now, mut waits) = (NOW, Vec::new());
    for _ in 1..FAILURES {
        assert_eq!(clock.at(now), ScheduleDecision::Resume);
        clock.state.postpone(false, "host", "why", now);
        let ScheduleDecision::Wait(Some(until)) = clock.at(now) else {
            panic!("{:?}", clock.state)
        };
        waits.push((until - now) / MINUTE);
        now = until;
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256]);
    assert_eq!(clock.state.skipped.as_ref().unwrap().reason, "why");
    clock.state.postpone(false, "host", "why", now);
    assert_eq!(clock.at(now + DAY), ScheduleDecision::Stopped);
    assert!(clock.state.restart());
    assert_eq!(clock.at(now + DAY), ScheduleDecision::Resume, "it is still there");

    // What a retry cannot cure stops it sooner, and waits as well.
    let mut clock = with_run(Some("journal.db"));
    for n in 0..u64::from(INCURABLE_FAILURES) {
        assert_eq!(clock.at(NOW + n * HOUR), ScheduleDecision::Resume);
        clock.state.postpone(true, "denied", "why", NOW + n * HOUR);
        assert!(!matches!(clock.at(NOW + n * HOUR), ScheduleDecision::Resume));
    }
    assert_eq!(clock.at(NOW + DAY), ScheduleDecision::Stopped);
}

#[test]
fn resumes_in_a_row_are_counted_until_the_run_stops_in_order() {
    let mut clock = with_run(Some("journal.db"));
    let resumes = |clock: &Clock| clock.state.running.as_ref().unwrap().resumes;
    clock.state.resume();
    clock.state.resume();
    assert_eq!(resumes(&clock), 2);
    clock.end(ScheduleEnd::Interrupted);
    assert_eq!((resumes(&clock), clock.at(NOW)), (0, ScheduleDecision::Resume));
}

#[test]
fn the_next_time_is_the_one_that_a_look_finds() {
    let mut clock = Clock::new("every = '30m'", ScheduleMode::Always);
    assert_eq!(clock.state.next(&clock.schedule, NOW), Some(NOW));
    clock.run(NOW, 0);
    assert_eq!(clock.state.next(&clock.schedule, NOW), Some(NOW + 30 * MINUTE));
    // Between the time and the look that follows it, and after it was missed.
    assert_eq!(
        clock.state.next(&clock.schedule, NOW + 30 * MINUTE + 5),
        Some(NOW + 30 * MINUTE)
    );
    assert_eq!(clock.state.next(&clock.schedule, NOW + 40 * MINUTE), Some(NOW + HOUR));
    clock.fail(NOW + 30 * MINUTE, false);
    assert_eq!(clock.state.next(&clock.schedule, NOW + 30 * MINUTE), Some(NOW + HOUR));
}

#[test]
fn the_kinds_of_errors_decide_whether_a_retry_can_help() {
    let report = |kinds: &[&str], requests| {
        let mut report = ModelReport::new("fast", "a/b");
        report.requests = requests;
        report.errors = kinds.iter().map(|kind| ((*kind).to_owned(), 1)).collect();
        report
    };
    let model = Failure::new(FailureClass::Model, "no");
    for (kinds, requests, incurable) in [
        (&["authentication"][..], 1, true),
        (&["server", "spend-cap"], 2, true),
        (&["invalid-request"], 1, true),
        (&["server", "timeout", "rate-limited"], 3, false),
        (&[], 1, false),
        (&[], 0, true),
    ] {
        assert_eq!(is_incurable(&model, &[report(kinds, requests)]), incurable, "{kinds:?}");
    }
    assert!(is_incurable(&model, &[]), "no provider could be opened");
    let failed = Failure::new(FailureClass::Failed, "no");
    assert!(
        !is_incurable(&failed, &[report(&["authentication"], 1)]),
        "the plugin did without that answer"
    );
    assert!(is_incurable(&Failure::new(FailureClass::Denied, "no"), &[]));
}

#[test]
fn a_link_that_comes_after_the_configuration_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    std::fs::create_dir_all(at("in/list")).unwrap();
    std::fs::write(at("in/list/todo.md"), "- one").unwrap();
    std::fs::write(at("secret"), "- secret").unwrap();
    std::os::unix::fs::symlink("in", at("link")).unwrap();
    let text = "[schedules.tidy]\nplugin = 'a:b'\ncost-per-day = 1\nevery = '1h'\nchecklist = 'link/list/todo.md'\n\
                watch = ['link/list/more.md']\nset = { task = '@link/list/todo.md' }";
    std::fs::write(at("agenthost.toml"), text).unwrap();
    let env = Env::new(BTreeMap::new(), dir.path(), Some(at("home")));
    let schedule = Config::load(&env).unwrap().schedules()["tidy"].clone();
    let read = || Ok::<_, Error>((ScheduleInputs::read(&schedule)?, ScheduleInputs::of_run(&schedule)?));
    let (inputs, input) = read().unwrap();
    assert_eq!(input["task"], "- one");
    // A watched file without content is one that does not exist.
    std::fs::write(at("in/list/more.md"), "").unwrap();
    assert_eq!(read().unwrap().0, inputs);
    std::fs::write(at("in/list/more.md"), "more").unwrap();
    assert_ne!(read().unwrap().0, inputs);

    std::fs::remove_file(at("in/list/todo.md")).unwrap();
    std::os::unix::fs::symlink("../../secret", at("in/list/todo.md")).unwrap();
    assert!(read().unwrap_err().to_string().contains("cannot be read: it is a link"));
    std::fs::rename(at("in/list"), at("in/other")).unwrap();
    std::fs::create_dir(at("outside")).unwrap();
    std::fs::write(at("outside/todo.md"), "- secret").unwrap();
    std::os::unix::fs::symlink("../outside", at("in/list")).unwrap();
    let refused = read().unwrap_err().to_string();
    assert!(refused.contains("a folder above it is a link"), "{refused}");
}

#[test]
fn one_holder_of_the_lock_writes_what_the_next_one_reads() {
    let dir = tempfile::tempdir().unwrap();
    let file = ScheduleFile::new(dir.path(), "agenthost.toml".as_ref(), "tidy");
    let lock = file.try_lock().unwrap().unwrap();
    assert!(file.try_lock().unwrap().is_none());
    let mut state = lock.read().unwrap();
    state.begin(NOW, NOW, None);
    lock.write(&state).unwrap();
    assert_eq!(file.read().unwrap(), state, "it can be read meanwhile");
    assert!(state.running.as_ref().unwrap().is_alive());
    drop(lock);
    assert_eq!(file.try_lock().unwrap().unwrap().read().unwrap(), state);
}
