use serde_json::json;

use super::compare::Kind;
use super::tape::Tape;
use super::*;
use crate::{
    AskResult, Asked, Journal, JournalEntry, RecordedUse, RunEnd, RunKind, RunRecord, RunStatus, RunSummary, TaskEnd,
    Turn,
};
use agenthost_core::limits::{Cap, LimitKind, LimitOwner};
use agenthost_core::run::ModelReport;
use agenthost_core::task::{Failure, FailureClass, Outcome, RecordedReport, TaskId};

const RUN: &str = "run";

fn note(tape: &Tape, entry: JournalEntry) {
    tape.note(entry);
}

/// A report of a task that used 1,000 fuel.
fn report(task: &str) -> RecordedReport {
    let value = json!({"id": task, "plugin": "demo:x@0.1.0", "outcome": {"ok": 1}, "spent": {"fuel": 1_000}});
    serde_json::from_value(value).unwrap()
}

fn ask(text: &str) -> llm::Ask {
    llm::Ask {
        model: "fast".into(),
        system: None,
        messages: vec![llm::Message {
            role: llm::Role::User,
            content: vec![Part::Text(text.into())],
        }],
        max_tokens: Some(10),
        schema: Some("{\"type\":\"object\"}".into()),
        options: Vec::new(),
    }
}

fn reply(text: &str) -> llm::Reply {
    llm::Reply::of(vec![Part::Text(text.into())])
        .with_model("m")
        .with_usage(Usage {
            input: 100,
            output: 10,
            ..Usage::default()
        })
        .with_request_id(Some("secret".into()))
}

/// A run whose root calls a model twice and starts one sub-task, as the host records it.
fn recorded(prompt: &str) -> Tape {
    let tape = Tape::new();
    let run = || RUN.to_owned();
    let root = || "root".to_owned();
    note(
        &tape,
        JournalEntry::RunStarted(RunRecord {
            id: run(),
            kind: RunKind::Run,
            plugin: "demo:x@0.1.0".into(),
            digest: "ff".into(),
            seed: [7; 32],
            clock_ms: 5,
            started_ms: 5,
            command: json!({"cwd": "/somewhere"}),
            pid: 1,
            end: None,
        }),
    );
    for task in ["root", "root/0"] {
        note(
            &tape,
            JournalEntry::TaskStarted {
                run: run(),
                task: task.into(),
                plugin: "demo:x@0.1.0".into(),
                digest: "ff".into(),
                input: Some(json!({"a": 1})),
                at_ms: 6,
            },
        );
    }
    let model = |text: &str| Asked::Model {
        hash: [0; 32],
        request: Some(ask(text)),
    };
    let child = TaskId::root().child(0);
    let start = Asked::SubTask { task: child.clone() };
    for (n, what) in (0..).zip([model(prompt), start, model("two\nlines")]) {
        note(
            &tape,
            JournalEntry::Asked {
                run: run(),
                task: root(),
                ask: n,
                what,
            },
        );
    }
    let used = RecordedUse {
        input: 100,
        output: 10,
        pico_usd: Some(3),
        sent: true,
        ..RecordedUse::default()
    };
    let mut waited = ModelReport::default();
    waited.waited_ms = 9;
    for (n, result) in (0..).zip([
        AskResult::of_call(Ok(reply("{\"b\":1.5}")), used, vec![waited]),
        AskResult::SubTask {
            task: child,
            ok: true,
            keeps: true,
        },
        AskResult::of_call(Err(CallError::Other("x".into(), "y".into())), used, Vec::new()),
    ]) {
        note(
            &tape,
            JournalEntry::Answered {
                run: run(),
                task: root(),
                ask: n,
                result,
            },
        );
    }
    for turn in [
        Turn::Answer(1),
        Turn::Answer(0),
        Turn::Cut(Cut {
            time_up: true,
            polls: 4,
        }),
    ] {
        note(
            &tape,
            JournalEntry::Turned {
                run: run(),
                task: root(),
                turn,
            },
        );
    }
    for task in ["root/0", "root"] {
        let end = TaskEnd {
            ended_ms: 9,
            report: report(task),
            returned: None,
            models: Vec::new(),
        };
        note(
            &tape,
            JournalEntry::TaskEnded {
                run: run(),
                task: task.into(),
                end,
            },
        );
    }
    let end = RunEnd {
        ended_ms: 9,
        state: RunStatus::Done,
        summary: RunSummary {
            outcome: Some(Outcome::Ok(json!({"c": "d"}))),
            ..RunSummary::default()
        },
    };
    note(&tape, JournalEntry::RunEnded { run: run(), end });
    tape
}

