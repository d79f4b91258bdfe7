//! Reads one TOML file so that every error names the file, the line and the key.
//!
//! This module does not know what the keys mean. A file is at most 1 MiB, which is far more than any configuration
//! needs and keeps a link to an endless file from filling memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::env::Env;
use super::error::{EntryProblem, FileError};
use super::origin::{Origin, Origins};
use agenthost_core::plain_file::{self, Links};

const MAX_FILE_BYTES: u64 = 1 << 20;

/// A file's text and how to name it.
pub struct Source<'e> {
    pub env: &'e Env,
    file: Arc<Path>,
    shown: Arc<str>,
    pub text: String,
}

impl<'e> Source<'e> {
    /// Reads `path`. A file that was found rather than named by the user must be a regular file, so that the host never
    /// waits on a pipe or a device that a stranger put there.
    pub fn read(env: &'e Env, path: PathBuf, found: bool) -> Result<Self, FileError> {
        let shown = env.shown(&path);
        let text = match read_text(&path, found) {
            Ok(Some(text)) => text,
            Ok(None) => {
                return Err(FileError::TooLarge {
                    path,
                    shown,
                    limit: MAX_FILE_BYTES,
                });
            }
            Err(source) => {
                return Err(FileError::Read {
                    path,
                    shown,
                    named: !found,
                    source,
                });
            }
        };
        Ok(Self {
            env,
            file: path.into(),
            shown: shown.into(),
            text,
        })
    }

    /// Returns the file's name for display.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Returns the directory that relative paths in this file start from.
    pub fn dir(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("/"))
    }

    /// Parses the file into its tables and the places of all keys.
    pub fn parse(&self) -> Result<(Spanned<DeTable<'_>>, Origins), FileError> {
        let table = DeTable::parse(&self.text).map_err(|error| {
            // The parser's message can have several lines; the first describes the error.
            let message = error.message().lines().next().unwrap_or("not TOML").to_owned();
            FileError::Syntax {
                at: self.at(error.span().map_or(0, |span| span.start)),
                duplicate: message.starts_with("duplicate"),
                problem: message,
            }
        })?;
        let mut origins = BTreeMap::new();
        self.record("", table.get_ref(), &mut origins);
        Ok((table, origins))
    }

    fn record(&self, prefix: &str, table: &DeTable<'_>, origins: &mut Origins) {
        for (key, value) in table {
            let path = format!("{prefix}{}", key.get_ref());
            if let DeValue::Table(inner) = value.get_ref() {
                self.record(&format!("{path}."), inner, origins);
            }
            origins.insert(path, self.at(key.span().start));
        }
    }

    /// Returns the place of a byte of the text.
    pub fn at(&self, byte: usize) -> Origin {
        let before = self.text.get(..byte).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        Origin::new(Arc::clone(&self.file), Arc::clone(&self.shown), line)
    }
}

/// Returns the text of a file; `None` if it is too large.
fn read_text(path: &Path, must_be_regular: bool) -> io::Result<Option<String>> {
    let file = match must_be_regular {
        true => plain_file::open(path, Links::Follow)?,
        false => File::open(path)?,
    };
    let mut text = String::new();
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    Ok((text.len() as u64 <= MAX_FILE_BYTES).then_some(text))
}

/// A table of a file.
pub struct Section<'a> {
    pub source: &'a Source<'a>,
    name: String,
    table: &'a DeTable<'a>,
}

impl<'a> Section<'a> {
    /// Returns the file's top-level table.
    pub fn top(source: &'a Source<'a>, table: &'a DeTable<'a>) -> Self {
        Self {
            source,
            name: String::new(),
            table,
        }
    }

    /// Refuses a key that is not among `known`. The error names the first such key of the file.
    pub fn only(&self, known: &[&str]) -> Result<(), FileError> {
        let strangers = self.table.keys().filter(|key| !known.contains(&key.get_ref().as_ref()));
        let Some(key) = strangers.min_by_key(|key| key.span().start) else {
            return Ok(());
        };
        Err(FileError::UnknownKey {
            at: self.source.at(key.span().start),
            section: self.name.clone(),
            key: key.get_ref().to_string(),
            known: known.iter().map(|known| (*known).to_owned()).collect(),
        })
    }

    /// Returns the entry with this key.
    pub fn get(&self, key: &str) -> Option<TomlEntry<'a>> {
        self.entries().find(|entry| entry.key == key)
    }

    /// Returns the value of this key as a number or a string that `parse` accepts; `None` if the key is missing.
    pub fn number_as<T, E: Into<String>>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, FileError> {
        self.get(key).map(|entry| entry.number_as(parse)).transpose()
    }

    /// Returns all entries, in the order of their names.
    pub fn entries(&self) -> impl Iterator<Item = TomlEntry<'a>> {
        self.table.iter().map(|(key, value)| TomlEntry {
            source: self.source,
            section: self.name.clone(),
            key: key.get_ref(),
            start: key.span().start,
            value,
        })
    }
}

