//! Talks HTTP to one registry, with time limits, bounded redirects and bounded responses.
//!
//! Bounds: 10 s to connect, 30 s until a response begins and between two chunks of it, one more second for each 64 KiB
//! sent, 30 minutes for a download, five redirects. Plain HTTP is used only with loopback, and a redirect never leads
//! away from TLS. The environment's proxy settings apply, except for loopback. Credentials are sent to the registry's
//! own origin and, to log in, to its token server.
//!
//! Left out: retries. The next call continues an interrupted transfer where it stopped.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, WWW_AUTHENTICATE,
};
use reqwest::{Client, Method, Response, StatusCode};
use tokio::time::{Instant, timeout, timeout_at};
use url::{Host, Url};

use super::auth::Credentials;
use super::failure::root_cause;
use super::login::{self, Granted};
use agenthost_core::error::{Error, Result};

/// The maximum number of redirects of one request.
const MAX_REDIRECTS: usize = 5;
/// The minimum speed of an upload, in bytes per second.
const SLOWEST_UPLOAD: u64 = 64 << 10;

/// The time limits of requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The limit for opening a connection, including TLS.
    pub(super) connect: Duration,
    /// The limit until a response begins, and for silence within one.
    pub(super) silence: Duration,
    /// The limit for a whole response, such as a blob.
    pub(super) total: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            total: Duration::from_mins(30),
        }
    }
}

/// A request, which may have to be sent more than once.
#[derive(Debug, Clone)]
pub(super) struct Call {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Bytes,
    push: bool,
}

impl Call {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            push: false,
        }
    }

    pub(super) fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    pub(super) fn accept(self, types: &'static str) -> Self {
        self.header(ACCEPT, HeaderValue::from_static(types))
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Requests the right to write.
    pub(super) fn push(mut self) -> Self {
        self.push = true;
        self
    }

    pub(super) fn body(self, media_type: &'static str, body: Bytes) -> Self {
        let mut call = self.header(CONTENT_TYPE, HeaderValue::from_static(media_type));
        call.body = body;
        call
    }
}

/// The connection to one repository of a registry.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) client: Client,
    /// The registry's origin, with the path `/`.
    pub(super) base: Url,
    /// The host as the user writes it.
    pub(super) host: String,
    pub(super) repository: String,
    pub(super) credentials: Credentials,
    granted: Mutex<Option<Granted>>,
    pub(super) bounds: Bounds,
}

/// Returns whether an address is on this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Returns the origin of a registry: over TLS, except on this machine.
pub(super) fn origin(host: &str) -> Result<Url> {
    // The registry docker.io is served from another host.
    let server = match host {
        "docker.io" | "index.docker.io" => "registry-1.docker.io",
        other => other,
    };
    let parse = |scheme: &str| {
        Url::parse(&format!("{scheme}://{server}/"))
            .map_err(|error| Error::usage(format!("`{}` is no host: {error}", host.escape_debug())))
    };
    let url = parse("https")?;
    if is_loopback(&url) { parse("http") } else { Ok(url) }
}

impl Wire {
    pub(super) fn new(host: &str, repository: &str, credentials: Credentials, bounds: Bounds) -> Result<Self> {
        let base = origin(host)?;
        let local = base.scheme() == "http";
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // If another thread was first, its provider is installed.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let mut builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            // An offset counts the bytes of the blob, not those of a compressed body.
            .no_gzip()
            .connect_timeout(bounds.connect)
            .user_agent(concat!("agenthost/", env!("CARGO_PKG_VERSION")));
        if local {
            // A registry on this machine must work without installed root certificates.
            builder = builder.no_proxy().tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| {
            Error::host(format!("no HTTPS client: {}", root_cause(&error)))
                .with_hint("Install the system's root certificates (the package is usually called ca-certificates).")
        })?;
        Ok(Self {
            client,
            base,
            host: host.to_owned(),
            repository: repository.to_owned(),
            credentials,
            granted: Mutex::new(None),
            bounds,
        })
    }

