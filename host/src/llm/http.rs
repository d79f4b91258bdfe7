//! The one way out: a JSON POST to the address that the operator configured.
//!
//! Bounds: 10 s to connect, 10 min for the whole exchange, 8 MiB of answer counted after decompression. Redirects and
//! the environment's proxy settings are ignored, so a request reaches the configured host or nobody; nothing but the
//! JSON body comes from a task. The key is added here and taken out again of whatever the server says.
//!
//! Left out: retries, queues and streaming. HTTP/1.1 alone is spoken: one connection per call in flight, which dropping
//! the call closes, is how a cancelled call stops costing money.

mod scrub;

use std::error::Error as _;
use std::fmt;
use std::io::ErrorKind;
use std::time::{Duration, SystemTime};

use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::{ProviderError, ProviderErrorKind};
use crate::error::Error;

/// What one exchange may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// To open the connection, TLS included.
    pub(super) connect: Duration,
    /// From sending the request to the last byte of the answer.
    pub(super) total: Duration,
    /// Bytes of the answer's body, decompressed.
    pub(super) body: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            total: Duration::from_secs(600),
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
        let url = endpoint_url(base_url, path)?;
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
        let client = client(&url, bounds)?;
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
        let mut response = request.send().await.map_err(|error| self.failure(&error))?;
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let announced = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > self.bounds.body as u64) {
            return Err(self.too_long(status));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failure(&error))? {
            if body.len().saturating_add(chunk.len()) > self.bounds.body {
                return Err(self.too_long(status));
            }
            body.extend_from_slice(&chunk);
        }
        if let Some(key) = &self.key {
            body = scrub::without_key(body, key.expose_secret());
        }
        Ok(Answer { status, headers, body })
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
        ProviderError {
            kind,
            message: if message.is_empty() {
                format!("status {} with no message", answer.status)
            } else {
                message
            },
            status: Some(answer.status),
            retry_after: retry_after(&answer.headers, SystemTime::now()),
            request_id: id.and_then(|id| self.clean_id(id)),
        }
    }

    fn too_long(&self, status: u16) -> ProviderError {
        ProviderError {
            status: Some(status),
            ..ProviderError::new(
                ProviderErrorKind::BadReply,
                format!("the answer is larger than {} bytes", self.bounds.body),
            )
        }
    }

    fn failure(&self, error: &reqwest::Error) -> ProviderError {
        let origin = self.url.origin().ascii_serialization();
        let (kind, message) = if error.is_timeout() && error.is_connect() {
            (
                ProviderErrorKind::Timeout,
                format!("no connection to {origin} within {:?}", self.bounds.connect),
            )
        } else if error.is_timeout() {
            (
                ProviderErrorKind::Timeout,
                format!("no whole answer from {origin} within {:?}", self.bounds.total),
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
        ProviderError::new(kind, self.clean(&message))
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

/// The address of `path` below `base_url`, which must be a plain one.
fn endpoint_url(base_url: &str, path: &str) -> Result<Url, Error> {
    let refuse = |why: &str| {
        // What was refused may hold a password or a key in its query, so only what is surely public is repeated.
        let shown: String = base_url
            .split(['?', '#', '@'])
            .next()
            .unwrap_or_default()
            .chars()
            .take(100)
            .collect();
        let shown = if base_url.contains('@') {
            "(hidden)".to_owned()
        } else {
            shown
        };
        Error::config(format!("base-url {shown}: {why}"))
            .hint("Give a plain address such as https://api.example.com or http://127.0.0.1:11434/v1.")
    };
    let mut url = Url::parse(base_url.trim()).map_err(|error| refuse(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("neither http nor https"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(refuse("no host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("has a user name or password in it"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("has a query or fragment"));
    }
    let joined = format!("{}/{path}", url.path().trim_end_matches('/'));
    url.set_path(&joined);
    Ok(url)
}

fn client(url: &Url, bounds: Bounds) -> Result<Client, Error> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Losing a race to another thread leaves a provider in place all the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let mut builder = Client::builder()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .connect_timeout(bounds.connect)
        .timeout(bounds.total)
        .user_agent(concat!("agenthost/", env!("CARGO_PKG_VERSION")));
    if url.scheme() == "http" {
        // A local model server must work on a machine that has no certificates installed.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|error| {
        Error::host(format!("no HTTPS client: {}", root_cause(&error)))
            .hint("Install the system's root certificates (the package is usually called ca-certificates).")
            .caused_by(error.without_url())
    })
}

/// When the server wants the next request: `retry-after-ms`, or `retry-after` in seconds or as an HTTP date. A date in
/// the past is zero; a value that cannot be read is none.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let milliseconds = text("retry-after-ms").and_then(|text| text.parse::<f64>().ok());
    if let Some(wait) = milliseconds.and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok()) {
        return Some(wait);
    }
    let text = text("retry-after")?;
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => {
            let at = httpdate::parse_http_date(text).ok()?;
            Some(at.duration_since(now).unwrap_or_default())
        }
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
