//! `[compile]`: the limits on compiling one plugin. A plugin is compiled before any other limit applies, so a project's
//! file may set less here than elsewhere.

use std::time::Duration;

use crate::error::{ConfigError, FileError};
use crate::origin::Origins;
use crate::reader::Section;
use agenthost_core::limits::units::{parse_bytes, parse_duration};

/// The compiler's default address space: 19.6 MB of CPython need a quarter of it.
const COMPILE_MEMORY: u64 = 2 << 30;
/// The compiler's default time: CPython takes a quarter of it on two cores.
const COMPILE_TIME: Duration = Duration::from_secs(30);

/// The limits on compiling one plugin, in a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileConfig {
    /// The address space, in bytes.
    pub memory: u64,
    /// The wall time, and also the CPU time of all threads together.
    pub time: Duration,
}

#[derive(Default)]
pub(super) struct RawCompile {
    pub(super) memory: Option<u64>,
    pub(super) time: Option<Duration>,
}

/// Reads the section.
pub(super) fn read(section: &Section<'_>) -> Result<RawCompile, FileError> {
    section.only(&["memory", "time"])?;
    Ok(RawCompile {
        memory: section.number_as("memory", parse_bytes)?,
        time: section.number_as("time", parse_duration)?,
    })
}

/// Returns the limits on compiling a plugin. A project's file may lower the user's limits but not raise them, because
/// it may come with the plugin.
pub(super) fn resolve(
    user: &RawCompile,
    project: &RawCompile,
    origins: &Origins,
) -> Result<CompileConfig, ConfigError> {
    let allowed = CompileConfig {
        memory: user.memory.unwrap_or(COMPILE_MEMORY),
        time: user.time.unwrap_or(COMPILE_TIME),
    };
    let more = |key: &'static str| ConfigError::CompileLimit {
        at: origins.get(&format!("compile.{key}")).cloned(),
        key,
    };
    if project.memory.is_some_and(|memory| memory > allowed.memory) {
        return Err(more("memory"));
    }
    if project.time.is_some_and(|time| time > allowed.time) {
        return Err(more("time"));
    }
    Ok(CompileConfig {
        memory: project.memory.unwrap_or(allowed.memory),
        time: project.time.unwrap_or(allowed.time),
    })
}
