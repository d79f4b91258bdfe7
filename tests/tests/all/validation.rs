//! `publish`: one draft, three checks of it side by side, and one more draft at most.

use std::time::Duration;

use agenthost_tests::guests::plugin;
use agenthost_tests::server::{Reply, Request, Server};
use serde_json::{Value, json};

use crate::{load, machine_for, report, run_json};

fn publish() -> String {
    plugin("publish").display().to_string()
}

fn brief() -> Value {
    json!({"subject": "A new robot", "audience": "engineers", "facts": ["It lifts 20 kg."], "voice": "plain"})
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Draft,
    Revision,
    Facts,
    Voice,
    Security,
}

const CHECKS: [Step; 3] = [Step::Facts, Step::Voice, Step::Security];

fn step(request: &Request) -> Step {
    let prompt = request.prompt();
    [
        ("Write a document", Step::Draft),
        ("Mend the document", Step::Revision),
        ("Check the text against", Step::Facts),
        ("Check how the text", Step::Voice),
        ("Review the text", Step::Security),
    ]
    .into_iter()
    .find_map(|(start, step)| prompt.contains(start).then_some(step))
    .unwrap_or_else(|| panic!("an unexpected request: {prompt}"))
}

fn steps(server: &Server) -> Vec<Step> {
    let mut steps: Vec<_> = server.ended().iter().map(step).collect();
    // The checks of one round arrive in any order.
    for round in steps.chunk_by_mut(|one, other| CHECKS.contains(one) && CHECKS.contains(other)) {
        round.sort_by_key(|step| *step as u8);
    }
    steps
}

fn draft(text: &str) -> Reply {
    Reply::text(json!({"title": "A robot", "text": text}).to_string())
}

fn issues(passages: &[(&str, &str)]) -> Reply {
    let issue =
        |(fault, passage): &(&str, &str)| json!({"fault": fault, "passage": passage, "problem": "p", "remedy": "r"});
    Reply::text(json!({"issues": passages.iter().map(issue).collect::<Vec<_>>()}).to_string())
}

/// A draft that gets no objection.
fn fine(request: &Request) -> Reply {
    match step(request) {
        Step::Draft => draft("It lifts 20 kg, <b>every</b> day. \u{1f916}"),
        Step::Revision => draft("another text"),
        _ => issues(&[]),
    }
}

#[test]
fn a_draft_without_objections_passes_and_costs_no_further_draft() {
    let server = Server::start(fine);
    let machine = machine_for(&server.config());
    let document = machine.run(run_json(&publish(), &brief(), &[])).json(0);
    let publication = &document["outcome"]["ok"];
    assert_eq!(
        (&publication["verdict"], &publication["drafts"]),
        (&json!("pass"), &json!(1))
    );
    assert_eq!(steps(&server), [Step::Draft, Step::Facts, Step::Voice, Step::Security]);
}

