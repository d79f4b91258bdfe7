//! The sections that a build adds to cargo's component: the manifest, and metadata in the standard format of Wasm
//! tools.

use std::path::Path;

use super::super::{Plugin, custom_sections};
use super::BuildError;
use super::package::Package;

/// The crate that has the same version as the contract's bindings.
pub(super) const SDK: &str = "agenthost-sdk";

/// Adds the SDK's version and the crate's name, description, license, source and version in the standard format of Wasm
/// tools, and the manifest if the SDK's macro has not added it.
pub(super) fn with_manifest(
    bytes: Vec<u8>,
    plugin: &Plugin,
    package: &Package,
    sdk: Option<String>,
    path: &Path,
) -> Result<Vec<u8>, BuildError> {
    use wasm_metadata::{AddMetadata, AddMetadataField};
    let field = |value: &Option<String>| value.clone().map_or(AddMetadataField::Keep, AddMetadataField::Set);
    let mut bytes = bytes;
    if plugin.manifest.is_none() {
        let json = serde_json::to_vec(&package.manifest).map_err(BuildError::Record)?;
        append_section(&mut bytes, custom_sections::MANIFEST_SECTION, &json);
    }
    let mut add = AddMetadata::default();
    add.sdk = sdk.map(|version| (SDK.to_owned(), version)).into_iter().collect();
    add.name = field(&package.manifest.name);
    add.description = field_parsed(&package.manifest.description);
    add.licenses = field_parsed(&package.manifest.license);
    add.source = field_parsed(&package.manifest.repository);
    add.version = field_parsed(&package.manifest.version);
    add.to_wasm(&bytes).map_err(|error| BuildError::Metadatum {
        path: path.to_owned(),
        problem: format!("{error:#}"),
    })
}

/// Parses a field. A field that does not parse (such as a license that is not an SPDX expression) is left out; the
/// manifest contains it as written.
fn field_parsed<T>(value: &Option<String>) -> wasm_metadata::AddMetadataField<T>
where
    T: std::str::FromStr + std::fmt::Debug + Clone,
{
    match value.as_deref().map(str::parse) {
        Some(Ok(value)) => wasm_metadata::AddMetadataField::Set(value),
        _ => wasm_metadata::AddMetadataField::Keep,
    }
}

/// Appends a custom section to the component.
pub(super) fn append_section(component: &mut Vec<u8>, name: &str, data: &[u8]) {
    use wasm_encoder::{ComponentSection, CustomSection};
    CustomSection {
        name: name.into(),
        data: data.into(),
    }
    .append_to_component(component);
}
