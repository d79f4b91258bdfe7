//! Adds what a program declares in code to a configuration, with the same checks as for a file.

use std::collections::BTreeMap;
use std::time::Duration;

use super::resolve::check_models;
use crate::config::Config;
use crate::dirs::DirGrant;
use crate::error::ConfigError;
use crate::grant::Grant;
use crate::settings::{ModelRef, PriceConfig, ProviderConfig, ProviderKind, StructuredOutput};
use agenthost_core::error::{Error, Result};
use agenthost_core::limits::LimitsPatch;

/// Everything that a program declares in code. Each entry replaces the entry of the same name in the configuration.
#[doc(hidden)]
#[derive(Debug, Clone, Default)]
pub struct Declarations {
    /// Models by name, in the order in which they are tried.
    pub models: BTreeMap<String, Vec<ModelRef>>,
    /// Providers whose implementation the program brings, by name; `kind` is that of the implementation.
    pub providers: BTreeMap<String, (&'static str, Option<ProviderSettings>)>,
    /// Limits of each task.
    pub limits: LimitsPatch,
    /// Limits of all tasks of a run together.
    pub run_limits: LimitsPatch,
    /// Prices.
    pub prices: BTreeMap<ModelRef, PriceConfig>,
    /// Grants, by plugin.
    pub grants: BTreeMap<String, Grant>,
}

/// The rate limits and retries of a provider that a program brings. Each setting that is not given has its default.
///
/// ```
/// use agenthost_config::ProviderSettings;
///
/// let settings = ProviderSettings::new().requests_per_minute(600).max_concurrency(8).retries(2);
/// assert_eq!(settings, settings.clone());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProviderSettings {
    requests_per_minute: Option<u64>,
    tokens_per_minute: Option<u64>,
    max_concurrency: Option<u32>,
    initial_concurrency: Option<u32>,
    retries: Option<u32>,
    hedge_after: Option<Duration>,
    warm_prefix: Option<bool>,
}

impl ProviderSettings {
    /// Creates settings of which none is given.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the maximum number of requests per minute, summed over all models.
    #[must_use]
    pub fn requests_per_minute(mut self, most: u64) -> Self {
        self.requests_per_minute = Some(most);
        self
    }

    /// Sets the maximum number of input and output tokens per minute, summed over all models.
    #[must_use]
    pub fn tokens_per_minute(mut self, most: u64) -> Self {
        self.tokens_per_minute = Some(most);
        self
    }

    /// Sets the maximum number of requests in flight per model; 0 counts as 1.
    #[must_use]
    pub fn max_concurrency(mut self, most: u32) -> Self {
        self.max_concurrency = Some(most.max(1));
        self
    }

    /// Sets the initial number of requests in flight per model; 0 counts as 1.
    #[must_use]
    pub fn initial_concurrency(mut self, requests: u32) -> Self {
        self.initial_concurrency = Some(requests.max(1));
        self
    }

    /// Sets the number of retries after a retryable error; 0 disables retries.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = Some(retries);
        self
    }

    /// Sends a second request after this time without a reply.
    #[must_use]
    pub fn hedge_after(mut self, time: Duration) -> Self {
        self.hedge_after = Some(time);
        self
    }

    /// Selects whether one of several requests that share a long prefix is sent first.
    #[must_use]
    pub fn warm_prefix(mut self, warm: bool) -> Self {
        self.warm_prefix = Some(warm);
        self
    }

    fn apply(&self, config: &mut ProviderConfig) {
        config.requests_per_minute = self.requests_per_minute;
        config.tokens_per_minute = self.tokens_per_minute;
        config.max_concurrency = self.max_concurrency;
        config.initial_concurrency = self.initial_concurrency;
        config.retries = self.retries;
        config.hedge_after = self.hedge_after;
        config.warm_prefix = self.warm_prefix;
    }
}

impl Config {
    /// Adds what a program declares.
    ///
    /// # Errors
    ///
    /// [`Config`](agenthost_core::error::ErrorClass::Config) for a model at an unknown provider, and for a grant of an
    /// unknown model, of two directories under one path, or of a tool with invalid bounds.
    #[doc(hidden)]
    pub fn declare(mut self, declared: Declarations) -> Result<Self> {
        for (name, (kind, settings)) in declared.providers {
            let provider = self
                .providers
                .entry(name)
                .or_insert_with(|| ProviderConfig::of_code(kind));
            provider.kind = ProviderKind::Code { kind };
            if let Some(settings) = settings {
                settings.apply(provider);
            }
        }
        if !declared.models.is_empty() {
            // As in a file: named models replace all of the assumed ones.
            if std::mem::take(&mut self.models_assumed) {
                self.models.clear();
            }
            for name in declared.models.keys() {
                self.origins.remove(&format!("models.{name}"));
            }
            self.models.extend(declared.models);
            check_models(&self.models, &self.providers, &self.origins)?;
        }
        self.limits = self.limits.overridden_by(&declared.limits);
        self.tasks_assumed &= declared.limits.tasks.is_none();
        self.run.limits = self.run.limits.overridden_by(&declared.run_limits);
        if declared.run_limits.memory.is_some() {
            self.run.memory = declared.run_limits.memory;
            self.run.memory_within_default = false;
        }
        for model in declared.prices.keys() {
            self.origins.remove(&format!("prices.{model}"));
        }
        self.prices.extend(declared.prices);
        for (plugin, grant) in declared.grants {
            if let Some(name) = grant
                .models
                .iter()
                .flatten()
                .find(|name| !self.models.contains_key(*name))
            {
                return Err(ConfigError::UnknownModel {
                    at: None,
                    model: name.clone(),
                    known: self.models.keys().cloned().collect(),
                    plugin,
                }
                .into());
            }
            DirGrant::check_distinct(&grant.dirs)
                .map_err(|twice| Error::config(format!("the grant of {plugin}: {twice}")))?;
            for (kind, bounds) in &grant.server_tools.0 {
                bounds
                    .check()
                    .map_err(|why| Error::config(format!("the grant of {plugin}: {kind}: {why}")))?;
            }
            // The entry of a file no longer applies, so its place does not decide who gets these directories.
            for key in ["dirs", "models", "server-tools"] {
                self.origins.remove(&format!("grants.{plugin}.{key}"));
            }
            self.grants.insert(plugin, grant);
        }
        Ok(self)
    }
}

