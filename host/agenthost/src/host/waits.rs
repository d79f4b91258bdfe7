//! The present waits of a batch, kept by its events: a batch has no log of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use agenthost_core::run::{Event, WaitReason};

/// The waits of a batch, for a display. Clones are cheap and refer to the same batch; see
/// [`Batch::waits`](super::Batch::waits).
#[derive(Debug, Clone, Default)]
pub struct BatchWaits(Arc<Mutex<Live>>);

/// The live tasks by their place in the tree.
type Live = BTreeMap<Vec<u32>, LiveTask>;

/// The calls of a task, as far as its events show them.
#[derive(Debug, Default)]
struct LiveTask {
    /// The requests that were sent and not settled. One that its task gave up counts until the task ends.
    in_flight: u64,
    /// The wait of the call that reported last.
    wait: Option<BatchWait>,
}

impl LiveTask {
    /// Returns its wait, unless a request of it is in flight.
    fn wait(&self) -> Option<&BatchWait> {
        self.wait.as_ref().filter(|_| self.in_flight == 0)
    }
}

/// The reason why nothing in a batch goes ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchWait {
    /// The reason of most tasks; `None` for a pause before another attempt.
    pub reason: Option<WaitReason>,
    /// The time at which the first of these tasks goes ahead, if it is known.
    pub until: Option<Instant>,
}

impl BatchWaits {
    /// Returns the reason why all running items wait, or `None` if one of them goes ahead or none is running. An item with
    /// a request in flight goes ahead, even if other calls of it wait. If several calls of a task wait, the one that
    /// reported last counts.
    ///
    /// ```
    /// use agenthost::BatchWaits;
    ///
    /// assert_eq!(BatchWaits::default().all(), None, "nothing is running");
    /// ```
    pub fn all(&self) -> Option<BatchWait> {
        let live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waits: BTreeMap<Option<WaitReason>, (usize, Option<Instant>)> = BTreeMap::new();
        let mut tasks = live.iter().peekable();
        while let Some((place, task)) = tasks.next() {
            let idle = task.wait.is_none() && task.in_flight == 0;
            // A task with live sub-tasks goes ahead when they do.
            if idle && tasks.peek().is_some_and(|(next, _)| next.starts_with(place)) {
                continue;
            }
            let wait = task.wait()?;
            let (count, first) = waits.entry(wait.reason).or_default();
            *count += 1;
            *first = match (*first, wait.until) {
                (Some(first), Some(until)) => Some(first.min(until)),
                (first, until) => first.or(until),
            };
        }
        let (reason, (_, until)) = waits.into_iter().max_by_key(|(_, (count, _))| *count)?;
        Some(BatchWait { reason, until })
    }

    pub(super) fn take(&self, event: &Event) {
        let until = |wait: Duration| Instant::now().checked_add(wait);
        let wait = match event {
            Event::CallWaiting { reason, wait, .. } => Some(BatchWait {
                reason: Some(*reason),
                until: wait.and_then(until),
            }),
            Event::CallRetried { wait, .. } => Some(BatchWait {
                reason: None,
                until: until(*wait),
            }),
            _ => None,
        };
        let place = event.task().order();
        let mut live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Event::Ended { .. } = event {
            live.remove(&place);
            return;
        }
        let task = live.entry(place).or_default();
        task.wait = wait;
        match event {
            Event::CallSent { .. } => task.in_flight += 1,
            Event::CallSettled { .. } => task.in_flight = task.in_flight.saturating_sub(1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use agenthost_core::limits::Spent;
    use agenthost_core::task::{Failure, FailureClass, Outcome, TaskId, TaskReport};

    use super::*;

    #[test]
    fn a_batch_waits_if_all_of_its_items_do() {
        let waits = BatchWaits::default();
        let task = TaskId::recorded;
        let started = |place: &str| {
            waits.take(&Event::Started {
                task: task(place),
                plugin: "demo:x@0.1.0".into(),
            });
        };
        let waiting = |place: &str, reason, wait| {
            waits.take(&Event::CallWaiting {
                task: task(place),
                model: "local/small".into(),
                reason,
                wait,
            });
        };
        let reason = || waits.all().and_then(|wait| wait.reason);
        for place in ["root/0", "root/1", "root/1/0"] {
            started(place);
        }
        waiting("root/0", WaitReason::Budget, None);
        assert_eq!(waits.all(), None, "a sub-task of the other computes");
        waiting("root/1/0", WaitReason::RetryAfter, Some(Duration::from_secs(7)));
        started("root/2");
        assert_eq!(waits.all(), None);
        waiting("root/2", WaitReason::RetryAfter, Some(Duration::from_secs(90)));
        assert_eq!(reason(), Some(WaitReason::RetryAfter));
        let left = waits.all().and_then(|wait| wait.until);
        assert!(left.is_some_and(|until| until < Instant::now() + Duration::from_secs(8)));

        let sent = || Event::CallSent {
            task: task("root/0"),
            model: "local/small".into(),
        };
        let settled = || Event::CallSettled {
            task: task("root/0"),
            spent: Spent::default(),
            error: None,
        };
        waits.take(&sent());
        assert_eq!(waits.all(), None);
        waits.take(&sent());
        waits.take(&settled());
        waiting("root/0", WaitReason::RetryAfter, None);
        assert_eq!(waits.all(), None, "one of its requests is in flight");
        waits.take(&settled());
        waiting("root/0", WaitReason::RetryAfter, None);
        assert_eq!(reason(), Some(WaitReason::RetryAfter));
        let end = |place: &str| {
            let failed = Outcome::Failure(Failure::new(FailureClass::Failed, "no"));
            let report = Arc::new(TaskReport::new(task(place), "demo:x@0.1.0", failed));
            waits.take(&Event::Ended {
                task: task(place),
                report,
            });
        };
        end("root/0");
        assert_eq!(reason(), Some(WaitReason::RetryAfter));
        end("root/1/0");
        assert_eq!(waits.all(), None, "its parent computes");
        end("root/1");
        end("root/2");
        assert_eq!(waits.all(), None, "nothing is running");
    }
}
