//! Checks whether a process on this machine is alive, and whether it is still the same one.

/// Returns whether there is a process `pid` that has not ended. A process that has ended counts as gone, even if its
/// parent has not waited for it yet. If the number has been reused, the new process counts.
///
/// ```
/// assert!(agenthost_core::process::is_alive(std::process::id()));
/// ```
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    exists(pid) && !has_ended(pid)
}

/// The start time of the process `pid`, as text that distinguishes it from every other process with this number, even
/// after a reboot. `None` if the process does not exist, or the system does not provide the time.
///
/// ```
/// use agenthost_core::process::{is_alive_since, start_of};
///
/// let me = std::process::id();
/// assert!(is_alive_since(me, start_of(me).as_deref()));
/// if cfg!(target_os = "linux") {
///     assert!(!is_alive_since(me, Some("an earlier process of this number")));
/// }
/// ```
#[must_use]
pub fn start_of(pid: u32) -> Option<String> {
    /// The index of the start time, counted from the state of the process.
    const START: usize = 19;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = stat.rsplit_once(") ")?.1.split(' ').nth(START)?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Some(format!("{ticks}@{}", boot.trim()))
}

/// Returns whether the process `pid` is alive and is the one that began at `start`, as returned by [`start_of`] at that
/// time. If either time is unknown, the number alone decides.
#[must_use]
pub fn is_alive_since(pid: u32, start: Option<&str>) -> bool {
    is_alive(pid) && start.zip(start_of(pid)).is_none_or(|(then, now)| then == now)
}

#[cfg(unix)]
fn exists(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else {
        return false;
    };
    // A process of another user exists, although it may not be signalled.
    !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

#[cfg(not(unix))]
fn exists(_: u32) -> bool {
    true
}

/// Returns whether only the entry in the process table is left, if the system shows that.
fn has_ended(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The format is `pid (name) state …`, and the name may contain anything.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    matches!(state, Some('Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_gone_when_it_has_ended_and_not_only_when_it_was_waited_for() {
        assert!(is_alive(std::process::id()));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(is_alive(child.id()));
        child.kill().unwrap();
        // It may take a moment until the signal takes effect.
        let gone = (0..1_000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            !is_alive(child.id())
        });
        assert!(gone);
        child.wait().unwrap();
        assert!(!is_alive(child.id()));
        assert!(!is_alive(u32::MAX));
    }
}
