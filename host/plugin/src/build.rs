//! Builds a component from a crate directory: `cargo build` for wasm32-wasip2, and the additions to its result.
//!
//! Cargo builds the crate as its manifest specifies. Nothing is installed except the compile target, and only rustup
//! installs it. The result is a copy next to cargo's own, so that cargo's fingerprints stay valid.

mod cargo;
mod compile_target;
mod crates;
mod error;
mod explain;
mod flags;
mod package;
mod provenance;
mod reproduce;
mod rules;
mod sections;
mod summary;
mod tools;
mod watch;
mod wit;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use self::cargo::{Said, crate_of, no_tool, run_watched};
use self::crates::{CrateNeed, Graph};
use self::package::{Package, package};
use self::sections::{SDK, append_section, with_manifest};
use self::tools::Tools;
use super::{Import, Plugin, PluginFileError, custom_sections, deps, embedded};
use crate::types;

pub use self::compile_target::TARGET;
pub use self::error::{BuildError, CargoFailure};
pub use self::flags::reproducibly;
pub use self::reproduce::{Reproduction, reproduces};
pub use self::rules::BuildRules;
pub use self::watch::BuildState;

/// A plugin that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The component.
    pub path: PathBuf,
    /// Notes for people about additional actions, for example that a target was installed.
    pub notes: Vec<String>,
    /// The crates that cause imports that are not offered, as far as they are known; for [`refuse`](super::refuse).
    pub blame: Option<String>,
}

/// Builds the crate in `dir`. Blocks until cargo ends.
///
/// The crate's build scripts, macros and cargo configuration run as this user; [`BuildRules`] bounds which crates may.
///
/// ```no_run
/// // Cargo takes its time, hence not run here.
/// use agenthost_plugin::{Plugin, build::build};
///
/// let built = build("plugins/competitor".as_ref())?;
/// assert_eq!(Plugin::open(&built.path)?.id.name, "demo:competitor");
/// # Ok::<(), agenthost_plugin::build::BuildError>(())
/// ```
///
/// A failed build returns an error with the reason and the next step:
///
/// ```
/// use agenthost_core::error::Classify as _;
/// use agenthost_plugin::build::build;
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let empty = dir.path();
/// let error = build(empty).unwrap_err();
/// assert!(error.to_string().ends_with("not a crate: it has no Cargo.toml"), "{error}");
/// assert!(error.hint().is_some_and(|hint| hint.starts_with("Give the directory")));
/// ```
///
/// # Errors
///
/// Returns an error of class [`ErrorClass::Plugin`](agenthost_core::error::ErrorClass::Plugin) if `dir` contains no
/// crate, the WIT does not parse, the toolchain is incomplete, the crate does not build for [`TARGET`], or the code
/// does not compile. The imports of the component are not checked here.
pub fn build(dir: &Path) -> Result<Built, BuildError> {
    BuildRules::any().build(dir)
}

/// Builds the crate in `dir` like [`build`], and records the tools and the source of the build; see
/// [`Provenance`](super::Provenance). The record and thus the digest change with every commit, so this is for a
/// component that is distributed.
///
/// ```no_run
/// // Cargo takes its time, hence not run here.
/// use agenthost_plugin::{Plugin, build};
///
/// let built = build::release("plugins/competitor".as_ref())?;
/// if let Some(provenance) = Plugin::open(&built.path)?.provenance {
///     println!("{}", provenance.tools());
/// }
/// # Ok::<(), agenthost_plugin::build::BuildError>(())
/// ```
///
/// # Errors
///
/// Same as [`build`].
pub fn release(dir: &Path) -> Result<Built, BuildError> {
    BuildRules::any().release(dir)
}

impl BuildRules {
    /// Builds the crate in `dir` like [`build`], if the rules permit it.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`build`], and that of the rules.
    pub fn build(&self, dir: &Path) -> Result<Built, BuildError> {
        build_for(self, dir, &[], Form::Plain, None)
    }

    /// Builds the crate in `dir` like [`release`], if the rules permit it.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`release`], and that of the rules.
    pub fn release(&self, dir: &Path) -> Result<Built, BuildError> {
        build_for(self, dir, &[], Form::Release, None)
    }
}

/// The form of a build's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    /// With its provenance.
    Release,
}

/// The builds of the sub-agents of a crate.
struct Below<'b> {
    rules: &'b BuildRules,
    /// The crate, and those above it.
    circle: &'b [PathBuf],
    target: Option<&'b Path>,
}

