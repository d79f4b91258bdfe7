//! The only way to stdout and stderr.
//!
//! All text for people is made [printable](agenthost::printable) here, so no command can forget it: control characters,
//! invisible characters and those that change the order of text are shown as escapes. Bold and colors are [`Style`]s,
//! which no text can produce; an escape sequence inside a text is text.
//!
//! On stderr, a line that begins at the left margin is the program's own: a message of several lines is indented below
//! its first. If a line is too long, the terminal still breaks it at the margin.
//!
//! Lines that move, which `progress` draws from texts of one line each, are below everything that is written: they are
//! removed before, and drawn again after.
//!
//! The exceptions: the help, which is made from definitions alone, and the question for a password, which goes to the
//! terminal itself.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;

use indicatif::{MultiProgress, ProgressDrawTarget};
use rustix::termios::tcgetwinsize;
use unicode_width::UnicodeWidthChar as _;

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

/// The least indent of the rest of a line that is broken.
const HANGING: usize = 2;

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

    /// Returns the text with its lines broken between words so that they take at most `width` columns, if their words do.
    /// The rest of a broken line is indented like the line, and at least by [`HANGING`].
    pub(super) fn broken(&self, width: usize) -> Self {
        let (mut broken, mut used, mut indent, mut is_blank) = (Self::default(), 0, HANGING, true);
        for (style, text) in &self.pieces {
            let mut shown = String::new();
            for part in text.split_inclusive([' ', '\n']) {
                let word = part.trim_end_matches([' ', '\n']);
                let takes = text_width(&printable(word));
                if used + takes > width && used > indent {
                    shown.truncate(shown.trim_end_matches(' ').len());
                    shown.push('\n');
                    shown.push_str(&" ".repeat(indent));
                    used = indent;
                }
                shown.push_str(part);
                if part.ends_with('\n') {
                    (used, indent, is_blank) = (0, HANGING, true);
                } else {
                    used += takes + part.len() - word.len();
                    is_blank &= word.is_empty();
                    if is_blank {
                        indent = indent.max(used);
                    }
                }
            }
            broken.add(*style, shown);
        }
        broken
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

/// The lines that move on the terminal, of which a process has one.
static MOVING: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Returns the lines that move at the bottom of the terminal.
pub(super) fn moving() -> &'static MultiProgress {
    &MOVING
}

/// Shows no lines that move from now on.
pub(super) fn hide_moving() {
    MOVING.set_draw_target(ProgressDrawTarget::hidden());
}

/// Returns the number of columns that a printable text takes on a terminal.
pub(super) fn text_width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// Cuts `text` to at most `width` columns. The last one shows that text is missing. A number at the end is cut as a
/// whole.
pub(super) fn shortened(text: &str, width: usize) -> String {
    if text_width(text) <= width {
        return text.to_owned();
    }
    let (mut kept, mut used) = (0, 0);
    for (at, c) in text.char_indices() {
        used += c.width().unwrap_or(0);
        if used >= width {
            break;
        }
        kept = at + c.len_utf8();
    }
    let (mut shown, rest) = text.split_at(kept);
    let of_a_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | '$');
    if rest.starts_with(of_a_number) {
        shown = shown.trim_end_matches(of_a_number);
    }
    match width {
        0 => String::new(),
        _ => format!("{shown}…"),
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

    /// Returns the number of columns of the terminal.
    pub(super) fn columns(self) -> Option<usize> {
        Some(self.size()?.0)
    }

    /// Returns the columns and the rows of the terminal.
    pub(super) fn size(self) -> Option<(usize, usize)> {
        let size = match self {
            Self::Stdout => tcgetwinsize(io::stdout()),
            Self::Stderr => tcgetwinsize(io::stderr()),
        };
        let size = size.ok()?;
        Some((size.ws_col.into(), size.ws_row.into())).filter(|(columns, rows)| *columns > 0 && *rows > 0)
    }

    /// Writes one line or several for people. Messages are broken between words where the terminal ends.
    pub(super) fn line(self, text: &Styled) -> io::Result<()> {
        let columns = self.columns().filter(|_| self == Self::Stderr && self.is_terminal());
        let broken = columns.map(|columns| text.broken(columns));
        let text = broken.as_ref().unwrap_or(text);
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
        match self.is_terminal() {
            true => MOVING.suspend(|| self.write_now(bytes)),
            false => self.write_now(bytes),
        }
    }

    fn write_now(self, bytes: &[u8]) -> io::Result<()> {
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

/// Reports panics like any other message: they may quote a text of a plugin.
pub(super) fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        if agenthost::plugin::is_decoding() {
            return;
        }
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
    fn text_is_cut_by_columns_and_not_in_a_number() {
        for (text, width, shown) in [
            ("short", 5, "short"),
            ("a long text", 7, "a long…"),
            ("tokens 1,234,567 in all", 12, "tokens …"),
            ("$0.0123", 4, "…"),
            ("日本語の文", 6, "日本…"),
            ("anything", 0, ""),
        ] {
            assert_eq!(shortened(text, width), shown);
            assert!(text_width(shown) <= width);
        }
    }

    #[test]
    fn messages_are_broken_between_words_and_keep_their_styles() {
        let mut text = Styled::default();
        text.bold("note:").push(" it took 1,234,567 tokens\n  and more\n\nend");
        let broken = text.broken(18);
        assert_eq!(broken.plain(), "note: it took\n  1,234,567 tokens\n  and more\n\nend");
        assert_eq!(text.broken(80), text);
        assert_eq!(Styled::from("unbreakable").broken(4).plain(), "unbreakable");
        let deeper = Styled::from("    a text of some length").broken(14);
        assert_eq!(deeper.plain(), "    a text of\n    some\n    length");
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
