//! The SDK as it was when this program was built, and how a project depends on it.
//!
//! A project carries the SDK's sources with it, so that it is built against the same contract everywhere and downloads
//! nothing of this project. cargo downloads the SDK's third-party crates.

use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use agenthost::error::{Error, Result};

/// The SDK's directory in a project.
pub(super) const DIR: &str = "vendor/agenthost-sdk";
/// The version of the SDK that belongs to this program.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The files, by their paths in the repository; empty if this crate is built from its package alone.
static FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

/// The source of a project's SDK.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sdk {
    /// A copy within the project.
    Vendored,
    /// The SDK of the repository or of the workspace that contains the project; relative to the project.
    Path(PathBuf),
    /// A registry: the sources were not there when this program was built.
    Registry,
}

impl Sdk {
    /// Returns the source for a project at `dir`, an absolute path. `claimant` is the cargo workspace that counts it among
    /// its members.
    pub(super) fn of(dir: &Path, claimant: Option<&Path>) -> Self {
        let mut up = PathBuf::new();
        for above in dir.ancestors().skip(1) {
            up.push("..");
            if is_repository(above) {
                return Self::Path(up.join("sdk"));
            }
            if claimant == Some(above) && has_copy(above) {
                return Self::Path(up.join(DIR));
            }
        }
        if FILES.is_empty() {
            Self::Registry
        } else {
            Self::Vendored
        }
    }

    /// Returns `manifest`, which is written for a copy of the SDK, with this source of the SDK.
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

/// Returns whether `dir` is the repository of this program, at the same version.
fn is_repository(dir: &Path) -> bool {
    let name = value(&dir.join("sdk/Cargo.toml"), &["package", "name"]);
    let version = value(&dir.join("Cargo.toml"), &["workspace", "package", "version"]);
    name.as_deref() == Some("agenthost-sdk") && version.as_deref() == Some(VERSION)
}

/// Returns whether the workspace in `dir` has a copy of the SDK at the same version.
fn has_copy(dir: &Path) -> bool {
    let manifest = dir.join(DIR).join("Cargo.toml");
    let [name, version] = ["name", "version"].map(|key| value(&manifest, &["package", key]));
    name.as_deref() == Some("agenthost-sdk") && version.as_deref() == Some(VERSION)
}

/// Returns a text in a manifest; `None` if the file cannot be read, or has no such text.
fn value(manifest: &Path, path: &[&str]) -> Option<String> {
    let table = fs::read_to_string(manifest).ok()?.parse::<Table>().ok()?;
    let (first, rest) = path.split_first()?;
    let found = rest.iter().try_fold(table.get(*first)?, |value, key| value.get(key))?;
    found.as_str().map(str::to_owned)
}

/// Returns the files of the copy, by their paths in the project's directory.
pub(super) fn vendored() -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for (name, text) in FILES {
        let place = match *name {
            "Cargo.toml" => continue,
            // The copy includes the format settings, so that formatting a project leaves it unchanged.
            name => name.strip_prefix("sdk/").unwrap_or(name),
        };
        let text = match place.ends_with("Cargo.toml") {
            true => standalone(name)?,
            false => (*text).to_owned(),
        };
        files.push((Path::new(DIR).join(place), text));
    }
    Ok(files)
}

