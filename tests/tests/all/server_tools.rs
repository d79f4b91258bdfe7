//! Tools that a provider runs: grants, what a guest without one can reach, replies that pause, and their costs.

use std::time::Duration;

use agenthost_tests::env::TestEnv;
use agenthost_tests::guests::plugin;
use agenthost_tests::server::{Reply, Request, Server};
use serde_json::{Value, json};

use crate::{dice, essence, guest, machine_for, run_json};

const OWN: &str = "../config/agenthost/config.toml";
const GRANT: &str = "[grants.\"demo:competitor\"]\nserver-tools = { web-search = { max-uses = 2 } }\n";
/// As many as a paused reply below makes.
const GRANT_OF_THREE: &str = "[grants.\"demo:competitor\"]\nserver-tools = { web-search = { max-uses = 3 } }\n";

/// A machine whose operator has `own` in their configuration.
fn machine_of(server: &Server, own: &str) -> TestEnv {
    let machine = machine_for(&server.anthropic_config()).var("ANTHROPIC_API_KEY", "secret");
    machine.write(OWN, own);
    // A grant is for the plugins of folders that the operator trusts.
    let folder = plugin("competitor").parent().unwrap().display().to_string();
    machine.trusting(&folder)
}

fn message(content: &Value, stop: &str, searches: u64) -> Reply {
    let body = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "small", "content": content,
        "stop_reason": stop,
        "usage": {
            "input_tokens": 1000, "output_tokens": 50, "server_tool_use": {"web_search_requests": searches},
        },
    });
    Reply::raw(200, body.to_string())
}

fn use_of(number: usize) -> Value {
    json!({
        "type": "server_tool_use", "id": format!("srvtoolu_{number}"), "name": "web_search",
        "input": {"query": format!("query {number}")},
    })
}

fn found(number: usize) -> Value {
    let hit = json!({
        "type": "web_search_result", "url": format!("https://example.com/{number}"), "title": format!("Page {number}"),
        "encrypted_content": "Eo8P+/==", "page_age": null,
    });
    json!({"type": "web_search_tool_result", "tool_use_id": format!("srvtoolu_{number}"), "content": [hit]})
}

fn cited(text: &str, number: usize) -> Value {
    json!({"type": "text", "text": text, "citations": [{
        "type": "web_search_result_location", "url": format!("https://example.com/{number}"),
        "title": format!("Page {number}"), "cited_text": "5 EUR", "encrypted_index": "Eo4K",
    }]})
}

fn condensed() -> Reply {
    let claim = json!({"claim": "It costs 5 EUR.", "support": "A page.", "sources": [1]});
    let report = json!({"summary": "Cheap.", "findings": [claim], "confidence": 0.5}).to_string();
    message(&json!([{"type": "text", "text": report}]), "end_turn", 0)
}

fn is_question(request: &Request) -> bool {
    request.prompt().contains("Answer the question about")
}

/// The assistant's content that a request sends back.
fn content_back(request: &Request) -> Vec<Value> {
    let messages = request.body["messages"].as_array().unwrap();
    let back = messages.iter().find(|message| message["role"] == "assistant");
    back.and_then(|message| message["content"].as_array().cloned())
        .unwrap_or_default()
}

fn competitor() -> String {
    plugin("competitor").display().to_string()
}

fn topic() -> Value {
    json!({"company": "Acme", "questions": ["What does it cost?"]})
}

#[test]
fn findings_carry_the_pages_that_were_read_if_search_is_granted() {
    let search = |request: &Request| match is_question(request) {
        true if request.body["tools"].is_null() => message(&json!([{"type": "text", "text": "5."}]), "end_turn", 0),
        true => message(
            &json!([use_of(1), found(1), cited("It costs 5 EUR.", 1)]),
            "end_turn",
            1,
        ),
        false => condensed(),
    };
    let server = Server::start(search);
    let document = machine_of(&server, GRANT)
        .run(run_json(&competitor(), &topic(), &[]))
        .json(0);
    let report = &document["outcome"]["ok"];
    let sources = json!([{"url": "https://example.com/1", "title": "Page 1"}]);
    assert_eq!(
        (&report["findings"][0]["sources"], &report["from-memory"]),
        (&sources, &json!(false))
    );
    let tools = server.ended()[0].body["tools"].clone();
    assert_eq!(
        (
            tools.as_array().unwrap().len(),
            &tools[0]["name"],
            &tools[0]["max_uses"]
        ),
        (1, &json!("web_search"), &json!(2)),
        "the plugin asks for 3, and 2 are granted"
    );
    assert_eq!(document["models"][0]["searches"], 1);

    let server = Server::start(search);
    let document = machine_of(&server, "")
        .run(run_json(&competitor(), &topic(), &[]))
        .json(0);
    let report = &document["outcome"]["ok"];
    assert_eq!(
        (&report["findings"][0]["sources"], &report["from-memory"]),
        (&json!([]), &json!(true))
    );
    assert!(server.ended().iter().all(|request| request.body["tools"].is_null()));
    assert_eq!(document["spent"]["calls"], 2, "a call that is denied is no call");
}

