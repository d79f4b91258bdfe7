//! Scenarios: the whole gate against a simulated service, in simulated time.
//!
//! Each file in `scenarios/` describes in prose what should happen, defines a service and a load, and gives bounds for
//! the observed events (`file`). The calls behave like real ones: admission, one request, settlement, and a retry after
//! a failure that waiting cures. Two conditions are checked in every scenario: nothing is sent before a `retry-after`
//! has passed, and nothing is left in the gate at the end.

mod file;
mod service;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::file::{Falls, Load, Scenario};
use self::service::Service;
use super::{Attempt, FairnessKey, Gate, Prefix, RetryDecision, Settings, Ticket};
use agenthost_core::llm::{Options, ProviderErrorKind, Request};

/// An observed event and its time.
#[derive(Debug)]
struct Seen {
    at: f64,
    model: String,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    Sent { leads: bool },
    Answered { hit: bool, took: f64 },
    Error { status: u16, retry_after: Option<f64> },
    Dropped,
}

/// One run of a scenario.
struct Play<'a> {
    /// One gate for each process.
    gates: Vec<Gate>,
    service: Service<'a>,
    start: Instant,
    seen: Mutex<Vec<Seen>>,
    /// The line, the end time, and the error of each call.
    done: Mutex<Vec<(String, f64, Option<String>)>>,
}

impl Play<'_> {
    fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    fn see(&self, model: &str, what: What) {
        self.seen.lock().unwrap().push(Seen {
            at: self.now(),
            model: model.to_owned(),
            what,
        });
    }

    async fn call(&self, gate: &Gate, load: &Load, at: f64) {
        sleep_until(self.start + Duration::from_secs_f64(at)).await;
        let outcome = self.attempts(gate, load).await;
        let mut done = self.done.lock().unwrap();
        done.push((load.line.clone(), self.now(), outcome.err()));
    }

    async fn attempts(&self, gate: &Gate, load: &Load) -> Result<(), String> {
        let line: FairnessKey = load.line.as_str().into();
        let deadline = load
            .deadline
            .map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
        let mut attempt = 0;
        let mut again = false;
        loop {
            let ticket = Ticket {
                model: &load.model,
                line: &line,
                again,
                input: (load.input as f64 * (1.0 + load.overestimate)) as u64,
                output: load.max_output,
                prefix: load.prefix.then(|| Prefix::of(&long(&load.model))).flatten(),
                deadline,
            };
            let permit = gate.admit(ticket).await.map_err(|late| late.to_string())?;
            self.see(&load.model, What::Sent { leads: permit.leads() });
            let sent = self.now();
            if let Some(seconds) = load.hangs {
                let never = std::future::pending::<()>();
                assert!(timeout(Duration::from_secs_f64(seconds), never).await.is_err());
                drop(permit);
                self.see(&load.model, What::Dropped);
                return Ok(());
            }
            let marked = permit.mark().is_some();
            let answer = self.service.complete(load, marked).await;
            permit.settle(answer.as_ref());
            let error = match answer {
                Ok(reply) => {
                    let hit = reply.usage.is_some_and(|usage| usage.cached_input > 0);
                    self.see(
                        &load.model,
                        What::Answered {
                            hit,
                            took: self.now() - sent,
                        },
                    );
                    return Ok(());
                }
                Err(error) => error,
            };
            let limited = error.kind == ProviderErrorKind::RateLimited;
            self.see(
                &load.model,
                What::Error {
                    status: error.status.unwrap_or_default(),
                    retry_after: error.retry_after.filter(|_| limited).map(|wait| wait.as_secs_f64()),
                },
            );
            let failed = Attempt {
                number: attempt,
                deadline,
                fallback: false,
            };
            again = true;
            match gate.judge(&load.model, &error, failed) {
                RetryDecision::Again(wait) => {
                    attempt += 1;
                    sleep(wait).await;
                }
                RetryDecision::AgainUncounted(wait) => sleep(wait).await,
                RetryDecision::Final(why) => return Err(why.unwrap_or("final").to_owned()),
            }
        }
    }
}

/// A request with a prefix that is long enough to be cached.
fn long(model: &str) -> Request {
    Request {
        model: model.to_owned(),
        system: Some("x".repeat(10_000)),
        messages: Vec::new(),
        max_tokens: 1,
        schema: None,
        options: Options::default(),
        mark_prefix: None,
    }
}

