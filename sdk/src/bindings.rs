//! The imports of `agenthost:plugin`, generated once: every plugin's types refer to these, so that a failure is one type
//! everywhere. The only module with `unsafe` code, all of it generated.

#![allow(
    missing_docs,
    unreachable_pub,
    unused,
    clippy::all,
    reason = "generated; the WIT carries the documentation"
)]

agenthost_sdk_macros::__bindings!();
