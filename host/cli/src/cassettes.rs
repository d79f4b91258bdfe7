//! Cassettes at the command line: recording one during a run, playing those of a plugin, and comparing them with its
//! limits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::global::Global;
use super::host::{builder, host_with, open_journal};
use super::output::Printer;
use agenthost::config::{BodyRetention, Config, Env};
use agenthost::error::{Error, ErrorClass, Result, with_causes};
use agenthost::journal::cassette::compare::{Change, Kind};
use agenthost::journal::cassette::tape::Tape;
use agenthost::journal::cassette::{self, Cassette};
use agenthost::limits::{Cap, Limits, LimitsPatch};
use agenthost::plugin::PluginInfo;
use agenthost::plugin::build::BuildRules;
use agenthost::registry::lock::LOCK_FILE;
use agenthost::run::RunReport;
use agenthost::task::FailureClass;
use agenthost::{Host, Journal, Plugin, Rehearsal};

/// A cassette that is being recorded.
pub(super) struct Recording {
    file: PathBuf,
    tape: Arc<Tape>,
    /// `true` if the run is not recorded in a journal.
    alone: bool,
}

impl Recording {
    /// Makes sure that the file has a place before anything is paid for. The tape records the run of the host that
    /// [`Recording::host`] returns.
    pub(super) fn begin(file: &Path, config: &Config, global: &Global, env: &Env) -> Result<Self> {
        let wrong = |why: String| {
            Error::usage(format!("--record: {why}")).with_hint("Name a file, such as --record cassettes/first.json")
        };
        let Some(dir) = file.parent().filter(|_| !file.is_dir()) else {
            return Err(wrong(format!("{} is a directory", file.display())));
        };
        if file.exists() && Cassette::read(file).is_err() {
            return Err(wrong(format!("{} exists and is not a cassette", file.display())));
        }
        std::fs::create_dir_all(dir).map_err(|error| wrong(format!("{}: {error}", dir.display())))?;
        let journal = open_journal(config, global, env)?;
        Ok(Self {
            file: file.to_owned(),
            alone: journal.is_some() && !keeps_all(config),
            tape: tape(journal, config),
        })
    }

    /// Creates the host whose run is recorded.
    pub(super) fn host(&self, config: Config, env: &Env, max_memory: Option<u64>) -> Result<Host> {
        host_with(config, env, max_memory, Some(Journal::new(self.tape.clone())))
    }

    /// Writes the file, unless the run was canceled or the host failed. `limits` are those of its root.
    pub(super) fn finish(self, limits: &Limits, printer: &Printer) -> Result<()> {
        let shown = self.file.display();
        let cassette = self.tape.cassette(cassette::unusual(limits));
        let class = cassette.as_ref().and_then(failure_class);
        let cut_short = matches!(class, Some(FailureClass::Cancelled | FailureClass::Host));
        let (Some(cassette), false) = (&cassette, cut_short) else {
            printer.note(&format!("{shown} was not written: the run came to no end of its own"));
            return Ok(());
        };
        cassette.clone().with_headroom().write(&self.file)?;
        let what = class.map_or_else(String::new, |class| {
            format!("; it expects a failure of class {}", class.name())
        });
        printer.note(&format!("recorded {shown}{what}"));
        if self.alone {
            printer.note("the run stands in the cassette alone, since [journal] keeps no requests");
        }
        Ok(())
    }
}

fn keeps_all(config: &Config) -> bool {
    config.journal().bodies == BodyRetention::All
}

/// Returns a tape for whole runs. A journal that must not keep bodies does not get them by way of the tape either, so the
/// tape is beside the journal only if that keeps all bodies.
pub(super) fn tape(journal: Option<Journal>, config: &Config) -> Arc<Tape> {
    let journal = journal.filter(|_| keeps_all(config));
    Arc::new(journal.map_or_else(Tape::new, |journal| Tape::beside(journal.store().clone())))
}

fn failure_class(cassette: &Cassette) -> Option<FailureClass> {
    Some(cassette.expect.failure.as_ref()?.class)
}

