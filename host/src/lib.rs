//! A WebAssembly host for sub-agent tasks.

pub mod cli;
pub mod config;
pub mod error;
pub mod host;
pub mod limits;
pub mod llm;
pub mod plugin;
pub mod price;
pub mod run;
pub mod sandbox;
pub mod task;
pub mod value;
