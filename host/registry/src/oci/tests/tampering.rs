//! Whatever is changed in a registry, the client returns the signed bytes or nothing.

use std::sync::{Arc, Mutex};

use super::server::Memory;
use super::*;
use crate::cache::Cache;
use crate::signature::{PublicKey, check, sign};
use crate::statement::Statement;
use crate::testing::key;
use crate::{Name, Publication, Source as _, Tag};

/// Starts a registry with one release, and returns it with the key that signed the release.
async fn published(referrers: bool) -> (Server, Arc<Mutex<Memory>>, PublicKey) {
    let memory = Memory {
        referrers,
        ..Memory::default()
    };
    let (server, memory) = memory.serve().await;
    let (secret, public) = key();
    let plugin = plugin(COMPONENT);
    let signature = sign(&secret, COMPONENT, &Statement::of(&plugin).unwrap()).unwrap();
    let publication = Publication {
        plugin: &plugin,
        name: &"acme:competitor".parse::<Name>().unwrap(),
        version: &"1.2.0".parse().unwrap(),
        bytes: COMPONENT,
        signatures: &[signature],
    };
    oci(&server).publish(publication).await.unwrap();
    (server, memory, public)
}

/// Fetches the component as a client would that requests the release and trusts only the key.
async fn taken(oci: &Oci, public: &PublicKey) -> Result<Vec<u8>, RegistryError> {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::new(dir.path().join("plugins"));
    let release = oci.find(&Tag::Version("1.2.0".parse().unwrap())).await?;
    oci.fetch(&release, &cache).await?;
    let bytes = cache.read(&release.digest)?;
    let signatures = oci.signatures(&release).await?;
    let verified = check(&signatures, &[*public], &plugin(&bytes), &bytes)?;
    match verified.iter().any(|verified| verified.statement.is_some()) {
        true => Ok(bytes),
        false => Err(RegistryError::Other(agenthost_core::error::Error::denied("not signed"))),
    }
}

/// Returns a number that looks random and is the same in every run.
fn dice(n: u64) -> usize {
    let digest = Digest::of(&n.to_le_bytes());
    let bytes = digest.bytes();
    usize::from_le_bytes(bytes[..8].try_into().unwrap())
}

fn change(bytes: &mut Vec<u8>, n: u64) {
    let (roll, at) = (dice(2 * n), dice(2 * n + 1) % bytes.len());
    let byte = u8::try_from(roll >> 8 & 0xff).unwrap();
    match roll % 4 {
        0 => bytes[at] ^= 1 << (byte % 8),
        1 => bytes[at] = byte,
        2 => drop(bytes.remove(at)),
        _ => bytes.insert(at, byte),
    }
}

#[tokio::test]
async fn a_changed_registry_gives_the_signed_bytes_or_nothing() {
    for referrers in [true, false] {
        let (server, memory, public) = published(referrers).await;
        let oci = oci(&server);
        assert_eq!(taken(&oci, &public).await.unwrap(), COMPONENT);
        let (blobs, manifests) = {
            let memory = memory.lock().unwrap();
            (memory.blobs.clone(), memory.manifests.clone())
        };
        let mut refused = 0;
        for n in 0..500 {
            {
                let mut memory = memory.lock().unwrap();
                let at = dice(n + 1_000_000) % (blobs.len() + manifests.len());
                match manifests.keys().nth(at) {
                    Some(reference) => change(&mut memory.manifests.get_mut(reference).unwrap().1, n),
                    None => {
                        let digest = blobs.keys().nth(at - manifests.len()).unwrap();
                        change(memory.blobs.get_mut(digest).unwrap(), n);
                    }
                }
            }
            match taken(&oci, &public).await {
                Ok(bytes) => assert_eq!(bytes, COMPONENT, "{n}"),
                Err(_) => refused += 1,
            }
            let mut memory = memory.lock().unwrap();
            (memory.blobs, memory.manifests) = (blobs.clone(), manifests.clone());
        }
        // A changed byte of an artifact that is read is detected, unless it is in an annotation or insignificant white
        // space. Other artifacts, such as the configuration, are not read.
        assert!((150..500).contains(&refused), "{refused} of 500 were refused");
        assert_eq!(taken(&oci, &public).await.unwrap(), COMPONENT);
    }
}

#[tokio::test]
async fn a_release_that_was_exchanged_as_a_whole_is_not_the_signed_one() {
    let (server, memory, public) = published(true).await;
    let other = b"another component, with a manifest that fits".to_vec();
    {
        let mut memory = memory.lock().unwrap();
        let manifest = serde_json::to_vec(&manifest_of(&other)).unwrap();
        let kind = memory.manifests["1.2.0"].0.clone();
        // The old signature, attached to the new manifest.
        let mut signature = memory.with("subject");
        signature["subject"]["digest"] = Digest::of(&manifest).to_string().into();
        signature["subject"]["size"] = manifest.len().into();
        let signature = serde_json::to_vec(&signature).unwrap();
        memory.blobs.insert(Digest::of(&other).to_string(), other);
        for (reference, bytes) in [
            ("1.2.0".to_owned(), &manifest),
            (Digest::of(&manifest).to_string(), &manifest),
            (Digest::of(&signature).to_string(), &signature),
        ] {
            memory.manifests.insert(reference, (kind.clone(), bytes.clone()));
        }
    }
    let error = taken(&oci(&server), &public).await.unwrap_err();
    assert_error(&error, ErrorClass::Denied, &["signature", &public.id()]);
}
