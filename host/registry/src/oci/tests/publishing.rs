//! Releases and their signatures, on registries that support referrers and on those that do not.

use std::sync::{Arc, Mutex};

use super::server::Memory;
use super::*;
use crate::{MAX_SIGNATURES, Name, Publication, Published, Source as _, Tag};

const SIGNATURE: &str = "application/vnd.agenthost.signature.v1";

async fn registry(referrers: bool) -> (Server, Arc<Mutex<Memory>>) {
    let memory = Memory {
        referrers,
        ..Memory::default()
    };
    memory.serve().await
}

async fn publish(server: &Server, bytes: &[u8], signatures: &[&str]) -> Result<Published, RegistryError> {
    let signatures: Vec<_> = signatures.iter().map(|text| (*text).to_owned()).collect();
    let (plugin, name, version) = (
        plugin(bytes),
        "acme:competitor".parse::<Name>().unwrap(),
        "1.2.0".parse().unwrap(),
    );
    let publication = Publication {
        plugin: &plugin,
        name: &name,
        version: &version,
        bytes,
        signatures: &signatures,
    };
    oci(server).publish(publication).await
}

#[tokio::test]
async fn a_release_is_published_once_in_the_layout_of_wasm_tools() {
    let (server, memory) = registry(false).await;
    let published = publish(&server, COMPONENT, &[]).await.unwrap();
    assert!(!published.existed);
    let found = oci(&server)
        .find(&Tag::Version("1.2.0".parse().unwrap()))
        .await
        .unwrap();
    assert_eq!(found, published.release);
    assert_eq!(
        (found.digest, found.size),
        (Digest::of(COMPONENT), COMPONENT.len() as u64)
    );
    // The tag comes last.
    assert!(
        server
            .log()
            .iter()
            .rfind(|request| request.starts_with("PUT"))
            .unwrap()
            .ends_with("/manifests/1.2.0")
    );
    {
        let memory = memory.lock().unwrap();
        let manifest: Value = serde_json::from_slice(&memory.manifests["1.2.0"].1).unwrap();
        assert_eq!(
            memory.manifests["1.2.0"].0,
            "application/vnd.oci.image.manifest.v1+json"
        );
        let mut layer = descriptor("application/wasm", COMPONENT);
        layer["annotations"] = json!({"org.opencontainers.image.title": "competitor.wasm"});
        assert_eq!(manifest["layers"], json!([layer]));
        assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
        let config = &memory.blobs[manifest["config"]["digest"].as_str().unwrap()];
        assert_eq!(
            serde_json::from_slice::<Value>(config).unwrap(),
            json!({
                "created": "1970-01-01T00:00:00Z",
                "architecture": "wasm",
                "os": "wasip2",
                "layerDigests": [Digest::of(COMPONENT).to_string()],
                "component": {"exports": ["acme:competitor/task@0.1.0"], "imports": ["agenthost:plugin/llm@0.1.0"]},
            })
        );
        assert_eq!(
            manifest["annotations"],
            json!({
                "org.opencontainers.image.description": "Looks at \"competitors\".",
                "org.opencontainers.image.licenses": "Apache-2.0",
                "org.opencontainers.image.title": "acme:competitor",
                "org.opencontainers.image.version": "1.2.0",
            })
        );
    }
    let before = server.log().len();
    let again = publish(&server, COMPONENT, &[]).await.unwrap();
    assert!(again.existed);
    assert_eq!(again.release, published.release);
    assert_eq!(
        server.log()[before..],
        [format!("GET /v2/{REPOSITORY}/manifests/1.2.0")]
    );

    let error = publish(&server, b"other bytes", &["signature"]).await.unwrap_err();
    assert_error(
        &error,
        ErrorClass::Denied,
        &[
            "1.2.0: that version is published already, with other bytes",
            "new version",
        ],
    );
    assert_eq!(memory.lock().unwrap().blobs.len(), 2, "nothing of it was sent");

    let (elsewhere, _) = registry(true).await;
    let twin = publish(&elsewhere, COMPONENT, &["signature"]).await.unwrap();
    assert_eq!(twin.release, published.release, "the same bytes make the same manifest");
}

#[tokio::test]
async fn signatures_are_attached_and_missing_ones_are_added() {
    for referrers in [true, false] {
        let (server, memory) = registry(referrers).await;
        let release = publish(&server, COMPONENT, &["one"]).await.unwrap().release;
        let subject = release.manifest.unwrap();
        assert_eq!(oci(&server).signatures(&release).await.unwrap(), ["one"]);
        let again = publish(&server, COMPONENT, &["one", "two", "two"]).await.unwrap();
        assert!(again.existed);
        let mut texts = oci(&server).signatures(&release).await.unwrap();
        texts.sort();
        assert_eq!(texts, ["one", "two"], "referrers: {referrers}");
        let memory = memory.lock().unwrap();
        let signature = memory.with("\"subject\"");
        assert_eq!(signature["artifactType"], SIGNATURE);
        assert_eq!(signature["subject"]["digest"], subject.to_string());
        assert_eq!(signature["subject"]["size"], memory.manifests["1.2.0"].1.len());
        assert_eq!(signature["layers"][0]["mediaType"], format!("{SIGNATURE}+minisig"));
        let tag = format!("sha256-{}", subject.hex());
        assert_eq!(
            memory.manifests.contains_key(&tag),
            !referrers,
            "the tag stands in where it has to"
        );
    }
}

