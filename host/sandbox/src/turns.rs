//! The order in which a task receives its replies.
//!
//! A task requests replies from outside and receives them in *turns*: one at a time, and only while the guest is idle,
//! which is when a poll leaves it pending without having woken itself (a guest that yields for fuel wakes itself). So
//! the guest's computation is a function of its input, the replies and the order of its turns. If that order is
//! recorded, the computation can be replayed to the unit of fuel. This would not hold if several replies could queue
//! before the guest looked: it would see them in the order of its own bookkeeping.
//!
//! A guest with directories can also wait inside a call, for the disk. It is not idle then, and receives no turn.
//!
//! [`TurnOrder`] records the order, and supplies it when a task runs again. Each request has an *ordinal*, which only
//! the guest determines, and a turn is an ordinal. A task that was cut off (its time was up, or it was canceled) is
//! cut off again after the same number of polls: a poll of a computing guest runs it for a fixed slice of fuel.
//!
//! Left out: the contents of a reply, and the storage of the order.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use agenthost_core::failpoint;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The ordinals of the requests that have been neither answered nor dropped.
type Open = Arc<Mutex<BTreeSet<u64>>>;

/// Delivers one finished effect to the guest; returns false if the guest no longer waits for it.
type Turn = Box<dyn FnOnce() -> bool + Send>;

/// The next turn of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextTurn {
    /// The first reply that is available.
    Any,
    /// The reply to the request with this ordinal.
    Answer(u64),
    /// No further turn: the guest ends on its own.
    Nothing,
    /// No further turn: the guest is cut off after this number of polls since its last turn.
    Cut {
        /// `true` if its time was up; otherwise it was canceled.
        time_up: bool,
        /// The number of polls.
        polls: u64,
    },
}

/// The order in which a task receives its replies: records it, and supplies a recorded one.
pub trait TurnOrder: Send + Sync {
    /// Returns the next turn.
    fn next(&self) -> NextTurn {
        NextTurn::Any
    }

    /// Called if the guest waits and has not made the request whose reply is next. Returns whether it may continue with
    /// any reply.
    fn lost(&self) -> bool {
        false
    }

    /// Returns a future that resolves once the guest may continue computing; `None` if it may now. The guest waits
    /// while journal entries that it caused are not yet written.
    fn room(&self) -> Option<BoxFuture<'static, ()>> {
        None
    }

    /// Called when the guest receives the reply to the request with this ordinal.
    fn answered(&self, _ask: u64) {}

    /// Called when the guest is cut off.
    fn cut(&self, _time_up: bool, _polls: u64) {}
}

/// Waits until the deadline; forever if there is none.
pub(super) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The requesting side, held by the task's host functions.
#[derive(Clone)]
pub(super) struct Asker {
    inbox: mpsc::UnboundedSender<(u64, Turn)>,
    open: Open,
    /// The number of requests so far, which is the next ordinal.
    asks: Arc<AtomicU64>,
    effects: TaskTracker,
}

/// The delivering side, held by the task's driver.
pub(super) struct Turns {
    inbox: mpsc::UnboundedReceiver<(u64, Turn)>,
    open: Open,
    /// Replies that arrived before their turn.
    early: BTreeMap<u64, Turn>,
    effects: TaskTracker,
}

/// The error if the effect behind a reply ended without one because it panicked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host failed while it worked on a call of this task")]
pub(super) struct EffectLost;

pub(super) fn turns() -> (Asker, Turns) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let open = Open::default();
    let effects = TaskTracker::new();
    (
        Asker {
            inbox: sender,
            open: Arc::clone(&open),
            asks: Arc::default(),
            effects: effects.clone(),
        },
        Turns {
            inbox: receiver,
            open,
            early: BTreeMap::new(),
            effects,
        },
    )
}

impl Asker {
    /// Returns the ordinal of the next request.
    pub(super) fn next(&self) -> u64 {
        self.asks.fetch_add(1, Ordering::AcqRel)
    }

    /// Runs `effect`, the request with this ordinal, in its own tokio task and resolves, in a turn, with its result.
    /// Dropping the returned future aborts the effect: a guest that races calls cancels the losers. `held` is kept
    /// until the guest receives or gives up the reply.
    pub(super) fn ask<T, F, H>(
        &self,
        ordinal: u64,
        held: H,
        effect: F,
    ) -> impl Future<Output = Result<T, EffectLost>> + Send + use<T, F, H>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
        H: Send + 'static,
    {
        let (reply, wait) = oneshot::channel();
        let inbox = self.inbox.clone();
        lock(&self.open).insert(ordinal);
        let effect = self.effects.spawn(async move {
            let value = effect.await;
            failpoint!(await "collect.turn");
            let turn: Turn = Box::new(move || reply.send(value).is_ok());
            // A closed inbox means that the task has ended.
            let _ = inbox.send((ordinal, turn));
        });
        let effect = OpenAsk {
            effect,
            ordinal,
            open: Arc::clone(&self.open),
        };
        async move {
            let value = wait.await.map_err(|_| EffectLost);
            drop((effect, held));
            value
        }
    }
}

