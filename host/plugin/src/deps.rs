//! Copies the WIT of a plugin's sub-agents into its `wit/deps`, so that plain `cargo build` finds it.
//!
//! If a sub-agent is declared by the path of a crate, the files of its `wit/` directory are copied or, if its interface
//! is written in Rust, the text embedded in its component. If it is declared by a `.wasm` file, the text embedded in it
//! is copied. Files are written only if they differ, and only below `wit/deps`; nothing is removed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{bytes, embedded};
use crate::build::BuildError;

/// Copies the WIT of every sub-agent that is declared with a path. Returns a note for each that was new or changed.
/// `build` builds the component of a crate.
pub(super) fn copy(
    dir: &Path,
    sub_agents: &BTreeMap<String, Value>,
    build: impl Fn(&Path) -> Result<PathBuf, BuildError>,
) -> Result<Vec<String>, BuildError> {
    let mut notes = Vec::new();
    for (name, declared) in sub_agents {
        let path = declared.get("path").unwrap_or(declared).as_str();
        // A reference has no files here; the build will report a missing interface.
        let Some(path) = path.filter(|path| !path.contains('@')) else {
            continue;
        };
        let source = dir.join(path);
        let short = name.split_once(':').map_or(name.as_str(), |(_, short)| short);
        let wit = source.join("wit");
        let files = match source.is_dir() {
            true if source.join("Cargo.toml").is_file() && !has_text(&wit) => {
                build(&source).and_then(|component| of_component(&component, short))
            }
            true => of_crate(&wit, short),
            false => of_component(&source, short),
        };
        let files = files.map_err(|source| BuildError::SubAgent {
            name: name.clone(),
            source: Box::new(source),
        })?;
        let mut changed = false;
        for (file, text) in files {
            changed |= write(&dir.join("wit").join("deps").join(file), &text)?;
        }
        if changed {
            notes.push(format!("copied the WIT of {name} into wit/deps"));
        }
    }
    Ok(notes)
}

/// The files of a crate's `wit/`: its own package under `short`, its dependencies under their names there.
fn of_crate(wit: &Path, short: &str) -> Result<Vec<(PathBuf, String)>, BuildError> {
    let mut files = Vec::new();
    for (name, text) in texts(wit)? {
        files.push((Path::new(short).join(name), text));
    }
    let deps = wit.join("deps");
    for entry in fs::read_dir(&deps).into_iter().flatten().flatten() {
        let package = entry.file_name();
        if entry.path().is_dir() {
            for (name, text) in texts(&entry.path())? {
                files.push((Path::new(&package).join(name), text));
            }
        }
    }
    if files.is_empty() {
        return Err(BuildError::NoWit { dir: wit.to_owned() });
    }
    Ok(files)
}

/// Returns whether the directory contains the text of a package.
fn has_text(wit: &Path) -> bool {
    texts(wit).is_ok_and(|texts| !texts.is_empty())
}

fn texts(dir: &Path) -> Result<Vec<(String, String)>, BuildError> {
    let unreadable = |path: &Path, source| BuildError::ReadSubAgent {
        path: path.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| unreadable(dir, error))? {
        let path = entry.map_err(|error| unreadable(dir, error))?.path();
        if let Some(name) = path
            .file_name()
            .and_then(|name| name.to_str())
            .filter(|name| name.ends_with(".wit"))
        {
            found.push((
                name.to_owned(),
                fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?,
            ));
        }
    }
    found.sort();
    Ok(found)
}

/// The files embedded in a component. Their names are untrusted and therefore checked.
fn of_component(file: &Path, short: &str) -> Result<Vec<(PathBuf, String)>, BuildError> {
    let found = embedded::read(&bytes::read(file)?);
    let Some(text) = found.wit().first() else {
        return Err(BuildError::NoEmbeddedWit {
            file: file.to_owned(),
            short: short.to_owned(),
        });
    };
    let plain = |name: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !name.is_empty() && !name.starts_with('.') && name.chars().all(allowed)
    };
    let own = text.files.iter().map(|(name, text)| (vec![short, name.as_str()], text));
    let deps = text
        .deps
        .iter()
        .map(|(name, text)| (name.split('/').skip(1).collect::<Vec<_>>(), text));
    own.chain(deps)
        .map(|(parts, text)| match parts.iter().all(|part| plain(part)) {
            true => Ok((parts.iter().collect(), text.clone())),
            false => Err(BuildError::EmbeddedName {
                file: file.to_owned(),
                name: parts.into_iter().map(str::to_owned).collect(),
            }),
        })
        .collect()
}