/// A key with its value.
pub struct TomlEntry<'a> {
    source: &'a Source<'a>,
    section: String,
    pub key: &'a str,
    start: usize,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> TomlEntry<'a> {
    /// Returns the value as a table of its own.
    pub fn section(&self) -> Result<Section<'a>, FileError> {
        let DeValue::Table(table) = self.value.get_ref() else {
            return Err(self.expected("a table"));
        };
        // The name is quoted as in TOML, so that it can be searched for.
        let bare = self
            .key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        let key = if bare && !self.key.is_empty() {
            self.key.to_owned()
        } else {
            format!("\"{}\"", self.key)
        };
        Ok(Section {
            source: self.source,
            name: if self.section.is_empty() {
                key
            } else {
                format!("{}.{key}", self.section)
            },
            table,
        })
    }

    /// Returns the value as a table of its own; `None` if it is a string.
    pub fn section_unless_text(&self) -> Result<Option<Section<'a>>, FileError> {
        match self.value.get_ref() {
            DeValue::String(_) => Ok(None),
            DeValue::Table(_) => self.section().map(Some),
            _ => Err(self.expected("a string or a table")),
        }
    }

    /// Returns the value as a table of its own; `None` if it is a list.
    pub fn section_unless_list(&self) -> Result<Option<Section<'a>>, FileError> {
        match self.value.get_ref() {
            DeValue::Array(_) => Ok(None),
            DeValue::Table(_) => self.section().map(Some),
            _ => Err(self.expected("a table or a list of strings")),
        }
    }

    /// Returns the value as a string.
    pub fn text(&self) -> Result<&'a str, FileError> {
        self.value.get_ref().as_str().ok_or_else(|| self.expected("a string"))
    }

    /// Returns the value as a string that `parse` accepts.
    pub fn text_as<T, E: Into<String>>(&self, parse: impl FnOnce(&'a str) -> Result<T, E>) -> Result<T, FileError> {
        parse(self.text()?).map_err(|message| self.wrong(message))
    }

    /// Returns the value as a number or a string that `parse` accepts.
    pub fn number_as<T, E: Into<String>>(&self, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<T, FileError> {
        let read = match self.value.get_ref() {
            DeValue::String(text) => parse(text),
            DeValue::Integer(number) if number.radix() == 10 => parse(number.as_str()),
            DeValue::Integer(number) => parse(&number.to_string()),
            DeValue::Float(number) => parse(number.as_str()),
            _ => return Err(self.expected("a number or a string")),
        };
        read.map_err(|message| self.wrong(message))
    }

    /// Returns the value as a boolean.
    pub fn boolean(&self) -> Result<bool, FileError> {
        self.value
            .get_ref()
            .as_bool()
            .ok_or_else(|| self.expected("true or false"))
    }

    /// Returns the value as a list of strings that `parse` accepts.
    pub fn list_as<T, E: Into<String>>(&self, parse: impl Fn(&'a str) -> Result<T, E>) -> Result<Vec<T>, FileError> {
        let DeValue::Array(items) = self.value.get_ref() else {
            return Err(self.expected("a list of strings"));
        };
        let read = |item: &'a Spanned<DeValue<'a>>| {
            let text = item
                .get_ref()
                .as_str()
                .ok_or_else(|| self.expected("a list of strings"))?;
            parse(text).map_err(|message| self.wrong_at(item.span().start, EntryProblem::Value(message.into())))
        };
        items.iter().map(read).collect()
    }

    /// Returns the value as one string that `parse` accepts, or as a nonempty list of them.
    pub fn one_or_more_as<T, E: Into<String>>(
        &self,
        parse: impl Fn(&'a str) -> Result<T, E>,
    ) -> Result<Vec<T>, FileError> {
        match self.value.get_ref() {
            DeValue::Array(items) if items.is_empty() => Err(self.wrong("the list is empty")),
            DeValue::Array(_) => self.list_as(parse),
            DeValue::String(text) => Ok(vec![parse(text).map_err(|message| self.wrong(message))?]),
            _ => Err(self.expected("a string or a list of strings")),
        }
    }

    /// Returns the value as JSON. A date is a string.
    pub fn json(&self) -> Result<Value, FileError> {
        json(self.value.get_ref()).ok_or_else(|| self.wrong("JSON has no such number"))
    }

    /// Returns the file of this entry.
    pub fn source(&self) -> &'a Source<'a> {
        self.source
    }

    /// Returns the place of the key.
    pub fn origin(&self) -> Origin {
        self.source.at(self.start)
    }

    /// Returns an error about this entry's value.
    pub fn wrong(&self, problem: impl Into<String>) -> FileError {
        self.wrong_at(self.start, EntryProblem::Value(problem.into()))
    }

    /// Returns an error about this entry's key.
    pub fn wrong_name(&self, problem: impl Into<String>) -> FileError {
        self.wrong_at(self.start, EntryProblem::Name(problem.into()))
    }

    fn wrong_at(&self, byte: usize, problem: EntryProblem) -> FileError {
        FileError::Entry {
            at: self.source.at(byte),
            section: self.section.clone(),
            key: self.key.to_owned(),
            problem,
            advice: None,
        }
    }

    fn expected(&self, expected: &'static str) -> FileError {
        let found = self.value.get_ref().type_str();
        self.wrong_at(self.start, EntryProblem::Type { expected, found })
    }
}

/// Converts a value to JSON; `None` if it has a number that JSON does not have.
fn json(value: &DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => {
            let number = i64::from_str_radix(number.as_str(), number.radix()).ok()?;
            Value::Number(number.into())
        }
        DeValue::Float(number) => Value::Number(Number::from_f64(number.as_str().parse().ok()?)?),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(date) => Value::String(date.to_string()),
        DeValue::Array(items) => {
            let items = items.iter().map(|item| json(item.get_ref()));
            Value::Array(items.collect::<Option<_>>()?)
        }
        DeValue::Table(table) => {
            let fields = table
                .iter()
                .map(|(key, value)| Some((key.get_ref().to_string(), json(value.get_ref())?)));
            Value::Object(fields.collect::<Option<Map<_, _>>>()?)
        }
    })
}
