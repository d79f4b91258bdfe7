//! The memory limits that the tasks of a run share, and the runs of a host.
//!
//! These count: the linear memories and tables of every live task, and the copies of values that the host keeps for
//! tasks, which are the input of a sub-task until it ends and the outputs in a run's report. Each run has a limit, and
//! the host has one for all its runs. An allocation that would exceed either is refused. Nothing waits for memory,
//! because tasks that hold memory may be waiting for tasks that need some.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::machine::Machine;
use agenthost_core::limits::DEFAULT_RUN_MEMORY;
use agenthost_core::limits::units::show_bytes;
use agenthost_core::weaken::{self, Defence};

/// The memory allowed for each task that may be alive: a waiting task of a Rust plugin holds a little over 1 MiB.
const PER_TASK: u64 = 2 << 20;
/// Limits are multiples of this many bytes, to be readable.
const STEP: u64 = 1 << 20;
/// The limit if the system does not report the available memory.
const UNKNOWN: u64 = 1 << 30;

/// A shared memory limit, and its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBound {
    /// The maximum in bytes; `None` if it is unlimited.
    pub bytes: Option<u64>,
    /// The source of the number.
    pub source: MemorySource,
}

/// The source of a [`MemoryBound`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemorySource {
    /// `memory` under `[run.limits]`.
    Configured,
    /// Half of the memory that was available when the host started.
    Half,
    /// The needs of the tasks that may be alive at once, which are less than half of the memory that was available.
    Tasks,
}

impl MemoryBound {
    /// The default limit of a run on `machine` with `tasks` alive at once: half of the available memory, and at most 2
    /// GiB, or 2 MiB for each task if that is more.
    pub(super) fn of_run(machine: &Machine, tasks: u32) -> Self {
        let half = Self::of_host(machine);
        let needed = DEFAULT_RUN_MEMORY.max(u64::from(tasks).saturating_mul(PER_TASK));
        match half.bytes {
            Some(bytes) if bytes > needed => Self {
                bytes: Some(needed),
                source: MemorySource::Tasks,
            },
            _ => half,
        }
    }

    /// The limit of all runs of a host together: half of the available memory.
    pub(super) fn of_host(machine: &Machine) -> Self {
        let half = machine.available().map_or(UNKNOWN, |bytes| bytes / 2);
        Self {
            bytes: Some((half / STEP * STEP).max(STEP)),
            source: MemorySource::Half,
        }
    }

    /// A configured limit, or none.
    pub fn configured(bytes: Option<u64>) -> Self {
        Self {
            bytes,
            source: MemorySource::Configured,
        }
    }

    /// Describes the limit for people, such as `2 GiB, …`.
    pub fn describe(&self) -> String {
        let Some(bytes) = self.bytes else {
            return "none".into();
        };
        let source = match self.source {
            MemorySource::Configured => "as configured",
            MemorySource::Half => "half of what was available",
            MemorySource::Tasks => "for the tasks that may be alive at once",
        };
        format!("{}, {source}", show_bytes(bytes))
    }
}

/// The reason for a refusal of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The limit of the task, or of the machine.
    Task,
    /// A shared limit.
    Shared(MemoryBound, Sharers),
}

/// The tasks or runs that share a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharers {
    Run,
    Host,
}

/// A shared memory limit, and the number of bytes currently held.
#[derive(Debug)]
pub struct RunMemory {
    bound: MemoryBound,
    sharers: Sharers,
    held: AtomicU64,
    /// The memory that all runs of the host share.
    host: Option<Arc<RunMemory>>,
}

impl RunMemory {
    /// Creates the memory shared by all runs of a host.
    pub fn of_host(bound: MemoryBound) -> Self {
        Self {
            bound,
            sharers: Sharers::Host,
            held: AtomicU64::new(0),
            host: None,
        }
    }

    /// Creates the memory of one run, which also counts towards `host`.
    pub fn of_run(bound: MemoryBound, host: &Arc<RunMemory>) -> Self {
        Self {
            bound,
            sharers: Sharers::Run,
            held: AtomicU64::new(0),
            host: Some(Arc::clone(host)),
        }
    }

