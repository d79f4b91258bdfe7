//! Compares the bill of a model server for a run with the run's limits and books.
//!
//! A whole host runs tasks in a guest that interprets a drawn program: it starts calls and sub-tasks, waits for any of
//! them, drops some, and returns while others are open. Calls are hedged, retried, repaired and passed on to the next
//! model of a chain; tasks have time limits, and the run is canceled at a drawn moment. The server bills every request
//! when it receives it. Time is paused.

mod server;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use self::server::{Bill, Billed, Rates, Server, Treatment, treatments};
use crate::host::{Host, LoadOptions};
use agenthost_config::{Config, Env};
use agenthost_core::limits::{Cap, LimitsPatch, Spent, Usd};
use agenthost_core::run::RunReport;
use agenthost_core::task::TaskId;
use agenthost_gate::Pressure;

/// The number of cases if `PROPTEST_CASES` is not set: enough to reach everything in [`Seen`].
const CASES: u32 = 80;

/// The providers: kind, and pico-dollars for a token of input, of input that is written to the cache, and of output.
const PROVIDERS: [(&str, &str, Rates); 3] = [
    ("hedged", "openai", rates(1_000_000, 1_250_000, 5_000_000)),
    ("plain", "openai", rates(200_000, 200_000, 900_000)),
    ("marked", "anthropic", rates(3_000_000, 3_750_000, 15_000_000)),
];

const fn rates(input: u64, write: u64, output: u64) -> Rates {
    Rates { input, write, output }
}

/// One step of a task.
#[derive(Debug, Clone)]
enum Step {
    Call {
        size: u8,
        model: u8,
        schema: bool,
        most: u8,
    },
    Start(Vec<Step>),
    Drop(u8),
    Wait,
    WaitForAll,
}

#[derive(Debug, Clone)]
struct Case {
    strict: bool,
    hedge_after: u64,
    retries: u32,
    concurrency: u32,
    /// Of the run, of its root task with all below it, and of each sub-task.
    tokens: [Option<u64>; 3],
    /// The same in pico-dollars.
    cost: [Option<u64>; 3],
    /// Calls of each sub-task.
    calls: u64,
    /// Milliseconds that the root task and each sub-task may take.
    time: [u64; 2],
    /// When the run is canceled, in milliseconds.
    cancel: Option<u64>,
    program: Vec<Step>,
    treatments: Vec<Treatment>,
}

fn step(starts: bool) -> BoxedStrategy<Step> {
    let call = (0..75_u8, 0..3_u8, any::<bool>(), 0..40_u8);
    let call = call.prop_map(|(size, model, schema, most)| Step::Call {
        size,
        model,
        schema,
        most,
    });
    let plain = prop_oneof![
        20 => call,
        5 => (0..75_u8).prop_map(Step::Drop),
        14 => Just(Step::Wait),
        1 => Just(Step::WaitForAll),
    ];
    if starts {
        let below = steps(step(false), 30).prop_map(Step::Start);
        prop_oneof![8 => plain, 1 => below].boxed()
    } else {
        plain.boxed()
    }
}

/// Draws a program that ends while calls may be open, or once all have been answered.
fn steps(step: BoxedStrategy<Step>, most: usize) -> impl Strategy<Value = Vec<Step>> {
    let drawn = (
        prop::collection::vec(step, 1..most),
        prop::option::weighted(0.7, Just(Step::WaitForAll)),
    );
    drawn.prop_map(|(mut steps, last)| {
        steps.extend(last);
        steps
    })
}

fn drawn_cases() -> impl Strategy<Value = Case> {
    let tokens = || prop::option::weighted(0.8, 1_000..40_000_u64);
    let cost = || prop::option::weighted(0.6, 5_000_000_000..200_000_000_000_u64);
    let time = || prop_oneof![1 => 1..20_000_u64, 3 => Just(300_000)];
    let host = (any::<bool>(), 1..4_000_u64, 0..5_u32, 1..9_u32);
    let limits = (
        [tokens(), tokens(), tokens()],
        [cost(), cost(), cost()],
        1..30_u64,
        [time(), time()],
        prop::option::weighted(0.3, 0..20_000_u64),
    );
    let drawn = (host, limits, steps(step(true), 60), treatments());
    drawn.prop_map(|(host, limits, program, treatments)| {
        let (strict, hedge_after, retries, concurrency) = host;
        let (tokens, cost, calls, time, cancel) = limits;
        Case {
            strict,
            hedge_after,
            retries,
            concurrency,
            tokens,
            cost,
            calls,
            time,
            cancel,
            program,
            treatments,
        }
    })
}

