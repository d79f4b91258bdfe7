//! Lists the public items of a crate below `host/`.
//!
//! A crate re-exports items of other crates, so their sources are read as well. Each item is listed once, at its shortest
//! path. A crate that is re-exported as a whole is one line: it has a listing of its own. Left out: what the documentation
//! hides, what only test builds have, and what macros make.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::source::{Item, Module, items, read};

/// The public items of a crate.
pub(super) struct Listing {
    pub(super) text: String,
    /// The crates that it re-exports as a whole, by their folder.
    pub(super) whole: BTreeSet<String>,
}

/// Returns the listing of the crate in the folder `name` of `host`.
pub(super) fn listing(host: &Path, name: &str) -> Listing {
    let root = crate_name(name);
    let mut crates = BTreeMap::new();
    for entry in std::fs::read_dir(host).unwrap() {
        let dir = entry.unwrap().path();
        let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
        let file = dir.join("src/lib.rs");
        if file.is_file() && name != "cli" {
            crates.insert(crate_name(&name), read(&file, &dir.join("src")));
        }
    }
    let mut lister = Lister {
        crates: &crates,
        listed: BTreeSet::new(),
        lines: Vec::new(),
        later: Vec::new(),
        whole: BTreeSet::new(),
    };
    lister.module(&root, &[], &root);
    // Modules come after the items that are directly above them.
    while !lister.later.is_empty() {
        for (source, at, path) in std::mem::take(&mut lister.later) {
            lister.module(&source, &at, &path);
        }
    }
    Listing {
        text: lister.lines.join("\n") + "\n",
        whole: lister.whole,
    }
}

/// Returns the name of the crate in the folder `name`.
fn crate_name(name: &str) -> String {
    match name {
        "agenthost" => name.to_owned(),
        part => format!("agenthost_{part}"),
    }
}

struct Lister<'a> {
    crates: &'a BTreeMap<String, Module>,
    /// The modules and items that are listed, by crate and path.
    listed: BTreeSet<(String, Vec<String>)>,
    lines: Vec<String>,
    /// Modules to list later: the crate, the path in it, and the public path.
    later: Vec<(String, Vec<String>, String)>,
    whole: BTreeSet<String>,
}

