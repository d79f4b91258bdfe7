//! Signing keys on disk, in minisign's own formats: `NAME.key` is the secret half, `NAME.pub` the public half.
//!
//! A secret key is encrypted with a password (scrypt with 32 MiB; a key of the minisign tool, with 1 GiB, is read as
//! well), or stored in plain text on request. A secret key is refused if others can read it, if it is a link, or if it
//! is in a directory that others can write to. Nothing here overwrites a key. This module does not prompt for
//! passwords.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret as _, SecretString};

use super::error::{KeyDirProblem, PublicKeyError, SigningKeyError};
use super::reference::word;
use super::signature::{PublicKey, SecretKey};
use agenthost_core::error::Error;

/// The maximum size of a key file, far above that of either kind.
const MAX_KEY_BYTES: u64 = 4 << 10;

/// The maximum length of a password in bytes, as in the minisign tool.
const MAX_PASSWORD_BYTES: usize = 1_024;

/// The maximum work that a key file may ask for to try its password; `MAX_MEMORY` is the maximum memory in bytes. Both
/// are the values that the minisign tool writes.
const MAX_WORK: u64 = 33_554_432;
const MAX_MEMORY: u64 = 1 << 30;

/// A stored key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The key's name in the directory.
    pub name: String,
    /// The public half.
    pub public: PublicKey,
    /// `true` if the secret half is stored as well.
    pub secret: bool,
}

/// Returns the path of the secret half of a key.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// use std::os::unix::fs::PermissionsExt as _;
/// use agenthost_registry::keys;
///
/// keys::create(dir, "acme", None)?;
/// let mode = std::fs::metadata(keys::secret_path(dir, "acme"))?.permissions().mode();
/// assert_eq!(mode & 0o777, 0o600);
/// # Ok(())
/// # }
/// ```
pub fn secret_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.key"))
}

/// Returns the path of the public half of a key.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// use agenthost_registry::keys;
///
/// let key = keys::create(dir, "acme", None)?;
/// assert_eq!(std::fs::read_to_string(keys::public_path(dir, "acme"))?, key.file());
/// # Ok(())
/// # }
/// ```
pub fn public_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.pub"))
}

/// Creates a key and stores it as `name` in `dir`, which is created if it is missing. Without a password, the secret
/// half is stored in plain text.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// use agenthost_core::error::{Classify as _, ErrorClass};
/// use agenthost_registry::keys;
///
/// let key = keys::create(&dir.join("keys"), "acme", None)?;
/// assert!(key.to_string().starts_with("RW")); // what others put into their policies
///
/// let error = keys::create(&dir.join("keys"), "acme", None).err().ok_or("it was overwritten")?;
/// assert_eq!(error.class(), ErrorClass::Denied);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Usage`](agenthost_core::error::ErrorClass::Usage) if the name is invalid, or the password is empty or longer than
/// 1,024 bytes; [`Denied`](agenthost_core::error::ErrorClass::Denied) if others can write to the directory, or the name
/// is taken; [`Host`](agenthost_core::error::ErrorClass::Host) if the key cannot be written.
pub fn create(dir: &Path, name: &str, password: Option<&SecretString>) -> Result<PublicKey, SigningKeyError> {
    check_name(name)?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(unwritable(dir))?;
    check_dir(dir)?;
    let (secret, public) = (secret_path(dir, name), public_path(dir, name));
    // An early check that saves the work; the write itself cannot overwrite either.
    if let Some(path) = [&secret, &public]
        .into_iter()
        .find(|path| fs::symlink_metadata(path).is_ok())
    {
        return Err(taken(path));
    }
    let made = match password.map(SecretString::expose_secret) {
        None => minisign::KeyPair::generate_unencrypted_keypair(),
        Some("") => {
            return Err(SigningKeyError::EmptyPassword);
        }
        Some(long) if long.len() > MAX_PASSWORD_BYTES => return Err(SigningKeyError::LongPassword),
        Some(password) => minisign::KeyPair::generate_encrypted_keypair(Some(password.to_owned())),
    };
    let failed = |problem: String| SigningKeyError::Generate { problem };
    let pair = made.map_err(|error| failed(error.to_string()))?;
    let key: PublicKey = pair
        .pk
        .to_base64()
        .parse()
        .map_err(|error: PublicKeyError| failed(error.to_string()))?;
    let kind = if password.is_some() { "encrypted" } else { "plain" };
    let comment = format!("minisign {kind} secret key {}", key.id());
    let text = pair
        .sk
        .to_box(Some(&comment))
        .map_err(|error| failed(error.to_string()))?
        .into_string();
    place(&secret, 0o600, text.as_bytes())?;
    if let Err(error) = place(&public, 0o644, key.file().as_bytes()) {
        // Half a pair would block the name.
        let _ = fs::remove_file(&secret);
        return Err(error);
    }
    Ok(key)
}

