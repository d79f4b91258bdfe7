//! The join policies over real sub-tasks: who wins, who is canceled, and what the model's server sees of it.

use std::time::Duration;

use agenthost_tests::server::{Reply, Request, Server};
use serde_json::{Value, json};

use crate::{counted, ends, guest, load, machine_for, report};

/// Answers `bad…` with an error soon, `slow…` never, `after` late, and anything else with its first letter, the later
/// the more stars it has.
fn scripted() -> Server {
    Server::start(|request| {
        let prompt = request.prompt();
        let stars = prompt.matches('*').count() as u32;
        match prompt.as_str() {
            "after" => Reply::text("after").after(Duration::from_millis(400)),
            slow if slow.starts_with("slow") => Reply::stall(),
            bad if bad.starts_with("bad") => {
                Reply::error(500, "api_error", "boom").after(Duration::from_millis(60) * stars)
            }
            other => Reply::text(&other[..1]).after(Duration::from_millis(60) * stars),
        }
    })
}

/// Runs `joins` with `plan` and gives the report.
async fn joins(server: &Server, plan: Value) -> Value {
    let host = machine_for(&server.config()).host();
    let plugin = load(&host, &guest("joins")).await;
    // `leaf` lies beside it.
    let _ = guest("leaf");
    report(&host, &plugin, &plan, &[]).await
}

fn plan(policy: &Value, prompts: &[&str], after: bool) -> Value {
    json!({"policy": policy, "prompts": prompts, "after": after.then_some("after")})
}

/// The lanes as `how index text`.
fn lanes(report: &Value) -> Vec<String> {
    let lanes = report["outcome"]["ok"]["lanes"]
        .as_array()
        .unwrap_or_else(|| panic!("{report}"));
    let text = |lane: &Value| {
        assert_eq!(
            lane["name"],
            format!("lane {}", lane["index"]),
            "a result says which call it was"
        );
        let text = lane["text"].as_str().unwrap();
        let text = if text.contains("boom") { "boom" } else { text };
        format!("{} {} {text}", lane["how"].as_str().unwrap(), lane["index"])
    };
    lanes.iter().map(text).collect()
}

fn decision(report: &Value) -> &str {
    report["outcome"]["ok"]["decision"].as_str().unwrap()
}

