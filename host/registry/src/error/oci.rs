//! Errors of OCI registries, and of the credentials for them.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::names::ReferenceError;
use agenthost_core::error::{Classify, ErrorClass, Inner};
use agenthost_plugin::Digest;

/// An OCI registry that cannot be used, or that sent something other than what was requested.
///
/// The registry's own words are not repeated, except for the code of an error in the standard form: it could write
/// anything there, including control characters and secrets that it received.
#[derive(Debug, thiserror::Error)]
#[error("{at}: {problem}")]
#[non_exhaustive]
pub struct OciError {
    /// The place: `host/repository`, with a tag if the problem is about one.
    pub at: String,
    /// The problem.
    pub problem: OciProblem,
}

/// The problem with an OCI registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OciProblem {
    /// The registry does not answer in time.
    #[error("no answer from {host} within {limit:?}")]
    Slow {
        /// The host.
        host: String,
        /// The time limit.
        limit: Duration,
    },
    /// No connection can be opened.
    #[error("no connection to {host}: {cause}")]
    Unreachable {
        /// The host.
        host: String,
        /// The innermost cause.
        cause: String,
        /// `true` if the connection would be plain HTTP, which is for this machine alone.
        plain: bool,
    },
    /// The connection broke.
    #[error("the connection to {host} broke: {cause}")]
    Broken {
        /// The host.
        host: String,
        /// The innermost cause.
        cause: String,
    },
    /// The transfer of a component broke.
    #[error("the transfer broke: {cause}")]
    TransferBroken {
        /// The innermost cause.
        cause: String,
    },
    /// The transfer of a component stopped, or took too long.
    #[error("the transfer stopped or took more than {limit:?}")]
    TransferSlow {
        /// The time limit.
        limit: Duration,
    },
    /// The registry requires a login, or refuses the credentials.
    #[error("{}: {reason}", login(used.as_deref()))]
    Login {
        /// The host.
        host: String,
        /// A description of where the refused credentials come from; `None` if there are none.
        used: Option<String>,
        /// The registry's answer.
        reason: String,
    },
    /// The answer is not that of an OCI registry.
    #[error("{host} answers with {answer}, not as an OCI registry does")]
    NotRegistry {
        /// The host.
        host: String,
        /// A description of the answer.
        answer: &'static str,
    },
    /// The registry does not have a part of a release.
    #[error("the registry has no {what}{}", code_of(code.as_deref()))]
    Missing {
        /// The part.
        what: String,
        /// The code of the registry's error.
        code: Option<String>,
    },
    /// The registry has had too many requests.
    #[error("the registry has had too many requests")]
    TooManyRequests {
        /// The number of seconds to wait, if the registry names one.
        retry_after: Option<u64>,
    },
    /// The registry answers with an unexpected status.
    #[error("the registry answers {status}{} to the request for {what}", code_of(code.as_deref()))]
    Status {
        /// The HTTP status.
        status: reqwest::StatusCode,
        /// The code of the registry's error.
        code: Option<String>,
        /// The requested content.
        what: String,
    },
    /// The registry's token server answers with an unexpected status.
    #[error("the registry's token server answers {status}")]
    TokenStatus {
        /// The HTTP status.
        status: reqwest::StatusCode,
    },
    /// The registry's token server gives no token.
    #[error("the registry's token server gives no token")]
    NoToken,
    /// The registry points to an invalid address.
    #[error("the registry points to an invalid address")]
    InvalidAddress,
    /// The registry points to an address that is reached without TLS.
    #[error("the registry points to {address}, which is not safe")]
    UnsafeAddress {
        /// The scheme and the host.
        address: String,
    },
    /// The registry answers a request that is not redirected with a redirect.
    #[error("the registry answers a {method} with a redirect")]
    RedirectedWrite {
        /// The HTTP method.
        method: String,
    },
    /// There are too many redirects.
    #[error("more than {limit} redirects, the last to {last}")]
    TooManyRedirects {
        /// The maximum.
        limit: usize,
        /// The last address.
        last: String,
    },
    /// A list continues at another registry.
    #[error("the next page of a list is at another registry")]
    OtherRegistry,
    /// A list is too long.
    #[error("{what} has more than {limit} pages")]
    TooManyPages {
        /// The list.
        what: String,
        /// The maximum.
        limit: usize,
    },
    /// A response is larger than such content is.
    #[error("{what} has more than {limit} bytes")]
    TooLarge {
        /// The content.
        what: String,
        /// The maximum size in bytes.
        limit: u64,
    },
    /// Other bytes came than were requested.
    #[error("the received bytes are not the {what} {wanted}")]
    WrongDigest {
        /// The content.
        what: &'static str,
        /// The requested digest.
        wanted: Digest,
    },
    /// The component has another size than announced.
    #[error("{offered} bytes of {digest} are offered, and {announced} were announced")]
    WrongSize {
        /// The digest of the component.
        digest: Digest,
        /// The size that the registry offers.
        offered: u64,
        /// The size that it announced.
        announced: u64,
    },
    /// There is no such release.
    #[error("there is no such plugin or version")]
    NoRelease,
    /// The manifest is not that of a plugin or a signature.
    #[error(transparent)]
    Manifest(#[from] ManifestProblem),
    /// The tag of the signatures does not name an index.
    #[error("not an index, and signatures are listed there")]
    NotIndex,
    /// The list of signatures does not keep an entry.
    #[error("the list of signatures {tag} does not keep what is written")]
    IndexNotKept {
        /// The tag of the list.
        tag: String,
        /// `true` if the tag names a list.
        listed: bool,
    },
    /// The list of signatures is full.
    #[error("the list of signatures has no room for another")]
    IndexFull,
    /// The release has as many signatures as are read.
    #[error("the release has {limit} signatures, and no more are read")]
    TooManySignatures {
        /// The maximum.
        limit: usize,
    },
    /// The signatures cannot be looked up, because the digest of the manifest is not known.
    #[error("signatures are found by the manifest's digest, and it is not known")]
    NoManifestDigest,
    /// The version was published with other bytes.
    #[error("that version is published already, with other bytes: {digest}")]
    Published {
        /// The digest of the published component.
        digest: Digest,
    },
    /// The registry does not accept a blob of this size.
    #[error("the registry does not take {bytes} bytes")]
    BlobTooLarge {
        /// The size of the blob.
        bytes: usize,
    },
}

