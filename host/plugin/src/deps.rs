//! Copies the WIT of a plugin's sub-agents into its `wit/deps`, so that plain `cargo build` finds it.
//!
//! If a sub-agent is declared by the path of a crate, the files of its `wit/` directory are copied or, if its interface
//! is written in Rust, the text embedded in its component. If it is declared by a `.wasm` file, the text embedded in it
//! is copied. Files are written only if they differ, only below `wit/deps`, and only if all sub-agents are in order.
//!
//! A record in the target directory lists the copies. The copies of a sub-agent that is no longer declared are removed
//! if they are as they were written, and if the crate does not name the sub-agent.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::manifest::{Manifest, SubAgentPlace};
use super::{bytes, embedded};
use crate::build::BuildError;

/// The text of a sub-agent's interface: the files below `wit/deps`.
type Files = Vec<(PathBuf, String)>;

/// What [`copy`] needs of a build.
pub(super) trait SubAgentBuild {
    /// Checks the WIT text of the crate in a directory.
    fn check(&self, dir: &Path) -> Result<(), BuildError>;
    /// Builds the component of the crate in a directory.
    fn component(&self, dir: &Path) -> Result<PathBuf, BuildError>;
}

/// Copies the WIT of every sub-agent that is declared with a path, and removes copies that are not needed. Returns a
/// note for each sub-agent that was new, changed or removed. `record` is the file that lists the copies.
pub(super) fn copy(
    dir: &Path,
    manifest: &Manifest,
    record: &Path,
    build: &impl SubAgentBuild,
) -> Result<Vec<String>, BuildError> {
    let mut found = BTreeMap::new();
    for name in manifest.sub_agents.keys() {
        let declared = manifest.sub_agent(name).map_err(|problem| BuildError::SubAgentEntry {
            dir: dir.to_owned(),
            name: name.clone(),
            problem,
        })?;
        // A reference has no files here; the build will report a missing interface.
        let Some(SubAgentPlace::Path(path)) = declared.and_then(|declared| declared.place) else {
            continue;
        };
        let files = files(name, &dir.join(&path), build).map_err(|source| BuildError::SubAgent {
            name: name.clone(),
            source: Box::new(source),
        })?;
        let own = files.iter().find_map(|(_, text)| embedded::declared_package(text));
        let own = own.map(|package| package.split('@').next().unwrap_or(package));
        if let Some(found) = own.filter(|own| own != name) {
            return Err(BuildError::OtherSubAgent {
                dir: dir.to_owned(),
                name: name.clone(),
                path,
                found: found.to_owned(),
            });
        }
        found.insert(name.as_str(), files);
    }
    let deps = dir.join("wit").join("deps");
    let mut notes = Vec::new();
    for (name, files) in &found {
        let mut changed = false;
        for (file, text) in files {
            changed |= write(&deps.join(file), text)?;
        }
        if changed {
            notes.push(format!("copied the WIT of {name} into wit/deps"));
        }
    }
    notes.extend(tidy(dir, manifest, record, &found));
    Ok(notes)
}

/// Reads the interface of the sub-agent at `source`, its own package first.
fn files(name: &str, source: &Path, build: &impl SubAgentBuild) -> Result<Files, BuildError> {
    let short = name.split_once(':').map_or(name, |(_, short)| short);
    let wit = source.join("wit");
    match source.is_dir() {
        true if source.join("Cargo.toml").is_file() && !has_text(&wit) => {
            of_component(&build.component(source)?, short)
        }
        true => {
            // The copy has the same errors, at a place that nobody edits.
            build.check(source)?;
            of_crate(&wit, short)
        }
        false => of_component(source, short),
    }
}

/// The copies of a crate.
#[derive(Default, Deserialize, Serialize)]
struct Copies {
    /// The crate's directory: crates of one name can share a target directory.
    dir: PathBuf,
    /// By sub-agent: the files below `wit/deps`, and the digests of their texts.
    copied: BTreeMap<String, BTreeMap<PathBuf, Digest>>,
}

