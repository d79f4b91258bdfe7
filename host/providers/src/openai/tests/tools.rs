//! The variations of calls of tools that servers write.

use agenthost_core::llm::extension::ToolArguments;
use agenthost_core::llm::{Extension, ToolCall};

use super::*;

const TOOLS: &str = r#"[{"name": "weather", "parameters": {"type": "object"}}]"#;

fn with_tools() -> Request {
    Request {
        options: Options::parse([("tools", TOOLS)]).unwrap(),
        ..request("hi")
    }
}

async fn reply_of(body: &str) -> Reply {
    ask(&Server::replying(200, &[], body).await, &with_tools())
        .await
        .unwrap()
}

fn calls(reply: &Reply) -> Vec<ToolCall> {
    let calls = reply.content.iter().filter_map(|part| match Extension::of(part) {
        Some(Ok(Extension::ToolCall(call))) => Some(call),
        _ => None,
    });
    calls.collect()
}

#[tokio::test]
async fn calls_without_ids_get_some_and_a_value_is_read_as_arguments() {
    let call = |id: Value, arguments: Value| json!({"id": id, "type": "function", "function": {"name": "weather", "arguments": arguments}});
    let message = json!({"content": "", "tool_calls": [
        call(Value::Null, json!({"city": "Oslo"})), call(json!(""), json!("")), call(json!("a"), json!("{}")),
        call(json!("a"), json!("{\"city\": \"O\nslo\"}")),
    ]});
    let reply = reply_of(&completion(&message, &json!("stop"), &json!({}))).await;
    let read = calls(&reply);
    let mut ids: Vec<&str> = read.iter().map(|call| call.id.as_str()).collect();
    let texts: Vec<String> = read.iter().map(|call| call.arguments.text()).collect();
    assert_eq!(texts, [r#"{"city":"Oslo"}"#, "{}", "{}", r#"{"city":"O\nslo"}"#]);
    assert_eq!((ids[2], reply.stop), ("a", Stop::ToolUse));
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4, "{ids:?}");
    // The API does not take these members back, or in another form.
    assert!(read[..2].iter().all(|call| call.echo.is_none()) && read[3].echo.is_none());

    let next = json!({"content": null, "tool_calls": [call(json!("a"), json!("{}"))]});
    let mut request = with_tools();
    request.messages.push(Message {
        role: Role::Assistant,
        content: reply.content,
    });
    let server = Server::replying(200, &[], &completion(&next, &json!("tool_calls"), &json!({}))).await;
    let reply = ask(&server, &request).await.unwrap();
    let seen = server.seen();
    let sent = seen[0].body["messages"][1]["tool_calls"].as_array().unwrap();
    assert!(
        sent.iter()
            .all(|call| call["id"].is_string() && call["function"]["arguments"].is_string())
    );
    // The id was used before.
    assert_ne!(calls(&reply)[0].id, "a");
}

#[tokio::test]
async fn a_call_without_a_name_is_a_bad_reply_and_without_tools_it_is_ignored() {
    let body = completion(
        &json!({"content": "x", "tool_calls": [{"id": "a", "function": {}}]}),
        &json!("tool_calls"),
        &json!({}),
    );
    let server = Server::replying(200, &[], &body).await;
    assert_eq!(ask(&server, &with_tools()).await.unwrap_err().kind, Kind::BadReply);
    let reply = told(200, &[], &body).await.unwrap();
    assert_eq!((reply.content.len(), reply.stop), (1, Stop::ToolUse));
}

#[tokio::test]
async fn a_stream_of_calls_is_put_together_by_index() {
    let chunk = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        format!("data: {}\n\n", json!({"choices": [choice]}))
    };
    let piece = |index: u32, more: Value| {
        let mut call = json!({"index": index});
        call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        chunk(json!({"tool_calls": [call]}), Value::Null)
    };
    let start = |id: &str| json!({"id": id, "type": "function", "function": {"name": "weather", "arguments": ""}});
    let more = |text: &str| json!({"function": {"arguments": text}});
    let mut signed = start("b");
    signed["extra_content"] = json!({"google": {"thought_signature": "x"}});
    let stream = [
        chunk(
            json!({"role": "assistant", "content": null, "reasoning_content": "Which "}),
            Value::Null,
        ),
        chunk(json!({"reasoning_content": "city?"}), Value::Null),
        piece(0, start("a")),
        piece(1, signed),
        piece(0, more("{\"city\":")),
        piece(1, more("{}")),
        piece(0, more("\"Oslo\"}")),
        chunk(json!({}), json!("tool_calls")),
        "data: [DONE]\n\n".to_owned(),
    ];
    let reply = reply_of(&stream.concat()).await;
    let read = calls(&reply);
    assert_eq!(
        read.iter()
            .map(|call| (call.id.as_str(), call.arguments.text()))
            .collect::<Vec<_>>(),
        [("a", r#"{"city":"Oslo"}"#.to_owned()), ("b", "{}".to_owned())]
    );
    let block = &read[1].echo.as_ref().unwrap().block;
    assert_eq!(
        *block,
        json!({"id": "b", "type": "function", "function": {"name": "weather", "arguments": "{}"}, "extra_content": {"google": {"thought_signature": "x"}}})
    );
    let Some(Ok(Extension::Echo(echo))) = Extension::of(&reply.content[0]) else {
        panic!("{reply:?}");
    };
    assert_eq!(echo.block, json!({"reasoning_content": "Which city?"}));

    // Some servers send each call whole, without an index, and some repeat the index.
    for index in [json!({}), json!({"index": 0})] {
        let whole = |id: &str| {
            let mut call = start(id);
            call["function"]["arguments"] = json!("{}");
            call.as_object_mut().unwrap().extend(index.as_object().unwrap().clone());
            chunk(json!({"tool_calls": [call]}), Value::Null)
        };
        let stream = [whole("a"), whole("b"), chunk(json!({}), json!("stop"))].concat();
        let read = calls(&reply_of(&stream).await);
        let ids: Vec<&str> = read.iter().map(|call| call.id.as_str()).collect();
        assert_eq!(ids, ["a", "b"], "{index}");
        assert!(
            read.iter()
                .all(|call| matches!(&call.arguments, ToolArguments::Object(members) if members.is_empty()))
        );
    }
}

/// The chunks of a stream with these deltas.
fn chunks(deltas: &[Value]) -> String {
    let chunk = |delta: &Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": null});
        format!("data: {}\n\n", json!({"choices": [choice]}))
    };
    let pieces: String = deltas.iter().map(chunk).collect();
    format!("{pieces}data: [DONE]\n\n")
}

#[tokio::test]
async fn a_piece_without_a_name_belongs_to_its_call_whatever_its_id_is() {
    let piece = |index: u32, id: &str, function: Value| json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]});
    let stream = chunks(&[
        piece(0, "a1", json!({"name": "weather", "arguments": ""})),
        piece(0, "a2", json!({"arguments": "{\"city\":"})),
        piece(1, "b1", json!({"name": "weather", "arguments": "{}"})),
        piece(0, "a3", json!({"name": null, "arguments": "\"Os"})),
        piece(0, "a4", json!({"name": "", "arguments": "lo\"}"})),
    ]);
    let read = calls(&reply_of(&stream).await);
    let read: Vec<_> = read
        .iter()
        .map(|call| (call.id.as_str(), call.arguments.text()))
        .collect();
    assert_eq!(read, [("a1", r#"{"city":"Oslo"}"#.to_owned()), ("b1", "{}".to_owned())]);
}

#[tokio::test]
async fn the_only_call_of_an_older_server_is_read() {
    let function = json!({"name": "weather", "arguments": "{\"city\":\"Oslo\"}"});
    let modern = json!([{"id": "a", "type": "function", "function": function}]);
    let message = |more: Value| {
        let mut message = json!({"role": "assistant", "content": null});
        message
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        completion(&message, &json!("function_call"), &json!({}))
    };
    let pieces = [
        json!({"function_call": {"name": "weather", "arguments": ""}}),
        json!({"function_call": {"arguments": "{\"city\":"}}),
        json!({"function_call": {"arguments": "\"Oslo\"}"}}),
    ];
    for body in [
        message(json!({"function_call": function})),
        // Both name the same call.
        message(json!({"function_call": function, "tool_calls": modern})),
        message(json!({"function_call": null, "tool_calls": modern})),
        chunks(&pieces),
    ] {
        let reply = reply_of(&body).await;
        let read = calls(&reply);
        let [call] = read.as_slice() else {
            panic!("{body}: {reply:?}");
        };
        assert_eq!(
            (call.name.as_str(), call.arguments.text().as_str(), reply.stop),
            ("weather", r#"{"city":"Oslo"}"#, Stop::ToolUse)
        );
        assert!(!call.id.is_empty() && call.echo.is_none(), "{call:?}");
    }
    let bare = message(json!({"function_call": {"arguments": "{}"}}));
    let server = Server::replying(200, &[], &bare).await;
    assert_eq!(ask(&server, &with_tools()).await.unwrap_err().kind, Kind::BadReply);
}

#[tokio::test]
async fn a_model_of_the_other_api_says_so() {
    for (status, message) in [
        (
            400,
            "Function tools with reasoning_effort are not supported for gpt-5.6-terra in /v1/chat/completions. To use \
             function tools, use /v1/responses or set reasoning_effort to 'none'.",
        ),
        (
            404,
            "This model is only supported in v1/responses and not in v1/chat/completions.",
        ),
    ] {
        let error = told(status, &[], &error("invalid_request_error", &json!(null), message))
            .await
            .unwrap_err();
        assert_eq!(error.kind, Kind::InvalidRequest);
        let words = error.to_string();
        assert!(
            words.ends_with("; set kind = \"openai-responses\" for this provider"),
            "{words}"
        );
    }
}

#[tokio::test]
async fn an_error_in_a_list_has_its_words() {
    let message = "Function call is missing a thought_signature in functionCall parts.";
    let body = json!([{"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}]);
    let error = told(400, &[], &body.to_string()).await.unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (Kind::InvalidRequest, message));
}

#[tokio::test]
async fn members_that_a_service_refuses_do_not_go_back_to_that_model() {
    let refusals = [
        // Groq.
        "'messages.1' : for 'role:assistant' the following must be satisfied[('messages.1' : property 'reasoning' is unsupported)]",
        // A server that validates with pydantic.
        "body.messages.1.assistant.reasoning: Extra inputs are not permitted",
    ];
    for refusal in refusals {
        let body = error("invalid_request_error", &json!(null), refusal);
        let server = Server::replying(400, &[], &body).await;
        let provider = provider_at(&server);
        let call = json!({"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}});
        let message = json!({"role": "assistant", "content": null, "reasoning": "hm", "executed_tools": [], "audio": null,
            "x": {}, "y": false, "z": null, "tool_calls": [call]});
        let reply = reply_of(&completion(&message, &json!("tool_calls"), &json!({}))).await;
        let mut asked = with_tools();
        asked.messages.push(Message {
            role: Role::Assistant,
            content: reply.content,
        });
        let first = provider.complete(&asked).await.unwrap_err();
        assert_eq!(first.kind, Kind::FormatRefused, "{first}");
        // Without the members, the service has another reason.
        let second = provider.complete(&asked).await.unwrap_err();
        assert_eq!(second.kind, Kind::InvalidRequest, "{second}");
        let sent: Vec<Value> = server
            .seen()
            .iter()
            .map(|seen| seen.body["messages"][1].clone())
            .collect();
        let plain = json!({"role": "assistant", "content": null, "tool_calls": [call]});
        let mut with_own = plain.clone();
        with_own["reasoning"] = json!("hm");
        assert_eq!(sent, [with_own, plain]);
        // An error of another member, or of a request without such members, teaches nothing.
        let none = provider.complete(&with_tools()).await.unwrap_err();
        assert_eq!(none.kind, Kind::InvalidRequest);
    }
    for other in ["reasoning_effort is not supported", "reasoning must be a text"] {
        let server = Server::replying(400, &[], &error("invalid_request_error", &json!(null), other)).await;
        let mut asked = with_tools();
        let message = json!({"content": "x", "reasoning": "hm"});
        let reply = reply_of(&completion(&message, &json!("stop"), &json!({}))).await;
        asked.messages.push(Message {
            role: Role::Assistant,
            content: reply.content,
        });
        let error = ask(&server, &asked).await.unwrap_err();
        assert_eq!(error.kind, Kind::InvalidRequest, "{other}");
    }
}
