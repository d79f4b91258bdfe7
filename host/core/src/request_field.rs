//! The rules for headers and query parameters that an operator adds to the requests to a model service.
//!
//! A configuration file and a program that embeds the library follow the same rules. Where a value comes from, and
//! whether it is a secret, is not decided here.

/// The longest name, in bytes.
const MAX_NAME: usize = 256;
/// The longest value, in bytes. Common servers accept no longer header.
const MAX_VALUE: usize = 8 << 10;

/// The most headers and query parameters of one request.
const MAX_FIELDS: usize = 64;
/// The most bytes of their names and values together. Each byte of a parameter becomes up to three in the address.
const MAX_FIELD_BYTES: usize = 16 << 10;

/// The headers that describe the message or the connection, which the host alone knows.
const OWNED: [&str; 16] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The ends of the names of fields that carry credentials.
const CREDENTIALS: [&str; 10] = [
    "api-key",
    "apikey",
    "auth",
    "authorization",
    "cookie",
    "credential",
    "password",
    "secret",
    "subscription-key",
    "token",
];

/// The part of a request that a field belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FieldPlace {
    /// A header.
    Header,
    /// A parameter of the address.
    Query,
}

/// The reason for which a header or a query parameter is invalid. It contains neither the name nor the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldProblem {
    /// The name of a header has other characters than names have.
    #[error("not a valid name of a header")]
    HeaderName,
    /// The name of a parameter is empty, too long, or has control characters.
    #[error("not a valid name of a query parameter")]
    QueryName,
    /// The host sets this header.
    #[error("the host sets this header itself")]
    Owned,
    /// The value is empty.
    #[error("the value is empty")]
    Empty,
    /// The value of a header has characters that headers do not have.
    #[error("the value has a control character, a character outside of ASCII, or a blank at one end")]
    HeaderValue,
    /// The value of a parameter has control characters, or comes from a variable that is not UTF-8.
    #[error("the value has a control character, or is not UTF-8")]
    QueryValue,
    /// The value is too long.
    #[error("the value is longer than 8 KiB")]
    TooLong,
    /// There are too many of them for one request.
    #[error("there are more than {MAX_FIELDS} headers and query parameters, or they are longer than 16 KiB together")]
    TooMany,
}

impl FieldProblem {
    /// Returns the next step.
    pub fn hint(self) -> &'static str {
        match self {
            Self::HeaderName => "Write letters, digits and -, such as x-portkey-provider.",
            Self::QueryName => "Write the name alone, such as api-version.",
            Self::Owned => "Leave it out.",
            Self::Empty => "Give it a value, or leave it out.",
            Self::HeaderValue => "Write printable ASCII characters on one line.",
            Self::QueryValue => "Write the value on one line, as it is before it is encoded for an address.",
            Self::TooLong => "Give it a shorter value.",
            Self::TooMany => "Leave some of them out.",
        }
    }
}

/// Checks that one request can carry all of these headers and query parameters, given as the lengths of their names and
/// values.
///
/// ```
/// use agenthost_core::request_field::{FieldProblem, check_all};
///
/// assert_eq!(check_all([40; 64]), Ok(()));
/// assert_eq!(check_all([40; 65]), Err(FieldProblem::TooMany));
/// assert_eq!(check_all([9 << 10; 2]), Err(FieldProblem::TooMany), "more than 16 KiB");
/// ```
///
/// # Errors
///
/// [`FieldProblem::TooMany`] if it cannot.
pub fn check_all(lengths: impl IntoIterator<Item = usize>) -> Result<(), FieldProblem> {
    let (mut count, mut bytes) = (0, 0_usize);
    for length in lengths {
        count += 1;
        bytes = bytes.saturating_add(length);
    }
    if count > MAX_FIELDS || bytes > MAX_FIELD_BYTES {
        return Err(FieldProblem::TooMany);
    }
    Ok(())
}

