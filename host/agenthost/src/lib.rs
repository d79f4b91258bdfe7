//! A WebAssembly host for sub-agent tasks.
//!
//! A *plugin* is a WebAssembly component with one typed function. A *task* is one call of one plugin, in a sandbox of
//! its own that can compute and call a model, within limits. A *run* is the tree of tasks under one root, since a
//! plugin may start the plugins that it imports. This crate runs them; the command `agenthost` is a thin layer on its
//! public API.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
//! use agenthost::llm::{BoxFuture, Provider, ProviderError, Reply, Request, Usage};
//! use agenthost::{Host, Journal, Limits};
//!
//! /// Answers each question with its size.
//! #[derive(Debug)]
//! struct Counting;
//!
//! impl Provider for Counting {
//!     fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Reply, ProviderError>> {
//!         let bytes = request.bytes();
//!         let usage = Usage { input: bytes, output: 2, ..Usage::default() };
//!         Box::pin(async move { Ok(Reply::new(format!("{bytes} bytes")).with_usage(usage)) })
//!     }
//!
//!     fn summary(&self) -> String {
//!         "counts bytes".to_owned()
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let component = ask();
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let host = Host::builder()
//!     .model("fast", "own/any")
//!     .provider("own", Counting)
//!     .journal(Journal::sqlite(dir.join("journal.db"))?)
//!     .build()?;
//! let ask = host.load_bytes(&component)?; // `host.load(path)` takes a file or a crate
//!
//! let report = host
//!     .run(&ask, "Name a color.") // a value that is `Serialize`
//!     .limits(Limits::new().calls(2).tokens(40_000))
//!     .await?;
//! let answer: String = report.output()?; // a value that is `DeserializeOwned`
//! assert_eq!(answer, "13 bytes");
//! assert_eq!(report.spent.calls, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Contents
//!
//! | to | see |
//! |---|---|
//! | declare models, providers, prices, limits and grants | [`HostBuilder`], or [`config`] for the files of the command |
//! | load a plugin | [`Host::load`], [`Host::load_with`], [`Plugin`], [`plugin`] |
//! | run it | [`Host::run`], [`RunBuilder`], [`RunHandle`], [`RunReport`] |
//! | limit it | [`Limits`], [`LimitsPatch`], [`limits`] |
//! | understand its end | [`Outcome`], [`Failure`], [`OutputError`]; [`Error`] if it does not start |
//! | watch it | [`RunHandle::events`], [`Events`], [`Event`] |
//! | record, resume and replay it | [`Journal`], [`Host::resume`], [`Host::replay`], [`journal`] |
//! | test a plugin without a model | [`Host::rehearse`], [`journal::cassette`] |
//! | run it for many items | [`Host::batch`], [`batch`] |
//! | serve models | [`llm::Provider`], [`providers`], [`gate`]; [`Host::probe`] tries one |
//! | know what calls cost | [`price`] |
//! | share plugins | [`registry`] |
//! | decide how plugins are compiled | [`sandbox`] |
//!
//! The examples of this documentation use the plugin `demo:ask`, which sends its input to the model `fast` and returns
//! the reply, and `demo:double`, which doubles a number; `component` holds the bytes of one of them. Longer programs (a
//! fan-out, events, staged validation, recovery) are in `host/agenthost/examples`. Spans and events use `tracing`, with
//! OpenTelemetry's names.
//!
//! # Features
//!
//! | feature | by default | brings |
//! |---|---|---|
//! | `build` | yes | building plugins from source with cargo; without it, plugins are component files and references |
//! | `journal` | yes | [`Journal::sqlite`]; without it, runs are recorded on a cassette or by a [`journal::JournalStore`] |
//! | `registry` | yes | [`registry`]: references, lock files, signatures and policies; without it, plugins are files and crates |
//! | `signing` | no | signing plugins with keys on disk; verification belongs to `registry` |
//!
//! # Bounds
//!
//! One engine per [`Host`]; a store per task, used once. A host needs a tokio runtime and a Unix system (it is
//! tested on Linux): keys, the cache of compiled plugins, the record of trust and shared rate limits rest on Unix file
//! modes. The journal is one SQLite file, which must not be on a network file system. This crate has no server: it
//! reads registries and does not host one.

