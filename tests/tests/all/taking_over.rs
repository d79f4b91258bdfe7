//! One process at a time works on a run, and one writes to a file of results.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agenthost::config::Config;
use agenthost::error::ErrorClass;
use agenthost::journal::JournalStore as _;
use agenthost::journal::sqlite::Sqlite;
use agenthost::limits::LimitsPatch;
use agenthost::{FailedTasks, Host, Journal};
use agenthost_tests::env::TestEnv;
use agenthost_tests::server::{Reply, Request, Server};
use serde_json::{Value, json};

use crate::{guest, load, machine_for};

const ITEMS: usize = 60;
const WORKERS: usize = 4;

fn lines(machine: &TestEnv) -> Vec<Value> {
    let text = std::fs::read_to_string(machine.cwd().join("out.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn of_two_that_resume_a_killed_batch_one_goes_on() {
    for round in 0..10 {
        let server = Server::start(|request| Reply::text(request.prompt()).after(Duration::from_millis(15)));
        let machine = machine_for(&server.config());
        let items: String = (0..ITEMS).map(|n| format!("\"say {n}\"\n")).collect();
        machine.write("items.jsonl", items);
        let workers = WORKERS.to_string();
        let leaf = guest("leaf");
        let batch = ["batch", &leaf, "items.jsonl", "-o", "out.jsonl", "--workers", &workers];
        let running = machine.start(batch, None);
        server.wait_until("some items", |seen| seen.len() > 10 + round);
        running.kill();

        let two = [(); 2].map(|()| machine.start(["resume", "last"], None));
        let two = two.map(|running| running.finish());
        let mut codes = two.each_ref().map(|output| output.code);
        codes.sort_unstable();
        // One that came after the other's end has nothing left to do.
        let in_turn = two
            .iter()
            .any(|output| output.stderr.contains(&format!("{ITEMS} recorded before")));
        assert!(codes == [0, 2] || in_turn, "{}\n{}", two[0], two[1]);
        if let Some(refused) = two.iter().find(|output| output.code == 2) {
            assert!(
                refused.stderr.contains("is still going on, in process")
                    || refused.stderr.contains("another process writes its results there"),
                "{refused}"
            );
            assert!(refused.stderr.contains("hint: "), "{refused}");
        }
        let results = lines(&machine);
        assert_eq!(results.len(), ITEMS);
        for (n, line) in results.iter().enumerate() {
            assert_eq!(
                (&line["index"], &line["outcome"]["ok"]),
                (&json!(n), &json!(format!("say {n}")))
            );
        }
        let mut asked: BTreeMap<String, usize> = BTreeMap::new();
        for prompt in server.seen().iter().map(Request::prompt) {
            *asked.entry(prompt).or_default() += 1;
        }
        assert_eq!(asked.len(), ITEMS);
        // Requests in flight when the first was killed are sent once more, and no others.
        let twice = asked.values().filter(|count| **count > 1).count();
        assert!(asked.values().all(|count| *count <= 2) && twice <= WORKERS, "{asked:?}");
    }
}

#[test]
fn a_live_batch_and_its_file_are_left_alone() {
    let server = Server::start(|_| Reply::stall());
    let machine = machine_for(&server.config());
    machine.write("items.jsonl", "\"a\"\n\"b\"\n");
    machine.write("out.jsonl", "");
    let leaf = guest("leaf");
    let batch = ["batch", &leaf, "items.jsonl", "-o", "out.jsonl"];
    let mut running = machine.start(batch, None);
    server.wait_until("both", |seen| seen.len() == 2);
    let resumed = machine.run(["resume", "last"]);
    let said = resumed.error(2);
    assert!(
        said.contains(&format!("is still going on, in process {}", running.pid())),
        "{resumed}"
    );
    let other = machine.run(batch);
    assert!(
        other.error(2).contains("another process writes its results there"),
        "{other}"
    );
    assert!(running.is_running());
    assert_eq!(server.count(), 2, "neither asked for anything");
    running.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_cannot_resume_what_it_runs() {
    let server = Server::start(|request| match request.number {
        0 | 1 => Reply::stall(),
        _ => Reply::text("done"),
    });
    let machine = machine_for(&server.config());
    let journal = Arc::new(Sqlite::open(&machine.cwd().join("runs.db")).unwrap());
    // Two hosts of one process behave like one.
    let host = || {
        let config = Config::load(&machine.surroundings()).unwrap();
        let builder = Host::builder().config(config).cache_dir(machine.compiled());
        builder.journal(Journal::new(journal.clone())).build().unwrap()
    };
    let (host, other) = (host(), host());
    let none = LimitsPatch::default();
    let leaf = load(&host, &guest("leaf")).await;
    let run = host.run(&leaf, &json!("one")).limits(&none).start().unwrap();
    server.wait_until("the first", |seen| seen.len() == 1);
    let record = journal.find("last").unwrap();
    for host in [&host, &other] {
        let resumed = host.resume(&leaf, &record, FailedTasks::Keep);
        let error = resumed.limits(&none).start().await.err().unwrap();
        assert_eq!(error.class(), ErrorClass::Usage);
        assert!(
            error.message().contains("is still going on, in this process"),
            "{error}"
        );
    }
    run.cancel();
    run.report().await;
    assert!(
        journal.find("last").unwrap().end.is_some(),
        "the refusals changed nothing"
    );
    let again = host.resume(&leaf, &record, FailedTasks::Keep).limits(&none);
    let again = again.start().await.unwrap();
    assert!(again.id() == run.id());
    // Its call was canceled and is made again, which stalls once more.
    server.wait_until("the second", |seen| seen.len() == 2);
    again.cancel();
    again.report().await;
    let leaf = load(&other, &guest("leaf")).await;
    let third = other.resume(&leaf, &record, FailedTasks::Keep).limits(&none);
    let third = third.start().await.unwrap();
    assert_eq!(third.outcome().await.ok(), Some(&json!("done")));
}
