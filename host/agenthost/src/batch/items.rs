//! The items of a file, one at a time.
//!
//! Three formats: JSON Lines (one value per line; blank lines count as lines and not as items), CSV (a header row, then
//! an object per row), and a JSON array. A byte order mark and CRLF are accepted in each. A malformed item is an
//! [`BatchItem`] with a reason, and those after it are still found; a fault that makes the rest of the file unreadable is
//! an error.
//!
//! Bounds: one item is held at a time, of at most as many bytes as the caller allows; the rest of a longer one is
//! skipped. Input that can be read only once (stdin, a pipe) is copied to an unnamed file first, since items are read
//! twice: all of it, or hardly more than the first items if their number is limited.
//!
//! Left out: compressed files, other separators than the comma, the meaning of the items.

mod array;
mod item;
mod lines;
mod table;

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt};
use std::path::{Path, PathBuf};

use self::array::Array;
use self::item::NextItem;
use self::lines::Lines;
use self::table::Table;
use crate::error::BatchError;
use agenthost_core::error::Result;

pub use self::item::{BatchItem, Found, ItemLocation};

/// The format of a file of items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A JSON value on each line: `.jsonl`, `.ndjson`.
    JsonLines,
    /// Comma-separated values under a header row: `.csv`.
    Csv,
    /// One JSON array: `.json`.
    JsonArray,
}

impl Format {
    /// Returns the format for a file's extension.
    ///
    /// ```
    /// use agenthost::batch::items::Format;
    ///
    /// assert_eq!(Format::of("mails.ndjson".as_ref()), Some(Format::JsonLines));
    /// assert_eq!(Format::of("mails.txt".as_ref()), None);
    /// ```
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "csv" => Some(Self::Csv),
            "json" => Some(Self::JsonArray),
            _ => None,
        }
    }
}

/// A source of items that can be read from the start any number of times, by one reader after another.
#[derive(Debug)]
pub struct Source {
    file: File,
    name: String,
    format: Format,
    most: usize,
}

impl Source {
    /// Opens a file of items of at most `most` bytes each. Without a `format`, the file's extension determines it. A
    /// pipe is copied to the directory `spool` first.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::batch::items::{Found, Source};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let file = dir.path().join("people.csv");
    /// std::fs::write(&file, "name,age\nAda,36\n")?;
    /// let source = Source::open(&file, None, 1 << 20, dir.path())?;
    /// for entry in source.read()? {
    ///     let entry = entry?;
    ///     assert_eq!((entry.at.index, entry.at.line), (0, 2));
    ///     let Ok(Found::Row(cells)) = entry.found else { panic!("no row") };
    ///     assert_eq!(cells[1], ("age".to_owned(), "36".to_owned()));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Input`](agenthost_core::error::ErrorClass::Input) for a file that cannot be read, and
    /// [`ErrorClass::Usage`](agenthost_core::error::ErrorClass::Usage) if the format is unknown.
    pub fn open(path: &Path, format: Option<Format>, most: usize, spool: &Path) -> Result<Self> {
        Self::open_first(path, format, most, spool, None)
    }

