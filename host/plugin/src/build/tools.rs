//! The programs that a build starts, and their environment.
//!
//! cargo, rustc, rustup and git run code that the crate specifies: build scripts, procedural macros, wrappers. They get
//! only a list of variables that builds need, so no key in this process's environment reaches them. A variable whose
//! name looks like that of a secret is never passed, even if it is on the list, nor is one that contains a provider's
//! key.
//!
//! This bounds only the environment: a build script can still read every file that this user can read. Whether it may
//! run is decided before; see [`BuildRules`](super::BuildRules).

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Stdio};

use super::BuildError;
use super::cargo::no_tool;

/// Variables that are passed on unchanged.
const PASSED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "COLUMNS",
    "NO_COLOR",
    "SOURCE_DATE_EPOCH",
    // Locations of tools and libraries.
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "LIBRARY_PATH",
    "CPATH",
    "C_INCLUDE_PATH",
    "CPLUS_INCLUDE_PATH",
    "PKG_CONFIG",
    "PKG_CONFIG_PATH",
    "WASI_SDK_PATH",
    "WASI_SYSROOT",
    "SDKROOT",
    "DEVELOPER_DIR",
    // Compilers and their flags.
    "CC",
    "CXX",
    "AR",
    "LD",
    "RANLIB",
    "CFLAGS",
    "CPPFLAGS",
    "CXXFLAGS",
    "LDFLAGS",
    "MAKEFLAGS",
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_BOOTSTRAP",
    "RUSTDOC",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
    "RUST_BACKTRACE",
    "SCCACHE_DIR",
    "CCACHE_DIR",
    // Access to the registry.
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NIX_SSL_CERT_FILE",
];

/// Prefixes of names that are passed on.
const PASSED_BEGINNINGS: &[&str] = &[
    "CARGO_",
    "RUSTUP_",
    "LC_",
    "XDG_",
    "CC_",
    "CXX_",
    "AR_",
    "CFLAGS_",
    "CXXFLAGS_",
];

/// Variables that cargo sets when it runs this program (`cargo run`, `cargo test`), and that belong to that build.
const OF_ANOTHER_BUILD: &[&str] = &["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_ENCODED_RUSTFLAGS"];

/// Parts of the names of secrets.
const SECRET: &[&str] = &[
    "KEY",
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "CREDENTIAL",
];

/// The programs of builds, with the names of variables that are hidden from all of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Tools {
    hidden: BTreeSet<String>,
}

impl Tools {
    pub(super) fn hiding(hidden: BTreeSet<String>) -> Self {
        Self { hidden }
    }

    /// Returns a command for `program` in `dir`, with empty input.
    pub(super) fn command(&self, program: impl AsRef<OsStr>, dir: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| self.passes(name)))
            .current_dir(dir)
            .stdin(Stdio::null());
        command
    }

    /// Returns a command for cargo in `dir`; `target` replaces the default target directory.
    pub(super) fn cargo(&self, dir: &Path, target: Option<&Path>) -> Command {
        let mut cargo = self.command("cargo", dir);
        if let Some(target) = target {
            // The configuration of a source may specify where cargo keeps intermediate files.
            cargo
                .env("CARGO_TARGET_DIR", target)
                .env("CARGO_BUILD_BUILD_DIR", target);
        }
        cargo
    }

    /// Returns the output of the compiler that cargo uses in `dir`.
    pub(super) fn rustc(&self, dir: &Path, args: &[&str]) -> Result<String, BuildError> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
        let mut rustc = self.command(rustc, dir);
        let output = rustc.args(args).output().map_err(|error| no_tool("rustc", error))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Returns whether a variable is passed on.
    fn passes(&self, name: &OsStr) -> bool {
        let Some(name) = name.to_str() else {
            return false;
        };
        let begins = |beginnings: &[&str]| beginnings.iter().any(|beginning| name.starts_with(beginning));
        let upper = name.to_ascii_uppercase();
        let secret = SECRET.iter().any(|part| upper.contains(part)) || self.hidden.contains(name);
        (PASSED.contains(&name) || begins(PASSED_BEGINNINGS)) && !begins(OF_ANOTHER_BUILD) && !secret
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_get_what_they_need_and_no_secret() {
        let tools = Tools::hiding(BTreeSet::from(["CARGO_MODELS".to_owned()]));
        for name in [
            "PATH",
            "HOME",
            "CARGO_HOME",
            "CARGO_TARGET_DIR",
            "CARGO_NET_OFFLINE",
            "RUSTUP_TOOLCHAIN",
            "RUSTFLAGS",
            "CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS",
            "LC_ALL",
            "https_proxy",
            "CC_wasm32_wasip2",
        ] {
            assert!(tools.passes(OsStr::new(name)), "{name}");
        }
        for name in [
            "ANTHROPIC_API_KEY",
            "OPENAI_API_KEY",
            "CORP_MODELS",
            "CARGO_MODELS",
            "CARGO_REGISTRY_TOKEN",
            "CARGO_REGISTRIES_CORP_TOKEN",
            "XDG_SESSION_SECRET",
            "cargo_x",
            "AWS_SECRET_ACCESS_KEY",
            "GITHUB_TOKEN",
            "AGENTHOST_KEY_PASSWORD",
            "SSH_AUTH_SOCK",
            "CARGO_PKG_NAME",
            "CARGO_MANIFEST_DIR",
            "CARGO_ENCODED_RUSTFLAGS",
            "LD_PRELOAD",
            "MY_VARIABLE",
            "RUSTC_MODELS_KEY",
        ] {
            assert!(!tools.passes(OsStr::new(name)), "{name}");
        }
    }
}