struct OpenAsk {
    effect: tokio::task::JoinHandle<()>,
    ordinal: u64,
    open: Open,
}

impl Drop for OpenAsk {
    fn drop(&mut self) {
        self.effect.abort();
        lock(&self.open).remove(&self.ordinal);
    }
}

/// The time for which a computing guest keeps a worker thread. The slice that is running when it is over is finished. The
/// deadline and a cancellation are checked after each slice; giving up the worker costs some microseconds more.
const WORKER_TIME: Duration = Duration::from_millis(1);
/// The most slices for which it keeps the worker: few enough for the budget that tokio gives one poll.
const MAX_YIELDS: u32 = 40;

/// The mark of a guest that waits in a call of which a replay knows the result, so that a replay does not wait.
#[derive(Clone, Default)]
pub(super) struct InCall(Arc<AtomicBool>);

impl InCall {
    /// Resolves with the value of `effect`, and marks the guest until then.
    pub(super) async fn wait<T>(&self, effect: impl Future<Output = T>) -> T {
        let _marked = Marked(self);
        self.0.store(true, Ordering::Release);
        effect.await
    }

    /// Returns whether the guest waits.
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

struct Marked<'a>(&'a InCall);

impl Drop for Marked<'_> {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}

/// The end of driving a guest.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum GuestEnd<T> {
    /// The guest ended on its own.
    Ended(T),
    /// The deadline passed first.
    TimeUp,
    /// The task was canceled first.
    Cancelled,
    /// The guest waits, but for nothing that it requested: it would wait forever.
    Stuck,
    /// The guest waits, but has not made the request whose reply is next: it does not behave as recorded.
    Diverged,
}

impl Turns {
    /// Returns the tracker of the work on all requests. Once the guest and its store are dropped, the remaining work
    /// ends soon.
    pub(super) fn effects(&self) -> TaskTracker {
        self.effects.clone()
    }

