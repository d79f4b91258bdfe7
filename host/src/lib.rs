//! A WebAssembly host for sub-agent tasks.

pub mod error;
pub mod limits;
pub mod llm;
pub mod plugin;
pub mod run;
pub mod sandbox;
pub mod task;
pub mod value;
