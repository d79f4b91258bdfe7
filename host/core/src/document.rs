//! The documents of a plugin's memory: what a task can do with them, and the record of what it did.
//!
//! A document is a JSON text with a name, such as `notes/2026`. It is kept between runs in a directory that the plugin is
//! granted under the path [`GUEST_PATH`]. A document is at most [`MAX_DOCUMENT_BYTES`] long. A name has at most
//! [`MAX_NAME_BYTES`] bytes in at most [`MAX_NAME_PARTS`] parts, which consist of lower-case letters, digits, `-`, `_` and
//! `.`, and neither begin nor end with a dot nor end in `.json`. So a name is also a path that leads nowhere else, and
//! the name of a file that no other document has.
//!
//! Left out: where a document is stored, which is the sandbox's.

use std::fmt;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

/// The guest path under which a directory is the memory of a plugin.
pub const GUEST_PATH: &str = "/memory";
/// The maximum length of a document, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 1 << 20;
/// The maximum length of a name, in bytes.
pub const MAX_NAME_BYTES: usize = 200;
/// The maximum number of parts of a name.
pub const MAX_NAME_PARTS: usize = 8;

/// The kind of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DocumentAction {
    /// Reads a document.
    Get,
    /// Writes a document.
    Put,
    /// Removes a document.
    Remove,
    /// Lists the documents whose names begin with a text.
    List,
}

impl DocumentAction {
    /// Returns whether the operation changes a document.
    pub fn writes(self) -> bool {
        matches!(self, Self::Put | Self::Remove)
    }

    /// The name of the function in the contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Remove => "remove",
            Self::List => "list",
        }
    }
}

/// An operation of a task on its plugin's documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentOperation {
    /// The kind of the operation.
    pub action: DocumentAction,
    /// The name of the document, or the text with which the listed names begin.
    pub name: String,
    /// The document that is written; `None` for any other operation.
    pub json: Option<String>,
}

impl DocumentOperation {
    /// Checks what depends on nothing but the operation.
    ///
    /// # Errors
    ///
    /// Returns the error for the guest.
    ///
    /// ```
    /// use agenthost_core::document::{DocumentAction, DocumentError, DocumentOperation};
    ///
    /// let put = |name: &str, json: &str| DocumentOperation {
    ///     action: DocumentAction::Put,
    ///     name: name.into(),
    ///     json: Some(json.into()),
    /// };
    /// assert_eq!(put("notes/2026-11", "[1]").check(), Ok(()));
    /// assert!(matches!(put("../notes", "[1]").check(), Err(DocumentError::InvalidName(_))));
    /// assert!(matches!(put("notes", "[1").check(), Err(DocumentError::InvalidJson(_))));
    /// ```
    pub fn check(&self) -> Result<(), DocumentError> {
        match self.action {
            DocumentAction::List => check_prefix(&self.name),
            _ => check_name(&self.name),
        }
        .map_err(DocumentError::InvalidName)?;
        match &self.json {
            Some(json) if json.len() > MAX_DOCUMENT_BYTES => Err(too_large(&self.name)),
            Some(json) => check_json(json),
            None => Ok(()),
        }
    }

    /// The bytes of its texts.
    pub fn bytes(&self) -> u64 {
        (self.name.len() + self.json.as_ref().map_or(0, String::len)) as u64
    }
}

/// Returns the error for a document that is longer than [`MAX_DOCUMENT_BYTES`].
#[doc(hidden)]
pub fn too_large(name: &str) -> DocumentError {
    let most = MAX_DOCUMENT_BYTES >> 20;
    DocumentError::TooLarge(format!("`{name}` is larger than {most} MiB"))
}

/// Checks that a text is JSON.
///
/// # Errors
///
/// Returns the error for the guest.
#[doc(hidden)]
pub fn check_json(text: &str) -> Result<(), DocumentError> {
    let parsed = serde_json::from_str::<IgnoredAny>(text);
    parsed
        .map(drop)
        .map_err(|why| DocumentError::InvalidJson(why.to_string()))
}

