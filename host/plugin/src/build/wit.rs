//! Checks a crate's WIT before anything is compiled, so that text that no macro could accept is reported immediately.
//!
//! Only errors that are certain without knowing the code are reported here: text that does not parse, undefined names,
//! and a contract of another version. The macro decides which world is the plugin's. A crate without .wit files
//! directly in `wit/` has its WIT elsewhere, or none.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use wit_parser::PackageName;

use super::super::contract;
use super::super::embedded::{self, WitCause, WitText};
use super::BuildError;

/// Checks the WIT of the crate in `dir`.
pub(super) fn check(dir: &Path) -> Result<(), BuildError> {
    let wit = dir.join("wit");
    let shown = wit.display().to_string();
    let files = texts(&wit, &shown)?;
    if files.is_empty() {
        return Ok(());
    }
    let below = format!("{shown}/deps");
    let mut deps = texts(&wit.join("deps"), &below)?;
    for path in directories(&wit.join("deps")) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        deps.extend(texts(&path, &format!("{below}/{name}"))?);
    }
    for (name, text) in &deps {
        if let Some(version) = copied_contract(text).filter(|version| *version != contract_version()) {
            return Err(BuildError::OtherContract {
                file: name.clone(),
                package: contract::PACKAGE,
                found: version.to_owned(),
                known: contract_version(),
            });
        }
    }
    deps.retain(|(_, text)| copied_contract(text).is_none());
    let text = WitText { format: 1, files, deps };
    match embedded::resolve(&text, &below) {
        Ok(_) => Ok(()),
        Err(error) => Err(BuildError::Wit {
            dir: shown,
            advice: advice(&error.cause, &text),
            problem: error.text,
        }),
    }
}

fn advice(cause: &WitCause, text: &WitText) -> String {
    match cause {
        _ if text.files.iter().all(|(_, text)| package(text).is_none()) => {
            "Begin the file with `package NAMESPACE:NAME@0.1.0;`: it is the plugin's name.".into()
        }
        WitCause::NoPackage(missing) if is_contract(missing) => format!(
            "This host has {}@{}: name that version in `use` and `include`, or use an agenthost of the other version.",
            contract::PACKAGE,
            contract_version()
        ),
        WitCause::NoPackage(missing) => other_version(missing, &text.deps).unwrap_or_else(|| {
            "Declare the plugin that it belongs to under [package.metadata.agenthost.sub-agents] in Cargo.toml, and the build \
             copies its WIT; or put the .wit files into wit/deps/NAME."
                .into()
        }),
        WitCause::NoItem(name) => match meant(name, &text.files) {
            Some(meant) => format!("{PLACE}: {meant}."),
            None => format!("{PLACE}."),
        },
        WitCause::Other => format!("{PLACE}."),
    }
}

const PLACE: &str = "Fix the WIT at the place that is shown";

fn is_contract(package: &PackageName) -> bool {
    contract::PACKAGE.split_once(':') == Some((&package.namespace, &package.name))
}

/// Suggests a correction for a name that does not exist.
fn meant(name: &str, files: &[(String, String)]) -> Option<String> {
    let declared: Vec<&str> = files.iter().flat_map(|(_, text)| declared(text)).collect();
    let interface = match name {
        FAILURE => format!("{}/types@{}", contract::PACKAGE, contract_version()),
        _ if declared.contains(&name) => "INTERFACE".into(),
        _ => {
            let known = declared.into_iter().chain(BUILT_IN.iter().copied()).chain([FAILURE]);
            return agenthost_core::nearest::nearest(name, known).map(|near| format!("the nearest name is `{near}`"));
        }
    };
    Some(format!(
        "`{name}` is of another interface, and `use {interface}.{{{name}}};` brings it here"
    ))
}

/// The type of the contract that every task needs.
const FAILURE: &str = "failure";
/// The types that need no declaration.
const BUILT_IN: &[&str] = &[
    "bool", "char", "f32", "f64", "list", "option", "result", "s8", "s16", "s32", "s64", "string", "tuple", "u8",
    "u16", "u32", "u64",
];