/// Opens the secret key `name`. `password` is called only if the key is encrypted.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// use agenthost_registry::keys;
/// use secrecy::SecretString;
///
/// let password = SecretString::from("correct horse");
/// let key = keys::create(dir, "acme", Some(&password))?;
/// assert_eq!(keys::open(dir, "acme", || Ok(password))?.public(), key);
///
/// let error = keys::open(dir, "acme", || Ok("wrong".into())).err().ok_or("it was opened")?;
/// assert_eq!(error.to_string(), "the password is not that of the key `acme`");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Usage`](agenthost_core::error::ErrorClass::Usage) if the key does not exist;
/// [`Denied`](agenthost_core::error::ErrorClass::Denied) if it is a link, if others can use it, or if the password is
/// wrong; [`Config`](agenthost_core::error::ErrorClass::Config) if the file is not a key; and any error of `password`.
pub fn open(
    dir: &Path,
    name: &str,
    password: impl FnOnce() -> Result<SecretString, Error>,
) -> Result<SecretKey, SigningKeyError> {
    check_name(name)?;
    let path = secret_path(dir, name);
    let missing = || {
        let names = list(dir).map(|keys| keys.into_iter().filter(|key| key.secret).map(|key| key.name).collect());
        let names: Vec<String> = names.unwrap_or_default();
        SigningKeyError::Missing {
            name: name.to_owned(),
            dir: dir.to_owned(),
            known: names,
        }
    };
    if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Err(missing());
    }
    check_dir(dir)?;
    let text = read(&path, true)?;
    let broken = |problem: &str| SigningKeyError::Secret {
        path: path.clone(),
        problem: problem.to_owned(),
    };
    let line = text
        .lines()
        .nth(1)
        .ok_or_else(|| broken("it has fewer than two lines"))?;
    let bytes = BASE64.decode(line).map_err(|_| broken("it is not base64"))?;
    let fields = fields(&bytes).ok_or_else(|| broken("it has another length"))?;
    let opened = match fields.kdf {
        // The minisign tool writes no checksum here, and checks none.
        [0, 0] if fields.checksum.iter().all(|byte| *byte == 0) => minisign::SecretKey::from_bytes(&bytes),
        [0, 0] => minisign::SecretKey::from_unencrypted_box(text.into()),
        [b'S', b'c'] if fields.work <= MAX_WORK && fields.memory <= MAX_MEMORY => {
            let password = password().map_err(SigningKeyError::Password)?;
            minisign::SecretKey::from_box(text.into(), Some(password.expose_secret().to_owned()))
        }
        [b'S', b'c'] => return Err(broken("it asks for too much memory")),
        _ => return Err(broken("it is encrypted in an unknown way")),
    };
    let secret = opened.map_err(|error| match (error.kind(), fields.kdf) {
        (minisign::ErrorKind::Verify, [b'S', b'c']) => SigningKeyError::WrongPassword { name: name.to_owned() },
        _ => broken(&error.to_string().to_lowercase()),
    })?;
    SecretKey::new(secret).map_err(|problem| broken(&problem))
}

