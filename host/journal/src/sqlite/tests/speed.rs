//! Measures speed, on request: `cargo test -p agenthost-journal --lib -- --ignored --nocapture sqlite::tests::speed`.

use std::io::Write as _;
use std::time::{Duration, Instant};

use super::*;

fn tell(what: &str, entries: u32, took: Duration) {
    let each = took / entries;
    writeln!(std::io::stderr(), "{what}: {entries} in {took:?}, {each:?} each").unwrap();
}

#[tokio::test]
#[ignore = "a measurement"]
async fn speed() {
    let (_directory, journal) = scratch();
    journal.all(small()).await.unwrap();

    let begun = Instant::now();
    for ask in 1..=100_000 {
        journal.note(turned("r", "root", Turn::Answer(ask)));
    }
    tell("notes, handed over", 100_000, begun.elapsed());
    journal.append(remained("r", "root", 1)).await.unwrap();
    tell("notes, written", 100_000, begun.elapsed());

    let before = journal.probe(|writer| writer.commits);
    let begun = Instant::now();
    journal
        .all((0..1000).map(|ask| turned("r", "root", Turn::Answer(ask))))
        .await
        .unwrap();
    tell("appends at once", 1000, begun.elapsed());
    let commits = journal.probe(|writer| writer.commits) - before;
    writeln!(std::io::stderr(), "in {commits} transactions").unwrap();

    let begun = Instant::now();
    for ask in 0..200 {
        journal.append(turned("r", "root", Turn::Answer(ask))).await.unwrap();
    }
    tell("appends one after the other", 200, begun.elapsed());

    let begun = Instant::now();
    for n in 0..5_000 {
        let task = format!("root/{n}");
        let body = "x".repeat(1000);
        for entry in [
            task_start("r", &task),
            call_start("r", &task, 0, 1),
            sent("r", &task, 0, 1),
            answered("r", &task, 0, Some(&body), 2),
            told("r", &task, 0, &body),
            turned("r", &task, Turn::Answer(0)),
        ] {
            journal.note(entry);
        }
        journal.note(task_ended("r", &task));
    }
    journal.append(remained("r", "root", 1)).await.unwrap();
    tell("entries of 5,000 tasks", 35_000, begun.elapsed());
    let begun = Instant::now();
    assert_eq!(journal.tasks("r", "root", None, 10_000).unwrap().len(), 5_000);
    tell("tasks read", 5_000, begun.elapsed());
}
