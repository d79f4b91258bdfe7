//! The house in order: who imports what, that every module says what it is for, and that no guest is forgotten.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use agenthost_tests::guests::{guests, workspace};

/// What each part of the host may import of the others. A part that does not stand here fails the test: say what it may
/// import before it does.
const IMPORTS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("limits", &[]),
    ("failpoint", &[]),
    ("llm", &["error", "limits", "plain_file", "printable"]),
    ("plain_file", &[]),
    ("printable", &[]),
    ("process", &[]),
    ("weaken", &[]),
    ("gate", &["llm", "process"]),
    ("journal", &["error", "process"]),
    ("telemetry", &["llm"]),
    ("plugin", &["error", "limits", "plain_file", "value"]),
    ("value", &["error"]),
    ("sandbox", &["error", "limits", "llm", "plugin", "value"]),
    ("config", &["error", "limits", "plain_file", "printable"]),
    (
        "registry",
        &["config", "error", "limits", "plain_file", "plugin", "printable"],
    ),
    ("price", &["config", "error", "limits", "llm"]),
    ("task", &["limits", "sandbox"]),
    ("run", &["limits", "task"]),
    ("batch", &["error", "limits", "printable", "run", "task"]),
    ("cassette", &["error", "journal", "limits", "llm", "plain_file"]),
    (
        "host",
        &[
            "batch",
            "cassette",
            "config",
            "error",
            "gate",
            "journal",
            "limits",
            "llm",
            "plugin",
            "price",
            "registry",
            "run",
            "sandbox",
            "task",
            "telemetry",
            "value",
        ],
    ),
    (
        "cli",
        &[
            "batch",
            "cassette",
            "config",
            "error",
            "gate",
            "host",
            "journal",
            "limits",
            "plugin",
            "price",
            "printable",
            "process",
            "registry",
            "run",
            "sandbox",
            "task",
        ],
    ),
    ("main", &["cli"]),
    ("lib", &[]),
];

/// The concrete providers; `host` alone puts them to use.
const PROVIDERS: [&str; 4] = ["anthropic", "openai", "offline", "script"];

/// A source file without its tests.
struct Source {
    path: PathBuf,
    /// The module, as `["llm", "http"]`.
    module: Vec<String>,
    text: String,
}

impl Source {
    fn part(&self) -> &str {
        &self.module[0]
    }
}

/// All `.rs` files below `dir`, without those that only tests use.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if ["tests", "testing", "scratch", "target"].contains(&stem) {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The text before the tests of the same file.
fn without_tests(text: &str) -> &str {
    let at = text.find("\n#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    &text[..at]
}

/// How many lines there are, but for the examples in the docs: those are tests, too.
fn without_examples(text: &str) -> usize {
    let (mut lines, mut inside) = (0, false);
    for line in text.lines() {
        let line = line.trim_start();
        let doc = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
        let fence = doc.is_some_and(|doc| doc.trim_start().starts_with("```"));
        inside = doc.is_some() && inside != fence;
        lines += usize::from(!inside && !fence);
    }
    lines
}

fn host_sources() -> Vec<Source> {
    let root = workspace().join("host/src");
    let read = |path: PathBuf| {
        let module = path.strip_prefix(&root).unwrap().with_extension("");
        let module = module.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        let text = std::fs::read_to_string(&path).unwrap();
        let code = without_tests(&text)
            .lines()
            .map(|line| line.split("//").next().unwrap());
        Source {
            path,
            module,
            text: code.collect::<Vec<_>>().join("\n"),
        }
    };
    let sources: Vec<_> = files(&root).into_iter().map(read).collect();
    assert!(sources.len() > 30, "the sources are found");
    sources
}

/// Every path in `text` that starts at the crate's root, as `llm::Reply`, with the groups of `use` taken apart.
fn paths(source: &Source) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in source.text.match_indices("crate::") {
        if !source.text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            expand("", &source.text[at + "crate::".len()..], &mut found);
        }
    }
    // So many `super::` that the root is reached.
    let up = "super::".repeat(source.module.len());
    for (at, _) in source.text.match_indices(&up) {
        if !source.text[..at].ends_with("super::") {
            expand("", &source.text[at + up.len()..], &mut found);
        }
    }
    found
}

/// Reads one path, or a group of them, at the start of `text`, and gives what follows.
fn expand<'t>(prefix: &str, text: &'t str, found: &mut BTreeSet<String>) -> &'t str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start_matches([',', ' ', '\n']);
            match rest.strip_prefix('}') {
                Some(after) => return after,
                None => rest = expand(prefix, rest, found),
            }
        }
    }
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_' && c != '*')
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let path = if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}::{name}")
    };
    match rest.strip_prefix("::") {
        Some(more) if more.starts_with(|c: char| c.is_alphabetic() || c == '{' || c == '_' || c == '*') => {
            expand(&path, more, found)
        }
        _ => {
            assert!(
                !name.is_empty(),
                "a path that this test cannot read: {}",
                text.lines().next().unwrap()
            );
            found.insert(path);
            let renamed = rest
                .strip_prefix(" as ")
                .map(|rest| rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'));
            renamed.unwrap_or(rest)
        }
    }
}

#[test]
fn groups_of_imports_are_taken_apart() {
    let text = "use crate::{a, b::{self, C as D, e::F}, g};\nlet x = crate::h::i::<u8>(super::super::j::K);";
    let source = Source {
        path: PathBuf::new(),
        module: vec!["x".into(), "y".into()],
        text: text.to_owned(),
    };
    let found: Vec<_> = paths(&source).into_iter().collect();
    assert_eq!(found, ["a", "b::C", "b::e::F", "b::self", "g", "h::i", "j::K"]);
}

