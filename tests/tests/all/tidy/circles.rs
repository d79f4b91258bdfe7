//! No two files of a crate import each other, directly or through others.
//!
//! A file imports another if it names an item of it by a path: after `use`, or in the code with `crate::`, `self::`,
//! `super::` or the name of a child module in front. An item that a file only passes on (`pub use`) is an import of the
//! file that defines it. Limits of this reading: a path through a glob import ends at the file with the glob, a call of a
//! method is not seen, and an inline module is a part of its file. Tests do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{files, without_tests};
use agenthost_tests::guests::workspace;

/// Circles that are still there: the sources of a crate, and the files. A circle with any other file fails.
const KNOWN: &[(&str, &[&str])] = &[];

/// The path of a module below the root of its crate.
type Module = Vec<String>;

/// The files of one crate, by their modules.
struct Crate {
    files: BTreeMap<Module, SourceFile>,
}

/// A file with the paths that it names.
struct SourceFile {
    path: PathBuf,
    /// The paths after `use`, by the names that they bring into scope.
    imports: BTreeMap<String, Module>,
    /// All paths of the code.
    named: Vec<Module>,
}

/// Splits code into identifiers, `::` and single signs; comments, strings and characters are left out.
fn tokens(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(raw) = ["r\"", "r#\"", "r##\"", "br\"", "br#\""]
            .iter()
            .find(|raw| rest.starts_with(**raw))
        {
            let end = raw.trim_start_matches(['b', 'r']).chars().rev().collect::<String>();
            raw.len() + rest[raw.len()..].find(&end).map_or(0, |at| at + end.len())
        } else if first == '"' {
            1 + quoted(&rest[1..])
        } else if first == '\'' {
            character(rest)
        } else if word(first) {
            rest.find(|c| !word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(len);
        if word(first) && !token.contains('"')
            || token == "::"
            || (len == first.len_utf8() && first.is_ascii_punctuation())
        {
            found.push(token);
        }
        rest = after;
    }
    found
}

/// Returns the length of a string up to its closing quote.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Returns the length of a character, or of the mark of a lifetime.
fn character(text: &str) -> usize {
    let inner = &text[1..];
    if inner.starts_with('\\') {
        return inner[2..].find('\'').map_or(1, |at| at + 4);
    }
    let first = inner.chars().next().map_or(0, char::len_utf8);
    if inner[first..].starts_with('\'') { first + 2 } else { 1 }
}

/// Reads a path, or a tree of them in braces, and returns where it ends. Each path comes with the name that it brings
/// into scope.
fn tree(tokens: &[&str], mut at: usize, prefix: &[&str], found: &mut Vec<(String, Vec<String>)>) -> usize {
    let mut path = prefix.to_vec();
    while let Some(token) = tokens.get(at) {
        match *token {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| *token != "}") {
                    at = tree(tokens, at, &path, found);
                    at += usize::from(tokens.get(at) == Some(&","));
                }
                return at + 1;
            }
            "self" if !path.is_empty() => {}
            "*" if !path.is_empty() => {}
            word if word.starts_with(|c: char| c.is_alphabetic() || c == '_') => path.push(word),
            _ => break,
        }
        at += 1;
        if tokens.get(at) != Some(&"::") {
            break;
        }
        at += 1;
    }
    let mut name = path.last().copied().unwrap_or_default();
    if let (Some(&"as"), Some(alias)) = (tokens.get(at), tokens.get(at + 1)) {
        name = alias;
        at += 2;
    }
    found.push((name.to_owned(), path.iter().map(|part| (*part).to_owned()).collect()));
    at
}

/// Makes a path absolute; `None` if it leads to another crate.
fn absolute(module: &[String], path: &[String], is_child: impl Fn(&str) -> bool) -> Option<Module> {
    let mut base = module.to_vec();
    let mut parts = path.iter().peekable();
    match parts.peek().map(|part| part.as_str())? {
        "crate" => {
            base.truncate(1);
            parts.next();
        }
        "self" => {
            parts.next();
        }
        "super" => {}
        child if is_child(child) => {}
        _ => return None,
    }
    while parts.next_if(|part| *part == "super").is_some() {
        base.pop();
    }
    base.extend(parts.cloned());
    Some(base)
}

