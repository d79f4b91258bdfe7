//! Every place on the path of a run at which the host can fail or be canceled, one by one: what had been paid for stays
//! paid, nothing is left held, and the run continues to the same end.
//!
//! Failpoints hold for a whole process, so each walk runs in one of its own: this binary, with [`WALK`] set.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::Command;
use std::sync::{Arc, Mutex};

use agenthost::Cancellation;
use agenthost::batch::Runner as _;
use agenthost::batch::drive::{Stop, Summary};
use agenthost::config::{Config, DirGrant};
use agenthost::failpoint::{self, Fault, Passed, Plan};
use agenthost::journal::sqlite::Sqlite;
use agenthost::journal::{AskResult, JournalStore as _};
use agenthost::limits::LimitsPatch;
use agenthost::llm::{Part, Provider, ProviderError, Reply, Request, Usage};
use agenthost::task::Outcome;
use agenthost::{FailedTasks, Host, Journal, LoadOptions, Plugin};
use agenthost_tests::env::TestEnv;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use serde_json::{Value, json};

use crate::{guest, limits, load, machine};

/// The variable that makes this binary walk: `run`, `resume`, `batch`, `memory` or `host-functions`.
const WALK: &str = "AGENTHOST_TEST_WALK";

const FAULTS: [Fault; 3] = [Fault::Panic, Fault::Error, Fault::Cancel];

/// Runs one of the `…_child` tests in a process of its own and returns what it printed.
fn in_child(walk: &str, test: &str) -> String {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("all::slow::failpoints::{test}"), "--nocapture"])
        .env(WALK, walk)
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&child.stdout).into_owned(),
        String::from_utf8_lossy(&child.stderr).into_owned(),
    );
    assert!(child.status.success(), "{out}\n{err}");
    let told: String = out
        .lines()
        .filter(|line| line.starts_with("walked"))
        .collect::<Vec<_>>()
        .join("\n");
    // Not captured: the figures are of interest where all is well, too.
    let _ = writeln!(std::io::stderr(), "{told}");
    told
}

/// A provider that bills each request the moment it is sent, and answers with the prompt.
#[derive(Debug)]
struct Echo(Arc<Mutex<BTreeMap<String, usize>>>);

impl Provider for Echo {
    fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Reply, ProviderError>> {
        async move {
            let texts = request.messages.iter().flat_map(|message| &message.content);
            let prompt: String = texts
                .filter_map(|part| {
                    if let Part::Text(text) = part {
                        Some(text.as_str())
                    } else {
                        None
                    }
                })
                .collect();
            *self.0.lock().unwrap().entry(prompt.clone()).or_default() += 1;
            tokio::task::yield_now().await;
            let usage = Usage {
                input: 10,
                output: 5,
                ..Usage::default()
            };
            let reply = Reply::new(format!("re: {prompt}")).with_model(&request.model);
            Ok(reply.with_usage(usage))
        }
        .boxed()
    }

    fn summary(&self) -> String {
        "echo".into()
    }

    fn is_offline(&self) -> bool {
        true
    }
}

/// The parts that one walk works on: one host, one journal and one provider for all of its runs.
struct Bench {
    host: Host,
    journal: Arc<Sqlite>,
    gathers: Plugin,
    touches: Plugin,
    /// With the directory `memory`.
    remembers: Plugin,
    /// How often each prompt was asked.
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
    machine: TestEnv,
}

