//! Optional groups of tests, which need a program that not every machine has.
//!
//! A group has the name of its program. Each of its tests prints whether it ran, and the summary of `.ci/run` reads these
//! lines. They go to stderr itself, because the test harness hides the output of tests that pass.

use std::io::Write as _;

/// Prints a line.
pub fn say(text: &str) {
    // In one piece, so that it does not mix with the lines of other tests.
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// Prints that a test of `group` has the program and runs.
pub fn runs(group: &str) {
    say(&format!("ran: {group}"));
}

/// Prints why a test of `group` does not run.
pub fn skipped(group: &str, why: impl std::fmt::Display) {
    // The reason may be the output of a program.
    let why = why.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    say(&format!("skipped: {group}: {why}"));
}
