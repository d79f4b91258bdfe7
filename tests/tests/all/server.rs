//! The scripted model server itself: its limits are real, and its trace is true. The client here is made by hand, so that
//! nothing of the product is between.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use agenthost_tests::server::{Dialect, Limits, Reply, Server};
use serde_json::{Value, json};

/// One connection that is kept.
struct Client(TcpStream);

struct Answer {
    status: u16,
    head: String,
    body: Value,
}

impl Client {
    fn to(server: &Server) -> Self {
        let url = server.url();
        let address = url.trim_start_matches("http://").trim_end_matches("/v1");
        Self(TcpStream::connect(address).unwrap())
    }

    fn send(&mut self, dialect: Dialect, body: &Value) {
        let path = match dialect {
            Dialect::Anthropic => "/v1/messages",
            Dialect::OpenAi => "/v1/chat/completions",
        };
        let body = body.to_string();
        let length = body.len();
        write!(
            self.0,
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
    }

    fn answer(&mut self) -> Answer {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            self.more(&mut bytes);
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let length = header(&head, "content-length").unwrap().parse::<usize>().unwrap();
        while bytes.len() < end + length {
            self.more(&mut bytes);
        }
        Answer {
            status: head[9..12].parse().unwrap(),
            body: serde_json::from_slice(&bytes[end..]).unwrap(),
            head,
        }
    }

    fn more(&mut self, bytes: &mut Vec<u8>) {
        let mut part = [0; 4096];
        let length = self.0.read(&mut part).unwrap();
        assert!(length > 0, "the server closed the connection");
        bytes.extend_from_slice(&part[..length]);
    }

    fn ask(&mut self, dialect: Dialect, body: &Value) -> Answer {
        self.send(dialect, body);
        self.answer()
    }
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines()
        .find_map(|line| line.split_once(": ").filter(|(known, _)| *known == name))
        .map(|(_, value)| value)
}

/// A request whose body has about `bytes` bytes.
fn question(bytes: usize) -> Value {
    json!({"model": "small", "max_tokens": 100, "messages": [{"role": "user", "content": "x".repeat(bytes)}]})
}

#[test]
fn a_connection_serves_many_requests_and_one_that_is_closed_is_noticed() {
    let server = Server::start(|request| match request.number {
        3 => Reply::stall(),
        number => Reply::text(format!("answer {number}")),
    });
    let mut client = Client::to(&server);
    for number in 0..3 {
        let answer = client.ask(Dialect::Anthropic, &question(10));
        assert_eq!(answer.body["content"][0]["text"], format!("answer {number}"));
    }
    client.send(Dialect::Anthropic, &question(10));
    server.wait_until("the request", |seen| seen.len() == 4);
    assert_eq!(server.in_flight(), 1);
    drop(client);
    let trace = server.trace();
    let closed: Vec<_> = trace.0.iter().map(|request| request.closed_by_client).collect();
    assert_eq!(closed, [false, false, false, true]);
    assert_eq!((server.counted(), server.in_flight()), ((30, 15), 0));
    assert_eq!(trace.with_status(200).len(), 3);
}

#[test]
fn a_bucket_of_requests_refuses_with_the_vendors_words_and_refills() {
    for dialect in Dialect::ALL {
        let limits = Limits {
            requests_per_minute: Some(240),
            burst: Duration::from_millis(500),
            ..Limits::default()
        };
        let server = Server::limited(dialect, limits, |_| Reply::text("x"));
        let mut client = Client::to(&server);
        assert_eq!(client.ask(dialect, &question(10)).status, 200);
        let second = client.ask(dialect, &question(10));
        let third = client.ask(dialect, &question(10));
        assert_eq!((second.status, third.status), (200, 429), "two fit, the third does not");
        let (limit, remaining, wait) = match dialect {
            Dialect::Anthropic => {
                assert_eq!(third.body["error"]["type"], "rate_limit_error");
                let reset = third.header("anthropic-ratelimit-requests-reset").unwrap();
                assert!(reset.ends_with('Z') && reset.len() == 20, "{reset}");
                let wait = third.header("retry-after").unwrap().parse::<u64>().unwrap() * 1_000;
                (
                    "anthropic-ratelimit-requests-limit",
                    "anthropic-ratelimit-requests-remaining",
                    wait,
                )
            }
            Dialect::OpenAi => {
                assert_eq!(third.body["error"]["code"], "rate_limit_exceeded");
                assert_eq!(third.body["error"]["type"], "requests");
                let reset = third.header("x-ratelimit-reset-requests").unwrap();
                assert!(reset.ends_with("ms"), "{reset}");
                let wait = third.header("retry-after-ms").unwrap().parse::<u64>().unwrap();
                ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", wait)
            }
        };
        for answer in [&second, &third] {
            assert_eq!(
                (answer.header(limit), answer.header(remaining)),
                (Some("240"), Some("0"))
            );
        }
        assert!((1..=1_000).contains(&wait), "{wait}");
        std::thread::sleep(Duration::from_millis(wait));
        assert_eq!(client.ask(dialect, &question(10)).status, 200, "{dialect:?}");
        let trace = server.trace();
        assert_eq!((trace.refused().len(), trace.early()), (1, vec![]));
        assert_eq!(server.counted(), (30, 15), "what was refused counts nothing");
        let [(name, share)] = server.shares()[..] else {
            panic!("one bucket")
        };
        assert!(name == "requests" && (0.3..=1.0).contains(&share), "{share}");
    }
}

#[test]
fn whoever_comes_before_the_announced_time_stands_in_the_trace() {
    let server = Server::scripted([
        Reply::error(429, "rate_limit_error", "slowly").header("retry-after", "1"),
        Reply::text("x"),
    ]);
    let mut client = Client::to(&server);
    assert_eq!(client.ask(Dialect::Anthropic, &question(10)).status, 429);
    client.ask(Dialect::Anthropic, &question(10));
    std::thread::sleep(Duration::from_millis(200));
    client.ask(Dialect::Anthropic, &question(10));
    std::thread::sleep(Duration::from_millis(900));
    client.ask(Dialect::Anthropic, &question(10));
    let trace = server.trace();
    assert_eq!(trace.early(), [2], "1 was on its way, 3 was in time");
    assert_eq!(trace.in_flight(), [1, 1, 1, 1]);
    assert_eq!(trace.most_within(Duration::from_millis(500)), 3);
}

/// 4,000 tokens are there; each request is estimated at a little more than 1,000.
#[test]
fn input_tokens_are_estimated_and_then_put_right_without_what_came_from_the_cache() {
    let limits = |input, output| Limits {
        input_tokens_per_minute: input,
        output_tokens_per_minute: output,
        ..Limits::default()
    };
    let asked = |limits, reply: Reply| {
        let server = Server::limited(Dialect::Anthropic, limits, move |_| reply.clone());
        let mut client = Client::to(&server);
        let answers = (0..10).map(|_| client.ask(Dialect::Anthropic, &question(4_000)));
        let admitted: Vec<_> = answers.take_while(|answer| answer.status == 200).collect();
        let left = admitted.last().and_then(|answer| {
            let header = answer.header("anthropic-ratelimit-tokens-remaining")?;
            header.parse::<u64>().ok()
        });
        (admitted.len(), left.unwrap())
    };
    let four = limits(Some(4_000), None);
    assert_eq!(asked(four.clone(), Reply::text("x").usage(1_000, 1)), (3, 1_000));
    assert_eq!(asked(four.clone(), Reply::text("x").usage(1_500, 1)), (2, 1_000));
    assert_eq!(
        asked(four.clone(), Reply::text("x").usage(1_500, 1).cached(1_500)),
        (10, 4_000)
    );
    // Actual tokens count, not the possible ones; they may leave a debt.
    assert_eq!(
        asked(limits(None, Some(4_000)), Reply::text("x").usage(10, 3_000)),
        (2, 0)
    );
    // A failed request gives back what it held.
    let server = Server::limited(Dialect::Anthropic, four, |_| Reply::error(500, "api_error", "it broke"));
    let mut client = Client::to(&server);
    assert!((0..10).all(|_| client.ask(Dialect::Anthropic, &question(4_000)).status == 500));
}

#[test]
fn the_other_vendor_takes_the_larger_of_maximum_and_estimate_for_good() {
    let limits = Limits {
        tokens_per_minute: Some(4_000),
        ..Limits::default()
    };
    let server = Server::limited(Dialect::OpenAi, limits, |request| match request.number {
        0 => Reply::text("x").usage(1, 1),
        _ => Reply::error(500, "server_error", "it broke"),
    });
    let mut client = Client::to(&server);
    let first = client.ask(Dialect::OpenAi, &question(4_000));
    let left: u64 = first.header("x-ratelimit-remaining-tokens").unwrap().parse().unwrap();
    assert!((2_900..3_000).contains(&left), "{left}");
    let reset = first.header("x-ratelimit-reset-tokens").unwrap();
    assert!(reset.starts_with("15.") && reset.ends_with('s'), "{reset}");
    let mut large = question(10);
    large["max_tokens"] = json!(2_000);
    assert_eq!(client.ask(Dialect::OpenAi, &large).status, 500);
    let refused = client.ask(Dialect::OpenAi, &large);
    assert_eq!(
        (refused.status, &refused.body["error"]["type"]),
        (429, &json!("tokens"))
    );
    assert!(
        refused.body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("Please try again in ")
    );
    large["max_tokens"] = json!(5_000);
    let never = client.ask(Dialect::OpenAi, &large);
    assert!(
        never.body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("Limit 4000, Requested 5000")
    );
    assert!(never.header("retry-after").is_none());
}

#[test]
fn one_more_in_flight_than_allowed_is_told_so() {
    for (dialect, status) in [(Dialect::Anthropic, 529), (Dialect::OpenAi, 503)] {
        let limits = Limits {
            concurrency: Some(2),
            ..Limits::default()
        };
        let server = Server::limited(dialect, limits, |_| Reply::text("x").after(Duration::from_millis(300)));
        let mut clients = [(); 3].map(|()| Client::to(&server));
        for client in &mut clients {
            let before = server.count();
            client.send(dialect, &question(10));
            server.wait_until("the request", |seen| seen.len() > before);
        }
        let start = Instant::now();
        assert_eq!(clients[2].answer().status, status);
        assert!(start.elapsed() < Duration::from_millis(250), "it is not held");
        assert_eq!([0, 1].map(|n| clients[n].answer().status), [200, 200]);
        assert_eq!(server.trace().in_flight(), [1, 2, 3]);
    }
}

#[test]
fn a_proxy_passes_on_what_it_gets_and_cannot_be_reached_while_it_is_closed() {
    let upstream = Server::scripted([
        Reply::text("fine").usage(7, 3).header("x-kept", "yes"),
        Reply::raw(503, "{}"),
        Reply::close(),
        Reply::text("fine").usage(20, 10),
    ]);
    let address = upstream
        .url()
        .replace("http://", "")
        .replace("/v1", "")
        .parse()
        .unwrap();
    let proxy = Server::start(move |_| Reply::forwarded(address));
    let body = json!({"z": 1, "messages": []});
    let mut client = Client::to(&proxy);
    let answer = client.ask(Dialect::OpenAi, &body);
    assert_eq!((answer.status, answer.header("x-kept")), (200, Some("yes")));
    assert_eq!(answer.body["choices"][0]["message"]["content"], "fine");
    assert_eq!(client.ask(Dialect::OpenAi, &body).status, 503);
    assert_eq!(upstream.seen()[1].body, body);
    // A server that gives no answer.
    client.send(Dialect::OpenAi, &body);
    assert_eq!(client.0.read(&mut [0; 1]).unwrap(), 0, "the connection ends");

    let mut idle = Client::to(&proxy);
    assert_eq!(idle.ask(Dialect::OpenAi, &body).status, 200);
    proxy.close();
    assert_eq!(idle.0.read(&mut [0; 1]).unwrap(), 0, "the connection ends");
    proxy.open();
    assert_eq!(Client::to(&proxy).ask(Dialect::OpenAi, &body).status, 200);
    let statuses: Vec<_> = proxy.ended().iter().map(|request| request.status).collect();
    assert_eq!(statuses, [Some(200), Some(503), None, Some(200), Some(200)]);
    assert_eq!(proxy.counted(), (47, 23));
}