impl ProviderConfig {
    /// The settings of a provider that a program brings, all at their defaults.
    fn of_code(kind: &'static str) -> Self {
        Self {
            kind: ProviderKind::Code { kind },
            address: None,
            key: None,
            requests_per_minute: None,
            tokens_per_minute: None,
            max_concurrency: None,
            initial_concurrency: None,
            retries: None,
            hedge_after: None,
            warm_prefix: None,
            timeout: None,
            silence: None,
            structured_output: StructuredOutput::Auto,
            fields: Vec::new(),
            key_assumed: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use agenthost_core::limits::{Cap, Limits, Usd};
    use agenthost_core::llm::{ServerToolGrant, ServerToolKind};

    fn models(entries: &[(&str, &str)]) -> BTreeMap<String, Vec<ModelRef>> {
        let entry = |(name, model): &(&str, &str)| ((*name).to_owned(), vec![model.parse().unwrap()]);
        entries.iter().map(entry).collect()
    }

    #[test]
    fn declared_models_replace_the_assumed_ones_and_need_a_provider() {
        let providers = [("own".to_owned(), ("custom", None))];
        let declared = Declarations {
            models: models(&[("fast", "own/any")]),
            providers: providers.into(),
            ..Declarations::default()
        };
        let config = Config::builtin().unwrap().declare(declared).unwrap();
        assert_eq!(config.models().keys().collect::<Vec<_>>(), ["fast"]);
        assert!(!config.is_offline_default());
        assert_eq!(config.provider("own").unwrap().kind.name(), "custom");

        let declared = Declarations {
            models: models(&[("fast", "owm/any")]),
            ..Declarations::default()
        };
        let error = Config::builtin().unwrap().declare(declared).unwrap_err();
        assert_eq!(error.to_string(), "`fast` in [models] names the unknown provider `owm`");
    }

    #[test]
    fn a_declaration_takes_the_place_of_the_files_entry() {
        let scratch = Scratch::project(
            "[models]\nfast = 'offline/fast'\n[prices.\"offline/fast\"]\ninput = 1\noutput = 1\n\
             [grants.\"demo:ask\"]\nlimits.calls = 3\n[grants.\"demo:read\"]\ndirs = [\"in::/in\"]",
        );
        std::fs::create_dir(scratch.path("in")).unwrap();
        let config = scratch.load();
        let fast: ModelRef = "offline/fast".parse().unwrap();
        assert!(config.is_by_project("prices.offline/fast") && config.origin("grants.demo:read.dirs").is_some());
        let declared = Declarations {
            models: models(&[("own", "offline/own")]),
            providers: [("offline".to_owned(), ("custom", None))].into(),
            prices: [(fast, PriceConfig::per_million(Usd::ZERO, Usd::ZERO))].into(),
            grants: [("demo:read".to_owned(), Grant::new())].into(),
            ..Declarations::default()
        };
        let config = config.declare(declared).unwrap();
        // Neither the floor of a project's prices nor the trust of a project's grants applies to them.
        assert!(!config.is_by_project("prices.offline/fast") && config.origin("grants.demo:read.dirs").is_none());
        assert_eq!(config.provider("offline").unwrap().kind.name(), "custom");
        let granted = config.grant("demo:ask").models;
        assert!(granted.contains("own") && granted.contains("fast"), "{granted:?}");
    }

    #[test]
    fn declared_limits_and_grants_combine_as_those_of_a_file_do() {
        let grant = Grant::new()
            .models(["fast"])
            .limits(Limits::new().calls(500).tokens(10));
        let declared = Declarations {
            limits: LimitsPatch {
                calls: Some(Cap::At(7)),
                ..LimitsPatch::default()
            },
            grants: [("demo:ask".to_owned(), grant)].into(),
            ..Declarations::default()
        };
        let config = Config::builtin().unwrap().declare(declared).unwrap();
        let grant = config.grant("demo:ask");
        assert_eq!((grant.limits.calls, grant.limits.tokens), (Some(7), Some(10)));
        assert_eq!(grant.models.into_iter().collect::<Vec<_>>(), ["fast"]);
        assert_eq!(config.grant("demo:other").limits.calls, Some(7));

        let none = ServerToolGrant {
            max_uses: Some(0),
            ..ServerToolGrant::default()
        };
        let grant = Grant::new().server_tool(ServerToolKind::WebSearch, none);
        let declared = Declarations {
            grants: [("demo:ask".to_owned(), grant)].into(),
            ..Declarations::default()
        };
        let error = Config::builtin().unwrap().declare(declared).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the grant of demo:ask: web-search: `max-uses` is a number from 1 to 100"
        );

        let grants = [("demo:ask".to_owned(), Grant::new().models(["fsat"]))].into();
        let declared = Declarations {
            grants,
            ..Declarations::default()
        };
        let error = Config::builtin().unwrap().declare(declared).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`models` in [grants.\"demo:ask\"] names the unknown model `fsat`"
        );
    }
}