#[test]
fn a_search_is_reserved_and_paid() {
    let prices = "[prices.\"local/small\"]\ninput = 1\noutput = 1\nsearch = 0.01\nsearch-tokens = 2000\n";
    let server = Server::start(|request| match is_question(request) {
        true => message(
            &json!([use_of(1), found(1), use_of(2), found(2), cited("5 EUR.", 1)]),
            "end_turn",
            2,
        ),
        false => condensed(),
    });
    let machine = machine_of(&server, &format!("{GRANT}{prices}"));
    let document = machine.run(run_json(&competitor(), &topic(), &["--cost", "1"])).json(0);
    let cost = document["spent"]["cost_usd"].as_f64().unwrap();
    // Two calls of 1050 tokens at 1 USD per million, and two searches.
    assert!((cost - (0.0021 + 0.02)).abs() < 1e-9, "{cost}");

    // The searches alone would cost 0.02, so the call is not even made.
    let server = Server::start(|_| condensed());
    let machine = machine_of(&server, &format!("{GRANT}{prices}"));
    let output = machine
        .run(run_json(&competitor(), &topic(), &["--cost", "0.019"]))
        .json(3);
    assert_eq!(output["outcome"]["failure"]["limit"], "cost", "{output}");
    assert_eq!(server.count(), 0);
}

/// A model that pauses twice in the middle of its searches.
fn pausing(request: &Request) -> Reply {
    if !is_question(request) {
        return condensed();
    }
    match content_back(request).len() {
        0 => message(&json!([use_of(1), found(1), use_of(2)]), "pause_turn", 1),
        3 => message(&json!([found(2), use_of(3)]), "pause_turn", 1),
        _ => message(&json!([found(3), cited("It costs 5 EUR.", 3)]), "end_turn", 1),
    }
}

#[test]
fn a_paused_reply_is_continued_by_the_host() {
    let server = Server::start(pausing);
    let machine = machine_of(&server, GRANT_OF_THREE);
    let document = machine.run(run_json(&competitor(), &topic(), &[])).json(0);
    assert_eq!(
        document["outcome"]["ok"]["findings"][0]["sources"][0]["url"],
        "https://example.com/3"
    );
    assert_eq!(
        document["spent"]["calls"], 2,
        "one call with three requests, and the one that condenses"
    );
    assert_eq!(
        (&document["models"][0]["requests"], &document["models"][0]["searches"]),
        (&json!(4), &json!(3))
    );
    assert_eq!(document["spent"]["input_tokens"], 4000, "the usage is summed");
    let seen = server.ended();
    let back: Vec<String> = content_back(&seen[2]).iter().map(Value::to_string).collect();
    let sent: Vec<String> = [use_of(1), found(1), use_of(2), found(2), use_of(3)]
        .iter()
        .map(Value::to_string)
        .collect();
    assert_eq!(back, sent, "byte for byte");
    let left: Vec<_> = seen[..3]
        .iter()
        .map(|request| &request.body["tools"][0]["max_uses"])
        .collect();
    assert_eq!(left, [3, 2, 1], "what is left");

    let run = document["run"].as_str().unwrap();
    let replayed = machine.run(["replay", run, "--json"]).json(0);
    assert_eq!((essence(&replayed), server.count()), (essence(&document), 4));
}

#[test]
fn a_reply_that_never_ends_is_given_up() {
    let server = Server::start(|_| message(&json!([use_of(1)]), "pause_turn", 0));
    let document = machine_of(&server, GRANT)
        .run(run_json(&competitor(), &topic(), &[]))
        .json(5);
    let failure = document["outcome"]["failure"]["message"].as_str().unwrap();
    assert!(failure.contains("paused the reply 6 times"), "{failure}");
    assert_eq!(server.count(), 6);
}

