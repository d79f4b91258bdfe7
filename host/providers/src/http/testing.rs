//! A server on loopback that sends the bytes that a test specifies.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::Bounds;

/// The reply of the server once it has read a request.
#[derive(Clone)]
pub(crate) enum Say {
    /// Sends these bytes and closes the connection.
    Bytes(Vec<u8>),
    /// Sends these bytes and nothing more, with the connection kept open.
    Stall(Vec<u8>),
    /// Sends these bytes and an endless body.
    Endless(Vec<u8>),
    /// Sends these bytes and then a space every 50 ms.
    Trickle(Vec<u8>),
    /// Sends these bytes and reads the next request on the same connection.
    Keep(Vec<u8>),
    /// Sends each of these pieces after a wait.
    Pieces(Vec<(Duration, Vec<u8>)>),
}

/// A request as received.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// The request line and the headers.
    pub(crate) head: String,
    pub(crate) body: serde_json::Value,
}

pub(crate) struct Server {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    sent: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
}

impl Server {
    pub(crate) async fn start(say: Say) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            seen: Arc::default(),
            sent: Arc::default(),
            connections: Arc::default(),
        };
        let (seen, sent) = (server.seen.clone(), server.sent.clone());
        let connections = server.connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(answer(stream, say.clone(), seen.clone(), sent.clone()));
            }
        });
        server
    }

    /// Starts a server that answers every request with `status`, these header lines and this body.
    pub(crate) async fn replying(status: u16, headers: &[&str], body: &str) -> Self {
        Self::start(Say::Bytes(reply(status, headers, body.as_bytes()))).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The number of body bytes that an endless reply sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// The number of connections that were opened.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

pub(crate) fn reply(status: u16, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    let mut bytes =
        format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Returns bounds that are short enough for a test.
pub(crate) fn quick() -> Bounds {
    Bounds {
        connect: Duration::from_secs(2),
        first_byte: Duration::from_millis(1500),
        total: Duration::from_millis(1500),
        ..Bounds::default()
    }
}

async fn answer(mut stream: TcpStream, say: Say, seen: Arc<Mutex<Vec<Seen>>>, sent: Arc<AtomicU64>) {
    while let Some(request) = receive(&mut stream).await {
        seen.lock().unwrap().push(request);
        match &say {
            Say::Keep(bytes) => {
                if stream.write_all(bytes).await.is_err() {
                    return;
                }
            }
            Say::Pieces(pieces) => {
                for (wait, bytes) in pieces {
                    tokio::time::sleep(*wait).await;
                    if stream.write_all(bytes).await.is_err() {
                        return;
                    }
                }
                let _ = stream.shutdown().await;
                return;
            }
            Say::Bytes(bytes) => {
                let _ = stream.write_all(bytes).await;
                let _ = stream.shutdown().await;
                return;
            }
            Say::Stall(bytes) => {
                stream.write_all(bytes).await.unwrap();
                tokio::time::sleep(Duration::from_secs(60)).await;
                return;
            }
            Say::Endless(bytes) => {
                stream.write_all(bytes).await.unwrap();
                while stream.write_all(&[b'x'; 65536]).await.is_ok() {
                    sent.fetch_add(65536, Ordering::Relaxed);
                }
                return;
            }
            Say::Trickle(bytes) => {
                stream.write_all(bytes).await.unwrap();
                while stream.write_all(b" ").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                return;
            }
        }
    }
}

/// Reads the next request. `None` if the peer has closed the connection.
async fn receive(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.unwrap_or_default() == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap()
        .parse::<usize>()
        .unwrap();
    while bytes.len() < head_end + length {
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
    }
    let body = serde_json::from_slice(&bytes[head_end..]).unwrap();
    Some(Seen { head, body })
}
