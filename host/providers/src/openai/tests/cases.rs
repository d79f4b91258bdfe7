//! Replies and errors of model servers as public bug reports show them, each with the right reading.

use std::time::Duration;

use super::*;
use crate::schema::Checker;

fn title() -> Request {
    Request {
        schema: Some(json!({
            "type": "object",
            "properties": {"best": {"type": "string"}, "others": {"type": "array", "items": {"type": "string"}}},
            "required": ["best", "others"],
            "additionalProperties": false,
        })),
        max_tokens: 300,
        ..request("Name it.")
    }
}

const TITLE: &str = r#"{"best": "A title", "others": ["B", "C", "D"]}"#;

/// The best title of a reply, or why there is none, and the tokens that were counted.
async fn best(headers: &[&str], body: &[u8]) -> (Result<String, String>, Option<u64>) {
    let server = Server::start(Say::Bytes(crate::http::testing::reply(200, headers, body))).await;
    let request = title();
    let reply = ask(&server, &request).await.unwrap();
    let checker = Checker::new(request.schema.as_ref().unwrap()).unwrap();
    let value = checker.accept(&reply.text()).map_err(|unfit| unfit.why);
    let best = value.map(|accepted| accepted.value["best"].as_str().unwrap().to_owned());
    (best, reply.usage.map(|usage| usage.input + usage.output))
}

fn content(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

fn body(message: &Value) -> String {
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120});
    completion(message, &json!("stop"), &json!({"usage": usage}))
}

#[tokio::test]
async fn the_title_is_found_in_every_form() {
    let fence = format!("Here is the JSON:\n\n```json\n{TITLE}\n```\nAnything else?");
    let harmony = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>";
    for message in [
        content(TITLE),
        content(&format!("\u{feff}{TITLE}")),
        content(&format!("What fits?\n</think>\n\n{TITLE}")),
        content(&format!("<think>\nWhat fits?\n</think>\n\n{TITLE}")),
        content(&format!("[THINK]What fits?[/THINK]{TITLE}")),
        content(&format!("{harmony}{TITLE}<|return|>")),
        content(&fence),
        content(&format!("{TITLE}\n\nI hope that this helps!")),
        json!({"role": "assistant", "content": "", "reasoning_content": TITLE}),
        json!({"role": "assistant", "content": "\n\n", "reasoning_content": TITLE}),
        json!({"role": "assistant", "content": null, "reasoning": format!("It is simple.\n{TITLE}")}),
        json!({"role": "assistant", "content": [{"type": "text", "text": TITLE}]}),
    ] {
        let read = best(&[], body(&message).as_bytes()).await;
        assert_eq!(read, (Ok("A title".to_owned()), Some(120)), "{message}");
    }
    let two_lines = content(&TITLE.replace("A title", "A title\nof two lines"));
    let read = best(&[], body(&two_lines).as_bytes()).await;
    assert_eq!(read.0.unwrap(), "A title\nof two lines");
}

#[tokio::test]
async fn a_body_with_a_fault_is_read_and_charged_as_counted() {
    let sound = body(&content(TITLE));
    let with = |broken: &[u8]| {
        let at = sound.find("A title").unwrap() + "A title".len();
        [&sound.as_bytes()[..at], broken, &sound.as_bytes()[at..]].concat()
    };
    for (bytes, text) in [
        (with(b"\xf0\x9f\x98"), "A title\u{fffd}"),
        (with(b"\\ud83d"), "A title\u{fffd}"),
        // In the JSON inside of the JSON.
        (with(b"\\\\ud83d"), "A title\u{fffd}"),
        ([b"\xef\xbb\xbf", sound.as_bytes()].concat(), "A title"),
        ([sound.as_bytes(), b"\n\ndata: [DONE]\n\n"].concat(), "A title"),
        ([b"\n\n  ", sound.as_bytes()].concat(), "A title"),
    ] {
        let read = best(&[], &bytes).await;
        let shown = String::from_utf8_lossy(&bytes);
        assert_eq!(read, (Ok(text.to_owned()), Some(120)), "{shown}");
    }
    for (usage, tokens) in [
        (
            json!({"prompt_tokens": 40, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 1000}}),
            Some(60),
        ),
        (
            json!({"prompt_tokens": 40.0, "completion_tokens": 20.0, "total_tokens": 60.0}),
            Some(60),
        ),
        (
            json!({"prompt_tokens": 40, "completion_tokens": 20, "completion_tokens_details": {"reasoning_tokens": 21}}),
            Some(60),
        ),
        (json!(null), None),
    ] {
        let body = completion(&content(TITLE), &json!("stop"), &json!({"usage": usage}));
        let read = best(&[], body.as_bytes()).await;
        assert_eq!(read, (Ok("A title".to_owned()), tokens), "{usage}");
    }
}

#[tokio::test]
async fn a_stream_is_read() {
    let chunk = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        format!("data: {}\n\n", json!({"choices": [choice]}))
    };
    let stream = [
        chunk(json!({"role": "assistant"}), Value::Null),
        chunk(json!({"content": TITLE}), Value::Null),
        chunk(json!({}), json!("stop")),
        "data: [DONE]\n\n".to_owned(),
    ];
    let read = best(&["content-type: text/event-stream"], stream.concat().as_bytes()).await;
    assert_eq!(read, (Ok("A title".to_owned()), None));
}

