//! The operator's configuration: models and their providers, the limits of tasks, and what each plugin is granted.
//!
//! Two files are read: the project's `agenthost.toml`, found upwards from the working directory, and the operator's own
//! `~/.config/agenthost/config.toml`. The project's file overrides the operator's entry by entry (a model, a limit, a
//! grant, a price), and a provider field by field unless it changes the provider's kind. An unknown key is an error,
//! every error names the file and the line, and the environment is read only through [`Env`].
//!
//! A project's file may come from a stranger. If it sends a key to an address of its own, or grants a directory outside
//! its own folder, [`trust`] is checked first. A key is read at the moment of use and is never stored in a file of
//! ours.
//!
//! This crate decides nothing about a task: it does not open a provider, enforce a limit or look for a plugin.

mod compile;
mod config;
mod declare;
mod dirs;
mod env;
mod error;
mod file;
mod grant;
mod key;
mod load;
mod merge;
mod origin;
#[doc(hidden)]
pub mod reader;
mod resolve;
mod schedule;
#[cfg(test)]
mod scratch;
#[doc(hidden)]
pub mod server_tools;
mod settings;
pub mod trust;

use std::path::Path;

pub use agenthost_core::request_field::{FieldPlace, FieldProblem};

pub use self::compile::CompileConfig;
pub use self::config::{Config, OFFLINE_MODELS};
#[doc(hidden)]
pub use self::declare::Declarations;
pub use self::declare::ProviderSettings;
pub use self::dirs::{DirGrant, DirGrantError, DirQuota};
pub use self::env::{Env, NoWorkingDir};
pub use self::error::{ConfigError, EntryProblem, FileError, KeyError, TrustError};
pub use self::grant::Grant;
#[doc(hidden)]
pub use self::key::ReadField;
pub use self::load::PROJECT_FILE;
use self::load::{Lifting, unchecked};
pub use self::origin::Origin;
#[doc(hidden)]
pub use self::schedule::{
    CronExpression, ScheduleConfig, ScheduleInput, ScheduleTimes, ScheduleValue, WhenMissed, WhenOverlapping,
    WhenUnchanged,
};
pub use self::settings::{
    Address, AllowanceConfig, BodyRetention, EffectiveGrant, FieldSource, JournalConfig, KeySource, MaxTokensField,
    ModelRef, PriceConfig, ProviderConfig, ProviderKind, RatesConfig, RegistryConfig, RequestField, RunConfig, SetBy,
    StructuredOutput, SubAgent,
};

impl Config {
    /// Loads the configuration that applies in `env`'s working directory.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let project = tempfile::tempdir()?;
    /// # let project = project.path();
    /// use std::collections::BTreeMap;
    /// use agenthost_config::{Config, Env};
    ///
    /// std::fs::write(project.join("agenthost.toml"), "[models]\nfast = 'anthropic/claude-haiku-5-5'\n[limits]\ncalls = 10\n")?;
    /// let config = Config::load(&Env::new(BTreeMap::new(), project, None))?;
    /// assert_eq!(config.models()["fast"], ["anthropic/claude-haiku-5-5".parse()?]);
    /// assert_eq!(config.limits().calls, Some(10));
    /// assert_eq!(config.origin("limits.calls").map(|origin| origin.line()), Some(4));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Config`](agenthost_core::error::ErrorClass::Config) if a file cannot be read or is invalid;
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied) if a key would be sent to an address, or a plugin would
    /// get a directory, that needs [`trust`] first.
    pub fn load(env: &Env) -> Result<Self, ConfigError> {
        let config = unchecked(env, None, Lifting::Accepted)?;
        trust::check(&config)?;
        Ok(config)
    }

    /// Loads the configuration with `file` in place of the project's file; `file` must exist.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use std::collections::BTreeMap;
    /// use agenthost_config::{Config, Env};
    /// use agenthost_core::error::{Classify as _, ErrorClass};
    ///
    /// let env = Env::new(BTreeMap::new(), dir, None);
    /// std::fs::write(dir.join("ci.toml"), "[limits]\ncost = 0.5\n")?;
    /// let config = Config::load_from(&env, "ci.toml".as_ref())?; // from the working directory of `env`
    /// assert_eq!(config.limits().cost, Some("$0.50".parse()?));
    ///
    /// std::fs::write(dir.join("ci.toml"), "[limits]\nmoney = 0.5\n")?;
    /// let error = Config::load_from(&env, "ci.toml".as_ref()).err().ok_or("an unknown key")?;
    /// assert_eq!(error.class(), ErrorClass::Config);
    /// assert!(error.to_string().contains("ci.toml:2"), "{error}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Config::load`]: a file named by the user may come from a stranger, just like one that was found.
    pub fn load_from(env: &Env, file: &Path) -> Result<Self, ConfigError> {
        let config = unchecked(env, Some(file), Lifting::Accepted)?;
        trust::check(&config)?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests;
