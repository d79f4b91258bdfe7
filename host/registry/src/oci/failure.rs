//! Errors about a registry that does not behave as registries do.
//!
//! The registry's own words are not repeated, except for the code of an error in the standard form: it could write
//! anything there, including control characters and secrets that it received.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Response, StatusCode};

use super::wire::Wire;
use agenthost_core::error::{Error, Result};

/// The maximum number of bytes read of an error's body.
const MAX_COMPLAINT: u64 = 64 << 10;

impl Wire {
    /// Returns the error for an unsuccessful response.
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
                .with_hint("It has lost it, or this part of it is not for you; ask its operator."),
            StatusCode::TOO_MANY_REQUESTS => {
                let wait = retry.map_or_else(|| "a while".to_owned(), |seconds| format!("{seconds} s"));
                self.wrong("the registry has had too many requests").with_hint(format!(
                    "Wait {wait} and try again; some registries allow more to those who log in."
                ))
            }
            _ => self
                .wrong(&format!(
                    "the registry answers {status}{code} where {what} was asked for"
                ))
                .with_hint(match status.is_server_error() {
                    true => "The registry is in trouble; try again later, or tell its operator.",
                    false => "The registry does not take what this version sends; tell its operator what it said.",
                }),
        }
    }

    /// Checks that a response with status 404 comes from a registry; a web page with that status is an error.
    pub(super) async fn missing(&self, response: Response) -> Result<()> {
        let html = is_html(response.headers());
        let body = self.read(response, MAX_COMPLAINT, "the answer").await?;
        match html || body.trim_ascii_start().starts_with(b"<") {
            true => Err(self.nonsense("a web page")),
            false => Ok(()),
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

/// Returns whether a response claims to be a web page.
pub(super) fn is_html(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/html"))
}

/// Returns the code of an error in the registries' standard form.
fn complaint(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let code = value.pointer("/errors/0/code")?.as_str()?;
    let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    (code.len() <= 40 && code.bytes().all(plain)).then(|| code.to_owned())
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
