//! The policies that wait for every call: `all` requires every result, `settled` also returns the errors.

use std::mem::take;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::bounds::bounds;
use super::branches::{Branch, Branches};
use super::labeled::{Labeled, in_place};

/// Returns every result, in the order of the calls; the first error cancels the rest.
///
/// Returns an empty list if there are no calls.
///
/// ```
/// use agenthost_sdk::join::{self, branch};
/// # let main = async {
///
/// let error = join::all([
///     branch("facts", async { Ok("all true") }),
///     branch("voice", async { Err("too loud") }),
///     branch("slow", std::future::pending()),
/// ])
/// .await
/// .unwrap_err();
/// assert_eq!(error.to_string(), "voice: too loud");
/// # };
/// # futures_util::FutureExt::now_or_never(main).unwrap();
/// ```
///
/// # Errors
///
/// Returns the first error, with its call.
pub fn all<'a, T, E>(branches: impl IntoIterator<Item = Branch<'a, T, E>>) -> All<'a, T, E> {
    All {
        branches: Branches::new(branches),
        done: Vec::new(),
    }
}

/// Returns every result and every error, in the order of the calls, and cancels nothing. [`split`](super::split)
/// separates them.
///
/// Returns an empty list if there are no calls.
///
/// ```
/// use agenthost_sdk::join::{self, branch};
/// # let main = async {
///
/// let results = join::settled([branch("a", async { Err("crashed") }), branch("b", async { Ok(2) })]).await;
/// assert_eq!([results[0].value, results[1].value], [Err("crashed"), Ok(2)]);
/// # };
/// # futures_util::FutureExt::now_or_never(main).unwrap();
/// ```
pub fn settled<'a, T, E>(branches: impl IntoIterator<Item = Branch<'a, T, E>>) -> Settled<'a, T, E> {
    Settled {
        branches: Branches::new(branches),
        done: Vec::new(),
    }
}

/// The future of [`all`].
#[must_use = "nothing is started until it is awaited"]
pub struct All<'a, T, E> {
    branches: Branches<'a, T, E>,
    done: Vec<Labeled<T>>,
}

/// The future of [`settled`].
#[must_use = "nothing is started until it is awaited"]
pub struct Settled<'a, T, E> {
    branches: Branches<'a, T, E>,
    done: Vec<Labeled<Result<T, E>>>,
}

bounds!(All, branches);
bounds!(Settled, branches);

// The calls are boxed, and what they gave is never pinned.
impl<T, E> Unpin for All<'_, T, E> {}
impl<T, E> Unpin for Settled<'_, T, E> {}

impl<T, E> Future for All<'_, T, E> {
    type Output = Result<Vec<Labeled<T>>, Labeled<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { branches, done } = &mut *self;
        let error = ready!(branches.poll(cx, |ended, _| match ended.transpose() {
            Ok(ended) => {
                done.push(ended);
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }));
        Poll::Ready(match error {
            Some(error) => Err(error),
            None => Ok(in_place(take(done))),
        })
    }
}

impl<T, E> Future for Settled<'_, T, E> {
    type Output = Vec<Labeled<Result<T, E>>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { branches, done } = &mut *self;
        ready!(branches.poll(cx, |ended, _| {
            done.push(ended);
            ControlFlow::<()>::Continue(())
        }));
        Poll::Ready(in_place(take(done)))
    }
}