fn cassette(prompt: &str) -> Cassette {
    recorded(prompt).cassette(serde_json::Map::new()).unwrap()
}

fn parsed(cassette: &Cassette) -> Cassette {
    Cassette::parse(&serde_json::to_string_pretty(cassette).unwrap()).unwrap()
}

#[test]
fn a_run_becomes_a_cassette_that_can_be_read() {
    let cassette = cassette("one line");
    let value = serde_json::to_value(&cassette).unwrap();
    assert_eq!(
        value["expect"],
        json!({"output": {"c": "d"}, "calls": {"root": 2}, "fuel": 2_000, "tokens": 220})
    );
    assert_eq!(
        value["tasks"][0],
        json!({
            "id": "root",
            "plugin": "demo:x@0.1.0",
            "turns": "1 0",
            "cut": {"time-up": true, "polls": 4},
            "asks": [
                {
                    "ask": 0,
                    "request": {"model": "fast", "messages": [{"role": "user", "text": "one line"}], "max-tokens": 10,
                        "schema": {"type": "object"}},
                    "reply": {"json": {"b": 1.5}, "model": "m", "stop": "end", "usage": {"input": 100, "output": 10}},
                },
                {"ask": 1, "starts": "root/0"},
                {
                    "ask": 2,
                    "request": {"model": "fast", "messages": [{"role": "user", "text": ["two", "lines"]}],
                        "max-tokens": 10, "schema": {"type": "object"}},
                    "error": {"other": ["x", "y"]},
                    "used": {"input": 100, "output": 10},
                },
            ],
        })
    );
    let text = value.to_string();
    for private in ["somewhere", "secret", "waited", "_ms"] {
        assert!(!text.contains(private), "{private}");
    }
    assert_eq!(parsed(&cassette), cassette);
}

#[test]
fn what_is_played_is_what_was_recorded() {
    let tape = Tape::of(&parsed(&cassette("one line")));
    let run = tape.find("last").unwrap();
    assert_eq!(
        (run.seed, run.clock_ms, run.plugin.as_str()),
        ([7; 32], 5, "demo:x@0.1.0")
    );
    let root = tape.task("", "root").unwrap().unwrap();
    assert_eq!(root.input, Some(json!({"a": 1})));
    assert_eq!(
        root.turns,
        [
            Turn::Answer(1),
            Turn::Answer(0),
            Turn::Cut(Cut {
                time_up: true,
                polls: 4
            })
        ]
    );
    let used = RecordedUse {
        input: 100,
        output: 10,
        pico_usd: Some(0),
        sent: true,
        ..RecordedUse::default()
    };
    let told = reply("{\"b\":1.5}").with_request_id(None);
    let failed = CallError::Other("x".into(), "y".into());
    let results: Vec<_> = root.asks.iter().map(|ask| ask.result.clone()).collect();
    assert_eq!(
        results,
        [
            Some(AskResult::of_call(Ok(told), used, Vec::new())),
            None,
            Some(AskResult::of_call(Err(failed), used, Vec::new())),
        ]
    );
    let child = TaskId::root().child(0);
    assert_eq!(root.asks[1].what, Asked::SubTask { task: child });
    let below: Vec<_> = tape.tasks("", "root", None, 10).unwrap();
    assert_eq!(
        below.iter().map(|task| task.id.as_str()).collect::<Vec<_>>(),
        ["root/0"]
    );
    assert!(tape.task("", "root/1").unwrap().is_none());
}

#[test]
fn texts_come_back_as_they_were() {
    for text in [
        "",
        "one",
        "two\nlines",
        "ends\n",
        "\r\n",
        "{\"a\": 1}",
        "{\"a\":1}",
        "7",
        "[1,2]",
        "{\"a\":1e3}",
    ] {
        let reply = llm::Reply::new(text).with_model("m");
        let written = serde_json::to_string(&Reply::of(&reply)).unwrap();
        let read: Reply = serde_json::from_str(&written).unwrap();
        assert_eq!(read.reply(), reply, "{written}");
    }
}

