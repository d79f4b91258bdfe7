//! The host data of one guest instance, and the caps on what the guest may hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use wasmtime::component::ResourceTable;
use wasmtime::{Engine, ResourceLimiter, Store};
use wasmtime_wasi::filesystem::WasiFilesystemCtxView;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::call::{Capabilities, GuestCall};
use super::charges::{Charges, SLICE};
use super::files::{FilesState, FilesView, OpenDir};
use super::io::{MAX_HANDLES, MeteredTable};
use super::memory::{Refused, RunMemory};
use super::turns::{Asker, InCall};
use super::wasi::{self, FrozenClock, InertView, Log, SeededRandom};

/// The maximum number of bytes that one call between guest and host may carry: a prompt, a reply, an output. Four times
/// the text of a full context of 200,000 tokens. Without this cap, each of a thousand guests could make the host hold
/// 128 MiB.
pub const MAX_CALL_BYTES: usize = 8 << 20;
/// The maximum number of live handles of a guest with directories, whose handles are mostly open files. Each takes one of
/// the host's file descriptors, of which a stock system gives a process 1,024. Walking a deep tree needs about twenty.
const MAX_HANDLES_WITH_FILES: usize = 128;
/// The maximum number of bytes that the open calls and sub-tasks of one guest may carry together, unless its memory
/// limit is larger: eight of the largest. A guest can pass the same memory repeatedly, and the host holds a copy each
/// time.
const MIN_OPEN_BYTES: u64 = 64 << 20;
/// The same for a guest without a memory limit, or with a very large one.
const MAX_OPEN_BYTES: u64 = 1 << 30;
/// The maximum number of elements of all tables of a guest. A Rust guest has a few hundred, a Python guest about ten
/// thousand.
const MAX_TABLE_ELEMENTS: u64 = 100_000;
/// The memory that a table element takes on the host, in bytes.
const TABLE_ELEMENT_BYTES: u64 = 16;
/// The maximum number of core instances, memories and tables of a guest. A component made by componentize-py has about
/// forty modules.
const MAX_PARTS: usize = 100;
/// The data of a task's store.
pub(super) struct StoreData {
    pub(super) table: ResourceTable,
    pub(super) wasi: WasiCtx,
    pub(super) random: wasi::Random,
    pub(super) now: SystemTime,
    pub(super) dirs: Arc<[OpenDir]>,
    pub(super) files: FilesState,
    pub(super) asker: Asker,
    pub(super) capabilities: Arc<dyn Capabilities>,
    pub(super) held: Held,
    pub(super) charges: Charges,
    pub(super) in_call: InCall,
    /// Bytes that the task's open calls and sub-tasks hold in the host.
    pub(super) open_bytes: OpenBytes,
}

/// Creates the store of one task, without the hook that charges for host calls. It is dropped with the task and never
/// reused.
pub(super) fn new(
    engine: &Engine,
    call: &GuestCall,
    charges: Charges,
    in_call: InCall,
    asker: Asker,
    log: &Log,
) -> wasmtime::Result<Store<StoreData>> {
    let mut table = ResourceTable::new();
    table.set_max_capacity(match call.dirs.is_empty() {
        true => MAX_HANDLES,
        false => MAX_HANDLES_WITH_FILES,
    });
    let state = StoreData {
        table,
        wasi: wasi::context(log),
        random: wasi::Random::new(call.seed),
        now: call.now,
        dirs: Arc::clone(&call.dirs),
        files: FilesState::default(),
        asker,
        capabilities: Arc::clone(&call.capabilities),
        held: Held {
            memory_limit: call.memory,
            memory: 0,
            peak: 0,
            elements: 0,
            refused: None,
            run: Arc::clone(&call.run_memory),
        },
        charges,
        in_call,
        open_bytes: OpenBytes::new(call.memory),
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.held);
    store.set_hostcall_fuel(MAX_CALL_BYTES);
    store.set_max_component_handles(MAX_HANDLES);
    // A guest has no fuel before its first burst: see `fuel`.
    store.set_fuel(0)?;
    store.fuel_async_yield_interval(Some(SLICE))?;
    Ok(store)
}

