//! Tools that a model calls: loops of model calls, sub-agents as tools, and the blocks of providers that go back.

use std::collections::BTreeSet;
use std::time::Duration;

use agenthost_tests::env::TestEnv;
use agenthost_tests::guests::plugin;
use agenthost_tests::server::{Reply, Request, Server};
use serde_json::{Value, json};

use crate::{counted, ends, essence, guest, machine_for, run_json};

/// A reply of the Messages API that counts 10 input and 5 output tokens.
fn message(content: Value, stop: &str) -> Reply {
    let body = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "small", "content": content,
        "stop_reason": stop, "usage": {"input_tokens": 10, "output_tokens": 5},
    });
    Reply::raw(200, body.to_string())
}

fn thinking(number: usize) -> Value {
    json!({"type": "thinking", "thinking": format!("step {number}"), "signature": format!("s/{number}+==")})
}

fn tool_use(id: &str, name: &str, input: Value) -> Value {
    json!({"type": "tool_use", "id": id, "name": name, "input": input})
}

/// The tool results that a request carries, from its last message.
fn results(request: &Request) -> Vec<Value> {
    let last = request.body["messages"].as_array().and_then(|messages| messages.last());
    let content = last.and_then(|message| message["content"].as_array());
    let content = content.into_iter().flatten();
    content
        .filter(|block| block["type"] == "tool_result")
        .cloned()
        .collect()
}

fn turn(request: &Request) -> usize {
    request.body["messages"]
        .as_array()
        .map_or(0, |messages| messages.len() / 2)
}

/// A model that adds 1 + 2 and then 3 + 4 with the tool, and then answers.
fn adder(request: &Request) -> Reply {
    match turn(request) {
        0 => message(
            json!([
                thinking(0),
                tool_use("toolu_1", "add", json!({"numbers": [1, 2]})),
                tool_use("toolu_2", "add", json!({"numbers": ["x"]})),
            ]),
            "tool_use",
        ),
        1 => message(
            json!([thinking(1), tool_use("toolu_3", "add", json!({"numbers": [3, 4]}))]),
            "tool_use",
        ),
        _ => message(json!([{"type": "text", "text": "3 and 7"}]), "end_turn"),
    }
}

fn machine_of(server: &Server) -> TestEnv {
    machine_for(&server.anthropic_config()).var("ANTHROPIC_API_KEY", "secret")
}

fn question(turns: u32) -> Value {
    json!({"question": "Add.", "turns": turns})
}

#[test]
fn a_loop_sends_the_blocks_of_the_model_back_as_they_came() {
    let server = Server::start(adder);
    let machine = machine_of(&server);
    let document = machine.run(run_json(&guest("adds"), &question(5), &[])).json(0);
    assert_eq!(document["outcome"]["ok"], json!(["3 and 7"]));
    assert_eq!(document["spent"]["calls"], 3, "every turn is a call");
    let seen = server.ended();
    assert_eq!(seen[0].body["tools"][0]["name"], "add");
    let back = seen[1].body["messages"][1]["content"].as_array().unwrap();
    // Bytes, not only values: a signature covers the bytes.
    assert_eq!(back[0].to_string(), thinking(0).to_string());
    assert_eq!(
        back[1].to_string(),
        tool_use("toolu_1", "add", json!({"numbers": [1, 2]})).to_string()
    );
    let results = results(&seen[1]);
    assert_eq!(
        (&results[0]["tool_use_id"], &results[0]["content"]),
        (&json!("toolu_1"), &json!("3"))
    );
    assert_eq!(
        (&results[1]["tool_use_id"], &results[1]["is_error"]),
        (&json!("toolu_2"), &json!(true))
    );
    assert_eq!(
        seen[2].body["messages"][3]["content"][0],
        thinking(1),
        "and so in the next turn"
    );
}

#[test]
fn the_last_turn_forbids_tools() {
    let server = Server::start(|request| match request.body["tool_choice"]["type"].as_str() {
        Some("none") => message(json!([{"type": "text", "text": "so far 3"}]), "end_turn"),
        _ => adder(request),
    });
    let document = machine_of(&server)
        .run(run_json(&guest("adds"), &question(2), &[]))
        .json(0);
    assert_eq!((&document["outcome"]["ok"], server.count()), (&json!(["so far 3"]), 2));
}

