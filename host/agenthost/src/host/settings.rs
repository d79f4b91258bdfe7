//! How the sandbox of a host is set up, where the configuration decides.

use agenthost_config::Config;
use agenthost_sandbox::{Compile, Settings};

/// Tasks that may be alive at once, unless the configuration says otherwise: far more than one fan-out needs, and
/// within what a stock Linux allows.
const MAX_TASKS: u32 = 1_000;

/// A 32-bit memory cannot be larger.
pub(super) const MAX_LINEAR_MEMORY: u64 = 4 << 30;

/// How the sandbox of a host for `config` is set up, but for what an embedder chooses.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost::config::Config;
/// use agenthost::host::sandbox_settings;
/// use agenthost::sandbox::{Compiler, Settings};
///
/// // A compiler that keeps nothing.
/// let settings = Settings { cache: None, ..sandbox_settings(&Config::usual()?) };
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
        max_tasks: config.run().max_concurrent_tasks.unwrap_or(MAX_TASKS),
        cache: None,
        compile: Compile::InProcess,
    }
}
