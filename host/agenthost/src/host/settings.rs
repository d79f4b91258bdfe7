//! The sandbox settings that follow from the configuration.

use agenthost_config::Config;
use agenthost_core::limits::DEFAULT_CONCURRENT_TASKS;
use agenthost_sandbox::{Compile, Settings};

/// The size limit of a 32-bit memory.
pub(super) const MAX_LINEAR_MEMORY: u64 = 4 << 30;

/// Returns the sandbox settings of a host for `config`. The settings that an embedder chooses have their defaults.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost::config::Config;
/// use agenthost::sandbox_settings;
/// use agenthost::sandbox::{Compiler, Settings};
///
/// // A compiler without a cache.
/// let settings = Settings { cache: None, ..sandbox_settings(&Config::builtin()?) };
/// assert!(Compiler::new(&settings).is_ok());
/// # Ok(())
/// # }
/// ```
pub fn sandbox_settings(config: &Config) -> Settings {
    Settings {
        max_memory: config
            .limits()
            .memory
            .unwrap_or(MAX_LINEAR_MEMORY)
            .min(MAX_LINEAR_MEMORY),
        max_tasks: config.run().max_concurrent_tasks.unwrap_or(DEFAULT_CONCURRENT_TASKS),
        cache: None,
        compile: Compile::InProcess,
    }
}
