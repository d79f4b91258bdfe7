//! One row of CSV, byte by byte.
//!
//! The format is that of RFC 4180, and strict where a lenient reading would lose rows: after the closing quote of a
//! cell there is a delimiter or the end of the row. In a cell that does not begin with a quote, a quote is a character
//! like any other.

/// The state within a row.
#[derive(Clone, Copy, PartialEq)]
enum State {
    /// At the start of a cell.
    Start,
    Unquoted,
    Quoted,
    /// After a quote within a quoted cell.
    Closed,
    /// After the fault, up to the end of the line.
    Skipped,
}

/// The cells of a row, as far as they are read.
pub(super) struct RowParser {
    delimiter: u8,
    /// The most bytes of the row, and the most cells that are kept.
    most: usize,
    most_cells: usize,
    state: State,
    bytes: usize,
    cells: usize,
    text: Vec<u8>,
    /// The ends of the kept cells in `text`.
    ends: Vec<usize>,
    /// The line where the last quoted cell begins.
    opened: u64,
    fault: Option<String>,
    /// `true` if there is a quote in a cell that does not begin with one.
    has_stray_quote: bool,
}

impl RowParser {
    pub(super) fn new(delimiter: u8, most: usize) -> Self {
        Self {
            delimiter,
            most,
            most_cells: usize::MAX,
            state: State::Start,
            bytes: 0,
            cells: 0,
            text: Vec::new(),
            ends: Vec::new(),
            opened: 0,
            fault: None,
            has_stray_quote: false,
        }
    }

    /// Keeps this many cells of a row at most. Further ones are only counted.
    pub(super) fn keep(&mut self, cells: usize) {
        self.most_cells = cells;
    }

    /// Adds a byte on line `line` and returns whether it ends the row.
    pub(super) fn push(&mut self, byte: u8, line: u64) -> bool {
        let is_line_end = matches!(byte, b'\n' | b'\r');
        if !is_line_end || matches!(self.state, State::Quoted) {
            self.bytes = self.bytes.saturating_add(1);
        }
        self.state = match self.state {
            State::Quoted if byte == b'"' => State::Closed,
            State::Quoted => self.add(byte, State::Quoted),
            State::Closed if byte == b'"' => self.add(byte, State::Quoted),
            State::Skipped if is_line_end => return true,
            State::Skipped => State::Skipped,
            _ if is_line_end => {
                self.end_cell();
                return true;
            }
            _ if byte == self.delimiter => self.end_cell(),
            State::Closed => {
                let cell = self.cells + 1;
                self.fault = Some(match self.opened == line {
                    true => format!("text follows the closing quote of cell {cell}"),
                    false => format!(
                        "text follows the closing quote of cell {cell}, which begins on line {} and ends on line {line}",
                        self.opened
                    ),
                });
                State::Skipped
            }
            State::Start if byte == b'"' => {
                self.opened = line;
                State::Quoted
            }
            State::Start | State::Unquoted => {
                self.has_stray_quote |= byte == b'"';
                self.add(byte, State::Unquoted)
            }
        };
        false
    }

    /// Ends the row, which began on line `line`, at the end of the file.
    pub(super) fn finish(&mut self, line: u64) {
        match self.state {
            State::Quoted if self.opened == line => self.fault = Some("a quote is opened and never closed".into()),
            State::Quoted => self.fault = Some(format!("a quote is opened on line {} and never closed", self.opened)),
            State::Skipped => {}
            State::Start | State::Unquoted | State::Closed => {
                self.end_cell();
            }
        }
    }

    fn add(&mut self, byte: u8, next: State) -> State {
        if self.bytes <= self.most && self.cells < self.most_cells {
            self.text.push(byte);
        }
        next
    }

    fn end_cell(&mut self) -> State {
        if self.bytes <= self.most && self.cells < self.most_cells {
            self.ends.push(self.text.len());
        }
        self.cells += 1;
        State::Start
    }

    pub(super) fn is_too_long(&self) -> bool {
        self.bytes > self.most
    }

    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    pub(super) fn has_stray_quote(&self) -> bool {
        self.has_stray_quote
    }

    /// Returns the number of cells.
    pub(super) fn count(&self) -> usize {
        self.cells
    }

    /// Returns the bytes of the cells that were kept.
    pub(super) fn cells(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let cell = self.text.get(start..*end).unwrap_or_default();
            start = *end;
            cell
        })
    }

    /// Prepares for the next row. A large buffer is released.
    pub(super) fn clear(&mut self) {
        self.state = State::Start;
        (self.bytes, self.cells) = (0, 0);
        self.text.clear();
        self.text.shrink_to(64 << 10);
        self.ends.clear();
        (self.fault, self.has_stray_quote) = (None, false);
    }
}
