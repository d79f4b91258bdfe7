use serde_json::{Value, json};

use super::difference::first_difference;
use super::log::is_same_ask;
use super::past::Past;
use super::{Mode, RecordedReply, redact};
use agenthost_core::limits::Spent;
use agenthost_core::limits::ledger::Used;
use agenthost_core::llm::{Ask, CallError, CallResult, Message, Part, Reply, Role};
use agenthost_journal::{CallRecord, TaskEnd, TaskRecord, Turn};

fn reply() -> Reply {
    Reply::of(Vec::new()).with_model("small")
}

/// Returns a task with this outcome that received the results of two calls.
fn task(outcome: &Value, second: &CallResult) -> TaskRecord {
    let told = |result: &CallResult| {
        let told = RecordedReply::new(result, &Used::default(), true, Vec::new());
        Some(serde_json::to_string(&told).unwrap())
    };
    let call = |ask, result: &CallResult| CallRecord {
        ask,
        result: told(result),
        ..CallRecord::default()
    };
    TaskRecord {
        id: "root".into(),
        end: Some(TaskEnd {
            ended_ms: 0,
            report:
                json!({"id": "root", "parent": null, "plugin": "guests:asks@0.1.0", "models": [], "outcome": outcome,
                "spent": Spent::default()})
                .to_string(),
            returned: None,
            models: "[]".into(),
        }),
        calls: vec![call(0, &Ok(reply())), call(1, second)],
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
            (past.turns.len(), past.calls.len()),
            (turns, calls),
            "{outcome} {second:?} {mode:?}"
        );
    }
}

#[test]
fn nothing_that_a_model_said_is_left_in_a_redacted_report() {
    let report = |outcome: Value| json!({"id": "root", "outcome": outcome, "log": "said"});
    for (outcome, left) in [
        (json!({"ok": "said"}), Value::Null),
        (
            json!({"failure": {"class": "failed", "message": "said", "error": {"said": 1}}}),
            json!({"failure": {"class": "failed", "message": ""}}),
        ),
    ] {
        let mut report = report(outcome);
        redact(&mut report);
        assert_eq!(report, json!({"id": "root", "outcome": left}));
    }
}

#[test]
fn a_difference_is_shown_where_it_is() {
    let text =
        |n: usize, what: &str| json!({"a": [1, format!("{}{what}{}", "x".repeat(n), "y".repeat(300))]}).to_string();
    let said = first_difference(&text(500, "one"), &text(500, "two"));
    assert!(
        said.starts_with("at /a/1: …xxx") && said.contains("xone") && said.contains("xtwo"),
        "{said}"
    );
    assert!(said.len() < 400, "{said}");
    assert_eq!(
        first_difference("{\"a\":1}", "{}"),
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
    let known = |body: Option<&str>| CallRecord {
        body: body.map(str::to_owned),
        ..CallRecord::default()
    };
    assert!(is_same_ask(&known(Some(&older)), &now));
    assert!(!is_same_ask(&known(Some(&older)), &ask(vec![1, 2])));
    assert!(!is_same_ask(&known(None), &now));
}
