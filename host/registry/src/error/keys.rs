//! Errors of keys and signatures.

use std::io;
use std::path::PathBuf;

use super::names::StatementError;
use agenthost_core::error::{Classify, Error, ErrorClass, Inner};
use agenthost_plugin::{ComponentError, Digest, PluginFileError};

/// A text that is not a minisign public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a minisign public key: {problem}")]
#[non_exhaustive]
pub struct PublicKeyError {
    /// The rule that it breaks.
    pub problem: &'static str,
}

impl Classify for PublicKeyError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }

    fn hint(&self) -> Option<String> {
        Some("Give the 56 characters that begin with RW, or the text of a .pub file.".to_owned())
    }
}

/// A signature that does not verify, or that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The signature is not the text of a minisign file.
    #[error("the signature is broken: {problem}")]
    Broken {
        /// The rule that it breaks.
        problem: &'static str,
    },
    /// Another key made the signature.
    #[error("the signature is of the key {found}, not of {wanted}")]
    OtherKey {
        /// The id of the key that made it.
        found: String,
        /// The id of the expected key.
        wanted: String,
    },
    /// The signature has the old form, which is not prehashed.
    #[error("the signature of {key} is in the old form, which is not prehashed")]
    NotPrehashed {
        /// The id of the key.
        key: String,
    },
    /// The signature does not verify.
    #[error("the signature of {key} does not verify: these are not the bytes or the words that were signed")]
    Invalid {
        /// The id of the key.
        key: String,
    },
    /// The first line of the signature, which is not signed, was changed.
    #[error("the first line of the signature of {key} does not belong to its statement")]
    FirstLine {
        /// The id of the key.
        key: String,
        /// The expected comment.
        expected: String,
    },
    /// A plugin has more signatures than are read.
    #[error("{found} signatures, and at most {limit} are read")]
    TooMany {
        /// The number of signatures.
        found: usize,
        /// The maximum.
        limit: usize,
    },
    /// The bytes are not those that the plugin was read from.
    #[error("these are not the bytes that it was read from")]
    OtherBytes,
    /// The bytes to sign are not those of the statement.
    #[error("the statement is about {digest}, and these are other bytes")]
    OtherStatement {
        /// The digest in the statement.
        digest: Digest,
    },
    /// The signed statement is broken or not true.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// A signature file cannot be read.
    #[error("cannot read the signature {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause; its kind is `NotFound` for a missing signature.
        source: io::Error,
    },
    /// A signature file is not text.
    #[error("the signature {path} is not text")]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// A signature cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The key cannot sign.
    #[error("cannot sign with {key}: {problem}")]
    Sign {
        /// The id of the key.
        key: String,
        /// The cause.
        problem: String,
    },
    /// The halves of the key do not belong together.
    #[error("the key {key} is damaged")]
    DamagedKey {
        /// The id of the key.
        key: String,
        /// The cause.
        source: Box<SignatureError>,
    },
    /// The public key cannot be used.
    #[error("cannot use the key {key}: {problem}")]
    UnusableKey {
        /// The id of the key.
        key: String,
        /// The cause.
        problem: String,
    },
    /// A plugin, or the file of one, has such a signature.
    #[error("{subject}")]
    Of {
        /// The plugin or the file.
        subject: String,
        /// The cause.
        source: Box<SignatureError>,
    },
    /// The file of the plugin cannot be read.
    #[error(transparent)]
    File(#[from] PluginFileError),
    /// The file is not a plugin.
    #[error("{path}")]
    Component {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: ComponentError,
    },
}

impl SignatureError {
    /// Names the plugin or the file that the signature is about.
    pub(crate) fn of(self, subject: impl ToString) -> Self {
        Self::Of {
            subject: subject.to_string(),
            source: Box::new(self),
        }
    }
}