/// With one step as long as another, half the time; the longer the checks, the nearer to a third.
#[tokio::test(flavor = "multi_thread")]
async fn the_checks_run_side_by_side_on_the_very_same_draft_once_it_is_there() {
    for (drafting, checking, least) in [(250, 250, 1.6), (60, 400, 2.1)] {
        let server = Server::start(move |request| {
            let time = if step(request) == Step::Draft {
                drafting
            } else {
                checking
            };
            fine(request).after(Duration::from_millis(time))
        });
        let host = machine_for(&server.config()).host();
        let plugin = load(&host, &publish()).await;
        let document = report(&host, &plugin, &brief(), &[]).await;
        let seen = server.ended();
        let (draft, checks) = seen.split_first().unwrap();
        assert_eq!(checks.len(), 3);
        let text = document["outcome"]["ok"]["document"]["text"].as_str().unwrap();
        for check in checks {
            assert!(check.arrived >= draft.end(), "a check starts once the draft is there");
            assert!(checks.iter().all(|other| check.overlaps(other)));
            assert_eq!(check.data("text"), checks[0].data("text"));
            assert_eq!(check.data("text"), [text.replace("</", "< /")]);
        }
        let in_turn: Duration = seen.iter().map(|request| request.end() - request.arrived).sum();
        let span = seen.iter().map(Request::end).max().unwrap() - draft.arrived;
        let faster = in_turn.as_secs_f64() / span.as_secs_f64();
        assert!(faster >= least, "{faster:.2} times faster than in turn");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objections_lead_to_one_more_draft_and_never_to_a_third() {
    // Facts and voice object to the same passage, each in its own spelling, and then to everything, always.
    let server = Server::start(|request| match step(request) {
        Step::Draft => draft("first"),
        Step::Revision => draft("second"),
        Step::Facts => issues(&[
            ("unsupported-claim", "The  best robot"),
            ("unsupported-claim", "the best robot"),
        ]),
        Step::Voice => issues(&[("off-voice", "WOW"), ("unsupported-claim", "The best Robot")]),
        Step::Security => issues(&[]),
    });
    let host = machine_for(&server.config()).host();
    let plugin = load(&host, &publish()).await;
    let document = report(&host, &plugin, &brief(), &[]).await;
    let round = [Step::Facts, Step::Voice, Step::Security];
    assert_eq!(
        steps(&server),
        [[Step::Draft].as_slice(), &round, &[Step::Revision], &round].concat()
    );

    let seen = server.ended();
    let told: Value = serde_json::from_str(&seen[4].data("issues")[0]).unwrap();
    let told: Vec<_> = told
        .as_array()
        .unwrap()
        .iter()
        .map(|issue| (&issue["fault"], &issue["passage"]))
        .collect();
    assert_eq!(
        told,
        [
            (&json!("unsupported-claim"), &json!("The  best robot")),
            (&json!("off-voice"), &json!("WOW"))
        ]
    );
    assert_eq!(seen[4].data("text"), ["first"]);
    assert!(seen[5..].iter().all(|check| check.data("text") == ["second"]));

    let publication = &document["outcome"]["ok"];
    assert_eq!(
        (&publication["drafts"], &publication["document"]["text"]),
        (&json!(2), &json!("second"))
    );
    let left = publication["verdict"]["objections"]["issues"].as_array().unwrap();
    let by: Vec<_> = left.iter().map(|raised| &raised["by"]).collect();
    assert_eq!(by, [&json!(["facts", "voice"]), &json!(["voice"])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_draft_without_objections_passes() {
    let server = Server::start(|request| match step(request) {
        Step::Security if request.data("text") != ["another text"] => issues(&[("sensitive-data", "the password")]),
        _ => fine(request),
    });
    let host = machine_for(&server.config()).host();
    let plugin = load(&host, &publish()).await;
    let document = report(&host, &plugin, &brief(), &[]).await;
    let publication = &document["outcome"]["ok"];
    assert_eq!(
        (&publication["verdict"], &publication["drafts"]),
        (&json!("pass"), &json!(2))
    );
    assert_eq!(server.count(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_fails_is_named_and_is_no_pass() {
    for (failing, name) in [
        (Step::Facts, "facts"),
        (Step::Voice, "voice"),
        (Step::Security, "security"),
    ] {
        let server = Server::start(move |request| match step(request) {
            step if step == failing => Reply::error(500, "api_error", "boom"),
            _ => fine(request),
        });
        let host = machine_for(&server.config()).host();
        let plugin = load(&host, &publish()).await;
        let document = report(&host, &plugin, &brief(), &[]).await;
        let objections = &document["outcome"]["ok"]["verdict"]["objections"];
        assert_eq!(objections["issues"], json!([]));
        assert_eq!(objections["unchecked"].as_array().unwrap().len(), 1);
        assert_eq!(objections["unchecked"][0]["check"], name);
        assert!(
            objections["unchecked"][0]["failure"]["model"]
                .as_str()
                .unwrap()
                .contains("boom")
        );
        assert_eq!(server.count(), 4, "there is nothing to revise");
    }
}

#[test]
fn without_a_draft_nothing_is_checked() {
    let server = Server::scripted([Reply::error(500, "api_error", "boom")]);
    let machine = machine_for(&server.config());
    let document = machine.run(run_json(&publish(), &brief(), &[])).json(5);
    assert_eq!(document["outcome"]["failure"]["class"], "model");
    assert_eq!(steps(&server), [Step::Draft]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_that_fails_loses_neither_the_draft_nor_the_objections() {
    let server = Server::start(|request| match step(request) {
        Step::Revision => Reply::error(500, "api_error", "boom"),
        Step::Voice => issues(&[("off-voice", "WOW")]),
        _ => fine(request),
    });
    let host = machine_for(&server.config()).host();
    let plugin = load(&host, &publish()).await;
    let publication = &report(&host, &plugin, &brief(), &[]).await["outcome"]["ok"];
    assert_eq!(publication["drafts"], 1);
    let objections = &publication["verdict"]["objections"];
    assert_eq!(objections["issues"][0]["issue"]["passage"], "WOW");
    assert!(objections["not-revised"]["model"].as_str().unwrap().contains("boom"));
    assert_eq!(server.count(), 5);
}
