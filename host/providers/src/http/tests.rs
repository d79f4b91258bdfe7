use std::io::Write as _;
use std::time::Instant;

use serde_json::json;

use super::client::endpoint_url;
use super::testing::{Say, Server, quick, reply};
use super::*;
use crate::error::BaseUrlProblem;
use crate::errors::gateway_text;
use agenthost_core::error::{Classify as _, ErrorClass};

const KEY: &str = "sk-test-4f3a9c8b7d6e5f";

fn endpoint(url: &str, bounds: Bounds) -> Endpoint {
    Endpoint::new(url, "x", Auth::Bearer, Some(SecretString::from(KEY)), &[], bounds).unwrap()
}

async fn post(server: &Server, bounds: Bounds) -> Result<HttpResponse, ProviderError> {
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
    let syntax = |problem: &str| BaseUrlProblem::Syntax(problem.to_owned());
    for (base, expected) in [
        ("", syntax("relative URL without a base")),
        ("api.example.com", syntax("relative URL without a base")),
        ("ftp://example.com", BaseUrlProblem::Scheme),
        ("file:///etc/passwd", BaseUrlProblem::Scheme),
        ("unix:///socket", BaseUrlProblem::Scheme),
        ("http://", syntax("empty host")),
        ("https://user:secret@example.com", BaseUrlProblem::Credentials),
        ("https://secret@example.com", BaseUrlProblem::Credentials),
        ("https://example.com?key=secret", BaseUrlProblem::Query),
        ("https://example.com/#secret", BaseUrlProblem::Query),
    ] {
        let error = endpoint_url(base, "x").unwrap_err();
        assert!(
            matches!(&error, ProviderSetupError::BaseUrl { problem, .. } if *problem == expected),
            "{error:?}"
        );
        assert!(error.hint().is_some());
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
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
        assert!(
            matches!(&error, ProviderSetupError::Key { url } if url == "http://127.0.0.1/x"),
            "{error:?}"
        );
        assert!(error.hint().is_some());
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
        // The limit, and what the sockets in between may buffer.
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
async fn every_wait_has_its_bound_and_its_own_words() {
    let ms = Duration::from_millis;
    let bounds = Bounds {
        connect: ms(200),
        first_byte: ms(500),
        silence: ms(600),
        total: ms(1000),
        ..quick()
    };
    let stall = |said: &str| Say::Stall(said.as_bytes().to_vec());
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n";
    for (say, words, status) in [
        (stall(""), "no answer from ORIGIN within 500ms", None),
        (stall("HTTP/1.1 200 OK\r\n"), "no answer from ORIGIN within 500ms", None),
        (stall(head), "no answer from ORIGIN within 500ms", Some(200)),
        (
            stall(&format!("{head}{{\"a\"")),
            "ORIGIN fell silent for 600ms in the middle of its answer",
            Some(200),
        ),
        (
            Say::Trickle(format!("{head}{{").into_bytes()),
            "no whole answer from ORIGIN within 1s",
            Some(200),
        ),
        // White space alone is not the beginning of an answer.
        (
            Say::Trickle(head.as_bytes().to_vec()),
            "no answer from ORIGIN within 500ms",
            Some(200),
        ),
    ] {
        let server = Server::start(say).await;
        let start = Instant::now();
        let error = post(&server, bounds).await.unwrap_err();
        assert_eq!(
            (error.kind, error.status),
            (ProviderErrorKind::Timeout, status),
            "{error}"
        );
        assert_eq!(error.message, words.replace("ORIGIN", &server.url()));
        assert!(start.elapsed() < Duration::from_secs(3));
    }

    // A listener that accepts connections and never speaks TLS.
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", deaf.local_addr().unwrap());
    let error = endpoint(&url, bounds).post(&json!({})).await.unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::Timeout);
    assert_eq!(error.message, format!("no connection to {url} within 200ms"));
}

#[tokio::test]
async fn a_slow_answer_that_keeps_coming_is_read() {
    // Longer than each silence, and longer than the time until the body must begin.
    let server = Server::start(Say::Trickle(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{".to_vec())).await;
    let bounds = Bounds {
        first_byte: Duration::from_millis(500),
        silence: Duration::from_millis(500),
        total: Duration::from_secs(10),
        ..quick()
    };
    assert_eq!(
        post(&server, bounds).await.unwrap().body,
        format!("{{{}", " ".repeat(19)).as_bytes()
    );
}

#[tokio::test]
async fn white_space_keeps_a_connection_alive_until_the_answer_begins() {
    let ms = Duration::from_millis;
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n\n".to_vec();
    // Each pause is longer than the silence, which counts only within an answer.
    let pieces = [(ms(0), head), (ms(400), b"\r\n".to_vec()), (ms(400), b"{}".to_vec())];
    let server = Server::start(Say::Pieces(pieces.into())).await;
    let bounds = Bounds {
        first_byte: Duration::from_secs(10),
        total: Duration::from_secs(10),
        silence: ms(200),
        ..quick()
    };
    assert_eq!(post(&server, bounds).await.unwrap().body, b"\n\r\n{}");
}

#[tokio::test]
async fn the_silence_may_be_given_and_is_never_zero() {
    let server = Server::start(Say::Stall(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{".to_vec())).await;
    let default = || endpoint(&server.url(), Bounds::default());
    assert_eq!(default().bounds.silence, Duration::from_secs(30));
    assert!(default().with_silence(Duration::ZERO).unwrap_err().hint().is_some());
    let short = default().with_silence(Duration::from_millis(200)).unwrap();
    let error = short.post(&json!({})).await.unwrap_err();
    assert!(error.message.contains("fell silent for 200ms"), "{error}");
}

#[tokio::test]
async fn a_timeout_may_be_given_and_is_never_zero() {
    let default = endpoint("http://127.0.0.1", Bounds::default());
    assert_eq!(default.bounds.first_byte, Duration::from_secs(600));
    let error = default.with_timeout(Duration::ZERO).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Config);
    assert!(matches!(error, ProviderSetupError::ZeroTimeout { .. }) && error.hint().is_some());

    let server = Server::start(Say::Stall(Vec::new())).await;
    let short = endpoint(&server.url(), Bounds::default()).with_timeout(Duration::from_millis(200));
    let error = short.unwrap().post(&json!({})).await.unwrap_err();
    assert_eq!(error.message, format!("no answer from {} within 200ms", server.url()));

    let server = Server::replying(200, &[], "{}").await;
    let endless = endpoint(&server.url(), Bounds::default()).with_timeout(Duration::MAX);
    assert_eq!(endless.unwrap().post(&json!({})).await.unwrap().body, b"{}");
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let server = Server::start(Say::Keep(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec())).await;
    let endpoint = endpoint(&server.url(), quick());
    for _ in 0..3 {
        endpoint.post(&json!({})).await.unwrap();
    }
    assert_eq!((server.seen().len(), server.connections()), (3, 1));
}

/// The environment belongs to the whole process, so the test runs itself again in a separate one.
#[tokio::test]
async fn the_environments_proxy_is_not_used() {
    const TARGET: &str = "AGENTHOST_TEST_PAST_THE_PROXY";
    if let Ok(url) = std::env::var(TARGET) {
        endpoint(&url, quick()).post(&json!({})).await.unwrap();
        return;
    }
    let proxy = Server::replying(502, &[], "").await;
    let server = Server::replying(200, &[], "{}").await;
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "http::tests::the_environments_proxy_is_not_used"]);
    for name in [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
    ] {
        child.env(name, proxy.url());
    }
    child
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .env(TARGET, server.url());
    let output = child.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((server.seen().len(), proxy.connections()), (1, 0));
}

#[tokio::test]
async fn an_answer_that_breaks_off_still_tells_of_its_limits() {
    let head = "HTTP/1.1 200 OK\r\nx-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-requests: 7\r\n\
                content-length: 99999999\r\n\r\n";
    for most in [10, usize::MAX] {
        let server = Server::start(Say::Bytes(format!("{head}{{").into_bytes())).await;
        let error = post(&server, Bounds { body: most, ..quick() }).await.unwrap_err();
        let requests = error.quota.and_then(|quota| quota.requests);
        assert_eq!(requests.map(|meter| (meter.limit, meter.remaining)), Some((60, 7)));
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
        // Sent once: retrying is decided elsewhere.
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
    let endpoint = endpoint(&server.url(), quick());
    let answer = endpoint.post(&json!({})).await.unwrap();
    let body = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(endpoint.without_key(body), json!({"said": "your key is [key]"}));
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

#[tokio::test]
async fn headers_and_parameters_are_on_every_request() {
    let server = Server::replying(200, &[], "{}").await;
    let endpoint = endpoint(&server.url(), quick())
        .with_header("X-Portkey-Provider", "openai".into())
        .unwrap()
        .with_header("x-team", ExtraValue::secret("canary-team-42"))
        .unwrap()
        .with_query("api-version", "2024-10-21".into())
        .unwrap()
        .with_query("a b", ExtraValue::secret("c&d=é/42"))
        .unwrap();
    assert_eq!(
        endpoint.address(),
        format!("{}/x", server.url()),
        "without the parameters"
    );
    for _ in 0..2 {
        endpoint.post(&json!({})).await.unwrap();
    }
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    for seen in seen {
        let head = seen.head;
        assert!(
            head.starts_with("POST /x?api-version=2024-10-21&a+b=c%26d%3D%C3%A9%2F42 HTTP/1.1\r\n"),
            "{head}"
        );
        for line in [
            "x-portkey-provider: openai\r\n",
            "x-team: canary-team-42\r\n",
            "content-type: application/json\r\n",
        ] {
            assert_eq!(head.matches(line).count(), 1, "{head}");
        }
        assert!(head.contains(&format!("authorization: Bearer {KEY}\r\n")), "{head}");
    }
}

#[test]
fn a_header_of_the_host_and_an_invalid_field_are_refused() {
    let endpoint = || endpoint("http://127.0.0.1", quick());
    let refused = |name: &str, value: &str| match endpoint().with_header(name, ExtraValue::secret(value)) {
        Err(error @ ProviderSetupError::Field { problem, .. }) => {
            assert!(error.hint().is_some());
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
            problem
        }
        other => panic!("{other:?}"),
    };
    for name in ["content-type", "Authorization", "Host", "accept", "content-length"] {
        assert_eq!(refused(name, "canary"), FieldProblem::Owned, "{name}");
    }
    assert_eq!(refused("a\nb", "canary"), FieldProblem::HeaderName);
    assert_eq!(refused("x-a", "canary\r\nx-evil: 1"), FieldProblem::HeaderValue);
    assert_eq!(refused("x-a", ""), FieldProblem::Empty);
    assert!(endpoint().with_query("a", "b\0".into()).is_err());
    let keyless = Endpoint::new("http://127.0.0.1", "x", Auth::Bearer, None, &[], quick()).unwrap();
    assert!(
        keyless
            .with_header("authorization", ExtraValue::secret("Bearer a"))
            .is_ok(),
        "without a key it is free"
    );
}

#[tokio::test]
async fn no_secret_of_a_header_or_a_parameter_comes_back() {
    let header = "Bearer canary-header-0123456789";
    let query = "canary/query+0123456789";
    let encoded = "canary%2Fquery%2B0123456789";
    let echo = format!("{{\"a\": \"{header} {query} {encoded} canary-header-0123456789\"}}");
    let server = Server::replying(400, &[&format!("x-request-id: {query}")], &echo).await;
    let endpoint = endpoint(&server.url(), quick())
        .with_header("helicone-auth", ExtraValue::secret(header))
        .unwrap()
        .with_query("key", ExtraValue::secret(query))
        .unwrap()
        .with_query("api-version", "2024-10-21".into())
        .unwrap();
    assert!(!format!("{endpoint:?} {:?}", endpoint.headers).contains("canary"));
    let answer = endpoint.post(&json!({})).await.unwrap();
    let body = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(endpoint.without_key(body), json!({"a": "[key] [key] [key] [key]"}));
    let error = endpoint.error(
        &answer,
        ProviderErrorKind::Server,
        &format!("POST /x?key={encoded}&api-version=2024-10-21 with canary-header-01234"),
        Some(query),
    );
    assert!(!error.to_string().contains("canary"), "{error}");
    assert!(
        error.to_string().contains("api-version=2024-10-21"),
        "a text of the file is no secret: {error}"
    );

    let gone = Endpoint::new("http://127.0.0.1:1", "x", Auth::Bearer, None, &[], quick())
        .unwrap()
        .with_query("key", ExtraValue::secret(query))
        .unwrap();
    let error = gone.post(&json!({})).await.unwrap_err();
    assert!(
        error.message.contains("127.0.0.1:1") && !error.message.contains("canary"),
        "{error}"
    );
}
