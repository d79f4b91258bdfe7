//! Runs against a model server that others wrote, with its chaos on: the npm package `@copilotkit/aimock`.
//!
//! It needs node, npm and their network, so it runs only if `AGENTHOST_AIMOCK=1` is set, and prints a note if it is
//! not. `AGENTHOST_AIMOCK_DIR` names a directory in which the package is installed already.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agenthost_tests::env::TestEnv;
use agenthost_tests::foreign::{ForeignServer, ProxiedServer};
use agenthost_tests::guests::plugin;
use agenthost_tests::optional::{self, say};
use agenthost_tests::server::config;
use serde_json::{Value, json};

use crate::{guest, limits, load, machine_for, questions};

const GROUP: &str = "aimock";
const PACKAGE: &str = "@copilotkit/aimock";
const VERSION: &str = "1.43.0";
/// The items of a batch.
const ITEMS: usize = 100;

/// How many items a fan-out has: aimock's refusals name a limit of 60 requests a minute, so 200 of them take some four minutes.
fn item_count() -> usize {
    if std::env::var("AGENTHOST_SOAK").as_deref() == Ok("1") {
        200
    } else {
        60
    }
}

/// The program of the package, or why there is none.
fn installed(machine: &TestEnv) -> Result<PathBuf, String> {
    if std::env::var("AGENTHOST_AIMOCK").as_deref() != Ok("1") {
        return Err("set AGENTHOST_AIMOCK=1 to run against aimock".to_owned());
    }
    let dir = match std::env::var_os("AGENTHOST_AIMOCK_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let dir = machine.cwd();
            let npm = Command::new("npm")
                .args(["install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts"])
                .arg(format!("{PACKAGE}@{VERSION}"))
                .current_dir(&dir)
                .stdin(Stdio::null())
                .output()
                .map_err(|error| format!("npm does not start: {error}"))?;
            if !npm.status.success() {
                return Err(format!("npm: {}", String::from_utf8_lossy(&npm.stderr).trim()));
            }
            dir
        }
    };
    let entry = dir.join("node_modules").join(PACKAGE).join("dist/cli.js");
    if entry.exists() {
        Ok(entry)
    } else {
        Err(format!("{} is not there", entry.display()))
    }
}

