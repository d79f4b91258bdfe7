//! The contract of the command line: what goes in, what comes out where, and with which exit code.

use agenthost_tests::server::{Reply, Server, config};
use serde_json::{Value, json};

use crate::{guest, machine, machine_at, questions, run_json, strict_questions};

#[test]
fn input_comes_from_an_argument_a_file_or_stdin() {
    let machine = machine();
    let fine = guest("misbehaves");
    machine.write("input.json", "\"ok\"\n");
    for (args, stdin) in [
        (vec!["run", &fine, "--input", "\"ok\""], None),
        (vec!["run", &fine, "-i", "@input.json"], None),
        (vec!["run", &fine, "--input", "-"], Some("\"ok\"")),
        (vec!["run", &fine], Some(" \"ok\"\n")),
    ] {
        let output = match stdin {
            Some(text) => machine.piped(&args, text),
            None => machine.run(&args),
        };
        assert_eq!(output.json(0), json!("fine"), "{args:?}");
    }
}

#[test]
fn without_input_the_hint_shows_one_that_works() {
    let machine = machine();
    let echo = guest("echo");
    let output = machine.run(["run", &echo]);
    let said = output.error(2);
    assert!(
        said.starts_with("error: no input: --input was not given and nothing was piped in\n"),
        "{said}"
    );
    let sample = said
        .split_once("--input '")
        .unwrap()
        .1
        .trim_end()
        .trim_end_matches('\'');
    let sample: Value = serde_json::from_str(sample).unwrap();
    let echoed = machine.run(["run", &echo, "--input", &sample.to_string()]).json(0);
    for (field, value) in sample.as_object().unwrap() {
        assert_eq!(echoed[field], *value, "{field}");
    }
}

#[test]
fn stdout_holds_data_and_stderr_the_rest() {
    let machine = machine();
    let output = machine.run([
        "run",
        &guest("asks"),
        "-i",
        &questions(&["hello"], "parallel").to_string(),
    ]);
    let answers = output.json(0);
    assert!(
        answers[0]["text"].as_str().unwrap().starts_with("[offline]"),
        "{answers}"
    );
    let mut lines = output.stderr.lines();
    let summary = lines.next().unwrap();
    assert!(
        summary.starts_with("run ") && summary.contains(": 1 call, ") && summary.contains(" tokens in, "),
        "{summary}"
    );
    assert!(
        lines
            .next()
            .unwrap()
            .starts_with("note: the offline provider made the answers up"),
        "{output}"
    );
    assert!(
        !output.stderr.contains('\u{1b}'),
        "nothing moves or shines where nobody watches: {output}"
    );

    let quiet = machine.run(["run", "-q", &guest("misbehaves"), "-i", "\"ok\""]);
    assert_eq!((quiet.json(0), quiet.stderr.as_str()), (json!("fine"), ""));

    let failed = machine.run(["run", &guest("misbehaves"), "-i", "\"fail\""]);
    assert_eq!((failed.code, failed.stdout.as_str()), (1, ""), "{failed}");
    assert!(
        failed
            .stderr
            .starts_with("error: task root (guests:misbehaves@0.1.0): failed: as asked\n"),
        "{failed}"
    );
}

#[test]
fn the_document_has_every_field_of_the_contract() {
    let server = Server::scripted([Reply::text("one").usage(11, 7), Reply::text("two").usage(13, 5)]);
    let prices = "[prices.\"local/small\"]\ninput = 2\noutput = 10\n";
    let machine = machine().config(&format!("{}{prices}", server.config()));
    let output = machine.run(run_json(&guest("asks"), &questions(&["a", "b"], "sequential"), &[]));
    assert_eq!(output.stderr, "", "the document says it all");
    let mut document = output.json(0);

    let run = document["run"].as_str().unwrap().to_owned();
    assert_eq!(run.len(), 15, "{run}");
    for spent in ["/spent", "/tasks/0/spent"] {
        let spent = document.pointer_mut(spent).unwrap().as_object_mut().unwrap();
        for (field, least) in [("fuel", 1_000), ("peak_memory_bytes", 1 << 16)] {
            assert!(spent.remove(field).unwrap().as_u64().unwrap() >= least, "{field}");
        }
        assert!(spent.remove("wall_ms").unwrap().is_u64());
    }
    let answer = |text: &str| json!({"text": text, "error": null, "message": null});
    let outcome = json!({"ok": [answer("one"), answer("two")]});
    // 24 input tokens at 2 and 12 output tokens at 10 USD per million.
    let spent =
        json!({"input_tokens": 24, "cached_input_tokens": 0, "output_tokens": 12, "cost_usd": 0.000168, "calls": 2});
    let task = json!({
        "id": "root", "parent": null, "plugin": "guests:asks@0.1.0", "models": ["local/small"],
        "outcome": outcome, "spent": spent,
    });
    let models = json!([{
        "name": "fast", "model": "local/small", "calls": 2, "requests": 2, "retries": 0, "repairs": 0, "hedges": 0,
        "warmed": 0, "waited_ms": 0, "limits_met": {}, "abandoned": {"requests": 0, "at_most_tokens": 0},
        "input_tokens": 24, "cached_input_tokens": 0, "output_tokens": 12, "cost_usd": 0.000168, "offline": false,
    }]);
    let expected =
        json!({"format": 1, "run": run, "outcome": outcome, "spent": spent, "tasks": [task], "models": models});
    assert_eq!(document, expected);
}

