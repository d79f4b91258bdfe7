//! The crate to build, as cargo describes it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::BuildError;
use super::cargo::run;
use super::tools::Tools;
use crate::manifest::Manifest;

/// The maximum number of workspace members in the hint.
const MEMBERS: usize = 5;

/// The crate's metadata from cargo.
pub(super) struct Package {
    pub(super) id: String,
    pub(super) name: String,
    /// The root of the workspace, or the crate's own directory if it is not in a workspace.
    pub(super) root: PathBuf,
    pub(super) target_dir: PathBuf,
    pub(super) manifest: Manifest,
}

/// Reads the metadata of the crate in `dir`. If `target` is given, it replaces the crate's own target directory.
pub(super) fn package(tools: &Tools, dir: &Path, target: Option<&Path>) -> Result<Package, BuildError> {
    let output = run(tools
        .cargo(dir, target)
        .args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let wrong = |why: &str| BuildError::Metadata {
        dir: dir.to_owned(),
        output: why.trim_end().to_owned(),
    };
    if !output.status.success() {
        return Err(wrong(&String::from_utf8_lossy(&output.stderr)));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).map_err(|error| wrong(&error.to_string()))?;
    let manifest_path = dir
        .join("Cargo.toml")
        .canonicalize()
        .map_err(|error| wrong(&error.to_string()))?;
    let packages = metadata.get("packages").and_then(Value::as_array);
    let found = packages.into_iter().flatten().find(|package| {
        let path = package.get("manifest_path").and_then(Value::as_str).map(Path::new);
        path.and_then(|path| path.canonicalize().ok()).as_deref() == Some(&manifest_path)
    });
    let Some(found) = found else {
        return Err(workspace(dir, &metadata));
    };
    let text = |name: &str| found.get(name).and_then(Value::as_str).map(str::to_owned);
    let own = found.pointer("/metadata/agenthost");
    let table = |name: &str| {
        own.and_then(|own| own.get(name))
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    };
    let place = |name: &str| metadata.get(name).and_then(Value::as_str).map(PathBuf::from);
    Ok(Package {
        id: text("id").unwrap_or_default(),
        name: text("name").unwrap_or_default(),
        root: place("workspace_root").unwrap_or_else(|| dir.to_owned()),
        target_dir: place("target_directory").unwrap_or_else(|| dir.join("target")),
        manifest: Manifest {
            format: Manifest::FORMAT,
            name: text("name"),
            version: text("version"),
            description: text("description"),
            license: text("license"),
            repository: text("repository"),
            limits: table("limits"),
            keep_back: table("keep-back"),
            models: models(dir, own)?,
            sub_agents: table("sub-agents").into_iter().collect(),
        },
    })
}

/// Reads `models = ["fast"]` under `[package.metadata.agenthost]`.
fn models(dir: &Path, own: Option<&Value>) -> Result<Option<BTreeSet<String>>, BuildError> {
    let Some(models) = own.and_then(|own| own.get("models")) else {
        return Ok(None);
    };
    serde_json::from_value(models.clone())
        .map(Some)
        .map_err(|_| BuildError::Models {
            manifest: dir.join("Cargo.toml"),
        })
}

/// Creates the error for the directory of a workspace, whose plugins are in subdirectories.
fn workspace(dir: &Path, metadata: &Value) -> BuildError {
    let root = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let packages = metadata.get("packages").and_then(Value::as_array);
    let members = packages.into_iter().flatten().filter_map(|package| {
        let path = Path::new(package.get("manifest_path")?.as_str()?).parent()?;
        Some(path.strip_prefix(&root).unwrap_or(path).display().to_string())
    });
    BuildError::Workspace {
        dir: dir.to_owned(),
        members: members.take(MEMBERS).collect(),
    }
}
