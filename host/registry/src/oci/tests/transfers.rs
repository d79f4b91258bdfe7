//! Transfers of components into the cache: complete, partial, and with wrong bytes.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::Source as _;
use crate::cache::Cache;

fn cache() -> (tempfile::TempDir, Cache) {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::new(dir.path().join("plugins"));
    (dir, cache)
}

fn part(bytes: &[u8], from: usize) -> Reply {
    let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
    Reply::new(206).with("content-range", &range).body(&bytes[from..])
}

/// Interrupts the first transfer with `first`; `then` answers the second.
async fn interrupted(first: Reply, then: fn(&Request) -> Reply) -> (Server, Result<Vec<u8>, RegistryError>) {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |request| match count.fetch_add(1, Ordering::SeqCst) {
        0 => first.clone(),
        _ => then(request),
    })
    .await;
    let (_dir, cache) = cache();
    let release = release_of(COMPONENT);
    let oci = hasty(&server);
    let error = oci.fetch(&release, &cache).await.unwrap_err();
    assert_error(&error, ErrorClass::Plugin, &["goes on where it stopped"]);
    assert!(!cache.has(&release.digest));
    let result = oci.fetch(&release, &cache).await;
    let result = result.map(|_| cache.read(&release.digest).unwrap());
    (server, result)
}

#[tokio::test]
async fn a_component_comes_whole_and_only_once() {
    let server = Server::start(|_| Reply::new(200).body(COMPONENT)).await;
    let (_dir, cache) = cache();
    let release = release_of(COMPONENT);
    for _ in 0..2 {
        oci(&server).fetch(&release, &cache).await.unwrap();
    }
    assert_eq!(cache.read(&release.digest).unwrap(), COMPONENT);
    assert_eq!(server.log(), [format!("GET /v2/{REPOSITORY}/blobs/{}", release.digest)]);
    assert_eq!(
        server.seen()[0].header("accept-encoding"),
        "",
        "an offset is one of plain bytes"
    );
}

#[tokio::test]
async fn a_transfer_that_broke_or_stood_still_goes_on_where_it_stopped() {
    let whole = || Reply::new(200).body(COMPONENT);
    for first in [
        whole().cut_after(10),
        whole().stall_after(10),
        whole().unsized_body().cut_after(10),
    ] {
        let (server, result) = interrupted(first, |_| part(COMPONENT, 10)).await;
        assert_eq!(result.unwrap(), COMPONENT);
        assert_eq!(server.seen()[0].header("range"), "");
        assert_eq!(server.seen()[1].header("range"), "bytes=10-");
    }
}

#[tokio::test]
async fn a_registry_that_knows_no_ranges_begins_again() {
    let first = Reply::new(200).body(COMPONENT).cut_after(10);
    let (_, result) = interrupted(first.clone(), |_| Reply::new(200).body(COMPONENT)).await;
    assert_eq!(result.unwrap(), COMPONENT);
    let (_, result) = interrupted(first.clone(), |request| match request.header("range") {
        "" => Reply::new(200).body(COMPONENT),
        _ => Reply::new(416),
    })
    .await;
    assert_eq!(result.unwrap(), COMPONENT);
    let (_, result) = interrupted(first.clone(), |_| part(COMPONENT, 0)).await;
    assert_eq!(result.unwrap(), COMPONENT);
    let (_, result) = interrupted(first.clone(), |_| part(COMPONENT, 5)).await;
    assert_error(&result.unwrap_err(), ErrorClass::Denied, &["begins at byte 5 where 10"]);
    let (_, result) = interrupted(first, |_| Reply::new(206).body(COMPONENT)).await;
    assert_error(
        &result.unwrap_err(),
        ErrorClass::Plugin,
        &["a part without saying which"],
    );
}

#[tokio::test]
async fn what_is_all_there_is_not_asked_for_again() {
    let server = Server::start(|_| Reply::new(500)).await;
    let release = release_of(COMPONENT);
    let (from, _) = oci(&server).open(&release, release.size).await.unwrap();
    assert_eq!(from, release.size);
    assert!(server.log().is_empty());
}

#[tokio::test]
async fn more_less_and_other_bytes_are_denied_and_nothing_stays() {
    let longer = [COMPONENT, b"more"].concat();
    let mut other = COMPONENT.to_vec();
    other[20] ^= 1;
    for (reply, part) in [
        (Reply::new(200).body(longer.clone()), "49 bytes of sha256:"),
        (Reply::new(200).body(&COMPONENT[..9]), "9 bytes of sha256:"),
        (
            Reply::new(200).body(longer).unsized_body(),
            "more bytes came than the 45 that were announced",
        ),
        (Reply::new(200).body(other), "the received bytes are not sha256:"),
    ] {
        let server = Server::start(move |_| reply.clone()).await;
        let (dir, cache) = cache();
        let error = oci(&server).fetch(&release_of(COMPONENT), &cache).await.unwrap_err();
        assert_error(&error, ErrorClass::Denied, &[part, "nothing was kept"]);
        let left: Vec<_> = std::fs::read_dir(dir.path().join("plugins"))
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.metadata().unwrap().len() > 0)
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test]
async fn a_component_that_is_not_to_be_had_is_told_so() {
    for (reply, parts) in [
        (
            Reply::complaint(404, "BLOB_UNKNOWN"),
            &[
                "the registry has no component sha256:",
                "(BLOB_UNKNOWN)",
                "It has lost it",
            ][..],
        ),
        (Reply::html(200), &["a web page"]),
        (Reply::new(401), &["requires a login"]),
        (Reply::new(500), &["500 Internal Server Error"]),
    ] {
        let server = Server::start(move |_| reply.clone()).await;
        let (_dir, cache) = cache();
        let error = oci(&server).fetch(&release_of(COMPONENT), &cache).await.unwrap_err();
        assert_error(&error, ErrorClass::Plugin, parts);
    }
}
