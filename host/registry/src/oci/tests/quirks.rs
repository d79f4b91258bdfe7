//! Registries that deviate from the distribution specification in ways that are harmless.

use std::sync::{Arc, Mutex};

use super::login::known;
use super::server::Memory;
use super::*;
use crate::source::{Publication, Published};
use crate::{Source as _, Tag};

/// Starts a registry in memory that asks `quirk` first.
async fn registry(quirk: impl Fn(&mut Memory, &Request) -> Option<Reply> + Send + Sync + 'static) -> Server {
    let memory = Arc::new(Mutex::new(Memory::default()));
    Server::start(move |request| {
        let mut memory = memory.lock().unwrap();
        quirk(&mut memory, request).unwrap_or_else(|| memory.answer(request))
    })
    .await
}

async fn publish(client: &Oci, signatures: &[&str]) -> Result<Published, RegistryError> {
    let plugin = plugin(COMPONENT);
    let signatures: Vec<_> = signatures.iter().map(|text| (*text).to_owned()).collect();
    client
        .publish(Publication {
            plugin: &plugin,
            name: &"acme:competitor".parse().unwrap(),
            version: &"1.2.0".parse().unwrap(),
            bytes: COMPONENT,
            signatures: &signatures,
        })
        .await
}

/// Publishes a release with a signature, and then another signature; returns what is listed.
async fn signed_twice(client: &Oci) -> Vec<String> {
    let release = publish(client, &["one"]).await.unwrap().release;
    assert!(publish(client, &["two"]).await.unwrap().existed);
    client.signatures(&release).await.unwrap()
}

#[tokio::test]
async fn a_registry_without_referrers_says_so_in_many_ways() {
    let json = |body: &str| {
        Reply::new(200)
            .with("content-type", "application/json")
            .body(body.to_owned())
    };
    for reply in [
        Reply::complaint(404, "NOT_FOUND"),
        Reply::new(404).body("404 page not found\n"),
        Reply::html(404),
        Reply::complaint(400, "NAME_INVALID"),
        Reply::complaint(401, "UNAUTHORIZED"),
        Reply::html(403),
        Reply::complaint(405, "UNSUPPORTED"),
        Reply::new(406),
        Reply::new(410),
        Reply::complaint(501, "UNSUPPORTED"),
        Reply::html(200),
        json(""),
        json("null"),
        json("[]"),
        json("{}"),
        json("{\"errors\": []}"),
        json("{\"manifests\": null}"),
        json("{\"manifests\": \"many\"}"),
        Reply::new(200).body("OK"),
        Reply::new(204),
        Reply::new(303),
        Reply::new(303).with("location", "/login"),
        Reply::new(302).with("location", "https://web.example/login"),
        Reply::new(302).with("location", "http://web.example/login"),
        Reply::new(302).with("location", "/limited"),
    ] {
        let shown = format!("{reply:?}");
        let server = registry(move |_, request| match request.path() {
            "/login" => Some(Reply::html(200)),
            "/limited" => Some(Reply::complaint(429, "TOOMANYREQUESTS")),
            path if path.contains("/referrers/") => Some(reply.clone()),
            _ => None,
        })
        .await;
        assert_eq!(signed_twice(&oci(&server)).await, ["one", "two"], "{shown}");
    }
}

#[tokio::test]
async fn a_registry_in_trouble_does_not_hide_signatures() {
    for (status, part) in [(429, "too many requests"), (500, "500 Internal"), (503, "503 Service")] {
        let server = registry(move |_, request| {
            let asked = request.path().contains("/referrers/");
            asked.then(|| Reply::new(status))
        })
        .await;
        let error = publish(&oci(&server), &["one"]).await.unwrap_err();
        assert_error(&error, ErrorClass::Plugin, &[part]);
    }
}