fn read(path: PathBuf, module: &[String], text: &str, is_child: impl Fn(&str) -> bool) -> SourceFile {
    let tokens = tokens(text);
    let mut file = SourceFile {
        path,
        imports: BTreeMap::new(),
        named: Vec::new(),
    };
    let mut passed_on = Vec::new();
    let mut words: BTreeSet<&str> = BTreeSet::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let before = at.checked_sub(1).and_then(|before| tokens.get(before)).copied();
        let mut found = Vec::new();
        if *token == "use" {
            let is_public = before.is_some_and(|before| before == "pub" || before == ")");
            at = tree(&tokens, at + 1, &[], &mut found);
            for (name, path) in found {
                let Some(path) = absolute(module, &path, &is_child) else {
                    continue;
                };
                file.imports.insert(name.clone(), path.clone());
                match is_public {
                    true => passed_on.push((name, path)),
                    false => file.named.push(path),
                }
            }
            continue;
        }
        let starts = matches!(*token, "crate" | "self" | "super") || is_child(token);
        if starts && before != Some("::") && tokens.get(at + 1) == Some(&"::") {
            at = tree(&tokens, at, &[], &mut found);
            file.named
                .extend(found.iter().filter_map(|(_, path)| absolute(module, path, &is_child)));
            continue;
        }
        words.insert(*token);
        at += 1;
    }
    // What the file passes on and uses itself.
    file.named.extend(
        passed_on
            .into_iter()
            .filter(|(name, _)| words.contains(name.as_str()))
            .map(|(_, path)| path),
    );
    file
}

impl Crate {
    fn new(sources: Vec<(PathBuf, Module, String)>) -> Self {
        let modules: BTreeSet<Module> = sources.iter().map(|(_, module, _)| module.clone()).collect();
        let read = |(path, module, text): (PathBuf, Module, String)| {
            let is_child = |name: &str| modules.contains(&[module.as_slice(), &[name.to_owned()]].concat());
            let file = read(path, &module, &text, is_child);
            (module, file)
        };
        Self {
            files: sources.into_iter().map(read).collect(),
        }
    }

    /// Returns the module of the file that defines what `path` names.
    fn file_of(&self, path: &[String], depth: usize) -> Option<Module> {
        let mut len = path.len();
        while !self.files.contains_key(&path[..len]) {
            len = len.checked_sub(1)?;
        }
        let module = path[..len].to_vec();
        let import = path.get(len).and_then(|item| self.files[&module].imports.get(item));
        match import {
            Some(import) if depth > 0 => self.file_of(&[import, &path[len + 1..]].concat(), depth - 1),
            _ => Some(module),
        }
    }

    fn edges(&self) -> BTreeMap<&Module, BTreeSet<Module>> {
        let of = |(module, file): (&Module, &SourceFile)| {
            file.named
                .iter()
                .filter_map(|path| self.file_of(path, 8))
                .filter(|to| to != module)
                .collect()
        };
        self.files.iter().map(|entry| (entry.0, of(entry))).collect()
    }

    /// Returns all circles: the largest sets of files in which each reaches each other.
    fn circles(&self) -> BTreeSet<Vec<&Path>> {
        let edges = self.edges();
        let reached = |from: &Module| {
            let mut found = BTreeSet::new();
            let mut open = vec![from.clone()];
            while let Some(module) = open.pop() {
                open.extend(edges[&module].iter().filter(|to| found.insert((*to).clone())).cloned());
            }
            found
        };
        let reached: BTreeMap<&Module, BTreeSet<Module>> =
            self.files.keys().map(|from| (from, reached(from))).collect();
        let circle = |from: &&Module| -> Vec<&Path> {
            let both = reached[*from].iter().filter(|to| reached[to].contains(*from));
            both.map(|module| self.files[module].path.as_path()).collect()
        };
        let circles = self.files.keys().map(|from| circle(&from));
        circles.filter(|circle| !circle.is_empty()).collect()
    }
}

