use super::*;
use std::time::Duration;

use futures_util::future::join_all;

/// A fuel source that does nothing.
struct Free;

impl FuelSource for Free {
    async fn begin(&mut self) {}

    fn end(&mut self) {}
}

impl TurnOrder for Free {}

/// Requests replies that arrive after `delays`, and returns the order in which a busy guest saw them.
async fn order(delays: &[u64]) -> Vec<usize> {
    let (asker, turns) = turns();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let asks: Vec<_> = delays
        .iter()
        .enumerate()
        .map(|(n, delay)| {
            let reply = asker.ask(asker.next(), (), tokio::time::sleep(Duration::from_millis(*delay)));
            let seen = Arc::clone(&seen);
            async move {
                reply.await.unwrap();
                seen.lock().unwrap().push(n);
                // Computes between two replies; from outside, this looks like a fuel yield.
                for _ in 0..50 {
                    yield_once().await;
                    assert_eq!(
                        seen.lock().unwrap().last(),
                        Some(&n),
                        "a second reply came into a busy guest"
                    );
                }
            }
        })
        .collect();
    let cancel = CancellationToken::new();
    assert!(matches!(
        turns.drive(join_all(asks), &mut Free, &Free, None, &cancel).await,
        GuestEnd::Ended(_)
    ));
    Arc::try_unwrap(seen).unwrap().into_inner().unwrap()
}

