//! Decides whether another attempt can help, when to make it, and whether it is affordable.
//!
//! Three things bound attempts. The *class* of the error: waiting cures a rate limit, an overload or a lost connection,
//! but never an invalid request, a wrong key or an exhausted budget. The *count*: a service that fails repeatedly is
//! left alone. And a *budget* shared by all calls to a model: retries may be at most about half of the calls, so that
//! when everything fails at once, the retries of many calls do not add up to a second storm. (A count alone allows five
//! times the load exactly when the service is weakest.)

use std::time::Duration;

use tokio::time::Instant;

use agenthost_core::llm::{ProviderError, ProviderErrorKind};

/// The first wait for an error without a `retry-after`; it doubles with each attempt.
const FIRST: Duration = Duration::from_millis(500);
/// The longest of these waits.
const LONGEST: Duration = Duration::from_secs(8);
/// The maximum number of retries for errors that give little indication of when the service is back.
const FEW: u32 = 2;

/// The retries that all calls to one model may still make.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    left: f64,
    most: f64,
}

impl Budget {
    /// The smallest capacity.
    const LEAST: f64 = 32.0;
    /// The amount that each call adds when it is first sent.
    const SHARE: f64 = 0.5;

    /// Creates a full budget, so that every request in flight may be rejected once.
    pub(super) fn new(max_concurrency: u32) -> Self {
        let most = f64::from(max_concurrency).max(Self::LEAST);
        Self { left: most, most }
    }

    pub(super) fn deposit(&mut self) {
        self.left = (self.left + Self::SHARE).min(self.most);
    }

    pub(super) fn withdraw(&mut self) -> bool {
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }
}

/// The decision about a failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetryDecision {
    /// Make another attempt after this time.
    Again(Duration),
    /// Make another attempt after this time, and do not count this one: the service accepts no request at present.
    AgainUncounted(Duration),
    /// Make no other attempt. Holds the reason if another attempt could have helped.
    Final(Option<&'static str>),
}

/// The number of retries that an error of this kind is worth, out of the configured `retries`.
pub(super) fn worth(kind: ProviderErrorKind, retries: u32) -> u32 {
    use ProviderErrorKind as Kind;
    match kind {
        Kind::RateLimited | Kind::Overloaded => retries,
        Kind::Server | Kind::Connection | Kind::Timeout => retries.min(FEW),
        Kind::BadReply
        | Kind::InvalidRequest
        | Kind::ContextOverflow
        | Kind::Authentication
        | Kind::Permission
        | Kind::NotFound
        | Kind::SpendCap
        | Kind::TooLarge
        | Kind::Refused
        | Kind::InvalidReply
        | Kind::FormatRefused => 0,
    }
}

/// An attempt that failed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attempt {
    /// Its number among those that count; the first is 0.
    pub number: u32,
    /// The task's deadline.
    pub deadline: Option<Instant>,
    /// `true` if another model can take over.
    pub fallback: bool,
}

/// Decides about a failed attempt. `kept` is whether the gate sends one request at a time until the service accepts
/// requests again, so that attempts need no other bound; `random` is between 0 and 1.
pub(super) fn judge(
    error: &ProviderError,
    attempt: Attempt,
    kept: bool,
    retries: u32,
    budget: &mut Budget,
    random: f64,
) -> RetryDecision {
    let Attempt {
        number,
        deadline,
        fallback,
    } = attempt;
    let worth = worth(error.kind, retries);
    if worth == 0 || error.no_retry {
        return RetryDecision::Final(None);
    }
    let kept = kept && !fallback;
    if number >= worth && !kept {
        return RetryDecision::Final((number > 0).then_some("no attempt is left"));
    }
    let wait = match error.retry_after {
        // The gate holds everything back until then. The addition spreads the requests that received the same time.
        Some(after) => after.saturating_add(spread(after).mul_f64(random)),
        None if kept => FIRST.mul_f64(0.5 + random / 2.0),
        None => backoff(number).mul_f64(0.5 + random / 2.0),
    };
    if deadline.is_some_and(|deadline| deadline.saturating_duration_since(Instant::now()) <= wait) {
        return RetryDecision::Final(Some("another attempt would come after the task's deadline"));
    }
    if kept {
        return RetryDecision::AgainUncounted(wait);
    }
    if !budget.withdraw() {
        return RetryDecision::Final(Some("too many calls to this model are being retried already"));
    }
    RetryDecision::Again(wait)
}

/// The most that is added to a wait that the service named.
pub(super) fn spread(after: Duration) -> Duration {
    (after / 20).clamp(Duration::from_millis(1), Duration::from_secs(1))
}