/// Returns the keys in `dir`, sorted by name; empty if the directory does not exist. Other files are ignored.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// use agenthost_registry::keys;
///
/// keys::create(dir, "mine", None)?;
/// keys::create(dir, "theirs", None)?;
/// std::fs::remove_file(keys::secret_path(dir, "theirs"))?;
/// let found: Vec<_> = keys::list(dir)?.into_iter().map(|key| (key.name, key.secret)).collect();
/// assert_eq!(found, [("mine".to_owned(), true), ("theirs".to_owned(), false)]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Config`](agenthost_core::error::ErrorClass::Config) if a `.pub` file is not a key;
/// [`Denied`](agenthost_core::error::ErrorClass::Denied) if it is a link;
/// [`Host`](agenthost_core::error::ErrorClass::Host) if the directory cannot be read.
pub fn list(dir: &Path) -> Result<Vec<Key>, SigningKeyError> {
    let failed = |source| SigningKeyError::ReadDir {
        dir: dir.to_owned(),
        source,
    };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    let mut keys = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(name) = file.strip_suffix(".pub").filter(|name| word(name).is_ok()) else {
            continue;
        };
        let public = read(&path, false)?.parse().map_err(|problem| SigningKeyError::Public {
            path: path.clone(),
            problem,
        })?;
        let secret = fs::symlink_metadata(secret_path(dir, name)).is_ok();
        let name = name.to_owned();
        keys.push(Key { name, public, secret });
    }
    keys.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(keys)
}

fn check_name(name: &str) -> Result<(), SigningKeyError> {
    word(name).map_err(|why| SigningKeyError::Name {
        name: name.to_owned(),
        problem: why.replace("one half", "it").replace("each half", "it"),
    })
}

fn check_dir(dir: &Path) -> Result<(), SigningKeyError> {
    let meta = fs::symlink_metadata(dir).map_err(unwritable(dir))?;
    let refused = |problem| {
        Err(SigningKeyError::Directory {
            dir: dir.to_owned(),
            problem,
        })
    };
    if !meta.is_dir() {
        return refused(KeyDirProblem::NotDirectory);
    }
    if meta.uid() != rustix::process::getuid().as_raw() {
        return refused(KeyDirProblem::OtherUser);
    }
    if meta.mode() & 0o022 != 0 {
        return refused(KeyDirProblem::OpenToOthers);
    }
    Ok(())
}

/// Reads a plain file; a secret key only if others have no access to it.
fn read(path: &Path, secret: bool) -> Result<String, SigningKeyError> {
    const FLAGS: i32 = rustix::fs::OFlags::NOFOLLOW
        .union(rustix::fs::OFlags::NONBLOCK)
        .bits()
        .cast_signed();
    let not_file = |link| SigningKeyError::NotFile {
        path: path.to_owned(),
        link,
    };
    let failed = |source: io::Error| match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => not_file(true),
        _ => SigningKeyError::Read {
            path: path.to_owned(),
            source,
        },
    };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(FLAGS)
        .open(path)
        .map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(not_file(false));
    }
    if secret && meta.mode() & 0o077 != 0 {
        return Err(SigningKeyError::OpenToOthers {
            path: path.to_owned(),
            mode: meta.mode() & 0o777,
        });
    }
    let mut text = String::new();
    file.take(MAX_KEY_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    match text.len() as u64 > MAX_KEY_BYTES {
        true => Err(SigningKeyError::TooLarge {
            path: path.to_owned(),
            limit: MAX_KEY_BYTES,
        }),
        false => Ok(text),
    }
}

/// The fields of a secret key's 158 bytes that describe how it is stored.
struct Fields {
    kdf: [u8; 2],
    work: u64,
    memory: u64,
    checksum: [u8; 32],
}

