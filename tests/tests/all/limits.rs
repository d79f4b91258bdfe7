//! Limits hold exactly: reserved before a call, settled after it, refused if it could never fit.

use std::time::Duration;

use agenthost_tests::server::{Reply, Server};
use serde_json::{Value, json};

use crate::{guest, limits, load, machine, machine_at, questions, run_json, strict_questions};

/// The answers of `asks`: the text or the error of each.
fn answers(document: &Value) -> Vec<&str> {
    let answers = document["outcome"]["ok"]
        .as_array()
        .unwrap_or_else(|| panic!("{document}"));
    answers
        .iter()
        .map(|answer| answer["text"].as_str().or(answer["error"].as_str()).unwrap())
        .collect()
}

const PRICE: &str = "[prices.\"local/small\"]\ninput = 1\noutput = 1\n";

#[test]
fn a_call_that_can_never_fit_is_refused_before_it_is_sent() {
    let server = Server::scripted([Reply::text("first").usage(70, 80)]);
    let machine = machine_at(&server);
    let two = ["a", "b"];
    let given = machine
        .run(run_json(
            &guest("asks"),
            &questions(&two, "sequential"),
            &["--tokens", "200"],
        ))
        .json(0);
    assert_eq!(answers(&given), ["first", "exhausted"]);
    assert_eq!(server.count(), 1);
    let failed = machine.run(run_json(
        &guest("asks"),
        &strict_questions(&two, "sequential"),
        &["--tokens", "200"],
    ));
    let document = failed.json(3);
    let failure = &document["outcome"]["failure"];
    assert_eq!(
        (failure["class"].as_str(), failure["limit"].as_str()),
        (Some("exhausted"), Some("tokens"))
    );
    assert_eq!(
        failure["message"],
        "the task gave up at its limit of tokens (limit: 200 tokens)"
    );
    assert_eq!(server.count(), 2);
    for document in [&given, &document] {
        let spent = &document["spent"];
        assert_eq!(
            (&spent["input_tokens"], &spent["output_tokens"], &spent["calls"]),
            (&json!(70), &json!(80), &json!(1))
        );
    }
    let output = machine.run([
        "run",
        &guest("asks"),
        "-i",
        &strict_questions(&two, "sequential").to_string(),
        "--tokens",
        "200",
    ]);
    let error = output.error(3);
    let shortage = &failure["shortage"]["tokens"];
    let needed = shortage["needed"].as_u64().unwrap();
    assert_eq!((&shortage["left"], &shortage["limit"]), (&json!(50), &json!(200)));
    assert!(needed > 100, "the input and 100 tokens of output: {failure}");
    let text = format!(
        "the task gave up at its limit of tokens (limit: 200 tokens): a call needs up to {needed} tokens, and 50 are left\n"
    );
    assert!(error.contains(&text), "{output}");
    let least = (150 + needed).to_string();
    let hint = format!("hint: Raise it to at least {least} with --tokens, or with `tokens` under [limits]");
    assert!(error.contains(&hint), "{output}");
    // A replay ends with the same text, without asking anybody.
    let asked = server.count();
    let replayed = machine.run(["replay", "last"]);
    assert!(replayed.stderr.contains(&text), "{replayed}");
    assert!(
        replayed.stderr.contains("the replay is what was recorded"),
        "{replayed}"
    );
    assert_eq!(server.count(), asked);
    let shown = machine.run(["show", "last"]);
    assert!(shown.stdout.contains(text.trim_end()), "{shown}");
    // What the hint says is enough.
    let input = strict_questions(&two, "sequential").to_string();
    let enough = machine.run(["run", &guest("asks"), "-i", &input, "--tokens", &least]);
    assert_eq!(enough.code, 0, "{enough}");
    // Not even the first one fits.
    let asked = server.count();
    let document = machine
        .run(run_json(
            &guest("asks"),
            &questions(&["a"], "parallel"),
            &["--tokens", "50"],
        ))
        .json(0);
    assert_eq!((answers(&document), server.count()), (vec!["exhausted"], asked));
}

