//! The one way out: a JSON POST to the address that the operator configured.
//!
//! Bounds: 10 s to connect, 10 min (or what is configured) until the answer's body begins, a minute more until its end,
//! 30 s of silence in between, 8 MiB of answer counted after decompression. Redirects and the environment's proxy
//! settings are ignored, so a request reaches the configured host or nobody; nothing but the JSON body comes from a task.
//! The key is added here and taken out again of whatever the server says.
//!
//! Left out: retries, queues and streaming. HTTP/1.1 alone is spoken: one connection per call in flight, which dropping
//! the call closes, is how a cancelled call stops costing money. Connections whose answer was read are kept for the next
//! call.

mod client;
mod scrub;

use std::error::Error as _;
use std::fmt;
use std::io::ErrorKind;
use std::time::{Duration, SystemTime};

use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::quota;
use agenthost_core::error::Error;
use agenthost_core::llm::{ProviderError, ProviderErrorKind};

/// What one exchange may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// To open the connection, TLS included.
    pub(super) connect: Duration,
    /// From the start to the first byte of the answer's body: how long a model may think. The head alone is no answer;
    /// some gateways send it at once and then wait for the model.
    pub(super) first_byte: Duration,
    /// The longest silence between two pieces of the body.
    pub(super) silence: Duration,
    /// From the start to the last byte of the answer.
    pub(super) total: Duration,
    /// Bytes of the answer's body, decompressed.
    pub(super) body: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            // What the vendors' own clients wait unless told otherwise.
            first_byte: Duration::from_secs(600),
            silence: Duration::from_secs(30),
            total: Duration::from_secs(660),
            body: 8 * 1024 * 1024,
        }
    }
}

/// How the key travels.
#[derive(Debug, Clone, Copy)]
pub(super) enum Auth {
    /// In a header of its own.
    Header(&'static str),
    /// As `authorization: Bearer …`.
    Bearer,
}

/// One address that takes JSON.
pub(super) struct Endpoint {
    client: Client,
    url: Url,
    bounds: Bounds,
    headers: HeaderMap,
    key: Option<SecretString>,
}

/// An answer of any status, read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: u16,
    /// The headers as they came.
    pub(super) headers: HeaderMap,
    /// The body, decompressed, without the key.
    pub(super) body: Vec<u8>,
}

/// An answer that came from nowhere, for fuzz targets.
#[cfg(feature = "fuzzing")]
#[derive(Debug, Clone, Copy)]
pub struct RawAnswer<'a> {
    /// The HTTP status.
    pub status: u16,
    /// Headers; those that HTTP does not allow are left out.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: &'a [u8],
}

#[cfg(feature = "fuzzing")]
impl From<RawAnswer<'_>> for Answer {
    fn from(raw: RawAnswer<'_>) -> Self {
        let header = |(name, value): &(&str, &str)| Some((name.parse::<HeaderName>().ok()?, value.parse().ok()?));
        Self {
            status: raw.status,
            headers: raw.headers.iter().filter_map(header).collect(),
            body: raw.body.to_vec(),
        }
    }
}