/// Plays a scenario and returns its figures and the violated expectations.
async fn play(scenario: &Scenario) -> (String, Vec<String>) {
    let start = Instant::now();
    let dir = tempfile::tempdir().unwrap();
    let processes = scenario.gate.processes.unwrap_or(1);
    let settings = Settings {
        share: (processes > 1).then(|| dir.path().join("key.json")),
        ..scenario.gate.settings()
    };
    let play = Arc::new(Play {
        gates: (0..processes).map(|_| Gate::new(settings.clone())).collect(),
        service: Service::new(scenario, start),
        start,
        seen: Mutex::default(),
        done: Mutex::default(),
    });
    let calls = scenario
        .load
        .iter()
        .flat_map(|load| (0..load.calls).map(move |n| (load, load.at + load.every * f64::from(n))));
    let gates = play.gates.iter().cycle();
    join_all(calls.zip(gates).map(|((load, at), gate)| play.call(gate, load, at))).await;
    let mut wrong = check(scenario, &play);
    for load in &scenario.load {
        if play.gates.iter().any(|gate| gate.load(&load.model) != (0, 0)) {
            wrong.push("something is left in the gate".into());
        }
    }
    if !wrong.is_empty() {
        wrong.push(story(&play.seen.lock().unwrap()));
    }
    (figures(&play), wrong)
}

/// The figures of a run in one line.
fn figures(play: &Play<'_>) -> String {
    let seen = play.seen.lock().unwrap();
    let done = play.done.lock().unwrap();
    let count = |is: &dyn Fn(What) -> bool| seen.iter().filter(|one| is(one.what)).count();
    let flight = in_flight(&seen, None);
    format!(
        "done after {:.1} s, {} sent, {} refused, {} lost, {} failed, median {:.2} s, a peak of {} in flight",
        done.iter().map(|(_, at, _)| *at).fold(0.0, f64::max),
        count(&|what| matches!(what, What::Sent { .. })),
        count(&|what| matches!(what, What::Error { status, .. } if status > 0)),
        count(&|what| matches!(what, What::Error { status: 0, .. })),
        done.iter().filter(|(_, _, why)| why.is_some()).count(),
        median(&seen, 0.0, f64::INFINITY),
        flight.iter().map(|(_, count)| *count).max().unwrap_or(0),
    )
}

fn check(scenario: &Scenario, play: &Play<'_>) -> Vec<String> {
    let expect = &scenario.expect;
    let seen = play.seen.lock().unwrap();
    let done = play.done.lock().unwrap();
    let mut wrong = Vec::new();
    let mut hold = |holds: bool, said: String| {
        if !holds {
            wrong.push(said);
        }
    };
    let last = |line: Option<&str>| {
        let of = done.iter().filter(|(name, ..)| line.is_none_or(|line| line == name));
        of.map(|(_, at, _)| *at).fold(0.0, f64::max)
    };
    let end = last(None);
    hold(end <= expect.within, format!("done after {end:.1} s"));
    for (line, within) in &expect.line_within {
        let end = last(Some(line));
        hold(end <= *within, format!("line {line} is done after {end:.1} s"));
    }
    let failed: Vec<_> = done
        .iter()
        .filter_map(|(_, at, why)| Some((at, why.as_ref()?)))
        .collect();
    hold(
        failed.len() <= expect.failed,
        format!("{} failed: {:?}", failed.len(), failed.first()),
    );
    let count = |is: &dyn Fn(&Seen) -> bool| seen.iter().filter(|one| is(one)).count();
    let sent = count(&|one| matches!(one.what, What::Sent { .. }));
    hold(expect.sent.is_none_or(|most| sent <= most), format!("{sent} were sent"));
    let leads = count(&|one| one.what == What::Sent { leads: true });
    hold(leads == expect.leads, format!("{leads} led"));
    let hits = count(&|one| matches!(one.what, What::Answered { hit: true, .. }));
    hold(hits >= expect.hits, format!("{hits} read the cache"));
    for bound in &expect.errors {
        let errors = count(&|one| {
            matches!(one.what, What::Error { status, .. } if status == bound.status)
                && (bound.from..bound.until).contains(&one.at)
        });
        hold(errors <= bound.most, format!("{errors} errors, but {bound:?}"));
    }
    let flight = in_flight(&seen, None);
    let models: std::collections::BTreeSet<_> = scenario.load.iter().map(|load| &load.model).collect();
    for model in models {
        let first = seen
            .iter()
            .find(|one| one.model == *model && !matches!(one.what, What::Sent { .. }));
        let before = first.map_or(f64::INFINITY, |one| one.at);
        let start = in_flight(&seen, Some(model)).into_iter().filter(|(at, _)| *at < before);
        let start = start.map(|(_, count)| count).max().unwrap_or(0);
        hold(
            start <= expect.start,
            format!("{start} in flight to {model} at the start"),
        );
    }
    let peak = flight.iter().map(|(_, count)| *count).max().unwrap_or(0);
    if let Some([least, most]) = expect.peak {
        hold((least..=most).contains(&peak), format!("a peak of {peak} in flight"));
    }
    for bound in &expect.falls {
        let least = within(&flight, bound).min();
        hold(
            least.is_some_and(|least| least <= bound.to),
            format!("fell to {least:?}, but {bound:?}"),
        );
    }
    for bound in &expect.rises {
        let most = within(&flight, bound).max();
        hold(
            most.is_some_and(|most| most >= bound.to),
            format!("rose to {most:?}, but {bound:?}"),
        );
    }
    for bound in &expect.uses {
        let share = play.service.share(&bound.model, bound.from, bound.until);
        hold(
            share >= bound.share,
            format!("a share of {share:.3} was used, but {bound:?}"),
        );
    }
    for bound in &expect.rates {
        let inside =
            |one: &Seen| matches!(one.what, What::Answered { .. }) && (bound.from..bound.until).contains(&one.at);
        let rate = count(&inside) as f64 / (bound.until - bound.from);
        hold(
            rate >= bound.least,
            format!("{rate:.2} replies per second, but {bound:?}"),
        );
    }
    for bound in &expect.medians {
        let median = median(&seen, bound.from, bound.until);
        hold(
            median <= bound.most,
            format!("a median of {median:.2} s, but {bound:?}"),
        );
    }
    for told in seen.iter() {
        let What::Error {
            retry_after: Some(wait),
            ..
        } = told.what
        else {
            continue;
        };
        let early = |one: &&Seen| {
            matches!(one.what, What::Sent { .. })
                && one.model == told.model
                && one.at > told.at
                && one.at < told.at + wait - 1e-6
        };
        let early = seen.iter().find(early);
        hold(early.is_none(), format!("{early:?} was sent although {told:?}"));
    }
    wrong
}

