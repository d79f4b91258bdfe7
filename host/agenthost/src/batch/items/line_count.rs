//! Counting lines that end with LF, CRLF or CR.

/// The number of the line to which the next byte belongs, from 1.
#[derive(Debug)]
pub(super) struct LineCount {
    line: u64,
    after_cr: bool,
}

impl LineCount {
    pub(super) fn new() -> Self {
        Self {
            line: 1,
            after_cr: false,
        }
    }

    /// Returns the line of the next byte, unless that is the LF of a CRLF.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Counts a byte.
    pub(super) fn pass(&mut self, byte: u8) {
        let ends = byte == b'\r' || (byte == b'\n' && !self.after_cr);
        self.line += u64::from(ends);
        self.after_cr = byte == b'\r';
    }

    /// Returns whether the last byte was a CR, so that an LF belongs to the line before.
    pub(super) fn is_after_cr(&self) -> bool {
        self.after_cr
    }
}