impl FieldPlace {
    /// Returns the word for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Query => "query parameter",
        }
    }

    /// Checks a name and returns it as it is compared: that of a header in lower case.
    ///
    /// ```
    /// use agenthost_core::request_field::{FieldPlace, FieldProblem};
    ///
    /// assert_eq!(FieldPlace::Header.check_name("X-Portkey-Provider").as_deref(), Ok("x-portkey-provider"));
    /// assert_eq!(FieldPlace::Header.check_name("Content-Type"), Err(FieldProblem::Owned));
    /// assert_eq!(FieldPlace::Query.check_name("api-version").as_deref(), Ok("api-version"));
    /// ```
    ///
    /// # Errors
    ///
    /// [`FieldProblem`] if the name is invalid, or that of a header that the host sets.
    pub fn check_name(self, name: &str) -> Result<String, FieldProblem> {
        let fits = (1..=MAX_NAME).contains(&name.len());
        match self {
            Self::Header if !fits || !name.bytes().all(is_name) => Err(FieldProblem::HeaderName),
            Self::Query if !fits || name.chars().any(char::is_control) => Err(FieldProblem::QueryName),
            Self::Query => Ok(name.to_owned()),
            Self::Header => {
                let name = name.to_ascii_lowercase();
                match OWNED.contains(&name.as_str()) {
                    true => Err(FieldProblem::Owned),
                    false => Ok(name),
                }
            }
        }
    }

    /// Checks a value.
    ///
    /// # Errors
    ///
    /// [`FieldProblem`] if a request cannot carry it.
    pub fn check_value(self, value: &str) -> Result<(), FieldProblem> {
        let blank_end = value.starts_with(' ') || value.ends_with(' ');
        match self {
            _ if value.is_empty() => Err(FieldProblem::Empty),
            _ if value.len() > MAX_VALUE => Err(FieldProblem::TooLong),
            Self::Header if blank_end || !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) => {
                Err(FieldProblem::HeaderValue)
            }
            Self::Query
                if value
                    .chars()
                    .any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER) =>
            {
                Err(FieldProblem::QueryValue)
            }
            Self::Header | Self::Query => Ok(()),
        }
    }

    /// Returns whether a field of this name carries a credential, by its name alone.
    ///
    /// ```
    /// use agenthost_core::request_field::FieldPlace;
    ///
    /// assert!(FieldPlace::Header.is_credential("x-portkey-api-key") && FieldPlace::Query.is_credential("key"));
    /// assert!(!FieldPlace::Header.is_credential("x-portkey-provider"));
    /// ```
    pub fn is_credential(self, name: &str) -> bool {
        let name = name.to_ascii_lowercase().replace('_', "-");
        CREDENTIALS.iter().any(|end| name.ends_with(end)) || (self == Self::Query && name == "key")
    }
}

/// Returns whether the byte may be in the name of a header. RFC 9110 allows more, but some servers take `_` for `-`, so that
/// `content_length` would be a header of the host.
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_not_a_header_or_belong_to_the_host_are_refused() {
        for name in [
            "",
            "a b",
            "a:b",
            "a\r\nb",
            "é",
            "a\0",
            "content_length",
            &"x".repeat(257),
        ] {
            assert_eq!(
                FieldPlace::Header.check_name(name),
                Err(FieldProblem::HeaderName),
                "{name:?}"
            );
        }
        for name in ["Host", "CONTENT-LENGTH", "Transfer-Encoding", "connection", "accept"] {
            assert_eq!(FieldPlace::Header.check_name(name), Err(FieldProblem::Owned), "{name}");
        }
        for name in ["", "a\nb", &"x".repeat(257)] {
            assert_eq!(
                FieldPlace::Query.check_name(name),
                Err(FieldProblem::QueryName),
                "{name:?}"
            );
        }
        assert_eq!(
            FieldPlace::Query.check_name("a b&c").as_deref(),
            Ok("a b&c"),
            "it is encoded"
        );
    }

    #[test]
    fn values_that_a_request_cannot_carry_are_refused() {
        for value in ["a\nx-evil: 1", "a\r", "\0", "\u{7f}", "é", " a", "a "] {
            assert_eq!(
                FieldPlace::Header.check_value(value),
                Err(FieldProblem::HeaderValue),
                "{value:?}"
            );
        }
        assert_eq!(FieldPlace::Header.check_value("Bearer a.b"), Ok(()));
        assert_eq!(FieldPlace::Query.check_value("a\n"), Err(FieldProblem::QueryValue));
        assert_eq!(FieldPlace::Query.check_value("ä & b"), Ok(()));
        for place in [FieldPlace::Header, FieldPlace::Query] {
            assert_eq!(place.check_value(""), Err(FieldProblem::Empty));
            assert_eq!(place.check_value(&"x".repeat(8193)), Err(FieldProblem::TooLong));
        }
    }

    #[test]
    fn credentials_are_known_by_their_names() {
        for name in [
            "authorization",
            "api-key",
            "Helicone-Auth",
            "cf-aig-authorization",
            "cookie",
        ] {
            assert!(FieldPlace::Header.is_credential(name), "{name}");
        }
        for name in ["x-max-tokens", "http-referer", "x-cache-key", "openai-organization"] {
            assert!(!FieldPlace::Header.is_credential(name), "{name}");
        }
        assert!(!FieldPlace::Query.is_credential("api-version"));
    }
}
