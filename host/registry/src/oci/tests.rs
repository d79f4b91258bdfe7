//! A scripted registry, and the client against it.

mod answers;
mod login;
mod publishing;
mod quirks;
mod server;
mod tampering;
mod transfers;

use std::time::Duration;

use serde_json::{Value, json};
use wit_parser::Resolve;

use self::server::{Reply, Request, Server};
use super::http::Bounds;
use super::{Credentials, Oci};
use crate::Release;
use crate::error::RegistryError;
use agenthost_core::error::{Classify, ErrorClass, with_causes};
use agenthost_plugin::{Digest, Import, Interface, Manifest, Plugin, PluginId};

const REPOSITORY: &str = "plugins/acme/competitor";
const COMPONENT: &[u8] = b"not really a component, but nobody here looks";

/// Time limits that are short enough for a test.
const BOUNDS: Bounds = Bounds {
    connect: Duration::from_secs(5),
    silence: Duration::from_millis(700),
    total: Duration::from_secs(5),
};

/// Returns a client with anonymous access.
fn oci(server: &Server) -> Oci {
    oci_as(server, Credentials::anonymous())
}

fn oci_as(server: &Server, credentials: Credentials) -> Oci {
    let bounds = Bounds {
        silence: Duration::from_secs(10),
        ..BOUNDS
    };
    Oci::with_bounds(&server.host(), REPOSITORY, credentials, bounds).unwrap()
}

/// Returns the same client with shorter time limits.
fn hasty(server: &Server) -> Oci {
    Oci::with_bounds(&server.host(), REPOSITORY, Credentials::anonymous(), BOUNDS).unwrap()
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes).to_string(), "size": bytes.len()})
}

/// Returns the manifest of a plugin with these bytes, as any tool might write it.
fn manifest_of(bytes: &[u8]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.wasm.config.v0+json", b"{}"),
        "layers": [descriptor("application/wasm", bytes)],
    })
}

fn release_of(bytes: &[u8]) -> Release {
    Release {
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        manifest: None,
    }
}

/// Returns a plugin with the digest of these bytes.
fn plugin(bytes: &[u8]) -> Plugin {
    let mut resolve = Resolve::default();
    let text = "package acme:competitor@0.1.0; interface task { run: func(); }";
    let package = resolve.push_str("task.wit", text).unwrap();
    let interface = resolve.packages[package].interfaces["task"];
    let run = resolve.interfaces[interface].functions["run"].clone();
    Plugin {
        id: PluginId {
            name: "acme:competitor".into(),
            version: Some("0.1.0".into()),
        },
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        task: "acme:competitor/task@0.1.0".into(),
        imports: vec![Import::classify("agenthost:plugin/llm@0.1.0")],
        interface: Interface {
            resolve: resolve.clone(),
            run: run.clone(),
            documented: false,
        },
        sub_agents: Vec::new(),
        resolve,
        run,
        manifest: Some(Manifest {
            format: 1,
            version: Some("1.2.0".into()),
            description: Some("Looks at \"competitors\".".into()),
            license: Some("Apache-2.0".into()),
            ..Manifest::default()
        }),
        provenance: None,
        made_with: Default::default(),
        instance_bytes: 0,
        doubts: Vec::new(),
    }
}

/// Asserts an error's class, that its text contains all of `parts`, and that it has a hint.
#[track_caller]
fn assert_error(error: &RegistryError, class: ErrorClass, parts: &[&str]) {
    let hint = error.hint().unwrap_or_else(|| "(nothing)".to_owned());
    let text = format!("{} / {hint}", with_causes(error));
    assert_eq!(error.class(), class, "{text}");
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in: {text}");
    }
}
