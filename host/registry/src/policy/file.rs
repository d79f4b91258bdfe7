//! Reads one policy file, with the place of each rule.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use semver::Version;

use crate::error::{PublicKeyError, ReferenceError};
use crate::reference::{Name, word};
use crate::signature::PublicKey;
use agenthost_config::reader::{Section, Source, TomlEntry};
use agenthost_config::{Env, FileError, Origin as Place, server_tools};
use agenthost_core::limits::{Limits, LimitsPatch};
use agenthost_core::llm::ServerToolGrants;
use agenthost_plugin::{Digest, Plugin};

/// The newest format that this version reads.
const FORMAT: &str = "1";

/// The settings of one file, without defaults.
#[derive(Debug, Clone)]
pub(super) struct File {
    /// The file's name for display.
    pub(super) shown: String,
    /// The signers; empty if the file has none.
    pub(super) signers: Vec<Signer>,
    pub(super) bounds: Vec<Bound>,
    pub(super) references: Rules,
    pub(super) paths: Rules,
    pub(super) deny: Vec<Denial>,
    /// Absolute paths.
    pub(super) vetted: Vec<PathBuf>,
}

/// A signer, and the names that it may publish.
#[derive(Debug, Clone)]
pub(super) struct Signer {
    pub(super) name: String,
    pub(super) key: PublicKey,
    pub(super) publishes: Vec<Pattern>,
    pub(super) place: Place,
}

impl Signer {
    pub(super) fn may_publish(&self, name: &str) -> bool {
        self.publishes.iter().any(|pattern| pattern.matches(name))
    }
}

/// The maximum that plugins with these names may be granted.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    pub(super) names: Pattern,
    pub(super) limits: Limits,
    pub(super) models: Option<BTreeSet<String>>,
    pub(super) server_tools: Option<ServerToolRule>,
}

/// The ceiling for tools of providers in one table of a policy file.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerToolRule {
    /// The table: `max`, or `max-for."acme:*"`.
    pub table: String,
    /// The place of its key `server-tools`.
    pub place: Place,
    /// The tools that it allows, with their bounds.
    pub tools: ServerToolGrants,
}

/// The rules for plugins of one origin.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    pub(super) unsigned: Option<Rule>,
    pub(super) unvetted: Option<Rule>,
}

/// A rule and its place.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) allow: bool,
    pub(super) place: Place,
}

/// An entry of `deny`: something that may never run.
#[derive(Debug, Clone)]
pub(super) struct Denial {
    pub(super) what: Denied,
    pub(super) place: Place,
}

#[derive(Debug, Clone)]
pub(super) enum Denied {
    Names(Pattern),
    Release(Name, Version),
    Digest(Digest),
}

impl Denied {
    pub(super) fn covers(&self, plugin: &Plugin) -> bool {
        match self {
            Self::Names(pattern) => pattern.matches(&plugin.id.name),
            // A plugin without a version may be the denied one. Build metadata does not make another release.
            Self::Release(name, version) => {
                let release = plugin.release().and_then(|release| release.parse::<Version>().ok());
                let same = release.is_none_or(|release| release.cmp_precedence(version).is_eq());
                plugin.id.name == name.to_string() && same
            }
            Self::Digest(digest) => plugin.digest == *digest,
        }
    }
}

impl FromStr for Denied {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("sha256:") {
            return text
                .parse()
                .map(Self::Digest)
                .map_err(|error: agenthost_plugin::InvalidDigest| error.to_string());
        }
        match text.split_once('@') {
            Some((name, version)) => {
                let version = version
                    .parse()
                    .map_err(|error| format!("`{version}` is not a version: {error}"))?;
                Ok(Self::Release(
                    name.parse().map_err(|error: ReferenceError| error.to_string())?,
                    version,
                ))
            }
            None => text.parse().map(Self::Names),
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Names(pattern) => pattern.fmt(f),
            Self::Release(name, version) => write!(f, "{name}@{version}"),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// A pattern for plugin names: one name, all names of a namespace, or all names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pattern {
    Any,
    Namespace(String),
    Name(Name),
}

impl Pattern {
    pub(super) fn matches(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Namespace(namespace) => name.split_once(':').is_some_and(|(first, _)| first == namespace),
            Self::Name(one) => one.to_string() == name,
        }
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "*" => Ok(Self::Any),
            Some((namespace, "*")) if word(namespace).is_ok() => Ok(Self::Namespace(namespace.to_owned())),
            _ => match text.parse() {
                Ok(name) => Ok(Self::Name(name)),
                Err(_) => Err(format!(
                    "`{}` does not name plugins; write NAMESPACE:NAME, NAMESPACE:*, or *",
                    text.escape_debug()
                )),
            },
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Namespace(namespace) => write!(f, "{namespace}:*"),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// Reads the file at `path`.
pub(super) fn read(env: &Env, path: PathBuf) -> Result<File, FileError> {
    let source = Source::read(env, path, true)?;
    let (table, _) = source.parse()?;
    let top = Section::top(&source, table.get_ref());
    top.only(&[
        "format",
        "signers",
        "max",
        "max-for",
        "references",
        "paths",
        "deny",
        "vetted",
    ])?;
    let format = top.get("format").ok_or_else(|| FileError::MissingKey {
        at: source.at(0),
        key: "format",
        advice: "Write `format = 1` at the top of the file.",
    })?;
    format.number_as(|text| match text {
        FORMAT => Ok(()),
        other => Err(format!("this version reads format {FORMAT}, not {other}")),
    })?;
    let mut bounds = Vec::new();
    if let Some(entry) = top.get("max") {
        bounds.push(bound(&entry, Pattern::Any)?);
    }
    for entry in entries(&top, "max-for")? {
        let names = entry.key.parse().map_err(|why: String| entry.wrong_name(why))?;
        bounds.push(bound(&entry, names)?);
    }
    let path = |text: &str| env.resolve(text, source.dir());
    let vetted = top.get("vetted").map(|entry| entry.list_as(path)).transpose()?;
    Ok(File {
        shown: source.shown().to_owned(),
        signers: entries(&top, "signers")?.iter().map(signer).collect::<Result<_, _>>()?,
        bounds,
        references: rules(&top, "references")?,
        paths: rules(&top, "paths")?,
        deny: denials(&top)?,
        vetted: vetted.unwrap_or_default(),
    })
}

/// Returns the entries of the table `key`; empty if the table does not exist.
fn entries<'a>(top: &Section<'a>, key: &str) -> Result<Vec<TomlEntry<'a>>, FileError> {
    let section = top.get(key).map(|entry| entry.section()).transpose()?;
    Ok(section.map_or_else(Vec::new, |section| section.entries().collect()))
}

