//! Compiles plugins to native code, within limits on time and memory.
//!
//! Compiling is bounded twice. First, one pass over the bytes counts everything that the cost of compiling grows with
//! ([`bounds`](agenthost_plugin)). Then the compiler runs where the embedder chooses ([`Compile`]): in a child process
//! with limited address space, computing time and wall time, or in this process, where only the counting bounds it. A
//! child can open no file and no socket, has an empty environment, and dies with the process that started it. This
//! process authenticates and caches the returned image like one that it compiled itself.
//!
//! Left out: limits on the time and memory of a compiler in this process, which cannot be interrupted.

mod child;
mod parent;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use wasmtime::Engine;
use wasmtime::component::Component;

use super::cache::{self, Cache};
use super::engine::{Reservation, compiler};
use super::{Machine, SandboxError, Settings, room};
use agenthost_plugin::{ComponentError, Digest, bounds};

pub use self::child::compile_and_exit;

/// The process in which plugins are compiled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compile {
    /// In this process, on the thread that loads the plugin. The contents of a component are bounded; the memory and
    /// the time of the compiler are not.
    #[default]
    InProcess,
    /// In a child process, which is killed when it exceeds its limits, when the load is abandoned, and when this
    /// process ends.
    Child {
        /// The program to run: `agenthost`, or one that calls [`compile_and_exit`] first, such as `/proc/self/exe`.
        program: PathBuf,
        /// The limits of the child.
        limits: CompileLimits,
    },
}

/// The limits for compiling one plugin.
///
/// ```
/// use agenthost_sandbox::CompileLimits;
///
/// let limits = CompileLimits::default();
/// assert_eq!((limits.memory, limits.time.as_secs()), (2 << 30, 30));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Bytes of address space.
    pub memory: u64,
    /// Wall time, and the total computing time of all threads.
    pub time: Duration,
}

impl Default for CompileLimits {
    /// The largest plugins in use contain CPython, 20 MB. A release build compiles them in 6 to 7 s of computing time,
    /// with 380 MiB.
    fn default() -> Self {
        Self {
            memory: 2 << 30,
            time: Duration::from_secs(30),
        }
    }
}

/// The time and memory that compiling a plugin took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compilation {
    /// Whether the native code was in the cache, so that nothing was compiled.
    pub cached: bool,
    /// The time until the code was available.
    pub time: Duration,
    /// The peak memory of the compiler, in bytes; `None` if the code was cached or compiled in this process.
    pub peak_memory: Option<u64>,
}

/// Abandons a load when it is dropped.
#[derive(Debug)]
pub struct Abandon(Stop);

/// The state of a load that can be abandoned, and the compiler to notify.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Mutex<StopState>>);

#[derive(Debug, Default)]
struct StopState {
    abandoned: bool,
    watcher: Option<mpsc::Sender<parent::Event>>,
}

/// Returns a way to abandon a load from another thread: dropping the [`Abandon`] ends the compiler process that the
/// [`Stop`] was given to.
pub fn stop() -> (Abandon, Stop) {
    let stop = Stop::default();
    (Abandon(stop.clone()), stop)
}

impl Stop {
    fn state(&self) -> MutexGuard<'_, StopState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends [`parent::Event::Abandoned`] when the load is abandoned, or immediately if it already was.
    fn watch(&self, watcher: mpsc::Sender<parent::Event>) {
        let mut state = self.state();
        if state.abandoned {
            let _ = watcher.send(parent::Event::Abandoned);
        }
        state.watcher = Some(watcher);
    }
}

impl Drop for Abandon {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.abandoned = true;
        if let Some(watcher) = state.watcher.take() {
            let _ = watcher.send(parent::Event::Abandoned);
        }
    }
}

/// Compiles plugins as a [`Sandbox`](super::Sandbox) with the same settings would, without running any.
pub struct Compiler {
    engine: Engine,
    reservation: Reservation,
    cache: Option<Cache>,
    how: Compile,
}

impl Compiler {
    /// Creates a compiler. It caches its results for a sandbox with the same settings.
    pub fn new(settings: &Settings) -> Result<Self, SandboxError> {
        let machine = Machine::read();
        let (slots, _) = machine.task_slots();
        let pooled = machine.can_reserve(slots.min(settings.max_tasks).max(room::LEVELS));
        let reservation = Reservation::new(pooled, settings.max_memory);
        let engine =
            compiler(reservation).map_err(|error| SandboxError::engine("start the WebAssembly compiler", error))?;
        Ok(Self {
            engine,
            reservation,
            cache: settings.cache.as_deref().and_then(Cache::open),
            how: settings.compile.clone(),
        })
    }

    /// Compiles a plugin that [`Plugin::read`](agenthost_plugin::Plugin::read) accepts, or loads it from the cache.
    /// Blocks.
    ///
    /// # Errors
    ///
    /// Returns an error of class [`Plugin`](agenthost_core::error::ErrorClass::Plugin) for a plugin that cannot be
    /// compiled or exceeds a limit.
    pub fn check(&self, bytes: &[u8], digest: &Digest) -> Result<Compilation, SandboxError> {
        let source = Source {
            bytes,
            digest,
            stop: None,
        };
        let (_, compilation) = compile(&self.engine, self.reservation, &source, self.cache.as_ref(), &self.how)?;
        Ok(compilation)
    }
}

/// The plugin to compile.
pub(super) struct Source<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) digest: &'a Digest,
    pub(super) stop: Option<&'a Stop>,
}

/// Compiles a plugin, or loads it from the cache.
pub(super) fn compile(
    engine: &Engine,
    reservation: Reservation,
    source: &Source<'_>,
    cache: Option<&Cache>,
    how: &Compile,
) -> Result<(Component, Compilation), SandboxError> {
    let start = Instant::now();
    let done = |component, cached, peak_memory| {
        let time = start.elapsed();
        (
            component,
            Compilation {
                cached,
                time,
                peak_memory,
            },
        )
    };
    if let Some(known) = cache.and_then(|cache| cache.load(engine, source.digest)) {
        return Ok(done(known, true, None));
    }
    bounds::code(source.bytes)?;
    let (image, peak_memory) = match how {
        Compile::InProcess => {
            let image = engine.precompile_component(source.bytes);
            let image = image.map_err(|error| ComponentError::broken(error.root_cause()))?;
            (image, None)
        }
        Compile::Child { program, limits } => {
            let compiled = parent::compile(program, *limits, reservation, source)?;
            (compiled.image, compiled.peak_memory)
        }
    };
    let component = cache::own_image(engine, &image).map_err(|error| {
        if error
            .chain()
            .any(|cause| cause.is::<std::io::Error>() || cause.is::<rustix::io::Errno>())
        {
            return SandboxError::engine("load the compiled plugin", error);
        }
        // The plugin is valid, so a pool without room for it is the only reason left.
        SandboxError::TooLarge {
            problem: error.root_cause().to_string(),
        }
    })?;
    if let Some(cache) = cache {
        cache.store(engine, source.digest, &image);
    }
    Ok(done(component, false, peak_memory))
}
