//! The compile target of plugins.

/// The compile target of plugins.
pub const TARGET: &str = "wasm32-wasip2";
