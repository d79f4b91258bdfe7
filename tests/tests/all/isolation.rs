//! A task can see nothing of the world but its input and the replies to its own calls.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agenthost_tests::server::{Reply, Server};
use serde_json::{Value, json};

use crate::{guest, limits, load, machine, machine_at, questions};

/// An input of the guest `probes`: what to leave in memory, and what to look for there.
fn probe(leave: &str, look_for: &str) -> Value {
    json!({"leave": leave, "look-for": look_for.bytes().map(|byte| !byte).collect::<Vec<_>>()})
}

#[test]
fn there_is_no_environment_no_argument_and_no_stdin() {
    let machine = machine().var("SECRET", "canary-in-the-environment");
    let output = machine.piped(
        ["run", &guest("probes"), "-i", &probe("", "none").to_string()],
        "canary on stdin",
    );
    let found = output.json(0);
    assert_eq!(
        (&found["vars"], &found["args"], &found["stdin"]),
        (&json!([]), &json!([]), &json!(0))
    );
}

#[test]
fn the_clock_stands_still_at_the_runs_start() {
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let found = machine()
        .run(["run", &guest("probes"), "-i", &probe("", "none").to_string()])
        .json(0);
    let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let clock = |n: usize| Duration::from_nanos(found["wall-clock"][n].as_u64().unwrap());
    assert_eq!(clock(0), clock(1), "an hour's sleep takes no time");
    assert!((before..=after).contains(&clock(0)), "{:?}", clock(0));
    assert_eq!(found["slept"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_share_no_memory_and_no_random_numbers() {
    let machine = machine();
    let host = machine.host();
    let plugin = load(&host, &guest("probes")).await;
    let canary = "canary-7fd1c0-of-another-task";
    // Searching some megabytes is most of what this guest does.
    let patch = limits(&[("fuel", "20G")]);
    let run = async |leave: &str, look_for: &str| {
        let run = host
            .run(&plugin, &probe(leave, look_for))
            .limits(&patch)
            .start()
            .unwrap();
        run.outcome().await.ok().unwrap().clone()
    };
    let own = run(canary, canary).await;
    assert!(
        own["found"].as_u64().unwrap() >= 100,
        "the search finds what is there: {own}"
    );
    let mut random = BTreeSet::new();
    for _ in 0..10 {
        let dirty = run(canary, "nothing-like-this-anywhere").await;
        let clean = run("", canary).await;
        assert_eq!(clean["found"], 0, "memory of another task: {clean}");
        assert!(clean["searched"].as_u64().unwrap() > 4 << 20);
        for found in [&dirty, &clean] {
            assert_eq!(found["counter"], 1, "a static of another task");
            random.insert(found["random"].to_string());
        }
    }
    assert_eq!(random.len(), 20, "no two tasks have the same random numbers");
    assert_ne!(own["random"][0], own["random"][1]);
}

#[test]
fn files_are_refused_before_anything_runs() {
    let output = machine().run(["run", &guest("opens-file"), "-i", "\"/etc/hostname\""]);
    let said = output.error(4);
    assert!(
        said.contains("wasi:filesystem/types@0.2") && said.contains("the file system (std::fs"),
        "{said}"
    );
    assert!(
        said.contains("hint: A plugin sees no files: take the content as part of the input."),
        "{said}"
    );
}

#[test]
fn sockets_are_refused_and_explain_the_file_system() {
    let server = Server::scripted([Reply::text("x")]);
    let address = server.url().replace("http://", "").replace("/v1", "");
    let output = machine().run(["run", &guest("connects"), "-i", &json!(address).to_string()]);
    let said = output.error(4);
    for import in [
        "wasi:sockets/tcp@0.2",
        "wasi:sockets/ip-name-lookup@0.2",
        "wasi:filesystem/types@0.2",
    ] {
        assert!(said.contains(import), "{import}: {said}");
    }
    for cause in [
        ": network sockets (",
        ": comes with the sockets, in Rust's standard library",
    ] {
        assert_eq!(said.matches(cause).count(), 1, "{cause}: {said}");
    }
    assert!(said.contains("hint: A plugin has no network"), "{said}");
    assert_eq!(server.count(), 0);
    for refused in ["opens-file", "connects"] {
        let inspected = machine().run(["inspect", &guest(refused), "--json"]).json(0);
        assert!(
            inspected.to_string().contains("refused"),
            "inspect shows what would be refused: {inspected}"
        );
        assert_eq!(machine().run(["inspect", &guest(refused)]).code, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_never_sees_anothers_prompts_or_replies() {
    let server = Server::start(|request| Reply::text(request.prompt()).after(Duration::from_millis(30)));
    let machine = machine_at(&server);
    let host = machine.host();
    let plugin = load(&host, &guest("asks")).await;
    let canary = |task: usize, call: usize| format!("canary-{task}-{call}-{}", "x".repeat(task * 7));
    let inputs = (0..20).map(|task| {
        let prompts: Vec<_> = (0..5).map(|call| canary(task, call)).collect();
        questions(&prompts.iter().map(String::as_str).collect::<Vec<_>>(), "parallel")
    });
    let runs: Vec<_> = inputs.map(|input| host.run(&plugin, &input).start().unwrap()).collect();
    for (task, run) in runs.iter().enumerate() {
        let outcome = run.outcome().await;
        for call in 0..5 {
            assert_eq!(outcome.ok().unwrap()[call]["text"], canary(task, call));
        }
    }
    let seen = server.seen();
    assert_eq!(seen.len(), 100);
    assert!(
        server.max_in_flight() > 20,
        "they ran at the same time: {}",
        server.max_in_flight()
    );
    for request in seen {
        assert_eq!(
            request.body.to_string().matches("canary-").count(),
            1,
            "{}",
            request.body
        );
    }
}
