//! The wires against the vendors' official SDKs for Python: the host and the SDK make the same calls to the same scripted server.
//!
//! Three things are compared: the bodies and the headers that both send, except for the [`DIFFERENCES`]; the content that
//! both read from the server's answers, which the SDK validates against its own types; and the host's bodies with the SDK's
//! types of a request.
//!
//! The SDKs are imported by the Python that `AGENTHOST_VENDOR_SDKS_PYTHON` names; without it, the tests print why they are
//! skipped.

mod answers;
mod cases;
mod differences;
mod streams;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use agenthost::llm::{Message, Part, Provider, Reply as ModelReply, Request, Role};
use agenthost::providers::anthropic::Anthropic;
use agenthost::providers::openai::{MaxTokensField, OpenAi};
use agenthost::providers::responses::OpenAiResponses;
use agenthost_tests::guests::workspace;
use agenthost_tests::optional;
use agenthost_tests::server::{Request as Seen, Server};
use serde::Deserialize;
use serde_json::{Value, json};

use self::cases::{Case, Next};
use self::differences::{DIFFERENCES, without_known};

const GROUP: &str = "vendor-sdks";
const KEY: &str = "sk-test-0123456789";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Messages,
    Chat,
    Responses,
}

impl Wire {
    /// The script that makes the calls with the SDK.
    fn script(self) -> &'static str {
        match self {
            Self::Messages => "messages.py",
            Self::Chat => "chat.py",
            Self::Responses => "responses.py",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Messages => "anthropic",
            Self::Chat | Self::Responses => "openai",
        }
    }

    fn model(self) -> &'static str {
        match self {
            Self::Messages => "claude-haiku-5-5",
            Self::Chat | Self::Responses => "gpt-6-luna",
        }
    }

    /// The headers that matter to the vendor.
    fn headers(self) -> &'static [&'static str] {
        match self {
            // Not the key: the SDK sends it as a bearer token, and the API accepts both that and `x-api-key`.
            Self::Messages => &["anthropic-version", "content-type"],
            Self::Chat | Self::Responses => &["authorization", "content-type"],
        }
    }

    fn provider(self, address: &str) -> Box<dyn Provider> {
        let key = Some(KEY.to_owned());
        let versioned = format!("{address}/v1");
        match self {
            Self::Messages => Box::new(Anthropic::new(Some(address), key).unwrap()),
            Self::Chat => Box::new(OpenAi::new(Some(&versioned), key, MaxTokensField::MaxCompletionTokens).unwrap()),
            Self::Responses => Box::new(OpenAiResponses::new(Some(&versioned), key).unwrap()),
        }
    }
}

/// The Python that has the SDK of `wire`.
fn python(wire: Wire) -> Result<PathBuf, String> {
    let named = std::env::var_os("AGENTHOST_VENDOR_SDKS_PYTHON");
    let python = named
        .map(PathBuf::from)
        .ok_or("AGENTHOST_VENDOR_SDKS_PYTHON names no Python")?;
    // An import takes seconds.
    let find = format!(
        "import sys, importlib.util as u; sys.exit(u.find_spec({:?}) is None)",
        wire.package()
    );
    let found = Command::new(&python).args(["-c", &find]).stdin(Stdio::null()).output();
    match found {
        Ok(output) if output.status.success() => Ok(python),
        Ok(_) => Err(format!("{} has no package {}", python.display(), wire.package())),
        Err(error) => Err(format!("{} does not start: {error}", python.display())),
    }
}

/// A server that answers the host's calls of a case, below `/host/CASE`, as it answers those of the SDK, below `/sdk/CASE`.
fn serve(wire: Wire) -> Server {
    let calls = std::sync::Mutex::new(BTreeMap::<String, usize>::new());
    Server::start(move |request| {
        let (client, case, _) = place(&request.path);
        let mut calls = calls.lock().unwrap();
        let call = calls.entry(format!("{client}/{case}")).or_default();
        let answer = answers::answer(wire, case, *call);
        *call += 1;
        answer
    })
}

/// The client, the case and the path of the API in the path of a request.
fn place(path: &str) -> (&str, &str, &str) {
    let path = path.split('?').next().unwrap_or_default().trim_start_matches('/');
    let (client, rest) = path.split_once('/').unwrap();
    let (case, path) = rest.split_once('/').unwrap();
    (client, case, path)
}