#[test]
fn every_part_imports_only_what_it_may() {
    let mut stray = Vec::new();
    for source in host_sources() {
        let part = source.part();
        let Some((_, allowed)) = IMPORTS.iter().find(|(known, _)| *known == part) else {
            stray.push(format!("{part} does not stand in the table of this test"));
            continue;
        };
        for path in paths(&source) {
            let to = path.split("::").next().unwrap();
            // Any part may ask whether a defence of its own is switched off.
            if to != "weaken" && to != part && !allowed.contains(&to) && IMPORTS.iter().any(|(known, _)| *known == to) {
                stray.push(format!("{}: {part} may not import {path}", source.path.display()));
            }
        }
    }
    assert!(stray.is_empty(), "{}", stray.join("\n"));
}

#[test]
fn wasmtime_is_known_to_the_sandbox_and_the_values_alone() {
    for source in host_sources() {
        let mentions = source.text.lines().find(|line| line.contains("wasmtime"));
        assert!(
            mentions.is_none() || ["sandbox", "value"].contains(&source.part()),
            "{}: {}",
            source.path.display(),
            mentions.unwrap_or_default()
        );
    }
}

#[test]
fn the_host_alone_names_concrete_providers() {
    for source in host_sources() {
        for path in paths(&source) {
            let concrete = PROVIDERS.iter().any(|name| path.starts_with(&format!("llm::{name}")));
            assert!(
                !concrete || ["host", "llm"].contains(&source.part()),
                "{}: {path}",
                source.path.display()
            );
        }
    }
}

#[test]
fn the_command_line_uses_the_public_api_alone() {
    let sources = host_sources();
    // What is visible in the whole crate and not outside of it.
    let mut hidden = BTreeSet::new();
    for source in &sources {
        for (at, found) in source.text.match_indices("pub(crate) ") {
            let rest = &source.text[at + found.len()..];
            if let Some(paths) = rest.strip_prefix("use ") {
                let mut names = BTreeSet::new();
                expand("", paths, &mut names);
                hidden.extend(
                    names
                        .iter()
                        .map(|path| (source.part().to_owned(), last(path).to_owned())),
                );
            } else {
                let kind = [
                    "fn ",
                    "async fn ",
                    "const ",
                    "static ",
                    "struct ",
                    "enum ",
                    "mod ",
                    "type ",
                    "trait ",
                ];
                if let Some(name) = kind.iter().find_map(|kind| rest.strip_prefix(kind)) {
                    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap();
                    hidden.insert((source.part().to_owned(), name[..end].to_owned()));
                }
            }
        }
    }
    assert!(!hidden.is_empty());
    for source in sources.iter().filter(|source| source.part() == "cli") {
        for path in paths(source) {
            let (part, name) = (path.split("::").next().unwrap(), last(&path));
            let found = part != "cli" && hidden.contains(&(part.to_owned(), name.to_owned()));
            assert!(!found, "{}: {path} is not public", source.path.display());
        }
    }
}

fn last(path: &str) -> &str {
    path.rsplit("::").next().unwrap()
}

#[test]
fn what_reaches_a_terminal_goes_through_one_file() {
    // It answers its parent, through a pipe.
    let answers = |source: &Source| source.module == ["sandbox", "compile", "child"];
    let sources = host_sources();
    for source in sources.iter().filter(|source| !answers(source)) {
        let of_terminal = source.module == ["cli", "terminal"];
        let of_help = source.module == ["cli", "output"];
        for line in source.text.lines() {
            let writes = [
                "io::stdout",
                "io::stderr",
                "print!",
                "println!",
                "dbg!",
                "\\x1b",
                "anstream",
            ];
            let stray = writes.iter().find(|word| line.contains(**word));
            let place = || format!("{}: {line}", source.path.display());
            assert!(of_terminal || stray.is_none(), "{}: goes through `terminal`", place());
            // Help is made of definitions alone.
            assert!(of_help || !line.contains("error.print()"), "{}", place());
            // A line that moves is drawn by others, and is one line of printable text.
            assert!(
                !line.contains("set_message(") || line.contains("one_line("),
                "{}",
                place()
            );
        }
    }
}

#[test]
fn every_module_says_what_it_is_for_and_is_short() {
    let dirs = [
        "host/src",
        "sdk/src",
        "sdk/macros/src",
        "tests/src",
        "tests/guests",
        "tests/tests",
        "plugins",
    ];
    for path in dirs.iter().flat_map(|dir| files(&workspace().join(dir))) {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("//! "),
            "{} does not open with what it is for",
            path.display()
        );
        let lines = without_examples(without_tests(&text));
        let is_test = path.starts_with(workspace().join("tests/tests"));
        assert!(
            is_test || lines <= 800,
            "{} has {lines} lines: which contract is missing?",
            path.display()
        );
        assert!(path.file_name().unwrap() != "mod.rs", "{}", path.display());
    }
}

#[test]
fn no_guest_is_forgotten() {
    let dir = workspace().join("tests/guests");
    let manifest: toml::Table = std::fs::read_to_string(dir.join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let examples = manifest["example"].as_array().unwrap();
    let named: BTreeSet<_> = examples
        .iter()
        .map(|example| example["name"].as_str().unwrap().to_owned())
        .collect();

    let sources = files(&dir)
        .into_iter()
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
    assert_eq!(
        sources.filter(|name| name != "lib").collect::<BTreeSet<_>>(),
        named,
        "one example for each file"
    );
    let built: BTreeSet<_> = guests()
        .names()
        .filter(|name| *name != "competitor")
        .map(str::to_owned)
        .collect();
    assert_eq!(built, named);

    let tests = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/all"));
    let tests: String = tests
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    for name in named {
        assert!(
            tests.contains(&format!("guest(\"{name}\")")),
            "no test runs the guest {name}"
        );
    }
}
