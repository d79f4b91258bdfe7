//! Keeps the process's memory, with its keys and prompts, out of core dumps and away from other processes.
//!
//! The process is marked as not dumpable, so that the system writes no core of it and lets no other process of the user
//! trace it or read its memory. The core size limit is zero for it and for the processes that it starts.
//! `AGENTHOST_CORE_DUMPS=1` in the environment leaves everything as it is, for a debugger. Child processes can be
//! traced as usual.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The variable that leaves core dumps as they are if it is 1.
const ALLOW: &str = "AGENTHOST_CORE_DUMPS";

/// Disables core dumps of this process, unless the environment allows them.
pub(super) fn forbid() {
    if std::env::var_os(ALLOW).is_some_and(|value| value == "1") {
        return;
    }
    // Neither can fail for a process's own settings; if one does, the other still applies.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let limit = Rlimit {
        current: Some(0),
        ..getrlimit(Resource::Core)
    };
    let _ = setrlimit(Resource::Core, limit);
}

/// Returns whether this process writes no core and cannot be traced.
pub(super) fn are_forbidden() -> bool {
    #[cfg(target_os = "linux")]
    let traceable = rustix::process::dumpable_behavior() != Ok(rustix::process::DumpableBehavior::NotDumpable);
    #[cfg(not(target_os = "linux"))]
    let traceable = false;
    !traceable && getrlimit(Resource::Core).current == Some(0)
}
