//! The compiler's flags that keep directories of this machine out of a component, so that the same source gives the same
//! bytes in any of them.
//!
//! Panic messages and debug information name source files. Those of the crate and of crates below its workspace's root are
//! relative to that; those of the registry, of git dependencies and of code that build scripts write are not, and get
//! another beginning here. The author's own flags stay: cargo joins lists of its configuration files with ours, and where it
//! would take one or the other, what it would have taken is passed on with ours.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value as Json;
use toml::Value;

use super::cargo::{Said, run};
use super::tools::Tools;
use super::{Package, TARGET};
use agenthost_core::error::{Error, Result};

/// The directories that cargo works with.
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

    /// Each directory with what it is called instead; of two that match, the later counts.
    fn renamed(&self, cargo_home: &Path, with_root: bool) -> Vec<(PathBuf, &'static str)> {
        let mut found = Vec::new();
        let mut add = |path: &Path, name| {
            for path in [path.to_owned(), real(path)] {
                if path.parent().is_some() && !found.contains(&(path.clone(), name)) {
                    found.push((path, name));
                }
            }
        };
        // Several workspaces may share a target directory, and a flag that differs between them builds all dependencies
        // anew at each change from one to the other; so only where it is needed.
        if with_root {
            add(&self.root, "/workspace");
        }
        add(&self.target_dir, "/target");
        add(cargo_home, "/cargo");
        found
    }
}

/// The path without symbolic links, as it will be where it does not exist yet: the flags of a first build are those of the
/// next.
fn real(path: &Path) -> PathBuf {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(path), ..) => path,
        (Err(_), Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_owned(),
    }
}

/// Whether code is compiled with the full path of the workspace: it is that of the crate and of those below it where there is
/// debug information, and that of registry crates where they are copied into the workspace.
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

/// Makes `command`, which is a `cargo build --release` for [`TARGET`] in `dir`, give bytes that depend on no directory of
/// this machine, as [`build`](super::build) does. Both then share what they compile.
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
/// A plugin error where cargo or rustc cannot be run, or there is no crate in `dir`.
pub fn reproducibly(command: &mut Command, dir: &Path) -> Result<()> {
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
        return Err(Error::plugin(format!(
            "{}: cargo cannot read the crate\n{}",
            dir.display(),
            String::from_utf8_lossy(&output.stderr).trim_end()
        ))
        .hint("Mend what cargo says above."));
    };
    apply(&tools, command, dir, &Places { root, target_dir })
}

/// Adds the flags to a build in `dir`.
pub(super) fn apply(tools: &Tools, command: &mut Command, dir: &Path, places: &Places) -> Result<()> {
    let mut ours = Vec::new();
    let mut rename = |path: &Path, name: &str| {
        // Cargo takes flags as text only.
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

/// Where the author's own flags come from.
#[derive(Debug, PartialEq, Eq)]
enum Authors {
    /// A list in cargo's configuration, which is joined with ours, or none.
    List(String),
    /// Text, which is not.
    Words(Vec<String>),
}

fn authors(command: &Command, configs: &[toml::Table]) -> Authors {
    if let Some(flags) = var(command, "RUSTFLAGS") {
        return Authors::Words(words(&flags.to_string_lossy()));
    }
    let own = var(command, "CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS").is_some();
    of_configs(configs, own)
}

/// Cargo takes the flags of `target.…` where there are any, and those of `build` otherwise. Whether a condition on the
/// target holds only the compiler knows: one that names wasm is taken to hold. Where that is wrong, our flags are without
/// effect and the author's are not.
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
    // Cargo does not join text with a list; the nearest text counts.
    match found.first() {
        Some(Value::String(text)) => Authors::Words(words(text)),
        _ => Authors::List(key),
    }
}

/// Cargo's configuration files for `dir`, the nearest first.
fn configs(dir: &Path, home: &Path) -> Vec<toml::Table> {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let above = dir.ancestors().map(|dir| dir.join(".cargo"));
    let mut seen = Vec::new();
    for place in above.chain([home.to_owned()]) {
        // The older name counts where there are both.
        let file = ["config", "config.toml"].map(|name| place.join(name));
        if let Some(file) = file
            .into_iter()
            .find(|file| file.is_file())
            .filter(|file| !seen.contains(file))
        {
            seen.push(file);
        }
    }
    // A file that does not parse cargo itself complains of.
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

/// A variable as the command will see it.
fn var(command: &Command, name: &str) -> Option<OsString> {
    let given = command.get_envs().find(|(known, _)| *known == name);
    given.map_or_else(|| std::env::var_os(name), |(_, value)| value.map(OsString::from))
}

/// The source of the standard library, where it is installed, and how a toolchain without it names it.
fn library_source(tools: &Tools, dir: &Path) -> Result<Option<(PathBuf, String)>> {
    let sysroot = tools.rustc(dir, &["--print", "sysroot"])?;
    let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust");
    if !source.is_dir() {
        return Ok(None);
    }
    let version = tools.rustc(dir, &["-vV"])?;
    let hash = version.lines().find_map(|line| line.strip_prefix("commit-hash: "));
    Ok(hash.map(|hash| (source, format!("/rustc/{hash}"))))
}

/// What makes a component depend on where it was built, in spite of the flags.
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
        // A short name may be anything.
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
        // Of two texts cargo takes the nearer one.
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
        // The later counts: the target directory has its own name wherever it is.
        assert_eq!(renamed(true), ["/workspace", "/target", "/cargo"]);
        assert_eq!(renamed(false), ["/target", "/cargo"]);
        // A link is followed before what is below it exists.
        let (link, base) = (root.path().join("link"), root.path().canonicalize().unwrap());
        std::os::unix::fs::symlink(&base, &link).unwrap();
        assert_eq!(real(&link.join("new/target")), base.join("new/target"));
    }
}