    /// Holds `bytes` more if both limits allow it.
    pub(super) fn hold(&self, bytes: u64) -> Result<(), Refused> {
        let most = match self.bound.bytes {
            Some(most) if !weaken::off(Defence::RunMemory) => most,
            _ => u64::MAX,
        };
        let more = |held: u64| held.checked_add(bytes).filter(|held| *held <= most);
        self.held
            .try_update(Ordering::AcqRel, Ordering::Acquire, more)
            .map_err(|_| Refused::Shared(self.bound, self.sharers))?;
        if let Some(host) = &self.host
            && let Err(refused) = host.hold(bytes)
        {
            self.held.fetch_sub(bytes, Ordering::AcqRel);
            return Err(refused);
        }
        Ok(())
    }

    pub(super) fn give_back(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::AcqRel);
        if let Some(host) = &self.host {
            host.give_back(bytes);
        }
    }

    /// Holds `bytes` for a copy that the host keeps, until the returned guard is dropped.
    ///
    /// # Errors
    ///
    /// Returns a description of the limit that would be exceeded.
    pub fn keep(self: &Arc<Self>, bytes: u64) -> Result<KeptMemory, String> {
        self.hold(bytes).map_err(|refused| refused.to_string())?;
        Ok(KeptMemory {
            memory: Arc::clone(self),
            bytes,
        })
    }
}

/// A guard that releases its memory when dropped.
#[derive(Debug)]
pub struct KeptMemory {
    memory: Arc<RunMemory>,
    bytes: u64,
}

impl KeptMemory {
    /// Holds `bytes` more.
    ///
    /// # Errors
    ///
    /// The bound that would be passed, for people.
    pub(super) fn grow(&mut self, bytes: u64) -> Result<(), String> {
        self.memory.hold(bytes).map_err(|refused| refused.to_string())?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for KeptMemory {
    fn drop(&mut self) {
        self.memory.give_back(self.bytes);
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Task => f.write_str("the task needed more memory than its limit"),
            Self::Shared(bound, Sharers::Run) => {
                write!(f, "the run's memory limit ({}) is reached", bound.describe())
            }
            Self::Shared(bound, Sharers::Host) => {
                let bound = bound.describe();
                write!(f, "the memory limit of all runs of this host ({bound}) is reached")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(bytes: u64, host: &Arc<RunMemory>) -> Arc<RunMemory> {
        Arc::new(RunMemory::of_run(MemoryBound::configured(Some(bytes)), host))
    }

    #[test]
    fn runs_share_what_their_host_has() {
        let host = Arc::new(RunMemory::of_host(MemoryBound::configured(Some(150))));
        let (a, b) = (run(100, &host), run(100, &host));
        assert_eq!(a.hold(100), Ok(()));
        assert!(matches!(a.hold(1), Err(Refused::Shared(_, Sharers::Run))));
        assert!(matches!(b.hold(51), Err(Refused::Shared(_, Sharers::Host))));
        assert_eq!(b.hold(50), Ok(()), "a refusal holds nothing");
        a.give_back(100);
        assert_eq!(b.hold(50), Ok(()));
    }

    #[test]
    fn a_copy_is_held_as_long_as_its_guard() {
        let host = Arc::new(RunMemory::of_host(MemoryBound::configured(None)));
        let run = run(100, &host);
        let kept = run.keep(60).unwrap();
        let said = run.keep(41).unwrap_err();
        assert_eq!(said, "the run's memory limit (100 bytes, as configured) is reached");
        drop(kept);
        assert!(run.keep(100).is_ok());
        assert_eq!(host.held.load(Ordering::Acquire), 0);
    }

    #[test]
    fn the_default_is_half_of_what_is_available_within_reason() {
        let machine = |available: u64| Machine {
            max_map_count: None,
            open_files: None,
            memory: Some(available),
            control_group: None,
            address_space: None,
        };
        let of_run = |available: u64, tasks: u32| MemoryBound::of_run(&machine(available), tasks);
        let (half, tasks) = (MemorySource::Half, MemorySource::Tasks);
        for (available, at_once, bytes, source) in [
            (3 << 30, 1_000, 3 << 29, half),
            (64 << 30, 1_000, 2 << 30, tasks),
            (64 << 30, 10_000, 10_000 << 21, tasks),
            (16 << 30, 10_000, 8 << 30, half),
            (5, 1_000, STEP, half),
        ] {
            let bytes = Some(bytes);
            assert_eq!(of_run(available, at_once), MemoryBound { bytes, source }, "{available}");
        }
        let in_group = Machine {
            control_group: Some(1 << 30),
            ..machine(64 << 30)
        };
        assert_eq!(MemoryBound::of_run(&in_group, 1_000).bytes, Some(512 << 20));
    }
}
