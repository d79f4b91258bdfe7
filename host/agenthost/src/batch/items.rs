//! The items of a file, one at a time.
//!
//! Three formats: JSON Lines (one value per line; blank lines count as lines and not as items), CSV (a header row, then
//! an object per row), and a JSON array. A byte order mark, gzip, and lines that end with CRLF or CR are accepted in
//! each. A malformed item is an [`BatchItem`] with a reason, and those after it are still found; a fault that makes the
//! rest of the file unreadable is an error, and so is a file of another kind, such as a spreadsheet.
//!
//! Bounds: one item is held at a time, of at most as many bytes as the caller allows; the rest of a longer one is
//! skipped. Input that can be read only once (stdin, a pipe) is copied to an unnamed file first, since items are read
//! twice: all of it, or hardly more than the first items if their number is limited.
//!
//! Left out: other compression than gzip, other encodings than UTF-8, the meaning of the items.

mod array;
pub(crate) mod content;
mod item;
mod line_count;
mod lines;
mod row;
mod table;

use std::cell::RefCell;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, OpenOptionsExt};
use std::path::{Path, PathBuf};

use self::array::Array;
use self::content::{ForeignKind, Text, Unreadable};
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
    /// Rows of cells under a header row: `.csv`, `.tsv`.
    Csv,
    /// One JSON array: `.json`.
    JsonArray,
}

impl Format {
    /// Returns the format for a file's extension, before `.gz` if that is the last one.
    ///
    /// ```
    /// use agenthost::batch::items::Format;
    ///
    /// assert_eq!(Format::of("mails.ndjson".as_ref()), Some(Format::JsonLines));
    /// assert_eq!(Format::of("mails.csv.gz".as_ref()), Some(Format::Csv));
    /// assert_eq!(Format::of("mails.txt".as_ref()), None);
    /// ```
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "csv" | "tsv" => Some(Self::Csv),
            "json" => Some(Self::JsonArray),
            "gz" => Self::of(Path::new(path.file_stem()?)),
            _ => None,
        }
    }
}

/// How a file of items is read.
///
/// ```
/// use agenthost::batch::items::{Format, SourceOptions};
///
/// let options = SourceOptions::new(1 << 20).format(Format::Csv).delimiter(b';').first(100);
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SourceOptions {
    /// The most bytes of one item.
    pub most: usize,
    /// The format; `None` for the one that the file's extension names.
    pub format: Option<Format>,
    /// The byte between two cells of CSV; `None` for the one that the header shows.
    pub delimiter: Option<u8>,
    /// The number of items that are used. Hardly more are copied from a pipe.
    pub first: Option<u64>,
}

impl SourceOptions {
    /// Creates options for items of at most `most` bytes each.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            format: None,
            delimiter: None,
            first: None,
        }
    }

    /// Sets the format.
    #[must_use]
    pub fn format(mut self, format: impl Into<Option<Format>>) -> Self {
        self.format = format.into();
        self
    }

    /// Sets the byte between two cells of CSV.
    #[must_use]
    pub fn delimiter(mut self, delimiter: impl Into<Option<u8>>) -> Self {
        self.delimiter = delimiter.into();
        self
    }

    /// Sets the number of items that are used.
    #[must_use]
    pub fn first(mut self, items: impl Into<Option<u64>>) -> Self {
        self.first = items.into();
        self
    }
}

