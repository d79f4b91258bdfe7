//! Grants in the files of an untrusted project: directories, limits, prices and keys.

use agenthost_tests::env::{Output, TestEnv};
use agenthost_tests::server::{Reply, Server};
use serde_json::{Value, json};

use crate::{guest, machine, questions, run_json};

/// The operator's own configuration, in place of none.
fn own(machine: &TestEnv, text: &str) {
    machine.write("../config/agenthost/config.toml", text);
}

/// A machine with the component `reads-files` in the project's folder and in another one, a hook, and a secret elsewhere.
fn with_plugins() -> TestEnv {
    let machine = machine();
    let reads = std::fs::read(guest("reads-files")).unwrap();
    machine.write("clone/reads-files.wasm", &reads);
    machine.write("downloads/reads-files.wasm", &reads);
    machine.write("clone/hooks/post-checkout", "as it was");
    machine.write("../home/secret/file", "secret");
    machine
}

fn granting(machine: &TestEnv, dir: &str) {
    let text = format!("[grants.\"guests:reads-files\"]\ndirs = [\"{dir}\"]\n");
    machine.write("clone/agenthost.toml", text);
}

/// Runs `plugin` on `input` with the configuration of `clone`.
fn run(machine: &TestEnv, plugin: &str, input: &Value, more: &[&str]) -> Output {
    let input = input.to_string();
    let args = ["run", plugin, "-q", "-i", &input, "--config", "clone/agenthost.toml"];
    machine.run(args.into_iter().chain(more.iter().copied()))
}

const READS: &str = "clone/reads-files.wasm";

#[test]
fn a_project_lets_no_plugin_write_until_it_is_trusted() {
    let machine = with_plugins();
    let hook = json!({"path": "/data/hooks/post-checkout", "write-text": "evil"});
    let text = || std::fs::read_to_string(machine.cwd().join("clone/hooks/post-checkout")).unwrap();
    for dir in [
        ".::/data:rw",
        "hooks::/data/hooks:rw,quota=1KiB",
        ".::/data:rw,files=none",
    ] {
        granting(&machine, dir);
        let output = run(&machine, READS, &hook, &[]);
        let said = machine.redact(output.error(4));
        for part in [
            "clone/agenthost.toml:2: guests:reads-files could read and write",
            "where it could change what this project runs and what its files allow",
            "`agenthost trust clone/agenthost.toml`",
        ] {
            assert!(said.contains(part), "{dir}: {said}");
        }
        assert_eq!(text(), "as it was");
    }
    // To read there needs no trust.
    granting(&machine, ".::/data");
    let read = json!({"path": "/data/hooks/post-checkout"});
    assert_eq!(run(&machine, READS, &read, &[]).json(0), "as it was");

    granting(&machine, ".::/data:rw");
    let trusted = machine.run(["trust", "clone"]);
    assert!(
        machine
            .redact(&trusted.stdout)
            .contains("  guests:reads-files: may read and write [work]/clone\n"),
        "{trusted}"
    );
    assert_eq!(run(&machine, READS, &hook, &[]).json(0), "evil");
    assert_eq!(text(), "evil");
    // A larger quota is a new question.
    granting(&machine, ".::/data:rw,quota=none");
    assert!(
        run(&machine, READS, &hook, &[])
            .error(4)
            .contains("could read and write (quota=none,files=10000)")
    );
}

