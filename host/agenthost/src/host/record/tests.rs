use serde_json::{Value, json};

use super::Mode;
use super::difference::first_difference;
use super::log::is_same_request;
use super::past::Past;
use agenthost_core::llm::{Ask, CallError, CallResult, Message, Part, Reply, Role};
use agenthost_core::task::RecordedReport;
use agenthost_journal::{AskRecord, AskResult, Asked, RecordedUse, TaskEnd, TaskRecord, Turn};

fn reply() -> Reply {
    Reply::of(Vec::new()).with_model("small")
}

/// Returns a task with this outcome that received the results of two calls.
fn task(outcome: &Value, second: &CallResult) -> TaskRecord {
    let call = |ask, result: &CallResult| AskRecord {
        result: Some(AskResult::of_call(result.clone(), RecordedUse::unsent(), Vec::new())),
        ..AskRecord::new(
            ask,
            Asked::Model {
                hash: [0; 32],
                request: None,
            },
        )
    };
    let report = json!({"id": "root", "plugin": "guests:asks@0.1.0", "outcome": outcome, "spent": {}});
    TaskRecord {
        id: "root".into(),
        end: Some(TaskEnd {
            ended_ms: 0,
            report: serde_json::from_value(report).unwrap(),
            returned: None,
            models: Vec::new(),
        }),
        asks: vec![call(0, &Ok(reply())), call(1, second)],
        turns: vec![Turn::Answer(0), Turn::Answer(1)],
        ..TaskRecord::default()
    }
}

#[test]
fn what_failed_of_itself_forgets_its_answers_where_it_is_to_be_tried_again() {
    let failed = json!({"failure": {"class": "failed", "message": "no"}});
    let fuel = json!({"failure": {"class": "exhausted", "message": "no", "limit": "fuel"}});
    let (fine, refused) = (Ok(reply()), Err(CallError::Refused("no".into())));
    let (plain, anew) = (Mode::Resume { failed: false }, Mode::Resume { failed: true });
    for (outcome, second, mode, turns, calls) in [
        (&failed, &fine, plain, 2, 2),
        (&failed, &refused, plain, 2, 2),
        // With the same replies, it would fail in the same way.
        (&failed, &fine, anew, 0, 0),
        // The failed call is made again, and the one before it is not.
        (&failed, &refused, anew, 1, 2),
        (&fuel, &fine, anew, 2, 2),
    ] {
        let past = Past::of(task(outcome, second), mode);
        assert_eq!(
            (past.turns.len(), past.asks.len()),
            (turns, calls),
            "{outcome} {second:?} {mode:?}"
        );
    }
}

#[test]
fn nothing_that_a_model_said_is_left_in_a_redacted_report() {
    let report = |outcome: Value| {
        let log = "said";
        json!({"id": "root", "parent": null, "plugin": "a:b@0.1.0", "models": [], "outcome": outcome, "spent": {}, "log": log})
    };
    for (outcome, left) in [
        (json!({"ok": "said"}), Value::Null),
        (
            json!({"failure": {"class": "failed", "message": "said", "error": {"said": 1}}}),
            json!({"failure": {"class": "failed", "message": ""}}),
        ),
    ] {
        let report = serde_json::from_value::<RecordedReport>(report(outcome))
            .unwrap()
            .without_texts();
        let report = json!(report);
        assert_eq!(report["outcome"], left);
        assert!(!report.to_string().contains("said"), "{report}");
    }
}

#[test]
fn a_difference_is_shown_where_it_is() {
    let text = |n: usize, what: &str| json!({"a": [1, format!("{}{what}{}", "x".repeat(n), "y".repeat(300))]});
    let said = first_difference(&text(500, "one"), &text(500, "two"));
    assert!(
        said.starts_with("at /a/1: …xxx") && said.contains("xone") && said.contains("xtwo"),
        "{said}"
    );
    assert!(said.len() < 400, "{said}");
    assert_eq!(
        first_difference(&json!({"a": 1}), &json!({})),
        "at /a: 1 was recorded, now nothing"
    );
}

#[test]
fn a_request_with_media_is_known_in_its_older_form() {
    let ask = |data: Vec<u8>| Ask {
        model: "fast".into(),
        system: None,
        messages: vec![Message {
            role: Role::User,
            content: vec![Part::Media {
                mime: "image/png".into(),
                data,
            }],
        }],
        max_tokens: None,
        schema: None,
        options: Vec::new(),
    };
    let now = ask(vec![1, 2, 255]);
    let body = serde_json::to_string(&now).unwrap();
    let older = body.replace(r#""AQL/""#, "[1,2,255]");
    assert_ne!(older, body);
    let known = |body: Option<&str>| Asked::Model {
        hash: [0; 32],
        request: body.map(|body| serde_json::from_str(body).unwrap()),
    };
    let is_same = |body: Option<&str>, ask: &Ask| is_same_request(&known(body), &[1; 32], ask);
    assert!(is_same(Some(&older), &now));
    assert!(!is_same(Some(&older), &ask(vec![1, 2])));
    assert!(!is_same(None, &now));
    assert!(is_same_request(&known(None), &[0; 32], &now), "by its digest");
}
