//! Decides which imports a plugin may have, and explains the others.
//!
//! All imports are checked before linking, because a linker reports only the first missing one, and in Rust the first
//! is often a consequence: one `TcpStream` makes the standard library import the file system before the sockets.

use std::fmt;

use agenthost_core::error::{Classify, ErrorClass};

/// An import of a plugin, by its effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Import {
    /// Model calls, typed failures, progress: the plugin contract.
    Contract(String),
    /// A part of WASI that the standard library always needs, linked without effect on anything outside the task.
    Inert(String),
    /// The file system, offered only with a granted directory.
    Files(String),
    /// The task of another plugin: `namespace:name` and the interface version.
    SubAgent(String),
    /// Types of another plugin's task, without any function.
    Types(String),
    /// Not offered.
    Refused(String),
}

/// The interfaces of `wasi` 0.2 that every Rust guest with `std` imports, and that access nothing outside the task.
const INERT: &[&str] = &[
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:random/random",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
];

impl Import {
    /// Classifies one import of a component.
    ///
    /// ```
    /// use agenthost_plugin::Import;
    ///
    /// assert!(Import::classify("agenthost:plugin/llm@0.1.0").is_llm());
    /// assert!(matches!(Import::classify("demo:competitor/task@0.1.0"), Import::SubAgent(_)));
    /// assert!(matches!(Import::classify("wasi:sockets/tcp@0.2.6"), Import::Refused(_)));
    /// ```
    pub fn classify(name: &str) -> Self {
        let (path, version) = name.split_once('@').unwrap_or((name, ""));
        let owned = || name.to_owned();
        match path {
            "agenthost:plugin/types"
            | "agenthost:plugin/llm"
            | "agenthost:plugin/shares"
            | "agenthost:plugin/memory"
            | "agenthost:plugin/progress"
                if is_release(version, "0.1.") =>
            {
                Self::Contract(owned())
            }
            _ if INERT.contains(&path) && is_release(version, "0.2.") => Self::Inert(owned()),
            "wasi:filesystem/types" | "wasi:filesystem/preopens" if is_release(version, "0.2.") => Self::Files(owned()),
            _ if path.ends_with("/task") && !path.starts_with("wasi:") && path != "agenthost:plugin/task" => {
                Self::SubAgent(owned())
            }
            _ => Self::Refused(owned()),
        }
    }

    /// Returns whether the import is the model call.
    pub fn is_llm(&self) -> bool {
        matches!(self, Self::Contract(name) if name.starts_with("agenthost:plugin/llm@"))
    }

    /// Returns whether the import has the functions for documents that a plugin keeps between runs.
    pub fn is_memory(&self) -> bool {
        matches!(self, Self::Contract(name) if name.starts_with("agenthost:plugin/memory@"))
    }

    /// The name of the import in the component.
    pub fn name(&self) -> &str {
        match self {
            Self::Contract(name)
            | Self::Inert(name)
            | Self::Files(name)
            | Self::SubAgent(name)
            | Self::Types(name)
            | Self::Refused(name) => name,
        }
    }

    /// The kind of the import, in one word for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Contract(_) => "contract",
            Self::Inert(_) => "inert",
            Self::Files(_) => "files",
            Self::SubAgent(_) => "sub-agent",
            Self::Types(_) => "types",
            Self::Refused(_) => "refused",
        }
    }

    /// The meaning of the import, in a few words for people.
    pub fn meaning(&self) -> String {
        match self {
            Self::Contract(_) if self.is_llm() => "may call models, within its limits".into(),
            Self::Contract(name) if name.contains("/progress@") => "may report its progress".into(),
            Self::Contract(name) if name.contains("/shares@") => "may divide what is left among its sub-agents".into(),
            Self::Contract(_) if self.is_memory() => {
                "may keep documents between runs, in a directory that it is granted as /memory".into()
            }
            Self::Contract(_) => "shared types".into(),
            Self::Inert(name) => inert_meaning(name).into(),
            Self::Files(_) => "uses files in directories that it is granted; refused without one".into(),
            Self::SubAgent(name) => {
                let plugin = name.split('/').next().unwrap_or(name);
                format!("may start {plugin} as a sub-agent")
            }
            Self::Types(name) => format!("types of {}", name.split('/').next().unwrap_or(name)),
            Self::Refused(name) => format!("not offered: {}", cause(name).0),
        }
    }
}

