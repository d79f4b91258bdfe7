//! The names that a plugin usually needs: `use agenthost_sdk::prelude::*;`.
//!
//! The derives `Serialize`, `Deserialize` and `JsonSchema` are serde's and schemars', usable without depending on either:
//!
//! ```
//! use agenthost_sdk::prelude::*;
//!
//! #[derive(Deserialize, JsonSchema)]
//! struct Verdict {
//!     /// One sentence.
//!     reason: String,
//!     fits: bool,
//! }
//!
//! let verdict: Verdict = agenthost_sdk::serde_json::from_str(r#"{"reason": "it is round", "fits": true}"#)?;
//! assert!(verdict.fits && verdict.reason.ends_with("round"));
//! # Ok::<(), agenthost_sdk::serde_json::Error>(())
//! ```
//!
//! They do not support generic types; for these, depend on `serde` and `schemars` and use the derives from there.

pub use crate::join::branch;
pub use crate::{
    Cache, Effort, Failure, Limit, Prompt, Search, Thinking, Tool, ToolChoice, join, join_all, llm, memory, progress,
    remaining, try_join, try_join_all,
};
pub use agenthost_sdk_macros::{Deserialize, JsonSchema, Serialize};
pub use serde::de::Deserialize;
pub use serde::ser::Serialize;
