//! CSV with a header row: each row an item, each column a field.
//!
//! The delimiter is the one with which the header has the most cells, unless the caller or a first line `sep=;`, as
//! Excel reads and writes it, names it. A row with more or fewer cells than the header is malformed. So is a row with a
//! quote that is closed in the middle of a cell or never: it may have taken in rows after it.

use std::collections::BTreeSet;
use std::io::{BufRead, Chain, Cursor, Read as _};

use super::item::{Found, NextItem, too_long};
use super::line_count::LineCount;
use super::row::RowParser;

/// The delimiters that are detected. The first of equals is taken.
const DELIMITERS: [u8; 3] = *b",;\t";

/// The most bytes of a header of which the delimiter is detected.
const MOST_DETECTED: usize = 1 << 20;

/// The most columns. The largest spreadsheet has 16,384.
const MOST_COLUMNS: usize = 1 << 16;

pub(super) struct Table<R> {
    from: Chain<Cursor<Vec<u8>>, R>,
    most: usize,
    delimiter: u8,
    lines: LineCount,
    header: Option<Vec<String>>,
    parser: RowParser,
}

impl<R: BufRead> Table<R> {
    pub(super) fn new(mut from: R, delimiter: Option<u8>, most: usize) -> std::io::Result<Self> {
        let mut start = first_row(&mut from)?;
        let mut lines = LineCount::new();
        let named = delimiter_line(&start);
        if let Some((_, length)) = named {
            start.drain(..length).for_each(|byte| lines.pass(byte));
            // The header follows.
            start.extend(first_row(&mut from)?);
        }
        let named = delimiter.or(named.map(|(delimiter, _)| delimiter));
        let delimiter = named.unwrap_or_else(|| detect(&start));
        let mut parser = RowParser::new(delimiter, most);
        parser.keep(MOST_COLUMNS);
        Ok(Self {
            from: Cursor::new(start).chain(from),
            most,
            delimiter,
            lines,
            header: None,
            parser,
        })
    }

    pub(super) fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// Returns the names of the columns, or an empty list without a header.
    pub(super) fn header(&mut self) -> Result<&[String], String> {
        if self.header.is_none() {
            let Some((_, cells)) = self.row()? else { return Ok(&[]) };
            let cells = cells.map_err(|problem| format!("the header: {problem}"))?;
            if self.parser.count() > MOST_COLUMNS {
                return Err(format!("the header: more than {MOST_COLUMNS} columns"));
            }
            let header: Vec<String> = cells.iter().map(|name| name.trim().to_owned()).collect();
            let mut seen = BTreeSet::new();
            for (name, number) in header.iter().zip(1..) {
                if name.is_empty() {
                    return Err(format!("the header: column {number} has no name"));
                }
                if !seen.insert(name) {
                    return Err(format!("the header: two columns are named {name}"));
                }
            }
            self.parser.keep(header.len());
            self.header = Some(header);
        }
        Ok(self.header.as_deref().unwrap_or_default())
    }

    pub(super) fn next(&mut self) -> NextItem {
        let columns = self.header()?.len();
        loop {
            let Some((line, cells)) = self.row()? else {
                return Ok(None);
            };
            let header = self.header.as_deref().unwrap_or_default();
            let found = match (cells, self.parser.count()) {
                (Ok(cells), count) if count == columns => Ok(Found::Row(header.iter().cloned().zip(cells).collect())),
                // A line of spaces.
                (Ok(cells), 1) if cells.iter().all(|cell| cell.trim().is_empty()) => continue,
                (Ok(_), count) => Err(format!("the row has {count} cells and the header {columns}")),
                (Err(problem), _) => Err(problem),
            };
            return Ok(Some((line, found)));
        }
    }

