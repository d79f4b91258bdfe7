//! The results of a batch as JSON Lines or CSV, in the order of the items.
//!
//! A line is `{"index", "line", "id"?, "carried"?, "items"?, "outcome", "spent"?}`. `index` counts items from 0, `line` is where the item
//! begins in its file, `outcome` is `{"ok": …}` or `{"failure": {"class", "message", …}}` as in a run's report, with
//! the class `input` for an item that fits no input. If a task takes several items, `items` is the first and the last
//! index of its task, and `spent` is in the first of its lines, so that a sum over all lines is right.
//!
//! `id` and `carried` are the item's own id and the columns that the plugin does not know; a line for several items has a
//! list of them. [`Columns`] describes the form of CSV.
//!
//! Hidden characters (see [`printable`]) are escaped. Lines are written whole and flushed whenever no further line is
//! ready, so a reader sees whole lines early.

mod table;

use std::io::Write;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;

use super::ItemEnd;
use super::tasks::{Bad, Origin, TaskItem};
use crate::error::BatchError;
use agenthost_core::error::Result;
use agenthost_core::limits::Spent;
use agenthost_core::printable;
use agenthost_core::task::{Failure, FailureClass, Outcome};

use self::table::TableResult;

pub use self::table::Columns;

/// The way in which the output of a task is split into items.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layout {
    /// `true` if tasks take several items.
    pub grouped: bool,
    /// `true` if the output is a list of WIT results: `{"ok": …}` or `{"err": …}` each.
    pub results: bool,
}

/// The class of an item that fits no input.
pub const BAD_INPUT: &str = "input";

/// One line of the output.
#[derive(Debug, Clone)]
pub struct Record {
    /// The items that it covers: at least one.
    items: Vec<TaskItem>,
    /// The first and the last item of its task.
    range: Option<[u64; 2]>,
    outcome: Result<Outcome, String>,
    spent: Option<Spent>,
}

impl Record {
    /// Returns the number of items that it covers.
    pub fn items(&self) -> u64 {
        self.items.len() as u64
    }

    /// Returns the class of the failure; `None` if there is an output.
    pub fn class(&self) -> Option<&'static str> {
        match &self.outcome {
            Ok(Outcome::Ok(_)) => None,
            Ok(Outcome::Failure(failure)) => Some(failure.class.name()),
            Err(_) => Some(BAD_INPUT),
        }
    }

    /// Returns the message of the failure; `None` if there is an output.
    pub fn message(&self) -> Option<&str> {
        match &self.outcome {
            Ok(Outcome::Ok(_)) => None,
            Ok(Outcome::Failure(failure)) => Some(&failure.message),
            Err(reason) => Some(reason),
        }
    }

    fn bad(bad: Bad) -> Self {
        let Bad { at, reason, origin } = bad;
        Self {
            items: vec![TaskItem { at, origin }],
            range: None,
            outcome: Err(reason),
            spent: None,
        }
    }

    fn in_table(&self) -> TableResult<'_> {
        let output = match &self.outcome {
            Ok(Outcome::Ok(output)) => Some(output),
            Ok(Outcome::Failure(_)) | Err(_) => None,
        };
        TableResult {
            items: &self.items,
            output,
            class: self.class(),
            message: self.message(),
            spent: self.spent.as_ref(),
        }
    }

    /// Returns the index of its first item.
    fn index(&self) -> u64 {
        self.items.first().map_or(0, |item| item.at.index)
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "lowercase")]
        enum BadInput<'a> {
            Failure { class: &'a str, message: &'a str },
        }
        let mut map = serializer.serialize_map(None)?;
        if let Some(first) = self.items.first() {
            map.serialize_entry("index", &first.at.index)?;
            map.serialize_entry("line", &first.at.line)?;
        }
        let origins = || self.items.iter().map(|item| &item.origin);
        if origins().any(|origin| origin.id.is_some()) {
            one_or_all(&mut map, "id", origins().map(|origin: &Origin| &origin.id).collect())?;
        }
        if origins().any(|origin| !origin.kept.is_empty()) {
            one_or_all(&mut map, "carried", origins().map(|origin| &origin.kept).collect())?;
        }
        if let Some(range) = &self.range {
            map.serialize_entry("items", range)?;
        }
        match &self.outcome {
            Ok(outcome) => map.serialize_entry("outcome", outcome)?,
            Err(reason) => map.serialize_entry(
                "outcome",
                &BadInput::Failure {
                    class: BAD_INPUT,
                    message: reason,
                },
            )?,
        }
        if let Some(spent) = &self.spent {
            map.serialize_entry("spent", spent)?;
        }
        map.end()
    }
}

/// Writes the only value of a line for one item, or the list of those of a line for several.
fn one_or_all<M: SerializeMap, T: Serialize>(map: &mut M, key: &str, values: Vec<T>) -> Result<(), M::Error> {
    match values.as_slice() {
        [one] => map.serialize_entry(key, one),
        all => map.serialize_entry(key, all),
    }
}

