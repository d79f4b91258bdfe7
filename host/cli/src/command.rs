//! The command of a run, as the journal keeps it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::output::Printer;
use super::run::Show;
use super::spawn::Text;
use super::which::{PluginArgs, fetch, find, is_inside, options, parse_dir, server_tools, sub_agents};
use agenthost::config::{Config, Env, trust};
use agenthost::error::{Error, Result};
use agenthost::journal::RunRecord;
use agenthost::limits::LimitsPatch;
use agenthost::{Host, Plugin, PluginSource};

/// The command of a run, to start the run again at another time and place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RecordedRunCommand {
    plugin: PluginSource,
    with: BTreeMap<String, PluginSource>,
    /// The arguments of `--dir` as they were written, relative to `cwd`.
    dirs: Vec<String>,
    /// The arguments of `--server-tool` as they were written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    server_tools: Vec<String>,
    cwd: PathBuf,
    /// The limits as they were written, by key.
    limits: BTreeMap<String, String>,
    /// `true` if the offline provider answers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) offline_models: bool,
    /// `true` if the output is shown as text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    as_text: bool,
    /// The schedule that the run belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) schedule: Option<String>,
    /// The proof that this user gave the command; see [`trust::seal`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seal: Option<String>,
}

impl RecordedRunCommand {
    /// Creates the command that runs `which` within `limits`.
    pub(super) fn new(
        which: &PluginArgs,
        limits: BTreeMap<String, String>,
        offline_models: bool,
        env: &Env,
    ) -> Result<Self> {
        Ok(Self {
            plugin: PluginSource::parse(&which.plugin, env.cwd())?,
            with: sub_agents(&which.with, env)?,
            dirs: which.dir.clone(),
            server_tools: which.server_tool.clone(),
            cwd: env.cwd().to_owned(),
            limits,
            offline_models,
            as_text: false,
            schedule: None,
            seal: None,
        })
    }

    /// Shows the output of later runs of this command as text.
    pub(super) fn shown_as_text(mut self, as_text: bool) -> Self {
        self.as_text = as_text;
        self
    }

    /// Returns how the output of the run is shown when it is run again.
    pub(super) fn show(&self, json: bool, record: &RunRecord, input: Option<&Value>) -> Show {
        match Text::recorded(&record.plugin, input) {
            Some(text) if self.as_text && !json => Show::Text(text),
            _ => Show::of(json),
        }
    }

    /// Makes this the command of a run of a schedule.
    pub(super) fn of_schedule(mut self, name: &str) -> Self {
        self.schedule = Some(name.to_owned());
        self
    }

    /// Returns the command with the proof that this user gave it.
    pub(super) fn sealed(mut self, env: &Env) -> Result<Self> {
        self.seal = None;
        self.seal = trust::seal::seal(env, &self.to_json()?.to_string());
        Ok(self)
    }

    /// Refuses a command of a journal that this user did not give, if it goes beyond what a project's configuration may
    /// do. `accepted` means that the operator has read it.
    pub(super) fn check(&self, record: &RunRecord, config: &Config, env: &Env, accepted: bool) -> Result<()> {
        let plain = Self {
            seal: None,
            ..self.clone()
        };
        let text = plain.to_json()?.to_string();
        let own = self
            .seal
            .as_ref()
            .is_some_and(|seal| trust::seal::is_sealed(env, &text, seal));
        if own || accepted {
            return Ok(());
        }
        let asked = config.limits().overridden_by(&self.limits(LimitsPatch::default()));
        let mut beyond = self.beyond(config, env)?;
        if asked.narrowed_by(config.limits()) != asked {
            let given = self.limits.iter().map(|(key, text)| format!("--{key} {text}"));
            beyond.push(format!("the limits {}", given.collect::<Vec<_>>().join(" ")));
        }
        refuse_foreign(record, &beyond)
    }

    /// Describes what goes beyond what a project may do: a working directory outside of its folder, directories and tools
    /// for the plugin. Plugins are checked when they are loaded.
    fn beyond(&self, config: &Config, env: &Env) -> Result<Vec<String>> {
        let mut beyond = Vec::new();
        if !is_inside(&self.cwd, config, env) {
            beyond.push(format!("the directory {}", self.cwd.display()));
        }
        for text in &self.dirs {
            let dir = parse_dir(text, &env.at(&self.cwd))?;
            // A writable directory could change what the project runs, just as a grant of its file could.
            if dir.write || !is_inside(&dir.host, config, env) {
                beyond.push(format!("--dir {text}"));
            }
        }
        beyond.extend(self.server_tools.iter().map(|tool| format!("--server-tool {tool}")));
        Ok(beyond)
    }

    pub(super) fn to_json(&self) -> Result<Value> {
        serde_json::to_value(self).map_err(|error| Error::usage(format!("a path is not UTF-8: {error}")))
    }

    /// Reads the command that a run was started with.
    pub(super) fn of(record: &RunRecord) -> Result<Self> {
        Self::deserialize(&record.command).map_err(|_| {
            Error::usage(format!("run {} was not started from the command line", record.id))
                .with_hint("A program that embeds the host resumes its runs itself, with Host::resume.")
        })
    }

    /// Returns the limits, overridden by those of `over`.
    pub(super) fn limits(&self, over: LimitsPatch) -> LimitsPatch {
        let mut patch = LimitsPatch::default();
        for (key, text) in &self.limits {
            // They were valid when the run was started.
            let _ = patch.set(key, text);
        }
        over.over(patch)
    }

    /// Loads the plugin as it was loaded for the recorded run.
    pub(super) async fn load(&self, host: &Host, env: &Env, printer: &Printer) -> Result<Plugin> {
        // A replay may not need a directory that is gone; where one is needed, opening it fails.
        let there = env.at(&self.cwd);
        let dirs = self
            .dirs
            .iter()
            .map(|dir| parse_dir(dir, &there))
            .collect::<Result<_>>()?;
        let mut options = options(self.with.clone(), dirs);
        options.server_tools = server_tools(&self.server_tools)?;
        fetch(host, &self.plugin, &options, printer).await?;
        find(host, &self.plugin.to_string(), &self.plugin, options, printer).await
    }
}

/// Refuses the command of a run that this user did not give, if anything in it is `beyond` what a project may do.
pub(super) fn refuse_foreign(record: &RunRecord, beyond: &[String]) -> Result<()> {
    if beyond.is_empty() {
        return Ok(());
    }
    Err(Error::denied(format!(
        "the journal does not show that you gave the command of run {}, and it has {}",
        record.id,
        beyond.join(", ")
    ))
    .with_hint(
        "If that is what you want, add --accept-command; or start it again with `agenthost run` or `agenthost batch`.",
    ))
}
