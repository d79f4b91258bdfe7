//! Lists the guests, so that a new one needs nothing but its file.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let dir = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let out = env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    let mut modules = String::new();
    for entry in fs::read_dir(&dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let _ = writeln!(modules, "#[path = {path:?}]\nmod {};", name.replace('-', "_"));
        }
    }
    println!("cargo::rerun-if-changed={}", dir.display());
    fs::write(out.join("guests.rs"), modules)
}
