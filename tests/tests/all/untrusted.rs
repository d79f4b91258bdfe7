//! Projects of strangers: what their files may do before the operator trusts them. Each attack is beside the same
//! action in a trusted project.

use std::path::Path;

use agenthost_tests::env::TestEnv;
use agenthost_tests::server::{Reply, Server};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{guest, machine, questions, run_json};

/// A crate whose build leaves the names of the variables that it saw, and which names a wrapper for the compiler.
fn evil_crate(machine: &TestEnv, dir: &str) {
    let manifest = "[package]\nname = \"evilcrate\"\nversion = \"0.1.0\"\nedition = \"2024\"\nbuild = \"build.rs\"\n\
                    [lib]\ncrate-type = [\"cdylib\"]\n[workspace]\n";
    machine.write(&format!("{dir}/Cargo.toml"), manifest);
    machine.write(&format!("{dir}/src/lib.rs"), "");
    machine.write(
        &format!("{dir}/build.rs"),
        "fn main() { std::fs::write(\"marker-build-rs\", std::env::vars().map(|(k, v)| format!(\"{k}={v}\\n\")).collect::<String>()).unwrap(); }",
    );
    machine.write(
        &format!("{dir}/wrap.sh"),
        "#!/bin/sh\necho ran >> \"$(dirname \"$0\")/marker-wrapper\"\nexec \"$@\"\n",
    );
    executable(&machine.cwd().join(dir).join("wrap.sh"));
    machine.write(
        &format!("{dir}/.cargo/config.toml"),
        "[build]\nrustc-wrapper = \"./wrap.sh\"\n",
    );
}

fn executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn markers(machine: &TestEnv, dir: &str) -> Vec<&'static str> {
    let names = ["marker-build-rs", "marker-wrapper", "marker-tool"];
    let there = |name: &&str| machine.cwd().join(dir).join(name).exists();
    names.into_iter().filter(there).collect()
}

/// A machine with keys in its environment.
fn with_keys() -> TestEnv {
    machine()
        .var("CARGO_NET_OFFLINE", "true")
        .var("ANTHROPIC_API_KEY", "canary-1")
        .var("GITHUB_TOKEN", "canary-2")
        .var("CARGO_MODELS", "canary-3")
        .var("SOMETHING_ELSE", "canary-4")
}

#[test]
fn no_command_builds_a_crate_of_an_untrusted_project() {
    let machine = with_keys();
    evil_crate(&machine, "evilcrate");
    machine.write("items.jsonl", "1\n");
    machine.write("tiny.wasm", std::fs::read(guest("echo")).unwrap());
    for args in [
        vec!["inspect", "evilcrate"],
        vec!["run", "evilcrate", "--input", "1"],
        vec!["plan", "evilcrate", "--input", "1"],
        vec!["vet", "evilcrate"],
        vec!["vet", "tiny.wasm", "--source", "evilcrate"],
        vec!["push", "evilcrate"],
        vec!["batch", "evilcrate", "items.jsonl"],
        vec!["profile", "evilcrate", "--input", "1"],
        vec!["run", "tiny.wasm", "--input", "1", "--with", "demo:x=evilcrate"],
    ] {
        let output = machine.run(&args);
        assert_eq!(markers(&machine, "evilcrate"), Vec::<&str>::new(), "{args:?}: {output}");
        if args.contains(&"--with") {
            // Nothing asks for that sub-agent, so it is not even looked at.
            assert_ne!(output.code, 0, "{output}");
            continue;
        }
        let said = output.error(4);
        for part in [
            "building evilcrate runs its code on this machine, outside of any sandbox: cargo build in evilcrate",
            "its build script build.rs",
            "`./wrap.sh` as rustc-wrapper (evilcrate/.cargo/config.toml)",
            "`agenthost trust evilcrate`",
        ] {
            assert!(said.contains(part), "{args:?}: {said}");
        }
    }
    assert!(!machine.cwd().join("evilcrate/target").exists(), "no tool ran there");

    let trusted = machine.run(["trust", "evilcrate"]);
    assert_eq!(trusted.code, 0, "{trusted}");
    assert!(
        machine
            .redact(&trusted.stdout)
            .contains("builds crates in [work]/evilcrate: their build scripts and macros run as you"),
        "{trusted}"
    );
    let built = machine.run(["inspect", "evilcrate"]);
    assert_eq!(built.code, 2, "it is no plugin: {built}");
    assert_eq!(markers(&machine, "evilcrate"), ["marker-build-rs", "marker-wrapper"]);
}

