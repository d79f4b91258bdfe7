//! The directories that an operator grants to a plugin, in the form `HOST::GUEST`, or `HOST::GUEST:rw` to allow
//! writing, optionally with a quota: `HOST::GUEST:rw,quota=1GiB,files=5000`, or `HOST::GUEST:rw:1GiB` for short.
//!
//! This module only names a place; the sandbox opens it and keeps a guest inside. The host path is resolved when it is
//! read: relative to the file or the working directory, with every link followed as far as the path exists. So the
//! place that was judged is the place that is opened, and a link that a guest creates later leads nowhere new.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::env::Env;
use agenthost_core::document::GUEST_PATH;
use agenthost_core::error::{Classify, ErrorClass};
use agenthost_core::limits::units::{parse_bytes, parse_count};

/// A directory that a plugin may access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirGrant {
    /// The path on the host: absolute, and without links as far as it exists. A run does not start if it does not
    /// exist.
    pub host: PathBuf,
    /// The path for the guest: absolute, without `.`, `..`, `:` or a trailing slash.
    pub guest: String,
    /// `true` if the guest may write as well as read.
    pub write: bool,
    /// The amount that a run may write, if `write` is true.
    pub quota: DirQuota,
}

/// The amount that all tasks of a run together may put into a directory. Deleting does not give anything back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirQuota {
    /// The number of bytes written or added to the size of files; `None` if unlimited.
    pub bytes: Option<u64>,
    /// The number of files, directories and links created; `None` if unlimited.
    pub files: Option<u64>,
}

/// 64 MiB in 10,000 files: enough for the results and notes of a run, while filling a disk takes hundreds of runs.
impl Default for DirQuota {
    fn default() -> Self {
        Self {
            bytes: Some(64 << 20),
            files: Some(10_000),
        }
    }
}

/// A text that does not grant a directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
#[non_exhaustive]
pub struct DirGrantError {
    /// The mistake, with the text.
    pub problem: String,
}

impl Classify for DirGrantError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(
            "For example reports::/data, reports::/data:rw to let the plugin write there, or reports::/data:rw:64MiB \
             with a quota."
                .to_owned(),
        )
    }
}

impl DirQuota {
    /// Reads what follows `rw`: `quota=1GiB` and `files=5000` after commas, or first the bytes alone after a colon. Returns
    /// `None` if the text begins with neither.
    fn read(text: &str) -> Option<Result<Self, String>> {
        match (text.strip_prefix(','), text.strip_prefix(':')) {
            (Some(parts), _) => Some(Self::default().with(parts)),
            (_, Some(short)) => {
                let (bytes, parts) = short.split_once(',').map_or((short, None), |(b, p)| (b, Some(p)));
                let quota = Self::default().with_bytes(bytes);
                Some(quota.and_then(|quota| parts.map_or(Ok(quota), |parts| quota.with(parts))))
            }
            (None, None) => text.is_empty().then(|| Ok(Self::default())),
        }
    }

    fn with_bytes(mut self, text: &str) -> Result<Self, String> {
        self.bytes = match text {
            "none" => None,
            bytes => Some(parse_bytes(bytes)?),
        };
        Ok(self)
    }

    /// Reads `quota=1GiB` and `files=5000`, separated by commas.
    fn with(self, text: &str) -> Result<Self, String> {
        let mut quota = self;
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("quota", bytes)) => quota = quota.with_bytes(bytes)?,
                Some(("files", "none")) => quota.files = None,
                Some(("files", files)) => quota.files = Some(parse_count(files)?),
                _ => return Err(format!("`{part}` is not known; write quota=SIZE or files=N")),
            }
        }
        Ok(quota)
    }
}

impl DirGrant {
    /// Reads `HOST::GUEST` or `HOST::GUEST:rw`; a relative `HOST` starts from `env`'s working directory.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::collections::BTreeMap;
    /// use agenthost_config::{DirGrant, Env};
    ///
    /// let env = Env::new(BTreeMap::new(), "/srv/project", None);
    /// let dir = DirGrant::parse(&env, "reports::/data:rw")?;
    /// assert_eq!((dir.host.as_path(), dir.guest.as_str(), dir.write), ("/srv/project/reports".as_ref(), "/data", true));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Usage`](agenthost_core::error::ErrorClass::Usage) if the text does not have this form.
    pub fn parse(env: &Env, text: &str) -> Result<Self, DirGrantError> {
        Self::read(env, text, env.cwd()).map_err(|problem| DirGrantError { problem })
    }

