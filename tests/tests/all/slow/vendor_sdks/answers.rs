//! The answers of the scripted server, in the vendors' forms.

use agenthost_tests::server::Reply;
use serde_json::{Value, json};

use super::{Wire, streams};

/// The answer to the call of this number of a case: the server's own form, unless there is more than text in it. The case
/// `streamed-X` has the answers of the case `X` as streams.
pub(super) fn answer(wire: Wire, case: &str, call: usize) -> Reply {
    let (case, is_streamed) = match case.strip_prefix("streamed-") {
        Some(whole) => (whole, true),
        None => (case, false),
    };
    let own = match wire {
        Wire::Messages => message(case, call),
        Wire::Chat => completion(case, call),
        Wire::Responses => response(case, call),
    };
    match (own, case) {
        (Some(body), _) if is_streamed => Reply::raw(200, streams::stream(wire, &body)),
        (Some(body), _) => Reply::raw(200, body.to_string()),
        (None, "refusal") => Reply::refusal("Not this."),
        (None, "cut-off") => Reply::text("It is").at_max_tokens(),
        (None, "schema" | "effort-and-schema") => Reply::text(verdict()),
        (None, "called") if call == 0 => {
            Reply::text("Let me look.").calling("call_01", "weather", json!({"city": "Oslo"}))
        }
        (None, _) => Reply::text(TEXT).usage(30, 9).cached(7),
    }
}

const TEXT: &str = "It is 12 °C in Oslo.";

fn verdict() -> String {
    let source = json!({"kind": "page", "read": "2026-11-27T10:00:00Z"});
    json!({"answer": "yes", "sure": true, "source": source, "points": [{"name": "the river", "weight": 2}], "note": null}).to_string()
}

/// The text of a call's arguments, with spaces that a JSON library would not write.
fn arguments(city: &str) -> String {
    format!("{{ \"city\":\"{city}\" }}")
}

