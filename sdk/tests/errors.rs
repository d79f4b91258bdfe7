//! The compiler's errors for modules that `task` refuses, and for functions that are not sub-agents of a model: the files
//! in `ui`, with the expected error beside each line.
//!
//! Each file is compiled once, by the compiler itself, against the library that this test was built with.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use agenthost_sdk::serde_json::{self, Value};

/// Line, marked text, message.
type Said = (u64, String, String);

/// The most recently built library beside this test.
fn library(deps: &Path) -> PathBuf {
    let files = fs::read_dir(deps).unwrap().map(|entry| entry.unwrap().path());
    let library = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("libagenthost_sdk-") && name.ends_with(".rlib")
    };
    let newest = files
        .filter(library)
        .max_by_key(|path| path.metadata().unwrap().modified().unwrap());
    newest.unwrap_or_else(|| panic!("no library in {}", deps.display()))
}

/// Which errors are compared.
#[derive(Clone, Copy, PartialEq)]
enum Errors {
    /// Those without an error code of the compiler: those of the macro.
    OfMacro,
    /// Those of bounds that do not hold, without the type in front, whose name is the compiler's.
    OfBounds,
}

fn said(file: &str, kind: Errors) -> BTreeSet<Said> {
    let test = env::current_exe().unwrap();
    let deps = test.parent().unwrap();
    let output = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args([
            "--edition=2024",
            "--error-format=json",
            "--emit=metadata",
            "--crate-name=ui",
            "-o",
        ])
        .arg(env::temp_dir().join(format!(
            "agenthost-ui-{}-{}",
            std::process::id(),
            file.replace('/', "-")
        )))
        .arg(format!("-Ldependency={}", deps.display()))
        .arg(format!("--extern=agenthost_sdk={}", library(deps).display()))
        .arg(file)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let errors: BTreeSet<Said> = messages
        .filter(|message| message["level"] == "error")
        .filter(|message| match kind {
            Errors::OfMacro => message["code"].is_null(),
            Errors::OfBounds => message["code"]["code"] == "E0277",
        })
        .filter_map(|message| {
            let span = message["spans"]
                .as_array()?
                .iter()
                .find(|span| span["is_primary"] == true)?
                .clone();
            let text = message["message"].as_str()?.lines().next()?;
            let text = match kind {
                Errors::OfMacro => text,
                Errors::OfBounds => text.rsplit("` ").next()?,
            };
            Some((span["line_start"].as_u64()?, marked(&span)?, text.to_owned()))
        })
        .collect();
    assert!(!errors.is_empty(), "{text}");
    errors
}

/// The text that an error marks, which is within one line.
fn marked(span: &Value) -> Option<String> {
    let line: Vec<char> = span["text"][0]["text"].as_str()?.chars().collect();
    let column = |name: &str| usize::try_from(span[name].as_u64()?).ok()?.checked_sub(1);
    Some(
        line.get(column("column_start")?..column("column_end")?)?
            .iter()
            .collect(),
    )
}

/// The errors expected by the `//~` comments.
fn expected(file: &str) -> BTreeSet<Said> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let line = |(number, line): (usize, &str)| {
        let (_, expected) = line.split_once("//~ `")?;
        let (marked, text) = expected.split_once("` ")?;
        Some((number as u64 + 1, marked.to_owned(), text.to_owned()))
    };
    text.lines().enumerate().filter_map(line).collect()
}

fn compare(file: &str, kind: Errors) -> usize {
    let (said, expected) = (said(file, kind), expected(file));
    let missing: Vec<_> = expected.difference(&said).collect();
    let surplus: Vec<_> = said.difference(&expected).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "missing: {missing:#?}\nsurplus: {surplus:#?}"
    );
    said.len()
}

#[test]
fn what_wit_does_not_have_is_refused_where_it_stands() {
    let number = compare("tests/ui/task.rs", Errors::OfMacro);
    assert!(number > 45, "{number}");
}

#[test]
fn a_function_that_a_model_cannot_start_is_not_a_sub_agent() {
    assert_eq!(compare("tests/ui/sub_agent.rs", Errors::OfBounds), 4);
}