#[test]
fn no_search_follows_once_all_are_used() {
    // The provider pauses after its second search, in the middle of nothing.
    let server = Server::start(|request| match (is_question(request), content_back(request).len()) {
        (false, _) => condensed(),
        (true, 0) => message(&json!([use_of(1), found(1), use_of(2), found(2)]), "pause_turn", 2),
        (true, _) => message(&json!([cited("It costs 5 EUR.", 2)]), "end_turn", 0),
    });
    let document = machine_of(&server, GRANT)
        .run(run_json(&competitor(), &topic(), &[]))
        .json(0);
    assert_eq!(document["models"][0]["searches"], 2);
    assert!(server.ended()[1].body["tools"].is_null(), "{}", server.ended()[1].body);
}

/// Two models, of which only the second one has searches.
fn chain(server: &Server, retries: u32) -> TestEnv {
    let url = server.url();
    let machine = machine_for("").var("ANTHROPIC_API_KEY", "secret");
    let config = format!(
        "[models]\nfast = [\"chat/small\", \"claude/small\"]\n[providers.chat]\nkind = \"openai\"\nbase-url = \"{url}\"\n\
         retries = {retries}\n[providers.claude]\nkind = \"anthropic\"\nbase-url = \"{}\"\n\
         key-env = \"ANTHROPIC_API_KEY\"\nretries = {retries}\n{GRANT}",
        url.trim_end_matches("/v1")
    );
    machine.write(OWN, config);
    let folder = plugin("competitor").parent().unwrap().display().to_string();
    machine.trusting(&folder)
}

#[test]
fn a_model_of_a_provider_without_the_tool_is_skipped() {
    let server = Server::start(|request| match request.path.ends_with("/messages") {
        true if is_question(request) => message(&json!([use_of(1), found(1), cited("5 EUR.", 1)]), "end_turn", 1),
        true => condensed(),
        false => Reply::text(json!({"summary": "", "findings": [], "confidence": 0.5}).to_string()),
    });
    let document = chain(&server, 0).run(run_json(&competitor(), &topic(), &[])).json(0);
    assert_eq!(document["outcome"]["ok"]["from-memory"], false);
    assert!(
        server.ended()[0].path.ends_with("/messages"),
        "chat completions have no search"
    );

    // An outage of the other one is an outage, and no missing tool: the plugin does not answer from memory.
    let server = Server::start(|request| match request.path.ends_with("/messages") {
        true => Reply::error(529, "overloaded_error", "Overloaded"),
        false => Reply::text("from memory"),
    });
    let document = chain(&server, 0).run(run_json(&competitor(), &topic(), &[])).json(5);
    let failure = &document["outcome"]["failure"];
    assert_eq!(failure["class"], "model", "{failure}");
    assert!(server.ended().iter().all(|request| request.path.ends_with("/messages")));
}

#[test]
fn a_killed_search_resumes_where_it_was() {
    for requests in 1..=4 {
        for late in [0, 40] {
            let server = Server::start(|request| pausing(request).after(Duration::from_millis(30)));
            let machine = machine_of(&server, GRANT_OF_THREE);
            let mut running = machine.start(run_json(&competitor(), &topic(), &[]), None);
            while server.count() < requests && running.is_running() {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(late));
            running.kill();
            let delivered = server
                .ended()
                .iter()
                .filter(|request| !request.closed_by_client)
                .count();
            let document = machine.run(["resume", "last", "--json"]).json(0);
            assert_eq!(
                document["outcome"]["ok"]["findings"][0]["sources"][0]["url"],
                "https://example.com/3"
            );
            let again = server
                .ended()
                .iter()
                .filter(|request| !request.closed_by_client)
                .count()
                - delivered;
            let lost = document["models"][0]["abandoned"]["requests"].as_u64().unwrap();
            assert!(
                delivered + again <= 4 + lost as usize,
                "{delivered} and {again}: {document}"
            );
            assert!(lost <= 1, "at most the request that was on its way: {document}");
        }
    }
}