#[test]
fn a_failure_stands_in_the_document_with_its_class() {
    let machine = machine();
    let own = machine.run(run_json(&guest("own-error"), &json!(7), &[])).json(1);
    assert_eq!(own["outcome"]["failure"]["class"], "failed");
    assert_eq!(
        own["outcome"]["failure"]["error"],
        json!({"code": 7, "reason": "as asked"})
    );
    assert_eq!(own["tasks"][0]["outcome"], own["outcome"]);

    let limit = machine
        .run(run_json(&guest("misbehaves"), &json!("loop"), &["--fuel", "1M"]))
        .json(3);
    let failure = &limit["outcome"]["failure"];
    assert_eq!(
        (failure["class"].as_str(), failure["limit"].as_str()),
        (Some("exhausted"), Some("fuel"))
    );
    assert_eq!(failure["message"], "the task used up its fuel (limit: 1 M fuel)");
}

#[test]
fn an_unknown_price_is_null_and_not_zero() {
    let server = Server::scripted([Reply::text("x")]);
    let document = machine_at(&server)
        .run(run_json(&guest("asks"), &questions(&["a"], "parallel"), &[]))
        .json(0);
    assert_eq!(document["spent"]["cost_usd"], Value::Null);
    assert_eq!(document["models"][0]["cost_usd"], Value::Null);
}

#[test]
fn an_error_before_the_run_is_a_document_too() {
    let machine = machine();
    for (args, class, says) in [
        (
            vec!["run", "missing.wasm", "--json", "-i", "1"],
            "plugin",
            "missing.wasm",
        ),
        (vec!["run", "missing.wasm", "--json", "-i", "{"], "input", "--input"),
        (
            vec!["run", "missing.wasm", "--json", "-i", "1", "--tokens", "many"],
            "usage",
            "--tokens",
        ),
        (vec!["run", "--json", "--no-such-flag"], "usage", "--no-such-flag"),
        (vec!["inspect", "--json", "missing.wasm"], "plugin", "missing.wasm"),
        (vec!["build", "--json", "missing"], "plugin", "missing"),
    ] {
        let document = machine.run(&args).json(2);
        assert_eq!(document["format"], 1, "{args:?}");
        assert_eq!(document["error"]["class"], class, "{args:?}: {document}");
        assert!(
            document["error"]["message"].as_str().unwrap().contains(says),
            "{args:?}: {document}"
        );
        assert!(
            document["error"]["hint"].as_str().unwrap().ends_with(['.', ')', '\'']),
            "{args:?}: {document}"
        );
    }
    let denied = machine.run(run_json(&guest("opens-file"), &json!("x"), &[])).json(4);
    assert_eq!(denied["error"]["class"], "denied");
}

#[test]
fn every_class_of_failure_has_its_exit_code() {
    let machine = machine();
    let fails = guest("fails");
    for (failure, class, code) in [
        (json!({"failed": "why"}), "failed", 1),
        (json!({"exhausted": "calls"}), "exhausted", 3),
        (json!({"denied": "why"}), "denied", 4),
        (json!({"model": "why"}), "model", 5),
        (json!("context-overflow"), "context-overflow", 1),
        (json!({"trapped": "why"}), "trapped", 1),
        (json!("cancelled"), "cancelled", 1),
        (json!({"escalated": "two suppliers have the same name"}), "escalated", 6),
        (json!({"other": ["quota", "why"]}), "other", 1),
    ] {
        let output = machine.run(run_json(&fails, &failure, &[]));
        assert_eq!(output.json(code)["outcome"]["failure"]["class"], class);
    }
    let output = machine.run([
        "run",
        &fails,
        "-i",
        "{\"escalated\": \"two suppliers have the same name\"}",
    ]);
    assert!(
        output.error(6).contains("escalated: two suppliers have the same name"),
        "{output}"
    );
}

