//! Which address is called, and by what client.
//!
//! An address is a plain one: what hides in a user name, a query or a fragment would go where nobody looks for it. A
//! client keeps the connections of calls that are over, for the next ones.

use std::time::Duration;

use reqwest::{Client, Url};

use super::root_cause;
use crate::error::Error;

/// How long a connection that nobody uses is kept.
const IDLE: Duration = Duration::from_secs(90);
/// Unused connections kept for one host; those above are closed.
const MOST_IDLE: usize = 256;
/// How often a quiet connection is probed, so that one whose other end is gone is noticed while a model thinks.
const PROBE: Duration = Duration::from_secs(30);

/// The address of `path` below `base_url`, which must be a plain one.
pub(super) fn endpoint_url(base_url: &str, path: &str) -> Result<Url, Error> {
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

/// A client for `url` that gives up on a connection after `connect`.
pub(super) fn open(url: &Url, connect: Duration) -> Result<Client, Error> {
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
        .connect_timeout(connect)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(MOST_IDLE)
        .tcp_keepalive(PROBE)
        .tcp_keepalive_interval(PROBE)
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
