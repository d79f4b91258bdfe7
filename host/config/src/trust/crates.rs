//! Decides whether a crate may be built.
//!
//! A build runs code as this user, outside of any sandbox: the build scripts and procedural macros of the crate and its
//! dependencies, and whatever cargo's configuration files and a toolchain file name. Those files also take effect from
//! any directory above the crate. So a crate may be built without a question if it is in a folder that the operator
//! trusts and all such files above that folder already existed when it was trusted. A repository inside a trusted
//! folder is a separate project. The workspace that this program was built in and runs from is trusted, because a
//! person who can write there can change the program.
//!
//! This module only reads files; it runs nothing.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::record::{TrustRecord, TrustedCrates, canonical, keep, list};
use crate::env::Env;
use crate::error::TrustError;
use agenthost_core::printable::one_line;

/// The number of bytes read of each file, more than any of these files has.
const MOST_BYTES: u64 = 1 << 20;

impl TrustedCrates {
    /// Returns the folder `dir` with the relevant files above it; `None` for a folder that holds more than projects:
    /// the home directory and the directories above it.
    pub(super) fn below(env: &Env, dir: &Path) -> Result<Option<Self>, TrustError> {
        let dir = canonical(env, dir)?;
        let home = env.home().and_then(|home| home.canonicalize().ok());
        if dir.parent().is_none() || home.is_some_and(|home| home.starts_with(&dir)) {
            return Ok(None);
        }
        let outside = deciding(env, &dir).into_iter().filter(|file| !file.starts_with(&dir));
        Ok(Some(Self {
            outside: outside.collect(),
            dir,
        }))
    }
}

/// Returns the record for a folder without a configuration file: its crates may be built.
pub(super) fn crates_of(env: &Env, folder: &Path) -> Result<TrustRecord, TrustError> {
    let file = canonical(env, folder)?;
    let Some(crates) = TrustedCrates::below(env, &file)? else {
        return Err(TrustError::TooMuch {
            shown: env.shown(&file),
        });
    };
    Ok(TrustRecord::of_crates(file, crates))
}

/// The code that building a crate would run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrateBuild {
    /// The crate's directory, with all links resolved.
    pub dir: PathBuf,
    /// Descriptions of what would run.
    pub runs: Vec<String>,
    /// The files outside of the crate's own sources that influence the build.
    deciding: Vec<PathBuf>,
    /// The directory for display.
    shown: String,
}

impl CrateBuild {
    /// Examines the crate in `dir`.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use agenthost_config::Env;
    /// use agenthost_config::trust::crates::CrateBuild;
    ///
    /// std::fs::create_dir_all(dir.join("plugin/.cargo"))?;
    /// std::fs::write(dir.join("plugin/Cargo.toml"), "[package]\nname = 'plugin'\nbuild = 'make.rs'\n[workspace]\n")?;
    /// std::fs::write(dir.join("plugin/.cargo/config.toml"), "[build]\nrustc-wrapper = './wrap.sh'\n")?;
    /// let env = Env::new([].into(), dir, Some(dir.join("home")));
    /// let build = CrateBuild::of(&env, &dir.join("plugin"))?;
    /// assert_eq!(build.runs, [
    ///     "cargo build in plugin",
    ///     "its build script make.rs",
    ///     "`./wrap.sh` as rustc-wrapper (plugin/.cargo/config.toml)",
    ///     "build scripts and macros of what it depends on",
    /// ]);
    /// assert!(!build.is_trusted(&env)?);
    /// build.accept(&env)?;
    /// assert!(build.is_trusted(&env)?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Config`](agenthost_core::error::ErrorClass::Config) if the directory does not exist.
    pub fn of(env: &Env, dir: &Path) -> Result<Self, TrustError> {
        let dir = canonical(env, &env.cwd().join(dir))?;
        let shown = match env.shown(&dir) {
            shown if shown.is_empty() => ".".to_owned(),
            shown => shown,
        };
        let deciding = deciding(env, &dir);
        let mut runs = vec![format!("cargo build in {shown}")];
        runs.extend(build_script(&dir).map(|script| format!("its build script {script}")));
        for file in &deciding {
            runs.extend(words(env, file));
        }
        runs.push("build scripts and macros of what it depends on".to_owned());
        // Each item is one line of a question: a manifest, a configuration file or a path must not add lines of its
        // own.
        let runs = runs.iter().map(|what| one_line(what).into_owned()).collect();
        Ok(Self {
            dir,
            runs,
            deciding,
            shown,
        })
    }

