//! The file system of a task that was granted directories; without a grant it is not linked, and nothing here runs.
//!
//! A granted directory is opened once, when its run starts, and every task of the plugin in that run works on what was
//! opened: a name that changes meanwhile leads nowhere else. Opening follows no link, for a guest that may write to a
//! directory above could have left one there. Inside, `wasmtime-wasi` resolves every path of the guest below the opened
//! directory (on Linux by `openat2` with `RESOLVE_BENEATH`), so that `..`, an absolute path and a link that leads out
//! are errors for the guest, and it refuses every change where the grant is read-only.
//!
//! What a grant gives away: real time, by the timestamps of files; and repeatability, since a journal holds no files, so
//! that a run with a directory cannot be reproduced from its journal alone. What is not bounded: how much a guest that
//! may write writes; the operator's file system does that. The number of files that it holds open is, see
//! [`store`](super::store). Reading and writing block a thread of tokio's pool for them, never a worker. A file whose
//! opening waits for somebody else, such as a named pipe, makes the task wait until its time is up.

use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, open, openat};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::filesystem::{Descriptor, Dir, FsPerms, OpenMode, WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};

use super::store::State;

/// Only a place in the tree, where there is such a handle: the directories above need not be readable.
#[cfg(target_os = "linux")]
const PLACE: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
const PLACE: OFlags = OFlags::RDONLY;

/// A directory that is open for a run's tasks.
#[derive(Clone)]
pub struct OpenDir {
    dir: Dir,
    guest: String,
}

impl OpenDir {
    /// Opens `host`, an absolute path without links, to be called `guest`.
    ///
    /// # Errors
    ///
    /// What the system says; a link on the way is an error like any other file that is no directory.
    pub fn open(host: &Path, guest: &str, write: bool) -> io::Result<Self> {
        let flags = PLACE | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut dir = open("/", flags, Mode::empty())?;
        let mut parts = host.components();
        if parts.next() != Some(Component::RootDir) {
            return Err(io::Error::other("the path is not absolute"));
        }
        for part in parts {
            dir = openat(&dir, part.as_os_str(), flags, Mode::empty())?;
        }
        let (perms, mode) = match write {
            true => (FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE),
            false => (FsPerms::ReadOnly, OpenMode::READ),
        };
        Ok(Self {
            dir: Dir::new(dir.into(), perms, mode, false),
            guest: guest.to_owned(),
        })
    }
}

/// Adds the file system, which has the task's granted directories in it and nothing else.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    types::add_to_linker::<State, WasiFilesystem>(linker, State::filesystem)?;
    preopens::add_to_linker::<State, Roots>(linker, State::roots)
}

struct Roots;

impl HasData for Roots {
    type Data<'a> = RootsView<'a>;
}

/// Where a guest's paths begin.
pub(super) struct RootsView<'a> {
    pub(super) table: &'a mut ResourceTable,
    pub(super) dirs: &'a Arc<[OpenDir]>,
}

impl preopens::Host for RootsView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let root = |dir: &OpenDir| Ok((self.table.push(Descriptor::Dir(dir.dir.clone()))?, dir.guest.clone()));
        self.dirs.iter().map(root).collect()
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
        let opens = |path: &Path| OpenDir::open(path, "/data", false).is_ok();
        assert!(opens(&root.join("a/b")));
        assert!(opens(Path::new("/")));
        for wrong in ["link", "link/b", "file", "a/none"] {
            assert!(!opens(&root.join(wrong)), "{wrong}");
        }
        assert!(!opens(Path::new("a")));
    }
}
