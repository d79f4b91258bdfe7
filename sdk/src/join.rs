//! Policies for many sub-agent calls at once, and for their results.
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
//! Calls of different types need no policy: `join!` and `try_join!` await them and give a tuple.
//!
//! A call that a policy leaves is dropped, which cancels the sub-task and gives its reservations back. Dropping a
//! policy drops all of its calls. `max_concurrent` bounds how many calls run at a time, in order; without it, all of
//! them run. `split_equally` gives each call an equal share of what is left for sub-tasks, and `keep_back` leaves a part
//! for later calls.
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
//! in the order in which they were given, never in the order in which they woke, so a replay with the same replies in
//! the same order makes the same decision. The cost is that every running call is polled again for each reply;
//! `max_concurrent` bounds it.
//!
//! Left out: starting a call after a delay (a task's clock does not move), and retries. Another attempt is another
//! call, by the plugin's own rule:
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

mod bounds;
mod branches;
mod each;
mod labeled;
mod macros;
mod quorum;
pub(crate) mod shares;
mod vote;

#[cfg(test)]
mod tests;

pub use branches::{Branch, branch};
pub use each::{All, Settled, all, settled};
pub use labeled::Labeled;
pub use quorum::{First, Quorum, Unreached, first, quorum};
pub use vote::{Tie, Undecided, Vote, VoteResult, vote, vote_by_key};

/// Separates results from errors, each in the order given.
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
