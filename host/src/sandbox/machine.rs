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

/// The limits of this machine that bound the number of live tasks; none where the system does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// `vm.max_map_count`: memory mappings per process.
    pub max_map_count: Option<u64>,
    /// The hard limit of open files.
    pub open_files: Option<u64>,
    /// Bytes of memory available now.
    pub memory: Option<u64>,
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
            address_space: getrlimit(Resource::As).current,
        }
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
            (self.memory.map(|n| n / BYTES_PER_TASK), "memory"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_limit_is_named() {
        let machine = Machine {
            max_map_count: Some(65_530),
            open_files: Some(20_000),
            memory: Some(20 << 30),
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
        assert!(Machine::read().task_slots().0 >= 1);
    }

    #[test]
    fn a_limited_address_space_rules_the_pool_out() {
        let machine = Machine {
            max_map_count: None,
            open_files: None,
            memory: None,
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
