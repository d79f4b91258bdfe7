//! The names of new plugins.
//!
//! The name is that of a directory, of a crate and of a WIT package, so the rules of all of them apply. WIT's keywords
//! are checked by WIT's own parser; the reserved words of Rust and cargo are listed here, since no library has them.

use wit_parser::UnresolvedPackageGroup;

use agenthost::error::{Error, Result};

/// The namespace of plugins that are not meant for other users.
pub(super) const LOCAL: &str = "local";
/// The length limit of a package registry, in characters.
const LONGEST: usize = 64;
/// The suffix of the sub-agent's name, after the orchestrator's own name.
pub(super) const SUB_AGENT: &str = "-expert";

/// Keywords of Rust, including those that are reserved for later.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super", "trait", "true",
    "try", "type", "typeof", "union", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];
/// Crates that come with Rust, directories of cargo's own, and the SDK.
const RESERVED: &[&str] = &[
    "alloc",
    "core",
    "proc-macro",
    "std",
    "test",
    "build",
    "deps",
    "examples",
    "incremental",
    "agenthost",
    "agenthost-sdk",
    "agenthost-sdk-macros",
];
/// Devices: no file on Windows can have such a name.
const DEVICES: &[&str] = &["aux", "con", "nul", "prn"];
/// The namespaces of the host's interfaces.
const NAMESPACES: &[&str] = &["agenthost", "wasi"];

/// The identity of a new plugin, without its version.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Name {
    /// Parses `name` or `namespace:name`. `namespace` is the value of `--namespace`.
    pub(super) fn parse(given: &str, namespace: Option<&str>, orchestrator: bool) -> Result<Self> {
        let (own, name) = match given.split_once(':') {
            Some((own, name)) => (Some(own), name),
            None => (None, given),
        };
        if let (Some(own), Some(other)) = (own, namespace)
            && own != other
        {
            return Err(
                Error::usage(format!("two namespaces: `{own}` in the name and `{other}` beside it"))
                    .with_hint("Give one of them."),
            );
        }
        let namespace = own.or(namespace).unwrap_or(LOCAL);
        check("namespace", namespace, NAMESPACES, LONGEST)?;
        let longest = if orchestrator {
            LONGEST - SUB_AGENT.len()
        } else {
            LONGEST
        };
        check("name", name, &[KEYWORDS, RESERVED, DEVICES].concat(), longest)?;
        Ok(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Parses the name of a workspace. It is the namespace of its plugins, unless another one is given.
    pub(super) fn parse_workspace(given: &str, namespace: Option<&str>) -> Result<Self> {
        let name = Self::parse(given, namespace, false)?;
        if namespace.is_some() || given.contains(':') {
            return Ok(name);
        }
        check("namespace", &name.name, NAMESPACES, LONGEST)?;
        Ok(Self {
            namespace: name.name.clone(),
            ..name
        })
    }
}

fn check(what: &str, text: &str, reserved: &[&str], longest: usize) -> Result<()> {
    let refused = |why: &str, hint: String| Err(Error::usage(format!("{what} `{text}`: {why}")).with_hint(hint));
    if !is_kebab(text) {
        return refused(
            "not in kebab-case: lower-case words of letters and digits, each beginning with a letter, joined by `-`",
            kebab(text).map_or("Call it something like `my-plugin`.".to_owned(), |near| {
                match text.rsplit_once('/') {
                    Some((dir, _)) => format!("Call it `{near}`, and say where it goes with `--path {dir}`."),
                    None => format!("Call it `{near}`."),
                }
            }),
        );
    }
    if text.len() > longest {
        return refused(
            &format!("it has {} characters (limit: {longest})", text.len()),
            "Give a shorter one.".to_owned(),
        );
    }
    let instead = || format!("Call it `{text}-tasks`, for example.");
    if KEYWORDS.contains(&text) && reserved.contains(&text) {
        return refused("a keyword of Rust", instead());
    }
    if reserved.contains(&text) {
        return refused("reserved", instead());
    }
    let package = match what {
        "namespace" => format!("package {text}:x@0.1.0;"),
        _ => format!("package x:{text}@0.1.0;"),
    };
    match UnresolvedPackageGroup::parse("world.wit", &package) {
        Ok(_) => Ok(()),
        Err(_) => refused("a keyword of WIT", instead()),
    }
}

fn is_kebab(text: &str) -> bool {
    text.split('-').all(|word| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    })
}

