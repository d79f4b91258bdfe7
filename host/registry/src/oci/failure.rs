//! Errors about a registry that does not behave as registries do.
//!
//! The registry's own words are not repeated, except for the code of an error in the standard form: it could write
//! anything there, including control characters and secrets that it received.

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Response, StatusCode};

use super::wire::Wire;
use crate::error::{OciError, OciProblem};

/// The maximum number of bytes read of an error's body.
const MAX_COMPLAINT: u64 = 64 << 10;

impl Wire {
    /// Returns the error for an unsuccessful response.
    pub(super) async fn refused(&self, response: Response, what: &str) -> OciError {
        let status = response.status();
        let html = is_html(response.headers());
        let retry_after = response
            .headers()
            .get(reqwest::header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let body = self
            .http
            .read(response, MAX_COMPLAINT, "the answer")
            .await
            .unwrap_or_default();
        let code = complaint(&body);
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
                self.http.no_login(&self.credentials, format!("{status}{code}"))
            }
            _ if html || body.trim_ascii_start().starts_with(b"<") => self.http.nonsense("a web page"),
            StatusCode::NOT_FOUND => self.http.error(OciProblem::Missing {
                what: what.to_owned(),
                code,
            }),
            StatusCode::TOO_MANY_REQUESTS => self.http.error(OciProblem::TooManyRequests { retry_after }),
            _ => self.http.error(OciProblem::Status {
                status,
                code,
                what: what.to_owned(),
            }),
        }
    }

    /// Checks that a response with status 404 comes from a registry; a web page with that status is an error.
    pub(super) async fn missing(&self, response: Response) -> Result<(), OciError> {
        let html = is_html(response.headers());
        let body = self.http.read(response, MAX_COMPLAINT, "the answer").await?;
        match html || body.trim_ascii_start().starts_with(b"<") {
            true => Err(self.http.nonsense("a web page")),
            false => Ok(()),
        }
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
