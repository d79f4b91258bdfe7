//! The policies that wait for some of the results: `quorum` for the first `k`, `first` for one.

use std::fmt::{self, Debug, Display, Formatter};
use std::mem::take;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::bounds::bounds;
use super::branches::{Branch, Branches};
use super::labeled::{Labeled, in_place, list};
use crate::Failure;

/// Returns the first `wanted` results, in the order of the calls, and cancels the other calls.
///
/// With `wanted` 0 it is reached at once, and with more than there are calls it is out of reach at once; no call is
/// started then.
///
/// ```
/// use agenthost_sdk::join::{self, branch};
/// # let main = async {
///
/// let two = join::quorum(2, [
///     branch("a", async { Err("crashed") }),
///     branch("b", std::future::pending()),
///     branch("c", async { Ok(3) }),
///     branch("d", async { Ok(4) }),
/// ])
/// .await?;
/// assert_eq!((two[0].index, two[1].index), (2, 3));
/// # Ok::<(), join::Unreached<i32, &str>>(())
/// # };
/// # futures_util::FutureExt::now_or_never(main).unwrap().unwrap();
/// ```
///
/// # Errors
///
/// Returns an error as soon as so many calls have failed that `wanted` can no longer be reached.
pub fn quorum<'a, T, E>(wanted: usize, branches: impl IntoIterator<Item = Branch<'a, T, E>>) -> Quorum<'a, T, E> {
    let branches = Branches::new(branches);
    let count = Count {
        wanted,
        calls: branches.total(),
        done: Vec::new(),
        failed: Vec::new(),
    };
    Quorum { branches, count }
}

/// Returns the first result, and cancels the other calls. A call that fails does not win.
///
/// ```
/// use agenthost_sdk::join::{self, branch};
/// # let main = async {
///
/// let done = join::first([branch("a", async { Err("crashed") }), branch("b", async { Ok("here") })]).await?;
/// assert_eq!((done.name.as_str(), done.value), ("b", "here"));
/// # Ok::<(), join::Unreached<&str, &str>>(())
/// # };
/// # futures_util::FutureExt::now_or_never(main).unwrap().unwrap();
/// ```
///
/// With `max_concurrent(1)`, the calls are a list of fallbacks:
///
/// ```
/// use agenthost_sdk::join::{self, branch};
/// # let main = async {
/// let fallbacks = [branch("small", async { Err("too hard") }), branch("large", async { Ok("done") })];
/// let done = join::first(fallbacks).max_concurrent(1).await?;
/// assert_eq!(done.name, "large");
/// # Ok::<(), join::Unreached<&str, &str>>(())
/// # };
/// # futures_util::FutureExt::now_or_never(main).unwrap().unwrap();
/// ```
///
/// # Errors
///
/// Returns an error if every call failed, or if there are no calls.
pub fn first<'a, T, E>(branches: impl IntoIterator<Item = Branch<'a, T, E>>) -> First<'a, T, E> {
    First(quorum(1, branches))
}

/// Too few calls succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreached<T, E> {
    /// The number of results that were wanted.
    pub wanted: usize,
    /// The number of calls; those that are neither done nor failed were canceled.
    pub calls: usize,
    /// The results that did arrive, in the order of the calls.
    pub done: Vec<Labeled<T>>,
    /// The errors, in the order of the calls.
    pub failed: Vec<Labeled<E>>,
}

impl<T, E: Display> Display for Unreached<T, E> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let results = if self.wanted == 1 { "result" } else { "results" };
        write!(f, "{} of the {} wanted {results}; ", self.done.len(), self.wanted)?;
        if self.failed.is_empty() {
            let branches = if self.calls == 1 { "branch" } else { "branches" };
            return write!(f, "there are {} {branches}", self.calls);
        }
        write!(
            f,
            "{} of {} branches failed: {}",
            self.failed.len(),
            self.calls,
            list(&self.failed)
        )
    }
}

