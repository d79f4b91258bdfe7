//! The policies over calls that are driven by hand: each ends when its test decides, and shows when it was started and
//! whether it was dropped before its end.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::Failure;

/// A number of calls, from 0.
#[derive(Clone, Default)]
struct Calls(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    /// The result that each call returns.
    results: Vec<Option<Result<u32, &'static str>>>,
    started: Vec<usize>,
    cancelled: Vec<usize>,
    running: usize,
    most: usize,
}

struct Call {
    calls: Calls,
    index: usize,
    started: bool,
    ended: bool,
}

impl Calls {
    fn branches(&self, count: usize) -> Vec<Branch<'static, u32, &'static str>> {
        self.0.borrow_mut().results.resize(count, None);
        let call = |index| Call {
            calls: self.clone(),
            index,
            started: false,
            ended: false,
        };
        (0..count)
            .map(|index| branch(format!("branch {index}"), call(index)))
            .collect()
    }

    fn end(&self, index: usize, result: Result<u32, &'static str>) {
        self.0.borrow_mut().results[index] = Some(result);
    }

    fn started(&self) -> Vec<usize> {
        self.0.borrow().started.clone()
    }

    fn cancelled(&self) -> Vec<usize> {
        self.0.borrow().cancelled.clone()
    }
}

impl Future for Call {
    type Output = Result<u32, &'static str>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let (calls, index, started) = (self.calls.clone(), self.index, self.started);
        let mut state = calls.0.borrow_mut();
        self.started = true;
        if !started {
            state.started.push(index);
            state.running += 1;
            state.most = state.most.max(state.running);
        }
        match state.results[index] {
            Some(result) => {
                self.ended = true;
                state.running -= 1;
                Poll::Ready(result)
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended {
            self.calls.0.borrow_mut().cancelled.push(self.index);
        }
    }
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn ready<F: Future + Unpin>(future: &mut F) -> F::Output {
    match poll(future) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("still pending"),
    }
}

fn done<V>(index: usize, value: V) -> Labeled<V> {
    Labeled {
        index,
        name: format!("branch {index}"),
        attempt: 1,
        value,
    }
}

#[test]
fn nothing_starts_before_the_first_poll_and_a_dropped_policy_cancels_all() {
    let calls = Calls::default();
    let mut joined = all(calls.branches(3));
    assert!(calls.started().is_empty());
    assert!(poll(&mut joined).is_pending());
    assert_eq!(calls.started(), [0, 1, 2]);
    calls.end(1, Ok(1));
    assert!(poll(&mut joined).is_pending());
    drop(joined);
    assert_eq!(calls.cancelled(), [0, 2]);
}

#[test]
fn all_keeps_places_whatever_the_order_of_the_ends() {
    let calls = Calls::default();
    let mut joined = all(calls.branches(3));
    for index in [2, 0, 1] {
        assert!(poll(&mut joined).is_pending());
        calls.end(index, Ok(index as u32 * 10));
    }
    assert_eq!(ready(&mut joined), Ok(vec![done(0, 0), done(1, 10), done(2, 20)]));
    assert!(calls.cancelled().is_empty());
}

#[test]
fn all_fails_at_the_first_error_and_cancels_the_rest_before_it_says_so() {
    let calls = Calls::default();
    let mut joined = all(calls.branches(5)).max_concurrent(3);
    assert!(poll(&mut joined).is_pending());
    calls.end(1, Err("no"));
    assert_eq!(ready(&mut joined), Err(done(1, "no")));
    assert_eq!(calls.started(), [0, 1, 2], "an error starts nothing more");
    let mut cancelled = calls.cancelled();
    cancelled.sort_unstable();
    assert_eq!(cancelled, [0, 2, 3, 4]);
}

#[test]
fn of_two_errors_at_once_the_lower_index_counts() {
    let calls = Calls::default();
    let mut joined = all(calls.branches(3));
    assert!(poll(&mut joined).is_pending());
    calls.end(2, Err("late"));
    calls.end(1, Err("early"));
    assert_eq!(ready(&mut joined), Err(done(1, "early")));
}

#[test]
fn settled_keeps_results_and_errors() {
    let calls = Calls::default();
    let mut joined = settled(calls.branches(3));
    calls.end(2, Err("no"));
    calls.end(0, Ok(1));
    assert!(poll(&mut joined).is_pending());
    calls.end(1, Err("neither"));
    let results = ready(&mut joined);
    let expected = vec![done(0, Ok(1)), done(1, Err("neither")), done(2, Err("no"))];
    assert_eq!(results, expected);
    let (ok, failed) = split(results);
    assert_eq!(
        (ok, failed),
        (vec![done(0, 1)], vec![done(1, "neither"), done(2, "no")])
    );
    assert!(calls.cancelled().is_empty());
}

#[test]
fn the_bound_holds_and_the_next_starts_in_order_when_one_ends() {
    let calls = Calls::default();
    let mut joined = settled(calls.branches(6)).max_concurrent(2);
    assert!(poll(&mut joined).is_pending());
    assert_eq!(calls.started(), [0, 1]);
    calls.end(1, Ok(1));
    assert!(poll(&mut joined).is_pending());
    assert_eq!(calls.started(), [0, 1, 2]);
    // Two that have their result when they are started make room at once.
    calls.end(3, Ok(3));
    calls.end(4, Err("no"));
    calls.end(0, Ok(0));
    assert!(poll(&mut joined).is_pending());
    assert_eq!(calls.started(), [0, 1, 2, 3, 4, 5]);
    calls.end(5, Ok(5));
    calls.end(2, Ok(2));
    assert_eq!(ready(&mut joined).len(), 6);
    assert_eq!(calls.0.borrow().most, 2);
}

#[test]
fn a_bound_of_none_is_one() {
    let calls = Calls::default();
    let mut joined = settled(calls.branches(2)).max_concurrent(0);
    assert!(poll(&mut joined).is_pending());
    assert_eq!(calls.started(), [0]);
}

#[test]
fn quorum_takes_the_first_results_and_cancels_the_rest() {
    let calls = Calls::default();
    let mut joined = quorum(2, calls.branches(4));
    calls.end(0, Err("no"));
    assert!(poll(&mut joined).is_pending());
    calls.end(3, Ok(3));
    assert!(poll(&mut joined).is_pending());
    calls.end(1, Ok(1));
    assert_eq!(ready(&mut joined), Ok(vec![done(1, 1), done(3, 3)]), "by place");
    assert_eq!(calls.cancelled(), [2]);
}

#[test]
fn quorum_fails_once_it_is_out_of_reach() {
    let calls = Calls::default();
    let mut joined = quorum(3, calls.branches(4)).max_concurrent(2);
    calls.end(1, Err("no"));
    assert!(poll(&mut joined).is_pending());
    calls.end(0, Ok(0));
    assert!(poll(&mut joined).is_pending());
    calls.end(2, Err("neither"));
    let unreached = ready(&mut joined).unwrap_err();
    let expected = Unreached {
        wanted: 3,
        calls: 4,
        done: vec![done(0, 0)],
        failed: vec![done(1, "no"), done(2, "neither")],
    };
    assert_eq!(unreached, expected);
    assert_eq!(
        unreached.to_string(),
        "1 of the 3 wanted results; 2 of 4 branches failed: branch 1: no; branch 2: neither"
    );
    assert_eq!(calls.cancelled(), [3]);
}

#[test]
fn a_quorum_of_none_or_of_too_many_is_decided_before_any_start() {
    let calls = Calls::default();
    assert_eq!(ready(&mut quorum(0, calls.branches(2))), Ok(vec![]));
    let unreached = ready(&mut quorum(3, calls.branches(2))).unwrap_err();
    assert_eq!((unreached.done, unreached.failed), (vec![], vec![]));
    assert!(calls.started().is_empty());
}

#[test]
fn a_failed_leg_does_not_win_and_the_losers_are_cancelled() {
    let calls = Calls::default();
    let mut joined = first(calls.branches(3));
    calls.end(0, Err("no"));
    assert!(poll(&mut joined).is_pending());
    calls.end(2, Ok(2));
    assert_eq!(ready(&mut joined), Ok(done(2, 2)));
    assert_eq!(calls.cancelled(), [1]);
}

#[test]
fn first_one_at_a_time_is_a_list_of_fallbacks() {
    let calls = Calls::default();
    let mut joined = first(calls.branches(3)).max_concurrent(1);
    assert!(poll(&mut joined).is_pending());
    assert_eq!(calls.started(), [0]);
    calls.end(0, Err("no"));
    calls.end(1, Ok(1));
    assert_eq!(ready(&mut joined), Ok(done(1, 1)));
    assert_eq!(calls.started(), [0, 1]);
}

#[test]
fn when_all_failed_first_gives_every_error() {
    let calls = Calls::default();
    let mut joined = first(calls.branches(2));
    calls.end(1, Err("b"));
    assert!(poll(&mut joined).is_pending());
    calls.end(0, Err("a"));
    assert_eq!(ready(&mut joined).unwrap_err().failed, [done(0, "a"), done(1, "b")]);
}

fn tally(
    tie: Tie,
    votes: &[Result<u32, &'static str>],
) -> Result<VoteResult<u32, &'static str>, Undecided<u32, &'static str>> {
    let calls = Calls::default();
    let mut joined = vote(tie, calls.branches(votes.len()));
    for (index, vote) in votes.iter().enumerate() {
        calls.end(index, *vote);
    }
    ready(&mut joined)
}

#[test]
fn the_most_votes_win_and_dissent_and_abstention_are_kept() {
    let tally = tally(Tie::Fail, &[Ok(7), Ok(5), Err("ill"), Ok(5)]).unwrap();
    let expected = VoteResult {
        winner: done(1, 5),
        agreed: vec![done(3, 5)],
        dissent: vec![done(0, 7)],
        failed: vec![done(2, "ill")],
    };
    assert_eq!(tally, expected);
    assert_eq!(tally.votes(), 2);
}

#[test]
fn a_tie_goes_to_the_first_or_fails() {
    let votes = [Ok(3), Ok(1), Ok(2)];
    let first = tally(Tie::First, &votes).unwrap();
    assert_eq!(
        (first.winner, first.dissent),
        (done(0, 3), vec![done(1, 1), done(2, 2)])
    );

    let undecided = tally(Tie::Fail, &votes).unwrap_err();
    assert_eq!(undecided.votes, [done(0, 3), done(1, 1), done(2, 2)]);
    assert_eq!(undecided.to_string(), "a tie after 3 votes");

    // The tie is between the answers in front: 9 came first and is not among them.
    let votes = [Ok(9), Ok(2), Ok(1), Ok(1), Ok(2)];
    assert_eq!(tally(Tie::First, &votes).unwrap().winner, done(1, 2));
}

#[test]
fn without_votes_nothing_is_decided() {
    let undecided = tally(Tie::First, &[Err("a"), Err("b")]).unwrap_err();
    assert_eq!(
        undecided.to_string(),
        "no call voted, 2 abstained: branch 0: a; branch 1: b"
    );
    assert_eq!(tally(Tie::First, &[]).unwrap_err().to_string(), "no call voted");
}

#[test]
fn a_vote_ends_when_the_rest_cannot_change_it() {
    let calls = Calls::default();
    let mut joined = vote(Tie::First, calls.branches(5));
    calls.end(4, Ok(1));
    calls.end(1, Ok(1));
    assert!(poll(&mut joined).is_pending(), "three others could still agree");
    calls.end(2, Err("ill"));
    assert!(
        poll(&mut joined).is_pending(),
        "two others could still tie, and the tie rule is not guessed"
    );
    calls.end(0, Ok(2));
    assert!(poll(&mut joined).is_pending());
    calls.end(3, Ok(1));
    assert_eq!(ready(&mut joined).unwrap().winner, done(1, 1));

    let calls = Calls::default();
    let mut joined = vote(Tie::Fail, calls.branches(3)).max_concurrent(2);
    calls.end(0, Ok(1));
    calls.end(1, Ok(1));
    assert_eq!(ready(&mut joined).unwrap().votes(), 2);
    assert_eq!(calls.started(), [0, 1], "the third voter was not asked");
    assert_eq!(calls.cancelled(), [2]);
}

/// Who wins is the same in every order of the answers, and the same as after a full count.
#[test]
fn the_winner_does_not_depend_on_the_order_of_the_answers() {
    let mut ballots = 0;
    for code in 0..4_u32.pow(4) {
        let votes: Vec<Result<u32, &'static str>> = (0..4)
            .map(|place| match code / 4_u32.pow(place) % 4 {
                0 => Err("ill"),
                answer => Ok(answer),
            })
            .collect();
        for tie in [Tie::First, Tie::Fail] {
            let full = full_count(tie, &votes);
            for order in orders() {
                let calls = Calls::default();
                let mut joined = vote(tie, calls.branches(4));
                let mut outcome = poll(&mut joined);
                for index in order {
                    if outcome.is_pending() {
                        calls.end(index, votes[index]);
                        outcome = poll(&mut joined);
                    }
                }
                let Poll::Ready(outcome) = outcome else {
                    panic!("all have voted")
                };
                assert_eq!(
                    outcome.ok().map(|tally| tally.winner.value),
                    full,
                    "{votes:?} {order:?} {tie:?}"
                );
                ballots += 1;
            }
        }
    }
    assert_eq!(ballots, 256 * 2 * 24);
}

fn full_count(tie: Tie, votes: &[Result<u32, &'static str>]) -> Option<u32> {
    let count = |answer: u32| votes.iter().filter(|vote| **vote == Ok(answer)).count();
    let answers: Vec<u32> = votes.iter().filter_map(|vote| vote.ok()).collect();
    let most = answers.iter().map(|answer| count(*answer)).max()?;
    let front: Vec<u32> = answers.into_iter().filter(|answer| count(*answer) == most).collect();
    let tied = front.iter().any(|answer| answer != &front[0]);
    (!tied || tie == Tie::First).then(|| front[0])
}

fn orders() -> Vec<[usize; 4]> {
    let mut orders = Vec::new();
    for code in 0..256 {
        let order = [code & 3, (code >> 2) & 3, (code >> 4) & 3, (code >> 6) & 3];
        if (0..4).all(|index| order.contains(&index)) {
            orders.push(order);
        }
    }
    orders
}

#[test]
fn a_vote_by_key_keeps_the_whole_answers() {
    let voters = [(1, "a"), (2, "b"), (1, "c")];
    let branches = voters.map(|vote| branch("v", std::future::ready(Ok::<_, &str>(vote))));
    let tally = ready(&mut vote_by_key(Tie::Fail, branches, |(key, _)| *key)).unwrap();
    assert_eq!(
        (tally.winner.value, tally.agreed[0].value, tally.dissent[0].value),
        ((1, "a"), (1, "c"), (2, "b"))
    );
}

#[test]
fn without_calls_there_is_nothing_to_wait_for() {
    let none = || Vec::<Branch<'_, u32, &str>>::new();
    assert_eq!(ready(&mut all(none())), Ok(vec![]));
    assert_eq!(ready(&mut settled(none())), vec![]);
    assert_eq!(ready(&mut quorum(0, none())), Ok(vec![]));
    assert_eq!(
        ready(&mut first(none())).unwrap_err().to_string(),
        "0 of the 1 wanted result; there are 0 branches"
    );
}

#[test]
fn a_further_attempt_is_named() {
    let again = branch("draft", std::future::ready(Err::<u32, _>("no"))).attempt(2);
    assert_eq!(format!("{again:?}"), r#"Branch { name: "draft", attempt: 2, .. }"#);
    let error = ready(&mut all([again])).unwrap_err();
    assert_eq!(
        (error.attempt, error.to_string().as_str()),
        (2, "draft (attempt 2): no")
    );
}

#[test]
fn as_a_failure_a_lane_keeps_its_class() {
    let failed = |index, failure| done(index, failure);
    let unreached = Unreached::<u32, Failure> {
        wanted: 2,
        calls: 2,
        done: vec![],
        failed: vec![failed(0, Failure::ContextOverflow), failed(1, Failure::Cancelled)],
    };
    assert_eq!(Failure::from(unreached), Failure::ContextOverflow);
    let tie = Undecided {
        votes: vec![done(0, 1), done(1, 2)],
        failed: vec![failed(2, Failure::Cancelled)],
    };
    let text = "a tie after 2 votes, 1 abstained: branch 2: cancelled";
    assert_eq!(Failure::from(tie), Failure::failed(text));
    assert_eq!(Failure::from(done(0, Failure::Cancelled)), Failure::Cancelled);
}
