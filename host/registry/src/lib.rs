//! Plugins of other teams: names, releases, and the places that keep them.
//!
//! A *registry* keeps releases of plugins: an OCI registry ([`oci`]) or a directory ([`local`]). A [`Source`] is the part of
//! one that keeps one plugin. It is believed in nothing: what it sends is hashed on the way into the [`cache`], which is
//! addressed by content, and [`Source::fetch`] gives nothing to anyone before size and digest are those that were asked for.
//!
//! What a project uses stands in its [`lock`] file, who may publish what and what may run in a [`policy`], who looked at
//! what in a [`vetted`] file; [`project`] puts these together. Nothing here runs a plugin, and nothing here is asked by a
//! task: a host looks into the lock and the cache before anything starts, and never fetches.

pub mod asks;
pub mod cache;
mod files;
#[cfg(feature = "signing")]
pub mod keys;

pub mod local;
pub mod lock;
pub mod oci;
pub mod policy;
pub mod project;
pub mod reference;
pub mod signature;
pub mod statement;
#[cfg(test)]
mod testing;
pub mod vetted;

use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use semver::Version;

use self::cache::Cache;
pub use self::reference::{Name, OciReference, Reference, Requirement, Tag};
use agenthost_core::error::{Error, Result};
use agenthost_plugin::{Digest, MAX_PLUGIN_BYTES, Plugin};

/// The largest signature file, in bytes: minisign's own limits on comments add up to less than 10 KiB.
pub const MAX_SIGNATURE_BYTES: u64 = 16 << 10;

/// The most signatures of one release that are read.
pub const MAX_SIGNATURES: usize = 32;

/// One release as a registry describes it: what to fetch, and what it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The digest of the component.
    pub digest: Digest,
    /// Its size in bytes, at most [`MAX_PLUGIN_BYTES`].
    pub size: u64,
    /// The digest of the manifest that names it, in an OCI registry; signatures refer to it.
    pub manifest: Option<Digest>,
}

/// A plugin on its way into a registry.
#[derive(Debug, Clone, Copy)]
pub struct Publication<'a> {
    /// What it is.
    pub plugin: &'a Plugin,
    /// Its name.
    pub name: &'a Name,
    /// Its release version, under which it can be had.
    pub version: &'a Version,
    /// The component.
    pub bytes: &'a [u8],
    /// Signatures to attach, each the text of a minisign file.
    pub signatures: &'a [String],
}

/// What a publication came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// As [`Source::find`] would tell.
    pub release: Release,
    /// Whether these very bytes were there already under that version; nothing but missing signatures was added then.
    pub existed: bool,
}

/// Where the releases of one plugin are kept.
///
/// An implementation may lie or break at any time: every answer is checked here or by the caller, and an error is of class
/// [`Plugin`](agenthost_core::error::ErrorClass::Plugin) when the registry cannot be used and
/// [`Denied`](agenthost_core::error::ErrorClass::Denied) when it gave something else than what was asked for.
///
/// A plugin goes in, and comes out into a cache:
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
    /// The place as lock files write it: `127.0.0.1:5000/plugins/acme/competitor`, or a directory's path.
    fn place(&self) -> String;

    /// The released versions, ascending; tags that are no versions are left out. Empty where there is no such plugin.
    async fn versions(&self) -> Result<Vec<Version>>;

    /// The release behind a tag, which may move, or behind a manifest's digest, which may not.
    async fn find(&self, tag: &Tag) -> Result<Release>;

    /// The bytes of a release from an offset on, as they come and unchecked. A source that cannot begin in the middle
    /// begins at the start and says so by the offset that it gives back: `from` or zero.
    async fn open(&self, release: &Release, from: u64) -> Result<(u64, BoxStream<'static, Result<Bytes>>)>;

    /// The signatures that are attached to a release, each at most [`MAX_SIGNATURE_BYTES`] and [`MAX_SIGNATURES`] of them,
    /// unchecked.
    async fn signatures(&self, release: &Release) -> Result<Vec<String>>;

    /// Publishes a release with its signatures. A version is published once: with other bytes it is refused.
    async fn publish(&self, publication: Publication<'_>) -> Result<Published>;

    /// Brings a release into the cache. What came before an interruption is kept and continued; what is longer than
    /// announced or has another digest is thrown away.
    ///
    /// # Errors
    ///
    /// [`Denied`](agenthost_core::error::ErrorClass::Denied) where the bytes are not those of the digest; otherwise as
    /// [`Source::open`] and [`Cache::receive`].
    async fn fetch(&self, release: &Release, cache: &Cache) -> Result<PathBuf> {
        if cache.has(&release.digest) {
            return Ok(cache.path(&release.digest));
        }
        if release.size > MAX_PLUGIN_BYTES {
            let (size, limit) = (release.size >> 20, MAX_PLUGIN_BYTES >> 20);
            return Err(Error::denied(format!(
                "{}: {size} MiB are announced, and a plugin has at most {limit} MiB",
                self.place()
            ))
            .with_hint("Ask the publisher for a smaller build."));
        }
        let mut part = cache.receive(&release.digest, release.size)?;
        let (from, mut stream) = self.open(release, part.len()).await?;
        part.go_on_from(from)?;
        while let Some(chunk) = stream.next().await {
            part.write(&chunk?).map_err(|error| error.context(&self.place()))?;
        }
        part.finish().map_err(|error| error.context(&self.place()))
    }
}
