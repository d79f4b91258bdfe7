//! The place that holds the releases of one plugin: the trait that registries implement.

use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use semver::Version;

use crate::cache::Cache;
use crate::error::RegistryError;
use crate::reference::{Name, Tag};
use agenthost_plugin::{Digest, MAX_PLUGIN_BYTES, Plugin};

/// A release as a registry describes it, with the expected size and digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The digest of the component.
    pub digest: Digest,
    /// The size of the component in bytes, at most [`MAX_PLUGIN_BYTES`].
    pub size: u64,
    /// The digest of the manifest that names the component, in an OCI registry; signatures refer to it.
    pub manifest: Option<Digest>,
}

/// A plugin to publish in a registry.
#[derive(Debug, Clone, Copy)]
pub struct Publication<'a> {
    /// The plugin.
    pub plugin: &'a Plugin,
    /// The plugin's name.
    pub name: &'a Name,
    /// The version to publish it under.
    pub version: &'a Version,
    /// The component.
    pub bytes: &'a [u8],
    /// The signatures to attach, each the text of a minisign file.
    pub signatures: &'a [String],
}

/// The result of a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The release, as [`Source::find`] returns it.
    pub release: Release,
    /// `true` if the same bytes were already published under this version; only missing signatures were added then.
    pub existed: bool,
}

/// The place that holds the releases of one plugin.
///
/// A registry may lie or fail at any time: every answer is checked by the implementation or by the caller. An error has
/// the class [`Plugin`](agenthost_core::error::ErrorClass::Plugin) if the registry cannot be used, and
/// [`Denied`](agenthost_core::error::ErrorClass::Denied) if it sent something other than what was requested.
///
/// This example publishes a plugin and fetches it into a cache:
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../agenthost/doc/guests.rs"));
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// use agenthost_plugin::Plugin;
/// use agenthost_registry::{Publication, Source, Tag, cache::Cache, local::Local, statement::identity};
///
/// # let component = double();
/// let plugin = Plugin::read(&component)?;
/// let (name, version) = &identity(&plugin)?;
/// let source: &dyn Source = &Local::new(&dir.join("registry"), name); // or an `Oci`
/// let publication = Publication { plugin: &plugin, name, version, bytes: &component, signatures: &[] };
/// assert!(!source.publish(publication).await?.existed);
///
/// assert_eq!(source.versions().await?, [version.clone()]);
/// let release = source.find(&Tag::Version(version.clone())).await?;
/// let cache = Cache::new(dir.join("cache"));
/// source.fetch(&release, &cache).await?;
/// assert_eq!(cache.read(&plugin.digest)?, component);
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Source: Send + Sync {
    /// Returns the place as lock files write it: `127.0.0.1:5000/plugins/acme/competitor`, or the path of a directory.
    fn place(&self) -> String;

    /// Returns the released versions in ascending order, without tags that are not versions. Empty if the plugin does
    /// not exist.
    async fn versions(&self) -> Result<Vec<Version>, RegistryError>;

    /// Returns the tags that exist, also those that are not versions: all versions, if the source has no others.
    async fn tags(&self) -> Result<Vec<String>, RegistryError> {
        let versions = self.versions().await?;
        Ok(versions.iter().map(ToString::to_string).collect())
    }

    /// Finds the release behind a tag, which may move, or behind the digest of a manifest, which may not.
    async fn find(&self, tag: &Tag) -> Result<Release, RegistryError>;

    /// Streams the bytes of a release from an offset on, unchecked. A source that cannot start in the middle starts at
    /// the beginning; the returned offset is `from` or zero accordingly.
    async fn open(
        &self,
        release: &Release,
        from: u64,
    ) -> Result<(u64, BoxStream<'static, Result<Bytes, RegistryError>>), RegistryError>;

    /// Returns the signatures attached to a release, unchecked: at most [`MAX_SIGNATURES`](crate::MAX_SIGNATURES), each of at most
    /// [`MAX_SIGNATURE_BYTES`](crate::MAX_SIGNATURE_BYTES).
    async fn signatures(&self, release: &Release) -> Result<Vec<String>, RegistryError>;

    /// Publishes a release with its signatures. A version is published only once; other bytes under the same version
    /// are refused.
    async fn publish(&self, publication: Publication<'_>) -> Result<Published, RegistryError>;

    /// Fetches a release into the cache. After an interruption, the bytes received so far are kept and the transfer
    /// continues. Bytes that exceed the announced size or do not match the digest are discarded.
    ///
    /// # Errors
    ///
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied) if the bytes do not match the digest; otherwise as
    /// [`Source::open`] and [`Cache::receive`].
    async fn fetch(&self, release: &Release, cache: &Cache) -> Result<PathBuf, RegistryError> {
        if cache.has(&release.digest) {
            return Ok(cache.path(&release.digest));
        }
        if release.size > MAX_PLUGIN_BYTES {
            return Err(RegistryError::TooLarge {
                place: self.place(),
                size: release.size,
                limit: MAX_PLUGIN_BYTES,
            });
        }
        let mut part = cache.receive(&release.digest, release.size)?;
        let (from, mut stream) = self.open(release, part.len()).await?;
        part.go_on_from(from)?;
        let at_place = |error| RegistryError::Cache(error).at(self.place());
        while let Some(chunk) = stream.next().await {
            part.write(&chunk?).map_err(at_place)?;
        }
        part.finish().map_err(at_place)
    }
}