    /// Reads a row, and returns its first line and its cells; `None` at the end.
    #[expect(clippy::type_complexity, reason = "a row is a line and its cells")]
    fn row(&mut self) -> Result<Option<(u64, Result<Vec<String>, String>)>, String> {
        // The line ends before a row are read here, so that the row's line is that of its first byte.
        loop {
            let buffer = self.from.fill_buf().map_err(|error| error.to_string())?;
            match buffer.first() {
                Some(byte @ (b'\n' | b'\r')) => self.lines.pass(*byte),
                Some(_) => break,
                None => return Ok(None),
            }
            self.from.consume(1);
        }
        let line = self.lines.line();
        self.parser.clear();
        loop {
            let buffer = self.from.fill_buf().map_err(|error| error.to_string())?;
            if buffer.is_empty() {
                self.parser.finish(line);
                break;
            }
            let (mut read, mut ended) = (0, false);
            for byte in buffer.iter().copied() {
                read += 1;
                ended = self.parser.push(byte, self.lines.line());
                self.lines.pass(byte);
                if ended {
                    break;
                }
            }
            self.from.consume(read);
            if ended {
                break;
            }
        }
        let cells = match self.parser.fault() {
            Some(fault) => Err(fault.to_owned()),
            None if self.parser.is_too_long() => Err(too_long(self.most)),
            None => self.cells(),
        };
        Ok(Some((line, cells)))
    }

    /// Returns the cells of the row that was read.
    fn cells(&self) -> Result<Vec<String>, String> {
        let text = |(cell, number): (&[u8], u64)| {
            std::str::from_utf8(cell).map(str::to_owned).map_err(|_| {
                format!("not UTF-8 text in cell {number}; a file in Windows-1252 or Latin-1 has to be converted")
            })
        };
        self.parser.cells().zip(1..).map(text).collect()
    }
}

/// Reads at least the first row and the blank lines before it, unless it is too long. It may end within the text.
fn first_row(from: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let (mut row, mut quotes, mut some) = (Vec::new(), 0_u64, false);
    while row.len() < MOST_DETECTED {
        let buffer = from.fill_buf()?;
        if buffer.is_empty() {
            break;
        }
        let end = buffer.iter().position(|byte| {
            let is_line_end = matches!(byte, b'\n' | b'\r');
            quotes += u64::from(*byte == b'"');
            some |= !is_line_end;
            is_line_end && some && quotes % 2 == 0
        });
        let taken = end.map_or(buffer.len(), |end| end + 1);
        row.extend_from_slice(buffer.get(..taken).unwrap_or_default());
        from.consume(taken);
        if end.is_some() {
            break;
        }
    }
    Ok(row)
}

/// Returns whether a byte may stand between two cells.
pub(crate) fn is_delimiter(byte: u8) -> bool {
    byte.is_ascii_punctuation() && byte != b'"' || matches!(byte, b' ' | b'\t')
}

/// Returns the delimiter of a first line such as `sep=;`, and the length of the line.
fn delimiter_line(start: &[u8]) -> Option<(u8, usize)> {
    let (name, rest) = start.split_at_checked(4)?;
    match rest {
        [delimiter, b'\n' | b'\r', ..] if name.eq_ignore_ascii_case(b"sep=") && is_delimiter(*delimiter) => {
            Some((*delimiter, 6))
        }
        _ => None,
    }
}

/// Returns the delimiter that gives the header the most cells.
fn detect(header: &[u8]) -> u8 {
    let first = header.iter().position(|byte| !matches!(byte, b'\n' | b'\r'));
    let header = header.get(first.unwrap_or_default()..).unwrap_or_default();
    let cells = |delimiter: u8| {
        let mut parser = RowParser::new(delimiter, MOST_DETECTED);
        if !header.iter().any(|byte| parser.push(*byte, 1)) {
            parser.finish(1);
        }
        // With the wrong delimiter, quotes are in the middle of cells.
        let is_clean = parser.fault().is_none() && !parser.has_stray_quote();
        (is_clean, parser.count())
    };
    let mut best = ((false, 0), b',');
    for delimiter in DELIMITERS {
        let score = cells(delimiter);
        if score > best.0 {
            best = (score, delimiter);
        }
    }
    best.1
}
