//! Events of a run, as a program that embeds the host sees them.

use agenthost::limits::LimitsPatch;
use agenthost::run::Event;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use crate::{guest, load, machine};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_watcher_sees_all_and_is_told_of_the_end() {
    let host = machine().host();
    let plugin = load(&host, &guest("misbehaves")).await;
    let run = host.spawn(&plugin, &json!("ok"), &LimitsPatch::default()).unwrap();
    // However late it asks.
    run.report().await;
    let mut events = run.events();
    let started = events.recv().await.unwrap();
    assert!(matches!(&started, Event::Started { plugin, .. } if plugin == "guests:misbehaves@0.1.0"));
    assert!(matches!(events.recv().await.unwrap(), Event::Ended { .. }));
    assert_eq!(events.recv().await.unwrap_err(), RecvError::Closed);
    assert_eq!(run.events().recv().await.unwrap_err(), RecvError::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_watcher_sees_what_happens_from_then_on() {
    let host = machine().host();
    let plugin = load(&host, &guest("misbehaves")).await;
    let run = host.spawn(&plugin, &json!("loop"), &LimitsPatch::default()).unwrap();
    assert!(matches!(run.events().recv().await.unwrap(), Event::Started { .. }));
    let mut later = run.events();
    run.cancel();
    assert!(matches!(later.recv().await.unwrap(), Event::Ended { .. }));
    assert_eq!(later.recv().await.unwrap_err(), RecvError::Closed);
}
