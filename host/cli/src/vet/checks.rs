//! The checks of a plugin before a person vouches for it.

use std::path::Path;

use serde::Serialize;

use crate::cassettes::{play, too_low};
use crate::compiled;
use crate::crates::rules_alone;
use crate::host::builder;
use crate::output::counted;
use crate::progress::Progress;
use agenthost::config::{Config, Env};
use agenthost::error::{Result, with_causes};
use agenthost::journal::cassette;
use agenthost::limits::units::show_bytes;
use agenthost::plugin::{Import, PluginInfo};
use agenthost::registry::project::Project;
use agenthost::registry::signature;
use agenthost::sandbox;
use agenthost::sandbox::Compilation;
use agenthost::{LoadOptions, PluginSource};

/// The size above which a component is worth a look: more than the runtimes of other languages need.
const LARGE: u64 = 32 << 20;

/// The plugin to be checked.
pub(super) struct Subject {
    pub(super) plugin: PluginInfo,
    pub(super) bytes: Vec<u8>,
    pub(super) signatures: Vec<String>,
}

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum CheckState {
    /// The plugin is as it should be.
    Passed,
    /// A person should look at it.
    Look,
    /// It could not be checked.
    Skipped,
    /// The plugin is not as it should be.
    Failed,
}

impl CheckState {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Look => "look at",
            Self::Skipped => "skipped",
            Self::Failed => "FAILED",
        }
    }
}

/// One check.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) state: CheckState,
    pub(super) said: String,
}

impl Check {
    fn new(name: &'static str, state: CheckState, said: impl Into<String>) -> Self {
        let said = said.into();
        Self { name, state, said }
    }
}

/// Runs all checks, the most important for a reviewer first.
pub(super) async fn all(
    subject: &Subject,
    source: Option<&Path>,
    (place, project, config): (PluginSource, Project, Config),
    env: &Env,
) -> Result<(Vec<Check>, Compilation)> {
    let plugin = &subject.plugin;
    // The other checks assume a plugin that can be compiled within the limits.
    let compiled = compiled::check(plugin, &subject.bytes, &config, env)?;
    let mut checks = vec![
        imports(plugin),
        models(plugin),
        manifest(plugin),
        signatures(&project, subject)?,
        size(plugin),
        Check::new("compiles", CheckState::Passed, compiled::words(&compiled)),
        engine(),
    ];
    checks.extend(server_tools(plugin));
    let Some(dir) = source else {
        let why = "give the source of this release with --source DIR";
        checks.extend(["cassettes", "limits", "build"].map(|name| Check::new(name, CheckState::Skipped, why)));
        return Ok((checks, compiled));
    };
    let waiting = Progress::waiting("checking the source");
    let played = cassettes(dir, plugin, (&place, project, &config), env).await;
    checks.extend(played?);
    let built = reproduced(dir, &subject.bytes, env);
    waiting.finish();
    checks.push(built);
    Ok((checks, compiled))
}

fn imports(plugin: &PluginInfo) -> Check {
    let refused: Vec<_> = plugin
        .imports
        .iter()
        .filter(|import| matches!(import, Import::Refused(_)))
        .map(Import::name)
        .collect();
    match refused.as_slice() {
        [] => Check::new("imports", CheckState::Passed, plugin.powers()),
        refused => Check::new(
            "imports",
            CheckState::Failed,
            format!("not offered: {}", refused.join(", ")),
        ),
    }
}

fn models(plugin: &PluginInfo) -> Check {
    let calls = plugin.imports.iter().any(Import::is_llm);
    let named = plugin.manifest.as_ref().and_then(|manifest| manifest.models.as_ref());
    match named {
        _ if !calls => Check::new("models", CheckState::Passed, "calls none"),
        Some(names) => {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            Check::new(
                "models",
                CheckState::Passed,
                format!("may ask for {}", names.join(", ")),
            )
        }
        None => Check::new(
            "models",
            CheckState::Look,
            "its manifest does not say which model names it asks for, so it may ask for any",
        ),
    }
}

/// Points out the tools of providers that the plugin asks for.
fn server_tools(plugin: &PluginInfo) -> Option<Check> {
    let asked = plugin.server_tools().ok()?;
    let said = || format!("asks for {asked}; a model can put what it was given into a query");
    (!asked.is_empty()).then(|| Check::new("tools", CheckState::Look, said()))
}

/// Checks that the manifest is valid.
fn manifest(plugin: &PluginInfo) -> Check {
    let check = |state, said: String| Check::new("manifest", state, said);
    let Some(manifest) = &plugin.manifest else {
        return check(
            CheckState::Look,
            "it has none: it suggests no limits, and names no source".into(),
        );
    };
    if let Err(why) = manifest.server_tools() {
        return check(CheckState::Failed, format!("its server-tools: {why}"));
    }
    match (manifest.suggested(), &manifest.repository) {
        (Err(why), _) => check(CheckState::Failed, format!("its limits: {why}")),
        (Ok(_), None) => check(CheckState::Passed, "its limits make sense; it names no source".into()),
        (Ok(_), Some(source)) => check(CheckState::Passed, format!("its limits make sense; from {source}")),
    }
}

