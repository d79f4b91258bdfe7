//! Names, lists and manifests, and the errors for malformed ones.

use super::*;
use crate::oci::http::origin;
use crate::{Source as _, Tag};

fn latest() -> Tag {
    Tag::Name("latest".into())
}

/// Returns the error of `find` if every request is answered with `reply`.
async fn said(reply: Reply) -> RegistryError {
    let server = Server::start(move |_| reply.clone()).await;
    oci(&server).find(&latest()).await.unwrap_err()
}

#[tokio::test]
async fn tags_are_paged_through_and_only_versions_count() {
    let server = Server::start(|request| {
        assert_eq!(request.path(), "/v2/plugins/acme/competitor/tags/list");
        let page = |tags: &[&str]| Reply::json(&json!({"name": REPOSITORY, "tags": tags}));
        match request.query("last").as_deref() {
            None => page(&["1.10.0", "latest", "sha256-ab", "1.9.0-rc.1"]).with(
                "link",
                "</v2/plugins/acme/competitor/tags/list?last=a&n=1000>; rel=\"next\"",
            ),
            Some("a") => page(&["1.9.0", "1.0.0_build.5"]).with("link", "<?last=b>; rel=next"),
            Some("b") => Reply::json(&json!({"name": REPOSITORY, "tags": null})),
            other => panic!("{other:?}"),
        }
    })
    .await;
    let versions = oci(&server).versions().await.unwrap();
    let texts: Vec<_> = versions.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["1.0.0+build.5", "1.9.0-rc.1", "1.9.0", "1.10.0"]);
    assert_eq!(server.log().len(), 3);
}

#[tokio::test]
async fn no_plugin_has_no_versions_and_an_endless_list_is_given_up() {
    let server = Server::start(|_| Reply::complaint(404, "NAME_UNKNOWN")).await;
    assert!(oci(&server).versions().await.unwrap().is_empty());
    let server = Server::start(|_| Reply::html(404)).await;
    let error = oci(&server).versions().await.unwrap_err();
    assert_error(&error, ErrorClass::Plugin, &["a web page", "Check the address"]);
    let server = Server::start(|_| Reply::json(&json!({"tags": []})).with("link", "<?more>; rel=\"next\"")).await;
    let error = oci(&server).versions().await.unwrap_err();
    assert_error(&error, ErrorClass::Plugin, &["more than 100 pages"]);
    let elsewhere = "<http://127.0.0.1:1/v2/x/tags/list>; rel=\"next\"";
    let server = Server::start(move |_| Reply::json(&json!({"tags": []})).with("link", elsewhere)).await;
    let error = oci(&server).versions().await.unwrap_err();
    assert_error(&error, ErrorClass::Plugin, &["at another registry"]);
}

#[tokio::test]
async fn a_tag_may_move_and_a_manifest_may_not() {
    let old = manifest_of(b"old").to_string();
    let new = manifest_of(b"new").to_string();
    let moved = std::sync::atomic::AtomicBool::new(false);
    let digest = Digest::of(old.as_bytes());
    let by_digest = format!("/v2/{REPOSITORY}/manifests/{digest}");
    let answers = (old.clone(), new.clone());
    let server = Server::start(move |request| {
        let moved = moved.swap(true, std::sync::atomic::Ordering::SeqCst);
        let manifest = if moved && request.path() != by_digest {
            &answers.1
        } else {
            &answers.0
        };
        Reply::new(200).body(manifest.clone())
    })
    .await;
    let oci = oci(&server);
    let tag = Tag::Version("1.2.0+b.1".parse().unwrap());
    let first = oci.find(&tag).await.unwrap();
    assert_eq!(
        (first.digest, first.size, first.manifest),
        (Digest::of(b"old"), 3, Some(digest))
    );
    assert_eq!(oci.find(&tag).await.unwrap().digest, Digest::of(b"new"));
    assert_eq!(oci.find(&Tag::Manifest(digest)).await.unwrap(), first);
    assert!(server.seen()[0].path().ends_with("/manifests/1.2.0_b.1"));
    assert!(
        server.seen()[0]
            .header("accept")
            .contains("application/vnd.oci.image.manifest.v1+json")
    );
}

