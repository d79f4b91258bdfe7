//! Which plugin a command is about, and what it is given beside its input.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::output::Printer;
use super::progress::Progress;
use crate::config::{DirGrant, Env};
use crate::error::{Error, Result};
use crate::host::{Host, LoadOptions, LoadedPlugin};

/// A plugin, as flags name it.
#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// A .wasm file, or the directory of a plugin's crate, which is built first
    plugin: PathBuf,
    /// Take the sub-agent NAMESPACE:NAME from this .wasm file or crate directory
    #[arg(long, value_name = "NAMESPACE:NAME=PLUGIN")]
    with: Vec<String>,
    /// Let the plugin, but not its sub-agents, read the directory HOST as GUEST, such as reports::/data; with :rw it may
    /// write there, too
    #[arg(long, value_name = "HOST::GUEST[:rw]")]
    dir: Vec<String>,
}

/// The same for another time and place, as a journal keeps it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Named {
    plugin: PathBuf,
    with: BTreeMap<String, PathBuf>,
    /// As they were written, relative to `cwd`.
    dirs: Vec<String>,
    cwd: PathBuf,
}

impl Which {
    /// Loads it, and says what stands out.
    pub(super) async fn load(&self, host: &Host, env: &Env, printer: &Printer) -> Result<LoadedPlugin> {
        let options = LoadOptions {
            with: sub_agents(&self.with, env)?,
            dirs: dirs(&self.dir, env)?,
        };
        let plugin = find(host, &self.plugin, &env.cwd().join(&self.plugin), options, printer).await?;
        if !self.dir.is_empty() && !plugin.reads_files() {
            printer.note(&format!("{} reads no files: --dir gives it nothing", plugin.id.name));
        }
        Ok(plugin)
    }

    /// What it takes to load it again.
    pub(super) fn named(&self, env: &Env) -> Result<Named> {
        Ok(Named {
            plugin: env.cwd().join(&self.plugin),
            with: sub_agents(&self.with, env)?,
            dirs: self.dir.clone(),
            cwd: env.cwd().to_owned(),
        })
    }
}

impl Named {
    /// Loads it as it was loaded then.
    pub(super) async fn load(&self, host: &Host, env: &Env, printer: &Printer) -> Result<LoadedPlugin> {
        let options = LoadOptions {
            with: self.with.clone(),
            dirs: dirs(&self.dirs, &env.at(&self.cwd))?,
        };
        find(host, &self.plugin, &self.plugin, options, printer).await
    }
}

/// `--with NAMESPACE:NAME=PLUGIN`
pub(super) fn sub_agents(given: &[String], env: &Env) -> Result<BTreeMap<String, PathBuf>> {
    let parse = |text: &String| match text.split_once('=') {
        Some((name, path)) if name.contains(':') && !path.is_empty() => Ok((name.to_owned(), env.cwd().join(path))),
        _ => Err(
            Error::usage(format!("--with {text}: not of the form NAMESPACE:NAME=PLUGIN"))
                .hint("For example --with demo:competitor=plugins/competitor"),
        ),
    };
    given.iter().map(parse).collect()
}

/// `--dir HOST::GUEST[:rw]`
fn dirs(given: &[String], env: &Env) -> Result<Vec<DirGrant>> {
    let parse = |text: &String| {
        let dir = DirGrant::parse(env, text).map_err(|error| error.context("--dir"))?;
        match dir.host.is_dir() {
            true => Ok(dir),
            false => Err(
                Error::usage(format!("--dir {text}: {} is not a directory", dir.host.display()))
                    .hint("Make the directory, or name another."),
            ),
        }
    };
    given.iter().map(parse).collect()
}

pub(super) async fn find(
    host: &Host,
    given: &Path,
    path: &Path,
    options: LoadOptions,
    printer: &Printer,
) -> Result<LoadedPlugin> {
    let text = given.to_string_lossy();
    if !path.exists() && text.contains(':') && !text.contains('/') {
        return Err(Error::plugin(format!(
            "{text} looks like a reference to a registry, which this version cannot fetch"
        ))
        .hint("Give a .wasm file or a crate directory."));
    }
    let waiting = Progress::waiting(&format!("loading {text}"), printer);
    let plugin = host.load_with(path, options).await;
    waiting.finish();
    let plugin = plugin?;
    for note in plugin.notes() {
        printer.note(note);
    }
    Ok(plugin)
}