/// Checks that signatures are valid, and whose they are.
fn signatures(project: &Project, subject: &Subject) -> Result<Check> {
    let keys = project.policy().keys();
    let verified = match signature::check(&subject.signatures, &keys, &subject.plugin, &subject.bytes) {
        Ok(verified) => verified,
        Err(error) => return Ok(Check::new("signature", CheckState::Failed, with_causes(&error))),
    };
    let said = |state, text: String| Ok(Check::new("signature", state, text));
    match (verified.as_slice(), subject.signatures.len() as u64) {
        ([], 0) => said(CheckState::Look, "it is not signed".into()),
        ([], n) => said(
            CheckState::Look,
            format!("{}, of no key that a policy names", counted(n, "signatures")),
        ),
        (verified, _) => {
            let keys: Vec<_> = verified.iter().map(|verified| verified.key.id()).collect();
            let silent = verified.iter().all(|verified| verified.statement.is_none());
            let remark = if silent {
                ", which say nothing of what was signed"
            } else {
                ""
            };
            said(CheckState::Passed, format!("signed by {}{remark}", keys.join(", ")))
        }
    }
}

fn size(plugin: &PluginInfo) -> Check {
    let size = show_bytes(plugin.size);
    let state = if plugin.size > LARGE {
        CheckState::Look
    } else {
        CheckState::Passed
    };
    Check::new("size", state, size)
}

/// Checks that no advisory against this host's engine could help a plugin. `doctor` has the advisories themselves: they
/// concern the host, and are the same for every plugin.
fn engine() -> Check {
    let (engine, read) = (sandbox::advisories::engine(), sandbox::advisories::read());
    let open = sandbox::advisories::open();
    let affect = open.iter().filter(|advisory| advisory.affects_this_host()).count();
    match affect {
        0 => Check::new(
            "engine",
            CheckState::Passed,
            format!("{engine}: no open advisory among those known on {read} affects this host"),
        ),
        _ => Check::new(
            "engine",
            CheckState::Look,
            format!("{engine} of this host, not of the plugin; see `agenthost doctor`"),
        ),
    }
}

/// Plays the source's cassettes to this very component, and compares its declared limits with what they may use.
async fn cassettes(
    dir: &Path,
    plugin: &PluginInfo,
    (place, project, config): (&PluginSource, Project, &Config),
    env: &Env,
) -> Result<Vec<Check>> {
    let found = match cassette::of_plugin(dir) {
        Ok(found) => found,
        Err(error) => return Ok(vec![Check::new("cassettes", CheckState::Failed, with_causes(&error))]),
    };
    if found.is_empty() {
        let said = format!("{} has none", dir.display());
        return Ok(vec![
            Check::new("cassettes", CheckState::Look, said.clone()),
            Check::new("limits", CheckState::Skipped, said),
        ]);
    }
    // The limits and models of this project do not apply to a recording from elsewhere; the places of its sub-agents
    // do.
    let host = builder(env)
        .builds(rules_alone(env))
        .compile(compiled::how(config))
        .project(project)
        .build()?;
    let mut options = LoadOptions::default();
    for sub_agent in &plugin.sub_agents {
        let name = &sub_agent.plugin.name;
        if let Some(configured) = config.sub_agents().get(name) {
            options
                .with
                .insert(name.clone(), PluginSource::configured(name, configured)?);
        }
    }
    let plugin = match host.load_with(place.clone(), options).await {
        Ok(plugin) => plugin,
        Err(error) => return Ok(vec![Check::new("cassettes", CheckState::Failed, error.to_string())]),
    };
    let mut failed = Vec::new();
    for (path, cassette) in &found {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        match play(&host, &plugin, (path, cassette)).await {
            Ok(played) if played.changes.is_empty() => {}
            Ok(played) => failed.push(format!(
                "{file}: {}",
                counted(played.changes.len() as u64, "differences")
            )),
            Err(error) => failed.push(format!("{file}: {}", with_causes(&error))),
        }
    }
    let count = counted(found.len() as u64, "cassettes");
    let played = match failed.as_slice() {
        [] => Check::new("cassettes", CheckState::Passed, format!("{count} came out as recorded")),
        failed => Check::new("cassettes", CheckState::Failed, failed.join("; ")),
    };
    let low = too_low(dir, plugin.info());
    let limits = match low.as_slice() {
        [] => Check::new(
            "limits",
            CheckState::Passed,
            "those declared leave room for every cassette",
        ),
        low => Check::new("limits", CheckState::Look, low.join("; ")),
    };
    Ok(vec![played, limits])
}

/// Checks that a build of the source gives these bytes.
fn reproduced(dir: &Path, bytes: &[u8], env: &Env) -> Check {
    match rules_alone(env).reproduces(dir, bytes) {
        Ok(reproduction) if reproduction.same() => {
            Check::new("build", CheckState::Passed, "the source gives these very bytes")
        }
        Ok(reproduction) => Check::new("build", CheckState::Failed, reproduction.differs.join("; ")),
        Err(error) => Check::new("build", CheckState::Failed, with_causes(&error)),
    }
}
