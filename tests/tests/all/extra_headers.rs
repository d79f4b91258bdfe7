//! Headers and query parameters of the configuration: on every request, under the rules of trust, and never shown if
//! they come from a variable. Azure OpenAI needs both.

use std::path::{Path, PathBuf};

use agenthost_tests::env::{Output, TestEnv};
use agenthost_tests::server::{Reply, Request, Server};
use serde_json::json;

use crate::{guest, machine, questions, run_json};

const HEADER: &str = "canary-header-Zx81QwErTyUiOp";
const PARAMETER: &str = "canary/parameter+Zx81QwErTy";
const HELLO: &str = "\"hello\"";

/// A configuration with `fast` at `url` and with these lines about the provider.
fn config(kind: &str, url: &str, lines: &str) -> String {
    format!(
        "[models]\nfast = \"x/small\"\n[providers.x]\nkind = \"{kind}\"\nbase-url = \"{url}\"\nretries = 0\n{lines}"
    )
}

/// A service in the dialect of Azure OpenAI.
fn azure(request: &Request) -> Reply {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let refuse = |status: u16, message: &str| {
        let body = json!({"error": {"code": status.to_string(), "message": message}});
        Reply::raw(status, body.to_string())
    };
    if request.header("api-key") != Some(HEADER) {
        return refuse(
            401,
            "Access denied due to invalid subscription key or wrong API endpoint.",
        );
    }
    match (path, query) {
        ("/openai/deployments/small-1/chat/completions", "api-version=2024-10-21")
        | ("/openai/v1/chat/completions", "" | "api-version=preview") => Reply::text("Azure says hello"),
        ("/openai/deployments/small-1/chat/completions", _) => refuse(404, "Resource not found"),
        _ => refuse(404, "The API deployment for this resource does not exist."),
    }
}

#[test]
fn azure_answers_with_the_documented_configuration() {
    let server = Server::start(azure);
    let root = server.url().replace("/v1", "");
    let key = "headers = { \"api-key\" = { env = \"AZURE_OPENAI_API_KEY\" } }\n";
    let run = |base: &str, lines: &str| {
        machine()
            .config(&config("openai", &format!("{root}{base}"), lines))
            .var("AZURE_OPENAI_API_KEY", HEADER)
            // Not for this service.
            .var("OPENAI_API_KEY", "sk-openai-0123456789")
            .trusting("agenthost.toml")
            .run(run_json(&guest("asks"), &questions(&["hello"], "parallel"), &[]))
    };
    for (base, lines) in [
        (
            "/openai/deployments/small-1",
            format!("query = {{ \"api-version\" = \"2024-10-21\" }}\n{key}"),
        ),
        ("/openai/v1/", key.to_owned()),
        ("/openai/v1", format!("{key}query.api-version = \"preview\"\n")),
    ] {
        let before = server.count();
        let document = run(base, &lines).json(0);
        assert_eq!(document["outcome"]["ok"][0]["text"], "Azure says hello", "{document}");
        let seen = &server.seen()[before];
        assert!(seen.header("authorization").is_none(), "{seen:?}");
        assert_eq!(seen.header("api-key"), Some(HEADER));
        assert!(!seen.body.to_string().contains("canary"), "{seen:?}");
    }
    let wrong = run("/openai/deployments/small-1", key);
    assert!(wrong.stdout.contains("Resource not found"), "{wrong}");
}

#[test]
fn both_wires_send_them_on_every_request() {
    let server = Server::start(|request| match request.number % 2 {
        0 => Reply::error(500, "api_error", "it broke"),
        _ => Reply::text("hello"),
    });
    let lines = "headers = { x-portkey-provider = \"openai\", user-agent = \"mine/1\" }\nquery = { a = \"b c\" }\n";
    for (kind, url, path) in [
        ("openai", server.url(), "/v1/chat/completions"),
        ("anthropic", server.url().replace("/v1", ""), "/v1/messages"),
    ] {
        let before = server.count();
        let toml = config(kind, &url, lines).replace("retries = 0", "retries = 1");
        let output = machine()
            .config(&toml)
            .trusting("agenthost.toml")
            .run(["run", &guest("remaining"), "-i", HELLO]);
        assert_eq!(output.code, 0, "{output}");
        let seen = server.seen().split_off(before);
        assert_eq!(seen.len(), 2, "an attempt and its retry");
        for request in seen {
            assert_eq!(request.path, format!("{path}?a=b+c"));
            assert_eq!(request.header("x-portkey-provider"), Some("openai"));
            assert_eq!(request.header("user-agent"), Some("mine/1"));
            assert_eq!(request.header("content-type"), Some("application/json"));
        }
    }
}

const SECRETS: &str = "headers = { X-Team = { env = \"TEAM\" } }\nquery = { \"sub key\" = { env = \"SUB\" } }\n";

fn secretive(kind: &str, url: &str) -> TestEnv {
    machine()
        .config(&config(kind, url, SECRETS))
        .var("TEAM", HEADER)
        .var("SUB", PARAMETER)
}

fn clean(output: &Output) {
    for part in ["canary", "Zx81QwErTy"] {
        assert!(
            !output.stdout.contains(part) && !output.stderr.contains(part),
            "{output}"
        );
    }
}