#[test]
fn requests_are_shown_line_by_line_and_media_by_their_digest() {
    let mut ask = ask("one");
    ask.system = Some("two\nlines".into());
    ask.schema = Some("{ \"type\": 1 }".into());
    ask.options = vec![("effort".into(), "low".into())];
    let media = Part::Media {
        mime: "image/png".into(),
        data: vec![1, 2, 255],
    };
    let other = Part::Extension {
        kind: "x".into(),
        json: "{}".into(),
    };
    ask.messages[0].content.extend([media, other]);
    let digest = "cf0d41f2e6bdaef99b0b8a3a2c29bc8dc16aa05d9ecd7d3a3c83e0cb91aa30b0";
    let shown = text::request(&ask);
    assert_eq!(
        shown["messages"][0]["content"][1]["media"]["sha256"]
            .as_str()
            .map(str::len),
        Some(digest.len())
    );
    assert_eq!(
        serde_json::to_string(&shown).unwrap().replace(
            shown["messages"][0]["content"][1]["media"]["sha256"].as_str().unwrap(),
            "…"
        ),
        r#"{"model":"fast","system":["two","lines"],"messages":[{"role":"user","content":[{"text":"one"},{"media":{"mime":"image/png","bytes":3,"sha256":"…"}},{"extension":{"kind":"x","json":"{}"}}]}],"max-tokens":10,"schema":"{ \"type\": 1 }","options":[["effort","low"]]}"#
    );
}

#[test]
fn cassettes_of_the_first_version_are_read_and_written_as_they_are() {
    for name in ["cassette-done.json", "cassette-cut.json"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("testdata/format-1")
            .join(name);
        let cassette = Cassette::read(&path).unwrap();
        let written = serde_json::to_string_pretty(&cassette).unwrap() + "\n";
        assert_eq!(written, std::fs::read_to_string(&path).unwrap());
    }
}

#[test]
fn nothing_has_changed_between_two_equal_runs() {
    let before = cassette("one line").with_headroom();
    assert_eq!(before.changes(&mut cassette("one line")), []);
}

#[test]
fn a_changed_request_is_shown_and_can_be_accepted() {
    let before = cassette("one line").with_headroom();
    let mut now = cassette(&"another line ".repeat(40));
    let changes = before.changes(&mut now);
    let kinds: Vec<_> = changes.iter().map(|change| change.kind).collect();
    assert_eq!(
        kinds,
        [Kind::Request, Kind::Tokens],
        "more is asked, so more is paid for: {changes:?}"
    );
    let diff = changes[0].diff.as_deref().unwrap();
    assert!(diff.contains("\n-one line\n+another line another line"), "{diff}");
    assert!(diff.contains("\n [user]\n"), "what is around it is shown: {diff}");

    let updated = parsed(&before.updated(&now));
    assert_eq!(updated.changes(&mut now), []);
    assert_eq!(
        updated.expect.fuel, before.expect.fuel,
        "a ceiling that holds is the author's"
    );
    assert!(updated.expect.tokens > before.expect.tokens);
    assert_eq!(updated.tasks[0].asks[0].reply, before.tasks[0].asks[0].reply);
    assert_eq!((updated.seed, updated.clock_ms), (before.seed, before.clock_ms));
}

#[test]
fn every_other_change_has_its_kind() {
    let before = cassette("one line").with_headroom();
    let kinds = |before: &Cassette, now: &mut Cassette| -> Vec<Kind> {
        before.changes(now).iter().map(|change| change.kind).collect()
    };
    let mut fewer = cassette("one line");
    fewer.expect.calls.remove("root");
    assert_eq!(kinds(&before, &mut fewer), [Kind::Calls]);
    let mut known_less = before.clone();
    known_less.tasks[0].asks.remove(0);
    known_less.expect.calls.insert("root".into(), 1);
    assert_eq!(
        kinds(&known_less, &mut cassette("one line")),
        [Kind::Unrecorded, Kind::Calls]
    );
    let mut other = cassette("one line");
    other.expect.output = Some(json!({"c": "e"}));
    assert_eq!(kinds(&before, &mut other), [Kind::Outcome]);
    let mut hungry = cassette("one line");
    hungry.expect.fuel = before.expect.fuel + 1;
    assert_eq!(kinds(&before, &mut hungry), [Kind::Fuel]);
    let mut failed = cassette("one line");
    failed.expect.output = None;
    failed.expect.failure = Some(Failure::new(FailureClass::Failed, "no"));
    let changes = before.changes(&mut failed);
    assert_eq!(
        changes[0].message,
        "an output was expected, and the task failed: failed: no"
    );
}

#[test]
fn ceilings_have_headroom_in_round_figures() {
    assert_eq!(
        [0, 1, 7, 100, 795, 267_493].map(headroom),
        [0, 2, 9, 130, 1_000, 340_000]
    );
}

