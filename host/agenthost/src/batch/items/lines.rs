//! JSON Lines: one value per line.

use std::io::BufRead;

use super::item::{NextItem, json, too_long};

pub(super) struct Lines<R> {
    from: R,
    most: usize,
    /// The lines read so far.
    line: u64,
    text: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(from: R, most: usize) -> Self {
        Self {
            from,
            most,
            line: 0,
            text: Vec::new(),
        }
    }

    pub(super) fn next(&mut self) -> NextItem {
        loop {
            self.text.clear();
            let Some(fits) = self.line()? else { return Ok(None) };
            self.line += 1;
            if !fits {
                return Ok(Some((self.line, Err(too_long(self.most)))));
            }
            if !self.text.trim_ascii().is_empty() {
                return Ok(Some((self.line, json(&self.text, self.line))));
            }
        }
    }

    /// Reads the next line into `text`, up to the bound, and returns whether it fits; `None` at the end.
    fn line(&mut self) -> Result<Option<bool>, String> {
        let (mut some, mut fits) = (false, true);
        loop {
            let buffer = self.from.fill_buf().map_err(|error| error.to_string())?;
            if buffer.is_empty() {
                return Ok(some.then_some(fits));
            }
            some = true;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
            if self.text.len() + part.len() > self.most {
                fits = false;
            }
            if fits {
                self.text.extend_from_slice(part);
            }
            let taken = end.map_or(buffer.len(), |end| end + 1);
            self.from.consume(taken);
            if end.is_some() {
                return Ok(Some(fits));
            }
        }
    }
}
