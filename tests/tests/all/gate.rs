//! The gate, seen from the model server: limits that are kept and used up, retries that are worth it, books that agree.

use std::collections::BTreeSet;
use std::time::Duration;

use agenthost_tests::env::TestEnv;
use agenthost_tests::guests::plugin;
use agenthost_tests::server::{Dialect, Limits, Reply, Request, Server};
use serde_json::{Value, json};

use crate::{guest, limits, load, machine_for, questions, report, run_json};

const KEY: &str = "sk-test-0123456789";

/// A machine whose models are at `server`, with `more` in the provider's section.
fn machine_at(server: &Server, dialect: Dialect, more: &str) -> TestEnv {
    machine_for(&format!("{}{more}\n", server.config_of(dialect))).var("ANTHROPIC_API_KEY", KEY)
}

/// An input of `asks` with so many prompts of so many bytes, all at once.
fn items(count: usize, bytes: usize) -> Value {
    let prompts: Vec<_> = (0..count).map(|n| format!("item {n} {}", "x".repeat(bytes))).collect();
    questions(&prompts.iter().map(String::as_str).collect::<Vec<_>>(), "parallel")
}

/// The report of `asks` with `input`, made by the library, because long prompts do not fit on a command line.
async fn asked(machine: &TestEnv, input: &Value) -> Value {
    let host = machine.host();
    let asks = load(&host, &guest("asks")).await;
    report(&host, &asks, input, &[("calls", "none"), ("tokens", "none")]).await
}

/// How many items have an answer.
fn answered(document: &Value) -> usize {
    let answers = document["outcome"]["ok"].as_array();
    let answers = answers.unwrap_or_else(|| panic!("{document}"));
    answers.iter().filter(|answer| answer["text"].is_string()).count()
}

/// The report's entry for the only model that was used.
#[track_caller]
fn model(document: &Value) -> &Value {
    let models = document["models"].as_array().unwrap();
    assert_eq!(models.len(), 1, "{document}");
    &models[0]
}

/// The books, the report and the server count the same, to the token and to the request; what was abandoned comes on top.
#[track_caller]
fn assert_books(document: &Value, server: &Server) {
    let (spent, counted) = (&document["spent"], server.counted());
    let abandoned = |field: &str| -> u64 {
        let models = document["models"].as_array().unwrap();
        models
            .iter()
            .map(|model| model["abandoned"][field].as_u64().unwrap())
            .sum()
    };
    let total = |field: &str| spent[field].as_u64().unwrap();
    assert_eq!(
        total("input_tokens") + total("output_tokens"),
        counted.0 + counted.1 + abandoned("at_most_tokens"),
        "{document}"
    );
    let models = document["models"].as_array().unwrap();
    let sum = |field: &str| models.iter().map(|model| model[field].as_u64().unwrap()).sum::<u64>();
    assert_eq!(
        (sum("input_tokens"), sum("output_tokens")),
        (total("input_tokens"), total("output_tokens"))
    );
    assert_eq!(sum("requests"), server.count() as u64, "{document}");
}

/// An error that asks for another attempt at once, so that tests need not wait.
fn soon(reply: Reply) -> Reply {
    reply.header("retry-after-ms", "1")
}

fn rate_limited(dialect: Dialect) -> Reply {
    match dialect {
        Dialect::Anthropic => Reply::failure(dialect, 429, "rate_limit_error", None, "too fast"),
        Dialect::OpenAi => Reply::failure(dialect, 429, "requests", Some("rate_limit_exceeded"), "too fast"),
    }
}

fn overloaded(dialect: Dialect) -> Reply {
    match dialect {
        Dialect::Anthropic => Reply::failure(dialect, 529, "overloaded_error", None, "Overloaded"),
        Dialect::OpenAi => {
            let kind = "service_unavailable_error";
            Reply::failure(dialect, 503, kind, Some("server_is_overloaded"), "overloaded")
        }
    }
}

fn failing(dialect: Dialect) -> Reply {
    match dialect {
        Dialect::Anthropic => Reply::failure(dialect, 500, "api_error", None, "it broke"),
        Dialect::OpenAi => Reply::failure(dialect, 500, "server_error", None, "it broke"),
    }
}

