//! Signatures of plugins: minisign files that carry a [`Statement`].
//!
//! A signature is the text of a `.minisig` file over the component's bytes, in the *prehashed* form, with the statement
//! as its trusted comment. The minisign tool verifies it and prints the statement; signatures made by that tool, which
//! have no statement, are accepted here as well. The old form that is not prehashed is refused: the tool writes it only
//! on request (`-l`), and one form is enough.
//!
//! A file is parsed strictly: four lines, each ended by a line feed, base64 in its canonical form. The first line, the
//! *untrusted* comment, is not signed. If there is a statement, that line must be the one that [`sign`] writes or the
//! tool's default, so that no byte of such a file can change unnoticed.
//!
//! A [`policy`](super::policy) decides what a signature is worth. A key is revoked by removing it from all policies.

mod file;
mod key;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

#[cfg(feature = "signing")]
pub use self::file::sign_file;
pub use self::file::{beside, verify_file};
pub use self::key::PublicKey;
#[cfg(feature = "signing")]
pub use self::key::SecretKey;
use self::key::UNTRUSTED;
use super::error::SignatureError;
use super::statement::Statement;
use agenthost_plugin::{Digest, Plugin};

/// The maximum size of a signature file, in bytes. Minisign's own limits on comments add up to less than 10 KiB.
pub const MAX_SIGNATURE_BYTES: u64 = 16 << 10;

/// The maximum number of signatures of one release.
pub const MAX_SIGNATURES: usize = 32;

const TRUSTED: &str = "trusted comment: ";

/// The default untrusted comment of the minisign tool.
const TOOL_COMMENT: &str = "signature from minisign secret key";

/// Signs `bytes`, the component that `statement` is about, and returns the text of a `.minisig` file.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../agenthost/doc/guests.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// # agenthost_registry::keys::create(dir, "acme", None)?;
/// # let secret = agenthost_registry::keys::open(dir, "acme", || Err(agenthost_core::error::Error::usage("it is plain")))?;
/// use agenthost_plugin::Plugin;
/// use agenthost_registry::{signature::{Signature, sign}, statement::Statement};
///
/// # let component = double();
/// let statement = Statement::of(&Plugin::read(&component)?)?;
/// let text = sign(&secret, &component, &statement)?; // of a .minisig file
/// let verified = Signature::parse(&text)?.verify(&secret.public(), &component)?;
/// assert_eq!(verified.statement.as_ref(), Some(&statement));
/// assert!(sign(&secret, b"other bytes", &statement).is_err());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Denied`](agenthost_core::error::ErrorClass::Denied) for a statement about other bytes;
/// [`Host`](agenthost_core::error::ErrorClass::Host) where the system gives no random numbers, or the key is damaged.
#[cfg(feature = "signing")]
pub fn sign(secret: &SecretKey, bytes: &[u8], statement: &Statement) -> Result<String, SignatureError> {
    if Digest::of(bytes) != statement.digest {
        return Err(SignatureError::OtherStatement {
            digest: statement.digest,
        });
    }
    let failed = |error: minisign::PError| SignatureError::Sign {
        key: secret.public().id(),
        problem: error.to_string(),
    };
    let comment = statement.text()?;
    let signed = minisign::sign(
        None,
        secret.secret(),
        bytes,
        Some(&comment),
        Some(&untrusted(statement)),
    );
    let text = signed.map_err(failed)?.into_string();
    // A key whose halves do not belong together makes signatures that never verify.
    Signature::parse(&text)?
        .verify(&secret.public(), bytes)
        .map_err(|error| SignatureError::DamagedKey {
            key: secret.public().id(),
            source: Box::new(error),
        })?;
    Ok(text)
}

/// Returns the untrusted comment of a signature with this statement.
fn untrusted(statement: &Statement) -> String {
    format!("signature of {} {}", statement.name, statement.version)
}