/// A source of items that can be read from the start any number of times, by one reader after another.
#[derive(Debug)]
pub struct Source {
    file: File,
    name: String,
    format: Format,
    delimiter: Option<u8>,
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
        Self::open_with(path, &SourceOptions::new(most).format(format), spool)
    }

    /// Like [`Source::open`], with further options.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::batch::items::{Source, SourceOptions};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let file = dir.path().join("people.csv");
    /// std::fs::write(&file, "name|age\nAda|36\n")?;
    /// let source = Source::open_with(&file, &SourceOptions::new(1 << 20).delimiter(b'|'), dir.path())?;
    /// assert_eq!(source.header()?, ["name", "age"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Source::open`].
    pub fn open_with(path: &Path, options: &SourceOptions, spool: &Path) -> Result<Self> {
        let name = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into_owned();
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
        let format = options.format.or_else(|| Format::of(path));
        if kind.is_file() && format.is_none() {
            // The content says more about the problem than the name.
            let mut start = [0; 4 << 10];
            let read = file.read_at(&mut start, 0).map_err(failed)?;
            let kind = content::foreign_start(start.get(..read).unwrap_or_default());
            if let Some(kind) = kind.or_else(|| content::foreign_name(path)) {
                return Err(foreign(&name, kind));
            }
        }
        let format = format.ok_or_else(|| BatchError::UnknownFormat { name: name.clone() })?;
        if !kind.is_file() {
            return Self::spool_with(file, &name, &options.clone().format(format), spool);
        }
        Ok(Self {
            file,
            name,
            format,
            delimiter: options.delimiter.or_else(|| is_tsv(path).then_some(b'\t')),
            most: options.most,
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
        Self::spool_with(from, name, &SourceOptions::new(most).format(format), spool)
    }

    /// Like [`Source::spool`], with further options. Without a format, the items are JSON Lines. If the number of items
    /// is limited, hardly more are read and copied, so that an endless input does not fill the disk.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::batch::items::{Source, SourceOptions};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let endless = std::io::Read::chain(&b"1\n2\n"[..], std::io::repeat(b'\n'));
    /// let source = Source::spool_with(endless, "stdin", &SourceOptions::new(1 << 20).first(2), dir.path())?;
    /// assert_eq!(source.read()?.count(), 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Source::spool`].
    pub fn spool_with(mut from: impl Read, name: &str, options: &SourceOptions, spool: &Path) -> Result<Self> {
        let failed = |source| BatchError::Spool {
            name: name.to_owned(),
            spool: spool.to_owned(),
            source,
        };
        let mut file = nameless(spool).map_err(failed)?;
        match options.first {
            None => std::io::copy(&mut from, &mut file).map(|_| ()).map_err(failed)?,
            Some(items) => copy_first(from, &mut file, options, items).map_err(failed)?,
        }
        Ok(Self {
            file,
            name: name.to_owned(),
            format: options.format.unwrap_or(Format::JsonLines),
            delimiter: options.delimiter,
            most: options.most,
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

    /// Returns the format of the items.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Returns the byte between two cells of CSV; `None` for another format.
    ///
    /// # Errors
    ///
    /// As [`Source::read`].
    pub fn delimiter(&self) -> Result<Option<u8>> {
        match self.begin()? {
            Kind::Table(table) => Ok(Some(table.delimiter())),
            Kind::Lines(_) | Kind::Array(_) => Ok(None),
        }
    }

    /// Returns the names of the columns of CSV; empty for another format.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Input`](agenthost_core::error::ErrorClass::Input) if the file cannot be read or has a malformed
    /// header.
    pub fn header(&self) -> Result<Vec<String>> {
        match self.begin()? {
            Kind::Table(mut table) => {
                let header = table.header().map(<[_]>::to_vec);
                header.map_err(|problem| {
                    let name = self.name.clone();
                    BatchError::Format { name, problem }.into()
                })
            }
            Kind::Lines(_) | Kind::Array(_) => Ok(Vec::new()),
        }
    }

    /// Returns a reader from the start. Readers share a position, so only the newest one may be used.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Input`](agenthost_core::error::ErrorClass::Input) if the file cannot be read or is not text in UTF-8.
    pub fn read(&self) -> Result<Reader> {
        Ok(Reader {
            name: self.name.clone(),
            index: 0,
            kind: Some(self.begin()?),
        })
    }

    fn begin(&self) -> Result<Kind<File>> {
        let failed = |source| BatchError::Read {
            name: self.name.clone(),
            source,
        };
        let mut file = self.file.try_clone().map_err(failed)?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        Kind::new(file, self.format, self.delimiter, self.most).map_err(|error| match error {
            Unreadable::Io(source) => failed(source).into(),
            Unreadable::Foreign(kind) => foreign(&self.name, kind),
        })
    }
}

/// Returns whether the name of the file says that tabs separate the cells.
fn is_tsv(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_ascii_lowercase();
    name.to_str()
        .is_some_and(|name| name.ends_with(".tsv") || name.ends_with(".tsv.gz"))
}

fn foreign(name: &str, kind: ForeignKind) -> agenthost_core::error::Error {
    BatchError::Foreign {
        name: name.to_owned(),
        what: kind.what,
        hint: kind.hint,
    }
    .into()
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
fn copy_first(from: impl Read, to: &mut File, options: &SourceOptions, items: u64) -> std::io::Result<()> {
    let format = options.format.unwrap_or(Format::JsonLines);
    let trouble = RefCell::new(None);
    let copied = Copied {
        from,
        to,
        trouble: &trouble,
    };
    if items > 0
        && let Ok(mut kind) = Kind::new(copied, format, options.delimiter, options.most)
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
    Lines(Lines<Text<R>>),
    Table(Box<Table<Text<R>>>),
    Array(Array<Text<R>>),
}

impl<R: Read> Kind<R> {
    fn new(from: R, format: Format, delimiter: Option<u8>, most: usize) -> Result<Self, Unreadable> {
        let from = Text::new(from)?;
        Ok(match format {
            Format::JsonLines => Self::Lines(Lines::new(from, most)),
            Format::Csv => Self::Table(Box::new(Table::new(from, delimiter, most)?)),
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
