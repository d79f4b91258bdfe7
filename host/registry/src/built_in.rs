//! The plugins that are part of a program, as a registry with one release of each.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use semver::Version;

use crate::error::RegistryError;
use crate::reference::{Name, Tag};
use crate::source::{Publication, Published, Release, Source};
use crate::statement;
use agenthost_plugin::{Digest, Plugin};

/// The place of these plugins, as lock files write it.
pub(crate) const PLACE: &str = "built-in";

/// A plugin that is part of the program.
pub(crate) struct BuiltIn {
    name: Name,
    bytes: &'static [u8],
}

impl BuiltIn {
    pub(crate) fn new(name: &Name, bytes: &'static [u8]) -> Self {
        Self {
            name: name.clone(),
            bytes,
        }
    }

    fn version(&self) -> Result<Version, RegistryError> {
        let plugin = Plugin::read(self.bytes).map_err(|source| RegistryError::component(&self.name, source))?;
        let (_, version) = statement::identity(&plugin)?;
        Ok(version)
    }

    fn release(&self) -> Release {
        Release {
            digest: Digest::of(self.bytes),
            size: self.bytes.len() as u64,
            manifest: None,
        }
    }
}

#[async_trait]
impl Source for BuiltIn {
    fn place(&self) -> String {
        PLACE.to_owned()
    }

    async fn versions(&self) -> Result<Vec<Version>, RegistryError> {
        Ok(vec![self.version()?])
    }

    async fn find(&self, tag: &Tag) -> Result<Release, RegistryError> {
        let version = self.version()?;
        match tag {
            Tag::Version(wanted) if *wanted == version => Ok(self.release()),
            tag => Err(RegistryError::NoRelease {
                place: PLACE.to_owned(),
                reference: format!("{}@{tag}", self.name),
                known: vec![version],
                tags: Vec::new(),
            }),
        }
    }

    async fn open(
        &self,
        release: &Release,
        _: u64,
    ) -> Result<(u64, BoxStream<'static, Result<Bytes, RegistryError>>), RegistryError> {
        let own = self.release();
        if own.digest != release.digest {
            return Err(RegistryError::OtherBuiltIn {
                name: self.name.to_string(),
                has: own.digest,
                wanted: release.digest,
            });
        }
        let all = Bytes::from_static(self.bytes);
        Ok((0, stream::once(async { Ok(all) }).boxed()))
    }

    async fn signatures(&self, _: &Release) -> Result<Vec<String>, RegistryError> {
        Ok(Vec::new())
    }

    async fn publish(&self, _: Publication<'_>) -> Result<Published, RegistryError> {
        Err(RegistryError::UnknownNamespace {
            name: self.name.to_string(),
            namespace: self.name.namespace().to_owned(),
        })
    }
}
