//! A WebAssembly host for sub-agent tasks.

pub mod error;
