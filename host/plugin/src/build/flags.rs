//! The compiler flags that keep directories of this machine out of a component, so that the same source produces the
//! same bytes in any directory.
//!
//! Panic messages and debug information contain paths of source files. Paths in the crate and in crates below the
//! workspace's root are relative to that root. Paths in the registry, in git dependencies and in code that build
//! scripts generate are absolute, so they are remapped here. The author's own flags are kept: cargo joins lists in its
//! configuration files with our flags; where it would choose only one source of flags, that source's flags are passed
//! on together with ours.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value as Json;
use toml::Value;

use super::BuildError;
use super::cargo::{Said, run};
use super::compile_target::TARGET;
use super::package::Package;
use super::tools::Tools;

/// The directories that cargo uses.
pub(super) struct Places {
    root: PathBuf,
    target_dir: PathBuf,
}

impl Places {
    pub(super) fn of(package: &Package) -> Self {
        Self {
            root: package.root.clone(),
            target_dir: package.target_dir.clone(),
        }
    }

    /// Each directory with its replacement; if two match, the later one applies.
    fn renamed(&self, cargo_home: &Path, with_root: bool) -> Vec<(PathBuf, &'static str)> {
        let mut found = Vec::new();
        let mut add = |path: &Path, name| {
            for path in [path.to_owned(), real(path)] {
                if path.parent().is_some() && !found.contains(&(path.clone(), name)) {
                    found.push((path, name));
                }
            }
        };
        // Several workspaces may share a target directory, and a flag that differs between them rebuilds all
        // dependencies when switching from one to the other, so the root is remapped only if necessary.
        if with_root {
            add(&self.root, "/workspace");
        }
        add(&self.target_dir, "/target");
        add(cargo_home, "/cargo");
        found
    }
}

/// Returns the path without symbolic links. If the path does not exist yet, its existing part is resolved, so that the
/// flags of a first build are those of the next.
fn real(path: &Path) -> PathBuf {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(path), ..) => path,
        (Err(_), Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_owned(),
    }
}

/// Returns whether code is compiled with the full path of the workspace. That is the case for the crate and the crates
/// below it if there is debug information, and for registry crates if they are copied into the workspace.
fn names_root(root: &Path, configs: &[toml::Table]) -> bool {
    fn debug(value: &Value) -> bool {
        let table = value.as_table();
        table.is_some_and(|table| table.contains_key("debug") || table.values().any(debug))
    }
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).ok();
    let manifest: Option<toml::Table> = manifest.and_then(|text| text.parse().ok());
    let release = |table: &toml::Table| table.get("profile")?.get("release").map(debug);
    std::env::var_os("CARGO_PROFILE_RELEASE_DEBUG").is_some()
        || configs.iter().any(|config| config.contains_key("source"))
        || configs
            .iter()
            .chain(&manifest)
            .any(|table| release(table) == Some(true))
}

/// Makes `command`, which is a `cargo build --release` for [`TARGET`] in `dir`, produce bytes that do not depend on any
/// directory of this machine, like [`build`](super::build). Both then share compiled dependencies.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost_plugin::build;
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// # std::fs::create_dir(dir.join("src"))?;
/// # std::fs::write(dir.join("src/lib.rs"), "")?;
/// # std::fs::write(dir.join("Cargo.toml"), "[package]\nname = \"p\"\nversion = \"0.1.0\"\n[workspace]\n")?;
/// let mut cargo = std::process::Command::new("cargo");
/// cargo.args(["build", "--release", "--target", build::TARGET]);
/// build::reproducibly(&mut cargo, dir)?;
/// assert!(format!("{cargo:?}").contains("--remap-path-prefix"));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Returns a plugin error if cargo or rustc cannot be run, or `dir` contains no crate.
pub fn reproducibly(command: &mut Command, dir: &Path) -> Result<(), BuildError> {
    let tools = Tools::default();
    let mut metadata = tools.cargo(dir, None);
    metadata.args(["metadata", "--no-deps", "--format-version", "1"]);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => metadata.env(name, value),
            None => metadata.env_remove(name),
        };
    }
    let output = run(&mut metadata)?;
    let said: Json = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let place = |name: &str| said.get(name).and_then(Json::as_str).map(PathBuf::from);
    let (Some(root), Some(target_dir)) = (place("workspace_root"), place("target_directory")) else {
        return Err(BuildError::Metadata {
            dir: dir.to_owned(),
            output: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
        });
    };
    apply(&tools, command, dir, &Places { root, target_dir })
}