fn message(case: &str, call: usize) -> Option<Value> {
    let text = |text: &str| json!({"type": "text", "text": text, "citations": null});
    let direct = json!({"type": "direct"});
    let used = |id: &str, city: &str| json!({"type": "tool_use", "id": id, "name": "weather", "input": {"city": city}, "caller": direct});
    let thought = |text: &str| json!({"type": "thinking", "thinking": text, "signature": "EuYBCkQYAiJA+/="});
    let search = |id: &str| json!({"type": "server_tool_use", "id": id, "name": "web_search", "input": {"query": "weather Oslo"}, "caller": direct});
    let found = |id: &str| {
        json!({"type": "web_search_tool_result", "tool_use_id": id, "caller": direct, "content": [
            {"type": "web_search_result", "url": "https://example.com/a", "title": "Oslo", "page_age": null, "encrypted_content": "Er8BCio="},
            {"type": "web_search_result", "url": "https://example.com/b", "title": "Rome", "page_age": "2 days ago", "encrypted_content": "Er8CCio="},
        ]})
    };
    let cited = json!({"type": "text", "text": TEXT, "citations": [
        {"type": "web_search_result_location", "url": "https://example.com/a", "title": "Oslo", "cited_text": "12 degrees", "encrypted_index": "Eo8BCio="},
        {"type": "web_search_result_location", "url": "https://example.com/b", "title": null, "cited_text": "Rome", "encrypted_index": "Eo8CCio="},
    ]});
    let (content, stop, searches) = match (case, call) {
        ("stop", _) => (json!([text("It is")]), "stop_sequence", 0),
        ("loop", 0) => {
            let hidden = json!({"type": "redacted_thinking", "data": "EmwKAhgBIgy"});
            let calls = [used("toolu_01", "Oslo"), used("toolu_02", "Rome")];
            let [first, second] = calls;
            let content = json!([thought("Two cities."), hidden, text("Let me look."), first, second]);
            (content, "tool_use", 0)
        }
        ("loop", 1) => (json!([thought(""), used("toolu_03", "Oslo")]), "tool_use", 0),
        ("runner", 0) => {
            let content = json!([
                thought("Two cities."),
                used("toolu_01", "Oslo"),
                used("toolu_02", "Rome")
            ]);
            (content, "tool_use", 0)
        }
        ("search", 0) => {
            let content = json!([
                thought("I search."),
                text("Let me look."),
                search("srvtoolu_01"),
                found("srvtoolu_01"),
                text("So: "),
                cited,
                text(" Rome is warmer.")
            ]);
            (content, "end_turn", 1)
        }
        ("failed-search", 0) => {
            let error = json!({"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"});
            let failed = json!({"type": "web_search_tool_result", "tool_use_id": "srvtoolu_01", "caller": direct, "content": error});
            (json!([search("srvtoolu_01"), failed, text(TEXT)]), "end_turn", 0)
        }
        ("search-and-tools", 0) => {
            let content = json!([
                thought("Both."),
                search("srvtoolu_01"),
                found("srvtoolu_01"),
                cited,
                used("toolu_01", "Oslo")
            ]);
            (content, "tool_use", 1)
        }
        ("fetch", 0) => {
            let fetch = json!({"type": "server_tool_use", "id": "srvtoolu_02", "name": "web_fetch", "input": {"url": "https://example.com/a"}, "caller": direct});
            let document = json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "12 degrees"}, "title": "Oslo", "citations": {"enabled": true}});
            let page = json!({"type": "web_fetch_result", "url": "https://example.com/a", "retrieved_at": "2026-11-27T10:00:00Z", "content": document});
            let fetched = json!({"type": "web_fetch_tool_result", "tool_use_id": "srvtoolu_02", "content": page, "caller": direct});
            let citation = json!({"type": "char_location", "document_index": 0, "document_title": "Oslo", "file_id": null, "cited_text": "12 degrees", "start_char_index": 0, "end_char_index": 10});
            let cited = json!({"type": "text", "text": TEXT, "citations": [citation]});
            (json!([fetch, fetched, cited]), "end_turn", 0)
        }
        ("pause" | "runner-paused", 0) => {
            let content = json!([thought("I search."), text("Let me look."), search("srvtoolu_01")]);
            (content, "pause_turn", 0)
        }
        ("pause" | "runner-paused", 1) => (json!([found("srvtoolu_01"), search("srvtoolu_03")]), "pause_turn", 1),
        ("pause" | "runner-paused", _) => (json!([found("srvtoolu_03"), cited]), "end_turn", 1),
        _ => return None,
    };
    Some(json!({
        "id": "msg_01", "type": "message", "role": "assistant", "model": "claude-haiku-5-5", "content": content,
        "stop_reason": stop, "stop_sequence": (stop == "stop_sequence").then_some("END"),
        "usage": {
            "input_tokens": 20, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 7, "output_tokens": 9,
            "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 0},
            "server_tool_use": {"web_search_requests": searches, "web_fetch_requests": 0},
            "service_tier": "standard",
        },
    }))
}

fn completion(case: &str, call: usize) -> Option<Value> {
    let called = |id: &str, city: &str| {
        let arguments = arguments(city);
        json!({"id": id, "type": "function", "function": {"name": "weather", "arguments": arguments}})
    };
    let calls = |text: Value, calls: Value| json!({"role": "assistant", "content": text, "refusal": null, "annotations": [], "tool_calls": calls});
    let (message, stop) = match (case, call) {
        ("loop", 0) => {
            let both = json!([called("call_01", "Oslo"), called("call_02", "Rome")]);
            (calls(Value::Null, both), "tool_calls")
        }
        ("loop", 1) => (
            calls(json!("Let me look."), json!([called("call_03", "Oslo")])),
            "tool_calls",
        ),
        // The signature of Gemini, and the reasoning of DeepSeek.
        ("loop-signed", 0) => {
            let mut signed = called("call_01", "Oslo");
            signed["extra_content"] = json!({"google": {"thought_signature": "CpcBAVSoXO4="}});
            let mut message = calls(Value::Null, json!([signed]));
            message["reasoning_content"] = json!("Which city?");
            (message, "tool_calls")
        }
        _ => return None,
    };
    Some(json!({
        "id": "chatcmpl-01", "object": "chat.completion", "created": 1_795_000_000, "model": "gpt-6-luna-2026-08-20",
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": stop}],
        "usage": {
            "prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 41,
            "prompt_tokens_details": {"cached_tokens": 7, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 0},
        },
        "service_tier": "default", "system_fingerprint": null,
    }))
}

