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
use crate::reference::{Tag, tag_of};
use crate::signature::{MAX_SIGNATURE_BYTES, MAX_SIGNATURES};
use crate::source::{Publication, Published, Release, Source as _};
use agenthost_core::error::{Error, Result};
use agenthost_plugin::{Digest, MAX_PLUGIN_BYTES};

impl Oci {
    pub(super) async fn push(&self, publication: Publication<'_>) -> Result<Published> {
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
    fn same(&self, publication: &Publication<'_>, there: &Release) -> Result<()> {
        if there.digest == publication.plugin.digest {
            return Ok(());
        }
        Err(Error::denied(format!(
            "{}:{}: that version is published already, with other bytes: {}",
            self.place(),
            tag_of(publication.version),
            there.digest
        ))
        .with_hint("A version is published once. Give this build a new version in its Cargo.toml."))
    }

    /// Attaches the signatures that are not attached yet.
    async fn sign(&self, subject: &Descriptor, manifest: &Digest, signatures: &[String]) -> Result<()> {
        if signatures.is_empty() {
            return Ok(());
        }
        let mut there = self.signatures_of(manifest).await?;
        for text in signatures {
            if there.contains(text) {
                continue;
            }
            if there.len() >= MAX_SIGNATURES {
                return Err(Error::denied(format!(
                    "{}: the release has {MAX_SIGNATURES} signatures, and no more are read",
                    self.place()
                ))
                .with_hint("Remove signatures that are not needed from the registry."));
            }
            self.attach(text, subject).await?;
            there.push(text.clone());
        }
        Ok(())
    }

    /// Uploads a blob unless it is already there.
    pub(super) async fn push_blob(&self, bytes: &Bytes) -> Result<()> {
        let wire = &self.wire;
        let digest = Digest::of(bytes);
        let head = Call::new(Method::HEAD, wire.http.url(&format!("blobs/{digest}"))).push();
        let response = wire.send(&head).await?;
        match response.status() {
            StatusCode::OK => return Ok(()),
            StatusCode::NOT_FOUND => {}
            _ => return Err(wire.refused(response, "a blob").await),
        }
        let begin = Call::new(Method::POST, wire.http.url("blobs/uploads/")).push();
        let response = wire.send(&begin).await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(wire.refused(response, "room for a blob").await);
        }
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| wire.http.nonsense("no place to send a blob to"))?;
        let mut url = wire.http.follow(&wire.http.base, location)?;
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let put = Call::new(Method::PUT, url)
            .push()
            .body("application/octet-stream", bytes.clone());
        let response = wire.send(&put).await?;
        match response.status() {
            StatusCode::CREATED => Ok(()),
            StatusCode::PAYLOAD_TOO_LARGE => Err(wire
                .http
                .wrong(&format!("the registry does not take {} bytes", bytes.len()))
                .with_hint("Ask its operator for a higher limit; a proxy in front of it is a usual cause.")),
            _ => Err(wire.refused(response, "room for a blob").await),
        }
    }
}

fn check(publication: &Publication<'_>) -> Result<()> {
    let name = publication.name;
    if Digest::of(publication.bytes) != publication.plugin.digest {
        return Err(Error::usage(format!("{name}: the bytes are not the plugin's")));
    }
    if publication.bytes.len() as u64 > MAX_PLUGIN_BYTES {
        return Err(Error::plugin(format!(
            "{name}: larger than {} MiB, and a plugin has at most that",
            MAX_PLUGIN_BYTES >> 20
        )));
    }
    if !is_tag(&tag_of(publication.version)) {
        return Err(Error::plugin(format!(
            "{name}: its version has more than 128 characters, which no tag has"
        ))
        .with_hint("Give it a shorter version."));
    }
    let long = |text: &String| text.is_empty() || text.len() as u64 > MAX_SIGNATURE_BYTES;
    if publication.signatures.len() > MAX_SIGNATURES || publication.signatures.iter().any(long) {
        return Err(Error::usage(format!(
            "{name}: at most {MAX_SIGNATURES} signatures of at most {MAX_SIGNATURE_BYTES} bytes can be attached"
        )));
    }
    Ok(())
}
