//! Components in files, with their signatures in files beside them, as the minisign tool stores them.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::{MAX_SIGNATURE_BYTES, PublicKey, Signature, Verified};
#[cfg(feature = "signing")]
use super::{SecretKey, sign};
use crate::error::SignatureError;
#[cfg(feature = "signing")]
use crate::files::replace;
#[cfg(feature = "signing")]
use crate::statement::Statement;
use agenthost_core::plain_file::{self, Links};
use agenthost_plugin::{ComponentError, Plugin};

/// Returns the path for the signature of a component: its path with `.minisig` appended.
///
/// ```
/// use agenthost_registry::signature::beside;
///
/// assert_eq!(beside("plugins/double.wasm".as_ref()), std::path::Path::new("plugins/double.wasm.minisig"));
/// ```
pub fn beside(component: &Path) -> PathBuf {
    let mut path = component.as_os_str().to_owned();
    path.push(".minisig");
    path.into()
}

/// Signs the component at `path` and writes the signature beside it, replacing an existing one.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../agenthost/doc/guests.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// # agenthost_registry::keys::create(dir, "acme", None)?;
/// # let secret = agenthost_registry::keys::open(dir, "acme", || Err(agenthost_core::error::Error::usage("it is plain")))?;
/// use agenthost_registry::signature::{beside, sign_file, verify_file};
///
/// # let component = double();
/// let file = dir.join("double.wasm");
/// std::fs::write(&file, &component)?;
/// let statement = sign_file(&file, &secret)?;
/// let verified = verify_file(&file, &beside(&file), &secret.public())?;
/// assert_eq!(verified.statement, Some(statement));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Returns an error of class [`Plugin`](agenthost_core::error::ErrorClass::Plugin) for a file that is not a plugin or
/// cannot be published, and of class [`Host`](agenthost_core::error::ErrorClass::Host) if the signature cannot be
/// written.
#[cfg(feature = "signing")]
pub fn sign_file(path: &Path, secret: &SecretKey) -> Result<Statement, SignatureError> {
    let (plugin, bytes) = read(path)?;
    let statement = Statement::of(&plugin)?;
    let text = sign(secret, &bytes, &statement)?;
    let target = beside(path);
    replace(&target, &text).map_err(|source| SignatureError::Write { path: target, source })?;
    Ok(statement)
}

/// Verifies the signature in the file `signature` for the component at `path`, and that its statement is true.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../agenthost/doc/guests.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// # agenthost_registry::keys::create(dir, "acme", None)?;
/// # let secret = agenthost_registry::keys::open(dir, "acme", || Err(agenthost_core::error::Error::usage("it is plain")))?;
/// use agenthost_core::error::{Classify as _, ErrorClass};
/// use agenthost_registry::signature::{beside, sign_file, verify_file};
///
/// # let file = dir.join("double.wasm");
/// # std::fs::write(&file, double())?;
/// sign_file(&file, &secret)?;
/// verify_file(&file, &beside(&file), &secret.public())?;
///
/// std::fs::write(&file, ask())?; // another plugin in its place
/// let error = verify_file(&file, &beside(&file), &secret.public()).err().ok_or("it was believed")?;
/// assert_eq!(error.class(), ErrorClass::Denied);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Plugin`](agenthost_core::error::ErrorClass::Plugin) if the file is not a plugin, or has no signature;
/// [`Denied`](agenthost_core::error::ErrorClass::Denied) if the signature does not verify or its statement is false.
pub fn verify_file(path: &Path, signature: &Path, key: &PublicKey) -> Result<Verified, SignatureError> {
    // Verified first, so that a tampered component is never parsed.
    let bytes = agenthost_plugin::read(path)?;
    let verified = read_text(signature)
        .and_then(|text| Signature::parse(&text))
        .and_then(|signature| signature.verify(key, &bytes))
        .map_err(|error| error.of(path.display()))?;
    let plugin = Plugin::read(&bytes).map_err(component(path))?;
    if let Some(statement) = &verified.statement {
        statement.check(&plugin)?;
    }
    Ok(verified)
}

#[cfg(feature = "signing")]
fn read(path: &Path) -> Result<(Plugin, Vec<u8>), SignatureError> {
    let bytes = agenthost_plugin::read(path)?;
    let plugin = Plugin::read(&bytes).map_err(component(path))?;
    Ok((plugin, bytes))
}

fn component(path: &Path) -> impl FnOnce(ComponentError) -> SignatureError {
    let path = path.to_owned();
    |source| SignatureError::Component { path, source }
}

fn read_text(path: &Path) -> Result<String, SignatureError> {
    let failed = |source| SignatureError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = plain_file::open(path, Links::Follow).map_err(failed)?;
    file.take(MAX_SIGNATURE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| SignatureError::NotText { path: path.to_owned() })
}