/// Removes the copies of sub-agents that are no longer declared, and records the present ones. The record only helps
/// to clean up, so an unreadable one is as good as none.
fn tidy(dir: &Path, manifest: &Manifest, record: &Path, found: &BTreeMap<&str, Files>) -> Vec<String> {
    let home = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let old = fs::read(record)
        .ok()
        .and_then(|text| serde_json::from_slice::<Copies>(&text).ok());
    let old = old.filter(|old| old.dir == home).unwrap_or_default();
    let mut copies = Copies {
        dir: home,
        copied: found
            .iter()
            .map(|(name, files)| {
                let digests = files
                    .iter()
                    .map(|(file, text)| (file.clone(), Digest::of(text.as_bytes())));
                ((*name).to_owned(), digests.collect())
            })
            .collect(),
    };
    let used: BTreeSet<&PathBuf> = found.values().flatten().map(|(file, _)| file).collect();
    let mut notes = Vec::new();
    for (name, files) in old.copied {
        if found.contains_key(name.as_str()) {
            continue;
        }
        // Its place is now elsewhere, or it is found without a declaration: the crate still needs the text.
        if manifest.sub_agents.contains_key(&name) || names(dir, &name) {
            if !manifest.sub_agents.contains_key(&name) {
                notes.push(format!(
                    "Cargo.toml no longer declares the sub-agent {name}; its WIT in wit/deps stays as it is, because the crate \
                     names it"
                ));
            }
            copies.copied.insert(name, files);
            continue;
        }
        let deps = dir.join("wit").join("deps");
        let mut removed = false;
        for (file, digest) in files.iter().filter(|(file, _)| !used.contains(file)) {
            removed |= remove(&deps, file, *digest);
        }
        if removed {
            notes.push(format!("removed the copied WIT of {name} from wit/deps"));
        }
    }
    let unchanged = fs::read(record).ok();
    if let Ok(text) = serde_json::to_vec_pretty(&copies)
        && unchanged.as_ref() != Some(&text)
        && (unchanged.is_some() || !copies.copied.is_empty())
    {
        let parent = record.parent().map_or(Ok(()), fs::create_dir_all);
        let _ = parent.and_then(|()| fs::write(record, text));
    }
    notes
}

/// Removes a copy that is as it was written, and its directory if that is empty then. Returns true if it did.
fn remove(deps: &Path, file: &Path, digest: Digest) -> bool {
    let is_plain = file.components().all(|part| matches!(part, Component::Normal(_)));
    let path = deps.join(file);
    let is_copy = || fs::read(&path).is_ok_and(|text| Digest::of(&text) == digest);
    if !is_plain || !is_copy() || fs::remove_file(&path).is_err() {
        return false;
    }
    if let Some(parent) = path.parent().filter(|parent| *parent != deps) {
        // It fails if a file is left.
        let _ = fs::remove_dir(parent);
    }
    true
}

/// Returns whether the crate's own WIT or code contains the name of the plugin.
fn names(dir: &Path, name: &str) -> bool {
    let mut pending = vec![dir.join("src")];
    let mut texts = texts(&dir.join("wit")).unwrap_or_default();
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            // A link could lead back here.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                texts.extend(fs::read_to_string(path).map(|text| (String::new(), text)));
            }
        }
    }
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-');
    texts.iter().any(|(_, text)| {
        text.match_indices(name)
            .any(|(at, _)| text.get(at + name.len()..).is_some_and(ends))
    })
}