#[tokio::test]
async fn a_stream_that_is_no_answer_is_an_error() {
    // A status of failure counts whatever form its body has.
    let error = told(401, &[], "data: {\"message\": \"bad key\"}\n\n")
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.may_be_billed),
        (Kind::Authentication, false),
        "{error}"
    );
    let failed = "data: {\"object\": \"error\", \"message\": \"out of memory\"}\n\ndata: [DONE]\n\n";
    for (body, words) in [("data: [DONE]\n\n", "no choices"), (failed, "out of memory")] {
        let error = told(200, &["content-type: text/event-stream"], body).await.unwrap_err();
        assert!(error.message.contains(words), "{error}");
    }
    // An error of a first choice that is `null` hides no other.
    let both = json!({"error": {"message": "no such model", "code": "model_not_found"}, "choices": [{"error": null}]});
    let error = told(404, &[], &both.to_string()).await.unwrap_err();
    assert!(error.message.contains("no such model"), "{error}");
}

#[tokio::test]
async fn an_error_of_very_many_messages_shows_the_first_two() {
    fn nested(depth: u32, number: &mut u32) -> Value {
        if depth == 0 {
            *number += 1;
            return json!({"message": format!("m{}", *number - 1)});
        }
        let mut list = || (0..4).map(|_| nested(depth - 1, number)).collect::<Vec<_>>();
        json!({"error": list(), "detail": list()})
    }
    let body = nested(3, &mut 0);
    let error = told(400, &[], &body.to_string()).await.unwrap_err();
    assert_eq!(error.message, "m0: m1");
}

#[tokio::test]
async fn every_error_has_its_class_and_its_words() {
    let message = |message: &str| json!({"error": {"message": message, "type": "invalid_request_error"}}).to_string();
    let gemini = |message: &str, details: Value| {
        let error = json!({"code": 400, "message": message, "status": "INVALID_ARGUMENT", "details": details});
        json!([{"error": error}]).to_string()
    };
    let local =
        |message: &str| json!({"error": {"message": message, "type": "BadRequestError", "code": 400}}).to_string();
    let raw = message("This model's maximum context length is 4096 tokens. However, you requested 5000.");
    for (status, body, kind, words) in [
        (
            400,
            json!({"error": {
                "message": "The response was filtered due to the prompt triggering the content management policy.",
                "code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"},
            }})
            .to_string(),
            Kind::Refused,
            "content management policy",
        ),
        (
            400,
            message("prompt is too long: 208310 tokens > 200000 maximum"),
            Kind::ContextOverflow,
            "208310",
        ),
        (
            400,
            gemini(
                "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
                json!([]),
            ),
            Kind::ContextOverflow,
            "1200000",
        ),
        (
            400,
            local("The input (5000 tokens) is longer than the model's context length (4096 tokens)."),
            Kind::ContextOverflow,
            "5000",
        ),
        (
            400,
            local(
                "You passed 5000 input tokens and requested 100 output tokens. However, the model's context length is \
                 only 4096 tokens, resulting in a maximum input length of 3996 tokens.",
            ),
            Kind::ContextOverflow,
            "5000",
        ),
        (
            400,
            json!({"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": raw, "provider_name": "P"}}})
                .to_string(),
            Kind::ContextOverflow,
            "you requested 5000",
        ),
        (
            400,
            gemini(
                "API key not valid. Please pass a valid API key.",
                json!([{"reason": "API_KEY_INVALID"}]),
            ),
            Kind::Authentication,
            "API key not valid. Please pass a valid API key.",
        ),
        (
            400,
            json!({"error": {
                "message": "Budget has been exceeded! Current cost: 14.2, Max budget: 10.0", "type": "budget_exceeded", "code": "400",
            }})
            .to_string(),
            Kind::SpendCap,
            "Max budget: 10.0",
        ),
        (
            400,
            message("Unrecognized request argument supplied: max_completion_tokens"),
            Kind::InvalidRequest,
            "set max-tokens-field = \"max-tokens\"",
        ),
        (404, "404 page not found".to_owned(), Kind::NotFound, "/v1/chat/completions"),
    ] {
        let error = told(status, &[], &body).await.unwrap_err();
        assert_eq!(
            (error.kind, error.retry_after, error.may_be_billed),
            (kind, None, false),
            "{body}: {error}"
        );
        assert!(error.to_string().contains(words) && !error.message.contains('{'), "{body}: {error}");
    }
}

#[tokio::test]
async fn a_refusal_for_now_says_when_to_come_back() {
    let gemini = json!([{"error": {
        "code": 429, "message": "Quota exceeded. Please retry in 12.4s.", "status": "RESOURCE_EXHAUSTED",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12s"}],
    }}]);
    let words = json!({"error": {
        "message": "Rate limit reached on tokens per minute (TPM): Limit 6000, Used 5800, Requested 1200. Please try again in 15.2s.",
        "type": "tokens", "code": "rate_limit_exceeded",
    }});
    for (body, seconds) in [(gemini, 12.4), (words, 15.2)] {
        let error = told(429, &[], &body.to_string()).await.unwrap_err();
        let wait = Some(Duration::from_secs_f64(seconds));
        assert_eq!((error.kind, error.retry_after), (Kind::RateLimited, wait), "{body}");
    }
}

#[tokio::test]
async fn a_reply_that_breaks_off_ends_inside_of_its_value() {
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 300, "total_tokens": 400});
    let text = content(r#"{"best": "A title", "ot"#);
    let server = Server::replying(200, &[], &completion(&text, &json!("stop"), &json!({"usage": usage}))).await;
    let request = title();
    let reply = ask(&server, &request).await.unwrap();
    // The count equals the limit, whatever the reason says.
    assert_eq!(
        (reply.stop, reply.usage.map(|usage| usage.output)),
        (Stop::End, Some(300))
    );
    let checker = Checker::new(request.schema.as_ref().unwrap()).unwrap();
    assert!(checker.accept(&reply.text()).unwrap_err().is_open);
}