/// Reads the sources of a crate in `dir`, with paths relative to it.
fn read_crate(dir: &Path) -> Crate {
    let sources = files(dir).into_iter().filter_map(|path| {
        let file = path.strip_prefix(dir).unwrap().to_owned();
        let module = file.with_extension("");
        let mut module: Module = module.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        match module[0].as_str() {
            "lib" => module.clear(),
            // Programs are crates of their own.
            "main" | "bin" => return None,
            _ => {}
        }
        module.insert(0, "crate".to_owned());
        let text = std::fs::read_to_string(&path).unwrap();
        Some((file, module, without_tests(&text).to_owned()))
    });
    Crate::new(sources.collect())
}

#[test]
fn no_two_files_import_each_other() {
    let hosts = std::fs::read_dir(workspace().join("host")).unwrap();
    let hosts = hosts.map(|entry| entry.unwrap().path().strip_prefix(workspace()).unwrap().join("src"));
    let sdks = ["sdk/src", "sdk/macros/src"].map(PathBuf::from);
    let mut gone: BTreeSet<_> = (0..KNOWN.len()).collect();
    let mut new = Vec::new();
    for dir in hosts.chain(sdks) {
        for circle in read_crate(&workspace().join(&dir)).circles() {
            let is_known = |known: &(&str, &[&str])| {
                Path::new(known.0) == dir
                    && circle
                        .iter()
                        .all(|file| known.1.iter().any(|known| Path::new(known) == *file))
            };
            let Some(known) = KNOWN.iter().position(is_known) else {
                new.push(format!("{}: {circle:?}", dir.display()));
                continue;
            };
            gone.remove(&known);
        }
    }
    assert!(
        new.is_empty(),
        "these files import each other; move what they share to a file below them:\n{}",
        new.join("\n")
    );
    let gone: Vec<_> = gone.into_iter().map(|known| KNOWN[known]).collect();
    assert!(
        gone.is_empty(),
        "remove these circles from the list, they are gone: {gone:?}"
    );
}

#[test]
fn circles_are_found_through_reexports_and_parents() {
    let circles = |sources: &[(&str, &str)]| {
        let source = |(file, text): &(&str, &str)| {
            let module = Path::new(file).with_extension("");
            let parts = module.iter().map(|part| part.to_str().unwrap().to_owned());
            let module = ["crate".to_owned()]
                .into_iter()
                .chain(parts.filter(|part| part != "lib"));
            (PathBuf::from(file), module.collect(), (*text).to_owned())
        };
        let sources = Crate::new(sources.iter().map(source).collect());
        let circles = sources.circles().into_iter();
        circles
            .map(|circle| circle.iter().map(|file| file.to_str().unwrap().to_owned()).collect())
            .collect::<Vec<Vec<String>>>()
    };
    let types = ("lib.rs", "mod a; mod b; pub use self::a::A; pub use self::b::B;");
    let apart = [
        types,
        ("a.rs", "pub struct A;"),
        ("b.rs", "use crate::A; // use super::b::B;\npub struct B(A);"),
    ];
    assert_eq!(
        circles(&apart),
        Vec::<Vec<String>>::new(),
        "the root only passes both on"
    );
    let direct = [
        types,
        ("a.rs", "use super::{B as Other, C};"),
        ("b.rs", "pub struct B(super::a::A);"),
    ];
    assert_eq!(circles(&direct), [["a.rs", "b.rs"]]);
    let parent = [
        ("lib.rs", "mod a; pub struct Own(a::A);"),
        ("a.rs", "impl super::Own { fn text() { \"super::x\" } }"),
    ];
    assert_eq!(circles(&parent), [["lib.rs", "a.rs"]]);
    let three = [
        ("lib.rs", ""),
        ("a.rs", "use crate::b::{self, B};"),
        ("b.rs", "use crate::b::c;"),
        ("b/c.rs", "fn own() -> char { crate::a::of('\\'', \"\\\"\") }"),
    ];
    assert_eq!(circles(&three), [["a.rs", "b.rs", "b/c.rs"]]);
}
