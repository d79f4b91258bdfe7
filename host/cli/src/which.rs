//! The plugin that a command is about, with its sub-agents and directories.

use std::collections::BTreeMap;
use std::path::Path;

use super::crates::ask;
use super::output::Printer;
use super::progress::Progress;
use agenthost::config::{self, Config, DirGrant, Env};
use agenthost::error::{Error, Result};
use agenthost::{Host, LoadOptions, Plugin, PluginSource};

/// A plugin, as flags name it.
#[derive(Debug, clap::Args)]
pub(super) struct PluginArgs {
    /// The plugin: a .wasm file, a crate directory to build, or a name in agenthost.lock, such as acme:competitor
    pub(super) plugin: String,
    /// Use this .wasm file, crate directory or plugin of agenthost.lock as the sub-agent NAMESPACE:NAME
    #[arg(long, value_name = "NAMESPACE:NAME=PLUGIN")]
    pub(super) with: Vec<String>,
    /// Let the plugin, but not its sub-agents, read the directory HOST as GUEST, such as reports::/data; :rw lets it
    /// write, too
    #[arg(long, value_name = "HOST::GUEST[:rw]")]
    pub(super) dir: Vec<String>,
    /// Fetch nothing, and fail if a plugin of agenthost.lock is not in the cache
    #[arg(long)]
    offline: bool,
    /// Use registry plugins exactly as in agenthost.lock (always the case; for scripts that state it)
    #[arg(long)]
    locked: bool,
}

impl PluginArgs {
    /// Names a plugin without any further flag.
    pub(super) fn of(plugin: &str) -> Self {
        Self {
            plugin: plugin.to_owned(),
            with: Vec::new(),
            dir: Vec::new(),
            offline: false,
            locked: false,
        }
    }

    /// Loads the plugin, and prints a note if `--dir` has no effect.
    pub(super) async fn load(&self, host: &Host, env: &Env, printer: &Printer) -> Result<Plugin> {
        let dirs = dirs(&self.dir, env)?;
        let (has_dirs, has_memory) = (!dirs.is_empty(), dirs.iter().any(DirGrant::is_memory));
        let options = options(sub_agents(&self.with, env)?, dirs);
        let place = PluginSource::parse(&self.plugin, env.cwd())?;
        if !self.offline {
            fetch(host, &place, &options, printer).await?;
        }
        for place in std::iter::once(&place).chain(options.with.values()) {
            if let PluginSource::Path(path) = place {
                ask(path, host.project(), env, printer)?;
            }
        }
        let plugin = find(host, &self.plugin, &place, options, printer).await?;
        let info = plugin.info();
        let uses_some = info.reads_files() || (info.has_memory() && has_memory);
        if has_dirs && !uses_some {
            printer.note(&format!("{} reads no files: --dir gives it nothing", plugin.id().name));
        }
        Ok(plugin)
    }

    /// Returns the arguments of `--dir`, as they were written.
    pub(super) fn given_dirs(&self) -> &[String] {
        &self.dir
    }
}

/// Returns whether a path is in the folder of the project's file, with all links resolved. Returns `false` without such
/// a file, or if it is in the home directory, which holds more than one project.
pub(super) fn is_inside(path: &Path, config: &Config, env: &Env) -> bool {
    // The file itself may be a link; the project's folder is where the link is.
    let folder = config.project_file().and_then(Path::parent);
    let Some(folder) = folder.and_then(|folder| folder.canonicalize().ok()) else {
        return false;
    };
    let home = env.home().and_then(|home| home.canonicalize().ok());
    if folder.parent().is_none() || home.as_ref() == Some(&folder) {
        return false;
    }
    // A path that does not exist yet is judged by its parent directory.
    let place = path.canonicalize().ok().or_else(|| {
        let name = path.file_name()?;
        Some(path.parent()?.canonicalize().ok()?.join(name))
    });
    place.is_some_and(|place| place.starts_with(folder))
}

pub(super) fn options(with: BTreeMap<String, PluginSource>, dirs: Vec<DirGrant>) -> LoadOptions {
    let mut options = LoadOptions::new();
    options.with = with;
    options.dirs = dirs;
    options
}

/// Parses `--with NAMESPACE:NAME=PLUGIN`.
pub(super) fn sub_agents(given: &[String], env: &Env) -> Result<BTreeMap<String, PluginSource>> {
    let parse = |text: &String| match text.split_once('=') {
        Some((name, place)) if name.contains(':') && !place.is_empty() => {
            Ok((name.to_owned(), PluginSource::parse(place, env.cwd())?))
        }
        _ => Err(
            Error::usage(format!("--with {text}: not of the form NAMESPACE:NAME=PLUGIN"))
                .with_hint("For example --with demo:competitor=plugins/competitor"),
        ),
    };
    given.iter().map(parse).collect()
}

/// Parses `--dir HOST::GUEST[:rw]`.
pub(super) fn parse_dir(text: &str, env: &Env) -> Result<DirGrant> {
    DirGrant::parse(env, text).map_err(|error| Error::from(error).context("--dir"))
}

/// Parses the arguments of `--dir`, and checks that the directories exist.
fn dirs(given: &[String], env: &Env) -> Result<Vec<DirGrant>> {
    let parse = |text: &String| {
        let dir = parse_dir(text, env)?;
        match dir.host.is_dir() {
            true => Ok(dir),
            false => Err(
                Error::usage(format!("--dir {text}: {} is not a directory", dir.host.display()))
                    .with_hint("Make the directory, or name another."),
            ),
        }
    };
    given.iter().map(parse).collect()
}

/// Fetches the plugins that are given as references and missing from the cache, and prints a note for each.
pub(super) async fn fetch(host: &Host, place: &PluginSource, options: &LoadOptions, printer: &Printer) -> Result<()> {
    let Some(project) = host.project().filter(|project| !project.lock().is_empty()) else {
        return Ok(());
    };
    let configured = host
        .config()
        .sub_agents()
        .values()
        .filter_map(|sub_agent| match sub_agent {
            config::SubAgent::Reference(text) => text.parse().ok(),
            config::SubAgent::Path(_) => None,
        });
    let given = [place]
        .into_iter()
        .chain(options.with.values())
        .filter_map(|place| match place {
            PluginSource::Reference(reference) => Some(reference.clone()),
            PluginSource::Path(_) => None,
        });
    for reference in given.chain(configured).collect::<Vec<_>>() {
        // A reference that is not in the lock file is an error only if it is loaded.
        if let Ok(locked) = project.locked(&reference) {
            project
                .ready(&locked.name, |locked| super::registry::note(locked, printer))
                .await?;
        }
    }
    Ok(())
}

pub(super) async fn find(
    host: &Host,
    text: &str,
    place: &PluginSource,
    options: LoadOptions,
    printer: &Printer,
) -> Result<Plugin> {
    let waiting = Progress::waiting(&format!("loading {text}"));
    let plugin = host.load_with(place.clone(), options).await;
    waiting.finish();
    let plugin = plugin?;
    for note in plugin.notes() {
        printer.note(note);
    }
    Ok(plugin)
}
