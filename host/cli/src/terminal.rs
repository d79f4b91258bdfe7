//! The only way to stdout and stderr.
//!
//! All text for people is made [printable](agenthost::printable) here, so no command can forget it: control characters,
//! invisible characters and those that change the order of text are shown as escapes. Bold and colors are [`Style`]s,
//! which no text can produce; an escape sequence inside a text is text.
//!
//! On stderr, a line that begins at the left margin is the program's own: a message of several lines is indented below
//! its first. If a line is too long, the terminal still breaks it at the margin.
//!
//! The exceptions: the help, which is made from definitions alone; lines that move, which `progress` draws from texts
//! of one line each; the question for a password, which goes to the terminal itself.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use rustix::termios::tcgetwinsize;

use agenthost::printable::printable;

/// The style of a piece of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Bold,
    Good,
    Warning,
    Bad,
    Error,
}

impl Style {
    /// Returns the escape sequence that switches it on; [`RESET`] switches it off.
    fn sequence(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\x1b[1m",
            Self::Good => "\x1b[32m",
            Self::Warning => "\x1b[33m",
            Self::Bad => "\x1b[31m",
            Self::Error => "\x1b[1;31m",
        }
    }
}

const RESET: &str = "\x1b[0m";

/// Text in pieces, each with its style.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Styled {
    pieces: Vec<(Style, String)>,
}

impl Styled {
    /// Adds `text` in a style.
    pub(super) fn add(&mut self, style: Style, text: impl Into<String>) -> &mut Self {
        self.pieces.push((style, text.into()));
        self
    }

    /// Adds `text` without a style.
    pub(super) fn push(&mut self, text: impl Into<String>) -> &mut Self {
        self.add(Style::Plain, text)
    }

    /// Adds `text` in bold.
    pub(super) fn bold(&mut self, text: impl Into<String>) -> &mut Self {
        self.add(Style::Bold, text)
    }

    /// Adds all of `other`.
    pub(super) fn append(&mut self, other: Self) -> &mut Self {
        self.pieces.extend(other.pieces);
        self
    }

    /// Returns the text without styles.
    #[cfg(test)]
    pub(super) fn plain(&self) -> String {
        self.pieces.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// Returns the text, made printable, with its styles if `colors`.
    fn shown(&self, colors: bool) -> String {
        let mut shown = String::new();
        for (style, text) in &self.pieces {
            let text = printable(text);
            match style {
                Style::Plain => shown.push_str(&text),
                _ if !colors || text.is_empty() => shown.push_str(&text),
                style => {
                    shown.push_str(style.sequence());
                    shown.push_str(&text);
                    shown.push_str(RESET);
                }
            }
        }
        shown
    }
}

impl<T: Into<String>> From<T> for Styled {
    fn from(text: T) -> Self {
        Self {
            pieces: vec![(Style::Plain, text.into())],
        }
    }
}

/// A standard stream of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// Returns whether a person may be reading.
    pub(super) fn is_terminal(self) -> bool {
        match self {
            Self::Stdout => io::stdout().is_terminal(),
            Self::Stderr => io::stderr().is_terminal(),
        }
    }

    /// Returns the number of characters on a line of the terminal.
    pub(super) fn columns(self) -> Option<usize> {
        let size = match self {
            Self::Stdout => tcgetwinsize(io::stdout()),
            Self::Stderr => tcgetwinsize(io::stderr()),
        };
        Some(usize::from(size.ok()?.ws_col)).filter(|columns| *columns > 0)
    }

    /// Writes one line or several for people.
    pub(super) fn line(self, text: &Styled) -> io::Result<()> {
        let mut shown = text.shown(self.has_colors());
        shown.push('\n');
        self.write(shown.as_bytes())
    }

    /// Writes a line of data, unchanged unless the stream is a terminal.
    pub(super) fn data(self, text: &str) -> io::Result<()> {
        let text = match self.is_terminal() {
            true => printable(text),
            false => Cow::Borrowed(text),
        };
        self.write(format!("{text}\n").as_bytes())
    }