/// The requests for these prompts were given up by the client while the parent went on.
#[track_caller]
fn assert_closed(server: &Server, prompts: &[&str]) {
    let seen = server.ended();
    let of = |prompt: &str| -> &Request { seen.iter().find(|request| request.prompt() == prompt).unwrap() };
    for prompt in prompts {
        assert!(of(prompt).closed_by_client, "{prompt}");
        assert!(
            of(prompt).end() < of("after").end(),
            "{prompt} was closed before the parent went on to its end"
        );
    }
    let given_up = seen.iter().filter(|request| request.closed_by_client).count();
    assert_eq!(given_up, prompts.len(), "and no other");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_cancels_the_rest_at_the_first_failure() {
    let server = scripted();
    let report = joins(&server, plan(&json!("all"), &["slow 0", "bad********", "slow 2"], true)).await;
    assert_eq!(lanes(&report), ["failed 1 boom"]);
    assert!(decision(&report).starts_with("lane 1: "), "{}", decision(&report));
    assert_closed(&server, &["slow 0", "slow 2"]);
    assert_eq!(server.count(), 4);
    // Canceled is not failed.
    assert_eq!(
        ends(&report),
        [
            ("root", "ok"),
            ("root/0", "cancelled"),
            ("root/1", "model"),
            ("root/2", "cancelled"),
            ("root/3", "ok")
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failure_all_starts_no_further_call() {
    let server = scripted();
    let mut plan = plan(&json!("all"), &["bad", "slow 1", "never", "never"], true);
    plan["at-once"] = json!(2);
    let report = joins(&server, plan).await;
    assert_eq!(lanes(&report), ["failed 0 boom"]);
    assert!(server.ended().iter().all(|request| request.prompt() != "never"));
    assert_eq!(ends(&report).len(), 4, "what was not started is no task: {report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_gives_every_result_in_its_place() {
    let server = scripted();
    let report = joins(&server, plan(&json!("all"), &["a***", "b*", "c**", "d"], false)).await;
    assert_eq!(
        (decision(&report), lanes(&report)),
        (
            "ok",
            ["done 0 a", "done 1 b", "done 2 c", "done 3 d"]
                .map(str::to_owned)
                .into()
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn settled_keeps_what_was_done_and_what_failed() {
    let server = scripted();
    let report = joins(&server, plan(&json!("settled"), &["a**", "bad 1", "c", "bad 3"], false)).await;
    assert_eq!(
        lanes(&report),
        ["done 0 a", "failed 1 boom", "done 2 c", "failed 3 boom"]
    );
    assert_eq!(
        ends(&report),
        [
            ("root", "ok"),
            ("root/0", "ok"),
            ("root/1", "model"),
            ("root/2", "ok"),
            ("root/3", "model")
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn first_takes_the_first_success_and_cancels_the_losers_on_the_wire() {
    let server = scripted();
    // The failure comes first, and does not win.
    let report = joins(
        &server,
        plan(&json!("first"), &["bad", "slow 1", "good****", "slow 3"], true),
    )
    .await;
    assert_eq!(lanes(&report), ["done 2 g"]);
    assert_closed(&server, &["slow 1", "slow 3"]);
    assert_eq!(
        ends(&report),
        [
            ("root", "ok"),
            ("root/0", "model"),
            ("root/1", "cancelled"),
            ("root/2", "ok"),
            ("root/3", "cancelled"),
            ("root/4", "ok")
        ]
    );
    // The losers' requests are booked: a call each, at its worst case, because their usage is unknown.
    let spent = |n: usize| &report["tasks"][n]["spent"];
    assert_eq!(
        (&spent(2)["calls"], &spent(2)["output_tokens"], &spent(4)["calls"]),
        (&json!(1), &json!(100), &json!(1))
    );
    assert_eq!(
        (&report["spent"]["calls"], &report["spent"]["output_tokens"]),
        (&json!(5), &json!(10 + 2 * 100))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn first_fails_only_when_every_call_failed() {
    let server = scripted();
    let report = joins(&server, plan(&json!("first"), &["bad 0", "bad 1"], false)).await;
    assert_eq!(lanes(&report), ["failed 0 boom", "failed 1 boom"]);
    assert!(
        decision(&report).starts_with("0 of the 1 wanted result; 2 of 2 branches failed"),
        "{}",
        decision(&report)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_ends_as_soon_as_it_is_reached_or_out_of_reach() {
    let server = scripted();
    let report = joins(
        &server,
        plan(&json!({"quorum": 2}), &["slow 0", "b****", "bad", "d", "slow 4"], true),
    )
    .await;
    assert_eq!(lanes(&report), ["done 1 b", "done 3 d"]);
    assert_closed(&server, &["slow 0", "slow 4"]);

    let server = scripted();
    let report = joins(
        &server,
        plan(&json!({"quorum": 2}), &["slow 0", "bad 1", "bad 2"], true),
    )
    .await;
    assert_eq!(lanes(&report), ["failed 1 boom", "failed 2 boom"]);
    assert_closed(&server, &["slow 0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn votes_are_counted_ties_are_ruled_on_and_dissent_is_kept() {
    for (policy, prompts, told) in [
        // Two against one, and who is first does not matter.
        (
            "vote",
            ["no", "yes****", "yes****"],
            vec!["winner 1 y", "agreed 2 y", "dissent 0 n"],
        ),
        (
            "vote-or-fail",
            ["yes", "no*", "yes*****"],
            vec!["winner 0 y", "agreed 2 y", "dissent 1 n"],
        ),
        // One each, in any order of coming.
        (
            "vote",
            ["a**", "b*", "c"],
            vec!["winner 0 a", "dissent 1 b", "dissent 2 c"],
        ),
        ("vote-or-fail", ["a", "b", "c"], vec![]),
        // A voter that fails abstains.
        (
            "vote-or-fail",
            ["bad", "yes****", "yes****"],
            vec!["winner 1 y", "agreed 2 y", "abstained 0 boom"],
        ),
        (
            "vote",
            ["no*", "yes", "bad"],
            vec!["winner 0 n", "dissent 1 y", "abstained 2 boom"],
        ),
        (
            "vote",
            ["bad", "bad", "bad"],
            vec!["abstained 0 boom", "abstained 1 boom", "abstained 2 boom"],
        ),
    ] {
        let server = scripted();
        let report = joins(&server, plan(&json!(policy), &prompts, false)).await;
        assert_eq!(lanes(&report), told, "{policy} {prompts:?}");
        let why = match (told.is_empty(), prompts) {
            (true, _) => "a tie after 3 votes",
            (_, ["bad", "bad", _]) => "no call voted, 3 abstained",
            _ => "ok",
        };
        assert!(decision(&report).starts_with(why), "{}", decision(&report));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_that_is_decided_waits_for_nobody() {
    let server = scripted();
    let report = joins(&server, plan(&json!("vote-or-fail"), &["yes", "slow 1", "yes*"], true)).await;
    assert_eq!(lanes(&report), ["winner 0 y", "agreed 2 y"]);
    assert_closed(&server, &["slow 1"]);
    assert_eq!(ends(&report)[2], ("root/1", "cancelled"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_run_at_once_than_asked_for() {
    let prompts: Vec<String> = (0..12).map(|n| format!("{}*", char::from(b'a' + n))).collect();
    let prompts: Vec<&str> = prompts.iter().map(String::as_str).collect();
    for policy in ["settled", "all"] {
        for most in [1, 3] {
            let server = scripted();
            let mut plan = plan(&json!(policy), &prompts, false);
            plan["at-once"] = json!(most);
            let report = joins(&server, plan).await;
            assert_eq!((server.max_in_flight(), server.count()), (most, 12));
            let expected: Vec<_> = (0..12).map(|n| format!("done {n} {}", char::from(b'a' + n))).collect();
            assert_eq!(lanes(&report), expected);
        }
    }
}

/// Each round leaves two losers on the way. Were anything of what they had reserved not given back, the tokens would be
/// used up within a few rounds; were their places not, the room would be.
#[tokio::test(flavor = "multi_thread")]
async fn losers_are_charged_and_give_back_their_places() {
    let server = scripted();
    let host = machine_for(&format!("{}[run]\nmax-concurrent-tasks = 12\n", server.config())).host();
    let plugin = load(&host, &guest("joins")).await;
    let mut plan = plan(&json!("first"), &["slow 0", "good", "slow 2"], false);
    plan["rounds"] = json!(60);
    let report = report(
        &host,
        &plugin,
        &plan,
        &[("tokens", "none"), ("calls", "none"), ("tasks", "180")],
    )
    .await;
    assert_eq!(lanes(&report), ["done 1 g"]);
    assert_eq!(ends(&report).len(), 181);
    assert_eq!(counted(&report), 60 * 15, "{}", report["models"]);
    assert_eq!(ends(&report).iter().filter(|end| end.1 == "cancelled").count(), 120);
    server.ended();
}