#[tokio::test]
async fn the_index_that_stands_in_keeps_what_others_wrote() {
    let (server, memory) = registry(false).await;
    let release = publish(&server, COMPONENT, &["one"]).await.unwrap().release;
    let tag = format!("sha256-{}", release.manifest.unwrap().hex());
    let foreign = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": Digest::of(b"sbom").to_string(),
        "size": 4,
        "artifactType": "application/spdx+json",
        "annotations": {"by": "somebody"},
    });
    {
        let mut memory = memory.lock().unwrap();
        let (_, bytes) = memory.manifests.get_mut(&tag).unwrap();
        let mut index: Value = serde_json::from_slice(bytes).unwrap();
        index["manifests"].as_array_mut().unwrap().insert(0, foreign.clone());
        index["annotations"] = json!({"kept": "yes"});
        *bytes = index.to_string().into_bytes();
    }
    publish(&server, COMPONENT, &["two"]).await.unwrap();
    assert_eq!(oci(&server).signatures(&release).await.unwrap(), ["one", "two"]);
    let index: Value = serde_json::from_slice(&memory.lock().unwrap().manifests[&tag].1).unwrap();
    assert_eq!(index["manifests"][0], foreign);
    assert_eq!(index["manifests"].as_array().unwrap().len(), 3);
    assert_eq!(index["annotations"], json!({"kept": "yes"}));
    // If the tag has something other than an index, it is neither trusted nor overwritten.
    memory.lock().unwrap().manifests.get_mut(&tag).unwrap().1 = manifest_of(COMPONENT).to_string().into_bytes();
    let error = oci(&server).signatures(&release).await.unwrap_err();
    assert_error(&error, ErrorClass::Denied, &["not an index", "remove it"]);
    assert_eq!(
        publish(&server, COMPONENT, &["three"]).await.unwrap_err().class(),
        ErrorClass::Denied
    );
}

#[tokio::test]
async fn no_signature_is_attached_to_what_is_not_signed() {
    let (server, _) = registry(false).await;
    let release = publish(&server, COMPONENT, &[]).await.unwrap().release;
    assert!(oci(&server).signatures(&release).await.unwrap().is_empty());
    let unknown = Release {
        manifest: None,
        ..release
    };
    assert_eq!(
        oci(&server).signatures(&unknown).await.unwrap_err().class(),
        ErrorClass::Plugin
    );
}

#[tokio::test]
async fn tampered_signatures_are_denied_wherever_they_are_touched() {
    for referrers in [true, false] {
        let (server, memory) = registry(referrers).await;
        let release = publish(&server, COMPONENT, &["a signature"]).await.unwrap().release;
        let oci = oci(&server);
        let blob = Digest::of(b"a signature").to_string();
        for at in 0.."a signature".len() {
            memory.lock().unwrap().blobs.get_mut(&blob).unwrap()[at] ^= 1;
            let error = oci.signatures(&release).await.unwrap_err();
            assert_error(
                &error,
                ErrorClass::Denied,
                &["the received bytes are not the blob sha256:"],
            );
            memory.lock().unwrap().blobs.get_mut(&blob).unwrap()[at] ^= 1;
        }
        memory.lock().unwrap().blobs.get_mut(&blob).unwrap().push(b'!');
        let error = oci.signatures(&release).await.unwrap_err();
        assert_error(&error, ErrorClass::Denied, &["a signature has more than 11 bytes"]);
        memory.lock().unwrap().blobs.remove(&blob);
        let error = oci.signatures(&release).await.unwrap_err();
        assert_error(&error, ErrorClass::Plugin, &["the registry has no blob sha256:"]);
    }
}

/// Returns the error if the list has this entry as a signature of the release.
async fn listed(change: fn(&mut Value)) -> RegistryError {
    let (server, memory) = registry(false).await;
    let release = publish(&server, COMPONENT, &["one"]).await.unwrap().release;
    let tag = format!("sha256-{}", release.manifest.unwrap().hex());
    {
        let mut memory = memory.lock().unwrap();
        let mut manifest = memory.with("\"subject\"");
        change(&mut manifest);
        let bytes = manifest.to_string().into_bytes();
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &bytes);
        entry["artifactType"] = json!(SIGNATURE);
        let index = json!({"schemaVersion": 2, "manifests": [entry]})
            .to_string()
            .into_bytes();
        memory
            .manifests
            .insert(Digest::of(&bytes).to_string(), (String::new(), bytes));
        memory.manifests.insert(tag, (String::new(), index));
    }
    oci(&server).signatures(&release).await.unwrap_err()
}

