//! The file system of a task with granted directories. Without a grant it is not linked, and nothing here runs.
//!
//! A granted directory is opened once, when its run starts, and every task of the plugin in that run uses the opened
//! directory: a later change of the path leads nowhere else. Opening follows no links, because a guest with write
//! access to a parent directory could have left one there. Inside, `wasmtime-wasi` resolves every path of the guest
//! below the opened directory (on Linux with `openat2` and `RESOLVE_BENEATH`), so that `..`, an absolute path and a
//! link that leads out are errors for the guest. It refuses every change if the grant is read-only.
//!
//! A grant gives away real time, through the timestamps of files, and reproducibility: a journal holds no files, so a
//! run with a directory cannot be reproduced from its journal alone. A guest is bounded by a quota on what its run puts
//! into the directory (see [`quota`]), and by the number of files that it holds open (see [`store`](super::store)).
//! Reading and writing block a thread of tokio's pool for blocking work, never a worker.
//!
//! Only plain files and directories are opened: a pipe, socket or device is refused before anything waits for it. A
//! guest cannot create one. If one exists and the guest may write, two tasks can move it to the path of a plain file
//! between the check and the opening; then one of their own tasks waits until its time is up.

mod listing;
mod quota;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, open, openat};
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, Dir, FsPerms, OpenMode, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream, ErrorCode,
    Filesize, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use self::listing::Listing;
use self::quota::Counted;
pub use self::quota::Quota;
pub(super) use self::quota::{Account, Refusals};
use super::charges::{Charges, price};
use super::memory::RunMemory;

/// Opens only a location in the tree, if the system has such handles: parent directories need not be readable.
#[cfg(target_os = "linux")]
const PLACE: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
const PLACE: OFlags = OFlags::RDONLY;

/// A directory that is open for the tasks of a run.
#[derive(Clone)]
pub struct OpenDir {
    dir: Dir,
    guest: String,
    /// The quota for writing; `None` if the directory is read-only.
    quota: Option<Arc<Quota>>,
}

impl OpenDir {
    /// Opens `host`, an absolute path without links, under the guest path `guest`: read-only, or with a `quota` for
    /// writing.
    ///
    /// # Errors
    ///
    /// Returns the error of the system. A link in the path is an error like any other file that is not a directory.
    pub fn open(host: &Path, guest: &str, quota: Option<Arc<Quota>>) -> io::Result<Self> {
        let flags = PLACE | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut dir = open("/", flags, Mode::empty())?;
        let mut parts = host.components();
        if parts.next() != Some(Component::RootDir) {
            return Err(io::Error::other("the path is not absolute"));
        }
        for part in parts {
            dir = openat(&dir, part.as_os_str(), flags, Mode::empty())?;
        }
        let (perms, mode) = match quota {
            Some(_) => (FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE),
            None => (FsPerms::ReadOnly, OpenMode::READ),
        };
        Ok(Self {
            dir: Dir::new(dir.into(), perms, mode, false),
            guest: guest.to_owned(),
            quota,
        })
    }
}

impl OpenDir {
    /// Returns the opened directory.
    pub(super) fn handle(&self) -> &Arc<File> {
        &self.dir.dir
    }

    /// Returns the quota for writing; `None` if the directory is read-only.
    pub(super) fn quota(&self) -> Option<&Arc<Quota>> {
        self.quota.as_ref()
    }

    /// Describes a full directory for people.
    pub(super) fn full(&self, quota: &Quota) -> String {
        format!("{} is full: a run may put {} there", self.guest, quota.describe())
    }
}

/// Adds the file system, which contains the task's granted directories and nothing else.
pub(super) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    files: fn(&mut T) -> FilesView<'_>,
) -> wasmtime::Result<()> {
    types::add_to_linker::<T, Files>(linker, files)?;
    preopens::add_to_linker::<T, Files>(linker, files)
}

/// Returns one line for people about each full directory.
pub(super) fn notes(refusals: &Refusals, dirs: &[OpenDir]) -> Vec<String> {
    let full = dirs.iter().enumerate().filter(|(place, _)| refusals.contains(*place));
    let note = |(_, dir): (usize, &OpenDir)| Some(dir.full(dir.quota.as_ref()?));
    full.filter_map(note).collect()
}