impl Bench {
    async fn new() -> Self {
        // The panics of failpoints are expected, and there are hundreds.
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let expected = panic.payload().downcast_ref::<String>();
            if !expected.is_some_and(|text| text.starts_with("failpoint ")) {
                usual(panic);
            }
        }));
        let asked = Arc::new(Mutex::new(BTreeMap::new()));
        let machine = machine().cache(env!("CARGO_TARGET_TMPDIR"));
        let journal = Arc::new(Sqlite::open(&machine.cwd().join("journal.db")).unwrap());
        let host = Host::builder()
            .config(Config::load(&machine.surroundings()).unwrap())
            .cache_dir(machine.compiled())
            .journal(Journal::new(journal.clone()))
            .provider("offline", Arc::new(Echo(Arc::clone(&asked))))
            .build()
            .unwrap();
        std::fs::create_dir(machine.cwd().join("memory")).unwrap();
        let memory = DirGrant::parse(&machine.surroundings(), "memory::/memory:rw").unwrap();
        let options = LoadOptions::new().dir(memory);
        Self {
            gathers: load(&host, &guest("gathers")).await,
            touches: load(&host, &guest("touches")).await,
            remembers: host.load_with(&*guest("remembers"), options).await.unwrap(),
            host,
            journal,
            asked,
            machine,
        }
    }

    /// The prompts sent in the scenario `name`, and how often.
    fn asked(&self, name: &str) -> BTreeMap<String, usize> {
        let asked = self.asked.lock().unwrap();
        let own = asked.iter().filter(|(prompt, _)| prompt.starts_with(name));
        own.map(|(prompt, count)| (prompt.clone(), *count)).collect()
    }

    /// The prompts among `prompts` whose reply the journal has.
    fn durable(&self, run: &str, prompts: &[String]) -> BTreeSet<String> {
        let below = self.journal.tasks(run, "root", None, 1_000).unwrap();
        let ids = below.iter().map(|task| task.id.as_str()).chain(["root"]);
        let tasks: Vec<_> = ids.filter_map(|id| self.journal.task(run, id).unwrap()).collect();
        let asks = tasks.iter().flat_map(|task| &task.asks);
        let replied = asks.filter(|ask| matches!(ask.result, Some(AskResult::Reply { .. })));
        let bodies: Vec<_> = replied.map(|ask| format!("{:?}", ask.what)).collect();
        let is_durable = |prompt: &&String| bodies.iter().any(|body| body.contains(*prompt));
        prompts.iter().filter(is_durable).cloned().collect()
    }

    /// Nothing may be held once a run has ended.
    fn nothing_is_left(&self, at: &str) {
        assert!(self.host.is_idle(), "{at}: a place or a request is left");
        assert_eq!(failpoint::leaked(), [""; 0], "{at}");
    }
}

/// Asserts that `outcome` is one that `fault` may lead to, or the expected output.
#[track_caller]
fn proper(outcome: &Outcome, (fault, passed): (Fault, &Passed), expected: &Value, at: &str) {
    let Some(failure) = outcome.failure().filter(|_| passed.hit.is_some()) else {
        assert_eq!(outcome.ok(), Some(expected), "{at}: {outcome:?}");
        return;
    };
    // A parent passes on what the host did to its sub-task.
    let class = match failure.message.strip_prefix("host: ") {
        Some(_) => "host",
        None => failure.class.name(),
    };
    let may_be: &[&str] = match fault {
        Fault::Panic => &["host"],
        Fault::Error => &["host", "exhausted", "model", "other"],
        Fault::Cancel => &["cancelled"],
    };
    assert!(may_be.contains(&class), "{at}: {failure}");
}

/// One scenario: which prompts it has, and what comes out.
struct Scenario {
    name: String,
    prompts: Vec<String>,
    input: Value,
    expected: Value,
}

impl Scenario {
    /// A run of `gathers`.
    fn gathering(name: String) -> Self {
        let (one, other) = (format!("{name} one"), format!("{name} other"));
        let (meanwhile, end) = (format!("{name} meanwhile"), format!("{name} at the end"));
        Self {
            input: json!({"prompts": [one, other], "question": name, "tolerant": false}),
            expected: json!([
                format!("re: {one}"),
                format!("re: {other}"),
                format!("re: {meanwhile}"),
                format!("re: {end}"),
            ]),
            prompts: vec![one, other, meanwhile, end],
            name,
        }
    }