/// The content of a reply in the terms of both sides.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    texts: Vec<String>,
    /// The id, the name and the arguments of each call of a tool.
    calls: Vec<(String, String, Value)>,
    /// The cited texts, where the vendor gives them.
    quotes: Vec<String>,
    input: u64,
    output: u64,
    searches: u64,
}

impl Content {
    fn of(reply: &ModelReply) -> Self {
        let usage = reply.usage.unwrap();
        let mut content = Self {
            texts: Vec::new(),
            calls: Vec::new(),
            quotes: Vec::new(),
            input: usage.input,
            output: usage.output,
            searches: usage.searches,
        };
        for part in &reply.content {
            let Part::Extension { kind, json } = part else {
                let Part::Text(text) = part else {
                    panic!("{part:?}");
                };
                content.texts.push(text.clone());
                continue;
            };
            let extension: Value = serde_json::from_str(json).unwrap();
            let text = |name: &str| extension[name].as_str().map(str::to_owned);
            match kind.as_str() {
                "tool-call" => {
                    let arguments = extension["arguments"].clone();
                    content
                        .calls
                        .push((text("id").unwrap(), text("name").unwrap(), arguments));
                }
                "citation" => content.quotes.extend(text("quote")),
                _ => {}
            }
        }
        content
    }
}

/// The results of a reply's calls, as `run_tool` of the scripts gives them.
fn results(reply: &ModelReply) -> Vec<Part> {
    let calls = Content::of(reply).calls.into_iter().map(|(id, _, arguments)| {
        let result = match arguments["city"] == "Oslo" {
            true => json!({"id": id, "content": "12 °C"}),
            false => json!({"id": id, "content": "no such city", "is-error": true}),
        };
        Part::Extension {
            kind: "tool-result".into(),
            json: result.to_string(),
        }
    });
    calls.collect()
}

/// Makes the calls of a case, and returns the replies.
async fn play(wire: Wire, case: &Case, address: &str) -> Vec<ModelReply> {
    let provider = wire.provider(&format!("{address}/host/{}", case.name));
    let mut request = Request {
        model: wire.model().into(),
        ..case.request.clone()
    };
    let mut replies = Vec::new();
    for next in case.next.iter().map(Some).chain([None]) {
        let reply = provider.complete(&request).await;
        let reply = reply.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let mut said = |role: Role, mut content: Vec<Part>| match request.messages.last_mut() {
            // As the host goes on with a paused reply.
            Some(last) if last.role == role => last.content.append(&mut content),
            _ => request.messages.push(Message { role, content }),
        };
        said(Role::Assistant, reply.content.clone());
        match next {
            Some(Next::Prompt) => said(Role::User, vec![Part::Text("Go on.".into())]),
            Some(Next::Results) => said(Role::User, results(&reply)),
            Some(Next::ResultsAndPrompt) => {
                let mut content = results(&reply);
                content.push(Part::Text("Go on.".into()));
                said(Role::User, content);
            }
            Some(Next::Unpause) => assert!(reply.paused, "{}", case.name),
            None => assert!(!reply.paused, "{}", case.name),
        }
        replies.push(reply);
    }
    replies
}

/// What a script reports.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    /// The calls of the script that are not among the cases.
    missing: Vec<String>,
    replies: BTreeMap<String, Vec<Content>>,
    /// The calls with which the SDK failed.
    failures: BTreeMap<String, String>,
    /// The bodies of the host that the SDK's types do not describe.
    faults: BTreeMap<String, String>,
}

fn run_script(python: PathBuf, wire: Wire, address: &str, input: &Value) -> Report {
    let mut child = Command::new(python)
        .arg(workspace().join("tests/vendor-sdks").join(wire.script()))
        .arg(address)
        // No proxy of this machine is between the SDK and loopback, and nothing is written beside the scripts.
        .envs([("NO_PROXY", "*"), ("PYTHONDONTWRITEBYTECODE", "1")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}\n{}", String::from_utf8_lossy(&output.stderr)))
}

/// The requests of one client for a case.
fn requests<'a>(seen: &'a [Seen], client: &str, case: &str) -> Vec<&'a Seen> {
    let of_case = |request: &&Seen| {
        let (from, of, _) = place(&request.path);
        (from, of) == (client, case)
    };
    seen.iter().filter(of_case).collect()
}

