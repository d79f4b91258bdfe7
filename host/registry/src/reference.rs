//! Names of plugins: `acme:competitor`, with a version or a range, or a place in an OCI registry.
//!
//! Names become paths, tags and keys of files, so this module alone decides which names are valid: lowercase words of
//! letters and digits, joined by `-`. Everything else is refused, including look-alikes from other alphabets.

use std::fmt;
use std::str::FromStr;

use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};

use crate::error::ReferenceError;
use agenthost_plugin::Digest;
use agenthost_plugin::manifest::SubAgentPlace;

/// The maximum length of each half of a name, in bytes.
const MAX_WORD: usize = 64;

/// The name of a plugin: `namespace:name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name {
    namespace: String,
    name: String,
}

impl Name {
    /// Returns the part before the colon.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the part after the colon.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.namespace, self.name)
    }
}

impl FromStr for Name {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let wrong = |problem| ReferenceError::Name {
            text: text.to_owned(),
            problem,
        };
        let (namespace, name) = text.split_once(':').ok_or_else(|| wrong("there is no colon"))?;
        for half in [namespace, name] {
            word(half).map_err(wrong)?;
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}

impl TryFrom<String> for Name {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.to_string()
    }
}

/// Checks that `text` is valid as half of a name.
pub(super) fn word(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("one half is empty");
    }
    if text.len() > MAX_WORD {
        return Err("one half has more than 64 characters");
    }
    if !text
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    {
        return Err("it has characters that no name has");
    }
    if !text.starts_with(|first: char| first.is_ascii_lowercase()) || text.ends_with('-') || text.contains("--") {
        return Err("each half begins with a letter, and its dashes are single and between other characters");
    }
    Ok(())
}

/// A requirement on the version of a plugin.
///
/// Three numbers mean exactly that version; anything else is a range in cargo's syntax: `1.2` and `^1.2` mean 1.2 and
/// compatible versions, `~1.2` means 1.2.x, and `>=1.2, <1.5` is a range with two bounds. An empty requirement means
/// any release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Requirement {
    text: String,
    range: VersionReq,
}

impl Requirement {
    /// Returns the requirement that any release meets, but no pre-release.
    ///
    /// ```
    /// use agenthost_registry::Requirement;
    ///
    /// let any = Requirement::any();
    /// assert_eq!(any, "".parse()?);
    /// assert_eq!(any.best(&["1.2.0".parse()?, "2.0.0-rc.1".parse()?]), Some("1.2.0".parse()?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn any() -> Self {
        Self {
            text: String::new(),
            range: VersionReq::STAR,
        }
    }

    /// Returns the requirement that only this version meets.
    fn exactly(version: &Version) -> Self {
        let op = semver::Op::Exact;
        let comparator = semver::Comparator {
            op,
            major: version.major,
            minor: Some(version.minor),
            patch: Some(version.patch),
            pre: version.pre.clone(),
        };
        Self {
            text: version.to_string(),
            range: VersionReq {
                comparators: vec![comparator],
            },
        }
    }

    /// Returns the requirement that this version and compatible ones meet, like a bare version in cargo.
    ///
    /// ```
    /// use agenthost_registry::Requirement;
    ///
    /// let range = Requirement::compatible_with(&"1.2.0".parse()?);
    /// assert_eq!(range, "^1.2.0".parse()?);
    /// assert_eq!(range.best(&["1.1.0".parse()?, "1.10.0".parse()?, "2.0.0".parse()?]), Some("1.10.0".parse()?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn compatible_with(version: &Version) -> Self {
        let mut plain = version.clone();
        plain.build = semver::BuildMetadata::EMPTY;
        let text = format!("^{plain}");
        match text.parse() {
            Ok(range) => Self { text, range },
            Err(_) => Self::exactly(version),
        }
    }

    /// Returns the only version that meets the requirement; `None` if it is a range.
    pub fn exact(&self) -> Option<Version> {
        self.text.parse().ok()
    }

    /// Returns whether `version` meets the requirement.
    pub fn matches(&self, version: &Version) -> bool {
        match self.exact() {
            Some(exact) => exact == *version,
            None => self.range.matches(version),
        }
    }

    /// Returns the highest of `versions` that meets the requirement.
    pub fn best(&self, versions: &[Version]) -> Option<Version> {
        versions.iter().filter(|version| self.matches(version)).max().cloned()
    }

    /// Returns whether every release meets the requirement.
    pub fn is_any(&self) -> bool {
        self.text.is_empty()
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Requirement {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Ok(Self::any());
        }
        if let Ok(version) = text.parse::<Version>() {
            return Ok(Self {
                text: text.to_owned(),
                range: Self::exactly(&version).range,
            });
        }
        match text.parse() {
            Ok(range) => Ok(Self {
                text: text.to_owned(),
                range,
            }),
            Err(problem) => Err(ReferenceError::Requirement {
                text: text.to_owned(),
                problem,
            }),
        }
    }
}