#[tokio::test]
async fn no_byte_of_a_manifest_can_differ_from_its_digest() {
    let manifest = manifest_of(COMPONENT).to_string().into_bytes();
    let digest = Digest::of(&manifest);
    let length = manifest.len();
    let count = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::start(move |_| {
        let mut bytes = manifest.clone();
        // The first response is correct; each later one has one wrong bit.
        if let Some(at) = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst).checked_sub(1) {
            bytes[at] ^= 1 << (at % 8);
        }
        Reply::new(200).body(bytes)
    })
    .await;
    let oci = oci(&server);
    oci.find(&Tag::Manifest(digest)).await.unwrap();
    for at in 0..length {
        let error = oci.find(&Tag::Manifest(digest)).await.unwrap_err();
        // The first byte decides whether the body is JSON at all.
        let class = if at == 0 {
            ErrorClass::Plugin
        } else {
            ErrorClass::Denied
        };
        assert_eq!(error.class(), class, "byte {at}: {error}");
    }
}

#[tokio::test]
async fn what_is_no_plugin_is_called_by_its_name() {
    let edit = |change: fn(&mut Value)| {
        let mut manifest = manifest_of(COMPONENT);
        change(&mut manifest);
        Reply::new(200).body(manifest.to_string())
    };
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []});
    let bare = json!({"schemaVersion": 2, "manifests": []});
    for (reply, part) in [
        (Reply::json(&index), "an index of several images"),
        (Reply::json(&bare), "an index of several images"),
        (
            Reply::json(&json!({"schemaVersion": 1, "fsLayers": []})),
            "a manifest of format 1",
        ),
        (edit(|m| m["schemaVersion"] = json!(3)), "a manifest of format 3"),
        (
            edit(|m| m["layers"] = json!([])),
            "a manifest with 0 layers, and a plugin has one",
        ),
        (
            edit(|m| m["layers"] = json!([m["layers"][0], m["layers"][0]])),
            "a manifest with 2 layers",
        ),
        (
            edit(|m| m["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar")),
            "a layer of type `application/vnd.oci.image.layer.v1.tar`",
        ),
        (
            edit(|m| m["config"]["mediaType"] = json!("application/vnd.oci.image.config.v1+json\u{1b}")),
            "a config of type `application/vnd.oci.image.config.v1+json\\u{1b}`",
        ),
        (
            edit(|m| m["layers"][0]["digest"] = json!("sha512:00")),
            "a digest `sha512:00`, and only sha256 is known",
        ),
        (edit(|m| m["layers"][0]["size"] = json!(-1)), "a broken manifest"),
        (
            edit(|m| {
                m.as_object_mut().unwrap().remove("config");
            }),
            "missing field `config`",
        ),
        (
            Reply::new(200).body("{\"layers\": [], \"layers\": []}"),
            "a broken manifest",
        ),
    ] {
        let error = said(reply).await;
        assert_error(&error, ErrorClass::Plugin, &[part, ":latest"]);
    }
    let huge = edit(|m| m["layers"][0]["size"] = json!(65 << 20));
    assert_error(
        &said(huge).await,
        ErrorClass::Denied,
        &["65 MiB are announced, and a plugin has at most 64 MiB"],
    );
}

#[tokio::test]
async fn a_registry_that_cannot_be_used_is_told_why() {
    let hint = "Check the address";
    for (reply, parts) in [
        (Reply::html(200), &["answers with a web page", hint][..]),
        (Reply::html(404), &["answers with a web page", hint]),
        (
            Reply::new(200).body("pong"),
            &["answers with something that is not JSON", hint],
        ),
        (
            Reply::complaint(404, "MANIFEST_UNKNOWN"),
            &["there is no such plugin or version", "Is the name right?"],
        ),
        (Reply::new(404), &["there is no such plugin or version"]),
        (
            Reply::complaint(401, "UNAUTHORIZED"),
            &[
                "requires a login: 401",
                "(UNAUTHORIZED)",
                "docker login 127.0.0.1:",
                "AGENTHOST_REGISTRY=",
            ],
        ),
        (
            Reply::complaint(403, "DENIED"),
            &["requires a login: 403", "(DENIED)", "docker login"],
        ),
        (Reply::html(403), &["requires a login: 403", "docker login"]),
        (
            Reply::complaint(429, "TOOMANYREQUESTS").with("retry-after", "7"),
            &["too many requests", "Wait 7 s"],
        ),
        (Reply::new(503), &["503 Service Unavailable", "try again later"]),
        (
            Reply::complaint(400, "\u{1b}[31m"),
            &["answers 400 Bad Request to the request for"],
        ),
        (Reply::new(204), &["answers 204 No Content"]),
        (Reply::new(302), &["with a redirect"]),
        (Reply::new(302).with("location", "latest"), &["more than 5 redirects"]),
        (
            Reply::new(307).with("location", "http://registry.example/x"),
            &["http://registry.example, which is not safe"],
        ),
        (
            Reply::new(307).with("location", "file:///etc/passwd"),
            &["which is not safe"],
        ),
    ] {
        let error = said(reply).await;
        assert_error(&error, ErrorClass::Plugin, parts);
        assert!(!with_causes(&error).contains('\u{1b}'), "{error}");
    }
}

