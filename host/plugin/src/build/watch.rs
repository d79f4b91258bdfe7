//! The states of a build, and their reports to a watcher.

use std::path::Path;

/// The present state of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildState {
    /// The build began.
    Started,
    /// Cargo compiles.
    Compiling {
        /// The number of finished compilations.
        done: u64,
        /// The number of all compilations.
        total: u64,
    },
    /// Cargo waits for another build that uses the same directory, whose description this is.
    Blocked(String),
    /// Any other step, in cargo's words, such as `Downloading crates`.
    Other(String),
    /// The build ended.
    Ended,
}

/// Receives the states of a build, with the directory of its crate.
pub(super) type Watch = dyn Fn(&Path, BuildState) + Send + Sync;

/// A build and its watcher.
pub(super) struct Watched<'a> {
    watch: Option<&'a Watch>,
    dir: &'a Path,
}

impl<'a> Watched<'a> {
    /// Reports the start.
    pub(super) fn start(watch: Option<&'a Watch>, dir: &'a Path) -> Self {
        let watched = Self { watch, dir };
        watched.report(BuildState::Started);
        watched
    }

    pub(super) fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    pub(super) fn report(&self, state: BuildState) {
        if let Some(watch) = self.watch {
            watch(self.dir, state);
        }
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.report(BuildState::Ended);
    }
}
