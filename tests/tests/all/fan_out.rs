//! `market-scan`: companies are looked into side by side, then compared, whatever became of some of them.

use std::time::{Duration, Instant};

use agenthost::LoadOptions;
use agenthost_tests::guests::plugin;
use agenthost_tests::server::{Reply, Request, Server};
use serde_json::{Value, json};

use crate::{ends, guest, load, machine_for, report, run_json};

const COMPANIES: [&str; 3] = ["Acme", "Globex", "Initech"];

fn market_scan() -> String {
    plugin("market-scan").display().to_string()
}

fn market() -> Value {
    json!({"companies": COMPANIES, "questions": ["What is sold?"]})
}

/// The company that a request is about; none for the comparison.
fn company(request: &Request) -> Option<String> {
    request.data("company").pop()
}

fn is_question(request: &Request) -> bool {
    request.prompt().contains("Answer the question about")
}

/// A good answer to any of the requests, with a word in it that only its lane may see again.
fn good(request: &Request) -> Reply {
    match company(request) {
        Some(company) if is_question(request) => Reply::text(format!("canary-{company}-answer")),
        Some(company) => Reply::text(
            json!({"summary": format!("canary-{company}-summary"), "findings": [], "confidence": 0.5}).to_string(),
        ),
        None => Reply::text(json!({"summary": "compared", "aspects": []}).to_string()),
    }
}

/// From the first request of `company` to its last answer.
fn lane(seen: &[Request], name: &str) -> (Instant, Instant) {
    let own: Vec<_> = seen
        .iter()
        .filter(|request| company(request).as_deref() == Some(name))
        .collect();
    assert_eq!(own.len(), 2, "a question, and what condenses its answer");
    assert!(own[1].arrived >= own[0].end());
    (own[0].arrived, own[1].end())
}

#[test]
fn three_lanes_take_about_the_time_of_one_and_the_comparison_comes_after_them() {
    let server = Server::start(|request| good(request).after(Duration::from_millis(300)));
    let prices = "[prices.\"local/small\"]\ninput = 1\noutput = 1\n[prices.\"local/large\"]\ninput = 10\noutput = 10\n";
    let machine = machine_for(&format!("{}{prices}", server.config()));
    let document = machine.run(run_json(&market_scan(), &market(), &[])).json(0);
    assert_eq!(
        document["outcome"]["ok"],
        json!({
            "summary": "compared", "aspects": [], "missing": [], "from-memory": ["Acme", "Globex", "Initech"],
        })
    );

    let seen = server.ended();
    let lanes = COMPANIES.map(|company| lane(&seen, company));
    let first = lanes.iter().map(|lane| lane.0).min().unwrap();
    let last = lanes.iter().map(|lane| lane.1).max().unwrap();
    assert!(
        lanes.iter().all(|one| lanes.iter().all(|other| one.0 < other.1)),
        "all overlap: {seen:#?}"
    );
    assert_eq!(server.max_in_flight(), 3);
    let sum: Duration = lanes.iter().map(|lane| lane.1 - lane.0).sum();
    assert!(
        sum > 2 * (last - first),
        "{sum:?} one after the other, {:?} at once",
        last - first
    );

    let (comparison, workers) = seen.split_last().unwrap();
    assert_eq!(seen.len(), 7);
    assert!(comparison.arrived >= last, "the comparison starts after the last lane");
    assert_eq!(comparison.model(), "large");
    assert!(workers.iter().all(|request| request.model() == "small"), "{workers:#?}");
    let reports: Vec<Value> = comparison
        .data("report")
        .iter()
        .map(|text| serde_json::from_str(text).unwrap())
        .collect();
    for (report, company) in reports.iter().zip(COMPANIES) {
        assert_eq!(
            (&report["company"], &report["summary"]),
            (&json!(company), &json!(format!("canary-{company}-summary")))
        );
    }

    // The report lists the models that each task used, and the sum is that of its parts.
    let tasks = document["tasks"].as_array().unwrap();
    let models: Vec<_> = tasks.iter().map(|task| &task["models"]).collect();
    let (none, small, large) = (json!([]), json!(["local/small"]), json!(["local/large"]));
    assert_eq!(models, [&none, &small, &small, &small, &large]);
    let cost = |value: &Value| (value["spent"]["cost_usd"].as_f64().unwrap() * 1e6).round() as u64;
    assert_eq!(tasks.iter().map(cost).collect::<Vec<_>>(), [0, 30, 30, 30, 150]);
    assert_eq!(cost(&document), 240);
}

#[test]
fn no_lane_sees_anything_of_another() {
    let server = Server::start(good);
    let machine = machine_for(&server.config());
    machine.run(run_json(&market_scan(), &market(), &[])).json(0);
    for request in server.ended() {
        let (Some(own), body) = (company(&request), request.body.to_string()) else {
            continue;
        };
        for other in COMPANIES.iter().filter(|other| **other != own) {
            assert!(!body.contains(other), "{own} is told of {other}: {body}");
        }
        assert_eq!(body.contains(&format!("canary-{own}-answer")), !is_question(&request));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_stand_with_their_company_in_whatever_order_they_come() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let server = Server::start(move |request| {
            let place = COMPANIES
                .iter()
                .position(|name| company(request).as_deref() == Some(name));
            good(request).after(place.map_or(Duration::ZERO, |place| Duration::from_millis(40) * order[place]))
        });
        let host = machine_for(&server.config()).host();
        let scan = load(&host, &market_scan()).await;
        let document = report(&host, &scan, &market(), &[]).await;
        for (n, company) in COMPANIES.iter().enumerate() {
            let task = &document["tasks"][n + 1];
            assert_eq!(task["id"], format!("root/{n}"));
            assert_eq!(
                task["outcome"]["ok"]["summary"],
                format!("canary-{company}-summary"),
                "{order:?}"
            );
        }
        let comparison = server.ended().pop().unwrap();
        let reports = comparison.data("report");
        assert!(
            reports
                .iter()
                .zip(COMPANIES)
                .all(|(report, company)| report.contains(&format!("canary-{company}-summary")))
        );
    }
}

