use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn limits(tokens: Option<u64>, cost: Option<u64>, calls: Option<u64>) -> Limits {
    Limits {
        tokens,
        cost: cost.map(Usd::from_pico),
        calls,
        ..Limits::none()
    }
}

fn tokens(n: u64) -> Limits {
    limits(Some(n), None, None)
}

fn want(input: u64, output: u64) -> Want<'static> {
    Want {
        input,
        output,
        cost: None,
        call: true,
    }
}

fn used(input: u64, output: u64) -> Used {
    Used {
        input,
        output,
        cost: Some(Usd::ZERO),
        ..Used::default()
    }
}

/// One pico-dollar for a token of input, three for one of output.
fn price(input: u64, output: u64) -> Usd {
    Usd::from_pico(input.saturating_add(output.saturating_mul(3)))
}

#[test]
fn output_is_clamped_to_what_is_left_and_refused_when_that_is_nothing() {
    let account = Account::root(&tokens(1_000));
    let first = account.try_reserve(&want(300, 5_000)).unwrap().unwrap();
    assert_eq!(first.output(), 700);
    assert_eq!(account.left().0, Some(0));
    first.settle(used(300, 100));
    assert_eq!(account.left().0, Some(600));
    assert_eq!(
        account.try_reserve(&want(590, 100)).unwrap_err().limit,
        LimitKind::Tokens
    );
    assert_eq!(
        account.try_reserve(&want(584, 100)).unwrap().unwrap().output(),
        MIN_OUTPUT_TOKENS
    );
    assert_eq!(account.try_reserve(&want(595, 3)).unwrap().unwrap().output(), 3);
    assert_eq!(account.spent().calls, 1);
}

#[test]
fn output_is_clamped_to_what_the_money_allows() {
    let account = Account::root(&limits(None, Some(1_000), None));
    let want = |input, output| Want {
        input,
        output,
        cost: Some(&price),
        call: true,
    };
    let first = account.try_reserve(&want(100, 5_000)).unwrap().unwrap();
    assert_eq!(first.output(), 300);
    first.settle(Used {
        cost: Some(Usd::from_pico(700)),
        ..used(100, 200)
    });
    assert_eq!(account.try_reserve(&want(400, 50)).unwrap_err().limit, LimitKind::Cost);
    assert!(account.has_cost_limit());
    assert!(account.child(&Limits::none()).has_cost_limit());
}

#[test]
fn a_limit_bounds_everything_below_it() {
    let run = Account::root(&limits(Some(1_000), None, Some(3)));
    let (a, b) = (run.child(&tokens(800)), run.child(&Limits::none()));
    let held = a.try_reserve(&want(500, 300)).unwrap().unwrap();
    assert!(
        b.try_reserve(&want(100, 200)).unwrap().is_none(),
        "would fit once `a` settles"
    );
    assert_eq!(b.left(), (Some(200), None, Some(2)));
    held.settle(used(500, 100));
    let held = b.try_reserve(&want(100, 200)).unwrap().unwrap();
    assert_eq!(
        a.try_reserve(&want(190, 10)).unwrap().map(|r| r.output()),
        None,
        "the run has 100 left for now"
    );
    drop(held);
    assert_eq!(run.in_flight(), (0, 0));
    b.try_reserve(&want(1, 1)).unwrap().unwrap().settle(used(1, 1));
    a.try_reserve(&want(1, 1)).unwrap().unwrap().settle(used(1, 1));
    assert_eq!(b.try_reserve(&want(1, 1)).unwrap_err().limit, LimitKind::Calls);
}

#[test]
fn more_than_was_held_is_charged_and_stops_the_next_call() {
    let account = Account::root(&tokens(100));
    account
        .try_reserve(&want(10, 40))
        .unwrap()
        .unwrap()
        .settle(used(90, 40));
    assert_eq!(account.spent().input_tokens, 90);
    assert_eq!(account.left().0, Some(0));
    assert_eq!(account.try_reserve(&want(0, 1)).unwrap_err().limit, LimitKind::Tokens);
}

