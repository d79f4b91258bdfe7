//! The product, driven from outside.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod all {
    mod aimock;
    mod allowance;
    mod ask_again;
    mod attack;
    mod bad_input;
    mod batch;
    mod built_in;
    mod cache;
    mod cli;
    mod compile;
    mod concurrency;
    mod dirs;
    mod docs;
    mod doctor;
    mod documents;
    mod events;
    mod examples;
    mod extra_headers;
    mod fan_out;
    mod format_1;
    mod format_2;
    mod fuzz;
    mod gate;
    mod handles;
    mod heartbeat;
    mod inspect;
    mod isolation;
    mod joins;
    mod journal;
    mod keys;
    mod keys_sign;
    mod limits;
    mod linking;
    mod links;
    mod memory;
    mod misbehaving;
    mod moving;
    mod plan;
    mod providers;
    mod public_api;
    mod published;
    mod quota;
    mod recovery;
    mod registry_oci;
    mod replay;
    mod resume;
    mod runs;
    mod rust_first;
    mod screens;
    mod server;
    mod server_tools;
    mod shares;
    mod sharing;
    mod sizes;
    mod spawn;
    mod stopped_batch;
    mod taking_over;
    mod terminal;
    mod tidy;
    mod tools;
    mod tree;
    mod untrusted;
    mod untrusted_grants;
    mod validation;
    mod values;

    /// Tests that build crates with cargo, run a real model, or place faults everywhere. `cargo test --workspace -- --skip slow::`
    /// leaves them out.
    mod slow {
        mod cassettes;
        mod crates;
        mod failpoints;
        mod guide;
        mod new;
        mod provenance;
        mod python;
        mod real_model;
        mod std_plugins;
        mod toolchain;
        mod vendor_sdks;
        mod workspace;
    }
}

use std::time::Duration;

use agenthost::limits::LimitsPatch;
use agenthost::{Host, Plugin};
use agenthost_tests::env::TestEnv;
use agenthost_tests::guests::guests;
use agenthost_tests::server::Server;
use serde_json::{Value, json};

/// An empty machine with the command line that belongs to this build.
fn machine() -> TestEnv {
    TestEnv::new(env!("CARGO_BIN_EXE_agenthost-cli"))
}

/// A machine whose models are at `server`.
fn machine_at(server: &Server) -> TestEnv {
    machine().with(server)
}

/// The same, with compiled plugins kept from one test to the next; for tests of what plugins do together.
fn machine_for(config: &str) -> TestEnv {
    machine().config(config).cache(env!("CARGO_TARGET_TMPDIR"))
}

/// The path of a guest's component. Every guest must be named by one such call, see `tidy`.
fn guest(name: &str) -> String {
    guests().path(name).display().to_string()
}

/// A guest, loaded into `host`.
async fn load(host: &Host, path: &str) -> Plugin {
    host.load(path).await.unwrap()
}

/// The report of one run, as `--json` prints it.
async fn report(host: &Host, plugin: &Plugin, input: &Value, flags: &[(&str, &str)]) -> Value {
    let run = host.run(plugin, input).limits(limits(flags)).start().unwrap();
    // Far longer than any of them takes: something is waited for that never comes.
    let report = tokio::time::timeout(Duration::from_secs(60), run.report()).await;
    serde_json::to_value(&*report.expect("the run hangs")).unwrap()
}

/// Of each task, its id and how it came out: `ok` or the failure's class.
fn ends(report: &Value) -> Vec<(&str, &str)> {
    let tasks = report["tasks"].as_array().unwrap();
    tasks
        .iter()
        .map(|task| {
            let class = task["outcome"]["failure"]["class"].as_str();
            (task["id"].as_str().unwrap(), class.unwrap_or("ok"))
        })
        .collect()
}

/// Limits as the flags of the command line write them.
fn limits(flags: &[(&str, &str)]) -> LimitsPatch {
    let mut patch = LimitsPatch::default();
    for (key, value) in flags {
        patch.set(key, value).unwrap();
    }
    patch
}

/// An input of the guest `asks`, with at most 100 output tokens a call.
fn questions(prompts: &[&str], mode: &str) -> Value {
    json!({"prompts": prompts, "mode": mode, "max-tokens": 100})
}

/// The same, failing with the first error.
fn strict_questions(prompts: &[&str], mode: &str) -> Value {
    json!({"prompts": prompts, "mode": mode, "max-tokens": 100, "strict": true})
}

/// The arguments of `agenthost run` with `--json`, and more.
fn run_json(plugin: &str, input: &Value, more: &[&str]) -> Vec<String> {
    let input = input.to_string();
    ["run", plugin, "--input", &input, "--json"]
        .iter()
        .chain(more)
        .map(|arg| (*arg).to_owned())
        .collect()
}

/// A fixed sequence that looks random: the state after `n` steps.
fn dice(seed: u64, n: usize) -> u64 {
    let mut state = seed ^ (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

/// The tokens of a report that a server counted: all of them but what abandoned requests are charged.
fn counted(document: &Value) -> u64 {
    let number = |value: &Value| value.as_u64().unwrap();
    let abandoned = document["models"].as_array().unwrap().iter();
    let abandoned = abandoned
        .map(|model| number(&model["abandoned"]["at_most_tokens"]))
        .sum::<u64>();
    let spent = &document["spent"];
    number(&spent["input_tokens"]) + number(&spent["output_tokens"]) - abandoned
}

/// The part of a report that a replay reproduces: everything but the times and the gate's actions.
fn essence(document: &Value) -> Value {
    let spent = |spent: &Value| {
        let mut spent = spent.clone();
        spent.as_object_mut().unwrap().remove("wall_ms");
        spent
    };
    let tasks = document["tasks"].as_array().unwrap().iter().map(|task| {
        let same = ["id", "parent", "plugin", "models", "outcome"].map(|key| (key.to_owned(), task[key].clone()));
        let spent = ("spent".to_owned(), spent(&task["spent"]));
        Value::Object(same.into_iter().chain([spent]).collect())
    });
    json!({
        "run": document["run"],
        "outcome": document["outcome"],
        "spent": spent(&document["spent"]),
        "tasks": tasks.collect::<Vec<_>>(),
    })
}
