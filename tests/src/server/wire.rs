//! The HTTP of the scripted server, and the two vendors' forms of a reply.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::quota::Charge;
use super::reply::{Body, Call, End, Reply, Usage};
use super::{Request, Shared, forward};

/// Serves one connection until either side has enough of it.
pub(super) async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut bytes = Vec::new();
    let mut open = shared.open.subscribe();
    loop {
        let next = tokio::select! {
            next = read(&mut stream, &mut bytes) => next,
            _ = open.wait_for(|open| !open) => None,
        };
        let Some((path, headers, body)) = next else {
            return;
        };
        let request = arrived(&shared, path, headers, &body);
        if !exchange(&mut stream, &mut bytes, &shared, &request, &body).await {
            return;
        }
    }
}

fn arrived(shared: &Shared, path: String, headers: Vec<(String, String)>, body: &[u8]) -> Request {
    let mut seen = shared.seen.lock().unwrap();
    seen.in_flight += 1;
    seen.max_in_flight = seen.max_in_flight.max(seen.in_flight);
    let request = Request {
        number: seen.requests.len(),
        path,
        headers,
        bytes: body.len(),
        body: serde_json::from_slice(body).unwrap_or(Value::Null),
        in_flight: seen.in_flight,
        arrived: Instant::now(),
        ended: None,
        closed_by_client: false,
        status: None,
        wait_until: None,
    };
    seen.requests.push(request.clone());
    request
}

/// An answer that went out as a whole.
struct Sent {
    status: u16,
    /// Input and output tokens.
    counted: (u64, u64),
}

/// Answers one request with the body `raw`; whether the connection can be used for another.
async fn exchange(stream: &mut TcpStream, bytes: &mut Vec<u8>, shared: &Shared, request: &Request, raw: &[u8]) -> bool {
    let admitted = shared.quota.as_ref().map(|quota| quota.admit(request));
    let (reply, charge) = match admitted {
        None => ((shared.handler)(request), None),
        Some(Ok(charge)) => ((shared.handler)(request), Some(charge)),
        Some(Err(refusal)) => (*refusal, None),
    };
    let told = told(&reply);
    let (mut from, mut to) = stream.split();
    let gone = async {
        // Bytes before the answer are an early next request.
        while matches!(from.read_buf(bytes).await, Ok(1..)) {}
    };
    let answered = tokio::select! {
        biased;
        answered = answer(shared, request, raw, charge, reply, &mut to) => answered.ok(),
        () = gone => None,
    };
    let now = Instant::now();
    let mut seen = shared.seen.lock().unwrap();
    seen.in_flight -= 1;
    let entry = &mut seen.requests[request.number];
    entry.ended = Some(now);
    entry.closed_by_client = answered.is_none();
    let Some(Some(sent)) = answered else {
        return false;
    };
    entry.status = Some(sent.status);
    entry.wait_until = told.map(|told| now + told);
    seen.counted = (seen.counted.0 + sent.counted.0, seen.counted.1 + sent.counted.1);
    true
}

/// The time for which a reply asks to wait.
fn told(reply: &Reply) -> Option<Duration> {
    let header = |name: &str| {
        let found = reply.headers.iter().find(|(known, _)| known == name);
        found.and_then(|(_, value)| value.parse().ok())
    };
    header("retry-after-ms")
        .map(Duration::from_millis)
        .or_else(|| header("retry-after").map(Duration::from_secs))
}

