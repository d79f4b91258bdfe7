//! The events of a run: a log with one writer, the run, and any number of readers.
//!
//! Every reader starts at the first event. The log keeps the last [`KEPT`] events of a run; a reader that is further
//! behind learns how many it missed. A run never waits for a reader.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::{Stream, StreamExt};

use super::waits::BatchWaits;
use agenthost_core::run::Event;

/// The number of events that a run keeps: all events of a run with 1,000 sub-tasks, each with two model calls. An event
/// takes some hundred bytes, so a run keeps a few MiB at most.
const KEPT: usize = 8_192;

/// The log of one run.
pub(super) struct EventLog {
    log: Mutex<Log>,
    kept: usize,
    /// The waits of a batch, which keeps no events.
    waits: Option<BatchWaits>,
}

#[derive(Default)]
struct Log {
    events: VecDeque<Event>,
    /// The number of events that are no longer kept.
    dropped: u64,
    ended: bool,
    /// The readers that wait for more.
    waiting: Vec<Waker>,
}

impl EventLog {
    /// Creates the log of a run.
    pub(super) fn new() -> Arc<Self> {
        Self::keeping(KEPT)
    }

    /// Creates a log that keeps only the present waits, for a batch.
    pub(super) fn of_batch(waits: BatchWaits) -> Arc<Self> {
        let log = Mutex::default();
        Arc::new(Self {
            log,
            kept: 0,
            waits: Some(waits),
        })
    }

    fn keeping(kept: usize) -> Arc<Self> {
        let log = Mutex::default();
        Arc::new(Self { log, kept, waits: None })
    }

    pub(super) fn push(&self, event: Event) {
        if let Some(waits) = &self.waits {
            return waits.take(&event);
        }
        let mut log = self.lock();
        if log.ended {
            return;
        }
        if log.events.len() == self.kept {
            log.events.pop_front();
            log.dropped += 1;
        }
        log.events.push_back(event);
        wake(log);
    }

    /// Ends the streams of all readers once they have read everything.
    pub(super) fn end(&self) {
        let mut log = self.lock();
        log.ended = true;
        wake(log);
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        // A panic under this lock leaves the data consistent.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes all readers, after the lock is released.
fn wake(mut log: MutexGuard<'_, Log>) {
    let waiting = std::mem::take(&mut log.waiting);
    drop(log);
    waiting.into_iter().for_each(Waker::wake);
}

/// Ends the log when it is dropped, so that no reader waits for a run that the runtime has dropped.
pub(super) struct EndsLog(pub(super) Arc<EventLog>);

impl Drop for EndsLog {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The events of a run from its start, as a [`Stream`] that ends with the run.
///
/// A run keeps its last 8,192 events. A reader that is further behind receives [`Lagged`] once, and continues with the
/// oldest event that is kept. [`RunHandle::events`](super::RunHandle::events) has an example.
pub struct Events {
    log: Arc<EventLog>,
    /// The number of events that were read or missed.
    read: u64,
}

impl Events {
    pub(super) fn of(log: &Arc<EventLog>) -> Self {
        let log = Arc::clone(log);
        Self { log, read: 0 }
    }

    /// Waits for the next event; `None` once the run has ended and every event was read.
    pub async fn next(&mut self) -> Option<Result<Event, Lagged>> {
        StreamExt::next(self).await
    }
}

impl Stream for Events {
    type Item = Result<Event, Lagged>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let log = Arc::clone(&self.log);
        let mut log = log.lock();
        let missed = log.dropped.saturating_sub(self.read);
        if missed > 0 {
            self.read = log.dropped;
            return Poll::Ready(Some(Err(Lagged { missed })));
        }
        let at = usize::try_from(self.read - log.dropped).unwrap_or(usize::MAX);
        if let Some(event) = log.events.get(at) {
            self.read += 1;
            return Poll::Ready(Some(Ok(event.clone())));
        }
        if log.ended {
            return Poll::Ready(None);
        }
        if !log.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            log.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("read", &self.read)
            .finish_non_exhaustive()
    }
}

/// Events that a reader missed because it was too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lagged {
    /// The number of missed events.
    pub missed: u64,
}

impl fmt::Display for Lagged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} events were missed", self.missed)
    }
}

impl std::error::Error for Lagged {}

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost_core::task::TaskId;

    fn event(number: u32) -> Event {
        Event::Started {
            task: TaskId::root().child(number),
            plugin: "demo:ask@0.1.0".into(),
        }
    }

    async fn rest(events: &mut Events) -> Vec<Result<String, u64>> {
        let mut read = Vec::new();
        while let Some(item) = events.next().await {
            read.push(
                item.map(|event| event.task().to_string())
                    .map_err(|lagged| lagged.missed),
            );
        }
        read
    }

    #[tokio::test]
    async fn every_reader_starts_at_the_first_event() {
        let log = EventLog::keeping(10);
        let mut early = Events::of(&log);
        log.push(event(0));
        log.push(event(1));
        let mut late = Events::of(&log);
        log.end();
        log.push(event(2)); // too late
        let all = [Ok("root/0".to_owned()), Ok("root/1".to_owned())];
        assert_eq!(rest(&mut early).await, all);
        assert_eq!(rest(&mut late).await, all);
        assert_eq!(rest(&mut Events::of(&log)).await, all);
        assert!(early.next().await.is_none());
    }

    #[tokio::test]
    async fn a_slow_reader_learns_how_much_it_missed_and_goes_on() {
        let log = EventLog::keeping(2);
        let mut slow = Events::of(&log);
        log.push(event(0));
        assert!(slow.next().await.is_some());
        for number in 1..6 {
            log.push(event(number));
        }
        log.end();
        let expected = [Err(3), Ok("root/4".to_owned()), Ok("root/5".to_owned())];
        assert_eq!(rest(&mut slow).await, expected);
        let expected = [Err(4), Ok("root/4".to_owned()), Ok("root/5".to_owned())];
        assert_eq!(rest(&mut Events::of(&log)).await, expected);
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken_by_an_event_and_by_the_end() {
        let log = EventLog::keeping(2);
        let mut events = Events::of(&log);
        let reader = tokio::spawn(async move { rest(&mut events).await });
        tokio::task::yield_now().await;
        log.push(event(0));
        tokio::task::yield_now().await;
        drop(EndsLog(log));
        assert_eq!(reader.await.unwrap(), [Ok("root/0".to_owned())]);
    }

    #[tokio::test]
    async fn a_log_without_readers_keeps_nothing() {
        let log = EventLog::of_batch(BatchWaits::default());
        log.push(event(0));
        log.end();
        assert_eq!(rest(&mut Events::of(&log)).await, []);
    }
}
