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

use crate::reference::Name;
use crate::signature::MAX_SIGNATURE_BYTES;
use crate::source::Publication;
use agenthost_core::error::{Error, Result};
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

fn parse(bytes: &[u8]) -> Result<Manifest> {
    let kind: Kind =
        serde_json::from_slice(bytes).map_err(|error| Error::plugin(format!("a broken manifest: {error}")))?;
    let media_type = kind.media_type.as_deref();
    if kind.manifests.is_some() || media_type.is_some_and(|kind| kind.contains("index") || kind.contains(".list.")) {
        return Err(
            Error::plugin("an index of several images, and a plugin is one manifest").with_hint(
                "It was pushed as an image for several platforms; ask its publisher for the plugin's own tag or digest.",
            ),
        );
    }
    if kind.old.is_some() {
        return Err(Error::plugin("a manifest of the first form, which no plugin has"));
    }
    let manifest: Manifest =
        serde_json::from_slice(bytes).map_err(|error| Error::plugin(format!("a broken manifest: {error}")))?;
    if manifest.schema_version != 2 {
        let version = manifest.schema_version;
        return Err(Error::plugin(format!(
            "a manifest of form {version}, which no plugin has"
        )));
    }
    Ok(manifest)
}

/// Returns the digest and size of the component that a manifest names.
pub(super) fn component(manifest: &[u8]) -> Result<(Digest, u64)> {
    let manifest = parse(manifest)?;
    let hint = "Is it a plugin? Plugins are pushed with `agenthost push`, or as components with `wkg`.";
    let layer = match manifest.layers.as_slice() {
        [layer] => layer,
        layers => {
            return Err(
                Error::plugin(format!("a manifest with {} layers, and a plugin has one", layers.len())).with_hint(hint),
            );
        }
    };
    for (what, found, wanted) in [
        ("layer", &layer.media_type, WASM),
        ("config", &manifest.config.media_type, WASM_CONFIG),
    ] {
        if found != wanted {
            let found: String = found.chars().take(100).collect();
            return Err(Error::plugin(format!(
                "a {what} of type `{}`, and a plugin's is {wanted}",
                found.escape_debug()
            ))
            .with_hint(hint));
        }
    }
    let digest = digest(&layer.digest)?;
    if layer.size > MAX_PLUGIN_BYTES {
        let (size, limit) = (layer.size >> 20, MAX_PLUGIN_BYTES >> 20);
        return Err(Error::denied(format!(
            "{size} MiB are announced, and a plugin has at most {limit} MiB"
        ))
        .with_hint("Ask the publisher for a smaller build."));
    }
    Ok((digest, layer.size))
}

/// Parses a digest as a registry writes it; other algorithms than SHA-256 are refused.
pub(super) fn digest(text: &str) -> Result<Digest> {
    text.parse().map_err(|_| {
        let text: String = text.chars().take(100).collect();
        Error::plugin(format!("a digest `{}`, and only sha256 is known", text.escape_debug()))
            .with_hint("Ask its publisher to push it with sha256 digests, as all common tools do.")
    })
}

/// Returns the digest and size of the blob of a signature's manifest, which must belong to `subject`.
pub(super) fn signature(manifest: &[u8], subject: &Digest) -> Result<(Digest, u64)> {
    let manifest = parse(manifest)?;
    let kind = manifest.artifact_type.as_deref().unwrap_or(&manifest.config.media_type);
    if kind != SIGNATURE {
        return Err(Error::denied("what is listed as a signature does not call itself one"));
    }
    let about = manifest.subject.map(|subject| subject.digest);
    if about != Some(subject.to_string()) {
        return Err(Error::denied("what is listed as a signature is about something else"));
    }
    let layer = match manifest.layers.as_slice() {
        [layer] if layer.media_type == SIGNATURE_LAYER => layer,
        _ => return Err(Error::denied("a signature has another form than one minisign file")),
    };
    if layer.size > MAX_SIGNATURE_BYTES {
        let size = layer.size;
        return Err(Error::denied(format!(
            "a signature of {size} bytes is announced, and one has at most {MAX_SIGNATURE_BYTES}"
        )));
    }
    Ok((digest(&layer.digest)?, layer.size))
}

/// Returns the package to push for a plugin.
pub(super) fn plugin_package(publication: &Publication<'_>) -> Result<Package> {
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
        return Err(Error::plugin(format!(
            "{}: its description makes a manifest of {} bytes, and registries take {MAX_MANIFEST_BYTES}",
            publication.name,
            manifest.len()
        ))
        .with_hint("Shorten the description in its Cargo.toml."));
    }
    Ok(Package {
        blobs: vec![component, config],
        manifest,
    })
}

/// Returns the package to push for a signature.
pub(super) fn signature_package(text: &str, subject: &Descriptor) -> Result<Package> {
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

pub(super) fn written(value: &impl Serialize) -> Result<Bytes> {
    let text = serde_json::to_vec(value).map_err(|error| Error::host(error.to_string()))?;
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
