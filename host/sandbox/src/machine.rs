//! The limits of this machine: the number of tasks that can be alive at once before the kernel refuses resources.
//!
//! A waiting task costs about 60 KiB of memory, one connection, and 5 to 6 memory mappings. On a stock Linux, the
//! mappings run out first (`vm.max_map_count` is 65,530). The figures were measured on Linux with wasmtime 48.

/// The mappings of a waiting task: two for its stack, three for its memory, one spare.
const MAPS_PER_TASK: u64 = 6;
/// The mappings that the process itself needs: code, heaps, threads, compiled plugins.
const MAPS_RESERVED: u64 = 5_530;
/// The file descriptors that the process itself needs.
const FILES_RESERVED: u64 = 256;
/// The memory of a waiting task, including page tables.
const BYTES_PER_TASK: u64 = 76 * 1024;
/// The number of 4 GiB memory slots that fit into the 47-bit address space if the executable is position-independent.
const SLOTS_OF_ADDRESS_SPACE: u64 = 20_000;

/// The limits of this machine that bound the number of live tasks and their memory; `None` if the system does not
/// report the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Machine {
    /// `vm.max_map_count`: memory mappings per process.
    pub max_map_count: Option<u64>,
    /// The hard limit of open files.
    pub open_files: Option<u64>,
    /// The currently available memory, in bytes.
    pub memory: Option<u64>,
    /// The bytes that the control groups of this process leave it; `None` if no group has a limit.
    pub control_group: Option<u64>,
    /// The limit of the address space in bytes; `None` if it is unlimited.
    pub address_space: Option<u64>,
}

impl Machine {
    /// Reads the limits of this process and machine.
    pub fn read() -> Self {
        use rustix::process::{Resource, getrlimit};
        let available = |text: String| {
            let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        };
        Self {
            max_map_count: std::fs::read_to_string("/proc/sys/vm/max_map_count")
                .ok()
                .and_then(|text| text.trim().parse().ok()),
            open_files: getrlimit(Resource::Nofile).maximum,
            memory: std::fs::read_to_string("/proc/meminfo")
                .ok()
                .and_then(available)
                .map(|kib| kib * 1024),
            control_group: control_group_left(),
            address_space: getrlimit(Resource::As).current,
        }
    }

    /// Returns the memory that this process can still take, in bytes: the minimum of what the machine, a control group
    /// and the limit of the address space leave. `None` if the system reports none of them.
    pub fn available(&self) -> Option<u64> {
        [self.memory, self.control_group, self.address_space]
            .into_iter()
            .flatten()
            .min()
    }

    /// Returns the number of tasks that can be alive at once, and the limit that determines it.
    pub fn task_slots(&self) -> (u32, &'static str) {
        let bounds = [
            (
                self.max_map_count
                    .map(|n| n.saturating_sub(MAPS_RESERVED) / MAPS_PER_TASK),
                "vm.max_map_count",
            ),
            (self.open_files.map(|n| n.saturating_sub(FILES_RESERVED)), "open files"),
            (
                self.memory
                    .into_iter()
                    .chain(self.control_group)
                    .min()
                    .map(|n| n / BYTES_PER_TASK),
                "memory",
            ),
            (Some(SLOTS_OF_ADDRESS_SPACE), "address space"),
        ];
        let (slots, by) = bounds
            .into_iter()
            .filter_map(|(slots, by)| Some((slots?, by)))
            .min()
            .unwrap_or((SLOTS_OF_ADDRESS_SPACE, "address space"));
        (u32::try_from(slots).unwrap_or(u32::MAX).max(1), by)
    }

    /// Returns whether a pool of `slots` memories with 4 GiB of address space each can be reserved.
    pub(super) fn can_reserve(&self, slots: u32) -> bool {
        let needed = u64::from(slots) * (4 << 30) + (u64::from(slots) << 25);
        self.address_space.is_none_or(|limit| limit > needed.saturating_mul(2))
    }
}

/// The mount points of control groups, version 2 and version 1, with the names of their files.
const GROUPS: [Groups; 2] = [
    Groups {
        root: "/sys/fs/cgroup",
        limit: "memory.max",
        used: "memory.current",
        cache: "inactive_file ",
    },
    Groups {
        root: "/sys/fs/cgroup/memory",
        limit: "memory.limit_in_bytes",
        used: "memory.usage_in_bytes",
        cache: "total_inactive_file ",
    },
];

struct Groups {
    root: &'static str,
    limit: &'static str,
    used: &'static str,
    /// The line of `memory.stat` with the bytes that the kernel reclaims under memory pressure.
    cache: &'static str,
}

/// Returns the minimum that the control groups of this process and their ancestors leave.
fn control_group_left() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let left = own.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (kind, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let groups = match kind {
            "" => GROUPS.first(),
            kind if kind.split(',').any(|kind| kind == "memory") => GROUPS.last(),
            _ => None,
        };
        groups.into_iter().flat_map(move |groups| {
            // In a container, the path may be that of the machine, of which only the root is visible.
            std::path::Path::new(path)
                .ancestors()
                .filter_map(move |path| groups.left(&path.to_string_lossy()))
        })
    });
    left.min()
}

impl Groups {
    /// Returns the bytes that the group at `path` leaves; `None` if it has no limit.
    fn left(&self, path: &str) -> Option<u64> {
        /// Version 1 represents "no limit" as a number larger than any machine's memory.
        const ENDLESS: u64 = 1 << 60;
        let dir = format!("{}{}", self.root, path.trim_end_matches('/'));
        let text = |name: &str| std::fs::read_to_string(format!("{dir}/{name}")).ok();
        let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
        let limit = number(self.limit).filter(|limit| *limit < ENDLESS)?;
        let cache = text("memory.stat").and_then(|stat| {
            let line = stat.lines().find_map(|line| line.strip_prefix(self.cache))?;
            line.trim().parse::<u64>().ok()
        });
        let used = number(self.used).unwrap_or(0).saturating_sub(cache.unwrap_or(0));
        Some(limit.saturating_sub(used))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_limit_is_named() {
        let machine = Machine {
            max_map_count: Some(65_530),
            open_files: Some(20_000),
            memory: Some(20 << 30),
            control_group: None,
            address_space: None,
        };
        assert_eq!(machine.task_slots(), (10_000, "vm.max_map_count"));
        let few_files = Machine {
            open_files: Some(1_024),
            ..machine
        };
        assert_eq!(few_files.task_slots(), (768, "open files"));
        let small = Machine {
            memory: Some(76 << 20),
            ..machine
        };
        assert_eq!(small.task_slots(), (1_024, "memory"));
        let in_group = Machine {
            control_group: Some(38 << 20),
            ..small
        };
        assert_eq!(in_group.task_slots(), (512, "memory"));
        assert_eq!(in_group.available(), Some(38 << 20));
        assert!(Machine::read().task_slots().0 >= 1);
    }

    #[test]
    fn a_limited_address_space_rules_the_pool_out() {
        let machine = Machine {
            max_map_count: None,
            open_files: None,
            memory: None,
            control_group: None,
            address_space: Some(8 << 30),
        };
        assert!(!machine.can_reserve(1_000));
        assert!(
            Machine {
                address_space: None,
                ..machine
            }
            .can_reserve(1_000)
        );
    }
}