impl TryFrom<String> for Requirement {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<Requirement> for String {
    fn from(requirement: Requirement) -> Self {
        requirement.text
    }
}

/// A selector of a release at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tag {
    /// A version.
    Version(Version),
    /// Another name, such as `latest`, which may move.
    Name(String),
    /// The digest of an OCI manifest.
    Manifest(Digest),
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, ":{}", tag_of(version)),
            Self::Name(name) => write!(f, ":{name}"),
            Self::Manifest(digest) => write!(f, "@{digest}"),
        }
    }
}

/// Returns a version as an OCI tag. Tags cannot contain `+`, so `_` separates build metadata, as is common.
pub(super) fn tag_of(version: &Version) -> String {
    version.to_string().replace('+', "_")
}

/// Reads a tag as a version; `None` if it is not one.
pub(super) fn version_of(tag: &str) -> Option<Version> {
    tag.replace('_', "+").parse().ok()
}

/// A release at a place in an OCI registry: `host/repository:tag`, or `host/repository@sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OciReference {
    /// The registry, such as `registry.example` or `127.0.0.1:5000`.
    pub host: String,
    /// The repository, such as `plugins/acme/competitor`.
    pub repository: String,
    /// The selected release; `None` means the highest version.
    pub tag: Option<Tag>,
}

impl OciReference {
    /// Returns `host/repository`, as lock files write it.
    pub fn place(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// Reads `host/repository`, as written in the configuration and in lock files.
    ///
    /// # Errors
    ///
    /// [`Usage`](agenthost_core::error::ErrorClass::Usage) if the text does not have this form.
    pub(super) fn parse_place(text: &str) -> Result<(String, String), ReferenceError> {
        let wrong = |problem| ReferenceError::Place {
            text: text.to_owned(),
            problem,
        };
        if text.contains("://") {
            return Err(wrong("leave out the scheme and the `//`"));
        }
        let (host, repository) = text.split_once('/').ok_or_else(|| wrong("there is no `/`"))?;
        if !is_host(host) {
            return Err(wrong("the part before the first `/` is not a host"));
        }
        if repository.len() > 255 || !repository.split('/').all(is_component) {
            return Err(wrong("the part after the host is not a repository"));
        }
        Ok((host.to_owned(), repository.to_owned()))
    }
}

impl fmt::Display for OciReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        self.tag.as_ref().map_or(Ok(()), |tag| tag.fmt(f))
    }
}

impl FromStr for OciReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let wrong = |problem| ReferenceError::Tag {
            text: text.to_owned(),
            problem,
        };
        let (place, tag) = match text.split_once('@') {
            Some((place, digest)) => {
                let digest = digest
                    .parse()
                    .map_err(|_| wrong("the part after `@` is not sha256: and 64 hexadecimal digits"))?;
                // As in `docker`, a tag before a digest is ignored.
                let place = match place.rsplit_once(':') {
                    Some((place, tag)) if !tag.contains('/') => place,
                    _ => place,
                };
                (place, Some(Tag::Manifest(digest)))
            }
            None => match text.rsplit_once(':') {
                Some((place, tag)) if !tag.contains('/') => (place, Some(parse_tag(tag).map_err(wrong)?)),
                _ => (text, None),
            },
        };
        let (host, repository) = Self::parse_place(place)?;
        Ok(Self { host, repository, tag })
    }
}

fn parse_tag(tag: &str) -> Result<Tag, &'static str> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let fine = tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
    match version_of(tag) {
        _ if !fine => Err("the part after the last `:` is not a tag"),
        Some(version) => Ok(Tag::Version(version)),
        None => Ok(Tag::Name(tag.to_owned())),
    }
}

/// Returns whether `text` is a host with a dot or a port, or localhost. Anything else would be the first part of a
/// repository.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && (!host.contains(':') || host.ends_with(']')) => {
            (host, Some(port))
        }
        _ => (text, None),
    };
    let port_fine = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|number| number > 0));
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_fine = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let label = |label: &str| {
                !label.is_empty()
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                    && !label.starts_with('-')
                    && !label.ends_with('-')
            };
            host.len() <= 253 && host.split('.').all(label)
        }
    };
    host_fine && port_fine && (host == "localhost" || host.contains('.') || port.is_some() || bracketed.is_some())
}

/// Returns whether `text` is a part of a repository: lower-case letters and digits, with separators between them.
fn is_component(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().copied().is_some_and(alphanumeric)
        && bytes.last().copied().is_some_and(alphanumeric)
        && bytes.iter().all(|byte| alphanumeric(*byte) || b"._-".contains(byte))
        && !text.contains("..")
}

/// A reference to a plugin, which `add`, `pull` and `run` accept in place of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A name, to be looked up in `[registries]`.
    Named {
        /// The plugin's name.
        name: Name,
        /// The requirement on its version.
        requirement: Requirement,
    },
    /// A place in an OCI registry.
    Oci(OciReference),
}