/// Every file below `dir` that holds `part`.
fn holding(dir: &Path, part: &[u8], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            holding(&entry.path(), part, found);
        } else if std::fs::read(entry.path()).is_ok_and(|bytes| bytes.windows(part.len()).any(|window| window == part))
        {
            found.push(entry.path());
        }
    }
}

#[test]
fn no_command_and_no_file_shows_a_value_from_a_variable() {
    let echo = |request: &Request| {
        let encoded = request.path.split_once("sub+key=").unwrap().1;
        format!(
            "{} {} {PARAMETER} {encoded}",
            request.path,
            request.header("x-team").unwrap()
        )
    };
    let server = Server::start(move |request| match request.prompt() {
        prompt if prompt.contains("refuse") => {
            Reply::error(401, "authentication_error", &echo(request)).header("x-request-id", HEADER)
        }
        prompt if prompt.contains("page") => Reply::raw(502, format!("<title>{}</title>", echo(request))),
        prompt if prompt.contains("odd") => Reply::raw(200, echo(request)),
        prompt if prompt.contains("close") => Reply::close(),
        _ => Reply::text(echo(request)),
    });
    let asks = guest("asks");
    for (kind, url) in [("openai", server.url()), ("anthropic", server.url().replace("/v1", ""))] {
        let machine = secretive(kind, &url)
            .trusting("agenthost.toml")
            .var("AGENTHOST_LOG", "trace")
            .var("RUST_LOG", "trace");
        for prompt in ["hello", "refuse", "page", "odd", "close"] {
            let before = server.count();
            let input = questions(&[prompt], "parallel").to_string();
            for more in [vec![], vec!["--json"], vec!["-vv"], vec!["--record", "cassette.json"]] {
                let args: Vec<_> = ["run", &asks, "-i", &input].into_iter().chain(more).collect();
                let output = machine.run(&args);
                assert_eq!(output.code, 0, "the guest returns the error: {output}");
                clean(&output);
            }
            let seen = server.seen().split_off(before);
            assert!(
                seen.iter().all(|request| request.header("x-team") == Some(HEADER)),
                "{seen:?}"
            );
        }
        for args in [
            vec!["show", "last", "--all"],
            vec!["show", "last", "--json"],
            vec!["doctor"],
            vec!["doctor", "--json"],
            vec!["trust", "--dry-run"],
            vec!["trust", "--list"],
            vec!["plan", &asks],
        ] {
            let output = machine.run(&args);
            assert_eq!(output.code, 0, "{args:?}: {output}");
            clean(&output);
        }
        let mut found = Vec::new();
        for part in [b"canary".as_slice(), b"Zx81QwErTy"] {
            holding(machine.cwd().parent().unwrap(), part, &mut found);
        }
        assert_eq!(found, Vec::<PathBuf>::new());
    }
}

#[test]
fn a_project_sends_no_variable_before_it_is_trusted() {
    let server = Server::scripted([Reply::text("x")]);
    let machine = secretive("openai", &server.url());
    let run = ["run", &guest("remaining"), "-i", HELLO];
    let denied = machine.run(run);
    let said = denied.error(4);
    for part in [
        "agenthost.toml:7: provider `x` would send prompts, the header `x-team` from the environment variable TEAM and the \
         query parameter `sub key` from the environment variable SUB to http://127.0.0.1:",
        "`agenthost trust agenthost.toml` if they may go there",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(server.count(), 0);
    let machine = machine.trusting("agenthost.toml");
    assert_eq!(machine.run(run).code, 0);
    assert_eq!(server.count(), 1);
    let doctor = machine.run(["doctor"]);
    assert!(
        doctor
            .stdout
            .contains("header `x-team` from the environment variable TEAM"),
        "{doctor}"
    );
    // Another variable is another question.
    let changed = config("openai", &server.url(), SECRETS).replace("TEAM", "HOME");
    assert_eq!(machine.config(&changed).run(run).code, 4);
    assert_eq!(server.count(), 1);
}

#[test]
fn a_variable_that_is_not_set_or_cannot_be_sent_is_named() {
    let server = Server::scripted([Reply::text("x")]);
    let machine = secretive("openai", &server.url()).trusting("agenthost.toml");
    let run = ["run", &guest("remaining"), "-i", HELLO];
    let machine = machine.without("TEAM");
    let unset = machine.run(run);
    let said = unset.error(5);
    assert!(
        said.contains(
            "no value for the header `x-team` of provider `x`: the environment variable TEAM is not set (hint: Set TEAM, or \
             name another variable in [providers.x] (agenthost.toml:7).)"
        ),
        "{said}"
    );
    assert_eq!(machine.run(["doctor"]).code, 2, "doctor finds it before a run");
    for value in ["canary\ncanary", "canary-\u{e9}", ""] {
        let machine = secretive("openai", &server.url())
            .trusting("agenthost.toml")
            .var("TEAM", value);
        let output = machine.run(run);
        let said = output.error(5);
        assert!(
            said.contains(
                "the environment variable TEAM does not hold a valid value for the header `x-team`: the value "
            ),
            "{said}"
        );
        clean(&output);
        clean(&machine.run(["doctor"]));
    }
    assert_eq!(server.count(), 0);
}