/// Returns a manifest of the SDK with everything that it inherits written out, so that the copy fits into any
/// workspace, or none.
fn standalone(name: &str) -> Result<String> {
    let (mut manifest, root) = (manifest(name)?, manifest("Cargo.toml")?);
    let of_root = |key: &str| root.get("workspace").and_then(|shared| shared.get(key)).cloned();
    let of_root = |key: &str| of_root(key).unwrap_or(Value::Table(Table::new()));
    let inherits = |value: &Value| value.get("workspace").and_then(Value::as_bool) == Some(true);

    let (package, dependencies) = (of_root("package"), of_root("dependencies"));
    for (key, shared) in [("package", &package), ("dependencies", &dependencies)] {
        let own = manifest.get_mut(key).and_then(Value::as_table_mut);
        for (name, value) in own.into_iter().flatten().filter(|(_, value)| inherits(value)) {
            let Some(shared) = shared.get(name).cloned() else {
                return Err(Error::host(format!("the SDK inherits {name}, which is nowhere")));
            };
            *value = match key {
                "dependencies" => joined(shared, value),
                _ => shared,
            };
        }
    }
    if manifest.get("lints").is_some_and(inherits) {
        manifest.insert("lints".to_owned(), of_root("lints"));
    }
    // If the copy is a member of a workspace, that workspace does not run its tests, some of whose files are not in the
    // copy.
    let lib = manifest.entry("lib").or_insert(Value::Table(Table::new()));
    if let Value::Table(lib) = lib {
        lib.insert("test".to_owned(), Value::Boolean(false));
        lib.insert("doctest".to_owned(), Value::Boolean(false));
    }
    let text = toml::to_string(&manifest).map_err(|error| Error::host(format!("the SDK's {name}: {error}")))?;
    Ok(format!(
        "# A copy, made by `agenthost new`. To change to another version, replace the directory.\n\n{text}"
    ))
}

/// Merges a shared dependency with the additions in `own`.
fn joined(shared: Value, own: &Value) -> Value {
    let mut joined = match shared {
        Value::Table(table) => table,
        version => Table::from_iter([("version".to_owned(), version)]),
    };
    if let Some(Value::String(path)) = joined.get_mut("path") {
        // The path is relative to the repository's root; in the copy, the root is the SDK's own directory.
        *path = path.trim_start_matches("sdk/").to_owned();
    }
    let more = own
        .get("features")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    if let Value::Array(features) = joined.entry("features").or_insert(Value::Array(Vec::new())) {
        features.extend(more);
    }
    Value::Table(joined)
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
        let root = &Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .canonicalize()
            .unwrap();
        let mut tree = ["Cargo.toml", "LICENSE", "rustfmt.toml"]
            .map(|name| root.join(name))
            .to_vec();
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
    fn the_copy_needs_nothing_around_it() {
        let files: BTreeMap<PathBuf, String> = vendored().unwrap().into_iter().collect();
        let file = |name: &str| &files[&Path::new(DIR).join(name)];
        let sdk: Table = file("Cargo.toml").parse().unwrap();
        assert_eq!(sdk["package"]["version"].as_str(), Some(VERSION));
        let dependencies = &sdk["dependencies"];
        assert_eq!(dependencies["agenthost-sdk-macros"]["path"].as_str(), Some("macros"));
        let bindgen = &dependencies["wit-bindgen"];
        assert_eq!(bindgen["default-features"].as_bool(), Some(false));
        assert_eq!(bindgen["features"].as_array().unwrap().len(), 2);
        for name in ["Cargo.toml", "macros/Cargo.toml"] {
            let text = file(name);
            assert!(!text.contains("workspace"), "{text}");
            assert!(
                text.contains("[lints.rust]") && text.contains("doctest = false"),
                "{text}"
            );
        }
        assert!(file("macros/Cargo.toml").contains("proc-macro = true"));
        for name in ["LICENSE", "src/lib.rs", "macros/plugin.wit", "macros/src/lib.rs"] {
            assert!(!file(name).is_empty());
        }
        assert_eq!(files.len(), FILES.len() - 1, "all but the workspace's manifest");
    }

    #[test]
    fn in_the_repository_the_sdk_is_a_path() {
        let root = &Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .canonicalize()
            .unwrap();
        let of = |dir: &str| Sdk::of(&root.join(dir), None);
        assert_eq!(of("x"), Sdk::Path("../sdk".into()));
        assert_eq!(of("plugins/x"), Sdk::Path("../../sdk".into()));
        let outside = tempfile::tempdir().unwrap();
        assert_eq!(Sdk::of(&outside.path().join("x"), None), Sdk::Vendored);

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