    /// Two items of a batch of `touches`.
    fn items(name: String) -> Self {
        let prompts = vec![format!("{name} one"), format!("{name} other")];
        Self {
            input: json!(prompts),
            expected: json!(prompts.iter().map(|prompt| format!("re: {prompt}")).collect::<Vec<_>>()),
            prompts,
            name,
        }
    }
}

/// Checks the requests after a fault: each one that the journal does not have, once; and never one that it has.
#[track_caller]
fn paid_once(
    scenario: &Scenario,
    before: &BTreeMap<String, usize>,
    durable: &BTreeSet<String>,
    after: &BTreeMap<String, usize>,
    at: &str,
) {
    for prompt in &scenario.prompts {
        let count = |asked: &BTreeMap<String, usize>| asked.get(prompt).copied().unwrap_or_default();
        let more = count(after) - count(before);
        assert_eq!(
            more,
            usize::from(!durable.contains(prompt)),
            "{at}: {prompt} {before:?} {durable:?} {after:?}"
        );
        assert!(count(before) <= 1, "{at}: {before:?}");
    }
}

fn calls() -> LimitsPatch {
    limits(&[("calls", "50")])
}

/// Runs once with a fault at the `n`th place and continues until it is done. With `resumed`, the place is counted from
/// a resume, of a run that was canceled while its first request was in flight.
async fn one_run(bench: &Bench, fault: Fault, n: usize, resumed: bool) -> Passed {
    let at = format!("{fault:?} {n}");
    let scenario = Scenario::gathering(format!("[{resumed} {fault:?} {n}]"));
    let arm = |run: &Arc<agenthost::RunHandle>, at, name, fault| {
        let run = Arc::clone(run);
        let cancel = Box::new(move || run.cancel());
        failpoint::arm(Plan {
            at,
            name,
            fault,
            cancel,
        });
    };
    // Nothing of it goes on before the first wait: there is one thread.
    let mut run = Arc::new(
        bench
            .host
            .run(&bench.gathers, &scenario.input)
            .limits(calls())
            .start()
            .unwrap(),
    );
    let id = run.id().to_string();
    if resumed {
        arm(&run, 1, Some("call.sent"), Fault::Cancel);
        run.report().await;
        assert_eq!(failpoint::disarm().hit, Some("call.sent"));
        let record = bench.journal.find(&id).unwrap();
        // Requests in flight at the cancellation are sent once more.
        bench
            .asked
            .lock()
            .unwrap()
            .retain(|prompt, _| !prompt.starts_with(&scenario.name));
        run = Arc::new(
            bench
                .host
                .resume(&bench.gathers, &record, FailedTasks::Keep)
                .limits(calls())
                .start()
                .await
                .unwrap(),
        );
    }
    arm(&run, n, None, fault);
    let report = run.report().await;
    let passed = failpoint::disarm();
    let at = format!("{at} at {:?}", passed.hit);
    proper(&report.outcome, (fault, &passed), &scenario.expected, &at);
    drop(run);
    bench.nothing_is_left(&at);
    let before = bench.asked(&scenario.name);
    let Ok(record) = bench.journal.find(&id) else {
        assert!(
            !resumed && before.is_empty(),
            "{at}: a run that was never recorded asked for {before:?}"
        );
        return passed;
    };
    assert!(
        report.tasks.iter().any(|task| task.id.to_string() == "root") || report.tasks.is_empty(),
        "{at}"
    );
    let durable = bench.durable(&id, &scenario.prompts);
    if let Some(outcome) = Host::settled(&record, FailedTasks::Keep) {
        assert_eq!(outcome.ok(), Some(&scenario.expected), "{at}: it cannot be resumed");
        assert_eq!(durable.len(), scenario.prompts.len(), "{at}");
        return passed;
    }
    let again = bench.host.resume(&bench.gathers, &record, FailedTasks::Keep);
    let run = match again.limits(calls()).start().await {
        Ok(run) => run,
        Err(error) => {
            assert!(
                error
                    .hint()
                    .is_some_and(|hint| hint.contains("It stopped before it began")),
                "{at}: {error}"
            );
            assert!(!resumed && before.is_empty(), "{at}: {before:?}");
            return passed;
        }
    };
    let report = run.report().await;
    assert_eq!(
        report.outcome.ok(),
        Some(&scenario.expected),
        "{at}: {:?}",
        report.outcome
    );
    paid_once(&scenario, &before, &durable, &bench.asked(&scenario.name), &at);
    drop(run);
    bench.nothing_is_left(&at);
    let replay = bench
        .host
        .replay(&bench.gathers, &bench.journal.find(&id).unwrap())
        .limits(calls())
        .start()
        .await
        .unwrap();
    let replay = replay.report().await;
    assert_eq!(
        replay.outcome.ok(),
        Some(&scenario.expected),
        "{at}: {:?}",
        replay.differences
    );
    passed
}

