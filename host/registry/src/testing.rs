//! Handmade plugins and temporary keys for tests.

use std::collections::BTreeMap;

use wit_parser::{Docs, Function, FunctionKind, Resolve, Span, Stability};

use super::signature::{PublicKey, SecretKey};
use agenthost_plugin::{Digest, Import, Interface, Manifest, Plugin, PluginId};

/// Creates a plugin with this name and version whose component is `bytes`; it calls models.
pub(super) fn plugin(name: &str, version: &str, bytes: &[u8]) -> Plugin {
    let run = || Function {
        name: "run".into(),
        kind: FunctionKind::AsyncFreestanding,
        params: Vec::new(),
        result: None,
        docs: Docs::default(),
        stability: Stability::Unknown,
        span: Span::default(),
        external_id: None,
    };
    Plugin {
        id: PluginId {
            name: name.into(),
            version: Some("0.1.0".into()),
        },
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        task: format!("{name}/task@0.1.0"),
        imports: vec![Import::Contract("agenthost:plugin/llm@0.1.0".into())],
        interface: Interface {
            resolve: Resolve::default(),
            run: run(),
            documented: false,
        },
        sub_agents: Vec::new(),
        resolve: Resolve::default(),
        run: run(),
        manifest: Some(Manifest {
            format: Manifest::FORMAT,
            version: Some(version.into()),
            ..Manifest::default()
        }),
        provenance: None,
        made_with: BTreeMap::new(),
        instance_bytes: 0,
        doubts: Vec::new(),
    }
}

/// Creates a key.
pub(super) fn key() -> (SecretKey, PublicKey) {
    let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let secret = SecretKey::new(pair.sk).unwrap();
    let public = secret.public();
    (secret, public)
}