#[test]
fn builds_see_no_key() {
    let machine = with_keys()
        .config("[providers.corp]\nkind = \"openai\"\nbase-url = \"http://127.0.0.1:1\"\nkey-env = \"CARGO_MODELS\"\n");
    evil_crate(&machine, "evilcrate");
    assert_eq!(machine.run(["trust", "evilcrate"]).code, 0);
    let output = machine.run(["run", "evilcrate", "--input", "1"]);
    assert_eq!(output.code, 2, "it is no plugin: {output}");
    let seen = std::fs::read_to_string(machine.cwd().join("evilcrate/marker-build-rs")).unwrap();
    assert!(!seen.contains("canary"), "{seen}");
    assert!(seen.contains("\nPATH=") || seen.starts_with("PATH="), "{seen}");
    assert!(
        seen.contains("CARGO_NET_OFFLINE=true"),
        "what cargo needs is there: {seen}"
    );
}

#[test]
fn build_and_test_say_what_they_run_where_nobody_trusts_it() {
    let machine = with_keys();
    evil_crate(&machine, "evilcrate");
    let output = machine.run(["build", "evilcrate"]);
    assert_eq!(output.code, 2, "it is no plugin: {output}");
    assert!(
        output.stderr.starts_with(
            "note: this runs code of the crate on this machine, outside of any sandbox: cargo build in evilcrate; "
        ),
        "{output}"
    );
}

#[test]
fn a_file_above_the_crate_that_names_a_program_is_asked_about() {
    for (file, text) in [
        (".cargo/config.toml", "[build]\nrustc-wrapper = \"WORK/tool.sh\"\n"),
        ("rust-toolchain.toml", "[toolchain]\npath = \"WORK/toolchain\"\n"),
    ] {
        let machine = with_keys();
        evil_crate(&machine, "repo/plugin");
        std::fs::remove_dir_all(machine.cwd().join("repo/plugin/.cargo")).unwrap();
        assert_eq!(machine.run(["trust", "repo/plugin"]).code, 0);
        let work = machine.cwd().display().to_string();
        let tool = format!("#!/bin/sh\necho ran >> {work}/repo/marker-tool\nexit 1\n");
        for place in ["tool.sh", "toolchain/bin/cargo", "toolchain/bin/rustc"] {
            executable(&machine.write(place, &tool));
        }
        machine.write(&format!("repo/{file}"), text.replace("WORK", &work));
        let said = machine.run(["inspect", "repo/plugin"]);
        assert!(said.error(4).contains(&format!("repo/{file}")), "{said}");
        // Nor is it run if nothing is built.
        let at = machine.cwd().join("repo");
        let (doctor, _) = machine.shell(&at, "agenthost doctor", 0);
        assert!(doctor.stdout.contains("cargo"), "{doctor}");
        assert_eq!(markers(&machine, "repo"), Vec::<&str>::new(), "{file}");
    }
}

#[test]
fn a_project_adds_no_line_to_what_a_build_would_run() {
    let machine = with_keys();
    evil_crate(&machine, "it's; $(touch x)");
    let dir = "it's; $(touch x)";
    let manifest = "[package]\nname = \"p\"\nbuild = \"b.rs\\n  nothing else: this is safe\"\n[workspace]\n";
    machine.write(&format!("{dir}/Cargo.toml"), manifest);
    machine.write(
        &format!("{dir}/.cargo/config.toml"),
        "[build]\nrustc-wrapper = \"true\"\nrustflags = [\"-Clinker=./evil.sh\"]\n",
    );
    let refused = machine.run(["inspect", dir]);
    let said = refused.error(4);
    assert!(
        said.contains("its build script b.rs\\n  nothing else: this is safe; "),
        "{said}"
    );
    assert!(
        said.contains("whatever else it's; $(touch x)/.cargo/config.toml sets"),
        "{said}"
    );
    // The hint is a command that can be copied.
    assert!(
        refused.stderr.contains(r"`agenthost trust 'it'\''s; $(touch x)'`"),
        "{refused}"
    );
}

