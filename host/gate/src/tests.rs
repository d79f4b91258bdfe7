use std::time::Duration;

use super::*;
use agenthost_core::llm::{Counting, ProviderErrorKind, Quota, RateLimit, Usage};

fn line(name: &str) -> FairnessKey {
    name.into()
}

fn ticket<'a>(model: &'a str, line: &'a FairnessKey) -> Ticket<'a> {
    Ticket {
        model,
        line,
        again: false,
        input: 100,
        output: 100,
        prefix: None,
        deadline: None,
    }
}

fn reply(quota: Option<Quota>) -> Reply {
    let usage = Usage {
        input: 100,
        output: 10,
        ..Usage::default()
    };
    Reply::of(Vec::new())
        .with_model("m")
        .with_usage(usage)
        .with_quota(quota.map(Box::new))
}

fn refused(kind: ProviderErrorKind, retry_after: Option<Duration>) -> ProviderError {
    ProviderError::new(kind, "no").with_retry_after(retry_after)
}

fn requests(limit: u64, remaining: u64) -> Quota {
    Quota {
        requests: Some(RateLimit {
            limit,
            remaining,
            reset: None,
        }),
        ..Quota::default()
    }
}

/// Returns whether the future is still pending after everything that could progress has done so.
async fn waits<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
    tokio::time::timeout(Duration::from_millis(1), future).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn four_go_at_first_and_each_answer_lets_the_next_one_in() {
    let (gate, line) = (Gate::new(Settings::default()), line("a"));
    let mut permits = Vec::new();
    for _ in 0..4 {
        permits.push(gate.admit(ticket("m", &line)).await.unwrap());
    }
    let mut fifth = Box::pin(gate.admit(ticket("m", &line)));
    assert!(waits(&mut fifth).await);
    // Another model of the same provider has a concurrency limit of its own.
    drop(gate.admit(ticket("other", &line)).await.unwrap());
    permits.pop().unwrap().settle(Ok(&reply(None)));
    let permit = fifth.await.unwrap();
    assert_eq!(permit.met(), [WaitReason::Concurrency]);
    assert_eq!(gate.load("m"), (4, 0));
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_was_granted_and_never_received_is_given_back() {
    let (gate, line) = (Gate::new(Settings::default()), line("a"));
    let mut permits = Vec::new();
    for _ in 0..4 {
        permits.push(gate.admit(ticket("m", &line)).await.unwrap());
    }
    let mut fifth = Box::pin(gate.admit(ticket("m", &line)));
    assert!(waits(&mut fifth).await);
    // The fifth is granted, and dropped before it is polled again.
    drop(permits.pop());
    assert_eq!(gate.load("m"), (4, 0));
    drop(fifth);
    assert_eq!(gate.load("m"), (3, 0));
    drop(permits);
    assert_eq!(gate.pressure(), Pressure::default());
}

/// A gate that lets one request through at a time.
fn one_at_a_time() -> Gate {
    Gate::new(Settings {
        max_concurrency: Some(1),
        ..Settings::default()
    })
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_or_is_dropped_leaves_nothing_behind() {
    let (gate, line) = (one_at_a_time(), line("a"));
    let first = gate.admit(ticket("m", &line)).await.unwrap();
    let mut second = Box::pin(gate.admit(ticket("m", &line)));
    let mut third = Box::pin(gate.admit(ticket("m", &line)));
    assert!(waits(&mut second).await && waits(&mut third).await);
    assert_eq!(gate.load("m"), (1, 2));
    drop(second);
    assert_eq!(gate.load("m"), (1, 1));
    // Dropping a permit after the request was sent frees its slot, too.
    drop(first);
    let third = third.await.unwrap();
    assert_eq!(gate.load("m"), (1, 0));
    drop(third);
    assert_eq!(gate.load("m"), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_given_up_before_it_is_taken_lets_the_next_one_in() {
    let (gate, line) = (one_at_a_time(), line("a"));
    let first = gate.admit(ticket("m", &line)).await.unwrap();
    let mut second = Box::pin(gate.admit(ticket("m", &line)));
    let mut third = Box::pin(gate.admit(ticket("m", &line)));
    assert!(waits(&mut second).await && waits(&mut third).await);
    // The reply to the first one admits the second one, which is dropped at the same moment because it lost a race.
    first.settle(Ok(&reply(None)));
    assert_eq!(gate.load("m"), (1, 1));
    drop(second);
    assert_eq!(gate.load("m"), (1, 0));
    drop(third.await.unwrap());
    assert_eq!(gate.load("m"), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_large_fan_out_does_not_starve_another_run() {
    let gate = one_at_a_time();
    let (large, small) = (line("large"), line("small"));
    let held = gate.admit(ticket("m", &large)).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for (name, line, count) in [("large", &large, 100), ("small", &small, 2)] {
        for n in 0..count {
            let (gate, line, order) = (gate.clone(), FairnessKey::clone(line), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                let permit = gate.admit(ticket("m", &line)).await.unwrap();
                order.lock().unwrap().push((name, n));
                permit.settle(Ok(&reply(None)));
            }));
            tokio::task::yield_now().await;
        }
    }
    held.settle(Ok(&reply(None)));
    for task in tasks {
        task.await.unwrap();
    }
    let order = order.lock().unwrap();
    let at = |wanted| order.iter().position(|served| *served == wanted).unwrap();
    assert!(at(("small", 0)) <= 1 && at(("small", 1)) <= 3, "{order:?}");
    let large: Vec<_> = order
        .iter()
        .filter(|(name, _)| *name == "large")
        .map(|(_, n)| *n)
        .collect();
    assert!(large.is_sorted(), "first come, first served within a run");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_before_retry_after_and_then_one_goes_ahead() {
    let (gate, line) = (Gate::new(Settings::default()), line("a"));
    let first = gate.admit(ticket("m", &line)).await.unwrap();
    first.settle(Err(&refused(
        ProviderErrorKind::RateLimited,
        Some(Duration::from_secs(7)),
    )));
    let told = Instant::now();
    let probe = gate.admit(ticket("m", &line)).await.unwrap();
    assert!(told.elapsed() >= Duration::from_secs(7), "{:?}", told.elapsed());
    assert!(told.elapsed() < Duration::from_secs(8), "{:?}", told.elapsed());
    assert_eq!(probe.met(), [WaitReason::RetryAfter]);
    // While the limit is unknown, the next one comes some time after the first one.
    let mut next = Box::pin(gate.admit(ticket("m", &line)));
    assert!(waits(&mut next).await);
    probe.settle(Ok(&reply(None)));
    next.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_gone_is_asked_by_one_request_at_a_time() {
    let (gate, line) = (Gate::new(Settings::default()), line("a"));
    gate.admit(ticket("m", &line)).await.unwrap().settle(Ok(&reply(None)));
    let permits = [
        gate.admit(ticket("m", &line)).await.unwrap(),
        gate.admit(ticket("m", &line)).await.unwrap(),
    ];
    let lost = ProviderError::new(ProviderErrorKind::Connection, "connection refused");
    for permit in permits {
        permit.settle(Err(&lost));
    }
    let begun = Instant::now();
    let probe = gate.admit(ticket("m", &line)).await.unwrap();
    assert_eq!(probe.met(), [WaitReason::Outage]);
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
    let mut next = Box::pin(gate.admit(ticket("m", &line)));
    assert!(waits(&mut next).await);
    let decision = gate.judge(
        "m",
        &lost,
        Attempt {
            number: 9,
            ..Attempt::default()
        },
    );
    assert!(matches!(decision, RetryDecision::AgainUncounted(_)), "{decision:?}");
    // All others go on with the first answer.
    probe.settle(Ok(&reply(None)));
    let next = next.await.unwrap();
    assert_eq!(next.met(), [WaitReason::Outage]);
    next.settle(Ok(&reply(None)));
    let decision = gate.judge(
        "m",
        &lost,
        Attempt {
            number: 9,
            ..Attempt::default()
        },
    );
    assert!(matches!(decision, RetryDecision::Final(_)), "{decision:?}");
}

#[tokio::test(start_paused = true)]
async fn a_time_that_any_passing_failure_names_is_kept() {
    for kind in [
        ProviderErrorKind::Server,
        ProviderErrorKind::Overloaded,
        ProviderErrorKind::RateLimited,
    ] {
        let (gate, line) = (Gate::new(Settings::default()), line("a"));
        let first = gate.admit(ticket("m", &line)).await.unwrap();
        first.settle(Err(&refused(kind, Some(Duration::from_secs(20)))));
        let told = Instant::now();
        drop(gate.admit(ticket("m", &line)).await.unwrap());
        assert!(
            told.elapsed() >= Duration::from_secs(20),
            "{kind:?}: {:?}",
            told.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_would_come_after_the_deadline_is_refused_at_once() {
    let (gate, line) = (Gate::new(Settings::default()), line("a"));
    let first = gate.admit(ticket("m", &line)).await.unwrap();
    first.settle(Err(&refused(
        ProviderErrorKind::RateLimited,
        Some(Duration::from_secs(60)),
    )));
    let asked = Instant::now();
    let late = Ticket {
        deadline: Some(Instant::now() + Duration::from_secs(30)),
        ..ticket("m", &line)
    };
    let late = gate.admit(late).await.unwrap_err();
    assert_eq!(late.met, WaitReason::RetryAfter);
    assert!(asked.elapsed() < Duration::from_millis(10), "it need not wait to know");
    assert!(
        late.to_string().contains("in 61 s") || late.to_string().contains("in 60 s"),
        "{late}"
    );
    assert_eq!(gate.load("m"), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_headers_leave_is_used_up_and_no_more() {
    let (gate, line) = (Gate::new(Settings::default()), line("a"));
    let first = gate.admit(ticket("m", &line)).await.unwrap();
    first.settle(Ok(&reply(Some(requests(60, 2)))));
    let begun = Instant::now();
    let mut sent = Vec::new();
    for _ in 0..4 {
        let permit = gate.admit(ticket("m", &line)).await.unwrap();
        sent.push(begun.elapsed().as_secs());
        permit.settle(Ok(&reply(None)));
    }
    assert_eq!(sent, [0, 0, 1, 2], "two are left, and then one a second");
}

#[tokio::test(start_paused = true)]
async fn the_operators_rate_holds_for_all_models_together() {
    let settings = Settings {
        requests_per_minute: Some(60),
        ..Settings::default()
    };
    let (gate, line) = (Gate::new(settings), line("a"));
    let begun = Instant::now();
    for n in 0..16 {
        let model = if n % 2 == 0 { "one" } else { "other" };
        gate.admit(ticket(model, &line)).await.unwrap().settle(Ok(&reply(None)));
    }
    // Six immediately, and ten at one per second.
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn tokens_are_counted_as_the_service_counts_them() {
    async fn seconds(counting: Counting) -> u64 {
        let settings = Settings {
            tokens_per_minute: Some(6_000),
            counting,
            ..Settings::default()
        };
        let (gate, line) = (Gate::new(settings), line("a"));
        let begun = Instant::now();
        for _ in 0..10 {
            let ticket = Ticket {
                input: 300,
                output: 1_000,
                ..ticket("m", &line)
            };
            gate.admit(ticket).await.unwrap().settle(Ok(&reply(None)));
        }
        begun.elapsed().as_secs()
    }
    // Ten replies of 110 tokens, with 600 available at once and 100 per second: the amounts taken ahead are corrected.
    let used = seconds(Counting::AsUsed).await;
    assert!((4..=10).contains(&used), "{used}");
    // Ten requests of 1,000 tokens.
    let ahead = seconds(Counting::UpFront).await;
    assert!((85..=95).contains(&ahead), "{ahead}");
}

#[tokio::test(start_paused = true)]
async fn two_processes_on_one_key_keep_one_bucket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.json");
    // Two gates with one file behave like two processes.
    let gates = [0, 1].map(|_| {
        Gate::new(Settings {
            requests_per_minute: Some(60),
            share: Some(path.clone()),
            ..Settings::default()
        })
    });
    let line = line("a");
    let begun = Instant::now();
    for n in 0..16 {
        let gate = &gates[n % 2];
        gate.admit(ticket("m", &line)).await.unwrap().settle(Ok(&reply(None)));
    }
    // The clocks of the gates differ by the real time between their creation.
    assert_eq!(begun.elapsed().as_secs_f64().round(), 10.0);
    // A `retry-after` that one receives applies to the other.
    let told = gates[0].admit(ticket("m", &line)).await.unwrap();
    told.settle(Err(&refused(
        ProviderErrorKind::RateLimited,
        Some(Duration::from_secs(30)),
    )));
    let told = Instant::now();
    gates[1]
        .admit(ticket("m", &line))
        .await
        .unwrap()
        .settle(Ok(&reply(None)));
    assert!(told.elapsed() >= Duration::from_secs(30));
    // It also applies to a gate that is created later.
    let told = gates[0].admit(ticket("m", &line)).await.unwrap();
    told.settle(Err(&refused(
        ProviderErrorKind::RateLimited,
        Some(Duration::from_secs(30)),
    )));
    let told = Instant::now();
    let late = Gate::new(Settings {
        share: Some(path.clone()),
        ..Settings::default()
    });
    late.admit(ticket("m", &line)).await.unwrap().settle(Ok(&reply(None)));
    assert!(told.elapsed() >= Duration::from_secs(30));
    let shown = inspect(dir.path(), gates[0].inner.clock.now());
    assert_eq!(shown[0].live.len(), 1);
    for gate in gates.iter().chain([&late]) {
        gate.flush().await;
    }
    drop((gates, late));
    assert!(inspect(dir.path(), 0)[0].live.is_empty(), "who ends says so");
}

/// A gate whose state is in a file, and the file as another process sees it.
fn shared(dir: &tempfile::TempDir) -> (Gate, share::Share) {
    let path = dir.path().join("key.json");
    let settings = Settings {
        share: Some(path.clone()),
        ..Settings::default()
    };
    let mut gate = Gate::new(settings);
    // Longer than any test keeps the lock, on the busiest machine.
    let own = Arc::get_mut(&mut gate.inner).unwrap().share.as_mut().unwrap();
    own.patience = Duration::from_secs(600);
    (gate, share::Share::new(path))
}

#[tokio::test]
async fn a_foreign_lock_holder_delays_no_other_work() {
    let dir = tempfile::tempdir().unwrap();
    let ((gate, share), line) = (shared(&dir), line("a"));
    let first = gate.admit(ticket("m", &line)).await.unwrap();
    let held = share.open().unwrap();

    // Each of these needs the file, and none of them waits for it on this thread, the runtime's only one.
    let order = Mutex::new(Vec::new());
    let admitted = async {
        let second = gate.admit(ticket("m", &line)).await.unwrap();
        order.lock().unwrap().push("admitted");
        second
    };
    let work = async {
        first.settle(Ok(&reply(None)));
        drop(gate.admit(ticket("other", &line)));
        assert_eq!(gate.load("m"), (0, 1), "a slot is free at once");
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        // Long enough to show in milliseconds.
        tokio::time::sleep(Duration::from_millis(5)).await;
        order.lock().unwrap().push("worked");
        drop(held);
    };
    let (second, ()) = tokio::join!(admitted, work);
    assert_eq!(*order.lock().unwrap(), ["worked", "admitted"]);
    assert_eq!(second.waited(), Duration::ZERO, "no limit made it wait");
    drop(second);
    gate.flush().await;
    assert_eq!(gate.pressure(), Pressure::default());
}

#[tokio::test(start_paused = true)]
async fn what_is_settled_while_the_file_is_locked_is_in_it_after_a_flush() {
    let dir = tempfile::tempdir().unwrap();
    let ((gate, share), line) = (shared(&dir), line("a"));
    let permit = gate.admit(ticket("m", &line)).await.unwrap();
    gate.flush().await;
    let before = share.open().unwrap();
    let paused = refused(ProviderErrorKind::RateLimited, Some(Duration::from_secs(30)));
    permit.settle(Err(&paused));
    drop(before);
    gate.flush().await;
    let now = gate.inner.clock.now();
    let (locked, book) = share.open().unwrap();
    assert!(book.models["m"].paused_until >= now + 30_000, "{book:?}");
    drop(locked);

    // A runtime that ends before the exchange has begun loses nothing, either.
    let other = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let inside = gate.clone();
    std::thread::spawn(move || {
        other.block_on(async {
            let line = "b".into();
            let late = Ticket {
                deadline: Some(Instant::now()),
                ..ticket("new", &line)
            };
            let _ = tokio::time::timeout(Duration::ZERO, inside.admit(late)).await;
        });
        other.shutdown_background();
    })
    .join()
    .unwrap();
    gate.flush().await;
    assert!(share.open().unwrap().1.models.contains_key("new"));
}

#[test]
fn the_last_handle_does_not_wait_for_a_foreign_lock_holder() {
    let dir = tempfile::tempdir().unwrap();
    let (gate, share) = shared(&dir);
    let line = line("a");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        drop(gate.admit(ticket("m", &line)).await.unwrap());
        gate.flush().await;
    });
    let (held, book) = share.open().unwrap();
    assert_eq!(book.holders.len(), 1);
    // This would hang if it waited here.
    drop(gate);
    drop(held);
    let gone = || share.open().is_some_and(|(_, book)| book.holders.is_empty());
    while !gone() {
        std::thread::yield_now();
    }
}