/// The reason for which a manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestProblem {
    /// It is not a manifest.
    #[error("a broken manifest: {0}")]
    Broken(String),
    /// It is an index of several images.
    #[error("an index of several images, and a plugin is one manifest")]
    Index,
    /// It has a format that no plugin has.
    #[error("a manifest of format {0}, which no plugin has")]
    Format(u32),
    /// It has another number of layers than one.
    #[error("a manifest with {0} layers, and a plugin has one")]
    Layers(usize),
    /// A part has another type.
    #[error("a {part} of type `{}`, and a plugin's is {wanted}", found.escape_debug())]
    MediaType {
        /// The part.
        part: &'static str,
        /// Its type.
        found: String,
        /// The type of a plugin's part.
        wanted: &'static str,
    },
    /// A digest is not a SHA-256.
    #[error("a digest `{}`, and only sha256 is known", .0.escape_debug())]
    Digest(String),
    /// The component is larger than any plugin.
    #[error("{} MiB are announced, and a plugin has at most {} MiB", size >> 20, limit >> 20)]
    TooLarge {
        /// The announced size in bytes.
        size: u64,
        /// The maximum size in bytes.
        limit: u64,
    },
    /// An entry in the list of signatures does not have the type of a signature.
    #[error("the listed signature does not have the type of one")]
    NotSignature,
    /// The signature is about something else.
    #[error("the listed signature is about something else")]
    OtherSubject,
    /// The signature is not one minisign file.
    #[error("a signature has another form than one minisign file")]
    SignatureForm,
    /// The signature is larger than any.
    #[error("a signature of {size} bytes is announced, and one has at most {limit}")]
    SignatureTooLarge {
        /// The announced size in bytes.
        size: u64,
        /// The maximum size in bytes.
        limit: u64,
    },
    /// The signature is not text.
    #[error("a signature is not text")]
    SignatureNotText,
}