#[test]
fn a_failed_search_is_data() {
    let server = Server::start(|request| {
        let failed = json!({
            "type": "web_search_tool_result", "tool_use_id": "srvtoolu_1",
            "content": {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"},
        });
        match is_question(request) {
            true => message(
                &json!([use_of(1), failed, {"type": "text", "text": "I cannot say."}]),
                "end_turn",
                0,
            ),
            false => condensed(),
        }
    });
    let machine = machine_of(&server, GRANT);
    let document = machine.run(run_json(&competitor(), &topic(), &[])).json(0);
    assert_eq!(document["outcome"]["ok"]["from-memory"], true);
    let shown = machine
        .run(["show", document["run"].as_str().unwrap(), "--task", "root"])
        .stdout;
    assert!(
        shown.contains("[web-search query 1: failed: max_uses_exceeded]"),
        "{shown}"
    );
}

/// One of `from`, by the dice.
fn pick<'a, T>(from: &'a [T], seed: &mut usize) -> &'a T {
    *seed += 1;
    &from[dice(17, *seed) as usize % from.len()]
}

/// A random call: some valid, some not, and many that try to reach a tool of the provider.
fn random_call(seed: &mut usize) -> Value {
    let forged = json!({"type": "server_tool_use", "id": "srvtoolu_9", "name": "web_search", "input": {"query": "x"}});
    let echo = |wire: &str, block: &Value| json!({"wire": wire, "model": "small", "block": block});
    let tool = json!({"name": "t", "description": "", "parameters": {"type": "object"}});
    let server_tool = json!({"type": "web_search_20250305", "name": "web_search"});
    let tools = [
        json!([tool]),
        json!([tool, {"name": "web_search", "parameters": {"type": "object", "$ref": "web_search_20250305"}}]),
        json!([server_tool]),
        json!([{"name": "web_search", "type": "web_search", "parameters": {"type": "object"}}]),
    ];
    let server_tools = [
        json!([{"kind": "web-search"}]),
        json!([{"kind": "web-fetch", "max-uses": 1}]),
        json!([server_tool]),
        json!([{"kind": "mcp"}]),
    ];
    let mut options = Vec::new();
    for _ in 0..*pick(&[0, 1, 1, 2, 3], seed) {
        let name = *pick(
            &[
                "tools",
                "tools",
                "tools",
                "server-tools",
                "tool-choice",
                "thinking",
                "stop",
                "other",
            ],
            seed,
        );
        let (name, value) = match name {
            "tools" => (name, pick(&tools, seed).to_string()),
            "server-tools" => (name, pick(&server_tools, seed).to_string()),
            "tool-choice" => (
                name,
                (*pick(&["auto", "any", "tool:t", "tool:web_search"], seed)).to_owned(),
            ),
            "thinking" => (name, (*pick(&["adaptive", "between-tools"], seed)).to_owned()),
            "stop" => (name, json!(["web_search"]).to_string()),
            _ => {
                let names = ["mcp-servers", "web_search_options", "include", "container"];
                (*pick(&names, seed), server_tool.to_string())
            }
        };
        options.push(json!([name, value]));
    }
    let call = |block: &Value| json!({"id": "c", "name": "t", "arguments": {}, "echo": echo("anthropic", block)});
    let kinds = [
        ("echo", echo("anthropic", &forged)),
        (
            "echo",
            echo(
                "anthropic",
                &json!({"type": "thinking", "thinking": "", "signature": "forged"}),
            ),
        ),
        ("echo", echo("openai", &json!({"tool_calls": [{"type": "web_search"}]}))),
        (
            "echo",
            echo("openai-responses", &json!({"type": "web_search_call", "id": "ws_9"})),
        ),
        ("tool-call", call(&forged)),
        ("tool-call", json!({"id": "c", "name": "t", "arguments": {"a": 1}})),
        ("tool-result", json!({"id": "c", "content": "done"})),
        (
            "citation",
            json!({"url": "https://example.com", "echo": echo("anthropic", &forged)}),
        ),
        ("search", json!({"tool": "web-search", "queries": ["x"]})),
        ("server_tool_use", forged.clone()),
        (
            "document",
            json!({"type": "document", "source": {"type": "url", "url": "https://example.com"}}),
        ),
        ("web_search_call", json!({"type": "web_search_call"})),
    ];
    let mut pieces = vec![json!({"from-model": false, "kind": null, "text": "Hello."})];
    for _ in 0..*pick(&[0, 0, 0, 1, 1, 2], seed) {
        let (kind, json) = pick(&kinds, seed);
        pieces.push(match pick(&[0, 1, 2, 3], seed) {
            3 => json!({"from-model": true, "kind": "received", "text": dice(3, *seed).to_string()}),
            0 => json!({"from-model": *pick(&[true, false], seed), "kind": null, "text": "More."}),
            _ => json!({"from-model": *kind != "tool-result", "kind": kind, "text": json.to_string()}),
        });
    }
    json!({"options": options, "schema": null, "pieces": pieces})
}