#[tokio::test]
async fn referrers_may_have_moved_and_have_pages() {
    let memory = Arc::new(Mutex::new(Memory {
        referrers: true,
        ..Memory::default()
    }));
    let server = Server::start(move |request| {
        let mut memory = memory.lock().unwrap();
        let Some((before, subject)) = request.path().split_once("/referrers/") else {
            return memory.answer(request);
        };
        if !request.target.contains("moved") {
            return Reply::new(307).with("location", &format!("{before}/referrers/{subject}?moved=1"));
        }
        let list = memory.referrers(subject);
        match request.query("page") {
            None => Reply::json(&json!({"manifests": []}))
                .with("link", "<https://web.example/a,b>; rel=\"help\"")
                .with("link", "<?moved=1&page=a,b>; rel=\"next\""),
            Some(_) => list,
        }
    })
    .await;
    assert_eq!(signed_twice(&oci(&server)).await.len(), 2);
}

#[tokio::test]
async fn a_missing_page_of_referrers_does_not_hide_signatures() {
    let server = registry(|_, request| {
        request
            .path()
            .contains("/referrers/")
            .then(|| match request.query("page") {
                None => Reply::json(&json!({"manifests": []})).with("link", "<?page=2>; rel=\"next\""),
                Some(_) => Reply::complaint(404, "NOT_FOUND"),
            })
    })
    .await;
    let error = publish(&oci(&server), &["one"]).await.unwrap_err();
    assert_error(&error, ErrorClass::Plugin, &["no list of referrers"]);
}

#[tokio::test]
async fn a_tag_of_signatures_that_is_the_release_itself_is_not_a_list() {
    let alias = |memory: &mut Memory, request: &Request| {
        let (_, tag) = request.path().split_once("/manifests/sha256-")?;
        let (kind, bytes) = memory.manifests.get(&format!("sha256:{tag}"))?;
        let none = request.method == "GET" && !memory.manifests.contains_key(&format!("sha256-{tag}"));
        none.then(|| Reply::new(200).with("content-type", kind).body(bytes.clone()))
    };
    let server = registry(alias).await;
    let release = publish(&oci(&server), &[]).await.unwrap().release;
    assert!(oci(&server).signatures(&release).await.unwrap().is_empty());
    assert_eq!(signed_twice(&oci(&server)).await, ["one", "two"]);
    // A registry that does not keep another manifest under that tag cannot hold signatures.
    for status in [201, 400] {
        let server = registry(move |memory, request| match request.method.as_str() {
            "PUT" if request.path().contains("/manifests/sha256-") => Some(Reply::new(status)),
            _ => alias(memory, request),
        })
        .await;
        let error = publish(&oci(&server), &["one"]).await.unwrap_err();
        assert_error(
            &error,
            ErrorClass::Plugin,
            &["sha256-", "cannot hold signatures", "without `--key`"],
        );
    }
}

#[tokio::test]
async fn a_missing_tag_may_look_forbidden_if_the_list_of_tags_lacks_it() {
    for reply in [
        Reply::complaint(403, "DENIED"),
        Reply::complaint(401, "UNAUTHORIZED"),
        Reply::complaint(400, "TAG_INVALID"),
        Reply::html(404),
    ] {
        let shown = format!("{reply:?}");
        let server = registry(move |memory, request| {
            if request.path().ends_with("/tags/list") {
                let tags: Vec<_> = memory.manifests.keys().filter(|tag| !tag.contains(':')).collect();
                return Some(Reply::json(&json!({"tags": tags})));
            }
            let (_, tag) = request.path().split_once("/manifests/")?;
            let missing = request.method == "GET" && !memory.manifests.contains_key(tag);
            missing.then(|| reply.clone())
        })
        .await;
        assert_eq!(signed_twice(&oci(&server)).await, ["one", "two"], "{shown}");
        let error = oci(&server).find(&Tag::Name("other".into())).await.unwrap_err();
        assert_error(&error, ErrorClass::Plugin, &["there is no such plugin or version"]);
    }
    // A tag that exists and may not be read is not taken for a missing one, and is not replaced, even if there is no list.
    for list in [
        Reply::json(&json!({"tags": ["1.2.0"]})),
        Reply::complaint(404, "NOT_FOUND"),
        Reply::new(404),
    ] {
        let server = registry(move |_, request| match request.path().rsplit_once('/').unwrap() {
            (_, "list") => Some(list.clone()),
            (_, "1.2.0") => Some(Reply::complaint(403, "DENIED")),
            _ => None,
        })
        .await;
        let error = publish(&oci(&server), &[]).await.unwrap_err();
        assert_error(&error, ErrorClass::Plugin, &["requires a login: 403", "(DENIED)"]);
        assert!(!server.log().iter().any(|request| request.starts_with("PUT")));
    }
}