impl Classify for OciError {
    fn class(&self) -> ErrorClass {
        match &self.problem {
            OciProblem::TooLarge { .. }
            | OciProblem::WrongDigest { .. }
            | OciProblem::WrongSize { .. }
            | OciProblem::NotIndex
            | OciProblem::TooManySignatures { .. }
            | OciProblem::Published { .. } => ErrorClass::Denied,
            OciProblem::Manifest(problem) => match problem {
                ManifestProblem::Broken(_)
                | ManifestProblem::Index
                | ManifestProblem::Format(_)
                | ManifestProblem::Layers(_)
                | ManifestProblem::MediaType { .. }
                | ManifestProblem::Digest(_) => ErrorClass::Plugin,
                ManifestProblem::TooLarge { .. }
                | ManifestProblem::NotSignature
                | ManifestProblem::OtherSubject
                | ManifestProblem::SignatureForm
                | ManifestProblem::SignatureTooLarge { .. }
                | ManifestProblem::SignatureNotText => ErrorClass::Denied,
            },
            _ => ErrorClass::Plugin,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match &self.problem {
            OciProblem::Slow { .. } => "The registry or the way to it is slow; try again.",
            OciProblem::Unreachable { host, plain, .. } => {
                return Some(match plain {
                    true => format!("Is the registry running, and is {host} its address?"),
                    false => format!(
                        "Is the registry up, is {host} its address, and does it speak https? Plain HTTP is for loopback \
                         alone."
                    ),
                });
            }
            OciProblem::Broken { .. } => "Try again; a transfer goes on where it stopped.",
            OciProblem::TransferBroken { .. } | OciProblem::TransferSlow { .. } => {
                "Try again: it goes on where it stopped."
            }
            OciProblem::Login { host, .. } => {
                return Some(format!(
                    "Log in with `docker login {host}`, or set AGENTHOST_REGISTRY={host} with \
                     AGENTHOST_REGISTRY_USERNAME and AGENTHOST_REGISTRY_PASSWORD, or with AGENTHOST_REGISTRY_TOKEN."
                ));
            }
            OciProblem::NotRegistry { .. } => {
                "Check the address; a proxy or a login page in between is a usual cause, too."
            }
            OciProblem::Missing { .. } => "It has lost it, or this part of it is not for you; ask its operator.",
            OciProblem::TooManyRequests { retry_after } => {
                let wait = retry_after.map_or_else(|| "a while".to_owned(), |seconds| format!("{seconds} s"));
                return Some(format!(
                    "Wait {wait} and try again; some registries allow more to those who log in."
                ));
            }
            OciProblem::Status { status, .. } if status.is_server_error() => {
                "The registry is in trouble; try again later, or report it to its operator."
            }
            OciProblem::Status { .. } => {
                "The registry does not take what this version sends; report its answer to its operator."
            }
            OciProblem::UnsafeAddress { .. } => {
                "Plain HTTP is for this machine's own registries; the registry's operator has to name https."
            }
            OciProblem::RedirectedWrite { .. } => "Use the address that it is redirected to, if that is a registry.",
            OciProblem::TooManyRedirects { .. } => "The registry is set up wrong; report it to its operator.",
            OciProblem::TooManyPages { .. } => "Name a version or a digest; the list is too long to be looked through.",
            OciProblem::TooLarge { .. } | OciProblem::WrongSize { .. } => {
                "The registry is broken or hostile; nothing was kept."
            }
            OciProblem::WrongDigest { .. } => "The registry gave other bytes than it announced; nothing was kept.",
            OciProblem::NoRelease => "Is the name right? Some registries say this of what one may not read, too.",
            OciProblem::Manifest(problem) => return problem.hint().map(str::to_owned),
            OciProblem::NotIndex => "Something else was pushed under that tag; remove it from the registry.",
            OciProblem::IndexNotKept { listed: false, .. } => {
                "This registry has no referrers API and keeps no such list, so it cannot hold signatures; publish \
                 without `--key`, and hand out the signature beside the release."
            }
            OciProblem::IndexNotKept { .. } => "Another publisher may be active at the same time; try again.",
            OciProblem::TooManySignatures { .. } => "Remove signatures that are not needed from the registry.",
            OciProblem::NoManifestDigest => "Look the release up by its version or by its manifest's digest.",
            OciProblem::Published { .. } => {
                "A version is published once. Give this build a new version in its Cargo.toml."
            }
            OciProblem::BlobTooLarge { .. } => {
                "Ask its operator for a higher limit; a proxy in front of it is a usual cause."
            }
            OciProblem::TokenStatus { .. }
            | OciProblem::NoToken
            | OciProblem::InvalidAddress
            | OciProblem::OtherRegistry
            | OciProblem::IndexFull => return None,
        };
        Some(hint.to_owned())
    }
}

impl ManifestProblem {
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Index => Some(
                "It was pushed as an image for several platforms; ask its publisher for the plugin's own tag or digest.",
            ),
            Self::Layers(_) | Self::MediaType { .. } => {
                Some("Is it a plugin? Its publisher pushes plugins with agenthost, or components with `wkg`.")
            }
            Self::Digest(_) => Some("Ask its publisher to push it with sha256 digests, as all common tools do."),
            Self::TooLarge { .. } => Some("Ask the publisher for a smaller build."),
            _ => None,
        }
    }
}

