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
mod process;
mod stop;

use std::time::{Duration, Instant};

use wasmtime::Engine;
use wasmtime::component::Component;

use super::cache::{self, Cache};
use super::engine::{Reservation, compiler};
use super::error::SandboxError;
use super::machine::Machine;
use super::room;
use super::settings::Settings;
use agenthost_plugin::{ComponentError, Digest, bounds};

pub use self::child::compile_and_exit;
pub use self::process::{Compile, CompileLimits};
pub use self::stop::{Abandon, Stop, stop};

/// The time and memory that compiling a plugin took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compilation {
    /// `true` if the native code was in the cache, so that nothing was compiled.
    pub cached: bool,
    /// The time until the code was available.
    pub time: Duration,
    /// The peak memory of the compiler, in bytes; `None` if the code was cached or compiled in this process.
    pub peak_memory: Option<u64>,
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
            let compiled = parent::compile(program, *limits, reservation, source.bytes, source.stop)?;
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