    /// Returns whether the crate may be built without a question.
    ///
    /// # Errors
    ///
    /// [`Host`](agenthost_core::error::ErrorClass::Host) if the trust record cannot be read.
    pub fn is_trusted(&self, env: &Env) -> Result<bool, TrustError> {
        if own_workspace().is_some_and(|own| within(&self.dir, &own)) {
            return Ok(true);
        }
        let records = list(env)?;
        let folders: Vec<&TrustedCrates> = records.iter().filter_map(|record| record.crates.as_ref()).collect();
        let known = |folder: &TrustedCrates, file: &PathBuf| {
            file.starts_with(&folder.dir)
                || folder.outside.contains(file)
                || folders.iter().any(|other| within(file, &other.dir))
        };
        Ok(folders
            .iter()
            .any(|folder| within(&self.dir, &folder.dir) && self.deciding.iter().all(|file| known(folder, file))))
    }

    /// Returns the error for a crate that may not be built, with what would run and how to allow it.
    pub fn refusal(&self) -> TrustError {
        TrustError::Crate {
            dir: self.dir.clone(),
            shown: self.shown.clone(),
            runs: self.runs.clone(),
        }
    }

    /// Records that crates in this directory may be built, as long as no file above it influences the build. Used for
    /// a project that the operator has just created.
    ///
    /// # Errors
    ///
    /// [`Host`](agenthost_core::error::ErrorClass::Host) if the record cannot be written.
    pub fn accept_alone(&self, env: &Env) -> Result<(), TrustError> {
        if self.is_trusted(env)? {
            return Ok(());
        }
        let crates = TrustedCrates {
            dir: self.dir.clone(),
            outside: Vec::new(),
        };
        keep(env, TrustRecord::of_crates(self.dir.clone(), crates)).map(|_| ())
    }

    /// Records that crates in this directory may be built.
    ///
    /// # Errors
    ///
    /// [`Host`](agenthost_core::error::ErrorClass::Host) if the record cannot be written.
    pub fn accept(&self, env: &Env) -> Result<TrustRecord, TrustError> {
        crates_of(env, &self.dir).and_then(|mut record| {
            // The record of its configuration is kept.
            let before = list(env)?.into_iter().find(|old| old.file == record.file);
            if let Some(before) = before {
                record = TrustRecord {
                    crates: record.crates,
                    ..before
                };
            }
            keep(env, record)
        })
    }
}

/// Refuses the crate in `dir` if it may not be built.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// # std::fs::create_dir(dir.join("plugin"))?;
/// # std::fs::write(dir.join("plugin/Cargo.toml"), "[package]\nname = 'plugin'\n")?;
/// use agenthost_config::{Env, TrustError};
/// use agenthost_config::trust::{self, crates};
///
/// let env = Env::new([].into(), dir, Some(dir.join("home")));
/// match crates::check(&env, &dir.join("plugin")) {
///     Err(TrustError::Crate { shown, runs, .. }) => {
///         assert_eq!(shown, "plugin");
///         assert_eq!(runs[0], "cargo build in plugin");
///     }
///     other => panic!("{other:?}"),
/// }
/// trust::accept(&env, "plugin".as_ref())?;
/// crates::check(&env, &dir.join("plugin"))?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Denied`](agenthost_core::error::ErrorClass::Denied), with what would run and how to allow it.
pub fn check(env: &Env, dir: &Path) -> Result<(), TrustError> {
    let build = CrateBuild::of(env, dir)?;
    match build.is_trusted(env)? {
        true => Ok(()),
        false => Err(build.refusal()),
    }
}

/// Returns whether `path` is in the folder `dir`, or is that folder, and not in a repository below it.
pub(super) fn within(path: &Path, dir: &Path) -> bool {
    let below = || path.ancestors().take_while(|above| *above != dir);
    path.starts_with(dir) && !below().any(|above| fs::symlink_metadata(above.join(".git")).is_ok())
}