#[test]
fn a_sub_agent_that_a_project_names_is_not_built_unasked() {
    let machine = with_keys();
    evil_crate(&machine, "repo/evilcrate");
    machine.write("repo/agenthost.toml", "[sub-agents]\n\"guests:leaf\" = \"evilcrate\"\n");
    machine.write("repo/lead.wasm", std::fs::read(guest("leads-from-rust")).unwrap());
    let at = machine.cwd().join("repo");
    let run = "agenthost run lead.wasm --input '{\"prompts\": [\"one\"]}'";
    let (output, _) = machine.shell(&at, run, 0);
    assert_eq!(output.code, 4, "{output}");
    assert!(output.stdout.contains("agenthost trust evilcrate"), "{output}");
    assert_eq!(markers(&machine, "repo/evilcrate"), Vec::<&str>::new());
}

#[test]
fn a_policy_refuses_a_crate_before_it_is_built() {
    let machine = with_keys();
    evil_crate(&machine, "evilcrate");
    machine.write("evilcrate/wit/world.wit", "package evil:crate@0.1.0;\n");
    assert_eq!(machine.run(["trust", "evilcrate"]).code, 0);
    for (policy, says) in [
        (
            "format = 1\n[paths]\nunsigned = \"deny\"\n",
            "what is built here is not signed, and [paths] unsigned",
        ),
        (
            "format = 1\n[paths]\nunvetted = \"deny\"\n",
            "no plugin of its name is vetted, and [paths] unvetted",
        ),
        ("format = 1\ndeny = [\"evil:crate\"]\n", "`deny` has evil:crate"),
    ] {
        machine.write("agenthost-policy.toml", policy);
        let output = machine.run(["run", "evilcrate", "--input", "1"]);
        assert!(output.error(4).contains(says), "{output}");
    }
    assert_eq!(markers(&machine, "evilcrate"), Vec::<&str>::new());
    std::fs::remove_file(machine.cwd().join("agenthost-policy.toml")).unwrap();
    std::fs::remove_dir_all(machine.cwd().join("evilcrate/wit")).unwrap();
    machine.run(["run", "evilcrate", "--input", "1"]);
    assert_eq!(markers(&machine, "evilcrate").len(), 2);
}

#[test]
fn a_new_plugin_is_the_operators_own() {
    let machine = machine();
    assert_eq!(machine.run(["new", "haiku"]).code, 0);
    let listed = machine.run(["trust", "--list"]);
    assert!(
        machine
            .redact(&listed.stdout)
            .contains("builds crates in [work]/haiku:"),
        "{listed}"
    );
}

/// The operator's own configuration, in place of none.
fn own(machine: &TestEnv, text: &str) {
    machine.write("../config/agenthost/config.toml", text);
}

#[test]
fn a_project_lifts_no_limit_and_lowers_no_price() {
    let server = Server::scripted([Reply::text("x").usage(1000, 100)]);
    let machine = machine();
    let provider = format!(
        "[models]\nfast = \"fake/small\"\n[providers.fake]\nkind = \"openai\"\nbase-url = \"{}\"\nretries = 0\n",
        server.url()
    );
    own(
        &machine,
        &format!(
            "{provider}[prices.\"fake/small\"]\ninput = 3\noutput = 15\n[limits]\ncalls = 5\n[run.limits]\ncalls = 5\n\
             [grants.\"guests:asks\"]\nlimits = {{ calls = 2 }}\n"
        ),
    );
    machine.write(
        "agenthost.toml",
        "[prices.\"fake/small\"]\ninput = 0\noutput = 0\n[limits]\ncalls = \"none\"\n[run.limits]\ncalls = \"none\"\n\
         cost = \"none\"\n[grants.\"guests:asks\"]\nmodels = [\"fast\"]\nlimits = { calls = 50 }\n",
    );
    let prompts = ["1", "2", "3", "4", "5", "6", "7"];
    let input = questions(&prompts, "sequential");
    let output = machine.run(run_json(&guest("asks"), &input, &[]));
    assert_eq!(server.count(), 2, "{output}");
    let document: Value = serde_json::from_str(&output.stdout).unwrap();
    // 2,000 input tokens at 3 and 200 output tokens at 15 USD per million.
    assert_eq!(document["spent"]["cost_usd"], json!(0.009), "{output}");
    let held = machine.run(["run", &guest("asks"), "-i", &input.to_string()]);
    for note in [
        "grants.guests:asks.limits.calls stays at your 2, not 50; `agenthost trust agenthost.toml` lifts it",
        "limits.calls stays at your 5, not none",
        "[prices.\"fake/small\"] does not lower the price that is known",
    ] {
        assert!(held.stderr.contains(note), "{note}: {held}");
    }

    let trusted = machine.run(["trust"]);
    for line in [
        "  limits.calls: none in the place of your 5\n",
        "  run.limits.calls: none in the place of your 5\n",
        "  grants.guests:asks.limits.calls: 50 in the place of your 2\n",
    ] {
        assert!(trusted.stdout.contains(line), "{line}: {trusted}");
    }
    let before = server.count();
    let output = machine.run(run_json(&guest("asks"), &input, &[]));
    assert_eq!(server.count() - before, 7, "{output}");
    let document: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(
        document["spent"]["cost_usd"],
        json!(0.0315),
        "a price is lowered by the operator alone"
    );
}

