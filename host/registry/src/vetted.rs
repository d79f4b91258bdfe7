//! `vetted.toml`: who reviewed which bytes, and with what result. The file is made to be read in a pull request.
//!
//! An entry vouches for one digest. It also lists the rights that the plugin asks for, so that the review of the next
//! version can start from the difference, and so that a changed entry is detected: the policy compares an entry with
//! the component. The file is rewritten as a whole and sorted, and keeps the comments at its top. A file has at most 1
//! MiB. A [`policy`](super::policy) decides which vet files count.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use semver::Version;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::asks::Asks;
use super::error::VetError;
use super::files::replace;
use super::reference::Name;
use agenthost_config::reader::Source;
use agenthost_config::{Env, Origin as Place};
use agenthost_plugin::Digest;

/// The usual name of a vet file.
pub const VET_FILE: &str = "vetted.toml";

const FORMAT: u32 = 1;

/// The maximum length of `who`, in bytes; `MAX_NOTES` is that of `notes`.
const MAX_WHO: usize = 200;
const MAX_NOTES: usize = 8_000;

/// The comments at the top of a new file.
const HEADER: &str = "# Plugins that a person has reviewed and vouches for. `agenthost vet PLUGIN --accept` writes here;\n\
                      # entries are reviewed like code.\n";

/// An entry: one release, reviewed by one person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Vetted {
    /// The plugin's name.
    pub plugin: Name,
    /// The version of the release.
    pub version: Version,
    /// The digest of the component.
    pub digest: Digest,
    /// The person who vouches for it, by name or address; one line of at most 200 bytes.
    pub who: String,
    /// The date of the review, such as 2026-11-23.
    pub when: String,
    /// The reviewer's notes; at most 8,000 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub notes: String,
    /// The checks that it passed, one word each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<String>,
    /// The rights that it asks for.
    pub asks: Asks,
    #[serde(skip)]
    place: Option<Place>,
}

impl Vetted {
    /// Creates an entry with today's date, without notes and checks.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../agenthost/doc/guests.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// # let env = agenthost_config::Env::new([].into(), dir, None);
    /// use agenthost_plugin::Plugin;
    /// use agenthost_registry::{asks::Asks, statement::identity};
    /// use agenthost_registry::vetted::{VET_FILE, VetFile, Vetted};
    ///
    /// # let component = double();
    /// let plugin = Plugin::read(&component)?;
    /// let (name, version) = identity(&plugin)?;
    /// let entry = Vetted::new(name, version, plugin.digest, "Ada <ada@example.org>", Asks::of(&plugin));
    /// VetFile::record(&env, VET_FILE.as_ref(), entry)?;
    ///
    /// let file = VetFile::load(&env, VET_FILE.as_ref())?;
    /// assert_eq!(file.entries()[0].who, "Ada <ada@example.org>");
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(plugin: Name, version: Version, digest: Digest, who: impl Into<String>, asks: Asks) -> Self {
        Self {
            plugin,
            version,
            digest,
            who: who.into(),
            when: today(),
            notes: String::new(),
            checks: Vec::new(),
            asks,
            place: None,
        }
    }

    /// Returns the place of the entry, if it was read from a file.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// Returns the file that the entry was read from.
    pub fn file(&self) -> Option<&Path> {
        self.place.as_ref().map(Place::file)
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.who.trim().is_empty() || self.who.len() > MAX_WHO || self.who.chars().any(char::is_control) {
            return Err("`who` is one line of 1 to 200 bytes");
        }
        if !is_date(&self.when) {
            return Err("`when` is a day, such as \"2026-11-23\"");
        }
        if self.notes.len() > MAX_NOTES || self.notes.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            return Err("`notes` are at most 8,000 bytes, without control characters");
        }
        let is_word = |check: &String| {
            (1..=64).contains(&check.len())
                && check
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        match self.checks.iter().all(is_word) {
            true => Ok(()),
            false => Err("`checks` are words of a-z, 0-9 and -"),
        }
    }
}

/// A vet file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VetFile {
    entries: Vec<Vetted>,
    /// The comments at the top.
    header: String,
}

/// The file's form in TOML.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    #[serde(default)]
    vetted: Vec<Spanned<Vetted>>,
}

#[derive(Serialize)]
struct VetEntryToml<'a> {
    format: u32,
    vetted: &'a [Vetted],
}

