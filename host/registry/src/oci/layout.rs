//! The layout of plugins and their signatures in an OCI registry.
//!
//! A plugin is an image manifest in the CNCF layout for WebAssembly: a config of type
//! `application/vnd.wasm.config.v0+json` and exactly one layer of type `application/wasm`. Anything else is refused, as
//! by `wkg`, so that it is always clear which layer is meant. The manifests made here are reproducible: they contain no
//! time.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::{ManifestProblem, OciRequestError};
use crate::reference::Name;
use crate::signature::MAX_SIGNATURE_BYTES;
use crate::source::Publication;
use agenthost_plugin::{Digest, MAX_PLUGIN_BYTES, Plugin};

/// The maximum size of a manifest or index in bytes: the size that the distribution specification requires registries
/// to accept.
pub(super) const MAX_MANIFEST_BYTES: u64 = 4 << 20;

pub(super) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// All types that the address of a manifest may return, so that an unsupported one is reported by its type.
pub(super) const ANY_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";
const WASM: &str = "application/wasm";
const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// The artifact type of a signature's manifest.
pub(super) const SIGNATURE: &str = "application/vnd.agenthost.signature.v1";
/// The type of a signature's only layer: the text of a minisign file.
const SIGNATURE_LAYER: &str = "application/vnd.agenthost.signature.v1+minisig";
/// The prefix of the standard annotations.
const ANNOTATION: &str = "org.opencontainers.image.";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// The content of type `EMPTY`.
pub(super) const EMPTY_BYTES: &[u8] = b"{}";

/// A reference to content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

impl Descriptor {
    pub(super) fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::to(media_type, &Digest::of(bytes), bytes.len() as u64)
    }

    /// Returns the descriptor of content that is stored elsewhere.
    pub(super) fn to(media_type: &str, digest: &Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: digest.to_string(),
            size,
            artifact_type: None,
            annotations: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    config: Descriptor,
    layers: Vec<Descriptor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// The fields that distinguish indexes and old manifests from manifests.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(rename = "fsLayers")]
    old: Option<serde::de::IgnoredAny>,
}

/// A manifest with its blobs.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) blobs: Vec<Bytes>,
    pub(super) manifest: Bytes,
}

impl Package {
    /// Returns the descriptor with which others refer to the manifest.
    pub(super) fn descriptor(&self) -> Descriptor {
        Descriptor::of(IMAGE, &self.manifest)
    }
}

fn broken(error: serde_json::Error) -> ManifestProblem {
    ManifestProblem::Broken(error.to_string())
}

