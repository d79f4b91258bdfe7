//! The behavior with tools that only this wire has.

use agenthost_core::llm::Extension;

use super::*;

const TOOLS: &str = r#"[{"name": "weather", "parameters": {"type": "object"}}]"#;
const SEARCH: &str = r#"[{"kind": "web-search", "max-uses": 3}]"#;

fn with(options: &[(&str, &str)]) -> Request {
    Request {
        options: Options::parse(options.iter().copied()).unwrap(),
        ..request("hi")
    }
}

#[tokio::test]
async fn a_forced_tool_is_refused_for_models_that_always_think() {
    for (model, always) in [
        ("claude-opus-5-5", true),
        ("claude-sonnet-5-5-20261001", true),
        ("anthropic/claude-fable-5.1", true),
        ("us.anthropic.claude-mythos-5-1-v1:0", true),
        ("Claude-Opus-5.5@20261001", true),
        ("claude-haiku-5-5", false),
        ("claude-opus-5-50", false),
        ("claude-opus-4-5", false),
    ] {
        for choice in ["any", "tool:weather"] {
            let server = Server::replying(200, &[], &message(&json!([]), "end_turn", &json!({}))).await;
            let mut forced = with(&[("tools", TOOLS), ("tool-choice", choice)]);
            forced.model = model.into();
            let said = ask(&server, &forced).await;
            match said {
                Err(error) if always => {
                    assert_eq!(error.kind, Kind::InvalidRequest);
                    assert!(
                        error.message.starts_with(model) && error.message.ends_with("use tool-choice auto"),
                        "{error}"
                    );
                }
                other => assert!(other.is_ok() && !always, "{model}: {other:?}"),
            }
            assert_eq!(server.seen().is_empty(), always, "{model}");
        }
        let mut free = with(&[("tools", TOOLS), ("tool-choice", "auto")]);
        free.model = model.into();
        assert!(encode(&free, Form::Schema).is_ok());
    }
    // The service's own refusal stays what it is.
    let body = error(
        "invalid_request_error",
        "tool_choice forces tool use, which is not supported",
        None,
    );
    assert_eq!(told(400, &[], &body).await.unwrap_err().kind, Kind::InvalidRequest);
}

#[tokio::test]
async fn a_stream_of_blocks_is_put_together() {
    let thinking = json!({"type": "thinking", "thinking": "Which city?", "signature": "EuYB"});
    let call =
        json!({"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo", "n": [1, 2.5]}});
    let empty = json!({"type": "tool_use", "id": "toolu_2", "name": "weather", "input": {}});
    let location = json!({"type": "web_search_result_location", "url": "https://example.com/", "encrypted_index": "E"});
    let cited = json!({"type": "text", "text": "Blue.", "citations": [location]});
    let delta = |delta: Value| json!({"type": "content_block_delta", "index": 0, "delta": delta});
    let start = |block: Value| json!({"type": "content_block_start", "index": 0, "content_block": block});
    let events = [
        json!({"type": "message_start", "message": {"type": "message", "model": "m", "content": [], "usage": {"input_tokens": 1, "output_tokens": 1}}}),
        start(json!({"type": "thinking", "thinking": "", "signature": ""})),
        delta(json!({"type": "thinking_delta", "thinking": "Which "})),
        delta(json!({"type": "thinking_delta", "thinking": "city?"})),
        delta(json!({"type": "signature_delta", "signature": "EuYB"})),
        start(json!({"type": "text", "text": "", "citations": null})),
        delta(json!({"type": "citations_delta", "citation": location})),
        delta(json!({"type": "text_delta", "text": "Blue."})),
        start(json!({"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}})),
        delta(json!({"type": "input_json_delta", "partial_json": ""})),
        delta(json!({"type": "input_json_delta", "partial_json": "{\"city\": \"Oslo\","})),
        delta(json!({"type": "input_json_delta", "partial_json": " \"n\": [1, 2.5]}"})),
        start(empty.clone()),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}),
        json!({"type": "message_stop"}),
    ];
    let stream: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    let mut request = with(&[("tools", TOOLS), ("server-tools", SEARCH)]);
    let reply = ask(&Server::replying(200, &[], &stream).await, &request).await.unwrap();
    assert_eq!(reply.stop, Stop::ToolUse);
    request.messages.push(Message {
        role: Role::Assistant,
        content: reply.content,
    });
    let body = encode(&request, Form::Schema).unwrap();
    assert_eq!(body["messages"][1]["content"], json!([thinking, cited, call, empty]));

    // Arguments that break off are not guessed.
    let cut: String = events
        .iter()
        .filter(|event| !event.to_string().contains("2.5"))
        .map(|event| format!("data: {event}\n\n"))
        .collect();
    let request = with(&[("tools", TOOLS)]);
    let reply = ask(&Server::replying(200, &[], &cut).await, &request).await.unwrap();
    let calls = reply.content.iter().filter_map(|part| match Extension::of(part)? {
        Ok(Extension::ToolCall(call)) => Some(call.arguments.text()),
        _ => None,
    });
    assert_eq!(calls.collect::<Vec<_>>(), ["{\"city\": \"Oslo\",", "{}"]);
}