    pub(super) fn read(env: &Env, text: &str, base: &Path) -> Result<Self, String> {
        let Some((host, guest)) = text.rsplit_once("::") else {
            return Err(format!(
                "`{text}` is not a directory; write HOST::GUEST, or HOST::GUEST:rw to let it write"
            ));
        };
        let only = || format!("`{text}`: only :rw can follow the guest's path, :rw:SIZE, or :rw,quota=SIZE,files=N");
        let (guest, write, quota) = match guest.split_once(':') {
            None => (guest, false, DirQuota::default()),
            Some((guest, more)) => {
                let quota = more.strip_prefix("rw").and_then(DirQuota::read).ok_or_else(only)?;
                (guest, true, quota.map_err(|why| format!("`{text}`: {why}"))?)
            }
        };
        let normal = guest == "/"
            || guest.strip_prefix('/').is_some_and(|rest| {
                rest.split('/').all(|part| !matches!(part, "" | "." | "..")) && !rest.chars().any(char::is_control)
            });
        if !normal {
            return Err(format!(
                "`{text}`: the guest's path is `{guest}`; write an absolute one without `.`, `..` and a slash at its end, such as /data"
            ));
        }
        Ok(Self {
            host: place(&env.resolve(host, base)?),
            guest: guest.to_owned(),
            write,
            quota,
        })
    }

    /// Returns an error that names a guest path used twice among `dirs`, if there is one.
    ///
    /// ```
    /// use agenthost_config::DirGrant;
    ///
    /// let dir = |host: &str| DirGrant { host: host.into(), guest: "/data".into(), write: false, quota: Default::default() };
    /// let twice = DirGrant::check_distinct(&[dir("/srv/a"), dir("/srv/b")]);
    /// assert_eq!(twice, Err("two directories are called /data".to_owned()));
    /// ```
    ///
    /// # Errors
    ///
    /// A fragment of an error message.
    pub fn check_distinct(dirs: &[Self]) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        match dirs.iter().find(|dir| !seen.insert(dir.guest.as_str())) {
            Some(twice) => Err(format!("two directories are called {}", twice.guest)),
            None => Ok(()),
        }
    }

    /// Returns whether it is the memory of a plugin that has one.
    pub fn is_memory(&self) -> bool {
        self.guest == GUEST_PATH
    }

    /// Describes what the guest may do there.
    pub fn access(&self) -> &'static str {
        match self.write {
            true => "read and write",
            false => "read",
        }
    }
}

impl fmt::Display for DirGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.host.display(), self.guest)?;
        if !self.write {
            return Ok(());
        }
        f.write_str(":rw")?;
        let usual = DirQuota::default();
        for (name, own, usual) in [
            ("quota", self.quota.bytes, usual.bytes),
            ("files", self.quota.files, usual.files),
        ] {
            match own {
                own if own == usual => {}
                None => write!(f, ",{name}=none")?,
                Some(own) => write!(f, ",{name}={own}")?,
            }
        }
        Ok(())
    }
}

