//! Guests that end badly: each ends its own task, with the right class, within its limits, and nothing else.

use agenthost_tests::env::TestEnv;
use agenthost_tests::server::{Reply, Server};
use serde_json::{Value, json};

use crate::{guest, limits, load, machine, machine_at, questions, run_json};

/// Runs the guest in the named way and gives the document.
fn ends(machine: &TestEnv, behaviour: &str, flags: &[&str], code: i32) -> Value {
    let output = machine.run(run_json(&guest("misbehaves"), &json!(behaviour), flags));
    assert!(!output.stderr.contains("panicked"), "{output}");
    output.json(code)
}

fn failure(document: &Value) -> (&str, &str, Option<&str>) {
    let failure = &document["outcome"]["failure"];
    (
        failure["class"].as_str().unwrap(),
        failure["message"].as_str().unwrap(),
        failure["limit"].as_str(),
    )
}

#[test]
fn a_loop_ends_exactly_at_its_fuel() {
    let machine = machine();
    for fuel in ["1", "1000", "123456789"] {
        let document = ends(&machine, "loop", &["--fuel", fuel], 3);
        assert_eq!(failure(&document).2, Some("fuel"));
        assert_eq!(document["spent"]["fuel"].to_string(), fuel);
    }
}

#[test]
fn a_loop_without_a_limit_on_fuel_ends_with_its_time() {
    let document = ends(&machine(), "loop", &["--fuel", "none", "--timeout", "300ms"], 3);
    assert_eq!(
        failure(&document),
        ("exhausted", "the task's time was up (limit: 300 ms)", Some("time"))
    );
}

#[test]
fn growing_memory_ends_at_the_limit() {
    let machine = machine();
    for (limit, bytes) in [("4MiB", 4 << 20), ("64MiB", 64 << 20), ("100MB", 100_000_000)] {
        let document = ends(&machine, "grow-memory", &["--memory", limit], 3);
        assert_eq!(failure(&document).2, Some("memory"));
        let peak = document["spent"]["peak_memory_bytes"].as_u64().unwrap();
        assert!((bytes / 2..=bytes).contains(&peak), "{peak} of {bytes}");
    }
    // Not even what it starts with.
    assert_eq!(
        failure(&ends(&machine, "ok", &["--memory", "64KiB"], 3)).2,
        Some("memory")
    );
}

#[test]
fn crashes_are_traps() {
    let machine = machine();
    let message = |behaviour| failure(&ends(&machine, behaviour, &[], 1)).1.to_owned();
    for behaviour in ["recurse", "panic", "exit", "wait"] {
        let document = ends(&machine, behaviour, &[], 1);
        assert_eq!(
            (failure(&document).0, failure(&document).2),
            ("trapped", None),
            "{behaviour}"
        );
    }
    assert!(
        message("panic").ends_with("as asked") && message("panic").contains("misbehaves.rs:"),
        "{}",
        message("panic")
    );
    assert!(message("exit").contains("exit"), "{}", message("exit"));

    let output = machine.run(["run", &guest("misbehaves"), "-i", "\"panic\""]);
    let said = &output.stderr;
    assert!(
        said.contains("--- log of root (guests:misbehaves@0.1.0)\n"),
        "the log of a task that failed is shown: {said}"
    );
    assert!(said.contains("hint: This is a fault of the plugin"), "{said}");
}

#[test]
fn an_output_beyond_what_one_call_carries_is_refused() {
    let document = ends(&machine(), "large-output", &[], 3);
    assert_eq!(failure(&document).2, Some("size"));
}

#[test]
fn the_log_is_bounded_and_what_is_dropped_is_counted() {
    let fuel = ["--fuel", "20M"];
    let with_default = ends(&machine(), "print-forever", &fuel, 3);
    let with_little = ends(
        &machine().config("[run]\nlog-bytes = 1000\n"),
        "print-forever",
        &fuel,
        3,
    );
    let kept = |document: &Value| document["tasks"][0]["log"].as_str().unwrap().len();
    let dropped = |document: &Value| document["tasks"][0]["log_dropped_bytes"].as_u64().unwrap();
    assert_eq!((kept(&with_default), kept(&with_little)), (64 << 10, 1000));
    assert!(dropped(&with_little) > 0);
    // The same fuel prints the same: the guest sees nothing of the bound.
    let total = |document| kept(document) as u64 + dropped(document);
    assert_eq!(total(&with_default), total(&with_little));
    assert!(
        with_little["tasks"][0]["log"]
            .as_str()
            .unwrap()
            .starts_with("one more line\none more line\n")
    );
}

#[test]
fn a_terminal_is_safe_from_what_a_task_prints() {
    // A panic's message is the guest's own text; here it only has lines, so what counts is that no escape passes.
    let output = machine().run([
        "run",
        "-v",
        &guest("misbehaves"),
        "-i",
        "\"print-forever\"",
        "--fuel",
        "1M",
    ]);
    assert_eq!(output.code, 3, "{output}");
    assert!(!output.stderr.contains('\u{1b}'), "{output}");
}

/// While all the bad ones run at once, a good one gives what it gives alone.
#[tokio::test(flavor = "multi_thread")]
async fn the_host_goes_on() {
    let server = Server::start(|request| {
        Reply::text(format!("reply to {}", request.prompt())).after(std::time::Duration::from_millis(20))
    });
    let machine = machine_at(&server);
    let host = machine.host();
    let (bad, good) = (
        load(&host, &guest("misbehaves")).await,
        load(&host, &guest("asks")).await,
    );
    let input = questions(&["a", "b", "c", "d", "e"], "sequential");
    let alone = host.run(&good, &input).start().unwrap().outcome().await;
    assert_eq!(alone.ok().unwrap()[4]["text"], "reply to e");

    let patch = limits(&[("fuel", "500M"), ("memory", "16MiB")]);
    let behaviours = [
        "loop",
        "grow-memory",
        "recurse",
        "panic",
        "exit",
        "print-forever",
        "wait",
        "fail",
    ];
    let start = |behaviour: &str| {
        let fuel = if behaviour == "print-forever" {
            limits(&[("fuel", "20M")])
        } else {
            patch.clone()
        };
        host.run(&bad, &json!(behaviour)).limits(&fuel).start().unwrap()
    };
    let all: Vec<_> = behaviours
        .iter()
        .chain(&behaviours)
        .map(|behaviour| start(behaviour))
        .collect();
    let together: Vec<_> = (0..4).map(|_| host.run(&good, &input).start().unwrap()).collect();
    for run in together {
        assert_eq!(run.outcome().await, alone);
    }
    for (n, run) in all.iter().enumerate() {
        let report = run.report().await;
        let class = report.outcome.failure().unwrap().class.name();
        let expected = [
            "exhausted",
            "exhausted",
            "trapped",
            "trapped",
            "trapped",
            "exhausted",
            "trapped",
            "failed",
        ];
        assert_eq!(class, expected[n % 8], "{}", behaviours[n % 8]);
    }
    assert_eq!(
        host.run(&bad, &json!("ok")).start().unwrap().outcome().await.ok(),
        Some(&json!("fine"))
    );
}
