use ProviderErrorKind as Kind;

use super::*;
use std::time::Duration;

use crate::StructuredOutput;
use crate::http::testing::{Say, Server, quick};
use agenthost_core::llm::{
    CacheTtl, Effort, Message, Options, Part, Provider as _, ProviderErrorKind, Quota, RateLimit, Reply,
};

mod cases;
mod conformance;
mod tools;

const KEY: &str = "sk-proj-QwErTyUiOp";

fn request(text: &str) -> Request {
    Request {
        model: "gpt-6-luna".into(),
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
    let base = format!("{}/v1", server.url());
    let field = MaxTokensField::default();
    OpenAi::bounded(Some(&base), Some(SecretString::from(KEY)), field, quick())
        .unwrap()
        .complete(request)
        .await
}

async fn told(status: u16, headers: &[&str], body: &str) -> Result<Reply, ProviderError> {
    ask(&Server::replying(status, headers, body).await, &request("hi")).await
}

fn completion(message: &Value, finish: &Value, more: &Value) -> String {
    let mut body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-6-luna-2026-11-01",
        "choices": [{"index": 0, "finish_reason": finish, "logprobs": null, "message": message}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14},
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body.to_string()
}

fn said(text: &str) -> Value {
    json!({"role": "assistant", "content": text, "refusal": null})
}

#[tokio::test]
async fn a_request_carries_everything_that_was_asked() {
    let server = Server::replying(200, &[], &completion(&said("ok"), &json!("stop"), &json!({}))).await;
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
                content: vec![Part::Text("c".into())],
            },
        ],
        schema: Some(json!({"title": "My Report", "type": "object", "properties": {"a": {"type": "string"}}})),
        options: Options {
            effort: Some(Effort::Max),
            cache: Some(CacheTtl::FiveMinutes),
            ..Options::default()
        },
        mark_prefix: Some(1),
        ..request("")
    };
    ask(&server, &request).await.unwrap();
    let [seen] = server.seen().try_into().unwrap();
    assert!(
        seen.head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"),
        "{}",
        seen.head
    );
    assert!(seen.head.contains(&format!("authorization: Bearer {KEY}\r\n")));
    assert_eq!(
        seen.body,
        json!({
            "model": "gpt-6-luna",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [
                    {"type": "text", "text": "a"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AQID"}},
                ]},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": "c"},
            ],
            "stream": false,
            "max_completion_tokens": 100,
            "response_format": {"type": "json_schema", "json_schema": {"name": "My_Report", "strict": true, "schema": {
                "type": "object", "title": "My Report", "required": ["a"], "additionalProperties": false,
                "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
            }}},
            "reasoning_effort": "max",
        })
    );
}

#[tokio::test]
async fn a_local_server_gets_no_key_and_the_old_name() {
    let server = Server::replying(200, &[], &completion(&said("ok"), &json!("stop"), &json!({}))).await;
    let provider = OpenAi::bounded(Some(&server.url()), None, MaxTokensField::MaxTokens, quick()).unwrap();
    provider.complete(&request("a")).await.unwrap();
    let [seen] = server.seen().try_into().unwrap();
    assert!(!seen.head.contains("authorization"), "{}", seen.head);
    assert_eq!(
        (&seen.body["max_tokens"], seen.body.get("max_completion_tokens")),
        (&json!(100), None)
    );
}

#[test]
fn a_schemas_title_becomes_a_name() {
    for (title, name) in [
        ("Report", "Report"),
        ("a b/c é", "a_b_c__"),
        ("", "reply"),
        ("☃☃", "reply"),
        (&"x".repeat(99), &"x".repeat(64)),
    ] {
        assert_eq!(openai_api::schema_name(Some(&json!({"title": title}))), name);
    }
    assert_eq!(openai_api::schema_name(None), "reply");
}

