//! One list of neutral requests and replies for all wires.
//!
//! A wire states its own JSON for each case in its `tests/conformance.rs`: the server's reply, and the members of the
//! request. [`run`] plays the cases against a scripted server. So a further wire is tested by one more such file, and a
//! further case fails until each wire has it.

use agenthost_core::llm::{
    Echo, Effort, Extension, Message, Options, Part, Provider, ProviderError, ProviderErrorKind, Reply, Request, Role,
    Stop, ToolResult,
};
use serde_json::{Value, json};

use crate::http::testing::Server;
use crate::{RawAnswer, RawService};

/// A wire under test.
pub(crate) trait Tested: Provider + RawService {}

impl<T: Provider + RawService> Tested for T {}

/// One case on one wire: what the server says, and the bodies that it receives.
pub(crate) struct Exchange {
    pub(crate) status: u16,
    pub(crate) says: Value,
    /// Members of the request's body by their places; `Null` for those that are not sent.
    pub(crate) sent: Vec<(&'static str, Value)>,
    /// The members of the next request's body, if the conversation goes on.
    pub(crate) next: Vec<(&'static str, Value)>,
    /// The blocks that the next request sends back, byte for byte.
    pub(crate) back: Vec<Value>,
}

impl Exchange {
    /// An exchange in which the server says this.
    pub(crate) fn says(says: Value) -> Self {
        Self {
            status: 200,
            says,
            sent: Vec::new(),
            next: Vec::new(),
            back: Vec::new(),
        }
    }

    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn sent(mut self, at: &'static str, value: Value) -> Self {
        self.sent.push((at, value));
        self
    }

    pub(crate) fn next(mut self, at: &'static str, value: Value) -> Self {
        self.next.push((at, value));
        self
    }

    pub(crate) fn back(mut self, block: Value) -> Self {
        self.back.push(block);
        self
    }
}

/// The outcome of a case.
enum Outcome {
    /// A reply with this content, without the blocks that only the wire understands.
    Reply(Stop, Vec<&'static str>),
    /// The reply is paused, and goes on once its content is sent back.
    Paused(Vec<&'static str>),
    /// The model declines with these words.
    Refusal(&'static str),
    /// The service fails.
    Fails(ProviderErrorKind, &'static str),
    /// Nothing is sent, because the wire has no form for it; with words of the error.
    Refused(&'static str),
}

struct Case {
    name: &'static str,
    request: Request,
    outcome: Outcome,
    /// The wires with another outcome.
    except: Vec<(&'static str, Outcome)>,
}

impl Case {
    fn of(name: &'static str, request: Request, outcome: Outcome) -> Self {
        Self {
            name,
            request,
            outcome,
            except: Vec::new(),
        }
    }

    fn except(mut self, wire: &'static str, outcome: Outcome) -> Self {
        self.except.push((wire, outcome));
        self
    }
}

const TOOLS: &str = r#"[
    {"name": "weather", "description": "The weather of a city.", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}},
    {"name": "time", "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}}, "strict": true}
]"#;

fn request(options: &[(&str, &str)]) -> Request {
    Request {
        model: "m".into(),
        system: None,
        messages: vec![message(Role::User, vec![text("Hi")])],
        max_tokens: 100,
        schema: None,
        options: Options::parse(options.iter().copied()).unwrap(),
        mark_prefix: None,
    }
}

fn message(role: Role, content: Vec<Part>) -> Message {
    Message { role, content }
}

fn text(text: &str) -> Part {
    Part::Text(text.into())
}

fn with_tools(more: &[(&str, &str)]) -> Request {
    let mut options = vec![("tools", TOOLS)];
    options.extend(more);
    request(&options)
}

fn part(kind: &str, json: &Value) -> Part {
    Part::Extension {
        kind: kind.into(),
        json: json.to_string(),
    }
}

/// A conversation with blocks of another wire and of another model.
fn foreign() -> Request {
    let echo = |wire: &str, model: &str| Echo {
        wire: wire.into(),
        model: model.into(),
        block: json!({"type": "secret", "reasoning_content": "secret"}),
    };
    let mut content = vec![Extension::Echo(echo("elsewhere", "m")).into_part()];
    for wire in ["anthropic", "openai", "openai-responses"] {
        content.push(Extension::Echo(echo(wire, "other")).into_part());
    }
    let call = json!({"id": "call_1", "name": "time", "arguments": {"zone": "UTC"}, "echo": echo("elsewhere", "m")});
    content.push(text("Let me look."));
    content.push(part("search", &json!({"tool": "web-search"})));
    content.push(part("tool-call", &call));
    Request {
        messages: vec![
            message(Role::User, vec![text("Hi")]),
            message(Role::Assistant, content),
            message(
                Role::User,
                vec![part("tool-result", &json!({"id": "call_1", "content": "12:00"}))],
            ),
        ],
        ..with_tools(&[])
    }
}

fn cases() -> Vec<Case> {
    use Outcome::{Fails, Paused, Refusal, Refused, Reply};
    use ProviderErrorKind as Kind;
    let ok = || Reply(Stop::End, vec!["Blue."]);
    let search = r#"[{"kind": "web-search", "max-uses": 3, "allowed-domains": ["example.com"]}]"#;
    let blocked = r#"[{"kind": "web-search", "blocked-domains": ["example.com"]}]"#;
    let fetch = r#"[{"kind": "web-fetch", "max-uses": 2}]"#;
    let no_server_tools = || Refused("set kind = \"openai-responses\"");
    let calls = || {
        vec![
            "Let me look.",
            r#"call_1 weather {"city":"Oslo"}"#,
            r#"call_2 weather {"city":"Rome"}"#,
        ]
    };
    vec![
        Case::of(
            "text",
            Request {
                system: Some("Be brief.".into()),
                messages: vec![
                    message(Role::User, vec![text("Hi")]),
                    message(Role::Assistant, vec![text("Hello.")]),
                    message(Role::User, vec![text("Name"), text("a color.")]),
                ],
                ..request(&[])
            },
            ok(),
        ),
        Case::of(
            "schema",
            Request {
                schema: Some(
                    json!({"title": "A", "type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}),
                ),
                ..request(&[])
            },
            ok(),
        ),
        // A map has no form in either dialect.
        Case::of(
            "schema in words",
            Request {
                schema: Some(json!({"type": "object", "additionalProperties": {"type": "string"}})),
                ..request(&[])
            },
            ok(),
        ),
        Case::of(
            "image",
            Request {
                messages: vec![message(
                    Role::User,
                    vec![
                        text("See"),
                        Part::Media {
                            mime: "image/png".into(),
                            data: vec![1, 2, 3],
                        },
                    ],
                )],
                ..request(&[])
            },
            ok(),
        ),
        Case::of(
            "effort",
            Request {
                options: Options {
                    effort: Some(Effort::High),
                    ..Options::default()
                },
                ..request(&[])
            },
            ok(),
        ),
        Case::of("thinking off", request(&[("thinking", "off")]), ok()),
        Case::of("thinking adaptive", request(&[("thinking", "adaptive")]), ok()),
        Case::of(
            "stop",
            request(&[("stop", r#"["END"]"#)]),
            Reply(Stop::End, vec!["Blue."]),
        )
        .except("openai-responses", Refused("no option `stop`")),
        Case::of("tools", with_tools(&[]), ok()),
        Case::of("choice any", with_tools(&[("tool-choice", "any")]), ok()),
        Case::of("choice none", with_tools(&[("tool-choice", "none")]), ok()),
        Case::of("choice of one", with_tools(&[("tool-choice", "tool:time")]), ok()),
        Case::of("one call at a time", with_tools(&[("parallel-tools", "false")]), ok()),
        Case::of("calls", with_tools(&[]), Reply(Stop::ToolUse, calls())),
        Case::of(
            "calls with an ordinary end",
            with_tools(&[]),
            Reply(Stop::ToolUse, calls()),
        ),
        Case::of(
            "invalid arguments",
            with_tools(&[]),
            Reply(Stop::ToolUse, vec!["call_1 weather invalid {\"city\": \"Os"]),
        ),
        Case::of("foreign blocks", foreign(), ok()),
        // Without tools, a reply is as it always was.
        Case::of("thinking without tools", request(&[]), ok()),
        Case::of(
            "search",
            request(&[("server-tools", search)]),
            Reply(
                Stop::End,
                vec![
                    "web-search [color] [https://example.com/a]",
                    "Blue.",
                    "cites https://example.com/a",
                ],
            ),
        )
        .except("openai", no_server_tools()),
        Case::of(
            "failed search",
            request(&[("server-tools", search)]),
            Reply(Stop::End, vec!["web-search [color] [] error", "Blue."]),
        )
        .except("openai", no_server_tools()),
        Case::of("blocked domains", request(&[("server-tools", blocked)]), ok())
            .except("openai", no_server_tools())
            .except("openai-responses", Refused("use allowed-domains")),
        Case::of(
            "fetch",
            request(&[("server-tools", fetch)]),
            Reply(
                Stop::End,
                vec![
                    "web-fetch [https://example.com/a] [https://example.com/a]",
                    "Blue.",
                    "cites https://example.com/a",
                ],
            ),
        )
        .except("openai", no_server_tools())
        .except("openai-responses", Refused("no web-fetch")),
        Case::of(
            "paused",
            request(&[("server-tools", search)]),
            Paused(vec!["Let me look."]),
        )
        .except("openai", no_server_tools())
        // The API never pauses.
        .except("openai-responses", Reply(Stop::End, vec!["Let me look."])),
        Case::of("refusal", request(&[]), Refusal("Not this.")),
        Case::of("cut off", request(&[]), Reply(Stop::MaxTokens, vec!["Blu"])),
        Case::of("context full", request(&[]), Fails(Kind::ContextOverflow, "maximum")),
        Case::of("rate limited", request(&[]), Fails(Kind::RateLimited, "slow down")),
        Case::of(
            "rate limited inside of a success",
            request(&[]),
            Fails(Kind::RateLimited, "slow down"),
        ),
        Case::of("failure inside of a success", request(&[]), Fails(Kind::Server, "oops")),
    ]
}

/// The content of a reply in words, without the blocks that only the wire understands.
fn words(reply: &Reply) -> Vec<String> {
    let words = reply.content.iter().filter_map(|part| match Extension::of(part) {
        None => match part {
            Part::Text(text) => Some(text.clone()),
            other => Some(format!("{other:?}")),
        },
        Some(Ok(Extension::ToolCall(call))) => {
            use agenthost_core::llm::extension::ToolArguments::Invalid;
            let mark = if matches!(call.arguments, Invalid(_)) {
                "invalid "
            } else {
                ""
            };
            Some(format!("{} {} {mark}{}", call.id, call.name, call.arguments.text()))
        }
        Some(Ok(Extension::Citation(citation))) => Some(format!("cites {}", citation.url)),
        Some(Ok(Extension::Search(search))) => {
            let results: Vec<_> = search.results.iter().map(|hit| hit.url.as_str()).collect();
            let error = if search.error.is_some() { " error" } else { "" };
            let queries = search.queries.join(", ");
            Some(format!("{} [{queries}] [{}]{error}", search.tool, results.join(", ")))
        }
        Some(Ok(Extension::Echo(_))) => None,
        Some(other) => Some(format!("{other:?}")),
    });
    words.collect()
}

/// The request that follows a reply: its content as it is, and the results of its calls, of which the second failed.
fn following(request: &Request, reply: &Reply) -> Request {
    let mut next = request.clone();
    next.messages.push(message(Role::Assistant, reply.content.clone()));
    let calls = reply.content.iter().filter_map(|part| match Extension::of(part) {
        Some(Ok(Extension::ToolCall(call))) => Some(call.id),
        _ => None,
    });
    let results = calls.enumerate().map(|(index, id)| {
        let result = ToolResult {
            id,
            content: if index == 0 { "12 °C" } else { "no such city" }.into(),
            is_error: index == 1,
        };
        Extension::ToolResult(result).into_part()
    });
    let mut content: Vec<Part> = vec![text("Go on.")];
    content.extend(results);
    if !reply.paused {
        next.messages.push(message(Role::User, content));
    }
    // As the host checks it: everything that it gave is known.
    if !reply.paused {
        agenthost_core::llm::extension::check(&mut next.messages, &next.options, |_| true).unwrap();
    }
    next
}

fn assert_sent(name: &str, body: &Value, expected: &[(&'static str, Value)]) {
    for (at, value) in expected {
        let sent = body.pointer(at).unwrap_or(&Value::Null);
        assert_eq!(sent, value, "{name}: {at} of {body:#}");
    }
}

/// Plays all cases against one wire. `open` opens it at an address, and `exchange` has its JSON for the case of a name.
pub(crate) async fn run(open: impl Fn(&str) -> Box<dyn Tested>, exchange: impl Fn(&str) -> Option<Exchange>) {
    for case in cases() {
        let Case {
            name,
            request,
            outcome,
            except,
        } = case;
        let unused = Server::replying(200, &[], "").await;
        let kind = open(&unused.url()).kind();
        let outcome = except
            .into_iter()
            .find(|(wire, _)| *wire == kind)
            .map_or(outcome, |(_, outcome)| outcome);
        if let Outcome::Refused(expected) = outcome {
            let error = open(&unused.url()).complete(&request).await.unwrap_err();
            assert_eq!(error.kind, ProviderErrorKind::InvalidRequest, "{name}");
            assert!(error.to_string().contains(expected), "{name}: {error}");
            assert!(unused.seen().is_empty(), "{name}");
            let lacks = request
                .options
                .server_tools
                .iter()
                .find_map(|tool| open(&unused.url()).lacks(tool));
            let is_known = request.options.server_tools.is_empty() || lacks.is_some_and(|why| why.contains(expected));
            assert!(is_known, "{kind}, {name}: the host is told before it asks");
            continue;
        }
        let lacks = request
            .options
            .server_tools
            .iter()
            .find_map(|tool| open(&unused.url()).lacks(tool));
        assert_eq!(lacks, None, "{kind}, {name}");
        let exchange = exchange(name).unwrap_or_else(|| panic!("{kind} has no JSON for the case {name:?}"));
        let server = Server::replying(exchange.status, &[], &exchange.says.to_string()).await;
        let provider = open(&server.url());
        let said: Result<Reply, ProviderError> = provider.complete(&request).await;
        let seen = server.seen();
        assert_sent(name, &seen[0].body, &exchange.sent);
        let body = seen[0].body.to_string();
        assert!(!body.contains("secret"), "{name}: {body}");
        let reply = match (said, outcome) {
            (Ok(reply), Outcome::Reply(stop, expected)) => {
                assert_eq!(
                    (words(&reply), reply.stop),
                    (to_owned(&expected), stop),
                    "{kind}, {name}"
                );
                assert!(!reply.paused && reply.refusal.is_none(), "{kind}, {name}");
                reply
            }
            (Ok(reply), Outcome::Paused(expected)) => {
                assert_eq!(
                    (words(&reply), reply.paused),
                    (to_owned(&expected), true),
                    "{kind}, {name}"
                );
                reply
            }
            (Ok(reply), Outcome::Refusal(words)) => {
                assert_eq!(
                    (reply.stop, reply.refusal.as_deref()),
                    (Stop::Refusal, Some(words)),
                    "{kind}, {name}"
                );
                continue;
            }
            (Err(error), Outcome::Fails(expected, words)) => {
                assert_eq!(error.kind, expected, "{kind}, {name}: {error}");
                assert!(error.message.contains(words), "{kind}, {name}: {error}");
                continue;
            }
            (said, _) => panic!("{kind}, {name}: {said:?}"),
        };
        if name.contains("search") {
            let searches = reply.usage.map(|usage| usage.searches);
            assert_eq!(searches, Some(u64::from(name == "search") * 2), "{kind}, {name}");
        }
        let has_echoes = reply.content.iter().any(|part| {
            let echo = Extension::of(part).and_then(|read| read.ok()?.echo().cloned());
            echo.inspect(|echo| assert!(echo.fits(kind, "m"), "{kind}, {name}"))
                .is_some()
        });
        assert!(!has_echoes || request.options.keeps_blocks(), "{kind}, {name}");
        // The conversation goes on, and every block goes back as it came.
        provider.complete(&following(&request, &reply)).await.unwrap();
        let body = &server.seen()[1].body;
        assert_sent(name, body, &exchange.next);
        let body = body.to_string();
        for block in &exchange.back {
            assert!(body.contains(&block.to_string()), "{kind}, {name}: {block} in {body}");
        }
        for says in damaged(&exchange.says) {
            assert_sound(&*provider, &request, &says);
        }
    }
}

/// Returns `body` with each of its values in turn replaced by others.
fn damaged(body: &Value) -> Vec<Value> {
    fn places(value: &Value, at: &str, found: &mut Vec<String>) {
        found.push(at.to_owned());
        match value {
            Value::Object(members) => members
                .iter()
                .for_each(|(name, member)| places(member, &format!("{at}/{name}"), found)),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .for_each(|(index, item)| places(item, &format!("{at}/{index}"), found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    places(body, "", &mut found);
    let others = [
        json!(null),
        json!(-7.5),
        json!(""),
        json!("é{"),
        json!([]),
        json!([{}]),
        json!({}),
    ];
    let damage = |(place, other): (String, &Value)| {
        let mut damaged = body.clone();
        *damaged.pointer_mut(&place).unwrap() = other.clone();
        damaged
    };
    let pairs = found
        .into_iter()
        .flat_map(|place| others.iter().map(move |other| (place.clone(), other)));
    pairs.map(damage).collect()
}

/// Asserts that the reply can be kept and can go back as it is, if it is not an error.
fn assert_sound(service: &dyn Tested, request: &Request, says: &Value) {
    let body = says.to_string();
    let raw = RawAnswer {
        status: 200,
        headers: &[],
        body: body.as_bytes(),
    };
    if let Ok(reply) = service.read_answer(request, raw) {
        let kept = serde_json::to_string(&reply).unwrap();
        let read: Reply = serde_json::from_str(&kept).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), kept);
        // Without tools, a block of an unknown kind has no way back.
        if request.options.keeps_blocks() {
            service.write_request(&following(request, &reply)).unwrap();
        }
    }
}

fn to_owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
