//! The settings of the engine and of the pool of instances.

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::room::wide_tasks;

/// The layout of linear memories, which native code depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Reservation {
    /// 4 GiB of address space for each memory, in a pool.
    Full,
    /// Only the address space that a memory may grow to, in bytes, for machines with little address space.
    AtMost(u64),
}

impl Reservation {
    pub(super) fn new(pooled: bool, max_memory: u64) -> Self {
        match pooled {
            true => Self::Full,
            false => Self::AtMost(max_memory),
        }
    }
}

/// Creates an engine with a pool.
pub(super) fn pooled_engine(pool: PoolingAllocationConfig) -> wasmtime::Result<Engine> {
    let mut config = config(Reservation::Full);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// Creates an engine without a pool. An engine with the same reservation can load the code that it compiles.
pub(super) fn compiler(reservation: Reservation) -> wasmtime::Result<Engine> {
    Engine::new(&config(reservation))
}

fn config(reservation: Reservation) -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .wasm_component_model_async(true)
        .consume_fuel(true)
        // Runs must be replayable on every machine.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        // Features that no plugin needs, each a source of past sandbox or accounting bugs.
        .wasm_memory64(false)
        .wasm_tail_call(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false)
        .wasm_backtrace_max_frames(None)
        .allocation_strategy(InstanceAllocationStrategy::OnDemand);
    if let Reservation::AtMost(bytes) = reservation {
        config.memory_reservation(bytes).memory_guard_size(64 << 10);
    }
    config
}

/// The maximum number of core instances of one component. A Rust component has four, one made by componentize-py about
/// forty.
const CORE_INSTANCES: u32 = 100;
/// The maximum number of tables of one component. A Rust component has two.
const TABLES: u32 = 32;
/// The maximum number of memories of one component. Each takes 4 GiB of address space.
const MEMORIES: u32 = 4;
/// The number of memories in every slot of the pool. A component with more also takes one of the wide slots.
pub(super) const MEMORIES_PER_TASK: u32 = 2;

/// The maximum size of one instance without its memories and tables, in bytes. Nothing is reserved for it, and the
/// bounds on a plugin allow a quarter.
const INSTANCE_BYTES: usize = 16 << 20;

/// Configures a pool for `tasks` guests in which no guest finds the pool exhausted, whatever its component consists of.
/// Core instances are only counted, and a table takes little address space, so the pool has enough for `tasks` of the
/// largest components. Memories are expensive, so tasks wait for those beyond the second.
pub(super) fn pool(tasks: u32, max_memory: u64) -> PoolingAllocationConfig {
    let memories = tasks.saturating_mul(MEMORIES_PER_TASK);
    let more = wide_tasks(tasks).saturating_mul(MEMORIES - MEMORIES_PER_TASK);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(tasks)
        .total_core_instances(tasks.saturating_mul(CORE_INSTANCES))
        .total_memories(memories.saturating_add(more))
        .total_tables(tasks.saturating_mul(TABLES))
        .total_stacks(tasks)
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_core_instance_size(INSTANCE_BYTES)
        .max_component_instance_size(INSTANCE_BYTES)
        .max_memory_size(usize::try_from(max_memory).unwrap_or(usize::MAX))
        // The resident bytes of a free slot: enough for small guests to start without page faults, few enough that ten
        // thousand slots hold 160 MiB.
        .linear_memory_keep_resident(16 << 10);
    pool
}
