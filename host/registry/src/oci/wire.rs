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

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, WWW_AUTHENTICATE,
};
use reqwest::{Method, Response, StatusCode};
use tokio::time::timeout;
use url::Url;

use super::credentials::Credentials;
use super::http::{Bounds, Http};
use super::login::{self, Granted};
use crate::error::{OciError, OciProblem, OciRequestError};

/// The maximum number of redirects of one request.
const MAX_REDIRECTS: usize = 5;
/// The minimum speed of an upload, in bytes per second.
const SLOWEST_UPLOAD: u64 = 64 << 10;

/// A request, which may have to be sent more than once.
#[derive(Debug, Clone)]
pub(super) struct Call {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Bytes,
    push: bool,
    probe: bool,
}

impl Call {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            push: false,
            probe: false,
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

    /// Asks for something that the registry may not know: a redirect to another server is returned as the response.
    pub(super) fn probe(mut self) -> Self {
        self.probe = true;
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
    pub(super) http: Http,
    pub(super) credentials: Credentials,
    granted: Mutex<Option<Granted>>,
}

impl Wire {
    pub(super) fn new(
        host: &str,
        repository: &str,
        credentials: Credentials,
        bounds: Bounds,
    ) -> Result<Self, OciRequestError> {
        Ok(Self {
            http: Http::new(host, repository, bounds)?,
            credentials,
            granted: Mutex::new(None),
        })
    }

    /// Sends a request, logs in if required, and follows redirects of requests that only read.
    pub(super) async fn send(&self, call: &Call) -> Result<Response, OciError> {
        let mut url = call.url.clone();
        let mut logged_in = false;
        let mut hops = 0;
        loop {
            let own = self.http.is_own(&url);
            let mut request = self
                .http
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
            let limit = self.http.bounds.silence + sending;
            let response = timeout(limit, request.send())
                .await
                .map_err(|_| self.http.slow(limit))?
                .map_err(|error| self.http.broken(&error))?;
            let status = response.status();
            if own && sent.is_some() {
                match status {
                    StatusCode::UNAUTHORIZED if logged_in => self.mark(true),
                    StatusCode::UNAUTHORIZED => {}
                    _ => self.mark(false),
                }
            }
            if status == StatusCode::UNAUTHORIZED && own && !logged_in && !self.is_refused(sent.as_ref()) {
                logged_in = true;
                let challenges = login::challenges(response.headers().get_all(WWW_AUTHENTICATE));
                if let Some(granted) = login::log_in(&self.http, &self.credentials, &challenges, call.push).await? {
                    *self.granted.lock().unwrap_or_else(PoisonError::into_inner) = Some(granted);
                    continue;
                }
            }
            if !is_redirect(status) {
                return Ok(response);
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            if call.probe {
                let next = location.and_then(|location| self.http.follow(&url, location).ok());
                match next.filter(|next| self.http.is_own(next) && hops < MAX_REDIRECTS) {
                    Some(next) => (url, hops) = (next, hops + 1),
                    None => return Ok(response),
                }
                continue;
            }
            let reads = call.method == Method::GET || call.method == Method::HEAD;
            let Some(location) = location.filter(|_| reads) else {
                return Err(self.http.error(OciProblem::RedirectedWrite {
                    method: call.method.to_string(),
                }));
            };
            hops += 1;
            if hops > MAX_REDIRECTS {
                return Err(self.http.error(OciProblem::TooManyRedirects {
                    limit: MAX_REDIRECTS,
                    last: shown(&url),
                }));
            }
            url = self.http.follow(&url, location)?;
        }
    }

    /// Records whether the registry refuses what it granted.
    fn mark(&self, refused: bool) {
        let mut granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(granted) = &mut *granted {
            granted.refused = refused;
        }
    }

    /// Returns whether logging in again gives no more than this header.
    fn is_refused(&self, sent: Option<&HeaderValue>) -> bool {
        let granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = granted.as_ref().filter(|granted| granted.refused);
        refused.is_some_and(|granted| Some(&granted.header) == sent)
    }

    /// Returns the authorization header, if one is known.
    fn authorization(&self, push: bool) -> Option<HeaderValue> {
        let granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        match &*granted {
            Some(granted) if granted.push || !push => Some(granted.header.clone()),
            _ => self.credentials.token(),
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
