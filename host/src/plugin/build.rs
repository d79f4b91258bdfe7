//! From a crate directory to a component: `cargo build` for wasm32-wasip2, and what a build adds to the result.
//!
//! Cargo does the building, with whatever the crate's manifest says; nothing is installed but the compile target, and
//! that only by rustup itself. The result is a copy beside cargo's own, so that cargo's bookkeeping stays true.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::manifest::Manifest;
use super::{Plugin, deps, embedded};
use crate::error::{Error, Result};
use crate::value;

/// The compile target of plugins.
pub const TARGET: &str = "wasm32-wasip2";

/// A plugin that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The component.
    pub path: PathBuf,
    /// What was done besides building, for people: an installed target, for example.
    pub notes: Vec<String>,
}

/// Builds the crate in `dir`. Blocks for as long as cargo takes.
pub fn build(dir: &Path) -> Result<Built> {
    build_for(dir, &[])
}

/// Builds the crate in `dir` for the crates `above`, each of which needs the interface of the next.
fn build_for(dir: &Path, above: &[PathBuf]) -> Result<Built> {
    if !dir.is_dir() {
        return Err(Error::plugin(format!("{}: no such directory", dir.display()))
            .hint("Give a crate directory or a .wasm file that exists."));
    }
    if !dir.join("Cargo.toml").is_file() {
        return Err(
            Error::plugin(format!("{}: no crate: it has no Cargo.toml", dir.display()))
                .hint("Give the directory that holds the plugin's Cargo.toml, or a .wasm file."),
        );
    }
    let mut notes = Vec::new();
    let package = package(dir)?;
    if install_target(dir)? {
        notes.push(format!("added the compile target {TARGET}"));
    }
    let mut circle = above.to_vec();
    circle.push(dir.canonicalize().unwrap_or_else(|_| dir.to_owned()));
    notes.extend(deps::copy(dir, &package.manifest.sub_agents, |below| {
        if below.canonicalize().is_ok_and(|below| circle.contains(&below)) {
            return Err(
                Error::plugin(format!("{}: it is a sub-agent of itself", below.display())).hint(
                    "Break the circle in [package.metadata.agenthost.sub-agents]: of two plugins, one starts the other.",
                ),
            );
        }
        Ok(build_for(below, &circle)?.path)
    })?);
    let output = run(cargo(dir)
        .args(["build", "--release", "--lib", "--target", TARGET])
        .arg("--message-format=json-render-diagnostics"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::plugin(format!(
            "{}: cargo could not build the plugin\n{}",
            dir.display(),
            said.trim_end()
        ))
        .hint(build_hint(&said)));
    }
    let artifact = artifact(&output.stdout, &package).ok_or_else(|| {
        Error::plugin(format!(
            "{}: the crate {} builds no component",
            dir.display(),
            package.name
        ))
        .hint("A plugin is a library of this kind: add `[lib]` with `crate-type = [\"cdylib\"]` to its Cargo.toml.")
    })?;
    let unreadable = |path: &Path, error: std::io::Error| Error::plugin(format!("{}: {error}", path.display()));
    let bytes = std::fs::read(&artifact).map_err(|error| unreadable(&artifact, error))?;
    let bytes = with_manifest(bytes, &package).map_err(|error| error.at(&artifact))?;
    let out = package.target_dir.join("agenthost");
    std::fs::create_dir_all(&out).map_err(|error| unreadable(&out, error))?;
    let path = out.join(format!("{}.wasm", package.name));
    // Written beside and renamed: a run that starts meanwhile sees the old plugin or the new one.
    let temporary = out.join(format!(".{}-{}", package.name, std::process::id()));
    std::fs::write(&temporary, bytes)
        .and_then(|()| std::fs::rename(&temporary, &path))
        .map_err(|error| unreadable(&path, error))?;
    Ok(Built { path, notes })
}