    pub(super) fn place(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// Returns the URL `v2/REPOSITORY/…`; no part of `rest` comes from the registry.
    pub(super) fn url(&self, rest: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{}/{rest}", self.repository));
        url
    }

    /// Resolves an address that the registry points to, relative to `url`.
    pub(super) fn follow(&self, url: &Url, text: &str) -> Result<Url> {
        let next = url
            .join(text)
            .map_err(|_| self.wrong("the registry points to an address that is none"))?;
        let local = next.scheme() == "http" && is_loopback(&next) && self.base.scheme() == "http";
        if next.scheme() != "https" && !local {
            let place = next.host_str().unwrap_or("nowhere");
            return Err(self
                .wrong(&format!("the registry points to {}://{place}, which is not safe", next.scheme()))
                .with_hint("Plain HTTP is for this machine's own registries; tell the registry's operator that it has to name https."));
        }
        Ok(next)
    }

    /// Returns whether an address has the registry's own origin.
    pub(super) fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Sends a request, logs in if required, and follows redirects of requests that only read.
    pub(super) async fn send(&self, call: &Call) -> Result<Response> {
        let mut url = call.url.clone();
        let mut logged_in = false;
        let mut hops = 0;
        loop {
            let own = self.is_own(&url);
            let mut request = self
                .client
                .request(call.method.clone(), url.clone())
                .headers(call.headers.clone());
            if call.method != Method::GET && call.method != Method::HEAD {
                request = request.body(call.body.clone());
            }
            let sent = own.then(|| self.authorization(call.push)).flatten();
            if let Some(value) = &sent {
                request = request.header(AUTHORIZATION, value.clone());
            }
            let sending = Duration::from_secs(call.body.len() as u64 / SLOWEST_UPLOAD);
            let limit = self.bounds.silence + sending;
            let response = timeout(limit, request.send())
                .await
                .map_err(|_| self.slow(limit))?
                .map_err(|error| self.broken(&error))?;
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && own && !logged_in {
                logged_in = true;
                let challenges = login::challenges(response.headers().get_all(WWW_AUTHENTICATE));
                if let Some(granted) = login::log_in(self, &challenges, call.push).await? {
                    *self.granted.lock().unwrap_or_else(PoisonError::into_inner) = Some(granted);
                    continue;
                }
            }
            if !is_redirect(status) {
                return Ok(response);
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let reads = call.method == Method::GET || call.method == Method::HEAD;
            let Some(location) = location.filter(|_| reads) else {
                return Err(self
                    .wrong(&format!("the registry answers a {} with a redirect", call.method))
                    .with_hint("Use the address that it is redirected to, if that is a registry."));
            };
            hops += 1;
            if hops > MAX_REDIRECTS {
                return Err(self
                    .wrong(&format!(
                        "more than {MAX_REDIRECTS} redirects, the last to {}",
                        shown(&url)
                    ))
                    .with_hint("The registry is set up wrong; tell its operator."));
            }
            url = self.follow(&url, location)?;
        }
    }

    /// Returns the authorization header, if one is known.
    fn authorization(&self, push: bool) -> Option<HeaderValue> {
        let granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        match &*granted {
            Some(granted) if granted.push || !push => Some(granted.header.clone()),
            _ => self.credentials.token(),
        }
    }

    /// Reads the body of a response, at most `limit` bytes.
    pub(super) async fn read(&self, mut response: Response, limit: u64, what: &str) -> Result<Bytes> {
        let too_large = || {
            Error::denied(format!("{}: {what} has more than {limit} bytes", self.place()))
                .with_hint("The registry is broken or hostile; nothing was kept.")
        };
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let end = Instant::now() + self.bounds.total.min(self.bounds.silence * 2);
        let mut body = BytesMut::new();
        loop {
            let next = timeout(self.bounds.silence, response.chunk());
            let chunk = timeout_at(end, next)
                .await
                .ok()
                .and_then(Result::ok)
                .ok_or_else(|| self.slow(self.bounds.silence))?
                .map_err(|error| self.broken(&error))?;
            let Some(chunk) = chunk else {
                return Ok(body.freeze());
            };
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Returns an address without the parts that may be secret.
fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}