/// Checks a name.
fn check_name(name: &str) -> Result<(), String> {
    let mut parts = 0;
    for part in name.split('/') {
        check_part(part).map_err(|why| format!("{}: {why}", shown(name)))?;
        parts += 1;
    }
    check_length(name, parts)
}

/// Checks the beginning of a name, in which the last part may be incomplete.
fn check_prefix(prefix: &str) -> Result<(), String> {
    let (whole, last) = prefix
        .rsplit_once('/')
        .map_or((None, prefix), |(whole, last)| (Some(whole), last));
    if last.starts_with('.') || !last.bytes().all(is_allowed) {
        return Err(format!("{}: {ALPHABET}", shown(prefix)));
    }
    match whole {
        Some(whole) => check_name(whole),
        None => check_length(prefix, 1),
    }
}

const ALPHABET: &str = "a part has lower-case letters, digits, `-`, `_` and `.`, and does not begin with a dot";

fn is_allowed(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.')
}

/// Returns whether a text is a part of a name.
#[doc(hidden)]
pub fn is_part(part: &str) -> bool {
    check_part(part).is_ok()
}

fn check_part(part: &str) -> Result<(), &'static str> {
    if part.is_empty() {
        return Err("a part is empty");
    }
    if part.starts_with('.') || !part.bytes().all(is_allowed) {
        return Err(ALPHABET);
    }
    if part.ends_with('.') || part.ends_with(".json") {
        return Err("a part does not end with a dot or with `.json`, which the host adds");
    }
    Ok(())
}

fn check_length(name: &str, parts: usize) -> Result<(), String> {
    if name.len() > MAX_NAME_BYTES || parts > MAX_NAME_PARTS {
        return Err(format!(
            "{}: it has at most {MAX_NAME_BYTES} bytes in {MAX_NAME_PARTS} parts",
            shown(name)
        ));
    }
    Ok(())
}

/// Returns the beginning of a name that a guest chose, for a message.
fn shown(name: &str) -> String {
    let beginning = name.get(..name.floor_char_boundary(MAX_NAME_BYTES)).unwrap_or_default();
    let more = if beginning.len() < name.len() { "…" } else { "" };
    format!("`{beginning}{more}`")
}

/// The reason why an operation was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DocumentError {
    /// No directory is granted as the plugin's memory.
    NotGranted,
    /// The directory is granted without writing.
    ReadOnly,
    /// Not the name of a document.
    InvalidName(String),
    /// Not JSON.
    InvalidJson(String),
    /// A document or a listing is too large.
    TooLarge(String),
    /// The run may not put more into the directory.
    QuotaFull(String),
    /// The file system failed.
    Io(String),
    /// Any other reason: its class and its text.
    Other(String, String),
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted => f.write_str("no memory is granted"),
            Self::ReadOnly => f.write_str("the memory is granted without writing"),
            Self::InvalidName(why) => write!(f, "not a valid name: {why}"),
            Self::InvalidJson(why) => write!(f, "not valid JSON: {why}"),
            Self::TooLarge(why) | Self::QuotaFull(why) | Self::Io(why) => f.write_str(why),
            Self::Other(class, why) => write!(f, "{class}: {why}"),
        }
    }
}

/// The result of an operation, as the task receives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DocumentResult {
    /// The document that was read.
    Document {
        /// Its JSON text; `None` if it does not exist.
        json: Option<String>,
    },
    /// The documents that were listed.
    Names {
        /// Their names, in order.
        names: Vec<String>,
        /// The number of files and directories that the host looked at.
        entries: u64,
    },
    /// The document was written or removed.
    Done,
    /// The operation was not done.
    Error {
        /// The reason.
        error: DocumentError,
    },
    /// A result whose texts are not kept.
    NotKept {
        /// The bytes of the texts.
        bytes: u64,
    },
}

impl DocumentResult {
    /// The bytes of its texts.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Document { json } => json.as_ref().map_or(0, |json| json.len() as u64),
            Self::Names { names, .. } => names.iter().map(|name| name.len() as u64).sum(),
            Self::NotKept { bytes } => *bytes,
            Self::Done | Self::Error { .. } => 0,
        }
    }

    /// Returns whether doing the same again would give no better result another time.
    #[doc(hidden)]
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Error { .. } | Self::NotKept { .. })
    }

    /// Removes what was read.
    #[must_use]
    pub fn without_texts(self) -> Self {
        match self {
            read @ (Self::Document { .. } | Self::Names { .. }) => Self::NotKept { bytes: read.bytes() },
            other => other,
        }
    }
}

