use ProviderErrorKind as Kind;

use super::*;
use std::time::Duration;

use crate::http::testing::{Server, quick};
use agenthost_core::error::Classify as _;
use agenthost_core::llm::{Effort, Message, Part, Provider as _, ProviderErrorKind, Reply};

mod conformance;
mod limits;
mod prefix;
mod tools;

const KEY: &str = "sk-ant-api03-QwErTyUiOp";

fn request(text: &str) -> Request {
    Request {
        model: "claude-haiku-5-5".into(),
        system: None,
        messages: vec![Message {
            role: Role::User,
            content: vec![Part::Text(text.into())],
        }],
        max_tokens: 100,
        schema: None,
        options: Options::default(),
        mark_prefix: None,
    }
}

async fn ask(server: &Server, request: &Request) -> Result<Reply, ProviderError> {
    Anthropic::bounded(Some(&server.url()), Some(SecretString::from(KEY)), quick())
        .unwrap()
        .complete(request)
        .await
}

async fn told(status: u16, headers: &[&str], body: &str) -> Result<Reply, ProviderError> {
    ask(&Server::replying(status, headers, body).await, &request("hi")).await
}

fn message(content: &Value, stop: &str, more: &Value) -> String {
    let mut body = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-5-5-20261001", "content": content,
        "stop_reason": stop, "stop_sequence": null, "stop_details": null, "container": null, "diagnostics": null,
        "usage": {"input_tokens": 10, "output_tokens": 4},
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body.to_string()
}

#[tokio::test]
async fn a_request_carries_everything_that_was_asked() {
    let server = Server::replying(200, &[], &message(&json!([]), "end_turn", &json!({}))).await;
    let request = Request {
        system: Some("Be brief.".into()),
        messages: vec![
            Message {
                role: Role::User,
                content: vec![
                    Part::Text("a".into()),
                    Part::Media {
                        mime: "image/png".into(),
                        data: vec![1, 2, 3],
                    },
                ],
            },
            Message {
                role: Role::Assistant,
                content: vec![Part::Text("b".into())],
            },
            Message {
                role: Role::User,
                content: vec![Part::Media {
                    mime: "application/pdf".into(),
                    data: vec![37],
                }],
            },
        ],
        schema: Some(json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]})),
        options: Options {
            effort: Some(Effort::Xhigh),
            cache: Some(CacheTtl::OneHour),
            ..Options::default()
        },
        ..request("")
    };
    ask(&server, &request).await.unwrap();
    let [seen] = server.seen().try_into().unwrap();
    assert!(seen.head.starts_with("POST /v1/messages HTTP/1.1\r\n"), "{}", seen.head);
    assert!(
        seen.head.contains("anthropic-version: 2026-10-21\r\n") && seen.head.contains(&format!("x-api-key: {KEY}\r\n"))
    );
    assert_eq!(
        seen.body,
        json!({
            "model": "claude-haiku-5-5",
            "max_tokens": 100,
            "system": "Be brief.",
            "stream": false,
            "messages": [
                {"role": "user", "content": [
                    {"type": "text", "text": "a"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AQID"}},
                ]},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": [
                    {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JQ=="}},
                ]},
            ],
            "output_config": {
                "effort": "xhigh",
                "format": {"type": "json_schema", "schema": {
                    "type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false,
                }},
            },
            "cache_control": {"type": "ephemeral", "ttl": "1h"},
        })
    );
}

#[tokio::test]
async fn nothing_but_the_body_comes_from_the_task() {
    let server = Server::replying(200, &[], &message(&json!([]), "end_turn", &json!({}))).await;
    let evil = "x\r\nx-evil: 1\r\n\r\nGET /";
    let request = Request {
        model: evil.into(),
        system: Some(evil.into()),
        ..request(evil)
    };
    ask(&server, &request).await.unwrap();
    let [seen] = server.seen().try_into().unwrap();
    assert!(!seen.head.contains("evil"), "{}", seen.head);
    assert_eq!(seen.body.pointer("/messages/0/content").unwrap(), evil);
    assert_eq!(seen.body["model"], evil);
}