impl<'a> Lister<'a> {
    fn at(&self, source: &str, path: &[String]) -> Option<&'a Module> {
        let mut module = self.crates.get(source)?;
        for name in path {
            module = module.below.get(name)?;
        }
        Some(module)
    }

    /// Lists the public items of a module under the public path `path`.
    fn module(&mut self, source: &str, at: &[String], path: &str) {
        if !self.listed.insert((source.to_owned(), at.to_vec())) {
            return;
        }
        let start = self.lines.len();
        self.items(source, at, path);
        if self.lines.len() > start {
            let title = if start > 0 {
                format!("\n# {path}")
            } else {
                format!("# {path}")
            };
            self.lines.insert(start, title);
        }
    }

    fn items(&mut self, source: &str, at: &[String], path: &str) {
        let module = self
            .at(source, at)
            .unwrap_or_else(|| panic!("no module {source} {at:?}"));
        for item in module.items.iter().filter(|item| item.is_public()) {
            match item.kind_and_name() {
                ("mod", name) => {
                    let below = [at, &[name.to_owned()]].concat();
                    self.later.push((source.to_owned(), below, format!("{path}::{name}")));
                }
                ("use", _) => {
                    for (from, name) in used(&item.head) {
                        self.reexport(source, at, &from, path, &name);
                    }
                }
                _ => self.item(source, at, item, path, None),
            }
        }
    }

    /// Lists what `from` names, as `path::name`.
    fn reexport(&mut self, source: &str, at: &[String], from: &[String], path: &str, name: &str) {
        let (mut source, mut at) = (source.to_owned(), at.to_vec());
        for (n, part) in from.iter().enumerate() {
            match part.as_str() {
                "self" => {}
                "super" => _ = at.pop(),
                "crate" => at.clear(),
                part if n == 0 && self.crates.contains_key(part) => {
                    source = part.to_owned();
                    at.clear();
                }
                part => at.push(part.to_owned()),
            }
        }
        if let Some(folder) = source.strip_prefix("agenthost_").filter(|_| at.is_empty()) {
            self.whole.insert(folder.to_owned());
            self.lines.push(format!("pub use {source} as {path}::{name}"));
            return;
        }
        if self.at(&source, &at).is_some() {
            self.later.push((source, at, format!("{path}::{name}")));
            return;
        }
        let Some((last, parent)) = at.split_last() else { return };
        let Some(module) = self.at(&source, parent) else {
            self.lines
                .push(format!("pub use {} as {path}::{name}", from.join("::")));
            return;
        };
        for item in &module.items {
            match item.kind_and_name() {
                ("use", _) => {
                    for (from, known) in used(&item.head) {
                        if known == *last {
                            self.reexport(&source, parent, &from, path, name);
                        }
                    }
                }
                ("impl", _) => {}
                (_, own) if own == last && item.is_public() => {
                    self.item(&source, parent, item, path, Some(name));
                }
                _ => {}
            }
        }
    }

    /// Lists an item, under another name if it is renamed.
    fn item(&mut self, source: &str, at: &[String], item: &Item, path: &str, renamed: Option<&str>) {
        let (kind, own) = item.kind_and_name();
        if !["fn", "const", "type", "struct", "enum", "trait"].contains(&kind)
            || !self
                .listed
                .insert((source.to_owned(), [at, &[own.to_owned()]].concat()))
        {
            return;
        }
        let name = renamed.unwrap_or(own);
        let full = format!("{path}::{name}");
        let head = item.head.replacen(own, &full, 1);
        let head = match kind {
            "const" => head.split(" =").next().unwrap_or_default(),
            "struct" => head.split('(').next().unwrap_or_default(),
            _ => &head,
        };
        self.lines.push(format!("{}{}", item.notes, head.trim_end_matches(';')));
        for inner in items(&item.body) {
            let text = inner.head.trim_end_matches([',', ';']);
            match kind {
                "struct" if inner.is_public() => {
                    self.lines.push(text.replacen("pub ", &format!("pub {full}::"), 1));
                }
                "enum" => {
                    let fields: Vec<_> = items(&inner.body).iter().map(|field| field.head.clone()).collect();
                    let fields = fields.join(" ");
                    let fields = fields.trim_end_matches(',');
                    let fields = if fields.is_empty() {
                        String::new()
                    } else {
                        format!(" {{ {fields} }}")
                    };
                    self.lines.push(format!("pub {full}::{text}{fields}"));
                }
                "trait" => self.function(text, &full),
                _ => {}
            }
        }
        self.impls(source, own, &full);
    }

    /// Lists the public functions of a type, and the traits that it implements.
    fn impls(&mut self, source: &str, name: &str, full: &str) {
        let Some(root) = self.crates.get(source) else { return };
        let mut impls = Vec::new();
        every_impl(root, &mut impls);
        let mut traits = BTreeSet::new();
        for found in impls {
            let head = found.head.split(" where ").next().unwrap_or_default();
            let (of, is) = match head.split_once(" for ") {
                Some((of, is)) => (Some(of), is),
                None => (None, head),
            };
            let is = is.rsplit([' ', '&']).next().unwrap_or_default();
            if is.split('<').next() != Some(name) {
                continue;
            }
            if let Some(of) = of {
                let of = of.trim_start_matches("impl").trim_start();
                traits.insert(of.rsplit_once("> ").map_or(of, |(_, of)| of));
                continue;
            }
            for inner in items(&found.body).iter().filter(|inner| inner.is_public()) {
                match inner.kind_and_name() {
                    ("fn", _) => self.function(&inner.head, full),
                    ("const", name) => {
                        let (head, _) = inner.head.split_once(" =").unwrap_or((&inner.head, ""));
                        self.lines.push(head.replacen(name, &format!("{full}::{name}"), 1));
                    }
                    _ => {}
                }
            }
        }
        traits.remove("Drop");
        if !traits.is_empty() {
            let traits: Vec<_> = traits.into_iter().collect();
            self.lines.push(format!("impl {} for {full}", traits.join(", ")));
        }
    }

    fn function(&mut self, head: &str, full: &str) {
        if let Some((before, after)) = head.split_once("fn ") {
            let before = before.trim_start_matches("pub ");
            self.lines.push(format!(
                "pub {before}fn {full}::{}",
                after.replace("(mut self", "(self")
            ));
        }
    }
}

fn every_impl<'a>(module: &'a Module, found: &mut Vec<&'a Item>) {
    found.extend(module.items.iter().filter(|item| item.head.starts_with("impl")));
    module.below.values().for_each(|below| every_impl(below, found));
}

/// Returns the names that a `use` brings, each with the path behind it.
fn used(head: &str) -> Vec<(Vec<String>, String)> {
    let tree = head
        .trim_start_matches("pub ")
        .trim_start_matches("use ")
        .trim_end_matches(';');
    let mut found = Vec::new();
    branch(tree, &[], &mut found);
    found
}

fn branch(tree: &str, before: &[String], found: &mut Vec<(Vec<String>, String)>) {
    if let Some((start, list)) = tree.split_once('{') {
        let start = start.trim_end_matches("::").split("::").filter(|part| !part.is_empty());
        let before: Vec<_> = before.iter().cloned().chain(start.map(str::to_owned)).collect();
        let list = list.trim();
        let list = list.strip_suffix('}').unwrap_or(list);
        let (mut depth, mut part) = (0, String::new());
        for c in list.chars().chain([',']) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if c == ',' && depth == 0 {
                if !part.trim().is_empty() {
                    branch(part.trim(), &before, found);
                }
                part.clear();
            } else {
                part.push(c);
            }
        }
        return;
    }
    let (path, name) = match tree.split_once(" as ") {
        Some((path, name)) => (path, Some(name)),
        None => (tree, None),
    };
    let path: Vec<_> = before
        .iter()
        .cloned()
        .chain(path.split("::").map(str::to_owned))
        .collect();
    let parts: Vec<_> = path.iter().filter(|part| *part != "self").cloned().collect();
    let name = name.or(parts.last().map(String::as_str)).unwrap_or_default().to_owned();
    found.push((path, name));
}

#[test]
fn names_in_a_use_are_found_with_their_paths() {
    let names: Vec<_> = used("pub use a::{b, c::{self, d as e}};")
        .into_iter()
        .map(|(path, name)| format!("{name} is {}", path.join("::")))
        .collect();
    assert_eq!(names, ["b is a::b", "c is a::c::self", "e is a::c::d"]);
}
