//! Runs guests: one guest, one store, one call. This is the only part of the host that knows wasmtime.
//!
//! A [`Sandbox`] is created once per process: one engine, one linker, one pool. `Sandbox::load` turns bytes into a
//! [`Code`] that can be run any number of times. [`Sandbox::run`] runs it once, in its own store, which is dropped
//! afterwards, and returns how it ended. A run is bounded by its fuel (which also makes a computing guest yield), the
//! sum of its linear memories, a deadline for the whole call, the size of any one value that crosses the boundary, and
//! the caps in [`store`](self). A guest can reach its [`Capabilities`] and nothing else.
//!
//! Deliberately absent: threads, shared memory, 64-bit memories, garbage collection and exceptions (each has had
//! sandbox or accounting bugs, and no plugin needs them); the baseline compiler; epochs (fuel provides time slices, and
//! a tokio timer the wall clock); any store that outlives a call.

pub mod advisories;
mod bindings;
mod cache;
mod call;
mod charges;
mod code;
mod compile;
mod documents;
mod engine;
mod error;
mod files;
mod fuel;
mod hostcalls;
mod io;
mod link;
mod machine;
mod memory;
mod outcome;
mod room;
mod settings;
mod store;
mod turns;
mod unseen;
pub mod value;
mod wasi;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex, Linker, Type};
use wasmtime::{Engine, Trap};
use wasmtime_wasi::I32Exit;

use self::cache::Cache;
use self::charges::Charges;
use self::code::ErrorShape;
use self::engine::{Reservation, compiler, pool, pooled_engine};
use self::fuel::{FuelMeter, FuelTank};
use self::hostcalls::ChargeHook;
use self::memory::Refused;
use self::room::Room;
use self::store::{StoreData, TooMuchOpen};
use self::turns::{EffectLost, GuestEnd};
use agenthost_core::failpoint;
use agenthost_core::limits::LimitKind;
use agenthost_plugin::{ComponentError, Plugin};

pub use self::call::{Capabilities, End, Ended, GuestCall, Input, Returned};
pub use self::code::Code;
pub use self::compile::{Abandon, Stop, stop};
pub use self::compile::{Compilation, Compile, CompileLimits, Compiler, compile_and_exit};
pub use self::documents::Documents;
pub use self::error::{InvalidInput, SandboxError};
pub use self::files::{OpenDir, Quota};
pub use self::machine::Machine;
pub use self::memory::{KeptMemory, MemoryBound, MemorySource, RunMemory};
pub use self::settings::Settings;
pub use self::store::MAX_CALL_BYTES;
pub use self::turns::{NextTurn, TurnOrder};

/// The engine, the linker and the slots for guests.
pub struct Sandbox {
    engine: Engine,
    linker: Linker<StoreData>,
    reservation: Reservation,
    cache: Option<Cache>,
    compile: Compile,
    room: Room,
    pooled: bool,
    max_tasks: u32,
    max_memory: u64,
    run_memory: MemoryBound,
    host_memory: MemoryBound,
}

impl Sandbox {
    /// Creates the engine and reserves room for guests: a pool if the machine allows one, otherwise each guest
    /// allocates its own.
    pub fn new(settings: &Settings) -> Result<Self, SandboxError> {
        let machine = Machine::read();
        let (slots, bound) = machine.task_slots();
        let max_tasks = slots.min(settings.max_tasks).max(room::LEVELS);
        if max_tasks < settings.max_tasks {
            tracing::info!(
                max_tasks,
                wanted = settings.max_tasks,
                bound,
                "fewer tasks at once than configured"
            );
        }
        let pooled = machine
            .can_reserve(max_tasks)
            .then(|| pool(max_tasks, settings.max_memory));
        let (engine, pooled) = match pooled.map(pooled_engine) {
            Some(Ok(engine)) => (engine, true),
            other => {
                if let Some(Err(error)) = other {
                    tracing::info!(%error, "no pool of instances; each is allocated on its own");
                }
                (
                    compiler(Reservation::AtMost(settings.max_memory))
                        .map_err(|error| SandboxError::engine("start the WebAssembly engine", error))?,
                    false,
                )
            }
        };
        let linker = link::linker(&engine).map_err(|error| SandboxError::engine("link the host functions", error))?;
        Ok(Self {
            engine,
            linker,
            reservation: Reservation::new(pooled, settings.max_memory),
            cache: settings.cache.as_deref().and_then(Cache::open),
            compile: settings.compile.clone(),
            room: Room::new(max_tasks),
            pooled,
            max_tasks,
            max_memory: settings.max_memory,
            run_memory: MemoryBound::of_run(&machine, max_tasks),
            host_memory: MemoryBound::of_host(&machine),
        })
    }

