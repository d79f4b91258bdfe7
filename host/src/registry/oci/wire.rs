//! Talking HTTP to one registry: addresses, time limits, redirects, and answers that are bounded before they are read.
//!
//! Bounds: 10 s to connect, 30 s until an answer begins and between two pieces of it, a second more for each 64 KiB that are
//! sent, 30 minutes for a download, five redirects. Plain HTTP is spoken with loopback alone, and a redirect never leads away from TLS. The
//! environment's proxy settings hold, but not for loopback. What logs in goes to the registry's own origin and nowhere else.
//!
//! Left out: retries. A transfer that breaks goes on where it stopped at the next call.

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
use super::login::{self, Granted};
use crate::error::{Error, Result};

/// The most redirects of one request.
const MAX_REDIRECTS: usize = 5;
/// The bytes a second that an upload has to come to.
const SLOWEST_UPLOAD: u64 = 64 << 10;
/// The most bytes of an error's body that are looked at.
const MAX_COMPLAINT: u64 = 64 << 10;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// To open a connection, TLS included.
    pub(super) connect: Duration,
    /// Until an answer begins, and the longest silence within one.
    pub(super) silence: Duration,
    /// For a whole answer, a blob among them.
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

/// One request, which may have to be sent more than once.
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

    /// Asks for the right to write.
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

/// A registry, as far as one repository goes.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) client: Client,
    /// The registry's origin, with the path `/`.
    pub(super) base: Url,
    /// The host as people write it.
    pub(super) host: String,
    pub(super) repository: String,
    pub(super) credentials: Credentials,
    granted: Mutex<Option<Granted>>,
    pub(super) bounds: Bounds,
}

/// Whether an address is this machine's own.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

