//! The only network access: a JSON POST to the address that the operator configured.
//!
//! Bounds: 10 s to connect, 10 min (or the configured time) until the body of the reply begins, a minute more until its
//! end, 30 s (or the configured time) of silence in between, 8 MiB of body after decompression. White space before a
//! reply only keeps the connection alive and is not its beginning. Redirects and the environment's proxy settings
//! are ignored, so a request reaches the configured host or none. A task controls nothing but the JSON body. The key,
//! and the headers and query parameters of the configuration, are added here; what is secret of them is removed from
//! everything that the server returns.
//!
//! Left out: retries, queues and streaming. Only HTTP/1.1 is used: each call in flight has its own connection, and
//! dropping the call closes it, which is how a canceled call stops costing money. A connection is reused for the next
//! call once its reply has been read.

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

use self::scrub::Secrets;
use super::error::ProviderSetupError;
use super::errors::Fault;
use super::extra::ExtraValue;
use super::quota;
use agenthost_core::llm::{ProviderError, ProviderErrorKind, ProviderSetting};
use agenthost_core::request_field::{self, FieldPlace, FieldProblem};

/// The bounds of one exchange.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The time to open the connection, including TLS.
    pub(super) connect: Duration,
    /// The time from the start to the first byte of the reply's body, which bounds how long a model may think. The head
    /// does not count as a reply, because some gateways send it immediately and then wait for the model, and neither does
    /// white space.
    pub(super) first_byte: Duration,
    /// The longest silence between two chunks of the body.
    pub(super) silence: Duration,
    /// The time from the start to the last byte of the reply.
    pub(super) total: Duration,
    /// The size of the reply's body in bytes, decompressed.
    pub(super) body: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            // The default of the vendors' own clients.
            first_byte: Duration::from_secs(600),
            silence: Duration::from_secs(30),
            total: Duration::from_secs(660),
            body: 8 * 1024 * 1024,
        }
    }
}

/// The way in which the key is sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Auth {
    /// In a header of this name.
    Header(&'static str),
    /// As `authorization: Bearer …`.
    Bearer,
}

/// The setting of an address.
pub(super) const BASE_URL: ProviderSetting = ProviderSetting {
    key: "base-url",
    value: None,
};

/// An address that accepts JSON.
pub(super) struct Endpoint {
    client: Client,
    /// The address without query parameters, which may be secret.
    url: Url,
    query: Vec<(String, ExtraValue)>,
    bounds: Bounds,
    headers: HeaderMap,
    /// The headers that the wire sets itself.
    own: Vec<HeaderName>,
    secrets: Secrets,
}

/// A reply of any status, read completely.
#[derive(Debug)]
pub(super) struct HttpResponse {
    /// The HTTP status.
    pub(super) status: u16,
    /// The headers as received.
    pub(super) headers: HeaderMap,
    /// The decompressed body without the key.
    pub(super) body: Vec<u8>,
}

/// A reply without a request, for fuzz targets.
#[cfg(any(test, feature = "fuzzing"))]
#[derive(Debug, Clone, Copy)]
pub struct RawAnswer<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The headers; those that are not valid in HTTP are left out.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: &'a [u8],
}