/// Returns whether a version is a release of the line `line`, such as `0.2.`. A pre-release is another version: no
/// release is compatible with it.
fn is_release(version: &str, line: &str) -> bool {
    let patch = version.strip_prefix(line);
    patch.is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit()))
}

fn inert_meaning(name: &str) -> &'static str {
    match name.split(['/', ':', '@']).nth(1) {
        Some("clocks") => "inert: the clock stands still at the run's start",
        Some("random") => "inert: random numbers from a seed of the task",
        Some("cli") => "inert: no arguments, no environment; output goes to the task's log",
        _ => "inert: streams that the standard library needs",
    }
}

/// The likely cause of a refused import in a Rust plugin, and the fix.
fn cause(name: &str) -> (&'static str, &'static str) {
    let (path, version) = name.split_once('@').unwrap_or((name, ""));
    match path {
        _ if path.starts_with("wasi:") && version.contains('-') => (
            "a pre-release of WASI, which no release of WASI replaces",
            "It was built with tools from before the release: build it with current ones, for wasm32-wasip2.",
        ),
        _ if path.starts_with("wasi:sockets/") => (
            "network sockets (std::net, or a crate such as reqwest, hyper or tokio's net)",
            "A plugin has no network: ask a model through agenthost_sdk instead, and let the operator pass data in as input.",
        ),
        _ if path.starts_with("wasi:http/") => (
            "HTTP requests (a crate such as wstd, waki or an HTTP client)",
            "A plugin has no network: ask a model through agenthost_sdk instead, and let the operator pass data in as input.",
        ),
        _ if path.starts_with("wasi:filesystem/") => (
            "the file system (std::fs, std::env::current_dir, or a crate that reads files)",
            "A plugin sees no files: take the content as part of the input.",
        ),
        _ if path.starts_with("wasi:nn/") => (
            "wasi-nn",
            "Models are called through agenthost_sdk, not through wasi-nn.",
        ),
        _ if path.starts_with("wasi:") => (
            "an interface of WASI that is not part of this host",
            "Build with the target wasm32-wasip2 and without the crate that needs this interface.",
        ),
        _ if path.starts_with("wasi_snapshot_preview1") => {
            ("WASI preview 1", "Build for wasm32-wasip2, not wasm32-wasip1.")
        }
        _ if path.starts_with("agenthost:plugin/") => {
            let what = match name.contains('#') {
                true => "a function that the plugin contract of this host does not have, or has with other types",
                false => "a version of the plugin contract, or an interface of it, that this host does not have",
            };
            (what, OTHER_SDK)
        }
        "env" | "wbg" | "__wbindgen_placeholder__" => (
            "a JavaScript or C environment",
            "Build for wasm32-wasip2, not wasm32-unknown-unknown.",
        ),
        _ => (
            "an interface that no part of this host provides",
            "A plugin may import agenthost:plugin/{llm,memory,progress,shares,types} and the tasks of its declared sub-agents.",
        ),
    }
}

const OTHER_SDK: &str = concat!(
    "The plugin was built with an agenthost-sdk of another version. This host speaks agenthost:plugin@0.1: build the plugin with \
     agenthost-sdk ",
    env!("CARGO_PKG_VERSION"),
    ", or use an agenthost of the version of that SDK."
);

