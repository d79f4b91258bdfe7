//! Results as CSV that spreadsheets open: UTF-8 with a byte order mark, a header row, a row for each item.
//!
//! The columns are those of the items, the fields of the output, and the host's own. A name that is taken gets a prefix.
//! A field that is a record or a list is JSON in its cell.
//!
//! A spreadsheet computes a cell that begins with `=`, `+`, `-` or `@`, and the text may come from a model. Such a cell
//! gets an apostrophe in front unless it is a number. Hidden characters are escaped as in JSON Lines.

use serde_json::Value;

use crate::batch::tasks::TaskItem;
use agenthost_core::limits::Spent;
use agenthost_core::printable::{json, printable};

/// The host's own columns.
const OWN: [&str; 7] = [
    "outcome",
    "message",
    "cost",
    "input_tokens",
    "output_tokens",
    "index",
    "line",
];

/// The characters with which a formula begins, in either width.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];

/// A result: that of one item, or of several whose results cannot be told apart.
pub(super) struct TableResult<'r> {
    pub(super) items: &'r [TaskItem],
    pub(super) output: Option<&'r Value>,
    /// The class of the failure; `None` if there is an output.
    pub(super) class: Option<&'r str>,
    pub(super) message: Option<&'r str>,
    pub(super) spent: Option<&'r Spent>,
}

/// The columns of results as CSV.
#[derive(Debug, Clone)]
pub struct Columns {
    items: Vec<String>,
    output: Vec<String>,
    delimiter: char,
    header: bool,
}

impl Columns {
    /// Creates the columns for the fields of the items and of the output. Without fields of the output, one column has
    /// the whole output.
    pub fn new(items: impl IntoIterator<Item = String>, output: impl IntoIterator<Item = String>) -> Self {
        Self {
            items: items.into_iter().collect(),
            output: output.into_iter().collect(),
            delimiter: ',',
            header: true,
        }
    }

    /// Sets the byte between two cells.
    ///
    /// ```
    /// use agenthost::batch::output::{Columns, Output};
    ///
    /// let mut text = Vec::new();
    /// Output::csv(&mut text, "results.csv", Columns::new([], []).delimiter(b';')).flush().unwrap();
    /// assert!(text.starts_with("\u{feff}output;outcome;".as_bytes()));
    /// ```
    #[must_use]
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = char::from(delimiter);
        self
    }

    /// Leaves out the byte order mark and the header, so that the rows can follow those of another file.
    ///
    /// ```
    /// use agenthost::batch::output::{Columns, Output};
    ///
    /// let mut text = Vec::new();
    /// Output::csv(&mut text, "results.csv", Columns::new([], []).no_header()).flush().unwrap();
    /// assert!(text.is_empty());
    /// ```
    #[must_use]
    pub fn no_header(mut self) -> Self {
        self.header = false;
        self
    }

    /// Writes what comes before the first row.
    pub(super) fn begin(&self, to: &mut Vec<u8>) {
        if !self.header {
            return;
        }
        to.extend_from_slice("\u{feff}".as_bytes());
        let mut names = self.items.clone();
        let mut add = |prefix: &str, name: &str| {
            let mut unique = name.to_owned();
            while names.contains(&unique) {
                unique = format!("{prefix}.{unique}");
            }
            names.push(unique);
        };
        match self.output.is_empty() {
            true => add("output", "output"),
            false => self.output.iter().for_each(|name| add("output", name)),
        }
        OWN.iter().for_each(|name| add("agenthost", name));
        self.row(names.iter().map(|name| text(name)), to);
    }

    /// Writes the rows of a result, one for each of its items. The cost is in the first.
    pub(super) fn write(&self, result: &TableResult<'_>, to: &mut Vec<u8>) {
        for (number, item) in result.items.iter().enumerate() {
            let cells = self.cells(result, item, number == 0);
            self.row(cells.into_iter(), to);
        }
    }

    fn cells(&self, result: &TableResult<'_>, item: &TaskItem, is_first: bool) -> Vec<String> {
        let kept = &item.origin.kept;
        let mut cells: Vec<String> = self.items.iter().map(|name| cell(kept.get(name))).collect();
        let output = result.output;
        match self.output.is_empty() {
            true => cells.push(cell(output)),
            false => cells.extend(
                self.output
                    .iter()
                    .map(|name| cell(output.and_then(|output| output.get(name)))),
            ),
        }
        let spent = result.spent.filter(|_| is_first);
        let cost = spent.and_then(|spent| spent.known_cost());
        cells.extend([
            result.class.unwrap_or("ok").to_owned(),
            text(result.message.unwrap_or_default()),
            cost.map(|cost| cost.as_f64().to_string()).unwrap_or_default(),
            spent.map(|spent| spent.input_tokens.to_string()).unwrap_or_default(),
            spent.map(|spent| spent.output_tokens.to_string()).unwrap_or_default(),
            item.at.index.to_string(),
            item.at.line.to_string(),
        ]);
        cells
    }

    fn row(&self, cells: impl Iterator<Item = String>, to: &mut Vec<u8>) {
        for (number, cell) in cells.enumerate() {
            if number > 0 {
                to.extend_from_slice(self.delimiter.encode_utf8(&mut [0; 4]).as_bytes());
            }
            let is_special = |c: char| c == self.delimiter || matches!(c, '"' | '\n' | ',' | ';' | '\t');
            if cell.contains(is_special) || cell.trim() != cell {
                to.push(b'"');
                to.extend_from_slice(cell.replace('"', "\"\"").as_bytes());
                to.push(b'"');
            } else {
                to.extend_from_slice(cell.as_bytes());
            }
        }
        to.extend_from_slice(b"\r\n");
    }
}

/// Returns the text of a cell for a value.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(string)) => text(string),
        Some(value) => json(&value.to_string()).into_owned(),
    }
}

/// Returns text as a cell that a spreadsheet shows and does not compute.
fn text(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let begins = text.trim_start().starts_with(FORMULA);
    let is_number = text.parse().is_ok_and(f64::is_finite);
    let guard = if begins && !is_number { "'" } else { "" };
    format!("{guard}{}", printable(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_formula_is_text_and_a_number_stays_a_number() {
        for formula in [
            "=1+1",
            "+cmd|x",
            "-2+3",
            "@SUM(1)",
            " =1",
            "\t=1",
            "\n=1",
            "\r=1",
            "-",
            "+inf",
            "\u{ff1d}1",
        ] {
            assert!(text(formula).starts_with('\''), "{formula:?}");
        }
        for plain in ["", "a=1", "-5", "+3.25", "-1e5", "'=1", "a\nb"] {
            assert_eq!(text(plain), plain);
        }
        assert_eq!(text("a\r\nb\u{1b}[31m"), "a\nb\\u{1b}[31m");
    }
}
