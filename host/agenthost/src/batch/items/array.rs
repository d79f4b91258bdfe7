//! A JSON array, read without holding more than one of its elements.
//!
//! The end of an element is found by its brackets and strings alone, so that a malformed one does not affect the
//! others.

use std::io::BufRead;

use super::item::{NextItem, json, too_long};
use super::line_count::LineCount;

pub(super) struct Array<R> {
    from: R,
    most: usize,
    lines: LineCount,
    at: At,
}

#[derive(Clone, Copy, PartialEq)]
enum At {
    Start,
    /// After the opening bracket.
    First,
    /// After a comma.
    Further,
    End,
}

/// The state of reading one element.
#[derive(Default)]
struct Element {
    text: Vec<u8>,
    depth: u64,
    in_string: bool,
    escaped: bool,
    too_long: bool,
    /// The line where it begins.
    line: u64,
    some: bool,
}

impl<R: BufRead> Array<R> {
    pub(super) fn new(from: R, most: usize) -> Self {
        Self {
            from,
            most,
            lines: LineCount::new(),
            at: At::Start,
        }
    }

    pub(super) fn next(&mut self) -> NextItem {
        match self.at {
            At::Start => {
                match self.after_space()? {
                    Some(b'[') => self.take(b'['),
                    Some(_) => return Err(format!("line {}: not a JSON array", self.lines.line())),
                    None => return Err("not a JSON array: there is nothing in it".into()),
                }
                self.at = At::First;
                if self.after_space()? == Some(b']') {
                    self.take(b']');
                    return self.end();
                }
            }
            At::First | At::Further => {}
            At::End => return Ok(None),
        }
        self.element().map(Some)
    }

    /// Checks that nothing follows the array.
    fn end(&mut self) -> NextItem {
        self.at = At::End;
        match self.after_space()? {
            None => Ok(None),
            Some(_) => Err(format!("line {}: something follows the array", self.lines.line())),
        }
    }

    fn element(&mut self) -> Result<(u64, Result<super::Found, String>), String> {
        self.after_space()?;
        let mut element = Element {
            line: self.lines.line(),
            ..Element::default()
        };
        loop {
            let buffer = self.from.fill_buf().map_err(|error| error.to_string())?;
            if buffer.is_empty() {
                return Err(format!(
                    "the array does not end; the last item begins on line {}",
                    element.line
                ));
            }
            let mut taken = 0;
            let mut ended = None;
            for byte in buffer.iter().copied() {
                taken += 1;
                self.lines.pass(byte);
                if element.ends_before(byte) {
                    ended = Some(byte);
                    break;
                }
                element.push(byte, self.most)?;
            }
            self.from.consume(taken);
            if let Some(by) = ended {
                if by == b']' {
                    self.end()?;
                } else {
                    self.at = At::Further;
                }
                return Ok((element.line, element.value(self.most)));
            }
        }
    }

    /// Skips white space and returns the next byte without consuming it.
    fn after_space(&mut self) -> Result<Option<u8>, String> {
        loop {
            let buffer = self.from.fill_buf().map_err(|error| error.to_string())?;
            match buffer.first().copied() {
                Some(byte) if byte.is_ascii_whitespace() => self.take(byte),
                first => return Ok(first),
            }
        }
    }

    fn take(&mut self, byte: u8) {
        self.lines.pass(byte);
        self.from.consume(1);
    }
}

impl Element {
    fn ends_before(&self, byte: u8) -> bool {
        self.depth == 0 && !self.in_string && matches!(byte, b',' | b']')
    }

    fn push(&mut self, byte: u8, most: usize) -> Result<(), String> {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
        } else {
            match byte {
                b'"' => self.in_string = true,
                b'[' | b'{' => self.depth += 1,
                b']' | b'}' => {
                    self.depth = self.depth.checked_sub(1).ok_or_else(|| {
                        format!("the item on line {} closes a bracket that it did not open", self.line)
                    })?;
                }
                _ => {}
            }
        }
        self.some |= !byte.is_ascii_whitespace();
        self.too_long |= self.text.len() >= most;
        if !self.too_long {
            self.text.push(byte);
        }
        Ok(())
    }

    fn value(&self, most: usize) -> Result<super::Found, String> {
        if self.too_long {
            Err(too_long(most))
        } else if !self.some {
            Err("not JSON: there is nothing beside the comma".into())
        } else {
            json(&self.text, self.line)
        }
    }
}