impl Reference {
    /// Returns whether `text` can only be meant as a reference: it does not begin like a path and does not end in
    /// `.wasm`.
    ///
    /// ```
    /// use agenthost_registry::Reference;
    ///
    /// let references = ["acme:competitor", "acme:competitor@^1.2", "registry.example/acme/competitor:1.2.0"];
    /// assert!(references.into_iter().all(Reference::looks_like_one));
    /// let paths = ["competitor", "plugins/competitor", "./acme:competitor", "competitor@1.2.0.wasm"];
    /// assert!(!paths.into_iter().any(Reference::looks_like_one));
    /// ```
    pub fn looks_like_one(text: &str) -> bool {
        matches!(SubAgentPlace::of(text), SubAgentPlace::Reference(_))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named { name, requirement } if requirement.is_any() => name.fmt(f),
            Self::Named { name, requirement } => write!(f, "{name}@{requirement}"),
            Self::Oci(reference) => reference.fmt(f),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.contains('/') {
            return Ok(Self::Oci(text.parse()?));
        }
        let (name, requirement) = text.split_once('@').unwrap_or((text, ""));
        if text.ends_with('@') {
            return Err(ReferenceError::NoVersion { text: text.to_owned() });
        }
        Ok(Self::Named {
            name: name.parse()?,
            requirement: requirement.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_names_or_places() {
        for text in [
            "acme:competitor",
            "acme:competitor@1.2.0",
            "acme:competitor@^1.2",
            "acme:c@>=1.2, <1.5",
            "registry.example/acme/competitor",
            "registry.example/acme/competitor:1.2.0",
            "127.0.0.1:5000/plugins/acme/competitor:latest",
            "localhost/a/b",
            "[::1]:5000/a:1",
        ] {
            let reference: Reference = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(reference.to_string(), text);
        }
        let digest = format!("registry.example/acme/c@{}", Digest::of(b""));
        assert_eq!(digest.parse::<Reference>().unwrap().to_string(), digest);
        let tagged = format!("registry.example/acme/c:1.0.0@{}", Digest::of(b""));
        assert_eq!(tagged.parse::<Reference>().unwrap().to_string(), digest);
    }

    #[test]
    fn what_could_be_taken_for_something_else_is_refused() {
        for text in [
            "",
            "acme",
            "acme:",
            ":x",
            "acme:..",
            "acme:a..b",
            "Acme:x",
            "acme:x_y",
            "acme:x--y",
            "acme:-x",
            "acme:x-",
            "acme:1x",
            "аcme:x", // a Cyrillic letter
            "acme:x\n",
            "acme:x\0",
            "acme:x\u{202e}",
            "acme:x:y",
            "acme:x@",
            "acme:x@latest",
            "acme:x@1.2.0.0",
            "acme:x@sha256:00",
            "registry/acme/x:1",
            "registry.example/../x:1",
            "registry.example/a//x",
            "registry.example/A/x",
            "registry.example/a/x:",
            "registry.example/a/x:-1",
            "registry.example/a/x:1 2",
            "registry.example/a/x@sha256:abc",
            "registry.example:99999/a",
            "registry.example:/a",
            "http://registry.example/a",
            "user@registry.example/a",
            "registry..example/a",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
        let long = format!("acme:{}", "x".repeat(65));
        assert!(long.parse::<Reference>().is_err());
    }

    #[test]
    fn a_version_is_exact_and_a_range_is_as_cargo_reads_it() {
        let versions: Vec<Version> = ["1.2.0", "1.2.9", "1.10.0", "2.0.0-rc.1", "0.9.0"]
            .map(|v| v.parse().unwrap())
            .into();
        for (requirement, best) in [
            ("", Some("1.10.0")),
            ("1.2.0", Some("1.2.0")),
            ("^1.2", Some("1.10.0")),
            ("1", Some("1.10.0")),
            ("~1.2", Some("1.2.9")),
            (">=0.9, <1.0", Some("0.9.0")),
            ("2.0.0-rc.1", Some("2.0.0-rc.1")),
            ("^2", None),
            ("1.2.3", None),
        ] {
            let requirement: Requirement = requirement.parse().unwrap();
            let found = requirement.best(&versions).map(|version| version.to_string());
            assert_eq!(found.as_deref(), best, "{requirement}");
        }
        let version: Version = "1.2.3+meta".parse().unwrap();
        assert!(Requirement::exactly(&version).matches(&version));
        assert_eq!(version_of(&tag_of(&version)), Some(version));
    }

    #[test]
    fn a_found_version_becomes_a_range() {
        let range = Requirement::compatible_with(&Version::new(1, 2, 3));
        assert_eq!(range.to_string(), "^1.2.3");
        assert!(range.matches(&Version::new(1, 9, 0)) && !range.matches(&Version::new(2, 0, 0)));
        let pre = Requirement::compatible_with(&"2.0.0-rc.1".parse().unwrap());
        assert!(pre.matches(&"2.0.0-rc.2".parse().unwrap()));
    }

    #[test]
    fn paths_are_told_from_references() {
        for path in ["./acme:x", "/a:b", "~/a:b", "a:b.wasm", "plugins/x", "x"] {
            assert!(!Reference::looks_like_one(path), "{path}");
        }
        for reference in ["acme:x", "acme:x@1.0.0", "h.example/a:1", "h.example/a@sha256:00"] {
            assert!(Reference::looks_like_one(reference), "{reference}");
        }
    }
}