#[tokio::test]
async fn uploads_end_in_several_ways_at_several_places() {
    for (location, status, head) in [
        ("1?state=x", 204, 404),
        ("/v2/plugins/acme/competitor/blobs/uploads/1?state=x", 200, 400),
        ("//HOST/v2/plugins/acme/competitor/blobs/uploads/1?state=x", 202, 403),
        (
            "http://HOST/v2/plugins/acme/competitor/blobs/uploads/1?state=x",
            201,
            405,
        ),
    ] {
        let server = registry(move |memory, request| {
            if request.method == "POST" {
                let location = location.replace("HOST", request.header("host"));
                return Some(Reply::new(202).with("location", &location));
            }
            let (_, blob) = request.path().split_once("/blobs/")?;
            match request.method.as_str() {
                "HEAD" if !memory.blobs.contains_key(blob) => Some(Reply::new(head)),
                "PUT" => {
                    memory.answer(request);
                    Some(Reply::new(status))
                }
                _ => None,
            }
        })
        .await;
        let published = publish(&oci(&server), &["one"]).await.unwrap();
        assert!(!published.existed, "{location}");
    }
}

#[tokio::test]
async fn a_blob_may_be_stored_at_another_server() {
    let blobs: Arc<Mutex<std::collections::BTreeMap<String, Vec<u8>>>> = Arc::default();
    let stored = Arc::clone(&blobs);
    let storage = Server::start(move |request| {
        assert_eq!(request.query("signed").as_deref(), Some("a+b"));
        assert_eq!(request.header("authorization"), "");
        let digest = request.query("digest").unwrap();
        stored.lock().unwrap().insert(digest, request.body.clone());
        Reply::new(204)
    })
    .await;
    let place = format!("http://{}/bucket?signed=a%2Bb", storage.host());
    let server = registry(move |_, request| match (request.method.as_str(), request.path()) {
        ("POST", _) => Some(Reply::new(202).with("location", &place)),
        ("PUT", _) => Some(Reply::new(201)),
        _ => None,
    })
    .await;
    let host = server.host();
    let vars = [
        ("AGENTHOST_REGISTRY", host.as_str()),
        ("AGENTHOST_REGISTRY_TOKEN", "given"),
    ];
    let credentials = known(&host, &vars, None).await;
    // This registry keeps no manifest, so only the upload succeeds.
    publish(&oci_as(&server, credentials), &[]).await.unwrap_err();
    let digest = Digest::of(COMPONENT).to_string();
    assert_eq!(blobs.lock().unwrap()[&digest], COMPONENT);
}

