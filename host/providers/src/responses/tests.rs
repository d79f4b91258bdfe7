use ProviderErrorKind as Kind;

use super::*;
use crate::http::testing::{Server, quick};
use agenthost_core::llm::{Extension, Message, Part, Provider as _, Reply};

mod conformance;

const KEY: &str = "sk-proj-QwErTyUiOp";

fn response(output: &Value, more: &Value) -> Value {
    let mut body = json!({
        "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "error": null,
        "incomplete_details": null, "model": "gpt-6-luna-2026-11-01", "output": output,
        "usage": {
            "input_tokens": 30, "input_tokens_details": {"cached_tokens": 10, "cache_write_tokens": 5},
            "output_tokens": 8, "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 38,
        },
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn message(text: &str) -> Value {
    json!({
        "id": "msg_1", "type": "message", "status": "completed", "phase": "final_answer",
        "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": text}], "role": "assistant",
    })
}

fn thought() -> Value {
    json!({"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "gAAAAAB+/="})
}

fn request(options: &[(&str, &str)]) -> Request {
    Request {
        model: "gpt-6-luna".into(),
        system: None,
        messages: vec![Message {
            role: Role::User,
            content: vec![Part::Text("Hi".into())],
        }],
        max_tokens: 100,
        schema: None,
        options: Options::parse(options.iter().copied()).unwrap(),
        mark_prefix: None,
    }
}

const TOOLS: &str = r#"[{"name": "weather", "parameters": {"type": "object"}}]"#;

fn provider(server: &Server) -> OpenAiResponses {
    let base = format!("{}/v1", server.url());
    OpenAiResponses::bounded(Some(&base), Some(SecretString::from(KEY)), quick()).unwrap()
}

async fn told(status: u16, body: &str) -> Result<Reply, ProviderError> {
    let server = Server::replying(status, &["x-request-id: req_7"], body).await;
    provider(&server).complete(&request(&[])).await
}

#[tokio::test]
async fn a_request_is_stateless_and_has_the_key_only_in_its_header() {
    let server = Server::replying(200, &[], &response(&json!([message("ok")]), &json!({})).to_string()).await;
    let reply = provider(&server).complete(&request(&[])).await.unwrap();
    let [seen] = server.seen().try_into().unwrap();
    assert!(
        seen.head.starts_with("POST /v1/responses HTTP/1.1\r\n"),
        "{}",
        seen.head
    );
    assert!(seen.head.contains(&format!("authorization: Bearer {KEY}\r\n")));
    assert_eq!(
        seen.body,
        json!({
            "model": "gpt-6-luna", "input": [{"role": "user", "content": "Hi"}], "max_output_tokens": 100,
            "store": false, "stream": false,
        })
    );
    // A reply to a request without tools has nothing but its texts.
    assert_eq!(reply.content, [Part::Text("ok".into())]);
    let provider = OpenAiResponses::new(None, Some(KEY.into())).unwrap();
    assert!(!format!("{provider:?}").contains("QwErTy"));
    assert_eq!(
        (provider.counting(), provider.caching(), provider.summary().as_str()),
        (
            Counting::UpFront,
            Caching::Automatic,
            "openai responses at https://api.openai.com/v1/responses"
        )
    );
}

#[tokio::test]
async fn usage_has_all_its_details() {
    let reply = told(200, &response(&json!([message("ok")]), &json!({})).to_string())
        .await
        .unwrap();
    let expected = Usage {
        input: 30,
        cached_input: 10,
        cache_write_input: 5,
        output: 8,
        reasoning_output: 3,
        searches: 0,
    };
    assert_eq!(
        (reply.usage, reply.model.as_str()),
        (Some(expected), "gpt-6-luna-2026-11-01")
    );
    assert_eq!(reply.request_id.as_deref(), Some("req_7"));
    // Opened pages and failed searches are not billed.
    let call = |status: &str, action: Value| json!({"type": "web_search_call", "status": status, "action": action});
    let output = json!([
        call("completed", json!({"type": "search", "queries": ["a"]})),
        call("completed", json!({"type": "open_page", "url": "https://example.com/"})),
        call("failed", json!({"type": "search", "queries": ["b"]})),
    ]);
    for (more, searches) in [
        (json!({}), 1),
        (json!({"tool_usage": {"web_search": {"num_requests": 7}}}), 7),
    ] {
        assert_eq!(Responses::usage(&response(&output, &more)).unwrap().searches, searches);
    }
    assert_eq!(Responses::usage(&response(&output, &json!({"usage": null}))), None);
}

#[tokio::test]
async fn a_status_tells_how_a_reply_ended() {
    for (more, expected) in [
        (json!({}), Ok(Stop::End)),
        (json!({"status": null}), Ok(Stop::End)),
        (
            json!({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}),
            Ok(Stop::Refusal),
        ),
        (
            json!({"status": "incomplete", "incomplete_details": {"reason": "steered"}}),
            Ok(Stop::Other),
        ),
        (json!({"status": "cancelled"}), Ok(Stop::Other)),
        (json!({"status": "in_progress"}), Err(Kind::BadReply)),
        (
            json!({"status": "failed", "error": {"code": "invalid_prompt", "message": "Invalid prompt: x"}}),
            Err(Kind::InvalidRequest),
        ),
        (
            json!({"status": "failed", "error": {"code": "image_content_policy_violation", "message": "x"}}),
            Err(Kind::Refused),
        ),
        (
            json!({"status": "failed", "error": {"code": "invalid_image", "message": "x"}}),
            Err(Kind::InvalidRequest),
        ),
        (
            json!({"status": "failed", "error": {"code": "vector_store_timeout", "message": "x"}}),
            Err(Kind::Server),
        ),
    ] {
        let said = told(200, &response(&json!([message("Blue.")]), &more).to_string()).await;
        match &said {
            Ok(reply) => assert_eq!(reply.text(), "Blue."),
            // The count of the service is charged.
            Err(error) => assert_eq!(
                error.usage.as_ref().map(|usage| usage.input),
                Some(30),
                "{more}: {error}"
            ),
        }
        assert_eq!(
            said.map(|reply| reply.stop).map_err(|error| error.kind),
            expected,
            "{more}"
        );
    }
}

#[tokio::test]
async fn a_body_that_is_not_a_response_is_an_error() {
    for (status, body, kind) in [
        (200, "{}".to_owned(), Kind::BadReply),
        (200, "null".into(), Kind::BadReply),
        (200, response(&json!([1]), &json!({})).to_string(), Kind::BadReply),
        (
            200,
            response(&json!([{"type": "message"}]), &json!({})).to_string(),
            Kind::BadReply,
        ),
        (
            200,
            response(
                &json!([{"type": "message", "content": [{"type": "output_text"}]}]),
                &json!({}),
            )
            .to_string(),
            Kind::BadReply,
        ),
        (
            401,
            json!({"error": {"message": "Incorrect API key provided"}}).to_string(),
            Kind::Authentication,
        ),
        (
            400,
            json!([{"error": {"code": 400, "message": "bad"}}]).to_string(),
            Kind::InvalidRequest,
        ),
        (502, "<html>".into(), Kind::Overloaded),
    ] {
        let error = told(status, &body).await.unwrap_err();
        assert_eq!((error.kind, error.status), (kind, Some(status)), "{body}: {error}");
    }
    let error = told(404, "404 page not found").await.unwrap_err();
    let words = error.to_string();
    assert!(
        words.contains("the address was") && words.contains("check base-url"),
        "{words}"
    );
}

#[tokio::test]
async fn a_stream_that_was_not_asked_for_is_read() {
    let stream = |events: &[Value]| -> String { events.iter().map(|event| format!("data: {event}\n\n")).collect() };
    let created =
        json!({"type": "response.created", "response": response(&json!([]), &json!({"status": "in_progress"}))});
    let delta = json!({"type": "response.output_text.delta", "item_id": "msg_1", "delta": "Blue."});
    let done = json!({"type": "response.output_item.done", "output_index": 0, "item": message("Blue.")});
    let completed = |output: &Value| json!({"type": "response.completed", "response": response(output, &json!({}))});
    let failed = json!({"type": "response.failed", "response": response(&json!([]), &json!({
        "status": "failed", "error": {"code": "rate_limit_exceeded", "message": "slow down"},
    }))});
    let error = json!({"type": "error", "code": "server_error", "message": "oops", "param": null});
    let (created, delta, done) = (&created, &delta, &done);
    for (events, expected) in [
        (
            vec![created, delta, done, &completed(&json!([message("Blue.")]))],
            Ok("Blue."),
        ),
        (vec![created, delta, done, &completed(&json!([]))], Ok("Blue.")),
        (vec![created, delta, done], Err(Kind::Connection)),
        (vec![created, &failed], Err(Kind::RateLimited)),
        (vec![created, delta, &error], Err(Kind::Server)),
    ] {
        let events: Vec<Value> = events.into_iter().cloned().collect();
        let said = told(200, &stream(&events)).await;
        let said = said.map(|reply| reply.text()).map_err(|error| error.kind);
        assert_eq!(said.as_deref(), expected.as_deref());
    }
}

#[tokio::test]
async fn a_model_without_reasoning_is_not_asked_to_encrypt_it_again() {
    let body = json!({"error": {
        "message": "Encrypted content is not supported with this model.", "type": "invalid_request_error",
        "param": "include", "code": null,
    }});
    let server = Server::replying(400, &[], &body.to_string()).await;
    let provider = provider(&server);
    let error = provider.complete(&request(&[("tools", TOOLS)])).await.unwrap_err();
    // The host tries again at once.
    assert_eq!(error.kind, Kind::FormatRefused);
    provider.complete(&request(&[("tools", TOOLS)])).await.unwrap_err();
    let other = Request {
        model: "other".into(),
        ..request(&[("tools", TOOLS)])
    };
    provider.complete(&other).await.unwrap_err();
    let asked: Vec<bool> = server
        .seen()
        .iter()
        .map(|seen| seen.body.get("include").is_some())
        .collect();
    assert_eq!(asked, [true, false, true]);
}

/// The parts of a reply to a request with tools.
async fn parts(output: &Value) -> Vec<Part> {
    let server = Server::replying(200, &[], &response(output, &json!({})).to_string()).await;
    let reply = provider(&server).complete(&request(&[("tools", TOOLS)])).await.unwrap();
    reply.content
}

fn input_after(content: Vec<Part>) -> Value {
    let mut next = request(&[("tools", TOOLS)]);
    next.messages.push(Message {
        role: Role::Assistant,
        content,
    });
    encode(&next, Form::Schema, true).unwrap()["input"].take()
}

#[tokio::test]
async fn a_frame_takes_the_texts_that_the_conversation_still_has() {
    let two = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
        "content": [
            {"type": "output_text", "annotations": [{"type": "file_citation", "file_id": "f"}], "text": "one"},
            {"type": "refusal", "refusal": ""},
            {"type": "output_text", "annotations": [], "text": "two"},
        ],
    });
    let content = parts(&json!([two])).await;
    assert_eq!(content.len(), 3, "{content:?}");
    assert_eq!(input_after(content.clone())[1], two);
    // A guest has removed the second text, or has added a third one.
    let mut one = two.clone();
    one["content"].as_array_mut().unwrap().truncate(2);
    assert_eq!(input_after(content[..2].to_vec())[1], one);
    let more = [content.clone(), vec![Part::Text("three".into())]].concat();
    assert_eq!(
        input_after(more).as_array().unwrap()[1..],
        [two, json!({"role": "assistant", "content": "three"})]
    );
}

#[tokio::test]
async fn only_items_that_the_service_can_read_again_go_back() {
    // A reasoning item without its content is known only to a service that has stored it.
    let empty = json!({"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "x"}]});
    let open = json!({"type": "reasoning", "id": "rs_2", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]});
    let new = json!({"type": "something_new", "id": "x_1", "of": [1, 2.5]});
    let content = parts(&json!([empty, open, new])).await;
    assert_eq!(input_after(content).as_array().unwrap()[1..], [open, new.clone()]);
    // Without tools, it comes under its own name.
    let reply = told(200, &response(&json!([new]), &json!({})).to_string())
        .await
        .unwrap();
    assert!(matches!(&reply.content[..], [Part::Extension { kind, .. }] if kind == "something_new"));
}

#[tokio::test]
async fn a_page_that_the_model_opened_is_reported() {
    let opened = json!({"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "open_page", "url": "https://example.com/"}});
    let content = parts(&json!([opened])).await;
    let Some(Ok(Extension::Search(report))) = Extension::of(&content[1]) else {
        panic!("{content:?}");
    };
    assert_eq!(
        (report.tool.as_str(), report.queries),
        ("web-search", vec!["https://example.com/".to_owned()])
    );
    assert_eq!(input_after(content)[1], opened);
}

#[tokio::test]
async fn a_strict_call_has_no_nulls_for_what_it_leaves_out() {
    let tools = r#"[{"name": "weather", "strict": true, "parameters": {"type": "object", "properties": {
        "city": {"type": "string"}, "day": {"type": "integer"}, "unit": {"type": ["string", "null"]}
    }, "required": ["city"]}}]"#;
    let arguments = r#"{"city":"Oslo","day":null,"unit":null}"#;
    let call = json!({"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": arguments});
    let server = Server::replying(200, &[], &response(&json!([call]), &json!({})).to_string()).await;
    let asked = request(&[("tools", tools)]);
    let reply = provider(&server).complete(&asked).await.unwrap();
    let Some(Ok(Extension::ToolCall(read))) = Extension::of(&reply.content[0]) else {
        panic!("{reply:?}");
    };
    assert_eq!(read.arguments.text(), r#"{"city":"Oslo","unit":null}"#);
    assert_eq!(input_after(reply.content)[1], call);
}
