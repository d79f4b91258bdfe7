//! The house in order: which crate may use which library, that no two files import each other, that every module has
//! documentation, and that no guest is forgotten.

mod circles;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use agenthost_tests::guests::{guests, workspace};

/// The libraries that a crate of the host may use alone: the walls that `Cargo.toml` files build.
const WALLS: &[(&str, &[&str])] = &[
    ("wasmtime", &["sandbox"]),
    ("wasmtime-wasi", &["sandbox"]),
    ("reqwest", &["providers", "registry"]),
    ("rusqlite", &["journal"]),
    ("minisign", &["registry"]),
    ("croner", &["config"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("indicatif", &["cli"]),
    ("rpassword", &["cli"]),
    ("tracing-subscriber", &["cli"]),
    ("agenthost-providers", &["agenthost"]),
    ("agenthost-gate", &["agenthost"]),
    ("agenthost", &["cli"]),
];

/// A source file without its tests.
struct Source {
    path: PathBuf,
    /// The crate and its module, as `["providers", "http"]`.
    module: Vec<String>,
    text: String,
}

/// All `.rs` files below `dir`, without tests.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if ["tests", "target"].contains(&stem) {
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
    let root = workspace().join("host");
    let read = |path: PathBuf| {
        let module = path.strip_prefix(&root).unwrap().with_extension("");
        let module = module.iter().map(|part| part.to_str().unwrap().to_owned());
        let module = module.filter(|part| part != "src").collect();
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
    let crates = std::fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path().join("src"));
    let sources: Vec<_> = crates.flat_map(|dir| files(&dir)).map(read).collect();
    assert!(sources.len() > 30, "the sources are found");
    sources
}

#[test]
fn each_library_is_behind_its_wall() {
    let host = workspace().join("host");
    for entry in std::fs::read_dir(host).unwrap() {
        let dir = entry.unwrap().path();
        let name = dir.file_name().unwrap().to_str().unwrap();
        let manifest = std::fs::read_to_string(dir.join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        for library in manifest["dependencies"].as_table().unwrap().keys() {
            let wall = WALLS.iter().find(|(known, _)| known == library);
            assert!(
                wall.is_none_or(|(_, inside)| inside.contains(&name)),
                "agenthost-{name} may not depend on {library}"
            );
        }
    }
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
        "host",
        "sdk/src",
        "sdk/macros/src",
        "tests/src",
        "tests/guests",
        "tests/tests",
        "plugins",
    ];
    let paths = dirs.iter().flat_map(|dir| files(&workspace().join(dir)));
    // A part of other programs, which have their own documentation.
    for path in paths.filter(|path| !path.ends_with("doc/guests.rs")) {
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
    let files_of_guests = std::fs::read_dir(workspace().join("tests/guests")).unwrap();
    let named: BTreeSet<_> = files_of_guests
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".rs")?.to_owned()))
        .collect();
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