/// The same for a batch of two items.
async fn one_batch(bench: &Bench, fault: Fault, n: usize) -> Passed {
    let scenario = Scenario::items(format!("[batch {fault:?} {n}]"));
    let stop = Cancellation::new();
    let cancel = {
        let stop = stop.clone();
        Box::new(move || stop.cancel())
    };
    let batch = bench.host.batch(&bench.touches).limits(calls()).stop(&stop);
    let batch = batch.open().await.unwrap();
    let id = batch.id().to_string();
    let items = || {
        scenario
            .prompts
            .iter()
            .enumerate()
            .map(|(number, prompt)| (number as u64, json!(prompt)))
    };
    failpoint::arm(Plan {
        at: n,
        name: None,
        fault,
        cancel,
    });
    let ends = join_all(items().map(|(number, input)| batch.run(number, input))).await;
    let passed = failpoint::disarm();
    let at = format!("{fault:?} {n} at {:?}", passed.hit);
    let mut failed = 0;
    for (end, expected) in ends.iter().zip(scenario.expected.as_array().unwrap()) {
        proper(&end.outcome, (fault, &passed), expected, &at);
        failed += usize::from(end.outcome.ok().is_none());
    }
    assert!(
        failed <= 1 || fault == Fault::Cancel,
        "{at}: the other item failed, too"
    );
    // Whatever was noted before is in the file once this is.
    let mut summary = Summary::default();
    summary.stop = Some(Stop::Interrupted);
    batch.end(&summary).await.unwrap();
    drop(batch);
    bench.nothing_is_left(&at);
    let (before, durable) = (bench.asked(&scenario.name), bench.durable(&id, &scenario.prompts));
    let record = bench.journal.find(&id).unwrap();
    let batch = bench.host.batch(&bench.touches).limits(calls());
    let batch = batch.resume(&record, FailedTasks::Keep).open().await.unwrap();
    let ends = join_all(items().map(|(number, input)| batch.run(number, input))).await;
    let outputs: Vec<_> = ends.iter().map(|end| end.outcome.ok().cloned()).collect();
    assert_eq!(json!(outputs), scenario.expected, "{at}: {ends:?}");
    paid_once(&scenario, &before, &durable, &bench.asked(&scenario.name), &at);
    let mut summary = Summary::default();
    summary.ok = 2;
    batch.end(&summary).await.unwrap();
    drop(batch);
    bench.nothing_is_left(&at);
    passed
}