    /// Drives `guest` to its end, and gives it one turn whenever it is idle. A result that is ready takes precedence
    /// over a simultaneous cancellation. `meter` provides fuel before each burst of computing.
    pub(super) async fn drive<T>(
        mut self,
        guest: impl Future<Output = T>,
        meter: &mut impl FuelSource,
        order: &dyn TurnOrder,
        deadline: Option<Instant>,
        cancel: &CancellationToken,
    ) -> GuestEnd<T> {
        let mut guest = pin!(guest);
        let mut cut = pin!(async {
            tokio::select! {
                biased;
                () = cancel.cancelled() => GuestEnd::Cancelled,
                () = until(deadline) => GuestEnd::TimeUp,
            }
        });
        let awake = Arc::new(Awake::default());
        let mut polls = 0;
        let mut in_call = false;
        let cut_off = |cut: GuestEnd<T>, polls: u64| {
            order.cut(matches!(cut, GuestEnd::TimeUp), polls);
            cut
        };
        let due = |polls: u64| match order.next() {
            NextTurn::Cut {
                time_up: true,
                polls: at,
            } if polls >= at => Some(GuestEnd::TimeUp),
            NextTurn::Cut {
                time_up: false,
                polls: at,
            } if polls >= at => Some(GuestEnd::Cancelled),
            _ => None,
        };
        loop {
            if let Some(cut) = due(polls) {
                return cut_off(cut, polls);
            }
            tokio::select! {
                biased;
                () = meter.begin() => {}
                cut = &mut cut => return cut_off(cut, polls),
            }
            // A burst: the guest computes until it ends or waits.
            let mut room = None;
            let burst = std::future::poll_fn(|cx| {
                let began = std::time::Instant::now();
                let mut yields = 0;
                loop {
                    if room.is_none() {
                        room = order.room();
                    }
                    if let Some(waiting) = &mut room {
                        if let Poll::Ready(cut) = cut.as_mut().poll(cx) {
                            return Poll::Ready(Some(cut));
                        }
                        std::task::ready!(waiting.as_mut().poll(cx));
                        room = None;
                    }
                    awake.woken.store(false, Ordering::Release);
                    let own = awake.over(cx.waker());
                    // A replay does not wait in such a call, so the polls before and after the wait are one.
                    polls += u64::from(!std::mem::take(&mut in_call));
                    if let Poll::Ready(end) = guest.as_mut().poll(&mut Context::from_waker(&own)) {
                        return Poll::Ready(Some(GuestEnd::Ended(end)));
                    }
                    in_call = meter.is_in_call();
                    if let Some(cut) = due(polls) {
                        return Poll::Ready(Some(cut));
                    }
                    if let Poll::Ready(cut) = cut.as_mut().poll(cx) {
                        return Poll::Ready(Some(cut));
                    }
                    // Timers fire late if every worker computes.
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        return Poll::Ready(Some(GuestEnd::TimeUp));
                    }
                    if in_call {
                        return Poll::Pending;
                    }
                    if awake.woken.load(Ordering::Acquire) {
                        // The guest has more to compute; the wake-up has already reached the outer waker.
                        meter.yielded();
                        yields += 1;
                        if yields < MAX_YIELDS && began.elapsed() < WORKER_TIME {
                            continue;
                        }
                        return Poll::Pending;
                    }
                    if meter.can_wait_in_calls() {
                        // A second poll shows where it waits.
                        if let Poll::Ready(end) = guest.as_mut().poll(&mut Context::from_waker(&own)) {
                            return Poll::Ready(Some(GuestEnd::Ended(end)));
                        }
                        if awake.woken.load(Ordering::Acquire) || meter.waits_in_call() {
                            return Poll::Pending;
                        }
                    }
                    return Poll::Ready(None);
                }
            });
            match burst.await {
                Some(ended @ GuestEnd::Ended(_)) => return ended,
                Some(cut) => return cut_off(cut, polls),
                None => meter.end(),
            }
            // Idle: wait for the next turn.
            let next = std::future::poll_fn(|cx| {
                let _ = awake.over(cx.waker());
                if awake.woken.load(Ordering::Acquire) {
                    return Poll::Ready(None);
                }
                if let Poll::Ready(cut) = cut.as_mut().poll(cx) {
                    return Poll::Ready(Some(cut));
                }
                loop {
                    let next = order.next();
                    let answer = match next {
                        NextTurn::Cut { time_up: true, .. } => return Poll::Ready(Some(GuestEnd::TimeUp)),
                        NextTurn::Cut { time_up: false, .. } => return Poll::Ready(Some(GuestEnd::Cancelled)),
                        NextTurn::Answer(ask) if !lock(&self.open).contains(&ask) => {
                            if order.lost() {
                                continue;
                            }
                            return Poll::Ready(Some(GuestEnd::Diverged));
                        }
                        NextTurn::Nothing if !lock(&self.open).is_empty() => {
                            return Poll::Ready(Some(GuestEnd::Diverged));
                        }
                        NextTurn::Nothing => return Poll::Ready(Some(GuestEnd::Stuck)),
                        NextTurn::Answer(ask) => self.early.remove_entry(&ask),
                        NextTurn::Any => self.early.pop_first(),
                    };
                    let (ask, turn) =
                        match answer.map_or_else(|| self.inbox.poll_recv(cx), |early| Poll::Ready(Some(early))) {
                            Poll::Ready(Some(answer)) => answer,
                            Poll::Ready(None) | Poll::Pending if lock(&self.open).is_empty() => {
                                return Poll::Ready(Some(GuestEnd::Stuck));
                            }
                            Poll::Ready(None) | Poll::Pending => return Poll::Pending,
                        };
                    if next != NextTurn::Any && next != NextTurn::Answer(ask) {
                        self.early.insert(ask, turn);
                    } else if turn() {
                        failpoint!("collect.given");
                        order.answered(ask);
                        polls = 0;
                        return Poll::Ready(None);
                    }
                    // A reply that the guest no longer waits for is not a turn.
                }
            });
            match next.await {
                None => {}
                Some(cut @ (GuestEnd::TimeUp | GuestEnd::Cancelled)) => return cut_off(cut, polls),
                Some(driven) => return driven,
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under this lock is a single operation, so a panic leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Provides fuel, and is notified when a guest begins and ends a burst of computing.
pub(super) trait FuelSource {
    /// Called before a burst; may wait before the guest continues.
    fn begin(&mut self) -> impl Future<Output = ()> + Send;

    /// Called when the guest waits.
    fn end(&mut self);

    /// Called when the guest has yielded and has more to compute.
    fn yielded(&self) {}

    /// Returns whether the guest waits in a call that a replay does not wait in.
    fn is_in_call(&self) -> bool {
        false
    }

    /// Returns whether the guest can wait in the middle of a call. If so, it is polled once more, to ask
    /// [`waits_in_call`](Self::waits_in_call).
    fn can_wait_in_calls(&self) -> bool {
        false
    }

    /// Returns whether the last poll stopped inside a call, so that the guest's event loop was not reached.
    fn waits_in_call(&self) -> bool {
        false
    }
}

/// A waker that records that the guest was woken, and wakes the outer waker.
#[derive(Default)]
struct Awake {
    woken: AtomicBool,
    outer: std::sync::Mutex<Option<Waker>>,
}

impl Awake {
    fn over(self: &Arc<Self>, outer: &Waker) -> Waker {
        let mut slot = self.outer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match slot.as_mut() {
            Some(known) => known.clone_from(outer),
            None => *slot = Some(outer.clone()),
        }
        Waker::from(Arc::clone(self))
    }
}

impl Wake for Awake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        let slot = self.outer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(outer) = slot.as_ref() {
            outer.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests;