#[tokio::test]
async fn a_schema_that_does_not_fit_is_asked_for_in_words() {
    let schema = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let asked = Request {
        schema: Some(schema),
        system: Some("S".into()),
        ..request("a")
    };
    let body = encode(&asked, Form::Schema).unwrap();
    assert!(body.get("output_config").is_none());
    let system = body["system"].as_str().unwrap();
    assert!(
        system.starts_with("S\n\nReply with one JSON value") && system.contains("\"additionalProperties\""),
        "{system}"
    );
}

#[tokio::test]
async fn what_the_wire_has_no_case_for_is_refused_before_it_is_sent() {
    let server = Server::replying(200, &[], "{}").await;
    let media = |mime: &str| Part::Media {
        mime: mime.into(),
        data: vec![],
    };
    for (role, part, words) in [
        (Role::User, media("audio/wav"), "audio/wav"),
        (Role::User, media("image/png\",\"x"), "image/png"),
        (Role::Assistant, media("image/png"), "user messages only"),
        (
            Role::User,
            Part::Extension {
                kind: "video".into(),
                json: "{}".into(),
            },
            "\"video\"",
        ),
    ] {
        let request = Request {
            messages: vec![Message {
                role,
                content: vec![part],
            }],
            ..request("")
        };
        let error = ask(&server, &request).await.unwrap_err();
        assert_eq!(error.kind, Kind::InvalidRequest);
        assert!(error.message.contains(words), "{error}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn thinking_is_left_out_and_text_is_kept() {
    let content = json!([
        {"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "one "}, {"type": "text", "text": "two"}, {"type": "server_tool_use", "id": "1"},
    ]);
    let reply = told(200, &["request-id: req_7"], &message(&content, "end_turn", &json!({})))
        .await
        .unwrap();
    assert_eq!(reply.text(), "one two");
    assert_eq!(reply.content.len(), 3);
    assert!(matches!(&reply.content[2], Part::Extension { kind, .. } if kind == "server_tool_use"));
    assert_eq!(
        (reply.model.as_str(), reply.request_id.as_deref()),
        ("claude-haiku-5-5-20261001", Some("req_7"))
    );
}

#[tokio::test]
async fn every_stop_reason_is_known() {
    for (reason, stop) in [
        ("end_turn", Stop::End),
        ("max_tokens", Stop::MaxTokens),
        ("stop_sequence", Stop::StopSequence),
        ("tool_use", Stop::ToolUse),
        ("pause_turn", Stop::Other),
        ("refusal", Stop::Refusal),
        ("model_context_window_exceeded", Stop::ContextFull),
        ("something_new", Stop::Other),
    ] {
        assert_eq!(
            told(200, &[], &message(&json!([]), reason, &json!({})))
                .await
                .unwrap()
                .stop,
            stop
        );
    }
}

#[tokio::test]
async fn a_refusal_says_why() {
    for (details, words) in [
        (
            json!({"type": "refusal", "category": "cyber", "explanation": "Not this."}),
            Some("Not this."),
        ),
        (
            json!({"type": "refusal", "category": "cyber", "explanation": null}),
            Some("cyber"),
        ),
        (json!({"type": "refusal", "category": null, "explanation": ""}), None),
        (Value::Null, None),
    ] {
        let body = message(&json!([]), "refusal", &json!({"stop_details": details}));
        let reply = told(200, &[], &body).await.unwrap();
        assert_eq!((reply.stop, reply.refusal.as_deref()), (Stop::Refusal, words));
    }
}

#[tokio::test]
async fn usage_is_counted_or_missing_but_never_wrong() {
    let full = json!({
        "input_tokens": 10, "output_tokens": 40, "cache_creation_input_tokens": 200, "cache_read_input_tokens": 3000,
        "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 0},
        "output_tokens_details": {"thinking_tokens": 30}, "server_tool_use": null, "service_tier": "standard",
    });
    let expected = Usage {
        input: 3210,
        cached_input: 3000,
        cache_write_input: 200,
        output: 40,
        reasoning_output: 30,
        searches: 0,
    };
    let plain = Usage {
        input: 10,
        output: 4,
        ..Usage::default()
    };
    for (usage, expected) in [
        (full, Some(expected)),
        (json!({"input_tokens": 10, "output_tokens": 4}), Some(plain)),
        (
            json!({"input_tokens": 10, "output_tokens": 4, "cache_read_input_tokens": null}),
            Some(plain),
        ),
        (json!({"input_tokens": 0, "output_tokens": 0}), None),
        (json!(null), None),
        (json!("many"), None),
        (json!({"input_tokens": 10}), None),
        (json!({"output_tokens": 4}), None),
        (json!({"input_tokens": -10, "output_tokens": 4}), None),
        (json!({"input_tokens": 10.5, "output_tokens": 4}), None),
        (
            json!({"input_tokens": 10, "output_tokens": 4, "cache_read_input_tokens": -1}),
            None,
        ),
        (json!({"input_tokens": 10, "output_tokens": u64::MAX}), None),
        (
            json!({"input_tokens": u64::MAX, "output_tokens": 4, "cache_read_input_tokens": u64::MAX}),
            None,
        ),
        (
            json!({"input_tokens": 10, "output_tokens": 4, "output_tokens_details": {"thinking_tokens": 5}}),
            Some(plain),
        ),
        (json!({"input_tokens": 10.0, "output_tokens": "4"}), Some(plain)),
    ] {
        let body = message(&json!([]), "end_turn", &json!({"usage": usage}));
        assert_eq!(told(200, &[], &body).await.unwrap().usage, expected, "{usage}");
    }
    let body = json!({"type": "message", "content": [], "stop_reason": "end_turn"}).to_string();
    let reply = told(200, &[], &body).await.unwrap();
    assert_eq!((reply.usage, reply.model.as_str()), (None, "claude-haiku-5-5"));
}

#[tokio::test]
async fn a_failure_is_charged_what_it_reports() {
    let usage = json!({"input_tokens": 171, "output_tokens": 3});
    for (status, body) in [
        (200, json!({"type": "message", "content": 7, "usage": usage})),
        (200, json!({"type": "message", "usage": usage})),
        (
            500,
            json!({"type": "error", "error": {"type": "api_error", "message": "x"}, "usage": usage}),
        ),
    ] {
        let error = told(status, &[], &body.to_string()).await.unwrap_err();
        assert_eq!(
            error.usage.map(|usage| (usage.input, usage.output)),
            Some((171, 3)),
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_stream_that_nobody_asked_for_is_read() {
    let events = |events: &[Value]| -> String {
        let event = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
        events.iter().map(event).collect()
    };
    let start = json!({"type": "message_start", "message": {
        "type": "message", "model": "m-1", "content": [], "stop_reason": null, "usage": {"input_tokens": 10, "output_tokens": 1},
    }});
    let block =
        |kind: &str| json!({"type": "content_block_start", "index": 0, "content_block": {"type": kind, kind: ""}});
    let delta = |name: &str, text: &str| json!({"type": "content_block_delta", "delta": {"type": "x", name: text}});
    let end = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4, "input_tokens": null}});
    let stop = json!({"type": "message_stop"});
    let begun = [
        start,
        json!({"type": "ping"}),
        block("thinking"),
        delta("thinking", "hm"),
        block("text"),
        delta("text", "one "),
    ];
    let whole = [&begun[..], &[delta("text", "two"), end, stop]].concat();
    let reply = told(200, &[], &events(&whole)).await.unwrap();
    assert_eq!(
        (reply.text().as_str(), reply.stop, reply.model.as_str()),
        ("one two", Stop::End, "m-1")
    );
    assert_eq!(reply.usage.map(|usage| (usage.input, usage.output)), Some((10, 4)));
    let error = told(200, &[], &events(&begun)).await.unwrap_err();
    assert_eq!((error.kind, error.may_be_billed), (Kind::Connection, true), "{error}");
    let overloaded = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    let error = told(200, &[], &events(&[&begun[..], &[overloaded]].concat()))
        .await
        .unwrap_err();
    assert_eq!((error.kind, error.usage.is_some()), (Kind::Overloaded, true), "{error}");
}

fn error(kind: &str, message: &str, code: Option<&str>) -> String {
    let mut error = json!({"type": kind, "message": message});
    if let Some(code) = code {
        error["details"] = json!({"error_code": code});
    }
    json!({"type": "error", "error": error, "request_id": "req_body"}).to_string()
}

#[tokio::test]
async fn every_error_has_its_kind() {
    let invalid = "invalid_request_error";
    let limit = "rate_limit_error";
    for (status, body, kind) in [
        (400, error(invalid, "messages: required", None), Kind::InvalidRequest),
        (
            400,
            error(invalid, "prompt is too long: 274468 tokens > 200000 maximum", None),
            Kind::ContextOverflow,
        ),
        (
            400,
            error(
                invalid,
                "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
                None,
            ),
            Kind::ContextOverflow,
        ),
        (
            400,
            error(
                invalid,
                "You have reached your specified API usage limits. You will regain access on 2026-12-01",
                None,
            ),
            Kind::SpendCap,
        ),
        (
            400,
            error(invalid, "Your credit balance is too low to access the API.", None),
            Kind::SpendCap,
        ),
        (
            400,
            error(
                invalid,
                "Schemas contains too many optional parameters (30) (limit: 24)",
                None,
            ),
            Kind::InvalidRequest,
        ),
        (
            401,
            error("authentication_error", "invalid x-api-key", None),
            Kind::Authentication,
        ),
        (402, error("billing_error", "payment failed", None), Kind::SpendCap),
        (403, error("permission_error", "no", None), Kind::Permission),
        (404, error("not_found_error", "model: claude-x", None), Kind::NotFound),
        (409, error("conflict_error", "conflict", None), Kind::Server),
        (413, error("request_too_large", "too large", None), Kind::TooLarge),
        (429, error(limit, "requests per minute", None), Kind::RateLimited),
        (
            429,
            error(limit, "ramping up", Some("ramp_limit_exceeded")),
            Kind::RateLimited,
        ),
        (
            429,
            error(limit, "monthly spend", Some("enforced_spend_limit_reached")),
            Kind::SpendCap,
        ),
        (
            429,
            error(limit, "contract", Some("contract_spend_limit_reached")),
            Kind::SpendCap,
        ),
        (500, error("api_error", "oops", None), Kind::Server),
        (504, error("timeout_error", "took too long", None), Kind::Timeout),
        (529, error("overloaded_error", "Overloaded", None), Kind::Overloaded),
        // The type decides, not the status, and even a status of success may hide an error.
        (400, error("overloaded_error", "Overloaded", None), Kind::Overloaded),
        (200, error("overloaded_error", "Overloaded", None), Kind::Overloaded),
        (418, error("teapot_error", "new", None), Kind::InvalidRequest),
        (
            502,
            "<html><head><title>502 Bad Gateway</title></head></html>".into(),
            Kind::Overloaded,
        ),
        (503, "<html>".into(), Kind::Overloaded),
        (504, "gateway timeout".into(), Kind::Timeout),
        (500, String::new(), Kind::Server),
        (520, "error code: 520".into(), Kind::Server),
        (429, String::new(), Kind::RateLimited),
        (413, "<html>413".into(), Kind::TooLarge),
        (403, "[]".into(), Kind::Permission),
        (404, "{\"detail\": \"Not Found\"}".into(), Kind::NotFound),
        (307, String::new(), Kind::NotFound),
        (200, String::new(), Kind::BadReply),
        (200, "<html>hello</html>".into(), Kind::BadReply),
        (200, "{\"type\": \"message\"".into(), Kind::BadReply),
        (200, "{}".into(), Kind::BadReply),
        (200, "null".into(), Kind::BadReply),
        (200, "{\"content\": \"text\"}".into(), Kind::BadReply),
        (200, "{\"content\": [{\"type\": \"text\"}]}".into(), Kind::BadReply),
        (200, "{\"content\": [1]}".into(), Kind::BadReply),
        (
            200,
            format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)),
            Kind::BadReply,
        ),
    ] {
        let error = told(status, &[], &body).await.unwrap_err();
        assert_eq!((error.kind, error.status), (kind, Some(status)), "{body:.100}: {error}");
        assert!(!error.message.is_empty() && error.message.chars().count() <= 301);
    }
}

#[tokio::test]
async fn an_error_tells_when_to_come_back_and_whom_to_ask() {
    let body = error("rate_limit_error", "slow\u{1b}[31m down", None);
    let error = told(429, &["retry-after: 7", "request-id: req_head"], &body)
        .await
        .unwrap_err();
    assert_eq!(error.retry_after, Some(std::time::Duration::from_secs(7)));
    assert_eq!(error.to_string(), "slow [31m down (request req_head)");
    let error = told(429, &["retry-after-ms: 250"], &body).await.unwrap_err();
    assert_eq!(error.retry_after, Some(std::time::Duration::from_millis(250)));
    assert_eq!(error.request_id.as_deref(), Some("req_body"));
}

#[tokio::test]
async fn no_key_comes_back_out() {
    let body = error(
        "authentication_error",
        &format!("key {KEY} or sk-ant-***iOp is wrong"),
        None,
    );
    let error = told(401, &[&format!("request-id: {KEY}")], &body).await.unwrap_err();
    assert_eq!(error.message, "key [key] or [key] is wrong");
    let reply = message(
        &json!([{"type": "text", "text": KEY}]),
        "end_turn",
        &json!({"model": KEY}),
    );
    let reply = told(200, &[&format!("request-id: {KEY}")], &reply).await.unwrap();
    let provider = Anthropic::new(None, Some(KEY.into())).unwrap();
    let all = format!("{error:?} {reply:?} {provider:?} {}", provider.summary());
    assert!(!all.contains("QwErTy"), "{all}");
    assert_eq!(provider.summary(), "anthropic at https://api.anthropic.com/v1/messages");
}

#[test]
fn a_base_url_with_the_version_is_refused() {
    let error = Anthropic::new(Some("https://api.anthropic.com/v1/"), Some(KEY.into())).unwrap_err();
    assert!(matches!(error, ProviderSetupError::VersionInBaseUrl));
    assert!(error.hint().unwrap().contains("/v1"));
}

#[tokio::test]
async fn a_local_server_gets_no_key() {
    let server = Server::replying(200, &[], &message(&json!([]), "end_turn", &json!({}))).await;
    let provider = Anthropic::new(Some(&server.url()), None).unwrap();
    provider.complete(&request("hi")).await.unwrap();
    let [seen] = server.seen().try_into().unwrap();
    assert!(!seen.head.contains("x-api-key"), "{}", seen.head);
}

#[tokio::test]
async fn a_model_that_refuses_the_parameter_gets_the_schema_as_text_from_then_on() {
    let body = error(
        "invalid_request_error",
        "output_config.format: Extra inputs are not permitted",
        None,
    );
    let server = Server::replying(400, &[], &body).await;
    let asked = Request {
        schema: Some(json!({"type": "object", "properties": {"best": {"type": "string"}}, "required": ["best"]})),
        ..request("hi")
    };
    let provider = Anthropic::new(Some(&server.url()), None).unwrap();
    assert_eq!(provider.complete(&asked).await.unwrap_err().kind, Kind::FormatRefused);
    assert_eq!(provider.complete(&asked).await.unwrap_err().kind, Kind::InvalidRequest);
    let seen = server.seen();
    assert!(seen[0].body.pointer("/output_config/format").is_some() && seen[0].body.get("system").is_none());
    assert!(seen[1].body.get("output_config").is_none());
    assert!(seen[1].body["system"].as_str().unwrap().contains("\"best\""));
}