    /// Returns the maximum number of live guests; further tasks wait.
    pub fn max_tasks(&self) -> u32 {
        self.max_tasks
    }

    /// Returns the maximum linear memory of one guest, in bytes.
    pub fn max_memory(&self) -> u64 {
        self.max_memory
    }

    /// Returns the default memory limit of a run, computed from the memory that was available when this sandbox was
    /// created.
    pub fn run_memory(&self) -> MemoryBound {
        self.run_memory
    }

    /// Returns the default memory limit of all runs together.
    pub fn host_memory(&self) -> MemoryBound {
        self.host_memory
    }

    /// Returns whether no guest has a slot.
    #[cfg(feature = "failpoints")]
    pub fn is_idle(&self) -> bool {
        self.room.is_empty()
    }

    /// Returns whether guests come from a pool.
    pub fn is_pooled(&self) -> bool {
        self.pooled
    }

    /// Compiles and links `plugin`, which is made of `bytes`. `sub_agents` are the imports that start other plugins, and
    /// `files` allows imports of the file system. Blocks while the plugin is compiled; `stop` ends that early.
    pub fn load(
        &self,
        plugin: &Plugin,
        bytes: &[u8],
        sub_agents: &[&str],
        files: bool,
        stop: Option<&Stop>,
    ) -> Result<Code, SandboxError> {
        let source = compile::Source {
            bytes,
            digest: &plugin.digest,
            stop,
        };
        let (component, _) = compile::compile(
            &self.engine,
            self.reservation,
            &source,
            self.cache.as_ref(),
            &self.compile,
        )?;
        let (run, input, returns) = self.signature(&component, &plugin.task)?;
        let mut linker = self.linker.clone();
        if files {
            files::add_to_linker(&mut linker, StoreData::files)
                .map_err(|error| SandboxError::engine("link the file system", error))?;
        }
        for import in sub_agents {
            link::sub_agent(&mut linker, import)
                .map_err(|error| SandboxError::engine(format!("link {import}"), error))?;
        }
        let pre = linker
            .instantiate_pre(&component)
            .map_err(|error| SandboxError::OtherContract {
                problem: error.root_cause().to_string(),
            })?;
        let error = returns.as_ref().map_or(ErrorShape::Own, ErrorShape::of);
        Ok(Code {
            unseen: unseen::UnseenWork::of(bytes),
            instance_bytes: plugin.instance_bytes,
            json: agenthost_plugin::types::JsonTexts::of(&plugin.resolve, &plugin.run),
            wide: component
                .resources_required()
                .is_none_or(|required| required.num_memories > engine::MEMORIES_PER_TASK),
            pre,
            run,
            input,
            returns,
            error,
        })
    }

