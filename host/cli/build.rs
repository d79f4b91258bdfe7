//! Lists the SDK's sources for `agenthost new`, which writes them into a project.
//!
//! In the repository they are next to this crate. In a package of this crate alone they are missing, the list is empty,
//! and a new project takes the SDK of the same version from where this crate came from. The SDK's integration tests are
//! left out, because a plugin does not need them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let variable = |name: &str| env::var_os(name).map(PathBuf::from).unwrap_or_default();
    let root = variable("CARGO_MANIFEST_DIR").join("../..");
    let mut list = "&[\n".to_owned();
    if root.join("sdk/macros/Cargo.toml").is_file() {
        let mut files = ["Cargo.toml", "LICENSE", "rustfmt.toml"]
            .map(|name| root.join(name))
            .to_vec();
        for dir in ["sdk", "sdk/macros"] {
            files.push(root.join(dir).join("Cargo.toml"));
            sources(&root.join(dir).join("src"), &mut files)?;
        }
        files.push(root.join("sdk/macros/plugin.wit"));
        files.sort();
        for file in &files {
            let name = file.strip_prefix(&root).unwrap_or(file);
            let _ = writeln!(list, "    ({name:?}, include_str!({:?})),", file.canonicalize()?);
        }
    }
    list.push(']');
    for changed in ["build.rs", "../../sdk/src", "../../sdk/macros/src"] {
        println!("cargo::rerun-if-changed={changed}");
    }
    fs::write(variable("OUT_DIR").join("sdk.rs"), list)
}

fn sources(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, files)?;
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
