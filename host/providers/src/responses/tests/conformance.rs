//! The JSON of this wire for the cases that all wires share.

use super::*;
use crate::conformance::{Exchange, run};

fn says(output: &Value) -> Exchange {
    Exchange::says(response(output, &json!({})))
}

fn blue() -> Exchange {
    says(&json!([message("Blue.")]))
}

fn failure(status: u16, code: &str, message: &str) -> Exchange {
    Exchange::says(json!({"error": {"message": message, "type": null, "param": null, "code": code}})).status(status)
}

/// A failure that is reported in a response.
fn failed(code: &str, message: &str) -> Exchange {
    let more = json!({"status": "failed", "error": {"code": code, "message": message}});
    Exchange::says(response(&json!([]), &more))
}

fn called(number: u32, city: &str) -> Value {
    json!({
        "type": "function_call", "id": format!("fc_{number}"), "call_id": format!("call_{number}"), "name": "weather",
        "arguments": format!("{{\"city\":\"{city}\"}}"), "status": "completed",
    })
}

fn searched(status: &str, sources: &Value) -> Value {
    let action = json!({"type": "search", "query": "color", "queries": ["color"], "sources": sources});
    json!({"type": "web_search_call", "id": "ws_1", "status": status, "action": action})
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn exchange(case: &str) -> Option<Exchange> {
    let weather = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let zone = json!({
        "type": "object", "properties": {"zone": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
        "required": ["zone"], "additionalProperties": false,
    });
    let mut commentary = message("Let me look.");
    commentary["phase"] = json!("commentary");
    let calls = json!([thought(), commentary, called(1, "Oslo"), called(2, "Rome")]);
    let search = json!({"type": "web_search", "filters": {"allowed_domains": ["example.com"]}});
    Some(match case {
        "text" => blue().sent("/instructions", json!("Be brief.")).sent(
            "/input",
            json!([
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello."},
                {"role": "user", "content": [{"type": "input_text", "text": "Name"}, {"type": "input_text", "text": "a color."}]},
            ]),
        ),
        "schema" => blue()
            .sent("/text/format/type", json!("json_schema"))
            .sent("/text/format/name", json!("A"))
            .sent("/text/format/strict", json!(true))
            .sent("/text/format/schema/additionalProperties", json!(false)),
        "schema in words" => blue().sent("/text", Value::Null),
        "image" => blue().sent(
            "/input/0/content",
            json!([
                {"type": "input_text", "text": "See"},
                {"type": "input_image", "image_url": "data:image/png;base64,AQID", "detail": "auto"},
            ]),
        ),
        "effort" => blue().sent("/reasoning", json!({"effort": "high"})),
        "thinking off" => blue().sent("/reasoning", json!({"effort": "none"})),
        "thinking adaptive" => blue().sent("/reasoning", Value::Null),
        "tools" => blue()
            .sent("/include", json!(["reasoning.encrypted_content"]))
            .sent(
                "/tools",
                json!([
                    {"type": "function", "name": "weather", "description": "The weather of a city.", "parameters": weather, "strict": false},
                    {"type": "function", "name": "time", "parameters": zone, "strict": true},
                ]),
            ),
        "choice any" => blue().sent("/tool_choice", json!("required")),
        "choice none" => blue().sent("/tool_choice", json!("none")),
        "choice of one" => blue().sent("/tool_choice", json!({"type": "function", "name": "time"})),
        "one call at a time" => blue().sent("/parallel_tool_calls", json!(false)),
        "calls" | "calls with an ordinary end" => {
            let sent = json!([
                {"role": "user", "content": "Hi"},
                thought(), commentary, called(1, "Oslo"), called(2, "Rome"),
                {"type": "function_call_output", "call_id": "call_1", "output": "12 °C"},
                {"type": "function_call_output", "call_id": "call_2", "output": "Error: no such city"},
                {"role": "user", "content": "Go on."},
            ]);
            let items = calls.as_array().unwrap().clone();
            items.into_iter().fold(says(&calls).next("/input", sent), Exchange::back)
        }
        "invalid arguments" => {
            let mut cut = called(1, "Oslo");
            cut["arguments"] = json!("{\"city\": \"Os");
            says(&json!([cut])).back(cut)
        }
        "foreign blocks" => blue().sent(
            "/input",
            json!([
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Let me look."},
                {"type": "function_call", "call_id": "call_1", "name": "time", "arguments": "{\"zone\":\"UTC\"}"},
                {"type": "function_call_output", "call_id": "call_1", "output": "12:00"},
            ]),
        ),
        "thinking without tools" => says(&json!([thought(), message("Blue.")]))
            .sent("/include", Value::Null)
            .next("/input/1", json!({"role": "assistant", "content": "Blue."})),
        "search" => {
            let mut cited = message("Blue.");
            let citation = json!({"type": "url_citation", "url": "https://example.com/a", "title": "A", "start_index": 0, "end_index": 4});
            cited["content"][0]["annotations"] = json!([citation]);
            let searched = searched("completed", &json!([{"type": "url", "url": "https://example.com/a"}]));
            let more = json!({"tool_usage": {"web_search": {"num_requests": 2}}});
            Exchange::says(response(&json!([thought(), searched, cited]), &more))
                .sent("/tools", json!([search]))
                .sent("/max_tool_calls", json!(3))
                .sent(
                    "/include",
                    json!(["reasoning.encrypted_content", "web_search_call.action.sources"]),
                )
                .back(thought())
                .back(searched)
                .back(cited)
        }
        "failed search" => {
            let failed = searched("failed", &json!([]));
            says(&json!([failed, message("Blue.")])).back(failed)
        }
        "paused" => says(&json!([message("Let me look.")])),
        "refusal" => {
            let mut refused = message("");
            refused["content"] = json!([{"type": "refusal", "refusal": "Not this."}]);
            says(&json!([refused]))
        }
        "cut off" => {
            let more = json!({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}});
            Exchange::says(response(&json!([message("Blu")]), &more))
        }
        "context full" => failure(
            400,
            "context_length_exceeded",
            "Your input exceeds the maximum context length of this model.",
        ),
        "rate limited" => failure(429, "rate_limit_exceeded", "slow down"),
        "rate limited inside of a success" => failed("rate_limit_exceeded", "slow down"),
        "failure inside of a success" => failed("server_error", "oops"),
        _ => return None,
    })
}

#[tokio::test]
async fn the_wire_conforms() {
    let open = |url: &str| OpenAiResponses::new(Some(&format!("{url}/v1")), None).unwrap();
    run(|url| Box::new(open(url)), exchange).await;
}