/// Returns the program in the letters of the guest. Each task's prompts begin with a letter of its own: `label`, and the next
/// of `labels` for each sub-task.
fn written(steps: &[Step], label: u8, labels: &mut std::ops::RangeFrom<u8>) -> String {
    let digit = |value: u8| char::from(b'0' + value);
    let mut text = String::new();
    for step in steps {
        match step {
            Step::Call {
                size,
                model,
                schema,
                most,
            } => {
                text.extend(['c', char::from(label), digit(*size), digit(*model)]);
                text.extend([digit(u8::from(*schema)), digit(*most)]);
            }
            Step::Start(below) => {
                let label = labels.next().unwrap();
                let below = written(below, label, labels);
                let size = u8::try_from(below.len() / 64).unwrap();
                text.extend(['n', digit(size), digit((below.len() % 64) as u8)]);
                text.push_str(&below);
            }
            Step::Drop(number) => text.extend(['d', digit(*number)]),
            Step::Wait => text.push('w'),
            Step::WaitForAll => text.push('a'),
        }
    }
    text
}

const WIT: &str = "package bill:guests@0.1.0;
    package bill:below@0.1.0 {
        interface task { run: async func(input: string) -> result<string, string>; }
        world plugin { include agenthost:plugin/plugin@0.1.0; export task; }
    }
    package bill:root@0.1.0 {
        interface task { run: async func(input: string) -> result<string, string>; }
        world plugin { include agenthost:plugin/plugin@0.1.0; import bill:below/task@0.1.0; export task; }
    }";

/// Returns the guest as the plugin `bill:root`, or as `bill:below`, which starts nothing.
fn guest(name: &str) -> Vec<u8> {
    let mut text = include_str!("billing/guest.wat").replace("bill:root", &format!("bill:{name}"));
    if name == "below" {
        let start = "(func $start (param i32 i32 i32) (result i32)";
        let import = format!("(import \"bill:below/task@0.1.0\" \"[async-lower]run\" {start}))");
        text = text.replace(&import, &format!("{start} unreachable)"));
    }
    let mut module = wat::parse_str(text).unwrap();
    let mut resolve = Resolve::default();
    for (file, text) in [
        ("plugin.wit", include_str!("../../../../../wit/plugin.wit")),
        ("guests.wit", WIT),
    ] {
        resolve.push_str(file, text).unwrap();
    }
    let packages: Vec<_> = resolve.packages.iter().map(|(id, _)| id).collect();
    let world = format!("bill:{name}/plugin@0.1.0");
    let world = resolve.select_world(&packages, Some(&world)).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    let mut encoder = ComponentEncoder::default().module(&module).unwrap();
    encoder.encode().unwrap()
}

/// Returns the lines `tokens` and `cost` of a limits table, without those that are not limited.
fn limits(tokens: Option<u64>, pico: Option<u64>) -> String {
    let tokens = tokens.map_or(String::new(), |tokens| format!("tokens = {tokens}\n"));
    let cost = pico.map_or(String::new(), |pico| {
        format!(
            "cost = \"{}.{:012}\"\n",
            pico / 1_000_000_000_000,
            pico % 1_000_000_000_000
        )
    });
    tokens + &cost
}

