//! The calls under a policy: started in order within the bound, polled in order, dropped together.
//!
//! A plain list and not a set of woken futures: which call is looked at first must not depend on who woke first.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::task::{Context, Poll};

use super::{Branch, Labeled};

pub(super) struct Branches<'a, T, E> {
    /// How many were given.
    total: usize,
    max_concurrent: usize,
    waiting: VecDeque<Branch<'a, T, E>>,
    /// With their index, in its order.
    running: Vec<(usize, Branch<'a, T, E>)>,
}

impl<'a, T, E> Branches<'a, T, E> {
    pub(super) fn new(branches: impl IntoIterator<Item = Branch<'a, T, E>>) -> Self {
        let waiting: VecDeque<_> = branches.into_iter().collect();
        Branches {
            total: waiting.len(),
            max_concurrent: usize::MAX,
            waiting,
            running: Vec::new(),
        }
    }

    /// At least one: with none at once, nothing would ever end.
    pub(super) fn max_concurrent(&mut self, most: usize) {
        self.max_concurrent = most.max(1);
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
        mut end: impl FnMut(Labeled<Result<T, E>>, usize) -> ControlFlow<B>,
    ) -> Poll<Option<B>> {
        let mut place = 0;
        loop {
            let Some((_, branch)) = self.running.get_mut(place) else {
                // The end of the list: the next one starts if there is room.
                let index = self.total - self.waiting.len();
                if self.running.len() < self.max_concurrent
                    && let Some(branch) = self.waiting.pop_front()
                {
                    self.running.push((index, branch));
                    continue;
                }
                break;
            };
            let Poll::Ready(value) = branch.call.as_mut().poll(cx) else {
                place += 1;
                continue;
            };
            let (index, branch) = self.running.remove(place);
            let done = Labeled {
                index,
                name: branch.name,
                attempt: branch.attempt,
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
