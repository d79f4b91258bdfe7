//! Errors of names, versions and references, and of signed statements.

use agenthost_core::error::{Classify, ErrorClass, Inner};

/// A text that does not name a plugin, a version or a place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// The text is not a plugin's name.
    #[error("`{}` is not a plugin's name: {problem}", text.escape_debug())]
    Name {
        /// The text.
        text: String,
        /// The rule that it breaks.
        problem: &'static str,
    },
    /// The text is neither a version nor a range.
    #[error("`{}` is neither a version nor a range: {problem}", text.escape_debug())]
    Requirement {
        /// The text.
        text: String,
        /// The parser's description of the mistake.
        problem: semver::Error,
    },
    /// There is an `@` without a version after it.
    #[error("`{}`: there is no version after the `@`", text.escape_debug())]
    NoVersion {
        /// The text.
        text: String,
    },
    /// The text is not a place in an OCI registry, `host/repository`.
    #[error("`{}` is not a place in an OCI registry: {problem}", text.escape_debug())]
    Place {
        /// The text.
        text: String,
        /// The rule that it breaks.
        problem: &'static str,
    },
    /// The text has an invalid tag or digest after its place in an OCI registry.
    #[error("`{}`: {problem}", text.escape_debug())]
    Tag {
        /// The text.
        text: String,
        /// The rule that it breaks.
        problem: &'static str,
    },
}

impl Classify for ReferenceError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Name { .. } => {
                "A name is NAMESPACE:NAME, such as acme:competitor; each half is lower-case letters, digits and single \
                 dashes, begins with a letter and has at most 64 characters."
            }
            Self::Requirement { .. } => "Write a version, such as 1.2.0, or a range, such as ^1.2 or `>=1.2, <1.5`.",
            Self::NoVersion { .. } => "Write a version or a range after it, or leave the `@` out.",
            Self::Place { .. } => {
                "Write HOST/REPOSITORY, such as registry.example/plugins; a repository is lower-case letters, digits, \
                 and `.`, `_`, `-` and `/` between them."
            }
            Self::Tag { .. } => {
                "Write HOST/REPOSITORY:TAG or HOST/REPOSITORY@sha256:DIGEST, such as registry.example/acme/competitor:1.2.0."
            }
        };
        Some(hint.to_owned())
    }
}

/// A plugin that cannot be published, or a signed statement that is not true of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// The plugin's name is invalid in a registry.
    #[error(transparent)]
    Name(ReferenceError),
    /// The plugin has no release version.
    #[error("{name} has no version")]
    NoVersion {
        /// The plugin's name.
        name: String,
    },
    /// The plugin's release version is invalid.
    #[error("{name}: invalid version `{}`: {problem}", version.escape_debug())]
    Version {
        /// The plugin's name.
        name: String,
        /// The version.
        version: String,
        /// The parser's description of the mistake.
        problem: semver::Error,
    },
    /// The plugin asks for more than a statement can hold.
    #[error("{plugin}: what it asks for takes {length} bytes to state, and a signature has room for {limit}")]
    TooLong {
        /// The plugin.
        plugin: String,
        /// The length of the statement in bytes.
        length: usize,
        /// The maximum length.
        limit: usize,
    },
    /// The signed statement cannot be read.
    #[error("the signed statement cannot be read: {problem}")]
    Broken {
        /// The parser's description of the mistake.
        problem: String,
    },
    /// The signed statement has a format that this version does not read.
    #[error("the signed statement has format {found}, and this version reads {known}")]
    Format {
        /// The format of the statement.
        found: u32,
        /// The known format.
        known: u32,
    },
    /// The statement says something else than the component.
    #[error("{plugin}: the signed statement has the {what} {stated}, and the component has {found}")]
    Differs {
        /// The plugin.
        plugin: String,
        /// The field.
        what: &'static str,
        /// Its value in the statement.
        stated: String,
        /// Its value in the component.
        found: String,
    },
    /// The statement lists other rights than the component asks for.
    #[error("{plugin}: the signed statement does not list what the component asks for: {change}")]
    Asks {
        /// The plugin.
        plugin: String,
        /// The first difference.
        change: String,
    },
    /// The statement cannot be written as JSON.
    #[error("cannot write the statement")]
    Write(#[source] serde_json::Error),
}

impl Classify for StatementError {
    fn inner(&self) -> Option<Inner<'_>> {
        match self {
            Self::Name(error) => Some(Inner::Typed(error)),
            _ => None,
        }
    }

    fn class(&self) -> ErrorClass {
        match self {
            Self::Name(_) | Self::NoVersion { .. } | Self::Version { .. } | Self::TooLong { .. } => ErrorClass::Plugin,
            Self::Broken { .. } | Self::Format { .. } | Self::Differs { .. } | Self::Asks { .. } => ErrorClass::Denied,
            Self::Write(_) => ErrorClass::Host,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Name(error) => return error.hint(),
            Self::NoVersion { .. } => "Build it so that it embeds the version of its Cargo.toml.",
            Self::Version { .. } => "Versions are semver: three numbers, such as 1.2.0.",
            Self::TooLong { .. } => "Give it fewer imports, sub-agents or model names.",
            Self::Broken { .. } | Self::Write(_) => return None,
            Self::Format { .. } => "Use a newer agenthost, or ask for a signature made with this one.",
            Self::Differs { .. } => "The signature belongs to another plugin or release; ask its publisher.",
            Self::Asks { .. } => "The statement was made of another build; ask its publisher.",
        };
        Some(hint.to_owned())
    }
}
