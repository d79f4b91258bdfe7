//! The file for the results of a batch, which only one process writes.
//!
//! The file is locked from before the run is begun or taken over until the process ends, in whatever way; the system
//! releases the lock. The file is emptied only once this process owns the run and has a first result to write, or has
//! found that there is none. Two processes that name the same file,
//! two that resume the same batch for example, never write to it together. Pipes and devices are not locked: several
//! processes may write to the same reader.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::super::output::Printer;
use agenthost::batch::items::Source;
use agenthost::batch::output::{Columns, Output};
use agenthost::config::Env;
use agenthost::error::{Error, Result};

/// The form of the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    JsonLines,
    Csv,
    /// CSV with tabs.
    Tsv,
}

impl Form {
    /// Returns the form that the name of the file asks for.
    pub(super) fn of(path: Option<&Path>) -> Result<Self> {
        let extension = path.and_then(Path::extension).and_then(|extension| extension.to_str());
        let refused = |what: &str| {
            let name = path.unwrap_or(Path::new("-")).display();
            Err(
                Error::usage(format!("--output {name}: results are not written as {what}"))
                    .with_hint("Name a .csv file for a spreadsheet, or a .jsonl file, and convert it."),
            )
        };
        match extension.unwrap_or_default().to_ascii_lowercase().as_str() {
            "csv" => Ok(Self::Csv),
            "tsv" => Ok(Self::Tsv),
            "parquet" => refused("Parquet"),
            "xlsx" | "xlsm" | "xlsb" | "xls" | "ods" => refused("a spreadsheet"),
            "gz" | "zst" | "bz2" | "xz" | "zip" => refused("compressed files"),
            _ => Ok(Self::JsonLines),
        }
    }
}

/// The destination of the results.
pub(super) enum Results {
    Stdout,
    /// A file that is left as it is, because the results in it are those of a finished batch.
    Kept,
    /// A file, and its name.
    File(File, String),
}

impl Results {
    /// Opens the file `path`, or stdout for `None`, without changing its content.
    pub(super) fn open(path: Option<&Path>, items: &Source, env: &Env) -> Result<Self> {
        let Some(path) = path else {
            return Ok(Self::Stdout);
        };
        let name = path.display().to_string();
        let path = env.cwd().join(path);
        if let (Ok(out), Ok(items)) = (path.metadata(), items.file().metadata())
            && (out.dev(), out.ino()) == (items.dev(), items.ino())
        {
            return Err(
                Error::usage(format!("--output {name}: is the file of the items")).with_hint("Name another file.")
            );
        }
        if leads_to_a_file(&path) {
            return Err(Error::usage(format!("--output {name}: is a link"))
                .with_hint("Name the file that it leads to if that is meant to be overwritten, or remove the link."));
        }
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| unwritable(&name, &error))?;
        let plain = file.metadata().is_ok_and(|file| file.is_file());
        if plain && flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return Err(
                Error::usage(format!("--output {name}: another process writes its results there"))
                    .with_hint("Wait for its end, or name another file."),
            );
        }
        Ok(Self::File(file, name))
    }

    /// Returns an output that empties the file before it writes to it.
    pub(super) fn begin(self, columns: Option<Columns>, printer: &Printer) -> Output<Box<dyn Write>> {
        let (to, name): (Box<dyn Write>, _) = match self {
            Self::Stdout => return Output::new(printer.stdout(), "stdout"),
            Self::Kept => (Box::new(std::io::sink()), String::new()),
            Self::File(file, name) => (
                Box::new(Emptied {
                    file,
                    is_emptied: false,
                }),
                name,
            ),
        };
        match columns {
            None => Output::new(to, name),
            Some(columns) => Output::csv(to, name, columns),
        }
    }
}

/// A file that is emptied before the first bytes are written to it.
struct Emptied {
    file: File,
    is_emptied: bool,
}

impl Emptied {
    fn empty(&mut self) -> std::io::Result<()> {
        if !self.is_emptied && self.file.metadata().is_ok_and(|file| file.is_file()) {
            self.file.set_len(0)?;
        }
        self.is_emptied = true;
        Ok(())
    }
}

impl Write for Emptied {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.empty()?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.empty()?;
        self.file.flush()
    }
}

/// Returns whether `path` is a link that a project could have left, so that the results overwrite a file elsewhere.
/// Links of the system, such as `/dev/stdout`, and links to pipes and devices do not count.
fn leads_to_a_file(path: &Path) -> bool {
    let is_link = path.symlink_metadata().is_ok_and(|found| found.is_symlink());
    let systems = ["/dev", "/proc"].iter().any(|place| path.starts_with(place));
    is_link && !systems && path.metadata().map_or(true, |target| target.is_file())
}

fn unwritable(name: &str, error: &std::io::Error) -> Error {
    Error::usage(format!("--output {name}: {error}")).with_hint("Name a file in a directory that can be written to.")
}