/// The same for a task that counts in a document before and after it asks a model: whatever happens, each of its writes is in
/// the document once.
async fn one_count(bench: &Bench, fault: Fault, n: usize) -> Passed {
    let (name, prompt) = (
        format!("{fault:?}-{n}").to_lowercase(),
        format!("[memory {fault:?} {n}]"),
    );
    let input = json!([{"count": name}, {"ask": ["reply", prompt]}, {"count": name}]);
    let expected = json!(["1", format!("re: {prompt}"), "2"]);
    let run = Arc::new(
        bench
            .host
            .run(&bench.remembers, &input)
            .limits(calls())
            .start()
            .unwrap(),
    );
    let id = run.id().to_string();
    let cancel = {
        let run = Arc::clone(&run);
        Box::new(move || run.cancel())
    };
    failpoint::arm(Plan {
        at: n,
        name: None,
        fault,
        cancel,
    });
    let report = run.report().await;
    let passed = failpoint::disarm();
    let at = format!("{fault:?} {n} at {:?}", passed.hit);
    proper(&report.outcome, (fault, &passed), &expected, &at);
    drop(run);
    bench.nothing_is_left(&at);
    let Ok(record) = bench.journal.find(&id) else {
        return passed;
    };
    if Host::settled(&record, FailedTasks::Keep).is_none() {
        let again = bench.host.resume(&bench.remembers, &record, FailedTasks::Keep);
        let Ok(run) = again.limits(calls()).start().await else {
            // It stopped before it began.
            assert_eq!(bench.asked(&prompt).len(), 0, "{at}");
            return passed;
        };
        let report = run.report().await;
        assert_eq!(report.outcome.ok(), Some(&expected), "{at}: {:?}", report.outcome);
        drop(run);
        bench.nothing_is_left(&at);
    }
    let memory = bench.machine.cwd().join("memory");
    let count = std::fs::read_to_string(memory.join(format!("{name}.json"))).unwrap();
    assert_eq!(count, "2", "{at}");
    let record = bench.journal.find(&id).unwrap();
    let replay = bench
        .host
        .replay(&bench.remembers, &record)
        .limits(calls())
        .start()
        .await
        .unwrap();
    let replay = replay.report().await;
    assert_eq!(replay.outcome.ok(), Some(&expected), "{at}: {:?}", replay.differences);
    passed
}

/// Not a test: a walk, in the process that another test starts.
#[tokio::test]
async fn walk_child() {
    let Ok(walk) = std::env::var(WALK) else { return };
    let bench = Bench::new().await;
    for fault in FAULTS {
        let mut places = BTreeSet::new();
        for n in 1.. {
            let passed = match walk.as_str() {
                "batch" => one_batch(&bench, fault, n).await,
                "memory" => one_count(&bench, fault, n).await,
                walk => one_run(&bench, fault, n, walk == "resume").await,
            };
            places.extend(passed.names.iter().copied());
            if passed.hit.is_none() {
                let line = format!("walked {walk}, {fault:?}: {} times, places: {places:?}", n - 1);
                writeln!(std::io::stdout(), "\n{line}").unwrap();
                break;
            }
        }
    }
}

/// Of each fault, how many places a walk has come to; it must have been at all of `parts`.
#[track_caller]
fn walked(walk: &str, parts: &[&str]) {
    let told = in_child(walk, "walk_child");
    assert_eq!(told.lines().count(), FAULTS.len(), "{told}");
    for (fault, line) in FAULTS.iter().zip(told.lines()) {
        for part in parts.iter().filter(|_| *fault != Fault::Error) {
            assert!(line.contains(&format!("\"{part}.")), "no place of {part}: {line}");
        }
    }
    let times = |line: &str| -> Option<usize> { line.split_once(": ")?.1.split_once(" times")?.0.parse().ok() };
    let faults = told.lines().filter_map(times).sum();
    agenthost_tests::figure(24, &format!("{walk}-faults"), faults);
}

#[test]
fn a_run_survives_a_fault_at_every_place() {
    walked(
        "run",
        &["run", "spawn", "call", "settle", "journal", "collect", "guest", "wasi"],
    );
}

#[test]
fn a_resumed_run_survives_a_fault_at_every_place() {
    walked("resume", &["spawn", "call", "settle", "journal", "collect"]);
}