#[tokio::test]
async fn what_is_listed_as_a_signature_has_to_be_one_of_this_release() {
    for (error, part) in [
        (
            listed(|m| m["subject"]["digest"] = json!(Digest::of(b"x").to_string())).await,
            "about something else",
        ),
        (listed(|m| m["subject"] = Value::Null).await, "about something else"),
        (
            listed(|m| m["artifactType"] = json!("x/y")).await,
            "does not have the type of one",
        ),
        (listed(|m| m["layers"] = json!([])).await, "another form"),
        (
            listed(|m| m["layers"][0]["mediaType"] = json!("text/plain")).await,
            "another form",
        ),
        (
            listed(|m| m["layers"][0]["size"] = json!(16 * 1024 + 1)).await,
            "a signature of 16385 bytes",
        ),
    ] {
        assert_eq!(error.class(), ErrorClass::Denied, "{error}");
        assert!(with_causes(&error).contains(part), "{error}");
    }
}

#[tokio::test]
async fn only_so_many_signatures_are_read_and_attached() {
    let (server, _) = registry(true).await;
    let many: Vec<_> = (0..MAX_SIGNATURES).map(|n| n.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let release = publish(&server, COMPONENT, &many).await.unwrap().release;
    assert_eq!(oci(&server).signatures(&release).await.unwrap().len(), MAX_SIGNATURES);
    let error = publish(&server, COMPONENT, &["one more"]).await.unwrap_err();
    assert_error(&error, ErrorClass::Denied, &["has 32 signatures"]);
    let long = "x".repeat(16 * 1024 + 1);
    assert_eq!(
        publish(&server, COMPONENT, &[&long]).await.unwrap_err().class(),
        ErrorClass::Usage
    );
}

#[tokio::test]
async fn who_loses_a_race_for_a_version_is_told() {
    let memory = Arc::new(Mutex::new(Memory::default()));
    let other = manifest_of(b"theirs").to_string();
    // Another publisher's manifest replaces ours right after it was written.
    let server = Server::start(
        move |request| match (request.method.as_str(), request.path().ends_with("/1.2.0")) {
            ("PUT", true) => {
                let entry = (String::new(), other.clone().into_bytes());
                memory.lock().unwrap().manifests.insert("1.2.0".into(), entry);
                Reply::new(201)
            }
            ("GET" | "HEAD", false) => Reply::new(200).body(COMPONENT),
            ("PUT", false) => Reply::new(201),
            _ => match memory.lock().unwrap().manifests.get("1.2.0") {
                Some((_, bytes)) => Reply::new(200).body(bytes.clone()),
                None => Reply::new(404),
            },
        },
    )
    .await;
    let error = publish(&server, COMPONENT, &[]).await.unwrap_err();
    assert_error(&error, ErrorClass::Denied, &["published already, with other bytes"]);
}

#[tokio::test]
async fn a_registry_that_takes_no_uploads_is_told_so() {
    for (reply, class, parts) in [
        (
            Reply::complaint(403, "DENIED"),
            ErrorClass::Plugin,
            &["requires a login: 403", "docker login"][..],
        ),
        (
            Reply::complaint(405, "UNSUPPORTED"),
            ErrorClass::Plugin,
            &["405 Method Not Allowed (UNSUPPORTED)"],
        ),
        (Reply::new(202), ErrorClass::Plugin, &["no place to send a blob to"]),
        (
            Reply::new(202).with("location", "http://storage.example/x"),
            ErrorClass::Plugin,
            &["http://storage.example, which is not safe", "name https"],
        ),
        (
            Reply::new(307).with("location", "/elsewhere"),
            ErrorClass::Plugin,
            &["answers a POST with a redirect"],
        ),
        (Reply::html(200), ErrorClass::Plugin, &["a web page"]),
    ] {
        let server = Server::start(move |request| match request.method.as_str() {
            "POST" => reply.clone(),
            _ => Reply::new(404),
        })
        .await;
        let error = publish(&server, COMPONENT, &[]).await.unwrap_err();
        assert_error(&error, class, parts);
    }
    let server = Server::start(|request| match request.method.as_str() {
        "POST" => Reply::new(202).with("location", "/up"),
        "PUT" => Reply::html(413),
        _ => Reply::new(404),
    })
    .await;
    let error = publish(&server, COMPONENT, &[]).await.unwrap_err();
    assert_error(&error, ErrorClass::Plugin, &["does not take 45 bytes", "higher limit"]);
}
