use std::io::Write as _;
use std::time::Instant;

use serde_json::json;

use super::testing::{Say, Server, quick, reply};
use super::*;

const KEY: &str = "sk-test-4f3a9c8b7d6e5f";

fn endpoint(url: &str, bounds: Bounds) -> Endpoint {
    Endpoint::new(url, "x", Auth::Bearer, Some(SecretString::from(KEY)), &[], bounds).unwrap()
}

async fn post(server: &Server, bounds: Bounds) -> Result<Answer, ProviderError> {
    endpoint(&server.url(), bounds).post(&json!({"a": 1})).await
}

#[test]
fn a_base_url_is_a_plain_address() {
    for (base, url) in [
        ("https://api.example.com", "https://api.example.com/x"),
        ("http://127.0.0.1:11434/v1/", "http://127.0.0.1:11434/v1/x"),
        ("http://[::1]:8080", "http://[::1]:8080/x"),
    ] {
        assert_eq!(endpoint_url(base, "x").unwrap().as_str(), url);
    }
    for base in [
        "",
        "api.example.com",
        "ftp://example.com",
        "file:///etc/passwd",
        "unix:///socket",
        "http://",
        "https://user:secret@example.com",
        "https://secret@example.com",
        "https://example.com?key=secret",
        "https://example.com/#secret",
    ] {
        let error = endpoint_url(base, "x").unwrap_err();
        assert_eq!(error.class(), crate::error::ErrorClass::Config, "{base}");
        assert!(error.next_step().is_some());
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn a_key_that_no_header_can_carry_is_refused_without_naming_it() {
    for key in ["", "abc\nx-evil: 1", "abc\r\n", "caf\u{0}e"] {
        let made = Endpoint::new(
            "http://127.0.0.1",
            "x",
            Auth::Bearer,
            Some(SecretString::from(key)),
            &[],
            quick(),
        );
        let error = made.unwrap_err();
        assert!(error.next_step().is_some());
        assert!(key.is_empty() || !error.to_string().contains(key), "{error}");
    }
}

#[test]
fn nothing_prints_the_key() {
    let endpoint = endpoint("http://127.0.0.1", quick());
    assert!(!format!("{endpoint:?} {:?}", endpoint.headers).contains("4f3a"));
}

#[tokio::test]
async fn one_request_with_the_key_and_no_cookies_or_referer() {
    let server = Server::replying(200, &[], "{}").await;
    let answer = post(&server, quick()).await.unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"{}".as_slice()));
    let [seen] = server.seen().try_into().unwrap();
    assert!(seen.head.starts_with("POST /x HTTP/1.1\r\n"), "{}", seen.head);
    assert!(
        seen.head.contains(&format!("authorization: Bearer {KEY}\r\n")),
        "{}",
        seen.head
    );
    assert!(
        seen.head.contains("content-type: application/json\r\n"),
        "{}",
        seen.head
    );
    assert_eq!(seen.body, json!({"a": 1}));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let trap = Server::replying(200, &[], "{}").await;
    for status in [301, 302, 303, 307, 308] {
        let server = Server::replying(status, &[&format!("location: {}/trap", trap.url())], "").await;
        assert_eq!(post(&server, quick()).await.unwrap().status, status);
    }
    assert!(trap.seen().is_empty());
}

#[tokio::test]
async fn an_endless_body_is_cut_off() {
    for head in [
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\n",
    ] {
        let server = Server::start(Say::Endless(head.as_bytes().to_vec())).await;
        let error = post(&server, Bounds::default()).await.unwrap_err();
        assert_eq!((error.kind, error.status), (ProviderErrorKind::BadReply, Some(200)));
        // The cap, and what the sockets in between may hold.
        assert!(server.sent() < 32 * 1024 * 1024, "{} bytes went out", server.sent());
    }
}

#[tokio::test]
async fn a_gzip_bomb_is_cut_off_and_honest_gzip_is_read() {
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let bomb = gzip(&vec![b'x'; 64 * 1024 * 1024]);
    assert!(bomb.len() < 100_000);
    let server = Server::start(Say::Bytes(reply(200, &["content-encoding: gzip"], &bomb))).await;
    let error = post(&server, Bounds::default()).await.unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::BadReply);
    assert!(error.message.contains("8388608"), "{error}");

    let server = Server::start(Say::Bytes(reply(200, &["content-encoding: gzip"], &gzip(b"{}")))).await;
    assert_eq!(post(&server, quick()).await.unwrap().body, b"{}");

    let server = Server::start(Say::Bytes(reply(200, &["content-encoding: gzip"], b"no gzip at all"))).await;
    assert_eq!(
        post(&server, quick()).await.unwrap_err().kind,
        ProviderErrorKind::BadReply
    );
}

