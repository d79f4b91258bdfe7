//! A repository of an OCI registry as a source of plugins, in the layout that `wkg` also reads and writes.
//!
//! Bounds: 4 MiB for manifests, indexes and lists, 100 pages per list, the time limits of `http`, and the sizes of
//! components and signatures of the [parent module](super). Content requested by digest is checked against it here,
//! except for the component itself, which is checked on its way into the cache. [`auth`] finds credentials.
//!
//! The client is written by hand to handle a registry's replies with care: a general client reads bodies of any size,
//! follows any redirect, and follows an index in place of a manifest. Left out: deleting, copying between registries,
//! digests other than SHA-256, and chunked uploads, because a component has at most 64 MiB.

pub mod auth;
mod credentials;
mod docker;
mod failure;
mod fields;
mod http;
mod layout;
mod login;
mod push;
mod referrers;
#[cfg(test)]
mod tests;
mod wire;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use reqwest::header::{CONTENT_RANGE, HeaderValue, LINK, RANGE};
use reqwest::{Response, StatusCode};
use semver::Version;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};
use url::Url;

pub use self::credentials::Credentials;
use self::http::Bounds;
use self::layout::{ANY_MANIFEST, MAX_MANIFEST_BYTES};
use self::wire::{Call, Wire};
use super::error::{OciError, OciProblem, OciRequestError, RegistryError};
use super::reference::{OciReference, Tag};
use super::reference::{tag_of, version_of};
use super::source::{Publication, Published, Release, Source};
use agenthost_plugin::Digest;

/// The maximum number of pages of a list.
const MAX_PAGES: usize = 100;
/// The number of entries requested per page.
const PAGE: usize = 1000;
/// The types of lists.
const LIST: &str = "application/json, application/vnd.oci.image.index.v1+json";

/// A repository of an OCI registry.
#[derive(Debug)]
pub struct Oci {
    wire: Wire,
}

/// A manifest whose digest was checked.
struct Found {
    bytes: Bytes,
    digest: Digest,
}

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

impl Oci {
    /// Returns the repository `repository`, such as `plugins/acme/competitor`, of the registry `host`, such as
    /// `registry.example` or `127.0.0.1:5000`. Sends nothing yet.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost_registry::Source as _;
    /// use agenthost_registry::oci::{Credentials, Oci};
    ///
    /// let oci = Oci::new("127.0.0.1:5000", "plugins/acme/competitor", Credentials::anonymous())?;
    /// assert_eq!(oci.place(), "127.0.0.1:5000/plugins/acme/competitor");
    ///
    /// let error = Oci::new("plugins", "acme/competitor", Credentials::anonymous()).err().ok_or("a host")?;
    /// assert!(error.to_string().ends_with("the part before the first `/` is not a host"), "{error}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Usage`](agenthost_core::error::ErrorClass::Usage) if the host or the repository is invalid, and
    /// [`Host`](agenthost_core::error::ErrorClass::Host) if the system has no root certificates.
    pub fn new(host: &str, repository: &str, credentials: Credentials) -> Result<Self, OciRequestError> {
        Self::with_bounds(host, repository, credentials, Bounds::default())
    }

    fn with_bounds(
        host: &str,
        repository: &str,
        credentials: Credentials,
        bounds: Bounds,
    ) -> Result<Self, OciRequestError> {
        let (host, repository) = OciReference::parse_place(&format!("{host}/{repository}"))?;
        let wire = Wire::new(&host, &repository, credentials, bounds)?;
        Ok(Self { wire })
    }

    /// Returns a manifest by tag or digest; `None` if there is none.
    async fn manifest(&self, reference: &str, expected: Option<&Digest>) -> Result<Option<Found>, RegistryError> {
        let wire = &self.wire;
        let call = Call::get(wire.http.url(&format!("manifests/{reference}"))).accept(ANY_MANIFEST);
        let response = wire.send(&call).await?;
        match response.status() {
            StatusCode::OK => {}
            status => {
                let refusal = match status {
                    StatusCode::NOT_FOUND => match wire.missing(response).await {
                        Ok(()) => return Ok(None),
                        Err(error) => error,
                    },
                    _ => wire.refused(response, "a manifest").await,
                };
                let may_hide = status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS;
                return match may_hide && expected.is_none() && self.lacks(reference).await {
                    true => Ok(None),
                    false => Err(refusal.into()),
                };
            }
        }
        let said = response.headers().get("docker-content-digest").cloned();
        let bytes = self.body(response, "a manifest").await?;
        let digest = Digest::of(&bytes);
        let said = said.and_then(|said| said.to_str().ok()?.parse::<Digest>().ok());
        if let Some(wanted) = expected.copied().or(said).filter(|wanted| *wanted != digest) {
            let what = "manifest";
            return Err(wire.http.error(OciProblem::WrongDigest { what, wanted }).into());
        }
        Ok(Some(Found { bytes, digest }))
    }