    fn has_colors(self) -> bool {
        let choice = match self {
            Self::Stdout => anstream::AutoStream::choice(&io::stdout()),
            Self::Stderr => anstream::AutoStream::choice(&io::stderr()),
        };
        choice != anstream::ColorChoice::Never
    }

    fn write(self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes)?;
                stdout.flush()
            }
            Self::Stderr => io::stderr().lock().write_all(bytes),
        }
    }
}

/// Writes data, made printable for a terminal. A character must not be split over two writes.
impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.is_terminal() {
            true => Self::write(*self, printable(&String::from_utf8_lossy(bytes)).as_bytes())?,
            false => Self::write(*self, bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns `text` with all lines but the first indented by `width`.
pub(super) fn indented(text: &str, width: usize) -> Cow<'_, str> {
    if !text.contains('\n') {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for (at, line) in text.split('\n').enumerate() {
        if at > 0 {
            shown.push('\n');
            if !line.is_empty() {
                shown.push_str(&" ".repeat(width));
            }
        }
        shown.push_str(line);
    }
    shown.into()
}

/// Returns `text` with no line but the first at the margin.
pub(super) fn hanging(text: &str) -> Cow<'_, str> {
    let mut others = text.split('\n').skip(1);
    match others.all(|line| line.is_empty() || line.starts_with("  ")) {
        true => Cow::Borrowed(text),
        false => indented(text, 2),
    }
}

/// Writes logs to stderr: each event in one piece, printable, with its level in a color.
pub(super) struct Logs;

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let event = String::from_utf8_lossy(bytes);
        let event = hanging(event.trim_end_matches('\n'));
        let mut line = Styled::default();
        match event.split_at_checked(LEVEL) {
            Some((level, rest)) => line.add(level_style(level), level).push(rest),
            None => line.push(event),
        };
        Stream::Stderr.line(&line)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The width of a level at the beginning of an event.
const LEVEL: usize = 5;

fn level_style(level: &str) -> Style {
    match level.trim() {
        "ERROR" => Style::Bad,
        "WARN" => Style::Warning,
        "INFO" => Style::Good,
        _ => Style::Plain,
    }
}

/// Reports panics like any other message: they may quote a text of a plugin.
pub(super) fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::capture();
        let trace = match backtrace.status() {
            std::backtrace::BacktraceStatus::Captured => format!("\n{backtrace}"),
            _ => String::new(),
        };
        let mut line = Styled::default();
        line.add(Style::Error, "panic:")
            .push(format!(" {}", hanging(&format!("{panic}{trace}"))));
        // A failed write cannot be reported anywhere.
        let _ = Stream::Stderr.line(&line);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles_are_ours_and_sequences_in_a_text_are_text() {
        let mut text = Styled::default();
        text.bold("\u{1b}[31mname").push(" \u{1b}]0;x\u{7}").add(Style::Bad, "");
        assert_eq!(text.shown(true), "\u{1b}[1m\\u{1b}[31mname\u{1b}[0m \\u{1b}]0;x\\u{7}");
        assert_eq!(text.shown(false), "\\u{1b}[31mname \\u{1b}]0;x\\u{7}");
    }

    #[test]
    fn no_line_of_a_message_stands_at_the_margin() {
        for (text, shown) in [
            ("one line", "one line"),
            ("failed\nhint: trust me", "failed\n  hint: trust me"),
            ("failed\n hint: trust me\n\nb", "failed\n   hint: trust me\n\n  b"),
            ("2 imports:\n  a\n  b", "2 imports:\n  a\n  b"),
            ("\nhint: x", "\n  hint: x"),
            ("a\n\u{a0}\u{a0}hint: x", "a\n  \u{a0}\u{a0}hint: x"),
        ] {
            assert_eq!(hanging(text), shown);
        }
        assert_eq!(indented("a\nb\n\nc", 4), "a\n    b\n\n    c");
    }
}
