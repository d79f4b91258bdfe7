//! The calls under a policy: started in order within the bound, polled in order, dropped together.
//!
//! A plain list and not a set of woken futures: which call is looked at first must not depend on who woke first.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::task::{Context, Poll};

use super::{Done, Lane};

pub(super) struct Lanes<'a, T, E> {
    /// How many were given.
    total: usize,
    at_once: usize,
    waiting: VecDeque<Lane<'a, T, E>>,
    /// With their index, in its order.
    running: Vec<(usize, Lane<'a, T, E>)>,
}

impl<'a, T, E> Lanes<'a, T, E> {
    pub(super) fn new(lanes: impl IntoIterator<Item = Lane<'a, T, E>>) -> Self {
        let waiting: VecDeque<_> = lanes.into_iter().collect();
        Lanes {
            total: waiting.len(),
            at_once: usize::MAX,
            waiting,
            running: Vec::new(),
        }
    }

    /// At least one: with none at once, nothing would ever end.
    pub(super) fn at_once(&mut self, most: usize) {
        self.at_once = most.max(1);
    }

    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// How many have not ended.
    pub(super) fn left(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    /// Starts and polls what may run, and shows each call that ends, with how many are left then, until `end` breaks.
    /// `None` when all have ended. After a break nothing runs any more.
    pub(super) fn poll<B>(
        &mut self,
        cx: &mut Context<'_>,
        mut end: impl FnMut(Done<Result<T, E>>, usize) -> ControlFlow<B>,
    ) -> Poll<Option<B>> {
        let mut place = 0;
        loop {
            let Some((_, lane)) = self.running.get_mut(place) else {
                // The end of the list: the next one starts if there is room.
                let index = self.total - self.waiting.len();
                if self.running.len() < self.at_once
                    && let Some(lane) = self.waiting.pop_front()
                {
                    self.running.push((index, lane));
                    continue;
                }
                break;
            };
            let Poll::Ready(value) = lane.call.as_mut().poll(cx) else {
                place += 1;
                continue;
            };
            let (index, lane) = self.running.remove(place);
            let done = Done {
                index,
                name: lane.name,
                attempt: lane.attempt,
                value,
            };
            if let ControlFlow::Break(decision) = end(done, self.left()) {
                self.cancel();
                return Poll::Ready(Some(decision));
            }
        }
        if self.running.is_empty() {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }

    /// Drops every call that has not ended.
    pub(super) fn cancel(&mut self) {
        self.waiting.clear();
        self.running.clear();
    }
}