impl Wire {
    pub(super) fn new(host: &str, repository: &str, credentials: Credentials, bounds: Bounds) -> Result<Self> {
        // What is called docker.io is served elsewhere.
        let server = match host {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            other => other,
        };
        let mut base = Url::parse(&format!("https://{server}/"))
            .map_err(|error| Error::usage(format!("`{}` is no host: {error}", host.escape_debug())))?;
        let local = is_loopback(&base);
        if local {
            base = Url::parse(&format!("http://{server}/"))
                .map_err(|error| Error::usage(format!("`{}` is no host: {error}", host.escape_debug())))?;
        }
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Losing a race to another thread leaves a provider in place all the same.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let mut builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            // An offset counts the bytes of the blob, not those of a compressed one.
            .no_gzip()
            .connect_timeout(bounds.connect)
            .user_agent(concat!("agenthost/", env!("CARGO_PKG_VERSION")));
        if local {
            // A registry on this machine must work where no certificates are installed.
            builder = builder.no_proxy().tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| {
            Error::host(format!("no HTTPS client: {}", root_cause(&error)))
                .hint("Install the system's root certificates (the package is usually called ca-certificates).")
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

    /// `v2/REPOSITORY/…`; no part of `rest` comes from the registry.
    pub(super) fn url(&self, rest: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{}/{rest}", self.repository));
        url
    }

    /// Where the registry points to with `text`, from `url` on.
    pub(super) fn follow(&self, url: &Url, text: &str) -> Result<Url> {
        let next = url
            .join(text)
            .map_err(|_| self.wrong("the registry points to an address that is none"))?;
        let local = next.scheme() == "http" && is_loopback(&next) && self.base.scheme() == "http";
        if next.scheme() != "https" && !local {
            let place = next.host_str().unwrap_or("nowhere");
            return Err(self
                .wrong(&format!("the registry points to {}://{place}, which is not safe", next.scheme()))
                .hint("Plain HTTP is for this machine's own registries; tell the registry's operator that it has to name https."));
        }
        Ok(next)
    }

    /// Whether an address is the registry's own.
    pub(super) fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Sends a request, logs in where that is wanted, and follows redirects of what only reads.
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
                    .hint("Use the address that it is redirected to, if that is a registry."));
            };
            hops += 1;
            if hops > MAX_REDIRECTS {
                return Err(self
                    .wrong(&format!(
                        "more than {MAX_REDIRECTS} redirects, the last to {}",
                        shown(&url)
                    ))
                    .hint("The registry is set up wrong; tell its operator."));
            }
            url = self.follow(&url, location)?;
        }
    }

    /// What says who is asking, where that is known.
    fn authorization(&self, push: bool) -> Option<HeaderValue> {
        let granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        match &*granted {
            Some(granted) if granted.push || !push => Some(granted.header.clone()),
            _ => self.credentials.token(),
        }
    }

    /// The body of an answer, of at most `limit` bytes.
    pub(super) async fn read(&self, mut response: Response, limit: u64, what: &str) -> Result<Bytes> {
        let too_large = || {
            Error::denied(format!("{}: {what} has more than {limit} bytes", self.place()))
                .hint("The registry is broken or hostile; nothing was kept.")
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

    /// An answer that is no success, in words.
    pub(super) async fn refused(&self, response: Response, what: &str) -> Error {
        let status = response.status();
        let html = is_html(response.headers());
        let retry = response
            .headers()
            .get(reqwest::header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let body = self
            .read(response, MAX_COMPLAINT, "the answer")
            .await
            .unwrap_or_default();
        let code = complaint(&body).map(|code| format!(" ({code})")).unwrap_or_default();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.no_login(&format!("{status}{code}")),
            _ if html || body.trim_ascii_start().starts_with(b"<") => self.nonsense("a web page"),
            StatusCode::NOT_FOUND => self
                .wrong(&format!("the registry has no {what}{code}"))
                .hint("It has lost it, or this part of it is not for you; ask its operator."),
            StatusCode::TOO_MANY_REQUESTS => {
                let wait = retry.map_or_else(|| "a while".to_owned(), |seconds| format!("{seconds} s"));
                self.wrong("the registry has had too many requests").hint(format!(
                    "Wait {wait} and try again; some registries allow more to those who log in."
                ))
            }
            _ => self
                .wrong(&format!(
                    "the registry answers {status}{code} where {what} was asked for"
                ))
                .hint(match status.is_server_error() {
                    true => "The registry is in trouble; try again later, or tell its operator.",
                    false => "The registry does not take what this version sends; tell its operator what it said.",
                }),
        }
    }

    /// Whether an answer of status 404 is a registry's: a web page that says so is an error.
    pub(super) async fn missing(&self, response: Response) -> Result<()> {
        let html = is_html(response.headers());
        let body = self.read(response, MAX_COMPLAINT, "the answer").await?;
        match html || body.trim_ascii_start().starts_with(b"<") {
            true => Err(self.nonsense("a web page")),
            false => Ok(()),
        }
    }

    /// The registry cannot be used, because …
    pub(super) fn wrong(&self, why: &str) -> Error {
        Error::plugin(format!("{}: {why}", self.place()))
    }

    pub(super) fn nonsense(&self, what: &str) -> Error {
        self.wrong(&format!(
            "{} answers with {what}, not as an OCI registry does",
            self.host
        ))
        .hint("Check the address; a proxy or a login page in between is a usual cause, too.")
    }

    pub(super) fn no_login(&self, why: &str) -> Error {
        let host = &self.host;
        let hint = format!(
            "Log in with `docker login {host}`, or set AGENTHOST_REGISTRY={host} with AGENTHOST_REGISTRY_USERNAME and \
             AGENTHOST_REGISTRY_PASSWORD, or with AGENTHOST_REGISTRY_TOKEN."
        );
        match self.credentials.source() {
            Some(source) => self.wrong(&format!(
                "the registry does not let in who logs in as {source} says: {why}"
            )),
            None => self.wrong(&format!("the registry wants a login: {why}")),
        }
        .hint(hint)
    }

    pub(super) fn slow(&self, limit: Duration) -> Error {
        self.wrong(&format!("no answer from {} within {limit:?}", self.host))
            .hint("The registry or the way to it is slow; try again.")
    }

    pub(super) fn broken(&self, error: &reqwest::Error) -> Error {
        let host = &self.host;
        let cause = root_cause(error);
        if error.is_timeout() {
            return self.slow(self.bounds.connect);
        }
        if error.is_connect() {
            let hint = match self.base.scheme() {
                "http" => format!("Is the registry running, and is {host} its address?"),
                _ => format!(
                    "Is the registry up, is {host} its address, and does it speak https? Plain HTTP is for loopback alone."
                ),
            };
            return self.wrong(&format!("no connection to {host}: {cause}")).hint(hint);
        }
        self.wrong(&format!("the connection to {host} broke: {cause}"))
            .hint("Try again; a transfer goes on where it stopped.")
    }
}

/// Whether an answer calls itself a web page.
pub(super) fn is_html(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/html"))
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// An address without what may be secret in it.
fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

/// The code of an error in the registries' own form. Its message is not repeated: it is the registry's to write, and may
/// hold what was sent.
fn complaint(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let code = value.pointer("/errors/0/code")?.as_str()?;
    let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    (code.len() <= 40 && code.bytes().all(plain)).then(|| code.to_owned())
}

/// The innermost cause, which is what a person can do something about.
pub(super) fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let text: String = cause.to_string().chars().take(200).collect();
    text.escape_debug().to_string()
}
