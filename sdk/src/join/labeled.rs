//! The outcome of a call, with the identity of the call.

use std::fmt::{self, Debug, Display, Formatter};

use crate::Failure;

/// The outcome of one call, with the identity of the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labeled<V> {
    /// The call's place among those given to the policy, from 0.
    pub index: usize,
    /// The name given to [`branch`](super::branch).
    pub name: String,
    /// The number of the attempt, from 1.
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

/// Sorts the ended calls by the order in which they were given.
pub(super) fn in_place<V>(mut done: Vec<Labeled<V>>) -> Vec<Labeled<V>> {
    done.sort_unstable_by_key(|done| done.index);
    done
}

/// A list of calls for an error's text.
pub(super) fn list<V: Display>(done: &[Labeled<V>]) -> String {
    done.iter().map(Labeled::to_string).collect::<Vec<_>>().join("; ")
}