impl deps::SubAgentBuild for Below<'_> {
    fn check(&self, dir: &Path) -> Result<(), BuildError> {
        wit::check_text(dir)
    }

    fn component(&self, dir: &Path) -> Result<PathBuf, BuildError> {
        if dir.canonicalize().is_ok_and(|dir| self.circle.contains(&dir)) {
            return Err(BuildError::Circle { dir: dir.to_owned() });
        }
        Ok(build_for(self.rules, dir, self.circle, Form::Plain, self.target)?.path)
    }
}

/// Builds the crate in `dir` for the crates `above`, each of which needs the interface of the next. If `target` is
/// given, it replaces the crate's own target directory.
fn build_for(
    rules: &BuildRules,
    dir: &Path,
    above: &[PathBuf],
    form: Form,
    target: Option<&Path>,
) -> Result<Built, BuildError> {
    // Normalizes the `.` of `agenthost build .`.
    let dir = &dir.components().collect::<PathBuf>();
    if !dir.is_dir() {
        return Err(BuildError::NoDirectory { dir: dir.clone() });
    }
    if !dir.join("Cargo.toml").is_file() {
        return Err(BuildError::NoManifest { dir: dir.clone() });
    }
    // This comes before any tool runs there: a project's toolchain file alone decides what runs as cargo.
    rules.check(dir)?;
    let watched = rules.watched(dir);
    let tools = rules.tools();
    let mut notes = Vec::new();
    let package = package(tools, dir, target)?;
    package.manifest.suggested().map_err(|problem| BuildError::Limits {
        dir: dir.clone(),
        problem,
    })?;
    let kept = package.manifest.keep_back();
    kept.map_err(|problem| BuildError::KeepBack {
        dir: dir.clone(),
        problem,
    })?;
    package
        .manifest
        .server_tools()
        .map_err(|problem| BuildError::ServerTools {
            dir: dir.clone(),
            problem,
        })?;
    let mut circle = above.to_vec();
    circle.push(dir.canonicalize().unwrap_or_else(|_| dir.to_owned()));
    let below = Below {
        rules,
        circle: &circle,
        target,
    };
    let record = package.target_dir.join("agenthost");
    let record = record.join(format!("{}.copies.json", package.name));
    notes.extend(deps::copy(dir, &package.manifest, &record, &below)?);
    wit::check(dir)?;
    if add_target(tools, dir)? {
        notes.push(format!("added the compile target {TARGET}"));
    }
    let places = flags::Places::of(&package);
    let mut command = tools.cargo(dir, target);
    flags::apply(tools, &mut command, dir, &places)?;
    command
        .args(["build", "--release", "--lib", "--target", TARGET])
        .arg("--message-format=json");
    let output = run_watched(&mut command, &watched)?;
    let said = Said::read(&output);
    if !output.status.success() {
        return Err(explain::failed(tools, dir, &package, &said));
    }
    let artifact = artifact(&said, &package).ok_or_else(|| BuildError::NoComponent {
        dir: dir.clone(),
        package: package.name.clone(),
    })?;
    let unreadable = |path: &Path, source| BuildError::Result {
        path: path.to_owned(),
        source,
    };
    let bytes = std::fs::read(&artifact).map_err(|error| unreadable(&artifact, error))?;
    let plugin = Plugin::read(&bytes).map_err(|source| BuildError::NotAPlugin {
        dir: dir.clone(),
        source,
    })?;
    if !package.manifest.keep_back.is_empty() && plugin.sub_agents.is_empty() {
        return Err(BuildError::KeepBack {
            dir: dir.clone(),
            problem: "the plugin starts no sub-agents, so it keeps nothing back from them; remove the table".to_owned(),
        });
    }
    let blame = blame(tools, dir, &package, &plugin);
    notes.extend(failing(tools, dir, &package, &said));
    let sdk = sdk(&said);
    notes.extend(sdk.as_deref().and_then(other_version));
    let mut bytes = with_manifest(bytes, &plugin, &package, sdk, &artifact)?;
    if form == Form::Release {
        let record = provenance::record(tools, dir, &package, &said)?;
        notes.extend(flags::leaks(&bytes, &places, &said));
        append_section(&mut bytes, custom_sections::PROVENANCE_SECTION, &record);
    }
    let out = package.target_dir.join("agenthost");
    std::fs::create_dir_all(&out).map_err(|error| unreadable(&out, error))?;
    let path = out.join(format!("{}.wasm", package.name));
    // Written to a temporary file and renamed: a run that starts meanwhile sees the old plugin or the new one.
    let temporary = out.join(format!(".{}-{}", package.name, std::process::id()));
    std::fs::write(&temporary, bytes)
        .and_then(|()| std::fs::rename(&temporary, &path))
        .map_err(|error| unreadable(&path, error))?;
    Ok(Built { path, notes, blame })
}

