use super::*;
use crate::http::testing::Say;
use agenthost_core::llm::{Quota, RateLimit};

#[tokio::test]
async fn limits_are_read_from_replies_and_from_errors() {
    let headers = [
        "date: Fri, 09 Oct 2026 12:00:00 GMT",
        "anthropic-ratelimit-output-tokens-limit: 400000",
        "anthropic-ratelimit-output-tokens-remaining: 385000",
        "anthropic-ratelimit-output-tokens-reset: 2026-10-09T12:00:03Z",
        "x-should-retry: false",
    ];
    let expected = Quota {
        output_tokens: Some(RateLimit {
            limit: 400_000,
            remaining: 385_000,
            reset: Some(Duration::from_secs(3)),
        }),
        ..Quota::default()
    };
    let reply = told(200, &headers, &message(&json!([]), "end_turn", &json!({})))
        .await
        .unwrap();
    assert_eq!(reply.quota.as_deref(), Some(&expected));
    let failure = told(429, &headers, &error("rate_limit_error", "x", None))
        .await
        .unwrap_err();
    assert_eq!((failure.quota.as_deref(), failure.no_retry), (Some(&expected), true));
    let failure = told(200, &headers, "{}").await.unwrap_err();
    assert_eq!(failure.quota.as_deref(), Some(&expected));
    let failure = told(429, &[], &error("rate_limit_error", "x", None)).await.unwrap_err();
    assert_eq!((failure.quota, failure.no_retry), (None, false));
    let provider = Anthropic::new(None, Some(KEY.into())).unwrap();
    assert_eq!(
        (provider.counting(), provider.caching()),
        (Counting::AsUsed, Caching::Marked)
    );
}

#[tokio::test]
async fn a_timeout_of_its_own_bounds_the_wait() {
    let server = Server::start(Say::Stall(Vec::new())).await;
    let make = |timeout| {
        Anthropic::new(Some(&server.url()), Some(KEY.into()))
            .unwrap()
            .with_timeout(timeout)
    };
    assert!(make(Duration::ZERO).is_err());
    let patient = make(Duration::from_millis(200)).unwrap();
    let error = patient.complete(&request("hi")).await.unwrap_err();
    assert_eq!(error.kind, Kind::Timeout, "{error}");
}
