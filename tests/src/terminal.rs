//! A pseudo-terminal for the command line, and what a terminal must never be sent.
//!
//! The terminal changes nothing of what is written to it, so that what comes out of the other end is what the program
//! wrote. Hidden characters are found by Unicode's categories, independently of the product's own table.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::os::fd::{AsFd, FromRawFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::termios::{OptionalActions, OutputModes, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use unicode_general_category::{GeneralCategory, get_general_category};

/// The longest wait for a text: far longer than any of them takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// The end of a pseudo-terminal that a person would sit at.
#[derive(Debug)]
pub struct Screen {
    columns: u16,
    rows: u16,
    written: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
    keyboard: File,
}

/// The stdin of a program on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keyboard {
    /// The terminal.
    Attached,
    /// Nothing: stdin is empty.
    Missing,
}

impl Screen {
    /// Gives `command` a terminal of this size as its stdout and stderr, and as its stdin if it has a keyboard.
    ///
    /// # Panics
    ///
    /// If the system cannot open another terminal.
    pub(crate) fn attach(command: &mut Command, columns: u16, rows: u16, keyboard: Keyboard) -> Self {
        let (master, slave) = open();
        let mut modes = tcgetattr(&slave).unwrap();
        modes.output_modes.remove(OutputModes::OPOST);
        tcsetattr(&slave, OptionalActions::Now, &modes).unwrap();
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&slave, size).unwrap();
        let end = || Stdio::from(slave.as_fd().try_clone_to_owned().unwrap());
        command.stdout(end()).stderr(end());
        command.stdin(match keyboard {
            Keyboard::Attached => end(),
            Keyboard::Missing => Stdio::null(),
        });
        let keyboard = File::from(master.try_clone().unwrap());
        let written = Arc::default();
        let reader = std::thread::spawn({
            let written = Arc::clone(&written);
            move || copy(File::from(master), &written)
        });
        Self {
            columns,
            rows,
            written,
            reader,
            keyboard,
        }
    }

    /// Types a line.
    ///
    /// # Panics
    ///
    /// If the terminal takes no more.
    pub fn enter(&self, line: &str) {
        (&self.keyboard).write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The lines that a person sees now, without empty ones at the end.
    ///
    /// # Panics
    ///
    /// When it could not be read.
    pub fn lines(&self) -> Vec<String> {
        let size = |n: u16| NonZero::new(n).unwrap();
        let mut terminal = vt100::Parser::new(size(self.rows), size(self.columns), 0);
        for byte in self.written.lock().unwrap().iter() {
            // What the kernel does for a terminal that was not asked to leave bytes as they are.
            match byte {
                b'\n' => terminal.process(b"\r\n"),
                byte => terminal.process(&[*byte]),
            }
        }
        let rows = terminal.screen().rows(0, self.columns);
        let mut lines: Vec<_> = rows.map(|row| row.trim_end().to_owned()).collect();
        lines.truncate(
            lines
                .iter()
                .rposition(|line| !line.is_empty())
                .map_or(0, |last| last + 1),
        );
        lines
    }

    /// Waits until the screen is as `wanted` says, and returns its lines.
    ///
    /// # Panics
    ///
    /// If that does not happen.
    #[track_caller]
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
        let start = Instant::now();
        loop {
            let lines = self.lines();
            if wanted(&lines) {
                return lines;
            }
            assert!(start.elapsed() < PATIENCE, "no {what} in {lines:#?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until every end that a program has is closed.
    ///
    /// # Panics
    ///
    /// When it could not be read.
    pub(crate) fn close(self) -> ClosedScreen {
        let lines = {
            while !self.reader.is_finished() {
                std::thread::sleep(Duration::from_millis(5));
            }
            self.lines()
        };
        self.reader.join().unwrap();
        let written = String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned();
        ClosedScreen { lines, written }
    }
}

/// A screen to which nothing is written any more.
#[derive(Debug)]
pub struct ClosedScreen {
    /// The lines that a person sees, without empty ones at the end.
    pub lines: Vec<String>,
    /// Everything that was written.
    pub written: String,
}

fn copy(mut from: File, to: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    // Ends with an error once the last writer has gone.
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        to.lock().unwrap().extend_from_slice(&buffer[..read]);
    }
}

/// The two ends of a new terminal: the person's and the program's.
#[expect(unsafe_code, reason = "no safe function opens a terminal on every Unix")]
fn open() -> (OwnedFd, OwnedFd) {
    let (mut master, mut slave) = (-1, -1);
    // SAFETY: both numbers are written, and the other pointers may be null.
    let result = unsafe {
        libc::openpty(
            &mut master,
            &mut slave,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
    assert_eq!(result, 0, "no terminal is left");
    // SAFETY: they were just opened, and nothing else owns them.
    unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) }
}

/// Sequences of the program's own: its styles, and how `indicatif` redraws a line.
const OWN: &[&str] = &[
    "\u{1b}[0m",
    "\u{1b}[1m",
    "\u{1b}[32m",
    "\u{1b}[33m",
    "\u{1b}[31m",
    "\u{1b}[1;31m",
    "\u{1b}[2K",
];

/// The parts of `shown` that a terminal must not be sent, each with some of the text around it.
pub fn hidden(shown: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = shown;
    while let Some(c) = rest.chars().next() {
        let own = OWN.iter().find(|own| rest.starts_with(**own)).map(|own| own.len());
        let own = own.or_else(|| moves(rest));
        match own {
            Some(length) => rest = &rest[length..],
            None => {
                if is_hidden(c) {
                    found.push(rest.chars().take(30).collect::<String>().escape_debug().to_string());
                }
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    found
}

/// The length of a cursor movement up or down by less than a hundred lines, or back to the margin to redraw a line.
fn moves(text: &str) -> Option<usize> {
    if text.starts_with("\r\u{1b}[2K") || text.starts_with("\r\u{1b}[") && moves(&text[1..]).is_some() {
        return Some(1);
    }
    let digits = text.strip_prefix("\u{1b}[")?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).filter(|end| *end <= 2)?;
    digits[end..].starts_with(['A', 'B']).then_some(2 + end + 1)
}

fn is_hidden(c: char) -> bool {
    use GeneralCategory::{Control, Format, LineSeparator, ParagraphSeparator};
    // Signs of Arabic, Syriac and Kaithi that are format characters and are drawn.
    let drawn = matches!(u32::from(c), 0x600..=0x605 | 0x6dd | 0x70f | 0x890..=0x891 | 0x8e2 | 0x110bd | 0x110cd);
    // Letters and marks that show nothing.
    let blank = matches!(u32::from(c), 0x34f | 0x115f | 0x1160 | 0x17b4 | 0x17b5 | 0x180b..=0x180f | 0x3164 | 0xfe00..=0xfe0f | 0xffa0
        | 0xe0000..=0xe0fff);
    match get_general_category(c) {
        Control => !matches!(c, '\n' | '\t'),
        Format | LineSeparator | ParagraphSeparator => !drawn,
        _ => blank,
    }
}