fn response(case: &str, call: usize) -> Option<Value> {
    let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
    let said = |id: &str, phase: &str, content: Value| json!({"type": "message", "id": id, "role": "assistant", "status": "completed", "phase": phase, "content": content});
    let says = |text: &str| said("msg_09", "final_answer", json!([part(text)]));
    let reasoned = |id: &str| json!({"type": "reasoning", "id": id, "summary": [{"type": "summary_text", "text": "Two cities."}], "encrypted_content": "gAAAAABo+/="});
    let called = |id: &str, city: &str| {
        let arguments = arguments(city);
        json!({"type": "function_call", "id": format!("fc_{id}"), "call_id": format!("call_{id}"), "name": "weather", "arguments": arguments, "status": "completed"})
    };
    let searched = |status: &str, sources: Value| json!({"type": "web_search_call", "id": "ws_01", "status": status, "action": {"type": "search", "queries": ["weather Oslo"], "query": "weather Oslo", "sources": sources}});
    let found = || {
        searched(
            "completed",
            json!([{"type": "url", "url": "https://example.com/a"}, {"type": "url", "url": "https://example.com/b"}]),
        )
    };
    let opened = json!({"type": "web_search_call", "id": "ws_02", "status": "completed", "action": {"type": "open_page", "url": "https://example.com/a"}});
    let cited = {
        let mut cited = part(TEXT);
        cited["annotations"] = json!([{"type": "url_citation", "url": "https://example.com/a", "title": "Oslo", "start_index": 6, "end_index": 19}]);
        said("msg_02", "final_answer", json!([cited, part(" Rome is warmer.")]))
    };
    let (output, searches) = match (case, call) {
        ("loop", 0) => {
            let comment = said("msg_01", "commentary", json!([part("Let me look.")]));
            (
                json!([reasoned("rs_01"), comment, called("01", "Oslo"), called("02", "Rome")]),
                0,
            )
        }
        ("loop", 1) => (json!([reasoned("rs_02"), called("03", "Oslo")]), 0),
        ("search", 0) => (json!([reasoned("rs_01"), found(), opened, cited]), 1),
        ("failed-search", 0) => (json!([searched("failed", json!([])), says(TEXT)]), 0),
        ("search-and-tools", 0) => (json!([reasoned("rs_01"), found(), cited, called("01", "Oslo")]), 1),
        _ => return None,
    };
    let cost = json!({
        "image_gen": {
            "input_tokens": 0, "input_tokens_details": {"image_tokens": 0, "text_tokens": 0}, "output_tokens": 0, "total_tokens": 0,
        },
        "web_search": {"num_requests": searches},
    });
    Some(json!({
        "id": "resp_01", "object": "response", "created_at": 1_795_000_000, "status": "completed",
        "error": null, "incomplete_details": null, "instructions": null, "metadata": {},
        "model": "gpt-6-luna-2026-08-20", "output": output, "parallel_tool_calls": true, "temperature": null, "tool_choice": "auto",
        "tools": [], "top_p": null, "max_output_tokens": 1000, "store": false, "tool_usage": cost,
        "usage": {
            "input_tokens": 32, "input_tokens_details": {"cached_tokens": 7, "cache_write_tokens": 0},
            "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 41,
        },
    }))
}
