//! The policy that compares the results: `vote`.
//!
//! The answer with the most votes wins. More than half is not required; a caller that requires it checks the counts. A
//! failed call abstains. The vote ends once the remaining calls cannot change the winner, so the winner never depends
//! on the order in which the answers arrive.

use std::fmt::{self, Debug, Display, Formatter};
use std::mem::take;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::bounds::bounds;
use super::branches::{Branch, Branches};
use super::labeled::{Labeled, in_place, list};
use crate::Failure;

/// The outcome of a vote in which several answers have the most votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    /// Of these answers, the one from the call of the lowest index wins.
    First,
    /// The vote fails.
    Fail,
}

/// Returns the most frequent answer, and cancels the other calls once they cannot change it.
///
/// ```
/// use agenthost_sdk::join::{self, Tie, branch};
/// # let main = async {
///
/// let voters = [("a", Ok("ship")), ("b", Ok("wait")), ("c", Err("crashed")), ("d", Ok("ship"))];
/// let tally = join::vote(Tie::Fail, voters.map(|(name, answer)| branch(name, async move { answer }))).await?;
/// assert_eq!((tally.winner.value, tally.votes()), ("ship", 2));
/// assert_eq!((tally.dissent[0].value, tally.failed[0].value), ("wait", "crashed"));
/// # Ok::<(), join::Undecided<&str, &str>>(())
/// # };
/// # futures_util::FutureExt::now_or_never(main).unwrap().unwrap();
/// ```
///
/// # Errors
///
/// Returns an error on a tie with [`Tie::Fail`], and without any vote: there are no calls, or all of them failed.
pub fn vote<'a, T: PartialEq + 'a, E>(
    tie: Tie,
    branches: impl IntoIterator<Item = Branch<'a, T, E>>,
) -> Vote<'a, T, E> {
    Vote::new(tie, branches, Box::new(T::eq))
}

/// As [`vote`], with answers that count as equal when their keys are.
///
/// ```
/// use agenthost_sdk::join::{self, Tie, branch};
/// # let main = async {
///
/// let voters = [(1, "fine", "short"), (2, "bad", "rude"), (3, "fine", "clear")];
/// let branches = voters.map(|(name, verdict, why)| branch(name.to_string(), async move { Ok((verdict, why)) }));
/// let tally = join::vote_by_key(Tie::First, branches, |(verdict, _)| *verdict).await?;
/// assert_eq!(tally.winner.value, ("fine", "short"));
/// assert_eq!(tally.agreed[0].value, ("fine", "clear"));
/// # Ok::<(), join::Undecided<(&str, &str), &str>>(())
/// # };
/// # futures_util::FutureExt::now_or_never(main).unwrap().unwrap();
/// ```
///
/// # Errors
///
/// As [`vote`].
pub fn vote_by_key<'a, T, E, K: PartialEq>(
    tie: Tie,
    branches: impl IntoIterator<Item = Branch<'a, T, E>>,
    key: impl Fn(&T) -> K + 'a,
) -> Vote<'a, T, E> {
    Vote::new(tie, branches, Box::new(move |one, other| key(one) == key(other)))
}

/// A decided vote. Calls that are in none of the lists were canceled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteResult<T, E> {
    /// The winning answer, from the call of the lowest index that gave it.
    pub winner: Labeled<T>,
    /// The further answers equal to it, in the order of the calls.
    pub agreed: Vec<Labeled<T>>,
    /// The other answers, in the order of the calls.
    pub dissent: Vec<Labeled<T>>,
    /// The calls that failed, in their order.
    pub failed: Vec<Labeled<E>>,
}

impl<T, E> VoteResult<T, E> {
    /// The number of calls with the winning answer.
    #[must_use]
    pub fn votes(&self) -> usize {
        1 + self.agreed.len()
    }
}

/// A vote without a winner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecided<T, E> {
    /// The answers, in the order of the calls.
    pub votes: Vec<Labeled<T>>,
    /// The calls that failed, in their order.
    pub failed: Vec<Labeled<E>>,
}

