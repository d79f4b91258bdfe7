//! Defenses that can be switched off, one at a time, to prove that the attack corpus detects it.
//!
//! `cargo xtask attack --weakened` builds the host with the cargo feature `weaken`, names one defense after another in
//! `AGENTHOST_WEAKEN`, and expects the matching case to fail. Nothing else enables the feature. Without it [`off`] is
//! the constant `false`, the branches behind it are not compiled, and the variable is never read.
//!
//! A defense checks this at the place where it rejects something, and nowhere else:
//!
//! ```ignore
//! use agenthost_core::weaken::{self, Defence};
//!
//! if instances > MAX_INSTANCES && !weaken::off(Defence::CompileBounds) {
//!     return Err(too_many(instances));
//! }
//! ```

/// A defense that can be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defence {
    /// The fuel cost of a host call, and the end of a guest's turn after too much host work: `host-call-fuel`.
    HostCallFuel,
    /// The bounds on a component before it is compiled: `compile-bounds`.
    CompileBounds,
    /// The number of bytes that one run may write to the journal: `journal-bytes`.
    JournalBytes,
    /// The size, depth and patterns of a schema that a guest provides: `schema-bounds`.
    SchemaBounds,
    /// The memory that all tasks of a run hold together: `run-memory`.
    RunMemory,
}

/// Returns `true` if `defence` is switched off in this process.
#[cfg(feature = "weaken")]
pub fn off(defence: Defence) -> bool {
    use std::sync::OnceLock;

    static OFF: OnceLock<String> = OnceLock::new();
    let off = OFF.get_or_init(|| {
        let off = std::env::var("AGENTHOST_WEAKEN").unwrap_or_default();
        if !off.is_empty() {
            tracing::warn!(defence = off, "this build has a defence switched off");
        }
        off
    });
    let name = match defence {
        Defence::HostCallFuel => "host-call-fuel",
        Defence::CompileBounds => "compile-bounds",
        Defence::JournalBytes => "journal-bytes",
        Defence::SchemaBounds => "schema-bounds",
        Defence::RunMemory => "run-memory",
    };
    off == name
}

/// Returns `false`: this build has all its defenses.
#[cfg(not(feature = "weaken"))]
pub const fn off(_: Defence) -> bool {
    false
}