#[test]
fn a_request_that_was_sent_is_charged_whole_even_when_nobody_waits_for_it() {
    let account = Account::root(&limits(Some(100), None, Some(1)));
    drop(account.try_reserve(&want(10, 10)).unwrap().unwrap());
    assert_eq!(account.spent().calls, 0);
    let mut sent = account.try_reserve(&want(10, 10)).unwrap().unwrap();
    sent.sent();
    drop(sent);
    let spent = account.spent();
    assert_eq!((spent.calls, spent.input_tokens, spent.output_tokens), (1, 10, 10));
    assert_eq!((account.left().0, account.in_flight()), (Some(80), (0, 0)));
    assert_eq!(account.try_reserve(&want(1, 1)).unwrap_err().limit, LimitKind::Calls);
}

#[test]
fn huge_amounts_saturate_instead_of_wrapping() {
    let account = Account::root(&tokens(u64::MAX));
    let held = account.try_reserve(&want(u64::MAX - 20, u64::MAX)).unwrap().unwrap();
    assert_eq!(held.output(), 20);
    held.settle(used(u64::MAX, u64::MAX));
    assert_eq!(account.try_reserve(&want(1, 16)).unwrap_err().limit, LimitKind::Tokens);
    let unlimited = Account::root(&Limits::none());
    unlimited.try_reserve(&want(u64::MAX, u64::MAX)).unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_is_counted_wakes_when_others_settle_and_can_be_cancelled() {
    let account = Account::root(&tokens(100));
    let held = account.try_reserve(&want(60, 40)).unwrap().unwrap();
    let waiting = tokio::spawn({
        let account = account.clone();
        async move { account.reserve(&want(30, 20)).await.map(|held| held.output()) }
    });
    let cancelled = tokio::spawn({
        let account = account.clone();
        async move { account.reserve(&want(30, 20)).await.map(|held| held.output()) }
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(account.in_flight(), (100, 2));
    cancelled.abort();
    assert!(cancelled.await.unwrap_err().is_cancelled());
    assert_eq!(account.in_flight(), (100, 1));
    held.settle(used(40, 5));
    assert_eq!(waiting.await.unwrap(), Ok(20));
    assert_eq!(account.in_flight(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_that_can_no_longer_fit_is_refused() {
    let account = Account::root(&tokens(100));
    let held = account.try_reserve(&want(60, 40)).unwrap().unwrap();
    let waiting = tokio::spawn({
        let account = account.clone();
        async move { account.reserve(&want(50, 20)).await.map(|held| held.output()) }
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    held.settle(used(60, 40));
    assert_eq!(
        waiting.await.unwrap(),
        Err(Exhausted {
            limit: LimitKind::Tokens,
            shortage: Some(Shortage::Tokens {
                needed: 70,
                left: 0,
                limit: 100,
            }),
        })
    );
}

#[test]
fn a_refused_call_says_how_much_it_needs() {
    let run = Account::root(&limits(Some(1_000), Some(900), None));
    run.restore(&used(200, 100), 1);
    let task = run.child(&limits(Some(500), None, None));
    let shortage = |want: &Want<'_>| task.try_reserve(want).unwrap_err().shortage;
    assert_eq!(
        shortage(&want(600, 400)),
        Some(Shortage::Tokens {
            needed: 1_000,
            left: 500,
            limit: 500
        })
    );
    let dear = Want {
        cost: Some(&|input, output| price(100 * input, 100 * output)),
        ..want(100, 50)
    };
    assert_eq!(
        shortage(&dear),
        Some(Shortage::Cost {
            needed: price(10_000, 5_000),
            left: Usd::from_pico(900),
            limit: Usd::from_pico(900),
        })
    );
    let calls = Account::root(&limits(None, None, Some(0)));
    assert_eq!(calls.try_reserve(&want(1, 1)).unwrap_err().shortage, None);
}

#[test]
fn a_task_alone_gets_all_fuel_and_siblings_share_it() {
    let run = Account::root(&Limits {
        fuel: Some(10 * FUEL_SHARE),
        ..Limits::none()
    });
    let _run = run.live();
    assert_eq!(run.try_lease_fuel(), Some(10 * FUEL_SHARE));
    run.settle_fuel(10 * FUEL_SHARE, 2 * FUEL_SHARE);
    let (a, b) = (
        run.child(&Limits {
            fuel: Some(FUEL_SHARE / 2),
            ..Limits::none()
        }),
        run.child(&Limits::none()),
    );
    let (_a, _b) = (a.live(), b.live());
    assert_eq!(a.try_lease_fuel(), Some(FUEL_SHARE / 2), "its own limit");
    assert_eq!(
        b.try_lease_fuel(),
        Some(7 * FUEL_SHARE / 2 + FUEL_SHARE / 4),
        "half of what is left"
    );
    run.settle_fuel(0, 0);
    b.settle_fuel(7 * FUEL_SHARE / 2 + FUEL_SHARE / 4, FUEL_SHARE);
    a.settle_fuel(FUEL_SHARE / 2, 7);
    assert_eq!(
        (a.spent().fuel, b.spent().fuel, run.spent().fuel),
        (7, FUEL_SHARE, 2 * FUEL_SHARE)
    );
    assert_eq!(run.fuel_left(), Some(7 * FUEL_SHARE - 7));
}

#[tokio::test(start_paused = true)]
async fn fuel_that_others_hold_is_waited_for_and_fuel_that_is_gone_is_not() {
    let run = Account::root(&Limits {
        fuel: Some(FUEL_SHARE),
        ..Limits::none()
    });
    let (a, b) = (run.child(&Limits::none()), run.child(&Limits::none()));
    let (_a, _b) = (a.live(), b.live());
    assert_eq!(a.lease_fuel().await, FUEL_SHARE);
    let waiting = tokio::spawn(async move { b.lease_fuel().await });
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!waiting.is_finished());
    a.settle_fuel(FUEL_SHARE, FUEL_SHARE - 3);
    assert_eq!(waiting.await.unwrap(), 3);
    let spent = Account::root(&Limits {
        fuel: Some(0),
        ..Limits::none()
    });
    assert_eq!(spent.lease_fuel().await, 0);
}

#[test]
fn sub_tasks_are_counted_at_every_level_above() {
    let run = Account::root(&Limits {
        tasks: Some(3),
        ..Limits::none()
    });
    let task = run.child(&Limits {
        tasks: Some(2),
        ..Limits::none()
    });
    assert!(task.start_task().is_ok() && task.start_task().is_ok());
    assert_eq!(
        task.start_task(),
        Err(Exhausted {
            limit: LimitKind::Tasks,
            shortage: None,
        })
    );
    let other = run.child(&Limits::none());
    assert!(other.start_task().is_ok());
    assert_eq!(
        other.start_task(),
        Err(Exhausted {
            limit: LimitKind::Tasks,
            shortage: None,
        })
    );
}

/// One step of a guest, a gate or a clock with the requests of a run; `at` picks one of those in flight.
#[derive(Debug, Clone)]
enum Step {
    /// Reserves and sends another request, of which the server bills the given percentages: of the input, up to a tenth
    /// more than the estimate.
    Send {
        account: usize,
        input: u64,
        output: u64,
        input_percent: u64,
        output_percent: u64,
    },
    /// The reply arrives with its usage.
    Answer { at: usize },
    /// The guest drops the request, its task ends, or it lost a race.
    Drop { at: usize },
    /// The reply times out or breaks off.
    Lose { at: usize },
    /// The server rejects the request and bills nothing.
    Refuse { at: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = || 0..64_usize;
    let send = (0..4_usize, 0..300_u64, 1..400_u64, 0..=110_u64, 0..=100_u64);
    let step = prop_oneof![
        4 => send.prop_map(|(account, input, output, input_percent, output_percent)| Step::Send {
            account, input, output, input_percent, output_percent,
        }),
        1 => at().prop_map(|at| Step::Answer { at }),
        1 => at().prop_map(|at| Step::Drop { at }),
        1 => at().prop_map(|at| Step::Lose { at }),
        1 => at().prop_map(|at| Step::Refuse { at }),
    ];
    prop::collection::vec(step, 500..3_000)
}

/// Plays `steps` against a server that bills every request that it does not reject, and returns the billed tokens and
/// money. If `charged` is false, a request without a usage count costs nothing, as a control.
fn play(steps: &[Step], tokens: u64, cost: u64, charged: bool) -> (u64, u64) {
    let run = Account::root(&limits(Some(tokens), Some(cost), None));
    let tasks = [
        run.child(&Limits::none()),
        run.child(&limits(Some(tokens / 2), None, None)),
    ];
    let below = [tasks[0].child(&Limits::none()), tasks[1].child(&Limits::none())];
    let accounts: Vec<_> = tasks.iter().chain(&below).collect();
    let mut in_flight: Vec<(Reservation, u64, u64)> = Vec::new();
    let mut billed = (0, 0);
    let mut bill = |input, output| {
        billed.0 += input + output;
        billed.1 += price(input, output).pico();
    };
    for step in steps {
        let (Step::Answer { at } | Step::Drop { at } | Step::Lose { at } | Step::Refuse { at }) = step else {
            let Step::Send {
                account,
                input,
                output,
                input_percent,
                output_percent,
            } = step
            else {
                unreachable!()
            };
            let want = Want {
                input: *input,
                output: *output,
                cost: Some(&price),
                call: true,
            };
            if let Ok(Some(mut held)) = accounts[*account].try_reserve(&want) {
                held.sent();
                let counts = (input * input_percent / 100, held.output() * output_percent / 100);
                in_flight.push((held, counts.0, counts.1));
            }
            continue;
        };
        if in_flight.is_empty() {
            continue;
        }
        let (held, input, output) = in_flight.swap_remove(at % in_flight.len());
        match step {
            Step::Refuse { .. } => {
                held.settle(used(0, 0));
                continue;
            }
            Step::Answer { .. } => {
                held.settle(Used {
                    cost: Some(price(input, output)),
                    ..used(input, output)
                });
            }
            _ if !charged => {
                held.settle(used(0, 0));
            }
            Step::Lose { .. } => {
                let worst = held.worst();
                held.settle(worst);
            }
            _ => drop(held),
        }
        bill(input, output);
    }
    // The run ends and drops the requests that remain.
    in_flight.drain(..).for_each(|(_, input, output)| bill(input, output));
    assert_eq!(run.in_flight(), (0, 0));
    billed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// However requests are started, dropped, raced, cut off and rejected, a server that bills each of them gets at
    /// most the limit plus the tenth by which the input estimate may be short.
    #[test]
    fn a_server_that_bills_every_request_gets_no_more_than_the_limit(
        steps in steps(),
        tokens in 1_000..100_000_u64,
        cost in 1_000..200_000_u64,
    ) {
        let billed = play(&steps, tokens, cost, true);
        prop_assert!(billed.0 <= tokens + tokens / 10, "{} of {tokens} tokens", billed.0);
        prop_assert!(billed.1 <= cost + cost / 10, "{} of {cost} pico-dollars", billed.1);
    }
}

/// The control of the test above: its assertion does not hold by itself.
#[test]
fn a_server_that_bills_every_request_gets_more_if_dropped_requests_are_free() {
    let send = Step::Send {
        account: 0,
        input: 100,
        output: 100,
        input_percent: 100,
        output_percent: 50,
    };
    let steps: Vec<_> = (0..1_000).flat_map(|_| [send.clone(), Step::Drop { at: 0 }]).collect();
    assert_eq!(play(&steps, 10_000, u64::MAX, false).0, 150_000);
    assert_eq!(play(&steps, 10_000, u64::MAX, true).0, 7_500);
}

/// One call of a random run.
#[derive(Debug, Clone)]
struct Call {
    account: usize,
    input: u64,
    output: u64,
    /// The actual usage, in percent of the reservation.
    uses: u64,
    end: CallEnd,
    yields: u8,
}

#[derive(Debug, Clone, Copy)]
enum CallEnd {
    Settle,
    Cancel,
    CancelSent,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let end = prop_oneof![3 => Just(CallEnd::Settle), 1 => Just(CallEnd::Cancel), 1 => Just(CallEnd::CancelSent)];
    let call = (0..4_usize, 0..300_u64, 1..400_u64, 0..=100_u64, end, 0..4_u8).prop_map(
        |(account, input, output, uses, end, yields)| Call {
            account,
            input,
            output,
            uses,
            end,
            yields,
        },
    );
    prop::collection::vec(call, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is reserved, settled and canceled concurrently: no limit is ever exceeded, by the spent amount or by
    /// the spent and reserved amounts together; nothing stays reserved; the remaining amount is the limit minus the
    /// usage; nothing hangs.
    #[test]
    fn nothing_is_overspent_and_nothing_leaks(
        calls in calls(),
        run_tokens in 100..20_000_u64,
        task_tokens in 100..8_000_u64,
        run_cost in prop::option::of(100..30_000_u64),
        task_calls in prop::option::of(1..20_u64),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        let run = Account::root(&limits(Some(run_tokens), run_cost, None));
        let tasks: Vec<_> = (0..2).map(|_| run.child(&limits(Some(task_tokens), None, task_calls))).collect();
        let accounts: Arc<Vec<_>> = Arc::new(
            tasks.iter().cloned().chain(tasks.iter().map(|task| task.child(&tokens(task_tokens / 2)))).collect(),
        );
        let charged = Arc::new(AtomicU64::new(0));
        let over = Arc::new(AtomicU64::new(0));
        runtime.block_on(async {
            let all = calls.into_iter().map(|call| {
                let (accounts, charged, over, run) = (Arc::clone(&accounts), Arc::clone(&charged), Arc::clone(&over), run.clone());
                tokio::spawn(async move {
                    let account = &accounts[call.account];
                    let want = Want { input: call.input, output: call.output, cost: Some(&price), call: true };
                    let Ok(mut held) = account.reserve(&want).await else {
                        return;
                    };
                    let (reserved, _) = run.in_flight();
                    over.fetch_max((reserved + charged.load(Ordering::SeqCst)).saturating_sub(run_tokens), Ordering::SeqCst);
                    for _ in 0..call.yields {
                        tokio::task::yield_now().await;
                    }
                    match call.end {
                        CallEnd::Cancel => drop(held),
                        CallEnd::CancelSent => {
                            held.sent();
                            let worst = held.worst();
                            drop(held);
                            charged.fetch_add(worst.input + worst.output, Ordering::SeqCst);
                        }
                        CallEnd::Settle => {
                            let input = call.input * call.uses / 100;
                            let output = held.output() * call.uses / 100;
                            held.settle(Used { input, output, cost: Some(price(input, output)), ..Used::default() });
                            charged.fetch_add(input + output, Ordering::SeqCst);
                        }
                    }
                })
            });
            let all = futures_util::future::join_all(all);
            let results = tokio::time::timeout(Duration::from_secs(60), all).await.expect("a reservation hangs");
            for result in results {
                result.unwrap();
            }
        });
        let charged = charged.load(Ordering::SeqCst);
        prop_assert_eq!(over.load(Ordering::SeqCst), 0);
        prop_assert!(charged <= run_tokens);
        prop_assert_eq!(run.in_flight(), (0, 0));
        let spent: Vec<_> = accounts.iter().map(Account::spent).collect();
        prop_assert_eq!(spent.iter().map(|spent| spent.input_tokens + spent.output_tokens).sum::<u64>(), charged);
        prop_assert_eq!(run.left().0, Some(run_tokens - charged));
        for (task, below) in [(0, 2), (1, 3)] {
            let total = |n: usize| spent[n].input_tokens + spent[n].output_tokens;
            prop_assert!(total(task) + total(below) <= task_tokens);
            prop_assert!(total(below) <= task_tokens / 2);
            if let Some(most) = task_calls {
                prop_assert!(spent[task].calls + spent[below].calls <= most);
            }
        }
        if let Some(most) = run_cost {
            prop_assert!(spent.iter().map(|spent| spent.cost.pico()).sum::<u64>() <= most);
        }
    }
}

#[tokio::test]
async fn a_request_that_uses_more_than_it_reserved_names_the_limit_that_it_passed() {
    let usd = |micro: u64| Usd::from_pico(micro * 1_000_000);
    let price = move |input: u64, output: u64| usd(input + output);
    let limits = Limits {
        tokens: Some(1_000),
        cost: Some(usd(5_000)),
        ..Limits::none()
    };
    for (input, output, cost, passed) in [
        (100, 200, 300, None),
        // More than reserved, but within the limits.
        (100, 900, 1_000, None),
        (100, 901, 1_001, Some(LimitKind::Tokens)),
        (100, 200, 5_001, Some(LimitKind::Cost)),
    ] {
        let run = Account::root(&limits);
        let task = run.child(&Limits::none());
        let want = Want {
            input: 100,
            output: 200,
            cost: Some(&price),
            call: true,
        };
        let reserved = task.reserve(&want).await.unwrap();
        let used = Used {
            input,
            output,
            cost: Some(usd(cost)),
            ..Used::default()
        };
        assert_eq!(reserved.settle(used), passed, "{output} {cost}");
        assert_eq!(task.spent().output_tokens, output, "it is charged in any case");
    }
    // The use of another request does not count against this one.
    let run = Account::root(&limits);
    let want = |input| Want {
        input,
        output: 16,
        cost: None,
        call: true,
    };
    let (one, two) = (
        run.reserve(&want(100)).await.unwrap(),
        run.reserve(&want(100)).await.unwrap(),
    );
    let used = |output| Used {
        input: 100,
        output,
        ..Used::default()
    };
    assert_eq!(one.settle(used(2_000)), Some(LimitKind::Tokens));
    assert_eq!(two.settle(used(16)), None);
}

#[test]
fn the_root_remembers_the_limit_that_refused_a_request_and_not_those_of_its_tasks() {
    let run = Account::root(&Limits {
        tokens: Some(1_000),
        tasks: Some(1),
        ..Limits::none()
    });
    let small = run.child(&Limits {
        tokens: Some(100),
        ..Limits::none()
    });
    let want = |input| Want {
        input,
        output: 100,
        cost: None,
        call: false,
    };
    assert!(small.try_reserve(&want(500)).is_err());
    assert_eq!(run.exhausted(), None, "the task's own limit");
    let mut held = run.child(&Limits::none()).try_reserve(&want(700)).unwrap().unwrap();
    assert!(matches!(run.child(&Limits::none()).try_reserve(&want(700)), Ok(None)));
    assert_eq!(run.exhausted(), None, "it may fit later");
    held.sent();
    held.settle(Used {
        input: 700,
        ..Used::default()
    });
    assert!(run.child(&Limits::none()).try_reserve(&want(700)).is_err());
    assert_eq!(
        (run.exhausted(), small.exhausted()),
        (Some(LimitKind::Tokens), Some(LimitKind::Tokens))
    );
}

#[test]
fn a_call_of_a_resumed_run_that_is_above_its_limit_does_not_wait() {
    let run = Account::root(&Limits {
        calls: Some(2),
        ..Limits::none()
    });
    let task = run.child(&Limits::none());
    run.restore(&Used::default(), 2);
    let again = Want {
        input: 1,
        output: 16,
        cost: None,
        call: false,
    };
    assert!(
        matches!(task.try_reserve(&again), Ok(Some(_))),
        "a further request of the second call"
    );
    task.restore(&Used::default(), 1);
    let refused = task.try_reserve(&again).err().map(|full| full.limit);
    assert_eq!(refused, Some(LimitKind::Calls));
}
