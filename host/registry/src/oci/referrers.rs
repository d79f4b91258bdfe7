//! Signatures of a release: manifests that name the release's manifest as their subject.
//!
//! A registry that supports referrers lists them itself. For one that does not, the distribution specification makes
//! the clients keep an index under the tag `sha256-<hex>`; this module reads and writes it if the registry turns out to
//! need it. Two clients that write the index at once can lose an entry, so it is read back, and written again if the
//! entry is missing.

use bytes::Bytes;
use reqwest::header::LINK;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::fields;
use super::layout::{self, Descriptor, INDEX, MAX_MANIFEST_BYTES, SIGNATURE};
use super::wire::Call;
use super::{Found, LIST, Oci};
use crate::error::{ManifestProblem, OciError, OciProblem, RegistryError};
use crate::signature::MAX_SIGNATURES;
use crate::source::Source as _;
use agenthost_plugin::Digest;

/// The maximum number of times that the index is written, in case others write it at the same time.
const MAX_WRITES: usize = 4;

#[derive(Deserialize)]
struct Index {
    manifests: Option<Vec<Descriptor>>,
}

impl Oci {
    /// Returns the texts of a manifest's signatures, each checked against its listed digest.
    pub(super) async fn signatures_of(&self, subject: &Digest) -> Result<Vec<String>, RegistryError> {
        let context = |problem: ManifestProblem| OciError {
            at: format!("{}@{subject}", self.place()),
            problem: problem.into(),
        };
        let mut texts = Vec::new();
        for listed in self.referrers(subject).await? {
            if listed.artifact_type.as_deref() != Some(SIGNATURE) {
                continue;
            }
            if texts.len() == MAX_SIGNATURES {
                tracing::warn!(place = self.place(), "more signatures than are read");
                break;
            }
            let digest = layout::digest(&listed.digest).map_err(context)?;
            let Some(found) = self.manifest(&listed.digest, Some(&digest)).await? else {
                // The signature was removed, but not its entry in the list.
                tracing::warn!(place = self.place(), %digest, "a signature is listed and not there");
                continue;
            };
            let (blob, size) = layout::signature(&found.bytes, subject).map_err(context)?;
            let bytes = self.blob(&blob, size).await?;
            let text = String::from_utf8(bytes.into()).map_err(|_| context(ManifestProblem::SignatureNotText))?;
            texts.push(text);
        }
        Ok(texts)
    }

    /// Returns a small blob, checked.
    async fn blob(&self, digest: &Digest, size: u64) -> Result<Bytes, RegistryError> {
        let wire = &self.wire;
        let response = wire.send(&Call::get(wire.http.url(&format!("blobs/{digest}")))).await?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(wire.refused(response, &format!("blob {digest}")).await.into());
        }
        let bytes = wire.http.read(response, size, "a signature").await?;
        match Digest::of(&bytes) == *digest {
            true => Ok(bytes),
            false => Err(wire
                .http
                .error(OciProblem::WrongDigest {
                    what: "blob",
                    wanted: *digest,
                })
                .into()),
        }
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, RegistryError> {
        if let Some(listed) = self.by_api(subject).await? {
            return Ok(listed);
        }
        let Some(found) = self.fallback(subject).await? else {
            return Ok(Vec::new());
        };
        let index: Index = serde_json::from_slice(&found.bytes).map_err(|_| self.no_index(subject))?;
        Ok(index.manifests.ok_or_else(|| self.no_index(subject))?)
    }

    /// Returns what the registry lists itself; `None` if it has no referrers API.
    ///
    /// Registries without that API answer in many ways: with 404, another refusal, a redirect, a web page, or a body
    /// that is not a list. None of these hides a signature that the tag has; an overloaded or broken registry is an
    /// error.
    async fn by_api(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>, RegistryError> {
        let mut url = self.wire.http.url(&format!("referrers/{subject}"));
        url.query_pairs_mut().append_pair("artifactType", SIGNATURE);
        let call = Call::get(url.clone()).accept(LIST).probe();
        let response = self.wire.send(&call).await?;
        let at = response.url().clone();
        let status = response.status();
        if status != StatusCode::OK {
            // Some registries redirect what they do not have to a page that limits requests.
            let trouble = (status == StatusCode::TOO_MANY_REQUESTS && at == url)
                || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED);
            return match trouble {
                true => Err(self.wire.refused(response, "list of referrers").await.into()),
                false => Ok(None),
            };
        }
        let next = fields::next_page(response.headers().get_all(LINK));
        let bytes = self
            .wire
            .http
            .read(response, MAX_MANIFEST_BYTES, "list of referrers")
            .await?;
        let first: Option<Index> = serde_json::from_slice(&bytes).ok();
        let Some(mut listed) = first.and_then(|index| index.manifests) else {
            return Ok(None);
        };
        if let Some(next) = next {
            let next = self.next_page(&at, &next)?;
            match self.pages::<Index>(next, "list of referrers").await? {
                Ok(pages) => listed.extend(pages.into_iter().filter_map(|page| page.manifests).flatten()),
                // Signatures on the missing page must not go unseen.
                Err(response) => return Err(self.wire.refused(response, "list of referrers").await.into()),
            }
        }
        Ok(Some(listed))
    }

