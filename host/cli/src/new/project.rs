//! The files of a new project, and writing them to disk: all of them or none.
//!
//! The templates are projects themselves, written for a plugin `local:my-plugin` outside of any other workspace, or for
//! a workspace `my-workspace` whose plugins have the namespace `local`. This module replaces the parts that differ from
//! that. A template's `Cargo.toml` is called `manifest.toml`, since cargo leaves a directory with a manifest out of a
//! package, and its `.gitignore` is called `gitignore`, since git would apply it to the templates.

use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::name::{Name, SUB_AGENT};
use super::sdk::{self, Sdk};
use agenthost::error::{Error, Result};

/// The kind of a new project: a plugin, or a workspace with one plugin for each pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Leaf,
    Batch,
    Orchestrator,
    Workspace,
}

type Template = &'static [(&'static str, &'static str)];

macro_rules! template {
    ($dir:literal: $($file:literal)*) => {
        &[$(($file, include_str!(concat!("templates/", $dir, "/", $file)))),*]
    };
}

static LEAF: Template = template!("leaf":
    "manifest.toml" "wit/world.wit" "src/lib.rs" "input.json" "cassettes/first.json" "README.md");
static BATCH: Template = template!("batch":
    "manifest.toml" "wit/world.wit" "src/lib.rs" "input.json" "cassettes/first.json" "README.md");
static ORCHESTRATOR: Template = template!("orchestrator":
    "manifest.toml" "wit/world.wit" "src/lib.rs" "input.json" "cassettes/first.json" "README.md"
    "expert/manifest.toml" "expert/wit/world.wit" "expert/src/lib.rs" "expert/input.json");
static WORKSPACE: Template = template!("workspace":
    ".github/workflows/agenthost.yml" "HEARTBEAT.md" "MEMORY.md" "README.md" "agenthost-policy.toml"
    "agenthost.toml" "gitignore" "inputs/companies.csv" "inputs/heartbeat.json" "inputs/inbox.md"
    "inputs/map.json" "inputs/recover.json" "inputs/research.json" "inputs/tickets.csv" "inputs/validate.json"
    "manifest.toml" "memory/gitignore" "plugins/heartbeat/cassettes/first.json"
    "plugins/heartbeat/manifest.toml" "plugins/heartbeat/src/lib.rs" "plugins/map/cassettes/first.json"
    "plugins/map/manifest.toml" "plugins/map/src/lib.rs" "plugins/map/wit/world.wit"
    "plugins/recover/cassettes/escalated.json" "plugins/recover/cassettes/first.json"
    "plugins/recover/manifest.toml" "plugins/recover/src/lib.rs" "plugins/research/cassettes/first.json"
    "plugins/research/manifest.toml" "plugins/research/src/lib.rs" "plugins/validate/cassettes/first.json"
    "plugins/validate/manifest.toml" "plugins/validate/src/lib.rs" "schemas/company.schema.json"
    "wit/deps/ask/world.wit");
/// The files of every plugin that is a project.
static PLUGIN: Template = &[
    ("gitignore", include_str!("templates/gitignore")),
    ("cassettes/README.md", include_str!("templates/cassettes.md")),
];

/// The beginning of the part of a manifest that makes the project a workspace.
const OWN_WORKSPACE: &str = "\n# A workspace of its own";
/// The line that keeps the copy of the SDK out of that workspace.
const NO_MEMBERS: &str = "exclude = [\"vendor\"]\n";

impl Kind {
    fn template(self) -> Template {
        match self {
            Self::Leaf => LEAF,
            Self::Batch => BATCH,
            Self::Orchestrator => ORCHESTRATOR,
            Self::Workspace => WORKSPACE,
        }
    }

    /// Returns the files that projects of several kinds have.
    fn common(self) -> Template {
        match self {
            Self::Leaf | Self::Batch | Self::Orchestrator => PLUGIN,
            Self::Workspace => &[],
        }
    }

    /// Returns the files without the SDK's, by their paths in the project's directory. `member` is whether a workspace
    /// around the project claims it.
    fn files(self, name: &Name, sdk: &Sdk, member: bool) -> Vec<(PathBuf, String)> {
        let snake = name.name.replace('-', "_");
        let mut files = Vec::new();
        for (place, text) in self.template().iter().chain(self.common()) {
            let mut text = (*text).to_owned();
            if place.ends_with("manifest.toml") {
                text = sdk.depend(&text);
                if *sdk != Sdk::Vendored {
                    text = text.replace(NO_MEMBERS, "");
                }
                let own = text.split_once(OWN_WORKSPACE).map(|(before, _)| before.to_owned());
                match own {
                    Some(before) if member => text = before,
                    // The sub-agent of a member is not itself a member, so it must be a workspace.
                    None if member => text.push_str(own_workspace()),
                    _ => {}
                }
            }
            let text = text
                .replace("my-plugin", &name.name)
                .replace("my-workspace", &name.name)
                .replace("my_plugin", &snake)
                .replace("local:", &format!("{}:", name.namespace));
            if *place == "expert/wit/world.wit" {
                // The same copy that `agenthost build` makes, so that plain `cargo build` works at once.
                let copy = format!("wit/deps/{}{SUB_AGENT}/world.wit", name.name);
                files.push((PathBuf::from(copy), text.clone()));
            }
            files.push((in_project(place), text));
        }
        files.sort();
        files
    }
}

