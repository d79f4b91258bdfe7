//! A scripted model server on loopback, which remembers the requests that it saw.
//!
//! It speaks all wires (`/v1/messages`, `/v1/chat/completions`, `/v1/responses`) over plain HTTP/1.1 and keeps connections open. A
//! handler answers each request with a [`Reply`]: after how long, what, and how badly. With [`Limits`] it refuses what is
//! too much, as the vendors do. It is also a recording proxy of another server, see [`Reply::forwarded`]. Left out:
//! streaming, TLS, and any look at what is asked beyond what the handler does.

mod forward;
mod quota;
mod reply;
mod trace;
mod wire;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot, watch};

use self::quota::Quota;
pub use self::quota::{Dialect, Limits};
pub use self::reply::Reply;
pub use self::trace::Trace;

/// The longest wait for anything before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request as the server saw it.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which request it was, from 0.
    pub number: usize,
    /// The path, with its query.
    pub path: String,
    /// All headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Value,
    /// The length of the body.
    pub bytes: usize,
    /// The requests in flight when it had arrived, itself included.
    pub in_flight: usize,
    /// When all of it had arrived.
    pub arrived: Instant,
    /// When the answer was out, or the client had gone.
    pub ended: Option<Instant>,
    /// `true` if the client closed the connection before it had the answer.
    pub closed_by_client: bool,
    /// The status of the answer, once it was out.
    pub status: Option<u16>,
    /// The time until which the answer asked to wait with the next request.
    pub wait_until: Option<Instant>,
}

impl Request {
    /// The messages, or the items of the Responses API.
    fn messages(&self) -> impl Iterator<Item = &Value> {
        let lists = [&self.body["messages"], &self.body["input"]];
        lists.into_iter().filter_map(Value::as_array).flatten()
    }

    /// The texts of all messages, one per line.
    pub fn prompt(&self) -> String {
        let mut texts = Vec::new();
        for message in self.messages() {
            match &message["content"] {
                Value::String(text) => texts.push(text.as_str()),
                parts => texts.extend(
                    parts
                        .as_array()
                        .into_iter()
                        .flatten()
                        .filter_map(|part| part["text"].as_str()),
                ),
            }
        }
        texts.join("\n")
    }

    /// The results of tools, each with the id of its call.
    pub fn tool_results(&self) -> Vec<(String, String)> {
        let mut results = Vec::new();
        for message in self.messages() {
            let parts = message["content"].as_array().into_iter().flatten();
            for item in parts.chain([message]) {
                let (id, content) = match item["type"].as_str().or(item["role"].as_str()) {
                    Some("tool_result") => ("tool_use_id", "content"),
                    Some("tool") => ("tool_call_id", "content"),
                    Some("function_call_output") => ("call_id", "output"),
                    _ => continue,
                };
                let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
                results.push((text(id), text(content)));
            }
        }
        results
    }

    /// The texts between `<label>` and `</label>`, as a prompt marks what comes from outside.
    pub fn data(&self, label: &str) -> Vec<String> {
        let (start, end) = (format!("\n<{label}>\n"), format!("\n</{label}>"));
        let marked = |text: &str| text.split(&end).next().unwrap_or_default().to_owned();
        self.prompt().split(&start).skip(1).map(marked).collect()
    }

    /// The model, in the provider's words.
    pub fn model(&self) -> &str {
        self.body["model"].as_str().unwrap_or_default()
    }

    /// When the answer was out, or the client had gone.
    ///
    /// # Panics
    ///
    /// When neither has happened yet.
    pub fn end(&self) -> Instant {
        self.ended.unwrap()
    }

    /// Returns whether this request and the other one waited for their answers at the same time.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.arrived < other.end() && other.arrived < self.end()
    }

    /// The most output tokens that were asked for.
    pub fn max_tokens(&self) -> Option<u64> {
        self.body["max_tokens"]
            .as_u64()
            .or_else(|| self.body["max_completion_tokens"].as_u64())
            .or_else(|| self.body["max_output_tokens"].as_u64())
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Holds answers back until it is opened.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Semaphore>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }
}

impl Gate {
    /// Lets all answers out, those to come too.
    pub fn open(&self) {
        self.0.close();
    }

    async fn opened(&self) {
        // No permit is ever added; closing the semaphore ends the wait.
        let _ = self.0.acquire().await;
    }
}

/// Lets any number of requests be in flight from the start, and none be sent again: most tests are not about that.
const WIDE: &str = "initial-concurrency = 1000\nmax-concurrency = 1000\nretries = 0\n";

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

#[derive(Default)]
struct Seen {
    requests: Vec<Request>,
    in_flight: usize,
    max_in_flight: usize,
    counted: (u64, u64),
}

struct Shared {
    handler: Box<Handler>,
    quota: Option<Quota>,
    seen: Mutex<Seen>,
    open: watch::Sender<bool>,
}

/// The server; it ends when it is dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
}

