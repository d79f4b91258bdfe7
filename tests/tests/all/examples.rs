//! Every entry point of the library and of the SDK has an example, which `cargo test` compiles, and runs where that needs no
//! host.
//!
//! An entry point is where a user begins: a public trait, a public function, and an associated one that takes no `self`,
//! for it makes a value. It has an example if one is on it or on its type, or if an example of its file calls it. The
//! functions used from then on are [listed](LISTED), and each has an example of its own.
//!
//! The source is read line by line, as rustfmt leaves it. Left out: the output of macros, and the quality of an
//! example, which people have to judge.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use agenthost_tests::guests::workspace;

/// The functions that users call after they began, as written in the source.
const LISTED: &[(&str, &[&str])] = &[
    (
        "host",
        &[
            "Host::load",
            "Host::load_with",
            "Host::load_bytes",
            "Host::limits",
            "Host::run",
            "Host::resume",
            "Host::replay",
            "Host::rehearse",
            "HostBuilder",
            "HostBuilder::config",
            "HostBuilder::provider",
            "Plugin",
            "RunBuilder",
            "RunHandle",
            "RunHandle::cancel",
            "RunHandle::events",
            "RunHandle::detach",
            "Batch",
            "BatchBuilder",
            "Journal",
            "Config::load",
            "Config::load_from",
            "Env",
            "Plugin::read",
            "Plugin::open",
            "Limits",
            "LimitsPatch",
            "Spent",
            "Usd",
            "Sqlite::open",
            "Cassette::read",
            "Cassette::changes",
            "Tape",
            "Request",
            "Gate",
            "PriceTable",
            "Outcome",
            "Error",
            "ErrorClass",
        ],
    ),
    (
        "sdk/src",
        &[
            "plugin",
            "task",
            "join_all",
            "try_join_all",
            "Prompt",
            "Prompt::new",
            "Prompt::system",
            "Prompt::model",
            "Prompt::max_tokens",
            "Prompt::option",
            "Prompt::data",
            "Prompt::part",
            "Prompt::assistant",
            "Prompt::user",
            "Prompt::schema",
            "Prompt::text",
            "Prompt::json",
            "Prompt::reply",
            "Prompt::into_request",
            "Reply::text",
            "policy::max_concurrent",
            "policy::split_equally",
            "policy::least_tokens",
            "policy::keep_back",
            "Host::shares",
            "Prompt::effort",
            "Prompt::cache",
            "Request::text",
            "Host",
            "Host::model",
            "Host::sub_agent",
            "Host::sub_agent_async",
            "Reply::json",
            "Reply::after",
        ],
    ),
];

/// Parts whose functions users of the crate do not begin with.
const INSIDE: [&str; 6] = [
    // The command line, public for the binary alone.
    "host/cli",
    // The engine below `Host`, which alone puts it to use.
    "host/sandbox",
    // Hidden from the documentation: other crates of the host share them.
    "host/config/src/reader",
    "host/core/src/plain_file",
    // Named by the macros.
    "sdk/src/__rt",
    "sdk/src/bindings",
];

/// A public item with its docs.
#[derive(Debug, PartialEq)]
struct Item {
    /// As `Type::function`, or the name alone.
    name: String,
    docs: String,
    is_entry: bool,
}

impl Item {
    fn has_example(&self) -> bool {
        self.docs.contains("```")
    }

    fn own_type(&self) -> Option<&str> {
        self.name.split_once("::").map(|(ty, _)| ty)
    }
}

/// The public items of a source file, but for those that the documentation hides.
fn items(text: &str) -> Vec<Item> {
    let mut found = Vec::new();
    let (mut docs, mut ty, mut hidden) = (String::new(), None, false);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let code = line.trim_start();
        if let Some(doc) = code.strip_prefix("///") {
            docs.push_str(doc);
            docs.push('\n');
            continue;
        }
        if code.starts_with("#[") {
            hidden |= code.starts_with("#[doc(hidden)]");
            continue;
        }
        let is_hidden = std::mem::take(&mut hidden);
        let at_top = code.len() == line.len();
        // The second is one in a macro.
        if (at_top && code.starts_with("impl")) || code.starts_with("impl<T, E> $") {
            ty = Some(of_impl(code).to_owned());
        } else if at_top && code == "}" {
            ty = None;
        }
        let docs = std::mem::take(&mut docs);
        let Some(public) = code.strip_prefix("pub ").filter(|_| !is_hidden) else {
            continue;
        };
        let public = public.trim_start_matches("const ").trim_start_matches("async ");
        let (kind, rest) = public.split_once(' ').unwrap_or((public, ""));
        let name = &rest[..rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len())];
        match (kind, &ty) {
            ("fn", Some(ty)) if !at_top => {
                let (_, params) = rest.split_once('(').unwrap();
                let params = if params.is_empty() {
                    lines.peek().unwrap()
                } else {
                    params
                };
                let first = params.split([',', ')', ':']).next().unwrap();
                found.push(Item {
                    name: format!("{ty}::{name}"),
                    docs,
                    is_entry: !first.ends_with("self"),
                });
            }
            ("fn" | "trait" | "struct" | "enum", _) if at_top => found.push(Item {
                name: name.to_owned(),
                docs,
                is_entry: kind == "fn" || kind == "trait",
            }),
            ("use", _) if at_top => found.push(Item {
                name: rest.trim_end_matches(';').rsplit("::").next().unwrap().to_owned(),
                docs,
                is_entry: false,
            }),
            _ => {}
        }
    }
    found
}