#[test]
fn an_output_that_cannot_be_written_is_a_fault_of_the_host() {
    let machine = machine();
    let binary = env!("CARGO_BIN_EXE_agenthost-cli");
    let script = format!("'{binary}' run '{}' -i '\"ok\"' > /dev/full", guest("misbehaves"));
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", &script])
        .current_dir(machine.cwd())
        .env_clear()
        .env("HOME", machine.cwd());
    let output = command.env("PATH", std::env::var_os("PATH").unwrap()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(70), "{stderr}");
    assert!(stderr.contains("error: cannot write to stdout: "), "{stderr}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let machine = machine();
    let binary = env!("CARGO_BIN_EXE_agenthost-cli");
    let script = format!(
        "'{binary}' run '{}' -i '\"ok\"' | :; echo ${{PIPESTATUS[0]}}",
        guest("misbehaves")
    );
    let mut command = std::process::Command::new("bash");
    command
        .args(["-c", &script])
        .current_dir(machine.cwd())
        .env_clear()
        .env("HOME", machine.cwd());
    let output = command.env("PATH", std::env::var_os("PATH").unwrap()).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "0\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn ctrl_c_ends_the_run_and_closes_the_connection() {
    let server = Server::scripted([Reply::stall()]);
    let machine = machine_at(&server);
    let running = machine.start(run_json(&guest("asks"), &questions(&["hello"], "parallel"), &[]), None);
    server.wait_until("a call", |seen| seen.len() == 1);
    running.interrupt();
    let document = running.finish().json(130);
    assert_eq!(document["outcome"]["failure"]["class"], "cancelled");
    assert_eq!(document["spent"]["calls"], 1, "it was sent, so it counts");
    server.wait_until("the end of the call", |seen| seen[0].ended.is_some());
    assert!(server.seen()[0].closed_by_client);
}

#[test]
fn limits_are_flags_and_none_takes_one_away() {
    let server = Server::scripted([Reply::text("x")]);
    let machine = machine().config(&format!("{}[limits]\ncalls = 1\n", server.config()));
    let asks = guest("asks");
    let three = strict_questions(&["a", "b", "c"], "sequential");
    let calls = |flags: &[&str], code| machine.run(run_json(&asks, &three, flags)).json(code)["spent"]["calls"].clone();
    assert_eq!(calls(&[], 3), 1);
    assert_eq!(calls(&["--calls", "2"], 3), 2);
    assert_eq!(calls(&["--calls", "none"], 0), 3);
    let all = [
        "--tokens",
        "1M",
        "--calls",
        "1k",
        "--fuel",
        "1G",
        "--memory",
        "128MiB",
        "--timeout",
        "1h30m",
    ];
    assert_eq!(calls(&all, 0), 3);
    let all = [
        "--tokens",
        "none",
        "--cost",
        "none",
        "--calls",
        "none",
        "--fuel",
        "none",
        "--memory",
        "none",
        "--timeout",
        "none",
    ];
    assert_eq!(calls(&all, 0), 3);
}

#[test]
fn wrong_flags_are_errors_with_a_hint() {
    let machine = machine();
    for (args, says) in [
        (
            vec!["run", "x.wasm", "--tokens", "many"],
            "--tokens: `many` is not a count",
        ),
        (
            vec!["run", "x.wasm", "--memory", "64M"],
            "--memory: `64M` is not a size",
        ),
        (
            vec!["run", "x.wasm", "--timeout", "0s"],
            "--timeout: `0s` is not a positive time",
        ),
        (vec!["run", "x.wasm", "--cost", "-1"], "-1"),
        (vec!["run", "x.wasm", "--fuel", ""], "--fuel: `` is not a count"),
        (vec!["run", "x.wasm", "--tokenz", "5"], "--tokenz"),
        (vec!["run"], "PLUGIN"),
        (vec!["rum"], "rum"),
        (vec!["run", "x.wasm", "-q", "-v"], "--quiet"),
    ] {
        let output = machine.run(&args);
        assert!(output.error(2).contains(says), "{args:?}: {output}");
    }
}

#[test]
fn help_goes_to_stdout() {
    let machine = machine();
    let help = machine.run(["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (0, ""));
    for command in ["run", "build", "inspect", "doctor", "trust", "completions"] {
        assert!(help.stdout.contains(&format!("\n  {command} ")), "{command}: {help}");
    }
    let help = machine.run(["run", "--help"]);
    for flag in [
        "--input",
        "--json",
        "--tokens",
        "--cost",
        "--calls",
        "--fuel",
        "--memory",
        "--timeout",
        "--config",
    ] {
        assert!(help.stdout.contains(flag), "{flag}: {help}");
    }
    assert!(machine.run(["--version"]).stdout.starts_with("agenthost "));
    assert_eq!(machine.run(Vec::<String>::new()).code, 2);
}

#[test]
fn doctor_and_completions_answer_on_a_fresh_machine() {
    let machine = machine();
    let report = machine.run(["doctor", "--json"]).json(0);
    let names: Vec<_> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| check["name"].as_str().unwrap())
        .collect();
    for name in [
        "cargo",
        "wasm32-wasip2",
        "configuration",
        "models",
        "sub-agents at once",
    ] {
        assert!(names.contains(&name), "{name}: {report}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            machine.run(["completions", shell]).stdout.contains("agenthost"),
            "{shell}"
        );
    }
}

#[test]
fn doctor_shows_who_shares_rate_limits() {
    let server = Server::scripted([Reply::stall()]);
    let machine = machine_at(&server);
    let checks = || {
        let report = machine.run(["doctor", "--json"]).json(0);
        let checks = report["checks"].as_array().unwrap().clone();
        let shared = checks.into_iter().filter(|check| check["name"] == "shared rate limits");
        shared
            .map(|check| {
                let text = |field: &str| check[field].as_str().unwrap_or_default().to_owned();
                (text("state"), text("found"), text("hint"))
            })
            .collect::<Vec<_>>()
    };
    let [(state, found, _)] = &checks()[..] else { panic!() };
    assert!(
        state == "ok" && found.starts_with("no process uses a key now"),
        "{found}"
    );

    let input = questions(&["hello"], "parallel").to_string();
    let running = machine.start(["run", &guest("asks"), "-i", &input], None);
    server.wait_until("a request", |seen| seen.len() == 1);
    let pid = running.pid();
    let [(state, found, _)] = &checks()[..] else { panic!() };
    let says = format!("1 process uses a key (pid {pid} with 1 request in flight), in ");
    assert!(state == "ok" && found.starts_with(&says), "{found}");
    let plain = machine.run(["doctor"]).stdout;
    assert!(plain.contains(&says), "{plain}");
    let file = found.rsplit_once(", in ").unwrap().1;

    let kill = format!("kill -KILL {pid}");
    let killed = std::process::Command::new("sh").args(["-c", &kill]).status().unwrap();
    assert!(killed.success());
    assert_eq!(running.finish().code, 137);
    let [(state, found, hint)] = &checks()[..] else {
        panic!()
    };
    let says = format!("1 process is gone (pid {pid} with 1 request in flight), in ");
    assert!(state == "warn" && found.starts_with(&says), "{found}");
    assert!(hint.contains("hold nothing back"), "{hint}");

    let held = std::fs::File::open(file).unwrap();
    held.lock().unwrap();
    let [(state, found, _)] = &checks()[..] else { panic!() };
    let says = format!("{file} cannot be locked");
    assert!(state == "warn" && found.starts_with(&says), "{found}");
}

#[test]
fn the_summary_says_what_the_gate_did_and_which_sub_tasks_failed() {
    let server = Server::scripted([
        Reply::error(429, "rate_limit_error", "too fast").header("retry-after", "1"),
        Reply::text("x"),
    ]);
    let input = questions(&["hello"], "parallel").to_string();
    let machine_with_retries = machine().config(&config("openai", &server.url(), ""));
    let output = machine_with_retries.run(["run", &guest("asks"), "-i", &input]);
    output.json(0);
    let lines: Vec<_> = output.stderr.lines().collect();
    assert!(lines[0].contains(": 1 call, 10 tokens in, 5 out, "), "{output}");
    assert!(
        lines[1].starts_with("  gate: 2 requests, 1 retry, 1 rate-limited, waited 1."),
        "{output}"
    );
    assert_eq!(lines.len(), 2, "{output}");

    let plan = json!({"behaviours": ["ok", "fail", "panic"], "in-turn": true, "first-only": false}).to_string();
    let misbehaves = format!("guests:misbehaves={}", guest("misbehaves"));
    let output = machine().run(["run", &guest("starts"), "-i", &plan, "--with", &misbehaves]);
    output.json(0);
    let lines: Vec<_> = output.stderr.lines().collect();
    assert_eq!(lines[0], "failed: root/1 (guests:misbehaves@0.1.0): failed: as asked");
    assert!(
        lines[1].starts_with("failed: root/2 (guests:misbehaves@0.1.0): trapped: "),
        "{output}"
    );
    assert!(lines[2].starts_with("run "), "{output}");
}
