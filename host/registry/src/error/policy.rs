//! Refusals by a policy, and errors of policy files.

use std::path::PathBuf;

use super::keys::SignatureError;
use agenthost_config::{FileError, Origin};
use agenthost_core::error::{Classify, ErrorClass, Inner};

/// A plugin that the policies refuse, or a policy file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A policy file cannot be read or is invalid.
    #[error(transparent)]
    File(#[from] FileError),
    /// A plugin may not run.
    #[error("{subject} may not run: {refusal}")]
    Refused {
        /// The plugin: its name, and its version if it has one.
        subject: String,
        /// The reason.
        refusal: Box<Refusal>,
    },
    /// A crate is not built, because the built plugin would be refused.
    #[error("{} is not built: {refusal}", dir.display())]
    NotBuilt {
        /// The crate's directory.
        dir: PathBuf,
        /// The reason.
        refusal: Box<Refusal>,
    },
    /// A signature of a known signer does not verify, or its statement is not true.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// A rule of a policy that refuses a plugin.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("[{section}] {key} = \"deny\" ({place})", place = shown(place.as_ref()))]
#[non_exhaustive]
pub struct PolicyRule {
    /// The section: `references` or `paths`.
    pub section: &'static str,
    /// The key: `unsigned` or `unvetted`.
    pub key: &'static str,
    /// The place of the rule; `None` for the default.
    pub place: Option<Origin>,
    /// The file to change, for display.
    pub file: String,
}

/// The reason for which a policy refuses a plugin.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The plugin is in the list `deny`.
    #[error("`deny` has {entry} ({place})")]
    Denied {
        /// The entry of the list.
        entry: String,
        /// The place of the list.
        place: Origin,
    },
    /// The plugin has no signature.
    #[error("it is not signed, and {rule}")]
    Unsigned {
        /// The rule.
        rule: PolicyRule,
    },
    /// The signer may not publish a plugin of this name.
    #[error(
        "its signer {signer} may publish {} ({place}), and {rule}",
        list_or_nothing(publishes)
    )]
    OtherPublisher {
        /// The plugin's name.
        name: String,
        /// The signer's name in the policy.
        signer: String,
        /// The patterns of the names that the signer may publish.
        publishes: Vec<String>,
        /// The place of the signer's entry.
        place: Origin,
        /// The policy file, for display.
        file: String,
        /// The rule.
        rule: PolicyRule,
    },
    /// Only keys that no policy names signed the plugin.
    #[error(
        "it is signed by the key {}, {}, and {rule}",
        keys.join(", "),
        lacking.as_ref().map_or_else(
            || "and no policy file has [signers]".to_owned(),
            |file| format!("which no signer in {file} has")
        )
    )]
    UnknownSigner {
        /// The plugin's name.
        name: String,
        /// The ids of the keys.
        keys: Vec<String>,
        /// The policy file whose signers did not sign, for display.
        lacking: Option<String>,
        /// The policy file to add the key to, for display.
        file: String,
        /// The rule.
        rule: PolicyRule,
    },
    /// The plugin is not vetted, or not in the required file.
    #[error(
        "it is not vetted{}, and {rule}",
        required.as_ref().map(|file| format!(" in a file that {file} names")).unwrap_or_default()
    )]
    Unvetted {
        /// The plugin as a command line names it: a reference, or a path in quotes if necessary.
        plugin: String,
        /// The policy file that requires an entry in one of its own vet files, for display.
        required: Option<String>,
        /// The rule.
        rule: PolicyRule,
    },
    /// A vet file describes the plugin incorrectly.
    #[error("{place} has its digest, but describes something else: {difference}")]
    VetDiffers {
        /// The place of the entry.
        place: String,
        /// The difference.
        difference: String,
    },
    /// A crate's result cannot be signed.
    #[error("what is built here is not signed, and {rule}")]
    BuildUnsigned {
        /// The rule.
        rule: PolicyRule,
    },
    /// No plugin of the crate's name is vetted.
    #[error("no plugin of its name is vetted, and {rule}")]
    BuildUnvetted {
        /// The rule.
        rule: PolicyRule,
    },
}

impl PolicyRule {
    /// Returns the change that permits what the rule refuses: `write unsigned = "allow" under [paths] in …`.
    pub fn permit(&self) -> String {
        format!(
            "write {} = \"allow\" under [{}] in {}",
            self.key, self.section, self.file
        )
    }
}

impl Classify for PolicyError {
    fn inner(&self) -> Option<Inner<'_>> {
        match self {
            Self::File(error) => Some(Inner::Typed(error)),
            Self::Signature(error) => Some(Inner::Typed(error)),
            _ => None,
        }
    }

    fn class(&self) -> ErrorClass {
        match self {
            Self::File(error) => error.class(),
            Self::Refused { .. } | Self::NotBuilt { .. } => ErrorClass::Denied,
            Self::Signature(error) => error.class(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::File(FileError::Read { .. } | FileError::TooLarge { .. }) => {
                Some("Name a policy file that exists and that this user can read.".to_owned())
            }
            Self::File(error) => error.hint(),
            Self::NotBuilt { refusal, .. } => Some(match &**refusal {
                Refusal::Denied { entry, .. } => {
                    format!("Use another plugin; the person who keeps the policy can take {entry} out of `deny`.")
                }
                other => other.hint(),
            }),
            Self::Refused { refusal, .. } => Some(refusal.hint()),
            Self::Signature(error) => error.hint(),
        }
    }
}

impl Refusal {
    fn hint(&self) -> String {
        match self {
            Self::Denied { entry, .. } => {
                format!(
                    "Use another release or plugin; the person who keeps the policy can take {entry} out of `deny`."
                )
            }
            Self::Unsigned { rule } => format!("Ask its publisher for a signature, or {}.", rule.permit()),
            Self::OtherPublisher { name, signer, file, .. } => {
                format!("If {signer} may publish it, add \"{name}\" to `publishes` under [signers.{signer}] in {file}.")
            }
            Self::UnknownSigner { name, file, .. } => {
                let namespace = name.split_once(':').map_or(name.as_str(), |(namespace, _)| namespace);
                format!(
                    "If you trust its publisher, ask them for their key and add it to {file}:\n\n\
                     [signers.{namespace}]\nkey = \"RW…\"\npublishes = [\"{name}\"]"
                )
            }
            Self::Unvetted { rule, .. } => format!("Look at it and vouch for it, or {}.", rule.permit()),
            Self::VetDiffers { .. } => {
                "That file was changed by hand; vet the plugin again, or restore the file.".to_owned()
            }
            Self::BuildUnsigned { rule } | Self::BuildUnvetted { rule } => {
                format!("Run a signed and vetted .wasm file of it, or {}.", rule.permit())
            }
        }
    }
}

fn shown(place: Option<&Origin>) -> String {
    place.map_or_else(
        || "the default, as no policy file says otherwise".to_owned(),
        ToString::to_string,
    )
}

fn list_or_nothing(names: &[String]) -> String {
    match names {
        [] => "nothing".to_owned(),
        names => names.join(", "),
    }
}