#[test]
fn so_many_calls_and_no_more_are_sent() {
    let server = Server::start(|_| Reply::text("x").after(Duration::from_millis(50)));
    let machine = machine_at(&server);
    let five = questions(&["a", "b", "c", "d", "e"], "parallel");
    let document = machine.run(run_json(&guest("asks"), &five, &["--calls", "2"])).json(0);
    let mut answers = answers(&document);
    answers.sort_unstable();
    assert_eq!(answers, ["exhausted", "exhausted", "exhausted", "x", "x"]);
    assert_eq!((server.count(), &document["spent"]["calls"]), (2, &json!(2)));
    let none = machine.run(run_json(&guest("asks"), &five, &["--calls", "0"])).json(0);
    assert_eq!((none["spent"]["calls"].as_u64(), server.count()), (Some(0), 2));
}

#[test]
fn output_is_clamped_to_what_is_left() {
    let server = Server::scripted([Reply::text("x").usage(10, 300), Reply::text("y")]);
    let machine = machine_at(&server);
    let mut input = questions(&["a", "b"], "sequential");
    input["max-tokens"] = json!(4000);
    machine
        .run(run_json(&guest("asks"), &input, &["--tokens", "600"]))
        .json(0);
    let asked: Vec<_> = server
        .seen()
        .iter()
        .map(|request| request.max_tokens().unwrap())
        .collect();
    // 600 without the input's estimate; then 290 without it.
    assert!((400..600).contains(&asked[0]), "{asked:?}");
    assert_eq!(asked[0] - asked[1], 310, "{asked:?}");
    // Without a wish of its own, a call asks for the configured size of a reply.
    input["max-tokens"] = Value::Null;
    machine.run(run_json(&guest("asks"), &input, &[])).json(0);
    assert_eq!(server.seen()[2].max_tokens(), Some(8192));
}

#[test]
fn calls_that_fit_one_after_the_other_wait_for_each_other() {
    let server = Server::start(|_| Reply::text("x").usage(10, 10).after(Duration::from_millis(30)));
    let machine = machine_at(&server);
    let four = questions(&["a", "b", "c", "d"], "parallel");
    let document = machine
        .run(run_json(&guest("asks"), &four, &["--tokens", "260"]))
        .json(0);
    assert_eq!(answers(&document), ["x", "x", "x", "x"]);
    assert_eq!((server.count(), server.max_in_flight()), (4, 1));
    // With room for all they go at once.
    machine.run(run_json(&guest("asks"), &four, &[])).json(0);
    assert_eq!(server.max_in_flight(), 4);
}

#[test]
fn a_cost_limit_holds_to_the_micro_dollar() {
    let server = Server::scripted([Reply::text("x").usage(70, 80)]);
    let machine = machine().config(&format!("{}{PRICE}", server.config()));
    let input = strict_questions(&["a", "b"], "sequential");
    let document = machine
        .run(run_json(&guest("asks"), &input, &["--cost", "0.0002"]))
        .json(3);
    assert_eq!(document["outcome"]["failure"]["limit"], "cost");
    assert_eq!(document["spent"]["cost_usd"], 0.00015);
    assert_eq!(server.count(), 1);
    let document = machine
        .run(run_json(&guest("asks"), &input, &["--cost", "0.001"]))
        .json(0);
    assert_eq!(document["spent"]["cost_usd"], 0.0003);
    // The output is clamped to the money, too.
    let asked = server.seen()[1].max_tokens().unwrap();
    machine
        .run(run_json(&guest("asks"), &input, &["--cost", "0.00015"]))
        .json(3);
    assert!(server.seen()[3].max_tokens().unwrap() < asked, "{:?}", server.seen()[3]);
}

