//! An HTTP server on loopback with one request per connection, answered by a closure.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use agenthost_plugin::Digest;

#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Returns the decoded value of `name` in the query.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?')?.1;
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }
}

#[derive(Debug, Clone)]
pub(super) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The number of bytes of the body that are sent before the connection ends.
    cut: Option<usize>,
    /// The number of bytes of the body that are sent before the server stalls with the connection open.
    stall: Option<usize>,
    sized: bool,
}

impl Reply {
    pub(super) fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            cut: None,
            stall: None,
            sized: true,
        }
    }

    pub(super) fn json(value: &Value) -> Self {
        Self::new(200)
            .with("content-type", "application/json")
            .body(value.to_string())
    }

    pub(super) fn html(status: u16) -> Self {
        let page = "<!DOCTYPE html><title>Sign in</title>";
        Self::new(status)
            .with("content-type", "text/html; charset=utf-8")
            .body(page)
    }

    /// Creates an error in the registries' standard form.
    pub(super) fn complaint(status: u16, code: &str) -> Self {
        let body = json!({"errors": [{"code": code, "message": "\u{1b}[31mred"}]});
        Self {
            status,
            ..Self::json(&body)
        }
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(super) fn cut_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    pub(super) fn stall_after(mut self, bytes: usize) -> Self {
        self.stall = Some(bytes);
        self
    }

    /// Sends no length: the body ends with the connection.
    pub(super) fn unsized_body(mut self) -> Self {
        self.sized = false;
        self
    }
}

/// A server that ends with the test's runtime.
pub(super) struct Server {
    port: u16,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(super) async fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (handler, requests) = (Arc::new(handler), Arc::clone(&seen));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (handler, requests) = (Arc::clone(&handler), Arc::clone(&requests));
                tokio::spawn(async move {
                    let mut stream = stream;
                    let Some(request) = read(&mut stream).await else {
                        return;
                    };
                    requests.lock().unwrap().push(request.clone());
                    let reply = handler(&request);
                    write(&mut stream, &request, reply).await;
                });
            }
        });
        Self { port, seen }
    }

    pub(super) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(super) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// Returns methods and paths, in order.
    pub(super) fn log(&self) -> Vec<String> {
        let seen = self.seen();
        seen.iter()
            .map(|request| format!("{} {}", request.method, request.path()))
            .collect()
    }
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut text = Vec::new();
    let end = loop {
        if let Some(at) = text.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => text.extend_from_slice(&buffer[..read]),
        }
    };
    let head = String::from_utf8(text[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut body = text[end + 4..].to_vec();
    let length = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    while body.len() < length {
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => body.extend_from_slice(&buffer[..read]),
        }
    }
    Some(Request {
        method: first.next()?.to_owned(),
        target: first.next()?.to_owned(),
        headers,
        body,
    })
}

async fn write(stream: &mut TcpStream, request: &Request, reply: Reply) {
    let mut head = format!("HTTP/1.1 {} Status\r\nconnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if reply.sized {
        head.push_str(&format!("content-length: {}\r\n", reply.body.len()));
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    if request.method != "HEAD" {
        let sent = reply.cut.or(reply.stall).unwrap_or(reply.body.len());
        bytes.extend_from_slice(&reply.body[..sent.min(reply.body.len())]);
    }
    let _ = stream.write_all(&bytes).await;
    if reply.stall.is_some() {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let _ = stream.shutdown().await;
}

/// A whole registry in memory, which tests may tamper with.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) blobs: BTreeMap<String, Vec<u8>>,
    /// The manifests with their types, by tag and by digest.
    pub(super) manifests: BTreeMap<String, (String, Vec<u8>)>,
    /// `true` if it keeps lists of referrers itself.
    pub(super) referrers: bool,
}

impl Memory {
    pub(super) async fn serve(self) -> (Server, Arc<Mutex<Self>>) {
        let memory = Arc::new(Mutex::new(self));
        let shared = Arc::clone(&memory);
        (
            Server::start(move |request| shared.lock().unwrap().answer(request)).await,
            memory,
        )
    }

    /// Returns the first manifest that contains `text`.
    pub(super) fn with(&self, text: &str) -> Value {
        let mut all = self
            .manifests
            .values()
            .map(|(_, bytes)| String::from_utf8(bytes.clone()).unwrap());
        serde_json::from_str(&all.find(|bytes| bytes.contains(text)).unwrap()).unwrap()
    }

    pub(super) fn answer(&mut self, request: &Request) -> Reply {
        let path = request.path().strip_prefix("/v2/plugins/acme/competitor/").unwrap();
        let (kind, rest) = path.split_once('/').unwrap();
        match (request.method.as_str(), kind, rest) {
            ("POST", "blobs", "uploads/") => {
                Reply::new(202).with("location", "/v2/plugins/acme/competitor/blobs/uploads/1?state=x")
            }
            ("PUT", "blobs", "uploads/1") => {
                let digest = request.query("digest").unwrap();
                assert_eq!(request.query("state").unwrap(), "x");
                assert_eq!(Digest::of(&request.body).to_string(), digest);
                self.blobs.insert(digest, request.body.clone());
                Reply::new(201)
            }
            ("GET" | "HEAD", "blobs", digest) => match self.blobs.get(digest) {
                Some(bytes) => Reply::new(200).body(bytes.clone()),
                None => Reply::complaint(404, "BLOB_UNKNOWN"),
            },
            ("PUT", "manifests", reference) => self.put(reference, request),
            ("GET", "manifests", reference) => match self.manifests.get(reference) {
                Some((kind, bytes)) => Reply::new(200).with("content-type", kind).body(bytes.clone()),
                None => Reply::complaint(404, "MANIFEST_UNKNOWN"),
            },
            ("GET", "referrers", subject) if self.referrers => self.referrers(subject),
            _ => Reply::html(404),
        }
    }

    fn put(&mut self, reference: &str, request: &Request) -> Reply {
        let manifest: Value = serde_json::from_slice(&request.body).unwrap();
        for part in [&manifest["config"], &manifest["layers"][0]] {
            assert!(part.is_null() || self.blobs.contains_key(part["digest"].as_str().unwrap()));
        }
        let entry = (request.header("content-type").to_owned(), request.body.clone());
        self.manifests.insert(reference.to_owned(), entry.clone());
        self.manifests.insert(Digest::of(&request.body).to_string(), entry);
        match manifest["subject"]["digest"].as_str() {
            Some(subject) if self.referrers => Reply::new(201).with("oci-subject", subject),
            _ => Reply::new(201),
        }
    }

    pub(super) fn referrers(&self, subject: &str) -> Reply {
        let about = |(reference, (kind, bytes)): (&String, &(String, Vec<u8>))| {
            // A test may have turned this into something other than JSON.
            let manifest: Value = serde_json::from_slice(bytes).ok()?;
            (reference.starts_with("sha256:") && manifest["subject"]["digest"] == subject).then(|| {
                let artifact = &manifest["artifactType"];
                json!({"mediaType": kind, "digest": reference, "size": bytes.len(), "artifactType": artifact})
            })
        };
        let manifests: Vec<_> = self.manifests.iter().filter_map(about).collect();
        Reply::json(&json!({"schemaVersion": 2, "manifests": manifests}))
    }
}