impl From<DocumentError> for DocumentResult {
    fn from(error: DocumentError) -> Self {
        Self::Error { error }
    }
}

/// The record of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DocumentRecord {
    /// The kind of the operation.
    pub action: DocumentAction,
    /// The name of the document, or the text with which the listed names begin; `None` if it is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The length of the document that is written.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes: u64,
    /// The document that is written; `None` if it is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<String>,
    /// The digest of the operation, in hex; empty if it does not matter.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// The result; `None` until it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<DocumentResult>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

/// What a task did with a document, without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DocumentAccess {
    /// The task.
    pub task: String,
    /// The kind of the operation.
    pub action: DocumentAction,
    /// The name of the document, or the text with which the listed names begin; `None` if it is not kept.
    pub name: Option<String>,
    /// The length of the document, or of the listed names.
    pub bytes: u64,
    /// `true` if a document was read that does not exist.
    pub is_missing: bool,
    /// The reason why the operation was not done; `None` if it was done, or if it has no result.
    pub error: Option<DocumentError>,
}

impl DocumentAccess {
    /// Returns what `task` did.
    #[doc(hidden)]
    pub fn of(task: &str, record: &DocumentRecord) -> Self {
        let result = record.result.as_ref();
        Self {
            task: task.to_owned(),
            action: record.action,
            name: record.name.clone(),
            bytes: match record.action {
                DocumentAction::Put => record.bytes,
                _ => result.map_or(0, DocumentResult::bytes),
            },
            is_missing: matches!(result, Some(DocumentResult::Document { json: None })),
            error: match result {
                Some(DocumentResult::Error { error }) => Some(error.clone()),
                _ => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_path_that_leads_nowhere_else() {
        let longest = "a".repeat(MAX_NAME_BYTES);
        for name in ["a", "notes/2026-11_29.v1", "a/b/c/d/e/f/g/h", "json", longest.as_str()] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        let too_long = "a".repeat(MAX_NAME_BYTES + 1);
        for name in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "../a",
            "a/../b",
            "a/..",
            ".put-1",
            "a/.b",
            "a.",
            "a./b",
            "A",
            "ä",
            "a b",
            "a\0",
            "a\\b",
            "a:b",
            "a.json",
            "a.json/b",
            "a/b/c/d/e/f/g/h/i",
            too_long.as_str(),
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_prefix_may_end_anywhere_in_a_name() {
        for prefix in ["", "a", "a.", "notes/", "notes/20", "a/b.json"] {
            assert_eq!(check_prefix(prefix), Ok(()), "{prefix}");
        }
        for prefix in ["/", ".", "..", "../", "a/../", "a//", "a/.", "A", "notes/*"] {
            assert!(check_prefix(prefix).is_err(), "{prefix}");
        }
    }

    #[test]
    fn a_message_has_the_beginning_of_a_long_name() {
        let why = check_name(&"ä".repeat(1_000)).unwrap_err();
        assert!(
            why.starts_with("`ää") && why.contains("ä…`") && why.len() < 400,
            "{why}"
        );
    }

    #[test]
    fn a_document_is_bounded_json() {
        let put = |json: String| {
            let operation = DocumentOperation {
                action: DocumentAction::Put,
                name: "a".to_owned(),
                json: Some(json),
            };
            operation.check()
        };
        let text = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
        assert_eq!(put(text(MAX_DOCUMENT_BYTES)), Ok(()));
        assert!(matches!(
            put(text(MAX_DOCUMENT_BYTES + 1)),
            Err(DocumentError::TooLarge(_))
        ));
        for wrong in ["", "{", "[1] 2", &"[".repeat(100_000)] {
            assert!(matches!(put(wrong.to_owned()), Err(DocumentError::InvalidJson(_))));
        }
    }
}