#[tokio::test]
async fn a_registry_that_is_down_or_slow_or_no_registry_is_told_so() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = gone.local_addr().unwrap().to_string();
    drop(gone);
    let oci = Oci::new(&host, REPOSITORY, Credentials::anonymous()).unwrap();
    let error = oci.find(&latest()).await.unwrap_err();
    assert_error(
        &error,
        ErrorClass::Plugin,
        &["no connection to 127.0.0.1", "Is the registry running"],
    );
    for at in [0, 20] {
        let body = manifest_of(COMPONENT).to_string();
        let server = Server::start(move |_| Reply::new(200).body(body.clone()).stall_after(at)).await;
        let error = hasty(&server).find(&latest()).await.unwrap_err();
        assert_error(
            &error,
            ErrorClass::Plugin,
            &["no answer from 127.0.0.1", "within 700ms", "slow"],
        );
    }
    let server = Server::start(|_| Reply::new(200).body("{\"cut\": 1}").cut_after(3)).await;
    let error = hasty(&server).find(&latest()).await.unwrap_err();
    assert_error(&error, ErrorClass::Plugin, &["the connection to 127.0.0.1", "broke"]);
}

#[tokio::test]
async fn what_is_too_large_or_another_than_announced_is_denied() {
    let large = format!("{{\"x\": \"{}\"}}", "x".repeat(4 << 20));
    for reply in [
        Reply::new(200).body(large.clone()),
        Reply::new(200).body(large).unsized_body(),
    ] {
        let error = said(reply).await;
        assert_error(&error, ErrorClass::Denied, &["a manifest has more than 4194304 bytes"]);
    }
    let other = Digest::of(b"other").to_string();
    let manifest = manifest_of(COMPONENT).to_string();
    let error = said(Reply::new(200).with("docker-content-digest", &other).body(manifest)).await;
    assert_error(
        &error,
        ErrorClass::Denied,
        &["the received bytes are not the manifest sha256:"],
    );
}

#[tokio::test]
async fn names_that_could_be_taken_for_something_else_are_refused() {
    for (host, repository) in [
        ("registry", "a/b"),
        ("user:pw@registry.example", "a"),
        ("registry.example/x", "../a"),
        ("registry.example", "a/../b"),
        ("registry.example", "A"),
        ("registry.example", "a?b"),
        ("registry.example", ""),
    ] {
        let error = Oci::new(host, repository, Credentials::anonymous()).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Usage, "{host}/{repository}");
    }
    let server = Server::start(|_| Reply::new(500)).await;
    for tag in ["..", "a/b", "a?b", "", "-a", "\u{1b}"] {
        let error = oci(&server).find(&Tag::Name(tag.into())).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Usage, "{tag}");
    }
    assert!(server.log().is_empty());
}

#[test]
fn plain_http_is_for_loopback_alone() {
    for (host, scheme) in [
        ("localhost", "http"),
        ("127.0.0.1:5000", "http"),
        ("127.8.9.1:5000", "http"),
        ("[::1]:5000", "http"),
        ("registry.example", "https"),
        ("localhost.example", "https"),
        ("127.0.0.1.example", "https"),
        ("10.0.0.1:5000", "https"),
        ("[::2]:5000", "https"),
    ] {
        assert_eq!(origin(host).unwrap().scheme(), scheme, "{host}");
    }
}
