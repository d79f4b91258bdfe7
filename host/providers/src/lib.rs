//! The supported model services, with one module per API.
//!
//! Each module implements [`Provider`](agenthost_core::llm::Provider). It knows its API and its key, but nothing about
//! tasks, limits, retries or queues. [`schema`] decides which schemas a structured reply may have.

pub mod anthropic;
mod body;
#[cfg(test)]
mod conformance;
mod conversation;
mod draft;
mod error;
mod errors;
mod extra;
mod http;
mod mend;
pub mod offline;
pub mod openai;
mod openai_api;
mod quota;
pub mod reasoning;
mod refusals;
pub mod responses;
pub mod schema;
pub mod script;
mod service;
mod structured;
mod tools;

pub use self::service::Service;
pub use self::structured::StructuredOutput;

pub use self::error::{BaseUrlProblem, ProviderSetupError};
pub use self::extra::ExtraValue;
#[cfg(any(test, feature = "fuzzing"))]
pub use self::http::RawAnswer;
#[cfg(any(test, feature = "fuzzing"))]
pub use self::service::RawService;