struct Files;

impl HasData for Files {
    type Data<'a> = FilesView<'a>;
}

/// The state of a task's directories.
#[derive(Default)]
pub(super) struct FilesState {
    /// The granted directory of each open descriptor, by the descriptor's number.
    owners: HashMap<u32, usize>,
    /// The directories whose quota was exceeded.
    pub(super) refusals: Refusals,
    /// The open listings, and what they hold together.
    listings: usize,
    listed_bytes: u64,
}

/// The file system of a task: that of `wasmtime-wasi`, with everything that takes space counted first.
pub(super) struct FilesView<'a> {
    pub(super) wasi: WasiFilesystemCtxView<'a>,
    pub(super) dirs: &'a Arc<[OpenDir]>,
    pub(super) state: &'a mut FilesState,
    pub(super) charges: &'a mut Charges,
    pub(super) run: &'a Arc<RunMemory>,
}

impl FilesView<'_> {
    /// Returns the account of the granted directory of a descriptor; `None` if it is read-only.
    fn account(&self, of: &Resource<Descriptor>) -> Option<Account> {
        let place = *self.state.owners.get(&of.rep())?;
        let quota = self.dirs.get(place)?.quota.as_ref()?;
        Some(Account::new(quota, place, &self.state.refusals))
    }

    /// Returns `made`, and gives the file back to the account if `made` is an error.
    fn count_made<T>(account: Option<Account>, made: FsResult<T>) -> FsResult<T> {
        if let (Some(account), Err(_)) = (&account, &made) {
            account.not_made();
        }
        made
    }

    /// Returns the account for something that is about to be created in a directory, with one file taken.
    fn will_make(&self, dir: &Resource<Descriptor>) -> FsResult<Option<Account>> {
        let account = self.account(dir);
        if let Some(account) = &account {
            account.file()?;
        }
        Ok(account)
    }

    /// Refuses anything that is neither a file, a directory nor a link. If the path cannot be inspected, opening it
    /// decides.
    async fn check_kind(&mut self, dir: u32, flags: PathFlags, path: &str) -> FsResult<()> {
        let stat = self
            .wasi
            .stat_at(Resource::new_borrow(dir), flags, path.to_owned())
            .await;
        match stat.map(|stat| stat.type_) {
            Ok(DescriptorType::RegularFile | DescriptorType::Directory | DescriptorType::SymbolicLink) | Err(_) => {
                Ok(())
            }
            Ok(_) => Err(ErrorCode::NotPermitted.into()),
        }
    }

    /// Opens a file, and creates it if it does not exist. It first tries to open without creating, so that it knows for
    /// certain whether it created the file.
    async fn open_or_make(
        &mut self,
        dir: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        how: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        if !how.contains(OpenFlags::EXCLUSIVE) {
            let there = Resource::new_borrow(dir.rep());
            // Creating a file opens it for writing.
            let (how, flags) = (how ^ OpenFlags::CREATE, flags | DescriptorFlags::WRITE);
            match self.wasi.open_at(there, path_flags, path.clone(), how, flags).await {
                Ok(opened) => return Ok(opened),
                Err(error) => match error.downcast().map_err(FsError::trap)? {
                    ErrorCode::NoEntry => {}
                    error => return Err(error.into()),
                },
            }
        }
        let account = self.will_make(&dir)?;
        let opened = self.wasi.open_at(dir, path_flags, path, how, flags).await;
        Self::count_made(account, opened)
    }

    /// Wraps a stream into a file to count what is written.
    fn counted(
        &mut self,
        file: &Resource<Descriptor>,
        stream: Resource<DynOutputStream>,
        position: Option<u64>,
    ) -> FsResult<Resource<DynOutputStream>> {
        let (Some(account), Descriptor::File(file)) = (self.account(file), self.wasi.table.get(file)?) else {
            return Ok(stream);
        };
        let file = Arc::clone(&file.file);
        let stream = self.wasi.table.delete(stream)?;
        let counted: DynOutputStream = Box::new(Counted {
            stream,
            file,
            position,
            account,
        });
        Ok(self.wasi.table.push(counted)?)
    }
}

