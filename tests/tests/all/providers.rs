//! Model servers that fail: each failure is the task's, explains what happened, and costs nothing beyond it.

use std::time::Duration;

use agenthost_tests::server::{Reply, Server, config};
use serde_json::json;

use crate::{guest, machine, machine_at, questions, run_json};

const HELLO: &str = "\"hello\"";

#[test]
fn both_wires_answer() {
    let server = Server::start(|request| Reply::text(format!("{} says hello", request.path)));
    let asks = guest("asks");
    let input = questions(&["hello"], "parallel");
    for (config, path) in [
        (server.config(), "/v1/chat/completions"),
        (server.anthropic_config(), "/v1/messages"),
    ] {
        let machine = machine().config(&config).var("ANTHROPIC_API_KEY", "sk-test-0123456789");
        let document = machine.run(run_json(&asks, &input, &[])).json(0);
        assert_eq!(document["outcome"]["ok"][0]["text"], format!("{path} says hello"));
        assert_eq!(
            (&document["spent"]["input_tokens"], &document["spent"]["output_tokens"]),
            (&json!(10), &json!(5))
        );
    }
    assert_eq!(server.count(), 2, "one request a call, none besides");
    assert_eq!(server.seen()[1].header("x-api-key"), Some("sk-test-0123456789"));
    assert!(
        server.seen()[0].header("authorization").is_none(),
        "a service without a key gets none"
    );
}

#[test]
fn a_server_that_is_down_is_named() {
    // A port that was free a moment ago, and without a listener.
    let url = {
        let server = Server::scripted([Reply::text("x")]);
        server.url()
    };
    std::thread::sleep(Duration::from_millis(100));
    let output = machine()
        .config(&config("openai", &url, ""))
        .run(["run", &guest("remaining"), "-i", HELLO]);
    let said = output.error(5);
    assert!(
        said.contains("model: unavailable: local/small: no connection to http://127.0.0.1:"),
        "{said}"
    );
    assert!(said.contains("hint: Run `agenthost doctor --online`"), "{said}");
}

#[test]
fn a_failing_answer_ends_the_task_with_the_servers_words() {
    let gateway = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>";
    for (reply, says) in [
        (
            Reply::raw(200, "this is not valid JSON"),
            "the answer is not valid JSON",
        ),
        (Reply::raw(200, "{\"object\": \"list\"}"), "the answer has no c"),
        (Reply::raw(200, ""), "the answer is not valid JSON"),
        (
            Reply::raw(200, b"\xff\xfe\x00garbage".to_vec()),
            "the answer is not valid JSON",
        ),
        (Reply::raw(502, gateway).header("content-type", "text/html"), "502"),
        (
            Reply::raw(200, gateway).header("content-type", "text/html"),
            "the answer is not valid JSON",
        ),
        (
            Reply::error(401, "authentication_error", "invalid key"),
            "authentication: local/small: invalid key",
        ),
        (
            Reply::error(404, "not_found_error", "no such model"),
            "not-found: local/small: no such model",
        ),
        (
            Reply::error(500, "api_error", "it broke"),
            "unavailable: local/small: it broke",
        ),
        (
            Reply::error(400, "invalid_request_error", "max_tokens is odd"),
            "invalid request: local/small: max_tokens is odd",
        ),
        (Reply::cut_off(), "the connection to http://127.0.0.1:"),
        (Reply::close(), "the connection to http://127.0.0.1:"),
        (
            Reply::raw(200, "x").header("content-encoding", "gzip"),
            "unreadable answer from http://127.0.0.1:",
        ),
    ] {
        let server = Server::scripted([reply]);
        for config in [server.config(), server.anthropic_config()] {
            let machine = machine().config(&config).var("ANTHROPIC_API_KEY", "sk-test-0123456789");
            let output = machine.run(["run", &guest("remaining"), "-i", HELLO]);
            let said = output.error(5);
            assert!(said.contains(says), "{says}: {output}");
            assert_eq!(said.matches("\nhint: ").count(), 1, "{output}");
        }
    }
}

#[test]
fn a_context_that_overflows_is_a_class_of_its_own() {
    let server = Server::scripted([Reply::error(
        400,
        "invalid_request_error",
        "prompt is too long: 250000 tokens > 200000 maximum",
    )]);
    let machine = machine()
        .config(&server.anthropic_config())
        .var("ANTHROPIC_API_KEY", "sk-test-0123456789");
    let document = machine.run(run_json(&guest("remaining"), &json!("hello"), &[])).json(1);
    assert_eq!(document["outcome"]["failure"]["class"], "context-overflow");
}

#[test]
fn an_endless_answer_is_cut_and_its_connection_closed() {
    let server = Server::scripted([Reply::endless()]);
    let output = machine_at(&server).run(["run", &guest("remaining"), "-i", HELLO]);
    assert!(
        output.error(5).contains("the answer is larger than 8388608 bytes"),
        "{output}"
    );
    server.wait_until("the end of the call", |seen| seen[0].ended.is_some());
    assert!(server.seen()[0].closed_by_client);
}

#[test]
fn a_stalling_server_costs_the_tasks_time_and_no_more() {
    let server = Server::scripted([Reply::stall()]);
    let output = machine_at(&server).run(["run", &guest("remaining"), "-i", HELLO, "--timeout", "300ms"]);
    let said = output.error(3);
    assert!(
        said.contains("exhausted: the task's time was up (limit: 300 ms)"),
        "{said}"
    );
    assert!(said.contains("hint: Raise it with --timeout"), "{said}");
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = Server::scripted([Reply::text("x")]);
    let server = Server::scripted([Reply::redirect(&format!("{}/chat/completions", elsewhere.url()))]);
    let output = machine_at(&server).run(["run", &guest("remaining"), "-i", HELLO]);
    output.error(5);
    assert_eq!((server.count(), elsewhere.count()), (1, 0));
}

