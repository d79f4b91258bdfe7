//! Files that another party may have put there: a registry, a project, another user.
//!
//! Opening a pipe waits for its other end, opening a device may have any effect, and a link leads wherever its author
//! likes. So this module opens plain files only, never waits, and returns an error for anything else: it checks the
//! file type before opening, opens without blocking, and checks the type of the opened file again. The size of what is
//! read is bounded.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// The treatment of a symbolic link in place of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// The link is followed.
    Follow,
    /// The link is an error.
    Refuse,
}

/// Opens a plain file for reading.
pub fn open(path: &Path, links: Links) -> io::Result<File> {
    let (found, flags) = match links {
        Links::Follow => (fs::metadata(path)?, OFlags::NONBLOCK),
        Links::Refuse => (fs::symlink_metadata(path)?, OFlags::NONBLOCK | OFlags::NOFOLLOW),
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
        let at = |name: &str| dir.path().join(name);
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
            for links in [Links::Follow, Links::Refuse] {
                let said = read(&at(name), links, 10).unwrap_err().to_string();
                let wanted = match (name, links) {
                    ("link", Links::Refuse) => "it is a link",
                    _ => "it is not a regular file",
                };
                assert_eq!(said, wanted, "{name}");
            }
        }
        let device = Path::new("/dev/zero");
        assert!(read(device, Links::Follow, 10).is_err());
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