/// Returns the name that was probably meant: `my-plugin` for `MyPlugin`, `my_plugin` and `plugins/my plugin@1`.
fn kebab(text: &str) -> Option<String> {
    let text = text.rsplit('/').next().unwrap_or(text);
    let text = text.split('@').next().unwrap_or(text);
    let mut near = String::new();
    let mut before = ' ';
    for c in text.chars() {
        let starts = c.is_ascii_uppercase() && !before.is_ascii_uppercase();
        // A word that would begin with a digit joins the one before it.
        let apart = !before.is_ascii_alphanumeric() && !c.is_ascii_digit();
        if c.is_ascii_alphanumeric() {
            if (starts || apart) && !near.is_empty() {
                near.push('-');
            }
            near.push(c.to_ascii_lowercase());
        }
        before = c;
    }
    let near = near
        .trim_start_matches(|c: char| c.is_ascii_digit() || c == '-')
        .to_owned();
    is_kebab(&near).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(given: &str) -> (String, String) {
        let error = Name::parse(given, None, false).unwrap_err();
        (error.to_string(), error.hint().unwrap().to_owned())
    }

    #[test]
    fn a_name_has_a_namespace() {
        let name = |given, namespace| {
            let name = Name::parse(given, namespace, false).unwrap();
            format!("{}:{}", name.namespace, name.name)
        };
        assert_eq!(name("haiku", None), "local:haiku");
        assert_eq!(name("acme:haiku2", None), "acme:haiku2");
        assert_eq!(name("two-lines", Some("acme")), "acme:two-lines");
        assert_eq!(name("acme:x", Some("acme")), "acme:x");
        let error = Name::parse("acme:x", Some("other"), false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "two namespaces: `acme` in the name and `other` beside it"
        );
        for given in ["wasi:x", "agenthost:x", "interface:x", "Acme:x", ":x"] {
            assert!(refusal(given).0.starts_with("namespace `"), "{given}");
        }
    }

    #[test]
    fn a_workspace_gives_its_plugins_its_name() {
        let name = |given, namespace| {
            let name = Name::parse_workspace(given, namespace).unwrap();
            format!("{}:{}", name.namespace, name.name)
        };
        assert_eq!(name("acme", None), "acme:acme");
        assert_eq!(name("team:acme", None), "team:acme");
        assert_eq!(name("acme", Some("team")), "team:acme");
        let said = |given| Name::parse_workspace(given, None).unwrap_err().to_string();
        assert_eq!(said("wasi"), "namespace `wasi`: reserved");
        assert_eq!(said("My_Team"), refusal("My_Team").0);
    }

    #[test]
    fn near_misses_are_named() {
        for (given, near) in [
            ("My_Plugin", "my-plugin"),
            ("MyPlugin", "my-plugin"),
            ("my plugin", "my-plugin"),
            ("my--plugin-", "my-plugin"),
            ("HTTPNotes", "httpnotes"),
            ("top-10", "top10"),
            ("2fast", "fast"),
            ("haiku@0.1.0", "haiku"),
        ] {
            let (said, hint) = refusal(given);
            assert!(
                said.starts_with(&format!("name `{given}`: not in kebab-case")),
                "{said}"
            );
            assert_eq!(hint, format!("Call it `{near}`."));
        }
        assert_eq!(
            refusal("plugins/haiku").1,
            "Call it `haiku`, and say where it goes with `--path plugins`."
        );
        for given in ["", "42", "..", "übung/", "-"] {
            assert_eq!(refusal(given).1, "Call it something like `my-plugin`.", "{given}");
        }
    }

    #[test]
    fn words_of_rust_cargo_and_wit_are_refused() {
        for (given, why) in [
            ("fn", "a keyword of Rust"),
            ("gen", "a keyword of Rust"),
            ("test", "reserved"),
            ("std", "reserved"),
            ("agenthost-sdk", "reserved"),
            ("nul", "reserved"),
            ("interface", "a keyword of WIT"),
            ("list", "a keyword of WIT"),
            ("string", "a keyword of WIT"),
        ] {
            let (said, hint) = refusal(given);
            assert_eq!(said, format!("name `{given}`: {why}"));
            assert_eq!(hint, format!("Call it `{given}-tasks`, for example."));
            let instead = format!("{given}-tasks");
            assert!(Name::parse(&instead, None, true).is_ok(), "{instead}");
        }
        for given in ["task", "plugin", "types", "run", "expert"] {
            assert!(Name::parse(given, None, true).is_ok(), "{given}");
        }
    }

    #[test]
    fn a_name_leaves_room_for_its_sub_agent() {
        assert!(Name::parse(&"a".repeat(64), None, false).is_ok());
        let said = Name::parse(&"a".repeat(65), None, false).unwrap_err().to_string();
        assert!(said.ends_with("it has 65 characters (limit: 64)"), "{said}");
        let said = Name::parse(&"a".repeat(58), None, true).unwrap_err().to_string();
        assert!(said.ends_with("it has 58 characters (limit: 57)"), "{said}");
    }
}
