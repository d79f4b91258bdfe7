//! The process in which plugins are compiled, and its limits.

use std::path::PathBuf;
use std::time::Duration;

/// The process in which plugins are compiled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compile {
    /// In this process, on the thread that loads the plugin. The contents of a component are bounded; the memory and
    /// the time of the compiler are not.
    #[default]
    InProcess,
    /// In a child process, which is killed when it exceeds its limits, when the load is abandoned, and when this
    /// process ends.
    Child {
        /// The program to run: `agenthost`, or one that calls [`compile_and_exit`](super::compile_and_exit) first, such as
        /// `/proc/self/exe`.
        program: PathBuf,
        /// The limits of the child.
        limits: CompileLimits,
    },
}

/// The limits for compiling one plugin.
///
/// ```
/// use agenthost_sandbox::CompileLimits;
///
/// let limits = CompileLimits::default();
/// assert_eq!((limits.memory, limits.time.as_secs()), (2 << 30, 30));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Bytes of address space.
    pub memory: u64,
    /// Wall time, and the total computing time of all threads.
    pub time: Duration,
}

impl Default for CompileLimits {
    /// The largest plugins in use contain CPython, 20 MB. A release build compiles them in 6 to 7 s of computing time,
    /// with 380 MiB.
    fn default() -> Self {
        Self {
            memory: 2 << 30,
            time: Duration::from_secs(30),
        }
    }
}