impl VetFile {
    /// Reads the file at `path`; a missing file is empty.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use agenthost_config::Env;
    /// use agenthost_registry::vetted::VetFile;
    ///
    /// let env = Env::new([].into(), dir, None);
    /// assert_eq!(VetFile::load(&env, "vetted.toml".as_ref())?.entries(), []);
    ///
    /// std::fs::write(dir.join("vetted.toml"), "format = 1\n[[vetted]]\nplugin = 'competitor'\n")?;
    /// let error = VetFile::load(&env, "vetted.toml".as_ref()).err().ok_or("half a name")?;
    /// assert!(error.to_string().starts_with("vetted.toml:3: `competitor` is not a plugin's name"), "{error}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Config`](agenthost_core::error::ErrorClass::Config), with the line, if the file cannot be read or is invalid.
    pub fn load(env: &Env, path: &Path) -> Result<Self, VetError> {
        let path = env.cwd().join(path);
        if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Ok(Self {
                entries: Vec::new(),
                header: HEADER.to_owned(),
            });
        }
        let source = Source::read(env, path, true)?;
        let document: Document = toml::from_str(&source.text).map_err(|error| VetError::Syntax {
            at: source.at(error.span().map_or(0, |span| span.start)),
            problem: error.message().lines().next().unwrap_or("not TOML").to_owned(),
        })?;
        if document.format != FORMAT {
            return Err(VetError::Format {
                at: source.at(0),
                found: document.format,
                known: FORMAT,
            });
        }
        let entry = |entry: Spanned<Vetted>| {
            let place = source.at(entry.span().start);
            let mut entry = entry.into_inner();
            entry.check().map_err(|problem| VetError::Syntax {
                at: place.clone(),
                problem: problem.to_owned(),
            })?;
            entry.place = Some(place);
            Ok(entry)
        };
        let mut entries = document
            .vetted
            .into_iter()
            .map(entry)
            .collect::<Result<Vec<_>, VetError>>()?;
        sort(&mut entries);
        let top = source
            .text
            .lines()
            .take_while(|line| line.is_empty() || line.starts_with('#'));
        let header = top.map(|line| format!("{line}\n")).collect::<String>();
        Ok(Self { entries, header })
    }

    /// Returns all entries, sorted by plugin, version, digest and person.
    pub fn entries(&self) -> &[Vetted] {
        &self.entries
    }

    /// Writes an entry into the file at `path`, and replaces an earlier one of the same digest and person.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// # let env = agenthost_config::Env::new([].into(), dir, None);
    /// use agenthost_plugin::Digest;
    /// use agenthost_registry::asks::Asks;
    /// use agenthost_registry::vetted::{VET_FILE, VetFile, Vetted};
    ///
    /// let digest = Digest::of(b"a component");
    /// let mut entry = Vetted::new("acme:competitor".parse()?, "1.2.0".parse()?, digest, "Ada", Asks::default());
    /// VetFile::record(&env, VET_FILE.as_ref(), entry.clone())?;
    /// entry.notes = "Reads no files.".into();
    /// VetFile::record(&env, VET_FILE.as_ref(), entry)?; // again, by the same person
    ///
    /// let file = VetFile::load(&env, VET_FILE.as_ref())?;
    /// let notes: Vec<_> = file.entries().iter().map(|entry| entry.notes.as_str()).collect();
    /// assert_eq!(notes, ["Reads no files."]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`VetFile::load`]; [`Usage`](agenthost_core::error::ErrorClass::Usage) if the entry is invalid;
    /// [`Host`](agenthost_core::error::ErrorClass::Host) if the file cannot be written.
    pub fn record(env: &Env, path: &Path, entry: Vetted) -> Result<(), VetError> {
        let mut file = Self::load(env, path)?;
        entry.check().map_err(|problem| VetError::Entry { problem })?;
        file.entries
            .retain(|other| other.digest != entry.digest || other.who != entry.who);
        file.entries.push(entry);
        sort(&mut file.entries);
        let path = env.cwd().join(path);
        file.text()
            .map_err(io::Error::other)
            .and_then(|text| replace(&path, &text))
            .map_err(|source| VetError::Write { path, source })
    }

    fn text(&self) -> Result<String, toml::ser::Error> {
        let written = VetEntryToml {
            format: FORMAT,
            vetted: &self.entries,
        };
        let body = toml::to_string_pretty(&written)?;
        Ok(format!("{}{body}", self.header))
    }
}

/// Returns the last vetted version of a plugin before `below`, to compare a new one with.
pub(super) fn latest<'a>(entries: &'a [Vetted], name: &Name, below: &Version) -> Option<&'a Vetted> {
    let earlier = entries
        .iter()
        .filter(|entry| entry.plugin == *name && entry.version < *below);
    earlier.max_by(|one, other| (&one.version, &one.when).cmp(&(&other.version, &other.when)))
}

fn sort(entries: &mut [Vetted]) {
    let key = |entry: &Vetted| {
        (
            entry.plugin.clone(),
            entry.version.clone(),
            entry.digest.hex(),
            entry.who.clone(),
        )
    };
    entries.sort_by_cached_key(key);
}

/// Returns whether `text` is a date of the Gregorian calendar, in the form 2026-11-23.
fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let mut number = |len: usize| {
        let part = parts.next().filter(|part| part.len() == len)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
        part.parse::<u64>().ok()
    };
    let (Some(year), Some(month), Some(day)) = (number(4), number(2), number(2)) else {
        return false;
    };
    (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day)
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Returns today's date in UTC, in the form used by entries.
fn today() -> String {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs());
    date(seconds / 86_400)
}

/// Returns the date `days` days after 1970-01-01.
fn date(mut days: u64) -> String {
    let (mut year, mut month) = (1970, 1);
    while days >= days_of(year, month) {
        days -= days_of(year, month);
        month += 1;
        if month > 12 {
            (year, month) = (year + 1, 1);
        }
    }
    format!("{year:04}-{month:02}-{:02}", days + 1)
}

#[cfg(test)]
mod tests;
