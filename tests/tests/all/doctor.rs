//! `doctor --online`: one request to each mapped model, and what it shows.

use agenthost_tests::server::{Reply, Server};
use serde_json::{Value, json};

use crate::{machine, machine_for};

/// Returns the checks with the name `online`.
fn online(document: &Value) -> Vec<Value> {
    let checks = document["checks"].as_array().unwrap().iter();
    checks.filter(|check| check["name"] == "online").cloned().collect()
}

#[test]
fn a_model_that_answers_is_shown_with_its_counts_and_limits() {
    let server = Server::start(|_| {
        Reply::text(r#"{"ok": true}"#)
            .usage(45, 9)
            .header("x-ratelimit-limit-requests", "500")
            .header("x-ratelimit-remaining-requests", "499")
            .header("x-ratelimit-reset-requests", "120ms")
    });
    let machine = machine_for(&server.config());
    let document = machine.run(["doctor", "--online", "--json"]).json(0);
    let checks = online(&document);
    // `fast` and `strong` are two models.
    assert_eq!((checks.len(), server.count()), (2, 2), "{document}");
    for check in &checks {
        assert_eq!(check["state"], "ok", "{check}");
        let probe = &check["probe"];
        assert_eq!(probe["schema"], "satisfied");
        assert_eq!(
            (&probe["input_tokens"], &probe["output_tokens"]),
            (&json!(45), &json!(9))
        );
        assert_eq!(
            probe["limits"],
            json!([{"of": "requests", "limit": 500, "remaining": 499, "reset_ms": 120}])
        );
        let found = check["found"].as_str().unwrap();
        assert!(
            found.contains("takes a JSON Schema; 45 tokens in, 9 out; 499 of 500 requests left"),
            "{found}"
        );
        assert!(found.contains(&server.url()), "{found}");
    }
    assert_eq!(server.seen()[0].max_tokens(), Some(256));
    // Without the option, nothing is sent.
    assert!(online(&machine.run(["doctor", "--json"]).json(0)).is_empty());
    assert_eq!(server.count(), 2);
}

#[test]
fn a_service_without_structured_output_is_asked_again_in_the_prompt() {
    let server = Server::start(|request| {
        if request.body.get("response_format").is_some() {
            return Reply::error(
                400,
                "invalid_request_error",
                "response_format is not supported by this model",
            );
        }
        Reply::text(r#"{"ok": true}"#).uncounted()
    });
    let machine = machine_for(&server.config());
    let output = machine.run(["doctor", "--online"]);
    assert_eq!(output.code, 0, "{output}");
    assert!(
        output
            .stdout
            .contains("takes a JSON Schema in the prompt only; reports no token counts"),
        "{output}"
    );
    assert!(
        output
            .stdout
            .contains("hint: structured-output = \"prompt\" in [providers."),
        "{output}"
    );
    assert_eq!(server.count(), 4, "two for each model");
}

#[test]
fn a_reply_that_violates_the_schema_is_a_warning() {
    let server = Server::start(|_| Reply::text("Sure, it works."));
    let output = machine_for(&server.config()).run(["doctor", "--online"]);
    assert_eq!(output.code, 0, "{output}");
    assert!(output.stdout.contains("warn online"), "{output}");
    assert!(
        output.stdout.contains("its reply violates the JSON Schema: "),
        "{output}"
    );
}

#[test]
fn a_model_that_fails_has_a_hint_that_names_its_section() {
    for (reply, says, hint) in [
        (
            Reply::error(401, "authentication_error", "no such key"),
            "authentication: ",
            "; name the variable of a key with key-env in [providers.",
        ),
        (
            Reply::error(404, "not_found_error", "the model does not exist"),
            "not-found: ",
            "Check the model's name, and `base-url` in [providers.",
        ),
        (
            Reply::error(503, "overloaded_error", "busy"),
            "unavailable: ",
            "Check `base-url` in [providers.",
        ),
    ] {
        let server = Server::start(move |_| reply.clone());
        let output = machine_for(&server.config()).run(["doctor", "--online"]);
        assert_eq!(output.code, 2, "{output}");
        for part in ["FAIL online", says, hint] {
            assert!(output.stdout.contains(part), "{part}: {output}");
        }
        assert_eq!(server.count(), 2, "a probe is not retried");
    }
}

#[test]
fn without_a_server_nothing_is_sent() {
    let document = machine().run(["doctor", "--online", "--json"]).json(0);
    let checks = online(&document);
    assert_eq!(checks.len(), 1, "{document}");
    assert_eq!(checks[0]["found"], "no model is mapped to a server; nothing was sent");
}