pub mod allowance;
pub mod batch;
mod cancellation;
pub mod error;
mod host;
pub mod journal;
pub mod price;
mod private;
#[doc(hidden)]
pub mod schedule;
mod telemetry;

pub use agenthost_config::{Config, Grant, PriceConfig, ProviderSettings};
pub use agenthost_core::limits::{Cap, LimitKind, Limits, LimitsPatch, Spent, Usd};
pub use agenthost_core::run::{Event, RunId, RunReport};
pub use agenthost_core::task::{Failure, FailureClass, Outcome, OutputError, TaskId, TaskReport};
pub use cancellation::Cancellation;
pub use error::{Error, ErrorClass, Result};
pub use host::{
    Batch, BatchBuilder, BatchWait, BatchWaits, Events, FailedTasks, Host, HostBuilder, Lagged, LoadOptions,
    ModelProbe, Plugin, PluginSource, RecordedRunBuilder, Rehearsal, RunBuilder, RunHandle, SchemaSupport,
};
pub use journal::Journal;

pub use agenthost_config as config;
pub use agenthost_core::task;
#[doc(hidden)]
pub use agenthost_core::{date, nearest};
#[cfg(feature = "registry")]
pub use agenthost_registry as registry;

/// The path of all requests to a provider: rate limits, concurrency, retries.
pub mod gate {
    pub use agenthost_gate::Pressure;
    #[doc(hidden)]
    pub use agenthost_gate::*;
}

/// Limits on what a task may use, how an operator writes them, and how they combine.
pub mod limits {
    pub use agenthost_core::limits::{
        Cap, DEFAULT_CONCURRENT_TASKS, DEFAULT_RUN_MEMORY, InvalidLimit, KeepBack, LimitKind, LimitOwner, Limits,
        LimitsPatch, Percent, Shortage, Spent, Usd, units,
    };
}

/// Model calls, and the interface that every model service implements.
pub mod llm {
    pub use agenthost_core::llm::{
        Allowance, Ask, BoxFuture, CacheTtl, Caching, CallError, CallResult, Citation, Counting, Echo, Effort,
        Extension, Message, Options, Part, Provider, ProviderError, ProviderErrorKind, ProviderSetting, Quota,
        RateLimit, Reply, Request, Role, SearchHit, SearchReport, ServerTool, ServerToolGrant, ServerToolGrants,
        ServerToolKind, Stop, Thinking, ToolCall, ToolChoice, ToolDefinition, ToolResult, Usage, extension,
        server_tool,
    };
}

/// Descriptions of plugins, read from their bytes without running them; building them.
pub mod plugin {
    #[cfg(feature = "build")]
    pub use agenthost_plugin::build;
    pub use agenthost_plugin::manifest::{DeclaredSubAgent, SubAgentPlace};
    pub use agenthost_plugin::{
        Digest, Import, Interface, MAX_PLUGIN_BYTES, Manifest, Plugin as PluginInfo, PluginId, Provenance,
        SubAgentImport, provenance, read, refuse,
    };
    #[doc(hidden)]
    pub use agenthost_plugin::{bounds, is_decoding, types};
}

/// The supported model services.
pub mod providers {
    #[doc(hidden)]
    pub use agenthost_providers::*;
    pub use agenthost_providers::{ExtraValue, anthropic, offline, openai, responses, script};
}

/// A run: its id, its events and its report.
pub mod run {
    pub use agenthost_core::run::{
        Abandoned, Difference, Event, ModelReport, Overshoot, REPORT_FORMAT, RunId, RunReport, WaitReason,
    };
}

/// The compiler of plugins, and the limits of this machine.
pub mod sandbox {
    #[doc(hidden)]
    pub use agenthost_sandbox::*;
    pub use agenthost_sandbox::{
        Compile, CompileLimits, MAX_CALL_BYTES, Machine, MemoryBound, MemorySource, compile_and_exit,
    };
}

#[cfg(feature = "failpoints")]
pub use agenthost_core::failpoint;
#[doc(hidden)]
pub use agenthost_core::{printable, process};
#[doc(hidden)]
pub use agenthost_sandbox::value;
#[doc(hidden)]
pub use host::sandbox_settings;
