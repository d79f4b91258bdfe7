//! Outages: a server that cannot be reached, or drops connections before it answers.
//!
//! As long as an outage lasts, one request at a time asks whether the server is back. It costs the server nothing and the
//! call no attempt. An outage ends with the first reply. A server that never answered is not waited for: its address may
//! be wrong.

use std::time::Duration;

use super::clock::millis;
use super::retry;
use agenthost_core::llm::{ProviderError, ProviderErrorKind};

/// The longest pause between two requests that ask whether the server is back.
const LONGEST: Duration = Duration::from_secs(2);
/// Milliseconds after which calls are no longer kept for the end of an outage.
const GIVEN_UP: u64 = 10 * 60_000;

#[derive(Debug, Default)]
pub(super) struct Outage {
    /// `true` if the server ever answered.
    known: bool,
    now: Option<Failing>,
}

#[derive(Debug, Clone, Copy)]
struct Failing {
    since: u64,
    /// The time before which nothing is sent.
    until: u64,
    /// Failures in a row, of which those of requests that were in flight together count as one.
    failures: u32,
    /// The number of the first request whose failure counts.
    before: u64,
}

impl Outage {
    /// Returns whether the error shows that the server cannot be reached: no connection, or one that broke before the
    /// first byte of an answer.
    pub(super) fn is_sign(error: &ProviderError) -> bool {
        let lost = match error.kind {
            ProviderErrorKind::Connection => true,
            // Unlike a request that gets no answer, one that gets no connection is not billed.
            ProviderErrorKind::Timeout => !error.may_be_billed,
            _ => false,
        };
        lost && error.status.is_none()
    }

    /// Returns whether the server cannot be reached.
    pub(super) fn is_on(&self) -> bool {
        self.now.is_some()
    }

    /// Returns whether a call that failed with `error` is kept for the end of the outage. A call that reached the server
    /// is not: it may be the reason why the connection broke, and it may be billed.
    pub(super) fn keeps(&self, error: &ProviderError, now: u64) -> bool {
        let unreached = Self::is_sign(error) && !error.may_be_billed;
        self.now
            .is_some_and(|failing| now.saturating_sub(failing.since) < GIVEN_UP)
            && (unreached || error.kind == ProviderErrorKind::Overloaded)
    }

    /// The time before which nothing is sent, if that is later than now.
    pub(super) fn wait(&self, now: u64) -> Option<u64> {
        self.now.map(|failing| failing.until).filter(|until| *until > now)
    }

    /// Takes the failure of request `number` into account; `next` is the number of the next request to be sent.
    pub(super) fn lost(&mut self, number: u64, next: u64, now: u64) {
        if !self.known || self.now.is_some_and(|failing| number < failing.before) {
            return;
        }
        let (since, failures) = self
            .now
            .map_or((now, 0), |failing| (failing.since, failing.failures + 1));
        self.now = Some(Failing {
            since,
            until: now.saturating_add(millis(retry::backoff(failures).min(LONGEST))),
            failures,
            before: next,
        });
    }

    /// Takes an answer of any kind into account.
    pub(super) fn answered(&mut self) {
        self.known = true;
    }

    /// Ends the outage: the server answers requests.
    pub(super) fn end(&mut self) {
        self.known = true;
        self.now = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_is_a_sign_and_a_slow_or_a_bad_answer_is_none() {
        use ProviderErrorKind as Kind;
        let error = |kind, status, may_be_billed| {
            let error = ProviderError::new(kind, "no");
            error.with_status(status).with_billing(may_be_billed)
        };
        assert!(Outage::is_sign(&error(Kind::Connection, None, false)));
        assert!(
            Outage::is_sign(&error(Kind::Connection, None, true)),
            "reset before any byte"
        );
        assert!(
            Outage::is_sign(&error(Kind::Timeout, None, false)),
            "no connection in time"
        );
        assert!(!Outage::is_sign(&error(Kind::Timeout, None, true)), "no answer in time");
        assert!(!Outage::is_sign(&error(Kind::Connection, Some(200), true)), "cut off");
        assert!(!Outage::is_sign(&error(Kind::Overloaded, Some(503), false)));
        assert!(!Outage::is_sign(&error(Kind::BadReply, None, true)));
    }

    #[test]
    fn failures_of_one_moment_count_once_and_pauses_grow_to_two_seconds() {
        let mut outage = Outage::default();
        outage.lost(0, 1, 0);
        assert!(!outage.is_on(), "it never answered");
        outage.end();
        for number in 1..5 {
            outage.lost(number, 5, 1_000);
        }
        assert_eq!(outage.wait(1_000), Some(1_500));
        let mut pauses = Vec::new();
        let mut now = 1_500;
        for number in 5..10 {
            outage.lost(number, number + 1, now);
            let until = outage.wait(now).unwrap();
            pauses.push(until - now);
            now = until;
        }
        assert_eq!(pauses, [1_000, 2_000, 2_000, 2_000, 2_000]);
        let lost = ProviderError::new(ProviderErrorKind::Connection, "no");
        assert!(outage.keeps(&lost, now) && !outage.keeps(&lost, 1_000 + GIVEN_UP));
        let starts = ProviderError::new(ProviderErrorKind::Overloaded, "no");
        assert!(outage.keeps(&starts, now));
        let broke = lost.with_billing(true);
        assert!(!outage.keeps(&broke, now), "it may break each connection");
        outage.answered();
        assert!(outage.is_on(), "a 503 does not end the outage");
        outage.end();
        assert_eq!((outage.is_on(), outage.wait(now)), (false, None));
    }
}