fn fields(bytes: &[u8]) -> Option<Fields> {
    // The layout: algorithm, key derivation, checksum algorithm; salt; work; memory; id, key and checksum.
    let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let fields = Fields {
        kdf: bytes.get(2..4)?.try_into().ok()?,
        work: number(38)?,
        memory: number(46)?,
        checksum: bytes.get(126..158)?.try_into().ok()?,
    };
    (bytes.len() == 158).then_some(fields)
}

/// Creates the file at `path` completely or not at all, and never over an existing one.
fn place(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), SigningKeyError> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file: File| {
            file.write_all(bytes)?;
            file.sync_all()?;
            // Unlike a rename, this fails if the target exists.
            fs::hard_link(&temporary, path)
        });
    let _ = fs::remove_file(&temporary);
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => taken(path),
        _ => unwritable(path)(error),
    })
}

fn taken(path: &Path) -> SigningKeyError {
    SigningKeyError::Exists { path: path.to_owned() }
}

fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> SigningKeyError {
    let path = path.to_owned();
    |source| SigningKeyError::Write { path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use agenthost_core::error::{Classify as _, ErrorClass, with_causes};

    fn never() -> Result<SecretString, Error> {
        panic!("no password is needed")
    }

    fn scratch() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("config/keys");
        (dir, keys)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    // The only test with a password, because each attempt takes a while.
    #[test]
    fn a_password_protects_a_key() {
        let (_dir, keys) = scratch();
        let public = create(&keys, "acme", Some(&"correct horse".into())).unwrap();
        let key = open(&keys, "acme", || Ok("correct horse".into())).unwrap();
        assert_eq!(key.public(), public);
        let error = open(&keys, "acme", || Ok("wrong horse".into())).unwrap_err();
        assert_eq!(with_causes(&error), "the password is not that of the key `acme`");
        assert_eq!(error.class(), ErrorClass::Denied);
        let error = open(&keys, "acme", || Err(Error::usage("no terminal"))).unwrap_err();
        assert_eq!(with_causes(&error), "no terminal");

        // The password parameters are checked before the password is tried.
        let path = secret_path(&keys, "acme");
        let text = fs::read_to_string(&path).unwrap();
        let (comment, line) = text.trim().split_once('\n').unwrap();
        let mut bytes = BASE64.decode(line).unwrap();
        bytes[46..54].copy_from_slice(&(1_u64 << 40).to_le_bytes());
        fs::write(&path, format!("{comment}\n{}\n", BASE64.encode(&bytes))).unwrap();
        let error = open(&keys, "acme", never).unwrap_err().to_string();
        assert!(error.ends_with("it asks for too much memory"), "{error}");
    }

    #[test]
    fn a_key_is_kept_for_its_owner_alone_and_never_overwritten() {
        let (_dir, keys) = scratch();
        let public = create(&keys, "acme", None).unwrap();
        assert_eq!(open(&keys, "acme", never).unwrap().public(), public);
        let (secret_file, public_file) = (secret_path(&keys, "acme"), public_path(&keys, "acme"));
        assert_eq!(
            (mode(&keys), mode(&secret_file), mode(&public_file) & 0o600),
            (0o700, 0o600, 0o600)
        );
        let before = fs::read(&secret_file).unwrap();
        let error = create(&keys, "acme", None).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Denied);
        assert!(with_causes(&error).contains("no key is overwritten"), "{error}");
        fs::remove_file(&secret_file).unwrap();
        assert!(create(&keys, "acme", None).is_err(), "half a key is a key");
        assert!(!secret_file.exists());
        fs::write(&secret_file, before).unwrap();
        assert_eq!(fs::read_dir(&keys).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn a_key_that_others_can_use_is_refused() {
        let (_dir, keys) = scratch();
        create(&keys, "acme", None).unwrap();
        let path = secret_path(&keys, "acme");
        for bits in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
            let error = open(&keys, "acme", never).unwrap_err();
            assert_eq!(error.class(), ErrorClass::Denied);
            assert!(
                error
                    .to_string()
                    .ends_with(&format!("open to others (mode {bits:03o})")),
                "{error}"
            );
            let hint = error.hint().unwrap();
            assert!(hint.contains(&format!("chmod 600 {}", path.display())), "{hint}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o777)).unwrap();
        for error in [
            open(&keys, "acme", never).unwrap_err(),
            create(&keys, "other", None).unwrap_err(),
        ] {
            assert_eq!(error.class(), ErrorClass::Denied);
            assert!(
                with_causes(&error).ends_with("others can put keys into this directory"),
                "{error}"
            );
        }
    }

    #[test]
    fn links_and_other_files_are_no_keys() {
        let (dir, keys) = scratch();
        create(&keys, "acme", None).unwrap();
        symlink(secret_path(&keys, "acme"), secret_path(&keys, "linked")).unwrap();
        let error = open(&keys, "linked", never).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Denied);
        assert!(with_causes(&error).ends_with("is a link"), "{error}");
        assert!(create(&keys, "linked", None).is_err());
        symlink(&keys, dir.path().join("keys")).unwrap();
        let error = open(&dir.path().join("keys"), "acme", never).unwrap_err().to_string();
        assert!(error.ends_with("not a directory"), "{error}");

        let good = fs::read_to_string(secret_path(&keys, "acme")).unwrap();
        let (comment, line) = good.trim().split_once('\n').unwrap();
        let mut damaged = BASE64.decode(line).unwrap();
        damaged[80] ^= 1;
        let unknown = [b"EdXxB2".as_slice(), &[0; 152]].concat();
        let with = |bytes: &[u8]| format!("{comment}\n{}\n", BASE64.encode(bytes));
        for (text, why) in [
            (String::new(), "fewer than two lines"),
            ("a\nb c".to_owned(), "not base64"),
            (with(&[0; 157]), "another length"),
            (with(&[0; 159]), "another length"),
            (with(&damaged), "corrupted key"),
            (with(&unknown), "encrypted in an unknown way"),
            ("x".repeat(5_000), "larger than 4 KiB"),
        ] {
            fs::write(secret_path(&keys, "acme"), &text).unwrap();
            let error = open(&keys, "acme", never).unwrap_err();
            assert!(with_causes(&error).contains(why), "{text}: {error}");
            assert_eq!(error.class(), ErrorClass::Config);
        }
    }

    #[test]
    fn names_are_words() {
        let (dir, keys) = scratch();
        for name in [
            "",
            "..",
            "a/b",
            "../x",
            "A",
            "a b",
            "а",
            "a--b",
            "-a",
            "a\n",
            &"a".repeat(65),
        ] {
            let error = create(&keys, name, None).unwrap_err();
            assert_eq!(error.class(), ErrorClass::Usage, "{name:?}");
            assert!(with_causes(&error).contains("is not a name for a key"), "{error}");
            assert!(open(&keys, name, never).is_err(), "{name:?}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let error = create(&keys, "a", Some(&"".into())).unwrap_err();
        assert_eq!(with_causes(&error), "the password is empty");
        assert!(create(&keys, "a", Some(&"x".repeat(1_025).into())).is_err());
    }

    #[test]
    fn keys_are_listed_by_name() {
        let (_dir, keys) = scratch();
        assert_eq!(list(&keys).unwrap(), []);
        let (b, a) = (create(&keys, "b", None).unwrap(), create(&keys, "a", None).unwrap());
        fs::remove_file(secret_path(&keys, "b")).unwrap();
        fs::write(keys.join("notes.txt"), "x").unwrap();
        fs::write(keys.join("X.pub"), "x").unwrap();
        let found = list(&keys).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|key| (key.name.as_str(), key.public, key.secret))
            .collect();
        assert_eq!(found, [("a", a, true), ("b", b, false)]);
        let error = open(&keys, "c", never).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Usage);
        assert_eq!(error.hint().unwrap(), "Make it first. Those that are there: a.");
        fs::write(public_path(&keys, "c"), "no key").unwrap();
        let error = list(&keys).unwrap_err().to_string();
        assert!(error.contains("c.pub: not a minisign public key"), "{error}");
    }
}