#[cfg(any(test, feature = "fuzzing"))]
impl From<RawAnswer<'_>> for HttpResponse {
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
    /// Creates an endpoint for `path` below `base_url`, with a key that is sent as `auth`.
    ///
    /// # Errors
    ///
    /// Returns an error of class `config` if `base_url` is not a plain http(s) address, or the key is not valid in a
    /// header.
    pub(super) fn new(
        base_url: &str,
        path: &str,
        auth: Auth,
        key: Option<SecretString>,
        fixed: &[(&'static str, &'static str)],
        bounds: Bounds,
    ) -> Result<Self, ProviderSetupError> {
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
                .ok_or_else(|| ProviderSetupError::Key { url: url.to_string() })?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let client = client::open(&url, bounds.connect)?;
        let mut secrets = Secrets::default();
        key.iter().for_each(|key| secrets.add(key.expose_secret()));
        Ok(Self {
            client,
            url,
            query: Vec::new(),
            bounds,
            own: headers.keys().cloned().collect(),
            headers,
            secrets,
        })
    }

    /// Adds a header to every request. A second value for the same name replaces the first.
    ///
    /// # Errors
    ///
    /// Returns an error of class `config` if the name or the value is invalid, or if the host sets the header itself.
    pub(super) fn with_header(mut self, name: &str, value: ExtraValue) -> Result<Self, ProviderSetupError> {
        let checked = self.check(FieldPlace::Header, name, &value)?;
        let wrong = |problem| self.wrong_field(FieldPlace::Header, name, problem);
        let header = HeaderName::try_from(checked).map_err(|_| wrong(FieldProblem::HeaderName))?;
        if self.own.contains(&header) {
            return Err(wrong(FieldProblem::Owned));
        }
        let mut text = HeaderValue::try_from(value.expose()).map_err(|_| wrong(FieldProblem::HeaderValue))?;
        if value.is_secret() {
            text.set_sensitive(true);
            self.secrets.add(value.expose());
        }
        self.headers.insert(header, text);
        Ok(self)
    }

    /// Adds a query parameter to the address of every request. A second value for the same name replaces the first.
    ///
    /// # Errors
    ///
    /// Returns an error of class `config` if the name or the value is invalid.
    pub(super) fn with_query(mut self, name: &str, value: ExtraValue) -> Result<Self, ProviderSetupError> {
        let name = self.check(FieldPlace::Query, name, &value)?;
        if value.is_secret() {
            let mut encoded = self.url.clone();
            encoded.query_pairs_mut().append_pair("", value.expose());
            self.secrets.add(value.expose());
            self.secrets
                .add(encoded.query().unwrap_or_default().trim_start_matches('='));
        }
        self.query.retain(|(known, _)| *known != name);
        self.query.push((name, value));
        Ok(self)
    }

    fn check(&self, place: FieldPlace, name: &str, value: &ExtraValue) -> Result<String, ProviderSetupError> {
        let wrong = |problem| self.wrong_field(place, name, problem);
        let checked = place.check_name(name).map_err(wrong)?;
        place.check_value(value.expose()).map_err(wrong)?;
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len());
        let query = self.query.iter().map(|(name, value)| name.len() + value.expose().len());
        let new = name.len() + value.expose().len();
        request_field::check_all(headers.chain(query).chain([new])).map_err(wrong)?;
        Ok(checked)
    }

    fn wrong_field(&self, place: FieldPlace, name: &str, problem: FieldProblem) -> ProviderSetupError {
        ProviderSetupError::Field {
            url: self.url.to_string(),
            place,
            name: scrub::shown(name),
            problem,
        }
    }

    /// The address of the requests, for people.
    pub(super) fn address(&self) -> &str {
        self.url.as_str()
    }

    /// Sets the time until the reply must begin. It must end within another minute.
    ///
    /// # Errors
    ///
    /// Returns an error of class `config` if `first_byte` is zero.
    pub(super) fn with_timeout(mut self, first_byte: Duration) -> Result<Self, ProviderSetupError> {
        if first_byte.is_zero() {
            return Err(ProviderSetupError::ZeroTimeout {
                url: self.url.to_string(),
            });
        }
        self.bounds.first_byte = first_byte;
        self.bounds.total = first_byte.saturating_add(Duration::from_secs(60));
        Ok(self)
    }

    /// Sets the longest silence between two pieces of a reply.
    ///
    /// # Errors
    ///
    /// Returns an error of class `config` if `silence` is zero.
    pub(super) fn with_silence(mut self, silence: Duration) -> Result<Self, ProviderSetupError> {
        if silence.is_zero() {
            return Err(ProviderSetupError::ZeroSilence {
                url: self.url.to_string(),
            });
        }
        self.bounds.silence = silence;
        Ok(self)
    }

    /// Sends `body` and reads the whole reply, whatever its status.
    pub(super) async fn post(&self, body: &Value) -> Result<HttpResponse, ProviderError> {
        let bytes = serde_json::to_vec(body).map_err(|error| {
            ProviderError::new(
                ProviderErrorKind::InvalidRequest,
                format!("request is not valid JSON: {error}"),
            )
        })?;
        let mut url = self.url.clone();
        if !self.query.is_empty() {
            let pairs = self.query.iter().map(|(name, value)| (name, value.expose()));
            url.query_pairs_mut().extend_pairs(pairs);
        }
        let request = self.client.post(url).headers(self.headers.clone()).body(bytes);
        let start = Instant::now();
        let mut response = timeout(self.bounds.first_byte, request.send())
            .await
            .map_err(|_| self.too_slow())?
            .map_err(|error| self.failure(&error))?;
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let now = SystemTime::now();
        match self.read(&mut response, &headers, start).await {
            Ok(body) => Ok(HttpResponse { status, headers, body }),
            Err(mut error) => {
                error.no_retry = quota::no_retry(&headers);
                Err(error
                    .with_status(status)
                    // An error is not billed, whether or not its body arrives.
                    .with_billing((200..300).contains(&status))
                    .with_retry_after(quota::retry_after(&headers, now))
                    .with_quota(quota::quota(&headers, now)))
            }
        }
    }

    /// Reads the body of a reply whose head has arrived.
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
        let mut begun = false;
        loop {
            let spent = start.elapsed();
            let left = total.saturating_sub(spent);
            let wait = if begun {
                silence
            } else {
                first_byte.saturating_sub(spent)
            };
            let chunk = timeout(wait.min(left), response.chunk()).await.map_err(|_| {
                if !begun {
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
            begun |= !chunk.iter().all(u8::is_ascii_whitespace);
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Cleans a server's text for display: short, on one line, without the key.
    pub(super) fn clean(&self, text: &str) -> String {
        self.secrets.clean(text)
    }

    /// Cleans a header's text for use as an identifier: printable, at most 128 characters, without the key.
    pub(super) fn clean_id(&self, text: &str) -> Option<String> {
        let id: String = self
            .clean(text)
            .chars()
            .filter(|c| !c.is_whitespace())
            .take(128)
            .collect();
        (!id.is_empty()).then_some(id)
    }

    /// Returns the document of a reply without the key.
    pub(super) fn without_key(&self, mut body: Value) -> Value {
        self.secrets.remove_from(&mut body);
        body
    }

    /// Creates an error of `kind` for a reply, with the server's message.
    pub(super) fn error(
        &self,
        answer: &HttpResponse,
        kind: ProviderErrorKind,
        message: &str,
        id: Option<&str>,
    ) -> ProviderError {
        let message = self.clean(message);
        let now = SystemTime::now();
        let message = if message.is_empty() {
            format!("status {} with no message", answer.status)
        } else {
            message
        };
        let mut error = ProviderError::new(kind, message)
            .with_status(answer.status)
            .with_billing(kind == ProviderErrorKind::BadReply)
            .with_retry_after(quota::retry_after(&answer.headers, now))
            .with_quota(quota::quota(&answer.headers, now));
        error.no_retry = quota::no_retry(&answer.headers);
        error.request_id = id.and_then(|id| self.clean_id(id));
        // A redirect is never followed.
        error.setting = (300..400).contains(&answer.status).then_some(BASE_URL);
        error
    }

    /// Creates the error of a reply that reports one, with its kind and the time to come back; `body` is its body if that
    /// is JSON.
    pub(super) fn classify(&self, answer: &HttpResponse, body: Option<&Value>, id: Option<&str>) -> ProviderError {
        let text = String::from_utf8_lossy(&answer.body);
        let fault = body.map_or_else(|| Fault::read_text(&text), Fault::read);
        let kind = fault.kind(answer.status);
        let error = self.error(answer, kind, &fault.message(answer.status, &text), id);
        if !matches!(kind, ProviderErrorKind::RateLimited | ProviderErrorKind::Overloaded) {
            return error;
        }
        // If the headers and the body name different times, the earlier one may be too early.
        let wait = error.retry_after.max(fault.wait);
        error.with_retry_after(wait.or_else(|| quota::reset_after(&answer.headers, SystemTime::now())))
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
        // A request is written only once there is a connection.
        ProviderError::new(kind, self.clean(&message)).with_billing(!error.is_connect())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("url", &self.url.as_str())
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("query", &self.query.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// Parses a token count. `None` for anything but a whole number up to a billion, which is far more than one call can
/// use. Some servers write `100.0` or `"100"`.
pub(super) fn count(value: &Value) -> Option<u64> {
    const MOST: u64 = 1_000_000_000;
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => number.as_u64().or_else(|| {
            let float = number
                .as_f64()
                .filter(|float| float.fract() == 0.0 && (0.0..=1e9).contains(float))?;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a whole number in range"
            )]
            Some(float as u64)
        }),
        _ => None,
    };
    number.filter(|count| *count <= MOST)
}

/// Parses the count of a detail: 0 if it is missing or impossible, because a wrong detail does not make the totals
/// wrong.
pub(super) fn detail(value: Option<&Value>, most: u64) -> u64 {
    value.and_then(count).filter(|count| *count <= most).unwrap_or(0)
}

/// Returns whether the reply arrived but cannot be decompressed. The client reports a body that breaks off in the same
/// way.
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
    // The outermost error prints the address, which the caller's message already contains.
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