#[test]
fn a_loop_replays_and_resumes_without_paying_twice() {
    let server = Server::start(|request| adder(request).after(Duration::from_millis(50)));
    let machine = machine_of(&server);
    let whole = machine.run(run_json(&guest("adds"), &question(5), &[])).json(0);
    let paid = server.count();
    let run = whole["run"].as_str().unwrap();
    let replayed = machine.run(["replay", run, "--json"]).json(0);
    assert_eq!(
        (essence(&replayed), server.count()),
        (essence(&whole), paid),
        "a replay asks no one"
    );
    let shown = machine.run(["show", run, "--task", "root"]).stdout;
    for expected in ["calls add {\"numbers\":[1,2]}", "result of toolu_1", "3 and 7"] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }

    for requests in 1..=3 {
        for late in [0, 30, 60] {
            let server = Server::start(|request| adder(request).after(Duration::from_millis(40)));
            let machine = machine_of(&server);
            let mut running = machine.start(run_json(&guest("adds"), &question(5), &[]), None);
            while server.count() < requests && running.is_running() {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(late));
            running.kill();
            let delivered = answered(&server);
            let resumed = machine.run(["resume", "last", "--json"]).json(0);
            assert_eq!(resumed["outcome"], whole["outcome"]);
            let lost = resumed["models"][0]["abandoned"]["requests"].as_u64().unwrap();
            let again = answered(&server) - delivered;
            // An answer that the process had not recorded yet counts as abandoned, and is asked for again.
            assert!(
                delivered + again <= 3 + lost as usize,
                "{delivered} and {again} of {resumed}"
            );
        }
    }
}

/// The requests with an answer.
fn answered(server: &Server) -> usize {
    let seen = server.ended();
    seen.iter()
        .filter(|request| request.status == Some(200) && !request.closed_by_client)
        .count()
}

#[test]
fn a_hundred_loops_at_once_never_overspend() {
    let server = Server::start(adder);
    let machine = machine_of(&server);
    let input = json!({"question": "Add.", "turns": 5, "conversations": 100});
    for tokens in ["3000", "30000", "120000"] {
        let flags = ["--tokens", tokens, "--timeout", "60s"];
        let output = machine.run(run_json(&guest("adds"), &input, &flags));
        let document: Value = serde_json::from_str(&output.stdout).unwrap();
        let limit: u64 = tokens.parse().unwrap();
        let spent = &document["spent"];
        let used = spent["input_tokens"].as_u64().unwrap() + spent["output_tokens"].as_u64().unwrap();
        assert!(used <= limit, "{used} of {limit}: {document}");
        assert!(counted(&document) <= limit);
        assert_eq!(document["models"][0]["overshoot"]["requests"].as_u64().unwrap_or(0), 0);
    }
}

/// A model at a desk: it asks for two companies at once, then answers.
fn desk_model(request: &Request) -> Reply {
    if request.body["model"] != "large" {
        let text = match request.prompt().contains("Answer the question about") {
            true => "It costs 5 EUR.".to_owned(),
            false => json!({"summary": "It costs 5 EUR.", "findings": [], "confidence": 0.5}).to_string(),
        };
        return message(json!([{"type": "text", "text": text}]), "end_turn");
    }
    let company = |name: &str| json!({"company": name, "questions": ["What does it cost?"]});
    match turn(request) {
        0 => message(
            json!([
                thinking(0),
                tool_use("toolu_a", "competitor", company("Acme")),
                tool_use("toolu_b", "competitor", company("Globex")),
                tool_use("toolu_c", "competitor", json!({"firm": "Initech"})),
            ]),
            "tool_use",
        ),
        _ => message(json!([{"type": "text", "text": "Acme."}]), "end_turn"),
    }
}

#[test]
fn a_model_starts_typed_sub_agents_within_the_limits() {
    let server = Server::start(desk_model);
    let machine = machine_of(&server);
    let desk = plugin("desk").display().to_string();
    let input = json!({"question": "Acme or Globex?"});
    let document = machine.run(run_json(&desk, &input, &["--tasks", "2"])).json(0);
    let answer = &document["outcome"]["ok"];
    assert_eq!(answer["answer"], "Acme.");
    assert_eq!(
        answer["inquiries"].as_array().unwrap().len(),
        2,
        "the third call starts nothing"
    );
    assert_eq!(ends(&document), [("root", "ok"), ("root/0", "ok"), ("root/1", "ok")]);
    let seen = server.ended();
    let last = seen
        .iter()
        .rev()
        .find(|request| request.body["model"] == "large")
        .unwrap();
    let results = results(last);
    assert!(
        results[0]["content"].as_str().unwrap().contains("It costs 5 EUR."),
        "{results:?}"
    );
    assert_eq!(results[2]["is_error"], true);
    let tools = seen[0].body["tools"].as_array().unwrap();
    let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["competitor", "market-scan", "draft"]);
    let description = tools[0]["description"].as_str().unwrap();
    assert!(description.contains("Looks into one company"), "{description}");
    let company = &tools[0]["input_schema"]["properties"]["company"]["description"];
    assert!(company.as_str().unwrap().starts_with("The company's name"), "{company}");

    // With room for one sub-agent only, the model reads why the second did not start.
    let server = Server::start(desk_model);
    let machine = machine_of(&server);
    let document = machine.run(run_json(&desk, &input, &["--tasks", "1"])).json(0);
    let seen = server.ended();
    let last = seen
        .iter()
        .rev()
        .find(|request| request.body["model"] == "large")
        .unwrap();
    let refused: BTreeSet<_> = errors(last);
    assert!(
        refused.iter().any(|text| text.contains("exhausted")),
        "{refused:?} {document}"
    );
}

fn errors(request: &Request) -> BTreeSet<String> {
    results(request)
        .iter()
        .filter(|result| result["is_error"] == true)
        .map(|result| result["content"].to_string())
        .collect()
}
