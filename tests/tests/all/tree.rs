//! The tree of tasks under one root: the place of each task, the limits of the whole tree, and how it ends together.

use std::time::Duration;

use agenthost::Host;
use agenthost_tests::server::{Gate, Reply, Server};
use serde_json::{Value, json};

use crate::{ends, guest, limits, load, machine_for, report, run_json};

fn plan(prompts: &[String]) -> Value {
    json!({"policy": "settled", "prompts": prompts})
}

fn prompts(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("prompt {n}")).collect()
}

fn echo() -> Server {
    Server::start(|request| Reply::text(request.prompt()))
}

/// The texts of the lanes of `joins`.
fn texts(report: &Value) -> Vec<&str> {
    let lanes = report["outcome"]["ok"]["lanes"]
        .as_array()
        .unwrap_or_else(|| panic!("{report}"));
    lanes.iter().map(|lane| lane["text"].as_str().unwrap()).collect()
}

#[test]
fn every_task_is_listed_with_its_place_its_parent_and_its_plugin() {
    let server = echo();
    let machine = machine_for(&server.config());
    let document = machine
        .run(run_json(&guest("relay"), &plan(&prompts(0..3)), &[]))
        .json(0);
    let tasks: Vec<_> = document["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| [&task["id"], &task["parent"], &task["plugin"]].map(|value| value.as_str().unwrap_or("-")))
        .collect();
    assert_eq!(
        tasks,
        [
            ["root", "-", "guests:relay@0.1.0"],
            ["root/0", "root", "guests:joins@0.1.0"],
            ["root/0/0", "root/0", "guests:leaf@0.1.0"],
            ["root/0/1", "root/0", "guests:leaf@0.1.0"],
            ["root/0/2", "root/0", "guests:leaf@0.1.0"],
        ]
    );
    assert_eq!(texts(&document), ["prompt 0", "prompt 1", "prompt 2"]);
    assert_eq!(
        (&document["spent"]["calls"], &document["tasks"][0]["spent"]["calls"]),
        (&json!(3), &json!(0))
    );
}

#[test]
fn a_task_too_deep_is_a_failure_that_its_parent_sees() {
    let server = echo();
    let machine = machine_for(&server.config());
    let run =
        |plugin: &str, depth: &str| machine.run(run_json(&guest(plugin), &plan(&prompts(0..2)), &["--depth", depth]));
    let document = run("relay", "1").json(0);
    assert!(texts(&document).iter().all(|text| text.contains("depth")), "{document}");
    assert_eq!(
        ends(&document),
        [("root", "ok"), ("root/0", "ok")],
        "what was refused is no task"
    );
    let document = run("relay", "0").json(1);
    assert_eq!(
        document["outcome"]["failure"]["error"],
        "Failure::Exhausted(Limit::Depth)"
    );
    assert_eq!(server.count(), 0);
    assert_eq!(texts(&run("relay", "2").json(0)), ["prompt 0", "prompt 1"]);
    assert_eq!(texts(&run("joins", "1").json(0)), ["prompt 0", "prompt 1"]);

    // An operator can set the same for all tasks of a plugin below the root.
    let grant = "[grants.\"guests:joins\"]\nmodels = [\"fast\"]\nlimits = { depth = 0 }\n";
    let machine = machine_for(&format!("{}{grant}", server.config()));
    let document = machine
        .run(run_json(&guest("relay"), &plan(&prompts(0..1)), &[]))
        .json(0);
    assert!(texts(&document)[0].contains("depth"), "{document}");
}

#[test]
fn sub_tasks_are_counted_over_the_whole_tree() {
    let server = echo();
    let machine = machine_for(&server.config());
    for (plugin, tasks, done) in [("joins", "3", 3), ("relay", "3", 2), ("joins", "0", 0)] {
        let before = server.count();
        let document = machine
            .run(run_json(&guest(plugin), &plan(&prompts(0..5)), &["--tasks", tasks]))
            .json(0);
        let texts = texts(&document);
        let expected: Vec<_> = prompts(0..done);
        assert_eq!(texts[..done], expected, "the first ones got through");
        assert!(texts[done..].iter().all(|text| text.contains("tasks")), "{texts:?}");
        assert_eq!((texts.len(), server.count() - before), (5, done));
        assert_eq!(
            document["tasks"].as_array().unwrap().len(),
            1 + tasks.parse::<usize>().unwrap()
        );
    }
}

/// The parent's tokens bound the sum of its children's: who finds them reserved waits, who finds them spent is refused.
#[tokio::test(flavor = "multi_thread")]
async fn the_tokens_of_the_parent_bound_its_children() {
    let all = prompts(0..20);
    for (input, output, enough) in [(10, 5, true), (70, 80, false)] {
        let server = Server::start(move |request| {
            // No vendor gives more than it is asked for.
            let output = request.max_tokens().unwrap().min(output);
            Reply::text(request.prompt())
                .usage(input, output)
                .after(Duration::from_millis(30))
        });
        let host = machine_for(&server.config()).host();
        let joins = load(&host, &guest("joins")).await;
        let report = report(&host, &joins, &plan(&all), &[("tokens", "1000")]).await;
        let texts = texts(&report);
        let done = texts.iter().filter(|text| text.starts_with("prompt")).count();
        let refused = texts.iter().filter(|text| text.contains("tokens")).count();
        assert_eq!(done + refused, 20, "{texts:?}");
        // About 170 tokens are reserved for a call, so five of them fit at once.
        assert!(
            (2..=5).contains(&server.max_in_flight()),
            "{} at once",
            server.max_in_flight()
        );
        server.ended();
        let (counted_in, counted_out) = server.counted();
        assert!(counted_in + counted_out <= 1000);
        assert_eq!(
            (&report["spent"]["input_tokens"], &report["spent"]["output_tokens"]),
            (&json!(counted_in), &json!(counted_out))
        );
        match enough {
            true => assert_eq!(done, 20, "whoever waits gets what the others leave"),
            false => assert!((5..=8).contains(&done), "{done} calls of 150 tokens"),
        }
    }
}

/// A server that never answers, and `relay` over two tasks that wait for it.
async fn stalled() -> (Server, Host, agenthost::Plugin) {
    let server = Server::scripted([Reply::stall()]);
    let host = machine_for(&server.config()).host();
    let relay = load(&host, &guest("relay")).await;
    (server, host, relay)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_takes_everything_below_it_along() {
    let (server, host, relay) = stalled().await;
    let run = host
        .run(&relay, &plan(&prompts(0..4)))
        .limits(limits(&[]))
        .start()
        .unwrap();
    server.wait_until("four calls", |seen| seen.len() == 4);
    run.cancel();
    let document = serde_json::to_value(&*run.report().await).unwrap();
    assert_eq!(ends(&document).len(), 6);
    assert!(ends(&document).iter().all(|end| end.1 == "cancelled"), "{document}");
    server.wait_until("four closed connections", |seen| {
        seen.iter().all(|request| request.closed_by_client)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_out_of_time_takes_its_children_along() {
    let (server, host, relay) = stalled().await;
    let document = report(&host, &relay, &plan(&prompts(0..4)), &[("timeout", "700ms")]).await;
    assert_eq!(document["outcome"]["failure"]["limit"], "time");
    assert_eq!(ends(&document).len(), 6);
    assert!(
        ends(&document)
            .iter()
            .all(|end| ["exhausted", "cancelled"].contains(&end.1)),
        "{document}"
    );
    server.wait_until("four closed connections", |seen| {
        seen.len() == 4 && seen.iter().all(|request| request.closed_by_client)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_crashes_takes_its_children_along() {
    let server = Server::start(|request| match request.prompt().as_str() {
        "first" => Reply::text("first").after(Duration::from_millis(200)),
        _ => Reply::stall(),
    });
    let host = machine_for(&server.config()).host();
    let relay = load(&host, &guest("relay")).await;
    let plan = json!({"policy": "crash", "prompts": ["first", "second", "third"]});
    let document = report(&host, &relay, &plan, &[]).await;
    // The crash is a failure that the parent of the parent sees, as a value.
    let error = document["outcome"]["failure"]["error"].as_str().unwrap();
    assert!(
        error.starts_with("Failure::Trapped(") && error.contains("as asked"),
        "{error}"
    );
    assert_eq!(
        ends(&document),
        [
            ("root", "failed"),
            ("root/0", "trapped"),
            ("root/0/0", "ok"),
            ("root/0/1", "cancelled"),
            ("root/0/2", "cancelled")
        ]
    );
    server.wait_until("two closed connections", |seen| {
        seen.iter().filter(|request| request.closed_by_client).count() == 2
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_returns_takes_its_children_along() {
    let host = machine_for("").host();
    let starts = load(&host, &guest("starts")).await;
    let plan = json!({"behaviours": ["loop", "ok", "loop"], "in-turn": false, "first-only": true});
    let document = report(&host, &starts, &plan, &[("fuel", "none"), ("timeout", "60s")]).await;
    assert_eq!(document["outcome"]["ok"], json!(["ok: fine"]), "{document}");
    assert_eq!(
        ends(&document),
        [
            ("root", "ok"),
            ("root/0", "cancelled"),
            ("root/1", "ok"),
            ("root/2", "cancelled")
        ]
    );
}

/// One child spins; its siblings and its parent continue.
#[tokio::test(flavor = "multi_thread")]
async fn a_spinning_child_costs_its_siblings_nothing() {
    let grant = "[grants.\"guests:misbehaves\"]\nmodels = []\nlimits = { fuel = \"400M\" }\n";
    let host = machine_for(grant).host();
    let starts = load(&host, &guest("starts")).await;
    let behaviours = ["ok", "loop", "ok", "panic", "ok", "fail"];
    for in_turn in [false, true] {
        let plan = json!({"behaviours": behaviours, "in-turn": in_turn, "first-only": false});
        let document = report(&host, &starts, &plan, &[("fuel", "1G")]).await;
        assert_eq!(
            ends(&document).iter().map(|end| end.1).collect::<Vec<_>>(),
            ["ok", "ok", "exhausted", "ok", "trapped", "ok", "failed"],
            "{document}"
        );
        assert_eq!(document["tasks"][2]["spent"]["fuel"], 400_000_000);
        let texts = document["outcome"]["ok"].as_array().unwrap();
        let starts = [
            "ok: fine",
            "Failure::Exhausted(Limit::Fuel)",
            "ok: fine",
            "Failure::Trapped(",
            "ok: fine",
            "Failure::Failed(\"as asked\")",
        ];
        for (text, start) in texts.iter().zip(starts) {
            assert!(text.as_str().unwrap().starts_with(start), "{text}");
        }
    }
}

/// The children's use counts for the parent: together never more than its limit.
#[tokio::test(flavor = "multi_thread")]
async fn the_fuel_of_the_parent_bounds_all_below_it() {
    let host = machine_for("").host();
    let starts = load(&host, &guest("starts")).await;
    let plan = json!({"behaviours": ["loop", "loop", "loop", "loop"], "in-turn": false, "first-only": false});
    let document = report(&host, &starts, &plan, &[("fuel", "2G")]).await;
    assert!(
        document["spent"]["fuel"].as_u64().unwrap() <= 2_000_000_000,
        "{document}"
    );
    assert!(
        ends(&document)[1..].iter().all(|end| end.1 == "exhausted"),
        "{document}"
    );
}

/// A thousand sub-tasks, more than there is room for; each answer of a hundred comes in the same instant.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_sub_tasks_that_finish_in_the_same_instant_lose_nothing() {
    const TASKS: usize = 1000;
    const WAVE: usize = 100;
    let gates: Vec<Gate> = std::iter::repeat_with(Gate::default).take(TASKS / WAVE).collect();
    let server = Server::start(move |request| {
        let gate = &gates[request.number / WAVE];
        if request.number % WAVE == WAVE - 1 {
            gate.open();
        }
        Reply::text(request.prompt()).held(gate)
    });
    let host = machine_for(&format!("{}[run]\nmax-concurrent-tasks = 160\n", server.config())).host();
    let joins = load(&host, &guest("joins")).await;
    let all = prompts(0..TASKS);
    let report = report(
        &host,
        &joins,
        &plan(&all),
        &[("tokens", "none"), ("calls", "none"), ("tasks", "none")],
    )
    .await;
    assert_eq!(texts(&report), all);
    assert_eq!((ends(&report).len(), server.count()), (TASKS + 1, TASKS));
    assert!(ends(&report).iter().all(|end| end.1 == "ok"));
    for (n, task) in report["tasks"].as_array().unwrap()[1..].iter().enumerate() {
        assert_eq!(
            (&task["id"], &task["outcome"]["ok"]),
            (&json!(format!("root/{n}")), &json!(format!("prompt {n}")))
        );
    }
    let most = server.max_in_flight();
    assert!((WAVE..160).contains(&most), "{most} at once");
    assert_eq!(report["spent"]["input_tokens"], 10 * TASKS);
}

/// The same with nothing to wait for: a thousand sub-tasks that are done as soon as they run.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_sub_tasks_that_wait_for_nothing_lose_nothing() {
    let host = machine_for("").host();
    let joins = load(&host, &guest("joins")).await;
    let all: Vec<_> = (0..1000).map(|n| format!("={n}")).collect();
    let report = report(&host, &joins, &plan(&all), &[("tasks", "1000")]).await;
    assert!(
        texts(&report)
            .iter()
            .enumerate()
            .all(|(n, text)| *text == n.to_string())
    );
    assert_eq!(ends(&report).len(), 1001);
}

/// The number of cancels in `random_cancels_leave_nothing_behind`, unless `AGENTHOST_SOAK` overrides it.
const CANCELS: usize = 3000;

#[tokio::test(flavor = "multi_thread")]
async fn random_cancels_leave_nothing_behind() {
    const AT_ONCE: usize = 12;
    let gate = Gate::default();
    let own = gate.clone();
    let server = Server::start(move |request| match request.prompt().as_str() {
        "held" => Reply::text("held").held(&own),
        _ => Reply::text("x").after(Duration::from_micros(random(request.number as u64) % 3_000)),
    });
    // Twelve rounds of three tasks do not fit: cancels also hit tasks that wait for room.
    let host = machine_for(&format!("{}[run]\nmax-concurrent-tasks = 40\n", server.config())).host();
    let joins = load(&host, &guest("joins")).await;
    let leaf = load(&host, &guest("leaf")).await;
    let cancels = std::env::var("AGENTHOST_SOAK").map_or(CANCELS, |count| count.parse().unwrap());

    let workers = (0..AT_ONCE).map(|worker| {
        let (host, joins) = (host.clone(), joins.clone());
        tokio::spawn(async move {
            let plan = json!({"policy": "first", "prompts": ["a", "b", "c"], "rounds": 2, "after": "d"});
            let (mut cancelled, mut done) = (0, 0);
            for n in (worker..cancels).step_by(AT_ONCE) {
                let run = host.run(&joins, &plan).limits(limits(&[])).start().unwrap();
                tokio::time::sleep(Duration::from_micros(random(n as u64) % 25_000)).await;
                if n % 4 == 0 {
                    drop(run);
                    continue;
                }
                run.cancel();
                let report = run.report().await;
                match report.outcome.failure() {
                    Some(failure) => {
                        assert_eq!(failure.class.name(), "cancelled", "{failure:?}");
                        cancelled += 1;
                    }
                    None => done += 1,
                }
                // Every started task is in the report, below a parent that is in the report too.
                let ids: Vec<_> = report.tasks.iter().map(|task| &task.id).collect();
                assert!(
                    report
                        .tasks
                        .iter()
                        .all(|task| task.parent.as_ref().is_none_or(|parent| ids.contains(&parent)))
                );
                assert_eq!(ids.iter().filter(|id| id.to_string() == "root").count(), 1);
            }
            (cancelled, done)
        })
    });
    let (mut cancelled, mut done) = (0, 0);
    for worker in workers.collect::<Vec<_>>() {
        let (more_cancelled, more_done) = worker.await.unwrap();
        (cancelled, done) = (cancelled + more_cancelled, done + more_done);
    }
    assert!(cancelled > cancels / 10, "{cancelled} cancelled, {done} done before");
    server.ended();

    // All the room is there: 26 of 40 places at the root, and 2 for the level below it.
    let before = server.count();
    let roots: Vec<_> = (0..25)
        .map(|_| host.run(&leaf, &json!("held")).limits(limits(&[])).start().unwrap())
        .collect();
    let plan = json!({"policy": "settled", "prompts": ["held", "held"]});
    let parent = host.run(&joins, &plan).limits(limits(&[])).start().unwrap();
    server.wait_until("27 calls at once", |seen| seen.len() == before + 27);
    assert_eq!(server.in_flight(), 27);
    gate.open();
    for run in &roots {
        assert_eq!(run.outcome().await.ok(), Some(&json!("held")));
    }
    assert!(parent.outcome().await.ok().is_some());
}

/// Numbers that look random and are the same in each run.
fn random(n: u64) -> u64 {
    let mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20
}