#[tokio::test]
async fn a_server_that_stalls_is_a_timeout() {
    for said in [
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{\"a\"",
    ] {
        let server = Server::start(Say::Stall(said.as_bytes().to_vec())).await;
        let bounds = Bounds {
            total: Duration::from_millis(300),
            ..quick()
        };
        let start = Instant::now();
        let error = post(&server, bounds).await.unwrap_err();
        assert_eq!(error.kind, ProviderErrorKind::Timeout, "{error}");
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}

#[tokio::test]
async fn a_broken_connection_is_no_answer() {
    let refused = endpoint("http://127.0.0.1:1", quick())
        .post(&json!({}))
        .await
        .unwrap_err();
    assert_eq!(refused.kind, ProviderErrorKind::Connection);
    assert!(
        refused.message.starts_with("no connection to http://127.0.0.1:1: "),
        "{refused}"
    );

    for said in [
        "",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{\"a\"",
        "HTTP/1.1 200 OK\r\nno header\r\n\r\n",
    ] {
        let server = Server::start(Say::Bytes(said.as_bytes().to_vec())).await;
        let error = post(&server, quick()).await.unwrap_err();
        assert_eq!(error.kind, ProviderErrorKind::Connection, "{error}");
        // Sent once: whether a broken call is worth another try is decided elsewhere.
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn dropping_the_call_closes_the_connection() {
    let server = Server::start(Say::Endless(b"HTTP/1.1 200 OK\r\n\r\n".to_vec())).await;
    let bounds = Bounds {
        body: usize::MAX,
        ..quick()
    };
    let call = tokio::time::timeout(Duration::from_millis(100), post(&server, bounds)).await;
    assert!(call.is_err());
    tokio::time::sleep(Duration::from_millis(200)).await;
    let sent = server.sent();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.sent(), sent);
}

#[tokio::test]
async fn an_echoed_key_is_taken_out() {
    let server = Server::replying(200, &[], &format!("{{\"said\":\"your key is {KEY}\"}}")).await;
    assert_eq!(
        post(&server, quick()).await.unwrap().body,
        b"{\"said\":\"your key is [key]\"}"
    );
}

#[test]
fn retry_after_is_read_in_all_its_forms() {
    let now = httpdate::parse_http_date("Mon, 23 Nov 2026 10:00:00 GMT").unwrap();
    let read = |pairs: &[(&'static str, &str)]| {
        let headers = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        retry_after(&headers, now)
    };
    let ms = |ms| Some(Duration::from_millis(ms));
    assert_eq!(read(&[("retry-after", "7")]), ms(7_000));
    assert_eq!(read(&[("retry-after", "0.5")]), ms(500));
    assert_eq!(read(&[("retry-after-ms", "84"), ("retry-after", "1")]), ms(84));
    assert_eq!(read(&[("retry-after-ms", "soon"), ("retry-after", "1")]), ms(1_000));
    assert_eq!(read(&[("retry-after", "Mon, 23 Nov 2026 10:01:30 GMT")]), ms(90_000));
    assert_eq!(read(&[("retry-after", "Mon, 23 Nov 2026 09:00:00 GMT")]), ms(0));
    for wrong in ["-1", "soon", "NaN", "inf", "1e300", ""] {
        assert_eq!(read(&[("retry-after", wrong)]), None, "{wrong}");
    }
    assert_eq!(read(&[]), None);
}

#[test]
fn a_gateways_words_are_named_for_what_they_are() {
    assert_eq!(gateway_text(502, ""), "status 502 with no message");
    assert_eq!(
        gateway_text(502, "<html><title>502 Bad Gateway</title>"),
        "status 502 with a page titled \"502 Bad Gateway\""
    );
    assert_eq!(
        gateway_text(503, "<!doctype html>"),
        "status 503 with a page instead of an answer"
    );
    assert_eq!(gateway_text(500, "upstream down"), "status 500: upstream down");
    assert!(gateway_text(307, "<html>").contains("redirect"));
}
