//! An overview of the requests that a server saw.

use std::time::{Duration, Instant};

use super::Request;

/// Requests in flight when a refusal was written may still arrive for this long.
const GRACE: Duration = Duration::from_millis(250);

/// All requests of a server once they had ended, in the order of their arrival.
#[derive(Debug, Clone)]
pub struct Trace(pub Vec<Request>);

impl Trace {
    /// The requests that were answered with `status`.
    pub fn with_status(&self, status: u16) -> Vec<&Request> {
        self.0.iter().filter(|request| request.status == Some(status)).collect()
    }

    /// When each 429 was written.
    pub fn refused(&self) -> Vec<Instant> {
        self.with_status(429).into_iter().map(Request::end).collect()
    }

    /// The numbers of the requests that came although an answer had asked to wait longer, except those that were on
    /// their way at the time.
    pub fn early(&self) -> Vec<usize> {
        let told: Vec<_> = self
            .0
            .iter()
            .filter_map(|request| Some((request.end() + GRACE, request.wait_until?)))
            .collect();
        let early = |request: &&Request| {
            told.iter()
                .any(|(heard, until)| (*heard..*until).contains(&request.arrived))
        };
        self.0.iter().filter(early).map(|request| request.number).collect()
    }

    /// Of each request, how many were in flight when it arrived, itself included.
    pub fn in_flight(&self) -> Vec<usize> {
        self.0.iter().map(|request| request.in_flight).collect()
    }

    /// The most requests that arrived within any `window`.
    pub fn most_within(&self, window: Duration) -> usize {
        let arrivals: Vec<_> = self.0.iter().map(|request| request.arrived).collect();
        let within = |first: &Instant| {
            let end = *first + window;
            arrivals.iter().filter(|at| (*first..end).contains(at)).count()
        };
        arrivals.iter().map(within).max().unwrap_or_default()
    }
}