/// Creates a host for cassettes: no configuration, no key, no network. References to sub-agents are resolved by the
/// lock file of the project that `dir` belongs to, if there is one. Crates are built under `builds`.
pub(super) fn offline_host(
    env: &Env,
    dir: &Path,
    cassettes: &[(PathBuf, Cassette)],
    builds: BuildRules,
) -> Result<Host> {
    let memory = cassettes
        .iter()
        .filter_map(|(_, cassette)| match cassette.limits().memory {
            Some(Cap::At(bytes)) => Some(bytes),
            Some(Cap::Unlimited) => Some(u64::MAX),
            None => None,
        });
    let mut builder = builder(env).builds(builds).compile(super::compiled::how_at(env)?);
    if dir.ancestors().any(|above| above.join(LOCK_FILE).is_file()) {
        let at = env.at(dir);
        builder = builder.project(super::registry::project(&Config::load(&at)?, &at)?);
    }
    builder.max_memory(memory.max().unwrap_or(0)).build()
}

/// Returns the cassettes of the plugin in `dir`, at least one.
pub(super) fn needed(dir: &Path, shown: &Path) -> Result<Vec<(PathBuf, Cassette)>> {
    let shown = shown.display();
    if !dir.is_dir() {
        let what = match dir.exists() {
            true => "not a directory",
            false => "there is no such directory",
        };
        return Err(Error::usage(format!("{shown}: {what}"))
            .with_hint("Name the directory of a plugin's crate, with its Cargo.toml and its cassettes/."));
    }
    let found = cassette::of_plugin(dir)?;
    if found.is_empty() {
        return Err(
            Error::usage(format!("{shown}: no cassettes: {}/*.json", cassette::DIR)).with_hint(format!(
                "Record one: agenthost run {shown} --input JSON --record {shown}/{}/first.json",
                cassette::DIR
            )),
        );
    }
    Ok(found)
}

/// A cassette that was played.
pub(super) struct Played {
    /// The new recording, as a cassette.
    pub(super) now: Option<Cassette>,
    /// The differences from the cassette.
    pub(super) changes: Vec<Change>,
    pub(super) report: Option<Arc<RunReport>>,
}

/// Plays a cassette, the one in the file `path`, to `plugin`.
pub(super) async fn play(host: &Host, plugin: &Plugin, (path, cassette): (&Path, &Cassette)) -> Result<Played> {
    if cassette.plugin_name() != plugin.id().name {
        let why = format!("a cassette of {}, and the plugin is {}", cassette.plugin, plugin.id());
        return Err(Error::input(why)
            .at(path)
            .with_hint("Move it to its own plugin, or record one of this."));
    }
    let Rehearsal { run, tape, .. } = match host.rehearse(plugin, cassette) {
        Ok(rehearsal) => rehearsal,
        Err(error) if error.class() == ErrorClass::Input => {
            return Ok(Played {
                now: None,
                changes: vec![Change::new(Kind::Input, with_causes(&error))],
                report: None,
            });
        }
        Err(error) => return Err(error),
    };
    let report = run.report().await;
    let now = tape.cassette(cassette.limits.clone());
    let mut now = now.ok_or_else(|| Error::host(format!("{}: nothing came of it", path.display())))?;
    Ok(Played {
        changes: cassette.changes(&mut now),
        now: Some(now),
        report: Some(report),
    })
}

/// Describes the limits that a manifest declares and that its cassettes may exceed.
pub(super) fn too_low(dir: &Path, plugin: &PluginInfo) -> Vec<String> {
    let cassettes = match cassette::of_plugin(dir) {
        Ok(cassettes) => cassettes,
        Err(error) => return vec![with_causes(&error)],
    };
    let declared = plugin.manifest.as_ref().map(|manifest| manifest.limits.clone());
    let declared = serde_json::from_value(declared.unwrap_or_default().into());
    let limits = Limits::none().overridden_by(&declared.unwrap_or_else(|_| LimitsPatch::default()));
    let mut least: BTreeMap<&str, (u64, String)> = BTreeMap::new();
    for (path, cassette) in &cassettes {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        for (key, need) in [
            ("tokens", cassette.expect.tokens),
            ("calls", cassette.calls()),
            ("fuel", cassette.expect.fuel),
        ] {
            if least.get(key).is_none_or(|(known, _)| need > *known) {
                least.insert(key, (need, format!("{}/{file}", cassette::DIR)));
            }
        }
    }
    let declared = [
        ("tokens", limits.tokens),
        ("calls", limits.calls),
        ("fuel", limits.fuel),
    ];
    let low = declared.into_iter().filter_map(|(key, limit)| {
        let (need, file) = least.get(key)?;
        let limit = limit.filter(|limit| limit < need)?;
        Some(format!(
            "the manifest declares {key} = {limit}, and {file} may take {need}; `agenthost profile` suggests limits"
        ))
    });
    low.collect()
}
