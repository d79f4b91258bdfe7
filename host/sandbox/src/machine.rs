//! What this machine allows: how many tasks can be alive at once before the kernel says no.
//!
//! A waiting task costs about 60 KiB of memory, one connection, and 5 to 6 memory mappings; on a stock Linux the last
//! runs out first (`vm.max_map_count` is 65,530). The figures were measured on Linux with wasmtime 48.

/// Mappings of a waiting task: two for its stack, three for its memory, one spare.
const MAPS_PER_TASK: u64 = 6;
/// Mappings that the process itself needs: code, heaps, threads, compiled plugins.
const MAPS_RESERVED: u64 = 5_530;
/// File descriptors that the process itself needs.
const FILES_RESERVED: u64 = 256;
/// Memory of a waiting task, page tables included.
const BYTES_PER_TASK: u64 = 76 * 1024;
/// The 47-bit address space holds this many 4 GiB memory slots when the executable is position-independent.
const SLOTS_OF_ADDRESS_SPACE: u64 = 20_000;

/// The limits of this machine that bound the number of live tasks and their memory; `None` if the system does not
/// tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// `vm.max_map_count`: memory mappings per process.
    pub max_map_count: Option<u64>,
    /// The hard limit of open files.
    pub open_files: Option<u64>,
    /// Bytes of memory available now.
    pub memory: Option<u64>,
    /// Bytes that the control groups of this process leave it, if one of them has a limit.
    pub control_group: Option<u64>,
    /// The limit of the address space in bytes, where one is set.
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

    /// Bytes of memory that this process can still take: the least that the machine, a control group and the limit of
    /// the address space leave. `None` if the system does not say.
    pub fn available(&self) -> Option<u64> {
        [self.memory, self.control_group, self.address_space]
            .into_iter()
            .flatten()
            .min()
    }

    /// How many tasks can be alive at once, and which limit says so.
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

    /// Whether a pool of `slots` memories of 4 GiB address space each can be reserved.
    pub(super) fn can_reserve(&self, slots: u32) -> bool {
        let needed = u64::from(slots) * (4 << 30) + (u64::from(slots) << 25);
        self.address_space.is_none_or(|limit| limit > needed.saturating_mul(2))
    }
}

/// Where control groups are mounted, of version 2 and of version 1, with the names of their files.
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
    /// The line of `memory.stat` with the bytes that are given up when somebody needs them.
    cache: &'static str,
}

/// The least that the control groups of this process and those above them leave.
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
            // In a container, the path may be that of the machine, of which only the root is there.
            std::path::Path::new(path)
                .ancestors()
                .filter_map(move |path| groups.left(&path.to_string_lossy()))
        })
    });
    left.min()
}

impl Groups {
    /// What the group at `path` leaves; `None` if it has no limit.
    fn left(&self, path: &str) -> Option<u64> {
        /// Version 1 writes a number that no machine has for no limit.
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