impl Endpoint {
    /// The endpoint `path` below `base_url`, with a key that travels as `auth`.
    ///
    /// # Errors
    ///
    /// Class `config`: a base-url that is no plain http(s) address, or a key that no header can carry.
    pub(super) fn new(
        base_url: &str,
        path: &str,
        auth: Auth,
        key: Option<SecretString>,
        fixed: &[(&'static str, &'static str)],
        bounds: Bounds,
    ) -> Result<Self, Error> {
        let url = client::endpoint_url(base_url, path)?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in fixed {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        if let Some(key) = &key {
            let (name, text) = match auth {
                Auth::Header(name) => (HeaderName::from_static(name), key.expose_secret().to_owned()),
                Auth::Bearer => (
                    reqwest::header::AUTHORIZATION,
                    format!("Bearer {}", key.expose_secret()),
                ),
            };
            let mut value = HeaderValue::try_from(text)
                .ok()
                .filter(|_| !key.expose_secret().is_empty())
                .ok_or_else(|| {
                    Error::config(format!(
                        "the key for {url} is empty or has characters that no header can carry"
                    ))
                    .hint("Check the variable or file that holds the key; a line break at its end is a usual cause.")
                })?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let client = client::open(&url, bounds.connect)?;
        Ok(Self {
            client,
            url,
            bounds,
            headers,
            key,
        })
    }

    /// Where requests go, for people.
    pub(super) fn address(&self) -> &str {
        self.url.as_str()
    }

    /// The same, with `first_byte` until the answer begins and a minute more until its end.
    ///
    /// # Errors
    ///
    /// Class `config`: it is zero.
    pub(super) fn with_timeout(mut self, first_byte: Duration) -> Result<Self, Error> {
        if first_byte.is_zero() {
            return Err(Error::config(format!("the timeout for {} is zero", self.url))
                .hint("Give the time that a model may take to answer, such as 10m, or leave the timeout out."));
        }
        self.bounds.first_byte = first_byte;
        self.bounds.total = first_byte.saturating_add(Duration::from_secs(60));
        Ok(self)
    }

    /// Sends `body` and reads the whole answer, whatever its status.
    pub(super) async fn post(&self, body: &Value) -> Result<Answer, ProviderError> {
        let bytes = serde_json::to_vec(body).map_err(|error| {
            ProviderError::new(
                ProviderErrorKind::InvalidRequest,
                format!("request is no JSON: {error}"),
            )
        })?;
        let request = self
            .client
            .post(self.url.clone())
            .headers(self.headers.clone())
            .body(bytes);
        let start = Instant::now();
        let mut response = timeout(self.bounds.first_byte, request.send())
            .await
            .map_err(|_| self.too_slow())?
            .map_err(|error| self.failure(&error))?;
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let now = SystemTime::now();
        match self.read(&mut response, &headers, start).await {
            Ok(body) => Ok(Answer { status, headers, body }),
            Err(error) => Err(ProviderError {
                status: Some(status),
                // An error is not billed, whether or not its words arrive.
                may_be_billed: (200..300).contains(&status),
                retry_after: quota::retry_after(&headers, now),
                no_retry: quota::no_retry(&headers),
                quota: quota::quota(&headers, now),
                ..error
            }),
        }
    }

    /// The body of an answer whose head has come, without the key.
    async fn read(
        &self,
        response: &mut Response,
        headers: &HeaderMap,
        start: Instant,
    ) -> Result<Vec<u8>, ProviderError> {
        let Bounds {
            first_byte,
            silence,
            total,
            body: most,
            ..
        } = self.bounds;
        let announced = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let too_long = || {
            ProviderError::new(
                ProviderErrorKind::BadReply,
                format!("the answer is larger than {most} bytes"),
            )
        };
        if announced.is_some_and(|length| length > most as u64) {
            return Err(too_long());
        }
        let mut body = Vec::new();
        loop {
            let spent = start.elapsed();
            let left = total.saturating_sub(spent);
            let wait = if body.is_empty() {
                first_byte.saturating_sub(spent)
            } else {
                silence
            };
            let chunk = timeout(wait.min(left), response.chunk()).await.map_err(|_| {
                if body.is_empty() {
                    self.too_slow()
                } else if left <= silence {
                    self.late(&format!("no whole answer from {} within {total:?}", self.origin()))
                } else {
                    self.late(&format!(
                        "{} fell silent for {silence:?} in the middle of its answer",
                        self.origin()
                    ))
                }
            })?;
            let Some(chunk) = chunk.map_err(|error| self.failure(&error))? else {
                break;
            };
            if body.len().saturating_add(chunk.len()) > most {
                return Err(too_long());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(match &self.key {
            Some(key) => scrub::without_key(body, key.expose_secret()),
            None => body,
        })
    }

    /// What a server said, fit to be shown: short, on one line, without the key.
    pub(super) fn clean(&self, text: &str) -> String {
        scrub::clean(text, self.key.as_ref().map(ExposeSecret::expose_secret))
    }

    /// A header's text as an identifier: printable, at most 128 characters, without the key.
    pub(super) fn clean_id(&self, text: &str) -> Option<String> {
        let id: String = self
            .clean(text)
            .chars()
            .filter(|c| !c.is_whitespace())
            .take(128)
            .collect();
        (!id.is_empty()).then_some(id)
    }

    /// An error answer of `kind` with the server's words.
    pub(super) fn error(
        &self,
        answer: &Answer,
        kind: ProviderErrorKind,
        message: &str,
        id: Option<&str>,
    ) -> ProviderError {
        let message = self.clean(message);
        let now = SystemTime::now();
        ProviderError {
            kind,
            message: if message.is_empty() {
                format!("status {} with no message", answer.status)
            } else {
                message
            },
            status: Some(answer.status),
            may_be_billed: kind == ProviderErrorKind::BadReply,
            retry_after: quota::retry_after(&answer.headers, now),
            no_retry: quota::no_retry(&answer.headers),
            request_id: id.and_then(|id| self.clean_id(id)),
            quota: quota::quota(&answer.headers, now),
        }
    }

    fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    fn late(&self, message: &str) -> ProviderError {
        ProviderError::new(ProviderErrorKind::Timeout, self.clean(message))
    }

    fn too_slow(&self) -> ProviderError {
        self.late(&format!(
            "no answer from {} within {:?}",
            self.origin(),
            self.bounds.first_byte
        ))
    }

    fn failure(&self, error: &reqwest::Error) -> ProviderError {
        let origin = self.origin();
        let (kind, message) = if error.is_timeout() && error.is_connect() {
            (
                ProviderErrorKind::Timeout,
                format!("no connection to {origin} within {:?}", self.bounds.connect),
            )
        } else if is_garbled(error) {
            (
                ProviderErrorKind::BadReply,
                format!("unreadable answer from {origin}: {}", root_cause(error)),
            )
        } else if error.is_connect() {
            (
                ProviderErrorKind::Connection,
                format!("no connection to {origin}: {}", root_cause(error)),
            )
        } else {
            (
                ProviderErrorKind::Connection,
                format!("the connection to {origin} broke: {}", root_cause(error)),
            )
        };
        ProviderError {
            // A request is written only once there is a connection.
            may_be_billed: !error.is_connect(),
            ..ProviderError::new(kind, self.clean(&message))
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("url", &self.url.as_str())
            .field("key", &self.key.as_ref().map(|_| "[key]"))
            .finish_non_exhaustive()
    }
}

/// What an HTTP status means where the body does not say.
pub(super) fn kind_of_status(status: u16) -> ProviderErrorKind {
    use ProviderErrorKind as Kind;
    match status {
        401 => Kind::Authentication,
        402 => Kind::SpendCap,
        403 => Kind::Permission,
        // A redirect is never followed, so the address is wrong.
        300..400 | 404 | 405 | 410 => Kind::NotFound,
        408 | 504 => Kind::Timeout,
        413 => Kind::TooLarge,
        // Two requests met; the vendors' own SDKs try again.
        409 => Kind::Server,
        429 => Kind::RateLimited,
        502 | 503 | 529 => Kind::Overloaded,
        400..500 => Kind::InvalidRequest,
        500.. => Kind::Server,
        _ => Kind::BadReply,
    }
}

/// The message of an error answer that is not of the wire: a gateway's page, plain text, or nothing.
pub(super) fn gateway_text(status: u16, body: &str) -> String {
    let page = body.trim();
    if (300..400).contains(&status) {
        return format!("status {status}, a redirect, which is never followed; check the base-url");
    }
    if page.is_empty() {
        return format!("status {status} with no message");
    }
    if !page.starts_with('<') {
        return format!("status {status}: {page}");
    }
    let title = page
        .split_once("<title>")
        .and_then(|(_, rest)| rest.split_once("</title>"))
        .map(|(title, _)| title.trim());
    match title {
        Some(title) => format!("status {status} with a page titled {title:?}"),
        None => format!("status {status} with a page instead of an answer"),
    }
}

/// A token count as it stands on the wire; none for anything but a whole number up to a billion, which is far beyond
/// what one call can use.
pub(super) fn count(value: &Value) -> Option<u64> {
    value.as_u64().filter(|count| *count <= 1_000_000_000)
}

/// Whether the answer arrived but cannot be decompressed. The client reports a body that breaks off in the same way.
fn is_garbled(error: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = error.source();
    while let Some(next) = cause {
        let kind = next.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if matches!(
            kind,
            Some(ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::Other)
        ) {
            return error.is_decode();
        }
        cause = next.source();
    }
    false
}

fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    // The outermost error prints the address, which the caller has already named.
    if error.source().is_none() {
        "unknown cause".to_owned()
    } else {
        cause.to_string()
    }
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
