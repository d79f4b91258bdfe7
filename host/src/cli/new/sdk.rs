//! The SDK as it was when this program was built, and how a project depends on it.
//!
//! A project carries the sources with it, so that it is built against the same contract everywhere and needs nothing of
//! ours from anywhere. The SDK's third-party crates are cargo's business.

use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::error::{Error, Result};

/// Where a project keeps the SDK.
pub(super) const DIR: &str = "vendor/agenthost-sdk";
/// The version of the SDK that belongs to this program.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The files, named from the repository's root; empty in a package of this crate alone.
static FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

/// Where a project has the SDK from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sdk {
    /// From a copy within the project.
    Vendored,
    /// From the repository in which the project lies; relative to the project.
    Path(PathBuf),
    /// From a registry: the sources were not there when this program was built.
    Registry,
}

impl Sdk {
    /// What fits a project at `dir`, an absolute path.
    pub(super) fn of(dir: &Path) -> Self {
        let mut up = PathBuf::new();
        for above in dir.ancestors().skip(1) {
            up.push("..");
            if is_repository(above) {
                return Self::Path(up.join("sdk"));
            }
        }
        if FILES.is_empty() {
            Self::Registry
        } else {
            Self::Vendored
        }
    }

    /// The manifest of a project's crate, written for a copy of the SDK, with the SDK from here.
    pub(super) fn depend(&self, manifest: &str) -> String {
        match self {
            Self::Vendored => manifest.to_owned(),
            Self::Path(path) => manifest.replace(DIR, &path.display().to_string()),
            Self::Registry => ["", "../"].iter().fold(manifest.to_owned(), |manifest, up| {
                manifest.replace(&format!("{{ path = \"{up}{DIR}\" }}"), &format!("\"={VERSION}\""))
            }),
        }
    }
}

/// Whether `dir` is the repository of this program, at the same version.
fn is_repository(dir: &Path) -> bool {
    let read = |name: &str| fs::read_to_string(dir.join(name)).ok()?.parse::<Table>().ok();
    let text = |table: &Table, path: &[&str]| {
        let (first, rest) = path.split_first()?;
        let found = rest.iter().try_fold(table.get(*first)?, |value, key| value.get(key))?;
        found.as_str().map(str::to_owned)
    };
    let name = read("sdk/Cargo.toml").and_then(|sdk| text(&sdk, &["package", "name"]));
    let version = read("Cargo.toml").and_then(|root| text(&root, &["workspace", "package", "version"]));
    name.as_deref() == Some("agenthost-sdk") && version.as_deref() == Some(VERSION)
}

/// The files of the copy, named from the project's directory.
pub(super) fn vendored() -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for (name, text) in FILES {
        let (place, text) = match *name {
            "Cargo.toml" => continue,
            "sdk/Cargo.toml" => ("Cargo.toml", format!("{text}\n{}", workspace()?)),
            name => (name.strip_prefix("sdk/").unwrap_or(name), (*text).to_owned()),
        };
        files.push((Path::new(DIR).join(place), text));
    }
    Ok(files)
}

/// What the SDK's crates inherit, for their copy: with it the copy is a workspace of its own and its manifests stay as
/// they are.
fn workspace() -> Result<String> {
    let root = manifest("Cargo.toml")?;
    let of_root = |key: &str| root.get("workspace").and_then(|workspace| workspace.get(key)).cloned();
    let mut dependencies = Table::new();
    for name in ["sdk/Cargo.toml", "sdk/macros/Cargo.toml"] {
        let manifest = manifest(name)?;
        let known = manifest.get("dependencies").and_then(Value::as_table);
        for (name, dependency) in known.into_iter().flatten() {
            if dependency.get("workspace").is_some()
                && let Some(mut shared) = of_root("dependencies").and_then(|all| all.get(name).cloned())
            {
                if let Some(Value::String(path)) = shared.get_mut("path") {
                    *path = path.trim_start_matches("sdk/").to_owned();
                }
                dependencies.insert(name.clone(), shared);
            }
        }
    }
    let mut workspace = Table::new();
    workspace.insert("dependencies".to_owned(), Value::Table(dependencies));
    for key in ["package", "lints"] {
        if let Some(value) = of_root(key) {
            workspace.insert(key.to_owned(), value);
        }
    }
    let table = Table::from_iter([("workspace".to_owned(), Value::Table(workspace))]);
    let text = toml::to_string(&table).map_err(|error| Error::host(format!("the SDK's manifest: {error}")))?;
    Ok(format!("# What the manifests of this copy inherit.\n{text}"))
}

