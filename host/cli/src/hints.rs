//! The next step for an error, in the words of the command line.
//!
//! The library's errors carry data and name files and keys. This module maps them to commands and flags.

mod config;
mod registry;

use agenthost::error::Error;

/// Returns the hint for an error: the command line's own if it has one for the typed error, else the library's.
pub(super) fn hint(error: &Error) -> Option<String> {
    config::hint(error)
        .or_else(|| registry::hint(error))
        .or_else(|| error.hint().map(str::to_owned))
}
