//! Proves that a command line in a journal was given by this user.
//!
//! A journal may be in a project that comes from a stranger, and `resume` runs the command line that it holds, with its
//! directories, limits and output files. So the command line carries a MAC, made with a key that only this user can
//! read. A command line without a valid MAC is the project's data, and gets no more rights than the project's
//! configuration.
//!
//! The key is `commands.key` in [`Env::state_dir`]. Without a state directory, nothing is sealed.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::record::{create_once, replace};
use crate::env::Env;

/// The key's length in hexadecimal digits, for 32 bytes.
const KEY_DIGITS: usize = 64;

/// Returns the seal of `command`, made with this user's key; creates the key if it does not exist. `None` if the key
/// has no place or cannot be written. The command then counts as a stranger's, which costs a flag at `resume`.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// use agenthost_config::Env;
/// use agenthost_config::trust::seal;
///
/// let env = Env::new([].into(), dir, Some(dir.join("home")));
/// let mark = seal::seal(&env, "run plugin.wasm").ok_or("there is a home")?;
/// assert!(seal::is_sealed(&env, "run plugin.wasm", &mark));
/// assert!(!seal::is_sealed(&env, "run other.wasm", &mark));
/// let another = Env::new([].into(), dir, Some(dir.join("elsewhere")));
/// assert!(!seal::is_sealed(&another, "run plugin.wasm", &mark));
/// # Ok(())
/// # }
/// ```
pub fn seal(env: &Env, command: &str) -> Option<String> {
    let path = env.state_dir()?.join("commands.key");
    let made = |error: io::Error| tracing::debug!(path = %path.display(), %error, "commands are not sealed");
    let key = read(&path).or_else(|| make(&path).map_err(made).ok())?;
    Some(hex(&mac(&key, command)?.finalize().into_bytes()))
}

/// Returns whether `mark` is the seal of `command` with this user's key.
pub fn is_sealed(env: &Env, command: &str, mark: &str) -> bool {
    let key = env.state_dir().and_then(|dir| read(&dir.join("commands.key")));
    let mac = key.and_then(|key| mac(&key, command));
    // The comparison is between the bytes of the MACs, in constant time.
    mac.zip(unhex(mark))
        .is_some_and(|(mac, mark)| mac.verify_slice(&mark).is_ok())
}

fn mac(key: &str, command: &str) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::new_from_slice(key.as_bytes()).ok()?;
    mac.update(b"agenthost command\0");
    mac.update(command.as_bytes());
    Some(mac)
}

/// Returns the key; `None` unless the file belongs to this user alone.
fn read(path: &Path) -> Option<String> {
    let meta = fs::symlink_metadata(path).ok()?;
    let private =
        meta.is_file() && meta.uid() == rustix::process::geteuid().as_raw() && meta.permissions().mode() & 0o077 == 0;
    if !private {
        return None;
    }
    let mut text = String::new();
    File::open(path).ok()?.take(1 << 10).read_to_string(&mut text).ok()?;
    let key = text.trim_end();
    (key.len() == KEY_DIGITS).then(|| key.to_owned())
}

/// Creates the key. If two processes do so at once, both use the key of the first. A file that is not a key of this user
/// alone is replaced, and the seals made with it become invalid.
fn make(path: &Path) -> io::Result<String> {
    let mut key = [0; KEY_DIGITS / 2];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let text = format!("{}\n", hex(&key));
    create_once(path, text.as_bytes())?;
    if let Some(first) = read(path) {
        return Ok(first);
    }
    replace(path, text.as_bytes())?;
    read(path).ok_or_else(|| io::Error::other("the key file is not this user's alone"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    (text.len().is_multiple_of(2))
        .then(|| digits.map(byte).collect())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_stays_and_a_damaged_one_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/commands.key");
        let first = make(&path).unwrap();
        assert_eq!(make(&path).unwrap(), first, "another process that had found none");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        fs::write(&path, "short").unwrap();
        let second = make(&path).unwrap();
        assert!(second != first && read(&path) == Some(second));
    }
}
