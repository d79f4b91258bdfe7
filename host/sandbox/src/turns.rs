//! The order in which a task learns things.
//!
//! A task asks the outside world for replies and gets them in *turns*: one at a time, and only while the guest is idle,
//! which is when a poll of it leaves it waiting without having woken itself (a guest that yields for fuel wakes itself).
//! So what a guest computes is a function of its input, of the replies and of the order of its turns; record that order
//! and it can be replayed to the unit of fuel. If several replies could queue before the guest looked, that would not
//! hold: it would see them in the order of its own bookkeeping.
//!
//! A guest with directories can also wait inside a call, for the disk: it is not idle then, and gets no turn.
//!
//! The order is written down, and given when a task is run again, through [`TurnOrder`]: each ask has its *ordinal*, which
//! the guest's own doing determines, and a turn is an ordinal. A task that was cut off (its time was up, or it was
//! cancelled) is cut off again after as many polls: a poll of a computing guest runs it for a fixed slice of fuel.
//!
//! What this module leaves out: what a reply is, and where the order is kept.

use agenthost_core::failpoint;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Asks that have not been answered or dropped.
type Open = Arc<Mutex<BTreeSet<u64>>>;

/// Hands one finished effect to the guest; false when the guest no longer waits for it.
type Turn = Box<dyn FnOnce() -> bool + Send>;

/// What a task learns next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextTurn {
    /// Whatever is there first.
    Any,
    /// The answer to the ask of this ordinal.
    Answer(u64),
    /// Nothing: it comes to its own end.
    Nothing,
    /// Nothing: it is cut off, after so many polls since its last turn.
    Cut {
        /// Whether its time was up; else it was cancelled.
        time_up: bool,
        /// Polls.
        polls: u64,
    },
}

/// The order in which a task learns things: where it is written down, and where it is given.
pub trait TurnOrder: Send + Sync {
    /// What comes next.
    fn next(&self) -> NextTurn {
        NextTurn::Any
    }

    /// The guest waits and did not ask for what comes next. Whether it may go on with whatever is there.
    fn lost(&self) -> bool {
        false
    }

    /// Resolves once the guest may go on computing; `None` if it may now. The guest is made to wait while what it made
    /// others write down is not yet written.
    fn room(&self) -> Option<BoxFuture<'static, ()>> {
        None
    }

    /// The guest gets the answer to its ask of this ordinal now.
    fn answered(&self, _ask: u64) {}

    /// The guest is cut off now.
    fn cut(&self, _time_up: bool, _polls: u64) {}
}

/// The asking side, held by the task's host functions.
#[derive(Clone)]
pub(super) struct Asker {
    inbox: mpsc::UnboundedSender<(u64, Turn)>,
    open: Open,
    /// Asks until now; the next one's ordinal.
    asks: Arc<AtomicU64>,
    effects: TaskTracker,
}

/// The giving side, held by the task's driver.
pub(super) struct Turns {
    inbox: mpsc::UnboundedReceiver<(u64, Turn)>,
    open: Open,
    /// Answers that are there before their turn.
    early: BTreeMap<u64, Turn>,
    effects: TaskTracker,
}

/// The effect behind a reply ended without giving one: it panicked.
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
    /// The ordinal of the next ask.
    pub(super) fn next(&self) -> u64 {
        self.asks.fetch_add(1, Ordering::AcqRel)
    }

    /// Runs `effect`, the ask of this ordinal, in a tokio task of its own and resolves, in a turn, with what it gave.
    /// Dropping the returned future aborts the effect: a guest that races calls cancels the losers. `held` is kept until
    /// the guest has the answer or gives it up.
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

/// How long a computing guest keeps a worker: the shorter of this time, to which its last slice is added, and of a number of
/// slices. Between slices its deadline and a cancel are looked at. Giving up the worker costs some microseconds more.
const WORKER_TIME: Duration = Duration::from_millis(1);
/// Few enough for the budget that tokio gives one poll.
const MAX_YIELDS: u32 = 40;

/// How driving a guest ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum GuestEnd<T> {
    /// The guest came to its own end.
    Ended(T),
    /// The deadline passed first.
    TimeUp,
    /// Someone cancelled it first.
    Cancelled,
    /// The guest waits, but for nothing that it asked for: it would wait for ever.
    Stuck,
    /// The guest waits, and did not ask for what it has to learn next: it is not the guest that the order is of.
    Diverged,
}

impl Turns {
    /// The work on all asks. Once the guest and its store are gone, what is left of it ends soon.
    pub(super) fn effects(&self) -> TaskTracker {
        self.effects.clone()
    }

    /// Drives `guest` to its end, giving it one turn whenever it is idle. A result that is there wins over a cancel
    /// that comes in the same moment. `meter` is asked for fuel before each burst of computing.
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
                () = super::until(deadline) => GuestEnd::TimeUp,
            }
        });
        let awake = Arc::new(Awake::default());
        let mut polls = 0;
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
                    polls += 1;
                    if let Poll::Ready(end) = guest.as_mut().poll(&mut Context::from_waker(&own)) {
                        return Poll::Ready(Some(GuestEnd::Ended(end)));
                    }
                    if let Some(cut) = due(polls) {
                        return Poll::Ready(Some(cut));
                    }
                    if let Poll::Ready(cut) = cut.as_mut().poll(cx) {
                        return Poll::Ready(Some(cut));
                    }
                    // Timers fire late where every worker computes.
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        return Poll::Ready(Some(GuestEnd::TimeUp));
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
                        // Where it waits shows in what a second poll reaches.
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
                    // A reply that nobody waits for any more is no turn.
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
    // Nothing is left half done under this lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Told when a guest begins and ends a burst of computing.
pub(super) trait FuelSource {
    /// May wait before the guest goes on.
    fn begin(&mut self) -> impl Future<Output = ()> + Send;

    /// The guest waits.
    fn end(&mut self);

    /// The guest lets others run, and has more to compute.
    fn yielded(&self) {}

    /// Whether the guest can wait in the middle of a call. If so it is polled once more, to ask
    /// [`waits_in_call`](Self::waits_in_call).
    fn can_wait_in_calls(&self) -> bool {
        false
    }

    /// Whether the last poll got stuck in a call, so that the guest's event loop was not reached.
    fn waits_in_call(&self) -> bool {
        false
    }
}

/// Notes that the guest was woken, and passes it on.
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
