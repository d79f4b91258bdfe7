//! The bytes of a file of items as text: gzip is decompressed, and other kinds of files are recognized.
//!
//! Bounds: compressed data is decompressed piece by piece. It may expand to 16 MiB, or to [`MOST_EXPANSION`] times its
//! size if that is more: far above the usual for text, so that a small file cannot keep the host busy for hours.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

/// The size of a buffer. The kind of a file shows in fewer bytes.
const BUFFER: usize = 64 << 10;

/// The most bytes of text for each compressed byte, beyond [`FREE_EXPANSION`] bytes.
const MOST_EXPANSION: u64 = 250;

/// The bytes of text that may come from compressed data of any size.
const FREE_EXPANSION: u64 = 16 << 20;

/// A kind of file that holds no items that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ForeignKind {
    /// The kind, as in "is …".
    pub(crate) what: &'static str,
    pub(crate) hint: &'static str,
}

const fn foreign(what: &'static str, hint: &'static str) -> ForeignKind {
    ForeignKind { what, hint }
}

const TO_UTF_8: &str = "Convert it to UTF-8: iconv -f UTF-16 -t UTF-8 FILE > NEW, or save it again with that encoding \
                        (Excel: CSV UTF-8).";
const AS_CSV: &str = "Save the sheet as CSV (Excel: CSV UTF-8; LibreOffice: Text CSV with UTF-8), and give that file.";
const DECOMPRESS: &str = "Decompress it first. Of compressed files, gzip alone can be read.";
const EXPORT: &str = "Export its rows as JSON Lines or CSV.";
const AS_ITEMS: &str = "Give the items as JSON Lines, CSV or a JSON array.";

const UTF_16: ForeignKind = foreign("UTF-16 text", TO_UTF_8);
const UTF_32: ForeignKind = foreign(
    "UTF-32 text",
    "Convert it to UTF-8: iconv -f UTF-32 -t UTF-8 FILE > NEW.",
);
const EXCEL: ForeignKind = foreign("an Excel spreadsheet", AS_CSV);
const OPEN_DOCUMENT: ForeignKind = foreign("an OpenDocument spreadsheet", AS_CSV);
const PARQUET: ForeignKind = foreign("a Parquet file", EXPORT);
const ZIP: ForeignKind = foreign(
    "a ZIP archive, as a spreadsheet of Excel (.xlsx) or LibreOffice (.ods) is",
    "Save the sheet as CSV in UTF-8, or unpack the archive, and give that file.",
);
const NESTED_GZIP: ForeignKind = foreign("compressed twice with gzip", "Decompress it once: gunzip FILE.");

/// The first bytes of files that are not text.
const BY_START: [(&[u8], ForeignKind); 16] = [
    (b"\xff\xfe\0\0", UTF_32),
    (b"\0\0\xfe\xff", UTF_32),
    (b"\xff\xfe", UTF_16),
    (b"\xfe\xff", UTF_16),
    (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        foreign("a spreadsheet of an old Excel (.xls)", AS_CSV),
    ),
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", ZIP),
    (b"PAR1", PARQUET),
    (b"ARROW1\0\0", foreign("an Arrow file", EXPORT)),
    (b"SQLite format 3\0", foreign("an SQLite database", EXPORT)),
    (b"%PDF-", foreign("a PDF document", AS_ITEMS)),
    (b"\x28\xb5\x2f\xfd", foreign("compressed with zstd", DECOMPRESS)),
    (b"BZh", foreign("compressed with bzip2", DECOMPRESS)),
    (b"\xfd7zXZ\0", foreign("compressed with xz", DECOMPRESS)),
    (b"7z\xbc\xaf\x27\x1c", foreign("a 7z archive", DECOMPRESS)),
    (b"\x04\x22\x4d\x18", foreign("compressed with lz4", DECOMPRESS)),
];

/// Marks of binary files with which the first column of a table may begin as well.
const MAY_BEGIN_TEXT: [&[u8]; 2] = [b"PAR1", b"BZh"];

const GZIP: &[u8] = b"\x1f\x8b";

/// Recognizes a file that is not text in UTF-8 by its first bytes.
pub(crate) fn foreign_start(start: &[u8]) -> Option<ForeignKind> {
    let (_, kind) = BY_START
        .iter()
        .find(|(bytes, _)| {
            let rest = start.strip_prefix(*bytes);
            rest.is_some_and(|rest| !MAY_BEGIN_TEXT.contains(bytes) || !is_text(rest))
        })
        .or_else(|| {
            let html = start.trim_ascii_start().get(..9).unwrap_or_default();
            const MARKUP: (&[u8], ForeignKind) = (b"", foreign("an HTML or XML document", AS_ITEMS));
            let is_markup = html.starts_with(b"<?xml") || html.eq_ignore_ascii_case(b"<!doctype");
            is_markup.then_some(&MARKUP)
        })
        .or_else(|| {
            const PLAIN: (&[u8], ForeignKind) = (b"", UTF_16);
            is_utf_16(start).then_some(&PLAIN)
        })?;
    let holds = |part: &[u8]| start.windows(part.len()).any(|window| window == part);
    Some(match *kind {
        ZIP if holds(b"application/vnd.oasis.opendocument.spreadsheet") => OPEN_DOCUMENT,
        ZIP if holds(b"xl/") => EXCEL,
        kind => kind,
    })
}