/// Returns the workspace that this program was built from, if it runs from there and the workspace belongs to this
/// user. If a program was installed elsewhere, its build path may now hold anything.
fn own_workspace() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .ok()?;
    let meta = fs::metadata(&root).ok()?;
    let runs_there = || std::env::current_exe().is_ok_and(|program| program.starts_with(&root));
    let own = meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o002 == 0;
    (own && runs_there() && is_workspace(&root.join("Cargo.toml"))).then_some(root)
}

/// Returns the files in `dir` and above that influence a build in `dir`: cargo's configuration, a toolchain file, and
/// the manifest of the workspace. The user's own configuration, in cargo's home, is left out.
fn deciding(env: &Env, dir: &Path) -> Vec<PathBuf> {
    let homes = [
        env.var("CARGO_HOME").map(PathBuf::from),
        env.home().map(|home| home.join(".cargo")),
    ];
    let homes: Vec<PathBuf> = homes
        .into_iter()
        .flatten()
        .filter_map(|home| home.canonicalize().ok())
        .collect();
    let mut found = Vec::new();
    let mut workspace = false;
    for above in dir.ancestors() {
        let cargo = above.join(".cargo");
        let configs = ["config", "config.toml"].map(|name| cargo.join(name));
        let toolchains = ["rust-toolchain", "rust-toolchain.toml"].map(|name| above.join(name));
        let own = cargo.canonicalize().is_ok_and(|cargo| homes.contains(&cargo));
        let files = configs.into_iter().filter(|_| !own).chain(toolchains);
        found.extend(files.filter(|file| fs::symlink_metadata(file).is_ok()));
        let manifest = above.join("Cargo.toml");
        if !workspace && is_workspace(&manifest) {
            workspace = true;
            found.push(manifest);
        }
    }
    found
}

fn table(file: &Path) -> Option<toml::Table> {
    read(file)?.parse().ok()
}

/// Returns the text of a regular file.
fn read(file: &Path) -> Option<String> {
    let regular = fs::metadata(file).is_ok_and(|meta| meta.is_file());
    let mut text = String::new();
    let file = regular.then(|| File::open(file).ok()).flatten()?;
    file.take(MOST_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

fn is_workspace(manifest: &Path) -> bool {
    table(manifest).is_some_and(|manifest| manifest.contains_key("workspace"))
}

/// Returns the crate's build script: the one that its manifest names, or `build.rs`.
fn build_script(dir: &Path) -> Option<String> {
    let manifest = table(&dir.join("Cargo.toml")).unwrap_or_default();
    match manifest.get("package").and_then(|package| package.get("build")) {
        Some(toml::Value::String(script)) => Some(script.clone()),
        Some(toml::Value::Boolean(false)) => None,
        Some(other) => Some(other.to_string()),
        None => dir.join("build.rs").exists().then(|| "build.rs".to_owned()),
    }
}

/// Describes what a file that influences a build makes it run.
fn words(env: &Env, file: &Path) -> Vec<String> {
    let shown = env.shown(file);
    if file.file_name().is_some_and(|name| name == "Cargo.toml") {
        return Vec::new();
    }
    if file
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("rust-toolchain"))
    {
        return vec![format!("the toolchain of {shown}")];
    }
    let config = table(file).unwrap_or_default();
    let mut found = Vec::new();
    let mut add = |table: &toml::Value, keys: &[&str]| {
        for key in keys {
            if let Some(value) = table.get(key) {
                let program = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                found.push(format!("`{program}` as {key} ({shown})"));
            }
        }
    };
    if let Some(build) = config.get("build") {
        add(build, &["rustc-wrapper", "rustc-workspace-wrapper", "rustc", "rustdoc"]);
    }
    for target in config
        .get("target")
        .and_then(toml::Value::as_table)
        .into_iter()
        .flat_map(|all| all.values())
    {
        add(target, &["linker", "runner"]);
    }
    // Flags, environment, credential helpers, sources, and whatever future versions of cargo read from there.
    let known = |table: &toml::Value| table.as_table().is_some_and(|table| table.len() == 1);
    if found.len() != 1 || config.len() != 1 || !config.values().all(known) {
        found.push(format!("whatever else {shown} sets"));
    }
    found
}
