//! Checks a crate's WIT before anything is compiled, so that text that no macro could accept is reported immediately.
//!
//! Only errors that are certain without knowing the code are reported here: text that does not parse, undefined names,
//! and a contract of another version. The macro decides which world is the plugin's. A crate without .wit files
//! directly in `wit/` has its WIT elsewhere, or none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use wit_parser::{PackageName, Resolve, Type, TypeDefKind, TypeId};

use super::super::contract;
use super::super::embedded::{self, WitCause, WitText, declared_package as package};
use super::BuildError;

/// Checks the WIT of the crate in `dir`, also against its code.
pub(super) fn check(dir: &Path) -> Result<(), BuildError> {
    let Some((resolve, text)) = resolved(dir)? else {
        return Ok(());
    };
    let code = fs::read_to_string(dir.join("src/lib.rs")).unwrap_or_default();
    match mismatch(&resolve, &text, &code) {
        None => Ok(()),
        Some((problem, advice)) => Err(BuildError::Wit {
            dir: dir.join("wit").display().to_string(),
            problem,
            advice,
        }),
    }
}

/// Checks the WIT of the crate in `dir`, whose text is copied to another crate.
pub(super) fn check_text(dir: &Path) -> Result<(), BuildError> {
    resolved(dir).map(|_| ())
}