/// Path, headers and body of the next request; what follows it stays in `bytes`.
async fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<(String, Vec<(String, String)>, Vec<u8>)> {
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let mut lines = text.lines();
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let header = |line: &str| {
        line.split_once(':')
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let headers: Vec<_> = lines.filter_map(header).collect();
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or("0", |(_, value)| value);
    let end = head + 4 + length.parse::<usize>().ok()?;
    while bytes.len() < end {
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
    let rest = bytes.split_off(end);
    let body = std::mem::replace(bytes, rest).split_off(head + 4);
    Some((path, headers, body))
}

/// Writes the answer; `None` if the connection has to end after it, or instead of it.
async fn answer(
    shared: &Shared,
    request: &Request,
    raw: &[u8],
    charge: Option<Charge>,
    reply: Reply,
    to: &mut (impl AsyncWriteExt + Unpin),
) -> std::io::Result<Option<Sent>> {
    if let Some(gate) = &reply.gate {
        gate.opened().await;
    }
    tokio::time::sleep(reply.after).await;
    let mut headers = reply.headers;
    let usage = match reply.body {
        Body::Text { usage, .. } => usage,
        _ => None,
    };
    if let Some(quota) = &shared.quota {
        let now = Instant::now();
        if let Some(charge) = charge {
            quota.settle(charge, usage, now);
        }
        headers.extend(quota.headers(now));
    }
    let mut head = format!("HTTP/1.1 {} Whatever\r\n", reply.status);
    for (name, value) in &headers {
        head += &format!("{name}: {value}\r\n");
    }
    let body = match reply.body {
        Body::Text {
            text,
            calls,
            usage,
            end,
        } => wire(request, &text, &calls, usage, end),
        Body::Raw(body) => body,
        Body::Stall => std::future::pending().await,
        Body::Close => return Ok(None),
        Body::Forward(upstream) => {
            let Ok(got) = forward::ask(upstream, &request.path, raw).await else {
                return Ok(None);
            };
            to.write_all(&got.bytes).await?;
            to.flush().await?;
            let (status, counted) = (got.status, got.counted);
            return Ok(Some(Sent { status, counted }));
        }
        Body::CutOff => {
            let half = format!("{head}content-type: application/json\r\ncontent-length: 1000\r\n\r\n{{\"id\": \"half");
            to.write_all(half.as_bytes()).await?;
            to.flush().await?;
            return Ok(None);
        }
        Body::Drip { step, headers } => {
            let (start, drop): (_, &[u8]) = match headers {
                true => (head, b"x-more: y\r\n"),
                false => (
                    format!("{head}content-type: application/json\r\ncontent-length: 1000000\r\n\r\n"),
                    b" ",
                ),
            };
            to.write_all(start.as_bytes()).await?;
            loop {
                to.write_all(drop).await?;
                to.flush().await?;
                tokio::time::sleep(step).await;
            }
        }
        Body::Endless => {
            to.write_all(format!("{head}content-type: application/json\r\n\r\n{{\"id\": \"").as_bytes())
                .await?;
            loop {
                to.write_all(&[b'x'; 65_536]).await?;
            }
        }
    };
    head += &format!(
        "content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    to.write_all(head.as_bytes()).await?;
    to.write_all(&body).await?;
    to.flush().await?;
    let usage = usage.unwrap_or_default();
    Ok(Some(Sent {
        status: reply.status,
        counted: (usage.input, usage.output),
    }))
}

/// A reply in the form of the wire that was asked. The vendors' SDKs accept it, see the test group `vendor-sdks`.
fn wire(request: &Request, text: &str, calls: &[Call], usage: Option<Usage>, end: End) -> Vec<u8> {
    let model = &request.body["model"];
    let path = request.path.split('?').next().unwrap_or_default();
    let body = if path.ends_with("/messages") {
        messages(model, text, calls, usage, end)
    } else if path.ends_with("/responses") {
        responses(model, text, calls, usage, end)
    } else {
        completions(model, text, calls, usage, end)
    };
    body.to_string().into_bytes()
}

fn messages(model: &Value, text: &str, calls: &[Call], usage: Option<Usage>, end: End) -> Value {
    // This wire's input tokens do not include the tokens from the cache.
    let usage = usage.map(|usage| {
        json!({
            "input_tokens": usage.input - usage.cached - usage.written, "cache_read_input_tokens": usage.cached,
            "cache_creation_input_tokens": usage.written,
            "output_tokens": usage.output,
        })
    });
    let (stop, details) = match end {
        End::Done if calls.is_empty() => ("end_turn", Value::Null),
        End::Done => ("tool_use", Value::Null),
        End::MaxTokens => ("max_tokens", Value::Null),
        End::Refusal => (
            "refusal",
            json!({"type": "refusal", "category": null, "explanation": text}),
        ),
    };
    let mut content = Vec::new();
    if !matches!(end, End::Refusal) {
        content.push(json!({"type": "text", "text": text}));
        content.extend(calls.iter().map(
            |Call { id, name, arguments }| json!({"type": "tool_use", "id": id, "name": name, "input": arguments}),
        ));
    }
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": model, "stop_reason": stop,
        "stop_details": details, "content": content, "usage": usage,
    })
}

fn completions(model: &Value, text: &str, calls: &[Call], usage: Option<Usage>, end: End) -> Value {
    let usage = usage.map(|usage| {
        json!({
            "prompt_tokens": usage.input, "completion_tokens": usage.output,
            "total_tokens": usage.input + usage.output, "prompt_tokens_details": {"cached_tokens": usage.cached},
        })
    });
    let mut message = match end {
        End::Refusal => json!({"role": "assistant", "content": null, "refusal": text}),
        End::Done | End::MaxTokens => json!({"role": "assistant", "content": text}),
    };
    if !calls.is_empty() {
        let calls = calls.iter().map(|Call { id, name, arguments }| {
            json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments.to_string()}})
        });
        message["tool_calls"] = calls.collect();
    }
    let stop = match end {
        End::MaxTokens => "length",
        End::Done if !calls.is_empty() => "tool_calls",
        End::Done | End::Refusal => "stop",
    };
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_795_000_000, "model": model, "usage": usage,
        "choices": [{"index": 0, "message": message, "finish_reason": stop}],
    })
}

fn responses(model: &Value, text: &str, calls: &[Call], usage: Option<Usage>, end: End) -> Value {
    let usage = usage.map(|usage| {
        json!({
            "input_tokens": usage.input, "output_tokens": usage.output, "total_tokens": usage.input + usage.output,
            "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": usage.written},
            "output_tokens_details": {"reasoning_tokens": 0},
        })
    });
    let part = match end {
        End::Refusal => json!({"type": "refusal", "refusal": text}),
        End::Done | End::MaxTokens => json!({"type": "output_text", "annotations": [], "text": text}),
    };
    let mut output = vec![json!({
        "id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part],
    })];
    output.extend(calls.iter().map(|Call { id, name, arguments }| {
        json!({
            "id": format!("fc_{id}"), "type": "function_call", "call_id": id, "name": name,
            "arguments": arguments.to_string(), "status": "completed",
        })
    }));
    let (status, details) = match end {
        End::MaxTokens => ("incomplete", json!({"reason": "max_output_tokens"})),
        End::Done | End::Refusal => ("completed", Value::Null),
    };
    json!({
        "id": "resp_1", "object": "response", "created_at": 1_795_000_000, "model": model, "status": status,
        "incomplete_details": details, "error": null, "output": output, "usage": usage, "tools": [], "tool_choice": "auto",
        "parallel_tool_calls": true,
    })
}