/// The error for a plugin with imports that are not offered. Its text lists each with its likely cause.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportsRefused {
    /// The plugin, as `namespace:name`.
    pub plugin: String,
    /// The refused imports, in the component's order.
    pub imports: Vec<String>,
    /// The crates that cause the imports, if a build has found them.
    pub blame: Option<String>,
}

impl ImportsRefused {
    /// Returns whether a granted directory would be enough to offer the import that explains the others.
    pub fn is_about_files(&self) -> bool {
        matches!(self.main().map(Import::classify), Some(Import::Files(_)))
    }

    /// Returns the import that explains the others: in Rust, sockets bring the file system along.
    fn main(&self) -> Option<&str> {
        self.sockets().or(self.imports.first()).map(String::as_str)
    }

    fn sockets(&self) -> Option<&String> {
        self.imports.iter().find(|name| name.starts_with("wasi:sockets/"))
    }
}

impl fmt::Display for ImportsRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.imports.iter().map(String::as_str).collect();
        let list = listed(&names, |name| {
            match (self.sockets(), name.starts_with("wasi:filesystem/")) {
                (Some(_), true) => "comes with the sockets, in Rust's standard library",
                _ => cause(name).0,
            }
        });
        let imports = match names.len() {
            1 => "1 import that is".to_owned(),
            count => format!("{count} imports that are"),
        };
        write!(f, "the plugin has {imports} not offered:{list}")?;
        match &self.blame {
            Some(blame) => write!(f, "\n{blame}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ImportsRefused {}

impl Classify for ImportsRefused {
    fn class(&self) -> ErrorClass {
        ErrorClass::Denied
    }

    fn hint(&self) -> Option<String> {
        let mut cure = cause(self.main()?).1.to_owned();
        if self.is_about_files() {
            cure += &format!(
                " Or grant it a directory: `dirs = [\"HOST::GUEST\"]` in [grants.\"{}\"].",
                self.plugin
            );
        }
        Some(cure)
    }
}

/// Checks the imports of `plugin` (`namespace:name`). `files` is whether the plugin is granted a directory; `blame`
/// names the crates that cause the imports, if a build has found them.
///
/// ```
/// use agenthost_plugin::{Import, refuse};
///
/// let sockets = Import::classify("wasi:sockets/tcp@0.2.6");
/// let denied = refuse("demo:spider", &[sockets], false, None).unwrap_err();
/// assert_eq!(denied.imports, ["wasi:sockets/tcp@0.2.6"]);
/// ```
///
/// # Errors
///
/// Returns one error for all imports that are refused.
pub fn refuse(plugin: &str, imports: &[Import], files: bool, blame: Option<&str>) -> Result<(), ImportsRefused> {
    let refused = imports.iter().filter(|import| match import {
        Import::Refused(_) => true,
        Import::Files(_) => !files,
        _ => false,
    });
    let refused: Vec<_> = refused.map(|import| import.name().to_owned()).collect();
    match refused.is_empty() {
        true => Ok(()),
        false => Err(ImportsRefused {
            plugin: plugin.to_owned(),
            imports: refused,
            blame: blame.map(str::to_owned),
        }),
    }
}

/// Formats a line for each import; imports with the same cause are grouped, with the cause after the last of them.
fn listed<'c>(names: &[&str], cause: impl Fn(&str) -> &'c str) -> String {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for name in names {
        let cause = cause(name);
        match groups.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, alike)) => alike.push(name),
            None => groups.push((cause, vec![name])),
        }
    }
    let line = |(cause, names): &(&str, Vec<&str>)| format!("\n  {}: {cause}", names.join(",\n  "));
    groups.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(names: &[&str]) -> String {
        let imports: Vec<_> = names.iter().map(|name| Import::classify(name)).collect();
        let error = refuse("demo:reader", &imports, false, None).unwrap_err();
        format!("{error}\nhint: {}", error.hint().unwrap())
    }

    #[test]
    fn the_floor_and_the_contract_pass() {
        let imports = [
            "agenthost:plugin/llm@0.1.0",
            "wasi:cli/environment@0.2.6",
            "wasi:io/streams@0.2.9",
            "demo:competitor/task@0.1.0",
        ]
        .map(Import::classify);
        assert!(refuse("demo:reader", &imports, false, None).is_ok());
        assert!(matches!(imports[3], Import::SubAgent(_)));
    }

    #[test]
    fn other_versions_and_worlds_do_not() {
        for name in [
            "agenthost:plugin/llm@0.2.0",
            "wasi:cli/environment@0.3.0",
            "wasi:cli/environment@0.2.0-rc-2023-11-05",
            "wasi:io/streams@0.2.6-rc.1",
            "wasi:io/streams@0.2.",
            "wasi:filesystem/types@0.2.0-rc-2023-12-05",
            "agenthost:plugin/llm@0.1.0-draft",
            "env",
            "wasi:keyvalue/store@0.2.0",
            "wasi:filesystem/types@0.3.0",
            "wasi:filesystem/other@0.2.6",
        ] {
            assert!(matches!(Import::classify(name), Import::Refused(_)), "{name}");
        }
    }

    #[test]
    fn every_refused_import_is_listed_and_files_are_explained_by_sockets() {
        let text = refusal(&["wasi:filesystem/types@0.2.6", "wasi:sockets/tcp@0.2.6"]);
        assert_eq!(
            text,
            "the plugin has 2 imports that are not offered:\n  \
             wasi:filesystem/types@0.2.6: comes with the sockets, in Rust's standard library\n  \
             wasi:sockets/tcp@0.2.6: network sockets (std::net, or a crate such as reqwest, hyper or tokio's net)\n\
             hint: A plugin has no network: ask a model through agenthost_sdk instead, and let the operator pass data in as input."
        );
    }

    #[test]
    fn what_several_imports_have_in_common_is_said_once() {
        let text = refusal(&[
            "wasi:sockets/network@0.2.6",
            "wasi:filesystem/types@0.2.6",
            "wasi:sockets/tcp@0.2.6",
            "env",
            "wasi:filesystem/preopens@0.2.6",
        ]);
        assert!(
            text.starts_with(
                "the plugin has 5 imports that are not offered:\n  \
                 wasi:sockets/network@0.2.6,\n  \
                 wasi:sockets/tcp@0.2.6: network sockets (std::net, or a crate such as reqwest, hyper or tokio's net)\n  \
                 wasi:filesystem/types@0.2.6,\n  \
                 wasi:filesystem/preopens@0.2.6: comes with the sockets, in Rust's standard library\n  \
                 env: a JavaScript or C environment\nhint: A plugin has no network"
            ),
            "{text}"
        );
    }

    #[test]
    fn files_are_refused_without_a_directory_and_nothing_else_comes_with_one() {
        assert_eq!(
            refusal(&["wasi:filesystem/types@0.2.6"]),
            "the plugin has 1 import that is not offered:\n  \
             wasi:filesystem/types@0.2.6: the file system (std::fs, std::env::current_dir, or a crate that reads files)\n\
             hint: A plugin sees no files: take the content as part of the input. Or grant it a directory: \
             `dirs = [\"HOST::GUEST\"]` in [grants.\"demo:reader\"]."
        );
        let mut imports = ["wasi:filesystem/types@0.2.6", "wasi:filesystem/preopens@0.2.0"]
            .map(Import::classify)
            .to_vec();
        assert!(refuse("demo:reader", &imports, true, None).is_ok());
        imports.push(Import::classify("wasi:sockets/tcp@0.2.6"));
        let error = refuse("demo:reader", &imports, true, None).unwrap_err();
        assert_eq!(error.imports, ["wasi:sockets/tcp@0.2.6"]);
        assert!(
            error.to_string().contains("has 1 import that is not offered"),
            "{error}"
        );
        assert!(!error.is_about_files());
    }
}