/// Adds the flags to a build in `dir`.
pub(super) fn apply(tools: &Tools, command: &mut Command, dir: &Path, places: &Places) -> Result<(), BuildError> {
    let mut ours = Vec::new();
    let mut rename = |path: &Path, name: &str| {
        // Cargo accepts flags only as text.
        if let Some(path) = path.to_str().filter(|path| *path != name) {
            ours.push(format!("--remap-path-prefix={path}={name}"));
        }
    };
    let home = cargo_home(command, dir);
    let configs = configs(dir, &home);
    for (path, name) in places.renamed(&home, names_root(&places.root, &configs)) {
        rename(&path, name);
    }
    if let Some((path, name)) = library_source(tools, dir)? {
        rename(&path, &name);
    }
    match authors(command, &configs) {
        Authors::Words(words) => {
            let all: Vec<_> = words.into_iter().chain(ours).collect();
            command.env("CARGO_ENCODED_RUSTFLAGS", all.join("\x1f"));
        }
        Authors::List(key) => {
            let ours = Value::Array(ours.into_iter().map(Value::String).collect());
            command.arg("--config").arg(format!("{key}.rustflags={ours}"));
        }
    }
    Ok(())
}

/// The source of the author's own flags.
#[derive(Debug, PartialEq, Eq)]
enum Authors {
    /// A list in cargo's configuration, which is joined with ours, or no flags at all.
    List(String),
    /// Text, which is not joined.
    Words(Vec<String>),
}

fn authors(command: &Command, configs: &[toml::Table]) -> Authors {
    if let Some(flags) = var(command, "RUSTFLAGS") {
        return Authors::Words(words(&flags.to_string_lossy()));
    }
    let own = var(command, "CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS").is_some();
    of_configs(configs, own)
}

/// Cargo uses the flags of `target.…` if there are any, and those of `build` otherwise. Only the compiler knows whether
/// a condition on the target holds, so one that mentions wasm is assumed to hold. If that is wrong, our flags have no
/// effect, but the author's flags do.
fn of_configs(configs: &[toml::Table], own: bool) -> Authors {
    let targets = || configs.iter().filter_map(|config| config.get("target")?.as_table());
    let flags = |table: &Value| table.get("rustflags").cloned();
    let of_target: Vec<_> = targets().filter_map(|table| flags(table.get(TARGET)?)).collect();
    let conditional = targets()
        .flatten()
        .any(|(key, value)| key.starts_with("cfg(") && key.contains("was") && flags(value).is_some());
    let (key, found) = match own || conditional || !of_target.is_empty() {
        true => (format!("target.{TARGET}"), of_target),
        false => {
            let of_build = configs.iter().filter_map(|config| flags(config.get("build")?));
            ("build".to_owned(), of_build.collect())
        }
    };
    // Cargo does not join text with a list; the nearest text applies.
    match found.first() {
        Some(Value::String(text)) => Authors::Words(words(text)),
        _ => Authors::List(key),
    }
}

