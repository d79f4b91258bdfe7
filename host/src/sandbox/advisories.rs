//! Published advisories on the engine, and which of them this program has not taken up.
//!
//! The list stands in `advisories.toml`, with its source and date; it is looked at when a plugin is vetted, and by `doctor`. It
//! knows what was known when it was written, and nothing is fetched.

use semver::Version;
use serde::Deserialize;

/// One published advisory.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advisory {
    /// Its id in the GitHub advisory database.
    pub id: String,
    /// The first release of the line that has the fix.
    pub fixed: Version,
    /// What it is about.
    pub about: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    /// The release line that the entries are about.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the list says it to its reader, and a test checks it")
    )]
    line: String,
    /// When the sources were read.
    read: String,
    #[serde(rename = "advisory")]
    advisories: Vec<Advisory>,
}

fn list() -> Option<List> {
    toml::from_str(include_str!("advisories.toml")).ok()
}

/// The version of the engine in this program.
const VERSION: &str = env!("AGENTHOST_WASMTIME");

/// The engine in this program, with its version: `wasmtime 48.0.8`, say.
pub fn engine() -> String {
    format!("wasmtime {VERSION}")
}

/// When the list was brought up to date.
pub fn read() -> String {
    list().map(|list| list.read).unwrap_or_default()
}

/// The advisories that this program's engine has not taken up.
pub fn open() -> Vec<Advisory> {
    open_in(VERSION)
}

fn open_in(engine: &str) -> Vec<Advisory> {
    let mut advisories = list().map(|list| list.advisories).unwrap_or_default();
    // Of an engine that nobody knows, every one is open.
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
    fn what_is_fixed_later_is_open() {
        let all = list().unwrap().advisories.len();
        assert_eq!(open_in("48.0.0").len(), all);
        assert_eq!(open_in("49.0.0").len(), 0);
        assert!(open().iter().all(|advisory| advisory.fixed > VERSION.parse().unwrap()));
    }
}