/// 100 items where 10 a second fit, and twice as many at once.
async fn use_the_quota(dialect: Dialect, quota: Limits, bytes: usize, output: u64) {
    let quota = Limits {
        burst: Duration::from_secs(2),
        ..quota
    };
    let server = Server::limited(dialect, quota, move |request| {
        Reply::text("x").usage(request.bytes as u64 / 4, output)
    });
    let machine = machine_at(&server, dialect, "");
    let document = asked(&machine, &items(100, bytes)).await;
    assert_eq!(answered(&document), 100, "{document}");
    let trace = server.trace();
    let refused = trace.refused().len();
    assert!(refused <= 4, "{refused} were refused");
    assert_eq!(trace.early(), [0; 0]);
    let shares = server.shares();
    let most = shares.iter().map(|(_, share)| *share).fold(0.0, f64::max);
    assert!(most >= 0.9, "of what there was this much was used: {shares:?}");
    assert_books(&document, &server);
    let report = model(&document);
    assert!(report["waited_ms"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(
        report["limits_met"]["rate-limited"].as_u64().unwrap_or_default(),
        refused as u64
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_begin_alike_one_goes_first_and_the_rest_read_what_it_wrote() {
    const PRICES: &str = "\n[prices.\"local/small\"]\ninput = 1\noutput = 2\ncache-read = 0.1\n";
    for (dialect, switch) in [
        (Dialect::Anthropic, ""),
        (Dialect::OpenAi, ""),
        (Dialect::Anthropic, "warm-prefix = false\n"),
    ] {
        let quota = Limits::default();
        let server = Server::limited(dialect, quota, |request| {
            let reply = Reply::text("x").usage(2_000, 5).after(Duration::from_millis(100));
            if request.number == 0 {
                reply.written(1_500)
            } else {
                reply.cached(1_500)
            }
        });
        let mut input = items(12, 10);
        input["system"] = json!("The handbook that every question is about. ".repeat(200));
        let document = asked(&machine_at(&server, dialect, &format!("{switch}{PRICES}")), &input).await;
        assert_eq!(answered(&document), 12, "{document}");
        let seen = server.trace().0;
        let alone = seen[1..].iter().all(|request| request.arrived >= seen[0].end());
        let report = model(&document);
        if !switch.is_empty() {
            assert!(!alone && report["warmed"] == 0, "{report}");
            continue;
        }
        assert!(alone, "the rest wait for what the first one writes");
        assert_eq!(report["warmed"], 1, "{report}");
        assert_eq!(report["cached_input_tokens"], 11 * 1_500);
        assert_eq!(report["limits_met"]["prefix"], 1);
        for request in &seen {
            let marked = request.body["system"][0]["cache_control"]["type"] == "ephemeral";
            assert_eq!(marked, dialect == Dialect::Anthropic, "{}", request.body["system"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_requests_is_kept_and_used_up() {
    for dialect in Dialect::ALL {
        let quota = Limits {
            requests_per_minute: Some(10 * 60),
            ..Limits::default()
        };
        use_the_quota(dialect, quota, 10, 5).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_input_tokens_is_kept_and_used_up() {
    let quota = Limits {
        input_tokens_per_minute: Some(10 * 60 * 1_000),
        ..Limits::default()
    };
    use_the_quota(Dialect::Anthropic, quota, 4_000, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_output_tokens_is_kept_and_used_up() {
    let quota = Limits {
        output_tokens_per_minute: Some(10 * 60 * 100),
        ..Limits::default()
    };
    use_the_quota(Dialect::Anthropic, quota, 10, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_tokens_that_counts_up_front_is_kept_and_used_up() {
    let quota = Limits {
        tokens_per_minute: Some(10 * 60 * 1_000),
        ..Limits::default()
    };
    use_the_quota(Dialect::OpenAi, quota, 4_000, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_start_few_rise_and_fall_when_they_are_refused() {
    for dialect in Dialect::ALL {
        let (first, second) = (60, 110);
        let quota = Limits {
            requests_per_minute: Some(60_000),
            ..Limits::default()
        };
        let server = Server::limited(dialect, quota, move |request| match request.number {
            number if number == first => rate_limited(dialect).header("retry-after-ms", "1000"),
            number if number == second => overloaded(dialect),
            _ => Reply::text("x").after(Duration::from_millis(100)),
        });
        let document = asked(&machine_at(&server, dialect, ""), &items(160, 10)).await;
        assert_eq!(answered(&document), 160, "{document}");
        let seen = server.trace().0;
        let early = server.trace().early();
        let late = |number: &usize| seen[*number].arrived - seen[first].end();
        assert!(
            early.is_empty(),
            "{early:?} came {:?} after the refusal",
            early.iter().map(late).collect::<Vec<_>>()
        );

        let end = seen.iter().map(Request::end).min().unwrap();
        let at_first = seen.iter().filter(|request| request.arrived < end).count();
        assert!((2..=5).contains(&at_first), "{at_first} before the first answer");
        let peak = |from: usize, to: usize| seen[from..to].iter().map(|request| request.in_flight).max().unwrap();
        let risen = peak(0, first + 1);
        assert!(risen >= 8, "{risen} at the most while the quota was free");
        for (refused, before) in [(first, risen), (second, peak(second - 3, second + 1))] {
            // Requests in flight at the time still arrive.
            let heard = seen[refused].end() + Duration::from_millis(50);
            let later: Vec<_> = seen.iter().filter(|request| request.arrived > heard).take(3).collect();
            assert_eq!(later.len(), 3);
            for request in later {
                assert!(
                    request.in_flight <= before / 2 + 1,
                    "{before} before number {refused} was refused, {} after",
                    request.in_flight
                );
            }
        }
        assert_books(&document, &server);
    }
}

/// A row of the table of errors.
struct Row {
    what: &'static str,
    reply: Reply,
    /// The requests that a call makes when it is always the answer.
    requests: usize,
    exit: i32,
}

fn row(what: &'static str, reply: Reply, requests: usize, exit: i32) -> Row {
    Row {
        what,
        reply,
        requests,
        exit,
    }
}

fn rows(dialect: Dialect) -> Vec<Row> {
    let fail = |status, kind, code, message| Reply::failure(dialect, status, kind, code, message);
    let mut rows = vec![
        row("refused", Reply::refusal("not about this").usage(9, 1), 1, 5),
        row("closed", Reply::close(), 3, 5),
        row("overloaded", soon(overloaded(dialect)), 5, 5),
        row("rate limit", soon(rate_limited(dialect)), 5, 5),
        row("server", soon(failing(dialect)), 3, 5),
        row(
            "server, for good",
            failing(dialect).header("x-should-retry", "false"),
            1,
            5,
        ),
    ];
    match dialect {
        Dialect::Anthropic => {
            let invalid = |message| fail(400, "invalid_request_error", None, message);
            let spent = |code| fail(429, "rate_limit_error", Some(code), "the spend limit is reached");
            let ramp = fail(429, "rate_limit_error", Some("ramp_limit_exceeded"), "more slowly");
            rows.extend([
                row("invalid", invalid("max_tokens is odd"), 1, 5),
                row(
                    "schema",
                    invalid("Schemas contains too many optional parameters (30) (limit: 24)"),
                    1,
                    5,
                ),
                row(
                    "own limit",
                    invalid("You have reached your specified API usage limits."),
                    1,
                    5,
                ),
                row(
                    "long",
                    invalid("prompt is too long: 274468 tokens > 200000 maximum"),
                    1,
                    1,
                ),
                row(
                    "long with output",
                    invalid("input length and `max_tokens` exceed context limit: 199000 + 2000 > 200000"),
                    1,
                    1,
                ),
                row(
                    "key",
                    fail(401, "authentication_error", None, "invalid x-api-key"),
                    1,
                    5,
                ),
                row("billing", fail(402, "billing_error", None, "no credit"), 1, 5),
                row("permission", fail(403, "permission_error", None, "not yours"), 1, 5),
                row("not found", fail(404, "not_found_error", None, "no such model"), 1, 5),
                row("conflict", soon(fail(409, "conflict_error", None, "two met")), 3, 5),
                row(
                    "too large",
                    fail(413, "request_too_large", None, "more than 32 MB"),
                    1,
                    5,
                ),
                row("spend limit", spent("enforced_spend_limit_reached"), 1, 5),
                row("contract", spent("contract_spend_limit_reached"), 1, 5),
                row("ramp", soon(ramp), 5, 5),
                row("timeout", soon(fail(504, "timeout_error", None, "too slow")), 3, 5),
            ]);
        }
        Dialect::OpenAi => {
            let invalid = |status, code, message| fail(status, "invalid_request_error", code, message);
            let limited = |kind, message| fail(429, kind, Some("rate_limit_exceeded"), message);
            let again = "Rate limit reached for M on tokens per min (TPM): Limit 200000, Used 195869, Requested 4412. \
                         Please try again in 84ms.";
            let never = "Request too large for M on tokens per min (TPM): Limit 30000, Requested 34307.";
            rows.extend([
                row("invalid", invalid(400, None, "max_tokens is odd"), 1, 5),
                row("long", invalid(400, Some("context_length_exceeded"), "too long"), 1, 1),
                row("key", invalid(401, Some("invalid_api_key"), "wrong key"), 1, 5),
                row("permission", invalid(403, None, "not yours"), 1, 5),
                row(
                    "not found",
                    invalid(404, Some("model_not_found"), "no such model"),
                    1,
                    5,
                ),
                row("timeout", soon(fail(408, "server_error", None, "too slow")), 3, 5),
                row(
                    "gateway's timeout",
                    soon(fail(504, "server_error", None, "too slow")),
                    3,
                    5,
                ),
                row("conflict", soon(fail(409, "server_error", None, "two met")), 3, 5),
                row("tokens", soon(limited("tokens", again)), 5, 5),
                row("never fits", limited("tokens", never), 1, 5),
                row(
                    "slow down",
                    soon(fail(429, "rate_limit_error", Some("slow_down"), "slow")),
                    5,
                    5,
                ),
            ]);
            rows.extend(
                [
                    "credit_balance_exhausted",
                    "organization_spend_limit_exceeded",
                    "project_spend_limit_exceeded",
                    "organization_usage_limit_exceeded",
                    "insufficient_quota",
                ]
                .map(|code| row(code, fail(429, "insufficient_quota", Some(code), "no money"), 1, 5)),
            );
        }
    }
    rows
}

fn walk(dialect: Dialect) {
    for Row {
        what,
        reply,
        requests,
        exit,
    } in rows(dialect)
    {
        let limited = reply.status() == 429 && requests > 1;
        let server = Server::scripted([reply]);
        let machine = machine_at(&server, dialect, "");
        let output = machine.run(run_json(&guest("remaining"), &json!("hello"), &[]));
        assert_eq!(output.code, exit, "{dialect:?}, {what}: {output}");
        let document = output.json(exit);
        assert_eq!(server.count(), requests, "{dialect:?}, {what}: {document}");
        let class = &document["outcome"]["failure"]["class"];
        assert_eq!(class, if exit == 1 { "context-overflow" } else { "model" }, "{what}");
        assert_eq!(document["spent"]["calls"], 1, "{what}");
        let report = model(&document);
        assert_eq!(
            (&report["calls"], &report["retries"]),
            (&json!(1), &json!(requests - 1)),
            "{what}"
        );
        let met = report["limits_met"]["rate-limited"].as_u64().unwrap_or_default();
        assert_eq!(met, if limited { requests as u64 } else { 0 }, "{what}: {report}");
        if what == "closed" {
            // The server had each request, and never reported its usage: each is charged as it was reserved.
            assert_eq!(report["abandoned"]["requests"], json!(requests), "{document}");
        }
        assert_books(&document, &server);
    }
}

#[test]
fn every_error_of_messages_is_tried_as_often_as_it_is_worth() {
    walk(Dialect::Anthropic);
}

#[test]
fn every_error_of_chat_completions_is_tried_as_often_as_it_is_worth() {
    walk(Dialect::OpenAi);
}

#[test]
fn the_operator_says_how_many_attempts_there_are() {
    for dialect in Dialect::ALL {
        for (reply, retries, requests) in [
            (overloaded(dialect), 0, 1),
            (overloaded(dialect), 1, 2),
            (failing(dialect), 1, 2),
            (overloaded(dialect), 6, 7),
        ] {
            let server = Server::scripted([soon(reply)]);
            let machine = machine_at(&server, dialect, &format!("retries = {retries}"));
            machine.run(run_json(&guest("remaining"), &json!("hello"), &[])).json(5);
            assert_eq!(server.count(), requests, "{dialect:?} with {retries} retries");
        }
    }
}

#[test]
fn a_failure_that_passes_leaves_nothing_but_a_line_in_the_report() {
    for dialect in Dialect::ALL {
        let server = Server::scripted([
            soon(rate_limited(dialect)),
            Reply::close(),
            soon(overloaded(dialect)),
            Reply::text("x").usage(70, 80),
        ]);
        let machine = machine_at(&server, dialect, "");
        let document = machine.run(run_json(&guest("remaining"), &json!("hello"), &[])).json(0);
        assert_eq!(server.count(), 4);
        assert_eq!(
            (&document["spent"]["calls"], &model(&document)["retries"]),
            (&json!(1), &json!(3))
        );
        assert_eq!(
            model(&document)["abandoned"]["requests"],
            1,
            "the closed connection: {document}"
        );
        assert_books(&document, &server);
    }
}

#[test]
fn nothing_is_sent_before_the_time_that_the_service_named() {
    for dialect in Dialect::ALL {
        let server = Server::start(move |request| match request.number {
            0 => rate_limited(dialect).header("retry-after", "1"),
            // So that the refusal arrives before the first of these ends and lets another through.
            _ => Reply::text("x").after(Duration::from_millis(300)),
        });
        let machine = machine_at(&server, dialect, "");
        let document = machine.run(run_json(&guest("asks"), &items(20, 10), &[])).json(0);
        assert_eq!(answered(&document), 20, "{document}");
        let trace = server.trace();
        assert_eq!((trace.refused().len(), trace.early()), (1, vec![]));
        let until = trace.0[0].wait_until.unwrap();
        let after = trace.0.iter().filter(|request| request.arrived >= until).count();
        assert!(after >= 15, "{after} of 21 came after the wait");
        assert!(
            model(&document)["limits_met"]["retry-after"].as_u64() >= Some(1),
            "{document}"
        );
        assert_books(&document, &server);
    }
}

/// A machine with a chain of two models, the first at `first`, the second at `second` over the other wire.
fn chained(first: &Server, second: &Server) -> TestEnv {
    let address = first.url().replace("/v1", "");
    machine_for(&format!(
        "[models]\nfast = [\"a/x\", \"b/y\"]\n\
         [providers.a]\nkind = \"anthropic\"\nbase-url = \"{address}\"\nkey-env = \"ANTHROPIC_API_KEY\"\nretries = 1\n\
         [providers.b]\nkind = \"openai\"\nbase-url = \"{}\"\n",
        second.url()
    ))
    .var("ANTHROPIC_API_KEY", KEY)
}

#[test]
fn the_next_of_a_chain_answers_where_the_first_cannot() {
    let fail = |status, kind, code| Reply::failure(Dialect::Anthropic, status, kind, code, "no");
    for (reply, requests) in [
        (soon(overloaded(Dialect::Anthropic)), 2),
        (fail(401, "authentication_error", None), 1),
        (fail(429, "rate_limit_error", Some("enforced_spend_limit_reached")), 1),
    ] {
        let first = Server::scripted([reply]);
        let second = Server::scripted([Reply::text("x").usage(70, 80)]);
        let machine = chained(&first, &second);
        let document = machine
            .run(run_json(&guest("asks"), &questions(&["hello"], "parallel"), &[]))
            .json(0);
        assert_eq!(document["outcome"]["ok"][0]["text"], "x");
        assert_eq!((first.count(), second.count()), (requests, 1));
        let models = document["models"].as_array().unwrap();
        let of = |name: &str| {
            let found = models.iter().find(|model| model["model"] == name);
            found.unwrap_or_else(|| panic!("no {name}: {document}"))
        };
        assert_eq!(
            (&of("a/x")["requests"], &of("a/x")["input_tokens"]),
            (&json!(requests), &json!(0))
        );
        assert_eq!(
            (&of("b/y")["requests"], &of("b/y")["input_tokens"]),
            (&json!(1), &json!(70))
        );
        assert_eq!(
            (&document["spent"]["calls"], &document["spent"]["output_tokens"]),
            (&json!(1), &json!(80)),
            "one call, whoever answered it"
        );
    }
}

#[test]
fn an_answer_that_is_no_is_not_asked_for_elsewhere() {
    let long = "prompt is too long: 250000 tokens > 200000 maximum";
    for (reply, exit) in [
        (Reply::refusal("not about this"), 5),
        (
            Reply::failure(Dialect::Anthropic, 400, "invalid_request_error", None, long),
            1,
        ),
        (
            Reply::failure(Dialect::Anthropic, 400, "invalid_request_error", None, "it is odd"),
            5,
        ),
    ] {
        let (first, second) = (Server::scripted([reply]), Server::scripted([Reply::text("x")]));
        let document = chained(&first, &second)
            .run(run_json(&guest("remaining"), &json!("hello"), &[]))
            .json(exit);
        assert_eq!((first.count(), second.count()), (1, 0), "{document}");
    }
}

/// A run of `triage` with one ticket.
fn triage(server: &Server, dialect: Dialect) -> agenthost_tests::env::Output {
    let ticket = json!([{"id": "T-1", "subject": "Charged twice", "text": "Please refund one of them."}]);
    let path = plugin("triage").display().to_string();
    machine_at(server, dialect, "").run(run_json(&path, &ticket, &[]))
}

/// The reply that `triage` asks for, with this as the number of the ticket.
fn labels(number: impl Into<Value>) -> String {
    let number = number.into();
    json!({"labels": [{"number": number, "reason": "money", "category": "billing", "priority": "normal"}]}).to_string()
}

#[test]
fn a_reply_that_breaks_its_schema_is_repaired_once() {
    for dialect in Dialect::ALL {
        let server = Server::scripted([
            Reply::text(labels("first-try")).usage(100, 20),
            Reply::text(labels(1)).usage(150, 30),
        ]);
        let document = triage(&server, dialect).json(0);
        assert_eq!(document["outcome"]["ok"][0]["ok"]["category"], "billing", "{document}");
        let seen = server.seen();
        assert_eq!(seen.len(), 2);
        let again = seen[1].prompt();
        assert!(
            again.contains(&seen[0].prompt()),
            "the task is there once more: {again}"
        );
        assert!(
            again.contains(&labels("first-try")) && again.contains("/labels/0/number"),
            "{again}"
        );
        assert_eq!(
            (&model(&document)["repairs"], &model(&document)["calls"]),
            (&json!(1), &json!(1))
        );
        assert_books(&document, &server);
        assert_eq!(document["spent"]["input_tokens"], 250);
    }
}

#[test]
fn a_reply_that_stays_broken_is_invalid_and_paid_for() {
    for dialect in Dialect::ALL {
        let server = Server::scripted([Reply::text(labels("first-try")).usage(100, 20)]);
        let document = triage(&server, dialect).json(5);
        let failure = &document["outcome"]["failure"];
        assert_eq!((failure["class"].as_str(), server.count()), (Some("model"), 2));
        assert!(
            failure["message"].as_str().unwrap().contains("invalid reply"),
            "{failure}"
        );
        assert_eq!(document["spent"]["output_tokens"], 40);
        assert_books(&document, &server);
    }
}

#[test]
fn a_reply_that_was_cut_off_is_not_repaired() {
    for dialect in Dialect::ALL {
        let server = Server::scripted([Reply::text("{\"labels\": [").at_max_tokens().usage(100, 280)]);
        let document = triage(&server, dialect).json(5);
        let message = document["outcome"]["failure"]["message"].as_str().unwrap();
        assert!(message.contains("cut off after 280 tokens"), "{message}");
        assert_eq!(server.count(), 1);
        assert_books(&document, &server);
    }
}

#[test]
fn a_second_request_beside_a_slow_one_wins_and_closes_the_first() {
    for dialect in Dialect::ALL {
        let server = Server::start(|request| match request.number {
            0 => Reply::stall(),
            _ => Reply::text("x"),
        });
        let machine = machine_at(&server, dialect, "hedge-after = \"200ms\"");
        let document = machine.run(run_json(&guest("remaining"), &json!("hello"), &[])).json(0);
        let seen = server.ended();
        assert_eq!(seen.len(), 2);
        assert!(seen[0].closed_by_client && !seen[1].closed_by_client);
        assert!(seen[1].arrived - seen[0].arrived >= Duration::from_millis(190));
        let report = model(&document);
        assert_eq!(
            (&report["hedges"], &report["calls"], &report["abandoned"]["requests"]),
            (&json!(1), &json!(1), &json!(1))
        );
        assert!(
            report["abandoned"]["at_most_tokens"].as_u64().unwrap() > 100,
            "{report}"
        );
        assert_books(&document, &server);
    }
}

#[test]
fn nobody_asks_twice_unless_the_operator_wants_it() {
    let server = Server::scripted([Reply::text("x").after(Duration::from_millis(800))]);
    let document = machine_at(&server, Dialect::OpenAi, "")
        .run(run_json(&guest("remaining"), &json!("hello"), &[]))
        .json(0);
    assert_eq!((server.count(), &model(&document)["hedges"]), (1, &json!(0)));
}

#[test]
fn a_wait_that_ends_after_the_deadline_fails_at_once() {
    for dialect in Dialect::ALL {
        let server = Server::scripted([rate_limited(dialect).header("retry-after", "60")]);
        let document = machine_at(&server, dialect, "")
            .run(run_json(&guest("remaining"), &json!("hello"), &["--timeout", "2s"]))
            .json(5);
        let failure = &document["outcome"]["failure"];
        assert_eq!((failure["class"].as_str(), server.count()), (Some("model"), 1));
        assert!(failure["message"].as_str().unwrap().contains("deadline"), "{failure}");
        assert!(document["spent"]["wall_ms"].as_u64().unwrap() < 2_000, "{document}");
    }
}

/// A service that does not report its limits, and an operator who knows them: 2 a second, and the burst that the gate
/// allows, a tenth of the minute's.
#[test]
fn the_operators_rate_holds_in_every_window() {
    for dialect in Dialect::ALL {
        let (burst, per_second) = (12, 2.0);
        let server = Server::scripted([Reply::text("x")]);
        let machine = machine_at(&server, dialect, "requests-per-minute = 120");
        let document = machine.run(run_json(&guest("asks"), &items(18, 10), &[])).json(0);
        assert_eq!(answered(&document), 18);
        let trace = server.trace();
        for window in [0.25, 0.5, 1.0, 2.0, 3.0] {
            let most = burst + (per_second * window) as usize + 1;
            let seen = trace.most_within(Duration::from_secs_f64(window));
            assert!(seen <= most, "{seen} within {window} s");
        }
        assert!(
            model(&document)["limits_met"]["requests"].as_u64() >= Some(1),
            "{document}"
        );
    }
}

#[test]
fn the_operators_tokens_hold_too() {
    let server = Server::scripted([Reply::text("x").usage(1_000, 100)]);
    let machine = machine_at(&server, Dialect::Anthropic, "tokens-per-minute = 60000");
    // Each is estimated at more than 1,100 tokens, and 6,000 are there: five or six at once, then one a second.
    let document = machine.run(run_json(&guest("asks"), &items(8, 3_000), &[])).json(0);
    assert_eq!(answered(&document), 8);
    let within = server.trace().most_within(Duration::from_millis(500));
    assert!(within <= 6, "{within} within half a second");
    assert!(
        model(&document)["limits_met"]["tokens"].as_u64() >= Some(1),
        "{document}"
    );
}

#[test]
fn processes_on_one_key_share_its_limits() {
    for dialect in Dialect::ALL {
        let quota = Limits {
            requests_per_minute: Some(10 * 60),
            burst: Duration::from_secs(2),
            ..Limits::default()
        };
        let server = Server::limited(dialect, quota, |_| Reply::text("x"));
        let machine = machine_at(&server, dialect, "");
        let args = run_json(&guest("asks"), &items(40, 10), &[]);
        let runs = [machine.start(&args, None), machine.start(&args, None)];
        for document in runs.map(|run| run.finish().json(0)) {
            assert_eq!(answered(&document), 40, "{document}");
        }
        let trace = server.trace();
        assert_eq!(trace.with_status(200).len(), 80);
        let refused = trace.refused().len();
        assert!(refused <= 6, "{refused} were refused");
        assert_eq!(trace.early(), [0; 0], "what one was told holds for the other");
    }
}

/// A fixed sequence that looks random: the state after `n` steps.
fn random(seed: u64, n: usize) -> u64 {
    let mut state = seed ^ (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_books_agree_with_the_server_whatever_goes_wrong() {
    for dialect in Dialect::ALL {
        let server = Server::start(move |request| {
            let dice = random(0x5eed, request.number);
            let good = Reply::text("x").usage(20 + dice / 100 % 1_000, 1 + dice / 1_000 % 90);
            match dice % 100 {
                0..8 => soon(rate_limited(dialect)),
                8..14 => soon(failing(dialect)),
                14..18 => soon(overloaded(dialect)),
                18..20 => Reply::close(),
                20..30 => good.after(Duration::from_millis(150)),
                _ => good.after(Duration::from_millis(dice % 10)),
            }
        });
        let machine = machine_at(&server, dialect, "");
        let document = asked(&machine, &items(100, 10)).await;
        let trace = server.trace();
        // Each item has an answer or an error, and both sides agree on which.
        assert_eq!(document["outcome"]["ok"].as_array().unwrap().len(), 100);
        assert_eq!(answered(&document), trace.with_status(200).len(), "{document}");
        assert!(trace.refused().len() >= 3, "the dice are good");
        assert_eq!(document["spent"]["calls"], 100);
        let report = model(&document);
        assert_eq!(report["retries"], json!(server.count() - 100), "{report}");
        assert_eq!(
            report["limits_met"]["rate-limited"],
            json!(trace.refused().len()),
            "{report}"
        );
        assert_books(&document, &server);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_retry_can_be_watched() {
    let dialect = Dialect::Anthropic;
    let server = Server::scripted([soon(rate_limited(dialect)), soon(failing(dialect)), Reply::text("x")]);
    let host = machine_at(&server, dialect, "").host();
    let asks = load(&host, &guest("asks")).await;
    let run = host
        .run(&asks, &questions(&["hello"], "parallel"))
        .limits(limits(&[]))
        .start()
        .unwrap();
    let report = serde_json::to_value(&*run.report().await).unwrap();
    let mut told = Vec::new();
    let mut events = run.events();
    while let Some(Ok(event)) = events.next().await {
        told.push(format!("{event:?}"));
    }
    let count = |start: &str| told.iter().filter(|event| event.starts_with(start)).count();
    assert_eq!(count("CallRetried"), 2, "{told:#?}");
    assert_eq!(count("CallSent"), 3, "{told:#?}");
    let reasons: BTreeSet<_> = ["too fast", "it broke"]
        .into_iter()
        .filter(|why| {
            told.iter()
                .any(|event| event.starts_with("CallRetried") && event.contains(why))
        })
        .collect();
    assert_eq!(reasons.len(), 2, "each says why: {told:#?}");
    assert_eq!(model(&report)["retries"], 2);
    assert_books(&report, &server);
}
