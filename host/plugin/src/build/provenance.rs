//! Collects the facts that [`Provenance`] records: the versions of the tools, and the state of the source in git.
//!
//! Git only reads, and runs neither hooks nor a file system monitor that the repository's configuration specifies.
//! Without git or a commit, no source is recorded.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::super::provenance::{Provenance, Source};
use super::BuildError;
use super::cargo::{Said, run};
use super::compile_target::TARGET;
use super::package::Package;
use super::tools::Tools;
use crate::Digest;

/// Returns the record of the build with this output, as JSON.
pub(super) fn record(tools: &Tools, dir: &Path, package: &Package, said: &Said) -> Result<Vec<u8>, BuildError> {
    let rustc = tools.rustc(dir, &["-vV"])?;
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: "));
    let cargo = run(tools.cargo(dir, None).arg("-V"))?;
    let provenance = Provenance {
        format: Provenance::FORMAT,
        rustc: rustc.lines().next().unwrap_or_default().to_owned(),
        host: host.unwrap_or_default().to_owned(),
        cargo: String::from_utf8_lossy(&cargo.stdout).trim().to_owned(),
        agenthost: env!("CARGO_PKG_VERSION").to_owned(),
        target: TARGET.to_owned(),
        profile: "release".to_owned(),
        lock: std::fs::read(package.root.join("Cargo.lock"))
            .ok()
            .map(|lock| Digest::of(&lock)),
        source: source(tools, dir, package, said),
    };
    serde_json::to_vec(&provenance).map_err(BuildError::Record)
}

/// Returns the commit, and whether the build's input matches it. The input is the crate's directory, the directories of
/// its path dependencies, and the shared files at the workspace's root. Ignored files are not considered, and neither
/// are cargo's output files.
fn source(tools: &Tools, dir: &Path, package: &Package, said: &Said) -> Option<Source> {
    let real = |path: &Path| path.canonicalize().ok();
    let found = git(tools, dir, &["rev-parse", "HEAD", "--show-toplevel", "--show-prefix"])?;
    let mut lines = found.lines();
    let (revision, top) = (lines.next()?, real(Path::new(lines.next()?))?);
    let path = lines.next().unwrap_or_default().trim_end_matches('/');
    let root = real(&package.root)?;
    let shared = [
        "Cargo.toml",
        "Cargo.lock",
        ".cargo",
        "rust-toolchain",
        "rust-toolchain.toml",
    ];
    let mut read: BTreeSet<PathBuf> = shared.iter().map(|name| root.join(name)).collect();
    let dir = &real(dir)?;
    read.insert(dir.clone());
    read.extend(said.local_packages().filter_map(|(_, path)| real(&path)));
    // These options override the configuration.
    let status = [
        "status",
        "--porcelain",
        "--untracked-files=normal",
        "--ignore-submodules=none",
        "--",
    ];
    let mut args: Vec<OsString> = status.map(Into::into).into();
    let mut outside = false;
    for path in read {
        match path.strip_prefix(&top) {
            Ok(below) => args.push(pathspec(":(top,literal)", below)),
            // The revision does not cover paths outside the repository.
            Err(_) => outside |= path.exists(),
        }
    }
    // The target directory is excluded in case it is not ignored, unless the crate is inside it.
    let target = real(&package.target_dir).filter(|target| !root.starts_with(target) && !dir.starts_with(target));
    if let Some(below) = target.as_deref().and_then(|target| target.strip_prefix(&top).ok()) {
        args.push(pathspec(":(top,literal,exclude)", below));
    }
    Some(Source {
        revision: revision.to_owned(),
        path: path.to_owned(),
        dirty: outside || !git(tools, dir, &args)?.is_empty(),
    })
}

fn pathspec(magic: &str, path: &Path) -> OsString {
    let mut spec = OsString::from(magic);
    spec.push(path);
    spec
}

/// Returns git's output in `dir` if it succeeds. Git does not see variables that refer to another repository, which a
/// hook has.
fn git<A: AsRef<std::ffi::OsStr>>(tools: &Tools, dir: &Path, args: &[A]) -> Option<String> {
    let mut git = tools.command("git", dir);
    git.env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C")
        .args([
            "--no-pager",
            "-c",
            "core.fsmonitor=false",
            "-c",
            "core.hooksPath=/dev/null",
        ])
        .args(args);
    let output = git.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}
