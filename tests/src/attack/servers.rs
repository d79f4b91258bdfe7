//! Model servers that misbehave.

use std::time::Duration;

use flate2::{Compress, Compression, FlushCompress};
use serde_json::json;

use crate::server::{Reply, Server};

/// Returns the server with this name.
///
/// # Panics
///
/// If there is no such server.
pub(super) fn server(name: &str) -> Server {
    let reply = match name {
        "good" => Reply::text("fine"),
        "slow" => Reply::text("fine").after(Duration::from_millis(100)),
        "slower" => Reply::text("fine").after(Duration::from_secs(3)),
        "stalls" => Reply::stall(),
        "endless" => Reply::endless(),
        "drips" => Reply::drip(Duration::from_millis(50)),
        "drips-headers" => Reply::drip_headers(Duration::from_millis(50)),
        "cut-off" => Reply::cut_off(),
        "closes" => Reply::close(),
        "gzip-bomb" => Reply::raw(200, gzip(1 << 10)).header("content-encoding", "gzip"),
        "gzip-broken" => Reply::raw(200, b"no gzip".to_vec()).header("content-encoding", "gzip"),
        "not-json" => Reply::raw(200, "{\"id\": \"x\", \"choices\": ["),
        "not-utf8" => Reply::raw(
            200,
            b"{\"choices\": [{\"message\": {\"content\": \"\xff\xfe\xed\xa0\x80\"}}]}".to_vec(),
        ),
        "surrogate" => Reply::raw(
            200,
            "{\"choices\": [{\"finish_reason\": \"stop\", \"message\": {\"content\": \"\\ud800x\"}}]}",
        ),
        "deep" => Reply::raw(
            200,
            format!("{{\"choices\": {}{}}}", "[".repeat(200_000), "]".repeat(200_000)),
        ),
        "headers-many" => (0..2000).fold(Reply::text("fine"), |reply, at| reply.header(&format!("x-{at}"), "y")),
        "header-large" => Reply::text("fine").header("x-large", &"y".repeat(10 << 20)),
        "waits-for-ever" => Reply::error(429, "rate_limit_error", "later").header("retry-after", "999999999999"),
        "waits-for-nothing" => Reply::error(429, "rate_limit_error", "later").header("retry-after", "-1e308"),
        "counts-negative" => counts(json!({"prompt_tokens": -5, "completion_tokens": -7})),
        "counts-nothing" => counts(json!(null)),
        "counts-huge" => counts(json!({"prompt_tokens": u64::MAX, "completion_tokens": u64::MAX})),
        "counts-beyond" => Reply::raw(
            200,
            reply(&json!(0)).to_string().replace(
                "\"usage\":0",
                "\"usage\":{\"prompt_tokens\":99999999999999999999999,\"completion_tokens\":1e300}",
            ),
        ),
        "counts-fractions" => counts(json!({"prompt_tokens": 1.5, "completion_tokens": "9"})),
        "counts-list" => counts(json!([])),
        "array" => Reply::text(format!(
            "[{}]",
            (0..400_000).map(|at| at.to_string()).collect::<Vec<_>>().join(",")
        )),
        "brackets" => Reply::text(format!("{}1{}", "[".repeat(100), "]".repeat(100))),
        other => panic!("no server is named {other}"),
    };
    Server::scripted([reply])
}

/// A good reply with these counts.
fn counts(usage: serde_json::Value) -> Reply {
    Reply::raw(200, reply(&usage).to_string())
}

fn reply(usage: &serde_json::Value) -> serde_json::Value {
    let message = json!({"role": "assistant", "content": "fine"});
    json!({"id": "1", "object": "chat.completion", "model": "small", "choices": [{"index": 0, "finish_reason": "stop", "message": message}], "usage": usage})
}

/// So many mebibytes of spaces, packed.
fn gzip(mebibytes: usize) -> Vec<u8> {
    let mut once = Vec::with_capacity(64 << 10);
    let mut packer = Compress::new(Compression::best(), false);
    // A fully flushed block can be repeated: nothing in it refers to earlier blocks.
    packer
        .compress_vec(&vec![b' '; 1 << 20], &mut once, FlushCompress::Full)
        .unwrap();
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    packed.extend(once.repeat(mebibytes));
    packed
}
