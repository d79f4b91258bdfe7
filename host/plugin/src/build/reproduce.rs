//! Checks whether a source produces the bytes of a component, and if not, what differs.
//!
//! The answer depends only on whether the bytes are equal. If they are not, the differing parts help to find the cause:
//! other tools or another revision explain all further differences, and only the code affects execution.

use std::path::Path;

use super::super::provenance::Provenance;
use super::super::{custom_sections, embedded, read};
use super::rules::BuildRules;
use super::{BuildError, Form, build_for};

/// The result of a rebuild.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reproduction {
    /// Notes for people about additional actions of the build.
    pub notes: Vec<String>,
    /// The differences, for people, the most significant first; empty if the bytes are equal.
    pub differs: Vec<String>,
}

impl Reproduction {
    /// Returns whether the source produces exactly these bytes.
    pub fn same(&self) -> bool {
        self.differs.is_empty()
    }
}

/// Builds the crate in `dir` and compares the result with a component, without running any part of the component. A
/// component with recorded provenance is compared with a [`release`](super::release), any other with a plain
/// [`build`](super::build).
///
/// Everything is built from scratch, in a temporary directory: cargo reuses files in a target directory if the source
/// seems unchanged, and the author of both could fake that.
///
/// ```no_run
/// // Cargo takes its time, hence not run here.
/// use agenthost_plugin::build;
///
/// let published = std::fs::read("competitor.wasm")?;
/// let found = build::reproduces("plugins/competitor".as_ref(), &published)?;
/// println!("{}", if found.same() { "the same".to_owned() } else { found.differs.join("\n") });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// Returns the errors of [`build`](super::build), and an error of class
/// [`Host`](agenthost_core::error::ErrorClass::Host) if a temporary directory cannot be created. Differing bytes are
/// not an error.
pub fn reproduces(dir: &Path, expected: &[u8]) -> Result<Reproduction, BuildError> {
    BuildRules::any().reproduces(dir, expected)
}

impl BuildRules {
    /// Compares what the crate in `dir` gives with a component as [`reproduces`] does, if it may be built.
    ///
    /// # Errors
    ///
    /// Those of [`reproduces`], and that of the rules.
    pub fn reproduces(&self, dir: &Path, expected: &[u8]) -> Result<Reproduction, BuildError> {
        let recorded = custom_sections::sections(expected, custom_sections::PROVENANCE_SECTION)
            .next()
            .is_some();
        let form = if recorded { Form::Release } else { Form::Plain };
        let target = tempfile::tempdir().map_err(BuildError::Scratch)?;
        let built = build_for(self, dir, &[], form, Some(target.path()))?;
        let differs = differences(expected, &read(&built.path)?);
        let notes = built.notes;
        Ok(Reproduction { notes, differs })
    }
}

/// Returns the differences between a component and the rebuilt one.
fn differences(expected: &[u8], built: &[u8]) -> Vec<String> {
    if expected == built {
        return Vec::new();
    }
    let mut found = Vec::new();
    let provenance = |bytes: &[u8]| embedded::read(bytes).provenance;
    if let (Some(expected), Some(built)) = (provenance(expected), provenance(built)) {
        found.extend(of_provenance(&expected, &built));
    }
    let (expected, built) = (Parts::of(expected), Parts::of(built));
    let mut names: Vec<&str> = expected
        .sections
        .iter()
        .chain(&built.sections)
        .map(|(name, _)| *name)
        .collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let of = |parts: &Parts<'_>| -> Vec<Vec<u8>> {
            let own = parts.sections.iter().filter(|(known, _)| *known == name);
            own.map(|(_, data)| data.to_vec()).collect()
        };
        let what = match (of(&expected), of(&built)) {
            (expected, built) if expected == built => continue,
            (_, built) if built.is_empty() => "is not in what was built",
            (expected, _) if expected.is_empty() => "is only in what was built",
            _ => "differs",
        };
        found.push(format!("the section `{}` {what}", name.escape_debug()));
    }
    if expected.code != built.code {
        found.push("the code differs".into());
    }
    if found.is_empty() {
        found.push("the order of the sections differs".into());
    }
    found
}