#[tokio::test]
async fn a_search_that_spans_a_pause_knows_its_query() {
    let used =
        json!({"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "color"}});
    let found = json!({"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [
        {"type": "web_search_result", "url": "https://example.com/", "title": "A", "encrypted_content": "E"},
    ]});
    let mut request = with(&[("server-tools", SEARCH)]);
    let body = message(&json!([used]), "pause_turn", &json!({}));
    let first = ask(&Server::replying(200, &[], &body).await, &request).await.unwrap();
    assert!(first.paused);
    request.messages.push(Message {
        role: Role::Assistant,
        content: first.content,
    });
    let body = message(
        &json!([found, {"type": "text", "text": "Blue."}]),
        "end_turn",
        &json!({}),
    );
    let second = ask(&Server::replying(200, &[], &body).await, &request).await.unwrap();
    let reports = second.content.iter().filter_map(|part| match Extension::of(part)? {
        Ok(Extension::Search(report)) => Some(report.queries),
        _ => None,
    });
    assert_eq!(reports.collect::<Vec<_>>(), [["color"]]);
    // One search, which the service did not count.
    assert_eq!(second.usage.map(|usage| usage.searches), Some(1));
}

#[tokio::test]
async fn what_the_api_does_not_take_back_is_changed() {
    let call = json!({"id": "functions.weather:0", "name": "weather", "arguments": {}});
    let result = json!({"id": "functions.weather:0", "content": "12"});
    let part = |kind: &str, json: &Value| Part::Extension {
        kind: kind.into(),
        json: json.to_string(),
    };
    let mut request = with(&[("tools", TOOLS)]);
    request.messages.push(Message {
        role: Role::Assistant,
        content: vec![Part::Text("\n\n".into()), part("tool-call", &call)],
    });
    request.messages.push(Message {
        role: Role::User,
        content: vec![part("tool-result", &result)],
    });
    let body = encode(&request, Form::Schema).unwrap();
    // Blank text is refused, and so are ids of other services.
    assert_eq!(
        body["messages"].as_array().unwrap()[1..],
        [
            json!({"role": "assistant", "content": [{"type": "tool_use", "id": "functions_weather_0", "name": "weather", "input": {}}]}),
            json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "functions_weather_0", "content": "12"}]}),
        ]
    );
}