/// A signature that was parsed but not verified.
#[derive(Debug, Clone)]
pub struct Signature {
    key_id: [u8; 8],
    prehashed: bool,
    untrusted: String,
    comment: String,
    text: String,
}

/// A verified signature.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// The key that made it.
    pub key: PublicKey,
    /// The signer's statement about the plugin; `None` if only the bytes are signed.
    pub statement: Option<Statement>,
    /// The trusted comment: the text of the statement, if there is one.
    pub comment: String,
}

impl Signature {
    /// Parses the text of a `.minisig` file.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../agenthost/doc/guests.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// # agenthost_registry::keys::create(dir, "acme", None)?;
    /// # let secret = agenthost_registry::keys::open(dir, "acme", || Err(agenthost_core::error::Error::usage("it is plain")))?;
    /// use agenthost_plugin::Plugin;
    /// use agenthost_registry::{signature::{Signature, sign}, statement::Statement};
    ///
    /// # let component = double();
    /// let text = sign(&secret, &component, &Statement::of(&Plugin::read(&component)?)?)?;
    /// let signature = Signature::parse(&text)?;
    /// assert_eq!(signature.key_id(), secret.public().id()); // says the signature; nothing is verified yet
    /// assert!(signature.verify(&secret.public(), b"other bytes").is_err());
    /// assert!(Signature::parse(text.trim_end()).is_err(), "the last line has no end");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied) for any other text, and for more than
    /// [`MAX_SIGNATURE_BYTES`].
    pub fn parse(text: &str) -> Result<Self, SignatureError> {
        let wrong = |problem| SignatureError::Broken { problem };
        if text.len() as u64 > MAX_SIGNATURE_BYTES {
            return Err(wrong("it is longer than 16 KiB"));
        }
        let mut lines = text.split('\n');
        let mut line = || lines.next().ok_or_else(|| wrong("it has fewer than four lines"));
        let (untrusted, signature, comment, global, end) = (line()?, line()?, line()?, line()?, line()?);
        if !end.is_empty() || lines.next().is_some() {
            return Err(wrong("it has more than four lines"));
        }
        let untrusted = untrusted.strip_prefix(UNTRUSTED).ok_or_else(|| wrong("line 1"))?;
        let comment = comment.strip_prefix(TRUSTED).ok_or_else(|| wrong("line 3"))?;
        // Comments are displayed, and must not move the cursor.
        if [untrusted, comment]
            .iter()
            .any(|line| line.chars().any(|c| c.is_control() && c != '\t'))
        {
            return Err(wrong("there are control characters"));
        }
        let decoded = |line: &str| {
            BASE64
                .decode(line)
                .map_err(|_| wrong("there is no base64 where there should be"))
        };
        if decoded(global)?.len() != 64 {
            return Err(wrong("line 4 has another length"));
        }
        let signature: [u8; 74] = decoded(signature)?
            .try_into()
            .map_err(|_| wrong("line 2 has another length"))?;
        let [algorithm_e, algorithm_d, a, b, c, d, e, f, g, h, ..] = signature;
        let prehashed = match [algorithm_e, algorithm_d] {
            [b'E', b'D'] => true,
            [b'E', b'd'] => false,
            _ => return Err(wrong("it is of an unknown algorithm")),
        };
        Ok(Self {
            key_id: [a, b, c, d, e, f, g, h],
            prehashed,
            untrusted: untrusted.to_owned(),
            comment: comment.to_owned(),
            text: text.to_owned(),
        })
    }

    /// Returns the id of the key that the signature claims to be made with.
    pub fn key_id(&self) -> String {
        key::shown(self.key_id)
    }

