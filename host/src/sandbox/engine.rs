//! The settings of the engine and of the pool of instances.

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

/// The engine, with a pool or without; without one, `max_memory` is the address space that a memory reserves.
pub(super) fn engine(pool: Option<PoolingAllocationConfig>, max_memory: u64) -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .wasm_component_model_async(true)
        .consume_fuel(true)
        // Runs must replay, on every machine.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        // Parts that no plugin needs, each a source of past sandbox or accounting faults.
        .wasm_memory64(false)
        .wasm_tail_call(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false)
        .wasm_backtrace_max_frames(None);
    match pool {
        Some(pool) => {
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        }
        // Where address space is short, a memory reserves what it may grow to and no more.
        None => {
            config.memory_reservation(max_memory).memory_guard_size(64 << 10);
        }
    }
    Engine::new(&config)
}

/// Room for `tasks` guests. A component of Rust has one memory and four core instances; one made by componentize-py has
/// about forty modules, so the parts per component are wide and the totals sized for the common case.
pub(super) fn pool(tasks: u32, max_memory: u64) -> PoolingAllocationConfig {
    let parts = tasks.saturating_mul(4).max(400);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(tasks)
        .total_core_instances(parts)
        .total_memories(tasks.saturating_mul(2))
        .total_tables(parts)
        .total_stacks(tasks)
        .max_core_instances_per_component(100)
        .max_memories_per_component(4)
        .max_tables_per_component(100)
        .max_component_instance_size(4 << 20)
        .max_memory_size(usize::try_from(max_memory).unwrap_or(usize::MAX))
        // Pages kept by a free slot: enough that small guests start without faults, little enough that ten thousand
        // slots hold 160 MiB.
        .linear_memory_keep_resident(16 << 10);
    pool
}