impl Case {
    /// Returns the configuration of its host.
    fn config(&self) -> String {
        let mut text =
            "[models]\nfast = \"hedged/m\"\nstrong = [\"marked/m\", \"hedged/m\", \"plain/m\"]\ntimer = \"plain/m\"\n"
                .to_owned();
        text += &format!(
            "[run]\nstrict-tokens = {}\n[run.limits]\n{}",
            self.strict,
            limits(self.tokens[0], self.cost[0])
        );
        let time = self.time[1];
        text += &format!(
            "[grants.\"bill:below\".limits]\ncalls = {}\ntimeout = \"{time}ms\"\n",
            self.calls
        );
        text += &limits(self.tokens[2], self.cost[2]);
        for (name, kind, rates) in PROVIDERS {
            text += &format!("[providers.{name}]\nkind = \"{kind}\"\nbase-url = \"http://127.0.0.1:9/v1\"\n");
            text += &format!(
                "retries = {}\ninitial-concurrency = {}\n",
                self.retries, self.concurrency
            );
            if name == "hedged" {
                text += &format!("hedge-after = \"{}ms\"\n", self.hedge_after);
            }
            let usd = |pico: u64| format!("{}.{:06}", pico / 1_000_000, pico % 1_000_000);
            let (input, write, output) = (usd(rates.input), usd(rates.write), usd(rates.output));
            text += &format!("[prices.\"{name}/m\"]\ninput = {input}\ncache-write = {write}\noutput = {output}\n");
        }
        text
    }

    fn asked(&self) -> LimitsPatch {
        LimitsPatch {
            tokens: self.tokens[1].map(Cap::At),
            cost: self.cost[1].map(|pico| Cap::At(Usd::from_pico(pico))),
            timeout: Some(Cap::At(Duration::from_millis(self.time[0]))),
            ..LimitsPatch::default()
        }
    }

    /// Runs the program to its end and returns the run's report and what was billed. `dir` has the guests.
    async fn run(&self, dir: &Path) -> (Arc<RunReport>, Vec<Billed>) {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(".config/agenthost/config.toml");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, self.config()).unwrap();
        let config = Config::load(&Env::new(BTreeMap::new(), home.path(), Some(home.path().into()))).unwrap();
        let bill = Bill::new(&self.treatments);
        let mut builder = Host::builder().config(config).cache_dir(dir.join("compiled"));
        for (name, kind, rates) in PROVIDERS {
            let server = Server {
                kind,
                rates,
                strict: self.strict,
                bill: bill.clone(),
            };
            builder = builder.provider(name, server);
        }
        let host = builder.build().unwrap();
        let options = LoadOptions::new().sub_agent("bill:below", dir.join("below.wasm"));
        let plugin = host.load_with(&*dir.join("root.wasm"), options).await.unwrap();
        let program = written(&self.program, b'A', &mut (b'B'..));
        let run = host
            .run(&plugin, &Value::String(program))
            .limits(self.asked())
            .start()
            .unwrap();
        let report = match self.cancel {
            Some(after) => {
                let _ = tokio::time::timeout(Duration::from_millis(after), run.report()).await;
                run.cancel();
                run.report().await
            }
            None => run.report().await,
        };
        assert_eq!(host.pressure(), Pressure::default(), "a request outlived its run");
        let received = bill.received().clone();
        (report, received)
    }
}

/// Returns the sum of what was billed.
fn sum(billed: impl Iterator<Item = Billed>) -> Billed {
    billed.fold(Billed::default(), |sum, one| Billed {
        label: 0,
        tokens: sum.tokens + one.tokens,
        pico: sum.pico + one.pico,
        beyond: (sum.beyond.0 + one.beyond.0, sum.beyond.1 + one.beyond.1),
    })
}

/// Compares the bill of an account with its limits and its books. Each may be off by the tokens that the servers counted
/// beyond the host's estimates of the input.
fn check(
    who: &str,
    billed: &Billed,
    spent: &Spent,
    tokens: Option<u64>,
    pico: Option<u64>,
) -> Result<(), TestCaseError> {
    let booked = spent.input_tokens + spent.output_tokens;
    for (unit, billed, booked, limit, beyond) in [
        ("tokens", billed.tokens, booked, tokens, billed.beyond.0),
        ("pico-dollars", billed.pico, spent.cost.pico(), pico, billed.beyond.1),
    ] {
        let all = format!("{who}: billed {billed} {unit}, booked {booked} of {limit:?}, {beyond} beyond the estimates");
        let most = limit.map_or(u64::MAX, |limit| limit.saturating_add(beyond));
        prop_assert!(billed <= most, "over the limit: {all}");
        prop_assert!(booked <= most, "booked over the limit: {all}");
        prop_assert!(booked + beyond >= billed, "not booked: {all}");
    }
    Ok(())
}

