//! A key goes to the configured address and nowhere else: not into output, logs, errors, the task or the command line.

use agenthost_tests::env::{Output, TestEnv};
use agenthost_tests::server::{Reply, Request, Server, config};
use serde_json::json;

use crate::{guest, machine, questions};

const KEY: &str = "sk-test-canary-Zx81QwErTyUiOp-0123456789";

/// A retry is logged, and further ones would only take time.
const ONE_RETRY: &str = "retries = 1\n";

/// Machines that have the key in a variable and in a file, for both wires.
fn machines(server: &Server) -> Vec<(TestEnv, &'static str)> {
    let anthropic = server.url().replace("/v1", "");
    let mut machines = Vec::new();
    for (kind, url, variable, header) in [
        ("openai", server.url(), "OPENAI_API_KEY", "authorization"),
        ("anthropic", anthropic, "ANTHROPIC_API_KEY", "x-api-key"),
    ] {
        let in_variable = machine()
            .config(&config(kind, &url, &format!("key-env = \"{variable}\"\n{ONE_RETRY}")))
            .var(variable, KEY);
        let in_file = machine().config(&config(kind, &url, &format!("key-file = \"service.key\"\n{ONE_RETRY}")));
        in_file.write("service.key", format!("{KEY}\n"));
        machines.extend([(in_variable, header), (in_file, header)]);
    }
    machines
}

fn clean(output: &Output) {
    for part in ["canary", "Zx81QwErTyUiOp", KEY] {
        assert!(
            !output.stdout.contains(part) && !output.stderr.contains(part),
            "{output}"
        );
    }
}

fn sent(request: &Request, header: &str) {
    assert!(request.header(header).unwrap().ends_with(KEY), "{request:?}");
    let others = request
        .headers
        .iter()
        .filter(|(name, _)| name != header)
        .any(|(_, value)| value.contains("canary"));
    assert!(
        !others && !request.body.to_string().contains("canary") && !request.path.contains("canary"),
        "{request:?}"
    );
}

#[test]
fn no_answer_of_a_server_brings_the_key_to_light() {
    let echo = |text: &str| text.replace("KEY", KEY);
    let replies = vec![
        Reply::error(
            401,
            "authentication_error",
            &echo("Incorrect API key provided: KEY. See the docs."),
        ),
        Reply::error(
            401,
            "authentication_error",
            &echo("bad key sk-test-can***********6789 (KEY)"),
        ),
        Reply::error(403, "permission_error", &echo("key=KEY&x"))
            .header("request-id", KEY)
            .header("x-request-id", KEY),
        Reply::error(429, "rate_limit_error", &echo("\"KEY\" is too fast")).header("retry-after", KEY),
        Reply::error(500, &echo("KEY"), &echo("KEYKEY")),
        Reply::raw(500, echo("<html>Bearer KEY</html>")),
        Reply::raw(400, echo("KEY")),
        Reply::raw(200, echo("no JSON: KEY")),
        Reply::raw(200, echo("{\"KEY\": 1}")),
        Reply::raw(200, echo("{\"error\": \"KEY\"}")),
        Reply::raw(302, "").header("location", &echo("http://127.0.0.1:1/?key=KEY")),
        // A good answer in every way, apart from its text.
        Reply::text(echo("Your key is KEY, by the way.")),
        Reply::cut_off(),
        Reply::close(),
    ];
    let asks = guest("asks");
    let input = questions(&["hello"], "parallel").to_string();
    for reply in replies {
        let server = Server::scripted([reply]);
        for (machine, header) in machines(&server) {
            let machine = machine.var("AGENTHOST_LOG", "trace").var("RUST_LOG", "trace");
            for more in [vec![], vec!["--json"], vec!["-vv"]] {
                let before = server.count();
                let args: Vec<_> = ["run", &asks, "-i", &input].into_iter().chain(more).collect();
                let output = machine.run(&args);
                assert_eq!(output.code, 0, "the guest returns the error: {output}");
                clean(&output);
                sent(&server.seen()[before], header);
            }
        }
    }
}

#[test]
fn a_key_stands_in_no_command_line_and_no_report() {
    let server = Server::scripted([Reply::stall()]);
    for (machine, header) in machines(&server) {
        let before = server.count();
        let running = machine.start(["run", &guest("remaining"), "-i", "\"hello\"", "-v"], None);
        server.wait_until("a call", |seen| seen.len() > before);
        let read = |name: &str| std::fs::read(format!("/proc/{}/{name}", running.pid())).unwrap();
        assert!(!String::from_utf8_lossy(&read("cmdline")).contains("canary"));
        running.interrupt();
        let output = running.finish();
        assert_eq!(output.code, 130, "{output}");
        clean(&output);
        sent(&server.seen()[before], header);
        for args in [
            vec!["doctor"],
            vec!["doctor", "--json"],
            vec!["trust", "--dry-run"],
            vec!["trust"],
        ] {
            let output = machine.run(&args);
            assert_eq!(output.code, 0, "{args:?}: {output}");
            clean(&output);
        }
    }
}

