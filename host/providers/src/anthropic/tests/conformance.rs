//! The JSON of this wire for the cases that all wires share.

use super::*;
use crate::conformance::{Exchange, run};

fn says(content: Value, stop: &str) -> Exchange {
    let body: Value = serde_json::from_str(&message(&content, stop, &json!({}))).unwrap();
    Exchange::says(body)
}

fn blue() -> Exchange {
    says(json!([{"type": "text", "text": "Blue."}]), "end_turn")
}

fn failure(status: u16, kind: &str, message: &str) -> Exchange {
    let body = json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"});
    Exchange::says(body).status(status)
}

fn called(id: &str, city: &str) -> Value {
    json!({"type": "tool_use", "id": id, "name": "weather", "input": {"city": city}, "caller": {"type": "direct"}})
}

fn thought() -> Value {
    json!({"type": "thinking", "thinking": "Which city?", "signature": "EuYBCkQYAiJA+/="})
}

fn hidden() -> Value {
    json!({"type": "redacted_thinking", "data": "EmwKAhgB"})
}

fn searched() -> Value {
    json!({"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "color"}, "caller": {"type": "direct"}})
}

fn found() -> Value {
    json!({"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [
        {"type": "web_search_result", "url": "https://example.com/a", "title": "A", "page_age": null, "encrypted_content": "Er8B"},
    ]})
}

fn usage(searches: u64) -> Value {
    json!({"usage": {"input_tokens": 10, "output_tokens": 4, "server_tool_use": {"web_search_requests": searches, "web_fetch_requests": 0}}})
}

fn counted(content: &Value, stop: &str, searches: u64) -> Exchange {
    Exchange::says(serde_json::from_str(&message(content, stop, &usage(searches))).unwrap())
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn exchange(case: &str) -> Option<Exchange> {
    let weather = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let zone = json!({"type": "object", "properties": {"zone": {"type": "string"}}, "required": [], "additionalProperties": false});
    let said = json!({"type": "text", "text": "Let me look."});
    let calls = json!([
        thought(),
        hidden(),
        said,
        called("call_1", "Oslo"),
        called("call_2", "Rome")
    ]);
    let search =
        json!({"type": "web_search_20250305", "name": "web_search", "max_uses": 3, "allowed_domains": ["example.com"]});
    Some(match case {
        "text" => blue().sent("/system", json!("Be brief.")).sent(
            "/messages",
            json!([
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello."},
                {"role": "user", "content": [{"type": "text", "text": "Name"}, {"type": "text", "text": "a color."}]},
            ]),
        ),
        "schema" => blue()
            .sent("/output_config/format/type", json!("json_schema"))
            .sent("/output_config/format/schema/additionalProperties", json!(false))
            .sent("/system", Value::Null),
        "schema in words" => blue().sent("/output_config", Value::Null),
        "image" => blue().sent(
            "/messages/0/content/1",
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AQID"}}),
        ),
        "effort" => blue().sent("/output_config", json!({"effort": "high"})),
        "thinking off" => blue().sent("/thinking", json!({"type": "disabled"})),
        "thinking adaptive" => blue().sent("/thinking", json!({"type": "adaptive"})),
        "stop" => says(json!([{"type": "text", "text": "Blue."}]), "end_turn").sent("/stop_sequences", json!(["END"])),
        "tools" => blue().sent("/tool_choice", Value::Null).sent(
            "/tools",
            json!([
                {"name": "weather", "description": "The weather of a city.", "input_schema": weather},
                {"name": "time", "input_schema": zone, "strict": true},
            ]),
        ),
        "choice any" => blue().sent("/tool_choice", json!({"type": "any"})),
        "choice none" => blue().sent("/tool_choice", json!({"type": "none"})),
        "choice of one" => blue().sent("/tool_choice", json!({"type": "tool", "name": "time"})),
        "one call at a time" => blue().sent(
            "/tool_choice",
            json!({"type": "auto", "disable_parallel_tool_use": true}),
        ),
        "calls" => says(calls.clone(), "tool_use")
            .next("/messages/1", json!({"role": "assistant", "content": calls}))
            .next(
                "/messages/2",
                json!({"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": "12 °C"},
                    {"type": "tool_result", "tool_use_id": "call_2", "content": "no such city", "is_error": true},
                    {"type": "text", "text": "Go on."},
                ]}),
            )
            .back(calls),
        "calls with an ordinary end" => says(calls.clone(), "end_turn").back(calls),
        "invalid arguments" => says(
            json!([{"type": "tool_use", "id": "call_1", "name": "weather", "input": "{\"city\": \"Os"}]),
            "tool_use",
        )
        .next("/messages/1/content/0/input", json!({"INVALID_JSON": "{\"city\": \"Os"})),
        "foreign blocks" => blue().sent(
            "/messages/1/content",
            json!([{"type": "text", "text": "Let me look."}, {"type": "tool_use", "id": "call_1", "name": "time", "input": {"zone": "UTC"}}]),
        ),
        "thinking without tools" => says(json!([thought(), {"type": "text", "text": "Blue."}]), "end_turn")
            .next("/messages/1/content", json!("Blue.")),
        "search" => {
            let citation = json!({"type": "web_search_result_location", "url": "https://example.com/a", "title": "A", "cited_text": "Blue", "encrypted_index": "Eo8B"});
            let content = json!([searched(), found(), {"type": "text", "text": "Blue.", "citations": [citation]}]);
            counted(&content, "end_turn", 2).sent("/tools", json!([search])).back(content)
        }
        "failed search" => {
            let error = json!({"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"});
            let failed = json!({"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": error});
            let content = json!([searched(), failed, {"type": "text", "text": "Blue."}]);
            counted(&content, "end_turn", 0).back(content)
        }
        "blocked domains" => blue().sent(
            "/tools/0",
            json!({"type": "web_search_20250305", "name": "web_search", "max_uses": 5, "blocked_domains": ["example.com"]}),
        ),
        "fetch" => {
            let used = json!({"type": "server_tool_use", "id": "srvtoolu_2", "name": "web_fetch", "input": {"url": "https://example.com/a"}});
            let document = json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Blue"}, "title": "A", "citations": {"enabled": true}});
            let page = json!({"type": "web_fetch_result", "url": "https://example.com/a", "retrieved_at": "2026-11-01", "content": document});
            let fetched = json!({"type": "web_fetch_tool_result", "tool_use_id": "srvtoolu_2", "content": page});
            // A citation of a document does not have its address.
            let citation = json!({"type": "char_location", "document_index": 0, "document_title": "A", "cited_text": "Blue", "start_char_index": 0, "end_char_index": 4});
            let content = json!([used, fetched, {"type": "text", "text": "Blue.", "citations": [citation]}]);
            says(content.clone(), "end_turn")
                .sent(
                    "/tools/0",
                    json!({"type": "web_fetch_20250910", "name": "web_fetch", "citations": {"enabled": true}, "max_content_tokens": 10_000, "max_uses": 2}),
                )
                .back(content)
        }
        "paused" => {
            let content = json!([thought(), {"type": "text", "text": "Let me look."}, searched()]);
            // The reply goes on from its own content, as the last message.
            says(content.clone(), "pause_turn")
                .next("/messages/1", json!({"role": "assistant", "content": content}))
                .next("/messages/2", Value::Null)
                .next("/tools", json!([search]))
                .back(content)
        }
        "refusal" => {
            let details = json!({"stop_details": {"type": "refusal", "category": "x", "explanation": "Not this."}});
            Exchange::says(serde_json::from_str(&message(&json!([]), "refusal", &details)).unwrap())
        }
        "cut off" => says(json!([{"type": "text", "text": "Blu"}]), "max_tokens"),
        "context full" => failure(
            400,
            "invalid_request_error",
            "prompt is too long: 208310 tokens > 200000 maximum",
        ),
        "rate limited" => failure(429, "rate_limit_error", "slow down"),
        "rate limited inside of a success" => failure(200, "rate_limit_error", "slow down"),
        "failure inside of a success" => failure(200, "api_error", "oops"),
        _ => return None,
    })
}

#[tokio::test]
async fn the_wire_conforms() {
    run(|url| Box::new(Anthropic::new(Some(url), None).unwrap()), exchange).await;
}
