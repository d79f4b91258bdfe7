//! Run handles of a program that embeds the host: it starts runs, continues, and collects the results later.

use std::time::Duration;

use agenthost::run::Event;
use agenthost_tests::server::{Gate, Reply, Server};
use serde_json::json;

use crate::{guest, load, machine_for};

/// A server that holds every answer until the gate is open, and then repeats what it was asked.
fn held() -> (Server, Gate) {
    let gate = Gate::default();
    let own = gate.clone();
    (
        Server::start(move |request| Reply::text(request.prompt()).held(&own)),
        gate,
    )
}

#[tokio::test]
async fn spawning_waits_for_nothing_and_outcomes_can_be_gathered_twice() {
    let (server, gate) = held();
    let host = machine_for(&server.config()).host();
    let leaf = load(&host, &guest("leaf")).await;
    // On one thread, and not awaiting anything: no run can have got anywhere when the last is started.
    let runs: Vec<_> = (0..5)
        .map(|n| host.run(&leaf, &json!(format!("task {n}"))).start().unwrap())
        .collect();
    assert_eq!(server.count(), 0);
    // The caller does other things while all of them wait for their answers.
    while server.count() < 5 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(server.in_flight(), 5);
    gate.open();
    for _ in 0..2 {
        // Gathered in another order than started.
        for (n, run) in runs.iter().enumerate().rev() {
            assert_eq!(run.outcome().await.ok(), Some(&json!(format!("task {n}"))));
        }
    }
    let (one, other) = (runs[0].report().await, runs[0].report().await);
    assert!(std::sync::Arc::ptr_eq(&one, &other));
    // A cancel that comes later loses nothing.
    runs[0].cancel();
    assert_eq!(runs[0].outcome().await.ok(), Some(&json!("task 0")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_handle_cancels_and_a_detached_one_does_not() {
    let (server, gate) = held();
    let host = machine_for(&server.config()).host();
    let leaf = load(&host, &guest("leaf")).await;
    let [dropped, detached, cancelled] =
        ["dropped", "detached", "cancelled"].map(|prompt| host.run(&leaf, &json!(prompt)).start().unwrap());
    server.wait_until("all three calls", |seen| seen.len() == 3);
    drop(dropped);
    detached.detach();
    cancelled.cancel();
    assert_eq!(cancelled.outcome().await.failure().unwrap().class.name(), "cancelled");
    server.wait_until("two closed connections", |seen| {
        seen.iter().filter(|request| request.closed_by_client).count() == 2
    });
    gate.open();
    for request in server.ended() {
        assert_eq!(
            request.closed_by_client,
            request.prompt() != "detached",
            "{}",
            request.prompt()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_results_as_tasks_when_all_of_them_finish_at_once() {
    const TASKS: usize = 300;
    let gate = Gate::default();
    let own = gate.clone();
    let server = Server::start(move |request| {
        if request.number + 1 == TASKS {
            own.open();
        }
        Reply::text(request.prompt()).held(&own)
    });
    let host = machine_for(&server.config()).host();
    let leaf = load(&host, &guest("leaf")).await;
    let runs: Vec<_> = (0..TASKS)
        .map(|n| host.run(&leaf, &json!(format!("task {n}"))).start().unwrap())
        .collect();
    for (n, run) in runs.iter().enumerate() {
        assert_eq!(run.outcome().await.ok(), Some(&json!(format!("task {n}"))));
    }
    assert_eq!(server.max_in_flight(), TASKS);
}

#[tokio::test]
async fn the_events_of_a_run_tell_of_every_task() {
    let server = Server::start(|request| Reply::text(request.prompt()));
    let host = machine_for(&server.config()).host();
    let joins = load(&host, &guest("joins")).await;
    let plan = json!({"policy": "settled", "prompts": ["a", "b"]});
    let run = host.run(&joins, &plan).start().unwrap();
    let mut events = run.events();
    run.outcome().await;
    let (mut started, mut ended, mut calls) = (Vec::new(), Vec::new(), 0);
    while let Some(event) = events.next().await {
        let event = event.unwrap();
        let task = event.task().to_string();
        match event {
            Event::Started { .. } => started.push(task),
            Event::Ended { report, .. } => {
                assert!(report.outcome.ok().is_some());
                ended.push(task);
            }
            Event::CallSettled { .. } => calls += 1,
            _ => {}
        }
    }
    started.sort();
    assert_eq!(
        (started, calls),
        (vec!["root".to_owned(), "root/0".to_owned(), "root/1".to_owned()], 2)
    );
    assert_eq!((ended.len(), ended.last().unwrap().as_str()), (3, "root"));
}
