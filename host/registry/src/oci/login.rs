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
use super::fields::{self, Entry};
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
    /// `true` if the registry refused it at once.
    pub(super) refused: bool,
}

impl Granted {
    fn new(header: HeaderValue, push: bool) -> Self {
        let refused = false;
        Self { header, push, refused }
    }
}

/// A challenge of a registry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

/// A token server's response; servers use either name for the token, and some send the other one empty.
#[derive(Deserialize)]
struct TokenResponse {
    token: Option<String>,
    access_token: Option<String>,
}

/// Reads `WWW-Authenticate`; unsupported schemes are left out. Bearer challenges come first: a token is for one
/// repository, and a password is for all.
pub(super) fn challenges(headers: GetAll<'_, HeaderValue>) -> Vec<Challenge> {
    let mut challenges: Vec<_> = fields::challenges(headers).iter().filter_map(challenge).collect();
    challenges.sort_by_key(|challenge| *challenge == Challenge::Basic);
    challenges
}

fn challenge(entry: &Entry) -> Option<Challenge> {
    match entry.scheme.as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: entry.param("realm")?.to_owned(),
            service: entry.param("service").map(str::to_owned),
        }),
        _ => None,
    }
}

/// Answers one of the challenges; `None` if no credentials fit any of them.
pub(super) async fn log_in(
    http: &Http,
    credentials: &Credentials,
    challenges: &[Challenge],
    push: bool,
) -> Result<Option<Granted>, OciError> {
    let mut failure = None;
    for challenge in challenges {
        match (challenge, credentials.secret()) {
            (Challenge::Basic, Some(Secret::Password { user, password })) => {
                let header = basic(user, password);
                return Ok(header.map(|header| Granted::new(header, true)));
            }
            // A configured token was already sent to the registry, and must not be sent to any other server.
            (Challenge::Bearer { .. }, Some(Secret::Token(_))) | (Challenge::Basic, _) => {}
            // One token server gets the secret, even if the registry names several.
            (Challenge::Bearer { .. }, _) if failure.is_some() => {}
            (Challenge::Bearer { realm, service }, _) => {
                match token(http, credentials, realm, service.as_deref(), push).await {
                    Ok(header) => return Ok(Some(Granted::new(header, push))),
                    // Another challenge may still be met.
                    Err(error) => failure = Some(error),
                }
            }
        }
    }
    failure.map_or(Ok(None), Err)
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
    let mut tokens = [answer.token, answer.access_token].into_iter().flatten();
    let token = tokens.find(|token| !token.is_empty()).ok_or_else(nonsense)?;
    sensitive(&format!("Bearer {token}")).ok_or_else(nonsense)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

    #[test]
    fn challenges_are_read_in_the_forms_that_registries_use() {
        let bearer = |realm: &str, service: Option<&str>| Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
        };
        let auth = "https://auth.example/token";
        for (headers, expected) in [
            (&["Basic realm=\"Registry\""][..], vec![Challenge::Basic]),
            (
                &["Bearer realm=\"https://auth.example/token\",service=\"a, b\",scope=\"repository:x:pull,push\""],
                vec![bearer(auth, Some("a, b"))],
            ),
            (
                &["bearer service=x, realm=\"https://auth.example/?a=b\""],
                vec![bearer("https://auth.example/?a=b", Some("x"))],
            ),
            (&["Bearer realm=/token"], vec![bearer("/token", None)]),
            (
                &["Basic realm=\"Registry\", Bearer realm=\"https://auth.example/token\", Digest nonce=\"1,2\""],
                vec![bearer(auth, None), Challenge::Basic],
            ),
            (
                &[
                    "Negotiate",
                    "BASIC realm=\"x\"",
                    "BEARER REALM=\"https://auth.example/token\"",
                ],
                vec![bearer(auth, None), Challenge::Basic],
            ),
            (&["Negotiate"], vec![]),
            (&["Bearer"], vec![]),
            (&["Bearer realm=\"open"], vec![]),
            (&["Bearer service=\"x\""], vec![]),
            (&[""], vec![]),
        ] {
            let mut map = HeaderMap::new();
            for header in headers {
                map.append(WWW_AUTHENTICATE, HeaderValue::from_static(header));
            }
            assert_eq!(challenges(map.get_all(WWW_AUTHENTICATE)), expected, "{headers:?}");
        }
    }
}