    /// Verifies that `key` signed `bytes`, and returns the signer's statement. Does not check whether the statement is
    /// true.
    ///
    /// # Errors
    ///
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied) if the signature does not verify, is not prehashed, or has
    /// a broken statement.
    pub fn verify(&self, key: &PublicKey, bytes: &[u8]) -> Result<Verified, SignatureError> {
        if self.key_id != key.key_id() {
            return Err(SignatureError::OtherKey {
                found: self.key_id(),
                wanted: key.id(),
            });
        }
        if !self.prehashed {
            return Err(SignatureError::NotPrehashed { key: self.key_id() });
        }
        let wrong = |error: minisign_verify::Error| {
            tracing::debug!(%error, key = %key.id(), "a signature does not verify");
            SignatureError::Invalid { key: key.id() }
        };
        let signature = minisign_verify::Signature::decode(&self.text).map_err(wrong)?;
        key.reader()?.verify(bytes, &signature, false).map_err(wrong)?;
        let statement = Statement::read(&self.comment)?;
        if let Some(statement) = &statement
            && self.untrusted != untrusted(statement)
            && self.untrusted != TOOL_COMMENT
        {
            return Err(SignatureError::FirstLine {
                key: key.id(),
                expected: untrusted(statement),
            });
        }
        Ok(Verified {
            key: *key,
            statement,
            comment: self.comment.clone(),
        })
    }
}

/// Returns which of `keys` signed `plugin`, whose component is `bytes`: one entry per key, in the order of the
/// signatures.
///
/// Signatures by other keys are ignored. A signature by one of these keys that does not verify, or whose statement is
/// false, is an error: something was changed.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../agenthost/doc/guests.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// # agenthost_registry::keys::create(dir, "acme", None)?;
/// # let secret = agenthost_registry::keys::open(dir, "acme", || Err(agenthost_core::error::Error::usage("it is plain")))?;
/// use agenthost_plugin::Plugin;
/// use agenthost_registry::{keys, signature::{check, sign}, statement::Statement};
///
/// # let component = double();
/// let plugin = Plugin::read(&component)?;
/// let signatures = [sign(&secret, &component, &Statement::of(&plugin)?)?];
/// let verified = check(&signatures, &[secret.public()], &plugin, &component)?;
/// assert_eq!(verified[0].key, secret.public());
///
/// let stranger = keys::create(dir, "stranger", None)?; // a key that signed nothing
/// assert_eq!(check(&signatures, &[stranger], &plugin, &component)?, []);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Denied`](agenthost_core::error::ErrorClass::Denied) for such a signature, for one that cannot be parsed, and for
/// more than [`MAX_SIGNATURES`].
pub fn check(
    signatures: &[String],
    keys: &[PublicKey],
    plugin: &Plugin,
    bytes: &[u8],
) -> Result<Vec<Verified>, SignatureError> {
    let about = |error: SignatureError| error.of(&plugin.id);
    if signatures.len() > MAX_SIGNATURES {
        return Err(about(SignatureError::TooMany {
            found: signatures.len(),
            limit: MAX_SIGNATURES,
        }));
    }
    if !signatures.is_empty() && Digest::of(bytes) != plugin.digest {
        return Err(about(SignatureError::OtherBytes));
    }
    let mut found: Vec<Verified> = Vec::new();
    for text in signatures {
        let signature = Signature::parse(text).map_err(about)?;
        // Two keys may have the same id, by chance or by intent.
        let mut results = keys
            .iter()
            .filter(|key| key.key_id() == signature.key_id)
            .map(|key| signature.verify(key, bytes))
            .collect::<Vec<_>>();
        let Some(best) = results
            .iter()
            .position(Result::is_ok)
            .or((!results.is_empty()).then_some(0))
        else {
            tracing::debug!(key = signature.key_id(), plugin = %plugin.id, "signed by an unknown key");
            continue;
        };
        let verified = results.swap_remove(best).map_err(about)?;
        if let Some(statement) = &verified.statement {
            statement.check(plugin)?;
        }
        // Of two signatures by the same key, one with a statement is preferred.
        match found.iter_mut().find(|other| other.key == verified.key) {
            Some(other) if other.statement.is_none() => *other = verified,
            Some(_) => {}
            None => found.push(verified),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