#[test]
fn prompts_go_to_no_address_that_a_project_chose() {
    let machine = machine().config(
        "[models]\nfast = \"x/y\"\n[providers.x]\nkind = \"openai\"\nbase-url = \"http://192.0.2.2:28473/v1\"\n",
    );
    let output = machine.run([
        "run",
        &guest("asks"),
        "-i",
        &questions(&["secret"], "sequential").to_string(),
    ]);
    let said = output.error(4);
    assert!(
        said.contains("agenthost.toml:5: provider `x` would send prompts to http://192.0.2.2:28473/v1, in clear text"),
        "{said}"
    );
    assert!(said.contains("`agenthost trust agenthost.toml`"), "{said}");
    assert!(
        machine
            .run(["trust"])
            .stdout
            .contains("  x: sends prompts to http://192.0.2.2:28473/v1\n")
    );
}

/// Takes the mark from the command of every run in the project's journal, as if another user had written it, and
/// changes its text.
fn forge(machine: &TestEnv, change: impl Fn(&mut Value)) {
    forge_in(&machine.cwd(), change);
}

/// The same in the project of this folder.
fn forge_in(project: &Path, change: impl Fn(&mut Value)) {
    let file = project.join(".agenthost/journal.db");
    let journal = rusqlite::Connection::open(file).unwrap();
    let runs: Vec<(String, String)> = journal
        .prepare("SELECT id, command FROM run")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    for (id, command) in runs {
        let mut command: Value = serde_json::from_str(&command).unwrap();
        assert!(command["seal"].is_string(), "{command}");
        change(&mut command);
        let text = command.to_string();
        let sum = Sha256::digest(&text)[..16].to_vec();
        journal
            .execute(
                "UPDATE run SET command = ?1, command_sum = ?2 WHERE id = ?3",
                (text, sum, id),
            )
            .unwrap();
    }
}

#[test]
fn a_journal_that_somebody_else_wrote_gives_nothing_away() {
    let machine = machine().config("");
    machine.write("../home/secret/file", "secret");
    machine.write("data/file", "mine");
    let reads = guest("reads-files");
    let input = "{\"path\": \"/data/file\"}";
    let secret = machine.cwd().parent().unwrap().join("home/secret");
    let dir = format!("{}::/data", secret.display());
    let run = machine.run(["run", &reads, "-q", "-i", input, "--dir", &dir]);
    assert_eq!(run.json(0), "secret");
    // The operator's own command is resumed unchanged.
    assert_eq!(machine.run(["replay", "last", "-q"]).json(0), "secret");

    forge(&machine, |command| command["seal"] = json!("00"));
    let replay = machine.run(["replay", "last"]);
    let said = replay.error(4);
    assert!(
        said.contains("the journal does not show that you gave the command of run "),
        "{said}"
    );
    assert!(
        said.contains(&format!("--dir {dir}")) && said.contains("--accept-command"),
        "{said}"
    );
    assert_eq!(
        machine.run(["replay", "last", "-q", "--accept-command"]).json(0),
        "secret"
    );
}

