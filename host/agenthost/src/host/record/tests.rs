use std::sync::Arc;

use serde_json::{Value, json};

use super::difference::first_difference;
use super::log::is_same_request;
use super::past::Past;
use super::told::{PastCall, replaced};
use super::{AskAgain, Earlier, Mode, PastDocument, Recorder, TaskLog, documents};
use agenthost_config::BodyRetention;
use agenthost_core::document::{DocumentAction, DocumentError, DocumentOperation, DocumentRecord, DocumentResult};
use agenthost_core::llm::{Ask, CallError, CallResult, Message, Part, Reply, Role};
use agenthost_core::run::ModelReport;
use agenthost_core::task::{RecordedReport, TaskId};
use agenthost_journal::cassette::tape::Tape;
use agenthost_journal::{
    AskRecord, AskResult, Asked, Cut, RecordedUse, RequestEnd, RequestHash, RequestRecord, TaskEnd, TaskRecord, Turn,
};

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
        let root = TaskId::root();
        let no = AskAgain {
            again: &[],
            task: &root,
        };
        let past = Past::of(task(outcome, second), mode, no);
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

#[test]
fn turns_are_kept_up_to_the_one_that_the_task_that_is_asked_again_changes() {
    let starts = |ask, child: u32| AskRecord {
        result: Some(AskResult::SubTask {
            task: TaskId::root().child(child),
            ok: true,
            keeps: true,
        }),
        ..AskRecord::new(
            ask,
            Asked::SubTask {
                task: TaskId::root().child(child),
            },
        )
    };
    let record = || TaskRecord {
        asks: vec![starts(2, 0), starts(3, 1)]
            .into_iter()
            .chain(task(&json!({"ok": 1}), &Ok(reply())).asks)
            .collect(),
        turns: [0, 2, 3, 1].map(Turn::Answer).into(),
        ..task(&json!({"ok": 1}), &Ok(reply()))
    };
    let root = TaskId::root();
    for (again, turns) in [
        ("root/0", 1),
        ("root/1", 2),
        ("root/1/7", 2),
        ("root/10", 4),
        ("root", 0),
    ] {
        let again = TaskId::recorded(again);
        let again = AskAgain {
            again: std::slice::from_ref(&again),
            task: &root,
        };
        for failed in [false, true] {
            let past = Past::of(record(), Mode::Resume { failed }, again);
            assert_eq!((past.turns.len(), past.asks.len()), (turns, 4), "{again:?}");
        }
    }
    let child = TaskId::root().child(1);
    let again = TaskId::recorded("root/1/7");
    let (again, other) = (std::slice::from_ref(&again), TaskId::root().child(0));
    assert!(AskAgain { again, task: &child }.is_below());
    assert!(!AskAgain { again, task: &child }.is_here());
    assert!(!AskAgain { again, task: &other }.is_below());
}

#[test]
fn a_call_that_is_asked_again_keeps_its_cost_and_its_replies() {
    let used = |input| RecordedUse {
        input,
        sent: true,
        pico_usd: Some(input),
        ..RecordedUse::default()
    };
    let paid = |text: &str| RequestRecord {
        hash: [7; 32],
        end: RequestEnd::Paid {
            reply: Reply::of(vec![Part::Text(text.into())]).with_model("small"),
            used: used(5),
        },
    };
    let what = Asked::Model {
        hash: [0; 32],
        request: None,
    };
    // A reply that was repaired, by a chain of two models: 30 in all.
    let mut ask = AskRecord::new(4, what);
    ask.requests = vec![paid("first")];
    let models = ["local/small", "local/large"].map(|model| ModelReport::new("fast", model));
    let last = Reply::of(vec![Part::Text("last".into())]);
    ask.result = Some(AskResult::of_call(Ok(last), used(30), models.into()));
    let check = |ask: &AskRecord, cost: u64, models: usize, texts: &[&str]| {
        let requests = replaced(ask, true);
        let texts_of = |request: &RequestRecord| match &request.end {
            RequestEnd::Lost { replaced, .. } => replaced.iter().map(Reply::text).collect::<Vec<_>>(),
            RequestEnd::Paid { .. } => panic!("its reply would be used again"),
        };
        assert_eq!(requests.iter().flat_map(texts_of).collect::<Vec<_>>(), texts);
        assert!(requests.iter().all(|request| request.hash == RequestHash::default()));
        let again = AskRecord {
            requests,
            result: None,
            ..ask.clone()
        };
        let past = PastCall::of(again.clone());
        assert_eq!(past.lost.map(|lost| lost.input), Some(cost));
        assert_eq!((past.paid.len(), past.models.len()), (0, models));
        let redacted = replaced(ask, false);
        assert!(redacted.iter().flat_map(texts_of).next().is_none());
        again
    };
    let again = check(&ask, 30, 2, &["first", "last"]);
    check(&again, 30, 2, &["first", "last"]);
    // The second execution stopped before its result.
    ask.result = None;
    check(&ask, 5, 1, &["first"]);
    let sub_task = AskRecord::new(0, Asked::SubTask { task: TaskId::root() });
    assert!(replaced(&sub_task, true).is_empty());
}