/// Writes a file if it differs. Returns true if it did.
fn write(path: &Path, text: &str) -> Result<bool, BuildError> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(false);
    }
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(path, text))
        .map_err(|source| BuildError::WriteSubAgent {
            path: path.to_owned(),
            source,
        })?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PluginFileError;
    use agenthost_core::error::{Classify as _, with_causes};
    use serde_json::json;

    fn put(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn the_wit_of_a_crate_and_of_its_dependencies_is_copied_once() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        put(at("sub/wit/world.wit"), "package demo:sub@0.1.0;");
        put(at("sub/wit/deps/below/world.wit"), "package demo:below@0.1.0;");
        fs::create_dir_all(at("top/wit")).unwrap();
        let declared = BTreeMap::from([
            ("demo:sub".to_owned(), json!({"path": "../sub"})),
            ("demo:far".to_owned(), json!("demo:far@1.0.0")),
        ]);
        let notes = copy(&at("top"), &declared, |_| unreachable!()).unwrap();
        assert_eq!(notes, ["copied the WIT of demo:sub into wit/deps"]);
        assert_eq!(
            fs::read_to_string(at("top/wit/deps/sub/world.wit")).unwrap(),
            "package demo:sub@0.1.0;"
        );
        assert!(at("top/wit/deps/below/world.wit").is_file());
        assert!(copy(&at("top"), &declared, |_| unreachable!()).unwrap().is_empty());
        put(at("sub/wit/world.wit"), "package demo:sub@0.1.1;");
        assert_eq!(copy(&at("top"), &declared, |_| unreachable!()).unwrap().len(), 1);
    }

    #[test]
    fn a_crate_without_wit_files_is_built_for_the_text_in_its_component() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("top")).unwrap();
        put(at("sub/Cargo.toml"), "");
        // The directory contains a dependency, but no text of its own.
        put(at("sub/wit/deps/below/world.wit"), "package demo:below@0.1.0;");
        let text = json!({
            "format": 1,
            "files": [["world.wit", "package demo:sub@0.1.0;"]],
            "deps": [["deps/below/world.wit", "package demo:below@0.1.0;"]],
        });
        let mut component = wasm_encoder::Component::new();
        component.section(&wasm_encoder::CustomSection {
            name: "agenthost:wit:demo:sub".into(),
            data: text.to_string().into_bytes().into(),
        });
        fs::write(at("sub.wasm"), component.finish()).unwrap();
        let declared = BTreeMap::from([("demo:sub".to_owned(), json!({"path": "../sub"}))]);
        let build = |dir: &Path| {
            assert!(dir.ends_with("../sub"));
            Ok(at("sub.wasm"))
        };
        let notes = copy(&at("top"), &declared, build).unwrap();
        assert_eq!(notes, ["copied the WIT of demo:sub into wit/deps"]);
        for (file, text) in [
            ("sub", "package demo:sub@0.1.0;"),
            ("below", "package demo:below@0.1.0;"),
        ] {
            let path = at(&format!("top/wit/deps/{file}/world.wit"));
            assert_eq!(fs::read_to_string(path).unwrap(), text);
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let declared = BTreeMap::from([("demo:sub".to_owned(), json!("nowhere"))]);
        let error = copy(dir.path(), &declared, |_| unreachable!()).unwrap_err();
        assert!(with_causes(&error).starts_with("sub-agent demo:sub: "), "{error}");
        assert!(error.hint().is_some());
        let BuildError::SubAgent { name, source } = error else {
            panic!("{error:?}");
        };
        assert_eq!(name, "demo:sub");
        assert!(
            matches!(*source, BuildError::File(PluginFileError::Read { .. })),
            "{source:?}"
        );
    }
}