    fn signature(
        &self,
        component: &Component,
        task: &str,
    ) -> Result<(ComponentExportIndex, Type, Option<Type>), ComponentError> {
        let missing = || ComponentError::NoRun { task: task.to_owned() };
        let ty = component.component_type();
        let Some(ComponentItem::ComponentInstance(interface)) =
            ty.get_export(&self.engine, task).map(|export| export.ty)
        else {
            return Err(missing());
        };
        let Some(ComponentItem::ComponentFunc(run)) = interface.get_export(&self.engine, "run").map(|export| export.ty)
        else {
            return Err(missing());
        };
        let params: Vec<_> = run.params().map(|(_, ty)| ty).collect();
        let Ok([input]) = <[Type; 1]>::try_from(params) else {
            return Err(ComponentError::Parameters {
                task: task.to_owned(),
                count: run.params().len(),
            });
        };
        let output = run.results().next();
        let instance = component.get_export_index(None, task).ok_or_else(missing)?;
        let run = component.get_export_index(Some(&instance), "run").ok_or_else(missing)?;
        Ok((run, input, output))
    }

    /// Runs `code` once. Waits for a slot first if too many guests are alive.
    pub async fn run(&self, code: &Code, call: GuestCall) -> Ended {
        let log = wasi::Log::new(call.log_bytes);
        let never_ran = |end| Ended::new(end, None, 0, 0, &log);
        // The host keeps the input while the task waits for a slot, and until the task has ended.
        let kept = match call.input.kept.clone() {
            Some(kept) => kept,
            None => call
                .run_memory
                .keep(crate::value::size(&call.input.value))
                .map(Arc::new),
        };
        let refused = |why| Ended {
            shared_memory_refused: true,
            ..never_ran(End::Exhausted(LimitKind::Memory, why))
        };
        let _kept = match kept {
            Ok(kept) => kept,
            Err(why) => return refused(why),
        };
        let room = tokio::select! {
            biased;
            () = call.cancel.cancelled() => {
                call.order.cut(false, 0);
                return never_ran(End::Cancelled);
            }
            () = turns::until(call.deadline) => {
                call.order.cut(true, 0);
                return never_ran(time_up());
            }
            room = self.room.enter(call.depth, code.wide) => room,
        };
        failpoint!(await "spawn.room");
        let Some(_room) = room else {
            return never_ran(End::Host("the host is shutting down".into()));
        };
        // The state of the instances, which the engine allocates on instantiation and frees with the store.
        let _instance = match call.run_memory.keep(code.instance_bytes) {
            Ok(kept) => kept,
            Err(why) => return refused(why),
        };
        let (asker, turns) = turns::turns();
        let effects = turns.effects();
        let tank = FuelTank::new();
        let charges = Charges::new(code.unseen, tank.yields());
        let mut store = match store::new(&self.engine, &call, charges, tank.in_call(), asker, &log) {
            Ok(store) => store,
            Err(error) => return never_ran(End::Host(format!("cannot make a store: {error}"))),
        };
        store.call_hook_async(ChargeHook);
        let mut meter = FuelMeter::new(tank.clone(), Arc::clone(&call.capabilities), !call.dirs.is_empty());
        let driven = {
            let guest = code.call(&mut store, &tank, call.input.value);
            let driven = turns.drive(guest, &mut meter, &*call.order, call.deadline, &call.cancel);
            // A panic of the host during a call unwinds through the guest's frames. The cleanup below must run even
            // then.
            AssertUnwindSafe(driven).catch_unwind().await
        };
        let fuel = meter.finish(store.get_fuel().unwrap_or(0));
        let held = &store.data().held;
        let (peak, refused) = (held.peak, held.refused);
        let notes = files::notes(&store.data().files.refusals, &call.dirs);
        let (end, returned) = match driven.unwrap_or(GuestEnd::Ended(Err(EffectLost.into()))) {
            GuestEnd::Ended(Ok(value)) => {
                match code.output(value.as_ref()) {
                    Ok(end) => (end, value.filter(|_| call.keep_returned).map(Returned)),
                    // Not passed on either, so that the report and the parent see the same.
                    Err(not_taken) => (not_taken, None),
                }
            }
            GuestEnd::Ended(Err(error)) => (self.crashed(&error, refused, &log), None),
            GuestEnd::TimeUp => (time_up(), None),
            GuestEnd::Cancelled => (End::Cancelled, None),
            GuestEnd::Diverged => {
                let why = "the task did not ask for what it asked for when it was recorded";
                (End::Host(why.into()), None)
            }
            GuestEnd::Stuck => {
                let why = "the task waits for something that can never come, such as a future that nothing wakes";
                (End::Trapped(why.into()), None)
            }
        };
        // The guest's pending calls end with it. Their usage is known once they have ended.
        drop(store);
        failpoint!(await "collect.effects");
        effects.close();
        effects.wait().await;
        Ended {
            shared_memory_refused: matches!(refused, Some(Refused::Shared(..))),
            notes,
            ..Ended::new(end, returned, fuel, peak, &log)
        }
    }