/// Borrows the same resource again, for a call that takes it.
fn again(descriptor: &Resource<Descriptor>) -> Resource<Descriptor> {
    Resource::new_borrow(descriptor.rep())
}

impl preopens::Host for FilesView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let mut roots = Vec::with_capacity(self.dirs.len());
        for (place, dir) in self.dirs.iter().enumerate() {
            let root = self.wasi.table.push(Descriptor::Dir(dir.dir.clone()))?;
            self.state.owners.insert(root.rep(), place);
            roots.push((root, dir.guest.clone()));
        }
        Ok(roots)
    }
}

impl types::Host for FilesView<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        self.wasi.convert_error_code(error)
    }

    fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        self.wasi.filesystem_error_code(error)
    }
}

impl HostDescriptor for FilesView<'_> {
    async fn advise(
        &mut self,
        fd: Resource<Descriptor>,
        offset: Filesize,
        length: Filesize,
        advice: Advice,
    ) -> FsResult<()> {
        self.wasi.advise(fd, offset, length, advice).await
    }

    async fn sync_data(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        self.wasi.sync_data(fd).await
    }

    async fn get_flags(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        self.wasi.get_flags(fd).await
    }

    async fn get_type(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorType> {
        self.wasi.get_type(fd).await
    }

    async fn set_size(&mut self, fd: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        if let (Some(account), Descriptor::File(file)) = (self.account(&fd), self.wasi.table.get(&fd)?) {
            account.bytes(size.saturating_sub(file.file.metadata()?.len()))?;
        }
        self.wasi.set_size(fd, size).await
    }

    async fn set_times(&mut self, fd: Resource<Descriptor>, read: NewTimestamp, written: NewTimestamp) -> FsResult<()> {
        self.wasi.set_times(fd, read, written).await
    }

    async fn read(
        &mut self,
        fd: Resource<Descriptor>,
        length: Filesize,
        offset: Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        self.wasi.read(fd, length, offset).await
    }

    async fn write(&mut self, fd: Resource<Descriptor>, bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        if let (Some(account), Descriptor::File(file)) = (self.account(&fd), self.wasi.table.get(&fd)?) {
            account.write(&file.file, Some(offset), bytes.len())?;
        }
        self.wasi.write(fd, bytes, offset).await
    }

    async fn read_directory(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DirectoryEntryStream>> {
        let Descriptor::Dir(dir) = self.wasi.table.get(&fd)? else {
            return Err(ErrorCode::NotDirectory.into());
        };
        if self.state.listings == listing::MAX_OPEN {
            return Err(ErrorCode::InsufficientMemory.into());
        }
        let (dir, run) = (Arc::clone(&dir.dir), Arc::clone(self.run));
        let room = listing::MAX_BYTES.saturating_sub(self.state.listed_bytes);
        let read = tokio::task::spawn_blocking(move || Listing::read(&dir, room, &run)).await;
        let listing = read.map_err(|error| FsError::trap(wasmtime::Error::from(error)))??;
        let bytes = listing.bytes;
        self.charges.add(listing.len() as u64 * price::DIRECTORY_ENTRY);
        let stream = self.wasi.table.push(listing)?;
        self.state.listings += 1;
        self.state.listed_bytes += bytes;
        // The table has a listing of ours there, and every function that takes one is below.
        Ok(Resource::new_own(stream.rep()))
    }

    async fn sync(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        self.wasi.sync(fd).await
    }

    async fn create_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let account = self.will_make(&fd)?;
        let made = self.wasi.create_directory_at(fd, path).await;
        Self::count_made(account, made)
    }

    async fn stat(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        self.wasi.stat(fd).await
    }

    async fn stat_at(&mut self, fd: Resource<Descriptor>, flags: PathFlags, path: String) -> FsResult<DescriptorStat> {
        self.wasi.stat_at(fd, flags, path).await
    }

    async fn set_times_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        read: NewTimestamp,
        written: NewTimestamp,
    ) -> FsResult<()> {
        self.wasi.set_times_at(fd, flags, path, read, written).await
    }

    async fn link_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        new_dir: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let account = self.will_make(&new_dir)?;
        let made = self.wasi.link_at(fd, flags, path, new_dir, new_path).await;
        Self::count_made(account, made)
    }

    async fn open_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        how: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let owner = self.state.owners.get(&fd.rep()).copied();
        self.check_kind(fd.rep(), path_flags, &path).await?;
        let opened = match how.contains(OpenFlags::CREATE) && self.account(&fd).is_some() {
            true => self.open_or_make(fd, path_flags, path, how, flags).await?,
            false => self.wasi.open_at(fd, path_flags, path, how, flags).await?,
        };
        if let Some(owner) = owner {
            self.state.owners.insert(opened.rep(), owner);
        }
        Ok(opened)
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.state.owners.remove(&fd.rep());
        HostDescriptor::drop(&mut self.wasi, fd)
    }

    async fn readlink_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<String> {
        self.wasi.readlink_at(fd, path).await
    }

    async fn remove_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        self.wasi.remove_directory_at(fd, path).await
    }

    async fn rename_at(
        &mut self,
        fd: Resource<Descriptor>,
        path: String,
        new_dir: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        // A file that moves from one directory to another counts as a new file there.
        let moves = match (self.account(&fd), self.account(&new_dir)) {
            (Some(from), Some(to)) => !from.is_same(&to),
            _ => false,
        };
        let account = if moves { self.will_make(&new_dir)? } else { None };
        let moved = self.wasi.rename_at(fd, path, new_dir, new_path).await;
        Self::count_made(account, moved)
    }

    async fn symlink_at(&mut self, fd: Resource<Descriptor>, to: String, path: String) -> FsResult<()> {
        let account = self.will_make(&fd)?;
        let made = self.wasi.symlink_at(fd, to, path).await;
        Self::count_made(account, made)
    }

    async fn unlink_file_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        self.wasi.unlink_file_at(fd, path).await
    }

    fn read_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        self.wasi.read_via_stream(fd, offset)
    }

    fn write_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynOutputStream>> {
        let stream = self.wasi.write_via_stream(again(&fd), offset)?;
        self.counted(&fd, stream, Some(offset))
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        let stream = self.wasi.append_via_stream(again(&fd))?;
        self.counted(&fd, stream, None)
    }

    async fn is_same_object(&mut self, a: Resource<Descriptor>, b: Resource<Descriptor>) -> wasmtime::Result<bool> {
        self.wasi.is_same_object(a, b).await
    }

    async fn metadata_hash(&mut self, fd: Resource<Descriptor>) -> FsResult<MetadataHashValue> {
        self.wasi.metadata_hash(fd).await
    }

    async fn metadata_hash_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        self.wasi.metadata_hash_at(fd, flags, path).await
    }
}

impl HostDirectoryEntryStream for FilesView<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        let listing: Resource<Listing> = Resource::new_borrow(stream.rep());
        let entry = self.wasi.table.get_mut(&listing)?.next()?;
        self.charges
            .bytes(entry.as_ref().map_or(0, |entry| entry.name.len() as u64));
        Ok(entry)
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        let listing = self.wasi.table.delete(Resource::<Listing>::new_own(stream.rep()))?;
        self.state.listings = self.state.listings.saturating_sub(1);
        self.state.listed_bytes = self.state.listed_bytes.saturating_sub(listing.bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_directory_is_opened_without_following_links() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(root.join("file"), "").unwrap();
        symlink("a", root.join("link")).unwrap();
        let opens = |path: &Path| OpenDir::open(path, "/data", None).is_ok();
        assert!(opens(&root.join("a/b")));
        assert!(opens(Path::new("/")));
        for wrong in ["link", "link/b", "file", "a/none"] {
            assert!(!opens(&root.join(wrong)), "{wrong}");
        }
        assert!(!opens(Path::new("a")));
    }
}