/// The places at which two values differ, with both.
fn compare(at: &str, host: &Value, sdk: &Value, found: &mut Vec<String>) {
    match (host, sdk) {
        (Value::Object(left), Value::Object(right)) => {
            let added = right.keys().filter(|name| !left.contains_key(*name));
            for name in left.keys().chain(added) {
                let member = |members: &serde_json::Map<String, Value>| members.get(name).cloned().unwrap_or_default();
                match (left.contains_key(name), right.contains_key(name)) {
                    (true, true) => compare(&format!("{at}/{name}"), &left[name], &right[name], found),
                    (true, false) => found.push(format!("{at}/{name}: only the host sends {}", member(left))),
                    _ => found.push(format!("{at}/{name}: only the SDK sends {}", member(right))),
                }
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                compare(&format!("{at}/{index}"), left, right, found);
            }
        }
        _ if host == sdk => {}
        _ => found.push(format!("{at}: the host sends {host}, and the SDK {sdk}")),
    }
}

async fn conforms(wire: Wire) {
    let python = match python(wire) {
        Ok(python) => python,
        Err(why) => return optional::skipped(GROUP, why),
    };
    optional::runs(GROUP);
    let server = serve(wire);
    let address = server.url().trim_end_matches("/v1").to_owned();
    let cases = cases::cases(wire);
    let mut replies = BTreeMap::new();
    for case in &cases {
        replies.insert(case.name, play(wire, case, &address).await);
    }
    let seen = server.ended();
    let described = cases.iter().filter(|case| case.is_described);
    let bodies = described.map(|case| {
        let sent = requests(&seen, "host", case.name);
        (
            case.name,
            sent.into_iter().map(|request| request.body.clone()).collect(),
        )
    });
    let bodies: BTreeMap<&str, Vec<Value>> = bodies.collect();
    let names: Vec<_> = cases.iter().map(|case| case.name).collect();
    let report = run_script(python, wire, &address, &json!({"cases": names, "bodies": bodies}));

    let seen = server.ended();
    let mut found = Vec::new();
    let mut known = vec![false; DIFFERENCES.len()];
    found.extend(report.missing.iter().map(|name| format!("{name}: not among the cases")));
    for (name, why) in report.failures.iter().chain(&report.faults) {
        found.push(format!("{name}: {why}"));
    }
    for case in &cases {
        let name = case.name;
        let (host, sdk) = (requests(&seen, "host", name), requests(&seen, "sdk", name));
        if host.len() != sdk.len() {
            found.push(format!(
                "{name}: {} requests of the host, {} of the SDK",
                host.len(),
                sdk.len()
            ));
        }
        for (call, (host, sdk)) in host.iter().zip(&sdk).enumerate() {
            let at = format!("{name}, request {call}: ");
            let [ours, theirs] = [host, sdk].map(|request| without_known(wire, &request.body, &mut known));
            compare(&at, &ours, &theirs, &mut found);
            if place(&host.path).2 != place(&sdk.path).2 {
                found.push(format!("{at}: to {} and {}", host.path, sdk.path));
            }
            for header in wire.headers() {
                if host.header(header) != sdk.header(header) {
                    let (host, sdk) = (host.header(header), sdk.header(header));
                    found.push(format!("{at}: the header {header} is {host:?} and {sdk:?}"));
                }
            }
        }
        let read: Vec<_> = replies[name].iter().map(Content::of).collect();
        if let Some(sdk) = report.replies.get(name)
            && *sdk != read
        {
            found.push(format!("{name}: the host reads {read:?}, and the SDK {sdk:?}"));
        }
    }
    let unused = DIFFERENCES
        .iter()
        .zip(known)
        .filter(|(difference, used)| difference.wires.contains(&wire) && !used);
    found.extend(unused.map(|(difference, _)| format!("not a difference: {}", difference.reason)));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_those_of_the_sdk() {
    conforms(Wire::Messages).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_completions_are_those_of_the_sdk() {
    conforms(Wire::Chat).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_are_those_of_the_sdk() {
    conforms(Wire::Responses).await;
}
