//! Logging in: the challenges of a 401 response, and the answers to them.
//!
//! Two schemes are supported: HTTP Basic, and bearer tokens. A token server named by the registry issues a token for a
//! user name and password, for an identity token, or anonymously. That server is reached over TLS, or on loopback if
//! the registry is on loopback as well. A token is requested for this repository only, and with write access only to
//! publish.

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, GetAll, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::time::timeout;
use url::form_urlencoded;

use super::credentials::{Credentials, Secret, sensitive};
use super::http::Http;
use crate::error::{OciError, OciProblem};

/// The maximum size of a token server's response, in bytes.
const MAX_TOKEN_ANSWER: u64 = 64 << 10;

/// The authorization that a registry granted.
#[derive(Debug)]
pub(super) struct Granted {
    /// The authorization header, marked as sensitive so that nothing prints it.
    pub(super) header: HeaderValue,
    /// `true` if it permits writing.
    pub(super) push: bool,
}

/// A challenge of a registry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

/// A token server's response; servers use either name for the token.
#[derive(Deserialize)]
struct TokenResponse {
    token: Option<String>,
    access_token: Option<String>,
}

/// Reads `WWW-Authenticate`; unsupported schemes are left out.
pub(super) fn challenges(headers: GetAll<'_, HeaderValue>) -> Vec<Challenge> {
    headers
        .iter()
        .filter_map(|header| challenge(header.to_str().ok()?))
        .collect()
}

fn challenge(text: &str) -> Option<Challenge> {
    let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service) = (None, None);
    while let Some((key, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        match key.trim_matches([' ', ',']).to_ascii_lowercase().as_str() {
            "realm" => realm = Some(value.to_owned()),
            "service" => service = Some(value.to_owned()),
            _ => {}
        }
        rest = next;
    }
    Some(Challenge::Bearer { realm: realm?, service })
}

/// Answers one of the challenges; `None` if no credentials fit any of them.
pub(super) async fn log_in(
    http: &Http,
    credentials: &Credentials,
    challenges: &[Challenge],
    push: bool,
) -> Result<Option<Granted>, OciError> {
    for challenge in challenges {
        match (challenge, credentials.secret()) {
            (Challenge::Basic, Some(Secret::Password { user, password })) => {
                let header = basic(user, password);
                return Ok(header.map(|header| Granted { header, push: true }));
            }
            // A configured token was already sent to the registry, and must not be sent to any other server.
            (Challenge::Bearer { .. }, Some(Secret::Token(_))) | (Challenge::Basic, _) => {}
            (Challenge::Bearer { realm, service }, _) => {
                let header = token(http, credentials, realm, service.as_deref(), push).await?;
                return Ok(Some(Granted { header, push }));
            }
        }
    }
    Ok(None)
}

fn basic(user: &str, password: &SecretString) -> Option<HeaderValue> {
    use base64::Engine as _;
    let pair = format!("{user}:{}", password.expose_secret());
    let text = base64::engine::general_purpose::STANDARD.encode(pair);
    sensitive(&format!("Basic {text}"))
}

async fn token(
    http: &Http,
    credentials: &Credentials,
    realm: &str,
    service: Option<&str>,
    push: bool,
) -> Result<HeaderValue, OciError> {
    let secret = credentials.secret();
    let mut url = http.follow(&http.base, realm)?;
    let actions = if push { "pull,push" } else { "pull" };
    let scope = format!("repository:{}:{actions}", http.repository);
    let mut request = match secret {
        Some(Secret::Identity(identity)) => {
            let mut form = form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token")
                .append_pair("client_id", "agenthost")
                .append_pair("scope", &scope)
                .append_pair("refresh_token", identity.expose_secret());
            if let Some(service) = service {
                form.append_pair("service", service);
            }
            http.client
                .post(url)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.finish())
        }
        _ => {
            url.query_pairs_mut().append_pair("scope", &scope);
            if let Some(service) = service {
                url.query_pairs_mut().append_pair("service", service);
            }
            http.client.get(url)
        }
    };
    if let Some(Secret::Password { user, password }) = secret {
        let header = basic(user, password)
            .ok_or_else(|| http.no_login(credentials, "the password cannot be sent".to_owned()))?;
        request = request.header(AUTHORIZATION, header);
    }
    let response = timeout(http.bounds.silence, request.send())
        .await
        .map_err(|_| http.slow(http.bounds.silence))?
        .map_err(|error| http.broken(&error))?;
    let status = response.status();
    if matches!(status.as_u16(), 400 | 401 | 403) {
        return Err(http.no_login(credentials, format!("its token server answers {status}")));
    }
    if !status.is_success() {
        return Err(http.error(OciProblem::TokenStatus { status }));
    }
    let body = http.read(response, MAX_TOKEN_ANSWER, "the token").await?;
    let nonsense = || http.error(OciProblem::NoToken);
    let answer: TokenResponse = serde_json::from_slice(&body).map_err(|_| nonsense())?;
    let token = answer.token.or(answer.access_token).ok_or_else(nonsense)?;
    sensitive(&format!("Bearer {token}")).ok_or_else(nonsense)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_in_the_forms_that_registries_use() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
            })
        };
        assert_eq!(challenge("Basic realm=\"Registry\""), Some(Challenge::Basic));
        assert_eq!(
            challenge("Bearer realm=\"https://auth.example/token\",service=\"a, b\",scope=\"repository:x:pull,push\""),
            bearer("https://auth.example/token", Some("a, b"))
        );
        assert_eq!(
            challenge("bearer service=x, realm=\"https://auth.example/?a=b\""),
            bearer("https://auth.example/?a=b", Some("x"))
        );
        assert_eq!(challenge("Bearer realm=/token"), bearer("/token", None));
        for text in ["Negotiate", "Bearer", "Bearer realm=\"open", "Bearer service=\"x\"", ""] {
            assert_eq!(challenge(text), None, "{text}");
        }
    }
}