/// Returns whether the first bytes are those of a text in ASCII.
fn is_text(bytes: &[u8]) -> bool {
    let text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n');
    !bytes.is_empty() && bytes.iter().take(32).all(text)
}

/// Returns whether text begins in UTF-16 without a byte order mark: each second byte of the first ones is 0.
fn is_utf_16(start: &[u8]) -> bool {
    let start = start.get(..start.len().min(64) & !1).unwrap_or_default();
    let zeros = |first: usize| start.iter().skip(first).step_by(2).all(|byte| *byte == 0);
    let some = |first: usize| start.iter().skip(first).step_by(2).all(|byte| *byte != 0);
    start.len() >= 4 && ((zeros(0) && some(1)) || (zeros(1) && some(0)))
}

/// Recognizes a file that holds no items by its extension.
pub(crate) fn foreign_name(path: &Path) -> Option<ForeignKind> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "xlsx" | "xlsm" | "xlsb" | "xls" => Some(EXCEL),
        "ods" => Some(OPEN_DOCUMENT),
        "parquet" => Some(PARQUET),
        _ => None,
    }
}

/// The text of a file, decompressed if it is gzip.
pub(super) enum Text<R> {
    Plain(BufReader<R>),
    Gzip(Box<BufReader<Gzip<R>>>),
}

/// A problem at the start of a text.
pub(super) enum Unreadable {
    Io(Error),
    Foreign(ForeignKind),
}

impl From<Error> for Unreadable {
    fn from(error: Error) -> Self {
        Self::Io(error)
    }
}

impl<R: Read> Text<R> {
    /// Begins to read text. A byte order mark of UTF-8 is skipped.
    pub(super) fn new(from: R) -> std::result::Result<Self, Unreadable> {
        let mut from = BufReader::with_capacity(BUFFER, from);
        let mut text = match from.fill_buf()?.starts_with(GZIP) {
            false => Self::Plain(from),
            true => {
                let gzip = Gzip {
                    from: MultiGzDecoder::new(Counted { from, read: 0 }),
                    written: 0,
                };
                Self::Gzip(Box::new(BufReader::with_capacity(BUFFER, gzip)))
            }
        };
        let start = text.fill_buf()?;
        if start.starts_with(b"\xef\xbb\xbf") {
            text.consume(3);
        } else if let Some(kind) = foreign_start(start) {
            return Err(Unreadable::Foreign(kind));
        } else if start.starts_with(GZIP) {
            return Err(Unreadable::Foreign(NESTED_GZIP));
        }
        Ok(text)
    }
}

impl<R: Read> Read for Text<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::Plain(from) => from.read(buffer),
            Self::Gzip(from) => from.read(buffer),
        }
    }
}

impl<R: Read> BufRead for Text<R> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        match self {
            Self::Plain(from) => from.fill_buf(),
            Self::Gzip(from) => from.fill_buf(),
        }
    }

    fn consume(&mut self, amount: usize) {
        match self {
            Self::Plain(from) => from.consume(amount),
            Self::Gzip(from) => from.consume(amount),
        }
    }
}

/// The text of a gzip file.
pub(super) struct Gzip<R> {
    from: MultiGzDecoder<Counted<R>>,
    written: u64,
}

impl<R: Read> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let read = self.from.read(buffer).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => Error::new(error.kind(), "the gzip data is cut off: the file is incomplete"),
            ErrorKind::InvalidInput | ErrorKind::InvalidData => {
                Error::new(error.kind(), format!("the gzip data is damaged: {error}"))
            }
            _ => error,
        })?;
        self.written += read as u64;
        let most = self.from.get_ref().read.saturating_mul(MOST_EXPANSION);
        if self.written > most.max(FREE_EXPANSION) {
            return Err(Error::other(format!(
                "the gzip data expands to more than {MOST_EXPANSION} times its size"
            )));
        }
        Ok(read)
    }
}

/// A reader that counts the bytes that were taken from it.
pub(super) struct Counted<R> {
    from: BufReader<R>,
    read: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let read = self.from.read(buffer)?;
        self.read += read as u64;
        Ok(read)
    }
}

impl<R: Read> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        self.from.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.from.consume(amount);
        self.read += amount as u64;
    }
}
