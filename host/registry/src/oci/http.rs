//! One registry as an HTTP server: its addresses, bounded reading, and the errors that say what it did.
//!
//! The registry's own words are not repeated: it could write anything there, including control characters and secrets
//! that it received.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{Client, Response};
use tokio::time::{Instant, timeout, timeout_at};
use url::{Host, Url};

use super::credentials::Credentials;
use agenthost_core::error::{Error, Result};

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

/// The server of one repository of a registry.
#[derive(Debug)]
pub(super) struct Http {
    pub(super) client: Client,
    /// The registry's origin, with the path `/`.
    pub(super) base: Url,
    /// The host as the user writes it.
    pub(super) host: String,
    pub(super) repository: String,
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

impl Http {
    pub(super) fn new(host: &str, repository: &str, bounds: Bounds) -> Result<Self> {
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

    /// Returns the error that the registry cannot be used, because of `why`.
    pub(super) fn wrong(&self, why: &str) -> Error {
        Error::plugin(format!("{}: {why}", self.place()))
    }

    pub(super) fn nonsense(&self, what: &str) -> Error {
        self.wrong(&format!(
            "{} answers with {what}, not as an OCI registry does",
            self.host
        ))
        .with_hint("Check the address; a proxy or a login page in between is a usual cause, too.")
    }

    pub(super) fn no_login(&self, credentials: &Credentials, why: &str) -> Error {
        let host = &self.host;
        let hint = format!(
            "Log in with `docker login {host}`, or set AGENTHOST_REGISTRY={host} with AGENTHOST_REGISTRY_USERNAME and \
             AGENTHOST_REGISTRY_PASSWORD, or with AGENTHOST_REGISTRY_TOKEN."
        );
        match credentials.source() {
            Some(source) => self.wrong(&format!(
                "the registry does not let in who logs in as {source} says: {why}"
            )),
            None => self.wrong(&format!("the registry wants a login: {why}")),
        }
        .with_hint(hint)
    }

    pub(super) fn slow(&self, limit: Duration) -> Error {
        self.wrong(&format!("no answer from {} within {limit:?}", self.host))
            .with_hint("The registry or the way to it is slow; try again.")
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
            return self.wrong(&format!("no connection to {host}: {cause}")).with_hint(hint);
        }
        self.wrong(&format!("the connection to {host} broke: {cause}"))
            .with_hint("Try again; a transfer goes on where it stopped.")
    }
}

/// Returns the innermost cause, which a user can act on.
pub(super) fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let text: String = cause.to_string().chars().take(200).collect();
    text.escape_debug().to_string()
}