#[test]
fn only_unusual_limits_are_kept() {
    assert!(unusual(&Limits::task_default().tasks(1_000)).is_empty());
    assert_eq!(Value::Object(unusual(&Limits::task_default())), json!({"tasks": 100}));
    assert_eq!(
        cassette("no limits").limits().tasks,
        Some(Cap::At(1_000)),
        "the default of the format"
    );
    let limits = Limits {
        calls: None,
        fuel: Some(7),
        cost: Some("0.5".parse().unwrap()),
        timeout: Some(std::time::Duration::from_millis(1_500)),
        ..Limits::task_default()
    };
    let kept = unusual(&limits);
    let patch: LimitsPatch = serde_json::from_value(Value::Object(kept)).unwrap();
    assert_eq!(Limits::task_default().overridden_by(&patch), limits);
}

#[test]
fn a_broken_cassette_is_refused_with_what_is_wrong() {
    let good = serde_json::to_value(cassette("one line")).unwrap();
    let error = |change: &dyn Fn(&mut Value)| {
        let mut value = good.clone();
        change(&mut value);
        Cassette::parse(&value.to_string()).unwrap_err()
    };
    for (expected, change) in [
        (
            "it has format 2, and this version reads 1",
            &(|v: &mut Value| v["format"] = json!(2)) as &dyn Fn(&mut Value),
        ),
        ("seed: not 64 hex digits", &|v| v["seed"] = json!("x")),
        ("expect: give either an output or a failure", &|v| {
            v["expect"]["failure"] = json!({"class": "failed", "message": "no"});
        }),
        ("limits: `token`: unknown limit", &|v| v["limits"] = json!({"token": 1})),
        ("task root: ask 0: give either a reply or an error", &|v| {
            v["tasks"][0]["asks"][0]["error"] = json!("context-overflow");
        }),
        ("task root: ask 0: reply: give one of json, text and content", &|v| {
            v["tasks"][0]["asks"][0]["reply"]["text"] = json!("x");
        }),
        ("task root: turns: `x` is not the number of an ask", &|v| {
            v["tasks"][0]["turns"] = json!("0 x")
        }),
        ("task root: turns: 9 is not an ask, or is listed twice", &|v| {
            v["tasks"][0]["turns"] = json!("9")
        }),
        ("task root: it is listed twice", &|v| {
            v["tasks"][1]["id"] = json!("root")
        }),
        ("it has no task root", &|v| v["tasks"] = json!([])),
        ("unknown field `surprise`", &|v| v["tasks"][0]["surprise"] = json!(1)),
        ("unknown field `surprise`", &|v| {
            v["tasks"][0]["cut"] = json!({"time-up": true, "polls": 1, "surprise": 1});
        }),
        ("unknown field `ouput`", &|v| {
            v["tasks"][0]["asks"][0]["reply"]["usage"] = json!({"ouput": 5});
        }),
        ("missing field `model`", &|v| {
            v["tasks"][0]["asks"][0]["reply"]
                .as_object_mut()
                .unwrap()
                .remove("model");
        }),
        ("invalid type: integer `7`, expected a text or a list of lines", &|v| {
            v["tasks"][0]["asks"][0]["reply"] = json!({"text": 7, "model": "m", "stop": "end"});
        }),
    ] {
        let said = error(change);
        assert!(said.starts_with(expected), "{said}");
    }
    assert!(Cassette::parse("{").unwrap_err().contains("EOF while parsing"));
}

#[test]
fn a_limit_of_another_account_is_expected_by_its_kind() {
    let mut recorded = cassette("one line");
    recorded.expect.output = None;
    let message = "the task used up its tokens (limit of the whole run: 300 tokens)";
    let mut failure = Failure::exhausted(LimitKind::Tokens, message);
    failure.owner = Some(LimitOwner::Run);
    recorded.expect.failure = Some(failure);
    let mut now = recorded.clone();
    now.expect.failure = Some(Failure::exhausted(LimitKind::Tokens, "the task used up its tokens"));
    assert_eq!(recorded.changes(&mut now), []);
    assert_eq!(recorded.updated(&now).expect.failure, recorded.expect.failure);
    let other = Failure::exhausted(LimitKind::Calls, "the task used up its calls");
    let own_error = Failure {
        error: Some(json!("full")),
        ..Failure::exhausted(LimitKind::Tokens, "the task used up its tokens")
    };
    for failure in [other, own_error, Failure::new(FailureClass::Failed, message)] {
        now.expect.failure = Some(failure);
        assert_eq!(recorded.changes(&mut now).len(), 1);
    }
}