fn signer(entry: &TomlEntry<'_>) -> Result<Signer, FileError> {
    const HINT: &str = "Write it as\n\n[signers.acme]\nkey = \"RW…\"\npublishes = [\"acme:*\"]";
    let section = entry.section().map_err(|error| error.with_advice(HINT))?;
    word(entry.key).map_err(|_| {
        entry
            .wrong_name("this is not a name for a signer")
            .with_advice("Use lower-case letters, digits and single dashes, beginning with a letter.")
    })?;
    section.only(&["key", "publishes"])?;
    let (Some(key), Some(publishes)) = (section.get("key"), section.get("publishes")) else {
        return Err(entry.wrong("it needs `key` and `publishes`").with_advice(HINT));
    };
    Ok(Signer {
        name: entry.key.to_owned(),
        key: key
            .text_as(|text| text.parse().map_err(|error: PublicKeyError| error.to_string()))
            .map_err(|error| {
                error.with_advice("Write the line that begins with RW: the second line of a .pub file.")
            })?,
        publishes: publishes.list_as(str::parse)?,
        place: entry.origin(),
    })
}

fn bound(entry: &TomlEntry<'_>, names: Pattern) -> Result<Bound, FileError> {
    let section = entry.section()?;
    const OTHER: &[&str] = &["models", "server-tools"];
    section.only(&[LimitsPatch::KEYS, OTHER].concat())?;
    let mut patch = LimitsPatch::default();
    for entry in section.entries().filter(|entry| !OTHER.contains(&entry.key)) {
        entry.number_as(|text| patch.set(entry.key, text))?;
    }
    let models = section
        .get("models")
        .map(|entry| entry.list_as(model_name))
        .transpose()?;
    let table = match names {
        Pattern::Any => "max".to_owned(),
        ref names => format!("max-for.\"{names}\""),
    };
    let rule = |entry: TomlEntry<'_>| {
        Ok::<_, FileError>(ServerToolRule {
            table: table.clone(),
            place: entry.origin(),
            tools: server_tools::read(&entry)?,
        })
    };
    Ok(Bound {
        server_tools: section.get("server-tools").map(rule).transpose()?,
        names,
        limits: Limits::none().overridden_by(&patch),
        models: models.map(|models| models.into_iter().collect()),
    })
}

/// Reads a model name, by the rule for `[models]` of a configuration.
fn model_name(text: &str) -> Result<String, String> {
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    match (1..=64).contains(&text.len()) && text.bytes().all(fine) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "`{}` is not a model name; write 1 to 64 of a-z, 0-9 and -",
            text.escape_debug()
        )),
    }
}

fn rules(top: &Section<'_>, key: &str) -> Result<Rules, FileError> {
    let Some(section) = top.get(key).map(|entry| entry.section()).transpose()? else {
        return Ok(Rules::default());
    };
    section.only(&["unsigned", "unvetted"])?;
    let rule = |key: &str| {
        let entry = section.get(key);
        entry.map(|entry| {
            let allow = entry.text_as(|text| match text {
                "allow" => Ok(true),
                "deny" => Ok(false),
                _ => Err(format!("`{}` is not known; write allow or deny", text.escape_debug())),
            })?;
            let place = entry.origin();
            Ok::<_, FileError>(Rule { allow, place })
        })
    };
    Ok(Rules {
        unsigned: rule("unsigned").transpose()?,
        unvetted: rule("unvetted").transpose()?,
    })
}

fn denials(top: &Section<'_>) -> Result<Vec<Denial>, FileError> {
    let Some(entry) = top.get("deny") else {
        return Ok(Vec::new());
    };
    let denied = entry.list_as(str::parse).map_err(|error| {
        error.with_advice(
            "Write a name (acme:bad), a namespace (acme:*), a release (acme:bad@1.2.0), or a digest (sha256:…).",
        )
    })?;
    let denial = |what| Denial {
        what,
        place: entry.origin(),
    };
    Ok(denied.into_iter().map(denial).collect())
}