#[test]
fn what_the_operator_grants_to_a_name_goes_to_no_stranger_of_that_name() {
    let machine = with_plugins();
    own(
        &machine,
        "[grants.\"guests:reads-files\"]\ndirs = [\"~/secret::/keys\"]\n",
    );
    machine.write("clone/agenthost.toml", "");
    let input = json!({"path": "/keys/file"});
    let output = run(&machine, READS, &input, &[]);
    let said = output.error(4);
    for part in [
        "clone/reads-files.wasm calls itself guests:reads-files, but you do not trust its folder",
        "config.toml:2 grants that name ",
        "secret::/keys",
        "`agenthost trust clone`",
        "--dir",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // The same as a sub-agent, and beside the plugin that starts it.
    machine.write("clone/delegates.wasm", std::fs::read(guest("delegates-reads")).unwrap());
    let through = run(
        &machine,
        "clone/delegates.wasm",
        &json!("/keys/file"),
        &["--dir", "clone/hooks::/hooks"],
    );
    assert!(
        through.error(4).contains("calls itself guests:reads-files"),
        "{through}"
    );

    // A directory that the command line gives under that name replaces the grant, and does not widen it.
    machine.write("clone/data/file", "mine");
    let given = ["--dir", "clone/data::/keys"];
    assert_eq!(run(&machine, READS, &input, &given).json(0), "mine");
    let beside = ["--dir", "clone/data::/data"];
    assert_eq!(run(&machine, READS, &input, &beside).code, 4);

    assert_eq!(machine.run(["trust", "clone"]).code, 0);
    assert_eq!(run(&machine, READS, &input, &[]).json(0), "secret");
    // Another folder is not, nor is a repository within.
    let elsewhere = "downloads/reads-files.wasm";
    assert!(
        run(&machine, elsewhere, &input, &[])
            .error(4)
            .contains("`agenthost trust downloads`")
    );
    machine.write("clone/vendored/.git/HEAD", "");
    let reads = std::fs::read(guest("reads-files")).unwrap();
    machine.write("clone/vendored/reads-files.wasm", reads);
    assert_eq!(run(&machine, "clone/vendored/reads-files.wasm", &input, &[]).code, 4);
    // A link is where it leads.
    let link = machine.cwd().join("clone/link.wasm");
    std::os::unix::fs::symlink("../downloads/reads-files.wasm", link).unwrap();
    assert_eq!(run(&machine, "clone/link.wasm", &input, &[]).code, 4);
}

#[test]
fn what_a_project_grants_goes_to_its_own_plugins() {
    let machine = with_plugins();
    granting(&machine, ".::/data");
    let input = json!({"path": "/data/hooks/post-checkout"});
    assert_eq!(run(&machine, READS, &input, &[]).json(0), "as it was");
    let elsewhere = run(&machine, "downloads/reads-files.wasm", &input, &[]);
    assert!(
        elsewhere.error(4).contains("clone/agenthost.toml:2 grants that name "),
        "{elsewhere}"
    );
    assert_eq!(machine.run(["trust", "downloads"]).code, 0);
    assert_eq!(
        run(&machine, "downloads/reads-files.wasm", &input, &[]).json(0),
        "as it was"
    );
}

#[test]
fn a_project_lifts_no_default_limit_until_it_is_trusted() {
    let server = Server::scripted([Reply::text("x").usage(10, 1)]);
    let machine = machine().config(&format!(
        "{}[limits]\ncalls = \"none\"\ntokens = \"none\"\nfuel = \"none\"\nmemory = \"none\"\ntimeout = \"8760h\"\n\
         tasks = \"none\"\ndepth = 6\n[run]\nlog-bytes = \"1GiB\"\nmax-concurrent-tasks = 1001\n\
         [run.limits]\nmemory = \"none\"\n",
        server.config()
    ));
    let prompts: Vec<_> = (0..103).map(|n| n.to_string()).collect();
    let prompts: Vec<_> = prompts.iter().map(String::as_str).collect();
    let input = questions(&prompts, "sequential");
    let calls = |more: &[&str]| {
        let before = server.count();
        let output = machine.run(run_json(&guest("asks"), &input, more));
        assert_eq!(output.code, 0, "{output}");
        server.count() - before
    };
    assert_eq!(calls(&[]), 100);
    assert_eq!(calls(&["--calls", "102"]), 102, "a flag is the operator's word");
    let held = machine.run([
        "run",
        &guest("asks"),
        "-i",
        &questions(&["1"], "sequential").to_string(),
    ]);
    let notes = [
        "limits.calls stays at your default 100, not none; `agenthost trust agenthost.toml` lifts it",
        "limits.tokens stays at your default 200000, not none",
        "limits.fuel stays at your default 20000000000, not none",
        "limits.memory stays at your default 64 MiB, not none",
        "limits.timeout stays at your default 300s, not 31536000s",
        "limits.tasks stays at your default 100, not none",
        "limits.depth stays at your default 5, not 6",
        "run.log-bytes stays at your default 65536, not 1073741824",
        "run.max-concurrent-tasks stays at your default 1000, not 1001",
        "run.limits.memory stays at your default for this machine, not none",
    ];
    for note in notes {
        assert!(held.stderr.contains(note), "{note}: {held}");
    }
    assert!(
        !machine
            .run(["doctor"])
            .stdout
            .contains("Remove `memory` under [run.limits]")
    );

    assert_eq!(machine.run(["trust"]).code, 0);
    assert_eq!(calls(&[]), 103);
    let free = machine.run([
        "run",
        &guest("asks"),
        "-i",
        &questions(&["1"], "sequential").to_string(),
    ]);
    assert!(!free.stderr.contains("stays at your"), "{free}");
}

#[test]
fn a_key_that_a_project_chose_goes_nowhere_unasked() {
    let server = Server::scripted([Reply::text("x")]);
    let secret = "https-user-token@example";
    for (key, shown) in [
        ("key-file = \"~/.git-credentials\"", ".git-credentials"),
        ("key-file = \"../home/.git-credentials\"", ".git-credentials"),
        ("key-file = \"link\"", "link"),
        ("key-env = \"GITHUB_TOKEN\"", "GITHUB_TOKEN"),
        // The variable of another kind.
        ("key-env = \"ANTHROPIC_API_KEY\"", "ANTHROPIC_API_KEY"),
        // The operator's own file names this one for another provider.
        ("key-env = \"CORP_KEY\"", "CORP_KEY"),
    ] {
        let machine = machine()
            .config(&agenthost_tests::server::config(
                "openai",
                &server.url(),
                &format!("{key}\n"),
            ))
            .var("GITHUB_TOKEN", secret)
            .var("ANTHROPIC_API_KEY", secret)
            .var("CORP_KEY", secret);
        own(
            &machine,
            "[providers.corp]\nkind = \"openai\"\nbase-url = \"http://127.0.0.1:1/v1\"\nkey-env = \"CORP_KEY\"\n",
        );
        let file = machine.write("../home/.git-credentials", secret);
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&file, machine.cwd().join("link")).unwrap();
        let ask = || machine.run(["run", &guest("remaining"), "-i", "\"hello\""]);
        let before = server.count();
        let output = ask();
        let said = output.error(4);
        assert!(
            said.contains("would send the key in")
                && said.contains(shown)
                && said.contains("`agenthost trust agenthost.toml`"),
            "{key}: {said}"
        );
        assert!(!said.contains(secret), "{said}");
        assert_eq!(server.count(), before, "{key}");

        assert_eq!(machine.run(["trust"]).code, 0);
        let output = ask();
        assert_eq!((output.code, server.count()), (0, before + 1), "{key}: {output}");
        let sent = server.seen()[before].header("authorization").map(str::to_owned);
        assert_eq!(sent, Some(format!("Bearer {secret}")));
    }
}

#[test]
fn a_project_does_not_price_what_the_operators_gateway_serves() {
    let server = Server::scripted([Reply::text("x").usage(100_000, 100)]);
    let machine = machine()
        .config("[models]\nfast = \"openai/unknown-model\"\n[prices.\"openai/unknown-model\"]\ninput = 0\noutput = 0\n")
        .var("OPENAI_BASE_URL", &server.url())
        .var("OPENAI_API_KEY", "sk-test-0123456789");
    let input = questions(&["1", "2", "3", "4"], "sequential");
    let spent = || {
        let output = machine.run(run_json(
            &guest("asks"),
            &input,
            &["--cost", "0.10", "--tokens", "none"],
        ));
        let document: Value = serde_json::from_str(&output.stdout).unwrap();
        document["spent"]["cost_usd"].as_f64().unwrap()
    };
    let before = server.count();
    assert!(spent() > 0.0);
    assert!(server.count() - before < 4, "the limit ends the run");
    // The operator may.
    own(&machine, "[prices.\"openai/unknown-model\"]\ninput = 0\noutput = 0\n");
    let before = server.count();
    assert!(spent() == 0.0);
    assert_eq!(server.count() - before, 4);
}
