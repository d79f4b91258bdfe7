//! Publishing: blobs first, then the manifest by its digest, then its signatures, and the tag of the version last.
//!
//! So a version is complete as soon as it is visible, and an interrupted publication leaves nothing visible. Registries
//! have no conditional writes: two publishers of the same version can overwrite each other, so the tag is read back,
//! and the one whose release was overwritten gets an error.

use bytes::Bytes;
use reqwest::header::LOCATION;
use reqwest::{Method, StatusCode};

use super::layout::{self, Descriptor};
use super::wire::Call;
use super::{Oci, is_tag};
use crate::error::{OciError, OciProblem, OciRequestError, RegistryError};
use crate::reference::{Tag, tag_of};
use crate::signature::{MAX_SIGNATURE_BYTES, MAX_SIGNATURES};
use crate::source::{Publication, Published, Release, Source as _};
use agenthost_plugin::{Digest, MAX_PLUGIN_BYTES};

impl Oci {
    pub(super) async fn push(&self, publication: Publication<'_>) -> Result<Published, RegistryError> {
        check(&publication)?;
        let tag = Tag::Version(publication.version.clone());
        if let Some((release, size)) = self.look_up(&tag).await? {
            self.same(&publication, &release)?;
            if let Some(manifest) = &release.manifest {
                let subject = Descriptor::to(layout::IMAGE, manifest, size);
                self.sign(&subject, manifest, publication.signatures).await?;
            }
            return Ok(Published { release, existed: true });
        }
        let package = layout::plugin_package(&publication)?;
        for blob in &package.blobs {
            self.push_blob(blob).await?;
        }
        let subject = package.descriptor();
        let manifest = Digest::of(&package.manifest);
        self.put_manifest(&subject.digest, layout::IMAGE, package.manifest.clone())
            .await?;
        self.sign(&subject, &manifest, publication.signatures).await?;
        self.put_manifest(&tag_of(publication.version), layout::IMAGE, package.manifest)
            .await?;
        let release = self.find(&tag).await?;
        self.same(&publication, &release)?;
        Ok(Published {
            release,
            existed: false,
        })
    }

    /// Checks that the release under this version has the bytes to be published.
    fn same(&self, publication: &Publication<'_>, there: &Release) -> Result<(), OciError> {
        if there.digest == publication.plugin.digest {
            return Ok(());
        }
        Err(OciError {
            at: format!("{}:{}", self.place(), tag_of(publication.version)),
            problem: OciProblem::Published { digest: there.digest },
        })
    }

    /// Attaches the signatures that are not attached yet.
    async fn sign(&self, subject: &Descriptor, manifest: &Digest, signatures: &[String]) -> Result<(), RegistryError> {
        if signatures.is_empty() {
            return Ok(());
        }
        let mut there = self.signatures_of(manifest).await?;
        for text in signatures {
            if there.contains(text) {
                continue;
            }
            if there.len() >= MAX_SIGNATURES {
                let limit = MAX_SIGNATURES;
                return Err(self.wire.http.error(OciProblem::TooManySignatures { limit }).into());
            }
            self.attach(text, subject).await?;
            there.push(text.clone());
        }
        Ok(())
    }

    /// Uploads a blob unless it is already there.
    pub(super) async fn push_blob(&self, bytes: &Bytes) -> Result<(), RegistryError> {
        let wire = &self.wire;
        let digest = Digest::of(bytes);
        let head = Call::new(Method::HEAD, wire.http.url(&format!("blobs/{digest}"))).push();
        let response = wire.send(&head).await?;
        match response.status() {
            StatusCode::OK => return Ok(()),
            // Not every registry answers this request, or not with 404; the upload decides.
            status if status.is_client_error() && !matches!(status.as_u16(), 401 | 429) => {}
            StatusCode::NOT_IMPLEMENTED => {}
            _ => return Err(wire.refused(response, "a blob").await.into()),
        }
        let uploads = wire.http.url("blobs/uploads/");
        let response = wire.send(&Call::new(Method::POST, uploads.clone()).push()).await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(wire.refused(response, "room for a blob").await.into());
        }
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| wire.http.nonsense("no place to send a blob to"))?;
        let mut url = wire.http.follow(&uploads, location)?;
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let put = Call::new(Method::PUT, url)
            .push()
            .body("application/octet-stream", bytes.clone());
        let response = wire.send(&put).await?;
        match response.status() {
            status if status.is_success() => Ok(()),
            StatusCode::PAYLOAD_TOO_LARGE => {
                let bytes = bytes.len();
                Err(wire.http.error(OciProblem::BlobTooLarge { bytes }).into())
            }
            _ => Err(wire.refused(response, "room for a blob").await.into()),
        }
    }
}

fn check(publication: &Publication<'_>) -> Result<(), OciRequestError> {
    let name = publication.name.to_string();
    if Digest::of(publication.bytes) != publication.plugin.digest {
        return Err(OciRequestError::OtherBytes { name });
    }
    if publication.bytes.len() as u64 > MAX_PLUGIN_BYTES {
        return Err(OciRequestError::TooLarge {
            name,
            limit: MAX_PLUGIN_BYTES,
        });
    }
    if !is_tag(&tag_of(publication.version)) {
        return Err(OciRequestError::LongVersion { name });
    }
    let long = |text: &String| text.is_empty() || text.len() as u64 > MAX_SIGNATURE_BYTES;
    if publication.signatures.len() > MAX_SIGNATURES || publication.signatures.iter().any(long) {
        return Err(OciRequestError::Signatures {
            name,
            count: MAX_SIGNATURES,
            bytes: MAX_SIGNATURE_BYTES,
        });
    }
    Ok(())
}
