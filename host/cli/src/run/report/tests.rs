use std::sync::Arc;

use serde_json::Value;

use super::*;
use agenthost::config::Env;
use agenthost::limits::LimitsPatch;
use agenthost::run::{Abandoned, RunId};
use agenthost::task::{Outcome, TaskId, TaskReport};

fn met(met: &[(&str, u64)]) -> BTreeMap<String, u64> {
    met.iter().map(|(met, times)| ((*met).to_owned(), *times)).collect()
}

fn report(tasks: Vec<TaskReport>, models: Vec<ModelReport>) -> RunReport {
    let id = RunId::new(std::time::SystemTime::UNIX_EPOCH, &[0; 32]);
    let mut report = RunReport::new(id, Outcome::Ok(Value::Null));
    report.tasks = tasks.into_iter().map(Arc::new).collect();
    report.models = models;
    report
}

fn task(id: TaskId, failure: Option<Failure>) -> TaskReport {
    let outcome = failure.map_or(Outcome::Ok(Value::Null), Outcome::Failure);
    TaskReport::new(id, "demo:x@0.1.0", outcome)
}

#[test]
fn the_gate_is_mentioned_where_it_had_to_do_something() {
    let mut calm = ModelReport::default();
    calm.requests = 40;
    calm.waited_ms = 1_000;
    calm.cached_input_tokens = 9;
    calm.limits_met = met(&[("concurrency", 36)]);
    assert_eq!(gate_summary(&report(Vec::new(), vec![calm.clone()])), None);
    let mut busy = ModelReport::default();
    busy.requests = 72;
    busy.retries = 12;
    busy.waited_ms = 7_240;
    busy.cached_input_tokens = 40_951;
    busy.limits_met = met(&[("requests", 9), ("concurrency", 5), ("rate-limited", 3)]);
    assert_eq!(
        gate_summary(&report(Vec::new(), vec![calm.clone(), busy])).unwrap(),
        "  gate: 112 requests, 12 retries, 3 rate-limited, waited 8.24 s (concurrency 41, requests 9), 40,960 cached tokens"
    );
    let mut hedged = ModelReport::default();
    hedged.requests = 2;
    hedged.hedges = 1;
    hedged.retries = 1;
    hedged.abandoned = Abandoned {
        requests: 1,
        at_most_tokens: 5,
    };
    assert_eq!(
        gate_summary(&report(Vec::new(), vec![hedged])).unwrap(),
        "  gate: 2 requests, 1 retry, 1 hedge, 1 abandoned"
    );
    let mut slow = ModelReport::default();
    slow.requests = 1;
    slow.waited_ms = 1_001;
    assert_eq!(
        gate_summary(&report(Vec::new(), vec![slow])).unwrap(),
        "  gate: 1 request, waited 1.00 s"
    );
}

#[test]
fn failed_sub_tasks_are_named_up_to_five_and_cancelled_ones_are_not() {
    let root = TaskId::root();
    let failed = |n| {
        task(
            root.child(n),
            Some(Failure::new(FailureClass::Failed, "why\nand \u{1b}how")),
        )
    };
    let cancelled = task(root.child(7), Some(Failure::new(FailureClass::Cancelled, "")));
    let mut tasks = vec![
        task(root.clone(), Some(Failure::new(FailureClass::Failed, "all of it"))),
        failed(0),
        task(root.child(1), None),
        task(
            root.child(1).child(3),
            Some(Failure::new(FailureClass::Model, "\u{1b}[2J")),
        ),
        cancelled,
    ];
    assert_eq!(
        failed_sub_tasks(&report(tasks.clone(), Vec::new()), None),
        [
            "failed: root/0 (demo:x@0.1.0): failed: why",
            "failed: root/1/3 (demo:x@0.1.0): model: \\u{1b}[2J",
        ]
    );
    tasks.extend((10..15).map(failed));
    let lines = failed_sub_tasks(&report(tasks, Vec::new()), None);
    assert_eq!((lines.len(), lines[5].as_str()), (6, "and 2 more"));
    assert!(failed_sub_tasks(&report(vec![task(root, None)], Vec::new()), None).is_empty());
}

#[test]
fn the_hint_names_what_really_sets_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("agenthost.toml"),
        "[grants.\"demo:x\"]\nlimits = { calls = 5, tokens = 900, timeout = \"9s\" }\n[run.limits]\ntokens = 800\n",
    )
    .unwrap();
    let config = Config::load(&Env::new(BTreeMap::new(), dir.path(), None)).unwrap();
    let limited = |failure: Failure, key: &str, value: &str| {
        let mut patch = LimitsPatch::default();
        patch.set(key, value).unwrap();
        let asked = config.limits().overridden_by(&patch);
        let policy = Limits {
            fuel: Some(4),
            ..Limits::none()
        };
        bound(&failure, "demo:x", &asked, &policy, &config)
    };
    let bound = |limit, key: &str, value: &str| limited(Failure::exhausted(limit, ""), key, value);
    let mut below = Failure::exhausted(LimitKind::Calls, "");
    below.owner = Some(LimitOwner::Task("root/2".to_owned()));
    let sub_task = Bound::SubTask("root/2".to_owned());
    assert_eq!(limited(below, "calls", "4"), sub_task, "--calls does not raise it");
    assert_eq!(bound(LimitKind::Calls, "calls", "10"), Bound::Grant("demo:x"));
    assert_eq!(bound(LimitKind::Calls, "calls", "5"), Bound::Grant("demo:x"));
    assert_eq!(bound(LimitKind::Calls, "calls", "4"), Bound::Task);
    assert_eq!(bound(LimitKind::Tokens, "tokens", "900"), Bound::Run);
    assert_eq!(bound(LimitKind::Tokens, "tokens", "700"), Bound::Task);
    assert_eq!(bound(LimitKind::Time, "timeout", "none"), Bound::Grant("demo:x"));
    assert_eq!(bound(LimitKind::Fuel, "fuel", "3"), Bound::Task);
    assert_eq!(bound(LimitKind::Fuel, "fuel", "5"), Bound::Policy);
    assert_eq!(bound(LimitKind::Size, "fuel", "5"), Bound::Task);
}