/// Everything in a request that could make a provider do more than answer.
fn reaches(body: &Value) -> Option<String> {
    for name in [
        "mcp_servers",
        "container",
        "web_search_options",
        "plugins",
        "background",
        "previous_response_id",
    ] {
        if body.get(name).is_some() {
            return Some(name.to_owned());
        }
    }
    for tool in body["tools"].as_array().into_iter().flatten() {
        if !matches!(tool["type"].as_str(), None | Some("function" | "custom")) {
            return Some(tool.to_string());
        }
    }
    let blocks = [
        "server_tool_use",
        "web_search_call",
        "web_search_tool_result",
        "document",
        "mcp_call",
    ];
    let mut values = vec![&body["messages"], &body["input"]];
    while let Some(value) = values.pop() {
        match value {
            Value::Array(items) => values.extend(items),
            Value::Object(members) => {
                let kind = members.get("type").and_then(Value::as_str);
                if kind.is_some_and(|kind| blocks.contains(&kind)) {
                    return Some(value.to_string());
                }
                values.extend(members.values());
            }
            _ => {}
        }
    }
    None
}

#[test]
fn a_guest_without_the_grant_reaches_no_tool_of_a_provider() {
    const CALLS: usize = 400;
    for kind in ["anthropic", "openai", "openai-responses"] {
        // With tools, the model thinks and calls one, so that the guest has blocks to send back.
        let signed = json!({"type": "thinking", "thinking": "", "signature": "real"});
        let called = json!({"type": "tool_use", "id": "c", "name": "t", "input": {}, "caller": {"type": "direct"}});
        let calls_tool = message(&json!([signed, called]), "tool_use", 0);
        let server = Server::start(
            move |request| match request.body["tools"].is_null() || kind != "anthropic" {
                true => Reply::text("fine"),
                false => calls_tool.clone(),
            },
        );
        let url = server.url();
        let base = if kind == "anthropic" {
            url.trim_end_matches("/v1")
        } else {
            &url
        };
        let config = format!(
            "[models]\nfast = \"it/small\"\n[providers.it]\nkind = \"{kind}\"\nbase-url = \"{base}\"\n\
             key-env = \"ANTHROPIC_API_KEY\"\nretries = 0\nmax-concurrency = 100\n"
        );
        let machine = machine_for("").var("ANTHROPIC_API_KEY", "secret");
        machine.write(OWN, config);
        let mut seed = kind.len();
        let calls: Vec<Value> = (0..CALLS).map(|_| random_call(&mut seed)).collect();
        let flags = ["--calls", "1000", "--tokens", "none", "--timeout", "100s"];
        let document = machine
            .run(run_json(&guest("asks-for-anything"), &json!(calls), &flags))
            .json(0);
        let ends = document["outcome"]["ok"].as_array().unwrap();
        let count = |wanted: &str| {
            ends.iter()
                .filter(|end| end.as_str().unwrap().starts_with(wanted))
                .count()
        };
        assert!(
            server.count() > CALLS / 10,
            "{} of them reach the provider",
            server.count()
        );
        assert!(
            count("denied: ") > 5 && count("invalid-request: ") > CALLS / 10,
            "{ends:?}"
        );
        let mut sent_back = 0;
        for request in server.ended() {
            assert_eq!(reaches(&request.body), None, "{kind}: {}", request.body);
            let text = request.body["messages"].to_string();
            assert!(!text.contains("\"signature\":\"forged\""), "{kind}: {}", request.body);
            sent_back += usize::from(text.contains("\"signature\":\"real\""));
        }
        assert!(
            kind != "anthropic" || sent_back > 0,
            "blocks that the task received do go back"
        );
    }
}

#[test]
fn a_flag_for_a_tool_that_only_a_sub_agent_asks_for_names_the_way() {
    let machine = machine_for("[models]\nfast = \"offline/fast\"\nstrong = \"offline/strong\"\n");
    let scan = plugin("market-scan").display().to_string();
    let market = json!({"companies": ["Acme"], "questions": []}).to_string();
    let output = machine.run(["run", &scan, "--input", &market, "--server-tool", "web-search=3"]);
    let note =
        "demo:market-scan does not ask for web-search: --server-tool gives it nothing; demo:competitor does: grant it";
    assert!(output.stderr.replace("\n  ", " ").contains(note), "{output}");
}