/// Describes the crates that cause imports that are not offered to every plugin.
fn blame(tools: &Tools, dir: &Path, package: &Package, plugin: &Plugin) -> Option<String> {
    let names = plugin.imports.iter().filter_map(|import| match import {
        Import::Refused(name) | Import::Files(name) => Some(name.as_str()),
        _ => None,
    });
    let names: Vec<_> = names.collect();
    let network = |name: &&str| name.starts_with("wasi:sockets/") || name.starts_with("wasi:http/");
    let need = match names.as_slice() {
        [] => return None,
        names if names.iter().any(network) => CrateNeed::Network,
        names if names.iter().any(|name| name.starts_with("wasi:filesystem/")) => CrateNeed::Files,
        _ => return None,
    };
    let found = Graph::read(tools, dir, &package.id)?.with(need);
    let word = if need == CrateNeed::Network {
        "the network"
    } else {
        "files"
    };
    Some(match found.as_slice() {
        [] => format!(
            "no crate that is known for using {word} is among its dependencies; it may be its own code, or a crate that \
             `cargo tree --edges normal --target {TARGET}` lists"
        ),
        [one] => format!("the crate that uses {word}: {one}"),
        several => format!("the crates that use {word}: {}", several.join(", ")),
    })
}

/// Returns notes about crates that build and then fail when the plugin calls them.
fn failing(tools: &Tools, dir: &Path, package: &Package, said: &Said) -> Vec<String> {
    let linked: Vec<_> = said
        .artifacts()
        .filter(|(_, path)| path.iter().any(|part| part == TARGET))
        .map(|(id, _)| crate_of(id).0)
        .collect();
    let suspects: [(CrateNeed, &[&str], &str); 2] = [
        (
            CrateNeed::Threads,
            &["rayon-core", "threadpool", "scoped_threadpool"],
            "a task has one thread, and starting another fails; these crates start threads",
        ),
        (
            CrateNeed::JavaScript,
            &["wasm-bindgen", "js-sys"],
            "a task has no network and no JavaScript, and a crate for browsers stops it at its first call; these crates are for browsers",
        ),
    ];
    let mut graph = None;
    let mut notes = Vec::new();
    for (need, _, words) in suspects
        .iter()
        .filter(|(_, names, _)| names.iter().any(|name| linked.contains(name)))
    {
        let graph = graph.get_or_insert_with(|| Graph::read(tools, dir, &package.id));
        let found = graph.as_ref().map(|graph| graph.with(*need)).unwrap_or_default();
        if !found.is_empty() {
            notes.push(format!("{words}: {}", found.join(", ")));
        }
    }
    notes
}

/// The version of the linked SDK.
fn sdk(said: &Said) -> Option<String> {
    let mut found = said
        .artifacts()
        .map(|(id, _)| crate_of(id))
        .filter(|(name, _)| *name == SDK);
    found.next().map(|(_, version)| version.to_owned())
}

/// Returns advice if the SDK's version differs from the host's: the first two numbers determine the contract.
fn other_version(sdk: &str) -> Option<String> {
    let own = env!("CARGO_PKG_VERSION");
    let minor = |version: &str| version.splitn(3, '.').take(2).map(str::to_owned).collect::<Vec<_>>();
    (minor(sdk) != minor(own)).then(|| {
        format!(
            "built with {SDK} {sdk}, and this is agenthost {own}: use {SDK} {own}, or an agenthost of version {sdk}"
        )
    })
}

