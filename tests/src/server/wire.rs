//! The HTTP of the scripted server, and the two vendors' forms of a reply.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Body, Reply, Request, Shared};

pub(super) async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let Some((path, headers, body)) = read(&mut stream).await else {
        return;
    };
    let request = {
        let mut seen = shared.seen.lock().unwrap();
        let request = Request {
            number: seen.requests.len(),
            path,
            headers,
            body,
            arrived: Instant::now(),
            ended: None,
            closed_by_client: false,
        };
        seen.requests.push(request.clone());
        seen.in_flight += 1;
        seen.max_in_flight = seen.max_in_flight.max(seen.in_flight);
        request
    };
    let reply = (shared.handler)(&request);
    let counted = match reply.body {
        Body::Text { usage, .. } => usage.unwrap_or_default(),
        _ => (0, 0),
    };
    let (mut from, mut to) = stream.split();
    let gone = async {
        let mut byte = [0];
        // The client has nothing more to say: whatever comes is the end.
        while matches!(from.read(&mut byte).await, Ok(1)) {}
    };
    let closed_by_client = tokio::select! {
        biased;
        sent = answer(&request, reply, &mut to) => sent.is_err(),
        () = gone => true,
    };
    let mut seen = shared.seen.lock().unwrap();
    seen.in_flight -= 1;
    if !closed_by_client {
        seen.counted = (seen.counted.0 + counted.0, seen.counted.1 + counted.1);
    }
    let entry = &mut seen.requests[request.number];
    entry.ended = Some(Instant::now());
    entry.closed_by_client = closed_by_client;
}

/// Path, headers and body of a request.
async fn read(stream: &mut TcpStream) -> Option<(String, Vec<(String, String)>, Value)> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
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
    let length: usize = length.parse().ok()?;
    while bytes.len() < head + 4 + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = serde_json::from_slice(&bytes[head + 4..]).unwrap_or(Value::Null);
    Some((path, headers, body))
}

async fn answer(request: &Request, reply: Reply, to: &mut (impl AsyncWriteExt + Unpin)) -> std::io::Result<()> {
    if let Some(gate) = &reply.gate {
        gate.opened().await;
    }
    tokio::time::sleep(reply.after).await;
    let mut head = format!("HTTP/1.1 {} Whatever\r\nconnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let body = match reply.body {
        Body::Text { text, usage } => wire(request, &text, usage),
        Body::Raw(body) => body,
        Body::Stall => std::future::pending().await,
        Body::Close => return Ok(()),
        Body::CutOff => {
            let half = format!("{head}content-type: application/json\r\ncontent-length: 1000\r\n\r\n{{\"id\": \"half");
            to.write_all(half.as_bytes()).await?;
            return to.flush().await;
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
    to.flush().await
}

/// A reply in the form of the wire that was asked.
fn wire(request: &Request, text: &str, usage: Option<(u64, u64)>) -> Vec<u8> {
    let model = &request.body["model"];
    let body = if request.path.ends_with("/messages") {
        let usage = usage.map(|(input, output)| json!({"input_tokens": input, "output_tokens": output}));
        json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": model, "stop_reason": "end_turn",
            "content": [{"type": "text", "text": text}], "usage": usage,
        })
    } else {
        let usage = usage.map(|(input, output)| {
            json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output})
        });
        json!({
            "id": "chatcmpl-1", "object": "chat.completion", "model": model, "usage": usage,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        })
    };
    body.to_string().into_bytes()
}
