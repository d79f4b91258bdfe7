//! Documents that a plugin keeps between runs: one JSON value for each name.
//!
//! ```
//! use agenthost_sdk::prelude::*;
//! use agenthost_sdk::{memory, testing::Host};
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct Seen {
//!     headlines: Vec<String>,
//! }
//!
//! async fn run(headline: String) -> Result<bool, Failure> {
//!     let mut seen: Seen = memory::get("news/seen")?.unwrap_or_default();
//!     let is_new = !seen.headlines.contains(&headline);
//!     if is_new {
//!         seen.headlines.push(headline);
//!         memory::put("news/seen", &seen)?;
//!     }
//!     Ok(is_new)
//! }
//!
//! let host = Host::new().memory([("news/seen", r#"{"headlines": ["Rain"]}"#)]);
//! assert_eq!(host.run(run("Rain".to_owned())), Ok(false));
//! assert_eq!(host.run(run("Sun".to_owned())), Ok(true));
//! assert_eq!(host.run(async { memory::list("news/") }), Ok(vec!["news/seen".to_owned()]));
//! ```
//!
//! The operator grants a directory with the path `/memory`, such as `dirs = ["memory::/memory:rw:64MiB"]`; the document
//! `news/seen` is the file `news/seen.json` in it. A document is written as a whole: a reader receives the old one or the new
//! one, and the last write wins. A name has at most 200 bytes in 8 parts, separated by `/`, of lower-case letters, digits,
//! `-`, `_` and `.`. A document has at most 1 MiB.
//!
//! The journal has every result, so a replay gives the same output, whatever is in the directory now. A task that is
//! resumed receives what it received before, and does not write again what it has written.
//!
//! Left out: locks. Two tasks that read, change and write the same document can lose one of the changes.

use std::fmt::{Display, Formatter};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::bindings::agenthost::plugin::memory::Error;

use crate::bindings::agenthost::plugin::memory as host;
use crate::{Failure, Limit};

/// Returns the document with this name; `None` if there is none.
///
/// # Errors
///
/// [`Error::NotGranted`] without a granted directory, [`Error::InvalidJson`] if the document is not a `T`, and as
/// [`Error`].
///
/// # Panics
///
/// Natively, outside a test's [`Host`](crate::testing::Host), as all functions of this module.
pub fn get<T: DeserializeOwned>(name: &str) -> Result<Option<T>, Error> {
    let document = host::get(name)?;
    let value = document.map(|json| serde_json::from_str(&json)).transpose();
    value.map_err(|why| Error::InvalidJson(format!("{name}: {why}")))
}

/// Writes a document.
///
/// # Errors
///
/// [`Error::NotGranted`] without a granted directory, [`Error::ReadOnly`] if it is granted without writing,
/// [`Error::QuotaFull`] if the run may not put more into it, and as [`Error`].
pub fn put<T: Serialize>(name: &str, value: &T) -> Result<(), Error> {
    let json = serde_json::to_string(value).map_err(|why| Error::InvalidJson(format!("{name}: {why}")))?;
    host::put(name, &json)
}

/// Removes a document, if there is one.
///
/// ```
/// use agenthost_sdk::memory;
/// use agenthost_sdk::testing::Host;
///
/// let host = Host::new().memory([("draft", "1")]);
/// host.run(async { memory::remove("draft") })?;
/// assert!(host.documents().is_empty());
/// # Ok::<(), memory::Error>(())
/// ```
///
/// # Errors
///
/// As [`put`].
pub fn remove(name: &str) -> Result<(), Error> {
    host::remove(name)
}

/// Returns the names of the documents that begin with `prefix`, in order.
///
/// # Errors
///
/// [`Error::NotGranted`] without a granted directory, [`Error::TooLarge`] if there are too many, and as [`Error`].
pub fn list(prefix: &str) -> Result<Vec<String>, Error> {
    host::list(prefix)
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::NotGranted => f.write_str(
                "no memory is granted to the plugin: `dirs` of its grant has no directory with the path /memory",
            ),
            Error::ReadOnly => {
                f.write_str("the plugin may only read its memory: its directory is granted without `:rw`")
            }
            Error::InvalidName(why) => write!(f, "not a valid name of a document: {why}"),
            Error::InvalidJson(why) => write!(f, "not a valid document: {why}"),
            Error::TooLarge(why) | Error::QuotaFull(why) | Error::Io(why) => f.write_str(why),
            Error::Other((class, why)) => write!(f, "{class}: {why}"),
        }
    }
}

impl std::error::Error for Error {}

/// Lets `?` return an error of the memory from `run`.
///
/// ```
/// use agenthost_sdk::{Failure, Limit, memory};
///
/// assert_eq!(Failure::from(memory::Error::QuotaFull("full".into())), Failure::Exhausted(Limit::Size));
/// assert_eq!(Failure::from(memory::Error::NotGranted).class(), "denied");
/// ```
impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::NotGranted | Error::ReadOnly => Failure::Denied(error.to_string()),
            Error::TooLarge(_) | Error::QuotaFull(_) => Failure::Exhausted(Limit::Size),
            Error::Other(other) => Failure::Other(other),
            Error::InvalidName(_) | Error::InvalidJson(_) | Error::Io(_) => Failure::Failed(error.to_string()),
        }
    }
}