#[tokio::test]
async fn what_the_wire_has_no_case_for_is_refused_before_it_is_sent() {
    let server = Server::replying(200, &[], "{}").await;
    let media = |mime: &str| Part::Media {
        mime: mime.into(),
        data: vec![],
    };
    for (role, part, words) in [
        (Role::User, media("application/pdf"), "application/pdf"),
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
async fn content_is_read_in_all_its_forms() {
    for (message, text) in [
        (said("one two"), "one two"),
        (json!({"role": "assistant", "content": null}), ""),
        (json!({"role": "assistant"}), ""),
        (
            json!({"content": [{"type": "text", "text": "one "}, {"type": "thinking", "thinking": "x"}, {"type": "text", "text": "two"}]}),
            "one two",
        ),
        (
            json!({"content": "x", "reasoning_content": "hm", "tool_calls": []}),
            "x",
        ),
    ] {
        let reply = told(
            200,
            &["x-request-id: req_7"],
            &completion(&message, &json!("stop"), &json!({})),
        )
        .await
        .unwrap();
        assert_eq!((reply.text().as_str(), reply.stop), (text, Stop::End));
        assert_eq!(
            (reply.model.as_str(), reply.request_id.as_deref()),
            ("gpt-6-luna-2026-11-01", Some("req_7"))
        );
    }
}

#[tokio::test]
async fn every_finish_reason_is_known() {
    for (reason, stop) in [
        (json!("stop"), Stop::End),
        (json!("length"), Stop::MaxTokens),
        (json!("MAX_TOKENS"), Stop::MaxTokens),
        (json!("model_length"), Stop::MaxTokens),
        (json!("SAFETY"), Stop::Refusal),
        (json!("eos"), Stop::End),
        (json!("tool_calls"), Stop::ToolUse),
        (json!("function_call"), Stop::ToolUse),
        (json!("content_filter"), Stop::Refusal),
        (json!("something_new"), Stop::Other),
        (json!(null), Stop::Other),
    ] {
        assert_eq!(
            told(200, &[], &completion(&said(""), &reason, &json!({})))
                .await
                .unwrap()
                .stop,
            stop
        );
    }
}

#[tokio::test]
async fn a_refusal_says_why() {
    for message in [
        json!({"role": "assistant", "content": null, "refusal": "Not this."}),
        json!({"role": "assistant", "content": [{"type": "refusal", "refusal": "Not this."}]}),
    ] {
        let reply = told(200, &[], &completion(&message, &json!("stop"), &json!({})))
            .await
            .unwrap();
        assert_eq!(
            (reply.stop, reply.refusal.as_deref()),
            (Stop::Refusal, Some("Not this."))
        );
    }
}

#[tokio::test]
async fn usage_is_counted_or_missing_but_never_wrong() {
    let full = json!({
        "prompt_tokens": 3210, "completion_tokens": 40, "total_tokens": 3250,
        "prompt_tokens_details": {"cached_tokens": 3000, "cache_write_tokens": 200},
        "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 0},
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
        (json!({"prompt_tokens": 10, "completion_tokens": 4}), Some(plain)),
        (
            json!({"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14, "prompt_tokens_details": null}),
            Some(plain),
        ),
        // Reasoning outside the completion, as some services count it.
        (
            json!({"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 34, "completion_tokens_details": {"reasoning_tokens": 20}}),
            Some(Usage {
                output: 24,
                reasoning_output: 20,
                ..plain
            }),
        ),
        (
            json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}),
            None,
        ),
        (json!(null), None),
        (json!([]), None),
        (json!({"prompt_tokens": 10}), None),
        (json!({"total_tokens": 10}), None),
        (json!({"prompt_tokens": -10, "completion_tokens": 4}), None),
        (json!({"prompt_tokens": 10, "completion_tokens": u64::MAX}), None),
        (json!({"prompt_tokens": 10.5, "completion_tokens": 4}), None),
        // Other ways to write the same counts.
        (
            json!({"prompt_tokens": 10.0, "completion_tokens": 4.0, "total_tokens": 14.0}),
            Some(plain),
        ),
        (json!({"prompt_tokens": 10, "completion_tokens": "4"}), Some(plain)),
        (json!({"input_tokens": 10, "output_tokens": 4}), Some(plain)),
        (json!({"completion_tokens": 4, "total_tokens": 14}), Some(plain)),
        // An impossible detail says nothing about the counts.
        (
            json!({"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 11}}),
            Some(plain),
        ),
        (
            json!({"prompt_tokens": 10, "completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 5}}),
            Some(plain),
        ),
        (
            json!({"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 3}}),
            Some(Usage {
                cached_input: 8,
                ..plain
            }),
        ),
        (
            json!({"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": "none", "completion_tokens_details": {"reasoning_tokens": -1}}),
            Some(plain),
        ),
    ] {
        let body = completion(&said("x"), &json!("stop"), &json!({"usage": usage}));
        assert_eq!(told(200, &[], &body).await.unwrap().usage, expected, "{usage}");
    }
}

#[tokio::test]
async fn a_failure_is_charged_what_it_reports() {
    let usage = json!({"prompt_tokens": 171, "completion_tokens": 3, "total_tokens": 174});
    let counted = Some(Usage {
        input: 171,
        output: 3,
        ..Usage::default()
    });
    for (status, body) in [
        (200, json!({"choices": [], "usage": usage})),
        (200, json!({"usage": usage})),
        (200, json!({"choices": [{"message": {"content": 7}}], "usage": usage})),
        (200, json!({"error": {"message": "odd"}, "usage": usage})),
        (400, json!({"error": {"message": "odd"}, "usage": usage})),
    ] {
        assert_eq!(
            told(status, &[], &body.to_string())
                .await
                .unwrap_err()
                .usage
                .as_deref()
                .copied(),
            counted,
            "{body}"
        );
    }
    assert_eq!(told(400, &[], "{}").await.unwrap_err().usage, None);
}

#[tokio::test]
async fn a_choice_without_a_message_is_an_empty_reply_if_it_is_finished() {
    for choice in [
        json!({"message": null, "finish_reason": "content_filter"}),
        json!({"finish_reason": "content_filter"}),
    ] {
        let body =
            json!({"choices": [choice], "usage": {"prompt_tokens": 171, "completion_tokens": 0, "total_tokens": 171}});
        let reply = told(200, &[], &body.to_string()).await.unwrap();
        assert_eq!((reply.text(), reply.stop), (String::new(), Stop::Refusal), "{body}");
        assert_eq!(reply.usage.map(|usage| (usage.input, usage.output)), Some((171, 0)));
    }
}

#[tokio::test]
async fn a_stream_that_nobody_asked_for_is_read() {
    let chunk = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        format!("data: {}\n\n", json!({"model": "m-1", "choices": [choice]}))
    };
    let start = chunk(json!({"role": "assistant", "content": "one "}), Value::Null);
    let more = chunk(json!({"content": "two", "reasoning_content": "hm"}), Value::Null);
    let end = chunk(json!({}), json!("length"));
    let usage = "data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 10, \"completion_tokens\": 4}}\n\n";
    let done = "data: [DONE]\n\n";
    let reply = told(
        200,
        &["content-type: text/event-stream"],
        &format!(": hi\n\n{start}{more}{end}{usage}{done}"),
    )
    .await
    .unwrap();
    assert_eq!(
        (reply.text().as_str(), reply.stop, reply.model.as_str()),
        ("one two", Stop::MaxTokens, "m-1")
    );
    assert_eq!(reply.usage.map(|usage| (usage.input, usage.output)), Some((10, 4)));
    // A key that comes in pieces is removed as well.
    let (one, two) = KEY.split_at(9);
    let pieces = [one, two]
        .map(|text| chunk(json!({"content": text}), Value::Null))
        .concat();
    let echo = told(200, &[], &format!("{pieces}{end}{done}")).await.unwrap();
    assert_eq!(echo.text(), "[key]");
    // Without the end, it may be billed.
    let error = told(200, &[], &format!("{start}{usage}")).await.unwrap_err();
    assert_eq!(
        (error.kind, error.may_be_billed, error.usage.is_some()),
        (Kind::Connection, true, true),
        "{error}"
    );
    let failed = "data: {\"error\": {\"message\": \"too much to do\", \"code\": 503}}\n\n";
    let error = told(200, &[], &format!("{start}{failed}")).await.unwrap_err();
    assert_eq!(
        (error.kind, error.message.as_str()),
        (Kind::Overloaded, "too much to do")
    );
    let whole = completion(&said("ok"), &json!("stop"), &json!({}));
    assert_eq!(
        told(200, &[], &format!("{whole}\n\n{done}")).await.unwrap().text(),
        "ok"
    );
    assert_eq!(
        told(200, &[], &format!("data: {whole}\n\n{done}"))
            .await
            .unwrap()
            .text(),
        "ok"
    );
}

#[tokio::test]
async fn broken_characters_cost_nothing_but_themselves() {
    let body = completion(&said("A title X"), &json!("stop"), &json!({}));
    for broken in [&b"\xf0\x9f\x98"[..], b"\\ud83d", b"\\udc00"] {
        let at = body.find('X').unwrap();
        let bytes = [&body.as_bytes()[..at], broken, &body.as_bytes()[at + 1..]].concat();
        let server = Server::start(Say::Bytes(crate::http::testing::reply(200, &[], &bytes))).await;
        let reply = ask(&server, &request("hi")).await.unwrap();
        assert_eq!(reply.text(), "A title \u{fffd}");
        assert_eq!(reply.usage.map(|usage| usage.input + usage.output), Some(14));
    }
}

#[tokio::test]
async fn reasoning_is_read_only_where_a_schema_finds_the_answer_in_it() {
    let asked = Request {
        schema: Some(json!({"type": "object"})),
        ..request("hi")
    };
    for (message, plain, structured) in [
        (
            json!({"content": "", "reasoning_content": "{}"}),
            "",
            "<think>{}</think>",
        ),
        (json!({"content": null, "reasoning": "{}"}), "", "<think>{}</think>"),
        (json!({"content": "x", "reasoning_content": "{}"}), "x", "x"),
        (json!({"content": "", "reasoning_content": " "}), "", ""),
    ] {
        let server = Server::replying(200, &[], &completion(&message, &json!("stop"), &json!({}))).await;
        assert_eq!(ask(&server, &request("hi")).await.unwrap().text(), plain, "{message}");
        assert_eq!(ask(&server, &asked).await.unwrap().text(), structured, "{message}");
    }
}

fn error(kind: &str, code: &Value, message: &str) -> String {
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}}).to_string()
}

#[tokio::test]
async fn every_error_has_its_kind() {
    let tpm = |limit: u64, used: u64, requested: u64| {
        format!(
            "Rate limit reached for gpt-6-luna in organization org-1 on tokens per min (TPM): Limit {limit}, Used {used}, Requested {requested}. Please try again in 84ms."
        )
    };
    let too_large = "Request too large for gpt-6-luna in organization org-1 on tokens per min (TPM): Limit 30000, Requested 34307. The input or output tokens must be reduced.";
    let quota = "insufficient_quota";
    let invalid = "invalid_request_error";
    for (status, body, kind) in [
        (429, error("tokens", &json!("rate_limit_exceeded"), &tpm(200_000, 195_869, 4_412)), Kind::RateLimited),
        (429, error("requests", &json!("rate_limit_exceeded"), "Limit 3, Used 3, Requested 1."), Kind::RateLimited),
        (429, error("tokens", &json!("rate_limit_exceeded"), too_large), Kind::TooLarge),
        (429, error("tokens", &json!(null), too_large), Kind::TooLarge),
        (429, error("rate_limit_error", &json!("slow_down"), "Slow down."), Kind::RateLimited),
        (429, error(quota, &json!("credit_balance_exhausted"), "x"), Kind::SpendCap),
        (429, error(quota, &json!("organization_spend_limit_exceeded"), "x"), Kind::SpendCap),
        (429, error(quota, &json!("project_spend_limit_exceeded"), "x"), Kind::SpendCap),
        (429, error(quota, &json!("organization_usage_limit_exceeded"), "x"), Kind::SpendCap),
        (429, error(quota, &json!("insufficient_quota"), "You exceeded your current quota"), Kind::SpendCap),
        (429, error(quota, &json!("something_new"), "x"), Kind::SpendCap),
        (429, error("", &json!(null), "too many"), Kind::RateLimited),
        (503, error("service_unavailable_error", &json!("server_is_overloaded"), "x"), Kind::Overloaded),
        (400, error(invalid, &json!("context_length_exceeded"), "x"), Kind::ContextOverflow),
        (400, error(invalid, &json!(null), "messages: required"), Kind::InvalidRequest),
        (401, error(invalid, &json!("invalid_api_key"), "Incorrect API key provided"), Kind::Authentication),
        (403, error(invalid, &json!("unsupported_country"), "x"), Kind::Permission),
        (404, error(invalid, &json!("model_not_found"), "x"), Kind::NotFound),
        (409, error("", &json!(null), "conflict"), Kind::Server),
        (413, error("tokens", &json!("rate_limit_exceeded"), too_large), Kind::TooLarge),
        (500, error("server_error", &json!(null), "x"), Kind::Server),
        // vLLM, Ollama, llama.cpp, OpenRouter.
        (400, json!({"object": "error", "message": "This model's maximum context length is 4096 tokens. However, you requested 5000", "type": "BadRequestError", "code": 400}).to_string(), Kind::ContextOverflow),
        (400, error("BadRequestError", &json!(400), "This model's maximum context length is 4096 tokens."), Kind::ContextOverflow),
        (400, error("exceed_context_size_error", &json!(400), "the request exceeds the available context size"), Kind::ContextOverflow),
        (404, error("not_found_error", &json!(null), "model \"x\" not found, try pulling it first"), Kind::NotFound),
        (422, json!({"detail": "bad"}).to_string(), Kind::InvalidRequest),
        (402, error("", &json!(402), "Insufficient credits"), Kind::SpendCap),
        (200, json!({"error": {"code": 502, "message": "Provider returned error", "metadata": {}}}).to_string(), Kind::Overloaded),
        (200, json!({"error": {"code": 429, "message": "free tier"}}).to_string(), Kind::RateLimited),
        (200, json!({"error": {"message": "odd"}}).to_string(), Kind::Server),
        (200, json!({"error": "odd"}).to_string(), Kind::Server),
        (200, json!({"choices": [{"error": {"code": 502, "message": "broke"}, "finish_reason": "error", "message": {"content": "half"}}]}).to_string(), Kind::Overloaded),
        (502, "<html><head><title>502 Bad Gateway</title></head></html>".into(), Kind::Overloaded),
        (504, String::new(), Kind::Timeout),
        (408, String::new(), Kind::Timeout),
        (413, "<html>".into(), Kind::TooLarge),
        (308, String::new(), Kind::NotFound),
        (200, String::new(), Kind::BadReply),
        (200, "<html>hello</html>".into(), Kind::BadReply),
        (200, "{}".into(), Kind::BadReply),
        (200, "null".into(), Kind::BadReply),
        (200, "{\"choices\": []}".into(), Kind::BadReply),
        (200, "{\"choices\": [{}]}".into(), Kind::BadReply),
        (200, "{\"choices\": [{\"message\": {\"content\": 7}}]}".into(), Kind::BadReply),
        (200, "{\"choices\": [{\"message\": {\"content\": [7]}}]}".into(), Kind::BadReply),
    ] {
        let error = told(status, &[], &body).await.unwrap_err();
        assert_eq!((error.kind, error.status), (kind, Some(status)), "{body}: {error}");
        assert!(!error.message.is_empty() && error.message.chars().count() <= 301);
    }
}

#[tokio::test]
async fn limits_are_read_from_replies_and_from_errors() {
    let headers = [
        "x-ratelimit-limit-tokens: 200000",
        "x-ratelimit-remaining-tokens: 149984",
        "x-ratelimit-reset-tokens: 6m0s",
        "x-should-retry: false",
    ];
    let expected = Quota {
        tokens: Some(RateLimit {
            limit: 200_000,
            remaining: 149_984,
            reset: Some(Duration::from_secs(360)),
        }),
        ..Quota::default()
    };
    let body = completion(&said("ok"), &json!("stop"), &json!({}));
    let reply = told(200, &headers, &body).await.unwrap();
    assert_eq!(reply.quota.as_deref(), Some(&expected));
    let failed = error("tokens", &json!("rate_limit_exceeded"), "x");
    let failure = told(429, &headers, &failed).await.unwrap_err();
    assert_eq!((failure.quota.as_deref(), failure.no_retry), (Some(&expected), true));
    let failure = told(429, &["x-should-retry: true"], &failed).await.unwrap_err();
    assert_eq!((failure.quota, failure.no_retry), (None, false));
}

#[tokio::test]
async fn a_timeout_of_its_own_bounds_the_wait() {
    let server = Server::start(Say::Stall(Vec::new())).await;
    let provider = OpenAi::new(Some(&server.url()), None, MaxTokensField::default()).unwrap();
    let provider = provider.with_timeout(Duration::from_millis(200)).unwrap();
    let error = provider.complete(&request("hi")).await.unwrap_err();
    assert_eq!(error.kind, Kind::Timeout, "{error}");
    assert_eq!(
        (provider.counting(), provider.caching()),
        (Counting::UpFront, Caching::Automatic)
    );
}

#[tokio::test]
async fn an_error_tells_when_to_come_back_and_keeps_the_key() {
    let body = error(
        "invalid_request_error",
        &json!("invalid_api_key"),
        &format!("Incorrect API key provided: sk-proj-****UiOp, not {KEY}. See docs"),
    );
    let error = told(401, &["retry-after-ms: 84", "x-request-id: req_1"], &body)
        .await
        .unwrap_err();
    assert_eq!(error.retry_after, Some(std::time::Duration::from_millis(84)));
    assert_eq!(
        error.to_string(),
        "Incorrect API key provided: [key], not [key]. See docs (request req_1)"
    );
    let provider = OpenAi::new(None, Some(KEY.to_owned()), MaxTokensField::default()).unwrap();
    assert!(!format!("{provider:?}").contains("QwErTy"));
    assert_eq!(
        provider.summary(),
        "openai-compatible at https://api.openai.com/v1/chat/completions"
    );
}

fn title_schema() -> Value {
    json!({"type": "object", "properties": {"best": {"type": "string"}}, "required": ["best"], "additionalProperties": false})
}

fn structured() -> Request {
    Request {
        schema: Some(title_schema()),
        ..request("hi")
    }
}

fn provider_at(server: &Server) -> OpenAi {
    OpenAi::bounded(
        Some(&format!("{}/v1", server.url())),
        None,
        MaxTokensField::default(),
        quick(),
    )
    .unwrap()
}

/// The `response_format` of a request, and whether its system text has the schema.
fn asked(body: &Value) -> (Option<&str>, bool) {
    let system = body["messages"][0]["role"] == "system"
        && body["messages"][0]["content"].as_str().unwrap().contains("\"best\"");
    (
        body.pointer("/response_format/type").map(|kind| kind.as_str().unwrap()),
        system,
    )
}

#[tokio::test]
async fn a_model_that_refuses_the_parameter_gets_the_schema_as_text_from_then_on() {
    let body = error(
        "invalid_request_error",
        &json!("invalid_request_error"),
        "This response_format type is unavailable now",
    );
    let server = Server::replying(400, &[], &body).await;
    let provider = provider_at(&server);
    let first = provider.complete(&structured()).await.unwrap_err();
    assert_eq!(first.kind, Kind::FormatRefused, "{first}");
    // A service that refuses the second form, too, has a request that it cannot serve.
    let second = provider.complete(&structured()).await.unwrap_err();
    assert_eq!(second.kind, Kind::InvalidRequest, "{second}");
    let other = Request {
        model: "other".into(),
        ..structured()
    };
    provider.complete(&other).await.unwrap_err();
    let seen = server.seen();
    let forms: Vec<_> = seen.iter().map(|seen| asked(&seen.body)).collect();
    assert_eq!(
        forms,
        [(Some("json_schema"), false), (None, true), (Some("json_schema"), false)]
    );
    // Without a schema, no form was refused.
    assert_eq!(
        provider.complete(&request("hi")).await.unwrap_err().kind,
        Kind::InvalidRequest
    );
}

#[tokio::test]
async fn the_form_of_structured_output_is_a_setting() {
    let refused = error(
        "invalid_request_error",
        &json!(null),
        "This response_format type is unavailable now",
    );
    for (setting, form) in [
        (StructuredOutput::Schema, (Some("json_schema"), false)),
        (StructuredOutput::JsonObject, (Some("json_object"), true)),
        (StructuredOutput::Prompt, (None, true)),
    ] {
        let server = Server::replying(400, &[], &refused).await;
        let provider = provider_at(&server).with_structured_output(setting);
        for _ in 0..2 {
            let error = provider.complete(&structured()).await.unwrap_err();
            assert_eq!(error.kind, Kind::InvalidRequest, "{setting:?}");
        }
        for seen in server.seen() {
            assert_eq!(asked(&seen.body), form, "{setting:?}");
        }
    }
}

#[tokio::test]
async fn a_reply_that_the_service_rejected_is_a_reply() {
    let body = json!({"error": {
        "message": "Failed to generate JSON.", "code": "json_validate_failed", "failed_generation": "{\"best\": ",
    }})
    .to_string();
    let server = Server::replying(400, &[], &body).await;
    let provider = provider_at(&server);
    let reply = provider.complete(&structured()).await.unwrap();
    assert_eq!(
        (reply.text().as_str(), reply.stop, reply.usage),
        ("{\"best\": ", Stop::Other, None)
    );
    let error = provider.complete(&request("hi")).await.unwrap_err();
    assert_eq!(error.kind, Kind::InvalidReply);
}

#[tokio::test]
async fn a_form_that_the_operator_chose_and_the_service_refuses_names_its_setting() {
    let refused = error(
        "invalid_request_error",
        &json!("unsupported_parameter"),
        "response_format json_schema is not supported",
    );
    let server = Server::replying(400, &[], &refused).await;
    let schema = Request {
        schema: Some(json!({"type": "object"})),
        ..request("hi")
    };
    for (setting, advice) in [
        (StructuredOutput::Schema, Some("set structured-output = \"prompt\"")),
        (StructuredOutput::JsonObject, Some("set structured-output = \"prompt\"")),
        (StructuredOutput::Prompt, None),
    ] {
        let provider = provider_at(&server).with_structured_output(setting);
        let error = provider.complete(&schema).await.unwrap_err();
        let shown = error.setting.map(|setting| setting.to_string());
        assert_eq!(
            (error.kind, shown.as_deref()),
            (Kind::InvalidRequest, advice),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_error_says_what_to_change() {
    let unknown = error(
        "invalid_request_error",
        &json!(null),
        "Unrecognized request argument supplied: max_completion_tokens",
    );
    let message = told(400, &[], &unknown).await.unwrap_err().to_string();
    assert!(
        message.ends_with("; set max-tokens-field = \"max-tokens\" for this provider"),
        "{message}"
    );
    let other = error(
        "invalid_request_error",
        &json!("unsupported_parameter"),
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    );
    let server = Server::replying(400, &[], &other).await;
    let old = OpenAi::bounded(Some(&server.url()), None, MaxTokensField::MaxTokens, quick()).unwrap();
    let message = old.complete(&request("hi")).await.unwrap_err().to_string();
    assert!(
        message.ends_with("; set max-tokens-field = \"max-completion-tokens\" for this provider"),
        "{message}"
    );
    let message = told(400, &[], &other).await.unwrap_err().to_string();
    assert!(!message.contains("max-tokens-field"), "{message}");
    let strict =
        json!({"detail": [{"loc": ["body", "max_completion_tokens"], "msg": "Extra inputs are not permitted"}]})
            .to_string();
    let message = told(422, &[], &strict).await.unwrap_err().to_string();
    assert!(message.contains("max-tokens-field"), "{message}");

    let server = Server::replying(404, &["content-type: text/plain"], "404 page not found").await;
    let without = OpenAi::bounded(Some(&server.url()), None, MaxTokensField::default(), quick()).unwrap();
    let error = without.complete(&request("hi")).await.unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
    let asked = format!(
        "; the address was {}/chat/completions; the base-url of most such services ends in /v1; check base-url for this \
         provider",
        server.url()
    );
    assert!(error.to_string().ends_with(&asked), "{error}");
    let error = provider_at(&server).complete(&request("hi")).await.unwrap_err();
    assert!(
        error
            .message
            .ends_with(&format!("the address was {}/v1/chat/completions", server.url())),
        "{error}"
    );
    let deployment = format!("{}/openai/deployments/a", server.url());
    let azure = OpenAi::bounded(Some(&deployment), None, MaxTokensField::default(), quick()).unwrap();
    let error = azure.complete(&request("hi")).await.unwrap_err();
    assert!(
        error.message.ends_with("/openai/deployments/a/chat/completions"),
        "{error}"
    );
    let model = told(404, &[], &error_404()).await.unwrap_err().to_string();
    assert!(!model.contains("address"), "{model}");
}

fn error_404() -> String {
    error(
        "not_found_error",
        &json!(null),
        "model \"x\" not found, try pulling it first",
    )
}

#[tokio::test]
async fn the_later_of_two_times_to_come_back_counts() {
    let body = json!([{"error": {"code": 429, "message": "Please retry in 12.4s.", "status": "RESOURCE_EXHAUSTED", "details": [{"retryDelay": "12s"}]}}]).to_string();
    for (headers, seconds) in [
        (&[][..], 12.4),
        (&["retry-after: 3"], 12.4),
        (&["retry-after: 30"], 30.0),
        (&["x-ratelimit-reset-requests: 60"], 12.4),
    ] {
        let error = told(429, headers, &body).await.unwrap_err();
        assert_eq!(
            (error.kind, error.retry_after),
            (Kind::RateLimited, Some(Duration::from_secs_f64(seconds))),
            "{headers:?}"
        );
    }
    let silent = error("tokens", &json!("rate_limit_exceeded"), "x");
    let error = told(429, &["x-ratelimit-reset-tokens: 9"], &silent).await.unwrap_err();
    assert_eq!(error.retry_after, Some(Duration::from_secs(9)));
    // Only a refusal for now has a time.
    let error = told(400, &[], &body.replace("429", "400")).await.unwrap_err();
    assert_eq!((error.kind, error.retry_after), (Kind::InvalidRequest, None));
}