/// The log of a task that runs again, with these operations on documents and these turns in its record.
fn log_with(mode: Mode, documents: Vec<DocumentRecord>, turns: Vec<Turn>) -> TaskLog {
    let recorder = Recorder::new(
        Arc::new(Tape::new()),
        "r".into(),
        mode,
        BodyRetention::All,
        None,
        Vec::new(),
    );
    let record = TaskRecord {
        id: "root".into(),
        digest: "ab".into(),
        documents,
        turns,
        ..TaskRecord::default()
    };
    let earlier = Earlier {
        record,
        settled: None,
        began: None,
    };
    TaskLog::begin(&recorder, &TaskId::root(), ("demo:a@0.1.0", "ab"), None, Some(earlier))
}

fn put(name: &str) -> DocumentOperation {
    DocumentOperation {
        action: DocumentAction::Put,
        name: name.into(),
        json: Some("1".into()),
    }
}

fn recorded(operation: &DocumentOperation, result: Option<DocumentResult>) -> DocumentRecord {
    DocumentRecord {
        action: operation.action,
        name: None,
        bytes: 1,
        json: None,
        digest: documents::digest(operation),
        result,
    }
}

/// Returns the recorded result of each operation, or the number of one that has to be done.
fn told(log: &TaskLog, operations: &[&str]) -> Vec<Result<DocumentResult, u64>> {
    let told = |name: &&str| match log.document(&put(name)) {
        PastDocument::Told(result) => Ok(result),
        PastDocument::Make(numbered) => Err(numbered.number),
        PastDocument::Unanswered => panic!("{name} is not answered"),
    };
    operations.iter().map(told).collect()
}

#[tokio::test]
async fn a_resumed_task_does_again_what_has_no_result_and_what_comes_after_another_operation() {
    let done = || Some(DocumentResult::Done);
    let failed = |error: DocumentError| Some(DocumentResult::from(error));
    let resume = Mode::Resume { failed: false };
    let log = |results: [Option<DocumentResult>; 3]| {
        let records = ["a", "b", "c"].iter().zip(results);
        let records = records.map(|(name, result)| recorded(&put(name), result));
        log_with(resume, records.collect(), Vec::new())
    };
    let all = ["a", "b", "c", "d"];
    let ok = || Ok(DocumentResult::Done);
    // The process was killed between the journal and the file, or the file and the journal.
    assert_eq!(told(&log([done(), done(), None]), &all), [ok(), ok(), Err(2), Err(3)]);
    assert_eq!(
        told(&log([done(), done(), done()]), &["a", "x", "c"]),
        [ok(), Err(1), Err(2)]
    );
    for error in [DocumentError::QuotaFull("full".into()), DocumentError::NotGranted] {
        let again = log([done(), failed(error), done()]);
        assert_eq!(told(&again, &all), [ok(), Err(1), Err(2), Err(3)]);
    }
}

#[tokio::test]
async fn a_replayed_task_receives_what_was_recorded_and_nothing_else() {
    let record = |result| {
        vec![
            recorded(&put("a"), Some(DocumentResult::Done)),
            recorded(&put("b"), result),
        ]
    };
    let cut = Turn::Cut(Cut {
        time_up: true,
        polls: 1,
    });
    let replayed = |result| log_with(Mode::Replay, record(result), vec![cut]);
    let full = || DocumentResult::from(DocumentError::QuotaFull("full".into()));
    assert_eq!(
        told(&replayed(Some(full())), &["a", "b"]),
        [Ok(DocumentResult::Done), Ok(full())]
    );
    // It was cut off while it waited.
    let log = replayed(None);
    assert_eq!(told(&log, &["a"]), [Ok(DocumentResult::Done)]);
    assert!(matches!(log.document(&put("b")), PastDocument::Unanswered));
    let differs = |result: &Result<DocumentResult, u64>| matches!(result, Ok(DocumentResult::Error { error: DocumentError::Other(class, _) }) if class == "replay");
    let log = replayed(Some(full()));
    let results = told(&log, &["a", "x", "b"]);
    assert!(differs(&results[1]) && differs(&results[2]), "{results:?}");
    assert_eq!(log.recorder.unwrap().differences().len(), 2);
}