#[test]
fn a_proxy_of_the_environment_is_not_used() {
    let proxy = Server::scripted([Reply::text("x")]);
    let server = Server::scripted([Reply::text("x")]);
    let url = proxy.url().replace("/v1", "");
    let machine = machine_at(&server)
        .var("http_proxy", &url)
        .var("HTTP_PROXY", &url)
        .var("ALL_PROXY", &url);
    assert_eq!(machine.run(["run", &guest("remaining"), "-i", HELLO]).code, 0);
    assert_eq!((server.count(), proxy.count()), (1, 0));
}

#[test]
fn a_missing_key_is_named_with_its_place() {
    let remaining = guest("remaining");
    let vendor = "[models]\nfast = \"anthropic/claude-haiku-5-5\"\n";
    let output = machine().config(vendor).run(["run", &remaining, "-i", HELLO]);
    let said = output.error(5);
    assert!(
        said.contains("the environment variable ANTHROPIC_API_KEY is not set"),
        "{said}"
    );

    let server = Server::scripted([Reply::text("x")]);
    let output = machine()
        .config(&server.anthropic_config())
        .run(["run", &remaining, "-i", HELLO]);
    assert!(
        output
            .error(5)
            .contains("the environment variable ANTHROPIC_API_KEY is not set"),
        "{output}"
    );
    let file = config("openai", &server.url(), "key-file = \"no.key\"\n");
    let output = machine().config(&file).run(["run", &remaining, "-i", HELLO]);
    assert!(
        output.error(5).contains("no.key: No such file or directory"),
        "{output}"
    );
    assert_eq!(server.count(), 0);
}

#[test]
fn a_key_goes_to_no_address_that_a_project_chose_without_trust() {
    let toml = "[models]\nfast = \"anthropic/x\"\n[providers.anthropic]\nbase-url = \"https://evil.example\"\n";
    let machine = machine()
        .config(toml)
        .var("ANTHROPIC_API_KEY", "sk-ant-canary-0123456789");
    let output = machine.run(["run", &guest("remaining"), "-i", HELLO]);
    let said = output.error(4);
    assert!(
        said.contains("https://evil.example") && said.contains("agenthost trust"),
        "{said}"
    );
    assert!(!said.contains("canary"), "{said}");
}

#[test]
fn the_hint_of_a_failed_call_names_the_providers_section_and_its_line() {
    let unknown = json!({"error": {"message": "Unrecognized request argument supplied: max_completion_tokens"}});
    let unknown = unknown.to_string();
    let refused = json!({"error": {"message": "no"}}).to_string();
    for (status, body, line, says) in [
        (
            404,
            "404 page not found".to_owned(),
            "",
            "/v1/chat/completions; check base-url in [providers.local] (agenthost.toml:7)",
        ),
        (
            302,
            String::new(),
            "",
            "a redirect, which is never followed; the address was",
        ),
        (
            400,
            unknown.clone(),
            "",
            "max_completion_tokens; set max-tokens-field = \"max-tokens\" in [providers.local] (agenthost.toml:5)",
        ),
        (
            400,
            unknown.replace("max_completion_tokens", "max_tokens"),
            "max-tokens-field = \"max-tokens\"\n",
            "set max-tokens-field = \"max-completion-tokens\" in [providers.local] (agenthost.toml:8)",
        ),
        (
            401,
            refused.clone(),
            "",
            "; name the variable of a key with key-env in [providers.local] (agenthost.toml:5)",
        ),
        (
            401,
            refused.clone(),
            "key-env = \"OPENAI_API_KEY\"\n",
            "; check the environment variable OPENAI_API_KEY, or name another with key-env in [providers.local] \
             (agenthost.toml:8)",
        ),
        (
            401,
            refused,
            "headers = { api-key = { env = \"CORP_KEY\" } }\n",
            "; check the header `api-key` from the environment variable CORP_KEY in [providers.local] (agenthost.toml:8)",
        ),
    ] {
        let server = Server::scripted([Reply::raw(status, body)]);
        let machine = machine()
            .config(&config("openai", &server.url(), line))
            .var("OPENAI_API_KEY", "sk-test-0123456789")
            .var("CORP_KEY", "0123456789")
            .trusting("agenthost.toml");
        let output = machine.run(["run", &guest("remaining"), "-i", HELLO]);
        let said = output.error(5);
        assert!(said.contains(says), "{says}: {output}");
        assert!(!said.contains("for this provider"), "{output}");
    }
}

#[test]
fn a_provider_that_cannot_be_opened_is_named_with_its_line() {
    let server = Server::scripted([Reply::text("x")]);
    for (toml, says) in [
        (
            config("anthropic", &server.url(), ""),
            "[providers.local] (agenthost.toml:7): base-url of an anthropic provider ends with /v1",
        ),
        (
            "[models]\nfast = \"anthropic/x\"\n[providers.anthropic]\nretries = 0\n".to_owned(),
            "key-env or key-file in [providers.anthropic] (agenthost.toml:3).",
        ),
    ] {
        let output = machine().config(&toml).run(["run", &guest("remaining"), "-i", HELLO]);
        assert!(output.error(5).contains(says), "{output}");
    }
    assert_eq!(server.count(), 0);
}
