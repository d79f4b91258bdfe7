//! The programs that a build starts, and the environment that they get.
//!
//! cargo, rustc, rustup and git run what the crate says: build scripts, procedural macros, wrappers. All of them get a
//! list of variables that builds need and nothing else, so no key of this process's environment reaches them. A variable
//! whose name looks like that of a secret is never passed, whatever list it is on, nor is one that holds a provider's key.
//!
//! This bounds the environment alone: a build script still reads every file that this user can read. Whether it may run
//! is asked before; see [`BuildRules`](super::BuildRules).

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Stdio};

use super::cargo::no_tool;
use agenthost_core::error::Result;

/// Variables that are passed on as they are.
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
    // Where tools and libraries are.
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
    // The way to the registry.
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

/// Beginnings of names that are passed on.
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

/// What cargo sets for the build of whoever runs this program (`cargo run`, `cargo test`).
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

/// The programs of builds, with the names of variables that none of them sees.
#[derive(Debug, Clone, Default)]
pub(super) struct Tools {
    hidden: BTreeSet<String>,
}

impl Tools {
    pub(super) fn hiding(hidden: BTreeSet<String>) -> Self {
        Self { hidden }
    }

    /// `program` in `dir`, with nothing to read.
    pub(super) fn command(&self, program: impl AsRef<OsStr>, dir: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| self.passes(name)))
            .current_dir(dir)
            .stdin(Stdio::null());
        command
    }

    /// Cargo in `dir`; `target` is the target directory, in place of the one that it would choose.
    pub(super) fn cargo(&self, dir: &Path, target: Option<&Path>) -> Command {
        let mut cargo = self.command("cargo", dir);
        if let Some(target) = target {
            // A source may say in its own configuration where cargo keeps what comes in between.
            cargo
                .env("CARGO_TARGET_DIR", target)
                .env("CARGO_BUILD_BUILD_DIR", target);
        }
        cargo
    }

    /// What the compiler that cargo uses in `dir` prints.
    pub(super) fn rustc(&self, dir: &Path, args: &[&str]) -> Result<String> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
        let mut rustc = self.command(rustc, dir);
        let output = rustc.args(args).output().map_err(|error| no_tool("rustc", &error))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Whether a variable is passed on.
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
