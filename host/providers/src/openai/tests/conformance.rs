//! The JSON of this wire for the cases that all wires share.

use super::*;
use crate::conformance::{Exchange, run};

fn says(message: &Value, finish: &str) -> Exchange {
    Exchange::says(serde_json::from_str(&completion(message, &json!(finish), &json!({}))).unwrap())
}

fn blue() -> Exchange {
    says(&said("Blue."), "stop")
}

fn failure(status: u16, code: &str, message: &str) -> Exchange {
    Exchange::says(serde_json::from_str(&error("", &json!(code), message)).unwrap()).status(status)
}

fn exchange(case: &str) -> Option<Exchange> {
    let weather = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let zone = json!({
        "type": "object", "properties": {"zone": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
        "required": ["zone"], "additionalProperties": false,
    });
    let time = json!({"type": "function", "function": {"name": "time", "parameters": zone, "strict": true}});
    let signed = json!({
        "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{ \"city\": \"Oslo\" }"},
        "extra_content": {"google": {"thought_signature": "CiQB+/="}},
    });
    let plain = json!({"id": "call_2", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Rome\"}"}});
    let calls = json!({
        "role": "assistant", "content": "Let me look.", "refusal": null, "annotations": [],
        "reasoning_content": "Which city?", "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}],
        "tool_calls": [signed, plain],
    });
    let called = json!({
        "role": "assistant", "content": "Let me look.",
        "reasoning_content": "Which city?", "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}],
        "tool_calls": [signed, plain],
    });
    Some(match case {
        "text" => blue().sent(
            "/messages",
            json!([
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello."},
                {"role": "user", "content": [{"type": "text", "text": "Name"}, {"type": "text", "text": "a color."}]},
            ]),
        ),
        "schema" => blue()
            .sent("/response_format/type", json!("json_schema"))
            .sent("/response_format/json_schema/name", json!("A"))
            .sent("/response_format/json_schema/strict", json!(true)),
        "schema in words" => blue()
            .sent("/response_format", Value::Null)
            .sent("/messages/0/role", json!("system")),
        "image" => blue().sent(
            "/messages/0/content/1",
            json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AQID"}}),
        ),
        "effort" => blue().sent("/reasoning_effort", json!("high")),
        "thinking off" => blue().sent("/reasoning_effort", json!("none")),
        "thinking adaptive" => blue().sent("/reasoning_effort", Value::Null),
        "stop" => blue().sent("/stop", json!(["END"])),
        "tools" => blue().sent(
            "/tools",
            json!([
                {"type": "function", "function": {"name": "weather", "description": "The weather of a city.", "parameters": weather}},
                time,
            ]),
        ),
        "choice any" => blue().sent("/tool_choice", json!("required")),
        "choice none" => blue().sent("/tool_choice", json!("none")),
        "choice of one" => blue().sent(
            "/tool_choice",
            json!({"type": "function", "function": {"name": "time"}}),
        ),
        "one call at a time" => blue().sent("/parallel_tool_calls", json!(false)),
        "calls" => says(&calls, "tool_calls")
            .next("/messages/1", called)
            .next(
                "/messages/2",
                json!({"role": "tool", "tool_call_id": "call_1", "content": "12 °C"}),
            )
            .next(
                "/messages/3",
                json!({"role": "tool", "tool_call_id": "call_2", "content": "Error: no such city"}),
            )
            .next("/messages/4", json!({"role": "user", "content": "Go on."}))
            .back(signed)
            .back(plain),
        "calls with an ordinary end" => says(&calls, "stop").back(signed).back(plain),
        "invalid arguments" => {
            let cut = json!({"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Os"}});
            says(&json!({"content": null, "tool_calls": [cut]}), "tool_calls").next(
                "/messages/1",
                json!({"role": "assistant", "content": null, "tool_calls": [cut]}),
            )
        }
        "foreign blocks" => {
            let call = json!({"id": "call_1", "type": "function", "function": {"name": "time", "arguments": "{\"zone\":\"UTC\"}"}});
            blue()
                .sent(
                    "/messages/1",
                    json!({"role": "assistant", "content": "Let me look.", "tool_calls": [call]}),
                )
                .sent(
                    "/messages/2",
                    json!({"role": "tool", "tool_call_id": "call_1", "content": "12:00"}),
                )
                .sent("/messages/3", Value::Null)
        }
        "thinking without tools" => says(&json!({"content": "Blue.", "reasoning_content": "Hm."}), "stop")
            .next("/messages/1", json!({"role": "assistant", "content": "Blue."})),
        "refusal" => says(&json!({"content": null, "refusal": "Not this."}), "stop"),
        "cut off" => says(&said("Blu"), "length"),
        "context full" => failure(
            400,
            "context_length_exceeded",
            "This model's maximum context length is 4096 tokens.",
        ),
        "rate limited" => failure(429, "rate_limit_exceeded", "slow down"),
        "rate limited inside of a success" => failure(200, "rate_limit_exceeded", "slow down"),
        "failure inside of a success" => failure(200, "server_error", "oops"),
        _ => return None,
    })
}

#[tokio::test]
async fn the_wire_conforms() {
    let open = |url: &str| OpenAi::new(Some(&format!("{url}/v1")), None, MaxTokensField::default()).unwrap();
    run(|url| Box::new(open(url)), exchange).await;
}