/// An OCI client that cannot be made, or something that cannot be requested or published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OciRequestError {
    /// The place is invalid.
    #[error(transparent)]
    Place(#[from] ReferenceError),
    /// The host is not part of a valid address.
    #[error("`{}` is not a host: {problem}", host.escape_debug())]
    Host {
        /// The host.
        host: String,
        /// The parser's description of the mistake.
        problem: url::ParseError,
    },
    /// The HTTPS client cannot be made, usually because the system has no root certificates.
    #[error("no HTTPS client: {cause}")]
    Client {
        /// The innermost cause.
        cause: String,
    },
    /// The text is not a tag.
    #[error("`{}` is not a tag", text.escape_debug())]
    Tag {
        /// The text.
        text: String,
    },
    /// The bytes to publish are not the plugin's.
    #[error("{name}: the bytes are not the plugin's")]
    OtherBytes {
        /// The plugin's name.
        name: String,
    },
    /// The component is larger than any plugin.
    #[error("{name}: larger than {} MiB, and a plugin has at most that", limit >> 20)]
    TooLarge {
        /// The plugin's name.
        name: String,
        /// The maximum size in bytes.
        limit: u64,
    },
    /// The version is longer than a tag can be.
    #[error("{name}: its version has more than 128 characters, which no tag has")]
    LongVersion {
        /// The plugin's name.
        name: String,
    },
    /// There are too many signatures, or one has a wrong size.
    #[error("{name}: at most {count} signatures of at most {bytes} bytes can be attached")]
    Signatures {
        /// The plugin's name.
        name: String,
        /// The maximum number of signatures.
        count: usize,
        /// The maximum size of one.
        bytes: u64,
    },
    /// The description of the plugin is too long for a manifest.
    #[error("{name}: its description makes a manifest of {size} bytes, and registries take {limit}")]
    LongDescription {
        /// The plugin's name.
        name: String,
        /// The size of the manifest in bytes.
        size: usize,
        /// The maximum size.
        limit: u64,
    },
    /// A manifest cannot be written as JSON.
    #[error("cannot write a manifest")]
    Write(#[source] serde_json::Error),
}

impl Classify for OciRequestError {
    fn inner(&self) -> Option<Inner<'_>> {
        match self {
            Self::Place(error) => Some(Inner::Typed(error)),
            _ => None,
        }
    }

    fn class(&self) -> ErrorClass {
        match self {
            Self::Place(error) => error.class(),
            Self::Host { .. } | Self::Tag { .. } | Self::OtherBytes { .. } | Self::Signatures { .. } => {
                ErrorClass::Usage
            }
            Self::Client { .. } | Self::Write(_) => ErrorClass::Host,
            Self::TooLarge { .. } | Self::LongVersion { .. } | Self::LongDescription { .. } => ErrorClass::Plugin,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Place(error) => return error.hint(),
            Self::Client { .. } => {
                "Install the system's root certificates (the package is usually called ca-certificates)."
            }
            Self::Tag { .. } => "Tags have at most 128 letters, digits, dots, dashes and underscores.",
            Self::LongVersion { .. } => "Give it a shorter version.",
            Self::LongDescription { .. } => "Shorten the description in its Cargo.toml.",
            Self::Host { .. }
            | Self::OtherBytes { .. }
            | Self::TooLarge { .. }
            | Self::Signatures { .. }
            | Self::Write(_) => return None,
        };
        Some(hint.to_owned())
    }
}