    /// Returns the manifest under the tag that lists signatures; `None` if there is none.
    ///
    /// GitLab's registry reads that tag as the subject's own digest: then no list exists.
    async fn fallback(&self, subject: &Digest) -> Result<Option<Found>, RegistryError> {
        let found = self.manifest(&layout::fallback_tag(subject), None).await?;
        Ok(found.filter(|found| found.digest != *subject))
    }

    fn no_index(&self, subject: &Digest) -> OciError {
        OciError {
            at: format!("{}:{}", self.place(), layout::fallback_tag(subject)),
            problem: OciProblem::NotIndex,
        }
    }

    /// Attaches a signature to the manifest `subject`.
    pub(super) async fn attach(&self, text: &str, subject: &Descriptor) -> Result<(), RegistryError> {
        let package = layout::signature_package(text, subject)?;
        for blob in &package.blobs {
            self.push_blob(blob).await?;
        }
        let descriptor = package.descriptor();
        let answer = self
            .put_manifest(&descriptor.digest, layout::IMAGE, package.manifest)
            .await?;
        // A registry that supports referrers sends this header, and keeps the list itself.
        if answer.contains_key("oci-subject") {
            return Ok(());
        }
        let about = layout::digest(&subject.digest).map_err(|problem| self.wire.http.error(problem.into()))?;
        self.list(&about, &descriptor).await
    }

    /// Adds a signature to the index that replaces the registry's list.
    async fn list(&self, subject: &Digest, signature: &Descriptor) -> Result<(), RegistryError> {
        let tag = layout::fallback_tag(subject);
        let mut refusal = None;
        for _ in 0..MAX_WRITES {
            let Some(index) = self.extended(subject, signature, self.fallback(subject).await?)? else {
                return Ok(());
            };
            match self.put_manifest(&tag, INDEX, index).await {
                Err(error) if is_refusal(&error) => {
                    refusal = Some(error);
                    break;
                }
                put => put?,
            };
        }
        let kept = self.fallback(subject).await?;
        let listed = kept.is_some();
        match (self.extended(subject, signature, kept)?, refusal) {
            (None, _) => Ok(()),
            (Some(_), Some(refusal)) if listed => Err(refusal),
            (Some(_), _) => Err(self.wire.http.error(OciProblem::IndexNotKept { tag, listed }).into()),
        }
    }

    /// Returns the index with the signature and all earlier entries; `None` if the signature is already in it.
    fn extended(
        &self,
        subject: &Digest,
        signature: &Descriptor,
        old: Option<Found>,
    ) -> Result<Option<Bytes>, RegistryError> {
        let mut index = match old {
            None => json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}),
            Some(old) => serde_json::from_slice(&old.bytes).map_err(|_| self.no_index(subject))?,
        };
        let entries = index.get_mut("manifests").and_then(Value::as_array_mut);
        let entries = entries.ok_or_else(|| self.no_index(subject))?;
        let same = |entry: &Value| entry.get("digest").and_then(Value::as_str) == Some(signature.digest.as_str());
        if entries.iter().any(same) {
            return Ok(None);
        }
        entries.push(json!({
            "mediaType": signature.media_type,
            "digest": signature.digest,
            "size": signature.size,
            "artifactType": SIGNATURE,
        }));
        let bytes = layout::written(&index)?;
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(self.wire.http.error(OciProblem::IndexFull).into());
        }
        Ok(Some(bytes))
    }

    /// Writes a manifest, and returns the headers of the response.
    pub(super) async fn put_manifest(
        &self,
        reference: &str,
        media_type: &'static str,
        bytes: Bytes,
    ) -> Result<reqwest::header::HeaderMap, RegistryError> {
        let url = self.wire.http.url(&format!("manifests/{reference}"));
        let call = Call::new(Method::PUT, url).push().body(media_type, bytes);
        let mut response = self.wire.send(&call).await?;
        match response.status().is_success() {
            true => Ok(std::mem::take(response.headers_mut())),
            false => Err(self.wire.refused(response, "room for a manifest").await.into()),
        }
    }
}

/// Returns whether the registry refused a write for good.
fn is_refusal(error: &RegistryError) -> bool {
    let RegistryError::Oci(OciError { problem, .. }) = error else {
        return false;
    };
    matches!(problem, OciProblem::Status { status, .. } if status.is_client_error())
}