fn parse(bytes: &[u8]) -> Result<Manifest, ManifestProblem> {
    let kind: Kind = serde_json::from_slice(bytes).map_err(broken)?;
    let media_type = kind.media_type.as_deref();
    if kind.manifests.is_some() || media_type.is_some_and(|kind| kind.contains("index") || kind.contains(".list.")) {
        return Err(ManifestProblem::Index);
    }
    if kind.old.is_some() {
        return Err(ManifestProblem::Format(1));
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(broken)?;
    if manifest.schema_version != 2 {
        return Err(ManifestProblem::Format(manifest.schema_version));
    }
    Ok(manifest)
}

/// Returns the digest and size of the component that a manifest names.
pub(super) fn component(manifest: &[u8]) -> Result<(Digest, u64), ManifestProblem> {
    let manifest = parse(manifest)?;
    let layer = match manifest.layers.as_slice() {
        [layer] => layer,
        layers => return Err(ManifestProblem::Layers(layers.len())),
    };
    for (part, found, wanted) in [
        ("layer", &layer.media_type, WASM),
        ("config", &manifest.config.media_type, WASM_CONFIG),
    ] {
        if found != wanted {
            return Err(ManifestProblem::MediaType {
                part,
                found: found.chars().take(100).collect(),
                wanted,
            });
        }
    }
    let digest = digest(&layer.digest)?;
    if layer.size > MAX_PLUGIN_BYTES {
        return Err(ManifestProblem::TooLarge {
            size: layer.size,
            limit: MAX_PLUGIN_BYTES,
        });
    }
    Ok((digest, layer.size))
}

/// Parses a digest as a registry writes it; other algorithms than SHA-256 are refused.
pub(super) fn digest(text: &str) -> Result<Digest, ManifestProblem> {
    text.parse()
        .map_err(|_| ManifestProblem::Digest(text.chars().take(100).collect()))
}

/// Returns the digest and size of the blob of a signature's manifest, which must belong to `subject`.
pub(super) fn signature(manifest: &[u8], subject: &Digest) -> Result<(Digest, u64), ManifestProblem> {
    let manifest = parse(manifest)?;
    let kind = manifest.artifact_type.as_deref().unwrap_or(&manifest.config.media_type);
    if kind != SIGNATURE {
        return Err(ManifestProblem::NotSignature);
    }
    let about = manifest.subject.map(|subject| subject.digest);
    if about != Some(subject.to_string()) {
        return Err(ManifestProblem::OtherSubject);
    }
    let layer = match manifest.layers.as_slice() {
        [layer] if layer.media_type == SIGNATURE_LAYER => layer,
        _ => return Err(ManifestProblem::SignatureForm),
    };
    if layer.size > MAX_SIGNATURE_BYTES {
        return Err(ManifestProblem::SignatureTooLarge {
            size: layer.size,
            limit: MAX_SIGNATURE_BYTES,
        });
    }
    Ok((digest(&layer.digest)?, layer.size))
}

/// Returns the package to push for a plugin.
pub(super) fn plugin_package(publication: &Publication<'_>) -> Result<Package, OciRequestError> {
    let component = Bytes::copy_from_slice(publication.bytes);
    let mut layer = Descriptor::of(WASM, &component);
    // General clients use this file name, and some refuse a layer without one.
    let file = format!("{}.wasm", publication.name.name());
    layer.annotations.insert(format!("{ANNOTATION}title"), file);
    let imports = publication.plugin.imports.iter().map(|import| import.name());
    let config = json!({
        // Readers expect a date; a constant one keeps the bytes reproducible.
        "created": "1970-01-01T00:00:00Z",
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": [layer.digest],
        "component": {"exports": [publication.plugin.task], "imports": imports.collect::<Vec<_>>()},
    });
    let config = written(&config)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(IMAGE.to_owned()),
        artifact_type: None,
        config: Descriptor::of(WASM_CONFIG, &config),
        layers: vec![layer],
        subject: None,
        annotations: annotations(publication.plugin, publication.name, &publication.version.to_string()),
    };
    let manifest = written(&manifest)?;
    if manifest.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(OciRequestError::LongDescription {
            name: publication.name.to_string(),
            size: manifest.len(),
            limit: MAX_MANIFEST_BYTES,
        });
    }
    Ok(Package {
        blobs: vec![component, config],
        manifest,
    })
}

/// Returns the package to push for a signature.
pub(super) fn signature_package(text: &str, subject: &Descriptor) -> Result<Package, OciRequestError> {
    let text = Bytes::copy_from_slice(text.as_bytes());
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(IMAGE.to_owned()),
        artifact_type: Some(SIGNATURE.to_owned()),
        config: Descriptor::of(EMPTY, EMPTY_BYTES),
        layers: vec![Descriptor::of(SIGNATURE_LAYER, &text)],
        subject: Some(subject.clone()),
        annotations: BTreeMap::new(),
    };
    Ok(Package {
        blobs: vec![Bytes::from_static(EMPTY_BYTES), text],
        manifest: written(&manifest)?,
    })
}

pub(super) fn written(value: &impl Serialize) -> Result<Bytes, OciRequestError> {
    let text = serde_json::to_vec(value).map_err(OciRequestError::Write)?;
    Ok(text.into())
}

fn annotations(plugin: &Plugin, name: &Name, version: &str) -> BTreeMap<String, String> {
    let manifest = plugin.manifest.as_ref();
    let known = [
        ("title", Some(name.to_string())),
        ("version", Some(version.to_owned())),
        (
            "description",
            manifest.and_then(|manifest| manifest.description.clone()),
        ),
        ("licenses", manifest.and_then(|manifest| manifest.license.clone())),
        ("source", manifest.and_then(|manifest| manifest.repository.clone())),
    ];
    known
        .into_iter()
        .filter_map(|(key, value)| Some((format!("{ANNOTATION}{key}"), value?)))
        .collect()
}

/// Returns the tag that the specification assigns to the index of a manifest's referrers.
pub(super) fn fallback_tag(subject: &Digest) -> String {
    format!("sha256-{}", subject.hex())
}

/// Returns whether a tag holds data about another manifest: an index of referrers, or what other tools store as
/// sha256-<hex>.sig.
pub(super) fn is_fallback_tag(tag: &str) -> bool {
    let hex = tag.strip_prefix("sha256-");
    hex.is_some_and(|hex| hex.len() >= 64 && hex.bytes().take(64).all(|byte| byte.is_ascii_hexdigit()))
}