/// Credentials for a registry that are incomplete or cannot be read. No error contains a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// A variable with credentials is set, but not the one with the registry that they are for.
    #[error("{variable} is set, and AGENTHOST_REGISTRY does not say for which registry")]
    NoRegistry {
        /// The variable.
        variable: &'static str,
        /// The registry that is used.
        host: String,
    },
    /// The token has characters that are not valid in a header.
    #[error("AGENTHOST_REGISTRY_TOKEN has characters that no header can carry")]
    Token,
    /// There is a token and also a user name or password.
    #[error("AGENTHOST_REGISTRY_TOKEN is set, and a name or password, too")]
    TokenAndPassword,
    /// There is a user name without a password, or the reverse.
    #[error("of AGENTHOST_REGISTRY_USERNAME and AGENTHOST_REGISTRY_PASSWORD, one is set and the other is not")]
    HalfPassword,
    /// Docker's configuration cannot be read.
    #[error("{path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Docker's configuration is larger than it can be.
    #[error("{path}: larger than {} MiB", limit >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The maximum size in bytes.
        limit: u64,
    },
    /// The file is not docker's configuration.
    #[error("{path}: line {line}, column {column}: not docker's configuration")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line of the mistake.
        line: usize,
        /// The column of the mistake.
        column: usize,
    },
    /// The entry of docker's configuration for the registry is invalid.
    #[error("{path}: the entry for {host} {problem}")]
    Entry {
        /// The file.
        path: PathBuf,
        /// The registry.
        host: String,
        /// The rule that it breaks.
        problem: &'static str,
    },
    /// Docker's configuration names a helper with an invalid name.
    #[error("{path}: a credential helper's name is not the name of a program")]
    HelperName {
        /// The file.
        path: PathBuf,
    },
    /// A credential helper fails.
    #[error("{program}, which {path} names, {problem}")]
    Helper {
        /// The program.
        program: String,
        /// The file that names it.
        path: PathBuf,
        /// A description of the failure, without the helper's output.
        problem: String,
    },
}

impl Classify for CredentialsError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Config
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoRegistry { host, .. } => {
                return Some(format!(
                    "Set AGENTHOST_REGISTRY to the host that may have it, such as AGENTHOST_REGISTRY={host}."
                ));
            }
            Self::Token => "A line break at its end is a usual cause.",
            Self::TokenAndPassword => {
                "Set AGENTHOST_REGISTRY_USERNAME and AGENTHOST_REGISTRY_PASSWORD, or AGENTHOST_REGISTRY_TOKEN."
            }
            Self::HalfPassword => "Set both.",
            Self::Read { .. } | Self::TooLarge { .. } | Self::Syntax { .. } => {
                "Fix the file, or log in again with `docker login`."
            }
            Self::Entry { host, .. } => return Some(format!("Log in again with `docker login {host}`.")),
            Self::HelperName { .. } => return None,
            Self::Helper { .. } => "Fix the helper, or set AGENTHOST_REGISTRY and its companions, which come first.",
        };
        Some(hint.to_owned())
    }
}

fn login(used: Option<&str>) -> String {
    match used {
        Some(source) => format!("the registry refuses the login from {source}"),
        None => "the registry requires a login".to_owned(),
    }
}

fn code_of(code: Option<&str>) -> String {
    code.map(|code| format!(" ({code})")).unwrap_or_default()
}
