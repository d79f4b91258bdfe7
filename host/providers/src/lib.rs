//! The model services that agenthost knows: one module per wire.
//!
//! Each implements [`Provider`](agenthost_core::llm::Provider) and knows its wire and its key, and nothing of tasks, limits, retries
//! or queues. [`schema`] decides what a structured answer may look like.

pub mod anthropic;
mod http;
pub mod offline;
pub mod openai;
mod quota;
pub mod schema;
pub mod script;

#[cfg(feature = "fuzzing")]
pub use self::http::RawAnswer;
