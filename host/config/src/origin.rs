//! The place of a setting: a file and a line.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// The places of all entries, by their keys joined with dots.
pub(crate) type Origins = BTreeMap<String, Origin>;

/// The place of a setting: a file and a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    file: Arc<Path>,
    shown: Arc<str>,
    line: usize,
}

impl Origin {
    /// Returns the place in `file`, which is displayed as `shown`.
    pub(crate) fn new(file: Arc<Path>, shown: Arc<str>, line: usize) -> Self {
        Self { file, shown, line }
    }

    /// Returns the file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Returns the line, starting at 1.
    pub fn line(&self) -> usize {
        self.line
    }
}

/// Writes `agenthost.toml:7`, with a path relative to the working directory if the file is below it.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.shown, self.line)
    }
}