/// Returns the lines of one task, in the order of the items: one for each item if the output can be split, else one for
/// all.
pub fn records(items: Vec<TaskItem>, end: Option<ItemEnd>, bad: Vec<Bad>, layout: Layout) -> Vec<Record> {
    let mut records: Vec<Record> = bad.into_iter().map(Record::bad).collect();
    if let (Some(end), Some(first), Some(last)) = (end, items.first(), items.last()) {
        let range = layout.grouped.then_some([first.at.index, last.at.index]);
        match end.outcome {
            Outcome::Ok(Value::Array(outputs)) if layout.grouped && outputs.len() == items.len() => {
                let mut spent = Some(end.spent);
                records.extend(items.into_iter().zip(outputs).map(|(item, output)| Record {
                    items: vec![item],
                    range,
                    outcome: Ok(if layout.results {
                        own(output)
                    } else {
                        Outcome::Ok(output)
                    }),
                    spent: spent.take(),
                }));
            }
            outcome => records.push(Record {
                items,
                range,
                outcome: Ok(outcome),
                spent: Some(end.spent),
            }),
        }
    }
    records.sort_by_key(Record::index);
    records
}

/// Returns the outcome of an item from a plugin that returns a result for each item.
fn own(result: Value) -> Outcome {
    let Value::Object(mut case) = result else {
        return Outcome::Ok(result);
    };
    if let Some(output) = case.remove("ok") {
        return Outcome::Ok(output);
    }
    let error = case.remove("err").unwrap_or_default();
    let message = match &error {
        Value::String(text) => text.clone(),
        Value::Null => "the plugin gave no output and no reason for this item".into(),
        error => format!("the plugin gave an error for this item: {error}"),
    };
    Outcome::Failure(Failure {
        error: Some(error),
        ..Failure::new(FailureClass::Failed, message)
    })
}

/// A writer of result lines.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost::batch::ItemEnd;
/// use agenthost::batch::items::ItemLocation;
/// use agenthost::batch::output::{Layout, Output, records};
/// use agenthost::Outcome;
///
/// let end = ItemEnd::new(Outcome::Ok(serde_json::json!(42)));
/// let mut text = Vec::new();
/// let mut output = Output::new(&mut text, "results.jsonl");
/// let item = ItemLocation { index: 0, line: 1 };
/// for record in records(vec![item.into()], Some(end), Vec::new(), Layout::default()) {
///     output.write(&record)?;
/// }
/// output.flush()?;
/// assert!(String::from_utf8(text)?.starts_with(r#"{"index":0,"line":1,"outcome":{"ok":42},"spent":{"#));
/// # Ok(())
/// # }
/// ```
pub struct Output<W> {
    to: W,
    name: String,
    line: Vec<u8>,
    /// The columns of CSV; `None` for JSON Lines.
    columns: Option<Columns>,
}

/// The number of bytes after which gathered lines are written without an explicit flush.
const GATHERED: usize = 64 << 10;

impl<W: Write> Output<W> {
    /// Creates an output that writes to `to`. Error messages call it `name`.
    pub fn new(to: W, name: impl Into<String>) -> Self {
        Self {
            to,
            name: name.into(),
            line: Vec::new(),
            columns: None,
        }
    }

    /// Creates an output that writes CSV.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::batch::output::{Columns, Output};
    ///
    /// let mut text = Vec::new();
    /// let columns = Columns::new(["subject".to_owned()], ["label".to_owned()]);
    /// Output::csv(&mut text, "results.csv", columns).flush()?;
    /// assert!(String::from_utf8(text)?.starts_with("\u{feff}subject,label,outcome,message,cost,"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn csv(to: W, name: impl Into<String>, columns: Columns) -> Self {
        let mut output = Self::new(to, name);
        columns.begin(&mut output.line);
        output.columns = Some(columns);
        output
    }

    /// Adds a line.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Host`](agenthost_core::error::ErrorClass::Host) if the line cannot be written.
    pub fn write(&mut self, record: &Record) -> Result<()> {
        match &self.columns {
            Some(columns) => columns.write(&record.in_table(), &mut self.line),
            None => {
                let line = serde_json::to_string(record).map_err(|source| BatchError::Json {
                    name: self.name.clone(),
                    source,
                })?;
                self.line.extend_from_slice(printable::json(&line).as_bytes());
                self.line.push(b'\n');
            }
        }
        if self.line.len() >= GATHERED {
            return self.flush();
        }
        Ok(())
    }

    /// Writes all gathered lines, so that a reader sees them.
    ///
    /// # Errors
    ///
    /// As [`Output::write`].
    pub fn flush(&mut self) -> Result<()> {
        let written = self.to.write_all(&self.line).and_then(|()| self.to.flush());
        self.line.clear();
        // A large buffer is released once it is written.
        self.line.shrink_to(GATHERED);
        written.map_err(|source| {
            BatchError::Write {
                name: self.name.clone(),
                source,
            }
            .into()
        })
    }
}

#[cfg(test)]
mod tests;