impl<T: Debug, E: Debug + Display> std::error::Error for Unreached<T, E> {}

/// The class of the first call that failed, in the order of the calls, with the text of the whole error; the failure
/// itself if there was only one call.
impl<T> From<Unreached<T, Failure>> for Failure {
    fn from(mut unreached: Unreached<T, Failure>) -> Failure {
        if unreached.calls == 1
            && let Some(only) = unreached.failed.pop()
        {
            return only.value;
        }
        let text = unreached.to_string();
        let first = unreached.failed.into_iter().next().map(Failure::from);
        match first.unwrap_or_else(|| Failure::Failed(String::new())) {
            Failure::Failed(_) => Failure::Failed(text),
            Failure::Denied(_) => Failure::Denied(text),
            Failure::Model(_) => Failure::Model(text),
            Failure::Trapped(_) => Failure::Trapped(text),
            Failure::Escalated(_) => Failure::Escalated(text),
            Failure::Other((class, _)) => Failure::Other((class, text)),
            without_text @ (Failure::Exhausted(_) | Failure::ContextOverflow | Failure::Cancelled) => without_text,
        }
    }
}

/// The future of [`quorum`].
#[must_use = "nothing is started until it is awaited"]
pub struct Quorum<'a, T, E> {
    branches: Branches<'a, T, E>,
    count: Count<T, E>,
}

/// The future of [`first`].
#[must_use = "nothing is started until it is awaited"]
pub struct First<'a, T, E>(Quorum<'a, T, E>);

bounds!(Quorum, branches);
bounds!(First, 0.branches);

type Decision<T, E> = Result<Vec<Labeled<T>>, Unreached<T, E>>;

/// The results so far.
struct Count<T, E> {
    wanted: usize,
    calls: usize,
    done: Vec<Labeled<T>>,
    failed: Vec<Labeled<E>>,
}

impl<T, E> Count<T, E> {
    fn add(&mut self, ended: Labeled<Result<T, E>>) {
        match ended.transpose() {
            Ok(done) => self.done.push(done),
            Err(error) => self.failed.push(error),
        }
    }

    /// Returns the results, or the reason why they are too few, once either is certain with this many calls left.
    fn decide(&mut self, left: usize) -> ControlFlow<Decision<T, E>> {
        if self.done.len() >= self.wanted {
            ControlFlow::Break(Ok(in_place(take(&mut self.done))))
        } else if self.done.len() + left < self.wanted {
            ControlFlow::Break(Err(self.unreached()))
        } else {
            ControlFlow::Continue(())
        }
    }

    fn unreached(&mut self) -> Unreached<T, E> {
        Unreached {
            wanted: self.wanted,
            calls: self.calls,
            done: in_place(take(&mut self.done)),
            failed: in_place(take(&mut self.failed)),
        }
    }
}

// The calls are boxed, and what they gave is never pinned.
impl<T, E> Unpin for Quorum<'_, T, E> {}
impl<T, E> Unpin for First<'_, T, E> {}

impl<T, E> Future for Quorum<'_, T, E> {
    type Output = Decision<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { branches, count } = &mut *self;
        // Before any call is started: `wanted` may be 0, or larger than the number of calls.
        if let ControlFlow::Break(decision) = count.decide(branches.left()) {
            branches.cancel();
            return Poll::Ready(decision);
        }
        let decision = ready!(branches.poll(cx, |ended, left| {
            count.add(ended);
            count.decide(left)
        }));
        Poll::Ready(decision.unwrap_or_else(|| Err(count.unreached())))
    }
}

impl<T, E> Future for First<'_, T, E> {
    type Output = Result<Labeled<T>, Unreached<T, E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let done = ready!(Pin::new(&mut self.0).poll(cx))?;
        // A quorum of one has one.
        Poll::Ready(done.into_iter().next().ok_or_else(|| self.0.count.unreached()))
    }
}
