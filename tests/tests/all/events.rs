//! Events of a run, as a program that embeds the host sees them.

use agenthost::{Event, Events};
use serde_json::json;

use crate::{guest, load, machine};

/// Reads the events up to the end of the run, each as a word and the class of a failure.
async fn rest(mut events: Events) -> Vec<String> {
    let mut read = Vec::new();
    while let Some(event) = events.next().await {
        read.push(match event.unwrap() {
            Event::Started { plugin, .. } => format!("started {plugin}"),
            Event::Ended { report, .. } => match report.outcome.failure() {
                None => "ended".to_owned(),
                Some(failure) => format!("ended: {}", failure.class.name()),
            },
            other => format!("{other:?}"),
        });
    }
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn every_watcher_sees_all_and_is_told_of_the_end() {
    let host = machine().host();
    let plugin = load(&host, &guest("misbehaves")).await;
    let run = host.run(&plugin, &json!("ok")).start().unwrap();
    let early = run.events();
    run.report().await;
    let all = ["started guests:misbehaves@0.1.0", "ended"];
    // However late it asks, and however often.
    for events in [early, run.events(), run.events()] {
        assert_eq!(rest(events).await, all);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_of_a_running_task_starts_at_its_beginning_and_learns_how_it_ended() {
    let host = machine().host();
    let plugin = load(&host, &guest("misbehaves")).await;
    let run = host.run(&plugin, &json!("loop")).start().unwrap();
    let started = run.events().next().await.unwrap().unwrap();
    assert!(matches!(started, Event::Started { .. }));
    let later = run.events();
    run.cancel();
    let all = ["started guests:misbehaves@0.1.0", "ended: cancelled"];
    assert_eq!(rest(later).await, all);
}
