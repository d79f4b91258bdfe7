//! JSON Lines: one value per line, which ends with LF, CRLF or CR.

use std::io::BufRead;

use super::item::{NextItem, json, too_long};
use super::line_count::LineCount;

pub(super) struct Lines<R> {
    from: R,
    most: usize,
    lines: LineCount,
    text: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(from: R, most: usize) -> Self {
        Self {
            from,
            most,
            lines: LineCount::new(),
            text: Vec::new(),
        }
    }

    pub(super) fn next(&mut self) -> NextItem {
        loop {
            self.text.clear();
            let Some((line, fits)) = self.line()? else {
                return Ok(None);
            };
            if !fits {
                return Ok(Some((line, Err(too_long(self.most)))));
            }
            if !self.text.trim_ascii().is_empty() {
                return Ok(Some((line, json(&self.text, line))));
            }
        }
    }

    /// Reads the next line into `text`, up to the bound, and returns its number and whether it fits; `None` at the end.
    fn line(&mut self) -> Result<Option<(u64, bool)>, String> {
        let (mut some, mut fits) = (false, true);
        let mut line = self.lines.line();
        loop {
            let mut buffer = self.from.fill_buf().map_err(|error| error.to_string())?;
            if !some && self.lines.is_after_cr() && buffer.first() == Some(&b'\n') {
                self.lines.pass(b'\n');
                self.from.consume(1);
                buffer = self.from.fill_buf().map_err(|error| error.to_string())?;
                line = self.lines.line();
            }
            if buffer.is_empty() {
                return Ok(some.then_some((line, fits)));
            }
            some = true;
            let end = buffer.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
            if self.text.len() + part.len() > self.most {
                fits = false;
            }
            if fits {
                self.text.extend_from_slice(part);
            }
            if !part.is_empty() {
                self.lines.pass(b' ');
            }
            if let Some(byte) = end.and_then(|end| buffer.get(end)) {
                self.lines.pass(*byte);
            }
            let taken = end.map_or(buffer.len(), |end| end + 1);
            self.from.consume(taken);
            if end.is_some() {
                return Ok(Some((line, fits)));
            }
        }
    }
}