#[tokio::test]
async fn the_mark_of_a_prefix_does_not_change_a_block_that_goes_back() {
    let thinking = json!({"type": "thinking", "thinking": "Hm.", "signature": "E"});
    let call =
        json!({"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}, "caller": {"type": "direct"}});
    let mut request = with(&[("tools", TOOLS)]);
    let body = message(&json!([thinking, call]), "tool_use", &json!({}));
    let reply = ask(&Server::replying(200, &[], &body).await, &request).await.unwrap();
    request.messages.push(Message {
        role: Role::Assistant,
        content: reply.content,
    });
    request.mark_prefix = Some(3);
    let body = encode(&request, Form::Schema).unwrap();
    let marked = json!([{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]);
    assert_eq!(body["messages"][0]["content"], marked);
    assert_eq!(body["messages"][1]["content"], json!([thinking, call]));
}

#[test]
fn the_schemas_of_twenty_tools_are_enforced() {
    let tool = |number: usize| json!({"name": format!("t{number}"), "strict": true, "parameters": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}});
    let list: Vec<Value> = (0..25).map(tool).collect();
    let request = with(&[("tools", &json!(list).to_string())]);
    let body = encode(&request, Form::Schema).unwrap();
    let strict = body["tools"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|tool| tool.get("strict").is_some());
    assert_eq!(strict.count(), 20);
}

#[tokio::test]
async fn a_count_of_searches_is_believed_as_far_as_the_request_allows_them() {
    for (options, claimed, expected) in [
        (vec![], 1_000_000_000, 0),
        (vec![("tools", TOOLS)], 2, 0),
        (vec![("server-tools", r#"[{"kind": "web-fetch"}]"#)], 2, 0),
        (vec![("server-tools", SEARCH)], 2, 2),
        (vec![("server-tools", SEARCH)], 1_000_000_000, 30),
    ] {
        let used = json!({"usage": {"input_tokens": 1, "output_tokens": 1, "server_tool_use": {"web_search_requests": claimed}}});
        // The same holds for an error that reports what it used.
        let mut failed: Value = serde_json::from_str(&message(&json!([]), "end_turn", &used)).unwrap();
        failed["error"] = json!({"type": "api_error", "message": "oops"});
        let searches = |usage: Option<Usage>| usage.map(|usage| usage.searches);
        let server = Server::replying(200, &[], &message(&json!([]), "end_turn", &used)).await;
        let reply = ask(&server, &with(&options)).await.unwrap();
        assert_eq!(searches(reply.usage), Some(expected), "{options:?}");
        let server = Server::replying(200, &[], &failed.to_string()).await;
        let error = ask(&server, &with(&options)).await.unwrap_err();
        assert_eq!(searches(error.usage.map(|usage| *usage)), Some(expected), "{options:?}");
    }
}

#[test]
fn the_scarce_parts_of_all_schemas_are_summed() {
    // Ten optional properties, or six unions, each.
    let of = |count: usize, member: Value| -> Value {
        let members = (0..count).map(|number| (format!("p{number}"), member.clone()));
        Value::Object(members.collect())
    };
    let optional = json!({"type": "object", "properties": of(10, json!({"type": "string"}))});
    let unions = of(6, json!({"anyOf": [{"type": "string"}, {"type": "integer"}]}));
    let names: Vec<&String> = unions.as_object().unwrap().keys().collect();
    let union = json!({"type": "object", "properties": unions, "required": names});
    let plain = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
    let tool = |name: &str, parameters: &Value| json!({"name": name, "strict": true, "parameters": parameters});
    for (scarce, most) in [(&optional, 2), (&union, 2)] {
        for (schema, enforced) in [(None, most), (Some(scarce), most - 1), (Some(&plain), most)] {
            let list = ["a", "b", "c"].map(|name| tool(name, scarce));
            let list = [list.as_slice(), &[tool("d", &plain)]].concat();
            let request = Request {
                schema: schema.cloned(),
                ..with(&[("tools", &json!(list).to_string())])
            };
            let body = encode(&request, Form::Schema).unwrap();
            let tools = body["tools"].as_array().unwrap();
            let strict = |tool: &Value| tool.get("strict").is_some();
            // A tool that does not fit takes no place from the one after it.
            let sent: Vec<bool> = tools.iter().map(strict).collect();
            let expected: Vec<bool> = (0..3).map(|index| index < enforced).chain([true]).collect();
            assert_eq!(sent, expected, "{schema:?}");
            assert_eq!(tools[2]["input_schema"], *scarce, "as the task wrote it");
        }
    }
}

#[tokio::test]
async fn the_pieces_of_a_stream_belong_to_the_block_of_their_index() {
    let event = |kind: &str, index: Value, more: Value| {
        let mut event = json!({"type": kind, "index": index});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    let start = |index: u32, block: Value| event("content_block_start", json!(index), json!({"content_block": block}));
    let text = |index: Value, text: &str| {
        event(
            "content_block_delta",
            index,
            json!({"delta": {"type": "text_delta", "text": text}}),
        )
    };
    let call = json!({"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}});
    let arguments = |json: &str| json!({"delta": {"type": "input_json_delta", "partial_json": json}});
    let events = [
        json!({"type": "message_start", "message": {"type": "message", "model": "m", "content": [], "usage": {"input_tokens": 1, "output_tokens": 1}}}),
        start(0, json!({"type": "text", "text": ""})),
        start(1, call),
        text(json!(0), "Let me"),
        event("content_block_delta", json!(1), arguments("{\"city\":")),
        text(json!(0), " look."),
        // A block that never began.
        text(json!(7), "x"),
        // Without an index, the last block is meant.
        event("content_block_delta", Value::Null, arguments("\"Oslo\"}")),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}),
    ];
    let stream: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    let reply = ask(&Server::replying(200, &[], &stream).await, &with(&[("tools", TOOLS)]))
        .await
        .unwrap();
    let Some(Ok(Extension::ToolCall(call))) = reply.content.get(1).and_then(Extension::of) else {
        panic!("{reply:?}");
    };
    assert_eq!(
        (reply.text().as_str(), call.arguments.text().as_str()),
        ("Let me look.", r#"{"city":"Oslo"}"#)
    );
}

#[tokio::test]
async fn a_result_has_the_id_of_its_call() {
    // A compatible server, whose ids the API would not accept.
    for (id, sent) in [
        ("functions.weather:0", "functions_weather_0"),
        ("toolu_1-A", "toolu_1-A"),
    ] {
        let call = json!({"type": "tool_use", "id": id, "name": "weather", "input": {}, "caller": {"type": "direct"}});
        let body = message(&json!([call]), "tool_use", &json!({}));
        let mut request = with(&[("tools", TOOLS)]);
        let reply = ask(&Server::replying(200, &[], &body).await, &request).await.unwrap();
        request.messages.push(Message {
            role: Role::Assistant,
            content: reply.content,
        });
        request.messages.push(Message {
            role: Role::User,
            content: vec![Part::Extension {
                kind: "tool-result".into(),
                json: json!({"id": id, "content": "12"}).to_string(),
            }],
        });
        let body = encode(&request, Form::Schema).unwrap();
        let ids = [
            &body["messages"][1]["content"][0]["id"],
            &body["messages"][2]["content"][0]["tool_use_id"],
        ];
        assert_eq!(ids, [sent, sent]);
    }
}