fn of_provenance(expected: &Provenance, built: &Provenance) -> Vec<String> {
    let lock = |provenance: &Provenance| {
        provenance
            .lock
            .map_or_else(|| "none".to_owned(), |lock| lock.to_string())
    };
    let rows = [
        ("tools", expected.tools(), built.tools()),
        ("revision", expected.revision(), built.revision()),
        ("Cargo.lock", lock(expected), lock(built)),
    ];
    let differing = rows.into_iter().filter(|(_, expected, built)| expected != built);
    differing
        .map(|(what, expected, built)| format!("{what}: it says {expected}; this is {built}"))
        .collect()
}

/// A component split into its sections.
struct Parts<'b> {
    /// Custom sections at any depth: names and contents.
    sections: Vec<(&'b str, &'b [u8])>,
    /// All other sections, without those that only contain others.
    code: Vec<(u8, &'b [u8])>,
}

impl<'b> Parts<'b> {
    fn of(bytes: &'b [u8]) -> Self {
        use wasmparser::Payload;
        let mut parts = Self {
            sections: Vec::new(),
            code: Vec::new(),
        };
        for payload in wasmparser::Parser::new(0).parse_all(bytes) {
            match payload {
                Ok(Payload::CustomSection(section)) => parts.sections.push((section.name(), section.data())),
                Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => {}
                Ok(payload) => {
                    let section = payload
                        .as_section()
                        .and_then(|(id, range)| Some((id, bytes.get(range)?)));
                    parts.code.extend(section);
                }
                // Not a component. It differs from the rebuilt one in the part that was read so far.
                Err(_) => break,
            }
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::super::append_section;
    use super::*;
    use serde_json::json;

    /// A component with one core module that has this number of types, and these custom sections.
    fn component(types: u32, sections: &[(&str, &[u8])]) -> Vec<u8> {
        use wasm_encoder::{Component, Module, ModuleSection, TypeSection};
        let (mut module, mut section) = (Module::new(), TypeSection::new());
        (0..types).for_each(|_| section.ty().function([], []));
        module.section(&section);
        let mut component = Component::new();
        component.section(&ModuleSection(&module));
        let mut bytes = component.finish();
        for (name, data) in sections {
            append_section(&mut bytes, name, data);
        }
        bytes
    }

    #[test]
    fn what_differs_is_named() {
        let one = component(1, &[("a", b"x"), ("b", b"y")]);
        assert!(differences(&one, &one).is_empty());
        for (other, expected) in [
            (component(2, &[("a", b"x"), ("b", b"y")]), &["the code differs"][..]),
            (component(1, &[("a", b"x"), ("b", b"z")]), &["the section `b` differs"]),
            (
                component(1, &[("a", b"x")]),
                &["the section `b` is not in what was built"],
            ),
            (
                component(1, &[("a", b"x"), ("b", b"y"), ("c", b"")]),
                &["the section `c` is only in what was built"],
            ),
            (
                component(1, &[("b", b"y"), ("a", b"x")]),
                &["the order of the sections differs"],
            ),
            (
                b"no component".to_vec(),
                &[
                    "the section `a` is not in what was built",
                    "the section `b` is not in what was built",
                    "the code differs",
                ],
            ),
        ] {
            assert_eq!(differences(&one, &other), expected);
        }
    }

    #[test]
    fn other_tools_and_another_revision_come_first() {
        let with = |rustc: &str, revision: &str| {
            let record = json!({
                "format": 1, "rustc": rustc, "host": "h", "cargo": "c", "agenthost": "0.1.0", "target": "t",
                "profile": "release", "source": {"revision": revision.repeat(40), "path": "", "dirty": false},
            });
            component(
                1,
                &[(custom_sections::PROVENANCE_SECTION, record.to_string().as_bytes())],
            )
        };
        assert_eq!(
            differences(&with("r1", "a"), &with("r2", "b")),
            [
                "tools: it says r1 on h, c, agenthost 0.1.0; this is r2 on h, c, agenthost 0.1.0".to_owned(),
                format!("revision: it says {}; this is {}", "a".repeat(40), "b".repeat(40)),
                "the section `agenthost:provenance` differs".to_owned(),
            ]
        );
    }
}