/// Returns the WIT of a component: the author's text, if it is embedded and agrees with the component's types;
/// otherwise the types of the component, in a world `root` and without docs.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../agenthost/doc/guests.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost_plugin::build;
///
/// # let component = double();
/// # let dir = tempfile::tempdir()?;
/// let file = dir.path().join("double.wasm");
/// std::fs::write(&file, &component)?;
/// assert!(build::wit(&file)?.contains("run: func(input: u32) -> u32;"));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Returns a plugin error if the file cannot be read or is not a plugin.
pub fn wit(path: &Path) -> Result<String, BuildError> {
    let bytes = super::read(path)?;
    let invalid = |source| PluginFileError::Invalid {
        path: path.to_owned(),
        source,
    };
    let plugin = Plugin::read(&bytes).map_err(invalid)?;
    let embedded = embedded::read(&bytes);
    if let Ok(Some(believed)) = embedded.believed(&plugin.task, &plugin.resolve, &plugin.run) {
        let texts: Vec<&str> = believed.text.files.iter().map(|(_, text)| text.trim_end()).collect();
        return Ok(texts.join("\n\n"));
    }
    let unprinted = |problem| BuildError::PrintWit {
        path: path.to_owned(),
        problem,
    };
    let (resolve, world) = types::decode(&bytes).map_err(invalid)?;
    let world = resolve.worlds.get(world).and_then(|world| world.package);
    let main = world.ok_or_else(|| unprinted("its world has no package".to_owned()))?;
    let others: Vec<_> = resolve
        .packages
        .iter()
        .map(|(id, _)| id)
        .filter(|id| *id != main)
        .collect();
    let mut printer = wit_component::WitPrinter::default();
    printer
        .print(&resolve, main, &others)
        .map_err(|error| unprinted(format!("{error:#}")))?;
    Ok(printer.output.to_string().trim_end().to_owned())
}

/// The component among the artifacts that cargo reports.
fn artifact(said: &Said, package: &Package) -> Option<PathBuf> {
    said.artifacts()
        .filter(|(id, _)| *id == package.id)
        .map(|(_, path)| path)
        .find(|path| path.extension() == Some(OsStr::new("wasm")))
}

/// Adds the compile target with rustup if it is missing. Returns true if it was added.
///
/// ```no_run
/// // It may ask the network, hence not run here.
/// use agenthost_plugin::build;
///
/// if build::install_target("plugins/competitor".as_ref())? {
///     println!("added the compile target {}", build::TARGET);
/// }
/// # Ok::<(), agenthost_plugin::build::BuildError>(())
/// ```
pub fn install_target(dir: &Path) -> Result<bool, BuildError> {
    add_target(&Tools::default(), dir)
}

fn add_target(tools: &Tools, dir: &Path) -> Result<bool, BuildError> {
    if has_target(tools, dir)? {
        return Ok(false);
    }
    match tools.command("rustup", dir).args(["target", "add", TARGET]).output() {
        Ok(output) if output.status.success() => Ok(true),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(BuildError::TargetMissing { rustup: Some(said) })
        }
        Err(_) => Err(BuildError::TargetMissing { rustup: None }),
    }
}

/// Returns whether the toolchain that cargo uses in `dir` has the target.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost_plugin::build;
///
/// let here = std::env::current_dir()?;
/// if !build::target_installed(&here)? {
///     println!("`agenthost build` will add {}", build::TARGET);
/// }
/// # Ok(())
/// # }
/// ```
pub fn target_installed(dir: &Path) -> Result<bool, BuildError> {
    has_target(&Tools::default(), dir)
}

fn has_target(tools: &Tools, dir: &Path) -> Result<bool, BuildError> {
    let path = tools.rustc(dir, &["--print", "target-libdir", "--target", TARGET])?;
    // For an unknown target the compiler prints nothing.
    Ok(!path.trim().is_empty() && Path::new(path.trim()).is_dir())
}

/// Returns the output of `tool --version` in `dir`, with the environment of builds.
///
/// ```
/// use std::path::Path;
/// use agenthost_plugin::build;
///
/// assert!(build::tool_version("cargo", Path::new("/"))?.starts_with("cargo "));
/// # Ok::<(), agenthost_plugin::build::BuildError>(())
/// ```
///
/// # Errors
///
/// Returns a plugin error if the tool cannot be run or fails; the latter includes its output.
pub fn tool_version(tool: &str, dir: &Path) -> Result<String, BuildError> {
    let command = Tools::default().command(tool, dir).arg("--version").output();
    let output = command.map_err(|error| no_tool(tool, error))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(said(&output.stdout)),
        false => Err(BuildError::ToolFails {
            tool: tool.to_owned(),
            output: said(&output.stderr),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_minor_version_of_the_sdk_is_said() {
        assert_eq!(other_version(env!("CARGO_PKG_VERSION")), None);
        let said = other_version("7.1.0").unwrap();
        assert!(
            said.starts_with("built with agenthost-sdk 7.1.0, and this is agenthost "),
            "{said}"
        );
    }
}
