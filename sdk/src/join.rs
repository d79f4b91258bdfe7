//! Many sub-agent calls at once, and what to make of their results.
//!
//! A call of an imported task is a future, and so are these policies over several of them. Each waits in its own way:
//!
//! | policy | succeeds with | fails | leaves running calls |
//! |---|---|---|---|
//! | [`all`] | every result | at the first error | on that error |
//! | [`settled`] | every result and every error | never | never |
//! | [`quorum`] | the first `k` results | once `k` are out of reach | when it is decided |
//! | [`first`] | the first result | when every call failed | on that result |
//! | [`vote`] | the answer with the most votes | on a tie that may not be broken, or without votes | when the rest cannot change it |
//!
//! A call that is left is dropped, which cancels the sub-task and gives back what it had reserved; so is every call of a
//! policy that is itself dropped. `max_concurrent` bounds how many calls run at a time, in order; without it, all of them.
//!
//! ```
//! use agenthost_sdk::join::{self, branch};
//! # async fn research(company: &str) -> Result<String, String> {
//! #     if company == "Globex" { Err("no such company".to_owned()) } else { Ok(format!("{company} sells robots")) }
//! # }
//! # let main = async {
//!
//! let companies = ["Acme", "Globex", "Initech"];
//! let results = join::settled(companies.map(|company| branch(company, research(company)))).max_concurrent(2).await;
//!
//! let (done, failed) = join::split(results);
//! assert_eq!(done[1].value, "Initech sells robots");
//! assert_eq!((failed[0].index, failed[0].name.as_str()), (1, "Globex"));
//! # };
//! # futures_util::FutureExt::now_or_never(main).unwrap();
//! ```
//!
//! Results keep their place: a [`Labeled`] identifies its call by index, name and attempt. The calls that run are polled
//! in the order in which they were given, never in the order in which they woke, so a replay that brings the same replies
//! in the same order comes to the same decision. Polling every running call again for each reply is the price; `max_concurrent`
//! bounds it.
//!
//! Left out: starting a call after a delay (a task's clock does not move), and retries. A further attempt is a further
//! call, by whatever rule the plugin has:
//!
//! ```
//! use agenthost_sdk::join::{self, branch};
//! # use std::cell::Cell;
//! # let calls = Cell::new(0);
//! # let draft = |_: &str| { calls.set(calls.get() + 1); let n = calls.get(); async move { if n == 1 { Err("crashed") } else { Ok(n) } } };
//! # let main = async {
//!
//! let done = match join::first([branch("draft", draft("a poem"))]).await {
//!     Ok(done) => done,
//!     Err(_) => join::first([branch("draft", draft("a shorter poem")).attempt(2)]).await?,
//! };
//! assert_eq!(done.attempt, 2);
//! # Ok::<(), join::Unreached<i32, &str>>(())
//! # };
//! # futures_util::FutureExt::now_or_never(main).unwrap().unwrap();
//! ```

mod branches;
mod each;
mod quorum;
mod vote;

#[cfg(test)]
mod tests;

use std::fmt::{self, Debug, Display, Formatter};
use std::pin::Pin;

use crate::Failure;

pub use each::{All, Settled, all, settled};
pub use quorum::{First, Quorum, Unreached, first, quorum};
pub use vote::{Tie, Undecided, Vote, VoteResult, vote, vote_by_key};

/// A call to be made, with the name that its result will carry. Made by [`branch`].
#[must_use = "a branch does nothing until a policy runs it"]
pub struct Branch<'a, T, E> {
    name: String,
    attempt: u32,
    call: Pin<Box<dyn Future<Output = Result<T, E>> + 'a>>,
}

/// Names a call: which sub-agent, or which piece of the work.
///
/// Calls of different sub-agents with the same result type go into one policy.
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
    /// Says that this call is the `number`-th attempt at its work; without it, the first.
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

/// A value that came from a call, with the label of that call: its place, its name and its attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labeled<V> {
    /// The call's place among those given to the policy, from 0.
    pub index: usize,
    /// The name given to [`branch`].
    pub name: String,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// The result, the error, or either.
    pub value: V,
}

impl<V> Labeled<V> {
    /// The same call with another value.
    ///
    /// ```
    /// use agenthost_sdk::join::Labeled;
    ///
    /// let done = Labeled { index: 0, name: "facts".to_owned(), attempt: 1, value: "all true" };
    /// assert_eq!(done.map(str::len).value, 8);
    /// ```
    pub fn map<U>(self, change: impl FnOnce(V) -> U) -> Labeled<U> {
        Labeled {
            index: self.index,
            name: self.name,
            attempt: self.attempt,
            value: change(self.value),
        }
    }
}

impl<T, E> Labeled<Result<T, E>> {
    /// Moves the provenance inside the result.
    ///
    /// ```
    /// use agenthost_sdk::join::Labeled;
    ///
    /// let done = Labeled { index: 0, name: "facts".to_owned(), attempt: 1, value: Err::<(), _>("no source") };
    /// assert_eq!(done.transpose().unwrap_err().to_string(), "facts: no source");
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the error if the call failed.
    pub fn transpose(self) -> Result<Labeled<T>, Labeled<E>> {
        let Labeled {
            index,
            name,
            attempt,
            value,
        } = self;
        let done = Labeled {
            index,
            name,
            attempt,
            value: (),
        };
        match value {
            Ok(value) => Ok(done.map(|()| value)),
            Err(error) => Err(done.map(|()| error)),
        }
    }
}

/// As in `Globex: no such company`, with the attempt if it was not the first.
impl<V: Display> Display for Labeled<V> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.attempt {
            1 => write!(f, "{}: {}", self.name, self.value),
            attempt => write!(f, "{} (attempt {attempt}): {}", self.name, self.value),
        }
    }
}

impl<V: Debug + Display> std::error::Error for Labeled<V> {}

/// The failure as it is: its class counts for more than the name of the call.
impl From<Labeled<Failure>> for Failure {
    fn from(done: Labeled<Failure>) -> Failure {
        done.value
    }
}

/// Parts results from errors, each in the order given.
///
/// ```
/// use agenthost_sdk::join::{self, branch};
/// # let main = async {
/// let results = join::settled([branch("a", async { Err("crashed") }), branch("b", async { Ok(2) })]).await;
/// let (done, failed) = join::split(results);
/// assert_eq!((done[0].value, failed[0].to_string().as_str()), (2, "a: crashed"));
/// # };
/// # futures_util::FutureExt::now_or_never(main).unwrap();
/// ```
pub fn split<T, E>(results: impl IntoIterator<Item = Labeled<Result<T, E>>>) -> (Vec<Labeled<T>>, Vec<Labeled<E>>) {
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for result in results {
        match result.transpose() {
            Ok(result) => done.push(result),
            Err(error) => failed.push(error),
        }
    }
    (done, failed)
}

/// Puts what ended in the order in which it was given.
fn in_place<V>(mut done: Vec<Labeled<V>>) -> Vec<Labeled<V>> {
    done.sort_unstable_by_key(|done| done.index);
    done
}

/// A list of calls for an error's text.
fn list<V: Display>(done: &[Labeled<V>]) -> String {
    done.iter().map(Labeled::to_string).collect::<Vec<_>>().join("; ")
}
