//! CSV with a header row: each row an item, each column a field.
//!
//! A row with more or fewer cells than the header is malformed, and so is a last row whose quote is never closed: such
//! a quote would silently take in all rows after it.

use std::collections::BTreeSet;
use std::io::BufRead;

use csv_core::ReadRecordResult;

use super::item::{Found, NextItem, too_long};

pub(super) struct Table<R> {
    from: R,
    most: usize,
    core: csv_core::Reader,
    /// The line of the next byte.
    line: u64,
    header: Option<Vec<String>>,
    text: Vec<u8>,
    ends: Vec<usize>,
}

/// A row of the file.
struct Row {
    line: u64,
    cells: Result<Vec<String>, String>,
}

impl<R: BufRead> Table<R> {
    pub(super) fn new(from: R, most: usize) -> Self {
        Self {
            from,
            most,
            core: csv_core::Reader::new(),
            line: 1,
            header: None,
            text: vec![0; 4 << 10],
            ends: vec![0; 64],
        }
    }

    pub(super) fn next(&mut self) -> NextItem {
        if self.header.is_none() {
            let Some(row) = self.row()? else { return Ok(None) };
            let header = row.cells.map_err(|problem| format!("the header: {problem}"))?;
            let mut seen = BTreeSet::new();
            for name in &header {
                if name.trim().is_empty() {
                    return Err("the header: a column has no name".into());
                }
                if !seen.insert(name) {
                    return Err(format!("the header: two columns are named {name}"));
                }
            }
            self.header = Some(header);
        }
        let Some(row) = self.row()? else { return Ok(None) };
        let header = self.header.as_deref().unwrap_or_default();
        let found = row.cells.and_then(|cells| match cells.len() == header.len() {
            true => Ok(Found::Row(header.iter().cloned().zip(cells).collect())),
            false => Err(format!(
                "the row has {} cells and the header {}",
                cells.len(),
                header.len()
            )),
        });
        Ok(Some((row.line, found)))
    }

    fn row(&mut self) -> Result<Option<Row>, String> {
        // The line ends before a row are read here, so that the row's line is that of its first byte.
        loop {
            let buffer = self.from.fill_buf().map_err(|error| error.to_string())?;
            match buffer.first() {
                Some(b'\n') => self.line += 1,
                Some(b'\r') => {}
                Some(_) => break,
                None => return Ok(None),
            }
            self.from.consume(1);
        }
        let line = self.line;
        let (mut written, mut ended, mut quotes, mut fits) = (0, 0, 0_u64, true);
        loop {
            let buffer = self.from.fill_buf().map_err(|error| error.to_string())?;
            let at_end = buffer.is_empty();
            let (result, read, out, ends) = self.core.read_record(
                buffer,
                self.text.get_mut(written..).unwrap_or_default(),
                self.ends.get_mut(ended..).unwrap_or_default(),
            );
            for byte in buffer.iter().take(read) {
                self.line += u64::from(*byte == b'\n');
                quotes += u64::from(*byte == b'"');
            }
            self.from.consume(read);
            (written, ended) = (written + out, ended + ends);
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if written >= self.most => (written, fits) = (0, false),
                ReadRecordResult::OutputFull => {
                    let more = self.text.len().saturating_mul(2).min(self.most.max(1));
                    self.text.resize(more.max(self.text.len() + 1), 0);
                }
                ReadRecordResult::OutputEndsFull if ended >= self.most => (ended, fits) = (0, false),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record => {
                    let cells = if !fits {
                        Err(too_long(self.most))
                    } else if at_end && quotes % 2 == 1 {
                        Err("a quote is opened and never closed".into())
                    } else {
                        self.cells(ended)
                    };
                    return Ok(Some(Row { line, cells }));
                }
                ReadRecordResult::End => return Ok(None),
            }
        }
    }

    /// Returns the cells of the row that was read.
    fn cells(&self, count: usize) -> Result<Vec<String>, String> {
        let mut start = 0;
        let cells = self.ends.iter().take(count).map(|end| {
            let cell = self.text.get(start..*end).unwrap_or_default();
            start = *end;
            std::str::from_utf8(cell)
                .map(str::to_owned)
                .map_err(|_| "not UTF-8 text".to_owned())
        });
        cells.collect()
    }
}