#[test]
fn a_key_that_is_no_key_is_not_repeated() {
    let server = Server::scripted([Reply::text("x")]);
    for value in [" canary canary", "canary\ncanary", "canary-\u{e9}"] {
        let toml = config("openai", &server.url(), "key-env = \"OPENAI_API_KEY\"\n");
        let machine = machine().config(&toml).var("OPENAI_API_KEY", value);
        let output = machine.run(["run", &guest("remaining"), "-i", "\"hello\""]);
        assert_eq!(output.code, 5, "{output}");
        clean(&output);
        clean(&machine.run(["doctor"]));
    }
    // In the wrong place, where a name belongs.
    let toml = config("openai", &server.url(), &format!("key-env = \"{KEY}\"\n"));
    let output = machine()
        .config(&toml)
        .run(["run", &guest("remaining"), "-i", "\"hello\""]);
    assert_eq!(output.code, 2, "{output}");
    clean(&output);
    assert_eq!(server.count(), 0);
}

#[test]
fn a_key_file_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::scripted([Reply::text("x")]);
    let machine = machine().config(&config("openai", &server.url(), "key-file = \"service.key\"\n"));
    let path = machine.write("service.key", KEY);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = machine.run(["run", &guest("remaining"), "-i", "\"hello\""]);
    assert!(
        output.stderr.contains("service.key can be used by others (mode 644)"),
        "{output}"
    );
    assert!(output.stderr.contains("chmod 600"), "{output}");
    assert_ne!(output.code, 0);
    clean(&output);
    assert_eq!(server.count(), 0);
}

#[test]
fn a_guest_cannot_ask_for_the_key() {
    let server = Server::start(|request| Reply::text(request.prompt()));
    let (machine, _) = machines(&server).swap_remove(0);
    let probe = json!({"leave": "", "look-for": KEY.bytes().map(|byte| !byte).collect::<Vec<_>>()});
    let found = machine.run(["run", &guest("probes"), "-i", &probe.to_string()]).json(0);
    assert_eq!((&found["vars"], &found["found"]), (&json!([]), &json!(0)));
}

/// Every file below `dir` that holds `part`.
fn holding(dir: &std::path::Path, part: &[u8], found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => holding(&entry.path(), part, found),
            kind if kind.is_file() => {
                let bytes = std::fs::read(entry.path()).unwrap();
                if bytes.windows(part.len()).any(|window| window == part) {
                    found.push(entry.path());
                }
            }
            _ => {}
        }
    }
}

#[test]
fn no_command_and_no_file_repeats_a_key_that_a_server_sends_back() {
    let server = Server::start(|request| match request.prompt().contains("refuse") {
        true => Reply::error(401, KEY, &format!("bad key {KEY} | {} {}", &KEY[..20], &KEY[20..]))
            .header("x-request-id", KEY)
            .header("request-id", KEY),
        false => Reply::text(format!("your key is {KEY}")),
    });
    let asks = guest("asks");
    let good = questions(&["hello"], "parallel").to_string();
    let bad = json!({"prompts": ["refuse"], "mode": "parallel", "strict": true}).to_string();
    for (machine, _) in machines(&server) {
        let machine = machine.var("AGENTHOST_LOG", "trace").var("RUST_BACKTRACE", "1");
        machine.write("items.jsonl", format!("{good}\n{bad}\n"));
        for (code, args) in [
            (0, vec!["run", &asks, "-i", &good, "--record", "cassette.json"]),
            (5, vec!["run", &asks, "-i", &bad, "-vv"]),
            (1, vec!["batch", &asks, "items.jsonl", "--output", "out.jsonl", "-vv"]),
            (1, vec!["batch", &asks, "items.jsonl"]),
            (0, vec!["show", "last", "--all"]),
            (0, vec!["show", "last", "--json"]),
            (0, vec!["runs", "--json"]),
            (1, vec!["replay", "last"]),
            (1, vec!["resume", "last", "--failed", "-vv"]),
            (0, vec!["plan", &asks]),
            (0, vec!["inspect", &asks, "--json"]),
            (0, vec!["doctor", "-vv"]),
        ] {
            let output = machine.run(&args);
            assert_eq!(output.code, code, "{args:?}: {output}");
            clean(&output);
        }
        let mut found = Vec::new();
        holding(machine.cwd().parent().unwrap(), b"canary", &mut found);
        found.retain(|file| !file.ends_with("service.key"));
        assert_eq!(found, Vec::<std::path::PathBuf>::new());
    }
    assert!(server.count() > 0);
}
