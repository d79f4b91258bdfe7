//! The entries of a directory, read at once and held until the guest drops their stream.
//!
//! `wasmtime-wasi` holds any number of entries, which no limit counts. Here a listing has at most [`MAX_ENTRIES`], the open
//! listings of a task hold at most [`MAX_BYTES`] together, and these bytes count as memory of the run. A listing that does not
//! fit is the error `insufficient-memory` for the guest, and none of it is kept.
//!
//! Left out: time. The guest pays for the entries once they are read.

use std::fs::File;
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode};
use wasmtime_wasi::p2::{FsError, FsResult};

use crate::RunMemory;
use crate::memory::KeptMemory;

/// The most entries of a directory that can be listed.
pub(super) const MAX_ENTRIES: usize = 50_000;
/// The most bytes that the open listings of a task hold together.
pub(super) const MAX_BYTES: u64 = 16 << 20;
/// The open listings of a task: a walk through a tree has one for each level.
pub(super) const MAX_OPEN: usize = 32;
/// The bytes of an entry without its name: its fields, its allocation, and its share of the spare capacity of the list.
const ENTRY_BYTES: u64 = 96;

/// The listing of a directory.
#[derive(Debug)]
pub(super) struct Listing {
    entries: std::vec::IntoIter<Result<DirectoryEntry, ErrorCode>>,
    /// The bytes that it holds.
    pub(super) bytes: u64,
    _kept: KeptMemory,
}

impl Listing {
    /// Lists `dir`, with at most `room` bytes. Blocks.
    pub(super) fn read(dir: &File, room: u64, run: &Arc<RunMemory>) -> FsResult<Self> {
        let full = || FsError::from(ErrorCode::InsufficientMemory);
        let mut kept = run.keep(0).map_err(|_| full())?;
        let mut bytes = 0;
        let mut entries = Vec::new();
        // Opened again, because the open handle may be a location only, and has one position for all its readers.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(dir, ".", flags, Mode::empty()).map_err(std::io::Error::from)?;
        let mut dir = Dir::new(opened).map_err(std::io::Error::from)?;
        while let Some(entry) = dir.read() {
            let entry = entry.map_err(std::io::Error::from)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let more = ENTRY_BYTES + name.to_bytes().len() as u64;
            bytes += more;
            if entries.len() == MAX_ENTRIES || bytes > room || kept.grow(more).is_err() {
                return Err(full());
            }
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    match statat(dir.fd().map_err(std::io::Error::from)?, name, AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                        // It was removed in the meantime.
                        Err(rustix::io::Errno::NOENT) => continue,
                        Err(error) => return Err(std::io::Error::from(error).into()),
                    }
                }
                known => known,
            };
            entries.push(match name.to_str() {
                Ok(name) => Ok(DirectoryEntry {
                    type_: named(kind),
                    name: name.to_owned(),
                }),
                Err(_) => Err(ErrorCode::IllegalByteSequence),
            });
        }
        Ok(Self {
            entries: entries.into_iter(),
            bytes,
            _kept: kept,
        })
    }

    /// The number of entries that were not taken yet.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes the next entry.
    pub(super) fn next(&mut self) -> FsResult<Option<DirectoryEntry>> {
        Ok(self.entries.next().transpose()?)
    }
}

fn named(kind: FileType) -> DescriptorType {
    match kind {
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Directory => DescriptorType::Directory,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::Socket => DescriptorType::Socket,
        FileType::Fifo | FileType::Unknown => DescriptorType::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryBound;

    fn run_of(bytes: u64) -> Arc<RunMemory> {
        let host = Arc::new(RunMemory::of_host(MemoryBound::configured(None)));
        Arc::new(RunMemory::of_run(MemoryBound::configured(Some(bytes)), &host))
    }

    fn refused(listing: FsResult<Listing>) -> bool {
        matches!(listing.unwrap_err().downcast_ref(), Some(ErrorCode::InsufficientMemory))
    }

    #[test]
    fn a_listing_has_every_entry_with_its_kind() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("file"), "").unwrap();
        std::fs::create_dir(scratch.path().join("dir")).unwrap();
        std::os::unix::fs::symlink("file", scratch.path().join("link")).unwrap();
        let dir = File::open(scratch.path()).unwrap();
        // Twice: each has a position of its own.
        for _ in 0..2 {
            let mut listing = Listing::read(&dir, MAX_BYTES, &run_of(MAX_BYTES)).unwrap();
            assert_eq!(listing.len(), 3);
            let mut entries = Vec::new();
            while let Some(entry) = listing.next().unwrap() {
                entries.push((entry.name, format!("{:?}", entry.type_)));
            }
            entries.sort();
            let expected = [
                ("dir", "DescriptorType::Directory"),
                ("file", "DescriptorType::RegularFile"),
                ("link", "DescriptorType::SymbolicLink"),
            ];
            assert_eq!(entries, expected.map(|(name, kind)| (name.to_owned(), kind.to_owned())));
        }
    }

    #[test]
    fn the_memory_of_listings_is_bounded_and_given_back() {
        let scratch = tempfile::tempdir().unwrap();
        for n in 0..20 {
            std::fs::write(scratch.path().join(format!("file{n:02}")), "").unwrap();
        }
        let dir = File::open(scratch.path()).unwrap();
        let size = 20 * (ENTRY_BYTES + 6);
        let run = run_of(2 * size);
        assert!(refused(Listing::read(&dir, size - 1, &run)));
        let first = Listing::read(&dir, size, &run).unwrap();
        assert_eq!(first.bytes, size);
        let _second = Listing::read(&dir, MAX_BYTES, &run).unwrap();
        assert!(refused(Listing::read(&dir, MAX_BYTES, &run)));
        drop(first);
        assert!(Listing::read(&dir, MAX_BYTES, &run).is_ok());
    }
}
