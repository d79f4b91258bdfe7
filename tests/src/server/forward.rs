//! One request to another server, whose answer is passed on.

use std::io::{Error, Result};
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A whole answer.
pub(super) struct Forwarded {
    pub(super) status: u16,
    /// The answer as a client gets it, on a connection that is kept.
    pub(super) bytes: Vec<u8>,
    /// Input and output tokens.
    pub(super) counted: (u64, u64),
}

/// Posts `body` to `path` of `upstream`. Dropping the future closes the connection.
pub(super) async fn ask(upstream: SocketAddr, path: &str, body: &[u8]) -> Result<Forwarded> {
    let mut stream = TcpStream::connect(upstream).await?;
    // This version has no chunks, and one request for each connection.
    let head = format!(
        "POST {path} HTTP/1.0\r\nhost: {upstream}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    let mut bytes = Vec::new();
    loop {
        let ended = stream.read_buf(&mut bytes).await? == 0;
        if let Some(whole) = forwarded(&bytes, ended) {
            return Ok(whole);
        }
        if ended {
            return Err(Error::other("not a whole answer"));
        }
    }
}

/// The answer in these bytes, which are all if the connection has ended; `None` if a part of it is missing.
fn forwarded(bytes: &[u8], ended: bool) -> Option<Forwarded> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, body) = (String::from_utf8_lossy(&bytes[..end]), &bytes[end + 4..]);
    let status: u16 = head.split(' ').nth(1)?.parse().ok()?;
    let mut kept = format!("HTTP/1.1 {status} Whatever\r\ncontent-length: {}\r\n", body.len());
    let mut has_length = false;
    for line in head.lines().skip(1) {
        let (name, value) = line.split_once(':')?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" if value.trim().parse() != Ok(body.len()) => return None,
            "content-length" => has_length = true,
            "connection" | "keep-alive" => {}
            _ => kept += &format!("{line}\r\n"),
        }
    }
    if !has_length && !ended {
        return None;
    }
    let reply: Value = serde_json::from_slice(body).unwrap_or_default();
    let count = |name: &str| reply["usage"][name].as_u64().unwrap_or_default();
    Some(Forwarded {
        status,
        counted: (count("prompt_tokens"), count("completion_tokens")),
        bytes: [kept.as_bytes(), b"\r\n", body].concat(),
    })
}
