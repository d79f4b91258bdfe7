//! Compiling a plugin within the limits, for commands that examine one without running it.

use std::time::Duration;

use serde_json::{Value, json};

use super::cache_dir::cache_dir;
use super::progress::Progress;
use agenthost::config::{Config, Env};
use agenthost::error::{Error, Result};
use agenthost::limits::units::show_bytes;
use agenthost::plugin::PluginInfo;
use agenthost::sandbox::{Compilation, Compile, CompileLimits, Compiler, Settings};

/// Returns how the command line compiles: in a process of this program.
pub(super) fn how(config: &Config) -> Compile {
    let config = config.compile();
    Compile::Child {
        // The file may have been replaced since this process started.
        program: "/proc/self/exe".into(),
        limits: CompileLimits {
            memory: config.memory,
            time: config.time,
        },
    }
}

/// Like [`how`], with the limits of the configuration at `env`, or the usual ones if it cannot be read.
pub(super) fn how_at(env: &Env) -> Result<Compile> {
    let config = Config::load(env).or_else(|_| Config::builtin())?;
    Ok(how(&config))
}

/// Compiles `bytes`, or finds the result in the cache. A plugin that exceeds a limit is an error.
pub(super) fn check(plugin: &PluginInfo, bytes: &[u8], config: &Config, env: &Env) -> Result<Compilation> {
    let waiting = Progress::waiting(&format!("compiling {}", plugin.id));
    let compiler = Compiler::new(&Settings {
        compile: how(config),
        cache: cache_dir(env),
        ..agenthost::sandbox_settings(config)
    });
    let compiled = compiler.and_then(|compiler| compiler.check(bytes, &plugin.digest));
    waiting.finish();
    compiled.map_err(|error| Error::from(error).context(&plugin.id.to_string()))
}

/// Returns a phrase such as `in 1.2 s with 85 MiB of memory`.
pub(super) fn words(compilation: &Compilation) -> String {
    if compilation.cached {
        return "in the cache already".to_owned();
    }
    let time = match compilation.time {
        short if short < Duration::from_secs(1) => format!("{} ms", short.as_millis()),
        long => format!("{:.1} s", long.as_secs_f64()),
    };
    match compilation.peak_memory {
        Some(peak) => format!("in {time} with {} of memory", show_bytes(peak)),
        None => format!("in {time}"),
    }
}

/// Returns the same facts as JSON.
pub(super) fn document(compilation: &Compilation) -> Value {
    let millis = u64::try_from(compilation.time.as_millis()).unwrap_or(u64::MAX);
    json!({
        "cached": compilation.cached,
        "time_ms": millis,
        "peak_memory_bytes": compilation.peak_memory,
    })
}