    /// Like [`Source::open`], for a reader that takes only the first `items`. Hardly more are copied from a pipe.
    ///
    /// # Errors
    ///
    /// As [`Source::open`].
    pub fn open_first(
        path: &Path,
        format: Option<Format>,
        most: usize,
        spool: &Path,
        items: Option<u64>,
    ) -> Result<Self> {
        let name = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into_owned();
        let format = format
            .or_else(|| Format::of(path))
            .ok_or_else(|| BatchError::UnknownFormat { name: name.clone() })?;
        let failed = |source| BatchError::Read {
            name: path.display().to_string(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let kind = file.metadata().map_err(failed)?;
        if kind.file_type().is_char_device() || kind.file_type().is_block_device() {
            return Err(BatchError::Device { path: path.to_owned() }.into());
        }
        if kind.is_dir() {
            return Err(BatchError::Directory { path: path.to_owned() }.into());
        }
        if !kind.is_file() {
            return Self::spool_first(file, &name, format, most, spool, items);
        }
        Ok(Self {
            file,
            name,
            format,
            most,
        })
    }

    /// Copies the items of `from` to an unnamed file in the directory `spool`.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::batch::items::{Format, Source};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let piped: &[u8] = b"[1, 2, 3]";
    /// let source = Source::spool(piped, "stdin", Format::JsonArray, 1 << 20, dir.path())?;
    /// assert_eq!(source.read()?.count(), 3);
    /// assert_eq!(source.read()?.count(), 3, "as often as one likes");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Input`](agenthost_core::error::ErrorClass::Input) if `from` cannot be read, and
    /// [`ErrorClass::Host`](agenthost_core::error::ErrorClass::Host) if the directory cannot be written to.
    pub fn spool(from: impl Read, name: &str, format: Format, most: usize, spool: &Path) -> Result<Self> {
        Self::spool_first(from, name, format, most, spool, None)
    }

    /// Like [`Source::spool`], for a reader that takes only the first `items`: hardly more is read and copied, so that
    /// an endless input does not fill the disk.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::batch::items::{Format, Source};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let endless = std::io::Read::chain(&b"1\n2\n"[..], std::io::repeat(b'\n'));
    /// let source = Source::spool_first(endless, "stdin", Format::JsonLines, 1 << 20, dir.path(), Some(2))?;
    /// assert_eq!(source.read()?.count(), 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Source::spool`].
    pub fn spool_first(
        mut from: impl Read,
        name: &str,
        format: Format,
        most: usize,
        spool: &Path,
        items: Option<u64>,
    ) -> Result<Self> {
        let failed = |source| BatchError::Spool {
            name: name.to_owned(),
            spool: spool.to_owned(),
            source,
        };
        let mut file = nameless(spool).map_err(failed)?;
        match items {
            None => std::io::copy(&mut from, &mut file).map(|_| ()).map_err(failed)?,
            Some(items) => copy_first(from, &mut file, format, most, items).map_err(failed)?,
        }
        Ok(Self {
            file,
            name: name.to_owned(),
            format,
            most,
        })
    }

    /// Returns the name of the source in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the underlying file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns a reader from the start. Readers share a position, so only the newest one may be used.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Input`](agenthost_core::error::ErrorClass::Input) if the file cannot be read.
    pub fn read(&self) -> Result<Reader> {
        let failed = |source| BatchError::Read {
            name: self.name.clone(),
            source,
        };
        let mut file = self.file.try_clone().map_err(failed)?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let kind = Kind::new(file, self.format, self.most).map_err(failed)?;
        Ok(Reader {
            name: self.name.clone(),
            index: 0,
            kind: Some(kind),
        })
    }
}

/// Creates a file that is deleted as soon as it is closed.
fn nameless(dir: &Path) -> std::io::Result<File> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)?;
    let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let path: PathBuf = dir.join(format!("agenthost-items-{random}"));
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Copies the first `items` of `from`, and the bytes that were read along with them.
fn copy_first(from: impl Read, to: &mut File, format: Format, most: usize, items: u64) -> std::io::Result<()> {
    let trouble = RefCell::new(None);
    let copied = Copied {
        from,
        to,
        trouble: &trouble,
    };
    if items > 0
        && let Ok(mut kind) = Kind::new(copied, format, most)
    {
        for _ in 0..items {
            // A malformed item is found again when it is read.
            if !matches!(kind.next(), Ok(Some(_))) {
                break;
            }
        }
    }
    trouble.into_inner().map_or(Ok(()), Err)
}

/// A reader that copies what it reads.
struct Copied<'a, R> {
    from: R,
    to: &'a mut File,
    trouble: &'a RefCell<Option<std::io::Error>>,
}

impl<R: Read> Read for Copied<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let copied = self.from.read(buffer).and_then(|read| {
            self.to.write_all(buffer.get(..read).unwrap_or_default())?;
            Ok(read)
        });
        copied.map_err(|error| {
            let kind = error.kind();
            if kind != ErrorKind::Interrupted {
                self.trouble.replace(Some(error));
            }
            kind.into()
        })
    }
}

enum Kind<R> {
    Lines(Lines<BufReader<R>>),
    Table(Box<Table<BufReader<R>>>),
    Array(Array<BufReader<R>>),
}

impl<R: Read> Kind<R> {
    fn new(from: R, format: Format, most: usize) -> std::io::Result<Self> {
        let mut from = BufReader::with_capacity(64 << 10, from);
        if from.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
            from.consume(3);
        }
        Ok(match format {
            Format::JsonLines => Self::Lines(Lines::new(from, most)),
            Format::Csv => Self::Table(Box::new(Table::new(from, most))),
            Format::JsonArray => Self::Array(Array::new(from, most)),
        })
    }

    fn next(&mut self) -> NextItem {
        match self {
            Self::Lines(lines) => lines.next(),
            Self::Table(table) => table.next(),
            Self::Array(array) => array.next(),
        }
    }
}

/// An iterator over the items of a [`Source`]. It ends after an error.
pub struct Reader {
    name: String,
    index: u64,
    kind: Option<Kind<File>>,
}

impl Reader {
    /// Returns the name of the source in messages.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Iterator for Reader {
    type Item = Result<BatchItem>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.kind.as_mut()?.next() {
            Ok(Some((line, found))) => {
                let index = self.index;
                self.index += 1;
                Some(Ok(BatchItem {
                    at: ItemLocation { index, line },
                    found,
                }))
            }
            Ok(None) => {
                self.kind = None;
                None
            }
            Err(problem) => {
                self.kind = None;
                let name = self.name.clone();
                Some(Err(BatchError::Format { name, problem }.into()))
            }
        }
    }
}

#[cfg(test)]
mod tests;
