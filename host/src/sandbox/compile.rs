//! From the bytes of a plugin to native code.

use wasmtime::Engine;
use wasmtime::component::Component;

use super::cache::Cache;
use crate::error::Error;
use crate::plugin::Digest;

/// Compiles `bytes`, or takes the result of an earlier time from the cache.
pub(super) fn compile(
    engine: &Engine,
    bytes: &[u8],
    digest: &Digest,
    cache: Option<&Cache>,
) -> Result<Component, Error> {
    if let Some(known) = cache.and_then(|cache| cache.load(engine, digest)) {
        return Ok(known);
    }
    let component =
        Component::from_binary(engine, bytes).map_err(|error| crate::plugin::broken(&error.root_cause()))?;
    if let Some(cache) = cache {
        match component.serialize() {
            Ok(image) => cache.store(engine, digest, &image),
            Err(error) => tracing::warn!(%error, "compiled plugin cannot be cached"),
        }
    }
    Ok(component)
}