#[test]
fn a_model_without_a_price_is_denied_only_under_a_cost_limit() {
    let server = Server::scripted([Reply::text("x")]);
    let machine = machine_at(&server);
    let input = strict_questions(&["a"], "parallel");
    let output = machine.run(["run", &guest("asks"), "-i", &input.to_string(), "--cost", "1"]);
    assert!(
        output
            .error(4)
            .contains("local/small has no known price and a cost limit is set"),
        "{output}"
    );
    assert_eq!(server.count(), 0);
    machine.run(run_json(&guest("asks"), &input, &[])).json(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn spent_is_what_the_provider_counted() {
    let server = Server::start(|request| {
        let n = request.number as u64;
        Reply::text("x")
            .usage(17 + n * 3, 5 + n % 11)
            .after(Duration::from_millis(n % 7))
    });
    let machine = machine().config(&format!("{}{PRICE}", server.config()));
    let host = machine.host();
    let plugin = load(&host, &guest("asks")).await;
    let prompts: Vec<_> = (0..50).map(|n| format!("prompt {n}")).collect();
    let input = questions(&prompts.iter().map(String::as_str).collect::<Vec<_>>(), "parallel");
    let report = host.run(&plugin, &input).start().unwrap().report().await;
    let (counted_in, counted_out) = server.counted();
    assert_eq!(server.count(), 50);
    let spent = &report.spent;
    assert_eq!(
        (spent.input_tokens, spent.output_tokens, spent.calls),
        (counted_in, counted_out, 50)
    );
    assert_eq!(
        spent.known_cost().unwrap().pico(),
        (counted_in + counted_out) * 1_000_000
    );
    assert_eq!(
        (report.models[0].input_tokens, report.models[0].calls),
        (counted_in, 50)
    );
    assert_eq!(report.tasks[0].spent, *spent);
}

#[test]
fn what_a_provider_counts_beyond_a_limit_is_charged_and_stops_the_call_and_the_next() {
    let server = Server::scripted([Reply::text("x").usage(5000, 10)]);
    let machine = machine_at(&server);
    let document = machine
        .run(run_json(
            &guest("asks"),
            &questions(&["a", "b"], "sequential"),
            &["--tokens", "1000"],
        ))
        .json(0);
    assert_eq!(answers(&document), ["exhausted", "exhausted"]);
    assert_eq!(document["spent"]["input_tokens"], 5000, "it is reported as it is");
    let overshoot = &document["models"][0]["overshoot"];
    assert_eq!(
        (&overshoot["requests"], &overshoot["used_tokens"]),
        (&json!(1), &json!(5010))
    );
    assert_eq!(server.count(), 1);
}

#[test]
fn a_reply_without_a_count_is_charged_as_it_was_reserved() {
    let server = Server::scripted([Reply::text("x").uncounted()]);
    let machine = machine_at(&server);
    let document = machine
        .run(run_json(&guest("asks"), &questions(&["a"], "parallel"), &[]))
        .json(0);
    assert_eq!(document["spent"]["output_tokens"], 100);
    assert!(document["spent"]["input_tokens"].as_u64().unwrap() > 0);
}

#[test]
fn strict_tokens_reserve_the_bytes() {
    let server = Server::scripted([Reply::text("x")]);
    let machine = machine().config(&format!("{}[run]\nstrict-tokens = true\n", server.config()));
    let long = "x".repeat(3_000);
    let input = questions(&[&long], "parallel");
    let document = machine
        .run(run_json(&guest("asks"), &input, &["--tokens", "3000"]))
        .json(0);
    assert_eq!((answers(&document), server.count()), (vec!["exhausted"], 0));
    let document = machine_at(&server)
        .run(run_json(&guest("asks"), &input, &["--tokens", "3000"]))
        .json(0);
    assert_eq!((answers(&document), server.count()), (vec!["x"], 1));
}

#[test]
fn a_task_that_waits_for_a_model_stops_at_its_time() {
    let server = Server::scripted([Reply::stall()]);
    let machine = machine_at(&server);
    let output = machine.run(run_json(
        &guest("asks"),
        &questions(&["a"], "parallel"),
        &["--timeout", "400ms"],
    ));
    let document = output.json(3);
    let failure = &document["outcome"]["failure"];
    assert_eq!(
        (failure["limit"].as_str(), &document["spent"]["calls"]),
        (Some("time"), &json!(1))
    );
    assert!(document["spent"]["wall_ms"].as_u64().unwrap() >= 400);
    // The count is unknown: the worst case is charged, and reported.
    let spent = (&document["spent"]["input_tokens"], &document["spent"]["output_tokens"]);
    let model = &document["models"][0];
    assert_eq!(spent, (&model["input_tokens"], &model["output_tokens"]));
    let charged = spent.0.as_u64().unwrap() + spent.1.as_u64().unwrap();
    assert_eq!(
        (spent.1, &model["abandoned"]),
        (&json!(100), &json!({"requests": 1, "at_most_tokens": charged}))
    );
    server.wait_until("the end of the call", |seen| seen[0].ended.is_some());
    assert!(server.seen()[0].closed_by_client);
}

#[test]
fn a_guest_can_ask_what_is_left() {
    let server = Server::scripted([Reply::text("x").usage(70, 80)]);
    let machine = machine().config(&format!("{}{PRICE}", server.config()));
    let flags = [
        "--tokens",
        "1000",
        "--calls",
        "5",
        "--cost",
        "0.01",
        "--fuel",
        "1G",
        "--timeout",
        "60s",
    ];
    let left = machine
        .run(run_json(&guest("remaining"), &json!("hello"), &flags))
        .json(0)["outcome"]["ok"]
        .clone();
    let exact = |when: &str| ["tokens", "calls", "cost-micro-usd"].map(|limit| left[when][limit].as_u64().unwrap());
    assert_eq!(exact("before"), [1000, 5, 10_000]);
    assert_eq!(exact("after"), [850, 4, 9_850]);
    for (limit, most) in [("fuel", 1_000_000_000), ("time-ms", 60_000)] {
        let [before, after] = ["before", "after"].map(|when| left[when][limit].as_u64().unwrap());
        assert!(after <= before && before <= most && after > 0, "{limit}: {left}");
    }
    assert!(
        left["after"]["fuel"].as_u64() < left["before"]["fuel"].as_u64(),
        "{left}"
    );
    let none = ["--tokens", "none", "--calls", "none", "--timeout", "none"];
    let left = machine
        .run(run_json(&guest("remaining"), &json!("hello"), &none))
        .json(0)["outcome"]["ok"]
        .clone();
    for limit in ["tokens", "calls", "cost-micro-usd", "time-ms"] {
        assert_eq!(left["before"][limit], Value::Null, "{limit}");
    }
}

#[test]
fn a_grant_narrows_what_is_asked_for() {
    let server = Server::scripted([Reply::text("x")]);
    let machine = machine().config(&format!(
        "{}[grants.\"guests:asks\".limits]\ncalls = 1\n",
        server.config()
    ));
    let input = questions(&["a", "b"], "sequential");
    let output = machine.run(run_json(&guest("asks"), &input, &["--calls", "10"]));
    assert_eq!(answers(&output.json(0)), ["x", "exhausted"]);
    assert!(
        output
            .stderr
            .contains("note: [grants.\"guests:asks\"] keeps some limits below"),
        "{output}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_call_leaves_the_rest_of_the_task_alone() {
    let server = Server::scripted([Reply::text("x")]);
    let machine = machine_at(&server);
    let host = machine.host();
    let plugin = load(&host, &guest("asks")).await;
    let long = "word ".repeat(2_000);
    let input = questions(&["a", &long, "b"], "parallel");
    let outcome = host
        .run(&plugin, &input)
        .limits(limits(&[("tokens", "1000")]))
        .start()
        .unwrap()
        .outcome()
        .await;
    let errors: Vec<_> = (0..3).map(|n| outcome.ok().unwrap()[n]["error"].clone()).collect();
    assert_eq!(errors, [Value::Null, json!("exhausted"), Value::Null]);
}