/// The memory and table elements that the guest holds.
pub(super) struct Held {
    memory_limit: u64,
    memory: u64,
    /// The most bytes of linear memory held at any time.
    pub(super) peak: u64,
    /// The elements of the guest's tables.
    elements: u64,
    /// The reason for the last refusal of memory. A trap that follows means that the guest needed the memory.
    pub(super) refused: Option<Refused>,
    /// The memory that all tasks of the run share.
    run: Arc<RunMemory>,
}

impl Held {
    /// Returns the current linear memory, in bytes.
    pub(super) fn memory(&self) -> u64 {
        self.memory
    }

    /// Returns the memory that all tasks of the run share.
    pub(super) fn run(&self) -> &Arc<RunMemory> {
        &self.run
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.run.give_back(self.memory + self.elements * TABLE_ELEMENT_BYTES);
    }
}

impl ResourceLimiter for Held {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        // The cap is on the sum of the guest's memories.
        let more = (desired as u64).saturating_sub(current as u64);
        let after = self.memory.saturating_add(more);
        if after > self.memory_limit {
            self.refused = Some(Refused::Task);
            return Ok(false);
        }
        if let Err(refused) = self.run.hold(more) {
            self.refused = Some(refused);
            return Ok(false);
        }
        self.memory = after;
        self.peak = self.peak.max(after);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.refused.get_or_insert(Refused::Task);
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        // As with memories, the cap is on the sum.
        let more = (desired as u64).saturating_sub(current as u64);
        let after = self.elements.saturating_add(more);
        if after > MAX_TABLE_ELEMENTS {
            return Ok(false);
        }
        if let Err(refused) = self.run.hold(more * TABLE_ELEMENT_BYTES) {
            self.refused = Some(refused);
            return Ok(false);
        }
        self.elements = after;
        Ok(true)
    }

    fn instances(&self) -> usize {
        MAX_PARTS
    }

    fn tables(&self) -> usize {
        MAX_PARTS
    }

    fn memories(&self) -> usize {
        MAX_PARTS
    }
}

/// The bytes that the open calls and sub-tasks of a guest carry. A call is open until the guest receives or drops its
/// reply, so a refusal depends only on the guest and the order of its turns.
#[derive(Debug)]
pub(super) struct OpenBytes {
    most: u64,
    held: Arc<AtomicU64>,
}

/// The share of one call; dropping it returns the bytes.
#[derive(Debug)]
pub(super) struct OpenShare {
    bytes: u64,
    held: Arc<AtomicU64>,
}

/// A guest exceeded the limit on bytes in open calls and sub-tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the task's open calls and sub-tasks carry more than the {} MiB that they may carry together", self.0 >> 20)]
pub(super) struct TooMuchOpen(u64);

impl OpenBytes {
    fn new(memory_limit: u64) -> Self {
        Self {
            most: memory_limit.clamp(MIN_OPEN_BYTES, MAX_OPEN_BYTES),
            held: Arc::default(),
        }
    }

    /// Takes a share of `bytes`.
    pub(super) fn take(&self, bytes: u64) -> Result<OpenShare, TooMuchOpen> {
        let more = |held: u64| held.checked_add(bytes).filter(|held| *held <= self.most);
        match self.held.try_update(Ordering::AcqRel, Ordering::Acquire, more) {
            Ok(_) => Ok(OpenShare {
                bytes,
                held: Arc::clone(&self.held),
            }),
            Err(_) => Err(TooMuchOpen(self.most)),
        }
    }
}

impl Drop for OpenShare {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl WasiView for StoreData {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl InertView for StoreData {
    fn clock(&mut self) -> FrozenClock<'_> {
        FrozenClock {
            table: &mut self.table,
            now: self.now,
            charges: &mut self.charges,
        }
    }

