//! The plugin that a command is about, with its sub-agents, directories and tools of providers.

use std::collections::BTreeMap;
use std::path::Path;

use super::crates::ask;
use super::output::Printer;
use super::progress::Progress;
use agenthost::config::{self, Config, DirGrant, Env};
use agenthost::error::{Error, Result};
use agenthost::llm::{ServerToolGrant, ServerToolGrants, ServerToolKind};
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
    /// Let a provider run a tool (web-search or web-fetch) for the plugin, but not for its sub-agents, at most N times in
    /// a model call
    #[arg(long, value_name = "TOOL[=N]")]
    pub(super) server_tool: Vec<String>,
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
            server_tool: Vec::new(),
            offline: false,
            locked: false,
        }
    }

    /// Loads the plugin, and prints a note if `--dir` or `--server-tool` has no effect.
    pub(super) async fn load(&self, host: &Host, env: &Env, printer: &Printer) -> Result<Plugin> {
        let dirs = dirs(&self.dir, env)?;
        let (has_dirs, has_memory) = (!dirs.is_empty(), dirs.iter().any(DirGrant::is_memory));
        let mut options = options(sub_agents(&self.with, env)?, dirs);
        options.server_tools = server_tools(&self.server_tool)?;
        let tools: Vec<_> = options.server_tools.0.keys().copied().collect();
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
        let name = &plugin.id().name;
        for kind in tools {
            match info.server_tools() {
                Ok(asked) if asked.get(kind).is_some() => {}
                Ok(_) => {
                    let below = asking(&plugin, kind).map(|below| {
                        format!(
                            "; {below} does: grant it with server-tools in [grants.\"{below}\"] of your configuration"
                        )
                    });
                    printer.note(&format!(
                        "{name} does not ask for {kind}: --server-tool gives it nothing{}",
                        below.unwrap_or_default()
                    ));
                }
                Err(why) => printer.note(&format!(
                    "the `server-tools` of {name} are invalid, so --server-tool gives it nothing: {why}"
                )),
            }
        }
        Ok(plugin)
    }

    /// Returns the arguments of `--dir`, as they were written.
    pub(super) fn given_dirs(&self) -> &[String] {
        &self.dir
    }

    /// Returns the arguments of `--server-tool`, as they were written.
    pub(super) fn given_server_tools(&self) -> &[String] {
        &self.server_tool
    }
}

/// Returns the name of a plugin below `plugin` that asks for a tool of a provider.
fn asking(plugin: &Plugin, kind: ServerToolKind) -> Option<String> {
    plugin.sub_agents().find_map(|(_, below)| {
        let asks = below.info().server_tools().is_ok_and(|tools| tools.get(kind).is_some());
        asks.then(|| below.id().name.clone()).or_else(|| asking(below, kind))
    })
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

/// Parses the arguments of `--server-tool`: `web-search`, or `web-search=3` for at most three uses in a call.
pub(super) fn server_tools(given: &[String]) -> Result<ServerToolGrants> {
    let mut grants = ServerToolGrants::default();
    for text in given {
        let wrong = |why: String| {
            Error::usage(format!("--server-tool {text}: {why}")).with_hint("For example --server-tool web-search=3")
        };
        let (name, uses) = text
            .split_once('=')
            .map_or((text.as_str(), None), |(n, u)| (n, Some(u)));
        let kind = name.parse::<ServerToolKind>().map_err(wrong)?;
        let number = |uses: &str| uses.parse().map_err(|_| wrong(format!("`{uses}` is not a number")));
        let bounds = ServerToolGrant {
            max_uses: uses.map(number).transpose()?,
            ..ServerToolGrant::default()
        };
        bounds.check().map_err(wrong)?;
        grants.0.insert(kind, bounds);
    }
    Ok(grants)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_tool_is_a_name_with_a_number_of_uses() {
        let read = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
            server_tools(&texts).map(|tools| tools.to_string())
        };
        assert_eq!(read(&[]).unwrap(), "none");
        assert_eq!(
            read(&["web-search=3", "web-fetch"]).unwrap(),
            "web-search (3 uses a call); web-fetch (5 uses a call)"
        );
        for (text, why) in [
            (
                "shell",
                "--server-tool shell: `shell` is not a tool of a provider; the known ones are web-search and web-fetch",
            ),
            ("web-search=", "--server-tool web-search=: `` is not a number"),
            (
                "web-search=a.com",
                "--server-tool web-search=a.com: `a.com` is not a number",
            ),
            (
                "web-search=0",
                "--server-tool web-search=0: `max-uses` is a number from 1 to 100",
            ),
        ] {
            let error = read(&[text]).unwrap_err();
            assert_eq!(error.to_string(), why);
            assert!(error.hint().is_some());
        }
    }
}
