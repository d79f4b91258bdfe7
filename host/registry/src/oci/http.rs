//! One registry as an HTTP server: its client, its addresses, and bounded reading.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{Client, Response};
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::credentials::Credentials;
use crate::error::{OciError, OciProblem, OciRequestError};
use agenthost_config::trust::is_loopback;

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

/// Returns the origin of a registry: over TLS, except on this machine.
pub(super) fn origin(host: &str) -> Result<Url, OciRequestError> {
    // The registry docker.io is served from another host.
    let server = match host {
        "docker.io" | "index.docker.io" => "registry-1.docker.io",
        other => other,
    };
    let parse = |scheme: &str| {
        Url::parse(&format!("{scheme}://{server}/")).map_err(|problem| OciRequestError::Host {
            host: host.to_owned(),
            problem,
        })
    };
    let url = parse("https")?;
    if is_loopback(&url) { parse("http") } else { Ok(url) }
}

impl Http {
    pub(super) fn new(host: &str, repository: &str, bounds: Bounds) -> Result<Self, OciRequestError> {
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
        let client = builder.build().map_err(|error| OciRequestError::Client {
            cause: root_cause(&error),
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
    ///
    /// A registry behind a proxy that adds TLS may name its own addresses with `http`; they are reached with TLS.
    pub(super) fn follow(&self, url: &Url, text: &str) -> Result<Url, OciError> {
        let mut next = url.join(text).map_err(|_| self.error(OciProblem::InvalidAddress))?;
        if next.scheme() == "http" {
            let mut secure = next.clone();
            if secure.set_scheme("https").is_ok() && self.is_own(&secure) {
                next = secure;
            }
        }
        let local = next.scheme() == "http" && is_loopback(&next) && self.base.scheme() == "http";
        if next.scheme() != "https" && !local {
            let place = next.host_str().unwrap_or("nowhere");
            return Err(self.error(OciProblem::UnsafeAddress {
                address: format!("{}://{place}", next.scheme()),
            }));
        }
        Ok(next)
    }

    /// Returns whether an address has the registry's own origin.
    pub(super) fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Reads the body of a response, at most `limit` bytes.
    pub(super) async fn read(&self, mut response: Response, limit: u64, what: &str) -> Result<Bytes, OciError> {
        let too_large = || {
            self.error(OciProblem::TooLarge {
                what: what.to_owned(),
                limit,
            })
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

    /// Returns the error about this repository.
    pub(super) fn error(&self, problem: OciProblem) -> OciError {
        OciError {
            at: self.place(),
            problem,
        }
    }

    pub(super) fn nonsense(&self, answer: &'static str) -> OciError {
        let host = self.host.clone();
        self.error(OciProblem::NotRegistry { host, answer })
    }

    pub(super) fn no_login(&self, credentials: &Credentials, reason: String) -> OciError {
        self.error(OciProblem::Login {
            host: self.host.clone(),
            used: credentials.source().map(str::to_owned),
            reason,
        })
    }

    pub(super) fn slow(&self, limit: Duration) -> OciError {
        let host = self.host.clone();
        self.error(OciProblem::Slow { host, limit })
    }

    pub(super) fn broken(&self, error: &reqwest::Error) -> OciError {
        let (host, cause) = (self.host.clone(), root_cause(error));
        if error.is_timeout() {
            return self.slow(self.bounds.connect);
        }
        self.error(match error.is_connect() {
            true => OciProblem::Unreachable {
                host,
                cause,
                plain: self.base.scheme() == "http",
            },
            false => OciProblem::Broken { host, cause },
        })
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