impl Server {
    /// Starts a server that answers with what `handler` gives.
    ///
    /// # Panics
    ///
    /// When there is no port.
    pub fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(None, Box::new(handler))
    }

    /// Starts a server that refuses what is beyond `limits`, and answers the rest with what `handler` gives.
    ///
    /// # Panics
    ///
    /// When there is no port, or a limit that the dialect does not have.
    pub fn limited(
        dialect: Dialect,
        limits: Limits,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::serve(Some(Quota::new(dialect, limits)), Box::new(handler))
    }

    fn serve(quota: Option<Quota>, handler: Box<Handler>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            handler,
            quota,
            seen: Mutex::default(),
            open: watch::Sender::new(true),
        });
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&shared);
        // A thread of its own, so that a test that blocks does not block the server.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                tokio::select! {
                    () = listen(listener, address, &served) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            address,
            shared,
            stop: Some(stop),
        }
    }

    /// Starts a server that gives these replies in the order of the requests, the last one again and again.
    ///
    /// # Panics
    ///
    /// When there is no reply or no port.
    pub fn scripted(replies: impl Into<Vec<Reply>>) -> Self {
        let replies = replies.into();
        assert!(!replies.is_empty());
        Self::start(move |request| replies[request.number.min(replies.len() - 1)].clone())
    }

    /// Ends the connections on which no request waits for its answer, and refuses new ones.
    ///
    /// # Panics
    ///
    /// If it still takes connections after a long time.
    pub fn close(&self) {
        self.set_open(false);
    }

    /// Takes connections again, at the same address.
    ///
    /// # Panics
    ///
    /// If it takes none after a long time.
    pub fn open(&self) {
        self.set_open(true);
    }

    fn set_open(&self, open: bool) {
        self.shared.open.send_replace(open);
        let start = Instant::now();
        while std::net::TcpStream::connect(self.address).is_ok() != open {
            assert!(start.elapsed() < PATIENCE, "it is not open: {open}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The address as an OpenAI-compatible provider takes it.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// A configuration with `fast` and `strong` at this server, over the wire of chat completions and without a key.
    pub fn config(&self) -> String {
        config("openai", &self.url(), WIDE)
    }

    /// The same over the wire of messages, with the key in the variable `ANTHROPIC_API_KEY`.
    pub fn anthropic_config(&self) -> String {
        config(
            "anthropic",
            &format!("http://{}", self.address),
            &format!("key-env = \"ANTHROPIC_API_KEY\"\n{WIDE}"),
        )
    }

    /// The same over the wire of responses.
    pub fn responses_config(&self) -> String {
        config("openai-responses", &self.url(), WIDE)
    }

    /// The same over the wire of `dialect` and with no word about how calls are paced.
    pub fn config_of(&self, dialect: Dialect) -> String {
        match dialect {
            Dialect::Anthropic => config(
                "anthropic",
                &format!("http://{}", self.address),
                "key-env = \"ANTHROPIC_API_KEY\"\n",
            ),
            Dialect::OpenAi => config("openai", &self.url(), ""),
        }
    }

    /// All requests until now, in the order of their arrival.
    pub fn seen(&self) -> Vec<Request> {
        self.shared.seen.lock().unwrap().requests.clone()
    }

    /// The same, once all of them have ended: a client has its answer a moment before the server notes it.
    ///
    /// # Panics
    ///
    /// When one does not end.
    #[track_caller]
    pub fn ended(&self) -> Vec<Request> {
        self.wait_until("the end of every request", |seen| {
            seen.iter().all(|request| request.ended.is_some())
        });
        self.seen()
    }

    /// The same as a whole.
    ///
    /// # Panics
    ///
    /// When one does not end.
    #[track_caller]
    pub fn trace(&self) -> Trace {
        Trace(self.ended())
    }

    /// Of each limit its name, and what was used of what there was between the first arrival and the last, from 0 to 1.
    pub fn shares(&self) -> Vec<(&'static str, f64)> {
        self.shared.quota.as_ref().map(Quota::shares).unwrap_or_default()
    }

    /// The number of requests until now.
    pub fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().requests.len()
    }

    /// The most requests that were waiting for their answers at the same time.
    pub fn max_in_flight(&self) -> usize {
        self.shared.seen.lock().unwrap().max_in_flight
    }

    /// The requests that wait for their answers now.
    pub fn in_flight(&self) -> usize {
        self.shared.seen.lock().unwrap().in_flight
    }

    /// Input and output tokens of all answers that went out, once none is on its way any more.
    ///
    /// # Panics
    ///
    /// When one stays on its way.
    pub fn counted(&self) -> (u64, u64) {
        self.wait_until("the end of all calls", |seen| {
            seen.iter().all(|request| request.ended.is_some())
        });
        self.shared.seen.lock().unwrap().counted
    }

    /// Waits until `happened`.
    ///
    /// # Panics
    ///
    /// When it does not happen.
    #[track_caller]
    pub fn wait_until(&self, what: &str, happened: impl Fn(&[Request]) -> bool) {
        let start = Instant::now();
        while !happened(&self.seen()) {
            assert!(start.elapsed() < PATIENCE, "{what} did not happen: {:#?}", self.seen());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Takes connections as long as the server is open.
async fn listen(listener: std::net::TcpListener, address: SocketAddr, shared: &Arc<Shared>) {
    let mut listener = TcpListener::from_std(listener).unwrap();
    let mut open = shared.open.subscribe();
    loop {
        let accept = async {
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(wire::serve(stream, Arc::clone(shared)));
                }
            }
        };
        tokio::select! {
            () = accept => {}
            _ = open.wait_for(|open| !open) => {}
        }
        drop(listener);
        let _ = open.wait_for(|open| *open).await;
        listener = TcpListener::bind(address).await.unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

/// A configuration with `fast` and `strong` at the provider `local`.
pub fn config(kind: &str, url: &str, more: &str) -> String {
    format!(
        "[models]\nfast = \"local/small\"\nstrong = \"local/large\"\n\n[providers.local]\nkind = \"{kind}\"\nbase-url = \"{url}\"\n{more}"
    )
}
