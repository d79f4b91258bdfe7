//! The attack corpus: hostile guests, bombs, inputs and servers, each with its expected outcome.
//!
//! `tests/attack/` holds the corpus: `guests/` has one tiny module or component in text form per behavior, `cases.toml`
//! defines how each is run and how it has to end, and `threats.toml` which threat it belongs to. Every case is one
//! process of the command line on a machine of its own, under a [watcher](watch) that kills at 2.5 GB, and is compared
//! with the case's expectations: exit code, class and limit of the failure, peak memory of the process and its
//! children, bytes on disk, time.
//!
//! Timings are compared with generous factors only: a case with a time limit of one second may take three and what the
//! process needs to start. How far a case really was from its limit is a figure in `docs/security.md`.

pub mod bombs;
pub mod cases;
pub mod component;
pub mod inputs;
pub mod report;
pub mod run;
mod scenarios;
mod servers;
pub mod watch;

use std::path::PathBuf;

use crate::guests::workspace;

/// The directory of the corpus.
pub fn corpus() -> PathBuf {
    workspace().join("tests/attack")
}
