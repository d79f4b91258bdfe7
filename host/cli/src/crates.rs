//! The crates that a command may build, and the lines that show their builds.
//!
//! A build runs code as this user, so a crate is built only if the operator trusts its folder. On a terminal the
//! command asks first; elsewhere it prints what would run, and ends. `build` and `test` exist to build the crate that
//! they name: they build it even if its folder is not trusted, with a note.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::output::Printer;
use super::progress::{Lines, Part, Progress, fit, lock, seconds};
use agenthost::config::trust::crates::{self, CrateBuild};
use agenthost::config::{Config, Env};
use agenthost::error::Result;
use agenthost::plugin::build::{BuildRules, BuildState};
use agenthost::printable::one_line;
use agenthost::registry::project::Project;

/// Returns rules that allow crates in trusted folders only, built without the variables that hold keys by `config`.
pub(super) fn rules(env: &Env, config: &Config) -> BuildRules {
    let trusted = env.clone();
    let keys: Vec<String> = config.key_variables().map(str::to_owned).collect();
    BuildRules::permitting(move |dir| Ok(crates::check(&trusted, dir)?))
        .hiding(keys)
        .watching(watch())
}

/// Like [`rules`], for a command that needs no configuration: one that cannot be read hides nothing.
pub(super) fn rules_alone(env: &Env) -> BuildRules {
    let trusted = env.clone();
    BuildRules::permitting(move |dir| Ok(crates::check(&trusted, dir)?))
        .hiding(keys(env))
        .watching(watch())
}

fn keys(env: &Env) -> Vec<String> {
    let config = Config::load(env);
    config.map_or_else(
        |_| Vec::new(),
        |config| config.key_variables().map(str::to_owned).collect(),
    )
}

/// Like [`rules_alone`], and also allows the crate in `dir`, which a command names in order to build it.
pub(super) fn rules_naming(dir: &Path, env: &Env, printer: &Printer) -> Result<BuildRules> {
    if dir.join("Cargo.toml").is_file() {
        let build = CrateBuild::of(env, dir)?;
        if !build.is_trusted(env)? {
            printer.note(&format!(
                "this runs code of the crate on this machine, outside of any sandbox: {}",
                build.runs.join("; ")
            ));
        }
    }
    let trusted = env.clone();
    let named = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    Ok(BuildRules::permitting(move |dir| {
        let inside = dir.canonicalize().is_ok_and(|dir| dir.starts_with(&named));
        if inside {
            Ok(())
        } else {
            Ok(crates::check(&trusted, dir)?)
        }
    })
    .hiding(keys(env))
    .watching(watch()))
}

/// Returns a function that shows each build on a line that moves.
fn watch() -> impl Fn(&Path, BuildState) + Send + Sync + 'static {
    let builds = Mutex::new(Vec::<(PathBuf, _, _)>::new());
    move |dir: &Path, state: BuildState| {
        let mut builds = lock(&builds);
        match state {
            BuildState::Started => {
                let line = Arc::new(Mutex::new(BuildLine::new(dir)));
                let progress = Progress::draw(&line);
                builds.push((dir.to_owned(), line, progress));
            }
            BuildState::Ended => builds.retain(|(of, ..)| of != dir),
            state => {
                if let Some((_, line, _)) = builds.iter().find(|(of, ..)| of == dir) {
                    lock(line).state = state;
                }
            }
        }
    }
}

/// The line of a build.
struct BuildLine {
    name: String,
    state: BuildState,
    since: Instant,
}

impl BuildLine {
    fn new(dir: &Path) -> Self {
        let full = dir.canonicalize();
        let name = full.as_deref().unwrap_or(dir).file_name().unwrap_or(dir.as_os_str());
        Self {
            name: one_line(&name.to_string_lossy()).into_owned(),
            state: BuildState::Started,
            since: Instant::now(),
        }
    }
}

impl Lines for BuildLine {
    fn lines(&self, width: usize, _: usize) -> Vec<String> {
        let building = format!("building {}", self.name);
        let state = match &self.state {
            BuildState::Compiling { done, total } => format!("{done}/{total}"),
            BuildState::Blocked(lock) => format!("waiting for another build to release the {}", one_line(lock)),
            BuildState::Other(text) => one_line(text).into_owned(),
            _ => String::new(),
        };
        let parts = vec![
            Part::flexible(1, building),
            Part::flexible(2, state),
            Part::whole(0, seconds(self.since.elapsed())),
        ];
        vec![fit(parts, width)]
    }
}

/// Asks on a terminal whether the crate in `path` may be built, if it is not trusted, and records the answer. Elsewhere
/// it does nothing, and the build is refused. It does not ask about a crate that the policies refuse.
pub(super) fn ask(path: &Path, project: Option<&Project>, env: &Env, printer: &Printer) -> Result<()> {
    if !path.join("Cargo.toml").is_file() {
        return Ok(());
    }
    if let Some(project) = project {
        project.judge_crate(path)?;
    }
    let build = CrateBuild::of(env, path)?;
    if build.is_trusted(env)? || !printer.can_ask() {
        return Ok(());
    }
    printer.say(&format!(
        "building {} runs code of it on this machine, outside of any sandbox:",
        one_line(&build.dir.to_string_lossy())
    ));
    for what in &build.runs {
        printer.say(&format!("  {what}"));
    }
    let question = format!("trust the crates in {}?", one_line(&build.dir.to_string_lossy()));
    if printer.ask(&question) {
        build.accept(env)?;
    }
    Ok(())
}