/// The WIT of a component: the text that its author wrote, where that is embedded and agrees with the component's types;
/// else the types as the component has them, in a world `root` and without docs.
///
/// # Errors
///
/// A plugin error for a file that cannot be read or is no plugin.
pub fn wit(path: &Path) -> Result<String> {
    let bytes = super::read(path)?;
    let plugin = Plugin::read(&bytes).map_err(|error| error.at(path))?;
    let embedded = embedded::read(&bytes);
    if let Ok(Some(believed)) = embedded.believed(&plugin.task, &plugin.resolve, &plugin.run) {
        let texts: Vec<&str> = believed.text.files.iter().map(|(_, text)| text.trim_end()).collect();
        return Ok(texts.join("\n\n"));
    }
    let unprinted = |error: String| Error::plugin(format!("{}: its WIT cannot be printed: {error}", path.display()));
    let (resolve, world) = value::decode(&bytes)?;
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

/// What cargo knows of the crate.
struct Package {
    id: String,
    name: String,
    target_dir: PathBuf,
    manifest: Manifest,
}

fn package(dir: &Path) -> Result<Package> {
    let output = run(cargo(dir).args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let wrong = |why: &str| {
        Error::plugin(format!(
            "{}: cargo cannot read the crate\n{}",
            dir.display(),
            why.trim_end()
        ))
        .hint("Mend what cargo says above; `cargo metadata` in that directory repeats it.")
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
        return Err(wrong("it is a workspace without a package of its own")
            .hint("Give the directory of the plugin's own package."));
    };
    let text = |name: &str| found.get(name).and_then(Value::as_str).map(str::to_owned);
    let own = found.pointer("/metadata/agenthost");
    let table = |name: &str| {
        own.and_then(|own| own.get(name))
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    };
    let target_dir = metadata
        .get("target_directory")
        .and_then(Value::as_str)
        .map(PathBuf::from);
    Ok(Package {
        id: text("id").unwrap_or_default(),
        name: text("name").unwrap_or_default(),
        target_dir: target_dir.unwrap_or_else(|| dir.join("target")),
        manifest: Manifest {
            format: Manifest::FORMAT,
            name: text("name"),
            version: text("version"),
            description: text("description"),
            license: text("license"),
            repository: text("repository"),
            limits: table("limits"),
            sub_agents: table("sub-agents").into_iter().collect(),
        },
    })
}

/// The component among the artifacts that cargo reports.
fn artifact(stdout: &[u8], package: &Package) -> Option<PathBuf> {
    let messages = stdout
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    messages
        .filter(|message| {
            message.get("reason").and_then(Value::as_str) == Some("compiler-artifact")
                && message.get("package_id").and_then(Value::as_str) == Some(&package.id)
        })
        .flat_map(|message| {
            message
                .get("filenames")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default()
        })
        .filter_map(|name| name.as_str().map(PathBuf::from))
        .find(|path| path.extension() == Some(OsStr::new("wasm")))
}

/// Adds the manifest, and licence and source in the tools' own form, where the SDK's macro has not done so.
fn with_manifest(bytes: Vec<u8>, package: &Package) -> Result<Vec<u8>> {
    use wasm_metadata::{AddMetadata, AddMetadataField};
    let field = |value: &Option<String>| value.clone().map_or(AddMetadataField::Keep, AddMetadataField::Set);
    let mut bytes = bytes;
    let known = Plugin::read(&bytes)?.manifest.is_some();
    if !known {
        let json = serde_json::to_vec(&package.manifest).map_err(|error| Error::host(error.to_string()))?;
        append_section(&mut bytes, super::embedded::MANIFEST_SECTION, &json);
    }
    let mut add = AddMetadata::default();
    add.name = field(&package.manifest.name);
    add.description = field_parsed(&package.manifest.description);
    add.licenses = field_parsed(&package.manifest.license);
    add.source = field_parsed(&package.manifest.repository);
    add.version = field_parsed(&package.manifest.version);
    add.to_wasm(&bytes)
        .map_err(|error| Error::plugin(format!("cannot add metadata to the component: {error:#}")))
}

/// A field that does not parse (a licence that is no SPDX expression, say) is left out: the manifest has it as written.
fn field_parsed<T>(value: &Option<String>) -> wasm_metadata::AddMetadataField<T>
where
    T: std::str::FromStr + std::fmt::Debug + Clone,
{
    match value.as_deref().map(str::parse) {
        Some(Ok(value)) => wasm_metadata::AddMetadataField::Set(value),
        _ => wasm_metadata::AddMetadataField::Keep,
    }
}

/// A custom section at the end of the component.
fn append_section(component: &mut Vec<u8>, name: &str, data: &[u8]) {
    use wasm_encoder::{ComponentSection, CustomSection};
    CustomSection {
        name: name.into(),
        data: data.into(),
    }
    .append_to_component(component);
}

/// Adds the compile target with rustup when it is missing; true when it did.
pub fn install_target(dir: &Path) -> Result<bool> {
    if target_installed(dir)? {
        return Ok(false);
    }
    let by_hand = format!("Run `rustup target add {TARGET}`, or install the {TARGET} standard library of your Rust.");
    match Command::new("rustup")
        .args(["target", "add", TARGET])
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
    {
        Ok(output) if output.status.success() => Ok(true),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(Error::plugin(format!(
                "the compile target {TARGET} is missing and rustup cannot add it\n{said}"
            ))
            .hint(by_hand))
        }
        Err(_) => Err(Error::plugin(format!("the compile target {TARGET} is missing")).hint(by_hand)),
    }
}

/// Whether the toolchain that cargo would use in `dir` has the target.
pub fn target_installed(dir: &Path) -> Result<bool> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| no_tool("rustc", &error))?;
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(output.status.success() && Path::new(&path).is_dir())
}

fn cargo(dir: &Path) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(dir).stdin(Stdio::null());
    // A cargo that runs us (`cargo run`, `cargo test`) must not pass on what it set for its own build.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "CARGO_ENCODED_RUSTFLAGS" {
            cargo.env_remove(&*name);
        }
    }
    cargo
}

fn run(command: &mut Command) -> Result<Output> {
    command.output().map_err(|error| no_tool("cargo", &error))
}

fn no_tool(tool: &str, error: &std::io::Error) -> Error {
    Error::plugin(format!("cannot run {tool}: {error}"))
        .hint("Building a plugin needs Rust with cargo, as rustup installs it; a built .wasm file needs neither.")
}

fn build_hint(said: &str) -> String {
    let hint = if said.contains("can't find crate for `std`") || said.contains("may not be installed") {
        "Run `rustup target add wasm32-wasip2`."
    } else if said.contains("failed to select a version") || said.contains("failed to get") || said.contains("offline")
    {
        "A dependency cannot be fetched or resolved; cargo says which one above."
    } else {
        "Mend what cargo says above and run the command again."
    };
    hint.into()
}