    fn io(&mut self) -> MeteredTable<'_> {
        MeteredTable {
            table: &mut self.table,
            charges: &mut self.charges,
        }
    }

    fn random(&mut self) -> SeededRandom<'_> {
        SeededRandom {
            random: &mut self.random,
            charges: &mut self.charges,
        }
    }
}

impl StoreData {
    pub(super) fn files(&mut self) -> FilesView<'_> {
        FilesView {
            wasi: WasiFilesystemCtxView {
                ctx: self.wasi.filesystem(),
                table: &mut self.table,
            },
            dirs: &self.dirs,
            state: &mut self.files,
            charges: &mut self.charges,
            run: self.held.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::MemoryBound;
    use super::*;

    /// The memory of a run that is limited to `most` bytes.
    fn run_of(most: Option<u64>) -> Arc<RunMemory> {
        let bound = MemoryBound::configured(most);
        let host = Arc::new(RunMemory::of_host(MemoryBound::configured(None)));
        Arc::new(RunMemory::of_run(bound, &host))
    }

    fn held(memory_limit: u64, run: &Arc<RunMemory>) -> Held {
        Held {
            memory_limit,
            memory: 0,
            peak: 0,
            elements: 0,
            refused: None,
            run: Arc::clone(run),
        }
    }

    #[test]
    fn the_run_has_a_cap_of_its_own_and_gets_everything_back() {
        let run = run_of(Some(100));
        let (mut a, mut b) = (held(80, &run), held(80, &run));
        assert!(a.memory_growing(0, 80, None).unwrap());
        assert!(!b.memory_growing(0, 21, None).unwrap());
        let said = b.refused.unwrap().to_string();
        assert_eq!(said, "the run's memory limit (100 bytes, as configured) is reached");
        assert!(b.memory_growing(0, 20, None).unwrap());
        drop(a);
        assert!(b.memory_growing(20, 80, None).unwrap());
        drop(b);
        assert_eq!(run.hold(100), Ok(()));
    }

    #[test]
    fn tables_count_for_the_run_and_their_cap_is_on_the_sum() {
        let run = run_of(Some(160));
        let mut task = held(1, &run);
        assert!(task.table_growing(0, 6, None).unwrap());
        assert!(!task.table_growing(0, 5, None).unwrap());
        assert!(task.refused.is_some());
        assert!(task.table_growing(0, 4, None).unwrap());
        drop(task);
        assert_eq!(run.hold(160), Ok(()));
        let run = run_of(None);
        let mut task = held(1, &run);
        assert!(task.table_growing(0, 60_000, None).unwrap());
        assert!(!task.table_growing(0, 60_000, None).unwrap());
    }

    #[test]
    fn open_calls_share_a_bound_and_give_back_what_they_took() {
        let open = OpenBytes::new(1 << 20);
        let first = open.take(MIN_OPEN_BYTES - 1).unwrap();
        let _second = open.take(1).unwrap();
        assert_eq!(open.take(1).unwrap_err(), TooMuchOpen(MIN_OPEN_BYTES));
        drop(first);
        assert!(open.take(MIN_OPEN_BYTES - 1).is_ok());
        assert!(OpenBytes::new(u64::MAX).take(MAX_OPEN_BYTES + 1).is_err());
        assert!(OpenBytes::new(128 << 20).take(128 << 20).is_ok());
    }

    #[test]
    fn the_cap_is_on_the_sum_of_memories_and_a_refusal_is_remembered() {
        let mut held = held(100, &run_of(None));
        assert!(held.memory_growing(0, 60, None).unwrap());
        assert!(held.memory_growing(0, 40, None).unwrap());
        assert_eq!(held.refused, None);
        assert!(!held.memory_growing(40, 41, None).unwrap());
        assert_eq!(held.refused, Some(Refused::Task));
        assert_eq!(held.peak, 100);
    }
}
