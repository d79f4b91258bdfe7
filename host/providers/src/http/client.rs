//! The address of an endpoint, and the HTTP client that calls it.
//!
//! An address must be plain: a secret in a user name, a query or a fragment would be sent to places where it is easily
//! overlooked. A client keeps the connections of finished calls for the next ones. It follows no redirect and uses no
//! proxy, and a name must not lead to services that only this machine or its network should reach: `localhost` always
//! resolves to loopback, whatever a resolver returns, and no name resolves to a link-local address, where clouds keep
//! their metadata.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Url};

use crate::error::{BaseUrlProblem, ProviderSetupError};

/// The time after which an idle connection is closed.
const IDLE: Duration = Duration::from_secs(90);
/// The maximum number of idle connections per host; others are closed.
const MOST_IDLE: usize = 256;
/// The interval of keep-alive probes, which detect a lost peer while a model thinks.
const PROBE: Duration = Duration::from_secs(30);

/// Returns the address of `path` below `base_url`, which must be plain.
pub(super) fn endpoint_url(base_url: &str, path: &str) -> Result<Url, ProviderSetupError> {
    let refuse = |problem| {
        // The rejected address may contain a password, or a key in its query, so the message repeats only the part that
        // is surely public.
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
        ProviderSetupError::BaseUrl { shown, problem }
    };
    let mut url = Url::parse(base_url.trim()).map_err(|error| refuse(BaseUrlProblem::Syntax(error.to_string())))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse(BaseUrlProblem::Scheme));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(refuse(BaseUrlProblem::NoHost));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse(BaseUrlProblem::Credentials));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse(BaseUrlProblem::Query));
    }
    let joined = format!("{}/{path}", url.path().trim_end_matches('/'));
    url.set_path(&joined);
    Ok(url)
}

/// Creates a client for `url` that gives up on a connection after `connect`.
pub(super) fn open(url: &Url, connect: Duration) -> Result<Client, ProviderSetupError> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // If another thread wins the race, a provider is installed all the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let mut builder = Client::builder()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .dns_resolver(Arc::new(Names))
        .referer(false)
        .connect_timeout(connect)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(MOST_IDLE)
        .tcp_keepalive(PROBE)
        .tcp_keepalive_interval(PROBE)
        .user_agent(concat!("agenthost/", env!("CARGO_PKG_VERSION")));
    if url.scheme() == "http" {
        // A local model server must work on a machine without installed certificates.
        builder = builder.tls_certs_only([]);
    }
    builder
        .build()
        .map_err(|error| ProviderSetupError::HttpsClient(error.without_url().into()))
}

/// The system's resolver, without addresses that no name should resolve to.
struct Names;

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            match look_up(name.as_str()).await {
                Ok(found) => Ok(Box::new(found.into_iter()) as Addrs),
                Err(error) => Err(Box::new(error) as Box<dyn std::error::Error + Send + Sync>),
            }
        })
    }
}

/// Resolves a name. The port comes from the URL and is 0 here.
async fn look_up(name: &str) -> io::Result<Vec<SocketAddr>> {
    if name == "localhost" {
        let own = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        return Ok(own.map(|address| SocketAddr::new(address, 0)).into());
    }
    let found = tokio::net::lookup_host((name, 0)).await?;
    let allowed: Vec<SocketAddr> = found.filter(|found| !is_link_local(found.ip())).collect();
    match allowed.is_empty() {
        true => Err(io::Error::other("the name stands for link-local addresses alone")),
        false => Ok(allowed),
    }
}

/// Returns whether the address is in 169.254.0.0/16 or fe80::/10; the former also if it is mapped to IPv6.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_unicast_link_local() || address.to_ipv4_mapped().is_some_and(|address| address.is_link_local())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_stands_for_the_metadata_of_a_cloud() {
        for address in [
            "169.254.169.254",
            "169.254.0.1",
            "fe80::1",
            "febf::1",
            "::ffff:169.254.169.254",
        ] {
            assert!(is_link_local(address.parse().unwrap()), "{address}");
        }
        for address in [
            "127.0.0.1",
            "10.0.0.1",
            "192.0.2.2",
            "::1",
            "fec0::1",
            "2001:db8::1",
            "::ffff:192.0.2.2",
        ] {
            assert!(!is_link_local(address.parse().unwrap()), "{address}");
        }
    }

    #[tokio::test]
    async fn localhost_is_loopback_whatever_a_resolver_says() {
        let found: Vec<IpAddr> = look_up("localhost").await.unwrap().iter().map(SocketAddr::ip).collect();
        assert_eq!(
            found,
            [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
        );
    }
}