impl<T, E: Display> Display for Undecided<T, E> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.votes.len() {
            0 => f.write_str("no call voted")?,
            votes => write!(f, "a tie after {votes} votes")?,
        }
        if self.failed.is_empty() {
            return Ok(());
        }
        write!(f, ", {} abstained: {}", self.failed.len(), list(&self.failed))
    }
}

impl<T: Debug, E: Debug + Display> std::error::Error for Undecided<T, E> {}

/// A tie is [`Failure::Failed`]; without any vote it is the failure of the first call, in the order of the calls.
impl<T> From<Undecided<T, Failure>> for Failure {
    fn from(undecided: Undecided<T, Failure>) -> Failure {
        let text = undecided.to_string();
        match undecided.failed.into_iter().next() {
            Some(first) if undecided.votes.is_empty() => first.into(),
            _ => Failure::Failed(text),
        }
    }
}

/// The future of [`vote`].
#[must_use = "nothing is started until it is awaited"]
pub struct Vote<'a, T, E> {
    branches: Branches<'a, T, E>,
    ballot: Ballot<'a, T, E>,
}

impl<'a, T, E> Vote<'a, T, E> {
    fn new(tie: Tie, branches: impl IntoIterator<Item = Branch<'a, T, E>>, same: Same<'a, T>) -> Self {
        let ballot = Ballot {
            tie,
            same,
            answers: Vec::new(),
            failed: Vec::new(),
        };
        Vote {
            branches: Branches::new(branches),
            ballot,
        }
    }
}

bounds!(Vote, branches);

type Same<'a, T> = Box<dyn Fn(&T, &T) -> bool + 'a>;

/// The votes so far.
struct Ballot<'a, T, E> {
    tie: Tie,
    same: Same<'a, T>,
    /// Equal answers together; no group is empty.
    answers: Vec<Vec<Labeled<T>>>,
    failed: Vec<Labeled<E>>,
}

impl<T, E> Ballot<'_, T, E> {
    fn add(&mut self, ended: Labeled<Result<T, E>>) {
        let vote = match ended.transpose() {
            Ok(vote) => vote,
            Err(error) => return self.failed.push(error),
        };
        let same = &self.same;
        let group = self
            .answers
            .iter_mut()
            .find(|group| group.first().is_some_and(|known| same(&known.value, &vote.value)));
        match group {
            Some(group) => group.push(vote),
            None => self.answers.push(vec![vote]),
        }
    }

    /// Returns whether this many further votes can make neither another winner nor a tie.
    fn decided(&self, left: usize) -> bool {
        let (mut most, mut second) = (0, 0);
        for votes in self.answers.iter().map(Vec::len) {
            if votes > most {
                (most, second) = (votes, most);
            } else {
                second = second.max(votes);
            }
        }
        most > second + left
    }

    fn count(&mut self) -> Result<VoteResult<T, E>, Undecided<T, E>> {
        let mut answers: Vec<_> = take(&mut self.answers).into_iter().map(in_place).collect();
        let failed = in_place(take(&mut self.failed));
        // The most votes first, and of equal ones the lowest index first.
        let lowest = |group: &Vec<Labeled<T>>| group.first().map(|vote| vote.index);
        answers.sort_by(|one, other| other.len().cmp(&one.len()).then(lowest(one).cmp(&lowest(other))));
        let tied = matches!(answers.as_slice(), [one, other, ..] if one.len() == other.len());
        let front = answers.first().map_or(0, Vec::len);
        let mut votes = answers.into_iter().flatten();
        match votes.next() {
            Some(winner) if !tied || self.tie == Tie::First => Ok(VoteResult {
                winner,
                agreed: votes.by_ref().take(front - 1).collect(),
                dissent: in_place(votes.collect()),
                failed,
            }),
            vote => Err(Undecided {
                votes: in_place(vote.into_iter().chain(votes).collect()),
                failed,
            }),
        }
    }
}

// The calls are boxed, and what they gave is never pinned.
impl<T, E> Unpin for Vote<'_, T, E> {}

impl<T, E> Future for Vote<'_, T, E> {
    type Output = Result<VoteResult<T, E>, Undecided<T, E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { branches, ballot } = &mut *self;
        ready!(branches.poll(cx, |ended, left| {
            ballot.add(ended);
            match ballot.decided(left) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }));
        Poll::Ready(ballot.count())
    }
}
