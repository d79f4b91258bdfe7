//! One item of a file, and the reasons for which it is malformed.

use serde_json::Value;

use agenthost_core::error::Result;

/// The place of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemLocation {
    /// The number of the item, from 0; malformed ones count.
    pub index: u64,
    /// The line where it begins, from 1.
    pub line: u64,
}

/// An item as it is in the file.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// A JSON value.
    Json(Value),
    /// The cells of a row, each with its column's name.
    Row(Vec<(String, String)>),
}

/// One item, or the reason why it is malformed.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchItem {
    /// The place of the item.
    pub at: ItemLocation,
    /// The item, or the reason.
    pub found: Result<Found, String>,
}

/// An entry's first line and its item; `None` after the last entry.
pub(super) type NextItem = Result<Option<(u64, Result<Found, String>)>, String>;

/// Parses JSON that begins on line `start` of its file.
pub(super) fn json(text: &[u8], start: u64) -> Result<Found, String> {
    serde_json::from_slice(text).map(Found::Json).map_err(|error| {
        let message = error.to_string();
        let problem = message.split(" at line ").next().unwrap_or_default();
        // In an array, the first line does not begin with the item, so a column there would mislead.
        match error.line() {
            0 => format!("not JSON: {problem}"),
            1 => format!("not JSON: {problem}, {} bytes into it", error.column()),
            line => format!(
                "not JSON: {problem}, on line {}",
                start.saturating_add(line as u64).saturating_sub(1)
            ),
        }
    })
}

/// Returns the reason for which an item of more than `most` bytes is malformed.
pub(super) fn too_long(most: usize) -> String {
    match most >> 20 {
        0 => format!("more than {most} bytes"),
        mib => format!("more than {mib} MiB"),
    }
}