/// Returns the place of a template's file in a project.
fn in_project(place: &str) -> PathBuf {
    let path = Path::new(place);
    match path.file_name().and_then(|name| name.to_str()) {
        Some("manifest.toml") => path.with_file_name("Cargo.toml"),
        Some("gitignore") => path.with_file_name(".gitignore"),
        _ => path.to_owned(),
    }
}

/// Returns the part of a manifest that makes a crate without members a workspace.
fn own_workspace() -> &'static str {
    let leaf = LEAF.first().map_or("", |(_, text)| text);
    leaf.find(OWN_WORKSPACE)
        .and_then(|at| leaf.get(at..))
        .unwrap_or_default()
}

/// Writes a project into the new directory `dir`, an absolute path, and returns the files that are the project's own.
///
/// The project is written to a temporary directory beside `dir` and moved, so that an error leaves nothing behind.
pub(super) fn write(kind: Kind, name: &Name, dir: &Path) -> Result<Vec<PathBuf>> {
    let parent = dir.parent().unwrap_or(dir);
    if !parent.is_dir() {
        return Err(Error::usage(format!("{}: no such directory", parent.display()))
            .with_hint("Make it first, or give another one with --path."));
    }
    let taken = || {
        Error::usage(format!("{}: there is something of that name", dir.display()))
            .with_hint("Nothing is overwritten: choose another name, or another directory with --path.")
    };
    if dir.symlink_metadata().is_ok() {
        return Err(taken());
    }
    let claimant = claimant(dir);
    let sdk = Sdk::of(dir, claimant.as_deref());
    if let Some(root) = claimant
        .as_ref()
        .filter(|_| kind == Kind::Workspace || sdk == Sdk::Vendored)
    {
        // cargo rejects a workspace in another one, and two copies of the SDK in one, and then nothing in it can be built.
        let place = dir.strip_prefix(root).unwrap_or(dir).display();
        let manifest = root.join("Cargo.toml");
        return Err(Error::usage(format!("{}: the workspace in {} claims it as a member", dir.display(), manifest.display()))
            .with_hint(format!(
                "Write `exclude = [\"{place}\"]` under its [workspace], so that the project is a workspace of its own, or give another directory with --path."
            )));
    }
    let mut files = kind.files(name, &sdk, claimant.is_some());
    let own = files.iter().map(|(place, _)| place.clone()).collect();
    if sdk == Sdk::Vendored {
        files.extend(sdk::vendored()?);
    }
    let unwritten = |path: &Path, error: std::io::Error| {
        Error::usage(format!("cannot write {}: {error}", path.display()))
            .with_hint("Nothing was left behind; give a directory that you may write to with --path.")
    };
    let beside = parent.join(format!(".{}-{}", name.name, std::process::id()));
    fs::create_dir(&beside).map_err(|error| unwritten(&beside, error))?;
    let written = files.iter().try_for_each(|(place, text)| {
        let path = beside.join(place);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::write(&path, text))
            .map_err(|error| unwritten(&dir.join(place), error))
    });
    // Creating an empty directory fails if anything is there already; the move then replaces the directory.
    let moved = written.and_then(|()| {
        fs::create_dir(dir).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => taken(),
            _ => unwritten(dir, error),
        })?;
        fs::rename(&beside, dir).map_err(|error| {
            let _ = fs::remove_dir(dir);
            unwritten(dir, error)
        })
    });
    if moved.is_err() {
        let _ = fs::remove_dir_all(&beside);
    }
    moved.map(|()| own)
}

/// Returns the nearest cargo workspace above `dir`, if it counts `dir` among its members. A manifest that cannot be
/// read claims nothing; cargo will report its fault.
fn claimant(dir: &Path) -> Option<PathBuf> {
    for above in dir.ancestors().skip(1) {
        let manifest = fs::read_to_string(above.join("Cargo.toml"));
        let table = manifest.ok().and_then(|text| text.parse::<Table>().ok());
        let Some(workspace) = table.as_ref().and_then(|table| table.get("workspace")) else {
            continue;
        };
        let place = dir.strip_prefix(above).ok()?;
        let list = |key: &str| {
            let list = workspace.get(key).and_then(Value::as_array);
            list.into_iter().flatten().filter_map(Value::as_str).map(Path::new)
        };
        let member = list("members").any(|pattern| matches_path(pattern, place));
        let excluded = list("exclude").any(|excluded| place.starts_with(excluded));
        return (member && !excluded).then(|| above.to_owned());
    }
    None
}

/// Returns whether a member's pattern matches a path: component by component, with `*` and `?`.
fn matches_path(pattern: &Path, place: &Path) -> bool {
    let parts = |path: &Path| -> Vec<String> {
        let parts = path.iter().map(|part| part.to_string_lossy().into_owned());
        parts.filter(|part| part != ".").collect()
    };
    let (pattern, place) = (parts(pattern), parts(place));
    pattern.len() == place.len()
        && pattern
            .iter()
            .zip(&place)
            .all(|(pattern, part)| matches_part(pattern.as_bytes(), part.as_bytes()))
}

fn matches_part(pattern: &[u8], part: &[u8]) -> bool {
    match (pattern.split_first(), part.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) if matches_part(rest, part) => true,
        (Some((b'*', _)), Some((_, part))) => matches_part(pattern, part),
        (Some((c, pattern)), Some((d, part))) => (c == d || *c == b'?') && matches_part(pattern, part),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
