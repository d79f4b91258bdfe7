//! Whole answers as the streams in which the vendors send them.

use serde_json::{Value, json};

use super::Wire;

/// Returns the text of the stream that has `answer` in pieces.
pub(super) fn stream(wire: Wire, answer: &Value) -> String {
    match wire {
        Wire::Messages => {
            let named = |event: Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
            message(answer).into_iter().map(named).collect()
        }
        Wire::Chat => {
            let chunks = completion(answer).into_iter().map(|chunk| format!("data: {chunk}\n\n"));
            chunks.chain(["data: [DONE]\n\n".to_owned()]).collect()
        }
        Wire::Responses => {
            let numbered = response(answer).into_iter().enumerate().map(|(number, mut event)| {
                event["sequence_number"] = json!(number);
                format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())
            });
            numbered.collect()
        }
    }
}

/// The pieces of a text, in order.
fn pieces(value: &Value) -> Vec<String> {
    let characters: Vec<char> = value.as_str().unwrap().chars().collect();
    characters.chunks(7).map(|piece| piece.iter().collect()).collect()
}

/// Takes the value of a member, and leaves `empty` there.
fn take(object: &mut Value, name: &str, empty: Value) -> Value {
    std::mem::replace(&mut object[name], empty)
}

fn message(answer: &Value) -> Vec<Value> {
    let mut start = answer.clone();
    let content = take(&mut start, "content", json!([]));
    let stop = take(&mut start, "stop_reason", Value::Null);
    let sequence = take(&mut start, "stop_sequence", Value::Null);
    let output = take(&mut start["usage"], "output_tokens", json!(1));
    let mut usage = answer["usage"].clone();
    usage["output_tokens"] = output;
    let mut events = vec![
        json!({"type": "message_start", "message": start}),
        json!({"type": "ping"}),
    ];
    for (index, block) in content.as_array().unwrap().iter().enumerate() {
        let mut block = block.clone();
        let mut deltas = Vec::new();
        let text_deltas = |value: &Value, kind: &str, name: &str| {
            let pieces = pieces(value)
                .into_iter()
                .map(|piece| json!({"type": kind, name: piece}));
            pieces.collect::<Vec<_>>()
        };
        match block["type"].as_str().unwrap() {
            "text" => {
                let text = take(&mut block, "text", json!(""));
                if block["citations"].is_array() {
                    let citations = take(&mut block, "citations", json!([]));
                    let citations = citations.as_array().unwrap().iter();
                    deltas.extend(citations.map(|citation| json!({"type": "citations_delta", "citation": citation})));
                }
                deltas.extend(text_deltas(&text, "text_delta", "text"));
            }
            "thinking" => {
                let text = take(&mut block, "thinking", json!(""));
                let signature = take(&mut block, "signature", json!(""));
                deltas.extend(text_deltas(&text, "thinking_delta", "thinking"));
                deltas.push(json!({"type": "signature_delta", "signature": signature}));
            }
            "tool_use" | "server_tool_use" => {
                let input = take(&mut block, "input", json!({}));
                deltas.push(json!({"type": "input_json_delta", "partial_json": ""}));
                deltas.extend(text_deltas(
                    &json!(input.to_string()),
                    "input_json_delta",
                    "partial_json",
                ));
            }
            _ => {}
        }
        events.push(json!({"type": "content_block_start", "index": index, "content_block": block}));
        let deltas = deltas.into_iter();
        events.extend(deltas.map(|delta| json!({"type": "content_block_delta", "index": index, "delta": delta})));
        events.push(json!({"type": "content_block_stop", "index": index}));
    }
    let delta = json!({"stop_reason": stop, "stop_sequence": sequence});
    events.push(json!({"type": "message_delta", "delta": delta, "usage": usage}));
    events.push(json!({"type": "message_stop"}));
    events
}

fn completion(answer: &Value) -> Vec<Value> {
    let chunk = |delta: Value, stop: &Value| {
        json!({
            "id": answer["id"], "object": "chat.completion.chunk", "created": answer["created"], "model": answer["model"],
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": stop}],
        })
    };
    let choice = &answer["choices"][0];
    let message = choice["message"].as_object().unwrap();
    let mut deltas = vec![json!({"role": "assistant"})];
    for (name, value) in message {
        match name.as_str() {
            "tool_calls" => {
                for (index, call) in value.as_array().unwrap().iter().enumerate() {
                    let mut call = call.clone();
                    let arguments = take(&mut call["function"], "arguments", json!(""));
                    call["index"] = json!(index);
                    deltas.push(json!({"tool_calls": [call]}));
                    let pieces = pieces(&arguments).into_iter();
                    deltas.extend(
                        pieces.map(|piece| json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})),
                    );
                }
            }
            "content" | "reasoning_content" if value.is_string() => {
                deltas.extend(pieces(value).into_iter().map(|piece| json!({name: piece})));
            }
            _ => {}
        }
    }
    let mut chunks: Vec<_> = deltas.into_iter().map(|delta| chunk(delta, &Value::Null)).collect();
    chunks.push(chunk(json!({}), &choice["finish_reason"]));
    let mut usage = chunk(json!({}), &Value::Null);
    usage["choices"] = json!([]);
    usage["usage"] = answer["usage"].clone();
    chunks.push(usage);
    chunks
}

fn response(answer: &Value) -> Vec<Value> {
    let mut start = answer.clone();
    start["status"] = json!("in_progress");
    let output = take(&mut start, "output", json!([]));
    start.as_object_mut().unwrap().shift_remove("usage");
    let mut events = vec![
        json!({"type": "response.created", "response": start}),
        json!({"type": "response.in_progress", "response": start}),
    ];
    for (index, item) in output.as_array().unwrap().iter().enumerate() {
        let mut begun = item.clone();
        let event = |kind: &str, more: Value| {
            let mut event = json!({"type": kind, "output_index": index, "item_id": item["id"]});
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            event
        };
        let mut between = Vec::new();
        match item["type"].as_str().unwrap() {
            "message" => {
                let parts = take(&mut begun, "content", json!([]));
                for (at, part) in parts.as_array().unwrap().iter().enumerate() {
                    let mut empty = part.clone();
                    let text = take(&mut empty, "text", json!(""));
                    empty["annotations"] = json!([]);
                    between.push(event(
                        "response.content_part.added",
                        json!({"content_index": at, "part": empty}),
                    ));
                    for piece in pieces(&text) {
                        let delta = json!({"content_index": at, "delta": piece, "logprobs": []});
                        between.push(event("response.output_text.delta", delta));
                    }
                    let done = json!({"content_index": at, "text": text, "logprobs": []});
                    between.push(event("response.output_text.done", done));
                    between.push(event(
                        "response.content_part.done",
                        json!({"content_index": at, "part": part}),
                    ));
                }
            }
            "function_call" => {
                let arguments = take(&mut begun, "arguments", json!(""));
                for piece in pieces(&arguments) {
                    between.push(event("response.function_call_arguments.delta", json!({"delta": piece})));
                }
                let done = json!({"arguments": arguments, "name": item["name"]});
                between.push(event("response.function_call_arguments.done", done));
            }
            _ => {}
        }
        events.push(json!({"type": "response.output_item.added", "output_index": index, "item": begun}));
        events.extend(between);
        events.push(json!({"type": "response.output_item.done", "output_index": index, "item": item}));
    }
    events.push(json!({"type": "response.completed", "response": answer}));
    events
}