/// The files of a crate's `wit/`: its own package under `short`, its dependencies under their names there.
fn of_crate(wit: &Path, short: &str) -> Result<Files, BuildError> {
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
fn of_component(file: &Path, short: &str) -> Result<Files, BuildError> {
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
    use serde_json::{Value, json};

    fn put(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Answers with one component, and accepts all WIT but that with the word `wrong`.
    #[derive(Default)]
    struct Fake {
        component: Option<PathBuf>,
    }

    impl SubAgentBuild for Fake {
        fn check(&self, dir: &Path) -> Result<(), BuildError> {
            match texts(&dir.join("wit"))?.iter().any(|(_, text)| text.contains("wrong")) {
                true => Err(BuildError::NoWit { dir: dir.to_owned() }),
                false => Ok(()),
            }
        }

        fn component(&self, dir: &Path) -> Result<PathBuf, BuildError> {
            assert!(dir.ends_with("../sub"));
            Ok(self.component.clone().unwrap())
        }
    }

    /// A crate `top` in an empty directory.
    struct Project {
        dir: tempfile::TempDir,
        build: Fake,
    }

    impl Project {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("top")).unwrap();
            Self {
                dir,
                build: Fake::default(),
            }
        }

        fn at(&self, path: &str) -> PathBuf {
            self.dir.path().join(path)
        }

        fn copy(&self, sub_agents: &[(&str, Value)]) -> Result<Vec<String>, BuildError> {
            let entries = sub_agents
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()));
            let manifest = Manifest {
                sub_agents: entries.collect(),
                ..Manifest::default()
            };
            copy(
                &self.at("top"),
                &manifest,
                &self.at("target/agenthost/top.copies.json"),
                &self.build,
            )
        }

        fn has(&self, path: &str) -> bool {
            self.at("top/wit/deps").join(path).exists()
        }
    }

    const SUB: &str = "package demo:sub@0.1.0;";
    const BELOW: &str = "package demo:below@0.1.0;";

    #[test]
    fn the_wit_of_a_crate_and_of_its_dependencies_is_copied_once() {
        let project = Project::new();
        put(project.at("sub/wit/world.wit"), SUB);
        put(project.at("sub/wit/deps/below/world.wit"), BELOW);
        let declared = [
            ("demo:sub", json!({"path": "../sub"})),
            ("demo:far", json!("demo:far@1.0.0")),
        ];
        let notes = project.copy(&declared).unwrap();
        assert_eq!(notes, ["copied the WIT of demo:sub into wit/deps"]);
        assert_eq!(
            fs::read_to_string(project.at("top/wit/deps/sub/world.wit")).unwrap(),
            SUB
        );
        assert!(project.has("below/world.wit"));
        assert!(project.copy(&declared).unwrap().is_empty());
        put(project.at("sub/wit/world.wit"), "package demo:sub@0.1.1;");
        assert_eq!(project.copy(&declared).unwrap().len(), 1);
    }

    #[test]
    fn a_crate_without_wit_files_is_built_for_the_text_in_its_component() {
        let mut project = Project::new();
        put(project.at("sub/Cargo.toml"), "");
        // The directory contains a dependency, but no text of its own.
        put(project.at("sub/wit/deps/below/world.wit"), BELOW);
        let text = json!({
            "format": 1,
            "files": [["world.wit", SUB]],
            "deps": [["deps/below/world.wit", BELOW]],
        });
        let mut component = wasm_encoder::Component::new();
        component.section(&wasm_encoder::CustomSection {
            name: "agenthost:wit:demo:sub".into(),
            data: text.to_string().into_bytes().into(),
        });
        fs::write(project.at("sub.wasm"), component.finish()).unwrap();
        project.build.component = Some(project.at("sub.wasm"));
        let notes = project.copy(&[("demo:sub", json!({"path": "../sub"}))]).unwrap();
        assert_eq!(notes, ["copied the WIT of demo:sub into wit/deps"]);
        for (file, text) in [("sub", SUB), ("below", BELOW)] {
            let path = project.at(&format!("top/wit/deps/{file}/world.wit"));
            assert_eq!(fs::read_to_string(path).unwrap(), text);
        }
    }

    #[test]
    fn a_wrong_name_is_refused_and_nothing_is_written() {
        let project = Project::new();
        put(project.at("ok/wit/world.wit"), "package demo:ok@0.1.0;");
        put(project.at("sub/wit/world.wit"), SUB);
        let sub = json!({"path": "../sub"});
        let error = project
            .copy(&[("demo:ok", json!("../ok")), ("demo:other", sub.clone())])
            .unwrap_err();
        let text = with_causes(&error);
        assert!(
            text.ends_with("top/Cargo.toml: [package.metadata.agenthost.sub-agents]: `demo:other` is at ../sub, which is `demo:sub`"),
            "{text}"
        );
        assert!(!project.at("top/wit").exists());
        let notes = project.copy(&[("demo:sub", sub)]).unwrap();
        assert_eq!(notes, ["copied the WIT of demo:sub into wit/deps"]);
    }

    #[test]
    fn an_error_in_the_wit_of_a_sub_agent_is_reported_at_its_place() {
        let project = Project::new();
        put(project.at("sub/wit/world.wit"), "package demo:sub@0.1.0; wrong");
        let error = project.copy(&[("demo:sub", json!("../sub"))]).unwrap_err();
        assert!(with_causes(&error).contains("../sub"), "{error}");
        assert!(!project.at("top/wit").exists());
    }

    #[test]
    fn an_invalid_entry_is_refused() {
        let project = Project::new();
        let error = project.copy(&[("demo:sub", json!({"paht": "../sub"}))]).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("`demo:sub`: unknown key `paht`; it has `path` and `limits`; the nearest is `path`"),
            "{error}"
        );
        assert!(error.hint().is_some());
    }

    #[test]
    fn copies_are_removed_with_the_declaration() {
        let project = Project::new();
        put(project.at("sub/wit/world.wit"), SUB);
        put(project.at("sub/wit/deps/below/world.wit"), BELOW);
        put(project.at("other/wit/world.wit"), "package demo:other@0.1.0;");
        put(project.at("other/wit/deps/below/world.wit"), BELOW);
        put(project.at("top/wit/deps/mine/world.wit"), "package demo:mine@0.1.0;");
        let (sub, other) = (("demo:sub", json!("../sub")), ("demo:other", json!("../other")));
        project.copy(&[sub, other.clone()]).unwrap();
        let notes = project.copy(std::slice::from_ref(&other)).unwrap();
        assert_eq!(notes, ["removed the copied WIT of demo:sub from wit/deps"]);
        assert!(
            !project.has("sub") && project.has("below/world.wit"),
            "the other one needs it"
        );
        assert!(project.has("other/world.wit") && project.has("mine/world.wit"));
        project.copy(&[]).unwrap();
        assert!(!project.has("other") && !project.has("below") && project.has("mine/world.wit"));
    }

    #[test]
    fn what_a_person_wrote_or_still_uses_is_kept() {
        let sub = [("demo:sub", json!("../sub"))];
        let copied = || {
            let project = Project::new();
            put(project.at("sub/wit/world.wit"), SUB);
            project.copy(&sub).unwrap();
            project
        };
        let edited = copied();
        put(edited.at("top/wit/deps/sub/world.wit"), "package demo:sub@0.2.0;");
        assert!(edited.copy(&[]).unwrap().is_empty());
        assert!(edited.has("sub/world.wit"));

        let moved = copied();
        assert!(moved.copy(&[("demo:sub", json!("demo:sub@1.0.0"))]).unwrap().is_empty());
        assert!(moved.has("sub/world.wit"));
        assert_eq!(moved.copy(&[]).unwrap().len(), 1, "the record still has it");

        for (file, text, is_kept) in [
            ("wit/world.wit", "import demo:sub/task@0.1.0;", true),
            ("src/deep/lib.rs", "imports(\"demo:sub\")", true),
            ("src/lib.rs", "imports(\"demo:sub-other@0.1.0\")", false),
        ] {
            let named = copied();
            put(named.at("top").join(file), text);
            let notes = named.copy(&[]).unwrap();
            assert_eq!(named.has("sub/world.wit"), is_kept, "{file}: {notes:?}");
            assert_eq!(notes.len(), 1, "{notes:?}");
        }

        let elsewhere = copied();
        fs::rename(elsewhere.at("top"), elsewhere.at("moved")).unwrap();
        fs::create_dir(elsewhere.at("top")).unwrap();
        put(elsewhere.at("top/wit/deps/sub/world.wit"), SUB);
        let record = elsewhere.at("target/agenthost/top.copies.json");
        let text = fs::read_to_string(&record).unwrap();
        put(record, &text.replace("/top\"", "/another\""));
        assert!(elsewhere.copy(&[]).unwrap().is_empty(), "the record is another crate's");
        assert!(elsewhere.has("sub/world.wit"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Project::new().copy(&[("demo:sub", json!("nowhere"))]).unwrap_err();
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
