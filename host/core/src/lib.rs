//! The vocabulary that all parts of agenthost share: errors, limits and the ledger that enforces them, model requests
//! and replies, outcomes of tasks, and reports and records of runs.
//!
//! Nothing here runs a plugin, sends a request or touches a database.

#[macro_use]
#[cfg_attr(not(feature = "failpoints"), doc(hidden))]
pub mod failpoint;

pub mod date;
pub mod document;
pub mod error;
pub mod limits;
pub mod llm;
pub mod nearest;
#[doc(hidden)]
pub mod plain_file;
pub mod printable;
pub mod process;
pub mod record;
pub mod request_field;
pub mod run;
pub mod task;
#[doc(hidden)]
pub mod weaken;