#[test]
fn a_batch_survives_a_fault_at_every_place() {
    walked(
        "batch",
        &[
            "batch", "spawn", "call", "settle", "journal", "collect", "guest", "wasi",
        ],
    );
}

#[test]
fn a_task_with_a_memory_survives_a_fault_at_every_place() {
    walked("memory", &["spawn", "call", "settle", "journal", "collect", "document"]);
}

/// Not a test: panics in host functions, in the process that another test starts.
#[tokio::test]
async fn host_functions_child() {
    if std::env::var_os(WALK).is_none() {
        return;
    }
    let bench = Bench::new().await;
    // Each of them is passed once by each of the three sub-tasks, if not more often.
    let places = [
        "guest.complete",
        "guest.reply",
        "call.complete",
        "call.made",
        "call.remaining",
        "call.progress",
        "call.fuel",
        "call.leased",
        "settle.fuel",
        "settle.told",
        "wasi.log",
        "wasi.clock",
        "collect.given",
    ];
    let also_of_root = [
        "guest.complete",
        "guest.reply",
        "call.complete",
        "call.made",
        "settle.told",
    ];
    for name in places {
        for at in 1..=3 {
            let scenario = format!("[{name} {at}]");
            let prompts: Vec<_> = ["a", "b", "c"]
                .iter()
                .map(|prompt| format!("{scenario} {prompt}"))
                .collect();
            let input = json!({"prompts": prompts, "question": scenario, "tolerant": true});
            let run = bench.host.run(&bench.gathers, &input).limits(calls()).start().unwrap();
            failpoint::arm(Plan {
                at,
                name: Some(name),
                fault: Fault::Panic,
                cancel: Box::new(|| ()),
            });
            let report = run.report().await;
            assert_eq!(failpoint::disarm().hit, Some(name), "{at}");
            let host: Vec<_> = report
                .tasks
                .iter()
                .filter(|task| {
                    task.outcome
                        .failure()
                        .is_some_and(|failure| failure.class.name() == "host")
                })
                .map(|task| task.id.to_string())
                .collect();
            assert_eq!(host.len(), 1, "{name} {at}: {report:?}");
            if host == ["root"] {
                assert!(
                    also_of_root.contains(&name) || name.contains("fuel") || name.contains('l'),
                    "{name}"
                );
            } else {
                let ok = report.tasks.iter().filter(|task| task.outcome.ok().is_some()).count();
                assert_eq!(ok, 3, "{name} {at}: the siblings and the parent end well: {report:?}");
            }
            bench.nothing_is_left(name);
        }
        writeln!(std::io::stdout(), "\nwalked {name}").unwrap();
    }
}

#[test]
fn a_panic_in_a_host_function_fails_its_task_only() {
    let told = in_child("host-functions", "host_functions_child");
    assert_eq!(told.lines().count(), 13, "{told}");
    agenthost_tests::figure(24, "panics", 3 * 13);
}

/// Where a panic ends the process, no task could outlive another; and failpoints are in no build of the product.
#[test]
fn every_profile_unwinds_and_no_default_feature_has_failpoints() {
    let read = |name: &str| -> toml::Table {
        let text = std::fs::read_to_string(agenthost_tests::guests::workspace().join(name)).unwrap();
        text.parse().unwrap()
    };
    let profiles = read("Cargo.toml");
    for (name, profile) in profiles["profile"].as_table().unwrap() {
        assert!(profile.get("panic").is_none(), "{name}");
    }
    for manifest in [
        "host/core/Cargo.toml",
        "host/agenthost/Cargo.toml",
        "host/cli/Cargo.toml",
    ] {
        let features = read(manifest)["features"].as_table().unwrap().clone();
        let default = features.get("default").map(ToString::to_string).unwrap_or_default();
        assert!(
            features.contains_key("failpoints") && !default.contains("failpoints"),
            "{features:?}"
        );
    }
}
