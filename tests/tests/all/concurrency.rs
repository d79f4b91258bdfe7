//! Many tasks at once, many calls in one task, and calls whose tasks no longer wait for them.

use std::time::{Duration, Instant};

use agenthost_tests::server::{Reply, Server};
use serde_json::json;

use crate::{counted, guest, load, machine_at, questions, run_json};

const LATENCY: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_tasks_overlap_and_a_trap_leaves_the_rest_untouched() {
    let server = Server::start(|request| Reply::text(request.prompt()).after(LATENCY));
    let machine = machine_at(&server);
    let host = machine.host();
    let (asks, misbehaves) = (
        load(&host, &guest("asks")).await,
        load(&host, &guest("misbehaves")).await,
    );
    let started = Instant::now();
    let mut crashes = Vec::new();
    let tasks: Vec<_> = (0..100)
        .map(|n| {
            if n % 10 == 0 {
                let crash = ["panic", "recurse", "exit"][n / 10 % 3];
                crashes.push(host.run(&misbehaves, &json!(crash)).start().unwrap());
            }
            host.run(&asks, &questions(&[&format!("task {n}")], "parallel"))
                .start()
                .unwrap()
        })
        .collect();
    for (n, task) in tasks.iter().enumerate() {
        assert_eq!(task.outcome().await.ok().unwrap()[0]["text"], format!("task {n}"));
    }
    for crash in &crashes {
        assert_eq!(crash.outcome().await.failure().unwrap().class.name(), "trapped");
    }
    // One after the other they would take as long as the sum of the latencies.
    let (elapsed, sum) = (started.elapsed(), LATENCY * 100);
    assert!(elapsed < sum / 4, "{elapsed:?} of {sum:?}");
    assert!(server.max_in_flight() >= 50, "{} at once", server.max_in_flight());
    assert_eq!(server.count(), 100);
}

#[test]
fn the_calls_of_one_task_overlap_and_keep_their_order() {
    let server = Server::start(|request| {
        // The first asked is the last answered.
        let late = 10 - request.prompt().len() as u32;
        Reply::text(request.prompt()).after(LATENCY + late * Duration::from_millis(20))
    });
    let machine = machine_at(&server);
    let prompts: Vec<_> = (1..=10).map(|n| "x".repeat(n)).collect();
    let input = questions(&prompts.iter().map(String::as_str).collect::<Vec<_>>(), "parallel");
    let document = machine.run(run_json(&guest("asks"), &input, &[])).json(0);
    for (n, prompt) in prompts.iter().enumerate() {
        assert_eq!(document["outcome"]["ok"][n]["text"], *prompt);
    }
    assert_eq!(server.max_in_flight(), 10);
}

#[test]
fn the_loser_of_a_race_is_cancelled_while_the_task_goes_on() {
    let server = Server::start(|request| match request.prompt().as_str() {
        "fast" => Reply::text("fast").after(Duration::from_millis(200)),
        "slow" => Reply::stall(),
        _ => Reply::text("after").after(Duration::from_millis(500)),
    });
    let machine = machine_at(&server);
    let races = guest("races");
    for (one, other) in [("fast", "slow"), ("slow", "fast")] {
        let before = server.count();
        let input = json!({"one": one, "other": other, "after": "after"});
        let document = machine.run(run_json(&races, &input, &[])).json(0);
        assert_eq!(document["outcome"]["ok"], json!({"winner": "fast", "after": "after"}));
        assert_eq!(document["spent"]["calls"], 3, "the loser was sent, so it counts");
        assert_eq!(document["models"][0]["abandoned"]["requests"], 1, "{document}");
        assert_eq!(
            counted(&document),
            2 * (10 + 5),
            "the loser is charged beside what was counted: {document}"
        );
        // The client may have its answer before the server has noted that it is out.
        server.wait_until("the end of all calls", |seen| {
            seen.iter().all(|request| request.ended.is_some())
        });
        let seen = server.seen().split_off(before);
        let of = |prompt: &str| seen.iter().find(|request| request.prompt() == prompt).unwrap();
        assert!(of("slow").closed_by_client && !of("fast").closed_by_client);
        assert!(
            of("slow").ended.unwrap() < of("after").ended.unwrap(),
            "it was closed long before the task ended"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_handle_is_dropped_stops_and_closes_its_connections() {
    let server = Server::scripted([Reply::stall()]);
    let machine = machine_at(&server);
    let host = machine.host();
    let asks = load(&host, &guest("asks")).await;
    let run = host.run(&asks, &questions(&["a", "b"], "parallel")).start().unwrap();
    server.wait_until("both calls", |seen| seen.len() == 2);
    drop(run);
    server.wait_until("the end of both", |seen| {
        seen.iter().all(|request| request.closed_by_client)
    });

    let run = host.run(&asks, &questions(&["a"], "parallel")).start().unwrap();
    server.wait_until("a third call", |seen| seen.len() == 3);
    run.cancel();
    let report = run.report().await;
    assert_eq!(report.outcome.failure().unwrap().class.name(), "cancelled");
    assert_eq!(report.spent.calls, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_computing_task_lets_others_run() {
    let server = Server::start(|request| Reply::text(request.prompt()));
    let machine = machine_at(&server);
    let host = machine.host();
    let (asks, misbehaves) = (
        load(&host, &guest("asks")).await,
        load(&host, &guest("misbehaves")).await,
    );
    // More of them than there are threads.
    let endless = crate::limits(&[("fuel", "none"), ("timeout", "60s")]);
    let loops: Vec<_> = (0..8)
        .map(|_| host.run(&misbehaves, &json!("loop")).limits(&endless).start().unwrap())
        .collect();
    let outcome = host
        .run(&asks, &questions(&["a", "b"], "sequential"))
        .start()
        .unwrap()
        .outcome()
        .await;
    assert_eq!(outcome.ok().unwrap()[1]["text"], "b");
    for run in &loops {
        run.cancel();
        assert_eq!(run.outcome().await.failure().unwrap().class.name(), "cancelled");
    }
}