/// `Branch` of `impl<T, E> Branch<'_, T, E> {`, and `policy` of `impl<T, E> $policy<'_, T, E> {`.
fn of_impl(line: &str) -> &str {
    let after = line.strip_prefix("impl").unwrap();
    let after = match after.strip_prefix('<') {
        Some(generics) => generics.split_once("> ").unwrap().1,
        None => after.trim_start(),
    };
    let after = after.trim_start_matches('$');
    let end = after.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap();
    &after[..end]
}

/// The lines of all examples in a source file.
fn examples(text: &str) -> String {
    let (mut inside, mut found) = (false, String::new());
    for line in text.lines() {
        let line = line.trim_start();
        let Some(doc) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else {
            inside = false;
            continue;
        };
        if doc.trim_start().starts_with("```") {
            inside = !inside;
        } else if inside {
            found.push_str(doc);
            found.push('\n');
        }
    }
    found
}

/// The source files below `dir` without their tests.
fn sources(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let inside = INSIDE
            .iter()
            .any(|part| path.with_extension("") == workspace().join(part));
        if inside || path.file_stem().is_some_and(|stem| stem == "tests") {
            continue;
        }
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
            found.push((path, code.to_owned()));
        }
    }
    found
}

#[test]
fn every_entry_point_has_an_example() {
    let mut missing = Vec::new();
    for (part, listed) in LISTED {
        let files = sources(&workspace().join(part));
        let read: Vec<_> = files
            .iter()
            .map(|(path, text)| (path, examples(text), items(text)))
            .collect();
        let all = || read.iter().flat_map(|(_, _, items)| items);
        let shown: BTreeSet<&str> = all()
            .filter(|item| item.has_example())
            .map(|item| item.name.as_str())
            .collect();
        assert!(shown.len() > 20, "the examples of {part} are found");
        for (path, examples, items) in &read {
            for item in items.iter().filter(|item| item.is_entry) {
                let on_its_type = item.own_type().is_some_and(|ty| shown.contains(ty));
                let is_called = examples.contains(&format!("{}(", item.name));
                if !item.has_example() && !on_its_type && !is_called {
                    missing.push(format!("{}: {}", path.display(), item.name));
                }
            }
        }
        for name in *listed {
            assert!(
                all().any(|item| item.name == *name),
                "{name} is listed and does not exist"
            );
            if !shown.contains(name) {
                missing.push(format!("{part}: {name}, which is listed"));
            }
        }
    }
    assert!(missing.is_empty(), "no example:\n{}", missing.join("\n"));
}

#[test]
fn items_and_their_examples_are_found_in_a_source() {
    let source = "
/// A thing.
///
/// ```
/// Thing::new(1);
/// ```
#[derive(Debug)]
pub struct Thing<'a, T> {
    pub field: u8,
}

impl<'a, T: Into<u8>> Thing<'a, T> {
    /// Makes one.
    pub fn new(
        number: T,
    ) -> Self {
    }

    /// Its size.
    pub async fn size(&self) -> u8 {
    }
}

pub fn free<T>(thing: T) {
}

/// Another's.
pub use other::thing;
";
    let found: Vec<_> = items(source)
        .into_iter()
        .map(|item| (item.name.clone(), item.has_example(), item.is_entry))
        .collect();
    let expected = [
        ("Thing", true, false),
        ("Thing::new", false, true),
        ("Thing::size", false, false),
        ("free", false, true),
        ("thing", false, false),
    ];
    assert_eq!(
        found,
        expected.map(|(name, example, entry)| (name.to_owned(), example, entry))
    );
    assert_eq!(examples(source), " Thing::new(1);\n");
}
