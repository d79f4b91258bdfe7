//! Finds the version of wasmtime in the lock file, for the list of advisories.

use std::path::Path;
use std::{env, fs};

fn main() {
    let root = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let lock = Path::new(&root).join("../../Cargo.lock");
    println!("cargo::rustc-env=AGENTHOST_WASMTIME={}", engine(&lock));
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../../Cargo.lock");
}

/// Returns the version of wasmtime that is compiled in, as the lock file has it; `unknown` without a lock file.
fn engine(lock: &Path) -> String {
    let lock = fs::read_to_string(lock).unwrap_or_default();
    let mut lines = lock.lines().skip_while(|line| *line != "name = \"wasmtime\"").skip(1);
    let version = lines.next().and_then(|line| line.strip_prefix("version = \""));
    version.map_or_else(
        || "unknown".to_owned(),
        |version| version.trim_end_matches('"').to_owned(),
    )
}
