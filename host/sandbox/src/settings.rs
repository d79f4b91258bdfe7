//! The settings of a sandbox and of a compiler for it.

use std::path::PathBuf;

use super::compile::Compile;

/// The configuration of a [`Sandbox`](super::Sandbox).
#[derive(Debug, Clone)]
pub struct Settings {
    /// The maximum linear memory of one guest, in bytes.
    pub max_memory: u64,
    /// The maximum number of live guests; the machine may limit it further.
    pub max_tasks: u32,
    /// The directory of the cache of compiled plugins. If `None`, plugins are compiled every time.
    pub cache: Option<PathBuf>,
    /// The process in which plugins are compiled.
    pub compile: Compile,
}