#[test]
fn a_command_that_was_changed_is_not_the_operators() {
    let machine = machine().config("");
    machine.write("data/file", "mine");
    let run = machine.run([
        "run",
        &guest("reads-files"),
        "-q",
        "-i",
        "{\"path\": \"/data/file\"}",
        "--dir",
        "data::/data",
    ]);
    assert_eq!(run.json(0), "mine");
    forge(&machine, |command| command["limits"] = json!({"tokens": "none"}));
    let replay = machine.run(["replay", "last"]);
    assert!(replay.error(4).contains("the limits --tokens none"), "{replay}");
    forge(&machine, |command| command["cwd"] = json!("/"));
    assert!(machine.run(["replay", "last"]).error(4).contains("the directory /"));
    // A directory that may be written to is more than a project may grant, inside its folder as well.
    let rw = "data::/data:rw";
    let cwd = machine.cwd().canonicalize().unwrap();
    forge(&machine, |command| {
        command["cwd"] = json!(cwd);
        command["limits"] = json!({});
        command["dirs"] = json!([rw]);
    });
    let replay = machine.run(["replay", "last"]);
    assert!(replay.error(4).contains("--dir data::/data:rw"), "{replay}");
    forge(&machine, |command| command["dirs"] = json!(["data::/data"]));
    // Inside the project's folder, and within its limits, it is as good as the project's configuration.
    let cwd = machine.cwd().canonicalize().unwrap();
    forge(&machine, |command| {
        command["cwd"] = json!(cwd);
        command["limits"] = json!({"tokens": "10"});
    });
    assert_eq!(machine.run(["replay", "last", "-q"]).json(0), "mine");
}

#[test]
fn a_journal_is_given_no_more_because_of_where_it_is_read() {
    let machine = machine();
    machine.write("clone/agenthost.toml", "");
    machine.write("clone/data/file", "mine");
    machine.write("private/file", "secret");
    let clone = machine.cwd().join("clone");
    let reads = guest("reads-files");
    let run = format!("agenthost run {reads} -q -i '{{\"path\": \"/data/file\"}}' --dir data::/data");
    let (output, _) = machine.shell(&clone, &run, 0);
    assert_eq!(output.code, 0, "{output}");
    let private = format!("{}::/data", machine.cwd().join("private").display());
    forge_in(&clone, |command| command["dirs"] = json!([private]));
    // From the folder above, both without a project's file and with that of the clone.
    let journal = ["replay", "last", "--journal", "clone/.agenthost/journal.db"];
    let config = ["--config", "clone/agenthost.toml"];
    for args in [journal.to_vec(), [journal.as_slice(), &config].concat()] {
        let replay = machine.run(&args);
        assert!(
            replay.error(4).contains(&format!("--dir {private}")),
            "{args:?}: {replay}"
        );
    }
    // Its own directories are allowed if its own file applies, and need trust if it does not.
    forge_in(&clone, |command| command["dirs"] = json!(["./data::/data"]));
    assert!(machine.run(journal).error(4).contains("the directory "));
    let own = [&journal[..], &config, &["-q"]].concat();
    assert_eq!(machine.run(&own).json(0), "mine");
    // A link to another project's file does not make that project its own.
    std::fs::remove_file(clone.join("agenthost.toml")).unwrap();
    machine.write("private/agenthost.toml", "");
    std::os::unix::fs::symlink("../private/agenthost.toml", clone.join("agenthost.toml")).unwrap();
    forge_in(&clone, |command| command["dirs"] = json!([private]));
    assert!(machine.run(&own).error(4).contains(&format!("--dir {private}")));
}

#[test]
fn a_batch_of_a_journal_writes_no_file_unasked() {
    let machine = machine().config("");
    machine.write("items.jsonl", "\"fail\"\n");
    machine.write("../home/precious", "precious");
    let batch = machine.run(["batch", &guest("misbehaves"), "items.jsonl", "--output", "out.jsonl"]);
    assert_eq!(batch.code, 1, "{batch}");
    let resume = ["resume", "last", "--failed"];
    let resumed = machine.run(resume);
    assert_eq!(resumed.code, 1, "the operator's own command is gone on with: {resumed}");
    let precious = machine.cwd().parent().unwrap().join("home/precious");
    forge(&machine, |command| {
        let argv = command["argv"].as_array_mut().unwrap();
        let output = argv.iter().position(|arg| arg == "out.jsonl").unwrap();
        argv[output] = json!(precious);
    });
    let resumed = machine.run(resume);
    assert!(
        resumed.error(4).contains(&format!("--output {}", precious.display())),
        "{resumed}"
    );
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious");
    assert_eq!(machine.run(["replay", "last", "-q"]).code, 1, "a replay writes no file");
}
