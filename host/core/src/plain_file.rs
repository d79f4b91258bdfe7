//! Files that another party may have put there: a registry, a project, another user.
//!
//! Opening a pipe waits for its other end, opening a device may have any effect, and a link leads wherever its author
//! likes. So this module opens plain files only, never waits, and returns an error for anything else: it checks the
//! file type before opening, opens without blocking, and checks the type of the opened file again. The size of what is
//! read is bounded.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};

/// The treatment of a symbolic link in place of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// The link is followed.
    Follow,
    /// The link is an error.
    Refuse,
    /// The link is an error, also in place of a folder above the file. The path is absolute.
    RefuseAnywhere,
}

/// Opens a plain file for reading.
pub fn open(path: &Path, links: Links) -> io::Result<File> {
    if links == Links::RefuseAnywhere {
        return open_without_links(path);
    }
    let (found, flags) = match links {
        Links::Follow => (fs::metadata(path)?, OFlags::NONBLOCK),
        Links::Refuse | Links::RefuseAnywhere => (fs::symlink_metadata(path)?, OFlags::NONBLOCK | OFlags::NOFOLLOW),
    };
    let plain = |found: &fs::Metadata| match found.is_file() {
        true => Ok(()),
        false if found.is_symlink() => Err(io::Error::other("it is a link")),
        false => Err(io::Error::other("it is not a regular file")),
    };
    plain(&found)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    plain(&file.metadata()?)?;
    Ok(file)
}

/// Opens a plain file, one folder after the other, so that none can be replaced by a link in the meantime.
fn open_without_links(path: &Path) -> io::Result<File> {
    let name = path.file_name().ok_or_else(|| io::Error::other("it is not a file"))?;
    let folder = open_folder(path.parent().unwrap_or(Path::new("/")))?;
    let plain = |kind: FileType| match kind {
        FileType::RegularFile => Ok(()),
        FileType::Symlink => Err(io::Error::other("it is a link")),
        _ => Err(io::Error::other("it is not a regular file")),
    };
    let found = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    plain(FileType::from_raw_mode(found.st_mode))?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(&folder, name, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    // A folder on the way may be one that this user cannot list.
    #[cfg(target_os = "linux")]
    const ACCESS: OFlags = OFlags::PATH;
    #[cfg(not(target_os = "linux"))]
    const ACCESS: OFlags = OFlags::RDONLY;
    let flags = ACCESS | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut folder = openat(rustix::fs::CWD, "/", flags, Mode::empty())?;
    for part in path.components() {
        folder = match part {
            Component::RootDir => continue,
            Component::Normal(name) => openat(&folder, name, flags, Mode::empty()).map_err(|error| match error {
                rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR => {
                    io::Error::other("a folder above it is a link, or not a folder")
                }
                error => error.into(),
            })?,
            _ => return Err(io::Error::other("its path has parts such as `..`")),
        };
    }
    Ok(folder)
}

/// Reads a plain file of at most `most` bytes.
pub fn read(path: &Path, links: Links, most: u64) -> io::Result<Vec<u8>> {
    let file = open(path, links)?;
    let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {most} bytes"));
    let size = file.metadata()?.len();
    if size > most {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    // The file may grow meanwhile.
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(too_large()),
        false => Ok(bytes),
    }
}

/// Reads a plain file of at most `most` bytes of text.
pub fn read_text(path: &Path, links: Links, most: u64) -> io::Result<String> {
    let bytes = read(path, links, most)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not text"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_is_no_plain_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let at = |name: &str| root.join(name);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        symlink("pipe", at("link")).unwrap();
        for name in ["pipe", "socket", "directory", "link"] {
            for links in [Links::Follow, Links::Refuse, Links::RefuseAnywhere] {
                let said = read(&at(name), links, 10).unwrap_err().to_string();
                let wanted = match (name, links) {
                    ("link", Links::Refuse | Links::RefuseAnywhere) => "it is a link",
                    _ => "it is not a regular file",
                };
                assert_eq!(said, wanted, "{name}");
            }
        }
        let device = Path::new("/dev/zero");
        assert!(read(device, Links::Follow, 10).is_err());
    }

    #[test]
    fn a_folder_that_is_a_link_is_refused_where_no_link_is_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("real/below")).unwrap();
        fs::write(root.join("real/below/file"), "text").unwrap();
        symlink("real", root.join("link")).unwrap();
        let read = |path: &str, links| read_text(&root.join(path), links, 10);
        assert_eq!(read("real/below/file", Links::RefuseAnywhere).unwrap(), "text");
        assert_eq!(read("link/below/file", Links::Refuse).unwrap(), "text");
        let refused = read("link/below/file", Links::RefuseAnywhere).unwrap_err();
        assert_eq!(refused.to_string(), "a folder above it is a link, or not a folder");
        assert!(read("real/../real/below/file", Links::RefuseAnywhere).is_err());
        let missing = read("real/no/file", Links::RefuseAnywhere).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn plain_files_are_read_up_to_their_bound() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "0123456789").unwrap();
        symlink("file", &link).unwrap();
        assert_eq!(read_text(&file, Links::Refuse, 10).unwrap(), "0123456789");
        assert_eq!(read(&link, Links::Follow, 10).unwrap(), b"0123456789");
        let large = read(&file, Links::Refuse, 9).unwrap_err();
        assert_eq!(large.kind(), io::ErrorKind::FileTooLarge);
        fs::write(&file, b"\xff").unwrap();
        assert!(read_text(&file, Links::Refuse, 10).is_err());
    }
}