/// One lane of three fails at the model: the others are what they are without it, and the comparison names the lane.
#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_its_model_fails_is_named_in_the_comparison() {
    type Bad = fn(&Request) -> Reply;
    let ways: [(&str, &str, Bad); 5] = [
        ("500", "model", |_| Reply::error(500, "api_error", "boom")),
        ("bad JSON", "model", |request| match is_question(request) {
            true => good(request),
            false => Reply::text("{\"summary\": 7}"),
        }),
        ("refusal", "model", |_| {
            let message = json!({"role": "assistant", "content": null, "refusal": "not about them"});
            let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
            Reply::raw(
                200,
                json!({"id": "1", "choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 1}})
                    .to_string(),
            )
        }),
        ("closed", "model", |_| Reply::close()),
        ("too long", "context-overflow", |_| {
            let error = json!({"error": {"code": "context_length_exceeded", "message": "maximum context length"}});
            Reply::raw(400, error.to_string())
        }),
    ];
    for (name, class, bad) in ways {
        let server = Server::start(move |request| match company(request).as_deref() {
            Some("Globex") => bad(request),
            _ => good(request),
        });
        let host = machine_for(&server.config()).host();
        let scan = load(&host, &market_scan()).await;
        let document = report(&host, &scan, &market(), &[]).await;
        assert_eq!(
            ends(&document),
            [
                ("root", "ok"),
                ("root/0", "ok"),
                ("root/1", class),
                ("root/2", "ok"),
                ("root/3", "ok")
            ],
            "{name}: {document}"
        );
        assert_named(&document, &server, "Globex", class);
        for (n, company) in [(0, "Acme"), (2, "Initech")] {
            assert_eq!(
                document["tasks"][n + 1]["outcome"]["ok"]["summary"],
                format!("canary-{company}-summary")
            );
        }
    }
}

/// The comparison came, without `company`, which it names with a failure of `class`.
#[track_caller]
fn assert_named(document: &Value, server: &Server, company: &str, class: &str) {
    let compared = &document["outcome"]["ok"];
    assert_eq!(
        (&compared["summary"], &compared["missing"][0]["company"]),
        (&json!("compared"), &json!(company))
    );
    assert_eq!(compared["missing"].as_array().unwrap().len(), 1);
    let failure = &compared["missing"][0]["failure"];
    let case = failure
        .as_str()
        .or_else(|| failure.as_object()?.keys().next().map(String::as_str));
    assert_eq!(case, Some(class), "{failure}");
    let comparison = server.ended().pop().unwrap();
    assert_eq!(
        (comparison.model(), comparison.data("no-report")),
        ("large", vec![company.to_owned()])
    );
    assert_eq!(comparison.data("report").len(), 2);
}

/// The same for a lane whose code goes wrong.
#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_crashes_or_runs_wild_is_named_in_the_comparison() {
    for (bad, class, limit) in [
        ("trap", "trapped", None),
        ("loop", "exhausted", Some("fuel")),
        ("memory", "exhausted", Some("memory")),
        ("fail", "failed", None),
    ] {
        let server = Server::start(|request| match company(request) {
            Some(company) => Reply::text(format!("all about {company}")).after(Duration::from_millis(50)),
            None => good(request),
        });
        let grant =
            "[grants.\"demo:competitor\"]\nmodels = [\"fast\"]\nlimits = { fuel = \"300M\", memory = \"16MiB\" }\n";
        let host = machine_for(&format!("{}{grant}", server.config())).host();
        let with = LoadOptions::new().sub_agent("demo:competitor", &*guest("competitor-fails"));
        let scan = host.load_with(&*market_scan(), with).await.unwrap();
        let input = json!({"companies": ["Acme", bad, "Initech"], "questions": []});
        let document = report(&host, &scan, &input, &[]).await;
        assert_eq!(
            ends(&document),
            [
                ("root", "ok"),
                ("root/0", "ok"),
                ("root/1", class),
                ("root/2", "ok"),
                ("root/3", "ok")
            ],
            "{document}"
        );
        assert_eq!(document["tasks"][2]["outcome"]["failure"]["limit"].as_str(), limit);
        assert_named(&document, &server, bad, class);
        for (n, company) in [(0, "Acme"), (2, "Initech")] {
            assert_eq!(
                document["tasks"][n + 1]["outcome"]["ok"]["summary"],
                format!("all about {company}")
            );
        }
    }
}

#[test]
fn when_every_lane_fails_the_first_failure_is_the_tasks_and_nothing_is_compared() {
    let server = Server::start(|request| match company(request).as_deref() {
        Some("Acme") => Reply::error(500, "api_error", "the first").after(Duration::from_millis(100)),
        _ => Reply::error(500, "api_error", "another"),
    });
    let machine = machine_for(&server.config());
    let document = machine.run(run_json(&market_scan(), &market(), &[])).json(5);
    let failure = &document["outcome"]["failure"];
    assert_eq!(failure["class"], "model");
    assert!(failure["message"].as_str().unwrap().contains("the first"), "{failure}");
    assert_eq!(server.count(), 3, "one question each, and no comparison");
    assert!(server.ended().iter().all(|request| request.model() == "small"));
}