/// The server with these answers and further arguments, if it is installed; prints a note if it is not.
fn start(machine: &TestEnv, fixtures: &Value, arguments: &'static [&str]) -> Option<ForeignServer> {
    let entry = match installed(machine) {
        Ok(entry) => entry,
        Err(why) => {
            optional::skipped(GROUP, why);
            return None;
        }
    };
    optional::runs(GROUP);
    let fixtures = machine.write("fixtures/items.json", json!({"fixtures": fixtures}).to_string());
    Some(ForeignServer::start(move |port| {
        let mut command = Command::new("node");
        command
            .arg(&entry)
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &port.to_string(),
                "--log-level",
                "silent",
                "-f",
            ])
            .arg(&fixtures)
            .args(arguments);
        command
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fan_out_through_chaos_accounts_for_every_item() {
    let items = item_count();
    for (kind, variable) in [("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY")] {
        let machine = machine_for("").var(variable, "sk-test-0123456789");
        let fixtures = json!([{"match": {"userMessage": "item"}, "response": {"content": "done"}}]);
        let chaos = &[
            "--chaos-ratelimit",
            "0.15",
            "--chaos-drop",
            "0.1",
            "--chaos-disconnect",
            "0.05",
            "--chaos-malformed",
            "0.02",
        ];
        let Some(aimock) = start(&machine, &fixtures, chaos) else {
            return;
        };
        let path = if kind == "openai" { "/v1" } else { "" };
        let url = format!("http://{}{path}", aimock.address());
        let machine = machine.config(&config(kind, &url, &format!("key-env = \"{variable}\"\n")));
        let prompts: Vec<_> = (0..items).map(|n| format!("item {n}")).collect();
        let input = questions(&prompts.iter().map(String::as_str).collect::<Vec<_>>(), "parallel");
        let host = machine.host();
        let asks = load(&host, &guest("asks")).await;
        let begin = Instant::now();
        let run = host
            .run(&asks, &input)
            .limits(limits(&[("calls", "none"), ("tokens", "none"), ("timeout", "8m")]))
            .start()
            .unwrap();
        // Its refusals name a limit of 60 requests a minute, and that is kept.
        let ended = tokio::time::timeout(Duration::from_mins(9), run.report()).await;
        let document = serde_json::to_value(&*ended.expect("the run hangs")).unwrap();

        let answers = document["outcome"]["ok"].as_array().unwrap();
        let good = answers.iter().filter(|answer| answer["text"] == "done").count();
        let bad = answers.iter().filter(|answer| answer["error"].is_string()).count();
        say(&format!(
            "{kind}: {good} answered, {bad} failed in {:?}; {}",
            begin.elapsed(),
            document["models"]
        ));
        assert_eq!((answers.len(), good + bad), (items, items), "{document}");
        assert_eq!(document["spent"]["calls"], items, "{document}");
        assert!(good > 0, "{document}");
    }
}

/// Answers for `title`, which asks for an object; the first answers to the reports 1 to 9 violate its schema.
fn titles() -> Value {
    let title = json!({
        "match": {"responseFormat": "json_schema"},
        "response": {"content": "{\"best\": \"Bees\", \"others\": [\"More bees\"]}"},
    });
    let bad = |n: usize| {
        json!({
            "match": {"userMessage": format!("Report {n} on"), "sequenceIndex": 0},
            "response": {"content": "{\"best\": 7}"},
        })
    };
    (1..10).map(bad).chain([title]).collect()
}

/// Runs `title` for a hundred items through a proxy in front of the server, which crashes in the middle if that is asked
/// for. Returns the report, the results, and the server.
fn batch(arguments: &'static [&str], crash: bool) -> Option<(Value, Vec<Value>, ProxiedServer)> {
    let machine = machine_for("");
    let mut aimock = ProxiedServer::new(start(&machine, &titles(), arguments)?);
    let machine = machine.config(&config("openai", &aimock.proxy.url(), ""));
    let items: String = (0..ITEMS)
        .map(|n| {
            format!(
                "{}\n",
                json!({"body": format!("Report {n} on the bees."), "tone": null})
            )
        })
        .collect();
    machine.write("items.jsonl", items);
    let file = plugin("title").display().to_string();
    let running = machine.start(
        [
            "batch",
            &file,
            "items.jsonl",
            "--json",
            "--output",
            "results.jsonl",
            "--timeout",
            "4m",
        ],
        None,
    );
    if crash {
        aimock.crash_after(ITEMS / 2);
    }
    let output = running.finish_within(Duration::from_mins(5));
    let document = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"));
    let results = std::fs::read_to_string(machine.cwd().join("results.jsonl")).unwrap();
    let results = results.lines().map(|line| serde_json::from_str(line).unwrap());
    Some((document, results.collect(), aimock))
}

/// The number of good results. Each item has one result, in order, which is a title or a failure of the model.
fn good(results: &[Value]) -> usize {
    assert_eq!(results.len(), ITEMS);
    for (n, line) in results.iter().enumerate() {
        assert_eq!(line["index"], n, "{line}");
        let outcome = &line["outcome"];
        let is_good = outcome["ok"]["best"] == "Bees";
        assert!(is_good || outcome["failure"]["class"] == "model", "{line}");
    }
    results.iter().filter(|line| line["outcome"]["ok"].is_object()).count()
}

#[test]
fn a_batch_through_chaos_has_a_result_for_each_item() {
    let chaos = &[
        "--chaos-drop",
        "0.1",
        "--chaos-malformed",
        "0.05",
        "--chaos-disconnect",
        "0.05",
    ];
    let Some((document, results, aimock)) = batch(chaos, false) else {
        return;
    };
    // A lost connection or a fault is tried again, and one answer of twenty cannot be read.
    assert!(good(&results) >= ITEMS * 8 / 10, "{document}");
    let model = &document["models"][0];
    assert!(model["retries"].as_u64() >= Some(5), "{document}");
    assert!(model["repairs"].as_u64() >= Some(1), "{document}");
    assert_eq!(model["requests"], aimock.proxy.ended().len(), "{document}");
}

#[test]
fn a_crash_in_the_middle_of_a_batch_loses_no_item() {
    let Some((document, results, aimock)) = batch(&["--chaos-latency", "100"], true) else {
        return;
    };
    assert_eq!(good(&results), ITEMS, "{document}");
    let model = &document["models"][0];
    assert!(model["limits_met"]["outage"].as_u64() >= Some(1), "{document}");
    // Nothing is sent again after its answer.
    let repairs = model["repairs"].as_u64().unwrap() as usize;
    let answered = aimock.proxy.trace().with_status(200).len();
    assert_eq!(answered, ITEMS + repairs, "{document}");
}