/// The wait after the failure of attempt number `attempt` (the first is 0) without a `retry-after`, before it is
/// spread.
pub(super) fn backoff(attempt: u32) -> Duration {
    FIRST.saturating_mul(2_u32.saturating_pow(attempt)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: ProviderErrorKind) -> ProviderError {
        ProviderError::new(kind, "no")
    }

    fn nth(number: u32) -> Attempt {
        Attempt {
            number,
            ..Attempt::default()
        }
    }

    fn attempts(error: &ProviderError, retries: u32) -> u32 {
        let mut budget = Budget::new(32);
        (0..100)
            .take_while(|attempt| {
                matches!(
                    judge(error, nth(*attempt), false, retries, &mut budget, 0.5),
                    RetryDecision::Again(_)
                )
            })
            .count() as u32
            + 1
    }

    #[test]
    fn the_class_decides_how_many_attempts_there_are() {
        use ProviderErrorKind as Kind;
        for (kind, expected) in [
            (Kind::RateLimited, 5),
            (Kind::Overloaded, 5),
            (Kind::Server, 3),
            (Kind::Connection, 3),
            (Kind::Timeout, 3),
            (Kind::BadReply, 1),
            (Kind::InvalidRequest, 1),
            (Kind::ContextOverflow, 1),
            (Kind::Authentication, 1),
            (Kind::Permission, 1),
            (Kind::NotFound, 1),
            (Kind::SpendCap, 1),
            (Kind::TooLarge, 1),
            (Kind::Refused, 1),
            (Kind::InvalidReply, 1),
            (Kind::FormatRefused, 1),
        ] {
            assert_eq!(attempts(&error(kind), 4), expected, "{kind:?}");
            assert_eq!(attempts(&error(kind), 0), 1, "{kind:?} without retries");
        }
        assert_eq!(attempts(&error(Kind::Server), 1), 2);
        let told = error(Kind::RateLimited).without_retry();
        assert_eq!(attempts(&told, 4), 1, "the service says that it is no use");
    }

    #[test]
    fn waits_double_and_are_spread_and_a_named_wait_is_never_cut_short() {
        let mut budget = Budget::new(32);
        let overloaded = error(ProviderErrorKind::Overloaded);
        let mut wait =
            |error: &ProviderError, attempt, random| match judge(error, nth(attempt), false, 9, &mut budget, random) {
                RetryDecision::Again(wait) => wait.as_millis(),
                verdict => panic!("{verdict:?}"),
            };
        assert_eq!(
            [0, 1, 2, 3, 4, 5].map(|n| wait(&overloaded, n, 1.0)),
            [500, 1_000, 2_000, 4_000, 8_000, 8_000]
        );
        assert_eq!(wait(&overloaded, 0, 0.0), 250);
        let told = error(ProviderErrorKind::RateLimited).with_retry_after(Duration::from_secs(10));
        assert_eq!(wait(&told, 0, 0.0), 10_000);
        assert_eq!(wait(&told, 3, 1.0), 10_500);
    }

    #[test]
    fn a_call_that_is_kept_takes_no_attempts_unless_another_model_can_take_over() {
        let mut budget = Budget::new(32);
        let mut decide = |kind, fallback, retries| {
            let attempt = Attempt { fallback, ..nth(20) };
            judge(&error(kind), attempt, true, retries, &mut budget, 0.5)
        };
        let again = RetryDecision::AgainUncounted(FIRST.mul_f64(0.75));
        assert_eq!(decide(ProviderErrorKind::Connection, false, 4), again);
        assert_eq!(decide(ProviderErrorKind::Overloaded, false, 4), again, "it starts up");
        let last = RetryDecision::Final(Some("no attempt is left"));
        assert_eq!(decide(ProviderErrorKind::Connection, true, 4), last);
        assert_eq!(
            decide(ProviderErrorKind::Connection, false, 0),
            RetryDecision::Final(None)
        );
        assert_eq!(budget.left, budget.most);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_tried_that_comes_after_the_deadline() {
        let mut budget = Budget::new(32);
        let told = error(ProviderErrorKind::RateLimited).with_retry_after(Duration::from_secs(60));
        let in_a_minute = Some(Instant::now() + Duration::from_secs(60));
        let attempt = Attempt {
            deadline: in_a_minute,
            ..nth(0)
        };
        let verdict = judge(&told, attempt, false, 4, &mut budget, 0.0);
        assert!(
            matches!(verdict, RetryDecision::Final(Some(why)) if why.contains("deadline")),
            "{verdict:?}"
        );
        assert_eq!(budget.left, budget.most, "what is not tried is not paid for");
    }

    #[test]
    fn a_storm_cannot_feed_itself() {
        // A thousand calls to a service that always fails: a limit of five attempts alone would send 5,000.
        let mut budget = Budget::new(32);
        let failing = error(ProviderErrorKind::Overloaded);
        let mut sent = 0;
        for _ in 0..1_000 {
            budget.deposit();
            for attempt in 0.. {
                sent += 1;
                if judge(&failing, nth(attempt), false, 4, &mut budget, 0.5)
                    == RetryDecision::Final(Some("no attempt is left"))
                {
                    break;
                }
                if budget.left < 1.0 {
                    break;
                }
            }
        }
        assert!(sent <= 1_550, "{sent}");
    }
}
