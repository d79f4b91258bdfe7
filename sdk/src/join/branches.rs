//! Named calls, and the calls under a policy: started in order within the bound, polled in order, dropped together.
//!
//! The calls under a policy are a plain list and not a set of woken futures, because the order of polling must not
//! depend on the order of waking.

use std::collections::VecDeque;
use std::fmt::{self, Debug, Formatter};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::labeled::Labeled;
use super::shares::Group;

/// A call that has not started, and the name for its result. Created by [`branch`].
#[must_use = "a branch does nothing until a policy runs it"]
pub struct Branch<'a, T, E> {
    name: String,
    attempt: u32,
    call: Pin<Box<dyn Future<Output = Result<T, E>> + 'a>>,
}

/// Names a call, after its sub-agent or its part of the work.
///
/// Calls of different sub-agents with the same result type can be combined in one policy.
///
/// ```
/// use agenthost_sdk::join::{self, branch};
/// # async fn review(draft: &str) -> Result<bool, String> { Ok(draft.len() > 3) }
/// # let main = async {
/// let reviews = [branch("voice", review("a draft")), branch("facts", async { Err("no source".to_owned()) })];
/// let results = join::settled(reviews).await;
/// assert_eq!((results[0].name.as_str(), &results[0].value), ("voice", &Ok(true)));
/// assert_eq!((results[1].name.as_str(), &results[1].value), ("facts", &Err("no source".to_owned())));
/// # };
/// # futures_util::FutureExt::now_or_never(main).unwrap();
/// ```
pub fn branch<'a, T, E>(name: impl Into<String>, call: impl Future<Output = Result<T, E>> + 'a) -> Branch<'a, T, E> {
    Branch {
        name: name.into(),
        attempt: 1,
        call: Box::pin(call),
    }
}

impl<T, E> Branch<'_, T, E> {
    /// Sets the number of this attempt at the work; the default is 1.
    ///
    /// ```
    /// use agenthost_sdk::join::{self, branch};
    /// # let main = async {
    /// let error = join::all([branch("draft", async { Err::<(), _>("crashed") }).attempt(2)]).await.unwrap_err();
    /// assert_eq!(error.to_string(), "draft (attempt 2): crashed");
    /// # };
    /// # futures_util::FutureExt::now_or_never(main).unwrap();
    /// ```
    pub fn attempt(mut self, number: u32) -> Self {
        self.attempt = number;
        self
    }
}

impl<T, E> Debug for Branch<'_, T, E> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Branch")
            .field("name", &self.name)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

pub(super) struct Branches<'a, T, E> {
    /// The number of calls that were given.
    total: usize,
    max_concurrent: usize,
    /// The shares from which the sub-tasks of the calls spend; all that is left if there are none.
    group: Option<Group>,
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
            group: None,
            waiting,
            running: Vec::new(),
        }
    }

    /// At least one: with none at once, nothing would ever end.
    pub(super) fn max_concurrent(&mut self, most: usize) {
        self.max_concurrent = most.max(1);
    }

    /// Gives each call an equal share of what is left for sub-tasks.
    pub(super) fn split_equally(&mut self) {
        let parts = u32::try_from(self.total).unwrap_or(u32::MAX);
        self.group.get_or_insert_with(Group::new).parts = parts;
    }

    pub(super) fn least_tokens(&mut self, tokens: u64) {
        self.group.get_or_insert_with(Group::new).least_tokens = tokens;
    }

    pub(super) fn keep_back(&mut self, percent: u8) {
        self.group.get_or_insert_with(Group::new).keep_back = percent;
    }

    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Returns the number of calls that have not ended.
    pub(super) fn left(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    /// Starts and polls the calls that may run, and passes each call that ends to `end`, with the number of remaining
    /// calls, until `end` breaks. `None` when all have ended. After a break nothing runs any more.
    pub(super) fn poll<B>(
        &mut self,
        cx: &mut Context<'_>,
        mut end: impl FnMut(Labeled<Result<T, E>>, usize) -> ControlFlow<B>,
    ) -> Poll<Option<B>> {
        let mut place = 0;
        loop {
            let Some((index, branch)) = self.running.get_mut(place) else {
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
            let chosen = self.group.as_ref().map(|group| group.choose(*index));
            let polled = branch.call.as_mut().poll(cx);
            drop(chosen);
            let Poll::Ready(value) = polled else {
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