/// The types that WIT text declares, recognized by the start of a line.
fn declared(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let (word, rest) = line.trim_start().split_once(' ')?;
        let names = ["enum", "flags", "record", "resource", "type", "variant"].contains(&word);
        let name = rest.trim_start().trim_start_matches('%');
        let end = name
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .unwrap_or(name.len());
        name.get(..end).filter(|name| names && !name.is_empty())
    })
}

/// Returns a hint if the missing package exists in another version because a sub-agent has changed its interface. The
/// error itself lists only packages that were read before.
fn other_version(missing: &PackageName, deps: &[(String, String)]) -> Option<String> {
    let name = format!("{}:{}", missing.namespace, missing.name);
    let version = missing.version.as_ref()?;
    let known = deps.iter().filter_map(|(_, text)| package(text));
    let known: BTreeSet<_> = known
        .filter(|package| package.split_once('@').is_some_and(|(known, _)| known == name))
        .collect();
    (!known.is_empty()).then(|| {
        format!(
            "The plugin that is declared, or lies in wit/deps, is {known}, and the WIT names {name} at {version}: name {known} in \
             wit/world.wit, and fix what has changed with it.",
            known = known.into_iter().collect::<Vec<_>>().join(" and ")
        )
    })
}

/// The package that `text` declares, as in `demo:competitor@0.1.0`.
fn package(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| line.trim_start().starts_with("package "))?;
    let name = line.trim_start().trim_start_matches("package ");
    name.split(';').next().map(str::trim)
}

/// The version of the contract in `text`; `None` if `text` is not the contract.
fn copied_contract(text: &str) -> Option<&str> {
    package(text)?.strip_prefix(contract::PACKAGE)?.strip_prefix('@')
}

fn contract_version() -> &'static str {
    copied_contract(contract::TEXT).unwrap_or_default()
}

/// Reads the .wit files directly in `dir`, with names that start with `shown`.
fn texts(dir: &Path, shown: &str) -> Result<Vec<(String, String)>, BuildError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|end| end == "wit") && path.is_file() {
            let name = format!("{shown}/{}", entry.file_name().to_string_lossy());
            let text = fs::read_to_string(&path).map_err(|source| BuildError::ReadWit {
                path: name.clone(),
                source,
            })?;
            found.push((name, text));
        }
    }
    found.sort();
    Ok(found)
}

fn directories(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the advice for WIT, with a package `demo:other@0.2.0` in `wit/deps`.
    fn advised(wit: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let deps = dir.path().join("wit/deps/other");
        fs::create_dir_all(&deps).unwrap();
        fs::write(dir.path().join("wit/world.wit"), wit).unwrap();
        let other = "package demo:other@0.2.0;\ninterface task {\n  run: async func(input: u8) -> u8;\n}\n";
        fs::write(deps.join("world.wit"), other).unwrap();
        match check(dir.path()) {
            Err(BuildError::Wit { advice, .. }) => advice,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_mistake_has_its_advice() {
        let task = |body: &str| format!("package demo:x@0.1.0;\n\ninterface task {{\n  {body}\n}}\n");
        let import = |name: &str| format!("package demo:x@0.1.0;\n\nworld x {{\n  import {name};\n}}\n");
        for (wit, advice) in [
            (
                task("run: async func(input strin) -> string;"),
                "Fix the WIT at the place that is shown.",
            ),
            (
                task("run: async func(input: strin) -> string;"),
                "the nearest name is `string`",
            ),
            (
                task("run: async func() -> result<u8, failure>;"),
                "use agenthost:plugin/types@0.1.0.{failure};",
            ),
            (
                "interface task {\n}\n".to_owned(),
                "Begin the file with `package NAMESPACE:NAME@0.1.0;`",
            ),
            (
                import("demo:unknown/task@0.1.0"),
                "Declare the plugin that it belongs to",
            ),
            (
                import("demo:other/task@0.1.0"),
                "name demo:other@0.2.0 in wit/world.wit",
            ),
            (
                import("agenthost:plugin/llm@0.9.0"),
                "This host has agenthost:plugin@0.1.0",
            ),
        ] {
            assert!(advised(&wit).contains(advice), "{wit}: {}", advised(&wit));
        }
    }
}