#[tokio::test]
async fn any_of_several_challenges_and_either_name_of_a_token_logs_in() {
    for (headers, token) in [
        (
            &["Basic realm=\"a, b\", Bearer realm=\"/token\",service=\"c, d\""][..],
            json!({"token": "tok"}),
        ),
        (
            &["Negotiate", "Basic realm=\"a\"", "bearer Realm=\"/token\""],
            json!({"access_token": "tok"}),
        ),
        (
            &["BEARER realm=\"/token\", basic realm=\"a\""],
            json!({"token": "", "access_token": "tok", "expires_in": "300"}),
        ),
        (&["Bearer realm=/token"], json!({"token": "tok", "access_token": ""})),
        (&["Bearer realm=/token"], json!({"token": null, "access_token": "tok"})),
    ] {
        let shown = format!("{headers:?}");
        let server = Server::start(move |request| match request.header("authorization") {
            _ if request.path() == "/token" => Reply::json(&token),
            "Bearer tok" => Reply::new(200).body(manifest_of(COMPONENT).to_string()),
            _ => headers
                .iter()
                .fold(Reply::new(401), |reply, header| reply.with("www-authenticate", header)),
        })
        .await;
        let found = oci(&server).find(&Tag::Name("latest".into())).await;
        assert!(found.is_ok(), "{shown}: {found:?}");
    }
}

#[tokio::test]
async fn a_password_serves_where_the_token_server_fails() {
    let server = Server::start(|request| match request.header("authorization") {
        _ if request.path() == "/token" => Reply::new(404),
        "Basic YWRhOm9wZW4=" => Reply::new(200).body(manifest_of(COMPONENT).to_string()),
        _ => Reply::new(401).with("www-authenticate", "Bearer realm=\"/token\", Basic realm=\"a\""),
    })
    .await;
    let host = server.host();
    let vars = [
        ("AGENTHOST_REGISTRY", host.as_str()),
        ("AGENTHOST_REGISTRY_USERNAME", "ada"),
        ("AGENTHOST_REGISTRY_PASSWORD", "open"),
    ];
    let credentials = known(&host, &vars, None).await;
    oci_as(&server, credentials)
        .find(&Tag::Name("latest".into()))
        .await
        .unwrap();
}

#[tokio::test]
async fn tags_that_are_not_versions_are_named() {
    let fallback = format!("sha256-{}", Digest::of(COMPONENT).hex());
    let server = Server::start(move |_| {
        Reply::json(&json!({"tags": ["v0.1.0", "latest", "1.0.0", fallback, "\u{1b}[31m", "a/b"]}))
    })
    .await;
    assert_eq!(oci(&server).tags().await.unwrap(), ["v0.1.0", "latest", "1.0.0"]);
    assert_eq!(oci(&server).versions().await.unwrap(), ["1.0.0".parse().unwrap()]);
}

#[test]
fn a_registry_behind_a_proxy_may_forget_that_it_has_tls() {
    let oci = Oci::new("registry.example", REPOSITORY, Credentials::anonymous());
    // Without root certificates there is no client.
    let Ok(oci) = oci else { return };
    let http = &oci.wire.http;
    let own = http.follow(&http.base, "http://registry.example/v2/x?a=b").unwrap();
    assert_eq!(own.as_str(), "https://registry.example/v2/x?a=b");
    for other in ["http://other.example/", "http://registry.example:5000/"] {
        http.follow(&http.base, other).unwrap_err();
    }
}

#[tokio::test]
async fn one_token_server_gets_the_secret() {
    let server = Server::start(|request| match request.path() {
        "/first" | "/second" => Reply::complaint(403, "DENIED"),
        _ => Reply::new(401).with("www-authenticate", "Bearer realm=\"/first\", Bearer realm=\"/second\""),
    })
    .await;
    let host = server.host();
    let vars = [
        ("AGENTHOST_REGISTRY", host.as_str()),
        ("AGENTHOST_REGISTRY_USERNAME", "ada"),
        ("AGENTHOST_REGISTRY_PASSWORD", "open"),
    ];
    let credentials = known(&host, &vars, None).await;
    let tag = Tag::Name("latest".into());
    oci_as(&server, credentials).find(&tag).await.unwrap_err();
    let log = server.log();
    assert!(log.iter().any(|request| request.contains("/first")), "{log:?}");
    assert!(!log.iter().any(|request| request.contains("/second")), "{log:?}");
}
