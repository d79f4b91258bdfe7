//! What a build adds to the component that cargo made: sections with the author's words, and the tools' own metadata.

use super::super::{Plugin, embedded};
use super::{Package, SDK};
use agenthost_core::error::{Error, Result};

/// Adds the SDK's version, licence and source in the tools' own form, and the manifest where the SDK's macro has not.
pub(super) fn with_manifest(
    bytes: Vec<u8>,
    plugin: &Plugin,
    package: &Package,
    sdk: Option<String>,
) -> Result<Vec<u8>> {
    use wasm_metadata::{AddMetadata, AddMetadataField};
    let field = |value: &Option<String>| value.clone().map_or(AddMetadataField::Keep, AddMetadataField::Set);
    let mut bytes = bytes;
    if plugin.manifest.is_none() {
        let json = serde_json::to_vec(&package.manifest).map_err(|error| Error::host(error.to_string()))?;
        append_section(&mut bytes, embedded::MANIFEST_SECTION, &json);
    }
    let mut add = AddMetadata::default();
    add.sdk = sdk.map(|version| (SDK.to_owned(), version)).into_iter().collect();
    add.name = field(&package.manifest.name);
    add.description = field_parsed(&package.manifest.description);
    add.licenses = field_parsed(&package.manifest.license);
    add.source = field_parsed(&package.manifest.repository);
    add.version = field_parsed(&package.manifest.version);
    add.to_wasm(&bytes)
        .map_err(|error| Error::plugin(format!("cannot add metadata to the component: {error:#}")))
}

/// A field that does not parse (a licence that is no SPDX expression, say) is left out: the manifest has it as written.
fn field_parsed<T>(value: &Option<String>) -> wasm_metadata::AddMetadataField<T>
where
    T: std::str::FromStr + std::fmt::Debug + Clone,
{
    match value.as_deref().map(str::parse) {
        Some(Ok(value)) => wasm_metadata::AddMetadataField::Set(value),
        _ => wasm_metadata::AddMetadataField::Keep,
    }
}

/// A custom section at the end of the component.
pub(super) fn append_section(component: &mut Vec<u8>, name: &str, data: &[u8]) {
    use wasm_encoder::{ComponentSection, CustomSection};
    CustomSection {
        name: name.into(),
        data: data.into(),
    }
    .append_to_component(component);
}