fn manifest(name: &str) -> Result<Table> {
    let text = FILES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text);
    text.unwrap_or_default()
        .parse()
        .map_err(|error| Error::host(format!("the SDK's {name}: {error}")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn below(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, found);
            } else {
                found.push(path);
            }
        }
    }

    #[test]
    fn the_sources_are_complete_and_those_of_the_repository() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut tree = vec![root.join("Cargo.toml"), root.join("LICENSE")];
        below(&root.join("sdk"), &mut tree);
        let tree: BTreeMap<String, String> = tree
            .into_iter()
            .map(|path| {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                (name, fs::read_to_string(&path).unwrap())
            })
            .filter(|(name, _)| !name.starts_with("sdk/tests/"))
            .collect();
        let embedded: BTreeMap<String, String> = FILES
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect();
        assert_eq!(embedded.keys().collect::<Vec<_>>(), tree.keys().collect::<Vec<_>>());
        assert!(embedded == tree, "the sources changed after this program was built");
        let contract = fs::read_to_string(root.join("wit/plugin.wit")).unwrap();
        assert_eq!(embedded["sdk/macros/plugin.wit"], contract);
    }

    #[test]
    fn the_copy_is_a_workspace_that_needs_nothing_around_it() {
        let files: BTreeMap<PathBuf, String> = vendored().unwrap().into_iter().collect();
        let text = &files[Path::new("vendor/agenthost-sdk/Cargo.toml")];
        let manifest: Table = text.parse().unwrap();
        let workspace = manifest["workspace"].as_table().unwrap();
        assert_eq!(workspace["package"]["version"].as_str(), Some(VERSION));
        let macros = &workspace["dependencies"]["agenthost-sdk-macros"];
        assert_eq!(macros["path"].as_str(), Some("macros"));
        assert!(files.contains_key(Path::new("vendor/agenthost-sdk/macros/Cargo.toml")));
        assert!(files.contains_key(Path::new("vendor/agenthost-sdk/LICENSE")));
        for name in ["serde", "wit-bindgen", "wit-bindgen-core", "anyhow"] {
            assert!(workspace["dependencies"].get(name).is_some(), "{name}");
        }
        assert!(
            workspace["dependencies"].get("tokio").is_none(),
            "only what the SDK needs"
        );
    }

    #[test]
    fn in_the_repository_the_sdk_is_a_path() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let of = |dir: &str| Sdk::of(&root.join(dir));
        assert_eq!(of("x"), Sdk::Path("../sdk".into()));
        assert_eq!(of("plugins/x"), Sdk::Path("../../sdk".into()));
        let outside = tempfile::tempdir().unwrap();
        assert_eq!(Sdk::of(&outside.path().join("x")), Sdk::Vendored);

        let both = "a = { path = \"vendor/agenthost-sdk\" }\nb = { path = \"../vendor/agenthost-sdk\" }";
        assert_eq!(
            of("x").depend(both),
            "a = { path = \"../sdk\" }\nb = { path = \"../../sdk\" }"
        );
        assert_eq!(
            Sdk::Registry.depend(both),
            format!("a = \"={VERSION}\"\nb = \"={VERSION}\"")
        );
        assert_eq!(Sdk::Vendored.depend(both), both);
    }
}
