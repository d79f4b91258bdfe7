//! The crate to build, as cargo describes it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::BuildError;
use super::cargo::run;
use super::tools::Tools;
use crate::manifest::Manifest;
use agenthost_core::nearest::nearest;

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
    check_table(dir, own)?;
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
            server_tools: own.and_then(|own| own.get(SERVER_TOOLS)).cloned().unwrap_or_default(),
            sub_agents: table("sub-agents").into_iter().collect(),
        },
    })
}

/// The keys of `[package.metadata.agenthost]` with tables, the one with a list, and the one with either.
const TABLES: &[&str] = &["keep-back", "limits", "sub-agents"];
const MODELS: &str = "models";
const SERVER_TOOLS: &str = "server-tools";

/// Checks the keys of `[package.metadata.agenthost]` and the kinds of their values. The macro of the SDK does so, too,
/// but not every plugin uses it.
fn check_table(dir: &Path, own: Option<&Value>) -> Result<(), BuildError> {
    let wrong = |problem| BuildError::ManifestTable {
        dir: dir.to_owned(),
        problem,
        advice: "It has the keys `keep-back`, `limits`, `models`, `server-tools` and `sub-agents`.",
    };
    let own = match own {
        None => return Ok(()),
        Some(own) => own.as_object().ok_or_else(|| wrong("it is not a table".to_owned()))?,
    };
    for (key, value) in own {
        let key = key.as_str();
        if TABLES.contains(&key) && !value.is_object() {
            return Err(wrong(format!("`{key}` is not a table")));
        }
        if !TABLES.contains(&key) && ![MODELS, SERVER_TOOLS].contains(&key) {
            let near = nearest(key, TABLES.iter().copied().chain([MODELS, SERVER_TOOLS]));
            let near = near.map_or_else(String::new, |near| format!("; the nearest is `{near}`"));
            return Err(wrong(format!("unknown key `{key}`{near}")));
        }
    }
    Ok(())
}

/// Reads `models = ["fast"]` under `[package.metadata.agenthost]`.
fn models(dir: &Path, own: Option<&Value>) -> Result<Option<BTreeSet<String>>, BuildError> {
    let Some(models) = own.and_then(|own| own.get(MODELS)) else {
        return Ok(None);
    };
    let wrong = |problem| BuildError::ManifestTable {
        dir: dir.to_owned(),
        problem,
        advice: "Write the names that the plugin asks for, of a-z, 0-9 and -, such as models = [\"fast\"].",
    };
    let names: BTreeSet<String> = serde_json::from_value(models.clone())
        .map_err(|_| wrong("`models` is not a list of model names".to_owned()))?;
    match names.iter().find(|name| !is_model_name(name)) {
        Some(name) => Err(wrong(format!("`models`: `{name}` is not a model name"))),
        None => Ok(Some(names)),
    }
}

/// Returns whether a configuration can have the model name.
fn is_model_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=64).contains(&name.len()) && name.chars().all(allowed)
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn models_are_names_that_a_configuration_can_have() {
        let read = |value: Value| models(Path::new("x"), Some(&json!({"models": value})));
        let names = read(json!(["fast", "big-2"])).unwrap().unwrap();
        assert_eq!(names.len(), 2);
        assert!(read(json!([])).unwrap().unwrap().is_empty());
        assert!(models(Path::new("x"), None).unwrap().is_none());
        for (wrong, problem) in [
            (json!("fast"), "`models` is not a list of model names"),
            (json!(["fast", "Fast!"]), "`models`: `Fast!` is not a model name"),
            (json!([""]), "`models`: `` is not a model name"),
        ] {
            let error = read(wrong).unwrap_err().to_string();
            assert_eq!(error, format!("x/Cargo.toml: [package.metadata.agenthost]: {problem}"));
        }
    }
    #[test]
    fn keys_of_the_table_are_known() {
        let check = |own: Value| check_table(Path::new("x"), Some(&own)).map_err(|error| error.to_string());
        assert_eq!(
            check(json!({"limits": {}, "keep-back": {}, "models": [], "server-tools": [], "sub-agents": {}})),
            Ok(())
        );
        assert!(check_table(Path::new("x"), None).is_ok());
        for (wrong, problem) in [
            (json!(3), "it is not a table"),
            (json!({"limits": 3}), "`limits` is not a table"),
            (json!({"limit": {}}), "unknown key `limit`; the nearest is `limits`"),
            (
                json!({"server-tool": {}}),
                "unknown key `server-tool`; the nearest is `server-tools`",
            ),
            (json!({"colour": {}}), "unknown key `colour`"),
        ] {
            let expected = format!("x/Cargo.toml: [package.metadata.agenthost]: {problem}");
            assert_eq!(check(wrong), Err(expected));
        }
    }
}