impl Classify for SignatureError {
    fn inner(&self) -> Option<Inner<'_>> {
        match self {
            Self::Statement(error) => Some(Inner::Typed(error)),
            Self::File(error) => Some(Inner::Typed(error)),
            _ => None,
        }
    }

    fn class(&self) -> ErrorClass {
        match self {
            Self::Broken { .. }
            | Self::OtherKey { .. }
            | Self::NotPrehashed { .. }
            | Self::Invalid { .. }
            | Self::FirstLine { .. }
            | Self::TooMany { .. }
            | Self::OtherStatement { .. }
            | Self::NotText { .. } => ErrorClass::Denied,
            Self::Read { .. } => ErrorClass::Plugin,
            Self::OtherBytes
            | Self::Write { .. }
            | Self::Sign { .. }
            | Self::DamagedKey { .. }
            | Self::UnusableKey { .. } => ErrorClass::Host,
            Self::Statement(error) => error.class(),
            Self::Of { source, .. } => source.class(),
            Self::File(error) => error.class(),
            Self::Component { source, .. } => source.class(),
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Broken { .. } => "It may be truncated or changed; get it again, or ask its publisher.",
            Self::OtherKey { .. } => "Ask the publisher which key signs, and compare it in full.",
            Self::NotPrehashed { .. } => "Ask for a prehashed signature, which `minisign -S` makes without -l.",
            Self::Invalid { .. } => {
                "The plugin or the signature was changed, or they do not belong together; get both again."
            }
            Self::FirstLine { expected, .. } => {
                return Some(format!("That line is not signed; it should end in `{expected}`."));
            }
            Self::Read { .. } => "Name the signature's file, or sign the plugin.",
            Self::Write { .. } => "The signature is written beside the plugin; that directory has to be writable.",
            Self::Statement(error) => return error.hint(),
            Self::Of { source, .. } => return source.hint(),
            Self::File(error) => return error.hint(),
            Self::Component { source, .. } => return source.hint(),
            Self::TooMany { .. }
            | Self::OtherBytes
            | Self::OtherStatement { .. }
            | Self::NotText { .. }
            | Self::Sign { .. }
            | Self::DamagedKey { .. }
            | Self::UnusableKey { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

/// A signing key that cannot be created, opened or listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SigningKeyError {
    /// The name is invalid.
    #[error("`{}` is not a name for a key: {problem}", name.escape_debug())]
    Name {
        /// The name.
        name: String,
        /// The rule that it breaks.
        problem: String,
    },
    /// There is no key of this name.
    #[error("there is no key `{name}` in {}", dir.display())]
    Missing {
        /// The name.
        name: String,
        /// The directory.
        dir: PathBuf,
        /// The names of the keys that are there.
        known: Vec<String>,
    },
    /// The file of a key already exists.
    #[error("{path} already exists, and no key is overwritten")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The password is empty.
    #[error("the password is empty")]
    EmptyPassword,
    /// The password is too long.
    #[error("the password is longer than 1,024 bytes")]
    LongPassword,
    /// The password is not that of the key.
    #[error("the password is not that of the key `{name}`")]
    WrongPassword {
        /// The name of the key.
        name: String,
    },
    /// The password could not be asked for.
    #[error(transparent)]
    Password(Error),
    /// A key cannot be generated.
    #[error("cannot make a key: {problem}")]
    Generate {
        /// The cause.
        problem: String,
    },
    /// The file is not a secret key of minisign.
    #[error("{path}: not a secret key of minisign: {problem}")]
    Secret {
        /// The file.
        path: PathBuf,
        /// The rule that it breaks.
        problem: String,
    },
    /// The file is not a public key of minisign.
    #[error("{path}: {problem}")]
    Public {
        /// The file.
        path: PathBuf,
        /// The mistake.
        problem: PublicKeyError,
    },
    /// The directory is not safe for keys.
    #[error("{dir}: {problem}", dir = dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// The reason.
        problem: KeyDirProblem,
    },
    /// A key is a link, or not a regular file.
    #[error("the key {path} is {}", if *link { "a link" } else { "not a regular file" })]
    NotFile {
        /// The file.
        path: PathBuf,
        /// `true` if it is a link.
        link: bool,
    },
    /// Others can use a secret key.
    #[error("the key {path} is open to others (mode {mode:03o})")]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A key is larger than any key.
    #[error("the key {path} is larger than {} KiB", limit >> 10)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The maximum size in bytes.
        limit: u64,
    },
    /// A key cannot be read.
    #[error("cannot read the key {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The directory cannot be read.
    #[error("{}", dir.display())]
    ReadDir {
        /// The directory.
        dir: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A key or the directory cannot be written.
    #[error("{path}")]
    Write {
        /// The file or the directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// The reason for which keys must not be in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyDirProblem {
    /// It is not a directory.
    #[error("not a directory")]
    NotDirectory,
    /// It belongs to another user.
    #[error("the directory belongs to another user")]
    OtherUser,
    /// Others can write to it.
    #[error("others can put keys into this directory")]
    OpenToOthers,
}

impl Classify for SigningKeyError {
    fn inner(&self) -> Option<Inner<'_>> {
        match self {
            Self::Password(error) => Some(Inner::Erased(error)),
            _ => None,
        }
    }

    fn class(&self) -> ErrorClass {
        match self {
            Self::Name { .. } | Self::Missing { .. } | Self::EmptyPassword | Self::LongPassword => ErrorClass::Usage,
            Self::Exists { .. }
            | Self::WrongPassword { .. }
            | Self::Directory { .. }
            | Self::NotFile { .. }
            | Self::OpenToOthers { .. } => ErrorClass::Denied,
            Self::Secret { .. } | Self::Public { .. } | Self::TooLarge { .. } | Self::Read { .. } => ErrorClass::Config,
            Self::Generate { .. } | Self::ReadDir { .. } | Self::Write { .. } => ErrorClass::Host,
            Self::Password(error) => error.class(),
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Name { .. } => {
                "Use lower-case letters, digits and single dashes, at most 64, beginning with a letter."
            }
            Self::Missing { known, .. } => return Some(known_keys(known, "Make it first.")),
            Self::Exists { .. } => "Choose another name, or move the old key away.",
            Self::EmptyPassword => "Give a password, or choose to keep the key without one.",
            Self::LongPassword => "Give a shorter one.",
            Self::WrongPassword { .. } => "Try again; a key whose password is lost cannot be recovered.",
            Self::Secret { .. } => "Restore the file from a backup, or make another key.",
            Self::Public { .. } => "Restore it with `minisign -R`, or remove the file.",
            Self::Directory { dir, problem } => {
                return Some(match problem {
                    KeyDirProblem::NotDirectory => "Remove it; keys are kept in a directory of their own.".to_owned(),
                    KeyDirProblem::OtherUser => "Keep keys in one of your own.".to_owned(),
                    KeyDirProblem::OpenToOthers => format!(
                        "Run `chmod 700 {}`, and look whether the keys in it are yours.",
                        dir.display()
                    ),
                });
            }
            Self::NotFile { .. } => "Put the key itself there.",
            Self::OpenToOthers { path, .. } => {
                return Some(format!(
                    "Run `chmod 600 {}`; if others may have read it, make another key.",
                    path.display()
                ));
            }
            Self::Write { .. } => "The directory of keys has to be writable.",
            Self::Password(error) => return error.hint().map(str::to_owned),
            Self::Generate { .. } | Self::TooLarge { .. } | Self::Read { .. } | Self::ReadDir { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

/// Adds the names of the keys that are there to a next step.
fn known_keys(known: &[String], step: &str) -> String {
    match known {
        [] => step.to_owned(),
        known => format!("{step} Those that are there: {}.", known.join(", ")),
    }
}