/// Counts of what happened in all cases together. The test fails if one of them is zero.
#[derive(Debug, Default)]
struct Seen {
    requests: u64,
    abandoned: u64,
    retries: u64,
    hedges: u64,
    repairs: u64,
    passed_on: u64,
    sub_tasks: u64,
    beyond: u64,
    near_a_limit: u64,
    cut_off: u64,
}

impl Seen {
    fn add(&mut self, case: &Case, report: &RunReport, billed: &Billed) {
        for model in &report.models {
            self.requests += model.requests;
            self.abandoned += model.abandoned.requests;
            self.retries += model.retries;
            self.hedges += model.hedges;
            self.repairs += model.repairs;
            if model.name == "strong" && model.model != "marked/m" {
                self.passed_on += model.requests;
            }
        }
        self.sub_tasks += report.tasks.len() as u64 - 1;
        self.beyond += billed.beyond.0;
        let near = |limit: Option<u64>| limit.is_some_and(|limit| billed.tokens > limit / 10 * 9);
        self.near_a_limit += u64::from(near(case.tokens[0]) || near(case.tokens[1]));
        self.cut_off += u64::from(report.outcome.ok().is_none());
    }

    fn everything(&self) -> bool {
        let Self {
            requests,
            abandoned,
            retries,
            hedges,
            repairs,
            passed_on,
            sub_tasks,
            beyond,
            near_a_limit,
            cut_off,
        } = *self;
        let counts = [
            requests,
            abandoned,
            retries,
            hedges,
            repairs,
            passed_on,
            sub_tasks,
            beyond,
            near_a_limit,
            cut_off,
        ];
        counts.iter().all(|count| *count > 0)
    }
}

fn judge(case: &Case, report: &RunReport, received: &[Billed]) -> Result<(), TestCaseError> {
    let all = sum(received.iter().copied());
    check("the run", &all, &report.spent, case.tokens[0], case.cost[0])?;
    check("the root task", &all, &report.spent, case.tokens[1], case.cost[1])?;
    let starts = case
        .program
        .iter()
        .filter(|step| matches!(step, Step::Start(_)))
        .count();
    for (number, label) in (0..starts as u32).zip(b'B'..) {
        let billed = sum(received.iter().filter(|one| one.label == label).copied());
        let id = TaskId::root().child(number);
        let spent = report
            .tasks
            .iter()
            .find(|task| task.id == id)
            .map(|task| task.spent.clone());
        let spent = spent.unwrap_or_default();
        check(&format!("the task {id}"), &billed, &spent, case.tokens[2], case.cost[2])?;
        prop_assert!(
            spent.calls <= case.calls,
            "the task {id}: {} calls of {}",
            spent.calls,
            case.calls
        );
    }
    let requests: u64 = report.models.iter().map(|model| model.requests).sum();
    prop_assert_eq!(
        requests,
        received.len() as u64,
        "requests in the report and at the servers"
    );
    let tokens: u64 = report
        .models
        .iter()
        .map(|model| model.input_tokens + model.output_tokens)
        .sum();
    prop_assert_eq!(
        tokens,
        report.spent.input_tokens + report.spent.output_tokens,
        "the parts of the report"
    );
    Ok(())
}

#[test]
fn a_server_that_bills_every_request_gets_no_more_than_the_limit_and_no_more_than_is_booked() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["root", "below"] {
        std::fs::write(dir.path().join(name).with_extension("wasm"), guest(name)).unwrap();
    }
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok());
    let config = ProptestConfig {
        cases: cases.unwrap_or(CASES),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let seen = RefCell::new(Seen::default());
    let result = TestRunner::new(config).run(&drawn_cases(), |case| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        let (report, received) = runtime.block_on(case.run(dir.path()));
        judge(&case, &report, &received)?;
        seen.borrow_mut().add(&case, &report, &sum(received.iter().copied()));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let seen = seen.into_inner();
    assert!(
        cases.is_some_and(|cases| cases < CASES) || seen.everything(),
        "{seen:?}"
    );
}
