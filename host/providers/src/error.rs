//! Errors of a provider or a script that cannot be opened. An error of a call is a
//! [`ProviderError`](agenthost_core::llm::ProviderError).

use std::path::PathBuf;

use agenthost_core::error::{Classify, ErrorClass};
use agenthost_core::request_field::{FieldPlace, FieldProblem};

/// The reason for which a provider or a script cannot be opened.
///
/// ```
/// use agenthost_providers::ProviderSetupError;
/// use agenthost_providers::script::Script;
///
/// match Script::load("no-such.toml".as_ref()) {
///     Err(ProviderSetupError::ReadScript { path, source }) => {
///         assert_eq!(path.to_str(), Some("no-such.toml"));
///         assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
///     }
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderSetupError {
    /// The address of a service is not a plain http(s) address.
    #[error("base-url {shown}: {problem}")]
    BaseUrl {
        /// The part of the address that surely contains no secret.
        shown: String,
        /// The reason for which it is invalid.
        problem: BaseUrlProblem,
    },
    /// The address of an Anthropic provider ends with `/v1`, which every request adds.
    #[error("base-url of an anthropic provider ends with /v1")]
    VersionInBaseUrl,
    /// The key is empty, or has characters that are not valid in a header.
    #[error("the key for {url} is empty or has characters that no header can carry")]
    Key {
        /// The address that the key is for.
        url: String,
    },
    /// A header or query parameter is invalid, or is a header that the host sets itself.
    #[error("the {} `{name}` for {url}: {problem}", place.name())]
    Field {
        /// The address of the requests.
        url: String,
        /// The part of the request.
        place: FieldPlace,
        /// The name for display.
        name: String,
        /// The mistake, without the value.
        problem: FieldProblem,
    },
    /// The timeout is zero.
    #[error("the timeout for {url} is zero")]
    ZeroTimeout {
        /// The address that the timeout is for.
        url: String,
    },
    /// The longest silence in a reply is zero.
    #[error("the silence for {url} is zero")]
    ZeroSilence {
        /// The address that it is for.
        url: String,
    },
    /// The HTTPS client cannot be created, usually because the system has no root certificates.
    #[error("no HTTPS client")]
    HttpsClient(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The file of a script cannot be read.
    #[error("script {path}")]
    ReadScript {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A script is not valid TOML, or has an invalid rule.
    #[error("script {name}{place}: {problem}", place = line.map(|line| format!(":{line}")).unwrap_or_default())]
    Script {
        /// The name of the script, such as its path.
        name: String,
        /// The line of the mistake, counted from 1, if it is known.
        line: Option<usize>,
        /// The mistake.
        problem: String,
    },
}

/// The reason for which the address of a service is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BaseUrlProblem {
    /// It is not a URL.
    #[error("{0}")]
    Syntax(String),
    /// Its scheme is neither http nor https.
    #[error("neither http nor https")]
    Scheme,
    /// It has no host.
    #[error("no host")]
    NoHost,
    /// It contains a user name or a password.
    #[error("has a user name or password in it")]
    Credentials,
    /// It has a query or a fragment.
    #[error("has a query or fragment")]
    Query,
}

impl Classify for ProviderSetupError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::HttpsClient(_) => ErrorClass::Host,
            Self::BaseUrl { .. }
            | Self::VersionInBaseUrl
            | Self::Key { .. }
            | Self::Field { .. }
            | Self::ZeroTimeout { .. }
            | Self::ZeroSilence { .. }
            | Self::ReadScript { .. }
            | Self::Script { .. } => ErrorClass::Config,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::BaseUrl { .. } => {
                "Give a plain address such as https://api.example.com or http://127.0.0.1:11434/v1."
            }
            Self::VersionInBaseUrl => "Leave /v1 out; it is added to every request.",
            Self::Key { .. } => {
                "Check the variable or file that holds the key; a line break at its end is a usual cause."
            }
            Self::Field { problem, .. } => problem.hint(),
            Self::ZeroTimeout { .. } => {
                "Give the time that a model may take to answer, such as 10m, or leave the timeout out."
            }
            Self::ZeroSilence { .. } => {
                "Give the time that may pass between two pieces of a reply, such as 30s, or leave it out."
            }
            Self::HttpsClient(_) => {
                "Install the system's root certificates (the package is usually called ca-certificates)."
            }
            Self::ReadScript { .. } => "Check the path of the script in the provider's configuration.",
            Self::Script { .. } => "Correct the script; docs/script.md describes its format.",
        };
        Some(hint.into())
    }
}
