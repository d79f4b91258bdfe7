//! A WebAssembly host for sub-agent tasks.
//!
//! A *plugin* is a WebAssembly component with one typed function. A *task* is one call of one plugin, in a sandbox of
//! its own that can compute and call a model, within limits. A *run* is the tree of tasks under one root, since a
//! plugin may start the plugins that it imports. This crate runs them; the command `agenthost` is a thin layer on its
//! public API.
//!
//! - [`config::Config`] holds the operator's decisions: models, providers, limits, grants. It reads its surroundings
//!   through [`config::Env`], so an embedder decides which variables and directories it sees.
//! - [`host::Host`] holds the engine and the providers; make one per process. [`host::Host::load`] makes a
//!   [`host::LoadedPlugin`] from a file or a crate, [`host::Host::spawn`] starts a run of it and returns at once.
//! - [`gate`] is the one path of all model calls to a provider: rate limits, concurrency, retries. [`run::ModelReport`]
//!   reports on them. Spans and events use `tracing`, with OpenTelemetry's names.
//! - [`host::RunHandle`] is a run: its outcome, its events, its report. Dropping it cancels the run.
//! - [`journal`] is the record of runs. A host that is built with one ([`host::HostBuilder::journal`]) makes each reply
//!   durable before its task sees it, resumes runs that stopped ([`host::Host::resume`]) and replays runs that ended
//!   ([`host::Host::replay`]). A [`host::Batch`] is a run of many tasks.
//! - [`task::Outcome`] is the outcome of a task: an output as JSON, or a failure with its class. A problem that
//!   prevents a task from starting is an [`error::Error`], with its class and a hint.
//!
//! # Example
//!
//! A plugin that doubles a number, run in a directory without any configuration:
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::sync::Arc;
//!
//! use agenthost::config::{BodyRetention, Config, Env};
//! use agenthost::host::Host;
//! use agenthost::journal::{Journal as _, sqlite::Sqlite};
//! use agenthost::limits::LimitsPatch;
//! use serde_json::json;
//!
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/guests.rs"));
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let component = double();
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! // No variables, no home: nothing of this process is seen. `Env::from_process()` sees all of it.
//! let config = Config::load(&Env::new(BTreeMap::new(), dir, None))?;
//! assert!(config.is_offline_default(), "no key and no [models]: model calls would be answered offline");
//!
//! let journal = Arc::new(Sqlite::open(&dir.join("journal.db"))?); // without one, runs leave no record
//! let host = Host::builder(config).journal(journal.clone(), BodyRetention::All).build()?;
//! let plugin = Arc::new(host.load_bytes(&component)?); // `host.load(path)` takes a file or a crate
//! assert_eq!(plugin.id.to_string(), "demo:double@0.1.0");
//!
//! let run = host.spawn(&plugin, &json!(21), &LimitsPatch::default())?; // returns at once
//! assert_eq!(run.outcome().await.ok(), Some(&json!(42)));
//! assert_eq!(run.report().await.spent.calls, 0); // the report may be asked for again and again
//!
//! // The same run once more, from its record alone: no model would be asked.
//! let recorded = journal.find(&run.id().to_string())?;
//! let again = host.replay(&plugin, &recorded, &LimitsPatch::default()).await?;
//! assert_eq!(again.outcome().await.ok(), Some(&json!(42)));
//! assert!(again.report().await.differences.as_ref().is_some_and(Vec::is_empty));
//!
//! // A value of another type never reaches the plugin.
//! let error = host.spawn(&plugin, &json!("many"), &LimitsPatch::default()).err().ok_or("it was taken")?;
//! assert_eq!(error.to_string(), "input: expected u32, found string");
//! # Ok(())
//! # }
//! ```
//!
//! The examples of this documentation use this plugin and `demo:ask`, which sends its input to the model `fast` and
//! returns the reply; `component` holds the bytes of one of them.
//!
//! Longer programs (a fan-out, events, staged validation, recovery) are in `host/agenthost/examples`.
//!
//! # Bounds
//!
//! One engine per [`host::Host`]; a store per task, used once. A host needs a tokio runtime and a Unix system (it is
//! tested on Linux): keys, the cache of compiled plugins, the record of trust and shared rate limits rest on Unix file
//! modes. The journal is one SQLite file, which must not be on a network file system. This crate has no server: it
//! reads registries ([`registry`]) and does not host one.

pub mod batch;
pub mod host;
pub mod price;
mod telemetry;

pub use agenthost_config as config;
#[cfg(feature = "failpoints")]
pub use agenthost_core::failpoint;
pub use agenthost_core::{error, limits, llm, printable, process, record, run, task};
pub use agenthost_gate as gate;
pub use agenthost_journal as journal;
pub use agenthost_journal::cassette;
pub use agenthost_plugin as plugin;
pub use agenthost_providers as providers;
pub use agenthost_registry as registry;
pub use agenthost_sandbox as sandbox;
pub use agenthost_sandbox::value;