/// Resolves the WIT of the crate in `dir`. `None` if it has no .wit files directly in `wit/`.
fn resolved(dir: &Path) -> Result<Option<(Resolve, WitText)>, BuildError> {
    let wit = dir.join("wit");
    let shown = wit.display().to_string();
    let files = texts(&wit, &shown)?;
    if files.is_empty() {
        return Ok(None);
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
        Ok(resolve) => Ok(Some((resolve, text))),
        Err(error) => Err(BuildError::Wit {
            dir: shown,
            advice: misnamed(&error.text, &text)
                .or_else(|| keyword(&error.text))
                .or_else(|| twice(&error.text, &text))
                .unwrap_or_else(|| advice(&error.cause, &text)),
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

/// Returns the advice for a word of WIT that is used as a name.
fn keyword(problem: &str) -> Option<String> {
    let (_, rest) = problem.lines().next()?.split_once(", found keyword `")?;
    let word = rest.split('`').next()?;
    let is_name = problem.starts_with("expected an identifier");
    is_name.then(|| format!("`{word}` is a word of WIT: as a name, write `%{word}`. In Rust, it has Rust's own form."))
}

/// Returns the advice for a package that is in two directories of `wit/deps`, of which one has another name.
fn twice(problem: &str, text: &WitText) -> Option<String> {
    problem
        .contains("is defined in two different locations")
        .then_some(())?;
    let mut places: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (file, text) in &text.deps {
        let (dir, _) = file.rsplit_once('/')?;
        places.entry(package(text)?).or_default().insert(dir);
    }
    let (package, dirs) = places.into_iter().find(|(_, dirs)| dirs.len() > 1)?;
    let name = package.split('@').next()?;
    let short = name.rsplit(':').next()?;
    let (own, others): (Vec<&str>, Vec<&str>) = dirs.into_iter().partition(|dir| dir.rsplit('/').next() == Some(short));
    let (own, other) = (own.first()?, others.first()?);
    Some(format!(
        "Delete {other}: {own} has the same plugin, under its own name."
    ))
}

/// Returns the advice for a name with upper case or underscores, which the parser reports by its first wrong character.
fn misnamed(problem: &str, text: &WitText) -> Option<String> {
    let place = problem
        .strip_prefix("invalid character in identifier")?
        .split_once("--> ")?
        .1;
    let mut parts = place.lines().next()?.rsplitn(3, ':');
    let (column, line) = (
        parts.next()?.parse::<usize>().ok()?,
        parts.next()?.parse::<usize>().ok()?,
    );
    let file = parts.next()?;
    let (_, text) = text.files.iter().chain(&text.deps).find(|(name, _)| name == file)?;
    let rest = text.lines().nth(line.checked_sub(1)?)?.get(column.checked_sub(1)?..)?;
    let rest = rest.trim_start_matches('%');
    let end = rest
        .find(|c: char| !c.is_alphanumeric() && c != '-' && c != '_')
        .unwrap_or(rest.len());
    let name = rest.get(..end).filter(|name| name.is_ascii() && !name.is_empty())?;
    Some(format!(
        "Names in WIT are lowercase words with dashes between them: write `{}`. In Rust, it has Rust's own form.",
        kebab(name)
    ))
}

/// Returns a name in the form of WIT: `max-items` for `maxItems`, `MaxItems` and `max_items`.
fn kebab(name: &str) -> String {
    let mut kebab = String::new();
    let mut before_lower = false;
    for c in name.chars() {
        if c == '_' || c == '-' || (c.is_ascii_uppercase() && before_lower) {
            kebab.push('-');
        }
        if c != '_' && c != '-' {
            kebab.push(c.to_ascii_lowercase());
        }
        before_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
    }
    let words = kebab.split('-').filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

/// Returns the problem and the advice if `run` of the interface `task` cannot be the function `run` of the code: the
/// macro would report a mismatch of types that are not in the author's text.
fn mismatch(resolve: &Resolve, text: &WitText, code: &str) -> Option<(String, String)> {
    let own = text.files.iter().find_map(|(_, text)| package(text))?;
    let (_, own) = resolve
        .packages
        .iter()
        .find(|(_, package)| package.name.to_string() == own)?;
    let task = own.interfaces.get("task").and_then(|id| resolve.interfaces.get(*id))?;
    if task.types.contains_key("self") {
        return Some((
            "the interface `task` has a type `self`, which would be `Self` in Rust".to_owned(),
            "Give the type another name.".to_owned(),
        ));
    }
    let run = task.functions.get("run")?;
    let signature = signature(code)?;
    let is_async = run.kind.is_async();
    if is_async != signature.is_async {
        return Some(match is_async {
            false => (
                "`run` of the interface `task` is not `async`, and the function `run` in src/lib.rs is".to_owned(),
                "Write `run: async func(…) -> …` in wit/: a task that calls models or sub-agents is async.".to_owned(),
            ),
            true => (
                "`run` of the interface `task` is `async`, and the function `run` in src/lib.rs is not".to_owned(),
                "Write `async fn run` in src/lib.rs.".to_owned(),
            ),
        });
    }
    let result = match run.result {
        Some(Type::Id(id)) => matches!(resolve.types.get(dealias(resolve, id))?.kind, TypeDefKind::Result(_)),
        _ => false,
    };
    (!result && signature.gives_result).then(|| {
        (
            "`run` of the interface `task` has no `result<…>`, and the function `run` in src/lib.rs returns a `Result`"
                .to_owned(),
            "Write `-> result<OUTPUT, failure>` in wit/, with `use agenthost:plugin/types@0.1.0.{failure};` in the \
             interface: so a task can fail."
                .to_owned(),
        )
    })
}

/// Returns the type behind an alias.
fn dealias(resolve: &Resolve, mut id: TypeId) -> TypeId {
    while let Some(TypeDefKind::Type(Type::Id(next))) = resolve.types.get(id).map(|ty| &ty.kind) {
        id = *next;
    }
    id
}

/// The parts of the signature of `run` in the code that are compared with the WIT.
struct Signature {
    is_async: bool,
    gives_result: bool,
}

fn signature(code: &str) -> Option<Signature> {
    // Without `plugin!`, the WIT is not that of the function.
    code.contains("plugin!(").then_some(())?;
    let mut rest = code;
    let (before, after) = loop {
        let (before, after) = rest.split_once("fn run(")?;
        let line = before.rsplit('\n').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        if line.starts_with(|c: char| !c.is_whitespace()) && words.iter().all(|word| ["async", "pub"].contains(word))
            || line.is_empty()
        {
            break (line, after);
        }
        rest = after;
    };
    // Only the first line of the signature is read: a result on a later line is not compared.
    let head = after.lines().next()?;
    let returned = head
        .split_once("->")
        .map(|(_, returned)| returned.trim_start())
        .unwrap_or_default();
    Some(Signature {
        is_async: before.contains("async"),
        gives_result: returned.starts_with("Result<"),
    })
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

    /// Returns the problem and the advice for the function of an interface and of the code; `None` without a problem.
    fn compared(run: &str, code: &str) -> Option<(String, String)> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("wit")).unwrap();
        fs::create_dir_all(dir.path().join("src")).unwrap();
        let wit = format!("package demo:x@0.1.0;\ninterface task {{\n  {run}\n}}\nworld x {{ export task; }}\n");
        fs::write(dir.path().join("wit/world.wit"), wit).unwrap();
        fs::write(
            dir.path().join("src/lib.rs"),
            format!("agenthost_sdk::plugin!();\n\n{code}\n"),
        )
        .unwrap();
        match check(dir.path()) {
            Ok(()) => None,
            Err(BuildError::Wit { problem, advice, .. }) => Some((problem, advice)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_function_that_the_code_cannot_have_is_explained() {
        let code = "async fn run(input: String) -> Result<String, Failure> { Ok(input) }";
        let plain = "pub fn run(input: String) -> Result<String, String> { Ok(input) }";
        let fine = "run: async func(input: string) -> result<string, string>;";
        for (run, code, expected) in [
            (fine, code, None),
            (
                fine,
                "async fn run(\n    input: String,\n) -> Result<String, String> {\n}",
                None,
            ),
            ("run: func(input: string) -> result<string, string>;", plain, None),
            (
                "run: async func(input: string) -> string;",
                "async fn run(input: String) -> String { input }",
                None,
            ),
            (
                "type done = result<string, string>; run: async func(input: string) -> done;",
                code,
                None,
            ),
            (fine, "mod x { async fn run(a: u8) {} }", None),
            (
                "run: func(input: string) -> result<string, string>;",
                code,
                Some(("is not `async`", "run: async func(")),
            ),
            (fine, plain, Some(("is `async`", "`async fn run`"))),
            (
                "run: async func(input: string) -> string;",
                code,
                Some(("has no `result<…>`", "-> result<OUTPUT, failure>")),
            ),
            (
                "run: async func(input: string);",
                code,
                Some(("has no `result<…>`", "so a task can fail")),
            ),
            (
                "record %self { a: u8 } run: async func(input: string) -> string;",
                "",
                Some(("a type `self`", "another name")),
            ),
        ] {
            let found = compared(run, code);
            match (expected, &found) {
                (None, None) => {}
                (Some((problem, advice)), Some(found)) => {
                    assert!(
                        found.0.contains(problem) && found.1.contains(advice),
                        "{run}: {found:?}"
                    );
                }
                _ => panic!("{run}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_package_in_two_directories_is_named_with_the_one_to_delete() {
        let dir = tempfile::tempdir().unwrap();
        let wit = dir.path().join("wit");
        for place in ["deps/sub", "deps/other"] {
            fs::create_dir_all(wit.join(place)).unwrap();
            let text = "package demo:sub@0.1.0;\ninterface task {\n  run: async func(input: u8) -> u8;\n}\n";
            fs::write(wit.join(place).join("world.wit"), text).unwrap();
        }
        let world = "package demo:x@0.1.0;\n\nworld x {\n  import demo:sub/task@0.1.0;\n}\n";
        fs::write(wit.join("world.wit"), world).unwrap();
        let Err(BuildError::Wit { advice, .. }) = check(dir.path()) else {
            panic!("the package is there twice");
        };
        let deps = wit.join("deps");
        assert_eq!(
            advice,
            format!(
                "Delete {0}/other: {0}/sub has the same plugin, under its own name.",
                deps.display()
            )
        );
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
                task("record leaf { max_items: u8 }"),
                "Names in WIT are lowercase words with dashes between them: write `max-items`.",
            ),
            (task("record leaf { type: string }"), "as a name, write `%type`."),
            (task("enum record { a }"), "as a name, write `%record`."),
            (task("record BigLeaf { a: u8 }"), "write `big-leaf`."),
            (task("enum leaf { darkGreen }"), "write `dark-green`."),
            (task("run: async func(theInput: u8) -> u8;"), "write `the-input`."),
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
