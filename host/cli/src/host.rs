//! Creates hosts with the settings of the command line.

use super::cache_dir::cache_dir;
use super::global::Global;
use super::hints::hint;
use super::journal::journal_path;
use super::{compiled, crates, registry};
use agenthost::config::{Config, Env, ProviderKind};
use agenthost::error::Result;
use agenthost::providers::script::Script;
use agenthost::{Host, HostBuilder, Journal};

/// Creates a host with the settings of the command line.
pub(super) fn host(config: Config, env: &Env, max_memory: Option<u64>) -> Result<Host> {
    host_with(config, env, max_memory, None)
}

/// Creates a host that records its runs, if the journal is enabled and has a place.
pub(super) fn recording_host(config: Config, global: &Global, env: &Env, max_memory: Option<u64>) -> Result<Host> {
    let journal = open_journal(&config, global, env)?;
    host_with(config, env, max_memory, journal)
}

/// Creates a host that records its runs, and counts them for the schedule `name`.
pub(super) fn schedule_host(
    config: Config,
    name: &str,
    global: &Global,
    env: &Env,
    max_memory: Option<u64>,
) -> Result<Host> {
    let journal = open_journal(&config, global, env)?;
    builder_with(config, env, max_memory, journal)?.schedule(name).build()
}

/// Checks the scripts of the providers behind the model names, for a command that may call models.
///
/// # Errors
///
/// Class `config`, with the file and the line.
pub(super) fn check_scripts(config: &Config) -> Result<()> {
    for model in config.models().values().flatten() {
        let provider = config.provider(&model.provider);
        if let Some(ProviderKind::Script { file }) = provider.map(|provider| &provider.kind) {
            Script::load(file)?;
        }
    }
    Ok(())
}

/// Opens the journal for recording; `None` if it is disabled or has no place.
pub(super) fn open_journal(config: &Config, global: &Global, env: &Env) -> Result<Option<Journal>> {
    let Some(path) = journal_path(config, env, global.journal.as_deref()) else {
        return Ok(None);
    };
    let journal = Journal::sqlite(&path).map_err(|error| {
        let own = hint(&error).map(|own| format!("{}. ", own.trim_end_matches('.')));
        error.with_hint(format!(
            "{}To run without a journal, write `enabled = false` under [journal]; such a run cannot be resumed.",
            own.unwrap_or_default()
        ))
    })?;
    Ok(Some(journal.bodies(config.journal().bodies)))
}

/// Creates a host that records its runs in `journal`, if there is one.
pub(super) fn host_with(config: Config, env: &Env, max_memory: Option<u64>, journal: Option<Journal>) -> Result<Host> {
    builder_with(config, env, max_memory, journal)?.build()
}

fn builder_with(config: Config, env: &Env, max_memory: Option<u64>, journal: Option<Journal>) -> Result<HostBuilder> {
    let project = registry::project(&config, env)?;
    let compile = compiled::how(&config);
    let builds = crates::rules(env, &config);
    let mut builder = builder(env)
        .config(config)
        .project(project)
        .builds(builds)
        .compile(compile)
        .max_memory(max_memory.unwrap_or(0));
    if let Some(journal) = journal {
        builder = builder.journal(journal);
    }
    Ok(builder)
}

/// Returns a builder of a host that keeps compiled plugins.
pub(super) fn builder(env: &Env) -> HostBuilder {
    let builder = agenthost_std::PLUGINS
        .into_iter()
        .fold(Host::builder(), |builder, (name, component)| {
            builder.built_in(name, component)
        });
    let builder = match cache_dir(env) {
        Some(dir) => builder.cache_dir(dir),
        None => builder,
    };
    match env.state_dir() {
        Some(dir) => builder.state_dir(dir),
        None => builder,
    }
}