    fn crashed(&self, error: &wasmtime::Error, refused: Option<Refused>, log: &wasi::Log) -> End {
        let trap = error.downcast_ref::<Trap>();
        if trap == Some(&Trap::OutOfFuel) {
            End::Exhausted(LimitKind::Fuel, "the task used up its fuel".into())
        } else if let Some(too_much) = error.downcast_ref::<TooMuchOpen>() {
            End::Exhausted(LimitKind::Size, too_much.to_string())
        } else if error.downcast_ref::<EffectLost>().is_some() {
            End::Host(error.root_cause().to_string())
        } else if carried_too_much(error) {
            let limit = MAX_CALL_BYTES >> 20;
            End::Exhausted(
                LimitKind::Size,
                format!("a value was larger than the {limit} MiB that one call may carry"),
            )
        } else if error.chain().any(|cause| cause.is::<std::io::Error>()) {
            // The machine refused resources for an instance; this is not the plugin's fault.
            End::Host(format!("the machine cannot start another task: {}", error.root_cause()))
        } else if let Some(refused) = refused {
            End::Exhausted(LimitKind::Memory, refused.to_string())
        } else if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
            let how = if *code == 0 { "success" } else { "failure" };
            End::Trapped(format!("the plugin called exit, with {how}"))
        } else {
            End::Trapped(match (trap, log.with(panic_message)) {
                (_, Some(panic)) => panic,
                (Some(Trap::MemoryOutOfBounds), None) => {
                    "out of bounds memory access; in Rust, most often recursion without end".into()
                }
                (Some(Trap::StackOverflow), None) => "stack overflow: recursion without end?".into(),
                (Some(trap), None) => trap.to_string(),
                (None, None) => error.root_cause().to_string(),
            })
        }
    }
}

/// Returns whether a call carried more than [`MAX_CALL_BYTES`]. The engine's type for this error is private, so this is
/// the only place that reads the text of an error; a test from outside fails if the text changes.
fn carried_too_much(error: &wasmtime::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.to_string().contains("fuel allocated for hostcalls"))
}

fn time_up() -> End {
    End::Exhausted(LimitKind::Time, "the task's time was up".into())
}

/// Returns the panic message in what a Rust guest wrote to stderr.
fn panic_message(log: &str) -> Option<String> {
    const LONGEST: usize = 500;
    let (_, panic) = log.rsplit_once("panicked at ")?;
    let text: String = panic
        .lines()
        .take_while(|line| !line.starts_with("note:"))
        .take(4)
        .map(|line| line.chars().filter(|c| !c.is_control()).collect::<String>())
        .collect::<Vec<_>>()
        .join(" ");
    let text = text.trim();
    Some(format!(
        "panicked at {}",
        text.get(..text.floor_char_boundary(LONGEST)).unwrap_or(text)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_found_in_the_log() {
        let log = "hello\nthread '<unnamed>' panicked at src/lib.rs:7:5:\nno such thing\nnote: run with X\n";
        assert_eq!(panic_message(log).unwrap(), "panicked at src/lib.rs:7:5: no such thing");
        assert_eq!(panic_message("nothing"), None);
    }
}
