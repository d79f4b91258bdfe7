//! The options that every command takes.

use std::path::PathBuf;

use clap::ArgAction;

use agenthost::config::{Config, Env};
use agenthost::error::Result;

#[derive(Debug, clap::Args)]
pub(super) struct Global {
    /// Use this file instead of the agenthost.toml in this directory or above
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "AGENTHOST_CONFIG",
        hide_env_values = true
    )]
    pub(super) config: Option<PathBuf>,
    /// Use this journal file [default: see `[journal]` in agenthost.toml]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "AGENTHOST_JOURNAL",
        hide_env_values = true
    )]
    pub(super) journal: Option<PathBuf>,
    /// Answer all model calls with the offline provider, which makes the answers up at no cost
    #[arg(long, global = true)]
    pub(super) offline_models: bool,
    /// Print more on stderr: the task's log and the host's actions (twice: everything)
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub(super) verbose: u8,
    /// The form of log lines on stderr: `text` for people, `json` for programs, one document per line
    #[arg(
        long,
        value_name = "FORMAT",
        global = true,
        env = "AGENTHOST_LOG_FORMAT",
        hide_env_values = true,
        value_enum,
        default_value_t = LogFormat::Text,
        hide_possible_values = true
    )]
    pub(super) log_format: LogFormat,
    /// Print only errors on stderr
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(super) quiet: bool,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

impl Global {
    /// Loads the configuration: the file of `--config`, or the files that are found, with `--offline-models`.
    pub(super) fn config(&self, env: &Env) -> Result<Config> {
        let config = match &self.config {
            Some(file) => Config::load_from(env, file)?,
            None => Config::load(env)?,
        };
        Ok(match self.offline_models {
            true => config.with_offline_models()?,
            false => config,
        })
    }
}