async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn replies_come_one_at_a_time_and_only_to_an_idle_guest() {
    assert_eq!(order(&[30, 10, 20]).await, [1, 2, 0]);
    assert_eq!(order(&[0; 40]).await.len(), 40);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_ask_aborts_its_effect() {
    let (asker, turns) = turns();
    let (done, mut was_done) = mpsc::channel::<()>(1);
    let guest = async {
        let loser = asker.ask(asker.next(), (), async move {
            tokio::time::sleep(Duration::from_secs(60)).await;
            let _ = done.send(()).await;
        });
        drop(loser);
        asker
            .ask(asker.next(), (), tokio::time::sleep(Duration::from_secs(120)))
            .await
            .unwrap();
    };
    let cancel = CancellationToken::new();
    assert_eq!(
        turns.drive(guest, &mut Free, &Free, None, &cancel).await,
        GuestEnd::Ended(())
    );
    assert!(was_done.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn deadlines_and_cancels_end_a_waiting_and_a_computing_guest() {
    let computing = || async {
        loop {
            yield_once().await;
            tokio::task::yield_now().await;
        }
    };
    let soon = Some(Instant::now() + Duration::from_millis(5));
    let cancel = CancellationToken::new();
    let (asker, turns_a) = turns();
    let waiting = asker.ask(asker.next(), (), std::future::pending::<()>());
    assert!(matches!(
        turns_a.drive(waiting, &mut Free, &Free, soon, &cancel).await,
        GuestEnd::TimeUp
    ));
    tokio::time::resume();
    let (_asker, turns_b) = turns();
    assert_eq!(
        turns_b.drive(computing(), &mut Free, &Free, soon, &cancel).await,
        GuestEnd::TimeUp
    );
    cancel.cancel();
    let (_asker, turns_c) = turns();
    assert_eq!(
        turns_c.drive(computing(), &mut Free, &Free, None, &cancel).await,
        GuestEnd::Cancelled
    );
}

#[tokio::test]
async fn a_finished_result_is_not_lost_to_a_cancel() {
    let cancel = CancellationToken::new();
    cancel.cancel();
    let (_asker, turns) = turns();
    assert_eq!(
        turns
            .drive(std::future::ready(7), &mut Free, &Free, None, &cancel)
            .await,
        GuestEnd::Ended(7)
    );
}

#[tokio::test]
async fn a_guest_that_waits_for_nothing_is_stuck() {
    let cancel = CancellationToken::new();
    let (_asker, turns) = turns();
    assert_eq!(
        turns
            .drive(std::future::pending::<()>(), &mut Free, &Free, None, &cancel)
            .await,
        GuestEnd::Stuck
    );
}

#[tokio::test]
async fn an_effect_that_panics_is_an_error_not_a_hang() {
    let (asker, turns) = turns();
    let guest = asker.ask(asker.next(), (), async { panic!("boom") });
    let cancel = CancellationToken::new();
    let GuestEnd::Ended(Err(EffectLost)) = turns.drive(guest, &mut Free, &Free, None, &cancel).await else {
        panic!("expected the loss to be seen");
    };
}

/// The order of another guest, with requests that this guest does not make.
struct Elsewhere(Mutex<Vec<u64>>, bool);

impl TurnOrder for Elsewhere {
    fn next(&self) -> NextTurn {
        lock(&self.0)
            .first()
            .map_or(NextTurn::Any, |ask| NextTurn::Answer(*ask))
    }

    fn lost(&self) -> bool {
        lock(&self.0).remove(0);
        self.1
    }

    fn answered(&self, _: u64) {
        let mut left = lock(&self.0);
        let most = left.len().min(1);
        left.drain(..most);
    }
}

/// A guest with three requests, which drops the second and waits for the others.
async fn drive_elsewhere(order: &[u64], goes_on: bool) -> (GuestEnd<()>, Vec<u64>) {
    let (asker, turns) = turns();
    let asks: Vec<_> = (0..3).map(|n| asker.ask(asker.next(), (), async move { n })).collect();
    let seen = Mutex::new(Vec::new());
    let guest = async {
        let kept = asks.into_iter().enumerate().filter(|(n, _)| *n != 1);
        let look = kept.map(|(_, ask)| async {
            let answer = ask.await.unwrap();
            lock(&seen).push(answer);
        });
        join_all(look).await;
    };
    let order = Elsewhere(Mutex::new(order.to_vec()), goes_on);
    let cancel = CancellationToken::new();
    let driven = turns.drive(guest, &mut Free, &order, None, &cancel).await;
    let driven = match driven {
        GuestEnd::Ended(_) => GuestEnd::Ended(()),
        GuestEnd::Diverged => GuestEnd::Diverged,
        _ => GuestEnd::Stuck,
    };
    (driven, seen.into_inner().unwrap())
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_is_passed_over_or_ends_the_guest() {
    assert_eq!(
        drive_elsewhere(&[2, 1, 7, 0], true).await,
        (GuestEnd::Ended(()), vec![2, 0]),
        "what was dropped and what was never asked is passed over, and the rest keeps its order"
    );
    for order in [[1, 0], [7, 0]] {
        assert_eq!(drive_elsewhere(&order, false).await, (GuestEnd::Diverged, vec![]));
    }
}

/// A guest that waits for something outside of its turns, in a call or not.
struct Disk {
    in_call: bool,
    ended: usize,
}

impl FuelSource for Disk {
    async fn begin(&mut self) {}

    fn end(&mut self) {
        self.ended += 1;
    }

    fn can_wait_in_calls(&self) -> bool {
        true
    }

    fn waits_in_call(&self) -> bool {
        self.in_call
    }
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_waits_in_a_call_is_neither_stuck_nor_given_a_turn() {
    let cancel = CancellationToken::new();
    let second = Duration::from_secs(1);
    let mut disk = Disk {
        in_call: true,
        ended: 0,
    };
    let (asker, turns_a) = turns();
    let guest = async {
        let reply = asker.ask(asker.next(), (), async {});
        // A reply has arrived, but the guest is in a call.
        tokio::time::sleep(second).await;
        let mut reply = pin!(reply);
        assert!(
            reply
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
    };
    assert_eq!(
        turns_a.drive(guest, &mut disk, &Free, None, &cancel).await,
        GuestEnd::Ended(())
    );
    assert_eq!(disk.ended, 0, "the burst goes on");
    let soon = Some(Instant::now() + second);
    let (_asker, turns_b) = turns();
    let waits = std::future::pending::<()>();
    assert_eq!(
        turns_b.drive(waits, &mut disk, &Free, soon, &cancel).await,
        GuestEnd::TimeUp
    );
    disk.in_call = false;
    let (_asker, turns_c) = turns();
    let waits = std::future::pending::<()>();
    assert_eq!(
        turns_c.drive(waits, &mut disk, &Free, None, &cancel).await,
        GuestEnd::Stuck
    );
}

/// Notes the number of polls before a cut.
#[derive(Default)]
struct CutAfter(AtomicU64);

impl TurnOrder for CutAfter {
    fn cut(&self, _: bool, polls: u64) {
        self.0.store(polls, Ordering::Release);
    }
}

/// A guest that waits in a call from time to time.
#[derive(Default)]
struct Calls(InCall);

impl FuelSource for Calls {
    async fn begin(&mut self) {}

    fn end(&mut self) {}

    fn is_in_call(&self) -> bool {
        self.0.is_set()
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_in_a_call_of_which_a_replay_knows_the_result_takes_no_poll() {
    let polls = async |waits: u32| {
        let (cancel, order) = (CancellationToken::new(), CutAfter::default());
        let mut calls = Calls::default();
        let in_call = calls.0.clone();
        let (_asker, turns) = turns();
        let guest = async {
            for _ in 0..3 {
                yield_once().await;
                let call = async {
                    for wait in 0..waits {
                        match wait {
                            0 => yield_once().await,
                            _ => tokio::time::sleep(Duration::from_secs(1)).await,
                        }
                    }
                };
                in_call.wait(call).await;
            }
            cancel.cancel();
            std::future::pending::<()>().await;
        };
        assert_eq!(
            turns.drive(guest, &mut calls, &order, None, &cancel).await,
            GuestEnd::Cancelled
        );
        order.0.into_inner()
    };
    assert_eq!(polls(0).await, 4);
    assert_eq!((polls(1).await, polls(5).await), (4, 4));
}
