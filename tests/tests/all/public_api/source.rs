//! Reads the public items of a crate from its source, line by line, as rustfmt leaves it.

use std::collections::BTreeMap;
use std::path::Path;

/// Features that no build of the product has.
const TEST_FEATURES: [&str; 3] = ["failpoints", "fuzzing", "weaken"];

/// A module and the modules below it.
#[derive(Default)]
pub(super) struct Module {
    pub(super) items: Vec<Item>,
    pub(super) below: BTreeMap<String, Self>,
}

/// One item of a module. `head` is its text up to the body, on one line; `body` has the lines of the body.
pub(super) struct Item {
    pub(super) notes: String,
    pub(super) head: String,
    pub(super) body: Vec<String>,
}

impl Item {
    /// Returns what the item is and its name, such as `fn` and `load`.
    pub(super) fn kind_and_name(&self) -> (&str, &str) {
        let mut words = self
            .head
            .split_whitespace()
            .filter(|word| !["pub", "async"].contains(word));
        let (mut kind, mut name) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if kind == "const" && name == "fn" {
            (kind, name) = ("fn", words.next().unwrap_or(""));
        }
        let end = name.find(|c: char| !c.is_alphanumeric() && c != '_');
        (kind, &name[..end.unwrap_or(name.len())])
    }

    pub(super) fn is_public(&self) -> bool {
        self.head.starts_with("pub ")
    }
}

/// Reads the module in `file`, whose own modules are in `dir`.
pub(super) fn read(file: &Path, dir: &Path) -> Module {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    module(items(&lines), dir)
}

fn module(items: Vec<Item>, dir: &Path) -> Module {
    let mut module = Module::default();
    for item in items {
        if let ("mod", name) = item.kind_and_name() {
            let (name, below) = (name.to_owned(), dir.join(name));
            let below = match item.head.ends_with(';') {
                true => read(&below.with_extension("rs"), &below),
                false => self::module(self::items(&item.body), &below),
            };
            module.below.insert(name, below);
        }
        module.items.push(item);
    }
    module
}

/// Splits lines into items, without those that the documentation hides or that only tests have.
pub(super) fn items(lines: &[String]) -> Vec<Item> {
    let (mut found, mut attributes) = (Vec::new(), String::new());
    let mut lines = lines.iter().map(String::as_str).peekable();
    while let Some(line) = lines.next() {
        if line.is_empty() || line.starts_with("//") || line.starts_with("#![") {
            continue;
        }
        if line.starts_with("#[") {
            let mut line = line.to_owned();
            while !line.ends_with(']') {
                line.push_str(lines.next().unwrap_or("]").trim());
            }
            attributes.push_str(&line);
            attributes.push(' ');
            continue;
        }
        let mut head = line.to_owned();
        let (mut body, mut open) = (Vec::new(), line.ends_with('{'));
        // Heads over several lines, such as long signatures, and lists in braces.
        let is_use = head.contains("use ");
        while !(is_end(&head) || (open && !is_use)) {
            let Some(next) = lines.next() else { break };
            if !head.ends_with(['(', '{', '<']) && !next.trim().starts_with([')', '>']) {
                head.push(' ');
            }
            head.push_str(next.trim());
            open = next.ends_with('{');
        }
        if open && !is_use {
            for inner in lines.by_ref() {
                if inner.starts_with('}') {
                    break;
                }
                body.push(inner.strip_prefix("    ").unwrap_or(inner).to_owned());
            }
        }
        let attributes = std::mem::take(&mut attributes);
        let tests = TEST_FEATURES
            .iter()
            .any(|feature| attributes.contains(&format!("cfg(feature = \"{feature}\")")));
        if tests || attributes.contains("doc(hidden)") || attributes.contains("cfg(test)") {
            continue;
        }
        let head = head
            .trim_end_matches('{')
            .trim_end()
            .replace(",)", ")")
            .replace(", )", ")");
        let notes = notes(&attributes);
        found.push(Item { notes, head, body });
    }
    found
}

/// Returns whether a head is complete and has no body. A comma ends a field or a variant.
fn is_end(head: &str) -> bool {
    let with_body = ["fn ", "impl", "struct ", "enum ", "trait "]
        .iter()
        .any(|word| head.split("pub ").any(|part| part.starts_with(word)) || head.contains(" fn "));
    head.ends_with(';') || head.ends_with('}') || (head.ends_with(',') && balanced(head) && !with_body)
}

fn balanced(text: &str) -> bool {
    let count = |open, close| text.matches(open).count() == text.matches(close).count();
    count('(', ')') && count('{', '}') && count('[', ']')
}

/// Returns the attributes that belong to a promise.
fn notes(attributes: &str) -> String {
    let kept = attributes.split_inclusive("] ").filter(|attribute| {
        ["#[derive(", "#[non_exhaustive]"]
            .iter()
            .any(|start| attribute.starts_with(start))
    });
    kept.collect()
}