    /// Returns whether the registry gives a list of its tags, and this one is not among them.
    ///
    /// Some registries answer the request for a tag that does not exist as if it were forbidden or invalid.
    async fn lacks(&self, tag: &str) -> bool {
        match self.tag_lists().await {
            Ok(Ok(lists)) => !tags_of(lists).any(|known| known == tag),
            // Only this code means that nothing was published under the name; another 404 may mean that there is no list.
            Ok(Err(response)) => matches!(
                self.wire.refused(response, "list of tags").await.problem,
                OciProblem::Missing { code: Some(code), .. } if code == "NAME_UNKNOWN"
            ),
            Err(_) => false,
        }
    }

    async fn all_tags(&self) -> Result<Vec<String>, RegistryError> {
        match self.tag_lists().await? {
            Ok(lists) => Ok(tags_of(lists).collect()),
            Err(response) => Ok(self.wire.missing(response).await.map(|()| Vec::new())?),
        }
    }

    async fn tag_lists(&self) -> Result<Result<Vec<Tags>, Response>, RegistryError> {
        let mut url = self.wire.http.url("tags/list");
        url.query_pairs_mut().append_pair("n", &PAGE.to_string());
        self.pages(url, "list of tags").await
    }

    /// Reads the JSON body of a response.
    async fn body(&self, response: Response, what: &str) -> Result<Bytes, OciError> {
        let html = failure::is_html(response.headers());
        let bytes = self.wire.http.read(response, MAX_MANIFEST_BYTES, what).await?;
        if html || !bytes.trim_ascii_start().starts_with(b"{") {
            return Err(self.wire.http.nonsense(if html {
                "a web page"
            } else {
                "something that is not JSON"
            }));
        }
        Ok(bytes)
    }

    /// Returns the parsed pages of a list, or the response itself if the first page is missing.
    async fn pages<T: DeserializeOwned>(
        &self,
        first: Url,
        what: &str,
    ) -> Result<Result<Vec<T>, Response>, RegistryError> {
        let mut pages = Vec::new();
        let mut url = first;
        while pages.len() < MAX_PAGES {
            let call = Call::get(url.clone()).accept(LIST);
            let response = self.wire.send(&call).await?;
            match response.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND if pages.is_empty() => return Ok(Err(response)),
                _ => return Err(self.wire.refused(response, what).await.into()),
            }
            let next = fields::next_page(response.headers().get_all(LINK));
            let at = response.url().clone();
            let bytes = self.body(response, what).await?;
            let page = serde_json::from_slice(&bytes)
                .map_err(|_| self.wire.http.nonsense("another list than was requested"))?;
            pages.push(page);
            let Some(next) = next else {
                return Ok(Ok(pages));
            };
            url = self.next_page(&at, &next)?;
        }
        Err(self
            .wire
            .http
            .error(OciProblem::TooManyPages {
                what: what.to_owned(),
                limit: MAX_PAGES,
            })
            .into())
    }

    /// Resolves the address of a list's next page, which must be at the same registry.
    fn next_page(&self, url: &Url, next: &str) -> Result<Url, OciError> {
        let url = self.wire.http.follow(url, next)?;
        match self.wire.http.is_own(&url) {
            true => Ok(url),
            false => Err(self.wire.http.error(OciProblem::OtherRegistry)),
        }
    }

    /// Returns the release behind a tag, with the size of its manifest; `None` if there is none.
    async fn look_up(&self, tag: &Tag) -> Result<Option<(Release, u64)>, RegistryError> {
        let (reference, expected) = match tag {
            Tag::Manifest(digest) => (digest.to_string(), Some(digest)),
            Tag::Version(version) => (tag_of(version), None),
            Tag::Name(name) => (name.clone(), None),
        };
        if expected.is_none() && !is_tag(&reference) {
            return Err(OciRequestError::Tag { text: reference }.into());
        }
        let Some(found) = self.manifest(&reference, expected).await? else {
            return Ok(None);
        };
        let (digest, size) = layout::component(&found.bytes).map_err(|problem| self.at(tag, problem.into()))?;
        let release = Release {
            digest,
            size,
            manifest: Some(found.digest),
        };
        Ok(Some((release, found.bytes.len() as u64)))
    }
}

fn tags_of(lists: Vec<Tags>) -> impl Iterator<Item = String> {
    lists.into_iter().flat_map(|list| list.tags.unwrap_or_default())
}