/// Returns `path` with links followed as far as it exists; the rest is normalized without touching the file system.
pub(super) fn place(path: &Path) -> PathBuf {
    let mut missing: Vec<OsString> = Vec::new();
    let mut known = path.to_owned();
    let mut place = loop {
        if let Ok(found) = fs::canonicalize(&known) {
            break found;
        }
        let last = known.components().next_back();
        missing.extend(last.map(|last| last.as_os_str().to_owned()));
        if !known.pop() {
            break PathBuf::from("/");
        }
    };
    for part in missing.iter().rev() {
        match Path::new(part).components().next() {
            Some(Component::ParentDir) => {
                place.pop();
            }
            Some(Component::Normal(part)) => place.push(part),
            _ => {}
        }
    }
    place
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::scratch::Scratch;
    use super::*;

    fn read(scratch: &Scratch, text: &str) -> Result<DirGrant, String> {
        DirGrant::read(&scratch.env(), text, &scratch.path("project"))
    }

    #[test]
    fn the_forms_are_read() {
        let scratch = Scratch::new();
        for (text, host, guest, write) in [
            ("data::/data", "project/data", "/data", false),
            ("./a b::/a b/c:rw", "project/a b", "/a b/c", true),
            ("~/x::/", "home/x", "/", false),
            ("a::b::/c", "project/a::b", "/c", false),
            ("../home/./y::/y", "home/y", "/y", false),
        ] {
            let grant = read(&scratch, text).unwrap();
            let wanted = DirGrant {
                host: scratch.path(host),
                guest: guest.to_owned(),
                write,
                quota: DirQuota::default(),
            };
            assert_eq!(grant, wanted, "{text}");
            assert_eq!(read(&scratch, &grant.to_string()), Ok(grant), "{text}");
        }
    }

    #[test]
    fn a_quota_stands_behind_rw() {
        let scratch = Scratch::new();
        let usual = DirQuota::default();
        for (text, bytes, files) in [
            ("a::/a:rw,quota=1GiB", Some(1 << 30), usual.files),
            ("a::/a:rw,files=5k", usual.bytes, Some(5_000)),
            ("a::/a:rw,quota=none,files=none", None, None),
            ("a::/a:rw,files=0,quota=0", Some(0), Some(0)),
            ("a::/a:rw:1GiB", Some(1 << 30), usual.files),
            ("a::/a:rw:1GiB,files=5k", Some(1 << 30), Some(5_000)),
            ("a::/a:rw:none,files=none", None, None),
        ] {
            let grant = read(&scratch, text).unwrap();
            assert_eq!((grant.write, grant.quota), (true, DirQuota { bytes, files }), "{text}");
            assert_eq!(read(&scratch, &grant.to_string()), Ok(grant), "{text}");
        }
    }

    #[test]
    fn other_forms_are_refused() {
        let scratch = Scratch::new();
        for (text, why) in [
            ("data::/data:quota=1GiB", "only :rw"),
            ("data::/data:rw,", "`` is not known; write quota=SIZE or files=N"),
            ("data::/data:rw,size=1", "`size=1` is not known"),
            ("data::/data:rw,quota=much", "`much` is not a size"),
            ("data::/data:rw,files=-1", "`-1` is not a count"),
            ("data", "write HOST::GUEST"),
            ("data:/data", "write HOST::GUEST"),
            ("::/data", "the path is empty"),
            ("data::/data:ro", "only :rw"),
            ("data::/data:rw:rw", "`rw` is not a size"),
            ("data::/data:rw:", "`` is not a size"),
            ("data::/data:rw:1GiB,", "`` is not known; write quota=SIZE or files=N"),
            ("data::/data:rw:files=5", "`files=5` is not a size"),
            ("data::/data:rw:1GiB:2GiB", "`1GiB:2GiB` is not a size"),
            ("data::/data:rwx", "only :rw"),
            ("data::", "the guest's path is ``"),
            ("data::data", "the guest's path is `data`"),
            ("data::/data/", "the guest's path is `/data/`"),
            ("data::/a//b", "the guest's path is `/a//b`"),
            ("data::/a/../b", "the guest's path is `/a/../b`"),
            ("data::/./a:rw", "the guest's path is `/./a`"),
            ("data::/a\0b", "the guest's path is"),
        ] {
            let error = read(&scratch, text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn links_are_followed_when_the_text_is_read() {
        let scratch = Scratch::new();
        scratch.write("elsewhere/file", "");
        symlink("../elsewhere", scratch.path("project/link")).unwrap();
        let place = |text: &str| read(&scratch, text).unwrap().host;
        assert_eq!(place("link::/a"), scratch.path("elsewhere"));
        assert_eq!(place("link/new/deeper::/a"), scratch.path("elsewhere/new/deeper"));
        assert_eq!(place("link/../x::/a"), scratch.path("x"), "as the system reads it");
        assert_eq!(place("none/../../../x::/a"), scratch.root().parent().unwrap().join("x"));
    }

    #[test]
    fn a_guest_path_stands_for_one_directory() {
        let scratch = Scratch::new();
        let dirs = |texts: [&str; 2]| texts.map(|text| read(&scratch, text).unwrap());
        assert_eq!(DirGrant::check_distinct(&dirs(["a::/x", "a::/x/y"])), Ok(()));
        let twice = DirGrant::check_distinct(&dirs(["a::/x", "b::/x:rw"]));
        assert_eq!(twice, Err("two directories are called /x".to_owned()));
    }
}