/// The median latency of the replies between two moments.
fn median(seen: &[Seen], from: f64, until: f64) -> f64 {
    let inside = seen.iter().filter(|one| (from..until).contains(&one.at));
    let mut times: Vec<f64> = inside
        .filter_map(|one| match one.what {
            What::Answered { took, .. } => Some(took),
            _ => None,
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(0.0)
}

/// The number of requests in flight from each moment on.
fn in_flight(seen: &[Seen], model: Option<&str>) -> Vec<(f64, i64)> {
    let mut count = 0;
    let of = seen.iter().filter(|one| model.is_none_or(|model| model == one.model));
    of.map(|one| {
        count += if matches!(one.what, What::Sent { .. }) { 1 } else { -1 };
        (one.at, count)
    })
    .collect()
}

/// The numbers of requests in flight in the interval of a bound, including the number at its start.
fn within(flight: &[(f64, i64)], bound: &Falls) -> impl Iterator<Item = i64> {
    let before = flight.iter().rev().find(|(at, _)| *at <= bound.after).copied();
    let (from, until) = (bound.after, bound.after + bound.within);
    let inside = flight.iter().filter(move |(at, _)| *at > from && *at <= until);
    before.into_iter().chain(inside.copied()).map(|(_, count)| count)
}

/// A table of the requests sent, answered and rejected, and of the peak in flight, in about thirty lines.
fn story(seen: &[Seen]) -> String {
    let mut text = String::from("    from   sent answered  429  5xx  in flight");
    let flight = in_flight(seen, None);
    let end = seen.last().map_or(0.0, |one| one.at);
    let step = (end / 30.0).ceil().max(1.0);
    let mut from = 0.0;
    while from <= end {
        let now = from..from + step;
        let count = |is: &dyn Fn(What) -> bool| seen.iter().filter(|one| now.contains(&one.at) && is(one.what)).count();
        let inside = flight.iter().filter(|(at, _)| now.contains(at));
        let _ = write!(
            text,
            "\n{from:8} {:6} {:8} {:4} {:4} {:10}",
            count(&|what| matches!(what, What::Sent { .. })),
            count(&|what| matches!(what, What::Answered { .. })),
            count(&|what| matches!(what, What::Error { status: 429, .. })),
            count(&|what| matches!(what, What::Error { status: 500.., .. })),
            inside.map(|(_, count)| *count).max().unwrap_or(0),
        );
        from += step;
    }
    text
}

#[tokio::test(start_paused = true)]
async fn every_scenario_goes_as_its_file_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(files.len() >= 12, "{files:?}");
    let (mut wrong, mut figures) = (String::new(), String::new());
    // Only some of them, for work on the gate: the beginning of their names.
    let only = std::env::var("SCENARIO").unwrap_or_default();
    for path in files {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if !name.starts_with(&only) {
            continue;
        }
        let scenario: Scenario = match toml::from_str(&std::fs::read_to_string(&path).unwrap()) {
            Ok(scenario) => scenario,
            Err(error) => panic!("{name}: {error}"),
        };
        let (line, violated) = play(&scenario).await;
        let _ = writeln!(figures, "{name}: {line}");
        for said in violated {
            let _ = write!(wrong, "\n{name}: {said}");
        }
        if wrong.contains(&format!("\n{name}: ")) {
            let _ = write!(wrong, "\n  ({})", scenario.about.trim());
        }
    }
    if let Ok(path) = std::env::var("SCENARIO_FIGURES") {
        std::fs::write(path, figures).unwrap();
    }
    assert!(wrong.is_empty(), "{wrong}");
}