#[async_trait]
impl Source for Oci {
    fn place(&self) -> String {
        self.wire.http.place()
    }

    async fn versions(&self) -> Result<Vec<Version>, RegistryError> {
        let tags = self.all_tags().await?.into_iter();
        let mut versions: Vec<_> = tags.filter_map(|tag| version_of(&tag)).collect();
        versions.sort();
        versions.dedup();
        Ok(versions)
    }

    async fn tags(&self) -> Result<Vec<String>, RegistryError> {
        let mut tags = self.all_tags().await?;
        tags.retain(|tag| is_tag(tag) && !layout::is_fallback_tag(tag));
        Ok(tags)
    }

    async fn find(&self, tag: &Tag) -> Result<Release, RegistryError> {
        match self.look_up(tag).await? {
            Some((release, _)) => Ok(release),
            None => Err(self.at(tag, OciProblem::NoRelease).into()),
        }
    }

    async fn open(
        &self,
        release: &Release,
        from: u64,
    ) -> Result<(u64, BoxStream<'static, Result<Bytes, RegistryError>>), RegistryError> {
        if from == release.size && from > 0 {
            return Ok((from, stream::empty().boxed()));
        }
        let from = if from > release.size { 0 } else { from };
        let mut call = Call::get(self.wire.http.url(&format!("blobs/{}", release.digest)));
        if from > 0
            && let Ok(range) = HeaderValue::from_str(&format!("bytes={from}-"))
        {
            call = call.header(RANGE, range);
        }
        let response = self.wire.send(&call).await?;
        let begins = match response.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT => response
                .headers()
                .get(CONTENT_RANGE)
                .and_then(begin)
                .ok_or_else(|| self.wire.http.nonsense("a part without saying which"))?,
            // The content there is shorter than the offset: fetch all of it, and let the digest decide.
            StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => return self.open(release, 0).await,
            _ => {
                let what = format!("component {}", release.digest);
                return Err(self.wire.refused(response, &what).await.into());
            }
        };
        if failure::is_html(response.headers()) {
            return Err(self.wire.http.nonsense("a web page").into());
        }
        let left = release.size.saturating_sub(begins);
        if let Some(length) = response.content_length().filter(|length| *length != left) {
            let wrong_size = OciProblem::WrongSize {
                digest: release.digest,
                offered: length,
                announced: left,
            };
            return Err(self.wire.http.error(wrong_size).into());
        }
        Ok((begins, self.stream(response)))
    }

    async fn signatures(&self, release: &Release) -> Result<Vec<String>, RegistryError> {
        match &release.manifest {
            Some(manifest) => self.signatures_of(manifest).await,
            None => Err(self.wire.http.error(OciProblem::NoManifestDigest).into()),
        }
    }

    async fn publish(&self, publication: Publication<'_>) -> Result<Published, RegistryError> {
        self.push(publication).await
    }
}

impl Oci {
    /// Returns the error about a tag of this repository.
    fn at(&self, tag: &Tag, problem: OciProblem) -> OciError {
        OciError {
            at: format!("{}{tag}", self.place()),
            problem,
        }
    }

    /// Streams the chunks of a body as they arrive; the first error ends the stream.
    fn stream(&self, response: Response) -> BoxStream<'static, Result<Bytes, RegistryError>> {
        let (silence, total) = (self.wire.http.bounds.silence, self.wire.http.bounds.total);
        let failed = |at: String, problem| RegistryError::from(OciError { at, problem });
        let end = Instant::now() + total;
        let place = self.place();
        stream::unfold(Some(response), move |response| {
            let place = place.clone();
            async move {
                let mut response = response?;
                let left = end.saturating_duration_since(Instant::now());
                let next = timeout(silence.min(left), response.chunk()).await;
                match next {
                    Ok(Ok(Some(chunk))) => Some((Ok(chunk), Some(response))),
                    Ok(Ok(None)) => None,
                    Ok(Err(error)) => {
                        let cause = http::root_cause(&error);
                        let error = failed(place, OciProblem::TransferBroken { cause });
                        Some((Err(error), None))
                    }
                    Err(_) => {
                        let limit = if left.is_zero() || left < silence {
                            total
                        } else {
                            silence
                        };
                        Some((Err(failed(place, OciProblem::TransferSlow { limit })), None))
                    }
                }
            }
        })
        .boxed()
    }
}

/// Returns the offset at which a partial response begins, from a header such as `bytes 10-19/20`.
fn begin(value: &HeaderValue) -> Option<u64> {
    let range = value.to_str().ok()?.strip_prefix("bytes ")?;
    range.split_once('-')?.0.trim().parse().ok()
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}