/// Returns cargo's configuration files for `dir`, the nearest first.
fn configs(dir: &Path, home: &Path) -> Vec<toml::Table> {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let above = dir.ancestors().map(|dir| dir.join(".cargo"));
    let mut seen = Vec::new();
    for place in above.chain([home.to_owned()]) {
        // If both exist, cargo uses the older name.
        let file = ["config", "config.toml"].map(|name| place.join(name));
        if let Some(file) = file
            .into_iter()
            .find(|file| file.is_file())
            .filter(|file| !seen.contains(file))
        {
            seen.push(file);
        }
    }
    // Cargo itself reports a file that does not parse.
    let texts = seen.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    texts.filter_map(|text| text.parse().ok()).collect()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn cargo_home(command: &Command, dir: &Path) -> PathBuf {
    let given = var(command, "CARGO_HOME").filter(|home| !home.is_empty());
    let home = given.map_or_else(
        || std::env::home_dir().unwrap_or_default().join(".cargo"),
        PathBuf::from,
    );
    dir.join(home)
}

/// Returns the value of a variable in the environment of the command.
fn var(command: &Command, name: &str) -> Option<OsString> {
    let given = command.get_envs().find(|(known, _)| *known == name);
    given.map_or_else(|| std::env::var_os(name), |(_, value)| value.map(OsString::from))
}

/// Returns the path of the standard library's source, if it is installed, and its name in a toolchain without it.
fn library_source(tools: &Tools, dir: &Path) -> Result<Option<(PathBuf, String)>, BuildError> {
    let sysroot = tools.rustc(dir, &["--print", "sysroot"])?;
    let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust");
    if !source.is_dir() {
        return Ok(None);
    }
    let version = tools.rustc(dir, &["-vV"])?;
    let hash = version.lines().find_map(|line| line.strip_prefix("commit-hash: "));
    Ok(hash.map(|hash| (source, format!("/rustc/{hash}"))))
}

/// Returns notes about reasons why a component depends on its build directory in spite of the flags.
pub(super) fn leaks(bytes: &[u8], places: &Places, said: &Said) -> Vec<String> {
    let mut notes = Vec::new();
    let root = places.root.canonicalize().unwrap_or_else(|_| places.root.clone());
    for (name, path) in said.local_packages() {
        if !path.starts_with(&root) && !path.starts_with(&places.root) {
            notes.push(format!(
                "the crate {name} lies outside of {}: built elsewhere, the component has other bytes",
                places.root.display()
            ));
        }
    }
    let home = std::env::home_dir().unwrap_or_default();
    for dir in [&places.root, &root, &places.target_dir, &home] {
        // A short path may occur by chance.
        let text = format!("{}/", dir.display());
        let named = || bytes.windows(text.len()).any(|part| part == text.as_bytes());
        if text.matches('/').count() > 2 && named() {
            notes.push(format!(
                "the component names {}: built elsewhere, it has other bytes",
                dir.display()
            ));
            break;
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(texts: &[&str]) -> Authors {
        let configs: Vec<toml::Table> = texts.iter().map(|text| text.parse().unwrap()).collect();
        of_configs(&configs, false)
    }

    #[test]
    fn an_authors_own_flags_stay() {
        let build = Authors::List("build".into());
        let target = Authors::List("target.wasm32-wasip2".into());
        for (texts, expected) in [
            (&[][..], &build),
            (&["[build]\nrustflags = [\"-Cx\"]"], &build),
            (&["[target.x86_64-unknown-linux-gnu]\nrustflags = [\"-Cx\"]"], &build),
            (&["[target.'cfg(unix)']\nrustflags = [\"-Cx\"]"], &build),
            (&["[target.wasm32-wasip2]\nrunner = \"x\""], &build),
            (&["[net]", "[target.wasm32-wasip2]\nrustflags = [\"-Cx\"]"], &target),
            (&["[target.'cfg(target_os = \"wasi\")']\nrustflags = \"-Cx\""], &target),
        ] {
            assert_eq!(configured(texts), *expected, "{texts:?}");
        }
        assert_eq!(of_configs(&[], true), target);
        // Of two texts, cargo uses the nearer one.
        let words = |text: &[&str]| Authors::Words(text.iter().map(|&text| text.to_owned()).collect());
        let texts = ["[build]\nrustflags = \"-C a\"", "[build]\nrustflags = \"-C b\""];
        assert_eq!(configured(&texts), words(&["-C", "a"]));
        let mut command = Command::new("cargo");
        command.env("RUSTFLAGS", " --cfg  x ");
        assert_eq!(authors(&command, &[]), words(&["--cfg", "x"]));
    }

    #[test]
    fn the_workspace_is_renamed_where_its_path_is_compiled_in() {
        let root = tempfile::tempdir().unwrap();
        let names = |manifest: &str, config: &str| {
            std::fs::write(root.path().join("Cargo.toml"), manifest).unwrap();
            names_root(root.path(), &[config.parse().unwrap()])
        };
        assert!(!names(
            "[profile.release]\nlto = true\n[profile.dev]\ndebug = true",
            "[net]"
        ));
        assert!(names("[profile.release]\ndebug = 1", "[net]"));
        assert!(names("[profile.release.package.x]\ndebug = 1", "[net]"));
        assert!(names("", "[profile.release]\ndebug = 1"));
        assert!(names("", "[source.crates-io]\nreplace-with = \"vendored\""));
        let places = Places {
            root: "/nowhere/p".into(),
            target_dir: "/nowhere/p/target".into(),
        };
        let renamed = |with_root| {
            let renamed = places.renamed(Path::new("/nowhere/cargo"), with_root);
            renamed.into_iter().map(|(_, name)| name).collect::<Vec<_>>()
        };
        // The later one applies: the target directory has its own name wherever it is.
        assert_eq!(renamed(true), ["/workspace", "/target", "/cargo"]);
        assert_eq!(renamed(false), ["/target", "/cargo"]);
        // A link is followed even if the path below it does not exist yet.
        let (link, base) = (root.path().join("link"), root.path().canonicalize().unwrap());
        std::os::unix::fs::symlink(&base, &link).unwrap();
        assert_eq!(real(&link.join("new/target")), base.join("new/target"));
    }
}
