//! Published advisories about the engine, and those that are not fixed in this program.
//!
//! The list is stored in `advisories.toml`, with its source and date, and is checked when a plugin is vetted and by
//! `doctor`. It contains what was known when it was written; nothing is fetched.

use semver::Version;
use serde::Deserialize;

/// One published advisory.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advisory {
    /// The id in the GitHub advisory database.
    pub id: String,
    /// The first release of the line that contains the fix.
    pub fixed: Version,
    /// The subject.
    pub about: String,
    /// The severity as the advisory gives it: `low`, `moderate`, `high` or `critical`; `None` if it is not recorded.
    #[serde(default)]
    pub severity: Option<Severity>,
    /// This project's own rating, from the subject alone; `docs/security.md` has the levels.
    #[serde(default)]
    pub rating: Option<Severity>,
    /// The affected part of the engine.
    part: String,
}

/// The severity of an advisory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Low.
    Low,
    /// Moderate.
    Moderate,
    /// High.
    High,
    /// Critical.
    Critical,
}

impl Severity {
    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Moderate => "moderate",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// A part of the engine, and whether this host uses it.
struct EnginePart {
    name: &'static str,
    used: bool,
    why: &'static str,
}

const fn used(name: &'static str, why: &'static str) -> EnginePart {
    EnginePart { name, used: true, why }
}

const fn unused(name: &'static str, why: &'static str) -> EnginePart {
    EnginePart { name, used: false, why }
}

/// All parts. A test compares the claims about features with the manifest.
const PARTS: &[EnginePart] = &[
    used("components", "every plugin is a component"),
    used(
        "component-async",
        "a plugin is called concurrently; a panic fails the task that it comes from and no other",
    ),
    used("wasi", "every plugin gets the inert part of WASI"),
    used("files", "a plugin with a granted directory can use files"),
    used("no-gc", "the engine is built without its feature `gc`"),
    used("no-threads", "the engine is built without its feature `threads`"),
    EnginePart {
        name: "aarch64",
        used: cfg!(target_arch = "aarch64"),
        why: match cfg!(target_arch = "aarch64") {
            true => "this host runs on aarch64",
            false => "this host does not run on aarch64",
        },
    },
    unused("gc", "garbage collection and exceptions are not compiled in"),
    unused("wasi-http", "wasi-http is not compiled in"),
    unused("sockets", "no plugin can import sockets"),
    unused("preview1", "preview 0 and 1 of WASI are not compiled in"),
    unused("wasip3", "WASI 0.3 is not compiled in"),
    unused("host-streams", "the host gives no stream or future to a plugin"),
    unused("plain-call", "every plugin is called concurrently"),
    unused("async-write-stream", "output and files go through other streams"),
    unused("module-export", "the host does not ask a caller for a module's export"),
];

impl Advisory {
    /// Returns the address of the advisory.
    pub fn link(&self) -> String {
        format!(
            "https://github.com/bytecodealliance/wasmtime/security/advisories/{}",
            self.id
        )
    }

    /// Returns whether this host uses the part of the engine that the advisory is about.
    pub fn affects_this_host(&self) -> bool {
        self.engine_part().is_none_or(|part| part.used)
    }

    /// Returns why it affects this host, or why it does not.
    pub fn why(&self) -> &'static str {
        self.engine_part().map_or("not assessed yet", |part| part.why)
    }

    fn engine_part(&self) -> Option<&'static EnginePart> {
        PARTS.iter().find(|part| part.name == self.part)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    /// The release line of the entries.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the list says it to its reader, and a test checks it")
    )]
    line: String,
    /// The date when the sources were read.
    read: String,
    #[serde(rename = "advisory")]
    advisories: Vec<Advisory>,
}

fn list() -> Option<List> {
    toml::from_str(include_str!("advisories.toml")).ok()
}

/// The version of the engine in this program.
const VERSION: &str = env!("AGENTHOST_WASMTIME");

/// Returns the name and version of the engine in this program, such as `wasmtime 48.0.8`.
pub fn engine() -> String {
    format!("wasmtime {VERSION}")
}

/// Returns the date of the list.
pub fn read() -> String {
    list().map(|list| list.read).unwrap_or_default()
}

/// Returns the advisories that are not fixed in this program's engine.
pub fn open() -> Vec<Advisory> {
    open_in(VERSION)
}

fn open_in(engine: &str) -> Vec<Advisory> {
    let mut advisories = list().map(|list| list.advisories).unwrap_or_default();
    // For an engine with an unknown version, every advisory is open.
    let Ok(engine) = engine.parse::<Version>() else {
        return advisories;
    };
    advisories.retain(|advisory| advisory.fixed > engine);
    advisories
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sound_and_of_this_engine() {
        let list = list().expect("advisories.toml is read");
        assert!(
            VERSION.starts_with(&format!("{}.", list.line)),
            "{VERSION} {}",
            list.line
        );
        assert!(!list.advisories.is_empty());
        for advisory in &list.advisories {
            assert!(advisory.id.starts_with("GHSA-"), "{advisory:?}");
        }
    }

    #[test]
    fn each_says_whether_this_host_is_affected() {
        for advisory in list().unwrap().advisories {
            assert!(
                advisory.engine_part().is_some(),
                "{}: no part is named {}",
                advisory.id,
                advisory.part
            );
        }
        let says = |id: &str| {
            let mut all = list().unwrap().advisories.into_iter();
            let found = all.find(|advisory| advisory.id.starts_with(id)).unwrap();
            (found.affects_this_host(), found.why())
        };
        assert!(!says("GHSA-f8mm").0 && says("GHSA-f8mm").1.contains("wasi-http"));
        assert!(!says("GHSA-43j2").0 && says("GHSA-rc4p").0 && says("GHSA-xrvr").0);
    }

    /// The manifest confirms the claims about parts that are not compiled in.
    #[test]
    fn the_parts_are_those_of_the_manifest() {
        let manifest: toml::Table = include_str!("../../../Cargo.toml").parse().unwrap();
        let features = |name: &str| -> Vec<String> {
            let dependency = &manifest["workspace"]["dependencies"][name];
            assert_eq!(dependency["default-features"].as_bool(), Some(false), "{name}");
            let features = dependency["features"].as_array().unwrap();
            features
                .iter()
                .map(|feature| feature.as_str().unwrap().to_owned())
                .collect()
        };
        let engine = features("wasmtime");
        for (feature, compiled) in [
            ("component-model", true),
            ("component-model-async", true),
            ("gc", false),
            ("gc-drc", false),
            ("threads", false),
            ("winch", false),
        ] {
            assert_eq!(engine.iter().any(|named| named == feature), compiled, "{feature}");
        }
        assert_eq!(features("wasmtime-wasi"), ["p2"]);
        let lock = include_str!("../../../Cargo.lock");
        assert!(lock.contains("name = \"wasmtime-wasi\"") && !lock.contains("name = \"wasmtime-wasi-http\""));
        assert!(!lock.contains("name = \"wasmtime-internal-winch\""));
    }

    #[test]
    fn what_is_fixed_later_is_open() {
        let all = list().unwrap().advisories.len();
        assert_eq!(open_in("48.0.0").len(), all);
        assert_eq!(open_in("49.0.0").len(), 0);
        assert!(open().iter().all(|advisory| advisory.fixed > VERSION.parse().unwrap()));
    }
}
