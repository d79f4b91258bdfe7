//! The two halves of a minisign key.
//!
//! A public key is a text for policies and web pages. A secret key is opaque: it signs, and nothing here prints it.
//! Neither library wipes memory, so the key remains in the memory of the process until that memory is reused.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use minisign_verify as reader;
use serde::{Deserialize, Serialize};

use crate::error::{PublicKeyError, SignatureError};

/// The beginning of both kinds of key files.
pub(super) const UNTRUSTED: &str = "untrusted comment: ";

/// The maximum length of a text that is read as a public key, in bytes.
const MAX_PUBLIC_BYTES: usize = 4 << 10;

/// A minisign public key: an algorithm, a key id and an Ed25519 key, 42 bytes together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 42]);

impl PublicKey {
    /// Returns the key id as the minisign tool prints it, in 16 hexadecimal digits. It names a key but proves nothing:
    /// anyone can make a key with the same id.
    pub fn id(&self) -> String {
        shown(self.key_id())
    }

    /// Returns the text of a `.pub` file.
    pub fn file(&self) -> String {
        format!("{UNTRUSTED}minisign public key {}\n{self}\n", self.id())
    }

    pub(super) fn key_id(&self) -> [u8; 8] {
        let [_, _, a, b, c, d, e, f, g, h, ..] = self.0;
        [a, b, c, d, e, f, g, h]
    }

    /// Converts the key to the type of the library that verifies.
    pub(super) fn reader(&self) -> Result<reader::PublicKey, SignatureError> {
        reader::PublicKey::from_base64(&self.to_string()).map_err(|error| SignatureError::UnusableKey {
            key: self.id(),
            problem: error.to_string(),
        })
    }
}

/// Formats a key id for display.
pub(super) fn shown(id: [u8; 8]) -> String {
    format!("{:016X}", u64::from_le_bytes(id))
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    /// Reads the line `RW…`, or a whole `.pub` file.
    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        let wrong = |problem| PublicKeyError { problem };
        if text.len() > MAX_PUBLIC_BYTES {
            return Err(wrong("it is longer than 4 KiB"));
        }
        let mut lines = text.trim().lines();
        let line = match lines.next() {
            Some(comment) if comment.starts_with(UNTRUSTED.trim_end()) => lines.next(),
            line => line,
        };
        if lines.next().is_some() {
            return Err(wrong("there are more lines than it has"));
        }
        let line = line.unwrap_or_default().trim();
        let bytes = BASE64.decode(line).map_err(|_| wrong("it is not base64"))?;
        let bytes: [u8; 42] = bytes.try_into().map_err(|_| wrong("it has another length"))?;
        if !bytes.starts_with(b"Ed") {
            return Err(wrong("it is of another algorithm than Ed25519"));
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = PublicKeyError;

    fn try_from(text: String) -> Result<Self, PublicKeyError> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

#[cfg(feature = "signing")]
/// A secret key that is ready to sign.
pub struct SecretKey {
    secret: minisign::SecretKey,
    public: PublicKey,
}

#[cfg(feature = "signing")]
impl SecretKey {
    /// Returns the key; the error describes why it has no public half.
    pub(crate) fn new(secret: minisign::SecretKey) -> Result<Self, String> {
        let public = minisign::PublicKey::from_secret_key(&secret).map_err(|error| error.to_string())?;
        let public = public
            .to_base64()
            .parse()
            .map_err(|error: PublicKeyError| error.to_string())?;
        Ok(Self { secret, public })
    }

    /// Returns the public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    pub(super) fn secret(&self) -> &minisign::SecretKey {
        &self.secret
    }
}

/// Its id alone.
#[cfg(feature = "signing")]
impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the secret key {}", self.public.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made and printed by the minisign tool.
    const LINE: &str = "RWTYOOhod0SVv7UbPLn8we+4gUU8JTlaqbx4H9LX/n4rufrYWct4mRCl";

    #[test]
    fn a_key_is_read_from_its_line_and_from_its_file() {
        let key: PublicKey = LINE.parse().unwrap();
        assert_eq!(
            (key.to_string().as_str(), key.id().as_str()),
            (LINE, "BF95447768E838D8")
        );
        let file = format!("untrusted comment: minisign public key BF95447768E838D8\n{LINE}\n");
        assert_eq!(key.file(), file);
        assert_eq!(file.parse::<PublicKey>().unwrap(), key);
        assert_eq!(format!("  {LINE}\r\n").parse::<PublicKey>().unwrap(), key);
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(serde_json::from_str::<PublicKey>(&json).unwrap(), key);
        assert!(serde_json::from_str::<PublicKey>("\"RW\"").is_err());
    }

    #[test]
    fn what_is_no_key_is_said_to_be_none() {
        let longer = format!("{LINE}AAAA");
        let three = format!("untrusted comment: x\n{LINE}\n{LINE}\n");
        let prehashed = LINE.replacen("RW", "RU", 1);
        for (text, why) in [
            ("", "another length"),
            ("untrusted comment: x", "another length"),
            ("hello world", "not base64"),
            (longer.as_str(), "another length"),
            (three.as_str(), "more lines"),
            (prehashed.as_str(), "another algorithm"),
            (&LINE[..55], "not base64"),
            (&"R".repeat(5_000), "longer than 4 KiB"),
        ] {
            let error = text.parse::<PublicKey>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
